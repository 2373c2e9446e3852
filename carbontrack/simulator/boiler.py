"""One wood-fired boiler and its chimney, as a pure function of a seed and a time.

Nothing is remembered from one call to the next: the same boiler gives the same gas at the same moment, so readings
that are made up for the past join those made as time goes by. Randomness is a hash of (seed, what, which).

A working day begins between 05:00 and 07:00 local time. Most nights the boiler fires through; on some it is banked
from late evening to the next morning, and on a few days it stays cold. While it fires, stoking moves CO2 and
temperature slowly up and down, and every 10 to 20 minutes the firebox door lets cold air in for about a minute.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import exp, sin, tau

import msgspec

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
    ``co2_ppm`` is by volume in dry gas, ``velocity_ms`` the velocity at the measuring point.
    """

    co2_ppm: float
    temperature_c: float
    velocity_ms: float
    heat: float


class Boiler:
    """What one boiler's chimney carries at any time. Boilers of different seeds differ in size, load and rhythm."""

    __slots__ = ("_co2_ppm", "_embers", "_quick", "_seed", "_slow", "_temperature_c", "_velocity_ms")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._co2_ppm = 96_000 + 18_000 * chance(seed, "co2", 0)
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
            return Flue(*self._off(at_s), heat)
        firing = self._firing(at_s)
        if heat == 1:
            return Flue(*firing, heat)
        off = self._off(at_s)
        # CO2 is there as soon as the wood burns; the brickwork takes its time.
        shares = (heat**0.7, heat, heat)
        co2_ppm, temperature_c, velocity_ms = (
            cold + (hot - cold) * share for cold, hot, share in zip(off, firing, shares, strict=True)
        )
        return Flue(co2_ppm, temperature_c, velocity_ms, heat)

    def _firing(self, at_s: float) -> tuple[float, float, float]:
        """CO2 (ppm), temperature (degC) and velocity (m/s) of a boiler that fires."""
        slow, quick = self._slow.at(at_s), self._quick.at(at_s)
        door = self._door(at_s)
        from_eight = ((at_s + LOCAL_OFFSET_S) / _HOUR_S - 20 + 12) % 24 - 12
        evening = exp(-((from_eight / 3) ** 2))
        co2_ppm = self._co2_ppm + 8000 * slow + 3500 * quick + 1500 * self._noise("co2", at_s, 20)
        temperature_c = self._temperature_c + 11 * slow + 3 * quick + 1.5 * self._noise("temperature", at_s, 40)
        velocity_ms = self._velocity_ms * (1 + 0.08 * evening + 0.07 * quick + 0.05 * self._noise("velocity", at_s, 10))
        return (
            _within(60_000, co2_ppm * (1 - 0.3 * door), 140_000),
            _within(150, temperature_c - 28 * door, 260),
            _within(2, velocity_ms * (1 + 0.15 * door), 6),
        )

    def _off(self, at_s: float) -> tuple[float, float, float]:
        """CO2 (ppm), temperature (degC) and velocity (m/s) of a cold chimney: a little draught, embers now and then."""
        embers = 0.5 + 0.5 * self._embers.at(at_s)
        return (
            500 + 850 * embers + 40 * self._noise("co2", at_s, 20),
            32 + 20 * embers + 1.0 * self._noise("temperature", at_s, 40),
            0.18 + 0.1 * embers + 0.08 * self._noise("velocity", at_s, 10),
        )

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

    def _noise(self, what: str, at_s: float, step_s: float) -> float:
        """Smooth noise between -1 and 1; what it was ``step_s`` seconds ago says little about what it is."""
        slot, part = divmod(at_s / step_s, 1)
        before = 2 * chance(self._seed, what, int(slot)) - 1
        after = 2 * chance(self._seed, what, int(slot) + 1) - 1
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
