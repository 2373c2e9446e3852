"""Reading telemetry back: streams and the 5-minute tier. Plain SQL for both engines.

The SQL is written for PostgreSQL; for SQLite, where times are integers in ms, :class:`Engine` translates the little
that differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient

from carbontrack.model import Recovery, StackTotal, TrendPoint
from carbontrack.store.sqlite import to_ms
from carbontrack.store.work import TIER_MS, outages, stream_from_row
from carbontrack.streams import Stream

BUCKET = timedelta(milliseconds=TIER_MS)
ADJOINING = timedelta(minutes=10)
"""Recovered spans with less between them are one outage: a core that restarted meanwhile tells of two."""

_TREND = ("stack_id", "start", "count", "valid_s", "off_s", "co2_kg", "min_kg_per_s", "max_kg_per_s")
_TOTALS = """
SELECT t.stack_id, sum({kg}), sum({seconds}), sum(t.count)
FROM {table} t JOIN stack s ON s.id = t.stack_id
WHERE t.start >= $1 AND t.start < $2 AND ($3 = 0 OR s.factory_id = $3) GROUP BY t.stack_id
"""
_HOUR_TOTALS = _TOTALS.format(table="hour", kg="t.measured_kg", seconds="3600 * t.coverage")
_BUCKET_TOTALS = _TOTALS.format(table="tier_5min", kg="t.co2_kg", seconds="t.valid_s + t.off_s")


class Engine:
    """The two engines' differences: how a parameter is written, and how a time is."""

    def __init__(self, connection: BaseDBAsyncClient) -> None:
        self.connection = connection
        self.is_postgres = connection.capabilities.dialect == "postgres"

    def sql(self, text: str) -> str:
        return text if self.is_postgres else re.sub(r"\$(\d+)", r"?\1", text)

    def time(self, moment: datetime) -> datetime | int:
        return moment if self.is_postgres else to_ms(moment)

    def moment(self, value: Any) -> datetime:
        return value if self.is_postgres else datetime.fromtimestamp(value / 1000, UTC)

    def day(self, day: date) -> date | str:
        return day if self.is_postgres else day.isoformat()

    async def records(self, text: str, *values: Any) -> Sequence[Any]:
        """Rows as tuples: for thousands of them."""
        with outages():
            _, rows = await self.connection.execute_query(self.sql(text), list(values))
        return rows

    async def of_stacks(
        self,
        table: str,
        columns: Sequence[str],
        stack_ids: Iterable[int],
        since: datetime | date,
        until: datetime | date,
    ) -> list[Any]:
        """Rows of a tier in [since, until) as tuples, oldest first for each stack: one question, however many stacks.

        The first two columns are the stack and the time.
        """
        stack, at = columns[:2]
        wanted = list(stack_ids)
        among = "= ANY($1::int[])" if self.is_postgres else "IN (SELECT value FROM json_each($1))"
        text = (
            f"SELECT {', '.join(columns)} FROM {table} "  # noqa: S608  # names out of our modules
            f"WHERE {stack} {among} AND {at} >= $2 AND {at} < $3 ORDER BY {at}"
        )
        limits = [self.time(it) if isinstance(it, datetime) else self.day(it) for it in (since, until)]
        rows = await self.records(text, wanted if self.is_postgres else json.dumps(wanted), *limits)
        by_stack: dict[int, list[Any]] = {stack_id: [] for stack_id in wanted}
        for row in rows:
            by_stack[row[0]].append(row)
        return [row for of_one in by_stack.values() for row in of_one]

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

    async def last_heard(self) -> dict[str, datetime]:
        """When each device's newest data came."""
        rows = await self._engine.rows("SELECT device_id, max(last_received_at) AS at FROM stream GROUP BY device_id")
        return {row["device_id"]: self._engine.moment(row["at"]) for row in rows if row["at"] is not None}

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

    # --- what devices say of themselves

    async def newest_health(self, since: datetime) -> dict[str, tuple[datetime, dict[str, Any]]]:
        """Each device's newest health record that was measured since then: when, and what it says."""
        rows = await self._engine.rows(
            """
            SELECT t.device_id, r.measured_at, r.data
            FROM stream t JOIN device_record r ON r.kind = 'health' AND r.stream_id = t.id AND r.measured_at = (
                SELECT max(m.measured_at) FROM device_record m
                WHERE m.kind = 'health' AND m.stream_id = t.id AND m.measured_at >= $1)
            WHERE r.measured_at >= $1 ORDER BY r.measured_at, r.seq
            """,
            since,
        )
        return {row["device_id"]: (self._engine.moment(row["measured_at"]), json.loads(row["data"])) for row in rows}

    # --- the finest tier

    async def trend(self, stack_ids: Sequence[int], since: datetime, until: datetime) -> list[TrendPoint]:
        """The 5-minute buckets that begin in [since, until), oldest first for each stack."""
        moment = self._engine.moment
        return [
            TrendPoint(
                stack_id=stack_id,
                start=moment(start),
                count=count,
                coverage=min(1.0, (valid_s + off_s) / BUCKET.total_seconds()),
                co2_kg=co2_kg,
                mean_kg_per_s=co2_kg / (valid_s + off_s) if valid_s + off_s else None,
                min_kg_per_s=min_kg_per_s,
                max_kg_per_s=max_kg_per_s,
            )
            for stack_id, start, count, valid_s, off_s, co2_kg, min_kg_per_s, max_kg_per_s in (
                await self._engine.of_stacks("tier_5min", _TREND, stack_ids, since, until)
            )
        ]

    async def totals(self, since: datetime, until: datetime, factory_id: int | None = None) -> list[StackTotal]:
        """Measured stack CO2 of each stack over the buckets that begin in [since, until).

        An hour is written together with its buckets and has their sums, so that whole hours stand for theirs: of a day
        of the whole network 12 times fewer rows.
        """
        first, last = _hour_from(since), _hour_before(until)
        asked = [(_HOUR_TOTALS, first, last)] if first < last else []
        edges = [(since, first), (last, until)] if first < last else [(since, until)]
        asked += [(_BUCKET_TOTALS, begin, end) for begin, end in edges if begin < end]
        sums: dict[int, tuple[float, float, int]] = {}
        for text, begin, end in asked:
            for stack_id, co2_kg, seconds, count in await self._engine.records(
                text, self._engine.time(begin), self._engine.time(end), factory_id or 0
            ):
                before = sums.get(stack_id, (0.0, 0.0, 0))
                sums[stack_id] = (before[0] + co2_kg, before[1] + seconds, before[2] + int(count))
        length_s = max((until - since).total_seconds(), 1.0)
        return [
            StackTotal(stack_id, co2_kg, min(1.0, seconds / length_s), count)
            for stack_id, (co2_kg, seconds, count) in sums.items()
        ]

    # --- outages whose readings came later

    async def add_recovery(
        self, device_id: str, factory_id: int, stack_id: int, since: datetime, until: datetime, readings: int
    ) -> None:
        """Keep that the readings of [since, until] have come, from a device's store; what adjoins is one outage."""
        found = await self._engine.rows(
            """
            SELECT id, since, until FROM recovery
            WHERE device_id = $1 AND stack_id = $2 AND since <= $3 AND until >= $4 ORDER BY id DESC LIMIT 1
            """,
            device_id,
            stack_id,
            until + ADJOINING,
            since - ADJOINING,
        )
        now = datetime.now(UTC)
        if found:
            moment = self._engine.moment
            since, until = min(since, moment(found[0]["since"])), max(until, moment(found[0]["until"]))
            await self._engine.run(
                "UPDATE recovery SET since = $2, until = $3, readings = readings + $4, recovered_at = $5 WHERE id = $1",
                found[0]["id"],
                since,
                until,
                readings,
                now,
            )
            return
        await self._engine.run(
            """
            INSERT INTO recovery (device_id, factory_id, stack_id, since, until, readings, recovered_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            device_id,
            factory_id,
            stack_id,
            since,
            until,
            readings,
            now,
        )

    async def recoveries(self, since: datetime, *, factory_id: int | None = None, limit: int = 100) -> list[Recovery]:
        """The outages that were recovered since then, newest first."""
        rows = await self._engine.rows(
            """
            SELECT * FROM recovery WHERE recovered_at >= $1 AND ($2 = 0 OR factory_id = $2)
            ORDER BY recovered_at DESC, id DESC LIMIT $3
            """,
            since,
            factory_id or 0,
            limit,
        )
        moment = self._engine.moment
        return [
            Recovery(
                row["device_id"],
                row["factory_id"],
                row["stack_id"],
                moment(row["since"]),
                moment(row["until"]),
                row["readings"],
                moment(row["recovered_at"]),
            )
            for row in rows
        ]


def _hour_before(moment: datetime) -> datetime:
    """The last whole hour that has begun at a moment."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _hour_from(moment: datetime) -> datetime:
    """The first whole hour from a moment on."""
    begun = _hour_before(moment)
    return begun if begun == moment else begun + timedelta(hours=1)
