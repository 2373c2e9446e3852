"""Notifier "device": the buzzer and the lamp of the node itself, by a command over MQTT.

    notifications:
      - name: buzzer
        notifier: device
        min_severity: critical

An alert of a device switches the alarm of that device on; its end switches it off, and so does an acknowledgement. The
number of the alert is the number of the alarm: a node sounds while any of its alarms is on (docs/protocol.md). Alerts
of factories and of the network have no device, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from carbontrack import Kind, Manifest, Notification, Notifier, Outbound, Plugin, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="device",
    version=__version__,
    kinds=(Kind.NOTIFIER,),
    title="The device's buzzer and lamp",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)


class DeviceOptions(BaseModel):
    """There is nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def notifier(outbound: Outbound) -> Notifier:
    """The notifier, with the way to the devices."""

    async def send(options: DeviceOptions, notification: Notification) -> None:  # noqa: ARG001  # as above
        for item in notification.items:
            alert = item.alert
            if alert.device_id is None:
                continue
            body = {"v": 1, "id": alert.id, "cmd": "alarm", "on": item.event not in {"cleared", "acknowledged"}}
            await outbound.command(alert.device_id, body | ({"level": alert.severity} if body["on"] else {}))

    return Notifier(name="device", title=MANIFEST.title, options_model=DeviceOptions, send=send)


@hookimpl
def register_notifiers(plugin: Plugin) -> Sequence[Notifier]:
    return (notifier(plugin.outbound),)
