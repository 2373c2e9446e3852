"""What burning wood does to the air that it takes: stoichiometry, the losses up the chimney, and what they cost.

Complete combustion of wood with 50 % carbon, 6 % hydrogen and 43.5 % oxygen in its dry mass (typical of wood; EN ISO
17225-1, annex B, gives 47 to 54 % carbon). ``excess_air`` is the ratio of air to the least that would do (lambda).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CARBON_SHARE, HYDROGEN_SHARE, OXYGEN_SHARE = 0.50, 0.06, 0.435
"""Of the dry mass of wood."""
C_KG_PER_KMOL, H2_KG_PER_KMOL, O2_KG_PER_KMOL, H2O_KG_PER_KMOL = 12.0107, 2.01588, 31.9988, 18.01528
CO2_KG_PER_KG_CARBON = 44.0095 / 12.0107
NM3_PER_KMOL = 22.414
"""Molar volume of an ideal gas at 273.15 K and 101.325 kPa."""
O2_IN_DRY_AIR = 0.2095
"""By volume (US Standard Atmosphere 1976, table 3)."""
AIR_H2O_FRACTION = 0.012
"""Water vapour in the combustion air by volume: 60 % relative humidity at 20 degC and 80 kPa, rounded down."""
MOISTURE = 0.25
"""Of the mass as fired, where nobody has measured it."""
NCV_DRY_MJ_PER_KG = 18.5
LATENT_HEAT_MJ_PER_KG = 2.443
"""Of water at 25 degC."""
DRY_GAS_KJ_PER_NM3_K = 1.36
"""Heat capacity of dry flue gas between 25 and 200 degC, at 10 % CO2: N2 1.30, CO2 1.79, O2 1.34 kJ/(Nm3 K)."""
VAPOUR_KJ_PER_NM3_K = 1.52
AMBIENT_C = 25.0
"""Of the air that a fire takes, and of the heats above."""
LEAST_GOOD_AIR, MOST_GOOD_AIR = 1.4, 2.0
"""Excess air of a hand-fired wood boiler that is fired well. Above, heat leaves with air that nothing needed; below, a
fire of billets lacks air in places, and gas leaves unburnt. A choice of the project: such boilers run at 1.6 to 3, and
Kubler (Wood and Fiber Science, 1991) has unburnt gas cost more than air that is left over."""


@dataclass(frozen=True, slots=True)
class FlueGas:
    """What one kg of dry wood (with its moisture) becomes. Shares are by volume, volumes at 273.15 K, 101.325 kPa."""

    excess_air: float
    moisture: float
    o2_dry: float
    co2_dry: float
    co2_wet: float
    h2o_wet: float
    nm3_dry_per_kg_dry: float
    nm3_wet_per_kg_dry: float
    co2_kg_per_kg_dry: float


_CO2_KMOL = CARBON_SHARE / C_KG_PER_KMOL
_H2_KMOL = HYDROGEN_SHARE / H2_KG_PER_KMOL
_O2_NEEDED_KMOL = _CO2_KMOL + _H2_KMOL / 2 - OXYGEN_SHARE / O2_KG_PER_KMOL
CO2_MOST_DRY = _CO2_KMOL / (_CO2_KMOL + _O2_NEEDED_KMOL * (1 - O2_IN_DRY_AIR) / O2_IN_DRY_AIR)
"""CO2 in the dry gas with no air left over: 20.4 %."""


def flue_gas(excess_air: float, moisture: float = MOISTURE) -> FlueGas:
    """The gas from burning wood of this moisture (share of the mass as fired) with this much air.

    Raises :class:`ValueError` for less air than the wood needs, or a moisture outside 0 to 0.7.
    """
    if not excess_air >= 1:
        raise ValueError(f"complete combustion needs an excess_air of at least 1, not {excess_air}")
    if not 0 <= moisture <= 0.7:
        raise ValueError(f"moisture is the water's share of the mass as fired, 0 to 0.7, not {moisture}")
    air_kmol = excess_air * _O2_NEEDED_KMOL / O2_IN_DRY_AIR
    o2_kmol = (excess_air - 1) * _O2_NEEDED_KMOL
    dry_kmol = _CO2_KMOL + air_kmol - excess_air * _O2_NEEDED_KMOL + o2_kmol
    fuel_water_kmol = moisture / (1 - moisture) / H2O_KG_PER_KMOL
    air_water_kmol = air_kmol * AIR_H2O_FRACTION / (1 - AIR_H2O_FRACTION)
    water_kmol = _H2_KMOL + fuel_water_kmol + air_water_kmol
    wet_kmol = dry_kmol + water_kmol
    return FlueGas(
        excess_air=excess_air,
        moisture=moisture,
        o2_dry=o2_kmol / dry_kmol,
        co2_dry=_CO2_KMOL / dry_kmol,
        co2_wet=_CO2_KMOL / wet_kmol,
        h2o_wet=water_kmol / wet_kmol,
        nm3_dry_per_kg_dry=dry_kmol * NM3_PER_KMOL,
        nm3_wet_per_kg_dry=wet_kmol * NM3_PER_KMOL,
        co2_kg_per_kg_dry=CARBON_SHARE * CO2_KG_PER_KG_CARBON,
    )


def excess_air_from_co2_dry(co2_dry: float) -> float:
    """How much air a fire takes, from the CO2 in its dry gas (mole fraction).

    Raises :class:`ValueError` for more CO2 than wood can make, or none.
    """
    if not 0 < co2_dry <= CO2_MOST_DRY * 1.0001:
        raise ValueError(f"the dry gas of wood has more than 0 and at most {CO2_MOST_DRY:.3f} CO2, not {co2_dry}")
    nitrogen_kmol = (1 - O2_IN_DRY_AIR) / O2_IN_DRY_AIR * _O2_NEEDED_KMOL
    return max(1.0, (_CO2_KMOL / co2_dry - _CO2_KMOL + _O2_NEEDED_KMOL) / (nitrogen_kmol + _O2_NEEDED_KMOL))


def net_calorific_value_mj_per_kg(
    moisture: float, ncv_dry_mj_per_kg: float = NCV_DRY_MJ_PER_KG, latent_mj_per_kg: float = LATENT_HEAT_MJ_PER_KG
) -> float:
    """Net calorific value of wood as fired, in MJ/kg: ``NCV_dry (1 - w) - 2.443 w`` (EN ISO 18125, 12.2)."""
    return ncv_dry_mj_per_kg * (1 - moisture) - latent_mj_per_kg * moisture


class AirZone(StrEnum):
    """What a fire's air is like, by the CO2 in its dry gas."""

    TOO_LITTLE = "too_little"
    GOOD = "good"
    TOO_MUCH = "too_much"


