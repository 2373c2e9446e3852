"""PostgreSQL: binary COPY straight into the days' tables; by way of a staging table when a row is there already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import msgspec

from carbontrack.store.partitions import ensure_days
from carbontrack.store.sources import COLUMNS, Key, Row, Sources, row_of
from carbontrack.store.work import FOLD_WITHIN, Batch, StoreBusy, StoreFull, StoreUnavailable, digest_of, outages
from carbontrack.store.writer import BadRow

_UPDATE_STREAMS = """
UPDATE stream SET watermark = u.watermark, beyond = u.beyond, anchors = u.anchors,
    last_measured_ms = u.last_measured_ms, last_stack_id = u.last_stack_id, last_seq = u.last_seq,
    last_received_at = u.last_received_at
FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::int[], $7::bigint[], $8::timestamptz[])
    AS u (id, watermark, beyond, anchors, last_measured_ms, last_stack_id, last_seq, last_received_at)
WHERE stream.id = u.id
"""
_INSERT_STAGED = """
INSERT INTO reading SELECT * FROM staged ON CONFLICT DO NOTHING RETURNING source_id, seq, measured_at
"""
_INSERT_RECORDS = """
INSERT INTO device_record (stream_id, seq, kind, measured_at, received_at, data)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""
_ADD_QUARANTINED = """
WITH again AS (
    UPDATE quarantine SET times = times + 1, last_received_at = $5 WHERE id = (
        SELECT id FROM quarantine WHERE digest = $7 AND last_received_at > $8
        AND replayed_at IS NULL AND dismissed_at IS NULL ORDER BY id DESC LIMIT 1)
    RETURNING id
)
INSERT INTO quarantine (factory_id, device_id, cause, detail, received_at, last_received_at, body, digest)
SELECT $1::int, $2, $3, $4, $5::timestamptz, $5, $6::bytea, $7 WHERE NOT EXISTS (SELECT FROM again)
"""
_ADD_SOURCES = """
INSERT INTO source (stream_id, stack_id, base_seq) SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[])
ON CONFLICT DO NOTHING
"""
_FIND_SOURCES = """
SELECT s.stream_id, s.stack_id, s.base_seq, s.id FROM source s
JOIN unnest($1::int[], $2::int[], $3::bigint[]) AS u (stream_id, stack_id, base_seq)
    USING (stream_id, stack_id, base_seq)
"""
_MARK_BUCKETS = "INSERT INTO dirty_bucket (stack_id, start) SELECT * FROM unnest($1::int[], $2::timestamptz[])"

MOST_NEW_DAYS = 16
"""Tables of so many days are made at once. A clock that jumps may ask for years, and a table takes about 10 ms."""
IN_USE = 0x43_54_32
"""Of PostgreSQL's advisory locks: shared by all that have the store open; who restores a backup must be alone."""

_BAD_VALUE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.UntranslatableCharacterError,
    ValueError,
    TypeError,
    OverflowError,
)


class _EndOfTrial(Exception):
    """Ends a transaction that is to leave nothing."""


