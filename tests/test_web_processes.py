"""Web processes beside a core: any of them answers any request, and all of them show the same as the core itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from aiohttp import ClientResponse, ClientSession, DummyCookieJar
from pydantic import SecretStr
from structlog.testing import capture_logs
from typer.testing import CliRunner

from carbontrack.cli import app as cli
from carbontrack.config import Config, Database, Http, Mqtt
from carbontrack.config.settings import Redis as RedisSection
from carbontrack.model import Role, Snapshot
from carbontrack.shared import CORE, CoreStatus, Teller, opened_redis
from carbontrack.tasks import end
from carbontrack.testing.core import eventually
from carbontrack.web import CoreDoor
from carbontrack.web.door import FROM_HEADERS, TOKEN_HEADER
from carbontrack.web_process import run_web_process
from tests.support.calls import prepare, send
from tests.support.estate import DEVICE_KEY, Caller, Estate, render_at_once, running_estate
from tests.support.redis import Redis
from tests.support.routes import Route, routes
from tests.support.web import PASSWORD

DOOR = "the token of this test's core"


@dataclass
class Site:
    """A core and two web processes beside it; ``one`` and ``two`` are programs that ask the one and the other."""

    estate: Estate
    redis: Redis
    one: ClientSession
    two: ClientSession
    tellers: list[asyncio.Task[None]]

    @property
    def hq(self) -> Caller:
        return next(it for it in self.estate.callers if it.column == Role.HQ_MANAGER and it.scope is None)

    def measured(self, co2_ppm: float) -> Snapshot:
        """Have the core tell that a device of Kangaita has measured this."""
        live, fleet = self.estate.portal.core.live, self.estate.portal.core.fleet
        found = fleet.snapshots()[self.estate.own.device.device_id]
        snapshot = msgspec.structs.replace(found, co2_ppm=co2_ppm)
        live.publish(snapshot)
        return snapshot


@asynccontextmanager
async def a_site(folder: Path, redis: Redis) -> AsyncIterator[Site]:
    url = f"sqlite://{folder / 'web.sqlite3'}"
    async with running_estate(url, door=lambda: CoreDoor("", DOOR)) as estate, opened_redis(redis.url) as client:
        portal = estate.portal

        def status() -> CoreStatus:
            address = str(portal.server.make_url("/")).rstrip("/")
            return CoreStatus(portal.now, address, None, DOOR, problems=["The disk is nearly full."])

        teller = Teller(client, portal.core.live, portal.core.fleet.snapshots, status)
        config = Config(
            database=Database(url=url),
            http=Http(port=0),
            redis=RedisSection(url=redis.url),
            mqtt=Mqtt(device_key=SecretStr(DEVICE_KEY)),
        )

        def clock() -> datetime:
            return portal.now + timedelta(seconds=1)

        async def tell() -> None:
            while True:
                try:
                    await teller.keep()
                except ConnectionError:
                    await asyncio.sleep(0.05)

        telling = asyncio.create_task(tell())
        try:
            async with (
                run_web_process(config, lambda: config, clock) as one,
                run_web_process(config, lambda: config, clock) as two,
                ClientSession(one, cookie_jar=DummyCookieJar()) as first,
                ClientSession(two, cookie_jar=DummyCookieJar()) as second,
            ):
                await is_ready(first)
                await is_ready(second)
                yield Site(estate, redis, first, second, [telling])
        finally:
            await end(telling)


async def is_ready(session: ClientSession, *, status: int = 200) -> None:
    async def asked() -> bool:
        async with session.get("/readyz") as answer:
            return answer.status == status

    await eventually(asked, f"/readyz answers {status}")


@pytest.fixture
async def site(tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    render_at_once(monkeypatch)
    async with a_site(tmp_path, redis) as running:
        yield running


class Stream:
    """What somebody hears who watches; ``heard`` are the events and their data, ``place`` the last one's id."""

    def __init__(self, answer: ClientResponse) -> None:
        self._answer = answer
        self.place = ""

    async def next(self) -> tuple[str, Any]:
        """The next event that is none of the stream's own."""
        name, data = "", []
        while name in {"", "place"}:
            name = ""
            for line in await self._lines():
                key, _, value = line.partition(": ")
                if key == "id":
                    self.place = value
                elif key == "event":
                    name = value
                elif key == "data":
                    data = json.loads(value)
        return name, data

    async def _lines(self) -> list[str]:
        event = await self._answer.content.readuntil(b"\n\n")
        if not event:
            raise EOFError
        return event.decode().splitlines()

    async def to_place(self) -> str:
        """Hear until the stream has said how far it is."""
        before = self.place
        while self.place == before:
            for line in await self._lines():
                if line.startswith("id: "):
                    self.place = line[4:]
        return self.place


