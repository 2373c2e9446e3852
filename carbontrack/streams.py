"""What the platform holds of a device's store: which sequence numbers it has, and how that device's clock runs.

A *stream* is one formatting of a device's flash ring, named by a random id. Its records are numbered without gaps, so
(device, stream, sequence number) names a record for ever. The *watermark* is the highest number up to which every
record is stored, quarantined or declared lost; it is what the receipt tells the device.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from carbontrack.model import ClockQuality, Flag

EARLIEST_MS = 1_577_836_800_000
"""2020-01-01T00:00:00Z: an earlier time is a clock that was never set."""
FUTURE_TOLERANCE_MS = 120_000
"""A clock may be this far ahead of the platform's before its times are set back."""
MOST_RANGES = 500
"""More separate ranges beyond the watermark than this are not kept: the device must fill its gaps first."""

MOST_ANCHORS = 20
"""Boots whose clock is remembered: a device that reboots for ever must not grow this for ever."""

_CLOCK_UNSET = int(Flag.CLOCK_UNSET)
_CLOCK_FUTURE = int(Flag.CLOCK_FUTURE)
_TIME_ESTIMATED = int(Flag.TIME_ESTIMATED)
_UNSET = int(ClockQuality.UNSET)


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where one boot's uptime lies in UTC: ``utc_ms = uptime_ms + offset_ms``."""

    offset_ms: int
    estimated: bool


class Stream:
    """One stream of one device. Its numbers begin with 1.

    Whatever comes first, the numbers below it are expected until the device states that it has them no more
    (:meth:`begin`): a live reading may well overtake the backlog before it.
    """

    __slots__ = ("anchors", "beyond", "last_measured_ms", "last_seq", "last_stack_id", "pk", "sid", "watermark")

    def __init__(
        self,
        pk: int,
        sid: str,
        watermark: int = 0,
        beyond: list[list[int]] | None = None,
        anchors: dict[int, Anchor] | None = None,
        last_measured_ms: int = 0,
        last_stack_id: int | None = None,
        last_seq: int | None = None,
    ) -> None:
        self.pk = pk
        self.sid = sid
        self.watermark = watermark
        self.beyond: list[list[int]] = beyond or []
        """Closed ranges ``[first, last]`` beyond the watermark, ascending, apart from each other."""
        self.anchors: dict[int, Anchor] = anchors or {}
        self.last_measured_ms = last_measured_ms
        """Newest measuring time in UTC ms, with stack and number: where the newest reading is."""
        self.last_stack_id = last_stack_id
        self.last_seq = last_seq

    # --- sequence numbers

    def begin(self, first: int) -> None:
        """Take the device's word that it has nothing before this number: what is missing there is lost."""
        if first > self.watermark + 1:
            self.add(self.watermark + 1, first - 1)

    def covers(self, seq: int) -> bool:
        """Whether this record is here already."""
        if seq <= self.watermark:
            return True
        if not self.beyond:
            return False
        at = bisect_right(self.beyond, seq, key=_first_of)
        return at > 0 and seq <= self.beyond[at - 1][1]

    def has_room_for(self, seq: int) -> bool:
        """Whether taking this number keeps the list of ranges within its bound: it does where it closes a hole."""
        return len(self.beyond) < MOST_RANGES or seq <= self.watermark + 1 or self.covers(seq)

    def add(self, first: int, last: int) -> None:
        """Take the numbers ``first`` to ``last``; the watermark moves over whatever is now without a gap."""
        if first == self.watermark + 1 and not self.beyond:
            self.watermark = last
            return
        if last <= self.watermark:
            return
        merged = [max(first, self.watermark + 1), last]
        ranges: list[list[int]] = []
        for part in self.beyond:
            if part[1] < merged[0] - 1 or part[0] > merged[1] + 1:
                ranges.append(part)
            else:
                merged = [min(part[0], merged[0]), max(part[1], merged[1])]
        ranges.append(merged)
        ranges.sort()
        if ranges[0][0] <= self.watermark + 1:
            self.watermark = ranges.pop(0)[1]
        self.beyond = ranges

    # --- time

    def anchor(self, boot: int, offset_ms: int) -> None:
        """Take a device's own statement of where a boot's uptime lies in UTC."""
        self._keep(boot, Anchor(offset_ms, estimated=False))

    def _keep(self, boot: int, anchor: Anchor) -> Anchor:
        self.anchors[boot] = anchor
        while len(self.anchors) > MOST_ANCHORS:
            del self.anchors[next(iter(self.anchors))]
        return anchor

    def clock(self, boot: int, first_ms: int, last_ms: int, quality: int, live: bool, received_ms: int) -> Clock:
        """How to place the times of one message, from its first and last device time and how it came."""
        if quality != _UNSET and first_ms >= EARLIEST_MS:
            if last_ms > received_ms + FUTURE_TOLERANCE_MS:
                # Set back as a block, so that the readings of one message keep their distances.
                return Clock(received_ms - last_ms, _CLOCK_FUTURE)
            return _TRUSTED
        anchor = self.anchors.get(boot)
        if anchor is None:
            offset_ms = received_ms - last_ms
            if not live and self.last_measured_ms:
                # A boot that never had the time: it began after the last record that is placed.
                offset_ms = min(offset_ms, self.last_measured_ms + 1000 - first_ms)
            anchor = self._keep(boot, Anchor(offset_ms, estimated=True))
        flags = _CLOCK_UNSET | _TIME_ESTIMATED if anchor.estimated else _CLOCK_UNSET
        # Whatever the device says of its uptime, no reading is of the future or of before there were devices.
        if (
            not EARLIEST_MS
            <= first_ms + anchor.offset_ms
            <= last_ms + anchor.offset_ms
            <= received_ms + FUTURE_TOLERANCE_MS
        ):
            return Clock(received_ms - last_ms, _CLOCK_UNSET | _TIME_ESTIMATED)
        return Clock(anchor.offset_ms, flags)


@dataclass(frozen=True, slots=True)
class Clock:
    """What to add to a message's device times to get UTC in ms, and the flags that say how good that is."""

    offset_ms: int
    flags: int


_TRUSTED = Clock(0, 0)


def _first_of(part: list[int]) -> int:
    return part[0]
