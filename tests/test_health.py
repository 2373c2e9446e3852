"""How a device itself is doing: the judgement, what its actor remembers for it, the API, the metric and the pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.actor import ActorState
from carbontrack.device import Hearing
from carbontrack.health import (
    ATTENTION_FLAGS,
    CLOCK_FLAGS,
    FAULT_FLAGS,
    FLAG_TEXTS,
    FRESH_FOR,
    HOUR_SPOILT_AFTER,
    LONGEST_VERSION,
    Aspect,
    AspectName,
    Birth,
    ClockSeen,
    DeviceHealth,
    Facts,
    FleetFirmware,
    HealthState,
    NodeRecord,
    NodeStore,
    health_of,
    health_of_absent,
    severity,
    span_text,
    worst,
)
from carbontrack.metrics import Metrics
from carbontrack.model import ClockQuality, DeviceStatus, Flag, Snapshot
from carbontrack.store import Store
from carbontrack.streams import MOST_RANGES, Stream
from tests.support.html import page
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, NOON_MS, SID, Clock, Core, birth, body, core, eventually, register, will

pytest_plugins = ["tests.support.world"]

GOOD, ATTENTION, BAD, UNKNOWN = HealthState.GOOD, HealthState.ATTENTION, HealthState.BAD, HealthState.UNKNOWN
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SYNCED = ClockSeen(ClockQuality.SYNCED, -0.3)
STREAM = NodeStore(is_numbered=True)
FLEET = FleetFirmware("2.4.1", "2.5.0")


def snapshot(**changed: Any) -> Snapshot:
    values: dict[str, Any] = {"online": True, "measured_at": NOON, "received_at": NOON + SECOND} | changed
    return Snapshot("dev-001", 1, 1, **values)


def facts(**changed: Any) -> Facts:
    """Of a device that is well in every way; ``changed`` are fields of the facts, or of the snapshot."""
    live = {name: changed.pop(name) for name in list(changed) if name in Snapshot.__struct_fields__}
    values: dict[str, Any] = {
        "snapshot": snapshot(**live),
        "birth": Birth("2.4.1", 1000, SID),
        "record": NodeRecord(NOON, -60, 3),
        "clock": SYNCED,
        "store": STREAM,
    }
    return Facts(**(values | changed))


def aspect_of(found: DeviceHealth, name: AspectName) -> Aspect:
    return next(it for it in found.aspects if it.name is name)


def judged(name: AspectName, known: Facts, after: timedelta = 5 * SECOND) -> tuple[HealthState, str]:
    found = aspect_of(health_of(known, NOON + after, FLEET), name)
    return found.state, found.text


# --- the judgement


def test_a_device_that_is_well_is_good_in_every_way() -> None:
    found = health_of(facts(), NOON + 5 * SECOND, FLEET)

    assert found.overall is GOOD
    assert [it.name for it in found.aspects] == list(AspectName)
    assert {it.state for it in found.aspects} == {GOOD}
    assert {it.advice for it in found.aspects} == {""}
    assert found.firmware == "2.4.1"


OFFLINE = {"online": False, "presence_since": NOON}


@pytest.mark.parametrize(
    ("known", "after", "state", "says"),
    [
        ({}, SECOND, GOOD, "Connected, with a signal of -60 dBm."),
        ({"record": None}, SECOND, GOOD, "Connected."),
        ({"record": NodeRecord(NOON, -80)}, SECOND, GOOD, "-80 dBm"),
        ({"record": NodeRecord(NOON, -81)}, SECOND, ATTENTION, "weak signal of -81 dBm"),
        (OFFLINE, 5 * MINUTE, ATTENTION, "Not connected, for 5 min. Its last signal was -60 dBm."),
        (OFFLINE, HOUR_SPOILT_AFTER, ATTENTION, "for 12 min"),
        (OFFLINE, HOUR_SPOILT_AFTER + SECOND, BAD, "for 12 min"),
        ({"online": False}, timedelta(days=3), BAD, "for 2 days"),
        ({"online": False, "measured_at": None, "received_at": None}, SECOND, ATTENTION, "Nothing has come"),
        ({"is_deaf": True}, timedelta(hours=1), UNKNOWN, "The platform itself has no connection"),
        (OFFLINE | {"is_deaf": True}, timedelta(hours=1), BAD, "for 60 min"),
    ],
)
def test_the_connection(known: dict[str, Any], after: timedelta, state: HealthState, says: str) -> None:
    found, text = judged(AspectName.CONNECTION, facts(**known), after)
    assert found is state
    assert says in text


def test_who_was_offline_before_the_platform_started_is_so_since_its_newest_reading_came() -> None:
    found = aspect_of(health_of(facts(online=False), NOON + MINUTE), AspectName.CONNECTION)
    assert found.since == NOON + SECOND


@pytest.mark.parametrize(
    ("known", "after", "state", "says"),
    [
        ({}, FRESH_FOR, GOOD, "2 min ago"),
        ({}, FRESH_FOR + SECOND, ATTENTION, "2 min ago"),
        ({}, HOUR_SPOILT_AFTER, ATTENTION, "12 min ago"),
        ({}, HOUR_SPOILT_AFTER + SECOND, BAD, "12 min ago"),
        ({}, -SECOND, GOOD, "0 s ago"),
        ({"measured_at": None}, SECOND, ATTENTION, "no reading of this chimney"),
        ({"is_deaf": True}, timedelta(hours=1), UNKNOWN, "may wait there"),
        ({"is_deaf": True, "online": False}, timedelta(hours=1), BAD, "60 min ago"),
    ],
)
def test_the_freshness(known: dict[str, Any], after: timedelta, state: HealthState, says: str) -> None:
    found, text = judged(AspectName.FRESHNESS, facts(**known), after)
    assert found is state
    assert says in text


@pytest.mark.parametrize(
    ("known", "state", "says"),
    [
        ({"clock": SYNCED}, GOOD, "is set"),
        ({"clock": ClockSeen(ClockQuality.HOLD_OVER, 0.0)}, GOOD, "runs on by itself"),
        ({"clock": ClockSeen(ClockQuality.SYNCED, 30.0)}, GOOD, "is set"),
        ({"clock": ClockSeen(ClockQuality.SYNCED, 31.0)}, ATTENTION, "31 s ahead"),
        ({"clock": ClockSeen(ClockQuality.SYNCED, -300.0)}, ATTENTION, "5 min behind"),
        ({"clock": ClockSeen(ClockQuality.SYNCED, 120.0)}, ATTENTION, "2 min ahead"),
        ({"clock": ClockSeen(ClockQuality.SYNCED, 7200.0)}, BAD, "2 h ahead"),
        ({"clock": ClockSeen(ClockQuality.UNSET, 0.0)}, ATTENTION, "is not set"),
        ({"flags": int(Flag.CLOCK_JUMP)}, ATTENTION, "has jumped"),
        ({"clock": None}, GOOD, "was believed"),
        ({"clock": None, "flags": int(Flag.CLOCK_FUTURE)}, BAD, "is ahead"),
        ({"clock": None, "flags": int(Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED)}, ATTENTION, "is not set"),
        ({"clock": None, "measured_at": None}, UNKNOWN, "No reading"),
    ],
)
def test_the_clock(known: dict[str, Any], state: HealthState, says: str) -> None:
    found, text = judged(AspectName.CLOCK, facts(**known))
    assert found is state
    assert says in text


@pytest.mark.parametrize(
    ("flags", "state", "says"),
    [
        (Flag(0), GOOD, "no fault"),
        (Flag.BACKLOG | Flag.BOILER_OFF | Flag.PRESSURE_DEFAULT, GOOD, "no fault"),
        (Flag.TEMPERATURE_OPEN, BAD, "thermocouple is broken"),
        (Flag.CO2_FAULT | Flag.STUCK, BAD, "the very same value"),
        (Flag.UNFIT_SENSOR, BAD, "range is too small"),
        (Flag.WARM_UP, ATTENTION, "warming up"),
        (Flag.MAINTENANCE | Flag.VELOCITY_FAULT, BAD, "velocity sensor"),
        (Flag.DEVICE_DISAGREES, ATTENTION, "different rate"),
    ],
)
def test_the_sensors(flags: Flag, state: HealthState, says: str) -> None:
    found, text = judged(AspectName.SENSORS, facts(flags=int(flags)))
    assert found is state
    assert says in text


def test_sensors_that_have_measured_nothing_are_not_known() -> None:
    assert judged(AspectName.SENSORS, facts(measured_at=None))[0] is UNKNOWN


@pytest.mark.parametrize("flag", [flag for flag in Flag if flag & (FAULT_FLAGS | ATTENTION_FLAGS | CLOCK_FLAGS)])
def test_each_flag_that_counts_has_its_words(flag: Flag) -> None:
    assert FLAG_TEXTS[flag]


@pytest.mark.parametrize(
    ("known", "state", "says"),
    [
        ({}, GOOD, "3 of 1,000 places"),
        ({"record": NodeRecord(NOON, ring_used=499)}, GOOD, "499 of 1,000"),
        ({"record": NodeRecord(NOON, ring_used=500)}, ATTENTION, "500 of 1,000"),
        ({"record": NodeRecord(NOON, ring_used=900)}, BAD, "900 of 1,000"),
        ({"record": NodeRecord(NOON, ring_used=900), "birth": None}, GOOD, "records in its store: 900"),
        ({"record": None}, GOOD, "Nothing that it has measured is missing here."),
        ({"record": None, "store": NodeStore()}, UNKNOWN, "has not shown"),
        ({"store": replace(STREAM, missing=1200)}, ATTENTION, "Older records that have not come yet: 1,200"),
        ({"store": replace(STREAM, recovering=60)}, ATTENTION, "Readings of an outage that have just come: 60"),
        ({"store": replace(STREAM, missing=9, has_room=False)}, BAD, "500 holes"),
    ],
)
def test_the_store_of_the_device(known: dict[str, Any], state: HealthState, says: str) -> None:
    found, text = judged(AspectName.BACKLOG, facts(**known))
    assert found is state
    assert says in text


def test_what_is_missing_is_counted_between_what_has_come() -> None:
    stream = Stream(1, SID, 10, [[15, 20], [31, 40]])

    found = NodeStore.of(stream)

    assert found == NodeStore(is_numbered=True, missing=4 + 10)
    assert NodeStore.of(Stream(1, SID, 10)) == NodeStore(is_numbered=True)
    assert NodeStore.of(Stream(1, SID)) == NodeStore.of(None) == NodeStore()
    full = Stream(1, SID, 1, [[3 * number, 3 * number] for number in range(1, MOST_RANGES + 1)])
    assert not NodeStore.of(full).has_room


@pytest.mark.parametrize(
    ("own", "state", "says"),
    [
        ("2.4.1", GOOD, "It runs 2.4.1. The newest in the fleet is 2.5.0."),
        ("v2.4.1", GOOD, "It runs v2.4.1."),
        ("2.5", GOOD, "It runs 2.5."),
        ("2.4.1-rc2", ATTENTION, "most devices 2.4.1"),
        ("2.4", ATTENTION, "It runs 2.4, and most devices 2.4.1"),
        ("2.3.9", ATTENTION, "most devices 2.4.1"),
        ("simulator", UNKNOWN, "cannot be compared"),
        (None, UNKNOWN, "has not said"),
    ],
)
def test_the_firmware(own: str | None, state: HealthState, says: str) -> None:
    found, text = judged(AspectName.FIRMWARE, facts(birth=Birth(own, 1000, SID)))
    assert found is state
    assert says in text


def test_ten_is_newer_than_nine() -> None:
    assert FleetFirmware.of(["2.10.0", "2.9.0"]).newest == "2.10.0"


def test_most_devices_run_the_usual_firmware_and_of_two_that_as_many_run_it_is_the_newer() -> None:
    assert FleetFirmware.of(["1.0", "1.0", "2.0", None]) == FleetFirmware("1.0", "2.0")
    assert FleetFirmware.of(["1.0", "2.0"]) == FleetFirmware("2.0", "2.0")
    assert FleetFirmware.of([]) == FleetFirmware.of([None, "ours"]) == FleetFirmware()


def test_a_name_that_is_no_version_is_never_told_of_others() -> None:
    """A factory's people see what most devices run, and that may be another factory's."""
    assert FleetFirmware.of(["mungania special"] * 9 + ["1.0-mungania"] * 9 + ["1.0"]) == FleetFirmware("1.0", "1.0")


def test_alone_with_a_name_that_is_no_version_a_device_is_good() -> None:
    found = health_of(facts(birth=Birth("simulator")), NOON)
    assert aspect_of(found, AspectName.FIRMWARE).state is GOOD


@pytest.mark.parametrize(
    ("actor", "state"),
    [
        (ActorState.RUNNING, GOOD),
        (ActorState.BACKING_OFF, ATTENTION),
        (ActorState.PARKED, BAD),
        (ActorState.STARTING, UNKNOWN),
        (ActorState.STOPPED, UNKNOWN),
    ],
)
def test_the_processing(actor: ActorState, state: HealthState) -> None:
    assert judged(AspectName.PROCESSING, facts(actor=actor))[0] is state


def test_nothing_is_known_of_a_device_that_nobody_listens_to() -> None:
    found = health_of_absent("dev-009", "It is disabled.")
    assert found.overall is UNKNOWN
    assert {(it.state, it.text) for it in found.aspects} == {(UNKNOWN, "It is disabled.")}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_a_length_of_time_is_said_in_its_largest_unit(seconds: int, text: str) -> None:
    assert span_text(timedelta(seconds=seconds)) == text


# --- what a device says of itself may be anything


@pytest.mark.parametrize(
    ("said", "firmware"),
    [("2.4.1", "2.4.1"), ("  2.4.1\n", "2.4.1"), ("", None), (7, None), (None, None), (["2.4"], None)],
)
def test_a_firmware_is_a_name_or_nothing(said: object, firmware: str | None) -> None:
    assert Birth.of(said, None, None).firmware == firmware


@given(said=st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_whatever_a_device_says_of_itself_is_a_value_or_not_said(said: Any) -> None:
    found, record = Birth.of(said, said, None), NodeRecord.of(NOON, {"rssi": said, "ring_used": said})

    assert found.firmware is None or 0 < len(found.firmware) <= LONGEST_VERSION
    assert found.capacity is None or found.capacity >= 1
    assert record.rssi_dbm is None or -150 <= record.rssi_dbm < 0
    assert record.ring_used is None or record.ring_used >= 0
    health_of(facts(birth=found, record=record), NOON, FleetFirmware.of([found.firmware, "2.4.1"]))


# --- laws


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """What may be known of a device, in any mixture."""
    moments = st.none() | st.integers(0, 7200).map(lambda ago_s: NOON - timedelta(seconds=ago_s))
    measured_at = draw(moments)
    numbers = st.none() | st.integers(0, 1000)
    record = NodeRecord(NOON, draw(st.none() | st.integers(-120, -30)), draw(numbers))
    return Facts(
        Snapshot("dev-001", 1, 1, draw(st.booleans()), measured_at, measured_at, flags=draw(st.integers(0, 2**30 - 1))),
        draw(st.sampled_from(ActorState)),
        draw(st.booleans()),
        draw(moments),
        draw(
            st.none() | st.builds(Birth, st.sampled_from([None, "1.0", "2.0", "odd"]), numbers.map(lambda it: it or 1))
        ),
        draw(st.none() | st.just(record)),
        draw(st.none() | st.builds(ClockSeen, st.sampled_from([0, 1, 2, 3]), st.floats(-1e6, 1e6))),
        draw(st.builds(NodeStore, st.booleans(), st.integers(0, 9), st.booleans(), st.integers(0, 9))),
    )


@given(known=any_facts())
def test_the_whole_is_as_bad_as_its_worst_known_part(known: Facts) -> None:
    found = health_of(known, NOON, FLEET)

    parts = [it.state for it in found.aspects if it.state is not UNKNOWN]
    assert found.overall is (BAD if BAD in parts else ATTENTION if ATTENTION in parts else GOOD if parts else UNKNOWN)


@given(states=st.lists(st.sampled_from(HealthState)), more=st.sampled_from(HealthState))
def test_one_part_more_never_makes_the_whole_better(states: list[HealthState], more: HealthState) -> None:
    assert severity(worst([*states, more])) >= severity(worst(states))


@given(known=any_facts(), seconds=st.integers(0, 10_000), later=st.integers(0, 10_000))
def test_more_silence_never_makes_it_better(known: Facts, seconds: int, later: int) -> None:
    before = health_of(known, NOON + timedelta(seconds=seconds), FLEET)
    after = health_of(known, NOON + timedelta(seconds=seconds + later), FLEET)

    assert severity(after.overall) >= severity(before.overall)
    for one, other in zip(before.aspects, after.aspects, strict=True):
        assert severity(other.state) >= severity(one.state), one.name


@given(known=any_facts(), seconds=st.integers(0, 10_000))
def test_who_goes_offline_is_not_better_for_it(known: Facts, seconds: int) -> None:
    now = NOON + timedelta(seconds=seconds)
    there = replace(known, is_deaf=False, snapshot=snapshot(online=True, flags=known.snapshot.flags))
    gone = replace(there, snapshot=snapshot(online=False, flags=known.snapshot.flags))

    assert severity(health_of(gone, now).overall) >= severity(health_of(there, now).overall)


@given(known=any_facts())
def test_each_part_that_is_not_good_says_what_to_do_and_each_says_what_is(known: Facts) -> None:
    for part in health_of(known, NOON, FLEET).aspects:
        assert part.text.endswith(".")
        assert bool(part.advice) is (part.state in {ATTENTION, BAD}), part


# --- what the actor remembers


class Times:
    """The core's clocks, which stand still."""

    def __init__(self) -> None:
        self.monotonic = Clock()
        self.wall = NOON + SECOND

    def now(self) -> datetime:
        return self.wall


