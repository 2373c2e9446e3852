"""Frame decoder "modbus_meter": totals of meters on an RS-485 bus (Modbus RTU), each read with its request.

An answer does not say which registers it holds, so the request goes in front of it. A frame is one such pair, or
several one after the other (one per meter); two-byte numbers have the high byte first, the CRC its low byte:

    request   uu ff rr rr nn nn cc cc              8 bytes
    answer    uu ff bb d1 d2 .. dbb cc cc          5 + bb bytes
    refusal   uu ff+80 ee cc cc                    5 bytes

    uu  unit: the meter's address, 1 to 247        bb  bytes of data: 2 nn
    ff  function: 03 holding, 04 input registers   ee  exception code
    rr  first register                             cc  CRC-16/MODBUS: polynomial 0xA001, begun with 0xFFFF
    nn  how many registers, 1 to 125                   (01 04 00 00 00 02 gives 71 CB)

    01 04 01 56 00 02 90 27  01 04 04 45 9A 52 29 32 19    SDM, unit 1: 4938.27 kWh

What a unit's registers mean is said by the option ``units``: the name of a map, or a list of registers.

    sdm         input register 0x0156, float32: total kWh, import and export together (Eastron SDM series)
    sdm_import  input register 0x0048, float32: imported kWh (the same)
    pzem004t    input registers 0x0005 and 0x0006, uint32, low word first: Wh (PZEM-004T version 3)

Totals are running totals and never differences: what a lost frame would have said is in the next.

Source: Modbus application protocol 1.1b3, 6.3, 6.4 and 7; Modbus over serial line 1.02, 2.5.1 and 6.2.2; Eastron SDM630
and SDM72D-M Modbus protocol, "Input registers"; PZEM-004T version 3 user manual, 2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from carbontrack import Frame, FrameDecoder, FrameError, Kind, Manifest, Plugin, Tier, __version__, hookimpl


class Register(BaseModel):
    """Where a total stands: from the register ``address`` on. ``scale`` times the number is it, in kWh, litres or s."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: int = Field(ge=0, le=0xFFFF)
    total: Literal["kwh", "genset_kwh", "litres", "run_s"]
    form: Literal["float32", "uint32", "uint32_low_first", "uint16"] = "float32"
    function: Literal[3, 4] = 4
    scale: float = Field(default=1.0, gt=0, le=1e6)


MAPS: Mapping[str, tuple[Register, ...]] = {
    "sdm": (Register(address=0x0156, total="kwh"),),
    "sdm_import": (Register(address=0x0048, total="kwh"),),
    "pzem004t": (Register(address=0x0005, total="kwh", form="uint32_low_first", scale=0.001),),
}

Unit = Annotated[int, Field(ge=1, le=247)]
MapName = Literal["sdm", "sdm_import", "pzem004t"]


class ModbusMeterOptions(BaseModel):
    """Which meters are on the bus."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    units: dict[Unit, MapName | tuple[Register, ...]] = {1: "sdm"}
    """A meter's address on the bus, and the name of its map or its registers."""

    @model_validator(mode="after")
    def _each_total_once(self) -> ModbusMeterOptions:
        totals = [place.total for unit in self.units for place in self.registers(unit)]
        if twice := sorted({total for total in totals if totals.count(total) > 1}):
            raise ValueError(f"{', '.join(twice)} is there twice; a device has one meter of each kind")
        return self

    def registers(self, unit: int) -> Sequence[Register]:
        """The registers of a unit that hold totals; none for a unit that was not named."""
        found = self.units.get(unit, ())
        return MAPS[found] if isinstance(found, str) else found


MANIFEST = Manifest(
    name="modbus_meter",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Energy meters and counters on Modbus RTU",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    options_model=ModbusMeterOptions,
    tier=Tier.PLATINUM,
)

_WORDS = {"float32": 2, "uint32": 2, "uint32_low_first": 2, "uint16": 1}


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS (Modbus over serial line 1.02, 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def decode(frame: bytes, options: ModbusMeterOptions) -> Frame:
    """Running totals out of one or more pairs of request and answer; raises :class:`FrameError`."""
    totals: dict[str, float] = {}
    for unit, function, first, data in _reads(frame):
        known = options.registers(unit)
        found: dict[str, float] = {
            place.total: _total(place, data, place.address - first)
            for place in known
            if place.function == function
            and first <= place.address
            and (place.address - first + _WORDS[place.form]) * 2 <= len(data)
        }
        if not found:
            last = first + len(data) // 2 - 1
            raise FrameError("frame_form", f"the registers {first} to {last} of unit {unit} hold no total in `units`")
        if twice := found.keys() & totals.keys():
            raise FrameError("frame_form", f"two meters give {', '.join(sorted(twice))}")
        totals |= found
    return Frame(meter=totals)


def _reads(frame: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Unit, function, first register and data of every pair, once its two checksums have been found right."""
    if not frame:
        raise FrameError("frame_length", "there is nothing")
    while frame:
        request, frame = frame[:8], frame[8:]
        unit, function, first, count = _request(request)
        if frame[1:2] == bytes([function | 0x80]):
            answer, frame = frame[:5], frame[5:]
            _check(answer, 5, "the refusal")
            raise FrameError("modbus_exception", f"unit {unit} refused the request with exception {answer[2]}")
        size = 5 + 2 * count
        answer, frame = frame[:size], frame[size:]
        _check(answer, size, "the answer")
        if answer[:3] != bytes([unit, function, 2 * count]):
            raise FrameError("frame_form", f"{answer[:3].hex(' ')} does not answer unit {unit}, {count} registers")
        yield unit, function, first, answer[3:-2]


def _request(request: bytes) -> tuple[int, int, int, int]:
    _check(request, 8, "the request")
    unit, function, first, count = struct.unpack(">BBHH", request[:6])
    if function not in {3, 4} or not 1 <= count <= 125:
        raise FrameError("frame_form", f"function {function} with {count} registers is no read of 1 to 125 registers")
    return unit, function, first, count


def _check(part: bytes, size: int, name: str) -> None:
    if len(part) != size:
        raise FrameError("frame_length", f"{name} has {len(part)} of {size} bytes")
    if crc16(part[:-2]) != int.from_bytes(part[-2:], "little"):
        raise FrameError("frame_checksum", f"{name} does not end with the CRC of what it says")


def _total(place: Register, data: bytes, at: int) -> float:
    """The total that begins at word ``at`` of the data."""
    raw = data[2 * at : 2 * (at + _WORDS[place.form])]
    value: float
    if place.form == "float32":
        (value,) = struct.unpack(">f", raw)
    elif place.form == "uint32_low_first":
        value = int.from_bytes(raw[2:] + raw[:2], "big")
    else:
        value = int.from_bytes(raw, "big")
    if not (isfinite(value) and value >= 0):
        raise FrameError("frame_form", f"the total {place.total} is {value}, which no counter shows")
    return value * place.scale


@hookimpl
def register_frame_decoders(plugin: Plugin) -> Sequence[FrameDecoder]:
    options: ModbusMeterOptions = plugin.options
    totals = {place.total for unit in options.units for place in options.registers(unit)}
    return (
        FrameDecoder(
            name="modbus_meter",
            title="Modbus RTU: request and answer",
            decode=partial(decode, options=options),
            gives=tuple(sorted(totals)),
        ),
    )
