"""Factories and stacks."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, StringConstraints, model_validator

from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.model import Factory, MonitoringPlan, Scope, Stack, slug_of
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, USER, may_see, origin, scope
from carbontrack.web.api.plans import PlanInput, PlanOut, planned
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Id, Input, Output, Page, Paged, Shown, page_of, path_id, zoned
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import gettext


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/factories/", factories)
    app.router.add_post("/api/factories/", add_factory)
    app.router.add_get("/api/factories/{id:\\d{1,9}}/", factory)
    app.router.add_patch("/api/factories/{id:\\d{1,9}}/", change_factory)
    app.router.add_delete("/api/factories/{id:\\d{1,9}}/", remove_factory)
    app.router.add_get("/api/stacks/", stacks)
    app.router.add_post("/api/stacks/", add_stack)
    app.router.add_get("/api/stacks/{id:\\d{1,9}}/", stack)
    app.router.add_patch("/api/stacks/{id:\\d{1,9}}/", change_stack)
    app.router.add_delete("/api/stacks/{id:\\d{1,9}}/", remove_stack)


Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), Shown]
StackName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80), Shown]


async def registry_changed(services: Services) -> None:
    """The actors follow at once; other processes find the change by its revision."""
    services.registry_changed()
    await services.fleet.sync(await services.store.sites())


LOCODE = "^([A-Z]{2}[A-Z2-9]{3})?$"
"""UN/LOCODE: the country by ISO 3166-1, and three signs for the place. Empty where there is none."""

# --- factories


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
    legal_entity: str
    """The company that reports name."""
    un_locode: str
    """The place by the UN's code for trade and transport locations."""

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
    raise Problem(404, gettext("There is no such factory for you."))


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


class NewFactory(Input):
    name: Title = Field(examples=["Kangaita Tea Factory"])
    county: str = Field("", max_length=80)
    region: str = Field("", max_length=40)
    latitude: float | None = Field(None, ge=-90, le=90)
    """Degrees north."""
    longitude: float | None = Field(None, ge=-180, le=180)
    """Degrees east."""
    altitude_m: float = Field(ge=-400, le=5000, examples=[2036])
    """Height above sea level."""
    pressure_kpa: float | None = Field(None, ge=50, le=110)
    """Mean absolute air pressure; without it, by ISO 2533 from the altitude."""
    legal_entity: str = Field("", max_length=200, examples=["Kangaita Tea Factory Company Limited"])
    """The company that reports name."""
    un_locode: str = Field("", pattern=LOCODE, examples=["KENYI"])
    """The place by the UN's code for trade and transport locations."""


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201)
async def add_factory(request: web.Request, body: NewFactory) -> FactoryOut:
    """Register a factory. Its name in addresses (`slug`) is made of its name and stays for ever. 409: a taken name."""
    return FactoryOut.of(await make_factory(request, body))


async def make_factory(request: web.Request, given: NewFactory) -> Factory:
    """Register a factory; the same for the API and for pages."""
    new = Factory(id=0, slug=slug_of(given.name), **given.model_dump())
    return await request.app[SERVICES].store.add_factory(new, by=origin(request))


class FactoryChange(Input):
    """What is left out stays as it is."""

    name: Title | None = None
    county: str | None = Field(None, max_length=80)
    region: str | None = Field(None, max_length=40)
    latitude: float | None = Field(None, ge=-90, le=90)
    longitude: float | None = Field(None, ge=-180, le=180)
    altitude_m: float | None = Field(None, ge=-400, le=5000, examples=[2036])
    pressure_kpa: float | None = Field(None, ge=50, le=110)
    """Null: from the altitude."""
    legal_entity: str | None = Field(None, max_length=200)
    """The company that reports name."""
    un_locode: str | None = Field(None, pattern=LOCODE)
    """The place by the UN's code for trade and transport locations."""
    is_active: bool | None = None
    """False: it is on the leaderboard and in the programme's figures no more. Its readings are taken all the same."""

    @model_validator(mode="after")
    def _has_what_must_be(self) -> FactoryChange:
        for name in ("name", "county", "region", "altitude_m", "is_active", "legal_entity", "un_locode"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(gettext("%(name)s cannot be null: leave it out to keep it", name=name))
        return self


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def change_factory(request: web.Request, body: FactoryChange) -> FactoryOut:
    """Change a factory.

    Another pressure or altitude counts for what is computed from now on; 409: a taken name.
    """
    services, before = request.app[SERVICES], await factory_for(request, path_id(request))
    changed = await services.store.change_factory(before.id, body.model_dump(exclude_unset=True), by=origin(request))
    await registry_changed(services)
    return FactoryOut.of(changed)


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def remove_factory(request: web.Request) -> None:
    """Delete a factory that nothing belongs to. 409: something does; set `is_active` to false instead."""
    before = await factory_for(request, path_id(request))
    await request.app[SERVICES].store.remove_factory(before.id, by=origin(request))


# --- stacks


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
    raise Problem(404, gettext("There is no such stack for you."))


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


class NewStack(PlanInput):
    """A stack with its first monitoring plan, which is in force from `valid_from` on."""

    factory_id: Id
    name: StackName = Field(examples=["Boiler 1"])
    valid_from: datetime | None = None
    """With zone; now without it."""


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201, problems=(404,))
async def add_stack(request: web.Request, body: NewStack) -> StackOut:
    """Register a stack. 409: the factory has one of this name."""
    return StackOut.of(await make_stack(request, body), request.app[SERVICES])


async def make_stack(request: web.Request, given: NewStack) -> Stack:
    """Register a stack with its first plan; the same for the API and for pages."""
    services = request.app[SERVICES]
    factory = await factory_for(request, given.factory_id)
    valid_from = zoned("valid_from", given.valid_from) if given.valid_from else services.clock()
    values = given.model_dump(exclude_unset=True, exclude={"factory_id", "name", "valid_from"})
    if given.shape == "rectangular":
        values.setdefault("diameter_m", None)
    plan = planned(lambda: MonitoringPlan(**values, valid_from=valid_from))
    return await services.store.add_stack(factory.id, given.name, plan, by=origin(request))


class StackChange(Input):
    name: StackName = Field(examples=["Boiler 2"])


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def change_stack(request: web.Request, body: StackChange) -> StackOut:
    """Give a stack another name. How it is measured changes by a new plan (`POST /api/stacks/{id}/plans/`)."""
    services = request.app[SERVICES]
    await services.store.rename_stack((await stack_for(request)).id, body.name, by=origin(request))
    await registry_changed(services)
    return StackOut.of(await stack_for(request), services)


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def remove_stack(request: web.Request) -> None:
    """Delete a stack that nothing belongs to. 409: it was measured, or devices or entries belong to it."""
    await request.app[SERVICES].store.remove_stack((await stack_for(request)).id, by=origin(request))
