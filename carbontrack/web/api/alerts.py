"""Alerts."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from carbontrack.web.access import EVERYBODY, USER, scope
from carbontrack.web.contract import Tag, operation
from carbontrack.web.rest import MOST_RESULTS, Output, Page
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/alerts/", alerts)


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