def record(seq: int, at_ms: int = NOON_MS, kind: str = "h", sid: str = SID, tq: int = 1, **values: Any) -> bytes:
    """A message with one record of another kind than a sample."""
    block = {"cols": ["ds", "dt", "tq", *values], "rows": [[0, 0, tq, *values.values()]]}
    message = {"v": 1, "sid": sid, "boot": 4, "cfg": 1, "seq": seq, "n": 1, "t": at_ms, kind: block}
    return json.dumps(message).encode()


def of(running: Core, name: AspectName, now: datetime = NOON + SECOND, device_id: str = "dev-001") -> Aspect:
    return aspect_of(running.fleet.health(now)[device_id], name)


@pytest.fixture
async def running(store: Store, metrics: Metrics) -> AsyncIterator[Core]:
    await register(store, "dev-001", "dev-002")
    times = Times()
    async with core(store, metrics, clock=times.now) as started:
        yield started


async def test_a_device_that_was_never_heard_needs_somebody(running: Core) -> None:
    found = running.fleet.health(NOON)["dev-001"]
    assert found.overall is ATTENTION
    assert "Nothing has come" in aspect_of(found, AspectName.CONNECTION).text


async def test_what_a_device_says_at_birth_and_in_its_health_record_is_shown(running: Core) -> None:
    running.tell("dev-001", birth(fw="2.4.1", cap=1000), "state")
    running.tell("dev-001", body(seq=1))
    running.tell("dev-001", record(2, rssi=-60, ring_used=12, reconnects=3, uptime_s=99))
    await running.receipt("dev-001", 2)
    await eventually(lambda: "-60" in of(running, AspectName.CONNECTION).text)

    found = running.fleet.health(NOON + SECOND)["dev-001"]

    assert (found.overall, found.firmware) == (GOOD, "2.4.1")
    assert "-60 dBm" in aspect_of(found, AspectName.CONNECTION).text
    assert "12 of 1,000 places" in aspect_of(found, AspectName.BACKLOG).text


