"""From samples to hours: what a reading speaks for, when the boiler runs, when an hour is valid, and the laws."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from math import fsum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.emissions.hours import (
    Point,
    combine,
    day_of,
    hour_is_valid,
    hour_mass_kg,
    hour_of,
    missing_hour,
    summarise,
)
from carbontrack.emissions.rate import NO_CO2, Rate, emission_rate
from carbontrack.ledger import Cause, HourStatus, Summary
from carbontrack.model import Flag, MonitoringPlan, Sample

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)
PLAN = MonitoringPlan()
FIRING: dict[str, Any] = {"co2_ppm": 98_000.0, "temperature_c": 183.25, "velocity_ms": 4.12, "pressure_kpa": 79.68}
BETWEEN: dict[str, Any] = {"co2_ppm": 8_000.0, "temperature_c": 70.0, "velocity_ms": 0.4}
COLD: dict[str, Any] = {"co2_ppm": 900.0, "temperature_c": 31.0, "velocity_ms": 0.2, "pressure_kpa": 79.68}
FIRING_KG_PER_S = 0.14853687
"""By hand, in docs/calculation.md."""


def at(second: float, status: int = 0, **values: Any) -> Point:
    sample = Sample(0, 0, status=status, **(FIRING | values))
    return Point(START_MS + round(second * 1000), emission_rate(sample, PLAN, 79.7, status))


def every_5_s(first: int, last: int, status: int = 0, **values: Any) -> list[Point]:
    """Readings from ``first`` to before ``last``, in seconds after the hour's start."""
    return [at(second, status, **values) for second in range(first, last, 5)]


def buckets(points: list[Point]) -> list[Summary]:
    found = [summarise(points, 1, START_MS + number * 300_000) for number in range(12)]
    return [summary for summary in found if summary is not None]


def hour(points: list[Point], policy: str = "share") -> Any:
    return hour_of(buckets(points), START, policy)


class TestFiveMinutes:
    def test_a_steady_fire_gives_rate_times_time(self) -> None:
        summary = summarise(every_5_s(0, 310), 1, START_MS)

        assert summary is not None
        assert (summary.count, summary.running_s, summary.valid_s, summary.off_s) == (60, 300, 300, 0)
        assert summary.co2_kg == pytest.approx(FIRING_KG_PER_S * 300, rel=1e-6)
        assert summary.co2_fraction_s / summary.co2_s == pytest.approx(0.08624)
        assert summary.temperature_c_s / summary.temperature_s == pytest.approx(183.25)

    def test_a_reading_speaks_across_the_border_and_each_side_gets_its_part(self) -> None:
        points = [at(280), at(310)]

        first, second = (summarise(points, 1, START_MS + start) for start in (0, 300_000))

        assert first is not None
        assert second is not None
        assert (first.count, first.valid_s) == (1, 20)
        assert (second.count, second.valid_s) == (1, 15)  # 10 s of the reading before, 5 s of its own

    @pytest.mark.parametrize(("gap_s", "spoken_s"), [(5, 10), (60, 65), (60.001, 10), (200, 10)])
    def test_a_reading_speaks_for_a_minute_at_most(self, gap_s: float, spoken_s: float) -> None:
        summary = summarise([at(0), at(gap_s)], 1, START_MS)

        assert summary is not None
        assert summary.valid_s == pytest.approx(spoken_s)

    def test_without_readings_there_is_nothing(self) -> None:
        assert summarise([], 1, START_MS) is None
        assert summarise([at(-60), at(300)], 1, START_MS) is None

    def test_a_boiler_that_is_off_emits_nothing_and_that_is_known(self) -> None:
        summary = summarise(every_5_s(0, 310, **COLD), 1, START_MS)

        assert summary is not None
        assert (summary.off_s, summary.running_s, summary.co2_kg) == (300, 0, 0)
        assert (summary.min_kg_per_s, summary.max_kg_per_s) == (0, 0)

    def test_without_co2_the_flow_still_counts(self) -> None:
        summary = summarise(every_5_s(0, 310, int(Flag.CO2_FAULT)), 1, START_MS)

        assert summary is not None
        assert (summary.valid_s, summary.co2_s, summary.running_s, summary.flow_s) == (0, 0, 300, 300)
        assert summary.flags == Flag.CO2_FAULT

    @given(cuts=st.sets(st.integers(1, 599), max_size=60))
    def test_spans_add_up_whatever_the_readings(self, cuts: set[int]) -> None:
        """Hour additivity: what ten minutes have is what their two halves have."""
        points = [at(second, co2_ppm=60_000 + 50 * second) for second in sorted({0, *cuts})]

        whole = summarise(points, 1, START_MS, 600)
        halves = [summarise(points, 1, START_MS + start) for start in (0, 300_000)]
        parts = [half for half in halves if half is not None]

        assert whole is not None
        together = combine(parts, START, 600)
        for name in ("count", "flags", "min_kg_per_s", "max_kg_per_s"):
            assert getattr(together, name) == getattr(whole, name)
        for name in ("running_s", "off_s", "valid_s", "co2_kg", "flow_nm3", "co2_fraction_s", "temperature_c_s"):
            assert getattr(together, name) == pytest.approx(getattr(whole, name), abs=1e-9), name

    @given(order=st.permutations(range(12)))
    def test_the_order_in_which_spans_are_added_does_not_matter(self, order: list[int]) -> None:
        parts = buckets([at(second, co2_ppm=50_000 + 17.3 * second) for second in range(0, 3600, 5)])

        assert combine([parts[place] for place in order], START, 3600) == combine(parts, START, 3600)

    @given(times=st.floats(0.2, 1.9))
    def test_mass_is_proportional_to_the_concentration(self, times: float) -> None:
        one = summarise(every_5_s(0, 310), 1, START_MS)
        other = summarise(every_5_s(0, 310, co2_ppm=98_000 * times), 1, START_MS)

        assert one is not None
        assert other is not None
        assert other.co2_kg == pytest.approx(one.co2_kg * times)


