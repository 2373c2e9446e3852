"""The pages by which headquarters lets people in, and the page of the audit log."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.model import AuditAction, AuditEvent, Origin, Role, User, UserStatus
from carbontrack.web.audit_words import ACTION_TITLES, Names
from tests.support.html import page, send
from tests.support.web import PASSWORD, PEOPLE, SAME_ORIGIN, Portal, password_hash, running_portal
from tests.support.world import NOON
from tests.test_audit import tampered

AUDIT = "/hq/audit/"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'web.sqlite3'}"


@pytest.fixture
async def portal(url: str) -> AsyncIterator[Portal]:
    async with running_portal(url) as running:
        yield running


async def asks(portal: Portal, email: str = "amina@example.org", **changed: Any) -> User:
    """Somebody who waits for approval."""
    values: dict[str, Any] = {"role": Role.FACTORY_CLERK, "factory_id": portal.kangaita.factory.id} | changed
    return await portal.core.store.add_user(
        email,
        password_hash(),
        first_name="Amina",
        last_name="Wanjiru",
        status=UserStatus.PENDING,
        by=Origin(email),
        **values,
    )


async def person(portal: Portal, email: str = "amina@example.org") -> User:
    (found,) = await portal.core.store.users(email=email)
    return found


async def day_of_the_log(portal: Portal) -> date:
    """The local day of the newest event."""
    (newest,) = await portal.core.store.audit_events(limit=1)
    return newest.at.astimezone(portal.services.time_zone).date()


async def status_of_sign_in(portal: Portal, email: str = "amina@example.org", password: str = PASSWORD) -> int:
    form = {"email": email, "password": password, "next": ""}
    return (await portal.client().post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)).status


class TestWhoMay:
    @pytest.mark.parametrize("name", ["operator", "auditor", "manager", "clerk"])
    async def test_only_headquarters_sees_and_does_anything_here(self, portal: Portal, name: str) -> None:
        waiting = await asks(portal)
        browser = await portal.browser(f"{name}@example.org")

        for path in ("/hq/people/", "/hq/people/new", f"/hq/people/{waiting.id}/"):
            assert "amina" not in await page(browser, path, 403)
        form = {"role": "hq_manager", "email": "new@example.org"}
        for step in ("", "approve", "refuse", "disable", "enable", "code", "sign-out"):
            assert (await send(browser, f"/hq/people/{waiting.id}/{step}", form))[0] == 403, step
        assert (await send(browser, "/hq/people/new", form))[0] == 403
        assert await person(portal) == waiting
        assert "People" not in await page(browser, "/account")

    async def test_who_is_not_signed_in_gets_nothing(self, portal: Portal) -> None:
        for path in ("/hq/people/", "/hq/people/1/", AUDIT):
            await page(portal.client(), path, 401)

    async def test_somebody_who_is_not_there_is_not_found(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")

        await page(hq, "/hq/people/4711/", 404)
        for step in ("", "approve", "refuse", "disable", "enable", "code", "sign-out"):
            assert (await send(hq, f"/hq/people/4711/{step}", {"role": "auditor"}))[0] == 404, step


class TestApproval:
    async def test_every_page_of_headquarters_says_how_many_wait(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")
        assert "waiting for approval" not in await page(hq, "/hq/")

        await asks(portal)
        await asks(portal, "john@example.org")

        for path in ("/hq/", "/hq/plugins/", "/hq/leaderboard", "/account", AUDIT):
            assert '<span class="waiting">2<span class="hide"> waiting for approval' in await page(hq, path), path

    async def test_who_waits_is_on_top_with_all_that_there_is_to_know(self, portal: Portal) -> None:
        await asks(portal, phone_number="+254 712 345678")

        shown = await page(await portal.browser("hq@example.org"), "/hq/people/")

        top = shown.partition("Everybody")[0]
        for text in ("Amina Wanjiru", "amina@example.org", "+254 712 345678", "Factory clerk", "Kangaita"):
            assert text in top

    async def test_who_is_approved_signs_in_with_the_password_of_the_request(self, portal: Portal) -> None:
        waiting = await asks(portal)
        hq = await portal.browser("hq@example.org")
        assert await status_of_sign_in(portal) == 401

        form = {"role": "factory_clerk", "factory_id": str(waiting.factory_id)}
        status, shown = await send(hq, f"/hq/people/{waiting.id}/approve", form)

        assert status == 303
        assert "Amina Wanjiru may sign in now, as Factory clerk, Kangaita." in shown
        assert "Waiting for approval" not in shown
        assert await status_of_sign_in(portal) == 303
        (event,) = await portal.core.store.audit_events(action=AuditAction.USER_APPROVED)
        assert event.actor == "hq@example.org"

    async def test_role_and_factory_are_corrected_by_approving(self, portal: Portal) -> None:
        clerk, chief = (
            await asks(portal),
            await asks(portal, "chief@example.org", role=Role.HQ_MANAGER, factory_id=None),
        )
        hq = await portal.browser("hq@example.org")
        other = portal.mungania.factory.id

        await send(hq, f"/hq/people/{clerk.id}/approve", {"role": "factory_manager", "factory_id": str(other)})
        await send(hq, f"/hq/people/{chief.id}/approve", {"role": "auditor", "factory_id": ""})

        assert [
            (it.role, it.factory_id) for it in (await person(portal), await person(portal, "chief@example.org"))
        ] == [
            (Role.FACTORY_MANAGER, other),
            (Role.AUDITOR, None),
        ]

    async def test_a_role_of_a_factory_without_one_is_said_at_that_person_alone(self, portal: Portal) -> None:
        chief = await asks(portal, "chief@example.org", role=Role.HQ_MANAGER, factory_id=None)
        await asks(portal)
        hq = await portal.browser("hq@example.org")

        status, shown = await send(hq, f"/hq/people/{chief.id}/approve", {"role": "factory_clerk", "factory_id": ""})

        assert status == 409
        assert f'id="person-{chief.id}-factory_id-error">This role belongs to a factory: choose which.<' in shown
        assert shown.count("field-error") == 1
        assert (await person(portal, "chief@example.org")).status is UserStatus.PENDING

    async def test_who_is_refused_is_forgotten_and_may_ask_again(self, portal: Portal) -> None:
        waiting = await asks(portal)
        hq = await portal.browser("hq@example.org")

        status, shown = await send(hq, f"/hq/people/{waiting.id}/refuse", {"role": "factory_clerk"})

        assert status == 303
        assert "amina@example.org is refused and forgotten." in shown
        assert await portal.core.store.users(email="amina@example.org") == []
        await asks(portal)

    async def test_who_was_let_in_once_cannot_be_refused(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")
        clerk = await person(portal, "clerk@example.org")

        status, shown = await send(hq, f"/hq/people/{clerk.id}/refuse")

        assert status == 409
        assert "disable the account instead" in shown


class TestEverybody:
    async def test_people_are_found_by_role_factory_and_status(self, portal: Portal) -> None:
        await asks(portal, factory_id=portal.mungania.factory.id)
        hq = await portal.browser("hq@example.org")

        def listed(shown: str) -> set[str]:
            return set(re.findall(r"<small>([a-z]+)@example.org</small>", shown))

        assert listed(await page(hq, "/hq/people/")) == {*(email.partition("@")[0] for email in PEOPLE), "amina"}
        for query, names in {
            "role=factory_clerk": {"clerk", "amina"},
            f"role=&factory_id={portal.kangaita.factory.id}&status=": {"manager", "clerk"},
            "status=pending": {"amina"},
            "role=auditor&status=disabled": set(),
        }.items():
            shown = await page(hq, f"/hq/people/?{query}")
            assert listed(shown) == names, query
            assert "Show everybody" in shown
        await page(hq, "/hq/people/?role=emperor", 422)

    async def test_somebody_new_gets_a_code_by_which_to_choose_a_password(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")
        form = {"email": "John@example.org", "first_name": "John", "role": "operator", "factory_id": "1"}

        status, shown = await send(hq, "/hq/people/new", form)

        assert status == 303
        (code,) = re.findall(r'class="secret">([A-Z0-9-]{14})<', shown)
        assert "/reset-password and enter their address john@example.org" in shown
        added = await person(portal, "john@example.org")
        assert (added.role, added.factory_id, added.status) == (Role.OPERATOR, None, UserStatus.ACTIVE)
        assert code not in await page(hq, f"/hq/people/{added.id}/")
        choice = {"email": "john@example.org", "code": code, "new_password": "green bushes after rain"}
        assert (await send(portal.client(), "/reset-password", choice))[0] == 303
        assert await status_of_sign_in(portal, "john@example.org", "green bushes after rain") == 303

    async def test_what_is_wrong_with_somebody_new_is_said_at_its_field(self, portal: Portal) -> None:
        hq = await portal.browser("hq@example.org")
        form = {"email": "clerk@example.org", "last_name": "<Kamau>", "role": "factory_clerk", "factory_id": "1"}

        status, shown = await send(hq, "/hq/people/new", form)
        assert status == 409
        assert 'id="new-email-error">The address clerk@example.org is registered already.<' in shown
        assert 'value="&lt;Kamau&gt;"' in shown

        status, shown = await send(hq, "/hq/people/new", form | {"email": "john", "factory_id": ""})
        assert status == 422
        assert 'id="new-email-error">Write an e-mail address' in shown


class TestOnePerson:
    async def test_role_factory_and_name_are_changed(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await person(portal, "clerk@example.org")
        other = portal.mungania.factory.id
        form = {"role": "factory_manager", "factory_id": str(other), "first_name": "Amina", "last_name": "Wanjiru"}

        status, shown = await send(hq, f"/hq/people/{clerk.id}/", form)

        assert status == 303
        assert "Kept: Amina Wanjiru, Factory manager, Mungania." in shown
        changed = await person(portal, "clerk@example.org")
        assert (changed.role, changed.factory_id, changed.last_name) == (Role.FACTORY_MANAGER, other, "Wanjiru")

    async def test_who_belongs_to_a_closed_factory_stays_there_unless_somebody_says_so(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await person(portal, "clerk@example.org")
        await portal.core.store.change_factory(portal.kangaita.factory.id, {"is_active": False})

        shown = await page(hq, f"/hq/people/{clerk.id}/")

        assert '<option value="1" selected>Kangaita (closed)' in shown
        assert "Kangaita" not in await page(portal.client(), "/register")

    async def test_a_change_that_cannot_be_kept_is_shown_again(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await person(portal, "clerk@example.org")
        form = {"role": "factory_clerk", "factory_id": "1", "first_name": "Amina", "phone_number": "none"}

        status, shown = await send(hq, f"/hq/people/{clerk.id}/", form)

        assert status == 422
        assert f'id="person-{clerk.id}-phone_number-error"' in shown
        assert 'value="Amina"' in shown

    async def test_who_is_disabled_is_out_at_once_and_may_be_enabled_again(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await person(portal, "clerk@example.org")
        theirs = await portal.browser("clerk@example.org")

        status, shown = await send(hq, f"/hq/people/{clerk.id}/disable")

        assert status == 303
        assert "is disabled: signed out everywhere" in shown
        assert "Enable again" in shown
        assert "Make a one-time code" not in shown
        await page(theirs, "/account", 401)
        _, shown = await send(hq, f"/hq/people/{clerk.id}/enable")
        assert "may sign in again" in shown
        assert await status_of_sign_in(portal, "clerk@example.org") == 303

    async def test_the_last_of_headquarters_stays(self, portal: Portal) -> None:
        hq, chief = await portal.browser("hq@example.org"), await person(portal, "hq@example.org")

        for step, form in (("", {"role": "auditor"}), ("disable", {})):
            status, shown = await send(hq, f"/hq/people/{chief.id}/{step}", form)
            assert status == 409
            assert "is the only one who lets people in" in shown
        assert (await person(portal, "hq@example.org")).role is Role.HQ_MANAGER

    async def test_the_own_page_leads_to_the_own_account(self, portal: Portal) -> None:
        hq, chief = await portal.browser("hq@example.org"), await person(portal, "hq@example.org")

        shown = await page(hq, f"/hq/people/{chief.id}/")

        assert "This is you." in shown
        assert "/disable" not in shown

    async def test_a_lost_telephone_is_signed_out(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await person(portal, "clerk@example.org")
        phone = await portal.browser("clerk@example.org")
        assert "at 1 place" in await page(hq, f"/hq/people/{clerk.id}/")

        _, shown = await send(hq, f"/hq/people/{clerk.id}/sign-out")

        assert "is signed out everywhere" in shown
        await page(phone, "/account", 401)
        assert await status_of_sign_in(portal, "clerk@example.org") == 303

    async def test_a_code_is_for_who_may_sign_in(self, portal: Portal) -> None:
        hq, clerk, waiting = (
            await portal.browser("hq@example.org"),
            await person(portal, "clerk@example.org"),
            await asks(portal),
        )

        status, shown = await send(hq, f"/hq/people/{clerk.id}/code")

        assert status == 303
        assert re.search(r'class="secret">[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}<', shown)
        assert "Hand it over in person or by telephone." in shown
        assert (await send(hq, f"/hq/people/{waiting.id}/code"))[0] == 409

    async def test_who_waits_can_be_approved_on_their_own_page_too(self, portal: Portal) -> None:
        waiting = await asks(portal)

        shown = await page(await portal.browser("hq@example.org"), f"/hq/people/{waiting.id}/")

        assert f'action="/hq/people/{waiting.id}/approve"' in shown
        assert "Disable" not in shown


class TestAuditLog:
    @pytest.mark.parametrize("name", [email.partition("@")[0] for email in PEOPLE])
    async def test_headquarters_operators_and_auditors_read_it_and_factories_do_not(
        self, portal: Portal, name: str
    ) -> None:
        browser = await portal.browser(f"{name}@example.org")
        may = name in {"hq", "operator", "auditor"}

        await page(browser, AUDIT, 200 if may else 403)
        status, _ = await send(browser, f"{AUDIT}verify")
        assert status == (303 if may else 403)
        assert ("Audit log" in await page(browser, "/account")) is may

    async def test_a_change_is_told_in_words_before_and_after(self, portal: Portal) -> None:
        hq, clerk = await portal.browser("hq@example.org"), await person(portal, "clerk@example.org")
        form = {"role": "factory_manager", "factory_id": str(portal.mungania.factory.id), "first_name": "Amina"}
        await send(hq, f"/hq/people/{clerk.id}/", form)

        shown = await page(hq, f"{AUDIT}?action=user.changed")

        told = " ".join(unescape(re.sub(r"<[^>]*>", " ", shown)).split())
        assert "Person changed · Amina · Mungania hq@example.org · 127.0.0.1" in told
        assert "Role Factory clerk → became Factory manager" in told
        assert "Factory Kangaita → became Mungania" in told

    async def test_what_somebody_has_typed_is_text_and_nothing_else(self, portal: Portal) -> None:
        await asks(portal, "x@example.org", phone_number="2026-13-01T25:00:00+00:00")
        await portal.core.store.change_user((await person(portal, "x@example.org")).id, first_name="<script>")

        shown = await page(await portal.browser("auditor@example.org"), AUDIT)

        assert "Asked for an account" in shown
        assert "<script>" not in shown
        assert "2026-13-01T25:00:00+00:00" in shown

    async def test_it_is_read_by_who_what_where_and_when(self, portal: Portal) -> None:
        auditor = await portal.browser("auditor@example.org")
        clerk = await person(portal, "clerk@example.org")
        await portal.core.store.change_user(clerk.id, first_name="Amina", by=Origin("hq@example.org", "192.0.2.7"))

        async def count(query: str) -> int:
            return (await page(auditor, f"{AUDIT}?{query}")).count('<div class="event">')

        everything = await count("")
        assert await count("actor=hq@example.org") == 1
        assert await count(f"subject_kind=user&subject_id={clerk.id}") == 2
        assert await count(f"actor=&factory_id={portal.mungania.factory.id}&from=&to=") == 3
        today = await day_of_the_log(portal)
        assert await count(f"from={today}&to={today}") == everything
        assert await count(f"to={today - timedelta(days=1)}") == 0
        for wrong in ("from=yesterday", "from=0001-01-01", "to=9999-12-31", "action=user.crowned", "cursor=x"):
            await page(auditor, f"{AUDIT}?{wrong}", 422)

    async def test_older_events_are_a_page_further(self, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("carbontrack.web.audit_pages.EVENTS_SHOWN", 5)
        clerk = await person(portal, "clerk@example.org")
        for number in range(7):
            await portal.core.store.change_user(clerk.id, first_name=f"Amina {number}")
        auditor = await portal.browser("auditor@example.org")

        first = await page(auditor, f"{AUDIT}?action=user.changed")
        (older,) = re.findall(r'href="([^"]+)" rel="next"', first)
        second = await page(auditor, unescape(older))

        numbers = [int(number) for shown in (first, second) for number in re.findall(r"no\. (\d+)<", shown)]
        assert len(numbers) == 7
        assert numbers == sorted(numbers, reverse=True)
        assert 'rel="next"' not in second
        assert f'href="{AUDIT}?action=user.changed">Newest' in second

    async def test_the_csv_has_the_same_events(self, portal: Portal) -> None:
        auditor = await portal.browser("auditor@example.org")
        today = await day_of_the_log(portal)
        shown = await page(auditor, f"{AUDIT}?actor=carbontrack&action=user.added&from={today}&to={today}")

        (link,) = re.findall(r'href="(/api/audit/[^"]+)"', shown)
        answer = await auditor.get(unescape(link))

        assert answer.content_type == "text/csv"
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
        assert [row["id"] for row in rows] == re.findall(r"no\. (\d+)<", shown)
        assert len(rows) == len(PEOPLE)

    async def test_the_chain_is_verified_and_its_head_is_shown(self, portal: Portal) -> None:
        auditor = await portal.browser("auditor@example.org")
        (newest,) = await portal.core.store.audit_events(limit=1)

        status, shown = await send(auditor, f"{AUDIT}verify")

        assert status == 303
        assert f"All {newest.id} events are as they were written." in shown
        assert f'class="secret">{newest.id}:{newest.sha256}<' in shown

    async def test_a_log_that_was_tampered_with_is_named(self, portal: Portal, url: str) -> None:
        auditor = await portal.browser("auditor@example.org")
        await tampered(url, "UPDATE audit_event SET actor = 'nobody' WHERE id = 3")

        _, shown = await send(auditor, f"{AUDIT}verify")

        assert 'class="notice bad"' in shown
        assert "The log is not as it was written. Event 3:" in shown


def test_every_action_has_a_title() -> None:
    assert set(ACTION_TITLES) == set(AuditAction)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
fields = st.dictionaries(
    st.sampled_from(["role", "status", "scopes", "factory_id", "altitude_m", "email", "purpose", "plan"]) | st.text(),
    values,
    max_size=4,
)


@given(st.sampled_from(AuditAction) | st.text(), st.text(), st.text(), st.none() | fields, st.none() | fields)
def test_whatever_stands_in_the_log_can_be_told(
    action: str, kind: str, number: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    names = Names({"1": "Amina"}, {"1": "Kangaita"}, {"1": "Boiler 1"}, str)
    event = AuditEvent(1, NOON, "amina@example.org", 1, "", "", action, kind, number, None, before, after, "")

    told = names.told(event)

    shown = [told.title, told.subject, *(text for it in told.changes for text in (it.title, it.before, it.after))]
    assert all(isinstance(text, str) for text in shown)
