"""Frames: a gateway that forwards what its sensors put on their wires, and works nothing out itself.

One moment a message, without numbers, like ``flat_json``:

    {"timestamp": "2026-03-01T08:15:00Z",
     "frames": {"ndir20": "205A2030393830300D0A", "max31856": "19000B740000", "sdp8xx": "03627513880100F003"}}

With numbers, so that there are receipts and nothing is lost, and with as many moments as the gateway has:

    {"sid": "9f3c21aa", "boot": 12, "seq": 1001, "n": 3,
     "moments": [{"timestamp": 1795433047123, "frames": {"ndir20": "...", "max31856": "..."}},
                 {"timestamp": 1795433052123, "frames": {"ndir20": "...", "modbus_meter": "..."}}]}

    sid, boot, seq, n  as in ct/v1: stream, boot, number of the first record, how many there are; all four or none,
                       and in front of everything else, so that a broken message can still be receipted
    timestamp          when the sensors were read: ISO 8601 with zone, or UTC seconds or ms. Without numbers it may be
                       missing: time of receipt. With numbers a time before 2020 is taken for the time since boot
    frames             name of a frame decoder -> the frame's bytes in hexadecimal, spaces allowed
    st                 the gateway's own status bits (carbontrack.Flag, 0 to 14), such as maintenance; may be missing

A moment is one record, its sample; a frame with a meter's totals adds one, its meter record, right after. So the
example has n = 3. Which it is, is said by what the decoders give, and not by whether the frame could be read.

What cannot be read takes away as little as is honest:

- A frame that its decoder refuses (a checksum, its length) takes away its own channel: the value is missing, the
  channel's fault bit is set, and so there is no rate. The others stay. A meter's leaves an event in the place of its
  record. It is in the log, once for each device, frame and cause.
- A message of which no frame can be read goes to quarantine with the first refusal's cause.
- Two frames of a moment that give the same (two thermocouples) refuse the message: which one counts is not for us to
  guess.
- A name without a decoder refuses the message and gives no receipt: the gateway keeps it until the plugin is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog

from carbontrack import (
    ClockQuality,
    DecodeError,
    Flag,
    Frame,
    FrameDecoder,
    FrameError,
    Kind,
    Manifest,
    Message,
    Payload,
    Plugin,
    Record,
    Sample,
    SensorDriver,
    Tier,
    __version__,
    hookimpl,
    timestamp_ms,
    unreadable,
)

log = structlog.get_logger(__name__)

MANIFEST = Manifest(
    name="frames",
    version=__version__,
    kinds=(Kind.SENSOR,),
    title="Gateways that forward their sensors' frames",
    documentation="docs/protocol.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

STREAM = "frames"
MOST_RECORDS = 1000
MOST_SEQ = 2**53
EARLIEST_MS = 1_577_836_800_000
"""2020-01-01T00:00:00Z: an earlier time is a clock that was never set."""
MOST_TOLD = 1000
"""So many refusals are remembered; a hostile gateway must not fill the memory."""
FAULTS: Mapping[str, int] = {
    "co2_ppm": Flag.CO2_FAULT,
    "temperature_c": Flag.TEMPERATURE_FAULT,
    "velocity_ms": Flag.VELOCITY_FAULT,
    "pressure_difference_pa": Flag.VELOCITY_FAULT,
    "pressure_kpa": Flag.PRESSURE_DEFAULT,
}
"""The values of a frame, each with the bit that says that it could not be read."""

_STREAM_ID = re.compile(r"[0-9A-Za-z_-]{1,32}")
_STATUS = (1 << 15) - 1

Told = set[tuple[str, str, str]]
"""Refusals that are in the log: device, frame and cause."""


class _Moment(msgspec.Struct):
    frames: dict[str, str]
    timestamp: str | int | float | None = None
    st: int = 0


class _Body(msgspec.Struct):
    sid: str | None = None
    boot: int | None = None
    seq: int | None = None
    n: int | None = None
    moments: list[_Moment] | None = None
    frames: dict[str, str] | None = None
    timestamp: str | int | float | None = None
    st: int = 0


_decode_body = msgspec.json.Decoder(_Body).decode


@dataclass(slots=True)
class _Read:
    """What the frames of one moment say together. ``given`` has each quantity with the frame that gives it."""

    status: int
    values: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    has_sample: bool = False
    has_meter: bool = False
    taken: int = 0
    """How many frames could be read."""
    refused: list[tuple[str, str, FrameError]] = field(default_factory=list)
    """Name, hexadecimal text and error of each frame that could not be read."""

    def claim(self, quantities: Sequence[str], name: str) -> None:
        """Note what a frame gives; raises :class:`DecodeError` where another one gives the same."""
        for quantity in quantities:
            other = self.given.setdefault(quantity, name)
            if other != name:
                raise DecodeError("same_quantity", f"the frames {other} and {name} both give {quantity}")
            self.has_meter |= quantity not in FAULTS
        self.has_sample |= not quantities or any(quantity in FAULTS for quantity in quantities)

    def take(self, frame: Frame, decoder: FrameDecoder) -> None:
        found = {name: value for name in FAULTS if (value := getattr(frame, name)) is not None}
        self.claim(
            [*decoder.gives, *(name for name in (*found, *frame.meter) if name not in decoder.gives)], decoder.name
        )
        self.values |= found
        self.totals |= frame.meter
        self.status |= frame.status & _STATUS
        self.taken += 1

    def refuse(self, text: str, error: FrameError, decoder: FrameDecoder) -> None:
        """Let a frame go that cannot be read, where it is known what it would have given."""
        if not decoder.gives:
            raise DecodeError(error.cause, f"{decoder.name}: {error}") from None
        self.claim(decoder.gives, decoder.name)
        for quantity in decoder.gives:
            self.status |= FAULTS.get(quantity, 0)
        self.refused.append((decoder.name, text, error))


def decode(payload: Payload, decoders: Callable[[], Mapping[str, FrameDecoder]], told: Told) -> Message:
    """A message of the moments' samples and meter records; raises :class:`DecodeError`."""
    try:
        body = _decode_body(payload.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(payload.body, error) from None
    numbers = (body.sid, body.boot, body.seq, body.n)
    if all(number is None for number in numbers):
        return _without_numbers(body, payload, decoders(), told)
    if body.sid is None or body.boot is None or body.seq is None or body.n is None:
        raise DecodeError("missing_field", "sid, boot, seq and n belong together: all four or none")
    return _with_numbers(body, body.sid, body.boot, body.seq, body.n, payload, decoders(), told)


def _without_numbers(body: _Body, payload: Payload, decoders: Mapping[str, FrameDecoder], told: Told) -> Message:
    if body.moments is not None:
        raise DecodeError("missing_field", "a list of moments needs the numbers sid, boot, seq and n")
    if body.frames is None:
        raise DecodeError("missing_field", "there are no frames")
    time_ms = payload.received_at_ms if body.timestamp is None else timestamp_ms(body.timestamp)
    clock = ClockQuality.SYNCED
    if time_ms < EARLIEST_MS:  # seconds since boot, perhaps: they come again after the next one
        time_ms, clock = payload.received_at_ms, ClockQuality.UNSET
    read = _read(_Moment(body.frames, st=body.st), decoders)
    _check_refusals([read], payload.device_id, told)
    samples = [_sample(read, time_ms, time_ms, clock)] if read.has_sample else []
    records = [_meter(read, time_ms, time_ms, clock)] if read.has_meter else []
    return Message(STREAM, 0, time_ms, len(samples) + len(records), samples, records, numbered=False)


def _with_numbers(
    body: _Body,
    sid: str,
    boot: int,
    seq: int,
    n: int,
    payload: Payload,
    decoders: Mapping[str, FrameDecoder],
    told: Told,
) -> Message:
    if not _STREAM_ID.fullmatch(sid):
        raise DecodeError("invalid_stream", f"sid {sid[:40]!r} is not a stream id")
    if n < 1:
        raise DecodeError("empty", "n is less than 1")
    if n > MOST_RECORDS:
        raise DecodeError("too_many_records", f"{n} records in one message; the most is {MOST_RECORDS}")
    if not (1 <= seq <= MOST_SEQ and 0 <= boot <= MOST_SEQ):
        raise DecodeError("bad_sequence", "seq counts from 1, boot from 0")
    try:
        samples, records = _rows(_moments(body), seq, n, payload.device_id, decoders, told)
    except DecodeError as error:
        if error.cause == "unknown_frame":
            raise
        raise DecodeError(error.cause, str(error), (sid, seq, seq + n - 1)) from None
    return Message(sid, boot, seq, n, samples, records)


def _moments(body: _Body) -> list[_Moment]:
    """The moments of a message with numbers: a list of them, or the one that the message is itself."""
    if body.moments is None:
        if body.frames is None:
            raise DecodeError("missing_field", "there are neither moments nor frames")
        return [_Moment(body.frames, body.timestamp, body.st)]
    if body.frames is not None:
        raise DecodeError("wrong_type", "there are moments and frames; a message has one of the two")
    if len(body.moments) > MOST_RECORDS:
        raise DecodeError("row_count_mismatch", f"{len(body.moments)} moments are more than n can be")
    return body.moments


def _rows(
    moments: Sequence[_Moment], seq: int, n: int, device_id: str, decoders: Mapping[str, FrameDecoder], told: Told
) -> tuple[list[Sample], list[Record]]:
    """``n`` samples and records, numbered from ``seq`` on in the order of the moments."""
    reads = [_read(moment, decoders) for moment in moments]
    _check_refusals(reads, device_id, told)
    samples: list[Sample] = []
    records: list[Record] = []
    for moment, read in zip(moments, reads, strict=True):
        if moment.timestamp is None:
            raise DecodeError("missing_field", "a moment with a number needs a timestamp")
        time_ms = timestamp_ms(moment.timestamp)
        clock = ClockQuality.SYNCED if time_ms >= EARLIEST_MS else ClockQuality.UNSET
        if read.has_sample:
            samples.append(_sample(read, seq + len(samples) + len(records), time_ms, clock))
        if read.has_meter:
            records.append(_meter(read, seq + len(samples) + len(records), time_ms, clock))
    if len(samples) + len(records) != n:
        raise DecodeError("row_count_mismatch", f"n is {n}, but there are {len(samples) + len(records)} records")
    return samples, records


def _read(moment: _Moment, decoders: Mapping[str, FrameDecoder]) -> _Read:
    if not moment.frames:
        raise DecodeError("missing_field", "a moment has no frames")
    if not 0 <= moment.st <= _STATUS:
        raise DecodeError("wrong_type", f"st must be 0 to {_STATUS}")
    read = _Read(moment.st)
    for name, text in moment.frames.items():
        decoder = decoders.get(name)
        if decoder is None:
            raise DecodeError("unknown_frame", f"no plugin that runs brings a decoder for the frame {name[:40]!r}")
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raise DecodeError("wrong_type", f"the frame {name} is not hexadecimal: {text[:40]!r}") from None
        try:
            frame = decoder.decode(raw)
        except FrameError as error:
            read.refuse(text, error, decoder)
        else:
            read.take(frame, decoder)
    return read


def _check_refusals(reads: Sequence[_Read], device_id: str, told: Told) -> None:
    """Tell of frames that could not be read; raises :class:`DecodeError` where there is no other."""
    refused = [item for read in reads for item in read.refused]
    if refused and not any(read.taken for read in reads):
        name, _, error = refused[0]
        raise DecodeError(error.cause, f"{name}: {error}")
    for name, text, error in refused:
        key = (device_id, name, error.cause)
        if key not in told and len(told) < MOST_TOLD:
            told.add(key)
            log.warning(
                "a frame cannot be read; the next ones like it are not told",
                device=device_id,
                frame=name,
                cause=error.cause,
                detail=str(error),
                bytes=text[:200],
            )


def _sample(read: _Read, seq: int, time_ms: int, clock: int) -> Sample:
    sample = Sample(seq=seq, device_time_ms=time_ms, clock=clock, status=int(read.status))
    return msgspec.structs.replace(sample, **read.values)


def _meter(read: _Read, seq: int, time_ms: int, clock: int) -> Record:
    """The meter record; where all meters' frames were refused, an event in its place."""
    if read.totals or not read.refused:
        return Record(seq, "meter", time_ms, clock, dict(read.totals))
    lost = [{"frame": name, "cause": error.cause, "bytes": text[:1000]} for name, text, error in read.refused]
    data: dict[str, Any] = {"code": "frame_refused", "frames": lost}
    return Record(seq, "event", time_ms, clock, data)


@hookimpl
def register_sensors(plugin: Plugin) -> Sequence[SensorDriver]:
    driver = partial(decode, decoders=lambda: plugin.frame_decoders, told=set())
    return (SensorDriver(name="frames", title="Frames of a gateway's sensors", decode=driver),)
