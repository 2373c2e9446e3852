"""How sure a measured mass is: the budget of one stack, and how it combines over hours and stacks.

Relative standard uncertainties (k = 1) of the factors of a product add up as squares (JCGM 100:2008, 5.1.6). What is
wrong in the same way in every hour does not average out; what differs from hour to hour does, with the square root of
their number. Expanded uncertainties have k = 2, about 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, hypot, sqrt
from statistics import fmean, stdev

from carbontrack.ledger import AccountHour, Method
from carbontrack.model import MonitoringPlan

COVERAGE_FACTOR = 2.0
SYSTEMATIC = {
    "co2": 0.8,
    "velocity": 0.8,
    "profile": 1.0,
    "area": 1.0,
    "temperature": 0.8,
    "pressure": 1.0,
    "h2o": 0.7,
}
"""Share of each factor's variance that is the same in every hour: calibration and geometry. A choice of the project."""
MRR_TIERS = ((4, 0.025), (3, 0.05), (2, 0.075), (1, 0.10))
"""MRR Annex VIII, section 1, table 1: expanded uncertainty of the annual average hourly CO2 emission."""


def combine_product(*u_relative: float) -> float:
    """Relative standard uncertainty of a product of independent factors."""
    return hypot(*u_relative)


def combine_sum(terms: Sequence[tuple[float, float]], *, correlated: bool = False) -> float:
    """Relative standard uncertainty of a sum, from pairs of value and relative standard uncertainty.

    ``correlated``: the same cause makes all terms wrong (one method for all), so the errors add up. 0 for a sum of 0.
    """
    whole = abs(fsum(value for value, _ in terms))
    if not whole:
        return 0.0
    errors = [value * u for value, u in terms]
    return (abs(fsum(errors)) if correlated else hypot(*errors)) / whole


def expanded(u_relative: float, k: float = COVERAGE_FACTOR) -> float:
    """Expanded uncertainty."""
    return k * u_relative


def mrr_tier(expanded_relative: float) -> int | None:
    """The tier that an expanded uncertainty reaches (4 is the best), or None."""
    return next((tier for tier, most in MRR_TIERS if expanded_relative <= most), None)


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One factor of the rate: its relative standard uncertainty and its share of the variance of the whole."""

    factor: str
    """Which quantity: `co2`, `velocity`, and so on."""
    u_relative: float
    """Relative standard uncertainty (k = 1)."""
    share_of_variance: float
    """0 to 1."""
    systematic_share: float
    """The part of it that is the same in every hour, 0 to 1."""


def budget(plan: MonitoringPlan) -> tuple[BudgetLine, ...]:
    """The budget of one hour under a plan, the largest first.

    A dry analyser's water correction is in it only where the plan's basis is dry.
    """
    factors = {
        "co2": plan.u_co2,
        "velocity": plan.u_velocity,
        "profile": plan.u_profile,
        "area": plan.u_area,
        "temperature": plan.u_temperature,
        "pressure": plan.u_pressure,
        "h2o": plan.u_h2o if plan.basis == "dry" else 0.0,
    }
    variance = fsum(u * u for u in factors.values())
    lines = [
        BudgetLine(name, u, u * u / variance if variance else 0.0, SYSTEMATIC[name]) for name, u in factors.items()
    ]
    return tuple(sorted(lines, key=lambda line: -line.u_relative))


@dataclass(frozen=True, slots=True)
class StackUncertainty:
    """Of one stack's mass over a period; all relative to that mass."""

    u_hour: float
    """Of one hour by itself."""
    u_relative: float
    """Of the whole mass (k = 1)."""
    u_systematic: float
    """The part that is the same in every hour."""
    u_random: float
    """The part that gets less with more hours."""
    u_substituted: float
    """Of the hours that were substituted."""
    lines: tuple[BudgetLine, ...]

    @property
    def expanded_relative(self) -> float:
        return expanded(self.u_relative)

    @property
    def tier(self) -> int | None:
        return mrr_tier(self.expanded_relative)


def period_uncertainty(plan: MonitoringPlan, hours: Sequence[AccountHour]) -> StackUncertainty | None:
    """The uncertainty of the mass of a period; None where there is no mass to be unsure of.

    Substituted hours carry the spread of the valid ones as if it were the same error in all of them: nobody knows
    what burned in a gap.
    """
    lines = budget(plan)
    systematic = sqrt(fsum(line.u_relative**2 * line.systematic_share for line in lines))
    random = sqrt(fsum(line.u_relative**2 * (1 - line.systematic_share) for line in lines))
    measured = [hour.co2_kg for hour in hours if hour.method is Method.MEASURED and hour.co2_kg]
    stand_in = fsum(
        hour.co2_kg or 0.0 for hour in hours if hour.method not in {Method.MEASURED, Method.NOT_OPERATING, Method.NONE}
    )
    whole = fsum(measured) + stand_in
    if not whole:
        return None
    of_systematic = systematic  # one method for measured and substituted hours alike
    of_random = random * hypot(*measured) / whole if measured else 0.0
    of_substituted = _spread(hours) * stand_in / whole
    return StackUncertainty(
        u_hour=combine_product(*(line.u_relative for line in lines)),
        u_relative=hypot(of_systematic, of_random, of_substituted),
        u_systematic=of_systematic,
        u_random=of_random,
        u_substituted=of_substituted,
        lines=lines,
    )


def _spread(hours: Sequence[AccountHour]) -> float:
    """Relative standard deviation of the valid hours' rates; 1 where there are too few to know."""
    rates = [hour.hour.mean_kg_per_s for hour in hours if hour.method is Method.MEASURED and hour.hour.mean_kg_per_s]
    return stdev(rates) / fmean(rates) if len(rates) > 1 else 1.0
