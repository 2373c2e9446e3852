"""Alerts, and what people do about them."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.web import alerts as rules
from carbontrack.web.access import EVERYBODY, USER
from carbontrack.web.alerts import ALERT_ROLES, Acknowledgement, Shelf
from carbontrack.web.api.entries import visible
from carbontrack.web.contract import Tag, operation
from carbontrack.web.rest import Id, Output, Page, Paged, bad_cursor, read_cursor, write_cursor, zoned
from carbontrack.web.services import SERVICES

ALERT = "/api/alerts/{id:\\d{1,9}}/"


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/alerts/", alerts)
    app.router.add_get(ALERT, alert)
    app.router.add_post(f"{ALERT}ack/", acknowledge)
    app.router.add_post(f"{ALERT}shelve/", shelve)
    app.router.add_delete(f"{ALERT}shelve/", unshelve)


class AlertOut(Output):
    id: int
    device_id: str | None
    """Null for the alert of a factory as a whole, or of the network."""
    factory_id: int | None
    """Null for an alert of the whole network, which stands for those that are `part_of` it."""
    stack_id: int | None
    rule: str
    """The alert's name in the configuration."""
    severity: str
    """As the configuration says: `info`, `warning` or `critical`."""
    message: str
    raised_at: datetime
    cleared_at: datetime | None
    """Null while it fires."""
    value: float | None
    """What was measured, where the rule compares."""
    limit: float | None
    """What it was compared with."""
    unit: str
    """The unit of both."""
    acknowledged_at: datetime | None
    """When somebody first said to have seen it; null: nobody has."""
    acknowledged_by: str
    """Who that was."""
    acknowledge_comment: str
    """What is done about it."""
    shelved_until: datetime | None
    """Nobody is told of it before."""
    shelved_by: str
    """Who has put it aside."""
    shelve_comment: str
    """Why."""
    is_late: bool
    """It would have fired: found in readings that came late. Nobody was told."""
    part_of: int | None
    """The alert of the whole network that it is part of."""


class AlertQuery(Paged):
    factory_id: Id | None = None
    device_id: str | None = Field(None, max_length=64)
    rule: str | None = Field(None, max_length=80)
    severity: Literal["info", "warning", "critical"] | None = None
    state: Literal["firing", "all"] = "firing"
    """Those that fire now, or those that have cleared as well."""
    acknowledged: bool | None = None
    part_of: Id | None = None


@operation(Tag.ALERTS, EVERYBODY, problems=(404,))
async def alerts(request: web.Request, query: AlertQuery) -> Page[AlertOut]:
    """The alerts that fire now, or all that ever did, newest first."""
    found = await request.app[SERVICES].store.alerts(
        factory_id=visible(request[USER], query.factory_id),
        device_id=query.device_id,
        rule=query.rule,
        severity=query.severity,
        only_open=query.state == "firing",
        is_acknowledged=query.acknowledged,
        part_of=query.part_of,
        after=after(query.cursor),
        limit=query.limit + 1,
    )
    shown = [AlertOut.model_validate(alert) for alert in found[: query.limit]]
    last = [shown[-1].raised_at.isoformat(), shown[-1].id] if len(found) > query.limit else None
    return Page(shown, write_cursor(last) if last else None)


def after(cursor: str | None) -> tuple[datetime, int] | None:
    """Where a list of alerts goes on. Raises :class:`Problem` for a cursor of another list."""
    if cursor is None:
        return None
    match read_cursor(cursor):
        case [str(raised_at), int(number)] if 0 < number < 2**63:
            with suppress(ValueError):
                return zoned("cursor", datetime.fromisoformat(raised_at)), number
    raise bad_cursor()


@operation(Tag.ALERTS, EVERYBODY)
async def alert(request: web.Request) -> AlertOut:
    """One alert."""
    return AlertOut.model_validate(await rules.find_alert(request))


@operation(Tag.ALERTS, ALERT_ROLES)
async def acknowledge(request: web.Request, body: Acknowledgement) -> AlertOut:
    """Note that somebody has seen an alert, and of one of the network all that are part of it.

    It is told to nobody again then. Who was first stays.
    """
    return AlertOut.model_validate(await rules.acknowledge(request, body))


@operation(Tag.ALERTS, ALERT_ROLES, problems=(409,))
async def shelve(request: web.Request, body: Shelf) -> AlertOut:
    """Put an alert aside for a time, with a reason: nobody is told of it before."""
    return AlertOut.model_validate(await rules.shelve(request, body))


@operation(Tag.ALERTS, ALERT_ROLES)
async def unshelve(request: web.Request) -> AlertOut:
    """Have people told of an alert again."""
    return AlertOut.model_validate(await rules.unshelve(request))
