"""Reports that are made by themselves: on their day, once, also after the core was away, and people are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from carbontrack.bookkeeping import Books
from carbontrack.config.settings import ReportSchedule
from carbontrack.emissions.factors import FactorSet
from carbontrack.ledger import EnergyEntry, EnergyType
from carbontrack.metrics import Metrics
from carbontrack.model import Origin
from carbontrack.report_desk import JobState, ReportDesk
from carbontrack.report_schedule import ReportSchedules, due
from tests.support.web import Portal, running_portal

ZONE = ZoneInfo("Africa/Nairobi")
MONTHLY = ReportSchedule(name="monthly")


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as running:
        yield running


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZONE)  # type: ignore[arg-type, misc]  # year, month, day, hour


class TestDue:
    @pytest.mark.parametrize(
        ("every", "now", "name"),
        [
            ("month", local(2026, 3, 3, 5), None),
            ("month", local(2026, 3, 3, 6), "2026-02"),
            ("month", local(2026, 1, 3, 6), "2025-12"),
            ("month", local(2026, 3, 22, 6), "2026-02"),
            ("month", local(2026, 3, 24, 6), None),
            ("quarter", local(2026, 4, 3, 6), "2026-Q1"),
            ("quarter", local(2026, 5, 3, 6), None),
            ("quarter", local(2026, 1, 4, 6), "2025-Q4"),
            ("year", local(2026, 1, 3, 6), "2025"),
            ("year", local(2026, 2, 3, 6), None),
        ],
    )
    def test_is_the_last_period_from_its_day_on(self, every: str, now: datetime, name: str | None) -> None:
        schedule = ReportSchedule.model_validate({"name": "x", "every": every})
        found = due(schedule, now, ZONE)
        assert (found.name if found else None) == name

    def test_is_a_whole_local_period(self) -> None:
        found = due(ReportSchedule(name="x", every="quarter"), local(2026, 4, 3, 6), ZONE)
        assert found is not None
        assert found.moments(ZONE) == (
            datetime(2025, 12, 31, 21, tzinfo=UTC),
            datetime(2026, 3, 31, 21, tzinfo=UTC),
        )


class TestMaking:
    async def test_happens_once_for_each_factory(self, portal: Portal) -> None:
        portal.now = local(2026, 4, 3, 7)
        schedules = ReportSchedules((MONTHLY,), portal.services.desk, ZONE, lambda: portal.now)

        made = await schedules.make_due()

        assert [job.title for job in made] == ["Kangaita, 2026-03", "Mungania, 2026-03"]
        assert await schedules.make_due() == []
        portal.now += timedelta(days=30)
        assert [job.title for job in await schedules.make_due()] == ["Kangaita, 2026-04", "Mungania, 2026-04"]
        assert [it.made_by for it in await portal.services.store.reports()] == ["schedule monthly"] * 4

    async def test_is_of_all_together_where_that_is_wanted(self, portal: Portal) -> None:
        portal.now = local(2026, 4, 3, 7)
        together = ReportSchedule(name="network", of="together")
        (job,) = await ReportSchedules((together,), portal.services.desk, ZONE, lambda: portal.now).make_due()
        assert job.title == "2 factories, 2026-03"
        assert job.total == 2


class Post:
    """Keeps what would be sent by mail."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, str]] = []

    async def send(self, to: str, subject: str, text: str, html: str | None = None) -> None:
        self.mails.append((to, subject, text))


class TestFailing:
    async def test_is_tried_again_at_most_hourly_and_told_once(self, portal: Portal) -> None:
        portal.now = begin = local(2026, 4, 3, 7)
        together = ReportSchedule(name="network", of="together", to=("hq@example.org",))
        desk, post, metrics = without_factors(portal), Post(), Metrics()
        schedules = ReportSchedules((together,), desk, ZONE, lambda: portal.now, post, None, metrics)  # type: ignore[arg-type]  # what sends mail, without a server
        await burn_diesel(portal)

        with capture_logs() as told:
            tries = []
            for minute in range(0, 5 * 60, 5):
                portal.now = begin + timedelta(minutes=minute)
                tries += [minute] * len(await schedules.make_due())

        assert tries == [0, 10, 30, 70, 130, 190, 250]
        assert [it["log_level"] for it in told if it["event"].startswith("a scheduled report failed")].count(
            "error"
        ) == 1
        ((to, subject, text),) = post.mails
        assert (to, subject) == ("hq@example.org", "Report that could not be made: 2 factories, 2026-03")
        assert "factor" in text
        assert metrics.registry.get_sample_value("carbontrack_scheduled_reports_failed") == 1

        desk.books = portal.services.desk.books  # the factors are there now
        portal.now += timedelta(hours=1)
        (job,) = await schedules.make_due()

        assert job.state is JobState.DONE
        assert [subject for _, subject, _ in post.mails[1:]] == ["Report to look at: 2 factories, 2026-03"]
        assert await schedules.make_due() == []
        assert metrics.registry.get_sample_value("carbontrack_scheduled_reports_failed") == 0

    async def test_of_one_factory_holds_up_no_other(self, portal: Portal) -> None:
        portal.now = local(2026, 4, 3, 7)
        await burn_diesel(portal)
        schedules = ReportSchedules((MONTHLY,), without_factors(portal), ZONE, lambda: portal.now)

        states = {job.title: job.state for job in await schedules.make_due()}

        assert states == {"Kangaita, 2026-03": JobState.FAILED, "Mungania, 2026-03": JobState.DONE}

    async def test_is_left_to_people_in_the_end(self, portal: Portal) -> None:
        portal.now = local(2026, 4, 3, 7)
        await burn_diesel(portal)
        metrics = Metrics()
        desk = without_factors(portal)
        schedules = ReportSchedules((MONTHLY,), desk, ZONE, lambda: portal.now, metrics=metrics)
        await schedules.make_due()

        portal.now += timedelta(days=21)

        assert await schedules.make_due() == []
        assert metrics.registry.get_sample_value("carbontrack_scheduled_reports_failed") == 0


def without_factors(portal: Portal) -> ReportDesk:
    """A desk that knows no emission factor."""
    desk = portal.services.desk
    books = Books(desk.books.store, FactorSet.of(()), ZONE, (0.85, 1.15))
    return ReportDesk(books, desk.render, desk.key, "test", lambda: portal.now)


async def burn_diesel(portal: Portal) -> None:
    """At Kangaita, in March."""
    store, day = portal.services.store, local(2026, 3, 10, 0)
    (kangaita,) = [it for it in await store.factories() if it.slug == "kangaita"]
    litres = EnergyEntry(0, 1, kangaita.id, EnergyType.DIESEL, 20.0, "litres", day, day + timedelta(days=1))
    await store.add_energy_entry(litres, Origin("clerk"), portal.now)
