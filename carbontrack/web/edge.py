"""The edge of the web part: each request's id, who really asks behind proxies, and what every answer carries."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import MultiMapping

from carbontrack.tracing import Tracer
from carbontrack.web.door import told_by_web_process
from carbontrack.web.services import ID_HEADER, REQUEST_ID, SERVICES

log = structlog.get_logger(__name__)

Network = IPv4Network | IPv6Network

DIRECTIVES: Mapping[str, str] = {
    "default-src": "'none'",  # what is not named below: frames, plug-ins, media
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "worker-src": "'self'",  # the service worker (web/static/sw.js)
    # Those that default-src says nothing about.
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def content_security_policy(changed: Mapping[str, str] | None = None) -> str:
    """Our policy, for a page that cannot live with it with some directives changed or added.

    Such a page sets the header by itself; every other answer gets the policy as it is.
    """
    return "; ".join(f"{name} {value}" for name, value in {**DIRECTIVES, **(changed or {})}.items())


HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": content_security_policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SERVER = "carbontrack"
"""aiohttp would name its version and Python's."""

COMPRESSED = frozenset(
    {
        "text/html",
        "text/csv",
        "application/json",
        "application/problem+json",
        "application/x-ndjson",
        "application/yaml",
    }
)
LEAST_BYTES = 1000
"""Less than this fits into a packet anyway."""

PROBES = frozenset({"/healthz", "/readyz"})
"""Asked for every few seconds by whoever watches over the process."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)
_SECRET = ("token",)
"""Variables of addresses that open something to whoever knows them."""
_SECURE = web.RequestKey("secure", bool)
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII)


class Origin(NamedTuple):
    """Where a request came from."""

    remote: str
    scheme: str
    host: str


def origin_of(direct: Origin, headers: MultiMapping[str], trusted: Sequence[Network]) -> Origin:
    """Where a request came from, by what trusted proxies say; ``direct`` is what the connection itself says.

    Each proxy adds whom it was asked by, so the way is walked back from the connection, and only a trusted address is
    believed about the one before it. What an untrusted client has written itself is never reached. Scheme and host are
    those that the outermost trusted proxy was asked by, where each proxy has added to the list; a list that is shorter
    than the way was written by the outermost.
    """
    remote, hops = direct.remote, 0
    for told in reversed(_listed(headers, "X-Forwarded-For")):
        address = _address(told)
        if address is None or not _is_trusted(remote, trusted):
            break
        remote, hops = str(address), hops + 1
    if not _is_trusted(direct.remote, trusted):
        return direct
    scheme, host = (
        listed[-min(max(hops, 1), len(listed))] if (listed := _listed(headers, name)) else ""
        for name in ("X-Forwarded-Proto", "X-Forwarded-Host")
    )
    scheme = scheme.lower()
    return Origin(
        remote,
        scheme if scheme in {"http", "https"} else direct.scheme,
        host if _HOST.fullmatch(host) else direct.host,
    )


def numbered(trusted: Sequence[Network]) -> Middleware:
    """A middleware that gives each request an id, and every line of its log with it; a trusted proxy may choose it."""

    @web.middleware
    async def give_id(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(ID_HEADER, "")
        is_believed = _is_trusted(request.remote or "", trusted) or told_by_web_process(request) is not None
        request[REQUEST_ID] = given if is_believed and _ID.fullmatch(given) else secrets.token_hex(6)
        # A connection is one task, and has one request after the other.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            request_id=request[REQUEST_ID], method=request.method, path=path_without_secrets(request)
        )
        began, status = time.perf_counter(), 500
        try:
            answer = await handler(request)
            status = answer.status
            return answer
        except web.HTTPException as raised:
            status = raised.status
            raise
        finally:
            tell = log.info if _is_worth_a_line(request, status) else log.debug
            tell("answered", status=status, took_ms=round(1000 * (time.perf_counter() - began), 1))

    return give_id


def traced_by(tracer: Tracer) -> Middleware:
    """A middleware that makes each request a span, by its route; its lines of the log then have the trace as well."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none of ours"
        with tracer.start_as_current_span(f"{request.method} {route}") as span:
            structlog.contextvars.bind_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}")
            span.set_attribute("http.request.method", request.method)
            span.set_attribute("http.route", route)
            span.set_attribute("carbontrack.request_id", request[REQUEST_ID])
            answer = await handler(request)
            span.set_attribute("http.response.status_code", answer.status)
            return answer

    return trace


def path_without_secrets(request: web.Request) -> str:
    """A request's path for the log: without a query, and without what opens something to whoever knows it.

    Of an address that is none of ours nothing is known, perhaps it is such a one with a mistake: it is left out.
    """
    found = request.match_info
    if found.http_exception is not None:
        return "none of ours"
    secret = {found[name] for name in _SECRET if name in found}
    return "/".join("***" if part in secret else part for part in request.path.split("/"))


def _is_worth_a_line(request: web.Request, status: int) -> bool:
    """Whether something was changed or refused; what devices send is counted and not told, and who asks for ever."""
    if request.path in PROBES:
        return False
    by_a_device = "device" in structlog.contextvars.get_contextvars()
    return status >= 400 or (request.method not in {"GET", "HEAD", "OPTIONS"} and not by_a_device)


def behind(trusted: Sequence[Network]) -> Middleware:
    """A middleware that gives handlers a request as the outermost trusted proxy got it."""

    @web.middleware
    async def see_through_proxies(request: web.Request, handler: Handler) -> web.StreamResponse:
        direct = Origin(request.remote or "", request.scheme, request.host)
        told = told_by_web_process(request)
        origin = Origin(*told) if told else origin_of(direct, request.headers, trusted)
        if origin == direct:
            return await handler(request)
        request[_SECURE] = origin.scheme == "https"  # for add_headers, which gets the request as it came
        return await handler(request.clone(**origin._asdict()))

    return see_through_proxies


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer carries; a header that the answer has already stays as it is."""
    headers = response.headers
    headers["Server"] = SERVER
    if REQUEST_ID in request:
        headers[ID_HEADER] = request[REQUEST_ID]
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if not request.path.startswith("/static/"):
        headers.setdefault("Cache-Control", "no-store")
    hsts_s = request.app[SERVICES].hsts_s
    if hsts_s and request.get(_SECURE, request.secure):
        headers.setdefault("Strict-Transport-Security", f"max-age={hsts_s}")


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress pages and data for whoever understands it: most links here are slow.

    A secret that stays the same beside a text of a stranger's could be guessed from an answer's length. No page of ours
    has one: a form's proof of origin is a header, and what is shown once is not shown again.
    """
    answer = await handler(request)
    if (
        isinstance(answer, web.Response)
        and isinstance(answer.body, bytes)
        and len(answer.body) >= LEAST_BYTES
        and answer.content_type in COMPRESSED
    ):
        answer.headers.add("Vary", "Accept-Encoding")
        if accepts_gzip(request):
            answer.enable_compression(web.ContentCoding.gzip)
    return answer


def accepts_gzip(request: web.BaseRequest) -> bool:
    """Whether whoever asks understands gzip."""
    for part in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _listed(headers: MultiMapping[str], name: str) -> list[str]:
    """The items of a list that may come in several headers of one name."""
    return [item.strip() for line in headers.getall(name, []) for item in line.split(",")]


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    found = _address(address)
    return found is not None and any(found in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it, some of them with a port; None for anything else, such as ``unknown``."""
    if bracketed := re.fullmatch(r"\[(.*)\](:\d+)?", text):
        text = bracketed[1]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return found.ipv4_mapped or IPv6Address(int(found))  # without a zone, which may be any text
    return found
