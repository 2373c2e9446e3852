"""A factory's account for a period: four numbers that are kept apart, with how each came about.

Biogenic CO2 is a memo item (GHG Protocol Corporate Standard, chapter 9; ISO 14064-1:2018, 5.2.4), fossil CO2 and CH4 +
N2O are scope 1, grid electricity is scope 2. There is no grand total: the four do not add up to anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import fsum, hypot
from statistics import fmean

import msgspec

from carbontrack.compliance import canonical
from carbontrack.emissions.combustion import StackLoss, stack_loss, wood_saved_share
from carbontrack.emissions.factors import FactorSet
from carbontrack.emissions.fuels import LOCAL, FuelEmission, entry_emissions, in_base_unit, part_in_period
from carbontrack.emissions.gas import wet_to_dry_fraction
from carbontrack.emissions.substitution import StackPeriod
from carbontrack.emissions.uncertainty import StackUncertainty, combine_sum, expanded
from carbontrack.ledger import (
    AccountHour,
    EnergyEntry,
    EnergyType,
    EntrySource,
    Factor,
    HourStatus,
    Metric,
    ProductionEntry,
    Sustainability,
)
from carbontrack.model import MonitoringPlan, Stack
from carbontrack.words import N_

FORMULA_VERSION = "ct-account-1"
CORROBORATION_BAND = (0.85, 1.15)
"""Measured over calculated CO2; outside of it somebody must look. A choice of the project."""
GOOD_EXCESS_AIR_CO2_DRY = 0.125
GOOD_STACK_TEMPERATURE_C = 180.0
"""What a well-fired wood boiler reaches: about 1.6 times the air it needs (judgement of the project)."""


@dataclass(frozen=True, slots=True)
class StackInput:
    """One stack with what was measured in the period. ``plan`` is the one in force at its end."""

    stack: Stack
    plan: MonitoringPlan
    hours: tuple[AccountHour, ...]
    period: StackPeriod
    uncertainty: StackUncertainty | None
    runtime_h: float | None = None
    """What a meter of the boiler's hours counted in the period; None without one."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with where it comes from. ``value_kg`` None: there is nothing to work it out from."""

    value_kg: float | None
    u_relative: float | None = None
    """Relative standard uncertainty (k = 1)."""
    basis: str = ""
    """``measured``, ``calculated`` or nothing."""
    formula: str = ""
    """How it is worked out."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """What went into the formula; units are in the names."""
    factors: tuple[Factor, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is missing or was assumed."""

    @property
    def expanded_relative(self) -> float | None:
        return None if self.u_relative is None else expanded(self.u_relative)


class CorroborationStatus(StrEnum):
    INSIDE = "inside"
    OUTSIDE = "outside"
    NO_FUEL = "no_fuel"
    NO_MEASUREMENT = "no_measurement"


@dataclass(frozen=True, slots=True)
class Corroboration:
    """Measured against calculated CO2 of the stacks (MRR Art 46)."""

    measured_kg: float | None
    calculated_kg: float | None
    ratio: float | None
    """Measured over calculated."""
    band: tuple[float, float]
    """Between which ratios the two agree."""
    status: CorroborationStatus


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What meters counted against what was typed for the same days, in the base unit of the energy."""

    energy_type: EnergyType
    unit: str
    metered: float
    """What meters counted."""
    typed_for_metered_time: float
    """What was typed for the days that meters counted."""
    counted: float
    """What the account uses."""

    @property
    def ratio(self) -> float | None:
        return self.typed_for_metered_time / self.metered if self.metered else None


@dataclass(frozen=True, slots=True)
class CombustionView:
    """How well one boiler burns, from its valid hours."""

    stack_id: int
    co2_dry: float
    """Mole fraction of CO2 in the dry gas."""
    temperature_c: float
    loss: StackLoss
    saving_share: float
    """Of the wood, if CO2 and temperature were those of a well-fired boiler; 0 where they are as good already."""


@dataclass(frozen=True, slots=True)
class StackLine:
    """One stack in the account."""

    stack_id: int
    name: str
    period: StackPeriod
    uncertainty: StackUncertainty | None
    combustion: CombustionView | None
    runtime_h: float | None = None
    """By the boiler's own meter, to be held against the operating hours of the measurement."""


