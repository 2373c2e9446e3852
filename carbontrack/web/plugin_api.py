"""Plugins in the API: how they stand, and a reload of the configuration."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from pydantic import Field

from carbontrack.hookspecs import PluginState, PluginStatus, ReloadResult
from carbontrack.web.access import NETWORK_ROLES, REGISTRY_ROLES, USER, allow
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Input, answer, read_body, results
from carbontrack.web.services import SERVICES, Services

UNKNOWN = "There is no plugin of this name. One that is new is found by a reload without a name."


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/plugins/", plugins)
    app.router.add_post("/api/plugins/reload/", reload)
    app.router.add_get("/api/plugins/{name}/", plugin)


@allow(NETWORK_ROLES)
async def plugins(request: web.Request) -> web.StreamResponse:
    """Every plugin there is, in the order in which they were found."""
    return results([_plugin(status) for status in request.app[SERVICES].plugins.statuses()])


@allow(NETWORK_ROLES)
async def plugin(request: web.Request) -> web.StreamResponse:
    """One plugin."""
    return answer(_plugin(known_plugin(request.app[SERVICES], request.match_info["name"])))


def known_plugin(services: Services, name: str) -> PluginStatus:
    """How the plugin of a name stands. Raises :class:`Problem` where there is none."""
    for status in services.plugins.statuses():
        if status.name == name:
            return status
    raise Problem(404, UNKNOWN)


def _plugin(status: PluginStatus) -> dict[str, Any]:
    manifest = status.manifest
    return {
        "name": status.name,
        "title": manifest.title if manifest else None,
        "version": manifest.version if manifest else None,
        "origin": status.origin,
        "kinds": manifest.kinds if manifest else (),
        "tier": manifest.tier if manifest else None,
        "documentation": manifest.documentation if manifest else "",
        "codeowners": manifest.codeowners if manifest else (),
        "state": status.state,
        "brings": status.brings,
        "error": status.error,
        "advice": status.advice,
        "retry_at": status.retry_at,
        "notes": status.notes,
        "errors": status.errors,
        "options": status.options,
    }


class Reload(Input):
    """What to reload in any case; what has changed is reloaded without being named."""

    name: str | None = Field(None, min_length=1, max_length=200)


@allow(REGISTRY_ROLES)
async def reload(request: web.Request) -> web.StreamResponse:
    """Read the configuration anew and let plugins, alerts and notifications follow it."""
    name = (await read_body(request, Reload)).name if request.can_read_body else None
    result = await reload_for(request, name or "")
    if result.problems:
        text = "The configuration cannot be used, so nothing was changed."
        raise Problem(409, text, tuple(("", problem) for problem in result.problems))
    return answer(_result(result))


def _result(result: ReloadResult) -> dict[str, Any]:
    """A reload that took place; one for a bad configuration is a problem instead."""
    return {name: value for name, value in msgspec.to_builtins(result).items() if name != "problems"}


async def reload_for(request: web.Request, name: str) -> ReloadResult:
    """Reload the configuration for whoever is signed in, and a plugin in any case where one is named.

    Raises :class:`Problem` where no such plugin could be reloaded.
    """
    services = request.app[SERVICES]
    if name and known_plugin(services, name).state is PluginState.DISABLED:
        raise Problem(409, f"The plugin {name} is disabled. Enable it in the configuration, then reload that.")
    return await services.reloader.reload(request[USER].email, again=name)
