"""What is asked for twice with the same key is done once: a phone that lost the answer may simply send it again."""

from __future__ import annotations

import functools
import hashlib
import re

from aiohttp import web

from carbontrack.web.access import USER, Handler
from carbontrack.web.errors import Problem
from carbontrack.web.services import SERVICES

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
FORM = re.compile(r"[\x21-\x7e]{1,200}")


def once(handler: Handler) -> Handler:
    """Keep the answer of a creation under its key, and give it again to who asks again within a day.

    A creation that failed may be tried again with the same key. One key for two different requests is an error.
    """

    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        key = request.headers.get(HEADER)
        if key is None:
            return await handler(request)
        if not FORM.fullmatch(key):
            raise Problem(422, f"{HEADER} must be 1 to 200 letters, digits and signs, such as a UUID.")
        services, user = request.app[SERVICES], request[USER]
        asked = hashlib.sha256(f"{request.method} {request.path_qs}\n".encode() + await request.read()).hexdigest()
        earlier = await services.store.begin_request(user.id, key, asked, services.clock())
        if earlier is not None:
            return _again(earlier.request_sha256 == asked, earlier.status, earlier.body)
        try:
            response = await handler(request)
        except BaseException:
            await services.store.drop_request(user.id, key)
            raise
        assert isinstance(response, web.Response)
        await services.store.finish_request(user.id, key, response.status, response.text or "")
        return response

    handle.__dict__["is_once"] = True
    return handle


def _again(is_same: bool, status: int | None, body: str) -> web.Response:
    if not is_same:
        raise Problem(422, f"This {HEADER} was used for another request. Take a new key for each thing to create.")
    if status is None:
        raise Problem(409, "The same request is being worked on. Ask again in a moment.")
    return web.Response(text=body, status=status, content_type="application/json", headers={REPLAYED: "true"})
