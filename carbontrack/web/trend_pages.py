"""The trends of a factory: any period, drawn from the tier that fits it, with its gaps and what was substituted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.bookkeeping import month, whole_hours
from carbontrack.emissions.factors import FactorMissing
from carbontrack.ledger import Day, Method
from carbontrack.model import Factory, Stack, TrendPoint
from carbontrack.tiers import local_day
from carbontrack.web.access import EVERYBODY, allow
from carbontrack.web.errors import REFUSALS, Problem
from carbontrack.web.forms import Form, refused, without_blanks
from carbontrack.web.ledger_pages import page_factory
from carbontrack.web.present import SECONDS_PER_HOUR
from carbontrack.web.rest import WRONG, YEARS, Input
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_
from carbontrack.words import gettext as _

MOST_POINTS = 2000
"""Of one chimney: more than a screen has pixels."""
STEPS: Mapping[str, timedelta] = {
    "5min": timedelta(minutes=5),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "month": timedelta(days=31),
}
UNITS: Mapping[str, str] = {"5min": N_("kg/h"), "hour": N_("kg/h"), "day": N_("t/day"), "month": N_("t/month")}
MEASURED = frozenset({Method.MEASURED, Method.NOT_OPERATING})
TITLES: Mapping[str, str] = {
    "5min": N_("5 minutes"),
    "hour": N_("Hours"),
    "day": N_("Days"),
    "month": N_("Months"),
}
FIRST_DAYS = 7
"""What is shown at first."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get("/factory/{slug}/trends", trends_page)
    app.router.add_get("/factory/{slug}/trends.json", trends)


class TrendQuery(Input):
    """Local days, the last one as a whole; without them the last week. ``step`` None: the finest that fits."""

    first_day: date | None = Field(None, alias="from", ge=date(YEARS[0], 1, 2), le=date(YEARS[-1], 1, 1))
    last_day: date | None = Field(None, alias="to", ge=date(YEARS[0], 1, 2), le=date(YEARS[-1], 1, 1))
    step: Literal["5min", "hour", "day", "month"] | None = None


class DataQuery(Input):
    """Any period; ``step`` as in :class:`TrendQuery`."""

    since: datetime = Field(alias="from")
    until: datetime = Field(alias="to")
    step: Literal["5min", "hour", "day", "month"] | None = None


@allow(EVERYBODY)
async def trends_page(request: web.Request) -> web.StreamResponse:
    """The page: the chart draws what :func:`trends` gives; the table is there without JavaScript as well."""
    services, factory = request.app[SERVICES], await page_factory(request)
    chosen = without_blanks(request.query, *request.query)
    today, wrong = services.clock().astimezone(services.time_zone).date(), None
    try:
        query = TrendQuery.model_validate(chosen)
        if query.first_day and query.last_day and query.last_day < query.first_day:
            raise Problem(422, WRONG, (("to", _("must not be before the first day")),))
    except REFUSALS as error:
        wrong, query = refused("filter", chosen, error), TrendQuery()
    last = query.last_day or today
    first = query.first_day or last - timedelta(days=FIRST_DAYS - 1)
    last = max(first, last)
    since, until = local_day(first, services.time_zone)[0], local_day(last, services.time_zone)[1]
    found = await _trend(services, factory, since, min(until, services.clock()), query.step)
    values = {
        "factory": factory,
        "section": "trends",
        "trend": found,
        "rows": found.rows(),
        "filter": wrong
        or Form("filter", {"from": first.isoformat(), "to": last.isoformat(), "step": query.step or ""}),
        "steps": [(name, _(title)) for name, title in TITLES.items() if (until - since) / STEPS[name] <= MOST_POINTS],
        "today": today.isoformat(),
        "presets": [
            (title, (today - timedelta(days=days - 1)).isoformat())
            for title, days in ((N_("Today"), 1), (N_("7 days"), 7), (N_("30 days"), 30), (N_("12 months"), 366))
        ],
    }
    page = render(request, "trends.html", values)
    return wrong.answer(page) if wrong else page


@allow(EVERYBODY)
async def trends(request: web.Request) -> web.StreamResponse:
    """What the chart of a period shows, at most :data:`MOST_POINTS` points of each chimney."""
    services, factory = request.app[SERVICES], await page_factory(request)
    query = DataQuery.model_validate(dict(request.query))
    for name, moment in (("from", query.since), ("to", query.until)):
        if moment.tzinfo is None or moment.year not in YEARS:
            raise Problem(422, WRONG, ((name, _("must be a time with a zone, such as 2026-03-01T12:00:00Z")),))
    since, until = query.since.astimezone(UTC), query.until.astimezone(UTC)
    if not since < until:
        raise Problem(422, WRONG, (("to", _("must be after from")),))
    found = await _trend(services, factory, since, until, query.step)
    return web.json_response(found.shown())


# --- the right tier


