"""Nothing twice and nothing half: what a crash, a full disk or a mad clock leaves in the database."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from carbontrack.store import Store, StoreBusy, StoreFull, StoreUnavailable, StreamState
from carbontrack.store.postgres import MOST_NEW_DAYS, PostgresBackend
from carbontrack.store.sqlite import SqliteBackend
from carbontrack.store.work import Batch
from tests.support.world import (
    NOON,
    SID,
    kept,
    migrated_store,
    reading,
    work,
)

pytest_plugins = ["tests.support.world"]

TOO_LARGE = 2**63


# --- twice


@pytest.mark.parametrize("crash_at", [1, 2, 3, 4])
async def test_a_crash_while_a_bad_row_is_looked_for_leaves_nothing_half_done(
    store: Store, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    """A row without its stream's state would be taken again, and an estimated time is another one then."""
    stream = await store.open_stream("dev-001", SID)
    stream.add(1, 3)
    rows = [reading(seq, stream_pk=stream.pk) for seq in (1, 2)] + [reading(TOO_LARGE, NOON, stream_pk=stream.pk)]
    contribution = replace(work(rows), streams={stream.pk: StreamState.of(stream, NOON)})
    writes = 0
    for backend in (PostgresBackend, SqliteBackend):
        write = backend.write

        async def crashing(self: Any, batch: Batch, *, write: Any = write, **options: Any) -> int:
            nonlocal writes
            writes += 1
            if writes > crash_at:
                raise StoreUnavailable("the core is gone")
            return int(await write(self, batch, **options))

        monkeypatch.setattr(backend, "write", crashing)

    with pytest.raises(StoreUnavailable):
        await store.save(contribution)

    assert (await store.streams("dev-001"))["dev-001"][0].watermark == 0
    assert await kept(store) == [], "what the streams do not know of comes again, with another time"


async def test_a_mark_that_was_made_by_another_process_meanwhile_is_not_forgotten(postgres_url: str) -> None:
    """A plan that is entered marks thousands of buckets; its numbers may be smaller than those of later marks."""
    async with migrated_store(postgres_url) as store:
        slow = store._engine.connection
        async with slow.acquire_connection() as other:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("INSERT INTO dirty_bucket (stack_id, start) VALUES (77, '2026-01-01T00:00:00Z')")
            await store.save(work([reading(1)]))
            marks = await store.touched_buckets(500)
            await transaction.commit()

        await store.forget_marks(marks)

        assert {stack_id for stack_id, _ in (await store.touched_buckets(500)).buckets} == {77}


# --- no room


async def test_a_full_sqlite_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with migrated_store(f"sqlite://{tmp_path / 'full.sqlite3'}") as store:
        await store.save(work([reading(0)]))
        backend = store.commits._backend
        assert isinstance(backend, SqliteBackend)
        connection = await backend._connected()
        await connection.execute("PRAGMA max_page_count = 1")  # as many as there are now

        def is_full() -> bool:
            return store.commits.is_full

        with pytest.raises(StoreFull):
            await store.save(work([reading(seq) for seq in range(1, 5000)]))
        assert is_full()

        await connection.execute("PRAGMA max_page_count = 1073741823")
        await store.save(work([reading(seq) for seq in range(1, 5000)]))
        assert not is_full()
        assert len(await kept(store)) == 5000


async def test_a_device_whose_clock_is_out_of_its_mind_does_not_stop_its_neighbours(postgres_url: str) -> None:
    """A message may be of a thousand days; a table takes its time, and a transaction has a limit to its locks."""
    async with migrated_store(postgres_url) as store:
        mad = work([reading(seq, NOON - timedelta(days=7 * seq)) for seq in range(1, 81)])
        good = [work([reading(seq, stream_pk=2)], f"dev-{seq:03}") for seq in range(5)]

        saved = await asyncio.gather(
            *(store.save(each) for each in good[:3]),
            store.save(mad),
            *(store.save(each) for each in good[3:]),
            return_exceptions=True,
        )

        assert [type(answer) for answer in saved] == [type(None)] * 3 + [StoreBusy] + [type(None)] * 2
        for _ in range(80 // MOST_NEW_DAYS):
            with contextlib.suppress(StoreBusy):
                await store.save(mad)
        assert len(await kept(store)) == 80 + 5
