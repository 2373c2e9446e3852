"""How sure a figure is: the laws of combining, the budget of a plan, and what a period makes of it."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.emissions.substitution import substitute
from carbontrack.emissions.uncertainty import (
    budget,
    combine_product,
    combine_sum,
    expanded,
    mrr_tier,
    period_uncertainty,
)
from carbontrack.model import MonitoringPlan
from tests.test_substitution import hours

shares = st.floats(0, 0.5)


@given(st.lists(shares, min_size=1, max_size=8), shares)
def test_another_factor_never_makes_a_product_surer(factors: list[float], more: float) -> None:
    assert combine_product(*factors, more) >= combine_product(*factors) - 1e-12


@given(st.permutations([0.03, 0.05, 0.08, 0.02]))
def test_the_order_of_factors_does_not_matter(factors: list[float]) -> None:
    assert combine_product(*factors) == pytest.approx(combine_product(0.03, 0.05, 0.08, 0.02))


@given(st.integers(1, 50), st.floats(0.01, 0.5))
def test_equal_independent_stacks_are_surer_by_the_square_root_of_their_number(number: int, u: float) -> None:
    terms = [(100.0, u)] * number

    assert combine_sum(terms) == pytest.approx(u / sqrt(number))
    assert combine_sum(terms, correlated=True) == pytest.approx(u)


def test_a_sum_of_nothing_is_unsure_of_nothing() -> None:
    assert combine_sum([]) == 0
    assert combine_sum([(0.0, 0.1)]) == 0


@pytest.mark.parametrize(("share", "tier"), [(0.025, 4), (0.05, 3), (0.06, 2), (0.10, 1), (0.1001, None), (0.25, None)])
def test_the_tiers_are_those_of_the_mrr(share: float, tier: int | None) -> None:
    assert mrr_tier(share) == tier


def test_a_plan_by_default_is_where_low_cost_instruments_are() -> None:
    """12 to 25 %, no tier; the profile factor that nobody has measured is the largest part."""
    lines = budget(MonitoringPlan())

    assert 0.12 <= expanded(combine_product(*(line.u_relative for line in lines))) <= 0.25
    assert lines[0].factor == "profile"
    assert sum(line.share_of_variance for line in lines) == pytest.approx(1)


def test_a_wet_analyser_is_not_unsure_of_the_water() -> None:
    lines = {line.factor: line.u_relative for line in budget(MonitoringPlan(basis="wet"))}

    assert lines["h2o"] == 0


class TestPeriods:
    PLAN = MonitoringPlan()

    def test_only_the_random_part_falls_with_the_number_of_hours(self) -> None:
        one = period_uncertainty(self.PLAN, substitute(hours("v")))
        many = period_uncertainty(self.PLAN, substitute(hours("v" * 100)))

        assert one is not None
        assert many is not None
        assert many.u_random == pytest.approx(one.u_random / 10)
        assert many.u_systematic == one.u_systematic
        assert one.u_relative == pytest.approx(one.u_hour)

    def test_hours_that_were_not_measured_make_it_less_sure(self) -> None:
        rates = [0.1, 0.2] * 5
        whole = period_uncertainty(self.PLAN, substitute(hours("v" * 10, rates)))
        gappy = period_uncertainty(self.PLAN, substitute(hours("v" * 10 + "m" * 10, rates)))

        assert whole is not None
        assert gappy is not None
        assert gappy.u_substituted > 0
        assert gappy.expanded_relative > whole.expanded_relative

    def test_without_any_mass_there_is_nothing_to_be_unsure_of(self) -> None:
        assert period_uncertainty(self.PLAN, substitute(hours("ooo"))) is None
