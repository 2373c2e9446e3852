"""The description of the API, for programs and for people."""

from __future__ import annotations

from aiohttp import web

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
    app.router.add_get("/api/schema/", schema)
    app.router.add_get("/api/schema/swagger-ui/", swagger_ui)
    app.router.add_get("/api/schema/redoc/", redoc)


@operation(Tag.SCHEMA, None, media=("application/json", YAML_TYPE))
async def schema(request: web.Request) -> web.StreamResponse:
    """This description, as OpenAPI 3.1: JSON, or YAML where `Accept` asks for it."""
    from carbontrack.web import openapi  # noqa: PLC0415  # what describes is needed by few, and takes time

    document = openapi.describe(request.app, request.app[SERVICES].version)
    if "yaml" in request.headers.get("Accept", ""):
        return web.Response(text=openapi.to_yaml(document), content_type=YAML_TYPE)
    return web.json_response(document)


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
