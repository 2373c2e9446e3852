"""The pages of who is told of alerts, and of what was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.estate import Estate, running_estate
from tests.support.estate import message as made_message
from tests.support.html import page, send
from tests.support.web import Portal, running_portal


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    async with running_estate(f"sqlite://{tmp_path / 'estate.sqlite3'}") as running:
        yield running


async def person(portal: Portal, name: str) -> int:
    (found,) = await portal.core.store.users(email=f"{name}@example.org")
    return found.id


async def on_duty(portal: Portal, factory_id: int | None) -> list[str]:
    return [it.email for it in await portal.core.store.duty(factory_id)]


# --- duty lists


async def test_without_a_list_the_page_says_who_is_told(portal: Portal) -> None:
    assert "managers are told" in await page(await portal.browser("clerk@example.org"), "/alerts/duty")
    assert "everybody at headquarters is told" in await page(await portal.browser("hq@example.org"), "/alerts/duty")


async def test_a_manager_makes_the_list_of_the_own_factory_in_its_order(portal: Portal) -> None:
    browser, factory_id = await portal.browser("manager@example.org"), portal.kangaita.factory.id
    clerk, manager = await person(portal, "clerk"), await person(portal, "manager")

    status, text = await send(browser, "/alerts/duty", {f"place-{manager}": "2", f"place-{clerk}": "1"})

    assert (status, "The duty list is kept." in text) == (303, True)
    assert await on_duty(portal, factory_id) == ["clerk@example.org", "manager@example.org"]
    await send(browser, "/alerts/duty", {f"place-{manager}": "", f"place-{clerk}": "1"})
    assert await on_duty(portal, factory_id) == ["clerk@example.org"]


async def test_headquarters_make_every_list_and_put_their_own_people_on_it(portal: Portal) -> None:
    browser, factory_id = await portal.browser("hq@example.org"), portal.kangaita.factory.id
    hq, clerk = await person(portal, "hq"), await person(portal, "clerk")

    url = f"/alerts/duty?factory_id={factory_id}"
    await send(browser, url, {f"place-{hq}": "2", f"place-{clerk}": "1"})
    await send(browser, "/alerts/duty", {f"place-{hq}": "1"})

    assert await on_duty(portal, factory_id) == ["clerk@example.org", "hq@example.org"]
    assert await on_duty(portal, None) == ["hq@example.org"]
    assert "hq@example.org" in await page(await portal.browser("clerk@example.org"), "/alerts/duty")


async def test_who_may_not_be_on_a_list_is_refused(portal: Portal) -> None:
    browser, auditor = await portal.browser("manager@example.org"), await person(portal, "auditor")

    status, text = await send(browser, "/alerts/duty", {f"place-{auditor}": "1"})

    assert (status, "no such person" in text) == (422, True)
    assert await on_duty(portal, portal.kangaita.factory.id) == []


@pytest.mark.parametrize("form", [{"place-x": "1"}, {"place-": "1"}, {"place-1": "first"}, {"place-99999999999": "1"}])
async def test_rubbish_in_the_form_is_no_fault_of_ours(portal: Portal, form: dict[str, str]) -> None:
    status, _ = await send(await portal.browser("hq@example.org"), "/alerts/duty", form)

    assert status in {303, 422}
    assert await on_duty(portal, None) == []


async def test_clerks_and_auditors_look_only(portal: Portal) -> None:
    for name in ("clerk", "auditor", "operator"):
        browser = await portal.browser(f"{name}@example.org")
        assert "Change it" not in await page(browser, "/alerts/duty")
        assert (await send(browser, "/alerts/duty", {}))[0] == 403


async def test_a_factory_that_is_not_theirs_is_not_there(portal: Portal) -> None:
    browser = await portal.browser("manager@example.org")

    await page(browser, f"/alerts/duty?factory_id={portal.mungania.factory.id}", 404)
    await page(browser, "/alerts/duty?factory_id=x", 422)


# --- messages


async def test_nobody_was_told_of_anything_yet(portal: Portal) -> None:
    assert "Nobody was told of anything yet" in await page(
        await portal.browser("clerk@example.org"), "/alerts/messages"
    )


async def test_a_message_is_there_with_its_state_on_its_own_page_and_its_alerts(estate: Estate) -> None:
    number = int(await made_message(estate, estate.own, estate.callers[1]))
    message = await estate.store.message(number)
    assert message is not None
    browser = await estate.portal.browser("clerk@example.org")

    text = await page(browser, "/alerts/messages")

    assert "by " in text
    (alert_id,) = [
        alert.id
        for alert in await estate.store.alerts(only_open=False, limit=1000)
        if await estate.store.messages(alert_id=alert.id)
    ][:1]
    shown = await page(browser, f"/alerts/{alert_id}/")
    assert "Who was told" in shown
    assert "Nobody yet" not in shown


async def test_operators_try_a_message_again(estate: Estate) -> None:
    number = int(await made_message(estate, estate.own, estate.callers[1]))
    await estate.store.end_message(number, "failed", "no such mailbox", estate.portal.now)
    browser = await estate.portal.browser("operator@example.org")
    assert "no such mailbox" in await page(browser, "/alerts/messages?state=failed")

    status, text = await send(browser, f"/alerts/messages/{number}/retry")

    assert (status, "It is tried again now." in text) == (303, True)
    found = await estate.store.message(number)
    assert found is not None
    assert found.state == "waiting"
    await estate.store.end_message(number, "sent", "", estate.portal.now)
    _, text = await send(browser, f"/alerts/messages/{number}/retry")
    assert "It cannot be tried again: it was sent." in text
