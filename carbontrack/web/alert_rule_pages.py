"""The pages of alert rules: headquarters sets between what factories may choose, and factories choose. Both may try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta, tzinfo
from typing import Any

from aiohttp import web

from carbontrack.alert_trial import TrialResult
from carbontrack.alerts import RuleInstance, adjusted, numbers_of
from carbontrack.hookspecs import AlertRule
from carbontrack.model import AlertAdjustment, AlertBound, AlertSettings, Factory
from carbontrack.web import alert_rules as rules
from carbontrack.web.access import EVERYBODY, HQ_ONLY, NETWORK_ROLES, USER, allow
from carbontrack.web.alert_words import label_of, labels_of
from carbontrack.web.errors import REFUSALS, Problem, refusal
from carbontrack.web.forms import Form, refused, typed, without_blanks
from carbontrack.web.ledger_pages import page_factory
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import render
from carbontrack.words import N_, gettext

HQ = "/hq/alert-rules"
OWN = "/factory/{slug}/alert-rules"
DAYS = (("1", N_("The last day")), ("7", N_("The last week")), ("31", N_("The last 31 days")))
LISTED = 50
"""Firings that a page lists; the timeline has them all."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(HQ, hq_page)
    router.add_post(f"{HQ}/{{rule}}/try", hq_try)
    router.add_post(f"{HQ}/{{rule}}/{{option}}", hq_bound)
    router.add_post(f"{HQ}/{{rule}}/{{option}}/remove", hq_remove)
    router.add_get(OWN, own_page)
    router.add_post(f"{OWN}/{{rule}}/try", own_try)
    router.add_post(f"{OWN}/{{rule}}/{{option}}", own_adjust)
    router.add_post(f"{OWN}/{{rule}}/{{option}}/remove", own_remove)


# --- what a page shows


@dataclass(frozen=True, slots=True)
class Number:
    """One number of an alert. ``in_force`` and ``note`` are those of the factory whose page it is."""

    option: str
    label: str
    hint: str
    configured: float | None
    bound: AlertBound | None
    form: Form
    chosen: AlertAdjustment | None = None
    in_force: float | None = None
    note: str = ""
    of_factories: Sequence[tuple[str, float, str]] = ()
    """At headquarters: which factories have chosen what, and why that does not count."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A firing on the timeline, from 0 to 1000."""

    x: float
    width: float
    is_late: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a trial, as a page shows it."""

    result: TrialResult
    marks: Sequence[Mark]
    days: Sequence[float]
    """Where days begin on the timeline."""
    more: int


@dataclass(frozen=True, slots=True)
class Shown:
    """One alert as a page shows it."""

    instance: RuleInstance[Any]
    title: str
    family: str
    """What the rule behind it is called."""
    where: str
    steps: Sequence[str]
    numbers: Sequence[Number]
    can_be_tried: bool
    trial: Form
    tried: Tried | None = None
    is_open: bool = False
    language: str = "en"
    """Of title and steps."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was sent to the page: a form that was refused, or what came of a trial. ``language``: of who asks."""

    form: Form = field(default_factory=lambda: Form(""))
    rule: str = ""
    tried: TrialResult | None = None
    language: str = "en"


def _scope_words(instance: RuleInstance[Any]) -> str:
    scope = instance.scope
    parts = [", ".join(sorted(names)) for names in (scope.factories, scope.stacks, scope.devices) if names]
    if hours := rules.hours_of(instance):
        first, last = hours.split("-")
        parts.append(gettext("from %(first)s to %(last)s", first=first, last=last))
    return "; ".join(parts) or gettext("everywhere, always")


def _form_name(instance: RuleInstance[Any], what: str) -> str:
    return f"{instance.name}-{what}".replace(" ", "-")


def _shown(
    instance: RuleInstance[Any],
    numbers: Sequence[Number],
    given: Given,
    trial: Mapping[str, Any],
    marks: Tried | None,
) -> Shown:
    name = _form_name(instance, "try")
    is_about_it = given.rule == instance.name
    words = instance.words(given.language)
    return Shown(
        instance,
        words.title,
        instance.rule.title if given.language == "en" else instance.family(given.language),
        _scope_words(instance),
        words.first_steps,
        numbers,
        isinstance(instance.rule, AlertRule),
        given.form if given.form.name == name else Form(name, trial),
        marks if is_about_it else None,
        is_about_it,
        given.language,
    )


