"""Backups: one file with all that the database holds, and what it must hold again when it is restored.

The file is a zip archive: the database's part, if asked for the archive of raw days, and ``manifest.json`` with the
SHA-256 of each part and the accounts that a restore is compared with. It gets its name when it is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Self

import msgspec

from carbontrack.store import ArchiveError, migrate
from carbontrack.store.backup import (
    BackupError,
    Contents,
    NeededFile,
    Sink,
    differences,
    engine_of,
    known_migrations,
    restored,
    room_for_copy,
    snapshot,
)
from carbontrack.store.disk import sync_folder
from carbontrack.store.manifest import MANIFEST, Manifest, sha256

__all__ = ["Backup", "BackupError", "Parts", "Restored", "back_up", "check", "restore"]

FORMAT = 1
SUFFIX = ".zip"
DRAFT = ".carbontrack-backup.draft"
CHUNK = 1 << 20
TELL_EVERY_S = 10.0
LOOK_EVERY_BYTES = 32 << 20
_NAME = re.compile(r"carbontrack-\d{4}-\d\d-\d\dT\d{6}Z\.zip")
_DATABASE = {"postgres": "database.dump", "sqlite": "database.sqlite3"}
_ARCHIVE = "archive/"

Say = Callable[[str], object]


class Part(msgspec.Struct, frozen=True):
    """One part of a backup's file."""

    name: str
    bytes: int
    sha256: str


