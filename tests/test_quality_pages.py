"""How well factories were measured, day by day: the sums, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ledger import Day
from carbontrack.web.quality_pages import quality_of
from tests.support.html import page
from tests.support.web import Portal, running_portal
from tests.support.world import factory

FIRST = date(2026, 2, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(10)]
ALWAYS = date(2020, 1, 1)


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


def day(number: int, coverage: float, *, valid: int = 24, off: int = 0, count: int = 100, late: int = 0) -> Day:
    values: dict[str, Any] = {"operating_h": 10.0, "co2_kg": 1.0, "measured_kg": 1.0}
    rates: dict[str, Any] = {"mean_kg_per_s": None, "min_kg_per_s": None, "max_kg_per_s": None}
    hours = {"valid_hours": valid, "not_operating_hours": off, "invalid_hours": 24 - valid - off}
    return Day(
        stack_id=1, day=DAYS[number], coverage=coverage, count=count, late_count=late, **hours, **values, **rates
    )  # fmt: skip


def by_day(*days: Day) -> Mapping[date, Day]:
    return {it.day: it for it in days}


def test_a_day_without_anything_counts_and_what_was_before_the_monitoring_does_not() -> None:
    found = {1: by_day(*(day(number, 1.0, late=10) for number in range(5, 8)))}

    quality = quality_of(factory(), {1: DAYS[4]}, found, DAYS)

    assert [cell.level for cell in quality.cells] == ["none"] * 4 + ["bad"] + ["full"] * 3 + ["bad"] * 2
    assert quality.coverage == pytest.approx(3 / 6)
    assert quality.substituted == pytest.approx(3 / 6)
    assert quality.missing_h == pytest.approx(3 * 24)
    assert quality.late == pytest.approx(0.1)
    assert quality.longest_gap_days == 2


def test_a_boiler_that_is_off_is_known_and_nothing_is_put_in_its_place() -> None:
    quality = quality_of(factory(), {1: ALWAYS}, {1: by_day(day(0, 1.0, valid=10, off=14))}, DAYS[:1])

    assert (quality.coverage, quality.substituted) == (1.0, 0.0)


def test_the_chimneys_of_a_factory_count_alike() -> None:
    found = {1: by_day(day(0, 1.0)), 2: by_day(day(0, 0.5, valid=12))}

    quality = quality_of(factory(), {1: ALWAYS, 2: ALWAYS}, found, DAYS[:1])

    assert (quality.coverage, quality.substituted) == (0.75, 0.25)


def test_a_factory_that_was_not_to_be_measured_has_no_quality() -> None:
    quality = quality_of(factory(), {1: date(2027, 1, 1)}, {}, DAYS)

    assert (quality.coverage, quality.substituted, quality.late, quality.missing_h) == (None, None, None, 0)


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=10))
def test_shares_are_shares_and_hours_add_up(shares: list[float | None]) -> None:
    found = {1: by_day(*(day(at, it, valid=round(24 * it)) for at, it in enumerate(shares) if it is not None))}

    quality = quality_of(factory(), {1: ALWAYS}, found, DAYS[: len(shares)])

    assert quality.coverage is not None
    assert quality.substituted is not None
    assert 0 <= quality.coverage <= 1
    assert 0 <= quality.substituted <= 1
    assert quality.missing_h + quality.coverage * 24 * len(shares) == pytest.approx(24 * len(shares))


async def test_the_page_has_every_factory_the_worst_first(portal: Portal) -> None:
    browser = await portal.browser("hq@example.org")

    text = await page(browser, "/hq/quality?month=2026-02")

    assert text.index("Kangaita") < text.index("Mungania")
    assert "28 days less than half" in text
    assert "Nothing for 28 days in a row" in text
    assert "0 of 2 factories" in text
    assert 'href="?month=2026-01"' in text


async def test_a_month_that_has_just_begun_says_so(portal: Portal) -> None:
    assert "No day of this month is over yet" in await page(await portal.browser("auditor@example.org"), "/hq/quality")


@pytest.mark.parametrize("month", ["2027-01", "march"])
async def test_a_month_that_cannot_be_is_refused(portal: Portal, month: str) -> None:
    await page(await portal.browser("hq@example.org"), f"/hq/quality?month={month}", 400)
