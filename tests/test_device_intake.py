"""What a device sends over HTTP is taken as what it sends over MQTT, and the answer is its receipt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.credentials import device_password
from carbontrack.device import Hearing
from carbontrack.fleet import Undelivered
from carbontrack.metrics import HTTP_DELIVERIES, Metrics
from carbontrack.model import DeviceStatus, Outcome, Payload, Quarantined
from carbontrack.store import Store, StoreUnavailable, Work
from tests.support.web import Portal, running_portal
from tests.support.world import (
    NOON_MS,
    SID,
    Clock,
    Core,
    body,
    core,
    eventually,
    kept,
    migrated_store,
    payload,
    register,
    sample,
)

pytest_plugins = ["tests.support.world"]

PATIENCE_S = 10.0
KEY = "k" * 32
PATH = "/api/emissions/"
_names = count(1)


@pytest.fixture
async def running(store: Store, metrics: Metrics) -> AsyncIterator[Core]:
    """A fleet of two devices; the test runs once on each engine."""
    await register(store, "dev-001", "dev-002")
    async with core(store, metrics) as parts:
        yield parts


@pytest.fixture
async def small(tmp_path: Path, metrics: Metrics) -> AsyncIterator[Store]:
    """A store with one device, for what is no matter of the engine."""
    async with migrated_store(f"sqlite://{tmp_path / 'small.sqlite3'}", metrics) as store:
        await register(store, "dev-001")
        yield store


@pytest.fixture
async def lone(small: Store, metrics: Metrics) -> AsyncIterator[Core]:
    """The fleet of that device."""
    async with core(small, metrics) as parts:
        yield parts


async def deliver(
    running: Core, *contents: bytes, device_id: str = "dev-001", channel: str = "data", patience_s: float = PATIENCE_S
) -> Outcome:
    payloads = [payload(device_id, content, channel) for content in contents]
    return await running.fleet.deliver(payloads, patience_s)


def flat(at_ms: int, co2_ppm: int = 98_000) -> bytes:
    return json.dumps({"timestamp": at_ms, "co2_ppm": co2_ppm, "temperature_c": 183, "velocity_ms": 4.1}).encode()


def adds_up(running: Core) -> bool:
    return running.ended() == running.outcomes()["received"]


Save = Callable[[Work], Awaitable[None]]


# --- what became of it


async def test_who_waits_is_told_after_the_commit_what_became_of_every_record(running: Core) -> None:
    assert await deliver(running, body(1, 3)) == Outcome(stored=3, receipts={SID: 3})

    mixed = await deliver(running, body(2, 4), b"rubbish", body(6, 2, n=9))

    assert (mixed.stored, mixed.duplicate, mixed.quarantined, mixed.refused) == (2, 2, 10, 0)
    assert mixed.receipts == {SID: 14}
    assert [cause.partition(":")[0] for cause in mixed.causes] == ["invalid_json", "row_count_mismatch"]
    assert [row.seq for row in await kept(running.store)] == [1, 2, 3, 4, 5]
    assert running.receipts["dev-001", SID] == 14, "over MQTT the device is told the same"
    assert running.outcomes() == {"received": 17, "committed": 5, "duplicate": 2, "quarantined": 10, "refused": 0}


async def test_backlog_comes_by_its_own_lane_and_says_so(lone: Core) -> None:
    await deliver(lone, body(1, 2), channel="backlog")

    (row, _) = await kept(lone.store)
    assert row.flags & (1 << 19)
    assert lone.gauge("carbontrack_devices_draining") == 1


async def test_a_receipt_stops_before_the_hole_and_a_gap_record_declares_it_lost(lone: Core) -> None:
    assert await deliver(lone, body(1001, 2)) == Outcome(stored=2)
    gap = body(1003, 1, rows=[], g={"cols": ["ds", "from", "to", "why"], "rows": [[0, 1, 1000, "overwritten"]]})

    assert await deliver(lone, gap) == Outcome(stored=1, receipts={SID: 1003})


async def test_a_reading_without_a_number_is_a_duplicate_of_its_own_whoever_commits_beside_it(
    store: Store, metrics: Metrics
) -> None:
    """The database finds it, for all that share the transaction."""
    await register(store, "dev-001", "dev-002", sensor="flat_json")
    async with core(store, metrics) as running:
        first = await deliver(running, flat(NOON_MS), flat(NOON_MS), flat(NOON_MS + 5000))
        again, other = await asyncio.gather(
            deliver(running, flat(NOON_MS), flat(NOON_MS + 9000)),
            deliver(running, flat(NOON_MS), flat(NOON_MS + 9000), device_id="dev-002"),
        )

    assert first == Outcome(stored=2, duplicate=1)
    assert again == Outcome(stored=1, duplicate=1)
    assert other == Outcome(stored=2)


async def test_a_reading_that_the_database_refuses_is_told_as_quarantined(
    lone: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = lone.store.commits.save

    async def refusing(work: Work) -> None:
        refused = work.readings.pop(1)
        await save(work)
        work.rejected.append(Quarantined("dev-001", "database_refused", "no room", refused.received_at, b""))

    monkeypatch.setattr(lone.store.commits, "save", refusing)

    assert await deliver(lone, body(1, 3)) == Outcome(
        stored=2, quarantined=1, receipts={SID: 3}, causes=("database_refused: no room",)
    )


async def test_what_comes_by_both_ways_at_once_is_kept_once_and_each_sender_is_told_the_truth(running: Core) -> None:
    running.tell("dev-001", body(1, 3))
    first = deliver(running, body(2, 4))
    running.tell("dev-001", body(1, 7))
    outcomes = await asyncio.gather(first, deliver(running, body(1, 8)))

    assert [row.seq for row in await kept(running.store)] == list(range(1, 9))
    assert outcomes[0].receipts[SID] == 8, "the newest that is committed, as in any receipt"
    assert sum(it.stored for it in outcomes) <= 8
    assert all(it.stored + it.duplicate == number for it, number in zip(outcomes, (4, 8), strict=True))
    assert adds_up(running)


async def test_a_commit_that_is_tried_again_answers_once_and_stores_once(
    lone: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, attempts = lone.store.commits.save, count(1)

    async def failing_at_first(work: Work) -> None:
        if next(attempts) == 1:
            raise StoreUnavailable("away for a moment")
        await save(work)

    monkeypatch.setattr(lone.store.commits, "save", failing_at_first)

    outcome = await deliver(lone, body(1, 3), b"rubbish")

    assert (outcome.stored, outcome.quarantined, outcome.receipts, len(outcome.causes)) == (3, 1, {SID: 3}, 1)
    assert lone.outcomes() == {"received": 4, "committed": 3, "duplicate": 0, "quarantined": 1, "refused": 0}


# A message of a few readings somewhere among the first twelve, by one of three ways.
_SENT = st.tuples(st.sampled_from(("mqtt", "live", "backlog")), st.integers(1, 12), st.integers(1, 5))


@given(sent=st.lists(_SENT, min_size=1, max_size=12))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_device_may_change_its_way_at_will(running: Core, sent: Sequence[tuple[str, int, int]]) -> None:
    """However the same numbers come, each is kept once, each answer adds up, and so do the accounts."""
    sid = f"mixed{next(_names)}"
    before, asked, outcomes = running.outcomes()["received"], [], []
    for way, first, number in sent:
        content = body(first, number, sid=sid, at_ms=NOON_MS - 600_000 + 5000 * first)
        if way == "mqtt":
            assert running.tell("dev-002", content) == "delivered"
        else:
            channel = "data" if way == "live" else "backlog"
            asked.append(number)
            outcomes.append(asyncio.ensure_future(deliver(running, content, device_id="dev-002", channel=channel)))
    found = await asyncio.gather(*outcomes)
    received = before + sum(number for _, _, number in sent)
    await eventually(lambda: running.outcomes()["received"] == received == running.ended())

    wanted = {seq for _, first, number in sent for seq in range(first, first + number)}
    assert all(it.stored + it.duplicate == number for it, number in zip(found, asked, strict=True))
    assert sum(it.stored for it in found) <= len(wanted)
    (stream,) = [it for it in (await running.store.streams("dev-002"))["dev-002"] if it.sid == sid]
    rows = [row.seq for row in await kept(running.store, 2) if row.stream_pk == stream.pk]
    assert sorted(rows) == sorted(wanted)


# --- what cannot be taken now: nobody waits for ever


async def refusal(attempt: Awaitable[Outcome]) -> tuple[str, int]:
    with pytest.raises(Undelivered) as refused:
        await attempt
    return refused.value.reason, refused.value.refused


async def test_who_is_not_in_the_registry_or_disabled_is_told_so(lone: Core) -> None:
    await lone.store.change_device("dev-001", status=DeviceStatus.DISABLED)
    await lone.sync()

    assert await refusal(deliver(lone, body(), body(2), device_id="dev-003")) == ("unknown_device", 2)
    assert await refusal(deliver(lone, body())) == ("disabled_device", 1)
    assert lone.fleet.strangers == {}, "a typing error of a script is nobody who knocks"


async def test_a_list_is_within_the_allowance_as_a_whole_or_not_at_all(small: Store, metrics: Metrics) -> None:
    async with core(small, metrics, messages_per_s=1.0) as running:
        assert running.fleet.most_at_once == 60
        await deliver(running, *(body(seq) for seq in range(1, 41)))

        with pytest.raises(Undelivered) as refused:
            await deliver(running, *(body(seq) for seq in range(41, 81)))

        assert (refused.value.reason, refused.value.refused, refused.value.room_in_s) == ("flooding", 40, 20.0)
        assert len(await kept(small)) == 40
        assert running.tell("dev-001", body(41)) == "delivered", "it is the allowance that its MQTT messages have"


async def test_a_mailbox_that_is_full_refuses_and_what_was_taken_is_a_duplicate_later(
    small: Store, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, save = asyncio.Event(), small.commits.save

    async def held_up(work: Work) -> None:
        await go.wait()
        await save(work)

    monkeypatch.setattr(small.commits, "save", held_up)
    async with core(small, metrics, mailbox_size=8) as running:
        running.tell("dev-001", body(1))
        await eventually(lambda: running.gauge("carbontrack_readings_in_flight") == 1)
        for seq in range(2, 9):
            assert running.tell("dev-001", body(seq)) == "delivered"

        assert await refusal(deliver(running, body(9), body(10), body(11))) == ("mailbox_full", 2)
        go.set()

        await running.receipt("dev-001", 9)
        assert await deliver(running, body(9), body(10)) == Outcome(stored=1, duplicate=1, receipts={SID: 10})


async def test_a_commit_that_does_not_come_is_given_up_and_kept_when_it_comes(
    lone: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, save = asyncio.Event(), lone.store.commits.save

    async def held_up(work: Work) -> None:
        await go.wait()
        await save(work)

    monkeypatch.setattr(lone.store.commits, "save", held_up)
    assert await refusal(deliver(lone, body(1, 2), patience_s=0.02)) == ("not_committed", 0)
    go.set()

    assert await deliver(lone, body(1, 3)) == Outcome(stored=1, duplicate=2, receipts={SID: 3})
    assert adds_up(lone)


async def test_a_parked_device_refuses_at_once(small: Store, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:

    async def defect(work: Work) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(small.commits, "save", defect)
    async with core(small, metrics, park_after_failures=1) as running:
        assert await refusal(deliver(running, body(), patience_s=0.05)) == ("parked", 0)

        assert await refusal(deliver(running, body(), body(2))) == ("parked", 2)


async def test_a_device_that_is_taken_off_meanwhile_ends_the_waiting(
    lone: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(work: Work) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(lone.store.commits, "save", away)
    waiting = asyncio.create_task(refusal(deliver(lone, body())))
    await eventually(lambda: lone.state("dev-001") == "backing_off")
    await lone.store.change_device("dev-001", status=DeviceStatus.DISABLED)
    await lone.sync()

    assert await waiting == ("stopped", 0)


# --- presence


async def test_a_device_that_posts_is_online_and_offline_by_the_same_rules(small: Store, metrics: Metrics) -> None:
    clock, hearing = Clock(), Hearing()
    async with core(small, metrics, monotonic=clock, hearing=hearing, offline_after_s=30.0) as running:
        actor = running.fleet._actors["dev-001"]
        actor.idle_after_s = 0.01
        actor._await_idle(asyncio.get_running_loop())
        hearing.connected(clock())
        await deliver(running, body(1))
        assert running.fleet.snapshots()["dev-001"].online
        for _ in range(10):  # the canary is heard all the time
            clock.now += 10
            hearing.heard(clock())
            looks = actor.looks
            await eventually(lambda before=looks: actor.looks > before + 1)  # type: ignore[misc]  # bound at once

        assert not running.fleet.snapshots()["dev-001"].online
        await deliver(running, body(2))
        assert running.fleet.snapshots()["dev-001"].online


# --- over HTTP


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", device_key=KEY) as running:
        yield running


def node(portal: Portal, device_id: str = "dev-001", password: str | None = None) -> TestClient[Any, Any]:
    """A device's way to post, with its password."""
    device = portal.core.fleet.device(device_id)
    right = device_password(KEY, device) if device is not None else "none"
    client = portal.client()
    client.session.headers["Authorization"] = encode_basic_auth(device_id, password or right)
    client.session.headers["Content-Type"] = "application/json"
    return client


