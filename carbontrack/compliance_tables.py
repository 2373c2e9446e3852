"""The tables of a compliance report, out of what was gathered of each factory.

Every table says in its first column which factory a row is of. Masses are in kg, times in UTC. What is not known is
None. There is no grand total: biogenic CO2, fossil CO2, CH4 + N2O and grid electricity stand beside each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, tzinfo
from itertools import pairwise
from math import fsum

from carbontrack.compliance import Cell, Column, Table
from carbontrack.emissions.accounts import Account, Figure, StackInput, intensity_u_relative
from carbontrack.emissions.factors import FactorSet
from carbontrack.emissions.fuels import FuelEmission, entry_emissions, part_in_period
from carbontrack.emissions.targets import METRIC_UNITS
from carbontrack.emissions.uncertainty import expanded, mrr_tier
from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    Factor,
    Method,
    Metric,
    ProductionEntry,
    Statement,
    Target,
    TargetStatus,
)
from carbontrack.model import Alert, Factory

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


LOCATION, MARKET = "grid.co2e", "grid.co2e_market"
"""Names of factors: of the grid where the factory is, and of what it has contracted. ``grid.co2e_market:SLUG`` is that
of one factory."""


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
    causes: tuple[tuple[Cell, ...], ...] = ()
    """The rows of the table of hours by cause."""
    revised_hours: Mapping[str, int] = field(default_factory=dict)
    """By chimney: hours whose figures changed after they were over."""
    changes: tuple[tuple[EnergyEntry | ProductionEntry, ...], ...] = ()
    """Every version of those entries of the period that were changed or withdrawn."""
    statements: tuple[Statement, ...] = ()
    """What was reported of times within the period, every version, without its figures' text."""
    baseline: Mapping[Metric, tuple[float, str]] = field(default_factory=dict)
    """Each metric's own value to compare with, and where that is from."""
    plans_added: Mapping[tuple[int, datetime], tuple[str, datetime]] = field(default_factory=dict)
    """By chimney and first moment of a plan: who entered it, and when. Not of plans that came with their chimney."""
    market: Factor | None = None
    """The factor of the electricity contract, in kg CO2e/kWh (GHG Protocol Scope 2 Guidance, chapter 6)."""

    @property
    def market_co2e_kg(self) -> float | None:
        """Grid electricity by the contract's factor; None without one, or where the grid's own factor changed."""
        grid = self.account.grid_co2e
        locations = [it for it in grid.factors if it.name == LOCATION]
        if self.market is None or grid.value_kg is None or len(locations) != 1 or not locations[0].value:
            return None
        return grid.value_kg / locations[0].value * self.market.value

    def without_hours(self) -> FactoryPart:
        """The same without the hours of its stacks, which are most of what it takes."""
        return replace(self, stacks=tuple(replace(it, hours=()) for it in self.stacks))


def tables_of(
    parts: Sequence[FactoryPart],
    factors: FactorSet,
    medians: Mapping[Metric, tuple[float, int]],
    *,
    with_hours: bool,
) -> tuple[Table, ...]:
    """All tables, in their order. ``medians`` are the network's, each with how many factories have reported it."""
    burned = _burned(parts, factors)
    return (
        _identity(parts),
        _emission_points(parts),
        _source_streams(parts, burned),
        _results(parts),
        _by_stack(parts),
        _by_fuel(burned),
        _intensities(parts),
        _comparison(parts, medians),
        _production(parts),
        _quality(parts),
        _hours_by_cause(parts),
        _substitution(parts),
        _calibrations(parts),
        _uncertainty(parts),
        _corroboration(parts),
        _biomass(parts),
        _targets(parts),
        _alerts(parts),
        _corrections(parts),
        _days(parts),
        *([_hours(parts)] if with_hours else []),
        _factors(parts),
        _verification(),
        _table("glossary", "Glossary", "term|Term; meaning|Meaning", GLOSSARY),
    )


def _table(name: str, title: str, columns: str, rows: Iterable[Sequence[Cell]], note: str = "") -> Table:
    """A table whose columns are given as ``name|Title|unit; ...``."""
    specs = [spec.strip().split("|") for spec in columns.split(";")]
    return Table(name, title, tuple(Column(*spec) for spec in specs), tuple(tuple(row) for row in rows), note)