@dataclass(frozen=True, slots=True)
class Point:
    """One step of one chimney, in the unit of the trend; None where nothing is known.

    ``substituted`` is what an account counts in place of a measurement, in the same unit.
    """

    start: datetime
    mean: float | None
    least: float | None
    most: float | None
    coverage: float
    substituted: float | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """What is drawn: a series for each chimney, each with a point for every step of [since, until)."""

    step: str
    since: datetime
    until: datetime
    series: Sequence[tuple[Stack, Sequence[Point]]]

    @property
    def unit(self) -> str:
        return UNITS[self.step]

    def rows(self) -> list[dict[str, Any]]:
        """As a table: of each step the point of each chimney, None where there is none."""
        known = [{it.start: it for it in points} for _, points in self.series]
        starts = sorted({start for points in known for start in points})
        return [{"start": start, "points": [points.get(start) for points in known]} for start in starts]

    def shown(self) -> dict[str, Any]:
        """As the browser gets it; times in seconds."""
        return {
            "step": self.step,
            "step_s": STEPS[self.step].total_seconds(),
            "unit": _(self.unit),
            "from": self.since.timestamp(),
            "to": self.until.timestamp(),
            "stacks": [
                {
                    "id": stack.id,
                    "name": stack.name,
                    "points": [
                        [it.start.timestamp(), *map(_rounded, (it.mean, it.least, it.most)), round(it.coverage, 3),
                         _rounded(it.substituted)]
                        for it in points
                    ],
                }
                for stack, points in self.series
            ],
        }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def fitting_step(since: datetime, until: datetime) -> str:
    """The finest step of which a period has not too many."""
    return next((name for name, step in STEPS.items() if (until - since) / step <= MOST_POINTS), "month")


async def _trend(services: Services, factory: Factory, since: datetime, until: datetime, step: str | None) -> Trend:
    chosen = step if step and (until - since) / STEPS[step] <= MOST_POINTS else fitting_step(since, until)
    stacks = await services.store.stacks(factory.id)
    if chosen == "hour":
        found = await _hours(services, factory, since, until)
    else:
        make = {"5min": _five_minutes, "day": _days, "month": _months}[chosen]
        found = await make(services, [stack.id for stack in stacks], since, until)
        # What was before a chimney was monitored is not missing.
        begins, step_of = {stack.id: stack.plans[0].valid_from for stack in stacks}, STEPS[chosen]
        found = {key: [it for it in its if it.start + step_of > begins[key]] for key, its in found.items()}
    return Trend(chosen, since, until, [(stack, found.get(stack.id, [])) for stack in stacks])


Series = dict[int, list[Point]]


async def _five_minutes(services: Services, stack_ids: Sequence[int], since: datetime, until: datetime) -> Series:
    step = STEPS["5min"]
    first = datetime.fromtimestamp(since.timestamp() // step.total_seconds() * step.total_seconds(), UTC)
    known: dict[int, dict[datetime, TrendPoint]] = {stack_id: {} for stack_id in stack_ids}
    for point in await services.store.trend(stack_ids, first, until):
        known[point.stack_id][point.start] = point
    starts = [first + number * step for number in range(int(-(-(until - first) // step)))]
    return {stack_id: [_of_bucket(start, points.get(start)) for start in starts] for stack_id, points in known.items()}


def _of_bucket(start: datetime, found: TrendPoint | None) -> Point:
    if found is None:
        return Point(start, None, None, None, 0.0)
    mean, least, most = map(_per_hour, (found.mean_kg_per_s, found.min_kg_per_s, found.max_kg_per_s))
    return Point(start, mean, least, most, found.coverage)


def _per_hour(kg_per_s: float | None) -> float | None:
    return None if kg_per_s is None else kg_per_s * SECONDS_PER_HOUR


async def _hours(services: Services, factory: Factory, since: datetime, until: datetime) -> Series:
    """Hours with what an account puts in place of those that are not valid; without a factor as they are."""
    try:
        begin, end = whole_hours(since, until)
    except ValueError:
        return {}
    try:
        _account, taken = await services.books.account_with_hours(factory, begin, end)
    except FactorMissing:
        taken = []
    found: Series = {}
    for part in taken:
        found[part.stack.id] = [
            Point(
                it.hour.start,
                it.hour.co2_kg,
                _per_hour(it.hour.min_kg_per_s),
                _per_hour(it.hour.max_kg_per_s),
                it.hour.coverage,
                None if it.method in MEASURED else it.co2_kg,
            )
            for it in part.hours
        ]
    return found


async def _days(services: Services, stack_ids: Sequence[int], since: datetime, until: datetime) -> Series:
    zone = services.time_zone
    first, last = since.astimezone(zone).date(), (until - timedelta(microseconds=1)).astimezone(zone).date()
    known: dict[int, dict[date, Day]] = {stack_id: {} for stack_id in stack_ids}
    for day in await services.store.days(stack_ids, first, last + timedelta(days=1)):
        known[day.stack_id][day.day] = day
    every = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return {
        stack_id: [_of_day(local_day(day, zone)[0], days.get(day)) for day in every] for stack_id, days in known.items()
    }


def _of_day(start: datetime, found: Day | None) -> Point:
    """A day's mass, as it was measured; its least and most are rates over a whole day."""
    if found is None or not found.coverage:
        return Point(start, None, None, None, 0.0)
    least, most = (
        None if rate is None else rate * 24 * SECONDS_PER_HOUR / 1000
        for rate in (found.min_kg_per_s, found.max_kg_per_s)
    )
    return Point(start, found.measured_kg / 1000, least, most, found.coverage)


async def _months(services: Services, stack_ids: Sequence[int], since: datetime, until: datetime) -> Series:
    days = await _days(services, stack_ids, since, until)
    found: Series = {}
    for stack_id, points in days.items():
        months: dict[datetime, list[Point]] = {}
        for point in points:
            begin, _ = month(point.start.astimezone(services.time_zone).date(), services.time_zone)
            months.setdefault(begin, []).append(point)
        found[stack_id] = [_of_month(begin, its) for begin, its in months.items()]
    return found


def _of_month(start: datetime, days: Sequence[Point]) -> Point:
    masses = [it.mean for it in days if it.mean is not None]
    coverage = sum(it.coverage for it in days) / len(days)
    return Point(start, sum(masses) if masses else None, None, None, coverage)
