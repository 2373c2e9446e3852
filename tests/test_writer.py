"""Group commit: many actors in one transaction, nothing twice, a bad row stands alone, an outage is told to all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.metrics import Metrics
from carbontrack.model import Measurement, Quarantined, Reading, Record
from carbontrack.store import Store, StoreUnavailable, StreamState, Work, open_store
from carbontrack.store.work import Batch, WorkRefused
from carbontrack.store.writer import BadRow, GroupCommit
from tests.support.postgres import Postgres
from tests.support.world import (
    NOON,
    NOON_MS,
    SID,
    kept,
    measured,
    migrated_store,
    reading,
    register,
    sample,
    summarise_touched,
    work,
)

pytest_plugins = ["tests.support.world"]

_numbers = count(1000)
TOO_LARGE = 2**63
"""A sequence number that fits no column of either engine."""


def seqs(readings: Sequence[Reading | Measurement]) -> list[int]:
    return [row.seq for row in readings]


def commits(metrics: Metrics) -> int:
    return sample(metrics, "carbontrack_commit_seconds_count")


# --- what was saved is there, once


async def test_what_was_saved_can_be_read_when_save_returns(store: Store) -> None:
    await store.save(work([reading(1)]))

    assert await kept(store) == [measured(reading(1))]


async def test_saving_the_same_work_again_changes_nothing_and_is_counted(store: Store) -> None:
    await store.save(work([reading(seq) for seq in range(5)]))
    before = await kept(store)

    again = work([reading(seq) for seq in range(3, 8)])
    await store.save(again)

    assert seqs(again.conflicts) == [3, 4]
    assert (await kept(store))[:5] == before
    assert seqs(await kept(store)) == list(range(8))


async def test_the_first_of_two_that_claim_one_number_and_time_stays(store: Store) -> None:
    await store.save(work([reading(1, co2_ppm=100.0)]))
    await store.save(work([reading(1, co2_ppm=200.0)]))

    assert [row.co2_ppm for row in await kept(store)] == [100.0]


async def test_a_reading_that_is_twice_in_one_work_is_kept_once(store: Store) -> None:
    twice = work([reading(1), reading(1), reading(2)])

    await store.save(twice)

    assert seqs(twice.conflicts) == [1]
    assert seqs(await kept(store)) == [1, 2]


@given(works=st.lists(st.lists(st.integers(1, 20), max_size=8), max_size=6))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_reading_is_kept_once_and_every_repetition_is_a_conflict(
    store: Store, works: list[list[int]]
) -> None:
    stack_id = next(_numbers)
    contributions = [work([reading(seq, stack_id=stack_id) for seq in numbers]) for numbers in works]

    await asyncio.gather(*(store.save(contribution) for contribution in contributions))

    wanted = {seq for numbers in works for seq in numbers}
    assert seqs(await kept(store, stack_id)) == sorted(wanted)
    assert sum(len(contribution.conflicts) for contribution in contributions) == sum(map(len, works)) - len(wanted)


async def test_each_work_is_told_which_of_its_own_readings_were_there(store: Store) -> None:
    """A sender that waits is answered by it, whoever else has a part in the transaction."""
    await store.save(work([reading(seq) for seq in range(5)]))
    new, old = work([reading(9)]), work([reading(seq) for seq in range(5)])

    await asyncio.gather(store.save(new), store.save(old))

    assert new.conflicts == []
    assert seqs(old.conflicts) == [0, 1, 2, 3, 4]


async def test_readings_and_the_streams_state_are_committed_together(store: Store, database_url: str) -> None:
    stream = await store.open_stream("dev-001", SID)
    stream.add(1, 3)
    contribution = replace(
        work([reading(seq, stream_pk=stream.pk) for seq in (1, 2, 3)]),
        streams={stream.pk: StreamState.of(stream, NOON)},
        records=[(stream.pk, Record(4, "event", NOON_MS, 1, {"code": "door"}), NOON, NOON)],
        quarantined=[Quarantined("dev-001", "invalid_json", "detail", NOON, b"{")],
    )

    await store.save(contribution)

    async with open_store(database_url, Metrics()) as other:
        assert seqs(await kept(other)) == [1, 2, 3]
        assert (await other.streams("dev-001"))["dev-001"][0].watermark == 3
        assert await other.quarantine_counts() == {"invalid_json": 1}


# --- many actors, one transaction


async def test_actors_that_save_at_the_same_time_share_a_transaction(store: Store, metrics: Metrics) -> None:
    await store.save(work([reading(0)]))
    before = commits(metrics)

    await asyncio.gather(*(store.save(work([reading(seq)], f"dev-{seq:03}")) for seq in range(1, 101)))

    assert seqs(await kept(store)) == list(range(101))
    assert commits(metrics) - before < 10, "a transaction of its own for each would be a hundred"


async def test_a_batch_is_no_larger_than_it_may_be(database_url: str, metrics: Metrics) -> None:
    async with migrated_store(database_url, metrics, max_batch_readings=10) as store:
        await asyncio.gather(*(store.save(work([reading(seq)])) for seq in range(40)))

        assert len(await kept(store)) == 40
    largest = sample(metrics, "carbontrack_commit_readings_bucket", le="10.0")
    assert largest == commits(metrics) >= 4


async def test_one_work_that_is_larger_than_a_batch_is_committed_as_a_whole(
    database_url: str, metrics: Metrics
) -> None:
    async with migrated_store(database_url, metrics, max_batch_readings=10) as store:
        await store.save(work([reading(seq) for seq in range(60)]))

        assert len(await kept(store)) == 60
    assert commits(metrics) == 1


async def test_what_waits_is_committed_when_the_store_closes(database_url: str) -> None:
    async with migrated_store(database_url, linger_s=0.5) as store:
        waiting = asyncio.create_task(store.save(work([reading(1)])))
        await asyncio.sleep(0)
    await waiting

    async with open_store(database_url, Metrics()) as store:
        assert seqs(await kept(store)) == [1]


async def test_a_closed_store_says_that_it_kept_nothing(database_url: str) -> None:
    async with migrated_store(database_url) as store:
        pass

    with pytest.raises(StoreUnavailable, match="closed"):
        await store.save(work([reading(1)]))


async def test_an_actor_that_gave_up_waiting_disturbs_nobody(store: Store) -> None:
    impatient = asyncio.create_task(store.save(work([reading(1)])))
    await asyncio.sleep(0)
    impatient.cancel()

    await store.save(work([reading(2)]))

    assert 2 in seqs(await kept(store))


# --- a row that the database cannot take


@pytest.mark.parametrize("place", [0, 3, 6])
async def test_a_bad_row_stands_alone_in_quarantine(store: Store, place: int) -> None:
    rows = [reading(seq) for seq in range(6)]
    contribution = work([*rows[:place], reading(TOO_LARGE, NOON), *rows[place:]])

    await store.save(contribution)

    assert await kept(store) == [measured(row) for row in rows]
    assert contribution.conflicts == []
    assert [item.cause for item in contribution.rejected] == ["database_refused"]
    (item,) = await store.quarantined(factory_id=1)
    assert (item.device_id, item.cause) == ("dev-001", "database_refused")
    assert str(TOO_LARGE).encode() in item.body


async def test_two_bad_rows_are_both_found(store: Store) -> None:
    contribution = work([reading(TOO_LARGE, NOON), reading(1), reading(TOO_LARGE + 1, NOON)])

    await store.save(contribution)

    assert seqs(await kept(store)) == [1]
    assert seqs(contribution.readings) == [1]
    assert len(contribution.rejected) == 2


async def test_the_rest_of_a_work_with_a_bad_row_is_committed_with_it(store: Store) -> None:
    stream = await store.open_stream("dev-001", SID)
    stream.add(1, 2)
    contribution = work([reading(1, stream_pk=stream.pk), reading(TOO_LARGE, NOON, stream_pk=stream.pk)])
    contribution.streams[stream.pk] = StreamState.of(stream, NOON)

    await store.save(contribution)

    assert (await store.streams("dev-001"))["dev-001"][0].watermark == 2


async def test_neighbours_of_a_bad_row_are_committed(store: Store) -> None:
    works = [work([reading(seq)], f"dev-{seq:03}") for seq in range(20)]
    works[7].readings.append(reading(TOO_LARGE, NOON))

    await asyncio.gather(*(store.save(contribution) for contribution in works))

    assert seqs(await kept(store)) == list(range(20))
    assert [len(contribution.rejected) for contribution in works] == [int(number == 7) for number in range(20)]
    assert all(not contribution.conflicts for contribution in works)


async def test_readings_that_were_there_before_a_bad_row_came_are_conflicts(store: Store) -> None:
    await store.save(work([reading(1), reading(2)]))
    contribution = work([reading(1), reading(2), reading(3), reading(TOO_LARGE, NOON)])

    await store.save(contribution)

    assert seqs(await kept(store)) == [1, 2, 3]
    assert seqs(contribution.conflicts) == [1, 2]


async def test_work_that_can_never_be_written_does_not_hold_up_its_neighbours(postgres_url: str) -> None:
    """Not only readings: a plugin may name a cause, or a kind of record, that is too long for its column."""
    async with migrated_store(postgres_url) as store:
        poison = Work("dev-000", 1, quarantined=[Quarantined("dev-000", "c" * 41, "", NOON, b"")])
        neighbours = [work([reading(seq)], f"dev-{seq:03}") for seq in (1, 2, 3)]

        saved = await asyncio.gather(
            store.save(poison), *(store.save(contribution) for contribution in neighbours), return_exceptions=True
        )

        assert saved[1:] == [None, None, None]
        assert seqs(await kept(store)) == [1, 2, 3]


@pytest.mark.parametrize("detail", ["a NUL \0 in the text", "caf\u00e9 \U0001f375"])
async def test_whatever_a_driver_says_of_a_payload_can_be_kept(store: Store, detail: str) -> None:
    await store.save(Work("dev-001", 1, quarantined=[Quarantined("dev-001", "driver_failed", detail, NOON, b"\0")]))

    assert await store.quarantine_counts() == {"driver_failed": 1}


# --- the database goes away


async def test_a_killed_postgres_is_an_outage_and_afterwards_everything_goes_on(
    postgres: Postgres, metrics: Metrics
) -> None:
    async with migrated_store(postgres.new_url(), metrics) as store:
        await register(store, "dev-001")
        await store.save(work([reading(1)]))
        postgres.kill()

        lost = work([reading(2)])
        with pytest.raises(StoreUnavailable):
            await store.save(lost)
        with pytest.raises(StoreUnavailable):
            await store.sites()
        with pytest.raises(StoreUnavailable):
            await store.streams()
        with pytest.raises(StoreUnavailable):
            await summarise_touched(store)
        assert sample(metrics, "carbontrack_commit_failures_total") == 1

        postgres.start()
        await store.save(lost)

        assert seqs(await kept(store)) == [1, 2]
        assert [site.device.device_id for site in await store.sites()] == ["dev-001"]
        assert await summarise_touched(store) == 1


async def test_every_actor_of_a_batch_hears_of_an_outage(postgres: Postgres) -> None:
    async with migrated_store(postgres.new_url()) as store:
        await store.save(work([reading(0)]))
        postgres.kill()

        heard = await asyncio.gather(*(store.save(work([reading(seq)])) for seq in range(1, 9)), return_exceptions=True)

    assert [type(error) for error in heard] == [StoreUnavailable] * 8


async def test_a_connection_that_the_server_ended_is_opened_again(postgres: Postgres) -> None:
    """An administrator, or a firewall that forgets, ends single connections."""
    async with migrated_store(postgres.new_url()) as store:
        await store.save(work([reading(1)]))
        await store._engine.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'carbontrack-writer'"
        )

        for _ in range(3):  # the first may still meet the old connection
            try:
                await store.save(work([reading(2)]))
            except StoreUnavailable:
                continue
            break

        assert seqs(await kept(store)) == [1, 2]


# --- the writer by itself, where the engine's part is played


class Refusing:
    """An engine that fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self.written: list[int] = []

    async def write(self, batch: Batch, *, trial: bool = False) -> Sequence[int]:
        if self.error is not None:
            raise self.error
        self.written += seqs(batch.readings)
        return ()

    async def close(self) -> None:
        """There is nothing to close."""


