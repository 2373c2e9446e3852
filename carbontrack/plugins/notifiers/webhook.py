"""Notifier "webhook": a signed POST to a web address, once for all people.

    notifications:
      - name: control-room
        notifier: webhook
        options: {url: "https://example.org/alerts", secret: !secret control_room}

The body is JSON. With a secret the header `Carbontrack-Signature: t=<unix time>,v1=<hex>` signs it: HMAC-SHA256 of the
time, a dot and the body. Whoever takes it works that out again, and refuses what is older than a few minutes. The field
`id` stays over attempts.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from carbontrack import AlertItem, Kind, Manifest, Notification, Notifier, Tier, Undeliverable, __version__, hookimpl

MANIFEST = Manifest(
    name="webhook",
    version=__version__,
    kinds=(Kind.NOTIFIER,),
    title="Signed requests to a web address",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)
REFUSED_FOR_EVER = frozenset({400, 404, 405, 410, 413, 415, 422})
"""Answers that say that this will never be taken; what is wrong with our rights may be put right meanwhile."""


def checked_url(url: str) -> str:
    """An address that secrets may be sent to: https, or this very machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname and _is_here(parts.hostname):
        return url
    raise ValueError("must begin with https:// (http:// only for this machine, such as http://127.0.0.1:9000/)")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WebhookOptions(BaseModel):
    """Where to, and what signs it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: Annotated[str, AfterValidator(checked_url)] = Field(examples=["https://example.org/alerts"])
    """The address that gets the POST: https, or http for this machine itself. Redirects are not followed."""
    secret: SecretStr | None = Field(None, min_length=16)
    """What the signature is made with; write it as !secret. Without it there is no signature."""
    timeout_s: float = Field(10.0, gt=0, le=25)
    """An answer that takes longer is none; the request is sent again."""


def body_of(notification: Notification) -> dict[str, Any]:
    """What is sent."""
    return {
        "id": notification.id,
        "event": notification.event,
        "subject": notification.subject,
        "text": notification.text,
        "url": notification.url or None,
        "count": notification.count,
        "alerts": [_alert(item) for item in notification.items],
    }


def _alert(item: AlertItem) -> dict[str, Any]:
    alert = item.alert
    return {
        "id": alert.id,
        "event": item.event,
        "rule": alert.rule,
        "title": item.title,
        "severity": alert.severity,
        "message": alert.message,
        "value": alert.value,
        "limit": alert.limit,
        "unit": alert.unit or None,
        "factory": item.factory.slug if item.factory else None,
        "stack": item.stack.name if item.stack else None,
        "device": alert.device_id,
        "devices": item.devices,
        "factories": item.factories,
        "raised_at": alert.raised_at.isoformat(),
        "cleared_at": alert.cleared_at.isoformat() if alert.cleared_at else None,
        "acknowledged_at": alert.acknowledged_at.isoformat() if alert.acknowledged_at else None,
    }


def signature(secret: str, at: int, body: bytes) -> str:
    """The header's value for a body that is sent at a time (unix, in seconds)."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


async def send(options: WebhookOptions, notification: Notification) -> None:
    """Raises :class:`Undeliverable` for an answer that is final, and what aiohttp raises for any other failure."""
    body = json.dumps(body_of(notification)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"carbontrack/{__version__}"}
    if options.secret is not None:
        headers["Carbontrack-Signature"] = signature(options.secret.get_secret_value(), int(time.time()), body)
    timeout = aiohttp.ClientTimeout(total=options.timeout_s)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(options.url, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        if answer.status in REFUSED_FOR_EVER:
            raise Undeliverable(f"it was answered {answer.status} {answer.reason}")
        if answer.status // 100 != 2:
            raise ConnectionError(f"it was answered {answer.status} {answer.reason}")


WEBHOOK = Notifier(name="webhook", title=MANIFEST.title, options_model=WebhookOptions, send=send)


@hookimpl
def register_notifiers() -> Sequence[Notifier]:
    return (WEBHOOK,)
