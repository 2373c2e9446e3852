"""Accounts over the API: nobody lets in themselves, codes are good once, and what ends opens nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import body

Client = TestClient[Any, Any]
NEW = "quiet mountain tea rain"
WANJIRU = {
    "email": "Wanjiru@Example.org",
    "password": NEW,
    "first_name": "Wanjiru",
    "last_name": "Kamau",
    "requested_role": "factory_clerk",
}


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def sign_in(portal: Portal, email: str, password: str) -> int:
    return (await portal.client().post("/api/login/", json={"email": email, "password": password})).status


async def ask(portal: Portal, **changed: Any) -> tuple[int, dict[str, Any]]:
    wanted = WANJIRU | {"factory_id": portal.kangaita.factory.id} | changed
    answer = await portal.client().post("/api/register/", json=wanted)
    return answer.status, await answer.json()


# --- asking for an account


async def test_who_asks_for_an_account_may_sign_in_when_headquarters_has_approved_it(portal: Portal) -> None:
    status, asked = await ask(portal)
    assert (status, asked["status"], asked["email"]) == (201, "pending", "wanjiru@example.org")
    assert await sign_in(portal, "wanjiru@example.org", NEW) == 401

    hq = await portal.signed_in("hq@example.org")
    waiting = await (await hq.get("/api/users/?status=pending")).json()
    assert [row["id"] for row in waiting["results"]] == [asked["id"]]
    assert (await hq.patch(f"/api/users/{asked['id']}/", json={"status": "active"})).status == 200

    assert await sign_in(portal, "wanjiru@example.org", NEW) == 200


async def test_who_was_refused_is_gone_and_who_was_let_in_stays_on_record(portal: Portal) -> None:
    _, asked = await ask(portal)
    hq = await portal.signed_in("hq@example.org")
    assert (await hq.delete(f"/api/users/{asked['id']}/")).status == 204
    assert (await hq.get(f"/api/users/{asked['id']}/")).status == 404
    clerk = (await (await hq.get("/api/users/?role=factory_clerk")).json())["results"][0]
    answer = await hq.delete(f"/api/users/{clerk['id']}/")
    assert (answer.status, "disable" in (await answer.json())["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"requested_role": "operator"}, "requested_role"),
        ({"password": "short"}, "password"),
        ({"password": "wanjiru@example.org"}, "password"),
        ({"password": "1234567890"}, "password"),
        ({"email": "nobody"}, "email"),
        ({"phone_number": "call me"}, "phone_number"),
        ({"role": "hq_manager"}, "role"),
        ({"status": "active"}, "status"),
    ],
)
async def test_what_is_asked_for_wrongly_is_told_at_its_field(
    portal: Portal, changed: dict[str, Any], field: str
) -> None:
    status, problem = await ask(portal, **changed)
    assert status == 422
    assert field in [error["field"] for error in problem["errors"]]


async def test_a_clerk_without_a_factory_and_an_address_that_is_taken_are_refused(portal: Portal) -> None:
    assert (await ask(portal, factory_id=None))[0] == 409
    assert (await ask(portal, factory_id=4711))[0] == 409
    assert (await ask(portal, email="clerk@example.org"))[0] == 409


async def test_asking_for_accounts_is_limited(portal: Portal) -> None:
    for number in range(10):
        assert (await ask(portal, email=f"{number}@example.org"))[0] == 201
    assert (await ask(portal, email="11@example.org"))[0] == 429


# --- codes


async def test_who_was_added_chooses_a_password_by_a_code_that_is_good_once(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    wanted = {"email": "new@example.org", "role": "auditor"}
    answer = await hq.post("/api/users/", json=wanted)
    assert answer.status == 201
    code = (await answer.json())["code"]["code"]

    reset = {"email": "new@example.org", "code": code.lower().replace("-", " "), "new_password": NEW}
    assert (await portal.client().post("/api/reset-password/", json=reset)).status == 200
    assert await sign_in(portal, "new@example.org", NEW) == 200
    again = await portal.client().post("/api/reset-password/", json=reset | {"new_password": "another mountain rain"})
    assert again.status == 401
    assert await sign_in(portal, "new@example.org", NEW) == 200


async def test_a_code_cannot_be_guessed_and_ends_by_itself(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    clerk = (await (await hq.get("/api/users/?role=factory_clerk")).json())["results"][0]
    code = (await (await hq.post(f"/api/users/{clerk['id']}/code/")).json())["code"]
    reset = {"email": "clerk@example.org", "code": code, "new_password": NEW}
    portal.now += timedelta(days=4)
    assert (await portal.client().post("/api/reset-password/", json=reset)).status == 401
    portal.now -= timedelta(days=4)
    statuses = [
        (await portal.client().post("/api/reset-password/", json=reset | {"code": f"AAAA-AAAA-AAA{number}"})).status
        for number in range(6)
    ]
    assert set(statuses) == {401, 429}
    assert statuses[-1] == 429, "also the right code is not tried any more"
    assert (await portal.client().post("/api/reset-password/", json=reset)).status == 429


async def test_a_bad_password_does_not_use_the_code_up(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    clerk = (await (await hq.get("/api/users/?role=factory_clerk")).json())["results"][0]
    code = (await (await hq.post(f"/api/users/{clerk['id']}/code/")).json())["code"]
    reset = {"email": "clerk@example.org", "code": code, "new_password": "short"}
    answer = await portal.client().post("/api/reset-password/", json=reset)
    assert (answer.status, (await answer.json())["errors"][0]["field"]) == (422, "new_password")
    assert (await portal.client().post("/api/reset-password/", json=reset | {"new_password": NEW})).status == 200


async def test_who_has_forgotten_a_password_gets_the_same_answer_with_and_without_an_account(portal: Portal) -> None:
    answers = [
        await portal.client().post("/api/forgot-password/", json={"email": email})
        for email in ("clerk@example.org", "nobody@example.org")
    ]
    assert [answer.status for answer in answers] == [202, 202]
    assert await answers[0].json() == await answers[1].json()


# --- passwords and sessions


async def test_another_password_ends_all_other_sessions(portal: Portal) -> None:
    here, elsewhere = await portal.signed_in("clerk@example.org"), await portal.signed_in("clerk@example.org")
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await here.post("/api/me/password/", json=change)).status == 204
    assert (await here.get("/api/me/")).status == 200
    assert (await elsewhere.get("/api/me/")).status == 401
    assert await sign_in(portal, "clerk@example.org", PASSWORD) == 401
    assert await sign_in(portal, "clerk@example.org", NEW) == 200


async def test_a_password_is_changed_only_by_who_knows_the_one_before(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    answer = await clerk.post("/api/me/password/", json={"current_password": "wrong", "new_password": NEW})
    assert answer.status == 403
    answer = await clerk.post("/api/me/password/", json={"current_password": PASSWORD, "new_password": "kurz"})
    assert (answer.status, (await answer.json())["errors"][0]["field"]) == (422, "new_password")


async def test_somebody_sees_the_own_sessions_and_signs_out_elsewhere(portal: Portal) -> None:
    here, elsewhere = await portal.signed_in("clerk@example.org"), await portal.signed_in("clerk@example.org")
    found = (await (await here.get("/api/me/sessions/")).json())["results"]
    assert len(found) == 2
    manager = await portal.signed_in("manager@example.org")
    for row in found:
        assert (await manager.delete(f"/api/me/sessions/{row['id']}/")).status == 404
    (other,) = [row for row in found if not row["is_current"]]
    assert (await here.delete(f"/api/me/sessions/{other['id']}/")).status == 204
    assert (await here.get("/api/me/")).status == 200
    assert (await elsewhere.get("/api/me/")).status == 401


async def test_who_is_disabled_is_out_at_once_with_session_and_token(portal: Portal) -> None:
    clerk, hq = await portal.signed_in("clerk@example.org"), await portal.signed_in("hq@example.org")
    token = (await (await clerk.post("/api/me/tokens/", json={"name": "x", "scopes": ["read"]})).json())["token"]
    me = await (await clerk.get("/api/me/")).json()
    assert (await hq.patch(f"/api/users/{me['id']}/", json={"status": "disabled"})).status == 200
    assert (await clerk.get("/api/me/")).status == 401
    program = {"Authorization": f"Bearer {token}"}
    assert (await portal.client().get("/api/me/", headers=program)).status == 401
    assert await sign_in(portal, "clerk@example.org", PASSWORD) == 401


async def test_the_last_who_lets_people_in_cannot_lock_everybody_out(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    me = await (await hq.get("/api/me/")).json()
    for change in ({"status": "disabled"}, {"role": "auditor"}):
        assert (await hq.patch(f"/api/users/{me['id']}/", json=change)).status == 409, change


async def test_a_person_changes_the_own_name_and_language_but_not_the_role(portal: Portal) -> None:
    clerk = await portal.signed_in("clerk@example.org")
    changed = await (await clerk.patch("/api/me/", json={"first_name": "Amina", "locale": "sw"})).json()
    assert (changed["first_name"], changed["locale"]) == ("Amina", "sw")
    assert (await clerk.patch("/api/me/", json={"role": "hq_manager"})).status == 422


# --- the registry


async def test_a_factory_with_a_stack_and_a_device_is_made_over_the_api(portal: Portal) -> None:
    hq = await portal.signed_in("hq@example.org")
    made = await hq.post("/api/factories/", json={"name": "Kimunye Tea Factory", "altitude_m": 1900})
    factory = await made.json()
    assert (made.status, factory["slug"]) == (201, "kimunye")
    assert factory["pressure_kpa"] == pytest.approx(80.5, abs=0.2)  # ISO 2533
    new = {"factory_id": factory["id"], "name": "Boiler 1", "shape": "rectangular", "width_m": 0.7, "length_m": 0.9}
    stack = await (await hq.post("/api/stacks/", json=new)).json()
    assert stack["plan"]["area_m2"] == pytest.approx(0.63)
    device = await hq.post("/api/mcu-devices/", json={"device_id": "ct-kimunye-1", "stack_id": stack["id"]})
    assert (device.status, (await device.json())["credentials"]) == (201, None)

    answer = await hq.delete(f"/api/stacks/{stack['id']}/")
    assert (answer.status, "devices" in (await answer.json())["detail"]) == (409, True)
    assert (await hq.delete(f"/api/factories/{factory['id']}/")).status == 409
    assert (await hq.delete(f"/api/mcu-devices/{(await device.json())['id']}/")).status == 204
    assert (await hq.patch(f"/api/stacks/{stack['id']}/", json={"name": "Boiler 2"})).status == 200
    assert (await hq.delete(f"/api/stacks/{stack['id']}/")).status == 204
    assert (await hq.patch(f"/api/factories/{factory['id']}/", json={"name": "Kangaita"})).status == 409
    assert (await hq.delete(f"/api/factories/{factory['id']}/")).status == 204


@pytest.mark.parametrize(
    ("change", "status"),
    [({"altitude_m": None}, 422), ({"pressure_kpa": None}, 200), ({"name": ""}, 422), ({"slug": "x"}, 422), ({}, 200)],
)
async def test_what_a_factory_must_have_cannot_be_taken_away(
    portal: Portal, change: dict[str, Any], status: int
) -> None:
    hq = await portal.signed_in("hq@example.org")
    assert (await hq.patch(f"/api/factories/{portal.kangaita.factory.id}/", json=change)).status == status


async def test_a_device_gets_a_password_and_another_one(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'web.sqlite3'}"
    async with running_portal(url, device_key="k" * 32) as portal:
        hq = await portal.signed_in("hq@example.org")
        new = {"device_id": "ct-kangaita-9", "stack_id": portal.kangaita.stack.id}
        added = await (await hq.post("/api/mcu-devices/", json=new)).json()
        first = added["credentials"]
        assert first["username"] == "ct-kangaita-9"
        second = await (await hq.post(f"/api/mcu-devices/{added['id']}/credentials/")).json()
        assert second["password"] != first["password"]


async def test_a_stack_that_was_measured_stays(portal: Portal) -> None:
    portal.core.tell("dev-001", body(1, 3))
    await portal.core.receipt("dev-001", 3)
    hq = await portal.signed_in("hq@example.org")
    assert (await hq.delete(f"/api/mcu-devices/{portal.kangaita.device.id}/")).status == 204
    answer = await hq.delete(f"/api/stacks/{portal.kangaita.stack.id}/")
    assert (answer.status, "readings" in (await answer.json())["detail"]) == (409, True)
