"""Who may do what with compliance reports, and how one is handed out: the same for the pages and the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import structlog
from aiohttp import web

from carbontrack.model import Factory, Role, User
from carbontrack.plugins import RenderError
from carbontrack.report_desk import Job
from carbontrack.store import KeptReport
from carbontrack.web.access import HQ_ONLY, NETWORK_ROLES, REPORTERS, USER, WRITERS
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import gettext as _

log = structlog.get_logger(__name__)

StepName = Literal["prepare", "review", "approve", "return", "withdraw"]
STEP_ROLES: Mapping[StepName, frozenset[Role]] = {
    "prepare": WRITERS,
    "review": REPORTERS,
    "approve": HQ_ONLY,
    "return": REPORTERS,
    "withdraw": REPORTERS,
}


def own_factory(user: User) -> int | None:
    """Whose reports somebody sees: None for all."""
    return None if user.role in NETWORK_ROLES else user.factory_id or 0


async def report_for(request: web.Request, report_id: int) -> KeptReport:
    """A report that whoever asks may see. Raises HTTPNotFound for any other."""
    found = await request.app[SERVICES].store.report(report_id, own_factory(request[USER]))
    if found is None:
        raise web.HTTPNotFound(text=_("There is no such report for you."))
    return found


async def factories_of(services: Services, kept: KeptReport) -> tuple[Factory, ...]:
    """The factories of a report that are still there, in its order."""
    known = {it.id: it for it in await services.store.factories()}
    return tuple(known[it] for it in kept.factory_ids if it in known)


def job_for(request: web.Request) -> Job:
    """A job of the address, about factories that whoever asks may see. Raises HTTPNotFound for any other."""
    job, own = request.app[SERVICES].desk.job(request.match_info["job"]), own_factory(request[USER])
    if job is None or (own is not None and job.factory_ids != (own,)):
        raise web.HTTPNotFound(text=_("That report is not being made. Perhaps it is in the library already."))
    return job


async def report_response(request: web.Request, kept: KeptReport, name: str) -> web.Response:
    """A report as a file of a format. Raises HTTPBadRequest without such a format, and :class:`RenderError`."""
    services = request.app[SERVICES]
    formats = services.plugins.contributions.compliance_formats
    chosen = formats.get(name)
    if chosen is None:
        known = ", ".join(sorted(formats))
        raise web.HTTPBadRequest(text=_("There is no format %(name)s. There are: %(known)s.", name=name, known=known))
    try:
        body = await services.desk.file(kept, name)
    except RenderError as error:
        log.warning("report failed", format=name, report=kept.reference, error=str(error))
        raise
    file_name = f"{kept.reference}-{name}.{chosen.extension}"
    headers = {"Content-Type": chosen.media_type, "Content-Disposition": f'attachment; filename="{file_name}"'}
    return web.Response(body=body, headers=headers)
