"""SQLite: one connection, one transaction a batch; a row that is there already is ignored."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from errno import ENOSPC
from typing import Any

import aiosqlite
import msgspec

from carbontrack.model import Quarantined
from carbontrack.store.sources import Key, Row, Sources, row_of
from carbontrack.store.work import FOLD_WITHIN, Batch, StoreFull, StoreUnavailable, digest_of, outages
from carbontrack.store.writer import BadRow

_INSERT_READINGS = "INSERT OR IGNORE INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_STREAM = """
UPDATE stream SET watermark = ?, beyond = ?, anchors = ?, last_measured_ms = ?, last_stack_id = ?,
    last_seq = ?, last_received_at = ? WHERE id = ?
"""
_INSERT_RECORD = "INSERT OR IGNORE INTO device_record VALUES (?, ?, ?, ?, ?, ?)"
_COUNT_QUARANTINED = """
UPDATE quarantine SET times = times + 1, last_received_at = ? WHERE id = (
    SELECT id FROM quarantine WHERE digest = ? AND last_received_at > ?
    AND replayed_at IS NULL AND dismissed_at IS NULL ORDER BY id DESC LIMIT 1)
"""
_INSERT_QUARANTINED = """
INSERT INTO quarantine (factory_id, device_id, cause, detail, received_at, last_received_at, body, digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_SOURCE = "INSERT OR IGNORE INTO source (stream_id, stack_id, base_seq) VALUES (?, ?, ?)"
_FIND_SOURCE = "SELECT id FROM source WHERE stream_id = ? AND stack_id = ? AND base_seq = ?"
_MARK_BUCKET = "INSERT INTO dirty_bucket (stack_id, start) VALUES (?, ?)"


def to_ms(moment: datetime) -> int:
    """A time as SQLite keeps it here: ms since 1970, UTC."""
    return round(moment.timestamp() * 1000)


class SqliteBackend:
    """``synchronous = FULL``: a receipt promises that the reading survives a power cut."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._sources = Sources(self._find_sources)

    async def open(self) -> None:
        """From here on the file is in use (SQLite's own lock says so): no backup is restored over it."""
        with outages():
            await self._connected()

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _connected(self) -> aiosqlite.Connection:
        if self._connection is None:
            connection = await aiosqlite.connect(self._path, isolation_level=None, timeout=10)
            await connection.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000;"
            )
            self._connection = connection
        return self._connection

    async def write(self, batch: Batch, *, trial: bool = False) -> Sequence[int]:
        try:
            connection = await self._connected()
            # Outside the transaction: a source without a reading does no harm, an id that was rolled back would.
            rows = [
                row_of(source, item, to_ms(item.measured_at)) for source, item in await self._sources.of(batch.readings)
            ]
            await connection.execute("BEGIN IMMEDIATE")
            try:
                already = await self._write_readings(connection, rows) if rows else ()
                await self._write_rest(connection, batch)
                await connection.execute("ROLLBACK" if trial else "COMMIT")
            except BaseException:
                if connection.in_transaction:  # where the disk is full the engine has done it by itself
                    await connection.execute("ROLLBACK")
                raise
            return already
        except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, ValueError) as error:
            raise BadRow(f"{type(error).__name__}: {error}") from error
        except (sqlite3.ProgrammingError, TypeError) as error:  # what cannot be bound: "type 'dict' is not supported"
            raise BadRow(f"{type(error).__name__}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) == ENOSPC:
                raise StoreFull(f"SQLite: {error}") from error
            raise StoreUnavailable(f"SQLite: {error}") from error

    async def _write_readings(self, connection: aiosqlite.Connection, rows: list[Row]) -> Sequence[int]:
        """Insert what is not there already, first in its transaction; which of the rows were."""
        new = (await connection.executemany(_INSERT_READINGS, rows)).rowcount
        if new == len(rows):
            return ()
        if not new:
            return range(len(rows))
        # It says how many and not which: they are inserted again, one by one.
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN IMMEDIATE")
        return [
            number for number, row in enumerate(rows) if not (await connection.execute(_INSERT_READINGS, row)).rowcount
        ]

    async def _write_rest(self, connection: aiosqlite.Connection, batch: Batch) -> None:
        if batch.streams:
            await connection.executemany(
                _UPDATE_STREAM,
                [
                    (
                        state.watermark,
                        state.beyond,
                        state.anchors,
                        state.last_measured_ms,
                        state.last_stack_id,
                        state.last_seq,
                        to_ms(state.last_received_at),
                        state.pk,
                    )
                    for state in batch.streams
                ],
            )
        if batch.records:
            await connection.executemany(
                _INSERT_RECORD,
                [
                    (pk, record.seq, record.kind, to_ms(measured_at), to_ms(received_at), _text(record.data))
                    for pk, record, measured_at, received_at in batch.records
                ],
            )
        for factory_id, item in batch.quarantined:
            await _add_quarantined(connection, factory_id, item)
        if batch.buckets:
            await connection.executemany(_MARK_BUCKET, batch.buckets)

    async def _find_sources(self, keys: list[Key]) -> dict[Key, int]:
        connection = await self._connected()
        await connection.executemany(_ADD_SOURCE, keys)
        found = {}
        for key in keys:
            async with connection.execute(_FIND_SOURCE, key) as cursor:
                (found[key],) = await cursor.fetchone()  # type: ignore[misc]  # it is there now
        return found


async def _add_quarantined(connection: aiosqlite.Connection, factory_id: int, item: Quarantined) -> None:
    """Keep it, or count that it has come once more."""
    digest, at, since = digest_of(factory_id, item), to_ms(item.received_at), to_ms(item.received_at - FOLD_WITHIN)
    if not (await connection.execute(_COUNT_QUARANTINED, (at, digest, since))).rowcount:
        row = (factory_id, item.device_id, item.cause, item.detail, at, at, item.body, digest)
        await connection.execute(_INSERT_QUARANTINED, row)


def _text(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