GOOD_CO2_DRY = (flue_gas(MOST_GOOD_AIR).co2_dry, flue_gas(LEAST_GOOD_AIR).co2_dry)
"""Between which mole fractions of CO2 in the dry gas the air is good: 10.2 to 14.6 %."""


def air_zone(co2_dry: float) -> AirZone:
    """Whether a fire with this mole fraction of CO2 in its dry gas has good air."""
    low, high = GOOD_CO2_DRY
    return AirZone.TOO_MUCH if co2_dry < low else AirZone.GOOD if co2_dry <= high else AirZone.TOO_LITTLE


@dataclass(frozen=True, slots=True)
class StackLoss:
    """Heat that leaves by the chimney, as shares of the wood's net calorific value."""

    excess_air: float
    """Air over what the wood needs: 1 is just enough."""
    dry_gas: float
    """Of the gas without its water."""
    vapour: float
    """Of the superheated steam alone: the heat of evaporation is not in the net calorific value."""

    @property
    def total(self) -> float:
        return self.dry_gas + self.vapour

    @property
    def efficiency(self) -> float:
        """What is left for the boiler, before its own radiation and unburnt wood (EN 12952-15, indirect method)."""
        return 1 - self.total


def siegert_coefficient(moisture: float = MOISTURE) -> float:
    """K of Siegert's formula for wood, in % CO2 / K: 0.72 at 25 % moisture.

    The formula, ``loss in % = K (t_gas - t_air) / CO2 in % of the dry gas``, has a K for each fuel. This one follows
    from the carbon and the heat of the wood: ``K = V_CO2 c_dry / H * 10^4``, with the CO2 of one kg of dry wood in Nm3,
    the heat capacity of the dry gas, and the net calorific value of that kg with its water. It is the dry gas loss of
    ASME PTC 4 for complete combustion; a K from tables of coal or oil is not that of wood.
    """
    per_kelvin = _CO2_KMOL * NM3_PER_KMOL * DRY_GAS_KJ_PER_NM3_K / 1000 / _heat_mj_per_kg_dry(moisture)
    return per_kelvin * 100**2  # once for the loss in %, once for the CO2 in %