class Parts(msgspec.Struct, frozen=True):
    """``manifest.json``: what a backup has in it, and where it is from."""

    format: int
    made_at: datetime
    carbontrack: str
    engine: str
    engine_version: int
    database: str
    contents: Contents
    parts: tuple[Part, ...]

    @property
    def has_archive(self) -> bool:
        """Whether the archive of raw days is in it."""
        return any(part.name.startswith(_ARCHIVE) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made."""

    file: Path
    parts: Parts
    bytes: int
    deleted: list[Path]
    """Older ones that were to be kept no longer."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. ``aside`` is where what was there before is now."""

    parts: Parts
    aside: str | None
    migrations: list[str]
    missing: list[NeededFile]
    """Files of the archive that are needed and not there."""


# --- making one


async def back_up(
    url: str,
    to: Path,
    *,
    archive: Path | None = None,
    keep: int | None = None,
    reserve_bytes: int = 0,
    say: Say = lambda _: None,
    now: datetime | None = None,
) -> Backup:
    """Write a backup into a folder, or to a file that is not there yet; ingest goes on meanwhile.

    ``archive`` is the folder of raw days if they are to be in it; ``keep`` deletes all but the newest backups of the
    same database in the folder; ``reserve_bytes`` must stay free on the disk. Raises :class:`BackupError`.
    """
    made_at = now or datetime.now(UTC)
    file = await asyncio.to_thread(_target, to, made_at)
    if keep is not None and file == to:
        raise BackupError("Only in a folder older backups can be found: --keep needs --to FOLDER.")
    with _draft_folder(file.parent) as folder:
        draft = folder / file.name
        await asyncio.to_thread(_check_room, folder, reserve_bytes + room_for_copy(url))
        async with snapshot(url, folder) as taken:
            rows = sum(taken.contents.tables.values())
            say(f"Writing {rows:,} rows, as of {_shown(made_at)}, to {file} ...")
            with _Writer(draft, reserve_bytes, say) as writer:
                with writer.part(_DATABASE[taken.engine], compress=taken.engine == "sqlite") as part:
                    await taken.write(part)
                if archive is not None:
                    await asyncio.to_thread(_add_archive, writer, archive, taken.contents)
                parts = Parts(
                    FORMAT,
                    made_at,
                    version("carbontrack"),
                    taken.engine,
                    taken.engine_version,
                    _place(url),
                    taken.contents,
                    tuple(writer.parts),
                )
                writer.close_with(parts)
        await asyncio.to_thread(_put, draft, file)
    deleted = [] if keep is None else await asyncio.to_thread(_delete_older, file, keep, parts.database)
    return Backup(file, parts, file.stat().st_size, deleted)


def _target(to: Path, made_at: datetime) -> Path:
    """The file to be written: in a folder it gets its name by the time."""
    if to.suffix == SUFFIX and not to.is_dir():
        file = to
    else:
        file = to / f"carbontrack-{made_at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}{SUFFIX}"
    if file.exists():
        raise BackupError(f"{file} is there already. A backup is never overwritten: choose another name.")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return file


@contextmanager
def _draft_folder(folder: Path) -> Iterator[Path]:
    """A place for what is not whole yet. Only one backup at a time has it, and finds it empty."""
    draft = folder / DRAFT
    draft.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(draft, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"Another backup is being written to {folder}. Wait for it.") from error
        for left in draft.iterdir():  # by one that was killed
            left.unlink()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(handle)


def _put(draft: Path, file: Path) -> None:
    """Give a whole file its name, so that it has it after a power cut as well."""
    draft.replace(file)
    sync_folder(file.parent)


def _place(url: str) -> str:
    """Which database it is, without who signs in."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2] if scheme != 'sqlite' else rest}"


def _delete_older(newest: Path, keep: int, database: str) -> list[Path]:
    """Delete backups that this program has made of this database in that folder, all but the newest."""
    own = []
    for file in sorted(newest.parent.iterdir()):
        if _NAME.fullmatch(file.name):
            try:
                with _opened(file) as (_, parts):
                    own += [file] if parts.database == database else []
            except (BackupError, OSError):
                continue  # not ours, or not in order: that is for a person to see
    older = own[: max(0, len(own) - keep)]
    for file in older:
        file.unlink()
    return older


def _add_archive(writer: _Writer, folder: Path, contents: Contents) -> None:
    """All files of the archive: those that the database needs, and those that its manifest has beyond them."""
    kept = Manifest(folder)
    content = kept.whole()
    files = {file.name: file.sha256 for file in kept.files()} | {file.name: file.sha256 for file in contents.archive}
    for name, digest in sorted(files.items()):
        path = folder / name
        if not path.exists():
            raise ArchiveError(f"{path} is missing. `carbontrack archive verify` says what else is.")
        with writer.part(_ARCHIVE + name) as part, path.open("rb") as source:
            shutil.copyfileobj(source, part, CHUNK)
        if writer.parts[-1].sha256 != digest:
            raise ArchiveError(f"{path} is not as it was written. `carbontrack archive verify` says what else is not.")
    with writer.part(_ARCHIVE + MANIFEST) as part:
        part.write(content)


class _Writer:
    """A zip file, part by part."""

    def __init__(self, path: Path, reserve_bytes: int, say: Say) -> None:
        self.parts: list[Part] = []
        self._folder = path.parent
        self._reserve_bytes = reserve_bytes
        self._say = say
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", compresslevel=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError, ValueError):  # what went wrong is told already, and the draft is deleted
            self._zip.close()
        self._file.close()

    @contextmanager
    def part(self, name: str, *, compress: bool = False) -> Iterator[_Part]:
        """A part to be written to."""
        self._zip.compression = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with self._zip.open(name, "w", force_zip64=True) as file:
            part = _Part(file, name, self._say, lambda: _check_room(self._folder, self._reserve_bytes))
            yield part
        self.parts.append(Part(name, part.bytes, part.hash.hexdigest()))

    def close_with(self, parts: Parts) -> None:
        """Add the manifest; on return the file survives a power cut."""
        self._zip.writestr("manifest.json", msgspec.json.format(msgspec.json.encode(parts)))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise BackupError(
            f"The disk of {folder.parent} has room for {free / 1e6:,.0f} MB; a backup needs {wanted / 1e6:,.0f} MB to "
            "be free there, and must not take the database's own room (retention.reserve_mb). Use another disk."
        )


class _Part:
    """Counts and hashes what goes through it."""

    def __init__(self, file: Sink, name: str, say: Say, check_room: Callable[[], None] = lambda: None) -> None:
        self.bytes = 0
        self.hash = hashlib.sha256()
        self._file = file
        self._name = name
        self._check_room = check_room
        self._say = say
        self._told_at = time.monotonic()
        self._look_at = LOOK_EVERY_BYTES

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.hash.update(data)
        self.bytes += len(data)
        if self.bytes >= self._look_at:
            self._look_at += LOOK_EVERY_BYTES
            self._check_room()
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._say(f"  {self._name}: {self.bytes / 1e6:,.0f} MB so far")
        return len(data)


# --- looking at one


def check(file: Path, say: Say = lambda _: None) -> Parts:
    """Read a whole backup and compare it with its manifest. Raises :class:`BackupError` for what is not as written."""
    with _opened(file) as (opened, parts):
        for part in parts.parts:
            say(f"Checking {part.name}, {part.bytes / 1e6:,.1f} MB ...")
            sink = _Part(_Nowhere(), part.name, say)
            _pour(file, opened, part, sink)
            if (sink.bytes, sink.hash.hexdigest()) != (part.bytes, part.sha256):
                raise BackupError(f"{file} is damaged: {part.name} is not as it was written (its SHA-256 differs).")
    return parts


@contextmanager
def _opened(file: Path) -> Iterator[tuple[zipfile.ZipFile, Parts]]:
    try:
        opened = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise BackupError(f"{file} is no backup, or its end is missing.") from error
    with opened:
        try:
            content = opened.read("manifest.json")
            form = msgspec.json.decode(content, type=dict[str, object]).get("format")
            if isinstance(form, int) and form > FORMAT:
                raise BackupError(f"{file} was made by a newer version of Carbon Track: install that one.")
            parts = msgspec.json.decode(content, type=Parts)
        except (KeyError, zipfile.BadZipFile, zlib.error, msgspec.DecodeError) as error:
            raise BackupError(f"{file} is no backup of Carbon Track, or its manifest is damaged: {error}") from error
        yield opened, parts


def _pour(file: Path, opened: zipfile.ZipFile, part: Part, target: Sink) -> None:
    """Copy a part of a backup into something."""
    try:
        with opened.open(part.name) as source:
            shutil.copyfileobj(source, target, CHUNK)
    except (KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BackupError(f"{file} is damaged: {part.name} cannot be read ({error}).") from error


class _Nowhere:
    """Takes everything and keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


# --- bringing one back


async def restore(
    url: str,
    file: Path,
    *,
    archive: Path | None = None,
    replace: bool = False,
    say: Say = lambda _: None,
    now: datetime | None = None,
) -> Restored:
    """Bring a backup back, migrated to the schema of this version; nobody may use the database meanwhile.

    ``archive`` is the folder for raw days. With ``replace`` what the database holds is put aside; otherwise it must
    hold nothing. Raises :class:`BackupError`, and then all is as it was before.
    """
    parts = await asyncio.to_thread(check, file, say)
    _refuse_what_does_not_fit(parts, url)
    files = await asyncio.to_thread(_archive_plan, file, parts, archive)
    aside = _aside(parts.engine, now or datetime.now(UTC)) if replace else None
    with _opened(file) as (opened, _):
        database = next(part for part in parts.parts if part.name == _DATABASE[parts.engine])
        say(f"Restoring {sum(parts.contents.tables.values()):,} rows as of {_shown(parts.made_at)} ...")
        pour = functools.partial(_pour, file, opened, database)
        async with restored(url, pour, made_by=parts.engine_version, aside=aside) as back:
            _same(parts.contents, await back.count())
            if migrations := await migrate(back.address):  # rows may be in other tables now; a stream's account stays
                _same(msgspec.structs.replace(parts.contents, tables={}), await back.count())
            await asyncio.to_thread(_bring_archive, file, opened, archive, files)
    missing = [needed for needed in parts.contents.archive if not _is_there(archive, needed)]
    return Restored(parts, back.aside, migrations, missing)


def _same(expected: Contents, found: Contents) -> None:
    if wrong := differences(expected, found):
        raise BackupError(
            "What was restored is not what was backed up, so all is as it was before: " + "; ".join(wrong[:10])
        )


def _refuse_what_does_not_fit(parts: Parts, url: str) -> None:
    if unknown := sorted(set(parts.contents.migrations) - known_migrations()):
        raise BackupError(
            f"The backup has the migration {unknown[-1]}, which this version of Carbon Track does not know: it was "
            f"made by version {parts.carbontrack}. Install that one or a newer one."
        )
    if parts.engine != engine_of(url):
        raise BackupError(
            f"The backup is of a {parts.engine} database and database.url is one of {engine_of(url)}: "
            "a backup goes back to the engine that it is from."
        )


def _aside(engine: str, now: datetime) -> str:
    """Where what the database holds is put: a schema's name, or the ending of a file's name."""
    at = f"{now.astimezone(UTC):%Y-%m-%dT%H%M%SZ}"
    return f".before-{at}" if engine == "sqlite" else f"before_{at.lower().replace('-', '')}"


def _archive_plan(file: Path, parts: Parts, folder: Path | None) -> list[Part]:
    """Which parts of the archive have to be put back. Raises :class:`BackupError` where other files are in the way."""
    wanted = [part for part in parts.parts if part.name.startswith(_ARCHIVE)]
    if not wanted:
        return []
    if folder is None:
        raise BackupError("The backup has the archive of raw days with it: say in retention.archive_folder where to.")
    with _opened(file) as (opened, _):
        lines = opened.read(_ARCHIVE + MANIFEST)
    there = Manifest(folder).whole()
    if not (there.startswith(lines) or lines.startswith(there)):
        raise BackupError(
            f"{folder / MANIFEST} is the manifest of another archive. Set retention.archive_folder to a new folder."
        )
    plan = []
    for part in wanted:
        path = folder / _file_name(part)
        if path.name == MANIFEST:
            plan += [part] if len(lines) > len(there) else []
        elif not path.exists():
            plan.append(part)
        elif path.stat().st_size != part.bytes or sha256(path) != part.sha256:
            raise BackupError(
                f"{path} is there already and is another file than the backup's. Nothing was changed. Move it away, "
                "or set retention.archive_folder to a new folder."
            )
    return sorted(plan, key=lambda part: part.name == _ARCHIVE + MANIFEST)  # the manifest names what is there


def _bring_archive(file: Path, opened: zipfile.ZipFile, folder: Path | None, plan: list[Part]) -> None:
    for part in plan:
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{_file_name(part)}.restoring"
        with draft.open("wb") as target:
            _pour(file, opened, part, target)
            target.flush()
            os.fsync(target.fileno())
        _put(draft, folder / _file_name(part))


def _file_name(part: Part) -> str:
    name = part.name.removeprefix(_ARCHIVE)
    if Path(name).name != name or name in {"", ".", ".."}:
        raise BackupError(f"The backup has a file with the name {name!r}: that is none of an archive.")
    return name


def _is_there(folder: Path | None, needed: NeededFile) -> bool:
    path = None if folder is None else folder / needed.name
    return path is not None and path.exists() and path.stat().st_size == needed.bytes


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
