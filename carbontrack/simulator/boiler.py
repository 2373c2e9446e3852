"""One wood-fired boiler and its chimney, as a pure function of a seed and a time.

Nothing is remembered from one call to the next: the same boiler gives the same gas at the same moment, so readings
that are made up for the past join those made as time goes by. Randomness is a hash of (seed, what, which).

A working day begins between 05:00 and 07:00 local time. Most nights the boiler fires through; on some it is banked
from late evening to the next morning, and on a few days it stays cold. While it fires, stoking moves the excess air and
the temperature slowly up and down. Every 10 to 20 minutes the firebox door lets cold air in for about a minute; the
fresh wood then gives off its volatiles for some minutes, with little air to spare.

What the gas consists of follows from the excess air by the stoichiometry of wood
(:mod:`carbontrack.emissions.combustion`), so that the CO2 that leaves the chimney is the carbon that burnt: the truth
that a measurement is scored against. The firing pattern itself is the project's judgement; no measurement of a tea
factory's flue was found.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import exp, sin, tau

import msgspec

from carbontrack.emissions.combustion import CO2_MOST_DRY, O2_IN_DRY_AIR, flue_gas
from carbontrack.emissions.gas import AMBIENT_CO2_PPM

LOCAL_OFFSET_S = 3 * 3600
"""East Africa Time is UTC+3 all year."""
IDLE_DAYS = 0.08
"""Share of days on which a boiler stays cold: on standby, or for repair."""
BANKED_NIGHTS = 0.35
"""Share of nights on which the fire is banked."""
HEAT_UP_S = 1800.0
COOL_DOWN_S = 2700.0

_DAY_S = 86_400
_HOUR_S = 3600
_DOOR_EVERY_S = 900.0
_MASK = (1 << 64) - 1


class Flue(msgspec.Struct, frozen=True, gc=False):
    """The gas in the chimney at one moment.

    ``heat`` is 0 when the boiler is off, 1 when it fires, between the two while it heats up or cools down;
    ``co2_ppm`` is by volume in dry gas, with what the combustion air brought along; ``velocity_ms`` the velocity at the
    measuring point. ``excess_air`` is lambda, ``o2_dry`` and ``h2o_wet`` are shares by volume, and
    ``wood_dry_kg_per_nm3`` is the dry wood that one Nm3 of the wet gas was made of.
    """

    co2_ppm: float
    temperature_c: float
    velocity_ms: float
    heat: float
    excess_air: float
    o2_dry: float
    h2o_wet: float
    wood_dry_kg_per_nm3: float


@cache
def _gas_per_kg(moisture: float) -> tuple[float, float, float, float, float]:
    """Nm3 of gas from a kg of dry wood: CO2, then dry gas and wet gas as constant and part for each lambda."""
    one, two = flue_gas(1.0, moisture), flue_gas(2.0, moisture)
    dry, wet = two.nm3_dry_per_kg_dry - one.nm3_dry_per_kg_dry, two.nm3_wet_per_kg_dry - one.nm3_wet_per_kg_dry
    co2 = one.co2_dry * one.nm3_dry_per_kg_dry
    return co2, one.nm3_dry_per_kg_dry - dry, dry, one.nm3_wet_per_kg_dry - wet, wet


class Boiler:
    """What one boiler's chimney carries at any time. Boilers of different seeds differ in size, load and rhythm."""

    __slots__ = (
        "_embers",
        "_excess_air",
        "_gas",
        "_quick",
        "_seed",
        "_slow",
        "_temperature_c",
        "_velocity_ms",
        "moisture",
    )

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._excess_air = 1.6 + 0.35 * chance(seed, "air", 0)
        self.moisture = round(0.2 + 0.1 * chance(seed, "moisture", 0), 2)
        """Of the wood as fired."""
        self._gas = _gas_per_kg(self.moisture)
        self._temperature_c = 188 + 34 * chance(seed, "temperature", 0)
        self._velocity_ms = 3.0 + 1.2 * chance(seed, "velocity", 0)
        stoking_s = 1500 + 1200 * chance(seed, "stoking", 0)
        self._slow = _Wave(seed, "slow", stoking_s)
        self._quick = _Wave(seed, "quick", stoking_s / 7.3)
        self._embers = _Wave(seed, "embers", 5400)

    def at(self, utc_ms: int) -> Flue:
        """The gas at a moment, given in UTC ms since 1970."""
        at_s = utc_ms / 1000
        heat = self._heat(at_s)
        if heat == 0:
            return self._flue(*self._off(at_s), heat)
        firing = self._firing(at_s)
        if heat == 1:
            return self._flue(*firing, heat)
        off = self._off(at_s)
        # The wood burns at once; the brickwork takes its time.
        share = heat**0.7
        excess_air = 1 / (share / firing[0] + (1 - share) / off[0])
        temperature_c, velocity_ms = (cold + (hot - cold) * heat for cold, hot in zip(off[1:], firing[1:], strict=True))
        return self._flue(excess_air, temperature_c, velocity_ms, heat)

    def typical_h2o_fraction(self) -> float:
        """Water in the wet gas while it fires as usual: what whoever writes the monitoring plan would find."""
        _, dry_0, dry_1, wet_0, wet_1 = self._gas
        return 1 - (dry_0 + dry_1 * self._excess_air) / (wet_0 + wet_1 * self._excess_air)

    def _flue(self, excess_air: float, temperature_c: float, velocity_ms: float, heat: float) -> Flue:
        """The gas of a fire with this much air."""
        co2, dry_0, dry_1, wet_0, wet_1 = self._gas
        dry, wet = dry_0 + dry_1 * excess_air, wet_0 + wet_1 * excess_air
        co2_dry = co2 / dry
        air_share = 1 - co2_dry / CO2_MOST_DRY
        return Flue(
            co2_dry * 1e6 + AMBIENT_CO2_PPM * air_share,
            temperature_c,
            velocity_ms,
            heat,
            excess_air,
            O2_IN_DRY_AIR * air_share,
            1 - dry / wet,
            1 / wet,
        )

    def _firing(self, at_s: float) -> tuple[float, float, float]:
        """Excess air, temperature (degC) and velocity (m/s) of a boiler that fires."""
        slow, quick = self._slow.at(at_s), self._quick.at(at_s)
        door = self._door(at_s)
        volatiles = max(0.0, self._door(at_s - 120) - door)
        from_eight = ((at_s + LOCAL_OFFSET_S) / _HOUR_S - 20 + 12) % 24 - 12
        evening = exp(-((from_eight / 3) ** 2))
        excess_air = self._excess_air * (1 - 0.08 * slow - 0.04 * quick) * (1 + 0.6 * door) * (1 - 0.18 * volatiles)
        temperature_c = self._temperature_c + 11 * slow + 3 * quick
        velocity_ms = self._velocity_ms * (1 + 0.08 * evening + 0.07 * quick)
        return (
            max(1.25, excess_air),
            _within(150, temperature_c - 28 * door, 260),
            _within(2, velocity_ms * (1 + 0.15 * door), 6),
        )

    def _off(self, at_s: float) -> tuple[float, float, float]:
        """Excess air, temperature (degC) and velocity (m/s) of a cold chimney: a little draught, some embers."""
        embers = 0.5 + 0.5 * self._embers.at(at_s)
        co2, dry_0, dry_1, _, _ = self._gas
        excess_air = (co2 / ((80 + 850 * embers) * 1e-6) - dry_0) / dry_1
        return excess_air, 32 + 20 * embers, 0.18 + 0.1 * embers

    def _heat(self, at_s: float) -> float:
        """How much the boiler fires: 0 is off, 1 is on."""
        local_s = at_s + LOCAL_OFFSET_S
        today = int(local_s // _DAY_S)
        return max(self._heat_of(today, local_s), self._heat_of(today - 1, local_s))

    def _heat_of(self, day: int, local_s: float) -> float:
        """The part of the heat that comes from the firing begun on one day (days since 1970, local)."""
        begin_s, end_s = _shift(self._seed, day)
        return _smooth((local_s - begin_s) / HEAT_UP_S) * (1 - _smooth((local_s - end_s) / COOL_DOWN_S))

    def _door(self, at_s: float) -> float:
        """How much cold air the firebox door lets in, 0 to 1: the door opens once a quarter of an hour or so."""
        which = int(at_s // _DOOR_EVERY_S)
        return max(self._door_of(which, at_s), self._door_of(which - 1, at_s))

    def _door_of(self, which: int, at_s: float) -> float:
        opened_s = (which + chance(self._seed, "door", which) / 3) * _DOOR_EVERY_S
        since_s = at_s - opened_s
        if since_s <= 0:
            return 0.0
        open_s = 40 + 50 * chance(self._seed, "door open", which)
        depth = 0.6 + 0.4 * chance(self._seed, "door depth", which)
        return depth * _smooth(since_s / 20) * (1.0 if since_s < open_s else exp((open_s - since_s) / 60))


def noise(seed: int, what: str, at_s: float, step_s: float) -> float:
    """Smooth noise between -1 and 1; what it was ``step_s`` seconds ago says little about what it is."""
    slot, part = divmod(at_s / step_s, 1)
    before = 2 * chance(seed, what, int(slot)) - 1
    after = 2 * chance(seed, what, int(slot) + 1) - 1
    return before + (after - before) * _smooth(part)


class _Wave:
    """A swing between -1 and 1 that does not repeat within days."""

    __slots__ = ("_period_s", "_phase", "_second")

    def __init__(self, seed: int, what: str, period_s: float) -> None:
        self._period_s = period_s
        self._phase = chance(seed, what, 1)
        self._second = chance(seed, what, 2)

    def at(self, at_s: float) -> float:
        turns = at_s / self._period_s
        return 0.6 * sin(tau * (turns + self._phase)) + 0.4 * sin(tau * (turns / 0.618 + self._second))


@lru_cache(maxsize=1000)
def _shift(seed: int, day: int) -> tuple[float, float]:
    """When a boiler is lit on a day and when the fire is banked, in local seconds since 1970.

    On a day on which it stays cold the fire is out before it is lit.
    """
    begin_s = _begin_s(seed, day)
    if chance(seed, "idle", day) < IDLE_DAYS:
        return begin_s, begin_s - COOL_DOWN_S
    if chance(seed, "banked", day) < BANKED_NIGHTS:
        return begin_s, (day * 24 + 20.5 + 4 * chance(seed, "end", day)) * _HOUR_S
    # Long enough for the next day's fire to have taken over.
    return begin_s, _begin_s(seed, day + 1) + 1.5 * HEAT_UP_S


def _begin_s(seed: int, day: int) -> float:
    return (day * 24 + 5 + 2 * chance(seed, "begin", day)) * _HOUR_S


def chance(seed: int, what: str, which: int) -> float:
    """A number from 0 to below 1 that looks random and is always the same for the same arguments."""
    # splitmix64: the usual few lines that turn a counter into good noise.
    mixed = (seed * 0x9E3779B97F4A7C15 + which * 0xD1342543DE82EF95 + _number_of(what)) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


@cache
def _number_of(what: str) -> int:
    return int.from_bytes(what.encode()) & _MASK


def _smooth(part: float) -> float:
    """From 0 (at and before 0) to 1 (at and after 1) without a kink."""
    if part <= 0:
        return 0.0
    return 1.0 if part >= 1 else part * part * (3 - 2 * part)


def _within(least: float, value: float, most: float) -> float:
    return min(max(value, least), most)
