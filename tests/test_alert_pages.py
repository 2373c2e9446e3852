"""The pages of alerts, as those see them who act on them, and the same by the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from carbontrack.dispatch import Fold
from carbontrack.model import Alert, Finding
from tests.support.html import page, send
from tests.support.web import SAME_ORIGIN, Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually

HOT = Finding("gas is 401 °C, the limit is 350", 401.0, 350.0, "°C gas temperature")
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def fires(portal: Portal, of: str | int = "dev-001", rule: str = "hot", severity: str = "warning") -> Alert:
    found = await portal.core.store.raise_alert(of, rule, severity, HOT, portal.now - 5 * MINUTE)
    assert found is not None
    return found


async def again(portal: Portal, alert: Alert) -> Alert:
    found = await portal.core.store.alert(alert.id)
    assert found is not None
    return found


# --- the list


async def test_without_an_alert_the_page_says_that_all_is_well(portal: Portal) -> None:
    assert "no alert fires" in await page(await portal.browser("clerk@example.org"), "/alerts/")


async def test_a_factory_s_people_see_its_alerts_and_how_many_wait_and_no_others(portal: Portal) -> None:
    own, other = await fires(portal), await fires(portal, "dev-002")

    text = await page(await portal.browser("clerk@example.org"), "/alerts/")

    assert f'href="/alerts/{own.id}/"' in text
    assert f'href="/alerts/{other.id}/"' not in text
    assert '<span class="waiting">1<span class="hide"> not acknowledged' in text


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", {"hot", "late"}),
        ("?severity=info", {"late"}),
        ("?rule=hot", {"hot"}),
        ("?show=unseen", {"hot"}),
        ("?show=all", {"hot", "late", "over"}),
        ("?show=all&device_id=dev-001", {"hot", "over"}),
    ],
)
async def test_the_list_shows_what_was_chosen(portal: Portal, query: str, wanted: set[str]) -> None:
    store, factory_id = portal.core.store, portal.kangaita.factory.id
    found = {"hot": await fires(portal), "late": await fires(portal, factory_id, "late", "info")}
    found["over"] = await fires(portal, rule="over")
    await store.clear_alert("dev-001", "over", portal.now)
    await store.acknowledge_alert(found["late"].id, "", portal.now)

    text = await page(await portal.browser("hq@example.org"), f"/alerts/{query}")

    assert {name for name, alert in found.items() if f'href="/alerts/{alert.id}/"' in text} == wanted


async def test_an_alert_of_the_network_is_one_row_with_its_parts_on_its_page(portal: Portal) -> None:
    one, two = await fires(portal), await fires(portal, "dev-002")
    await portal.core.store.fold_alerts(Fold("hot", "warning", one.raised_at, two.raised_at), portal.now)

    (whole,) = [alert.id for alert in await portal.core.store.alerts(only_whole=True)]
    browser = await portal.browser("hq@example.org")
    listed, shown = await page(browser, "/alerts/"), await page(browser, f"/alerts/{whole}/")
    assert f'href="/alerts/{whole}/"' in listed
    assert f'href="/alerts/{one.id}/"' not in listed
    assert all(f'href="/alerts/{part.id}/"' in shown for part in (one, two))
    clerk = await portal.browser("clerk@example.org")
    await page(clerk, f"/alerts/{whole}/", 404)
    assert f'href="/alerts/{one.id}/"' in await page(clerk, "/alerts/"), "a factory's people see their part"

    await send(browser, f"/alerts/{whole}/acknowledge", {"comment": "a power cut"})
    assert [(await again(portal, part)).acknowledge_comment for part in (one, two)] == ["a power cut"] * 2


async def test_the_list_goes_on_where_it_ended(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbontrack.web.alert_pages.ALERTS_SHOWN", 2)
    made = [await fires(portal, rule=f"rule-{number}") for number in range(3)]
    browser = await portal.browser("hq@example.org")

    first = await page(browser, "/alerts/?rule=")
    after = unescape(first.split('href="/alerts/?cursor=', 1)[1].split('"', 1)[0])
    second = await page(browser, f"/alerts/?cursor={after}")

    assert [alert.id for alert in made if f'href="/alerts/{alert.id}/"' in first] == [made[1].id, made[2].id]
    assert [alert.id for alert in made if f'href="/alerts/{alert.id}/"' in second] == [made[0].id]


# --- one alert


async def test_an_alert_says_what_was_measured_the_limit_and_since_when(portal: Portal) -> None:
    alert = await fires(portal)

    text = await page(await portal.browser("clerk@example.org"), f"/alerts/{alert.id}/")

    for wanted in ("401.0 °C gas temperature", "350.0 °C gas temperature", HOT.message, "5 min", "Boiler"):
        assert wanted in text


async def test_what_somebody_writes_who_has_seen_it_is_there_for_the_next(portal: Portal) -> None:
    alert = await fires(portal)
    browser = await portal.browser("clerk@example.org")

    status, text = await send(browser, f"/alerts/{alert.id}/acknowledge", {"comment": " The fan is <off>. "})

    assert status == 303
    assert "You have acknowledged this alert" in text
    assert "The fan is &lt;off&gt;." in text
    assert "clerk@example.org" in text
    assert "I have seen it" not in text


async def test_who_was_first_to_see_it_stays(portal: Portal) -> None:
    alert = await fires(portal)
    for email, comment in (("clerk@example.org", "mine"), ("hq@example.org", "ours")):
        await send(await portal.browser(email), f"/alerts/{alert.id}/acknowledge", {"comment": comment})

    now = await again(portal, alert)

    assert (now.acknowledged_by, now.acknowledge_comment) == ("clerk@example.org", "mine")
    log = await portal.core.store.audit_events(subject_kind="alert")
    assert [(event.actor, event.action) for event in log] == [("clerk@example.org", "alert.acknowledged")]


async def test_it_is_shelved_for_a_time_with_a_reason_and_taken_back(portal: Portal) -> None:
    alert = await fires(portal)
    browser = await portal.browser("manager@example.org")
    url = f"/alerts/{alert.id}/"

    status, text = await send(browser, f"{url}shelve", {"hours": "4", "comment": ""})
    assert status == 422
    assert "field-error" in text
    status, text = await send(browser, f"{url}shelve", {"hours": "400", "comment": "cleaning"})
    assert (status, "Must lie ahead" in text) == (422, True)

    status, text = await send(browser, f"{url}shelve", {"hours": "4", "comment": "cleaning"})
    assert status == 303
    assert "Tell people again" in text
    shelved = await again(portal, alert)
    assert shelved.shelved_until == portal.services.clock() + timedelta(hours=4)
    assert shelved.is_shelved(portal.now)
    assert not shelved.is_shelved(portal.now + timedelta(hours=5))

    await send(browser, f"{url}unshelve", {})
    assert (await again(portal, alert)).shelved_until is None


async def test_an_auditor_looks_and_does_nothing(portal: Portal) -> None:
    alert = await fires(portal)
    browser = await portal.browser("auditor@example.org")

    text = await page(browser, f"/alerts/{alert.id}/")

    assert "I have seen it" not in text
    assert "Shelve" not in text
    assert (await send(browser, f"/alerts/{alert.id}/acknowledge", {"comment": ""}))[0] == 403


async def test_what_was_found_late_says_so_and_has_nothing_to_do(portal: Portal) -> None:
    late = await portal.core.store.add_late_alert(
        "dev-001", "hot", "warning", HOT, portal.now - 60 * MINUTE, portal.now - 50 * MINUTE
    )
    assert late is not None

    text = await page(await portal.browser("manager@example.org"), f"/alerts/{late.id}/")

    assert "Found late" in text
    assert "Nobody was told" in text
    assert "Shelve it" not in text


# --- the chart


async def measured(portal: Portal, seconds: list[int], celsius: float = 400.0) -> None:
    rows = [[place, 1000 * at, 1, 98_000, celsius, 4.0, 80.0, 0] for place, at in enumerate(seconds)]
    portal.core.tell("dev-001", body(1, len(rows), at_ms=NOON_MS - 120_000, rows=rows), received_at_ms=NOON_MS)
    await eventually(lambda: portal.core.outcomes()["committed"] == len(seconds))


async def test_the_chart_has_what_was_measured_around_it_with_its_gaps_and_the_limit(portal: Portal) -> None:
    await measured(portal, [0, 5, 10, 100, 105])
    alert = await portal.core.store.raise_alert("dev-001", "hot", "warning", HOT, NOON - timedelta(seconds=115))
    assert alert is not None
    client = await portal.signed_in("clerk@example.org")

    found: dict[str, Any] = await (await client.get(f"/alerts/{alert.id}/chart.json")).json()

    start = NOON.timestamp() - 120
    assert [at - start for at, _ in found["points"]] == [0, 5, 10, 55, 100, 105]
    assert [value for _, value in found["points"]] == [400.0, 400.0, 400.0, None, 400.0, 400.0]
    assert (found["limit"], found["unit"], found["raised_at"] - start) == (350.0, "°C", 5)
    text = await page(await portal.browser("clerk@example.org"), f"/alerts/{alert.id}/")
    assert "The same as a table" in text
    assert '<td class="num">400.0</td>' in text


async def test_of_what_is_not_kept_there_is_no_chart(portal: Portal) -> None:
    alert = await fires(portal)
    client = await portal.signed_in("clerk@example.org")

    assert (await client.get(f"/alerts/{alert.id}/chart.json")).status == 404
    assert "chart-plot" not in await page(await portal.browser("clerk@example.org"), f"/alerts/{alert.id}/")


# --- the API


async def test_programs_read_alerts_and_people_act_on_them(portal: Portal) -> None:
    alert = await fires(portal)
    client = await portal.signed_in("manager@example.org")
    url = f"/api/alerts/{alert.id}/"

    until = (portal.now + timedelta(days=2)).isoformat()
    seen = await (await client.post(f"{url}ack/", json={"comment": "on my way"}, headers=SAME_ORIGIN)).json()
    shelved = await (
        await client.post(f"{url}shelve/", json={"until": until, "comment": "cleaning"}, headers=SAME_ORIGIN)
    ).json()
    back = await (await client.delete(f"{url}shelve/", headers=SAME_ORIGIN)).json()

    assert (seen["acknowledged_by"], seen["acknowledge_comment"]) == ("manager@example.org", "on my way")
    assert (shelved["shelve_comment"], back["shelved_until"]) == ("cleaning", None)
    assert (await (await client.get(url)).json()) == back
    assert (back["value"], back["limit"], back["unit"]) == (401.0, 350.0, "°C gas temperature")


@pytest.mark.parametrize("days", [-1, 0, 32])
async def test_no_alert_is_shelved_until_a_time_that_is_over_or_far_away(portal: Portal, days: int) -> None:
    alert = await fires(portal)
    client = await portal.signed_in("manager@example.org")
    given = {"until": (portal.now + timedelta(days=days)).isoformat(), "comment": "cleaning"}

    answer = await client.post(f"/api/alerts/{alert.id}/shelve/", json=given, headers=SAME_ORIGIN)

    assert answer.status == 422
    assert [error["field"] for error in (await answer.json())["errors"]] == ["until"]


async def test_what_has_cleared_is_not_shelved(portal: Portal) -> None:
    alert = await fires(portal)
    await portal.core.store.clear_alert("dev-001", "hot", portal.now)
    client = await portal.signed_in("manager@example.org")
    given = {"until": (portal.now + timedelta(days=1)).isoformat(), "comment": "cleaning"}

    assert (await client.post(f"/api/alerts/{alert.id}/shelve/", json=given, headers=SAME_ORIGIN)).status == 409
