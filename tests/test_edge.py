"""Who asks, when proxies stand between: only what a trusted proxy says counts, and the headers of every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from carbontrack.web.edge import HEADERS, Origin, add_headers, content_security_policy, origin_of
from carbontrack.web.services import SERVICES
from tests.support.web import PASSWORD, Portal, running_portal

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("2001:db8::/32")]
DIRECT = Origin("10.0.0.1", "http", "core:8080")
BROWSER = "203.0.113.7"

proxies = st.integers(0, 2**24 - 1).map(lambda number: str(IPv4Address((10 << 24) + number)))
clients = st.integers(0, 2**24 - 1).map(lambda number: str(IPv4Address((203 << 24) + number)))
schemes = st.sampled_from(["http", "https"])
hosts = st.sampled_from(["portal.example", "portal.example:8443", "[2001:db8::7]:443", "inner"])
junk = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40) | st.sampled_from(
    ["unknown", "10.0.0.1", "https", "evil.example", "10.0.0.9, 10.0.0.8", "", ","]
)
forged = st.fixed_dictionaries({}, optional={f"X-Forwarded-{name}": junk for name in ("For", "Proto", "Host")})


def told(**headers: str) -> CIMultiDict[str]:
    return CIMultiDict({f"X-Forwarded-{name.capitalize()}": value for name, value in headers.items()})


class TestOrigin:
    @given(peer=clients | st.just(""), headers=forged)
    def test_nobody_is_believed_who_is_no_trusted_proxy(self, peer: str, headers: dict[str, str]) -> None:
        direct = Origin(peer, "http", "core:8080")

        assert origin_of(direct, CIMultiDict(headers), TRUSTED) == direct
        assert origin_of(DIRECT, CIMultiDict(headers), []) == DIRECT

    @given(
        client=clients,
        headers=forged,
        hops=st.lists(st.tuples(proxies, schemes, hosts), min_size=1, max_size=4),
        as_one_header=st.booleans(),
    )
    def test_through_proxies_that_add_to_the_lists_a_client_forges_nothing(
        self, client: str, headers: dict[str, str], hops: list[tuple[str, str, str]], as_one_header: bool
    ) -> None:
        sent, asker = CIMultiDict(headers), client
        for proxy, scheme, host in hops:
            for name, value in (("For", asker), ("Proto", scheme), ("Host", host)):
                header = f"X-Forwarded-{name}"
                if as_one_header and header in sent:
                    sent[header] = f"{sent[header]}, {value}"
                else:
                    sent.add(header, value)
            asker = proxy

        _, scheme, host = hops[0]
        assert origin_of(Origin(asker, "http", "core:8080"), sent, TRUSTED) == Origin(client, scheme, host)

    @given(client=clients, headers=forged, scheme=schemes, host=hosts)
    def test_nor_through_a_proxy_that_writes_scheme_and_host_anew(
        self, client: str, headers: dict[str, str], scheme: str, host: str
    ) -> None:
        before = headers.get("X-Forwarded-For")
        way = client if before is None else f"{before}, {client}"

        assert origin_of(DIRECT, told(**{"for": way}, proto=scheme, host=host), TRUSTED) == (client, scheme, host)

    @pytest.mark.parametrize(
        ("way", "remote"),
        [
            (BROWSER, BROWSER),
            (f"{BROWSER}:51234", BROWSER),
            ("[2001:db9::7]:443", "2001:db9::7"),
            ("2001:db9::7", "2001:db9::7"),
            ("::ffff:203.0.113.7", BROWSER),
            (f"{BROWSER}, 10.0.0.2", BROWSER),
            (f"{BROWSER}, 2001:db8::1", BROWSER),
            (f"198.51.100.1, {BROWSER}, 10.0.0.2", BROWSER),
            # All are trusted: the first one asked.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            # A proxy that does not know who asked it is the last one known.
            ("unknown", "10.0.0.1"),
            ("unknown, 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
            (", ,", "10.0.0.1"),
        ],
    )
    def test_the_way_is_walked_back_to_the_first_who_is_not_trusted(self, way: str, remote: str) -> None:
        assert origin_of(DIRECT, told(**{"for": way}), TRUSTED) == (remote, "http", "core:8080")

    def test_a_connection_by_a_mapped_address_is_that_of_the_proxy(self) -> None:
        direct = Origin("::ffff:10.0.0.1", "http", "core")

        assert origin_of(direct, told(**{"for": BROWSER}), TRUSTED).remote == BROWSER

    @pytest.mark.parametrize("scheme", ["javascript", "ftp", "", "https://x"])
    def test_a_scheme_that_is_none_of_the_web_does_not_count(self, scheme: str) -> None:
        assert origin_of(DIRECT, told(proto=scheme), TRUSTED).scheme == "http"

    @pytest.mark.parametrize("host", ["a b", "user@host", "host/path", "host:port", "höst", ""])
    def test_nor_does_a_host_that_is_none(self, host: str) -> None:
        assert origin_of(DIRECT, told(host=host), TRUSTED).host == "core:8080"


HTTPS = {"X-Forwarded-For": BROWSER, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "portal.example"}
FORM = {"email": "hq@example.org", "password": PASSWORD, "next": ""}
YEAR_S = 31_536_000


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    """A portal that believes the proxy on this machine."""
    url = f"sqlite://{tmp_path / 'web.sqlite3'}"
    async with running_portal(url, trusted_proxies=TRUSTED, hsts_s=YEAR_S) as running:
        yield running


async def test_by_https_the_cookie_is_one_that_no_other_host_and_no_http_can_set(portal: Portal) -> None:
    client = portal.client()
    answer = await client.post("/login", data=FORM, headers=HTTPS, allow_redirects=False)
    assert answer.status == 303
    (cookie,) = answer.headers.getall("Set-Cookie")
    assert cookie.startswith("__Host-carbontrack_session=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


async def test_by_http_it_has_its_plain_name(portal: Portal) -> None:
    answer = await portal.client().post("/login", data=FORM, allow_redirects=False)
    (cookie,) = answer.headers.getall("Set-Cookie")
    assert cookie.startswith("carbontrack_session=")
    assert "Secure" not in cookie


async def test_each_cookie_counts_only_where_it_belongs(portal: Portal) -> None:
    signed_in = await portal.client().post("/login", data=FORM, headers=HTTPS, allow_redirects=False)
    token = signed_in.cookies["__Host-carbontrack_session"].value
    client = portal.client()
    for name, headers, status in (
        ("__Host-carbontrack_session", HTTPS, 200),
        ("carbontrack_session", HTTPS, 401),
        ("__Host-carbontrack_session", {}, 401),
        ("carbontrack_session", {}, 200),
    ):
        answer = await client.get("/api/me/", headers={**headers, "Cookie": f"{name}={token}"})
        assert answer.status == status, (name, headers)


@pytest.mark.parametrize("headers", [HTTPS, {}])
async def test_signing_out_takes_the_cookie_away(portal: Portal, headers: dict[str, str]) -> None:
    client = portal.client()
    signed_in = await client.post("/login", data=FORM, headers=headers, allow_redirects=False)
    (cookie,) = signed_in.cookies.values()
    own = {"Cookie": f"{cookie.key}={cookie.value}", "Sec-Fetch-Site": "same-origin", **headers}
    signed_out = await client.post("/logout", headers=own, allow_redirects=False)
    (gone,) = signed_out.headers.getall("Set-Cookie")
    assert gone.startswith(f'{cookie.key}="";')
    assert "Max-Age=0" in gone
    assert ("Secure" in gone) == bool(headers), "a browser drops a __Host- cookie only by one that is secure too"
    assert (await client.get("/api/me/", headers=own)).status == 401


async def test_the_origin_of_a_form_is_compared_with_the_name_that_the_browser_used(portal: Portal) -> None:
    client = portal.client()
    for origin, status in (
        ("https://portal.example", 303),
        ("http://portal.example", 403),
        ("https://elsewhere.example", 403),
        (f"https://{client.server.host}:{client.server.port}", 403),
        ("null", 403),
    ):
        answer = await client.post("/login", data=FORM, headers={**HTTPS, "Origin": origin}, allow_redirects=False)
        assert answer.status == status, origin


async def test_guesses_of_one_address_do_not_count_against_another_behind_the_same_proxy(portal: Portal) -> None:
    client = portal.client()
    for number in range(59):
        await portal.services.attempts.count("sign_in", account=f"{number}@example.org", address="203.0.113.66")
    wrong = {"email": "nobody@example.org", "password": "wrong"}
    answer = await client.post("/api/login/", json=wrong, headers={**HTTPS, "X-Forwarded-For": "203.0.113.66"})
    assert answer.status == 401
    right = {"email": "hq@example.org", "password": PASSWORD}
    forged = {**HTTPS, "X-Forwarded-For": "198.51.100.1, 203.0.113.66"}
    assert (await client.post("/api/login/", json=right, headers=forged)).status == 429
    assert (await client.post("/api/login/", json=right, headers=HTTPS)).status == 200


async def test_a_browser_that_comes_by_https_is_to_stay_with_it(portal: Portal) -> None:
    client = portal.client()
    for path in ("/login", "/", "/hq/", "/nowhere", "/api/me/", "/healthz", "/static/app.css"):
        by_https = await client.get(path, headers=HTTPS, allow_redirects=False)
        assert by_https.headers["Strict-Transport-Security"] == f"max-age={YEAR_S}", path
        by_http = await client.get(path, allow_redirects=False)
        assert "Strict-Transport-Security" not in by_http.headers, path


async def test_a_proxy_that_is_not_trusted_is_not_believed(tmp_path: Path) -> None:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", hsts_s=YEAR_S) as portal:
        answer = await portal.client().post("/login", data=FORM, headers=HTTPS, allow_redirects=False)
        assert "carbontrack_session" in answer.cookies
        assert "Strict-Transport-Security" not in answer.headers


async def test_every_answer_carries_the_headers_once_and_names_no_version(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    for path in ("/hq/", "/", "/login", "/nowhere", "/api/me/", "/api/nowhere/", "/healthz", "/static/app.css"):
        answer = await client.get(path, allow_redirects=False)
        for name, value in HEADERS.items():
            assert answer.headers.getall(name) == [value], (path, name)
        assert answer.headers["Server"] == "carbontrack"
        assert ("no-store" in answer.headers["Cache-Control"]) == (not path.startswith("/static/")), path
    async with client.get("/api/live/") as stream:
        assert stream.headers["X-Content-Type-Options"] == "nosniff"
        assert stream.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


async def test_a_page_may_bring_a_policy_of_its_own(portal: Portal) -> None:
    policy = content_security_policy({"style-src": "'self' 'unsafe-inline'", "worker-src": "blob:"})
    assert "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " in policy
    assert "; worker-src blob:; " in policy

    async def page(_: web.Request) -> web.Response:
        return web.Response(headers={"Content-Security-Policy": policy})

    app = web.Application()
    app[SERVICES] = portal.services
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/", page)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/")
        assert answer.headers.getall("Content-Security-Policy") == [policy]
