"""Alert rules: how they are configured, what factories may choose, and what they would have said of the last days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.alert_trial import Firing, TrialResult
from carbontrack.alerts import RuleInstance, adjusted, numbers_of
from carbontrack.config.fields import masked
from carbontrack.hookspecs import AlertRule
from carbontrack.model import AlertAdjustment, AlertBound, AlertSettings
from carbontrack.web import alert_rules as rules
from carbontrack.web.access import EVERYBODY, HQ_ONLY, USER
from carbontrack.web.contract import Tag, operation
from carbontrack.web.rest import Id, Input, Output, Page
from carbontrack.web.services import SERVICES

RULE = "/api/alert-rules/{rule}/"


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_get("/api/alert-rules/", alert_rules)
    router.add_post(f"{RULE}try/", try_alert_rule)
    router.add_put(f"{RULE}bounds/{{option}}/", set_bound)
    router.add_delete(f"{RULE}bounds/{{option}}/", remove_bound)
    router.add_put(f"{RULE}adjustments/{{option}}/", adjust)
    router.add_delete(f"{RULE}adjustments/{{option}}/", remove_adjustment)


class BoundOut(Output):
    low: float
    """The lowest that a factory may choose."""
    high: float
    """The highest."""
    set_by: str
    """The address of who chose it."""
    set_at: datetime
    """When."""


class AdjustmentOut(Output):
    factory_id: int
    value: float
    """What the factory has chosen."""
    in_force: float | None
    """What counts: less or more where headquarters has narrowed the bound since."""
    note: str
    """Why that is another one; empty where it is the same."""
    set_by: str
    """The address of who chose it."""
    set_at: datetime
    """When."""


class NumberOut(Output):
    option: str
    """Its name: `hold_s`, `clear_after_s`, or an option of the rule."""
    configured: float | None
    """What the configuration says; null: not watched."""
    bound: BoundOut | None
    """Null where factories choose nothing."""
    adjustments: list[AdjustmentOut]
    """Of factories that the caller may see."""


class StepsOut(Output):
    title: str
    """What the rule is called."""
    first_steps: list[str]
    """What to do first, one step each."""


class AlertRuleOut(Output):
    name: str
    """The alert's name in the configuration."""
    rule: str
    """The family of rules that decides."""
    title: str
    """What the rule is called, in English."""
    words: Mapping[str, StepsOut]
    """What people read of it, by language: what it is called, and what to do first."""
    severity: str
    """As the configuration says: `info`, `warning` or `critical`."""
    enabled: bool
    """One that is not watches nobody, and can be tried."""
    watches: Literal["device", "factory"]
    """Whether it looks at readings of a device, or at a factory's entries and accounts."""
    factories: list[str]
    """Only these, by slug; empty: all. So are the next two."""
    stacks: list[str]
    """As `factory/stack`."""
    devices: list[str]
    """By device id."""
    hours: str | None
    """The hours of the day in which an alert may begin."""
    options: Mapping[str, Any]
    """As they are configured, secrets masked."""
    numbers: list[NumberOut]
    """All that can be adjusted."""

    @classmethod
    def of(cls, instance: RuleInstance[Any], settings: AlertSettings) -> AlertRuleOut:
        scope = instance.scope
        return cls(
            name=instance.name,
            rule=instance.rule.name,
            title=instance.words("en").title,
            words={
                language: StepsOut(title=said.title, first_steps=list(said.first_steps))
                for language in instance.rule.words
                for said in (instance.words(language),)
            },
            severity=instance.severity,
            enabled=instance.is_enabled,
            watches="device" if isinstance(instance.rule, AlertRule) else "factory",
            factories=sorted(scope.factories),
            stacks=sorted(scope.stacks),
            devices=sorted(scope.devices),
            hours=rules.hours_of(instance),
            options=masked({}, instance.options),
            numbers=[
                NumberOut(
                    option=option,
                    configured=value,
                    bound=_bound(settings.bound(instance.name, option)),
                    adjustments=[
                        adjustment_out(instance, settings, each) for each in settings.choices(instance.name, option)
                    ],
                )
                for option, value in numbers_of(instance).items()
            ],
        )


def _bound(bound: AlertBound | None) -> BoundOut | None:
    return None if bound is None else BoundOut.model_validate(bound)


