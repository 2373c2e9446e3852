"""A compliance report says what the accounts say, in every format the same, and its checks find what is wrong."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from math import fsum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader
from python_calamine import CalamineWorkbook
from tortoise.backends.base.executor import EXECUTOR_CACHE

from carbontrack.bookkeeping import Books, shipped_factors
from carbontrack.compliance import (
    VOLUNTARY,
    Cell,
    Check,
    ComplianceReport,
    ReportStatus,
    Severity,
    blocking,
    canonical,
    compliance_dataset,
    frozen,
    rows_of,
    thawed,
)
from carbontrack.compliance_data import gather
from carbontrack.compliance_tables import FOUR
from carbontrack.emissions.accounts import Account
from carbontrack.emissions.factors import FactorSet
from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    Metric,
    ProductionEntry,
    Sustainability,
    Target,
)
from carbontrack.model import Factory, MonitoringPlan, Origin, Site
from carbontrack.plugins import Limits, load_plugins
from carbontrack.plugins.rendering import render
from carbontrack.plugins.reports import compliance_csv, compliance_json, compliance_pdf, compliance_xlsx
from carbontrack.simulator import demo_fleet
from carbontrack.simulator.books import simulated_entries
from carbontrack.simulator.faults import Fault, FaultKind, LineFault, disturb
from carbontrack.simulator.instruments import Instruments
from carbontrack.simulator.score import _hours, _sample, month_start
from carbontrack.store import Store
from carbontrack.store.tiers import TierWork
from carbontrack.testing import compliance_report, empty_compliance_report
from carbontrack.web.check_words import Told, told
from tests.support.world import NAIROBI, NOON, choosing, migrated_store, register
from tests.test_bookkeeping import hour, keep

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START, END = NOON, NOON + 4 * HOUR
NOW = NOON + timedelta(days=90)
BY = Origin("clerk")
FORMATS = ("csv", "json", "operator-template", "pdf", "xlsx")
LIMITS = Limits(60.0, 1024)


# --- a small store


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    EXECUTOR_CACHE.clear()
    async with migrated_store(f"sqlite://{tmp_path / 'carbontrack.sqlite3'}") as opened:
        yield opened


def books(store: Store, factors: FactorSet | None = None) -> Books:
    return Books(store, factors or shipped_factors(), NAIROBI, (0.85, 1.15))


async def reported(store: Store, *factories: Factory, now: datetime = NOW, **changed: Any) -> ComplianceReport:
    return await gather(
        books(store, **changed), factories, START, END, title="Four hours", software="test", now=now
    )  # fmt: skip


def energy(site: Site, kind: EnergyType = EnergyType.FIREWOOD, amount: float = 1454.0, **changed: Any) -> EnergyEntry:
    units = {EnergyType.FIREWOOD: "kg", EnergyType.DIESEL: "litres", EnergyType.ELECTRICITY: "kWh"}
    moisture = 0.25 if kind is EnergyType.FIREWOOD else None
    entry = EnergyEntry(0, 1, site.factory.id, kind, amount, units[kind], START, END, moisture=moisture)
    return replace(entry, **changed)


async def complete(store: Store, name: str = "Kangaita", device: str = "dev-001") -> Site:
    """A factory of which everything is known for four hours: measured CO2 is what its wood gives."""
    (site,) = await register(store, device, factory_name=name)
    await keep(store, *(hour(site, number) for number in range(4)))
    wood = energy(site, sustainability=Sustainability.YES, evidence="note 17", supplier="Kuni Ltd")
    others = [energy(site, EnergyType.DIESEL, 12.0), energy(site, EnergyType.ELECTRICITY, 300.0)]
    await store.add_energy_entries([wood, *others], BY, NOW)
    await store.add_production_entry(ProductionEntry(0, 1, site.factory.id, START, END, 2700.0, 600.0), BY, NOW)
    return site


def named(report: ComplianceReport) -> dict[str, Severity]:
    """The checks by name; each is a sentence that pages can translate."""
    for check in report.checks:
        assert told(check) == Told(check.text, is_english=False), f"carbontrack/web/check_words.py lacks {check}"
    return {check.name: check.severity for check in report.checks}


# --- the data set

NUMBERS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
CELLS: st.SearchStrategy[Cell] = st.one_of(NUMBERS, TEXTS)


@given(rows=st.lists(st.tuples(*[CELLS] * 5), max_size=5), title=st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_report_comes_out_of_its_data_set_as_it_went_in(rows: list[Any], title: str) -> None:
    production = replace(compliance_report().table("production"), rows=tuple(rows))
    report = compliance_report(tables=(production, compliance_report().table("identity")), title=title)

    held = canonical(compliance_dataset(report))
    again = thawed(held)

    assert canonical(compliance_dataset(again)) == held
    assert (again.sha256, again.tables, again.checks, again.title) == (
        report.sha256, report.tables, report.checks, report.title
    )  # fmt: skip


def test_who_signed_and_what_it_is_called_are_not_in_the_data_set() -> None:
    report = compliance_report()

    renamed = compliance_report(
        reference="CT-9-v1", status=ReportStatus.DRAFT, signatures=(), made_at=None, reason="", supersedes=""
    )

    assert renamed.sha256 == report.sha256


@given(data=st.data())
def test_any_other_datum_gives_another_hash(data: st.DataObject) -> None:
    report = compliance_report()
    at = data.draw(st.integers(0, len(report.tables) - 1))
    table = report.tables[at]
    row, column = (data.draw(st.integers(0, count - 1)) for count in (len(table.rows), len(table.columns)))
    old = table.rows[row][column]
    new = data.draw(CELLS.filter(lambda value: repr(value) != repr(old)))
    rows = [list(cells) for cells in table.rows]
    rows[row][column] = new
    changed = replace(table, rows=tuple(tuple(cells) for cells in rows))

    assert (
        frozen(replace(report, tables=(*report.tables[:at], changed, *report.tables[at + 1 :]))).sha256 != report.sha256
    )


def test_what_is_no_number_is_in_no_data_set() -> None:
    table = compliance_report().table("production")

    with pytest.raises(ValueError, match="not JSON compliant"):
        compliance_report(tables=(replace(table, rows=(("kangaita", math.nan, None, None, 1),)),))


async def test_the_same_data_give_the_same_data_set(store: Store) -> None:
    site = await complete(store)

    first, second = await reported(store, site.factory), await reported(store, site.factory)
    await keep(store, hour(site, 3, rate=0.2))
    third = await reported(store, site.factory)

    assert canonical(compliance_dataset(first)) == canonical(compliance_dataset(second))
    assert first.sha256 == second.sha256 != third.sha256


async def test_the_example_for_authors_has_tables_as_the_real_ones_are(store: Store) -> None:
    site = await complete(store)
    report = await reported(store, site.factory)

    for table in (*compliance_report().tables, *empty_compliance_report().tables):
        assert table.columns == report.table(table.name).columns


# --- the tables


async def test_every_row_fits_its_columns_and_every_table_has_another_name(store: Store) -> None:
    sites = [await complete(store), await complete(store, "Imenti", "dev-002")]
    report = await reported(store, *(site.factory for site in sites))

    assert len({table.name for table in report.tables}) == len(report.tables)
    for table in report.tables:
        assert len({column.name for column in table.columns}) == len(table.columns)
        assert {len(row) for row in table.rows} <= {len(table.columns)}, table.name
    assert report.note == VOLUNTARY
    assert "no CBAM declaration" in report.note


async def test_the_figures_are_those_of_the_account(store: Store) -> None:
    sites = [await complete(store), await complete(store, "Imenti", "dev-002")]
    await store.add_target(Target(0, sites[0].factory.id, Metric.STACK_CO2_PER_TEA, 4.0, date(2026, 1, 1)), BY, NOW)

    report = await reported(store, *(site.factory for site in sites))

    for site in sites:
        found = await books(store).account(site.factory, START, END)
        agrees(report, site.factory.slug, found)
    (target,) = report.table("targets").rows
    assert target[0] == "kangaita"
    assert target[-2] == pytest.approx(4 * 540 / 600)
    assert target[-1] == "met"


def agrees(report: ComplianceReport, slug: str, found: Account) -> None:
    """Whether the tables say of a factory what its account says."""
    figures = {row["figure"]: row for row in rows_of(report.table("results"), factory=slug)}
    assert figures["stack_co2"]["mass"] == found.stack_co2.value_kg
    for name, _, _, take in FOUR:
        assert figures[name]["mass"] == take(found).value_kg, name
        assert figures[name]["u_expanded"] == take(found).expanded_relative, name
    assert figures["zero_rated_co2"]["mass"] == found.zero_rated_co2_kg
    (production,) = rows_of(report.table("production"), factory=slug)
    assert (production["made_tea"], production["wood"]) == (found.made_tea_kg, found.wood_kg)
    intensities = {row["metric"]: row["value"] for row in rows_of(report.table("intensities"), factory=slug)}
    assert intensities == {metric.value: value for metric, value in found.intensities.items()}
    stacks = rows_of(report.table("results_by_stack"), factory=slug)
    assert [row["co2"] for row in stacks] == [line.period.co2_kg for line in found.stacks]
    quality = rows_of(report.table("data_quality"), factory=slug)
    assert [row["availability"] for row in quality] == [line.period.availability for line in found.stacks]
    for name in ("days", "hours"):
        masses = [row["co2"] for row in rows_of(report.table(name), factory=slug)]
        assert fsum(mass for mass in masses if isinstance(mass, float)) == pytest.approx(found.stack_co2.value_kg), name


async def test_there_is_no_grand_total_anywhere(store: Store) -> None:
    """Neither a row or column that is called one, nor a number that is the sum of figures of different kinds."""
    site = await complete(store)
    report = await reported(store, site.factory)

    four = {name for name, *_ in FOUR}
    results = rows_of(report.table("results"))
    masses = [it["mass"] for it in results if it["figure"] in four and isinstance(it["mass"], float)]
    assert len(masses) == 4
    numbers = [cell for table in report.tables for row in table.rows for cell in row if isinstance(cell, float)]
    assert not [number for number in numbers if number == pytest.approx(fsum(masses), rel=1e-9)]
    for table in report.tables:
        words = [table.title, *(column.title for column in table.columns), *(str(row[0]) for row in table.rows)]
        assert not [word for word in words if "total" in word.lower()]


async def test_a_large_report_lets_its_hours_go_and_keeps_its_days(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await complete(store)
    whole = await reported(store, site.factory)
    monkeypatch.setattr("carbontrack.compliance_data.HOURLY_UP_TO", 3)

    large = await reported(store, site.factory)

    assert [table.name for table in large.tables] == [it.name for it in whole.tables if it.name != "hours"]
    assert large.table("days") == whole.table("days")
    assert large.table("results") == whole.table("results")


# --- the checks


async def test_nothing_is_wrong_with_a_factory_of_which_everything_is_known(store: Store) -> None:
    site = await complete(store)

    report = await reported(store, site.factory)

    assert named(report) == {"profile_assumed": Severity.INFO}
    assert not blocking(report.checks)


async def test_a_factory_without_entries_is_told_what_is_missing(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(4)))

    found = named(await reported(store, site.factory))

    assert found["tea_missing"] is Severity.CRITICAL
    assert found["wood_missing"] is Severity.CRITICAL
    assert found["diesel_missing"] is Severity.WARNING
    assert found["electricity_missing"] is Severity.WARNING


@pytest.mark.parametrize(
    ("valid", "severity"),
    [(20, None), (18, None), (17, Severity.WARNING), (16, Severity.WARNING), (15, Severity.CRITICAL)],
)
async def test_too_few_valid_hours_are_a_warning_and_far_too_few_block(
    store: Store, valid: int, severity: Severity | None
) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(valid)))
    await store.add_energy_entry(energy(site, amount=7270.0, period_end=START + 20 * HOUR), BY, NOW)

    report = await gather(
        books(store), [site.factory], START, START + 20 * HOUR, title="Some", software="test", now=NOW
    )  # fmt: skip

    assert named(report).get("availability") is severity


async def test_hours_without_any_value_block(store: Store) -> None:
    (site,) = await register(store, "dev-001")

    report = await reported(store, site.factory)

    assert named(report)["hours_without_value"] is Severity.CRITICAL
    assert rows_of(report.table("results"), figure="stack_co2")[0]["mass"] is None, "and it is no zero"


async def test_measurement_that_the_fuel_denies_is_a_warning(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(4)))
    await store.add_energy_entry(energy(site, amount=4000.0), BY, NOW)

    report = await reported(store, site.factory)

    assert named(report)["corroboration"] is Severity.WARNING
    assert "36% of what the fuel gives" in next(it.text for it in report.checks if it.name == "corroboration")


async def test_wood_without_evidence_is_told_and_not_zero_rated(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(4)))
    await store.add_energy_entry(energy(site), BY, NOW)

    report = await reported(store, site.factory)

    assert named(report)["biomass_evidence"] is Severity.INFO
    (zero,) = rows_of(report.table("results"), figure="zero_rated_co2")
    assert zero["mass"] == 0


@pytest.mark.parametrize(
    ("known", "is_told"), [({}, True), ({"supplier": "Kuni Ltd"}, False), ({"plot": "block 7"}, False)]
)
async def test_wood_of_nobody_and_nowhere_is_told(store: Store, known: dict[str, Any], is_told: bool) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, *(hour(site, number) for number in range(4)))
    await store.add_energy_entry(replace(energy(site), **known), BY, NOW)

    found = named(await reported(store, site.factory))

    assert found.get("biomass_origin") == (Severity.INFO if is_told else None)


async def test_an_outage_of_days_is_to_be_notified(store: Store) -> None:
    (site,) = await register(store, "dev-001")
    await keep(store, hour(site, 0), hour(site, 150))
    await store.add_energy_entry(energy(site, period_end=START + 151 * HOUR), BY, NOW)

    report = await gather(
        books(store), [site.factory], START, START + 151 * HOUR, title="A week", software="test", now=NOW
    )  # fmt: skip

    assert named(report)["long_outage"] is Severity.WARNING


async def test_a_factory_without_a_chimney_cannot_be_reported(store: Store) -> None:
    await register(store)
    (factory,) = await store.factories()

    assert named(await reported(store, factory))["no_stack"] is Severity.CRITICAL


async def test_a_chimney_that_was_traversed_has_no_assumed_profile(store: Store) -> None:
    site = await complete(store)
    plan = MonitoringPlan(valid_from=START - DAY, profile_factor_source="traverse", note="EN 15259, 2025")
    await store.add_plan(site.stack.id, plan)

    assert named(await reported(store, site.factory)) == {}


async def test_a_factor_that_ends_in_the_period_blocks(store: Store) -> None:
    site = await complete(store)
    shipped = shipped_factors()
    grid = shipped.get("grid.co2e", START.date())
    ending = shipped.replaced([replace(grid, valid_to=START.date() + DAY)])
    await store.add_energy_entry(energy(site, EnergyType.ELECTRICITY, 10.0, period_end=START + 40 * HOUR), BY, NOW)

    report = await gather(
        books(store, ending), [site.factory], START, START + 40 * HOUR, title="x", software="test", now=NOW
    )  # fmt: skip

    assert named(report)["factor_expired"] is Severity.CRITICAL


async def test_a_period_that_is_not_over_blocks(store: Store) -> None:
    site = await complete(store)

    assert named(await reported(store, site.factory, now=END - HOUR))["period_not_over"] is Severity.CRITICAL
    assert "period_not_over" not in named(await reported(store, site.factory, now=END))


async def test_the_checks_of_a_factory_name_it(store: Store) -> None:
    site = await complete(store)
    await register(store, "dev-002", factory_name="Imenti")
    factories = await store.factories()

    report = await reported(store, *factories)

    assert {check.factory for check in blocking(report.checks)} == {"imenti"}
    assert all(check.text.startswith("Imenti") for check in blocking(report.checks))
    assert site.factory.slug in {check.factory for check in report.checks}


async def test_what_cannot_be_reported_is_refused(store: Store) -> None:
    site = await complete(store)
    for factories, end, says in (
        ([], END, "at least one factory"),
        ([site.factory], START + timedelta(minutes=59), "at least one whole hour"),
        ([site.factory], START + 368 * DAY, "367 days at most"),
    ):
        with pytest.raises(ValueError, match=says):
            await gather(books(store), factories, START, end, title="x", software="test", now=NOW)


# --- a golden report: what the simulator knows to be true


@dataclass(frozen=True)
class Golden:
    report: ComplianceReport
    true_kg: Mapping[str, float]
    """CO2 that really left each chimney."""
    wood_co2_kg: float
    files: Mapping[str, bytes]
    true_by_hour: Mapping[tuple[str, str], float]
    """The same by chimney and hour, as the table of hours names them."""


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Two days of a factory with all its chimneys, from simulated instruments to files."""
    EXECUTOR_CACHE.clear()
    return asyncio.run(_golden(tmp_path_factory.mktemp("golden") / "carbontrack.sqlite3"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """A month in which the first chimney's thermocouple is open for three days, and its node has no power for one."""
    EXECUTOR_CACHE.clear()
    return asyncio.run(_golden(tmp_path_factory.mktemp("faulty") / "carbontrack.sqlite3", 30, OPEN, NO_POWER))


OPEN, NO_POWER = (8, 11), (15, 16)
"""From the begin of which day to that of which."""


async def _golden(
    database: Path, days: int = 2, is_open: tuple[int, int] = (0, 0), no_power: tuple[int, int] = (0, 0)
) -> Golden:
    """``is_open`` and ``no_power`` are days of the first chimney."""
    demo, start, step_s = demo_fleet(1)[0], month_start(), 60
    begin_ms = round(start.timestamp() * 1000)
    at = range(begin_ms, begin_ms + days * 86_400_000, step_s * 1000)
    made_at = start + 60 * DAY

    def moments(span: tuple[int, int]) -> tuple[int, int]:
        return begin_ms + span[0] * 86_400_000, begin_ms + span[1] * 86_400_000

    async with migrated_store(f"sqlite://{database}") as store:
        factory = await store.add_factory(demo.factory)
        true_kg, by_hour = {}, {}
        for each in demo.stacks:
            is_first = each is demo.stacks[0]
            stack = await store.add_stack(factory.id, each.name, replace(each.plan, valid_from=start))
            faults = [Fault(FaultKind.THERMOCOUPLE_OPEN, *moments(is_open), 1372)] if is_first else []
            instruments = Instruments(each, demo.factory, faults)
            masses = [instruments.truth(at_ms).co2_kg_per_s * step_s for at_ms in at]
            true_kg[each.name] = fsum(masses)
            for number in range(days * 24):
                hour_at = f"{start + number * HOUR:%Y-%m-%dT%H:%M:%SZ}"
                by_hour[each.name, hour_at] = fsum(masses[number * 60 : (number + 1) * 60])
            samples = [_sample(instruments, number, at_ms) for number, at_ms in enumerate(at, 1)]
            if is_first and no_power[1]:
                samples = disturb(samples, LineFault.POWER_CUT, *moments(no_power))
            hours = _hours(samples, each, demo.factory, start, days)
            own = [msgspec.structs.replace(it, stack_id=stack.id) for it in hours]
            await store.write_tiers(TierWork(hours=own), made_at)
        entered = simulated_entries(factory, demo.stacks, start, days)
        await store.add_energy_entries(entered.energy, BY, made_at)
        await store.add_production_entries(entered.production, BY, made_at)
        report = await gather(
            books(store), [factory], start, start + days * DAY, title="Golden", software="test", now=made_at
        )
        wood = next(row for row in rows_of(report.table("results_by_fuel")) if row["energy"] == "firewood")
    files = {name: RENDERS[name](report) for name in FORMATS}
    return Golden(report, true_kg, float(wood["biogenic_co2"] or 0), files, by_hour)


RENDERS: Mapping[str, Callable[[ComplianceReport], bytes]] = {
    "csv": compliance_csv.render,
    "json": compliance_json.render,
    "operator-template": compliance_xlsx.render_template,
    "pdf": compliance_pdf.render,
    "xlsx": compliance_xlsx.render,
}


def test_the_report_is_within_its_uncertainty_of_what_left_the_chimneys(golden: Golden) -> None:
    figures = {row["figure"]: row for row in rows_of(golden.report.table("results"))}
    truth = fsum(golden.true_kg.values())

    assert truth > 10_000
    for name in ("stack_co2", "biogenic_co2"):
        mass, u = figures[name]["mass"], figures[name]["u_expanded"]
        assert isinstance(mass, float) and isinstance(u, float)  # noqa: PT018  # both, for the types
        assert 0.05 < u < 0.3
        assert abs(mass - truth) <= u * mass
        assert mass == pytest.approx(truth, rel=0.03), "and much nearer than that in a clean time"
    for row in rows_of(golden.report.table("results_by_stack")):
        true_kg = golden.true_kg[str(row["stack"])]
        assert abs(float(row["co2"] or 0) - true_kg) <= float(row["u_expanded"] or 0) * true_kg
    assert golden.wood_co2_kg == pytest.approx(truth, rel=0.1), "a clerk's weights and moisture are rounded"
    (corroboration,) = rows_of(golden.report.table("corroboration"))
    assert corroboration["status"] == "inside"
    assert not blocking(golden.report.checks)


def test_a_month_with_faults_says_which_hours_it_does_not_know_and_none_of_them_wrong(faulty: Golden) -> None:
    """Every hour against the truth: what is called measured is right, and what is not is where the faults were."""
    report, first = faulty.report, str(faulty.report.table("emission_points").rows[0][1])
    begin = report.period_start
    measured, true_kg = [], []
    for row in rows_of(report.table("hours")):
        stack, hour_at, mass = str(row["stack"]), str(row["start"]), row["co2"]
        day = (datetime.fromisoformat(hour_at) - begin) / DAY
        is_open, is_dark = (stack == first and span[0] <= day < span[1] for span in (OPEN, NO_POWER))
        if is_dark:
            assert (row["status"], row["cause"]) == ("missing", "no_data"), row
        elif is_open:
            assert row["status"] in {"invalid", "not_operating"}, row
        if row["method"] == "measured":
            assert not is_open
            assert not is_dark
            assert isinstance(mass, float)
            measured.append(mass)
            true_kg.append(faulty.true_by_hour[stack, hour_at])
            assert mass == pytest.approx(true_kg[-1], rel=0.15, abs=20), row
    assert len(measured) > 500
    assert fsum(measured) == pytest.approx(fsum(true_kg), rel=0.02)


def test_a_month_with_faults_is_not_reported_as_less_than_it_was(faulty: Golden) -> None:
    """What stands in for hours is on the safe side, and is told apart."""
    truth = fsum(faulty.true_kg.values())
    (row,) = rows_of(faulty.report.table("results"), figure="stack_co2")
    mass = row["mass"]
    assert isinstance(mass, float)
    assert 0.98 * truth <= mass <= 1.1 * truth
    assert "stand in for what was not measured" in str(row["remarks"])
    worst = min(rows_of(faulty.report.table("data_quality")), key=lambda it: float(it["availability"] or 0))
    assert float(worst["availability"] or 0) < 0.9
    assert "availability" in {check.name for check in faulty.report.checks}


def test_the_tables_of_a_month_with_faults_add_up_with_each_other(faulty: Golden) -> None:
    report = faulty.report
    hours = rows_of(report.table("hours"))
    for line in rows_of(report.table("data_quality")):
        own = [it for it in hours if it["stack"] == line["stack"]]
        kinds = Counter(str(it["status"]) for it in own)
        assert line["hours"] == len(own) == 30 * 24
        assert line["valid"] == kinds["valid"]
        assert line["off"] == kinds["not_operating"]
        causes = rows_of(report.table("hours_by_cause"), stack=line["stack"])
        assert sum(int(it["hours"] or 0) for it in causes if it["status"] == "missing") == kinds["missing"]
        methods = rows_of(report.table("substitution"), stack=line["stack"])
        for method in methods:
            of_it = [it for it in own if it["method"] == method["method"]]
            assert method["hours"] == len(of_it)
            assert method["co2"] == pytest.approx(fsum(float(it["co2"] or 0) for it in of_it))
        (total,) = rows_of(report.table("results_by_stack"), stack=line["stack"])
        days = rows_of(report.table("days"), stack=line["stack"])
        for rows in (own, days):
            assert fsum(float(it["co2"] or 0) for it in rows) == pytest.approx(total["co2"])


@pytest.mark.parametrize("which", ["golden", "faulty"])
def test_every_format_has_the_same_cells(request: pytest.FixtureRequest, which: str) -> None:
    """CSV, workbook and JSON against each other, cell by cell, by what programs read in them."""
    found: Golden = request.getfixturevalue(which)
    archive = zipfile.ZipFile(io.BytesIO(found.files["csv"]))
    book = CalamineWorkbook.from_filelike(io.BytesIO(found.files["xlsx"]))
    cells = 0
    for table in json.loads(found.files["json"])["dataset"]["tables"]:
        name, width = table["name"], len(table["columns"])
        lines = list(csv.reader(io.StringIO(archive.read(f"{name}.csv").decode("utf-8-sig"))))[2:]
        rows = book.get_sheet_by_name(name[:31]).to_python()[2:]
        for row, line, sheet in zip(table["rows"], lines, rows, strict=False):
            padded = [*sheet, *[""] * (width - len(sheet))]
            for value, text, cell in zip(row, line, padded, strict=False):
                number = isinstance(value, int | float) and not isinstance(value, bool)
                assert (float(text) if number else text or None) == as_read(value), name
                assert as_read(cell) == workbook(value), name
                cells += 1
        assert len(lines) == len(table["rows"])
    assert cells > 1000


@pytest.mark.parametrize("which", ["golden", "faulty"])
def test_every_number_of_the_tables_is_in_the_pdf(request: pytest.FixtureRequest, which: str) -> None:
    """All but the tables that are left to the other formats, and the columns that are for programs."""
    found: Golden = request.getfixturevalue(which)
    text = words_of(found.files["pdf"])
    shown = 0
    for table in found.report.tables:
        if table.name in compliance_pdf.LEFT_OUT or len(table.rows) > compliance_pdf.MOST_ROWS:
            continue
        for row in table.rows:
            for column, value in zip(table.columns, row, strict=True):
                if isinstance(value, float) and (table.name, column.name) not in compliance_pdf.HIDDEN:
                    assert (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}") in text, (table.name, row)
                    shown += 1
    assert shown > 100


def as_read(value: Any) -> Any:
    """A value as it is compared: numbers as such, nothing as nothing."""
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, int | float) else value


def workbook(value: Any) -> Any:
    """A workbook has 16 digits of a number, where 17 would be exact."""
    read = as_read(value)
    return pytest.approx(read, rel=1e-15) if isinstance(read, float) else read


def test_the_csv_bundle_has_every_number_of_the_report(golden: Golden) -> None:
    archive = zipfile.ZipFile(io.BytesIO(golden.files["csv"]))

    for table in golden.report.tables:
        text = archive.read(f"{table.name}.csv").decode("utf-8-sig")
        names, units, *rows = list(csv.reader(io.StringIO(text, newline="")))
        assert names == [column.name for column in table.columns]
        assert units == [column.unit for column in table.columns]
        assert len(rows) == len(table.rows)
        for row, cells in zip(table.rows, rows, strict=True):
            for value, cell in zip(row, cells, strict=True):
                number = isinstance(value, int | float)
                assert (float(cell) if number else cell or None) == as_read(value), table.name


def test_the_schema_of_the_csv_bundle_says_what_is_in_it(golden: Golden) -> None:
    archive = zipfile.ZipFile(io.BytesIO(golden.files["csv"]))
    schema = json.loads(archive.read("schema.json"))

    assert set(schema["$defs"]) == {table.name for table in golden.report.tables}
    mass = schema["$defs"]["results"]["properties"]["mass"]
    assert (mass["x-unit"], mass["type"]) == ("kg", ["number", "null"])


def test_the_workbook_has_every_number_of_the_report(golden: Golden) -> None:
    book = CalamineWorkbook.from_filelike(io.BytesIO(golden.files["xlsx"]))

    for table in golden.report.tables:
        rows = book.get_sheet_by_name(table.name[:31]).to_python()[2:]
        for row, cells in zip(table.rows, rows, strict=False):
            padded = [*cells, *[""] * (len(row) - len(cells))]
            assert [as_read(cell) for cell in padded[: len(row)]] == [workbook(value) for value in row], table.name
        assert len(rows) == len(table.rows) + bool(table.note)


def test_the_operators_template_has_the_four_numbers_and_says_that_it_is_voluntary(golden: Golden) -> None:
    book = CalamineWorkbook.from_filelike(io.BytesIO(golden.files["operator-template"]))

    assert book.sheet_names == [
        "A_InstData", "B_EmInst", "C_SourceStreams", "D_Products", "E_Biomass", "F_Verification",
    ]  # fmt: skip
    for name in book.sheet_names:
        assert "voluntary" in str(book.get_sheet_by_name(name).to_python()[0][0])
    masses = {row[1]: row[2] for row in book.get_sheet_by_name("B_EmInst").to_python()[3:]}
    expected = {row["figure"]: row["mass"] for row in rows_of(golden.report.table("results"))}
    assert masses == {name: workbook(mass) for name, mass in expected.items()}
    origins = {row[11] for row in book.get_sheet_by_name("E_Biomass").to_python()[3:]}
    assert origins <= {"own_plantation", "purchased"}
    assert len(origins) >= 1


def test_the_operators_template_can_be_made_of_a_report_of_before_it_said_which_company_a_factory_is() -> None:
    ordinary = compliance_report()
    identity = ordinary.table("identity")
    kept = [at for at, column in enumerate(identity.columns) if column.name not in {"legal_entity", "un_locode"}]
    older = replace(
        identity,
        columns=tuple(identity.columns[at] for at in kept),
        rows=tuple(tuple(row[at] for at in kept) for row in identity.rows),
    )

    body = compliance_xlsx.render_template(compliance_report(tables=(older, *ordinary.tables[1:])))

    book = CalamineWorkbook.from_filelike(io.BytesIO(body))
    assert book.get_sheet_by_name("A_InstData").to_python()[3][1] == "Kangaita Tea Factory"


def test_the_json_file_has_the_data_set_whose_hash_it_says(golden: Golden) -> None:
    values = json.loads(golden.files["json"])

    assert values["dataset"] == json.loads(canonical(compliance_dataset(golden.report)))
    assert thawed(canonical(values["dataset"])).sha256 == values["sha256"] == golden.report.sha256


def words_of(body: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages).split())


