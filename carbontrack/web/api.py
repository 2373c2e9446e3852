"""The REST API: JSON in and out, a trailing slash on every path, times in ISO 8601 with zone, units in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from aiohttp import web
from pydantic import ConfigDict, Field

from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.model import DeviceStatus, Factory, Reading, Role, Site, User
from carbontrack.store import TIER_MS
from carbontrack.tiers import local_day, readings
from carbontrack.web import live_stream
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, USER, allow, may_see, public, scope
from carbontrack.web.auth import AUTHENTICATOR, delete_cookie, session_token, token_hash
from carbontrack.web.errors import Problem
from carbontrack.web.present import cause_text
from carbontrack.web.rest import Input, answer, read_body, read_query, results, zoned
from carbontrack.web.services import SERVICES, Services

MOST_RESULTS = 1000
MOST_MEANS = 50_000
BUCKET = timedelta(milliseconds=TIER_MS)
LONGEST_RAW = timedelta(days=1)
LONGEST_TIER = timedelta(days=31)
LONGEST_HOURS = timedelta(days=366)
LONGEST_DAYS = timedelta(days=3660)
LONGEST = {"raw": LONGEST_RAW, "5min": LONGEST_TIER, "hour": LONGEST_HOURS, "day": LONGEST_DAYS}
STEPS = {"5min": BUCKET, "hour": timedelta(hours=1), "day": timedelta(days=1)}


def add_routes(app: web.Application) -> None:
    """Add the API to the application."""
    app.router.add_post("/api/login/", login)
    app.router.add_post("/api/logout/", logout)
    app.router.add_get("/api/me/", me)
    app.router.add_get("/api/factories/", factories)
    app.router.add_get("/api/factories/{id:\\d+}/", factory)
    app.router.add_get("/api/stacks/", stacks)
    app.router.add_get("/api/mcu-devices/", devices)
    app.router.add_post("/api/mcu-devices/", add_device)
    app.router.add_get("/api/mcu-devices/{id:\\d+}/", device)
    app.router.add_patch("/api/mcu-devices/{id:\\d+}/", change_device)
    app.router.add_delete("/api/mcu-devices/{id:\\d+}/", remove_device)
    app.router.add_get("/api/emissions/", emissions)
    app.router.add_get("/api/alerts/", alerts)
    app.router.add_get("/api/quarantine/", quarantine)
    app.router.add_get("/api/live/", live_stream.stream, allow_head=False)
    app.router.add_get("/api/canary/", live_stream.canary, allow_head=False)


# --- the account


class Login(Input):
    email: str = Field(max_length=254)
    password: str = Field(max_length=1024)


@public
async def login(request: web.Request) -> web.StreamResponse:
    """Begin a session; its token is shown this once."""
    given = await read_body(request, Login)
    session = await request.app[AUTHENTICATOR].sign_in(given.email, given.password, request.remote or "")
    if session is None:
        raise Problem(401, "E-mail address and password do not belong together.")
    return answer({"token": session.token, "expires_at": session.expires_at, "user": _user(session.user)})


@allow(EVERYBODY)
async def logout(request: web.Request) -> web.StreamResponse:
    """End the session whose token the request carries."""
    await request.app[SERVICES].store.delete_session(token_hash(session_token(request) or ""))
    response = web.Response(status=204)
    delete_cookie(request, response)
    return response


@allow(EVERYBODY)
async def me(request: web.Request) -> web.StreamResponse:
    """The own account."""
    return answer(_user(request[USER]))


def _user(user: User) -> dict[str, Any]:
    keys = ("id", "email", "first_name", "last_name", "role", "factory_id")
    return {key: getattr(user, key) for key in keys}


# --- the registry


def _factory(item: Factory) -> dict[str, Any]:
    return {**asdict(item), "pressure_kpa": site_pressure_kpa(item)}


@allow(EVERYBODY)
async def factories(request: web.Request) -> web.StreamResponse:
    """The factories that the caller may see, by name."""
    user = request[USER]
    return results([_factory(it) for it in await request.app[SERVICES].store.factories() if may_see(user, it.id)])


@allow(EVERYBODY)
async def factory(request: web.Request) -> web.StreamResponse:
    """One factory."""
    user, wanted = request[USER], int(request.match_info["id"])
    for item in await request.app[SERVICES].store.factories():
        if item.id == wanted and may_see(user, item.id):
            return answer(_factory(item))
    raise Problem(404, "There is no such factory for you.")


@allow(EVERYBODY)
async def stacks(request: web.Request) -> web.StreamResponse:
    """The stacks that the caller may see, each with the monitoring plan that is in force."""
    services = request.app[SERVICES]
    found = await services.store.stacks(scope(request[USER]))
    now_s = services.clock().timestamp()
    return results(
        [
            {
                "id": stack.id,
                "factory_id": stack.factory_id,
                "name": stack.name,
                "plan": asdict(plan_in_force(stack.plans, now_s)),
            }
            for stack in found
        ]
    )


def _device(site: Site, services: Services) -> dict[str, Any]:
    snapshot = services.fleet.snapshots().get(site.device.device_id)
    return {
        **_without(asdict(site.device), "password_generation"),
        "online": bool(snapshot and snapshot.online),
        "last_heartbeat": snapshot.received_at if snapshot else None,
        "state": services.fleet.states().get(site.device.device_id, "starting"),
    }


async def _site(request: web.Request) -> Site:
    wanted = int(request.match_info["id"])
    for site in await request.app[SERVICES].store.sites(scope(request[USER])):
        if site.device.id == wanted:
            return site
    raise Problem(404, "There is no such device for you.")


@allow(EVERYBODY)
async def devices(request: web.Request) -> web.StreamResponse:
    """The registered devices that the caller may see, with what their actors say."""
    services = request.app[SERVICES]
    return results([_device(site, services) for site in await services.store.sites(scope(request[USER]))])


@allow(EVERYBODY)
async def device(request: web.Request) -> web.StreamResponse:
    """One device."""
    return answer(_device(await _site(request), request.app[SERVICES]))


class NewDevice(Input):
    device_id: str = Field(min_length=1, max_length=64)
    stack_id: int
    sensor: str = "ct_v1"


class DeviceChange(Input):
    stack_id: int | None = None
    sensor: str | None = None
    status: DeviceStatus | None = None


def _check_sensor(name: str | None, services: Services) -> None:
    drivers = services.plugins.contributions.sensors
    if name is not None and name not in drivers:
        message = f"No plugin brings this driver. There are: {', '.join(sorted(drivers))}"
        raise Problem(422, "Some values are wrong.", (("sensor", message),))


async def _registry_changed(services: Services) -> None:
    """The actors follow at once; other processes find the change by its revision."""
    await services.fleet.sync(await services.store.sites())


@allow(REGISTRY_ROLES)
async def add_device(request: web.Request) -> web.StreamResponse:
    """Register a device; its actor starts at once."""
    services = request.app[SERVICES]
    given = await read_body(request, NewDevice)
    _check_sensor(given.sensor, services)
    added = await services.store.add_device(given.device_id, given.stack_id, given.sensor)
    await _registry_changed(services)
    for site in await services.store.sites(added.factory_id):
        if site.device.id == added.id:
            return answer(_device(site, services), status=201)
    raise Problem(409, "The device was removed at the same moment.")


@allow(REGISTRY_ROLES)
async def change_device(request: web.Request) -> web.StreamResponse:
    """Move, disable or enable a device, or give it another driver; its actor follows at once."""
    services = request.app[SERVICES]
    site = await _site(request)
    given = await read_body(request, DeviceChange)
    _check_sensor(given.sensor, services)
    await services.store.change_device(
        site.device.device_id, status=given.status, stack_id=given.stack_id, sensor=given.sensor
    )
    await _registry_changed(services)
    return answer(_device(await _site(request), services))


@allow(REGISTRY_ROLES)
async def remove_device(request: web.Request) -> web.StreamResponse:
    """Take a device off the registry. Its readings stay with their stack."""
    services = request.app[SERVICES]
    await services.store.remove_device((await _site(request)).device.device_id)
    await _registry_changed(services)
    return web.Response(status=204)


# --- telemetry


class EmissionsQuery(Input):
    """``from`` and ``to`` bound the measuring time: [from, to)."""

    model_config = ConfigDict(populate_by_name=True)

    factory_id: int | None = None
    stack_id: int | None = None
    device_id: str | None = None
    since: datetime | None = Field(None, alias="from")
    until: datetime | None = Field(None, alias="to")
    resolution: Literal["raw", "5min", "hour", "day"] = "raw"
    limit: int = Field(MOST_RESULTS, ge=2, le=MOST_RESULTS)
    cursor: str | None = Field(None, pattern=r"^\d+~\d+$")
    """Where the last answer ended: stack id and time in ms, as its ``next`` gave them."""


def _period(query: EmissionsQuery, now: datetime) -> tuple[datetime, datetime]:
    until = zoned("to", query.until) if query.until else now
    since = zoned("from", query.since) if query.since else until - timedelta(hours=1)
    longest = LONGEST[query.resolution]
    if not timedelta(0) < until - since <= longest:
        message = f"must be after from, and at most {longest.days} days later for {query.resolution}"
        raise Problem(422, "Some values are wrong.", (("to", message),))
    return since, until


@allow(EVERYBODY)
async def emissions(request: web.Request) -> web.StreamResponse:
    """Readings, or their 5-minute means, stack by stack, oldest first.

    At most ``limit`` readings: where there are more, ``next`` is the ``cursor`` of the next call, which begins with the
    last row again.
    """
    services, user = request.app[SERVICES], request[USER]
    query = read_query(request, EmissionsQuery)
    since, until = _period(query, services.clock())
    chosen = {
        stack.id: stack.factory_id
        for stack in await services.store.stacks(scope(user))
        if query.factory_id in {None, stack.factory_id} and query.stack_id in {None, stack.id}
    }
    if query.resolution != "raw":
        _check_means(query, len(chosen) * (until - since) // STEPS[query.resolution])
    if query.resolution in {"hour", "day"}:
        return results(await _tier(services, chosen, since, until, query.resolution))
    if query.resolution == "5min":
        points = await services.store.trend(list(chosen), since, until)
        return results(
            [
                {
                    "factory_id": chosen[it.stack_id],
                    "timestamp": it.start,
                    **_without(msgspec.structs.asdict(it), "start"),
                }
                for it in points
            ]
        )
    names = {stream.pk: name for name, streams in (await services.store.streams()).items() for stream in streams}
    found, cursor = await _raw(services, sorted(chosen), since, until, query)
    return results(
        [
            {
                "factory_id": chosen[it.stack_id],
                "device_id": names.get(it.stream_pk),
                "timestamp": it.measured_at,
                **_without(msgspec.structs.asdict(it), "measured_at", "stream_pk"),
            }
            for it in found
            if query.device_id in {None, names.get(it.stream_pk)}
        ],
        cursor,
    )


async def _tier(
    services: Services, chosen: Mapping[int, int], since: datetime, until: datetime, resolution: str
) -> list[dict[str, Any]]:
    """Hours with their validity, or local days out of them. What is not measured is not filled."""
    if resolution == "hour":
        hours = await services.store.hours(chosen, since, until)
        return [
            {
                "factory_id": chosen[it.stack_id],
                "timestamp": it.start,
                **_without(msgspec.structs.asdict(it), "start", "status"),
                "validity": it.status,
            }
            for it in hours
        ]
    first, last = (moment.astimezone(services.time_zone).date() for moment in (since, until - timedelta(seconds=1)))
    days = await services.store.days(chosen, first, last + timedelta(days=1))
    return [
        {
            "factory_id": chosen[it.stack_id],
            "timestamp": local_day(it.day, services.time_zone)[0],
            **msgspec.structs.asdict(it),
        }
        for it in days
    ]


def _check_means(query: EmissionsQuery, most: int) -> None:
    """Means come in one answer, and belong to a stack, whichever devices measured it."""
    if query.device_id is not None:
        raise Problem(422, "Some values are wrong.", (("device_id", "goes with raw only; give stack_id for means"),))
    if most > MOST_MEANS:
        message = f"is too far from from: about {most:,} means, at most {MOST_MEANS:,}; name a factory or a stack"
        raise Problem(422, "Some values are wrong.", (("to", message),))


async def _raw(
    services: Services, stack_ids: list[int], since: datetime, until: datetime, query: EmissionsQuery
) -> tuple[list[Reading], str | None]:
    """One page of readings, and the cursor of the next."""
    from_stack, from_ms = (int(part) for part in (query.cursor or "0~0").split("~"))
    found: list[Reading] = []
    for stack_id in stack_ids:
        if stack_id < from_stack:
            continue
        begin = datetime.fromtimestamp(from_ms / 1000, UTC) if stack_id == from_stack else since
        found += await readings(services.store, [stack_id], begin, until, query.limit - len(found))
        if len(found) >= query.limit:
            return found, f"{stack_id}~{round(found[-1].measured_at.timestamp() * 1000)}"
    return found, None


def _without(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


@allow(EVERYBODY)
async def alerts(request: web.Request) -> web.StreamResponse:
    """The alerts that fire now, newest first."""
    found = await request.app[SERVICES].store.alerts(factory_id=scope(request[USER]), limit=MOST_RESULTS)
    return results([asdict(alert) for alert in found])


@allow(frozenset({Role.OPERATOR, Role.HQ_MANAGER, Role.AUDITOR, Role.FACTORY_MANAGER}))
async def quarantine(request: web.Request) -> web.StreamResponse:
    """What could not be used, newest first, with its cause and the beginning of what was sent."""
    found = await request.app[SERVICES].store.quarantined(factory_id=scope(request[USER]), limit=100)
    return results(
        [
            {
                **_without(asdict(item), "body"),
                "text": cause_text(item.cause),
                "body": item.body[:1000].decode(errors="replace"),
            }
            for item in found
        ]
    )
