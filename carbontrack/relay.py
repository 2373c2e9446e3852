"""What a site hands on to headquarters: for each device a node whose store is the site's database (decision 27).

The site's core gives its devices their receipts. Towards headquarters it is they: it says a birth, hears how far
headquarters has come, and sends what is beyond, in the same protocol. Nothing of that is kept: what headquarters has,
headquarters says. No I/O in this module.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from carbontrack.emissions.rate import undecided_flags
from carbontrack.model import Flag, Record, Sample
from carbontrack.store import Handed
from carbontrack.streams import Stream

MOST_RECORDS = 60
"""Records in one message, as a node sends them: the credit counts messages."""
MOST_BYTES = 100_000
"""A message that is larger is sent in halves; every broker of ours takes it."""
LONGEST_SPAN_MS = 300 * 24 * 3_600_000
"""Of the times in one message; the platform takes a year."""
FRESH_MS = 60_000
"""What was measured within so long is live for headquarters as well."""
MOST_LIVE = 60
"""More records than this that wait to be sent at once are backlog."""
MOST_FLYING = 20
"""Messages on their way that headquarters has not confirmed. It is all that can ever wait in brokers for one device."""
ANSWER_S = 5.0
"""So long a birth waits for its receipt; of a stream that is new to headquarters there comes none."""
PATIENCE_S = 60.0
"""Nobody answers for so long: what is not confirmed is sent again; the next time after twice as long."""
PROGRESS_S = 15.0
"""The same where headquarters answers and is no further: a message is lost. It is a quarter as patient."""
MOST_PATIENCE_S = 600.0
CREDIT = 1.0
"""Messages of backlog a second before headquarters has said how many."""

RELAY_MODE = "relay"
"""The ``mode`` in births that says: this device is governed by its site."""

_BACKLOG = int(Flag.BACKLOG)
_PRESSURE_SITE = int(Flag.PRESSURE_SITE)
_STATUS = (1 << 15) - 1 | int(
    Flag.CLOCK_FUTURE | Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED | Flag.DEVICE_DISAGREES | Flag.PRESSURE_IMPLAUSIBLE
)
"""Flags that go with a reading. Headquarters finds all others again, out of the values and its own plan."""
_COLUMNS = ("ds", "dt", "tq", "co2", "tg", "v", "dp", "pa", "st")
_LETTERS = {"meter": "m", "health": "h", "event": "e", "gap": "g", "anchor": "a"}

Read = Callable[[Stream, int, int, int], Awaitable[list[Handed]]]
"""The records of a stream from one number to another, at most so many, in their order, as the site has them."""


class Receipt(msgspec.Struct, frozen=True):
    """What headquarters has of a stream. ``now`` is its clock, UTC ms."""

    sid: str
    seq: int
    credit: float = CREDIT
    now: int = 0


decode_receipt = msgspec.json.Decoder(Receipt).decode


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for ``up/<channel>``."""

    channel: str
    body: bytes
    last: int = 0
    """The number of its last record."""


# --- messages


def message(sid: str, rows: Sequence[Handed]) -> bytes:
    """Records with consecutive numbers as headquarters is told them. Their boot is not kept, and nothing needs it."""
    first = rows[0]
    seq, at_ms = first.seq, first.device_time_ms
    blocks: dict[str, dict[str, Any]] = {}
    for row in rows:
        letter, columns, values = _as_row(row)
        block = blocks.setdefault(letter, {"cols": ("ds", "dt", "tq", *columns), "rows": []})
        block["rows"].append((row.seq - seq, row.device_time_ms - at_ms, 1, *values))
    head = {"v": 1, "sid": sid, "boot": 0, "seq": seq, "n": len(rows), "t": at_ms, "rel": True}
    return msgspec.json.encode(head | blocks)


def hole(sid: str, first: int, last: int, now_ms: int) -> bytes:
    """The numbers of a hole, declared lost by a gap record that has the last of them.

    Without ``rel``: of all gaps headquarters believes these alone, because nothing else that is true of the site's
    database may be true of the messages that have reached headquarters.
    """
    block = {"cols": ("ds", "dt", "tq", "from", "to", "why"), "rows": [(0, 0, 1, first, max(first, last - 1), "site")]}
    return msgspec.json.encode({"v": 1, "sid": sid, "boot": 0, "seq": last, "n": 1, "t": now_ms, "g": block})


