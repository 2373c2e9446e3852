"""Keep the tiers up to date: from the readings that were touched to 5 minutes, hours and days. The one way for all.

Late data and changed plans go the same way as readings of this minute, and so does ``carbontrack recompute``: each span
is worked out anew from the committed readings, under the plans that were in force when they were measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import structlog

from carbontrack.emissions.hours import BUCKET_S, HOUR_S, LEAD_IN_MS, LONGEST_STEP_MS, Point, day_of, hour_of, summarise
from carbontrack.emissions.rate import (
    emission_rate,
    plan_in_force,
    single,
    site_pressure_kpa,
    stored_sample,
    undecided_flags,
)
from carbontrack.ledger import Day, Hour, Summary
from carbontrack.model import Measurement, MonitoringPlan, Reading
from carbontrack.store import TIER_MS, ArchiveError, Store
from carbontrack.store.readings import RawRow
from carbontrack.store.tiers import TierWork

log = structlog.get_logger(__name__)

CHUNK_MS = 3_600_000
"""Work is cut at hours, so that the loop is never blocked for longer than an hour of readings takes."""
HOUR_MS = HOUR_S * 1000
RECOMPUTED_MS = 6 * HOUR_MS
"""Recomputing takes so much at once: fewer queries, and fewer readings that are read twice."""
AT_ONCE = 2000
"""Readings that are computed before the loop's others have their turn."""
BUCKETS_AFTER = LEAD_IN_MS // TIER_MS
"""A reading says whether the boiler runs for so many buckets after its own."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is needed to compute one stack's readings: its plans and its factory's pressure."""

    stack_id: int
    plans: tuple[MonitoringPlan, ...]
    site_kpa: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recomputation is: buckets, and hours with a new version."""

    buckets: int = 0
    versions: int = 0


async def measured_stacks(store: Store) -> dict[int, Measured]:
    """Every stack of the registry with what its readings are computed with."""
    factories = {factory.id: factory for factory in await store.factories()}
    return {
        stack.id: Measured(stack.id, stack.plans, site_pressure_kpa(factories[stack.factory_id]))
        for stack in await store.stacks()
    }


class Summariser:
    """Writes the tiers of one store. ``zone`` is where days begin."""

    def __init__(self, store: Store, zone: tzinfo, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._zone = zone
        self._clock = clock
        self._stacks: dict[int, Measured] = {}
        self._revision = -1

    async def summarise_touched(self, most: int = 500) -> int:
        """Summarise buckets that readings touched, again where it was late data; how many were."""
        marks = await self._store.touched_buckets(most)
        if not marks.buckets:
            return 0
        await self._refresh()
        by_stack: dict[int, set[int]] = {}
        for stack_id, start_ms in marks.buckets:
            by_stack.setdefault(stack_id, set()).add(start_ms)
        done = 0
        for stack_id, starts in sorted(by_stack.items()):
            for chunk in _chunks(starts | await self._after(stack_id, starts)):
                try:
                    done += (await self._summarise(stack_id, chunk)).buckets
                except ArchiveError as error:  # the others do not wait for it, and the hour stays what it was
                    at = datetime.fromtimestamp(chunk[0] / 1000, UTC)
                    log.error(  # noqa: TRY400  # the traceback would say nothing more
                        "late data do not count yet: put the file back, then run carbontrack recompute",
                        stack_id=stack_id,
                        hour=at.isoformat(),
                        error=str(error),
                    )
        await self._store.forget_marks(marks)
        return done

    async def recompute(
        self, stack_ids: Iterable[int], since: datetime, until: datetime, report: Callable[[Progress], object]
    ) -> Progress:
        """Rebuild the tiers of some stacks from their readings, for the hours that begin in [since, until).

        Where there are no readings, what the tiers have stays: raw readings may be gone long before their hours.
        """
        await self._refresh()
        total = Progress()
        for stack_id in stack_ids:
            found = await self._store.reading_span(stack_id, since, until)
            if found is None:
                continue
            first_ms, last_ms = (round(moment.timestamp() * 1000) for moment in found)
            end_ms = (last_ms // HOUR_MS + 1) * HOUR_MS
            for begin_ms in range(first_ms // HOUR_MS * HOUR_MS, end_ms, RECOMPUTED_MS):
                span = range(begin_ms, min(begin_ms + RECOMPUTED_MS, end_ms), TIER_MS)
                done = await self._summarise(stack_id, span)
                total = Progress(total.buckets + done.buckets, total.versions + done.versions)
                report(total)
        return total

    async def _refresh(self) -> None:
        """Take plans as they are now: they change rarely, and every change shows in the registry's revision."""
        revision = await self._store.revision()
        if revision != self._revision:
            self._stacks = await measured_stacks(self._store)
            self._revision = revision

    async def _after(self, stack_id: int, starts: set[int]) -> set[int]:
        """The buckets after late data that were summarised before it came."""
        wanted = {start + step * TIER_MS for start in starts for step in range(1, BUCKETS_AFTER + 1)} - starts
        if not wanted:
            return set()
        return wanted & await self._store.summarised_buckets(stack_id, min(wanted), max(wanted) + 1)

    async def _summarise(self, stack_id: int, starts: Sequence[int]) -> Progress:
        """Some buckets of one stack that lie near each other, with their hours and their days."""
        measured = self._stacks.get(stack_id)
        if measured is None:
            return Progress()  # the stack is gone from the registry; its tiers stay as they are
        rows = await self._store.raw(stack_id, starts[0] - LEAD_IN_MS, starts[-1] + TIER_MS + LONGEST_STEP_MS)
        points = compute(rows, measured)
        found = [summarise(points, stack_id, start, BUCKET_S) for start in starts]
        work = TierWork([summary for summary in found if summary is not None])
        if not work.summaries:
            return Progress()
        by_hour: dict[datetime, list[Summary]] = {}
        for summary in work.summaries:
            by_hour.setdefault(summary.start.replace(minute=0), []).append(summary)
        work.hours = [await self._hour(measured, start, parts) for start, parts in by_hour.items()]
        by_day: dict[date, list[Hour]] = {}
        for hour in work.hours:
            by_day.setdefault(hour.start.astimezone(self._zone).date(), []).append(hour)
        work.days = [await self._day(day, hours) for day, hours in by_day.items()]
        versions = await self._store.write_tiers(work, self._clock())
        await asyncio.sleep(0)
        return Progress(len(work.summaries), versions)

    async def _hour(self, measured: Measured, start: datetime, new: Sequence[Summary]) -> Hour:
        parts = {part.start: part for part in new}
        if len(parts) < HOUR_S // BUCKET_S:
            kept = await self._store.summaries(measured.stack_id, start, start + timedelta(hours=1))
            parts = {part.start: part for part in kept} | parts
        plan = plan_in_force(measured.plans, start.timestamp())
        return hour_of([parts[at] for at in sorted(parts)], start, plan.validity)

    async def _day(self, day: date, new: Sequence[Hour]) -> Day:
        since, until = local_day(day, self._zone)
        kept = {hour.start: hour for hour in await self._store.hours([new[0].stack_id], since, until)}
        kept |= {hour.start: hour for hour in new}
        return day_of([kept[at] for at in sorted(kept)], day)


