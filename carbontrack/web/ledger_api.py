"""The API of the accounting: entries, factors, targets, accounts, the leaderboard, and what was reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from typing import Any

from aiohttp import web
from pydantic import Field

from carbontrack.bookkeeping import month
from carbontrack.emissions.accounts import to_dict
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.targets import METRIC_UNITS
from carbontrack.ledger import EnergyEntry, Metric, ProductionEntry, Statement, Target, TargetStatus
from carbontrack.model import Factory, MonitoringPlan, Role, Stack, User
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, REGISTRY_ROLES, USER, allow, may_see, origin, scope
from carbontrack.web.entries import (
    EnergyInput,
    ProductionInput,
    changed_input,
    energy_entry,
    factory_to_write,
    production_entry,
    question_energy,
    question_production,
    questioned,
    show_energy,
    show_production,
)
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input, Reason, answer, read_body, read_object, read_query, results, zoned
from carbontrack.web.services import SERVICES, Services

WRITERS = frozenset({Role.HQ_MANAGER, Role.FACTORY_MANAGER, Role.FACTORY_CLERK})
"""Who enters energy and tea."""
REPORTERS = frozenset({Role.HQ_MANAGER, Role.FACTORY_MANAGER})
"""Who reports a period."""
HQ_ONLY = frozenset({Role.HQ_MANAGER})
LONGEST_LIST = timedelta(days=3660)
MOST_ENTRIES = 1000
LONGEST_REPORT = timedelta(days=367)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_get("/api/energy-entries/", energy_entries)
    router.add_post("/api/energy-entries/", add_energy_entry)
    router.add_get("/api/energy-entries/{id:\\d{1,9}}/", one_energy_entry)
    router.add_patch("/api/energy-entries/{id:\\d{1,9}}/", change_energy_entry)
    router.add_delete("/api/energy-entries/{id:\\d{1,9}}/", withdraw_energy_entry)
    router.add_get("/api/energy-entries/{id:\\d{1,9}}/history/", energy_entry_history)
    router.add_get("/api/production-entries/", production_entries)
    router.add_post("/api/production-entries/", add_production_entry)
    router.add_get("/api/production-entries/{id:\\d{1,9}}/", one_production_entry)
    router.add_patch("/api/production-entries/{id:\\d{1,9}}/", change_production_entry)
    router.add_delete("/api/production-entries/{id:\\d{1,9}}/", withdraw_production_entry)
    router.add_get("/api/production-entries/{id:\\d{1,9}}/history/", production_entry_history)
    router.add_get("/api/factors/", factors)
    router.add_get("/api/targets/", targets)
    router.add_post("/api/targets/", add_target)
    router.add_delete("/api/targets/{id:\\d{1,9}}/", withdraw_target)
    router.add_get("/api/factories/leaderboard/", leaderboard)
    router.add_get("/api/factories/{id:\\d{1,9}}/account/", factory_account)
    router.add_get("/api/compliance/", statements)
    router.add_post("/api/compliance/", report)
    router.add_get("/api/compliance/{id:\\d{1,9}}/", one_statement)
    router.add_get("/api/stacks/{id:\\d{1,9}}/plans/", plans)
    router.add_post("/api/stacks/{id:\\d{1,9}}/plans/", add_plan)


class ListQuery(Input):
    """``from`` and ``to`` bound the periods that are touched; without them, the last 31 days."""

    factory_id: Id | None = None
    since: datetime | None = Field(None, alias="from")
    until: datetime | None = Field(None, alias="to")
    limit: int = Field(MOST_ENTRIES, ge=1, le=MOST_ENTRIES)
    cursor: str | None = Field(None, pattern=r"^\d{1,17}~\d{1,9}$")
    """Where the last answer ended: when the last entry begins, in us since 1970, and its id."""

    @property
    def after(self) -> tuple[datetime, int] | None:
        if self.cursor is None:
            return None
        start_us, entry_id = (int(part) for part in self.cursor.split("~"))
        return EPOCH + timedelta(microseconds=start_us), entry_id


def _next(found: Sequence[EnergyEntry] | Sequence[ProductionEntry], query: ListQuery) -> str | None:
    """The cursor of the page after this one; None where this is the last."""
    if len(found) < query.limit:
        return None
    return f"{(found[-1].period_start - EPOCH) // timedelta(microseconds=1)}~{found[-1].id}"


def _span(query: ListQuery, services: Services) -> tuple[datetime, datetime]:
    until = zoned("to", query.until) if query.until else services.clock()
    since = zoned("from", query.since) if query.since else until - timedelta(days=31)
    if not timedelta(0) < until - since <= LONGEST_LIST:
        raise Problem(422, WRONG, (("to", "must be after from, and at most ten years later"),))
    return since, until


def _visible(user: User, wanted: int | None) -> int | None:
    """The factory to read: never more than may be seen."""
    if wanted is not None and not may_see(user, wanted):
        raise Problem(404, "There is no such factory for you.")
    return wanted if wanted is not None else scope(user)


async def factory_for(request: web.Request, factory_id: int) -> Factory:
    """A factory that the caller may see. Raises :class:`Problem` for any other."""
    for factory in await request.app[SERVICES].store.factories():
        if factory.id == factory_id and may_see(request[USER], factory.id):
            return factory
    raise Problem(404, "There is no such factory for you.")


# --- energy


async def _energy(request: web.Request) -> EnergyEntry:
    found = await request.app[SERVICES].store.energy_entry(int(request.match_info["id"]))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, "There is no such entry for you.")
    return found


@allow(EVERYBODY)
async def energy_entries(request: web.Request) -> web.StreamResponse:
    """Energy entries that lie in a period, wholly or partly, newest first."""
    services, query = request.app[SERVICES], read_query(request, ListQuery)
    since, until = _span(query, services)
    only = _visible(request[USER], query.factory_id)
    found = await services.store.energy_entries(only, since, until, after=query.after, limit=query.limit)
    return results([show_energy(entry, services) for entry in found], _next(found, query))


async def _check_stack(entry: EnergyEntry, services: Services) -> None:
    if entry.stack_id is not None and entry.stack_id not in {
        stack.id for stack in await services.store.stacks(entry.factory_id)
    }:
        raise Problem(422, WRONG, (("stack_id", "is no stack of this factory"),))


@allow(WRITERS)
async def add_energy_entry(request: web.Request) -> web.StreamResponse:
    """Enter energy that was used. An amount that may be a typing error is questioned."""
    services, user = request.app[SERVICES], request[USER]
    given = await read_body(request, EnergyInput)
    factory_id = factory_to_write(user, given.factory_id)
    await factory_for(request, factory_id)
    entry = energy_entry(given, factory_id, services)
    await _check_stack(entry, services)
    if not given.confirmed and (question := await question_energy(entry, services)):
        raise questioned([("amount", question)])
    kept = await services.store.add_energy_entry(entry, origin(request), services.clock())
    return answer(show_energy(kept, services), status=201)


@allow(EVERYBODY)
async def one_energy_entry(request: web.Request) -> web.StreamResponse:
    """One energy entry."""
    return answer(show_energy(await _energy(request), request.app[SERVICES]))


class Withdrawal(Input):
    reason: Reason


@allow(WRITERS)
async def change_energy_entry(request: web.Request) -> web.StreamResponse:
    """Replace an entry by its next version, in which what the body leaves out is as before.

    The version before stays in the history. An entry that was withdrawn is brought back.
    """
    services, before = request.app[SERVICES], await _energy(request)
    given, about = changed_input(EnergyInput, before, await read_object(request))
    changed = replace(
        energy_entry(given, before.factory_id, services), id=before.id, version=about.version or before.version
    )
    await _check_stack(changed, services)
    if not given.confirmed and (question := await question_energy(changed, services, before)):
        raise questioned([("amount", question)])
    kept = await services.store.change_energy_entry(changed, origin(request), services.clock(), about.reason)
    return answer(show_energy(kept, services))


@allow(WRITERS)
async def withdraw_energy_entry(request: web.Request) -> web.StreamResponse:
    """Take an entry out of the accounts; it stays in its history, and can be brought back by changing it."""
    services, before = request.app[SERVICES], await _energy(request)
    given = read_query(request, Withdrawal)
    if before.withdrawn:
        return answer(show_energy(before, services))
    gone = replace(before, withdrawn=True)
    kept = await services.store.change_energy_entry(gone, origin(request), services.clock(), given.reason)
    return answer(show_energy(kept, services))


@allow(EVERYBODY)
async def energy_entry_history(request: web.Request) -> web.StreamResponse:
    """Every version of an entry, oldest first: who, when and why."""
    services, entry = request.app[SERVICES], await _energy(request)
    return results([show_energy(it, services) for it in await services.store.energy_entry_history(entry.id)])


# --- production


async def _production(request: web.Request) -> ProductionEntry:
    found = await request.app[SERVICES].store.production_entry(int(request.match_info["id"]))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, "There is no such entry for you.")
    return found


@allow(EVERYBODY)
async def production_entries(request: web.Request) -> web.StreamResponse:
    """Production entries that lie in a period, wholly or partly, newest first."""
    services, query = request.app[SERVICES], read_query(request, ListQuery)
    since, until = _span(query, services)
    only = _visible(request[USER], query.factory_id)
    found = await services.store.production_entries(only, since, until, after=query.after, limit=query.limit)
    return results([show_production(entry) for entry in found], _next(found, query))


@allow(WRITERS)
async def add_production_entry(request: web.Request) -> web.StreamResponse:
    """Enter green leaf and made tea."""
    services, user = request.app[SERVICES], request[USER]
    given = await read_body(request, ProductionInput)
    factory_id = factory_to_write(user, given.factory_id)
    await factory_for(request, factory_id)
    entry = production_entry(given, factory_id, services)
    if not given.confirmed and (questions := await question_production(entry, services)):
        raise questioned(questions)
    kept = await services.store.add_production_entry(entry, origin(request), services.clock())
    return answer(show_production(kept), status=201)


@allow(EVERYBODY)
async def one_production_entry(request: web.Request) -> web.StreamResponse:
    """One production entry."""
    return answer(show_production(await _production(request)))


@allow(WRITERS)
async def change_production_entry(request: web.Request) -> web.StreamResponse:
    """As for energy entries."""
    services, before = request.app[SERVICES], await _production(request)
    given, about = changed_input(ProductionInput, before, await read_object(request))
    changed = replace(
        production_entry(given, before.factory_id, services), id=before.id, version=about.version or before.version
    )
    if not given.confirmed and (questions := await question_production(changed, services, before)):
        raise questioned(questions)
    kept = await services.store.change_production_entry(changed, origin(request), services.clock(), about.reason)
    return answer(show_production(kept))


@allow(WRITERS)
async def withdraw_production_entry(request: web.Request) -> web.StreamResponse:
    """As for energy entries."""
    services, before = request.app[SERVICES], await _production(request)
    given = read_query(request, Withdrawal)
    if before.withdrawn:
        return answer(show_production(before))
    gone = replace(before, withdrawn=True)
    kept = await services.store.change_production_entry(gone, origin(request), services.clock(), given.reason)
    return answer(show_production(kept))


@allow(EVERYBODY)
async def production_entry_history(request: web.Request) -> web.StreamResponse:
    """Every version of an entry, oldest first."""
    services, entry = request.app[SERVICES], await _production(request)
    return results([show_production(it) for it in await services.store.production_entry_history(entry.id)])


# --- factors and targets


@allow(EVERYBODY)
async def factors(request: web.Request) -> web.StreamResponse:
    """The emission factors in use, each with its source and the time for which it is valid."""
    return results([asdict(row) for row in request.app[SERVICES].books.factors.rows])


class NewTarget(Input):
    factory_id: Id
    metric: Metric
    value: float = Field(gt=0, allow_inf_nan=False)
    valid_from: date
    baseline_year: int | None = Field(None, ge=2000, le=2100)
    baseline_value: float | None = Field(None, gt=0, allow_inf_nan=False)


def _show_target(target: Target) -> dict[str, Any]:
    return asdict(target) | {"unit": METRIC_UNITS[target.metric]}


@allow(EVERYBODY)
async def targets(request: web.Request) -> web.StreamResponse:
    """The targets that the caller may see, the newest first."""
    found = await request.app[SERVICES].store.targets(scope(request[USER]))
    return results([_show_target(target) for target in found])


@allow(HQ_ONLY)
async def add_target(request: web.Request) -> web.StreamResponse:
    """Set a target: at most so much, from a day on."""
    services, given = request.app[SERVICES], await read_body(request, NewTarget)
    await factory_for(request, given.factory_id)
    target = Target(id=0, **given.model_dump())
    kept = await services.store.add_target(target, origin(request), services.clock())
    return answer(_show_target(kept), status=201)


@allow(HQ_ONLY)
async def withdraw_target(request: web.Request) -> web.StreamResponse:
    """Take a target back."""
    if not await request.app[SERVICES].store.withdraw_target(int(request.match_info["id"]), by=origin(request)):
        raise Problem(404, "There is no such target.")
    return web.Response(status=204)


# --- accounts


class PeriodQuery(Input):
    """Without ``from`` and ``to``: the local month so far, or the one that ``month`` (2026-03) names."""

    since: datetime | None = Field(None, alias="from")
    until: datetime | None = Field(None, alias="to")
    month: str | None = Field(None, pattern=r"^(19[789]|20\d|21\d)\d-(0[1-9]|1[0-2])$")


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


@allow(EVERYBODY)
async def factory_account(request: web.Request) -> web.StreamResponse:
    """The account of one factory: four numbers apart, each with its inputs, formula and factors."""
    services = request.app[SERVICES]
    factory = await factory_for(request, int(request.match_info["id"]))
    since, until = period_asked(read_query(request, PeriodQuery), services)
    try:
        found = await services.books.account(factory, since, until)
    except FactorMissing as error:
        raise Problem(409, str(error)) from None
    met = await services.books.targets_met(found)
    return answer(
        to_dict(found)
        | {"targets": [_show_target(target) | {"actual": value, "status": status} for target, value, status in met]}
    )


@allow(NETWORK_ROLES)
async def leaderboard(request: web.Request) -> web.StreamResponse:
    """Factories by a metric, with their uncertainty; without a rank where too little was measured."""
    services, query = request.app[SERVICES], read_query(request, LeaderboardQuery)
    since, until = period_asked(query, services)
    factories = [factory for factory in await services.store.factories() if factory.is_active]
    rows, figures, accounts = await services.books.leaderboard(factories, since, until, query.metric)
    unit = METRIC_UNITS[query.metric]
    return answer(
        {
            "results": [
                {
                    **{name: value for name, value in asdict(row).items() if name != "expanded"},
                    "uncertainty": row.expanded,
                    "unit": unit,
                    "corroboration": asdict(accounts[row.factory_id].corroboration),
                }
                for row in rows
            ],
            "next": None,
            "programme": asdict(figures),
            "period_start": since,
            "period_end": until,
            "metric": query.metric,
        }
    )


# --- what was reported


class NewStatement(Input):
    factory_id: Id
    period_start: datetime
    period_end: datetime
    reason: str = Field("", max_length=500)
    """Why a period that was reported already is corrected."""


def show_statement(statement: Statement, *, newest: bool) -> dict[str, Any]:
    """A statement as the contract names its fields: the stack's CO2, and the four numbers beside it."""
    figures = json.loads(statement.figures)
    met = {status for _, _, status in figures.get("targets", [])}
    return {
        "id": statement.id,
        "factory_id": statement.factory_id,
        "period_start": statement.period_start,
        "period_end": statement.period_end,
        "total_emissions_kg": figures["stack_co2"]["value_kg"],
        "biogenic_kg": figures["biogenic_co2"]["value_kg"],
        "fossil_kg": figures["fossil_co2"]["value_kg"],
        "ch4_n2o_co2e_kg": figures["ch4_n2o_co2e"]["value_kg"],
        "grid_co2e_kg": figures["grid_co2e"]["value_kg"],
        "target_met": _target_met(met),
        "availability": figures["availability"],
        "status": "reported" if newest else "superseded",
        "version": statement.version,
        "reason": statement.reason,
        "author": statement.author,
        "created_at": statement.created_at,
        "sha256": statement.sha256,
    }


