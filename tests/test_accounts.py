"""A factory's account: four numbers that are never one, fuel in a stack not counted twice, zero-rating by evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.data import load_factor_rows
from carbontrack.emissions.accounts import (
    Account,
    CorroborationStatus,
    StackInput,
    account,
    canonical_json,
    corroborate,
    intensity,
    intensity_u_relative,
    split_stack_co2,
    to_dict,
)
from carbontrack.emissions.factors import FactorSet, parse_factors
from carbontrack.emissions.substitution import substitute, total
from carbontrack.emissions.targets import (
    Contestant,
    leaderboard,
    metric_value,
    programme,
    target_status,
)
from carbontrack.emissions.uncertainty import period_uncertainty
from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    EntrySource,
    Metric,
    ProductionEntry,
    Sustainability,
    Target,
    TargetStatus,
)
from carbontrack.model import MonitoringPlan, Stack
from tests.test_substitution import START, hours

FACTORS = FactorSet.of(parse_factors(load_factor_rows(), "shipped"))
PLAN = MonitoringPlan()
END = START + timedelta(days=1)
DAY = timedelta(days=1)
STACK_KG = 24 * 540.0
"""A day of valid hours with 0.15 kg/s."""
WOOD_CO2_KG_PER_KG = 13.26425 * 112 / 1000
DIESEL_CO2_KG_PER_LITRE = 0.84 / 1000 * 43 * 74.1


def stack(letters: str = "v" * 24, stack_id: int = 1) -> StackInput:
    taken = substitute(hours(letters))
    return StackInput(
        Stack(stack_id, 1, f"Boiler {stack_id}", (PLAN,)), PLAN, taken, total(taken), period_uncertainty(PLAN, taken)
    )


def energy(energy_type: EnergyType, amount: float, unit: str, **changed: Any) -> EnergyEntry:
    values = {"period_start": START, "period_end": END} | changed
    return EnergyEntry(1, 1, 1, energy_type, amount, unit, **values)


def wood(kg: float, **changed: Any) -> EnergyEntry:
    return energy(EnergyType.FIREWOOD, kg, "kg", **({"moisture": 0.25} | changed))


def diesel(litres: float, **changed: Any) -> EnergyEntry:
    return energy(EnergyType.DIESEL, litres, "litres", **changed)


def power(kwh: float, **changed: Any) -> EnergyEntry:
    return energy(EnergyType.ELECTRICITY, kwh, "kWh", **changed)


def tea(kg: float | None, leaf: float | None = None) -> ProductionEntry:
    return ProductionEntry(1, 1, 1, START, END, leaf, kg)


def made(
    stacks: list[StackInput] | None = None,
    entries: list[EnergyEntry] | None = None,
    production: list[ProductionEntry] | None = None,
    **changed: Any,
) -> Account:
    values: dict[str, Any] = {
        "factory_id": 1,
        "period_start": START,
        "period_end": END,
        "stacks": [stack()] if stacks is None else stacks,
        "entries": entries or [],
        "production": production or [],
        "factors": FACTORS,
    }
    return account(**(values | changed))


class TestFourNumbers:
    def test_each_comes_from_its_own_source(self) -> None:
        found = made(entries=[wood(9000), diesel(100), power(1000)])

        assert found.biogenic_co2.value_kg == pytest.approx(STACK_KG)
        assert found.fossil_co2.value_kg == pytest.approx(100 * DIESEL_CO2_KG_PER_LITRE)
        assert found.grid_co2e.value_kg == pytest.approx(70.5)
        wood_gj, diesel_gj = 9000 * 13.26425 / 1000, 100 * 0.84 / 1000 * 43
        gases = wood_gj * (0.03 * 28 + 0.004 * 265) + diesel_gj * (0.003 * 28 + 0.0006 * 265)
        assert found.ch4_n2o_co2e.value_kg == pytest.approx(gases)

    def test_there_is_no_total_anywhere(self) -> None:
        """Not under any name, and no number that is the sum of some of the four."""
        found = made(entries=[wood(9000), diesel(100), power(1000)], production=[tea(4000)])
        four = [found.biogenic_co2, found.fossil_co2, found.ch4_n2o_co2e, found.grid_co2e]
        values = [figure.value_kg or 0.0 for figure in four]
        sums = [values[0] + values[1] + values[2] + values[3], values[0] + values[2], values[0] + values[3]]

        def numbers(value: Any) -> list[float]:
            if isinstance(value, dict):
                return [number for each in value.values() for number in numbers(each)]
            if isinstance(value, list):
                return [number for each in value for number in numbers(each)]
            return [value] if isinstance(value, float) else []

        shown = numbers(to_dict(found))
        assert not [number for number in shown for wrong in sums if number == pytest.approx(wrong, rel=1e-6)]

    def test_nothing_entered_is_not_zero(self) -> None:
        found = made()

        assert found.fossil_co2.value_kg is None
        assert found.grid_co2e.value_kg is None
        assert found.made_tea_kg is None
        assert "No firewood was entered" in " ".join(found.remarks)

    def test_without_wood_entries_the_gases_are_those_of_the_wood_that_the_measurement_implies(self) -> None:
        found = made()

        assert found.ch4_n2o_co2e.value_kg == pytest.approx(STACK_KG / 112 * (0.03 * 28 + 0.004 * 265))
        assert "worked out from the measured CO2" in found.ch4_n2o_co2e.remarks[0]

    def test_without_a_measurement_the_wood_is_what_is_known(self) -> None:
        found = made(stacks=[], entries=[wood(9000)])

        assert found.biogenic_co2.basis == "calculated"
        assert found.biogenic_co2.value_kg == pytest.approx(9000 * WOOD_CO2_KG_PER_KG)
        assert found.corroboration.status is CorroborationStatus.NO_MEASUREMENT

    def test_a_stack_with_an_hour_that_has_no_value_has_no_mass(self) -> None:
        found = made(stacks=[stack("v" + "m" * 23)])

        assert found.stack_co2.value_kg is None
        assert found.biogenic_co2.value_kg is None
        assert "have no value" in found.stack_co2.remarks[0]

    def test_every_figure_says_what_it_is_made_of(self) -> None:
        found = made(entries=[diesel(100)])

        assert found.fossil_co2.formula
        assert found.fossil_co2.inputs["diesel_litres"] == 100
        assert {row.name for row in found.fossil_co2.factors} >= {"diesel.co2", "diesel.ncv", "diesel.density"}
        assert {row.version for row in found.fossil_co2.factors} == {FACTORS.version}


class TestTheSplit:
    def test_diesel_in_a_stack_is_in_the_measurement_already(self) -> None:
        """Counted once: out of the biogenic part, into the fossil part."""
        found = made(entries=[wood(9000), diesel(100, stack_id=1)])

        fossil = 100 * DIESEL_CO2_KG_PER_LITRE
        assert found.biogenic_co2.value_kg == pytest.approx(STACK_KG - fossil)
        assert found.fossil_co2.value_kg == pytest.approx(fossil)

    def test_a_generators_diesel_is_not_in_the_stack(self) -> None:
        assert made(entries=[diesel(100)]).biogenic_co2.value_kg == pytest.approx(STACK_KG)

    @given(st.floats(0, 1e6), st.floats(0, 1e6))
    def test_the_parts_are_the_whole(self, stack_kg: float, fossil_kg: float) -> None:
        biogenic, fossil = split_stack_co2(stack_kg, fossil_kg)

        assert biogenic + fossil == pytest.approx(stack_kg)
        assert biogenic >= 0

    def test_electricity_made_on_site_counts_by_its_diesel_only(self) -> None:
        genset = energy(EnergyType.GENSET_ELECTRICITY, 500, "kWh")

        without, with_it = made(entries=[diesel(100)]), made(entries=[diesel(100), genset])

        assert with_it.fossil_co2.value_kg == without.fossil_co2.value_kg
        assert with_it.grid_co2e.value_kg is None
        assert "no diesel was entered" in " ".join(made(entries=[genset]).remarks)


class TestZeroRating:
    @given(st.floats(1, 1e5), st.floats(1, 1e5))
    def test_it_follows_the_energy_with_evidence(self, proven_kg: float, other_kg: float) -> None:
        found = made(entries=[wood(proven_kg, sustainability=Sustainability.YES), wood(other_kg)])

        share = proven_kg / (proven_kg + other_kg)
        assert found.zero_rated_co2_kg == pytest.approx(STACK_KG * share)
        assert found.not_zero_rated_co2_kg == pytest.approx(STACK_KG * (1 - share))

    @pytest.mark.parametrize("sustainability", [Sustainability.NO, Sustainability.UNKNOWN])
    def test_without_evidence_nothing_is(self, sustainability: Sustainability) -> None:
        assert made(entries=[wood(9000, sustainability=sustainability)]).zero_rated_co2_kg == 0
        assert made().zero_rated_co2_kg == 0


class TestEntries:
    def test_what_lies_partly_in_the_period_counts_by_its_share(self) -> None:
        found = made(entries=[power(1000, period_end=END + 3 * DAY)])

        assert found.grid_co2e.value_kg == pytest.approx(70.5 / 4)

    @given(st.integers(1, 23))
    def test_an_entry_in_two_parts_is_the_same_entry(self, cut: int) -> None:
        middle = START + timedelta(hours=cut)
        one = made(entries=[wood(2400)])
        two = made(
            entries=[wood(2400 * cut / 24, period_end=middle), wood(2400 * (24 - cut) / 24, period_start=middle)]
        )

        assert two.wood_kg == pytest.approx(one.wood_kg)
        assert two.corroboration.calculated_kg == pytest.approx(one.corroboration.calculated_kg)
        assert two.ch4_n2o_co2e.value_kg == pytest.approx(one.ch4_n2o_co2e.value_kg)

    def test_withdrawn_entries_do_not_count(self) -> None:
        assert made(entries=[power(1000, withdrawn=True)]).grid_co2e.value_kg is None

    def test_where_there_is_a_meter_it_counts_and_the_typed_stands_beside(self) -> None:
        metered = power(900, source=EntrySource.METER)

        found = made(entries=[power(1000), metered])

        assert found.grid_co2e.value_kg == pytest.approx(900 * 0.0705)
        (row,) = found.reconciliations
        assert (row.metered, row.typed_for_metered_time, row.counted, row.unit) == (900, 1000, 900, "kWh")
        assert row.ratio == pytest.approx(1000 / 900)

    def test_where_the_meter_was_silent_the_typed_counts(self) -> None:
        """A typed entry of a day; the meter has its first half."""
        half = START + timedelta(hours=12)
        metered = power(450, source=EntrySource.METER, period_end=half)

        found = made(entries=[power(1000), metered])

        assert found.grid_co2e.value_kg == pytest.approx((450 + 500) * 0.0705)

    def test_the_meter_of_another_stack_says_nothing_of_this_one(self) -> None:
        metered = diesel(10, stack_id=2, source=EntrySource.METER)

        found = made(entries=[diesel(30, stack_id=1), metered])

        assert found.fossil_co2.value_kg == pytest.approx(40 * DIESEL_CO2_KG_PER_LITRE)


class TestSums:
    def test_two_stacks_are_the_sum_and_surer_than_one(self) -> None:
        one, two = made(), made(stacks=[stack(), stack(stack_id=2)])

        assert two.stack_co2.value_kg == pytest.approx(2 * STACK_KG)
        assert one.stack_co2.u_relative is not None
        assert two.stack_co2.u_relative == pytest.approx(one.stack_co2.u_relative / sqrt(2))

    def test_the_availability_is_that_of_all_stacks_together(self) -> None:
        found = made(stacks=[stack(), stack("v" * 12 + "m" * 12, stack_id=2)])

        assert found.availability == pytest.approx(36 / 48)

    def test_substituted_mass_is_said_beside_the_figure(self) -> None:
        found = made(stacks=[stack("v" * 20 + "mmmm")])

        assert "4 hours stand in for what was not measured" in found.stack_co2.remarks[0]

    def test_intensities_are_ratios_of_sums(self) -> None:
        found = made(entries=[wood(9000)], production=[tea(1500, 6000), tea(2500)])

        assert found.made_tea_kg == 4000
        assert found.green_leaf_kg == 6000
        assert found.intensities[Metric.STACK_CO2_PER_TEA] == pytest.approx(STACK_KG / 4000)
        assert found.intensities[Metric.WOOD_PER_TEA] == pytest.approx(9000 / 4000)

    def test_an_intensity_of_two_figures_is_as_unsure_as_both(self) -> None:
        """CH4 and N2O are most of it, and nobody knows them better than by half."""
        found = made(entries=[wood(9000), diesel(10)], production=[tea(4000)])

        u_relative = intensity_u_relative(found, Metric.FOSSIL_CO2E_PER_TEA)
        assert u_relative is not None
        assert u_relative > 0.5
        assert intensity_u_relative(found, Metric.WOOD_PER_TEA) is None

    @pytest.mark.parametrize("tea_kg", [None, 0.0])
    def test_without_tea_there_is_no_intensity(self, tea_kg: float | None) -> None:
        assert intensity(100.0, tea_kg) is None

    @given(st.floats(1, 1e6), st.floats(1, 1e5), st.floats(0.1, 10))
    def test_an_intensity_does_not_know_the_size(self, kg: float, tea_kg: float, times: float) -> None:
        assert intensity(kg * times, tea_kg * times) == pytest.approx(intensity(kg, tea_kg))


class TestCorroboration:
    @pytest.mark.parametrize(
        ("ratio", "status"),
        [
            (0.849, CorroborationStatus.OUTSIDE),
            (0.85, CorroborationStatus.INSIDE),
            (1.15, CorroborationStatus.INSIDE),
            (1.151, CorroborationStatus.OUTSIDE),
        ],
    )
    def test_outside_the_band_somebody_must_look(self, ratio: float, status: CorroborationStatus) -> None:
        assert corroborate(ratio * 1000, 1000).status is status

    def test_without_fuel_or_measurement_there_is_no_ratio(self) -> None:
        assert corroborate(1000, None).status is CorroborationStatus.NO_FUEL
        assert corroborate(None, 1000).status is CorroborationStatus.NO_MEASUREMENT

    def test_what_burnt_before_the_stack_was_monitored_is_not_compared(self) -> None:
        """A stack whose hours begin at noon: half of the day's wood and tea stand against them."""
        late = stack("v" * 24)
        late = replace(late, hours=late.hours[12:], period=total(late.hours[12:]))

        found = made(stacks=[late], entries=[wood(9000)], production=[tea(4000)])

        assert found.wood_kg == 9000
        assert found.corroboration.calculated_kg == pytest.approx(4500 * WOOD_CO2_KG_PER_KG)
        assert found.intensities[Metric.STACK_CO2_PER_TEA] == pytest.approx(STACK_KG / 2 / 2000)

    def test_diesel_in_the_stack_is_on_both_sides(self) -> None:
        found = made(entries=[wood(9000), diesel(100, stack_id=1), diesel(50)])

        expected = 9000 * WOOD_CO2_KG_PER_KG + 100 * DIESEL_CO2_KG_PER_LITRE
        assert found.corroboration.calculated_kg == pytest.approx(expected)


