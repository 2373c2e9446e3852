"""Gather what an account needs, work it out, and report it: the one place where the store and the accounting meet."""

from __future__ import annotations

import asyncio
import hashlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from math import fsum
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from carbontrack.data import load_factor_rows
from carbontrack.emissions.accounts import Account, StackInput, account, canonical_json, intensity_u_relative, to_dict
from carbontrack.emissions.factors import FactorError, FactorSet, parse_factors
from carbontrack.emissions.fuels import entry_emissions, part_in_period
from carbontrack.emissions.gas import CO2_KG_PER_NM3
from carbontrack.emissions.hours import HOUR_S, missing_hour
from carbontrack.emissions.rate import plan_in_force
from carbontrack.emissions.substitution import LOOK_BACK_HOURS, operating_fractions, substitute, total
from carbontrack.emissions.targets import (
    Contestant,
    LeaderboardRow,
    Programme,
    leaderboard,
    metric_value,
    programme,
    target_status,
)
from carbontrack.emissions.uncertainty import expanded, period_uncertainty
from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    Hour,
    MeterDay,
    Metric,
    Statement,
    Target,
    TargetStatus,
)
from carbontrack.meters import meter_entries
from carbontrack.model import Factory, MonitoringPlan, Origin, Stack
from carbontrack.store import Store
from carbontrack.tasks import end as end_tasks
from carbontrack.words import gettext

HOUR = timedelta(hours=1)
RECENT_S = 300.0
"""A comparison of all factories is worked out anew after so long."""
MOST_STALE_S = 3600.0
"""So old may one be that is shown while the next is worked out."""
LONGEST_REPORT = timedelta(days=366)
POTENTIAL_CO2_WET = 0.18
"""The most CO2 that a wood fire's wet gas can have: 20.4 % in the dry gas, 12 % water (40 CFR 75, App. A, 2.1.3)."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The accounts of all factories for a period, and for the one before, by factory. ``made_at`` is monotonic."""

    now: dict[int, Account]
    before: dict[int, Account]
    made_at: float


@dataclass(frozen=True, slots=True)
class _Kept:
    """A comparison that is worked out, or was; ``earlier`` is what may be shown meanwhile."""

    made_at: float
    task: asyncio.Task[Compared]
    earlier: Compared | None

    @property
    def newest(self) -> Compared | None:
        is_made = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result() if is_made else self.earlier


