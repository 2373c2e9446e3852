"""What could not be used is one row however often it comes, is found again, and can be handed in once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.hookspecs import DecodeError, SensorDriver
from carbontrack.metrics import Metrics
from carbontrack.model import Message, Outcome, Payload, Quarantined
from carbontrack.plugins import load_plugins
from carbontrack.store import Store, Work
from tests.support.world import (
    COLUMNS,
    NOON,
    NOON_MS,
    SID,
    Core,
    body,
    choosing,
    core,
    kept,
    migrated_store,
    reading,
    register,
)

pytest_plugins = ["tests.support.world"]

PATIENCE_S = 10.0
HOUR = timedelta(hours=1)


async def put(store: Store, factory_id: int = 1, **changed: Any) -> None:
    """Have something put into quarantine."""
    values: dict[str, Any] = {"device_id": "dev-001", "cause": "invalid_json", "detail": "why", "received_at": NOON}
    await store.save(Work("dev-001", factory_id, quarantined=[Quarantined(**{**values, "body": b"{", **changed})]))


# --- one row for what comes again


async def test_what_comes_again_within_an_hour_is_one_row_with_a_count(store: Store) -> None:
    for minutes in (0, 10, 65):
        await put(store, received_at=NOON + timedelta(minutes=minutes))

    (item,) = await store.quarantined()

    assert item.times == 3
    assert (item.received_at, item.last_received_at) == (NOON, NOON + timedelta(minutes=65))
    assert await store.quarantine_counts() == {"invalid_json": 3}


async def test_what_comes_twice_in_one_commit_is_one_row(store: Store) -> None:
    item = Quarantined("dev-001", "invalid_json", "why", NOON, b"{")
    await store.save(Work("dev-001", 1, quarantined=[item, item, replace(item, body=b"[")]))

    assert [(row.body, row.times) for row in await store.quarantined()] == [(b"[", 1), (b"{", 2)]


async def test_another_body_device_cause_or_factory_and_a_later_day_are_rows_of_their_own(store: Store) -> None:
    await put(store)
    await put(store, body=b"[")
    await put(store, device_id="dev-002")
    await put(store, cause="wrong_type")
    await put(store, factory_id=2)
    await put(store, received_at=NOON + HOUR)

    assert [item.times for item in await store.quarantined()] == [1] * 6


async def test_what_was_seen_to_and_comes_again_is_a_new_row(store: Store) -> None:
    await put(store)
    (first,) = await store.quarantined()
    await store.dismiss(first.id, "hq@example.org", "a test", NOON)
    await put(store)
    (second, _) = await store.quarantined()
    await store.mark_replayed(second.id, "hq@example.org", "stored 1", NOON)
    await put(store)

    assert [item.times for item in await store.quarantined()] == [1, 1, 1]
    assert await store.quarantine_counts() == {"invalid_json": 1}, "what was seen to needs nobody any more"


# --- found again


async def test_the_quarantine_is_read_page_by_page_newest_first(store: Store) -> None:
    for number in range(5):
        await put(store, body=b"%d" % number)
    first = await store.quarantined(limit=2)
    second = await store.quarantined(limit=2, before_id=first[-1].id)
    last = await store.quarantined(limit=2, before_id=second[-1].id)

    assert [item.body for item in (*first, *second, *last)] == [b"4", b"3", b"2", b"1", b"0"]


async def test_the_quarantine_is_filtered_by_all_that_is_asked_together(store: Store) -> None:
    await put(store, body=b"1")
    await put(store, body=b"2", device_id="dev-002")
    await put(store, body=b"3", cause="wrong_type")
    await put(store, body=b"4", factory_id=2)
    await put(store, body=b"5", received_at=NOON + HOUR)

    async def found(**asked: Any) -> list[bytes]:
        return [item.body for item in await store.quarantined(**asked)]

    assert await found(device_id="dev-002") == [b"2"]
    assert await found(cause="wrong_type") == [b"3"]
    assert await found(factory_id=2) == [b"4"]
    assert await found(since=NOON + HOUR) == [b"5"]
    assert await found(until=NOON) == []
    assert await found(factory_id=1, cause="invalid_json", device_id="dev-001", until=NOON + HOUR) == [b"1"]
    assert await found(state="dismissed") == await found(state="replayed") == []
    assert len(await found(state="open")) == 5


async def test_one_item_has_its_whole_body_and_belongs_to_its_factory(store: Store) -> None:
    await put(store, body=bytes(range(256)) * 100)
    (item,) = await store.quarantined()

    assert await store.quarantined_item(item.id) == item
    assert await store.quarantined_item(item.id, factory_id=1) == item
    assert await store.quarantined_item(item.id, factory_id=2) is None
    assert await store.quarantined_item(item.id + 1) is None
    assert item.body == bytes(range(256)) * 100


async def test_the_numbers_that_are_kept_are_found_whatever_their_time(store: Store) -> None:
    base = 2**31
    rows = [reading(seq, at=NOON + timedelta(days=seq % 3)) for seq in (base - 3, base - 1, base, base + 4)]
    await store.save(Work("dev-001", 1, rows))

    assert await store.kept_numbers(1, base - 3, base + 3) == {base - 3, base - 1, base}
    assert await store.kept_numbers(2, base - 3, base + 3) == set()


# --- handed in once more


class Mended:
    """A driver that cannot read anything until it is mended."""

    def __init__(self) -> None:
        self.is_broken = True
        self._decode = load_plugins(choosing("ct_v1")).contributions.sensors["ct_v1"].decode

    def decode(self, payload: Payload) -> Message:
        message = self._decode(payload)
        if self.is_broken:
            covers = (message.stream, message.first_seq, message.first_seq + message.count - 1)
            raise DecodeError("wrong_unit", "it is in grains", covers if b'"cfg": 1' in payload.body else None)
        return message


@pytest.fixture
async def driver() -> Mended:
    return Mended()


@pytest.fixture
async def running(store: Store, metrics: Metrics, driver: Mended) -> AsyncIterator[Core]:
    await register(store, "dev-001")
    async with core(store, metrics, sensors={"ct_v1": SensorDriver("ct_v1", "mended", driver.decode)}) as parts:
        yield parts


async def quarantined(running: Core, content: bytes) -> Quarantined:
    """Send what cannot be read now; the item that it becomes."""
    await running.fleet.deliver([Payload("dev-001", "data", content, NOON_MS + 60_000)], PATIENCE_S)
    return (await running.store.quarantined())[0]


async def replay(running: Core, item: Quarantined) -> Outcome:
    return await running.fleet.replay(item, PATIENCE_S)


async def test_what_was_receipted_as_handled_is_stored_when_its_driver_is_mended(running: Core, driver: Mended) -> None:
    item = await quarantined(running, body(1, 3))
    assert running.receipts["dev-001", SID] == 3
    driver.is_broken = False

    assert await replay(running, item) == Outcome(stored=3, receipts={SID: 3})

    rows = await kept(running.store)
    assert [(row.seq, row.received_at) for row in rows] == [(seq, NOON + timedelta(minutes=1)) for seq in (1, 2, 3)]
    assert await replay(running, item) == Outcome(duplicate=3, receipts={SID: 3})
    assert running.outcomes() == {"received": 9, "committed": 3, "duplicate": 3, "quarantined": 3, "refused": 0}


async def test_what_got_no_receipt_and_came_again_meanwhile_is_a_duplicate(running: Core, driver: Mended) -> None:
    item = await quarantined(running, body(1, 3, cfg=2))
    assert running.receipts == {}
    driver.is_broken = False
    await running.fleet.deliver([Payload("dev-001", "data", body(2, 2, cfg=2), NOON_MS)], PATIENCE_S)

    assert await replay(running, item) == Outcome(stored=1, duplicate=2, receipts={SID: 3})
    assert [row.seq for row in await kept(running.store)] == [1, 2, 3]


async def test_a_reading_is_kept_once_though_its_time_would_be_estimated_otherwise_now(
    running: Core, driver: Mended
) -> None:
    """Its number and not its time says which reading it is."""
    rows = [[0, 0, 0, 98_000, 183.25, 4.12, 79.68, 0]]
    content = body(1, at_ms=5000, rows=rows, cfg=2)
    item = await quarantined(running, content)
    driver.is_broken = False
    await running.fleet.deliver([Payload("dev-001", "data", content, NOON_MS + 3_600_000)], PATIENCE_S)
    running.fleet._actors["dev-001"].intake.streams[SID].anchors.clear()

    assert await replay(running, item) == Outcome(duplicate=1, receipts={SID: 1})
    assert len(await kept(running.store)) == 1


async def test_two_items_with_the_same_numbers_are_kept_once(running: Core, driver: Mended) -> None:
    first = await quarantined(running, body(1, 2, cfg=2))
    second = await quarantined(running, body(1, 2, cfg=2, boot=5))
    driver.is_broken = False

    assert (await replay(running, first)).stored + (await replay(running, second)).stored == 2


async def test_records_of_other_kinds_are_kept_once_as_well(running: Core, driver: Mended) -> None:
    event = {"cols": ["ds", "code"], "rows": [[1, "door"]]}
    sample = {"cols": COLUMNS, "rows": [[0, 0, 1, 98_000, 183.25, 4.12, 79.68, 0]]}
    item = await quarantined(running, body(1, 2, s=sample, e=event))
    driver.is_broken = False

    assert (await replay(running, item)).stored == 2
    assert (await replay(running, item)).duplicate == 2


async def test_what_cannot_be_read_still_says_why_and_stays_one_row(running: Core) -> None:
    item = await quarantined(running, body(1, 3))

    outcome = await replay(running, item)

    assert outcome == Outcome(quarantined=1, causes=("wrong_unit: it is in grains",))
    assert [row.times for row in await running.store.quarantined()] == [1]
    assert running.ended() == running.outcomes()["received"]


async def test_a_replay_does_not_call_a_silent_device_online(running: Core, driver: Mended) -> None:
    await put(running.store, body=body(1))
    (item,) = await running.store.quarantined()
    driver.is_broken = False
    await replay(running, item)

    snapshot = running.fleet.snapshots()["dev-001"]
    assert (snapshot.online, snapshot.measured_at) == (False, NOON)


# --- the command line


async def test_an_operator_lists_the_quarantine_and_looks_at_one_item(tmp_path: Path) -> None:
    url, config = f"sqlite://{tmp_path / 'quarantine.sqlite3'}", tmp_path / "carbontrack.yaml"
    config.write_text(f"database:\n  url: {url}\n")
    async with migrated_store(url) as store:
        await register(store, "dev-001")
        await put(store, body=b"\xff{")
        await put(store, body=b"[", device_id="dev-002", cause="wrong_type")
        await store.dismiss(2, "hq@example.org", "a test of the board", NOON)

    def say(*words: str) -> Result:
        return CliRunner().invoke(app, ["quarantine", *words, "--config", str(config)])

    listed = await asyncio.to_thread(say, "list")
    assert [line.split()[0] for line in listed.output.splitlines()] == ["2", "1"]
    assert "dev-001" in listed.output
    chosen = await asyncio.to_thread(say, "list", "--state", "dismissed", "--factory", "kangaita")
    assert "wrong_type" in chosen.output
    assert "invalid_json" not in chosen.output
    shown = await asyncio.to_thread(say, "show", "2")
    assert "dismissed by hq@example.org: a test of the board" in shown.output
    written = await asyncio.to_thread(say, "show", "1", "--output", str(tmp_path / "body"))
    assert (written.exit_code, (tmp_path / "body").read_bytes()) == (0, b"\xff{")
    missing = await asyncio.to_thread(say, "show", "3")
    assert (missing.exit_code, "no item 3" in missing.output) == (2, True)
