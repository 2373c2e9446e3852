"""The pages' own files: compressed once, and each at an address with a hash, so that a browser fetches it once.

A script imports its neighbours by relative addresses. So all files of ours share one hash, which stands in the path and
goes with the imports; what others have written changes seldom, and each of those files has its own.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import ETag, web
from markupsafe import Markup

from carbontrack.web.access import public
from carbontrack.web.edge import accepts_gzip
from carbontrack.words import gettext

STATIC = Path(__file__).parent / "static"
VENDOR = "vendor/"
MAX_AGE_S = 31_536_000
_IMPORT = re.compile(r'\b(?:from|import)\s+"\./([\w-]+\.js)"')
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True)
class _File:
    content: bytes
    compressed: bytes
    """Empty where it would not be smaller."""
    tag: str
    media_type: str


def add_routes(app: web.Application) -> None:
    """Add the files to the application."""
    app.router.add_get("/static/{path:.+}", send)


@public
async def send(request: web.Request) -> web.StreamResponse:
    """A file of ours; for ever where its address has the hash of what is there now."""
    version, name = _parted(request.match_info["path"])
    if not _is_ours(name):
        raise web.HTTPNotFound(text=gettext("There is no such file."))
    file = await asyncio.to_thread(_read, name)
    is_current = version == await asyncio.to_thread(_version, name)
    headers = {
        "Cache-Control": f"public, max-age={MAX_AGE_S}, immutable" if is_current else "no-cache",
        "Content-Type": file.media_type,
        "ETag": f'"{file.tag}"',
        "Vary": "Accept-Encoding",
    }
    if ETag(file.tag) in (request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    if file.compressed and accepts_gzip(request):
        return web.Response(body=file.compressed, headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=file.content, headers=headers)


def url(name: str) -> str:
    """Where a file is."""
    return f"/static/~{_version(name)}/{name}"


def module(name: str) -> Markup:
    """What loads a script in a page's head, and at the same time all that it imports: not one after the other."""
    others = "".join(f'<link rel="modulepreload" href="{url(it)}">' for it in imports(name))
    return Markup(f'<script type="module" src="{url(name)}"></script>{others}')  # noqa: S704  # names of our own files


@cache
def imports(name: str) -> tuple[str, ...]:
    """The scripts that one of ours imports, and what those import."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        for other in _IMPORT.findall((STATIC / waiting.pop()).read_text(encoding="utf-8")):
            if other not in found and other != name:
                found[other] = None
                waiting.append(other)
    return tuple(found)


def _parted(path: str) -> tuple[str, str]:
    """The hash of an address, if it has one, and the file's name."""
    first, _, rest = path.partition("/")
    return (first[1:], rest) if first.startswith("~") else ("", path)


def _is_ours(name: str) -> bool:
    try:
        path = (STATIC / name).resolve()
        return path.is_relative_to(STATIC) and path.is_file()
    except (OSError, ValueError):  # no file can have such a name
        return False


@cache
def _version(name: str) -> str:
    """Twelve digits of a hash: of the file if others have written it, else of all that we have."""
    if name.startswith(VENDOR):
        return _hash(STATIC / name)
    return _hash(*(it for it in sorted(STATIC.iterdir()) if it.is_file()))


def _hash(*paths: Path) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(it.read_bytes()).digest() for it in paths)).hexdigest()[:12]


@cache
def _read(name: str) -> _File:
    content = (STATIC / name).read_bytes()
    media_type = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    compressed = gzip.compress(content, 9, mtime=0)
    return _File(
        content,
        compressed if len(compressed) < len(content) else b"",
        hashlib.sha256(content).hexdigest()[:16],
        f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type,
    )