class TestCanonicalJson:
    def test_equal_accounts_are_equal_to_the_byte(self) -> None:
        entries = [wood(9000), diesel(100), power(1000)]

        assert canonical_json(to_dict(made(entries=entries))) == canonical_json(to_dict(made(entries=entries)))

    @pytest.mark.parametrize(
        "changed", [[wood(9001)], [wood(9000, moisture=0.26)], [wood(9000, sustainability=Sustainability.YES)]]
    )
    def test_any_other_input_is_another_text(self, changed: list[EnergyEntry]) -> None:
        assert canonical_json(to_dict(made(entries=changed))) != canonical_json(to_dict(made(entries=[wood(9000)])))

    def test_it_is_json_with_sorted_keys(self) -> None:
        text = canonical_json(to_dict(made()))

        assert list(json.loads(text)) == sorted(json.loads(text))


# --- targets and the leaderboard


TARGET = Target(1, 1, Metric.STACK_CO2_PER_TEA, 3.5, date(2026, 1, 1))


@pytest.mark.parametrize(
    ("value", "availability", "status"),
    [
        (3.5, 0.8, TargetStatus.MET),
        (3.51, 1.0, TargetStatus.NOT_MET),
        (None, 1.0, TargetStatus.INSUFFICIENT_DATA),
        (3.0, 0.79, TargetStatus.INSUFFICIENT_DATA),
        (3.0, None, TargetStatus.INSUFFICIENT_DATA),
    ],
)
def test_a_target_is_met_not_met_or_there_is_too_little_data(
    value: float | None, availability: float | None, status: TargetStatus
) -> None:
    assert target_status(TARGET, value, availability) is status