@asynccontextmanager
async def watching(session: ClientSession, caller: Caller, after: str = "") -> AsyncIterator[Stream]:
    headers = {**caller.headers, **({"Last-Event-ID": after} if after else {})}
    async with session.get("/api/live/", headers=headers) as answer:
        assert answer.status == 200
        yield Stream(answer)


# --- one site


async def test_each_of_them_does_all_that_the_core_does(site: Site) -> None:
    estate, wrong = site.estate, []
    for number, route in enumerate(routes(estate.portal)):
        if route.name == "GET /api/canary/":
            continue
        caller = await estate.again(who(site, route))
        request = await prepare(estate, route, caller, estate.own)
        status, body = await send((site.one, site.two)[number % 2], request)
        for _ in range(20):  # accounts of months that are being worked out
            if status != 503:
                break
            status, body = await send((site.one, site.two)[number % 2], request)
        if status >= 400 and status not in {409, 422}:
            wrong.append(f"{route.name}: {status} {body[:300]!r}")
    assert not wrong, "\n".join(wrong)


def who(site: Site, route: Route) -> Caller:
    """Somebody who may call a route: headquarters' manager where that may, else a device, a manager or a clerk."""
    access = route.access
    wanted = [Role.HQ_MANAGER, Role.FACTORY_MANAGER, Role.FACTORY_CLERK, Role.OPERATOR]
    column = next((it.value for it in wanted if access.roles is None or it in access.roles), "device")
    return next(it for it in site.estate.callers if it.column == column and it.scope is None)


async def test_who_has_signed_in_at_one_has_signed_in_at_all_and_signs_out_of_all(site: Site) -> None:
    async with site.one.post("/api/login/", json={"email": "hq@example.org", "password": PASSWORD}) as answer:
        headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}
    async with site.two.get("/api/me/", headers=headers) as answer:
        assert (await answer.json())["email"] == "hq@example.org"
    async with site.two.post("/api/logout/", headers=headers):
        pass
    async with site.one.get("/api/me/", headers=headers) as answer:
        assert answer.status == 401


async def test_what_changes_comes_to_those_who_watch_at_any_of_them(site: Site) -> None:
    async with watching(site.one, site.hq) as first, watching(site.two, site.hq) as second:
        assert [(await it.next())[0] for it in (first, second)] == ["all", "all"]
        site.measured(4321.0)
        for stream in (first, second):
            name, rows = await stream.next()
            assert (name, [row["co2_ppm"] for row in rows]) == ("reading", [4321.0])


async def test_an_alert_comes_to_its_factory_s_people_and_to_headquarters_alone(site: Site) -> None:
    clerk = next(it for it in site.estate.callers if it.column == Role.FACTORY_CLERK and it.scope is None)
    async with watching(site.one, clerk) as own, watching(site.two, site.hq) as network:
        await own.next(), await network.next()
        live = site.estate.portal.core.live
        live.publish_alert({"title": "theirs"}, site.estate.other.factory.id)
        live.publish_alert({"title": "ours"}, site.estate.own.factory.id)
        assert [(await network.next())[1]["title"] for _ in range(2)] == ["theirs", "ours"]
        assert (await own.next())[1]["title"] == "ours"


async def test_who_comes_back_to_another_one_gets_what_was_missed_and_nothing_twice(site: Site) -> None:
    async with watching(site.one, site.hq) as stream:
        await stream.next()
        site.measured(1000.0)
        await stream.next()
        place = await stream.to_place()
    site.measured(2000.0)
    await eventually(lambda: shows(site.two, site.hq, 2000.0), "the other one has heard it")

    async with watching(site.two, site.hq, after=place) as stream:
        name, rows = await stream.next()
    assert (name, [row["co2_ppm"] for row in rows]) == ("reading", [2000.0])


async def shows(session: ClientSession, caller: Caller, co2_ppm: float) -> bool:
    async with watching(session, caller) as stream:
        return co2_ppm in [row["co2_ppm"] for row in (await stream.next())[1]]


async def test_a_device_that_is_registered_at_one_is_known_to_all(site: Site) -> None:
    new = {"device_id": "dev-new", "stack_id": site.estate.own.stack.id}
    async with site.one.post("/api/mcu-devices/", json=new, headers=site.hq.headers) as answer:
        assert answer.status == 201, await answer.text()
    for session in (site.one, site.two):
        async with session.get("/api/mcu-devices/", headers=site.hq.headers) as answer:
            assert "dev-new" in await answer.text()


