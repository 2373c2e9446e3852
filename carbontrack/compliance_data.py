"""Gather a compliance report's data set: its factories' accounts as tables, and what the automatic checks find."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo

from carbontrack.bookkeeping import Books, whole_hours
from carbontrack.compliance import ComplianceReport, ReportStatus, frozen
from carbontrack.compliance_checks import NOT_OVER, checks_of
from carbontrack.compliance_tables import MARKET, FactoryPart, causes_of, days_of, tables_of
from carbontrack.emissions.accounts import FORMULA_VERSION
from carbontrack.emissions.factors import FactorMissing
from carbontrack.ledger import Factor, Metric, Target
from carbontrack.model import AuditAction, Factory
from carbontrack.reported import Reported, medians, newest, together

LONGEST = timedelta(days=367)
MOST_PLANS = 1000
"""Of one factory: so many changes of plans, the newest, are looked up in the audit log."""
HOURLY_UP_TO = 150_000
"""With more hours than this the table of hours is left out: a year of some 8 factories. The days are always there."""


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
    network = await _medians(books, start, end)
    return await asyncio.to_thread(
        assemble, parts, books, start, end, network, title=title, software=software, is_over=end <= now
    )


async def _part(books: Books, factory: Factory, start: datetime, end: datetime) -> FactoryPart:
    store = books.store
    found, inputs = await books.account_with_hours(factory, start, end)
    stacks = await store.stacks(factory.id)
    days, causes = await asyncio.to_thread(lambda: (days_of(factory, inputs, books.zone), causes_of(factory, inputs)))
    targets = await books.targets_met(found)
    return FactoryPart(
        factory,
        found,
        tuple(inputs),
        tuple(await books.entries(factory.id, stacks, start, end)),
        tuple(await store.production_entries(factory.id, start, end)),
        tuple(targets),
        tuple(await store.alerts_raised(factory.id, start, end)),
        days,
        sum(len(item.hours) for item in inputs),
        causes,
        {item.stack.name: sum(it.hour.version > 1 for it in item.hours) for item in inputs},
        tuple(await store.changed_entries(factory.id, start, end)),
        tuple(replace(it, figures="") for it in await store.statements_within(start, end, factory.id)),
        await _baseline(books, factory, [target for target, *_ in targets], start, end),
        await _plans_added(books, factory),
        _market(books, factory, found.period_end),
    )


async def _baseline(
    books: Books, factory: Factory, targets: Sequence[Target], start: datetime, end: datetime
) -> dict[Metric, tuple[float, str]]:
    """What each metric is held against: the target's baseline, or what was reported of the same time a year before."""
    first, last = (_year_before(it, books.zone) for it in (start, end))
    earlier = newest(await books.store.statements_within(first, last, factory.id))
    months = together([Reported.of(it) for it in earlier], first, last)
    from_year = f"reported, from {first.astimezone(books.zone):%Y-%m-%d}"
    found = {metric: (value, from_year) for metric, value in months.items()}
    for target in targets:
        if target.baseline_value is not None:
            found[target.metric] = (target.baseline_value, f"target, {target.baseline_year or 'no year'}")
    return found


async def _plans_added(books: Books, factory: Factory) -> dict[tuple[int, datetime], tuple[str, datetime]]:
    """Who entered each plan, and when, as the audit log says."""
    events = await books.store.audit_events(factory_id=factory.id, action=AuditAction.PLAN_ADDED, limit=MOST_PLANS)
    return {
        (event.after["stack_id"], datetime.fromisoformat(event.after["valid_from"])): (event.actor, event.at)
        for event in events
        if event.after
    }


def _year_before(moment: datetime, zone: tzinfo) -> datetime:
    local = moment.astimezone(zone)
    day = local.replace(year=local.year - 1, day=min(local.day, 28) if local.month == 2 else local.day)  # 29 February
    return day.astimezone(UTC)


def _market(books: Books, factory: Factory, end: datetime) -> Factor | None:
    day = (end - timedelta(microseconds=1)).astimezone(books.zone).date()
    for name in (f"{MARKET}:{factory.slug}", MARKET):
        with suppress(FactorMissing):
            return books.factors.get(name, day)
    return None


async def _medians(books: Books, start: datetime, end: datetime) -> dict[Metric, tuple[float, int]]:
    """The network's medians of what was reported of exactly this time."""
    by_factory: dict[int, list[Reported]] = {}
    for it in newest(await books.store.statements_within(start, end)):
        by_factory.setdefault(it.factory_id, []).append(Reported.of(it))
    return medians(together(them, start, end) for them in by_factory.values())


def assemble(
    parts: Sequence[FactoryPart],
    books: Books,
    start: datetime,
    end: datetime,
    network: Mapping[Metric, tuple[float, int]],
    *,
    title: str,
    software: str,
    is_over: bool = True,
) -> ComplianceReport:
    """The tables and checks of what was gathered."""
    hours = sum(part.hour_count for part in parts)
    tables = tables_of(parts, books.factors, network, with_hours=hours <= HOURLY_UP_TO)
    return frozen(
        ComplianceReport(
            reference=ComplianceReport.DRAFT,
            title=title,
            status=ReportStatus.DRAFT,
            period_start=start,
            period_end=end,
            time_zone=str(books.zone),
            versions={"software": software, "formulas": FORMULA_VERSION, "factors": books.factors.version},
            tables=tables,
            checks=(*((NOT_OVER,) if not is_over else ()), *(check for part in parts for check in checks_of(part))),
        )
    )
