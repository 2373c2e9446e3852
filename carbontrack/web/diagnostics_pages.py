"""The bundle of diagnostics as a download, for those who run the platform."""

from __future__ import annotations

from aiohttp import web

from carbontrack.model import AuditAction
from carbontrack.web.access import REGISTRY_ROLES, allow, origin
from carbontrack.web.errors import Problem
from carbontrack.web.services import SERVICES
from carbontrack.words import gettext


def add_routes(app: web.Application) -> None:
    """Add this route to the application."""
    app.router.add_post("/hq/diagnostics", download)


@allow(REGISTRY_ROLES)
async def download(request: web.Request) -> web.StreamResponse:
    """Gather the diagnostics and hand them out; that somebody took them is in the audit log before they leave."""
    services = request.app[SERVICES]
    if services.diagnose is None:
        raise Problem(503, gettext("This core has no diagnostics. On its machine: carbontrack diagnostics"))
    content = await services.diagnose()
    await services.store.note(origin(request), AuditAction.DIAGNOSTICS_TAKEN, "diagnostics", "")
    name = f"carbontrack-diagnostics-{services.clock():%Y-%m-%dT%H%M%SZ}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=content, content_type="application/zip", headers=headers)
