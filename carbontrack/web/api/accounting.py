"""Factors, targets, accounts and the leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.bookkeeping import month
from carbontrack.emissions.accounts import Account, Corroboration, Figure, Reconciliation, StackLine
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.targets import METRIC_UNITS, LeaderboardRow, Programme
from carbontrack.ledger import Metric, Target, TargetStatus
from carbontrack.web.access import EVERYBODY, HQ_ONLY, NETWORK_ROLES, USER, origin, scope
from carbontrack.web.api.registry import factory_for
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input, Output, Page, Paged, page_of, path_id, zoned
from carbontrack.web.services import SERVICES, Services


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_get("/api/factors/", factors)
    router.add_get("/api/targets/", targets)
    router.add_post("/api/targets/", add_target)
    router.add_delete("/api/targets/{id:\\d{1,9}}/", withdraw_target)
    router.add_get("/api/factories/leaderboard/", leaderboard)
    router.add_get("/api/factories/{id:\\d{1,9}}/account/", factory_account)


# --- factors and targets


class FactorOut(Output):
    name: str
    """What it is of, such as `firewood.co2`."""
    value: float
    """In its `unit`."""
    unit: str
    source: str
    """Where it is published."""
    valid_from: date
    """The first day for which it is valid."""
    valid_to: date | None
    """Null: until further notice."""
    version: str
    u_relative: float | None
    """Relative standard uncertainty (k = 1), where the source gives one."""
    note: str


@operation(Tag.ACCOUNTS, EVERYBODY)
async def factors(request: web.Request) -> Page[FactorOut]:
    """The emission factors in use, each with its source and the time for which it is valid."""
    return Page([FactorOut.model_validate(row) for row in request.app[SERVICES].books.factors.rows])


class NewTarget(Input):
    factory_id: Id
    metric: Metric
    value: float = Field(gt=0, le=1e15, examples=[3.8])
    """At most so much, in the metric's own unit."""
    valid_from: date
    """The first day for which it counts."""
    baseline_year: int | None = Field(None, ge=2000, le=2100)
    """The year that it is compared with."""
    baseline_value: float | None = Field(None, gt=0, le=1e15)
    """What the metric was in that year."""


class TargetOut(Output):
    id: int
    factory_id: int
    metric: Metric
    value: float
    """At most so much, in `unit`."""
    unit: str
    valid_from: date
    """The first day for which it counts."""
    baseline_year: int | None
    """The year that it is compared with."""
    baseline_value: float | None
    """What the metric was in that year, in `unit`."""
    author: str
    recorded_at: datetime | None
    withdrawn: bool
    """Whether it was taken back."""

    @classmethod
    def of(cls, target: Target) -> TargetOut:
        return cls(**asdict(target), unit=METRIC_UNITS[target.metric])


class TargetQuery(Paged):
    sort: Literal["valid_from", "-valid_from", "id", "-id"] = "-valid_from"
    factory_id: Id | None = None
    metric: Metric | None = None


@operation(Tag.ACCOUNTS, EVERYBODY)
async def targets(request: web.Request, query: TargetQuery) -> Page[TargetOut]:
    """The targets that the caller may see."""
    found = await request.app[SERVICES].store.targets(scope(request[USER]))
    rows = [
        TargetOut.of(target)
        for target in found
        if query.factory_id in {None, target.factory_id} and query.metric in {None, target.metric}
    ]
    return page_of(rows, query, query.sort)


@operation(Tag.ACCOUNTS, HQ_ONLY, status=201, problems=(404,))
async def add_target(request: web.Request, body: NewTarget) -> TargetOut:
    """Set a target: at most so much, from a day on."""
    services = request.app[SERVICES]
    await factory_for(request, body.factory_id)
    target = Target(id=0, **body.model_dump())
    return TargetOut.of(await services.store.add_target(target, origin(request), services.clock()))


@operation(Tag.ACCOUNTS, HQ_ONLY)
async def withdraw_target(request: web.Request) -> None:
    """Take a target back."""
    if not await request.app[SERVICES].store.withdraw_target(path_id(request), by=origin(request)):
        raise Problem(404, "There is no such target.")


# --- accounts


class PeriodQuery(Input):
    """Without ``from`` and ``to``: the local month so far, or the one that ``month`` (2026-03) names."""

    since: datetime | None = Field(None, alias="from")
    until: datetime | None = Field(None, alias="to")
    month: str | None = Field(None, pattern=r"^(19[789]\d|20\d\d|21\d\d)-(0[1-9]|1[0-2])$", examples=["2026-03"])


class LeaderboardQuery(PeriodQuery):
    metric: Metric = Metric.STACK_CO2_PER_TEA


