"""How much is kept, and the way of a raw day out of the database into the archive, and back.

The order is what makes it safe: write the file, read it back and compare, and only then take the day out, in one
transaction that finds exactly the rows that were exported. A crash at any moment leaves the day where it was.
"""

from __future__ import annotations

import asyncio
import contextvars
import csv
import functools
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from asyncpg import LockNotAvailableError
from tortoise.transactions import in_transaction

from carbontrack.model import Reading, Record, Storage
from carbontrack.store.context import in_context
from carbontrack.store.manifest import ArchiveError, ArchiveFile, Summary
from carbontrack.store.partitions import PARTITIONED, day_of_partition, days_ahead, ensure_days, partition
from carbontrack.store.sqlite import to_ms
from carbontrack.store.telemetry import Engine, Telemetry
from carbontrack.store.work import StoreUnavailable, Work, outages
from carbontrack.store.writer import GroupCommit

if TYPE_CHECKING:
    from carbontrack.store.archive import Archive

log = structlog.get_logger(__name__)

TRIES, BETWEEN_TRIES_S = 8, 0.25
"""How often a day that somebody reads is asked for before it is left for later. Nobody waits between two tries."""
LOCK_PATIENCE = "100ms"
"""How long the table of all days may wait for its last reader: whoever wants to read or write waits behind it."""
PACKED = "packed"
"""What is remarked on a table whose index is as small as it can be."""
AT_ONCE = 5000
DAY = timedelta(days=1)