class TestWhetherTheBoilerRuns:
    """On above 80 degC, 0.5 m/s and 1 % CO2; off below 60 degC, 0.3 m/s or 0.5 %; between them as it was."""

    def vote(self, status: int = 0, **values: Any) -> int:
        return at(0, status, **values).rate.vote

    def test_hot_gas_with_co2_that_moves_is_a_fire(self) -> None:
        assert self.vote() == 1

    @pytest.mark.parametrize(
        "values", [{"temperature_c": 59.0}, {"co2_ppm": 5_000.0}, {"temperature_c": 70.0, "velocity_ms": 0.29}]
    )
    def test_one_value_below_its_threshold_says_that_it_is_off(self, values: dict[str, Any]) -> None:
        assert self.vote(**values) < 0

    def test_between_the_thresholds_nothing_is_decided(self) -> None:
        assert self.vote(**BETWEEN) == 0

    def test_what_cannot_be_trusted_has_no_say(self) -> None:
        assert self.vote(int(Flag.CO2_FAULT), co2_ppm=0.0) == 1
        assert self.vote(int(Flag.TEMPERATURE_OPEN), temperature_c=0.0) == 1

    def test_hot_gas_without_co2_is_a_fire_that_went_out_or_a_pump_that_stands(self) -> None:
        assert self.vote(co2_ppm=420.0) == NO_CO2

    def test_an_anemometer_that_stands_in_hot_gas_is_not_believed(self) -> None:
        rate = at(0, velocity_ms=0.0).rate

        assert rate.vote == 1
        assert rate.flags & Flag.VELOCITY_IMPLAUSIBLE
        assert rate.co2_kg_per_s is None

    def test_the_device_decides_where_nothing_else_is_known(self) -> None:
        lost = int(Flag.CO2_FAULT | Flag.TEMPERATURE_OPEN)

        assert self.vote(lost) == 0
        assert self.vote(lost | int(Flag.BOILER_OFF)) == -1

    @pytest.mark.parametrize(("before", "off_s"), [(FIRING, 0), (COLD, 300)])
    def test_between_the_thresholds_it_stays_what_it_was(self, before: dict[str, Any], off_s: float) -> None:
        points = [*every_5_s(-10, 0, **before), *every_5_s(0, 310, **BETWEEN)]

        summary = summarise(points, 1, START_MS)

        assert summary is not None
        assert summary.off_s == off_s

    def test_what_was_ten_minutes_ago_does_not_count(self) -> None:
        """Without a sure reading in that time the boiler is taken to run: what is measured counts."""
        points = [*every_5_s(-700, -600, **COLD), *every_5_s(0, 310, **BETWEEN)]

        summary = summarise(points, 1, START_MS)

        assert summary is not None
        assert summary.running_s == 300

    def test_thresholds_that_contradict_each_other_are_refused(self) -> None:
        with pytest.raises(ValueError, match="off_co2_ppm must not be above on_co2_ppm"):
            MonitoringPlan(on_co2_ppm=1000, off_co2_ppm=2000)


