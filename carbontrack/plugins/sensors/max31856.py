"""Frame decoder "max31856": thermocouple converter MAX31856, the registers 0x0A to 0x0F in one SPI read.

    byte      0         1         2         3         4         5
    register  0A CJTH   0B CJTL   0C LTCBH  0D LTCBM  0E LTCBL  0F SR
              CCCCCCCC  CCCCCC--  TTTTTTTT  TTTTTTTT  TTT-----  abcdefgh

    C  cold junction, degC, 14 bits with sign, 1/64 degC a step
    T  thermocouple, degC, 19 bits with sign, 1/128 degC a step, linearised by the chip
    a  cold junction outside of the chip's range   e  thermocouple above the threshold that was set
    b  thermocouple outside of its type's range    f  thermocouple below the threshold that was set
    c  cold junction above the threshold           g  input above the supply or below ground
    d  cold junction below the threshold           h  thermocouple open

    19 00 0B 74 00 00    183.25 degC, cold junction 25 degC

h gives TEMPERATURE_OPEN, a, b and g TEMPERATURE_FAULT; there is no temperature then. c to f compare a good value with
thresholds that somebody set: they are no faults, and the value stays. Six bytes of ones or of zeros only are what a bus
gives on which no chip answers, zeros also what the registers hold before the first conversion: TEMPERATURE_FAULT. The
byte that the chip sends while it takes the address is not in the frame. There is no checksum.

Source: Maxim (Analog Devices) MAX31856 data sheet, "Register Memory Map" and "Fault Status Register".
"""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack import Flag, Frame, FrameDecoder, FrameError, Kind, Manifest, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="max31856",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Thermocouple converter MAX31856",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

_OPEN = 1 << 0
_FAULTS = 1 << 7 | 1 << 6 | 1 << 1


def decode(frame: bytes) -> Frame:
    """Gas temperature in degC out of six registers; raises :class:`FrameError`."""
    if len(frame) != 6:
        raise FrameError("frame_length", f"{len(frame)} bytes; a read has 6")
    faults = frame[5]
    if frame in {bytes(6), b"\xff" * 6}:
        return Frame(status=int(Flag.TEMPERATURE_FAULT))
    if faults & _OPEN:
        return Frame(status=int(Flag.TEMPERATURE_OPEN))
    if faults & _FAULTS:
        return Frame(status=int(Flag.TEMPERATURE_FAULT))
    return Frame(temperature_c=(int.from_bytes(frame[2:5], "big", signed=True) >> 5) / 128)


MAX31856 = FrameDecoder(name="max31856", title="MAX31856, registers 0A to 0F", decode=decode, gives=("temperature_c",))


@hookimpl
def register_frame_decoders() -> Sequence[FrameDecoder]:
    return (MAX31856,)
