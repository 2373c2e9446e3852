"""Flat JSON, one object a message, for simple boards and scripts: no numbers, no batch, no receipt.

    {"timestamp": "2026-03-01T08:15:00Z", "co2_ppm": 98000, "temperature_c": 183.2, "velocity_ms": 4.1}

    co2_ppm        (or co2)                     CO2 as the analyser gives it, ppm
    temperature_c  (or temperature, temp)       gas temperature, degC
    velocity_ms    (or velocity, flow_velocity) gas velocity, m/s
    pressure_kpa   (or pressure)                absolute pressure, kPa; may be missing
    co2_emission_kgs                            the board's own rate, kg/s; may be missing
    timestamp                                   ISO 8601 with zone, UTC seconds or ms; may be missing: time of receipt

A message that comes twice with the same timestamp is one reading. Nothing tells the board what was stored: a board
that must not lose a reading speaks ct/v1.
The keys in brackets are older names, which boards may keep. What the board software before Carbon Track's own sends,
with ``device_id`` and often with nothing but a rate, is the driver ``legacy``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from carbontrack import (
    ClockQuality,
    DecodeError,
    Kind,
    Manifest,
    Message,
    Payload,
    Sample,
    SensorDriver,
    Tier,
    __version__,
    hookimpl,
    json_object,
    number_in,
    timestamp_ms,
)

MANIFEST = Manifest(
    name="flat_json",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Simple boards that send flat JSON",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

STREAM = "flat"
EARLIEST_MS = 1_577_836_800_000
"""2020-01-01T00:00:00Z: an earlier time is a clock that was never set."""
_ALIASES = {
    "co2_ppm": ("co2_ppm", "co2"),
    "temperature_c": ("temperature_c", "temperature", "temp"),
    "velocity_ms": ("velocity_ms", "velocity", "flow_velocity"),
    "pressure_kpa": ("pressure_kpa", "pressure"),
    "device_co2_kg_per_s": ("co2_emission_kgs",),
}


def decode(payload: Payload) -> Message:
    """A message of one sample."""
    body = json_object(payload.body)
    values = {name: number_in(body, keys) for name, keys in _ALIASES.items()}
    if values["co2_ppm"] is None and values["temperature_c"] is None and values["velocity_ms"] is None:
        raise DecodeError("missing_field", "none of co2_ppm, temperature_c and velocity_ms is there")
    timestamp = body.get("timestamp")
    time_ms = payload.received_at_ms if timestamp is None else timestamp_ms(timestamp)
    clock = ClockQuality.SYNCED
    if time_ms < EARLIEST_MS:  # seconds since boot, perhaps: they come again after the next one
        time_ms, clock = payload.received_at_ms, ClockQuality.UNSET
    sample = msgspec.structs.replace(Sample(seq=time_ms, device_time_ms=time_ms, clock=clock), **values)
    return Message(STREAM, 0, time_ms, 1, [sample], numbered=False)


FLAT_JSON = SensorDriver(name="flat_json", title="Flat JSON, one reading a message", decode=decode)


@hookimpl
def register_sensors() -> Sequence[SensorDriver]:
    return (FLAT_JSON,)
