"""Months of a store as if devices had measured and clerks had entered them: for pages that look back over a year.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from carbontrack.bookkeeping import month
from carbontrack.ledger import Cause, Day, EnergyEntry, EnergyType, Hour, HourStatus, ProductionEntry
from carbontrack.model import Origin
from carbontrack.store import Store
from carbontrack.store.tiers import TierWork

ZONE = ZoneInfo("Africa/Nairobi")
CLERK = Origin("clerk@example.org")
HOUR = timedelta(hours=1)
RATE_KG_PER_S = 0.1
FIRING_H = 18
"""Hours of each day in which the boiler runs."""


async def measure(
    store: Store,
    stack_id: int,
    first: date,
    *,
    kg_per_s: float = RATE_KG_PER_S,
    share: float = 1.0,
    until: datetime | None = None,
) -> None:
    """A month of hours and days, of whose days the first ``share`` was measured and nothing of the rest."""
    start, end = month(first, ZONE)
    end = min(end, until or end)
    days = int((end - start) / timedelta(days=1) * share + 1e-6)
    work = TierWork()
    for number in range(days):
        begin = start + number * timedelta(days=1)
        work.hours += list(_hours(stack_id, begin, kg_per_s))
        kg = FIRING_H * 3600 * kg_per_s
        work.days.append(
            Day(stack_id, begin.astimezone(ZONE).date(), FIRING_H, 24 - FIRING_H, 0, float(FIRING_H), 1.0, kg, kg,
                kg_per_s, kg_per_s, kg_per_s, 8640, 0)
        )  # fmt: skip
    await store.write_tiers(work, end)


def _hours(stack_id: int, begin: datetime, kg_per_s: float) -> Iterator[Hour]:
    for number in range(24):
        runs = number < FIRING_H
        kg = 3600 * kg_per_s if runs else 0.0
        rate = kg_per_s if runs else None
        status = HourStatus.VALID if runs else HourStatus.NOT_OPERATING
        yield Hour(
            stack_id, begin + number * HOUR, status, Cause.NONE, kg, kg, 1.0 if runs else 0.0, 1.0, rate,
            0.1 if runs else None, 1.0 if runs else None, 200.0 if runs else None, rate, 360, 0, 0, "test", "share",
            rate, rate,
        )  # fmt: skip


async def enter(
    store: Store, factory_id: int, first: date, *, wood_kg: float | None, tea_kg: float | None, diesel_l: float = 0.0
) -> None:
    """What a clerk has entered of a month; None: nothing."""
    start, end = month(first, ZONE)
    now = datetime.now(UTC)
    if wood_kg is not None:
        wood = EnergyEntry(0, 1, factory_id, EnergyType.FIREWOOD, wood_kg, "kg", start, end, moisture=0.3)
        await store.add_energy_entry(wood, CLERK, now)
    if diesel_l:
        diesel = EnergyEntry(0, 1, factory_id, EnergyType.DIESEL, diesel_l, "litres", start, end)
        await store.add_energy_entry(diesel, CLERK, now)
    if tea_kg is not None:
        tea = ProductionEntry(0, 1, factory_id, start, end, tea_kg * 4.5, tea_kg, "factory book")
        await store.add_production_entry(tea, CLERK, now)
