"""Headquarters' pages of a whole month or year: the programme's figures, regions, and the calendar of the accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo
from enum import StrEnum
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.bookkeeping import has_submitted, month
from carbontrack.emissions.accounts import CorroborationStatus
from carbontrack.emissions.targets import LEAST_AVAILABILITY
from carbontrack.ledger import StatementKey, TargetStatus
from carbontrack.model import Factory
from carbontrack.months import FactoryMonth, MonthBook, Months, Together, together
from carbontrack.periods import months_later, months_until
from carbontrack.web.access import NETWORK_ROLES, allow
from carbontrack.web.answers import csv_text
from carbontrack.web.ledger_pages import neighbours, page_month
from carbontrack.web.present import NO_VALUE
from carbontrack.web.rest import YEARS, Input
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_
from carbontrack.words import gettext as _

MONTH_BOOK = web.AppKey("month_book", MonthBook)
SHOWN_MONTHS = 12
DUE_DAY = 3
"""A month's account is due on this day of the month after."""
MOST_ALERTS = 1000
NO_REGION = ""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get("/hq/programme", programme_page)
    app.router.add_get("/hq/regions", regions_page)
    app.router.add_get("/hq/calendar", calendar_page)
    app.router.add_get("/hq/calendar.csv", calendar_csv)


def keep_months(app: web.Application, services: Services) -> None:
    """Give the application its accounts by month, for as long as it runs."""
    app[MONTH_BOOK] = MonthBook(services.books, services.clock, shelf=services.shelf)

    async def close(app: web.Application) -> None:
        await app[MONTH_BOOK].close()

    app.on_shutdown.append(close)


async def active_factories(services: Services) -> list[Factory]:
    """All that take part, by name."""
    return sorted((it for it in await services.store.factories() if it.is_active), key=lambda it: it.name)


# --- the programme's figures


@dataclass(frozen=True, slots=True)
class Bar:
    """One month of a row of bars. ``value`` None: nothing is known; ``height`` is in percent of the highest."""

    first: date
    value: float | None
    height: float


@dataclass(frozen=True, slots=True)
class Bars:
    """A row of bars with what it shows."""

    title: str
    unit: str
    digits: int
    bars: Sequence[Bar]

    @property
    def highest(self) -> float:
        return max((it.value for it in self.bars if it.value is not None), default=0.0)


@allow(NETWORK_ROLES)
async def programme_page(request: web.Request) -> web.StreamResponse:
    """How the whole network does in a month, and over the twelve months up to it."""
    services = request.app[SERVICES]
    first, *_span = page_month(request.query.get("month", ""), services)
    factories = await active_factories(services)
    firsts = months_until(first, SHOWN_MONTHS)
    known = await request.app[MONTH_BOOK].ask(factories, firsts)
    ids = [it.id for it in factories]
    rows = [(it, together(len(ids), known.of(ids, it).values())) for it in firsts]
    values = {
        "section": "programme",
        "month": first,
        **neighbours(first, services),
        "known": known,
        "now": rows[-1][1],
        "before": rows[-2][1],
        "open_alerts": len(await services.store.alerts(limit=MOST_ALERTS)),
        "devices": len(await services.store.sites()),
        "rows": rows,
        "charts": _charts(rows),
    }
    return render(request, "programme.html", values)


def _charts(rows: Sequence[tuple[date, Together]]) -> list[Bars]:
    def tonnes(kg: float | None) -> float | None:
        return None if kg is None else kg / 1000

    return [
        _bars(_("Biogenic CO₂"), "t", 1, [(at, tonnes(it.biogenic.kg)) for at, it in rows]),
        _bars(_("Fossil CO₂"), "t", 1, [(at, tonnes(it.fossil.kg)) for at, it in rows]),
        _bars(_("CH₄ and N₂O, as CO₂e"), "t", 1, [(at, tonnes(it.ch4_n2o.kg)) for at, it in rows]),
        _bars(_("Grid electricity, as CO₂e"), "t", 1, [(at, tonnes(it.grid.kg)) for at, it in rows]),
        _bars(_("Firewood for a kg of tea"), "kg/kg", 2, [(at, it.wood_per_tea) for at, it in rows]),
        _bars(
            _("Chimney hours known"), "%", 0, [(at, None if it.known is None else 100 * it.known) for at, it in rows]
        ),
    ]


