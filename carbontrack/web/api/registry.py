"""Factories and stacks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from aiohttp import web

from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.model import Factory, Stack
from carbontrack.web.access import EVERYBODY, USER, may_see, scope
from carbontrack.web.api.plans import PlanOut
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Id, Output, Page, Paged, page_of, path_id
from carbontrack.web.services import SERVICES, Services


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/factories/", factories)
    app.router.add_get("/api/factories/{id:\\d{1,9}}/", factory)
    app.router.add_get("/api/stacks/", stacks)
    app.router.add_get("/api/stacks/{id:\\d{1,9}}/", stack)


class FactoryOut(Output):
    id: int
    name: str
    slug: str
    """The name in addresses of pages."""
    county: str
    region: str
    latitude: float | None
    """Degrees north."""
    longitude: float | None
    """Degrees east."""
    altitude_m: float
    """Height above sea level."""
    pressure_kpa: float
    """Mean absolute air pressure: as entered, else by ISO 2533 from the altitude."""
    is_active: bool

    @classmethod
    def of(cls, factory: Factory) -> FactoryOut:
        return cls(**asdict(factory) | {"pressure_kpa": site_pressure_kpa(factory)})


class FactoryQuery(Paged):
    sort: Literal["name", "-name", "id", "-id", "altitude_m", "-altitude_m"] = "name"
    region: str | None = None
    county: str | None = None
    is_active: bool | None = None


async def factory_for(request: web.Request, factory_id: int) -> Factory:
    """A factory that the caller may see. Raises :class:`Problem` for any other."""
    for item in await request.app[SERVICES].store.factories():
        if item.id == factory_id and may_see(request[USER], item.id):
            return item
    raise Problem(404, "There is no such factory for you.")


@operation(Tag.REGISTRY, EVERYBODY)
async def factories(request: web.Request, query: FactoryQuery) -> Page[FactoryOut]:
    """The factories that the caller may see."""
    found = [
        FactoryOut.of(it)
        for it in await request.app[SERVICES].store.factories()
        if may_see(request[USER], it.id)
        and query.region in {None, it.region}
        and query.county in {None, it.county}
        and query.is_active in {None, it.is_active}
    ]
    return page_of(found, query, query.sort)


@operation(Tag.REGISTRY, EVERYBODY)
async def factory(request: web.Request) -> FactoryOut:
    """One factory."""
    return FactoryOut.of(await factory_for(request, path_id(request)))


class StackOut(Output):
    id: int
    factory_id: int
    name: str
    plan: PlanOut
    """The monitoring plan that is in force."""

    @classmethod
    def of(cls, stack: Stack, services: Services) -> StackOut:
        plan = plan_in_force(stack.plans, services.clock().timestamp())
        return cls(id=stack.id, factory_id=stack.factory_id, name=stack.name, plan=PlanOut.model_validate(plan))


class StackQuery(Paged):
    sort: Literal["name", "-name", "id", "-id", "factory_id", "-factory_id"] = "name"
    factory_id: Id | None = None


async def stack_for(request: web.Request) -> Stack:
    """The stack of a path, if the caller may see it. Raises :class:`Problem` for any other."""
    wanted = path_id(request)
    for item in await request.app[SERVICES].store.stacks(scope(request[USER])):
        if item.id == wanted:
            return item
    raise Problem(404, "There is no such stack for you.")


@operation(Tag.REGISTRY, EVERYBODY)
async def stacks(request: web.Request, query: StackQuery) -> Page[StackOut]:
    """The stacks that the caller may see, each with the monitoring plan that is in force."""
    services = request.app[SERVICES]
    found = await services.store.stacks(scope(request[USER]))
    rows = [StackOut.of(it, services) for it in found if query.factory_id in {None, it.factory_id}]
    return page_of(rows, query, query.sort)


@operation(Tag.REGISTRY, EVERYBODY)
async def stack(request: web.Request) -> StackOut:
    """One stack."""
    return StackOut.of(await stack_for(request), request.app[SERVICES])
