"""What people may do about an alert: the same for the API and for the pages."""

from __future__ import annotations

from datetime import datetime, timedelta

from aiohttp import web
from pydantic import Field

from carbontrack.model import Alert, Role
from carbontrack.web.access import USER, origin, scope
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Input, path_id, zoned
from carbontrack.web.services import SERVICES
from carbontrack.words import N_, gettext

ALERT_ROLES = frozenset({Role.HQ_MANAGER, Role.OPERATOR, Role.FACTORY_MANAGER, Role.FACTORY_CLERK})
"""Who acts on alerts; all others look at them."""
LONGEST_SHELF = timedelta(days=31)


class Acknowledgement(Input):
    comment: str = Field("", max_length=500, examples=["The fan belt is being changed."])
    """What is done about it, for those who look next."""


class Shelf(Input):
    until: datetime = Field(examples=["2026-03-02T06:00:00Z"])
    """Nobody is told of the alert before; at most 31 days from now."""
    comment: str = Field(min_length=1, max_length=500, examples=["The chimney is opened for its yearly cleaning."])
    """Why."""


async def find_alert(request: web.Request) -> Alert:
    """The alert of the address. Raises :class:`Problem` (404) for one that is not there for whoever asks."""
    found = await request.app[SERVICES].store.alert(path_id(request), scope(request[USER]))
    if found is None:
        raise Problem(404, N_("There is no such alert for you."))
    return found


async def acknowledge(request: web.Request, given: Acknowledgement) -> Alert:
    """Note that whoever asks has seen the alert. Who was first stays; a second time changes nothing."""
    services, alert = request.app[SERVICES], await find_alert(request)
    return await services.store.acknowledge_alert(alert.id, given.comment, services.clock(), by=origin(request))


async def shelve(request: web.Request, given: Shelf) -> Alert:
    """Put the alert aside. Raises :class:`Problem` where it has cleared, or for a time that cannot be."""
    services, alert = request.app[SERVICES], await find_alert(request)
    now, until = services.clock(), zoned("until", given.until)
    if not now < until <= now + LONGEST_SHELF:
        text = gettext("must lie ahead, and at most %(count)s days", count=LONGEST_SHELF.days)
        raise Problem(422, WRONG, (("until", text),))
    if alert.cleared_at is not None:
        raise Problem(409, N_("This alert has cleared: there is nothing to shelve."))
    return await services.store.shelve_alert(alert.id, until, given.comment, by=origin(request))


async def unshelve(request: web.Request) -> Alert:
    """Have people told of the alert again."""
    services, alert = request.app[SERVICES], await find_alert(request)
    return await services.store.unshelve_alert(alert.id, by=origin(request))