def _bars(title: str, unit: str, digits: int, values: Sequence[tuple[date, float | None]]) -> Bars:
    highest = max((value for _at, value in values if value is not None), default=0.0) or 1.0
    return Bars(title, unit, digits, [Bar(at, value, 100 * (value or 0.0) / highest) for at, value in values])


# --- regions


SORTS = ("name", "biogenic", "fossil", "ch4_n2o", "grid", "intensity", "coverage", "without")


@allow(NETWORK_ROLES)
async def regions_page(request: web.Request) -> web.StreamResponse:
    """The regions in a month, and the factories of one of them."""
    services = request.app[SERVICES]
    first, *_span = page_month(request.query.get("month", ""), services)
    sort, chosen = request.query.get("sort", "name"), request.query.get("region")
    if sort not in SORTS:
        raise web.HTTPBadRequest(text=_("sort must be one of %(names)s.", names=", ".join(SORTS)))
    factories = await active_factories(services)
    known = await request.app[MONTH_BOOK].ask(factories, [first])
    months = known.of([it.id for it in factories], first)
    regions: dict[str, list[Factory]] = {}
    for factory in factories:
        regions.setdefault(factory.region or NO_REGION, []).append(factory)
    if chosen is not None and chosen not in regions:
        raise web.HTTPNotFound(text=_("There is no such region."))
    rows = [
        {"name": name, "sum": together(len(its), [months[it.id] for it in its if it.id in months])}
        for name, its in regions.items()
    ]
    values = {
        "section": "regions",
        "month": first,
        **neighbours(first, services),
        "known": known,
        "sort": sort,
        "regions": sorted(rows, key=lambda row: _region_order(row, sort)),
        "chosen": chosen,
        "members": [] if chosen is None else [(it, together(1, _one(months, it.id))) for it in regions[chosen]],
    }
    return render(request, "regions.html", values)


def _one(months: Mapping[int, FactoryMonth], factory_id: int) -> list[FactoryMonth]:
    return [months[factory_id]] if factory_id in months else []


def _region_order(row: Mapping[str, Any], sort: str) -> tuple[Any, ...]:
    """Sums the largest first, the intensity the least first; what has no number comes last."""
    found: Together = row["sum"]
    value = {
        "name": None,
        "biogenic": found.biogenic.kg,
        "fossil": found.fossil.kg,
        "ch4_n2o": found.ch4_n2o.kg,
        "grid": found.grid.kg,
        "intensity": None if found.stack_per_tea is None else -found.stack_per_tea,
        "coverage": found.known,
        "without": float(found.factories - found.with_data),
    }[sort]
    by_name = (row["name"] == NO_REGION, len(row["name"]), row["name"])
    return (value is None, -(value or 0.0), *by_name)


# --- the calendar of the accounts


class CellState(StrEnum):
    """What a factory's month comes to: what is to be done first, or that nothing is."""

    REPORTED = "reported"
    COMPLETE = "complete"
    ENTRIES = "entries"
    COVERAGE = "coverage"
    CORROBORATION = "corroboration"
    TARGET = "target"
    PROBLEM = "problem"
    RUNNING = "running"
    UNKNOWN = "unknown"
    NOT_MONITORED = "not_monitored"
    FUTURE = "future"