def test_the_pdf_shows_the_numbers_of_the_report(golden: Golden) -> None:
    text = words_of(golden.files["pdf"])

    for name, column in (("results", "mass"), ("results_by_stack", "co2"), ("production", "made_tea")):
        for row in rows_of(golden.report.table(name)):
            value = row[column]
            assert isinstance(value, float)
            assert (f"{value:,.0f}" if value >= 1000 else f"{value:.4g}") in text, (name, row)
    assert golden.report.sha256 in text.replace(" ", "")
    for check in golden.report.checks:
        assert check.text.replace(" ", "") in text.replace(" ", "")


# --- every format


ODD = ("=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2", '#link("https://x.example")[*x*]', "<b>&amp;</b>", "$x$ \\ _a_")


@pytest.mark.parametrize("odd", ODD)
def test_what_somebody_typed_stays_a_text(odd: str) -> None:
    ordinary = compliance_report()
    identity = ordinary.table("identity")
    rows = tuple((row[0], odd, *row[2:]) for row in identity.rows)
    tables = (replace(identity, rows=rows), *ordinary.tables[1:])
    report = compliance_report(tables=tables, title=odd, checks=(Check("x", Severity.INFO, "kangaita", odd),))

    bundle = zipfile.ZipFile(io.BytesIO(compliance_csv.render(report)))
    for name in ("identity.csv", "checks.csv", "report.csv"):
        for row in csv.reader(io.StringIO(bundle.read(name).decode("utf-8-sig"))):
            assert not [cell for cell in row if cell[:1] in {"=", "+", "@"} or cell == "-2"]
    book = zipfile.ZipFile(io.BytesIO(compliance_xlsx.render(report)))
    for name in book.namelist():
        assert b"<f>" not in book.read(name), "no cell is a formula"
        assert b"hyperlink" not in book.read(name)
    read = CalamineWorkbook.from_filelike(io.BytesIO(compliance_xlsx.render(report)))
    assert read.get_sheet_by_name("identity").to_python()[2][1] == odd
    assert json.loads(compliance_json.render(report))["dataset"]["title"] == odd
    pdf = PdfReader(io.BytesIO(compliance_pdf.render(report)))
    assert pdf.metadata is not None
    assert pdf.metadata.title == odd
    assert odd.replace(" ", "") in words_of(compliance_pdf.render(report)).replace(" ", "")
    assert not [page for page in pdf.pages if "/Annots" in page], "nothing has become a link"


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_report_is_a_file_as_well(name: str) -> None:
    assert RENDERS[name](empty_compliance_report())


