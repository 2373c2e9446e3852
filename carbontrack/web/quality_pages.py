"""The quality of the data, for headquarters: how much of a month was measured, day by day and factory by factory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from aiohttp import web

from carbontrack.ledger import Day
from carbontrack.model import Factory, Stack
from carbontrack.web.access import NETWORK_ROLES, allow
from carbontrack.web.ledger_pages import neighbours, page_month
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import render

HOURS = 24
LEVELS = ((0.95, "full"), (0.8, "enough"), (0.5, "poor"), (0.0, "bad"))
"""How a day is called by the share that was measured; 80 % is what a rank and a report need."""


def add_routes(app: web.Application) -> None:
    """Add this page to the application."""
    app.router.add_get("/hq/quality", quality_page)


@allow(NETWORK_ROLES)
async def quality_page(request: web.Request) -> web.StreamResponse:
    """A month of all active factories, the worst first."""
    services = request.app[SERVICES]
    first, _, end = page_month(request.query.get("month", ""), services)
    now = services.clock()
    today, zone = now.astimezone(services.time_zone).date(), services.time_zone
    last = min((end - timedelta(seconds=1)).astimezone(zone).date(), today - timedelta(days=1))
    stacks: dict[int, list[Stack]] = {}
    for stack in await services.store.stacks():
        stacks.setdefault(stack.factory_id, []).append(stack)
    factories = [it for it in await services.store.factories() if it.is_active and it.id in stacks]
    found: dict[int, dict[date, Day]] = {}
    if last >= first:
        ids = [stack.id for factory in factories for stack in stacks[factory.id]]
        for day in await services.store.days(ids, first, last + timedelta(days=1)):
            found.setdefault(day.stack_id, {})[day.day] = day
    days = [first + timedelta(days=number) for number in range(max(0, (last - first).days + 1))]
    rows = [
        quality_of(
            factory,
            {stack.id: stack.plans[0].valid_from.astimezone(zone).date() for stack in stacks[factory.id]},
            found,
            days,
        )
        for factory in factories
    ]
    values = {
        "section": "quality",
        "month": first,
        **neighbours(first, services),
        "rows": sorted(rows, key=lambda it: (it.coverage is None, it.coverage or 0.0, it.factory.name)),
        "days": days,
        "enough": sum(it.coverage is not None and it.coverage >= LEVELS[1][0] for it in rows),
    }
    return render(request, "quality.html", values)


@dataclass(frozen=True, slots=True)
class Cell:
    """One day of a factory: ``level`` is one of :data:`LEVELS`, or ``none`` before it was monitored."""

    day: date
    coverage: float | None
    level: str


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a factory was measured on the whole days of a period; None where no day was to be measured.

    ``substituted`` is the share of its hours that an account must put something in place of, ``late`` that of the
    readings that came from the devices' stores; ``missing_h`` are chimney hours of which nothing is known.
    """

    factory: Factory
    cells: Sequence[Cell]
    coverage: float | None
    substituted: float | None
    late: float | None
    missing_h: float
    longest_gap_days: int
    """How many days in a row nothing at all was measured."""


def quality_of(
    factory: Factory, monitored_from: Mapping[int, date], found: Mapping[int, Mapping[date, Day]], days: Sequence[date]
) -> Quality:
    """A factory's quality over these days; ``monitored_from`` is by stack, ``found`` by stack and day. Pure."""
    cells, hours, good, known_h, count, late = [], 0, 0, 0.0, 0, 0
    for day in days:
        due = [stack_id for stack_id, begin in monitored_from.items() if begin <= day]
        here = [found.get(stack_id, {}).get(day) for stack_id in due]
        coverage = sum(it.coverage for it in here if it) / len(due) if due else None
        cells.append(Cell(day, coverage, _level(coverage)))
        hours += HOURS * len(due)
        for it in here:
            if it is not None:
                good += it.valid_hours + it.not_operating_hours
                known_h += it.coverage * HOURS
                count, late = count + it.count, late + it.late_count
    return Quality(
        factory,
        cells,
        known_h / hours if hours else None,
        max(0.0, 1 - good / hours) if hours else None,
        late / count if count else None,
        hours - known_h,
        _longest(cells),
    )


def _level(coverage: float | None) -> str:
    return "none" if coverage is None else next(name for least, name in LEVELS if coverage >= least)


def _longest(cells: Sequence[Cell]) -> int:
    longest = now = 0
    for cell in cells:
        now = now + 1 if cell.coverage == 0 else 0
        longest = max(longest, now)
    return longest
