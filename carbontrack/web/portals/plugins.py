"""Portal view "plugins": how every plugin stands, what needs a person, and what the last reload did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbontrack import (
    Kind,
    Manifest,
    Page,
    PluginState,
    PluginStatus,
    PortalRequest,
    PortalView,
    Tier,
    __version__,
    hookimpl,
)
from carbontrack.web.access import NETWORK_ROLES, REGISTRY_ROLES
from carbontrack.words import N_, gettext

MANIFEST = Manifest(
    name="portal_plugins",
    version=__version__,
    kinds=(Kind.PORTAL,),
    title="The page of the plugins",
    documentation="docs/plugins/portals.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

STATE_TITLES: Mapping[PluginState, str] = {
    PluginState.PARKED: N_("Parked"),
    PluginState.TROUBLED: N_("Held back in places"),
    PluginState.RETRYING: N_("Not ready, tried again"),
    PluginState.SETTING_UP: N_("Setting up"),
    PluginState.UNLOADING: N_("Unloading"),
    PluginState.RUNNING: N_("Running"),
    PluginState.DISABLED: N_("Disabled"),
}
NEED_A_PERSON = (PluginState.PARKED, PluginState.TROUBLED, PluginState.RETRYING)
"""The worst first."""
KIND_TITLES: Mapping[Kind, str] = {
    Kind.SENSOR: N_("Sensors"),
    Kind.ALERT: N_("Alert rules"),
    Kind.NOTIFIER: N_("Notifiers"),
    Kind.REPORT: N_("Report formats"),
    Kind.PORTAL: N_("Pages"),
}
NOT_LOADED = N_("Not loaded")


async def show(request: PortalRequest) -> Page:
    """All plugins on one page."""
    rows = [_row(status) for status in request.data.plugins()]
    values = {
        "attention": sorted(
            (row for row in rows if row["state"] in NEED_A_PERSON), key=lambda row: NEED_A_PERSON.index(row["state"])
        ),
        "groups": list(_groups(rows)),
        "counts": [
            (gettext(title), count)
            for state, title in STATE_TITLES.items()
            if (count := sum(r["state"] is state for r in rows))
        ],
        "last": request.data.last_reload(),
        "can_reload": request.user.role in REGISTRY_ROLES,
    }
    return Page("plugins.html", values)


def _row(status: PluginStatus) -> dict[str, Any]:
    manifest = status.manifest
    documentation = manifest.documentation if manifest else ""
    return {
        "name": status.name,
        "title": manifest.title if manifest else status.name,
        "version": manifest.version if manifest else "",
        "kind": manifest.kinds[0] if manifest else None,
        "tier": manifest.tier.value if manifest and manifest.tier else "",
        "codeowners": manifest.codeowners if manifest else (),
        "documentation": documentation,
        "is_link": documentation.startswith(("https://", "http://")),
        "origin": status.origin,
        "state": status.state,
        "state_title": gettext(STATE_TITLES[status.state]),
        "brings": status.brings,
        "error": status.error,
        "advice": status.advice and gettext(status.advice),
        "retry_at": status.retry_at,
        "notes": status.notes,
        "errors": status.errors,
        "options": list(_flat(status.options)),
    }


def _flat(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Options as pairs of text: ``broker.host`` and ``"10.0.0.7"``."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _groups(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """By what they bring first; those whose code was not read come last, as nobody knows what they bring."""
    for kind, title in (*KIND_TITLES.items(), (None, NOT_LOADED)):
        if own := [row for row in rows if row["kind"] == kind]:
            yield {"id": kind.value if kind else "none", "title": gettext(title), "rows": own}


@hookimpl
def register_portals() -> Sequence[PortalView]:
    return (PortalView(name="plugins", title=N_("Plugins"), path="/hq/plugins/", roles=NETWORK_ROLES, show=show),)
