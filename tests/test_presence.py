"""Nobody is called offline or a flood who is not, and what is declared lost does not overtake what came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from carbontrack.device import FEW, RETURN_S, Hearing
from carbontrack.metrics import Metrics
from carbontrack.overload import BURST_S, Allowance, Drain
from carbontrack.store import Store
from tests.support.world import (
    NOON,
    NOON_MS,
    Clock,
    Core,
    birth,
    body,
    core,
    eventually,
    kept,
    register,
    will,
)

pytest_plugins = ["tests.support.world"]

HOUR_MS = 3_600_000


# --- called offline


@asynccontextmanager
async def hearing_all(store: Store, metrics: Metrics, *names: str) -> AsyncIterator[tuple[Core, Hearing, Clock]]:
    """A core that has just connected to the broker and has heard each of these devices."""
    await register(store, *names)
    clock, hearing = Clock(), Hearing()
    async with core(store, metrics, monotonic=clock, hearing=hearing, offline_after_s=30.0) as running:
        hearing.connected(clock())
        hearing.heard(clock())
        for name in names:
            running.fleet._actors[name].idle_after_s = 0.01
            running.fleet._actors[name]._await_idle(asyncio.get_running_loop())
            running.tell(name, body())
        for name in names:
            await running.receipt(name, 1)
        yield running, hearing, clock


@pytest.fixture
async def heard(store: Store, metrics: Metrics) -> AsyncIterator[tuple[Core, Hearing, Clock]]:
    async with hearing_all(store, metrics, "dev-001", "dev-002") as everything:
        yield everything


def online(running: Core) -> set[str]:
    return {name for name, snapshot in running.fleet.snapshots().items() if snapshot.online}


async def looks(running: Core, times: int = 4) -> None:
    """Return when each device has been looked at some times more."""
    before = {name: actor.looks for name, actor in running.fleet._actors.items()}
    await eventually(lambda: all(actor.looks >= before[name] + times for name, actor in running.fleet._actors.items()))


async def test_nobody_is_offline_while_the_core_itself_is_cut_off(heard: tuple[Core, Hearing, Clock]) -> None:
    running, hearing, clock = heard
    hearing.cut_off()
    clock.now += 3600

    await looks(running)
    assert online(running) == {"dev-001", "dev-002"}

    hearing.connected(clock())
    clock.now += 10
    hearing.heard(clock())
    await looks(running)
    assert online(running) == {"dev-001", "dev-002"}, "they have not had the time to come back"

    running.tell("dev-001", body(seq=2, at_ms=NOON_MS + HOUR_MS))
    clock.now += 25
    hearing.heard(clock())
    await running.receipt("dev-001", 2)
    await eventually(lambda: "dev-002" not in online(running))
    assert online(running) == {"dev-001"}


async def test_nobody_is_offline_while_the_link_to_the_broker_is_dead_and_nobody_knows(
    heard: tuple[Core, Hearing, Clock],
) -> None:
    """A cable that was pulled out is noticed by MQTT after two keep-alives."""
    running, hearing, clock = heard
    clock.now += 45

    await looks(running)
    assert online(running) == {"dev-001", "dev-002"}

    hearing.heard(clock())  # somebody else is heard: the link is there
    await eventually(lambda: not online(running))


async def test_a_device_that_is_the_only_one_is_offline_all_the_same(heard: tuple[Core, Hearing, Clock]) -> None:
    running, _, clock = heard
    for _ in range(10):
        clock.now += 10
        await looks(running)

    assert not online(running)


async def test_a_core_that_stood_still_does_not_blame_the_devices(heard: tuple[Core, Hearing, Clock]) -> None:
    """After a stop of the process its timers fire before what waits in its socket is read."""
    running, hearing, clock = heard
    await looks(running)
    clock.now += 40
    hearing.heard(clock())

    await looks(running, 1)
    assert online(running) == {"dev-001", "dev-002"}


async def test_who_is_heard_right_after_another_when_the_link_goes_on_was_never_silent(
    heard: tuple[Core, Hearing, Clock],
) -> None:
    """A link that stood still gives at once what waited in it, one message after the other."""
    running, hearing, clock = heard
    for _ in range(3):
        clock.now += 15
        await looks(running, 1)
    actor = running.fleet._actors["dev-002"]
    actor.idle_after_s = 3600
    actor._await_idle(asyncio.get_running_loop())

    async def look() -> None:
        before = actor.looks
        actor._be_idle()
        await eventually(lambda: actor.looks > before)

    hearing.heard(clock())
    await look()
    assert actor.snapshot.online

    running.tell("dev-002", body(seq=2, at_ms=NOON_MS + HOUR_MS))
    await running.receipt("dev-002", 2)
    await look()
    assert actor.snapshot.online

    clock.now += 15
    await look()
    clock.now += 16
    hearing.heard(clock())
    await look()
    assert actor.snapshot.online
    await look()
    assert not actor.snapshot.online, "silence was seen twice"


async def test_a_core_that_starts_again_calls_nobody_offline_who_was_there_when_it_ended(
    store: Store, metrics: Metrics
) -> None:
    await register(store, "dev-001", "dev-002", "dev-003")
    async with core(store, metrics) as running:
        running.tell("dev-001", body(), received_at_ms=NOON_MS)
        running.tell("dev-002", body(at_ms=NOON_MS + HOUR_MS), received_at_ms=NOON_MS + HOUR_MS)
        await running.receipt("dev-001", 1)
        await running.receipt("dev-002", 1)

    clock, hearing = Clock(), Hearing()
    async with core(store, metrics, monotonic=clock, hearing=hearing, offline_after_s=30.0) as running:
        assert online(running) == {"dev-002"}, "the other was silent for an hour; the third was never there"
        for actor in running.fleet._actors.values():
            actor.idle_after_s = 0.01
            actor._await_idle(asyncio.get_running_loop())
        hearing.connected(clock())
        for _ in range(4):
            clock.now += 9
            hearing.heard(clock())
            await looks(running)
        assert online(running) == set(), "it did not come back"


# --- accused


def test_a_clock_that_is_set_back_makes_no_flood() -> None:
    allowance = Allowance()
    assert allowance.takes(NOON_MS, 20.0)

    answers = [allowance.takes(NOON_MS - HOUR_MS + 5000 * n, 20.0) for n in range(100)]

    assert all(answers)
    assert allowance.flood("dev-001", NOON_MS, 20.0) is None


def test_what_a_broker_queued_for_a_day_is_no_flood() -> None:
    allowance = Allowance()
    assert allowance.takes(NOON_MS, 20.0)
    back_ms = NOON_MS + 24 * HOUR_MS

    assert all(allowance.takes(back_ms + n // 10, 20.0) for n in range(17_280))
    assert allowance.flood("dev-001", back_ms, 20.0) is None


async def test_what_a_broker_queued_while_the_core_was_away_is_no_flood(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics) as running:
        running.tell("dev-001", body())
        await running.receipt("dev-001", 1)

    async with core(store, metrics, mailbox_size=10_000) as running:
        answers = {
            running.tell("dev-001", body(seq=2 + n, at_ms=NOON_MS + 5000 * n), received_at_ms=NOON_MS + 24 * HOUR_MS)
            for n in range(2 * int(20 * BURST_S))
        }
        assert answers == {"delivered"}
        assert running.fleet.floods(NOON_MS + 24 * HOUR_MS) == []


def test_a_store_of_whatever_fleet_is_drained_at_some_rate() -> None:
    drain = Drain(5.0, 200.0)
    for number in range(10_000):
        drain.note(f"dev-{number}")
    for _ in range(20):
        drain.adjust(waited_s=30.0)

    assert drain.credit("dev-0") >= 0.01, "with none at all it would wait for ever"


async def test_a_device_that_fails_by_itself_does_not_slow_the_others(
    store: Store, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store, "dev-001", "dev-002")
    clock = Clock()
    async with core(store, metrics, monotonic=clock) as running:
        actor = running.fleet._actors["dev-001"]

        async def defect(*_: object) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(type(actor.intake), "take_state", defect)
        running.tell("dev-001", birth(), "state")
        await eventually(lambda: actor.failures > 0)
        clock.now += 60

        assert running.fleet.waiting_since() is None


async def test_a_device_whose_clock_is_slow_has_no_outage_without_end(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    clock = Clock()
    async with core(store, metrics, monotonic=clock) as running:
        for seq in range(1, 200):  # five minutes slow, every 5 s
            running.tell("dev-001", body(seq=seq, at_ms=NOON_MS + 5000 * seq - 300_000), "data", NOON_MS + 5000 * seq)
            await running.receipt("dev-001", seq)
            clock.now += 5

    spans = [(found.until - found.since).total_seconds() for found in await store.recoveries(NOON - timedelta(hours=1))]
    assert all(span <= 300 for span in spans), "what was measured before the core began; the rest is no outage"


# --- lost


async def test_what_a_device_declares_lost_does_not_overtake_what_it_sent_before(
    store: Store, metrics: Metrics
) -> None:
    """A full store overwrites its oldest records while they wait here, in the lane of the backlog."""
    await register(store, "dev-001")
    async with core(store, metrics) as running:
        running.tell("dev-001", body(seq=1, count=60), "backlog")
        gap = {"cols": ["ds", "dt", "tq", "from", "to", "why"], "rows": [[0, 0, 1, 1, 60, "full"]]}
        running.tell("dev-001", body(seq=61, g=gap, rows=[], s=None))
        await running.receipt("dev-001", 61)
        running.tell("dev-001", body(seq=62, count=60, at_ms=NOON_MS + HOUR_MS), "backlog")
        running.tell("dev-001", birth(first=122), "state")
        await running.receipt("dev-001", 121)

    assert sorted(row.seq for row in await kept(store)) == [*range(1, 61), *range(62, 122)]


# --- restarts


async def test_who_was_there_when_the_core_stopped_is_not_called_offline_by_the_next_one(
    store: Store, metrics: Metrics
) -> None:
    await register(store, "dev-001", "dev-002", "dev-003")
    async with core(store, metrics) as before:
        with before.live.subscribe(None) as watcher:
            before.tell("dev-001", body(), received_at_ms=NOON_MS)
            before.tell("dev-002", body(), received_at_ms=NOON_MS + HOUR_MS)
            before.tell("dev-003", body(), received_at_ms=NOON_MS + HOUR_MS - 10_000)
            for name in ("dev-001", "dev-002", "dev-003"):
                await before.receipt(name, 1)
            await before.fleet.close()

            assert all(change.online for change in await watcher.changes()), "it stops, and they do not"

    async with core(store, metrics) as after:
        assert online(after) == {"dev-002", "dev-003"}


async def test_a_device_that_is_removed_is_shown_as_gone(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics) as running:
        running.tell("dev-001", body())
        await running.receipt("dev-001", 1)
        with running.live.subscribe(None) as watcher:
            await store.remove_device("dev-001")
            await running.sync()

            assert [change.online for change in await watcher.changes()] == [False]


# --- last wills


async def test_a_last_will_counts_when_nothing_else_came_for_some_seconds(heard: tuple[Core, Hearing, Clock]) -> None:
    running, hearing, clock = heard
    patient(running)
    running.tell("dev-001", will(), "state")
    await looks(running)
    assert online(running) == {"dev-001", "dev-002"}

    clock.now += 5
    hearing.heard(clock())
    await looks(running)
    assert online(running) == {"dev-002"}


async def test_who_is_heard_again_after_its_will_was_never_gone(heard: tuple[Core, Hearing, Clock]) -> None:
    running, hearing, clock = heard
    patient(running)
    running.tell("dev-001", will(conn=1), "state")
    await looks(running)
    running.tell("dev-001", birth(conn=2), "state")
    clock.now += 5
    hearing.heard(clock())

    await looks(running)
    assert online(running) == {"dev-001", "dev-002"}


async def test_a_will_from_before_the_core_itself_was_cut_off_counts_for_nothing(
    heard: tuple[Core, Hearing, Clock],
) -> None:
    running, hearing, clock = heard
    patient(running)
    for name in ("dev-001", "dev-002"):
        running.tell(name, will(), "state")
    await looks(running)
    hearing.cut_off()
    clock.now += 2
    hearing.connected(clock())
    clock.now += 5
    hearing.heard(clock())

    await looks(running)
    assert online(running) == {"dev-001", "dev-002"}


MANY = {f"dev-{number:03}" for number in range(1, FEW + 3)}


@pytest.fixture
async def many(store: Store, metrics: Metrics) -> AsyncIterator[tuple[Core, Hearing, Clock]]:
    """More than a few, who have been there for long."""
    async with hearing_all(store, metrics, *sorted(MANY)) as (running, hearing, clock):
        patient(running)
        clock.now += RETURN_S + 1
        yield running, hearing, clock


def back(hearing: Hearing, clock: Clock) -> None:
    """The core loses the broker, and is connected again 2 s later."""
    hearing.cut_off()
    clock.now += 2
    hearing.connected(clock())


async def will_of(running: Core, clock: Clock, hearing: Hearing, names: set[str]) -> None:
    """The broker sends the last wills of these devices, and nothing else comes for as long as a will waits."""
    for name in names:
        running.tell(name, will(), "state")
    await looks(running)
    clock.now += 5
    hearing.heard(clock())
    await looks(running)


async def test_the_wills_of_a_broker_that_is_restarted_leave_each_device_its_time_to_come_back(
    many: tuple[Core, Hearing, Clock],
) -> None:
    running, hearing, clock = many
    back(hearing, clock)
    await will_of(running, clock, hearing, MANY)
    assert online(running) == MANY

    clock.now += 20
    running.tell("dev-001", birth(conn=2), "state")
    hearing.heard(clock())
    await looks(running)
    assert online(running) == MANY, "25 s after the broker came back"

    clock.now += 10
    hearing.heard(clock())
    await looks(running)
    assert online(running) == {"dev-001"}, "the others did not come back within offline_after_s"


async def test_wills_count_as_the_broker_s_whether_the_core_hears_them_before_or_after_its_own_return(
    many: tuple[Core, Hearing, Clock],
) -> None:
    running, hearing, clock = many
    last = {"dev-001"}
    for name in MANY - last:
        running.tell(name, will(), "state")
    await looks(running)
    back(hearing, clock)
    await will_of(running, clock, hearing, last)

    assert online(running) == MANY


async def test_who_comes_back_before_its_will_is_read_is_counted_among_those_of_the_broker(
    many: tuple[Core, Hearing, Clock],
) -> None:
    running, hearing, clock = many
    back(hearing, clock)
    last = {"dev-001"}
    for name in MANY - last:
        running.tell(name, will(conn=1), "state")
        running.tell(name, birth(conn=2), "state")
    await will_of(running, clock, hearing, last)

    assert online(running) == MANY


async def test_a_few_who_leave_just_when_the_core_comes_back_are_gone(many: tuple[Core, Hearing, Clock]) -> None:
    running, hearing, clock = many
    back(hearing, clock)
    few = set(sorted(MANY)[:FEW])
    await will_of(running, clock, hearing, few)

    assert online(running) == MANY - few


async def test_all_who_leave_while_the_core_stays_connected_are_gone(many: tuple[Core, Hearing, Clock]) -> None:
    """A site's own link to the broker went down."""
    running, hearing, clock = many
    await will_of(running, clock, hearing, MANY)

    assert online(running) == set()


async def test_the_wills_that_the_broker_keeps_of_those_who_left_long_ago_excuse_nobody(
    many: tuple[Core, Hearing, Clock],
) -> None:
    running, hearing, clock = many
    last = {"dev-001"}
    await will_of(running, clock, hearing, MANY - last)
    clock.now += 3600
    running.tell("dev-001", body(seq=2))
    await running.receipt("dev-001", 2)
    back(hearing, clock)
    await will_of(running, clock, hearing, MANY)

    assert online(running) == set()


async def test_a_device_that_says_goodbye_is_offline_at_once(heard: tuple[Core, Hearing, Clock]) -> None:
    running, _, _ = heard
    patient(running)
    running.tell("dev-001", json.dumps({"v": 1, "online": False, "conn": 1, "why": "stopped"}).encode(), "state")

    await eventually(lambda: online(running) == {"dev-002"})


def patient(running: Core) -> None:
    """Let last wills wait, as they do outside of the tests."""
    for actor in running.fleet._actors.values():
        actor._services = replace(actor._services, will_after_s=5.0)
