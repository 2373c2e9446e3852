"""Alert rule "stuck": a channel gives the same value for too long while the boiler fires.

    alerts:
      - name: co2-stuck
        rule: stuck
        options: {quantity: co2_ppm, for_s: 600}

What to do first: look at the instrument's own display. If it moves and the node's value does not, restart the node; if
it stands still, clean the filter and the probe, then restart the instrument. An anemometer that stands still is fouled
or seized.

A fire never burns evenly, so its gas never stands still; that of a cold boiler does. The boiler counts as firing while
the temperature or the CO2 is above the ``on_`` value of the stack's monitoring plan. For CO2 the flag STUCK counts
too, which the platform sets after ``devices.stuck_after_s``, or the device itself. The alert is cleared when the value
has moved three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from carbontrack import (
    AlertRule,
    Flag,
    Kind,
    Manifest,
    Observation,
    RuleWords,
    Tier,
    Verdict,
    __version__,
    co2_wet_fraction,
    hookimpl,
    plan_in_force,
)

MANIFEST = Manifest(
    name="stuck",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on a channel whose value stands still",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

UNITS = {
    "co2_ppm": ("the CO2", "ppm"),
    "temperature_c": ("the gas temperature", "°C"),
    "velocity_ms": ("the gas velocity", "m/s"),
}
NOT_AS_USUAL = int(Flag.WARM_UP | Flag.MAINTENANCE | Flag.CALIBRATION)
STUCK_FLAG = int(Flag.STUCK)
LONGEST_GAP_S = 300.0
"""After a longer gap nobody knows that the value stood still meanwhile."""
FEWEST_READINGS = 12
MOVES_TO_CLEAR = 3


class StuckOptions(BaseModel):
    """Which channel, and how long."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    quantity: Literal["co2_ppm", "temperature_c", "velocity_ms"] = "co2_ppm"
    """The channel that is watched."""
    for_s: float = Field(600.0, ge=60, le=86_400)
    """For how many seconds of measuring time the value must stand still."""
    spread: float = Field(0.0, ge=0, allow_inf_nan=False)
    """How far the highest and the lowest value may be apart and still be one value, in the channel's own unit."""


def evaluate(options: StuckOptions, seen: Observation) -> Verdict:
    """Follow the run of equal values that the newest reading prolongs or ends."""
    snapshot, memory = seen.snapshot, seen.memory
    value: float | None = getattr(snapshot, options.quantity)
    if value is None or snapshot.measured_at is None or snapshot.flags & NOT_AS_USUAL or not _fires(seen):
        memory.pop("run", None)
        return Verdict(breached=False, cleared=False)
    at_s = snapshot.measured_at.timestamp()
    since_s, last_s, lowest, highest, count = memory.get("run", (at_s, at_s, value, value, 0))
    lowest, highest = min(lowest, value), max(highest, value)
    if at_s - last_s > LONGEST_GAP_S:
        since_s, lowest, highest, count = at_s, value, value, 0
    elif highest - lowest > options.spread:
        memory["moves"] = memory.get("moves", 0) + 1
        since_s, lowest, highest, count = at_s, value, value, 0
    memory["run"] = since_s, at_s, lowest, highest, count + 1
    stands_s = at_s - since_s
    stuck = stands_s >= options.for_s and count + 1 >= FEWEST_READINGS
    if options.quantity == "co2_ppm" and snapshot.flags & STUCK_FLAG:
        stuck = True
    if not stuck:
        return Verdict(breached=False, cleared=memory.get("moves", 0) >= MOVES_TO_CLEAR)
    memory["moves"] = 0
    name, unit = UNITS[options.quantity]
    return Verdict(
        breached=True,
        cleared=False,
        message=(
            f"{seen.site.factory.name}, {seen.site.stack.name}: {name} stands still at {value:.6g} {unit} while the "
            f"boiler fires, for {max(stands_s, options.for_s) / 60:.0f} min or longer"
        ),
        value=max(stands_s, options.for_s) / 60,
        limit=options.for_s / 60,
        unit="min",
    )


def _fires(seen: Observation) -> bool:
    """Whether there is a fire, by the plan of the time; a value that is missing says nothing."""
    snapshot = seen.snapshot
    if snapshot.measured_at is None:
        return False
    plan = plan_in_force(seen.site.stack.plans, snapshot.measured_at.timestamp())
    if snapshot.temperature_c is not None and snapshot.temperature_c >= plan.on_temperature_c:
        return True
    return snapshot.co2_ppm is not None and co2_wet_fraction(snapshot.co2_ppm, plan) * 1e6 >= plan.on_co2_ppm


WORDS = {
    "en": RuleWords(
        "A value stands still",
        (
            "Look at the instrument's own display.",
            "If the value moves there, restart the node.",
            "If it stands still there, clean the filter and the probe, then restart the instrument.",
            "If it is the velocity, clean the anemometer and see whether it turns freely.",
        ),
    ),
    "sw": RuleWords(
        "Kipimo kimekwama",
        (
            "Angalia skrini ya kifaa cha kupimia chenyewe.",
            "Kama thamani inabadilika hapo, zima nodi na uiwashe tena.",
            "Kama imekwama hapo pia, safisha kichujio na ncha ya kupimia, kisha uwashe upya kifaa cha kupimia.",
            "Kama ni kasi ya moshi, safisha kipima kasi na uone kama kinazunguka bila kukwama.",
        ),
    ),
}

STUCK = AlertRule(
    name="stuck",
    title="A channel gives the same value for too long",
    options_model=StuckOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (STUCK,)