def adjustment_out(instance: RuleInstance[Any], settings: AlertSettings, chosen: AlertAdjustment) -> AdjustmentOut:
    """What a factory has chosen, and what counts."""
    found = adjusted(instance, settings, chosen.factory_id)
    return AdjustmentOut(
        factory_id=chosen.factory_id,
        value=chosen.value,
        in_force=numbers_of(found.instance).get(chosen.option),
        note=found.notes.get(chosen.option, ""),
        set_by=chosen.set_by,
        set_at=chosen.set_at,
    )


@operation(Tag.ALERTS, EVERYBODY)
async def alert_rules(request: web.Request) -> Page[AlertRuleOut]:
    """Every configured alert with its rule, what factories may choose, and what they have chosen."""
    book = request.app[SERVICES].rules
    settings = rules.settings_for(request[USER], book.settings)
    return Page([AlertRuleOut.of(instance, settings) for instance in book.instances])


class FiringOut(Output):
    device_id: str
    factory_id: int
    stack_id: int
    raised_at: datetime
    """When it would have fired."""
    cleared_at: datetime | None
    """Null where it would fire still."""
    message: str
    """What the rule would have said."""
    value: float | None
    """What was measured, where the rule compares."""
    limit: float | None
    """With what it was compared."""
    unit: str
    """Of the two."""
    is_late: bool
    """The reading came late, out of the device's store: nobody would have been told."""

    @classmethod
    def of(cls, firing: Firing) -> FiringOut:
        return cls(
            device_id=firing.site.device.device_id,
            factory_id=firing.site.factory.id,
            stack_id=firing.site.stack.id,
            raised_at=firing.raised_at,
            cleared_at=firing.cleared_at,
            message=firing.finding.message,
            value=firing.finding.value,
            limit=firing.finding.limit,
            unit=firing.finding.unit,
            is_late=firing.is_late,
        )


class TrialOut(Output):
    since: datetime
    """The beginning of what was looked at."""
    until: datetime
    """Its end."""
    would_have_fired: int
    """How many times."""
    firings: list[FiringOut]
    """Oldest first, 1000 at most."""
    readings: int
    """How many were looked at."""
    late_readings: int
    """How many of them came late, out of devices' stores."""
    devices: int
    """Of how many devices."""
    errors: int
    """How often the rule itself failed."""
    cut: str
    """Why not everything was looked at; empty where it was."""

    @classmethod
    def of(cls, found: TrialResult) -> TrialOut:
        return cls(
            since=found.since,
            until=found.until,
            would_have_fired=found.fired,
            firings=[FiringOut.of(firing) for firing in found.firings],
            readings=found.readings,
            late_readings=found.late_readings,
            devices=found.devices,
            errors=found.errors,
            cut=found.cut,
        )


@operation(Tag.ALERTS, rules.TRIERS, problems=(409,))
async def try_alert_rule(request: web.Request, body: rules.TryInput) -> TrialOut:
    """Try an alert against what is kept of the last days: nothing is raised, and nobody is told.

    It may take a minute, and one runs at a time (409). What would take longer ends early, and says so in `cut`.
    """
    return TrialOut.of(await rules.try_it(request, rules.known_rule(request), body))


@operation(Tag.ALERTS, HQ_ONLY, problems=(409,))
async def set_bound(request: web.Request, body: rules.BoundInput) -> BoundOut:
    """Let factories choose a number of an alert, from `low` to `high`. What they have chosen is clipped to it."""
    bound, _ = await rules.set_bound(request, body)
    return BoundOut.model_validate(bound)


@operation(Tag.ALERTS, HQ_ONLY, problems=(409,))
async def remove_bound(request: web.Request) -> None:
    """Let factories choose a number no more: the configured one counts. 409: there is no bound."""
    await rules.remove_bound(request)


class OfFactory(Input):
    factory_id: Id | None = Field(None, examples=[1])
    """Whose number it is. A factory's manager need not say it."""


@operation(Tag.ALERTS, rules.ADJUSTERS, problems=(409,))
async def adjust(request: web.Request, query: OfFactory, body: rules.AdjustmentInput) -> AdjustmentOut:
    """Choose a number of an alert for a factory, within headquarters' bound. It counts at once."""
    chosen = await rules.adjust(request, rules.chosen_factory(request[USER], query.factory_id), body)
    book = request.app[SERVICES].rules
    return adjustment_out(rules.known_rule(request), book.settings, chosen)


@operation(Tag.ALERTS, rules.ADJUSTERS, problems=(409,))
async def remove_adjustment(request: web.Request, query: OfFactory) -> None:
    """Go back to the configured number. 409: the factory has that."""
    await rules.remove_adjustment(request, rules.chosen_factory(request[USER], query.factory_id))
