"""Frame decoder "mhz19": NDIR heads of the Winsen MH-Z19, MH-Z14 and MH-Z16 families, on a UART.

The answer to the command ``FF 01 86 00 00 00 00 00 79`` (9600 8N1):

    byte   0    1    2    3    4    5    6    7    8
          FF   86   hi   lo   tt   ss   uu   uu   cs

    hi lo  CO2 in ppm, 16 bits, unsigned: a 5 % head goes up to 50,000
    tt     the head's own temperature, degC + 40
    ss uu  not in the data sheets
    cs     0x100 less the sum of the bytes 1 to 7, modulo 256

    FF 86 02 60 47 00 00 00 D1    608 ppm (and 31 degC inside of the head)

``tt`` is the temperature of the box and not of the flue gas: it is not reported. A reading at full scale says that
there is at least as much CO2, so it gets CO2_OVER_RANGE. Flue gas has 60,000 to 140,000 ppm and is beyond every head of
these families: they serve behind a dilution probe, and for trials. The automatic re-zeroing to 400 ppm must be off.

Source: Winsen MH-Z14A manual 1.4, MH-Z16 manual, MH-Z19B manual 1.0: "Read gas concentration".
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


class Mhz19Options(BaseModel):
    """What the head's answer does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    full_scale_ppm: float = Field(default=5000.0, gt=0, le=65_535)
    """What the head was ordered with: 2000, 5000, 10,000, or up to 50,000 for an MH-Z16."""


MANIFEST = Manifest(
    name="mhz19",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="MH-Z19, MH-Z14 and MH-Z16 CO2 heads",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    options_model=Mhz19Options,
    tier=Tier.PLATINUM,
)


def decode(frame: bytes, options: Mhz19Options) -> Frame:
    """CO2 in ppm out of one answer; raises :class:`FrameError`."""
    if len(frame) != 9:
        raise FrameError("frame_length", f"{len(frame)} bytes; an answer has 9")
    if frame[:2] != b"\xff\x86":
        raise FrameError("frame_form", f"it begins with {frame[:2].hex(' ')}, an answer with ff 86")
    if sum(frame[1:]) & 0xFF:
        raise FrameError("frame_checksum", "the sum of the bytes 1 to 8 is not 0")
    co2_ppm = int.from_bytes(frame[2:4], "big")
    status = Flag.CO2_OVER_RANGE if co2_ppm >= options.full_scale_ppm else 0
    return Frame(co2_ppm=float(co2_ppm), status=int(status))


@hookimpl
def register_frame_decoders(plugin: Plugin) -> Sequence[FrameDecoder]:
    options: Mhz19Options = plugin.options
    return (
        FrameDecoder(
            name="mhz19",
            title="MH-Z19 family, answer to 0x86",
            decode=partial(decode, options=options),
            gives=("co2_ppm",),
        ),
    )
