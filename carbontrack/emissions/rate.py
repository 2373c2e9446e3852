"""From one sample to kilograms of CO2 per second, at the state in which the gas is in the stack.

The chain, in the order of ``docs/calculation.md``; each formula is a function of :mod:`carbontrack.emissions.gas`:

1. calibration function ``a + b c`` (EN 14181, QAL2), then the dilution probe's ratio;
2. mole fraction: 1 ppm is 1e-6;
3. dry analyser, wet flow: ``x_wet = x_dry (1 - H2O)`` (40 CFR 98.33, equation C-7);
4. inner area by shape, less the wall deposit (:class:`carbontrack.model.MonitoringPlan`);
5. velocity from an anemometer, or from a pitot tube by ``Cp sqrt(2 dp / rho)`` (40 CFR 60, Method 2), times the
   profile factor from a grid traverse (EN 15259);
6. actual flow ``Qa = k v A``;
7. density of CO2 as a component at the gas's own temperature and absolute pressure: ``P M / (R T)``;
8. rate ``x_wet Qa P M / (R T)``;
9. whether the boiler runs (:func:`vote`);
10. what is known about each value: the flags.

A sample that cannot give a true rate gives none: ``co2_kg_per_s`` is None and the flags say why. Each channel is judged
by itself: where the CO2 is lost and the flow is not, the flow is still given.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from carbontrack.emissions.gas import (
    co2_density_kg_m3,
    dry_to_wet_fraction,
    normal_flow_wet_nm3_per_s,
    pitot_velocity_ms,
    pressure_from_altitude_kpa,
    undiluted_ppm,
)
from carbontrack.model import Factory, Flag, MonitoringPlan, Sample

TYPICAL_FLUE_CO2_PPM = 60_000.0
"""A CO2 channel that cannot read this much (after dilution) is unfit for a wood boiler's flue (6 to 14 %)."""
SLOWEST_RESPONSE_S = 200.0
"""A CO2 channel with a longer response time (T90) is unfit (the limit of EN 15267-3 for gases)."""
FULL_SCALE_SHARE = 0.99
"""At or above this share of its range a channel is taken to be saturated."""
MOST_CO2_FRACTION = 0.25
"""Carbon burnt in air with nothing left over gives 21 % CO2; more is no flue gas."""

_OVER_RANGE = int(Flag.CO2_OVER_RANGE)
_NEGATIVE = int(Flag.PRESSURE_DIFFERENCE_NEGATIVE)
_MISSING = int(Flag.VALUE_MISSING)
_UNFIT = int(Flag.UNFIT_SENSOR)
_SATURATED = int(Flag.CO2_SATURATED)
_CO2_IMPLAUSIBLE = int(Flag.CO2_IMPLAUSIBLE)
_TEMPERATURE_IMPLAUSIBLE = int(Flag.TEMPERATURE_IMPLAUSIBLE)
_VELOCITY_IMPLAUSIBLE = int(Flag.VELOCITY_IMPLAUSIBLE)
_SITE_PRESSURE = int(Flag.PRESSURE_DEFAULT | Flag.PRESSURE_SITE)
_BAD_PRESSURE = int(Flag.PRESSURE_DEFAULT | Flag.PRESSURE_SITE | Flag.PRESSURE_IMPLAUSIBLE)
_PRESSURE_SITE = int(Flag.PRESSURE_SITE)
_BOILER_OFF = int(Flag.BOILER_OFF)
_FROM_PITOT = int(Flag.VELOCITY_FROM_PITOT)
_DISAGREES = int(Flag.DEVICE_DISAGREES)

_BAD_CO2 = int(
    Flag.CO2_OVER_RANGE
    | Flag.CO2_FAULT
    | Flag.WARM_UP
    | Flag.STALE
    | Flag.MAINTENANCE
    | Flag.CALIBRATION
    | Flag.STUCK
    | Flag.IMPLAUSIBLE
    | Flag.UNFIT_SENSOR
    | Flag.CO2_IMPLAUSIBLE
)
_BAD_TEMPERATURE = int(Flag.TEMPERATURE_OPEN | Flag.TEMPERATURE_FAULT | Flag.IMPLAUSIBLE | Flag.TEMPERATURE_IMPLAUSIBLE)
_BAD_VELOCITY = int(
    Flag.VELOCITY_FAULT | Flag.PRESSURE_DIFFERENCE_NEGATIVE | Flag.IMPLAUSIBLE | Flag.VELOCITY_IMPLAUSIBLE
)
INVALIDATING = _BAD_CO2 | _BAD_TEMPERATURE | _BAD_VELOCITY | _MISSING
"""Flags with which a sample has no valid rate."""

DERIVED = int(
    Flag.UNFIT_SENSOR
    | Flag.VALUE_MISSING
    | Flag.CO2_IMPLAUSIBLE
    | Flag.TEMPERATURE_IMPLAUSIBLE
    | Flag.VELOCITY_IMPLAUSIBLE
)
"""Flags that follow from the values and the plan alone, and are found again when a sample is computed again."""


