"""Gather a compliance report's data set: the accounts of its factories as tables, and what the automatic checks find.

Every table says in its first column which factory a row is of. Masses are in kg, times in UTC. What is not known is
None. There is no grand total: biogenic CO2, fossil CO2, CH4 + N2O and grid electricity stand beside each other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import fsum

from carbontrack.bookkeeping import Books, whole_hours
from carbontrack.compliance import Cell, Check, Column, ComplianceReport, ReportStatus, Severity, Table, frozen
from carbontrack.emissions.accounts import (
    FORMULA_VERSION,
    Account,
    CorroborationStatus,
    Figure,
    StackInput,
    intensity_u_relative,
)
from carbontrack.emissions.fuels import entry_emissions, part_in_period
from carbontrack.emissions.targets import LEAST_AVAILABILITY, METRIC_UNITS
from carbontrack.emissions.uncertainty import expanded, mrr_tier
from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    Factor,
    Method,
    ProductionEntry,
    Sustainability,
    Target,
    TargetStatus,
)
from carbontrack.model import Alert, Factory

LONGEST = timedelta(days=367)
HOURLY_UP_TO = 150_000
"""With more hours than this the table of hours is left out: a year of some 8 factories. The days are always there."""
USUAL_AVAILABILITY = 0.9
"""Below this an approver should know (40 CFR 75.33 changes its substitution there)."""
NOT_OVER = Check("period_not_over", Severity.CRITICAL, "", "The period is not over yet.")
GLOSSARY = (
    ("biogenic CO2", "From wood. A memo item, in no scope (GHG Protocol Corporate Standard, chapter 9)."),
    ("fossil CO2", "From diesel. Scope 1."),
    ("CH4 and N2O", "Of all fuel, as CO2e by the stated global warming potentials. Scope 1."),
    ("grid electricity", "As CO2e, location-based. Scope 2."),
    ("valid hour", "An hour that is known for at least 80 % of its time, and measured where the boiler ran."),
    ("substituted", "An hour in which the boiler ran and was not validly measured, with a value by the stated method."),
    ("availability", "Valid operating hours over operating hours (40 CFR 75.32, equation 8)."),
    ("U (k = 2)", "Expanded uncertainty: twice the standard uncertainty, which is u (k = 1)."),
    ("corroboration", "Measured over calculated CO2 of the stacks (Regulation (EU) 2018/2066, Article 46)."),
    (
        "zero-rated",
        "Biogenic CO2 of wood with evidence for the RED criteria (Regulation (EU) 2018/2066, Article 38(5)).",
    ),
)


@dataclass(frozen=True, slots=True)
class FactoryPart:
    """All that a report says of one factory."""

    factory: Factory
    account: Account
    stacks: tuple[StackInput, ...]
    entries: tuple[EnergyEntry, ...]
    production: tuple[ProductionEntry, ...]
    targets: tuple[tuple[Target, float | None, TargetStatus], ...]
    alerts: tuple[Alert, ...]
    """Those that were raised in the period."""
    days: tuple[tuple[Cell, ...], ...]
    """The rows of the table of days: they stay where the hours are let go."""
    hour_count: int

    def without_hours(self) -> FactoryPart:
        """The same without the hours of its stacks, which are most of what it takes."""
        return replace(self, stacks=tuple(replace(it, hours=()) for it in self.stacks))


async def gather(
    books: Books,
    factories: Sequence[Factory],
    start: datetime,
    end: datetime,
    *,
    title: str,
    software: str,
    now: datetime,
    progress: Callable[[int], None] = lambda _: None,
) -> ComplianceReport:
    """The report of some factories over the whole hours in [start, end), with the hash of its data set.

    ``progress`` is told how many factories are gathered.

    Raises :class:`ValueError` for a period that is too long or has no whole hour, and
    :class:`~carbontrack.emissions.factors.FactorMissing` where a factor is needed that is not there.
    """
    start, end = whole_hours(start, end)
    if end - start > LONGEST:
        raise ValueError(f"a report spans {LONGEST.days} days at most")
    if not factories:
        raise ValueError("a report has at least one factory")
    parts: list[FactoryPart] = []
    for count, factory in enumerate(factories, 1):
        parts.append(await _part(books, factory, start, end))
        if sum(part.hour_count for part in parts) > HOURLY_UP_TO:  # a network's year would not fit into memory
            parts = [part.without_hours() for part in parts]
        progress(count)
    return await asyncio.to_thread(
        assemble, parts, books, start, end, title=title, software=software, is_over=end <= now
    )


async def _part(books: Books, factory: Factory, start: datetime, end: datetime) -> FactoryPart:
    store = books.store
    found, inputs = await books.account_with_hours(factory, start, end)
    stacks = await store.stacks(factory.id)
    days = await asyncio.to_thread(_days_of, factory, inputs, books)
    return FactoryPart(
        factory,
        found,
        tuple(inputs),
        tuple(await books.entries(factory.id, stacks, start, end)),
        tuple(await store.production_entries(factory.id, start, end)),
        tuple(await books.targets_met(found)),
        tuple(await store.alerts_raised(factory.id, start, end)),
        days,
        sum(len(item.hours) for item in inputs),
    )


def assemble(
    parts: Sequence[FactoryPart],
    books: Books,
    start: datetime,
    end: datetime,
    *,
    title: str,
    software: str,
    is_over: bool = True,
) -> ComplianceReport:
    """The tables and checks of what was gathered."""
    hours = sum(part.hour_count for part in parts)
    tables = [
        _identity(parts),
        _emission_points(parts),
        _results(parts),
        _by_stack(parts),
        _by_fuel(parts, books),
        _intensities(parts),
        _production(parts),
        _quality(parts),
        _substitution(parts),
        _uncertainty(parts),
        _corroboration(parts),
        _biomass(parts),
        _targets(parts),
        _alerts(parts),
        _days(parts),
        *([_hours(parts)] if hours <= HOURLY_UP_TO else []),
        _factors(parts),
        _table("glossary", "Glossary", "term|Term; meaning|Meaning", GLOSSARY),
    ]
    return frozen(
        ComplianceReport(
            reference=ComplianceReport.DRAFT,
            title=title,
            status=ReportStatus.DRAFT,
            period_start=start,
            period_end=end,
            time_zone=str(books.zone),
            versions={"software": software, "formulas": FORMULA_VERSION, "factors": books.factors.version},
            tables=tuple(tables),
            checks=(*((NOT_OVER,) if not is_over else ()), *(check for part in parts for check in checks_of(part))),
        )
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(name: str, title: str, columns: str, rows: Iterable[Sequence[Cell]], note: str = "") -> Table:
    """A table whose columns are given as ``name|Title|unit; ...``."""
    specs = [spec.strip().split("|") for spec in columns.split(";")]
    return Table(name, title, tuple(Column(*spec) for spec in specs), tuple(tuple(row) for row in rows), note)


def _identity(parts: Sequence[FactoryPart]) -> Table:
    return _table(
        "identity",
        "Factories",
        "factory|Factory; name|Name; county|County; region|KTDA region; latitude|Latitude|deg; longitude|Longitude|deg;"
        " altitude|Altitude|m; pressure|Air pressure, where given|kPa",
        [
            (it.slug, it.name, it.county, it.region, it.latitude, it.longitude, it.altitude_m, it.pressure_kpa)
            for it in (part.factory for part in parts)
        ],
    )


def _emission_points(parts: Sequence[FactoryPart]) -> Table:
    columns = (
        "factory|Factory; stack|Chimney; shape|Shape; area|Inner area|m2; profile_factor|Profile factor;"
        " profile_source|Profile factor from; basis|Analyser's basis; h2o|Water assumed|mol/mol;"
        " co2_range|Analyser's range|ppm; dilution|Dilution ratio; validity|Validity policy;"
        " substitution|Substitution policy; fuels|Fuels; plan_since|Plan since|UTC; plans|Plans in all; note|Note"
    )
    rows = [
        (
            part.factory.slug, item.stack.name, item.plan.shape, item.plan.area_m2, item.plan.profile_factor,
            item.plan.profile_factor_source, item.plan.basis, item.plan.h2o_fraction, item.plan.co2_range_ppm,
            item.plan.dilution_ratio, item.plan.validity, item.plan.substitution, item.plan.fuels,
            _moment(item.plan.valid_from), len(item.stack.plans), item.plan.note,
        )
        for part in parts
        for item in part.stacks
    ]  # fmt: skip
    note = (
        "Operational control. Combustion in the factory's boilers and generators and its grid electricity are inside "
        "the boundary; vehicles, leaf growing and refrigerants are not. No analyser has a QAL1 certificate (EN 14181), "
        "and no measuring plane was qualified by EN 15259 unless its note says so."
    )
    return _table("emission_points", "Emission points and method", columns, rows, note)


FOUR: tuple[tuple[str, str, str, Callable[[Account], Figure]], ...] = (
    ("biogenic_co2", "Biogenic CO2", "memo item", lambda found: found.biogenic_co2),
    ("fossil_co2", "Fossil CO2", "scope 1", lambda found: found.fossil_co2),
    ("ch4_n2o_co2e", "CH4 and N2O, as CO2e", "scope 1", lambda found: found.ch4_n2o_co2e),
    ("grid_co2e", "Grid electricity, as CO2e", "scope 2, location-based", lambda found: found.grid_co2e),
)
"""The four numbers, in their order."""


def _results(parts: Sequence[FactoryPart]) -> Table:
    rows: list[Sequence[Cell]] = []
    for part in parts:
        figures = [("stack_co2", "CO2 of the chimneys", "measured", part.account.stack_co2)]
        figures += [(name, title, scope, take(part.account)) for name, title, scope, take in FOUR]
        rows += [
            (slug, name, title, scope, it.value_kg, it.expanded_relative, it.basis, it.formula, " ".join(it.remarks))
            for slug in (part.factory.slug,)
            for name, title, scope, it in figures
        ]
        rows += [
            (part.factory.slug, name, title, "part of biogenic", value, None, "calculated", "share of wood energy", "")
            for name, title, value in (
                ("zero_rated_co2", "of it zero-rated", part.account.zero_rated_co2_kg),
                ("not_zero_rated_co2", "of it not zero-rated", part.account.not_zero_rated_co2_kg),
            )
        ]
    columns = (
        "factory|Factory; figure|Name; title|What; scope|Scope; mass|Mass|kg; u_expanded|U (k = 2), relative;"
        " basis|Basis; formula|Formula; remarks|Remarks"
    )
    note = (
        "The figures do not add up to anything: they are of different kinds. stack_co2 is the sum of its two origins."
    )
    return _table("results", "Results", columns, rows, note)


def _by_stack(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, line.name, line.period.co2_kg, line.period.measured_kg, line.period.substituted_kg,
            line.uncertainty.expanded_relative if line.uncertainty else None,
        )
        for part in parts
        for line in part.account.stacks
    ]  # fmt: skip
    columns = (
        "factory|Factory; stack|Chimney; co2|CO2|kg; measured|Measured|kg; substituted|Substituted|kg;"
        " u_expanded|U (k = 2), relative"
    )
    return _table("results_by_stack", "CO2 by chimney", columns, rows)


def _by_fuel(parts: Sequence[FactoryPart], books: Books) -> Table:
    rows: list[Sequence[Cell]] = []
    for part in parts:
        for kind in EnergyType:
            found = [
                entry_emissions(entry, books.factors, share)
                for entry in part.entries
                if entry.energy_type is kind and not entry.withdrawn
                for share in (_share(entry, part.account),)
                if share
            ]
            if found:
                rows.append(
                    (
                        part.factory.slug, kind.value, fsum(it.amount for it in found), found[0].unit,
                        fsum(it.energy_gj for it in found), fsum(it.biogenic_co2_kg for it in found),
                        fsum(it.fossil_co2_kg for it in found), fsum(it.ch4_kg for it in found),
                        fsum(it.n2o_kg for it in found), fsum(it.grid_co2e_kg for it in found),
                    )
                )  # fmt: skip
    columns = (
        "factory|Factory; energy|Energy; amount|Amount; unit|Unit; energy_gj|Energy|GJ; biogenic_co2|Biogenic CO2|kg;"
        " fossil_co2|Fossil CO2|kg; ch4|CH4|kg; n2o|N2O|kg; grid_co2e|Grid, as CO2e|kg"
    )
    note = "From entries and meters. Where a meter and an entry are of the same time, the results take the meter alone."
    return _table("results_by_fuel", "Energy, and CO2 calculated from it", columns, rows, note)


def _intensities(parts: Sequence[FactoryPart]) -> Table:
    rows = []
    for part in parts:
        for metric, value in part.account.intensities.items():
            u_relative = intensity_u_relative(part.account, metric)
            rows.append(
                (part.factory.slug, metric.value, value, METRIC_UNITS[metric],
                 None if u_relative is None or value is None else expanded(u_relative) * value)
            )  # fmt: skip
    columns = "factory|Factory; metric|Metric; value|Value; unit|Unit; u_expanded|U (k = 2)"
    return _table("intensities", "Intensities", columns, rows)


def _production(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (it.factory.slug, it.account.green_leaf_kg, it.account.made_tea_kg, it.account.wood_kg, len(it.production))
        for it in parts
    ]
    columns = (
        "factory|Factory; green_leaf|Green leaf|kg; made_tea|Made tea|kg; wood|Firewood, as weighed|kg;"
        " entries|Entries of tea"
    )
    return _table("production", "Production", columns, rows)


def _quality(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, line.name, line.period.hours, line.period.operating_hours, line.period.valid_hours,
            line.period.not_operating_hours, line.period.substituted_hours, line.period.unknown_hours,
            line.period.availability, _ratio(line.period.substituted_kg, line.period.co2_kg),
            line.period.inflation_kg, line.period.longest_gap_h, line.period.late_share, line.runtime_h,
        )
        for part in parts
        for line in part.account.stacks
    ]  # fmt: skip
    columns = (
        "factory|Factory; stack|Chimney; hours|Hours of the period|h; operating|Operating|h; valid|Valid|h; off|Off|h;"
        " substituted|Substituted|h; unknown|Without a value|h; availability|Availability;"
        " substituted_share|Substituted, of the mass; inflation|Effect of substitution|kg;"
        " longest_outage|Longest outage|h; late_share|Readings that came late; runtime|Boiler's own meter|h"
    )
    return _table("data_quality", "Data quality", columns, rows)


def _substitution(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (part.factory.slug, line.name, method.value, hours, mass)
        for part in parts
        for line in part.account.stacks
        for method, (hours, mass) in sorted(line.period.by_method.items())
    ]
    columns = "factory|Factory; stack|Chimney; method|Method; hours|Hours|h; co2|CO2|kg"
    return _table("substitution", "How the hours came about", columns, rows)


def _uncertainty(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, line.name, budget.factor, budget.u_relative, budget.share_of_variance,
            mrr_tier(line.uncertainty.expanded_relative),
        )
        for part in parts
        for line in part.account.stacks
        if line.uncertainty
        for budget in line.uncertainty.lines
    ]  # fmt: skip
    columns = (
        "factory|Factory; stack|Chimney; factor|Factor; u|u (k = 1), relative;"
        " share|Share of the variance; tier|MRR tier that the chimney reaches"
    )
    note = "An empty tier means none: Regulation (EU) 2018/2066, Annex VIII, table 1 begins at 10 % (k = 2)."
    return _table("uncertainty", "Uncertainty budget of an hour", columns, rows, note)


def _corroboration(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (it.factory.slug, found.measured_kg, found.calculated_kg, found.ratio, *found.band, found.status.value)
        for it in parts
        for found in (it.account.corroboration,)
    ]
    columns = (
        "factory|Factory; measured|Measured|kg; calculated|From the fuel|kg; ratio|Measured over calculated;"
        " low|Agree from; high|Agree up to; status|Status"
    )
    return _table("corroboration", "Measurement against fuel", columns, rows)


def _biomass(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, entry.id, entry.version, _moment(entry.period_start), _moment(entry.period_end),
            entry.amount, entry.unit, entry.moisture, entry.stack_density_kg_per_m3, entry.sustainability.value,
            entry.evidence, entry.source.value, entry.author,
        )
        for part in parts
        for entry in part.entries
        if entry.energy_type is EnergyType.FIREWOOD and not entry.withdrawn
    ]  # fmt: skip
    columns = (
        "factory|Factory; entry|Entry; version|Version; from|From|UTC; until|Until|UTC; amount|Amount; unit|Unit;"
        " moisture|Water|kg/kg; density|Stacked density|kg/m3; sustainable|Evidence for the RED criteria;"
        " evidence|Delivery note; source|Source; author|Entered by"
    )
    note = "What has no evidence is not zero-rated."
    return _table("biomass", "Firewood and its evidence", columns, rows, note)


def _targets(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, target.metric.value, target.value, METRIC_UNITS[target.metric],
            target.valid_from.isoformat(), target.baseline_year, target.baseline_value, value, status.value,
        )
        for part in parts
        for target, value, status in part.targets
    ]  # fmt: skip
    columns = (
        "factory|Factory; metric|Metric; at_most|At most; unit|Unit; since|In force since; baseline_year|Baseline year;"
        " baseline|Baseline; value|Value; status|Status"
    )
    return _table("targets", "Targets", columns, rows)


def _alerts(parts: Sequence[FactoryPart]) -> Table:
    rows: list[Sequence[Cell]] = []
    for part in parts:
        counted = Counter((alert.rule, alert.severity) for alert in part.alerts)
        rows += [(part.factory.slug, rule, severity, count) for (rule, severity), count in sorted(counted.items())]
    return _table(
        "alerts",
        "Alerts that were raised in the period",
        "factory|Factory; rule|Rule; severity|Severity; count|How many",
        rows,
    )


def _days(parts: Sequence[FactoryPart]) -> Table:
    columns = "factory|Factory; stack|Chimney; day|Local day; co2|CO2|kg; measured|Of it measured|kg; hours|Hours|h"
    return _table("days", "Days", columns, (row for part in parts for row in part.days))


def _days_of(factory: Factory, stacks: Iterable[StackInput], books: Books) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = []
    for item in stacks:
        days: dict[date, list[tuple[bool, float | None]]] = {}
        for hour in item.hours:
            day = hour.hour.start.astimezone(books.zone).date()
            days.setdefault(day, []).append((hour.method is Method.MEASURED, hour.co2_kg))
        rows += [
            (
                factory.slug, item.stack.name, day.isoformat(),
                None if any(mass is None for _, mass in found) else fsum(mass or 0.0 for _, mass in found),
                fsum(mass or 0.0 for is_measured, mass in found if is_measured), len(found),
            )
            for day, found in days.items()
        ]  # fmt: skip
    return tuple(rows)


def _hours(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, item.stack.name, _moment(it.hour.start), it.hour.status.value, it.hour.cause.value,
            it.method.value, it.co2_kg, it.operating_fraction, it.hour.coverage, it.hour.mean_co2_fraction,
            it.hour.mean_flow_nm3_per_s, it.hour.mean_temperature_c, it.hour.version,
        )
        for part in parts
        for item in part.stacks
        for it in item.hours
    ]  # fmt: skip
    columns = (
        "factory|Factory; stack|Chimney; start|Hour from|UTC; status|Status; cause|Cause; method|Method; co2|CO2|kg;"
        " operating|Operating fraction; known|Known; co2_fraction|CO2 in the wet gas|mol/mol; flow|Wet gas|Nm3/s;"
        " temperature|Gas temperature|degC; version|Version"
    )
    return _table("hours", "Hours", columns, rows, "Nm3: at 273.15 K and 101.325 kPa.")


def _factors(parts: Sequence[FactoryPart]) -> Table:
    used = {(it.name, it.valid_from): it for part in parts for it in _used(part.account)}
    rows = [
        (
            it.name, it.value, it.unit, it.valid_from.isoformat(), it.valid_to.isoformat() if it.valid_to else None,
            it.u_relative, it.source, it.note,
        )
        for _, it in sorted(used.items())
    ]  # fmt: skip
    columns = (
        "name|Factor; value|Value; unit|Unit; from|Valid from; until|Valid until;"
        " u|u (k = 1), relative; source|Source; note|Note"
    )
    return _table("factors", "Factors that were used", columns, rows)


def _used(found: Account) -> tuple[Factor, ...]:
    return tuple(factor for _, _, _, take in FOUR for factor in take(found).factors)


def _share(entry: EnergyEntry, found: Account) -> float:
    return part_in_period(entry.period_start, entry.period_end, found.period_start, found.period_end)


def _ratio(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- checks -----------------------------------------------------------------------------------------------------------


def checks_of(part: FactoryPart) -> list[Check]:
    """What the automatic checks say of one factory, the worst first."""
    found = [*_entry_checks(part), *_measurement_checks(part), *_factor_checks(part)]
    order = list(Severity)
    return sorted(found, key=lambda check: order.index(check.severity))


def _entry_checks(part: FactoryPart) -> Iterable[Check]:
    name, found = part.factory.name, part.account

    def check(what: str, severity: Severity, text: str) -> Check:
        return Check(what, severity, part.factory.slug, text)

    if found.made_tea_kg is None:
        yield check("tea_missing", Severity.CRITICAL, f"{name}: no made tea is entered for the period.")
    if found.wood_kg is None:
        yield check("wood_missing", Severity.CRITICAL, f"{name}: no firewood is entered for the period.")
    if found.fossil_co2.value_kg is None:
        text = f"{name}: no diesel is entered. Enter 0 litres if none was burned."
        yield check("diesel_missing", Severity.WARNING, text)
    if found.grid_co2e.value_kg is None:
        yield check("electricity_missing", Severity.WARNING, f"{name}: no grid electricity is entered.")
    if found.corroboration.status is CorroborationStatus.OUTSIDE and found.corroboration.ratio is not None:
        share = f"{found.corroboration.ratio:.0%}"
        text = f"{name}: measured CO2 is {share} of what the fuel gives. Say why, or mend an entry."
        yield check("corroboration", Severity.WARNING, text)
    unknown = [it for it in part.entries if it.sustainability is Sustainability.UNKNOWN and _is_wood(it)]
    if unknown:
        text = f"{name}: {len(unknown)} deliveries of firewood have no evidence of their origin and are not zero-rated."
        yield check("biomass_evidence", Severity.INFO, text)


def _is_wood(entry: EnergyEntry) -> bool:
    return entry.energy_type is EnergyType.FIREWOOD and not entry.withdrawn


def _measurement_checks(part: FactoryPart) -> Iterable[Check]:
    slug, name = part.factory.slug, part.factory.name
    if not part.stacks:
        yield Check("no_stack", Severity.CRITICAL, slug, f"{name}: no chimney was monitored in the period.")
    for line in part.account.stacks:
        period, of = line.period, f"{name}, {line.name}"
        if period.co2_kg is None:
            text = f"{of}: {period.unknown_hours} hours in which it ran have no value at all."
            yield Check("hours_without_value", Severity.CRITICAL, slug, text)
        if period.availability is not None and period.availability < USUAL_AVAILABILITY:
            is_low = period.availability < LEAST_AVAILABILITY
            share, least = f"{period.availability:.0%}", f"{LEAST_AVAILABILITY:.0%}"
            text = f"{of}: {share} of the operating hours are valid; {least} are needed."
            yield Check("availability", Severity.CRITICAL if is_low else Severity.WARNING, slug, text)
        if period.must_notify:
            text = f"{of}: out of order for {period.longest_gap_h} hours in a row (MRR Article 45(1): five days)."
            yield Check("long_outage", Severity.WARNING, slug, text)
    for item in part.stacks:
        if item.plan.profile_factor_source == "assumed":
            text = f"{name}, {item.stack.name}: the velocity profile is assumed; a traverse (EN 15259) would say."
            yield Check("profile_assumed", Severity.INFO, slug, text)


def _factor_checks(part: FactoryPart) -> Iterable[Check]:
    last = (part.account.period_end - timedelta(microseconds=1)).date()
    for factor in _used(part.account):
        if factor.valid_to is not None and factor.valid_to <= last:
            text = f"The factor {factor.name} was valid until {factor.valid_to}, and the period goes on after that."
            yield Check("factor_expired", Severity.CRITICAL, part.factory.slug, text)