def test_a_target_that_is_not_measured_needs_no_availability() -> None:
    assert target_status(replace(TARGET, metric=Metric.WOOD_PER_TEA), 2.0, None) is TargetStatus.MET


def test_the_value_of_a_metric_is_that_of_the_account() -> None:
    found = made(entries=[wood(9000)], production=[tea(4000)])

    assert metric_value(found, Metric.STACK_CO2) == found.stack_co2.value_kg
    assert metric_value(found, Metric.WOOD_PER_TEA) == pytest.approx(2.25)


contestants = st.lists(
    st.builds(
        Contestant,
        factory_id=st.integers(1, 10_000),
        name=st.sampled_from(["Kangaita", "Mungania", "Imenti"]),
        value=st.none() | st.floats(0.5, 9),
        expanded_relative=st.none() | st.floats(0, 0.4),
        availability=st.none() | st.floats(0, 1),
        before=st.none() | st.floats(0.5, 9),
    ),
    unique_by=lambda contestant: contestant.factory_id,
    max_size=15,
)


@given(contestants, st.randoms())
def test_the_order_of_the_list_does_not_matter(given_contestants: list[Contestant], random: Any) -> None:
    shuffled = given_contestants[:]
    random.shuffle(shuffled)

    assert leaderboard(shuffled) == leaderboard(given_contestants)


