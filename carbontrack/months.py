"""The accounts of all factories, month by month, for the pages that compare them over a year.

A factory's account of a month takes a tenth of a second, and a year of the whole network has eight hundred of them. So
they are worked out in the background, the newest month first, and kept; whoever asks gets what there is at once, and is
told how much is still to come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from importlib.metadata import version
from math import fsum
from typing import Protocol

import msgspec
import structlog

from carbontrack.bookkeeping import Books, has_submitted, month, worst
from carbontrack.emissions.accounts import Account, Figure
from carbontrack.emissions.factors import FactorMissing
from carbontrack.ledger import Metric, TargetStatus
from carbontrack.model import Factory, Unavailable
from carbontrack.tasks import end as end_tasks
from carbontrack.words import N_

log = structlog.get_logger(__name__)

FRESH_S = 300.0
"""The account of this month and of the one before is worked out anew after so long, while somebody asks."""
OLDER_FRESH_S = 900.0
"""That of an earlier month, which only late data and corrections change."""
FORGET_S = 3600.0
"""Months that nobody has asked for so long are forgotten."""
PATIENCE_S = 1.0
"""How long somebody who asks waits for what is missing."""
HOUR = timedelta(hours=1)

Key = tuple[int, date]
"""A factory and the first day of a month."""


@dataclass(frozen=True, slots=True)
class FactoryMonth:
    """What is known of a factory's month. ``account`` None: it was not monitored then, or ``problem`` says why."""

    account: Account | None
    target: TargetStatus | None = None
    """How its targets stand, by the one that is worst; None without a target."""
    problem: str = ""
    made_at: float = 0.0
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class Months:
    """What is known of the months that were asked for. ``missing`` of ``total`` accounts are still being worked out."""

    found: Mapping[Key, FactoryMonth]
    missing: int
    total: int

    @property
    def done(self) -> int:
        return self.total - self.missing

    def of(self, factory_ids: Iterable[int], first: date) -> dict[int, FactoryMonth]:
        """What is known of these factories in a month."""
        return {it: self.found[it, first] for it in factory_ids if (it, first) in self.found}


class Shelf(Protocol):
    """Where the processes of a site leave what one of them has worked out for all."""

    async def find(self, name: str) -> bytes | None:
        """What was left under a name, if it is there still."""

    async def leave(self, name: str, content: bytes, lasts_s: float) -> None:
        """Leave something under a name, for so long."""


@dataclass(slots=True)
class MonthBook:
    """Keeps the accounts by month. ``clock`` is that of the days, ``monotonic`` that of their age."""

    books: Books
    clock: Callable[[], datetime]
    monotonic: Callable[[], float] = time.monotonic
    shelf: Shelf | None = None
    _kept: dict[Key, FactoryMonth] = field(default_factory=dict)
    _asked: dict[date, float] = field(default_factory=dict)
    _due: dict[Key, Factory] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """End what is being worked out."""
        if self._task is not None:
            await end_tasks(self._task)

    async def finished(self) -> None:
        """Return when nothing is being worked out any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def ask(
        self, factories: Sequence[Factory], months: Sequence[date], *, patience_s: float = PATIENCE_S
    ) -> Months:
        """The accounts of these factories in these months (by their first days), as far as they are known.

        What is missing or old is worked out from now on; who asks waits for ``patience_s`` at most.
        """
        now = self.monotonic()
        begun = [first for first in sorted(set(months), reverse=True) if self._until(first) is not None]
        self._forget(now, begun)
        keys = {(factory.id, first): factory for first in begun for factory in factories}
        for key, factory in keys.items():
            kept = self._kept.get(key)
            if kept is None or now - kept.made_at >= self._lasts_s(key):
                self._due.setdefault(key, factory)
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work(), name="months:work")
        if self._task is not None and any(key not in self._kept for key in keys):
            await asyncio.wait([self._task], timeout=patience_s)
        found = {key: self._kept[key] for key in keys if key in self._kept}
        return Months(found, len(keys) - len(found), len(keys))

    def _forget(self, now: float, wanted: Sequence[date]) -> None:
        self._asked.update(dict.fromkeys(wanted, now))
        old = {first for first, at in self._asked.items() if now - at >= FORGET_S}
        for key in [key for key in self._kept if key[1] in old]:
            del self._kept[key]
        for first in old:
            del self._asked[first]

    def _lasts_s(self, key: Key) -> float:
        """For how long an account is fresh."""
        recent = self._this_month() - timedelta(days=1)
        return FRESH_S if key[1] >= recent.replace(day=1) else OLDER_FRESH_S

    def _this_month(self) -> date:
        return self.clock().astimezone(self.books.zone).date().replace(day=1)

    def _until(self, first: date) -> tuple[datetime, datetime] | None:
        """When a month begins and ends, at the latest now; None before its first hour is over."""
        start, end = month(first, self.books.zone)
        end = min(end, self.clock())
        return (start, end) if end - start >= HOUR else None

    async def _work(self) -> None:
        """Work out what is due, a fresh page's wishes before what only has to be renewed."""
        while self._due:
            key = next((it for it in self._due if it not in self._kept), None) or next(iter(self._due))
            factory = self._due.pop(key)
            try:
                self._kept[key] = await self._found(key) or await self._made(key, factory)
            except Unavailable:
                self._due.clear()  # the database is away: whoever asks again begins anew
                return
            except Exception:  # one factory's trouble must not keep the others' months from being known
                log.exception("month failed", factory=factory.slug, month=key[1].isoformat())
                self._kept[key] = FactoryMonth(
                    None, problem=N_("It could not be worked out."), made_at=self.monotonic()
                )

    async def _found(self, key: Key) -> FactoryMonth | None:
        """What another process has worked out, with the age that it has."""
        left = await self.shelf.find(_name(key)) if self.shelf else None
        if left is None:
            return None
        made_at, found = _decode(left)
        age_s = max(0.0, (self.clock() - made_at).total_seconds())
        return replace(found, made_at=self.monotonic() - age_s) if age_s < self._lasts_s(key) else None

    async def _made(self, key: Key, factory: Factory) -> FactoryMonth:
        made_at, found = self.clock(), await self._of(factory, key[1])
        if self.shelf:
            await self.shelf.leave(_name(key), _encode((made_at, found)), self._lasts_s(key))
        return found

    async def _of(self, factory: Factory, first: date) -> FactoryMonth:
        made_at, span = self.monotonic(), self._until(first)
        stacks = await self.books.store.stacks(factory.id)
        if span is None or not any(stack.plans[0].valid_from < span[1] for stack in stacks):
            return FactoryMonth(None, made_at=made_at)
        try:
            found = await self.books.account(factory, *span)
        except FactorMissing as error:
            return FactoryMonth(None, problem=str(error), made_at=made_at)
        statuses = [status for _, _, status in await self.books.targets_met(found)]
        return FactoryMonth(found, worst(statuses), made_at=made_at)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[datetime, FactoryMonth]).decode