def _identity(parts: Sequence[FactoryPart]) -> Table:
    return _table(
        "identity",
        "Factories",
        "factory|Factory; name|Name; legal_entity|Legal entity; county|County; region|KTDA region;"
        " un_locode|UN/LOCODE; latitude|Latitude|deg; longitude|Longitude|deg;"
        " altitude|Altitude|m; pressure|Air pressure, where given|kPa",
        [
            (
                it.slug,
                it.name,
                it.legal_entity,
                it.county,
                it.region,
                it.un_locode,
                it.latitude,
                it.longitude,
                it.altitude_m,
                it.pressure_kpa,
            )
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


STREAMS: Mapping[EnergyType, tuple[str, str, str]] = {
    EnergyType.FIREWOOD: ("biogenic CO2 measured in the chimney; CH4 and N2O calculated", "boilers", "scope 1, memo"),
    EnergyType.DIESEL: ("fossil CO2, CH4 and N2O calculated", "generator, or the boiler that is named", "scope 1"),
    EnergyType.ELECTRICITY: ("CO2e calculated", "the grid's power stations", "scope 2"),
    EnergyType.GENSET_ELECTRICITY: ("none of its own: its diesel counts", "generator", "scope 1"),
}
"""How each source stream is determined, where it is burned, and its scope."""


Burned = Mapping[tuple[str, EnergyType], Sequence[FuelEmission]]
"""By factory and type of energy: what each entry emitted in the period."""


def _burned(parts: Sequence[FactoryPart], factors: FactorSet) -> Burned:
    found: dict[tuple[str, EnergyType], list[FuelEmission]] = {}
    for part in parts:
        for kind in EnergyType:
            for entry in part.entries:
                share = _share(entry, part.account)
                if entry.energy_type is kind and not entry.withdrawn and share:
                    found.setdefault((part.factory.slug, kind), []).append(entry_emissions(entry, factors, share))
    return found


def _source_streams(parts: Sequence[FactoryPart], burned: Burned) -> Table:
    rows: list[Sequence[Cell]] = []
    for part in parts:
        for kind, (how, where, scope) in STREAMS.items():
            found = [it for it in part.entries if it.energy_type is kind and not it.withdrawn]
            if found:
                sources = ", ".join(sorted({it.source.value for it in found}))
                emitted = burned.get((part.factory.slug, kind), ())
                used = ", ".join(sorted({factor.name for it in emitted for factor in it.factors}))
                rows.append((part.factory.slug, kind.value, scope, how, where, sources, len(found), used, None))
    columns = (
        "factory|Factory; stream|Source stream; scope|Scope; method|Method; burned_in|Burned in;"
        " amounts|Amounts are; entries|Entries; factors|Factors; tier|MRR tier"
    )
    note = "An empty tier means that none is claimed: amounts are as typed or metered, factors are published defaults."
    return _table("source_streams", "Source streams", columns, rows, note)


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
        if part.market is not None:
            formula, source = f"W EF ({part.market.name})", f"By contract: {part.market.source}"
            mass = part.market_co2e_kg
            rows.append(
                (part.factory.slug, "grid_co2e_market", "Grid electricity by contract, as CO2e",
                 "scope 2, market-based", mass, None, "calculated", formula, source)
            )  # fmt: skip
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


def _by_fuel(burned: Burned) -> Table:
    rows = [
        (
            slug, kind.value, fsum(it.amount for it in found), found[0].unit,
            fsum(it.energy_gj for it in found), fsum(it.biogenic_co2_kg for it in found),
            fsum(it.fossil_co2_kg for it in found), fsum(it.ch4_kg for it in found),
            fsum(it.n2o_kg for it in found), fsum(it.grid_co2e_kg for it in found),
        )
        for (slug, kind), found in burned.items()
    ]  # fmt: skip
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


def _comparison(parts: Sequence[FactoryPart], medians: Mapping[Metric, tuple[float, int]]) -> Table:
    rows = []
    for part in parts:
        for metric, value in part.account.intensities.items():
            baseline, baseline_from = part.baseline.get(metric, (None, ""))
            middle, count = medians.get(metric, (None, 0))
            change = value / baseline - 1 if value is not None and baseline else None
            rows.append(
                (part.factory.slug, metric.value, value, METRIC_UNITS[metric], baseline, baseline_from, change,
                 middle, count)
            )  # fmt: skip
    columns = (
        "factory|Factory; metric|Metric; value|Value; unit|Unit; baseline|Own baseline; baseline_from|Baseline from;"
        " change|Against the baseline, relative; median|Network median; reported_by|Reported by, factories"
    )
    note = (
        "The median is of what factories had reported of this very period when the data set was frozen, and of three at"
        " least. The baseline is that of the target where it names one, otherwise what was reported a year earlier."
    )
    return _table("comparison", "Against the own baseline and the network", columns, rows, note)


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


def _hours_by_cause(parts: Sequence[FactoryPart]) -> Table:
    columns = "factory|Factory; stack|Chimney; status|Status; cause|Cause; hours|Hours|h"
    note = "Status and cause of the hours themselves, before anything stands in for them (EN 17255-2 asks for causes)."
    return _table("hours_by_cause", "Hours by cause", columns, (row for part in parts for row in part.causes), note)


def causes_of(factory: Factory, stacks: Iterable[StackInput]) -> tuple[tuple[Cell, ...], ...]:
    """The rows of the table of hours by cause."""
    rows: list[tuple[Cell, ...]] = []
    for item in stacks:
        counted = Counter((it.hour.status.value, it.hour.cause.value) for it in item.hours)
        rows += [(factory.slug, item.stack.name, *what, count) for what, count in sorted(counted.items())]
    return tuple(rows)


def _substitution(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (part.factory.slug, line.name, method.value, hours, mass)
        for part in parts
        for line in part.account.stacks
        for method, (hours, mass) in sorted(line.period.by_method.items())
    ]
    columns = "factory|Factory; stack|Chimney; method|Method; hours|Hours|h; co2|CO2|kg"
    return _table("substitution", "How the hours came about", columns, rows)


def _calibrations(parts: Sequence[FactoryPart]) -> Table:
    rows = [
        (
            part.factory.slug, item.stack.name, None if plan.valid_from.year == 1 else _moment(plan.valid_from),
            plan.calibration_offset_ppm, plan.calibration_slope, plan.profile_factor, plan.profile_factor_source,
            plan.pitot_coefficient, added_by, None if added_at is None else _moment(added_at), plan.note,
        )
        for part in parts
        for item in part.stacks
        for plan, following in zip(item.stack.plans, [*item.stack.plans[1:], None], strict=True)
        if plan.valid_from < part.account.period_end
        and (following is None or following.valid_from > part.account.period_start)
        for added_by, added_at in (part.plans_added.get((item.stack.id, plan.valid_from), ("", None)),)
    ]  # fmt: skip
    columns = (
        "factory|Factory; stack|Chimney; from|In force from|UTC; offset|Calibration offset|ppm;"
        " slope|Calibration slope; profile_factor|Profile factor; profile_source|Profile factor from;"
        " pitot|Pitot coefficient; added_by|Entered by; added_at|Entered at|UTC; note|Note"
    )
    note = (
        "Each calibration or traverse is a monitoring plan with the function that it gave, in force from its day on. Of"
        " a check that changed nothing there is no record here, and none of drift; nor is it said who entered a plan"
        " that came with its chimney. Hours lost to calibration are under Hours by cause."
    )
    return _table("calibrations", "Calibrations and plans in force", columns, rows, note)


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
            entry.evidence, entry.wood_origin.value, entry.supplier, entry.species, entry.plot,
            entry.harvested_on.isoformat() if entry.harvested_on else None, entry.permit, entry.source.value,
            entry.author,
        )
        for part in parts
        for entry in part.entries
        if entry.energy_type is EnergyType.FIREWOOD and not entry.withdrawn
    ]  # fmt: skip
    columns = (
        "factory|Factory; entry|Entry; version|Version; from|From|UTC; until|Until|UTC; amount|Amount; unit|Unit;"
        " moisture|Water|kg/kg; density|Stacked density|kg/m3; sustainable|Evidence for the RED criteria;"
        " evidence|Delivery note; origin|Origin; supplier|Supplier; species|Species; plot|Plot; harvested|Cut on;"
        " permit|Permit; source|Source; author|Entered by"
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


def _corrections(parts: Sequence[FactoryPart]) -> Table:
    rows: list[Sequence[Cell]] = []
    for part in parts:
        slug = part.factory.slug
        for versions in part.changes:
            for before, after in pairwise(versions):
                rows.append(
                    (slug, _kind_of(after), after.id, after.version, _moment(after.period_start),
                     _moment(after.period_end), difference(before, after), after.author, _at(after.recorded_at),
                     after.reason)
                )  # fmt: skip
        rows += [
            (slug, "statement", it.id, it.version, _moment(it.period_start), _moment(it.period_end),
             "reported anew", it.author, _moment(it.created_at), it.reason)
            for it in part.statements
            if it.version > 1
        ]  # fmt: skip
        rows += [
            (slug, "hours", None, None, None, None, f"{stack}: {count} hours changed after they were over", "", None,
             "readings that came late, or another plan")
            for stack, count in part.revised_hours.items()
            if count
        ]  # fmt: skip
    columns = (
        "factory|Factory; kind|What; number|Number; version|Version; from|From|UTC; until|Until|UTC; change|Change;"
        " author|By; at|At|UTC; reason|Reason"
    )
    return _table("corrections", "Changes and corrections", columns, rows)


def _kind_of(entry: EnergyEntry | ProductionEntry) -> str:
    return entry.energy_type.value if isinstance(entry, EnergyEntry) else "production"


NOT_SAID = frozenset({"id", "version", "factory_id", "author", "recorded_at", "reason", "source"})
"""Of an entry: what says who changed it and not what."""


def difference(before: EnergyEntry | ProductionEntry, after: EnergyEntry | ProductionEntry) -> str:
    """What is different in the next version of an entry."""
    changed = []
    for it in fields(after):
        if it.name in NOT_SAID:
            continue
        old, new = getattr(before, it.name), getattr(after, it.name)
        if old != new:
            changed.append(f"{it.name}: {_said(old)} -> {_said(new)}")
    return "; ".join(changed) or "nothing"


def _said(value: object) -> str:
    if isinstance(value, datetime):
        return _moment(value)
    return "none" if value is None or value == "" else str(value)


def _at(moment: datetime | None) -> str | None:
    return None if moment is None else _moment(moment)


def _verification() -> Table:
    rows = [
        (it, "")
        for it in (
            "Verifier",
            "Accreditation",
            "Scope and level of assurance",
            "Opinion",
            "Place and date",
            "Signature",
        )
    ]
    note = "For a verifier to fill in. As it was made, the report is not verified."
    return _table("verification", "Verifier's statement", "item|Item; text|Text", rows, note)


def _days(parts: Sequence[FactoryPart]) -> Table:
    columns = "factory|Factory; stack|Chimney; day|Local day; co2|CO2|kg; measured|Of it measured|kg; hours|Hours|h"
    return _table("days", "Days", columns, (row for part in parts for row in part.days))


def days_of(factory: Factory, stacks: Iterable[StackInput], zone: tzinfo) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[Cell, ...]] = []
    for item in stacks:
        days: dict[date, list[tuple[bool, float | None]]] = {}
        for hour in item.hours:
            day = hour.hour.start.astimezone(zone).date()
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
    used = {(it.name, it.valid_from): it for part in parts for it in factors_used(part.account)}
    used |= {(it.name, it.valid_from): it for part in parts for it in (part.market,) if it is not None}
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


def factors_used(found: Account) -> tuple[Factor, ...]:
    return tuple(factor for _, _, _, take in FOUR for factor in take(found).factors)


def _share(entry: EnergyEntry, found: Account) -> float:
    return part_in_period(entry.period_start, entry.period_end, found.period_start, found.period_end)


def _ratio(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