@asynccontextmanager
async def group_commit(backend: Refusing) -> AsyncIterator[GroupCommit]:
    commits = GroupCommit(backend, Metrics(), linger_s=0, max_batch_readings=100)
    commits.start()
    yield commits
    await commits.close()


async def test_an_outage_never_puts_a_good_reading_into_quarantine() -> None:
    good = work([reading(1)])
    async with group_commit(Refusing(StoreUnavailable("the disk is full"))) as commits:
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await commits.save(good)

    assert (good.readings, good.rejected) == ([reading(1)], [])


async def test_an_error_that_nobody_foresaw_reaches_the_actor_and_does_not_end_the_writer() -> None:
    backend = Refusing(RuntimeError("a defect"))
    async with group_commit(backend) as commits:
        with pytest.raises(StoreUnavailable, match="a defect"):
            await commits.save(work([reading(1)]))
        backend.error = None
        await commits.save(work([reading(1)]))

    assert backend.written == [1]


async def test_a_batch_that_is_refused_without_a_bad_reading_is_not_taken_for_committed() -> None:
    async with group_commit(Refusing(BadRow("a defect of ours"))) as commits:
        with pytest.raises(WorkRefused, match="no reading"):
            await commits.save(work())


async def test_a_bucket_is_marked_once_until_it_is_summarised(store: Store) -> None:
    for seq in range(5):
        await store.save(work([reading(seq)]))

    assert len(await store._engine.rows("SELECT * FROM dirty_bucket")) == 1

    await summarise_touched(store)
    await store.save(work([reading(9)]))

    assert len(await store._engine.rows("SELECT * FROM dirty_bucket")) == 1


async def test_a_mark_that_was_not_committed_is_written_with_the_next_reading(postgres: Postgres) -> None:
    async with migrated_store(postgres.new_url()) as store:
        await register(store, "dev-001")
        postgres.kill()
        with pytest.raises(StoreUnavailable):
            await store.save(work([reading(1)]))
        postgres.start()
        await store.save(work([reading(2, NOON + timedelta(seconds=7))]))

        assert await summarise_touched(store) == 1
