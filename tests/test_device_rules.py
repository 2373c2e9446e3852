"""Rules in a running device: on the timer, by the core's clock, changed while it runs, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from carbontrack.alerts import RuleInstance
from carbontrack.device import Hearing
from carbontrack.hookspecs import AlertRule, Observation, SensorDriver, Verdict
from carbontrack.metrics import Metrics
from carbontrack.model import DeviceStatus, Finding, Payload
from carbontrack.plugins import load_plugins
from carbontrack.plugins.alerts.silence import SILENCE
from carbontrack.store import Store
from tests.support.world import NOON, NOON_MS, Clock, Core, body, core, eventually, register

pytest_plugins = ["tests.support.world"]

Rule = RuleInstance[AlertRule]


class HotterThan(BaseModel):
    above: float


def hot(options: HotterThan, seen: Observation) -> Verdict:
    seen.memory["asked"] = seen.memory.get("asked", 0) + 1
    temperature = seen.snapshot.temperature_c or 0.0
    return Verdict(temperature > options.above, temperature < options.above, f"asked {seen.memory['asked']} times")


HOT = AlertRule("hot", "Hotter than", HotterThan, hot)


def hotter_than(above: float, name: str = "hot", rule: AlertRule = HOT) -> Rule:
    return RuleInstance(name, rule, HotterThan(above=above), "warning", 0.0)


def silent(after_s: float = 900.0, hold_s: float = 0.0) -> Rule:
    return RuleInstance("silent", SILENCE, SILENCE.options_model(after_s=after_s), "warning", hold_s)


def gas(seq: int, temperature_c: float) -> bytes:
    return body(seq=seq, at_ms=NOON_MS + 5000 * seq, rows=[[0, 0, 1, 98_000 + seq, temperature_c, 4.0, 80.0, 0]])


@dataclass
class Times:
    """The two clocks of a core, and whether it hears anybody; all move together."""

    clock: Clock = field(default_factory=Clock)
    hearing: Hearing = field(default_factory=Hearing)
    changes: int = 0
    """How often somebody said that an alert was raised or cleared."""

    def utc(self) -> datetime:
        return NOON + timedelta(seconds=self.clock.now - 1000)

    def at_ms(self) -> int:
        return round(self.utc().timestamp() * 1000)

    def changed(self) -> None:
        self.changes += 1

    def services(self, **options: Any) -> dict[str, Any]:
        own = {"monotonic": self.clock, "clock": self.utc, "hearing": self.hearing, "alert_changed": self.changed}
        return {**own, "offline_after_s": 30.0, **options}

    async def passes(self, running: Core, seconds: float, step_s: float = 10.0) -> None:
        """Let time pass, in which somebody else is heard and every device is looked at."""
        for _ in range(round(seconds / step_s)):
            self.clock.now += step_s
            self.hearing.heard(self.clock())
            await looks(running)


async def looks(running: Core, times: int = 2) -> None:
    actors = running.fleet._actors
    before = {name: actor.looks for name, actor in actors.items()}
    await eventually(lambda: all(actor.looks >= before[name] + times for name, actor in actors.items()))


@pytest.fixture
def times() -> Times:
    return Times()


@contextmanager
def looking_often(running: Core) -> Iterator[None]:
    """The devices look about every hundredth of a second, by a clock that stands still."""
    for actor in running.fleet._actors.values():
        actor.idle_after_s = 0.01
        actor._await_idle(asyncio.get_running_loop())
    yield


async def open_rules(store: Store) -> set[tuple[str | None, str]]:
    return {(alert.device_id, alert.rule) for alert in await store.alerts()}


# --- silence


async def test_a_device_that_falls_silent_rings_once_and_until_it_is_heard(
    store: Store, metrics: Metrics, times: Times
) -> None:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics, rules=(silent(),), **times.services()) as running:
        with looking_often(running):
            times.hearing.connected(times.clock())
            running.tell("dev-001", body(), received_at_ms=times.at_ms())
            await running.receipt("dev-001", 1)

            await times.passes(running, 880)
            assert await open_rules(store) == set()

            await times.passes(running, 40)
            assert await open_rules(store) == {("dev-001", "silent")}, "dev-002 has never been there"
            (alert,) = await store.alerts()
            assert timedelta(seconds=900) <= alert.raised_at - NOON <= timedelta(seconds=920)

            await times.passes(running, 600)
            running.tell("dev-001", body(seq=2, at_ms=times.at_ms()), received_at_ms=times.at_ms())
            await running.receipt("dev-001", 2)
            await looks(running)
            assert await open_rules(store) == set()
    assert times.changes == 2


async def test_a_hold_on_the_timer_runs_by_the_core_s_clock(store: Store, metrics: Metrics, times: Times) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(silent(60, hold_s=120),), **times.services()) as running:
        with looking_often(running):
            times.hearing.connected(times.clock())
            running.tell("dev-001", body(), received_at_ms=times.at_ms())
            await running.receipt("dev-001", 1)

            await times.passes(running, 170)
            assert await open_rules(store) == set()
            await times.passes(running, 20)
            assert await open_rules(store) == {("dev-001", "silent")}


async def test_a_core_that_hears_nothing_calls_nobody_silent(store: Store, metrics: Metrics, times: Times) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(silent(60),), **times.services()) as running:
        with looking_often(running):
            times.hearing.connected(times.clock())
            running.tell("dev-001", body(), received_at_ms=times.at_ms())
            await running.receipt("dev-001", 1)
            times.hearing.cut_off()
            times.clock.now += 3600
            await looks(running, 4)

            assert await open_rules(store) == set()


async def test_after_a_restart_a_device_that_stays_silent_rings_in_due_time(
    store: Store, metrics: Metrics, times: Times
) -> None:
    await register(store, "dev-001")
    async with core(store, metrics) as before:
        before.tell("dev-001", body(), received_at_ms=times.at_ms())
        await before.receipt("dev-001", 1)

    async with core(store, metrics, rules=(silent(),), **times.services()) as running:
        with looking_often(running):
            times.hearing.connected(times.clock())
            await times.passes(running, 880)
            assert await open_rules(store) == set()
            await times.passes(running, 40)
            assert await open_rules(store) == {("dev-001", "silent")}


async def test_a_restart_does_not_end_a_silence(store: Store, metrics: Metrics, times: Times) -> None:
    await register(store, "dev-001")
    async with core(store, metrics) as before:
        before.tell("dev-001", body(), received_at_ms=times.at_ms())
        await before.receipt("dev-001", 1)
    await store.raise_alert("dev-001", "silent", "warning", Finding(""), NOON + timedelta(minutes=15))
    times.clock.now += 3600

    async with core(store, metrics, rules=(silent(),), **times.services()) as running:
        with looking_often(running):
            times.hearing.connected(times.clock())
            await times.passes(running, 60)
            assert await open_rules(store) == {("dev-001", "silent")}
    assert times.changes == 0


# --- changed while it runs


async def test_a_rule_that_comes_later_watches_the_devices_that_run(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=()) as running:
        running.tell("dev-001", gas(1, 350))
        await running.receipt("dev-001", 1)
        running.fleet.follow(running.fleet._drivers, (hotter_than(300),), ["hot"])
        running.tell("dev-001", gas(2, 350))
        await eventually_open(store, {("dev-001", "hot")})


async def test_a_device_that_comes_later_has_the_rules_too(store: Store, metrics: Metrics) -> None:
    (site,) = await register(store, "dev-001")
    async with core(store, metrics, rules=()) as running:
        running.fleet.follow(running.fleet._drivers, (hotter_than(300),), ["hot"])
        await store.add_device("dev-002", site.stack.id, "ct_v1")
        await running.sync()
        running.tell("dev-002", gas(1, 350))
        await eventually_open(store, {("dev-002", "hot")})


async def test_an_alert_that_nobody_configures_any_more_is_cleared(
    store: Store, metrics: Metrics, times: Times
) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(hotter_than(300),), alert_changed=times.changed) as running:
        running.tell("dev-001", gas(1, 350))
        await eventually_open(store, {("dev-001", "hot")})

        with looking_often(running):
            running.fleet.follow(running.fleet._drivers, (), [])
            await eventually_open(store, set())
    assert times.changes == 2


async def test_an_alert_whose_plugin_is_away_stays_open(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(hotter_than(300),)) as running:
        running.tell("dev-001", gas(1, 350))
        await eventually_open(store, {("dev-001", "hot")})

        with looking_often(running):
            running.fleet.follow(running.fleet._drivers, (), ["hot"])
            running.tell("dev-001", gas(2, 20))
            await running.receipt("dev-001", 2)
            await looks(running)
            assert await open_rules(store) == {("dev-001", "hot")}

            running.fleet.follow(running.fleet._drivers, (hotter_than(300),), ["hot"])
            running.tell("dev-001", gas(3, 20))
            await eventually_open(store, set())


async def test_an_alert_that_went_from_the_configuration_while_the_core_was_down_is_cleared(
    store: Store, metrics: Metrics
) -> None:
    await register(store, "dev-001")
    await store.raise_alert("dev-001", "of-yesterday", "warning", Finding(""), NOON)
    async with core(store, metrics, rules=(hotter_than(300),)) as running:
        with looking_often(running):
            await eventually_open(store, set())


async def test_a_rule_keeps_its_memory_until_its_options_change(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    two = hotter_than(300), hotter_than(300, "other")
    async with core(store, metrics, rules=two) as running:
        running.tell("dev-001", gas(1, 20))
        await running.receipt("dev-001", 1)
        await eventually(lambda: asked(running) == {"hot": 1, "other": 1})

        running.fleet.follow(running.fleet._drivers, (two[0], hotter_than(301, "other")), ["hot", "other"])
        running.tell("dev-001", gas(2, 20))
        await eventually(lambda: asked(running) == {"hot": 2, "other": 1})


def asked(running: Core) -> dict[str, int]:
    memories = running.fleet._actors["dev-001"]._memories
    return {name: memory.get("asked", 0) for name, memory in memories.items()}


async def test_other_options_begin_a_hold_anew(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    held = replace(hotter_than(300), hold_s=60.0)
    async with core(store, metrics, rules=(held,)) as running:

        async def gas_is_hot(seq: int, after_s: int) -> None:
            at_ms = NOON_MS + 1000 * after_s
            row = [0, 0, 1, 98_000 + seq, 350.0, 4.0, 80.0, 0]
            running.tell("dev-001", body(seq=seq, at_ms=at_ms, rows=[row]), received_at_ms=at_ms)
            await running.receipt("dev-001", seq)

        await gas_is_hot(1, after_s=0)
        running.fleet.follow(running.fleet._drivers, (replace(hotter_than(310), hold_s=60.0),), ["hot"])
        await gas_is_hot(2, after_s=50)
        await gas_is_hot(3, after_s=100)
        assert await open_rules(store) == set()

        await gas_is_hot(4, after_s=115)
        await eventually_open(store, {("dev-001", "hot")})


async def test_another_driver_reads_the_next_message(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", sensor="later")
    ct_v1 = load_plugins().contributions.sensors["ct_v1"]
    async with core(store, metrics, rules=()) as running:
        running.tell("dev-001", body())
        await eventually(lambda: running.outcomes()["quarantined"] == 1)
        running.fleet.follow({"later": SensorDriver("later", "as ct_v1", ct_v1.decode)}, (), [])
        running.tell("dev-001", body(seq=2))
        await eventually(lambda: running.outcomes()["committed"] == 1)


async def test_a_driver_that_is_as_it_was_changes_nothing(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", "dev-002", sensor="nobody-brings-it")
    (site, *_) = await store.sites()
    async with core(store, metrics, rules=()) as running:
        with running.live.subscribe(site.factory.id) as watched:
            running.fleet.follow(running.fleet._drivers, (), [])
            assert watched._changed == {}


async def test_the_alerts_of_a_device_that_is_disabled_are_cleared(
    store: Store, metrics: Metrics, times: Times
) -> None:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics, rules=(hotter_than(300),), alert_changed=times.changed) as running:
        for name in ("dev-001", "dev-002"):
            running.tell(name, gas(1, 350))
        await eventually_open(store, {("dev-001", "hot"), ("dev-002", "hot")})
        await store.change_device("dev-001", status=DeviceStatus.DISABLED)
        await running.sync()

        assert await open_rules(store) == {("dev-002", "hot")}
    assert times.changes == 3, "two were raised, and one was cleared"


async def test_late_data_raises_no_alert_and_the_rules_do_not_see_it(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(hotter_than(300),)) as running:
        running.fleet.tell(Payload("dev-001", "backlog", gas(1, 350), NOON_MS + 500))
        await running.receipt("dev-001", 1)

        assert asked(running) == {}
    assert await store.alerts(only_open=False) == []


async def eventually_open(store: Store, rules: set[tuple[str | None, str]]) -> None:
    async def as_wanted() -> bool:
        return await open_rules(store) == rules

    await eventually(as_wanted, f"never open: {rules}")
