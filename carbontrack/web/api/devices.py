"""Devices: which node measures which stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.credentials import device_password
from carbontrack.fleet import NOT_STARTED
from carbontrack.handout import HandoutError, Wifi
from carbontrack.health import AspectName, DeviceHealth, HealthState, health_of_absent
from carbontrack.model import Device, DeviceStatus, Scope, Site
from carbontrack.replacing import replace_device
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, USER, origin, scope
from carbontrack.web.api.registry import registry_changed
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input, Output, Page, Paged, page_of, path_id, zoned
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import gettext


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/mcu-devices/", devices)
    app.router.add_post("/api/mcu-devices/", add_device)
    app.router.add_get("/api/mcu-devices/{id:\\d{1,9}}/", device)
    app.router.add_patch("/api/mcu-devices/{id:\\d{1,9}}/", change_device)
    app.router.add_delete("/api/mcu-devices/{id:\\d{1,9}}/", remove_device)
    app.router.add_get("/api/mcu-devices/{id:\\d{1,9}}/health/", device_health)
    app.router.add_post("/api/mcu-devices/{id:\\d{1,9}}/credentials/", new_credentials)
    app.router.add_delete("/api/mcu-devices/{id:\\d{1,9}}/credentials/", revoke_credentials)
    app.router.add_post("/api/mcu-devices/{id:\\d{1,9}}/handout/", hand_out)
    app.router.add_post("/api/mcu-devices/{id:\\d{1,9}}/replace/", replace)


class DeviceOut(Output):
    id: int
    device_id: str
    """Its name on the wire."""
    factory_id: int
    stack_id: int
    sensor: str
    """The driver that reads its messages."""
    status: DeviceStatus
    online: bool
    """Whether it is connected and sends."""
    last_heartbeat: datetime | None
    """When its newest reading was received."""
    state: str
    """Its actor: `starting`, `running`, `backing_off`, `parked`, `stopped`, or `disabled`."""
    health: HealthState
    """How it is doing: the worst of what is known. The parts of it are at `health/`."""
    measures_from: datetime | None
    """Of a unit that took over a chimney: what it measured before does not count there."""
    measures_until: datetime | None
    """Of a unit that was replaced: what it measured from then on does not count."""
    replaced_by: str = Field(examples=[""])
    """The `device_id` of the unit that has taken over its chimney; empty where none has."""

    @classmethod
    def all_of(cls, sites: Iterable[Site], services: Services) -> list[DeviceOut]:
        devices = [site.device for site in sites]
        snapshots, states = services.fleet.snapshots(), services.whole_fleet.states()
        health = services.whole_fleet.health(services.clock(), [device.device_id for device in devices])
        found = []
        for device in devices:
            snapshot, doing = snapshots.get(device.device_id), health.get(device.device_id)
            found.append(
                cls(
                    **asdict(device),
                    online=bool(snapshot and snapshot.online),
                    last_heartbeat=snapshot.received_at if snapshot else None,
                    state=states.get(device.device_id, "starting"),
                    health=doing.overall if doing else HealthState.UNKNOWN,
                )
            )
        return found

    @classmethod
    def of(cls, site: Site, services: Services) -> DeviceOut:
        return cls.all_of([site], services)[0]


class DeviceQuery(Paged):
    sort: Literal["device_id", "-device_id", "id", "-id", "last_heartbeat", "-last_heartbeat"] = "device_id"
    factory_id: Id | None = None
    stack_id: Id | None = None
    status: DeviceStatus | None = None
    online: bool | None = None
    health: HealthState | None = None
    """Only the devices that are doing so."""


class AspectOut(Output):
    name: AspectName = Field(examples=["clock"])
    state: HealthState = Field(examples=["attention"])
    text: str = Field(examples=["Its clock is 45 s behind, or its messages take so long."])
    """What is the matter, in plain words, with the value and its unit."""
    advice: str = Field(
        examples=["Check that it reaches a time server (NTP, UDP port 123), and the battery of its clock."]
    )
    """What to do; empty where nothing has to be done."""
    since: datetime | None
    """Since when it is so, or null where that is not known."""


class DeviceHealthOut(Output):
    device_id: str = Field(examples=["ct-kangaita-1"])
    """Its name on the wire."""
    overall: HealthState
    """The worst of the aspects that are known."""
    firmware: str | None = Field(examples=["2.4.1"])
    """As it named it when it connected; null until it has."""
    aspects: list[AspectOut]


class NewDevice(Input):
    device_id: str = Field(min_length=1, max_length=64, examples=["ct-kangaita-1"])
    """1 to 64 characters, none of `/ + # $` or space."""
    stack_id: Id
    sensor: str = Field("ct_v1", max_length=60)
    """The driver that reads its messages."""


class DeviceChange(Input):
    """What is left out, or null, stays as it is."""

    stack_id: Id | None = None
    sensor: str | None = Field(None, max_length=60)
    """The driver that reads its messages."""
    status: DeviceStatus | None = Field(None, examples=["disabled"])


async def _site(request: web.Request) -> Site:
    wanted = path_id(request)
    for site in await request.app[SERVICES].store.sites(scope(request[USER])):
        if site.device.id == wanted:
            return site
    raise Problem(404, gettext("There is no such device for you."))


@operation(Tag.DEVICES, EVERYBODY)
async def devices(request: web.Request, query: DeviceQuery) -> Page[DeviceOut]:
    """The registered devices that the caller may see, with what their actors say."""
    services = request.app[SERVICES]
    wanted = (
        site
        for site in await services.store.sites(scope(request[USER]))
        if query.factory_id in {None, site.factory.id}
        and query.stack_id in {None, site.stack.id}
        and query.status in {None, site.device.status}
    )
    rows = [
        row
        for row in DeviceOut.all_of(wanted, services)
        if query.online in {None, row.online} and query.health in {None, row.health}
    ]
    return page_of(rows, query, query.sort)


@operation(Tag.DEVICES, EVERYBODY)
async def device(request: web.Request) -> DeviceOut:
    """One device."""
    return DeviceOut.of(await _site(request), request.app[SERVICES])


@operation(Tag.DEVICES, EVERYBODY)
async def device_health(request: web.Request) -> DeviceHealthOut:
    """How one device itself is doing: connection, freshness, clock, sensors, store, firmware, processing.

    This is a state and no alert: nothing begins or ends by it, and nobody is told of it.
    """
    services, site = request.app[SERVICES], await _site(request)
    return DeviceHealthOut.model_validate(health_of_site(site, services))


def health_of_site(site: Site, services: Services) -> DeviceHealth:
    """How a device of the registry is doing."""
    device_id = site.device.device_id
    found = services.whole_fleet.health(services.clock(), [device_id]).get(device_id)
    return found if found is not None else health_of_absent(device_id, NOT_STARTED)


def _check_sensor(name: str | None, services: Services) -> None:
    drivers = services.plugins.contributions.sensors
    if name is not None and name not in drivers:
        message = gettext("No plugin brings this driver. There are: %(names)s", names=", ".join(sorted(drivers)))
        raise Problem(422, WRONG, (("sensor", message),))


class Credentials(Output):
    """What a device signs in with, at the broker and over HTTP."""

    username: str
    """At the broker, and for Basic over HTTP: the device id."""
    password: str
    """It is shown this once."""

    @classmethod
    def of(cls, device: Device, services: Services) -> Credentials | None:
        """None where the platform gives devices no passwords."""
        if services.device_key is None:
            return None
        return cls(username=device.device_id, password=device_password(services.device_key, device))


class DeviceAdded(DeviceOut):
    credentials: Credentials | None
    """Null where the platform gives devices no passwords (`mqtt.device_key`)."""


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201, problems=(409,), is_secret=True)
async def add_device(request: web.Request, body: NewDevice) -> DeviceAdded:
    """Register a device; its actor starts at once.

    409: the name is taken or cannot be part of a topic, or there is no such stack.
    """
    site, services = await make_device(request, body), request.app[SERVICES]
    shown = dict(DeviceOut.of(site, services))
    return DeviceAdded(**shown, credentials=Credentials.of(site.device, services))


async def make_device(request: web.Request, given: NewDevice) -> Site:
    """Register a device and start its actor; the same for the API and for pages."""
    services = request.app[SERVICES]
    _check_sensor(given.sensor, services)
    added = await services.store.add_device(given.device_id, given.stack_id, given.sensor, by=origin(request))
    await registry_changed(services)
    for site in await services.store.sites(added.factory_id):
        if site.device.id == added.id:
            return site
    raise Problem(409, gettext("The device was removed at the same moment."))


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def change_device(request: web.Request, body: DeviceChange) -> DeviceOut:
    """Move, disable or enable a device, or give it another driver; its actor follows at once."""
    services = request.app[SERVICES]
    site = await _site(request)
    _check_sensor(body.sensor, services)
    await services.store.change_device(
        site.device.device_id, status=body.status, stack_id=body.stack_id, sensor=body.sensor, by=origin(request)
    )
    await registry_changed(services)
    return DeviceOut.of(await _site(request), services)


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def remove_device(request: web.Request) -> None:
    """Take a device off the registry. Its readings stay with their stack."""
    services = request.app[SERVICES]
    await services.store.remove_device((await _site(request)).device.device_id, by=origin(request))
    await registry_changed(services)


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201, problems=(409,), is_secret=True)
async def new_credentials(request: web.Request) -> Credentials:
    """Give a device another password; the old one ends at once. 409: the platform gives devices no passwords."""
    services, site = request.app[SERVICES], await _site(request)
    if services.device_key is None:
        raise Problem(409, "The platform gives devices no passwords: the operator has to set mqtt.device_key.")
    device = await services.store.rotate_password(site.device.device_id, by=origin(request))
    await registry_changed(services)
    shown = Credentials.of(device, services)
    assert shown is not None
    return shown


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def revoke_credentials(request: web.Request) -> None:
    """Shut a device out: it is disabled, and the password that it has never opens anything again.

    The core takes nothing from it from now on, and the broker ends its connection within seconds. It keeps its
    readings. Setting `status` to `active` lets it in again, with another password.
    """
    await revoke(request, await _site(request))


async def revoke(request: web.Request, site: Site) -> None:
    """Shut a device out; the same for the API and for pages."""
    services = request.app[SERVICES]
    await services.store.revoke_device(site.device.device_id, by=origin(request))
    await registry_changed(services)


class WifiInput(Input):
    """The network that the box joins. It is kept nowhere; what is left out stays in the box as it is."""

    wifi_ssid: str = Field("", max_length=32, examples=["Kangaita"])
    """The network's name."""
    wifi_password: str = Field("", max_length=64)
    """The network's password."""