_Key = tuple[datetime, datetime, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Books:
    """The accounts of a store. ``zone`` is where days and months begin."""

    store: Store
    factors: FactorSet
    zone: tzinfo
    band: tuple[float, float]
    monotonic: Callable[[], float] = time.monotonic
    _recent: dict[_Key, _Kept] = field(default_factory=dict, compare=False)
    """What the leaderboard took last: it needs the accounts of all factories twice, which takes many seconds."""

    async def close(self) -> None:
        """End what is being worked out for nobody in particular."""
        await end_tasks(*(kept.task for kept in self._recent.values()))

    # --- accounts

    async def account(self, factory: Factory, start: datetime, end: datetime) -> Account:
        """The account of one factory over the whole hours in [start, end).

        Raises :class:`~carbontrack.emissions.factors.FactorMissing` where a factor is needed that is not there.
        """
        found, _ = await self.account_with_hours(factory, start, end)
        return found

    async def account_with_hours(
        self, factory: Factory, start: datetime, end: datetime
    ) -> tuple[Account, list[StackInput]]:
        """As :meth:`account`, with the hours of each stack that it is made of."""
        start, end = whole_hours(start, end)
        return await self._account(factory, await self.store.stacks(factory.id), start, end)

    async def accounts(self, factories: Sequence[Factory], start: datetime, end: datetime) -> list[Account]:
        """The accounts of several factories."""
        start, end = whole_hours(start, end)
        stacks: dict[int, list[Stack]] = {}
        for stack in await self.store.stacks():
            stacks.setdefault(stack.factory_id, []).append(stack)
        return [(await self._account(it, stacks.get(it.id, []), start, end))[0] for it in factories]

    async def _compared(self, factories: Sequence[Factory], start: datetime, end: datetime) -> Compared:
        """The accounts of all factories for a period and the one before, worked out once for all who ask.

        What is older than :data:`RECENT_S` is worked out anew while the old is shown, also where only the hour has
        changed up to which a period has gone; only who asks first waits.
        """
        now = self.monotonic()
        key = *whole_hours(start, end), frozenset(factory.id for factory in factories)
        kept = self._recent.get(key)
        if kept is None or now - kept.made_at >= RECENT_S or (kept.task.done() and kept.newest is kept.earlier):
            earlier = self._earlier(key, now)
            kept = _Kept(now, asyncio.create_task(self._compare(factories, *key[:2]), name="books:compare"), earlier)
            self._recent[key] = kept
        newest = kept.newest
        return newest if newest is not None else await asyncio.shield(kept.task)

    def _earlier(self, key: _Key, now: float) -> Compared | None:
        """The newest comparison of the same beginning, up to an hour before or the same; what is too old is dropped."""
        start, end, ids = key
        for old in [each for each, kept in self._recent.items() if now - kept.made_at >= MOST_STALE_S]:
            del self._recent[old]
        usable = [
            kept.newest
            for (at, until, of), kept in self._recent.items()
            if at == start and of == ids and timedelta(0) <= end - until <= HOUR
        ]
        found = [it for it in usable if it is not None and now - it.made_at < MOST_STALE_S]
        return max(found, key=lambda it: it.made_at, default=None)

    async def _compare(self, factories: Sequence[Factory], start: datetime, end: datetime) -> Compared:
        made_at = self.monotonic()
        now = await self.accounts(factories, start, end)
        before = await self.accounts(factories, start - (end - start), start)
        return Compared({it.factory_id: it for it in now}, {it.factory_id: it for it in before}, made_at)

    async def _account(
        self, factory: Factory, stacks: Sequence[Stack], start: datetime, end: datetime
    ) -> tuple[Account, list[StackInput]]:
        entries = await self.entries(factory.id, stacks, start, end)
        production = await self.store.production_entries(factory.id, start, end)
        hours = {stack.id: await self.hours(stack, start, end) for stack in stacks}
        stacks = [stack for stack in stacks if hours[stack.id]]
        runtimes = await self._runtimes_h(factory.id, start, end)
        plans = {stack.id: plan_in_force(stack.plans, (end - timedelta(seconds=1)).timestamp()) for stack in stacks}
        before = {
            stack.id: await self.store.hours([stack.id], start - LOOK_BACK_HOURS * HOUR, start)
            for stack in stacks
            if plans[stack.id].substitution == "epa"
        }

        def work_out() -> tuple[Account, list[StackInput]]:
            balance = self._balance(entries, [hours[stack.id] for stack in stacks], start, end)
            inputs = [
                replace(
                    self._stack_input(
                        stack,
                        plans[stack.id],
                        hours[stack.id],
                        before.get(stack.id, []),
                        balance.get(stack.id, balance[None]),
                        start,
                    ),
                    runtime_h=runtimes.get(stack.id),
                )
                for stack in stacks
            ]
            found = account(
                factory_id=factory.id,
                period_start=start,
                period_end=end,
                stacks=inputs,
                entries=entries,
                production=production,
                factors=self.factors,
                band=self.band,
            )
            return found, inputs

        # It takes a tenth of a second: beside the loop, which has readings to take.
        return await asyncio.to_thread(work_out)

    async def entries(
        self, factory_id: int, stacks: Sequence[Stack], start: datetime, end: datetime
    ) -> list[EnergyEntry]:
        """What people typed and what meters counted, for every period that touches [start, end)."""
        typed = await self.store.energy_entries(factory_id, start, end)
        days = await self._meter_days(factory_id, start, end)
        return [*typed, *meter_entries(days, {stack.id: stack for stack in stacks})]

    async def _meter_days(self, factory_id: int, start: datetime, end: datetime) -> list[MeterDay]:
        last_day = (end - timedelta(microseconds=1)).astimezone(self.zone).date()
        return await self.store.meter_days(factory_id, start.astimezone(self.zone).date(), last_day + timedelta(days=1))

    async def _runtimes_h(self, factory_id: int, start: datetime, end: datetime) -> dict[int, float]:
        """What the meters of boilers' hours counted in [start, end), by stack."""
        counted: dict[int, list[float]] = {}
        for day in await self._meter_days(factory_id, start, end):
            if day.kind == "boiler_runtime" and day.covered_until > day.covered_from:
                share = part_in_period(day.covered_from, day.covered_until, start, end)
                counted.setdefault(day.stack_id, []).append(day.amount * share)
        return {stack_id: fsum(amounts) for stack_id, amounts in counted.items()}

    async def hours(self, stack: Stack, start: datetime, end: datetime) -> list[Hour]:
        """Every hour of a stack in [start, end); those without a reading are missing.

        A stack is monitored from its first plan on: what lies before is not missing, it was never to be measured.
        """
        start = max(start, _hour_from(stack.plans[0].valid_from))
        kept = {hour.start: hour for hour in await self.store.hours([stack.id], start, end)}
        count = int((end - start) / HOUR)
        return [
            kept.get(at) or missing_hour(stack.id, at, plan_in_force(stack.plans, at.timestamp()).validity)
            for at in (start + step * HOUR for step in range(count))
        ]

    def _stack_input(
        self,
        stack: Stack,
        plan: MonitoringPlan,
        hours: list[Hour],
        before: list[Hour],
        balance: Balance,
        start: datetime,
    ) -> StackInput:
        taken = substitute(
            hours,
            policy=plan.substitution,
            balance_kg_per_h=balance,
            potential_kg_per_s=_potential_kg_per_s(plan, hours),
            before=before,
            utc_offset_s=self._offset_s(start),
        )
        return StackInput(stack, plan, taken, total(taken), period_uncertainty(plan, taken))

    def _balance(
        self, entries: Sequence[EnergyEntry], hours: Sequence[Sequence[Hour]], start: datetime, end: datetime
    ) -> dict[int | None, Balance]:
        """CO2 of a full operating hour by the fuel of its time: for stacks with own entries, and (None) for all others.

        Wood of an entry was burned in the operating hours of the entry's period, by all stacks that it was for alike.
        """
        running = {
            part[0].stack_id: _Operating(
                [hour.start for hour in part], operating_fractions(part, self._offset_s(start))
            )
            for part in hours
            if part
        }
        by_stack: dict[int | None, list[tuple[datetime, datetime, float]]] = {}
        for entry in entries:
            burns = entry.energy_type is EnergyType.FIREWOOD or (
                entry.energy_type is EnergyType.DIESEL and entry.stack_id is not None
            )
            if not burns or entry.withdrawn:
                continue
            wanted = [entry.stack_id] if entry.stack_id is not None else list(running)
            known = [running[stack_id] for stack_id in wanted if stack_id in running]
            operating = fsum(
                fraction for part in known for fraction in part.between(entry.period_start, entry.period_end)
            )
            if operating:
                # Only what burned while the stacks were monitored is shared over the hours that are known of them.
                begin = max(start, min(part.starts[0] for part in known))
                share = part_in_period(entry.period_start, entry.period_end, begin, end)
                emission = entry_emissions(entry, self.factors, share)
                rate = (emission.biogenic_co2_kg + emission.fossil_co2_kg) / operating
                by_stack.setdefault(entry.stack_id, []).append((entry.period_start, entry.period_end, rate))
        common = by_stack.get(None, [])
        return {stack_id: _lookup([*spans, *common] if stack_id is not None else common)
                for stack_id, spans in {None: common, **by_stack}.items()}  # fmt: skip

    def _offset_s(self, moment: datetime) -> int:
        offset = moment.astimezone(self.zone).utcoffset()
        return int(offset.total_seconds()) if offset else 0

    # --- comparing

    async def targets_met(self, found: Account) -> list[tuple[Target, float | None, TargetStatus]]:
        """The targets that are in force at the end of an account's period, with the value and how they stand."""
        day = (found.period_end - timedelta(microseconds=1)).astimezone(self.zone).date()
        in_force: dict[Metric, Target] = {}
        for target in await self.store.targets(found.factory_id):  # the newest first
            if target.valid_from <= day:
                in_force.setdefault(target.metric, target)
        return [
            (target, value, target_status(target, value, found.availability))
            for target in in_force.values()
            for value in (metric_value(found, target.metric),)
        ]

    async def leaderboard(
        self, factories: Sequence[Factory], start: datetime, end: datetime, metric: Metric
    ) -> tuple[list[LeaderboardRow], Programme, dict[int, Account]]:
        """The ranking of a period, each with the trend against its own period before, and the programme's figures.

        With the accounts that it rests on, by factory: they say up to when they go, which for a period that is not over
        may be an hour ago (:meth:`_compared`).
        """
        compared = await self._compared(factories, start, end)
        now, before = compared.now, compared.before
        names = {factory.id: factory.name for factory in factories}
        contestants = []
        for found in now.values():
            u_relative = intensity_u_relative(found, metric)
            contestants.append(
                Contestant(
                    found.factory_id,
                    names[found.factory_id],
                    metric_value(found, metric),
                    None if u_relative is None else expanded(u_relative),
                    found.availability,
                    metric_value(before[found.factory_id], metric),
                )
            )
        return leaderboard(contestants), await self._programme(list(now.values())), now

    async def _programme(self, accounts: Sequence[Account]) -> Programme:
        statuses: list[TargetStatus | None] = []
        for found in accounts:
            stands = [status for _, _, status in await self.targets_met(found)]
            statuses.append(worst(stands))
        periods = [line.period for found in accounts for line in found.stacks]
        return programme(
            known_hours=sum(it.known_hours for it in periods),
            all_hours=sum(it.hours for it in periods),
            submitted=[has_submitted(found) for found in accounts],
            statuses=statuses,
        )

    # --- statements

    async def report(
        self, factory: Factory, start: datetime, end: datetime, *, by: Origin, now: datetime, reason: str = ""
    ) -> Statement:
        """Freeze an account as reported: version 1 of its period, or a correction, which needs a reason.

        Raises :class:`~carbontrack.store.RegistryError` without one, and :class:`ValueError` for a period that is not
        over.
        """
        start, end = whole_hours(start, end)
        if end - start > LONGEST_REPORT:
            raise ValueError(gettext("a report spans %(count)s days at most", count=LONGEST_REPORT.days))
        if end > now:
            raise ValueError(gettext("the period is not over yet: only what is measured can be reported"))
        figures, digest = await self._figures(factory, start, end)
        return await self.store.add_statement(factory.id, start, end, figures, digest, by, now, reason)

    async def is_outdated(self, statement: Statement, factory: Factory) -> bool:
        """Whether the data say something else by now than what was reported."""
        _, digest = await self._figures(factory, statement.period_start, statement.period_end)
        return digest != statement.sha256

    async def _figures(self, factory: Factory, start: datetime, end: datetime) -> tuple[str, str]:
        """An account with how its targets stand, as it is frozen, and its SHA-256."""
        found = await self.account(factory, start, end)
        stands = [(target.metric.value, value, status.value) for target, value, status in await self.targets_met(found)]
        figures = canonical_json(to_dict(found) | {"targets": stands})
        return figures, hashlib.sha256(figures.encode()).hexdigest()


def has_submitted(account: Account) -> bool:
    """Whether wood and tea are entered."""
    return account.made_tea_kg is not None and account.wood_kg is not None


Balance = Callable[[datetime], float | None]


def shipped_factors(own_file: Path | None = None) -> FactorSet:
    """The factors that Carbon Track ships, with an operator's own in place of those that the file names.

    Raises :class:`~carbontrack.emissions.factors.FactorError` with file, row and key for what cannot be used.
    """
    shipped = _shipped_factors()
    if own_file is None:
        return shipped
    try:
        rows = YAML(typ="safe").load(own_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FactorError(f"accounting.factors_file: {own_file} cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise FactorError(f"accounting.factors_file: {own_file} is not YAML: {error}") from error
    return shipped.replaced(parse_factors(rows, str(own_file)))


@cache
def _shipped_factors() -> FactorSet:
    """They never change while a process runs, and reading them takes a while."""
    return FactorSet.of(parse_factors(load_factor_rows(), "the shipped factors"))


def _hour_from(moment: datetime) -> datetime:
    """The first whole hour from a moment on."""
    whole = moment.replace(minute=0, second=0, microsecond=0)
    return whole if whole == moment else whole + HOUR


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The whole hours in a period, in UTC. Raises :class:`ValueError` where there is none."""
    begin_s, end_s = -(-int(start.timestamp()) // HOUR_S) * HOUR_S, int(end.timestamp()) // HOUR_S * HOUR_S
    if end_s <= begin_s:
        raise ValueError("a period has at least one whole hour")
    return datetime.fromtimestamp(begin_s, UTC), datetime.fromtimestamp(end_s, UTC)


def month(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """When the local month of a day begins and ends."""
    first = day.replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    begin, end = (datetime(it.year, it.month, 1, tzinfo=zone).astimezone(UTC) for it in (first, after))
    return begin, end


def worst(statuses: Sequence[TargetStatus]) -> TargetStatus | None:
    """Of several targets the one that decides: one that is not met, then one that cannot be told."""
    for status in (TargetStatus.NOT_MET, TargetStatus.INSUFFICIENT_DATA, TargetStatus.MET):
        if status in statuses:
            return status
    return None


def _potential_kg_per_s(plan: MonitoringPlan, hours: Sequence[Hour]) -> float:
    """The most that this stack can emit: the highest flow that was measured, full of as much CO2 as wood can make."""
    flows = [hour.mean_flow_nm3_per_s for hour in hours if hour.mean_flow_nm3_per_s is not None]
    fallback = plan.profile_factor * plan.area_m2 * 10.0 * 0.45  # 10 m/s of hot gas at altitude
    return POTENTIAL_CO2_WET * (max(flows) if flows else fallback) * CO2_KG_PER_NM3


@dataclass(frozen=True, slots=True)
class _Operating:
    """A stack's hours, oldest first, and the share of each in which it ran."""

    starts: Sequence[datetime]
    fractions: Sequence[float]

    def between(self, start: datetime, end: datetime) -> Sequence[float]:
        """Those of the hours that begin in [start, end)."""
        return self.fractions[bisect_left(self.starts, start) : bisect_left(self.starts, end)]


def _lookup(spans: Sequence[tuple[datetime, datetime, float]]) -> Balance:
    ordered = sorted(spans)
    begins = [begin for begin, _, _ in ordered]
    longest = max((end - begin for begin, end, _ in ordered), default=timedelta(0))

    def kg_per_h(at: datetime) -> float | None:
        near = ordered[bisect_left(begins, at - longest) : bisect_right(begins, at)]
        rates = [rate for begin, end, rate in near if begin <= at < end]
        return fsum(rates) if rates else None

    return kg_per_h
