"""What the clerk of a simulated factory would enter: fuel and tea that fit what the boilers really burnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import fsum
from typing import Any
from zlib import crc32

from carbontrack.ledger import EnergyEntry, EnergyType, ProductionEntry, Sustainability, WoodOrigin
from carbontrack.model import Factory
from carbontrack.simulator.boiler import chance
from carbontrack.simulator.demo_fleet import DemoStack
from carbontrack.simulator.instruments import Instruments

STEP_S = 600
"""The truth is looked at so often; a day's wood is the sum."""
DAY = timedelta(days=1)
SUPPLIERS = ("Mlima Woodlots", "Baraka Growers", "Ridge Timber", "Chai Farmers Group", "Mto Wood Fuel", "Kilele Farm")


@dataclass(frozen=True, slots=True)
class Entered:
    """The entries of a factory for some days; ``id`` and ``factory_id`` are those of no registry yet."""

    energy: tuple[EnergyEntry, ...]
    production: tuple[ProductionEntry, ...]


def simulated_entries(
    factory: Factory, stacks: Sequence[DemoStack], first_day: datetime, days: int, *, mistakes: bool = False
) -> Entered:
    """Daily entries from ``first_day`` (its local midnight) on.

    ``mistakes``: some days are missing, and now and then an amount is ten times too high or in the wrong unit.
    """
    seed = factory_seed(factory)
    energy: list[EnergyEntry] = []
    production: list[ProductionEntry] = []
    instruments = [Instruments(stack, factory) for stack in stacks]
    for number in range(days):
        start = first_day + number * DAY
        which = int(start.timestamp()) // 86_400
        if mistakes and chance(seed, "forgotten", which) < 0.05:
            continue
        wood_kg = fsum(_day_kg(each, start) for each in instruments)
        tea_kg = wood_kg / (1.9 + 0.8 * chance(seed, "wood per tea", which // 7))
        energy += [
            replace(entry, **_mistake(entry, seed, which)) if mistakes else entry
            for entry in _energy(seed, which, start, wood_kg, instruments)
        ]
        leaf_kg = tea_kg * (4.08 + 0.88 * chance(seed, "leaf", which))
        production.append(
            ProductionEntry(0, 1, factory.id, start, start + DAY, round(leaf_kg), round(tea_kg), "factory book")
        )
    return Entered(
        tuple(replace(entry, factory_id=factory.id) for entry in energy if entry.amount > 0),
        tuple(entry for entry in production if entry.made_tea_kg),
    )


def grid_kw(seed: int, at_s: float) -> float:
    """What a factory takes from the grid, in kW: one figure a day."""
    return 55 + 45 * chance(seed, "power", int(at_s) // 86_400)


def factory_seed(factory: Factory) -> int:
    return crc32(factory.slug.encode())


def _day_kg(instruments: Instruments, start: datetime) -> float:
    begin_ms = round(start.timestamp() * 1000)
    steps = range(begin_ms, begin_ms + 86_400_000, STEP_S * 1000)
    return fsum(instruments.wood_kg_per_s(at_ms) for at_ms in steps) * STEP_S


def _energy(
    seed: int, which: int, start: datetime, wood_kg: float, instruments: Sequence[Instruments]
) -> list[EnergyEntry]:
    end = start + DAY
    moisture = fsum(each.moisture for each in instruments) / len(instruments)
    weighed = 1 + 0.02 * (2 * chance(seed, "scales", which) - 1)
    own_wood = chance(seed, "plantation", which // 5) < 0.6
    return [
        EnergyEntry(
            0, 1, 0, EnergyType.FIREWOOD, round(wood_kg * weighed), "kg", start, end,
            moisture=round(moisture + 0.02 * (2 * chance(seed, "meter", which) - 1), 2),
            sustainability=Sustainability.YES if own_wood else Sustainability.UNKNOWN,
            evidence=f"weighbridge {which % 10_000:04}",
            **_origin(seed, which, own_wood=own_wood),
        ),
        EnergyEntry(
            0, 1, 0, EnergyType.DIESEL, round(2 + 30 * chance(seed, "genset", which) ** 3, 1), "litres", start, end,
            evidence="tank book",
        ),
        EnergyEntry(
            0, 1, 0, EnergyType.ELECTRICITY, round(_grid_kwh(seed, start) * weighed), "kWh", start, end,
            evidence="utility meter, read by eye",
        ),
    ]  # fmt: skip


def _origin(seed: int, which: int, *, own_wood: bool) -> dict[str, Any]:
    """Where the wood comes from: of its own plantation all is known, of what is bought not always the seller."""
    if own_wood:
        return {"wood_origin": WoodOrigin.OWN_PLANTATION, "species": "Eucalyptus grandis", "plot": "own, block 7"}
    drawn = int(8 * chance(seed, "supplier", which // 5))
    known = {"supplier": SUPPLIERS[drawn], "permit": f"KFS {100 + drawn}"} if drawn < len(SUPPLIERS) else {}
    return {"wood_origin": WoodOrigin.PURCHASED} | known


def _grid_kwh(seed: int, start: datetime) -> float:
    return fsum(grid_kw(seed, start.timestamp() + hour * 3600) for hour in range(24))


def _mistake(entry: EnergyEntry, seed: int, which: int) -> dict[str, Any]:
    drawn = chance(seed, f"mistake {entry.energy_type}", which)
    if drawn < 0.01:
        return {"amount": entry.amount * 10}
    if drawn < 0.04 and entry.energy_type is EnergyType.FIREWOOD:
        return {"unit": "m3_stacked", "stack_density_kg_per_m3": 420.0}
    return {}
