"""The live stream: server-sent events with what has changed, cut down to what the person may see."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from pydantic import Field

from carbontrack.live import CANARY_FACTORY_ID, Live, Subscription
from carbontrack.model import Snapshot
from carbontrack.web.access import EVERYBODY, USER, for_canary, scope
from carbontrack.web.auth import caller_of, session_token
from carbontrack.web.contract import Tag, operation
from carbontrack.web.present import live_row
from carbontrack.web.reader import Reader
from carbontrack.web.rest import Input
from carbontrack.web.services import SERVICES

PAUSE_S = 0.1
"""Changes of this time go out together: a fleet's readings come spread over every second."""
HEARTBEAT_S = 15.0
CHECK_SESSION_S = 60.0

_encode = msgspec.json.Encoder().encode


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
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
    token = session_token(request) or ""
    heard = request.headers.get("Last-Event-ID") or query.after or ""

    async def is_signed_in() -> bool:
        return await caller_of(services, token) is not None  # not signed out meanwhile, nor disabled

    with services.live.subscribe(scope(user)) as subscription:
        first = _first(services.live, Reader(services, user).snapshots(), heard, scope(user))
        return await _send(request, subscription, first, is_signed_in)


def _first(live: Live, snapshots: Sequence[Snapshot], heard: str, factory_id: int | None) -> bytes:
    """What comes first: all rows, or to who has heard the rest what was missed."""
    told = live.since(heard)
    if told is None:
        return _event(snapshots, "all")
    changed = live.changed_since(told, snapshots)
    return (_event(changed) if changed else b"") + b"".join(map(_alert, live.alerts_since(told, factory_id)))


@for_canary
async def canary(request: web.Request) -> web.StreamResponse:
    """The same for the core's own canary."""

    async def always() -> bool:
        return True

    with request.app[SERVICES].live.subscribe(CANARY_FACTORY_ID) as subscription:
        return await _send(request, subscription, _event((), "all"), always)


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
    live, checked_at = request.app[SERVICES].live, time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(request)
        await response.write(b"retry: 2000\n\n" + first + _place(live))
        while not subscription.closed:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    changed = await subscription.changes()
            except TimeoutError:
                await response.write(b": still here\n\n")
            else:
                alerts = b"".join(map(_alert, subscription.alerts()))
                await response.write((_event(changed) if changed else b"") + alerts + _place(live))
                await asyncio.sleep(PAUSE_S)
            if time.monotonic() - checked_at > CHECK_SESSION_S:
                checked_at = time.monotonic()
                if not await goes_on():
                    break
    return response


def _alert(event: Mapping[str, Any]) -> bytes:
    return b"event: alert\ndata: " + _encode(event) + b"\n\n"


def _event(snapshots: Sequence[Snapshot], name: str = "reading") -> bytes:
    rows = _encode([live_row(snapshot) for snapshot in snapshots])
    return f"event: {name}\n".encode() + b"data: " + rows + b"\n\n"


def _place(live: Live) -> bytes:
    """How far whoever hears this has heard: an event of its own, so that it comes after all that it speaks of."""
    return f"id: {live.place}\nevent: place\ndata: []\n\n".encode()
