"""What people entered and what was reported is never changed: a change is a next version, and nobody loses one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from carbontrack import tables
from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    MeterDay,
    Metric,
    ProductionEntry,
    Statement,
    Sustainability,
    Target,
)
from carbontrack.metrics import Metrics
from carbontrack.model import AuditAction, Origin, Site
from carbontrack.store import ConflictError, RegistryError, Store, open_store
from tests.support.world import NOON, register

pytest_plugins = ["tests.support.world"]

DAY = timedelta(days=1)
CLERK, MANAGER = Origin("clerk@example.org"), Origin("manager@example.org")
LATER = NOON + timedelta(hours=3, microseconds=123_456)
"""Not a whole second, so that a rounded time would show."""


def wood(site: Site, **changed: Any) -> EnergyEntry:
    values: dict[str, Any] = {
        "id": 0,
        "version": 1,
        "factory_id": site.factory.id,
        "energy_type": EnergyType.FIREWOOD,
        "amount": 12.5,
        "unit": "t",
        "period_start": NOON,
        "period_end": NOON + DAY,
    }
    return EnergyEntry(**(values | changed))


def tea(site: Site, **changed: Any) -> ProductionEntry:
    values: dict[str, Any] = {
        "id": 0,
        "version": 1,
        "factory_id": site.factory.id,
        "period_start": NOON,
        "period_end": NOON + DAY,
        "green_leaf_kg": 45_000.0,
        "made_tea_kg": 10_000.0,
    }
    return ProductionEntry(**(values | changed))


@pytest.fixture
async def kangaita(store: Store) -> Site:
    return (await register(store, "dev-001", factory_name="Kangaita"))[0]


@pytest.fixture
async def mungania(store: Store, kangaita: Site) -> Site:
    return (await register(store, "dev-002", factory_name="Mungania"))[0]


# --- entries


async def test_an_energy_entry_comes_back_as_it_was_entered(store: Store, kangaita: Site) -> None:
    entry = wood(
        kangaita,
        amount=31.25,
        unit="m3_stacked",
        stack_id=kangaita.stack.id,
        moisture=0.31,
        stack_density_kg_per_m3=412.5,
        sustainability=Sustainability.YES,
        evidence="delivery note 4711",
        note="split, café",
    )

    kept = await store.add_energy_entry(entry, CLERK, LATER)

    assert kept == replace(entry, id=kept.id, author=CLERK.name, recorded_at=LATER)
    assert await store.energy_entry(kept.id) == kept
    assert await store.energy_entry_history(kept.id) == [kept]


async def test_a_production_entry_comes_back_as_it_was_entered(store: Store, kangaita: Site) -> None:
    entry = tea(kangaita, made_tea_kg=None, evidence="weighbridge", note="no tea made")

    kept = await store.add_production_entry(entry, CLERK, LATER)

    assert kept == replace(entry, id=kept.id, author=CLERK.name, recorded_at=LATER)
    assert await store.production_entry(kept.id) == kept


async def test_a_change_is_a_next_version_and_all_earlier_ones_stay(store: Store, kangaita: Site) -> None:
    first = await store.add_energy_entry(wood(kangaita), CLERK, NOON)

    second = await store.change_energy_entry(replace(first, amount=12.4), MANAGER, LATER, " read again ")
    third = await store.change_energy_entry(replace(second, moisture=0.3), CLERK, LATER, "measured")

    assert (second.id, second.version, second.author, second.reason) == (first.id, 2, MANAGER.name, "read again")
    assert await store.energy_entry_history(first.id) == [first, second, third]
    assert await store.energy_entries(kangaita.factory.id) == [third]
    assert await store.energy_entry(first.id) == third


async def test_when_a_version_was_replaced_is_kept(store: Store, kangaita: Site) -> None:
    first = await store.add_production_entry(tea(kangaita), CLERK, NOON)

    await store.change_production_entry(replace(first, made_tea_kg=9_999.0), CLERK, LATER, "weighed again")

    rows = await store._engine.rows("SELECT version, superseded_at FROM production_entry ORDER BY version")
    assert [row["superseded_at"] is None for row in rows] == [False, True]


@pytest.mark.parametrize("reason", ["", "  "])
async def test_a_change_without_a_reason_is_refused(store: Store, kangaita: Site, reason: str) -> None:
    kept = await store.add_energy_entry(wood(kangaita), CLERK, NOON)

    with pytest.raises(RegistryError, match="needs a reason"):
        await store.change_energy_entry(replace(kept, amount=1.0), CLERK, LATER, reason)

    assert await store.energy_entry(kept.id) == kept


async def test_a_withdrawn_entry_counts_no_more_and_can_be_brought_back(store: Store, kangaita: Site) -> None:
    kept = await store.add_energy_entry(wood(kangaita), CLERK, NOON)

    gone = await store.change_energy_entry(replace(kept, withdrawn=True), CLERK, LATER, "entered twice")

    assert await store.energy_entries(kangaita.factory.id) == []
    assert await store.energy_entry(kept.id) == gone
    back = await store.change_energy_entry(replace(gone, withdrawn=False), MANAGER, LATER, "it was another delivery")
    assert await store.energy_entries(kangaita.factory.id) == [back]
    assert [it.withdrawn for it in await store.energy_entry_history(kept.id)] == [False, True, False]


async def test_who_changes_what_was_changed_meanwhile_is_told(store: Store, kangaita: Site) -> None:
    kept = await store.add_production_entry(tea(kangaita), CLERK, NOON)
    newer = await store.change_production_entry(replace(kept, made_tea_kg=9_000.0), CLERK, LATER, "weighed again")

    with pytest.raises(ConflictError, match="read it again"):
        await store.change_production_entry(replace(kept, made_tea_kg=8_000.0), MANAGER, LATER, "a typing error")

    assert await store.production_entry(kept.id) == newer


async def test_of_many_who_change_one_version_at_once_one_succeeds(store: Store, kangaita: Site) -> None:
    kept = await store.add_energy_entry(wood(kangaita), CLERK, NOON)

    ends = await asyncio.gather(
        *(
            store.change_energy_entry(replace(kept, amount=float(number)), CLERK, LATER, "corrected")
            for number in range(1, 9)
        ),
        return_exceptions=True,
    )

    (winner,) = [end for end in ends if isinstance(end, EnergyEntry)]
    assert [type(end) for end in ends].count(ConflictError) == 7
    assert await store.energy_entry_history(kept.id) == [kept, winner]


async def test_another_process_does_not_overwrite_a_version_either(
    store: Store, kangaita: Site, database_url: str
) -> None:
    kept = await store.add_energy_entry(wood(kangaita), CLERK, NOON)
    async with open_store(database_url, Metrics()) as other:
        ends = await asyncio.gather(
            *(
                it.change_energy_entry(replace(kept, amount=2.0), CLERK, LATER, "corrected")
                for it in (store, other, store, other)
            ),
            return_exceptions=True,
        )

    assert [type(end) for end in ends].count(EnergyEntry) == 1, ends
    assert [it.version for it in await store.energy_entry_history(kept.id)] == [1, 2]


async def test_entries_that_are_added_at_once_are_all_kept(store: Store, kangaita: Site) -> None:
    kept = await asyncio.gather(
        *(store.add_energy_entry(wood(kangaita, amount=float(number)), CLERK, NOON) for number in range(1, 21))
    )

    assert len({entry.id for entry in kept}) == 20
    assert {entry.amount for entry in await store.energy_entries(kangaita.factory.id)} == set(range(1, 21))


async def test_many_entries_are_kept_in_their_order_with_an_event_each(store: Store, kangaita: Site) -> None:
    await store.add_energy_entry(wood(kangaita), CLERK, NOON)
    entries = [wood(kangaita, amount=float(number)) for number in range(1, 1002)]  # more than are written at a time

    kept = await store.add_energy_entries(entries, CLERK, LATER)

    assert [it.amount for it in kept] == [it.amount for it in entries]
    assert {it.id: it.amount for it in await store.energy_entries(kangaita.factory.id)} == {
        it.id: it.amount for it in kept
    } | {1: wood(kangaita).amount}
    events = await store.audit_events(action=AuditAction.ENERGY_ENTRY_ADDED, limit=2000)
    assert [event.subject_id for event in reversed(events)] == ["1", *(str(it.id) for it in kept)]
    assert (await store.verify_audit()).broken_id is None
    changed = await store.change_energy_entry(replace(kept[-1], amount=7.0), CLERK, LATER, "read again")
    assert (changed.id, changed.version) == (kept[-1].id, 2)


@pytest.mark.parametrize("wrong", ["factory", "stack"])
async def test_of_many_entries_all_are_kept_or_none(store: Store, kangaita: Site, mungania: Site, wrong: str) -> None:
    last = wood(kangaita, factory_id=4711) if wrong == "factory" else wood(kangaita, stack_id=mungania.stack.id)

    with pytest.raises(RegistryError, match=f"no such {wrong}"):
        await store.add_energy_entries([wood(kangaita), last], CLERK, NOON)

    assert await store.energy_entries(None) == []
    assert await store.audit_events(action=AuditAction.ENERGY_ENTRY_ADDED) == []


async def test_many_production_entries_are_kept_like_many_of_energy(store: Store, kangaita: Site) -> None:
    kept = await store.add_production_entries([tea(kangaita), tea(kangaita, made_tea_kg=9_000.0)], CLERK, LATER)

    assert [await store.production_entry(it.id) for it in kept] == kept
    assert await store.add_production_entries([], CLERK, LATER) == []


@pytest.mark.parametrize(
    ("since", "until", "is_found"),
    [
        (NOON, NOON + DAY, True),
        (NOON - DAY, NOON, False),
        (NOON - DAY, NOON + timedelta(microseconds=1), True),
        (NOON + DAY, NOON + 2 * DAY, False),
        (NOON + DAY - timedelta(microseconds=1), NOON + 2 * DAY, True),
        (NOON + DAY / 3, NOON + DAY / 2, True),
        (None, None, True),
        (None, NOON, False),
        (NOON + DAY, None, False),
    ],
)
async def test_entries_are_found_where_any_part_of_them_lies_in_the_period(
    store: Store, kangaita: Site, since: datetime | None, until: datetime | None, *, is_found: bool
) -> None:
    await store.add_energy_entry(wood(kangaita), CLERK, NOON)
    await store.add_production_entry(tea(kangaita), CLERK, NOON)

    assert len(await store.energy_entries(kangaita.factory.id, since, until)) == is_found
    assert len(await store.production_entries(kangaita.factory.id, since, until)) == is_found


async def test_entries_come_newest_first_and_page_by_page_without_one_twice(store: Store, kangaita: Site) -> None:
    starts = [NOON + timedelta(microseconds=step) for step in (0, 1, 1, 1, 2)] + [NOON + DAY]
    for start in starts:
        await store.add_production_entry(tea(kangaita, period_start=start, period_end=start + DAY), CLERK, NOON)
    everything = await store.production_entries(None)
    assert [it.period_start for it in everything] == sorted(starts, reverse=True)

    pages: list[ProductionEntry] = []
    after = None
    while page := await store.production_entries(kangaita.factory.id, after=after, limit=2):
        pages += page
        after = page[-1].period_start, page[-1].id

    assert pages == everything


async def test_entries_of_one_type_can_be_asked_for(store: Store, kangaita: Site) -> None:
    await store.add_energy_entry(wood(kangaita), CLERK, NOON)
    diesel = await store.add_energy_entry(
        wood(kangaita, energy_type=EnergyType.DIESEL, unit="litres", amount=10.0), CLERK, NOON
    )

    assert await store.energy_entries(None, energy_type=EnergyType.DIESEL) == [diesel]


async def test_a_factory_reads_and_changes_its_own_entries_only(store: Store, kangaita: Site, mungania: Site) -> None:
    kept = await store.add_energy_entry(wood(kangaita), CLERK, NOON)
    other = mungania.factory.id

    assert await store.energy_entries(other) == []
    assert await store.energy_entry(kept.id, other) is None
    assert await store.energy_entry_history(kept.id, other) == []
    with pytest.raises(ConflictError):
        await store.change_energy_entry(replace(kept, factory_id=other), CLERK, LATER, "mine now")
    assert await store.energy_entry(kept.id, kangaita.factory.id) == kept


async def test_fuel_burns_into_a_stack_of_its_own_factory(store: Store, kangaita: Site, mungania: Site) -> None:
    with pytest.raises(RegistryError, match="no such stack"):
        await store.add_energy_entry(wood(kangaita, stack_id=mungania.stack.id), CLERK, NOON)
    kept = await store.add_energy_entry(wood(kangaita), CLERK, NOON)
    with pytest.raises(RegistryError, match="no such stack"):
        await store.change_energy_entry(replace(kept, stack_id=mungania.stack.id), CLERK, LATER, "moved")


@pytest.mark.parametrize(
    "add",
    [
        lambda store, site: store.add_energy_entry(wood(site, factory_id=4711), CLERK, NOON),
        lambda store, site: store.add_production_entry(tea(site, factory_id=4711), CLERK, NOON),
        lambda store, site: store.add_target(target(site, factory_id=4711), CLERK, NOON),
        lambda store, _site: store.add_statement(4711, NOON, NOON + DAY, "{}", "", CLERK, LATER, ""),
    ],
    ids=["energy", "production", "target", "statement"],
)
async def test_nothing_is_kept_for_a_factory_that_is_not_there(
    store: Store, kangaita: Site, add: Callable[[Store, Site], Any]
) -> None:
    with pytest.raises(RegistryError, match="no such factory") as refused:
        await add(store, kangaita)
    assert refused.type is RegistryError, "it is no conflict"


async def test_a_text_that_is_too_long_for_its_column_is_refused(store: Store, kangaita: Site) -> None:
    with pytest.raises(RegistryError, match="note"):
        await store.add_energy_entry(wood(kangaita, note="x" * 501), CLERK, NOON)


# --- targets


def target(site: Site, **changed: Any) -> Target:
    values: dict[str, Any] = {
        "id": 0,
        "factory_id": site.factory.id,
        "metric": Metric.STACK_CO2_PER_TEA,
        "value": 3.8,
        "valid_from": date(2026, 1, 1),
    }
    return Target(**(values | changed))


async def test_a_target_comes_back_as_it_was_set(store: Store, kangaita: Site) -> None:
    wanted = target(kangaita, baseline_year=2025, baseline_value=4.25)

    kept = await store.add_target(wanted, Origin("hq@example.org"), LATER)

    assert kept == replace(wanted, id=kept.id, author="hq@example.org", recorded_at=LATER)
    assert await store.targets() == [kept]


async def test_the_newest_target_comes_first_so_that_it_is_the_one_in_force(
    store: Store, kangaita: Site, mungania: Site
) -> None:
    old = await store.add_target(target(kangaita), CLERK, NOON)
    new = await store.add_target(target(kangaita, value=3.5, valid_from=date(2027, 1, 1)), CLERK, NOON)
    corrected = await store.add_target(target(kangaita, value=3.7), CLERK, LATER)
    await store.add_target(target(mungania), CLERK, NOON)

    assert await store.targets(kangaita.factory.id) == [new, corrected, old]


async def test_a_withdrawn_target_is_in_force_no_more_and_its_row_stays(
    store: Store, kangaita: Site, mungania: Site
) -> None:
    kept = await store.add_target(target(kangaita), CLERK, NOON)

    assert not await store.withdraw_target(kept.id, mungania.factory.id), "it is another factory's"
    assert await store.withdraw_target(kept.id, kangaita.factory.id)
    assert not await store.withdraw_target(kept.id)

    assert await store.targets() == []
    assert len(await store._engine.rows("SELECT id FROM target")) == 1


# --- statements


async def report(store: Store, site: Site, reason: str = "", figures: str = '{"co2": 1}') -> Statement:
    return await store.add_statement(site.factory.id, NOON, NOON + DAY, figures, "ab" * 32, MANAGER, LATER, reason)


async def test_a_statement_comes_back_as_it_was_reported(store: Store, kangaita: Site) -> None:
    figures = '{"note":"café","value":0.1}'

    kept = await report(store, kangaita, figures=figures)

    expected = Statement(kept.id, kangaita.factory.id, NOON, NOON + DAY, 1, figures, "ab" * 32, MANAGER.name, LATER, "")
    assert kept == expected
    assert await store.statement(kept.id) == kept
    assert await store.latest_statement(kangaita.factory.id, NOON, NOON + DAY) == kept


async def test_a_period_is_corrected_by_a_next_version_which_needs_a_reason(store: Store, kangaita: Site) -> None:
    first = await report(store, kangaita)
    with pytest.raises(RegistryError, match=r"version 1.*needs a reason"):
        await report(store, kangaita, " ")

    second = await report(store, kangaita, "the bill came late", '{"co2": 2}')

    assert (second.version, second.reason) == (2, "the bill came late")
    assert await store.statements(kangaita.factory.id) == [second, first]
    assert await store.statement(first.id) == first
    assert await store.latest_statement(kangaita.factory.id, NOON, NOON + DAY) == second


async def test_of_many_who_report_a_period_at_once_each_version_is_made_by_one(
    store: Store, kangaita: Site, database_url: str
) -> None:
    async with open_store(database_url, Metrics()) as other:
        ends = await asyncio.gather(*(report(it, kangaita) for it in (store, other) * 4), return_exceptions=True)

    made = [end for end in ends if isinstance(end, Statement)]
    assert [it.version for it in made] == [1]
    assert all(isinstance(end, RegistryError) for end in ends if not isinstance(end, Statement)), ends
    assert await store.statements() == made


async def test_a_second_version_that_somebody_else_has_just_made_is_a_conflict(
    store: Store, kangaita: Site, database_url: str
) -> None:
    await report(store, kangaita)
    async with open_store(database_url, Metrics()) as other:
        ends = await asyncio.gather(
            *(report(it, kangaita, "corrected") for it in (store, other) * 3), return_exceptions=True
        )

    made = sorted(end.version for end in ends if isinstance(end, Statement))
    assert made == list(range(2, 2 + len(made)))
    assert all(isinstance(end, ConflictError) for end in ends if not isinstance(end, Statement)), ends
    assert [it.version for it in await store.statements()] == [*reversed(made), 1]


async def test_other_periods_and_other_factories_have_versions_of_their_own(
    store: Store, kangaita: Site, mungania: Site
) -> None:
    kept = await report(store, kangaita)
    other = await report(store, mungania)
    later = await store.add_statement(
        kangaita.factory.id, NOON + DAY, NOON + 2 * DAY, "{}", "", MANAGER, LATER, "not needed yet"
    )

    assert (other.version, later.version, later.reason) == (1, 1, "")
    assert await store.statements() == [later, kept, other]
    assert await store.statements(mungania.factory.id) == [other]
    assert await store.statement(kept.id, mungania.factory.id) is None
    assert await store.latest_statement(mungania.factory.id, NOON + DAY, NOON + 2 * DAY) is None


# --- what is kept of meters


async def test_a_meters_day_comes_back_as_it_was_written_and_is_replaced_by_a_later_one(
    store: Store, kangaita: Site
) -> None:
    day = MeterDay(
        "dev-001", kangaita.factory.id, kangaita.stack.id, "kwh", "electricity", "kWh", NOON.date(), 81.5, 0, 24,
        NOON, NOON + timedelta(hours=3),
    )  # fmt: skip
    await store.write_meter_days([day])

    await store.write_meter_days([replace(day, amount=82.25, readings=25), replace(day, day=NOON.date() + DAY)])

    found = await store.meter_days(kangaita.factory.id, NOON.date(), NOON.date() + DAY)
    assert found == [replace(day, amount=82.25, readings=25)]
    assert await store.meter_days(kangaita.factory.id + 1, date(2000, 1, 1), date(2100, 1, 1)) == []


async def test_a_meters_day_stays_with_the_factory_that_it_was_counted_for(
    store: Store, kangaita: Site, mungania: Site
) -> None:
    day = MeterDay(
        "dev-001", kangaita.factory.id, kangaita.stack.id, "kwh", "electricity", "kWh", NOON.date(), 81.5, 0, 24,
        NOON, NOON + timedelta(hours=3),
    )  # fmt: skip
    await store.write_meter_days([day])

    moved = replace(day, factory_id=mungania.factory.id, stack_id=mungania.stack.id, amount=82.0)
    await store.write_meter_days([moved])

    (found,) = await store.meter_days(kangaita.factory.id, date(2000, 1, 1), date(2100, 1, 1))
    assert found == replace(day, amount=82.0)


def test_every_noun_has_the_columns_that_its_table_keeps() -> None:
    """A new field of a noun that no column keeps would be lost without a word."""
    for noun, table, others in (
        (EnergyEntry, tables.EnergyEntryRow, {"source"}),
        (ProductionEntry, tables.ProductionEntryRow, set()),
        (Target, tables.TargetRow, set()),
        (Statement, tables.StatementRow, set()),
    ):
        assert {item.name for item in fields(noun)} - others <= set(table._meta.fields_map)
