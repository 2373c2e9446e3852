"""The running devices: they are those of the registry, none disturbs another, and every reading is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from carbontrack.alerts import RuleInstance
from carbontrack.fleet import MOST_STRANGERS
from carbontrack.hookspecs import AlertRule, Observation, SensorDriver, Verdict
from carbontrack.metrics import Metrics
from carbontrack.model import DeviceStatus, Flag, Message, MonitoringPlan, Payload
from carbontrack.plugins import load_plugins
from carbontrack.store import Store, StoreUnavailable, Work
from carbontrack.tiers import readings
from tests.support.postgres import Postgres
from tests.support.world import (
    ALWAYS,
    COLUMNS,
    NOON,
    NOON_MS,
    Core,
    birth,
    body,
    choosing,
    core,
    eventually,
    kept,
    migrated_store,
    register,
    will,
)

pytest_plugins = ["tests.support.world"]


@pytest.fixture
async def running(store: Store, metrics: Metrics) -> AsyncIterator[Core]:
    """A fleet of two devices; the test runs once on each engine."""
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics) as parts:
        yield parts


async def stack_of(store: Store, device_id: str) -> int:
    return next(site.stack.id for site in await store.sites() if site.device.device_id == device_id)


async def seqs(store: Store, device_id: str) -> list[int]:
    return [row.seq for row in await kept(store, await stack_of(store, device_id))]


# --- the way of a message


async def test_a_message_is_committed_and_then_its_receipt_is_due(running: Core) -> None:
    assert running.tell("dev-001", body(seq=1, count=3)) == "delivered"

    await running.receipt("dev-001", 3)

    assert await seqs(running.store, "dev-001") == [1, 2, 3]
    assert await seqs(running.store, "dev-002") == []


async def test_the_rate_is_computed_with_the_plan_of_the_devices_stack(running: Core) -> None:
    running.tell("dev-001", body(rows=[[0, 0, 1, 100_000, 180.0, 4.0, 80.0, 0]]))
    await running.receipt("dev-001", 1)

    (row,) = await readings(running.store, [await stack_of(running.store, "dev-001")], *ALWAYS)

    # 10 % dry is 8.8 % wet; 0.9 x 4 m/s through 0.8 m; CO2 of 180 degC and 80 kPa weighs 0.934 kg/m3
    assert row.co2_kg_per_s == pytest.approx(0.088 * 0.9 * 4 * 0.50265 * 0.93448, rel=1e-4)
    assert row.measured_at == NOON
    assert row.received_at == NOON + timedelta(milliseconds=500)


async def test_a_message_that_comes_twice_is_committed_once_and_gets_its_receipt_again(running: Core) -> None:
    running.tell("dev-001", body(seq=1, count=2))
    await running.receipt("dev-001", 2)
    running.receipts.clear()

    running.tell("dev-001", body(seq=1, count=2))
    await running.receipt("dev-001", 2)

    assert await seqs(running.store, "dev-001") == [1, 2]
    assert running.outcomes() == {"received": 4, "committed": 2, "duplicate": 2, "quarantined": 0, "refused": 0}


async def test_the_receipt_waits_for_the_gap_to_close(running: Core) -> None:
    running.tell("dev-001", body(seq=5, count=2, at_ms=NOON_MS + 20_000), received_at_ms=NOON_MS + 30_000)
    await eventually(lambda: running.outcomes()["committed"] == 2)
    assert running.receipts == {}

    running.tell("dev-001", body(seq=1, count=4), "backlog")
    await running.receipt("dev-001", 6)

    assert await seqs(running.store, "dev-001") == [1, 2, 3, 4, 5, 6]


async def test_what_the_device_says_it_lost_does_not_hold_up_the_receipt(running: Core) -> None:
    running.tell("dev-001", birth(first=1), "state")
    running.tell("dev-001", body(seq=1))
    await running.receipt("dev-001", 1)

    running.tell("dev-001", birth(conn=2, first=100), "state")
    await running.receipt("dev-001", 99)


async def test_a_message_that_cannot_be_read_is_kept_and_its_numbers_are_receipted(running: Core) -> None:
    running.tell("dev-001", body(seq=1, count=3, rows=[[0, 0, 1, 98_000, 180.0, 4.0, 80.0, 0]]))

    await running.receipt("dev-001", 3)

    (item,) = await running.store.quarantined()
    assert (item.device_id, item.cause) == ("dev-001", "row_count_mismatch")
    assert running.outcomes()["quarantined"] == 3


async def test_two_streams_of_a_device_have_receipts_of_their_own(running: Core) -> None:
    running.tell("dev-001", body(seq=1, count=5, sid="0ld0ld00"), "backlog")
    running.tell("dev-001", body(seq=1, count=2, at_ms=NOON_MS + 60_000))

    await running.receipt("dev-001", 5, "0ld0ld00")
    await running.receipt("dev-001", 2)

    assert len(await seqs(running.store, "dev-001")) == 7


# --- the registry


async def test_a_device_that_is_registered_while_the_fleet_runs_is_taken_in(running: Core) -> None:
    site = (await running.store.sites())[0]
    assert running.tell("dev-003", body()) == "unknown_device"

    await running.store.add_device("dev-003", site.stack.id, "ct_v1")
    await running.sync()

    assert running.tell("dev-003", body()) == "delivered"
    await running.receipt("dev-003", 1)


async def test_a_device_that_is_disabled_is_refused_until_it_is_enabled(running: Core) -> None:
    await running.store.change_device("dev-001", status=DeviceStatus.DISABLED)
    await running.sync()

    assert running.tell("dev-001", body()) == "disabled_device"
    assert running.state("dev-001") == "disabled"
    assert running.gauge("carbontrack_actors", state="disabled") == 1
    assert running.fleet.strangers == {}

    await running.store.change_device("dev-001", status=DeviceStatus.ACTIVE)
    await running.sync()

    assert running.tell("dev-001", body()) == "delivered"
    await running.receipt("dev-001", 1)


async def test_a_device_that_is_removed_becomes_a_stranger(running: Core) -> None:
    await running.store.remove_device("dev-001")
    await running.sync()

    assert running.tell("dev-001", body()) == "unknown_device"
    assert "dev-001" not in running.fleet.states()
    assert "dev-001" not in running.fleet.snapshots()
    assert running.tell("dev-002", body()) == "delivered"


async def test_what_waits_for_a_removed_device_is_committed_first(running: Core) -> None:
    for seq in range(1, 6):
        running.tell("dev-001", body(seq=seq, at_ms=NOON_MS + seq))
    stack_id = await stack_of(running.store, "dev-001")
    await running.store.remove_device("dev-001")

    await running.sync()

    assert [row.seq for row in await kept(running.store, stack_id)] == [1, 2, 3, 4, 5]


async def test_a_device_that_moves_sends_to_its_new_stack_from_then_on(running: Core) -> None:
    running.tell("dev-001", body(seq=1))
    await running.receipt("dev-001", 1)
    old = await stack_of(running.store, "dev-001")
    new = await running.store.add_stack((await running.store.factories())[0].id, "New", MonitoringPlan())

    await running.store.change_device("dev-001", stack_id=new.id)
    await running.sync()
    running.tell("dev-001", body(seq=2))
    await running.receipt("dev-001", 2)

    assert [row.seq for row in await kept(running.store, old)] == [1]
    assert [row.seq for row in await kept(running.store, new.id)] == [2]
    assert running.fleet.snapshots()["dev-001"].stack_id == new.id


async def test_a_plan_that_is_added_counts_for_what_is_measured_from_then_on(running: Core) -> None:
    stack_id = await stack_of(running.store, "dev-001")
    wider = MonitoringPlan(valid_from=NOON + timedelta(seconds=5), diameter_m=1.6)

    await running.store.add_plan(stack_id, wider)
    await running.sync()
    running.tell("dev-001", body(count=2, rows=[[n, 5000 * n, 1, 98_000, 180.0, 4.0, 80.0, 0] for n in (0, 1)]))
    await running.receipt("dev-001", 2)

    before, after = [row.co2_kg_per_s for row in await readings(running.store, [stack_id], *ALWAYS)]
    assert before is not None
    assert after == pytest.approx(4 * before, rel=1e-5)


async def test_a_changed_driver_reads_the_next_message(running: Core) -> None:
    await running.store.change_device("dev-001", sensor="flat_json")
    await running.sync()

    running.tell("dev-001", b'{"co2_ppm": 98000, "temperature_c": 180, "velocity_ms": 4}')
    await eventually(lambda: running.outcomes()["committed"] == 1)


async def test_a_driver_that_nobody_brings_is_named_and_the_payload_is_kept(running: Core) -> None:
    await running.store.change_device("dev-001", sensor="from_a_lost_package")
    await running.sync()

    running.tell("dev-001", body())
    await eventually(lambda: running.outcomes()["quarantined"] == 1)

    (item,) = await running.store.quarantined()
    assert item.cause == "no_driver"
    assert "'from_a_lost_package'" in item.detail


async def test_syncing_without_a_change_restarts_nobody(running: Core) -> None:
    running.tell("dev-001", body())
    await running.receipt("dev-001", 1)
    actors = dict(running.fleet._actors)

    await running.sync()

    assert running.fleet._actors == actors


async def test_a_registry_that_cannot_be_read_while_devices_start_is_read_again(
    postgres: Postgres, metrics: Metrics
) -> None:
    async with migrated_store(postgres.new_url()) as store, core(store, metrics) as running:
        sites = await register(store, "dev-001")
        postgres.kill()
        with pytest.raises(StoreUnavailable):
            await running.fleet.sync(sites)
        postgres.start()

        await running.fleet.sync(sites)

        assert running.tell("dev-001", body()) == "delivered"
        await running.receipt("dev-001", 1)


# --- strangers


async def test_a_stranger_is_remembered_with_its_birth(running: Core) -> None:
    running.tell("dev-009", birth(), "state", NOON_MS)
    running.tell("dev-009", body(), received_at_ms=NOON_MS + 5000)

    stranger = running.fleet.strangers["dev-009"]

    assert (stranger.messages, stranger.first_seen_ms) == (2, NOON_MS)
    assert stranger.birth is not None
    assert stranger.birth.body == birth()


async def test_the_birth_of_a_stranger_counts_when_it_is_registered(running: Core) -> None:
    """It says with which number the device's store begins: without it no receipt would ever come."""
    running.tell("dev-009", birth(first=10), "state")
    await running.store.add_device("dev-009", await stack_of(running.store, "dev-001"), "ct_v1")

    await running.sync()
    running.tell("dev-009", body(seq=10))

    await running.receipt("dev-009", 10)
    assert running.fleet.strangers == {}
    assert running.fleet.snapshots()["dev-009"].online


