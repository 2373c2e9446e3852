"""Entries, targets, accounts and reports by the API, as clerks, managers, headquarters and auditors use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from carbontrack.model import AuditAction
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, payload, summarise_touched

DAY_START = datetime(2026, 2, 28, 21, tzinfo=UTC)
"""Midnight of the 1 March in Nairobi."""
WOOD: dict[str, Any] = {
    "energy_type": "firewood",
    "amount": 12.5,
    "unit": "t",
    "moisture": 0.25,
    "timestamp": NOON.isoformat(),
    "evidence": "delivery note 4711",
}


pytest_plugins = ["tests.support.world"]


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def post(client: TestClient[Any, Any], path: str, **values: Any) -> tuple[int, dict[str, Any]]:
    answer = await client.post(path, json=values)
    return answer.status, await answer.json()


async def get(client: TestClient[Any, Any], path: str, **query: str) -> tuple[int, Any]:
    answer = await client.get(path, params=query)
    return answer.status, await answer.json()


class TestEnergy:
    async def test_a_clerk_enters_firewood_and_sees_what_it_emits(self, portal: Portal) -> None:
        """12,500 kg of 13.264 MJ/kg (25 % moisture) and 112 kg/GJ."""
        clerk = await portal.signed_in("clerk@example.org")

        status, kept = await post(clerk, "/api/energy-entries/", **WOOD)

        assert status == 201
        assert kept["co2_kg"]["biogenic"] == pytest.approx(12_500 * 13.26425 * 112 / 1000)
        assert kept["co2_kg"]["fossil"] == kept["co2_kg"]["grid"] == 0
        assert (kept["author"], kept["version"]) == ("clerk@example.org", 1)
        assert kept["period_start"] == DAY_START.isoformat().replace("+00:00", "Z")
        assert kept["evidence"] == "delivery note 4711"
        _, listed = await get(clerk, "/api/energy-entries/")
        assert [entry["id"] for entry in listed["results"]] == [kept["id"]]

    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"unit": "litres"}, "unit"),
            ({"amount": 0}, "amount"),
            ({"moisture": 25}, "moisture"),
            ({"unit": "m3_stacked"}, "stack_density_kg_per_m3"),
            ({"energy_type": "diesel", "unit": "litres"}, "moisture"),
            ({"timestamp": None}, "period_start"),
            ({"timestamp": (NOON + timedelta(days=9)).isoformat()}, "period_start"),
            ({"timestamp": "2026-03-01T12:00:00"}, "timestamp"),
            ({"energy_type": "coal"}, "energy_type"),
            ({"amuont": 1}, "amuont"),
            ({"stack_id": 4711}, "stack_id"),
        ],
    )
    async def test_what_cannot_be_is_refused_by_its_field(
        self, portal: Portal, changed: dict[str, Any], field: str
    ) -> None:
        clerk = await portal.signed_in("clerk@example.org")

        status, problem = await post(clerk, "/api/energy-entries/", **(WOOD | changed))

        assert status == 422
        assert field in [error["field"] for error in problem["errors"]]

    async def test_ten_times_the_usual_is_questioned_and_taken_when_confirmed(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")
        for days in range(1, 4):
            await post(clerk, "/api/energy-entries/", **(WOOD | {"timestamp": (NOON - days * DAY).isoformat()}))

        status, problem = await post(clerk, "/api/energy-entries/", **(WOOD | {"amount": 125}))

        assert (status, problem["type"]) == (422, "urn:carbontrack:problem:unusual-amount")
        assert problem["errors"][0]["field"] == "amount"
        assert "10.0 times" in problem["errors"][0]["message"]
        status, _ = await post(clerk, "/api/energy-entries/", **(WOOD | {"amount": 125, "confirmed": True}))
        assert status == 201

    async def test_a_change_is_a_new_version_and_the_old_one_stays(self, portal: Portal) -> None:
        clerk, manager = await portal.signed_in("clerk@example.org"), await portal.signed_in("manager@example.org")
        _, kept = await post(clerk, "/api/energy-entries/", **WOOD)
        path = f"/api/energy-entries/{kept['id']}/"

        answer = await manager.patch(path, json=WOOD | {"amount": 12.4, "version": 1, "reason": "read again"})

        assert (answer.status, (await answer.json())["version"]) == (200, 2)
        _, history = await get(clerk, path + "history/")
        assert [(it["version"], it["amount"], it["author"], it["reason"]) for it in history["results"]] == [
            (1, 12.5, "clerk@example.org", ""),
            (2, 12.4, "manager@example.org", "read again"),
        ]

    async def test_where_wood_comes_from_is_entered_corrected_and_taken_back(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")
        origin = {
            "wood_origin": "purchased", "supplier": "Mlima", "species": "Eucalyptus", "plot": "-0.51,37.28",
            "harvested_on": "2026-01-15", "permit": "KFS 118",
        }  # fmt: skip
        _, kept = await post(clerk, "/api/energy-entries/", **WOOD, **origin)
        path = f"/api/energy-entries/{kept['id']}/"

        await clerk.patch(path, json={"supplier": "Baraka", "harvested_on": None, "reason": "another lorry"})

        assert {name: kept[name] for name in origin} == origin
        _, history = await get(clerk, path + "history/")
        assert [(it["supplier"], it["harvested_on"], it["permit"]) for it in history["results"]] == [
            ("Mlima", "2026-01-15", "KFS 118"),
            ("Baraka", None, "KFS 118"),
        ]
        (changed,) = await portal.core.store.audit_events(action=AuditAction.ENERGY_ENTRY_CHANGED)
        assert changed.before is not None
        assert (changed.before["supplier"], changed.before["harvested_on"]) == ("Mlima", "2026-01-15")

    async def test_of_two_that_change_the_same_version_the_second_is_told(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")
        _, kept = await post(clerk, "/api/energy-entries/", **WOOD)
        path = f"/api/energy-entries/{kept['id']}/"
        change = WOOD | {"amount": 12.4, "version": 1, "reason": "read again"}
        await clerk.patch(path, json=change)

        answer = await clerk.patch(path, json=change)

        assert answer.status == 409
        assert "changed meanwhile" in (await answer.json())["detail"]

    async def test_a_withdrawn_entry_leaves_the_list_and_stays_in_its_history(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")
        _, kept = await post(clerk, "/api/energy-entries/", **WOOD)
        path = f"/api/energy-entries/{kept['id']}/"

        answer = await clerk.delete(path, params={"reason": "entered twice"})

        assert answer.status == 200
        assert (await get(clerk, "/api/energy-entries/"))[1]["results"] == []
        _, history = await get(clerk, path + "history/")
        assert [it["withdrawn"] for it in history["results"]] == [False, True]
        assert (await clerk.delete(path)).status == 422, "a reason is needed"


class TestProduction:
    async def test_leaf_and_tea_are_entered(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")
        values = {"timestamp": NOON.isoformat(), "green_leaf_kg": 45_000, "made_tea_kg": 10_000}

        status, kept = await post(clerk, "/api/production-entries/", **values)

        assert (status, kept["made_tea_kg"]) == (201, 10_000)

    async def test_leaf_and_tea_that_do_not_fit_are_questioned(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")
        values = {"timestamp": NOON.isoformat(), "green_leaf_kg": 45_000, "made_tea_kg": 1_000}

        status, problem = await post(clerk, "/api/production-entries/", **values)

        assert status == 422
        assert "45.0 kg of leaf" in problem["errors"][0]["message"]

    async def test_neither_leaf_nor_tea_is_no_entry(self, portal: Portal) -> None:
        clerk = await portal.signed_in("clerk@example.org")

        status, _ = await post(clerk, "/api/production-entries/", timestamp=NOON.isoformat())

        assert status == 422


DAY = timedelta(days=1)


class TestWhoMayWhat:
    async def test_a_factory_never_sees_or_touches_anothers_entries(self, portal: Portal) -> None:
        hq, clerk = await portal.signed_in("hq@example.org"), await portal.signed_in("clerk@example.org")
        other = portal.mungania.factory.id
        _, kept = await post(hq, "/api/energy-entries/", **WOOD, factory_id=other)
        path = f"/api/energy-entries/{kept['id']}/"

        assert (await get(clerk, "/api/energy-entries/"))[1]["results"] == []
        assert (await get(clerk, "/api/energy-entries/", factory_id=str(other)))[0] == 404
        assert (await get(clerk, path))[0] == 404
        assert (await get(clerk, path + "history/"))[0] == 404
        assert (await clerk.delete(path, params={"reason": "x"})).status == 404
        assert (await post(clerk, "/api/energy-entries/", **WOOD, factory_id=other))[0] == 404
        assert (await get(clerk, f"/api/factories/{other}/account/"))[0] == 404

    @pytest.mark.parametrize(("email", "status"), [("auditor@example.org", 403), ("operator@example.org", 403)])
    async def test_who_only_reads_enters_nothing(self, portal: Portal, email: str, status: int) -> None:
        client = await portal.signed_in(email)

        assert (await post(client, "/api/energy-entries/", **WOOD, factory_id=portal.kangaita.factory.id))[0] == status
        assert (await get(client, "/api/energy-entries/"))[0] == 200

    async def test_a_factorys_people_neither_set_targets_nor_see_the_leaderboard(self, portal: Portal) -> None:
        manager = await portal.signed_in("manager@example.org")

        assert (await post(manager, "/api/targets/"))[0] == 403
        assert (await get(manager, "/api/factories/leaderboard/"))[0] == 403


# --- accounts


async def measure_an_hour(portal: Portal) -> None:
    """An hour of steady fire at Kangaita from noon on, and the clock an hour after it."""
    for number in range(12):
        content = body(1 + 60 * number, 60, at_ms=NOON_MS + number * 300_000)
        portal.core.fleet.tell(payload("dev-001", content, received_at_ms=NOON_MS + 3_600_000))
    await portal.core.receipt("dev-001", 720)
    portal.now = NOON + timedelta(hours=2)
    while await summarise_touched(portal.core.store, now=portal.now):
        pass


HOUR = {"from": NOON.isoformat(), "to": (NOON + timedelta(hours=1)).isoformat()}
KG = 0.14853687 * 3600


async def test_an_account_keeps_its_four_numbers_apart(portal: Portal) -> None:
    await measure_an_hour(portal)
    clerk = await portal.signed_in("clerk@example.org")
    await post(clerk, "/api/energy-entries/", **(WOOD | {"amount": 350, "unit": "kg"} | hour()))
    await post(clerk, "/api/energy-entries/", energy_type="diesel", amount=10, unit="litres", **hour())
    await post(clerk, "/api/energy-entries/", energy_type="electricity", amount=100, unit="kWh", **hour())
    await post(clerk, "/api/production-entries/", made_tea_kg=150, **hour())

    status, account = await get(clerk, f"/api/factories/{portal.kangaita.factory.id}/account/", **HOUR)

    assert status == 200
    assert account["biogenic_co2"]["value_kg"] == pytest.approx(KG, rel=1e-3)
    assert account["biogenic_co2"]["basis"] == "measured"
    assert account["fossil_co2"]["value_kg"] == pytest.approx(10 * 0.84 / 1000 * 43 * 74.1)
    assert account["grid_co2e"]["value_kg"] == pytest.approx(7.05)
    wood_gj = 350 * 13.26425 / 1000
    gases = wood_gj * (0.030 * 28 + 0.004 * 265) + 10 * 0.84 / 1000 * 43 * (0.003 * 28 + 0.0006 * 265)
    assert account["ch4_n2o_co2e"]["value_kg"] == pytest.approx(gases)
    assert account["zero_rated_co2_kg"] == 0, "nobody has shown evidence"
    assert account["corroboration"]["ratio"] == pytest.approx(KG / (wood_gj * 112), rel=1e-3)
    assert account["intensities"]["stack_co2_kg_per_kg_made_tea"] == pytest.approx(KG / 150, rel=1e-3)
    assert account["availability"] == 1
    assert 0.12 <= 2 * account["stack_co2"]["u_relative"] <= 0.25
    assert not any("total" in key for key in account)


def hour() -> dict[str, str]:
    end = NOON + timedelta(hours=1)
    return {"timestamp": None, "period_start": NOON.isoformat(), "period_end": end.isoformat()}  # type: ignore[dict-item]  # null


async def test_a_period_is_reported_once_and_corrected_with_a_reason(portal: Portal) -> None:
    await measure_an_hour(portal)
    manager = await portal.signed_in("manager@example.org")
    period = {"factory_id": portal.kangaita.factory.id, "period_start": HOUR["from"], "period_end": HOUR["to"]}

    status, first = await post(manager, "/api/compliance/", **period)
    again, refusal = await post(manager, "/api/compliance/", **period)
    await post(manager, "/api/energy-entries/", energy_type="electricity", amount=100, unit="kWh", **hour())
    _, outdated = await get(manager, f"/api/compliance/{first['id']}/")
    corrected, second = await post(manager, "/api/compliance/", **period, reason="the grid's bill came late")

    assert (status, first["version"], first["status"], first["target_met"]) == (201, 1, "reported", None)
    assert first["total_emissions_kg"] == pytest.approx(KG, rel=1e-3)
    assert first["grid_co2e_kg"] is None
    assert again == 409
    assert "needs a reason" in refusal["detail"]
    assert outdated["outdated"] is True
    assert (corrected, second["version"], second["grid_co2e_kg"]) == (201, 2, pytest.approx(7.05))
    assert second["sha256"] != first["sha256"]
    _, listed = await get(manager, "/api/compliance/")
    assert [(it["version"], it["status"]) for it in listed["results"]] == [(2, "reported"), (1, "superseded")]


async def test_what_is_not_over_cannot_be_reported(portal: Portal) -> None:
    manager = await portal.signed_in("manager@example.org")
    period = {"factory_id": portal.kangaita.factory.id, "period_start": HOUR["from"], "period_end": HOUR["to"]}

    status, problem = await post(manager, "/api/compliance/", **period)

    assert (status, problem["errors"][0]["field"]) == (422, "period_end")


async def test_a_target_is_met_not_met_or_cannot_be_told(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    factory_id = portal.kangaita.factory.id
    target = {"factory_id": factory_id, "metric": "stack_co2_kg_per_kg_made_tea", "valid_from": "2026-01-01"}
    status, kept = await post(hq, "/api/targets/", **target, value=3.8, baseline_year=2025)
    await measure_an_hour(portal)
    path = f"/api/factories/{factory_id}/account/"

    async def stands() -> Any:
        _, account = await get(hq, path, **HOUR)
        return account["targets"][0]["status"]

    assert (status, kept["unit"]) == (201, "kg CO2 / kg made tea")
    assert await stands() == "insufficient_data"
    await post(hq, "/api/production-entries/", made_tea_kg=150, **hour(), factory_id=factory_id)
    assert await stands() == "met"
    await post(hq, "/api/targets/", **target, value=3.0)
    assert await stands() == "not_met"


async def test_the_leaderboard_ranks_only_who_measured_enough(portal: Portal) -> None:
    await measure_an_hour(portal)
    hq = await portal.signed_in("hq@example.org")
    await post(hq, "/api/production-entries/", made_tea_kg=150, **hour(), factory_id=portal.kangaita.factory.id)

    status, board = await get(hq, "/api/factories/leaderboard/", **HOUR)

    assert status == 200
    first, second = board["results"]
    assert (first["rank"], first["name"], first["unit"]) == (1, "Kangaita", "kg CO2 / kg made tea")
    assert first["value"] == pytest.approx(KG / 150, rel=1e-3)
    assert first["uncertainty"] == pytest.approx(first["value"] * 0.21, rel=0.1)
    assert (second["rank"], second["name"]) == (None, "Mungania")
    assert second["reason_unranked"]
    assert board["programme"]["factories"] == 2


# --- hours, days and plans


async def test_hours_and_days_come_with_their_validity(portal: Portal) -> None:
    await measure_an_hour(portal)
    auditor = await portal.signed_in("auditor@example.org")

    _, hours = await get(auditor, "/api/emissions/", **HOUR, resolution="hour")
    _, days = await get(
        auditor, "/api/emissions/", resolution="day", **{"from": "2026-03-01T00:00:00+03:00", "to": HOUR["to"]}
    )

    (found,) = hours["results"]
    assert (found["validity"], found["count"], found["version"], found["method"]) == ("valid", 720, 1, "ct-1")
    assert found["co2_kg"] == pytest.approx(KG, rel=1e-3)
    (day,) = days["results"]
    assert (day["day"], day["valid_hours"]) == ("2026-03-01", 1)


async def test_a_plan_is_added_from_a_day_on_and_what_was_measured_since_is_computed_again(portal: Portal) -> None:
    await measure_an_hour(portal)
    hq, clerk = await portal.signed_in("hq@example.org"), await portal.signed_in("clerk@example.org")
    path = f"/api/stacks/{portal.kangaita.stack.id}/plans/"
    change = {"valid_from": NOON.isoformat(), "profile_factor": 0.45, "profile_factor_source": "traverse"}

    refused = (await post(clerk, path, **change))[0]
    status, plan = await post(hq, path, **change)
    while await summarise_touched(portal.core.store, now=portal.now):
        pass

    assert (refused, status) == (403, 201)
    assert (plan["profile_factor"], plan["diameter_m"]) == (0.45, 0.8)
    _, hours = await get(hq, "/api/emissions/", **HOUR, resolution="hour")
    assert hours["results"][0]["co2_kg"] == pytest.approx(KG / 2, rel=1e-3)
    _, listed = await get(clerk, path)
    assert len(listed["results"]) == 2


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "valid_from"),
        ({"diametre_m": 1}, "diametre_m"),
        ({"profile_factor": "0.9"}, "profile_factor"),
        ({"basis": "moist"}, "basis"),
        ({"h2o_fraction": 12}, "h2o_fraction"),
        ({"diameter_m": -1}, "diameter_m"),
        ({"off_co2_ppm": 20_000}, ""),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_by_its_field(
    portal: Portal, values: dict[str, Any], field: str
) -> None:
    hq = await portal.signed_in("hq@example.org")
    path = f"/api/stacks/{portal.kangaita.stack.id}/plans/"
    given = values | ({} if not values else {"valid_from": NOON.isoformat()})

    status, problem = await post(hq, path, **given)

    assert status == 422
    assert field in [error["field"] for error in problem["errors"]]


async def test_the_factors_in_use_are_listed_with_their_sources(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")

    _, listed = await get(clerk, "/api/factors/")

    wood = next(row for row in listed["results"] if row["name"] == "firewood.co2")
    assert (wood["value"], wood["unit"]) == (112, "kg/GJ")
    assert "IPCC 2006" in wood["source"]
    assert len(wood["version"]) == 12


# --- changes, pages and rubbish


async def test_a_change_says_what_changes_and_the_rest_stays(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    _, kept = await post(clerk, "/api/energy-entries/", **WOOD)
    path = f"/api/energy-entries/{kept['id']}/"

    answer = await clerk.patch(path, json={"amount": 12.4, "moisture": None, "reason": "read again"})

    changed = await answer.json()
    assert (answer.status, changed["version"], changed["amount"], changed["moisture"]) == (200, 2, 12.4, None)
    same = {"energy_type", "unit", "period_start", "period_end", "evidence", "factory_id", "sustainability"}
    assert {name: changed[name] for name in same} == {name: kept[name] for name in same}
    yesterday = (NOON - DAY).isoformat()
    moved = await (await clerk.patch(path, json={"timestamp": yesterday, "reason": "wrong day"})).json()
    assert moved["period_end"] == kept["period_start"]


async def test_a_change_of_leaf_keeps_the_tea(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    values = {"timestamp": NOON.isoformat(), "green_leaf_kg": 45_000, "made_tea_kg": 10_000}
    _, kept = await post(clerk, "/api/production-entries/", **values)

    answer = await clerk.patch(
        f"/api/production-entries/{kept['id']}/", json={"green_leaf_kg": 44_000, "version": 1, "reason": "weighed"}
    )

    changed = await answer.json()
    assert (changed["green_leaf_kg"], changed["made_tea_kg"], changed["version"]) == (44_000, 10_000, 2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 12.4}, "reason"),
        ({"reason": "   "}, "reason"),
        ({"reason": "x", "factory_id": 2}, "factory_id"),
        ({"reason": "x", "amount": None}, "amount"),
        ({"reason": "x", "amuont": 1}, "amuont"),
        ({"reason": "x", "unit": "litres"}, "unit"),
        ({"reason": "x", "version": "first"}, "version"),
        ({"reason": "x", "withdrawn": True}, "withdrawn"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_by_its_field(
    portal: Portal, change: dict[str, Any], field: str
) -> None:
    hq = await portal.signed_in("hq@example.org")
    _, kept = await post(hq, "/api/energy-entries/", **WOOD, factory_id=portal.kangaita.factory.id)

    answer = await hq.patch(f"/api/energy-entries/{kept['id']}/", json=change)

    assert answer.status == 422
    assert field in [error["field"] for error in (await answer.json())["errors"]]
    assert (await get(hq, f"/api/energy-entries/{kept['id']}/"))[1]["version"] == 1


async def test_an_unusual_amount_that_was_confirmed_is_not_questioned_again_when_the_note_changes(
    portal: Portal,
) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    for days in range(1, 4):
        await post(clerk, "/api/energy-entries/", **(WOOD | {"timestamp": (NOON - days * DAY).isoformat()}))
    _, kept = await post(clerk, "/api/energy-entries/", **(WOOD | {"amount": 125, "confirmed": True}))
    path = f"/api/energy-entries/{kept['id']}/"

    noted = await clerk.patch(path, json={"note": "for the whole month", "reason": "explained"})
    raised = await clerk.patch(path, json={"amount": 1250, "reason": "more"})

    assert (noted.status, raised.status) == (200, 422)
    assert (await raised.json())["type"] == "urn:carbontrack:problem:unusual-amount"


async def test_a_withdrawn_entry_is_brought_back_by_a_change_and_withdrawn_once(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    _, kept = await post(clerk, "/api/energy-entries/", **WOOD)
    path = f"/api/energy-entries/{kept['id']}/"
    for _ in range(2):
        gone = await (await clerk.delete(path, params={"reason": "entered twice"})).json()
        assert (gone["withdrawn"], gone["version"]) == (True, 2)

    back = await (await clerk.patch(path, json={"reason": "it was another delivery"})).json()

    assert (back["withdrawn"], back["version"]) == (False, 3)
    assert len((await get(clerk, "/api/energy-entries/"))[1]["results"]) == 1


async def test_a_day_without_tea_is_not_questioned(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    values = {"timestamp": NOON.isoformat(), "green_leaf_kg": 45_000, "made_tea_kg": 10_000}
    for _ in range(4):
        await post(clerk, "/api/production-entries/", **values)

    status, _ = await post(clerk, "/api/production-entries/", **(values | {"green_leaf_kg": 0, "made_tea_kg": 0}))

    assert status == 201


async def test_a_long_list_is_read_page_by_page_and_nothing_is_left_out(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    for days in (0, 1, 1, 1, 2, 3, 4):
        when = (NOON - days * DAY).isoformat()
        await post(clerk, "/api/energy-entries/", **(WOOD | {"timestamp": when}))
        await post(clerk, "/api/production-entries/", timestamp=when, made_tea_kg=10_000)
    for path in ("/api/energy-entries/", "/api/production-entries/"):
        _, everything = await get(clerk, path)
        assert everything["next"] is None
        pages, query = [], {"limit": "2"}
        while True:
            _, page = await get(clerk, path, **query)
            pages += page["results"]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert pages == everything["results"]
        assert len(pages) == 7


async def test_a_target_that_is_not_there_cannot_be_taken_back(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    target = {"factory_id": portal.kangaita.factory.id, "metric": "stack_co2_kg", "value": 1}
    _, kept = await post(hq, "/api/targets/", **target, valid_from="2026-01-01")

    ends = [(await hq.delete(f"/api/targets/{kept['id']}/")).status for _ in range(2)]

    assert ends == [204, 404]
    assert (await get(hq, "/api/targets/"))[1]["results"] == []


HUGE = str(2**63)
EDGES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")


async def test_numbers_times_and_texts_that_no_column_holds_are_the_callers_mistake(database_url: str) -> None:
    """On each engine: PostgreSQL refuses what SQLite cannot even be asked for."""
    async with running_portal(database_url) as portal:
        hq = await portal.signed_in("hq@example.org")
        factory_id = portal.kangaita.factory.id
        wood = WOOD | {"factory_id": factory_id}
        _, kept = await post(hq, "/api/energy-entries/", **wood)
        entry = f"/api/energy-entries/{kept['id']}/"
        plans = f"/api/stacks/{portal.kangaita.stack.id}/plans/"
        account = f"/api/factories/{factory_id}/account/"
        answers = [
            *[await hq.get(f"/api/{name}/{HUGE}/") for name in ("energy-entries", "production-entries", "compliance")],
            await hq.delete(f"/api/targets/{HUGE}/"),
            await hq.get("/api/energy-entries/", params={"factory_id": HUGE}),
            await hq.get("/api/production-entries/", params={"cursor": f"{'9' * 17}~{'9' * 9}", "limit": HUGE}),
            await hq.patch(entry, json={"version": int(HUGE), "reason": "x"}),
            await hq.patch(entry, json={"factory_id": [1], "reason": "x"}),
            await hq.patch(entry, json={"amount": 10**400, "reason": "x"}),
            await hq.patch(entry, data=b"[" * 100_000, headers={"Content-Type": "application/json"}),
            await hq.post("/api/energy-entries/", json=wood | {"note": "a\0b"}),
            await hq.post("/api/energy-entries/", json=wood | {"amount": 1e308}),
            await hq.post("/api/energy-entries/", json=wood | {"timestamp": "1926-03-01T12:00:00Z"}),
            *[await hq.get(account, params={"month": month}) for month in ("0000-01", "0001-01", "9999-12")],
            *[await hq.post("/api/energy-entries/", json=wood | {"timestamp": edge}) for edge in EDGES],
            *[await hq.get(path, params={"from": edge}) for edge in EDGES for path in (account, "/api/emissions/")],
            *[await hq.get(path, params={"to": edge}) for edge in EDGES for path in (account, "/api/energy-entries/")],
            *[await hq.post(plans, json={"valid_from": edge}) for edge in EDGES],
            await hq.post(plans, json={"valid_from": NOON.isoformat(), "note": "a\0b"}),
            await hq.post(plans, json={"valid_from": NOON.isoformat(), "diameter_m": 1e308}),
            await hq.post(plans, data=b"{", headers={"Content-Type": "application/json"}),
            await hq.post(plans, data=b"a=1"),
            await hq.post(
                "/api/compliance/",
                json={"factory_id": factory_id, "period_start": "2001-01-01T00:00:00Z", "period_end": NOON.isoformat()},
            ),
        ]
        assert {answer.status for answer in answers} <= {404, 415, 422}, [
            (answer.status, str(answer.url)) for answer in answers if answer.status not in {404, 415, 422}
        ]