async def test_a_device_posts_a_message_and_the_answer_is_its_receipt(portal: Portal) -> None:
    answer = await node(portal).post(PATH, data=body(1, 3))

    assert answer.status == 202
    assert await answer.json() == {
        "stored": 3,
        "duplicate": 0,
        "quarantined": 0,
        "refused": 0,
        "receipts": {SID: 3},
        "causes": [],
        "now": NOON_MS + 1000,
        "credit": 5.0,
    }


async def test_a_list_of_messages_is_taken_in_its_order(portal: Portal) -> None:
    content = b"[" + body(1, 3) + b", " + body(4) + b', {"rubbish": true}]'

    given = await (await node(portal).post(PATH, data=content, params={"lane": "backlog"})).json()

    assert (given["stored"], given["quarantined"], given["receipts"]) == (4, 1, {SID: 4})
    (item,) = await portal.core.store.quarantined()
    assert item.body == b'{"rubbish": true}'


async def test_a_simple_board_posts_the_form_of_its_driver(portal: Portal) -> None:
    await portal.core.store.change_device("dev-001", sensor="flat_json")
    await portal.core.sync()
    board = node(portal)
    readings = b"[" + b",".join(flat(NOON_MS - 5000 * number) for number in range(100)) + b"]"

    first = await (await board.post(PATH, data=readings)).json()
    again = await (await board.post(PATH, data=flat(NOON_MS))).json()

    assert (first["stored"], first["receipts"]) == (100, {})
    assert (again["stored"], again["duplicate"]) == (0, 1)


