"""Fuel and electricity: linear in the amount, the same in every unit, with the factors of their day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.data import load_factor_rows
from carbontrack.emissions.combustion import (
    CO2_KG_PER_KG_CARBON,
    CO2_MOST_DRY,
    co2_kg_from_wood_kg,
    excess_air_from_co2_dry,
    flue_gas,
    net_calorific_value_mj_per_kg,
    stack_loss,
    wood_kg_from_co2_kg,
    wood_saved_share,
)
from carbontrack.emissions.factors import FactorError, FactorMissing, FactorSet, parse_factors
from carbontrack.emissions.fuels import (
    check_entry,
    diesel_emissions,
    entry_emissions,
    grid_emissions,
    in_base_unit,
    part_in_period,
    unusual,
    wood_emissions,
    wood_mass_kg,
)
from carbontrack.ledger import EnergyEntry, EnergyType, WoodOrigin

FACTORS = FactorSet.of(parse_factors(load_factor_rows(), "shipped"))
DAY = date(2026, 3, 1)
START = datetime(2026, 2, 28, 21, tzinfo=UTC)
amounts = st.floats(0.01, 1e6)


def entry(**changed: Any) -> EnergyEntry:
    values: dict[str, Any] = {
        "id": 0, "version": 1, "factory_id": 1, "energy_type": EnergyType.FIREWOOD, "amount": 1000.0, "unit": "kg",
        "period_start": START, "period_end": START + timedelta(days=1), "moisture": 0.25,
    }  # fmt: skip
    return EnergyEntry(**(values | changed))


class TestWorkedExamples:
    def test_a_kilogram_of_wood(self) -> None:
        """18.5 * 0.75 - 2.443 * 0.25 = 13.264 MJ/kg; times 112 kg/GJ is 1.486 kg/kg."""
        found = wood_emissions(1, 0.25, FACTORS, DAY)

        assert found.biogenic_co2_kg == pytest.approx(1.4856, abs=1e-4)
        assert found.fossil_co2_kg == found.grid_co2e_kg == 0

    def test_air_dry_wood_by_the_guidelines_own_calorific_value(self) -> None:
        """15.6 GJ/t is wood of 13.8 % moisture; 30 g CH4 and 4 g N2O a GJ are 29.6 kg CO2e for a tonne of it."""
        moisture = (18.5 - 15.6) / (18.5 + 2.443)

        found = wood_emissions(1000, moisture, FACTORS, DAY)

        assert found.energy_gj == pytest.approx(15.6)
        assert found.biogenic_co2_kg == pytest.approx(1747, abs=1)
        assert found.ch4_n2o_co2e_kg == pytest.approx(29.6, abs=0.1)

    def test_a_litre_of_diesel(self) -> None:
        """0.84 kg/litre, 43.0 GJ/t, 74.1 kg/GJ."""
        assert diesel_emissions(1, FACTORS, DAY).fossil_co2_kg == pytest.approx(2.6765, abs=1e-4)

    def test_a_kilowatt_hour(self) -> None:
        assert grid_emissions(1, FACTORS, DAY).grid_co2e_kg == pytest.approx(0.0705)

    def test_electricity_made_on_site_has_no_emission_of_its_own(self) -> None:
        found = entry_emissions(entry(energy_type=EnergyType.GENSET_ELECTRICITY, unit="kWh", moisture=None), FACTORS)

        assert found.biogenic_co2_kg == found.fossil_co2_kg == found.grid_co2e_kg == found.ch4_n2o_co2e_kg == 0
        assert "diesel" in found.remarks[0]


class TestLaws:
    @given(amounts, st.floats(0.1, 10), st.floats(0, 0.6))
    def test_emissions_are_proportional_to_the_amount(self, amount: float, times: float, moisture: float) -> None:
        one = wood_emissions(amount, moisture, FACTORS, DAY)
        other = wood_emissions(amount * times, moisture, FACTORS, DAY)

        assert other.biogenic_co2_kg == pytest.approx(one.biogenic_co2_kg * times)
        assert other.ch4_n2o_co2e_kg == pytest.approx(one.ch4_n2o_co2e_kg * times)

    @given(amounts, st.floats(150, 800))
    def test_the_unit_makes_no_difference(self, kg: float, density: float) -> None:
        in_kg = entry_emissions(entry(amount=kg), FACTORS).biogenic_co2_kg
        in_t = entry_emissions(entry(amount=kg / 1000, unit="t"), FACTORS).biogenic_co2_kg
        in_m3 = entry_emissions(
            entry(amount=kg / density, unit="m3_stacked", stack_density_kg_per_m3=density), FACTORS
        ).biogenic_co2_kg

        assert in_t == pytest.approx(in_kg)
        assert in_m3 == pytest.approx(in_kg)
        power = entry(energy_type=EnergyType.ELECTRICITY, amount=2, unit="MWh")
        assert in_base_unit(power) == in_base_unit(replace(power, amount=2000, unit="kWh"))

    @given(st.floats(0, 0.6), st.floats(0.001, 0.1))
    def test_wetter_wood_gives_less_heat(self, moisture: float, more: float) -> None:
        assert net_calorific_value_mj_per_kg(moisture + more) < net_calorific_value_mj_per_kg(moisture)

    @given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 200))
    def test_the_parts_of_an_entry_add_up_to_it(self, begin: int, length: int, cut: int) -> None:
        start = START + timedelta(hours=begin)
        end, middle = start + timedelta(hours=length), START + timedelta(hours=cut)
        before, after = START - timedelta(days=9), START + timedelta(days=99)

        parts = part_in_period(start, end, before, middle) + part_in_period(start, end, middle, after)

        assert parts == pytest.approx(1)


class TestCombustion:
    @pytest.mark.parametrize(
        ("excess_air", "o2_dry", "co2_dry", "co2_wet", "h2o", "nm3_wet"),
        [
            (1.3, 4.9, 15.7, 13.2, 16.3, 7.1),
            (1.5, 7.0, 13.6, 11.6, 14.5, 8.0),
            (2.0, 10.5, 10.2, 9.0, 11.5, 10.3),
            (2.5, 12.6, 8.1, 7.4, 9.6, 12.7),
            (3.0, 14.0, 6.8, 6.2, 8.3, 15.0),
            (4.0, 15.7, 5.1, 4.8, 6.6, 19.6),
        ],
    )
    def test_the_gas_of_wood_with_25_percent_moisture(
        self, excess_air: float, o2_dry: float, co2_dry: float, co2_wet: float, h2o: float, nm3_wet: float
    ) -> None:
        """An independent calculation by hand of the same stoichiometry, rounded to a tenth."""
        gas = flue_gas(excess_air, 0.25)

        found = (gas.o2_dry * 100, gas.co2_dry * 100, gas.co2_wet * 100, gas.h2o_wet * 100, gas.nm3_wet_per_kg_dry)
        assert found == pytest.approx((o2_dry, co2_dry, co2_wet, h2o, nm3_wet), abs=0.06)

    @given(st.floats(1, 8), st.floats(0, 0.6))
    def test_carbon_is_conserved(self, excess_air: float, moisture: float) -> None:
        gas = flue_gas(excess_air, moisture)

        out_kg = gas.co2_dry * gas.nm3_dry_per_kg_dry / 22.414 * 44.0095
        assert out_kg == pytest.approx(0.5 * CO2_KG_PER_KG_CARBON, rel=1e-4)
        assert gas.co2_kg_per_kg_dry == pytest.approx(out_kg, rel=1e-4)

    @given(st.floats(1, 8))
    def test_the_air_is_found_again_from_the_co2(self, excess_air: float) -> None:
        assert excess_air_from_co2_dry(flue_gas(excess_air).co2_dry) == pytest.approx(excess_air)

    def test_the_most_that_wood_can_give_is_a_good_twenty_percent(self) -> None:
        assert pytest.approx(0.2045, abs=5e-5) == CO2_MOST_DRY
        with pytest.raises(ValueError, match=r"0\.205 CO2, not 0\.3"):
            excess_air_from_co2_dry(0.3)

    @given(st.floats(0.05, 0.19), st.floats(80, 300), st.floats(1, 50))
    def test_hotter_and_thinner_gas_carries_more_heat_away(self, co2: float, temperature: float, more: float) -> None:
        here = stack_loss(co2, temperature).total

        assert stack_loss(co2, temperature + more).total > here
        assert stack_loss(co2 * 0.9, temperature).total > here

    @given(amounts, st.floats(0, 0.6))
    def test_wood_and_its_co2_are_the_same_carbon(self, kg: float, moisture: float) -> None:
        assert wood_kg_from_co2_kg(co2_kg_from_wood_kg(kg, moisture), moisture) == pytest.approx(kg)

    def test_a_well_fired_boiler_saves_wood(self) -> None:
        assert wood_saved_share(stack_loss(0.08, 220), stack_loss(0.125, 180)) == pytest.approx(0.10, abs=0.005)

    @pytest.mark.parametrize(("air", "moisture"), [(0.9, 0.25), (float("nan"), 0.25), (2, 0.8), (2, -0.1)])
    def test_what_cannot_burn_is_refused(self, air: float, moisture: float) -> None:
        with pytest.raises(ValueError, match=r"excess_air|moisture"):
            flue_gas(air, moisture)


class TestChecks:
    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"unit": "litres"}, "unit"),
            ({"amount": 0.0}, "amount"),
            ({"amount": float("nan")}, "amount"),
            ({"moisture": 25.0}, "moisture"),
            ({"unit": "m3_stacked"}, "stack_density_kg_per_m3"),
            ({"unit": "m3_stacked", "stack_density_kg_per_m3": 0.42}, "stack_density_kg_per_m3"),
            ({"energy_type": EnergyType.DIESEL, "unit": "litres"}, "moisture"),
            ({"energy_type": EnergyType.DIESEL, "unit": "litres", "supplier": "Kuni Ltd"}, "supplier"),
            ({"energy_type": EnergyType.DIESEL, "unit": "litres", "permit": "KFS 118"}, "permit"),
            ({"energy_type": EnergyType.DIESEL, "unit": "litres", "wood_origin": WoodOrigin.PURCHASED}, "wood_origin"),
            ({"harvested_on": DAY + timedelta(days=1)}, "harvested_on"),
            ({"period_end": START}, "period_end"),
            ({"period_end": START + timedelta(days=400)}, "period_end"),
        ],
    )
    def test_what_is_wrong_is_named_by_its_field(self, changed: dict[str, Any], field: str) -> None:
        assert field in dict(check_entry(entry(**changed)))

    def test_a_good_entry_has_no_problem(self) -> None:
        assert check_entry(entry()) == []
        origin = {"wood_origin": WoodOrigin.PURCHASED, "supplier": "Kuni Ltd", "species": "Eucalyptus", "plot": "7"}
        assert check_entry(entry(**origin, harvested_on=DAY, permit="KFS 118")) == []

    def test_a_stacked_m3_has_no_mass_of_its_own(self) -> None:
        with pytest.raises(ValueError, match="weigh one"):
            wood_mass_kg(12, "m3_stacked")

    @pytest.mark.parametrize(("amount", "asked"), [(10_000, True), (100, True), (0, True), (2500, False), (400, False)])
    def test_ten_times_more_or_less_is_asked_about(self, amount: float, asked: bool) -> None:
        assert bool(unusual(amount, [900, 1000, 1100], "kg")) == asked

    def test_without_a_history_nothing_is_unusual(self) -> None:
        assert unusual(1e6, [900, 1000], "kg") is None


ROW: dict[str, Any] = {
    "name": "grid.co2e", "value": 0.05, "unit": "kg/kWh", "source": "our supplier", "valid_from": "2026-01-01",
}  # fmt: skip


class TestFactors:
    def test_every_shipped_factor_has_a_source_and_a_unit(self) -> None:
        assert all(row.source and row.unit and row.value > 0 for row in FACTORS.rows)

    def test_the_factor_of_the_day_counts(self) -> None:
        dated = FactorSet.of(
            parse_factors([ROW | {"valid_to": "2027-01-01"}, ROW | {"valid_from": "2027-01-01", "value": 0.04}], "x")
        )

        assert dated.value("grid.co2e", date(2026, 12, 31)) == 0.05
        assert dated.value("grid.co2e", date(2027, 1, 1)) == 0.04
        with pytest.raises(FactorMissing, match=r"'grid.co2e' for 2025-12-31.*2026-01-01 to 2027-01-01"):
            dated.get("grid.co2e", date(2025, 12, 31))

    def test_own_rows_replace_a_name_and_leave_the_others(self) -> None:
        own = FACTORS.replaced(parse_factors([ROW], "own"))

        assert own.value("grid.co2e", DAY) == 0.05
        assert own.value("diesel.co2", DAY) == 74.1
        assert own.version != FACTORS.version

    def test_the_version_is_that_of_the_rows_in_whatever_order(self) -> None:
        assert FactorSet.of(reversed(FACTORS.rows)).version == FACTORS.version

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"value": "much"}, "factor 1: value must be a number"),
            ({"value": True}, "factor 1: value must be a number"),
            ({"sauce": "x"}, "unknown key 'sauce'; known are name"),
            ({"source": ""}, "the key 'source' is missing"),
            ({"valid_from": "soon"}, "valid_from must be a day such as"),
            ({"valid_to": "2025-01-01"}, "valid_to must be after valid_from"),
        ],
    )
    def test_a_bad_row_is_named_with_its_key(self, changed: dict[str, Any], said: str) -> None:
        with pytest.raises(FactorError, match=said):
            parse_factors([ROW | changed], "own.yaml")

    def test_two_rows_for_one_day_are_refused(self) -> None:
        with pytest.raises(FactorError, match="both valid on 2026-06-01"):
            FactorSet.of(parse_factors([ROW, ROW | {"valid_from": "2026-06-01"}], "own.yaml"))
