"""Alert rules: their numbers and who may choose them, and trials; the same for the API and for the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from carbontrack.alert_trial import MOST_DAYS, Bounds, TrialResult, try_rule
from carbontrack.alerts import RuleInstance, Unfit, adjusted, numbers_of, with_numbers
from carbontrack.hookspecs import AlertRule
from carbontrack.model import AlertAdjustment, AlertBound, AlertSettings, Role, User
from carbontrack.web.access import NETWORK_ROLES, USER, may_see, origin
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input
from carbontrack.web.services import SERVICES
from carbontrack.words import N_, gettext

ADJUSTERS = frozenset({Role.HQ_MANAGER, Role.FACTORY_MANAGER})
"""Who chooses numbers of a factory, within the bounds."""
TRIERS = frozenset({Role.HQ_MANAGER, Role.OPERATOR, Role.FACTORY_MANAGER})
"""Who tries a rule against what is kept: it takes a while, and nobody but they would switch it on."""
PATIENCE_S = 60.0
"""How long a trial may take that somebody waits for in a browser; the command line has more."""
TRIALS = web.AppKey("trials", asyncio.Semaphore)
"""One trial at a time: devices come first."""

Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]


class BoundInput(Input):
    low: Number = Field(examples=[0.4])
    """The lowest that a factory may choose."""
    high: Number = Field(examples=[0.8])
    """The highest."""


class AdjustmentInput(Input):
    value: Number = Field(examples=[0.7])
    """From the bound's lowest to its highest."""


class TryInput(Input):
    days: float = Field(7, gt=0, le=MOST_DAYS)
    """How far back."""
    factory_id: Id | None = Field(None, examples=[1])
    """One factory only, with the numbers that it has chosen. For a factory's manager, the own one."""
    numbers: dict[str, Number] = Field(default_factory=dict, max_length=40, examples=[{"raise_above": 0.5}])
    """Other numbers than those in force, by their names."""


def known_rule(request: web.Request) -> RuleInstance[Any]:
    """The alert that the address names. Raises :class:`Problem` where there is none."""
    instance = request.app[SERVICES].rules.find(request.match_info["rule"])
    if instance is None:
        raise Problem(404, "There is no alert of this name in the configuration.")
    return instance


def known_option(request: web.Request, instance: RuleInstance[Any]) -> str:
    """The number that the address names. Raises :class:`Problem` for what is no number of the alert."""
    option = request.match_info["option"]
    if option not in numbers_of(instance):
        names = ", ".join(numbers_of(instance))
        raise Problem(404, gettext("This alert has no such number. It has: %(names)s.", names=names))
    return option


def settings_for(user: User, settings: AlertSettings) -> AlertSettings:
    """All bounds, and the adjustments of those factories that somebody may see."""
    seen = tuple(each for each in settings.adjustments if may_see(user, each.factory_id))
    return AlertSettings(settings.bounds, seen)


def chosen_factory(user: User, factory_id: int | None) -> int:
    """Whose numbers are meant. Raises :class:`Problem` for another's, and where nobody is named."""
    if factory_id is None:
        if user.role in NETWORK_ROLES:
            raise Problem(422, WRONG, (("factory_id", gettext("say of which factory")),))
        factory_id = user.factory_id
    if factory_id is None or not may_see(user, factory_id):
        raise Problem(404, N_("There is no such factory for you."))
    return factory_id


async def set_bound(request: web.Request, given: BoundInput) -> tuple[AlertBound, int]:
    """Let factories choose a number; the bound, and how many factories' choices it clips."""
    services, instance = request.app[SERVICES], known_rule(request)
    option = known_option(request, instance)
    if given.low > given.high:
        raise Problem(422, WRONG, (("high", gettext("must not be below the lowest")),))
    for field in ("low", "high"):
        _check(instance, {option: getattr(given, field)}, field, only=option)
    bound = await services.store.set_alert_bound(instance.name, option, given.low, given.high, by=origin(request))
    await services.rules.renew()
    chosen = services.rules.settings.choices(bound.rule, option)
    return bound, sum(not bound.low <= each.value <= bound.high for each in chosen)


