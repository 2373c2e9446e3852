"""Devices' messages over HTTP, where MQTT cannot pass: the same actor, the same validation, the same receipts.

A device waits for its answer until the commit, so the answer is its receipt.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from aiohttp import web
from pydantic import Field

from carbontrack.fleet import Undelivered
from carbontrack.metrics import HTTP_DELIVERIES, Metrics
from carbontrack.model import Outcome, Payload, Scope
from carbontrack.web.access import DEVICE, REGISTRY_ROLES
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Input, Output, read_json
from carbontrack.web.services import SERVICES, Services

Lane = Literal["live", "backlog"]
SOON_S = 5
LATER_S = 60
"""A device that is parked waits for a person."""
REFUSALS = {
    "unknown_device": (404, "There is no device of this id."),
    "disabled_device": (409, "The device is disabled. Keep what you have until it is enabled."),
    "flooding": (429, "This is more than one device may send. Wait, and send it again."),
    "mailbox_full": (503, "Too much of this device waits to be stored. Send it again later."),
    "parked": (503, "The device's readings cannot be taken until an operator has looked at it. Send them again later."),
    "stopped": (503, "The device was changed at this moment. Send it again."),
    "not_committed": (503, "The database has not confirmed it in time. Send it again: nothing is stored twice."),
}
"""Why messages were not taken, or are not known to be kept: status and what to do."""


EXAMPLE = {
    "v": 1, "sid": "9f3c21aa", "boot": 4, "cfg": 1, "seq": 1, "n": 1, "t": 1772366400000,
    "s": {"cols": ["ds", "dt", "tq", "co2", "tg", "v"], "rows": [[0, 0, 1, 98000, 183.25, 4.12]]},
}  # fmt: skip
"""One sample in the form of our own devices (docs/protocol.md)."""


def add_routes(app: web.Application) -> None:
    """Add the way in for devices to the application."""
    app.router.add_post("/api/emissions/", post_emissions)


class Handed(Input):
    """``device_id`` says whose messages they are, where a person hands them in."""

    device_id: str | None = Field(None, min_length=1, max_length=64)
    lane: Lane = "live"


class Taken(Output):
    """What became of the readings of a request, and what the device is told."""

    stored: int
    """How many readings are kept now."""
    duplicate: int
    """How many were kept before."""
    quarantined: int
    """How many could not be used; they are kept with their cause."""
    refused: int
    """Not taken: the stream has too many holes, or the device too many streams."""
    causes: list[str]
    """Why something went to quarantine: the first few reasons, each once."""
    receipts: dict[str, int]
    """Stream -> the number up to which the device may forget what it has."""
    now: int
    """The platform's time, in ms since 1970."""
    credit: float
    """How many messages a second of its backlog the device may send."""


@operation(
    Tag.READINGS,
    REGISTRY_ROLES,
    scope=Scope.EMISSIONS,
    devices=True,
    status=202,
    problems=(404, 409, 429),
    reads={"application/json": {"examples": [EXAMPLE]}},
)
async def post_emissions(request: web.Request, query: Handed) -> Taken:
    """Hand in what a device has measured: one message of its own form, or a list of them.

    The answer comes when all is committed, so that it is the receipt: what its `receipts` cover, the device may
    forget. It is safe to send the same again. What cannot be read is kept in quarantine, with its cause.
    """
    device = request.get(DEVICE)
    if device is None and query.device_id is None:
        raise Problem(422, WRONG, (("device_id", "say whose messages these are"),))
    if device is not None and query.device_id not in {None, device.device_id}:
        raise Problem(403, "A device sends for itself alone.")
    services = request.app[SERVICES]
    device_id = device.device_id if device is not None else str(query.device_id)
    outcome = await take(services, device_id, await read_json(request), query.lane)
    told = {"now": _now_ms(services), "credit": services.whole_fleet.credit(device_id)}
    return Taken(**msgspec.to_builtins(outcome), **told)


async def take(services: Services, device_id: str, body: bytes, lane: Lane) -> Outcome:
    """Hand a device's messages in and return when they are committed, with what became of them.

    Raises :class:`Problem` where they cannot be taken now; then it is safe to send all of them again.
    """
    channel = "data" if lane == "live" else "backlog"
    parts = _messages(body, services.whole_fleet.most_at_once)
    metrics, count = services.metrics, len(parts)
    if any(len(part) > services.max_payload_bytes for part in parts):
        _count(metrics, "too_large", count, count)
        raise Problem(413, f"A message has {services.max_payload_bytes:,} bytes at most.")
    try:
        now_ms = _now_ms(services)
        payloads = [Payload(device_id, channel, part, now_ms) for part in parts]
        outcome = await services.whole_fleet.deliver(payloads, services.device_patience_s)
    except Undelivered as error:
        _count(metrics, error.reason, count, error.refused)
        raise problem_of(error) from None
    _count(metrics, "delivered", count, 0)
    return outcome


def _messages(body: bytes, most: int) -> list[bytes]:
    """The messages of a body: each member of a list, or else the whole as it is, for the device's driver to judge."""
    if not body.strip():
        raise Problem(422, WRONG, (("", "send a message, or a list of messages"),))
    if not body.lstrip().startswith(b"["):
        return [body]
    try:
        parts = [bytes(part) for part in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Not for the driver: it would take the first member's head for that of the whole.
        raise Problem(422, WRONG, (("", f"Invalid JSON: {error}"),)) from None
    if not 1 <= len(parts) <= most:
        raise Problem(422, WRONG, (("", f"send 1 to {most} messages at once"),))
    return parts


def _now_ms(services: Services) -> int:
    return round(services.clock().timestamp() * 1000)


def _count(metrics: Metrics, reason: str, count: int, refused: int) -> None:
    """Keep the account of what comes, as for messages of the broker; a refused message counts as one reading."""
    metrics.http_deliveries["delivered"].inc(count - refused)
    if refused:
        # What waited for the messages before it had no room until it was given up.
        metrics.http_deliveries[reason if reason in HTTP_DELIVERIES else "mailbox_full"].inc(refused)
        metrics.received.inc(refused)
        metrics.outcomes["refused"].inc(refused)


def problem_of(error: Undelivered) -> Problem:
    """What to tell whoever handed it in."""
    status, detail = REFUSALS[error.reason]
    problem = Problem(status, detail)
    if error.room_in_s is not None:
        problem.headers["Retry-After"] = str(max(1, math.ceil(error.room_in_s)))
    elif status == 503:
        problem.headers["Retry-After"] = str(LATER_S if error.reason == "parked" else SOON_S)
    return problem
