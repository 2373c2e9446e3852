"""What automatic checks say of a compliance report: what is missing, weak or expired, and how much that matters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from carbontrack.compliance import Check, Severity
from carbontrack.compliance_tables import FactoryPart, factors_used
from carbontrack.emissions.accounts import CorroborationStatus
from carbontrack.emissions.targets import LEAST_AVAILABILITY
from carbontrack.ledger import EnergyEntry, EnergyType, Sustainability

USUAL_AVAILABILITY = 0.9
"""Below this an approver should know (40 CFR 75.33 changes its substitution there)."""
NOT_OVER = Check("period_not_over", Severity.CRITICAL, "", "The period is not over yet.")


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
    bare = [it for it in part.entries if _is_wood(it) and not (it.supplier or it.plot)]
    if bare:
        text = f"{name}: {len(bare)} deliveries of firewood name neither supplier nor plot."
        yield check("biomass_origin", Severity.INFO, text)


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
    for factor in factors_used(part.account):
        if factor.valid_to is not None and factor.valid_to <= last:
            text = f"The factor {factor.name} was valid until {factor.valid_to}, and the period goes on after that."
            yield Check("factor_expired", Severity.CRITICAL, part.factory.slug, text)
