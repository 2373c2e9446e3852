"""Every page in a real browser: which there are, who looks at them, and what is wrong with what they see.

Pages are not listed: each route that answers a GET with HTML is one, so that a new page is looked at from its first
day. What cannot be looked at stands in :data:`NOT_OURS`, with why. PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientSession, DummyCookieJar
from playwright.async_api import Page as Tab

from carbontrack.model import Role
from carbontrack.web.auth import COOKIE
from carbontrack.words import LANGUAGE_COOKIE
from tests.support.calls import prepare
from tests.support.chromium import Chromium
from tests.support.estate import Caller, Estate, Maker
from tests.support.routes import Route, routes
from tests.support.web import PEOPLE

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
STANDARD = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
"""WCAG 2.0 to 2.2, levels A and AA."""
OF_A_SCREEN = ("color-contrast", "scrollable-region-focusable", "target-size")
"""Those of axe's rules whose outcome differs from one screen to the next; the others look at names and roles."""
NOT_OURS: Mapping[str, str] = {
    "GET /api/schema/swagger-ui/": "Swagger UI draws it; what it lacks is mended there, and /api/schema/ has the same",
    "GET /api/schema/redoc/": "Redoc draws it, as above",
}
MORE: Mapping[str, Sequence[str]] = {
    "GET /alerts/": ("?show=all",),
    "GET /factory/{slug}/account": ("?month=2026-02",),
    "GET /factory/{slug}/hours": ("?day=2026-03-01&hour=14",),
    "GET /factory/{slug}/trends": ("?from=2026-02-01&to=2026-03-01&step=day",),
    "GET /hq/leaderboard": ("?month=2026-02",),
}
"""Pages that look quite different with something else in their address."""
NOWHERE = "/there-is-no-such-page"


@dataclass(frozen=True)
class Page:
    """An address that answers with HTML, and who may open it; no roles: whoever has not signed in."""

    route: str
    path: str
    roles: frozenset[Role]
    status: int = 200

    @property
    def file(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.path.lower()).strip("-") or "first"


@dataclass(frozen=True)
class Visitor:
    """Somebody with a browser. ``role`` is None for whoever has not signed in."""

    role: Role | None
    language: str
    cookies: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.role.value if self.role else 'nobody'} ({self.language})"

    def may_open(self, page: Page) -> bool:
        return self.role in page.roles if self.role else not page.roles


@dataclass(frozen=True)
class Screen:
    """How wide a screen is, and its colours."""

    name: str
    width: int
    height: int
    colours: str


DESK, DESK_DARK = Screen("desk", 1280, 900, "light"), Screen("desk-dark", 1280, 900, "dark")
PHONE, PHONE_DARK = Screen("phone", 360, 740, "light"), Screen("phone-dark", 360, 740, "dark")


# --- which pages there are, and who looks


async def pages(estate: Estate, known: Collection[str] | None = None) -> list[Page]:
    """All pages of the running application; ``known``: only those whose variables are among these.

    One that answers with an error is there as well: whoever looks at it complains.
    """
    hq = next(it for it in estate.callers if it.column == Role.HQ_MANAGER and it.scope is None)
    kept: dict[tuple[Maker, str], str] = {}
    found = [Page(NOWHERE, NOWHERE, frozenset(Role), 404)]
    async with ClientSession(estate.portal.server.make_url("/"), cookie_jar=DummyCookieJar()) as client:
        for route in routes(estate.portal):
            is_known = known is None or set(re.findall(r"\{(\w+)\}", route.path)) <= set(known)
            if route.method == "GET" and is_known and not _is_data(route) and route.name not in NOT_OURS:
                found += await _pages_of(estate, route, hq, client, kept)
    return found


def _is_data(route: Route) -> bool:
    """Whether no person opens it: an operation of the API, or what is for devices alone."""
    is_operation = route.operation is not None and "text/html" not in route.operation.media
    return is_operation or route.access.roles == frozenset()


