"""Firmware as the API and pages share it: what may be asked, and by whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import Field

from carbontrack.firmware import (
    DEFAULT_STAGES,
    MOST_BYTES,
    MOST_MANIFEST_BYTES,
    DeviceFirmware,
    FirmwareError,
    FirmwareImage,
    Plan,
    Rollout,
    RolloutState,
    check_image,
    rank,
    read_manifest,
)
from carbontrack.rollouts import outlook, start_rollout
from carbontrack.store import Choice, Outlook
from carbontrack.web.access import origin
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Input, path_id
from carbontrack.web.services import SERVICES
from carbontrack.words import N_, gettext

LARGEST = {"image": MOST_BYTES, "manifest": MOST_MANIFEST_BYTES}
"""Bytes of the files of a form."""
PIECE = 64 * 1024
ROLLOUT = "{id:\\d{1,9}}/"
TOO_LARGE = N_("The file is too large: an image has 4 MiB at most, and its manifest 20 kB.")


class RolloutInput(Input):
    """Which image is to go to which devices, and how."""

    version: str = Field(max_length=32, examples=["1.5.0"])
    hardware: str = Field(max_length=32, examples=["ct-1"])
    """The boards that the image is for."""
    kind: Literal["all", "region", "factory", "devices"] = "all"
    """All devices of the image's hardware, those of a region or a factory, or some by their names."""
    names: list[str] = Field(default_factory=list, max_length=2000)
    """The region, the factory (its name in addresses), or the devices' names on the wire."""
    stages: str = Field(DEFAULT_STAGES, max_length=100)
    """How many devices have it at the end of each stage: numbers or shares, the last 100%."""
    soak_minutes: int = Field(60, ge=0, le=43_200)
    """For so long all has to be well after a stage."""
    failure_limit: int = Field(1, ge=1, le=10_000)
    """With so many failures it stops by itself."""
    is_forced: bool = False
    """Also where a newer version runs, and where it failed before: a deliberate way back."""
    allows_pre_release: bool = False
    """A pre-release such as 1.5.0-rc.1 needs it."""

    def choice(self) -> Choice:
        """Which devices."""
        return Choice(self.kind, tuple(dict.fromkeys(self.names)))

    def plan(self) -> Plan:
        """How it is to go."""
        soak_s = self.soak_minutes * 60
        return Plan(self.stages, soak_s, self.failure_limit, self.is_forced, self.allows_pre_release)


def problem_of(error: FirmwareError) -> Problem:
    """What to answer."""
    return Problem(422, WRONG if error.field else str(error), ((error.field, str(error)),) if error.field else ())


async def _files(request: web.Request) -> dict[str, bytes]:
    """The files of a form, read piece by piece: they are larger than what pages usually take."""
    if request.content_type != "multipart/form-data":
        raise Problem(415, gettext("Send both files in one form (multipart/form-data)."))
    found: dict[str, bytes] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name not in LARGEST:
                continue
            content = bytearray()
            while piece := await part.read_chunk(PIECE):
                content += piece
                if len(content) > LARGEST[part.name]:
                    raise Problem(413, gettext(TOO_LARGE), ((part.name, gettext(TOO_LARGE)),))
            found[part.name] = bytes(content)
    except (ValueError, LookupError, HttpProcessingError):
        raise Problem(400, gettext("The form cannot be read. Open the page anew and send it again.")) from None
    return found


async def take_image(request: web.Request) -> FirmwareImage:
    """Keep the image of a form with the files ``image`` and ``manifest``. Raises :class:`Problem`, RegistryError."""
    services, found = request.app[SERVICES], await _files(request)
    missing = [name for name in ("image", "manifest") if not found.get(name)]
    if missing:
        raise Problem(422, WRONG, tuple((name, gettext("Choose a file.")) for name in missing))
    try:
        key = services.firmware_key()
        manifest = read_manifest(found["manifest"])
        check_image(manifest, found["image"], key)
    except FirmwareError as error:
        raise problem_of(error) from None
    return await services.store.add_image(manifest, found["image"], by=origin(request), now=services.clock())


async def _image_of(request: web.Request, body: RolloutInput) -> FirmwareImage:
    image = await request.app[SERVICES].store.image(body.version, body.hardware)
    if image is None:
        raise Problem(422, WRONG, (("version", gettext("There is no such image: add it first.")),))
    return image


async def look_ahead(request: web.Request, body: RolloutInput) -> Outlook:
    """What a roll-out would come to. Raises :class:`Problem`."""
    services, image = request.app[SERVICES], await _image_of(request, body)
    try:
        return await outlook(services.store, image, body.choice(), body.plan(), services.clock())
    except FirmwareError as error:
        raise problem_of(error) from None


async def begin(request: web.Request, body: RolloutInput) -> Rollout:
    """Start a roll-out. Raises :class:`Problem`."""
    services, image = request.app[SERVICES], await _image_of(request, body)
    if not services.rollouts.base_url:
        raise Problem(
            409,
            gettext("Devices do not know where to download from: the operator has to set http.public_url first."),
        )
    try:
        made = await start_rollout(
            services.store, image, body.choice(), body.plan(), by=origin(request), now=services.clock()
        )
    except FirmwareError as error:
        raise problem_of(error) from None
    services.rollouts.look_soon()
    return made


async def asked_rollout(request: web.Request) -> Rollout:
    """The roll-out of an address. Raises :class:`Problem`."""
    found = await request.app[SERVICES].store.rollout(path_id(request))
    if found is None:
        raise Problem(404, gettext("There is no such roll-out."))
    return found


async def change(request: web.Request, to: RolloutState) -> Rollout:
    """Pause, resume or stop it. Raises :class:`Problem`, and RegistryError where it is over."""
    services, rollout = request.app[SERVICES], await asked_rollout(request)
    changed = await services.store.change_rollout(rollout.id, to, by=origin(request), now=services.clock())
    services.rollouts.look_soon()
    return changed


@dataclass(frozen=True, slots=True)
class Running:
    """How many devices run a version."""

    version: str
    hardware: str
    devices: int


def versions(said: Iterable[DeviceFirmware]) -> list[Running]:
    """Which versions run in the fleet: by hardware, the newest first."""
    counts = Counter((it.version, it.hardware) for it in said)
    found = [Running(version, hardware, count) for (version, hardware), count in counts.items()]
    newest_first = sorted(found, key=lambda it: (rank(it.version), it.version), reverse=True)
    return sorted(newest_first, key=lambda it: it.hardware)