def dry_gas_loss(
    co2_dry: float, temperature_c: float, ambient_c: float = AMBIENT_C, moisture: float = MOISTURE
) -> float:
    """Heat that leaves with the dry gas, as a share of the wood's net calorific value, by Siegert's formula.

    ``co2_dry`` is a mole fraction. The formula knows nothing of unburnt gas (CO), soot or charcoal in the ash: where a
    fire lacks air, the real loss is higher. Where air leaks in between fire and sensor, CO2 and temperature are both
    lower, and the loss comes out nearly the same. Raises :class:`ValueError` without CO2.
    """
    if not co2_dry > 0:
        raise ValueError(f"the gas of a fire has more than 0 CO2, not {co2_dry}")
    return siegert_coefficient(moisture) * (temperature_c - ambient_c) / (100 * co2_dry) / 100


def _heat_mj_per_kg_dry(moisture: float) -> float:
    """Net calorific value of one kg of dry wood with the water that is in it."""
    return net_calorific_value_mj_per_kg(moisture) / (1 - moisture)


def stack_loss(
    co2_dry: float, temperature_c: float, ambient_c: float = AMBIENT_C, moisture: float = MOISTURE
) -> StackLoss:
    """The losses of a wood fire from CO2 in its dry gas (mole fraction) and the temperature of the gas in degC.

    Raises :class:`ValueError` as :func:`excess_air_from_co2_dry` does.
    """
    gas = flue_gas(excess_air_from_co2_dry(co2_dry), moisture)
    above_k = temperature_c - ambient_c
    heat_mj = _heat_mj_per_kg_dry(moisture)
    vapour_nm3 = gas.nm3_wet_per_kg_dry - gas.nm3_dry_per_kg_dry
    return StackLoss(
        excess_air=gas.excess_air,
        dry_gas=dry_gas_loss(gas.co2_dry, temperature_c, ambient_c, moisture),
        vapour=vapour_nm3 * VAPOUR_KJ_PER_NM3_K * above_k / 1000 / heat_mj,
    )


def wood_kg_from_co2_kg(co2_kg: float, moisture: float = MOISTURE) -> float:
    """Wood as fired, in kg, that gave this much CO2, by its carbon."""
    return co2_kg / (CARBON_SHARE * CO2_KG_PER_KG_CARBON * (1 - moisture))


def co2_kg_from_wood_kg(wood_kg: float, moisture: float = MOISTURE) -> float:
    """CO2 of wood as fired, in kg, by its carbon: 1.374 kg/kg at 25 % moisture."""
    return wood_kg * (1 - moisture) * CARBON_SHARE * CO2_KG_PER_KG_CARBON


def wood_saved_share(now: StackLoss, then: StackLoss) -> float:
    """Share of the wood that a fire with the losses ``then`` does not need, for the same heat to the boiler."""
    return 1 - now.efficiency / then.efficiency
