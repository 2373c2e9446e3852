"""Nothing of another factory comes to a factory's people: by no list, filter, form, file, stream, or error message.

Every text of the other factory has a word in it that is nowhere else; all bytes of all answers are searched for it. And
what is another factory's gets the very answer that gets what is not there at all.
"""

from __future__ import annotations

import base64
import re
import types
import typing
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from aiohttp import ClientSession, DummyCookieJar

from carbontrack.model import Role, Scope
from carbontrack.web.rest import Listing
from tests.support.calls import Request, address, call_of, maker_of, prepare, send
from tests.support.estate import (
    OTHER,
    SHARED,
    Caller,
    Estate,
    Side,
    at,
    leaked,
    render_at_once,
    running_estate,
    told_unasked,
)
from tests.support.routes import Route, routes
from tests.support.world import NOON, body

PAGES_TAKE: dict[str, dict[str, list[str]]] = {
    "GET /login": {"next": ["/factory/mungania/"]},
    "GET /factory/{slug}/trends": {"from": ["2026-02-01"], "step": ["5min", "hour", "day", "month", "week"]},
    "GET /alerts/duty": {"factory_id": ["2", "1"]},
    "GET /alerts/messages": {"state": ["sent", "waiting", "failed"], "channel": ["mail"]},
    "GET /alerts/": {"show": ["all", "unseen"], "severity": ["warning"], "rule": ["hot"], "factory_id": ["2", "1"]},
    "GET /factory/{slug}/report": {"day": ["2026-03-01", "2026-02-27", "march"], "format": ["csv", "none"]},
    "GET /factory/{slug}/entries": {"same": ["1", "2", "none"]},
    "GET /factory/{slug}/account": {"month": ["2026-03", "2026-02", "2027-01"]},
    "GET /factory/{slug}/hours": {"stack": ["1", "2", "99"], "day": ["2026-03-01", "2026-02-27"], "hour": ["12", "14"]},
    "GET /factory/{slug}/combustion": {"by": ["month", "week", "year"], "withdrawn": ["1"]},
    "GET /factory/{slug}/targets": {"withdrawn": ["1", "2"]},
    "GET /hq/leaderboard": {"month": ["2026-02"], "months": ["3"]},
    "GET /hq/programme": {"month": ["2026-02"]},
    "GET /hq/regions": {"month": ["2026-02"], "region": ["East of Rift"], "sort": ["fossil"]},
    "GET /hq/calendar": {"year": ["2025"]},
    "GET /hq/calendar.csv": {"year": ["2025"]},
    "GET /hq/compare": {"factory": ["kangaita"], "measure": ["co2"]},
    "GET /hq/compare.csv": {"factory": ["kangaita"], "measure": ["co2"]},
    "GET /hq/devices/handouts": {"factory_id": ["1", "2"]},
    "GET /factory/{slug}/devices": {"state": ["good", "bad"], "sort": ["factory", "last_seen"], "page": ["2"]},
}
"""What pages understand in their addresses; the API says that of itself."""


