"""The hours of a chimney, day by day: the end of the way from a report's figure to what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from aiohttp import web

from carbontrack.bookkeeping import month
from carbontrack.emissions.accounts import StackInput
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.gas import CO2_KG_PER_NM3
from carbontrack.emissions.hours import HOUR_S, LEAD_IN_MS
from carbontrack.emissions.rate import plan_in_force
from carbontrack.ledger import AccountHour, Cause, HourStatus, Method
from carbontrack.model import Factory, MonitoringPlan, Stack
from carbontrack.web.access import EVERYBODY, allow
from carbontrack.web.forms import number_in
from carbontrack.web.ledger_pages import METHOD_TITLES, page_factory
from carbontrack.web.present import flag_texts
from carbontrack.web.rest import day_in
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_, gettext

DAY = timedelta(days=1)
STATUS_TITLES: Mapping[HourStatus, str] = {
    HourStatus.VALID: N_("Valid"),
    HourStatus.NOT_OPERATING: N_("Boiler off"),
    HourStatus.INVALID: N_("Not valid"),
    HourStatus.MISSING: N_("Nothing known"),
}
CAUSE_TITLES: Mapping[Cause, str] = {
    Cause.NONE: "",
    Cause.MAINTENANCE: N_("maintenance"),
    Cause.MALFUNCTION: N_("a sensor's fault"),
    Cause.CALIBRATION: N_("calibration or warming up"),
    Cause.OVER_RANGE: N_("more CO2 than the analyser can read"),
    Cause.UNFIT_SENSOR: N_("the analyser's range is too small for flue gas"),
    Cause.STUCK: N_("a value that does not move"),
    Cause.IMPLAUSIBLE: N_("values that cannot be"),
    Cause.CO2_LOST: N_("hot gas without CO2: the sample line leaks, or the pump stands"),
    Cause.NO_DATA: N_("no readings"),
}
METHOD_TEXTS: Mapping[Method, str] = {
    Method.MEASURED: N_("Mean rate while the boiler ran, times the time that it ran (calculation, step 11)."),
    Method.NOT_OPERATING: N_("The boiler was off all the hour: zero is what was measured."),
    Method.MRR_CONCENTRATION: N_(
        "The flow was measured and the CO2 was not. In its place stands the mean of the valid hours' concentrations "
        "plus two standard deviations (Regulation (EU) 2018/2066, Article 45(3))."
    ),
    Method.MRR_RATE: N_(
        "The flow is lost, and no fuel is entered. In its place stands the mean of the valid hours' rates plus two "
        "standard deviations."
    ),
    Method.MASS_BALANCE: N_(
        "CO2 of the fuel that was entered for this time, by the hours that the boiler ran (Regulation (EU) 2018/2066, "
        "Article 45(4))."
    ),
    Method.EPA_BEFORE_AFTER: N_("Mean of the valid hours before and after the gap (40 CFR 75.33(b))."),
    Method.EPA_P90: N_("The 90th percentile of the last 720 valid hours (40 CFR 75.33(b))."),
    Method.EPA_P95: N_("The 95th percentile of the last 720 valid hours (40 CFR 75.33(b))."),
    Method.EPA_MAXIMUM: N_("The highest of the last 720 valid hours (40 CFR 75.33(b))."),
    Method.EPA_POTENTIAL: N_("The most that the chimney can emit (40 CFR 75.33(b), 75 appendix A)."),
    Method.NONE: N_(
        "The boiler ran and there is nothing to work a value out from: no valid hour, and no fuel is entered."
    ),
}
PLAN_UNITS: Mapping[str, str] = {
    "m": "m", "mm": "mm", "ppm": "ppm", "c": "°C", "ms": "m/s", "s": "s", "m2": "m²", "fraction": "mol/mol",
}  # fmt: skip
"""By the last word of a plan's names."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get("/factory/{slug}/hours", hours_page)


@allow(EVERYBODY)
async def hours_page(request: web.Request) -> web.StreamResponse:
    """The hours of one chimney on one day as its account takes them; ``hour`` has one of them explained."""
    services, factory = request.app[SERVICES], await page_factory(request)
    day = _day(request, services)
    stacks = await services.store.stacks(factory.id)
    wanted = number_in(request.query.get("stack", ""))
    stack = next((it for it in stacks if it.id == wanted), stacks[0] if stacks and wanted is None else None)
    if wanted is not None and stack is None:
        raise web.HTTPNotFound(text=gettext("There is no such chimney at this factory."))
    values: dict[str, Any] = {
        "factory": factory,
        "section": "account",
        "stacks": stacks,
        "stack": stack,
        "day": day,
        "month": f"{day:%Y-%m}",
        "previous": day - DAY,
        "following": day + DAY if day < services.clock().astimezone(services.time_zone).date() else None,
        "hours": [],
        "explained": None,
    }
    if stack is not None:
        hours = await _hours(services, factory, stack, day)
        chosen = number_in(request.query.get("hour", ""))
        explained = next((it for it in hours if _local_hour(it, services) == chosen), None)
        values["hours"] = [_row(it, services) for it in hours]
        if explained is not None:
            values["explained"] = await _explained(explained, stack, services)
    return render(request, "hours.html", values)


