"""Alert rule "sensor-fault": an instrument reports a fault, or gives no value.

    alerts:
      - name: sensor-fault
        rule: sensor-fault
        options: {channels: [co2, temperature, velocity]}

What to do first: look at the plug and the cable of the instrument that the message names, then at the instrument. A
thermocouple that is open is broken or unscrewed; a negative pressure difference is two hoses that were swapped, or one
that is blocked.

Warm-up, maintenance and calibration are no faults: while they last the alert stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from carbontrack import (
    AlertRule,
    Flag,
    Kind,
    Manifest,
    Observation,
    RuleWords,
    Snapshot,
    Tier,
    Verdict,
    __version__,
    hookimpl,
)

MANIFEST = Manifest(
    name="sensor_fault",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on instruments that report a fault or give no value",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

Channel = Literal["co2", "temperature", "velocity", "clock"]

FAULTS: dict[Flag, tuple[Channel, str]] = {
    Flag.CO2_FAULT: ("co2", "the CO2 analyser reports a fault"),
    Flag.STALE: ("co2", "the CO2 value is an old one"),
    Flag.TEMPERATURE_OPEN: ("temperature", "the thermocouple is open"),
    Flag.TEMPERATURE_FAULT: ("temperature", "the thermocouple or its converter reports a fault"),
    Flag.VELOCITY_FAULT: ("velocity", "the velocity sensor reports a fault"),
    Flag.PRESSURE_DIFFERENCE_NEGATIVE: ("velocity", "the pressure difference is negative"),
    Flag.CLOCK_UNSET: ("clock", "the device's clock is not set"),
    Flag.CLOCK_FUTURE: ("clock", "the device's clock is ahead"),
    Flag.CLOCK_JUMP: ("clock", "the device's clock has jumped"),
}
ANY_FAULT = int(reduce(or_, FAULTS))
NOT_AS_USUAL = int(Flag.WARM_UP | Flag.MAINTENANCE | Flag.CALIBRATION)


class SensorFaultOptions(BaseModel):
    """Which instruments are watched."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    channels: tuple[Channel, ...] = Field(("co2", "temperature", "velocity"), min_length=1)
    """The instruments whose faults raise the alert; ``clock`` is the device's own clock."""


def evaluate(options: SensorFaultOptions, seen: Observation) -> Verdict:
    """Whether the newest reading shows a fault of an instrument that is watched."""
    snapshot = seen.snapshot
    if snapshot.measured_at is None or snapshot.flags & NOT_AS_USUAL:
        return Verdict(breached=False, cleared=False)
    is_whole = None not in (snapshot.co2_ppm, snapshot.temperature_c, snapshot.velocity_ms)
    if is_whole and not snapshot.flags & ANY_FAULT:  # nearly always
        return Verdict(breached=False, cleared=True)
    found = [text for channel, text in _faults(snapshot) if channel in options.channels]
    return Verdict(
        breached=bool(found),
        cleared=not found,
        message=f"{seen.site.factory.name}, {seen.site.stack.name}: {' and '.join(found)}",
    )


def _faults(snapshot: Snapshot) -> Iterator[tuple[Channel, str]]:
    """Every fault that a reading shows: those that are flagged, then channels without a value that say nothing."""
    flagged = [found for flag, found in FAULTS.items() if snapshot.flags & flag]
    yield from flagged
    known = {channel for channel, _ in flagged}
    if snapshot.co2_ppm is None and "co2" not in known:
        yield "co2", "there is no CO2 value"
    if snapshot.temperature_c is None and "temperature" not in known:
        yield "temperature", "there is no gas temperature"
    # A pitot tube's velocity cannot be known without the temperature.
    if snapshot.velocity_ms is None and snapshot.temperature_c is not None and not known & {"velocity", "temperature"}:
        yield "velocity", "there is no gas velocity"


WORDS = {
    "en": RuleWords(
        "An instrument has a fault",
        (
            "Switch the node to maintenance before you work on an instrument.",
            "Look at the plug and the cable of the instrument that the message names.",
            "An open thermocouple is broken or loose: tighten it, or change it.",
            "A negative pressure difference is two hoses that were swapped, or one that is blocked.",
        ),
    ),
    "sw": RuleWords(
        "Kifaa cha kupimia kina hitilafu",
        (
            "Weka nodi katika hali ya matengenezo kabla ya kugusa kifaa cha kupimia.",
            "Angalia plagi na waya wa kifaa kilichotajwa kwenye ujumbe.",
            "Kipima joto kilichokatika au kulegea: kikaze, au kibadilishe.",
            "Tofauti ya shinikizo ikiwa hasi: mipira miwili imebadilishana nafasi, au mmoja umeziba.",
        ),
    ),
}

SENSOR_FAULT = AlertRule(
    name="sensor-fault",
    title="An instrument reports a fault or gives no value",
    options_model=SensorFaultOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (SENSOR_FAULT,)
