"""The device's side of the protocol as a state machine: what it keeps, sends, and does about receipts. No I/O.

Times are UTC in ms since 1970 and come from the caller, also where the node itself would not know them.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from carbontrack.model import ClockQuality
from carbontrack.simulator import wire
from carbontrack.simulator.instruments import Measured
from carbontrack.simulator.orders import Orders, OrdersState
from carbontrack.simulator.ota import HARDWARE, Ota, OtaState
from carbontrack.simulator.ring import Kept, Ring, Value

CAPACITY = 20_000
"""Records in the ring: a good day at one every 5 s."""
PATIENCE_MS = 60_000
"""Without progress for so long, what is not receipted is sent again; the next time after twice as long."""
MOST_PATIENCE = 10
"""Times the patience that a node begins with."""


class _State(msgspec.Struct, frozen=True):
    """What a node keeps over a restart. ``sent`` is the highest number ever sent."""

    sid: str
    boot: int
    conn: int
    next_seq: int
    sent: int
    watermark: int
    records: list[Kept] = []
    run_s: float = 0.0
    kwh: float = 0.0
    orders: OrdersState = OrdersState()
    ota: OtaState = OtaState()


class Node:
    """One device. ``range_ppm`` is its CO2 channel's full scale, which it states when it comes online.

    ``clock_set`` False: it does not know the time and counts ms since ``booted_ms`` until :meth:`set_clock`.
    ``patience_ms``: how long it waits for progress before it sends again.
    """

    def __init__(
        self,
        device_id: str,
        *,
        range_ppm: float = 200_000.0,
        capacity: int = CAPACITY,
        booted_ms: int = 0,
        clock_set: bool = True,
        patience_ms: int = PATIENCE_MS,
        state: dict[str, Any] | None = None,
    ) -> None:
        kept = _State(secrets.token_hex(4), 0, 0, 1, 0, 0) if state is None else msgspec.convert(state, _State)
        self.device_id = device_id
        self.sid = kept.sid
        self.boot = kept.boot + 1
        self.conn = kept.conn
        self.ring = Ring(capacity, kept.next_seq, kept.records)
        self.sent = kept.sent
        self.watermark = kept.watermark
        self.run_s = kept.run_s
        """Running total of the boiler's hours, in seconds; as of a meter, it never goes back."""
        self.kwh = kept.kwh
        """Running total of the grid's meter."""
        self.credit = 1.0
        """Backlog messages a second that the platform allows."""
        self.orders = Orders(kept.orders, self._diagnosis)
        """What it was told to be, and to do."""
        self.ota = Ota(kept.ota)
        """The firmware that it runs."""
        self._range_ppm = range_ppm
        self._booted_ms = booted_ms
        self._reset_cause = "poweron"
        self._clock_set = clock_set
        self._live_next: int | None = None
        """Number of the next record to send live; None without a connection."""
        self._backlog_next = self._backlog_end = 0
        self._waiting_since_ms: int | None = None
        self._first_patience_ms = self._patience_ms = patience_ms
        self._regressed_to: int | None = None

    # --- over a restart

    def state(self) -> dict[str, Any]:
        """All that the node needs to go on after a restart, as plain values for JSON."""
        records = self.ring.slice(self.ring.tail, self.ring.next_seq)
        return self._state(self.ring.next_seq, self.sent, records)

    def reservation(self, ahead: int) -> dict[str, Any]:
        """A state to fall back on after a crash: without records, and with numbers that were never used before.

        The numbers between are declared lost by the ``first`` of the next birth.
        """
        next_seq = self.ring.next_seq + ahead
        return self._state(next_seq, next_seq - 1, [])

    def _state(self, next_seq: int, sent: int, records: list[Kept]) -> dict[str, Any]:
        state: dict[str, Any] = msgspec.to_builtins(
            _State(
                self.sid,
                self.boot,
                self.conn,
                next_seq,
                sent,
                self.watermark,
                records,
                self.run_s,
                self.kwh,
                self.orders.state(),
                self.ota.state(),
            )
        )
        return state

    # --- what happens in the node

    def add_sample(self, measured: Measured, now_ms: int) -> None:
        """Keep what the instruments gave."""
        if flags := self.orders.flags(now_ms):
            measured = msgspec.structs.replace(measured, co2_kg_per_s=None, status=measured.status | flags)
        self._add("s", msgspec.structs.astuple(measured), now_ms)

    def add_meters(self, now_ms: int, *, with_grid: bool) -> None:
        """Keep what the meters on the serial line have counted so far."""
        self._add("m", (round(self.run_s), round(self.kwh, 2) if with_grid else None, 0), now_ms)

    def add_health(self, rssi_dbm: int, now_ms: int) -> None:
        """Keep how the node itself is doing."""
        self._add("h", (rssi_dbm, len(self.ring), self.conn, (now_ms - self._booted_ms) // 1000), now_ms)

    def _diagnosis(self, now_ms: int) -> dict[str, Any]:
        return {
            "uptime_s": (now_ms - self._booted_ms) // 1000,
            "boot": self.boot,
            "ring_used": len(self.ring),
            "ring_capacity": self.ring.capacity,
            "reconnects": self.conn,
            "firmware": self.ota.version,
            "mode": "run",
            "reset_cause": self._reset_cause,
        }

    def reboot(self, now_ms: int) -> None:
        """Begin a new boot, as somebody has asked, or to run what was downloaded."""
        self.boot += 1
        self._booted_ms, self._reset_cause = now_ms, "ota" if self.ota.wants_reboot else "software"
        self.orders.restarted()
        self.ota.restarted()

    @property
    def wants_reboot(self) -> str:
        """Why the node is about to restart; empty: it is not."""
        return "update" if self.ota.wants_reboot else "reboot" if self.orders.wants_reboot else ""

    def take_command(self, body: bytes, now_ms: int) -> bytes | None:
        """Do what a command says; the answer, if there is one."""
        return self.orders.take_command(body, now_ms, clock_set=self._clock_set)

    def set_clock(self, now_ms: int) -> None:
        """The node learns the time: an anchor record says what its uptime was worth all along."""
        self._clock_set = True
        self._add("a", (self.boot, now_ms, now_ms - self._booted_ms), now_ms)

    def _add(self, kind: str, row: tuple[Value, ...], now_ms: int) -> None:
        if self._clock_set:
            self.ring.add(self.boot, kind, now_ms, ClockQuality.SYNCED.value, row)
        else:
            self.ring.add(self.boot, kind, now_ms - self._booted_ms, ClockQuality.UNSET.value, row)

    def _declare_lost(self, now_ms: int) -> None:
        """A gap record for what was overwritten, and for what it overwrites itself."""
        if self.ring.lost is not None:
            self.ring.make_room()
            first, last = self.ring.lost
            self.ring.lost = None
            self._add("g", (first, last, "overwritten"), now_ms)

    # --- connections

    def open(self) -> bytes:
        """Begin a new connection; the last will to leave with the broker."""
        self.conn += 1
        return wire.offline(self.conn, self.boot)

    def birth(self, now_ms: int) -> bytes:
        """The connection stands. The first message to send on it; all that is kept so far is backlog."""
        self._declare_lost(now_ms)
        self._live_next = self._backlog_end = self.ring.next_seq
        self._backlog_next = self.ring.tail
        self._waiting_since_ms = None
        self._patience_ms = self._first_patience_ms
        sensors = (("co2", self._range_ppm), ("tg", 1024.0), ("dp", 500.0))
        body = {
            "v": 1,
            "online": True,
            "conn": self.conn,
            "boot": self.boot,
            "sid": self.sid,
            "fw": self.ota.version,
            "hw": HARDWARE,
            "mode": "run",
            "rst": self._reset_cause,
            "cfg": self.orders.rev,
            "first": self.ring.tail,
            "next": self.ring.next_seq,
            "cap": self.ring.capacity,
            "t": now_ms if self._clock_set else now_ms - self._booted_ms,
            "sens": [{"ch": ch, "drv": "simulator", "sn": self.device_id, "max": most} for ch, most in sensors],
        }
        return msgspec.json.encode(body)

    def goodbye(self, why: str) -> bytes:
        """The last message before the node hangs up on purpose."""
        return wire.offline(self.conn, self.boot, why)

    def hung_up(self) -> None:
        """The connection is gone: new records wait for the next one."""
        self._live_next = None

    # --- sending

    def next_live(self, now_ms: int) -> bytes | None:
        """The next message of new records: one record; None when there is none, or no connection."""
        if self._live_next is None or self._live_next >= self.ring.next_seq:
            return None
        records = self.ring.slice(self._live_next, max(self._live_next, self.ring.tail) + 1)
        self._live_next = records[0].seq + 1
        return self._send(records, now_ms)

    def next_backlog(self, now_ms: int) -> bytes | None:
        """The next batch of older records, oldest first; None when none waits to be sent."""
        self._send_again_if_ignored(now_ms)
        first = max(self._backlog_next, self.ring.tail)
        records = self.ring.slice(first, min(first + wire.MOST_RECORDS, self._backlog_end))
        if self._live_next is None or not records:
            return None
        records = list(wire.batch(records))
        self._backlog_next = records[-1].seq + 1
        return self._send(records, now_ms)

    def _send(self, records: list[Kept], now_ms: int) -> bytes:
        self.sent = max(self.sent, records[-1].seq)
        if self._waiting_since_ms is None:
            self._waiting_since_ms = now_ms
        return wire.message(self.sid, records, self.orders.rev)

    def _send_again_if_ignored(self, now_ms: int) -> None:
        """Begin again from the oldest record when no receipt has moved the tail for too long."""
        since_ms = self._waiting_since_ms
        if self._live_next is None or since_ms is None or now_ms - since_ms < self._patience_ms:
            return
        self._declare_lost(now_ms)
        self._backlog_next, self._backlog_end = self.ring.tail, self._live_next
        self._waiting_since_ms = None
        self._patience_ms = min(2 * self._patience_ms, MOST_PATIENCE * self._first_patience_ms)

    # --- receipts

    def take_receipt(self, body: bytes, now_ms: int, *, retained: bool = False) -> bool:
        """Drop what the platform has. False: the receipt is of another stream, of numbers never sent, or no receipt.

        ``retained``: the broker had kept it, nobody knows since when, so it says nothing.
        """
        try:
            receipt = wire.decode_receipt(body)
        except msgspec.DecodeError:
            return False
        if retained or receipt.sid != self.sid or receipt.seq > self.sent:
            return False
        self.credit = receipt.credit
        if receipt.seq < self.watermark:
            self._note_regress(receipt.seq, now_ms)
        elif receipt.seq > self.watermark:
            self.watermark = receipt.seq
            self.ring.forget(receipt.seq)
            self._waiting_since_ms = now_ms if self.ring.tail <= self.sent else None
            self._patience_ms = self._first_patience_ms
        return True

    def _note_regress(self, seq: int, now_ms: int) -> None:
        """The platform lost records that it had receipted, and which are gone here: say so, once."""
        if seq != self._regressed_to:
            self._regressed_to = seq
            self._add("e", ("ack_regressed", "warning", 1, seq, self.watermark), now_ms)
            self._add("g", (seq + 1, self.watermark, "ack_regressed"), now_ms)
