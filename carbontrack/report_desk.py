"""Where reports are made, kept and handed out: work that takes long, beside the loop, with progress and an end.

A report's data set is gathered once and kept (:mod:`carbontrack.store.reports`). Its files are made anew whenever
somebody asks: the same report gives the same bytes, so none is kept.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carbontrack.bookkeeping import Books
from carbontrack.compliance import ComplianceReport, ReportStatus, Signature, thawed
from carbontrack.compliance_data import gather
from carbontrack.emissions.factors import FactorMissing
from carbontrack.model import Factory, Origin
from carbontrack.seal import Checked, check, place, public_pem, sealed
from carbontrack.store import KeptReport, RegistryError, Store
from carbontrack.tasks import end as end_tasks

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 2
"""So many reports are gathered at a time; others wait for their turn."""
MOST_JOBS = 200
FORGET_AFTER = timedelta(hours=24)

Render = Callable[[str, ComplianceReport], Awaitable[bytes]]


class TooManyReports(Exception):
    """So many reports wait to be made that one more would only wait."""


class JobState(StrEnum):
    """How far the making of a report is."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Standing(StrEnum):
    """What the library says of a genuine file's report."""

    CURRENT = "current"
    """It is final, and no later version is."""
    SUPERSEDED = "superseded"
    NOT_FINAL = "not_final"
    """The file was made while the report was not final, or has gone back to that."""
    WITHDRAWN = "withdrawn"
    UNKNOWN = "unknown"
    """The library has no such report with these data."""


def standing(checked: Checked, kept: KeptReport | None) -> Standing:
    """How a file's report stands; ``kept`` is the one that the library has by its name."""
    if kept is None or kept.sha256 != checked.sha256:
        return Standing.UNKNOWN
    if kept.is_superseded:
        return Standing.SUPERSEDED
    if kept.status is ReportStatus.WITHDRAWN:
        return Standing.WITHDRAWN
    return Standing.CURRENT if kept.status is ReportStatus.FINAL else Standing.NOT_FINAL


