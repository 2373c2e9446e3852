"""The REST API: names and answers that scripts rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from carbontrack.model import Finding
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually, payload, summarise_touched


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def test_signing_in_gives_a_token_and_the_account(portal: Portal) -> None:
    answer = await portal.client().post("/api/login/", json={"email": "Clerk@Example.org", "password": PASSWORD})
    given = await answer.json()
    assert set(given) == {"token", "expires_at", "user"}
    assert given["user"]["role"] == "factory_clerk"
    assert given["user"]["factory_id"] == portal.kangaita.factory.id


async def test_the_word_token_is_understood_like_bearer(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    token = client.session.headers["Authorization"].removeprefix("Bearer ")
    answer = await portal.client().get("/api/me/", headers={"Authorization": f"Token {token}"})
    assert answer.status == 200


async def test_a_factory_comes_with_its_pressure_from_its_altitude(portal: Portal) -> None:
    client = await portal.signed_in("clerk@example.org")
    factory = await (await client.get(f"/api/factories/{portal.kangaita.factory.id}/")).json()
    assert factory["altitude_m"] == 2000
    assert factory["pressure_kpa"] == pytest.approx(79.495, abs=0.01)  # ISO 2533, 2,000 m


async def test_readings_come_with_their_rate_and_their_units_in_the_names(portal: Portal) -> None:
    portal.core.tell("dev-001", body(1, 3))
    await portal.core.receipt("dev-001", 3)
    client = await portal.signed_in("clerk@example.org")
    given = await emissions(client, {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat()})
    assert [row["seq"] for row in given["results"]] == [1, 2, 3]
    row = given["results"][0]
    assert row["device_id"] == "dev-001"
    assert row["timestamp"] == "2026-03-01T12:00:00Z"
    assert row["co2_ppm"] == 98_000
    # 0.098 x 0.88 (dry to wet) x 0.9 x 4.12 m/s x 0.50265 m2 x 0.924 kg/m3 at 183.25 degC and 79.68 kPa
    assert row["co2_kg_per_s"] == pytest.approx(0.14851, rel=1e-3)
    assert given["next"] is None


async def test_an_alert_of_a_factory_as_a_whole_has_no_device(portal: Portal) -> None:
    store, (one, other) = portal.core.store, (portal.kangaita.factory.id, portal.mungania.factory.id)
    await store.raise_alert("dev-001", "hot", "warning", Finding("gas is hot"), NOON)
    await store.raise_alert(one, "late", "info", Finding("no entries"), NOON + timedelta(minutes=1))
    await store.raise_alert(other, "late", "info", Finding("no entries"), NOON)
    client = await portal.signed_in("clerk@example.org")

    given = await (await client.get("/api/alerts/")).json()

    assert [(row["rule"], row["device_id"], row["stack_id"], row["factory_id"]) for row in given["results"]] == [
        ("late", None, None, one),
        ("hot", "dev-001", portal.kangaita.stack.id, one),
    ]


@pytest.mark.parametrize("path", ["/", "/factory/kangaita/"])
async def test_the_pages_show_a_factory_s_alert_without_a_device(portal: Portal, path: str) -> None:
    factory_id = portal.kangaita.factory.id
    await portal.core.store.raise_alert(factory_id, "late", "info", Finding("nobody enters anything"), NOON)

    page = await (await (await portal.browser("hq@example.org")).get(path)).text()

    assert "nobody enters anything" in page
    assert "None" not in page


async def test_a_long_answer_is_read_page_by_page_and_nothing_is_left_out(portal: Portal) -> None:
    portal.core.tell("dev-001", body(1, 25))
    portal.core.tell("dev-002", body(1, 10))
    await portal.core.receipt("dev-001", 25)
    await portal.core.receipt("dev-002", 10)
    client = await portal.signed_in("hq@example.org")
    query = {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat(), "limit": "7"}
    seen: set[tuple[str, int]] = set()
    while True:
        given = await emissions(client, query)
        assert len(given["results"]) <= 7
        seen |= {(row["device_id"], row["seq"]) for row in given["results"]}
        if given["next"] is None:
            break
        query["cursor"] = given["next"]
    assert seen == {("dev-001", seq) for seq in range(1, 26)} | {("dev-002", seq) for seq in range(1, 11)}


async def test_five_minute_means_come_with_their_coverage(portal: Portal) -> None:
    portal.core.fleet.tell(payload("dev-001", body(1, 60), received_at_ms=NOON_MS + 300_000))
    await portal.core.receipt("dev-001", 60)
    await summarise_touched(portal.core.store)
    client = await portal.signed_in("clerk@example.org")
    query = {"from": NOON.isoformat(), "to": (NOON + timedelta(minutes=5)).isoformat(), "resolution": "5min"}
    (bucket,) = (await emissions(client, query))["results"]
    assert bucket["count"] == 60
    assert bucket["coverage"] == pytest.approx(1.0)
    assert bucket["min_kg_per_s"] <= bucket["mean_kg_per_s"] <= bucket["max_kg_per_s"]
    assert bucket["co2_kg"] == pytest.approx(bucket["mean_kg_per_s"] * 300)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-01T12:00:00"}, "from"),
        ({"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T11:00:00Z"}, "to"),
        ({"from": "2026-01-01T12:00:00Z", "to": "2026-03-01T11:00:00Z"}, "to"),
        ({"resolution": "second"}, "resolution"),
        ({"limit": "1000000"}, "limit"),
        ({"cursor": "'; drop table reading; --"}, "cursor"),
        ({"factory": "1"}, "factory"),
        ({"resolution": "5min", "device_id": "dev-001"}, "device_id"),
    ],
)
async def test_a_wrong_query_says_which_field_is_wrong(portal: Portal, query: dict[str, str], field: str) -> None:
    client = await portal.signed_in("clerk@example.org")
    answer = await client.get("/api/emissions/", params=query)
    assert answer.status == 422
    assert answer.content_type == "application/problem+json"
    given = await answer.json()
    assert given["status"] == 422
    assert [error["field"] for error in given["errors"]] == [field]


async def test_more_means_than_one_answer_holds_are_refused_with_what_to_do(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbontrack.web.api.readings.MOST_MEANS", 20)
    client = await portal.signed_in("hq@example.org")
    query = {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat(), "resolution": "5min"}
    answer = await client.get("/api/emissions/", params=query)
    assert answer.status == 422
    assert "name a factory or a stack" in await answer.text()
    assert (await emissions(client, query | {"stack_id": str(portal.kangaita.stack.id)}))["results"] == []


@pytest.mark.parametrize("content", [b"{", b"[]", b"null", b'"text"', b'{"email": 7, "password": "x"}', b"\xff"])
async def test_a_body_that_cannot_be_read_is_a_problem_and_not_a_failure(portal: Portal, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await portal.client().post("/api/login/", data=content, headers=headers)
    assert answer.status == 422
    assert (await answer.json())["errors"]


async def test_a_form_is_refused_where_json_is_expected(portal: Portal) -> None:
    answer = await portal.client().post("/api/login/", data={"email": "hq@example.org", "password": PASSWORD})
    assert answer.status == 415


async def test_a_registered_device_works_at_once_and_a_removed_one_no_more(portal: Portal) -> None:
    client = await portal.signed_in("operator@example.org")
    assert portal.core.tell("dev-003", body()) == "unknown_device"
    new = {"device_id": "dev-003", "stack_id": portal.kangaita.stack.id}
    answer = await client.post("/api/mcu-devices/", json=new)
    assert answer.status == 201
    device = await answer.json()
    assert device["factory_id"] == portal.kangaita.factory.id
    assert portal.core.tell("dev-003", body()) == "delivered"
    await portal.core.receipt("dev-003", 1)
    assert (await (await client.get(f"/api/mcu-devices/{device['id']}/")).json())["online"]

    answer = await client.patch(f"/api/mcu-devices/{device['id']}/", json={"status": "disabled"})
    assert (await answer.json())["state"] == "disabled"
    assert portal.core.tell("dev-003", body(2)) == "disabled_device"

    assert (await client.delete(f"/api/mcu-devices/{device['id']}/")).status == 204
    assert (await client.get(f"/api/mcu-devices/{device['id']}/")).status == 404
    assert portal.core.tell("dev-003", body(2)) == "unknown_device"


async def test_a_device_that_moves_measures_its_new_stack(portal: Portal) -> None:
    client = await portal.signed_in("operator@example.org")
    there = portal.mungania
    answer = await client.patch(f"/api/mcu-devices/{portal.kangaita.device.id}/", json={"stack_id": there.stack.id})
    assert (await answer.json())["factory_id"] == there.factory.id
    portal.core.tell("dev-001", body())
    await portal.core.receipt("dev-001", 1)
    query = {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat()}
    (row,) = (await emissions(client, query))["results"]
    assert row["stack_id"] == there.stack.id


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"device_id": "dev-001", "stack_id": 1}, 409, "registered already"),
        ({"device_id": "dev-004", "stack_id": 99}, 409, "no stack"),
        ({"device_id": "a/b", "stack_id": 1}, 409, "part of a topic"),
        ({"device_id": "dev-004", "stack_id": 1, "sensor": "none"}, 422, "There are: ct_v1, flat_json"),
        ({"device_id": "dev-004"}, 422, "stack_id"),
        ({"device_id": "dev-004", "stack_id": 1, "password": "x"}, 422, "password"),
    ],
)
async def test_a_device_that_cannot_be_registered_says_why(
    portal: Portal, change: dict[str, Any], status: int, says: str
) -> None:
    client = await portal.signed_in("operator@example.org")
    answer = await client.post("/api/mcu-devices/", json=change)
    assert answer.status == status
    assert says in await answer.text()


async def test_what_could_not_be_read_is_shown_with_its_cause_and_what_was_sent(portal: Portal) -> None:
    portal.core.tell("dev-001", b'{"co2": NaN')
    await eventually(lambda: portal.core.outcomes()["quarantined"] == 1)
    client = await portal.signed_in("manager@example.org")
    (item,) = (await (await client.get("/api/quarantine/")).json())["results"]
    assert item["device_id"] == "dev-001"
    assert item["cause"] == "not_finite"
    assert item["body"] == '{"co2": NaN'


async def test_an_unknown_address_and_a_wrong_method_are_problems_in_json(portal: Portal) -> None:
    client = await portal.signed_in("hq@example.org")
    answer = await client.get("/api/nowhere/")
    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    answer = await client.put("/api/me/")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD,PATCH")


async def emissions(client: Any, query: dict[str, str]) -> dict[str, Any]:
    answer = await client.get("/api/emissions/", params=query)
    assert answer.status == 200, await answer.text()
    given: dict[str, Any] = await answer.json()
    return given
