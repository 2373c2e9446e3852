"""The simulated fleet: plausible boilers, instruments that misbehave on purpose, nodes that keep the protocol."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.emissions.combustion import flue_gas
from carbontrack.emissions.rate import emission_rate, site_pressure_kpa
from carbontrack.ingest import BrokerSettings, tls_context
from carbontrack.model import Factory, Flag, Message, MonitoringPlan, Payload, Sample
from carbontrack.plugins.sensors.ct_v1 import decode
from carbontrack.simulator import Boiler, DemoFactory, DemoStack, Node, demo_fleet, run_fleet
from carbontrack.simulator.instruments import STUCK_CO2_PPM, Instruments, Measured
from carbontrack.simulator.memory import Memory
from carbontrack.simulator.runner import Pace
from carbontrack.streams import Stream
from tests.support.mosquitto import Broker, password_of

LEAST_AIR, MOST_AIR = 1.25, 3.6
"""Lambda of a fire: least while fresh wood gives off its volatiles, most while the door is open."""
NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MEASURED = Measured(98_000.0, 183.25, 3.61, 4.12, 79.68, 41.0, 0.165714, 0)

seeds = st.integers(0, 2**32 - 1)
moments = st.integers(NOW_MS - 400 * DAY_MS, NOW_MS + 4000 * DAY_MS)


def stacks(fleet: list[DemoFactory]) -> list[tuple[Factory, DemoStack]]:
    return [(each.factory, stack) for each in fleet for stack in each.stacks]


def with_fault(fault: str | None) -> tuple[Factory, DemoStack]:
    return next((factory, stack) for factory, stack in stacks(demo_fleet()) if stack.fault == fault)


class TestBoiler:
    @given(seeds, moments)
    def test_gas_is_always_that_of_a_wood_fired_boiler(self, seed: int, moment_ms: int) -> None:
        flue = Boiler(seed).at(moment_ms)

        assert 0 <= flue.heat <= 1
        assert 450 <= flue.co2_ppm <= flue_gas(LEAST_AIR).co2_dry * 1e6 + 420
        assert 25 <= flue.temperature_c <= 260
        assert 0 < flue.velocity_ms <= 6
        if flue.heat == 1:
            assert LEAST_AIR <= flue.excess_air <= MOST_AIR
            assert flue.co2_ppm >= flue_gas(MOST_AIR).co2_dry * 1e6
            assert flue.temperature_c >= 150
            assert flue.velocity_ms >= 2
        if flue.heat == 0:
            assert flue.co2_ppm <= 1500
            assert flue.temperature_c <= 60
            assert flue.velocity_ms < 0.4

    @given(seeds, moments)
    def test_the_same_moment_always_gives_the_same_gas(self, seed: int, moment_ms: int) -> None:
        boiler = Boiler(seed)
        first = boiler.at(moment_ms)
        boiler.at(moment_ms + HOUR_MS)

        assert boiler.at(moment_ms) == first == Boiler(seed).at(moment_ms)

    @given(seeds, moments)
    def test_nothing_jumps(self, seed: int, moment_ms: int) -> None:
        before, after = (Boiler(seed).at(moment_ms + more_ms) for more_ms in (0, 100))

        assert abs(after.co2_ppm - before.co2_ppm) < 1000
        assert abs(after.temperature_c - before.temperature_c) < 1
        assert abs(after.velocity_ms - before.velocity_ms) < 0.2

    def test_boilers_differ(self) -> None:
        assert len({Boiler(seed).at(NOW_MS).co2_ppm for seed in range(50)}) == 50

    def test_an_open_firebox_door_dilutes_and_cools_every_10_to_20_minutes(self) -> None:
        boiler = Boiler(1)
        firing = [boiler.at(NOW_MS + second * 1000) for second in range(0, 3 * DAY_MS // 1000, 10)]
        diluted = [
            number * 10
            for number in range(1, len(firing))
            if firing[number].heat == firing[number - 1].heat == 1
            and firing[number].co2_ppm < 0.95 * firing[number - 1].co2_ppm
        ]
        openings = [second for number, second in enumerate(diluted) if number == 0 or second - diluted[number - 1] > 60]
        distances = sorted(later - earlier for earlier, later in pairwise(openings))

        assert distances[0] >= 570
        assert 800 <= median(distances) <= 1000

    def test_most_boilers_fire_at_any_time_of_day(self) -> None:
        boilers = [Boiler(stack.seed) for _, stack in stacks(demo_fleet())]
        shares = [sum(boiler.at(NOW_MS + hour * HOUR_MS).heat > 0.5 for boiler in boilers) for hour in range(7 * 24)]

        assert min(shares) > len(boilers) / 2
        assert max(shares) < len(boilers)


class TestFleet:
    def test_all_factories_of_the_demonstration_have_one_to_three_stacks(self) -> None:
        fleet = demo_fleet()

        assert len(fleet) == 67
        assert {len(each.stacks) for each in fleet} == {1, 2, 3}
        assert 110 <= len(stacks(fleet)) <= 150

    def test_a_larger_fleet_contains_the_smaller_one(self) -> None:
        assert demo_fleet() == demo_fleet(67)
        assert demo_fleet(67)[:5] == demo_fleet(5)

    def test_a_small_fleet_is_spread_over_the_regions(self) -> None:
        assert len({each.factory.region for each in demo_fleet(7)}) == 7

    def test_device_ids_name_factory_and_boiler(self) -> None:
        kangaita = next(each for each in demo_fleet() if each.factory.slug == "kangaita")

        assert kangaita.stacks[0].device_id == "ct-kangaita-1"
        assert kangaita.stacks[0].name == "Boiler 1"
        device_ids = [stack.device_id for _, stack in stacks(demo_fleet())]
        assert len(set(device_ids)) == len(device_ids)

    def test_two_analysers_of_the_fleet_are_unfit_and_one_of_a_small_fleet(self) -> None:
        def unfit(fleet: list[DemoFactory]) -> int:
            return sum(stack.fault == "unfit" for _, stack in stacks(fleet))

        assert unfit(demo_fleet()) == 2
        assert unfit(demo_fleet(5)) == 1
        assert all((stack.fault == "unfit") == (stack.plan.co2_range_ppm == 5000) for _, stack in stacks(demo_fleet()))

    def test_one_channel_is_stuck_and_one_thermocouple_is_bad(self) -> None:
        faults = [stack.fault for _, stack in stacks(demo_fleet())]

        assert faults.count("stuck") == 1
        assert faults.count("thermocouple") == 1


class TestInstruments:
    def readings(self, fault: str | None, *, days: int = 2) -> Iterator[Measured]:
        factory, stack = with_fault(fault)
        instruments = Instruments(stack, factory)
        return (instruments.read(NOW_MS + ms) for ms in range(0, days * DAY_MS, 60_000))

    def test_a_firing_stack_emits_some_hundred_grams_of_co2_a_second(self) -> None:
        rates = []
        for factory, stack in stacks(demo_fleet()):
            measured = Instruments(stack, factory).read(NOW_MS)
            if stack.fault is None and Boiler(stack.seed).at(NOW_MS).heat == 1:
                assert measured.co2_kg_per_s is not None
                rates.append(measured.co2_kg_per_s)

        assert len(rates) > 60
        assert min(rates) >= 0.05
        assert max(rates) <= 0.35

    def test_the_rate_of_the_node_is_that_of_the_platform(self) -> None:
        factory, stack = with_fault(None)
        site_kpa = site_pressure_kpa(factory)
        for one in self.readings(None):
            sample = Sample(
                1,
                NOW_MS,
                co2_ppm=one.co2_ppm,
                temperature_c=one.temperature_c,
                pressure_difference_pa=one.pressure_difference_pa,
                pressure_kpa=one.pressure_kpa,
                device_co2_kg_per_s=one.co2_kg_per_s,
            )
            rate = emission_rate(sample, stack.plan, site_kpa, 0)  # here with the velocity of the pitot tube

            assert rate.co2_kg_per_s == pytest.approx(one.co2_kg_per_s, rel=0.05, abs=1e-4)

    def test_an_unfit_analyser_reads_its_full_scale_and_says_so(self) -> None:
        firing = [one for one in self.readings("unfit") if not one.status & Flag.BOILER_OFF]

        assert max(one.co2_ppm or 0 for one in firing) == 5000
        for one in firing:
            assert (one.co2_ppm == 5000) == bool(one.status & Flag.CO2_OVER_RANGE)
            if one.co2_ppm == 5000:
                assert one.co2_kg_per_s is None

    def test_a_stuck_channel_gives_one_value(self) -> None:
        assert {one.co2_ppm for one in self.readings("stuck")} == {STUCK_CO2_PPM}

    def test_a_bad_thermocouple_opens_now_and_then(self) -> None:
        readings = list(self.readings("thermocouple"))
        opened = [one for one in readings if one.status & Flag.TEMPERATURE_OPEN]

        assert 0.02 < len(opened) / len(readings) < 0.25
        assert all(one.temperature_c is None and one.co2_kg_per_s is None for one in opened)
        assert all(one.temperature_c is not None for one in readings if one not in opened)


def connected(node: Node) -> dict[str, Any]:
    """Let the node connect; its birth message."""
    node.open()
    birth: dict[str, Any] = json.loads(node.birth(NOW_MS))
    return birth


def read(body: bytes | None) -> Message:
    assert body is not None
    return decode(Payload("ct-test-1", "data", body, NOW_MS))


def live(node: Node) -> list[Message]:
    return [read(body) for body in iter(lambda: node.next_live(NOW_MS), None)]


def backlog(node: Node, now_ms: int = NOW_MS) -> list[Message]:
    return [read(body) for body in iter(lambda: node.next_backlog(now_ms), None)]


def numbers(messages: list[Message]) -> list[int]:
    for message in messages:
        rows = sorted([row.seq for row in message.samples] + [row.seq for row in message.records])
        assert rows == list(range(message.first_seq, message.first_seq + message.count))
    return [message.first_seq + more for message in messages for more in range(message.count)]


def receipt(node: Node, seq: int, *, sid: str | None = None, credit: float = 1.0) -> bool:
    body = {"sid": sid or node.sid, "seq": seq, "now": NOW_MS, "credit": credit}
    return node.take_receipt(json.dumps(body).encode(), NOW_MS)


def sample(node: Node, times: int = 1) -> None:
    for number in range(times):
        node.add_sample(MEASURED, NOW_MS + number * 5000)


@pytest.fixture
def node() -> Node:
    return Node("ct-test-1", booted_ms=NOW_MS - HOUR_MS)


class TestNode:
    def test_a_live_message_holds_one_record_that_the_platform_reads(self, node: Node) -> None:
        connected(node)
        sample(node)
        (message,) = live(node)

        assert message.stream == node.sid
        assert message.boot == 1
        assert message.count == 1
        assert message.samples == [
            Sample(1, NOW_MS, 1, 98_000.0, 183.25, 4.12, 3.61, 79.68, 0.165714, 0),
        ]

    def test_a_stream_id_has_8_hexadecimal_digits(self, node: Node) -> None:
        assert re.fullmatch("[0-9a-f]{8}", node.sid)

    def test_numbers_have_no_gap_over_all_kinds_of_records(self, node: Node) -> None:
        connected(node)
        sample(node, 2)
        node.add_health(-60, NOW_MS)
        sample(node, 2)

        assert numbers(live(node)) == [1, 2, 3, 4, 5]

    def test_what_was_kept_without_a_connection_goes_out_in_batches_of_60(self, node: Node) -> None:
        sample(node, 100)
        node.add_health(-60, NOW_MS)
        sample(node, 49)
        birth = connected(node)
        messages = backlog(node)

        assert (birth["first"], birth["next"]) == (1, 151)
        assert live(node) == []
        assert [message.count for message in messages] == [60, 60, 30]
        assert numbers(messages) == list(range(1, 151))
        assert [record.kind for message in messages for record in message.records] == ["health"]
        assert messages[2].samples[-1].device_time_ms == NOW_MS + 48 * 5000

    def test_backlog_ends_where_live_records_begin(self, node: Node) -> None:
        sample(node, 70)
        connected(node)
        sample(node, 3)

        assert numbers(live(node)) == [71, 72, 73]
        assert numbers(backlog(node)) == list(range(1, 71))

    def test_without_a_connection_nothing_is_sent(self, node: Node) -> None:
        sample(node, 3)
        assert node.next_live(NOW_MS) is None
        assert node.next_backlog(NOW_MS) is None

        connected(node)
        node.hung_up()
        sample(node)
        assert node.next_live(NOW_MS) is None
        assert node.next_backlog(NOW_MS) is None

    def test_birth_and_will_carry_the_same_connection_and_each_connection_has_a_new_number(self, node: Node) -> None:
        wills = []
        for number in (1, 2):
            wills.append(json.loads(node.open()))
            birth = json.loads(node.birth(NOW_MS))
            assert (birth["online"], birth["conn"], birth["boot"], birth["sid"]) == (True, number, 1, node.sid)

        assert wills == [{"v": 1, "online": False, "conn": conn, "boot": 1} for conn in (1, 2)]
        assert json.loads(node.goodbye("stopped")) == {**wills[1], "why": "stopped"}

    def test_a_node_states_what_its_co2_channel_can_read(self) -> None:
        sensors = connected(Node("ct-test-1", range_ppm=5000))["sens"]

        assert {sensor["ch"]: sensor["max"] for sensor in sensors}["co2"] == 5000

    def test_two_boots_do_not_share_a_message(self, node: Node) -> None:
        sample(node, 3)
        node = Node("ct-test-1", state=node.state())
        sample(node, 3)
        connected(node)
        messages = backlog(node)

        assert [(message.boot, message.count) for message in messages] == [(1, 3), (2, 3)]
        assert numbers(messages) == [1, 2, 3, 4, 5, 6]

    def test_without_a_clock_times_count_from_boot_until_an_anchor_says_what_they_were_worth(self) -> None:
        node = Node("ct-test-1", booted_ms=NOW_MS - 60_000, clock_set=False)
        sample(node, 2)
        node.set_clock(NOW_MS + 7000)
        connected(node)
        unset, anchor = backlog(node)

        assert [row.device_time_ms for row in unset.samples] == [60_000, 65_000]
        assert {row.clock for row in unset.samples} == {0}
        assert anchor.records[0].kind == "anchor"
        assert anchor.records[0].data == {"boot": 1, "utc": NOW_MS + 7000, "ms": 67_000}
        assert anchor.records[0].clock == 1


class TestReceipts:
    def test_a_receipt_moves_the_tail(self, node: Node) -> None:
        connected(node)
        sample(node, 10)
        live(node)

        assert receipt(node, 7)
        assert node.ring.tail == 8
        assert len(node.ring) == 3

    def test_a_receipt_of_another_stream_is_ignored(self, node: Node) -> None:
        connected(node)
        sample(node, 10)
        live(node)

        assert not receipt(node, 7, sid="00000000")
        assert node.ring.tail == 1

    def test_a_receipt_of_what_was_never_sent_is_ignored(self, node: Node) -> None:
        connected(node)
        sample(node, 10)
        live(node)

        assert not receipt(node, 11)
        assert node.ring.tail == 1

    @pytest.mark.parametrize("body", [b"", b"{}", b"no json", b'{"sid":1,"seq":"x"}', b"\xff"])
    def test_what_is_no_receipt_is_ignored(self, node: Node, body: bytes) -> None:
        assert not node.take_receipt(body, NOW_MS)

    def test_the_platform_sets_the_pace_of_the_backlog(self, node: Node) -> None:
        assert receipt(node, 0, credit=12.5)
        assert node.credit == 12.5

    def test_what_is_not_receipted_goes_out_again_on_the_next_connection(self, node: Node) -> None:
        connected(node)
        sample(node, 10)
        live(node)
        receipt(node, 4)
        node.hung_up()
        birth = connected(node)

        assert birth["first"] == 5
        assert numbers(backlog(node)) == [5, 6, 7, 8, 9, 10]

    def test_without_progress_for_a_minute_all_is_sent_again_and_then_ever_later(self, node: Node) -> None:
        connected(node)
        sample(node, 5)
        live(node)
        receipt(node, 2)

        assert backlog(node, NOW_MS + 59_999) == []
        assert numbers(backlog(node, NOW_MS + 60_000)) == [3, 4, 5]
        assert backlog(node, NOW_MS + 179_999) == []
        assert numbers(backlog(node, NOW_MS + 180_000)) == [3, 4, 5]
        receipt(node, 5)
        assert backlog(node, NOW_MS + DAY_MS) == []

    def test_a_platform_that_lost_records_is_told_once_which_are_gone(self, node: Node) -> None:
        connected(node)
        sample(node, 10)
        live(node)
        receipt(node, 8)
        receipt(node, 3)
        receipt(node, 3)
        event, gap = (message.records[0] for message in live(node))

        assert (event.kind, event.data["code"]) == ("event", "ack_regressed")
        assert (gap.kind, gap.data["from"], gap.data["to"]) == ("gap", 4, 8)

    @pytest.mark.parametrize("seq", [3, 10], ids=["older", "newer"])
    def test_a_receipt_that_the_broker_had_kept_says_nothing(self, node: Node, seq: int) -> None:
        connected(node)
        sample(node, 10)
        live(node)
        receipt(node, 8)
        body = json.dumps({"sid": node.sid, "seq": seq, "credit": 1}).encode()

        assert not node.take_receipt(body, NOW_MS, retained=True)

        assert node.watermark == 8
        assert live(node) == []


class TestRing:
    def test_a_full_ring_overwrites_the_oldest_and_declares_the_gap(self) -> None:
        node = Node("ct-test-1", capacity=10)
        sample(node, 25)
        birth = connected(node)
        messages = backlog(node)
        (gap,) = (record for message in messages for record in message.records)

        assert birth["first"] == 17
        assert numbers(messages) == list(range(17, 27))
        assert gap.kind == "gap"
        assert (gap.data["from"], gap.data["to"]) == (1, 16)

    def test_the_platform_ends_up_without_a_hole(self) -> None:
        node = Node("ct-test-1", capacity=10)
        stream = Stream(1, node.sid)
        stream.begin(1)
        sample(node, 25)
        connected(node)
        for message in backlog(node):
            stream.add(message.first_seq, message.first_seq + message.count - 1)
            for record in message.records:
                stream.add(record.data["from"], record.data["to"])

        assert stream.beyond == []
        assert stream.watermark is not None
        assert receipt(node, stream.watermark)
        assert len(node.ring) == 0

    def test_what_was_receipted_before_it_was_overwritten_is_no_gap(self) -> None:
        node = Node("ct-test-1", capacity=10)
        connected(node)
        for _ in range(50):
            sample(node)
            numbers(live(node))
            receipt(node, node.sent)

        assert node.ring.lost is None

    @given(st.lists(st.integers(0, 8), max_size=40), st.integers(2, 20))
    def test_whatever_happens_the_platform_gets_every_number_once_or_as_lost(
        self, steps: list[int], capacity: int
    ) -> None:
        node = Node("ct-test-1", capacity=capacity)
        stream = Stream(1, node.sid)
        for step in [*steps, 8]:
            sample(node, step)
            if step % 3 == 0:
                continue
            birth = connected(node)
            stream.begin(birth["first"])
            stream.add(0, birth["first"] - 1)
            for message in [*backlog(node), *live(node)]:
                stream.add(message.first_seq, message.first_seq + message.count - 1)
            assert stream.watermark is not None
            receipt(node, stream.watermark)
            node.hung_up()

        assert stream.beyond == []
        assert stream.watermark == node.sent == node.ring.next_seq - 1


class TestRestart:
    def test_a_node_goes_on_where_it_stopped(self, node: Node, tmp_path: Path) -> None:
        connected(node)
        sample(node, 10)
        live(node)
        receipt(node, 6)
        sample(node, 2)
        Memory(tmp_path, "ct-test-1").save(node.state())
        restarted = Node("ct-test-1", state=Memory(tmp_path, "ct-test-1").load())
        birth = connected(restarted)

        assert (birth["sid"], birth["boot"], birth["conn"]) == (node.sid, 2, 2)
        assert (birth["first"], birth["next"]) == (7, 13)
        assert receipt(restarted, 9), "a receipt for what was sent before the restart still holds"
        messages = backlog(restarted)
        assert numbers(messages) == [10, 11, 12]
        assert messages[0].samples[0].co2_ppm == MEASURED.co2_ppm

    def test_a_crash_never_makes_a_node_use_a_number_twice(self, node: Node) -> None:
        connected(node)
        reserved = node.reservation(100)
        sample(node, 99)
        used = numbers(live(node))
        restarted = Node("ct-test-1", state=reserved)
        sample(restarted)
        birth = connected(restarted)

        assert restarted.sid == node.sid
        assert birth["conn"] > node.conn
        assert birth["first"] > max(used)

    def test_a_new_node_has_no_memory(self, tmp_path: Path) -> None:
        assert Memory(tmp_path, "ct-test-1").load() is None
        Memory(None, "ct-test-1").save({})
        assert Memory(None, "ct-test-1").load() is None


class TestPace:
    def test_a_faster_fleet_sends_more_often_and_its_boilers_live_faster_from_the_start_on(self) -> None:
        pace = Pace(5.0, 10.0, NOW_MS)

        assert pace.interval_ms == 500
        assert pace.boiler_ms(NOW_MS - 1000) == NOW_MS - 1000
        assert pace.boiler_ms(NOW_MS + 1000) == NOW_MS + 10_000

    @given(moments, st.floats(0, 1, exclude_max=True), st.sampled_from([1.0, 7.0, 60.0]))
    def test_a_device_keeps_its_place_in_the_interval(self, now_ms: int, place: float, speed: float) -> None:
        pace = Pace(5.0, speed, NOW_MS)
        wait_s = pace.until_next_s(now_ms, place)

        assert 0.1 * pace.interval_ms <= wait_s * 1000 <= 1.1 * pace.interval_ms + 1e-3
        off = (now_ms + wait_s * 1000 - place * pace.interval_ms) % pace.interval_ms
        assert min(off, pace.interval_ms - off) < 0.01


class Platform:
    """Reads what one device sends, as the platform does, and says what it has."""

    def __init__(self, client: aiomqtt.Client, device_id: str) -> None:
        self._client = client
        self._device_id = device_id
        self.states: list[dict[str, Any]] = []
        self.channels: list[str] = []
        self.samples: dict[int, Sample] = {}
        self.stream = Stream(1, "")

    async def take(self) -> None:
        message = await anext(self._client.messages)
        assert isinstance(message.payload, bytes)
        channel = message.topic.value.rsplit("/", 1)[1]
        if channel == "state":
            self._take_state(json.loads(message.payload))
            return
        self.channels.append(channel)
        read = decode(Payload(self._device_id, channel, message.payload, NOW_MS))
        assert read.stream == self.stream.sid
        self.samples |= {row.seq: row for row in read.samples}
        self.stream.add(read.first_seq, read.first_seq + read.count - 1)
        answer = {"sid": self.stream.sid, "seq": self.stream.watermark, "credit": 50}
        await self._client.publish(f"ct/v1/{self._device_id}/dn/ack", json.dumps(answer))

    def _take_state(self, state: dict[str, Any]) -> None:
        self.states.append(state)
        if state["online"] and not self.stream.sid:
            self.stream.sid = state["sid"]
            self.stream.begin(state["first"])


class TestRun:
    @pytest.fixture
    def fleet(self) -> list[DemoFactory]:
        (first,) = demo_fleet(1)
        return [DemoFactory(first.factory, (DemoStack("Boiler 1", MonitoringPlan(), "dev-007", 7),))]

    async def test_a_node_sends_its_history_and_its_readings_and_goes_on_after_a_restart(
        self, fleet: list[DemoFactory], mosquitto: Broker, tmp_path: Path
    ) -> None:
        broker = BrokerSettings(mosquitto.host, mosquitto.port, tls=tls_context(mosquitto.ca_file))

        async with mosquitto.client("core") as core:
            await core.subscribe("ct/v1/+/up/#", qos=1)
            platform = Platform(core, "dev-007")
            for boot in (1, 2):
                stop = asyncio.Event()
                run = asyncio.create_task(
                    run_fleet(
                        fleet, broker, speed=50, history_hours=1, state_dir=tmp_path, stop=stop, password_of=password_of
                    )
                )
                wanted = 120 + 15 * boot
                while len(platform.samples) < wanted or platform.stream.beyond:
                    await platform.take()
                stop.set()
                await run
                while platform.states[-1]["online"]:
                    await platform.take()

        assert [(state["online"], state["boot"], state["conn"]) for state in platform.states] == [
            (True, 1, 1),
            (False, 1, 1),
            (True, 2, 2),
            (False, 2, 2),
        ]
        assert platform.states[0]["sid"] == platform.states[2]["sid"]
        assert platform.stream.watermark >= max(platform.samples)
        assert platform.stream.beyond == [], "no number is missing, be it a sample's or a meter's"
        assert platform.channels.count("backlog") >= 2, "an hour of history has more records than a message may"
        assert "data" in platform.channels
        times = [platform.samples[seq].device_time_ms for seq in sorted(platform.samples)]
        assert times == sorted(times)
        assert times[119] - times[0] == 119 * 30_000

    async def test_a_fleet_that_is_stopped_before_it_has_its_history_begins_anew(
        self, fleet: list[DemoFactory], tmp_path: Path
    ) -> None:
        stop = asyncio.Event()
        stop.set()
        await run_fleet(fleet, BrokerSettings("127.0.0.1", 1), history_hours=1, state_dir=tmp_path, stop=stop)

        assert Memory(tmp_path, "dev-007").load() is None

    async def test_a_fleet_without_a_broker_keeps_what_it_measures(
        self, fleet: list[DemoFactory], tmp_path: Path
    ) -> None:
        stop = asyncio.Event()

        def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            stop.set()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            broker = BrokerSettings(host, port, tls=ssl.create_default_context())
            await run_fleet(fleet, broker, history_hours=0.1, state_dir=tmp_path, stop=stop)
        state = Memory(tmp_path, "dev-007").load()

        assert state is not None
        assert connected(Node("dev-007", state=state))["first"] == 1
        assert len(state["records"]) >= 12

    async def test_a_node_comes_back_after_the_broker_does(
        self, fleet: list[DemoFactory], mosquitto: Broker, tmp_path: Path
    ) -> None:
        broker = BrokerSettings(mosquitto.host, mosquitto.port, tls=tls_context(mosquitto.ca_file))
        stop = asyncio.Event()
        run = asyncio.create_task(
            run_fleet(fleet, broker, speed=50, state_dir=None, stop=stop, password_of=password_of)
        )
        states = []
        for _ in range(2):
            async with mosquitto.client("core") as core:
                await core.subscribe("ct/v1/+/up/#", qos=1)
                platform = Platform(core, "dev-007")
                while len(platform.samples) < 10:
                    await platform.take()
                states.append(platform.states[0])
            if len(states) == 1:
                mosquitto.kill()
                mosquitto.start()
        stop.set()
        await run

        assert states[0]["sid"] == states[1]["sid"]
        assert states[1]["conn"] > states[0]["conn"]
        assert states[1]["first"] > 1, "what was receipted is not sent again"
