"""A factory's wood and fire: wood for a kg of tea, air and losses of its fires, and what could be saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal

from aiohttp import web
from pydantic import Field, ValidationError

from carbontrack.bookkeeping import HOUR, month
from carbontrack.emissions.accounts import (
    GOOD_EXCESS_AIR_CO2_DRY,
    GOOD_STACK_TEMPERATURE_C,
    CombustionView,
    Corroboration,
    StackInput,
    combustion_view,
)
from carbontrack.emissions.combustion import (
    AMBIENT_C,
    GOOD_CO2_DRY,
    LEAST_GOOD_AIR,
    MOISTURE,
    MOST_GOOD_AIR,
    siegert_coefficient,
)
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.firing import (
    FEWEST_FACTORIES,
    MOST_PERCENT,
    Air,
    Quartiles,
    Saving,
    SavingWay,
    WoodUse,
    about,
    air_of,
    monthly_wood_kg,
    network_quartiles,
    own_best,
    savings,
    weighted_mean,
    wood_use,
)
from carbontrack.emissions.fuels import STACK_DENSITY_KG_PER_M3
from carbontrack.ledger import EnergyEntry, EnergyType, ProductionEntry, WoodPrice, WoodUnit
from carbontrack.model import Factory
from carbontrack.periods import months_later, months_until
from carbontrack.tiers import local_day
from carbontrack.web.access import EVERYBODY, USER, WRITERS, allow, origin
from carbontrack.web.errors import REFUSALS
from carbontrack.web.forms import Form, posted_id, refused, typed, without_blanks
from carbontrack.web.ledger_pages import CORROBORATION_TEXTS, page_factory
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.rest import YEARS, Id, Input
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_
from carbontrack.words import gettext as _

WINDOW_DAYS = 28
"""What is "now": four whole weeks, so that each day of the week counts alike."""
MONTHS, WEEKS = 12, 12
CHECKED_MONTHS = 6
LEAST_RATIO, MOST_RATIO = 0.5, 1.5
"""Between which ratios of measured to fuel-based CO2 the chart reaches."""
PAGE = "/factory/{slug}/combustion"
UNIT_TITLES: Mapping[WoodUnit, str] = {WoodUnit.TONNE: N_("tonne"), WoodUnit.STACKED_M3: N_("stacked m³")}
WAY_TITLES: Mapping[SavingWay, str] = {
    SavingWay.OWN_BEST: N_("If you used as little wood as in your own best time"),
    SavingWay.NETWORK_QUARTER: N_("If you were where the best quarter of the network begins"),
    SavingWay.LESS_LOSS: N_("If one per cent less of the heat left by the chimneys"),
    SavingWay.FIRED_WELL: N_("If every boiler had the CO₂ and the gas temperature of one that is fired well"),
}


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(PAGE, combustion_page)
    router.add_post(f"{PAGE}/price", set_price)
    router.add_post(f"{PAGE}/price/withdraw", withdraw_price)
    router.add_post(f"{PAGE}/price/restore", restore_price)


class CombustionQuery(Input):
    by: Literal["month", "week"] = "month"
    """In what the wood is shown."""
    withdrawn: Id | None = None
    """A price that was just withdrawn: the page offers to take that back."""


class PriceForm(Input):
    kes: float = Field(gt=0, le=1e7)
    unit: WoodUnit
    kg_per_m3: float | None = Field(None, ge=STACK_DENSITY_KG_PER_M3[0], le=STACK_DENSITY_KG_PER_M3[1])
    valid_from: date = Field(ge=date(YEARS[0], 1, 2), le=date(YEARS[-1], 1, 1))


# --- what the page shows


@dataclass(frozen=True, slots=True)
class Boiler:
    """One chimney's fire over the last weeks."""

    name: str
    air: Air
    view: CombustionView | None
    co2_kg: float
    """Its weight among the boilers: what its hours add up to."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A month's measurement against its fuel."""

    start: datetime
    found: Corroboration
    at: float | None
    """Where the ratio is on the chart, from 0 to 100."""


@dataclass(frozen=True, slots=True)
class Money:
    """What could be saved, and from what it is worked out. ``price`` None: nobody has entered one."""

    use: WoodUse
    monthly_kg: float | None
    ways: Sequence[Saving]
    price: WoodPrice | None
    loss: float | None
    """Mean of the boilers', by their CO2."""


@allow(EVERYBODY)
async def combustion_page(request: web.Request) -> web.StreamResponse:
    """Wood, air, losses, the check against fuel, and what could be saved."""
    return await _page(request, await page_factory(request), Form("price"))