async def test_the_birth_of_a_disabled_device_counts_when_it_is_enabled(running: Core) -> None:
    """As with a stranger: it is not born again only because somebody enabled it."""
    await running.store.change_device("dev-001", status=DeviceStatus.DISABLED)
    await running.sync()
    running.tell("dev-001", birth(first=10), "state")
    await running.store.change_device("dev-001", status=DeviceStatus.ACTIVE)
    await running.sync()

    running.tell("dev-001", body(seq=10))

    await running.receipt("dev-001", 10)


async def test_strangers_are_forgotten_when_there_are_too_many(running: Core) -> None:
    for number in range(MOST_STRANGERS + 10):
        running.tell(f"stranger-{number}", body())
        running.tell("stranger-0", body())  # who knocks again and again stays

    assert len(running.fleet.strangers) == MOST_STRANGERS
    assert "stranger-0" in running.fleet.strangers
    assert "stranger-1" not in running.fleet.strangers


# --- after a restart


async def test_a_restarted_fleet_goes_on_where_it_was(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics) as first:
        first.tell("dev-001", body(seq=1, count=3))
        await first.receipt("dev-001", 3)
        before = first.fleet.snapshots()["dev-001"]

    async with core(store, metrics) as second:
        await second.receipt("dev-001", 3)
        after = second.fleet.snapshots()["dev-001"]
        assert (after.online, after.measured_at) == (True, before.measured_at)
        assert after.co2_kg_per_s == pytest.approx(before.co2_kg_per_s)

        second.tell("dev-001", body(seq=2, count=3, at_ms=NOON_MS + 5000))
        await second.receipt("dev-001", 4)
        assert await seqs(store, "dev-001") == [1, 2, 3, 4]
        assert second.outcomes()["duplicate"] == 2


