"""Telemetry: what was committed is there, streams go on where they were, and the tier is what the readings say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.hookspecs import SensorDriver
from carbontrack.intake import Batch, Intake
from carbontrack.metrics import Metrics
from carbontrack.model import (
    Device,
    Message,
    MonitoringPlan,
    Payload,
    Quarantined,
    Reading,
    Record,
    Sample,
    Site,
    Stack,
    TrendPoint,
)
from carbontrack.store import Store, StreamState, Work, open_store
from carbontrack.streams import Anchor, Stream
from tests.support.world import ALWAYS, NOON, NOON_MS, SID, birth, factory, kept, reading, register, work

pytest_plugins = ["tests.support.world"]

_examples = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = count(1000)
BUCKET = timedelta(minutes=5)


def close(value: float | None) -> Any:
    """As near as a 32-bit float comes."""
    return value if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)


# --- readings


def singles(low: float, high: float) -> st.SearchStrategy[float | None]:
    """Numbers that a column of 32 bits keeps exactly, or none."""
    return st.none() | st.floats(low, high, width=32)


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    stack_id, stream_pk = next(_numbers), next(_numbers)
    return [
        reading(
            seq,
            NOON + timedelta(milliseconds=draw(st.integers(0, 10_000_000))),
            stack_id=stack_id,
            stream_pk=stream_pk,
            received_at=NOON + timedelta(milliseconds=draw(st.integers(0, 10_000_000))),
            co2_ppm=draw(singles(0, 1e6)),
            temperature_c=draw(singles(-20, 1000)),
            velocity_ms=draw(singles(0, 50)),
            pressure_kpa=draw(singles(50, 110)),
            flow_rate_m3s=draw(singles(0, 100)),
            co2_kg_per_s=draw(singles(0, 10)),
            flags=draw(st.integers(0, (1 << 23) - 1)),
        )
        for seq in draw(st.sets(st.integers(0, 2**53), max_size=12))
    ]


@given(wanted=readings())
@_examples
async def test_readings_come_back_as_they_were_saved_and_oldest_first(store: Store, wanted: list[Reading]) -> None:
    await store.save(work(wanted))

    found = await kept(store, wanted[0].stack_id) if wanted else []

    assert found == sorted(wanted, key=lambda row: (row.measured_at, row.seq))


async def test_the_end_of_a_period_is_not_part_of_it(store: Store) -> None:
    await store.save(work([reading(0, NOON), reading(1, NOON + timedelta(seconds=5))]))

    found = await store.readings([1], NOON, NOON + timedelta(seconds=5))

    assert [row.seq for row in found] == [0]


async def test_readings_of_several_stacks_share_one_limit(store: Store) -> None:
    await store.save(work([reading(seq, stack_id=stack_id) for stack_id in (1, 2) for seq in range(3)]))

    found = await store.readings([1, 2], *ALWAYS, limit=4)

    assert [(row.stack_id, row.seq) for row in found] == [(1, 0), (1, 1), (1, 2), (2, 0)]


# --- streams


async def test_a_stream_is_opened_once(store: Store) -> None:
    first = await store.open_stream("dev-001", SID)
    again = await store.open_stream("dev-001", SID)

    assert (first.sid, first.watermark, first.beyond) == (SID, 0, [])
    assert again.pk == first.pk


async def test_two_devices_may_use_the_same_stream_id(store: Store) -> None:
    one = await store.open_stream("dev-001", SID)
    other = await store.open_stream("dev-002", SID)

    assert one.pk != other.pk


ranges = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20)), min_size=1, max_size=15)
anchors = st.dictionaries(
    st.integers(0, 2**53), st.builds(Anchor, st.integers(-(2**50), 2**50), st.booleans()), max_size=5
)


@given(ranges=ranges, anchors=anchors)
@_examples
async def test_what_is_known_of_a_stream_survives_a_restart(
    store: Store, database_url: str, ranges: list[tuple[int, int]], anchors: dict[int, Anchor]
) -> None:
    device_id = f"dev-{next(_numbers)}"
    stream = await store.open_stream(device_id, SID)
    stream.begin(1)
    for first, more in ranges:
        stream.add(first, first + more)
    stream.anchors = anchors
    stream.last_measured_ms, stream.last_stack_id = NOON_MS, 7
    await store.save(Work(device_id, 1, streams={stream.pk: StreamState.of(stream, NOON)}))

    async with open_store(database_url, Metrics()) as reopened:
        (found,) = (await reopened.streams(device_id))[device_id]

    assert everything(found) == everything(stream)


def everything(stream: Stream) -> dict[str, object]:
    return {name: getattr(stream, name) for name in Stream.__slots__}


async def test_the_streams_of_a_device_come_with_the_latest_used_last(store: Store) -> None:
    streams = [await store.open_stream("dev-001", sid) for sid in ("first", "second")]
    for stream, minute in zip(streams, (2, 1), strict=True):
        state = StreamState.of(stream, NOON + timedelta(minutes=minute))
        await store.save(Work("dev-001", 1, streams={stream.pk: state}))

    assert [stream.sid for stream in (await store.streams("dev-001"))["dev-001"]] == ["second", "first"]


async def test_a_devices_streams_are_its_own(store: Store) -> None:
    for device_id in ("dev-001", "dev-002"):
        await store.open_stream(device_id, SID)

    assert set(await store.streams("dev-001")) == {"dev-001"}
    assert set(await store.streams()) == {"dev-001", "dev-002"}
    assert await store.streams("dev-003") == {}


# --- the newest reading of each device


@given(moments_ms=st.lists(st.integers(1_577_836_800_000, 4_102_444_800_000), min_size=1, max_size=5, unique=True))
@_examples
async def test_the_newest_reading_is_found_to_the_millisecond(store: Store, moments_ms: list[int]) -> None:
    device_id, stack_id = f"dev-{next(_numbers)}", next(_numbers)
    stream = await store.open_stream(device_id, SID)
    stream.last_measured_ms, stream.last_stack_id = max(moments_ms), stack_id
    rows = [
        reading(seq, datetime.fromtimestamp(ms / 1000, UTC), stack_id=stack_id, stream_pk=stream.pk)
        for seq, ms in enumerate(moments_ms)
    ]
    await store.save(Work(device_id, 1, rows, streams={stream.pk: StreamState.of(stream, NOON)}))

    assert (await store.newest_readings())[device_id] == max(rows, key=lambda row: row.measured_at)


async def test_a_device_with_two_streams_has_one_newest_reading(store: Store) -> None:
    for sid, minute in (("old", 2), ("new", 1)):
        stream = await store.open_stream("dev-001", sid)
        at = NOON + timedelta(minutes=minute)
        stream.last_measured_ms, stream.last_stack_id = round(at.timestamp() * 1000), 1
        row = reading(1, at, stream_pk=stream.pk)
        await store.save(Work("dev-001", 1, [row], streams={stream.pk: StreamState.of(stream, at)}))

    assert (await store.newest_readings())["dev-001"].measured_at == NOON + timedelta(minutes=2)


async def test_a_device_that_never_sent_a_reading_has_no_newest(store: Store) -> None:
    await store.open_stream("dev-001", SID)

    assert await store.newest_readings() == {}


# --- records and quarantine


async def test_what_is_in_quarantine_comes_newest_first(store: Store) -> None:
    items = [Quarantined("dev-001", cause, "detail", NOON, b"\x00\xff{") for cause in ("bad_state", "invalid_json")]
    await store.save(Work("dev-001", 1, quarantined=items))

    newest, oldest = await store.quarantined()

    assert (newest.cause, oldest.cause) == ("invalid_json", "bad_state")
    assert (newest.device_id, newest.detail, newest.received_at) == ("dev-001", "detail", NOON)
    assert newest.body == b"\x00\xff{"
    assert newest.id > oldest.id


async def test_a_factory_sees_its_own_quarantine_only(store: Store) -> None:
    for factory_id in (1, 2, 2):
        item = Quarantined("dev-001", "invalid_json", "", NOON, b"")
        await store.save(Work("dev-001", factory_id, quarantined=[item]))

    assert len(await store.quarantined(factory_id=1)) == 1
    assert await store.quarantine_counts(factory_id=2) == {"invalid_json": 2}
    assert await store.quarantine_counts() == {"invalid_json": 3}
    assert len(await store.quarantined(limit=2)) == 2


# --- the 5-minute tier

LONGEST_STEP_S = 60
LAST_STEP_S = 5


def brute_force(rows: Iterable[Reading]) -> dict[datetime, dict[str, Any]]:
    """The tier from its definition.

    Each reading speaks for the time until the next one of its stack, if that comes within a minute; otherwise, and the
    newest of all, for one normal interval.
    """
    ordered = sorted(rows, key=lambda row: (row.measured_at, row.stream_pk, row.seq))
    gaps = [(later.measured_at - earlier.measured_at).total_seconds() for earlier, later in pairwise(ordered)]
    steps = [gap if gap <= LONGEST_STEP_S else LAST_STEP_S for gap in gaps]
    buckets: dict[datetime, list[tuple[float | None, float]]] = {}
    for row, step in zip(ordered, [*steps, LAST_STEP_S], strict=True):
        at_ms = round(row.measured_at.timestamp() * 1000)
        start = datetime.fromtimestamp(at_ms // 300_000 * 300, UTC)
        buckets.setdefault(start, []).append((row.co2_kg_per_s, step))
    return {start: summary(values) for start, values in buckets.items()}


def summary(values: Sequence[tuple[float | None, float]]) -> dict[str, Any]:
    known = [(rate, step) for rate, step in values if rate is not None]
    seconds = math.fsum(step for _, step in known)
    mass = math.fsum(rate * step for rate, step in known)
    return {
        "count": len(values),
        "coverage": close(min(1.0, seconds / 300)),
        "co2_kg": close(mass),
        "mean_kg_per_s": close(mass / seconds if seconds else None),
        "min_kg_per_s": close(min((rate for rate, _ in known), default=None)),
        "max_kg_per_s": close(max((rate for rate, _ in known), default=None)),
    }


def as_dict(point: TrendPoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in summary([])}


async def summarised(store: Store, stack_id: int) -> dict[datetime, dict[str, Any]]:
    while await store.summarise_touched():
        pass
    return {point.start: as_dict(point) for point in await store.trend([stack_id], *ALWAYS)}


async def test_a_full_bucket_is_covered_by_its_readings(store: Store) -> None:
    await store.save(work([reading(seq, co2_kg_per_s=0.25) for seq in range(61)]))

    await store.summarise_touched()

    first, second = await store.trend([1], *ALWAYS)
    assert (first.start, first.count, first.coverage) == (NOON, 60, 1.0)
    assert first.co2_kg == pytest.approx(75.0)
    assert (first.mean_kg_per_s, first.min_kg_per_s, first.max_kg_per_s) == (0.25, 0.25, 0.25)
    assert (second.start, second.count) == (NOON + BUCKET, 1)


async def test_time_without_a_rate_is_not_covered(store: Store) -> None:
    rates = [0.25 if seq % 2 else None for seq in range(60)]
    await store.save(work([reading(seq, co2_kg_per_s=rate) for seq, rate in enumerate(rates)]))

    await store.summarise_touched()

    (point,) = await store.trend([1], *ALWAYS)
    assert (point.count, point.coverage) == (60, 0.5)
    assert point.co2_kg == pytest.approx(37.5)


async def test_a_bucket_without_any_rate_has_no_mean(store: Store) -> None:
    await store.save(work([reading(0, co2_kg_per_s=None)]))

    await store.summarise_touched()

    (point,) = await store.trend([1], *ALWAYS)
    assert (point.count, point.coverage, point.co2_kg, point.mean_kg_per_s) == (1, 0.0, 0.0, None)


async def test_what_was_summarised_is_not_summarised_again(store: Store) -> None:
    await store.save(work([reading(1)]))

    assert await store.summarise_touched() == 1
    assert await store.summarise_touched() == 0


async def test_late_data_is_summarised_again(store: Store) -> None:
    await store.save(work([reading(0), reading(2)]))
    await store.summarise_touched()
    await store.save(work([reading(1, co2_kg_per_s=0.5)]))

    await store.summarise_touched()

    (point,) = await store.trend([1], *ALWAYS)
    assert (point.count, point.max_kg_per_s) == (3, 0.5)


async def test_buckets_that_were_touched_before_a_crash_are_summarised_after_it(
    store: Store, database_url: str
) -> None:
    await store.save(work([reading(1)]))

    async with open_store(database_url, Metrics()) as reopened:
        assert await reopened.summarise_touched() == 1
        assert len(await reopened.trend([1], *ALWAYS)) == 1


async def test_many_buckets_are_summarised_in_turns(store: Store) -> None:
    await store.save(work([reading(seq, NOON + seq * BUCKET) for seq in range(7)]))

    assert [await store.summarise_touched(3) for _ in range(4)] == [3, 3, 1, 0]
    assert len(await store.trend([1], *ALWAYS)) == 7


async def test_a_bucket_that_is_touched_while_the_tier_is_made_is_not_forgotten(store: Store) -> None:
    for seq in range(30):
        await store.save(work([reading(seq)]))
        await store.summarise_touched()

    (point,) = await store.trend([1], *ALWAYS)
    assert point.count == 30


async def test_the_total_of_a_period_is_the_sum_of_its_buckets(store: Store) -> None:
    one, other = await register(store, "dev-001", "dev-002")
    for site, rate in ((one, 0.25), (other, 0.5)):
        rows = [reading(seq, stack_id=site.stack.id, co2_kg_per_s=rate) for seq in range(120)]
        await store.save(work(rows))
    await store.summarise_touched()

    totals = await store.totals(NOON, NOON + 4 * BUCKET, one.factory.id)

    assert {total.stack_id: (total.readings, total.coverage) for total in totals} == {
        one.stack.id: (120, 0.5),
        other.stack.id: (120, 0.5),
    }
    assert {total.stack_id: total.co2_kg for total in totals} == {
        one.stack.id: pytest.approx(150.0),
        other.stack.id: pytest.approx(300.0),
    }
    assert await store.totals(NOON, NOON + BUCKET, factory_id=4711) == []
    assert await store.totals(NOON + 2 * BUCKET, NOON + 3 * BUCKET) == []


def decode_flat(payload: Payload) -> Message:
    """A driver for the test below: the body is the numbers and ms of some samples."""
    rows = [pair.split(b":") for pair in payload.body.split()]
    samples = [
        Sample(int(seq), NOON_MS + int(ms), 1, 98_000.0 if int(seq) % 7 else None, 180.0, 4.0 + int(seq) % 5)
        for seq, ms in rows
    ]
    return Message(SID, 1, samples[0].seq, len(samples), samples)


def body_flat(rows: Sequence[tuple[int, int]]) -> bytes:
    return b" ".join(b"%d:%d" % row for row in rows)


distances = st.lists(
    st.sampled_from([1, 1000, 4990, 5000, 5010, 30_000, 59_999, 60_000, 60_001, 61_000, 120_000, 299_999, 900_000]),
    min_size=1,
    max_size=30,
)


@given(distances=distances, data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_tier_is_what_the_readings_say_in_whatever_order_they_came(
    store: Store, distances: list[int], data: st.DataObject
) -> None:
    """Messages come in any order, and the tier is made in between or not: in the end it is the same."""
    stack = Stack(next(_numbers), 1, "Boiler", (MonitoringPlan(),))
    device = Device(1, f"dev-{stack.id}", 1, stack.id)
    driver = SensorDriver("flat", "for this test", decode_flat)
    intake = Intake(Site(factory(id=1), stack, device), driver, store.open_stream, stuck_after_s=600)
    born = Batch(Work(device.device_id, 1))
    await intake.take_state(Payload(device.device_id, "state", birth(first=1), NOON_MS), born)
    await store.save(born.seal())
    times = [sum(distances[: number + 1]) for number in range(len(distances))]
    cuts = data.draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times)), label="begins a message")
    messages: list[list[tuple[int, int]]] = []
    for seq, (ms, begins) in enumerate(zip(times, cuts, strict=True), 1):
        if begins or not messages:
            messages.append([])
        messages[-1].append((seq, ms))
    for message in data.draw(st.permutations(messages), label="in the order in which they came"):
        batch = Batch(Work(device.device_id, 1))
        received_ms = NOON_MS + times[-1] + 1000
        await intake.take_data(Payload(device.device_id, "backlog", body_flat(message), received_ms), batch)
        await store.save(batch.seal())
        if data.draw(st.booleans(), label="the tier is made now"):
            await store.summarise_touched()

    rows = await kept(store, stack.id)

    assert len(rows) == len(times)
    assert await summarised(store, stack.id) == brute_force(rows)


async def test_records_are_kept_once(store: Store) -> None:
    record = Record(7, "meter", NOON_MS, 1, {"kwh": 1.5, "note": "caf\u00e9"})
    contribution = Work("dev-001", 1, records=[(1, record, NOON, NOON)])

    await store.save(contribution)
    await store.save(contribution)

    rows = await store._engine.rows("SELECT * FROM device_record")
    assert [(row["stream_id"], row["seq"], row["kind"]) for row in rows] == [(1, 7, "meter")]
    assert rows[0]["data"] == '{"kwh":1.5,"note":"caf\u00e9"}'
