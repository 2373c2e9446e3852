"""Where and when a rule is asked, and what a factory makes of its numbers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from carbontrack.alerts import (
    EVERYWHERE,
    RuleInstance,
    Scope,
    Unfit,
    adjusted,
    ask,
    numbers_of,
    rules_at,
    rules_of_factory,
    with_numbers,
)
from carbontrack.app import _follow_registry
from carbontrack.config import Config
from carbontrack.configured import all_instances, problems_of, rule_instances
from carbontrack.hookspecs import AlertRule, Observation, Verdict
from carbontrack.hours_of_day import Hours
from carbontrack.metrics import Metrics
from carbontrack.model import (
    INACTIVE,
    AlertAdjustment,
    AlertBound,
    AlertSettings,
    AlertState,
    Device,
    Factory,
    MonitoringPlan,
    Site,
    Snapshot,
    Stack,
)
from carbontrack.plugins import PluginHost, load_plugins
from carbontrack.plugins.alerts.limit import LIMIT, LimitOptions
from carbontrack.reloading import Reloader
from carbontrack.rule_book import RuleBook
from carbontrack.store import Store, open_store
from carbontrack.tasks import end
from tests.support.world import NAIROBI, NOON, core, eventually, register
from tests.test_device_rules import Times, eventually_open, gas, hotter_than, looking_often

pytest_plugins = ["tests.support.world"]

SITE = Site(
    Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0),
    Stack(11, 1, "Boiler 1", (MonitoringPlan(),)),
    Device(21, "ct-0001", 1, 11),
)
SEEN = Observation(SITE, Snapshot("ct-0001", 1, 11, online=True), NOON, 0.0, {})
DAYTIME = Scope(hours=Hours(time(6), time(18), NAIROBI))


def says(verdict: Verdict) -> RuleInstance[AlertRule]:
    rule = AlertRule("says", "Says", BaseModel, lambda *_: verdict)
    return RuleInstance("says", rule, None, "warning", hold_s=60.0)


BREACHED, CLEARED = Verdict(breached=True, cleared=False), Verdict(breached=False, cleared=True)


def local(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 2, hour, minute, tzinfo=NAIROBI).astimezone(UTC)


class TestScope:
    @pytest.mark.parametrize(
        ("scope", "is_in"),
        [
            (EVERYWHERE, True),
            (Scope(factories=frozenset({"kangaita", "mungania"})), True),
            (Scope(factories=frozenset({"mungania"})), False),
            (Scope(stacks=frozenset({"kangaita/Boiler 1"})), True),
            (Scope(stacks=frozenset({"mungania/Boiler 1"})), False),
            (Scope(devices=frozenset({"ct-0001"})), True),
            (Scope(devices=frozenset({"ct-0002"})), False),
            (Scope(factories=frozenset({"kangaita"}), devices=frozenset({"ct-0002"})), False),
        ],
    )
    def test_a_device_must_be_in_each_list_that_is_not_empty(self, scope: Scope, is_in: bool) -> None:
        assert scope.has_site(SITE) is is_in

    def test_all_rules_are_the_very_same_where_none_is_limited(self) -> None:
        rules = (says(BREACHED), says(CLEARED))

        assert rules_at(rules, SITE) is rules
        assert rules_at((rules[0], replace(rules[1], scope=Scope(devices=frozenset({"x"})))), SITE) == rules[:1]


class TestHours:
    @pytest.mark.parametrize(
        ("begin", "end", "at", "is_on"),
        [
            (6, 18, local(6), True),
            (6, 18, local(17, 59), True),
            (6, 18, local(18), False),
            (6, 18, local(5, 59), False),
            (22, 5, local(23), True),
            (22, 5, local(4, 59), True),
            (22, 5, local(5), False),
            (22, 5, local(12), False),
        ],
    )
    def test_they_are_local_and_may_go_over_midnight(self, begin: int, end: int, at: datetime, is_on: bool) -> None:
        assert Scope(hours=Hours(time(begin), time(end), NAIROBI)).is_on(at) is is_on

    def test_outside_of_them_nothing_begins(self) -> None:
        at_night = replace(says(BREACHED), scope=DAYTIME)

        assert ask(at_night, INACTIVE, SEEN, local(3))[0] is INACTIVE
        assert ask(at_night, INACTIVE, SEEN, local(12))[0].state is AlertState.PENDING

    def test_what_is_pending_ends_with_them(self) -> None:
        rule = replace(says(BREACHED), scope=DAYTIME)
        pending, _ = ask(rule, INACTIVE, SEEN, local(17, 59))

        assert ask(rule, pending, SEEN, local(18))[0] == INACTIVE

    def test_what_fires_stays_and_is_cleared_outside_of_them_too(self) -> None:
        rule = replace(says(BREACHED), scope=DAYTIME, hold_s=0.0)
        firing, _ = ask(rule, INACTIVE, SEEN, local(17, 59))

        assert ask(rule, firing, SEEN, local(19))[0].state is AlertState.FIRING
        assert ask(replace(says(CLEARED), scope=DAYTIME), firing, SEEN, local(19))[0] is INACTIVE


def config(**entry: Any) -> Config:
    options = {"quantity": "temperature_c", "raise_above": 300, "clear_below": 290}
    return Config.model_validate({"alerts": [{"name": "hot", "rule": "limit", "options": options, **entry}]})


class TestConfigured:
    def test_an_alert_has_the_scope_of_its_entry(self) -> None:
        brought = load_plugins(Config()).contributions
        given = config(factories=["kangaita"], stacks=["kangaita/Boiler 1"], devices=["ct-0001"], hours="22:00-05:00")
        ((hot,), _, problems) = rule_instances(given, brought)

        assert problems == ()
        assert hot.scope == Scope(
            frozenset({"kangaita"}),
            frozenset({"kangaita/Boiler 1"}),
            frozenset({"ct-0001"}),
            Hours(time(22), time(5), NAIROBI),
        )

    def test_one_that_is_not_enabled_watches_nobody_and_can_be_found(self) -> None:
        brought, given = load_plugins(Config()).contributions, config(enabled=False)

        assert rule_instances(given, brought) == ((), (), ())
        ((hot,), _) = all_instances(given, brought)
        assert not hot.is_enabled

    @pytest.mark.parametrize("hours", ["6-18", "06:00", "06:00-06:00", "00:00-24:00", "25:00-26:00", "24:00-06:00"])
    def test_hours_that_make_no_sense_are_refused(self, hours: str) -> None:
        with pytest.raises(ValueError, match="hours"):
            config(hours=hours)

    def test_a_day_s_last_hour_is_an_end(self) -> None:
        ((hot,), _, _) = rule_instances(config(hours="18:00-24:00"), load_plugins(Config()).contributions)

        assert hot.scope.is_on(local(23, 59))
        assert not hot.scope.is_on(local(0, 1))

    def test_a_factory_s_rule_has_no_stacks(self) -> None:
        given = Config.model_validate(
            {"alerts": [{"name": "off", "rule": "corroboration", "stacks": ["kangaita/Boiler 1"]}]}
        )
        (problem,) = problems_of(given)

        assert "alerts[0].stacks: the rule 'corroboration' watches factories as a whole" in problem


class Two(BaseModel):
    low: float = Field(1.0, ge=0)
    days: int | None = 7
    what: str = "it"
    is_on: bool = True


class TestNumbers:
    def instance(self) -> RuleInstance[AlertRule]:
        options = LimitOptions(quantity="co2_kg_per_s", raise_above=0.6, clear_below=0.55)
        return RuleInstance("high", LIMIT, options, "warning", 60.0, 60.0)

    def settings(self, *chosen: tuple[str, float], low: float = 0.4, high: float = 0.8) -> AlertSettings:
        bounds = [AlertBound("high", name, low, high) for name in ("raise_above", "clear_below")]
        bounds.append(AlertBound("high", "hold_s", 0, 600))
        return AlertSettings(tuple(bounds), tuple(AlertAdjustment(1, "high", *each) for each in chosen))

    def test_every_number_can_be_adjusted_and_nothing_else(self) -> None:
        rule = AlertRule("two", "Two", Two, lambda *_: CLEARED)

        assert numbers_of(RuleInstance("two", rule, Two(), "info", 5.0)) == {
            "hold_s": 5.0, "clear_after_s": 0.0, "low": 1.0, "days": 7.0,
        }  # fmt: skip

    def test_a_factory_has_its_own_numbers_and_the_others_have_not(self) -> None:
        settings, rules = self.settings(("raise_above", 0.7), ("hold_s", 120.0)), (self.instance(),)

        ((own),) = rules_of_factory(rules, settings, 1)
        assert (own.options.raise_above, own.options.clear_below, own.hold_s) == (0.7, 0.55, 120.0)
        assert rules_of_factory(rules, settings, 2) is rules

    def test_a_bound_that_is_narrower_now_clips_and_says_so(self) -> None:
        found = adjusted(self.instance(), self.settings(("raise_above", 0.75), high=0.65), 1)

        assert found.instance.options.raise_above == 0.65
        assert found.notes == {"raise_above": "headquarters allows 0.4 to 0.65 now: 0.65 counts"}

    def test_without_a_bound_the_configured_value_counts(self) -> None:
        settings = AlertSettings((), (AlertAdjustment(1, "high", "raise_above", 0.7),))
        found = adjusted(self.instance(), settings, 1)

        assert found.instance.options.raise_above == 0.6
        assert "no more" in found.notes["raise_above"]

    def test_numbers_that_do_not_fit_together_any_more_do_not_count(self) -> None:
        found = adjusted(self.instance(), self.settings(("raise_above", 0.5)), 1)

        assert found.instance.options.raise_above == 0.6
        assert "clear_below must not be above raise_above" in found.notes["raise_above"]

    @pytest.mark.parametrize("numbers", [{"raise_above": 0.5}, {"hold_s": -1.0}, {"raise_above": float("nan")}])
    def test_what_the_rule_refuses_is_refused(self, numbers: dict[str, float]) -> None:
        with pytest.raises(Unfit):
            with_numbers(self.instance(), numbers)

    def test_a_whole_number_stays_one(self) -> None:
        rule = AlertRule("two", "Two", Two, lambda *_: CLEARED)
        instance = RuleInstance("two", rule, Two(), "info", 5.0)

        assert with_numbers(instance, {"days": 9.0}).options.days == 9
        with pytest.raises(Unfit, match="days"):
            with_numbers(instance, {"days": 9.5})


# --- in running devices


def limited(*device_ids: str, above: float = 300.0) -> RuleInstance[AlertRule]:
    return replace(hotter_than(above), scope=Scope(devices=frozenset(device_ids)))


async def test_only_devices_in_scope_are_asked(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics, rules=(limited("dev-002"),)) as running:
        for name in ("dev-001", "dev-002"):
            running.tell(name, gas(1, 350))
            await running.receipt(name, 1)
        await eventually_open(store, {("dev-002", "hot")})


async def test_an_alert_of_a_device_that_is_out_of_scope_now_is_cleared(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(hotter_than(300),)) as running:
        running.tell("dev-001", gas(1, 350))
        await eventually_open(store, {("dev-001", "hot")})

        with looking_often(running):
            running.fleet.follow(running.fleet._drivers, (limited("dev-002"),), ["hot"])
            await eventually_open(store, set())


async def test_a_device_that_moves_to_another_factory_has_the_rules_of_that(store: Store, metrics: Metrics) -> None:
    (one,) = await register(store, "dev-001", factory_name="Kangaita")
    (other,) = await register(store, "dev-002", factory_name="Mungania")
    there = replace(hotter_than(300), scope=Scope(factories=frozenset({"mungania"})))
    async with core(store, metrics, rules=(there,)) as running:
        running.tell("dev-001", gas(1, 350))
        await running.receipt("dev-001", 1)
        assert one.factory.slug == "kangaita"
        assert await store.alerts() == []

        await store.change_device("dev-001", stack_id=other.stack.id)
        await running.sync()
        running.tell("dev-001", gas(2, 350))
        await eventually_open(store, {("dev-001", "hot")})


async def test_a_factory_s_adjustment_counts_at_once_and_the_others_go_on(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", factory_name="Kangaita")
    await register(store, "dev-002", factory_name="Mungania")
    (one, other) = await store.sites()
    held = replace(hotter_than(300), hold_s=60.0)
    async with core(store, metrics, rules=(held,)) as running:
        book = RuleBook(store, [running.fleet.adjust])
        await store.set_alert_bound("hot", "above", 200, 400)
        actors = running.fleet._actors
        for name in ("dev-001", "dev-002"):
            running.tell(name, gas(1, 350))
            await running.receipt(name, 1)
        await eventually(lambda: all(actor._standings for actor in actors.values()))

        await store.adjust_alert(one.factory.id, "hot", "above", 360.0)
        await book.renew()

        assert [rule.options.above for rule in actors["dev-001"].rules] == [360.0]
        assert actors["dev-001"]._standings == {}, "another limit: the hold begins anew"
        assert actors["dev-002"]._standings["hot"].state is AlertState.PENDING, "nothing has changed there"
        assert running.fleet.rules_for(other) == (held,)


async def test_outside_of_its_hours_a_hold_ends_in_the_database_too(
    store: Store, metrics: Metrics, times: Times
) -> None:
    await register(store, "dev-001")
    until_noon = Scope(hours=Hours(time(6), (NOON + timedelta(seconds=9)).astimezone(NAIROBI).time(), NAIROBI))
    held = replace(hotter_than(300), hold_s=600.0, scope=until_noon)
    async with core(store, metrics, rules=(held,)) as running:
        running.tell("dev-001", gas(1, 350))
        await running.receipt("dev-001", 1)

        async def standing() -> bool:
            return bool((await store.standings()).get("dev-001"))

        await eventually(standing)
        running.tell("dev-001", gas(2, 350))
        await running.receipt("dev-001", 2)

        async def none() -> bool:
            return not await standing()

        await eventually(none)


@pytest.fixture
def times() -> Times:
    return Times()


async def test_names_that_are_not_in_the_registry_are_told(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    book = RuleBook(store)
    scope = Scope(frozenset({"kangaita", "nowhere"}), frozenset({"kangaita/Boiler 9"}), frozenset({"dev-001", "x"}))
    book.follow([replace(hotter_than(300), scope=scope)])
    assert not book.problems, "nobody has looked yet"

    await book.renew()

    assert book.problems == (
        "the alert 'hot': there is no factory 'nowhere'",
        "the alert 'hot': there is no stack 'kangaita/Boiler 9'",
        "the alert 'hot': there is no device 'x'",
    )


async def test_what_another_process_has_adjusted_is_followed(database_url: str, store: Store, metrics: Metrics) -> None:
    """By the registry's revision, as the running core follows it."""
    (site,) = await register(store, "dev-001")
    async with core(store, metrics, rules=(hotter_than(300),)) as running, open_store(database_url, metrics) as other:
        book = RuleBook(store, [running.fleet.adjust])
        reloader = Reloader(Config(), PluginHost(metrics), metrics)
        following = asyncio.create_task(_follow_registry(store, running.fleet, book, reloader, 0.01))
        try:
            await other.set_alert_bound("hot", "above", 200, 400)
            await other.adjust_alert(site.factory.id, "hot", "above", 360.0)
            await eventually(lambda: [rule.options.above for rule in running.fleet.rules_for(site)] == [360.0])

            await other.remove_alert_bound("hot", "above")
            await eventually(lambda: [rule.options.above for rule in running.fleet.rules_for(site)] == [300])
        finally:
            await end(following)
