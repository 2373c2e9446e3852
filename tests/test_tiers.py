"""The tiers are what the committed readings say, in whatever order they came, and what was said before is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.emissions.rate import Rate, emission_rate, site_pressure_kpa, stored_sample
from carbontrack.hookspecs import SensorDriver
from carbontrack.intake import Batch, Intake
from carbontrack.ledger import HourStatus, Summary
from carbontrack.metrics import Metrics
from carbontrack.model import Device, Flag, Measurement, Message, MonitoringPlan, Payload, Sample, Site, Stack
from carbontrack.store import Store, Work, open_store
from carbontrack.streams import Clock, Stream
from carbontrack.tiers import Measured, Progress, Summariser, reading_of, readings
from tests.support.world import (
    ALWAYS,
    NAIROBI,
    NOON,
    NOON_MS,
    SID,
    birth,
    factory,
    kept,
    measured,
    register,
    summarise_touched,
)

pytest_plugins = ["tests.support.world"]

_numbers = count(1)
BUCKET = timedelta(minutes=5)
HOUR = timedelta(hours=1)
LATER = NOON + timedelta(days=2)
FIRING: dict[str, Any] = {"co2_ppm": 98_000.0, "temperature_c": 183.25, "velocity_ms": 4.125, "pressure_kpa": 79.5}
COLD: dict[str, Any] = {"co2_ppm": 900.0, "temperature_c": 31.0, "velocity_ms": 0.125, "pressure_kpa": 79.5}
FIRING_KG_PER_S = 0.1483812
"""0.098 * 0.88 * 0.9 * 4.125 * 0.50265482 * 79500 * 0.0440095 / (8.314462618 * 456.4), by hand."""


class Node:
    """A device whose samples go through the intake; the numbers of its samples are its own."""

    def __init__(self, store: Store, site: Site) -> None:
        self.store, self.site, self.seq = store, site, 0
        driver = SensorDriver(
            "flat", "for these tests", lambda payload: msgspec.msgpack.decode(payload.body, type=Message)
        )
        self.intake = Intake(site, driver, store.open_stream, stuck_after_s=1e9)

    @property
    def stack_id(self) -> int:
        return self.site.stack.id

    async def send(
        self, seconds: Iterable[float], received_at: datetime = LATER, status: int = 0, **values: Any
    ) -> None:
        """Samples of these seconds after noon, in one message."""
        samples = [
            self.sample(seq, round(second * 1000), status, **values) for seq, second in enumerate(seconds, self.seq + 1)
        ]
        self.seq = samples[-1].seq
        await self.take(samples, received_at)

    @staticmethod
    def sample(seq: int, ms: int, status: int = 0, **values: Any) -> Sample:
        return Sample(seq, NOON_MS + ms, status=status, **(FIRING | values))

    async def take(self, samples: Sequence[Sample], received_at: datetime = LATER) -> None:
        message = Message(SID, 1, samples[0].seq, len(samples), list(samples))
        body, received_ms = msgspec.msgpack.encode(message), round(received_at.timestamp() * 1000)
        batch = Batch(Work(self.site.device.device_id, self.site.factory.id))
        await self.intake.take_data(Payload(self.site.device.device_id, "backlog", body, received_ms), batch)
        assert not batch.quarantined
        await self.store.save(batch.seal())


async def node(store: Store, plan: MonitoringPlan | None = None) -> Node:
    """A new device on a new stack of a new factory."""
    number = next(_numbers)
    sites = await register(store, f"dev-{number}", factory_name=f"Factory {number}")
    found = Node(store, sites[0])
    if plan is not None:
        await store.add_plan(found.stack_id, plan)
        found = Node(store, (await store.sites(sites[0].factory.id))[0])
    born = Batch(Work(found.site.device.device_id, found.site.factory.id))
    await found.intake.take_state(Payload(found.site.device.device_id, "state", birth(first=1), NOON_MS), born)
    await store.save(born.seal())
    return found


async def tiers(store: Store, stack_id: int) -> tuple[Any, ...]:
    """All that the tiers say of a stack."""
    versionless = [msgspec.structs.replace(hour, version=0) for hour in await store.hours([stack_id], *ALWAYS)]
    days = await store.days([stack_id], date(2000, 1, 1), date(2100, 1, 1))
    return await store.summaries(stack_id, *ALWAYS), versionless, days


async def finish(store: Store) -> None:
    while await summarise_touched(store, now=LATER):
        pass


def every_5_s(first: int, last: int) -> range:
    return range(first, last, 5)


# --- 5 minutes


async def test_a_full_bucket_is_covered_by_its_readings(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 305))

    await summarise_touched(store)

    first, second = await store.trend([device.stack_id], *ALWAYS)
    assert (first.start, first.count, first.coverage) == (NOON, 60, 1.0)
    assert first.mean_kg_per_s == pytest.approx(FIRING_KG_PER_S, rel=1e-6)
    assert first.co2_kg == pytest.approx(FIRING_KG_PER_S * 300, rel=1e-6)
    assert (second.start, second.count) == (NOON + BUCKET, 1)


async def test_time_without_a_rate_is_not_covered(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 300))
    await device.send((1,), status=int(Flag.CO2_FAULT))

    await summarise_touched(store)

    (point,) = await store.trend([device.stack_id], *ALWAYS)
    assert point.count == 61
    assert point.coverage == pytest.approx(296 / 300)


async def test_a_bucket_without_any_rate_has_no_mean(store: Store) -> None:
    device = await node(store)
    await device.send((0,), status=int(Flag.CO2_FAULT))

    await summarise_touched(store)

    (point,) = await store.trend([device.stack_id], *ALWAYS)
    assert (point.count, point.coverage, point.co2_kg, point.mean_kg_per_s) == (1, 0.0, 0.0, None)


async def test_what_was_summarised_is_not_summarised_again(store: Store) -> None:
    await (await node(store)).send((90,))

    assert await summarise_touched(store) == 1
    assert await summarise_touched(store) == 0


async def test_late_data_is_summarised_again(store: Store) -> None:
    device = await node(store)
    await device.send((0, 10))
    await summarise_touched(store)
    await device.send((5,), velocity_ms=8.0)

    await summarise_touched(store)

    (point,) = await store.trend([device.stack_id], *ALWAYS)
    assert point.count == 3
    assert point.max_kg_per_s == pytest.approx(FIRING_KG_PER_S * 8 / 4.125, rel=1e-6)


async def test_buckets_that_were_touched_before_a_crash_are_summarised_after_it(
    store: Store, database_url: str
) -> None:
    device = await node(store)
    await device.send((90,))

    async with open_store(database_url, Metrics()) as reopened:
        assert await summarise_touched(reopened) == 1
        assert len(await reopened.trend([device.stack_id], *ALWAYS)) == 1


async def test_many_buckets_are_summarised_in_turns(store: Store) -> None:
    device = await node(store)
    await device.send(range(90, 2100, 300))

    assert [await summarise_touched(store, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert len(await store.trend([device.stack_id], *ALWAYS)) == 7


async def test_a_bucket_that_is_touched_while_the_tier_is_made_is_not_forgotten(store: Store) -> None:
    device = await node(store)
    summariser = Summariser(store, NAIROBI)
    for second in range(30):
        await device.send((second,))
        await summariser.summarise_touched()

    (point,) = await store.trend([device.stack_id], *ALWAYS)
    assert point.count == 30


async def test_the_total_of_a_period_is_the_sum_of_its_buckets(store: Store) -> None:
    one, other = await node(store), await node(store)
    for device in (one, other):
        await device.send(every_5_s(0, 600))
    await finish(store)

    totals = await store.totals(NOON, NOON + 4 * BUCKET, one.site.factory.id)

    (total,) = totals
    assert (total.stack_id, total.readings, total.coverage) == (one.stack_id, 120, 0.5)
    assert total.co2_kg == pytest.approx(FIRING_KG_PER_S * 600, rel=1e-6)
    assert len(await store.totals(NOON, NOON + 4 * BUCKET)) == 2
    assert await store.totals(NOON + 2 * BUCKET, NOON + 3 * BUCKET) == []


async def test_the_total_of_whole_hours_and_what_lies_around_them_is_the_sum_of_its_buckets(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 9000))
    await finish(store)
    since, until = NOON + 3 * BUCKET, NOON + timedelta(hours=2) + 5 * BUCKET

    (total,) = await store.totals(since, until)

    points = await store.trend([device.stack_id], since, until)
    assert len(points) == 26
    assert total.readings == sum(point.count for point in points)
    assert total.coverage == pytest.approx(1.0)
    assert total.co2_kg == pytest.approx(sum(point.co2_kg for point in points), rel=1e-9)


async def test_of_several_stacks_each_ones_rows_come_together_and_oldest_first(store: Store) -> None:
    one, other = await node(store), await node(store)
    for device in (one, other):
        await device.send(every_5_s(0, 7300))
    await finish(store)
    wanted = [other.stack_id, one.stack_id]

    hours = await store.hours(wanted, *ALWAYS)
    points = await store.trend(wanted, *ALWAYS)
    days = await store.days(wanted, date(2000, 1, 1), date(2100, 1, 1))

    at = [NOON + timedelta(hours=hour) for hour in range(3)]
    assert [(hour.stack_id, hour.start) for hour in hours] == [(stack_id, start) for stack_id in wanted for start in at]
    assert [point.stack_id for point in points] == [other.stack_id] * 25 + [one.stack_id] * 25
    assert [point.start for point in points[:25]] == [NOON + step * BUCKET for step in range(25)]
    assert [day.stack_id for day in days] == wanted
    assert await store.hours([], *ALWAYS) == []


async def test_a_boiler_that_is_off_is_zero_and_known(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 300), **COLD)

    await summarise_touched(store)

    (point,) = await store.trend([device.stack_id], *ALWAYS)
    assert (point.coverage, point.co2_kg, point.mean_kg_per_s) == (1.0, 0.0, 0.0)


async def test_late_data_that_say_the_boiler_is_off_count_in_the_buckets_after_too(store: Store) -> None:
    """Between its thresholds the boiler is what it was: those minutes are summarised again as well."""
    device = await node(store)
    await device.send(every_5_s(300, 600), co2_ppm=9_000.0, temperature_c=70.0)
    await finish(store)
    (before,) = await store.summaries(device.stack_id, *ALWAYS)
    await device.send((200,), **COLD)

    await finish(store)

    _, after = await store.summaries(device.stack_id, *ALWAYS)
    assert (before.running_s, before.off_s) == (300, 0)
    assert (after.running_s, after.off_s) == (0, 300)


# --- in whatever order


def reference(rows: Sequence[Measurement], plan: MonitoringPlan) -> dict[datetime, tuple[float, float, float]]:
    """Running seconds, off seconds and mass of each bucket, from the definitions, and not by the code's own way.

    Each reading speaks from its time on for a minute at most (if another follows by then) or for 5 s; the boiler is
    what the last sure reading said that came no more than 10 minutes before the bucket.
    """
    ordered = sorted(rows, key=lambda row: (row.measured_at, row.stream_pk, row.seq))
    rates = [rate_of(row, plan) for row in ordered]
    ends = [
        later.measured_at if (later.measured_at - row.measured_at) <= timedelta(seconds=60) else row.measured_at + 5 * S
        for row, later in pairwise(ordered)
    ]
    ends.append(ordered[-1].measured_at + 5 * S)
    found: dict[datetime, tuple[float, float, float]] = {}
    first = ordered[0].measured_at.timestamp() // 300 * 300
    for start_s in range(int(first), int(ends[-1].timestamp()) + 1, 300):
        start = datetime.fromtimestamp(start_s, UTC)
        running_s = off_s = kg = 0.0
        for place, (row, rate, end) in enumerate(zip(ordered, rates, ends, strict=True)):
            seconds = (min(end, start + BUCKET) - max(row.measured_at, start)).total_seconds()
            if seconds <= 0:
                continue
            sure = [r.vote for p, r in zip(ordered[: place + 1], rates, strict=False)
                    if r.vote and p.measured_at >= start - 2 * BUCKET]  # fmt: skip
            if not sure or sure[-1] > 0:
                running_s += seconds
                kg += (rate.co2_kg_per_s or 0) * seconds
            else:
                off_s += seconds
        if running_s or off_s:
            found[start] = (running_s, off_s, kg)
    return found


S = timedelta(seconds=1)


def rate_of(row: Measurement, plan: MonitoringPlan) -> Rate:
    sample = stored_sample(row.co2_ppm, row.temperature_c, row.velocity_ms, row.pressure_kpa, None, row.flags)
    return emission_rate(sample, plan, 79.5, 0)


distances = st.lists(
    st.sampled_from([1, 1000, 4990, 5000, 5010, 30_000, 59_999, 60_000, 60_001, 61_000, 120_000, 299_999, 900_000]),
    min_size=1,
    max_size=25,
)
states: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [FIRING, COLD, FIRING | {"co2_ppm": 8_000.0, "temperature_c": 70.0}, FIRING | {"co2_ppm": None}]
)


@given(distances=distances, data=st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_the_tiers_are_what_the_readings_say_in_whatever_order_they_came(
    store: Store, distances: list[int], data: st.DataObject
) -> None:
    """Messages come in any order, and the tiers are made in between or not: in the end they are the same."""
    device = await node(store)
    samples = [
        Node.sample(seq, sum(distances[:seq]), **data.draw(states, label="state"))
        for seq in range(1, len(distances) + 1)
    ]
    cuts = data.draw(st.lists(st.booleans(), min_size=len(samples), max_size=len(samples)), label="begins a message")
    messages: list[list[Sample]] = []
    for sample, begins in zip(samples, cuts, strict=True):
        if begins or not messages:
            messages.append([])
        messages[-1].append(sample)
    for message in data.draw(st.permutations(messages), label="in the order in which they came"):
        await device.take(message)
        if data.draw(st.booleans(), label="the tiers are made now"):
            await summarise_touched(store, now=LATER)
    await finish(store)

    summaries, *_ = incremental = await tiers(store, device.stack_id)

    rows = await kept(store, device.stack_id)
    assert len(rows) == len(samples)
    assert sum(part.count for part in summaries) == len(samples)
    assert values(summaries) == reference(rows, device.site.stack.plans[0])
    await Summariser(store, NAIROBI).recompute([device.stack_id], *ALWAYS, lambda _: None)
    assert await tiers(store, device.stack_id) == incremental, "recomputed, bit for bit"


def values(summaries: Sequence[Summary]) -> dict[datetime, Any]:
    return {
        part.start: tuple(pytest.approx(value, abs=1e-9) for value in (part.running_s, part.off_s, part.co2_kg))
        for part in summaries
        if part.running_s or part.off_s
    }


# --- hours, versions and days


async def test_an_hour_is_kept_with_its_figures(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 3605))

    await finish(store)

    first, second = await store.hours([device.stack_id], *ALWAYS)
    assert (first.start, first.status, first.count, first.version) == (NOON, HourStatus.VALID, 720, 1)
    assert first.co2_kg == pytest.approx(FIRING_KG_PER_S * 3600, rel=1e-6)
    assert (first.late_count, bool(first.flags & Flag.BACKLOG)) == (720, True)
    assert (second.start, second.status) == (NOON + HOUR, HourStatus.INVALID)


async def test_while_an_hour_goes_on_its_record_fills_up_without_new_versions(store: Store) -> None:
    device = await node(store)
    for second in range(0, 1500, 300):
        await device.send(range(second, second + 300, 30))
        await summarise_touched(store, now=NOON + timedelta(seconds=second))

    (hour,) = await store.hours([device.stack_id], *ALWAYS)
    assert (hour.count, hour.version) == (50, 1)
    assert await store.earlier_versions(device.stack_id, *ALWAYS) == []


async def test_late_data_open_an_hour_again_and_what_was_said_before_is_kept(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 1800))
    await summarise_touched(store, now=LATER)
    (before,) = await store.hours([device.stack_id], *ALWAYS)
    await device.send(every_5_s(1800, 3600))

    await summarise_touched(store, now=LATER + HOUR)

    (after,) = await store.hours([device.stack_id], *ALWAYS)
    assert (before.status, before.version) == (HourStatus.INVALID, 1)
    assert (after.status, after.version) == (HourStatus.VALID, 2)
    assert await store.earlier_versions(device.stack_id, *ALWAYS) == [(before, LATER + HOUR)]


async def test_summarising_again_with_the_same_figures_is_no_new_version(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 3600))
    await finish(store)

    done = await Summariser(store, NAIROBI, lambda: LATER).recompute([device.stack_id], *ALWAYS, lambda _: None)

    assert done == Progress(buckets=12, versions=0)
    (hour,) = await store.hours([device.stack_id], *ALWAYS)
    assert hour.version == 1


async def test_days_begin_at_midnight_in_nairobi(store: Store) -> None:
    """Midnight of the 2 March there is 21:00 UTC of the 1 March, nine hours after noon UTC."""
    device = await node(store)
    for hour in (8, 9):
        await device.send(range(hour * 3600, (hour + 1) * 3600, 30))
        await finish(store)

    first, second = await store.days([device.stack_id], date(2026, 3, 1), date(2026, 3, 3))

    assert (first.day, first.valid_hours) == (date(2026, 3, 1), 1)
    assert (second.day, second.valid_hours) == (date(2026, 3, 2), 1)
    assert second.co2_kg == pytest.approx(FIRING_KG_PER_S * 3600, rel=1e-6)


# --- plans


async def test_figures_use_the_plan_of_their_time(store: Store) -> None:
    """From 12:30 on the stack has a sleeve of half the area."""
    device = await node(store, MonitoringPlan(valid_from=NOON + HOUR / 2, diameter_m=0.8 / 2**0.5))
    await device.send(every_5_s(0, 3600))

    await finish(store)

    (hour,) = await store.hours([device.stack_id], *ALWAYS)
    assert hour.co2_kg == pytest.approx(FIRING_KG_PER_S * 2700, rel=1e-6)


async def test_a_plan_that_is_entered_later_corrects_what_was_measured_since_it_is_in_force(store: Store) -> None:
    device = await node(store)
    await device.send(every_5_s(0, 3600))
    await finish(store)
    (before,) = await store.hours([device.stack_id], *ALWAYS)

    await store.add_plan(device.stack_id, MonitoringPlan(valid_from=NOON + HOUR / 2, profile_factor=0.45))
    await finish(store)

    (after,) = await store.hours([device.stack_id], *ALWAYS)
    assert after.co2_kg == pytest.approx((before.co2_kg or 0) * 0.75, rel=1e-6)
    assert after.version == 2
    rows = await readings(store, [device.stack_id], *ALWAYS)
    assert rows[0].co2_kg_per_s == pytest.approx(FIRING_KG_PER_S, rel=1e-6)
    assert rows[-1].co2_kg_per_s == pytest.approx(FIRING_KG_PER_S / 2, rel=1e-6)
    assert rows[-1].co2_ppm == 98_000.0


async def test_a_range_that_was_entered_wrongly_is_forgiven_when_it_is_corrected(store: Store) -> None:
    """The flags of the wrong range go; what the device itself had said stays."""
    device = await node(store, MonitoringPlan(valid_from=NOON, co2_range_ppm=90_000.0))
    await device.send((0,))
    await device.send((5,), status=int(Flag.CO2_OVER_RANGE))
    saturated = [row.flags for row in await readings(store, [device.stack_id], *ALWAYS)]

    await store.add_plan(device.stack_id, MonitoringPlan(valid_from=NOON - S))
    await store.add_plan(device.stack_id, MonitoringPlan(valid_from=NOON + S / 1000))
    await Summariser(store, NAIROBI).recompute([device.stack_id], *ALWAYS, lambda _: None)

    first, second = await readings(store, [device.stack_id], *ALWAYS)
    assert all(flags & Flag.CO2_OVER_RANGE for flags in saturated)
    assert first.flags & Flag.CO2_SATURATED, "the wrong plan is still that of noon itself"
    assert second.flags & Flag.CO2_OVER_RANGE
    assert not second.flags & Flag.CO2_SATURATED


@given(
    co2=st.floats(0, 250_000, width=32),
    temperature=st.floats(-30, 1100, width=32),
    velocity=st.none() | st.floats(0, 60, width=32),
    difference=st.none() | st.floats(-5, 100, width=32),
    pressure=st.none() | st.floats(70, 120, width=32),
    status=st.integers(0, 2**15 - 1),
    pitot=st.booleans(),
)
@settings(max_examples=200)
def test_a_stored_reading_computes_to_itself(
    co2: float, temperature: float, velocity: float | None, difference: float | None, pressure: float | None,
    status: int, pitot: bool,
) -> None:  # fmt: skip
    """Recomputing is from raw: what is stored is enough to get the same rate and the same flags."""
    plan = MonitoringPlan(velocity_method="pitot" if pitot else "anemometer")
    site = Site(factory(), Stack(1, 1, "Boiler 1", (plan,)), Device(1, "dev-001", 1, 1))
    values = {"co2_ppm": co2, "temperature_c": temperature, "velocity_ms": velocity, "pressure_kpa": pressure}
    sample = Node.sample(1, 0, status, pressure_difference_pa=difference, **values)
    intake = Intake(site, SensorDriver("", "", lambda _: Message("", 0, 0, 0, [])), no_stream, stuck_after_s=1e9)
    stored = intake._compute(sample, Stream(1, SID), Clock(0, 0), live=False, received_at=LATER)

    assert reading_of(measured(stored), Measured(1, (plan,), site_pressure_kpa(site.factory))) == stored


async def no_stream(device_id: str, sid: str) -> Stream:
    raise AssertionError


# --- recompute


async def test_recomputing_leaves_alone_what_has_no_readings_any_more(store: Store) -> None:
    device = await node(store)
    await device.send(range(0, 7200, 30))
    await finish(store)
    before = await tiers(store, device.stack_id)
    await store._engine.run("DELETE FROM reading WHERE measured_at < $1", NOON + HOUR)

    await Summariser(store, NAIROBI).recompute([device.stack_id], *ALWAYS, lambda _: None)

    assert await tiers(store, device.stack_id) == before


async def test_recomputing_mends_a_tier_that_was_damaged(store: Store) -> None:
    device = await node(store)
    await device.send(range(0, 3600, 30))
    await finish(store)
    before = await tiers(store, device.stack_id)
    for table in ("tier_5min", "hour", "tier_day"):
        await store._engine.run(f"UPDATE {table} SET co2_kg = 1")

    reported: list[Progress] = []
    done = await Summariser(store, NAIROBI).recompute([device.stack_id], *ALWAYS, reported.append)

    assert await tiers(store, device.stack_id) == before
    assert reported[-1] == done
    assert done.buckets == 12
