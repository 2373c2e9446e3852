"""What could not be used: found again, looked at, handed in once more, or put aside."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from carbontrack.model import MIN_DATETIME, AuditAction, Origin, Quarantined
from carbontrack.store.audit import Audit
from carbontrack.store.context import in_context
from carbontrack.store.sources import BITS
from carbontrack.store.telemetry import Engine

QuarantineState = Literal["open", "replayed", "dismissed"]

_OPEN = "replayed_at IS NULL AND dismissed_at IS NULL"
_STATES: Mapping[QuarantineState, str] = {
    "open": _OPEN,
    "replayed": "replayed_at IS NOT NULL",
    "dismissed": "dismissed_at IS NOT NULL",
}
_MOMENTS = ("received_at", "last_received_at", "replayed_at", "dismissed_at")
_OTHERS = (
    "id",
    "factory_id",
    "device_id",
    "cause",
    "detail",
    "times",
    "replayed_by",
    "replay_outcome",
    "dismissed_by",
    "dismiss_reason",
)
_KEPT = """
SELECT s.base_seq + r.seq AS seq FROM source s JOIN reading r ON r.source_id = s.id
WHERE s.stream_id = $1 AND s.base_seq = $2 AND r.seq >= $3 AND r.seq <= $4
UNION SELECT seq FROM device_record WHERE stream_id = $1 AND seq >= $2 + $3 AND seq <= $2 + $4
"""


class Quarantine(Audit):
    """Queries on the quarantine. ``factory_id`` None is every factory."""

    _engine: Engine

    async def quarantined(
        self,
        *,
        factory_id: int | None = None,
        device_id: str | None = None,
        cause: str | None = None,
        state: QuarantineState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[Quarantined]:
        """What could not be used, newest first, of what came first in [since, until), and older than ``before_id``."""
        wanted = {
            "factory_id = {}": factory_id,
            "device_id = {}": device_id,
            "cause = {}": cause,
            "received_at >= {}": since,
            "received_at < {}": until,
            "id < {}": before_id,
        }
        given = {text: value for text, value in wanted.items() if value is not None}
        conditions = [text.format(f"${number}") for number, text in enumerate(given, start=1)]
        if state is not None:
            conditions.append(_STATES[state])
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = await self._engine.rows(
            f"SELECT * FROM quarantine {where} ORDER BY id DESC LIMIT ${len(given) + 1}",  # noqa: S608  # texts of ours
            *given.values(),
            limit,
        )
        return [self._quarantined(row) for row in rows]

    async def quarantined_item(self, item_id: int, *, factory_id: int | None = None) -> Quarantined | None:
        """One of them, with its body."""
        rows = await self._engine.rows(
            "SELECT * FROM quarantine WHERE id = $1 AND ($2 = 0 OR factory_id = $2)", item_id, factory_id or 0
        )
        return self._quarantined(rows[0]) if rows else None

    @in_context
    async def mark_replayed(self, item: Quarantined, outcome: str, *, by: Origin) -> None:
        """Note that an item was handed in again, by whom, and what became of it."""
        async with self._changing(by) as journal:
            await Engine(journal.connection).run(
                "UPDATE quarantine SET replayed_at = $2, replayed_by = $3, replay_outcome = $4 WHERE id = $1",
                item.id,
                journal.now,
                by.name,
                outcome,
            )
            await journal.note(
                AuditAction.QUARANTINE_REPLAYED, "quarantine", item.id, item.factory_id, after=_event(item, outcome)
            )

    @in_context
    async def dismiss(self, item: Quarantined, reason: str, *, by: Origin) -> None:
        """Put an item aside that nobody needs. It stays where it is."""
        async with self._changing(by) as journal:
            await Engine(journal.connection).run(
                "UPDATE quarantine SET dismissed_at = $2, dismissed_by = $3, dismiss_reason = $4 WHERE id = $1",
                item.id,
                journal.now,
                by.name,
                reason,
            )
            await journal.note(
                AuditAction.QUARANTINE_DISMISSED, "quarantine", item.id, item.factory_id, after=_event(item, reason)
            )

    async def quarantine_counts(
        self, *, factory_id: int | None = None, since: datetime = MIN_DATETIME
    ) -> dict[str, int]:
        """How many payloads or rows came since then that nobody has seen to, by cause."""
        rows = await self._engine.rows(
            f"""
            SELECT cause, sum(times) AS n FROM quarantine
            WHERE ($1 = 0 OR factory_id = $1) AND last_received_at >= $2 AND {_OPEN} GROUP BY cause ORDER BY n DESC
            """,  # noqa: S608  # texts of ours
            factory_id or 0,
            since,
        )
        return {row["cause"]: int(row["n"]) for row in rows}

    async def kept_numbers(self, stream_pk: int, first: int, last: int) -> set[int]:
        """Which of these numbers of a stream are in the database as readings or records, of whatever time."""
        kept: set[int] = set()
        for base in {first >> BITS << BITS, last >> BITS << BITS}:
            low, high = max(first - base, 0), min(last - base, (1 << BITS) - 1)
            kept.update(row["seq"] for row in await self._engine.rows(_KEPT, stream_pk, base, low, high))
        return kept

    def _quarantined(self, row: Mapping[str, Any]) -> Quarantined:
        moment = self._engine.moment
        values: dict[str, Any] = {name: row[name] for name in _OTHERS}
        values |= {name: None if row[name] is None else moment(row[name]) for name in _MOMENTS}
        return Quarantined(**values, body=bytes(row["body"]))


def _event(item: Quarantined, why: str) -> Mapping[str, str]:
    return {"device_id": item.device_id, "cause": item.cause, "outcome": why}
