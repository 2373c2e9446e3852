"""A device as a unit: what it is handed out, its password, and another one in its place."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import segno

from carbontrack.certificates import new_authority
from carbontrack.credentials import device_password
from carbontrack.handout import HandoutError, Handouts, Wifi
from carbontrack.model import AuditAction, Device, DeviceStatus
from carbontrack.web.qr import qr_svg
from tests.support.html import page, send
from tests.support.web import SAME_ORIGIN, Portal, running_portal
from tests.support.world import NOON_MS, body, eventually

KEY = "k" * 32
WIFI = {"wifi_ssid": "Kangaita", "wifi_password": "simba1234"}


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_bytes(b"# made here\n" + new_authority("Our authority").certificate)
    return path


@pytest.fixture
async def portal(tmp_path: Path, ca_file: Path) -> AsyncIterator[Portal]:
    handouts = Handouts("mqtt.example.org", 8884, ca_file, None, KEY)
    url = f"sqlite://{tmp_path / 'web.sqlite3'}"
    async with running_portal(url, device_key=KEY, handouts=handouts) as running:
        yield running


async def device(portal: Portal, device_id: str = "dev-001") -> Device:
    return next(it.device for it in await portal.core.store.sites() if it.device.device_id == device_id)


async def test_its_configuration_is_a_file_or_a_sheet_and_the_log_says_who_has_it(
    portal: Portal, ca_file: Path
) -> None:
    browser, password = await portal.browser("operator@example.org"), device_password(KEY, await device(portal))
    text = await page(browser, "/devices/1/handout")
    assert "mqtt.example.org" in text
    assert "Our authority" in text
    assert password not in text, "whoever only looks is shown no secret"

    answer = await browser.post("/devices/1/handout", data={"as": "file", **WIFI}, headers=SAME_ORIGIN)
    told = json.loads(line := await answer.text())["provision"]
    assert line.count("\n") == 1, "a node takes lines"
    assert told.pop("ca") == ca_file.read_text().removeprefix("# made here\n")
    assert told == {"id": "dev-001", "password": password, "host": "mqtt.example.org", "port": 8884, **WIFI}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="dev-001.json"'

    answer = await browser.post("/devices/1/handout", data={"as": "sheet", **WIFI}, headers=SAME_ORIGIN)
    text = await answer.text()
    assert (answer.headers["Cache-Control"], password in text, "simba1234" in text) == ("no-store", True, False)
    code = segno.make(line.strip(), error="l", micro=False, encoding="utf-8")
    assert code.svg_inline(border=4).split(' d="')[-1].split('"')[0] in text, "the code says the same line"

    log = await portal.core.store.audit_events(action=AuditAction.DEVICE_HANDED_OUT)
    assert [(it.actor, it.subject_id, it.after) for it in log] == [
        ("operator@example.org", "dev-001", {"as": way}) for way in ("sheet", "file")
    ]


@pytest.mark.parametrize(
    "wifi", [{"wifi_ssid": "", "wifi_password": "simba1234"}, {"wifi_ssid": "K", "wifi_password": "short"}]
)
async def test_a_network_that_no_box_joins_is_refused_at_its_field(portal: Portal, wifi: dict[str, str]) -> None:
    status, text = await send(await portal.browser("hq@example.org"), "/devices/1/handout", {"as": "file", **wifi})

    assert status == 422
    assert "field-error" in text
    assert not await portal.core.store.audit_events(action=AuditAction.DEVICE_HANDED_OUT)


async def test_what_an_operator_has_to_set_first_is_said(portal: Portal, ca_file: Path, tmp_path: Path) -> None:
    it = await device(portal)
    big = tmp_path / "big.pem"
    big.write_bytes(new_authority("One of many").certificate * 8)
    key = tmp_path / "ca.key"
    key.write_bytes(new_authority("A key").key)
    for handouts, why in (
        (Handouts("mqtt.example.org"), "mqtt.device_key"),
        (Handouts("localhost", key=KEY), "devices.broker_host"),
        (Handouts("127.0.0.1", key=KEY), "devices.broker_host"),
        (Handouts("mqtt.example.org", ca_file=tmp_path / "none.pem", key=KEY), "devices.broker_ca_file"),
        (Handouts("mqtt.example.org", ca_file=big, key=KEY), "One authority is enough"),
        (Handouts("mqtt.example.org", ca_file=key, key=KEY), "no certificate"),
    ):
        with pytest.raises(HandoutError, match=why):
            handouts.line(it)
    assert "simba1234" not in repr(Wifi("Kangaita", "simba1234"))
    assert KEY not in repr(Handouts("mqtt.example.org", key=KEY))
    assert qr_svg("x" * 1501, "too fine") is None


async def test_a_device_gets_another_password_and_is_shut_out_and_let_in(portal: Portal) -> None:
    browser, first = await portal.browser("operator@example.org"), await device(portal)
    path = "/devices/1/credentials"
    status, text = await send(browser, path, {"what": "rotate"})
    assert (status, "Say that you mean it" in text) == (422, True)

    status, text = await send(browser, path, {"what": "rotate", "confirmed": "true"})
    second = await device(portal)
    assert (status, second.password_generation > first.password_generation) == (303, True)
    assert device_password(KEY, second) not in text

    status, text = await send(browser, path, {"what": "revoke", "confirmed": "true"})
    third = await device(portal)
    assert (status, third.status) == (303, DeviceStatus.DISABLED)
    assert third.password_generation > second.password_generation, "what it has opens nothing when it is let in again"
    assert "Let it in again" in text
    assert portal.core.tell("dev-001", body(), received_at_ms=NOON_MS) == "disabled_device"
    old = {"Authorization": _basic("dev-001", device_password(KEY, second))}
    assert (await portal.client().post("/api/emissions/", json={}, headers=old)).status == 401

    await send(browser, path, {"what": "enable"})
    assert (await device(portal)).status is DeviceStatus.ACTIVE


def _basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


async def test_another_unit_takes_its_place(portal: Portal) -> None:
    portal.core.tell("dev-001", body(1, 3), received_at_ms=NOON_MS)
    await eventually(lambda: portal.core.outcomes()["committed"] == 3)
    browser, form = await portal.browser("operator@example.org"), {"device_id": "dev-001-b", "sensor": "ct_v1"}
    assert 'value="dev-001-b"' in await page(browser, "/devices/1/replace")

    for wrong, said in (
        ({}, "Say that you mean it"),
        ({"confirmed": "true", "at": "2020-03-01T08:00"}, "counts already"),
        ({"confirmed": "true", "at": "soon"}, "Write a day and a time"),
        ({"confirmed": "true", "device_id": "dev-002"}, "measures another chimney"),
    ):
        status, text = await send(browser, "/devices/1/replace", {**form, "at": "", **wrong})
        assert (status in {409, 422}, said in text) == (True, True), text

    status, text = await send(browser, "/devices/1/replace", {**form, "at": "", "confirmed": "true"})
    old, new = await device(portal), await device(portal, "dev-001-b")
    assert (status, "Set up dev-001-b" in text, old.status) == (303, True, DeviceStatus.DISABLED)
    assert (old.replaced_by, new.stack_id) == ("dev-001-b", old.stack_id)
    assert "was replaced by dev-001-b" in await page(browser, "/devices/1/")
    assert "was replaced by dev-001-b" in await page(browser, "/devices/1/replace")
    assert "replaced by dev-001-b" in await page(browser, "/hq/factories/kangaita/")


async def test_the_api_does_the_same(portal: Portal) -> None:
    browser = await portal.browser("operator@example.org")
    answer = await browser.post("/api/mcu-devices/1/handout/", json=WIFI, headers=SAME_ORIGIN)
    told = (await answer.json())["provision"]
    assert (told["id"], told["password"]) == ("dev-001", device_password(KEY, await device(portal)))

    given = {"device_id": "dev-009", "at": (portal.now - timedelta(hours=1)).isoformat()}
    answer = await browser.post("/api/mcu-devices/1/replace/", json=given, headers=SAME_ORIGIN)
    found = await answer.json()
    assert (answer.status, found["device_id"], found["credentials"]["username"]) == (201, "dev-009", "dev-009")
    answer = await browser.post("/api/mcu-devices/1/replace/", json=given, headers=SAME_ORIGIN)
    assert (answer.status, "already" in (await answer.json())["detail"]) == (409, True)

    answer = await browser.delete(f"/api/mcu-devices/{found['id']}/credentials/", headers=SAME_ORIGIN)
    assert (answer.status, (await device(portal, "dev-009")).status) == (204, DeviceStatus.DISABLED)
    assert (await (await browser.get("/api/mcu-devices/1/")).json())["replaced_by"] == "dev-009"
