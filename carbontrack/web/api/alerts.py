"""Alerts, and what could not be used."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.model import Role
from carbontrack.web.access import EVERYBODY, USER, scope
from carbontrack.web.api.entries import visible
from carbontrack.web.contract import Tag, operation
from carbontrack.web.present import cause_text
from carbontrack.web.rest import Id, Output, Page, Paged, bad_cursor, read_cursor, write_cursor, zoned
from carbontrack.web.services import SERVICES

QUARANTINE_ROLES = frozenset({Role.OPERATOR, Role.HQ_MANAGER, Role.AUDITOR, Role.FACTORY_MANAGER})


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/alerts/", alerts)
    app.router.add_get("/api/quarantine/", quarantine)


class AlertOut(Output):
    id: int
    device_id: str | None
    """Null for the alert of a factory as a whole."""
    factory_id: int
    stack_id: int | None
    rule: str
    """The alert's name in the configuration."""
    severity: str
    """As the configuration says: `info`, `warning` or `critical`."""
    message: str
    raised_at: datetime
    cleared_at: datetime | None
    """Null while it fires."""


class AlertQuery(Paged):
    factory_id: Id | None = None
    device_id: str | None = Field(None, max_length=64)
    rule: str | None = Field(None, max_length=80)
    state: Literal["firing", "all"] = "firing"
    """Those that fire now, or those that have cleared as well."""


@operation(Tag.ALERTS, EVERYBODY, problems=(404,))
async def alerts(request: web.Request, query: AlertQuery) -> Page[AlertOut]:
    """The alerts that fire now, or all that ever did, newest first."""
    found = await request.app[SERVICES].store.alerts(
        factory_id=visible(request[USER], query.factory_id),
        device_id=query.device_id,
        rule=query.rule,
        only_open=query.state == "firing",
        after=_after(query.cursor),
        limit=query.limit + 1,
    )
    shown = [AlertOut.model_validate(alert) for alert in found[: query.limit]]
    last = [shown[-1].raised_at.isoformat(), shown[-1].id] if len(found) > query.limit else None
    return Page(shown, write_cursor(last) if last else None)


def _after(cursor: str | None) -> tuple[datetime, int] | None:
    if cursor is None:
        return None
    match read_cursor(cursor):
        case [str(raised_at), int(number)] if 0 < number < 2**63:
            with suppress(ValueError):
                return zoned("cursor", datetime.fromisoformat(raised_at)), number
    raise bad_cursor()


class Quarantined(Output):
    id: int
    device_id: str
    cause: str
    """A word of docs/protocol.md."""
    text: str
    """The cause in plain words."""
    detail: str
    """What exactly was wrong."""
    received_at: datetime
    body: str
    """The first 1000 bytes of what was sent, as text."""


@operation(Tag.ALERTS, QUARANTINE_ROLES)
async def quarantine(request: web.Request) -> Page[Quarantined]:
    """What could not be used, newest first, with its cause and the beginning of what was sent."""
    found = await request.app[SERVICES].store.quarantined(factory_id=scope(request[USER]), limit=100)
    return Page(
        [
            Quarantined(
                id=item.id,
                device_id=item.device_id,
                cause=item.cause,
                text=cause_text(item.cause),
                detail=item.detail,
                received_at=item.received_at,
                body=item.body[:1000].decode(errors="replace"),
            )
            for item in found
        ]
    )
