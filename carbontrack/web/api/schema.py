"""The description of the API, for programs and for people."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from carbontrack.web.answers import JSON
from carbontrack.web.contract import Tag, operation
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import render

YAML_TYPE = "application/yaml"
VIEWER_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Both viewers write their styles into the page."""


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app[DESCRIPTION] = Description(app)
    app.router.add_get("/api/schema/", schema)
    app.router.add_get("/api/schema/swagger-ui/", swagger_ui)
    app.router.add_get("/api/schema/redoc/", redoc)


class Description:
    """The description as text. It takes a second to make, so it is made once, and beside the loop: anybody may ask."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._making = asyncio.Lock()
        self._texts: dict[str, str] = {}

    async def text(self, media_type: str) -> str:
        """The description in one of the media types in which there is one."""
        async with self._making:
            if media_type not in self._texts:
                self._texts[media_type] = await asyncio.to_thread(self._make, media_type)
        return self._texts[media_type]

    def _make(self, media_type: str) -> str:
        from carbontrack.web import openapi  # noqa: PLC0415  # what describes is needed by few, and takes time

        document = openapi.describe(self._app, self._app[SERVICES].version)
        return openapi.to_yaml(document) if media_type == YAML_TYPE else json.dumps(document)


DESCRIPTION = web.AppKey("description", Description)


@operation(Tag.SCHEMA, None, media=(JSON, YAML_TYPE))
async def schema(request: web.Request) -> web.StreamResponse:
    """This description, as OpenAPI 3.1: JSON, or YAML where `Accept` asks for it."""
    media_type = YAML_TYPE if "yaml" in request.headers.get("Accept", "") else JSON
    return web.Response(text=await request.app[DESCRIPTION].text(media_type), content_type=media_type)


@operation(Tag.SCHEMA, None, media=("text/html",))
async def swagger_ui(request: web.Request) -> web.StreamResponse:
    """This description in Swagger UI, where requests can be tried."""
    return _viewer(request, "swagger-ui.html")


@operation(Tag.SCHEMA, None, media=("text/html",))
async def redoc(request: web.Request) -> web.StreamResponse:
    """This description in Redoc, for reading."""
    return _viewer(request, "redoc.html")


def _viewer(request: web.Request, template: str) -> web.Response:
    page = render(request, template, {})
    page.headers["Content-Security-Policy"] = VIEWER_POLICY
    return page
