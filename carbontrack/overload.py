"""Who may send how fast: the rate at which stores are drained, and what is too much for one device.

Both work by receipts and not by dropping: what is not taken gets no receipt, so the device has it and sends it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from carbontrack.model import Flood

DRAINING_S = 10.0
"""A device that sent backlog so recently is still at it."""
PATIENCE_S = 1.0
"""Messages that wait longer for their commit say that the store is at its limit."""
LEAST_SHARE = 0.02
LEAST_CREDIT = 0.01
"""However many drain, each gets a message through: with no credit at all it would hear of no other credit either."""
BURST_S = 60.0
"""A device may send at once what it may send in so long: a broker delivers what it queued while the core was away."""
CALM_S = 60.0
"""A device that kept to its rate for so long floods no more."""


class Drain:
    """How many backlog messages a second each device may send: the credit in its receipts.

    All that drain share ``total_per_s``, each at most ``most_per_s``. Where commits lag behind, all get less, and
    slowly more again when they do not: live readings come first.
    """

    def __init__(self, most_per_s: float, total_per_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.share = 1.0
        """How much of ``total_per_s`` is granted now, 0 to 1."""
        self._most_per_s = most_per_s
        self._total_per_s = total_per_s
        self._monotonic = monotonic
        self._last: dict[str, float] = {}

    def note(self, device_id: str) -> None:
        """A device has sent backlog just now."""
        self._last[device_id] = self._monotonic()

    def adjust(self, waited_s: float) -> None:
        """Take note of how long the oldest message waits for its commit; called about once a second."""
        if waited_s > PATIENCE_S:
            self.share = max(LEAST_SHARE, self.share / 2)
        else:
            self.share = min(1.0, self.share + 0.05)
        not_since = self._monotonic() - DRAINING_S
        self._last = {name: at for name, at in self._last.items() if at > not_since}

    @property
    def draining(self) -> int:
        """How many devices send backlog now."""
        return len(self._last)

    def credit(self, device_id: str) -> float:
        """Backlog messages a second for one device."""
        others = len(self._last) - (device_id in self._last)
        return max(LEAST_CREDIT, round(min(self._most_per_s, self._total_per_s * self.share / (others + 1)), 3))


class Allowance:
    """What one device may send: ``per_s`` messages a second, and at once as many as in a minute.

    After a silence it is as many as in that silence: the broker delivers at once what it queued while the core was
    away. ``heard_ms`` is when the device was heard last, before this process.
    """

    __slots__ = ("_at_ms", "_refused_ms", "_tokens", "refused", "since_ms")

    def __init__(self, heard_ms: int | None = None) -> None:
        self.since_ms = 0
        """Since when it floods, UTC ms; 0 when it does not."""
        self.refused = 0
        """Messages that were refused since then."""
        self._tokens: float | None = None
        self._at_ms = heard_ms
        self._refused_ms = 0

    def takes(self, now_ms: int, per_s: float, count: int = 1) -> bool:
        """Whether so many more messages, all of them, are within the allowance."""
        most = per_s * BURST_S
        before = most if self._tokens is None else self._tokens
        # A clock that was set back takes nothing away: the device has done nothing.
        gained = 0.0 if self._at_ms is None else max(0, now_ms - self._at_ms) * per_s / 1000
        tokens = max(before, gained, min(before + gained, most))
        self._at_ms = now_ms
        if tokens >= count:
            self._tokens = tokens - count
            return True
        self._tokens = tokens
        if not self.since_ms or now_ms - self._refused_ms > CALM_S * 1000:
            self.since_ms, self.refused = now_ms, 0
        self.refused += count
        self._refused_ms = now_ms
        return False

    def has_room_in_s(self, per_s: float, count: int) -> float:
        """In how many seconds so many messages are within the allowance, if no other comes."""
        return max(0.0, count - (self._tokens or 0.0)) / per_s

    def flood(self, device_id: str, now_ms: int, per_s: float) -> Flood | None:
        """What is known of a flood that goes on, or ended within the last minute."""
        if not self.since_ms or now_ms - self._refused_ms > CALM_S * 1000:
            return None
        seconds = max(1.0, (self._refused_ms - self.since_ms) / 1000)
        return Flood(device_id, self.since_ms, per_s + self.refused / seconds)