async def _page(request: web.Request, factory: Factory, form: Form) -> web.Response:
    services = request.app[SERVICES]
    query = _query(request)
    now = services.clock()
    today = now.astimezone(services.time_zone).date()
    window = (local_day(today - timedelta(days=WINDOW_DAYS), services.time_zone)[0],
              local_day(today, services.time_zone)[0])  # fmt: skip
    months, weeks = await _own_use(services, factory, today)
    shown = months if query.by == "month" else weeks
    of_network = await _network_use(services, *window)
    use = of_network.pop(factory.id, None) or wood_use((), (), *window)
    network = network_quartiles([use, *of_network.values()])
    best = own_best(months) or own_best(weeks)
    boilers = await _boilers(services, factory, window[0], now)
    prices = await services.store.wood_prices(factory.id)
    page = render(
        request,
        "combustion.html",
        {
            "factory": factory,
            "section": "combustion",
            "window": window,
            "use": use,
            "by": query.by,
            "best": best,
            "network": network,
            "fewest": FEWEST_FACTORIES,
            "bars": _bars(shown, best, network),
            "boilers": boilers,
            "histogram": [(boiler, _histogram(boiler.air)) for boiler in boilers],
            "physics": {
                "siegert": siegert_coefficient(),
                "moisture": MOISTURE,
                "ambient_c": AMBIENT_C,
                "good": GOOD_CO2_DRY,
                "air": (LEAST_GOOD_AIR, MOST_GOOD_AIR),
                "fired_well": (GOOD_EXCESS_AIR_CO2_DRY, GOOD_STACK_TEMPERATURE_C),
            },
            "checks": await _checks(services, factory, now),
            "band": services.books.band,
            "band_at": tuple(map(_on_chart, services.books.band)),
            "one_at": _on_chart(1.0),
            "corroboration_texts": CORROBORATION_TEXTS,
            "money": _money(use, best, network, boilers, _in_force(prices, today)),
            "way_titles": WAY_TITLES,
            "about": about,
            "prices": prices,
            "unit_titles": UNIT_TITLES,
            "units": [(unit.value, _(title)) for unit, title in UNIT_TITLES.items()],
            "withdrawn": query.withdrawn,
            "may_write": request[USER].role in WRITERS,
            "today": today.isoformat(),
            "form": form if form.values else Form("price", {"valid_from": today.isoformat()}),
        },
    )
    return form.answer(page)


def _query(request: web.Request) -> CombustionQuery:
    try:
        return CombustionQuery.model_validate(dict(request.query))
    except ValidationError:
        raise web.HTTPBadRequest(text=_("by must be month or week.")) from None


# --- wood and tea


async def _own_use(services: Services, factory: Factory, today: date) -> tuple[list[WoodUse], list[WoodUse]]:
    """Of the last whole months, and of the last whole weeks, which begin on Mondays; the oldest first."""
    zone = services.time_zone
    monday = today - timedelta(days=today.weekday())
    months = [month(first, zone) for first in months_until(months_later(today, -1), MONTHS)]
    weeks = [
        (local_day(monday - timedelta(weeks=number), zone)[0], local_day(monday - timedelta(weeks=number - 1), zone)[0])
        for number in range(WEEKS, 0, -1)
    ]
    since, until = min(months[0][0], weeks[0][0]), max(months[-1][1], weeks[-1][1])
    energy = await services.store.energy_entries(factory.id, since, until, energy_type=EnergyType.FIREWOOD)
    production = await services.store.production_entries(factory.id, since, until)
    of_months, of_weeks = ([wood_use(energy, production, *span) for span in spans] for spans in (months, weeks))
    return of_months, of_weeks


async def _network_use(services: Services, since: datetime, until: datetime) -> dict[int, WoodUse]:
    """Wood and tea of every factory that is in use."""
    wood: dict[int, list[EnergyEntry]] = {}
    tea: dict[int, list[ProductionEntry]] = {}
    for entry in await services.store.energy_entries(None, since, until, energy_type=EnergyType.FIREWOOD):
        wood.setdefault(entry.factory_id, []).append(entry)
    for made in await services.store.production_entries(None, since, until):
        tea.setdefault(made.factory_id, []).append(made)
    return {
        it.id: wood_use(wood.get(it.id, ()), tea.get(it.id, ()), since, until)
        for it in await services.store.factories()
        if it.is_active
    }


@dataclass(frozen=True, slots=True)
class Bars:
    """Wood per tea as bars, heights of 100; ``lines`` are what it is held against."""

    uses: Sequence[tuple[WoodUse, float]]
    lines: Mapping[str, float] = field(default_factory=dict)


def _bars(uses: Sequence[WoodUse], best: WoodUse | None, network: Quartiles | None) -> Bars:
    lines = {"best": best.per_tea if best else None, "quarter": network.lower if network else None,
             "median": network.median if network else None}  # fmt: skip
    known = [value for value in (*(it.per_tea for it in uses), *lines.values()) if value is not None]
    reach = max(known, default=0.0) * 1.1 or 1.0
    return Bars(
        [(it, 100 * (it.per_tea or 0.0) / reach) for it in uses],
        {name: 100 * value / reach for name, value in lines.items() if value is not None},
    )