@pytest.mark.parametrize("name", FORMATS)
async def test_a_file_is_the_same_byte_for_byte_from_whichever_process(name: str) -> None:
    plugins = load_plugins(choosing("compliance_csv", "compliance_json", "compliance_pdf", "compliance_xlsx"))
    found, report = plugins.whose_format(name, "compliance format"), compliance_report()

    first = await render(found, {}, name, report, LIMITS)
    await asyncio.to_thread(_until_another_second)
    second = await render(found, {}, name, report, LIMITS)

    assert first == second == RENDERS[name](report)
    assert first.count(report.seal.encode()) >= 1


def _until_another_second() -> None:
    """A time in a file would differ; ZIP's have steps of two seconds, which a process that starts takes nearly."""
    begun = datetime.now(UTC).second
    while datetime.now(UTC).second == begun:
        pass


# --- the PDF


@pytest.fixture(scope="module")
def pdf() -> PdfReader:
    return PdfReader(io.BytesIO(compliance_pdf.render(compliance_report())))


def test_the_pdf_says_that_it_is_for_archives_and_for_everybody(pdf: PdfReader) -> None:
    """What it claims; whether it keeps that only a validator such as veraPDF could say, which is not at hand here."""
    assert pdf.metadata is not None
    assert pdf.metadata.title == "Two factories, February 2026"
    catalogue: Any = pdf.trailer["/Root"]
    assert catalogue["/Lang"] == "en-KE"
    assert catalogue["/MarkInfo"]["/Marked"].value
    assert catalogue["/ViewerPreferences"]["/DisplayDocTitle"].value
    assert "/StructTreeRoot" in catalogue
    xmp = catalogue["/Metadata"].get_data().decode()
    assert "<pdfaid:part>2</pdfaid:part>" in xmp
    assert "<pdfaid:conformance>A</pdfaid:conformance>" in xmp
    assert "<pdfuaid:part>1</pdfuaid:part>" in xmp
    assert "/AcroForm" not in catalogue
    assert "/JavaScript" not in catalogue.get("/Names", {})


