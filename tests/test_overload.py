"""No device can take what the others need: stores are drained at the rate that is granted, and a flood is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.actor import LATER_AT_ONCE, Actor
from carbontrack.metrics import Metrics
from carbontrack.overload import BURST_S, CALM_S, Allowance, Drain
from carbontrack.store import Store, Work
from carbontrack.store.work import Batch
from carbontrack.store.writer import GroupCommit
from tests.support.world import NOON, NOON_MS, Clock, Core, body, core, eventually, reading, register

pytest_plugins = ["tests.support.world"]

HOUR_MS = 3_600_000


# --- credits


def test_a_device_alone_gets_all_that_one_may_have() -> None:
    drain = Drain(5.0, 200.0)

    assert drain.credit("dev-001") == 5.0


def test_all_that_drain_share_what_there_is() -> None:
    drain = Drain(5.0, 200.0)
    for number in range(100):
        drain.note(f"dev-{number}")

    assert drain.credit("dev-0") == 2.0
    assert drain.credit("another") == pytest.approx(200 / 101, abs=1e-3)


def test_who_has_nothing_more_to_send_leaves_its_share_to_the_others() -> None:
    clock = Clock()
    drain = Drain(5.0, 10.0, clock)
    for name in ("dev-001", "dev-002", "dev-003", "dev-004"):
        drain.note(name)
    clock.now += 11
    drain.note("dev-001")

    drain.adjust(0.0)

    assert drain.draining == 1
    assert drain.credit("dev-001") == 5.0


def test_when_commits_lag_behind_the_stores_wait_first_and_come_back_slowly() -> None:
    drain = Drain(5.0, 5.0)

    drain.adjust(waited_s=2.0)
    halved = drain.credit("dev-001")
    for _ in range(20):
        drain.adjust(waited_s=30.0)
    least = drain.credit("dev-001")
    for _ in range(20):
        drain.adjust(waited_s=0.1)

    assert halved == 2.5
    assert least == 0.1, "never nothing at all"
    assert drain.credit("dev-001") == 5.0


@given(
    names=st.lists(st.integers(0, 400), min_size=1, max_size=300),
    most=st.floats(0.1, 100),
    total=st.floats(1, 1000),
    waits=st.lists(st.floats(0, 10), max_size=30),
)
def test_the_credits_of_all_that_drain_are_never_more_than_there_is(
    names: list[int], most: float, total: float, waits: list[float]
) -> None:
    drain = Drain(most, total)
    for name in names:
        drain.note(str(name))
    for waited_s in waits:
        drain.adjust(waited_s)

    granted = [drain.credit(str(name)) for name in set(names)]

    assert sum(granted) <= total + 0.001 * len(granted)
    assert all(0 <= credit <= most + 0.001 for credit in granted)


# --- floods


def test_what_a_broker_queued_for_an_hour_is_no_flood() -> None:
    allowance = Allowance()

    assert all(allowance.takes(NOON_MS, 20.0) for _ in range(720))
    assert allowance.flood("dev-001", NOON_MS, 20.0) is None


def test_a_device_that_sends_without_end_gets_its_rate_and_no_more() -> None:
    allowance = Allowance()
    taken = sum(allowance.takes(NOON_MS + at, 20.0) for at in range(300_000))  # 1000 a second for five minutes

    assert taken == pytest.approx(20 * (BURST_S + 300), abs=2)
    flood = allowance.flood("dev-001", NOON_MS + 300_000, 20.0)
    assert flood is not None
    assert flood.messages_per_s == pytest.approx(1000, rel=0.01)
    assert NOON_MS < flood.since_ms < NOON_MS + 10_000


def test_a_flood_is_over_a_minute_after_its_end() -> None:
    allowance = Allowance()
    for at in range(3000):
        allowance.takes(NOON_MS + at, 20.0)
    assert allowance.flood("dev-001", NOON_MS + 3000, 20.0) is not None

    assert allowance.flood("dev-001", NOON_MS + 3000 + round(1000 * CALM_S) + 1, 20.0) is None
    assert allowance.takes(NOON_MS + HOUR_MS, 20.0)


@pytest.fixture
async def running(store: Store, metrics: Metrics) -> AsyncIterator[Core]:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics, messages_per_s=1.0) as started:
        yield started


async def test_a_flooding_device_is_slowed_and_named_and_its_neighbour_is_not(running: Core) -> None:
    answers = [running.tell("dev-001", body(seq=seq), received_at_ms=NOON_MS + seq) for seq in range(1, 101)]

    assert answers.count("delivered") == BURST_S
    assert set(answers[60:]) == {"flooding"}
    assert running.tell("dev-002", body(), received_at_ms=NOON_MS + 100) == "delivered"
    await running.receipt("dev-001", 60)
    await running.receipt("dev-002", 1)
    (flood,) = running.fleet.floods(NOON_MS + 100)
    assert flood.device_id == "dev-001"

    again = [running.tell("dev-001", body(seq=seq), received_at_ms=NOON_MS + HOUR_MS) for seq in range(61, 101)]
    assert set(again) == {"delivered"}, "what was refused comes again, and nothing is lost"
    await running.receipt("dev-001", 100)
    assert running.fleet.floods(NOON_MS + HOUR_MS) == []


# --- two lanes


class Slow(Actor[str]):
    def __init__(self) -> None:
        super().__init__("slow", mailbox_size=100, idle_after_s=60, max_failures=3)
        self.handled: list[list[str]] = []
        self.go = asyncio.Event()

    async def handle(self, messages: list[str]) -> None:
        self.handled.append(messages)
        await self.go.wait()


async def test_what_is_live_does_not_wait_behind_the_backlog() -> None:
    actor = Slow()
    actor.start()
    for number in range(40):
        assert actor.tell(f"old {number}", later=True)
    await eventually(lambda: bool(actor.handled))

    assert actor.tell("live")
    actor.go.set()
    await eventually(lambda: sum(map(len, actor.handled)) == 41)
    await actor.stop()

    assert actor.handled[0] == [f"old {number}" for number in range(LATER_AT_ONCE)]
    assert actor.handled[1] == ["live"]
    assert [each for turn in actor.handled for each in turn if each != "live"] == [f"old {n}" for n in range(40)]


async def test_what_was_kept_gets_its_turn_though_something_live_always_waits() -> None:
    class Busy(Actor[str]):
        """Something live has come whenever it has finished with what came before."""

        def __init__(self) -> None:
            super().__init__("busy", mailbox_size=100, idle_after_s=60.0, max_failures=3)
            self.turns: list[list[str]] = []

        async def handle(self, messages: list[str]) -> None:
            self.turns.append(messages)
            if len(self.turns) < 20:
                self.tell("live")

    actor = Busy()
    for number in range(40):
        actor.tell(f"old {number}", later=True)
    actor.tell("live")
    actor.start()
    await eventually(lambda: sum(map(len, actor.turns)) == 60)
    await actor.stop()

    assert all("live" in turn for turn in actor.turns)
    old = [[each for each in turn if each != "live"] for turn in actor.turns]
    assert [each for turn in old for each in turn] == [f"old {number}" for number in range(40)]
    assert [len(turn) for turn in old[:6]] == [0, LATER_AT_ONCE, 0, LATER_AT_ONCE, 0, 40 - 2 * LATER_AT_ONCE]


async def test_a_transaction_that_is_full_of_live_readings_takes_some_of_what_was_kept() -> None:
    backend = Recording()
    commits = GroupCommit(backend, Metrics(), linger_s=0.0, max_batch_readings=2)
    commits.start()
    late = asyncio.create_task(commits.save(Work("old", 1, [reading(900)], late=True)))
    live = [asyncio.create_task(commits.save(Work("new", 1, [reading(seq)]))) for seq in range(6)]
    await eventually(lambda: bool(backend.batches))
    backend.go.set()
    await asyncio.gather(late, *live)
    await commits.close()

    assert backend.batches[0] == [0, 1, 900]


async def test_each_lane_has_its_own_bound() -> None:
    actor = Slow()

    assert [actor.tell("old", later=True) for _ in range(101)].count(True) == 100
    assert actor.tell("live")


class Recording:
    """A database that writes down in which order it got what."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def write(self, batch: Batch, *, trial: bool = False) -> Sequence[int]:
        self.batches.append([row.seq for row in batch.readings])
        await self.go.wait()
        return ()

    async def close(self) -> None: ...


