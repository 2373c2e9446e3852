"""Legacy: what the board software that came before Carbon Track's own sends, one object a message.

    {"device_id": "board-7", "co2_emission_kgs": 0.148, "timestamp": "2026-03-01T08:15:00Z"}

    device_id         the board's id; must be the one that has signed in
    co2_emission_kgs  CO2 rate as the board works it out, kg/s
    timestamp         ISO 8601, UTC seconds or ms; may be missing: time of receipt
    co2               CO2, ppm                   \
    temperature       gas temperature, degC       | some boards send them as well; each may be missing
    flow_velocity     gas velocity, m/s          /

**A board's own rate is never counted.** Nobody can check it, and the formula of these boards takes the pressure at sea
level. What is counted is worked out by the platform, out of CO2, temperature and velocity. A message with nothing but
the rate is taken as a reading whose values are missing (VALUE_MISSING): one sees that the board lives, and what it
lacks. Where all three are there, the two rates are compared (DEVICE_DISAGREES).

The driver ``flat_json`` is for boards that are set up today: it does not look at ``device_id`` and refuses a message
without any measurement. Both know no numbers and send no receipts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from pydantic import BaseModel, ConfigDict, field_validator

from carbontrack import (
    ClockQuality,
    DecodeError,
    Kind,
    Manifest,
    Message,
    Payload,
    Plugin,
    Sample,
    SensorDriver,
    Tier,
    __version__,
    hookimpl,
    json_object,
    number_in,
    timestamp_ms,
)


class LegacyOptions(BaseModel):
    """How to read what these boards leave out."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    timestamp_zone: str | None = None
    """The zone of timestamps that name none, such as Africa/Nairobi; without it they are refused."""

    @field_validator("timestamp_zone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(f"there is no time zone {name!r}; a name is like Africa/Nairobi") from None
        return name


MANIFEST = Manifest(
    name="legacy",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Boards with the software before Carbon Track's own",
    documentation="docs/protocol.md",
    codeowners=("Carbon Track",),
    options_model=LegacyOptions,
    tier=Tier.PLATINUM,
)

STREAM = "legacy"
EARLIEST_MS = 1_577_836_800_000
"""2020-01-01T00:00:00Z: an earlier time is a clock that was never set."""
_KEYS = {
    "device_co2_kg_per_s": ("co2_emission_kgs",),
    "co2_ppm": ("co2",),
    "temperature_c": ("temperature",),
    "velocity_ms": ("flow_velocity",),
}


def decode(payload: Payload, zone: ZoneInfo | None = None) -> Message:
    """A message of one sample; raises :class:`DecodeError`."""
    body = json_object(payload.body)
    device_id = body.get("device_id")
    if device_id is None:
        raise DecodeError("missing_field", "device_id is missing")
    if device_id != payload.device_id:
        named = str(device_id)[:64]
        raise DecodeError("wrong_device", f"the message is of {named!r}, and {payload.device_id!r} has signed in")
    values = {name: number_in(body, keys) for name, keys in _KEYS.items()}
    if all(value is None for value in values.values()):
        raise DecodeError("missing_field", "there is neither co2_emission_kgs nor a measurement")
    timestamp = body.get("timestamp")
    time_ms = payload.received_at_ms if timestamp is None else timestamp_ms(timestamp, zone)
    clock = ClockQuality.SYNCED
    if time_ms < EARLIEST_MS:  # seconds since boot, perhaps: they come again after the next one
        time_ms, clock = payload.received_at_ms, ClockQuality.UNSET
    sample = msgspec.structs.replace(Sample(seq=time_ms, device_time_ms=time_ms, clock=clock), **values)
    return Message(STREAM, 0, time_ms, 1, [sample], numbered=False)


@hookimpl
def register_sensors(plugin: Plugin) -> Sequence[SensorDriver]:
    options: LegacyOptions = plugin.options
    zone = None if options.timestamp_zone is None else ZoneInfo(options.timestamp_zone)
    return (
        SensorDriver(name="legacy", title="The board software before Carbon Track", decode=partial(decode, zone=zone)),
    )
