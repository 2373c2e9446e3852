"""What becomes of a device's payloads: each record is new, a duplicate, quarantined or refused, and never lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.fence import Fence, Watch
from carbontrack.hookspecs import DecodeError, SensorDriver
from carbontrack.intake import MOST_STREAMS, Batch, Intake, check_message
from carbontrack.model import (
    Device,
    Factory,
    Flag,
    Message,
    MonitoringPlan,
    Payload,
    Reading,
    Sample,
    Site,
    Stack,
)
from carbontrack.plugins.sensors.ct_v1 import CT_V1
from carbontrack.plugins.sensors.flat_json import FLAT_JSON
from carbontrack.store import Work
from carbontrack.streams import FUTURE_TOLERANCE_MS, MOST_RANGES, Stream

NOW_MS = 1_772_352_900_000  # 2026-03-01T08:15:00Z
SID = "9f3c21aa"
COLUMNS = ["ds", "dt", "tq", "co2", "tg", "v", "pa", "st"]
SITE = Site(
    Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0),
    Stack(11, 1, "Boiler 1", (MonitoringPlan(),)),
    Device(21, "ct-0001", 1, 11),
)


def utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def payload(body: object, channel: str = "data", received_at_ms: int = NOW_MS) -> Payload:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Payload("ct-0001", channel, raw, received_at_ms)


def samples(
    seq: int, number: int = 1, *, sid: str = SID, boot: int = 412, t: int | None = None, tq: int = 1, **other: Any
) -> dict[str, Any]:
    """A message of samples, five seconds apart; the last is of now."""
    first_ms = NOW_MS - 5000 * (number - 1) if t is None else t
    rows = [[ds, 5000 * ds, tq, 98_000, 183.25, 4.12, 79.68, 0] for ds in range(number)]
    body = {"v": 1, "sid": sid, "boot": boot, "cfg": 17, "seq": seq, "n": number, "t": first_ms}
    return body | {"s": {"cols": COLUMNS, "rows": rows}} | other


def records(letter: str, seq: int, *rows: dict[str, Any], t: int = NOW_MS, boot: int = 412) -> dict[str, Any]:
    """A message of records of one kind; each row is a dictionary of the same keys."""
    columns = ["ds", "dt", "tq", *rows[0]]
    block = {"cols": columns, "rows": [[ds, 0, 1, *row.values()] for ds, row in enumerate(rows)]}
    return {"v": 1, "sid": SID, "boot": boot, "cfg": 17, "seq": seq, "n": len(rows), "t": t, letter: block}


def birth(first: int = 1, *, sid: str = SID, conn: int = 1, **other: Any) -> Payload:
    return payload({"v": 1, "online": True, "conn": conn, "boot": 412, "sid": sid, "first": first} | other, "state")


def will(conn: int = 1) -> Payload:
    return payload({"v": 1, "online": False, "conn": conn, "boot": 412}, "state")


class Desk:
    """An intake with a database that only counts streams."""

    def __init__(self, driver: SensorDriver = CT_V1, site: Site = SITE) -> None:
        self.opened = count(1)
        fence = Fence(driver.name, Watch())
        decode = fence.guard(driver.decode, lambda one: one.device_id, check=check_message, answers=(DecodeError,))
        self.intake = Intake(site, replace(driver, decode=decode), self._open, stuck_after_s=600)

    async def _open(self, device_id: str, sid: str) -> Stream:
        return Stream(next(self.opened), sid)

    async def take(self, *payloads: Payload) -> Batch:
        """One turn of the actor."""
        batch = Batch(Work("ct-0001", 1))
        for one in payloads:
            await (self.intake.take_state if one.channel == "state" else self.intake.take_data)(one, batch)
        batch.seal()
        return batch

    async def take_bodies(self, *bodies: object, channel: str = "data") -> Batch:
        return await self.take(*(payload(body, channel) for body in bodies))

    @property
    def watermark(self) -> int | None:
        return self.intake.streams[SID].watermark


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def begun(desk: Desk) -> Desk:
    """A desk that has heard the birth of a node with an empty store."""
    await desk.take(birth(1))
    return desk


def ended(batch: Batch) -> tuple[int, int, int, int, int]:
    """Received, new, duplicate, quarantined, refused."""
    new = len(batch.work.readings) + len(batch.work.records)
    return batch.received, new, batch.duplicate, batch.quarantined, batch.refused


class TestNumbers:
    async def test_a_new_record_becomes_a_reading_and_moves_the_receipt(self, begun: Desk) -> None:
        batch = await begun.take_bodies(samples(1))

        (reading,) = batch.work.readings
        assert ended(batch) == (1, 1, 0, 0, 0)
        assert reading.stack_id == 11
        assert reading.seq == 1
        assert reading.measured_at == reading.received_at == utc(NOW_MS)
        assert reading.co2_kg_per_s == pytest.approx(0.148537, rel=5e-6)
        assert reading.flags == 0
        assert batch.newest == reading
        assert batch.receipts[SID].watermark == 1
        assert batch.work.streams[1].watermark == 1

    async def test_a_second_receipt_of_the_same_record_is_a_duplicate(self, begun: Desk) -> None:
        await begun.take_bodies(samples(1, 3))

        again = await begun.take_bodies(samples(1, 3))

        assert ended(again) == (3, 0, 3, 0, 0)
        assert again.receipts[SID].watermark == 3, "the device has not heard the receipt, so it is told again"

    async def test_a_duplicate_within_one_turn_is_found_too(self, begun: Desk) -> None:
        batch = await begun.take(payload(samples(1, 3)), payload(samples(1, 3), "backlog"))

        assert ended(batch) == (6, 3, 3, 0, 0)

    async def test_of_a_message_that_overlaps_only_the_rest_is_new(self, begun: Desk) -> None:
        await begun.take_bodies(samples(1, 10))

        batch = await begun.take_bodies(samples(6, 10))

        assert ended(batch) == (10, 5, 5, 0, 0)
        assert [reading.seq for reading in batch.work.readings] == [11, 12, 13, 14, 15]
        assert begun.watermark == 15

    async def test_messages_out_of_order_are_all_taken_and_the_receipt_waits_for_the_hole(self, begun: Desk) -> None:
        batch = await begun.take_bodies(samples(21, 10), samples(1, 10))
        assert ended(batch) == (20, 20, 0, 0, 0)
        assert begun.watermark == 10

        await begun.take_bodies(samples(11, 10))
        assert begun.watermark == 30

    async def test_streams_are_counted_apart(self, begun: Desk) -> None:
        batch = await begun.take(birth(1, sid="other", conn=2), payload(samples(1)), payload(samples(1, sid="other")))

        assert ended(batch) == (2, 2, 0, 0, 0)
        assert len({reading.stream_pk for reading in batch.work.readings}) == 2

    async def test_live_readings_before_the_birth_do_not_claim_the_older_ones(self, desk: Desk) -> None:
        """A birth can come late or be lost; a receipt for numbers that never came makes the node drop them."""
        live = await desk.take_bodies(samples(1001))
        claimed = live.receipts[SID].watermark if live.receipts else None
        backlog = await desk.take_bodies(samples(901, 60), channel="backlog")

        assert claimed is None or claimed < 900
        assert ended(backlog) == (60, 60, 0, 0, 0)

    async def test_too_many_streams_are_refused_without_a_receipt(self, begun: Desk) -> None:
        for number in range(1, MOST_STREAMS):
            await begun.take(birth(1, sid=f"s{number}", conn=number))

        batch = await begun.take_bodies(samples(1, 4, sid="onemore"))

        assert ended(batch) == (4, 0, 0, 0, 4)
        assert batch.receipts == {}
        assert ended(await begun.take_bodies(samples(1, 4))) == (4, 4, 0, 0, 0)

    async def test_too_many_holes_are_refused_without_a_receipt(self, begun: Desk) -> None:
        begun.intake.streams[SID].beyond = [[10 + 2 * part, 10 + 2 * part] for part in range(MOST_RANGES)]

        far, next_one = await begun.take_bodies(samples(10_000)), await begun.take_bodies(samples(1))

        assert ended(far) == (1, 0, 0, 0, 1)
        assert far.receipts == {}
        assert ended(next_one) == (1, 1, 0, 0, 0)

    async def test_a_plain_board_is_not_counted_here(self) -> None:
        """Its readings have no numbers without gaps; only the database knows what came twice."""
        board = Desk(FLAT_JSON)
        body = {"timestamp": "2026-03-01T08:14:00Z", "co2_ppm": 98_000, "temperature_c": 183.25, "velocity_ms": 4.12}

        batch = await board.take_bodies(body, body)

        assert ended(batch) == (2, 2, 0, 0, 0)
        assert len({reading.seq for reading in batch.work.readings}) == 1
        assert batch.receipts == {}

    async def test_boards_without_a_clock_keep_their_readings_apart_over_a_reboot(self) -> None:
        """Seconds since boot are no time: the second boot's first reading is not the first boot's."""
        board = Desk(FLAT_JSON)
        body = {"timestamp": 5, "co2_ppm": 98_000, "temperature_c": 183.25, "velocity_ms": 4.12}

        before = await board.take(payload(body))
        after = await board.take(payload(body, received_at_ms=NOW_MS + 3_600_000))

        (first,), (second,) = before.work.readings, after.work.readings
        assert first.seq != second.seq
        assert first.measured_at == utc(NOW_MS)
        assert second.measured_at == utc(NOW_MS + 3_600_000)


class TestGaps:
    async def test_a_gap_record_declares_numbers_lost_and_the_receipt_moves_on(self, begun: Desk) -> None:
        await begun.take_bodies(samples(1, 10))

        batch = await begun.take_bodies(records("g", 51, {"from": 11, "to": 50, "why": "overwritten"}))

        assert ended(batch) == (1, 1, 0, 0, 0)
        assert begun.watermark == 51
        (_, record, _, _) = batch.work.records[0]
        assert (record.kind, record.data) == ("gap", {"from": 11, "to": 50, "why": "overwritten"})

    @pytest.mark.parametrize(
        "claim",
        [
            {"from": 11, "to": 51},
            {"from": 10, "to": 10**12},
            {"from": 49, "to": 10},
            {"from": -5, "to": 49},
            {"from": "10", "to": "49"},
            {"from": None, "to": 49},
            {"from": 10.0, "to": 49.0},
            {"to": 49},
        ],
        ids=str,
    )
    async def test_a_gap_that_makes_no_sense_declares_nothing(self, begun: Desk, claim: dict[str, Any]) -> None:
        await begun.take_bodies(samples(1, 10))

        batch = await begun.take_bodies(records("g", 51, claim))

        assert batch.received == 1
        assert begun.watermark == 10

    async def test_a_birth_declares_lost_what_the_node_no_longer_has(self, begun: Desk) -> None:
        await begun.take_bodies(samples(1, 10))

        batch = await begun.take(birth(41, conn=2))

        assert begun.watermark == 40
        assert batch.receipts[SID].watermark == 40
        assert batch.work.streams[1].watermark == 40

    async def test_a_birth_takes_nothing_back(self, begun: Desk) -> None:
        await begun.take_bodies(samples(1, 10))

        await begun.take(birth(1, conn=2), birth(6, conn=3))

        assert begun.watermark == 10

    async def test_the_first_birth_says_where_a_stream_begins(self, desk: Desk) -> None:
        await desk.take(birth(1001))
        await desk.take_bodies(samples(1006))

        assert desk.watermark == 1000

    @pytest.mark.parametrize("first", [-1, 2**53, 2**70])
    async def test_a_birth_with_an_impossible_number_says_nothing_of_the_store(self, begun: Desk, first: int) -> None:
        await begun.take_bodies(samples(1, 10))

        batch = await begun.take(birth(first, conn=2))

        assert begun.watermark == 10
        assert batch.receipts == {}


class TestOnline:
    async def test_a_birth_says_online_and_a_will_says_offline(self, desk: Desk) -> None:
        assert (await desk.take(birth())).online is True
        assert (await desk.take(will())).online is False
        assert (await desk.take_bodies(samples(1))).online is None

    async def test_the_late_will_of_an_older_connection_is_ignored(self, desk: Desk) -> None:
        batch = await desk.take(birth(conn=93), will(conn=92))
        assert batch.online is True

        assert (await desk.take(will(conn=92))).online is None
        assert (await desk.take(will(conn=93))).online is False

    async def test_the_birth_of_a_node_that_lost_its_count_of_connections_is_a_birth(self, desk: Desk) -> None:
        """A replaced or wiped node counts from 1 again; only a will can be that of an older connection."""
        await desk.take(birth(conn=93))

        batch = await desk.take(birth(1001, sid="freshsid", conn=1))

        assert batch.online is True
        assert batch.receipts["freshsid"].watermark == 1000

    async def test_a_birth_without_a_store_is_one_all_the_same(self, desk: Desk) -> None:
        batch = await desk.take(payload({"online": True}, "state"))

        assert batch.online is True
        assert batch.receipts == {}

    async def test_a_retained_state_that_was_cleared_says_nothing(self, desk: Desk) -> None:
        batch = await desk.take(payload(b"", "state"))

        assert ended(batch) == (0, 0, 0, 0, 0)
        assert batch.online is None

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b'{"conn":1}',
            b'{"online":"yes"}',
            b"\xff\xfe",
            b'{"online":true,"sid":"\xff"}',
            b'{"online":true,"sens":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
        ids=["cut off", "a list", "no state", "text", "noise", "no text", "nested deeply"],
    )
    async def test_a_state_that_cannot_be_read_is_quarantined(self, desk: Desk, body: bytes) -> None:
        """What escapes from here is tried again with the same payload, until the actor parks."""
        batch = await desk.take(payload(body, "state"))

        assert ended(batch) == (1, 0, 0, 1, 0)
        assert batch.work.quarantined[0].cause == "bad_state"
        assert batch.online is None


class TestQuarantine:
    """The node would send it again for ever: so what cannot be read counts as handled where its numbers can."""

    HEAD = '{"v":1,"sid":"9f3c21aa","boot":412,"cfg":17,"seq":11,"n":2,"t":1772352900000,'

    @pytest.mark.parametrize(
        ("rest", "cause"),
        [
            ('"s":{"cols":["ds","co2"],"rows":[[0,98', "invalid_json"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,NaN],[1,9]]}}', "not_finite"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,1],[1,-Infinity]]}}', "not_finite"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,1],[1,1e999]]}}', "not_finite"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,"98000"],[1,9]]}}', "wrong_type"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,true],[1,9]]}}', "wrong_type"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,1,2],[1,9]]}}', "wrong_type"),
            ('"s":{"rows":[[0,1],[1,9]]}}', "missing_field"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,1]]}}', "row_count_mismatch"),
            ('"s":{"cols":["ds","co2"],"rows":[]}}', "row_count_mismatch"),
            ('"s":{"cols":["ds","co2"],"rows":[[0,1],[0,1]]}}', "bad_sequence"),
        ],
    )
    async def test_the_receipt_moves_over_it(self, begun: Desk, rest: str, cause: str) -> None:
        await begun.take_bodies(samples(1, 10))
        body = (self.HEAD + rest).encode()

        batch = await begun.take_bodies(body)

        (item,) = batch.work.quarantined
        assert (item.cause, item.body, item.device_id) == (cause, body, "ct-0001")
        assert item.received_at == utc(NOW_MS)
        assert ended(batch) == (2, 0, 0, 2, 0)
        assert batch.receipts[SID].watermark == 12
        assert batch.work.streams[1].watermark == 12

    async def test_what_was_quarantined_once_is_a_duplicate_when_it_comes_again(self, begun: Desk) -> None:
        body = b'{"v":1,"sid":"9f3c21aa","seq":1,"n":2,'
        await begun.take_bodies(body)

        again = await begun.take_bodies(body)

        assert ended(again) == (2, 0, 2, 0, 0)
        assert again.work.quarantined == []
        assert again.receipts[SID].watermark == 2

    @pytest.mark.parametrize("body", [b"", b"\x00\xff", b"hello", b"null", b"[1,2]", b'{"v":1}', b'{"sid":"9f3c21aa"}'])
    async def test_what_names_no_numbers_is_one_message_in_quarantine(self, begun: Desk, body: bytes) -> None:
        batch = await begun.take_bodies(body)

        assert ended(batch) == (1, 0, 0, 1, 0)
        assert batch.receipts == {}
        assert batch.heard, "the device is there, even if nobody understands it"

    async def test_the_next_message_is_taken_as_if_nothing_had_been(self, begun: Desk) -> None:
        batch = await begun.take_bodies(b"{", samples(1), b"[", samples(2))

        assert ended(batch) == (4, 2, 0, 2, 0)

    async def test_the_same_numbers_of_an_unreadable_and_a_good_message_are_the_first_of_both(
        self, begun: Desk
    ) -> None:
        good, bad = samples(1, 2), b'{"v":1,"sid":"9f3c21aa","seq":1,"n":2,'

        assert ended(await begun.take_bodies(bad, good)) == (4, 0, 2, 2, 0)


class TestDrivers:
    """A driver is a plugin: whatever it does ends with the payload, never with the actor."""

    @staticmethod
    def raises(error: Exception) -> Callable[[Payload], Message]:
        def decode(payload: Payload) -> NoReturn:
            raise error

        return decode

    @pytest.mark.parametrize("error", [KeyError("co2"), RuntimeError("no"), ZeroDivisionError(), RecursionError()])
    async def test_whatever_it_raises_puts_the_payload_into_quarantine(self, error: Exception) -> None:
        desk = Desk(SensorDriver("odd", "Odd", self.raises(error)))

        batch = await desk.take_bodies({})

        assert ended(batch) == (1, 0, 0, 1, 0)
        assert batch.work.quarantined[0].cause == "driver_failed"
        assert batch.work.quarantined[0].detail.startswith(f"odd: {type(error).__name__}")

    async def test_the_cause_that_it_names_is_kept(self) -> None:
        desk = Desk(SensorDriver("odd", "Odd", self.raises(DecodeError("wrong_moon", "it is waning", (SID, 1, 5)))))

        batch = await desk.take_bodies({})

        assert ended(batch) == (5, 0, 0, 5, 0)
        assert (batch.work.quarantined[0].cause, batch.work.quarantined[0].detail) == ("wrong_moon", "it is waning")
        assert batch.receipts[SID].watermark == 5

    @pytest.mark.parametrize(
        "answer",
        [
            None,
            "a message",
            Message(SID, 1, 1, 0, []),
            Message(SID, 1, 1, 3, [Sample(1, NOW_MS)]),
            Message(SID, 1, 1, 1, [Sample(1, 10**18)]),
            Message(SID, 1, 1, 1, [Sample(1, -(10**18))]),
        ],
        ids=["None", "text", "no rows", "other number of rows", "far future", "far past"],
    )
    async def test_nonsense_that_it_returns_is_accounted_for(self, answer: Any) -> None:
        desk = Desk(SensorDriver("odd", "Odd", lambda _: answer))

        batch = await desk.take_bodies({})

        received, new, duplicate, quarantined, refused = ended(batch)
        assert received == new + duplicate + quarantined + refused >= 1


class TestTime:
    async def test_a_reading_from_the_store_is_marked_as_late(self, begun: Desk) -> None:
        batch = await begun.take_bodies(samples(1, t=NOW_MS - 3_600_000), channel="backlog")

        (reading,) = batch.work.readings
        assert reading.flags == Flag.BACKLOG
        assert reading.measured_at == utc(NOW_MS - 3_600_000)
        assert reading.received_at == utc(NOW_MS)

    async def test_2099_is_the_time_of_receipt_with_a_flag(self, begun: Desk) -> None:
        batch = await begun.take_bodies(samples(1, 3, t=4_070_908_800_000))

        assert [reading.measured_at for reading in batch.work.readings] == [
            utc(NOW_MS - 10_000),
            utc(NOW_MS - 5_000),
            utc(NOW_MS),
        ]
        assert {reading.flags for reading in batch.work.readings} == {Flag.CLOCK_FUTURE}

    async def test_1970_is_an_estimate(self, begun: Desk) -> None:
        batch = await begun.take_bodies(samples(1, 2, t=7000))

        assert [reading.measured_at for reading in batch.work.readings] == [utc(NOW_MS - 5000), utc(NOW_MS)]
        assert {reading.flags for reading in batch.work.readings} == {Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED}

    async def test_an_anchor_places_the_readings_of_its_boot(self, begun: Desk) -> None:
        anchor = {"boot": 412, "utc": NOW_MS - 600_000, "ms": 120_000}

        batch = await begun.take(
            payload(records("a", 1, anchor)), payload(samples(2, 2, t=60_000, tq=0), channel="backlog")
        )

        times = [reading.measured_at for reading in batch.work.readings]
        assert times == [utc(NOW_MS - 660_000), utc(NOW_MS - 655_000)]
        assert {reading.flags for reading in batch.work.readings} == {Flag.CLOCK_UNSET | Flag.BACKLOG}

    async def test_a_reboot_in_the_middle_of_a_turn_keeps_both_boots_apart(self, begun: Desk) -> None:
        """The older boot has an anchor, told after the reboot; the newer has none."""
        anchor = {"boot": 411, "utc": NOW_MS - 7_200_000, "ms": 0}

        batch = await begun.take(
            payload(records("a", 3, anchor)),
            payload(samples(1, 2, boot=411, t=600_000, tq=0), "backlog"),
            payload(samples(4, 2, boot=412, t=5_000, tq=0)),
        )

        assert ended(batch) == (5, 5, 0, 0, 0)
        old, new = batch.work.readings[:2], batch.work.readings[2:]
        assert [reading.measured_at for reading in old] == [utc(NOW_MS - 6_600_000), utc(NOW_MS - 6_595_000)]
        assert [reading.measured_at for reading in new] == [utc(NOW_MS - 5_000), utc(NOW_MS)]
        assert {reading.flags for reading in old} == {Flag.CLOCK_UNSET | Flag.BACKLOG}
        assert {reading.flags for reading in new} == {Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED}
        assert begun.watermark == 5

    @pytest.mark.parametrize(
        "anchor",
        [
            {"boot": 412, "utc": "now", "ms": 0},
            {"boot": 412, "utc": NOW_MS},
            {"boot": None, "utc": NOW_MS, "ms": 0},
            {"boot": 412, "utc": 5_000, "ms": 0},
            {"boot": 412, "utc": 4_070_908_800_000, "ms": 0},
            {"boot": 412, "utc": NOW_MS, "ms": 10**30},
            {"boot": 412, "utc": NOW_MS, "ms": -(10**30)},
            {"boot": 412, "utc": -(10**30), "ms": 0},
        ],
        ids=["text", "no uptime", "no boot", "1970", "2099", "endless uptime", "uptime below 0", "before time began"],
    )
    async def test_an_anchor_that_cannot_be_true_places_nothing(self, begun: Desk, anchor: dict[str, Any]) -> None:
        await begun.take_bodies(records("a", 1, anchor))

        batch = await begun.take_bodies(samples(2, t=60_000, tq=0))

        (reading,) = batch.work.readings
        assert reading.measured_at == utc(NOW_MS)
        assert reading.flags == Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED

    async def test_a_message_over_many_years_cannot_fill_the_memory(self, begun: Desk) -> None:
        """The clock may be set in the middle of a message, and a hostile node may write any time it likes."""
        body = samples(1, 2, t=1_577_836_800_000)
        body["s"]["rows"][1][1] = NOW_MS - 1_577_836_800_000

        batch = await begun.take_bodies(body)

        assert ended(batch)[0] == 2
        assert len(batch.work.buckets) < 1000

    async def test_a_message_over_many_centuries_is_accounted_for(self, begun: Desk) -> None:
        body = samples(1, 2, t=0)
        body["s"]["rows"][1][1] = 2 * 10**14  # the year 8307; the other row is of 1970

        batch = await begun.take_bodies(body)

        received, new, duplicate, quarantined, refused = ended(batch)
        assert received == new + duplicate + quarantined + refused == 2

    async def test_the_five_minutes_of_a_reading_are_summarised_again(self, begun: Desk) -> None:
        bucket_ms = NOW_MS // 300_000 * 300_000

        batch = await begun.take_bodies(samples(1, t=bucket_ms + 200_000 - 300_000))

        assert (11, bucket_ms - 300_000) in batch.work.buckets
        assert all(stack_id == 11 for stack_id, _ in batch.work.buckets)

    async def test_a_reading_at_the_start_of_five_minutes_changes_those_before(self, begun: Desk) -> None:
        """How long the reading before counts is known only with its successor."""
        bucket_ms = NOW_MS // 300_000 * 300_000

        batch = await begun.take_bodies(samples(1, t=bucket_ms + 2_000))

        assert batch.work.buckets == {(11, bucket_ms - 300_000), (11, bucket_ms)}


class TestPlans:
    async def test_a_reading_is_computed_with_the_plan_of_its_time(self) -> None:
        yesterday = utc(NOW_MS - 86_400_000)
        stack = Stack(11, 1, "Boiler 1", (MonitoringPlan(), MonitoringPlan(valid_from=yesterday, diameter_m=1.6)))
        desk = Desk(site=Site(SITE.factory, stack, SITE.device))
        await desk.take(birth(1))

        batch = await desk.take(payload(samples(1, t=NOW_MS - 100_000_000), "backlog"), payload(samples(2)))

        old, new = (reading.co2_kg_per_s for reading in batch.work.readings)
        assert old == pytest.approx(0.148537, rel=5e-6)
        assert new == pytest.approx(4 * 0.148537, rel=5e-6)

    async def test_a_changed_registration_counts_from_the_next_payload_on(self, begun: Desk) -> None:
        moved = Stack(12, 1, "Boiler 2", (MonitoringPlan(diameter_m=1.6),))
        begun.intake.settings_changed(Site(SITE.factory, moved, SITE.device), CT_V1)

        batch = await begun.take_bodies(samples(1))

        (reading,) = batch.work.readings
        assert reading.stack_id == 12
        assert reading.co2_kg_per_s == pytest.approx(4 * 0.148537, rel=5e-6)


class TestStuck:
    @staticmethod
    async def readings_of(desk: Desk, values: Sequence[int | None], channel: str = "data") -> list[Reading]:
        """One reading every minute."""
        readings: list[Reading] = []
        for seq, value in enumerate(values):
            now_ms = NOW_MS + 60_000 * seq
            body = samples(seq + 1, t=now_ms)
            body["s"]["rows"][0][3] = value
            readings += (await desk.take(payload(body, channel, now_ms))).work.readings
        return readings

    async def test_the_same_value_for_too_long_is_no_measurement(self, begun: Desk) -> None:
        readings = await self.readings_of(begun, [98_000] * 20)

        stuck = [bool(reading.flags & Flag.STUCK) for reading in readings]
        assert stuck == sorted(stuck)
        assert not any(stuck[:10]), "ten minutes are not over"
        assert all(stuck[13:])
        assert readings[-1].co2_kg_per_s is None

    async def test_a_value_that_moves_is_a_measurement_again(self, begun: Desk) -> None:
        readings = await self.readings_of(begun, [98_000] * 20 + [98_001])

        assert readings[-1].flags == 0

    @pytest.mark.parametrize("value", [420, None], ids=["clean air", "no value"])
    async def test_a_cold_boiler_is_not_stuck(self, begun: Desk, value: int | None) -> None:
        readings = await self.readings_of(begun, [value] * 20)

        assert not any(reading.flags & Flag.STUCK for reading in readings)

    async def test_what_comes_late_is_not_judged_by_its_order(self, begun: Desk) -> None:
        readings = await self.readings_of(begun, [98_000] * 20, "backlog")

        assert not any(reading.flags & Flag.STUCK for reading in readings)


class TestNumbersWithoutEnd:
    @pytest.mark.parametrize("column", ["co2", "tg", "v", "dp", "pa", "m"])
    async def test_a_whole_number_of_any_length_stops_nothing(self, begun: Desk, column: str) -> None:
        values = {"co2": 98_000, "tg": 183.25, "dp": 4.0, "pa": 79.68, "m": 0.1} | {column: 10**400}
        body = {"v": 1, "sid": SID, "boot": 412, "seq": 1, "n": 1, "t": NOW_MS}
        body["s"] = {"cols": ["ds", *values], "rows": [[0, *values.values()]]}

        batch = await begun.take_bodies(body)

        received, new, duplicate, quarantined, refused = ended(batch)
        assert received == new + duplicate + quarantined + refused == 1
        assert begun.watermark == 1
        for reading in batch.work.readings:
            assert abs(reading.velocity_ms or 0) < 1e300, "no column of the database holds it"
            assert abs(reading.co2_ppm or 0) < 1e300
            assert abs(reading.temperature_c or 0) < 1e300


# --- the account, for whatever comes ---------------------------------------------------------------------------------

sids = st.sampled_from([SID, "s1", "s2", "s3"])
numbers = st.integers(1, 60)
values = st.none() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=3) | st.booleans()
good = st.builds(samples, numbers, st.integers(1, 6), sid=sids, boot=st.integers(1, 3))
unset = st.builds(samples, numbers, st.integers(1, 6), sid=sids, t=st.integers(0, 10**7), tq=st.just(0))
future = st.builds(samples, numbers, st.integers(1, 6), sid=sids, t=st.integers(NOW_MS, 2**47))
gap = st.builds(
    lambda seq, first, length: records("g", seq, {"from": first, "to": first + length}), numbers, numbers, numbers
)
anchored = st.builds(
    lambda seq, boot, ms: records("a", seq, {"boot": boot, "utc": NOW_MS - ms, "ms": ms}),
    numbers,
    st.integers(1, 3),
    st.integers(0, 10**7),
)
event = st.builds(
    lambda seq, value: records("e", seq, {"code": value, "on": True}, {"code": 1, "on": 0}), numbers, values
)
miscounted = st.builds(lambda body, number: body | {"n": number}, good, st.integers(-1, 8))
reordered = st.builds(lambda body: body | {"s": {"cols": COLUMNS, "rows": body["s"]["rows"][::-1]}}, good)
odd_row = st.builds(
    lambda body, row: body | {"s": {"cols": COLUMNS, "rows": [row]}, "n": 1}, good, st.lists(values, max_size=9)
)
readable = st.one_of(good, unset, future, gap, anchored, event, miscounted, reordered, odd_row).map(
    lambda body: json.dumps(body).encode()
)
cut = st.builds(lambda body, length: body[:length], readable, st.integers(0, 200))
bodies = readable | cut | st.binary(max_size=60)
data = st.builds(payload, bodies, st.sampled_from(["data", "backlog"]), st.integers(NOW_MS, NOW_MS + 10**6))
states = st.one_of(
    st.builds(lambda first, sid, conn: birth(first, sid=sid, conn=conn), numbers, sids, st.integers(0, 5)),
    st.builds(will, st.integers(0, 5)),
    st.builds(lambda body: payload(body, "state"), st.binary(max_size=30)),
)
turns = st.lists(st.lists(data | states, max_size=8), max_size=8)


class TestTheAccount:
    @staticmethod
    def crowded() -> Desk:
        """A desk with room for two more streams, one of which is full of holes."""
        desk = Desk()
        for number in range(MOST_STREAMS - 3):
            desk.intake.streams[f"old{number}"] = Stream(1000 + number, f"old{number}")
        holes = [[40 + 2 * part, 40 + 2 * part] for part in range(MOST_RANGES)]
        desk.intake.streams["s1"] = Stream(2000, "s1", 3, holes)
        return desk

    @given(turns)
    async def test_every_record_ends_in_exactly_one_way(self, turns: list[list[Payload]]) -> None:
        desk = self.crowded()
        for turn in turns:
            batch = await desk.take(*turn)

            received, new, duplicate, quarantined, refused = ended(batch)
            assert received == new + duplicate + quarantined + refused
            assert received >= sum(1 for one in turn if one.channel != "state")

    @given(turns)
    async def test_a_receipt_never_goes_back_and_no_number_is_stored_twice(self, turns: list[list[Payload]]) -> None:
        desk = self.crowded()
        stored: set[tuple[int, int]] = set()
        marks: dict[str, int] = {}
        for turn in turns:
            batch = await desk.take(*turn)
            rows = [(reading.stream_pk, reading.seq) for reading in batch.work.readings]
            rows += [(pk, record.seq) for pk, record, _, _ in batch.work.records]

            assert len(rows) == len(set(rows))
            assert stored.isdisjoint(rows)
            stored |= set(rows)
            for sid, stream in batch.receipts.items():
                if stream.watermark is not None:
                    assert stream.watermark >= marks.get(sid, -1)
                    marks[sid] = stream.watermark

    @given(turns)
    async def test_what_a_receipt_says_is_what_the_database_is_told(self, turns: list[list[Payload]]) -> None:
        desk = self.crowded()
        committed: dict[int, int | None] = {2000: 3}
        for turn in turns:
            batch = await desk.take(*turn)
            committed |= {pk: state.watermark for pk, state in batch.work.streams.items()}

            for stream in batch.receipts.values():
                assert committed.get(stream.pk) == stream.watermark

    @given(turns)
    async def test_no_reading_is_from_the_future_or_has_a_false_number(self, turns: list[list[Payload]]) -> None:
        desk = self.crowded()
        for turn in turns:
            batch = await desk.take(*turn)
            for reading in batch.work.readings:
                late_ms = (reading.measured_at - reading.received_at).total_seconds() * 1000

                assert late_ms <= FUTURE_TOLERANCE_MS
                assert reading.co2_kg_per_s is None or 0 <= reading.co2_kg_per_s < float("inf")
