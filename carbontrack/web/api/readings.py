"""Readings, and what is made of them: 5-minute means, hours and days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import msgspec
from aiohttp import web
from pydantic import Field

from carbontrack.ledger import Cause, HourStatus
from carbontrack.model import Reading
from carbontrack.store import TIER_MS
from carbontrack.tiers import local_day
from carbontrack.tiers import readings as readings_of
from carbontrack.web.access import EVERYBODY, USER, scope
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import MOST_RESULTS, WRONG, Id, Listing, Output, Page, zoned
from carbontrack.web.services import SERVICES, Services

MOST_MEANS = 50_000
BUCKET = timedelta(milliseconds=TIER_MS)
LONGEST = {
    "raw": timedelta(days=1),
    "5min": timedelta(days=31),
    "hour": timedelta(days=366),
    "day": timedelta(days=3660),
}
STEPS = {"5min": BUCKET, "hour": timedelta(hours=1), "day": timedelta(days=1)}


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/emissions/", emissions)


class EmissionsQuery(Listing):
    """``from`` and ``to`` bound the measuring time: [from, to)."""

    factory_id: Id | None = None
    stack_id: Id | None = None
    device_id: str | None = Field(None, max_length=64)
    """With `raw` only; it is applied after the page is cut."""
    since: datetime | None = Field(None, alias="from")
    """With zone; an hour before `to` without it."""
    until: datetime | None = Field(None, alias="to")
    """With zone; now without it."""
    resolution: Literal["raw", "5min", "hour", "day"] = "raw"
    limit: int = Field(MOST_RESULTS, ge=2, le=MOST_RESULTS)
    """The most rows of one answer, with `raw` only."""
    cursor: str | None = Field(None, pattern=r"^\d{1,9}~\d{1,14}$")
    """Where the last answer ended: its `next`, with `raw` only."""


class ReadingOut(Output):
    factory_id: int
    stack_id: int
    device_id: str | None
    seq: int
    """Its number at the device."""
    timestamp: datetime
    """When it was measured."""
    received_at: datetime
    co2_ppm: float | None
    """As the analyser gave it."""
    temperature_c: float | None
    velocity_ms: float | None
    """At the measuring point."""
    pressure_kpa: float | None
    """The absolute pressure that was used."""
    pressure_difference_pa: float | None
    """Of a pitot tube, where the velocity comes from it."""
    flow_rate_m3s: float | None
    """Actual flow of wet gas."""
    co2_kg_per_s: float | None
    """Null where there is no valid rate."""
    flags: int
    """A sum of status bits."""


class FiveMinutes(Output):
    factory_id: int
    stack_id: int
    timestamp: datetime
    """The beginning."""
    count: int
    """How many readings."""
    coverage: float
    """The share of the 5 minutes with a known rate, 0 to 1."""
    co2_kg: float
    mean_kg_per_s: float | None
    min_kg_per_s: float | None
    max_kg_per_s: float | None


class HourOut(Output):
    factory_id: int
    stack_id: int
    timestamp: datetime
    """The beginning."""
    validity: HourStatus
    cause: Cause
    """Why it is not valid."""
    co2_kg: float | None
    """Of valid hours only."""
    measured_kg: float
    operating_fraction: float | None
    """The share of the hour in which the boiler ran, 0 to 1."""
    coverage: float
    """The share of the hour with a known rate, 0 to 1."""
    mean_kg_per_s: float | None
    mean_co2_fraction: float | None
    """Of the wet gas."""
    mean_flow_nm3_per_s: float | None
    """Wet gas at 273.15 K and 101.325 kPa."""
    mean_temperature_c: float | None
    product_of_means_kg_per_s: float | None
    count: int
    """How many readings."""
    late_count: int
    flags: int
    """A sum of status bits: all that any reading had."""
    method: str
    """The version of the way it is worked out."""
    policy: str
    """By which rule it is valid: `share` or `quadrant`."""
    min_kg_per_s: float | None
    max_kg_per_s: float | None
    version: int


class DayOut(Output):
    factory_id: int
    stack_id: int
    timestamp: datetime
    """When the local day began."""
    day: date
    valid_hours: int
    not_operating_hours: int
    invalid_hours: int
    operating_h: float
    coverage: float
    """The share of the day with a known rate, 0 to 1."""
    co2_kg: float
    measured_kg: float
    mean_kg_per_s: float | None
    min_kg_per_s: float | None
    max_kg_per_s: float | None
    count: int
    """How many readings."""
    late_count: int


Row = ReadingOut | FiveMinutes | HourOut | DayOut


def _period(query: EmissionsQuery, now: datetime) -> tuple[datetime, datetime]:
    until = zoned("to", query.until) if query.until else now
    since = zoned("from", query.since) if query.since else until - timedelta(hours=1)
    longest = LONGEST[query.resolution]
    if not timedelta(0) < until - since <= longest:
        message = f"must be after from, and at most {longest.days} days later for {query.resolution}"
        raise Problem(422, WRONG, (("to", message),))
    return since, until


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked for; ``chosen`` are stacks with their factories."""

    chosen: Mapping[int, int]
    since: datetime
    until: datetime


