"""SQLite as one stream of bytes and back: a copy by SQLite's online backup, while ingest goes on.

The copy is made in one step, so it is one moment of the database: in WAL mode a reader is in no writer's way. (In
several steps SQLite would begin anew whenever something is committed meanwhile, that is, for ever.)
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from carbontrack.store.contents import TABLES_SQLITE, BackupError, Contents, RestoredDatabase, Sink, contents
from carbontrack.store.disk import sync_folder
from carbontrack.store.schema import sqlite_path

_BESIDE = ("", "-wal", "-shm")


class SqliteSnapshot:
    """A copy of a database."""

    def __init__(self, path: Path, found: Contents) -> None:
        self.engine = "sqlite"
        self.engine_version = sqlite3.sqlite_version_info[0]
        self.contents = found
        self._path = path

    async def write(self, target: Sink) -> None:
        """Write the whole file."""
        await asyncio.to_thread(_pour, self._path, target)


@asynccontextmanager
async def sqlite_snapshot(url: str, folder: Path) -> AsyncIterator[SqliteSnapshot]:
    """A copy in a folder, until the block ends. Raises :class:`BackupError` for a database that is damaged."""
    copy = folder / "copy.sqlite3"
    await asyncio.to_thread(_copy, Path(sqlite_path(url)), copy)
    try:
        yield SqliteSnapshot(copy, await _contents(copy))
    finally:
        await asyncio.to_thread(copy.unlink)


@asynccontextmanager
async def sqlite_restored(
    url: str, copy: Callable[[Sink], None], *, aside: str | None
) -> AsyncIterator[RestoredDatabase]:
    """Bring a file back; where the block fails, all is as it was before. ``copy`` writes it into what it is given.

    ``aside`` is the ending of the name that the file gets which is there now; None: there must be none.
    """
    target = Path(sqlite_path(url))
    draft = target.with_name(f"{target.name}.restoring")
    is_there = await asyncio.to_thread(_check_free, target, aside)
    try:
        await asyncio.to_thread(_fill, draft, copy)
        yield RestoredDatabase(f"sqlite://{draft}", lambda: _contents(draft), f"{target}{aside}" if is_there else None)
        await asyncio.to_thread(_put_in_place, draft, target, aside)
    finally:
        await asyncio.to_thread(_remove, draft)


def _copy(source: Path, copy: Path) -> None:
    if not source.exists():
        raise BackupError(f"There is no database {source}: is database.url right?")
    try:
        there = f"{source.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(there, uri=True, timeout=10)) as old, closing(sqlite3.connect(copy)) as new:
            old.backup(new)
            faults = [row[0] for row in new.execute("PRAGMA quick_check(3)")]
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}") from error
    if faults != ["ok"]:
        raise BackupError(f"{source} is damaged, a backup of it would be as well: {'; '.join(faults)}")


async def _contents(path: Path) -> Contents:
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:

        def query(text: str) -> Awaitable[Sequence[Sequence[Any]]]:
            return asyncio.to_thread(lambda: connection.execute(text).fetchall())

        return await contents(query, TABLES_SQLITE)


def _pour(path: Path, target: Sink) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, target, 1 << 20)


# --- and back


def _check_free(target: Path, aside: str | None) -> bool:
    """That nobody uses the file, and that it may be replaced; False: there is none."""
    beside = [target.with_name(target.name + ending) for ending in _BESIDE]
    if not any(path.exists() and path.stat().st_size for path in beside):
        return False
    if target.exists() and _is_used(target):
        raise BackupError(
            f"A core or another program is using {target}. Stop it first (the devices keep what they measure), "
            "then restore."
        )
    if aside is None:
        raise BackupError(
            f"{target} holds something already. Restore to another file (database.url); or say --replace: what is "
            "there now gets another name first."
        )
    return True


def _is_used(target: Path) -> bool:
    try:
        with closing(sqlite3.connect(target, timeout=1)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # goes through only for whoever is alone
    except sqlite3.DatabaseError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY  # whatever else it is, it is put aside as it is
    return False


def _fill(draft: Path, copy: Callable[[Sink], None]) -> None:
    draft.parent.mkdir(parents=True, exist_ok=True)
    _remove(draft)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        copy(file)


def _put_in_place(draft: Path, target: Path, aside: str | None) -> None:
    with closing(sqlite3.connect(draft)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # all in one file
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    _check_free(target, aside)  # somebody may have come meanwhile
    for ending in _BESIDE:
        there = target.with_name(target.name + ending)
        if aside is None:
            there.unlink(missing_ok=True)  # of no bytes, or else _check_free would have refused
        elif there.exists():
            there.rename(target.with_name(target.name + aside + ending))
    draft.replace(target)
    sync_folder(target.parent)


def _remove(draft: Path) -> None:
    for ending in _BESIDE:
        draft.with_name(draft.name + ending).unlink(missing_ok=True)