@dataclass(slots=True)
class Job:
    """A report that is being made; ``done`` of ``total`` factories are gathered."""

    id: str
    title: str
    by: Origin
    factory_ids: tuple[int, ...]
    started_at: datetime
    state: JobState = JobState.WAITING
    done: int = 0
    report: KeptReport | None = None
    error: str = ""

    @property
    def total(self) -> int:
        return len(self.factory_ids)

    @property
    def is_over(self) -> bool:
        return self.state in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be reported: the factories and the period, and what it corrects."""

    factories: tuple[Factory, ...]
    start: datetime
    end: datetime
    title: str
    corrects: int | None = None
    reason: str = ""
    schedule: str = ""


@dataclass(slots=True)
class ReportDesk:
    """Makes reports one after the other, and files out of those that are kept. Its jobs end with the core."""

    books: Books
    render: Render
    key: Callable[[], Ed25519PrivateKey]
    software: str
    clock: Callable[[], datetime]
    _jobs: dict[str, Job] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def close(self) -> None:
        """End what is being made."""
        await end_tasks(*self._tasks.values())

    # --- making

    def start(self, order: Order, by: Origin) -> Job:
        """Begin to make a report. Raises :class:`TooManyReports`."""
        self._forget()
        if len(self._jobs) >= MOST_JOBS:
            raise TooManyReports("Too many reports are being made. Wait until some are done, or cancel one.")
        job = Job(secrets.token_hex(8), order.title, by, tuple(it.id for it in order.factories), self.clock())
        self._jobs[job.id] = job
        task = asyncio.create_task(self._make(job, order), name=f"report:{job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        return job

    def job(self, job_id: str) -> Job | None:
        """A job of today; None for one that is not known any more."""
        return self._jobs.get(job_id)

    def jobs(self) -> Sequence[Job]:
        """What is being made now, the oldest first."""
        return [job for job in self._jobs.values() if not job.is_over]

    async def cancel(self, job_id: str) -> None:
        """End a job; nothing of it is kept. One that is over stays as it is."""
        if (task := self._tasks.get(job_id)) is not None:
            await end_tasks(task)

    async def finished(self, job_id: str) -> None:
        """Wait until a job is over."""
        if (task := self._tasks.get(job_id)) is not None:
            await asyncio.wait([task])

    def _forget(self) -> None:
        old = self.clock() - FORGET_AFTER
        for job in [it for it in self._jobs.values() if it.is_over and it.started_at < old]:
            del self._jobs[job.id]

    async def _make(self, job: Job, order: Order) -> None:
        try:
            async with self._turns:
                job.state = JobState.WORKING
                job.report = await self._made(job, order)
                job.state = JobState.DONE
        except asyncio.CancelledError:
            job.state = JobState.CANCELLED
            raise
        except (ValueError, FactorMissing) as error:  # what whoever asked can mend; a refusal of the store is one too
            job.state, job.error = JobState.FAILED, _sentence(str(error))
        except Exception:
            log.exception("report failed", job=job.id, title=job.title)
            job.state, job.error = JobState.FAILED, f"That is our mistake. The log has it under {job.id}."

    async def _made(self, job: Job, order: Order) -> KeptReport:
        def gathered(count: int) -> None:
            job.done = count

        now = self.clock()
        report = await gather(
            self.books, order.factories, order.start, order.end,
            title=order.title, software=self.software, now=now, progress=gathered,
        )  # fmt: skip
        return await self.books.store.add_report(
            report,
            [factory.id for factory in order.factories],
            by=job.by,
            now=now,
            corrects=order.corrects,
            reason=order.reason,
            schedule=order.schedule,
        )

    # --- handing out

    async def content(self, kept: KeptReport) -> ComplianceReport:
        """A kept report with all that formats render. Raises :class:`RegistryError` where its data set is damaged."""
        held = await self.books.store.report_dataset(kept.id)
        report = await asyncio.to_thread(thawed, held)  # a network's year has some megabytes
        if report.sha256 != kept.sha256:
            raise RegistryError(f"the data set of {kept.reference} is not as it was kept: restore it from a backup")
        signed = (
            ("prepared", kept.prepared_by, kept.prepared_at),
            ("reviewed", kept.reviewed_by, kept.reviewed_at),
            ("approved", kept.approved_by, kept.approved_at),
        )
        supersedes = f"CT-{kept.number}-v{kept.version - 1}" if kept.version > 1 else ""
        return replace(
            report,
            reference=kept.reference,
            status=kept.status,
            signatures=tuple(Signature(step, person, at) for step, person, at in signed if at is not None),
            supersedes=supersedes,
            reason=kept.reason,
            made_at=kept.approved_at or kept.made_at,
        )

    async def file(self, kept: KeptReport, report_format: str) -> bytes:
        """A kept report as a file of a format, sealed where the format can carry a seal.

        Raises KeyError without such a format, and what rendering raises.
        """
        return await sealed_file(await self.content(kept), await self._key(), partial(self.render, report_format))

    async def is_outdated(self, kept: KeptReport, factories: Sequence[Factory]) -> bool:
        """Whether the data say something else by now than what was kept."""
        report = await gather(
            self.books, factories, kept.period_start, kept.period_end,
            title=kept.title, software=self.software, now=self.clock(),
        )  # fmt: skip
        return report.sha256 != kept.sha256

    async def check(self, data: bytes) -> tuple[Checked, KeptReport | None]:
        """Whether a file is one of ours, and which report it is of."""
        checked = check(data, [(await self._key()).public_key()])
        return checked, await report_of(self.books.store, checked)

    async def public_key(self) -> str:
        """The public key that files are signed with, as PEM."""
        return public_pem((await self._key()).public_key())

    async def _key(self) -> Ed25519PrivateKey:
        return await asyncio.to_thread(self.key)


async def report_of(store: Store, checked: Checked) -> KeptReport | None:
    """The report of the library that a file calls itself."""
    number, _, version = checked.reference.removeprefix("CT-").partition("-v")
    if not (number.isdigit() and version.isdigit()):
        return None
    return await store.report_named(int(number), int(version))


async def sealed_file(
    report: ComplianceReport, key: Ed25519PrivateKey, rendered: Callable[[ComplianceReport], Awaitable[bytes]]
) -> bytes:
    """A report as a file, sealed where the format has left the place for it."""
    at = place(report.reference, report.sha256, key.public_key())
    body = await rendered(replace(report, seal=at))
    return sealed(body, at, key) if at.encode() in body else body


def group_name(factories: Sequence[Factory], region: str = "") -> str:
    """What the title of a report calls its factories; ``region`` is the one that they were chosen by."""
    if len(factories) == 1:
        return factories[0].name
    return f"Region {region}" if region else f"{len(factories)} factories"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