@given(contestants)
def test_a_rank_is_for_who_measured_enough_and_lower_is_never_behind(given_contestants: list[Contestant]) -> None:
    rows = leaderboard(given_contestants)

    for row in rows:
        assert (row.rank is None) == bool(row.reason_unranked)
        if row.rank is not None:
            assert row.availability is not None
            assert row.availability >= 0.8
    ranked = [row for row in rows if row.rank is not None]
    assert [row.rank for row in ranked] == sorted(row.rank or 0 for row in ranked)
    assert [row.value for row in ranked] == sorted(row.value or 0.0 for row in ranked)
    for place, row in enumerate(ranked, 1):
        assert row.rank == 1 + sum(other.rank != row.rank for other in ranked[: place - 1]) or row.tied


def test_factories_whose_uncertainties_overlap_with_the_best_share_its_rank() -> None:
    rows = leaderboard(
        [
            Contestant(1, "A", 3.0, 0.10, 0.9, before=3.3),
            Contestant(2, "B", 3.5, 0.10, 0.9),
            Contestant(3, "C", 4.1, 0.10, 0.9),
            Contestant(4, "D", 2.0, 0.10, 0.5),
        ]
    )

    assert [(row.name, row.rank, row.tied) for row in rows] == [
        ("A", 1, True), ("B", 1, True), ("C", 3, False), ("D", None, False),
    ]  # fmt: skip
    assert rows[0].trend == pytest.approx(3.0 / 3.3 - 1)
    assert "Only 50% of the operating hours are valid" in rows[3].reason_unranked


def test_the_programmes_figures_are_counts_with_what_they_are_out_of() -> None:
    found = programme(
        known_hours=900.0,
        all_hours=1000.0,
        submitted=[True, False, True],
        statuses=[TargetStatus.MET, None, TargetStatus.INSUFFICIENT_DATA],
    )

    assert (found.uptime, found.factories, found.submitting) == (0.9, 3, 2)
    assert (found.with_target, found.meeting_target, found.insufficient_data) == (2, 1, 1)
    assert programme(known_hours=0, all_hours=0, submitted=[], statuses=[]).uptime is None


def test_times_of_an_account_are_those_of_its_period() -> None:
    found = made()

    assert (found.period_start, found.period_end) == (datetime(2026, 3, 1, 21, tzinfo=UTC), END)