async def test_an_older_health_record_that_comes_later_changes_nothing(running: Core) -> None:
    running.tell("dev-001", record(2, rssi=-60))
    running.tell("dev-001", record(1, NOON_MS - 3_600_000, rssi=-99), "backlog")
    await running.receipt("dev-001", 2)

    assert "-60 dBm" in of(running, AspectName.CONNECTION).text


@pytest.mark.parametrize("said", [{"fw": 7, "cap": "many"}, {"fw": None, "cap": -1}, {"fw": {"v": 2}, "cap": True}])
async def test_a_birth_with_odd_fields_counts_all_the_same(running: Core, said: dict[str, Any]) -> None:
    running.tell("dev-001", birth(**said), "state")
    await eventually(lambda: running.fleet.snapshots()["dev-001"].online)

    assert await running.store.quarantined() == []
    assert of(running, AspectName.FIRMWARE).state is UNKNOWN


async def test_a_device_behind_what_most_run_is_told_apart(running: Core) -> None:
    await running.store.add_device("dev-003", (await running.store.sites())[0].stack.id, "ct_v1")
    await running.sync()
    for name, version in (("dev-001", "2.4.1"), ("dev-002", "2.4.1"), ("dev-003", "2.3.0")):
        running.tell(name, birth(fw=version), "state")
    await eventually(lambda: all(it.firmware for it in running.fleet.health(NOON).values()))

    states = {name: of(running, AspectName.FIRMWARE, device_id=name).state for name in running.fleet.health(NOON)}

    assert states == {"dev-001": GOOD, "dev-002": GOOD, "dev-003": ATTENTION}


