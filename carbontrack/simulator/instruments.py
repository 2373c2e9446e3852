"""What the instruments of one chimney make of its gas: resolution, ranges and faults, and the node's own rate."""

from __future__ import annotations

from math import sin, tau

import msgspec

from carbontrack.emissions.gas import FLUE_GAS_KG_PER_MOL, GAS_CONSTANT_J_PER_MOL_K, ZERO_CELSIUS_K
from carbontrack.emissions.rate import emission_rate, site_pressure_kpa
from carbontrack.model import Factory, Flag, Sample
from carbontrack.simulator.boiler import Boiler, Flue, chance
from carbontrack.simulator.demo_fleet import STUCK, THERMOCOUPLE, DemoStack

STUCK_CO2_PPM = 93_400.0
OPEN_EVERY_S = 1200
"""In some of these spans a bad thermocouple opens once, for some minutes."""


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

    __slots__ = ("_boiler", "_site_kpa", "_stack")

    def __init__(self, stack: DemoStack, factory: Factory) -> None:
        self._stack = stack
        self._boiler = Boiler(stack.seed)
        self._site_kpa = site_pressure_kpa(factory)

    def read(self, utc_ms: int) -> Measured:
        """One reading of all instruments, at a moment in UTC ms since 1970 by the boiler's clock."""
        flue = self._boiler.at(utc_ms)
        at_s = utc_ms / 1000
        co2_ppm, status = self._co2(flue)
        pressure_kpa = round(self._site_kpa + _air_tide_kpa(at_s), 2)
        if flue.heat == 0:
            status |= Flag.BOILER_OFF
        temperature_c: float | None = round(flue.temperature_c * 4) / 4
        velocity_ms: float | None = round(flue.velocity_ms, 2)
        difference_pa = round(self._difference_pa(flue, pressure_kpa), 2)
        if self._stack.fault == THERMOCOUPLE and self._is_open(at_s):
            status |= Flag.TEMPERATURE_OPEN
            temperature_c = velocity_ms = None  # without a temperature there is no density, so no velocity
        rate = self._rate(co2_ppm, temperature_c, velocity_ms, pressure_kpa, int(status))
        inside_c = round(29 + 9 * flue.heat + 3 * sin(tau * at_s / 86_400), 1)
        return Measured(co2_ppm, temperature_c, difference_pa, velocity_ms, pressure_kpa, inside_c, rate, int(status))

    def _co2(self, flue: Flue) -> tuple[float, Flag]:
        range_ppm = self._stack.plan.co2_range_ppm
        if self._stack.fault == STUCK:
            return STUCK_CO2_PPM, Flag(0)
        if flue.co2_ppm >= range_ppm:
            return range_ppm, Flag.CO2_OVER_RANGE
        return float(round(flue.co2_ppm, -1)), Flag(0)

    def _difference_pa(self, flue: Flue, pressure_kpa: float) -> float:
        """What the pitot tube gives for the gas's velocity (the inverse of ``pitot_velocity_ms``)."""
        kelvin = flue.temperature_c + ZERO_CELSIUS_K
        density = pressure_kpa * 1000 * FLUE_GAS_KG_PER_MOL / (GAS_CONSTANT_J_PER_MOL_K * kelvin)
        return density / 2 * (flue.velocity_ms / self._stack.plan.pitot_coefficient) ** 2

    def _rate(
        self, co2_ppm: float, temperature_c: float | None, velocity_ms: float | None, pressure_kpa: float, status: int
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
        rate = emission_rate(sample, self._stack.plan, self._site_kpa, status).co2_kg_per_s
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
