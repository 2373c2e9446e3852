"""What fuel and electricity emit, by the entries of a factory: activity data times factors (MRR Art 24, GHG Protocol).

Four kinds of figures come out and are never added to one another: biogenic CO2, fossil CO2, CH4 + N2O as CO2e, and
grid electricity as CO2e.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from math import isfinite, sqrt
from statistics import median

from carbontrack.emissions.combustion import net_calorific_value_mj_per_kg
from carbontrack.emissions.factors import FactorSet
from carbontrack.ledger import UNITS, WOOD_FIELDS, EnergyEntry, EnergyType, Factor, WoodOrigin
from carbontrack.words import decimal, gettext

LOCAL = timezone(timedelta(hours=3), "EAT")
"""East Africa Time: the day on which a factor must be in force is a local one."""
MOST_MOISTURE = 0.7
STACK_DENSITY_KG_PER_M3 = (150.0, 800.0)
"""What a stacked m3 of wood can weigh; most of it is air."""
LONGEST_PERIOD = timedelta(days=366)
UNUSUAL_TIMES = 5.0
"""So many times more or less than usual is asked about: nearer to ten-fold than to a busy week."""
USUAL_FROM = 3
"""So many earlier values make a usual one."""


@dataclass(frozen=True, slots=True)
class FuelEmission:
    """What one entry emits, with how it was worked out. A mass that does not apply is 0."""

    energy_type: EnergyType
    amount: float
    unit: str
    """Of ``amount``: kg, litres or kWh."""
    energy_gj: float
    biogenic_co2_kg: float = 0.0
    fossil_co2_kg: float = 0.0
    ch4_kg: float = 0.0
    n2o_kg: float = 0.0
    ch4_n2o_co2e_kg: float = 0.0
    grid_co2e_kg: float = 0.0
    formula: str = ""
    factors: tuple[Factor, ...] = ()
    u_co2_relative: float = 0.0
    """Relative standard uncertainty of the CO2 (or CO2e of the grid) from the factors alone."""
    remarks: tuple[str, ...] = field(default=())


def wood_mass_kg(amount: float, unit: str, stack_density_kg_per_m3: float | None = None) -> float:
    """Mass of wood as weighed, in kg. A stacked m3 needs the density that was measured on the stack itself.

    Raises :class:`ValueError` for a unit that wood has not, or a stacked m3 without a density.
    """
    if unit == "kg":
        return amount
    if unit == "t":
        return amount * 1000
    if unit == "m3_stacked":
        if stack_density_kg_per_m3 is None:
            raise ValueError(
                "a stacked m3 has no fixed mass (0.35 to 0.5 t): weigh one and give stack_density_kg_per_m3, "
                "or enter the weight"
            )
        return amount * stack_density_kg_per_m3
    raise ValueError(f"firewood is entered in {', '.join(UNITS[EnergyType.FIREWOOD])}, not {unit!r}")


def wood_emissions(mass_kg: float, moisture: float | None, factors: FactorSet, on: date) -> FuelEmission:
    """Wood as weighed, in kg. The factor is per GJ, so the energy is that of wood of this moisture (MRR Art 30(2))."""
    use = _Used(factors, on)
    remarks: tuple[str, ...] = ()
    if moisture is None:
        moisture = use("firewood.moisture")
        remarks = (f"No moisture was entered: {moisture:.0%} is assumed.",)
    ncv = net_calorific_value_mj_per_kg(moisture, use("firewood.ncv_dry"), use("firewood.latent_heat"))
    energy_gj = mass_kg * ncv / 1000
    ch4_kg, n2o_kg = energy_gj * use("firewood.ch4") / 1000, energy_gj * use("firewood.n2o") / 1000
    return FuelEmission(
        EnergyType.FIREWOOD,
        mass_kg,
        "kg",
        energy_gj,
        biogenic_co2_kg=energy_gj * use("firewood.co2"),
        ch4_kg=ch4_kg,
        n2o_kg=n2o_kg,
        ch4_n2o_co2e_kg=ch4_kg * use("gwp.ch4") + n2o_kg * use("gwp.n2o"),
        formula="m (NCV_dry (1 - w) - r w) EF",
        factors=use.taken,
        u_co2_relative=use.spread("firewood.co2", "firewood.ncv_dry"),
        remarks=remarks,
    )


def diesel_emissions(litres: float, factors: FactorSet, on: date) -> FuelEmission:
    """Diesel in litres: volume, density, net calorific value and factor."""
    use = _Used(factors, on)
    energy_gj = litres * use("diesel.density") / 1000 * use("diesel.ncv")
    ch4_kg, n2o_kg = energy_gj * use("diesel.ch4") / 1000, energy_gj * use("diesel.n2o") / 1000
    return FuelEmission(
        EnergyType.DIESEL,
        litres,
        "litres",
        energy_gj,
        fossil_co2_kg=energy_gj * use("diesel.co2"),
        ch4_kg=ch4_kg,
        n2o_kg=n2o_kg,
        ch4_n2o_co2e_kg=ch4_kg * use("gwp.ch4") + n2o_kg * use("gwp.n2o"),
        formula="V rho NCV EF",
        factors=use.taken,
        u_co2_relative=use.spread("diesel.density", "diesel.ncv", "diesel.co2"),
    )


def grid_emissions(kwh: float, factors: FactorSet, on: date) -> FuelEmission:
    """Electricity from the grid in kWh, location-based (GHG Protocol Scope 2 Guidance)."""
    use = _Used(factors, on)
    return FuelEmission(
        EnergyType.ELECTRICITY,
        kwh,
        "kWh",
        kwh * 0.0036,
        grid_co2e_kg=kwh * use("grid.co2e"),
        formula="W EF",
        factors=use.taken,
        u_co2_relative=use.spread("grid.co2e"),
    )


def in_base_unit(entry: EnergyEntry) -> tuple[float, str]:
    """The amount in kg, litres or kWh. Raises :class:`ValueError` as :func:`wood_mass_kg` does."""
    if entry.energy_type is EnergyType.FIREWOOD:
        return wood_mass_kg(entry.amount, entry.unit, entry.stack_density_kg_per_m3), "kg"
    if entry.energy_type is EnergyType.DIESEL:
        return entry.amount, "litres"
    return entry.amount * (1000 if entry.unit == "MWh" else 1), "kWh"


def entry_emissions(entry: EnergyEntry, factors: FactorSet, share: float = 1.0) -> FuelEmission:
    """What an entry emits, or a share of it, with the factors of the local day on which its period begins.

    Raises :class:`~carbontrack.emissions.factors.FactorMissing`, and :class:`ValueError` for wood without a mass.
    """
    on = entry.period_start.astimezone(LOCAL).date()
    amount, unit = in_base_unit(entry)
    amount *= share
    if entry.energy_type is EnergyType.FIREWOOD:
        return wood_emissions(amount, entry.moisture, factors, on)
    if entry.energy_type is EnergyType.DIESEL:
        return diesel_emissions(amount, factors, on)
    if entry.energy_type is EnergyType.ELECTRICITY:
        return grid_emissions(amount, factors, on)
    return FuelEmission(
        entry.energy_type,
        amount,
        unit,
        amount * 0.0036,
        formula="0",
        remarks=("Made on site: its emission is that of the diesel that it took.",),
    )


def part_in_period(entry_start: datetime, entry_end: datetime, start: datetime, end: datetime) -> float:
    """Share of an entry's time that lies in [start, end): 0 to 1."""
    length = (entry_end - entry_start).total_seconds()
    inside = (min(entry_end, end) - max(entry_start, start)).total_seconds()
    return max(0.0, inside) / length if length > 0 else float(start <= entry_start < end)