def local_day(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """When a local day begins and ends, in UTC."""
    begin, end = (datetime.combine(at, time(), zone).astimezone(UTC) for at in (day, day + timedelta(days=1)))
    return begin, end


def compute(rows: Sequence[RawRow], measured: Measured) -> list[Point]:
    """The rate of each reading under the plan of its time."""
    plans, site_kpa = measured.plans, measured.site_kpa
    only = plans[0] if len(plans) == 1 else None
    points = []
    for row in rows:
        plan = only or plan_in_force(plans, row.measured_at / 1000)
        sample = stored_sample(
            row.co2_ppm, row.temperature_c, row.velocity_ms, row.pressure_kpa, row.pressure_difference_pa, row.flags
        )
        points.append(Point(row.measured_at, emission_rate(sample, plan, site_kpa, undecided_flags(row.flags))))
    return points


def reading_of(row: Measurement, measured: Measured) -> Reading:
    """A measurement with its rate, its flow and its flags under the plan of its time."""
    plan = plan_in_force(measured.plans, row.measured_at.timestamp())
    sample = stored_sample(
        row.co2_ppm, row.temperature_c, row.velocity_ms, row.pressure_kpa, row.pressure_difference_pa, row.flags
    )
    rate = emission_rate(sample, plan, measured.site_kpa, undecided_flags(row.flags))
    return Reading(
        row.stack_id,
        row.stream_pk,
        row.seq,
        row.measured_at,
        row.received_at,
        row.co2_ppm,
        row.temperature_c,
        single(rate.velocity_ms),
        single(rate.pressure_kpa),
        single(rate.flow_rate_m3s),
        single(rate.co2_kg_per_s),
        rate.flags,
        row.pressure_difference_pa,
    )


async def readings(
    store: Store, stack_ids: Sequence[int], since: datetime, until: datetime, limit: int = 100_000
) -> list[Reading]:
    """Readings measured in [since, until) with their rates, oldest first for each stack, at most ``limit``."""
    measured = await measured_stacks(store)
    found: list[Reading] = []
    for stack_id in stack_ids:
        rows = await store.readings([stack_id], since, until, limit - len(found))
        for at in range(0, len(rows), AT_ONCE):
            found += [reading_of(row, measured[stack_id]) for row in rows[at : at + AT_ONCE]]
            await asyncio.sleep(0)
    return found


def _chunks(starts: Iterable[int]) -> list[list[int]]:
    """Buckets by the hour that they lie in, oldest first."""
    hours: dict[int, list[int]] = {}
    for start in sorted(starts):
        hours.setdefault(start // CHUNK_MS, []).append(start)
    return list(hours.values())
