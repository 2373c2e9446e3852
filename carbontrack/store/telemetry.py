"""Reading telemetry back: streams, readings, the 5-minute tier, quarantine. Plain SQL for both engines.

The SQL is written for PostgreSQL; for SQLite, where times are integers in ms, :class:`Engine` translates the little
that differs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient

from carbontrack.model import MIN_DATETIME, Quarantined, Reading, StackTotal, TrendPoint
from carbontrack.store.sqlite import to_ms
from carbontrack.store.work import TIER_MS, outages, stream_from_row
from carbontrack.store.writer import GroupCommit
from carbontrack.streams import Stream

BUCKET = timedelta(milliseconds=TIER_MS)
LONGEST_STEP_S = 60
"""A reading speaks for the time until the next one, if that comes within this (docs/calculation.md, step 12)."""
LAST_STEP_S = 5
"""What a reading speaks for when none follows so soon: one normal interval."""

# One bucket: each reading holds until the next reading of the stack. The rows of the following minute are read too,
# so that the bucket's last reading knows its successor; one that comes later is the other side of a gap.
_SUMMARISE = """
INSERT INTO tier_5min (stack_id, start, count, seconds, co2_kg, mean_kg_per_s, min_kg_per_s, max_kg_per_s)
SELECT stack_id, $2, count(*), sum(valid_s), coalesce(sum(valid_s * rate), 0),
    CASE WHEN sum(valid_s) > 0 THEN sum(valid_s * rate) / sum(valid_s) END, min(rate), max(rate)
FROM (
    SELECT stack_id, measured_at, co2_kg_per_s AS rate,
        CASE WHEN co2_kg_per_s IS NULL THEN 0 ELSE {step} END AS valid_s
    FROM (
        SELECT stack_id, measured_at, co2_kg_per_s,
            lead(measured_at) OVER (ORDER BY measured_at, stream_id, seq) AS next_at
        FROM reading WHERE stack_id = $1 AND measured_at >= $2 AND measured_at < $4
    ) AS with_next
) AS steps
WHERE measured_at < $3 GROUP BY stack_id
ON CONFLICT (stack_id, start) DO UPDATE SET count = excluded.count, seconds = excluded.seconds,
    co2_kg = excluded.co2_kg, mean_kg_per_s = excluded.mean_kg_per_s,
    min_kg_per_s = excluded.min_kg_per_s, max_kg_per_s = excluded.max_kg_per_s
"""
_STEP = "CASE WHEN {gap} <= {longest} THEN {gap} ELSE {last} END"
_GAP_POSTGRES = "extract(epoch FROM next_at - measured_at)"
_GAP_SQLITE = "(next_at - measured_at) / 1000.0"


class Engine:
    """The two engines' differences: how a parameter is written, and how a time is."""

    def __init__(self, connection: BaseDBAsyncClient) -> None:
        self.connection = connection
        self.is_postgres = connection.capabilities.dialect == "postgres"
        gap = _GAP_POSTGRES if self.is_postgres else _GAP_SQLITE
        step = _STEP.format(gap=gap, longest=LONGEST_STEP_S, last=LAST_STEP_S)
        # sum() over integers and NULLs: valid_s is 0 where the rate is NULL, and 0 * NULL is NULL, which sum() skips.
        self.summarise_sql = self.sql(_SUMMARISE.format(step=step))

    def sql(self, text: str) -> str:
        return text if self.is_postgres else re.sub(r"\$(\d+)", r"?\1", text)

    def time(self, moment: datetime) -> datetime | int:
        return moment if self.is_postgres else to_ms(moment)

    def moment(self, value: Any) -> datetime:
        return value if self.is_postgres else datetime.fromtimestamp(value / 1000, UTC)

    async def rows(self, text: str, *values: Any) -> list[dict[str, Any]]:
        converted = [self.time(value) if isinstance(value, datetime) else value for value in values]
        with outages():
            return [dict(row) for row in await self.connection.execute_query_dict(self.sql(text), converted)]

    async def run(self, text: str, *values: Any) -> None:
        converted = [self.time(value) if isinstance(value, datetime) else value for value in values]
        with outages():
            await self.connection.execute_query(self.sql(text), converted)


