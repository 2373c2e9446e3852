"""Setting up a factory, step by step: the factory, its chimneys, their devices, until the first reading is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.model import DeviceStatus, Factory, Site, Snapshot, Stack
from carbontrack.web.access import REGISTRY_ROLES, allow, origin
from carbontrack.web.api.devices import Credentials, NewDevice, make_device
from carbontrack.web.api.registry import FactoryChange, NewFactory, NewStack, make_factory, make_stack, registry_changed
from carbontrack.web.errors import REFUSALS
from carbontrack.web.forms import Form, refused, typed, without_blanks
from carbontrack.web.ledger_pages import page_factory
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import live_row
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import FACTORIES, render
from carbontrack.words import N_, gettext

FACTORY = FACTORIES + "{slug}/"
REGIONS = tuple(str(number) for number in range(1, 8))
FACTORY_FIELDS = (
    "name",
    "county",
    "region",
    "latitude",
    "longitude",
    "altitude_m",
    "pressure_kpa",
    "legal_entity",
    "un_locode",
)
NUMBERS = ("latitude", "longitude", "pressure_kpa", "diameter_m", "width_m", "length_m")
"""Fields that may be left empty."""
STACK_DEFAULTS: Mapping[str, Any] = {
    "shape": "circular",
    "basis": "dry",
    "velocity_method": "anemometer",
    "profile_factor": 0.9,
    "h2o_fraction": 0.12,
    "co2_range_ppm": 200_000,
    "dilution_ratio": 1,
    "fuels": "firewood",
}
PLAN_WORDS: Mapping[str, str] = {
    "circular": N_("circular"),
    "rectangular": N_("rectangular"),
    "dry": N_("dry"),
    "wet": N_("wet"),
    "anemometer": N_("anemometer"),
    "pitot": N_("pitot"),
}
"""What a monitoring plan chooses between."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(FACTORIES, factories_page)
    router.add_get(f"{FACTORIES}new", new_page)
    router.add_post(f"{FACTORIES}new", add_factory)
    router.add_get(FACTORY, setup_page)
    router.add_post(FACTORY, change_factory)
    router.add_post(f"{FACTORY}stacks", add_stack)
    router.add_post(f"{FACTORY}devices", add_device)


# --- all factories


@allow(REGISTRY_ROLES)
async def factories_page(request: web.Request) -> web.StreamResponse:
    """Every factory, and what is still to be set up."""
    services = request.app[SERVICES]
    stacks: dict[int, int] = {}
    for stack in await services.store.stacks():
        stacks[stack.factory_id] = stacks.get(stack.factory_id, 0) + 1
    devices: dict[int, list[Site]] = {}
    for site in await services.store.sites():
        devices.setdefault(site.factory.id, []).append(site)
    snapshots = services.fleet.snapshots()
    rows = [
        {
            "factory": factory,
            "stacks": stacks.get(factory.id, 0),
            "devices": len(devices.get(factory.id, ())),
            "missing": _missing(stacks.get(factory.id, 0), devices.get(factory.id, ()), snapshots),
        }
        for factory in await services.store.factories()
    ]
    return render(request, "factories.html", {"rows": rows, "ready": sum(not row["missing"] for row in rows)})


def _missing(stacks: int, devices: Sequence[Site], snapshots: Mapping[str, Snapshot]) -> str:
    """The next thing to do; empty where all is there."""
    if not stacks:
        return gettext("Add its first chimney")
    if not devices:
        return gettext("Add a device")
    silent = sum(not _is_heard(snapshots, it) for it in devices if it.device.status is DeviceStatus.ACTIVE)
    if not silent:
        return ""
    return gettext("%(silent)s of %(count)s devices have not sent yet", silent=silent, count=len(devices))


@allow(REGISTRY_ROLES)
async def new_page(request: web.Request) -> web.StreamResponse:
    """The form for a factory that is new."""
    return _new_page(request, Form("factory"))


def _new_page(request: web.Request, form: Form) -> web.Response:
    return form.answer(render(request, "factory_new.html", {"form": form, "regions": REGIONS}))


@allow(REGISTRY_ROLES)
async def add_factory(request: web.Request) -> web.StreamResponse:
    """Register a factory, and go on to its chimneys."""
    values = await typed(request)
    try:
        added = await make_factory(request, NewFactory.model_validate(without_blanks(values, *NUMBERS)))
    except REFUSALS as error:
        return _new_page(request, refused("factory", values, error))
    text = gettext("%(name)s is there. Next: its chimneys.", name=added.name)
    raise sent_on(request, _url(added), Notice(text))


def _url(factory: Factory) -> str:
    return f"{FACTORIES}{factory.slug}/"


# --- one factory


@allow(REGISTRY_ROLES)
async def setup_page(request: web.Request) -> web.StreamResponse:
    """What a factory has, what it needs next, and the forms for it."""
    return await _setup_page(request, await page_factory(request))


