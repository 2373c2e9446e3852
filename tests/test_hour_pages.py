"""The hours of a chimney: from a report's figure to what was measured, and what stands in where nothing was."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from carbontrack.bookkeeping import month
from carbontrack.ledger import Method
from carbontrack.model import MonitoringPlan
from carbontrack.web.hour_pages import CAUSE_TITLES, METHOD_TEXTS, STATUS_TITLES, plan_values
from carbontrack.web.ledger_pages import METHOD_TITLES
from tests.support.html import page
from tests.support.web import Portal, running_portal
from tests.support.world import NAIROBI, NOON
from tests.test_ledger_pages import measure_an_hour

HOURS = "/factory/kangaita/hours"
AT = NOON.astimezone(NAIROBI).hour
DAY = NOON.astimezone(NAIROBI).date()


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        running.now = NOON + timedelta(hours=3)
        await measure_an_hour(running)
        yield running


def number(text: str) -> float:
    return float(text.replace(",", ""))


def terms(shown: str) -> list[float]:
    """What stands in the table whose product is the mass."""
    table = shown[shown.index("The product of these is the mass") :]
    table = table[: table.index("</table>")]
    return [number(value) for value in re.findall(r'class="number">([\d.,]+)', table)]


async def test_the_terms_of_a_measured_hour_are_what_the_account_has(portal: Portal) -> None:
    manager = await portal.browser("manager@example.org")

    shown = await page(manager, f"{HOURS}?stack=1&day={DAY}&hour={AT}")

    services = portal.services
    (factory,) = [it for it in await services.store.factories() if it.slug == "kangaita"]
    start, _ = month(DAY, services.time_zone)
    _, (stack, *_) = await services.books.account_with_hours(factory, start, portal.now)
    (taken,) = [it for it in stack.hours if it.hour.start == NOON]
    assert taken.method is Method.MEASURED
    assert taken.co2_kg is not None
    assert re.search(rf"{AT:02d}:00.{AT + 1:02d}:00: {taken.co2_kg:,.1f} kg", shown)
    rate, seconds, ran = terms(shown)
    assert rate * seconds * ran == pytest.approx(taken.co2_kg, rel=1e-3)
    assert "profile_factor" in shown  # the plan that was in force


async def test_an_hour_that_was_not_measured_says_so_and_what_stands_in_for_it(portal: Portal) -> None:
    manager = await portal.browser("manager@example.org")

    shown = await page(manager, f"{HOURS}?stack=1&day={DAY}&hour={AT + 1}")

    assert "Nothing known" in shown
    assert "no readings" in shown


async def test_every_hour_of_the_day_leads_to_what_it_rests_on(portal: Portal) -> None:
    manager = await portal.browser("manager@example.org")

    shown = await page(manager, f"{HOURS}?day={DAY}")
    links = re.findall(rf'href="\?stack=1&amp;day={DAY}&amp;hour=(\d+)#explained"', shown)

    assert [int(it) for it in links] == list(range(AT + 3))
    account = await page(manager, f"/factory/kangaita/account?month={DAY:%Y-%m}")
    assert f'href="/factory/kangaita/hours?day={DAY}"' in account
    assert 'href="/factory/kangaita/hours?stack=1' in account


@pytest.mark.parametrize(
    ("query", "status"),
    [("?day=2026-02-30", 400), ("?day=2027-01-01", 400), ("?stack=99", 404), ("?stack=one", 200), ("?hour=99", 200)],
)
async def test_what_there_is_not_is_refused_and_what_is_odd_is_not(portal: Portal, query: str, status: int) -> None:
    manager = await portal.browser("manager@example.org")

    await page(manager, HOURS + query, status)


async def test_a_day_before_the_chimney_was_monitored_says_why_it_is_empty(portal: Portal) -> None:
    manager = await portal.browser("manager@example.org")

    shown = await page(manager, f"{HOURS}?day=1999-05-01")

    assert "no hours of this day" in shown or "Nothing known" in shown


def test_every_method_status_and_cause_has_its_words() -> None:
    assert METHOD_TEXTS.keys() == METHOD_TITLES.keys() == set(Method)
    assert set(STATUS_TITLES) == set(type(next(iter(STATUS_TITLES))))
    assert set(CAUSE_TITLES) == set(type(next(iter(CAUSE_TITLES))))


def test_a_plan_is_shown_whole_with_its_units() -> None:
    shown = {name: unit for name, _, unit in plan_values(MonitoringPlan())}

    assert shown["diameter_m"] == "m"
    assert shown["area_m2"] == "m²"
    assert shown["on_temperature_c"] == "°C"
    assert shown["u_co2"] == ""
