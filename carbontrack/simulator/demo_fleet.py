"""The demonstration's chimneys: who burns wood where, how it is measured, and which instruments misbehave.

Everything follows from the device ids: the same number of factories always gives the same fleet, and a larger fleet
contains the smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from carbontrack.data import load_factories
from carbontrack.model import Factory, MonitoringPlan
from carbontrack.simulator.boiler import Boiler, chance

UNFIT_RANGE_PPM = 5000.0
"""Full scale of an analyser made for room air."""
UNFIT = "unfit"
"""The analyser's range ends far below what a flue carries: it reads its full scale and says so."""
STUCK = "stuck"
"""The CO2 channel gives one value for ever."""
THERMOCOUPLE = "thermocouple"
"""The thermocouple opens now and then."""

FAULTS = {(1, 1): UNFIT, (4, 1): STUCK, (5, 1): THERMOCOUPLE, (40, 1): UNFIT}
"""Faults by place of the factory in the fleet, from 0, and number of the boiler, from 1."""


@dataclass(frozen=True, slots=True)
class DemoStack:
    """One chimney with its device. ``fault`` is what is wrong with the instruments: one of the names above."""

    name: str
    plan: MonitoringPlan
    device_id: str
    seed: int
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class DemoFactory:
    factory: Factory
    stacks: tuple[DemoStack, ...]


def demo_fleet(factories: int | None = None) -> list[DemoFactory]:
    """The first so many factories, every region's first before any region's second; None is all of them."""
    return [_demo_factory(place, factory) for place, factory in enumerate(_in_turn(load_factories())[:factories])]


def _in_turn(factories: list[Factory]) -> list[Factory]:
    """One factory of each region after the other, so that a small fleet is spread over the country."""
    seen: dict[str, int] = {}
    turns: list[tuple[int, str, Factory]] = []
    for factory in factories:
        turn = seen.get(factory.region, 0)
        seen[factory.region] = turn + 1
        turns.append((turn, factory.region, factory))
    return [factory for _, _, factory in sorted(turns, key=lambda each: each[:2])]


def _demo_factory(place: int, factory: Factory) -> DemoFactory:
    drawn = chance(crc32(factory.slug.encode()), "stacks", 0)
    number = 1 if drawn < 0.3 else 2 if drawn < 0.75 else 3
    return DemoFactory(
        factory, tuple(_demo_stack(factory, which, FAULTS.get((place, which))) for which in range(1, number + 1))
    )


def _demo_stack(factory: Factory, which: int, fault: str | None) -> DemoStack:
    device_id = f"ct-{factory.slug}-{which}"
    seed = crc32(device_id.encode())
    return DemoStack(f"Boiler {which}", _plan(seed, fault), device_id, seed, fault)


def _plan(seed: int, fault: str | None) -> MonitoringPlan:
    range_ppm = 250_000.0 if chance(seed, "range", 0) < 0.15 else 200_000.0
    return MonitoringPlan(
        diameter_m=round(0.7 + 0.05 * int(7 * chance(seed, "diameter", 0)), 2),
        profile_factor=round(0.87 + 0.07 * chance(seed, "profile", 0), 2),
        h2o_fraction=round(Boiler(seed).typical_h2o_fraction(), 3),
        co2_range_ppm=UNFIT_RANGE_PPM if fault == UNFIT else range_ppm,
    )
