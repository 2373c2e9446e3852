"""The pages of the accounting: a factory's account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from math import fsum
from typing import Any

from aiohttp import web

from carbontrack.bookkeeping import month
from carbontrack.emissions.accounts import REMARKS, Account, CorroborationStatus, StackInput, intensity_u_relative
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.targets import METRIC_UNITS
from carbontrack.emissions.uncertainty import expanded
from carbontrack.ledger import EnergyType, Method, Metric, Statement, Sustainability, WoodOrigin
from carbontrack.model import Factory
from carbontrack.web.access import EVERYBODY, REPORTERS, USER, allow, origin
from carbontrack.web.forms import posted
from carbontrack.web.reader import Reader
from carbontrack.web.rest import day_in
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_, gettext, retold

RECENT = timedelta(days=45)
ENERGY_TITLES = {
    EnergyType.FIREWOOD: N_("Firewood"),
    EnergyType.DIESEL: N_("Diesel"),
    EnergyType.ELECTRICITY: N_("Electricity from the grid"),
    EnergyType.GENSET_ELECTRICITY: N_("Electricity from the generator"),
}
UNIT_TITLES = {
    "kg": N_("kg"),
    "t": N_("t"),
    "m3_stacked": N_("stacked m³"),
    "litres": N_("litres"),
    "kWh": N_("kWh"),
    "MWh": N_("MWh"),
}
EVIDENCE_TITLES = {
    Sustainability.UNKNOWN: N_("Not known"),
    Sustainability.YES: N_("Yes, with documents"),
    Sustainability.NO: N_("No"),
}
ORIGIN_TITLES = {
    WoodOrigin.UNKNOWN: N_("Not known"),
    WoodOrigin.OWN_PLANTATION: N_("Own plantation"),
    WoodOrigin.PURCHASED: N_("Bought"),
}
METHOD_TITLES = {
    Method.MEASURED: N_("Measured"),
    Method.NOT_OPERATING: N_("Boiler off"),
    Method.MRR_CONCENTRATION: N_("CO2 lost: mean + 2 sigma times measured flow"),
    Method.MRR_RATE: N_("Flow lost, no fuel entered: mean + 2 sigma of the rate"),
    Method.MASS_BALANCE: N_("From the fuel of the time"),
    Method.EPA_BEFORE_AFTER: N_("Mean of the hours before and after"),
    Method.EPA_P90: N_("90th percentile of 720 hours"),
    Method.EPA_P95: N_("95th percentile of 720 hours"),
    Method.EPA_MAXIMUM: N_("Highest of 720 hours"),
    Method.EPA_POTENTIAL: N_("The most that the stack can emit"),
    Method.NONE: N_("No value"),
}
METRIC_TITLES = {
    Metric.STACK_CO2_PER_TEA: N_("Stack CO2 per kg made tea"),
    Metric.FOSSIL_CO2E_PER_TEA: N_("Fossil CO2, CH4 and N2O per kg made tea"),
    Metric.GRID_CO2E_PER_TEA: N_("Grid electricity per kg made tea"),
    Metric.WOOD_PER_TEA: N_("Firewood per kg made tea"),
    Metric.STACK_CO2: N_("Stack CO2"),
}
BUDGET_TITLES = {
    "co2": N_("co2"),
    "velocity": N_("velocity"),
    "profile": N_("profile"),
    "area": N_("area"),
    "temperature": N_("temperature"),
    "pressure": N_("pressure"),
    "h2o": N_("h2o"),
}
"""The factors of a rate, as its uncertainty budget has them."""
CORROBORATION_TEXTS = {
    CorroborationStatus.INSIDE: N_("Measurement and fuel agree."),
    CorroborationStatus.OUTSIDE: N_(
        "Measurement and fuel do not agree. Check the entries first, then span and profile."
    ),
    CorroborationStatus.NO_FUEL: N_("No firewood is entered, so nothing checks the measurement."),
    CorroborationStatus.NO_MEASUREMENT: N_("There is no complete measurement to compare with."),
}


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get("/factory/{slug}/account", account_page)
    router.add_post("/factory/{slug}/account", report)


async def page_factory(request: web.Request) -> Factory:
    """The factory whose page it is. Raises HTTPNotFound for one that whoever asks may not see."""
    found = await Reader(request.app[SERVICES], request[USER]).factory(request.match_info["slug"])
    if found is None:
        raise web.HTTPNotFound(text=N_("There is no such factory for you."))
    return found


def page_month(text: str, services: Services) -> tuple[date, datetime, datetime]:
    """The local month that a page shows: its first day, and when it begins and ends (at the latest now)."""
    now = services.clock()
    try:
        first = day_in(f"{text}-01") if text else now.astimezone(services.time_zone).date().replace(day=1)
    except ValueError:
        raise web.HTTPBadRequest(text=N_("month must be one such as 2026-03.")) from None
    start, end = month(first, services.time_zone)
    if start >= now:
        raise web.HTTPBadRequest(text=N_("That month has not begun yet."))
    return first, start, end


def neighbours(first: date, services: Services) -> dict[str, str]:
    """The months before and after one, for links; nothing after the month that has begun last."""
    _start, end = month(first, services.time_zone)
    following = end.astimezone(services.time_zone).strftime("%Y-%m") if end < services.clock() else ""
    return {"previous": (first - timedelta(days=1)).strftime("%Y-%m"), "following": following}


# --- the account


@allow(EVERYBODY)
async def account_page(request: web.Request) -> web.StreamResponse:
    """A month's account of one factory: four numbers apart, and everything that they rest on."""
    return await _account_page(request, await page_factory(request))


