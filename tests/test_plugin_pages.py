"""Plugins in the portals: their pages come and go with them, a page and the API tell how they stand, buttons reload."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import expect
from pydantic import BaseModel

from carbontrack.config import load_config
from carbontrack.config.fields import MASK, SecretText, masked
from carbontrack.hookspecs import PluginState, PluginStatus, ReloadResult
from carbontrack.model import Role
from tests.support.chromium import Chromium
from tests.support.web import OTHER_SITE, PASSWORD, PEOPLE, SAME_ORIGIN, Portal, running_portal
from tests.support.world import eventually, sample

pytest_plugins = ["tests.support.plugins"]

Client = TestClient[Any, Any]

HEAD = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from pydantic import BaseModel, ConfigDict, SecretStr
from carbontrack import *
from carbontrack import hookimpl

MANIFEST = Manifest(name="{name}", version="1.0", kinds=tuple(Kind), title="The {name} of a test"{more})
"""
VIEW = """
async def show(request):
    return Page("{template}", {"where": request.path.get("slug", "everywhere")})

@hookimpl
def register_portals():
    folder = Path(__file__).parent / "{name}_templates"
    return [PortalView("{name}", "Page {name}", "{path}", frozenset(Role), show, folder)]
"""
RAISES = """
async def show(request):
    if request.path.get("slug", "kangaita") == "kangaita":
        raise ValueError("a defect in line 12")
    return Page("leaf.html")

@hookimpl
def register_portals():
    folder = Path(__file__).parent / "{name}_templates"
    return [PortalView("{name}", "Page {name}", "{path}", frozenset(Role), show, folder)]
"""
NOT_READY = """
@hookimpl
@asynccontextmanager
async def set_up(plugin):
    raise NotReady("the gateway does not answer")
    yield
"""


@dataclass
class Platform:
    """A portal whose configuration and plugins are files that a test may change."""

    portal: Portal
    folder: Path

    def configure(self, text: str = "", secrets: str = "") -> None:
        configure(self.folder, text, secrets)

    def write(self, name: str, source: str, **more: str) -> None:
        write(self.folder, name, source, **more)

    def write_page(self, name: str, body: str, **parts: str) -> None:
        write_page(self.folder, name, body, **parts)

    async def reload(self, again: str = "") -> ReloadResult:
        return await self.portal.services.reloader.reload("a test", again)

    def status(self, name: str) -> PluginStatus:
        (found,) = (status for status in self.portal.services.plugins.statuses() if status.name == name)
        return found


def configure(folder: Path, text: str = "", secrets: str = "") -> None:
    (folder / "carbontrack.yaml").write_text(f"plugins:\n  folder: plugins\n{indent(dedent(text), '  ')}")
    (folder / "secrets.yaml").write_text(dedent(secrets))


def write(folder: Path, name: str, source: str, *, more: str = "", path: str = "", template: str = "leaf.html") -> None:
    source = HEAD + dedent(source)
    for word, meaning in {"name": name, "more": more, "path": path or f"/{name}/", "template": template}.items():
        source = source.replace(f"{{{word}}}", meaning)
    (folder / "plugins" / f"{name}.py").write_text(source, encoding="utf-8")


def write_page(folder: Path, name: str, body: str, *, template: str = "leaf.html", path: str = "") -> None:
    """A plugin with one page, which shows ``body``."""
    write(folder, name, VIEW, path=path, template=template)
    (templates := folder / "plugins" / f"{name}_templates").mkdir(exist_ok=True)
    page = f'{{% extends "base.html" %}}{{% block content %}}<p>{body} {{{{ where }}}}</p>{{% endblock %}}'
    (templates / template).write_text(page, encoding="utf-8")


@pytest.fixture
async def platform(folder: Path) -> AsyncIterator[Platform]:
    (folder / "plugins").mkdir()
    configure(folder)
    url = f"sqlite://{folder / 'web.sqlite3'}"
    async with running_portal(url, read=lambda: load_config(folder / "carbontrack.yaml", {})) as portal:
        yield Platform(portal, folder)


