"""The node's own format, "ct/v1": one JSON object a message, columns and rows (docs/protocol.md, "Records").

    {"v":1, "sid":"9f3c21aa", "boot":412, "cfg":17, "seq":1048577, "n":1, "t":1795433047123,
     "s":{"cols":["ds","dt","tq","co2","tg","dp","v","pa","ti","m","st"],
          "rows":[[0,0,1,98000,183.25,3.61,4.12,79.68,41,0.165714,0]]}}

    v    version of the format: 1
    sid  stream id, 8 hexadecimal digits: one formatting of the node's flash store
    seq  number of the first record, counted from 1; n how many records follow without a gap
    t    time of the first record: UTC ms, or ms since boot where tq is 0
    ds   offset of a row's number from seq        dt  offset of a row's time from t, ms
    tq   clock quality 0..3                       co2 ppm as the analyser gives it
    tg   gas temperature, degC                    dp  pitot pressure difference, Pa
    v    gas velocity, m/s                        pa  absolute pressure, kPa
    m    the node's own rate, kg/s                st  status bits (carbontrack.Flag, bits 0 to 14)

    rel  true: a site's platform hands on what it has taken (decision 27); then st may have some of its flags as well

Blocks "s" hold samples; "m", "h", "e", "g" and "a" hold meters, health, events, gaps and clock anchors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from carbontrack import (
    DecodeError,
    Flag,
    Kind,
    Manifest,
    Message,
    Payload,
    Record,
    Sample,
    SensorDriver,
    Tier,
    __version__,
    hookimpl,
    unreadable,
)

MANIFEST = Manifest(
    name="ct_v1",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Carbon Track's own nodes, format ct/v1",
    documentation="docs/plugins/sensors-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

MOST_RECORDS = 1000
"""A message with more records is refused: the node sends 60 at most."""
MOST_SEQ = 2**53
"""Beyond this a JSON number is no longer a whole number in every language."""
MOST_TIME_MS = 253_402_300_799_000
"""9999-12-31T23:59:59Z: the last time that any of our parts can represent."""

_SAMPLE_COLUMNS = ("ds", "dt", "tq", "co2", "tg", "v", "dp", "pa", "m", "st")
_NUMBERS = {"m": "meter", "h": "health", "e": "event", "g": "gap", "a": "anchor"}
_OWN_FLAGS = (1 << 15) - 1
_RELAYED_FLAGS = _OWN_FLAGS | int(
    Flag.CLOCK_FUTURE | Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED | Flag.DEVICE_DISAGREES | Flag.PRESSURE_IMPLAUSIBLE
)
"""With what a site's platform has found that nobody finds again from the values."""
_STREAM_ID = re.compile(r"[0-9A-Za-z_-]{1,32}")

# Whole numbers beyond this are no measurement, and no column of a database holds them.
Row = list[float | Annotated[int, msgspec.Meta(ge=-MOST_SEQ, le=MOST_SEQ)] | None]


class _Samples(msgspec.Struct, gc=False):
    cols: tuple[str, ...]
    rows: list[Row]


class _Records(msgspec.Struct):
    cols: tuple[str, ...]
    rows: list[list[Any]]


class _Body(msgspec.Struct):
    v: int
    sid: str
    boot: int
    seq: int
    n: int
    t: int
    cfg: int = 0
    rel: bool = False
    s: _Samples | None = None
    m: _Records | None = None
    h: _Records | None = None
    e: _Records | None = None
    g: _Records | None = None
    a: _Records | None = None


_decode_body = msgspec.json.Decoder(_Body).decode
_positions_of: dict[tuple[str, ...], list[int]] = {}


