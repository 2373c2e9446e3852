"""What the devices wrote down against what the database has, number by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Taken:
    """A device's own account: its readings' CO2 by number. What else it recorded has numbers between them."""

    device_id: str
    sid: str
    readings: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Kept:
    """One row of the database. ``co2_ppm`` None: a record that is no reading."""

    device_id: str
    sid: str
    seq: int
    co2_ppm: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """What happened between two marks: for each device its first number, and the first of the next phase."""

    name: str
    begin: Mapping[str, int]
    end: Mapping[str, int]


@dataclass(slots=True)
class Balance:
    """The account of one phase, or of the whole."""

    taken: int = 0
    stored: int = 0
    duplicate: int = 0
    lost: int = 0
    altered: int = 0
    invented: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few things that are not as they must be."""

    @property
    def is_even(self) -> bool:
        return not (self.duplicate or self.lost or self.altered or self.invented)

    def add(self, other: Balance) -> None:
        self.taken += other.taken
        self.stored += other.stored
        self.duplicate += other.duplicate
        self.lost += other.lost
        self.altered += other.altered
        self.invented += other.invented
        self.examples = [*self.examples, *other.examples][:MOST_EXAMPLES]

    def note(self, text: str) -> None:
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(text)


MOST_EXAMPLES = 10


def balance(taken: Sequence[Taken], kept: Iterable[Kept], phases: Sequence[Phase]) -> list[Balance]:
    """The account of each phase. What the database has of nobody's phase is counted as invented in the last one."""
    found = [Balance() for _ in phases]
    rows: dict[tuple[str, str], Counter[int]] = {}
    values: dict[tuple[str, str], dict[int, float | None]] = {}
    for row in kept:
        key = row.device_id, row.sid
        rows.setdefault(key, Counter())[row.seq] += 1
        values.setdefault(key, {})[row.seq] = row.co2_ppm
    for account in taken:
        key = account.device_id, account.sid
        _settle(account, rows.pop(key, Counter()), values.get(key, {}), phases, found)
    for (device_id, sid), strangers in rows.items():
        found[-1].invented += sum(strangers.values())
        found[-1].note(f"{device_id}: {len(strangers)} numbers of a stream {sid} that it does not have")
    return found


def _settle(
    account: Taken,
    rows: Counter[int],
    values: Mapping[int, float | None],
    phases: Sequence[Phase],
    found: Sequence[Balance],
) -> None:
    for phase, result in zip(phases, found, strict=True):
        for seq in range(phase.begin[account.device_id], phase.end[account.device_id]):
            times = rows.pop(seq, 0)
            result.taken += 1
            result.stored += times > 0
            if not times:
                result.lost += 1
                result.note(f"{account.device_id}: {seq} is lost")
            elif times > 1:
                result.duplicate += times - 1
                result.note(f"{account.device_id}: {seq} is there {times} times")
            if times and values[seq] != account.readings.get(seq):
                result.altered += 1
                result.note(f"{account.device_id}: {seq} was {account.readings.get(seq)} and is {values[seq]}")
    for seq, times in rows.items():
        found[-1].invented += times
        found[-1].note(f"{account.device_id}: {seq} was never taken")
