"""Factories beside each other: two to six of them, one measure, by month or by day, as lines and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import fsum
from typing import Any

from aiohttp import web

from carbontrack.bookkeeping import month
from carbontrack.ledger import Day, Metric
from carbontrack.model import Factory, Stack
from carbontrack.months import Months
from carbontrack.periods import months_until
from carbontrack.tiers import local_day
from carbontrack.web.access import NETWORK_ROLES, allow
from carbontrack.web.network_pages import MONTH_BOOK, active_factories, csv_file
from carbontrack.web.rest import day_in
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_
from carbontrack.words import gettext as _

FEWEST, MOST = 2, 6
MOST_MONTHS = 36
FIRST_MONTHS = 12
HOURS_A_DAY = 24
STEPS: Mapping[str, str] = {"month": N_("Months"), "day": N_("Days")}


@dataclass(frozen=True, slots=True)
class Measure:
    """What can be compared. ``by_day``: days have it as well; what people enter is known by month only."""

    title: str
    unit: str
    digits: int
    by_day: bool
    about: str


MEASURES: Mapping[str, Measure] = {
    "intensity": Measure(
        N_("CO₂ for a kg of tea"), "kg CO₂/kg", 2, False,
        N_("Chimney CO₂ of each month's account, with what stands in for hours that are not valid, over made tea."),
    ),
    "wood": Measure(
        N_("Firewood for a kg of tea"), "kg/kg", 2, False, N_("As entered, over the made tea of the same month.")
    ),
    "co2": Measure(
        N_("Chimney CO₂"), "t", 1, True,
        N_("As measured: hours that were not measured count nothing, so look at the coverage as well."),
    ),
    "coverage": Measure(N_("Coverage"), "%", 0, True, N_("How much of the time was measured, of all chimneys.")),
    "hours": Measure(
        N_("Running hours"), "h", 0, True, N_("How long the boilers ran, as measured, of all chimneys together.")
    ),
}  # fmt: skip


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get("/hq/compare", compare_page)
    app.router.add_get("/hq/compare.csv", compare_csv)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be compared. ``wrong``: why it cannot be."""

    factories: Sequence[Factory]
    measure: str
    step: str
    first: date
    """First day of the first month."""
    last: date
    """First day of the last month."""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A value for each factory and step, None where there is none. ``known`` is set where it rests on accounts."""

    question: Question
    steps: Sequence[date]
    values: Sequence[Sequence[float | None]]
    """Of each factory, a value for each step."""
    known: Months | None = None

    def rows(self) -> list[tuple[date, list[float | None]]]:
        """As a table: of each step the factories' values."""
        return [(at, [values[place] for values in self.values]) for place, at in enumerate(self.steps)]


@allow(NETWORK_ROLES)
async def compare_page(request: web.Request) -> web.StreamResponse:
    """The form, and what was asked for as a chart with its table; the address has all of it, so that it can be sent."""
    services = request.app[SERVICES]
    everybody = await active_factories(services)
    asked = _question(request, everybody)
    found = await _compare(request, asked) if len(asked.factories) >= FEWEST and not asked.wrong else None
    values = {
        "section": "compare",
        "factories": everybody,
        "asked": asked,
        "slugs": {it.slug for it in asked.factories},
        "measures": MEASURES,
        "measure": MEASURES[asked.measure],
        "steps": STEPS,
        "found": found,
        "known": found.known if found is not None else None,
        "chart": None if found is None else _chart(found, services),
        "csv_url": str(request.rel_url.with_path("/hq/compare.csv").with_query(request.rel_url.query)),
        "most": MOST,
        "fewest": FEWEST,
    }
    page = render(request, "compare.html", values)
    if asked.wrong:
        page.set_status(422)
    return page


@allow(NETWORK_ROLES)
async def compare_csv(request: web.Request) -> web.StreamResponse:
    """The same as a file: a row for each step and factory."""
    asked = _question(request, await active_factories(request.app[SERVICES]))
    if asked.wrong or len(asked.factories) < FEWEST:
        raise web.HTTPBadRequest(text=asked.wrong or _too_few())
    found = await _compare(request, asked)
    if found.known is not None and found.known.missing:
        raise web.HTTPServiceUnavailable(
            text=_("The accounts are still being worked out. Try again in a minute."), headers={"Retry-After": "10"}
        )
    measure = MEASURES[asked.measure]
    rows = [
        {"from": at.isoformat(), "step": asked.step, "factory": factory.name, "measure": asked.measure,
         "value": None if value is None else round(value, 6), "unit": measure.unit}
        for at, values in found.rows()
        for factory, value in zip(asked.factories, values, strict=True)
    ]  # fmt: skip
    name = f"carbontrack-compare-{asked.measure}-{asked.first:%Y-%m}-{asked.last:%Y-%m}"
    return csv_file(rows, ("from", "step", "factory", "measure", "value", "unit"), name)


def _too_few() -> str:
    return _("Choose %(fewest)s to %(most)s factories.", fewest=FEWEST, most=MOST)


