"""The main job on real parts: mosquitto with TLS, PostgreSQL, the whole core, and Chromium seeing the number move."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiomqtt
import pytest
from aiohttp import ClientSession
from playwright.async_api import Page, expect

from carbontrack.app import Core, run_core, run_web
from carbontrack.model import Role
from carbontrack.store import migrate
from tests.support.chromium import Chromium
from tests.support.mosquitto import Broker, core_config
from tests.support.postgres import Postgres
from tests.support.web import PASSWORD, PEOPLE, password_hash
from tests.support.world import birth, body, eventually, register, will

DEVICE, NEIGHBOUR = "dev-001", "dev-002"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@dataclass
class Platform:
    """The whole core with its pages, and a way to send as a device."""

    core: Core
    url: str
    broker: Broker

    @asynccontextmanager
    async def device(self, device_id: str = DEVICE) -> AsyncIterator[Callable[..., Awaitable[None]]]:
        async with self.broker.client(device_id, protocol=aiomqtt.ProtocolVersion.V311) as client:

            async def send(content: bytes, channel: str = "data") -> None:
                await client.publish(f"ct/v1/{device_id}/up/{channel}", content, qos=1, retain=channel == "state")

            yield send


@pytest.fixture
async def platform(mosquitto: Broker, postgres_url: str) -> AsyncIterator[Platform]:
    config = core_config(mosquitto, postgres_url, DEVICES__REGISTRY_POLL_S="0.2")
    await migrate(config.database.url)
    async with run_core(config) as core:
        (kangaita,) = await register(core.store, DEVICE, factory_name="Kangaita")
        await register(core.store, NEIGHBOUR, factory_name="Mungania")
        for email, role in PEOPLE.items():
            own = kangaita.factory.id if role in {Role.FACTORY_MANAGER, Role.FACTORY_CLERK} else None
            await core.store.add_user(email, password_hash(), role, factory_id=own, first_name="Wanjiru")
        await eventually(lambda: core.ingest.connected and len(core.fleet.states()) == 2)
        async with run_web(core) as url:
            yield Platform(core, url, mosquitto)


async def sign_in(page: Page, url: str, email: str) -> None:
    await page.goto(url)
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def firing(co2_ppm: float) -> list[list[Any]]:
    return [[0, 0, 1, co2_ppm, 183.25, 4.12, 79.68, 0]]


async def test_a_published_reading_appears_on_both_pages_and_moves_without_reloading(
    platform: Platform, chromium: Chromium
) -> None:
    factory_page = await chromium.new_page(viewport=PHONE)
    await sign_in(factory_page, platform.url, "manager@example.org")
    await expect(factory_page.get_by_role("heading", name="Kangaita")).to_be_visible()
    hq_page = await chromium.new_page(viewport=DESKTOP)
    await sign_in(hq_page, platform.url, "hq@example.org")
    await expect(hq_page.get_by_text("Kangaita").first).to_be_visible()

    on_factory = factory_page.locator(f'[data-device-id="{DEVICE}"] [data-field="co2_kg_per_h"]').first
    row = platform.core.fleet.snapshots()[DEVICE].factory_id
    on_hq = hq_page.locator(f'[data-factory-id="{row}"] [data-field="kg_per_h"]').first
    await factory_page.evaluate("window.notReloaded = true")
    await hq_page.evaluate("window.notReloaded = true")
    async with platform.device() as send:
        await send(birth(), "state")
        await send(body(1, at_ms=now_ms(), rows=firing(98_000)))
        # 98,000 ppm dry: 0.1485 kg/s is 535 kg/h (worked out in tests/test_api.py)
        await expect(on_factory).to_have_text("535", timeout=10_000)
        await expect(on_hq).to_have_text("535", timeout=10_000)
        await send(body(2, at_ms=now_ms(), rows=firing(49_000)))
        await expect(on_factory).to_have_text("267", timeout=10_000)
        await expect(on_hq).to_have_text("267", timeout=10_000)
        state = factory_page.locator(f'[data-device-id="{DEVICE}"] [data-field="state"]').first
        await expect(state).to_contain_text("Firing")
        await send(will(), "state")
        await expect(state).to_contain_text("Offline", timeout=10_000)
    assert await factory_page.evaluate("window.notReloaded")
    assert await hq_page.evaluate("window.notReloaded")


async def test_the_device_is_told_what_is_in_the_database(platform: Platform) -> None:
    async with platform.device() as send, platform.broker.client(DEVICE, identifier="listener") as listener:
        await listener.subscribe(f"ct/v1/{DEVICE}/dn/ack", qos=1)
        await send(body(1, 60, at_ms=now_ms() - 600_000), "backlog")
        await send(body(61, at_ms=now_ms()))
        async for message in listener.messages:
            receipt = json.loads(bytes(message.payload))
            if receipt["seq"] == 61:
                break
    rows = await platform.core.store._engine.rows("SELECT count(*) AS n FROM reading")
    assert rows[0]["n"] == 61


BAD = {
    "unreadable JSON": (b'{"v":1,', "invalid_json"),
    "not text": (b"\x00\xff\xfe", "invalid_json"),
    "an empty message": (b"", "invalid_json"),
    "wrong types": (body(1, sid="types", rows=[["x", 0, 1, "high", 1, 1, 1, 0]]), "wrong_type"),
    "NaN": (body(1, sid="nan").replace(b"98000", b"NaN"), "not_finite"),
    "infinity": (body(1, sid="inf").replace(b"98000", b"1e999"), "not_finite"),
    "a missing field": (json.dumps({"v": 1, "sid": "9f3c21aa"}).encode(), "missing_field"),
    "a count that is not true": (body(1, 2, sid="count", n=3), "row_count_mismatch"),
    "another version": (body(1, v=2), "unknown_version"),
}


async def test_bad_input_is_kept_with_its_cause_is_seen_in_the_portal_and_stops_nobody(
    platform: Platform, chromium: Chromium
) -> None:
    async with platform.device() as send, platform.device(NEIGHBOUR) as neighbour:
        for content, _ in BAD.values():
            await send(content)
        await send(b" " * 1_000_000)
        await send(body(1, at_ms=0, sid="from1970"))
        await send(body(1, at_ms=4_070_908_800_000, sid="from2099"))
        await send(body(10, at_ms=now_ms()))
        await send(body(9, at_ms=now_ms()))
        await send(body(9, at_ms=now_ms()))
        await neighbour(body(1, at_ms=now_ms()))
        metrics = platform.core.metrics.registry

        def value(name: str, **labels: str) -> float:
            return metrics.get_sample_value(name, labels) or 0.0

        await eventually(lambda: value("carbontrack_readings_total", outcome="duplicate") == 1)
        await eventually(lambda: value("carbontrack_readings_total", outcome="committed") == 5)
    for name, (_, cause) in BAD.items():
        assert value("carbontrack_quarantined_total", cause=cause) >= 1, name
    assert value("carbontrack_mqtt_messages_total", delivery="too_large") == 1
    assert value("carbontrack_readings_flagged_total", flag="clock_future") == 1
    assert value("carbontrack_readings_flagged_total", flag="time_estimated") == 1
    assert set(platform.core.fleet.states().values()) == {"running"}

    page = await chromium.new_page(viewport=DESKTOP)
    await sign_in(page, platform.url, "operator@example.org")
    await expect(page.get_by_text("The message is not readable JSON.").first).to_be_visible()
    await expect(page.get_by_text("Larger than mqtt.max_payload_bytes.").first).to_be_visible()


async def test_an_unregistered_device_is_shown_to_the_operator_and_works_once_it_is_registered(
    platform: Platform, chromium: Chromium
) -> None:
    stacks = await platform.core.store.stacks()
    page = await chromium.new_page(viewport=DESKTOP)
    async with platform.device("dev-007") as send:
        await send(birth(), "state")
        await send(body(1, at_ms=now_ms()))
        await eventually(lambda: "dev-007" in platform.core.fleet.strangers)
        await sign_in(page, platform.url, "operator@example.org")
        await expect(page.get_by_text("dev-007").first).to_be_visible()
        # As the command line would do it: another process writes, the core finds out by itself.
        await platform.core.store.add_device("dev-007", stacks[0].id, "ct_v1")
        await eventually(lambda: "dev-007" in platform.core.fleet.states())
        await send(body(1, at_ms=now_ms()))
        await eventually(lambda: platform.core.fleet.snapshots()["dev-007"].measured_at is not None)
        assert platform.core.fleet.snapshots()["dev-007"].online


async def test_while_the_database_is_away_the_core_is_not_ready_and_afterwards_nothing_is_missing(
    platform: Platform, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbontrack.app.COMMIT_PATIENCE_S", 0.1)
    monkeypatch.setattr("carbontrack.actor.LONGEST_OUTAGE_BACKOFF_S", 0.5)
    async with platform.device() as send, ClientSession() as client:
        postgres.kill()
        for seq in range(1, 6):
            await send(body(seq, at_ms=now_ms()))
        await eventually(lambda: bool(platform.core.not_ready()), "the core never said that it is not ready")
        async with client.get(f"{platform.url}/readyz") as answer:
            assert answer.status == 503
            assert "nothing was committed" in (await answer.json())["reasons"][0]
        postgres.start()
        await eventually(lambda: not platform.core.not_ready(), "the core never became ready again")
        value = platform.core.metrics.registry.get_sample_value
        await eventually(lambda: value("carbontrack_readings_total", {"outcome": "committed"}) == 5)
    rows = await platform.core.store._engine.rows("SELECT count(*) AS n, max(seq) AS last FROM reading")
    assert rows == [{"n": 5, "last": 5}]
