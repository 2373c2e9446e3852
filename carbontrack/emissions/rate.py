"""From one sample to kilograms of CO2 per second, at the state in which the gas is in the stack.

The chain, in the order of ``docs/calculation.md``:

1. calibration function ``a + b c`` (EN 14181, QAL2), then the dilution probe's ratio;
2. mole fraction: 1 ppm is 1e-6;
3. dry analyser, wet flow: ``x_wet = x_dry (1 - H2O)`` (40 CFR 98.33, equation C-7);
4. inner area by shape, less the wall deposit (:class:`carbontrack.model.MonitoringPlan`);
5. velocity from an anemometer, or from a pitot tube by ``Cp sqrt(2 dp / rho)`` (40 CFR 60, Method 2), times the
   profile factor from a grid traverse (EN 15259);
6. actual flow ``Qa = k v A``;
7. density of CO2 as a component at the gas's own temperature and absolute pressure: ``P M / (R T)``;
8. rate ``x_wet Qa P M / (R T)``.

A sample that cannot give a true rate gives none: ``co2_kg_per_s`` is None and the flags say why.
"""

from __future__ import annotations

from math import isfinite, sqrt

import msgspec

from carbontrack.model import Factory, Flag, MonitoringPlan, Sample

GAS_CONSTANT_J_PER_MOL_K = 8.314462618
"""Molar gas constant (CODATA 2018, exact)."""
CO2_KG_PER_MOL = 0.0440095
"""Molar mass of CO2 (IUPAC 2005 standard atomic weights: C 12.0107, O 15.9994)."""
FLUE_GAS_KG_PER_MOL = 0.0289
"""Molar mass of wood flue gas at 12 % water and 11 % CO2, for the pitot formula (40 CFR 60, Method 3, gives
28.6 to 29.3 g/mol over the usual range; velocity changes with its square root)."""
ZERO_CELSIUS_K = 273.15
AMBIENT_CO2_PPM = 420.0
"""CO2 in the clean air that a dilution probe adds (NOAA global mean, 2023)."""
TYPICAL_FLUE_CO2_PPM = 60_000.0
"""A CO2 channel that cannot read this much (after dilution) is unfit for a wood boiler's flue (6 to 14 %)."""
FULL_SCALE_SHARE = 0.99
"""At or above this share of its range a channel is taken to be saturated."""

_OVER_RANGE = int(Flag.CO2_OVER_RANGE)
_IMPLAUSIBLE = int(Flag.IMPLAUSIBLE)
_NEGATIVE = int(Flag.PRESSURE_DIFFERENCE_NEGATIVE)
_MISSING = int(Flag.VALUE_MISSING)
_UNFIT = int(Flag.UNFIT_SENSOR)
_PRESSURE_DEFAULT = int(Flag.PRESSURE_DEFAULT)
_DISAGREES = int(Flag.DEVICE_DISAGREES)

INVALIDATING = int(
    Flag.CO2_OVER_RANGE
    | Flag.CO2_FAULT
    | Flag.WARM_UP
    | Flag.STALE
    | Flag.TEMPERATURE_OPEN
    | Flag.TEMPERATURE_FAULT
    | Flag.VELOCITY_FAULT
    | Flag.PRESSURE_DIFFERENCE_NEGATIVE
    | Flag.MAINTENANCE
    | Flag.CALIBRATION
    | Flag.STUCK
    | Flag.IMPLAUSIBLE
    | Flag.VALUE_MISSING
    | Flag.UNFIT_SENSOR
)
"""Flags with which a sample has no valid rate."""


class Rate(msgspec.Struct, frozen=True, gc=False):
    """What the chain makes of one sample.

    ``velocity_ms`` is the measured point velocity, before the profile factor; ``flow_rate_m3s`` is the actual wet flow
    through the stack; ``flags`` are the sample's with the chain's added.
    """

    co2_kg_per_s: float | None
    flow_rate_m3s: float | None
    velocity_ms: float | None
    pressure_kpa: float
    flags: int


def pressure_from_altitude_kpa(altitude_m: float) -> float:
    """Mean absolute air pressure in kPa at a height above sea level (ISO 2533 standard atmosphere, troposphere)."""
    return float(101.325 * (1 - 2.25577e-5 * altitude_m) ** 5.25588)


def site_pressure_kpa(factory: Factory) -> float:
    """The factory's absolute air pressure in kPa: the one given, or else from its altitude."""
    return factory.pressure_kpa or pressure_from_altitude_kpa(factory.altitude_m)