def _target_met(statuses: set[str]) -> bool | None:
    if not statuses or TargetStatus.INSUFFICIENT_DATA in statuses:
        return None
    return TargetStatus.NOT_MET not in statuses


def _newest(statements: Sequence[Statement]) -> set[int]:
    """The ids of each period's newest version; they come with the newest first."""
    seen: set[tuple[int, datetime, datetime]] = set()
    ids = set()
    for statement in statements:
        key = statement.factory_id, statement.period_start, statement.period_end
        if key not in seen:
            seen.add(key)
            ids.add(statement.id)
    return ids


@allow(EVERYBODY)
async def statements(request: web.Request) -> web.StreamResponse:
    """Everything that was reported, the latest first; corrections stand beside what they correct."""
    found = await request.app[SERVICES].store.statements(scope(request[USER]))
    newest = _newest(found)
    return results([show_statement(it, newest=it.id in newest) for it in found])


@allow(REPORTERS)
async def report(request: web.Request) -> web.StreamResponse:
    """Report a period: its account is frozen. Reporting it again is a correction and needs a reason."""
    services, user = request.app[SERVICES], request[USER]
    given = await read_body(request, NewStatement)
    factory = await factory_for(request, factory_to_write(user, given.factory_id))
    start, end = zoned("period_start", given.period_start), zoned("period_end", given.period_end)
    if end - start > LONGEST_REPORT:
        raise Problem(422, WRONG, (("period_end", "must be a year after period_start at most"),))
    try:
        kept = await services.books.report(
            factory, start, end, by=origin(request), now=services.clock(), reason=given.reason
        )
    except FactorMissing as error:
        raise Problem(409, str(error)) from None
    except ValueError as error:
        if type(error) is not ValueError:
            raise  # a refusal of the store, which has its own answer
        raise Problem(422, WRONG, (("period_end", str(error)),)) from None
    return answer(show_statement(kept, newest=True), status=201)


