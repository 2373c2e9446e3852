"""From a device's payloads to the rows that are to be committed: decode, place in time, compute, account.

Nothing here touches the database but the opening of a new stream. The order of the steps is that of
``docs/architecture.md``, "The way of a reading".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from carbontrack.emissions.hours import LAST_STEP_MS
from carbontrack.emissions.rate import Rate, as_stored, emission_rate, plan_in_force, single, site_pressure_kpa
from carbontrack.fence import HeldBack
from carbontrack.health import Birth, ClockSeen
from carbontrack.hookspecs import DecodeError, SensorDriver
from carbontrack.model import ClockQuality, Flag, Message, Payload, Quarantined, Reading, Record, Sample, Site
from carbontrack.store import TIER_MS, StreamState, Work
from carbontrack.streams import EARLIEST_MS, FUTURE_TOLERANCE_MS, Clock, Stream

MOST_STREAMS = 50
"""Streams of one device that are kept in memory; a device that invents more is misbehaving."""
LONGEST_SID = 32
MOST_NUMBER = 2**53
"""Beyond this a number is no longer whole in every language, nor in a column."""
LONGEST_SPAN_MS = 366 * 24 * 3_600_000
"""The times of one message lie within a year: with more, one of them is nonsense."""
STUCK_MIN_READINGS = 12
STUCK_MIN_CO2_PPM = 10_000.0
"""Below 1 % CO2 the boiler is off and a constant value is normal."""

OUTSIDE = "outside_its_time"
"""The cause of what a unit measured before it took over a chimney, or after another one has."""
_BACKLOG = int(Flag.BACKLOG)
_CLOCK_UNSET = int(Flag.CLOCK_UNSET)
_STUCK = int(Flag.STUCK)
_IMPLAUSIBLE = int(Flag.IMPLAUSIBLE)
_FROM_PITOT = int(Flag.VELOCITY_FROM_PITOT)


@dataclass(slots=True)
class Batch:
    """What one turn of the actor has taken: the work for the store, and how each reading ended."""

    work: Work
    received: int = 0
    duplicate: int = 0
    quarantined: int = 0
    refused: int = 0
    outside: int = 0
    """Of the quarantined ones, those that a unit measured outside of its time at the chimney."""
    heard: bool = False
    """Whether the device sent data, readable or not."""
    online: bool | None = None
    """What a birth or a will said last."""
    by_will: bool = False
    """Whether it was the broker that said it, and not the device itself."""
    will: bool = False
    """Whether a last will came, whatever came after it."""
    newest: Reading | None = None
    """The newest new reading by measuring time."""
    receipts: dict[str, Stream] = field(default_factory=dict)
    """Streams whose watermark the device should be told, by stream id."""
    changed: dict[int, tuple[Stream, datetime]] = field(default_factory=dict)
    """Streams whose state must be committed, with the time of receipt."""
    causes: list[str] = field(default_factory=list)
    """Why something could not be used."""
    birth: Birth | None = None
    """What the device said of itself when it connected, if it did."""
    clock: ClockSeen | None = None
    """What the newest live message shows of the device's clock."""

    def take_in(self, part: Batch) -> None:
        """Make one payload's part, which was counted apart over the same work, a part of the whole."""
        self.received += part.received
        self.duplicate += part.duplicate
        self.quarantined += part.quarantined
        self.refused += part.refused
        self.heard |= part.heard
        if part.newest and (self.newest is None or part.newest.measured_at >= self.newest.measured_at):
            self.newest = part.newest
        self.receipts.update(part.receipts)
        self.changed.update(part.changed)
        self.clock = part.clock or self.clock

    def seal(self) -> Work:
        """The work, with the streams as they are now."""
        for pk, (stream, received_at) in self.changed.items():
            self.work.streams[pk] = StreamState.of(stream, received_at)
        return self.work


class _Birth(msgspec.Struct):
    """A message on ``up/state``: a birth, a clean goodbye or the last will."""

    online: bool
    conn: int = 0
    sid: Annotated[str, msgspec.Meta(max_length=LONGEST_SID, pattern=r"^[0-9A-Za-z_-]*$")] | None = None
    first: int | None = None
    why: str | None = None
    fw: Any = None  # of whatever type: a device that names itself oddly is there all the same
    cap: Any = None
    cfg: Any = None
    hw: Any = None
    boot: Any = None
    mode: Any = None


