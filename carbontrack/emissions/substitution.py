"""What stands in for hours that were not measured, beside what was measured and never in its place.

Two policies: ``mrr`` (Regulation (EU) 2018/2066, Art 45, mean plus two standard deviations of the concentration, and a
mass balance for other parameters) and ``epa`` (40 CFR 75.33(b), tiers by availability and length of the gap).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from math import ceil, fsum
from statistics import fmean, stdev

from carbontrack.emissions.gas import CO2_KG_PER_NM3
from carbontrack.emissions.hours import HOUR_S
from carbontrack.ledger import AccountHour, Hour, HourStatus, Method

LOOK_BACK_HOURS = 720
"""Quality-assured hours that the EPA's statistics look back on (40 CFR 75.33(b))."""
SHORT_GAP_H = 3
"""Whether the boiler ran in a gap of up to so many hours is taken from the hours beside it."""
NOTIFY_AFTER = timedelta(days=5)
"""MRR Art 45(1): the authority is told of a measurement that is out of order for more than five days in a row."""


# --- the figures that stand in ----------------------------------------------------------------------------------------


def mean_plus_two_sigma(values: Sequence[float]) -> float:
    """Mean plus twice the sample standard deviation (MRR Annex VIII, equation 4).

    Raises :class:`ValueError` for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a standard deviation needs at least two valid hours")
    return fmean(values) + 2 * stdev(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("a percentile needs at least one value")
    return sorted(values)[max(0, ceil(share * len(values) - 1e-9) - 1)]


def epa_substitute(
    gap_hours: int,
    availability: float,
    before: float | None,
    after: float | None,
    history: Sequence[float],
    potential: float,
) -> tuple[Method, float]:
    """The value for each hour of a gap by 40 CFR 75.33(b), with the name of its tier.

    ``availability`` is the share of operating hours with valid data (0 to 1), ``before`` and ``after`` are the values
    of the valid hours beside the gap, ``history`` those of the last 720 valid hours before it, ``potential`` the most
    that can be. All in one unit, which is that of the answer.
    """
    beside = [value for value in (before, after) if value is not None]
    if availability < 0.80 or not history or not beside:
        return Method.EPA_POTENTIAL, potential
    if availability < 0.90:
        return Method.EPA_MAXIMUM, max(history)
    short, share, method = (24, 0.90, Method.EPA_P90) if availability >= 0.95 else (8, 0.95, Method.EPA_P95)
    mean = fmean(beside)
    if gap_hours <= short:
        return Method.EPA_BEFORE_AFTER, mean
    high = percentile(history, share)
    return (method, high) if high > mean else (Method.EPA_BEFORE_AFTER, mean)


# --- whether the boiler ran -------------------------------------------------------------------------------------------


def operating_fractions(hours: Sequence[Hour], utc_offset_s: int) -> list[float]:
    """The share of each hour that the boiler ran: what is known, or an estimate.

    In a gap of up to three hours it is the mean of the known hours beside it. In a longer one it is what the known
    hours at the same time of the local day had on average; where there is none, the boiler is taken to have run.
    """
    at_that_hour: dict[int, list[float]] = {}
    for hour in hours:
        if hour.operating_fraction is not None:
            at_that_hour.setdefault(_local_hour(hour, utc_offset_s), []).append(hour.operating_fraction)
    usual = {at: fmean(values) for at, values in at_that_hour.items()}
    found: list[float] = []
    for known, group in groupby(hours, key=lambda hour: hour.operating_fraction is not None):
        run = list(group)
        if known:
            found += [hour.operating_fraction or 0.0 for hour in run]
            continue
        after = hours[len(found) + len(run)].operating_fraction if len(found) + len(run) < len(hours) else None
        beside = [value for value in (found[-1] if found else None, after) if value is not None]
        if len(run) <= SHORT_GAP_H and beside:
            found += [fmean(beside)] * len(run)
        else:
            found += [usual.get(_local_hour(hour, utc_offset_s), 1.0) for hour in run]
    return found


def _local_hour(hour: Hour, utc_offset_s: int) -> int:
    return int(hour.start.timestamp() + utc_offset_s) // HOUR_S % 24


# --- a period ---------------------------------------------------------------------------------------------------------


def substitute(
    hours: Sequence[Hour],
    *,
    policy: str = "mrr",
    balance_kg_per_h: Callable[[datetime], float | None] = lambda _: None,
    potential_kg_per_s: float = 0.0,
    before: Sequence[Hour] = (),
    utc_offset_s: int = 10_800,
) -> tuple[AccountHour, ...]:
    """Every hour of one stack in a period with the mass that counts.

    ``hours`` are all hours of the period, oldest first, missing ones too. ``balance_kg_per_h`` gives the CO2 of a full
    hour of operation from the fuel of that time (MRR Art 45(4)), or None. ``before`` are hours of before the period
    for the EPA's look-back. Raises :class:`ValueError` for a policy that is neither ``mrr`` nor ``epa``.
    """
    if policy not in {"mrr", "epa"}:
        raise ValueError(f"the substitution policy is 'mrr' or 'epa', not {policy!r}")
    fractions = operating_fractions(hours, utc_offset_s)
    fill = (
        _Mrr(hours, balance_kg_per_h) if policy == "mrr" else _Epa(hours, fractions, list(before), potential_kg_per_s)
    )
    plain = _plain_mean(hours)
    return tuple(
        _account_hour(hour, fraction, fill, place, plain)
        for place, (hour, fraction) in enumerate(zip(hours, fractions, strict=True))
    )


def _account_hour(hour: Hour, fraction: float, fill: _Mrr | _Epa, place: int, plain: float | None) -> AccountHour:
    if hour.status is HourStatus.VALID:
        return AccountHour(hour, fraction, Method.MEASURED, hour.co2_kg)
    if fraction == 0:
        return AccountHour(hour, 0.0, Method.NOT_OPERATING, 0.0)
    method, kg_per_h = fill(hour, place)
    if kg_per_h is None:
        return AccountHour(hour, fraction, Method.NONE, None)
    inflation = (kg_per_h - plain * HOUR_S) * fraction if plain is not None else 0.0
    return AccountHour(hour, fraction, method, kg_per_h * fraction, inflation)


def _valid_rates(hours: Sequence[Hour]) -> list[float]:
    return [hour.mean_kg_per_s for hour in hours if hour.status is HourStatus.VALID and hour.mean_kg_per_s is not None]


def _plain_mean(hours: Sequence[Hour]) -> float | None:
    rates = _valid_rates(hours)
    return fmean(rates) if rates else None


class _Mrr:
    """MRR Art 45(3) and (4)."""

    def __init__(self, hours: Sequence[Hour], balance_kg_per_h: Callable[[datetime], float | None]) -> None:
        self._balance = balance_kg_per_h
        rates = _valid_rates(hours)
        concentrations = [
            hour.mean_co2_fraction
            for hour in hours
            if hour.status is HourStatus.VALID and hour.mean_co2_fraction is not None
        ]
        self._rate = mean_plus_two_sigma(rates) if len(rates) > 1 else None
        self._concentration = mean_plus_two_sigma(concentrations) if len(concentrations) > 1 else None

    def __call__(self, hour: Hour, _place: int) -> tuple[Method, float | None]:
        flow = hour.mean_flow_nm3_per_s
        if flow is not None and self._concentration is not None:
            return Method.MRR_CONCENTRATION, self._concentration * CO2_KG_PER_NM3 * flow * HOUR_S
        balance = self._balance(hour.start)
        if balance is not None:
            return Method.MASS_BALANCE, balance
        if self._rate is not None:
            return Method.MRR_RATE, self._rate * HOUR_S
        return Method.NONE, None


class _Epa:
    """40 CFR 75.33(b), on the hourly rate."""

    def __init__(
        self, hours: Sequence[Hour], fractions: Sequence[float], before: list[Hour], potential_kg_per_s: float
    ) -> None:
        self._potential = potential_kg_per_s
        self._rates: list[float | None] = [
            hour.mean_kg_per_s if hour.status is HourStatus.VALID else None for hour in hours
        ]
        self._off = [
            hour.status is not HourStatus.VALID and fraction == 0
            for hour, fraction in zip(hours, fractions, strict=True)
        ]
        self._earlier = _valid_rates(before)
        operating = [hour for hour, off in zip(hours, self._off, strict=True) if not off]
        valid = sum(hour.status is HourStatus.VALID for hour in operating)
        self._availability = valid / len(operating) if operating else 1.0
        self._known: dict[int, tuple[Method, float]] = {}

    def __call__(self, _hour: Hour, place: int) -> tuple[Method, float | None]:
        if place not in self._known:
            self._fill_gap(place)
        method, rate = self._known[place]
        return method, rate * HOUR_S

    def _fill_gap(self, place: int) -> None:
        """Work out all hours of the gap that begins here; hours in which nothing burned do not end a gap."""
        gap, end = [], place
        while end < len(self._rates) and (self._rates[end] is None):
            if not self._off[end]:
                gap.append(end)
            end += 1
        history = (self._earlier + [rate for rate in self._rates[:place] if rate is not None])[-LOOK_BACK_HOURS:]
        before = history[-1] if history else None
        after = self._rates[end] if end < len(self._rates) else None
        answer = epa_substitute(len(gap), self._availability, before, after, history, self._potential)
        self._known.update((at, answer) for at in gap)


@dataclass(frozen=True, slots=True)
class StackPeriod:
    """One stack over a period. ``co2_kg`` is None while an operating hour has no value at all."""

    hours: int
    """Of the period."""
    operating_hours: float
    """Sum of the operating fractions, estimates included."""
    valid_hours: int
    """Measured, and operating."""
    not_operating_hours: int
    substituted_hours: int
    unknown_hours: int
    """Operating, with neither a measurement nor anything to stand in for it."""
    measured_kg: float
    substituted_kg: float
    inflation_kg: float
    """How much more was substituted than the plain mean of the valid hours would give."""
    co2_kg: float | None
    availability: float | None
    """Valid operating hours over operating hours (40 CFR 75.32, equation 8); None if nothing operated."""
    longest_gap_h: int
    """Consecutive hours in which the boiler may have run and was not validly measured."""
    known_hours: int
    """Measured, or known to be off."""
    late_share: float
    """Of the readings, those that came out of a device's store."""
    product_of_means_kg: float | None
    """What mean concentration times mean flow would give for the valid hours that have both."""
    by_method: Mapping[Method, tuple[int, float]]
    """Hours and kg by method."""

    @property
    def must_notify(self) -> bool:
        """MRR Art 45(1): out of order for more than five days in a row."""
        return timedelta(hours=self.longest_gap_h) > NOTIFY_AFTER


