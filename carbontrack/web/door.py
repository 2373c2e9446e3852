"""What only the core can answer: a web process beside it hands such a request on, whole, and the core's answer back.

The core checks who asks, as always. It takes the word of a web process for where the request came from, because that
shows the token that the core has left in Redis (:class:`~carbontrack.shared.CoreStatus`).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import AsyncIterator

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, Fingerprint, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from carbontrack.web.services import ID_HEADER, REQUEST_ID, SERVICES, CoreDoor
from carbontrack.words import gettext

TOKEN_HEADER = "X-Carbontrack-Door"  # noqa: S105  # a header's name
FROM_HEADERS = "X-Carbontrack-Remote", "X-Carbontrack-Scheme", "X-Carbontrack-Host"

OF_CORE = (
    re.compile(r"/(api/mcu-devices|devices|hq/devices|factory/[^/]+/devices)(/.*)?"),  # how actors are doing
    re.compile(r"/(api/firmware|hq/firmware|firmware)/.*"),
    re.compile(r"/(api/reports|reports|shared)/.*"),  # what is being made, and how far it is; the key that signs
    re.compile(r"/(api/plugins|hq/plugins)(/.*)?"),
    re.compile(r"/hq/unpark/?|/hq/diagnostics|/api/quarantine/\d+/replay/"),
)
DEVICES_SEND = "/api/emissions/"
"""Posted to: readings, whose answer is the receipt."""

_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length",
}  # fmt: skip
_TIMEOUT = ClientTimeout(total=None, sock_connect=5, sock_read=120)
_AWAY_S = 5

_WAY: web.AppKey[ClientSession] = web.AppKey("way_to_core", ClientSession)


def is_of_core(method: str, path: str) -> bool:
    """Whether only the core can answer this."""
    return (path == DEVICES_SEND and method == "POST") or any(it.fullmatch(path) for it in OF_CORE)


def keep_way(app: web.Application) -> None:
    """Give the application of a web process its connections to the core."""

    async def way(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(
            timeout=_TIMEOUT, cookie_jar=DummyCookieJar(), auto_decompress=False, trust_env=False
        ) as session:
            app[_WAY] = session
            yield

    app.cleanup_ctx.append(way)


@web.middleware
async def go_to_core(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Hand on what only the core can answer; all else is answered here."""
    if request.app[SERVICES].core is not None or not is_of_core(request.method, request.path):
        return await handler(request)
    door = request.app[SERVICES].door()
    if door is None:
        raise _away()
    return await _handed_on(request, door)


async def _handed_on(request: web.Request, door: CoreDoor) -> web.StreamResponse:
    headers = CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in _HOP and not name.lower().startswith(("x-forwarded-", "x-carbontrack-"))
    )
    headers[TOKEN_HEADER] = door.token
    headers[ID_HEADER] = request[REQUEST_ID]  # both logs have it under the same
    for name, value in zip(FROM_HEADERS, (request.remote or "", request.scheme, request.host), strict=True):
        headers[name] = value
    body = request.content if request.body_exists else None
    try:
        async with request.app[_WAY].request(
            request.method,
            f"{door.url}{request.raw_path}",
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=Fingerprint(door.fingerprint) if door.fingerprint else True,
        ) as answer:
            told = CIMultiDict((it, value) for it, value in answer.headers.items() if it.lower() not in _HOP)
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=told)
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
            return response
    except (ClientError, TimeoutError):
        raise _away() from None


def _away() -> web.HTTPServiceUnavailable:
    text = gettext("The core does not answer just now, and only it can do this. Try again in a moment.")
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": str(_AWAY_S)})


def told_by_web_process(request: web.Request) -> tuple[str, str, str] | None:
    """In the core: remote, scheme and host as a web process of the site has them; None where none has sent it."""
    services, given = request.app[SERVICES], request.headers.get(TOKEN_HEADER)
    door = services.door() if services.core is not None else None
    if given is None or door is None:
        return None
    if not hmac.compare_digest(given.encode(errors="surrogatepass"), door.token.encode()):
        return None
    remote, scheme, host = (request.headers.get(name, "") for name in FROM_HEADERS)
    return remote, scheme, host
