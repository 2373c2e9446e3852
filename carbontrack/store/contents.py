"""What a database holds, as far as a copy of it must hold the same: rows by table, and each stream's account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import msgspec

from carbontrack.store.schema import known_migrations
from carbontrack.tables import APP

Query = Callable[[str], Awaitable[Sequence[Sequence[Any]]]]
"""Runs SQL, all of it on one moment of the database, and returns the rows."""

TABLES_POSTGRES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.relname
"""
TABLES_SQLITE = r"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'"
_MIGRATIONS = f"SELECT name FROM tortoise_migrations WHERE app = '{APP}' ORDER BY name"  # noqa: S608  # our own name
_STREAMS = """
SELECT t.device_id, t.sid, t.watermark, coalesce(sum(r.n), 0)
FROM stream t LEFT JOIN source s ON s.stream_id = t.id
LEFT JOIN (SELECT source_id, count(*) AS n FROM reading GROUP BY source_id) r ON r.source_id = s.id
GROUP BY t.id, t.device_id, t.sid, t.watermark ORDER BY t.device_id, t.sid
"""
_ARCHIVED = "SELECT name, kind, day, rows, bytes, sha256 FROM archive_file ORDER BY name"


class BackupError(Exception):
    """A backup cannot be made or brought back; the message says why, and what to do."""


class Sink(Protocol):
    """What a dump is written to."""

    def write(self, data: bytes, /) -> int: ...


class StreamAccount(msgspec.Struct, frozen=True):
    """One stream: what its device has been told is kept, and how many readings the database has of it."""

    device_id: str
    sid: str
    watermark: int
    readings: int


class NeededFile(msgspec.Struct, frozen=True):
    """A file of the archive whose day is not in the database any more."""

    name: str
    kind: str
    day: date
    rows: int
    bytes: int
    sha256: str


class Contents(msgspec.Struct, frozen=True):
    """What a database holds. ``streams`` None: an older schema, of which this version only counts the rows."""

    migrations: tuple[str, ...]
    tables: dict[str, int]
    streams: tuple[StreamAccount, ...] | None
    archive: tuple[NeededFile, ...]


@dataclass(frozen=True, slots=True)
class RestoredDatabase:
    """A database that was brought back and not yet approved of."""

    address: str
    count: Callable[[], Awaitable[Contents]]
    aside: str | None
    """Where what was there before is; None: nothing was."""


async def contents(query: Query, tables_query: str) -> Contents:
    """Count what there is. Raises :class:`BackupError` for a database that has nothing of ours, or is newer."""
    tables = [name for (name,) in await query(tables_query)]
    if "tortoise_migrations" not in tables:
        raise BackupError("The database is empty: there is nothing to back up.")
    migrations = tuple(name for (name,) in await query(_MIGRATIONS))
    if unknown := sorted(set(migrations) - known_migrations()):
        raise BackupError(
            f"The database has the migration {unknown[-1]}, which this version of Carbon Track does not know: "
            "use the version that made it."
        )
    streams = None
    if set(migrations) == known_migrations():
        streams = tuple(
            StreamAccount(device_id, sid, watermark, int(n)) for device_id, sid, watermark, n in await query(_STREAMS)
        )
    rows = {} if streams is None else {"reading": sum(stream.readings for stream in streams)}  # one look is enough
    rows |= {name: await _count(query, name) for name in tables if name not in rows}
    archived = await query(_ARCHIVED) if "archive_file" in tables else []
    return Contents(
        migrations,
        dict(sorted(rows.items())),
        streams,
        tuple(
            NeededFile(name, kind, day if isinstance(day, date) else date.fromisoformat(day), *rest)
            for name, kind, day, *rest in archived
        ),
    )


async def _count(query: Query, table: str) -> int:
    ((count,),) = await query(f'SELECT count(*) FROM "{table}"')  # noqa: S608  # a name out of the catalogue
    return int(count)


def differences(expected: Contents, found: Contents) -> list[str]:
    """In what a restored database is not what was backed up; empty when it is the same."""
    wrong = [
        f"{table} has {found.tables.get(table, 0):,} rows instead of {rows:,}"
        for table, rows in expected.tables.items()
        if found.tables.get(table) != rows
    ]
    for before, after in zip(expected.streams or (), found.streams or (), strict=False):
        if before != after:
            wrong.append(f"stream {before.sid} of {before.device_id} has {after.readings:,} readings up to number "
                         f"{after.watermark} instead of {before.readings:,} up to {before.watermark}")  # fmt: skip
    return wrong
