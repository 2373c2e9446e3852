"""Headquarters' pages: their numbers are those of the accounts, and what is not known is said."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from carbontrack.emissions.accounts import Account, Corroboration, CorroborationStatus
from carbontrack.emissions.factors import FactorSet
from carbontrack.ledger import Day, Metric, Target, TargetStatus
from carbontrack.model import Factory, Origin
from carbontrack.months import FORGET_S, FRESH_S, FactoryMonth, MonthBook, together
from carbontrack.periods import months_until
from carbontrack.shared import RedisShelf, opened_redis
from carbontrack.web.compare_pages import part_value
from carbontrack.web.leaderboard_pages import spark_of, trend_of
from carbontrack.web.network_map import Marker, apart, factory_state, first_view, marker_size, place
from carbontrack.web.network_pages import CellState, calendar_cell, due_on
from carbontrack.web.present import NO_VALUE
from tests.support.html import Browser, page
from tests.support.redis import Redis
from tests.support.web import Portal, running_portal
from tests.support.world import NOON, Clock, factory
from tests.support.year import enter, measure

HQ = Origin("hq@example.org")
JANUARY, FEBRUARY, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)
WOOD_KG = 140_000.0
"""What burns to the CO2 that :func:`measure` makes of a February."""
PAGES = ("/hq/map", "/hq/programme", "/hq/regions", "/hq/calendar", "/hq/compare", "/hq/leaderboard")


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


@pytest.fixture
async def hq(portal: Portal) -> Browser:
    return await portal.browser("hq@example.org")


@pytest.fixture
async def filled(portal: Portal) -> Portal:
    """Two months of two factories; Mungania has measured half of February and entered no tea."""
    store = portal.core.store
    for site, rate in ((portal.kangaita, 0.1), (portal.mungania, 0.12)):
        await measure(store, site.stack.id, JANUARY, kg_per_s=rate)
    await measure(store, portal.kangaita.stack.id, FEBRUARY)
    await measure(store, portal.mungania.stack.id, FEBRUARY, share=0.5)
    for first in (JANUARY, FEBRUARY):
        await enter(store, portal.kangaita.factory.id, first, wood_kg=WOOD_KG, tea_kg=60_000, diesel_l=2000)
        await enter(store, portal.mungania.factory.id, first, wood_kg=150_000, tea_kg=None)
    target = Target(0, portal.kangaita.factory.id, Metric.STACK_CO2_PER_TEA, 3.5, JANUARY)
    await store.add_target(target, HQ, NOON)
    return portal


async def account(portal: Portal, factory_id: int, month: str) -> dict[str, Any]:
    client = await portal.signed_in("hq@example.org")
    answer = await client.get(f"/api/factories/{factory_id}/account/", params={"month": month})
    assert answer.status == 200, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


def plain(text: str) -> str:
    """A page's words, one space between them."""
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


# --- the accounts by month


async def test_a_month_book_has_what_the_books_say_and_keeps_it(filled: Portal) -> None:
    clock = Clock()
    book = MonthBook(filled.services.books, filled.services.clock, clock)
    factories = [filled.kangaita.factory, filled.mungania.factory]

    months = await book.ask(factories, [JANUARY, FEBRUARY, date(2026, 4, 1)])

    assert (months.missing, months.total) == (0, 4)  # April has not begun
    for it in factories:
        begin, end = datetime(2026, 1, 31, 21, tzinfo=UTC), datetime(2026, 2, 28, 21, tzinfo=UTC)
        kept = months.found[it.id, FEBRUARY].account
        assert kept == await filled.services.books.account(it, begin, end)
    assert months.found[filled.kangaita.factory.id, FEBRUARY].target is TargetStatus.MET
    again = await book.ask(factories, [FEBRUARY])
    assert again.found[1, FEBRUARY] is months.found[1, FEBRUARY]
    await book.close()