async def test_the_newest_reading_is_shown_after_a_restart_though_a_record_came_later(
    store: Store, metrics: Metrics
) -> None:
    """Meters and events lie between the samples of a message; the last row may be one of them."""
    await register(store, "dev-001")
    meter = {"cols": ["ds", "dt", "tq", "kwh"], "rows": [[1, 7000, 1, 12.5]]}
    async with core(store, metrics) as first:
        first.tell("dev-001", body(n=2, m=meter))
        await first.receipt("dev-001", 2)

    async with core(store, metrics) as second:
        assert second.fleet.snapshots()["dev-001"].measured_at == NOON


async def test_devices_say_what_is_stored_as_soon_as_they_run_again(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics) as first:
        for device_id, number in (("dev-001", 3), ("dev-002", 8)):
            first.tell(device_id, body(count=number))
            await first.receipt(device_id, number)

    async with core(store, metrics) as second:
        await second.receipt("dev-001", 3)
        await second.receipt("dev-002", 8)


# --- online and offline


async def test_a_birth_makes_a_device_online_and_its_will_offline(running: Core) -> None:
    def online() -> bool:
        return running.fleet.snapshots()["dev-001"].online

    running.tell("dev-001", birth(conn=5), "state")
    await eventually(online)
    assert running.gauge("carbontrack_devices_online") == 1

    running.tell("dev-001", will(conn=5), "state")
    await eventually(lambda: not online())