_KEY = ("device_id", "stream", "seq")
_VALUES = ("co2_ppm", "temperature_c", "velocity_ms", "pressure_difference_pa", "pressure_kpa")
_PARTS = """
SELECT p.relname AS parent, c.relname AS name, pg_total_relation_size(c.oid) AS bytes,
    pg_relation_size(c.oid) > 0 AS filled, coalesce(obj_description(c.oid), '') AS remark
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE p.oid IN ('reading'::regclass, 'device_record'::regclass)
"""
_BROKEN_OFF = """
SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indrelid = $1::text::regclass AND NOT indisvalid
"""
_DAYS_SQLITE = """
SELECT DISTINCT date(measured_at / 86400000 * 86400, 'unixepoch') AS day FROM reading
WHERE source_id IN (SELECT id FROM source) AND measured_at < $1
UNION SELECT DISTINCT date(measured_at / 86400000 * 86400, 'unixepoch') FROM device_record WHERE measured_at < $1
"""
_SIZE_SQLITE = """
SELECT (page_count - freelist_count) * page_size AS bytes
FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()
"""
_EXPORT = {
    "reading": """
SELECT t.device_id, t.sid, coalesce(f.slug, ''), s.stack_id, coalesce(k.name, ''), s.base_seq + r.seq,
    {measured}, {measured} + CAST(round(CAST(r.received_after_s * 1000 AS NUMERIC)) AS BIGINT), r.co2_ppm,
    r.temperature_c, CASE WHEN r.flags & 536870912 = 0 THEN r.flow_signal END,
    CASE WHEN r.flags & 536870912 <> 0 THEN r.flow_signal END, r.pressure_kpa, r.flags
FROM reading r JOIN source s ON s.id = r.source_id JOIN stream t ON t.id = s.stream_id
LEFT JOIN stack k ON k.id = s.stack_id LEFT JOIN factory f ON f.id = k.factory_id
WHERE r.measured_at >= {since} AND r.measured_at < {until} ORDER BY s.stack_id, r.measured_at, t.id, s.base_seq, r.seq
""",
    "device_record": """
SELECT t.device_id, t.sid, r.seq, r.kind, {measured}, {received}, r.data
FROM device_record r JOIN stream t ON t.id = r.stream_id
WHERE r.measured_at >= {since} AND r.measured_at < {until} ORDER BY t.device_id, r.measured_at, r.stream_id, r.seq
""",
}
_SUMMARY = {
    "reading": """
SELECT count(*) AS n, coalesce(sum(r.seq), 0) AS seq, coalesce(sum({measured} - {begin}), 0) AS ms
FROM reading r JOIN source s ON s.id = r.source_id WHERE r.measured_at >= {since} AND r.measured_at < {until}
""",
    "device_record": """
SELECT count(*) AS n, coalesce(sum(r.seq & 2147483647), 0) AS seq, coalesce(sum({measured} - {begin}), 0) AS ms
FROM device_record r WHERE r.measured_at >= {since} AND r.measured_at < {until}
""",
}
_DELETE = {
    "reading": """
DELETE FROM reading WHERE source_id IN (SELECT id FROM source) AND measured_at >= {since} AND measured_at < {until}
""",
    "device_record": "DELETE FROM device_record WHERE measured_at >= {since} AND measured_at < {until}",
}
_REGISTER = """
INSERT INTO archive_file (name, kind, day, rows, bytes, sha256, made_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class _Part:
    """The table of one day."""

    table: str
    day: date
    bytes: int
    filled: bool
    remark: str


class Retention(Telemetry):
    """The keeping of raw days. ``archive`` None: nothing ever leaves the database."""

    _context: contextvars.Context
    archive: Archive | None = None
    commits: GroupCommit

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.archived: dict[tuple[str, date], list[ArchiveFile]] = {}
        """Which files each day has that is in the archive."""

    async def learn_archive(self) -> None:
        """Take what the database knows of the archive, and what a crash has kept it from knowing."""
        files = [
            ArchiveFile(
                row["name"],
                row["kind"],
                row["day"] if self._engine.is_postgres else date.fromisoformat(row["day"]),
                row["rows"],
                row["bytes"],
                row["sha256"],
                self._engine.moment(row["made_at"]),
            )
            for row in await self._engine.rows("SELECT * FROM archive_file ORDER BY name")
        ]
        if self.archive is not None:
            known = {file.name for file in files}
            try:
                files += [file for file in await asyncio.to_thread(self.archive.files) if file.name not in known]
            except (ArchiveError, OSError) as error:  # what devices measure now does not wait for it
                log.error("the archive cannot be read: what only its manifest knows is missing", error=str(error))  # noqa: TRY400  # the traceback would say nothing more
        self.archived = {}
        for file in files:
            self.archived.setdefault((file.kind, file.day), []).append(file)

    # --- days

    async def make_days(self, now: datetime) -> None:
        """Make the tables of the days that come (PostgreSQL)."""
        if self._engine.is_postgres:
            with outages():
                await ensure_days(self._engine.connection.execute_script, days_ahead(now))

    async def _parts(self) -> list[_Part]:
        rows = await self._engine.rows(_PARTS)
        found = [(day_of_partition(row["name"]), row) for row in rows]
        parts = [_Part(row["parent"], day, row["bytes"], row["filled"], row["remark"]) for day, row in found if day]
        return sorted(parts, key=lambda part: (part.day, part.table))

    async def days_before(self, day: date) -> list[date]:
        """The days before this one that are in the database and were not restored to stay, oldest first."""
        rows = await self._engine.rows("SELECT day, kept_until FROM archive_file WHERE kept_until IS NOT NULL")
        today = self._engine.day(datetime.now(UTC).date())
        stay = {row["day"] for row in rows if row["kept_until"] >= today}
        if self._engine.is_postgres:
            found = {part.day for part in await self._parts()}
        else:
            begin = datetime.combine(day, time(), UTC)
            found = {date.fromisoformat(row["day"]) for row in await self._engine.rows(_DAYS_SQLITE, begin)}
        return sorted(each for each in found if each < day and self._engine.day(each) not in stay)

    async def pack(self, before: date) -> list[date]:
        """Make the indexes of the days before this one as small as they can be; the days that were packed.

        Nothing waits for it: the index is built beside the old one, and rows are only marked as old.
        """
        if not self._engine.is_postgres:
            return []
        done = []
        for part in await self._parts():
            if part.table == "reading" and part.filled and part.day < before and part.remark != PACKED:
                name = partition(part.table, part.day)
                for row in await self._engine.rows(_BROKEN_OFF, name):
                    await self._engine.run(f"DROP INDEX {row['name']}")
                await self._engine.run(f"VACUUM (FREEZE, ANALYZE) {name}")
                await self._engine.run(f"REINDEX TABLE CONCURRENTLY {name}")
                await self._engine.run(f"COMMENT ON TABLE {name} IS '{PACKED}'")
                done.append(part.day)
        return done

    # --- out of the database

    async def retire(self, day: date, now: datetime) -> int:
        """Put a day into the archive and take it out of the database; the rows that were taken out.

        Raises :class:`~carbontrack.store.work.StoreUnavailable` when somebody reads the day or writes to it: try again
        later; and :class:`~carbontrack.store.archive.ArchiveError` when the archive cannot take it.
        """
        assert self.archive is not None, "there is no archive to put it into"
        taken = 0
        if self._engine.is_postgres:  # a crash may have left the day's records when its readings were gone
            with outages():
                await ensure_days(self._engine.connection.execute_script, [day])
        for kind in PARTITIONED:
            with outages():
                exported = await self._archived(self.archive, kind, day, now)
            files = await asyncio.to_thread(self.archive.of_day, kind, day)
            if files:
                self.archived[kind, day] = files  # from here on it is read from both, and nothing counts twice
            await self._take_out_when_free(kind, day, files, exported)
            taken += exported.rows
        return taken

    async def _take_out_when_free(self, kind: str, day: date, files: list[ArchiveFile], exported: Summary) -> None:
        """Try for some seconds. A backup holds every day for as long as it runs, and must not hold up the writer."""
        for _ in range(TRIES):
            async with self.commits.lock:
                if await self._take_out(kind, day, files, exported):
                    return
            await asyncio.sleep(BETWEEN_TRIES_S)
        raise StoreUnavailable(f"{kind} of {day} is being read, by a backup or a long query; it is tried again later")

    async def _archived(self, archive: Archive, kind: str, day: date, now: datetime) -> Summary:
        """Write a day's rows into the archive; what they were."""
        archive.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=archive.folder) as name:
            source = Path(name) / "rows.csv"
            await self._export(self._filled(_EXPORT[kind], day), source)
            if not source.stat().st_size:
                return Summary(0, 0, 0)
            return await asyncio.to_thread(archive.add, kind, day, source, now)

    async def _export(self, query: str, target: Path) -> None:
        """Rows as CSV: the engine's own writer is far faster than rows that pass through here."""
        connection = self._engine.connection
        if not self._engine.is_postgres:
            await asyncio.to_thread(_export_sqlite, connection.filename, query, target)  # type: ignore[attr-defined]  # of that engine
            return
        await asyncio.to_thread(target.touch)
        async with connection.acquire_connection() as raw:
            await raw.copy_from_query(query, output=target, format="csv", timeout=3600)

    def _filled(self, text: str, day: date) -> str:
        """SQL with a day's limits and its way to tell the time in it; no text of others."""
        begin = datetime.combine(day, time(), UTC)
        postgres = self._engine.is_postgres
        since, until = (f"'{at.isoformat()}'" if postgres else str(to_ms(at)) for at in (begin, begin + DAY))
        ms = "(extract(epoch FROM {}) * 1000)::bigint" if postgres else "{}"
        return text.format(
            since=since,
            until=until,
            begin=to_ms(begin),
            measured=ms.format("r.measured_at"),
            received=ms.format("r.received_at"),
        )

    @in_context
    async def _take_out(self, kind: str, day: date, files: list[ArchiveFile], exported: Summary) -> bool:
        """Drop a day's table (or, without tables by day, its rows) if it has exactly what was exported.

        False: somebody is reading it.
        """
        try:
            await self._taken_out(kind, day, files, exported)
        except LockNotAvailableError:
            return False
        return True

    async def _taken_out(self, kind: str, day: date, files: list[ArchiveFile], exported: Summary) -> None:
        engine, name = self._engine, partition(kind, day)
        async with in_transaction() as connection:
            if engine.is_postgres:
                await connection.execute_script(
                    f"SET LOCAL lock_timeout = '{LOCK_PATIENCE}'; LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE NOWAIT"
                )
            (row,) = await connection.execute_query_dict(self._filled(_SUMMARY[kind], day))
            held = Summary(int(row["n"]), int(row["seq"]), int(row["ms"]))
            if held != exported:
                raise StoreUnavailable(f"{kind} of {day} was written to while it was archived")
            for file in files:
                await connection.execute_query(engine.sql(_REGISTER), self._registered(file))
            if engine.is_postgres:
                await connection.execute_script(f"ALTER TABLE {kind} DETACH PARTITION {name}; DROP TABLE {name}")
            else:
                await connection.execute_query(self._filled(_DELETE[kind], day))

    def _registered(self, file: ArchiveFile) -> list[Any]:
        day, made_at = self._engine.day(file.day), self._engine.time(file.made_at)
        return [file.name, file.kind, day, file.rows, file.bytes, file.sha256, made_at]

    # --- and back

    async def restore(self, day: date, keep_until: date) -> int:
        """Bring a day's readings and records back from the archive; the rows that were not there.

        They stay until ``keep_until``. Raises :class:`~carbontrack.store.archive.ArchiveError` for a day or a file that
        the archive does not have.
        """
        if self.archive is None:
            raise ArchiveError("There is no archive: retention.archive_folder names none.")
        if not self.archived_files(day):
            raise ArchiveError(f"{day} is not in the archive.")
        if self._engine.is_postgres:
            with outages():
                await ensure_days(self._engine.connection.execute_script, [day])
        # First of all, so that no core takes away what comes; a new database does not know of the files either.
        for file in self.archived_files(day):
            await self._engine.run(_REGISTER, *self._registered(file))
        await self._engine.run(
            "UPDATE archive_file SET kept_until = $1 WHERE day = $2",
            self._engine.day(keep_until),
            self._engine.day(day),
        )
        return await self._bring_readings(day) + await self._bring_records(day)

    async def _bring_readings(self, day: date) -> int:
        columns = (*_KEY, "stack_id", "measured_at", "received_at", *_VALUES, "flags")
        back = 0
        async for rows in self._slices("reading", day, columns):
            pks = await self._stream_pks({(row[0], row[1]) for row in rows})
            readings = [
                Reading(
                    stack_id,
                    pks[device_id, sid],
                    seq,
                    _moment(measured_ms),
                    _moment(received_ms),
                    co2,
                    temperature,
                    velocity,
                    pressure,
                    None,
                    None,
                    flags,
                    difference,
                )
                for device_id, sid, seq, stack_id, measured_ms, received_ms, co2, temperature, velocity, difference,
                pressure, flags in rows
            ]  # fmt: skip
            work = Work("", 0, readings)
            await self.commits.save(work)
            back += len(readings) - len(work.conflicts)
        return back

    async def _bring_records(self, day: date) -> int:
        back = 0
        async for rows in self._slices("device_record", day, (*_KEY, "kind", "measured_at", "received_at", "data")):
            pks = await self._stream_pks({(row[0], row[1]) for row in rows})
            records = [
                (
                    pks[device_id, sid],
                    Record(seq, kind, measured_ms, 1, msgspec.json.decode(data)),
                    _moment(measured_ms),
                    _moment(received_ms),
                )
                for device_id, sid, seq, kind, measured_ms, received_ms, data in rows
            ]
            await self.commits.save(Work("", 0, records=records))
            back += len(records)
        return back

    async def _slices(self, kind: str, day: date, columns: Sequence[str]) -> AsyncIterator[list[tuple[Any, ...]]]:
        assert self.archive is not None
        for file in self.archived.get((kind, day), []):
            rows = await asyncio.to_thread(self.archive.rows, [file], columns)
            for at in range(0, len(rows), AT_ONCE):
                yield rows[at : at + AT_ONCE]

    async def _stream_pks(self, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The rows of streams by device and stream id; a database that is new to them gets them."""
        rows = await self._engine.rows("SELECT id, device_id, sid FROM stream")
        known = {(row["device_id"], row["sid"]): row["id"] for row in rows}
        for device_id, sid in sorted(wanted - known.keys()):
            known[device_id, sid] = (await self.open_stream(device_id, sid)).pk
        return known

    # --- what is read from the archive

    def archived_files(self, day: date) -> list[ArchiveFile]:
        """Every file of a day."""
        return [file for kind in PARTITIONED for file in self.archived.get((kind, day), [])]

    async def archived_rows(
        self, stack_id: int, since_ms: int, until_ms: int, columns: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        """A stack's readings of [since, until) out of the archive, with the stream's row in the first column."""
        first, last = (_moment(at_ms).date() for at_ms in (since_ms, max(since_ms, until_ms - 1)))
        files = [
            file
            for (kind, day), them in (self.archived.items() if first <= last else ())
            if kind == "reading" and first <= day <= last
            for file in them
        ]
        if not files:
            return []
        if self.archive is None:
            raise ArchiveError(f"{files[0].name} is needed, but retention.archive_folder names no folder.")
        limits = {"stack_id": stack_id, "since_ms": since_ms, "until_ms": until_ms}
        read = functools.partial(self.archive.rows, files, ("device_id", "stream", *columns), **limits)
        rows = await asyncio.to_thread(read)
        pks = await self._stream_pks({(row[0], row[1]) for row in rows})
        return [(pks[row[0], row[1]], *row[2:]) for row in rows]

    async def server_time(self) -> datetime:
        """The time by the database's own clock; SQLite's is ours."""
        if not self._engine.is_postgres:
            return datetime.now(UTC)
        (row,) = await self._engine.rows("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    # --- how much there is

    async def storage(self, today: date) -> Storage:
        """How much is kept."""
        files = [file for them in self.archived.values() for file in them]
        if self._engine.is_postgres:
            parts = await self._parts()
            filled = [part for part in parts if part.filled]
            whole = sorted({part.day for part in filled if part.day < today})[-7:]
            (row,) = await self._engine.rows("SELECT pg_database_size(current_database()) AS bytes")
            raw_bytes, database_bytes = sum(part.bytes for part in parts), int(row["bytes"])
            per_day = sum(part.bytes for part in filled if part.day in whole) / len(whole) if whole else 0.0
            days = sorted({part.day for part in filled})
        else:
            rows = await self._engine.rows(_DAYS_SQLITE, datetime.combine(today + DAY, time(), UTC))
            days = sorted(date.fromisoformat(row["day"]) for row in rows)
            (row,) = await self._engine.rows(_SIZE_SQLITE)
            raw_bytes = database_bytes = int(row["bytes"])
            per_day = database_bytes / len(days) if len(days) > 1 else 0.0
        return Storage(
            oldest_raw=days[0] if days else None,
            raw_days=len(days),
            raw_bytes=raw_bytes,
            database_bytes=database_bytes,
            bytes_per_day=per_day,
            archived_days=len({file.day for file in files}),
            archive_bytes=sum(file.bytes for file in files),
            archived_until=max((file.day for file in files), default=None),
        )


def _export_sqlite(path: str, query: str, target: Path) -> None:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        with target.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(connection.execute(query))
    finally:
        connection.close()


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