async def test_one_process_works_a_month_out_for_all_of_a_site(filled: Portal, redis: Redis) -> None:
    clock, books, factories = Clock(), filled.services.books, [filled.kangaita.factory]
    async with opened_redis(redis.url) as client:
        one, other = (MonthBook(books, filled.services.clock, clock, RedisShelf(client)) for _ in range(2))
        made = (await one.ask(factories, [FEBRUARY])).found[1, FEBRUARY]
        await enter(filled.core.store, 1, FEBRUARY, wood_kg=1000, tea_kg=None)  # who worked it out anew would see it

        found = (await other.ask(factories, [FEBRUARY])).found[1, FEBRUARY]

        assert (found.account, found.target) == (made.account, made.target)
        redis.stop()
        own = (
            await MonthBook(books, filled.services.clock, clock, RedisShelf(client)).ask(factories, [FEBRUARY])
        ).found
        assert own[1, FEBRUARY].account != made.account, "without Redis each works by itself"
    await one.close()
    await other.close()


async def test_what_is_old_is_shown_while_it_is_worked_out_anew(filled: Portal) -> None:
    clock = Clock()
    book = MonthBook(filled.services.books, filled.services.clock, clock)
    factories = [filled.kangaita.factory]
    before = (await book.ask(factories, [FEBRUARY])).found[1, FEBRUARY]
    await enter(filled.core.store, 1, FEBRUARY, wood_kg=1000, tea_kg=None)
    clock.now += FRESH_S

    shown = (await book.ask(factories, [FEBRUARY])).found[1, FEBRUARY]
    await book.finished()
    after = (await book.ask(factories, [FEBRUARY])).found[1, FEBRUARY]

    assert shown is before
    assert after.account is not None
    assert before.account is not None
    assert after.account.wood_kg == WOOD_KG + 1000 == (before.account.wood_kg or 0) + 1000
    await book.close()


async def test_who_asks_for_much_is_told_how_much_is_still_to_come(filled: Portal) -> None:
    book = MonthBook(filled.services.books, filled.services.clock, Clock())

    months = await book.ask([filled.kangaita.factory], months_until(FEBRUARY, 24), patience_s=0.0)
    await book.finished()
    later = await book.ask([filled.kangaita.factory], months_until(FEBRUARY, 24), patience_s=0.0)

    assert months.missing > 0
    assert months.done == months.total - months.missing
    assert (later.missing, later.done) == (0, 24)
    await book.close()


async def test_what_nobody_asks_for_is_forgotten(filled: Portal) -> None:
    clock = Clock()
    book = MonthBook(filled.services.books, filled.services.clock, clock)
    await book.ask([filled.kangaita.factory], [JANUARY])
    clock.now += FORGET_S
    await book.ask([filled.kangaita.factory], [FEBRUARY])

    january = await book.ask([filled.kangaita.factory], [JANUARY], patience_s=0.0)

    assert january.missing == 1
    await book.close()


async def test_one_factorys_missing_factor_is_said_and_keeps_no_other_from_its_account(filled: Portal) -> None:
    without = replace(filled.services.books, factors=FactorSet.of([]))
    book = MonthBook(without, filled.services.clock, Clock())

    months = await book.ask([filled.kangaita.factory, factory("Nowhere", id=99)], [FEBRUARY])

    assert months.missing == 0
    assert months.found[1, FEBRUARY].problem
    assert months.found[99, FEBRUARY] == replace(months.found[99, FEBRUARY], account=None, problem="")
    await book.close()


def test_the_sum_of_nothing_is_not_zero() -> None:
    found = together(3, [FactoryMonth(None), FactoryMonth(None, problem="a factor is missing")])

    assert (found.factories, found.with_data, found.submitting, found.with_target) == (3, 0, 0, 0)
    assert (found.biogenic.kg, found.known, found.wood_per_tea, found.stack_per_tea) == (None, None, None, None)


# --- without anything


@pytest.mark.parametrize("path", PAGES)
async def test_a_network_without_factories_says_so(portal: Portal, hq: Browser, path: str) -> None:
    for site in (portal.kangaita, portal.mungania):
        await portal.core.store.change_factory(site.factory.id, {"is_active": False}, by=HQ)

    text = await page(hq, path)

    assert "There are no factories yet" in text or "Nothing to rank yet" in text


