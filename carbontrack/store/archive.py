"""The archive: raw days as Parquet files (zstd) in a folder. No database here.

Whatever reads Parquet reads these; docs/retention.md has the columns. The library is large, so this module is imported
only where there is an archive.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from carbontrack.store.manifest import FORMAT, ArchiveError, ArchiveFile, Manifest, Summary, sha256

ROW_GROUP = 65_536
"""Rows that are read at once: about four stack-days of readings every 5 s."""

_TIME = pa.timestamp("ms", "UTC")
SCHEMAS = {
    "reading": pa.schema(
        [
            ("device_id", pa.string()),
            ("stream", pa.string()),
            ("factory", pa.string()),
            ("stack_id", pa.int32()),
            ("stack", pa.string()),
            ("seq", pa.int64()),
            ("measured_at", _TIME),
            ("received_at", _TIME),
            ("co2_ppm", pa.float32()),
            ("temperature_c", pa.float32()),
            ("velocity_ms", pa.float32()),
            ("pressure_difference_pa", pa.float32()),
            ("pressure_kpa", pa.float32()),
            ("flags", pa.int32()),
        ]
    ),
    "device_record": pa.schema(
        [
            ("device_id", pa.string()),
            ("stream", pa.string()),
            ("seq", pa.int64()),
            ("kind", pa.string()),
            ("measured_at", _TIME),
            ("received_at", _TIME),
            ("data", pa.string()),
        ]
    ),
}
"""What each kind of file has, in this order."""
_KEY = ["device_id", "stream", "seq"]
LOW_BITS = (1 << 31) - 1
"""Of a sequence number, what is compared with the database."""


class Archive(Manifest):
    """One folder. Everything here blocks: call it in a thread."""

    # --- reading

    def rows(self, files: Sequence[ArchiveFile], columns: Sequence[str], **limits: Any) -> list[tuple[Any, ...]]:
        """The rows of some files; a stack and a time may limit them, or a device, its stream and numbers.

        ``stack_id``; ``since_ms`` and ``until_ms``; ``device_id``, ``stream``, ``first_seq`` and ``last_seq``.
        """
        found: list[tuple[Any, ...]] = []
        for file in files:
            table = self._read(file, columns, limits)
            found += zip(*(_plain(table.column(name)) for name in columns), strict=True)
        return found

    def spans(self, file: ArchiveFile) -> dict[tuple[str, str], tuple[int, int]]:
        """The lowest and the highest number of each (device, stream) in a file."""
        table = self._read(file, _KEY, {}).group_by(["device_id", "stream"]).aggregate([("seq", "min"), ("seq", "max")])
        names = ("device_id", "stream", "seq_min", "seq_max")
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        return {(device_id, stream): (low, high) for device_id, stream, low, high in rows}

    def _read(self, file: ArchiveFile, columns: Sequence[str], limits: dict[str, Any]) -> pa.Table:
        path = self.folder / file.name
        filters = [pc.field(name) == limits[name] for name in ("stack_id", "device_id", "stream") if name in limits]
        if "first_seq" in limits:
            filters += [pc.field("seq") >= limits["first_seq"], pc.field("seq") <= limits["last_seq"]]
        if "since_ms" in limits:
            since, until = (pa.scalar(limits[name], pa.int64()).cast(_TIME) for name in ("since_ms", "until_ms"))
            filters += [pc.field("measured_at") >= since, pc.field("measured_at") < until]
        wanted = None
        for condition in filters:
            wanted = condition if wanted is None else wanted & condition
        try:
            return pq.read_table(path, columns=list(columns), filters=wanted)
        except (OSError, pa.ArrowException) as error:
            why = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
            message = (
                f"{path} cannot be read: {why}. Put it back from its copy; `carbontrack archive verify` checks all."
            )
            raise ArchiveError(message) from error

    # --- writing

    def add(self, kind: str, day: date, source: Path, now: datetime) -> Summary:
        """Make a file of a CSV file's rows, leaving out those that files of that day have; what the CSV had.

        The CSV has the columns of :data:`SCHEMAS` in their order, without a header, times as UTC ms. What was written
        is read back: raises :class:`ArchiveError` where a row of the CSV is in no file afterwards.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        there = self.of_day(kind, day)
        name = f"{kind}-{day}.parquet" if not there else f"{kind}-{day}.{len(there) + 1}.parquet"
        draft = self.folder / f"{name}.new"
        rows = self._write(kind, source, draft, self._keys(there))
        if rows:
            with draft.open("rb") as written:
                os.fsync(written.fileno())
            file = ArchiveFile(name, kind, day, rows, draft.stat().st_size, sha256(draft), now)
            draft.replace(self.folder / name)
            self.append(file)
        else:
            draft.unlink()
        return self._compared(kind, day, source)

    def _write(self, kind: str, source: Path, draft: Path, known: pa.Table | None) -> int:
        schema = SCHEMAS[kind]
        rows = 0
        numbers = [name for name in ("seq", "measured_at", "received_at") if name in schema.names]
        with pq.ParquetWriter(
            draft,
            schema.with_metadata({"carbontrack": json.dumps({"format": FORMAT, "kind": kind})}),
            compression="zstd",
            compression_level=9,
            use_dictionary=[name for name in schema.names if name not in numbers],
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        ) as writer:
            for table in _tables(schema, source):
                new = table if known is None else _without(table, known)
                rows += new.num_rows
                writer.write_table(new, row_group_size=ROW_GROUP)
        return rows

    def _compared(self, kind: str, day: date, source: Path) -> Summary:
        """What a CSV had, when each of its rows is in a file of the day."""
        total = Summary(0, 0, 0)
        missing = 0
        begin_ms = round(datetime.combine(day, time(), UTC).timestamp() * 1000)
        known = self._keys(self.of_day(kind, day))
        for table in _tables(SCHEMAS[kind], source):
            missing += table.num_rows if known is None else _without(table, known).num_rows
            # Small enough that no sum of a day exceeds 64 bits: Arrow would say nothing.
            low = pc.bit_wise_and(table.column("seq"), LOW_BITS)
            since_ms = pc.subtract(table.column("measured_at").cast(pa.int64()), begin_ms)
            seq, measured = pc.sum(low).as_py() or 0, pc.sum(since_ms).as_py() or 0
            total = Summary(total.rows + table.num_rows, total.seq + seq, total.measured_ms + measured)
        if missing:
            raise ArchiveError(
                f"{missing} rows of {kind} of {day} are in no file of {self.folder}: is its disk in order?"
            )
        return total

    def _keys(self, files: Sequence[ArchiveFile]) -> pa.Table | None:
        return pa.concat_tables([self._read(file, _KEY, {}) for file in files]) if files else None


def _tables(schema: pa.Schema, source: Path) -> Iterator[pa.Table]:
    if not source.stat().st_size:
        return
    plain = {name: pa.int64() if kind == _TIME else kind for name, kind in zip(schema.names, schema.types, strict=True)}
    with pa.csv.open_csv(
        source,
        read_options=pa.csv.ReadOptions(column_names=schema.names, block_size=16 << 20),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=plain, null_values=[""]),
    ) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch]).cast(schema)


def _without(table: pa.Table, known: pa.Table) -> pa.Table:
    """The rows whose key is not among those that are known, in their order."""
    order = table.append_column("order", pa.array(range(table.num_rows), pa.int64()))
    return (
        order.join(known, keys=_KEY, join_type="left anti")
        .sort_by("order")
        .select(table.column_names)
        .cast(table.schema)
    )


def _plain(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = (column.cast(pa.int64()) if column.type == _TIME else column).to_pylist()
    return values