def _name(key: Key) -> str:
    """Under which a month lies on the shelf: another version of Carbon Track may count otherwise."""
    return f"month:{version('carbontrack')}:{key[0]}:{key[1]:%Y-%m}"


# --- several accounts together


@dataclass(frozen=True, slots=True)
class Sum:
    """One number of several factories. ``kg`` None: none of them has it; ``factories`` says how many do."""

    kg: float | None
    factories: int


@dataclass(frozen=True, slots=True)
class Together:
    """Several factories' accounts of one month. The four numbers are those of the accounts, and are not added up."""

    factories: int
    """How many there are."""
    with_data: int
    """Of how many anything was measured."""
    biogenic: Sum
    fossil: Sum
    ch4_n2o: Sum
    grid: Sum
    stack_per_tea: float | None
    """kg of stack CO2 for a kg of made tea, of the factories that have both: a ratio of sums."""
    wood_per_tea: float | None
    """kg of firewood for a kg of made tea, of the factories that have both."""
    known: float | None
    """Share of the chimneys' hours of which anything is known."""
    submitting: int
    """Factories with wood and tea entered."""
    with_target: int
    meeting_target: int
    insufficient_data: int


def together(factories: int, months: Iterable[FactoryMonth]) -> Together:
    """The sums of these factories' months. Pure."""
    found = list(months)
    accounts = [it.account for it in found if it.account is not None]
    periods = [line.period for it in accounts for line in it.stacks]
    hours, known = sum(it.hours for it in periods), sum(it.known_hours for it in periods)
    statuses = [it.target for it in found if it.account is not None]
    return Together(
        factories=factories,
        with_data=sum(any(line.period.known_hours for line in it.stacks) for it in accounts),
        biogenic=_sum([it.biogenic_co2 for it in accounts]),
        fossil=_sum([it.fossil_co2 for it in accounts]),
        ch4_n2o=_sum([it.ch4_n2o_co2e for it in accounts]),
        grid=_sum([it.grid_co2e for it in accounts]),
        stack_per_tea=_per_tea(
            [
                (it.stack_co2.value_kg, it.made_tea_kg)
                for it in accounts
                if it.intensities[Metric.STACK_CO2_PER_TEA] is not None
            ]
        ),
        wood_per_tea=_per_tea([(it.wood_kg, it.made_tea_kg) for it in accounts]),
        known=known / hours if hours else None,
        submitting=sum(has_submitted(it) for it in accounts),
        with_target=sum(it is not None for it in statuses),
        meeting_target=sum(it is TargetStatus.MET for it in statuses),
        insufficient_data=sum(it is TargetStatus.INSUFFICIENT_DATA for it in statuses),
    )


def _sum(figures: Sequence[Figure]) -> Sum:
    values = [it.value_kg for it in figures if it.value_kg is not None]
    return Sum(fsum(values) if values else None, len(values))


def _per_tea(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    both = [(amount, tea) for amount, tea in pairs if amount is not None and tea]
    return fsum(amount for amount, _ in both) / fsum(tea for _, tea in both) if both else None