async def page(client: Client, path: str, status: int = 200) -> str:
    answer = await client.get(path)
    text = await answer.text()
    assert answer.status == status, text
    return text


# --- the pages of plugins


class TestPages:
    async def test_a_page_comes_with_its_plugin_changes_with_it_and_goes_with_it(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("clerk@example.org")
        await page(client, "/leaf/", 404)

        platform.write_page("leaf", "Green leaf")
        assert (await platform.reload()).added == ("leaf",)
        assert "<p>Green leaf everywhere</p>" in await page(client, "/leaf/")
        assert (await client.head("/leaf/")).status == 200
        assert 'href="/leaf/"' in await page(client, "/factory/kangaita/")

        platform.write_page("leaf", "Black leaf", path="/leaf/{slug}/")
        assert (await platform.reload()).reloaded == ("leaf",)
        assert "<p>Black leaf kangaita</p>" in await page(client, "/leaf/kangaita/")
        await page(client, "/leaf/", 404)

        (platform.folder / "plugins" / "leaf.py").unlink()
        assert (await platform.reload()).removed == ("leaf",)
        for path in ("/leaf/", "/leaf/kangaita/", "/leaf_templates/leaf.html"):
            await page(client, path, 404)
            assert (await client.head(path)).status == 404
        assert "Page leaf" not in await page(client, "/factory/kangaita/")

    async def test_nothing_holds_the_code_of_a_page_that_is_gone(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("hq@example.org")
        platform.write_page("leaf", "Green leaf")
        await platform.reload()
        await page(client, "/leaf/")
        code = weakref.ref(sys.modules["carbontrack_plugin_leaf"])
        assert code() is not None

        (platform.folder / "plugins" / "leaf.py").unlink()
        await platform.reload()
        await page(client, "/leaf/", 404)  # a connection keeps its last request

        gc.collect()
        assert code() is None

    async def test_a_plugin_that_takes_the_place_of_another_shows_its_own_template(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("hq@example.org")
        platform.write_page("leaf", "The old one")
        await platform.reload()
        template = platform.folder / "plugins" / "leaf_templates" / "leaf.html"
        assert "The old one" in await page(client, "/leaf/")
        stat = template.stat()

        platform.write_page("leaf", "The new one")
        os.utime(template, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a copy with its times kept
        await platform.reload()

        assert "The new one" in await page(client, "/leaf/")

    async def test_plugins_with_templates_of_the_same_name_show_each_their_own(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("hq@example.org")
        platform.write_page("one", "This is one")
        platform.write_page("two", "This is two")
        platform.write_page("three", "This is three", template="hq.html")  # a name of ours
        await platform.reload()

        for _ in range(2):
            assert "<p>This is one everywhere" in await page(client, "/one/")
            assert "<p>This is two everywhere" in await page(client, "/two/")
            assert "<p>This is three everywhere" in await page(client, "/three/")
            assert "Measured CO₂ of all factories" in await page(client, "/hq/")

    async def test_a_page_that_raises_again_and_again_is_held_back_and_the_others_go_on(
        self, platform: Platform
    ) -> None:
        platform.write("bad", RAISES)
        platform.write_page("good", "Still here")
        await platform.reload()
        hq, clerk = [await platform.portal.signed_in(f"{name}@example.org") for name in ("hq", "clerk")]

        for _ in range(3):
            text = await page(hq, "/bad/", 500)
            assert "The plugin bad, which brings this page, failed" in text
            assert "ValueError: a defect in line 12" in text
        assert "held back after an error: ValueError: a defect in line 12" in await page(hq, "/bad/", 503)
        told = await page(clerk, "/bad/", 503)
        assert "This page failed several times and is held back." in told
        assert "a defect" not in told
        assert "Still here" in await page(clerk, "/good/")
        assert "Kangaita" in await page(hq, "/hq/")
        assert platform.status("bad").state is PluginState.TROUBLED
        assert platform.status("bad").errors == 3
        assert sample(platform.portal.services.metrics, "carbontrack_plugin_errors_total", plugin="bad", kind="raised")

    async def test_a_page_that_fails_for_one_factory_goes_on_for_the_others(self, platform: Platform) -> None:
        platform.write("bad", RAISES, path="/bad/{slug}/")
        (templates := platform.folder / "plugins" / "bad_templates").mkdir()
        (templates / "leaf.html").write_text("fine")
        await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")

        for status in (500, 500, 500, 503):
            await page(client, "/bad/kangaita/", status)

        assert await page(client, "/bad/mungania/") == "fine"
        assert "page bad kangaita" in platform.status("bad").advice

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            ("5", "show gave int, not a Page"),
            ("'<h1>Hello</h1>'", "show gave str, not a Page"),
            ("Page(7)", "a Page takes the name of a template and a mapping of values"),
            ("Page('leaf.html', [1])", "a Page takes the name of a template and a mapping of values"),
            ("Page('nowhere.html')", "TemplateNotFound"),
            ("Page('../../../secrets.yaml')", "TemplateNotFound"),
            ("Page('error.html')", "UndefinedError"),
        ],
    )
    async def test_a_page_that_gives_nonsense_fails_and_is_held_back(
        self, platform: Platform, answer: str, says: str
    ) -> None:
        platform.write(
            "odd", VIEW.replace('Page("{template}", {"where": request.path.get("slug", "everywhere")})', answer)
        )
        await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")

        for status in (500, 500, 500, 503):
            assert says in (await page(client, "/odd/", status)).replace("&#39;", "'")
        assert platform.status("odd").state is PluginState.TROUBLED

    async def test_a_database_that_is_away_is_no_fault_of_a_page(self, platform: Platform) -> None:
        source = """
            from carbontrack.store import StoreUnavailable

            async def show(request):
                raise StoreUnavailable("gone")

            @hookimpl
            def register_portals():
                return [PortalView("{name}", "Page", "{path}", frozenset(Role), show)]
        """
        platform.write("reads", source)
        await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")

        for _ in range(5):
            assert "The database does not answer" in await page(client, "/reads/", 503)
        assert platform.status("reads").state is PluginState.RUNNING
        assert platform.status("reads").errors == 0

    async def test_what_is_not_there_for_somebody_is_not_found(self, platform: Platform) -> None:
        platform.write("none", VIEW.replace('return Page("{template}", ', "return None and (0, "))
        await platform.reload()

        text = await page(await platform.portal.signed_in("hq@example.org"), "/none/", 404)

        assert "There is no such page for you." in text


class TestAddresses:
    @pytest.mark.parametrize(
        ("path", "says"),
        [
            ("quality/", "must begin with /"),
            ("/quality/{", "cannot be one"),
            ("/quality/{a}/{a}/", "cannot be one"),
            ("/quality/{a:[}/", "cannot be one"),
            ("/", "must begin with a name of its own"),
            ("/{anything}/", "must begin with a name of its own"),
            ("/{tail:.*}", "must begin with a name of its own"),
            ("/api/quality/", "must begin with a name of its own"),
            ("/static/app.css", "must begin with a name of its own"),
            ("/login", "is taken by Carbon Track itself"),
            ("/metrics", "is taken by Carbon Track itself"),
            ("/hq/leaderboard", "is taken by Carbon Track itself"),
            ("/factory/{name}/account", "is taken by Carbon Track itself"),
            ("/hq/", "is taken by the page hq"),
            ("/hq/plugins/", "is taken by the page plugins"),
            ("/factory/{name}/", "is taken by the page factory"),
            (r"/factory/{id:\\d+}/", "is taken by the page factory"),
            ("/factory/kangaita/", "is taken by the page factory"),
        ],
    )
    async def test_a_page_whose_address_cannot_be_parks_its_plugin_and_takes_nothing(
        self, platform: Platform, path: str, says: str
    ) -> None:
        client = await platform.portal.signed_in("hq@example.org")
        platform.write_page("odd", "Not ours", path=path)

        result = await platform.reload()

        assert says in result.failed["odd"]
        assert platform.status("odd").state is PluginState.PARKED
        for ours in ("/hq/", "/hq/plugins/", "/hq/leaderboard", "/factory/kangaita/", "/factory/kangaita/account"):
            assert "<p>Not ours" not in await page(client, ours)

    async def test_an_address_belongs_to_who_came_first(self, platform: Platform) -> None:
        platform.write_page("a", "This is a", path="/leaf/{slug}/")
        await platform.reload()
        platform.write_page("b", "This is b", path="/leaf/{other}/")

        result = await platform.reload()

        assert "the path '/leaf/{other}/' of its page b is taken by the page a" in result.failed["b"]
        assert "This is a" in await page(await platform.portal.signed_in("hq@example.org"), "/leaf/kangaita/")
        (platform.folder / "plugins" / "a.py").unlink()
        await platform.reload()
        assert "This is b" in await page(await platform.portal.signed_in("hq@example.org"), "/leaf/kangaita/")

    async def test_below_our_own_pages_a_plugin_may_have_others(self, platform: Platform) -> None:
        platform.write_page("quality", "Quality of", path="/factory/{slug}/quality/")
        platform.write_page("weather", "Weather", path="/hq/weather/")
        await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")

        assert "Quality of kangaita" in await page(client, "/factory/kangaita/quality/")
        assert "Weather" in await page(client, "/hq/weather/")
        assert "Kangaita" in await page(client, "/factory/kangaita/")

    async def test_a_page_answers_as_ours_do(self, platform: Platform) -> None:
        """Nobody who is signed out, a missing slash, a method that it has not."""
        platform.write_page("leaf", "Green leaf")
        await platform.reload()
        nobody, client = platform.portal.client(), await platform.portal.signed_in("hq@example.org")
        for path in ("/leaf/", "/hq/"):
            answer = await nobody.get(path)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            answer = await nobody.get(path, headers={"Accept": "text/html"}, allow_redirects=False)
            assert answer.headers["Location"] == f"/login?next={path}"
            assert (await client.get(path.rstrip("/"))).status == 404
            for method in ("POST", "PUT", "DELETE", "OPTIONS"):
                answer = await client.request(method, path)
                assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD"), (method, path)
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            assert (await nobody.request(method, "/nowhere/")).status == 404
        assert (await nobody.get("/api/nowhere/")).content_type == "application/problem+json"

    async def test_a_page_is_open_to_the_roles_that_it_names(self, platform: Platform) -> None:
        platform.write("some", VIEW.replace("frozenset(Role)", "frozenset({Role.AUDITOR})"))
        platform.write("none", VIEW.replace("frozenset(Role)", "frozenset()"))
        for name in ("some", "none"):
            (templates := platform.folder / "plugins" / f"{name}_templates").mkdir()
            (templates / "leaf.html").write_text("{% extends 'base.html' %}")
        await platform.reload()

        for email, role in PEOPLE.items():
            client = await platform.portal.signed_in(email)
            assert (await client.get("/some/")).status == (200 if role is Role.AUDITOR else 403)
            assert (await client.get("/none/")).status == 403
            start = await page(client, "/factory/kangaita/")
            assert ('href="/some/"' in start) == (role is Role.AUDITOR)
            assert 'href="/none/"' not in start


# --- how they stand, and who may reload them


WHO = {
    ("GET", "/hq/plugins/"): ("hq operator auditor", 200),
    ("GET", "/api/plugins/"): ("hq operator auditor", 200),
    ("GET", "/api/plugins/ct_v1/"): ("hq operator auditor", 200),
    ("POST", "/api/plugins/reload/"): ("hq operator", 200),
    ("POST", "/hq/plugins/reload"): ("hq operator", 303),
}


class TestRoles:
    @pytest.mark.parametrize("name", [email.partition("@")[0] for email in PEOPLE])
    @pytest.mark.parametrize("route", WHO, ids=" ".join)
    async def test_the_network_sees_plugins_and_those_who_run_it_reload_them(
        self, platform: Platform, name: str, route: tuple[str, str]
    ) -> None:
        client = await platform.portal.signed_in(f"{name}@example.org")
        who, status = WHO[route]

        answer = await client.request(*route, allow_redirects=False)

        assert answer.status == (status if name in who.split() else 403)
        assert (platform.portal.services.reloader.last is not None) == (route[0] == "POST" and name in who.split())

    async def test_another_sites_page_cannot_have_a_browser_reload(self, platform: Platform) -> None:
        browser = await platform.portal.browser("hq@example.org")
        for path in ("/hq/plugins/reload", "/api/plugins/reload/"):
            assert (await browser.post(path, headers=OTHER_SITE)).status == 403
            assert (await browser.post(path, headers={"Origin": "https://elsewhere.example"})).status == 403
            assert (await browser.post(path)).status == 403
        assert platform.portal.services.reloader.last is None

    async def test_who_may_not_reload_sees_no_button(self, platform: Platform) -> None:
        platform.write("waits", NOT_READY)
        await platform.reload()

        assert (
            "<button"
            not in (await page(await platform.portal.signed_in("auditor@example.org"), "/hq/plugins/"))
            .partition("<main")[2]
            .partition("</main>")[0]
        )
        told = await page(await platform.portal.signed_in("operator@example.org"), "/hq/plugins/")
        assert "Reload the configuration</button>" in told
        assert 'aria-label="Reload waits"' in told


class TestPage:
    async def test_without_trouble_it_says_so(self, platform: Platform) -> None:
        text = await page(await platform.portal.signed_in("hq@example.org"), "/hq/plugins/")

        assert "Nothing. Every plugin that is enabled runs." in text
        assert "None since the core started." in text
        assert 'aria-current="page">Plugins</a>' in text

    async def test_what_needs_a_person_comes_first_with_what_to_do(self, platform: Platform) -> None:
        platform.configure("disabled: [off]\n")
        platform.write("off", "")
        platform.write("waits", NOT_READY)
        platform.write("broken", "raise RuntimeError('no <licence>')")
        platform.write("bad", RAISES)
        platform.write(
            "told", "", more=', codeowners=("@wanjiru",), documentation="https://example.org/told", tier=Tier.GOLD'
        )
        platform.write("sly", "", more=', documentation="javascript:alert(1)"')
        await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")
        for _ in range(3):
            await client.get("/bad/")

        attention, _, rest = (await page(client, "/hq/plugins/")).partition('id="last-reload"')

        places = [attention.index(f">{name}</a></strong>") for name in ("broken", "bad", "waits")]
        assert places == sorted(places)
        assert "RuntimeError: no &lt;licence&gt;" in attention
        assert "Its code raises while it is imported. Mend it or ask its author, then reload." in attention
        assert "the gateway does not answer" in attention
        assert "Next try: " in attention
        for title in ("Parked", "Held back in places", "Not ready, tried again", "Running", "Disabled"):
            assert f"{title}</span>" in rest
        assert "@wanjiru" in rest
        assert '<a href="https://example.org/told" rel="noreferrer">' in rest
        assert 'href="javascript' not in rest
        assert rest.index("Sensors</h2>") < rest.index("Alert rules</h2>") < rest.index("Not loaded</h2>")
        assert "<code>sensor ct_v1</code>" in rest

    async def test_a_plugin_that_is_being_loaded_is_setting_up_and_the_page_is_there(self, platform: Platform) -> None:
        gate = platform.folder / "gate"
        os.mkfifo(gate)
        platform.write("slow", f"Path({str(gate)!r}).read_text()")
        client = await platform.portal.browser("hq@example.org")
        reload = asyncio.create_task(platform.reload())
        await eventually(lambda: "slow" in [status.name for status in platform.portal.services.plugins.statuses()])

        assert platform.status("slow").state is PluginState.SETTING_UP
        assert "Setting up</span>" in await page(client, "/hq/plugins/")
        gate.write_text("Go on.")
        assert (await reload).added == ("slow",)
        assert platform.status("slow").state is PluginState.RUNNING

    async def test_the_network_page_leads_to_it_when_a_plugin_is_in_trouble(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("hq@example.org")
        assert "What to do about the plugins" not in await page(client, "/hq/")

        platform.write("broken", "1 / 0")
        await platform.reload()

        text = await page(client, "/hq/")
        assert "The plugin broken is parked: ZeroDivisionError: division by zero" in text
        assert '<a href="/hq/plugins/">What to do about the plugins</a>' in text


class TestButtons:
    async def test_the_button_reloads_and_the_page_says_what_that_did(self, platform: Platform) -> None:
        browser = await platform.portal.browser("operator@example.org")
        platform.write_page("leaf", "Green leaf")
        platform.write("broken", "1 / 0")
        (platform.folder / "carbontrack.yaml").write_text(
            "plugins:\n  folder: plugins\n  disabled: [csv]\nhttp:\n  port: 9999\n"
        )

        answer = await browser.post("/hq/plugins/reload", headers=SAME_ORIGIN, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/hq/plugins/#last-reload")

        text = (await page(browser, "/hq/plugins/")).partition('id="last-reload"')[2].partition("</section>")[0]
        assert "by operator@example.org" in text
        assert "<dt>Added</dt>\n        <dd><code>leaf</code></dd>" in text
        assert "<dt>Removed</dt>\n        <dd><code>csv</code></dd>" in text
        assert "<strong>broken</strong> <p>ZeroDivisionError: division by zero</p>" in text
        assert "<code>http</code>" in text

    async def test_a_plugin_may_be_reloaded_though_nothing_has_changed(self, platform: Platform) -> None:
        browser = await platform.portal.browser("hq@example.org")
        answer = await browser.post("/hq/plugins/reload", headers=SAME_ORIGIN)
        assert "No plugin has changed." in await answer.text()

        answer = await browser.post("/hq/plugins/reload", data={"name": "limit"}, headers=SAME_ORIGIN)
        assert "<dt>Reloaded</dt>\n        <dd><code>limit</code></dd>" in await answer.text()

        answer = await browser.post("/hq/plugins/reload", data={"name": "nowhere"}, headers=SAME_ORIGIN)
        assert answer.status == 404

    async def test_a_bad_configuration_is_shown_with_its_lines_and_changes_nothing(self, platform: Platform) -> None:
        browser = await platform.portal.browser("hq@example.org")
        platform.configure("enable: x\n")

        text = await (await browser.post("/hq/plugins/reload", headers=SAME_ORIGIN)).text()

        assert "Nothing was changed:" in text
        assert "carbontrack.yaml:3: plugins.enable: unknown key" in text
        assert platform.status("ct_v1").state is PluginState.RUNNING

    async def test_the_button_in_a_real_browser(self, platform: Platform, chromium: Chromium) -> None:
        url = str(platform.portal.server.make_url("/hq/plugins/"))
        tab = await chromium.new_page(viewport={"width": 360, "height": 800}, java_script_enabled=False)
        await tab.goto(url)
        await tab.get_by_label("E-mail").fill("hq@example.org")
        await tab.get_by_label("Password").fill(PASSWORD)
        await tab.get_by_role("button", name="Sign in").click()
        await expect(tab.get_by_role("heading", name="Plugins", exact=True)).to_be_visible()
        platform.write_page("leaf", "Green leaf")
        platform.write("waits", NOT_READY)

        await tab.get_by_role("button", name="Reload the configuration").click()

        last = tab.locator("#last-reload")
        await expect(last).to_be_in_viewport()
        await expect(last).to_contain_text("Added leaf", use_inner_text=True)
        await expect(tab.get_by_role("link", name="Page leaf")).to_be_visible()
        waits = tab.get_by_role("listitem").filter(has_text="the gateway does not answer").first
        await expect(waits).to_contain_text("Not ready, tried again")
        await tab.get_by_role("button", name="Reload waits").first.focus()
        await tab.keyboard.press("Enter")
        await expect(last).to_contain_text("the gateway does not answer")
        await expect(last).not_to_contain_text("leaf")
        await tab.wait_for_load_state()  # with its style sheets
        assert await tab.evaluate("document.documentElement.scrollWidth") == 360


class TestApi:
    async def test_it_gives_every_plugin_and_each(self, platform: Platform) -> None:
        platform.write("broken", "1 / 0")
        await platform.reload()
        client = await platform.portal.signed_in("auditor@example.org")

        rows = (await (await client.get("/api/plugins/")).json())["results"]

        by_name = {row["name"]: row for row in rows}
        assert by_name["ct_v1"]["state"] == "running"
        assert by_name["ct_v1"]["kinds"] == ["sensor"]
        assert by_name["ct_v1"]["brings"] == ["sensor ct_v1"]
        assert by_name["broken"]["state"] == "parked"
        assert by_name["broken"]["title"] is None
        assert by_name["broken"]["error"] == "ZeroDivisionError: division by zero"
        assert await (await client.get("/api/plugins/broken/")).json() == by_name["broken"]
        for name in ("nowhere", "reload", "..%2F", "%00"):
            answer = await client.get(f"/api/plugins/{name}/")
            assert (answer.status, answer.content_type) == (404, "application/problem+json")

    async def test_a_reload_gives_what_it_did(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("operator@example.org")
        platform.write("waits", NOT_READY)
        platform.write_page("leaf", "Green leaf")

        given = await (await client.post("/api/plugins/reload/")).json()

        assert given["by"] == "operator@example.org"
        assert given["added"] == ["leaf"]
        assert given["failed"] == {"waits": "the gateway does not answer"}
        assert given["removed"] == given["reloaded"] == given["needs_restart"] == given["left_out"] == []
        given = await (await client.post("/api/plugins/reload/", json={"name": "leaf"})).json()
        assert given["reloaded"] == ["leaf"]

    @pytest.mark.parametrize(
        ("body", "status", "says"),
        [
            ({"name": "nowhere"}, 404, "There is no plugin of this name."),
            ({"name": "csv"}, 409, "The plugin csv is disabled."),
            ({"name": 5}, 422, "name"),
            ({"plugin": "ct_v1"}, 422, "plugin"),
        ],
    )
    async def test_a_reload_that_cannot_be_says_why_and_does_nothing(
        self, platform: Platform, body: dict[str, Any], status: int, says: str
    ) -> None:
        platform.configure("disabled: [csv]\n")
        before = await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")

        answer = await client.post("/api/plugins/reload/", json=body)

        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        assert says in await answer.text()
        assert platform.portal.services.reloader.last is before

    async def test_a_bad_configuration_is_a_conflict_with_all_its_problems(self, platform: Platform) -> None:
        client = await platform.portal.signed_in("hq@example.org")
        platform.configure("enable: x\ndisabled: 5\n")

        answer = await client.post("/api/plugins/reload/")

        assert answer.status == 409
        given = await answer.json()
        assert given["detail"] == "The configuration cannot be used, so nothing was changed."
        first, second = (error["message"] for error in given["errors"])
        assert "carbontrack.yaml:3: plugins.enable: unknown key" in first
        assert "carbontrack.yaml:4: plugins.disabled: must be" in second

    async def test_the_metrics_count_plugins_by_state(self, platform: Platform) -> None:
        platform.write("broken", "1 / 0")
        await platform.reload()
        text = await page(platform.portal.client(), "/metrics")

        assert 'carbontrack_plugins{state="parked"} 1.0' in text
        assert 'carbontrack_reloads_total{result="failed"} 1.0' in text


SECRETIVE = """
class Broker(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str
    pin: int

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    greeting: str
    recipients: list[str]
    brokers: list[Broker]
    account_token: str
    typed: SecretStr
    address: str

import dataclasses
MANIFEST = dataclasses.replace(MANIFEST, options_model=Options, options_version=2)

@hookimpl
def migrate_options(options, version):
    return {"address": f"smtp://core:{options.pop('word')}@mail", **options}

@hookimpl
@asynccontextmanager
async def set_up(plugin):
    raise NotReady(f"{plugin.options.greeting} was refused by {plugin.options.address}")
    yield
"""


class TestSecrets:
    async def test_secrets_are_nowhere_on_the_pages_and_in_the_api(self, platform: Platform) -> None:
        platform.write("told", SECRETIVE)
        platform.configure(
            """
            options:
              told:
                greeting: !secret greeting
                word: !secret word
                recipients: [a@example.org, !secret recipient]
                brokers: [{host: here, pin: !secret pin}]
                account_token: not-from-a-secret-but-named-so
                typed: typed-as-a-secret
            """,
            "greeting: open-sesame\nword: word-of-the-mail\nrecipient: hidden@example.org\npin: '48151623'\n",
        )

        result = await platform.reload()

        client = await platform.portal.signed_in("hq@example.org")
        told = await page(client, "/hq/plugins/")
        told += (
            await page(client, "/hq/") + await page(client, "/api/plugins/") + await page(client, "/api/plugins/told/")
        )
        told += str(result) + str(platform.portal.services.plugins.problems())
        for secret in (
            "open-sesame",
            "word-of-the-mail",
            "hidden@example.org",
            "48151623",
            "not-from-a-secret-but-named-so",
            "typed-as-a-secret",
        ):
            assert secret not in told
        assert "a@example.org" in told
        assert f"{MASK} was refused by smtp://core:{MASK}@mail" in told

    async def test_an_error_of_a_page_tells_none_neither_there_nor_in_the_log(
        self, platform: Platform, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = """
            class Options(BaseModel):
                model_config = ConfigDict(extra="forbid")
                word: str

            import dataclasses
            MANIFEST = dataclasses.replace(MANIFEST, options_model=Options)

            @hookimpl
            def register_portals(plugin):
                async def show(request):
                    raise ConnectionError(f"mail refused {plugin.options.word}")

                return [PortalView("{name}", "Page", "{path}", frozenset(Role), show)]
        """
        platform.write("told", source)
        platform.configure("options:\n  told:\n    word: !secret word\n", "word: word-of-the-mail\n")
        await platform.reload()
        client = await platform.portal.signed_in("hq@example.org")

        for status in (500, 500, 500, 503):
            text = await page(client, "/told/", status)
            assert f"ConnectionError: mail refused {MASK}" in text

        log = capsys.readouterr().out
        assert f"ConnectionError: mail refused {MASK}" in log
        assert "word-of-the-mail" not in log

    @given(st.text(min_size=1), st.text(max_size=5), st.text(max_size=5))
    def test_a_secret_is_masked_wherever_a_plugin_puts_it(self, secret: str, before: str, after: str) -> None:
        class Options(BaseModel):
            alone: str
            many: list[dict[str, str]]
            within: str

        long = f"{secret}-{secret}-long"
        options = Options(alone=secret, many=[{"x": secret}], within=before + long + after)

        shown = masked({"other": [{"name": SecretText(secret)}, SecretText(long)]}, options)

        assert shown["alone"] == MASK
        assert shown["many"] == [{"x": MASK}]
        assert long not in shown["within"]
