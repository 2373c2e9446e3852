"""The trends of a factory: every step of the period, gaps as gaps, from the tier that fits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.web.trend_pages import MOST_POINTS, STEPS, fitting_step
from tests.support.html import page
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, NOON_MS, body, eventually, summarise_touched

URL = "/factory/kangaita/trends"
HOUR = timedelta(hours=1)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


async def measured(portal: Portal, begin: datetime, minutes: int, seq: int = 1) -> None:
    """Readings every 10 s, of a boiler that fires."""
    at_ms, before = round(begin.timestamp() * 1000), portal.core.outcomes()["committed"]
    count = minutes * 6
    for first in range(0, count, 300):
        part = body(seq + first, min(300, count - first), at_ms=at_ms + first * 10_000, step_ms=10_000)
        portal.core.tell("dev-001", part, received_at_ms=max(NOON_MS, at_ms))
    await eventually(lambda: portal.core.outcomes()["committed"] == before + count)
    await summarise_touched(portal.core.store)


async def trend(portal: Portal, since: datetime, until: datetime, **query: str) -> dict[str, Any]:
    client = await portal.signed_in("clerk@example.org")
    asked = {"from": since.isoformat(), "to": until.isoformat(), **query}
    answer = await client.get(f"{URL}.json", params=asked)
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


@given(
    begin=st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    lasts=st.timedeltas(timedelta(minutes=1), timedelta(days=365 * 5)),
)
def test_no_period_has_more_points_than_a_screen_and_none_fewer_than_it_could(
    begin: datetime, lasts: timedelta
) -> None:
    step = fitting_step(begin, begin + lasts)

    assert lasts / STEPS[step] <= MOST_POINTS
    finer = [name for name in STEPS if STEPS[name] < STEPS[step]]
    assert all(lasts / STEPS[name] > MOST_POINTS for name in finer)


async def test_every_step_of_the_period_is_there_and_a_gap_is_a_gap(portal: Portal) -> None:
    await measured(portal, NOON - HOUR, 20)

    found = await trend(portal, NOON - HOUR, NOON)

    (stack,) = found["stacks"]
    means = [mean for _, mean, *_ in stack["points"]]
    assert (found["step"], found["unit"]) == ("5min", "kg/h")
    assert len(means) == 12
    assert [mean is None for mean in means] == [False] * 4 + [True] * 8
    assert all(least <= mean <= most for _, mean, least, most, *_ in stack["points"] if mean is not None)


async def test_hours_are_those_of_the_account_with_what_it_puts_in_place_of_others(portal: Portal) -> None:
    await measured(portal, NOON - 3 * HOUR, 60)
    await measured(portal, NOON - 2 * HOUR, 10, seq=2000)
    await measured(portal, NOON - HOUR, 60, seq=3000)

    found = await trend(portal, NOON - 3 * HOUR, NOON, step="hour")

    (stack,) = found["stacks"]
    (_, first, *_), (_, second, _, _, coverage, substituted), (_, third, *_) = stack["points"]
    assert (first is None, second, third is None) == (False, None, False)
    assert coverage == pytest.approx(1 / 6, abs=0.01)
    assert substituted is not None
    assert substituted > 0


async def test_days_and_months_are_masses(portal: Portal) -> None:
    await measured(portal, NOON - 2 * HOUR, 120)
    five = await trend(portal, NOON - 2 * HOUR, NOON)
    in_kg = sum(mean / 12 for _, mean, *_ in five["stacks"][0]["points"])

    days = await trend(portal, NOON - timedelta(days=2), NOON, step="day")
    months = await trend(portal, NOON - timedelta(days=2), NOON, step="month")

    assert (days["unit"], months["unit"]) == ("t/day", "t/month")
    for found in (days, months):
        masses = [mean for _, mean, *_ in found["stacks"][0]["points"] if mean is not None]
        assert sum(masses) == pytest.approx(in_kg / 1000, rel=0.01)


async def test_a_step_of_which_there_would_be_too_many_is_not_drawn(portal: Portal) -> None:
    found = await trend(portal, NOON - timedelta(days=300), NOON, step="5min")

    assert found["step"] == "day"


async def test_the_page_has_the_numbers_without_javascript(portal: Portal) -> None:
    await measured(portal, NOON - HOUR, 20)

    text = await page(await portal.browser("clerk@example.org"), f"{URL}?from=2026-03-01&to=2026-03-01")

    assert "The same as a table" in text
    assert '<td class="num">100 %</td>' in text
    assert "resolution=5min" in text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "2026-03-01T12:00:00", "to": "2026-03-01T13:00:00Z"}, "from"),
        ({"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T11:00:00Z"}, "to"),
        ({"from": "2026-03-01T12:00:00Z", "to": "never"}, "to"),
        ({"from": "0001-01-01T00:00:00+14:00", "to": "2026-03-01T11:00:00Z"}, "from"),
    ],
)
async def test_a_period_that_cannot_be_is_refused(portal: Portal, query: dict[str, str], field: str) -> None:
    client = await portal.signed_in("clerk@example.org")

    answer = await client.get(f"{URL}.json", params=query)

    assert answer.status == 422, await answer.text()


async def test_a_page_whose_end_is_before_its_beginning_says_so(portal: Portal) -> None:
    browser = await portal.browser("clerk@example.org")

    assert "Must not be before" in await page(browser, f"{URL}?from=2026-03-02&to=2026-03-01", 422)
    assert "field-error" in await page(browser, f"{URL}?from=march", 422)
