"""Everything that is kept: the registry through the ORM, telemetry by group commit, on PostgreSQL or SQLite."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tortoise.context import TortoiseContext

from carbontrack.metrics import Metrics
from carbontrack.model import PLATFORM, MonitoringPlan, Origin
from carbontrack.store import schema
from carbontrack.store.alert_settings import AlertNumbers
from carbontrack.store.alerts import Alerts
from carbontrack.store.audit import audit_record, chained
from carbontrack.store.context import RegistryError
from carbontrack.store.device_settings import MOST_PENDING, DeviceOrders, NewConfig
from carbontrack.store.firmware import Choice, Firmware, Outlook
from carbontrack.store.ledger import ConflictError, Ledger
from carbontrack.store.manifest import ArchiveError
from carbontrack.store.outbox import MOST_ON_DUTY, Backlog, Entry, Outbox, OutboxState
from carbontrack.store.people import People
from carbontrack.store.photos import MOST_PHOTOS, EntryPhoto, Photos
from carbontrack.store.postgres import PostgresBackend
from carbontrack.store.quarantine import Quarantine, QuarantineState
from carbontrack.store.registry import Registration, Registry
from carbontrack.store.relaying import Handed, Relaying
from carbontrack.store.reports import STEPS, KeptReport, ReportLink, Reports
from carbontrack.store.schema import SchemaMismatch, is_missing, newest_migration
from carbontrack.store.sqlite import SqliteBackend
from carbontrack.store.telemetry import ADJOINING, Engine
from carbontrack.store.tiers import Tiers
from carbontrack.store.wood_prices import WoodPrices
from carbontrack.store.work import TIER_MS, Batch, StoreBusy, StoreFull, StoreUnavailable, StreamState, Work
from carbontrack.store.writer import Backend, GroupCommit
from carbontrack.words import gettext

if TYPE_CHECKING:
    from carbontrack.store.archive import Archive

__all__ = [
    "ADJOINING",
    "MOST_ON_DUTY",
    "MOST_PENDING",
    "MOST_PHOTOS",
    "STEPS",
    "TIER_MS",
    "ArchiveError",
    "Backend",
    "Backlog",
    "Batch",
    "Choice",
    "ConflictError",
    "Entry",
    "EntryPhoto",
    "Handed",
    "KeptReport",
    "NewConfig",
    "OutboxState",
    "Outlook",
    "QuarantineState",
    "Registration",
    "RegistryError",
    "ReportLink",
    "SchemaMismatch",
    "Store",
    "StoreBusy",
    "StoreFull",
    "StoreUnavailable",
    "StreamState",
    "Work",
    "audit_record",
    "chained",
    "is_missing",
    "migrate",
    "newest_migration",
    "open_store",
    "schema_of",
]


FIRST_READINGS = datetime(2000, 1, 1, tzinfo=UTC)
"""No device has measured anything before."""
FAR_FUTURE = datetime(3000, 1, 1, tzinfo=UTC)


class Store(
    AlertNumbers,
    Alerts,
    Outbox,
    People,
    Relaying,
    Tiers,
    Ledger,
    Photos,
    WoodPrices,
    Quarantine,
    Reports,
    DeviceOrders,
    Firmware,
):
    """One door to the database. ``commits`` is the writer of telemetry."""

    def __init__(
        self,
        context: contextvars.Context,
        engine: Engine,
        commits: GroupCommit,
        archive: Archive | None,
        clock: Callable[[], datetime],
    ) -> None:
        Registry.__init__(self, context, clock)
        Relaying.__init__(self, engine)
        self.commits = commits
        self.archive = archive

    async def add_plan(self, stack_id: int, plan: MonitoringPlan, *, by: Origin = PLATFORM) -> None:
        """Add a plan that is in force from ``plan.valid_from``; what was measured since then is computed again.

        Raises :class:`RegistryError` where the stack has a plan from that moment.
        """
        await Registry.add_plan(self, stack_id, plan, by=by)
        await self.touch(stack_id, max(plan.valid_from, FIRST_READINGS), FAR_FUTURE)

    async def remove_stack(self, stack_id: int, *, by: Origin = PLATFORM) -> None:
        """Delete a stack that nothing belongs to and that was never measured.

        Raises :class:`RegistryError` for any other: what was measured stays.
        """
        if await self.was_measured(stack_id):
            raise RegistryError(gettext("there are readings of this stack: it stays, so that they do"))
        await Registry.remove_stack(self, stack_id, by=by)

    async def check_schema(self) -> None:
        """Return while the schema is the one that this version knows: somebody may have migrated it meanwhile.

        Raises :class:`SchemaMismatch`, and :class:`StoreUnavailable` where the database is away.
        """
        await schema.check(self._engine.connection)

    async def save(self, work: Work) -> None:
        """Return when an actor's work is committed; raises :class:`StoreUnavailable` when it is not."""
        await self.commits.save(work)


def _archive(folder: Path | None) -> Archive | None:
    if folder is None:
        return None
    from carbontrack.store.archive import Archive  # noqa: PLC0415  # its library takes time and memory

    return Archive(folder)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[TortoiseContext]:
    if url.startswith("sqlite://"):
        Path(schema.sqlite_path(url)).parent.mkdir(parents=True, exist_ok=True)
    async with TortoiseContext() as context:
        await context.init(config=schema.tortoise_config(url))
        yield context


async def migrate(url: str, report: Callable[[str], object] = lambda _: None) -> list[str]:
    """Bring a database's schema up to date; the names of the migrations that were applied."""
    async with _connected(url) as context:
        return await schema.migrate(context.db(), report)


async def schema_of(url: str) -> str:
    """The newest migration of a database; "" where it has none. Raises :class:`StoreUnavailable`."""
    if is_missing(url):
        return ""
    async with _connected(url) as context:
        return max(await schema.applied(context.db()), default="")


@asynccontextmanager
async def open_store(
    url: str,
    metrics: Metrics,
    *,
    linger_s: float = 0.004,
    max_batch_readings: int = 5000,
    archive_folder: Path | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Store]:
    """The store of one database, until the block ends; what waits is committed then.

    ``archive_folder`` is where days are that have left the database; without it none leaves. ``clock`` tells when
    something was done, for the audit log.

    Raises :class:`SchemaMismatch` for a schema that this version does not know.
    """
    async with _connected(url) as context:
        await schema.check(context.db())
        backend = SqliteBackend(schema.sqlite_path(url)) if url.startswith("sqlite://") else PostgresBackend(url)
        await backend.open()
        commits = GroupCommit(backend, metrics, linger_s=linger_s, max_batch_readings=max_batch_readings)
        commits.start()
        try:
            engine, archive = Engine(context.db()), _archive(archive_folder)
            store = Store(contextvars.copy_context(), engine, commits, archive, clock)
            await store.learn_archive()
            yield store
        finally:
            await commits.close()
            await backend.close()
