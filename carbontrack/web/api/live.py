"""The live stream: server-sent events with what has changed, cut down to what the person may see."""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from pydantic import Field

from carbontrack.live import CANARY_FACTORY_ID, Live, Subscription
from carbontrack.model import Snapshot
from carbontrack.web.access import EVERYBODY, USER, for_canary, scope
from carbontrack.web.auth import caller_of, session_token
from carbontrack.web.contract import Tag, operation
from carbontrack.web.edge import accepts_gzip
from carbontrack.web.present import live_row
from carbontrack.web.reader import Reader
from carbontrack.web.rest import Input
from carbontrack.web.services import SERVICES

PAUSE_S = 0.1
"""Changes of this time go out together: a fleet's readings come spread over every second."""
HEARTBEAT_S = 15.0
CHECK_SESSION_S = 60.0

_encode = msgspec.json.Encoder().encode


class Rows:
    """The newest row of each device as it is sent: written once, however many watch."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[Snapshot, bytes]] = {}

    def written(self, snapshots: Iterable[Snapshot]) -> bytes:
        return b"[" + b",".join(map(self._row, snapshots)) + b"]"

    def _row(self, snapshot: Snapshot) -> bytes:
        known = self._written.get(snapshot.device_id)
        if known is None or known[0] is not snapshot:
            known = self._written[snapshot.device_id] = snapshot, _encode(live_row(snapshot))
        return known[1]


class Link:
    """What goes to one watcher. Each part leaves at once, compressed where the watcher understands it.

    A row is mostly the names of its fields: of 430 bytes some 60 are left. The window is small, because there are
    hundreds of them: 50 KB each.
    """

    WINDOW_BITS = 13
    MEMORY_LEVEL = 5

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._response = response
        self._packer: zlib._Compress | None = None
        response.headers["Vary"] = "Accept-Encoding"
        if accepts_gzip(request):
            response.headers["Content-Encoding"] = "gzip"
            self._packer = zlib.compressobj(1, zlib.DEFLATED, 16 + self.WINDOW_BITS, self.MEMORY_LEVEL)

    async def write(self, data: bytes) -> None:
        if self._packer is not None:
            data = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        await self._response.write(data)


ROWS = web.AppKey("rows", Rows)


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app[ROWS] = Rows()
    app.router.add_get("/api/live/", stream, allow_head=False)
    app.router.add_get("/api/canary/", canary, allow_head=False)


class LiveQuery(Input):
    after: str | None = Field(None, max_length=40)
    """The `id` of the last event that was heard; the header `Last-Event-ID` says the same."""


@operation(Tag.LIVE, EVERYBODY, media=("text/event-stream",))
async def stream(request: web.Request, query: LiveQuery) -> web.StreamResponse:
    """All rows at once (`all`), then those that change (`reading`), and what is told of alerts (`alert`).

    Who was away says up to which event it has heard, and gets what has changed since; all rows again where that is too
    long ago.
    """
    services, user = request.app[SERVICES], request[USER]
    if services.core is None and (reasons := services.readiness()):
        raise web.HTTPServiceUnavailable(text=reasons[0], headers={"Retry-After": "5"})  # a page says "Connecting"
    token = session_token(request) or ""
    heard = request.headers.get("Last-Event-ID") or query.after or ""

    async def is_signed_in() -> bool:
        return await caller_of(services, token) is not None  # not signed out meanwhile, nor disabled

    with services.live.subscribe(scope(user)) as subscription:
        first = _first(services.live, request.app[ROWS], Reader(services, user).snapshots(), heard, scope(user))
        return await _send(request, subscription, first, is_signed_in)


def _first(live: Live, rows: Rows, snapshots: Sequence[Snapshot], heard: str, factory_id: int | None) -> bytes:
    """What comes first: all rows, or to who has heard the rest what was missed."""
    told = live.since(heard)
    if told is None:
        return _event(rows.written(snapshots), "all")
    changed = live.changed_since(told, snapshots)
    return (_event(rows.written(changed)) if changed else b"") + b"".join(
        map(_alert, live.alerts_since(told, factory_id))
    )


@for_canary
async def canary(request: web.Request) -> web.StreamResponse:
    """The same for the core's own canary."""

    async def always() -> bool:
        return True

    with request.app[SERVICES].live.subscribe(CANARY_FACTORY_ID) as subscription:
        return await _send(request, subscription, _event(b"[]", "all"), always)


async def _send(
    request: web.Request,
    subscription: Subscription,
    first: bytes,
    goes_on: Callable[[], Awaitable[bool]],
) -> web.StreamResponse:
    """Send ``first``, and then what changes, until the browser goes or ``goes_on`` says no (asked once a minute)."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    live, rows, checked_at = request.app[SERVICES].live, request.app[ROWS], time.monotonic()
    link = Link(request, response)
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(request)
        await link.write(b"retry: 2000\n\n" + first + _place(live))
        while not subscription.closed:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    changed = await subscription.changes()
            except TimeoutError:
                await link.write(b": still here\n\n")
            else:
                alerts = b"".join(map(_alert, subscription.alerts()))
                told = _event(rows.written(changed)) if changed else b""
                await link.write(told + alerts + _place(live))
                await asyncio.sleep(PAUSE_S)
            if time.monotonic() - checked_at > CHECK_SESSION_S:
                checked_at = time.monotonic()
                if not await goes_on():
                    break
    return response


def _alert(event: Mapping[str, Any]) -> bytes:
    return b"event: alert\ndata: " + _encode(event) + b"\n\n"


def _event(rows: bytes, name: str = "reading") -> bytes:
    return f"event: {name}\n".encode() + b"data: " + rows + b"\n\n"


def _place(live: Live) -> bytes:
    """How far whoever hears this has heard: an event of its own, so that it comes after all that it speaks of."""
    return f"id: {live.place}\nevent: place\ndata: []\n\n".encode()