@dataclass(frozen=True, slots=True)
class Account:
    """One factory over [period_start, period_end)."""

    factory_id: int
    period_start: datetime
    period_end: datetime
    stack_co2: Figure
    """All CO2 of the chimneys, measured and substituted: the sum of its biogenic and its fossil part."""
    biogenic_co2: Figure
    zero_rated_co2_kg: float | None
    """Of the biogenic CO2: wood with evidence for the RED criteria (MRR Art 38(5)), by its share of the energy."""
    not_zero_rated_co2_kg: float | None
    """The rest: counts as fossil in a view after EU ETS or CBAM."""
    fossil_co2: Figure
    ch4_n2o_co2e: Figure
    grid_co2e: Figure
    green_leaf_kg: float | None
    made_tea_kg: float | None
    wood_kg: float | None
    """As weighed."""
    intensities: Mapping[Metric, float | None]
    """Ratios of sums; None without made tea, or without the figure."""
    availability: float | None
    """Of all stacks together."""
    corroboration: Corroboration
    reconciliations: tuple[Reconciliation, ...]
    stacks: tuple[StackLine, ...]
    remarks: tuple[str, ...]
    factor_version: str
    formula_version: str = FORMULA_VERSION


def split_stack_co2(stack_kg: float, fossil_in_stack_kg: float) -> tuple[float, float]:
    """Biogenic and fossil part of what a stack emits: the fossil part is calculated, the rest is biogenic.

    MRR Art 43(4). The parts add up to the stack's mass; more fossil CO2 than the stack emits leaves nothing biogenic.
    """
    fossil = min(stack_kg, fossil_in_stack_kg)
    return stack_kg - fossil, fossil


def intensity(total: float | None, made_tea_kg: float | None) -> float | None:
    """Ratio of sums, per kg made tea; None without tea or without the total."""
    return total / made_tea_kg if total is not None and made_tea_kg else None


def corroborate(
    measured_kg: float | None, calculated_kg: float | None, band: tuple[float, float] = CORROBORATION_BAND
) -> Corroboration:
    """Measured over calculated, and whether that lies in the band."""
    if measured_kg is None:
        return Corroboration(None, calculated_kg, None, band, CorroborationStatus.NO_MEASUREMENT)
    if not calculated_kg:
        return Corroboration(measured_kg, calculated_kg, None, band, CorroborationStatus.NO_FUEL)
    ratio = measured_kg / calculated_kg
    inside = band[0] <= ratio <= band[1]
    status = CorroborationStatus.INSIDE if inside else CorroborationStatus.OUTSIDE
    return Corroboration(measured_kg, calculated_kg, ratio, band, status)


# --- the account ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """The part of an entry that counts in the period."""

    entry: EnergyEntry
    emission: FuelEmission
    period_start: datetime