async def _pages_of(
    estate: Estate, route: Route, hq: Caller, client: ClientSession, kept: dict[tuple[Maker, str], str]
) -> list[Page]:
    asks = Caller("nobody", "nobody", {}) if route.access.roles is None else hq
    request = await prepare(estate, route, asks, estate.own, kept)
    async with client.get(
        request.path, params=request.query, headers={"Accept": "text/html", **asks.headers}, allow_redirects=False
    ) as answer:
        if answer.content_type != "text/html" or answer.status in {301, 302, 303, 307, 308, 401}:
            return []
    query = "?" + "&".join(f"{name}={value}" for name, value in request.query.items()) if request.query else ""
    queries = (query, *MORE.get(route.name, ()))
    return [Page(route.name, request.path + each, frozenset(route.access.roles or ())) for each in queries]


async def visitors(estate: Estate, language: str, roles: Sequence[Role]) -> list[Visitor]:
    """One person of each role, signed in, and somebody who is not; their accounts say the language."""
    email_of = {role: email for email, role in PEOPLE.items()}
    people = {user.email: user for user in await estate.store.users()}
    found = [Visitor(None, language, ((LANGUAGE_COOKIE, language),))]
    for role in roles:
        user = await estate.store.change_user(people[email_of[role]].id, locale=language)
        found.append(Visitor(role, language, ((COOKIE, await estate.session(user)), (LANGUAGE_COOKIE, language))))
    return found


async def tab_of(chromium: Chromium, visitor: Visitor, base: str) -> Tab:
    """A tab of the visitor's browser. Nothing moves in it: a colour that fades is none that can be measured."""
    tab = await chromium.new_page(base_url=base, reduced_motion="reduce", color_scheme="light")
    tab.set_default_timeout(20_000)
    await tab.context.add_cookies([{"name": name, "value": value, "url": base} for name, value in visitor.cookies])
    return tab


# --- what is wrong with a page


@dataclass
class Tour:
    """Looks at pages and notes what is wrong with them."""

    folder: Path
    wrong: dict[str, list[str]] = field(default_factory=dict)
    """What is wrong, and where."""
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    """(page, visitor and screen, file) of each picture."""
    titles: dict[tuple[str, str], str] = field(default_factory=dict)

    async def look(
        self,
        chromium: Chromium,
        tab: Tab,
        visitor: Visitor,
        page: Page,
        screens: Sequence[Screen],
        world: str = "",
        *,
        pictures: bool = True,
    ) -> None:
        """Open a page and look at it on some screens; ``world`` stands in the names of the pictures."""
        where = f"{page.path} for {visitor.name}"
        await fit(tab, screens[0])
        answer = await tab.goto(page.path)
        status = answer.status if answer else 0
        if status != page.status:
            self._complain(f"answers {status}; what a page needs is said in tests/support/calls.py", where)
            return
        if urlsplit(tab.url).path != urlsplit(page.path).path:
            if tab.url.partition("?")[0].endswith("/login"):
                self._complain("asks to sign in", where)
            return  # a job that is done by now, say, leads to what it has made
        if status >= 400:  # the browser complains of what was asked for
            chromium.complaints[:] = [it for it in chromium.complaints if page.path not in it]
        await settled(tab)
        self._note(where, await tab.evaluate(FACTS), visitor, page)
        for screen in screens:
            await fit(tab, screen)
            for complaint in await complaints_of(tab, again=screen is not screens[0]):
                self._complain(complaint, f"{where}, {screen.name}")
            if pictures:
                await self._picture(tab, visitor, page, screen, world)

    def _note(self, where: str, facts: Mapping[str, Any], visitor: Visitor, page: Page) -> None:
        if facts["lang"] != visitor.language:
            self._complain(f"the language is {facts['lang']!r}", where)
        if facts["headings"] != 1:
            self._complain(f"{facts['headings']} h1", where)
        for element in facts["chatter"]:
            self._complain(f"a screen reader would say every change of {element}", where)
        title = facts["title"].strip()
        other = self.titles.setdefault((visitor.name, title), page.route)
        if not title or title == "Carbon Track" or other != page.route:
            self._complain(f"the title is {title!r}, as that of {other}", where)

    def _complain(self, complaint: str, where: str) -> None:
        self.wrong.setdefault(complaint, []).append(where)

    def told(self) -> str:
        """Everything that is wrong, each once, with the first places where it is."""
        return "\n".join(
            f"{complaint}\n    on {len(places)}: {'; '.join(places[:3])}" for complaint, places in self.wrong.items()
        )

    async def _picture(self, tab: Tab, visitor: Visitor, page: Page, screen: Screen, world: str) -> None:
        who = visitor.role.value if visitor.role else "nobody"
        name = "-".join(filter(None, (f"{page.file}-", who, visitor.language, screen.name, world))) + ".jpg"
        await tab.screenshot(path=self.folder / name, full_page=True, type="jpeg", quality=60)
        self.seen.append((page.path, f"{visitor.name}, {screen.name}", name))


