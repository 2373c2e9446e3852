"""The pages of firmware in a real browser: an image is added, rolled out, watched and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from carbontrack.firmware import DeviceFirmware, Plan, new_key, read_manifest, sign_image, write_manifest
from carbontrack.model import Device, Origin
from carbontrack.rollouts import start_rollout
from carbontrack.store import Choice
from tests.support.chromium import Chromium
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON

pytest_plugins = ["tests.support.world"]

KEY = new_key()


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    options: dict[str, Any] = {"firmware_key": KEY.public_key}
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", **options) as running:
        yield running


async def heard(portal: Portal, device: Device) -> None:
    said = DeviceFirmware(device.id, device.device_id, device.factory_id, "1.4.0", "ct-1", 4, "run", NOON)
    await portal.core.store.keep_device_firmware([said])


def files(folder: Path, version: str) -> tuple[str, str]:
    content = f"image {version}".encode()
    image, beside = folder / "node.bin", folder / "node.bin.ctfw"
    image.write_bytes(content)
    beside.write_bytes(write_manifest(sign_image(content, KEY, version=version, hardware="ct-1", notes="New.")))
    return str(image), str(beside)


async def signed_in(browser_page: Page, portal: Portal, email: str, path: str) -> None:
    await browser_page.goto(str(portal.server.make_url("/login")))
    await browser_page.get_by_label("E-mail").fill(email)
    await browser_page.get_by_label("Password", exact=True).fill(PASSWORD)
    await browser_page.get_by_role("button", name="Sign in").click()
    await browser_page.goto(str(portal.server.make_url(path)))


async def test_an_image_is_added_rolled_out_watched_and_stopped(
    portal: Portal, chromium: Chromium, tmp_path: Path
) -> None:
    browser_page = await chromium.new_page()
    await heard(portal, portal.kangaita.device)
    await signed_in(browser_page, portal, "operator@example.org", "/hq/firmware/")
    await expect(browser_page.get_by_text("There is no image yet.")).to_be_visible()
    await expect(browser_page.get_by_text("There was no roll-out yet.")).to_be_visible()

    image, beside = files(tmp_path, "1.5.0")
    await browser_page.get_by_label("The image").set_input_files(beside)
    await browser_page.get_by_label("Its manifest").set_input_files(beside)
    await browser_page.get_by_role("button", name="Add the image").click()
    await expect(browser_page.get_by_text("The image is not the one that the manifest is of")).to_be_visible()
    await browser_page.get_by_label("The image").set_input_files(image)
    await browser_page.get_by_label("Its manifest").set_input_files(beside)
    await browser_page.get_by_role("button", name="Add the image").click()
    await expect(browser_page.get_by_text("1.5.0 for ct-1 is there.")).to_be_visible()

    await browser_page.get_by_role("button", name="What would it come to?").click()
    await expect(browser_page.get_by_text("1 device would get it.")).to_be_visible()
    await expect(browser_page.get_by_text("1: has never said which hardware it is")).to_be_visible()
    await browser_page.get_by_label("Stages").fill("10%")
    await browser_page.get_by_role("button", name="Start the roll-out").click()
    await expect(browser_page.get_by_text("The last stage has to be 100%.")).to_be_visible()
    await browser_page.get_by_label("Stages").fill("100%")
    await browser_page.get_by_role("button", name="Start the roll-out").click()

    await expect(browser_page.get_by_role("heading", name="Roll-out of 1.5.0")).to_be_visible()
    await expect(browser_page.get_by_text("It waits for 1 device of this stage.")).to_be_visible()
    await browser_page.get_by_role("button", name="Pause it").click()
    await expect(browser_page.get_by_text("No further device begins.")).to_be_visible()
    await browser_page.get_by_role("button", name="Let it go on").click()
    await browser_page.get_by_text("Stop it", exact=True).click()
    await browser_page.get_by_label("Stop it for good").check()
    await browser_page.get_by_role("button", name="Stop the roll-out").click()
    await expect(browser_page.get_by_text("Offers that were not yet installed are withdrawn.")).to_be_visible()

    await browser_page.get_by_role("link", name="dev-001").click()
    await expect(browser_page.get_by_text("Runs 1.4.0 on ct-1")).to_be_visible()
    assert len(chromium.complaints) == 2, "two answers that refuse"
    assert all("422" in it for it in chromium.complaints)
    chromium.complaints.clear()


async def test_an_auditor_looks_and_changes_nothing(portal: Portal, browser_page: Page) -> None:
    await heard(portal, portal.kangaita.device)
    await signed_in(browser_page, portal, "auditor@example.org", "/hq/firmware/")
    await expect(browser_page.get_by_text("1.4.0")).to_be_visible()
    assert await browser_page.get_by_role("button", name="Add the image").count() == 0


async def test_stopping_needs_somebody_who_means_it(portal: Portal) -> None:
    store, by = portal.core.store, Origin("hq@example.org")
    await heard(portal, portal.kangaita.device)
    manifest = read_manifest(write_manifest(sign_image(b"image", KEY, version="1.5.0", hardware="ct-1")))
    image = await store.add_image(manifest, b"image", by=by, now=NOON)
    made = await start_rollout(store, image, Choice(), Plan("100%"), by=by, now=NOON)
    browser = await portal.browser("operator@example.org")
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with browser.post(f"/hq/firmware/rollouts/{made.id}/stop", data={}, headers=headers) as answer:
        assert answer.status == 422
        assert "Say that you mean it." in await answer.text()
    found = await store.rollout(made.id)
    assert found is not None
    assert found.is_live