async def remove_bound(request: web.Request) -> None:
    """Let factories choose a number no more."""
    services, instance = request.app[SERVICES], known_rule(request)
    option = known_option(request, instance)
    await services.store.remove_alert_bound(instance.name, option, by=origin(request))
    await services.rules.renew()


async def adjust(request: web.Request, factory_id: int, given: AdjustmentInput) -> AlertAdjustment:
    """Let a factory have another number, where it may and where that fits to its others."""
    services, instance = request.app[SERVICES], known_rule(request)
    option, settings = known_option(request, instance), services.rules.settings
    bound = settings.bound(instance.name, option)
    if bound is None:
        raise Problem(422, WRONG, (("value", gettext("headquarters lets no factory choose this")),))
    if not bound.low <= given.value <= bound.high:
        text = gettext("must be from %(low)s to %(high)s", low=format(bound.low, "g"), high=format(bound.high, "g"))
        raise Problem(422, WRONG, (("value", text),))
    others = adjusted(instance, _without(settings, factory_id, instance.name, option), factory_id).instance
    _check(others, {option: given.value}, "value")
    found = await services.store.adjust_alert(factory_id, instance.name, option, given.value, by=origin(request))
    await services.rules.renew()
    return found


async def remove_adjustment(request: web.Request, factory_id: int) -> None:
    """Let a factory have the configured number again, where that fits to its others."""
    services, instance = request.app[SERVICES], known_rule(request)
    option = known_option(request, instance)
    await services.store.remove_alert_adjustment(factory_id, instance.name, option, by=origin(request))
    await services.rules.renew()


def _without(settings: AlertSettings, factory_id: int, rule: str, option: str) -> AlertSettings:
    kept = tuple(
        each for each in settings.adjustments if (each.factory_id, each.rule, each.option) != (factory_id, rule, option)
    )
    return AlertSettings(settings.bounds, kept)


def _check(instance: RuleInstance[Any], numbers: Mapping[str, float], field: str, only: str = "") -> None:
    """Raise :class:`Problem`, at a field, for numbers that the rule refuses; with ``only``, what it says of one."""
    try:
        with_numbers(instance, numbers)
    except Unfit as error:
        texts = [text for name, text in error.errors if not only or name == only]
        if texts:
            raise Problem(422, WRONG, ((field, "; ".join(texts)),)) from None


# --- trials


async def try_it(request: web.Request, instance: RuleInstance[Any], given: TryInput) -> TrialResult:
    """Run an alert over what is kept of the last days. Raises :class:`Problem` for what cannot be tried."""
    services, user = request.app[SERVICES], request[USER]
    factory_id = given.factory_id
    if factory_id is not None or user.role not in NETWORK_ROLES:
        factory_id = chosen_factory(user, factory_id)
    if not isinstance(instance.rule, AlertRule):
        text = N_("This rule looks at a factory's entries and accounts, and not at readings: try it for real.")
        raise Problem(422, text)
    if unknown := given.numbers.keys() - numbers_of(instance).keys():
        text = gettext("is no number of this alert")
        raise Problem(422, WRONG, tuple((f"numbers.{name}", text) for name in sorted(unknown)))
    own = instance if factory_id is None else adjusted(instance, services.rules.settings, factory_id).instance
    try:
        tried = with_numbers(own, given.numbers)
    except Unfit as error:
        raise Problem(
            422, WRONG, tuple((f"numbers.{name}" if name else "", text) for name, text in error.errors)
        ) from None
    until = services.clock()
    sites = [site for site in await services.store.sites(factory_id) if tried.scope.has_site(site)]
    trials = request.app[TRIALS]
    if trials.locked():
        raise Problem(409, N_("Another trial is running. Try again in a minute."))
    async with trials:
        return await try_rule(
            services.store, tried, sites, until - timedelta(days=given.days), until, Bounds(time_s=PATIENCE_S)
        )


# --- what is shown


def hours_of(instance: RuleInstance[Any]) -> str | None:
    """The hours of an alert, as the configuration writes them."""
    hours = instance.scope.hours
    return None if hours is None else f"{hours.begin:%H:%M}-{hours.end:%H:%M}"
