"""The database's part of a backup: one moment of it as a stream of bytes, and back. Either engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from carbontrack.store.contents import (
    BackupError,
    Contents,
    NeededFile,
    RestoredDatabase,
    Sink,
    StreamAccount,
    differences,
)
from carbontrack.store.dump_postgres import postgres_restored, postgres_snapshot
from carbontrack.store.dump_sqlite import sqlite_restored, sqlite_snapshot
from carbontrack.store.schema import known_migrations, sqlite_path

__all__ = [
    "BackupError",
    "Contents",
    "NeededFile",
    "Sink",
    "StreamAccount",
    "differences",
    "engine_of",
    "known_migrations",
    "restored",
    "room_for_copy",
    "snapshot",
]


class Snapshot(Protocol):
    """One moment of a database."""

    engine: str
    engine_version: int
    contents: Contents

    async def write(self, target: Sink) -> None: ...


def engine_of(url: str) -> str:
    """The name of a URL's engine."""
    return "sqlite" if url.startswith("sqlite://") else "postgres"


def room_for_copy(url: str) -> int:
    """The bytes that a snapshot takes of the folder that it is given."""
    path = Path(sqlite_path(url))
    return path.stat().st_size if engine_of(url) == "sqlite" and path.exists() else 0


def snapshot(url: str, folder: Path) -> AbstractAsyncContextManager[Snapshot]:
    """One moment of a database, until the block ends; ``folder`` has room for a copy of it (SQLite)."""
    return sqlite_snapshot(url, folder) if engine_of(url) == "sqlite" else postgres_snapshot(url)


def restored(
    url: str, copy: Callable[[Sink], None], *, made_by: int, aside: str | None
) -> AbstractAsyncContextManager[RestoredDatabase]:
    """Bring a database back; where the block fails, all is as it was before.

    ``copy`` writes the stream of bytes into what it is given. ``aside`` names where what the database holds goes to;
    None: it must hold nothing.
    """
    if engine_of(url) == "sqlite":
        return sqlite_restored(url, copy, aside=aside)
    return postgres_restored(url, copy, made_by=made_by, aside=aside)
