"""What every route of the API shares: forms of a list, pages, marks, and requests that are sent twice."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from carbontrack.web.answers import FORMATS, _accepted, csv_text
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Paged, cut, read_cursor, write_cursor
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, register


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


WOOD = {
    "energy_type": "firewood",
    "amount": 1.6,
    "unit": "t",
    "period_start": "2026-02-27T00:00:00+03:00",
    "period_end": "2026-02-28T00:00:00+03:00",
    "note": "=1+1",
}


# --- lists


async def test_a_list_can_be_had_as_csv_with_a_column_for_each_field_of_an_object(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    assert (await clerk.post("/api/energy-entries/", json=WOOD)).status == 201

    for ask in ({"headers": {"Accept": "text/csv"}}, {"params": {"format": "csv"}}):
        answer = await clerk.get("/api/energy-entries/", **ask)  # type: ignore[arg-type]  # one of two
        assert answer.content_type == "text/csv"
        assert 'filename="energy-entries.csv"' in answer.headers["Content-Disposition"]
        (row,) = csv.DictReader(io.StringIO(await answer.text()))
        assert row["energy_type"] == "firewood"
        assert float(row["co2_kg.biogenic"]) > 0
        assert row["note"] == "'=1+1", "a spreadsheet must not take it for a formula"
        assert row["withdrawn"] == "false"


async def test_an_empty_list_as_csv_has_its_head(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    text = await (await clerk.get("/api/production-entries/?format=csv")).text()
    assert text.splitlines()[0].startswith("id,version,factory_id,period_start")


async def test_a_list_can_be_had_as_lines_of_json_with_some_of_its_fields(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    answer = await hq.get("/api/factories/", params={"format": "ndjson", "fields": "name, id"})
    assert answer.content_type == "application/x-ndjson"
    rows = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert rows == [
        {"id": portal.kangaita.factory.id, "name": "Kangaita"},
        {"id": portal.mungania.factory.id, "name": "Mungania"},
    ]


async def test_a_field_that_is_none_is_refused_with_those_that_there_are(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    for wrong in ("name,nam", ",", "id;name"):
        answer = await hq.get("/api/factories/", params={"fields": wrong})
        assert answer.status == 422
        (error,) = (await answer.json())["errors"]
        assert error["field"] == "fields"
        assert "altitude_m" in error["message"]


async def test_what_a_list_is_not_given_as_is_refused_with_what_it_is_given_as(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    answer = await hq.get("/api/factories/", headers={"Accept": "application/pdf"})
    assert answer.status == 406
    assert "text/csv" in (await answer.json())["detail"]


async def test_what_could_not_be_told_is_not_done(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    answer = await clerk.post("/api/energy-entries/", json=WOOD, headers={"Accept": "text/html"})
    assert answer.status == 406
    assert (await (await clerk.get("/api/energy-entries/")).json())["results"] == []


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("text/*;q=0.5, application/json;q=0.1", "csv"),
        ("application/*", "json"),
        ("application/x-ndjson;q=0.9, */*;q=0.1", "ndjson"),
        ("text/csv;q=0, */*", "json"),
        ("application/json;q=nonsense, text/csv;q=0.2", "csv"),
    ],
)
def test_the_form_that_is_liked_best_is_given(wanted: str, given: str) -> None:
    assert _accepted(wanted, tuple(FORMATS.values())) == FORMATS[given]


async def test_the_pages_of_a_list_give_every_row_once_in_the_order_that_was_asked_for(portal: Portal) -> None:
    store = portal.core.store
    for number in range(5):
        await register(store, factory_name=f"Factory {number}")
    hq = await portal.signed_in("hq@example.org")
    for sort in ("name", "-name", "id", "-altitude_m"):
        found: list[dict[str, Any]] = []
        address: str | None = f"/api/factories/?limit=3&sort={sort}"
        while address is not None:
            answer = await hq.get(address)
            given = await answer.json()
            found += given["results"]
            address = URL(str(answer.links["next"]["url"])).raw_path_qs if "next" in answer.links else None
            assert (given["next"] is None) is (address is None)
        names = [row["name"] for row in found]
        assert sorted(names) == sorted(["Kangaita", "Mungania", *(f"Factory {number}" for number in range(5))])
        if sort.endswith("name"):
            assert names == sorted(names, reverse=sort.startswith("-"))


async def test_a_cursor_of_another_list_is_refused(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    for path, wrong in {
        "/api/factories/": write_cursor([True, 7]),
        "/api/audit/": write_cursor(["x", 1]),
        "/api/alerts/": write_cursor(["2026-03-01", True]),
        "/api/users/": "%%%",
    }.items():
        answer = await hq.get(path, params={"cursor": wrong})
        assert answer.status == 422, path
        assert (await answer.json())["errors"][0]["field"] == "cursor"


class Row:
    def __init__(self, number: int, value: float | str | None) -> None:
        self.id = number
        self.value = value


@given(
    st.lists(st.none() | st.integers(0, 3) | st.floats(-1, 1), max_size=12)
    | st.lists(st.none() | st.text(max_size=3), max_size=12),
    st.integers(1, 5),
    st.booleans(),
)
def test_pages_put_together_are_the_whole_list(values: list[Any], limit: int, is_descending: bool) -> None:
    rows = [Row(number, value) for number, value in enumerate(values)]
    found: list[int] = []
    cursor: str | None = None
    while True:
        page, cursor = cut(rows, Paged(limit=limit, cursor=cursor), "-value" if is_descending else "value")
        found += [row.id for row in page]
        if cursor is None:
            break
        assert len(page) == limit
    assert sorted(found) == list(range(len(rows)))


@given(st.text(max_size=60))
def test_what_is_no_cursor_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        assert isinstance(read_cursor(text), list)
    except Problem as problem:
        assert problem.status == 422  # noqa: PT017  # either of the two


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text() | st.integers() | st.none()), max_size=5))
def test_csv_has_a_row_for_each_row_and_can_be_read_back(rows: list[dict[str, Any]]) -> None:
    read = list(csv.DictReader(io.StringIO(csv_text(rows, ("a", "b", "c")), newline="")))
    assert len(read) == len(rows)
    for row, back in zip(rows, read, strict=True):
        for name in "abc":
            value = row.get(name)
            text = "" if value is None else str(value)
            assert back[name].removeprefix("'") == text.removeprefix("'")


# --- marks


async def test_who_has_an_answer_already_is_told_only_that_it_is_still_so(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    for path in ("/api/factories/", f"/api/factories/{portal.kangaita.factory.id}/", "/api/factories/?format=csv"):
        first = await hq.get(path)
        mark = first.headers["ETag"]
        for known in (mark, f'"other", {mark}', f"W/{mark}", "*"):
            again = await hq.get(path, headers={"If-None-Match": known})
            assert (again.status, await again.read()) == (304, b""), (path, known)
            assert again.headers["ETag"] == mark
        assert (await hq.get(path, headers={"If-None-Match": '"other"'})).status == 200
    change = {"county": "Kirinyaga West"}
    assert (await hq.patch(f"/api/factories/{portal.kangaita.factory.id}/", json=change)).status == 200
    assert (await hq.get(path, headers={"If-None-Match": mark})).status == 200


# --- sent twice


async def test_what_is_sent_twice_with_the_same_key_is_made_once(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    key = {"Idempotency-Key": "7d1c6b1e-4a53"}
    first = await clerk.post("/api/energy-entries/", json=WOOD, headers=key)
    second = await clerk.post("/api/energy-entries/", json=WOOD, headers=key)
    assert (first.status, second.status) == (201, 201)
    assert await first.json() == await second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    listed = await (await clerk.get("/api/energy-entries/")).json()
    assert len(listed["results"]) == 1


async def test_one_key_for_two_things_is_refused_and_another_person_s_key_is_another(portal: Portal) -> None:
    clerk, manager = await portal.signed_in("clerk@example.org"), await portal.signed_in("manager@example.org")
    key = {"Idempotency-Key": "the-same"}
    assert (await clerk.post("/api/energy-entries/", json=WOOD, headers=key)).status == 201
    other = await clerk.post("/api/energy-entries/", json=WOOD | {"amount": 1.7}, headers=key)
    assert other.status == 422
    assert "Take a new key" in (await other.json())["detail"]
    assert (await manager.post("/api/energy-entries/", json=WOOD, headers=key)).status == 201


async def test_what_failed_may_be_tried_again_with_its_key(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    key = {"Idempotency-Key": "try-again"}
    assert (await clerk.post("/api/energy-entries/", json=WOOD | {"unit": "stone"}, headers=key)).status == 422
    assert (await clerk.post("/api/energy-entries/", json=WOOD, headers=key)).status == 201


async def test_an_answer_with_a_secret_is_not_kept(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    key = {"Idempotency-Key": "secret"}
    wanted = {"name": "export", "scopes": ["read"]}
    made = [await (await hq.post("/api/me/tokens/", json=wanted, headers=key)).json() for _ in range(2)]
    assert made[0]["token"] != made[1]["token"]
    rows = await portal.core.store._engine.rows("SELECT body FROM idempotency_key")
    assert not any("ct_" in row["body"] for row in rows)


@pytest.mark.parametrize("wrong", ["", "two words", "ä", "x" * 201])
async def test_a_key_that_is_none_is_refused(portal: Portal, wrong: str) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    answer = await clerk.post("/api/energy-entries/", json=WOOD, headers={"Idempotency-Key": wrong})
    assert answer.status == 422


# --- API tokens


async def test_an_api_token_may_do_what_its_scopes_say_and_no_more(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    made = await (await clerk.post("/api/me/tokens/", json={"name": "scale", "scopes": ["entries"]})).json()
    program = portal.client()
    program.session.headers["Authorization"] = f"Bearer {made['token']}"
    assert (await program.post("/api/energy-entries/", json=WOOD)).status == 201
    answer = await program.get("/api/energy-entries/")
    assert answer.status == 403
    assert "scope read" in (await answer.json())["detail"]
    assert (await program.post("/api/me/tokens/", json={"name": "more", "scopes": ["read"]})).status == 403
    assert (await program.post("/api/compliance/", json={})).status == 403, "not even a clerk may"
    assert (await clerk.delete(f"/api/me/tokens/{made['id']}/")).status == 204
    assert (await program.post("/api/energy-entries/", json=WOOD)).status == 401


async def test_what_a_token_does_is_in_the_audit_log_under_its_name(portal: Portal) -> None:
    clerk, hq = await portal.signed_in("clerk@example.org"), await portal.signed_in("hq@example.org")
    made = await (await clerk.post("/api/me/tokens/", json={"name": "scale", "scopes": ["entries"]})).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert (await portal.client().post("/api/energy-entries/", json=WOOD, headers=headers)).status == 201
    (event, *_) = (await (await hq.get("/api/audit/")).json())["results"]
    assert (event["action"], event["actor"], event["token"]) == ("energy_entry.added", "clerk@example.org", "scale")
    verified = await (await hq.get("/api/audit/verify/")).json()
    assert (verified["ok"], verified["count"]) == (True, event["id"])


async def test_a_token_ends_when_it_said_and_its_person_s_role_bounds_it(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    ends = (NOON.replace(hour=13)).isoformat()
    wanted = {"name": "export", "scopes": ["read", "entries"], "expires_at": ends}
    made = await (await hq.post("/api/me/tokens/", json=wanted)).json()
    headers = {"Authorization": f"Token {made['token']}"}
    assert (await portal.client().get("/api/factories/", headers=headers)).status == 200
    portal.now = NOON.replace(hour=14)
    assert (await portal.client().get("/api/factories/", headers=headers)).status == 401