@allow(EVERYBODY)
async def one_statement(request: web.Request) -> web.StreamResponse:
    """One statement with its whole account, and whether the data say something else by now."""
    services = request.app[SERVICES]
    found = await services.store.statement(int(request.match_info["id"]))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, "There is no such report for you.")
    factory = await factory_for(request, found.factory_id)
    newest = _newest(await services.store.statements(found.factory_id))
    return answer(
        show_statement(found, newest=found.id in newest)
        | {"account": json.loads(found.figures), "outdated": await services.books.is_outdated(found, factory)}
    )


# --- monitoring plans


async def _stack(request: web.Request) -> Stack:
    wanted = int(request.match_info["id"])
    for stack in await request.app[SERVICES].store.stacks(scope(request[USER])):
        if stack.id == wanted:
            return stack
    raise Problem(404, "There is no such stack for you.")


@allow(EVERYBODY)
async def plans(request: web.Request) -> web.StreamResponse:
    """All monitoring plans of a stack, oldest first."""
    return results([asdict(plan) for plan in (await _stack(request)).plans])


@allow(REGISTRY_ROLES)
async def add_plan(request: web.Request) -> web.StreamResponse:
    """Add a plan from a moment on, which may lie in the past: what was measured since is computed again.

    What the body leaves out is as in the plan before.
    """
    services, stack = request.app[SERVICES], await _stack(request)
    plan = plan_from(await read_object(request), stack)
    await services.store.add_plan(stack.id, plan, by=origin(request))
    await services.fleet.sync(await services.store.sites())
    return answer(asdict(plan), status=201)