async def _account_page(request: web.Request, factory: Factory, error: str = "") -> web.Response:
    services, user = request.app[SERVICES], request[USER]
    first, start, end = page_month(request.query.get("month", ""), services)
    until = min(end, services.clock())
    values: dict[str, Any] = {
        "factory": factory,
        "section": "account",
        "month": first,
        **neighbours(first, services),
        "is_over": end <= services.clock(),
        "may_report": user.role in REPORTERS,
        "error": error,
    }
    if until - start < timedelta(hours=1):
        return render(request, "account.html", values | {"account": None})
    try:
        found, stacks = await services.books.account_with_hours(factory, start, until)
    except FactorMissing as missing:
        raise web.HTTPConflict(text=str(missing)) from None
    statements = [
        it
        for it in await services.store.statements(factory.id)
        if it.period_start == found.period_start and it.period_end == end
    ]
    values |= {
        "account": found,
        "figures": _figures(found),
        "days": _days(stacks, services),
        "methods": METHOD_TITLES,
        "metrics": _metrics(found),
        "targets": [
            {
                "title": METRIC_TITLES[target.metric],
                "target": target,
                "unit": METRIC_UNITS[target.metric],
                "value": value,
                "status": status.value,
            }
            for target, value, status in await services.books.targets_met(found)
        ],
        "remarks": [retold(remark, REMARKS) for remark in found.remarks],
        "budget_titles": BUDGET_TITLES,
        "corroboration_text": CORROBORATION_TEXTS[found.corroboration.status],
        "energy_titles": ENERGY_TITLES,
        "statements": statements,
        "outdated": await _outdated(services, factory, statements),
    }
    return render(request, "account.html", values)


async def _outdated(services: Services, factory: Factory, statements: Sequence[Statement]) -> bool:
    return bool(statements) and await services.books.is_outdated(statements[0], factory)


def _figures(found: Account) -> list[dict[str, Any]]:
    """The four numbers, each with what it is; they are never added up."""
    return [
        {
            "title": N_("Biogenic CO2"),
            "about": N_("From wood, measured in the chimneys. A memo item, in no scope."),
            "figure": found.biogenic_co2,
        },
        {"title": N_("Fossil CO2"), "about": N_("From diesel. Scope 1."), "figure": found.fossil_co2},
        {"title": N_("CH4 and N2O"), "about": N_("Of all fuel, as CO2e. Scope 1."), "figure": found.ch4_n2o_co2e},
        {"title": N_("Grid electricity"), "about": N_("As CO2e, location-based. Scope 2."), "figure": found.grid_co2e},
    ]


def _metrics(found: Account) -> list[dict[str, Any]]:
    rows = []
    for metric, value in found.intensities.items():
        u_relative = intensity_u_relative(found, metric)
        rows.append(
            {
                "title": METRIC_TITLES[metric],
                "value": value,
                "unit": METRIC_UNITS[metric],
                "expanded": None if u_relative is None or value is None else expanded(u_relative) * value,
            }
        )
    return rows


def _days(stacks: Sequence[StackInput], services: Services) -> list[dict[str, Any]]:
    """For the chart: measured and substituted kg of each local day, with the heights of the bars in percent."""
    days: dict[date, dict[str, list[float]]] = {}
    for item in stacks:
        for hour in item.hours:
            day = hour.hour.start.astimezone(services.time_zone).date()
            part = "measured" if hour.method is Method.MEASURED else "substituted"
            days.setdefault(day, {"measured": [], "substituted": []})[part].append(hour.co2_kg or 0.0)
    sums = {day: {part: fsum(masses) for part, masses in parts.items()} for day, parts in days.items()}
    highest = max((sum(parts.values()) for parts in sums.values()), default=0.0) or 1.0
    return [
        {
            "day": day,
            **parts,
            "measured_share": 100 * parts["measured"] / highest,
            "substituted_share": 100 * parts["substituted"] / highest,
        }
        for day, parts in sorted(sums.items())
    ]


@allow(REPORTERS)
async def report(request: web.Request) -> web.StreamResponse:
    """Report the month, or correct what was reported."""
    services, factory = request.app[SERVICES], await page_factory(request)
    form = await posted(request)
    _, start, end = page_month(request.query.get("month", ""), services)
    try:
        await services.books.report(
            factory, start, end, by=origin(request), now=services.clock(), reason=str(form.get("reason", ""))
        )
    except ValueError as error:  # a refusal of the store is one too
        page = await _account_page(request, factory, gettext("Not reported: %(error)s.", error=error))
        page.set_status(409)
        return page
    raise web.HTTPSeeOther(request.path_qs)
