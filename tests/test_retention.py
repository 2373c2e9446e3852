"""Raw days leave the database for the archive, are read from there as if they had not, and come back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pyarrow.parquet as pq
import pytest

from carbontrack.metrics import Metrics
from carbontrack.model import Measurement, MonitoringPlan, Record, Storage
from carbontrack.store import ArchiveError, Store, StoreUnavailable, Work, open_store
from carbontrack.store.archive import Archive
from carbontrack.store.retention import BETWEEN_TRIES_S, TRIES
from carbontrack.tiers import Summariser
from tests.support.world import ALWAYS, NAIROBI, NOON, SID, kept, migrated_store, reading, register, summarise_touched

pytest_plugins = ["tests.support.world"]

DAY = date(2026, 3, 1)
LATER = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
async def store(database_url: str, metrics: Metrics, folder: Path) -> AsyncIterator[Store]:
    async with migrated_store(database_url, metrics, archive_folder=folder) as opened:
        yield opened


async def measured_hour(store: Store, *, begin: datetime = NOON, count: int = 720) -> int:
    """A stack whose device has measured for an hour, and the day after; its stack."""
    (site,) = await register(store, "dev-001")
    stream = await store.open_stream("dev-001", SID)
    await add(store, site.stack.id, stream.pk, begin, range(1, count + 1))
    await add(store, site.stack.id, stream.pk, begin + timedelta(days=1), range(count + 1, count + 13))
    await summarise_touched(store, now=LATER)
    return site.stack.id


async def add(store: Store, stack_id: int, stream_pk: int, begin: datetime, seqs: range) -> None:
    rows = [
        reading(seq, begin + timedelta(seconds=5 * at), stack_id=stack_id, stream_pk=stream_pk)
        for at, seq in enumerate(seqs)
    ]
    starts = {int(row.measured_at.timestamp()) // 300 * 300_000 for row in rows}
    records = [(stream_pk, Record(100_000 + seqs[0], "health", 0, 1, {"rssi": -60, "note": 'a "b", c'}), begin, begin)]
    await store.save(Work("dev-001", 1, rows, records, buckets={(stack_id, start) for start in starts}))


async def in_database(store: Store) -> int:
    (row,) = await store._engine.rows("SELECT count(*) AS n FROM reading")
    return int(row["n"])


# --- out


async def test_a_day_that_left_the_database_is_read_as_before(store: Store) -> None:
    stack_id = await measured_hour(store)
    before, raw = await kept(store, stack_id), await store.raw(stack_id, 0, 2**42)

    assert await store.retire(DAY, LATER) == 720 + 1

    assert await in_database(store) == 12
    assert await kept(store, stack_id) == before
    assert await store.raw(stack_id, 0, 2**42) == raw
    assert await store.reading_span(stack_id, *ALWAYS) == (before[0].measured_at, before[-1].measured_at)
    assert await store.readings([stack_id], NOON + HOUR, NOON + timedelta(days=1)) == []
    assert [row.seq for row in await store.readings([stack_id], *ALWAYS, limit=3)] == [1, 2, 3]


async def test_any_tool_that_reads_parquet_reads_the_file(store: Store, folder: Path) -> None:
    await measured_hour(store)

    await store.retire(DAY, LATER)

    table = pq.read_table(folder / "reading-2026-03-01.parquet")
    first = table.slice(0, 1).to_pylist()[0]
    assert table.num_rows == 720
    assert first["device_id"] == "dev-001"
    assert (first["stream"], first["seq"], first["factory"]) == (SID, 1, "kangaita")
    assert first["measured_at"] == NOON
    assert first["received_at"] == NOON + timedelta(milliseconds=250)
    assert (first["co2_ppm"], first["velocity_ms"], first["pressure_difference_pa"]) == (98_000.0, 4.0, None)
    records = pq.read_table(folder / "device_record-2026-03-01.parquet").to_pylist()
    assert json.loads(records[0]["data"]) == {"rssi": -60, "note": 'a "b", c'}
    assert pq.ParquetFile(folder / "reading-2026-03-01.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


async def test_values_that_are_missing_are_missing_in_the_archive(store: Store, folder: Path) -> None:
    stream = await store.open_stream("dev-001", SID)
    pitot = reading(2, NOON, stream_pk=stream.pk, pressure_difference_pa=7.25, velocity_ms=3.0, flags=1 << 29)
    nothing = reading(3, NOON, stream_pk=stream.pk, co2_ppm=None, temperature_c=None, velocity_ms=None, flags=1 << 21)
    await store.save(Work("dev-001", 1, [pitot, nothing]))
    before = await kept(store)

    await store.retire(DAY, LATER)

    assert await kept(store) == before
    table = pq.read_table(folder / "reading-2026-03-01.parquet").to_pylist()
    assert [row["pressure_difference_pa"] for row in table] == [7.25, None]
    assert [row["co2_ppm"] for row in table] == [98_000.0, None]


async def test_the_archive_is_known_again_after_a_restart(store: Store, database_url: str, folder: Path) -> None:
    stack_id = await measured_hour(store)
    before = await kept(store, stack_id)
    await store.retire(DAY, LATER)

    async with open_store(database_url, Metrics(), archive_folder=folder) as again:
        assert await kept(again, stack_id) == before


async def test_a_day_without_anything_leaves_no_file(store: Store, folder: Path) -> None:
    await store.make_days(NOON)

    if await store.days_before(date(2026, 4, 1)):
        assert await store.retire(DAY, LATER) == 0

    assert list(folder.glob("*.parquet")) == []


async def test_a_row_that_comes_while_the_day_is_archived_keeps_the_day_in_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack_id = await measured_hour(store)
    add_file = Archive.add
    loop = asyncio.get_running_loop()

    def slow(self: Archive, *args: object) -> object:
        late = add(store, stack_id, 1, NOON + 2 * HOUR, range(5000, 5003))
        asyncio.run_coroutine_threadsafe(late, loop).result(10)
        return add_file(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "add", slow)
        with pytest.raises(StoreUnavailable, match="written to while it was archived"):
            await store.retire(DAY, LATER)
    assert await in_database(store) == 720 + 3 + 12
    assert len(await kept(store, stack_id)) == 720 + 3 + 12, "nothing counts twice, though it is in both"

    await store.retire(DAY, LATER)

    assert await in_database(store) == 12
    assert len(await kept(store, stack_id)) == 720 + 3 + 12


async def test_a_day_that_somebody_reads_stays_for_now_and_no_writer_waits_for_it(
    postgres_url: str, folder: Path
) -> None:
    """As pg_dump does, which reads all days for as long as it takes."""
    async with migrated_store(postgres_url, archive_folder=folder) as store:
        stack_id = await measured_hour(store)
        reader = await asyncpg.connect(postgres_url)
        await reader.execute("BEGIN; LOCK TABLE reading, device_record IN ACCESS SHARE MODE")
        archiving = asyncio.create_task(store.retire(DAY, LATER))
        longest_s, seq = 0.0, 20_000
        while not archiving.done():
            began, seq = time.monotonic(), seq + 1
            await add(store, stack_id, 1, NOON + timedelta(days=1), range(seq, seq + 1))
            longest_s = max(longest_s, time.monotonic() - began)
        with pytest.raises(StoreUnavailable, match="being read, by a backup or a long query"):
            await archiving
        await reader.close()

        assert seq > 20_010
        assert longest_s < TRIES * BETWEEN_TRIES_S
        assert await store.retire(DAY, LATER) == 720 + 1


# --- late data


async def test_late_data_of_an_archived_day_correct_its_hour_and_get_a_file_of_their_own(
    store: Store, folder: Path
) -> None:
    stack_id = await measured_hour(store, count=360)
    (before,) = await store.hours([stack_id], NOON, NOON + HOUR)
    await store.retire(DAY, LATER)

    await add(store, stack_id, 1, NOON + HOUR / 2, range(9001, 9361))
    await summarise_touched(store, now=LATER)

    (after,) = await store.hours([stack_id], NOON, NOON + HOUR)
    assert (before.count, after.count, after.version) == (360, 720, 2)

    await store.retire(DAY, LATER)

    assert await in_database(store) == 12
    assert sorted(path.name for path in folder.glob("reading-*")) == [
        "reading-2026-03-01.2.parquet",
        "reading-2026-03-01.parquet",
    ]
    assert pq.read_metadata(folder / "reading-2026-03-01.2.parquet").num_rows == 360
    assert len(await store.readings([stack_id], NOON, NOON + HOUR)) == 720


async def test_a_plan_that_is_entered_later_corrects_archived_days_too(store: Store) -> None:
    stack_id = await measured_hour(store)
    (before,) = await store.hours([stack_id], NOON, NOON + HOUR)
    await store.retire(DAY, LATER)

    await store.add_plan(stack_id, MonitoringPlan(valid_from=NOON - HOUR, profile_factor=0.45))
    await summarise_touched(store, now=LATER)

    (after,) = await store.hours([stack_id], NOON, NOON + HOUR)
    assert after.measured_kg == pytest.approx(before.measured_kg / 2)


async def test_without_the_file_an_hour_stays_as_it_is(store: Store, folder: Path) -> None:
    stack_id = await measured_hour(store, count=360)
    (before,) = await store.hours([stack_id], NOON, NOON + HOUR)
    await store.retire(DAY, LATER)
    (folder / "reading-2026-03-01.parquet").unlink()

    await add(store, stack_id, 1, NOON + HOUR / 2, range(9001, 9361))
    await summarise_touched(store, now=LATER)

    assert await store.hours([stack_id], NOON, NOON + HOUR) == [before]
    assert (await store.touched_buckets(10)).buckets == frozenset(), "the tiers of the others do not wait for it"
    with pytest.raises(ArchiveError, match=r"reading-2026-03-01\.parquet cannot be read.*archive verify"):
        await Summariser(store, NAIROBI).recompute([stack_id], *ALWAYS, lambda _: None)


# --- back


async def test_a_restored_day_is_in_the_database_again_and_stays_for_as_long_as_was_said(store: Store) -> None:
    stack_id = await measured_hour(store)
    before = await kept(store, stack_id)
    await store.retire(DAY, LATER)
    today = datetime.now(UTC).date()

    assert await store.restore(DAY, today + timedelta(days=3)) == 720 + 1

    assert await in_database(store) == 732
    assert await kept(store, stack_id) == before
    assert DAY not in await store.days_before(today)
    assert await store.restore(DAY, today - timedelta(days=1)) in {0, 1}, "what is there already does not come twice"
    assert DAY in await store.days_before(today)
    assert await store.retire(DAY, LATER) == 720 + 1
    assert await in_database(store) == 12
    assert len(Archive(store.archive.folder).files()) == 2 if store.archive else False


async def test_a_day_that_was_never_archived_cannot_be_restored(store: Store) -> None:
    with pytest.raises(ArchiveError, match="2026-03-01 is not in the archive"):
        await store.restore(DAY, DAY)


async def test_a_database_that_lost_everything_gets_its_readings_from_the_archive(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    stack_id = await measured_hour(store)
    before: list[Measurement] = await store.readings([stack_id], NOON, NOON + HOUR)
    await store.retire(DAY, LATER)

    async with migrated_store(f"sqlite://{tmp_path / 'new.sqlite3'}", Metrics(), archive_folder=folder) as new:
        await new.restore(DAY, DAY)
        found = await new.readings([stack_id], NOON, NOON + HOUR)

    assert found == before


# --- what an auditor checks


async def test_an_altered_missing_or_added_file_is_named(store: Store, folder: Path) -> None:
    await measured_hour(store)
    await store.retire(DAY, LATER)
    archive = Archive(folder)
    assert [fault for _, fault in archive.verify()] == ["", ""]

    path = folder / "reading-2026-03-01.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    (folder / "device_record-2026-03-01.parquet").unlink()
    (folder / "reading-2026-03-09.parquet").write_bytes(b"")

    assert dict(archive.verify()) == {
        "reading-2026-03-01.parquet": "it is not as it was written: its SHA-256 differs from the manifest's",
        "device_record-2026-03-01.parquet": "it is missing",
        "reading-2026-03-09.parquet": "it is not in the manifest",
    }


async def test_a_line_that_was_taken_out_of_the_manifest_is_noticed(store: Store, folder: Path) -> None:
    await measured_hour(store)
    await store.retire(DAY, LATER)
    manifest = folder / "manifest.jsonl"
    _, second = manifest.read_text().splitlines()

    manifest.write_text(second + "\n")

    faults = dict(Archive(folder).verify())
    assert "the line before it" in faults["device_record-2026-03-01.parquet"]
    assert faults["reading-2026-03-01.parquet"] == "it is not in the manifest"


async def test_half_a_line_that_a_power_cut_left_is_no_obstacle(store: Store, folder: Path) -> None:
    await measured_hour(store)
    folder.mkdir()
    (folder / "manifest.jsonl").write_text('{"format": 1, "name": "read')

    await store.retire(DAY, LATER)

    assert [fault for _, fault in Archive(folder).verify()] == ["", ""]


# --- how much there is


async def test_the_storage_says_what_is_kept_and_since_when(store: Store) -> None:
    assert await store.storage(DAY) == Storage(None, 0, *(await sizes(store)), 0.0, 0, 0, None)
    await measured_hour(store)
    await store.retire(DAY, LATER)

    found = await store.storage(date(2026, 3, 5))

    assert (found.oldest_raw, found.raw_days) == (date(2026, 3, 2), 1)
    assert found.raw_bytes > 0
    assert found.database_bytes >= found.raw_bytes
    assert (found.archived_days, found.archived_until) == (1, DAY)
    assert 0 < found.archive_bytes < 30_000


async def sizes(store: Store) -> tuple[int, int]:
    found = await store.storage(DAY)
    return found.raw_bytes, found.database_bytes


async def test_days_are_made_before_they_come_and_packed_when_they_are_over(postgres_url: str) -> None:
    async with migrated_store(postgres_url) as store:
        await store.make_days(NOON)
        await store.make_days(NOON)
        names = {row["name"] for row in await store._engine.rows("SELECT relname AS name FROM pg_class")}
        assert {"reading_20260228", "reading_20260308", "device_record_20260308"} <= names

        await store.save(Work("dev-001", 1, [reading(seq) for seq in range(100)]))

        assert await store.pack(DAY) == []
        assert await store.pack(DAY + timedelta(days=1)) == [DAY]
        assert await store.pack(DAY + timedelta(days=1)) == [], "once is enough"
        assert len(await kept(store)) == 100