def _question(request: web.Request, everybody: Sequence[Factory]) -> Question:
    """What the address asks for; what cannot be is said, and the rest of it is kept."""
    services, query = request.app[SERVICES], request.query
    this_month = services.clock().astimezone(services.time_zone).date().replace(day=1)
    by_slug = {it.slug: it for it in everybody}
    slugs = list(dict.fromkeys(query.getall("factory", [])))
    chosen = [by_slug[slug] for slug in slugs if slug in by_slug]
    wrong = "" if len(chosen) == len(slugs) else _("One of these factories is not there any more.")
    if len(chosen) > MOST or (slugs and len(chosen) < FEWEST):
        wrong = _too_few()
    measure, step = query.get("measure", "intensity"), query.get("step") or "month"
    if measure not in MEASURES or step not in STEPS:
        wrong, measure, step = _("Choose one of the measures and steps that the form offers."), "intensity", "month"
    if not MEASURES[measure].by_day:
        step = "month"
    try:
        last = min(_month_in(query.get("to", "")) or this_month, this_month)
        shown = FIRST_MONTHS if step == "month" else 1
        first = _month_in(query.get("from", "")) or months_until(last, shown)[0]
    except ValueError:
        wrong = _("Write months such as 2026-03.")
        first, last = months_until(this_month, FIRST_MONTHS)[0], this_month
    if not 0 <= _months_between(first, last) < MOST_MONTHS:
        wrong = _("The first month must be before the last, and not more than %(count)s months.", count=MOST_MONTHS)
        first = months_until(last, FIRST_MONTHS)[0]
    return Question(chosen[:MOST], measure, step, first, last, wrong)


def _month_in(text: str) -> date | None:
    return day_in(f"{text}-01") if text else None


def _months_between(first: date, last: date) -> int:
    return (last.year - first.year) * 12 + last.month - first.month


async def _compare(request: web.Request, asked: Question) -> Comparison:
    services = request.app[SERVICES]
    firsts = months_until(asked.last, _months_between(asked.first, asked.last) + 1)
    if not MEASURES[asked.measure].by_day:
        known = await request.app[MONTH_BOOK].ask(asked.factories, firsts)
        metric = {"intensity": Metric.STACK_CO2_PER_TEA, "wood": Metric.WOOD_PER_TEA}[asked.measure]
        return Comparison(
            asked,
            firsts,
            [[_of_account(known, it.id, first, metric) for first in firsts] for it in asked.factories],
            known,
        )
    today = services.clock().astimezone(services.time_zone).date()
    end = min(firsts[-1] + timedelta(days=32), today + timedelta(days=33)).replace(day=1)
    days = [
        firsts[0] + timedelta(days=number) for number in range((min(end, today + timedelta(days=1)) - firsts[0]).days)
    ]
    steps = firsts if asked.step == "month" else days
    groups = {at: [day for day in days if day.replace(day=1) == at] for at in firsts}
    parts = [groups[at] for at in firsts] if asked.step == "month" else [[day] for day in days]
    values = [await _of_days(services, it, parts, asked.measure) for it in asked.factories]
    return Comparison(asked, steps, values)


def _of_account(known: Months, factory_id: int, first: date, metric: Metric) -> float | None:
    found = known.found.get((factory_id, first))
    return None if found is None or found.account is None else found.account.intensities[metric]


async def _of_days(
    services: Services, factory: Factory, parts: Sequence[Sequence[date]], measure: str
) -> list[float | None]:
    """A measure of each part, a day or the days of a month, by what the summaries of days say."""
    stacks = await services.store.stacks(factory.id)
    begins = {it.id: it.plans[0].valid_from.astimezone(services.time_zone).date() for it in _dated(stacks)}
    found: dict[date, dict[int, Day]] = {}
    for day in await services.store.days([it.id for it in stacks], parts[0][0], parts[-1][-1] + timedelta(days=1)):
        found.setdefault(day.day, {})[day.stack_id] = day
    return [part_value(measure, part, found, {it.id: begins.get(it.id) for it in stacks}) for part in parts]


def _dated(stacks: Sequence[Stack]) -> list[Stack]:
    """Those whose first plan has a date that any time zone can write; others are monitored from ever."""
    return [it for it in stacks if it.plans[0].valid_from.year > 1]


def part_value(
    measure: str, days: Sequence[date], found: Mapping[date, Mapping[int, Day]], begins: Mapping[int, date | None]
) -> float | None:
    """A measure of some days together; None where no chimney was monitored, or nothing measured. Pure."""
    due = [(day, stack_id) for day in days for stack_id, begin in begins.items() if begin is None or begin <= day]
    here = [found.get(day, {}).get(stack_id) for day, stack_id in due]
    there = [it for it in here if it is not None and it.coverage]
    if measure == "coverage":
        return 100 * fsum(it.coverage for it in there) / len(due) if due else None
    if not there:
        return None
    return fsum(it.measured_kg for it in there) / 1000 if measure == "co2" else fsum(it.operating_h for it in there)


def _chart(found: Comparison, services: Services) -> dict[str, Any]:
    """As the browser gets it; times in seconds."""
    asked, measure = found.question, MEASURES[found.question.measure]
    starts = [
        (
            month(at, services.time_zone)[0] if asked.step == "month" else local_day(at, services.time_zone)[0]
        ).timestamp()
        for at in found.steps
    ]
    return {
        "title": _(measure.title),
        "unit": measure.unit,
        "digits": measure.digits,
        "step": asked.step,
        "times": starts,
        "series": [
            {"name": factory.name, "values": [None if it is None else round(it, 4) for it in values]}
            for factory, values in zip(asked.factories, found.values, strict=True)
        ],
    }
