"""Monitoring plans: how a stack is measured, from when on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.model import MonitoringPlan, Scope, Stack
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, USER, origin, scope
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Input, Output, Page, path_id, zoned
from carbontrack.web.services import SERVICES
from carbontrack.words import N_, gettext

FAULTS = (
    N_("a circular stack needs diameter_m larger than its wall deposit"),
    N_("a rectangular stack needs width_m and length_m larger than its wall deposit"),
)
"""Why a plan cannot be, as :class:`~carbontrack.model.MonitoringPlan` says it: of what a page's form can have wrong."""


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/stacks/{id:\\d{1,9}}/plans/", plans)
    app.router.add_post("/api/stacks/{id:\\d{1,9}}/plans/", add_plan)


class PlanOut(Output):
    """How one stack is measured, from ``valid_from`` until the next plan of the same stack."""

    valid_from: datetime
    """From when on it is in force."""
    shape: Literal["circular", "rectangular"]
    diameter_m: float | None
    width_m: float | None
    length_m: float | None
    wall_deposit_mm: float
    profile_factor: float
    """Mean over the area against the velocity at the measuring point."""
    basis: Literal["wet", "dry"]
    h2o_fraction: float
    """Mole fraction of water in the wet gas."""
    co2_range_ppm: float
    dilution_ratio: float
    """Gas drawn over gas analysed: 1 is undiluted."""
    calibration_offset_ppm: float
    calibration_slope: float
    """What the analyser's value is multiplied by."""
    pitot_coefficient: float
    """Of the pitot tube."""
    velocity_method: Literal["anemometer", "pitot"]
    co2_response_s: float
    temperature_max_c: float
    velocity_max_ms: float
    profile_factor_source: Literal["assumed", "traverse"]
    undisturbed_upstream_m: float | None
    undisturbed_downstream_m: float | None
    on_temperature_c: float
    off_temperature_c: float
    on_velocity_ms: float
    off_velocity_ms: float
    on_co2_ppm: float
    off_co2_ppm: float
    validity: Literal["share", "quadrant"]
    substitution: Literal["mrr", "epa"]
    fuels: str
    """What is burnt, such as `firewood`."""
    u_co2: float
    """Relative standard uncertainty of the CO2."""
    u_velocity: float
    """Relative standard uncertainty of the velocity."""
    u_profile: float
    """Relative standard uncertainty of the profile factor."""
    u_area: float
    """Relative standard uncertainty of the area."""
    u_temperature: float
    """Relative standard uncertainty of the temperature."""
    u_pressure: float
    """Relative standard uncertainty of the pressure."""
    u_h2o: float
    """Relative standard uncertainty of the water."""
    note: str
    area_m2: float
    """Inner area, which follows from the shape."""


Length = Annotated[float, Field(ge=0, le=1000)]
Positive = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, lt=1)]


class PlanInput(Input):
    """What is left out is as in the plan before."""

    shape: Literal["circular", "rectangular"] = "circular"
    diameter_m: Length | None = None
    width_m: Length | None = None
    length_m: Length | None = None
    wall_deposit_mm: Positive = 0
    profile_factor: Positive = 0.9
    """Mean over the area against the velocity at the measuring point."""
    basis: Literal["wet", "dry"] = "dry"
    h2o_fraction: Share = 0.12
    """Mole fraction of water in the wet gas."""
    co2_range_ppm: Positive = 200_000
    dilution_ratio: Positive = 1
    """Gas drawn over gas analysed: 1 is undiluted."""
    calibration_offset_ppm: float = Field(0, ge=-1e9, le=1e9)
    calibration_slope: Positive = 1
    """What the analyser's value is multiplied by."""
    pitot_coefficient: Positive = 0.84
    """Of the pitot tube."""
    velocity_method: Literal["anemometer", "pitot"] = "anemometer"
    co2_response_s: Positive = 30
    temperature_max_c: Positive = 1000
    velocity_max_ms: Positive = 50
    profile_factor_source: Literal["assumed", "traverse"] = "assumed"
    undisturbed_upstream_m: Length | None = None
    undisturbed_downstream_m: Length | None = None
    on_temperature_c: Positive = 80
    off_temperature_c: Positive = 60
    on_velocity_ms: Positive = 0.5
    off_velocity_ms: Positive = 0.3
    on_co2_ppm: Positive = 10_000
    off_co2_ppm: Positive = 5_000
    validity: Literal["share", "quadrant"] = "share"
    substitution: Literal["mrr", "epa"] = "mrr"
    fuels: str = Field("firewood", max_length=200)
    """What is burnt, such as `firewood`."""
    u_co2: Positive = 0.03
    """Relative standard uncertainty of the CO2."""
    u_velocity: Positive = 0.05
    """Relative standard uncertainty of the velocity."""
    u_profile: Positive = 0.08
    """Relative standard uncertainty of the profile factor."""
    u_area: Positive = 0.02
    """Relative standard uncertainty of the area."""
    u_temperature: Positive = 0.01
    """Relative standard uncertainty of the temperature."""
    u_pressure: Positive = 0.01
    """Relative standard uncertainty of the pressure."""
    u_h2o: Positive = 0.03
    """Relative standard uncertainty of the water."""
    note: str = Field("", max_length=500)


class NewPlan(PlanInput):
    """A plan from a moment on, which may lie in the past. What is left out is as in the plan before."""

    valid_from: datetime = Field(examples=["2026-03-01T08:00:00+03:00"])
    """From when on it is in force, with zone."""


async def _stack(request: web.Request) -> Stack:
    wanted = path_id(request)
    for stack in await request.app[SERVICES].store.stacks(scope(request[USER])):
        if stack.id == wanted:
            return stack
    raise Problem(404, gettext("There is no such stack for you."))


@operation(Tag.REGISTRY, EVERYBODY)
async def plans(request: web.Request) -> Page[PlanOut]:
    """All monitoring plans of a stack, oldest first."""
    return Page([PlanOut.model_validate(plan) for plan in (await _stack(request)).plans])


@operation(Tag.REGISTRY, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201)
async def add_plan(request: web.Request, body: NewPlan) -> PlanOut:
    """Add a plan from a moment on, which may lie in the past: what was measured since is computed again."""
    services, stack = request.app[SERVICES], await _stack(request)
    plan = plan_from(body, stack)
    await services.store.add_plan(stack.id, plan, by=origin(request))
    await services.fleet.sync(await services.store.sites())
    return PlanOut.model_validate(plan)


def plan_from(given: NewPlan, stack: Stack) -> MonitoringPlan:
    """A plan out of a request, on the ground of the one that it follows. Raises :class:`Problem` where it cannot be."""
    valid_from = zoned("valid_from", given.valid_from)
    before = stack.plans[0]
    for plan in stack.plans:
        if plan.valid_from <= valid_from:
            before = plan
    changed: dict[str, Any] = given.model_dump(exclude_unset=True) | {"valid_from": valid_from.astimezone(UTC)}
    return planned(lambda: replace(before, **changed))


def planned(make: Callable[[], MonitoringPlan]) -> MonitoringPlan:
    """A plan, or a :class:`Problem` that says why it cannot be."""
    try:
        return make()
    except ValueError as error:
        raise Problem(422, WRONG, (("", gettext(str(error))),)) from None
