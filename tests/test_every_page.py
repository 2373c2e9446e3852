"""Every page in a real browser, for everybody who may open it: WCAG, phones, dark screens, keyboards and paper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page as Tab
from playwright.async_api import expect

from carbontrack.model import LOCALES, Role
from tests.support.chromium import Chromium
from tests.support.estate import Estate, Side, running_estate
from tests.support.routes import routes
from tests.support.showing import (
    DESK,
    DESK_DARK,
    MORE,
    NOT_OURS,
    PHONE,
    PHONE_DARK,
    Tour,
    Visitor,
    fit,
    on_paper,
    pages,
    picture_folder,
    settled,
    tab_of,
    visitors,
    walk_by_keys,
    write_sheet,
)
from tests.support.web import running_portal
from tests.support.world import execute

AT_ONCE = 2
"""Tabs: one for each core."""
EVERYWHERE = (Role.HQ_MANAGER, Role.FACTORY_MANAGER)
ONCE = (Role.AUDITOR, Role.FACTORY_CLERK)
"""Their pages are the others' with fewer buttons; one screen shows that, and needs no picture."""


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    async with running_estate(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.mark.timeout(400)  # about two hundred pictures, each examined; a minute where nothing else runs
@pytest.mark.parametrize("language", LOCALES)
async def test_every_page_can_be_used_by_everybody(estate: Estate, chromium: Chromium, language: str) -> None:
    tour = Tour(picture_folder())
    screens = (DESK, PHONE_DARK) if language == LOCALES[0] else (PHONE, DESK_DARK)
    everyone = await visitors(estate, language, (*EVERYWHERE, *ONCE) if language == LOCALES[0] else EVERYWHERE)
    every = await pages(estate)
    # In the other language one person sees a page on the one screen, and the next on the other.
    turn = len(screens) if language == LOCALES[0] else 1
    waiting = (
        (visitor, page, [screens[(who + number + more) % 2] for more in range(turn)])
        for who, visitor in enumerate(everyone)
        for number, page in enumerate(every)
        if visitor.may_open(page)
    )

    async def walk() -> None:
        tabs: dict[Visitor, Tab] = {}
        for visitor, page, seen_on in waiting:
            if visitor not in tabs:
                tabs[visitor] = await tab_of(chromium, visitor, str(estate.portal.server.make_url("/")))
            is_once = visitor.role in ONCE
            shown = screens[:1] if is_once else seen_on
            await tour.look(chromium, tabs[visitor], visitor, page, shown, pictures=not is_once)

    await asyncio.gather(*(walk() for _ in range(AT_ONCE)))

    write_sheet(tour.folder, f"pages-{language}", tour.seen)
    assert not tour.wrong, tour.told()
    assert len(tour.seen) > 60


# --- with keys alone


async def tab_for(chromium: Chromium, estate: Estate, role: Role) -> Tab:
    _, visitor = await visitors(estate, "en", (role,))
    return await tab_of(chromium, visitor, str(estate.portal.server.make_url("/")))


async def test_everything_is_reached_by_tab_and_shows_it(estate: Estate, chromium: Chromium) -> None:
    sample = {
        Role.HQ_MANAGER: ("/hq/", "/hq/people/", "/alerts/"),
        Role.FACTORY_MANAGER: ("/factory/kangaita/", "/factory/kangaita/entries", "/factory/kangaita/trends"),
    }
    wrong: dict[str, list[str]] = {}
    for role, paths in sample.items():
        tab = await tab_for(chromium, estate, role)
        for path in paths:
            await tab.goto(path)
            await settled(tab)
            if found := await walk_by_keys(tab):
                wrong[path] = found
    assert wrong == {}


async def test_the_first_tab_leads_past_the_menu(estate: Estate, chromium: Chromium) -> None:
    tab = await tab_for(chromium, estate, Role.HQ_MANAGER)
    await tab.goto("/hq/")
    await tab.keyboard.press("Tab")
    skip = tab.locator(".skip")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport(ratio=1)
    await tab.keyboard.press("Enter")
    await expect(tab.locator("main")).to_be_focused()


async def test_escape_closes_the_menu_and_so_does_going_on(estate: Estate, chromium: Chromium) -> None:
    tab = await tab_for(chromium, estate, Role.HQ_MANAGER)
    await tab.goto("/hq/")
    menu, summary = tab.locator(".menu details"), tab.locator(".menu summary")

    await summary.focus()
    await tab.keyboard.press("Enter")
    await expect(menu).to_have_attribute("open", "")
    await tab.keyboard.press("Tab")
    await tab.keyboard.press("Escape")
    await expect(menu).not_to_have_attribute("open", "")
    await expect(summary).to_be_focused()

    await tab.keyboard.press("Enter")
    await tab.mouse.click(600, 700)
    await expect(menu).not_to_have_attribute("open", "")


# --- on paper


async def test_paper_has_the_numbers_and_no_buttons(estate: Estate, chromium: Chromium) -> None:
    tab = await tab_for(chromium, estate, Role.HQ_MANAGER)
    for path in ("/factory/kangaita/account?month=2026-03", "/hq/leaderboard", "/factory/kangaita/", "/alerts/"):
        await fit(tab, DESK_DARK)
        await tab.goto(path)
        await settled(tab)
        name = path.strip("/").replace("/", "-").partition("?")[0]
        found = await on_paper(tab, picture_folder() / f"paper-{name}.pdf")
        ground, ink = found.pop("ground"), found.pop("ink")
        assert found == {"controls": [], "cut": [], "wide": False}, path
        assert (ground, ink) == ("rgba(0, 0, 0, 0)", "rgb(0, 0, 0)"), path  # the paper's own colour


# --- before anything is there


async def test_pages_say_so_where_there_is_nothing_yet(tmp_path: Path, chromium: Chromium) -> None:
    """First a factory without a chimney, then a platform without a factory."""
    url, tour = f"sqlite://{tmp_path / 'web.sqlite3'}", Tour(picture_folder())
    async with running_portal(url) as portal:
        site = portal.kangaita
        clerk = next(user for user in await portal.core.store.users() if user.role == Role.FACTORY_CLERK)
        side = Side("Ours", 0.0, site.factory, site.stack, site.device, clerk)
        estate = Estate(portal, side, side)
        await estate.fill_callers()
        for what in ("device", "stack", f"factory WHERE id = {portal.mungania.factory.id}"):
            await execute(url, f"DELETE FROM {what}")
        await portal.core.sync()

        await look_around(tour, chromium, estate, Role.FACTORY_MANAGER, {"slug"})
        for what in ("user_account WHERE factory_id IS NOT NULL", "factory"):
            await execute(url, f"DELETE FROM {what}")
        tour.titles.clear()
        await look_around(tour, chromium, estate, Role.HQ_MANAGER, set())
    write_sheet(tour.folder, "nothing-yet", tour.seen)
    assert not tour.wrong, tour.told()


async def look_around(tour: Tour, chromium: Chromium, estate: Estate, role: Role, known: set[str]) -> None:
    """Look at the pages whose variables are known, with one tab."""
    _, visitor = await visitors(estate, "en", (role,))
    tab = await tab_of(chromium, visitor, str(estate.portal.server.make_url("/")))
    for page in await pages(estate, known):
        if visitor.may_open(page):
            await tour.look(chromium, tab, visitor, page, (DESK, PHONE_DARK), "empty")
    await tab.context.close()


# --- what is looked at


async def test_every_route_that_answers_with_html_is_looked_at(estate: Estate) -> None:
    looked_at = {page.route for page in await pages(estate)}
    known = {route.name for route in routes(estate.portal)}

    assert {"GET /login", "GET /hq/", "GET /factory/{slug}/", "GET /alerts/{id}/", "GET /hq/people/{id}/"} <= looked_at
    assert looked_at.isdisjoint(NOT_OURS)
    assert NOT_OURS.keys() | MORE.keys() <= known, "they are gone"