def _as_row(row: Handed) -> tuple[str, tuple[str, ...], tuple[Any, ...]]:
    if isinstance(row, Record):
        data = {name: value for name, value in row.data.items() if name not in ("ds", "dt", "tq")}
        return _LETTERS.get(row.kind, "e"), tuple(data), tuple(data.values())
    flags = row.status
    values = (
        row.co2_ppm,
        row.temperature_c,
        row.velocity_ms,
        row.pressure_difference_pa,
        None if flags & _PRESSURE_SITE else row.pressure_kpa,
        undecided_flags(flags) & _STATUS,
    )
    return "s", _COLUMNS[3:], values


def _is_late(row: Handed, now_ms: int) -> bool:
    """Whether it comes to headquarters as backlog."""
    late = isinstance(row, Sample) and bool(row.status & _BACKLOG)
    return late or now_ms - row.device_time_ms > FRESH_MS


def batches(rows: Sequence[Handed], now_ms: int) -> Iterable[Sequence[Handed]]:
    """Records in pieces that each fit into one message."""
    begin, columns = 0, dict[str, tuple[str, ...]]()
    for number, row in enumerate(rows):
        first = rows[begin]
        letter, names, _ = _as_row(row)
        if number > begin and (
            number - begin >= MOST_RECORDS
            or row.seq != rows[number - 1].seq + 1
            or _is_late(row, now_ms) != _is_late(first, now_ms)
            or columns.get(letter, names) != names
            or abs(row.device_time_ms - first.device_time_ms) > LONGEST_SPAN_MS // 2
        ):
            yield rows[begin:number]
            begin, columns = number, {}
        columns[letter] = names
    if rows:
        yield rows[begin:]


# --- one stream


class Way:
    """How far one stream of a device has come on its way to headquarters."""

    def __init__(self, held: Stream, *, is_new: bool) -> None:
        self.held = held
        """What the site has, as it is committed."""
        self.live_from = 1 if is_new else self.newest + 1
        """Records from here on are sent at once."""
        self.begun = self.live_from - 1
        """The newest when it was first looked at."""
        self.confirmed: int | None = None
        """Headquarters has everything up to this number; None: it has not said."""
        self.answered = False
        """Whether it has said so since it was asked last."""
        self.is_doubtful = True
        """Whether what was sent may be lost on the way."""
        self.sent = Stream(held.pk, held.sid)
        """What was sent, or is confirmed, since the last start over."""
        self.flying: deque[int] = deque()
        """The last numbers of messages of backlog that are on their way and can be confirmed."""

    @property
    def newest(self) -> int:
        """The highest number that the site has."""
        return self.held.beyond[-1][1] if self.held.beyond else self.held.watermark

    @property
    def is_waiting(self) -> bool:
        """Whether headquarters is to say something: how far it is, or that it has the first that it has not confirmed.

        Of what is beyond a hole of the site's own it cannot say anything.
        """
        done = self.confirmed or 0
        return bool(self.held.watermark) and (
            not self.answered or (done < self.held.watermark and self.sent.covers(done + 1))
        )

    @property
    def is_settled(self) -> bool:
        """Whether headquarters has all that it can have now, and has said so."""
        return (self.confirmed or 0) >= self.held.watermark and not self.is_waiting and self.next_run(1) is None

    def waiting(self) -> int:
        """How many numbers of it headquarters has not confirmed; before it has spoken, of those that came since."""
        done = self.begun if self.confirmed is None else self.confirmed
        ranges = ((1, self.held.watermark), *self.held.beyond)
        return sum(max(0, last - max(first, done + 1) + 1) for first, last in ranges)

    def next_run(self, start: int) -> tuple[int, int] | None:
        """The lowest numbers from ``start`` on that the site has and that were not sent."""
        sent = [(1, self.sent.watermark), *self.sent.beyond]
        for first, last in ((1, self.held.watermark), *self.held.beyond):
            low = max(first, start)
            for begin, end in sent:
                if low > last:
                    break
                if end < low:
                    continue
                if begin > low:
                    return low, min(last, begin - 1)
                low = end + 1
            if low <= last:
                return low, last
        return None

    def start_over(self, *, doubting: bool = False) -> None:
        """Send again what is not confirmed. ``doubting``: from the first record on, to see whether that is answered.

        A headquarters whose database was restored to a time before a stream has nothing to say about it.
        """
        self.sent = Stream(self.held.pk, self.held.sid, 0 if doubting else self.confirmed or 0)
        self.flying.clear()
        self.is_doubtful = False

    def note_sent(self, first: int, last: int) -> None:
        """These numbers are on their way."""
        self.sent.add(first, last)

    def confirm(self, seq: int) -> bool:
        """Take what headquarters has; whether that is more than before. It may be less: its database was restored."""
        before, self.confirmed, self.answered = self.confirmed, seq, True
        if before is not None and seq < before:
            self.start_over()
            return False
        self.sent.add(1, seq)
        while self.flying and self.flying[0] <= seq:
            self.flying.popleft()
        return before is None or seq > before