def total(hours: Sequence[AccountHour]) -> StackPeriod:
    """The sums of a period. Those of measured masses add up over parts of it."""
    by_method: dict[Method, list[float]] = {}
    for hour in hours:
        by_method.setdefault(hour.method, []).append(hour.co2_kg or 0.0)
    measured = by_method.get(Method.MEASURED, [])
    unknown = by_method.get(Method.NONE, [])
    idle = by_method.get(Method.NOT_OPERATING, [])
    substituted = fsum(
        hour.co2_kg or 0.0 for hour in hours if hour.method not in {Method.MEASURED, Method.NOT_OPERATING, Method.NONE}
    )
    operating = len(hours) - len(idle)
    readings = sum(hour.hour.count for hour in hours)
    both = [
        hour for hour in hours if hour.method is Method.MEASURED and hour.hour.product_of_means_kg_per_s is not None
    ]
    return StackPeriod(
        hours=len(hours),
        operating_hours=fsum(hour.operating_fraction for hour in hours),
        valid_hours=len(measured),
        not_operating_hours=len(idle),
        substituted_hours=operating - len(measured) - len(unknown),
        unknown_hours=len(unknown),
        measured_kg=fsum(measured),
        substituted_kg=substituted,
        inflation_kg=fsum(hour.inflation_kg for hour in hours),
        co2_kg=None if unknown else fsum([*measured, substituted]),
        availability=len(measured) / operating if operating else None,
        longest_gap_h=_longest_gap(hours),
        known_hours=sum(hour.hour.status in {HourStatus.VALID, HourStatus.NOT_OPERATING} for hour in hours),
        late_share=sum(hour.hour.late_count for hour in hours) / readings if readings else 0.0,
        product_of_means_kg=fsum(
            (hour.hour.product_of_means_kg_per_s or 0.0) * HOUR_S * hour.operating_fraction for hour in both
        )
        if both and len(both) == len(measured)
        else None,
        by_method={method: (len(masses), fsum(masses)) for method, masses in sorted(by_method.items())},
    )


def _longest_gap(hours: Sequence[AccountHour]) -> int:
    longest = 0
    for measured, group in groupby(hours, key=lambda hour: hour.method in {Method.MEASURED, Method.NOT_OPERATING}):
        if not measured:
            longest = max(longest, sum(1 for _ in group))
    return longest


def annual_emission_t(conc_g_per_nm3: Sequence[float], flow_nm3_per_h: Sequence[float]) -> float:
    """Emission in t from hourly concentrations and flows (MRR Annex VIII, equation 1).

    Raises :class:`ValueError` where the two have different lengths.
    """
    if len(conc_g_per_nm3) != len(flow_nm3_per_h):
        raise ValueError(f"each hour needs both: {len(flow_nm3_per_h)} flows for {len(conc_g_per_nm3)} concentrations")
    return fsum(c * v for c, v in zip(conc_g_per_nm3, flow_nm3_per_h, strict=True)) * 1e-6