FACTS = """() => ({
  lang: document.documentElement.lang,
  title: document.title,
  headings: [...document.querySelectorAll("h1")].filter((it) => it.checkVisibility()).length,
  chatter: [...document.querySelectorAll("[data-field], [data-tile]")]
    .filter((it) => it.closest("[role=status], [role=alert], [role=log], [role=timer], [aria-live=polite], "
      + "[aria-live=assertive]"))
    .map((it) => it.outerHTML.slice(0, 100)),
})"""

WIDE = """() => {
  const root = document.documentElement, most = root.clientWidth;
  if (root.scrollWidth <= most) return null;
  const wide = [...document.body.querySelectorAll("*")].filter((it) => it.getBoundingClientRect().right > most + 1);
  return wide.slice(0, 3).map((it) => it.outerHTML.slice(0, 120));
}"""

RUN_AXE = """([type, values]) => axe.run(document, {
  runOnly: { type, values },
  rules: { "target-size": { enabled: true } },
  resultTypes: ["violations"],
  iframes: false,
}).then(({ violations }) => violations.map((it) => ({
  id: it.id,
  help: it.help,
  nodes: it.nodes.slice(0, 4).map((node) => `${node.target.join(" ")}: ${node.html.slice(0, 160)} `
    + [...node.any, ...node.all, ...node.none].map((check) => check.message).join("; ")),
})))"""


@cache
def _axe() -> str:
    return f"if (!globalThis.axe) {{ {AXE.read_text(encoding='utf-8')} }}; null"


async def complaints_of(tab: Tab, *, again: bool = False) -> list[str]:
    """What breaks WCAG on the screen as it is, and whether one must scroll sideways; ``again``: on another screen."""
    await tab.evaluate(_axe())  # by the debugger, which no content security policy binds
    found = [
        f"{each['id']} ({each['help']}) at {node}"
        for each in await tab.evaluate(RUN_AXE, ["rule", OF_A_SCREEN] if again else ["tag", STANDARD])
        for node in each["nodes"]
    ]
    wide = await tab.evaluate(WIDE)
    return found + ([f"scrolls sideways because of {wide}"] if wide is not None else [])


DRAWN = """() => [...document.querySelectorAll("[data-chart-plot]")].every((plot) => {
  const note = plot.parentElement.querySelector("[data-chart-note]");
  const isTold = note && !note.hidden && !note.textContent.includes("…");
  return isTold || !plot.checkVisibility() || plot.querySelector("canvas, svg");
})"""


async def settled(tab: Tab) -> None:
    """Wait until scripts have run and a chart has its data, or says that there are none."""
    await tab.wait_for_function(DRAWN)
    await tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


async def fit(tab: Tab, screen: Screen) -> None:
    await tab.set_viewport_size({"width": screen.width, "height": screen.height})
    await tab.emulate_media(color_scheme="dark" if screen.colours == "dark" else "light", media="screen")


# --- with keys alone

FOCUSABLE = """() => [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")]
  .filter((it) => !it.disabled && it.tabIndex >= 0 && it.checkVisibility({ visibilityProperty: true }))
  .filter((it) => it.type !== "radio" || it.checked)
  .map((it, place) => { it.dataset.keyed ??= String(place); return [it.dataset.keyed, it.outerHTML.slice(0, 120)]; })"""
