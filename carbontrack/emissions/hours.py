"""From samples to 5-minute integrals, from those to hours, from hours to days (steps 11 and 12 of the chain).

Everything here is a function of the committed readings alone, in the order of their measuring times: readings that
come late give, whenever they come, the figures that they would have given in time.

A reading speaks for the time until the next one, if that comes within :data:`LONGEST_STEP_MS`, and otherwise for
:data:`LAST_STEP_MS`. Time that lies before a span's start, or after its end, belongs to the neighbours.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from math import fsum

import msgspec

from carbontrack.emissions.gas import CO2_KG_PER_NM3
from carbontrack.emissions.rate import NO_CO2, Rate
from carbontrack.ledger import Cause, Day, Hour, HourStatus, Summary
from carbontrack.model import Flag

METHOD = "ct-1"
"""Name of the formulas from sample to hour; it changes whenever a figure could."""
LONGEST_STEP_MS = 60_000
LAST_STEP_MS = 5_000
LEAD_IN_MS = 600_000
"""Between its thresholds the boiler stays what it was; how far back that is looked for."""
BUCKET_S = 300
HOUR_S = 3600
VALID_SHARE = 0.8
"""MRR Art 44(2): an hour needs 80 % of its data points; here, of its time (decision 9)."""
NO_CO2_ALL_HOUR_S = 3000.0
"""Gas that is hot for so much of an hour without any CO2 is no fire that went out: that one is cold by then."""

_CAUSES = (
    (Flag.UNFIT_SENSOR, Cause.UNFIT_SENSOR),
    (Flag.CO2_OVER_RANGE, Cause.OVER_RANGE),
    (Flag.MAINTENANCE, Cause.MAINTENANCE),
    (Flag.CALIBRATION | Flag.WARM_UP, Cause.CALIBRATION),
    (
        Flag.CO2_FAULT
        | Flag.STALE
        | Flag.TEMPERATURE_OPEN
        | Flag.TEMPERATURE_FAULT
        | Flag.VELOCITY_FAULT
        | Flag.PRESSURE_DIFFERENCE_NEGATIVE
        | Flag.VALUE_MISSING,
        Cause.MALFUNCTION,
    ),
    (Flag.STUCK, Cause.STUCK),
    (
        Flag.IMPLAUSIBLE | Flag.CO2_IMPLAUSIBLE | Flag.TEMPERATURE_IMPLAUSIBLE | Flag.VELOCITY_IMPLAUSIBLE,
        Cause.IMPLAUSIBLE,
    ),
)
"""In the order in which the first that applies is named."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """One reading as the integrals see it; ``at_ms`` is UTC, in ms since 1970."""

    at_ms: int
    rate: Rate


# --- 5 minutes --------------------------------------------------------------------------------------------------------


def summarise(points: Sequence[Point], stack_id: int, start_ms: int, length_s: int = BUCKET_S) -> Summary | None:
    """The integrals of one span; None when no reading was taken in it and none speaks for any of it.

    ``points`` are the stack's readings in order of time, at least those from :data:`LEAD_IN_MS` before the span to
    :data:`LONGEST_STEP_MS` after it; more do not matter.
    """
    end_ms = start_ms + length_s * 1000
    first = bisect_left(points, start_ms, key=_at_ms)
    running = _running_before(points, first, start_ms)
    sums = _Sums()
    late = flags = 0
    last = first
    if first and points[first - 1].at_ms > start_ms - LONGEST_STEP_MS:
        carried_ms = min(_speaks_until(points, first - 1), end_ms) - start_ms
        if carried_ms > 0:
            sums.add(points[first - 1].rate, running, carried_ms / 1000)
    for last in range(first, len(points)):
        point = points[last]
        if point.at_ms >= end_ms:
            break
        rate = point.rate
        flags |= rate.flags
        if rate.flags & _BACKLOG:
            late += 1
        if rate.vote:
            running = rate.vote > 0
        sums.add(rate, running, (min(_speaks_until(points, last), end_ms) - point.at_ms) / 1000)
    else:
        last = len(points)
    if last == first and not sums.known_s:
        return None
    return sums.summary(stack_id, datetime.fromtimestamp(start_ms / 1000, UTC), length_s, last - first, late, flags)


_BACKLOG = int(Flag.BACKLOG)


def _at_ms(point: Point) -> int:
    return point.at_ms


def _running_before(points: Sequence[Point], index: int, start_ms: int) -> bool:
    """Whether the boiler ran before a span: what the last reading said that was sure of it.

    Where none was, it is taken to run, so that what is measured counts.
    """
    for at in range(index - 1, -1, -1):
        if points[at].at_ms < start_ms - LEAD_IN_MS:
            break
        if points[at].rate.vote:
            return points[at].rate.vote > 0
    return True


def _speaks_until(points: Sequence[Point], index: int) -> int:
    at_ms = points[index].at_ms
    if index + 1 < len(points) and points[index + 1].at_ms - at_ms <= LONGEST_STEP_MS:
        return points[index + 1].at_ms
    return at_ms + LAST_STEP_MS


class _Sums:
    """The integrals while they grow."""

    __slots__ = (
        "co2_fraction_s", "co2_kg", "co2_s", "flow_nm3", "flow_s", "highest", "lowest", "no_co2_s", "off_s",
        "running_s", "temperature_c_s", "temperature_s", "valid_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.running_s = self.off_s = self.valid_s = self.co2_kg = self.no_co2_s = 0.0
        self.co2_s = self.co2_fraction_s = self.flow_s = self.flow_nm3 = self.temperature_s = self.temperature_c_s = 0.0
        self.lowest: float | None = None
        self.highest: float | None = None

    @property
    def known_s(self) -> float:
        return self.running_s + self.off_s

    def add(self, rate: Rate, running: bool, seconds: float) -> None:
        """One reading that speaks for some seconds."""
        if not running:
            self.off_s += seconds
            if rate.vote == NO_CO2:
                self.no_co2_s += seconds
            self._bound(0.0)
            return
        self.running_s += seconds
        kg_per_s, fraction, flow, temperature_c = (
            rate.co2_kg_per_s,
            rate.co2_fraction,
            rate.flow_nm3_per_s,
            rate.temperature_c,
        )
        if kg_per_s is not None:
            self.valid_s += seconds
            self.co2_kg += kg_per_s * seconds
            self._bound(kg_per_s)
        if fraction is not None:
            self.co2_s += seconds
            self.co2_fraction_s += fraction * seconds
        if flow is not None:
            self.flow_s += seconds
            self.flow_nm3 += flow * seconds
        if temperature_c is not None:
            self.temperature_s += seconds
            self.temperature_c_s += temperature_c * seconds

    def _bound(self, kg_per_s: float) -> None:
        if self.lowest is None or kg_per_s < self.lowest:
            self.lowest = kg_per_s
        if self.highest is None or kg_per_s > self.highest:
            self.highest = kg_per_s

    def summary(self, stack_id: int, start: datetime, length_s: int, count: int, late: int, flags: int) -> Summary:
        return Summary(
            stack_id,
            start,
            length_s,
            count=count,
            late_count=late,
            running_s=self.running_s,
            off_s=self.off_s,
            valid_s=self.valid_s,
            co2_kg=self.co2_kg,
            co2_s=self.co2_s,
            co2_fraction_s=self.co2_fraction_s,
            flow_s=self.flow_s,
            flow_nm3=self.flow_nm3,
            temperature_s=self.temperature_s,
            temperature_c_s=self.temperature_c_s,
            no_co2_s=self.no_co2_s,
            min_kg_per_s=self.lowest,
            max_kg_per_s=self.highest,
            flags=flags,
        )


def combine(parts: Sequence[Summary], start: datetime, length_s: int) -> Summary:
    """Several spans of one stack as one. Their order does not matter (sums are exactly rounded)."""

    def total(what: Callable[[Summary], float]) -> float:
        return fsum(map(what, parts))

    flags = 0
    for part in parts:
        flags |= part.flags
    return Summary(
        parts[0].stack_id,
        start,
        length_s,
        count=sum(part.count for part in parts),
        late_count=sum(part.late_count for part in parts),
        running_s=total(lambda part: part.running_s),
        off_s=total(lambda part: part.off_s),
        valid_s=total(lambda part: part.valid_s),
        co2_kg=total(lambda part: part.co2_kg),
        co2_s=total(lambda part: part.co2_s),
        co2_fraction_s=total(lambda part: part.co2_fraction_s),
        flow_s=total(lambda part: part.flow_s),
        flow_nm3=total(lambda part: part.flow_nm3),
        temperature_s=total(lambda part: part.temperature_s),
        temperature_c_s=total(lambda part: part.temperature_c_s),
        no_co2_s=total(lambda part: part.no_co2_s),
        min_kg_per_s=min((part.min_kg_per_s for part in parts if part.min_kg_per_s is not None), default=None),
        max_kg_per_s=max((part.max_kg_per_s for part in parts if part.max_kg_per_s is not None), default=None),
        flags=flags,
    )


# --- hours ------------------------------------------------------------------------------------------------------------


def hour_is_valid(known_s: float, running_s: float, valid_s: float, share: float = VALID_SHARE) -> bool:
    """Whether an hour has enough valid time (MRR Art 44(2)).

    ``known_s`` is valid running time plus time that is known to be off; it must be the share of the hour. Of the
    running time the same share must be valid, so that an hour that was mostly off is not taken for measured while
    its running part was not.
    """
    enough = share - 1e-9  # 2880 s out of 3600 s are 80 %, however the sum was rounded
    return known_s >= enough * HOUR_S and valid_s >= enough * running_s


def quadrants_are_valid(quadrants: Sequence[Summary | None]) -> bool:
    """Whether each quarter of an hour in which fuel burned has a valid point (40 CFR 75.10(d)(1)).

    Of a quarter without any reading nobody knows that no fuel burned: it counts as one in which it did.
    """
    return all(
        part is not None and (part.valid_s > 0 or (part.running_s == 0 and part.off_s > 0)) for part in quadrants
    )


def hour_mass_kg(mean_kg_per_s: float, operating_fraction: float) -> float:
    """CO2 of an hour in kg: mean rate while operating, times 3600 s, times the share of the hour that it operated."""
    return mean_kg_per_s * HOUR_S * operating_fraction


def hour_of(parts: Sequence[Summary], start: datetime, policy: str = "share") -> Hour:
    """The hour that begins at ``start``, from its 5-minute integrals (those that there are, at least one).

    Raises :class:`ValueError` for a policy other than ``share`` and ``quadrant``.
    """
    whole = combine(parts, start, HOUR_S)
    known_s = whole.running_s + whole.off_s
    good_s = whole.valid_s + whole.off_s
    status = _status(whole, parts, policy)
    lost_s = whole.no_co2_s if _lost_its_co2(whole) else 0.0  # hot gas that moved: it ran, whatever the analyser says
    fraction = (whole.running_s + lost_s) / known_s if known_s else None
    mean = whole.co2_kg / whole.valid_s if whole.valid_s else None
    concentration = whole.co2_fraction_s / whole.co2_s if whole.co2_s else None
    flow = whole.flow_nm3 / whole.flow_s if whole.flow_s >= VALID_SHARE * whole.running_s > 0 else None
    mass = None
    if status is HourStatus.NOT_OPERATING:
        mass = 0.0
    elif status is HourStatus.VALID and mean is not None and fraction is not None:
        mass = hour_mass_kg(mean, fraction)
    return Hour(
        whole.stack_id,
        start,
        status,
        Cause.NONE if mass is not None else _cause(whole),
        co2_kg=mass,
        measured_kg=whole.co2_kg,
        operating_fraction=fraction,
        coverage=min(1.0, good_s / HOUR_S),
        mean_kg_per_s=mean,
        mean_co2_fraction=concentration,
        mean_flow_nm3_per_s=flow,
        mean_temperature_c=whole.temperature_c_s / whole.temperature_s if whole.temperature_s else None,
        product_of_means_kg_per_s=concentration * flow * CO2_KG_PER_NM3 if concentration and flow else None,
        count=whole.count,
        late_count=whole.late_count,
        flags=whole.flags,
        method=METHOD,
        policy=policy,
        min_kg_per_s=whole.min_kg_per_s,
        max_kg_per_s=whole.max_kg_per_s,
    )


def _status(whole: Summary, parts: Sequence[Summary], policy: str) -> HourStatus:
    if not whole.running_s and not whole.off_s:
        return HourStatus.MISSING
    if _lost_its_co2(whole):
        return HourStatus.INVALID
    if policy == "share":
        valid = hour_is_valid(whole.valid_s + whole.off_s, whole.running_s, whole.valid_s)
    elif policy == "quadrant":
        valid = quadrants_are_valid(_quadrants(parts, whole.start))
    else:
        raise ValueError(f"the validity policy is 'share' or 'quadrant', not {policy!r}")
    if not valid:
        return HourStatus.INVALID
    return HourStatus.VALID if whole.running_s else HourStatus.NOT_OPERATING


def _lost_its_co2(whole: Summary) -> bool:
    return whole.no_co2_s >= NO_CO2_ALL_HOUR_S


def _quadrants(parts: Sequence[Summary], start: datetime) -> list[Summary | None]:
    quarters: list[list[Summary]] = [[], [], [], []]
    for part in parts:
        quarters[int((part.start - start).total_seconds()) // 900].append(part)
    return [combine(quarter, quarter[0].start, 900) if quarter else None for quarter in quarters]


def _cause(whole: Summary) -> Cause:
    """Why the hour is not valid: no data if that alone is enough, otherwise the worst that its readings say."""
    if whole.running_s + whole.off_s < VALID_SHARE * HOUR_S:
        return Cause.NO_DATA
    if _lost_its_co2(whole):
        return Cause.CO2_LOST
    return next((cause for flags, cause in _CAUSES if whole.flags & flags), Cause.NO_DATA)


def missing_hour(stack_id: int, start: datetime, policy: str = "share") -> Hour:
    """An hour of which nothing is known."""
    return Hour(
        stack_id,
        start,
        HourStatus.MISSING,
        Cause.NO_DATA,
        co2_kg=None,
        measured_kg=0.0,
        operating_fraction=None,
        coverage=0.0,
        mean_kg_per_s=None,
        mean_co2_fraction=None,
        mean_flow_nm3_per_s=None,
        mean_temperature_c=None,
        product_of_means_kg_per_s=None,
        count=0,
        late_count=0,
        flags=0,
        method=METHOD,
        policy=policy,
    )


# --- days -------------------------------------------------------------------------------------------------------------


def day_of(hours: Sequence[Hour], day: date) -> Day:
    """One local day of one stack, from its hours (those that there are, at least one)."""
    valid = [hour for hour in hours if hour.status is HourStatus.VALID]
    operating_h = fsum(hour.operating_fraction or 0.0 for hour in hours)
    valid_operating_h = fsum(hour.operating_fraction or 0.0 for hour in valid)
    co2_kg = fsum(hour.co2_kg or 0.0 for hour in hours)
    return Day(
        hours[0].stack_id,
        day,
        valid_hours=len(valid),
        not_operating_hours=sum(hour.status is HourStatus.NOT_OPERATING for hour in hours),
        invalid_hours=sum(hour.status is HourStatus.INVALID for hour in hours),
        operating_h=operating_h,
        coverage=fsum(hour.coverage for hour in hours) / 24,
        co2_kg=co2_kg,
        measured_kg=fsum(hour.measured_kg for hour in hours),
        mean_kg_per_s=co2_kg / (valid_operating_h * HOUR_S) if valid_operating_h else None,
        min_kg_per_s=min((hour.min_kg_per_s for hour in hours if hour.min_kg_per_s is not None), default=None),
        max_kg_per_s=max((hour.max_kg_per_s for hour in hours if hour.max_kg_per_s is not None), default=None),
        count=sum(hour.count for hour in hours),
        late_count=sum(hour.late_count for hour in hours),
    )
