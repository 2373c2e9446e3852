"""Group commit: the rows of many actors in one transaction.

Rows that arrive while a transaction runs wait for the next one; every actor resumes when its rows are committed. If
the database refuses a batch for what it contains, the batch is halved until the bad row stands alone, and that row
goes to quarantine. If the database is away, every actor of the batch is told so and tries again later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog

from carbontrack.metrics import Metrics
from carbontrack.model import Quarantined, Reading
from carbontrack.store.work import Batch, StoreBusy, StoreFull, StoreUnavailable, Work, WorkRefused

log = structlog.get_logger(__name__)


LINGER_PER_READING_S = 0.0003
LONGEST_LINGER_S = 0.1
"""Under load a transaction waits longer for more readings, by how many the last one had, up to a tenth of a second."""


class BadRow(Exception):
    """The database refused a batch because of a value in it."""


class Backend(Protocol):
    """One engine's way to write telemetry."""

    async def write(self, batch: Batch, *, trial: bool = False) -> Sequence[int]:
        """Commit a batch; which of its readings were there already, ascending. A trial is rolled back at its end.

        Raises :class:`BadRow` for a batch that can never be written, and
        :class:`~carbontrack.store.work.StoreUnavailable` for an engine that is away. Writing twice is harmless.
        """
        ...

    async def close(self) -> None: ...


class GroupCommit:
    """The one writer of telemetry. ``lock`` is held while a transaction runs."""

    def __init__(self, backend: Backend, metrics: Metrics, *, linger_s: float, max_batch_readings: int) -> None:
        self.lock = asyncio.Lock()
        self.dirty: set[tuple[int, int]] = set()
        """Buckets whose mark is in the database already, so that it is not written again with every reading."""
        self.is_full = False
        """Whether the last transaction failed because the database's disk is full."""
        self._backend = backend
        self._metrics = metrics
        self._linger_s = linger_s
        self._max_batch_readings = max_batch_readings
        self._open: list[tuple[Work, asyncio.Future[None]]] = []
        self._late: list[tuple[Work, asyncio.Future[None]]] = []
        """The second lane: backlog, which fills up what room the live readings leave in a transaction."""
        self._readings_open = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="store:group-commit")

    async def close(self) -> None:
        """Commit what waits, then end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def wrap(self, around: Callable[[Backend], Backend]) -> None:
        """Put something around the engine, from the next commit on."""
        self._backend = around(self._backend)

    async def save(self, work: Work) -> None:
        """Return when the work is committed.

        Raises :class:`~carbontrack.store.work.StoreUnavailable` when it is not, and
        :class:`~carbontrack.store.work.WorkRefused` when it never will be; then nothing of it was acknowledged.
        """
        if self._closing:
            raise StoreUnavailable("the store is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._late if work.late else self._open).append((work, done))
        self._readings_open += len(work.readings)
        self._wake.set()
        await done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            linger_s = self._linger_s
            while self._open or self._late:
                if self._readings_open < self._max_batch_readings and not self._closing:
                    await asyncio.sleep(linger_s)
                batch = self._take()
                async with self.lock:
                    await self._commit(batch)
                # Where much comes, a longer wait makes fewer and larger transactions, and the whole faster.
                readings = sum(len(work.readings) for work, _ in batch)
                linger_s = min(max(self._linger_s, readings * LINGER_PER_READING_S), LONGEST_LINGER_S)
            if self._closing:
                return

    def _take(self) -> list[tuple[Work, asyncio.Future[None]]]:
        """The oldest waiting work, live before backlog, up to the batch limit (but always one of each lane)."""
        batch: list[tuple[Work, asyncio.Future[None]]] = []
        readings = 0
        for lane in (self._open, self._late):
            taken = 0
            for work, _ in lane:
                if taken and readings + len(work.readings) > self._max_batch_readings:
                    break
                taken += 1
                readings += len(work.readings)
            batch += lane[:taken]
            del lane[:taken]
        self._readings_open -= readings
        return batch

    async def _commit(self, batch: Sequence[tuple[Work, asyncio.Future[None]]]) -> None:
        """Write the work of several actors; if a value in it is refused, each half by itself."""
        works = [work for work, _ in batch]
        try:
            await self._write(works)
        except (BadRow, StoreBusy) as refusal:
            if len(batch) > 1:  # it is the work of one that is at fault: the others do not wait for it
                middle = len(batch) // 2
                await self._commit(batch[:middle])
                await self._commit(batch[middle:])
                return
            if isinstance(refusal, StoreBusy):
                self._failed(batch, refusal)
                return
            try:
                await self._isolate(works[0], refusal)
            except Exception as error:  # noqa: BLE001  # as below
                self._failed(batch, error)
                return
        except Exception as error:  # noqa: BLE001  # the actors must hear of it: to wait for ever is worse than to retry
            self._failed(batch, error)
            return
        self.is_full = False
        self._metrics.last_commit.set_to_current_time()
        for _, done in batch:
            if not done.done():
                done.set_result(None)

    def _failed(self, batch: Sequence[tuple[Work, asyncio.Future[None]]], error: Exception) -> None:
        if not isinstance(error, StoreUnavailable | WorkRefused):
            log.error("group commit failed", exc_info=error)
            error = StoreUnavailable(str(error))
        self.is_full = isinstance(error, StoreFull)
        self._metrics.commit_failures.inc()
        for _, done in batch:
            if not done.done():
                done.set_exception(type(error)(str(error)))
                done.exception()  # an actor that was stopped meanwhile does not fetch it

    async def _write(self, works: Sequence[Work]) -> None:
        batch = Batch.of(works, self.dirty)
        began = time.perf_counter()
        already = await self._backend.write(batch)
        self._metrics.commit_seconds.observe(time.perf_counter() - began)
        self._metrics.commit_readings.observe(len(batch.readings))
        self.dirty.update(batch.buckets)
        if already:
            owners = [work for work in works for _ in work.readings]
            for number in already:
                owners[number].conflicts.append(batch.readings[number])

    async def _isolate(self, work: Work, refusal: BadRow) -> None:
        """Find the rows of one work that the database cannot take, put them into quarantine, commit the rest."""
        bad = await self._bad_rows(work.readings)
        if not bad:
            raise WorkRefused(f"the database refuses something that is no reading: {refusal}") from refusal
        for reading, detail in bad:
            work.readings.remove(reading)
            body = msgspec.json.encode(reading)
            work.rejected.append(Quarantined(work.device_id, "database_refused", detail, reading.received_at, body))
        try:
            await self._write([work])
        except BadRow as error:
            raise WorkRefused(f"the database refuses something beside the readings: {error}") from error

    async def _bad_rows(self, readings: list[Reading]) -> list[tuple[Reading, str]]:
        """The readings that are refused, with the reason.

        Nothing is kept by the search: a row whose stream does not know of it would be taken a second time after a
        crash, and where its time is estimated, under another time.
        """
        if not readings:
            return []
        try:
            await self._backend.write(Batch(readings, [], [], [], []), trial=True)
        except BadRow as error:
            if len(readings) == 1:
                return [(readings[0], str(error))]
            middle = len(readings) // 2
            return [*await self._bad_rows(readings[:middle]), *await self._bad_rows(readings[middle:])]
        return []
