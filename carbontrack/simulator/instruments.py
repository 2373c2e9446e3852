"""What the instruments of one chimney make of its gas: lag, noise, resolution, ranges and faults; and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from math import sin, tau

import msgspec

from carbontrack.emissions.combustion import CARBON_SHARE, CO2_KG_PER_KG_CARBON
from carbontrack.emissions.gas import (
    FLUE_GAS_KG_PER_MOL,
    GAS_CONSTANT_J_PER_MOL_K,
    ZERO_CELSIUS_K,
    actual_flow_m3_per_s,
    normal_flow_wet_nm3_per_s,
)
from carbontrack.emissions.rate import emission_rate, site_pressure_kpa
from carbontrack.model import Factory, Flag, MonitoringPlan, Sample
from carbontrack.simulator.boiler import Boiler, Flue, chance, noise
from carbontrack.simulator.demo_fleet import STUCK, THERMOCOUPLE, DemoStack
from carbontrack.simulator.faults import Fault, FaultKind, disturb_co2, disturb_temperature, disturb_velocity

STUCK_CO2_PPM = 93_400.0
OPEN_EVERY_S = 1200
"""In some of these spans a bad thermocouple opens once, for some minutes."""
ANALYSER_LAG_MS = 9_000
"""The gas in the analyser is that of so long ago: a T90 of 20 s, as a delay."""
CO2_NOISE_PPM = 1_500.0
TEMPERATURE_NOISE_C = 1.5
VELOCITY_NOISE = 0.05
"""Of the velocity: 10 % turbulence, averaged over the 5 s of a sample."""


class Truth(msgspec.Struct, frozen=True, gc=False):
    """What really happens at one moment: what a measurement is scored against.

    ``wood_kg_per_s`` is wood as fired; all its carbon leaves as CO2.
    """

    co2_kg_per_s: float
    wood_kg_per_s: float
    flow_nm3_per_s: float
    excess_air: float
    o2_dry: float
    heat: float


class Measured(msgspec.Struct, frozen=True, gc=False):
    """What a node measures at one moment; None is a value that it could not get.

    ``inside_c`` is the temperature in the node's own box; ``status`` holds bits 0 to 14 of
    :class:`carbontrack.model.Flag`.
    """

    co2_ppm: float | None
    temperature_c: float | None
    pressure_difference_pa: float | None
    velocity_ms: float | None
    pressure_kpa: float | None
    inside_c: float | None
    co2_kg_per_s: float | None
    status: int


class Instruments:
    """The instruments on one chimney of the demonstration, with the boiler below it."""

    __slots__ = ("_boiler", "_faults", "_plan", "_site_kpa", "_stack")

    def __init__(self, stack: DemoStack, factory: Factory, faults: Sequence[Fault] = ()) -> None:
        self._stack = stack
        self._plan = stack.plan
        self._boiler = Boiler(stack.seed)
        self._site_kpa = site_pressure_kpa(factory)
        self._faults = tuple(faults)
        if stack.fault == STUCK:
            self._faults = (*self._faults, Fault(FaultKind.CO2_STUCK, size=STUCK_CO2_PPM))

    def know(self, plan: MonitoringPlan) -> None:
        """The node computes its own rate under this plan from now on; the chimney stays as it is."""
        self._plan = plan

    def truth(self, utc_ms: int) -> Truth:
        """What leaves the chimney at a moment, in UTC ms since 1970 by the boiler's clock."""
        flue = self._boiler.at(utc_ms)
        plan = self._stack.plan
        flow = actual_flow_m3_per_s(flue.velocity_ms, plan.area_m2, plan.profile_factor)
        flow_nm3_per_s = normal_flow_wet_nm3_per_s(flow, flue.temperature_c, self._pressure_kpa(utc_ms / 1000))
        wood_dry_kg_per_s = flow_nm3_per_s * flue.wood_dry_kg_per_nm3
        return Truth(
            wood_dry_kg_per_s * CARBON_SHARE * CO2_KG_PER_KG_CARBON,
            wood_dry_kg_per_s / (1 - self._boiler.moisture),
            flow_nm3_per_s,
            flue.excess_air,
            flue.o2_dry,
            flue.heat,
        )

    def read(self, utc_ms: int) -> Measured:
        """One reading of all instruments, at a moment in UTC ms since 1970 by the boiler's clock."""
        flue = self._boiler.at(utc_ms)
        at_s = utc_ms / 1000
        co2_ppm, status = self._co2(utc_ms)
        pressure_kpa = round(self._pressure_kpa(at_s), 2)
        if flue.heat == 0:
            status |= Flag.BOILER_OFF
        seed = self._stack.seed
        temperature, velocity = flue.temperature_c, flue.velocity_ms
        temperature += TEMPERATURE_NOISE_C * noise(seed, "temperature", at_s, 40)
        velocity *= 1 + VELOCITY_NOISE * noise(seed, "velocity", at_s, 10)
        for fault in self._faults:
            temperature = disturb_temperature(fault, utc_ms, temperature)
            velocity = disturb_velocity(fault, utc_ms, velocity)
        temperature_c: float | None = round(temperature * 4) / 4
        velocity_ms: float | None = round(velocity, 2)
        difference_pa = round(self._difference_pa(flue, velocity, pressure_kpa), 2)
        if self._stack.fault == THERMOCOUPLE and self._is_open(at_s):
            status |= Flag.TEMPERATURE_OPEN
            temperature_c = velocity_ms = None  # without a temperature there is no density, so no velocity
        rate = self._rate(co2_ppm, temperature_c, velocity_ms, pressure_kpa, int(status))
        inside_c = round(29 + 9 * flue.heat + 3 * sin(tau * at_s / 86_400), 1)
        return Measured(co2_ppm, temperature_c, difference_pa, velocity_ms, pressure_kpa, inside_c, rate, int(status))

    def wood_kg_per_s(self, utc_ms: int) -> float:
        """Wood as fired that burns at a moment."""
        return self.truth(utc_ms).wood_kg_per_s

    @property
    def moisture(self) -> float:
        """Of the wood as fired."""
        return self._boiler.moisture

    def _co2(self, utc_ms: int) -> tuple[float | None, Flag]:
        range_ppm = self._stack.plan.co2_range_ppm
        gas_ppm = self._boiler.at(utc_ms - ANALYSER_LAG_MS).co2_ppm
        firing_share = min(1.0, gas_ppm / 50_000)
        co2_ppm: float | None = gas_ppm + CO2_NOISE_PPM * firing_share * noise(
            self._stack.seed, "co2", utc_ms / 1000, 20
        )
        for fault in self._faults:
            co2_ppm = disturb_co2(fault, utc_ms, co2_ppm)
        if co2_ppm is None:
            return None, Flag.CO2_FAULT
        if co2_ppm >= range_ppm:
            return range_ppm, Flag.CO2_OVER_RANGE
        return float(round(co2_ppm, -1)), Flag(0)

    def _pressure_kpa(self, at_s: float) -> float:
        return self._site_kpa + _air_tide_kpa(at_s)

    def _difference_pa(self, flue: Flue, velocity_ms: float, pressure_kpa: float) -> float:
        """What the pitot tube gives for the gas's velocity (the inverse of ``pitot_velocity_ms``)."""
        kelvin = flue.temperature_c + ZERO_CELSIUS_K
        density = pressure_kpa * 1000 * FLUE_GAS_KG_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * kelvin)
        return density / 2 * (velocity_ms / self._stack.plan.pitot_coefficient) ** 2

    def _rate(
        self,
        co2_ppm: float | None,
        temperature_c: float | None,
        velocity_ms: float | None,
        pressure_kpa: float,
        status: int,
    ) -> float | None:
        sample = Sample(
            0,
            0,
            co2_ppm=co2_ppm,
            temperature_c=temperature_c,
            velocity_ms=velocity_ms,
            pressure_kpa=pressure_kpa,
            status=status,
        )
        rate = emission_rate(sample, self._plan, self._site_kpa, status).co2_kg_per_s
        return None if rate is None else round(rate, 6)

    def _is_open(self, at_s: float) -> bool:
        which, since_s = divmod(at_s, OPEN_EVERY_S)
        seed = self._stack.seed
        if chance(seed, "open", int(which)) > 0.4:
            return False
        begin_s = 800 * chance(seed, "open from", int(which))
        return begin_s <= since_s < begin_s + 120 + 240 * chance(seed, "open for", int(which))


def _air_tide_kpa(at_s: float) -> float:
    """Air pressure rises and falls twice a day in the tropics, and slowly with the weather."""
    return 0.12 * sin(tau * at_s / 43_200) + 0.15 * sin(tau * at_s / 400_000)