@pytest.mark.parametrize("path", PAGES)
async def test_factories_without_a_reading_have_no_numbers(portal: Portal, hq: Browser, path: str) -> None:
    text = await page(hq, path)

    assert "Kangaita" in text or "of 2" in text or "2 factories" in text
    assert "None" not in text
    assert "nan" not in plain(text).lower().split()


@pytest.mark.parametrize("path", [*PAGES, "/hq/table", "/hq/calendar.csv", "/hq/compare.csv"])
async def test_the_networks_pages_are_not_a_factorys(portal: Portal, path: str) -> None:
    clerk = await portal.browser("clerk@example.org")

    await page(clerk, path, 403)


# --- the programme


async def test_the_programme_has_the_sums_of_the_accounts(filled: Portal, hq: Browser) -> None:
    accounts = [await account(filled, it, "2026-02") for it in (1, 2)]

    text = plain(await page(hq, "/hq/programme?month=2026-02"))

    for name in ("biogenic_co2", "fossil_co2", "ch4_n2o_co2e"):
        tonnes = sum(it[name]["value_kg"] or 0.0 for it in accounts) / 1000
        assert f"{tonnes:,.1f} t" in text
    assert f"Grid electricity, as CO₂e {NO_VALUE} t" in text
    assert f"{WOOD_KG / 60_000:.2f} kg/kg" in text  # only Kangaita has entered both
    assert "1 of 2 factories entered wood and tea" in text
    assert "The same as a table" in text


async def test_the_programmes_counts_are_those_of_the_api(filled: Portal, hq: Browser) -> None:
    client = await filled.signed_in("hq@example.org")
    answer = await client.get("/api/factories/leaderboard/", params={"month": "2026-02"})
    programme = (await answer.json())["programme"]

    text = plain(await page(hq, "/hq/programme?month=2026-02"))

    assert f"Uptime {round(programme['uptime'] * 100)} % of all chimney hours are known" in text
    assert f"Submitting {programme['submitting']} of {programme['factories']}" in text
    assert f"Meeting their targets {programme['meeting_target']} of {programme['with_target']}" in text


# --- regions


async def test_a_region_has_its_factories_and_their_numbers(filled: Portal, hq: Browser) -> None:
    await filled.core.store.change_factory(filled.mungania.factory.id, {"region": "4"}, by=HQ)
    kangaita = await account(filled, 1, "2026-02")

    text = await page(hq, "/hq/regions?month=2026-02&region=East+of+Rift&sort=intensity")

    row = plain(text.partition('id="members"')[2])
    tonnes = kangaita["biogenic_co2"]["value_kg"] / 1000
    assert f"Kangaita {tonnes:,.1f}" in row
    assert "Mungania" not in row
    assert "Region 4" in text
    assert 'aria-sort="ascending"' in text


async def test_a_region_or_an_order_that_is_not_there_is_refused(portal: Portal, hq: Browser) -> None:
    await page(hq, "/hq/regions?region=Atlantis", 404)
    await page(hq, "/hq/regions?sort=beauty", 400)


# --- the calendar


def month_of(**changed: Any) -> FactoryMonth:
    """An account in which all is as it should be, but for what is changed."""
    values: dict[str, Any] = {"made_tea_kg": 1.0, "wood_kg": 1.0, "availability": 0.9, "corroboration": "inside"}
    values |= changed
    found = object.__new__(Account)
    for name, value in values.items():
        if name in Account.__slots__:
            object.__setattr__(found, name, _corroboration(value) if name == "corroboration" else value)
    return FactoryMonth(found, values.get("target"))


def _corroboration(status: str) -> Any:
    return Corroboration(1.0, 1.0, 1.0, (0.85, 1.15), CorroborationStatus(status))


TODAY = date(2026, 3, 2)


