"""What makes the portal installable and safe without a link: the service worker, and what it shows at the worst."""

from __future__ import annotations

import hashlib
import json
from functools import cache

from aiohttp import web

from carbontrack.web.access import public
from carbontrack.web.static_files import STATIC, imports, url
from carbontrack.web.templating import render

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
"""What the page of entries and the page without a link need; what the scripts among them import comes along."""


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/sw.js", worker)
    app.router.add_get("/offline", offline_page)


@cache
def _worker_text() -> str:
    """The service worker with the files that it keeps; it is another one as soon as one of them is."""
    imported = {other for name in LINKED if name.endswith(".js") for other in imports(name)}
    names = [*LINKED, *sorted(imported - set(LINKED))]
    shell = [url(name) for name in names]
    digest = hashlib.sha256(b"".join((STATIC / name).read_bytes() for name in (*names, WORKER)))
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