async def test_what_cannot_be_read_as_a_whole_is_an_error_and_nothing_is_taken(portal: Portal) -> None:
    board = node(portal)
    for content in (b"", b"  ", b"[]", b"[" + body() + b", {", b"[1 2]", b"[" + b"1," * 1000 + b"1]", b"[" * 100_000):
        answer = await board.post(PATH, data=content)
        assert answer.status == 422, content[:40]
        assert (await answer.json())["errors"]
    assert (await board.post(PATH, data=body(), params={"lane": "slow"})).status == 422
    assert (await board.post(PATH, data=body(), headers={"Content-Type": "text/plain"})).status == 415
    assert portal.core.outcomes()["received"] == 0


async def test_a_message_that_the_broker_would_not_take_is_too_large(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'web.sqlite3'}"
    async with running_portal(url, device_key=KEY, max_payload_bytes=1024) as portal:
        assert (await node(portal).post(PATH, data=body(1, 60))).status == 413
        assert portal.core.outcomes()["refused"] == 1
        assert sample(portal.core.metrics, "carbontrack_http_messages_total", delivery="too_large") == 1


async def test_each_reason_for_refusing_is_a_status_that_a_script_can_act_on(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, operator = node(portal), await portal.signed_in("operator@example.org")
    raised: list[Undelivered] = []

    async def refusing(payloads: Sequence[Payload], patience_s: float) -> Outcome:
        raise raised[-1]

    monkeypatch.setattr(portal.core.fleet, "deliver", refusing)
    expected = {
        "unknown_device": (404, None),
        "disabled_device": (409, None),
        "flooding": (429, "13"),
        "mailbox_full": (503, "5"),
        "parked": (503, "60"),
        "not_committed": (503, "5"),
        "stopped": (503, "5"),
    }
    assert set(expected) == {*HTTP_DELIVERIES, "not_committed", "stopped"} - {"delivered", "too_large"}
    for reason, (status, retry_after) in expected.items():
        raised.append(Undelivered(reason, 1, 12.1 if reason == "flooding" else None))
        answer = await board.post(PATH, data=body())
        assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after), reason
        assert (await answer.json())["detail"]
    monkeypatch.undo()
    params = {"device_id": "dev-404"}
    assert (await operator.post(PATH, data=body(), headers=JSON, params=params)).status == 404
    assert sample(portal.core.metrics, "carbontrack_http_messages_total", delivery="unknown_device") == 2
    assert adds_up(portal.core)