_decode_birth = msgspec.json.Decoder(_Birth).decode
_device_time_ms = attrgetter("device_time_ms")


class Intake:
    """One device's way in. ``open_stream`` gives the database's row for a stream id that is new."""

    __slots__ = (
        "_connection",
        "_is_unbounded",
        "_open_stream",
        "_pressure_kpa",
        "_stuck",
        "driver",
        "site",
        "streams",
        "stuck_after_s",
    )

    def __init__(
        self,
        site: Site,
        driver: SensorDriver,
        open_stream: Callable[[str, str], Awaitable[Stream]],
        *,
        stuck_after_s: float,
    ) -> None:
        self.streams: dict[str, Stream] = {}
        self.stuck_after_s = stuck_after_s
        self._open_stream = open_stream
        self._connection = -1
        self._stuck: tuple[float | None, int, int] = (None, 0, 0)
        self.settings_changed(site, driver)

    def settings_changed(self, site: Site, driver: SensorDriver) -> None:
        """Take a changed registration; the next payload is computed with it."""
        self.site = site
        self.driver = driver
        self._pressure_kpa = site_pressure_kpa(site.factory)
        device = site.device
        self._is_unbounded = device.measures_from is None and device.measures_until is None

    # --- payloads

    async def take_data(self, payload: Payload, batch: Batch) -> None:
        """A payload on ``up/data`` or ``up/backlog``."""
        batch.heard = True
        try:
            message = self._decode(payload)
        except DecodeError as error:
            await self._quarantine(payload, error, batch)
            return
        batch.received += message.count
        stream = self.streams.get(message.stream) or await self._new_stream(message.stream)
        # Where a gap record comes with it, it may be the very message that makes room.
        makes_room = any(record.kind == "gap" for record in message.records)
        if stream is None or (message.numbered and not makes_room and not stream.has_room_for(message.first_seq)):
            batch.refused += message.count
            return
        self._keep(payload, message, stream, batch, stream.covers)

    async def take_again(
        self, payload: Payload, batch: Batch, kept_numbers: Callable[[int, int, int], Awaitable[set[int]]]
    ) -> None:
        """A payload out of quarantine. Its device is not heard by it, and it is not quarantined a second time.

        Its numbers may count as handled though they are not kept, so the database says which are:
        ``kept_numbers(stream_pk, first, last)``.
        """
        try:
            message = self._decode(payload)
        except DecodeError as error:
            batch.received += 1
            batch.quarantined += 1
            batch.causes.append(f"{error.cause}: {error}")
            return
        batch.received += message.count
        stream = self.streams.get(message.stream) or await self._new_stream(message.stream)
        if stream is None:
            batch.refused += message.count
            return
        work, pk, first = batch.work, stream.pk, message.first_seq
        kept = await kept_numbers(pk, first, first + message.count - 1) if message.numbered else set()
        kept.update(row.seq for row in work.readings if row.stream_pk == pk)
        kept.update(record.seq for stream_pk, record, _, _ in work.records if stream_pk == pk)
        self._keep(payload, message, stream, batch, kept.__contains__, again=True)

    def _keep(
        self,
        payload: Payload,
        message: Message,
        stream: Stream,
        batch: Batch,
        is_kept: Callable[[int], bool],
        *,
        again: bool = False,
    ) -> None:
        """Make rows of what is not kept yet, and take the numbers as handled."""
        received_at = datetime.fromtimestamp(payload.received_at_ms / 1000, UTC)
        if message.numbered:
            batch.receipts[stream.sid] = stream
        new_before, outside_before = len(batch.work.readings) + len(batch.work.records), batch.outside
        watermark, beyond = stream.watermark, stream.beyond
        self._add_rows(payload, message, stream, received_at, batch, is_kept)
        if outside := batch.outside - outside_before:
            self._put_aside(payload, outside, received_at, batch, again=again)
        is_new = bool(outside) or len(batch.work.readings) + len(batch.work.records) > new_before
        if is_new and message.numbered:
            stream.add(message.first_seq, message.first_seq + message.count - 1)
        if is_new or stream.watermark != watermark or stream.beyond is not beyond:
            batch.changed[stream.pk] = (stream, received_at)

    def _decode(self, payload: Payload) -> Message:
        """The driver's answer. Raises :class:`DecodeError`, whatever else the driver does.

        The driver is behind its fence, which has held the answer against :func:`check_message`.
        """
        try:
            message = self.driver.decode(payload)
        except DecodeError:
            raise
        except HeldBack as error:
            raise DecodeError("driver_held_back", str(error)) from error
        except Exception as error:
            detail = f"{self.driver.name}: {type(error).__name__}: {error}"
            raise DecodeError("driver_failed", detail) from error
        if len(message.samples) != 1 or message.records:
            covers = (message.stream, message.first_seq, message.first_seq + message.count - 1)
            times = _times(message)
            if max(times) - min(times) > LONGEST_SPAN_MS:
                detail = "the records of one message are more than a year apart"
                raise DecodeError("bad_time", detail, covers if message.numbered else None)
        return message

    async def take_state(self, payload: Payload, batch: Batch) -> None:
        """A payload on ``up/state``: a birth or a will."""
        if not payload.body:
            return  # a retained message that was cleared
        try:
            birth = _decode_birth(payload.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = f"the message on up/state cannot be read: {error}"
            await self._quarantine(payload, DecodeError("bad_state", detail), batch)
            return
        if birth.conn < self._connection and not birth.online:
            return  # the will of an older connection, delivered after the birth of a newer one
        self._connection = birth.conn
        batch.online, batch.by_will = birth.online, not birth.online and birth.why is None
        batch.will |= batch.by_will
        if birth.online:
            batch.birth = Birth.of(
                birth.fw, birth.cap, birth.sid, birth.cfg, hw=birth.hw, boot=birth.boot, mode=birth.mode
            )
        if not birth.online or not birth.sid or birth.first is None or not 0 <= birth.first < 2**53:
            return
        stream = self.streams.get(birth.sid) or await self._new_stream(birth.sid)
        if stream is None:
            return
        stream.begin(birth.first)
        batch.changed[stream.pk] = (stream, datetime.fromtimestamp(payload.received_at_ms / 1000, UTC))
        batch.receipts[stream.sid] = stream

    # --- rows

    def _add_rows(
        self,
        payload: Payload,
        message: Message,
        stream: Stream,
        received_at: datetime,
        batch: Batch,
        is_kept: Callable[[int], bool],
    ) -> None:
        live = payload.channel == "data"
        samples, records, numbered = message.samples, message.records, message.numbered
        # What a site hands on comes in any order, and for the site its gaps and anchors have done their work.
        statements = records if not message.relayed else ()
        for record in statements:
            _take_anchor(stream, record, payload.received_at_ms)
        times = _times(message)
        first_ms, last_ms = min(times), max(times)
        quality = (samples[0] if samples else records[0]).clock
        clock = stream.clock(message.boot, first_ms, last_ms, quality, live, payload.received_at_ms)
        if live:
            batch.clock = _clock_seen(clock, quality, last_ms - payload.received_at_ms)
        added = False
        for sample in samples:
            if not self._is_wanted(sample, clock, is_kept if numbered else None, batch):
                continue
            reading = self._compute(sample, stream, clock, live, received_at, relayed=message.relayed)
            batch.work.readings.append(reading)
            added = True
            if batch.newest is None or reading.measured_at >= batch.newest.measured_at:
                batch.newest = reading
        if added:
            self._note_times(stream, samples, clock.offset_ms, batch)
        for record in records:
            if not self._is_wanted(record, clock, is_kept if numbered else None, batch):
                continue
            measured_at = datetime.fromtimestamp((record.device_time_ms + clock.offset_ms) / 1000, UTC)
            batch.work.records.append((stream.pk, record, measured_at, received_at))
        for record in statements:  # one that comes again, too: a relay's hole may have grown
            _take_gap(stream, record)

    def _is_wanted(
        self, item: Sample | Record, clock: Clock, is_kept: Callable[[int], bool] | None, batch: Batch
    ) -> bool:
        """Whether a record is to be kept: it is not yet, and it is no measurement outside of the unit's time here."""
        if is_kept is not None and is_kept(item.seq):
            batch.duplicate += 1
            return False
        if self._is_unbounded or (isinstance(item, Record) and item.kind != "meter"):
            return True
        measured_at = datetime.fromtimestamp((item.device_time_ms + clock.offset_ms) / 1000, UTC)
        if self.site.device.counts_at(measured_at):
            return True
        batch.outside += 1
        return False

    def _put_aside(self, payload: Payload, count: int, received_at: datetime, batch: Batch, *, again: bool) -> None:
        """Keep what a unit measured outside of its time at the chimney where people see it, and count it nowhere."""
        device = self.site.device
        detail = (
            f"{count} of its records are from after {device.replaced_by} has taken over its chimney"
            if device.measures_until is not None
            else f"{count} of its records are from before it took over its chimney"
        )
        batch.quarantined += count
        batch.causes.append(f"{OUTSIDE}: {detail}")
        if not again:
            item = Quarantined(device.device_id, OUTSIDE, detail, received_at, payload.body)
            batch.work.quarantined.append(item)

    def _compute(
        self, sample: Sample, stream: Stream, clock: Clock, live: bool, received_at: datetime, *, relayed: bool = False
    ) -> Reading:
        measured_ms = sample.device_time_ms + clock.offset_ms
        flags = sample.status | clock.flags
        if not live:
            flags |= _BACKLOG
        elif not relayed and self._is_stuck(sample.co2_ppm, measured_ms):
            flags |= _STUCK
        stack = self.site.stack
        plan = stack.plans[0] if len(stack.plans) == 1 else plan_in_force(stack.plans, measured_ms / 1000)
        try:
            sample = as_stored(sample)
            rate = emission_rate(sample, plan, self._pressure_kpa, flags)
        except OverflowError:  # a driver let a number through that no float can hold
            rate = Rate(None, None, None, self._pressure_kpa, flags | _IMPLAUSIBLE)
        return Reading(
            stack.id,
            stream.pk,
            sample.seq,
            datetime.fromtimestamp(measured_ms / 1000, UTC),
            received_at,
            sample.co2_ppm,
            sample.temperature_c,
            single(rate.velocity_ms),
            single(rate.pressure_kpa),
            single(rate.flow_rate_m3s),
            single(rate.co2_kg_per_s),
            rate.flags,
            sample.pressure_difference_pa if rate.flags & _FROM_PITOT else None,
        )

    def _is_stuck(self, co2_ppm: float | None, measured_ms: int) -> bool:
        """Whether the CO2 channel has given the very same value for too long while the boiler fires."""
        value, since_ms, count = self._stuck
        if co2_ppm is None or co2_ppm < STUCK_MIN_CO2_PPM or co2_ppm != value:
            self._stuck = (co2_ppm, measured_ms, 1)
            return False
        self._stuck = (value, since_ms, count + 1)
        return count >= STUCK_MIN_READINGS and measured_ms - since_ms >= self.stuck_after_s * 1000

    def _note_times(self, stream: Stream, samples: Sequence[Sample], offset_ms: int, batch: Batch) -> None:
        """Mark the 5-minute buckets that these times change.

        Of a minute before, because the last reading there got a successor; of 5 s after, for which a reading speaks.
        """
        stack_id = self.site.stack.id
        buckets = batch.work.buckets
        times = [sample.device_time_ms for sample in samples]
        newest = max(samples, key=_device_time_ms)
        first_ms, last_ms = min(times) + offset_ms, newest.device_time_ms + offset_ms
        buckets.add((stack_id, (first_ms - 60_000) // TIER_MS * TIER_MS))
        for at_ms in times:
            buckets.add((stack_id, (at_ms + offset_ms) // TIER_MS * TIER_MS))
            buckets.add((stack_id, (at_ms + offset_ms + LAST_STEP_MS - 1) // TIER_MS * TIER_MS))
        if last_ms > stream.last_measured_ms:
            stream.last_measured_ms = last_ms
            stream.last_stack_id = stack_id
            stream.last_seq = newest.seq

    # --- what cannot be used

    async def _new_stream(self, sid: str) -> Stream | None:
        if len(self.streams) >= MOST_STREAMS:
            return None
        stream = self.streams[sid] = await self._open_stream(self.site.device.device_id, sid)
        return stream

    async def _quarantine(self, payload: Payload, error: DecodeError, batch: Batch) -> None:
        """Keep what cannot be read, and count its numbers as handled: the device would send it again for ever."""
        received_at = datetime.fromtimestamp(payload.received_at_ms / 1000, UTC)
        number = 1
        if error.covers is not None:
            sid, first, last = error.covers
            number = last - first + 1
            stream = self.streams.get(sid) or await self._new_stream(sid)
            if stream is not None and stream.has_room_for(first):
                batch.receipts[sid] = stream
                if all(stream.covers(seq) for seq in range(first, last + 1)):
                    batch.received += number
                    batch.duplicate += number
                    return
                stream.add(first, last)
                batch.changed[stream.pk] = (stream, received_at)
        batch.received += number
        batch.quarantined += number
        batch.causes.append(f"{error.cause}: {error}")
        item = Quarantined(self.site.device.device_id, error.cause, str(error), received_at, payload.body)
        batch.work.quarantined.append(item)


def check_message(message: Any) -> None:
    """Raise TypeError or ValueError for what no driver may give: other types, and numbers that are none."""
    if type(message) is not Message:
        raise TypeError(f"decode gave {type(message).__name__}, not a Message")
    if type(message.stream) is not str or not message.stream:
        raise TypeError("the stream's name must be text")
    _check_whole(message.boot | message.first_seq | message.count)
    rows = len(message.samples) + len(message.records)
    if rows != message.count or not rows or len(message.stream) > LONGEST_SID:
        raise TypeError(f"it gave {rows} of {message.count} records of the stream {message.stream!r}")
    for sample in message.samples:
        if type(sample) is not Sample:
            raise TypeError(f"a sample is a {type(sample).__name__}")
        _check_whole(sample.seq | sample.device_time_ms | sample.clock | sample.status)
        if not (
            _is_finite(sample.co2_ppm)
            and _is_finite(sample.temperature_c)
            and _is_finite(sample.velocity_ms)
            and _is_finite(sample.pressure_difference_pa)
            and _is_finite(sample.pressure_kpa)
            and _is_finite(sample.device_co2_kg_per_s)
        ):
            raise ValueError(f"a value is not finite: {sample}")
    for record in message.records:
        if type(record) is not Record or type(record.data) is not dict:
            raise TypeError("a record must be a Record with a dict of data")
        _check_whole(record.seq | record.device_time_ms | record.clock)


def _check_whole(joined: int) -> None:
    """Numbers joined by "or", which only whole ones can be: each is within the bounds if the whole is."""
    if not 0 <= joined < MOST_NUMBER:
        raise ValueError("numbers and times must be whole, from 0 to 2**53")


def _is_finite(value: float | None) -> bool:
    """Whether a value is missing or a number that is one; a TypeError for what is no number."""
    return value is None or -inf < value < inf


def _take_anchor(stream: Stream, record: Record, received_at_ms: int) -> None:
    """A clock anchor states where one boot's uptime lies in UTC; it may speak of an earlier boot."""
    boot, utc_ms, uptime_ms = (record.data.get(key) for key in ("boot", "utc", "ms"))
    if record.kind != "anchor" or not (type(boot) is int and type(utc_ms) is int and type(uptime_ms) is int):
        return
    if uptime_ms >= 0 and utc_ms - uptime_ms >= EARLIEST_MS and utc_ms <= received_at_ms + FUTURE_TOLERANCE_MS:
        stream.anchor(boot, utc_ms - uptime_ms)


def _clock_seen(clock: Clock, quality: int, ahead_ms: int) -> ClockSeen:
    """What a live message shows; ``ahead_ms``: by how much its newest time is after its receipt."""
    if clock.flags & _CLOCK_UNSET:
        return ClockSeen(int(ClockQuality.UNSET), 0.0)
    return ClockSeen(quality, ahead_ms / 1000)


def _times(message: Message) -> list[int]:
    """The device times of all records."""
    samples, records = message.samples, message.records
    if not records:
        return [sample.device_time_ms for sample in samples]
    return [sample.device_time_ms for sample in samples] + [record.device_time_ms for record in records]


def _take_gap(stream: Stream, record: Record) -> None:
    """A gap record declares numbers lost that the device no longer has."""
    first, last = record.data.get("from"), record.data.get("to")
    if record.kind == "gap" and type(first) is int and type(last) is int and 0 <= first <= last < record.seq:
        stream.add(first, last)