class Handout(Output):
    """The line that a node's serial line, and `carbontrack-node --provision`, take."""

    provision: dict[str, str | int] = Field(
        examples=[{"id": "ct-kangaita-1", "password": "...", "host": "mqtt.example.org", "port": 8883}]
    )
    """What the device is told, by the names that its firmware knows."""


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,), is_secret=True)
async def hand_out(request: web.Request, body: WifiInput) -> Handout:
    """A device's configuration, with its password, as the node takes it. The audit log says who was given it.

    409: the platform does not know what to tell devices; `detail` says what the operator has to set.
    """
    line = await handout_line(request, await _site(request), body, "api")
    return Handout.model_validate_json(line)


async def handout_line(request: web.Request, site: Site, given: WifiInput, what: str) -> str:
    """The line that sets a device up, when it is written down that it was given; the same for the API and for pages.

    ``what`` says as what it is given. Raises :class:`Problem` where there is none.
    """
    (line,) = await handout_lines(request, [site], given, what)
    return line


async def handout_lines(request: web.Request, sites: Sequence[Site], given: WifiInput, what: str) -> list[str]:
    """The same for several devices."""
    services, wifi = request.app[SERVICES], Wifi(given.wifi_ssid, given.wifi_password)
    try:
        lines = [services.handouts.line(site.device, wifi) for site in sites]
    except HandoutError as error:
        if error.name:
            raise Problem(422, WRONG, ((error.name, str(error)),)) from None
        raise Problem(409, str(error)) from None
    await services.store.note_handed_out([site.device for site in sites], what, by=origin(request))
    return lines


