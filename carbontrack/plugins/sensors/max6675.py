"""Frame decoder "max6675": thermocouple converter MAX6675 (type K), one SPI read of 16 bits, the highest bit first.

    byte  0         1
          0TTTTTTT  TTTTT O 0 x

    T  thermocouple, degC, 12 bits without sign, 0.25 degC a step  (D14 to D3)
    O  thermocouple open                                          (D2)
    0  always 0                                                   (D15, D1)
    x  not driven: whatever the line has                          (D0)

    05 B8    45.75 degC

O gives TEMPERATURE_OPEN. 1023.75 degC is where the chip ends, so the gas is at least as hot: TEMPERATURE_FAULT. All
zeros and all ones are what a bus gives on which no chip answers: TEMPERATURE_FAULT; so is 0.00 degC, which cannot be
told from it. There is no temperature then. There is no checksum, and no sign of a short circuit: for new nodes a
MAX31856 is the better chip.

Source: Maxim MAX6675 data sheet, figure 2 and "Serial Interface".
"""

from __future__ import annotations

from collections.abc import Sequence

from carbontrack import Flag, Frame, FrameDecoder, FrameError, Kind, Manifest, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="max6675",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Thermocouple converter MAX6675",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

_FLOATING = 1 << 0
_OPEN = 1 << 2
_RESERVED = 1 << 15 | 1 << 1
_FULL_SCALE = 0xFFF


def decode(frame: bytes) -> Frame:
    """Gas temperature in degC out of one word; raises :class:`FrameError`."""
    if len(frame) != 2:
        raise FrameError("frame_length", f"{len(frame)} bytes; a read has 2")
    word = int.from_bytes(frame, "big") & ~_FLOATING
    if word in {0, 0xFFFE}:
        return Frame(status=int(Flag.TEMPERATURE_FAULT))
    if word & _RESERVED:
        raise FrameError("frame_form", "bit D15 or D1 is 1, which a MAX6675 never sends")
    if word & _OPEN:
        return Frame(status=int(Flag.TEMPERATURE_OPEN))
    quarters = word >> 3
    if quarters == _FULL_SCALE:
        return Frame(status=int(Flag.TEMPERATURE_FAULT))
    return Frame(temperature_c=quarters / 4)


MAX6675 = FrameDecoder(name="max6675", title="MAX6675, 16-bit word", decode=decode, gives=("temperature_c",))


@hookimpl
def register_frame_decoders() -> Sequence[FrameDecoder]:
    return (MAX6675,)
