"""Frame decoder "max31855": thermocouple converter MAX31855, one SPI read of 32 bits, the highest bit first.

    byte  0         1           2          3
          TTTTTTTT  TTTTTT 0 F  CCCCCCCC   CCCC 0 V G O

    T  thermocouple, degC, 14 bits with sign, 0.25 degC a step     (D31 to D18)
    F  1 where one of V, G and O is                                (D16)
    C  cold junction, degC, 12 bits with sign, 0.0625 degC a step  (D15 to D4)
    V  thermocouple short-circuited to VCC (D2)
    G  thermocouple short-circuited to GND (D1)
    O  thermocouple open                   (D0)
    0  always 0                            (D17, D3)

    01 90 19 00    25.00 degC, cold junction 25.0 degC

O gives TEMPERATURE_OPEN, V, G and F alone TEMPERATURE_FAULT; there is no temperature then. A word of ones or of zeros
only is what a bus gives on which no chip answers: TEMPERATURE_FAULT. There is no checksum.

The cold junction is the temperature of the box and is not reported. The chip takes the thermocouple for linear: with
type K it reads 1.4 degC low at 180 degC. Its fault bits miss some faults (T+ tied to ground has been seen without
any): a MAX31856 is the better chip.

Source: Maxim (Analog Devices) MAX31855 data sheet, tables 2 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack import Flag, Frame, FrameDecoder, FrameError, Kind, Manifest, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="max31855",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Thermocouple converter MAX31855",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

_OPEN = 1 << 0
_FAULTS = 1 << 16 | 1 << 2 | 1 << 1
_RESERVED = 1 << 17 | 1 << 3


def decode(frame: bytes) -> Frame:
    """Gas temperature in degC out of one word; raises :class:`FrameError`."""
    if len(frame) != 4:
        raise FrameError("frame_length", f"{len(frame)} bytes; a read has 4")
    word = int.from_bytes(frame, "big")
    if word in {0, 0xFFFF_FFFF}:
        return Frame(status=int(Flag.TEMPERATURE_FAULT))
    if word & _RESERVED:
        raise FrameError("frame_form", "bit D17 or D3 is 1, which a MAX31855 never sends")
    if word & _OPEN:
        return Frame(status=int(Flag.TEMPERATURE_OPEN))
    if word & _FAULTS:
        return Frame(status=int(Flag.TEMPERATURE_FAULT))
    return Frame(temperature_c=(int.from_bytes(frame[:2], "big", signed=True) >> 2) / 4)


MAX31855 = FrameDecoder(name="max31855", title="MAX31855, 32-bit word", decode=decode, gives=("temperature_c",))


@hookimpl
def register_frame_decoders() -> Sequence[FrameDecoder]:
    return (MAX31855,)
