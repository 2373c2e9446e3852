"""The alerts of factories as a whole: every few minutes what is known of each factory is shown to the factory rules.

There is one watch and no actor for a factory: nothing is sent to it, and what it is judged by changes by the day.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import structlog

from carbontrack.alerts import RuleInstance, ask, count_standings, is_worth_keeping, rules_of_factory, unchanged
from carbontrack.bookkeeping import Books, month
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.targets import LEAST_AVAILABILITY
from carbontrack.hookspecs import FactoryFacts, FactoryRule
from carbontrack.metrics import Metrics
from carbontrack.model import INACTIVE, AlertSettings, AlertState, Factory, Stack, Standing
from carbontrack.notify import nobody
from carbontrack.periods import months_later
from carbontrack.store import Store

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 300.0
ACCOUNT_EVERY_S = 3600.0
"""An account takes many queries, and that of a whole month changes only by late entries and late readings."""
MOST_ACCOUNTS = 10
"""So many accounts are made at one look, the oldest first: all factories' have their turn within the hour."""

FactoryRules = tuple[RuleInstance[FactoryRule], ...]
Key = tuple[int, str]
"""Factory and name of the alert."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class FactoryWatch:
    """Steps the factory rules. ``alert_changed`` is called after each that was raised or cleared; it never waits."""

    store: Store
    books: Books
    metrics: Metrics
    alert_changed: Callable[[], None] = nobody
    clock: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    _rules: FactoryRules = ()
    _settings: AlertSettings = field(default_factory=AlertSettings)
    _rules_of: dict[int, FactoryRules] = field(default_factory=dict)
    """The rules as each factory has adjusted them, where somebody has asked."""
    _configured: frozenset[str] | None = None
    _standings: dict[Key, Standing] = field(default_factory=dict)
    _kept: dict[Key, Standing] = field(default_factory=dict)
    """The same as the database has it."""
    _is_restored: bool = False
    _ratios: dict[int, tuple[date, float, float | None]] = field(default_factory=dict)
    """By factory: the month, when the account was made (monotonic), and measured over fuel-based CO2."""

    def follow(self, rules: FactoryRules, configured: Iterable[str]) -> None:
        """Use these rules from now on. What fires stays open while an alert of its name is ``configured``."""
        self._configured = frozenset(configured)
        self._change(rules, self._settings)

    def adjust(self, settings: AlertSettings) -> None:
        """Use the rules as each factory has adjusted them. Where nothing changes, holds go on."""
        if settings != self._settings:
            self._change(self._rules, settings)

    def _change(self, rules: FactoryRules, settings: AlertSettings) -> None:
        before = {factory_id: self._rules_for(factory_id) for factory_id, _ in self._standings}
        self._rules, self._settings = rules, settings
        self._rules_of = {}
        same = {factory_id: unchanged(old, self._rules_for(factory_id)) for factory_id, old in before.items()}
        self._standings = {
            key: standing
            for key, standing in self._standings.items()
            if key[1] in same[key[0]] or standing.state is AlertState.FIRING
        }

    def _rules_for(self, factory_id: int) -> FactoryRules:
        if (rules := self._rules_of.get(factory_id)) is None:
            rules = self._rules_of[factory_id] = rules_of_factory(self._rules, self._settings, factory_id)
        return rules

    async def keep(self) -> None:
        """Look for ever. Raises :class:`~carbontrack.store.StoreUnavailable` while the database is away."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Show every active factory to every rule, once."""
        factories = await self.store.factories()
        if not self._is_restored:
            await self._restore()
        await self._clear_what_nobody_watches({factory.id: factory for factory in factories})
        if self._rules:
            for facts in await self._facts([factory for factory in factories if factory.is_active]):
                for instance in self._rules_for(facts.factory.id):
                    if instance.scope.has_factory(facts.factory):
                        await self._check(instance, facts)
        standings = ((name, standing) for (_, name), standing in self._standings.items())
        self.metrics.count_alerts("factories", count_standings(standings))

    async def _restore(self) -> None:
        """Begin where the rules stood when the last core stopped."""
        for of, standings in (await self.store.standings()).items():
            if isinstance(of, int):
                self._standings |= {(of, name): standing for name, standing in standings.items()}
        self._kept = dict(self._standings)
        self._is_restored = True

    async def _clear_what_nobody_watches(self, factories: Mapping[int, Factory]) -> None:
        """End the alerts of names that have gone from the configuration, and of factories that are not active."""
        for factory_id, name in list(self._standings):
            factory = factories.get(factory_id)
            if factory is not None and factory.is_active and self._is_watched(factory, name):
                continue
            if self._standings.get((factory_id, name), INACTIVE).state is AlertState.FIRING:
                await self.store.clear_alert(factory_id, name, self.clock())
                self.alert_changed()
            elif factory is not None:
                await self.store.keep_standing(factory_id, name, INACTIVE)
            self._standings.pop((factory_id, name), None)
            self._kept.pop((factory_id, name), None)
        for key in [key for key, kept in self._kept.items() if kept.since and key not in self._standings]:
            await self.store.keep_standing(*key, INACTIVE)  # other options have made it void
            self._kept.pop(key, None)

    def _is_watched(self, factory: Factory, name: str) -> bool:
        """Whether an alert of this name is configured for a factory, with a rule or without."""
        if self._configured is not None and name not in self._configured:
            return False
        return all(rule.scope.has_factory(factory) for rule in self._rules if rule.name == name)

    async def _check(self, instance: RuleInstance[FactoryRule], facts: FactoryFacts) -> None:
        key, now = (facts.factory.id, instance.name), facts.now
        standing = self._standings.get(key, INACTIVE)
        try:
            after, verdict = ask(instance, standing, facts, now, timedelta(seconds=3 * LOOK_EVERY_S))
        except Exception:  # noqa: BLE001  # a rule is a plugin: its fence has counted it, and the others go on
            return
        was, now_is = standing.state, after.state
        if now_is is AlertState.FIRING and was is not AlertState.FIRING:
            await self.store.raise_alert(*key, instance.severity, verdict.finding, now, after)
            self.alert_changed()
        elif was is AlertState.FIRING and now_is is not AlertState.FIRING:
            await self.store.clear_alert(*key, now)
            self.alert_changed()
        elif is_worth_keeping(self._kept.get(key, INACTIVE), after):
            await self.store.keep_standing(*key, after)
        else:
            self._standings[key] = after
            return
        self._kept[key] = after
        if after.state is AlertState.FIRING or any(instance is each for each in self._rules_for(key[0])):
            self._standings[key] = after  # else its options have changed while this was kept

    # --- what is known

    async def _facts(self, factories: Sequence[Factory]) -> list[FactoryFacts]:
        """What is known of each factory: three queries for all of them, and some accounts."""
        now, zone = self.clock(), self.books.zone
        stacks: dict[int, list[Stack]] = {}
        for stack in await self.store.stacks():
            stacks.setdefault(stack.factory_id, []).append(stack)
        energy, tea = await self.store.entries_until()
        first_day = _month_before(now, zone)
        await self._renew_accounts([factory for factory in factories if factory.id in stacks], first_day)
        return [
            FactoryFacts(
                factory=factory,
                now=now,
                zone=zone,
                monitored_since=_monitored_since(stacks.get(factory.id, ()), zone),
                last_energy_on=_last_day(energy.get(factory.id), zone),
                last_tea_on=_last_day(tea.get(factory.id), zone),
                month=first_day,
                measured_over_fuel=self._ratio(factory.id, first_day),
            )
            for factory in factories
        ]

    def _ratio(self, factory_id: int, first_day: date) -> float | None:
        of, _, ratio = self._ratios.get(factory_id, (None, 0.0, None))
        return ratio if of == first_day else None

    async def _renew_accounts(self, factories: Sequence[Factory], first_day: date) -> None:
        """Make the accounts of the last whole month that are missing or old, a few at a time."""
        now_s = self.monotonic()
        made = {
            factory.id: at_s if of == first_day else float("-inf")
            for factory in factories
            for of, at_s, _ in (self._ratios.get(factory.id, (None, 0.0, None)),)
        }
        due = [factory for factory in factories if now_s - made[factory.id] >= ACCOUNT_EVERY_S]
        for factory in sorted(due, key=lambda each: made[each.id])[:MOST_ACCOUNTS]:
            self._ratios[factory.id] = first_day, now_s, await self._measured_over_fuel(factory, first_day)
            await asyncio.sleep(0)  # the devices' turn

    async def _measured_over_fuel(self, factory: Factory, first_day: date) -> float | None:
        """The ratio of a month; None where too little was measured to compare, or no fuel was entered."""
        try:
            found = await self.books.account(factory, *month(first_day, self.books.zone))
        except FactorMissing as error:
            log.warning("no account of a factory for its alerts", factory=factory.slug, error=str(error))
            return None
        if found.availability is None or found.availability < LEAST_AVAILABILITY:
            return None
        return found.corroboration.ratio


def _month_before(now: datetime, zone: tzinfo) -> date:
    """The first day of the last whole local month."""
    return months_later(now.astimezone(zone).date(), -1)


def _monitored_since(stacks: Iterable[Stack], zone: tzinfo) -> date | None:
    starts: list[Any] = [stack.plans[0].valid_from for stack in stacks]
    return min(starts).astimezone(zone).date() if starts else None


def _last_day(covered_until: datetime | None, zone: tzinfo) -> date | None:
    """The last local day that lies before a moment, wholly or in part."""
    if covered_until is None:
        return None
    return (covered_until - timedelta(microseconds=1)).astimezone(zone).date()
