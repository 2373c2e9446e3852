"""What makes the portal installable and safe without a link: the service worker, and what it shows at the worst."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from aiohttp import web

from carbontrack.web.access import public
from carbontrack.web.templating import STATIC, render, versioned

WORKER = "sw.js"
LINKED = (
    "vendor/pico/pico.min.css",
    "app.css",
    "entries.css",
    "favicon.svg",
    "entries.js",
    "installed.js",
    "offline.js",
)
"""What pages link to by an address with a hash."""
IMPORTED = ("format.js", "local.js", "outbox.js", "photo.js", "words.js")
"""What those scripts import, by name alone."""


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/sw.js", worker)
    app.router.add_get("/offline", offline_page)


@cache
def _worker_text() -> str:
    """The service worker with the files that it keeps; it is another one as soon as one of them is."""
    shell = [versioned(name) for name in LINKED] + [f"/static/{name}" for name in IMPORTED]
    digest = hashlib.sha256(b"".join((STATIC / name).read_bytes() for name in (*LINKED, *IMPORTED, WORKER)))
    head = f"const VERSION = {json.dumps(digest.hexdigest()[:12])};\nconst SHELL = {json.dumps(shell)};\n"
    return head + (STATIC / WORKER).read_text(encoding="utf-8")


@public
async def worker(request: web.Request) -> web.StreamResponse:  # noqa: ARG001  # every handler gets one
    """The service worker, at the root: it may then care for every page."""
    return web.Response(text=_worker_text(), content_type="text/javascript", headers={"Cache-Control": "no-cache"})


@public
async def offline_page(request: web.Request) -> web.StreamResponse:
    """What is shown where a page cannot be reached. It says nothing of anybody."""
    return render(request, "offline.html", {})
