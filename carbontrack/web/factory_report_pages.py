"""The reports of one factory: a day as a file in each format that plugins bring, and what was reported of months."""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

from carbontrack.web.access import EVERYBODY, allow
from carbontrack.web.ledger_pages import page_factory
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import render

LATEST = 12
"""So many of the statements are listed; each month's account has them all."""


def add_routes(app: web.Application) -> None:
    """Add this page to the application."""
    app.router.add_get("/factory/{slug}/reports", reports_page)


@allow(EVERYBODY)
async def reports_page(request: web.Request) -> web.StreamResponse:
    """The formats to choose from, and the statements, the newest first."""
    services, factory = request.app[SERVICES], await page_factory(request)
    today = services.clock().astimezone(services.time_zone).date()
    statements = await services.store.statement_keys(factory.id)
    newest = sorted(statements, key=lambda it: (it.period_start, it.version), reverse=True)[:LATEST]
    return render(
        request,
        "factory_reports.html",
        {
            "factory": factory,
            "section": "reports",
            "formats": sorted(services.plugins.contributions.report_formats.values(), key=lambda it: it.title),
            "today": today.isoformat(),
            "yesterday": (today - timedelta(days=1)).isoformat(),
            "statements": newest,
        },
    )
