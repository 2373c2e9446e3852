"""What factories reported, taken together: of whole periods only, weighed by tea, and never of too few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ledger import Metric, Statement
from carbontrack.reported import LEAST_FACTORIES, Reported, medians, newest, together

CO2, WOOD = Metric.STACK_CO2_PER_TEA, Metric.WOOD_PER_TEA
START, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
values = st.floats(0.01, 100)


def part(first: int, last: int, value: float | None, tea_kg: float | None = 100.0) -> Reported:
    """Of the days from ``first`` until before ``last``."""
    return Reported(START + first * DAY, START + last * DAY, tea_kg, {CO2: value})


def of(*parts: Reported, days: int = 30) -> dict[Metric, float]:
    return together(parts, START, START + days * DAY)


def test_parts_that_make_up_the_period_are_weighed_by_their_tea() -> None:
    assert of(part(0, 10, 3.0, 300), part(10, 30, 5.0, 100)) == {CO2: pytest.approx(3.5)}


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [part(0, 29, 3.0)],
        [part(1, 30, 3.0)],
        [part(0, 10, 3.0), part(11, 30, 3.0)],
        [part(0, 10, 3.0), part(10, 31, 3.0)],
        [part(0, 10, 3.0), part(10, 30, 3.0, None)],
        [part(0, 10, 3.0), part(10, 30, 3.0, 0.0)],
        [part(0, 10, 3.0), part(10, 30, None)],
    ],
    ids=["nothing", "a day less", "a day late", "a gap", "a day more", "tea unknown", "no tea", "a value unknown"],
)
def test_what_does_not_make_up_the_period_says_nothing_of_it(parts: Sequence[Reported]) -> None:
    assert of(*parts) == {}


def test_a_report_of_the_whole_period_comes_before_its_parts() -> None:
    assert of(part(0, 10, 1.0), part(10, 30, 1.0), part(0, 30, 2.0)) == {CO2: 2.0}


@given(st.lists(st.tuples(values, values), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_taken_together_a_value_is_the_ratio_of_the_sums(found: list[tuple[float, float]], dice: Random) -> None:
    parts = [part(at, at + 1, value, tea) for at, (value, tea) in enumerate(found)]
    dice.shuffle(parts)

    whole = of(*parts, days=len(parts))[CO2]

    assert whole == pytest.approx(sum(value * tea for value, tea in found) / sum(tea for _, tea in found))


@given(st.lists(values, max_size=9))
def test_a_median_is_of_so_many_factories_that_it_tells_nobodys_figure(found: list[float]) -> None:
    told = medians({CO2: value} for value in found)

    if len(found) < LEAST_FACTORIES:
        assert told == {}
    else:
        middle, count = told[CO2]
        assert count == len(found)
        assert sum(value <= middle for value in found) * 2 >= count
        assert sum(value >= middle for value in found) * 2 >= count


def test_each_metric_counts_the_factories_that_have_it() -> None:
    assert medians([{CO2: 1.0, WOOD: 2.0}, {CO2: 3.0}, {CO2: 2.0}]) == {CO2: (2.0, 3)}


def test_of_each_period_the_newest_version_counts() -> None:
    first = Statement(1, 7, START, START + DAY, 1, "{}", "", "a", START)
    second, other = replace(first, id=3, version=2), replace(first, id=2, factory_id=8)

    for order in ([second, other, first], [first, other, second]):
        assert sorted(newest(order), key=lambda it: it.id) == [other, second]


def test_of_a_statement_its_tea_and_intensities_are_read_and_nothing_else() -> None:
    figures = '{"made_tea_kg": 5.5, "intensities": {"wood_kg_per_kg_made_tea": null}, "stacks": [{"co2": 1}]}'

    found = Reported.of(Statement(1, 7, START, START + DAY, 1, figures, "", "a", START))

    assert found == Reported(START, START + DAY, 5.5, {WOOD: None})
