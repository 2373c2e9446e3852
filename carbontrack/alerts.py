"""When an alert begins and ends: a pure step from one state to the next.

``inactive -> pending -> firing -> inactive``. A breach must hold for ``hold_s`` before it fires, and all must be well
for ``clear_after_s`` before it ends. Between the raise and the clear threshold, and where a value is missing, nothing
changes (hysteresis of a value is the rule's: see :class:`carbontrack.hookspecs.Verdict`). Where each rule stands is in
the database, so that a restart of the core neither ends an alert nor lets a hold begin anew.

What is asked after readings runs by measuring time, so that a late reading does not shorten a hold; what is asked on a
timer runs by the core's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from carbontrack.hookspecs import AlertRule, FactoryFacts, FactoryRule, Observation, RuleWords, Verdict
from carbontrack.hours_of_day import Hours
from carbontrack.model import INACTIVE, AlertSettings, AlertState, Factory, Site, Standing
from carbontrack.words import gettext

R = TypeVar("R", AlertRule, FactoryRule)


# --- where and when a rule is asked


@dataclass(frozen=True, slots=True)
class Scope:
    """Where and when a rule is asked. A device must be in each list that is not empty; ``hours`` None is always."""

    factories: frozenset[str] = frozenset()
    """Slugs."""
    stacks: frozenset[str] = frozenset()
    """``factory-slug/Stack name``."""
    devices: frozenset[str] = frozenset()
    """Device ids."""
    hours: Hours | None = None

    def has_site(self, site: Site) -> bool:
        """Whether a device is watched."""
        return (
            self.has_factory(site.factory)
            and (not self.stacks or stack_label(site) in self.stacks)
            and (not self.devices or site.device.device_id in self.devices)
        )

    def has_factory(self, factory: Factory) -> bool:
        """Whether a factory as a whole is watched."""
        return not self.factories or factory.slug in self.factories

    def is_on(self, at: datetime) -> bool:
        """Whether it is asked at this time of the day."""
        return self.hours is None or self.hours.has(at)

    def unknown(self, factories: Iterable[Factory], sites: Iterable[Site], stacks: Iterable[str]) -> list[str]:
        """What it names and nobody knows; ``stacks`` are the labels of all stacks."""
        devices = {site.device.device_id for site in sites}
        known = {factory.slug for factory in factories}
        return [
            *(f"there is no factory {name!r}" for name in sorted(self.factories - known)),
            *(f"there is no stack {name!r}" for name in sorted(self.stacks - set(stacks))),
            *(f"there is no device {name!r}" for name in sorted(self.devices - devices)),
        ]


def stack_label(site: Site) -> str:
    """How the configuration names a stack."""
    return f"{site.factory.slug}/{site.stack.name}"


EVERYWHERE = Scope()


@dataclass(frozen=True, slots=True)
class RuleInstance(Generic[R]):
    """One configured rule: the family, its options, how it speaks, and where and when it is asked."""

    name: str
    rule: R
    options: Any
    severity: str
    hold_s: float
    clear_after_s: float = 0.0
    scope: Scope = field(default=EVERYWHERE)
    is_enabled: bool = True
    """Nobody is asked by one that is not; it can be tried."""
    title: str = ""
    """What people read; empty: the rule's own title."""

    def words(self, language: str) -> RuleWords:
        """What people read of it in a language, or in English where the rule does not speak it."""
        words = self._words_of_rule(language)
        return replace(words, title=self.title) if self.title else words

    def family(self, language: str) -> str:
        """What the rule behind it is called in a language, as far as the rule speaks it."""
        return self._words_of_rule(language).title

    def _words_of_rule(self, language: str) -> RuleWords:
        return self.rule.words.get(language) or self.rule.words.get("en") or RuleWords(self.rule.title, ())


def rules_at(rules: tuple[RuleInstance[R], ...], site: Site) -> tuple[RuleInstance[R], ...]:
    """Those that watch a device: the very same tuple where all do."""
    if all(instance.scope.has_site(site) for instance in rules):
        return rules
    return tuple(instance for instance in rules if instance.scope.has_site(site))


