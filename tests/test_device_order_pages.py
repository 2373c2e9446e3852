"""The page of a device and its API: settings with their state, commands by role, and what was answered."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import encode_basic_auth
from playwright.async_api import expect

from carbontrack.credentials import device_password
from carbontrack.device_settings import ConfigState, DeviceSettings, Limit
from carbontrack.simulator import Node
from tests.support.chromium import Chromium
from tests.support.html import page, send
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON_MS, eventually

DEVICE = "dev-001"
PHONE = {"width": 360, "height": 740}
FORM = {"sample_s": "10", "readings": "5", "warm_up_s": "180", "stuck_s": "600", "buzzer": "true", "led": "true"}


@dataclass
class World:
    """A portal with one simulated node that takes what the desk sends, as soon as the desk looks."""

    portal: Portal
    url: str
    node: Node = field(default_factory=lambda: Node(DEVICE, booted_ms=NOON_MS))
    is_deaf: bool = False
    """Whether the node gets nothing."""

    async def send(self, _device_id: str, channel: str, content: bytes) -> None:
        if self.is_deaf:
            return
        if channel == "config":
            self.says("config", self.node.orders.take_config(content))
        elif (answer := self.node.take_command(content, NOON_MS)) is not None:
            self.says("res", answer)

    def says(self, channel: str, content: bytes) -> None:
        assert self.portal.core.tell(DEVICE, content, channel) == "delivered"

    async def look(self) -> None:
        """Let the desk look until nothing comes any more."""
        desk, actor = self.portal.services.device_desk, self.portal.core.fleet._actors[DEVICE]
        for _ in range(4):
            await desk.look()
            await eventually(lambda: not actor.mailbox)
            await eventually(lambda: not actor.in_hand)

    async def connect(self) -> None:
        self.node.open()
        self.says("state", self.node.birth(NOON_MS))
        await eventually(lambda: self.portal.core.fleet.is_online(DEVICE))
        await self.look()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as portal:
        world = World(portal, f"/devices/{portal.kangaita.device.id}/")
        portal.services.device_desk.send = world.send
        yield world


# --- settings


async def test_saved_settings_are_applied_and_the_page_says_so(world: World) -> None:
    browser = await world.portal.browser("hq@example.org")
    await world.connect()

    status, text = await send(browser, f"{world.url}settings", FORM)
    assert (status, "The settings are saved as revision 2." in text) == (303, True)
    assert "Revision 2 waits" in text
    await world.look()

    text = await page(browser, world.url)
    assert "The device works with revision 2." in text
    assert 'name="sample_s" type="number" value="10"' in text
    assert world.node.orders.sample_s == 10
    assert "hq@example.org" in text


async def test_a_device_that_was_never_heard_says_what_will_happen(world: World) -> None:
    text = await page(await world.portal.browser("hq@example.org"), world.url)

    for said in (
        "It was given none yet",
        "When it connects it is sent",
        "It was told nothing yet.",
        "no revisions yet",
    ):
        assert said in text


async def test_a_device_whose_firmware_takes_no_settings_says_so(world: World) -> None:
    world.says("state", json.dumps({"v": 1, "online": True, "conn": 1}).encode())
    await eventually(lambda: world.portal.core.fleet.is_online(DEVICE))
    await world.look()

    text = await page(await world.portal.browser("hq@example.org"), world.url)

    assert "takes no settings" in text


async def test_what_the_device_refuses_is_named_and_can_be_sent_again(world: World) -> None:
    browser, pk = await world.portal.browser("hq@example.org"), world.portal.kangaita.device.id
    await world.connect()
    world.is_deaf = True
    await send(browser, f"{world.url}settings", FORM)
    await world.look()
    assert "has not answered yet" in await page(browser, world.url)
    errors = [{"path": "limits.0.limit", "code": "range"}, {"path": "<b>", "code": "storage"}]
    world.says("config", json.dumps({"rev": 2, "ok": False, "active": 1, "errors": errors}).encode())
    await world.look()

    text = await page(browser, world.url)
    assert "The device has refused revision 2" in text
    assert "limits.0.limit: it is out of range" in text
    assert "&lt;b&gt;: the device&#39;s memory did not take it" in text

    world.is_deaf = False
    status, text = await send(browser, f"{world.url}settings/send-again", {"rev": "2"})
    assert (status, "Revision 2 is sent again." in text) == (303, True)
    await world.look()
    assert (await world.portal.core.store.configs(pk))[0].state is ConfigState.APPLIED

    _, text = await send(browser, f"{world.url}settings/send-again", {"rev": "1"})
    assert "There is a newer revision of these settings." in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sample_s": "0"}, "settings-sample_s-error"),
        ({"sample_s": ""}, "settings-sample_s-error"),
        ({"sample_s": "1", "readings": "11"}, "100 ms for each"),
        ({"limit-rate_high": "much"}, "settings-limit-rate_high-error"),
        ({"limit-velocity_low": "3", "for_s-velocity_low": "5000"}, "settings-for_s-velocity_low-error"),
        ({"limit-temperature_high": "9999"}, "settings-limit-temperature_high-error"),
    ],
)
async def test_settings_that_no_device_takes_are_refused_at_their_field(
    world: World, changed: dict[str, str], said: str
) -> None:
    status, text = await send(await world.portal.browser("hq@example.org"), f"{world.url}settings", FORM | changed)

    assert (status, said in text) == (422, True)
    assert 'value="180"' in text, "what was typed is still there"
    assert await world.portal.core.store.configs(world.portal.kangaita.device.id) == []


async def test_limits_of_the_form_come_back_as_they_were_typed(world: World) -> None:
    browser, store = await world.portal.browser("operator@example.org"), world.portal.core.store
    limits = {
        "limit-rate_high": "0.35",
        "hysteresis-rate_high": "0.02",
        "for_s-rate_high": "30",
        "level-rate_high": "critical",
    }
    form = {**FORM, **limits, "on-sensor_fault": "true", "buzzer": ""}

    await send(browser, f"{world.url}settings", form)

    (config,) = await store.configs(world.portal.kangaita.device.id)
    assert config.document["limits"] == [
        {"code": "rate_high", "limit": 0.35, "hysteresis": 0.02, "for_s": 30, "level": "critical"},
        {"code": "sensor_fault", "hysteresis": 0.0, "for_s": 60, "level": "warning"},
    ]
    assert config.document["buzzer"] is False
    text = await page(browser, world.url)
    assert 'value="0.35"' in text
    _, text = await send(browser, f"{world.url}settings", form)
    assert "Nothing was changed" in text


async def test_the_history_shows_what_changed_and_who_did_it(world: World) -> None:
    browser = await world.portal.browser("hq@example.org")
    await send(browser, f"{world.url}settings", FORM)
    await send(browser, f"{world.url}settings", FORM | {"sample_s": "20"})

    text = await page(browser, world.url)

    assert "1 value changed" in text
    assert "10 → 20" in text
    assert "Replaced" in text


# --- commands


async def test_a_manager_finds_the_box_and_cannot_restart_it(world: World) -> None:
    browser = await world.portal.browser("manager@example.org")
    await world.connect()
    text = await page(browser, world.url)
    assert "Show which box it is" in text
    assert "Restart it" not in text
    assert "Save the settings" not in text

    status, text = await send(browser, f"{world.url}commands", {"cmd": "identify", "seconds": "20"})
    assert (status, "the device is told." in text) == (303, True)
    await world.look()
    assert "Done" in await page(browser, world.url)

    for cmd in ("reboot", "diag", "zero_cal"):
        status, _ = await send(browser, f"{world.url}commands", {"cmd": cmd, "confirmed": "true"})
        assert status == 403


async def test_who_reads_only_has_no_buttons(world: World) -> None:
    for email in ("auditor@example.org", "clerk@example.org"):
        text = await page(await world.portal.browser(email), world.url)
        assert "<form" not in text.partition('id="settings"')[2].partition("</main>")[0]


async def test_what_costs_readings_is_meant(world: World) -> None:
    browser = await world.portal.browser("hq@example.org")

    status, text = await send(browser, f"{world.url}commands", {"cmd": "reboot"})
    assert (status, "Say that you mean it." in text) == (422, True)
    status, text = await send(browser, f"{world.url}commands", {"cmd": "reboot", "confirmed": "true"})

    assert (status, "if it connects within 10 minutes" in text) == (303, True)
    status, text = await send(browser, f"{world.url}commands", {"cmd": "span_cal", "confirmed": "true", "ppm": "0"})
    assert (status, "Must be from 1 to 1,000,000" in text) == (422, True)
    status, text = await send(browser, f"{world.url}commands", {"cmd": "explode"})
    assert status == 422


async def test_a_diagnosis_shows_what_the_device_told(world: World) -> None:
    browser = await world.portal.browser("operator@example.org")
    await world.connect()
    await send(browser, f"{world.url}commands", {"cmd": "diag"})
    await world.look()

    text = await page(browser, world.url)

    assert "Has run for" in text
    assert "20,000" in text


async def test_the_people_of_another_factory_see_neither_device_nor_what_it_was_told_before(world: World) -> None:
    portal = world.portal
    store, other = portal.core.store, f"/devices/{portal.mungania.device.id}/"
    manager, hq = await portal.browser("manager@example.org"), await portal.browser("hq@example.org")
    await page(manager, other, status=404)
    await send(hq, f"{other}settings", FORM | {"sample_s": "77"})
    await send(hq, f"{other}commands", {"cmd": "identify", "seconds": "99"})

    await store.change_device("dev-002", stack_id=portal.kangaita.stack.id)
    await portal.core.sync()

    text = await page(manager, other)
    assert "99 s" not in text
    assert "It was told nothing yet." in text
    assert "99 s" in await page(hq, other)


# --- the API


async def test_the_api_gives_and_takes_the_same(world: World) -> None:
    client = await world.portal.signed_in("hq@example.org")
    base = f"/api/mcu-devices/{world.portal.kangaita.device.id}"
    await world.connect()
    before = await (await client.get(f"{base}/settings/")).json()
    assert (before["rev"], before["state"], before["sample_s"], before["takes_settings"]) == (1, "applied", 5, True)

    limits = [{"code": "rate_high", "limit": 0.35}]
    answer = await client.put(f"{base}/settings/", json={"sample_s": 30, "limits": limits})
    found = await answer.json()
    assert (answer.status, found["rev"], found["state"], found["made_by"]) == (200, 2, "waiting", "hq@example.org")
    await world.look()
    assert (await (await client.get(f"{base}/settings/")).json())["state"] == "applied"

    rows = await (await client.get(f"{base}/settings/history/", params={"limit": 1})).json()
    (revision,) = rows["results"]
    assert (revision["rev"], revision["why"]) == (2, "settings")
    assert {"path": "sample_s", "before": None, "after": 30} in revision["changes"]
    rows = await (await client.get(f"{base}/settings/history/", params={"cursor": rows["next"]})).json()
    assert ([it["rev"] for it in rows["results"]], rows["next"]) == ([1], None)

    answer = await client.post(f"{base}/commands/", json={"cmd": "diag"})
    given = await answer.json()
    assert (answer.status, given["state"]) == (201, "queued")
    await world.look()
    rows = await (await client.get(f"{base}/commands/", params={"command_id": given["command_id"]})).json()
    assert [(it["state"], it["result"]["boot"]) for it in rows["results"]] == [("done", 1)]


BAD: list[tuple[str, str, dict[str, Any], str]] = [
    ("PUT", "settings/", {"sample_s": 0}, "sample_s"),
    ("PUT", "settings/", {"sample_s": 1, "readings": 11}, "readings"),
    ("PUT", "settings/", {"colour": "blue"}, "colour"),
    ("PUT", "settings/", {"limits": [{"code": "rate_high"}]}, "limits.0.limit"),
    ("PUT", "settings/", {"limits": [{"code": "rate_high", "limit": 1}] * 2}, "limits.1.code"),
    ("PUT", "settings/", {"limits": [{"code": "sensor_fault"}] * 7}, "limits"),
    ("POST", "commands/", {"cmd": "explode"}, "cmd"),
    ("POST", "commands/", {"cmd": "identify", "args": {"seconds": 0}}, "args.seconds"),
    ("POST", "commands/", {"cmd": "reboot", "args": {"now": 1}}, "args.now"),
]


@pytest.mark.parametrize(("method", "path", "given", "at"), BAD)
async def test_what_no_device_takes_is_refused_by_the_api_at_its_field(
    world: World, method: str, path: str, given: dict[str, Any], at: str
) -> None:
    client = await world.portal.signed_in("operator@example.org")

    answer = await client.request(method, f"/api/mcu-devices/{world.portal.kangaita.device.id}/{path}", json=given)

    assert answer.status == 422
    assert at in {error["field"] for error in (await answer.json())["errors"]}


async def test_a_manager_may_give_only_what_is_for_managers(world: World) -> None:
    client = await world.portal.signed_in("manager@example.org")
    base = f"/api/mcu-devices/{world.portal.kangaita.device.id}/commands/"

    assert (await client.post(base, json={"cmd": "silence", "args": {"minutes": 5}})).status == 201
    assert (await client.post(base, json={"cmd": "reboot"})).status == 403


# --- in a browser


async def test_the_answer_shows_without_reloading_and_all_fits_on_a_phone(world: World, chromium: Chromium) -> None:
    await world.connect()
    tab = await chromium.new_page(viewport=PHONE)
    home = str(world.portal.server.make_url("/"))
    await tab.goto(f"{home}login")
    await tab.get_by_label("E-mail").fill("hq@example.org")
    await tab.get_by_label("Password").fill(PASSWORD)
    await tab.get_by_role("button", name="Sign in").click()
    await tab.goto(f"{home.rstrip('/')}{world.url}")
    await expect(tab.locator("#standing")).to_contain_text("The device works with revision 1.")

    await tab.get_by_label("Seconds between two readings").fill("10")
    await tab.get_by_text("Alarms of the device itself").click()
    await tab.get_by_role("group", name="CO2 above").get_by_label("Limit, kg/s").fill("0.35")
    await tab.get_by_role("button", name="Save the settings").click()
    await expect(tab.locator("#standing")).to_contain_text("Revision 2 waits")
    await tab.evaluate("window.notReloaded = true")
    await world.look()
    await expect(tab.locator("#standing")).to_contain_text("The device works with revision 2.", timeout=10_000)
    assert await tab.evaluate("window.notReloaded")

    await tab.get_by_role("button", name="Ask it").click()
    await expect(tab.locator("#last")).to_contain_text("Waiting for the device")
    await world.look()
    await expect(tab.locator("#last")).to_contain_text("Has run for", timeout=10_000)
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await tab.evaluate(wide)
    expected = DeviceSettings(sample_s=10, limits=(Limit("rate_high", 0.35),))
    assert world.node.orders.sample_s == expected.sample_s


# --- a factory with a platform of its own


async def test_a_device_that_its_factorys_own_platform_governs_is_told_nothing_from_here(tmp_path: Path) -> None:
    """Nor does it speak to us by itself, though somebody may know its password."""
    key = "a key"
    url = f"sqlite://{tmp_path / 'web.sqlite3'}"
    async with running_portal(url, bridged={"kangaita"}, device_key=key) as portal:
        browser = await portal.browser("hq@example.org")
        address = f"/devices/{portal.kangaita.device.id}/"
        text = html.unescape(await page(browser, address))
        assert "governed by its factory's own platform" in text
        for form in ("settings", "commands"):
            assert f'action="{address}{form}' not in text
        for path, what in (("settings", FORM), ("commands", {"cmd": "identify", "seconds": "10"})):
            status, text = await send(browser, f"{address}{path}", what)
            assert (status, "governed by its factory's own platform" in html.unescape(text)) == (422, True)

        auth = encode_basic_auth(DEVICE, device_password(key, portal.kangaita.device))
        answer = await portal.client().post("/api/emissions/", json={}, headers={"Authorization": auth})
        assert answer.status == 401
        assert "its factory's own platform" in (await answer.json())["detail"]
