"""The portal views that plugins bring, as they are now: aiohttp's own routes cannot be removed while it runs."""

from __future__ import annotations

import structlog
from aiohttp import web

from carbontrack.fence import HeldBack
from carbontrack.hookspecs import PortalRequest, PortalView
from carbontrack.web.access import MATCH, USER, Handler, allow
from carbontrack.web.reader import Reader
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render

log = structlog.get_logger(__name__)


class PluginPages:
    """The pages of all plugins, behind our own routes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._shown: tuple[PortalView, ...] | None = None
        self._router = web.UrlDispatcher()

    async def find(self, request: web.Request) -> web.UrlMappingMatchInfo:
        """The page that a request is for; its ``http_exception`` says if there is none."""
        views = tuple(self._services.plugins.contributions.portals.values())
        if views != self._shown:
            self._shown, self._router = views, _router_of(views)
        return await self._router.resolve(request)


def _router_of(views: tuple[PortalView, ...]) -> web.UrlDispatcher:
    router = web.UrlDispatcher()
    for view in views:
        try:
            router.add_get(view.path, _page_of(view))
        except (ValueError, TypeError, RuntimeError) as error:  # a plugin's path; the other pages go on
            log.error(  # noqa: TRY400  # the traceback would say nothing more
                "page left out: its path cannot be one", view=view.name, path=view.path, error=str(error)
            )
    return router


def _page_of(view: PortalView) -> Handler:
    @allow(view.roles)
    async def page(request: web.Request) -> web.StreamResponse:
        user = request[USER]
        path = dict(request[MATCH].items())
        asked = PortalRequest(user, path, dict(request.query), Reader(request.app[SERVICES], user))
        try:
            answer = await view.show(asked)
        except HeldBack as error:
            raise web.HTTPServiceUnavailable(text=f"This page failed several times and rests. {error}") from error
        if answer is None:
            raise web.HTTPNotFound(text="There is no such page for you. Perhaps the address is mistyped.")
        return render(request, answer.template, answer.values, view.templates)

    return page
