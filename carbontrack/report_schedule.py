"""Reports that are made by themselves: when a period is over, for each factory or for all together, with a mail.

What was made is in the database, under the schedule's name: whatever was not made, because the core was away, is made
when it is back, and nothing is made twice. What fails is tried again, each time after twice as long and at most hourly:
a factor may have come meanwhile. People are told of it once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo

import structlog

from carbontrack.config.settings import ReportSchedule
from carbontrack.mail import Mailer, MailError
from carbontrack.metrics import Metrics
from carbontrack.model import Factory, Origin
from carbontrack.periods import Period, last_over
from carbontrack.report_desk import Job, JobState, Order, ReportDesk, TooManyReports, group_name

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 300.0
MONTHS = {"month": 1, "quarter": 3, "year": 12}
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(hours=1)
"""How long what has failed waits; the core forgets that when it ends, and tries at once when it is back."""
GRACE = timedelta(days=20)
"""A report that is later than this is left to people: after a long time away nobody wants them all at once."""


def due(schedule: ReportSchedule, now: datetime, zone: tzinfo) -> Period | None:
    """The last period of a schedule, if its day and hour have come; None before that, and long after it."""
    period = last_over(now.astimezone(zone).date(), MONTHS[schedule.every])
    begins = datetime.combine(period.after.replace(day=schedule.on_day), time(schedule.at_hour), zone)
    return period if begins <= now < begins + GRACE else None


@dataclass(frozen=True, slots=True)
class Failure:
    """A report that could not be made: how long it waits, and when it is tried again."""

    waits: timedelta
    again_at: datetime


@dataclass(frozen=True, slots=True)
class ReportSchedules:
    """Makes what is due, and tells people by mail where there is a mail server."""

    schedules: Sequence[ReportSchedule]
    desk: ReportDesk
    zone: tzinfo
    clock: Callable[[], datetime]
    mailer: Mailer | None = None
    public_url: str | None = None
    metrics: Metrics | None = None
    _failed: dict[tuple[str, datetime], Failure] = field(default_factory=dict)
    """By what the database would know it by, and the period."""

    async def keep(self) -> None:
        """Look every few minutes; it never returns."""
        while True:
            await self.make_due()
            await asyncio.sleep(LOOK_EVERY_S)

    async def make_due(self) -> list[Job]:
        """Make all that is due and not there yet, one after the other."""
        made: list[Job] = []
        still_due: set[tuple[str, datetime]] = set()
        for schedule in self.schedules:
            period = due(schedule, self.clock(), self.zone)
            if period is None:
                continue
            store, (start, end) = self.desk.books.store, period.moments(self.zone)
            there = await store.scheduled_reports(start)
            chosen = [it for it in await store.factories() if it.is_active and schedule.region in {"", it.region}]
            for title, key, group in _groups(schedule, chosen):
                if key in there:
                    continue
                still_due.add((key, start))
                if self._may_try((key, start)):
                    order = Order(tuple(group), start, end, f"{title}, {period.name}", schedule=key)
                    made += await self._make(schedule, order)
        for gone in self._failed.keys() - still_due:  # made by now, or so late that it is left to people
            del self._failed[gone]
        self._count()
        return made

    def _may_try(self, what: tuple[str, datetime]) -> bool:
        failure = self._failed.get(what)
        return failure is None or failure.again_at <= self.clock()

    def _count(self) -> None:
        if self.metrics is not None:
            self.metrics.scheduled_reports_failed.set(len(self._failed))

    async def _make(self, schedule: ReportSchedule, order: Order) -> list[Job]:
        try:
            job = self.desk.start(order, Origin(f"schedule {schedule.name}"))
        except TooManyReports as error:
            log.warning("a scheduled report waits", schedule=schedule.name, error=str(error))
            return []
        await self.desk.finished(job.id)
        what = (order.schedule, order.start)
        if job.state is JobState.DONE:
            self._failed.pop(what, None)
            await self._tell(schedule, job)
        elif (before := self._failed.get(what)) is None:
            self._failed[what] = Failure(FIRST_WAIT, self.clock() + FIRST_WAIT)
            log.error("a scheduled report failed", schedule=schedule.name, title=job.title, error=job.error)
            await self._tell_failure(schedule, job)
        else:
            waits = min(2 * before.waits, LONGEST_WAIT)
            self._failed[what] = Failure(waits, self.clock() + waits)
            log.info("a scheduled report failed again", schedule=schedule.name, title=job.title, error=job.error)
        return [job]

    async def _tell_failure(self, schedule: ReportSchedule, job: Job) -> None:
        text = (
            f"{job.title} should have been made by itself, and could not be:\n\n{job.error}\n\n"
            "It is tried again, at most hourly and for 20 days. You are not told again until it is made.\n"
        )
        await self._send(schedule, f"Report that could not be made: {job.title}", text)

    async def _tell(self, schedule: ReportSchedule, job: Job) -> None:
        report = job.report
        if report is None:
            return
        where = (
            f"{self.public_url.rstrip('/')}/reports/{report.id}/" if self.public_url else f"report {report.reference}"
        )
        checks = f"{report.critical} critical checks block it." if report.critical else "No check blocks it."
        text = f"{report.title} is made, as a draft. {checks}\n\nLook at it and hand it on: {where}\n"
        await self._send(schedule, f"Report to look at: {report.title}", text)

    async def _send(self, schedule: ReportSchedule, subject: str, text: str) -> None:
        if self.mailer is None:
            return
        for address in schedule.to:
            try:
                await self.mailer.send(address, subject, text)
            except MailError as error:
                log.warning("a report's mail was not sent", schedule=schedule.name, error=str(error))


def _groups(schedule: ReportSchedule, factories: Sequence[Factory]) -> Iterator[tuple[str, str, Sequence[Factory]]]:
    """What a schedule makes: a title, the name under which the database knows it, and the factories."""
    if not factories:
        return
    if schedule.of == "together":
        yield group_name(factories, schedule.region), schedule.name, factories
        return
    for factory in factories:
        yield factory.name, f"{schedule.name}/{factory.slug}"[:120], [factory]
