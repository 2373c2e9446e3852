"""Photos of delivery notes, beside the energy entries that they prove."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web

from carbontrack.ledger import EnergyEntry
from carbontrack.model import Scope
from carbontrack.web.access import EVERYBODY, USER, WRITERS, may_see, origin
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.photos import EXTENSIONS, look_at, photo_response
from carbontrack.web.rest import Output, Page, path_id
from carbontrack.web.services import SERVICES

READS: dict[str, Any] = {media_type: {"type": "string", "format": "binary"} for media_type in EXTENSIONS}


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/energy-entries/{id:\\d{1,9}}/photos/", entry_photos)
    app.router.add_post("/api/energy-entries/{id:\\d{1,9}}/photos/", add_entry_photo)
    app.router.add_get("/api/energy-entries/{id:\\d{1,9}}/photos/{photo:\\d{1,3}}/", one_entry_photo)


class PhotoOut(Output):
    entry_id: int
    factory_id: int
    number: int
    """From 1, within the entry."""
    sha256: str
    """Of its bytes."""
    media_type: str
    """What it is: `image/jpeg`, `image/png` or `image/webp`."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    size: int
    """Bytes."""
    author: str
    added_at: datetime


async def _entry(request: web.Request) -> EnergyEntry:
    found = await request.app[SERVICES].store.energy_entry(path_id(request))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, "There is no such entry for you.")
    return found


@operation(Tag.ENTRIES, EVERYBODY)
async def entry_photos(request: web.Request) -> Page[PhotoOut]:
    """The photos of an energy entry, without their content."""
    entry = await _entry(request)
    return Page([PhotoOut.model_validate(it) for it in await request.app[SERVICES].store.photos([entry.id])])


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, status=201, reads=READS)
async def add_entry_photo(request: web.Request) -> PhotoOut:
    """Add a photo of what proves an entry, such as its delivery note: the body is the JPEG, PNG or WebP itself.

    It has 1 MB at most. The same photo sent again is not kept twice.
    """
    services, entry = request.app[SERVICES], await _entry(request)
    if request.content_type not in EXTENSIONS:
        raise Problem(415, f"Send the photo as it is, as one of {', '.join(EXTENSIONS)}.")
    content = await request.read()
    picture = look_at(content)
    kept = await services.store.add_photo(
        entry.id,
        content,
        picture.media_type,
        (picture.width, picture.height),
        by=origin(request),
        now=services.clock(),
    )
    return PhotoOut.model_validate(kept)


@operation(Tag.ENTRIES, EVERYBODY, media=tuple(EXTENSIONS))
async def one_entry_photo(request: web.Request) -> web.Response:
    """A photo of an energy entry."""
    entry = await _entry(request)
    found = await request.app[SERVICES].store.photo(entry.id, int(request.match_info["photo"]))
    if found is None:
        raise Problem(404, "This entry has no such photo.")
    return photo_response(*found)