def period_asked(query: PeriodQuery, services: Services) -> tuple[datetime, datetime]:
    """The period that a query asks for, up to now. Raises :class:`Problem` for one that cannot be."""
    now = services.clock()
    if query.since is None and query.until is None:
        day = date.fromisoformat(f"{query.month}-01") if query.month else now.astimezone(services.time_zone).date()
        since, until = month(day, services.time_zone)
    else:
        since = zoned("from", query.since) if query.since else now - timedelta(days=30)
        until = zoned("to", query.until) if query.until else now
    until = min(until, now)
    if not timedelta(hours=1) <= until - since <= timedelta(days=366):
        raise Problem(422, WRONG, (("to", "must be an hour to a year after from, and not in the future"),))
    return since, until


class TargetMet(TargetOut):
    actual: float | None
    """What the metric is, in `unit`; null where it cannot be told."""
    status: TargetStatus


class AccountOut(Output):
    """The account of one factory over a period: four numbers apart, each with how it came about."""

    factory_id: int
    period_start: datetime
    period_end: datetime
    stack_co2: Figure
    biogenic_co2: Figure
    zero_rated_co2_kg: float | None
    not_zero_rated_co2_kg: float | None
    fossil_co2: Figure
    ch4_n2o_co2e: Figure
    grid_co2e: Figure
    green_leaf_kg: float | None
    made_tea_kg: float | None
    wood_kg: float | None
    intensities: Mapping[Metric, float | None]
    """By metric, in its own unit; null where there is no tea or no number."""
    availability: float | None
    """Valid over operating hours, 0 to 1; null where nothing operated."""
    corroboration: Corroboration
    reconciliations: tuple[Reconciliation, ...]
    stacks: tuple[StackLine, ...]
    remarks: tuple[str, ...]
    """What is missing or doubtful, in words."""
    factor_version: str
    """Of the set of factors that was used."""
    formula_version: str
    """Of the way it is worked out."""
    targets: list[TargetMet]

    @classmethod
    def of(cls, account: Account, met: list[TargetMet]) -> AccountOut:
        values = {name: getattr(account, name) for name in cls.model_fields if name != "targets"}
        return cls(**values, targets=met)


@operation(Tag.ACCOUNTS, EVERYBODY, problems=(409,))
async def factory_account(request: web.Request, query: PeriodQuery) -> AccountOut:
    """The account of one factory: four numbers apart, each with its inputs, formula and factors.

    409: a factor is missing for a part of the period.
    """
    services = request.app[SERVICES]
    factory = await factory_for(request, path_id(request))
    since, until = period_asked(query, services)
    try:
        found = await services.books.account(factory, since, until)
    except FactorMissing as error:
        raise Problem(409, str(error)) from None
    met = [
        TargetMet(**dict(TargetOut.of(target)), actual=value, status=status)
        for target, value, status in await services.books.targets_met(found)
    ]
    return AccountOut.of(found, met)


class Rank(Output):
    rank: int | None
    """Null: withheld, and `reason_unranked` says why."""
    factory_id: int
    name: str
    value: float | None
    """The metric, in `unit`."""
    unit: str
    uncertainty: float | None
    """Expanded (k = 2), in the value's unit."""
    availability: float | None
    """Valid over operating hours, 0 to 1."""
    trend: float | None
    """Change against the factory's own period before: -0.1 is 10 % less."""
    tied: bool
    """Whether the uncertainty allows no difference to the one before."""
    reason_unranked: str
    """Empty where there is a rank."""
    corroboration: Corroboration

    @classmethod
    def of(cls, row: LeaderboardRow, unit: str, account: Account) -> Rank:
        values = asdict(row)
        return cls(**values, uncertainty=row.expanded, unit=unit, corroboration=account.corroboration)


class Leaderboard(Output):
    results: list[Rank]
    next: None = None
    programme: Programme
    """How the whole network does."""
    period_start: datetime
    period_end: datetime
    metric: Metric


@operation(Tag.ACCOUNTS, NETWORK_ROLES, problems=(409,))
async def leaderboard(request: web.Request, query: LeaderboardQuery) -> Leaderboard:
    """Factories by a metric, with their uncertainty; without a rank where too little was measured.

    The figures of a period that is not over go up to `period_end`; they are worked out anew every five minutes while
    somebody asks.
    """
    services = request.app[SERVICES]
    since, until = period_asked(query, services)
    active = [factory for factory in await services.store.factories() if factory.is_active]
    rows, figures, accounts = await services.books.leaderboard(active, since, until, query.metric)
    unit = METRIC_UNITS[query.metric]
    return Leaderboard(
        results=[Rank.of(row, unit, accounts[row.factory_id]) for row in rows],
        programme=figures,
        period_start=since,
        period_end=max((found.period_end for found in accounts.values()), default=until),
        metric=query.metric,
    )
