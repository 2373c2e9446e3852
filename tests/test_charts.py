"""Charts and live alerts in a real browser: what is drawn, zoomed, saved, and told without loading anything anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from carbontrack.model import Finding
from tests.support.chromium import Chromium
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually, summarise_touched

HOT = Finding("gas is 401 °C, the limit is 350", 401.0, 150.0, "°C gas temperature")


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        begin = NOON_MS - 3 * 3600_000
        for part in range(9):  # three hours, every 10 s, without what would be the fifth part
            if part != 4:
                message = body(1 + 120 * part, 120, at_ms=begin + 1_200_000 * part, step_ms=10_000)
                running.core.tell("dev-001", message, received_at_ms=NOON_MS)
        await eventually(lambda: running.core.outcomes()["committed"] == 960)
        await summarise_touched(running.core.store)
        yield running


async def opened(portal: Portal, chromium: Chromium, path: str) -> Page:
    tab = await chromium.new_page(viewport={"width": 1000, "height": 900})
    await tab.goto(str(portal.server.make_url("/login")))
    await tab.get_by_label("E-mail").fill("manager@example.org")
    await tab.get_by_label("Password").fill(PASSWORD)
    await tab.get_by_role("button", name="Sign in").click()
    await tab.goto(str(portal.server.make_url(path)))
    return tab


async def test_trends_are_zoomed_compared_and_saved(portal: Portal, chromium: Chromium, tmp_path: Path) -> None:
    tab = await opened(portal, chromium, "/factory/kangaita/trends?from=2026-03-01&to=2026-03-01")
    plot, period = tab.locator(".u-over"), tab.locator("[data-period]")
    await expect(plot).to_be_visible()
    await expect(tab.locator("[data-chart-legend]")).to_contain_text("Boiler of dev-001")
    before = await period.inner_text()

    box = await plot.bounding_box()
    assert box is not None
    await tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 50)
    await tab.mouse.down()
    await tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 50, steps=5)
    await tab.mouse.up()
    await expect(period).not_to_have_text(before)
    zoomed = await period.inner_text()
    await tab.locator("[data-chart-plot]").focus()
    await tab.keyboard.press("ArrowRight")
    await expect(period).not_to_have_text(zoomed)

    await tab.get_by_role("button", name="Compare with the time before").click()
    await expect(tab.locator("[data-chart-legend]")).to_contain_text("The time before")
    async with tab.expect_download() as saving:
        await tab.get_by_role("button", name="PNG").click()
    saved = tmp_path / "chart.png"
    await (await saving.value).save_as(saved)
    assert saved.read_bytes().startswith(b"\x89PNG")
    assert (await saving.value).suggested_filename.startswith("kangaita-co2-")
    assert chromium.complaints == []


async def test_an_alert_shows_the_hour_around_it(portal: Portal, chromium: Chromium) -> None:
    alert = await portal.core.store.raise_alert("dev-001", "hot", "warning", HOT, NOON - timedelta(minutes=30))
    assert alert is not None

    tab = await opened(portal, chromium, f"/alerts/{alert.id}/")

    await expect(tab.locator("[data-chart-plot] canvas")).to_be_visible()
    told = await tab.locator("[data-chart-plot]").get_attribute("aria-label")
    assert told is not None
    assert "Gas temperature: 183.3 to 183.3 °C, the limit is 150.0 °C" in told
    assert "and still fires" in told
    await tab.get_by_text("The same as a table").click()
    await expect(tab.get_by_role("row", name="01 Mar 14:30 183.2 183.2 183.2")).to_be_visible()


async def test_an_alert_comes_to_an_open_page_silently_at_first(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium, "/alerts/")
    await expect(tab.locator("[data-live-badge]")).to_have_text("Live", use_inner_text=True)
    await expect(tab.get_by_role("button", name="Sound is off")).to_be_visible()
    alert = await portal.core.store.raise_alert("dev-001", "hot", "critical", HOT, NOON)
    assert alert is not None

    told = {"id": alert.id, "event": "raised", "severity": "critical", "title": "Too hot", "message": HOT.message}
    portal.core.live.publish_alert(told, portal.kangaita.factory.id)

    note = tab.locator(".toast")
    await expect(note).to_contain_text("Critical: Too hot")
    await expect(tab.locator("#alerts")).to_contain_text(HOT.message)  # the list has come anew
    await expect(tab.locator(".menu .waiting")).to_contain_text("1")
    await note.click()
    await expect(tab).to_have_url(str(portal.server.make_url(f"/alerts/{alert.id}/")))
