"""Notifier "log": writes every alert into the core's own log.

    notifications:
      - name: alerts-in-the-log
        notifier: log
        min_severity: info

One line for an alert that is raised, one when somebody acknowledges it and one for its end, with the fields of the
alert: whatever reads the log already (journald, Loki, a mail on "error") can tell people. A critical alert is logged as
an error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import structlog
from pydantic import BaseModel, ConfigDict

from carbontrack import Kind, Manifest, Notification, Notifier, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="log",
    version=__version__,
    kinds=(Kind.NOTIFIER,),
    title="Writes alerts into the log",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}

log = structlog.get_logger(__name__)


class LogOptions(BaseModel):
    """There is nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


EVENTS = {"cleared": "alert is over", "acknowledged": "alert acknowledged"}


async def send(options: LogOptions, notification: Notification) -> None:  # noqa: ARG001  # a notifier takes its options
    """Write a line for each alert."""
    for item in notification.items:
        alert = item.alert
        log.log(
            logging.INFO if item.event in EVENTS else LEVELS.get(alert.severity, logging.WARNING),
            EVENTS.get(item.event, "alert raised"),
            alert=alert.rule,
            severity=alert.severity,
            factory=item.factory.name if item.factory else None,
            stack=item.stack.name if item.stack else None,
            device=alert.device_id,
            message=alert.message,
            since=alert.raised_at.isoformat(),
            until=alert.cleared_at.isoformat() if alert.cleared_at else None,
            by=alert.acknowledged_by or None,
        )


LOG = Notifier(name="log", title="Writes alerts into the log", options_model=LogOptions, send=send)


@hookimpl
def register_notifiers() -> Sequence[Notifier]:
    return (LOG,)
