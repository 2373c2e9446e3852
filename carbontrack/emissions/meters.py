"""From running totals of meters to amounts by local day. The order in which records came does not matter.

A node sends totals and a count of its resets, never differences: what a lost record would have said is in the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from math import fsum

RESETS = "rst"
"""Column with the count of resets."""
MOST_TOTAL = 1e12
"""No counter of a factory comes so far: beyond it the value is rubbish."""
TOLERANCE = 1.05
"""Two clocks, the meter's and the record's, may differ by so much."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One column of a meter record. ``per_unit`` of the column make one ``unit``.

    ``most_per_s`` is what no factory exceeds, in the column's own unit, and ``grain`` what the counter may jump by at
    once. A step that is larger is a mistake and counts as nothing.
    """

    column: str
    kind: str
    unit: str
    most_per_s: float
    grain: float
    per_unit: float = 1.0


METERS = (
    Meter("run_s", "boiler_runtime", "h", most_per_s=1.0, grain=2.0, per_unit=3600.0),  # no hour is longer
    Meter("kwh", "electricity", "kWh", most_per_s=5000 / 3600, grain=100.0),  # 5 MW; a factory takes 0.2 to 1
    Meter("genset_kwh", "genset_electricity", "kWh", most_per_s=5000 / 3600, grain=100.0),
    Meter("litres", "diesel", "litres", most_per_s=1500 / 3600, grain=100.0),  # what 5 MW take
)


@dataclass(frozen=True, slots=True)
class MeterReading:
    """One meter record: running totals by column, and how often the counters were reset (None: not said)."""

    at: datetime
    totals: Mapping[str, float]
    resets: int | None = None


@dataclass(frozen=True, slots=True)
class DayAmount:
    """What one meter counted in one local day, in the meter's unit."""

    amount: float
    resets: int = 0
    readings: int = 0
    begin: datetime | None = None
    until: datetime | None = None
    """From when to when the day's records count; a meter that began at noon says nothing of the morning."""
    remarks: tuple[str, ...] = ()
    """Steps that were left out because they cannot be, by the record that they end at."""


def meter_reading(at: datetime, data: Mapping[str, object]) -> MeterReading | None:
    """A record as it was stored; None when it has no total that can be used. Unknown columns are left out."""
    totals = {meter.column: total for meter in METERS if (total := _total(data.get(meter.column))) is not None}
    resets = data.get(RESETS)
    is_count = isinstance(resets, int) and not isinstance(resets, bool)
    return MeterReading(at, totals, resets if is_count else None) if totals else None  # type: ignore[arg-type]  # a count


def _total(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MOST_TOTAL else None


@dataclass(frozen=True, slots=True)
class _Point:
    at: datetime
    resets: int
    """The last count that a record said; -1 where none has."""
    total: float


def daily_amounts(readings: Iterable[MeterReading], meter: Meter, zone: tzinfo) -> dict[date, DayAmount]:
    """The amounts of one meter by local day, for each day that two records lie in or around.

    A step between two records counts by time over the days that it spans. After a reset (a smaller total, or a larger
    count of resets) the new total is the step. A step that cannot be counts as nothing and is told in ``remarks``.
    """
    points = _points(readings, meter)
    days: dict[date, _Day] = {}
    if len(points) > 1:
        day, midnight = _day_and_end(points[0].at, zone)
        days[day] = _Day(points[0].at, points[0].at, readings=1)
    for before, now in pairwise(points):
        step, was_reset = _step(before, now)
        remark = None if _can_be(step, before, now, meter) else _remark(step, before, now, meter)
        step = 0.0 if remark else step / meter.per_unit
        begin, whole_s = before.at, (now.at - before.at).total_seconds()
        while now.at >= midnight:
            days[day].parts.append(step * (midnight - begin).total_seconds() / whole_s)
            days[day].until = begin = midnight
            day, midnight = _day_and_end(midnight, zone)
            days[day] = _Day(begin, begin)
        found = days[day]
        found.parts.append(step if begin is before.at else step * (now.at - begin).total_seconds() / whole_s)
        found.resets += was_reset
        found.readings += 1
        found.until = now.at
        if remark:
            found.remarks.append(remark)
    return {
        day: DayAmount(fsum(found.parts), found.resets, found.readings, found.begin, found.until, tuple(found.remarks))
        for day, found in days.items()
    }


@dataclass(slots=True)
class _Day:
    begin: datetime
    until: datetime
    parts: list[float] = field(default_factory=list)
    resets: int = 0
    readings: int = 0
    remarks: list[str] = field(default_factory=list)


def _points(readings: Iterable[MeterReading], meter: Meter) -> list[_Point]:
    """The totals of one meter by time, each once, without single ones that leap up and are gone in the next record."""
    found = sorted(
        {
            (it.at, -1 if it.resets is None else it.resets, it.totals[meter.column])
            for it in readings
            if meter.column in it.totals
        }
    )
    points: list[_Point] = []
    for at, resets, total in found:
        points.append(_Point(at, points[-1].resets if resets < 0 and points else resets, total))
    kept = points[:1]
    for now, after in pairwise(points[1:]):
        if not _is_leap(kept[-1], now, after, meter):
            kept.append(now)
    return kept + points[1:][-1:]


def _is_leap(before: _Point, now: _Point, after: _Point, meter: Meter) -> bool:
    falls_back = after.total < now.total and after.resets == now.resets == before.resets
    return falls_back and after.total >= before.total and not _can_be(_step(before, now)[0], before, now, meter)


def _step(before: _Point, now: _Point) -> tuple[float, bool]:
    """What was counted between two records, and whether the counter began again in between."""
    was_reset = now.total < before.total or (now.resets > before.resets >= 0)
    return (now.total if was_reset else now.total - before.total), was_reset


def _can_be(step: float, before: _Point, now: _Point, meter: Meter) -> bool:
    if step <= meter.grain:
        return True
    return step <= meter.most_per_s * (now.at - before.at).total_seconds() * TOLERANCE + meter.grain


def _remark(step: float, before: _Point, now: _Point, meter: Meter) -> str:
    minutes = (now.at - before.at).total_seconds() / 60
    return (
        f"{now.at.isoformat(timespec='seconds')}: {step / meter.per_unit:,.1f} {meter.unit} in {minutes:,.1f} min "
        f"cannot be; left out"
    )


def _day_and_end(moment: datetime, zone: tzinfo) -> tuple[date, datetime]:
    """The local day of a moment, and when it ends."""
    day = moment.astimezone(zone).date()
    return day, datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
