"""The tables of a report that compare, and that tell what was changed: each with a small store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from carbontrack.bookkeeping import shipped_factors
from carbontrack.compliance import Cell, ComplianceReport, rows_of
from carbontrack.compliance_tables import difference
from carbontrack.emissions.factors import FactorSet, parse_factors
from carbontrack.ledger import Cause, EnergyType, HourStatus, Metric, ProductionEntry, Target, WoodOrigin
from carbontrack.model import MonitoringPlan, Origin, Site
from carbontrack.plugins.reports import compliance_pdf
from carbontrack.store import Store
from carbontrack.store.tiers import TierWork
from tests.support.world import register
from tests.test_bookkeeping import hour, keep
from tests.test_compliance import BY, DAY, END, HOUR, NOW, START, complete, energy, reported, store, words_of

__all__ = ["store"]

TEA, WOOD = Metric.STACK_CO2_PER_TEA, Metric.WOOD_PER_TEA


def rows(report: ComplianceReport, table: str, **wanted: Cell) -> list[Mapping[str, Cell]]:
    return list(rows_of(report.table(table), **wanted))


# --- what others, and the same factory a year ago, have reported


async def test_the_target_s_baseline_goes_before_what_was_reported(store: Store) -> None:
    site = await complete(store)
    target = Target(0, site.factory.id, TEA, 2.0, date(2026, 1, 1), baseline_year=2024, baseline_value=2.5)
    await store.add_target(target, BY, NOW)

    (row,) = rows(await reported(store, site.factory), "comparison", metric=TEA.value)

    assert (row["baseline"], row["baseline_from"]) == (2.5, "target, 2024")


async def statement(
    store: Store, site: Site, value: float, start: datetime = START, end: datetime = END, reason: str = ""
) -> None:
    """That a factory has reported so much CO2 of its chimneys per kg of tea."""
    figures = {"made_tea_kg": 500.0, "intensities": {Metric.STACK_CO2_PER_TEA: value, Metric.WOOD_PER_TEA: None}}
    await store.add_statement(site.factory.id, start, end, json.dumps(figures), "ab" * 32, BY, NOW, reason)


def compared(report: ComplianceReport, metric: Metric = Metric.STACK_CO2_PER_TEA) -> Mapping[str, Cell]:
    (row,) = rows_of(report.table("comparison"), factory="kangaita", metric=metric.value)
    return row


async def test_without_anything_to_compare_with_the_comparison_is_empty(store: Store) -> None:
    site = await complete(store)

    row = compared(await reported(store, site.factory))

    assert row["value"] == pytest.approx(4 * 540 / 600)
    assert [row[it] for it in ("baseline", "baseline_from", "change", "median", "reported_by")] == [
        None, "", None, None, 0,
    ]  # fmt: skip


async def test_a_factory_is_compared_with_what_it_reported_a_year_before(store: Store) -> None:
    site = await complete(store)
    a_year = timedelta(days=365)
    middle = START - a_year + HOUR
    await statement(store, site, 5.0, START - a_year, middle)
    await statement(store, site, 7.0, middle, END - a_year)

    row = compared(await reported(store, site.factory))

    assert row["baseline"] == pytest.approx(6.0)
    assert row["baseline_from"] == "reported, from 2025-03-01"
    assert row["change"] == pytest.approx(3.6 / 6.0 - 1)


async def test_the_networks_median_is_of_three_factories_at_least_and_of_their_newest_versions(store: Store) -> None:
    site = await complete(store)
    for name, value in (("Imenti", 2.0), ("Ndima", 4.0)):
        (other,) = await register(store, f"dev-{name}", factory_name=name)
        await statement(store, other, value)
    few = compared(await reported(store, site.factory))
    (third,) = await register(store, "dev-Kimunye", factory_name="Kimunye")
    await statement(store, third, 9.0)
    await statement(store, third, 3.0, reason="tea was weighed again")

    report = await reported(store, site.factory)

    assert (few["median"], few["reported_by"]) == (None, 0), "of two it would tell what one of them reported"
    assert (compared(report)["median"], compared(report)["reported_by"]) == (3.0, 3)
    assert compared(report, Metric.WOOD_PER_TEA)["median"] is None


# --- what was changed


async def test_an_entry_that_was_moved_out_of_the_period_is_a_correction_of_it(store: Store) -> None:
    site = await complete(store)
    (tea,) = await store.production_entries(site.factory.id)
    moved = replace(tea, period_start=START - DAY, period_end=END - DAY)
    await store.change_production_entry(moved, BY, NOW, "of the day before")

    (row,) = rows_of((await reported(store, site.factory)).table("corrections"))

    assert row["change"] == (
        "period_start: 2026-03-01T12:00:00Z -> 2026-02-28T12:00:00Z; "
        "period_end: 2026-03-01T16:00:00Z -> 2026-02-28T16:00:00Z"
    )


async def test_a_correction_says_what_was_changed_by_whom_and_why(store: Store) -> None:
    site = await complete(store)
    wood = next(it for it in await store.energy_entries(site.factory.id) if it.energy_type is EnergyType.FIREWOOD)
    changed = replace(wood, amount=1450.0, supplier="Mlima Woodlots")
    await store.change_energy_entry(changed, Origin("manager"), NOW, "the weighbridge's slip")
    (tea,) = await store.production_entries(site.factory.id)
    await store.change_production_entry(replace(tea, withdrawn=True), Origin("clerk"), NOW, "of the day before")
    await statement(store, site, 3.0)
    await statement(store, site, 3.1, reason="the bill came late")

    found = rows_of((await reported(store, site.factory)).table("corrections"))

    assert [(row["kind"], row["version"], row["change"], row["author"], row["reason"]) for row in found] == [
        ("firewood", 2, "amount: 1454.0 -> 1450.0; supplier: Kuni Ltd -> Mlima Woodlots", "manager",
         "the weighbridge's slip"),
        ("production", 2, "withdrawn: False -> True", "clerk", "of the day before"),
        ("statement", 2, "reported anew", "clerk", "the bill came late"),
    ]  # fmt: skip


async def test_entries_that_nobody_changed_are_no_corrections(store: Store) -> None:
    site = await complete(store)

    assert rows(await reported(store, site.factory), "corrections") == []


def test_a_difference_names_what_changed_and_nothing_else() -> None:
    before = ProductionEntry(1, 1, 1, START, END, None, 600.0, author="a")
    after = replace(before, version=2, author="b", reason="x", period_end=END + HOUR, evidence="page 3")

    told = difference(before, after)

    assert told == "period_end: 2026-03-01T16:00:00Z -> 2026-03-01T17:00:00Z; evidence: none -> page 3"


# --- hours, calibrations, streams, wood, contract


async def test_the_hours_are_counted_by_their_cause(store: Store) -> None:
    site = await complete(store)
    faulty = hour(site, 3)
    await keep(store, msgspec.structs.replace(faulty, status=HourStatus.INVALID, cause=Cause.STUCK, co2_kg=None))

    found = rows_of((await reported(store, site.factory)).table("hours_by_cause"))

    assert [(row["status"], row["cause"], row["hours"]) for row in found] == [
        ("invalid", "stuck", 1), ("valid", "", 3),
    ]  # fmt: skip


async def test_calibrations_are_the_plans_that_were_in_force_and_who_entered_them(store: Store) -> None:
    site = await complete(store)
    for at, slope in ((START - DAY, 0.98), (START + HOUR, 1.03), (END, 1.5)):
        plan = MonitoringPlan(valid_from=at, calibration_offset_ppm=-120.0, calibration_slope=slope, note="span gas")
        await store.add_plan(site.stack.id, plan, by=Origin("manager@example.org"))

    found = rows_of((await reported(store, site.factory)).table("calibrations"))

    assert [(row["from"], row["offset"], row["slope"], row["added_by"]) for row in found] == [
        ("2026-02-28T12:00:00Z", -120.0, 0.98, "manager@example.org"),
        ("2026-03-01T13:00:00Z", -120.0, 1.03, "manager@example.org"),
    ]  # fmt: skip
    assert all(row["added_at"] for row in found)


async def test_of_a_plan_that_came_with_its_chimney_it_is_not_said_who_entered_it(store: Store) -> None:
    site = await complete(store)

    (row,) = rows_of((await reported(store, site.factory)).table("calibrations"))

    assert (row["from"], row["added_by"], row["added_at"]) == (None, "", None)


async def test_a_source_stream_says_how_it_is_known_and_by_which_factors(store: Store) -> None:
    site = await complete(store)

    found = {row["stream"]: row for row in rows_of((await reported(store, site.factory)).table("source_streams"))}

    assert list(found) == ["firewood", "diesel", "electricity"]
    assert found["electricity"]["factors"] == "grid.co2e"
    assert "firewood.moisture" not in str(found["firewood"]["factors"]), "its moisture was entered"
    assert {row["tier"] for row in found.values()} == {None}, "none is claimed"


def contract(**changed: Any) -> FactorSet:
    """The shipped factors, and that of a contract for electricity."""
    (row,) = parse_factors(
        [
            {
                "name": "grid.co2e_market", "value": 0.012, "unit": "kg/kWh", "source": "PPA of 2025, hydro",
                "valid_from": "2026-01-01",
            } | changed
        ],
        "own",
    )  # fmt: skip
    return shipped_factors().replaced([row])


@pytest.mark.parametrize("name", ["grid.co2e_market", "grid.co2e_market:kangaita"])
async def test_electricity_by_contract_stands_beside_that_of_the_grid(store: Store, name: str) -> None:
    site = await complete(store)

    plain, with_contract = [
        await reported(store, site.factory, factors=factors) for factors in (None, contract(name=name))
    ]

    assert rows_of(plain.table("results"), figure="grid_co2e_market") == []
    (market,) = rows_of(with_contract.table("results"), figure="grid_co2e_market")
    assert market["mass"] == pytest.approx(300 * 0.012)
    assert market["scope"] == "scope 2, market-based"
    assert market["remarks"] == "By contract: PPA of 2025, hydro"
    (grid,) = rows_of(with_contract.table("results"), figure="grid_co2e")
    assert grid["mass"] == pytest.approx(300 * 0.0705), "and that of the grid is what it was"
    assert name in {row["name"] for row in rows_of(with_contract.table("factors"))}
    assert compared(plain) == compared(with_contract), "nothing else is made of it"


async def test_of_several_factories_both_figures_of_electricity_stand_side_by_side(store: Store) -> None:
    sites = [await complete(store), await complete(store, "Imenti", "dev-002")]

    report = await reported(store, *(site.factory for site in sites), factors=contract(name="grid.co2e_market:imenti"))

    text = words_of(compliance_pdf.render(report))
    assert "21.15" in text, "the grid's: 300 kWh of 0.0705 kg"
    assert "3.6" in text.split(), "the contract's: 300 kWh of 0.012 kg"


@pytest.mark.parametrize("changed", [{"name": "grid.co2e_market:imenti"}, {"valid_from": "2026-03-02"}])
async def test_a_contract_of_another_factory_or_time_makes_no_row(store: Store, changed: dict[str, Any]) -> None:
    site = await complete(store)

    report = await reported(store, site.factory, factors=contract(**changed))

    assert rows_of(report.table("results"), figure="grid_co2e_market") == []


async def test_the_verifiers_statement_is_to_be_filled_in(store: Store) -> None:
    site = await complete(store)

    table = (await reported(store, site.factory)).table("verification")

    assert {row[1] for row in table.rows} == {""}
    assert "not verified" in table.note


@pytest.mark.parametrize("width", [30, 60, 200])
def test_words_have_room_in_the_columns_of_a_pdf(width: int) -> None:
    titles, rows = ["By", "Reason"], [["clerk@kangaita.example", "word " * width]]

    by, reason = compliance_pdf._widths(titles, rows)

    assert by >= len("clerk@kangaita.example")
    assert by + reason <= compliance_pdf.ROOM


async def test_wood_says_where_it_comes_from_and_the_factory_which_company_it_is(store: Store) -> None:
    site = await complete(store)
    company = {"legal_entity": "Kangaita Tea Factory Co. Ltd", "un_locode": "KENYI"}
    factory = await store.change_factory(site.factory.id, company)
    wood = energy(
        site, amount=100.0, wood_origin=WoodOrigin.PURCHASED, supplier="Mlima", species="Eucalyptus grandis",
        plot="-0.51,37.28", harvested_on=date(2026, 1, 15), permit="KFS 118",
    )  # fmt: skip
    await store.add_energy_entry(wood, BY, NOW)

    report = await reported(store, factory)

    (row,) = rows_of(report.table("biomass"), amount=100.0)
    assert [row[it] for it in ("origin", "supplier", "species", "plot", "harvested", "permit")] == [
        "purchased", "Mlima", "Eucalyptus grandis", "-0.51,37.28", "2026-01-15", "KFS 118",
    ]  # fmt: skip
    (identity,) = rows_of(report.table("identity"))
    assert (identity["legal_entity"], identity["un_locode"]) == ("Kangaita Tea Factory Co. Ltd", "KENYI")


async def test_hours_that_were_revised_are_told_by_how_many(store: Store) -> None:
    site = await complete(store)
    late = START + timedelta(days=30)
    await store.write_tiers(TierWork(hours=[hour(site, 0, rate=0.16)]), late)

    (row,) = rows(await reported(store, site.factory), "corrections", kind="hours")

    assert "1 hours changed" in str(row["change"])
