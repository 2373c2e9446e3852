"""Alert rule "implausible": values that cannot be, or cannot be together.

    alerts:
      - name: implausible
        rule: implausible
        options: {combination_for_s: 3600}

What to do first: read the message. Hot gas that moves and has no CO2 means a sample line that leaks or a pump that
stands still: look at the hoses and the filter. CO2 in cold gas means a thermocouple that has slipped out of the stack,
or an analyser that stands still. A value that no chimney has means a wrong unit or a broken channel.

A single value that cannot be counts at once. A combination must last for ``combination_for_s``: while a fire is lit
there is CO2 before there is heat, and for most of an hour after it has gone out the brickwork still heats air. The
thresholds are the ``on_`` and ``off_`` values of the stack's monitoring plan. Channels that report a fault, and
readings during warm-up, maintenance or calibration, say nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

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
    name="implausible",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on values that cannot be, alone or together",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

NOT_AS_USUAL = int(Flag.WARM_UP | Flag.MAINTENANCE | Flag.CALIBRATION)
BAD = int(
    Flag.CO2_OVER_RANGE
    | Flag.CO2_FAULT
    | Flag.STALE
    | Flag.UNFIT_SENSOR
    | Flag.CO2_IMPLAUSIBLE
    | Flag.TEMPERATURE_OPEN
    | Flag.TEMPERATURE_FAULT
    | Flag.TEMPERATURE_IMPLAUSIBLE
)
"""With these nothing is known of CO2 and heat together."""
BAD_VELOCITY = int(Flag.VELOCITY_FAULT | Flag.PRESSURE_DIFFERENCE_NEGATIVE | Flag.VELOCITY_IMPLAUSIBLE)
LONGEST_GAP_S = 300.0
"""After a longer gap nobody knows that a combination held meanwhile."""

SINGLE_VALUES: dict[Flag, tuple[str, Flag]] = {
    Flag.IMPLAUSIBLE: ("the device calls its own values implausible", Flag(0)),
    Flag.CO2_IMPLAUSIBLE: ("no flue gas has this CO2", Flag.CO2_FAULT | Flag.STALE),
    Flag.TEMPERATURE_IMPLAUSIBLE: ("no chimney has this temperature", Flag.TEMPERATURE_OPEN | Flag.TEMPERATURE_FAULT),
    Flag.VELOCITY_IMPLAUSIBLE: (
        "no chimney has this velocity, or the anemometer stands still in hot gas",
        Flag.VELOCITY_FAULT | Flag.PRESSURE_DIFFERENCE_NEGATIVE,
    ),
    Flag.PRESSURE_IMPLAUSIBLE: ("no place on earth has this pressure; the site's is used", Flag(0)),
}
"""What a flag says, and the faults that say it already."""
ANY_VALUE = int(reduce(or_, SINGLE_VALUES))


class ImplausibleOptions(BaseModel):
    """How long a combination must last."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    combination_for_s: float = Field(3600.0, ge=300, le=86_400)
    """For how many seconds of measuring time values that do not fit together must last."""


def evaluate(options: ImplausibleOptions, seen: Observation) -> Verdict:
    """Whether the newest reading cannot be, or has not fitted together for too long."""
    snapshot = seen.snapshot
    if snapshot.measured_at is None or snapshot.flags & NOT_AS_USUAL:
        return Verdict(breached=False, cleared=False)
    found = _single_values(snapshot.flags) if snapshot.flags & ANY_VALUE else []
    combination = _combination(seen)
    if combination is None:  # too little is known: one that lasts already is not over for that
        is_over = not seen.memory.get("combination", ("",))[0]
    else:
        is_over = not combination
        if _lasts_s(seen, combination) >= options.combination_for_s and combination:
            found.append(combination)
    if not found:
        return Verdict(breached=False, cleared=is_over)
    return Verdict(
        breached=True,
        cleared=False,
        message=f"{seen.site.factory.name}, {seen.site.stack.name}: {' and '.join(found)}{_values(seen)}",
    )


def _single_values(flags: int) -> list[str]:
    """What each value that cannot be says, unless a fault says it already."""
    return [text for flag, (text, said) in SINGLE_VALUES.items() if flags & flag and not flags & said]


def _combination(seen: Observation) -> str | None:
    """What does not fit together now; empty where all does, None where too little is known."""
    snapshot = seen.snapshot
    flags, temperature_c, velocity_ms = snapshot.flags, snapshot.temperature_c, snapshot.velocity_ms
    if snapshot.measured_at is None or snapshot.co2_ppm is None or temperature_c is None or velocity_ms is None:
        return None
    if flags & BAD:
        return None
    plan = plan_in_force(seen.site.stack.plans, snapshot.measured_at.timestamp())
    co2_ppm = co2_wet_fraction(snapshot.co2_ppm, plan) * 1e6
    if co2_ppm < plan.off_co2_ppm:
        moves = velocity_ms >= plan.on_velocity_ms and not flags & BAD_VELOCITY
        return "the gas is hot and moves, and has no CO2" if moves and temperature_c >= plan.on_temperature_c else ""
    is_cold = temperature_c < plan.off_temperature_c
    return "there is CO2 as of a fire, and no heat" if is_cold and co2_ppm >= plan.on_co2_ppm else ""


def _lasts_s(seen: Observation, combination: str) -> float:
    """For how long the same combination has lasted, by measuring time and without a gap."""
    at = seen.snapshot.measured_at
    before, since, last = seen.memory.get("combination", ("", at, at))
    if at is None or combination != before or (at - last).total_seconds() > LONGEST_GAP_S:
        since = at
    seen.memory["combination"] = combination, since, at
    return 0.0 if at is None else (at - since).total_seconds()


def _values(seen: Observation) -> str:
    snapshot = seen.snapshot
    known = [
        f"{value:.4g} {unit}"
        for value, unit in (
            (snapshot.co2_ppm, "ppm CO2"),
            (snapshot.temperature_c, "°C"),
            (snapshot.velocity_ms, "m/s"),
        )
        if value is not None
    ]
    return f" ({', '.join(known)})" if known else ""


WORDS = {
    "en": RuleWords(
        "Values that cannot be",
        (
            "Read the message: it names what does not fit.",
            "Hot gas without CO2: look at the sample line, the filter and the pump.",
            "CO2 without heat: see whether the thermocouple has slipped out of the chimney.",
            "A single value that cannot be: look for a loose cable, or a setting that was changed.",
        ),
    ),
    "sw": RuleWords(
        "Vipimo visivyowezekana",
        (
            "Soma ujumbe: unataja kisicholingana.",
            "Moshi wenye joto bila CO2: angalia mpira wa sampuli, kichujio na pampu.",
            "CO2 bila joto: angalia kama kipima joto kimechomoka kwenye bomba la moshi.",
            "Thamani moja isiyowezekana: tafuta waya uliolegea, au mpangilio uliobadilishwa.",
        ),
    ),
}

IMPLAUSIBLE = AlertRule(
    name="implausible",
    title="Values that cannot be, alone or together",
    options_model=ImplausibleOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (IMPLAUSIBLE,)
