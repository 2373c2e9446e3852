"""Wood for tea, the air of fires and what can be saved: worked examples, and what holds for every factory."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from statistics import quantiles
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.emissions.combustion import (
    CO2_MOST_DRY,
    GOOD_CO2_DRY,
    LEAST_GOOD_AIR,
    MOST_GOOD_AIR,
    AirZone,
    air_zone,
    dry_gas_loss,
    excess_air_from_co2_dry,
    siegert_coefficient,
    stack_loss,
    wood_saved_share,
)
from carbontrack.emissions.firing import (
    DAYS_A_MONTH,
    FEWEST_FACTORIES,
    SavingWay,
    WoodUse,
    about,
    air_of,
    monthly_wood_kg,
    network_quartiles,
    own_best,
    savings,
    share_of_less_loss,
    share_to_reach,
    weighted_mean,
    wood_use,
)
from carbontrack.ledger import EnergyType, Metric, ProductionEntry, WoodPrice, WoodUnit
from tests.test_accounts import DAY, END, diesel, energy, made, stack, tea, wood
from tests.test_substitution import START

co2 = st.floats(0.02, CO2_MOST_DRY)
gas_c = st.floats(60, 400)
moistures = st.floats(0.05, 0.6)
FOUR_WEEKS = timedelta(days=28)


def use(per_tea: float, **changed: Any) -> WoodUse:
    """Four weeks of 280 t of tea."""
    values: dict[str, Any] = {
        "start": START, "end": START + FOUR_WEEKS, "wood_kg": per_tea * 280_000.0, "made_tea_kg": 280_000.0,
        "wood_cover": 0.86, "tea_cover": 0.86,
    }  # fmt: skip
    return WoodUse(**(values | changed))


class TestDryGasLoss:
    def test_worked_example(self) -> None:
        """K = 0.933 Nm3 * 1.36 kJ/(Nm3 K) / 17 686 kJ * 10^4 = 0.7175; 0.7175 (220 - 25) / 8 = 17.5 %."""
        assert siegert_coefficient() == pytest.approx(0.7175, abs=1e-4)
        assert dry_gas_loss(0.08, 220) == pytest.approx(0.1749, abs=1e-4)

    @given(co2_dry=co2, temperature_c=gas_c, moisture=moistures)
    def test_is_the_dry_gas_of_the_heat_balance(self, co2_dry: float, temperature_c: float, moisture: float) -> None:
        found = stack_loss(co2_dry, temperature_c, moisture=moisture)

        # Siegert's form leaves nothing out: it is the balance's own figure, for every fire.
        assert dry_gas_loss(co2_dry, temperature_c, moisture=moisture) == pytest.approx(found.dry_gas, rel=1e-3)

    @given(co2_dry=co2, temperature_c=gas_c, hotter=st.floats(1, 100))
    def test_grows_with_heat_and_with_air(self, co2_dry: float, temperature_c: float, hotter: float) -> None:
        assert dry_gas_loss(co2_dry, temperature_c + hotter) > dry_gas_loss(co2_dry, temperature_c)
        assert dry_gas_loss(co2_dry / 2, temperature_c) == pytest.approx(2 * dry_gas_loss(co2_dry, temperature_c))

    def test_without_co2_there_is_none(self) -> None:
        with pytest.raises(ValueError, match="more than 0 CO2"):
            dry_gas_loss(0.0, 200)


class TestAir:
    def test_the_band_is_that_of_the_excess_air(self) -> None:
        low, high = GOOD_CO2_DRY

        assert (round(low, 3), round(high, 3)) == (0.102, 0.146)
        assert excess_air_from_co2_dry(low) == pytest.approx(MOST_GOOD_AIR)
        assert excess_air_from_co2_dry(high) == pytest.approx(LEAST_GOOD_AIR)

    @given(co2)
    def test_every_fire_is_in_the_zone_of_its_air(self, co2_dry: float) -> None:
        air = excess_air_from_co2_dry(co2_dry)
        expected = {
            AirZone.TOO_MUCH: air > MOST_GOOD_AIR * 0.999,
            AirZone.GOOD: LEAST_GOOD_AIR * 0.999 <= air <= MOST_GOOD_AIR * 1.001,
            AirZone.TOO_LITTLE: air < LEAST_GOOD_AIR * 1.001,
        }

        assert expected[air_zone(co2_dry)]

    def test_hours_count_by_how_long_the_boiler_ran_in_them(self) -> None:
        item = stack("v" * 6)
        shorter = replace(
            item,
            hours=tuple(replace_hour(taken, 0.5) if number < 2 else taken for number, taken in enumerate(item.hours)),
        )

        found = air_of(shorter)

        assert found.running_h == pytest.approx(5.0)
        assert sum(found.by_percent.values()) == pytest.approx(5.0)
        assert sum(found.share(zone) or 0.0 for zone in AirZone) == pytest.approx(1.0)

    def test_what_no_wood_can_make_is_in_no_zone(self) -> None:
        item = stack("v" * 3)
        wrong = replace(item, hours=tuple(replace_hour(taken, 1.0, mean_co2_fraction=0.25) for taken in item.hours))

        found = air_of(wrong)

        assert (found.running_h, found.impossible_h) == (0.0, 3.0)
        assert found.share(AirZone.GOOD) is None


def replace_hour(taken: Any, operating: float, **changed: Any) -> Any:
    import msgspec  # noqa: PLC0415  # for this alone

    hour = msgspec.structs.replace(taken.hour, operating_fraction=operating, **changed)
    return msgspec.structs.replace(taken, hour=hour, operating_fraction=operating)


class TestWoodUse:
    @given(
        st.lists(st.tuples(st.floats(1, 1e5), st.integers(-40, 40), st.integers(1, 40)), max_size=5),
        st.lists(st.tuples(st.floats(1, 1e5), st.integers(-40, 40), st.integers(1, 40)), max_size=5),
    )
    def test_is_what_the_account_of_the_period_says(
        self, of_wood: list[tuple[float, int, int]], of_tea: list[tuple[float, int, int]]
    ) -> None:
        hour = timedelta(hours=1)
        entries = [
            wood(kg, period_start=START + begin * hour, period_end=START + (begin + length) * hour)
            for kg, begin, length in of_wood
        ]
        production = [
            ProductionEntry(1, 1, 1, START + begin * hour, START + (begin + length) * hour, None, kg)
            for kg, begin, length in of_tea
        ]
        account = made(entries=[*entries, diesel(100)], production=production)

        found = wood_use(entries, production, START, END)

        assert found.wood_kg == pytest.approx(account.wood_kg)
        assert found.made_tea_kg == pytest.approx(account.made_tea_kg)
        assert found.per_tea == pytest.approx(account.intensities[Metric.WOOD_PER_TEA])

    def test_time_that_two_entries_cover_counts_once(self) -> None:
        half = wood(10, period_end=START + DAY / 2)

        assert wood_use([half, wood(5, period_end=START + DAY / 4)], [], START, END).wood_cover == 0.5
        assert wood_use([half, wood(5, period_start=START + DAY / 4)], [], START, END).wood_cover == 1.0

    def test_other_fuel_and_what_was_withdrawn_are_no_wood(self) -> None:
        gone = replace(wood(10), withdrawn=True)

        found = wood_use([gone, energy(EnergyType.DIESEL, 3, "litres")], [tea(None)], START, END)

        assert (found.wood_kg, found.made_tea_kg, found.wood_cover, found.tea_cover) == (None, None, 0.0, 0.0)

    @pytest.mark.parametrize(
        ("wood_cover", "tea_cover", "is_comparable"),
        [(0.86, 0.86, True), (0.71, 0.8, True), (0.69, 0.75, False), (0.75, 0.9, False)],
    )
    def test_is_compared_where_enough_is_entered_of_the_same_days(
        self, wood_cover: float, tea_cover: float, is_comparable: bool
    ) -> None:
        assert use(2.0, wood_cover=wood_cover, tea_cover=tea_cover).is_comparable is is_comparable

    def test_a_week_without_its_wood_is_no_best(self) -> None:
        forgotten = use(0.4, wood_cover=0.3)

        assert own_best([forgotten, use(2.4), use(2.2)]) == use(2.2)
        assert own_best([forgotten]) is None


class TestNetwork:
    def test_of_few_factories_nothing_is_told(self) -> None:
        uses = [use(2.0 + number) for number in range(FEWEST_FACTORIES - 1)]

        assert network_quartiles([*uses, use(9.0, tea_cover=0.1)]) is None

    @given(st.lists(st.floats(0.5, 10), min_size=FEWEST_FACTORIES, max_size=70))
    def test_quartiles_are_in_order_and_among_the_values(self, values: list[float]) -> None:
        found = network_quartiles([use(value) for value in values])

        assert found is not None
        assert found.factories == len(values)
        assert min(values) * 0.999 <= found.lower <= found.median <= found.upper <= max(values) * 1.001
        assert [found.lower, found.median, found.upper] == pytest.approx(quantiles(values, n=4, method="inclusive"))


class TestSavings:
    def test_worked_example(self) -> None:
        """700 t in 28 days are 760.9 t a month; from 2.5 to 2.2 kg/kg is 12 %: 91.3 t, at KES 3.40 a kg KES 310 461."""
        price = WoodPrice(1, 1, 3400.0, WoodUnit.TONNE, date(2026, 1, 1))
        found = savings(
            use(2.5), best=use(2.2), network=None, loss=0.2, fired_well_share=0.0, kes_per_kg=price.kes_per_kg
        )

        best, less = found
        assert (best.way, less.way) == (SavingWay.OWN_BEST, SavingWay.LESS_LOSS)
        assert best.share == pytest.approx(0.12)
        assert best.wood_kg == pytest.approx(91_312.5)
        assert best.kes == pytest.approx(310_462.5)
        assert about(best.kes or 0.0) == 310_000
        assert less.share == pytest.approx(0.01 / 0.81)

    def test_a_stacked_m3_costs_by_its_own_weight(self) -> None:
        assert WoodPrice(1, 1, 1400.0, WoodUnit.STACKED_M3, date(2026, 1, 1), 400.0).kes_per_kg == 3.5

    def test_without_a_price_there_is_wood_and_no_money(self) -> None:
        (found,) = savings(use(2.5), best=use(2.0), network=None, loss=None, fired_well_share=None, kes_per_kg=None)

        assert (found.wood_kg > 0, found.kes) == (True, None)

    def test_who_is_at_the_best_saves_nothing_by_it(self) -> None:
        assert savings(use(2.0), best=use(2.0), network=None, loss=None, fired_well_share=0.0, kes_per_kg=3.0) == []

    def test_too_few_entries_are_no_basis(self) -> None:
        poor = use(2.5, wood_cover=0.2)

        assert monthly_wood_kg(poor) is None
        assert savings(poor, best=use(2.0), network=None, loss=0.2, fired_well_share=0.1, kes_per_kg=3.0) == []

    @given(st.floats(0.02, 0.6))
    def test_one_point_less_is_what_two_fires_with_that_loss_differ_by(self, loss: float) -> None:
        now = stack_loss(0.1, 200)
        before, after = (replace(now, dry_gas=share, vapour=0.0) for share in (loss, loss - 0.01))

        assert share_of_less_loss(loss) == pytest.approx(wood_saved_share(before, after))

    @given(st.floats(0.1, 10), st.floats(0.1, 10))
    def test_a_share_is_never_more_than_all_and_never_negative(self, now: float, goal: float) -> None:
        share = share_to_reach(now, goal)

        assert 0 <= share < 1
        assert goal >= now or now * (1 - share) == pytest.approx(goal)

    @given(st.floats(0.001, 1e9))
    def test_about_keeps_two_digits(self, value: float) -> None:
        assert about(value) == pytest.approx(value, rel=0.051)
        assert len(f"{about(value):.1e}") == len("1.0e+00")
        assert float(f"{about(value):.1e}") == pytest.approx(about(value))

    def test_means_go_by_weight(self) -> None:
        assert weighted_mean([(0.1, 3.0), (0.2, 1.0)]) == pytest.approx(0.125)
        assert weighted_mean([]) is None

    def test_a_month_is_a_twelfth_of_a_year(self) -> None:
        assert monthly_wood_kg(use(1.0)) == pytest.approx(10_000 * DAYS_A_MONTH)
