"""Alerts, and what could not be used."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from carbontrack.model import Role
from carbontrack.web.access import EVERYBODY, USER, scope
from carbontrack.web.contract import Tag, operation
from carbontrack.web.present import cause_text
from carbontrack.web.rest import MOST_RESULTS, Output, Page
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
    message: str
    raised_at: datetime
    cleared_at: datetime | None
    """Null while it fires."""


@operation(Tag.ALERTS, EVERYBODY)
async def alerts(request: web.Request) -> Page[AlertOut]:
    """The alerts that fire now, newest first."""
    found = await request.app[SERVICES].store.alerts(factory_id=scope(request[USER]), limit=MOST_RESULTS)
    return Page([AlertOut.model_validate(alert) for alert in found])


class Quarantined(Output):
    id: int
    device_id: str
    cause: str
    text: str
    """The cause in plain words."""
    detail: str
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