# --- checking what people type ----------------------------------------------------------------------------------------


def check_entry(entry: EnergyEntry) -> list[tuple[str, str]]:
    """What is wrong with an entry, as pairs of field and what to do; empty when it can be taken."""
    problems: list[tuple[str, str]] = []
    if entry.unit not in UNITS[entry.energy_type]:
        units = ", ".join(UNITS[entry.energy_type])
        problems.append(
            ("unit", gettext("for %(energy)s it is one of %(units)s", energy=entry.energy_type, units=units))
        )
    if not (isfinite(entry.amount) and entry.amount > 0):
        problems.append(("amount", gettext("must be more than 0")))
    is_wood = entry.energy_type is EnergyType.FIREWOOD
    if entry.moisture is not None and not (is_wood and 0 <= entry.moisture <= MOST_MOISTURE):
        text = gettext("goes with firewood, as a share of its weight from 0 to %(most)s", most=MOST_MOISTURE)
        problems.append(("moisture", text))
    lowest, highest = STACK_DENSITY_KG_PER_M3
    density = entry.stack_density_kg_per_m3
    if entry.unit == "m3_stacked" and is_wood and density is None:
        text = gettext("is needed for stacked m3: weigh one, or enter the weight in kg")
        problems.append(("stack_density_kg_per_m3", text))
    elif density is not None and not (entry.unit == "m3_stacked" and lowest <= density <= highest):
        text = gettext(
            "goes with m3_stacked, from %(low)s to %(high)s kg/m3", low=decimal(lowest), high=decimal(highest)
        )
        problems.append(("stack_density_kg_per_m3", text))
    if not is_wood:
        problems += [(name, gettext("goes with firewood")) for name in WOOD_FIELDS if getattr(entry, name)]
        if entry.wood_origin is not WoodOrigin.UNKNOWN:
            problems.append(("wood_origin", gettext("goes with firewood")))
    elif entry.harvested_on is not None and entry.harvested_on > entry.period_end.date():
        problems.append(("harvested_on", gettext("lies after the wood was burned: is the year right?")))
    problems += check_period(entry.period_start, entry.period_end)
    return problems


