"""For those who run the platform: is it alive, is it ready, and every metric."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from carbontrack.store import newest_migration
from carbontrack.web.access import for_metrics, public
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add health and metrics to the application."""
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


@public
async def healthz(request: web.Request) -> web.StreamResponse:
    """The process answers: that is all that liveness means. With it, what runs: both are in the public source."""
    body = {"status": "alive", "version": request.app[SERVICES].version, "schema": newest_migration()}
    return web.json_response(body)


@public
async def readyz(request: web.Request) -> web.StreamResponse:
    """Whether readings are taken and committed; otherwise 503 with the reasons."""
    reasons = list(request.app[SERVICES].readiness())
    body = {"status": "not ready" if reasons else "ready", "reasons": reasons}
    return web.json_response(body, status=503 if reasons else 200)


@for_metrics
async def metrics(request: web.Request) -> web.StreamResponse:
    """Prometheus text."""
    services = request.app[SERVICES]
    services.fleet.measure()
    services.plugins.measure()
    services.metrics.live_watchers.set(services.live.watchers)
    return web.Response(body=generate_latest(services.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
