"""What pages are made of: fetched once, small on the way, and all at the same time."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient

from carbontrack.web.static_files import STATIC, imports, url
from tests.support.web import Portal, running_portal

TEMPLATES = STATIC.parent / "templates"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.fixture
async def client(portal: Portal) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]  # of whatever application
    """A program that sees what really comes."""
    async with TestClient(portal.server, cookie_jar=DummyCookieJar(), auto_decompress=False) as client:
        yield client


@pytest.mark.parametrize("name", ["app.css", "live.js", "vendor/pico/pico.min.css"])
async def test_a_file_comes_compressed_and_may_be_kept(client: TestClient, name: str) -> None:  # type: ignore[type-arg]  # as above
    answer = await client.get(url(name), headers={"Accept-Encoding": "gzip, br"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Vary"] == "Accept-Encoding"
    content = (STATIC / name).read_bytes()
    body = await answer.read()
    assert len(body) < len(content) / 2
    assert gzip.decompress(body) == content


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0"])
async def test_who_does_not_understand_gzip_gets_it_plain(client: TestClient, accepted: str) -> None:  # type: ignore[type-arg]  # as above
    for path in (url("app.css"), "/login"):
        answer = await client.get(path, headers={"Accept-Encoding": accepted})
        assert "Content-Encoding" not in answer.headers
        assert len(await answer.read()) > 1000


async def test_an_address_of_another_version_is_asked_for_again(client: TestClient) -> None:  # type: ignore[type-arg]  # as above
    for path in ("/static/app.css", "/static/~0123456789ab/app.css"):
        answer = await client.get(path)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-cache"
        again = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/~/", "/static/~x/../__init__.py", "/static/~x/%2e%2e/edge.py", "/static/vendor"]
)
async def test_nothing_else_is_given(client: TestClient, path: str) -> None:  # type: ignore[type-arg]  # as above
    assert (await client.get(path)).status == 404


async def test_pages_and_data_come_compressed(client: TestClient) -> None:  # type: ignore[type-arg]  # as above
    for path in ("/login", "/api/schema/"):
        answer = await client.get(path, headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(await answer.read()).strip().startswith((b"<", b"{"))


def test_a_script_comes_with_all_that_it_imports() -> None:
    assert {"live.js", "words.js", "format.js"} <= set(imports("factory.js"))
    for script in STATIC.glob("*.js"):
        assert all((STATIC / name).is_file() for name in imports(script.name))


def test_every_page_loads_its_scripts_that_way() -> None:
    for template in TEMPLATES.glob("*.html"):
        assert not re.search(r'<script type="module"', template.read_text(encoding="utf-8")), template.name