def check_period(start: datetime, end: datetime) -> list[tuple[str, str]]:
    """What is wrong with an entry's period."""
    if not timedelta(0) < end - start <= LONGEST_PERIOD:
        text = gettext("must be after period_start, by %(count)s days at most", count=LONGEST_PERIOD.days)
        return [("period_end", text)]
    return []


def unusual(per_day: float, earlier_per_day: Sequence[float], unit: str) -> str | None:
    """A question about an amount that may be a ten-fold typing error; None when it is like the earlier ones.

    Amounts are per day, so that a week's entry can be compared with a day's.
    """
    if len(earlier_per_day) < USUAL_FROM:
        return None
    usual = median(earlier_per_day)
    if usual <= 0 or usual / UNUSUAL_TIMES < per_day < usual * UNUSUAL_TIMES:
        return None
    times = per_day / usual
    amounts = {"amount": decimal(per_day, 1), "usual": decimal(usual, 1), "unit": unit}
    if times > 1:
        return gettext(
            "%(amount)s %(unit)s a day is %(times)s times what is usual here (%(usual)s %(unit)s a day). Is it right?",
            times=decimal(times, 1),
            **amounts,
        )
    share = f"{times:.0%}"
    return gettext(
        "%(amount)s %(unit)s a day is only %(share)s of what is usual here (%(usual)s %(unit)s a day). Is it right?",
        share=share,
        **amounts,
    )


class _Used:
    """Looks factors up and remembers which were taken."""

    def __init__(self, factors: FactorSet, on: date) -> None:
        self._get: Callable[[str, date], Factor] = factors.get
        self._on = on
        self._taken: dict[str, Factor] = {}

    def __call__(self, name: str) -> float:
        row = self._taken[name] = self._get(name, self._on)
        return row.value

    @property
    def taken(self) -> tuple[Factor, ...]:
        return tuple(self._taken.values())

    def spread(self, *names: str) -> float:
        return sqrt(sum((self._taken[name].u_relative or 0.0) ** 2 for name in names))