# --- what a factory makes of a rule

TIMES = ("hold_s", "clear_after_s")
"""Numbers that every alert has beside its rule's options."""


def numbers_of(instance: RuleInstance[Any]) -> dict[str, float | None]:
    """Every number of an alert that can be adjusted, as it is configured: its times, and the rule's own options."""
    found: dict[str, float | None] = {name: getattr(instance, name) for name in TIMES}
    model: Mapping[str, Any] = instance.rule.options_model.model_fields
    return found | {
        name: None if getattr(instance.options, name) is None else float(getattr(instance.options, name))
        for name, its in model.items()
        if _is_number(its.annotation)
    }


def _is_number(annotation: Any) -> bool:
    return annotation in {int, float} or any(_is_number(part) for part in get_args(annotation) if part is not bool)


class Unfit(ValueError):
    """Numbers that an alert cannot have together; ``errors`` are pairs of option and message."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {text}" if name else text for name, text in errors))
        self.errors = tuple(errors)


def with_numbers(instance: RuleInstance[R], numbers: Mapping[str, float]) -> RuleInstance[R]:
    """The alert with other numbers. Raises :class:`Unfit` where its rule's options refuse them."""
    times = {name: value for name, value in numbers.items() if name in TIMES}
    if wrong := [name for name, value in times.items() if value < 0]:
        raise Unfit([(name, gettext("must be at least 0")) for name in wrong])
    options: BaseModel = instance.options
    own = {name: value for name, value in numbers.items() if name not in TIMES}
    try:
        changed = type(options).model_validate({**options.model_dump(), **own}) if own else options
    except ValidationError as error:
        raise Unfit(
            [
                (".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, "))
                for each in error.errors(include_input=False, include_url=False)
            ]
        ) from None
    hold_s, clear_after_s = (times.get(name, getattr(instance, name)) for name in TIMES)
    return replace(instance, options=changed, hold_s=hold_s, clear_after_s=clear_after_s)


@dataclass(frozen=True, slots=True)
class Adjusted(Generic[R]):
    """An alert as one factory has it, and in ``notes``, by option, why a number is not the one that was chosen."""

    instance: RuleInstance[R]
    notes: Mapping[str, str] = field(default_factory=dict)


def adjusted(instance: RuleInstance[R], settings: AlertSettings, factory_id: int) -> Adjusted[R]:
    """An alert as a factory has adjusted it. Pure.

    What lies outside of headquarters' bound now is clipped to it; what no bound allows any more, and numbers that do
    not fit together any more, count as not adjusted.
    """
    chosen = settings.adjustments_of(factory_id, instance.name)
    if not chosen:
        return Adjusted(instance)
    numbers, notes = {}, {}
    for each in chosen:
        bound = settings.bound(instance.name, each.option)
        if bound is None:
            notes[each.option] = gettext("headquarters lets factories choose this no more: the configured value counts")
            continue
        value = numbers[each.option] = min(max(each.value, bound.low), bound.high)
        if value != each.value:
            notes[each.option] = gettext(
                "headquarters allows %(low)s to %(high)s now: %(value)s counts",
                low=format(bound.low, "g"),
                high=format(bound.high, "g"),
                value=format(value, "g"),
            )
    try:
        return Adjusted(with_numbers(instance, numbers), notes)
    except Unfit as error:
        return Adjusted(
            instance, notes | dict.fromkeys(numbers, gettext("the configured values count: %(error)s", error=error))
        )


def rules_of_factory(
    rules: tuple[RuleInstance[R], ...], settings: AlertSettings, factory_id: int
) -> tuple[RuleInstance[R], ...]:
    """All alerts as a factory has adjusted them: the very same tuple where it has adjusted nothing."""
    if not any(each.factory_id == factory_id for each in settings.adjustments):
        return rules
    return tuple(adjusted(instance, settings, factory_id).instance for instance in rules)


