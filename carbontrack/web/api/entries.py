"""Energy and tea, as people enter them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aiohttp import web
from pydantic import Field

from carbontrack.ledger import EnergyEntry, EnergyType, ProductionEntry
from carbontrack.model import Scope, User
from carbontrack.web.access import EVERYBODY, USER, WRITERS, may_see, origin, scope
from carbontrack.web.api.registry import factory_for
from carbontrack.web.contract import Tag, operation
from carbontrack.web.entries import (
    EnergyChange,
    EnergyInput,
    EnergyOut,
    ProductionChange,
    ProductionInput,
    ProductionOut,
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
from carbontrack.web.rest import WRONG, Id, Input, Page, Paged, Reason, path_id, zoned
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import gettext

LONGEST_LIST = timedelta(days=3660)
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


class EntryQuery(Paged):
    """``from`` and ``to`` bound the periods that are touched; without them, the last 31 days."""

    factory_id: Id | None = None
    since: datetime | None = Field(None, alias="from")
    until: datetime | None = Field(None, alias="to")
    cursor: str | None = Field(None, pattern=r"^\d{1,17}~\d{1,9}$")
    """Where the last answer ended: its `next`."""

    @property
    def after(self) -> tuple[datetime, int] | None:
        if self.cursor is None:
            return None
        start_us, entry_id = (int(part) for part in self.cursor.split("~"))
        return EPOCH + timedelta(microseconds=start_us), entry_id


class EnergyQuery(EntryQuery):
    energy_type: EnergyType | None = None


class Withdrawal(Input):
    reason: Reason


def _next(found: Sequence[EnergyEntry] | Sequence[ProductionEntry], query: EntryQuery) -> str | None:
    """The cursor of the page after this one; None where this is the last."""
    if len(found) < query.limit:
        return None
    return f"{(found[-1].period_start - EPOCH) // timedelta(microseconds=1)}~{found[-1].id}"


def _span(query: EntryQuery, services: Services) -> tuple[datetime, datetime]:
    until = zoned("to", query.until) if query.until else services.clock()
    since = zoned("from", query.since) if query.since else until - timedelta(days=31)
    if not timedelta(0) < until - since <= LONGEST_LIST:
        raise Problem(422, WRONG, (("to", "must be after from, and at most ten years later"),))
    return since, until


def visible(user: User, wanted: int | None) -> int | None:
    """The factory to read: never more than may be seen."""
    if wanted is not None and not may_see(user, wanted):
        raise Problem(404, gettext("There is no such factory for you."))
    return wanted if wanted is not None else scope(user)


# --- energy


async def _energy(request: web.Request) -> EnergyEntry:
    found = await request.app[SERVICES].store.energy_entry(path_id(request))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, gettext("There is no such entry for you."))
    return found


@operation(Tag.ENTRIES, EVERYBODY, problems=(404,))
async def energy_entries(request: web.Request, query: EnergyQuery) -> Page[EnergyOut]:
    """Energy entries that lie in a period, wholly or partly, newest first."""
    services, (since, until) = request.app[SERVICES], _span(query, request.app[SERVICES])
    only = visible(request[USER], query.factory_id)
    found = await services.store.energy_entries(
        only, since, until, energy_type=query.energy_type, after=query.after, limit=query.limit
    )
    return Page([show_energy(entry, services) for entry in found], _next(found, query))


async def _check_stack(entry: EnergyEntry, services: Services) -> None:
    if entry.stack_id is not None and entry.stack_id not in {
        stack.id for stack in await services.store.stacks(entry.factory_id)
    }:
        raise Problem(422, WRONG, (("stack_id", "is no stack of this factory"),))


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, status=201, problems=(404,))
async def add_energy_entry(request: web.Request, body: EnergyInput) -> EnergyOut:
    """Enter energy that was used.

    An amount that may be a ten-fold typing error is questioned: 422 with the type
    `urn:carbontrack:problem:unusual-amount`. If it is right, send it again with `confirmed`.
    """
    services = request.app[SERVICES]
    factory_id = factory_to_write(request[USER], body.factory_id)
    await factory_for(request, factory_id)
    entry = energy_entry(body, factory_id, services)
    await _check_stack(entry, services)
    if not body.confirmed and (question := await question_energy(entry, services)):
        raise questioned([("amount", question)])
    return show_energy(await services.store.add_energy_entry(entry, origin(request), services.clock()), services)


@operation(Tag.ENTRIES, EVERYBODY)
async def one_energy_entry(request: web.Request) -> EnergyOut:
    """One energy entry."""
    return show_energy(await _energy(request), request.app[SERVICES])


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, problems=(409,))
async def change_energy_entry(request: web.Request, body: EnergyChange) -> EnergyOut:
    """Replace an entry by its next version, in which what the body leaves out is as before.

    The version before stays in the history. An entry that was withdrawn is brought back.
    """
    services, before = request.app[SERVICES], await _energy(request)
    given = changed_input(EnergyInput, before, body)
    changed = replace(
        energy_entry(given, before.factory_id, services), id=before.id, version=body.version or before.version
    )
    await _check_stack(changed, services)
    if not given.confirmed and (question := await question_energy(changed, services, before)):
        raise questioned([("amount", question)])
    kept = await services.store.change_energy_entry(changed, origin(request), services.clock(), body.reason)
    return show_energy(kept, services)


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, problems=(409,))
async def withdraw_energy_entry(request: web.Request, query: Withdrawal) -> EnergyOut:
    """Take an entry out of the accounts; it stays in its history, and can be brought back by changing it."""
    services, before = request.app[SERVICES], await _energy(request)
    if before.withdrawn:
        return show_energy(before, services)
    gone = replace(before, withdrawn=True)
    kept = await services.store.change_energy_entry(gone, origin(request), services.clock(), query.reason)
    return show_energy(kept, services)


@operation(Tag.ENTRIES, EVERYBODY)
async def energy_entry_history(request: web.Request) -> Page[EnergyOut]:
    """Every version of an entry, oldest first: who, when and why."""
    services, entry = request.app[SERVICES], await _energy(request)
    return Page([show_energy(it, services) for it in await services.store.energy_entry_history(entry.id)])


# --- production


async def _production(request: web.Request) -> ProductionEntry:
    found = await request.app[SERVICES].store.production_entry(path_id(request))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, gettext("There is no such entry for you."))
    return found


@operation(Tag.ENTRIES, EVERYBODY, problems=(404,))
async def production_entries(request: web.Request, query: EntryQuery) -> Page[ProductionOut]:
    """Production entries that lie in a period, wholly or partly, newest first."""
    services, (since, until) = request.app[SERVICES], _span(query, request.app[SERVICES])
    only = visible(request[USER], query.factory_id)
    found = await services.store.production_entries(only, since, until, after=query.after, limit=query.limit)
    return Page([show_production(entry) for entry in found], _next(found, query))


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, status=201, problems=(404,))
async def add_production_entry(request: web.Request, body: ProductionInput) -> ProductionOut:
    """Enter green leaf and made tea. Unusual amounts are questioned, as for energy."""
    services = request.app[SERVICES]
    factory_id = factory_to_write(request[USER], body.factory_id)
    await factory_for(request, factory_id)
    entry = production_entry(body, factory_id, services)
    if not body.confirmed and (questions := await question_production(entry, services)):
        raise questioned(questions)
    return show_production(await services.store.add_production_entry(entry, origin(request), services.clock()))


@operation(Tag.ENTRIES, EVERYBODY)
async def one_production_entry(request: web.Request) -> ProductionOut:
    """One production entry."""
    return show_production(await _production(request))


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, problems=(409,))
async def change_production_entry(request: web.Request, body: ProductionChange) -> ProductionOut:
    """Replace an entry by its next version, as for energy."""
    services, before = request.app[SERVICES], await _production(request)
    given = changed_input(ProductionInput, before, body)
    changed = replace(
        production_entry(given, before.factory_id, services), id=before.id, version=body.version or before.version
    )
    if not given.confirmed and (questions := await question_production(changed, services, before)):
        raise questioned(questions)
    kept = await services.store.change_production_entry(changed, origin(request), services.clock(), body.reason)
    return show_production(kept)


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, problems=(409,))
async def withdraw_production_entry(request: web.Request, query: Withdrawal) -> ProductionOut:
    """Take an entry out of the accounts, as for energy."""
    services, before = request.app[SERVICES], await _production(request)
    if before.withdrawn:
        return show_production(before)
    gone = replace(before, withdrawn=True)
    kept = await services.store.change_production_entry(gone, origin(request), services.clock(), query.reason)
    return show_production(kept)


@operation(Tag.ENTRIES, EVERYBODY)
async def production_entry_history(request: web.Request) -> Page[ProductionOut]:
    """Every version of an entry, oldest first."""
    services, entry = request.app[SERVICES], await _production(request)
    return Page([show_production(it) for it in await services.store.production_entry_history(entry.id)])