class TestHours:
    def test_a_full_hour_of_steady_fire(self) -> None:
        found = hour(every_5_s(0, 3610))

        assert (found.status, found.cause, found.count) == (HourStatus.VALID, Cause.NONE, 720)
        assert found.co2_kg == pytest.approx(FIRING_KG_PER_S * 3600, rel=1e-6)
        assert (found.operating_fraction, found.coverage) == (1, 1)

    def test_an_hour_is_valid_from_80_percent_on(self) -> None:
        """MRR Art 44(2); the missing fifth is taken to be as the rest."""
        enough = hour(every_5_s(0, 2880))
        too_few = hour(every_5_s(0, 2875))

        assert enough.status is HourStatus.VALID
        assert enough.co2_kg == pytest.approx(FIRING_KG_PER_S * 3600, rel=1e-6)
        assert enough.measured_kg == pytest.approx(FIRING_KG_PER_S * 2880, rel=1e-6)
        assert (too_few.status, too_few.cause, too_few.co2_kg) == (HourStatus.INVALID, Cause.NO_DATA, None)
        assert too_few.measured_kg == pytest.approx(FIRING_KG_PER_S * 2875, rel=1e-6)

    def test_an_hour_that_is_off_is_zero_and_not_missing(self) -> None:
        found = hour(every_5_s(0, 3600, **COLD))

        assert (found.status, found.co2_kg, found.operating_fraction) == (HourStatus.NOT_OPERATING, 0, 0)

    def test_an_hour_that_was_half_off_has_half_the_mass(self) -> None:
        found = hour([*every_5_s(0, 1800), *every_5_s(1800, 3600, **COLD)])

        assert (found.status, found.operating_fraction) == (HourStatus.VALID, 0.5)
        assert found.co2_kg == pytest.approx(FIRING_KG_PER_S * 1800, rel=1e-6)
        assert found.mean_kg_per_s == pytest.approx(FIRING_KG_PER_S, rel=1e-6)

    def test_an_hour_that_was_off_but_for_a_fire_nobody_measured_is_not_valid(self) -> None:
        """88 % of the hour is known; of its fire nothing is."""
        found = hour([*every_5_s(0, 432, int(Flag.CO2_FAULT)), *every_5_s(432, 3600, **COLD)])

        assert (found.status, found.cause) == (HourStatus.INVALID, Cause.MALFUNCTION)
        assert found.mean_flow_nm3_per_s is not None

    def test_a_saturated_room_air_sensor_is_never_averaged_as_truth(self) -> None:
        plan = MonitoringPlan(co2_range_ppm=5000)
        sample = Sample(0, 0, **(FIRING | {"co2_ppm": 5000.0}))
        points = [Point(START_MS + second * 1000, emission_rate(sample, plan, 79.7, 0)) for second in range(0, 3600, 5)]

        found = hour(points)

        assert (found.status, found.cause) == (HourStatus.INVALID, Cause.UNFIT_SENSOR)
        assert (found.co2_kg, found.measured_kg, found.mean_co2_fraction) == (None, 0, None)
        assert found.flags & Flag.CO2_OVER_RANGE

    def test_hot_gas_without_co2_all_hour_is_a_lost_analyser(self) -> None:
        found = hour(every_5_s(0, 3600, co2_ppm=420.0))

        assert (found.status, found.cause, found.operating_fraction) == (HourStatus.INVALID, Cause.CO2_LOST, 1)

    def test_a_fire_that_goes_out_is_not_taken_for_a_lost_analyser(self) -> None:
        found = hour([*every_5_s(0, 1800), *every_5_s(1800, 3600, co2_ppm=600.0, temperature_c=120.0)])

        assert (found.status, found.operating_fraction) == (HourStatus.VALID, 0.5)

    @pytest.mark.parametrize(
        ("spans", "valid"),
        [
            ([(0, 10), (900, 910), (1800, 1810), (2700, 2710)], True),
            ([(0, 1800), (1900, 2700)], False),  # nobody knows of the last quarter that nothing burned
        ],
    )
    def test_by_quadrants_a_point_in_each_quarter_is_enough(self, spans: list[tuple[int, int]], valid: bool) -> None:
        """40 CFR 75.10(d)(1)."""
        points = [point for first, last in spans for point in every_5_s(first, last)]

        assert (hour(points, "quadrant").status is HourStatus.VALID) == valid
        assert hour(points).status is HourStatus.INVALID

    def test_by_quadrants_a_quarter_that_is_off_needs_no_valid_point(self) -> None:
        points = [*every_5_s(0, 2700), *every_5_s(2700, 3600, int(Flag.CO2_FAULT), **COLD)]

        assert hour(points, "quadrant").status is HourStatus.VALID

    def test_an_unknown_policy_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'share' or 'quadrant', not 'most'"):
            hour(every_5_s(0, 3600), "most")

    def test_the_product_of_means_is_kept_beside_the_mean_of_products(self) -> None:
        """A hand-fired boiler: much CO2 comes with little draught, and the two means miss that."""
        points = [
            at(second, co2_ppm=140_000.0, velocity_ms=2.5) if second % 600 < 200 else at(second, velocity_ms=5.0)
            for second in range(0, 3605, 5)
        ]

        found = hour(points)

        expected = fsum(point.rate.co2_kg_per_s or 0 for point in points[:720]) / 720
        assert found.mean_kg_per_s == pytest.approx(expected)
        assert found.product_of_means_kg_per_s == pytest.approx(
            found.mean_co2_fraction * found.mean_flow_nm3_per_s * 1.9635, rel=1e-4
        )
        assert found.product_of_means_kg_per_s > 1.04 * found.mean_kg_per_s

    @given(running=st.integers(0, 3600), off=st.integers(0, 3600), share=st.floats(0, 1))
    def test_more_valid_time_never_makes_an_hour_invalid(self, running: int, off: int, share: float) -> None:
        off = min(off, 3600 - running)
        valid = running * share

        if hour_is_valid(valid + off, running, valid):
            assert hour_is_valid(running + off, running, running)

    @given(rate=st.floats(0, 2), fraction=st.floats(0, 1))
    def test_the_mass_of_an_hour_is_linear(self, rate: float, fraction: float) -> None:
        assert hour_mass_kg(rate, fraction) == pytest.approx(rate * 3600 * fraction)

    def test_a_missing_hour_knows_nothing(self) -> None:
        found = missing_hour(7, START)

        assert (found.stack_id, found.status, found.co2_kg, found.coverage) == (7, HourStatus.MISSING, None, 0)


def test_a_day_is_the_sum_of_its_valid_hours() -> None:
    fire = hour(every_5_s(0, 3610))
    cold = hour_of(buckets(every_5_s(0, 3600, **COLD)), START + timedelta(hours=1))
    broken = hour_of(buckets(every_5_s(0, 3600, int(Flag.CO2_FAULT))), START + timedelta(hours=2))

    day = day_of([fire, cold, broken], date(2026, 3, 1))

    assert (day.valid_hours, day.not_operating_hours, day.invalid_hours) == (1, 1, 1)
    assert day.co2_kg == fire.co2_kg
    assert day.operating_h == 2
    assert day.coverage == pytest.approx(2 / 24)
    assert day.mean_kg_per_s == pytest.approx(FIRING_KG_PER_S, rel=1e-6)


def test_a_rate_struct_needs_no_more_than_its_numbers() -> None:
    """Whoever has rates of another chain can integrate them with ours."""
    rate = Rate(0.1, None, None, 80.0, 0, vote=1)

    summary = summarise([Point(START_MS, rate), Point(START_MS + 5000, rate)], 1, START_MS)

    assert summary is not None
    assert summary.co2_kg == pytest.approx(1.0)
