"""Frame decoder "pulse_anemometer": an anemometer that gives pulses (cup or vane), counted over an interval.

There is no standard for this, so the frame is ours; numbers have the high byte first:

    byte  0   1   2   3   4   5
          50  nn  nn  ii  ii  crc

    50   "P"
    nn   pulses within the interval, 16 bits; FFFF: the counter has overflowed
    ii   length of the interval in ms, 1 to 65,535
    crc  CRC-8 of the bytes 0 to 4: polynomial 0x31, begun with 0xFF (BE EF gives 92)

    50 00 C8 13 88 DB    200 pulses in 5 s: 40 Hz

    f = 1000 nn / ii                              pulses a second
    v = offset_ms + ms_per_hz f                   from minimum_hz on
    v = 0                                         below it: the rotor stands still

The calibration is the anemometer's own, out of its certificate: there is no default, and without ``ms_per_hz`` there is
no decoder. A counter that has overflowed gives VELOCITY_FAULT and no velocity. A rotor that has seized gives 0 m/s; the
platform finds that out where the gas is hot.

Source of the calibration's form: ISO 17713-1, "Wind tunnel test methods for rotating anemometer performance" (a line
above the starting threshold).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from carbontrack import (
    Flag,
    Frame,
    FrameDecoder,
    FrameError,
    Kind,
    Manifest,
    Plugin,
    Tier,
    __version__,
    hookimpl,
)


class PulseAnemometerOptions(BaseModel):
    """The calibration."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ms_per_hz: float | None = Field(default=None, gt=0, le=100, examples=[0.1])
    """m/s per Hz; without it there is no decoder."""
    offset_ms: float = Field(default=0.0, ge=-5, le=5)
    """Added to what the rotor turns for, in m/s."""
    minimum_hz: float = Field(default=0.0, ge=0, le=1000)
    """With fewer pulses the rotor stands: 0 m/s."""


MANIFEST = Manifest(
    name="pulse_anemometer",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Anemometers that give pulses",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    options_model=PulseAnemometerOptions,
    tier=Tier.PLATINUM,
)

_OVERFLOWED = 0xFFFF


def crc8(data: bytes) -> int:
    """CRC-8 as Sensirion uses it: polynomial x^8 + x^5 + x^4 + 1, begun with 0xFF."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def decode(frame: bytes, ms_per_hz: float, offset_ms: float, minimum_hz: float) -> Frame:
    """Gas velocity in m/s out of one count; raises :class:`FrameError`."""
    if len(frame) != 6:
        raise FrameError("frame_length", f"{len(frame)} bytes; a count has 6")
    if crc8(frame[:5]) != frame[5]:
        raise FrameError("frame_checksum", "byte 5 is not the CRC of the bytes 0 to 4")
    pulses, interval_ms = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if frame[0] != 0x50:
        raise FrameError("frame_form", f"it begins with {frame[0]:02x}, a count with 50")
    if not interval_ms:
        raise FrameError("frame_form", "the interval is 0 ms")
    if pulses == _OVERFLOWED:
        return Frame(status=int(Flag.VELOCITY_FAULT))
    frequency_hz = 1000 * pulses / interval_ms
    stands = not pulses or frequency_hz < minimum_hz
    return Frame(velocity_ms=0.0 if stands else max(0.0, offset_ms + ms_per_hz * frequency_hz))


@hookimpl
def register_frame_decoders(plugin: Plugin) -> Sequence[FrameDecoder]:
    options: PulseAnemometerOptions = plugin.options
    ms_per_hz = options.ms_per_hz
    if ms_per_hz is None:
        return ()
    return (
        FrameDecoder(
            name="pulse_anemometer",
            title="Pulses of an anemometer over an interval",
            decode=partial(decode, ms_per_hz=ms_per_hz, offset_ms=options.offset_ms, minimum_hz=options.minimum_hz),
            gives=("velocity_ms",),
        ),
    )