def _tried(result: TrialResult, zone: tzinfo) -> Tried:
    """The firings as marks on a line."""
    span_s = (result.until - result.since).total_seconds()

    def at(moment: datetime) -> float:
        return round(1000 * (moment - result.since).total_seconds() / span_s, 1)

    marks = [
        Mark(at(each.raised_at), max(3.0, at(each.cleared_at or result.until) - at(each.raised_at)), each.is_late)
        for each in result.firings
    ]
    days = [at(moment) for moment in _midnights(result.since, result.until, zone)]
    return Tried(result, marks, days, max(0, result.fired - LISTED))


def _midnights(since: datetime, until: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The beginnings of the local days within a span."""
    day = since.astimezone(zone).date() + timedelta(days=1)
    while (midnight := datetime.combine(day, time(), zone)) < until:
        yield midnight
        day += timedelta(days=1)


# --- headquarters


@allow(NETWORK_ROLES)
async def hq_page(request: web.Request) -> web.StreamResponse:
    """Every alert, between what factories may choose its numbers, and what they have chosen."""
    return await _hq_page(request, Given())


async def _hq_page(request: web.Request, given: Given) -> web.Response:
    services = request.app[SERVICES]
    given = replace(given, language=request[USER].locale)
    settings, factories = services.rules.settings, await services.store.factories()
    names = {factory.id: factory.name for factory in factories}
    marks = _tried(given.tried, services.time_zone) if given.tried else None
    trial = {"days": "7", "factory_id": ""}
    values = {
        "rules": [
            _shown(instance, _hq_numbers(instance, settings, names, given), given, trial, marks)
            for instance in services.rules.instances
        ],
        "problems": services.rules.problems,
        "may_set": request[USER].role in HQ_ONLY,
        "may_try": request[USER].role in rules.TRIERS,
        "base": HQ,
        "days": [(days, gettext(title)) for days, title in DAYS],
        "listed": LISTED,
        "factories": [(str(number), name) for number, name in names.items()],
    }
    return given.form.answer(render(request, "alert_rules.html", values))


def _hq_numbers(
    instance: RuleInstance[Any], settings: AlertSettings, names: Mapping[int, str], given: Given
) -> list[Number]:
    labels, found = labels_of(instance), []
    for option, configured in numbers_of(instance).items():
        bound, name = settings.bound(instance.name, option), _form_name(instance, option)
        shown = {"low": f"{bound.low:g}", "high": f"{bound.high:g}"} if bound else {}
        chosen = [
            (
                names.get(each.factory_id, str(each.factory_id)),
                each.value,
                adjusted(instance, settings, each.factory_id).notes.get(option, ""),
            )
            for each in settings.choices(instance.name, option)
        ]
        form = given.form if given.form.name == name else Form(name, shown)
        found.append(Number(option, *labels[option], configured, bound, form, of_factories=chosen))
    return found


@allow(HQ_ONLY)
async def hq_bound(request: web.Request) -> web.StreamResponse:
    """Let factories choose a number."""
    values, instance = await typed(request), rules.known_rule(request)
    option = rules.known_option(request, instance)
    try:
        _, clipped = await rules.set_bound(request, rules.BoundInput.model_validate(values))
    except REFUSALS as error:
        return await _hq_page(request, Given(refused(_form_name(instance, option), values, error), instance.name))
    text = gettext("Kept: factories may choose %(number)s of %(alert)s.", number=label_of(option), alert=instance.name)
    clips = N_("It clips what %(count)s of them had chosen: the nearest that is allowed counts now.")
    advice = gettext(clips, count=clipped) if clipped else ""
    raise sent_on(request, HQ, Notice(text, advice=advice))


@allow(HQ_ONLY)
async def hq_remove(request: web.Request) -> web.StreamResponse:
    """Let factories choose a number no more."""
    instance = rules.known_rule(request)
    option = rules.known_option(request, instance)
    await rules.remove_bound(request)
    text = N_("Factories may not choose %(number)s of %(alert)s any more: the configured one counts.")
    raise sent_on(request, HQ, Notice(gettext(text, number=label_of(option), alert=instance.name)))


@allow(frozenset(rules.TRIERS & NETWORK_ROLES))
async def hq_try(request: web.Request) -> web.StreamResponse:
    """Try an alert against what is kept."""
    return await _hq_page(request, await _trial(request, None))


async def _trial(request: web.Request, factory: Factory | None) -> Given:
    """What came of the trial that was asked for, or its form again."""
    values, instance = await typed(request), rules.known_rule(request)
    name = _form_name(instance, "try")
    sent = without_blanks(values, "factory_id")
    numbers = {key.removeprefix("number-"): value for key, value in sent.items() if key.startswith("number-") and value}
    body = {key: value for key, value in sent.items() if not key.startswith("number-")} | {"numbers": numbers}
    if factory is not None:
        body["factory_id"] = factory.id
    try:
        found = await rules.try_it(request, instance, rules.TryInput.model_validate(body))
    except REFUSALS as error:
        return Given(refused(name, values, _flattened(error)), instance.name)
    return Given(Form(name, values), instance.name, found)


def _flattened(error: Exception) -> Exception:
    """Errors of numbers at the fields of their names: a form has no fields within fields."""
    problem = refusal(error)
    errors = tuple((at.replace("numbers.", "number-"), text) for at, text in problem.errors)
    return Problem(problem.status, problem.detail, errors)


# --- a factory


@allow(EVERYBODY)
async def own_page(request: web.Request) -> web.StreamResponse:
    """The alerts that watch a factory, with its own numbers."""
    return await _own_page(request, await page_factory(request), Given())


async def _own_page(request: web.Request, factory: Factory, given: Given) -> web.Response:
    services = request.app[SERVICES]
    given = replace(given, language=request[USER].locale)
    sites = await services.store.sites(factory.id)
    marks = _tried(given.tried, services.time_zone) if given.tried else None
    watching = [
        instance
        for instance in services.rules.instances
        if instance.scope.has_factory(factory)
        and (not (instance.scope.stacks or instance.scope.devices) or any(map(instance.scope.has_site, sites)))
    ]
    values = {
        "factory": factory,
        "section": "alert-rules",
        "rules": [
            _shown(
                instance, _own_numbers(instance, services.rules.settings, factory, given), given, {"days": "7"}, marks
            )
            for instance in watching
        ],
        "may_set": request[USER].role in rules.ADJUSTERS,
        "may_try": request[USER].role in rules.TRIERS,
        "base": f"/factory/{factory.slug}/alert-rules",
        "days": [(days, gettext(title)) for days, title in DAYS],
        "listed": LISTED,
    }
    return given.form.answer(render(request, "factory_alert_rules.html", values))


def _own_numbers(instance: RuleInstance[Any], settings: AlertSettings, factory: Factory, given: Given) -> list[Number]:
    labels, found = labels_of(instance), []
    own = adjusted(instance, settings, factory.id)
    in_force = numbers_of(own.instance)
    chosen = {each.option: each for each in settings.adjustments_of(factory.id, instance.name)}
    for option, configured in numbers_of(instance).items():
        bound, name = settings.bound(instance.name, option), _form_name(instance, option)
        value = chosen[option].value if option in chosen else configured
        form = given.form if given.form.name == name else Form(name, {"value": "" if value is None else f"{value:g}"})
        found.append(
            Number(
                option,
                *labels[option],
                configured,
                bound,
                form,
                chosen.get(option),
                in_force[option],
                own.notes.get(option, ""),
            )
        )
    return found


@allow(rules.ADJUSTERS)
async def own_adjust(request: web.Request) -> web.StreamResponse:
    """Choose a number for a factory."""
    factory, values, instance = await page_factory(request), await typed(request), rules.known_rule(request)
    option = rules.known_option(request, instance)
    try:
        chosen = await rules.adjust(request, factory.id, rules.AdjustmentInput.model_validate(values))
    except REFUSALS as error:
        form = refused(_form_name(instance, option), values, error)
        return await _own_page(request, factory, Given(form, instance.name))
    text = gettext(
        "Kept: %(number)s of %(alert)s is %(value)s for %(factory)s, from now on.",
        number=label_of(option),
        alert=instance.name,
        value=format(chosen.value, "g"),
        factory=factory.name,
    )
    raise sent_on(request, f"/factory/{factory.slug}/alert-rules", Notice(text))


@allow(rules.ADJUSTERS)
async def own_remove(request: web.Request) -> web.StreamResponse:
    """Go back to the configured number."""
    factory, instance = await page_factory(request), rules.known_rule(request)
    option = rules.known_option(request, instance)
    await rules.remove_adjustment(request, factory.id)
    text = gettext(
        "%(number)s of %(alert)s is for %(factory)s what it is for everybody.",
        number=label_of(option),
        alert=instance.name,
        factory=factory.name,
    )
    raise sent_on(request, f"/factory/{factory.slug}/alert-rules", Notice(text[:1].upper() + text[1:]))


@allow(rules.TRIERS)
async def own_try(request: web.Request) -> web.StreamResponse:
    """Try an alert against what is kept of a factory."""
    factory = await page_factory(request)
    return await _own_page(request, factory, await _trial(request, factory))
