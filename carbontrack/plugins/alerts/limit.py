"""Alert rule "limit": a measured quantity is above a limit.

    alerts:
      - name: co2-rate-high
        rule: limit
        severity: warning
        hold_s: 60
        options: {quantity: co2_kg_per_s, raise_above: 0.6, clear_below: 0.55}

The alert is raised when the quantity has been above ``raise_above`` for ``hold_s`` seconds, and cleared when it falls
below ``clear_below``. Between the two nothing changes, so a value that hovers at the limit does not ring all day. The
same holds for readings that were taken during warm-up, maintenance or calibration: a span gas may be anything.

What to do first: for a CO2 rate, see whether the boiler is fired harder than it should be, and whether the velocity is
right; for the temperature, go and look at the boiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from carbontrack import AlertRule, Flag, Kind, Manifest, Observation, RuleWords, Tier, Verdict, __version__, hookimpl

MANIFEST = Manifest(
    name="limit",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on a measured quantity above a limit",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

NOT_AS_USUAL = int(Flag.WARM_UP | Flag.MAINTENANCE | Flag.CALIBRATION)
UNITS = {
    "co2_kg_per_s": "kg/s CO2",
    "co2_ppm": "ppm CO2",
    "temperature_c": "°C gas temperature",
    "velocity_ms": "m/s gas velocity",
}


class LimitOptions(BaseModel):
    """The two thresholds, in the quantity's own unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    quantity: Literal["co2_kg_per_s", "co2_ppm", "temperature_c", "velocity_ms"]
    """What is watched."""
    raise_above: FiniteFloat
    """A value above this raises the alert; in the quantity's own unit, which its name ends with."""
    clear_below: FiniteFloat
    """A value below this clears it; between the two nothing changes."""

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> LimitOptions:
        if self.clear_below > self.raise_above:
            raise ValueError("clear_below must not be above raise_above")
        return self


def evaluate(options: LimitOptions, seen: Observation) -> Verdict:
    """Compare one snapshot; a value that is missing changes nothing."""
    value: float | None = getattr(seen.snapshot, options.quantity)
    if value is None or seen.snapshot.flags & NOT_AS_USUAL:
        return Verdict(breached=False, cleared=False)
    if value <= options.raise_above:
        return Verdict(breached=False, cleared=value < options.clear_below)
    return Verdict(
        breached=True,
        cleared=False,
        message=(
            f"{seen.site.factory.name}, {seen.site.stack.name}: {value:.4g} {UNITS[options.quantity]}, "
            f"the limit is {options.raise_above:.4g}"
        ),
        value=value,
        limit=options.raise_above,
        unit=UNITS[options.quantity].split(" ")[0],
    )


WORDS = {
    "en": RuleWords(
        "Above its limit",
        (
            "Look at the boiler: is it fired harder than it should be?",
            "If the gas is too hot, take away fire and air, and stay with the boiler.",
            "If the boiler looks as usual, compare the value with the instrument's own display.",
        ),
    ),
    "sw": RuleWords(
        "Kipimo kimezidi kikomo",
        (
            "Angalia boila: je, moto umechochewa kupita kiasi?",
            "Kama moshi una joto kupita kiasi, punguza moto na hewa, na ubaki karibu na boila.",
            "Kama boila iko kawaida, linganisha thamani na ile inayoonyeshwa na kifaa cha kupimia chenyewe.",
        ),
    ),
}

LIMIT = AlertRule(
    name="limit",
    title="A measured quantity is above a limit",
    options_model=LimitOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (LIMIT,)