def unchanged(before: Iterable[RuleInstance[Any]], after: Iterable[RuleInstance[Any]]) -> set[str]:
    """The names of the rules that are as they were: of the same family, with the same options."""
    known = {instance.name: (instance.rule, instance.options) for instance in before}
    return {instance.name for instance in after if known.get(instance.name) == (instance.rule, instance.options)}


# --- one look

LATE_FROM = timedelta(seconds=60)
"""A reading that came so long after it was measured waited in the device's store."""
LONGEST_SILENCE = timedelta(seconds=180)
"""A breach holds from reading to reading, if the next comes within this: nodes on metered links send once a minute."""


def step(
    standing: Standing,
    instance: RuleInstance[Any],
    verdict: Verdict,
    at: datetime,
    longest_silence: timedelta = LONGEST_SILENCE,
) -> Standing:
    """Where the rule stands after one more look at ``at``; a longer silence before it breaks a hold."""
    if standing.state is AlertState.FIRING:
        return _step_from_firing(standing, instance, verdict, at)
    if verdict.cleared:
        return INACTIVE
    is_broken = standing.seen_at is not None and at - standing.seen_at > longest_silence
    if not verdict.breached:  # between the thresholds, or a value is missing
        if standing.state is AlertState.INACTIVE or is_broken:
            return standing
        return replace(standing, seen_at=at)
    since = standing.since or at
    if is_broken:
        since = at  # nobody knows that the breach held meanwhile
    if (at - since).total_seconds() >= instance.hold_s:
        return Standing(AlertState.FIRING, since)
    return Standing(AlertState.PENDING, since, at)


NOT_ASKED = Verdict(breached=False, cleared=False)


def ask(
    instance: RuleInstance[Any],
    standing: Standing,
    seen: Observation | FactoryFacts,
    at: datetime,
    longest_silence: timedelta = LONGEST_SILENCE,
) -> tuple[Standing, Verdict]:
    """Where a rule stands after it was shown what is seen at ``at``, and what it said. Raises what the rule raises.

    Outside of its hours it is not asked, and what is pending ends. What fires is asked on until it clears.
    """
    if standing.state is not AlertState.FIRING and not instance.scope.is_on(at):
        return standing if standing.state is AlertState.INACTIVE else INACTIVE, NOT_ASKED
    verdict: Verdict = instance.rule.evaluate(instance.options, seen)
    return step(standing, instance, verdict, at, longest_silence), verdict


KEEP_EVERY = timedelta(seconds=60)
"""How old the moment may be, as the database has it, at which a breach was last seen to hold."""


def is_worth_keeping(kept: Standing, now: Standing) -> bool:
    """Whether the database is to have this: all that a restart must not change, and no write for each reading."""
    if replace(kept, seen_at=None) != replace(now, seen_at=None):
        return True
    return kept.seen_at is not None and now.seen_at is not None and now.seen_at - kept.seen_at >= KEEP_EVERY


def held_until(kept: Standing, measured_at: datetime) -> Standing:
    """Where a rule stood after the newest reading, of what the database has.

    A later look would have been kept, unless the hold was broken by then (:func:`step` leaves its moment as it was).
    """
    if kept.seen_at is None or not timedelta(0) <= measured_at - kept.seen_at < KEEP_EVERY:
        return kept
    return replace(kept, seen_at=measured_at)


def count_standings(standings: Iterable[tuple[str, Standing]]) -> Counter[tuple[str, str]]:
    """How many of each name are pending, and how many fire."""
    return Counter((name, it.state.value) for name, it in standings if it.state is not AlertState.INACTIVE)


def _step_from_firing(standing: Standing, instance: RuleInstance[Any], verdict: Verdict, at: datetime) -> Standing:
    """An alert ends when it has been well for long enough; a silence in between does not make it worse."""
    if verdict.cleared:
        well_since = standing.well_since or at
        if (at - well_since).total_seconds() >= instance.clear_after_s:
            return INACTIVE
        return replace(standing, well_since=well_since)
    return replace(standing, well_since=None) if verdict.breached else standing