def account(
    *,
    factory_id: int,
    period_start: datetime,
    period_end: datetime,
    stacks: Sequence[StackInput],
    entries: Sequence[EnergyEntry],
    production: Sequence[ProductionEntry],
    factors: FactorSet,
    band: tuple[float, float] = CORROBORATION_BAND,
) -> Account:
    """The account of one factory. Entries that lie partly in the period count by their share of the time.

    Raises :class:`~carbontrack.emissions.factors.FactorMissing` where a factor is needed that is not there.
    """
    live = [entry for entry in entries if not entry.withdrawn]
    lines, reconciliations = _counted(live, period_start, period_end, factors)
    measured = _stack_figure(stacks)
    wood = [line for line in lines if line.entry.energy_type is EnergyType.FIREWOOD]
    diesel = [line for line in lines if line.entry.energy_type is EnergyType.DIESEL]
    in_stack = [line for line in diesel if line.entry.stack_id is not None]
    biogenic = _biogenic(measured, wood, in_stack)
    zero_rated, not_zero_rated = _zero_rating(biogenic.value_kg, wood)
    fossil = _fuel_figure(diesel, lambda line: line.emission.fossil_co2_kg, "sum of V rho NCV EF")
    gases = _ch4_n2o(wood, diesel, biogenic, factors, period_start)
    grid = _fuel_figure(
        [line for line in lines if line.entry.energy_type is EnergyType.ELECTRICITY],
        lambda line: line.emission.grid_co2e_kg,
        "sum of W EF",
    )
    made_tea = produced(production, period_start, period_end, lambda entry: entry.made_tea_kg)
    wood_kg = fsum(line.emission.amount for line in wood) if wood else None
    # What is compared with the measurement is of the time that was monitored: a stack may have begun in mid-month.
    monitored = _monitored_from(stacks, period_start)
    monitored_tea = produced(production, monitored, period_end, lambda entry: entry.made_tea_kg)
    calculated = fsum(
        (line.emission.biogenic_co2_kg + line.emission.fossil_co2_kg) * _part_since(line, monitored, period_end)
        for line in (*wood, *in_stack)
    )
    fossil_co2e = None
    if fossil.value_kg is not None or gases.value_kg is not None:
        fossil_co2e = (fossil.value_kg or 0.0) + (gases.value_kg or 0.0)
    return Account(
        factory_id=factory_id,
        period_start=period_start,
        period_end=period_end,
        stack_co2=measured,
        biogenic_co2=biogenic,
        zero_rated_co2_kg=zero_rated,
        not_zero_rated_co2_kg=not_zero_rated,
        fossil_co2=fossil,
        ch4_n2o_co2e=gases,
        grid_co2e=grid,
        green_leaf_kg=produced(production, period_start, period_end, lambda entry: entry.green_leaf_kg),
        made_tea_kg=made_tea,
        wood_kg=wood_kg,
        intensities={
            Metric.STACK_CO2_PER_TEA: intensity(measured.value_kg, monitored_tea),
            Metric.FOSSIL_CO2E_PER_TEA: intensity(fossil_co2e, made_tea),
            Metric.GRID_CO2E_PER_TEA: intensity(grid.value_kg, made_tea),
            Metric.WOOD_PER_TEA: intensity(wood_kg, made_tea),
        },
        availability=_availability(stacks),
        corroboration=corroborate(measured.value_kg, calculated if wood else None, band),
        reconciliations=reconciliations,
        stacks=tuple(
            StackLine(
                item.stack.id, item.stack.name, item.period, item.uncertainty, combustion_view(item), item.runtime_h
            )
            for item in stacks
        ),
        remarks=_remarks(lines, stacks, made_tea),
        factor_version=factors.version,
    )


def _counted(
    entries: Sequence[EnergyEntry], start: datetime, end: datetime, factors: FactorSet
) -> tuple[list[_Line], tuple[Reconciliation, ...]]:
    """What counts: meters for the time that they cover, what people typed for the rest."""
    lines: list[_Line] = []
    reconciliations: list[Reconciliation] = []
    for energy_type in EnergyType:
        of_type = [entry for entry in entries if entry.energy_type is energy_type]
        metered = [entry for entry in of_type if entry.source is EntrySource.METER]
        counted, unit, overlap = 0.0, "", 0.0
        for entry in of_type:
            share = part_in_period(entry.period_start, entry.period_end, start, end)
            covered = 0.0
            if entry.source is EntrySource.TYPED:
                covered = _covered_share(entry, metered, start, end)
                overlap += in_base_unit(entry)[0] * covered
            if share > covered:
                line = _Line(entry, entry_emissions(entry, factors, share - covered), start)
                lines.append(line)
                counted, unit = counted + line.emission.amount, line.emission.unit
        if metered:
            amount = fsum(
                in_base_unit(entry)[0] * part_in_period(entry.period_start, entry.period_end, start, end)
                for entry in metered
            )
            reconciliations.append(Reconciliation(energy_type, unit, amount, overlap, counted))
    return lines, tuple(reconciliations)