def _day(request: web.Request, services: Services) -> date:
    today = services.clock().astimezone(services.time_zone).date()
    text = request.query.get("day", "")
    try:
        day = day_in(text) if text else today
    except ValueError:
        raise web.HTTPBadRequest(text=N_("day must be one such as 2026-03-01.")) from None
    if day > today:
        raise web.HTTPBadRequest(text=N_("That day has not begun yet."))
    return day


async def _hours(services: Services, factory: Factory, stack: Stack, day: date) -> Sequence[AccountHour]:
    """The hours of a day out of the account of its month: what stands in for one rests on the others."""
    zone = services.time_zone
    first, end = month(day, zone)
    until = min(end, services.clock())
    if until - first < timedelta(hours=1):
        return ()
    try:
        _, inputs = await services.books.account_with_hours(factory, first, until)
    except FactorMissing as missing:
        raise web.HTTPConflict(text=str(missing)) from None
    found: StackInput | None = next((it for it in inputs if it.stack.id == stack.id), None)
    begin, over = (datetime.combine(it, time(), zone).astimezone(UTC) for it in (day, day + DAY))
    return [it for it in found.hours if begin <= it.hour.start < over] if found else ()


def _local_hour(taken: AccountHour, services: Services) -> int:
    return taken.hour.start.astimezone(services.time_zone).hour


def _row(taken: AccountHour, services: Services) -> dict[str, Any]:
    cause = CAUSE_TITLES[taken.hour.cause]
    return {
        "at": _local_hour(taken, services),
        "taken": taken,
        "hour": taken.hour,
        "method": gettext(METHOD_TITLES[taken.method]),
        "status": gettext(STATUS_TITLES[taken.hour.status]),
        "cause": gettext(cause) if cause else "",
        "is_measured": taken.method in {Method.MEASURED, Method.NOT_OPERATING},
    }


async def _explained(taken: AccountHour, stack: Stack, services: Services) -> dict[str, Any]:
    """Everything that one hour's value rests on."""
    hour = taken.hour
    earlier = await services.store.earlier_versions(stack.id, hour.start, hour.start + timedelta(hours=1))
    plan = plan_in_force(stack.plans, hour.start.timestamp())
    return {
        **_row(taken, services),
        "text": gettext(METHOD_TEXTS[taken.method]),
        "terms": _terms(taken),
        "flags": flag_texts(hour.flags),
        "lead_in_min": LEAD_IN_MS // 60_000,
        "versions": [
            {"hour": it, "status": gettext(STATUS_TITLES[it.status]), "replaced_at": replaced_at}
            for it, replaced_at in earlier
        ],
        "plan": plan,
        "plan_values": plan_values(plan),
    }


def _terms(taken: AccountHour) -> list[tuple[str, float, str, int]]:
    """The factors whose product is the hour's mass: name, value, unit, digits. None where nothing is multiplied."""
    hour, seconds = taken.hour, (gettext("Seconds of an hour"), float(HOUR_S), "s", 0)
    ran = (gettext("Share of the hour that the boiler ran"), taken.operating_fraction, "", 4)
    if taken.method is Method.NOT_OPERATING or not taken.co2_kg or not taken.operating_fraction:
        return []
    flow = hour.mean_flow_nm3_per_s
    if taken.method is Method.MRR_CONCENTRATION and flow:
        concentration = taken.co2_kg / (CO2_KG_PER_NM3 * flow * HOUR_S * taken.operating_fraction)
        return [
            (gettext("CO2 that stands in, of the wet gas"), concentration, "mol/mol", 5),
            (gettext("Density of CO2 at 0 °C and 101.325 kPa"), CO2_KG_PER_NM3, "kg/Nm³", 4),
            (gettext("Flow of wet gas, as measured"), flow, "Nm³/s", 4),
            seconds,
            ran,
        ]
    rate = taken.co2_kg / (HOUR_S * taken.operating_fraction)
    title = gettext("Mean rate while it ran") if taken.method is Method.MEASURED else gettext("Rate that stands in")
    return [(title, rate, "kg/s", 5), seconds, ran]


def plan_values(plan: MonitoringPlan) -> list[tuple[str, Any, str]]:
    """What a monitoring plan says: name, value and unit, as the API and the reports name them."""
    found = []
    for it in fields(plan):
        value = getattr(plan, it.name)
        if value is not None and it.name not in {"valid_from", "note"}:
            found.append((it.name, value, PLAN_UNITS.get(it.name.rpartition("_")[2], "")))
    return found