def decode(payload: Payload) -> Message:  # noqa: C901  # one check after the other
    """A message of samples and records; :class:`DecodeError` names the cause when it cannot be read."""
    try:
        body = _decode_body(payload.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(payload.body, error) from None
    first, count = body.seq, body.n
    if body.v != 1:
        raise DecodeError("unknown_version", f"format version {body.v}; this platform reads version 1")
    if not _STREAM_ID.fullmatch(body.sid):
        raise DecodeError("invalid_stream", f"sid {body.sid[:40]!r} is not a stream id")
    if count < 1:
        raise DecodeError("empty", "n is less than 1")
    if count > MOST_RECORDS:
        raise DecodeError("too_many_records", f"{count} records in one message; the most is {MOST_RECORDS}")
    if not (1 <= first <= MOST_SEQ and 0 <= body.boot <= MOST_SEQ and 0 <= body.t <= MOST_TIME_MS):
        raise DecodeError("bad_sequence", "seq counts from 1, boot and t from 0")
    covers = (body.sid, first, first + count - 1)
    try:
        flags = _RELAYED_FLAGS if body.rel else _OWN_FLAGS
        samples = _samples(body.s, first, body.t, flags) if body.s is not None else []
        records = [
            record
            for letter in _NUMBERS
            if (block := getattr(body, letter)) is not None
            for record in _records(block, _NUMBERS[letter], first, body.t)
        ]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise DecodeError("wrong_type", f"a row does not fit its columns: {error}", covers) from None
    if len(samples) + len(records) != count:
        raise DecodeError(
            "row_count_mismatch", f"n is {count}, but there are {len(samples) + len(records)} rows", covers
        )
    if count > 1 or records:
        _check_numbers(samples, records, first, count, covers)
    elif samples[0].seq != first:
        raise DecodeError("bad_sequence", "the only row must be number seq", covers)
    return Message(body.sid, body.boot, first, count, samples, records, relayed=body.rel)


def _samples(block: _Samples, first: int, t: int, flags: int) -> list[Sample]:
    cols = block.cols
    positions = _positions_of.get(cols)
    if positions is None:
        positions = _positions(cols)
    width = len(cols)
    ds, dt, tq, co2, tg, v, dp, pa, m, st = positions
    samples = []
    for row in block.rows:
        if len(row) != width:
            raise ValueError(f"{len(row)} values for {width} columns")
        row.append(None)  # what a missing column's position, -1, finds
        samples.append(
            Sample(
                first + (row[ds] or 0),  # type: ignore[arg-type]  # a fraction is found by the check of numbers
                t + (row[dt] or 0),  # type: ignore[arg-type]  # as above
                1 if row[tq] is None else row[tq],  # type: ignore[arg-type]  # as above
                row[co2],
                row[tg],
                row[v],
                row[dp],
                row[pa],
                row[m],
                row[st] or 0,  # type: ignore[arg-type]  # as above
            )
        )
        sample = samples[-1]
        if not (
            type(sample.seq) is int
            and type(sample.device_time_ms) is int
            and 0 <= sample.device_time_ms <= MOST_TIME_MS
            and type(sample.clock) is int
            and 0 <= sample.clock <= 3
            and type(sample.status) is int
            and sample.status & flags == sample.status
        ):
            raise ValueError("ds, dt, tq and st must be whole numbers in their ranges")
    return samples


def _positions(cols: tuple[str, ...]) -> list[int]:
    """Where each column that we know stands; -1 where it is missing. Unknown columns are ignored."""
    if len(set(cols)) != len(cols):
        raise ValueError("a column is named twice")
    positions = [cols.index(name) if name in cols else -1 for name in _SAMPLE_COLUMNS]
    if len(_positions_of) < 100:  # nodes of one firmware all use the same few; a hostile one must not fill memory
        _positions_of[cols] = positions
    return positions


def _records(block: _Records, kind: str, first: int, t: int) -> list[Record]:
    records = []
    for row in block.rows:
        if len(row) != len(block.cols):
            raise ValueError(f"{len(row)} values for {len(block.cols)} columns")
        data = dict(zip(block.cols, row, strict=True))
        offset, time_offset, clock = data.pop("ds", 0), data.pop("dt", 0), data.pop("tq", 1)
        if not all(type(value) is int for value in (offset, time_offset, clock)):
            raise ValueError("ds, dt and tq must be whole numbers")
        if not 0 <= t + time_offset <= MOST_TIME_MS or not 0 <= clock <= 3:
            raise ValueError("dt or tq is out of range")
        records.append(Record(first + offset, kind, t + time_offset, clock, data))
    return records


def _check_numbers(
    samples: list[Sample], records: list[Record], first: int, count: int, covers: tuple[str, int, int]
) -> None:
    """Every number from seq to seq + n - 1 must be there once."""
    numbers = sorted([sample.seq for sample in samples] + [record.seq for record in records])
    if numbers != list(range(first, first + count)):
        raise DecodeError("bad_sequence", "the rows are not the numbers seq to seq + n - 1, each once", covers)


CT_V1 = SensorDriver(name="ct_v1", title="Carbon Track node, format ct/v1", decode=decode)


@hookimpl
def register_sensors() -> Sequence[SensorDriver]:
    return (CT_V1,)