async def _setup_page(request: web.Request, factory: Factory, wrong: Form | None = None) -> web.Response:
    services = request.app[SERVICES]
    stacks = await services.store.stacks(factory.id)
    sites = await services.store.sites(factory.id)
    shown = wrong.name if wrong else ""
    forms: dict[str, Form] = {
        "factory": Form("factory", {name: getattr(factory, name) for name in FACTORY_FIELDS}),
        "stack": Form("stack", {**STACK_DEFAULTS, "name": gettext("Boiler %(number)s", number=len(stacks) + 1)}),
        "device": Form("device", {"device_id": _free_name(factory, sites), "sensor": "ct_v1"}),
    }
    if wrong is not None:
        forms[shown] = wrong
    snapshots = services.fleet.snapshots()
    active = [site for site in sites if site.device.status is DeviceStatus.ACTIVE]
    values = {
        "factory": factory,
        "pressure_kpa": site_pressure_kpa(factory),
        "stacks": [_of_stack(services, stack, sites, snapshots) for stack in stacks],
        "device_count": len(active),
        "heard": sum(_is_heard(snapshots, site) for site in active),
        "forms_of": forms,
        "wrong": shown,
        "regions": REGIONS,
        "plan_words": {word: gettext(text) for word, text in PLAN_WORDS.items()},
        "stack_choices": [(str(stack.id), stack.name) for stack in stacks],
        "sensors": [(name, it.title) for name, it in sorted(services.plugins.contributions.sensors.items())],
        "gives_passwords": services.device_key is not None,
    }
    page = render(request, "factory_setup.html", values)
    return wrong.answer(page) if wrong else page


def _free_name(factory: Factory, sites: Sequence[Site]) -> str:
    """A name for the next device that nobody has at this factory."""
    taken = {site.device.device_id for site in sites}
    number = len(sites) + 1
    while (name := f"ct-{factory.slug}-{number}") in taken:
        number += 1
    return name[:64]


def _of_stack(
    services: Services, stack: Stack, sites: Sequence[Site], snapshots: Mapping[str, Snapshot]
) -> dict[str, Any]:
    return {
        "stack": stack,
        "plan": plan_in_force(stack.plans, services.clock().timestamp()),
        "devices": [
            {
                "device": site.device,
                "row": live_row(snapshots[site.device.device_id]) if site.device.device_id in snapshots else None,
                "is_heard": _is_heard(snapshots, site),
            }
            for site in sites
            if site.stack.id == stack.id
        ],
    }


def _is_heard(snapshots: Mapping[str, Snapshot], site: Site) -> bool:
    found = snapshots.get(site.device.device_id)
    return found is not None and found.measured_at is not None


@allow(REGISTRY_ROLES)
async def change_factory(request: web.Request) -> web.StreamResponse:
    """Change what was entered of a factory."""
    services, factory, values = request.app[SERVICES], await page_factory(request), await typed(request)
    try:
        given: dict[str, Any] = {name: values.get(name, "") for name in FACTORY_FIELDS}
        given |= {name: None for name in ("latitude", "longitude", "pressure_kpa") if not given[name]}
        change = FactoryChange.model_validate(given).model_dump(exclude_unset=True)
        changed = await services.store.change_factory(factory.id, change, by=origin(request))
        await registry_changed(services)
    except REFUSALS as error:
        return await _setup_page(request, factory, refused("factory", values, error))
    raise sent_on(request, _url(changed), Notice(gettext("The factory is changed.")))


@allow(REGISTRY_ROLES)
async def add_stack(request: web.Request) -> web.StreamResponse:
    """Register a chimney with its first monitoring plan."""
    factory, values = await page_factory(request), await typed(request)
    try:
        given = without_blanks(values, *NUMBERS)
        for unused in ("width_m", "length_m") if given.get("shape") == "circular" else ("diameter_m",):
            given.pop(unused, None)
        added = await make_stack(request, NewStack.model_validate(given | {"factory_id": factory.id}))
    except REFUSALS as error:
        return await _setup_page(request, factory, refused("stack", values, error))
    text = gettext("%(name)s is there. Next: a device that measures it.", name=added.name)
    raise sent_on(request, _url(factory), Notice(text))


@allow(REGISTRY_ROLES)
async def add_device(request: web.Request) -> web.StreamResponse:
    """Register a device; its password is shown once."""
    services, factory, values = request.app[SERVICES], await page_factory(request), await typed(request)
    own = {str(stack.id) for stack in await services.store.stacks(factory.id)}
    try:
        given = NewDevice.model_validate(values | ({} if values.get("stack_id") in own else {"stack_id": None}))
        site = await make_device(request, given)
    except REFUSALS as error:
        return await _setup_page(request, factory, refused("device", values, error))
    raise sent_on(request, _url(factory), _device_notice(services, site))


def _device_notice(services: Services, site: Site) -> Notice:
    credentials = Credentials.of(site.device, services)
    if credentials is None:
        return Notice(
            gettext(
                "%(device)s is there. Now switch it on: its first reading will show below.",
                device=site.device.device_id,
            ),
            advice=gettext("This platform gives devices no passwords: the broker knows them (docs/brokers.md)."),
        )
    return Notice(
        gettext(
            "%(device)s is there. It signs in at the broker with its name and this password:",
            device=site.device.device_id,
        ),
        credentials.password,
        gettext("It is shown this once. Write it into the device and switch it on: its first reading will show below."),
    )
