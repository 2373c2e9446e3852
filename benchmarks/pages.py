"""How heavy the pages are, and how soon they are of use, on a slow link: 400 kbit/s, 300 ms there and back.

    make bench ARGS="pages"            every page that has a menu entry, and signing in (about three minutes)
    make bench ARGS="pages --quick"    three of them, to see that it runs

The core runs on the database of 67 factories with 268 devices, each with a reading; a Chromium without anything kept
opens each page twice, over a link as slow as in the country on a bad day. Bytes are those on the wire, with headers.
Chromium puts the delay on each request, and not on opening a connection.

* *first paint*: something of the page is seen.
* *usable*: the page is there and its scripts have run (DOMContentLoaded); what comes later is the live stream.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from playwright.async_api import CDPSession, Page, ViewportSize

from benchmarks.growth import REGISTER, STACKS, Bench, connected, network
from benchmarks.publisher import Load
from benchmarks.rig import Core, mosquitto, postgres, publishing, serving
from carbontrack.model import Role
from carbontrack.passwords import hash_password, new_token, token_hash
from carbontrack.store import Store
from carbontrack.web.auth import COOKIE
from tests.support.chromium import Chromium, chromium

KBIT_S = 400
ROUND_TRIP_MS = 300
SLOW_PROCESSOR = 4
FIRST_KB = 150
USABLE_S = 3.0
LINK = {
    "offline": False,
    "latency": ROUND_TRIP_MS,
    "downloadThroughput": KBIT_S * 1000 / 8,
    "uploadThroughput": KBIT_S * 1000 / 8,
}
WHEN = """() => new Promise((done) => {
  const told = () => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    const page = performance.getEntriesByType("navigation")[0];
    if (!paint || !page.domContentLoadedEventEnd) return setTimeout(told, 50);
    done([paint.startTime, page.domContentLoadedEventEnd]);
  };
  told();
})"""
PASSWORD = "a password of the benchmark"  # noqa: S105  # of a database that lives for a minute


@dataclass
class Visit:
    """One page, once opened."""

    paint_s: float = 0.0
    usable_s: float = 0.0
    received: float = 0.0
    requests: int = 0

    @property
    def kb(self) -> float:
        return self.received / 1024


@dataclass
class Wire:
    """Counts what comes over a page's link."""

    visit: Visit = field(default_factory=Visit)
    streams: set[str] = field(default_factory=set)

    def follow(self, session: CDPSession) -> None:
        session.on("Network.requestWillBeSent", self._asked)
        session.on("Network.loadingFinished", self._came)
        session.on("Network.responseReceived", self._answered)

    def _asked(self, event: dict[str, Any]) -> None:
        if not event["request"]["url"].startswith("data:"):
            self.visit.requests += 1
        if event.get("redirectResponse"):
            self.visit.received += event["redirectResponse"]["encodedDataLength"]

    def _came(self, event: dict[str, Any]) -> None:
        self.visit.received += event["encodedDataLength"]

    def _answered(self, event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            self.visit.requests -= 1


async def slow_page(browser: Chromium, token: str, base: str, processor: int = 1) -> tuple[Page, Wire]:
    """A tab with an empty cache, on a slow link."""
    # Not `browser.new_page`: it watches where requests go, and a browser that is watched keeps nothing.
    # Without the service worker, which fetches on a line of its own: it would hide bytes, and no link would slow it.
    screen: ViewportSize = {"width": 360, "height": 740}
    context = await browser.browser.new_context(base_url=base, viewport=screen, service_workers="block")
    tab = await context.new_page()
    if token:
        await tab.context.add_cookies([{"name": COOKIE, "value": token, "url": base}])
    session = await tab.context.new_cdp_session(tab)
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", LINK)
    if processor > 1:
        await session.send("Emulation.setCPUThrottlingRate", {"rate": processor})
    wire = Wire()
    wire.follow(session)
    return tab, wire


async def visit(tab: Page, wire: Wire, path: str) -> Visit:
    wire.visit = found = Visit()
    await tab.goto(path)
    paint_ms, usable_ms = await tab.evaluate(WHEN)
    await asyncio.sleep(1.5)  # what scripts ask for
    found.paint_s, found.usable_s = paint_ms / 1000, usable_ms / 1000
    wire.visit = Visit()
    return found


async def measure_page(browser: Chromium, token: str, base: str, path: str) -> list[Visit]:
    """The first visit, the second, and the first with a slow processor."""
    tab, wire = await slow_page(browser, token, base)
    visits = [await visit(tab, wire, path)]
    await tab.goto("about:blank")
    visits.append(await visit(tab, wire, path))
    await tab.context.close()
    tab, wire = await slow_page(browser, token, base, SLOW_PROCESSOR)
    visits.append(await visit(tab, wire, path))
    await tab.context.close()
    return visits


async def sign_in(browser: Chromium, base: str) -> list[Visit]:
    """The first page and, with what is kept by then, the main page that follows."""
    tab, wire = await slow_page(browser, "", base)
    visits = [await visit(tab, wire, "/login")]
    await tab.fill("input[name=email]", "hq@example.org")
    await tab.fill("input[name=password]", PASSWORD)
    wire.visit = after = Visit()
    await tab.click("main form button[type=submit]")
    await tab.wait_for_url("**/hq/")
    paint_ms, usable_ms = await tab.evaluate(WHEN)
    await asyncio.sleep(1.5)
    after.paint_s, after.usable_s = paint_ms / 1000, usable_ms / 1000
    await tab.context.close()
    return [*visits, after]


@asynccontextmanager
async def portal(bench: Bench) -> AsyncIterator[tuple[Core, dict[Role, str]]]:
    """A core with the network's devices, each with a reading; and a token for two people."""
    async with network(bench) as (store, url):
        async with connected(url) as connection:
            await connection.execute(REGISTER, 0, STACKS)
        factory = (await store.factories())[0]
        tokens = {
            Role.HQ_MANAGER: await session_of(store, "hq@example.org", Role.HQ_MANAGER, None),
            Role.FACTORY_MANAGER: await session_of(store, "manager@example.org", Role.FACTORY_MANAGER, factory.id),
        }
        with mosquitto(bench.folder) as port, serving(url, port, bench.folder) as core:
            with publishing(Load(port, "", "", STACKS, 4 * STACKS, rate=200)) as publisher:
                await asyncio.to_thread(publisher.wait)
            yield core, tokens


async def session_of(store: Store, email: str, role: Role, factory_id: int | None) -> str:
    user = await store.add_user(email, hash_password(PASSWORD), role, factory_id=factory_id)
    token = new_token()
    await store.add_session(token_hash(token), user.id, datetime.now(UTC) + timedelta(days=1))
    return token


async def paths(browser: Chromium, base: str, tokens: dict[Role, str]) -> list[tuple[Role, str]]:
    """Where the menus of two people lead, and their factory's tabs."""
    found: dict[str, Role] = {}
    for role, token in tokens.items():
        tab = await browser.new_page(base_url=base)
        await tab.context.add_cookies([{"name": COOKIE, "value": token, "url": base}])
        await tab.goto("/")
        links = await tab.eval_on_selector_all("nav a", "(all) => all.map((it) => it.getAttribute('href'))")
        for path in [await tab.evaluate("location.pathname"), *links]:
            found.setdefault(path, role)
        await tab.context.close()
    return [(role, path) for path, role in found.items()]


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def told(name: str, visits: Sequence[Visit]) -> None:
    first, second, slow = visits
    row(
        name,
        f"{first.paint_s:.1f} s",
        f"{first.usable_s:.1f} s",
        f"{first.kb:.0f} KB ({first.requests})",
        f"{second.usable_s:.1f} s",
        f"{second.kb:.0f} KB ({second.requests})",
        f"{slow.usable_s:.1f} s",
    )


async def measure(bench: Bench) -> None:
    async with portal(bench) as (core, tokens), chromium() as browser:
        login, after = await sign_in(browser, core.url)
        together = login.kb + after.kb
        row("What", "Measured", "Limit")
        row("---", "---", "---")
        row("signing in: the form is seen after", f"{login.paint_s:.1f} s, {login.kb:.0f} KB", "")
        row(
            "the main page, after the form: usable after",
            f"{after.usable_s:.1f} s, {after.kb:.0f} KB",
            f"{USABLE_S:.0f} s",
        )
        row("both together, nothing kept before", f"{together:.0f} KB", f"{FIRST_KB} KB")
        print()
        row(
            "Page",
            "First paint",
            "Usable",
            "Bytes (requests)",
            "Usable, second visit",
            "Bytes",
            "Usable, processor 4 times slower",
        )
        row(*["---"] * 7)
        pages = await paths(browser, core.url, tokens)
        for role, path in pages[: 3 if bench.share < 1 else None]:
            told(f"`{path}`", await measure_page(browser, tokens[role], core.url, path))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three pages")
    given = parser.parse_args(arguments)
    with postgres() as server, tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(Bench(server, Path(folder), 0.1 if given.quick else 1.0)))
