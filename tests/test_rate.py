"""From one sample to kilograms of CO2 a second: golden numbers from the formulas, and laws for every sample."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import reduce
from math import inf, isfinite, nan
from operator import or_
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.emissions.gas import co2_density_kg_m3, pitot_velocity_ms, pressure_from_altitude_kpa
from carbontrack.emissions.rate import INVALIDATING, Rate, emission_rate, plan_in_force, site_pressure_kpa
from carbontrack.model import Factory, Flag, MonitoringPlan, Sample

VECTORS = json.loads((Path(__file__).parent / "vectors" / "rate.json").read_text(encoding="utf-8"))
SAMPLE = Sample(seq=0, device_time_ms=0, co2_ppm=98_000.0, temperature_c=183.25, velocity_ms=4.12, pressure_kpa=79.68)
PLAN = MonitoringPlan()

temperatures = st.floats(-20, 1000)
pressures = st.floats(50, 110)
velocities = st.floats(0.3, 50)  # slower hot gas is a seized anemometer
ppms = st.floats(0, 195_000)


def factory(altitude_m: float, pressure_kpa: float | None = None) -> Factory:
    return Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, altitude_m, pressure_kpa)


def rate_of(sample: Sample = SAMPLE, plan: MonitoringPlan = PLAN, site_kpa: float = 79.7, **changes: Any) -> Rate:
    sample = msgspec.structs.replace(sample, **changes)
    return emission_rate(sample, plan, site_kpa, sample.status)


def kg_per_s(sample: Sample = SAMPLE, plan: MonitoringPlan = PLAN, site_kpa: float = 79.7, **changes: Any) -> float:
    rate = rate_of(sample, plan, site_kpa, **changes).co2_kg_per_s
    assert rate is not None
    return rate


class TestGoldenVectors:
    @pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["about"])
    def test_the_rate_is_what_the_formulas_give(self, vector: dict[str, Any]) -> None:
        plan = MonitoringPlan(**VECTORS["plans"][vector["plan"]])
        sample = Sample(seq=0, device_time_ms=0, **vector["sample"])
        expected = vector["expected"]

        rate = emission_rate(sample, plan, vector["site_pressure_kpa"], sample.status)

        for name in ("co2_kg_per_s", "flow_rate_m3s", "velocity_ms", "pressure_kpa"):
            value = expected[name] if expected[name] is None else pytest.approx(expected[name], rel=5e-6, abs=0)
            assert getattr(rate, name) == value, name
        assert Flag(rate.flags) == reduce(or_, (Flag[name] for name in expected["flags"]), Flag(0))

    @pytest.mark.parametrize("point", VECTORS["altitude_pressure"], ids=lambda point: f"{point['altitude_m']} m")
    def test_the_pressure_at_an_altitude_is_that_of_the_standard_atmosphere(self, point: dict[str, float]) -> None:
        assert pressure_from_altitude_kpa(point["altitude_m"]) == pytest.approx(point["pressure_kpa"], rel=5e-6)


class TestAltitude:
    def test_published_pressures_of_the_standard_atmosphere_are_met(self) -> None:
        """ISO 2533, table 5: 84.556 kPa at 1500 m, 79.495 kPa at 2000 m."""
        assert pressure_from_altitude_kpa(1500) == pytest.approx(84.556, abs=0.001)
        assert pressure_from_altitude_kpa(2000) == pytest.approx(79.495, abs=0.001)

    def test_a_measured_site_pressure_counts_more_than_the_altitude(self) -> None:
        assert site_pressure_kpa(factory(2036, 78.9)) == 78.9
        assert site_pressure_kpa(factory(2036)) == pytest.approx(79.1405, rel=1e-5)

    @pytest.mark.parametrize("altitude_m", [1800, 1900, 2000, 2100, 2200])
    def test_sea_level_pressure_would_overstate_a_highland_factory_by_a_quarter(self, altitude_m: float) -> None:
        """The naive formula, ppm x flow x density at 101.325 kPa, is off by what the air is thinner up there."""
        sample = msgspec.structs.replace(SAMPLE, pressure_kpa=None)
        plan = MonitoringPlan(basis="wet")
        flow_m3s = 0.9 * 4.12 * plan.area_m2
        naive = 98_000e-6 * flow_m3s * co2_density_kg_m3(183.25, 101.325)

        true = kg_per_s(sample, plan, site_pressure_kpa(factory(altitude_m)))

        assert 1.20 < naive / true < 1.32

    def test_the_density_of_cold_gas_on_a_hot_flow_would_double_the_rate(self) -> None:
        plan = MonitoringPlan(basis="wet")
        naive = 98_000e-6 * 0.9 * 4.12 * plan.area_m2 * 1.98

        assert 2.0 < naive / kg_per_s(plan=plan) < 2.3


class TestLaws:
    @given(ppms, temperatures, velocities, pressures, st.floats(0.1, 3), st.floats(1, 4))
    def test_the_rate_is_proportional_to_the_area(
        self, ppm: float, temperature: float, velocity: float, pressure: float, width: float, times: float
    ) -> None:
        sample = Sample(0, 0, 1, ppm, temperature, velocity, None, pressure)
        narrow = MonitoringPlan(shape="rectangular", width_m=width, length_m=1)
        wide = MonitoringPlan(shape="rectangular", width_m=width * times, length_m=1)

        assert kg_per_s(sample, wide) == pytest.approx(kg_per_s(sample, narrow) * times)

    @given(ppms, temperatures, velocities, st.floats(50, 75), st.floats(1, 1.4))
    def test_the_rate_is_proportional_to_the_pressure(
        self, ppm: float, temperature: float, velocity: float, pressure: float, times: float
    ) -> None:
        sample = Sample(0, 0, 1, ppm, temperature, velocity, None, pressure)

        assert kg_per_s(sample, pressure_kpa=pressure * times) == pytest.approx(kg_per_s(sample) * times)

    @given(st.floats(1_000, 190_000), st.floats(-20, 990), velocities, pressures, st.floats(0.1, 10))
    def test_hotter_gas_of_the_same_velocity_carries_less(
        self, ppm: float, temperature: float, velocity: float, pressure: float, hotter: float
    ) -> None:
        sample = Sample(0, 0, 1, ppm, temperature, velocity, None, pressure)

        assert kg_per_s(sample, temperature_c=temperature + hotter) < kg_per_s(sample)

    @given(ppms, temperatures, velocities, pressures, st.floats(0, 0.4))
    def test_a_dry_analyser_overstates_wet_gas_by_its_water(
        self, ppm: float, temperature: float, velocity: float, pressure: float, h2o: float
    ) -> None:
        sample = Sample(0, 0, 1, ppm, temperature, velocity, None, pressure)
        dry = kg_per_s(sample, MonitoringPlan(basis="dry", h2o_fraction=h2o))
        wet = kg_per_s(sample, MonitoringPlan(basis="wet", h2o_fraction=h2o))

        assert dry == pytest.approx(wet * (1 - h2o))

    @given(st.floats(0, 500), temperatures, pressures)
    def test_four_times_the_pressure_difference_is_twice_the_velocity(
        self, difference: float, temperature: float, pressure: float
    ) -> None:
        once = pitot_velocity_ms(difference, temperature, pressure, 0.84)

        assert pitot_velocity_ms(4 * difference, temperature, pressure, 0.84) == pytest.approx(2 * once)

    @given(
        st.builds(
            Sample,
            seq=st.just(0),
            device_time_ms=st.just(0),
            co2_ppm=st.none() | st.floats(),
            temperature_c=st.none() | st.floats(),
            velocity_ms=st.none() | st.floats(),
            pressure_difference_pa=st.none() | st.floats(),
            pressure_kpa=st.none() | st.floats(),
            device_co2_kg_per_s=st.none() | st.floats(allow_nan=False),
            status=st.integers(0, 2**15 - 1),
        ),
        st.builds(
            MonitoringPlan,
            basis=st.sampled_from(["wet", "dry"]),
            dilution_ratio=st.floats(1, 200),
            co2_range_ppm=st.floats(2_000, 1_000_000),
            calibration_offset_ppm=st.floats(-1_000, 1_000),
            calibration_slope=st.floats(0.5, 2),
        ),
    )
    def test_a_rate_is_never_negative_and_always_a_number(self, sample: Sample, plan: MonitoringPlan) -> None:
        rate = emission_rate(sample, plan, 79.7, sample.status)

        assert isfinite(rate.pressure_kpa)
        if rate.co2_kg_per_s is not None:
            assert isfinite(rate.co2_kg_per_s)
            assert rate.co2_kg_per_s >= 0
            assert rate.flow_rate_m3s is not None
            assert rate.flow_rate_m3s >= 0
        assert (rate.co2_kg_per_s is None) == bool(rate.flags & INVALIDATING)

    @given(st.integers(0, 2**15 - 1))
    def test_status_bits_are_kept_and_bad_ones_take_the_rate_away(self, status: int) -> None:
        rate = rate_of(status=status)

        assert rate.flags & status == status
        assert (rate.co2_kg_per_s is None) == bool(status & INVALIDATING)


class TestWhatIsNoMeasurement:
    @pytest.mark.parametrize("name", ["co2_ppm", "temperature_c", "velocity_ms"])
    @pytest.mark.parametrize("value", [nan, inf, -inf])
    def test_a_value_that_is_no_number_gives_no_rate(self, name: str, value: float) -> None:
        """A driver of a third party may let one through; a zero would be a false measurement."""
        rate = rate_of(msgspec.structs.replace(SAMPLE, **{name: value}))

        assert rate.co2_kg_per_s is None
        assert rate.flags & INVALIDATING


class TestPlans:
    JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
    JUNE = datetime(2026, 6, 1, tzinfo=UTC)
    PLANS = (
        MonitoringPlan(),
        MonitoringPlan(valid_from=JANUARY, diameter_m=0.9),
        MonitoringPlan(valid_from=JUNE, diameter_m=1.0),
    )

    @pytest.mark.parametrize(
        ("moment", "diameter_m"),
        [
            (datetime(1990, 1, 1, tzinfo=UTC), 0.8),
            (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), 0.8),
            (JANUARY, 0.9),
            (datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC), 0.9),
            (JUNE, 1.0),
            (datetime(2099, 1, 1, tzinfo=UTC), 1.0),
        ],
    )
    def test_the_plan_of_that_time_counts_and_not_todays(self, moment: datetime, diameter_m: float) -> None:
        assert plan_in_force(self.PLANS, moment.timestamp()).diameter_m == diameter_m

    def test_before_the_first_plan_the_first_counts(self) -> None:
        assert plan_in_force(self.PLANS[1:], 0).diameter_m == 0.9

    def test_soot_takes_from_both_sides_of_the_stack(self) -> None:
        sooty = MonitoringPlan(diameter_m=1.0, wall_deposit_mm=50)

        assert sooty.area_m2 == pytest.approx(MonitoringPlan(diameter_m=0.9).area_m2)

    @pytest.mark.parametrize(
        "dimensions",
        [
            {"diameter_m": None},
            {"diameter_m": 0.0},
            {"diameter_m": -1.0},
            {"diameter_m": 0.1, "wall_deposit_mm": 50},
            {"shape": "rectangular"},
            {"shape": "rectangular", "width_m": 0.5, "length_m": 0.0},
            {"shape": "rectangular", "width_m": 0.5, "length_m": 0.1, "wall_deposit_mm": 50},
        ],
    )
    def test_a_stack_without_an_opening_is_refused(self, dimensions: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="stack needs"):
            MonitoringPlan(**dimensions)