def _covered_share(typed: EnergyEntry, metered: Sequence[EnergyEntry], start: datetime, end: datetime) -> float:
    """Share of a typed entry's time, within the period, for which there is a meter of the same stack or factory."""
    seconds = 0.0
    spans = sorted(
        (max(entry.period_start, typed.period_start, start), min(entry.period_end, typed.period_end, end))
        for entry in metered
        if typed.stack_id is None or entry.stack_id in {None, typed.stack_id}
    )
    reached = start
    for begin, until in spans:
        if until > max(begin, reached):
            seconds += (until - max(begin, reached)).total_seconds()
            reached = until
    return seconds / (typed.period_end - typed.period_start).total_seconds()


def _monitored_from(stacks: Sequence[StackInput], period_start: datetime) -> datetime:
    """When the first stack's monitoring began, within the period."""
    return min((item.hours[0].hour.start for item in stacks if item.hours), default=period_start)


def _part_since(line: _Line, monitored: datetime, period_end: datetime) -> float:
    """Of a line that counts in the period, the share of its time from a moment on."""
    entry, begin = line.entry, max(line.entry.period_start, line.period_start)
    inside = part_in_period(entry.period_start, entry.period_end, begin, period_end)
    return (
        part_in_period(entry.period_start, entry.period_end, max(begin, monitored), period_end) / inside
        if inside
        else 0.0
    )


def _stack_figure(stacks: Sequence[StackInput]) -> Figure:
    masses = [item.period.co2_kg for item in stacks]
    inputs = {item.stack.name: item.period.co2_kg for item in stacks if item.period.co2_kg is not None}
    if not stacks or None in masses:
        without = [item.stack.name for item in stacks if item.period.co2_kg is None]
        remark = f"Hours of {', '.join(without)} have no value." if without else "No stack is registered."
        return Figure(None, basis="measured", inputs=inputs, remarks=(remark,))
    terms = [(item.period.co2_kg or 0.0, item.uncertainty.u_relative if item.uncertainty else 0.0) for item in stacks]
    return Figure(
        fsum(mass for mass, _ in terms),
        combine_sum(terms),
        "measured",
        "sum of hours: mean(x Qn) rho_n 3600 s op",
        inputs,
        remarks=_substitution_remarks(stacks),
    )


def _substitution_remarks(stacks: Sequence[StackInput]) -> tuple[str, ...]:
    substituted = fsum(item.period.substituted_kg for item in stacks)
    if not substituted:
        return ()
    hours = sum(item.period.substituted_hours for item in stacks)
    inflation = fsum(item.period.inflation_kg for item in stacks)
    return (
        (
            f"{substituted:,.0f} kg of {hours} hours stand in for what was not measured; "
            f"that is {inflation:+,.0f} kg against the plain mean."
        ),
    )


def _biogenic(measured: Figure, wood: Sequence[_Line], in_stack: Sequence[_Line]) -> Figure:
    if measured.value_kg is not None:
        fossil_kg = fsum(line.emission.fossil_co2_kg for line in in_stack)
        biogenic_kg, _ = split_stack_co2(measured.value_kg, fossil_kg)
        return Figure(
            biogenic_kg,
            combine_sum([(measured.value_kg, measured.u_relative or 0.0), (-fossil_kg, 0.02)]) if biogenic_kg else None,
            "measured",
            "stack CO2 - fossil CO2 of fuel burned into the stacks",
            {"stack_co2_kg": measured.value_kg, "fossil_in_stacks_kg": fossil_kg},
            remarks=measured.remarks,
        )
    figure = _fuel_figure(wood, lambda line: line.emission.biogenic_co2_kg, "sum of m NCV EF")
    return replace(figure, remarks=(*measured.remarks, *figure.remarks))