# --- the fires


async def _boilers(services: Services, factory: Factory, since: datetime, until: datetime) -> list[Boiler]:
    try:
        _account, stacks = await services.books.account_with_hours(factory, since, until)
    except FactorMissing:
        return []
    return [_boiler(item) for item in stacks]


def _boiler(item: StackInput) -> Boiler:
    return Boiler(item.stack.name, air_of(item), combustion_view(item), item.period.measured_kg)


def _histogram(air: Air) -> list[tuple[int, float, float]]:
    """Of each whole % of CO2: hours, and the height of its bar of 100."""
    most = max(air.by_percent.values(), default=0.0) or 1.0
    hours = [(percent, air.by_percent.get(percent, 0.0)) for percent in range(MOST_PERCENT + 1)]
    return [(percent, of_it, 100 * of_it / most) for percent, of_it in hours]


async def _checks(services: Services, factory: Factory, now: datetime) -> list[Checked]:
    """The last months' measurement against their fuel, from the month on in which a chimney was monitored first."""
    plans = [stack.plans[0].valid_from for stack in await services.store.stacks(factory.id)]
    if not plans:
        return []
    found: list[Checked] = []
    start, _end = month(now.astimezone(services.time_zone).date(), services.time_zone)
    while len(found) < CHECKED_MONTHS:
        end = min(month(start.astimezone(services.time_zone).date(), services.time_zone)[1], now)
        if end <= min(plans):
            break
        if end - start >= HOUR:
            try:
                check = (await services.books.account(factory, start, end)).corroboration
            except FactorMissing:
                break
            found.append(Checked(start, check, None if check.ratio is None else _on_chart(check.ratio)))
        start = month((start.astimezone(services.time_zone) - timedelta(days=1)).date(), services.time_zone)[0]
    return found


def _on_chart(ratio: float) -> float:
    inside = min(MOST_RATIO, max(LEAST_RATIO, ratio))
    return 100 * (inside - LEAST_RATIO) / (MOST_RATIO - LEAST_RATIO)


# --- money


def _in_force(prices: Sequence[WoodPrice], today: date) -> WoodPrice | None:
    """The newest price that counts today; they come with the newest first."""
    return next((it for it in prices if it.valid_from <= today), None)


def _money(
    use: WoodUse, best: WoodUse | None, network: Quartiles | None, boilers: Sequence[Boiler], price: WoodPrice | None
) -> Money:
    known = [(it.view, it.co2_kg) for it in boilers if it.view is not None]
    loss = weighted_mean([(view.loss.total, co2_kg) for view, co2_kg in known])
    ways = savings(
        use,
        best=best,
        network=network,
        loss=loss,
        fired_well_share=weighted_mean([(view.saving_share, co2_kg) for view, co2_kg in known]),
        kes_per_kg=price.kes_per_kg if price else None,
    )
    return Money(use, monthly_wood_kg(use), ways, price, loss)


@allow(WRITERS)
async def set_price(request: web.Request) -> web.StreamResponse:
    """Keep what the factory pays for wood; what was typed stays in the form where it does not fit."""
    services, factory = request.app[SERVICES], await page_factory(request)
    given = await typed(request)
    given["kes"] = given.get("kes", "").replace(",", "").replace(" ", "")
    try:
        made = PriceForm.model_validate(without_blanks(given, "kg_per_m3"))
        price = WoodPrice(0, factory.id, made.kes, made.unit, made.valid_from, made.kg_per_m3)
        await services.store.add_wood_price(price, origin(request), services.clock())
    except REFUSALS as error:
        return await _page(request, factory, refused("price", given, error))
    raise sent_on(request, f"/factory/{factory.slug}/combustion", Notice(_("The price of wood is kept.")))


@allow(WRITERS)
async def withdraw_price(request: web.Request) -> web.StreamResponse:
    """Take a price out of use; the page then offers to take that back."""
    services, factory, price_id = request.app[SERVICES], await page_factory(request), await posted_id(request)
    if not await services.store.withdraw_wood_price(price_id, factory.id, by=origin(request)):
        raise web.HTTPNotFound(text=_("There is no such price for you."))
    raise web.HTTPSeeOther(f"/factory/{factory.slug}/combustion?withdrawn={price_id}#withdrawn")


@allow(WRITERS)
async def restore_price(request: web.Request) -> web.StreamResponse:
    """Take a price that was withdrawn back into use."""
    services, factory = request.app[SERVICES], await page_factory(request)
    if not await services.store.restore_wood_price(await posted_id(request), factory.id, by=origin(request)):
        raise web.HTTPNotFound(text=_("There is no such price for you."))
    raise sent_on(request, f"/factory/{factory.slug}/combustion", Notice(_("The price of wood is used again.")))
