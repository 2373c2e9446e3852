"""When an alert begins and ends: a pure step from one state to the next.

``inactive -> pending -> firing -> inactive``. A breach must hold for ``hold_s`` before it fires. Between the raise and
the clear threshold, and where a value is missing, nothing changes (hysteresis is the rule's: see
:class:`carbontrack.hookspecs.Verdict`).

What is asked after readings runs by measuring time, so that a late reading does not shorten a hold; what is asked on a
timer runs by the core's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from carbontrack.hookspecs import AlertRule, FactoryRule, Verdict
from carbontrack.model import AlertState

R = TypeVar("R", AlertRule, FactoryRule)


@dataclass(frozen=True, slots=True)
class RuleInstance(Generic[R]):
    """One configured rule: the family, its options, and how it speaks."""

    name: str
    rule: R
    options: Any
    severity: str
    hold_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one rule stands for one device or factory.

    ``since`` is when the breach began, ``seen_at`` when it was last seen to hold.
    """

    state: AlertState = AlertState.INACTIVE
    since: datetime | None = None
    seen_at: datetime | None = None


INACTIVE = Standing()
LONGEST_SILENCE = timedelta(seconds=60)
"""A breach holds from reading to reading, if the next comes within this."""


def step(
    standing: Standing,
    instance: RuleInstance[Any],
    verdict: Verdict,
    at: datetime,
    longest_silence: timedelta = LONGEST_SILENCE,
) -> Standing:
    """Where the rule stands after one more look at ``at``; a longer silence before it breaks a hold."""
    if standing.state is AlertState.FIRING:
        return INACTIVE if verdict.cleared else standing
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
