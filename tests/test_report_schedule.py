"""Reports that are made by themselves: on their day, once, also after the core was away, and people are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from carbontrack.config.settings import ReportSchedule
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
