"""Whatever is cut, lost, restarted or restored on the way, headquarters ends up with what the site has."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.intake import Batch, Intake
from carbontrack.metrics import Metrics
from carbontrack.model import Device, Factory, Flag, MonitoringPlan, Payload, Reading, Record, Sample, Site, Stack
from carbontrack.plugins.sensors.ct_v1 import CT_V1
from carbontrack.relay import MOST_FLYING, MOST_PATIENCE_S, Courier, Outgoing, decode_receipt
from carbontrack.store import ArchiveError, Handed, Work, open_store
from carbontrack.store.readings import channels
from carbontrack.streams import Stream
from tests.support.world import migrated_store, reading

pytest_plugins = ["tests.support.world"]

NOW_MS = 1_772_352_900_000  # 2026-03-01T08:15:00Z
DEVICE = "ct-0001"
COLUMNS = ("ds", "dt", "tq", "co2", "tg", "v", "dp", "pa", "m", "st")
SITE = Site(
    Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0),
    Stack(11, 1, "Boiler 1", (MonitoringPlan(),)),
    Device(21, DEVICE, 1, 11),
)


class Platform:
    """A core with its database: what it takes in one turn is committed with the streams."""

    def __init__(self) -> None:
        self.readings: dict[tuple[str, int], Reading] = {}
        self.records: dict[tuple[str, int], Record] = {}
        self.times: dict[tuple[str, int], int] = {}
        self.twice = 0
        self._opened = count(1)
        self.intake = Intake(SITE, CT_V1, self._open, stuck_after_s=600)

    async def _open(self, device_id: str, sid: str) -> Stream:
        return Stream(next(self._opened), sid)

    async def take(self, channel: str, body: bytes, now_ms: int) -> dict[str, int]:
        """Take a message; the receipts that are due, by stream."""
        batch = Batch(Work(DEVICE, 1))
        payload = Payload(DEVICE, channel, body, now_ms)
        await (self.intake.take_state if channel == "state" else self.intake.take_data)(payload, batch)
        assert not batch.quarantined, batch.causes
        names = {stream.pk: sid for sid, stream in self.intake.streams.items()}
        for row in batch.work.readings:
            self.twice += (names[row.stream_pk], row.seq) in self.readings
            self.readings[names[row.stream_pk], row.seq] = row
        for pk, record, measured_at, _ in batch.work.records:
            self.twice += (names[pk], record.seq) in self.records
            self.records[names[pk], record.seq] = record
            self.times[names[pk], record.seq] = round(measured_at.timestamp() * 1000)
        return {sid: stream.watermark for sid, stream in batch.receipts.items() if stream.watermark}

    async def read(self, stream: Stream, first: int, last: int, limit: int) -> list[Handed]:
        """The rows of a stream as the database gives them."""
        found: list[Handed] = []
        for (sid, seq), row in self.readings.items():
            if sid == stream.sid and first <= seq <= last:
                signal = row.pressure_difference_pa if row.flags & Flag.VELOCITY_FROM_PITOT else row.velocity_ms
                flow = channels(signal, row.flags)
                at_ms = round(row.measured_at.timestamp() * 1000)
                found.append(
                    Sample(seq, at_ms, 1, row.co2_ppm, row.temperature_c, *flow, row.pressure_kpa, None, row.flags)
                )
        for (sid, seq), record in self.records.items():
            if sid == stream.sid and first <= seq <= last:
                found.append(Record(seq, record.kind, self.times[sid, seq], 1, record.data))
        return sorted(found, key=lambda row: row.seq)[:limit]

    def kept(self) -> tuple[Any, ...]:
        return self.readings, self.records, self.times, self.intake.streams

    def restore(self, kept: tuple[Any, ...]) -> None:
        self.readings, self.records, self.times, self.intake.streams = kept


class World:
    """A device at its site, headquarters, and what is on its way between them. Time passes by ``wait``."""

    def __init__(self) -> None:
        self.site, self.hq = Platform(), Platform()
        self.now_s = 1000.0
        self.link: list[Outgoing] = []
        self.sid, self.seq, self.formats = "f0", 1, 0
        self.withheld: list[bytes] = []
        self.courier = Courier(DEVICE, 1)
        self.starts = 1
        self.backup = copy.deepcopy(self.hq.kept())
        self.online = True

    @property
    def now_ms(self) -> int:
        return NOW_MS + round(1000 * self.now_s)

    # --- at the site

    def _message(self, number: int, letter: str, columns: Sequence[str], rows: list[list[Any]], **more: Any) -> bytes:
        head = {"v": 1, "sid": self.sid, "boot": 3, "seq": self.seq, "n": number, "t": self.now_ms}
        self.seq += number
        return json.dumps(head | {letter: {"cols": columns, "rows": rows}} | more).encode()

    def _samples(self, number: int, at: int, status: int = 0) -> bytes:
        values = [98_000.5 + at, 183.25, 4.12 if at % 3 else None, 3.5, 79.68 if at % 5 else None, at / 100, status]
        rows = [[ds, 5000 * (ds - number), 1, *values] for ds in range(number)]
        return self._message(number, "s", COLUMNS, rows)

    async def measure(self, number: int, at: int, channel: str = "data") -> None:
        await self.site.take(channel, self._samples(number, at, status=at % 64), self.now_ms)

    async def measure_without_clock(self, number: int) -> None:
        rows = [[ds, 5000 * ds, 0, 98_000, 183.25, 4.12, None, 79.68, None, 0] for ds in range(number)]
        await self.site.take("backlog", self._message(number, "s", COLUMNS, rows, t=5000), self.now_ms)

    async def report(self) -> None:
        meters = self._message(1, "m", ("run_s", "kwh"), [[self.seq, None]])
        await self.site.take("data", meters, self.now_ms)
        anchor = self._message(1, "a", ("boot", "utc", "ms"), [[3, self.now_ms, 600_000]])
        await self.site.take("data", anchor, self.now_ms)

    async def lose(self, number: int) -> None:
        """The device loses records and says so."""
        first = self.seq
        self.seq += number
        gap = self._message(1, "g", ("from", "to", "why"), [[first, self.seq - 1, "overwritten"]])
        await self.site.take("backlog", gap, self.now_ms)

    async def say_again_that_all_is_lost(self) -> None:
        """A gap over numbers that the site has, as after a restored database."""
        if self.seq > 2:
            gap = self._message(1, "g", ("from", "to", "why"), [[1, self.seq - 1, "ack_regressed"]])
            await self.site.take("data", gap, self.now_ms)

    async def overtake(self, number: int) -> None:
        """Live records come before those that the device still has."""
        self.withheld.append(self._samples(number, 7))
        await self.measure(1, 1)

    async def fill(self) -> None:
        for body in self.withheld:
            await self.site.take("backlog", body, self.now_ms)
        self.withheld.clear()

    async def format(self) -> None:
        await self.fill()
        self.formats += 1
        self.sid, self.seq = f"f{self.formats}", 1

    async def begin_late(self, number: int) -> None:
        """A stream of which the site never had the beginning."""
        await self.format()
        self.seq = number
        birth = {"online": True, "conn": number, "sid": self.sid, "first": number}
        await self.site.take("state", json.dumps(birth).encode(), self.now_ms)

    # --- between

    async def wait(self, seconds: float) -> None:
        """The relay has its turn after so long."""
        self.now_s += seconds
        self.courier.look([copy.deepcopy(stream) for stream in self.site.intake.streams.values()])
        sent = await self.courier.next_messages(self.now_s, self.now_ms, self.site.read, online=self.online)
        self.link += sent

    async def deliver(self, number: int = 1_000_000, *, answered: bool = True) -> None:
        """So many messages reach headquarters; each answer reaches the site, or none does."""
        for message in self.link[:number]:
            for sid, seq in (await self.hq.take(message.channel, message.body, self.now_ms)).items():
                if answered:
                    receipt = {"sid": sid, "seq": seq, "credit": 5.0, "now": self.now_ms}
                    self.courier.take_receipt(decode_receipt(json.dumps(receipt).encode()), self.now_s)
        del self.link[:number]

    async def deliver_unanswered(self, number: int) -> None:
        await self.deliver(number, answered=False)

    def drop(self, number: int) -> None:
        del self.link[:number]

    def restart(self) -> None:
        self.starts += 1
        self.courier = Courier(DEVICE, self.starts)

    def reconnect(self) -> None:
        self.courier.connect_again()

    def ask_again(self) -> None:
        self.courier.ask_again()

    def back_up(self) -> None:
        self.backup = copy.deepcopy(self.hq.kept())

    def restore(self) -> None:
        self.hq.restore(copy.deepcopy(self.backup))

    async def all_well(self) -> None:
        """From now on nothing is lost, for as long as it takes."""
        await self.fill()
        self.ask_again()  # as every hour
        for _ in range(600):
            await self.wait(2.0)
            await self.deliver()
            if self.courier.is_known and not self.courier.waiting() and not self.link:
                break

    # --- the comparison

    def check(self) -> None:
        site, hq = self.site, self.hq
        assert hq.readings.keys() == site.readings.keys()
        for key, row in site.readings.items():
            assert _what_counts(hq.readings[key]) == _what_counts(row)
        told = {key: record for key, record in hq.records.items() if record.data.get("why") != "site"}
        assert {key: (row.kind, row.data) for key, row in told.items()} == {
            key: (row.kind, row.data) for key, row in site.records.items()
        }
        assert {key: at for key, at in hq.times.items() if key in told} == site.times
        for sid, stream in site.intake.streams.items():
            if stream.watermark:
                assert hq.intake.streams[sid].watermark == stream.watermark
                assert hq.intake.streams[sid].beyond == []


def _what_counts(reading: Reading) -> Any:
    """All of a reading but when it came, which is another matter at headquarters."""
    late = int(Flag.BACKLOG)
    return msgspec.structs.astuple(
        msgspec.structs.replace(reading, stream_pk=0, received_at=reading.measured_at, flags=reading.flags & ~late)
    )


FEW = st.integers(1, 200)
AT_SITE = st.one_of(
    st.tuples(st.just("measure"), FEW, st.integers(0, 100), st.sampled_from(("data", "backlog"))),
    st.tuples(st.just("measure_without_clock"), st.integers(1, 5)),
    st.tuples(st.just("report")),
    st.tuples(st.just("lose"), st.integers(1, 3000)),
    st.tuples(st.just("say_again_that_all_is_lost")),
    st.tuples(st.just("overtake"), FEW),
    st.tuples(st.just("fill")),
    st.tuples(st.just("format")),
    st.tuples(st.just("begin_late"), st.integers(1, 1000)),
)
BETWEEN = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((1.0, 5.0, 61.0, 700.0))),
    st.tuples(st.just("deliver"), st.integers(1, 30)),
    st.tuples(st.just("deliver_unanswered"), st.integers(1, 30)),
    st.tuples(st.just("drop"), st.integers(1, 30)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("ask_again")),
    st.tuples(st.just("back_up")),
    st.tuples(st.just("restore")),
)
STORY = st.lists(st.one_of(AT_SITE, BETWEEN, st.just(("wait", 1.0)), st.just(("deliver", 30))), max_size=40)


@settings(max_examples=100, deadline=None)
@given(STORY)
def test_headquarters_ends_up_with_what_the_site_has(story: list[tuple[Any, ...]]) -> None:
    asyncio.run(_tell(story))


async def _tell(story: list[tuple[Any, ...]]) -> None:
    world = World()
    for name, *arguments in story:
        done = getattr(world, name)(*arguments)
        if asyncio.iscoroutine(done):
            await done
    await world.all_well()
    world.check()


@pytest.mark.parametrize(
    "story",
    [
        [("measure", 1, 1, "data"), ("wait", 1.0), ("lose", 100), ("wait", 1.0), ("deliver", 9)],
        [("measure", 1, 1, "data"), ("wait", 7.0), ("deliver", 9), ("restore",)],
        [("measure", 70, 1, "data"), ("format",), ("measure", 1, 1, "data"), ("overtake", 5), ("wait", 1.0)],
    ],
    ids=["half of a hole is declared before the whole", "restored to before a stream began", "three streams"],
)
async def test_headquarters_gets_all_after(story: list[tuple[Any, ...]]) -> None:
    await _tell(story)


async def test_a_value_that_stands_still_is_judged_at_the_site_alone(world: World) -> None:
    """What lies between two equal values may have come to headquarters as backlog."""
    await world.all_well()
    for _ in range(15):
        await world.measure(1, 60)
        await world.wait(1.0)
        await world.deliver()
        await world.measure(1, 61)
        await world.wait(1.0)
        world.drop(1)
        await world.wait(65.0)
        await world.deliver()

    await world.all_well()

    world.check()


@pytest.fixture
async def world() -> World:
    world = World()
    await world.measure(600, 3)
    return world


async def test_a_silent_headquarters_is_not_flooded(world: World) -> None:
    for second in range(3 * 3600):
        if second % 5 == 0:
            await world.measure(1, 4)
        await world.wait(1.0)
        world.now_s -= world.now_s % 1

    # Until the patience ends live records are sent; then one message at a time, ten minutes apart.
    probes = 3 * 3600 / MOST_PATIENCE_S
    assert len(world.link) < 60 / 5 + MOST_FLYING + 3 * (probes + 6)


async def test_when_headquarters_speaks_again_it_gets_the_newest_first_and_then_the_rest(world: World) -> None:
    await world.wait(1.0)
    world.drop(100)
    await world.measure(1, 5)

    await world.wait(1.0)

    assert [message.channel for message in world.link] == ["data"]
    await world.all_well()
    world.check()


async def test_what_is_on_its_way_is_bounded_however_much_waits(world: World) -> None:
    for _ in range(30):
        await world.measure(200, 3, "backlog")
    await world.wait(1.0)
    await world.deliver()
    await world.wait(6.0)
    await world.deliver()  # from here on nothing is delivered
    for _ in range(50):
        await world.wait(1.0)

    assert 1 < len(world.link) <= MOST_FLYING


# --- the site's database, and who is told


DAY = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 6, 1, tzinfo=UTC)


async def test_records_are_found_by_their_numbers_wherever_they_are(database_url: str, tmp_path: Path) -> None:
    """In the database and in the archive, of two stacks, and however large they are."""
    large = 2**31 - 3
    async with migrated_store(database_url, archive_folder=tmp_path / "archive") as store:
        await store.prepare_relaying()
        await store.prepare_relaying()
        stream = await store.open_stream(DEVICE, "f0")
        kept = {
            large + number: reading(large + number, DAY + timedelta(hours=8 * number), stack_id=1 + (number > 3))
            for number in (0, 1, 2, 4, 5, 6, 8)
        }
        meter = Record(large + 7, "meter", 0, 1, {"run_s": 7})
        at = DAY + timedelta(hours=56)
        await store.save(Work(DEVICE, 1, list(kept.values()), records=[(stream.pk, meter, at, at)]))

        async def found(first: int, last: int, limit: int = 100) -> list[int]:
            rows = await store.numbered(stream.pk, DEVICE, "f0", large + first, large + last, limit)
            return [row.seq - large for row in rows]

        before = await store.numbered(stream.pk, DEVICE, "f0", 1, 2**53, 100)
        assert [row.seq - large for row in before] == [0, 1, 2, 4, 5, 6, 7, 8]
        await store.retire(DAY.date(), LATER)
        await store.retire(DAY.date() + timedelta(days=2), LATER)

        assert await store.numbered(stream.pk, DEVICE, "f0", 1, 2**53, 100) == before
        assert await found(1, 5) == [1, 2, 4, 5]
        assert await found(0, 8, limit=3) == [0, 1, 2]
        assert await found(3, 8, limit=4) == [4, 5, 6, 7]
        assert await found(9, 100) == []
        assert isinstance(before[0], Sample)
        assert before[0].co2_ppm == kept[large].co2_ppm

    async with open_store(database_url, Metrics()) as store:
        with pytest.raises(ArchiveError, match=r"retention\.archive_folder"):
            await store.numbered(stream.pk, DEVICE, "f0", 1, 2**53, 100)