CELL_TITLES: Mapping[CellState, str] = {
    CellState.REPORTED: N_("Reported"),
    CellState.COMPLETE: N_("Complete, not reported yet"),
    CellState.ENTRIES: N_("Entries are missing"),
    CellState.COVERAGE: N_("Too little is measured"),
    CellState.CORROBORATION: N_("Measurement and fuel do not agree"),
    CellState.TARGET: N_("Target missed"),
    CellState.PROBLEM: N_("No account"),
    CellState.RUNNING: N_("Not over yet"),
    CellState.UNKNOWN: N_("Being worked out"),
    CellState.NOT_MONITORED: N_("Not monitored yet"),
    CellState.FUTURE: N_("Not due yet"),
}
CELL_SYMBOLS: Mapping[CellState, str] = {
    CellState.REPORTED: "✓",
    CellState.COMPLETE: "○",
    CellState.ENTRIES: "E",
    CellState.COVERAGE: "%",
    CellState.CORROBORATION: "≠",
    CellState.TARGET: "↑",
    CellState.PROBLEM: "!",
    CellState.RUNNING: "…",
    CellState.UNKNOWN: "?",
    CellState.NOT_MONITORED: NO_VALUE,
    CellState.FUTURE: "·",
}
"""No letter of these is a word's: they are the same in every language, and the legend says what they mean."""
TO_LOOK_AT = frozenset({CellState.ENTRIES, CellState.COVERAGE, CellState.CORROBORATION, CellState.TARGET})
"""What is worth a word also when the month is reported."""
LINKED = frozenset(CellState) - {CellState.NOT_MONITORED, CellState.FUTURE}


@dataclass(frozen=True, slots=True)
class CalendarCell:
    """One factory's month. ``notes`` are all that there is to say of it; ``version`` is that of what was reported."""

    first: date
    state: CellState
    notes: tuple[str, ...] = ()
    version: int | None = None
    overdue: bool = False

    @property
    def symbol(self) -> str:
        return CELL_SYMBOLS[self.state]

    @property
    def is_linked(self) -> bool:
        return self.state in LINKED

    @property
    def text(self) -> str:
        """In words, for who does not see it."""
        parts = [_(CELL_TITLES[self.state]), *(_(note) for note in self.notes)]
        return "; ".join([*parts, _("overdue")] if self.overdue else parts)


def due_on(first: date) -> date:
    """When the account of a month is due."""
    return (first + timedelta(days=32)).replace(day=DUE_DAY)


def calendar_cell(first: date, found: FactoryMonth | None, version: int | None, today: date) -> CalendarCell:
    """What a factory's month comes to. ``version``: of what was reported of it; None: nothing was. Pure."""
    if first >= today.replace(day=1):
        return CalendarCell(first, CellState.FUTURE if first > today else CellState.RUNNING)
    issues = _issues(found)
    if version is not None:
        notes = tuple(CELL_TITLES[it] for it in issues if it in TO_LOOK_AT)
        return CalendarCell(first, CellState.REPORTED, notes, version)
    state, *others = issues or [CellState.COMPLETE]
    notes = tuple(CELL_TITLES[it] for it in others)
    if state is CellState.PROBLEM and found is not None:
        notes = (found.problem,)
    is_due = state not in {CellState.UNKNOWN, CellState.NOT_MONITORED}
    return CalendarCell(first, state, notes, overdue=is_due and today > due_on(first))


def _issues(found: FactoryMonth | None) -> list[CellState]:
    """What an account lacks, what is to be done first before the rest."""
    if found is None:
        return [CellState.UNKNOWN]
    account = found.account
    if account is None:
        return [CellState.PROBLEM if found.problem else CellState.NOT_MONITORED]
    tests = {
        CellState.ENTRIES: not has_submitted(account),
        CellState.COVERAGE: account.availability is None or account.availability < LEAST_AVAILABILITY,
        CellState.CORROBORATION: account.corroboration.status is CorroborationStatus.OUTSIDE,
        CellState.TARGET: found.target is TargetStatus.NOT_MET,
    }
    return [state for state, is_so in tests.items() if is_so]


