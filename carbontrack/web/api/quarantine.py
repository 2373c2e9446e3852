"""What could not be used: found, looked at, handed in once more after its cause was mended, or put aside."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import datetime

from aiohttp import web
from pydantic import Field

from carbontrack.fleet import Undelivered
from carbontrack.model import Quarantined, Role, Scope
from carbontrack.store import QuarantineState
from carbontrack.web.access import REGISTRY_ROLES, USER, origin, scope
from carbontrack.web.api.device_intake import problem_of
from carbontrack.web.api.entries import visible
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.present import cause_text
from carbontrack.web.rest import (
    MOST_RESULTS,
    Id,
    Input,
    Output,
    Page,
    Paged,
    Reason,
    id_before,
    path_id,
    write_cursor,
    zoned,
)
from carbontrack.web.services import SERVICES

QUARANTINE_ROLES = frozenset({Role.OPERATOR, Role.HQ_MANAGER, Role.AUDITOR, Role.FACTORY_MANAGER})
BEGINNING = 1000
NO_DATA = {
    "bad_state": "It is about a connection that has ended long ago.",
    "database_refused": "It is a reading as it was computed, and not what the device sent.",
}
"""Causes of what is no message with data: it cannot be handed in once more."""


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/quarantine/", quarantine)
    app.router.add_get("/api/quarantine/{id:\\d{1,9}}/", quarantined)
    app.router.add_post("/api/quarantine/{id:\\d{1,9}}/replay/", replay)
    app.router.add_post("/api/quarantine/{id:\\d{1,9}}/dismiss/", dismiss)


class QuarantineQuery(Paged):
    limit: int = Field(100, ge=1, le=MOST_RESULTS)
    """The most rows of one answer."""
    factory_id: Id | None = None
    device_id: str | None = Field(None, max_length=64)
    cause: str | None = Field(None, max_length=40)
    state: QuarantineState | None = None
    """`open` is what nobody has seen to yet."""
    since: datetime | None = Field(None, alias="from")
    """What came first then or later; with zone."""
    until: datetime | None = Field(None, alias="to")
    """What came first before; with zone."""


class Beginning(Output):
    """One thing in quarantine, with the beginning of what was sent."""

    id: int
    factory_id: int | None
    device_id: str
    cause: str
    """A word of docs/protocol.md."""
    text: str
    """The cause in plain words."""
    detail: str
    """What exactly was wrong."""
    state: QuarantineState
    times: int
    """How often the same came."""
    received_at: datetime
    """When it came first."""
    last_received_at: datetime
    body: str
    """What was sent, as text: in the list its first 1000 bytes."""
    replayed_at: datetime | None
    replayed_by: str | None
    """Who handed it in once more."""
    replay_outcome: str | None
    """What became of its records."""
    dismissed_at: datetime | None
    dismissed_by: str | None
    """Who put it aside."""
    dismiss_reason: str | None
    """Why nobody needs it."""


class Whole(Beginning):
    """One thing in quarantine, with all that was sent."""

    body_base64: str
    """The same byte for byte."""


class Dismissal(Input):
    reason: Reason
    """Why nobody needs it."""


@operation(Tag.ALERTS, QUARANTINE_ROLES, problems=(404,))
async def quarantine(request: web.Request, query: QuarantineQuery) -> Page[Beginning]:
    """What could not be used, newest first, with its cause and the beginning of what was sent."""
    found = await request.app[SERVICES].store.quarantined(
        **query.model_dump(include={"device_id", "cause", "state"}),
        factory_id=visible(request[USER], query.factory_id),
        since=zoned("from", query.since) if query.since else None,
        until=zoned("to", query.until) if query.until else None,
        before_id=id_before(query.cursor),
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    rows = [Beginning(**_values(item), body=_text(item.body[:BEGINNING])) for item in shown]
    return Page(rows, write_cursor([shown[-1].id]) if len(found) > query.limit else None)


@operation(Tag.ALERTS, QUARANTINE_ROLES)
async def quarantined(request: web.Request) -> Whole:
    """One thing in quarantine, with all that was sent."""
    return _whole(await _item(request))


@operation(Tag.ALERTS, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def replay(request: web.Request) -> Whole:
    """Hand it to its device once more, after the cause was mended: the driver, or the registration.

    Its records are stored with the time when it came first; what is there already is not stored twice. What still
    cannot be read is 409, with the reason, and stays as it was.
    """
    services, item = request.app[SERVICES], await _item(request)
    _check_can_be_replayed(request, item)
    try:
        outcome = await services.whole_fleet.replay(item, services.device_patience_s)
    except Undelivered as error:
        raise problem_of(error) from None
    if outcome.quarantined or outcome.refused:
        raise Problem(409, f"It still cannot be used. {'; '.join(outcome.causes) or 'The device has no room for it.'}")
    told = f"{outcome.stored} stored, {outcome.duplicate} there already"
    await services.store.mark_replayed(item, told, by=origin(request))
    return _whole(await _item(request))


@operation(Tag.ALERTS, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(409,))
async def dismiss(request: web.Request, body: Dismissal) -> Whole:
    """Put aside what nobody needs. It stays in quarantine, with who said so and why."""
    item = await _item(request)
    if (state := _state(item)) != "open":
        raise Problem(409, f"It was {state} already.")
    await request.app[SERVICES].store.dismiss(item, body.reason, by=origin(request))
    return _whole(await _item(request))


async def _item(request: web.Request) -> Quarantined:
    found = await request.app[SERVICES].store.quarantined_item(path_id(request), factory_id=scope(request[USER]))
    if found is None:
        raise Problem(404, "There is nothing of this number in quarantine for you.")
    return found


def _check_can_be_replayed(request: web.Request, item: Quarantined) -> None:
    if item.dismissed_at is not None:
        raise Problem(409, f"It was dismissed by {item.dismissed_by}: {item.dismiss_reason}")
    if item.cause in NO_DATA:
        raise Problem(409, f"It cannot be handed in once more. {NO_DATA[item.cause]}")
    device = request.app[SERVICES].fleet.device(item.device_id)
    if device is None:
        raise Problem(409, f"The device {item.device_id} is not in the registry.")
    if device.factory_id != item.factory_id:
        raise Problem(409, f"The device {item.device_id} measures another factory now.")


def _whole(item: Quarantined) -> Whole:
    return Whole(**_values(item), body=_text(item.body), body_base64=base64.b64encode(item.body).decode())


def _values(item: Quarantined) -> dict[str, object]:
    values = asdict(item)
    del values["body"]
    return {**values, "text": cause_text(item.cause), "state": _state(item)}


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def _state(item: Quarantined) -> QuarantineState:
    if item.dismissed_at is not None:
        return "dismissed"
    return "replayed" if item.replayed_at is not None else "open"
