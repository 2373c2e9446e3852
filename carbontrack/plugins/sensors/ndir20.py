r"""Frame decoder "ndir20": the 0-20 % NDIR head (GSS SprintIR and ExplorIR), ASCII lines on a UART.

What the head sends as the answer to ``Z`` in polling mode (``K 2``), or by itself in streaming mode (``K 1``), at 9600
8N1:

    20 5A 20 30 38 34 35 30 0D 0A
        Z     0  8  4  5  0 \r \n      one field: a space, a letter, a space, five digits

    field  Z   CO2 behind the digital filter, in steps of the multiplier
           z   CO2 without the filter; taken where there is no Z
           .   the multiplier: 1, 10 or 100 ppm a step (the answer to ".")
           others (T, H, ...) are left alone

A line has one or more fields, a frame one or more lines: a gateway may send the answer to ``.`` in front of the
reading. That multiplier counts before the option's.

    " . 00010\r\n Z 09800\r\n"    98,000 ppm

There is no checksum. A line with a digit that the wire has changed into another digit cannot be told from a true one;
all other changes break the form. A reading at full scale gets CO2_OVER_RANGE.

Source: GSS SprintIR-W data sheet 4.2 and ExplorIR-M data sheet 4.13, "UART interface"; COZIR sensor user's guide, 1.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

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


class Ndir20Options(BaseModel):
    """What the head's lines may leave out."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    full_scale_ppm: float = Field(default=200_000.0, gt=0, le=1_000_000)
    """What the head was ordered with."""
    multiplier: Literal[1, 10, 100] = 10
    """What the head answers to ".": 10 for the 0-20 % version. It counts where a frame has none."""


MANIFEST = Manifest(
    name="ndir20",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="CO2 heads 0-20 % of the SprintIR and ExplorIR series",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    options_model=Ndir20Options,
    tier=Tier.PLATINUM,
)

LONGEST = 200
"""Bytes: every field that there is, on one line, and the multiplier before it."""
_FIELD = re.compile(rb" ([A-Za-z.]) ([0-9]{5})")
_FRAME = re.compile(rb"(?:(?: [A-Za-z.] [0-9]{5})+\r\n)+")


def decode(frame: bytes, options: Ndir20Options) -> Frame:
    """CO2 in ppm out of one or more lines; raises :class:`FrameError`."""
    if len(frame) > LONGEST:
        raise FrameError("frame_length", f"{len(frame)} bytes; a frame has {LONGEST} at most")
    if not _FRAME.fullmatch(frame):
        raise FrameError("frame_form", f"{frame[:40]!r} is not lines such as ' Z 08450\\r\\n'")
    fields = _FIELD.findall(frame)
    values = {letter: int(digits) for letter, digits in fields}
    if len(values) != len(fields):
        raise FrameError("frame_form", "a field is there twice: a frame is one reading")
    multiplier = values.get(b".", options.multiplier)
    if multiplier not in {1, 10, 100}:
        raise FrameError("frame_form", f"the multiplier {multiplier} is not 1, 10 or 100")
    steps = values.get(b"Z", values.get(b"z"))
    if steps is None:
        raise FrameError("frame_form", "there is neither a field Z nor a field z")
    co2_ppm = steps * multiplier
    status = Flag.CO2_OVER_RANGE if co2_ppm >= options.full_scale_ppm else 0
    return Frame(co2_ppm=float(co2_ppm), status=int(status))


@hookimpl
def register_frame_decoders(plugin: Plugin) -> Sequence[FrameDecoder]:
    options: Ndir20Options = plugin.options
    return (
        FrameDecoder(
            name="ndir20",
            title="SprintIR or ExplorIR, ASCII line",
            decode=partial(decode, options=options),
            gives=("co2_ppm",),
        ),
    )
