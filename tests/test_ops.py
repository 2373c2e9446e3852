"""Health, readiness and metrics, as a monitoring system asks for them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from carbontrack.metrics import DELIVERIES, OUTCOMES
from carbontrack.store.schema import known_migrations
from tests.support.web import Portal, running_portal
from tests.support.world import body, eventually

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def samples(portal: Portal) -> dict[tuple[str, tuple[str, ...]], float]:
    answer = await portal.client().get("/metrics")
    assert answer.status == 200
    families = text_string_to_metric_families(await answer.text())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


async def test_the_process_is_alive_and_says_its_version_and_schema(portal: Portal) -> None:
    answer = await portal.client().get("/healthz")
    assert await answer.json() == {"status": "alive", "version": "test", "schema": max(known_migrations())}


async def test_version_and_schema_stand_below_the_pages_of_those_who_run_the_platform(portal: Portal) -> None:
    schema = f"schema {max(known_migrations())}"
    operators, clerks = [
        await (await (await portal.browser(f"{who}@example.org")).get(path)).text()
        for who, path in (("operator", "/hq/"), ("clerk", "/factory/kangaita/"))
    ]

    assert f"Carbon Track test · {schema}</span>" in operators
    assert "Carbon Track test</span>" in clerks
    assert schema not in clerks


async def test_readiness_turns_false_with_its_reasons(portal: Portal) -> None:
    client = portal.client()
    assert (await client.get("/readyz")).status == 200
    portal.reasons.append("There is no connection to the MQTT broker.")
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert (await answer.json())["reasons"] == portal.reasons


async def test_the_account_of_readings_is_in_the_metrics_and_adds_up(portal: Portal) -> None:
    for content in (body(1, 5), body(1, 5), b"rubbish", body(6, 1)):
        portal.core.tell("dev-001", content)
    await eventually(lambda: portal.core.ended() == portal.core.outcomes()["received"])
    await portal.core.receipt("dev-001", 6)
    found = await samples(portal)
    by_outcome = {name: found["carbontrack_readings_total", (name,)] for name in OUTCOMES}
    assert by_outcome == {"committed": 6, "duplicate": 5, "quarantined": 1, "refused": 0}
    received = found["carbontrack_readings_received_total", ()]
    assert received == sum(by_outcome.values()) + found["carbontrack_readings_in_flight", ()]
    assert found["carbontrack_quarantined_total", ("invalid_json",)] == 1
    assert found["carbontrack_actors", ("running",)] == 2


async def test_each_way_that_a_message_can_go_is_there_from_the_start(portal: Portal) -> None:
    found = await samples(portal)
    for name in DELIVERIES:
        assert ("carbontrack_mqtt_messages_total", (name,)) in found


async def test_every_metric_is_documented_and_every_documented_metric_exists(portal: Portal) -> None:
    answer = await portal.client().get("/metrics")
    text = await answer.text()
    exposed = {line.split()[2]: line.split(maxsplit=3)[3] for line in text.splitlines() if line.startswith("# HELP")}
    documented = dict(
        re.findall(r"^\| `(carbontrack_\w+)`[^|]*\|[^|]*\| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    )
    assert documented.keys() == exposed.keys()
    for name, meaning in exposed.items():
        assert documented[name] == meaning