@pytest.mark.parametrize(
    ("found", "version", "state", "overdue"),
    [
        (month_of(), None, CellState.COMPLETE, False),
        (month_of(), 2, CellState.REPORTED, False),
        (month_of(wood_kg=None), None, CellState.ENTRIES, False),
        (month_of(made_tea_kg=None, availability=0.5), None, CellState.ENTRIES, False),
        (month_of(availability=0.79), None, CellState.COVERAGE, False),
        (month_of(availability=None), None, CellState.COVERAGE, False),
        (month_of(corroboration="outside"), None, CellState.CORROBORATION, False),
        (month_of(corroboration="no_fuel"), None, CellState.COMPLETE, False),
        (month_of(target=TargetStatus.NOT_MET), None, CellState.TARGET, False),
        (month_of(target=TargetStatus.INSUFFICIENT_DATA), None, CellState.COMPLETE, False),
        (FactoryMonth(None), None, CellState.NOT_MONITORED, False),
        (FactoryMonth(None, problem="a factor is missing"), None, CellState.PROBLEM, False),
        (None, None, CellState.UNKNOWN, False),
        (None, 1, CellState.REPORTED, False),
    ],
)
def test_a_month_comes_to_what_is_to_be_done_first(
    found: FactoryMonth | None, version: int | None, state: CellState, overdue: bool
) -> None:
    cell = calendar_cell(FEBRUARY, found, version, TODAY)

    assert (cell.state, cell.overdue) == (state, overdue)
    assert cell.text


def test_a_month_is_due_on_the_third_and_overdue_from_the_fourth() -> None:
    assert due_on(FEBRUARY) == date(2026, 3, 3)
    assert due_on(date(2025, 12, 1)) == date(2026, 1, 3)
    assert not calendar_cell(FEBRUARY, month_of(), None, date(2026, 3, 3)).overdue
    assert calendar_cell(FEBRUARY, month_of(), None, date(2026, 3, 4)).overdue
    assert not calendar_cell(FEBRUARY, month_of(), 1, date(2026, 3, 4)).overdue
    assert not calendar_cell(FEBRUARY, FactoryMonth(None), None, date(2026, 3, 4)).overdue


def test_the_month_that_runs_and_those_to_come_are_not_due() -> None:
    assert calendar_cell(MARCH, month_of(), None, TODAY).state is CellState.RUNNING
    assert calendar_cell(date(2026, 4, 1), None, None, TODAY).state is CellState.FUTURE


async def test_the_calendar_says_who_has_not_reported(filled: Portal, hq: Browser) -> None:
    before = plain(await page(hq, "/hq/calendar"))
    begin, end = datetime(2026, 1, 31, 21, tzinfo=UTC), datetime(2026, 2, 28, 21, tzinfo=UTC)
    await filled.services.books.report(filled.kangaita.factory, begin, end, by=HQ, now=NOON)

    after = await page(hq, "/hq/calendar")

    assert "Due next: February 2026, on 3 March" in before
    assert "0 of 2 factories have reported it." in before
    assert "1 of 2 factories have reported it." in plain(after)
    assert re.search(r'data-month="reported" href="/factory/kangaita/account\?month=2026-02"', after)
    assert re.search(r'data-month="entries" href="/factory/mungania/account\?month=2026-02"', after)
    assert "Entries are missing; Too little is measured" in after


async def test_the_calendar_is_a_file_as_well(filled: Portal, hq: Browser) -> None:
    answer = await hq.get("/hq/calendar.csv?year=2026")

    assert answer.status == 200
    assert answer.headers["Content-Disposition"] == 'attachment; filename="carbontrack-calendar-2026.csv"'
    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert len(rows) == 24
    states = {(row["factory"], row["month"]): (row["state"], row["due"], row["overdue"]) for row in rows}
    assert states["Kangaita", "2026-01"] == ("complete", "2026-02-03", "true")
    assert states["Mungania", "2026-02"] == ("entries", "2026-03-03", "false")
    assert states["Mungania", "2026-12"] == ("future", "2027-01-03", "false")


async def test_a_year_that_cannot_be_is_refused(portal: Portal, hq: Browser) -> None:
    await page(hq, "/hq/calendar?year=never", 422)
    await page(hq, "/hq/calendar?year=3000", 422)


# --- factories beside each other


