"""The physics of flue gas: densities, states, flows and concentrations. Each function is one formula.

Two states appear. *Actual* is the gas as it is in the stack. *Normal* is 273.15 K and 101.325 kPa (the Nm3 of MRR
Annex VIII and EN ISO 16911-1); flows there are in Nm3. EPA's standard state (20 degC) is not used anywhere.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Literal

GAS_CONSTANT_J_PER_MOL_K = 8.314462618
"""Molar gas constant (CODATA 2018, exact)."""
CO2_KG_PER_MOL = 0.0440095
"""Molar mass of CO2 (IUPAC 2005 standard atomic weights: C 12.0107, O 15.9994)."""
FLUE_GAS_KG_PER_MOL = 0.0289
"""Molar mass of wood flue gas at 12 % water and 11 % CO2, for the pitot formula (40 CFR 60, Method 3, gives
28.6 to 29.3 g/mol over the usual range; velocity changes with its square root)."""
ZERO_CELSIUS_K = 273.15
NORMAL_KPA = 101.325
AMBIENT_CO2_PPM = 420.0
"""CO2 in the clean air that a dilution probe adds (NOAA global mean, 2023)."""


def pressure_from_altitude_kpa(altitude_m: float) -> float:
    """Mean absolute air pressure in kPa at a height above sea level (ISO 2533 standard atmosphere, troposphere)."""
    return float(101.325 * (1 - 2.25577e-5 * altitude_m) ** 5.25588)


def co2_density_kg_m3(temperature_c: float, pressure_kpa: float) -> float:
    """Density of CO2 as a component of the gas, in kg/m3: an ideal gas at the gas's own temperature and pressure.

    1.9635 at 0 degC and 101.325 kPa, 0.895 at 200 degC and 80 kPa (absolute).
    """
    return pressure_kpa * 1000 * CO2_KG_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * (temperature_c + ZERO_CELSIUS_K))


CO2_KG_PER_NM3 = co2_density_kg_m3(0.0, NORMAL_KPA)
"""1.9635: what one Nm3 of CO2 weighs as a component."""


def duct_area_m2(
    shape: Literal["circular", "rectangular"],
    *,
    diameter_m: float | None = None,
    width_m: float | None = None,
    length_m: float | None = None,
    wall_deposit_mm: float = 0.0,
) -> float:
    """Free inner area of a stack in m2, less a deposit of even thickness on the wall.

    Raises :class:`ValueError` when the dimensions of the shape are missing, or smaller than the deposit.
    """
    deposit_m = 2 * wall_deposit_mm / 1000
    if shape == "circular":
        if diameter_m is None or diameter_m <= deposit_m:
            raise ValueError("a circular stack needs diameter_m larger than its wall deposit")
        return pi * (diameter_m - deposit_m) ** 2 / 4
    if width_m is None or length_m is None or min(width_m, length_m) <= deposit_m:
        raise ValueError("a rectangular stack needs width_m and length_m larger than its wall deposit")
    return (width_m - deposit_m) * (length_m - deposit_m)


def equivalent_diameter_m(width_m: float, length_m: float) -> float:
    """Diameter in m of the round duct that a rectangular one behaves like (40 CFR 60, Method 1, equation 1-1)."""
    return 2 * width_m * length_m / (width_m + length_m)


def undiluted_ppm(diluted_ppm: float, dilution_ratio: float, air_ppm: float = AMBIENT_CO2_PPM) -> float:
    """CO2 of the flue gas in ppm, from that of the diluted sample; of ``dilution_ratio`` parts one is flue gas."""
    return (diluted_ppm - air_ppm * (1 - 1 / dilution_ratio)) * dilution_ratio


def diluted_ppm(flue_ppm: float, dilution_ratio: float, air_ppm: float = AMBIENT_CO2_PPM) -> float:
    """CO2 of the diluted sample in ppm: the inverse of :func:`undiluted_ppm`."""
    return flue_ppm / dilution_ratio + air_ppm * (1 - 1 / dilution_ratio)


def dry_to_wet_fraction(dry_fraction: float, h2o_fraction: float) -> float:
    """Mole fraction in the wet gas from that in the dry gas (40 CFR 98.33, form of equation C-7)."""
    return dry_fraction * (1 - h2o_fraction)


def wet_to_dry_fraction(wet_fraction: float, h2o_fraction: float) -> float:
    """Mole fraction in the dry gas from that in the wet gas; ``h2o_fraction`` is below 1."""
    return wet_fraction / (1 - h2o_fraction)


def pitot_velocity_ms(
    pressure_difference_pa: float, temperature_c: float, pressure_kpa: float, pitot_coefficient: float
) -> float:
    """Gas velocity in m/s from a pitot tube's pressure difference in Pa (40 CFR 60, Method 2, equation 2-7, in SI)."""
    density = pressure_kpa * 1000 * FLUE_GAS_KG_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * (temperature_c + ZERO_CELSIUS_K))
    return pitot_coefficient * sqrt(2 * pressure_difference_pa / density)


def actual_flow_m3_per_s(velocity_ms: float, area_m2: float, profile_factor: float) -> float:
    """Flow of wet gas in its own state, in m3/s. ``profile_factor`` is mean velocity over measured velocity."""
    return profile_factor * velocity_ms * area_m2


def normal_flow_wet_nm3_per_s(actual_m3_per_s: float, temperature_c: float, pressure_kpa: float) -> float:
    """Flow of wet gas at 273.15 K and 101.325 kPa, in Nm3/s (40 CFR 60, Method 2, form of equation 2-8)."""
    return actual_m3_per_s * (ZERO_CELSIUS_K / (temperature_c + ZERO_CELSIUS_K)) * (pressure_kpa / NORMAL_KPA)


def normal_flow_dry_nm3_per_s(wet_nm3_per_s: float, h2o_fraction: float) -> float:
    """Flow without its water, in Nm3/s (40 CFR 60, Method 2, form of equation 2-8)."""
    return wet_nm3_per_s * (1 - h2o_fraction)


def co2_mass_rate_kg_per_s(
    co2_wet_fraction: float, actual_m3_per_s: float, temperature_c: float, pressure_kpa: float
) -> float:
    """CO2 in kg/s: fraction of the wet gas, times actual flow, times the density of CO2 in the same state."""
    return co2_wet_fraction * actual_m3_per_s * co2_density_kg_m3(temperature_c, pressure_kpa)


def co2_mass_rate_from_normal_kg_per_s(co2_wet_fraction: float, wet_nm3_per_s: float) -> float:
    """CO2 in kg/s from the flow in Nm3/s; the same number as :func:`co2_mass_rate_kg_per_s` gives."""
    return co2_wet_fraction * wet_nm3_per_s * CO2_KG_PER_NM3
