"""What stands in for missing hours: never below the plain mean, always beside what was measured, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from carbontrack.emissions.gas import CO2_KG_PER_NM3
from carbontrack.emissions.hours import missing_hour
from carbontrack.emissions.substitution import (
    annual_emission_t,
    epa_substitute,
    mean_plus_two_sigma,
    operating_fractions,
    percentile,
    substitute,
    total,
)
from carbontrack.ledger import AccountHour, Cause, Hour, HourStatus, Method

START = datetime(2026, 3, 1, 21, tzinfo=UTC)
"""Midnight in Nairobi."""


def valid(number: int, rate: float = 0.15, fraction: float = 1.0, co2: float = 0.09, flow: float = 0.85) -> Hour:
    return replace(
        missing_hour(1, START + timedelta(hours=number)),
        status=HourStatus.VALID,
        cause=Cause.NONE,
        co2_kg=rate * 3600 * fraction,
        measured_kg=rate * 3600 * fraction,
        operating_fraction=fraction,
        coverage=1.0,
        mean_kg_per_s=rate,
        mean_co2_fraction=co2,
        mean_flow_nm3_per_s=flow,
        product_of_means_kg_per_s=rate,
        count=720,
    )


def off(number: int) -> Hour:
    return replace(
        missing_hour(1, START + timedelta(hours=number)),
        status=HourStatus.NOT_OPERATING,
        cause=Cause.NONE,
        co2_kg=0.0,
        operating_fraction=0.0,
        coverage=1.0,
    )


def missing(number: int) -> Hour:
    return missing_hour(1, START + timedelta(hours=number))


def co2_lost(number: int, flow: float = 0.85) -> Hour:
    return replace(
        missing(number), status=HourStatus.INVALID, operating_fraction=1.0, mean_flow_nm3_per_s=flow, count=720
    )


def hours(text: str, rates: Sequence[float] = ()) -> list[Hour]:
    """Hours by letters: v valid, o off, m missing, c CO2 lost."""
    given_rates = iter(rates)
    make = {"v": lambda n: valid(n, next(given_rates, 0.15)), "o": off, "m": missing, "c": co2_lost}
    return [make[letter](number) for number, letter in enumerate(text)]


def masses(found: Sequence[AccountHour]) -> list[float | None]:
    return [hour.co2_kg for hour in found]


rates = st.lists(st.floats(0.01, 0.6), min_size=2, max_size=30)


class TestMeanPlusTwoSigma:
    def test_it_is_that_of_the_sample(self) -> None:
        """MRR Annex VIII, equation 4: 110 + 2 * 10."""
        assert mean_plus_two_sigma([100, 110, 120]) == pytest.approx(130)

    def test_one_value_has_no_spread(self) -> None:
        with pytest.raises(ValueError, match="at least two valid hours"):
            mean_plus_two_sigma([100])

    @given(rates)
    def test_it_is_never_below_the_mean(self, values: list[float]) -> None:
        assert mean_plus_two_sigma(values) >= fmean(values) - 1e-12


class TestMrr:
    def test_where_the_co2_is_lost_the_measured_flow_counts(self) -> None:
        found = substitute([*hours("vv"), co2_lost(2, flow=0.5)])

        assert found[2].method is Method.MRR_CONCENTRATION
        assert found[2].co2_kg == pytest.approx(0.09 * CO2_KG_PER_NM3 * 0.5 * 3600)

    def test_where_all_is_lost_the_fuel_of_the_time_counts(self) -> None:
        found = substitute(hours("vmv"), balance_kg_per_h=lambda _: 480.0)

        assert (found[1].method, found[1].co2_kg) == (Method.MASS_BALANCE, 480.0)
        assert found[1].inflation_kg == pytest.approx(480 - 0.15 * 3600)

    def test_without_fuel_mean_and_two_sigma_of_the_rate_count(self) -> None:
        found = substitute(hours("vmv", [0.10, 0.20]))

        expected = (0.15 + 2 * stdev([0.10, 0.20])) * 3600
        assert found[1].method is Method.MRR_RATE
        assert found[1].co2_kg == pytest.approx(expected)

    @given(rates)
    def test_what_stands_in_is_never_below_the_plain_mean(self, values: list[float]) -> None:
        found = substitute(hours("v" * len(values) + "m", values))

        assert found[-1].co2_kg is not None
        assert found[-1].co2_kg >= fmean(values) * 3600 - 1e-9
        assert found[-1].inflation_kg >= -1e-9

    def test_with_fewer_than_two_valid_hours_there_is_nothing_to_substitute_from(self) -> None:
        found = substitute(hours("vm"))

        assert (found[1].method, found[1].co2_kg) == (Method.NONE, None)
        assert total(found).co2_kg is None
        assert total(found).unknown_hours == 1

    def test_what_was_measured_is_never_touched(self) -> None:
        given_hours = hours("vmvcvo")

        found = substitute(given_hours)

        assert [hour.hour for hour in found] == given_hours
        assert [hour.co2_kg for hour in found if hour.method is Method.MEASURED] == [540.0] * 3


class TestWhetherItRan:
    def test_in_a_short_gap_the_hours_beside_it_say(self) -> None:
        assert operating_fractions(hours("vmmo"), 10_800) == [1, 0.5, 0.5, 0]
        assert operating_fractions(hours("omo"), 10_800) == [0, 0, 0]

    def test_in_a_long_gap_the_same_hour_of_other_days_says(self) -> None:
        """Every day it is off from midnight to six in the morning; of the second day nothing is known."""
        day = "o" * 6 + "v" * 18

        found = operating_fractions(hours(day + "m" * 24 + day), 10_800)

        assert found[24:48] == [0.0] * 6 + [1.0] * 18

    def test_without_anything_known_it_ran(self) -> None:
        assert operating_fractions(hours("mmmmm"), 10_800) == [1.0] * 5

    def test_a_gap_in_which_it_was_off_costs_nothing(self) -> None:
        found = substitute(hours("oomoo"))

        assert masses(found) == [0, 0, 0, 0, 0]
        assert found[2].method is Method.NOT_OPERATING


class TestEpa:
    """40 CFR 75.33(b): the tiers by availability and length of the gap."""

    HISTORY = tuple(float(value) for value in range(1, 101))

    @pytest.mark.parametrize(
        ("gap", "availability", "expected"),
        [
            (24, 0.96, (Method.EPA_BEFORE_AFTER, 50.0)),
            (25, 0.96, (Method.EPA_P90, 90.0)),
            (8, 0.92, (Method.EPA_BEFORE_AFTER, 50.0)),
            (9, 0.92, (Method.EPA_P95, 95.0)),
            (1, 0.85, (Method.EPA_MAXIMUM, 100.0)),
            (1, 0.79, (Method.EPA_POTENTIAL, 500.0)),
        ],
    )
    def test_each_tier_has_its_value(self, gap: int, availability: float, expected: tuple[Method, float]) -> None:
        assert epa_substitute(gap, availability, 40.0, 60.0, self.HISTORY, 500.0) == expected

    def test_the_mean_counts_where_it_is_higher_than_the_percentile(self) -> None:
        assert epa_substitute(30, 0.96, 96.0, 98.0, self.HISTORY, 500.0) == (Method.EPA_BEFORE_AFTER, 97.0)

    @given(
        gaps=st.tuples(st.integers(1, 100), st.integers(1, 100)),
        shares=st.tuples(st.floats(0.5, 1), st.floats(0.5, 1)),
    )
    def test_longer_gaps_and_less_availability_never_make_it_cheaper(
        self, gaps: tuple[int, int], shares: tuple[float, float]
    ) -> None:
        better = epa_substitute(min(gaps), max(shares), 40.0, 60.0, self.HISTORY, 500.0)[1]
        worse = epa_substitute(max(gaps), min(shares), 40.0, 60.0, self.HISTORY, 500.0)[1]

        assert better <= worse

    def test_in_a_period_the_gap_and_the_availability_are_counted(self) -> None:
        found = substitute(hours("v" * 97 + "mmm" + "v" * 0), policy="epa", potential_kg_per_s=0.5)

        assert {hour.method for hour in found[97:]} == {Method.EPA_BEFORE_AFTER}
        assert found[98].co2_kg == pytest.approx(540)

    def test_hours_before_the_period_are_looked_back_on(self) -> None:
        before = [valid(-number, 0.3) for number in range(1, 50)]

        found = substitute(hours("m" * 30 + "v" * 170), policy="epa", before=before, potential_kg_per_s=0.5)

        assert found[0].method is Method.EPA_MAXIMUM
        assert found[0].co2_kg == pytest.approx(0.3 * 3600)

    def test_an_unknown_policy_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'mrr' or 'epa', not 'guess'"):
            substitute(hours("v"), policy="guess")

    @pytest.mark.parametrize(("share", "expected"), [(0, 1), (0.9, 9), (0.91, 10), (1, 10)])
    def test_a_percentile_is_a_value_that_was_there(self, share: float, expected: float) -> None:
        assert percentile([float(value) for value in range(1, 11)], share) == expected


class TestTotals:
    def test_a_period_says_what_it_is_made_of(self) -> None:
        found = total(substitute(hours("vvvmmoov", [0.1, 0.2, 0.15, 0.15]), balance_kg_per_h=lambda _: 600.0))

        assert (found.hours, found.valid_hours, found.not_operating_hours) == (8, 4, 2)
        assert (found.substituted_hours, found.unknown_hours, found.longest_gap_h) == (2, 0, 2)
        assert found.operating_hours == pytest.approx(4 + 2 * 0.5)
        assert found.substituted_kg == pytest.approx(600)
        assert found.availability == pytest.approx(4 / 6)
        assert found.co2_kg == pytest.approx(found.measured_kg + found.substituted_kg)
        assert found.by_method[Method.MASS_BALANCE][0] == 2

    @given(st.lists(st.floats(0.01, 0.6), min_size=4, max_size=40), st.integers(1, 3))
    def test_measured_masses_add_up_over_parts_of_the_time(self, values: list[float], cut: int) -> None:
        taken = substitute(hours("v" * len(values), values))

        parts = total(taken[:cut]).measured_kg + total(taken[cut:]).measured_kg

        assert total(taken).measured_kg == pytest.approx(parts)

    def test_more_than_five_days_out_of_order_must_be_told(self) -> None:
        """MRR Art 45(1)."""
        assert not total(substitute(hours("vv" + "m" * 120))).must_notify
        assert total(substitute(hours("vv" + "m" * 121))).must_notify

    def test_a_period_in_which_nothing_ran_has_no_availability(self) -> None:
        found = total(substitute(hours("oooo")))

        assert (found.co2_kg, found.availability, found.longest_gap_h) == (0, None, 0)

    def test_the_annual_emission_is_that_of_equation_1(self) -> None:
        """MRR Annex VIII: 196 g/Nm3 * 3500 Nm3/h + 180 * 3600 = 1.334 t."""
        assert annual_emission_t([196, 180], [3500, 3600]) == pytest.approx(1.334)
        with pytest.raises(ValueError, match="2 flows for 1 concentrations"):
            annual_emission_t([196], [3500, 3600])
