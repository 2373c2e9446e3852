"""Notifier "portal": alerts on the pages that are open, as they come.

    notifications:
      - name: portal
        notifier: portal
        min_severity: info

The live stream carries an event `alert` to those who may see the factory; one of the whole network goes to those who
see every factory. Each browser decides whether it makes a sound; at first it makes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from carbontrack import AlertItem, Kind, Manifest, Notification, Notifier, Outbound, Plugin, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="portal",
    version=__version__,
    kinds=(Kind.NOTIFIER,),
    title="Alerts on open pages",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)


class PortalOptions(BaseModel):
    """There is nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def shown(item: AlertItem) -> dict[str, Any]:
    """What the page is told of one alert."""
    return {
        "id": item.alert.id,
        "event": item.event,
        "severity": item.alert.severity,
        "title": item.title,
        "message": item.alert.message,
        "factory": item.factory.name if item.factory else None,
    }


def notifier(outbound: Outbound) -> Notifier:
    """The notifier, with the way to the pages."""

    async def send(options: PortalOptions, notification: Notification) -> None:  # noqa: ARG001  # as above
        for item in notification.items:
            if item.event != "acknowledged":
                outbound.show(shown(item), item.alert.factory_id)

    return Notifier(name="portal", title=MANIFEST.title, options_model=PortalOptions, send=send)


@hookimpl
def register_notifiers(plugin: Plugin) -> Sequence[Notifier]:
    return (notifier(plugin.outbound),)
