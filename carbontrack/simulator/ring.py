"""The store of a node: a bounded ring of numbered records, kept until the platform says that it has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

Value = float | int | str | None


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record as the node keeps it.

    ``kind`` is the letter of its block on the wire, ``row`` its values in the order of that block's columns.
    ``time_ms`` is UTC in ms since 1970, or ms since boot where ``clock`` is 0.
    """

    seq: int
    boot: int
    kind: str
    time_ms: int
    clock: int
    row: tuple[Value, ...]


class Ring:
    """Records ``tail`` to ``next_seq - 1``, without a gap. The oldest goes when there is no room for a new one."""

    def __init__(self, capacity: int, next_seq: int = 1, records: Iterable[Kept] = ()) -> None:
        self.capacity = capacity
        self.next_seq = next_seq
        self.lost: tuple[int, int] | None = None
        """First and last number that were overwritten before the platform had them, and are not declared yet."""
        self._records: deque[Kept] = deque()
        for record in records:
            self._append(record)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def tail(self) -> int:
        """Number of the oldest record; where there is none, of the next one."""
        return self._records[0].seq if self._records else self.next_seq

    def add(self, boot: int, kind: str, time_ms: int, clock: int, row: tuple[Value, ...]) -> None:
        """Give a record the next number and keep it."""
        self._append(Kept(self.next_seq, boot, kind, time_ms, clock, row))
        self.next_seq += 1

    def make_room(self) -> None:
        """Overwrite the oldest record if the ring is full."""
        if len(self._records) >= self.capacity:
            seq = self._records.popleft().seq
            self.lost = (self.lost[0] if self.lost else seq, seq)

    def forget(self, last: int) -> None:
        """Drop the records up to a number: the platform has them."""
        while self._records and self._records[0].seq <= last:
            self._records.popleft()
        if self.lost and self.lost[1] <= last:
            self.lost = None

    def slice(self, first: int, end: int) -> list[Kept]:
        """The records from ``first`` to before ``end``, as far as they are still here."""
        tail = self.tail
        return [self._records[seq - tail] for seq in range(max(first, tail), min(end, self.next_seq))]

    def _append(self, record: Kept) -> None:
        self.make_room()
        self._records.append(record)