def co2_wet_fraction(co2_ppm: float, plan: MonitoringPlan) -> float:
    """CO2 as a mole fraction of the wet flue gas, from the analyser's reading in ppm (steps 1 to 3)."""
    ppm = plan.calibration_offset_ppm + plan.calibration_slope * co2_ppm
    ratio = plan.dilution_ratio
    if ratio != 1:
        ppm = (ppm - AMBIENT_CO2_PPM * (1 - 1 / ratio)) * ratio
    fraction = ppm * 1e-6
    return fraction * (1 - plan.h2o_fraction) if plan.basis == "dry" else fraction


def pitot_velocity_ms(pressure_difference_pa: float, temperature_c: float, pressure_kpa: float, cp: float) -> float:
    """Gas velocity in m/s from a pitot tube's pressure difference in Pa (40 CFR 60 Method 2, equation 2-7 in SI)."""
    density = pressure_kpa * 1000 * FLUE_GAS_KG_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * (temperature_c + ZERO_CELSIUS_K))
    return cp * sqrt(2 * pressure_difference_pa / density)


def co2_density_kg_m3(temperature_c: float, pressure_kpa: float) -> float:
    """Density of pure CO2 as an ideal gas in kg/m3: 1.9635 at 0 degC and 101.325 kPa, 0.895 at 200 degC and 80 kPa."""
    return pressure_kpa * 1000 * CO2_KG_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * (temperature_c + ZERO_CELSIUS_K))


def emission_rate(  # noqa: C901, PLR0912  # the chain in its order, one branch a check
    sample: Sample, plan: MonitoringPlan, site_kpa: float, flags: int
) -> Rate:
    """Steps 1 to 8 for one sample, under the plan in force when it was measured.

    ``site_kpa`` is used when the sample has no pressure of its own; ``flags`` are the ones known already.
    """
    co2_ppm, temperature_c, velocity_ms = sample.co2_ppm, sample.temperature_c, sample.velocity_ms
    difference_pa, pressure_kpa = sample.pressure_difference_pa, sample.pressure_kpa
    if pressure_kpa is None or not 50 <= pressure_kpa <= 110:
        flags |= _PRESSURE_DEFAULT if pressure_kpa is None else _PRESSURE_DEFAULT | _IMPLAUSIBLE
        pressure_kpa = site_kpa
    if plan.co2_range_ppm * plan.dilution_ratio < TYPICAL_FLUE_CO2_PPM:
        flags |= _UNFIT

    if co2_ppm is None:
        flags |= _MISSING
    elif co2_ppm >= FULL_SCALE_SHARE * plan.co2_range_ppm:
        flags |= _OVER_RANGE
    elif not co2_ppm >= -1000:  # written so that NaN is implausible too
        flags |= _IMPLAUSIBLE
    if temperature_c is None:
        flags |= _MISSING
    elif not -20 <= temperature_c <= 1000:
        flags |= _IMPLAUSIBLE
    elif velocity_ms is None and difference_pa is not None:
        if difference_pa < 0:
            flags |= _NEGATIVE
        else:
            velocity_ms = pitot_velocity_ms(difference_pa, temperature_c, pressure_kpa, plan.pitot_coefficient)
    if velocity_ms is None:
        flags |= _MISSING
    elif not 0 <= velocity_ms <= 50:
        flags |= _IMPLAUSIBLE

    if flags & INVALIDATING or co2_ppm is None or temperature_c is None or velocity_ms is None:
        return Rate(None, None, velocity_ms, pressure_kpa, flags)
    fraction = co2_wet_fraction(co2_ppm, plan)
    flow_m3s = plan.profile_factor * velocity_ms * plan.area_m2
    co2_kg_per_s = max(0.0, fraction) * flow_m3s * co2_density_kg_m3(temperature_c, pressure_kpa)
    if not isfinite(co2_kg_per_s) or fraction > 0.25:
        return Rate(None, flow_m3s, velocity_ms, pressure_kpa, flags | _IMPLAUSIBLE)
    told = sample.device_co2_kg_per_s
    if told is not None and abs(told - co2_kg_per_s) > 0.05 * co2_kg_per_s + 1e-4:
        flags |= _DISAGREES
    return Rate(co2_kg_per_s, flow_m3s, velocity_ms, pressure_kpa, flags)


def plan_in_force(plans: tuple[MonitoringPlan, ...], measured_at_s: float) -> MonitoringPlan:
    """The plan that was in force at a moment (seconds since 1970, UTC); before the first plan, the first."""
    chosen = plans[0]
    for plan in plans[1:]:
        if plan.valid_from.timestamp() > measured_at_s:
            break
        chosen = plan
    return chosen