async def test_a_hole_in_what_has_come_is_shown_until_it_is_filled(running: Core) -> None:
    running.tell("dev-001", birth(first=1), "state")
    running.tell("dev-001", body(seq=11))
    await eventually(lambda: of(running, AspectName.BACKLOG).state is ATTENTION)
    assert "not come yet: 10" in of(running, AspectName.BACKLOG).text

    running.tell("dev-001", body(seq=1, count=10, at_ms=NOON_MS - 50_000), "backlog")
    await running.receipt("dev-001", 11)
    await eventually(lambda: of(running, AspectName.BACKLOG).state is GOOD)


async def test_the_holes_of_a_store_that_was_formatted_count_no_more(running: Core) -> None:
    running.tell("dev-001", body(seq=11, sid="0ld0ld00"))
    await eventually(lambda: of(running, AspectName.BACKLOG).state is ATTENTION)

    running.tell("dev-001", birth(first=1), "state")
    running.tell("dev-001", body(seq=1, at_ms=NOON_MS + 100))
    await running.receipt("dev-001", 1)
    await eventually(lambda: of(running, AspectName.BACKLOG).state is GOOD)


@pytest.mark.parametrize(
    ("at_ms", "tq", "state", "says"),
    [
        (NOON_MS, 1, GOOD, "is set"),
        (NOON_MS + 600_500, 1, BAD, "10 min ahead"),
        (NOON_MS + 60_500, 1, ATTENTION, "60 s ahead"),
        (60_000, 0, ATTENTION, "is not set"),
        (60_000, 1, ATTENTION, "is not set"),
    ],
)
async def test_a_live_message_shows_how_the_clock_goes(
    running: Core, at_ms: int, tq: int, state: HealthState, says: str
) -> None:
    running.tell("dev-001", body(at_ms=at_ms, rows=[[0, 0, tq, 98_000, 183.25, 4.12, 79.68, 0]]))
    await running.receipt("dev-001", 1)
    await eventually(lambda: running.fleet.snapshots()["dev-001"].measured_at is not None)

    found = of(running, AspectName.CLOCK)

    assert found.state is state
    assert says in found.text


