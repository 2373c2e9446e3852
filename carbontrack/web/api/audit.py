"""The audit log: who did what, when, from where; what was before, and after."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from carbontrack.model import AuditAction, AuditEvent
from carbontrack.web.access import NETWORK_ROLES
from carbontrack.web.contract import Tag, operation
from carbontrack.web.rest import Id, Output, Page, Paged, id_before, write_cursor, zoned
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/audit/", audit)
    app.router.add_get("/api/audit/verify/", verify)


class EventOut(Output):
    id: int
    """Counts from 1 without a gap."""
    at: datetime
    """When."""
    actor: str
    """An e-mail address, a device, `command line` or `carbontrack`."""
    user_id: int | None
    address: str
    token: str
    """The name of the API token that it came by."""
    action: AuditAction
    subject_kind: str
    """What was changed, such as `user` or `device`; `subject_id` says which."""
    subject_id: str
    factory_id: int | None
    before: dict[str, Any] | None
    """Of a change, the fields that differ."""
    after: dict[str, Any] | None
    """Of a change, the fields that differ."""
    sha256: str
    """Over the hash of the event before and this one: see docs/security.md."""


class AuditQuery(Paged):
    factory_id: Id | None = None
    actor: str | None = Field(None, max_length=200)
    action: AuditAction | None = None
    subject_kind: str | None = Field(None, max_length=40)
    subject_id: str | None = Field(None, max_length=200)
    since: datetime | None = Field(None, alias="from")
    until: datetime | None = Field(None, alias="to")


@operation(Tag.AUDIT, NETWORK_ROLES)
async def audit(request: web.Request, query: AuditQuery) -> Page[EventOut]:
    """What was done, the newest first."""
    events, after = await found_events(request, query)
    return Page([EventOut.model_validate(event) for event in events], after)


async def found_events(request: web.Request, query: AuditQuery) -> tuple[list[AuditEvent], str | None]:
    """One page of the log, and the cursor of the next; the page of the portal shows the same."""
    found = await request.app[SERVICES].store.audit_events(
        **query.model_dump(include={"factory_id", "actor", "action", "subject_kind", "subject_id"}),
        since=zoned("from", query.since) if query.since else None,
        until=zoned("to", query.until) if query.until else None,
        after_id=id_before(query.cursor),
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    return shown, write_cursor([shown[-1].id]) if len(found) > query.limit else None


class Verified(Output):
    ok: bool
    """Whether every event is as it was written."""
    count: int
    """How many events are in order."""
    sha256: str
    """Of the last one that is: note it with the count outside of this platform, so that a cut end shows."""
    broken_id: int | None
    why: str
    """What is wrong with the first one that is not."""


@operation(Tag.AUDIT, NETWORK_ROLES)
async def verify(request: web.Request) -> Verified:
    """Work out the whole chain of hashes again: whether the log is as it was written."""
    found = await request.app[SERVICES].store.verify_audit()
    return Verified(
        ok=found.broken_id is None,
        count=found.count,
        sha256=found.sha256,
        broken_id=found.broken_id,
        why=found.why,
    )