def plan_from(raw: dict[str, Any], stack: Stack) -> MonitoringPlan:
    """A plan out of a request, on the ground of the one that it follows. Raises :class:`Problem` for wrong fields."""
    known = {name for name in MonitoringPlan.__slots__ if name != "area_m2"}
    if unknown := sorted(set(raw) - known):
        raise Problem(422, WRONG, tuple((name, "is no field of a plan") for name in unknown))
    try:
        valid_from = datetime.fromisoformat(str(raw.get("valid_from")))
    except ValueError:
        raise Problem(422, WRONG, (("valid_from", "is needed: from when on the plan is in force"),)) from None
    before = stack.plans[0]
    for plan in stack.plans:
        if plan.valid_from <= zoned("valid_from", valid_from):
            before = plan
    problems = [(name, problem) for name, value in raw.items() if (problem := _plan_problem(name, value, before))]
    if problems:
        raise Problem(422, WRONG, tuple(problems))
    try:
        return replace(before, **(raw | {"valid_from": valid_from.astimezone(UTC)}))
    except ValueError as error:
        raise Problem(422, WRONG, (("", str(error)),)) from None
    except OverflowError:
        raise Problem(422, WRONG, (("", "a length is too large to be one of a chimney"),)) from None


_CHOICES = {
    "shape": ("circular", "rectangular"),
    "basis": ("wet", "dry"),
    "velocity_method": ("anemometer", "pitot"),
    "profile_factor_source": ("assumed", "traverse"),
    "validity": ("share", "quadrant"),
    "substitution": ("mrr", "epa"),
}
_TEXTS = {"fuels", "note"}
_MAY_BE_NULL = {"diameter_m", "width_m", "length_m", "undisturbed_upstream_m", "undisturbed_downstream_m"}
_MAY_BE_NEGATIVE = {"calibration_offset_ppm"}


def _plan_problem(name: str, value: object, before: MonitoringPlan) -> str | None:
    """What is wrong with one field of a plan."""
    if name == "valid_from" or (value is None and name in _MAY_BE_NULL):
        return None
    if name in _CHOICES:
        return None if value in _CHOICES[name] else f"is one of {', '.join(_CHOICES[name])}"
    if name in _TEXTS:
        is_text = isinstance(value, str) and len(value) <= 200 and "\0" not in value
        return None if is_text else "is a text of up to 200 characters"
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return "is a number"
    if name == "h2o_fraction" and not 0 <= value < 1:
        return f"is a share of the volume, such as {before.h2o_fraction}"
    return "must not be negative" if value < 0 and name not in _MAY_BE_NEGATIVE else None