async def test_a_comparison_has_the_accounts_numbers_and_gaps(filled: Portal, hq: Browser) -> None:
    kangaita = await account(filled, 1, "2026-02")
    asked = "/hq/compare{}?factory=kangaita&factory=mungania&measure=intensity&from=2025-12&to=2026-02"

    text = await page(hq, asked.format(""))
    answer = await hq.get(asked.format(".csv"))

    value = kangaita["intensities"]["stack_co2_kg_per_kg_made_tea"]
    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [row["from"] for row in rows[::2]] == ["2025-12-01", "2026-01-01", "2026-02-01"]
    values = {(row["factory"], row["from"]): row["value"] for row in rows}
    assert float(values["Kangaita", "2026-02-01"]) == pytest.approx(value, abs=1e-6)
    assert values["Kangaita", "2025-12-01"] == values["Mungania", "2026-02-01"] == ""
    assert f'<td class="num">{value:.2f}</td><td class="num">{NO_VALUE}</td>' in text
    assert ".csv?factory=kangaita&amp;factory=mungania" in text


async def test_days_are_compared_by_what_was_measured(filled: Portal, hq: Browser) -> None:
    answer = await hq.get("/hq/compare.csv?factory=kangaita&factory=mungania&measure=co2&step=day&to=2026-02")
    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    values = {(row["factory"], row["from"]): row["value"] for row in rows}
    coverage = await page(hq, "/hq/compare?factory=kangaita&factory=mungania&measure=coverage&to=2026-02&from=2026-02")

    assert len(rows) == 2 * 28
    assert float(values["Kangaita", "2026-02-10"]) == pytest.approx(18 * 3.6 * 0.1)
    assert values["Mungania", "2026-02-20"] == ""
    assert '<td class="num">100</td><td class="num">50</td>' in coverage


@pytest.mark.parametrize(
    "query",
    [
        "factory=kangaita",
        "factory=kangaita&factory=nowhere",
        "factory=kangaita&factory=mungania&measure=beauty",
        "factory=kangaita&factory=mungania&from=2026-02&to=2026-01",
        "factory=kangaita&factory=mungania&from=2010-01",
        "factory=kangaita&factory=mungania&from=soon",
    ],
)
async def test_what_cannot_be_compared_is_said(portal: Portal, hq: Browser, query: str) -> None:
    text = await page(hq, f"/hq/compare?{query}", 422)

    assert 'role="alert"' in text
    assert (await hq.get(f"/hq/compare.csv?{query}")).status == 400


def test_a_part_without_a_chimney_has_no_value_and_an_unmeasured_one_no_coverage() -> None:
    day = Day(1, FEBRUARY, 24, 0, 0, 20.0, 1.0, 100.0, 100.0, 0.1, 0.1, 0.1, 8640, 0)
    begins: dict[int, date | None] = {1: FEBRUARY, 2: date(2026, 2, 5)}

    assert part_value("coverage", [JANUARY], {}, begins) is None
    assert part_value("coverage", [FEBRUARY], {}, begins) == 0.0
    assert part_value("co2", [FEBRUARY], {}, begins) is None
    assert part_value("coverage", [date(2026, 2, 6)], {date(2026, 2, 6): {1: day}}, begins) == 50.0
    assert part_value("hours", [FEBRUARY], {FEBRUARY: {1: day}}, begins) == 20.0


# --- the leaderboard


async def test_the_leaderboard_says_less_in_three_ways_and_keeps_fossil_apart(filled: Portal, hq: Browser) -> None:
    await measure(filled.core.store, 1, FEBRUARY, kg_per_s=0.08)
    february = await account(filled, 1, "2026-02")

    text = plain(await page(hq, "/hq/leaderboard?month=2026-02"))

    assert "↓" in text
    assert "less than before" in text
    assert f"{february['fossil_co2']['value_kg'] / 1000:.1f}" in text
    assert "Only 50 % of the operating hours are valid; 80 % are needed." in text or "no figure" in text


async def test_the_leaderboard_is_of_one_month_or_of_several(filled: Portal, hq: Browser) -> None:
    text = await page(hq, "/hq/leaderboard?month=2026-02&months=3")

    assert re.search("December 2025 . February 2026", text)
    await page(hq, "/hq/leaderboard?months=2", 400)


