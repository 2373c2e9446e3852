"""Reports that are made by themselves: when a period is over, for each factory or for all together, with a mail.

What was made is in the database, under the schedule's name: whatever was not made, because the core was away, is made
when it is back, and nothing is made twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import structlog

from carbontrack.config.settings import ReportSchedule
from carbontrack.mail import Mailer, MailError
from carbontrack.model import Factory, Origin
from carbontrack.report_desk import Job, JobState, Order, ReportDesk, TooManyReports

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 300.0
MONTHS = {"month": 1, "quarter": 3, "year": 12}
GRACE = timedelta(days=20)
"""A report that is later than this is left to people: after a long time away nobody wants them all at once."""


@dataclass(frozen=True, slots=True)
class Period:
    """A period that is over, in local days, and what it is called."""

    first: date
    after: date
    name: str

    def moments(self, zone: tzinfo) -> tuple[datetime, datetime]:
        """When it begins and ends."""
        begin, end = (datetime.combine(day, time(), zone).astimezone(UTC) for day in (self.first, self.after))
        return begin, end


def due(schedule: ReportSchedule, now: datetime, zone: tzinfo) -> Period | None:
    """The last period of a schedule, if its day and hour have come; None before that, and long after it."""
    today = now.astimezone(zone).date()
    months = MONTHS[schedule.every]
    after = date(today.year, (today.month - 1) // months * months + 1, 1)
    begins = datetime.combine(after.replace(day=schedule.on_day), time(schedule.at_hour), zone)
    if not begins <= now < begins + GRACE:
        return None
    first = (after - timedelta(days=1)).replace(day=1)
    for _ in range(months - 1):
        first = (first - timedelta(days=1)).replace(day=1)
    quarter = f"{first.year}-Q{(first.month + 2) // 3}"
    name = {"month": f"{first:%Y-%m}", "quarter": quarter, "year": str(first.year)}[schedule.every]
    return Period(first, after, name)


@dataclass(frozen=True, slots=True)
class ReportSchedules:
    """Makes what is due, and tells people by mail where there is a mail server."""

    schedules: Sequence[ReportSchedule]
    desk: ReportDesk
    zone: tzinfo
    clock: Callable[[], datetime]
    mailer: Mailer | None = None
    public_url: str | None = None

    async def keep(self) -> None:
        """Look every few minutes; it never returns."""
        while True:
            await self.make_due()
            await asyncio.sleep(LOOK_EVERY_S)

    async def make_due(self) -> list[Job]:
        """Make all that is due and not there yet, one after the other."""
        made: list[Job] = []
        for schedule in self.schedules:
            period = due(schedule, self.clock(), self.zone)
            if period is None:
                continue
            factories = await self.desk.books.store.factories()
            chosen = [it for it in factories if it.is_active and schedule.region in {"", it.region}]
            for title, key, group in _groups(schedule, chosen):
                start, end = period.moments(self.zone)
                if await self.desk.books.store.report_of_schedule(key, start) is None:
                    order = Order(tuple(group), start, end, f"{title}, {period.name}", schedule=key)
                    made += await self._make(schedule, order)
        return made

    async def _make(self, schedule: ReportSchedule, order: Order) -> list[Job]:
        try:
            job = self.desk.start(order, Origin(f"schedule {schedule.name}"))
        except TooManyReports as error:
            log.warning("a scheduled report waits", schedule=schedule.name, error=str(error))
            return []
        await self.desk.finished(job.id)
        if job.state is JobState.DONE:
            await self._tell(schedule, job)
        else:
            log.warning("a scheduled report failed", schedule=schedule.name, title=job.title, error=job.error)
        return [job]

    async def _tell(self, schedule: ReportSchedule, job: Job) -> None:
        report = job.report
        if self.mailer is None or report is None:
            return
        where = (
            f"{self.public_url.rstrip('/')}/reports/{report.id}/" if self.public_url else f"report {report.reference}"
        )
        checks = f"{report.critical} critical checks block it." if report.critical else "No check blocks it."
        text = f"{report.title} is made, as a draft. {checks}\n\nLook at it and hand it on: {where}\n"
        for address in schedule.to:
            try:
                await self.mailer.send(address, f"Report to look at: {report.title}", text)
            except MailError as error:
                log.warning("a report's mail was not sent", schedule=schedule.name, error=str(error))


def _groups(schedule: ReportSchedule, factories: Sequence[Factory]) -> Iterator[tuple[str, str, Sequence[Factory]]]:
    """What a schedule makes: a title, the name under which the database knows it, and the factories."""
    if not factories:
        return
    if schedule.of == "together":
        title = f"Region {schedule.region}" if schedule.region else f"{len(factories)} factories"
        yield title, schedule.name, factories
        return
    for factory in factories:
        yield factory.name, f"{schedule.name}/{factory.slug}"[:120], [factory]