# --- what is away


def device_page(site: Site) -> str:
    return f"/devices/{site.estate.own.device.id}/"


async def test_while_redis_is_away_pages_go_on_and_say_so_and_nothing_is_missed_afterwards(site: Site) -> None:
    async with watching(site.one, site.hq) as stream:
        await stream.next()
        site.redis.stop()
        with pytest.raises(EOFError):
            await stream.next()  # a page must not say that it is live
    async with site.one.get("/api/live/", headers=site.hq.headers) as answer:
        assert answer.status == 503
    async with site.one.get("/hq/", headers=site.hq.headers) as answer:
        assert answer.status == 200
        assert "Redis does not answer" in await answer.text()
    async with site.one.get(device_page(site), headers=site.hq.headers) as answer:
        assert answer.status == 200, "the core is there: it is asked where it was last heard"
    site.measured(3000.0)

    site.redis.start()
    await is_ready(site.one)
    await eventually(lambda: shows(site.one, site.hq, 3000.0), "what changed meanwhile")


async def test_while_the_core_is_away_its_pages_say_so_and_all_others_go_on(site: Site) -> None:
    await end(*site.tellers)
    await site.estate.portal.server.close()
    site.redis.ask("DEL", CORE)
    await is_ready(site.two, status=503)

    async with site.two.get("/factory/kangaita/trends", headers=site.hq.headers) as answer:
        assert answer.status == 200
    async with site.two.get(device_page(site), headers=site.hq.headers) as answer:
        assert answer.status == 503
        assert "The core does not answer just now" in await answer.text()
        assert answer.headers["Retry-After"]
    async with site.two.get("/hq/", headers=site.hq.headers) as answer:
        assert "The core was last heard at" in await answer.text()


async def test_headquarters_reads_at_any_of_them_what_is_wrong_with_the_core(site: Site) -> None:
    async with site.two.get("/hq/", headers=site.hq.headers) as answer:
        assert "The disk is nearly full." in await answer.text()


# --- whom the core believes


@pytest.mark.parametrize(("token", "address"), [(DOOR, "192.0.2.9"), ("a guess", "127.0.0.1"), ("", "127.0.0.1")])
async def test_the_core_believes_where_a_request_came_from_only_from_a_process_of_the_site(
    site: Site, token: str, address: str
) -> None:
    told = dict(zip(FROM_HEADERS, ("192.0.2.9", "http", "example.org"), strict=True))
    url = site.estate.portal.server.make_url("/api/login/")
    given = {"email": "hq@example.org", "password": PASSWORD}
    async with site.one.post(url, json=given, headers={TOKEN_HEADER: token, **told}) as answer:
        assert answer.status == 200
    user = next(it for it in site.estate.callers if it.column == Role.HQ_MANAGER).user
    assert user is not None
    sessions = await site.estate.store.sessions(user.id, site.estate.portal.now)
    assert max(sessions, key=lambda it: it.id).address == address


async def test_a_request_that_is_handed_on_has_one_id_in_both_logs(site: Site) -> None:
    with capture_logs([structlog.contextvars.merge_contextvars]) as log:
        async with site.one.get("/api/mcu-devices/", headers={"X-Request-ID": "chosen-by-a-stranger"}) as answer:
            assert answer.status == 401
            told = (await answer.json())["request_id"]

    assert told == answer.headers["X-Request-ID"] != "chosen-by-a-stranger"
    of_it = [line["request_id"] for line in log if line["event"] == "answered" and line["path"] == "/api/mcu-devices/"]
    assert of_it == [told, told], "the core's line, and the web process's"


async def test_what_a_stranger_says_to_a_web_process_of_himself_is_not_handed_on(site: Site) -> None:
    told = dict(zip(FROM_HEADERS, ("192.0.2.9", "https", "example.org"), strict=True))
    headers = {**site.hq.headers, **told, "X-Forwarded-For": "192.0.2.9"}
    async with site.one.post(f"/api/mcu-devices/{site.estate.own.device.id}/credentials/", headers=headers):
        pass
    events = await site.estate.store.audit_events(limit=5)
    assert not [it for it in events if it.address == "192.0.2.9"]


# --- the command


def test_a_web_process_without_redis_says_what_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "carbontrack.yaml"
    file.write_text(f"database: {{url: 'sqlite://{tmp_path / 'x.sqlite3'}'}}\n")
    result = CliRunner().invoke(cli, ["web", "--config", str(file)])
    assert result.exit_code == 2
    assert "redis.url" in result.output
