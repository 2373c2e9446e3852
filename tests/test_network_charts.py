"""The map and the comparison in a real browser: reached by keyboard, followed live, saved as a picture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.chromium import Chromium
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON_MS, body, eventually
from tests.support.year import enter, measure
from tests.test_network_pages import FEBRUARY, JANUARY


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        await running.core.store.change_factory(running.mungania.factory.id, {"longitude": 35.3})
        yield running


async def opened(portal: Portal, chromium: Chromium, path: str, width: int = 1100) -> Page:
    tab = await chromium.new_page(viewport={"width": width, "height": 900})
    await tab.goto(str(portal.server.make_url("/login")))
    await tab.get_by_label("E-mail").fill("hq@example.org")
    await tab.get_by_label("Password").fill(PASSWORD)
    await tab.get_by_role("button", name="Sign in").click()
    await tab.goto(str(portal.server.make_url(path)))
    return tab


async def test_the_map_is_moved_by_keys_and_buttons_and_a_drag_is_no_click(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium, "/hq/map")
    shown = tab.locator("[data-map]")
    await expect(shown).to_have_attribute("data-closeness", "1.00")
    centre = await shown.get_attribute("data-centre")
    assert centre is not None

    await shown.focus()
    await tab.keyboard.press("+")
    await expect(shown).to_have_attribute("data-closeness", "1.60")
    await tab.keyboard.press("ArrowRight")
    await expect(shown).not_to_have_attribute("data-centre", centre)
    await tab.get_by_role("button", name="All factories").click()
    await expect(shown).to_have_attribute("data-centre", centre)

    marker = tab.locator('a.factory[data-name="Kangaita"]')
    box = await marker.locator("use").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    await tab.mouse.move(x, y)
    await expect(tab.locator("[data-map-tip]")).to_contain_text("Kangaita")
    await tab.mouse.down()
    await tab.mouse.move(x - 90, y + 40, steps=4)
    await tab.mouse.up()
    await expect(shown).not_to_have_attribute("data-centre", centre)
    assert tab.url.endswith("/hq/map")
    assert chromium.complaints == []


async def test_a_factory_is_opened_from_the_map_by_keyboard_and_by_a_click(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium, "/hq/map")
    await tab.locator('a.factory[data-name="Kangaita"]').focus()
    await expect(tab.locator("[data-map-tip]")).to_contain_text("Kangaita")
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/factory/kangaita/")

    await tab.go_back()
    await tab.locator('a.factory[data-name="Mungania"] use').click()
    await tab.wait_for_url("**/factory/mungania/")
    assert chromium.complaints == []


async def test_the_map_follows_the_readings(portal: Portal, chromium: Chromium) -> None:
    tab = await opened(portal, chromium, "/hq/map")
    marker = tab.locator('a.factory[data-name="Kangaita"]')
    await expect(marker).to_have_attribute("data-state", "offline")
    await expect(tab.locator("html")).to_have_attribute("data-live", "live")

    portal.core.tell("dev-001", body(1, 3, at_ms=NOON_MS - 10_000, step_ms=5000), received_at_ms=NOON_MS)
    await eventually(lambda: portal.core.outcomes()["committed"] == 3)

    await expect(marker).to_have_attribute("data-state", "firing")
    row = tab.locator("[data-row]", has_text="Kangaita")
    await expect(row.locator('[data-field="state"]')).to_have_text("Firing")
    await expect(tab.locator('[data-count="firing"]')).to_have_text("1")
    rate = await row.locator('[data-field="kg_per_h"]').inner_text()
    assert await marker.get_attribute("aria-label") == f"Kangaita: Firing, {rate} kg/h"
    assert chromium.complaints == []


@pytest.mark.parametrize("path", ["/hq/map", "/hq/programme", "/hq/regions", "/hq/calendar", "/hq/leaderboard"])
async def test_a_phone_shows_the_networks_pages_without_scrolling_sideways(
    portal: Portal, chromium: Chromium, path: str
) -> None:
    tab = await opened(portal, chromium, path, width=360)

    assert await tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert chromium.complaints == []


async def test_factories_are_picked_compared_and_saved(portal: Portal, chromium: Chromium, tmp_path: Path) -> None:
    for site, rate in ((portal.kangaita, 0.1), (portal.mungania, 0.12)):
        for first in (JANUARY, FEBRUARY):
            await measure(portal.core.store, site.stack.id, first, kg_per_s=rate)
            await enter(portal.core.store, site.factory.id, first, wood_kg=140_000, tea_kg=60_000)
    tab = await opened(portal, chromium, "/hq/compare")
    for name in ("Kangaita", "Mungania"):
        await tab.get_by_label(name).check()
    await expect(tab.locator("[data-picked]")).to_have_text("2 of at most 6 chosen")

    await tab.get_by_role("button", name="Show").click()
    await tab.wait_for_url("**/hq/compare?factory=kangaita&factory=mungania*")

    legend = tab.locator("[data-chart-legend] li")
    await expect(legend).to_have_count(2)
    await expect(tab.locator("[data-chart-plot] canvas")).to_be_visible()
    told = await tab.locator("[data-chart-plot]").get_attribute("aria-label")
    assert told is not None
    assert "Kangaita" in told
    async with tab.expect_download() as saving:
        await tab.get_by_role("button", name="PNG").click()
    saved = tmp_path / "chart.png"
    await (await saving.value).save_as(saved)
    assert saved.read_bytes().startswith(b"\x89PNG")
    assert chromium.complaints == []