class Rate(msgspec.Struct, frozen=True, gc=False):
    """What the chain makes of one sample; a value that cannot be trusted is None.

    ``velocity_ms`` is the measured point velocity, before the profile factor; ``flow_rate_m3s`` the actual wet flow
    through the stack, ``flow_nm3_per_s`` the same at 273.15 K and 101.325 kPa; ``co2_fraction`` the mole fraction in
    the wet gas; ``flags`` are the sample's with the chain's added. ``vote`` says whether the boiler runs: 1 yes,
    0 undecided, -1 no, :data:`NO_CO2` no, although the gas is hot and moves.
    """

    co2_kg_per_s: float | None
    flow_rate_m3s: float | None
    velocity_ms: float | None
    pressure_kpa: float
    flags: int
    co2_fraction: float | None = None
    flow_nm3_per_s: float | None = None
    temperature_c: float | None = None
    vote: int = 0


NO_CO2 = -2


def site_pressure_kpa(factory: Factory) -> float:
    """The factory's absolute air pressure in kPa: the one given, or else from its altitude."""
    return factory.pressure_kpa or pressure_from_altitude_kpa(factory.altitude_m)


def is_unfit(plan: MonitoringPlan) -> bool:
    """Whether the plan's CO2 channel cannot measure a wood boiler's flue gas, whatever it reads."""
    return plan.co2_range_ppm * plan.dilution_ratio < TYPICAL_FLUE_CO2_PPM or plan.co2_response_s > SLOWEST_RESPONSE_S


def co2_wet_fraction(co2_ppm: float, plan: MonitoringPlan) -> float:
    """CO2 as a mole fraction of the wet flue gas, from the analyser's reading in ppm (steps 1 to 3)."""
    ppm = plan.calibration_offset_ppm + plan.calibration_slope * co2_ppm
    if plan.dilution_ratio != 1:
        ppm = undiluted_ppm(ppm, plan.dilution_ratio)
    fraction = ppm * 1e-6
    return dry_to_wet_fraction(fraction, plan.h2o_fraction) if plan.basis == "dry" else fraction


def emission_rate(sample: Sample, plan: MonitoringPlan, site_kpa: float, flags: int) -> Rate:
    """Steps 1 to 10 for one sample, under the plan in force when it was measured.

    ``site_kpa`` is used when the sample has no pressure of its own; ``flags`` are the ones known already.
    """
    pressure_kpa = sample.pressure_kpa
    if pressure_kpa is None or not 50 <= pressure_kpa <= 110:
        flags |= _SITE_PRESSURE if pressure_kpa is None else _BAD_PRESSURE
        pressure_kpa = site_kpa
    fraction, flags = _fraction(sample.co2_ppm, plan, flags)

    temperature_c = sample.temperature_c
    if temperature_c is None:
        flags |= _MISSING
    elif not -20 <= temperature_c <= plan.temperature_max_c:
        flags |= _TEMPERATURE_IMPLAUSIBLE
    if flags & _BAD_TEMPERATURE:
        temperature_c = None

    velocity_ms, flags = _velocity_ms(sample, plan, temperature_c, pressure_kpa, flags)
    known_ms = None if flags & _BAD_VELOCITY else velocity_ms
    if (
        known_ms is not None
        and known_ms < plan.off_velocity_ms
        and temperature_c is not None
        and temperature_c >= plan.on_temperature_c
        and fraction is not None
        and fraction * 1e6 >= plan.on_co2_ppm
    ):
        flags |= _VELOCITY_IMPLAUSIBLE  # a fire's gas does not stand still: the anemometer has seized
        known_ms = None

    flow_m3s = flow_nm3_per_s = rate_kg_per_s = None
    if known_ms is not None:
        flow_m3s = plan.profile_factor * known_ms * plan.area_m2
        if temperature_c is not None:
            flow_nm3_per_s = normal_flow_wet_nm3_per_s(flow_m3s, temperature_c, pressure_kpa)
            if fraction is not None and not flags & INVALIDATING:
                rate_kg_per_s = fraction * flow_m3s * co2_density_kg_m3(temperature_c, pressure_kpa)
    told = sample.device_co2_kg_per_s
    if told is not None and rate_kg_per_s is not None and abs(told - rate_kg_per_s) > 0.05 * rate_kg_per_s + 1e-4:
        flags |= _DISAGREES
    decided = vote(plan, temperature_c, known_ms, fraction, flags)
    return Rate(
        rate_kg_per_s,
        flow_m3s,
        velocity_ms,
        pressure_kpa,
        flags,
        fraction,
        flow_nm3_per_s,
        temperature_c,
        decided,
    )


