"""What could not be used is one row however often it comes, is found again, and can be handed in once more."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.hookspecs import DecodeError, SensorDriver
from carbontrack.metrics import Metrics
from carbontrack.model import AuditAction, DeviceStatus, Message, Origin, Outcome, Payload, Quarantined
from carbontrack.plugins import load_plugins
from carbontrack.store import Store, Work
from carbontrack.web.present import cause_text
from tests.support.web import Portal, running_portal
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
HQ = Origin("hq@example.org")


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
    await store.dismiss(first, "a test", by=HQ)
    await put(store)
    (second, _) = await store.quarantined()
    await store.mark_replayed(second, "1 stored", by=HQ)
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
        await store.dismiss((await store.quarantined())[0], "a test of the board", by=HQ)

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


# --- over HTTP


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as web:
        yield web


PATH = "/api/quarantine/"


async def put_at(portal: Portal, device_id: str, content: bytes, **changed: Any) -> int:
    """Have something of a device put into quarantine; its number."""
    site = portal.kangaita if device_id == "dev-001" else portal.mungania
    await put(portal.core.store, site.factory.id, device_id=device_id, body=content, **changed)
    return (await portal.core.store.quarantined())[0].id


async def listed(client: TestClient[Any, Any], **query: str) -> dict[str, Any]:
    answer = await client.get(PATH, params=query)
    assert answer.status == 200, await answer.text()
    given: dict[str, Any] = await answer.json()
    return given


async def test_the_list_goes_on_where_it_ended_and_is_filtered(portal: Portal) -> None:
    for number in range(5):
        await put_at(portal, "dev-001", b"%d" % number)
    await put_at(portal, "dev-002", b"other", cause="wrong_type", received_at=NOON - HOUR)
    client = await portal.signed_in("auditor@example.org")
    bodies: list[str] = []
    query = {"limit": "4"}
    while True:
        given = await listed(client, **query)
        bodies += [row["body"] for row in given["results"]]
        if given["next"] is None:
            break
        query["cursor"] = given["next"]

    assert bodies == ["other", "4", "3", "2", "1", "0"]
    for key, value in {"device_id": "dev-002", "cause": "wrong_type", "to": "2026-03-01T12:00:00Z"}.items():
        assert [row["body"] for row in (await listed(client, **{key: value}))["results"]] == ["other"], key
    assert (await listed(client, state="dismissed"))["results"] == []
    assert (await client.get(PATH, params={"cursor": "rubbish"})).status == 422


async def test_one_item_is_given_byte_for_byte(portal: Portal) -> None:
    number = await put_at(portal, "dev-001", b"\xff" * 2000)
    client = await portal.signed_in("manager@example.org")

    (row,) = (await listed(client))["results"]
    item = await (await client.get(f"{PATH}{number}/")).json()

    assert len(row["body"]) == 1000
    assert base64.b64decode(item["body_base64"]) == b"\xff" * 2000
    assert (item["state"], item["times"], item["text"]) == ("open", 1, cause_text("invalid_json"))


async def test_an_item_is_handed_in_once_more_and_says_by_whom_and_what_became_of_it(portal: Portal) -> None:
    number = await put_at(portal, "dev-001", body(1, 3), cause="no_driver")
    client = await portal.signed_in("operator@example.org")

    item = await (await client.post(f"{PATH}{number}/replay/")).json()
    again = await (await client.post(f"{PATH}{number}/replay/")).json()

    assert (item["state"], item["replayed_by"]) == ("replayed", "operator@example.org")
    assert item["replay_outcome"] == "3 stored, 0 there already"
    assert again["replay_outcome"] == "0 stored, 3 there already"
    assert len(await kept(portal.core.store, portal.kangaita.stack.id)) == 3
    events = await portal.core.store.audit_events(action=AuditAction.QUARANTINE_REPLAYED)
    assert [event.subject_id for event in events] == [str(number)] * 2


async def test_what_cannot_be_handed_in_once_more_says_why_and_stays_open(portal: Portal) -> None:
    store, client = portal.core.store, await portal.signed_in("hq@example.org")
    unreadable = await put_at(portal, "dev-001", b"rubbish")
    state = await put_at(portal, "dev-001", b"{}", cause="bad_state")
    gone = await put_at(portal, "dev-009", body(1))
    moved = await put_at(portal, "dev-001", body(2))
    await store.change_device("dev-001", stack_id=portal.mungania.stack.id, by=HQ)
    await portal.core.sync()
    say = {moved: "another factory", state: "ended long ago", gone: "not in the registry"}
    for number, words in say.items():
        answer = await client.post(f"{PATH}{number}/replay/")
        assert (answer.status, words in (await answer.json())["detail"]) == (409, True), words
    await store.change_device("dev-001", stack_id=portal.kangaita.stack.id, by=HQ)
    await portal.core.sync()
    answer = await client.post(f"{PATH}{unreadable}/replay/")
    assert (answer.status, "invalid_json" in (await answer.json())["detail"]) == (409, True)
    await store.change_device("dev-001", status=DeviceStatus.DISABLED, by=HQ)
    await portal.core.sync()
    assert (await client.post(f"{PATH}{moved}/replay/")).status == 409
    assert len((await listed(client, state="open"))["results"]) == 4


async def test_an_item_that_is_dismissed_is_put_aside_for_good(portal: Portal) -> None:
    number = await put_at(portal, "dev-001", body(1))
    client = await portal.signed_in("hq@example.org")
    assert (await client.post(f"{PATH}{number}/dismiss/", json={"reason": "  "})).status == 422

    item = await (await client.post(f"{PATH}{number}/dismiss/", json={"reason": "a test of the board"})).json()

    assert (item["state"], item["dismissed_by"], item["dismiss_reason"]) == (
        "dismissed",
        "hq@example.org",
        "a test of the board",
    )
    assert (await client.post(f"{PATH}{number}/dismiss/", json={"reason": "again"})).status == 409
    assert (await client.post(f"{PATH}{number}/replay/")).status == 409


async def test_a_factorys_people_see_their_own_quarantine_and_change_nothing(portal: Portal) -> None:
    own, other = await put_at(portal, "dev-001", b"own"), await put_at(portal, "dev-002", b"other")
    manager, clerk = await portal.signed_in("manager@example.org"), await portal.signed_in("clerk@example.org")

    assert [row["body"] for row in (await listed(manager))["results"]] == ["own"]
    assert (await manager.get(PATH, params={"factory_id": str(portal.mungania.factory.id)})).status == 404
    assert (await manager.get(f"{PATH}{own}/")).status == 200
    assert (await manager.get(f"{PATH}{other}/")).status == 404
    for number in (own, other):
        for what in ("replay", "dismiss"):
            answer = await manager.post(f"{PATH}{number}/{what}/", json={"reason": "mine"})
            assert answer.status == 403
        assert (await clerk.get(f"{PATH}{number}/")).status == 403