# --- one device


class Courier:
    """One device on its way to headquarters. ``conn`` counts starts of the site's core: a later one is larger.

    ``is_new``: it had measured nothing when the core began. Times ``now_s`` are monotonic, ``now_ms`` UTC.
    """

    def __init__(self, device_id: str, conn: int, *, is_new: bool = False) -> None:
        self.device_id = device_id
        self.said: dict[str, Any] = {}
        """What the device has said of itself that goes into births: ``fw`` and ``cap``."""
        self.credit = CREDIT
        self.heard_s: float | None = None
        """When headquarters confirmed anything last."""
        self._conn = conn
        self._all_is_new = is_new
        """Whether a stream that is seen for the first time has begun just now."""
        self._ways: dict[str, Way] = {}
        self._asked: Way | None = None
        self._asked_s = 0.0
        self._told_online: bool | None = None
        """What headquarters believes of the device."""
        self._probing = False
        """Nobody answers: one message at a time, until somebody does."""
        self._waiting_since_s: float | None = None
        self._patience_s = PATIENCE_S
        self._allowance = 1.0
        self._last_s: float | None = None

    # --- what is known

    def look(self, streams: Sequence[Stream]) -> None:
        """Take what the site has by now, the device's latest used stream last."""
        ways = {}
        for stream in streams:
            way = self._ways.get(stream.sid)
            if way is None or way.held.pk != stream.pk:
                way = Way(stream, is_new=self._all_is_new)
            way.held = stream
            ways[stream.sid] = way
        self._ways, self._all_is_new = ways, True

    def waiting(self) -> int:
        """How many records headquarters has not confirmed, as far as it has spoken since the start."""
        return sum(way.waiting() for way in self._ways.values())

    @property
    def is_known(self) -> bool:
        """Whether headquarters has said of every stream how far it is."""
        return all(way.confirmed is not None or not way.held.watermark for way in self._ways.values())

    def oldest(self) -> tuple[Stream, int] | None:
        """The first record that is not confirmed: its stream and number."""
        for way in self._ways.values():
            first = (way.begun if way.confirmed is None else way.confirmed) + 1
            if first <= way.newest:
                return way.held, first
        return None

    @property
    def is_unnumbered(self) -> bool:
        """Whether it measures without numbering: then nobody can know what is missing, and nothing is handed on."""
        return any(it.held.last_measured_ms and not it.newest for it in self._ways.values())

    # --- connections and receipts

    def connect_again(self) -> None:
        """What was on its way may be lost: ask how far headquarters is, and go on from there."""
        self.ask_again()
        for way in self._ways.values():
            way.is_doubtful, way.live_from = True, way.newest + 1

    def ask_again(self) -> None:
        """Ask how far headquarters is with every stream: it may have less than it had."""
        self._asked = None
        self._probing = False
        self._waiting_since_s, self._patience_s = None, PATIENCE_S
        for way in self._ways.values():
            way.answered = False

    def take_receipt(self, receipt: Receipt, now_s: float) -> None:
        """Headquarters has spoken."""
        way = self._ways.get(receipt.sid)
        if way is None or receipt.seq < 0:
            return
        self.credit, self.heard_s, self._probing = receipt.credit, now_s, False
        if way.confirm(receipt.seq):
            self._waiting_since_s, self._patience_s = None, PATIENCE_S

    # --- sending

    async def next_messages(self, now_s: float, now_ms: int, read: Read, *, online: bool) -> list[Outgoing]:
        """What is to be sent now: a birth, live records, then older ones. ``online``: whether the device is there."""
        way = next((it for it in self._ways.values() if not it.is_settled), self._current)
        if way is None or self._current is None:
            return []
        self._earn(now_s)
        if not way.is_waiting:
            self._waiting_since_s = None
        found: list[Outgoing] = []
        if self._lost_patience(now_s) or self._asked is not way or (online and not self._told_online):
            found.append(self._birth(way, now_s))
        if not self._probing:
            found += await self._live(self._current, now_ms, read)
        found += await self._backlog(way, now_s, now_ms, read)
        if any(it.channel != "state" for it in found):
            self._told_online = True
        if way.is_waiting and self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if self._told_online and not online:
            found.append(Outgoing("state", self._state(online=False, why="site")))
            self._told_online = False
        return found

    @property
    def _current(self) -> Way | None:
        return next(reversed(self._ways.values()), None)

    def _earn(self, now_s: float) -> None:
        """The credit grows with time, for two seconds at most."""
        passed_s = now_s - (now_s if self._last_s is None else self._last_s)
        self._last_s = now_s
        self._allowance = min(self._allowance + passed_s * self.credit, max(1.0, 2 * self.credit))

    def _lost_patience(self, now_s: float) -> bool:
        """Begin again after the last receipt where nothing has moved for too long."""
        since_s = self._waiting_since_s
        if since_s is None:
            return False
        is_silent = self.heard_s is None or self.heard_s < since_s
        if now_s - since_s < self._patience_s * (1.0 if is_silent else PROGRESS_S / PATIENCE_S):
            return False
        self._probing = is_silent
        self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
        self._waiting_since_s = None
        for way in self._ways.values():
            way.start_over(doubting=not way.answered)
        return True

    def _birth(self, way: Way, now_s: float) -> Outgoing:
        """Ask how far headquarters is with a stream. ``first`` is 1: a birth declares nothing lost."""
        if way.is_doubtful:
            way.start_over()
        if self._asked is not way:
            self._waiting_since_s = None
        self._asked, self._asked_s, way.answered = way, now_s, False
        self._told_online = True
        return Outgoing("state", self._state(online=True, sid=way.held.sid, first=1))

    def _state(self, *, online: bool, **more: Any) -> bytes:
        said = self.said if online else {}
        return msgspec.json.encode(
            {"v": 1, "online": online, "conn": self._conn, "boot": 0, "mode": RELAY_MODE} | said | more
        )

    async def _live(self, way: Way, now_ms: int, read: Read) -> list[Outgoing]:
        """What has come since the birth, at once; where that is much, only the newest of it."""
        way.live_from = max(way.live_from, way.newest - MOST_LIVE + 1)
        found: list[Outgoing] = []
        while (run := way.next_run(way.live_from)) is not None:
            found += await self._send(way, run, now_ms, read, MOST_LIVE)
        return found

    async def _backlog(self, way: Way, now_s: float, now_ms: int, read: Read) -> list[Outgoing]:
        """Older records, the oldest first, as many as headquarters has credit for."""
        if not way.answered and now_s - self._asked_s < ANSWER_S:
            return []
        if not way.answered and way.confirmed is None and self.heard_s is None:
            self._probing = True
        found: list[Outgoing] = []
        while self._allowance >= 1 and (run := way.next_run(1)) is not None:
            room = 1 - len(way.flying) if self._probing else MOST_FLYING - len(way.flying)
            most = min(int(self._allowance), room)
            if most < 1:
                break
            sent = await self._send(way, run, now_ms, read, most)
            self._allowance -= len(sent)
            way.flying.extend(it.last for it in sent if it.last <= way.held.watermark)
            found += sent
        return found

    async def _send(self, way: Way, run: tuple[int, int], now_ms: int, read: Read, most: int) -> list[Outgoing]:
        """At most so many messages of the numbers of a run, from its beginning on; what is missing there is lost."""
        first, last = run
        limit = most * MOST_RECORDS
        rows = await read(way.held, first, last, limit)
        found: list[Outgoing] = []
        next_seq, sid = first, way.held.sid
        for rows_of_one in _smaller(sid, batches(rows, now_ms)):
            begin, end = rows_of_one[0].seq, rows_of_one[-1].seq
            if begin > next_seq and len(found) < most:
                found.append(Outgoing("backlog", hole(sid, next_seq, begin - 1, now_ms), begin - 1))
                way.note_sent(next_seq, begin - 1)
            if len(found) >= most:
                return found
            channel = "backlog" if _is_late(rows_of_one[0], now_ms) else "data"
            found.append(Outgoing(channel, message(sid, rows_of_one), end))
            way.note_sent(begin, end)
            next_seq = end + 1
        if len(rows) < limit and next_seq <= last and len(found) < most:
            found.append(Outgoing("backlog", hole(sid, next_seq, last, now_ms), last))
            way.note_sent(next_seq, last)
        return found


def _smaller(sid: str, pieces: Iterable[Sequence[Handed]]) -> Iterable[Sequence[Handed]]:
    """The same pieces, halved until each is a message that brokers take."""
    for piece in pieces:
        if len(piece) > 1 and len(message(sid, piece)) > MOST_BYTES:
            middle = len(piece) // 2
            yield from _smaller(sid, (piece[:middle], piece[middle:]))
        else:
            yield piece
