"""Photos that people send: what is taken is a picture by its own bytes, whatever its name or its sender says it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiohttp import web

from carbontrack.store import EntryPhoto
from carbontrack.web.edge import content_security_policy
from carbontrack.web.errors import Problem
from carbontrack.words import N_
from carbontrack.words import gettext as _

MOST_BYTES = 1_000_000
"""Of a photo; a delivery note is read well at 300 kB. The largest body that the web part reads is a little larger."""
MOST_PIXELS = 12_000
"""On a side: no camera makes more."""
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
TOO_LARGE = N_("The photo is larger than 1 MB. Make it smaller, or take it anew with less detail.")
NO_PHOTO = N_("This is no photo that can be read: send a JPEG, a PNG or a WebP.")
_SANDBOX = {"img-src": "'none'", "script-src": "'none'", "style-src": "'none'", "sandbox": ""}


@dataclass(frozen=True, slots=True)
class Picture:
    """What a file says of itself; width and height in pixels."""

    media_type: str
    width: int
    height: int


def look_at(content: bytes) -> Picture:
    """What picture this is. Raises :class:`Problem` for what is too large, or is none: 413, or 422 with its field."""
    if len(content) > MOST_BYTES:
        raise Problem(413, _(TOO_LARGE), (("photo", _(TOO_LARGE)),))
    try:
        found = _jpeg(content) or _png(content) or _webp(content)
    except (struct.error, IndexError):  # cut off
        found = None
    if found is None or not (0 < found.width <= MOST_PIXELS and 0 < found.height <= MOST_PIXELS):
        raise Problem(422, _(NO_PHOTO), (("photo", _(NO_PHOTO)),))
    return found


def _png(content: bytes) -> Picture | None:
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        return None
    return Picture("image/png", *struct.unpack(">II", content[16:24]))


def _jpeg(content: bytes) -> Picture | None:
    """By the segment that begins the frame (SOF0 to SOF15; C4, C8 and CC are others): ITU-T T.81, B.2.2."""
    if content[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return Picture("image/jpeg", width, height)
        (length,) = struct.unpack(">H", content[at + 2 : at + 4])
        at += 1 if marker == 0xFF else 2 + max(int(length), 2)
    return None


def _webp(content: bytes) -> Picture | None:
    """Lossy, lossless and extended: RFC 9649, 2.5 to 2.7."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kind, data = content[12:16], content[20:30]
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", data[6:10])
        return Picture("image/webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        return Picture("image/webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8X":
        sides = (1 + int.from_bytes(data[at : at + 3], "little") for at in (4, 7))
        return Picture("image/webp", *sides)
    return None


def photo_response(photo: EntryPhoto, content: bytes) -> web.Response:
    """A photo on its way to a browser: as a picture and as nothing else, in a sandbox of its own."""
    name = f"delivery-note-{photo.entry_id}-{photo.number}.{EXTENSIONS[photo.media_type]}"
    return web.Response(
        body=content,
        content_type=photo.media_type,
        headers={
            "Content-Disposition": f'inline; filename="{name}"',
            "Content-Security-Policy": content_security_policy(_SANDBOX),
            "X-Content-Type-Options": "nosniff",
        },
    )
