"""The device protocol's messages as bytes (docs/protocol.md). No state, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from carbontrack.simulator.ring import Kept, Value

MOST_RECORDS = 60
"""Records in one backlog message."""
COLUMNS = {
    "s": ("co2", "tg", "dp", "v", "pa", "ti", "m", "st"),
    "m": ("run_s", "kwh", "rst"),
    "h": ("rssi", "ring_used", "reconnects", "uptime_s"),
    "e": ("code", "lvl", "on", "val", "lim"),
    "g": ("from", "to", "why"),
    "a": ("boot", "utc", "ms"),
}
"""The columns of each kind of record, after those that all have: offset of the number, of the time, clock quality."""


class Receipt(msgspec.Struct, frozen=True):
    """What the platform has of a stream: every record up to ``seq``. ``credit`` is in backlog messages a second."""

    sid: str
    seq: int
    credit: float = 1.0


decode_receipt = msgspec.json.Decoder(Receipt).decode


def message(sid: str, records: Sequence[Kept], cfg: int = 0) -> bytes:
    """Records of one boot with consecutive numbers, in blocks by kind. ``cfg``: the revision of the node's settings."""
    first = records[0]
    blocks: dict[str, dict[str, Any]] = {}
    for record in records:
        block = blocks.get(record.kind)
        if block is None:
            block = blocks[record.kind] = {"cols": ("ds", "dt", "tq", *COLUMNS[record.kind]), "rows": []}
        row: tuple[Value, ...] = (record.seq - first.seq, record.time_ms - first.time_ms, record.clock, *record.row)
        block["rows"].append(row)
    head = {"v": 1, "sid": sid, "boot": first.boot, "cfg": cfg, "seq": first.seq}
    return msgspec.json.encode(head | {"n": len(records), "t": first.time_ms} | blocks)


def batch(records: Sequence[Kept]) -> Sequence[Kept]:
    """The longest beginning of ``records`` that fits into one message: one boot, and one way to tell the time."""
    first = records[0]
    for number, record in enumerate(records[:MOST_RECORDS]):
        if record.boot != first.boot or (record.clock == 0) != (first.clock == 0):
            return records[:number]
    return records[:MOST_RECORDS]


def offline(conn: int, boot: int, why: str | None = None) -> bytes:
    """The last will of a connection; with a reason, the goodbye of a node that is shut down."""
    body: dict[str, Any] = {"v": 1, "online": False, "conn": conn, "boot": boot}
    return msgspec.json.encode(body if why is None else body | {"why": why})
