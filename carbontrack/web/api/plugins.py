"""Plugins: how they stand, and a reload of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web
from pydantic import Field

from carbontrack.hookspecs import Kind, PluginState, PluginStatus, ReloadResult, Tier
from carbontrack.model import Scope
from carbontrack.reloading import note_reload
from carbontrack.web.access import NETWORK_ROLES, REGISTRY_ROLES, USER, origin
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Input, Output, Page, read_body
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import gettext

UNKNOWN = "There is no plugin of this name. One that is new is found by a reload without a name."


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/plugins/", plugins)
    app.router.add_post("/api/plugins/reload/", reload)
    app.router.add_get("/api/plugins/{name}/", plugin)


class PluginOut(Output):
    name: str
    """How the configuration speaks of it."""
    title: str | None
    """Of its manifest, as the fields after it; null or empty where that was not read."""
    version: str | None
    origin: str
    """`Carbon Track`, the package, or the file that it is from."""
    kinds: list[Kind]
    tier: Tier | None
    documentation: str
    """An address, or a file of the repository."""
    codeowners: list[str]
    """Who looks after it."""
    state: PluginState
    brings: list[str]
    """What it contributes, such as `sensor ct_v1`."""
    error: str
    """Why it does not run, or what failed last."""
    advice: str
    """What a person can do about the error."""
    retry_at: datetime | None
    notes: list[str]
    """What its check had to say."""
    errors: int
    """How many of its calls failed since it was loaded."""
    options: Mapping[str, Any]
    """With secrets masked."""

    @classmethod
    def of(cls, status: PluginStatus) -> PluginOut:
        manifest = status.manifest
        return cls(
            name=status.name,
            title=manifest.title if manifest else None,
            version=manifest.version if manifest else None,
            origin=status.origin,
            kinds=list(manifest.kinds) if manifest else [],
            tier=manifest.tier if manifest else None,
            documentation=manifest.documentation if manifest else "",
            codeowners=list(manifest.codeowners) if manifest else [],
            state=status.state,
            brings=list(status.brings),
            error=status.error,
            advice=status.advice,
            retry_at=status.retry_at,
            notes=list(status.notes),
            errors=status.errors,
            options=status.options,
        )


@operation(Tag.PLUGINS, NETWORK_ROLES)
async def plugins(request: web.Request) -> Page[PluginOut]:
    """Every plugin there is, in the order in which they were found."""
    return Page([PluginOut.of(status) for status in request.app[SERVICES].plugins.statuses()])


@operation(Tag.PLUGINS, NETWORK_ROLES)
async def plugin(request: web.Request) -> PluginOut:
    """One plugin."""
    return PluginOut.of(known_plugin(request.app[SERVICES], request.match_info["name"]))


def known_plugin(services: Services, name: str) -> PluginStatus:
    """How the plugin of a name stands. Raises :class:`Problem` where there is none."""
    for status in services.plugins.statuses():
        if status.name == name:
            return status
    raise Problem(404, UNKNOWN)


class Reload(Input):
    """What to reload in any case; what has changed is reloaded without being named."""

    name: str | None = Field(None, min_length=1, max_length=200)


class ReloadOut(Output):
    at: datetime
    """When."""
    by: str
    """Who asked for it."""
    added: list[str]
    """Names of plugins."""
    removed: list[str]
    """Names of plugins."""
    reloaded: list[str]
    """Names of plugins."""
    failed: dict[str, str]
    """Plugins that could not be loaded, and why; one that ran before goes on as it was."""
    left_out: list[str]
    """What of the configuration cannot be used with the plugins that there are now."""
    needs_restart: list[str]
    """Sections of the configuration whose changes count from the next start on."""


@operation(
    Tag.PLUGINS,
    REGISTRY_ROLES,
    scope=Scope.REGISTRY,
    problems=(404, 409),
    reads={"application/json": Reload},
)
async def reload(request: web.Request) -> ReloadOut:
    """Read the configuration anew and let plugins, alerts and notifications follow it.

    The body may be left out. The answer comes when all is done, which may take a minute. 409: the configuration cannot
    be used, and nothing was changed; its problems are the messages of `errors`.
    """
    name = (await read_body(request, Reload)).name if request.can_read_body else None
    result = await reload_for(request, name or "")
    if result.problems:
        text = "The configuration cannot be used, so nothing was changed."
        raise Problem(409, text, tuple(("", problem) for problem in result.problems))
    return ReloadOut.model_validate(msgspec.to_builtins(result))


async def reload_for(request: web.Request, name: str) -> ReloadResult:
    """Reload the configuration for whoever is signed in, and a plugin in any case where one is named.

    Raises :class:`Problem` where no such plugin could be reloaded.
    """
    services = request.app[SERVICES]
    if name and known_plugin(services, name).state is PluginState.DISABLED:
        text = gettext("The plugin %(name)s is disabled. Enable it in the configuration, then reload that.", name=name)
        raise Problem(409, text)
    result = await services.reloader.reload(request[USER].email, again=name)
    await note_reload(services.store, origin(request), result)
    return result
