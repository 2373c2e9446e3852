"""Who may do what. Every route is closed until it says who may come in; the check is one middleware for all of them."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from aiohttp import web

from carbontrack.model import ApiToken, Device, Origin, Role, Scope, User
from carbontrack.web.auth import Caller, caller_of, cookie_name, session_token
from carbontrack.web.device_auth import DEVICES
from carbontrack.web.services import SERVICES
from carbontrack.words import gettext, in_language_of, reader, write_for

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

NETWORK_ROLES = frozenset({Role.HQ_MANAGER, Role.AUDITOR, Role.OPERATOR})
"""Who sees every factory; all others see their own and nothing else."""
REGISTRY_ROLES = frozenset({Role.HQ_MANAGER, Role.OPERATOR})
"""Who may register, change and remove devices, and take parked ones back to work."""
WRITERS = frozenset({Role.HQ_MANAGER, Role.FACTORY_MANAGER, Role.FACTORY_CLERK})
"""Who enters energy and tea."""
REPORTERS = frozenset({Role.HQ_MANAGER, Role.FACTORY_MANAGER})
"""Who reports a period."""
HQ_ONLY = frozenset({Role.HQ_MANAGER})
EVERYBODY = frozenset(Role)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
USER = web.RequestKey("user", User)
TOKEN = web.RequestKey("token", ApiToken)
"""The API token that a request came with, where it came with one."""
DEVICE = web.RequestKey("device", Device)
"""The device that has signed in with its own password, where a route is for devices."""
PAGE = web.RequestKey("page", web.UrlMappingMatchInfo)
"""The plugin's page that is asked for, where the address is none of ours (:mod:`carbontrack.web.plugin_pages`)."""


@dataclass(frozen=True, slots=True)
class _Access:
    """``roles`` None: nobody need sign in. ``metrics``: the bearer token of the metrics, where one is set.

    ``canary``: the token that the core's own canary has, and nobody else. ``scope``: what an API token needs to come
    in; None: reading is enough for what only reads, and all else is for people who have signed in. ``devices``: a
    device with its password may come in as well.
    """

    roles: frozenset[Role] | None
    scope: Scope | None = None
    metrics: bool = False
    canary: bool = False
    devices: bool = False


def allow(roles: frozenset[Role], scope: Scope | None = None, *, devices: bool = False) -> Callable[[H], H]:
    """Open a handler to people of these roles, to API tokens that have the scope beside, and perhaps to devices."""

    def mark(handler: H) -> H:
        handler.__dict__["access"] = _Access(roles, scope, devices=devices)
        return handler

    return mark


def public(handler: H) -> H:
    """Open a handler to everybody, signed in or not."""
    handler.__dict__["access"] = _Access(None)
    return handler


def for_metrics(handler: H) -> H:
    """Open a handler to whoever has the metrics token; to everybody where none is set."""
    handler.__dict__["access"] = _Access(None, metrics=True)
    return handler


def for_canary(handler: H) -> H:
    """Open a handler to the core's own canary alone."""
    handler.__dict__["access"] = _Access(None, canary=True)
    return handler


@web.middleware
async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through to its handler if the route is open to whoever asks."""
    match = request.get(PAGE, request.match_info)
    if match.http_exception is not None:
        raise match.http_exception
    access = getattr(match.handler, "access", None)
    if access is None:
        raise web.HTTPForbidden(text=gettext("This address is open to nobody."))
    if request.method not in SAFE_METHODS and not _is_from_here(request):
        raise web.HTTPForbidden(
            text=gettext("The request came from another site's page. Open the page here and try again.")
        )
    services = request.app[SERVICES]
    if access.metrics and services.metrics_token is not None:
        await _check_token(request, services.metrics_token, "http.metrics_token")
    if access.canary:
        await _check_token(request, services.canary_token, "the core's own canary")
    if access.devices and request.headers.get("Authorization", "").lower().startswith("basic "):
        request[DEVICE] = await request.app[DEVICES].sign_in(request)
        structlog.contextvars.bind_contextvars(device=request[DEVICE].device_id)
        return await handler(request)
    await _check_person(request, access)
    return await handler(request)


async def _check_person(request: web.Request, access: _Access) -> None:
    caller = await _who_asks(request, access)
    if caller is not None:
        request[USER] = caller.user
        structlog.contextvars.bind_contextvars(user=caller.user.id)  # a number: the log names nobody
        if caller.token is not None:
            request[TOKEN] = caller.token
        else:  # from here on: who is refused something reads why
            write_for(in_language_of(caller.user, reader()))
    if access.roles is None:
        return
    if caller is None:
        raise web.HTTPUnauthorized(text=gettext("Sign in first."), headers={"WWW-Authenticate": "Bearer"})
    if caller.user.role not in access.roles:
        raise web.HTTPForbidden(text=gettext("Your role does not allow this."))
    if caller.token is None:
        return
    needed = access.scope or (Scope.READ if request.method in SAFE_METHODS else None)
    if needed is None:
        raise web.HTTPForbidden(text=gettext("This is for people who have signed in, and not for API tokens."))
    if needed not in caller.token.scopes:
        raise web.HTTPForbidden(text=gettext("This API token does not have the scope %(scope)s.", scope=needed))


def origin(request: web.Request) -> Origin:
    """Who asks, and from where, for the audit log."""
    user, token = request.get(USER), request.get(TOKEN)
    return Origin(
        user.email if user else "", request.remote or "", user.id if user else None, token.name if token else ""
    )


def may_see(user: User, factory_id: int) -> bool:
    """Whether a person may see a factory."""
    return user.role in NETWORK_ROLES or user.factory_id == factory_id


def scope(user: User) -> int | None:
    """The only factory that a person may see; None for all of them."""
    if user.role in NETWORK_ROLES:
        return None
    return user.factory_id if user.factory_id is not None else -1


def _is_from_here(request: web.Request) -> bool:
    """Whether a changing request was made by a page of ours or by a program, and not by another site's page.

    A browser sends the cookie with what other sites make it send, but it also says where that came from.
    """
    if "Authorization" in request.headers:
        return True  # no browser adds this by itself
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is not None:
        scheme, _, host = origin.partition("://")
        return host == request.host and (scheme == "https" or not request.secure)
    return cookie_name(request) not in request.cookies


async def _who_asks(request: web.Request, access: _Access) -> Caller | None:
    """Who is signed in; a token of a program that is nobody's counts as a guess."""
    token = session_token(request)
    if not token:
        return None
    caller = await caller_of(request.app[SERVICES], token)
    if caller is None and "Authorization" in request.headers and not (access.metrics or access.canary):
        await _count_guess(request)
    return caller


async def _count_guess(request: web.Request) -> None:
    """Count a token that is none of ours; a right one is never refused, whoever else is behind the same address."""
    await request.app[SERVICES].attempts.take("token_guess", address=request.remote or "")


async def _check_token(request: web.Request, expected: str | None, whose: str) -> None:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if (
        expected is None
        or kind != "Bearer"
        or not hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())
    ):
        await _count_guess(request)
        raise web.HTTPUnauthorized(text=f"This needs the token of {whose}.", headers={"WWW-Authenticate": "Bearer"})
