"""A simulated device that writes down every reading that it takes, apart from what it keeps to send.

Its node and its link are those of :mod:`carbontrack.simulator`; only its patience is shorter than a real one's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from carbontrack.ingest import BrokerSettings
from carbontrack.simulator.instruments import Measured
from carbontrack.simulator.link import Link
from carbontrack.simulator.node import Node
from carbontrack.tasks import end
from tests.chaos.network import Cable

CAPACITY = 200_000
"""Nothing may be overwritten here: what a full store declares lost would hide what the platform loses."""
PATIENCE_MS = 5_000
LONGEST_BACKOFF_S = 2.0


@dataclass(frozen=True, slots=True)
class Receipted:
    """When a reading was receipted, and how long after it was taken; monotonic seconds."""

    at_s: float
    after_s: float


class _Node(Node):
    """A node that tells when it was told something."""

    on_receipt: Callable[[], None]

    def take_receipt(self, body: bytes, now_ms: int, *, retained: bool = False) -> bool:
        taken = super().take_receipt(body, now_ms, retained=retained)
        self.on_receipt()
        return taken


class Device:
    """One device with its account: ``readings`` has the CO2 of each reading by its number."""

    def __init__(
        self,
        device_id: str,
        cable: Cable,
        broker: BrokerSettings,
        password_of: Callable[[str], str],
        sample_s: float,
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        self.device_id = device_id
        self.cable = cable
        self.readings: dict[int, float] = {}
        self.clock_off_ms = 0
        """How wrong the device's clock is."""
        self.receipted: list[Receipted] = []
        self.cut_off_until = float("inf")
        """Monotonic; until then the platform may call it offline. Infinite while its link or its power is cut."""
        self._broker = replace(broker, port=cable.port)
        self._password_of = password_of
        self._sample_s = sample_s
        self._patience_ms = patience_ms
        self._node = _Node(device_id, capacity=CAPACITY, patience_ms=self._patience_ms)
        self._node.on_receipt = self._note_receipts
        self._taken_at: dict[int, float] = {}
        self._told = 0
        self._stop = asyncio.Event()
        self._link = self._new_link()
        self._linking: asyncio.Task[None] | None = None

    # --- what the account says

    @property
    def sid(self) -> str:
        return self._node.sid

    @property
    def next_seq(self) -> int:
        return self._node.ring.next_seq

    @property
    def watermark(self) -> int:
        """Up to where the platform says that it has everything."""
        return self._node.watermark

    @property
    def is_connected(self) -> bool:
        return self._node._live_next is not None

    @property
    def regressed(self) -> bool:
        """Whether the platform ever took back what it had said."""
        return self._node._regressed_to is not None

    # --- what happens to it

    def fill(self, hours: float, step_ms: int) -> list[int]:
        """Readings of the past, as if the device had stood without a network for so long; when each was taken."""
        now_ms = _now_ms()
        times = list(range(now_ms - round(hours * 3_600_000), now_ms, step_ms))
        for at_ms in times:
            self._take(at_ms)
        return times

    def has_sent(self, seq: int, *, receipted: int) -> None:
        """As if it had sent everything up to ``seq`` to a core of before, and had been told of less than that."""
        self._node.sent = seq
        told = self._node.take_receipt(b'{"v":1,"sid":"%s","seq":%d}' % (self.sid.encode(), receipted), _now_ms())
        assert told, "the receipt is not one"

    @asynccontextmanager
    async def running(self, first_delay_s: float) -> AsyncIterator[None]:
        """Take readings and send them, until the block ends."""
        sampling = asyncio.create_task(self._sample(first_delay_s), name=f"sample:{self.device_id}")
        self._linking = asyncio.create_task(self._link.run(first_delay_s), name=f"link:{self.device_id}")
        try:
            yield
        finally:
            await end(sampling)
            if self._linking is not None:
                await end(self._linking)

    async def power_cut(self, *, clock_set: bool) -> None:
        """Begin anew with what the flash has; without a battery the clock is not set."""
        assert self._linking is not None
        self.cable.drop()
        await end(self._linking)
        self._node = _Node(
            self.device_id,
            capacity=CAPACITY,
            patience_ms=self._patience_ms,
            state=self._node.state(),
            booted_ms=_now_ms(),
            clock_set=clock_set,
        )
        self._node.on_receipt = self._note_receipts
        self._link = self._new_link()
        self._linking = asyncio.create_task(self._link.run(0.0), name=f"link:{self.device_id}")

    def set_clock(self) -> None:
        """It learns the time, and records what its uptime was worth."""
        self._node.set_clock(_now_ms())

    def stop_sampling(self) -> None:
        self._stop.set()

    # --- its own

    def _new_link(self) -> Link:
        password = self._password_of(self.device_id)
        return Link(self._node, self._broker, password, asyncio.Event(), _nothing, longest_backoff_s=LONGEST_BACKOFF_S)

    async def _sample(self, first_delay_s: float) -> None:
        await asyncio.sleep(first_delay_s)
        while not self._stop.is_set():
            self._take(_now_ms() + self.clock_off_ms)
            self._link.news.set()
            await asyncio.sleep(self._sample_s)

    def _take(self, at_ms: int) -> None:
        seq = self.next_seq
        co2_ppm = float(60_000 + seq * 7919 % 80_000)  # a number that tells whose reading it is, and fits its column
        self.readings[seq] = co2_ppm
        self._taken_at[seq] = time.monotonic()
        self._node.add_sample(Measured(co2_ppm, 180.0, 3.6, 4.0, 79.7, 40.0, None, 0), at_ms)

    def _note_receipts(self) -> None:
        now_s = time.monotonic()
        for seq in range(self._told + 1, self.watermark + 1):
            taken_at = self._taken_at.pop(seq, None)
            if taken_at is not None:
                self.receipted.append(Receipted(now_s, now_s - taken_at))
        self._told = max(self._told, self.watermark)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _nothing() -> None:
    """Before each connection: a device whose flash keeps everything has nothing to reserve."""