@pytest.fixture
async def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Estate]:
    render_at_once(monkeypatch)
    async with running_estate(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.fixture
async def client(estate: Estate) -> AsyncIterator[ClientSession]:
    async with ClientSession(estate.portal.server.make_url("/"), cookie_jar=DummyCookieJar()) as session:
        yield session


def of_a_factory(estate: Estate) -> list[Caller]:
    """All who may see one factory at most; of the tokens one that reads."""
    return [it for it in estate.callers if it.is_of_a_factory and it.scope in {None, Scope.READ}]


# --- what may be asked of a list


def choices(estate: Estate, name: str, kind: Any) -> list[str]:
    """Values of a query's field that may bring something up: of the other factory, and one of each that is named."""
    there = estate.other
    known = {
        "factory_id": [str(there.factory.id), str(estate.own.factory.id)],
        "stack_id": [str(there.stack.id), str(estate.own.stack.id)],
        "device_id": [there.device.device_id, f"{OTHER}-1"],
        "region": [there.factory.region],
        "county": [there.factory.county],
        "rule": ["late"],
        "actor": [there.clerk.email],
        "limit": ["2"],
    }
    if name in known:
        return known[name]
    if get_origin(kind) in {types.UnionType, typing.Union}:
        return [value for part in get_args(kind) if part is not type(None) for value in choices(estate, name, part)]
    if get_origin(kind) is typing.Annotated:
        return choices(estate, name, get_args(kind)[0])
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return [value.value for value in kind]
    return ["true", "false"] if kind is bool else []


def queries(estate: Estate, route: Route) -> Iterator[dict[str, str]]:
    """None, and each value of each field, over the whole time there is."""
    yield {}
    model = route.operation.query if route.operation is not None else None
    if model is None:
        fields = PAGES_TAKE.get(route.name, {})
        yield from ({name: value} for name, values in fields.items() for value in values)
        return
    always: dict[str, str] = {}
    if "until" in model.model_fields:
        always = {"from": at(NOON - timedelta(hours=20)), "to": at(NOON + timedelta(hours=2))}
        yield always
    if issubclass(model, Listing):
        assert route.operation is not None
        yield always | {"fields": ",".join(route.operation.fields)}
    for name, info in model.model_fields.items():
        for value in choices(estate, name, info.annotation):
            yield always | {info.alias or name: value}


# --- every answer, searched


@pytest.mark.timeout(600)  # as in test_access_matrix.py
async def test_no_answer_says_anything_of_the_other_factory(estate: Estate, client: ClientSession) -> None:
    found, asked = [], 0
    for route in routes(estate.portal):
        if route.changes:
            continue
        maker = maker_of(route)
        for side in (estate.own, estate.other) if maker is not None else (estate.own,):
            for caller in of_a_factory(estate):
                made = "" if maker is None else await maker(estate, side, caller)
                for query in queries(estate, route):
                    request = Request("GET", address(route, made), caller.headers, query=query)
                    asked += 1
                    _, answer = await send(client, request)
                    answer = told_unasked(request.path, answer)
                    if words := leaked(answer + inside(answer)) - leaked(request.said.encode()):
                        found.append(f"{route.name} {query} by {caller.name}: {words}")
    assert not found, "\n".join(found)
    assert asked > 1000


def inside(answer: bytes) -> bytes:
    """What cursors say, which are words of their own: nobody would see it in them otherwise."""
    found = []
    for word in re.findall(rb'(?:"next": ?"|cursor=)([\w-]+)', answer):
        with suppress(ValueError):  # it is a number
            found.append(base64.urlsafe_b64decode(word + b"=" * (-len(word) % 4)))
    return b" ".join(found)


# --- what is another factory's is not there


async def test_another_factorys_things_get_the_answer_of_what_is_not_there(
    estate: Estate, client: ClientSession
) -> None:
    """By address and by body; status and text are the same, so that nobody learns what exists elsewhere."""
    nothing = nowhere(estate)
    kept = {(maker, nothing.word): NOT_THERE.get(maker.__name__, "999999999") for maker in makers(estate)}
    differ, compared = [], 0
    for route in routes(estate.portal):
        call = call_of(route)
        if call.actor is not None or not (call.depends_on_the_factory or maker_of(route)):
            continue
        if route.path.startswith(SHARED):
            continue
        for caller in of_a_factory(estate):
            there = await send(client, await prepare(estate, route, caller, estate.other, kept))
            not_there = await send(client, await prepare(estate, route, caller, nothing, kept))
            compared += 1
            if plain(there, estate.other) != plain(not_there, nothing):
                differ.append(f"{route.name} by {caller.name}: {there} is not {not_there}")
    assert not differ, "\n".join(differ)
    assert compared > 100


NOT_THERE = {"slug": "nowhere", "one_time_code": "nobody@example.org"}


def nowhere(estate: Estate) -> Side:
    """A factory that does not exist, with things that do not."""
    factory = replace(estate.other.factory, id=999_999_999, slug="nowhere")
    stack = replace(estate.other.stack, id=999_999_999, factory_id=factory.id)
    return replace(
        estate.other,
        word="Nothing",
        factory=factory,
        stack=stack,
        device=replace(estate.other.device, device_id="nothing", id=999_999_999),
    )


def makers(estate: Estate) -> set[Any]:
    found = {maker_of(route) for route in routes(estate.portal)} | {call_of(it).made for it in routes(estate.portal)}
    return found - {None}


def plain(answer: tuple[int, bytes], side: Side) -> tuple[int, bytes]:
    """An answer without what the request said itself, and without when it was given."""
    status, text = answer
    text = re.sub(rb"'(Date|Content-Length|ETag)': '[^']*'", b"", text)
    if (request_id := re.search(rb"'X-Request-ID': '([^']*)'", text)) is not None:
        text = text.replace(request_id[1], b"")
    return status, text.replace(side.factory.slug.encode(), b"").replace(side.word.encode(), b"")


async def test_a_filter_by_what_is_another_factorys_finds_what_a_filter_by_nothing_finds(
    estate: Estate, client: ClientSession
) -> None:
    there, nothing = estate.other, nowhere(estate)
    pairs = {
        "factory_id": (str(there.factory.id), str(nothing.factory.id)),
        "stack_id": (str(there.stack.id), str(nothing.stack.id)),
        "device_id": (there.device.device_id, nothing.device.device_id),
        "region": (there.factory.region, "nothing"),
        "county": (there.factory.county, "nothing"),
        "user_id": (str(there.clerk.id), "999999999"),
    }
    compared = 0
    for route in routes(estate.portal):
        model = route.operation.query if route.operation is not None else None
        if route.changes or model is None or maker_of(route) is not None:
            continue
        for name in model.model_fields.keys() & pairs.keys():
            for caller in of_a_factory(estate):
                asked = [Request("GET", route.path, caller.headers, query={name: value}) for value in pairs[name]]
                one, other = [plain(await send(client, request), there) for request in asked]
                assert one == other, (route.name, name, caller.name)
                compared += 1
    assert compared > 30


async def test_a_cursor_of_somebody_who_sees_more_shows_nothing_more(estate: Estate, client: ClientSession) -> None:
    hq, clerk = (next(it for it in estate.callers if it.name == name) for name in ("hq_manager", "factory_clerk"))
    followed = 0
    for route in routes(estate.portal):
        model = route.operation.query if route.operation is not None else None
        if route.changes or model is None or "cursor" not in model.model_fields or maker_of(route) is not None:
            continue
        _, answer = await send(client, Request("GET", route.path, hq.headers, query={"limit": "2"}))
        for cursor in re.findall(rb'"next":"([^"]+)"', answer):
            query = {"cursor": cursor.decode(), "limit": "1000"}
            status, shown = await send(client, Request("GET", route.path, clerk.headers, query=query))
            followed += status == 200
            assert not leaked(shown + inside(shown)), route.name
    assert followed >= 3


# --- what happens meanwhile


async def test_the_live_stream_says_nothing_of_the_other_factory(estate: Estate, client: ClientSession) -> None:
    core = estate.portal.core
    for caller in (it for it in of_a_factory(estate) if it.user is not None):
        async with client.get("/api/live/", headers=caller.headers) as stream:
            seen = b""
            while b"2026-03-01T14" not in seen:
                number = estate.number()
                for side in (estate.other, estate.own):
                    later = round((NOON + timedelta(hours=2, seconds=number)).timestamp() * 1000)
                    row = [[0, 0, 1, side.number, 183.25, 4.12, 79.68, 0]]
                    core.tell(side.device.device_id, body(1000 + number, at_ms=later, rows=row), received_at_ms=later)
                seen += await stream.content.readuntil(b"\n\n")
        assert estate.own.device.device_id.encode() in seen
        assert not leaked(seen)


async def test_a_device_that_comes_from_another_factory_brings_nothing_of_it_along(
    estate: Estate, client: ClientSession
) -> None:
    """It is measured again before anything of it shows; what was, what fired and what was sent there stays there."""
    store, device, home = estate.store, estate.other.device, estate.own
    (alert,) = [it for it in await store.alerts() if it.device_id == device.device_id]

    await store.change_device(device.device_id, stack_id=home.stack.id)
    await estate.portal.core.sync()

    for caller in (it for it in of_a_factory(estate) if it.user is not None):
        for route in routes(estate.portal):
            if route.changes or (maker_of(route) is not None and "{slug}" not in route.path):
                continue
            for query in queries(estate, route):
                request = Request("GET", address(route, home.factory.slug), caller.headers, query=query)
                _, answer = await send(client, request)
                words = leaked(answer) - leaked(request.said.encode()) - {device.device_id}
                assert not words, (route.name, query, caller.name)
    (left,) = [it for it in await store.alerts(only_open=False) if it.id == alert.id]
    assert (left.factory_id, left.device_id) == (estate.other.factory.id, None)
    assert left.message == f"{device.device_id}: {alert.message}"
    assert left.cleared_at is not None


async def test_an_own_address_with_another_factorys_number_changes_nothing(
    estate: Estate, client: ClientSession
) -> None:
    """Pages and bodies name a factory twice; both have to be the caller's."""
    clerk = next(it for it in estate.callers if it.column == Role.FACTORY_CLERK and it.scope is None)
    there, pages = estate.other, f"/factory/{estate.own.factory.slug}/entries"
    wood = {"energy_type": "firewood", "amount": 1250, "unit": "kg", "moisture": 0.25, "confirmed": True}
    (entry,) = await store_entries(estate, there)
    before = await estate.store.audit_events(limit=1)

    answers = [
        await send(client, Request("POST", path, clerk.headers, json=json, form=form))
        for path, json, form in (
            (f"{pages}/withdraw", None, {"kind": "energy", "id": str(entry)}),
            (f"{pages}/energy", None, {"energy_type": "firewood", "amount": "1", "unit": "kg", "moisture": "25",
                                       "first_day": "2026-03-01", "stack_id": str(there.stack.id)}),
            ("/api/energy-entries/", wood | {"timestamp": at(NOON), "stack_id": there.stack.id}, None),
            ("/api/energy-entries/", wood | {"timestamp": at(NOON), "factory_id": there.factory.id}, None),
        )
    ]  # fmt: skip

    assert await estate.store.audit_events(limit=1) == before
    assert [status for status, _ in answers] == [404, 409, 422, 404]
    assert await store_entries(estate, there) == [entry]


async def store_entries(estate: Estate, side: Side) -> list[int]:
    since, until = (datetime.fromisoformat(at(NOON + timedelta(days=days))) for days in (-30, 30))
    return [it.id for it in await estate.store.energy_entries(side.factory.id, since, until)]
