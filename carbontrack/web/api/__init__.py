"""The REST API: JSON in and out, a trailing slash on every path, times in ISO 8601 with zone, units in the names."""

from __future__ import annotations

from aiohttp import web

from carbontrack.web.api import (
    account,
    accounting,
    alert_rules,
    alerts,
    audit,
    bulk,
    compliance,
    device_intake,
    device_orders,
    devices,
    entries,
    firmware,
    live,
    people,
    photos,
    plans,
    plugins,
    quarantine,
    readings,
    reports,
    schema,
    telling,
)
from carbontrack.web.api import registry as registry_routes

PARTS = (
    account, people, registry_routes, plans, devices, device_orders, firmware, readings, device_intake, entries, photos,
    bulk, accounting, compliance, reports, alerts, alert_rules, telling, quarantine, plugins, audit, live, schema,
)  # fmt: skip


def add_routes(app: web.Application) -> None:
    """Add the API to the application."""
    for part in PARTS:
        part.add_routes(app)