class Telemetry:
    """Every query on telemetry, taking and returning ``model`` objects."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- streams

    async def streams(self, device_id: str | None = None) -> dict[str, list[Stream]]:
        """The streams of one device, or of all of them, by device id, each device's latest used last."""
        text = "SELECT * FROM stream WHERE $1 = '' OR device_id = $1 ORDER BY last_received_at, id"
        found: dict[str, list[Stream]] = {}
        for row in await self._engine.rows(text, device_id or ""):
            found.setdefault(row["device_id"], []).append(stream_from_row(row))
        return found

    async def open_stream(self, device_id: str, sid: str) -> Stream:
        """A new stream of a device, or the one that is there already."""
        await self._engine.run(
            "INSERT INTO stream (device_id, sid) VALUES ($1, $2) ON CONFLICT DO NOTHING", device_id, sid
        )
        rows = await self._engine.rows("SELECT * FROM stream WHERE device_id = $1 AND sid = $2", device_id, sid)
        return stream_from_row(rows[0])

    async def newest_readings(self) -> dict[str, Reading]:
        """The newest reading by measuring time of every device, for the live state after a start."""
        # The stream knows where its newest reading is, so that this is one index look-up a device and not a scan.
        newest = "to_timestamp(s.last_measured_ms / 1000.0)" if self._engine.is_postgres else "s.last_measured_ms"
        rows = await self._engine.rows(
            f"""
            SELECT s.device_id AS node, r.* FROM stream s
            JOIN reading r ON r.stack_id = s.last_stack_id AND r.measured_at = {newest} AND r.stream_id = s.id
            ORDER BY r.measured_at
            """  # noqa: S608  # one of the two texts above
        )
        return {row["node"]: self._reading(row) for row in rows}

    # --- readings and tiers

    def _reading(self, row: dict[str, Any]) -> Reading:
        moment = self._engine.moment
        return Reading(
            row["stack_id"],
            row["stream_id"],
            row["seq"],
            moment(row["measured_at"]),
            moment(row["received_at"]),
            row["co2_ppm"],
            row["temperature_c"],
            row["velocity_ms"],
            row["pressure_kpa"],
            row["flow_rate_m3s"],
            row["co2_kg_per_s"],
            row["flags"],
        )

    async def readings(
        self, stack_ids: Sequence[int], since: datetime, until: datetime, limit: int = 100_000
    ) -> list[Reading]:
        """Readings measured in [since, until), oldest first for each stack, at most ``limit``."""
        found: list[Reading] = []
        for stack_id in stack_ids:
            rows = await self._engine.rows(
                """
                SELECT * FROM reading WHERE stack_id = $1 AND measured_at >= $2 AND measured_at < $3
                ORDER BY measured_at, stream_id, seq LIMIT $4
                """,
                stack_id,
                since,
                until,
                limit - len(found),
            )
            found += [self._reading(row) for row in rows]
        return found

    async def trend(self, stack_ids: Sequence[int], since: datetime, until: datetime) -> list[TrendPoint]:
        """The 5-minute buckets that begin in [since, until), oldest first for each stack."""
        points: list[TrendPoint] = []
        for stack_id in stack_ids:
            rows = await self._engine.rows(
                "SELECT * FROM tier_5min WHERE stack_id = $1 AND start >= $2 AND start < $3 ORDER BY start",
                stack_id,
                since,
                until,
            )
            points += [
                TrendPoint(
                    stack_id=stack_id,
                    start=self._engine.moment(row["start"]),
                    count=row["count"],
                    coverage=min(1.0, row["seconds"] / BUCKET.total_seconds()),
                    co2_kg=row["co2_kg"] or 0.0,
                    mean_kg_per_s=row["mean_kg_per_s"],
                    min_kg_per_s=row["min_kg_per_s"],
                    max_kg_per_s=row["max_kg_per_s"],
                )
                for row in rows
            ]
        return points

    async def totals(self, since: datetime, until: datetime, factory_id: int | None = None) -> list[StackTotal]:
        """Measured stack CO2 of each stack over the buckets that begin in [since, until)."""
        rows = await self._engine.rows(
            """
            SELECT t.stack_id, sum(t.co2_kg) AS co2_kg, sum(t.seconds) AS seconds, sum(t.count) AS count
            FROM tier_5min t JOIN stack s ON s.id = t.stack_id
            WHERE t.start >= $1 AND t.start < $2 AND ($3 = 0 OR s.factory_id = $3) GROUP BY t.stack_id
            """,
            since,
            until,
            factory_id or 0,
        )
        length_s = max((until - since).total_seconds(), 1.0)
        return [
            StackTotal(row["stack_id"], row["co2_kg"] or 0.0, min(1.0, row["seconds"] / length_s), int(row["count"]))
            for row in rows
        ]

    # --- quarantine

    async def quarantined(self, *, factory_id: int | None = None, limit: int = 50) -> list[Quarantined]:
        """What could not be used, newest first."""
        rows = await self._engine.rows(
            "SELECT * FROM quarantine WHERE $1 = 0 OR factory_id = $1 ORDER BY id DESC LIMIT $2",
            factory_id or 0,
            limit,
        )
        return [
            Quarantined(
                row["device_id"],
                row["cause"],
                row["detail"],
                self._engine.moment(row["received_at"]),
                bytes(row["body"]),
                row["id"],
            )
            for row in rows
        ]

    async def quarantine_counts(
        self, *, factory_id: int | None = None, since: datetime = MIN_DATETIME
    ) -> dict[str, int]:
        """How many payloads or rows came into quarantine since then, by cause."""
        rows = await self._engine.rows(
            """
            SELECT cause, count(*) AS n FROM quarantine
            WHERE ($1 = 0 OR factory_id = $1) AND received_at >= $2 GROUP BY cause ORDER BY n DESC
            """,
            factory_id or 0,
            since,
        )
        return {row["cause"]: int(row["n"]) for row in rows}

    # --- the 5-minute tier

    async def summarise(self, commits: GroupCommit, most: int = 500) -> int:
        """Summarise buckets that were touched since, again where it was late data; how many were.

        The marks are an append-only log: what is marked while this runs gets a new number and stays. Forgetting which
        marks are in the database happens between two commits, so no commit can rely on a mark that is deleted here.
        """
        async with commits.lock:
            rows = await self._engine.rows("SELECT id, stack_id, start FROM dirty_bucket ORDER BY id LIMIT $1", most)
            commits.dirty.difference_update((row["stack_id"], to_ms(self._engine.moment(row["start"]))) for row in rows)
        if not rows:
            return 0
        buckets = sorted({(row["stack_id"], self._engine.moment(row["start"])) for row in rows})
        values = [
            [stack_id, *map(self._engine.time, (start, start + BUCKET, start + BUCKET + timedelta(seconds=60)))]
            for stack_id, start in buckets
        ]
        connection = self._engine.connection
        for at in range(0, len(values), 100):
            with outages():
                await connection.execute_many(self._engine.summarise_sql, values[at : at + 100])
            await asyncio.sleep(0)
        await self._engine.run("DELETE FROM dirty_bucket WHERE id <= $1", rows[-1]["id"])
        return len(buckets)
