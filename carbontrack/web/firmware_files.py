"""Firmware as devices download it: with their own password, only what they were offered, and from any byte on."""

from __future__ import annotations

import asyncio
import re

from aiohttp import web

from carbontrack.firmware import FirmwareImage
from carbontrack.rollouts import Permit
from carbontrack.web.access import DEVICE, allow
from carbontrack.web.errors import Problem
from carbontrack.web.services import SERVICES

ADDRESS = "/firmware/{version}/{hardware}"
PIECE = 32 * 1024
PIECE_WITHIN_S = 120.0
"""A device that takes no more for so long is gone."""
RETRY_AFTER_S = "60"
_RANGE = re.compile(r"bytes=(\d{0,12})-(\d{0,12})", re.ASCII)


def add_routes(app: web.Application) -> None:
    """Add the way of images to devices to the application."""
    app.router.add_get(ADDRESS, image_file)


@allow(frozenset(), devices=True)
async def image_file(request: web.Request) -> web.StreamResponse:
    """An image, or one range of it (RFC 9110, 14); 503 where too many devices download at this moment."""
    services, device = request.app[SERVICES], request[DEVICE]
    version, hardware = request.match_info["version"], request.match_info["hardware"]
    permit = services.rollouts.permit(device.device_id, version, hardware)
    if permit is Permit.NO:
        raise Problem(403, "This device is not offered this image.")
    if permit is Permit.LATER:
        raise _later("This device is not offered this image at this moment. Ask again later.")
    image = await services.store.image(version, hardware)
    if image is None:
        raise Problem(404, "There is no such image.")
    with services.rollouts.download() as has_place:
        if not has_place:
            raise _later("Too many devices download at this moment. Ask again later.")
        return await _send(request, image, await services.rollouts.content(image))


def _later(text: str) -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": RETRY_AFTER_S})


async def _send(request: web.Request, image: FirmwareImage, content: bytes) -> web.StreamResponse:
    tag = f'"{image.sha256}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if tag in [it.strip() for it in request.headers.get("If-None-Match", "").split(",")]:
        return web.Response(status=304, headers=headers)
    wanted = _wanted(request, tag, len(content))
    if wanted is None:
        first, end, status = 0, len(content), 200
    else:
        (first, end), status = wanted, 206
        if first >= end:
            return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
    answer = web.StreamResponse(status=status, headers=headers)
    answer.content_length = end - first
    await answer.prepare(request)
    if request.method != "HEAD":
        view = memoryview(content)
        for at in range(first, end, PIECE):
            async with asyncio.timeout(PIECE_WITHIN_S):
                await answer.write(view[at : min(at + PIECE, end)])
    await answer.write_eof()
    return answer


def _wanted(request: web.Request, tag: str, size: int) -> tuple[int, int] | None:
    """The one range that is asked for, up to before its end; None for the whole: what cannot be read is ignored."""
    found = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if found is None or request.headers.get("If-Range", tag) != tag:
        return None
    first, last = found[1], found[2]
    if not first:
        return (max(0, size - int(last)), size if int(last) else 0) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size
