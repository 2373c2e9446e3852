"""Many entries at once by the API: seen first, then kept all together or not at all, and judged like single ones."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient

from carbontrack.model import AuditAction
from tests.support.tables import Formula, Value, workbook
from tests.support.web import PEOPLE, Portal, running_portal

pytest_plugins = ["tests.support.world"]

ENERGY_BULK = "/api/energy-entries/bulk/"
TEA_BULK = "/api/production-entries/bulk/"
CSV = {"Content-Type": "text/csv"}
XLSX = {"Content-Type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}
WOOD = """energy_type,amount,unit,moisture,period_start,period_end,evidence
firewood,12.5,t,0.25,2026-02-27,2026-02-27,note 4711
firewood,12,t,,2026-02-28,2026-03-01,
"""
TEA = "made_tea_kg,green_leaf_kg,timestamp\n10000,45000,2026-02-27\n9800,,2026-02-28\n"


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.fixture
async def clerk(portal: Portal) -> TestClient[Any, Any]:
    return await portal.signed_in("clerk@example.org")


async def send(
    client: TestClient[Any, Any], table: str | bytes, path: str = ENERGY_BULK, *, key: str = "", **query: str
) -> tuple[int, Any]:
    body = table.encode() if isinstance(table, str) else table
    headers = (XLSX if body.startswith(b"PK") else CSV) | ({"Idempotency-Key": key} if key else {})
    answer = await client.post(path, data=body, headers=headers, params=query)
    return answer.status, await answer.json()


async def listed(client: TestClient[Any, Any], what: str = "energy-entries") -> list[dict[str, Any]]:
    return list((await (await client.get(f"/api/{what}/")).json())["results"])


def errors(told: Any) -> set[tuple[int, str]]:
    return {(it["row"], it["field"]) for it in told["errors"]}


class TestKeeping:
    async def test_a_table_is_seen_first_with_what_it_emits_and_nothing_is_kept(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        status, told = await send(clerk, WOOD, dry_run="true")

        assert status == 200
        assert (told["rows"], told["ok"], told["ids"]) == (2, 2, [])
        assert told["errors"] == told["questions"] == told["duplicates"] == []
        first, second = told["entries"]
        assert first["co2_kg"]["biogenic"] == pytest.approx(12_500 * 13.26425 * 112 / 1000)
        assert (first["period_start"], first["period_end"]) == ("2026-02-26T21:00:00Z", "2026-02-27T21:00:00Z")
        assert (second["period_start"], second["period_end"]) == ("2026-02-27T21:00:00Z", "2026-03-01T21:00:00Z")
        assert await listed(clerk) == []

    async def test_a_table_is_kept_and_each_entry_is_in_the_audit_log(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        status, told = await send(clerk, WOOD)

        assert status == 201
        assert (told["ok"], told["entries"]) == (2, [])
        kept = sorted(await listed(clerk), key=lambda it: int(it["id"]))
        assert [it["id"] for it in kept] == told["ids"]
        assert [(it["amount"], it["evidence"], it["author"], it["version"]) for it in kept] == [
            (12.5, "note 4711", "clerk@example.org", 1),
            (12.0, "", "clerk@example.org", 1),
        ]
        events = await portal.core.store.audit_events(action=AuditAction.ENERGY_ENTRY_ADDED)
        assert [(event.actor, event.subject_id) for event in events] == [
            ("clerk@example.org", str(entry_id)) for entry_id in reversed(told["ids"])
        ]
        assert (await portal.core.store.verify_audit()).broken_id is None

    async def test_tea_is_kept_in_the_same_way(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        _, seen = await send(clerk, TEA, TEA_BULK, dry_run="true")
        status, told = await send(clerk, TEA, TEA_BULK)

        assert [it["made_tea_kg"] for it in seen["entries"]] == [10_000, 9800]
        assert status == 201
        assert {it["id"] for it in await listed(clerk, "production-entries")} == set(told["ids"])

    async def test_one_wrong_row_keeps_all_others_out(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        wrong = WOOD + "firewood,0,litres,,2026-02-29,2026-02-28,\n"

        _, seen = await send(clerk, wrong, dry_run="true")
        status, problem = await send(clerk, wrong)

        assert (seen["rows"], seen["ok"], errors(seen)) == (3, 2, {(4, "period_start")})
        assert status == 422
        assert problem["errors"] == seen["errors"]
        assert "Nothing was kept" in problem["detail"]
        assert await listed(clerk) == []

    async def test_what_is_sent_twice_with_one_key_is_kept_once(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        first = await send(clerk, WOOD, key="march", allow_duplicates="true")
        again = await send(clerk, WOOD, key="march", allow_duplicates="true")

        assert again == first
        assert len(await listed(clerk)) == 2
        assert (await send(clerk, TEA, key="march", allow_duplicates="true"))[0] == 422

    async def test_a_workbook_is_taken_like_a_csv_file(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        rows: list[list[Value]] = [
            ["Timestamp", "ENERGY_TYPE", "Amount", "unit", "evidence", "moisture"],
            [date(2026, 2, 27), "Firewood", 12.5, "T", 4711, 0.25],
            ["2026-02-28", "electricity", "1250,5", "KWH", Formula('"a"&1', "a1"), None],
            ["2026-02-27T22:30:00+00:00", "diesel", Formula("10*2", 20.0), "litres", None, None],
        ]

        status, told = await send(clerk, workbook(rows))

        assert status == 201, told
        kept = {it["id"]: it for it in await listed(clerk)}
        assert [(kept[it]["energy_type"], kept[it]["amount"], kept[it]["unit"]) for it in told["ids"]] == [
            ("firewood", 12.5, "t"),
            ("electricity", 1250.5, "kWh"),
            ("diesel", 20.0, "litres"),
        ]
        assert [kept[it]["evidence"] for it in told["ids"]] == ["4711", "a1", ""]
        assert kept[told["ids"][2]]["period_start"] == "2026-02-27T21:00:00Z"

    async def test_a_table_says_where_wood_comes_from(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        rows: list[list[Value]] = [
            ["timestamp", "energy_type", "amount", "unit", "wood_origin", "supplier", "plot", "harvested_on", "permit"],
            [date(2026, 2, 26), "firewood", 12.5, "t", "Purchased", "Mlima", "-0.51,37.28", date(2026, 1, 15), 118],
            [date(2026, 2, 27), "firewood", 12.6, "t", "own_plantation", None, "block 7", "2026-01-16", None],
            [date(2026, 2, 28), "diesel", 20, "litres", None, None, None, None, None],
        ]

        status, told = await send(clerk, workbook(rows))

        assert status == 201, told
        kept = {it["id"]: it for it in await listed(clerk)}
        names = ("wood_origin", "supplier", "plot", "harvested_on", "permit")
        assert [[kept[it][name] for name in names] for it in told["ids"]] == [
            ["purchased", "Mlima", "-0.51,37.28", "2026-01-15", "118"],
            ["own_plantation", "", "block 7", "2026-01-16", ""],
            ["unknown", "", "", None, ""],
        ]

    @pytest.mark.parametrize("key", ["", "a form"])
    async def test_a_file_of_a_form_is_taken(self, portal: Portal, clerk: TestClient[Any, Any], key: str) -> None:
        form = FormData({"what": "ever"})
        form.add_field(
            "file", workbook([["made_tea_kg", "timestamp"], [10_000, date(2026, 2, 27)]]), filename="té.xlsx"
        )
        headers = {"Idempotency-Key": key.replace(" ", "-")} if key else {}

        answer = await clerk.post(TEA_BULK, data=form, headers=headers)

        assert answer.status == 201, await answer.text()
        assert len(await listed(clerk, "production-entries")) == 1

    async def test_a_long_table_is_kept_in_its_order(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        first = datetime(2024, 1, 1, tzinfo=UTC)
        rows = [f"electricity,{1000 + at % 7},kWh,{first + timedelta(days=at):%Y-%m-%d}" for at in range(520)]

        status, told = await send(clerk, "\n".join(["energy_type,amount,unit,timestamp", *rows]))

        assert (status, told["ok"]) == (201, 520)
        assert told["ids"] == sorted(told["ids"])
        last = await (await clerk.get(f"/api/energy-entries/{told['ids'][-1]}/")).json()
        assert last["amount"] == 1000 + 519 % 7
        assert (await portal.core.store.verify_audit()).broken_id is None


class TestRows:
    WRONG = (
        ("firewood,12.5,litres,2026-02-27,,,", "unit"),
        ("firewood,-1,t,2026-02-27,,,", "amount"),
        ("firewood,,t,2026-02-27,,,", "amount"),
        ('firewood,"1,250",kg,2026-02-27,,,', "amount"),
        ("firewood,twelve,kg,2026-02-27,,,", "amount"),
        ("firewood,#DIV/0!,kg,2026-02-27,,,", "amount"),
        ("firewood,1e10,kg,2026-02-27,,,", "amount"),
        ("coal,12.5,t,2026-02-27,,,", "energy_type"),
        ("firewood,12.5,m3_stacked,2026-02-27,,,", "stack_density_kg_per_m3"),
        ("firewood,12.5,t,27/02/2026,,,", "timestamp"),
        ("firewood,12.5,t,2026-02-30,,,", "timestamp"),
        ("firewood,12.5,t,2026-02-27T10:00:00,,,", "timestamp"),
        ("firewood,12.5,t,1066-10-14,,,", "timestamp"),
        ("firewood,12.5,t,1999-02-27,,,", "period_start"),
        ("firewood,12.5,t,2026-03-02,,,", "period_start"),
        ("firewood,12.5,t,,,,", "period_start"),
        ("firewood,12.5,t,2026-02-27,25%,,", "moisture"),
        ("firewood,12.5,t,2026-02-27,25,,", "moisture"),
        ("firewood,12.5,t,2026-02-27,,4711,", "stack_id"),
        ("firewood,12.5,t,2026-02-27,,1.5,", "stack_id"),
        (f"firewood,12.5,t,2026-02-27,,,{'x' * 501}", "note"),
        ("firewood,12.5,t,2026-02-27,,,Example: replace this row", "note"),
        ("firewood,12.5,t,2026-02-27,,,,more", ""),
    )

    async def test_what_is_wrong_is_said_at_its_row_and_field(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        table = "energy_type,amount,unit,timestamp,moisture,stack_id,note\nfirewood,12,t,2026-02-26,,,\n"

        status, told = await send(clerk, table + "\n".join(row for row, _ in self.WRONG), dry_run="true")

        assert (status, told["ok"]) == (200, 1)
        assert [(it["row"], it["field"]) for it in told["errors"]] == [
            (row, field) for row, (_, field) in enumerate(self.WRONG, 3)
        ]

    async def test_a_column_that_is_none_is_an_error_that_names_those_there_are(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        for head, field, said in (
            ("energy_type,amuont,unit", "amuont", "is no such column"),
            ("energy_type,amuont,unit", "amount", "is needed"),
            ("energy_type,amount,unit,Amount", "amount", "is there twice"),
            ("energy_type,amount,unit,confirmed", "confirmed", "is no such column"),
        ):
            status, problem = await send(clerk, f"{head}\n1,2,3,4\n", dry_run="true")

            assert status == 422
            assert "There are factory, factory_id, energy_type, amount, unit" in problem["detail"]
            assert any(said in it["message"] for it in problem["errors"] if it["field"] == field)

    async def test_what_is_no_table_is_refused(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        for body, headers, status in (
            (b"", CSV, 422),
            (b"\x89PNG\r\n\x1a\n" + bytes(99), CSV, 422),
            (b"PK\x03\x04", XLSX, 422),
            (b"amount" + b"," * 1_000_000, CSV, 422),
            (b"{}", {"Content-Type": "application/json"}, 415),
            (b"--x\r\n\r\n--x--", {"Content-Type": "multipart/form-data; boundary=x"}, 422),
            (b"", {"Content-Type": "multipart/form-data"}, 422),
            (b"x" * (1024 * 1024 + 1), CSV, 413),
        ):
            answer = await clerk.post(ENERGY_BULK, data=io.BytesIO(body), headers=headers)

            assert answer.status == status, body[:20]
            assert (await answer.json())["detail"]


class TestUnusual:
    HEAD = "energy_type,amount,unit,timestamp\n"

    def days(self, *amounts: float) -> str:
        return self.HEAD + "".join(f"firewood,{amount},t,2026-02-{10 + at}\n" for at, amount in enumerate(amounts))

    async def test_ten_times_the_usual_is_questioned_and_kept_when_it_is_confirmed(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        table = self.days(12, 12.5, 11, 125)

        _, seen = await send(clerk, table, dry_run="true")
        status, problem = await send(clerk, table)

        assert [(it["row"], it["field"]) for it in seen["questions"]] == [(5, "amount")]
        assert "10.4 times" in seen["questions"][0]["message"]
        assert seen["ok"] == 4
        assert (status, problem["type"]) == (422, "urn:carbontrack:problem:unusual-amount")
        assert problem["errors"] == seen["questions"]
        assert await listed(clerk) == []
        assert (await send(clerk, table, confirmed="true"))[0] == 201

    async def test_what_is_there_already_says_what_is_usual(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        await send(clerk, self.days(12, 12.5, 11))

        _, seen = await send(clerk, self.HEAD + "firewood,1.25,t,2026-02-20\n", dry_run="true")

        assert [it["row"] for it in seen["questions"]] == [2]

    async def test_leaf_and_tea_that_do_not_fit_are_questioned(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        table = "green_leaf_kg,made_tea_kg,timestamp\n45000,4500,2026-02-27\n"

        _, seen = await send(clerk, table, TEA_BULK, dry_run="true")

        assert [(it["row"], it["field"]) for it in seen["questions"]] == [(2, "made_tea_kg")]
        assert (await send(clerk, table, TEA_BULK))[0] == 422

    async def test_a_table_is_questioned_as_its_rows_would_be_one_after_the_other(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        """The law that bulk and single entries share."""
        table = self.days(12, 13, 1.1, 12, 200, 11, 12.5, 2.2, 70, 12)

        _, seen = await send(clerk, table, dry_run="true")

        questioned = []
        for row, (_, amount, _, day) in enumerate(list(csv.reader(io.StringIO(table)))[1:], 2):
            entry = {
                "energy_type": "firewood",
                "amount": float(amount),
                "unit": "t",
                "timestamp": f"{day}T12:00:00+03:00",
            }
            answer = await clerk.post("/api/energy-entries/", json=entry)
            if answer.status == 422:
                questioned.append(
                    (row, (await answer.json())["errors"][0]["message"].removesuffix(" Confirm it if it is."))
                )
                answer = await clerk.post("/api/energy-entries/", json=entry | {"confirmed": True})
            assert answer.status == 201
        assert [(it["row"], it["message"]) for it in seen["questions"]] == questioned
        assert len(questioned) == 3


class TestDuplicates:
    async def test_what_is_there_already_is_left_out(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        _, first = await send(clerk, WOOD)

        status, again = await send(
            clerk, WOOD.replace("12.5,t", "12500,kg") + "firewood,11,t,,2026-02-26,2026-02-26,\n"
        )

        assert status == 201
        assert [(it["row"], it["entry_id"]) for it in again["duplicates"]] == [
            (2, first["ids"][0]),
            (3, first["ids"][1]),
        ]
        assert (again["ok"], len(again["ids"]), len(await listed(clerk))) == (1, 1, 3)

    async def test_two_rows_that_say_the_same_are_one_and_two_deliveries_of_a_day_are_two(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        row = "firewood,12.5,t,0.25,2026-02-27,2026-02-27,note {}\n"

        _, told = await send(clerk, WOOD + row.format(4711) + row.format(4712))

        assert [(it["row"], it["entry_id"], it["message"]) for it in told["duplicates"]] == [
            (4, None, "says the same as row 2")
        ]
        assert told["ok"] == 3

    async def test_duplicates_are_kept_when_they_are_allowed(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        await send(clerk, TEA, TEA_BULK)

        status, told = await send(clerk, TEA, TEA_BULK, allow_duplicates="true")

        assert (status, told["ok"], len(told["duplicates"])) == (201, 2, 2)
        assert len(await listed(clerk, "production-entries")) == 4

    async def test_what_was_withdrawn_is_no_longer_there(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        _, first = await send(clerk, WOOD)
        await clerk.delete(f"/api/energy-entries/{first['ids'][0]}/", params={"reason": "wrong"})

        _, seen = await send(clerk, WOOD, dry_run="true")

        assert [it["row"] for it in seen["duplicates"]] == [3]


class TestFactories:
    HEAD = "factory,energy_type,amount,unit,timestamp\n"
    ROW = "{},firewood,12,t,2026-02-27\n"

    async def test_who_sees_every_factory_names_it_in_each_row(self, portal: Portal) -> None:
        hq = await portal.signed_in("hq@example.org")
        table = self.HEAD + "".join(
            self.ROW.format(name) for name in ("Kangaita", "MUNGANIA", "mungania", "Nowhere", "")
        )

        _, seen = await send(hq, table, dry_run="true")

        assert [it["factory_id"] for it in seen["entries"]] == [portal.kangaita.factory.id, portal.mungania.factory.id]
        assert [it["row"] for it in seen["duplicates"]] == [4]
        assert errors(seen) == {(5, "factory"), (6, "factory_id")}

    async def test_a_table_for_one_factory_need_not_name_it_and_names_no_other(self, portal: Portal) -> None:
        hq = await portal.signed_in("hq@example.org")
        only = str(portal.mungania.factory.id)

        _, seen = await send(
            hq, self.HEAD + self.ROW.format("") + self.ROW.format("Kangaita"), dry_run="true", factory_id=only
        )

        assert [it["factory_id"] for it in seen["entries"]] == [portal.mungania.factory.id]
        assert errors(seen) == {(3, "factory")}
        assert (await send(hq, WOOD, factory_id="4711"))[0] == 404

    async def test_another_factory_is_for_its_clerks_as_if_it_were_none(
        self, portal: Portal, clerk: TestClient[Any, Any]
    ) -> None:
        table = "factory,factory_id,energy_type,amount,unit,timestamp,stack_id\n" + "".join(
            f"{name},{number},firewood,12,t,2026-02-27,{stack}\n"
            for name, number, stack in (
                ("Mungania", "", ""),
                ("Nowhere", "", ""),
                ("", portal.mungania.factory.id, ""),
                ("", 4711, ""),
                ("", "", portal.mungania.stack.id),
                ("", "", 4711),
                ("Kangaita", portal.kangaita.factory.id, portal.kangaita.stack.id),
            )
        )

        _, seen = await send(clerk, table, dry_run="true")

        told = [(it["field"], it["message"]) for it in seen["errors"]]
        assert told[0] == told[1]
        assert told[2] == told[3]
        assert told[4] == told[5]
        assert seen["ok"] == 1
        assert (await send(clerk, WOOD, factory_id=str(portal.mungania.factory.id)))[0] == 404

    async def test_a_name_and_a_number_of_two_factories_are_no_factory(self, portal: Portal) -> None:
        hq = await portal.signed_in("hq@example.org")
        table = "factory,factory_id,energy_type,amount,unit,timestamp\nKangaita,{},firewood,12,t,2026-02-27\n"

        _, seen = await send(hq, table.format(portal.mungania.factory.id), dry_run="true")

        assert errors(seen) == {(2, "factory")}

    async def test_only_who_may_enter_one_entry_may_enter_many(self, portal: Portal) -> None:
        for email in PEOPLE:
            client = await portal.signed_in(email)
            for path in (ENERGY_BULK, TEA_BULK):
                may = email in {"hq@example.org", "manager@example.org", "clerk@example.org"}
                assert (await send(client, "note\nx\n", path))[0] == (422 if may else 403)

    async def test_a_token_needs_the_scope_of_entries(self, portal: Portal, clerk: TestClient[Any, Any]) -> None:
        for scopes, status in ((["read"], 403), (["entries"], 201)):
            answer = await clerk.post("/api/me/tokens/", json={"name": "scale", "scopes": scopes})
            client = portal.client()
            client.session.headers["Authorization"] = f"Bearer {(await answer.json())['token']}"
            assert (await send(client, WOOD))[0] == status


class TestTemplates:
    @pytest.mark.parametrize("what", ["energy-entries", "production-entries"])
    async def test_a_template_is_a_table_whose_example_must_be_replaced(
        self, portal: Portal, clerk: TestClient[Any, Any], what: str
    ) -> None:
        answer = await clerk.get(f"/api/{what}/template/")
        template = await answer.text()

        assert answer.content_type == "text/csv"
        assert template.startswith("factory,") is False
        _, seen = await send(clerk, template, f"/api/{what}/bulk/", dry_run="true")
        assert errors(seen) == {(2, "note")}
        _, kept = await send(clerk, template.replace("Example: replace this row", ""), f"/api/{what}/bulk/")
        assert kept["ok"] == 1

    async def test_who_sees_every_factory_gets_a_column_for_it(self, portal: Portal) -> None:
        hq = await portal.signed_in("hq@example.org")

        assert (await (await hq.get("/api/energy-entries/template/")).text()).startswith("factory,period_start")
