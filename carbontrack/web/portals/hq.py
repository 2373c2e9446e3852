"""Portal view "hq": all factories, live, ranked by today's measured stack CO2."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from carbontrack import (
    Factory,
    FactoryDay,
    Kind,
    Manifest,
    Page,
    PluginState,
    PortalReader,
    PortalRequest,
    PortalView,
    Site,
    Snapshot,
    Tier,
    __version__,
    hookimpl,
)
from carbontrack.web.access import NETWORK_ROLES, REGISTRY_ROLES
from carbontrack.web.present import cause_text, live_row, percent, total_kg_per_s
from carbontrack.words import N_
from carbontrack.words import gettext as _

MANIFEST = Manifest(
    name="portal_hq",
    version=__version__,
    kinds=(Kind.PORTAL,),
    title="The page of the whole network",
    documentation="docs/plugins/portals.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

RANKED_FROM_COVERAGE = 0.8
"""Who measured less of the day would look better than they are."""

WHAT_TO_DO = {
    "fault": N_("A sensor reports a fault."),
    "unfit": N_("This CO2 sensor cannot measure flue gas: fit one with a range of 20 %, or a dilution probe."),
    "offline": N_("Nothing comes from this device. Check its power and its network."),
    "no_data": N_("This device has not sent anything yet."),
}
TROUBLE = frozenset({PluginState.PARKED, PluginState.RETRYING, PluginState.TROUBLED})
REFUSALS = {
    "unknown_topic": N_("On a topic that no device has."),
    "disabled_device": N_("From a disabled device."),
    "mailbox_full": N_("Faster than they could be stored: the device sends them again."),
    "parked": N_("For a device that is held back."),
    "flooding": N_("From a device that sends too much."),
    "too_large": N_("Larger than mqtt.max_payload_bytes."),
}


async def show(request: PortalRequest) -> Page:
    """The whole network on one page."""
    data = request.data
    days = await data.days()
    sites = await data.sites()
    snapshots = data.snapshots()
    alerts = await data.alerts()
    factories = {day.factory.id: day.factory for day in days}
    rows = _rows(days, sites, snapshots)
    values = {
        "section": "table",
        "tiles": {
            "kg_per_h": _per_hour(snapshots),
            "today_kg": sum(day.co2_kg for day in days),
            "devices_online": sum(snapshot.online for snapshot in snapshots),
            "devices_total": len(sites),
            "factories_total": len(days),
            "open_alerts": len(alerts),
        },
        "rows": rows,
        "regions": _regions(rows),
        "alerts": [{"alert": alert, "factory": factories.get(alert.factory_id or 0)} for alert in alerts],
        "quarantine": [
            {"cause": cause, "text": cause_text(cause), "count": count}
            for cause, count in (await data.quarantine_counts()).items()
        ],
        "refused": [
            {"text": _(REFUSALS[cause]), "count": count} for cause, count in data.refused().items() if cause in REFUSALS
        ],
        "can_operate": request.user.role in REGISTRY_ROLES,
        "troubled": _troubled(snapshots, factories),
        "storage": data.storage(),
        "recoveries": [
            {"recovery": found, "factory": factories.get(found.factory_id)} for found in await data.recoveries()
        ],
        **_what_needs_somebody(data, sites),
    }
    return Page("hq.html", values)


def _rows(days: Sequence[FactoryDay], sites: Sequence[Site], snapshots: Sequence[Snapshot]) -> list[dict[str, Any]]:
    devices = Counter(site.factory.id for site in sites)
    live: dict[int, list[Snapshot]] = defaultdict(list)
    for snapshot in snapshots:
        live[snapshot.factory_id].append(snapshot)
    ranked = sorted((day for day in days if not _unranked_reason(day, devices)), key=lambda day: day.co2_kg)
    ranks = {day.factory.id: rank for rank, day in enumerate(ranked, 1)}
    others = sorted((day for day in days if day.factory.id not in ranks), key=lambda day: day.factory.name)
    return [
        {
            "factory": day.factory,
            "rank": ranks.get(day.factory.id),
            "unranked_reason": _unranked_reason(day, devices),
            "today_kg": day.co2_kg,
            "coverage": day.coverage,
            "stacks": len(day.stacks),
            "devices": devices[day.factory.id],
            "devices_online": sum(snapshot.online for snapshot in live[day.factory.id]),
            "kg_per_h": _per_hour(live[day.factory.id]),
        }
        for day in (*ranked, *others)
    ]


def _unranked_reason(day: FactoryDay, devices: Mapping[int, int]) -> str:
    if not devices[day.factory.id]:
        return _("No device is registered.")
    if day.coverage < RANKED_FROM_COVERAGE:
        return _(
            "Only %(share)s of today is measured; ranking needs %(least)s.",
            share=percent(day.coverage),
            least=percent(RANKED_FROM_COVERAGE),
        )
    return ""


def _per_hour(snapshots: Sequence[Snapshot]) -> float | None:
    rate = total_kg_per_s(snapshots)
    return None if rate is None else rate * 3600


def _regions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    regions: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["factory"].region
        region = regions.setdefault(name, {"name": name, "kg_per_h": 0.0, "factories": 0})
        region["kg_per_h"] += row["kg_per_h"] or 0.0
        region["factories"] += 1
    return [regions[name] for name in sorted(regions, key=lambda name: (not name, len(name), name))]


def _troubled(snapshots: Sequence[Snapshot], factories: Mapping[int, Factory]) -> list[dict[str, Any]]:
    """Devices that give no true rate at the moment, the worst first."""
    rows = [row for row in map(live_row, snapshots) if row["state"] in WHAT_TO_DO]
    order = list(WHAT_TO_DO)
    return [
        {
            **row,
            "factory": factories.get(row["factory_id"]),
            "text": next(iter(row["flag_texts"]), "") if row["state"] == "fault" else _(WHAT_TO_DO[row["state"]]),
        }
        for row in sorted(rows, key=lambda row: (order.index(row["state"]), row["device_id"]))
    ]


def _what_needs_somebody(data: PortalReader, sites: Sequence[Site]) -> dict[str, Any]:
    factories = {site.device.device_id: site.factory for site in sites}
    return {
        "strangers": [
            {
                "device_id": stranger.device_id,
                "first_seen_at": datetime.fromtimestamp(stranger.first_seen_ms / 1000, UTC),
                "messages": stranger.messages,
            }
            for stranger in data.strangers()
        ],
        "problems": data.problems(),
        "has_plugin_trouble": any(status.state in TROUBLE for status in data.plugins()),
        "floods": [{"flood": flood, "factory": factories.get(flood.device_id)} for flood in data.floods()],
        "parked": [
            {"device_id": device_id, "error": error, "factory": factories.get(device_id)}
            for device_id, error in data.troubles().items()
        ],
    }


@hookimpl
def register_portals() -> Sequence[PortalView]:
    return (PortalView(name="hq", title=N_("Network"), path="/hq/", roles=NETWORK_ROLES, show=show),)
