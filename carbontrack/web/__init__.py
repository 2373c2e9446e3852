"""The portals, the API, health and metrics: one aiohttp application."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache

from aiohttp import web

from carbontrack.hookspecs import PortalView
from carbontrack.web import (
    account_pages,
    alert_pages,
    alert_rule_pages,
    api,
    audit_pages,
    combustion_pages,
    compare_pages,
    device_order_pages,
    device_pages,
    diagnostics_pages,
    door,
    edge,
    entry_pages,
    factory_report_pages,
    firmware_files,
    firmware_pages,
    hour_pages,
    installed,
    leaderboard_pages,
    ledger_pages,
    network_map,
    network_pages,
    ops,
    pages,
    people_pages,
    plugin_pages,
    quality_pages,
    register_pages,
    report_pages,
    setup_pages,
    static_files,
    target_pages,
    telling_pages,
    templating,
    trend_pages,
    unit_pages,
    upload_pages,
)
from carbontrack.web.access import check_access
from carbontrack.web.alert_rules import TRIALS
from carbontrack.web.auth import AUTHENTICATOR, Authenticator
from carbontrack.web.device_auth import DEVICES, DeviceAuthenticator
from carbontrack.web.errors import answer_errors
from carbontrack.web.plugin_pages import PLUGIN_PAGES, PluginPages, find_plugin_page, show_plugin_page
from carbontrack.web.services import SERVICES, CoreDoor, CoreParts, DemoAccount, FleetView, Services
from carbontrack.web.spreadsheets import WORKBOOKS, WORKBOOKS_AT_ONCE

__all__ = ["CoreDoor", "CoreParts", "DemoAccount", "FleetView", "Services", "check_pages", "create_app"]

LARGEST_BODY = 1024 * 1024


def create_app(services: Services) -> web.Application:
    """The application. Its routes are closed unless they say who may come in (:mod:`carbontrack.web.access`)."""
    middlewares = [
        edge.numbered(services.trusted_proxies),
        edge.behind(services.trusted_proxies),
        edge.compress,
        templating.write_in_their_language,
        answer_errors,
        door.go_to_core,
        find_plugin_page,
        check_access,
        templating.count_waiting,
        show_plugin_page,
    ]
    if services.tracer is not None:
        middlewares.insert(1, edge.traced_by(services.tracer))
    app = web.Application(middlewares=middlewares, client_max_size=LARGEST_BODY)
    app[SERVICES] = services
    app[AUTHENTICATOR] = Authenticator(services)
    app[DEVICES] = DeviceAuthenticator(services)
    app[TRIALS] = asyncio.Semaphore(1)
    app[WORKBOOKS] = asyncio.Semaphore(WORKBOOKS_AT_ONCE)
    templating.set_up(app, services)
    network_pages.keep_months(app, services)
    app[PLUGIN_PAGES] = PluginPages(services.plugins, app[templating.ENVIRONMENTS])
    _add_routes(app)
    if services.core is None:
        door.keep_way(app)
    app.on_response_prepare.append(edge.add_headers)
    app.on_shutdown.append(_stop_streams)
    return app


def check_pages(pages: Sequence[PortalView], others: Sequence[PortalView]) -> None:
    """Raise ValueError for a plugin's page whose address cannot be one, or is ours or another plugin's."""
    plugin_pages.check_addresses(pages, others, _our_addresses())


@cache
def _our_addresses() -> tuple[web.AbstractResource, ...]:
    app = web.Application()
    _add_routes(app)
    return tuple(app.router.resources())


def _add_routes(app: web.Application) -> None:
    of_people = (pages, telling_pages, alert_pages, alert_rule_pages, account_pages, people_pages, audit_pages)
    of_factories = (
        hour_pages,
        ledger_pages,
        entry_pages,
        combustion_pages,
        target_pages,
        factory_report_pages,
        report_pages,
        quality_pages,
        trend_pages,
        setup_pages,
        device_pages,
        device_order_pages,
        unit_pages,
        register_pages,
        upload_pages,
    )
    of_the_network = (leaderboard_pages, network_map, network_pages, compare_pages, firmware_pages)
    of_the_platform = (firmware_files, diagnostics_pages, installed, ops, static_files)
    for part in (*of_people, api, *of_factories, *of_the_network, *of_the_platform):
        part.add_routes(app)


async def _stop_streams(app: web.Application) -> None:
    app[SERVICES].live.close()
