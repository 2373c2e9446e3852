"""The tables of a report that compare, and that tell what was changed: each with a small store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.bookkeeping import shipped_factors
from carbontrack.compliance import Cell, ComplianceReport, rows_of
from carbontrack.compliance_tables import difference
from carbontrack.ledger import Factor, Metric, ProductionEntry, Statement, Target, WoodOrigin
from carbontrack.model import MonitoringPlan
from carbontrack.reported import Reported, medians, newest, together
from carbontrack.store import Store
from carbontrack.store.tiers import TierWork
from tests.test_bookkeeping import hour
from tests.test_compliance import BY, DAY, END, HOUR, NOW, START, complete, energy, reported, store

__all__ = ["store"]

TEA, WOOD = Metric.STACK_CO2_PER_TEA, Metric.WOOD_PER_TEA


def rows(report: ComplianceReport, table: str, **wanted: Cell) -> list[Mapping[str, Cell]]:
    return list(rows_of(report.table(table), **wanted))


# --- what others, and the same factory a year ago, have reported


def said(start: datetime, end: datetime, tea: float | None, **of: float | None) -> Reported:
    return Reported(start, end, tea, {Metric(name): value for name, value in of.items()})


@given(
    st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 100)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_months_taken_together_are_the_ratio_of_their_sums(months: list[tuple[float, float]], dice: Any) -> None:
    parts = [
        said(START + at * DAY, START + (at + 1) * DAY, tea, **{TEA: value}) for at, (tea, value) in enumerate(months)
    ]
    dice.shuffle(parts)

    found = together(parts, START, START + len(months) * DAY)

    assert found[TEA] == pytest.approx(sum(tea * value for tea, value in months) / sum(tea for tea, _ in months))


def test_a_period_with_a_gap_or_a_month_without_tea_has_no_intensity() -> None:
    first, second = (
        said(START, START + DAY, 10.0, **{TEA: 2.0}),
        said(START + DAY, START + 2 * DAY, None, **{TEA: None}),
    )

    assert together([first], START, START + 2 * DAY) == {}
    assert together([first, second], START, START + 2 * DAY) == {}
    assert together([first, second], START, START + DAY) == {TEA: 2.0}


def test_a_median_is_told_of_three_factories_and_of_no_fewer() -> None:
    assert medians([{TEA: 1.0}, {TEA: 3.0}]) == {}
    assert medians([{TEA: 1.0}, {TEA: 3.0, WOOD: 1.0}, {TEA: 5.0}]) == {TEA: (3.0, 3)}


def test_of_a_corrected_statement_the_newest_version_counts() -> None:
    first = Statement(1, 7, START, END, 1, "{}", "", "a", NOW)

    assert newest([replace(first, id=2, version=2), first]) == [replace(first, id=2, version=2)]


async def report_figures(store: Store, factory_id: int, start: datetime, end: datetime, value: float) -> None:
    figures = json.dumps({"made_tea_kg": 100.0, "intensities": {TEA: value}})
    await store.add_statement(factory_id, start, end, figures, "ab" * 32, BY, NOW, "")


async def test_a_report_is_held_against_the_network_and_a_year_before(store: Store) -> None:
    site = await complete(store)
    others = [
        await complete(store, name, f"dev-00{at}") for at, name in enumerate(("Imenti", "Mungania", "Kimunye"), 2)
    ]
    for value, other in zip((1.0, 2.0, 4.0), others, strict=True):
        await report_figures(store, other.factory.id, START, END, value)
    start, end = (moment.replace(year=moment.year - 1) for moment in (START, END))
    await report_figures(store, site.factory.id, start, end, 3.0)

    (row,) = rows(await reported(store, site.factory), "comparison", metric=TEA.value)

    assert (row["median"], row["reported_by"]) == (2.0, 3)
    assert row["baseline"] == 3.0
    assert str(row["baseline_from"]).startswith("reported, from 2025-03-01")
    assert isinstance(row["value"], float)
    assert row["change"] == pytest.approx(row["value"] / 3.0 - 1)


async def test_the_target_s_baseline_goes_before_what_was_reported(store: Store) -> None:
    site = await complete(store)
    target = Target(0, site.factory.id, TEA, 2.0, date(2026, 1, 1), baseline_year=2024, baseline_value=2.5)
    await store.add_target(target, BY, NOW)

    (row,) = rows(await reported(store, site.factory), "comparison", metric=TEA.value)

    assert (row["baseline"], row["baseline_from"]) == (2.5, "target, 2024")


# --- what was changed


async def test_each_change_of_an_entry_is_told_with_who_and_why(store: Store) -> None:
    site = await complete(store)
    (tea,) = await store.production_entries(site.factory.id)
    await store.change_production_entry(replace(tea, made_tea_kg=610.0), BY, NOW, "a zero was missing")
    (wood, *_) = [it for it in await store.energy_entries(site.factory.id) if it.energy_type == "firewood"]
    await store.change_energy_entry(replace(wood, withdrawn=True), BY, NOW + DAY, "entered twice")

    found = rows(await reported(store, site.factory), "corrections")

    said = {(row["kind"], row["change"], row["author"], row["reason"]) for row in found}
    assert said == {
        ("production", "made_tea_kg: 600.0 -> 610.0", "clerk", "a zero was missing"),
        ("firewood", "withdrawn: False -> True", "clerk", "entered twice"),
    }


async def test_entries_that_nobody_changed_are_no_corrections(store: Store) -> None:
    site = await complete(store)

    assert rows(await reported(store, site.factory), "corrections") == []


def test_a_difference_names_what_changed_and_nothing_else() -> None:
    before = ProductionEntry(1, 1, 1, START, END, None, 600.0, author="a")
    after = replace(before, version=2, author="b", reason="x", period_end=END + HOUR, evidence="page 3")

    told = difference(before, after)

    assert told == "period_end: 2026-03-01T16:00:00Z -> 2026-03-01T17:00:00Z; evidence: none -> page 3"


# --- hours, calibrations, streams, wood, contract


async def test_hours_are_counted_by_status_and_cause(store: Store) -> None:
    site = await complete(store)

    found = rows(await reported(store, site.factory), "hours_by_cause")

    assert [(row["status"], row["cause"], row["hours"]) for row in found] == [("valid", "", 4)]


async def test_plans_in_force_are_told_with_their_calibration_and_others_are_not(store: Store) -> None:
    site = await complete(store)
    for since, slope in ((START - 30 * DAY, 1.01), (START + HOUR, 1.02), (END + DAY, 1.03)):
        await store.add_plan(site.stack.id, MonitoringPlan(valid_from=since, calibration_slope=slope))

    found = rows(await reported(store, site.factory), "calibrations")

    assert [row["slope"] for row in found] == [1.01, 1.02]


async def test_source_streams_are_those_that_were_used(store: Store) -> None:
    site = await complete(store)

    found = rows(await reported(store, site.factory), "source_streams")

    assert [row["stream"] for row in found] == ["firewood", "diesel", "electricity"]


async def test_where_wood_comes_from_is_told(store: Store) -> None:
    site = await complete(store)
    wood = energy(site, supplier="Mti Ltd", plot="-0.51,37.28", permit="KFS 17", harvested_on=date(2026, 1, 5))
    await store.add_energy_entry(replace(wood, wood_origin=WoodOrigin.PURCHASED), BY, NOW)

    (row,) = rows(await reported(store, site.factory), "biomass", supplier="Mti Ltd")

    assert (row["origin"], row["plot"], row["harvested"], row["permit"]) == (
        "purchased", "-0.51,37.28", "2026-01-05", "KFS 17",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "is_told"), [("grid.co2e_market", True), ("grid.co2e_market:imenti", False)])
async def test_a_contract_for_electricity_is_told_beside_the_grid_and_not_in_its_place(
    store: Store, name: str, is_told: bool
) -> None:
    site = await complete(store)
    contract = Factor(name, 0.02, "kg CO2e/kWh", "power purchase agreement, 2025", date(2025, 1, 1))
    factors = shipped_factors().replaced([contract])

    report = await reported(store, site.factory, factors=factors)

    market = rows(report, "results", figure="grid_co2e_market")
    (grid,) = rows(report, "results", figure="grid_co2e")
    assert grid["mass"] == pytest.approx(300.0 * shipped_factors().value("grid.co2e", START.date()))
    if is_told:
        assert market[0]["mass"] == pytest.approx(300.0 * 0.02)
        assert market[0]["scope"] == "scope 2, market-based"
        assert rows(report, "factors", name=name)
    else:
        assert market == []


async def test_hours_that_were_revised_are_told_by_how_many(store: Store) -> None:
    site = await complete(store)
    late = START + timedelta(days=30)
    await store.write_tiers(TierWork(hours=[hour(site, 0, rate=0.16)]), late)

    (row,) = rows(await reported(store, site.factory), "corrections", kind="hours")

    assert "1 hours changed" in str(row["change"])
