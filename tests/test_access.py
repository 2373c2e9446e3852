"""Who may do what: every route is closed until it says who may come in, and nobody sees another factory's data."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from carbontrack.model import DeviceStatus, Role
from carbontrack.web.access import check_access
from carbontrack.web.services import SERVICES
from tests.support.web import OTHER_SITE, PASSWORD, PEOPLE, SAME_ORIGIN, Portal, running_portal
from tests.support.world import NOON_MS, body, eventually

PUBLIC = {
    ("GET", "/"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/preferences"),
    ("GET", "/reports/key.pem"),
    ("GET", "/shared/{token}"),
    ("GET", "/sw.js"),
    ("GET", "/offline"),
    ("GET", "/register"),
    ("POST", "/register"),
    ("GET", "/registered"),
    ("GET", "/forgot-password"),
    ("POST", "/forgot-password"),
    ("GET", "/reset-password"),
    ("POST", "/reset-password"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/static/{path}"),
    ("POST", "/api/register/"),
    ("POST", "/api/login/"),
    ("POST", "/api/forgot-password/"),
    ("POST", "/api/reset-password/"),
    ("GET", "/api/schema/"),
    ("GET", "/api/schema/swagger-ui/"),
    ("GET", "/api/schema/redoc/"),
}
"""All that may be asked for without signing in. A new route here is a decision."""


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


def routes(portal: Portal) -> list[tuple[str, str]]:
    return [
        (route.method, route.resource.canonical)
        for route in portal.server.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    ]


def address(portal: Portal, path: str) -> str:
    """An address of a route that exists in the small world."""
    slug = portal.kangaita.factory.slug
    return re.sub(r"\{[^}]*\}", "1", path.replace("{slug}", slug).replace("{path}", "app.css"))


async def test_every_route_but_a_few_asks_who_is_there(portal: Portal) -> None:
    nobody = portal.client()
    for method, path in routes(portal):
        answer = await nobody.request(method, address(portal, path), allow_redirects=False)
        if (method, path) in PUBLIC:
            assert answer.status not in {401, 403} or path == "/login", (method, path)
        else:
            assert answer.status == 401, (method, path, answer.status)
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_list_of_public_routes_names_only_routes_that_exist(portal: Portal) -> None:
    assert set(routes(portal)) >= PUBLIC


async def test_a_handler_that_does_not_say_who_may_come_in_is_closed_to_everybody(portal: Portal) -> None:
    async def forgotten(_request: web.Request) -> web.Response:
        raise AssertionError("nobody may get here")

    app = web.Application(middlewares=[check_access])
    app[SERVICES] = portal.services
    app.router.add_get("/", forgotten)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/")).status == 403


@pytest.mark.parametrize(
    "email", [email for email, role in PEOPLE.items() if role in {Role.FACTORY_MANAGER, Role.FACTORY_CLERK}]
)
async def test_a_factorys_people_see_their_own_factory_and_no_other(portal: Portal, email: str) -> None:
    for device_id in ("dev-001", "dev-002"):
        portal.core.tell(device_id, body())
        portal.core.tell(device_id, b"rubbish")
        await portal.core.receipt(device_id, 1)
    client = await portal.signed_in(email)
    own, other = portal.kangaita, portal.mungania
    assert (await client.get(f"/factory/{own.factory.slug}/")).status == 200
    for path in ("", "trends", "report"):
        assert (await client.get(f"/factory/{other.factory.slug}/{path}")).status == 404
    assert (await client.get("/hq/")).status == 403
    assert (await client.get(f"/api/factories/{other.factory.id}/")).status == 404
    assert (await client.get(f"/api/mcu-devices/{other.device.id}/")).status == 404
    for query in ("", f"?factory_id={other.factory.id}", f"?stack_id={other.stack.id}", "?device_id=dev-002"):
        text = await (await client.get(f"/api/emissions/{query}")).text()
        assert "dev-002" not in text
    for path in ("factories", "stacks", "mcu-devices", "alerts", "quarantine"):
        answer = await client.get(f"/api/{path}/")
        text = await answer.text()
        assert "dev-002" not in text, path
        assert "Mungania" not in text, path
    async with client.get("/api/live/") as stream:
        first = await stream.content.readuntil(b"\n\n") + await stream.content.readuntil(b"\n\n")
    assert b"dev-001" in first
    assert b"dev-002" not in first


async def test_headquarters_sees_every_factory(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    page = await (await client.get("/hq/")).text()
    assert "Kangaita" in page
    assert "Mungania" in page
    names = [item["name"] for item in (await (await client.get("/api/factories/")).json())["results"]]
    assert names == ["Kangaita", "Mungania"]


@pytest.mark.parametrize("email", ["auditor@example.org", "manager@example.org", "clerk@example.org"])
async def test_only_headquarters_and_operators_change_the_registry(portal: Portal, email: str) -> None:
    client = await portal.signed_in(email)
    device = f"/api/mcu-devices/{portal.kangaita.device.id}/"
    new = {"device_id": "dev-003", "stack_id": portal.kangaita.stack.id}
    assert (await client.post("/api/mcu-devices/", json=new)).status == 403
    assert (await client.patch(device, json={"status": "disabled"})).status == 403
    assert (await client.delete(device)).status == 403
    assert (await client.post("/hq/unpark/", data={"device_id": "dev-001"})).status == 403


WRITES = {
    "energy-entries": "hq manager clerk",
    "production-entries": "hq manager clerk",
    "targets": "hq",
    "compliance": "hq manager",
    "stacks/1/plans": "hq operator",
}
"""What is written, and by whom."""


@pytest.mark.parametrize("name", [email.partition("@")[0] for email in PEOPLE])
async def test_only_who_is_named_for_it_writes_what_accounts_are_made_of(portal: Portal, name: str) -> None:
    client = await portal.signed_in(f"{name}@example.org")
    for path, who in WRITES.items():
        status = (await client.post(f"/api/{path}/", json={})).status
        assert status == (422 if name in who.split() else 403), path
    for path in ("energy-entries/1", "production-entries/1"):
        who = WRITES["energy-entries"]
        assert (await client.patch(f"/api/{path}/", json={"reason": "x"})).status == (
            404 if name in who.split() else 403
        ), path
        assert (await client.delete(f"/api/{path}/?reason=x")).status == (404 if name in who.split() else 403), path
    assert (await client.delete("/api/targets/1/")).status == (404 if name == "hq" else 403)


async def test_a_session_ends_by_itself_and_by_signing_out(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    assert (await client.get("/api/me/")).status == 200
    portal.now += timedelta(hours=13)
    assert (await client.get("/api/me/")).status == 401
    client = await portal.signed_in("hq@example.org")
    assert (await client.post("/api/logout/")).status == 204
    assert (await client.get("/api/me/")).status == 401


async def test_a_wrong_password_an_unknown_account_and_a_disabled_one_get_the_same_answer(portal: Portal) -> None:
    client = portal.client()
    answers = []
    for email, password in (("hq@example.org", "wrong"), ("nobody@example.org", PASSWORD)):
        answer = await client.post("/api/login/", json={"email": email, "password": password})
        answers.append((answer.status, await answer.json() | {"request_id": ""}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_guessing_a_password_is_limited_and_says_when_to_come_back(portal: Portal) -> None:
    client = portal.client()
    for _ in range(10):
        answer = await client.post("/api/login/", json={"email": "hq@example.org", "password": "wrong"})
        assert answer.status == 401
    answer = await client.post("/api/login/", json={"email": "hq@example.org", "password": PASSWORD})
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    # Another account is not the worse for it.
    answer = await client.post("/api/login/", json={"email": "auditor@example.org", "password": PASSWORD})
    assert answer.status == 200


async def test_another_sites_page_cannot_make_a_browser_change_anything(portal: Portal) -> None:
    browser = await portal.browser("hq@example.org")
    form = {"device_id": "dev-001"}
    assert (await browser.post("/hq/unpark/", data=form, headers=OTHER_SITE)).status == 403
    assert (await browser.post("/hq/unpark/", data=form, headers={"Origin": "https://elsewhere.example"})).status == 403
    assert (await browser.post("/hq/unpark/", data=form)).status == 403  # a browser always says where it comes from
    answer = await browser.post("/hq/unpark/", data=form, headers=SAME_ORIGIN, allow_redirects=False)
    assert answer.status == 303
    assert (await browser.post("/login", data=form, headers=OTHER_SITE)).status == 403


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(portal: Portal) -> None:
    client = portal.client()
    form = {"email": "hq@example.org", "password": PASSWORD, "next": ""}
    answer = await client.post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_what_is_stored_of_a_session_does_not_open_it(portal: Portal) -> None:
    client = portal.client()
    answer = await client.post("/api/login/", json={"email": "hq@example.org", "password": PASSWORD})
    token = (await answer.json())["token"]
    rows = await portal.core.store._engine.rows("SELECT token_hash FROM user_session")
    assert rows
    assert all(row["token_hash"] != token for row in rows)
    for row in rows:
        answer = await client.get("/api/me/", headers={"Authorization": f"Bearer {row['token_hash']}"})
        assert answer.status == 401


@pytest.mark.parametrize(
    "there", ["https://elsewhere.example/", "//elsewhere.example/", "/\\elsewhere.example", "javascript:1"]
)
async def test_signing_in_never_leads_to_another_site(portal: Portal, there: str) -> None:
    client = portal.client()
    form = {"email": "hq@example.org", "password": PASSWORD, "next": there}
    answer = await client.post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)
    assert answer.headers["Location"] == "/"


async def test_signing_in_leads_back_to_where_somebody_wanted_to_go(portal: Portal) -> None:
    client = portal.client()
    wanted = f"/factory/{portal.kangaita.factory.slug}/"
    answer = await client.get(wanted, headers={"Accept": "text/html"}, allow_redirects=False)
    assert answer.status == 303
    page = await client.get(answer.headers["Location"])
    assert f'value="{wanted}"' in await page.text()
    form = {"email": "clerk@example.org", "password": PASSWORD, "next": wanted}
    answer = await client.post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)
    assert answer.headers["Location"] == wanted


async def test_every_answer_carries_the_security_headers(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    for path in ("/hq/", "/login", "/nowhere", "/api/me/", "/api/nowhere/", "/healthz", "/static/app.css"):
        answer = await client.get(path, allow_redirects=False)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
        assert "unsafe" not in answer.headers["Content-Security-Policy"], path
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path


async def test_the_metrics_need_their_token_where_one_is_set(tmp_path: Path) -> None:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", metrics_token="token") as portal:
        client = portal.client()
        assert (await client.get("/metrics")).status == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer wrong"})).status == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer token"})).status == 200


async def test_a_path_out_of_the_folder_of_static_files_is_not_found(portal: Portal) -> None:
    client = portal.client()
    for path in ("/static/../auth.py", "/static/%2e%2e/auth.py", "/static/..%2f..%2fcli.py", "/static/"):
        assert (await client.get(path)).status == 404, path


async def test_a_page_that_was_away_gets_what_it_has_missed_and_nothing_of_others(portal: Portal) -> None:
    client = await portal.signed_in("clerk@example.org")

    async def heard(after: str = "", header: str = "") -> tuple[bytes, str]:
        """What comes up to the first place, and that place."""
        headers = {"Last-Event-ID": header} if header else {}
        async with client.get("/api/live/", params={"after": after} if after else {}, headers=headers) as stream:
            seen = b""
            while b"event: place" not in seen:
                seen += await stream.content.readuntil(b"\n\n")
        return seen, seen.rpartition(b"id: ")[2].partition(b"\n")[0].decode()

    first, place = await heard()
    assert b"event: all" in first
    again, place = await heard(after=place)
    assert b"event: all" not in again
    assert b"dev-001" not in again

    for device_id in ("dev-001", "dev-002"):
        portal.core.tell(device_id, body(), received_at_ms=NOON_MS)
    await eventually(lambda: portal.core.outcomes()["committed"] == 2)
    missed, place = await heard(header=place)
    assert b"event: reading" in missed
    assert b"dev-001" in missed
    assert b"dev-002" not in missed

    await portal.core.store.change_device("dev-002", status=DeviceStatus.DISABLED)
    await portal.core.fleet.sync(await portal.core.store.sites())
    whole, _ = await heard(after=place)
    assert b"event: all" in whole