def _fuel_figure(lines: Sequence[_Line], what: Callable[[_Line], float], formula: str) -> Figure:
    """The sum over entries; None without any, for "nobody entered anything" is not "nothing was burned"."""
    if not lines:
        return Figure(None, basis="calculated", formula=formula, remarks=("No entries.",))
    terms = [(what(line), line.emission.u_co2_relative) for line in lines]
    return Figure(
        fsum(mass for mass, _ in terms),
        combine_sum(terms, correlated=True),
        "calculated",
        formula,
        _amounts(lines),
        _factors(lines),
        tuple(dict.fromkeys(remark for line in lines for remark in line.emission.remarks)),
    )


def _amounts(lines: Sequence[_Line]) -> dict[str, float]:
    amounts: dict[str, list[float]] = {}
    for line in lines:
        amounts.setdefault(f"{line.entry.energy_type}_{line.emission.unit}", []).append(line.emission.amount)
        amounts.setdefault(f"{line.entry.energy_type}_gj", []).append(line.emission.energy_gj)
    return {name: fsum(values) for name, values in sorted(amounts.items())}


def _factors(lines: Sequence[_Line]) -> tuple[Factor, ...]:
    found = {(row.name, row.valid_from): row for line in lines for row in line.emission.factors}
    return tuple(found[key] for key in sorted(found))


def _zero_rating(biogenic_kg: float | None, wood: Sequence[_Line]) -> tuple[float | None, float | None]:
    """Biogenic CO2 with and without evidence, by the share of the wood's energy. Without entries there is none."""
    if biogenic_kg is None:
        return None, None
    energy = fsum(line.emission.energy_gj for line in wood)
    proven = fsum(line.emission.energy_gj for line in wood if line.entry.sustainability is Sustainability.YES)
    share = proven / energy if energy else 0.0
    return biogenic_kg * share, biogenic_kg * (1 - share)


def _ch4_n2o(
    wood: Sequence[_Line], diesel: Sequence[_Line], biogenic: Figure, factors: FactorSet, start: datetime
) -> Figure:
    """CH4 and N2O of all fuel; of the wood that the measured CO2 implies where none was entered."""
    lines = [*wood, *diesel]
    figure = _fuel_figure(lines, lambda line: line.emission.ch4_n2o_co2e_kg, "sum of E (EF_CH4 GWP + EF_N2O GWP)")
    u_relative = _gas_uncertainty(lines)
    if wood or biogenic.value_kg is None or biogenic.basis != "measured":
        return replace(figure, u_relative=u_relative)
    on = start.astimezone(LOCAL).date()
    names = ("firewood.co2", "firewood.ch4", "firewood.n2o", "gwp.ch4", "gwp.n2o")
    rows = {name: factors.get(name, on) for name in names}
    energy_gj = biogenic.value_kg / rows["firewood.co2"].value
    implied = (
        energy_gj
        / 1000
        * (rows["firewood.ch4"].value * rows["gwp.ch4"].value + rows["firewood.n2o"].value * rows["gwp.n2o"].value)
    )
    return Figure(
        implied + (figure.value_kg or 0.0),
        rows["firewood.ch4"].u_relative,
        "calculated",
        figure.formula,
        {**figure.inputs, "implied_firewood_gj": energy_gj},
        tuple({row.name: row for row in (*figure.factors, *rows.values())}.values()),
        ("No firewood was entered: its energy is worked out from the measured CO2.",),
    )


def _gas_uncertainty(lines: Sequence[_Line]) -> float | None:
    spreads = [row.u_relative or 0.0 for line in lines for row in line.emission.factors if row.name.endswith("ch4")]
    return max(spreads) if spreads else None


def produced(
    production: Sequence[ProductionEntry],
    start: datetime,
    end: datetime,
    what: Callable[[ProductionEntry], float | None],
) -> float | None:
    """Leaf or tea of a period, in kg, by each entry's share of the time; None without any entry of it."""
    shares = [
        (value, part_in_period(entry.period_start, entry.period_end, start, end))
        for entry in production
        if not entry.withdrawn and (value := what(entry)) is not None
    ]
    inside = [value * share for value, share in shares if share]
    return fsum(inside) if inside else None