class PostgresBackend:
    """One connection of its own, opened when it is needed and after it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection[Any] | None = None
        self._sources = Sources(self._find_sources)
        self._days: set[date] = set()
        """Days whose tables are there."""

    async def open(self) -> None:
        """From here on the database is in use: no backup is restored into it."""
        with outages():
            await self._connected()

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close(timeout=5)

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._days.clear()  # whoever else was there meanwhile may have taken some away
            connection = await asyncpg.connect(
                self._url, timeout=10, command_timeout=60, server_settings={"application_name": "carbontrack-writer"}
            )
            if not await connection.fetchval("SELECT pg_try_advisory_lock_shared($1)", IN_USE):
                await connection.close(timeout=5)
                raise StoreUnavailable("PostgreSQL: a backup is being restored into this database")
            self._connection = connection
            await self._connection.execute(
                "CREATE TEMPORARY TABLE staged (LIKE reading INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
            )
        return self._connection

    async def write(self, batch: Batch, *, trial: bool = False) -> Sequence[int]:
        try:
            connection = await self._connected()
            # Outside the transaction: a source without a reading does no harm, an id that was rolled back would.
            rows = [row_of(source, item, item.measured_at) for source, item in await self._sources.of(batch.readings)]
            days = {item.measured_at.date() for item in batch.readings} | {at.date() for _, _, at, _ in batch.records}
            try:
                return await self._write(connection, rows, batch, days, trial=trial)
            except asyncpg.CheckViolationError:  # a day that was there has been archived since
                self._days.clear()
                return await self._write(connection, rows, batch, days, trial=trial)
        except _EndOfTrial:
            return ()
        except asyncpg.DiskFullError as error:
            raise StoreFull(f"PostgreSQL: {error}") from error
        except _BAD_VALUE as error:
            raise BadRow(f"{type(error).__name__}: {error}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error

    async def _write(
        self, connection: asyncpg.Connection[Any], rows: list[Row], batch: Batch, days: set[date], *, trial: bool
    ) -> Sequence[int]:
        if new := days - self._days:
            if len(new) > MOST_NEW_DAYS and batch.works > 1:
                raise StoreBusy(f"{len(new)} days have no table yet")
            at_once = sorted(new)[:MOST_NEW_DAYS]
            await ensure_days(connection.execute, at_once)
            self._days.update(at_once)
            if len(new) > len(at_once):
                raise StoreBusy(f"{len(new)} days had no table yet, {len(at_once)} of them have one now")
        try:
            async with connection.transaction():
                if rows:
                    await connection.copy_records_to_table("reading", records=rows, columns=COLUMNS)
                await self._write_rest(connection, batch)
                if trial:
                    raise _EndOfTrial  # what is raised in the block rolls it back
            return ()
        except asyncpg.UniqueViolationError:
            async with connection.transaction():
                already = await self._write_staged(connection, rows)
                await self._write_rest(connection, batch)
                if trial:
                    raise _EndOfTrial from None
            return already

    async def _write_staged(self, connection: asyncpg.Connection[Any], rows: list[Row]) -> list[int]:
        """Insert by way of the staging table, leaving out what is there already; which those were."""
        await connection.copy_records_to_table("staged", records=rows, columns=COLUMNS)
        new = {tuple(row) for row in await connection.fetch(_INSERT_STAGED)}
        already = []
        for number, row in enumerate(rows):
            key = row[:3]
            if key in new:
                new.discard(key)
            else:
                already.append(number)
        return already

    async def _find_sources(self, keys: list[Key]) -> dict[Key, int]:
        connection = await self._connected()
        columns = [list(column) for column in zip(*keys, strict=True)]
        await connection.execute(_ADD_SOURCES, *columns)
        return {(row[0], row[1], row[2]): row[3] for row in await connection.fetch(_FIND_SOURCES, *columns)}

    async def _write_rest(self, connection: asyncpg.Connection[Any], batch: Batch) -> None:
        if batch.streams:
            states = batch.streams
            await connection.execute(
                _UPDATE_STREAMS,
                [state.pk for state in states],
                [state.watermark for state in states],
                [state.beyond for state in states],
                [state.anchors for state in states],
                [state.last_measured_ms for state in states],
                [state.last_stack_id for state in states],
                [state.last_seq for state in states],
                [state.last_received_at for state in states],
            )
        if batch.records:
            await connection.executemany(
                _INSERT_RECORDS,
                [
                    (stream_pk, record.seq, record.kind, measured_at, received_at, _text(record.data))
                    for stream_pk, record, measured_at, received_at in batch.records
                ],
            )
        if batch.quarantined:
            await connection.executemany(
                _ADD_QUARANTINED,
                [
                    (
                        factory_id,
                        item.device_id,
                        item.cause,
                        item.detail,
                        item.received_at,
                        item.body,
                        digest_of(factory_id, item),
                        item.received_at - FOLD_WITHIN,
                    )
                    for factory_id, item in batch.quarantined
                ],
            )
        if batch.buckets:
            await connection.execute(
                _MARK_BUCKETS,
                [stack_id for stack_id, _ in batch.buckets],
                [datetime.fromtimestamp(start_ms / 1000, UTC) for _, start_ms in batch.buckets],
            )


def _text(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
