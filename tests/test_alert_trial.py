"""A rule tried against what is kept: the same firings as a running core would have had, late data included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from carbontrack import alert_trial
from carbontrack.alert_trial import Bounds, LateAlerts, TrialResult, try_rule
from carbontrack.alerts import RuleInstance, Scope
from carbontrack.hookspecs import AlertRule, Observation, SensorDriver, Verdict
from carbontrack.hours_of_day import Hours
from carbontrack.metrics import Metrics
from carbontrack.model import Payload, Reading, Site
from carbontrack.plugins import load_plugins
from carbontrack.plugins.alerts.silence import SILENCE
from carbontrack.store import Store
from carbontrack.tasks import end
from tests.support.world import NAIROBI, NOON, NOON_MS, body, core, eventually, reading, register, work
from tests.test_device_rules import Times, hotter_than, looking_often

pytest_plugins = ["tests.support.world"]

Rule = RuleInstance[AlertRule]
HOUR = timedelta(hours=1)


def hot(hold_s: float = 60.0, above: float = 300.0) -> Rule:
    return replace(hotter_than(above), hold_s=hold_s)


async def keep(store: Store, rows: Iterable[Reading], device_id: str = "dev-001") -> None:
    """Keep rows as a device's actor does, with its stream."""
    stream = await store.open_stream(device_id, "9f3c21aa")
    kept = [replace_row(row, stream_pk=stream.pk) for row in rows]
    await store.save(work(kept, device_id))


def replace_row(row: Reading, **changed: Any) -> Reading:
    return msgspec.structs.replace(row, **changed)


def gas(seq: int, temperature_c: float, every_s: float = 20.0, late_s: float = 0.25) -> Reading:
    at = NOON + timedelta(seconds=every_s * seq)
    return reading(seq, at, temperature_c=temperature_c, received_at=at + timedelta(seconds=late_s))


async def tried(store: Store, rule: Rule, sites: list[Site], **bounds: Any) -> TrialResult:
    return await try_rule(store, rule, sites, NOON - HOUR, NOON + 23 * HOUR, Bounds(**bounds))


async def test_it_says_when_it_would_have_fired_and_for_how_long(store: Store) -> None:
    sites = await register(store, "dev-001")
    temperatures = [200] * 5 + [350] * 10 + [200] * 5 + [350] * 2 + [200] * 3 + [350] * 10
    await keep(store, [gas(number, value) for number, value in enumerate(temperatures, 1)])

    found = await tried(store, hot(), sites)

    one, two = found.firings
    assert (one.raised_at, one.cleared_at) == (NOON + timedelta(seconds=180), NOON + timedelta(seconds=320))
    assert (two.raised_at, two.cleared_at) == (NOON + timedelta(seconds=580), None), "it would still fire"
    assert one.site.device.device_id == "dev-001"
    assert not one.is_late
    assert one.finding.message
    assert (found.readings, found.devices, found.late_readings, found.errors, found.cut) == (35, 1, 0, 0, "")
    assert await store.alerts(only_open=False) == [], "nothing is raised by a trial"


async def test_a_running_core_fires_at_the_same_moments(store: Store, metrics: Metrics) -> None:
    """The trial and the actor step the same rule: what one says of a day the other has done."""
    sites = await register(store, "dev-001")
    temperatures = [200, 350, 350, 350, 350, 250, 350, 200, 350, 350, 350, 350, 350, 200]
    async with core(store, metrics, rules=(hot(),)) as running:
        for seq, value in enumerate(temperatures, 1):
            at_ms = NOON_MS + 20_000 * seq
            row = [0, 0, 1, 98_000 + seq, value, 4.0, 80.0, 0]
            running.tell("dev-001", body(seq=seq, at_ms=at_ms, rows=[row]), received_at_ms=at_ms + 250)
            await running.receipt("dev-001", seq)

        async def all_cleared() -> bool:
            every = await store.alerts(only_open=False)
            return len(every) == 2 and all(alert.cleared_at for alert in every)

        await eventually(all_cleared)
    raised = [(alert.raised_at, alert.cleared_at) for alert in await store.alerts(only_open=False)][::-1]

    found = await tried(store, hot(), sites)

    assert [(firing.raised_at, firing.cleared_at) for firing in found.firings] == raised


async def test_only_stacks_and_hours_in_scope_are_tried(store: Store) -> None:
    sites = await register(store, "dev-001", "dev-002")
    for number, site in enumerate(sites):
        rows = [replace_row(gas(seq, 350), stack_id=site.stack.id) for seq in range(1, 9)]
        await keep(store, rows, f"dev-00{number + 1}")

    other = await tried(store, replace(hot(), scope=Scope(devices=frozenset({"dev-002"}))), sites)
    evening = Hours((NOON + 2 * HOUR).astimezone(NAIROBI).time(), (NOON + 5 * HOUR).astimezone(NAIROBI).time(), NAIROBI)
    later = await tried(store, replace(hot(), scope=Scope(hours=evening)), sites)

    assert [firing.site.device.device_id for firing in other.firings] == ["dev-002"]
    assert later.firings == ()