JSON = {"Content-Type": "application/json"}


# --- who may


async def test_a_device_sends_for_itself_alone(portal: Portal) -> None:
    board = node(portal)
    assert (await board.post(PATH, data=body(), params={"device_id": "dev-002"})).status == 403
    assert (await board.post(PATH, data=body(), params={"device_id": "dev-001"})).status == 202
    for path in (PATH, "/api/mcu-devices/", "/api/quarantine/"):
        assert (await board.get(path)).status == 401, "its password opens nothing else"


async def test_people_who_look_after_the_registry_hand_messages_in_and_others_do_not(portal: Portal) -> None:
    for name, status in {"hq": 202, "operator": 202, "auditor": 403, "manager": 403, "clerk": 403}.items():
        client = await portal.signed_in(f"{name}@example.org")
        answer = await client.post(PATH, data=body(), headers=JSON, params={"device_id": "dev-001"})
        assert answer.status == status, name
    client = await portal.signed_in("operator@example.org")
    answer = await client.post(PATH, data=body(), headers=JSON)
    assert (await answer.json())["errors"][0]["field"] == "device_id"


@pytest.mark.parametrize("header", ["Basic", "Basic !", "Basic ZGV2LTAwMQ==", "Basic /////w==", "Bearer dev-001"])
async def test_a_header_that_is_none_lets_nobody_in(portal: Portal, header: str) -> None:
    answer = await portal.client().post(PATH, data=body(), headers=JSON | {"Authorization": header})
    assert answer.status == 401