def _fraction(co2_ppm: float | None, plan: MonitoringPlan, flags: int) -> tuple[float | None, int]:
    """The mole fraction of CO2 in the wet gas, where it can be trusted, and the flags with the channel's added."""
    if is_unfit(plan):
        flags |= _UNFIT
    if co2_ppm is None:
        return None, flags | _MISSING
    if co2_ppm >= FULL_SCALE_SHARE * plan.co2_range_ppm:
        if not flags & _OVER_RANGE:
            flags |= _OVER_RANGE | _SATURATED
    elif not co2_ppm >= -1000:  # written so that NaN is implausible too
        flags |= _CO2_IMPLAUSIBLE
    if flags & _BAD_CO2:
        return None, flags
    fraction = co2_wet_fraction(co2_ppm, plan)
    if not fraction <= MOST_CO2_FRACTION:
        return None, flags | _CO2_IMPLAUSIBLE
    return max(0.0, fraction), flags


def _velocity_ms(
    sample: Sample, plan: MonitoringPlan, temperature_c: float | None, pressure_kpa: float, flags: int
) -> tuple[float | None, int]:
    """The velocity at the measuring point, and the flags with the channel's added."""
    velocity_ms, difference_pa = sample.velocity_ms, sample.pressure_difference_pa
    if difference_pa is not None and (velocity_ms is None or plan.velocity_method == "pitot"):
        velocity_ms = None
        if difference_pa < 0:
            flags |= _NEGATIVE
        elif temperature_c is not None:
            velocity_ms = pitot_velocity_ms(difference_pa, temperature_c, pressure_kpa, plan.pitot_coefficient)
        flags |= _FROM_PITOT
    if velocity_ms is None:
        flags |= _MISSING
    elif not 0 <= velocity_ms <= plan.velocity_max_ms:
        flags |= _VELOCITY_IMPLAUSIBLE
    return velocity_ms, flags


def vote(
    plan: MonitoringPlan, temperature_c: float | None, velocity_ms: float | None, co2_fraction: float | None, flags: int
) -> int:
    """What one sample says of the boiler (step 9): 1 it runs, 0 undecided, -1 or :data:`NO_CO2` it does not.

    It runs when every value that is known is above its ``on`` threshold, and one of them is temperature or CO2. It is
    off when one is below its ``off`` threshold. Where neither temperature nor CO2 is known, the device's own status
    ``BOILER_OFF`` counts.
    """
    if temperature_c is None and co2_fraction is None:
        return -1 if flags & _BOILER_OFF else 0
    co2_ppm = None if co2_fraction is None else co2_fraction * 1e6
    cold = temperature_c is not None and temperature_c < plan.off_temperature_c
    still = velocity_ms is not None and velocity_ms < plan.off_velocity_ms
    if co2_ppm is not None and co2_ppm < plan.off_co2_ppm:
        hot = temperature_c is not None and temperature_c >= plan.on_temperature_c
        moves = velocity_ms is not None and velocity_ms >= plan.on_velocity_ms
        return NO_CO2 if hot and moves else -1
    if cold or still:
        return -1
    runs = (
        (temperature_c is None or temperature_c >= plan.on_temperature_c)
        and (co2_ppm is None or co2_ppm >= plan.on_co2_ppm)
        and (velocity_ms is None or velocity_ms >= plan.on_velocity_ms)
    )
    return 1 if runs else 0


def plan_in_force(plans: Sequence[MonitoringPlan], measured_at_s: float) -> MonitoringPlan:
    """The plan that was in force at a moment (seconds since 1970, UTC); before the first plan, the first."""
    chosen = plans[0]
    for plan in plans[1:]:
        if plan.valid_from.timestamp() > measured_at_s:
            break
        chosen = plan
    return chosen


_SINGLE = struct.Struct("<f")


def single(value: float | None) -> float | None:
    """A number as it is kept: a 32-bit float (EN 17255-2, 6.2.2). One that none can hold stays as it is."""
    if value is None:
        return None
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return value
    return rounded


def as_stored(sample: Sample) -> Sample:
    """The sample with its values as they are kept, so that its rate is that of the stored reading, bit for bit."""
    return Sample(
        sample.seq,
        sample.device_time_ms,
        sample.clock,
        single(sample.co2_ppm),
        single(sample.temperature_c),
        single(sample.velocity_ms),
        single(sample.pressure_difference_pa),
        single(sample.pressure_kpa),
        sample.device_co2_kg_per_s,
        sample.status,
    )


def undecided_flags(flags: int) -> int:
    """A stored sample's flags without those that the chain itself set, ready for computing it again."""
    if flags & _SATURATED:
        flags &= ~(_SATURATED | _OVER_RANGE)
    if flags & _FROM_PITOT:
        flags &= ~_FROM_PITOT
    return flags & ~DERIVED


def stored_sample(
    co2_ppm: float | None,
    temperature_c: float | None,
    velocity_ms: float | None,
    pressure_kpa: float | None,
    pressure_difference_pa: float | None,
    flags: int,
) -> Sample:
    """The sample behind a stored reading, as the device measured it."""
    if flags & _PRESSURE_SITE:
        pressure_kpa = None
    if flags & _FROM_PITOT:
        velocity_ms = None
    return Sample(
        0,
        0,
        co2_ppm=co2_ppm,
        temperature_c=temperature_c,
        velocity_ms=velocity_ms,
        pressure_difference_pa=pressure_difference_pa,
        pressure_kpa=pressure_kpa,
    )