def test_the_pdf_has_its_headings_tables_and_figure_as_tags(pdf: PdfReader) -> None:
    root: Any = pdf.trailer["/Root"]
    tags = list(_tags(root["/StructTreeRoot"]))

    assert tags.count("/Table") >= 6
    assert tags.count("/TH") > tags.count("/Table")
    assert "/H1" in tags
    assert "/Figure" in tags


def _tags(node: Any) -> Sequence[str]:
    node = node.get_object() if hasattr(node, "get_object") else node
    if isinstance(node, list):
        return [tag for each in node for tag in _tags(each)]
    if not isinstance(node, dict):
        return []
    return [*([str(node["/S"])] if "/S" in node else []), *(_tags(node["/K"]) if "/K" in node else [])]


def test_the_pdf_has_its_fonts_inside(pdf: PdfReader) -> None:
    fonts = [font.get_object() for page in pdf.pages for font in page["/Resources"]["/Font"].values()]  # type: ignore[index]  # pypdf's objects

    assert fonts
    for font in fonts:
        described = [it.get_object()["/FontDescriptor"] for it in font.get("/DescendantFonts", [font])]
        assert all({"/FontFile", "/FontFile2", "/FontFile3"} & set(it.get_object()) for it in described)


def test_a_draft_says_so_and_a_final_report_says_who_signed_it() -> None:
    final = words_of(compliance_pdf.render(compliance_report()))
    draft = words_of(compliance_pdf.render(empty_compliance_report()))

    assert "It is not approved" in draft
    assert "It is not approved" not in final
    assert "mutua@example.org" in final
    assert "A delivery of firewood was entered twice." in final


def test_several_factories_have_their_figures_side_by_side_and_people_words() -> None:
    text = words_of(compliance_pdf.render(compliance_report()))

    assert "Factory Biogenic CO2, kg Fossil CO2, kg" in text
    assert "kangaita 312,450 \N{PLUS-MINUS SIGN} 9.0 % 0 \N{PLUS-MINUS SIGN} 5.0 %" in text


def test_of_very_many_checks_those_for_information_are_told_once() -> None:
    info = [Check("profile_assumed", Severity.INFO, "kangaita", f"Boiler {number}: assumed.") for number in range(70)]
    critical = Check("tea_missing", Severity.CRITICAL, "kangaita", "No made tea is entered.")
    text = words_of(compliance_pdf.render(compliance_report(checks=(*info, critical))))

    assert "critical No made tea is entered. info Boiler 0: assumed. And 69 more of this kind" in text
