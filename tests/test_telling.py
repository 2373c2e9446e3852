"""Duty lists and messages as people ask for them: by the API, the command line and an open page; and the whole way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from carbontrack.cli import app
from carbontrack.hookspecs import Undeliverable
from carbontrack.metrics import Metrics
from carbontrack.model import Role
from carbontrack.notify import NotifierInstance
from carbontrack.outbound import Ways
from carbontrack.plugins.notifiers import portal as on_pages
from carbontrack.store import Store
from carbontrack.tasks import end
from tests.support.smtp import smtp_server
from tests.support.telling import Hours, Telling, Told, person, telling
from tests.support.web import Portal, running_portal
from tests.support.world import body, core, eventually, migrated_store, register
from tests.test_device_rules import Times, looking_often, silent

pytest_plugins = ["tests.support.world"]


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'carbontrack.sqlite3'}") as running:
        yield running


def told_by(portal: Portal, *channels: Told | NotifierInstance) -> Telling:
    return telling(portal.core.store, portal.core.metrics, channels, clock=Hours(portal.now))


async def asked(portal: Portal, who: str, path: str, status: int = 200, **options: Any) -> Any:
    client = await portal.signed_in(f"{who}@example.org")
    async with client.request(options.pop("method", "GET"), path, **options) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


# --- duty lists


async def test_headquarters_makes_duty_lists_and_a_factory_its_own(portal: Portal) -> None:
    store, own, other = portal.core.store, portal.kangaita.factory.id, portal.mungania.factory.id
    ids = {user.email.split("@")[0]: user.id for user in await store.users()}
    made: dict[str, Any] = {"method": "PUT", "json": {"user_ids": [ids["clerk"], ids["hq"]]}}
    answer = await asked(portal, "hq", f"/api/duty/?factory_id={own}", **made)
    assert [(one["email"], one["has_phone"]) for one in answer["people"]] == [
        ("clerk@example.org", False),
        ("hq@example.org", False),
    ]
    assert await asked(portal, "clerk", "/api/duty/") == answer
    assert (await asked(portal, "hq", "/api/duty/"))["people"] == []

    turned: dict[str, Any] = {"method": "PUT", "json": {"user_ids": [ids["hq"], ids["clerk"]]}}
    answer = await asked(portal, "manager", "/api/duty/", **turned)  # whom headquarters has put on it may stay
    assert (answer["factory_id"], answer["people"][0]["email"]) == (own, "hq@example.org")
    await asked(portal, "manager", f"/api/duty/?factory_id={other}", 404, **turned)
    await asked(portal, "hq", "/api/duty/?factory_id=9999", 404, **turned)
    await asked(portal, "clerk", "/api/duty/", 403, **turned)
    await asked(portal, "operator", "/api/duty/", 403, **turned)


@pytest.mark.parametrize("which", ["operator", "9999"])
async def test_a_factory_learns_nothing_of_people_that_are_not_its_own(portal: Portal, which: str) -> None:
    ids = {user.email.split("@")[0]: str(user.id) for user in await portal.core.store.users()}
    given: dict[str, Any] = {"method": "PUT", "json": {"user_ids": [int(ids.get(which, which))]}}
    answer = await asked(portal, "manager", "/api/duty/", 422, **given)
    assert answer["errors"] == [{"field": "user_ids", "message": "there is no such person at your factory"}]


# --- messages


async def test_messages_are_seen_by_those_whom_they_concern_and_tried_again_by_operators(portal: Portal) -> None:
    mail = Told("mail", errors=[Undeliverable("550 no such mailbox")])
    here = told_by(portal, mail)
    await here.silent("dev-001", seconds=60)
    await here.raised(portal.mungania.factory.id, "entries-missing", "info", seconds=60)
    await here.round()

    seen = (await asked(portal, "hq", "/api/notifications/"))["results"]
    assert len(seen) == 2
    (own,) = (await asked(portal, "clerk", "/api/notifications/"))["results"]
    assert (own["state"], own["recipient"], own["event"]) == ("failed", "manager@example.org", "raised")
    assert (own["subject"], own["alerts"]) == ("[warning] A device is silent, Kangaita, Boiler of dev-001", 1)
    assert (own["last_error"], own["attempts"]) == ("550 no such mailbox", 1)
    (other,) = (await asked(portal, "hq", f"/api/notifications/?factory_id={portal.mungania.factory.id}"))["results"]
    assert other["recipient"] == "hq@example.org"
    assert (await asked(portal, "hq", "/api/notifications/?state=waiting"))["results"] == []
    page = await asked(portal, "hq", "/api/notifications/?limit=1")
    assert (await asked(portal, "hq", f"/api/notifications/?limit=1&cursor={page['next']}"))["results"] == seen[1:]

    post: dict[str, Any] = {"method": "POST"}
    await asked(portal, "manager", f"/api/notifications/{own['id']}/retry/", 403, **post)
    again = await asked(portal, "operator", f"/api/notifications/{own['id']}/retry/", **post)
    assert again["state"] == "waiting"
    await here.round(seconds=5)
    assert sorted(mail.people()) == ["hq", "manager"]
    answer = await asked(portal, "operator", f"/api/notifications/{own['id']}/retry/", 409, **post)
    assert answer["detail"] == "It cannot be tried again: it was sent."
    await asked(portal, "operator", "/api/notifications/9999/retry/", 404, **post)


async def test_a_message_of_two_factories_is_for_none_of_them_alone(portal: Portal) -> None:
    log = Told("log", to_people=False)
    here = told_by(portal, log)
    for device_id in ("dev-001", "dev-002"):
        await here.silent(device_id, seconds=60)
    await here.round()
    assert [told.count for told in log.notifications] == [2]
    assert (await asked(portal, "clerk", "/api/notifications/"))["results"] == []
    assert len((await asked(portal, "auditor", "/api/notifications/"))["results"]) == 1


# --- open pages


async def test_an_open_page_hears_of_an_alert_by_the_live_stream(portal: Portal) -> None:
    ways = Ways()
    ways.by_page = portal.core.live.publish_alert
    here = told_by(portal, NotifierInstance("portal", on_pages.notifier(ways), on_pages.PortalOptions(), "info"))
    client = await portal.signed_in("clerk@example.org")
    async with client.get("/api/live/") as stream:
        await eventually(lambda: portal.core.live.watchers == 1)
        await here.silent("dev-002", seconds=60)
        await here.silent("dev-001", seconds=60)
        await here.round()
        async for line in stream.content:
            if line == b"event: alert\n":
                shown = json.loads((await stream.content.readline()).removeprefix(b"data: "))
                break
    assert (shown["event"], shown["title"], shown["factory"]) == ("raised", "A device is silent", "Kangaita")


# --- the command line


@dataclass
class Shell:
    """A configuration with a mail server, and what its commands say."""

    config: Path
    url: str

    async def say(self, *words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, [*words, "--config", str(self.config)])


@asynccontextmanager
async def shell(folder: Path, port: int) -> AsyncIterator[tuple[Shell, Store]]:
    url = f"sqlite://{folder / 'carbontrack.sqlite3'}"
    config = folder / "carbontrack.yaml"
    config.write_text(
        f"database: {{url: '{url}'}}\n"
        f"mail: {{host: 127.0.0.1, port: {port}, tls: none, sender: carbontrack@example.org}}\n"
        "notifications:\n"
        "  - {name: mail, notifier: email}\n"
        "  - {name: sms, notifier: sms, options: {username: ct, api_key: k, url: 'http://127.0.0.1:9/'}}\n"
        "  - {name: journal, notifier: log}\n"
        "  - {name: pager, notifier: none}\n"
    )
    async with migrated_store(url) as store:
        yield Shell(config, url), store


async def test_a_channel_is_tried_by_a_command_that_says_what_the_server_answered(tmp_path: Path) -> None:
    async with smtp_server() as server, shell(tmp_path, server.port) as (here, store):
        await person(store, "wanjiru", locale="sw", phone_number="+254 711 000 001")
        await person(store, "other")
        done = await here.say("alert", "test", "--channel", "mail", "--to", "wanjiru@example.org")
        assert done.exit_code == 0, done.output
        assert done.output == "'mail' has taken a test message to wanjiru@example.org.\n"
        assert server.mails[0]["Subject"] == "[Jaribio: hii si tahadhari]"
        assert (await here.say("alert", "test", "--channel", "journal")).exit_code == 0

        server.refusals = ["550 no such mailbox"]
        for words, said in (
            (("mail", "--to", "wanjiru@example.org"), "'mail' will never deliver it to wanjiru@example.org"),
            (("mail",), "say whom, with --to"),
            (("mail", "--to", "nobody@example.org"), "Nobody has the address"),
            (("sms", "--to", "other@example.org"), "No phone number of other@example.org is known."),
            (("sms", "--to", "wanjiru@example.org"), "'sms' did not deliver it to wanjiru@example.org"),
            (("none",), "There is no notification 'none' that can be used. There are: mail, sms, journal, pager."),
            (("pager",), "no plugin that runs brings the notifier 'none'"),
        ):
            refused = await here.say("alert", "test", "--channel", *words)
            assert refused.exit_code == 2, refused.output
            assert said in refused.output


async def test_the_outbox_is_listed_by_a_command(tmp_path: Path, metrics: Metrics) -> None:
    async with shell(tmp_path, 9) as (here, store):
        assert "There is no message that fits." in (await here.say("alert", "outbox")).output
        await register(store, "dev-001")
        await person(store, "hq")
        sends = telling(store, metrics, [Told("mail", errors=[ConnectionError("refused")])])
        await sends.silent("dev-001")
        await sends.round(minutes=1)
        done = await here.say("alert", "outbox", "--state", "waiting", "--factory", "kangaita")
        assert done.exit_code == 0, done.output
        assert "mail          hq@example.org" in done.output
        assert "[warning] A device is silent, Kangaita" in done.output
        assert "(1 attempts: ConnectionError: refused)" in done.output
        assert "no message" in (await here.say("alert", "outbox", "--state", "sent")).output


# --- the whole way


async def test_27_devices_that_fall_silent_are_one_message_from_their_actors_to_headquarters(
    store: Store, metrics: Metrics
) -> None:
    names = [f"dev-{number:03}" for number in range(27)]
    for place, some in (("Kangaita", names[:14]), ("Mungania", names[14:])):
        for site in await register(store, *some, factory_name=place):
            last = site
        await person(store, f"of-{place.lower()}", Role.FACTORY_MANAGER, last.factory.id)
    await person(store, "hq")
    times, mail = Times(), Told("mail")
    clock = Hours(times.utc())
    here = telling(store, metrics, [mail], clock=clock, fold=timedelta(seconds=60))
    services = times.services(alert_changed=here.notices.alert_changed)
    async with core(store, metrics, rules=(silent(),), **services) as running:
        with looking_often(running):
            times.hearing.connected(times.clock())
            await times.passes(running, 30)
            task = asyncio.create_task(here.notices.keep())
            for name in names:
                running.tell(name, body(at_ms=times.at_ms()), received_at_ms=times.at_ms())
                await running.receipt(name, 1)
            await times.passes(running, 930)
            await eventually(lambda: _fires(store, 27))
            clock.now = times.utc() + timedelta(seconds=60)
            here.notices.alert_changed()
            await eventually(lambda: len(mail.notifications) == 1)
            await end(task)
    (message,) = mail.notifications
    assert mail.people() == ["hq"]
    assert (message.items[0].devices, message.items[0].factories) == (27, 2)


async def _fires(store: Store, count: int) -> bool:
    return len(await store.alerts(device_id=None, limit=100)) >= count