async def test_late_readings_are_marked(store: Store) -> None:
    sites = await register(store, "dev-001")
    await keep(store, [gas(seq, 350, late_s=7200) for seq in range(1, 9)])

    found = await tried(store, hot(), sites)

    assert [firing.is_late for firing in found.firings] == [True]
    assert found.late_readings == 8


async def test_a_silence_is_as_long_as_it_would_have_been_heard(store: Store) -> None:
    """Readings of an hour that come two hours later, out of the device's store, do not fill its silence."""
    sites = await register(store, "dev-001")
    minutes = [gas(seq, 200, every_s=60) for seq in range(60)]
    outage = [gas(seq, 200, every_s=60, late_s=(121 - seq) * 60) for seq in range(60, 121)]
    after = [gas(seq, 200, every_s=60) for seq in range(121, 180)]
    await keep(store, [*minutes, *outage, *after])
    silent = RuleInstance("silent", SILENCE, SILENCE.options_model(after_s=900.0), "warning", 0.0)

    found = await try_rule(store, silent, sites, NOON, NOON + 3 * HOUR)

    (one,) = found.firings
    heard_last = NOON + timedelta(minutes=59)
    assert timedelta(seconds=900) <= one.raised_at - heard_last <= timedelta(seconds=920)
    assert one.cleared_at is not None
    assert NOON + timedelta(minutes=121) <= one.cleared_at <= NOON + timedelta(minutes=122)
    assert not one.is_late


async def test_a_rule_that_fails_is_counted_and_the_trial_goes_on(store: Store) -> None:
    sites = await register(store, "dev-001")
    await keep(store, [gas(seq, 350) for seq in range(1, 5)])

    def fails(_options: Any, _seen: Observation) -> Verdict:
        raise ValueError("no")

    rule = RuleInstance("fails", AlertRule("fails", "Fails", BaseModel, fails), None, "info", 0.0)
    found = await tried(store, rule, sites)

    assert (found.errors, found.firings, found.readings) == (4, (), 4)


async def test_a_trial_that_would_take_too_much_ends_and_says_so(store: Store) -> None:
    sites = await register(store, "dev-001")
    await keep(store, [gas(seq, 350) for seq in range(1, 9)])

    assert "more than 5 readings" in (await tried(store, hot(), sites, readings=5)).cut

    gate = threading.Event()

    def stuck(_options: Any, _seen: Observation) -> Verdict:
        gate.wait()
        return Verdict(breached=False, cleared=True)

    rule = RuleInstance("slow", AlertRule("slow", "Slow", BaseModel, stuck), None, "info", 0.0)
    try:
        assert "longer than" in (await tried(store, rule, sites, time_s=0.05)).cut
    finally:
        gate.set()


async def test_a_trial_can_be_cancelled(store: Store) -> None:
    sites = await register(store, "dev-001")
    running = asyncio.create_task(try_rule(store, hot(), sites, NOON - 30 * 24 * HOUR, NOON))
    await asyncio.sleep(0)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_rule_that_flaps_is_counted_and_does_not_fill_the_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = await register(store, "dev-001")
    await keep(store, [gas(seq, 350 if seq % 2 else 200) for seq in range(1, 41)])
    monkeypatch.setattr(alert_trial, "MOST_FIRINGS", 5)

    found = await tried(store, hot(hold_s=0), sites)

    assert (found.fired, len(found.firings)) == (20, 5)
    assert all(firing.cleared_at == firing.raised_at + timedelta(seconds=20) for firing in found.firings)
    assert "first 5 times" in found.cut


# --- what late readings would have raised


async def kept_history(store: Store) -> list[tuple[datetime, datetime | None, bool]]:
    return [(alert.raised_at, alert.cleared_at, alert.is_late) for alert in await store.alerts(only_open=False)]


async def test_an_outage_whose_readings_come_later_is_in_the_history_and_nobody_is_told(
    store: Store, metrics: Metrics
) -> None:
    await register(store, "dev-001")
    times, late = Times(), LateAlerts(store)
    two_hours_later = NOON_MS + 7_200_000
    async with core(store, metrics, rules=(hot(),), **times.services(late=late.note)) as running:
        late.rules_for = running.fleet.rules_for
        for seq, value in enumerate([200, 350, 350, 350, 350, 350, 200, 200], 1):
            row = [0, 0, 1, 98_000 + seq, value, 4.0, 80.0, 0]
            content = body(seq=seq, at_ms=NOON_MS + 20_000 * seq, rows=[row])
            running.fleet.tell(Payload("dev-001", "backlog", content, two_hours_later))
            await running.receipt("dev-001", seq)
        assert await kept_history(store) == []

        with looking_often(running):
            times.clock.now += 20
            await eventually(lambda: bool(late._waiting))
        assert await late.look() == 1

    assert await kept_history(store) == [(NOON + timedelta(seconds=100), NOON + timedelta(seconds=140), True)]
    assert await store.alerts() == [], "it is no open one"
    assert await store.cases() == [], "nobody is to be told of it"