async def test_a_clock_that_is_behind_is_told_from_messages_that_waited_for_the_end_of_an_outage(running: Core) -> None:
    late_ms = NOON_MS + 600_000
    running.tell("dev-001", body(seq=1), received_at_ms=late_ms)
    await running.receipt("dev-001", 1)
    await eventually(lambda: running.fleet.snapshots()["dev-001"].measured_at == NOON)
    assert of(running, AspectName.CLOCK).state is GOOD, "it waited at the broker"

    running.tell("dev-001", body(seq=2, at_ms=late_ms), received_at_ms=late_ms + 500)
    await running.receipt("dev-001", 2)
    await eventually(lambda: running.fleet.snapshots()["dev-001"].measured_at == NOON + timedelta(minutes=10))
    assert of(running, AspectName.CLOCK).state is GOOD

    running.tell("dev-001", body(seq=3, at_ms=late_ms + 5000), received_at_ms=late_ms + 305_000)
    await running.receipt("dev-001", 3)
    await eventually(lambda: of(running, AspectName.CLOCK).state is ATTENTION)
    assert "5 min behind" in of(running, AspectName.CLOCK).text


async def test_a_restart_keeps_the_health_record_and_says_what_it_does_not_know(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    times = Times()
    async with core(store, metrics, clock=times.now) as first:
        first.tell("dev-001", birth(fw="2.4.1", cap=100), "state")
        first.tell("dev-001", body(seq=1))
        first.tell("dev-001", record(2, rssi=-70, ring_used=60))
        await first.receipt("dev-001", 2)
    async with core(store, Metrics(), clock=times.now) as second:
        assert "-70 dBm" in of(second, AspectName.CONNECTION).text
        assert of(second, AspectName.BACKLOG).state is GOOD, "how large its store is has to be said again"
        assert of(second, AspectName.FIRMWARE).state is UNKNOWN
        assert of(second, AspectName.CLOCK).state is GOOD, "the newest reading says so"

        second.tell("dev-001", birth(2, fw="2.4.1", cap=100), "state")  # the broker keeps it

        await eventually(lambda: of(second, AspectName.FIRMWARE).state is GOOD)
        assert of(second, AspectName.BACKLOG).state is ATTENTION


async def test_a_health_record_of_the_day_before_yesterday_is_not_taken_up_again(store: Store) -> None:
    await register(store, "dev-001")
    times = Times()
    async with core(store, Metrics(), clock=times.now) as first:
        first.tell("dev-001", record(1, rssi=-70))
        await first.receipt("dev-001", 1)
    times.wall += timedelta(days=2)
    async with core(store, Metrics(), clock=times.now) as second:
        assert "dBm" not in of(second, AspectName.CONNECTION).text


async def test_the_newest_health_record_of_each_device_is_found(running: Core) -> None:
    running.tell("dev-001", record(1, NOON_MS - 5000, rssi=-70))
    running.tell("dev-001", record(2, NOON_MS, rssi=-71))
    running.tell("dev-001", record(3, NOON_MS + 100, kind="m", run_s=7))
    running.tell("dev-002", record(1, NOON_MS - 7_200_000, rssi=-72), "backlog")
    await running.receipt("dev-001", 3)
    await running.receipt("dev-002", 1)

    recent = await running.store.newest_health(NOON - timedelta(hours=1))

    assert recent == {"dev-001": (NOON, {"rssi": -71})}
    assert (await running.store.newest_health(NOON - timedelta(days=1))).keys() == {"dev-001", "dev-002"}


async def test_a_device_that_says_goodbye_is_offline_since_then(running: Core) -> None:
    running.tell("dev-001", body())
    await running.receipt("dev-001", 1)
    await eventually(lambda: of(running, AspectName.CONNECTION).state is GOOD)

    running.tell("dev-001", json.dumps({"online": False, "conn": 1, "why": "maintenance"}).encode(), "state")
    await eventually(lambda: of(running, AspectName.CONNECTION).state is ATTENTION)

    assert of(running, AspectName.CONNECTION).since == NOON + SECOND
    assert of(running, AspectName.CONNECTION, NOON + timedelta(hours=1)).state is BAD


async def test_nobody_is_blamed_while_the_core_itself_hears_nothing(store: Store, metrics: Metrics) -> None:
    await register(store, "dev-001")
    hearing, times = Hearing(), Times()
    async with core(store, metrics, clock=times.now, hearing=hearing, monotonic=times.monotonic) as running:
        hearing.connected(times.monotonic())
        running.tell("dev-001", body())
        await running.receipt("dev-001", 1)
        await eventually(lambda: of(running, AspectName.CONNECTION).state is GOOD)

        hearing.cut_off()
        found = running.fleet.health(NOON + timedelta(hours=1))["dev-001"]

        assert aspect_of(found, AspectName.CONNECTION).state is UNKNOWN
        assert aspect_of(found, AspectName.FRESHNESS).state is UNKNOWN
        assert found.overall is GOOD


async def test_a_disabled_device_is_listed_as_not_known(running: Core) -> None:
    await running.store.change_device("dev-002", status=DeviceStatus.DISABLED)
    await running.sync()

    found = running.fleet.health(NOON)["dev-002"]

    assert found.overall is UNKNOWN
    assert "disabled" in found.aspects[0].text


async def test_the_metric_counts_every_registered_device_once(running: Core) -> None:
    running.tell("dev-001", body())
    await running.receipt("dev-001", 1)
    await eventually(lambda: running.gauge("carbontrack_device_health", state="good") == 1)
    await running.store.change_device("dev-002", status=DeviceStatus.DISABLED)
    await running.sync()

    counts = {state.value: running.gauge("carbontrack_device_health", state=state.value) for state in HealthState}

    assert counts == {"good": 1, "attention": 0, "bad": 0, "unknown": 1}


async def test_a_will_counts_as_gone(running: Core) -> None:
    running.fleet._actors["dev-001"].idle_after_s = 0.01
    running.fleet._actors["dev-001"]._await_idle(asyncio.get_running_loop())
    running.tell("dev-001", birth(), "state")
    await eventually(lambda: of(running, AspectName.CONNECTION).state is GOOD)

    running.tell("dev-001", will(), "state")

    await eventually(lambda: of(running, AspectName.CONNECTION).state is ATTENTION)


# --- the API and the pages


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as started:
        yield started


async def heard(portal: Portal, device_id: str = "dev-001", version: str = "2.4.1", st: int = 0) -> None:
    """Have a device connect and measure once."""
    portal.core.tell(device_id, birth(fw=version, cap=1000), "state")
    portal.core.tell(device_id, body(rows=[[0, 0, 1, 98_000, 183.25, 4.12, 79.68, st]]))
    await portal.core.receipt(device_id, 1)
    await eventually(lambda: portal.core.fleet.snapshots()[device_id].measured_at is not None)


async def test_the_api_gives_every_aspect_of_a_device(portal: Portal) -> None:
    await heard(portal, st=int(Flag.TEMPERATURE_OPEN))
    client = await portal.signed_in("clerk@example.org")

    answer = await client.get(f"/api/mcu-devices/{portal.kangaita.device.id}/health/")
    found = await answer.json()

    assert answer.status == 200
    assert (found["device_id"], found["overall"], found["firmware"]) == ("dev-001", "bad", "2.4.1")
    assert [it["name"] for it in found["aspects"]] == [name.value for name in AspectName]
    sensors = next(it for it in found["aspects"] if it["name"] == "sensors")
    assert sensors["state"] == "bad"
    assert "thermocouple" in sensors["text"]
    assert sensors["advice"]
    assert sensors["since"] is None
    fresh = next(it for it in found["aspects"] if it["name"] == "freshness")
    assert datetime.fromisoformat(fresh["since"]) == NOON


async def test_a_factorys_people_do_not_see_how_anothers_device_is_doing(portal: Portal) -> None:
    client = await portal.signed_in("clerk@example.org")
    answer = await client.get(f"/api/mcu-devices/{portal.mungania.device.id}/health/")
    assert answer.status == 404


async def test_devices_are_found_by_how_they_are_doing(portal: Portal) -> None:
    await heard(portal)
    client = await portal.signed_in("hq@example.org")

    async def found(**query: str) -> dict[str, str]:
        answer = await (await client.get("/api/mcu-devices/", params=query)).json()
        return {it["device_id"]: it["health"] for it in answer["results"]}

    assert await found() == {"dev-001": "good", "dev-002": "attention"}
    assert await found(health="attention") == {"dev-002": "attention"}
    assert await found(health="bad") == {}
    assert (await client.get("/api/mcu-devices/", params={"health": "splendid"})).status == 422


async def test_the_network_page_has_the_worst_first_with_what_to_do(portal: Portal) -> None:
    await heard(portal)
    await heard(portal, "dev-002", "2.3.0", int(Flag.TEMPERATURE_OPEN))
    browser = await portal.browser("auditor@example.org")

    shown = await page(browser, "/hq/devices")

    assert shown.index(">dev-002</a></h3>") < shown.index(">dev-001</a></h3>")
    assert "1 bad · 1 good" in shown
    for text in ("Kangaita", "Mungania", "Boiler of dev-001", "firmware 2.3.0", "thermocouple is broken"):
        assert text in shown
    assert "Go to the chimney" in shown
    assert "Update it to 2.4.1." in shown
    assert 'href="/hq/devices" aria-current="page"' in shown


async def test_the_network_page_filters_and_sorts(portal: Portal) -> None:
    await heard(portal)
    browser = await portal.browser("hq@example.org")

    by_state = await page(browser, "/hq/devices?state=good&factory_id=&sort=worst")
    by_factory = await page(browser, f"/hq/devices?factory_id={portal.mungania.factory.id}")
    by_name = await page(browser, "/hq/devices?sort=device_id")
    unseen_first = await page(browser, "/hq/devices?sort=last_seen")
    none = await page(browser, "/hq/devices?state=bad")

    assert ">dev-001</a></h3>" in by_state
    assert ">dev-002</a></h3>" not in by_state
    assert ">dev-001</a></h3>" not in by_factory
    assert ">dev-002</a></h3>" in by_factory
    assert by_name.index(">dev-001</a></h3>") < by_name.index(">dev-002</a></h3>")
    assert unseen_first.index(">dev-002</a></h3>") < unseen_first.index(">dev-001</a></h3>")
    assert "No device is so." in none
    assert 'href="/hq/devices">Show all' in none
    for wrong in ("state=splendid", "sort=beauty", "page=0", "factory_id=x", "colour=red"):
        await page(browser, f"/hq/devices?{wrong}", 422)


async def test_a_long_list_is_turned_over(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbontrack.web.device_pages.SHOWN", 1)
    browser = await portal.browser("hq@example.org")

    first = await page(browser, "/hq/devices?sort=device_id")
    second = await page(browser, "/hq/devices?sort=device_id&page=2")

    assert ">dev-002</a></h3>" not in first
    assert 'href="/hq/devices?sort=device_id&amp;page=2" rel="next"' in first
    assert ">dev-002</a></h3>" in second
    assert 'rel="prev"' in second
    assert 'rel="next"' not in second


async def test_a_factory_sees_its_own_devices_and_no_others(portal: Portal) -> None:
    await heard(portal)
    browser = await portal.browser("manager@example.org")

    shown = await page(browser, "/factory/kangaita/devices")

    assert ">dev-001</a></h3>" in shown
    assert "dev-002" not in shown
    assert 'href="/factory/kangaita/devices" aria-current="page"' in shown
    assert "factory_id" not in shown
    await page(browser, "/factory/mungania/devices", 404)
    await page(browser, "/hq/devices", 403)
    await page(browser, "/factory/kangaita/devices?factory_id=1", 422)


async def test_a_factory_without_devices_says_so(portal: Portal) -> None:
    await portal.core.store.remove_device("dev-001")
    await portal.core.sync()
    browser = await portal.browser("clerk@example.org")

    shown = await page(browser, "/factory/kangaita/devices")

    assert "No device measures here yet." in shown
    assert '<form method="get"' not in shown


async def test_what_a_device_calls_itself_is_text_and_no_markup(portal: Portal) -> None:
    await heard(portal, version="<script>alert(1)</script>")
    browser = await portal.browser("hq@example.org")

    shown = await page(browser, "/hq/devices")

    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown
