"""The canary goes the way of every reading, from the broker to the live page, and says when it did not come through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from carbontrack.app import Core, run_core, run_web
from carbontrack.canary import DEVICE_ID, PROBLEMS, TOPIC
from carbontrack.store import migrate
from tests.support.mosquitto import Broker, core_config
from tests.support.postgres import Postgres
from tests.support.web import running_portal
from tests.support.world import eventually


@pytest.fixture
async def core(mosquitto: Broker, postgres_url: str) -> AsyncIterator[Core]:
    config = core_config(mosquitto, postgres_url, DEVICES__CANARY_EVERY_S="0.1")
    await migrate(config.database.url)
    async with run_core(config) as running:
        yield running


def value(core: Core, name: str, **labels: str) -> float:
    return core.metrics.registry.get_sample_value(f"carbontrack_canary_{name}", labels) or 0.0


async def test_it_comes_through_broker_database_and_live_page_and_its_time_is_measured(core: Core) -> None:
    async with run_web(core):
        await eventually(lambda: value(core, "seconds_count", stage="shown") >= 3)

    assert value(core, "seconds_count", stage="committed") >= 3
    assert 0 < value(core, "seconds_sum", stage="committed") < value(core, "seconds_sum", stage="shown")
    assert value(core, "lost_total", stage="committed") == value(core, "lost_total", stage="shown") == 0
    assert value(core, "seen_timestamp_seconds") > 0
    assert core.problems() == []
    rows = await core.store._engine.rows("SELECT device_id, sid FROM stream")
    assert [(row["device_id"], row["sid"]) for row in rows] == [(DEVICE_ID, "canary")], (
        "one row, however often it flies"
    )
    rows = await core.store._engine.rows("SELECT count(*) AS n FROM reading")
    assert rows[0]["n"] == 0


async def test_nobody_takes_it_for_a_device(core: Core) -> None:
    async with run_web(core):
        with core.live.subscribe(None) as everything:
            await eventually(lambda: value(core, "seconds_count", stage="shown") >= 1)

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await everything.changes()
    assert core.fleet.states() == {}
    assert core.fleet.strangers == {}


async def test_a_database_that_is_away_is_told_by_stage_and_it_flies_again_afterwards(
    core: Core, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbontrack.actor.LONGEST_OUTAGE_BACKOFF_S", 0.5)
    monkeypatch.setattr(core.canary, "_budget_s", 0.5)
    async with run_web(core):
        await eventually(lambda: value(core, "seconds_count", stage="shown") >= 1)
        postgres.kill()
        await eventually(lambda: core.canary.problem == PROBLEMS["committed"])
        assert value(core, "lost_total", stage="committed") >= 1
        assert core.problems()
        postgres.start()
        await eventually(lambda: core.canary.problem == "")


async def test_a_broker_that_is_away_is_told_and_it_flies_again_afterwards(core: Core, mosquitto: Broker) -> None:
    async with run_web(core):
        await eventually(lambda: value(core, "seconds_count", stage="shown") >= 1)
        mosquitto.kill()
        await eventually(lambda: "no connection to the broker" in core.canary.problem)
        mosquitto.start()
        await eventually(lambda: core.canary.problem == "")


async def test_what_somebody_else_sends_on_its_topic_harms_nothing(core: Core, mosquitto: Broker) -> None:
    async with run_web(core), mosquitto.client("core", identifier="somebody") as client:
        for body in (b"", b"nonsense", b'{"seq":"x"}', b'{"seq":99999999999999999999}', b'{"seq":-5}'):
            await client.publish(TOPIC, body, qos=1)
        flown = value(core, "seconds_count", stage="shown")
        await eventually(lambda: value(core, "seconds_count", stage="shown") >= flown + 3)
    assert core.fleet.canary is not None
    assert core.fleet.canary.failures == 0


async def test_its_stream_is_open_to_it_alone(core: Core) -> None:
    async with run_web(core) as url, ClientSession() as somebody:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with somebody.get(f"{url}/api/canary/", headers=headers) as answer:
                assert answer.status == 401


async def test_the_network_page_tells_headquarters_what_is_wrong_with_the_platform_itself(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'web.sqlite3'}"
    async with running_portal(url, problems=lambda: [PROBLEMS["shown"]]) as portal:
        for email, path, told in (
            ("hq@example.org", "/hq/", True),
            ("manager@example.org", f"/factory/{portal.kangaita.factory.slug}/", False),
        ):
            browser = await portal.browser(email)
            page = await (await browser.get(path)).text()
            assert ("The platform itself" in page and "did not come to the live page in time" in page) is told
