"""Where reports are made, kept and handed out: work that takes long, beside the loop, with progress and an end.

A report's data set is gathered once and kept (:mod:`carbontrack.store.reports`). Its files are made anew whenever
somebody asks: the same report gives the same bytes, so none is kept.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carbontrack.bookkeeping import Books
from carbontrack.compliance import ComplianceReport, ReportStatus, Signature, thawed
from carbontrack.compliance_changes import Changes, changes
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
"""So many may wait, and of so many that are over the end is known."""
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


@dataclass(slots=True, kw_only=True)
class Work:
    """A data set that is being gathered; ``done`` of ``total`` factories are."""

    id: str
    title: str
    factory_ids: tuple[int, ...]
    started_at: datetime
    state: JobState = JobState.WAITING
    done: int = 0
    error: str = ""

    @property
    def total(self) -> int:
        return len(self.factory_ids)

    @property
    def is_over(self) -> bool:
        return self.state in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}


@dataclass(slots=True, kw_only=True)
class Job(Work):
    """A report that is being made."""

    by: Origin
    report: KeptReport | None = None


@dataclass(slots=True, kw_only=True)
class Comparison(Work):
    """A kept report that is held against what the data say now."""

    changes: Changes | None = None
    compared_at: datetime | None = None
    """When it was done."""


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
    _compared: dict[int, Comparison] = field(default_factory=dict)
    """The last comparison of a report."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def close(self) -> None:
        """End what is being made."""
        await end_tasks(*self._tasks.values())

    # --- making

    def start(self, order: Order, by: Origin) -> Job:
        """Begin to make a report. Raises :class:`TooManyReports`."""
        self._forget()
        self._check_room()
        factory_ids = tuple(it.id for it in order.factories)
        job = Job(
            id=secrets.token_hex(8), title=order.title, factory_ids=factory_ids, started_at=self.clock(), by=by
        )  # fmt: skip
        self._jobs[job.id] = job

        async def make() -> None:
            job.report = await self._made(job, order)

        self._begin(job, make)
        return job

    def _begin(self, work: Work, what: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._do(work, what), name=f"report:{work.id}")
        self._tasks[work.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(work.id, None))

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

    def _check_room(self) -> None:
        waiting = [it for it in (*self._jobs.values(), *self._compared.values()) if not it.is_over]
        if len(waiting) >= MOST_JOBS:
            raise TooManyReports("Too many reports are being made. Wait until some are done, or cancel one.")

    def _forget(self) -> None:
        """Drop what is over since yesterday, and the oldest of what is over where that is much."""
        old = self.clock() - FORGET_AFTER
        _drop_old(self._jobs, old)
        _drop_old(self._compared, old)

    async def _do(self, work: Work, what: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._turns:
                work.state = JobState.WORKING
                await what()
                work.state = JobState.DONE
        except asyncio.CancelledError:
            work.state = JobState.CANCELLED
            raise
        except (ValueError, FactorMissing) as error:  # what whoever asked can mend; a refusal of the store is one too
            work.state, work.error = JobState.FAILED, _sentence(str(error))
        except Exception:
            log.exception("report failed", job=work.id, title=work.title)
            work.state, work.error = JobState.FAILED, f"That is our mistake. The log has it under {work.id}."

    async def _gather(
        self, work: Work, factories: Sequence[Factory], start: datetime, end: datetime, title: str
    ) -> ComplianceReport:
        def gathered(count: int) -> None:
            work.done = count

        return await gather(
            self.books, factories, start, end,
            title=title, software=self.software, now=self.clock(), progress=gathered,
        )  # fmt: skip

    async def _made(self, job: Job, order: Order) -> KeptReport:
        now = self.clock()
        report = await self._gather(job, order.factories, order.start, order.end, order.title)
        return await self.books.store.add_report(
            report,
            [factory.id for factory in order.factories],
            by=job.by,
            now=now,
            corrects=order.corrects,
            reason=order.reason,
            schedule=order.schedule,
        )

    # --- comparing

    def compare(self, kept: KeptReport, factories: Sequence[Factory]) -> Comparison:
        """Begin to hold a report against what the data say now. One that is being compared is not begun again.

        Raises :class:`TooManyReports`.
        """
        self._forget()
        last = self._compared.get(kept.id)
        if last is not None and not last.is_over:
            return last
        self._check_room()
        found = Comparison(
            id=secrets.token_hex(8), title=kept.title, factory_ids=kept.factory_ids, started_at=self.clock()
        )  # fmt: skip
        self._compared.pop(kept.id, None)  # the newest stand last
        self._compared[kept.id] = found

        async def hold_against() -> None:
            then, now = await self.content(kept), await self._gathered(found, kept, factories)
            found.changes = await asyncio.to_thread(changes, then, now)
            found.compared_at = self.clock()

        self._begin(found, hold_against)
        return found

    def comparison(self, report_id: int) -> Comparison | None:
        """The last comparison of a report since yesterday; None where there was none."""
        return self._compared.get(report_id)

    async def _gathered(self, work: Work, kept: KeptReport, factories: Sequence[Factory]) -> ComplianceReport:
        if len(factories) != len(kept.factory_ids):
            raise ValueError("a factory of this report is not there any more: it cannot be compared")
        return await self._gather(work, factories, kept.period_start, kept.period_end, kept.title)

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

    async def check(self, data: bytes) -> tuple[Checked, KeptReport | None]:
        """Whether a file is one of ours, and which report it is of."""
        checked = check(data, [(await self._key()).public_key()])
        return checked, await report_of(self.books.store, checked)

    async def public_key(self) -> str:
        """The public key that files are signed with, as PEM."""
        return public_pem((await self._key()).public_key())

    async def _key(self) -> Ed25519PrivateKey:
        return await asyncio.to_thread(self.key)


Key = TypeVar("Key")


def _drop_old(known: MutableMapping[Key, Any], before: datetime) -> None:
    over = [(key, it) for key, it in known.items() if it.is_over]
    for number, (key, it) in enumerate(reversed(over)):
        if it.started_at < before or number >= MOST_JOBS:
            del known[key]


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
