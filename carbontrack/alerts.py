"""When an alert begins and ends: a pure step from one state to the next.

``inactive -> pending -> firing -> inactive``. A breach must hold for ``hold_s`` before it fires. Between the raise and
the clear threshold, and where a value is missing, nothing changes (hysteresis is the rule's: see
:class:`carbontrack.hookspecs.Verdict`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from carbontrack.hookspecs import AlertRule, Verdict
from carbontrack.model import AlertState


@dataclass(frozen=True, slots=True)
class RuleInstance:
    """One configured rule: the family, its options, and how it speaks."""

    name: str
    rule: AlertRule
    options: Any
    severity: str
    hold_s: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one rule stands for one device, by measuring time.

    ``since`` is when the breach began, ``seen_at`` when a reading last held it.
    """

    state: AlertState = AlertState.INACTIVE
    since: datetime | None = None
    seen_at: datetime | None = None


INACTIVE = Standing()
LONGEST_SILENCE = timedelta(seconds=60)
"""A breach holds from reading to reading, if the next comes within this."""


def step(standing: Standing, instance: RuleInstance, verdict: Verdict, measured_at: datetime) -> Standing:
    """Where the rule stands after one more live reading."""
    if standing.state is AlertState.FIRING:
        return INACTIVE if verdict.cleared else standing
    if verdict.cleared:
        return INACTIVE
    if not verdict.breached:  # between the thresholds, or a value is missing
        return standing if standing.state is AlertState.INACTIVE else replace(standing, seen_at=measured_at)
    since = standing.since or measured_at
    if standing.seen_at is not None and measured_at - standing.seen_at > LONGEST_SILENCE:
        since = measured_at  # nobody knows that the breach held meanwhile
    if (measured_at - since).total_seconds() >= instance.hold_s:
        return Standing(AlertState.FIRING, since)
    return Standing(AlertState.PENDING, since, measured_at)
