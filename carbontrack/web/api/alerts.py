"""Alerts."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.web.access import EVERYBODY, USER
from carbontrack.web.api.entries import visible
from carbontrack.web.contract import Tag, operation
from carbontrack.web.rest import Id, Output, Page, Paged, bad_cursor, read_cursor, write_cursor, zoned
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
