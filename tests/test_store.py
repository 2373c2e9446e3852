"""Telemetry: what was committed is there, streams go on where they were, and the tier is what the readings say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.metrics import Metrics
from carbontrack.model import (
    Quarantined,
    Reading,
    Record,
)
from carbontrack.store import Store, StreamState, Work, open_store
from carbontrack.streams import Anchor, Stream
from tests.support.world import ALWAYS, NOON, NOON_MS, SID, kept, measured, reading, work

pytest_plugins = ["tests.support.world"]

_examples = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = count(1000)
BUCKET = timedelta(minutes=5)


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

    assert found == [measured(row) for row in sorted(wanted, key=lambda row: (row.measured_at, row.seq))]


async def test_readings_of_the_same_moment_come_by_their_numbers_however_large(store: Store) -> None:
    await store.save(work([reading(2**31, NOON), reading(1, NOON)]))

    assert [row.seq for row in await kept(store)] == [1, 2**31]


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
    stream.last_seq = moments_ms.index(max(moments_ms))
    rows = [
        reading(seq, datetime.fromtimestamp(ms / 1000, UTC), stack_id=stack_id, stream_pk=stream.pk)
        for seq, ms in enumerate(moments_ms)
    ]
    await store.save(Work(device_id, 1, rows, streams={stream.pk: StreamState.of(stream, NOON)}))

    assert (await store.newest_readings())[device_id] == measured(max(rows, key=lambda row: row.measured_at))


async def test_a_device_with_two_streams_has_one_newest_reading(store: Store) -> None:
    for sid, minute in (("old", 2), ("new", 1)):
        stream = await store.open_stream("dev-001", sid)
        at = NOON + timedelta(minutes=minute)
        stream.last_measured_ms, stream.last_stack_id, stream.last_seq = round(at.timestamp() * 1000), 1, 1
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


async def test_records_are_kept_once(store: Store) -> None:
    record = Record(7, "meter", NOON_MS, 1, {"kwh": 1.5, "note": "caf\u00e9"})
    contribution = Work("dev-001", 1, records=[(1, record, NOON, NOON)])

    await store.save(contribution)
    await store.save(contribution)

    rows = await store._engine.rows("SELECT * FROM device_record")
    assert [(row["stream_id"], row["seq"], row["kind"]) for row in rows] == [(1, 7, "meter")]
    assert rows[0]["data"] == '{"kwh":1.5,"note":"caf\u00e9"}'
