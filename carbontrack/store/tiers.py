"""The tiers above the readings: what is marked to be summarised, and what came of it."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.transactions import in_transaction

from carbontrack.ledger import Cause, Day, Hour, HourStatus, Summary
from carbontrack.store.context import in_context
from carbontrack.store.sqlite import to_ms
from carbontrack.store.telemetry import Engine
from carbontrack.store.work import TIER_MS
from carbontrack.store.writer import GroupCommit

HOUR_OPEN_FOR = timedelta(minutes=5)
"""How long after its end an hour may still fill up without that being a new version."""
BUCKET = timedelta(milliseconds=TIER_MS)

_SUMMARY_COLUMNS = tuple(name for name in Summary.__struct_fields__ if name != "length_s")
_HOUR_COLUMNS = Hour.__struct_fields__
_DAY_COLUMNS = Day.__struct_fields__
_STATUS = {status.value: status for status in HourStatus}
_CAUSE = {cause.value: cause for cause in Cause}


@dataclass(frozen=True, slots=True)
class Marks:
    """Buckets that were touched: (stack id, start in UTC ms), and the numbers of their marks."""

    buckets: frozenset[tuple[int, int]]
    ids: tuple[int, ...]


@dataclass(slots=True)
class TierWork:
    """What is to be written in one transaction."""

    summaries: list[Summary] = field(default_factory=list)
    hours: list[Hour] = field(default_factory=list)
    days: list[Day] = field(default_factory=list)


def _upsert(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    places = ", ".join(f"${at}" for at in range(1, len(columns) + 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) "  # noqa: S608  # names out of this module
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )


_UPSERT_SUMMARY = _upsert("tier_5min", _SUMMARY_COLUMNS, ("stack_id", "start"))
_UPSERT_HOUR = _upsert("hour", _HOUR_COLUMNS, ("stack_id", "start"))
_UPSERT_DAY = _upsert("tier_day", _DAY_COLUMNS, ("stack_id", "day"))
_KEEP_VERSION = (
    f"INSERT INTO hour_version ({', '.join(_HOUR_COLUMNS)}, replaced_at) "  # noqa: S608  # names out of this module
    f"SELECT {', '.join(_HOUR_COLUMNS)}, $3 FROM hour WHERE stack_id = $1 AND start = $2 ON CONFLICT DO NOTHING"
)


class Tiers:
    """Queries on the tiers."""

    _engine: Engine
    _context: contextvars.Context
    commits: GroupCommit

    # --- marks

    async def touched_buckets(self, most: int) -> Marks:
        """The oldest marks. They stay until :meth:`forget_marks`, so a crash in between costs work and nothing else.

        The marks are an append-only log: what is marked from now on gets a new number. Forgetting which marks are in
        the database happens between two commits, so no commit can rely on a mark that is about to be deleted.
        """
        async with self.commits.lock:
            rows = await self._engine.rows("SELECT id, stack_id, start FROM dirty_bucket ORDER BY id LIMIT $1", most)
            buckets = frozenset((row["stack_id"], to_ms(self._engine.moment(row["start"]))) for row in rows)
            self.commits.dirty.difference_update(buckets)
        return Marks(buckets, tuple(row["id"] for row in rows))

    async def forget_marks(self, marks: Marks) -> None:
        """Forget these marks and no others: another process may have made one with a smaller number meanwhile."""
        if marks.ids:
            ids = ", ".join(map(str, marks.ids))
            await self._engine.run(f"DELETE FROM dirty_bucket WHERE id IN ({ids})")  # noqa: S608  # whole numbers

    async def touch(self, stack_id: int, since: datetime, until: datetime) -> None:
        """Mark the buckets of [since, until) that have been summarised once, to be summarised again."""
        await self._engine.run(
            """
            INSERT INTO dirty_bucket (stack_id, start)
            SELECT stack_id, start FROM tier_5min WHERE stack_id = $1 AND start >= $2 AND start < $3
            """,
            stack_id,
            since - BUCKET,
            until,
        )

    async def summarised_buckets(self, stack_id: int, since_ms: int, until_ms: int) -> set[int]:
        """The starts, in UTC ms, of the buckets in [since, until) that have been summarised once."""
        rows = await self._engine.rows(
            "SELECT start FROM tier_5min WHERE stack_id = $1 AND start >= $2 AND start < $3",
            stack_id,
            _moment(since_ms),
            _moment(until_ms),
        )
        return {to_ms(self._engine.moment(row["start"])) for row in rows}

    # --- reading

    async def summaries(self, stack_id: int, since: datetime, until: datetime) -> list[Summary]:
        """The 5-minute integrals that begin in [since, until), oldest first."""
        rows = await self._engine.rows(
            "SELECT * FROM tier_5min WHERE stack_id = $1 AND start >= $2 AND start < $3 ORDER BY start",
            stack_id,
            since,
            until,
        )
        return [self._summary(row) for row in rows]

    def _summary(self, row: Mapping[str, Any]) -> Summary:
        values = {name: row[name] for name in _SUMMARY_COLUMNS}
        values["start"] = self._engine.moment(row["start"])
        return Summary(length_s=TIER_MS // 1000, **values)

    async def hours(self, stack_ids: Iterable[int], since: datetime, until: datetime) -> list[Hour]:
        """The hours that begin in [since, until), oldest first for each stack; one still going on may be the last."""
        rows = await self._engine.of_stacks("hour", _HOUR_COLUMNS, stack_ids, since, until)
        return [self._hour_of(row) for row in rows]

    async def earlier_versions(self, stack_id: int, since: datetime, until: datetime) -> list[tuple[Hour, datetime]]:
        """What was the record of some hours before, with the time at which it was replaced; oldest first."""
        rows = await self._engine.rows(
            """
            SELECT * FROM hour_version WHERE stack_id = $1 AND start >= $2 AND start < $3 ORDER BY start, version
            """,
            stack_id,
            since,
            until,
        )
        return [(self._hour(row), self._engine.moment(row["replaced_at"])) for row in rows]

    def _hour(self, row: Mapping[str, Any]) -> Hour:
        return self._hour_of([row[name] for name in _HOUR_COLUMNS])

    def _hour_of(self, row: Iterable[Any]) -> Hour:
        """An hour from its columns in their order; thousands of them are read for one account."""
        stack_id, start, status, cause, *values = row
        return Hour(stack_id, self._engine.moment(start), _STATUS[status], _CAUSE[cause], *values)

    async def days(self, stack_ids: Iterable[int], since: date, until: date) -> list[Day]:
        """The local days in [since, until), oldest first for each stack."""
        rows = await self._engine.of_stacks("tier_day", _DAY_COLUMNS, stack_ids, since, until)
        return [
            Day(stack_id, date.fromisoformat(day) if isinstance(day, str) else day, *values)
            for stack_id, day, *values in rows
        ]

    # --- writing

    @in_context
    async def write_tiers(self, work: TierWork, now: datetime) -> int:
        """Commit all of it or nothing; how many hours that were over have got a new version."""
        engine = self._engine
        async with in_transaction() as connection:
            await _many(connection, engine.sql(_UPSERT_SUMMARY), [self._summary_values(it) for it in work.summaries])
            hours, versions = await self._changed_hours(connection, work.hours, now)
            await _many(connection, engine.sql(_UPSERT_HOUR), [self._hour_values(it) for it in hours])
            await _many(connection, engine.sql(_UPSERT_DAY), [self._day_values(it) for it in work.days])
        return versions

    async def _changed_hours(
        self, connection: BaseDBAsyncClient, hours: Sequence[Hour], now: datetime
    ) -> tuple[list[Hour], int]:
        """The hours whose figures differ from what is kept, with their versions; what they replace is kept too."""
        changed, replaced = [], []
        for hour in hours:
            rows = await connection.execute_query_dict(
                self._engine.sql("SELECT * FROM hour WHERE stack_id = $1 AND start = $2"),
                [hour.stack_id, self._engine.time(hour.start)],
            )
            before = self._hour(dict(rows[0])) if rows else None
            if before is None:
                changed.append(hour)
                continue
            if msgspec.structs.replace(before, version=hour.version) == hour:
                continue
            is_over = now >= hour.start + timedelta(hours=1) + HOUR_OPEN_FOR
            changed.append(msgspec.structs.replace(hour, version=before.version + is_over))
            if is_over:
                replaced.append((hour.stack_id, self._engine.time(hour.start), self._engine.time(now)))
        await _many(connection, self._engine.sql(_KEEP_VERSION), replaced)
        return changed, len(replaced)

    def _summary_values(self, summary: Summary) -> list[Any]:
        values = {name: getattr(summary, name) for name in _SUMMARY_COLUMNS}
        values["start"] = self._engine.time(summary.start)
        return list(values.values())

    def _hour_values(self, hour: Hour) -> list[Any]:
        values = {name: getattr(hour, name) for name in _HOUR_COLUMNS}
        values["start"] = self._engine.time(hour.start)
        values["status"], values["cause"] = hour.status.value, hour.cause.value
        return list(values.values())

    def _day_values(self, day: Day) -> list[Any]:
        values = {name: getattr(day, name) for name in _DAY_COLUMNS}
        values["day"] = self._engine.day(day.day)
        return list(values.values())


async def _many(connection: BaseDBAsyncClient, statement: str, values: list[Any]) -> None:
    if values:
        await connection.execute_many(statement, values)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