async def test_it_is_looked_for_beside_the_core_as_outages_come(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, [gas(seq, 350, late_s=7200) for seq in range(1, 9)])
    late = LateAlerts(store)
    late.rules_for = lambda _: (hot(),)
    looking = asyncio.create_task(late.keep())
    try:
        await eventually(lambda: late._has_caught_up)
        late.note(site, NOON, NOON + timedelta(seconds=200))

        async def is_there() -> bool:
            return len(await kept_history(store)) == 1

        await eventually(is_there)
    finally:
        await end(looking)


async def test_the_same_outage_twice_is_one_alert(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, [gas(seq, 350, late_s=7200) for seq in range(1, 9)])
    late = LateAlerts(store)
    late.rules_for = lambda _: (hot(),)
    for _ in range(2):
        late.note(site, NOON, NOON + timedelta(seconds=200))
        await late.look()

    ((raised_at, cleared_at, is_late),) = await kept_history(store)
    assert (raised_at, is_late) == (NOON + timedelta(seconds=80), True)
    assert cleared_at == NOON + timedelta(seconds=200), "it is told as over with what is known, and never open"


async def test_what_was_raised_in_time_is_not_raised_again_by_what_came_late(store: Store) -> None:
    """The breach began before the outage, in readings that came in time: its alert is there already."""
    (site,) = await register(store, "dev-001")
    in_time, rest = [gas(seq, 350) for seq in range(1, 9)], [gas(seq, 350, late_s=7200) for seq in range(9, 20)]
    await keep(store, [*in_time, *rest])
    late = LateAlerts(store)
    late.rules_for = lambda _: (hot(),)
    late.note(site, rest[0].measured_at, rest[-1].measured_at)

    assert await late.look() == 0


async def test_a_rule_on_the_timer_is_not_asked_of_late_readings(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, [gas(seq, 350, late_s=7200) for seq in range(1, 9)])
    late = LateAlerts(store)
    silent = RuleInstance("silent", SILENCE, SILENCE.options_model(after_s=10.0), "warning", 0.0)
    late.rules_for = lambda _: (silent,)
    late.note(site, NOON, NOON + timedelta(seconds=200))

    assert await late.look() == 0


async def test_a_core_that_ended_before_it_looked_does_so_after_its_start(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, [gas(seq, 350, late_s=7200) for seq in range(1, 9)])
    await store.add_recovery("dev-001", site.factory.id, site.stack.id, NOON, NOON + timedelta(seconds=160), 8)
    late = LateAlerts(store)
    late.rules_for = lambda _: (hot(),)
    await late.catch_up()

    assert await late.look() == 1
    await late.catch_up()
    assert await late.look() == 0, "it is known by now"


async def test_an_outage_of_a_device_that_has_moved_is_not_looked_at(store: Store) -> None:
    (site,) = await register(store, "dev-001", factory_name="Kangaita")
    (other,) = await register(store, "dev-002", factory_name="Mungania")
    await store.add_recovery("dev-001", site.factory.id, site.stack.id, NOON, NOON + timedelta(seconds=160), 8)
    await store.change_device("dev-001", stack_id=other.stack.id)
    late = LateAlerts(store)
    await late.catch_up()

    assert not late._waiting


async def test_what_comes_out_of_quarantine_is_looked_at_as_well(store: Store, metrics: Metrics) -> None:
    """It came in time and could not be read; the rules saw nothing of it."""
    await register(store, "dev-001", sensor="later")
    ct_v1 = load_plugins().contributions.sensors["ct_v1"]
    late = LateAlerts(store)
    async with core(store, metrics, rules=(hot(),), late=late.note) as running:
        late.rules_for = running.fleet.rules_for
        rows = [[number, 20_000 * number, 1, 98_000 + number, 350.0, 4.0, 80.0, 0] for number in range(8)]
        running.tell("dev-001", body(seq=1, count=8, rows=rows), received_at_ms=NOON_MS + 160_000)
        await eventually(lambda: running.outcomes()["quarantined"] > 0)

        running.fleet.follow({"later": SensorDriver("later", "as ct_v1", ct_v1.decode)}, (hot(),), ["hot"])
        (item,) = await store.quarantined()
        await running.fleet.replay(item, 10.0)
        assert await late.look() == 1

    ((raised_at, _, is_late),) = await kept_history(store)
    assert (raised_at, is_late) == (NOON + timedelta(seconds=60), True)
