"""Whatever the parts of a request hold, it is answered: never by a fault of the server, and never as somebody else.

schemathesis (test_schemathesis.py) makes requests out of the description; here single parts are rubbish down to their
bytes: tokens, cookies, numbers in addresses, filters, cursors, bodies and uploads.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.model import Role
from carbontrack.web.auth import API_TOKEN, COOKIE
from tests.support.estate import Estate, running_estate
from tests.support.exploring import EXAMPLES
from tests.support.routes import Route, routes

TRIES = settings(max_examples=25 * EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TEXT = st.text(max_size=40) | st.sampled_from(
    ["0", "-1", "1e400", "nan", "9" * 40, "2026-13-01", "true", "\0", "%00", "' OR 1=1--", "../../etc/passwd", "\ud800"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
IN_A_HEADER = st.binary(max_size=120).map(lambda it: it.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""))


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def problem(self) -> Mapping[str, Any]:
        """The problem document that an answer of the API is which gives nothing else."""
        assert b"application/problem+json" in self.head, (self.status, self.head)
        found: Mapping[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        assert found["detail"]
        return found


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    async with running_estate(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def ask(estate: Estate, method: str, path: str, headers: Mapping[str, bytes], body: bytes = b"") -> Answer:
    """The answer to a request that is sent byte for byte: an HTTP library would refuse to send most of these."""
    url = estate.portal.server.make_url("/")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        told = {"Host": b"localhost", "Connection": b"close", "Content-Length": b"%d" % len(body)} | dict(headers)
        lines = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in told.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + lines + b"\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status < 500, answer
    return Answer(status, head, content)


def of(estate: Estate, role: Role) -> dict[str, bytes]:
    (headers,) = [it.headers for it in estate.callers if it.name == role]
    return {name: value.encode() for name, value in headers.items()}


def is_of_the_library(answer: Answer) -> bool:
    """Whether the HTTP library itself said that this is no request."""
    return answer.status == 400 and b"Server: Python" in answer.head


def lists(estate: Estate) -> list[Route]:
    """The lists that stand by themselves."""
    return [
        it for it in routes(estate.portal) if it.operation is not None and it.operation.is_list and "{" not in it.path
    ]


# --- who asks


@TRIES
@given(kind=st.sampled_from([b"Bearer", b"Token", b"Basic", b"Digest", b""]) | IN_A_HEADER, rest=IN_A_HEADER)
async def test_no_rubbish_in_the_header_authorization_is_anybody(estate: Estate, kind: bytes, rest: bytes) -> None:
    for path in ("/api/me/", "/api/emissions/", "/metrics"):
        answer = await ask(estate, "GET", path, {"Authorization": kind + b" " + rest})
        assert answer.status in ({400, 401} if path != "/metrics" else {200, 400, 401})


@TRIES
@given(token=st.binary(max_size=60).map(base64.urlsafe_b64encode), cut=st.integers(0, 60))
async def test_no_token_that_looks_right_but_is_not_is_anybody(estate: Estate, token: bytes, cut: int) -> None:
    mine = of(estate, Role.HQ_MANAGER)["Authorization"].removeprefix(b"Bearer ")
    shorter = mine[: min(cut, len(mine) - 1)]
    for wrong in (token, API_TOKEN.encode() + token, shorter, mine + token[:1] + b"x", mine.swapcase()):
        assert (await ask(estate, "GET", "/api/me/", {"Authorization": b"Bearer " + wrong})).status == 401
        assert (await ask(estate, "GET", "/api/me/", {"Cookie": f"{COOKIE}=".encode() + wrong})).status == 401


@TRIES
@given(cookie=IN_A_HEADER)
async def test_no_rubbish_in_the_cookies_is_anybody(estate: Estate, cookie: bytes) -> None:
    assert (await ask(estate, "GET", "/api/me/", {"Cookie": cookie})).status in {400, 401}
    assert (await ask(estate, "GET", "/api/me/", {"Cookie": f"{COOKIE}=".encode() + cookie})).status in {400, 401}


@TRIES
@given(name=TEXT, password=TEXT)
async def test_no_made_up_device_signs_in(estate: Estate, name: str, password: str) -> None:
    pair = base64.b64encode(f"{name}:{password}".encode(errors="surrogatepass"))
    answer = await ask(estate, "POST", "/api/emissions/", {"Authorization": b"Basic " + pair}, b"{}")
    assert answer.status == 401


# --- what is asked for


@TRIES
@given(data=st.data(), word=TEXT)
async def test_rubbish_in_an_address_is_not_found(estate: Estate, data: st.DataObject, word: str) -> None:
    within = [it for it in routes(estate.portal) if "{" in it.path and it.method == "GET" and it.path != "/api/live/"]
    route = data.draw(st.sampled_from(within))
    said = quote(word.encode(errors="surrogatepass"), safe="")
    path = "/".join(said if part.startswith("{") else part for part in route.path.split("/"))

    answer = await ask(estate, "GET", path, of(estate, Role.FACTORY_CLERK))

    if not is_of_the_library(answer):
        assert answer.status in ({200, 403, 404} if word.isdecimal() else {403, 404}), (path, answer)


@TRIES
@given(data=st.data(), value=TEXT)
async def test_rubbish_in_a_filter_is_refused_by_its_name_or_finds_what_there_is(
    estate: Estate, data: st.DataObject, value: str
) -> None:
    route = data.draw(st.sampled_from(lists(estate)))
    assert route.operation is not None
    assert route.operation.query is not None
    fields = {info.alias or name for name, info in route.operation.query.model_fields.items()}
    name = data.draw(st.sampled_from(sorted(fields)) | TEXT)
    asked = urlencode({name: value}, errors="surrogatepass")

    answer = await ask(estate, "GET", f"{route.path}?{asked}", of(estate, Role.HQ_MANAGER))

    if is_of_the_library(answer) or answer.status == 200:
        return
    assert answer.status in {400, 404, 422}, (route.name, asked, answer)
    if answer.status == 422:
        fields_said = {error["field"] for error in answer.problem["errors"]}
        seen = name.encode(errors="surrogatepass").decode(errors="replace")
        assert fields_said & {seen, "to", "from", "month"}, (route.name, asked, answer)


@TRIES
@given(data=st.data(), place=VALUES)
async def test_a_cursor_that_this_list_has_not_given_is_refused_or_is_some_place_in_it(
    estate: Estate, data: st.DataObject, place: Any
) -> None:
    route = data.draw(st.sampled_from(lists(estate)))
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()
    for wrong in (cursor, cursor[:-1], f"{cursor}~{cursor}", f"{place}"):
        asked = urlencode({"cursor": wrong}, errors="surrogatepass")
        answer = await ask(estate, "GET", f"{route.path}?{asked}", of(estate, Role.HQ_MANAGER))
        if answer.status == 422:
            assert {error["field"] for error in answer.problem["errors"]} == {"cursor"}, answer
        elif not is_of_the_library(answer):
            assert answer.status == 200, (route.name, asked, answer)


# --- what is sent


@TRIES
@given(data=st.data(), body=VALUES.map(lambda it: json.dumps(it).encode()) | st.binary(max_size=60))
async def test_a_body_that_is_rubbish_is_refused(estate: Estate, data: st.DataObject, body: bytes) -> None:
    taking = [it for it in routes(estate.portal) if it.operation is not None and it.operation.body is not None]
    route = data.draw(st.sampled_from([it for it in taking if "{" not in it.path and it.method == "POST"]))
    headers = of(estate, Role.HQ_MANAGER) | {"Content-Type": b"application/json"}

    answer = await ask(estate, "POST", route.path, headers, body)

    assert answer.status in {400, 403, 409, 422, 429}, (route.name, answer)
    assert answer.problem["title"]


_PARTS = st.lists(
    st.tuples(
        st.sampled_from([b"file", b"preview", b"sheet", b""]) | IN_A_HEADER,
        st.sampled_from([b"table.csv", b"table.xlsx", b""]) | IN_A_HEADER,
        st.binary(max_size=80),
    ),
    max_size=4,
)


@TRIES
@given(parts=_PARTS, boundary=st.sampled_from([b"x", b"x y", b'"', b"", b"x" * 300]), is_ended=st.booleans())
async def test_an_upload_that_is_rubbish_is_refused(
    estate: Estate, parts: list[tuple[bytes, bytes, bytes]], boundary: bytes, is_ended: bool
) -> None:
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n' % (boundary, *part)
        for part in parts
    )
    body += b"--%s--\r\n" % boundary if is_ended else b""
    headers = of(estate, Role.FACTORY_CLERK) | {"Content-Type": b"multipart/form-data; boundary=" + boundary}

    for path in ("/api/energy-entries/bulk/", "/api/production-entries/bulk/"):
        answer = await ask(estate, "POST", path, headers, body)
        assert answer.status in {400, 415, 422}, answer
        assert answer.problem["title"]


@TRIES
@given(body=st.binary(max_size=200), name=st.sampled_from([b"table.csv", b"table.xlsx"]))
async def test_a_file_that_is_rubbish_is_refused_with_what_is_wrong(estate: Estate, body: bytes, name: bytes) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--x--\r\n' % (name, body)
    headers = of(estate, Role.FACTORY_CLERK) | {"Content-Type": b"multipart/form-data; boundary=x"}

    answer = await ask(estate, "POST", "/api/energy-entries/bulk/", headers, form)

    assert answer.status in {400, 413, 422}, answer
    assert answer.problem["detail"]