@operation(Tag.READINGS, EVERYBODY)
async def emissions(request: web.Request, query: EmissionsQuery) -> Page[ReadingOut | FiveMinutes | HourOut | DayOut]:
    """Readings, their 5-minute means, hours or local days, stack by stack, oldest first.

    At most ``limit`` readings: where there are more, ``next`` is the ``cursor`` of the next call, which begins with the
    last row again. What is not measured is not filled.
    """
    services = request.app[SERVICES]
    since, until = _period(query, services.clock())
    chosen = {
        stack.id: stack.factory_id
        for stack in await services.store.stacks(scope(request[USER]))
        if query.factory_id in {None, stack.factory_id} and query.stack_id in {None, stack.id}
    }
    wanted = _Wanted(chosen, since, until)
    if query.resolution == "raw":
        return await _raw(services, wanted, query)
    _check_means(query, len(chosen) * (until - since) // STEPS[query.resolution])
    return Page(await {"5min": _five_minutes, "hour": _hours, "day": _days}[query.resolution](services, wanted))


def _check_means(query: EmissionsQuery, most: int) -> None:
    """Means come in one answer, and belong to a stack, whichever devices measured it."""
    if query.device_id is not None:
        raise Problem(422, WRONG, (("device_id", "goes with raw only; give stack_id for means"),))
    if most > MOST_MEANS:
        message = f"is too far from from: about {most:,} means, at most {MOST_MEANS:,}; name a factory or a stack"
        raise Problem(422, WRONG, (("to", message),))


async def _five_minutes(services: Services, wanted: _Wanted) -> Sequence[Row]:
    found = await services.store.trend(list(wanted.chosen), wanted.since, wanted.until)
    return [
        FiveMinutes(**_without(it, "start"), factory_id=wanted.chosen[it.stack_id], timestamp=it.start) for it in found
    ]


async def _hours(services: Services, wanted: _Wanted) -> Sequence[Row]:
    found = await services.store.hours(wanted.chosen, wanted.since, wanted.until)
    return [
        HourOut(
            **_without(it, "start", "status"),
            factory_id=wanted.chosen[it.stack_id],
            timestamp=it.start,
            validity=it.status,
        )
        for it in found
    ]


async def _days(services: Services, wanted: _Wanted) -> Sequence[Row]:
    zone = services.time_zone
    first, last = (it.astimezone(zone).date() for it in (wanted.since, wanted.until - timedelta(seconds=1)))
    found = await services.store.days(wanted.chosen, first, last + timedelta(days=1))
    return [
        DayOut(
            **msgspec.structs.asdict(it),
            factory_id=wanted.chosen[it.stack_id],
            timestamp=local_day(it.day, zone)[0],
        )
        for it in found
    ]


async def _raw(services: Services, wanted: _Wanted, query: EmissionsQuery) -> Page[Any]:
    names = {stream.pk: name for name, streams in (await services.store.streams()).items() for stream in streams}
    found, cursor = await _page(services, wanted, query)
    rows = [
        ReadingOut(
            **_without(it, "measured_at", "stream_pk"),
            factory_id=wanted.chosen[it.stack_id],
            device_id=names.get(it.stream_pk),
            timestamp=it.measured_at,
        )
        for it in found
        if query.device_id in {None, names.get(it.stream_pk)}
    ]
    return Page(rows, cursor)


async def _page(services: Services, wanted: _Wanted, query: EmissionsQuery) -> tuple[list[Reading], str | None]:
    """One page of readings, and the cursor of the next."""
    from_stack, from_ms = (int(part) for part in (query.cursor or "0~0").split("~"))
    found: list[Reading] = []
    for stack_id in sorted(wanted.chosen):
        if stack_id < from_stack:
            continue
        begin = datetime.fromtimestamp(from_ms / 1000, UTC) if stack_id == from_stack else wanted.since
        found += await readings_of(services.store, [stack_id], begin, wanted.until, query.limit - len(found))
        if len(found) >= query.limit:
            return found, f"{stack_id}~{round(found[-1].measured_at.timestamp() * 1000)}"
    return found, None


def _without(value: msgspec.Struct, *names: str) -> dict[str, Any]:
    return {name: it for name, it in msgspec.structs.asdict(value).items() if name not in names}