class Replacement(Input):
    device_id: str = Field(min_length=1, max_length=64, examples=["ct-kangaita-9"])
    """The new unit: a name that nobody has yet, or a device of the same chimney."""
    at: datetime | None = None
    """From when on the new unit counts, with zone; now without it. After the old unit's newest reading."""
    sensor: str = Field("", max_length=60)
    """The driver that reads its messages; without it the old unit's."""


@operation(Tag.DEVICES, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201, problems=(409,), is_secret=True)
async def replace(request: web.Request, body: Replacement) -> DeviceAdded:
    """Let another unit take over this one's chimney; the answer is the new one.

    The old one is shut out and kept: its readings, and the chimney's hours, stay as they are. Should it be let in
    again to hand in what it still has, what it measured before `at` counts, and the rest goes into quarantine.
    409: it was replaced already, the moment cannot be, or the name is another chimney's.
    """
    services = request.app[SERVICES]
    site = await put_in_place(request, await _site(request), body)
    shown = dict(DeviceOut.of(site, services))
    return DeviceAdded(**shown, credentials=Credentials.of(site.device, services))


async def put_in_place(request: web.Request, old: Site, given: Replacement) -> Site:
    """Replace a unit; the new one. The same for the API and for pages."""
    services = request.app[SERVICES]
    _check_sensor(given.sensor or None, services)
    at = zoned("at", given.at) if given.at is not None else None
    done = await replace_device(
        services.store,
        old,
        given.device_id,
        by=origin(request),
        now=services.clock(),
        at=at,
        sensor=given.sensor,
    )
    await registry_changed(services)
    return Site(old.factory, old.stack, done.new)
