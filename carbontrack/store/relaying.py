"""The records of one stream by their numbers, wherever they are: what a site hands on to headquarters (decision 27)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from carbontrack.model import Record, Sample
from carbontrack.store.manifest import ArchiveError
from carbontrack.store.readings import Readings, channels
from carbontrack.store.sources import BITS

if TYPE_CHECKING:
    from carbontrack.store.manifest import ArchiveFile

Handed = Sample | Record
"""As the site has it: the time is UTC in ms and settled, a sample's status all of the reading's flags."""

RECENT = timedelta(days=2)
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)

_SOURCES = "SELECT id, base_seq FROM source WHERE stream_id = $1 ORDER BY base_seq, id"
_SAMPLES = """
SELECT r.seq, {at}, r.co2_ppm, r.temperature_c, r.flow_signal, r.pressure_kpa, r.flags
FROM reading r WHERE r.source_id = $1 AND r.seq >= $2 AND r.seq <= $3 AND r.measured_at >= $5
ORDER BY r.seq LIMIT $4
"""
_RECORDS = """
SELECT r.seq, {at}, r.kind, r.data
FROM device_record r WHERE r.stream_id = $1 AND r.seq >= $2 AND r.seq <= $3 AND r.measured_at >= $5
ORDER BY r.seq LIMIT $4
"""
_SAMPLE_COLUMNS = (
    "seq",
    "measured_at",
    "co2_ppm",
    "temperature_c",
    "velocity_ms",
    "pressure_difference_pa",
    "pressure_kpa",
    "flags",
)
_RECORD_COLUMNS = ("seq", "measured_at", "kind", "data")


class Relaying(Readings):
    """What is found by number, and not by time as everything else is."""

    async def prepare_relaying(self) -> None:
        """Make the index that finds readings by their numbers, where the engine has none.

        On PostgreSQL the key begins with the number. On SQLite it begins with the time, so that a day is found without
        a look at all others; only a site that hands on pays for a second one.
        """
        if not self._engine.is_postgres:
            await self._engine.run("CREATE INDEX IF NOT EXISTS reading_number ON reading (source_id, seq)")

    async def numbered(
        self, stream_pk: int, device_id: str, sid: str, first: int, last: int, limit: int
    ) -> list[Handed]:
        """The records ``first`` to ``last`` of a stream, at most ``limit``, in their order, also out of the archive.

        A number that is missing, below the last one here or where these are fewer than ``limit``, is in neither. Ask
        for numbers that are committed. Raises :class:`ArchiveError` where the archive cannot be read.
        """
        count = last - first + 1
        found: dict[int, Handed] = {}
        if count <= limit and self._engine.is_postgres:
            # What is handed on at once is of today: all other days' tables stay shut.
            found = await self._in_database(stream_pk, first, last, limit, datetime.now(UTC) - RECENT)
        if len(found) < count:
            found = await self._in_database(stream_pk, first, last, limit, BEFORE_ALL)
        if len(found) < count:
            # Only now: a day is in the archive before it leaves the database.
            for row in await self._archived_numbers(device_id, sid, first, last, limit):
                found.setdefault(row.seq, row)
        return [found[seq] for seq in sorted(found)[:limit]]

    async def _in_database(
        self, stream_pk: int, first: int, last: int, limit: int, since: datetime
    ) -> dict[int, Handed]:
        since_is = self._engine.time(since)
        found: dict[int, Handed] = {}
        for source_id, base in await self._engine.records(_SOURCES, stream_pk):
            low, high = max(first - base, 0), min(last - base, (1 << BITS) - 1)
            if low <= high:
                found |= await self._samples(base, source_id, low, high, limit, since_is)
        return found | await self._records(stream_pk, first, last, limit, since_is)

    async def _samples(self, base: int, *values: Any) -> dict[int, Handed]:
        rows = await self._engine.records(_SAMPLES.format(at=self._at_ms()), *values)
        return {
            base + seq: Sample(base + seq, at_ms, 1, co2, temperature, *channels(signal, flags), pressure, None, flags)
            for seq, at_ms, co2, temperature, signal, pressure, flags in rows
        }

    async def _records(self, *values: Any) -> dict[int, Handed]:
        rows = await self._engine.records(_RECORDS.format(at=self._at_ms()), *values)
        return {seq: Record(seq, kind, at_ms, 1, msgspec.json.decode(data)) for seq, at_ms, kind, data in rows}

    def _at_ms(self) -> str:
        return "(extract(epoch FROM r.measured_at) * 1000)::bigint" if self._engine.is_postgres else "r.measured_at"

    # --- out of the archive

    async def _archived_numbers(self, device_id: str, sid: str, first: int, last: int, limit: int) -> list[Handed]:
        """The first ``limit`` of these numbers that are in the archive."""
        found: dict[int, Handed] = {}
        for kind in ("reading", "device_record"):
            files = [file for (of, _), them in self.archived.items() if of == kind for file in them]
            found |= await self._archived_of(kind, files, (device_id, sid), (first, last), limit)
        return [found[seq] for seq in sorted(found)[:limit]]

    async def _archived_of(
        self, kind: str, files: Sequence[ArchiveFile], stream: tuple[str, str], wanted: tuple[int, int], limit: int
    ) -> dict[int, Handed]:
        """File by file in the order of their numbers, until no other file can have one that is as low."""
        spans = [(span, file) for file in files if (span := (await self._spans(file)).get(stream)) is not None]
        overlapping = [(low, file) for (low, high), file in spans if low <= wanted[1] and wanted[0] <= high]
        found: dict[int, Handed] = {}
        for lowest, file in sorted(overlapping, key=lambda each: each[0]):
            if len(found) >= limit and lowest > sorted(found)[limit - 1]:
                break
            for row in await self._rows_of(kind, file, stream, wanted):
                found[row.seq] = row
        return found

    async def _spans(self, file: ArchiveFile) -> dict[tuple[str, str], tuple[int, int]]:
        """From which number to which each stream is in a file; files never change."""
        known = self._archived_spans.get(file.name)
        if known is None:
            known = self._archived_spans[file.name] = await asyncio.to_thread(self._open_archive(file).spans, file)
        return known

    async def _rows_of(
        self, kind: str, file: ArchiveFile, stream: tuple[str, str], wanted: tuple[int, int]
    ) -> list[Handed]:
        columns = _SAMPLE_COLUMNS if kind == "reading" else _RECORD_COLUMNS
        limits = {"device_id": stream[0], "stream": stream[1], "first_seq": wanted[0], "last_seq": wanted[1]}
        read = functools.partial(self._open_archive(file).rows, [file], columns, **limits)
        rows = await asyncio.to_thread(read)
        return [_sample(*row) if kind == "reading" else _record(*row) for row in rows]

    def _open_archive(self, file: ArchiveFile) -> Any:
        if self.archive is None:
            raise ArchiveError(f"{file.name} is needed, but retention.archive_folder names no folder.")
        return self.archive

    @functools.cached_property
    def _archived_spans(self) -> dict[str, dict[tuple[str, str], tuple[int, int]]]:
        return {}


def _sample(
    seq: int,
    at_ms: int,
    co2_ppm: float | None,
    temperature_c: float | None,
    velocity_ms: float | None,
    pressure_difference_pa: float | None,
    pressure_kpa: float | None,
    flags: int,
) -> Sample:
    values = co2_ppm, temperature_c, velocity_ms, pressure_difference_pa, pressure_kpa
    return Sample(seq, at_ms, 1, *values, None, flags)


def _record(seq: int, at_ms: int, kind: str, data: str) -> Record:
    return Record(seq, kind, at_ms, 1, msgspec.json.decode(data))