FOCUSED = """() => {
  const it = document.activeElement, style = getComputedStyle(it);
  const isSeen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  const box = it.getBoundingClientRect();
  return {
    key: it.dataset.keyed ?? null, isSeen, text: it.outerHTML.slice(0, 120),
    isThere: box.bottom > 0 && box.top < innerHeight && box.width > 0,
  };
}"""


async def walk_by_keys(tab: Tab) -> list[str]:
    """What of the page cannot be reached by Tab, or does not show that it has been."""
    waiting: dict[str, str] = dict(await tab.evaluate(FOCUSABLE))
    wrong = []
    for _ in range(2 * len(waiting) + 5):  # a date has several stops
        await tab.keyboard.press("Tab")
        now = await tab.evaluate(FOCUSED)
        if now["key"] in waiting:
            del waiting[now["key"]]
            wrong += [] if now["isSeen"] else [f"no mark of the focus: {now['text']}"]
            wrong += [] if now["isThere"] else [f"out of sight with the focus: {now['text']}"]
        if not waiting:
            break
    return wrong + [f"not reached: {text}" for text in waiting.values()]


# --- on paper

A4 = Screen("paper", 718, 1047, "dark")
"""What is left of A4 within margins of 1 cm, for somebody whose screen is dark."""
ON_PAPER = """() => {
  const shown = (it) => it.checkVisibility() && it.getClientRects().length > 0;
  const root = document.documentElement;
  const cut = [...document.querySelectorAll("main *")].filter((it) => shown(it) && it.scrollWidth > it.clientWidth + 1
    && ["auto", "scroll", "hidden"].includes(getComputedStyle(it).overflowX) && !it.closest(".hide"));
  return {
    controls: [...document.querySelectorAll("nav, button, input, select, textarea")].filter(shown)
      .map((it) => it.outerHTML.slice(0, 100)),
    cut: cut.map((it) => it.outerHTML.slice(0, 100)),
    wide: root.scrollWidth > root.clientWidth,
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("h1")).color,
  };
}"""


async def on_paper(tab: Tab, picture: Path) -> dict[str, Any]:
    """Print a page; what is on the paper that should not be."""
    await fit(tab, A4)
    await tab.emulate_media(media="print", color_scheme="dark")
    await settled(tab)
    found: dict[str, Any] = await tab.evaluate(ON_PAPER)
    await tab.pdf(path=picture, format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "1cm"))  # type: ignore[arg-type]  # a typed dictionary of just these
    return found


# --- the pictures


def picture_folder() -> Path:
    """Where pictures of the pages are kept: ``CARBONTRACK_PAGES``, or build/pages."""
    folder = Path(os.environ.get("CARBONTRACK_PAGES") or ROOT / "build" / "pages")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_sheet(folder: Path, name: str, seen: Sequence[tuple[str, str, str]]) -> None:
    """Write a page that shows all pictures of a tour, and the page of all tours beside it."""
    known = folder / f"{name}.json"
    known.write_text(json.dumps(sorted(seen)), encoding="utf-8")
    rows: list[str] = []
    for tour in sorted(folder.glob("*.json")):
        rows.append(f"<h2>{html.escape(tour.stem)}</h2>")
        heading = ""
        for page, how, file in json.loads(tour.read_text(encoding="utf-8")):
            if page != heading:
                heading = page
                rows.append(f"<h3>{html.escape(page)}</h3>")
            rows.append(
                f'<a href="{file}"><figure><img loading="lazy" src="{file}" alt=""><figcaption>{html.escape(how)}'
                "</figcaption></figure></a>"
            )
    (folder / "index.html").write_text(SHEET + "\n".join(rows), encoding="utf-8")


SHEET = """<!doctype html><meta charset="utf-8"><title>Every page of Carbon Track</title>
<style>body{font:16px sans-serif;margin:1rem}a{display:inline-block;vertical-align:top;margin:.5rem}figure{margin:0}
img{width:18rem;max-height:24rem;object-fit:cover;object-position:top;border:1px solid #999}h3{clear:both}</style>
<h1>Every page of Carbon Track</h1>
"""
