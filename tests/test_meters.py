"""What meters counted by local day: running totals in, whatever was lost, came late, twice or in any order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from math import fsum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.emissions.meters import METERS, Meter, MeterReading, daily_amounts, meter_reading
from carbontrack.ledger import EnergyType, EntrySource, MeterDay
from carbontrack.meters import LOOK_BACK, MeterKeeper, meter_entries
from carbontrack.model import MonitoringPlan, Record, Site, Stack
from carbontrack.store import Store, Work
from tests.support.world import NAIROBI, register

pytest_plugins = ["tests.support.world"]

RUN_S, KWH, GENSET_KWH, LITRES = METERS
MIDNIGHT = datetime(2026, 2, 28, 21, tzinfo=UTC)
"""The beginning of the 1 March in Nairobi."""
FIRST = date(2026, 3, 1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_seqs = count(1)


def at(hours: float, total: float, resets: int | None = 0, meter: Meter = KWH) -> MeterReading:
    """A record so many hours after midnight of the 1 March."""
    return MeterReading(MIDNIGHT + hours * HOUR, {meter.column: total}, resets)


def amounts(readings: Sequence[MeterReading], meter: Meter = KWH) -> dict[int, float]:
    """The amounts by the number of the day: 0 is the 1 March."""
    return {(day - FIRST).days: found.amount for day, found in daily_amounts(readings, meter, NAIROBI).items()}


# --- steps


def test_the_totals_difference_is_the_days_amount() -> None:
    assert amounts([at(1, 500), at(2, 510), at(23, 720)]) == {0: 220}


def test_days_begin_at_local_midnight() -> None:
    """A step from 22:00 to 02:00 in Nairobi is half of the one day and half of the next."""
    assert amounts([at(22, 100), at(26, 140)]) == pytest.approx({0: 20, 1: 20})


def test_a_step_over_a_gap_is_shared_by_time_over_the_days_that_it_spans() -> None:
    """54 h from noon: 12 h, 24 h and 18 h."""
    assert amounts([at(12, 0), at(66, 540)]) == pytest.approx({0: 120, 1: 240, 2: 180})


def test_a_step_that_ends_at_midnight_is_all_of_the_day_that_ends() -> None:
    assert amounts([at(12, 0), at(24, 120)]) == {0: 120, 1: 0}


def test_a_total_that_falls_began_again_from_zero() -> None:
    found = daily_amounts([at(1, 900), at(2, 910), at(3, 4), at(4, 14)], KWH, NAIROBI)[FIRST]

    assert (found.amount, found.resets) == (10 + 4 + 10, 1)


def test_a_larger_count_of_resets_is_a_reset_even_where_the_total_has_grown() -> None:
    found = daily_amounts([at(1, 5, 3), at(2, 8, 4)], KWH, NAIROBI)[FIRST]

    assert (found.amount, found.resets) == (8, 1)


def test_a_record_that_does_not_say_how_often_it_was_reset_is_no_reset() -> None:
    assert amounts([at(1, 100, 3), at(2, 110, None), at(3, 120, 3)]) == {0: 20}


def test_a_reset_that_a_silent_record_hides_is_still_seen() -> None:
    assert amounts([at(1, 10, 3), at(2, 12, None), at(3, 14, 4)]) == {0: 2 + 14}


def test_one_record_alone_says_nothing() -> None:
    assert amounts([at(1, 900)]) == {}


def test_running_time_comes_in_hours() -> None:
    assert amounts([at(6, 0, meter=RUN_S), at(18, 9 * 3600, meter=RUN_S)], RUN_S) == {0: 9}


def test_meters_that_a_record_does_not_have_are_left_out() -> None:
    assert amounts([at(1, 5), at(2, 8)], LITRES) == {}


# --- what cannot be


def test_a_boiler_cannot_run_for_longer_than_the_time_that_passed() -> None:
    readings = [at(1, 0, meter=RUN_S), at(2, 7200, meter=RUN_S), at(3, 10_800, meter=RUN_S)]

    found = daily_amounts(readings, RUN_S, NAIROBI)[FIRST]

    assert found.amount == 1
    (remark,) = found.remarks
    assert "2.0 h in 60.0 min" in remark
    assert "2026-02-28T23:00" in remark


@pytest.mark.parametrize(("step", "taken"), [(3600, 3600), (3780, 3780), (3790, 0)])
def test_running_time_may_be_five_percent_more_than_the_time_between_two_clocks(step: float, taken: float) -> None:
    assert amounts([at(1, 0, meter=RUN_S), at(2, step, meter=RUN_S)], RUN_S) == {0: taken / 3600}


def test_a_whole_second_too_much_between_close_records_is_only_rounding() -> None:
    readings = [MeterReading(MIDNIGHT + timedelta(seconds=5 * n), {"run_s": 5.0 * n + n % 2}) for n in range(13)]

    found = daily_amounts(readings, RUN_S, NAIROBI)[FIRST]

    assert found.amount == pytest.approx(60 / 3600)
    assert found.remarks == ()


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter.column)
def test_a_single_total_that_leaps_up_costs_nothing(meter: Meter) -> None:
    steady = [at(hour, 10.0 * hour, meter=meter) for hour in range(24)]
    wrong = replace(steady[12], totals={meter.column: 1e9})

    with_leap = daily_amounts([*steady[:12], wrong, *steady[13:]], meter, NAIROBI)[FIRST]

    assert with_leap.amount == pytest.approx(230 / meter.per_unit)
    assert (with_leap.resets, with_leap.remarks) == (0, ())


def test_a_new_meter_with_a_higher_total_costs_one_step_and_is_told() -> None:
    found = daily_amounts([at(1, 100), at(2, 110), at(3, 50_000), at(4, 50_010)], KWH, NAIROBI)[FIRST]

    assert found.amount == 20
    assert len(found.remarks) == 1


# --- records


@pytest.mark.parametrize("value", [None, "12", True, -0.5, 1e13, [1]])
def test_a_total_that_is_none_is_left_out(value: object) -> None:
    assert meter_reading(MIDNIGHT, {"kwh": value}) is None
    found = meter_reading(MIDNIGHT, {"kwh": value, "litres": 3, "rst": value, "volts": 230})
    assert found == MeterReading(MIDNIGHT, {"litres": 3.0}, None)


def test_a_record_has_all_its_totals() -> None:
    data = {"run_s": 7200, "kwh": 12.5, "genset_kwh": 3, "litres": 0.75, "rst": 2, "ti": 41}

    found = meter_reading(MIDNIGHT, data)

    assert found == MeterReading(MIDNIGHT, {"run_s": 7200, "kwh": 12.5, "genset_kwh": 3, "litres": 0.75}, 2)


# --- laws


@st.composite
def counters(draw: st.DrawFn) -> tuple[list[MeterReading], float]:
    """What a meter of kWh sends over some days, and what it has counted; it may be reset, and sends more often then."""
    moment, total, resets, counted = MIDNIGHT, draw(st.integers(0, 10_000)), 0, 0
    readings = [MeterReading(moment, {"kwh": float(total)}, resets)]
    for _ in range(draw(st.integers(1, 30))):
        minutes, step = draw(st.integers(1, 2000)), draw(st.integers(0, 100))
        if draw(st.integers(0, 9)) == 0:
            total, resets = 0, resets + 1
        moment, total, counted = moment + timedelta(minutes=minutes), total + step, counted + step
        readings.append(MeterReading(moment, {"kwh": float(total)}, resets))
    return readings, float(counted)


@given(counter=counters(), seed=st.integers(0, 2**32))
def test_neither_order_nor_duplicates_change_a_thing(counter: tuple[list[MeterReading], float], seed: int) -> None:
    readings, _ = counter
    chance = random.Random(seed)
    mixed = [*readings, *chance.choices(readings, k=5)]
    chance.shuffle(mixed)

    assert daily_amounts(mixed, KWH, NAIROBI) == daily_amounts(readings, KWH, NAIROBI)


@given(counter=counters())
def test_the_days_add_up_to_what_was_counted(counter: tuple[list[MeterReading], float]) -> None:
    readings, counted = counter

    assert fsum(amounts(readings).values()) == pytest.approx(counted, abs=1e-6)


@given(counter=counters(), data=st.data())
def test_lost_records_change_the_days_but_not_their_sum_where_no_reset_is_lost(
    counter: tuple[list[MeterReading], float], data: st.DataObject
) -> None:
    readings, counted = counter
    first_boot = [reading for reading in readings if reading.resets == 0]
    kept = [first_boot[0], *(it for it in first_boot[1:-1] if data.draw(st.booleans())), first_boot[-1]]

    lost_none, lost_some = amounts(first_boot), amounts(kept)

    assert fsum(lost_some.values()) == pytest.approx(fsum(lost_none.values()), abs=1e-6)
    assert fsum(lost_none.values()) <= counted + 1e-6


@given(counter=counters())
def test_no_day_counts_less_than_nothing(counter: tuple[list[MeterReading], float]) -> None:
    assert all(amount >= 0 for amount in amounts(counter[0]).values())


# --- the job


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def send(store: Store, device_id: str, readings: Sequence[MeterReading], received_at: datetime) -> None:
    """Keep meter records as the intake does."""
    stream = await store.open_stream(device_id, "9f3c21aa")
    records = [
        (
            stream.pk,
            Record(next(_seqs), "meter", 0, 1, dict(it.totals) | ({} if it.resets is None else {"rst": it.resets})),
            it.at,
            received_at,
        )
        for it in readings
    ]
    await store.save(Work(device_id, 1, records=records))


@pytest.fixture
async def site(store: Store) -> Site:
    return (await register(store, "dev-001"))[0]


async def kept_days(store: Store, site: Site) -> list[MeterDay]:
    return await store.meter_days(site.factory.id, date(2000, 1, 1), date(2100, 1, 1))


async def kept_amounts(store: Store, site: Site) -> dict[int, float]:
    return {(it.day - FIRST).days: it.amount for it in await kept_days(store, site)}


async def test_what_a_device_sends_becomes_days(store: Store, site: Site) -> None:
    clock = Clock(MIDNIGHT + 30 * HOUR)
    keeper = MeterKeeper(store, NAIROBI, clock)
    await send(store, "dev-001", [at(22, 100), at(26, 140)], clock.now)

    assert await keeper.summarise() == 2

    first, second = await kept_days(store, site)
    expected = ("dev-001", site.factory.id, site.stack.id, "kwh", "electricity", "kWh", FIRST)
    assert (
        first.device_id,
        first.factory_id,
        first.stack_id,
        first.meter,
        first.kind,
        first.unit,
        first.day,
    ) == expected
    assert (first.resets, first.readings) == (0, 1)
    assert [it.amount for it in (first, second)] == pytest.approx([20, 20])


async def test_each_meter_of_a_device_has_days_of_its_own(store: Store, site: Site) -> None:
    totals = [{"run_s": 0.0, "kwh": 5.0, "litres": 1.0}, {"run_s": 3600.0, "kwh": 30.0, "litres": 11.0}]
    readings = [MeterReading(MIDNIGHT + hour * HOUR, it, 0) for hour, it in enumerate(totals)]
    await send(store, "dev-001", readings, MIDNIGHT + 2 * HOUR)

    await MeterKeeper(store, NAIROBI, Clock(MIDNIGHT + 2 * HOUR)).summarise()

    assert {it.kind: (it.amount, it.unit) for it in await kept_days(store, site)} == {
        "boiler_runtime": (1, "h"),
        "electricity": (25, "kWh"),
        "diesel": (10, "litres"),
    }


async def test_records_that_come_late_are_worked_in_and_no_day_beside_them_loses(store: Store, site: Site) -> None:
    """The step that a late record cuts in two spans four days, and each of them changes."""
    clock = Clock(MIDNIGHT + 97 * HOUR)
    keeper = MeterKeeper(store, NAIROBI, clock)
    await send(store, "dev-001", [at(-12, 0), at(0, 0), at(96, 960), at(97, 970)], clock.now)
    await keeper.summarise()
    assert await kept_amounts(store, site) == pytest.approx({-1: 0, 0: 240, 1: 240, 2: 240, 3: 240, 4: 10})

    clock.now += HOUR
    await send(store, "dev-001", [at(36, 720)], clock.now)
    await keeper.summarise()

    assert await kept_amounts(store, site) == pytest.approx({-1: 0, 0: 480, 1: 240 + 48, 2: 96, 3: 96, 4: 10})


async def test_a_device_that_was_silent_for_days_fills_them_when_it_is_back(store: Store, site: Site) -> None:
    clock = Clock(MIDNIGHT + HOUR)
    keeper = MeterKeeper(store, NAIROBI, clock)
    await send(store, "dev-001", [at(0, 0), at(1, 10)], clock.now)
    await keeper.summarise()

    clock.now = MIDNIGHT + 73 * HOUR
    await send(store, "dev-001", [at(73, 730)], clock.now)
    await keeper.summarise()

    assert await kept_amounts(store, site) == pytest.approx({0: 240, 1: 240, 2: 240, 3: 10})


async def test_without_new_records_nothing_is_written(store: Store, site: Site) -> None:
    clock = Clock(MIDNIGHT + 2 * HOUR)
    keeper = MeterKeeper(store, NAIROBI, clock)
    await send(store, "dev-001", [at(0, 0), at(1, 10)], clock.now)
    await keeper.summarise()

    clock.now += 2 * HOUR
    await keeper.summarise()  # looks once more at the last hour
    clock.now += 2 * HOUR

    assert await keeper.summarise() == 0


async def test_a_record_that_was_committed_after_a_later_one_is_not_missed(store: Store, site: Site) -> None:
    clock = Clock(MIDNIGHT + 2 * HOUR)
    keeper = MeterKeeper(store, NAIROBI, clock)
    await send(store, "dev-001", [at(0, 0)], clock.now)
    await keeper.summarise()

    await send(store, "dev-001", [at(1, 10)], clock.now - timedelta(minutes=1))
    clock.now += timedelta(minutes=1)
    await keeper.summarise()

    assert await kept_amounts(store, site) == {0: 10}


async def test_what_came_while_the_core_was_away_is_worked_out_after_a_start(store: Store, site: Site) -> None:
    await send(store, "dev-001", [at(0, 0), at(1, 10)], MIDNIGHT + HOUR)

    await MeterKeeper(store, NAIROBI, Clock(MIDNIGHT + LOOK_BACK)).summarise()

    assert await kept_amounts(store, site) == {0: 10}


async def test_what_waited_for_days_in_a_parked_device_is_worked_in_within_a_day(store: Store, site: Site) -> None:
    clock = Clock(MIDNIGHT + 5 * DAY)
    keeper = MeterKeeper(store, NAIROBI, clock)
    await keeper.summarise()
    await send(store, "dev-001", [at(0, 0), at(1, 10)], MIDNIGHT + HOUR)
    clock.now += HOUR
    assert await keeper.summarise() == 0

    clock.now += DAY
    await keeper.summarise()

    assert await kept_amounts(store, site) == {0: 10}


async def test_a_device_that_is_not_registered_any_more_has_no_days(store: Store, site: Site) -> None:
    await send(store, "dev-001", [at(0, 0), at(1, 10)], MIDNIGHT + HOUR)
    await store.remove_device("dev-001")

    assert await MeterKeeper(store, NAIROBI, Clock(MIDNIGHT + 2 * HOUR)).summarise() == 0


async def test_days_that_are_written_stay_with_their_factory_when_the_device_moves(store: Store, site: Site) -> None:
    (there,) = await register(store, "dev-002", factory_name="Mungania")
    clock = Clock(MIDNIGHT + 2 * HOUR)
    await send(store, "dev-001", [at(0, 0), at(1, 10)], clock.now)
    await MeterKeeper(store, NAIROBI, clock).summarise()
    await store.change_device("dev-001", stack_id=there.stack.id)
    clock.now += DAY
    await send(store, "dev-001", [at(24, 10), at(25, 20)], clock.now)

    await MeterKeeper(store, NAIROBI, clock).summarise()

    assert await kept_amounts(store, site) == {0: 10}
    assert await kept_amounts(store, there) == {1: 10}


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_comes_when_the_days_are_as_if_all_had_come_at_once(store: Store, site: Site, seed: int) -> None:
    """Live and late records, in any order, with looks in between, restarts, resets and single totals that leap."""
    chance = random.Random(seed)
    readings, total, resets = [], 0.0, 0
    for hour in range(0, 24 * 8, 3):
        if chance.random() < 0.04:
            total, resets = 0.0, resets + 1
        total += chance.choice([0.0, 5.0, 40.0])
        shown = 1e9 if chance.random() < 0.04 else total
        readings.append(at(hour + chance.random(), shown, resets))
    expected = {day: found.amount for day, found in daily_amounts(readings, KWH, NAIROBI).items()}
    chance.shuffle(readings)
    clock = Clock(MIDNIGHT + 9 * DAY)
    keeper = MeterKeeper(store, NAIROBI, clock)

    while readings:
        some, readings = readings[:9], readings[9:]
        await send(store, "dev-001", some, clock.now)
        await keeper.summarise()
        clock.now += timedelta(minutes=chance.choice([1, 30]))
        if chance.random() < 0.2:
            keeper = MeterKeeper(store, NAIROBI, clock)

    assert {it.day: it.amount for it in await kept_days(store, site)} == pytest.approx(expected)


# --- as energy entries


def day_of(kind: str, unit: str, amount: float = 81.5) -> MeterDay:
    return MeterDay("dev-001", 7, 3, kind, kind, unit, FIRST, amount, 0, 24, MIDNIGHT, MIDNIGHT + DAY)


def stack(**plan: Any) -> dict[int, Stack]:
    return {3: Stack(3, 7, "Boiler 1", (MonitoringPlan(**plan),))}


@pytest.mark.parametrize(
    ("kind", "unit", "energy_type"),
    [
        ("electricity", "kWh", EnergyType.ELECTRICITY),
        ("genset_electricity", "kWh", EnergyType.GENSET_ELECTRICITY),
        ("diesel", "litres", EnergyType.DIESEL),
    ],
)
def test_a_meters_day_is_an_energy_entry_of_that_local_day(kind: str, unit: str, energy_type: EnergyType) -> None:
    (entry,) = meter_entries([day_of(kind, unit)], stack())

    assert (entry.factory_id, entry.energy_type, entry.amount, entry.unit) == (7, energy_type, 81.5, unit)
    assert (entry.period_start, entry.period_end) == (MIDNIGHT, MIDNIGHT + DAY)
    assert (entry.source, entry.stack_id) == (EntrySource.METER, None)
    assert "dev-001" in entry.evidence


def test_a_meter_that_began_at_noon_says_nothing_of_the_morning() -> None:
    noon = MIDNIGHT + DAY / 2
    readings = [MeterReading(noon + timedelta(hours=hour), {"kwh": 100.0 + hour}) for hour in range(15)]

    days = daily_amounts(readings, METERS[1], NAIROBI)

    assert [(it.begin, it.until) for it in days.values()] == [
        (noon, MIDNIGHT + DAY),
        (MIDNIGHT + DAY, noon + timedelta(hours=14)),
    ]
    (entry,) = meter_entries([replace(day_of("electricity", "kWh"), covered_from=noon)], stack())
    assert (entry.period_start, entry.period_end) == (noon, MIDNIGHT + DAY)


def test_running_time_and_days_without_any_amount_are_no_entries() -> None:
    assert meter_entries([day_of("boiler_runtime", "h"), day_of("electricity", "kWh", 0)], stack()) == []


def test_diesel_burns_into_a_stack_whose_plan_of_that_day_says_so() -> None:
    both = stack(fuels="firewood, diesel")
    assert [it.stack_id for it in meter_entries([day_of("diesel", "litres")], both)] == [3]
    assert [it.stack_id for it in meter_entries([day_of("electricity", "kWh")], both)] == [None]
    later = MonitoringPlan(fuels="firewood,diesel", valid_from=MIDNIGHT + DAY)
    changed = {3: replace(both[3], plans=(MonitoringPlan(), later))}
    assert [it.stack_id for it in meter_entries([day_of("diesel", "litres")], changed)] == [None]
