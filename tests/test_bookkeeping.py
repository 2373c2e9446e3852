"""Hours, entries and factors out of a real database become an account; what was reported stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from carbontrack.bookkeeping import Books, month, shipped_factors, whole_hours
from carbontrack.ledger import EnergyEntry, EnergyType, Hour, MeterDay, Method, Metric, ProductionEntry
from carbontrack.model import MonitoringPlan, Origin, Site
from carbontrack.store import Store
from carbontrack.store.tiers import TierWork
from tests.support.world import NOON, register
from tests.test_substitution import valid

pytest_plugins = ["tests.support.world"]

HOUR = timedelta(hours=1)
NOW = NOON + timedelta(days=90)
WOOD_CO2_KG_PER_KG = 13.26425 * 112 / 1000


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def books(store: Store, clock: Clock | None = None) -> Books:
    return Books(store, shipped_factors(), ZoneInfo("Africa/Nairobi"), (0.85, 1.15), clock or Clock())


def hour(site: Site, number: int, rate: float = 0.15) -> Hour:
    return msgspec.structs.replace(valid(number, rate), stack_id=site.stack.id, start=NOON + number * HOUR)


async def keep(store: Store, *hours: Hour) -> None:
    await store.write_tiers(TierWork(hours=list(hours)), NOW)


def wood(site: Site, kg: float, hours: int) -> EnergyEntry:
    return EnergyEntry(
        0, 1, site.factory.id, EnergyType.FIREWOOD, kg, "kg", NOON, NOON + hours * HOUR, moisture=0.25
    )  # fmt: skip


async def test_hours_that_nobody_measured_are_missing_and_filled_from_the_fuel_of_their_time(store: Store) -> None:
    """Four hours, of which one was measured; 1,600 kg of wood were burned in them, 400 kg in each."""
    (site,) = await register(store, "dev-001")
    await keep(store, hour(site, 0), hour(site, 3))
    await store.add_energy_entry(wood(site, 1600, 4), Origin("clerk"), NOW)

    found, (stack,) = await books(store).account_with_hours(site.factory, NOON, NOON + 4 * HOUR)

    assert [it.method for it in stack.hours] == [
        Method.MEASURED, Method.MASS_BALANCE, Method.MASS_BALANCE, Method.MEASURED,
    ]  # fmt: skip
    assert stack.hours[1].co2_kg == pytest.approx(400 * WOOD_CO2_KG_PER_KG)
    assert found.stack_co2.value_kg == pytest.approx(2 * 540 + 2 * 400 * WOOD_CO2_KG_PER_KG)
    assert found.availability == 0.5


async def test_a_stack_counts_from_its_first_plan_on(store: Store) -> None:
    """Registered at two: of the wood of four hours only that of the last two stands against its hours."""
    (site,) = await register(store, "dev-001")
    late = await store.add_stack(site.factory.id, "Boiler 2", MonitoringPlan(valid_from=NOON + 2 * HOUR))
    await store.remove_device("dev-001")
    await keep(store, *(msgspec.structs.replace(hour(site, number), stack_id=late.id) for number in (0, 1, 2)))
    await store.add_energy_entry(replace(wood(site, 1600, 4), stack_id=late.id), Origin("clerk"), NOW)

    _, inputs = await books(store).account_with_hours(site.factory, NOON, NOON + 4 * HOUR)

    stack = next(it for it in inputs if it.stack.id == late.id)
    assert [it.hour.start for it in stack.hours] == [NOON + 2 * HOUR, NOON + 3 * HOUR]
    assert stack.hours[1].co2_kg == pytest.approx(400 * WOOD_CO2_KG_PER_KG)


async def test_the_boilers_own_meter_stands_beside_the_hours_that_were_measured(store: Store) -> None:
    """A day of 9 hours, counted from noon to midnight in Nairobi; of the nine clock hours the account has three."""
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(3)))
    day = MeterDay(
        "dev-001", site.factory.id, site.stack.id, "run_s", "boiler_runtime", "h", NOON.date(), 6.0, 0, 540,
        NOON, NOON + 9 * HOUR,
    )  # fmt: skip
    await store.write_meter_days([day])

    found = await books(store).account(site.factory, NOON, NOON + 3 * HOUR)

    (line,) = found.stacks
    assert line.period.operating_hours == 3
    assert line.runtime_h == pytest.approx(2)


async def test_what_was_reported_stays_and_the_next_version_says_what_the_data_say(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, hour(site, 0), hour(site, 1))
    made = books(store)
    first = await made.report(site.factory, NOON, NOON + 2 * HOUR, by=Origin("m"), now=NOW)
    assert not await made.is_outdated(first, site.factory)

    await keep(store, hour(site, 1, rate=0.2))

    assert await made.is_outdated(first, site.factory)
    second = await made.report(site.factory, NOON, NOON + 2 * HOUR, by=Origin("m"), now=NOW, reason="late data")
    assert (second.version, second.reason) == (2, "late data")
    assert await store.statement(first.id) == first
    assert second.sha256 != first.sha256


async def test_a_leaderboard_is_made_anew_after_five_minutes(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(4)))
    clock = Clock()
    made = books(store, clock)

    async def value() -> float | None:
        rows, _, _ = await made.leaderboard([site.factory], NOON, NOON + 4 * HOUR, Metric.STACK_CO2_PER_TEA)
        return rows[0].value

    assert await value() is None
    tea = ProductionEntry(0, 1, site.factory.id, NOON, NOON + 4 * HOUR, None, 600.0)
    await store.add_production_entry(tea, Origin("clerk"), NOW)
    clock.now = 299
    assert await value() is None
    clock.now = 300
    assert await value() is None, "who asks is shown what there is, and does not wait"
    await eventually_equal(value, 4 * 540 / 600)
    await made.close()


async def eventually_equal(ask: Callable[[], Awaitable[float | None]], wanted: float) -> None:
    for _ in range(500):
        found = await ask()
        if found is not None:
            assert found == pytest.approx(wanted)
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it was never worked out anew")


async def test_many_who_ask_for_a_leaderboard_at_once_have_it_worked_out_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(4)))
    made, asked = books(store), 0
    gather = Books.accounts

    async def counted(*given: Any) -> Any:
        nonlocal asked
        asked += 1
        return await gather(*given)

    monkeypatch.setattr(Books, "accounts", counted)
    period = NOON, NOON + 4 * HOUR
    await asyncio.gather(*(made.leaderboard([site.factory], *period, Metric.STACK_CO2) for _ in range(20)))
    assert asked == 2, "the period, and the one before"
    # An hour later the same month goes an hour further: the old is shown while the new is worked out.
    rows, _, accounts = await made.leaderboard([site.factory], NOON, NOON + 5 * HOUR, Metric.STACK_CO2)
    assert accounts[site.factory.id].period_end == NOON + 4 * HOUR
    assert rows[0].value == pytest.approx(4 * 540)
    await made.close()


def test_a_month_is_that_of_nairobi() -> None:
    begin, end = month(NOON.date(), ZoneInfo("Africa/Nairobi"))

    assert (begin.isoformat(), end.isoformat()) == ("2026-02-28T21:00:00+00:00", "2026-03-31T21:00:00+00:00")


def test_an_account_takes_whole_hours() -> None:
    assert whole_hours(NOON + HOUR / 2, NOON + 2.5 * HOUR) == (NOON + HOUR, NOON + 2 * HOUR)
    with pytest.raises(ValueError, match="at least one whole hour"):
        whole_hours(NOON + HOUR / 2, NOON + HOUR)