def _availability(stacks: Sequence[StackInput]) -> float | None:
    """Valid over operating hours of all stacks together."""
    valid = sum(item.period.valid_hours for item in stacks)
    operating = sum(item.period.hours - item.period.not_operating_hours for item in stacks)
    return valid / operating if operating else None


def combustion_view(item: StackInput) -> CombustionView | None:
    """How well a boiler burns, from its valid hours; None where CO2 or temperature is not known."""
    valid = [
        (hour.hour.mean_co2_fraction, hour.hour.mean_temperature_c)
        for hour in item.hours
        if hour.hour.status is HourStatus.VALID
    ]
    known = [(co2, temperature) for co2, temperature in valid if co2 and temperature is not None]
    if not known:
        return None
    co2_dry = wet_to_dry_fraction(fmean(co2 for co2, _ in known), item.plan.h2o_fraction)
    temperature_c = fmean(temperature for _, temperature in known)
    try:
        now = stack_loss(co2_dry, temperature_c)
    except ValueError:  # more CO2 than wood can make: the analyser is wrong, and says nothing of the fire
        return None
    good = stack_loss(max(co2_dry, GOOD_EXCESS_AIR_CO2_DRY), min(temperature_c, GOOD_STACK_TEMPERATURE_C))
    return CombustionView(item.stack.id, co2_dry, temperature_c, now, wood_saved_share(now, good))


NO_DIESEL = N_("The generator made electricity, but no diesel was entered for it.")
NO_WOOD = N_("No firewood was entered: nothing corroborates the measurement, and no biomass is zero-rated.")
NO_TEA = N_("No made tea was entered: there are no intensities.")
OUT_OF_ORDER = N_("%(stack)s: %(days)s days out of order in a row (MRR Art 45(1): tell the authority).")
REMARKS = (NO_DIESEL, NO_WOOD, NO_TEA, OUT_OF_ORDER)
"""In an account they are in English, for it is hashed; pages tell them in the reader's language."""


def _remarks(lines: Sequence[_Line], stacks: Sequence[StackInput], made_tea: float | None) -> tuple[str, ...]:
    found = []
    types = {line.entry.energy_type for line in lines}
    if EnergyType.GENSET_ELECTRICITY in types and not any(
        line.entry.energy_type is EnergyType.DIESEL and line.entry.stack_id is None for line in lines
    ):
        found.append(NO_DIESEL)
    if EnergyType.FIREWOOD not in types:
        found.append(NO_WOOD)
    if made_tea is None:
        found.append(NO_TEA)
    found += [
        OUT_OF_ORDER % {"stack": item.stack.name, "days": timedelta(hours=item.period.longest_gap_h).days}
        for item in stacks
        if item.period.must_notify
    ]
    return tuple(found)


def intensity_u_relative(account: Account, metric: Metric) -> float | None:
    """Relative standard uncertainty of an intensity: that of its figures; made tea is weighed for sale (0.5 %)."""
    figures = {
        Metric.STACK_CO2_PER_TEA: (account.stack_co2,),
        Metric.STACK_CO2: (account.stack_co2,),
        Metric.FOSSIL_CO2E_PER_TEA: (account.fossil_co2, account.ch4_n2o_co2e),
        Metric.GRID_CO2E_PER_TEA: (account.grid_co2e,),
    }.get(metric, ())
    known = [figure for figure in figures if figure.value_kg is not None]
    if not known or any(figure.u_relative is None for figure in known):
        return None
    u_relative = combine_sum([(figure.value_kg or 0.0, figure.u_relative or 0.0) for figure in known])
    return hypot(u_relative, 0.0 if metric is Metric.STACK_CO2 else 0.005)


# --- as JSON ----------------------------------------------------------------------------------------------------------


def to_dict(account: Account) -> dict[str, object]:
    """The account as plain values."""
    plain: dict[str, object] = msgspec.to_builtins(account, str_keys=True)
    return plain


def canonical_json(values: Mapping[str, object]) -> str:
    """Plain values as JSON that is the same, byte for byte, for the same values: what is hashed and kept."""
    return canonical(values).decode()
