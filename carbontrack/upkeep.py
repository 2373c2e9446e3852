"""Housekeeping: tables of the days to come, old days into the archive, and how long there is room.

It runs beside ingest and never in its way. What it finds is the storage card of the network page, and metrics.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import structlog

from carbontrack.metrics import Metrics
from carbontrack.model import Storage, StorageStatus
from carbontrack.store import ArchiveError, Store, StoreUnavailable

log = structlog.get_logger(__name__)

ARCHIVED_SHARE = 0.12
"""What a day takes in the archive of what it took in the database, until a day is there to be measured
(docs/performance.md)."""
CLOSED_AFTER_DAYS = 2
"""A day this long ago has got nearly all of its readings: then its index is made small."""


class Upkeep:
    """Keeps one store in order. ``volume`` is a folder on the disk that the database writes to, if that is known."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        keep_days: int,
        volume: Path | None,
        reserve_bytes: int,
        backups: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.status: StorageStatus | None = None
        """As of the last look; None before the first."""
        self._store = store
        self._metrics = metrics
        self._keep_days = keep_days
        self._volume = volume
        self._reserve_bytes = reserve_bytes
        self._backups = backups
        self._clock = clock
        metrics.newest_backup.set(float("nan"))

    @property
    def is_tight(self) -> bool:
        """Whether there is so little room that only readings are to be written, or none at all."""
        return self._store.commits.is_full or (self.status is not None and self.status.is_tight)

    async def tidy(self) -> int:
        """Make the days that come, pack those that are over, archive those that are old; how many left the database."""
        today = self._clock().astimezone(UTC).date()
        await self._store.make_days(self._clock())
        problem, done = "", 0
        if self._store.archive is not None:
            for day in await self._store.days_before(today - timedelta(days=self._keep_days)):
                try:
                    rows = await self._store.retire(day, self._clock())
                except (ArchiveError, StoreUnavailable, OSError) as error:
                    problem = f"{day} could not be archived: {error}"
                    log.error("a day could not be archived, it stays in the database", day=str(day), error=str(error))  # noqa: TRY400  # the traceback would say nothing more
                    continue
                done += 1
                log.info("a day was archived", day=str(day), rows=rows)
        try:  # last: what makes room does not wait for what takes some
            await self._pack(today - timedelta(days=CLOSED_AFTER_DAYS - 1))
        except StoreUnavailable as error:
            problem = problem or f"The days that are over could not be packed: {error}"
            log.warning("the days that are over could not be packed", error=str(error))
        await self.look(problem)
        return done

    async def _pack(self, before: date) -> None:
        if not self.is_tight:
            await self._store.pack(before)

    async def look(self, problem: str | None = None) -> StorageStatus:
        """See how much is kept and how much room there is; ``problem`` None: what was wrong before still is."""
        if problem is None:
            problem = self.status.problem if self.status else ""
        kept = await self._store.storage(self._clock().astimezone(UTC).date())
        free = None if self._volume is None else await asyncio.to_thread(_free_bytes, self._volume)
        was_tight = self.is_tight
        self.status = StorageStatus(
            kept,
            self._keep_days,
            self._store.archive is not None,
            free,
            None
            if free is None
            else days_until_full(kept, free, self._keep_days, archives=self._store.archive is not None),
            is_tight=free is not None and free < self._reserve_bytes,
            problem=problem,
        )
        if self.is_tight and not was_tight:
            log.error("the disk is nearly full: only readings are written until there is room", free_bytes=free)
        self._measure(self.status)
        if self._backups is not None:
            self._metrics.newest_backup.set(await asyncio.to_thread(_newest_backup_s, self._backups))
        return self.status

    def _measure(self, status: StorageStatus) -> None:
        metrics, kept = self._metrics, status.kept
        metrics.storage_bytes.labels("raw").set(kept.raw_bytes)
        metrics.storage_bytes.labels("database").set(kept.database_bytes)
        metrics.storage_bytes.labels("archive").set(kept.archive_bytes)
        metrics.raw_bytes_per_day.set(kept.bytes_per_day)
        oldest = kept.oldest_raw
        metrics.oldest_raw.set(datetime(oldest.year, oldest.month, oldest.day, tzinfo=UTC).timestamp() if oldest else 0)
        metrics.storage_free.set(float("nan") if status.free_bytes is None else status.free_bytes)
        metrics.days_until_full.set(float("inf") if status.days_until_full is None else status.days_until_full)
        metrics.storage_tight.set(status.is_tight)


def days_until_full(kept: Storage, free_bytes: int, keep_days: int, *, archives: bool) -> float | None:
    """For how many days there is room, if each takes as much as the last week's; None: for ever.

    The database grows until it has ``keep_days`` days; from then on only the archive does, taken to be on the same
    disk.
    """
    per_day = kept.bytes_per_day
    if per_day <= 0:
        return None
    if not archives:
        return free_bytes / per_day
    growing_days = max(0, keep_days - kept.raw_days)
    if free_bytes <= growing_days * per_day:
        return free_bytes / per_day
    archived_per_day = kept.archive_bytes / kept.archived_days if kept.archived_days else per_day * ARCHIVED_SHARE
    return growing_days + (free_bytes - growing_days * per_day) / archived_per_day


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _newest_backup_s(folder: Path) -> float:
    """When the newest backup was finished, in s of UTC; 0 without any. One that cannot be read is none."""
    try:
        return max((path.stat().st_mtime for path in folder.glob("carbontrack-*.zip")), default=0.0)
    except OSError:
        return 0.0