async def test_live_readings_are_committed_before_backlog_that_waits_longer() -> None:
    database = Recording()
    commits = GroupCommit(database, Metrics(), linger_s=0, max_batch_readings=10)
    commits.start()
    first = asyncio.create_task(commits.save(Work("dev-001", 1, [reading(0)])))
    await eventually(lambda: bool(database.batches))
    old = [asyncio.create_task(commits.save(Work("dev-001", 1, [reading(100 + n)], late=True))) for n in range(15)]
    await asyncio.sleep(0)
    live = [asyncio.create_task(commits.save(Work("dev-002", 1, [reading(1 + n)]))) for n in range(3)]
    await asyncio.sleep(0)

    database.go.set()
    await asyncio.gather(first, *old, *live)
    await commits.close()

    assert database.batches[1] == [1, 2, 3, *range(100, 107)]
    assert database.batches[2] == list(range(107, 115))


# --- what was recovered


async def test_an_outage_is_told_when_its_readings_have_come(store: Store, metrics: Metrics) -> None:
    (site,) = await register(store, "dev-001")
    clock = Clock()
    async with core(store, metrics, monotonic=clock, offline_after_s=0.05) as running:
        later_ms = NOON_MS + 3 * HOUR_MS
        for part in range(3):
            old = body(seq=1 + 60 * part, count=60, at_ms=NOON_MS + part * 300_000)
            running.tell("dev-001", old, "backlog", later_ms)
        running.tell("dev-001", body(seq=181, at_ms=later_ms), received_at_ms=later_ms)
        await running.receipt("dev-001", 181)
        assert await store.recoveries(NOON) == []

        clock.now += 60
        await eventually(lambda: told(store))

    (found,) = await store.recoveries(NOON)
    assert (found.device_id, found.factory_id, found.stack_id) == ("dev-001", site.factory.id, site.stack.id)
    assert (found.since, found.until) == (NOON, NOON + timedelta(seconds=895))
    assert found.readings == 180, "the live one was not late"


