"""Targets, the leaderboard and the programme's figures: what may be compared, and what may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carbontrack.emissions.accounts import Account
from carbontrack.ledger import Metric, Target, TargetStatus
from carbontrack.words import N_

LEAST_AVAILABILITY = 0.8
"""Who has measured less is neither ranked nor said to have met a target."""

METRIC_UNITS = {
    Metric.STACK_CO2_PER_TEA: N_("kg CO2 / kg made tea"),
    Metric.FOSSIL_CO2E_PER_TEA: N_("kg CO2e / kg made tea"),
    Metric.GRID_CO2E_PER_TEA: N_("kg CO2e / kg made tea"),
    Metric.WOOD_PER_TEA: N_("kg wood / kg made tea"),
    Metric.STACK_CO2: N_("kg CO2"),
}
MEASURED = frozenset({Metric.STACK_CO2_PER_TEA, Metric.STACK_CO2})
"""Metrics that rest on the chimneys' measurement, and so on its availability."""


def metric_value(account: Account, metric: Metric) -> float | None:
    """A metric's value in an account, in :data:`METRIC_UNITS`; None where it is not defined."""
    return account.stack_co2.value_kg if metric is Metric.STACK_CO2 else account.intensities[metric]


def target_status(target: Target, value: float | None, availability: float | None) -> TargetStatus:
    """Whether a target is met: insufficient data without a value, or with too little of it measured."""
    measured_enough = target.metric not in MEASURED or (availability is not None and availability >= LEAST_AVAILABILITY)
    if value is None or not measured_enough:
        return TargetStatus.INSUFFICIENT_DATA
    return TargetStatus.MET if value <= target.value else TargetStatus.NOT_MET


@dataclass(frozen=True, slots=True)
class Contestant:
    """One factory on the leaderboard. ``before`` is its value in its own period before."""

    factory_id: int
    name: str
    value: float | None
    expanded_relative: float | None
    availability: float | None
    before: float | None = None


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """``rank`` None: withheld, and ``reason_unranked`` says why. ``tied``: others have the same rank."""

    rank: int | None
    factory_id: int
    name: str
    value: float | None
    expanded: float | None
    """Expanded uncertainty (k = 2), in the value's unit."""
    availability: float | None
    trend: float | None
    """Change against the factory's own period before: -0.1 is 10 % less."""
    tied: bool
    reason_unranked: str


def leaderboard(contestants: Sequence[Contestant]) -> list[LeaderboardRow]:
    """Ranked factories, the lowest value first, then those without a rank by name.

    Factories tie where their expanded intervals overlap with that of the best of their group: the difference could be
    the instruments'. Ranks are those of a competition: 1, 1, 3.
    """
    fit = sorted((c for c in contestants if not _reason(c)), key=lambda c: (c.value or 0.0, c.name, c.factory_id))
    ranks: dict[int, int] = {}
    leader_reach = 0.0
    for place, contestant in enumerate(fit, 1):
        low, high = _interval(contestant)
        if place == 1 or low > leader_reach:
            rank, leader_reach = place, high
        ranks[contestant.factory_id] = rank
    shared = {rank for rank in ranks.values() if sum(other == rank for other in ranks.values()) > 1}
    others = sorted((c for c in contestants if _reason(c)), key=lambda c: (c.name, c.factory_id))
    return [
        LeaderboardRow(
            rank=ranks.get(c.factory_id),
            factory_id=c.factory_id,
            name=c.name,
            value=c.value,
            expanded=c.value * c.expanded_relative if c.value is not None and c.expanded_relative else None,
            availability=c.availability,
            trend=c.value / c.before - 1 if c.value is not None and c.before else None,
            tied=ranks.get(c.factory_id) in shared,
            reason_unranked=_reason(c),
        )
        for c in (*fit, *others)
    ]


def _interval(contestant: Contestant) -> tuple[float, float]:
    value = contestant.value or 0.0
    reach = value * (contestant.expanded_relative or 0.0)
    return value - reach, value + reach


def _reason(contestant: Contestant) -> str:
    """Why a factory has no rank; nothing when it has one."""
    if contestant.availability is None:
        return "Nothing was measured."
    if contestant.availability < LEAST_AVAILABILITY:
        return (
            f"Only {contestant.availability:.0%} of the operating hours are valid; {LEAST_AVAILABILITY:.0%} are needed."
        )
    if contestant.value is None:
        return "There is no made tea, or no figure, to make an intensity of."
    return ""


@dataclass(frozen=True, slots=True)
class Programme:
    """How the whole network does. Each count stands with the number that it is out of."""

    factories: int
    """How many there are."""
    uptime: float | None
    """Share of the devices' hours of which anything is known."""
    submitting: int
    """Factories with energy and production entries in the period."""
    with_target: int
    """Factories with a target."""
    meeting_target: int
    """Factories that meet all of theirs."""
    insufficient_data: int
    """Factories whose data do not tell."""


def programme(
    *, known_hours: float, all_hours: float, submitted: Sequence[bool], statuses: Sequence[TargetStatus | None]
) -> Programme:
    """The figures from each factory's: whether it submitted, and how its target stands (None: it has none)."""
    return Programme(
        factories=len(submitted),
        uptime=known_hours / all_hours if all_hours else None,
        submitting=sum(submitted),
        with_target=sum(status is not None for status in statuses),
        meeting_target=sum(status is TargetStatus.MET for status in statuses),
        insufficient_data=sum(status is TargetStatus.INSUFFICIENT_DATA for status in statuses),
    )