async def test_the_will_of_an_older_connection_is_no_news(running: Core) -> None:
    running.tell("dev-001", birth(conn=6), "state")
    running.tell("dev-001", will(conn=5), "state")
    running.tell("dev-001", body())
    await running.receipt("dev-001", 1)

    assert running.fleet.snapshots()["dev-001"].online


async def test_a_silent_device_is_called_offline_by_the_platforms_clock(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    now = 1000.0
    async with core(store, metrics, offline_after_s=0.06, monotonic=lambda: now) as running:
        far_ahead = NOON_MS + 86_400_000
        running.tell("dev-001", body(at_ms=far_ahead))
        await running.receipt("dev-001", 1)
        await eventually(lambda: running.fleet.snapshots()["dev-001"].online)

        now += 1.0

        await eventually(lambda: not running.fleet.snapshots()["dev-001"].online)


async def test_what_changed_is_told_to_those_who_watch_the_factory(running: Core) -> None:
    (site, *_) = await running.store.sites()
    with running.live.subscribe(site.factory.id) as watched, running.live.subscribe(4711) as elsewhere:
        running.tell("dev-001", body())
        (snapshot,) = await asyncio.wait_for(watched.changes(), 10)

        assert (snapshot.device_id, snapshot.measured_at, snapshot.online) == ("dev-001", NOON, True)
        assert elsewhere._changed == {}


async def test_late_data_does_not_change_what_is_shown_now(running: Core) -> None:
    running.tell("dev-001", body(seq=100))
    running.tell("dev-001", body(seq=1, count=50, at_ms=NOON_MS - 600_000), "backlog")
    await eventually(lambda: running.outcomes()["committed"] == 51)

    assert running.fleet.snapshots()["dev-001"].measured_at == NOON
    rows = await kept(running.store, await stack_of(running.store, "dev-001"))
    assert [bool(row.flags & Flag.BACKLOG) for row in rows] == [True] * 50 + [False]


# --- alerts


class HotterThan(BaseModel):
    above: float


def hot(options: BaseModel, seen: Observation) -> Verdict:
    assert isinstance(options, HotterThan)
    temperature = seen.snapshot.temperature_c or 0.0
    return Verdict(temperature > options.above, temperature < options.above - 10, f"gas is {temperature:.0f} degC")


def broken(options: BaseModel, seen: Observation) -> Verdict:
    raise RuntimeError("a rule with a defect")


def rule(evaluate: Callable[[BaseModel, Observation], Verdict], name: str = "hot") -> RuleInstance[AlertRule]:
    return RuleInstance(name, AlertRule(name, name, HotterThan, evaluate), HotterThan(above=300), "warning", 0.0)


def gas(seq: int, temperature_c: float) -> bytes:
    return body(seq=seq, at_ms=NOON_MS + 5000 * seq, rows=[[0, 0, 1, 98_000, temperature_c, 4.0, 80.0, 0]])


async def test_an_alert_is_raised_and_cleared_by_what_is_measured(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(rule(broken, "broken"), rule(hot))) as running:
        running.tell("dev-001", gas(1, 350))
        await running.receipt("dev-001", 1)
        await eventually_open(store, 1)

        running.tell("dev-001", gas(2, 200))
        await running.receipt("dev-001", 2)
        await eventually_open(store, 0)

    (alert,) = await store.alerts(only_open=False)
    assert (alert.message, alert.raised_at) == ("gas is 350 degC", NOON + timedelta(seconds=5))
    assert alert.cleared_at == NOON + timedelta(seconds=10)


async def test_an_alert_that_was_open_is_cleared_after_a_restart(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(rule(hot),)) as first:
        first.tell("dev-001", gas(1, 350))
        await eventually_open(store, 1)

    async with core(store, metrics, rules=(rule(hot),)) as second:
        second.tell("dev-001", gas(2, 200))
        await eventually_open(store, 0)


async def test_late_data_raises_no_alert(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    async with core(store, metrics, rules=(rule(hot),)) as running:
        running.tell("dev-001", gas(1, 350), "backlog")
        await running.receipt("dev-001", 1)

    assert await store.alerts(only_open=False) == []


async def eventually_open(store: Store, number: int) -> None:
    async def as_many() -> bool:
        return len(await store.alerts()) == number

    await eventually(as_many)


# --- neighbours


def raising_after(decode: Callable[[Payload], Message], marker: bytes) -> SensorDriver:
    """A driver whose messages upset the actor itself, when they hold a marker: their number is no number."""

    def decoded(payload: Payload) -> Message:
        message = decode(payload)
        return Message("x" * 8, 0, "none", 1, message.samples) if marker in payload.body else message  # type: ignore[arg-type]

    return SensorDriver("ct_v1", "with a defect", decoded)


@pytest.fixture
async def fragile(store: Store, metrics: Metrics) -> AsyncIterator[Core]:
    """A fleet whose driver makes the actor fail when a message holds POISON; one failure is enough to park it."""
    await register(store, "dev-001", "dev-002")
    driver = raising_after(load_plugins(choosing("ct_v1")).contributions.sensors["ct_v1"].decode, b"POISON")
    async with core(store, metrics, sensors={"ct_v1": driver}, park_after_failures=1) as parts:
        yield parts


async def parked(running: Core) -> None:
    """Park dev-001."""
    running.tell("dev-001", body(why="POISON"))
    await eventually(lambda: running.state("dev-001") == "parked")


async def test_a_parked_device_refuses_messages_and_its_neighbour_goes_on(fragile: Core) -> None:
    await parked(fragile)

    assert fragile.tell("dev-001", body()) == "parked"
    assert fragile.tell("dev-002", body()) == "delivered"
    await fragile.receipt("dev-002", 1)
    assert fragile.gauge("carbontrack_actors", state="parked") == 1
    assert fragile.fleet.errors().keys() == {"dev-001"}


async def test_a_parked_device_that_is_removed_is_gone_and_does_not_stay_online(fragile: Core) -> None:
    fragile.tell("dev-001", body())
    await fragile.receipt("dev-001", 1)
    await parked(fragile)
    await fragile.store.remove_device("dev-001")

    with fragile.live.subscribe(None) as watched:
        await asyncio.wait_for(fragile.sync(), 10)
        (last,) = await asyncio.wait_for(watched.changes(), 10)

    assert (last.device_id, last.online) == ("dev-001", False)


async def test_a_fleet_with_a_parked_device_closes(fragile: Core) -> None:
    await parked(fragile)

    await asyncio.wait_for(fragile.fleet.close(), 10)


async def test_a_fleet_closes_though_a_device_would_park_just_then(fragile: Core) -> None:
    fragile.tell("dev-001", body(why="POISON"))

    await asyncio.wait_for(fragile.fleet.close(), 10)


async def test_a_device_that_was_parked_for_an_error_works_again_when_it_is_unparked(
    store: Store, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store, "dev-001")
    defect = True
    save = store.commits.save

    async def sometimes(contribution: Work) -> None:
        if defect:
            raise RuntimeError("a defect that somebody mends")
        await save(contribution)

    monkeypatch.setattr(store.commits, "save", sometimes)
    async with core(store, metrics, park_after_failures=1) as running:
        running.tell("dev-001", body(count=2))
        await eventually(lambda: running.state("dev-001") == "parked")
        assert running.gauge("carbontrack_readings_in_flight") == 2
        defect = False

        await running.fleet.unpark("dev-001")

        await running.receipt("dev-001", 2)
        assert running.state("dev-001") == "running"
        assert running.outcomes() == {"received": 2, "committed": 2, "duplicate": 0, "quarantined": 0, "refused": 0}


async def test_a_full_mailbox_refuses_and_the_neighbour_takes(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics, mailbox_size=3) as running:
        await eventually(lambda: running.state("dev-001") == "running")
        delivered = [running.tell("dev-001", body(seq=seq, at_ms=NOON_MS + seq)) for seq in range(1, 6)]

        assert delivered == ["delivered"] * 3 + ["mailbox_full"] * 2
        assert running.tell("dev-002", body()) == "delivered"
        await running.receipt("dev-001", 3)


# --- whatever a device sends

HOSTILE_BIRTHS = [
    birth(sid="x" * 33),
    birth(sid="x\0y"),
    birth(sid=""),
    birth(first=-1),
    birth(first=2**53),
    birth(conn=2**70),
    birth(conn=-(2**70)),
    b'{"online": "yes"}',
    b"\xff\xfe",
    b"[]",
]


@pytest.mark.parametrize("content", HOSTILE_BIRTHS, ids=range(len(HOSTILE_BIRTHS)))
async def test_no_birth_upsets_a_device(running: Core, content: bytes) -> None:
    running.tell("dev-001", content, "state")
    running.tell("dev-001", body())

    await running.receipt("dev-001", 1)

    assert running.fleet.errors() == {}


FAR = 253_402_300_799_000
HOSTILE_ROWS = {
    "from 2020 to 9999": [[0, -5_000_000, 1, 1, 1, 1, 80, 0], [1, FAR - NOON_MS, 1, 1, 1, 1, 80, 0]],
    "since boot, to 9999": [[0, 0, 0, 1, 1, 1, 80, 0], [1, FAR - NOON_MS, 0, 1, 1, 1, 80, 0]],
    "numbers beyond 32 bits": [[0, 0, 1, 1e300, 1e300, 1e300, 1e300, 0]],
    "whole numbers beyond 64 bits": [[0, 0, 1, 10**40, 10**40, 10**40, 10**40, 0]],
    "whole numbers beyond a float": [[0, 0, 1, 10**400, 180, 4, 80, 0]],
    "nothing at all": [[0, 0, None, None, None, None, None, None]],
    "negative": [[0, 0, 1, -1e9, -1e9, -1e9, -1e9, 0]],
}


@pytest.mark.parametrize("rows", HOSTILE_ROWS.values(), ids=HOSTILE_ROWS.keys())
@pytest.mark.parametrize("channel", ["data", "backlog"])
async def test_no_row_upsets_a_device(running: Core, rows: list[list[float | None]], channel: str) -> None:
    running.tell("dev-001", body(seq=1, count=len(rows), rows=rows), channel)
    running.tell("dev-001", body(seq=1 + len(rows)))

    await running.receipt("dev-001", 1 + len(rows))

    assert running.fleet.errors() == {}
    assert running.ended() == running.outcomes()["received"] == 1 + len(rows)


@pytest.mark.parametrize("column", ["dp", "m", "ti"])
async def test_no_whole_number_beyond_a_float_upsets_a_device(running: Core, column: str) -> None:
    columns = ["ds", "dt", "tq", "co2", "tg", "dp", "m", "ti"]
    row = {"ds": 0, "dt": 0, "tq": 1, "co2": 98_000, "tg": 180, "dp": 9.0, "m": 0.2, "ti": 41} | {column: 10**400}
    running.tell("dev-001", body(s={"cols": columns, "rows": [[row[name] for name in columns]]}))
    running.tell("dev-001", body(seq=2))

    await running.receipt("dev-001", 2)

    assert running.fleet.errors() == {}


# --- the account

numbers = st.integers(1, 30)


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """Something that a device sends: device, content and channel."""
    device_id = draw(st.sampled_from(["dev-001", "dev-002", "flat-01", "dev-404"]))
    kind = draw(st.sampled_from(["data", "backlog", "state", "broken", "garbage", "flat", "too large for 32 bits"]))
    seq, number = draw(numbers), draw(st.integers(1, 6))
    if kind == "state":
        return device_id, birth(conn=seq, first=draw(numbers)), "state"
    if kind == "broken":
        return device_id, body(seq, number, n=number + 1), "data"
    if kind == "garbage":
        return device_id, draw(st.binary(min_size=1, max_size=20)), draw(st.sampled_from(["data", "state"]))
    if kind == "flat":
        moment = datetime(2026, 3, 1, 12, 0, seq, tzinfo=UTC).isoformat()
        return "flat-01", f'{{"timestamp": "{moment}", "co2": {seq}}}'.encode(), "data"
    rows = [[n, 5000 * n, 1, 98_000, 180.0, 4.0, 80.0, 0] for n in range(number)]
    if kind == "too large for 32 bits":
        rows[0][COLUMNS.index("co2")] = 1e300
        kind = "data"
    return device_id, body(seq, number, at_ms=NOON_MS + 5000 * seq, rows=rows), kind


@given(turns=st.lists(st.lists(messages(), max_size=8), max_size=5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_reading_that_was_received_ends_in_one_way(
    store: Store, turns: list[list[tuple[str, bytes, str]]]
) -> None:
    """Received == committed + duplicate + quarantined + refused, and what is committed is in the database."""
    metrics = Metrics()
    if not await store.sites():
        (*_, last) = await register(store, "dev-001", "dev-002", "flat-01")
        await store.change_device(last.device.device_id, sensor="flat_json")
    before = await rows_of(store)
    async with core(store, metrics) as running:
        for turn in turns:
            for device_id, content, channel in turn:
                running.tell(device_id, content, channel, NOON_MS + 300_000)
            await asyncio.sleep(0)
        await running.fleet.close()

        counts = running.outcomes()
        assert counts["received"] == running.ended()
        assert counts["committed"] == await rows_of(store) - before


async def rows_of(store: Store) -> int:
    stack_ids = [stack.id for stack in await store.stacks()]
    since, until = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    return len(await store.readings(stack_ids, since, until))


async def test_the_account_adds_up_through_an_outage(postgres: Postgres, metrics: Metrics) -> None:
    async with migrated_store(postgres.new_url(), metrics) as store:
        await register(store, "dev-001", "dev-002")
        async with core(store, metrics, park_after_failures=1) as running:
            for device_id in ("dev-001", "dev-002"):
                running.tell(device_id, body(seq=1))
                await running.receipt(device_id, 1)
            postgres.kill()
            for device_id in ("dev-001", "dev-002"):
                running.tell(device_id, body(seq=2, count=3, at_ms=NOON_MS + 5000))
            await eventually(lambda: set(running.fleet.states().values()) == {"backing_off"})

            assert running.gauge("carbontrack_readings_in_flight") == 6
            assert running.outcomes()["received"] == running.ended() + 6

            postgres.start()
            for device_id in ("dev-001", "dev-002"):
                await running.receipt(device_id, 4)
            assert running.outcomes() == {"received": 8, "committed": 8, "duplicate": 0, "quarantined": 0, "refused": 0}
            assert running.gauge("carbontrack_readings_in_flight") == 0


async def test_what_was_never_committed_is_refused_when_the_fleet_closes(postgres: Postgres, metrics: Metrics) -> None:
    async with migrated_store(postgres.new_url(), metrics) as store:
        await register(store, "dev-001")
        async with core(store, metrics) as running:
            running.tell("dev-001", body(seq=1))
            await running.receipt("dev-001", 1)
            running.receipts.clear()
            postgres.kill()
            running.tell("dev-001", body(seq=2, count=3))
            await eventually(lambda: running.state("dev-001") == "backing_off")
        assert running.receipts == {}
        assert running.outcomes() == {"received": 4, "committed": 1, "duplicate": 0, "quarantined": 0, "refused": 3}


async def test_a_device_that_repeats_itself_does_not_upset_its_neighbours(store: Store, metrics: Metrics) -> None:
    """A flat board sends what it likes twice; only the database notices, in a commit that many actors share."""
    await register(store, "dev-001", "flat-01")
    await store.change_device("flat-01", sensor="flat_json")
    flat = [b'{"timestamp": "2026-03-01T12:00:%02dZ", "co2": 98000}' % second for second in range(10)]
    async with core(store, metrics) as running:
        running.tell("dev-001", body(seq=1))
        for content in flat:
            running.tell("flat-01", content)
        await eventually(lambda: running.ended() == 11)

        running.tell("dev-001", body(seq=2))
        for content in flat:
            running.tell("flat-01", content)
        await running.receipt("dev-001", 2)
        await eventually(lambda: running.ended() == 22)

        assert running.fleet.errors() == {}
        assert running.outcomes() == {"received": 22, "committed": 12, "duplicate": 10, "quarantined": 0, "refused": 0}
