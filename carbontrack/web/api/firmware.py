"""Firmware: images, what devices run, and roll-outs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web

from carbontrack.firmware import Ended, Rollout, RolloutState, UpdateState
from carbontrack.model import Scope
from carbontrack.web.access import NETWORK_ROLES, REGISTRY_ROLES
from carbontrack.web.contract import Tag, operation
from carbontrack.web.firmware import (
    ROLLOUT,
    RolloutInput,
    asked_rollout,
    begin,
    change,
    look_ahead,
    take_image,
    versions,
)
from carbontrack.web.rest import Output, Page, Paged, id_before, write_cursor
from carbontrack.web.services import SERVICES

FIRMWARE = "/api/firmware/"
FILE = {"type": "string", "format": "binary"}
READS: dict[str, Any] = {
    "multipart/form-data": {
        "type": "object",
        "required": ["image", "manifest"],
        "properties": {"image": FILE, "manifest": FILE},
    }
}


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_get(f"{FIRMWARE}images/", images)
    router.add_post(f"{FIRMWARE}images/", add_image)
    router.add_get(f"{FIRMWARE}versions/", running_versions)
    router.add_get(f"{FIRMWARE}rollouts/", rollouts)
    router.add_post(f"{FIRMWARE}rollouts/", add_rollout)
    router.add_post(f"{FIRMWARE}rollouts/outlook/", rollout_outlook)
    router.add_get(f"{FIRMWARE}rollouts/{ROLLOUT}", rollout)
    router.add_get(f"{FIRMWARE}rollouts/{ROLLOUT}devices/", rollout_devices)
    router.add_post(f"{FIRMWARE}rollouts/{ROLLOUT}pause/", pause)
    router.add_post(f"{FIRMWARE}rollouts/{ROLLOUT}resume/", resume)
    router.add_post(f"{FIRMWARE}rollouts/{ROLLOUT}stop/", stop)


class ImageOut(Output):
    id: int
    version: str
    """Semantic Versioning, such as `1.5.0` or `1.5.0-rc.1`."""
    hardware: str
    """The boards that it is for."""
    size: int
    """Bytes."""
    sha256: str
    """Of all bytes, in hex."""
    signature: str
    """Base64 of the DER of ECDSA P-256."""
    notes: str
    """What is new, for people."""
    min_version: str
    """The oldest version that may take it; empty: any."""
    added_at: datetime
    added_by: str
    """Who has added it."""


class VersionOut(Output):
    version: str
    """As devices say it; empty: they say none."""
    hardware: str
    """Their boards; empty: they have not said."""
    devices: int
    """How many run it."""


class RolloutOut(Output):
    id: int
    version: str
    """Of its image."""
    hardware: str
    """Of its image."""
    chosen: str
    """`all`, `region:NAME`, `factory:NAME` or `devices`."""
    stages: str
    """As it was asked for, such as `1, 10%, 100%`."""
    stage: int
    """The stage that it is in, from 1."""
    stage_count: int
    """How many stages there are."""
    soak_s: int
    """For so long all has to be well after a stage."""
    failure_limit: int
    """With so many failures it stops by itself."""
    is_forced: bool
    """Also for devices that have a newer version, or gave this image up."""
    state: RolloutState
    ended: Ended
    """Why it is over: `person`, `failures`, `nobody` (no device has taken it) or `all`; empty: it is not."""
    started_at: datetime
    started_by: str
    """Who has started it."""
    ended_at: datetime | None
    ended_by: str
    """Who has stopped it; `carbontrack`: it ended by itself."""
    devices: dict[UpdateState, int]
    """How many devices are how far."""

    @classmethod
    def of(cls, rollout: Rollout, counts: dict[UpdateState, int]) -> RolloutOut:
        """A roll-out with its devices."""
        names = set(cls.model_fields) - {"version", "hardware", "stage", "devices"}
        return cls(
            **{name: getattr(rollout, name) for name in names},
            version=rollout.image.version,
            hardware=rollout.image.hardware,
            stage=rollout.stage + 1,
            devices=counts,
        )


class UpdateOut(Output):
    id: int
    device_id: str
    factory_id: int
    stage: int
    """From 1."""
    state: UpdateState
    before: str
    """The version that it had."""
    pct: int
    """Per cent that are downloaded."""
    error: str
    """Why it failed, as a word of the protocol or of the platform (`no_answer`, `silent`, ...)."""
    offered_at: datetime | None
    changed_at: datetime | None
    ended_at: datetime | None


class OutlookOut(Output):
    devices: list[str]
    """In the order in which they would be offered the image."""
    sizes: list[int]
    """How many devices have had the offer when each stage is over."""
    left_out: dict[str, int]
    """How many devices would not get it, by the reason."""


@operation(Tag.FIRMWARE, NETWORK_ROLES)
async def images(request: web.Request) -> Page[ImageOut]:
    """All images of firmware, the newest first."""
    return Page([ImageOut.model_validate(it) for it in await request.app[SERVICES].store.images()])


@operation(Tag.FIRMWARE, REGISTRY_ROLES, scope=Scope.REGISTRY, reads=READS, problems=(409,))
async def add_image(request: web.Request) -> ImageOut:
    """Add an image with its manifest, both as `carbontrack firmware sign` made them; the same one again is kept once.

    422: the platform's key has not signed it. 409: the version is there with other bytes.
    """
    return ImageOut.model_validate(await take_image(request))


@operation(Tag.FIRMWARE, NETWORK_ROLES)
async def running_versions(request: web.Request) -> Page[VersionOut]:
    """Which versions run in the fleet, as devices said last."""
    return Page([VersionOut.model_validate(it) for it in versions(await request.app[SERVICES].store.device_firmware())])


async def _out(request: web.Request, found: Rollout) -> RolloutOut:
    return RolloutOut.of(found, (await request.app[SERVICES].store.update_counts([found.id])).get(found.id, {}))


@operation(Tag.FIRMWARE, NETWORK_ROLES)
async def rollouts(request: web.Request, query: Paged) -> Page[RolloutOut]:
    """Roll-outs, the newest first."""
    store = request.app[SERVICES].store
    found = await store.rollouts(before_id=id_before(query.cursor), limit=query.limit + 1)
    shown = found[: query.limit]
    counts = await store.update_counts([it.id for it in shown])
    following = write_cursor([shown[-1].id]) if len(found) > query.limit else None
    return Page([RolloutOut.of(it, counts.get(it.id, {})) for it in shown], following)


@operation(Tag.FIRMWARE, REGISTRY_ROLES, scope=Scope.REGISTRY, status=201, problems=(409,))
async def add_rollout(request: web.Request, body: RolloutInput) -> RolloutOut:
    """Bring an image to devices, stage by stage. 409: devices do not know where to download from."""
    return await _out(request, await begin(request, body))


@operation(Tag.FIRMWARE, REGISTRY_ROLES, scope=Scope.REGISTRY)
async def rollout_outlook(request: web.Request, body: RolloutInput) -> OutlookOut:
    """What a roll-out would come to. Nothing is started."""
    found = await look_ahead(request, body)
    left_out = {why.value: count for why, count in found.left_out.items()}
    return OutlookOut(devices=list(found.devices), sizes=list(found.sizes), left_out=left_out)


@operation(Tag.FIRMWARE, NETWORK_ROLES)
async def rollout(request: web.Request) -> RolloutOut:
    """One roll-out."""
    return await _out(request, await asked_rollout(request))


@operation(Tag.FIRMWARE, NETWORK_ROLES)
async def rollout_devices(request: web.Request) -> Page[UpdateOut]:
    """The devices of a roll-out, in the order in which they are offered the image."""
    found = await request.app[SERVICES].store.updates((await asked_rollout(request)).id)
    names = set(UpdateOut.model_fields) - {"stage"}
    return Page([UpdateOut(**{name: getattr(it, name) for name in names}, stage=it.stage + 1) for it in found])


@operation(Tag.FIRMWARE, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def pause(request: web.Request) -> RolloutOut:
    """Let no further device begin; those that have begun go on. 409: it is over."""
    return await _out(request, await change(request, RolloutState.PAUSED))


@operation(Tag.FIRMWARE, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def resume(request: web.Request) -> RolloutOut:
    """Let a paused roll-out go on. 409: it is over."""
    return await _out(request, await change(request, RolloutState.RUNNING))


@operation(Tag.FIRMWARE, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def stop(request: web.Request) -> RolloutOut:
    """End a roll-out: what is offered and not yet installed is withdrawn. 409: it is over."""
    return await _out(request, await change(request, RolloutState.STOPPED))
