"""SQLite: one connection, one transaction a batch; a row that is there already is ignored."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from carbontrack.store.work import Batch, StoreUnavailable
from carbontrack.store.writer import BadRow

_INSERT_READINGS = "INSERT OR IGNORE INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_STREAM = """
UPDATE stream SET watermark = ?, beyond = ?, anchors = ?, last_measured_ms = ?, last_stack_id = ?,
    last_received_at = ? WHERE id = ?
"""
_INSERT_RECORD = "INSERT OR IGNORE INTO device_record VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_QUARANTINE = """
INSERT INTO quarantine (factory_id, device_id, cause, detail, received_at, body) VALUES (?, ?, ?, ?, ?, ?)
"""
_MARK_BUCKET = "INSERT INTO dirty_bucket (stack_id, start) VALUES (?, ?)"


def to_ms(moment: datetime) -> int:
    """A time as SQLite keeps it here: ms since 1970, UTC."""
    return round(moment.timestamp() * 1000)


class SqliteBackend:
    """``synchronous = FULL``: a receipt promises that the reading survives a power cut."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None

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

    async def write(self, batch: Batch) -> int:
        try:
            connection = await self._connected()
            await connection.execute("BEGIN IMMEDIATE")
            try:
                conflicts = await self._write(connection, batch)
                await connection.execute("COMMIT")
            except BaseException:
                await connection.execute("ROLLBACK")
                raise
            return conflicts
        except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, ValueError) as error:
            raise BadRow(f"{type(error).__name__}: {error}") from error
        except sqlite3.ProgrammingError as error:  # what cannot be bound: "type 'dict' is not supported"
            raise BadRow(f"{type(error).__name__}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"SQLite: {error}") from error

    async def _write(self, connection: aiosqlite.Connection, batch: Batch) -> int:
        conflicts = 0
        if batch.readings:
            cursor = await connection.executemany(_INSERT_READINGS, [_row(reading) for reading in batch.readings])
            conflicts = len(batch.readings) - cursor.rowcount
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
        if batch.quarantined:
            await connection.executemany(
                _INSERT_QUARANTINE,
                [
                    (factory_id, item.device_id, item.cause, item.detail, to_ms(item.received_at), item.body)
                    for factory_id, item in batch.quarantined
                ],
            )
        if batch.buckets:
            await connection.executemany(_MARK_BUCKET, batch.buckets)
        return conflicts


def _row(reading: Any) -> tuple[Any, ...]:
    values = list(msgspec.structs.astuple(reading))
    values[3] = to_ms(values[3])
    values[4] = to_ms(values[4])
    return tuple(values)


def _text(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()
