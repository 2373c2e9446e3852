"""The portal views that plugins bring, as they are now: aiohttp's own routes cannot be removed while it runs."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence

import structlog
from aiohttp import web

from carbontrack.fence import HeldBack
from carbontrack.hookspecs import Page, PortalRequest, PortalView
from carbontrack.model import Unavailable
from carbontrack.plugins import PluginHost
from carbontrack.plugins.contributions import FencedView
from carbontrack.web.access import NETWORK_ROLES, PAGE, USER, Handler, allow
from carbontrack.web.errors import Problem
from carbontrack.web.reader import Reader
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import Environments, render
from carbontrack.words import gettext

log = structlog.get_logger(__name__)

RESERVED = ("/api/", "/static/")
"""Below these is nothing of a plugin's: whoever mistypes an address there is a program."""
SAMPLES = ("x", "1")
"""What a variable part of an address may be, to see whose page it would be."""


class PluginPages:
    """The pages of all plugins, behind our own routes."""

    def __init__(self, plugins: PluginHost, environments: Environments) -> None:
        self._plugins = plugins
        self._environments = environments
        self._router = web.UrlDispatcher()
        plugins.followers.append(self.follow)
        self.follow()

    def follow(self) -> None:
        """Show the pages that the plugins bring now, and hold nothing of those that are gone."""
        self._router = _router_of(self._plugins.contributions.portals.values())
        self._environments.forget()

    async def find(self, request: web.Request) -> web.UrlMappingMatchInfo:
        """The page that a request is for; its ``http_exception`` says if there is none."""
        return await self._router.resolve(request)


PLUGIN_PAGES = web.AppKey("plugin_pages", PluginPages)


@web.middleware
async def find_plugin_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Where an address is none of ours, look whether it is a plugin's."""
    unknown = request.match_info.http_exception
    if unknown is not None and unknown.status == 404 and not request.path.startswith(RESERVED):
        request[PAGE] = await request.app[PLUGIN_PAGES].find(request)
    return await handler(request)


@web.middleware
async def show_plugin_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show the plugin's page that was found, now that it is known who asks."""
    return await (request[PAGE].handler if PAGE in request else handler)(request)


def _router_of(views: Iterable[FencedView]) -> web.UrlDispatcher:
    router = web.UrlDispatcher()
    for view in views:
        router.add_get(view.path, _page_of(view))
    return router


def _page_of(view: FencedView) -> Handler:
    draw = view.fence.guard(render, lambda _, template, *__: f"template {template} of page {view.name}")

    @allow(view.roles)
    async def page(request: web.Request) -> web.StreamResponse:
        user = request[USER]
        asked = PortalRequest(
            user, dict(request[PAGE].items()), dict(request.query), Reader(request.app[SERVICES], user)
        )
        try:
            answer: Page | None = await view.show(asked)
            if answer is not None:
                response: web.Response = draw(request, answer.template, answer.values, view.templates)
                return response
        except Unavailable:
            raise
        except HeldBack as error:
            text = gettext(
                "This page failed several times and is held back. It is tried again by itself after a while."
            )
            raise Problem(503, _with_details(request, text, str(error))) from error
        except Exception as error:
            whose, told = view.fence.name, view.fence.hide(traceback.format_exc())
            log.error("page failed", page=view.name, plugin=whose, traceback=told)  # noqa: TRY400  # with the exception it would tell secrets
            text = gettext("The plugin %(name)s, which brings this page, failed. The log says how.", name=whose)
            details = view.fence.hide(f"{type(error).__name__}: {error}")
            raise Problem(500, _with_details(request, text, details)) from error
        raise web.HTTPNotFound(text=gettext("There is no such page for you. Perhaps the address is mistyped."))

    return page


def _with_details(request: web.Request, text: str, details: str) -> str:
    """A text with what an error says, for whoever can do something about it."""
    return f"{text} {details}" if request[USER].role in NETWORK_ROLES else text


# --- addresses


def check_addresses(
    pages: Sequence[PortalView], others: Sequence[PortalView], ours: Sequence[web.AbstractResource]
) -> None:
    """Raise ValueError for the first page whose address cannot be one, or is taken: by ``ours``, or by other pages."""
    taken = [("Carbon Track itself", resource) for resource in ours]
    taken += [(f"the page {view.name}", resource) for view in others if (resource := _resource(view)) is not None]
    for view in pages:
        what = f"the path {view.path!r} of its page {view.name}"
        resource = _resource(view)
        if resource is None:
            raise ValueError(f"{what} cannot be one: write it like '/quality/' or '/quality/{{slug}}/'")
        samples = _samples(resource)
        if view.path.startswith((*RESERVED, "/{")) or view.path == "/":
            raise ValueError(f"{what} must begin with a name of its own, such as '/quality/', and not with '/api/'")
        for whose, other in taken:
            if any(_matches(other, sample) for sample in samples):
                raise ValueError(f"{what} is taken by {whose}")
        taken.append((f"the page {view.name}", resource))


def _resource(view: PortalView) -> web.Resource | None:
    try:
        return web.UrlDispatcher().add_resource(view.path)
    except (ValueError, TypeError, RuntimeError):
        return None


def _samples(resource: web.Resource) -> list[str]:
    """Addresses of a page."""
    info = resource.get_info()
    if "path" in info:
        return [info["path"]]
    names = info["pattern"].groupindex
    filled = [info["formatter"].format_map(dict.fromkeys(names, value)) for value in SAMPLES]
    return [sample for sample in filled if info["pattern"].fullmatch(sample)]


def _matches(resource: web.AbstractResource, path: str) -> bool:
    info = resource.get_info()
    return path == info["path"] if "path" in info else bool(info["pattern"].fullmatch(path))
