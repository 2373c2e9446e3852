"""Sensor driver "kericho_probe": a line of text with a checksum, as NMEA 0183 has it.

    $KP,98000,183.2,4.12,79.68*3B

    KP       the probe's name
    98000    CO2, ppm                  \\
    183.2    gas temperature, degC      | a value that could not be measured is left empty
    4.12     gas velocity, m/s          |
    79.68    absolute pressure, kPa    /
    3B       exclusive or of all bytes between $ and *, in hexadecimal

The board has no clock and does not number its messages: the time is that of receipt, and there are no receipts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from operator import xor

from carbontrack import DecodeError, Kind, Manifest, Message, Payload, Sample, SensorDriver, Tier, hookimpl

MANIFEST = Manifest(
    name="kericho_probe",
    version="1.0.0",
    kinds=(Kind.SENSOR,),
    title="The flue gas probe of Kericho",
    documentation="README.md",
    codeowners=("The boiler house of Kericho",),
    tier=Tier.PLATINUM,
)

_LINE = re.compile(rb"\$(KP(?:,[0-9.-]*){4})\*([0-9A-F]{2})\s*")


def decode(payload: Payload) -> Message:
    """One line is one sample."""
    found = _LINE.fullmatch(payload.body)
    if found is None:
        raise DecodeError("wrong_type", f"not a line of the probe: {payload.body[:60]!r}")
    content, checksum = found.groups()
    if reduce(xor, content) != int(checksum, 16):
        raise DecodeError("frame_checksum", f"the checksum is {reduce(xor, content):02X}, not {checksum.decode()}")
    try:
        values = [float(part) if part else None for part in content.split(b",")[1:]]
    except ValueError as error:
        raise DecodeError("wrong_type", str(error)) from None
    co2_ppm, temperature_c, velocity_ms, pressure_kpa = values
    time_ms = payload.received_at_ms
    sample = Sample(
        time_ms,
        time_ms,
        co2_ppm=co2_ppm,
        temperature_c=temperature_c,
        velocity_ms=velocity_ms,
        pressure_kpa=pressure_kpa,
    )
    return Message("kericho", 0, time_ms, 1, [sample], numbered=False)


@hookimpl
def register_sensors() -> Sequence[SensorDriver]:
    return [SensorDriver(name="kericho_probe", title=MANIFEST.title, decode=decode)]