async def test_wrong_passwords_are_limited_for_one_device_and_its_neighbour_is_not_the_worse_for_it(
    portal: Portal,
) -> None:
    for device_id in ("dev-001", "dev-404"):
        guessing = node(portal, device_id, password="a guess")
        statuses = [(await guessing.post(PATH, data=body())).status for _ in range(11)]
        assert statuses == [401] * 10 + [429], device_id
    answer = await node(portal).post(PATH, data=body())
    assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (429, True)
    assert (await node(portal, "dev-002").post(PATH, data=body())).status == 202


async def test_the_old_password_ends_when_it_is_changed(portal: Portal) -> None:
    before = node(portal)
    assert (await before.post(PATH, data=body())).status == 202
    await portal.core.store.rotate_password("dev-001")
    await portal.core.sync()

    assert (await before.post(PATH, data=body())).status == 401
    assert (await node(portal).post(PATH, data=body())).status == 202


async def test_without_a_key_no_device_can_sign_in_and_is_told_what_is_missing(tmp_path: Path) -> None:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as portal:
        answer = await node(portal).post(PATH, data=body())
        assert answer.status == 401
        assert "mqtt.device_key" in (await answer.json())["detail"]


# --- a store is drained


async def test_a_backlog_drains_over_http_though_answers_are_lost_and_the_account_is_closed(portal: Portal) -> None:
    """2,000 readings, 50 a message, each third answer lost, and the broker's way in between."""
    board, total, step = node(portal), 2000, 50
    watermark, posted = 0, 0
    while watermark < total:
        first = watermark + 1
        content = body(first, step, at_ms=NOON_MS - (total - first + 1) * 5000)
        posted += 1
        if posted % 7 == 0:
            assert portal.core.tell("dev-001", content, "backlog") == "delivered"
            continue  # whether it came the node does not know
        answer = await board.post(PATH, data=content, params={"lane": "backlog"})
        assert answer.status == 202
        given = await answer.json()
        assert given["stored"] + given["duplicate"] == step
        if posted % 3:
            watermark = given["receipts"][SID]
    await eventually(lambda: adds_up(portal.core))

    rows = await kept(portal.core.store)
    assert [row.seq for row in rows] == list(range(1, total + 1))
    outcomes = portal.core.outcomes()
    assert outcomes["committed"] == total
    assert outcomes["received"] == posted * step
    assert (await portal.core.store.streams("dev-001"))["dev-001"][0].beyond == []
