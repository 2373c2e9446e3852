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
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from carbontrack.hookspecs import AlertRule, FactoryRule, Verdict
from carbontrack.model import INACTIVE, AlertState, Standing

R = TypeVar("R", AlertRule, FactoryRule)


@dataclass(frozen=True, slots=True)
class RuleInstance(Generic[R]):
    """One configured rule: the family, its options, and how it speaks."""

    name: str
    rule: R
    options: Any
    severity: str
    hold_s: float
    clear_after_s: float = 0.0


def unchanged(before: Iterable[RuleInstance[Any]], after: Iterable[RuleInstance[Any]]) -> set[str]:
    """The names of the rules that are as they were: of the same family, with the same options."""
    known = {instance.name: (instance.rule, instance.options) for instance in before}
    return {instance.name for instance in after if known.get(instance.name) == (instance.rule, instance.options)}


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
    if not verdict.breached:  # between the thresholds, or a value is missing
        return standing if standing.state is AlertState.INACTIVE else replace(standing, seen_at=at)
    since = standing.since or at
    if standing.seen_at is not None and at - standing.seen_at > longest_silence:
        since = at  # nobody knows that the breach held meanwhile
    if (at - since).total_seconds() >= instance.hold_s:
        return Standing(AlertState.FIRING, since)
    return Standing(AlertState.PENDING, since, at)


KEEP_EVERY = timedelta(seconds=60)
"""How old the moment may be, as the database has it, at which a breach was last seen to hold."""


def is_worth_keeping(kept: Standing, now: Standing) -> bool:
    """Whether the database is to have this: all that a restart must not change, and no write for each reading."""
    if replace(kept, seen_at=None) != replace(now, seen_at=None):
        return True
    return kept.seen_at is not None and now.seen_at is not None and now.seen_at - kept.seen_at >= KEEP_EVERY


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