@dataclass(frozen=True, slots=True)
class Calendar:
    """A year of all factories, and what is due next."""

    year: int
    months: Sequence[date]
    rows: Sequence[tuple[Factory, Sequence[CalendarCell]]]
    known: Months
    due: date
    """The day on which the last month that is over is due, or was."""
    due_month: date
    is_overdue: bool
    waiting: Sequence[tuple[Factory, CalendarCell]]
    """Who has not reported that month."""
    expected: int
    """How many were monitored in it."""


class CalendarQuery(Input):
    """A year; without one, this year."""

    year: int | None = Field(None, ge=YEARS[0], le=YEARS[-1])
    format: Literal["csv"] | None = None


@allow(NETWORK_ROLES)
async def calendar_page(request: web.Request) -> web.StreamResponse:
    """Each factory's months of a year: what is reported, complete, missing or wrong."""
    found = await _calendar(request)
    this_year = request.app[SERVICES].clock().astimezone(request.app[SERVICES].time_zone).year
    values = {
        "section": "calendar",
        "calendar": found,
        "known": found.known,
        "this_year": this_year,
        "legend": [(it, CELL_SYMBOLS[it], CELL_TITLES[it]) for it in CellState],
        "years": YEARS,
    }
    return render(request, "calendar.html", values)


@allow(NETWORK_ROLES)
async def calendar_csv(request: web.Request) -> web.StreamResponse:
    """The same as a table."""
    found = await _calendar(request)
    rows = [
        {
            "month": f"{cell.first:%Y-%m}",
            "factory": factory.name,
            "region": factory.region,
            "state": cell.state.value,
            "text": cell.text,
            "reported_version": cell.version,
            "due": due_on(cell.first).isoformat(),
            "overdue": cell.overdue,
        }
        for factory, cells in found.rows
        for cell in cells
    ]
    columns = ("month", "factory", "region", "state", "text", "reported_version", "due", "overdue")
    return csv_file(rows, columns, f"carbontrack-calendar-{found.year}")


def csv_file(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], name: str) -> web.Response:
    """Rows as a file to keep."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return web.Response(text=csv_text(rows, columns), content_type="text/csv", charset="utf-8", headers=headers)


async def _calendar(request: web.Request) -> Calendar:
    services = request.app[SERVICES]
    query = CalendarQuery.model_validate({name: value for name, value in request.query.items() if value})
    today = services.clock().astimezone(services.time_zone).date()
    year = query.year or today.year
    firsts = [date(year, number, 1) for number in range(1, 13)]
    last_over = months_later(today, -1)
    factories = await active_factories(services)
    known = await request.app[MONTH_BOOK].ask(factories, [*firsts, last_over])
    reported = _reported(await services.store.statement_keys(), services.time_zone)

    def cell(factory: Factory, first: date) -> CalendarCell:
        key = factory.id, first
        return calendar_cell(first, known.found.get(key), reported.get(key), today)

    last = [(it, cell(it, last_over)) for it in factories]
    expected = [it for it in last if it[1].state is not CellState.NOT_MONITORED]
    return Calendar(
        year=year,
        months=firsts,
        rows=[(it, [cell(it, first) for first in firsts]) for it in factories],
        known=known,
        due=due_on(last_over),
        due_month=last_over,
        is_overdue=today > due_on(last_over),
        waiting=[it for it in expected if it[1].state is not CellState.REPORTED],
        expected=len(expected),
    )


def _reported(keys: Sequence[StatementKey], zone: tzinfo) -> dict[tuple[int, date], int]:
    """The newest version of what was reported of whole months, by factory and month."""
    found: dict[tuple[int, date], int] = {}
    for key in keys:
        first = key.period_start.astimezone(zone).date()
        if (key.period_start, key.period_end) == month(first, zone):
            place = key.factory_id, first
            found[place] = max(found.get(place, 0), key.version)
    return found
