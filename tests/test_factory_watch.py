"""Factories as a whole are watched: what is known of them is gathered, and their alerts begin, end and survive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from pydantic import BaseModel

from carbontrack.alerts import RuleInstance, Scope
from carbontrack.bookkeeping import Books, shipped_factors
from carbontrack.factory_watch import ACCOUNT_EVERY_S, MOST_ACCOUNTS, FactoryWatch, _month_before
from carbontrack.hookspecs import FactoryFacts, FactoryRule, Verdict
from carbontrack.ledger import EnergyEntry, EnergyType, ProductionEntry
from carbontrack.metrics import Metrics
from carbontrack.model import AlertAdjustment, AlertBound, AlertSettings, Factory, MonitoringPlan, Origin, Stack
from carbontrack.plugins.alerts.corroboration import CORROBORATION
from carbontrack.plugins.alerts.missing_entries import MISSING_ENTRIES
from carbontrack.store import Store
from carbontrack.store.tiers import TierWork
from tests.support.world import NAIROBI, Clock, factory, sample
from tests.test_substitution import valid

pytest_plugins = ["tests.support.world"]

Rule = RuleInstance[FactoryRule]
MARCH = datetime(2026, 2, 28, 21, tzinfo=UTC)
"""When the local March of 2026 began."""
NOW = datetime(2026, 4, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
WOOD_CO2_KG_PER_KG = 13.26425 * 112 / 1000


class NoOptions(BaseModel):
    pass


@dataclass
class Seen:
    """A rule that notes what it was shown, and rings for the factories that it is told to."""

    facts: list[FactoryFacts] = field(default_factory=list)
    rings_for: set[str] = field(default_factory=set)
    clears: bool = True

    def __call__(self, options: NoOptions, facts: FactoryFacts) -> Verdict:
        self.facts.append(facts)
        rings = facts.factory.name in self.rings_for
        return Verdict(rings, not rings and self.clears, f"{facts.factory.name} rings")

    def rule(self, name: str = "rings", hold_s: float = 0.0) -> Rule:
        return RuleInstance(name, FactoryRule(name, name, NoOptions, self), NoOptions(), "info", hold_s)


@dataclass
class Watching:
    """A watch by clocks that stand still, and who was told."""

    store: Store
    metrics: Metrics
    now: datetime = NOW
    monotonic: Clock = field(default_factory=Clock)
    changes: int = 0
    """How often somebody said that an alert was raised or cleared."""

    def watch(self, *rules: Rule) -> FactoryWatch:
        books = Books(self.store, shipped_factors(), NAIROBI, (0.85, 1.15), self.monotonic)
        watch = FactoryWatch(self.store, books, self.metrics, self.changed, lambda: self.now, self.monotonic)
        watch.follow(rules, [rule.name for rule in rules])
        return watch

    def changed(self) -> None:
        self.changes += 1

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.monotonic.now += seconds

    async def open(self) -> set[tuple[int, str]]:
        return {(alert.factory_id or 0, alert.rule) for alert in await self.store.alerts()}


@pytest.fixture
def watching(store: Store, metrics: Metrics) -> Watching:
    return Watching(store, metrics)


async def add(store: Store, name: str = "Kangaita", since: datetime = MARCH) -> tuple[Factory, Stack]:
    added = await store.add_factory(factory(name))
    return added, await store.add_stack(added.id, "Boiler 1", MonitoringPlan(valid_from=since))


async def measured(store: Store, stack: Stack, hours: int = 31 * 24, rate: float = 0.15) -> None:
    """Valid hours with fire from the beginning of March on."""
    kept = [
        msgspec.structs.replace(valid(number, rate), stack_id=stack.id, start=MARCH + number * HOUR)
        for number in range(hours)
    ]
    await store.write_tiers(TierWork(hours=kept), NOW)


async def burned(store: Store, of: Factory, co2_kg: float) -> EnergyEntry:
    """The firewood of March that gives so much CO2."""
    wood = EnergyEntry(
        0, 1, of.id, EnergyType.FIREWOOD, co2_kg / WOOD_CO2_KG_PER_KG, "kg", MARCH, MARCH + 31 * 24 * HOUR,
        moisture=0.25,
    )  # fmt: skip
    return await store.add_energy_entry(wood, Origin("clerk"), NOW)


# --- what is known


async def test_a_factory_is_known_by_its_entries_its_plans_and_its_last_whole_month(watching: Watching) -> None:
    kangaita, stack = await add(watching.store)
    await measured(watching.store, stack)
    await burned(watching.store, kangaita, 31 * 24 * 540 / 1.25)
    tea = ProductionEntry(0, 1, kangaita.id, MARCH, MARCH + 3 * 24 * HOUR, None, 600.0)
    await watching.store.add_production_entry(tea, Origin("clerk"), NOW)
    seen = Seen()

    await watching.watch(seen.rule()).look()

    (facts,) = seen.facts
    assert (facts.factory, facts.now, facts.zone) == (kangaita, NOW, NAIROBI)
    assert facts.monitored_since == date(2026, 3, 1)
    assert facts.last_energy_on == date(2026, 3, 31)
    assert facts.last_tea_on == date(2026, 3, 3)
    assert facts.month == date(2026, 3, 1)
    assert facts.measured_over_fuel == pytest.approx(1.25)


async def test_what_is_not_there_is_not_known(watching: Watching) -> None:
    await watching.store.add_factory(factory("Chinga"))
    seen = Seen()

    await watching.watch(seen.rule()).look()

    (facts,) = seen.facts
    assert (facts.monitored_since, facts.last_energy_on, facts.last_tea_on, facts.measured_over_fuel) == (None,) * 4


async def test_an_entry_that_was_withdrawn_covers_nothing(watching: Watching) -> None:
    kangaita, _ = await add(watching.store)
    entry = await burned(watching.store, kangaita, 1000.0)
    await watching.store.change_energy_entry(replace(entry, withdrawn=True), Origin("clerk"), NOW, "typed twice")
    seen = Seen()

    await watching.watch(seen.rule()).look()

    assert seen.facts[0].last_energy_on is None


async def test_too_little_measured_is_not_compared(watching: Watching) -> None:
    kangaita, stack = await add(watching.store)
    await measured(watching.store, stack, hours=100)
    await burned(watching.store, kangaita, 100_000.0)
    seen = Seen()

    await watching.watch(seen.rule()).look()

    assert seen.facts[0].measured_over_fuel is None


async def test_accounts_are_made_a_few_at_a_time_and_again_after_an_hour(watching: Watching) -> None:
    for number in range(MOST_ACCOUNTS + 3):
        of, stack = await add(watching.store, f"Factory {number:02}")
        await measured(watching.store, stack)
        await burned(watching.store, of, 31 * 24 * 540)
    seen = Seen()
    watch = watching.watch(seen.rule())

    def known() -> int:
        return sum(facts.measured_over_fuel is not None for facts in seen.facts[-MOST_ACCOUNTS - 3 :])

    await watch.look()
    assert known() == MOST_ACCOUNTS
    watching.passes(300)
    await watch.look()
    assert known() == MOST_ACCOUNTS + 3

    await burned(watching.store, seen.facts[0].factory, 31 * 24 * 540)
    await watch.look()
    assert seen.facts[-MOST_ACCOUNTS - 3].measured_over_fuel == pytest.approx(1.0), "it is not made at every look"
    watching.passes(ACCOUNT_EVERY_S)
    await watch.look()
    assert seen.facts[-MOST_ACCOUNTS - 3].measured_over_fuel == pytest.approx(0.5)


# --- its alerts


async def test_a_factory_s_alert_begins_and_ends(watching: Watching) -> None:
    kangaita, _ = await add(watching.store)
    await add(watching.store, "Chinga")
    seen = Seen(rings_for={"Kangaita"})
    watch = watching.watch(seen.rule())

    await watch.look()
    watching.passes(300)
    await watch.look()

    (alert,) = await watching.store.alerts()
    assert (alert.device_id, alert.stack_id, alert.factory_id) == (None, None, kangaita.id)
    assert (alert.rule, alert.severity, alert.message, alert.raised_at) == ("rings", "info", "Kangaita rings", NOW)
    assert sample(watching.metrics, "carbontrack_alerts", alert="rings", state="firing") == 1

    seen.rings_for.clear()
    await watch.look()
    assert await watching.open() == set()
    assert sample(watching.metrics, "carbontrack_alerts", alert="rings", state="firing") == 0
    assert watching.changes == 2


async def test_a_breach_holds_from_look_to_look(watching: Watching) -> None:
    await add(watching.store)
    watch = watching.watch(Seen(rings_for={"Kangaita"}).rule(hold_s=500))

    for expected in (0, 0, 1):
        await watch.look()
        assert len(await watching.open()) == expected
        watching.passes(300)


async def test_an_alert_that_is_open_is_taken_up_after_a_restart(watching: Watching) -> None:
    await add(watching.store)
    seen = Seen(rings_for={"Kangaita"})
    await watching.watch(seen.rule()).look()

    again = watching.watch(seen.rule())
    await again.look()
    assert watching.changes == 1, "nobody is told twice"

    seen.rings_for.clear()
    await again.look()
    assert await watching.open() == set()


async def test_an_alert_that_nobody_configures_any_more_is_cleared(watching: Watching) -> None:
    await add(watching.store)
    watch = watching.watch(Seen(rings_for={"Kangaita"}).rule())
    await watch.look()

    watch.follow((), ["rings"])
    await watch.look()
    assert len(await watching.open()) == 1, "its plugin is only away"

    watch.follow((), [])
    await watch.look()
    assert await watching.open() == set()


async def test_only_factories_in_scope_are_asked_and_an_alert_out_of_scope_ends(watching: Watching) -> None:
    kangaita, _ = await add(watching.store)
    mungania, _ = await add(watching.store, "Mungania")
    seen = Seen(rings_for={"Kangaita", "Mungania"})
    watch = watching.watch(seen.rule())
    await watch.look()
    assert await watching.open() == {(kangaita.id, "rings"), (mungania.id, "rings")}

    watch.follow((replace(seen.rule(), scope=Scope(factories=frozenset({"mungania"}))),), ["rings"])
    seen.facts.clear()
    await watch.look()

    assert await watching.open() == {(mungania.id, "rings")}
    assert {facts.factory.name for facts in seen.facts} == {"Mungania"}


async def test_a_factory_s_own_hold_counts_and_the_others_go_on(watching: Watching) -> None:
    kangaita, _ = await add(watching.store)
    mungania, _ = await add(watching.store, "Mungania")
    seen = Seen(rings_for={"Kangaita", "Mungania"})
    watch = watching.watch(seen.rule(hold_s=500))
    await watch.look()
    watching.passes(300)

    bound = AlertBound("rings", "hold_s", 0, 10_000)
    watch.adjust(AlertSettings((bound,), (AlertAdjustment(kangaita.id, "rings", "hold_s", 5000.0),)))
    for _ in range(2):
        await watch.look()
        watching.passes(300)

    assert await watching.open() == {(mungania.id, "rings")}


async def test_a_factory_that_is_closed_is_not_watched(watching: Watching) -> None:
    await add(watching.store)
    seen = Seen(rings_for={"Kangaita"})
    watch = watching.watch(seen.rule())
    await watch.look()

    for known in await watching.store.factories():
        await watching.store.change_factory(known.id, {"is_active": False})
    seen.facts.clear()
    await watch.look()

    assert seen.facts == []
    assert await watching.open() == set()


async def test_a_rule_that_fails_leaves_the_others_alone(watching: Watching) -> None:
    def broken(options: NoOptions, facts: FactoryFacts) -> Verdict:
        raise RuntimeError("a rule with a defect")

    await add(watching.store)
    bad = RuleInstance("bad", FactoryRule("bad", "bad", NoOptions, broken), NoOptions(), "info", 0.0)
    await watching.watch(bad, Seen(rings_for={"Kangaita"}).rule()).look()

    assert {rule for _, rule in await watching.open()} == {"rings"}


@pytest.mark.parametrize("ratio", [0.5, 1.0])
async def test_the_rules_that_ship_find_what_is_wrong(watching: Watching, ratio: float) -> None:
    kangaita, stack = await add(watching.store)
    await measured(watching.store, stack)
    await burned(watching.store, kangaita, 31 * 24 * 540 / ratio)
    watching.now = datetime(2026, 4, 20, 9, tzinfo=UTC)
    rules = [
        RuleInstance(rule.name, rule, rule.options_model(), "warning", 0.0) for rule in (CORROBORATION, MISSING_ENTRIES)
    ]

    await watching.watch(*rules).look()

    assert {rule for _, rule in await watching.open()} == (
        {"missing-entries", "corroboration"} if ratio == 0.5 else {"missing-entries"}
    )


@pytest.mark.parametrize(
    ("now", "first_day"),
    [
        (datetime(2026, 3, 31, 20, 59, tzinfo=UTC), date(2026, 2, 1)),
        (datetime(2026, 3, 31, 21, 0, tzinfo=UTC), date(2026, 3, 1)),
        (datetime(2026, 1, 15, tzinfo=UTC), date(2025, 12, 1)),
    ],
)
def test_the_month_before_is_a_local_one(now: datetime, first_day: date) -> None:
    assert _month_before(now, NAIROBI) == first_day
