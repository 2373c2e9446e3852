"""The page of the audit log: who did what, in words, with what was before and after."""

from __future__ import annotations

from datetime import date
from typing import Any

from aiohttp import web
from pydantic import Field

from carbontrack.model import AuditAction
from carbontrack.tiers import local_day
from carbontrack.web.access import HQ_ONLY, NETWORK_ROLES, USER, allow
from carbontrack.web.api.audit import AuditQuery, found_events
from carbontrack.web.audit_words import ACTION_TITLES, Names
from carbontrack.web.forms import Form, without_blanks
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import filters, number, person_name
from carbontrack.web.rest import MOST_RESULTS, YEARS, Id, Input
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import gettext

EVENTS_SHOWN = 50


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get("/hq/audit/", audit_page)
    app.router.add_post("/hq/audit/verify", verify)


class PageQuery(Input):
    """What the page shows; days are local, and the last one counts as a whole."""

    actor: str | None = Field(None, max_length=200)
    action: AuditAction | None = None
    factory_id: Id | None = None
    subject_kind: str | None = Field(None, max_length=40)
    subject_id: str | None = Field(None, max_length=200)
    first_day: date | None = Field(None, alias="from", ge=date(YEARS[0], 1, 2), le=date(YEARS[-1], 1, 1))
    last_day: date | None = Field(None, alias="to", ge=date(YEARS[0], 1, 2), le=date(YEARS[-1], 1, 1))
    cursor: str | None = Field(None, max_length=400)

    def asked(self, services: Services) -> dict[str, Any]:
        """The same as the query of ``/api/audit/``."""
        zone = services.time_zone
        given = self.model_dump(mode="json", exclude_none=True, exclude={"first_day", "last_day"})
        if self.first_day is not None:
            given["from"] = local_day(self.first_day, zone)[0].isoformat()
        if self.last_day is not None:
            given["to"] = local_day(self.last_day, zone)[1].isoformat()
        return given


@allow(NETWORK_ROLES)
async def audit_page(request: web.Request) -> web.StreamResponse:
    """The newest events, or those before the cursor, of who, what, where and when was chosen."""
    services, store = request.app[SERVICES], request.app[SERVICES].store
    chosen = without_blanks(request.query, *request.query)
    asked = PageQuery.model_validate(chosen).asked(services)
    events, after = await found_events(request, AuditQuery.model_validate(asked | {"limit": EVENTS_SHOWN}))
    everybody, factories = await store.users(), await store.factories()
    names = Names(
        {str(user.id): person_name(user) for user in everybody},
        {str(factory.id): factory.name for factory in factories},
        {str(stack.id): stack.name for stack in await store.stacks()},
        filters(services.time_zone)["local_moment"],
    )
    asked.pop("cursor", None)
    values = {
        "events": [names.told(event) for event in events],
        "filter": Form("filter", chosen),
        "actions": {action: gettext(title) for action, title in ACTION_TITLES.items()},
        "people": everybody,
        "factories": [(str(factory.id), factory.name) for factory in factories],
        "subject": names.subject(chosen["subject_kind"], chosen.get("subject_id", ""))
        if "subject_kind" in chosen
        else "",
        "is_filtered": bool(chosen.keys() - {"cursor"}),
        "is_later": "cursor" in chosen,
        "older": request.rel_url.update_query(cursor=after).raw_path_qs if after else "",
        "newest": request.rel_url.without_query_params("cursor").raw_path_qs,
        "csv": str(request.rel_url.with_path("/api/audit/").with_query(format="csv", **asked)),
        "most": MOST_RESULTS,
        "may_see_people": request[USER].role in HQ_ONLY,
    }
    return render(request, "audit.html", values)


@allow(NETWORK_ROLES)
async def verify(request: web.Request) -> web.StreamResponse:
    """Work out the whole chain of hashes again, and say whether it holds."""
    found = await request.app[SERVICES].store.verify_audit()
    if found.broken_id is not None:
        text = gettext(
            "The log is not as it was written. Event %(number)s: %(why)s.",
            number=number(found.broken_id),
            why=found.why,
        )
        advice = gettext(
            "All events before it are in order. Compare with a backup, and find out who could write to the database."
        )
        raise sent_on(request, "/hq/audit/", Notice(text, advice=advice, is_bad=True))
    text = gettext("All %(count)s events are as they were written. The head of the log:", count=number(found.count))
    advice = gettext(
        "Note it outside of this platform: only so it shows, next time, if the newest events were cut off."
    )
    raise sent_on(request, "/hq/audit/", Notice(text, f"{found.count}:{found.sha256}", advice))
