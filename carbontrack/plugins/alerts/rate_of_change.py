"""Alert rule "rate-of-change": a measured quantity rises or falls too fast.

    alerts:
      - name: gas-heats-fast
        rule: rate-of-change
        severity: critical
        hold_s: 30
        options:
          quantity: temperature_c
          direction: rise
          raise_above_per_min: 30
          clear_below_per_min: 10

What to do first: go and look at the boiler. Gas that heats fast is a damper, a feed or a fan; CO2 or a velocity that
falls fast is more often a hose that came off. Raise ``window_s`` if each charge of wood rings.

The rate is the median of the window's last third less the median of its first, over the time between the two. So one
outlier does not ring, a steady change gives its exact rate, and nothing is said before the window is filled: after a
start of the core, after a gap, and with fewer than three readings in a third. Readings that were taken during warm-up,
maintenance or calibration do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carbontrack import AlertRule, Flag, Kind, Manifest, Observation, RuleWords, Tier, Verdict, __version__, hookimpl

MANIFEST = Manifest(
    name="rate_of_change",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on a measured quantity that changes too fast",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

UNITS = {
    "co2_kg_per_s": ("CO2 rate", "kg/s"),
    "co2_ppm": ("CO2", "ppm"),
    "temperature_c": ("gas temperature", "°C"),
    "velocity_ms": ("gas velocity", "m/s"),
}
NOT_AS_USUAL = int(Flag.WARM_UP | Flag.MAINTENANCE | Flag.CALIBRATION)
MOST_POINTS = 120
"""A window keeps no more readings than about this: of a device that sends more often some are left out."""
FEWEST_POINTS = 3
"""In each of the two thirds that are compared: the median of three is not moved by one outlier."""

Points = deque[tuple[float, float]]
"""Measuring time in seconds, and the value; oldest first."""


class RateOfChangeOptions(BaseModel):
    """The two thresholds, in the quantity's own unit per minute."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    quantity: Literal["co2_kg_per_s", "co2_ppm", "temperature_c", "velocity_ms"]
    """What is watched."""
    raise_above_per_min: float = Field(gt=0, allow_inf_nan=False)
    """A change per minute that is faster than this raises the alert."""
    clear_below_per_min: float = Field(ge=0, allow_inf_nan=False)
    """A change per minute that is slower than this clears it; between the two nothing changes."""
    direction: Literal["rise", "fall", "both"] = "both"
    """Which way it must change to count."""
    window_s: float = Field(300.0, ge=30, le=86_400)
    """Over how many seconds of measuring time the change is taken."""

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> RateOfChangeOptions:
        if self.clear_below_per_min > self.raise_above_per_min:
            raise ValueError("clear_below_per_min must not be above raise_above_per_min")
        return self


def evaluate(options: RateOfChangeOptions, seen: Observation) -> Verdict:
    """Take the newest reading into the window, and compare the window's end with its beginning."""
    snapshot = seen.snapshot
    value: float | None = getattr(snapshot, options.quantity)
    points: Points = seen.memory.setdefault("points", deque())
    if value is None or snapshot.measured_at is None or snapshot.flags & NOT_AS_USUAL:
        return Verdict(breached=False, cleared=False)
    at_s = snapshot.measured_at.timestamp()
    while points and points[0][0] < at_s - options.window_s:
        points.popleft()
    if not points or at_s - points[-1][0] >= options.window_s / MOST_POINTS:
        points.append((at_s, value))
    rate = rate_per_min(points, at_s - options.window_s, at_s)
    if rate is None:
        return Verdict(breached=False, cleared=False)
    size = {"rise": rate, "fall": -rate, "both": abs(rate)}[options.direction]
    if size <= options.raise_above_per_min:
        return Verdict(breached=False, cleared=size < options.clear_below_per_min)
    name, unit = UNITS[options.quantity]
    return Verdict(
        breached=True,
        cleared=False,
        message=(
            f"{seen.site.factory.name}, {seen.site.stack.name}: the {name} changes by {rate:+.3g} {unit} per minute "
            f"over {options.window_s / 60:.3g} min, the limit is {options.raise_above_per_min:.4g}"
        ),
        value=size,
        limit=options.raise_above_per_min,
        unit=f"{unit} per minute",
    )


def rate_per_min(points: Points, start_s: float, end_s: float) -> float | None:
    """How fast the values change between two moments; None where too few are known at the beginning or the end."""
    third_s = (end_s - start_s) / 3
    first = [point for point in points if point[0] <= start_s + third_s]
    last = [point for point in points if point[0] >= end_s - third_s]
    if min(len(first), len(last)) < FEWEST_POINTS:
        return None
    (from_s, before), (until_s, after) = _middle(first), _middle(last)
    return (after - before) / (until_s - from_s) * 60


def _middle(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    times, values = zip(*points, strict=True)
    return median(times), median(values)


WORDS = {
    "en": RuleWords(
        "Changes too fast",
        (
            "Go to the boiler and look at the fire, the damper and the fan.",
            "If CO2 or the velocity falls fast, look for a hose that came off.",
            "If every charge of wood rings, tell headquarters: the window is too short.",
        ),
    ),
    "sw": RuleWords(
        "Kipimo kinabadilika haraka mno",
        (
            "Nenda kwenye boila uangalie moto, kilango cha hewa na feni.",
            "Kama CO2 au kasi ya moshi inashuka haraka, tafuta mpira uliochomoka.",
            "Kama tahadhari inalia kila mara kuni zinapoongezwa, waambie makao makuu: muda wa kupima ni mfupi mno.",
        ),
    ),
}

RATE_OF_CHANGE = AlertRule(
    name="rate-of-change",
    title="A measured quantity rises or falls too fast",
    options_model=RateOfChangeOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (RATE_OF_CHANGE,)
