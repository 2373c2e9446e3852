"""The archive in bad times: a crash between two steps, a new database, no room, files that cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from carbontrack.metrics import Metrics
from carbontrack.store import Store, StoreUnavailable, open_store
from carbontrack.upkeep import Upkeep
from tests.support.world import (
    NOON,
    SID,
    execute,
    kept,
    migrated_store,
    reading,
    register,
    work,
)

pytest_plugins = ["tests.support.world"]

DAY = date(2026, 3, 1)
LATER = datetime(2026, 6, 1, tzinfo=UTC)


# --- the archive


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
async def keeper(database_url: str, metrics: Metrics, folder: Path) -> AsyncIterator[Store]:
    async with migrated_store(database_url, metrics, archive_folder=folder) as opened:
        yield opened


async def day_of_readings(store: Store, seqs: range = range(1, 101)) -> int:
    """A day with readings and a record; its stack."""
    (site,) = await register(store, "dev-001")
    stream = await store.open_stream("dev-001", SID)
    rows = [
        reading(seq, NOON + timedelta(seconds=at), stack_id=site.stack.id, stream_pk=stream.pk)
        for at, seq in enumerate(seqs)
    ]
    contribution = work(rows)
    await store.save(contribution)
    return site.stack.id


async def test_a_crash_between_the_readings_and_the_records_of_a_day_is_made_good(
    keeper: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await day_of_readings(keeper)
    take_out = Store._take_out

    async def crashing(self: Store, kind: str, *arguments: Any) -> None:
        if kind == "device_record":
            raise StoreUnavailable("the core is gone")
        await take_out(self, kind, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_take_out", crashing)
        with pytest.raises(StoreUnavailable):
            await keeper.retire(DAY, LATER)

    await keeper.retire(DAY, LATER)

    assert DAY not in await keeper.days_before(LATER.date())


async def test_a_day_with_large_numbers_can_be_archived(keeper: Store) -> None:
    """The sum of five million times in ms is more than 64 bits hold; so is that of some large sequence numbers."""
    stack_id = await day_of_readings(keeper, range(2**53 - 2000, 2**53))
    before = await kept(keeper, stack_id)

    assert await keeper.retire(DAY, LATER) == 2000

    assert await kept(keeper, stack_id) == before


async def test_a_day_stays_that_is_restored_to_a_new_database(keeper: Store, folder: Path, tmp_path: Path) -> None:
    await day_of_readings(keeper)
    await keeper.retire(DAY, LATER)
    today = datetime.now(UTC).date()

    async with migrated_store(f"sqlite://{tmp_path / 'new.sqlite3'}", Metrics(), archive_folder=folder) as new:
        await new.restore(DAY, today + timedelta(days=30))

        assert await new.days_before(today) == []


async def test_a_day_is_not_taken_away_while_it_is_restored(keeper: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await day_of_readings(keeper)
    await keeper.retire(DAY, LATER)
    today = datetime.now(UTC).date()
    found: list[list[date]] = []
    bring = Store._bring_records

    async def looking(self: Store, day: date) -> int:
        found.append(await self.days_before(today))
        return await bring(self, day)

    monkeypatch.setattr(Store, "_bring_records", looking)

    await keeper.restore(DAY, today + timedelta(days=30))

    assert found == [[]]


@pytest.mark.parametrize("fault", ["manifest", "folder"])
async def test_readings_are_taken_also_when_the_archive_cannot_be_read(
    database_url: str, folder: Path, fault: str
) -> None:
    async with migrated_store(database_url, archive_folder=folder):
        pass
    if fault == "manifest":
        folder.mkdir()
        (folder / "manifest.jsonl").write_text("this is no line\n")
    else:
        folder.write_text("this is no folder")

    async with open_store(database_url, Metrics(), archive_folder=folder) as store:
        await store.save(work([reading(1)]))

        assert len(await kept(store)) == 1


async def test_old_days_leave_though_the_others_cannot_be_packed(
    postgres_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full an index cannot be built anew; what makes room must not wait for that."""
    async with migrated_store(postgres_url, archive_folder=folder) as store:
        await day_of_readings(store)

        async def full(self: Store, before: date) -> list[date]:
            raise StoreUnavailable("the disk is full")

        monkeypatch.setattr(Store, "pack", full)
        upkeep = Upkeep(store, Metrics(), keep_days=30, volume=None, reserve_bytes=0, clock=lambda: LATER)

        assert await upkeep.tidy() == 1

        assert upkeep.status is not None
        assert "the disk is full" in upkeep.status.problem


async def test_what_a_rebuilding_left_behind_that_was_broken_off_is_cleared_away(postgres_url: str) -> None:
    async with migrated_store(postgres_url) as store:
        await store.save(work([reading(seq) for seq in range(100)]))
        await execute(postgres_url, "CREATE INDEX reading_20260301_pkey_ccnew ON reading_20260301 (source_id)")
        await execute(
            postgres_url,
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'reading_20260301_pkey_ccnew'::regclass",
        )

        assert await store.pack(DAY + timedelta(days=1)) == [DAY]

        rows = await store._engine.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'reading_20260301'")
        assert [row["indexname"] for row in rows] == ["reading_20260301_pkey"]


async def test_no_query_is_planned_for_all_the_days_that_there_are(postgres_url: str) -> None:
    """By itself PostgreSQL tries that at a statement's sixth use: 13 s where there are the days of six years."""
    async with migrated_store(postgres_url) as store:
        assert await store._engine.rows("SELECT current_setting('plan_cache_mode') AS mode") == [
            {"mode": "force_custom_plan"}
        ]
