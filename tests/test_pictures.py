"""The documentation's pictures are taken by this test, of the demo: they show what there is, and all are used.

``make pictures`` writes them into docs/images; otherwise they are in build/pictures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.support.chromium import Chromium
from tests.test_demo import COMMITTED, demo
from tests.test_docs import ROOT

HQ = "hq@demo.example"
DESK = {"viewport": {"width": 1200, "height": 780}}
PHONE = {"viewport": {"width": 390, "height": 780}}
LEAST_BYTES = 15_000
"""A page with nothing on it has fewer."""


@dataclass(frozen=True)
class Picture:
    """What a picture shows: who looks, at which page, on what. A path without a slash is one of the factory's pages."""

    path: str
    who: str = HQ
    is_phone: bool = False


PICTURES: Mapping[str, Picture] = {
    "network": Picture("/hq/"),
    "leaderboard": Picture("/hq/leaderboard"),
    "map": Picture("/hq/map"),
    "setup": Picture("/hq/factories/"),
    "devices": Picture("/hq/devices"),
    "factory-phone": Picture("", "factory", is_phone=True),
    "entries-phone": Picture("entries", "factory", is_phone=True),
    "account": Picture("account", "factory"),
    "trends": Picture("trends", "factory"),
    "fire": Picture("combustion", "factory"),
    "reports": Picture("/reports/"),
    "firmware": Picture("/hq/firmware/"),
}


def shown() -> dict[str, set[str]]:
    """The pictures that documents show, and where."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for name in re.findall(r"images/([\w-]+)\.png", path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(path.name)
    return found


def test_documents_show_the_pictures_that_are_taken_and_no_others() -> None:
    kept = {path.stem for path in (ROOT / "docs" / "images").glob("*.png")}
    assert kept == shown().keys() == PICTURES.keys(), "make pictures takes them anew"


@pytest.mark.timeout(600)  # where they are taken for the documents
async def test_the_pictures_are_taken_of_the_demo(tmp_path: Path, chromium: Chromium) -> None:
    wanted = os.environ.get("CARBONTRACK_PICTURES")
    folder = Path(wanted or ROOT / "build" / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    with demo(tmp_path, "--factories", "12" if wanted else "2", "--port", "0", "--speed", "5") as running:
        running.await_start()
        # For documents: until the day that the devices bring along has come, every 20 s of it.
        running.await_metric(COMMITTED, 90_000 if wanted else 1000, within_s=400)
        manager = re.findall(r"\S+@demo\.example", running.log.read_text())[1]
        tabs: dict[tuple[str, bool], Page] = {}
        for name, picture in PICTURES.items():
            who = manager if picture.who == "factory" else picture.who
            key = who, picture.is_phone
            if key not in tabs:
                tabs[key] = await signed_in(chromium, running.url, who, is_phone=picture.is_phone)
            slug = manager.partition("@")[0]
            path = picture.path if picture.who != "factory" else f"/factory/{slug}/{picture.path}"
            await take(tabs[key], f"{running.url}{path}", folder / f"{name}.png")
            assert (folder / f"{name}.png").stat().st_size > LEAST_BYTES, name
        for tab in tabs.values():
            await tab.context.close()  # before what they watch ends
        running.press_ctrl_c()


async def signed_in(chromium: Chromium, url: str, who: str, *, is_phone: bool) -> Page:
    tab = await chromium.new_page(**(PHONE if is_phone else DESK), locale="en-GB", reduced_motion="reduce")
    await tab.goto(f"{url}/login")
    await tab.get_by_label("E-mail").fill(who)
    await tab.get_by_label("Password", exact=True).fill("demo")
    await tab.get_by_role("button", name="Sign in", exact=True).click()
    await tab.wait_for_url(lambda at: not at.endswith("/login"))
    return tab


async def take(tab: Page, url: str, file: Path) -> None:
    await tab.goto(url)
    await expect(tab.locator("h1")).to_be_visible()
    await tab.wait_for_load_state("load")
    await expect(tab.locator("[aria-busy=true]")).to_have_count(0)
    await tab.screenshot(path=file, animations="disabled")