def test_a_change_of_nothing_is_no_change() -> None:
    assert trend_of(None) is None
    assert [(it.arrow, it.word) for it in map(trend_of, (-0.2, 0.2, 0.001)) if it] == [
        ("↓", "less"),
        ("↑", "more"),
        ("→", "same"),
    ]


async def test_a_line_of_months_has_gaps(filled: Portal) -> None:
    book = MonthBook(filled.services.books, filled.services.clock, Clock())
    firsts = months_until(FEBRUARY, 4)
    months = await book.ask([filled.kangaita.factory], firsts)
    await book.close()

    spark = spark_of(months, 1, firsts, Metric.STACK_CO2_PER_TEA)

    assert [it is None for it in spark.values] == [True, True, False, False]
    assert spark.path.startswith("M40.0 ")
    assert len(spark.dots) == 1


# --- the map


def marker(name: str = "Kangaita", **changed: Any) -> Marker:
    at: Factory = factory(name, **changed)
    x, y = place(at.longitude or 0.0, at.latitude or 0.0)
    return Marker(at, "firing", 0.1, 1, 1, x, y, x, y)


@pytest.mark.parametrize(
    ("devices", "states", "expected"),
    [
        (0, [], "none"),
        (1, [], "offline"),
        (1, ["no_data"], "offline"),
        (2, ["offline", "offline"], "offline"),
        (2, ["firing", "offline"], "trouble"),
        (2, ["firing", "fault"], "trouble"),
        (1, ["unfit"], "trouble"),
        (2, ["idle", "firing"], "firing"),
        (2, ["idle", "idle"], "idle"),
    ],
)
def test_a_factory_has_one_state(devices: int, states: list[str], expected: str) -> None:
    assert factory_state(devices, states) == expected


def test_factories_at_one_place_are_drawn_apart_and_others_stay() -> None:
    together_there = [marker(f"Factory {number}") for number in range(5)]
    far = marker("Chinga", latitude=-1.0, longitude=35.0)

    drawn = apart([*together_there, far], 10.0)

    places = [(it.at_x, it.at_y) for it in drawn]
    for one in range(len(places)):
        for other in range(one):
            dx, dy = places[one][0] - places[other][0], places[one][1] - places[other][1]
            assert (dx * dx + dy * dy) ** 0.5 >= 9.0
    assert (drawn[-1].at_x, drawn[-1].at_y) == (far.x, far.y)
    assert not drawn[-1].is_moved


def test_the_first_view_has_all_places_in_it() -> None:
    places = [place(34.6, -0.2), place(37.9, -1.0)]

    view = first_view(places)

    assert all(view.x < x < view.x + view.width and view.y < y < view.y + view.height for x, y in places)
    assert view.width / view.height == pytest.approx(4 / 3)
    assert first_view([]).width == 1300


def test_a_marker_grows_with_what_it_emits_up_to_an_end() -> None:
    sizes = [marker_size(it) for it in (None, 0.0, 0.01, 0.1, 0.28, 9.0)]

    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0.7, 1.4)


async def test_the_map_has_who_has_a_place_and_lists_who_has_none(portal: Portal, hq: Browser) -> None:
    nowhere = {"latitude": None, "longitude": None}
    await portal.core.store.change_factory(portal.mungania.factory.id, nowhere, by=HQ)

    text = await page(hq, "/hq/map")

    assert text.count('class="factory"') == 1
    assert f"Kangaita: Offline, {NO_VALUE} kg/h" in text
    assert '<a href="/factory/mungania/">Mungania</a>' in text.partition("Without a place")[2]
    assert "Places are approximate" in text


async def test_what_somebody_looked_at_last_is_shown_first(portal: Portal, hq: Browser) -> None:
    first = await hq.get("/", allow_redirects=False)
    await page(hq, "/hq/map")
    second = await hq.get("/", allow_redirects=False)
    back = await hq.get("/hq/table", allow_redirects=False)
    third = await hq.get("/", allow_redirects=False)

    assert [it.headers["Location"] for it in (first, second, back, third)] == ["/hq/", "/hq/map", "/hq/", "/hq/"]
