"""The portals, the API, health and metrics: one aiohttp application."""

from __future__ import annotations

from aiohttp import web

from carbontrack.web import api, ledger_api, ledger_pages, ops, pages, templating
from carbontrack.web.access import PAGES, check_access, public
from carbontrack.web.auth import AUTHENTICATOR, Authenticator
from carbontrack.web.errors import answer_errors
from carbontrack.web.plugin_pages import PluginPages
from carbontrack.web.services import SERVICES, DemoAccount, Services

__all__ = ["DemoAccount", "Services", "create_app"]

LARGEST_BODY = 1024 * 1024
STATIC_MAX_AGE_S = 31_536_000


def create_app(services: Services) -> web.Application:
    """The application. Its routes are closed unless they say who may come in (:mod:`carbontrack.web.access`)."""
    app = web.Application(middlewares=[answer_errors, check_access], client_max_size=LARGEST_BODY)
    app[SERVICES] = services
    app[AUTHENTICATOR] = Authenticator(services)
    templating.set_up(app, services)
    app[PAGES] = PluginPages(services).find
    pages.add_routes(app)
    api.add_routes(app)
    ledger_api.add_routes(app)
    ledger_pages.add_routes(app)
    ops.add_routes(app)
    app.router.add_get("/static/{path:.+}", _static)
    app.on_shutdown.append(_stop_streams)
    return app


@public
async def _static(request: web.Request) -> web.StreamResponse:
    """A file of ours. Its address carries its content's hash, so that browsers may keep it."""
    path = (templating.STATIC / request.match_info["path"]).resolve()
    if not path.is_relative_to(templating.STATIC) or not path.is_file():
        raise web.HTTPNotFound(text="There is no such file.")
    cache = f"public, max-age={STATIC_MAX_AGE_S}, immutable" if "v" in request.query else "no-cache"
    return web.FileResponse(path, headers={"Cache-Control": cache})


async def _stop_streams(app: web.Application) -> None:
    app[SERVICES].live.close()
