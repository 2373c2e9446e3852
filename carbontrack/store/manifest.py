"""The archive's manifest: which files there are, with their hashes. No database and no Parquet here.

Every line of ``manifest.jsonl`` is one file, with the SHA-256 of the file and of the line before, so that nothing can
be taken away or put in between unseen. A file is never changed: what comes late for a day that is archived already
gets a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from carbontrack.store.disk import sync_folder

MANIFEST = "manifest.jsonl"
FORMAT = 1


class ArchiveError(Exception):
    """A file of the archive is missing, altered or unreadable; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file as the manifest has it."""

    name: str
    kind: str
    day: date
    rows: int
    bytes: int
    sha256: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Summary:
    """What must be the same in the database and in the files of a day.

    ``seq`` is the sum of the low 31 bits of the numbers, ``measured_ms`` of the ms since the day began.
    """

    rows: int
    seq: int
    measured_ms: int


class Manifest:
    """The manifest of one folder. Everything here blocks: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[ArchiveFile]:
        """Every file of the manifest, oldest line first. Raises :class:`ArchiveError` for a line that is no line."""
        return [_file(line) for line in self._lines()]

    def of_day(self, kind: str, day: date) -> list[ArchiveFile]:
        """The files of one day."""
        return [file for file in self.files() if (file.kind, file.day) == (kind, day)]

    def _lines(self) -> list[dict[str, Any]]:
        manifest = self.folder / MANIFEST
        lines = []
        for number, text in enumerate(self.whole().decode("utf-8").splitlines(), 1):
            try:
                lines.append(json.loads(text))
            except ValueError as error:
                raise ArchiveError(f"{manifest}, line {number} cannot be read: {error}") from error
        return lines

    def whole(self) -> bytes:
        """The manifest as far as its lines have an end: a power cut may have left a piece of one."""
        manifest = self.folder / MANIFEST
        content = manifest.read_bytes() if manifest.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def verify(self) -> Iterator[tuple[str, str]]:
        """Each file's name with what is wrong with it: an empty text when nothing is."""
        before = ""
        for line in self._lines():
            file = _file(line)
            if line["previous"] != before:
                yield file.name, "the line before it in the manifest is not the one that was there when it was written"
            else:
                yield file.name, self._fault(file)
            before = _hash_of_line(line)
        known = {file.name for file in self.files()}
        for path in sorted(self.folder.glob("*.parquet")):
            if path.name not in known:
                yield path.name, "it is not in the manifest"

    def _fault(self, file: ArchiveFile) -> str:
        path = self.folder / file.name
        if not path.exists():
            return "it is missing"
        if path.stat().st_size == file.bytes and sha256(path) == file.sha256:
            return ""
        return "it is not as it was written: its SHA-256 differs from the manifest's"

    def append(self, file: ArchiveFile) -> None:
        """Add a file that is in the folder; on return its line survives a power cut."""
        lines = self._lines()
        line = {"format": FORMAT, **asdict(file), "previous": _hash_of_line(lines[-1]) if lines else ""}
        line["day"], line["made_at"] = file.day.isoformat(), file.made_at.isoformat()
        manifest_file = self.folder / MANIFEST
        if manifest_file.exists():
            os.truncate(manifest_file, len(self.whole()))
        with manifest_file.open("a", encoding="utf-8") as manifest:
            manifest.write(json.dumps(line) + "\n")
            manifest.flush()
            os.fsync(manifest.fileno())
        sync_folder(self.folder)  # the names of both files as well


def _file(line: dict[str, Any]) -> ArchiveFile:
    return ArchiveFile(
        line["name"],
        line["kind"],
        date.fromisoformat(line["day"]),
        line["rows"],
        line["bytes"],
        line["sha256"],
        datetime.fromisoformat(line["made_at"]).astimezone(UTC),
    )


def _hash_of_line(line: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