async def test_two_outages_in_one_store_are_two(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics) as running:
        for seq, hour in ((1, 0), (61, 2)):
            old = body(seq=seq, count=60, at_ms=NOON_MS + hour * HOUR_MS)
            running.tell("dev-001", old, "backlog", NOON_MS + 5 * HOUR_MS)
            await running.receipt("dev-001", seq + 59)

    spans = [(found.since, found.until) for found in await store.recoveries(NOON)]
    assert sorted(spans) == [
        (NOON, NOON + timedelta(seconds=295)),
        (NOON + timedelta(hours=2), NOON + timedelta(hours=2, seconds=295)),
    ]


async def test_an_outage_that_a_restart_of_the_core_has_cut_in_two_is_one(store: Store) -> None:
    minute = timedelta(minutes=1)
    await store.add_recovery("dev-001", 1, 1, NOON, NOON + 30 * minute, 360)
    await store.add_recovery("dev-002", 2, 2, NOON, NOON + 30 * minute, 360)

    await store.add_recovery("dev-001", 1, 1, NOON + 31 * minute, NOON + 60 * minute, 300)

    (found,) = await store.recoveries(NOON, factory_id=1)
    assert (found.since, found.until, found.readings) == (NOON, NOON + 60 * minute, 660)


async def told(store: Store) -> bool:
    return bool(await store.recoveries(NOON))
