"""The whole pipeline against the truth: what a fault does to a figure, and whether it is noticed.

From simulated instruments through the chain, hours and substitution to a total, without a database; the wood that
really burnt stands for the fuel entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import fsum

from carbontrack.emissions.accounts import corroborate
from carbontrack.emissions.combustion import co2_kg_from_wood_kg
from carbontrack.emissions.hours import HOUR_S, Point, hour_of, missing_hour, summarise
from carbontrack.emissions.rate import emission_rate, site_pressure_kpa
from carbontrack.emissions.substitution import substitute, total
from carbontrack.ledger import Hour, HourStatus
from carbontrack.model import Factory, Flag, Sample
from carbontrack.simulator.demo_fleet import DemoStack
from carbontrack.simulator.faults import Fault, FaultKind, LineFault, disturb
from carbontrack.simulator.instruments import Instruments

STUCK_AFTER_S = 600
HOUR_MS = HOUR_S * 1000


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault, if any, of the instruments or on the line, from the third day to the last but one."""

    name: str
    fault: FaultKind | None = None
    size: float = 0.0
    line: LineFault | None = None
    begins: float = 0.3
    """Share of the time that has passed when it begins; drifts begin at once."""
    ends: float = 0.8


SCENARIOS = (
    Scenario("clean"),
    Scenario("span drift -3 %/month", FaultKind.SPAN_DRIFT, -0.03, begins=0, ends=1),
    Scenario("span drift -20 %/month", FaultKind.SPAN_DRIFT, -0.20, begins=0, ends=1),
    Scenario("zero drift +0.1 point/month", FaultKind.ZERO_DRIFT, 1000, begins=0, ends=1),
    Scenario("CO2 stuck", FaultKind.CO2_STUCK, 93_400),
    Scenario("room-air sensor, 5,000 ppm", FaultKind.SATURATED, 5000, begins=0, ends=1),
    Scenario("sample line leaks, CO2 x 0.6", FaultKind.SAMPLE_LINE_LEAK, 0.6),
    Scenario("sample pump stops", FaultKind.PUMP_STOPPED, 120),
    Scenario("per cent sent as ppm", FaultKind.UNIT_SLIP),
    Scenario("CO2 without a value", FaultKind.NO_VALUE),
    Scenario("thermocouple open, 1,372 degC", FaultKind.THERMOCOUPLE_OPEN, 1372),
    Scenario("thermocouple loose, -30 %/month", FaultKind.THERMOCOUPLE_DETACHED, 0.30, begins=0, ends=1),
    Scenario("anemometer fouled, -5 %/month", FaultKind.VELOCITY_FOULED, -0.05, begins=0, ends=1),
    Scenario("anemometer seized at 0", FaultKind.VELOCITY_SEIZED, 0.0),
    Scenario("anemometer seized at 3 m/s", FaultKind.VELOCITY_SEIZED, 3.0),
    Scenario("power cut", line=LineFault.POWER_CUT, begins=0.5, ends=0.6),
    Scenario("link lost, all comes later", line=LineFault.LINK_LOST),
    Scenario("link lost, half is gone", line=LineFault.BUFFER_OVERFLOW, begins=0.5, ends=0.7),
    Scenario("clock 5 min ahead", line=LineFault.CLOCK_AHEAD),
    Scenario("duplicates", line=LineFault.DUPLICATED),
    Scenario("reordered", line=LineFault.REORDERED),
)


@dataclass(frozen=True, slots=True)
class Score:
    """How one scenario ended. Biases are relative to the true mass of the whole time."""

    scenario: Scenario
    true_kg: float
    measured_bias: float
    """Of what the valid hours add up to, with nothing in place of the others."""
    bias: float | None
    """Of the account's mass, with what was substituted; None where nothing could be."""
    detected: float | None
    """Share of the faulty operating hours that are not valid; None without a fault."""
    false_alarms: float
    """Share of the hours without a fault that are not valid."""
    ratio: float | None
    """Measured over fuel-based CO2: what finds a fault that no flag shows."""
    ratio_alarm: bool


def score(
    scenario: Scenario, stack: DemoStack, factory: Factory, start: datetime, days: float, step_s: int = 30
) -> Score:
    """Run one scenario."""
    start_ms = round(start.timestamp() * 1000)
    length_ms = round(days * 86_400_000)
    since_ms, until_ms = (start_ms + round(share * length_ms) for share in (scenario.begins, scenario.ends))
    faults = [Fault(scenario.fault, since_ms, until_ms, scenario.size)] if scenario.fault is not None else []
    instruments = Instruments(stack, factory, faults)
    at = range(start_ms, start_ms + length_ms, step_s * 1000)
    truths = [instruments.truth(at_ms) for at_ms in at]
    true_kg = fsum(truth.co2_kg_per_s for truth in truths) * step_s
    wood_kg = fsum(truth.wood_kg_per_s for truth in truths) * step_s
    samples = [_sample(instruments, number, at_ms) for number, at_ms in enumerate(at, 1)]
    if scenario.line is not None:
        samples = disturb(samples, scenario.line, since_ms, until_ms)
    hours = _hours(samples, stack, factory, start, days)
    wood_co2_kg = co2_kg_from_wood_kg(wood_kg, instruments.moisture)
    running = {at_ms // HOUR_MS for at_ms, truth in zip(at, truths, strict=True) if truth.heat == 1}
    balance = wood_co2_kg / max(1, len(running))
    period = total(substitute(hours, balance_kg_per_h=lambda _: balance))
    corroboration = corroborate(period.co2_kg, wood_co2_kg)
    has_fault = scenario.fault is not None or scenario.line in {LineFault.POWER_CUT, LineFault.BUFFER_OVERFLOW}
    faulty = [hour for hour in hours if has_fault and since_ms <= _ms(hour) and _ms(hour) + HOUR_MS <= until_ms]
    clean = [hour for hour in hours if not has_fault or _ms(hour) + HOUR_MS <= since_ms or _ms(hour) >= until_ms]
    return Score(
        scenario,
        true_kg,
        fsum(hour.co2_kg or 0.0 for hour in hours) / true_kg - 1,
        None if period.co2_kg is None else period.co2_kg / true_kg - 1,
        _share_not_valid([hour for hour in faulty if _ms(hour) // HOUR_MS in running]) if has_fault else None,
        _share_not_valid(clean) or 0.0,
        corroboration.ratio,
        corroboration.ratio is not None and not 0.85 <= corroboration.ratio <= 1.15,
    )


def _ms(hour: Hour) -> int:
    return round(hour.start.timestamp() * 1000)


def _share_not_valid(hours: Sequence[Hour]) -> float | None:
    bad = sum(hour.status not in {HourStatus.VALID, HourStatus.NOT_OPERATING} for hour in hours)
    return bad / len(hours) if hours else None


def _sample(instruments: Instruments, number: int, at_ms: int) -> Sample:
    measured = instruments.read(at_ms)
    return Sample(
        number,
        at_ms,
        co2_ppm=measured.co2_ppm,
        temperature_c=measured.temperature_c,
        velocity_ms=measured.velocity_ms,
        pressure_kpa=measured.pressure_kpa,
        status=measured.status,
    )


def _hours(samples: Sequence[Sample], stack: DemoStack, factory: Factory, start: datetime, days: float) -> list[Hour]:
    """Every hour of the time, as the tiers make it. Samples may come in any order, and twice."""
    once = {sample.seq: sample for sample in samples}
    ordered = sorted(once.values(), key=lambda sample: (sample.device_time_ms, sample.seq))
    stuck = _stuck(ordered)
    kpa = site_pressure_kpa(factory)
    points = [
        Point(
            sample.device_time_ms,
            emission_rate(sample, stack.plan, kpa, sample.status | (_STUCK if sample.seq in stuck else 0)),
        )
        for sample in ordered
    ]
    by_hour = {hour: list(group) for hour, group in groupby(points, key=lambda point: point.at_ms // HOUR_MS)}
    found = []
    for number in range(round(days * 24)):
        hour = round(start.timestamp()) // HOUR_S + number
        around = [point for near in (hour - 1, hour, hour + 1) for point in by_hour.get(near, [])]
        parts = [summarise(around, 1, hour * HOUR_MS + bucket * 300_000) for bucket in range(12)]
        begin = start + timedelta(hours=number)
        known = [part for part in parts if part is not None]
        found.append(hour_of(known, begin) if known else missing_hour(1, begin))
    return found


_STUCK = int(Flag.STUCK)


def _stuck(ordered: Sequence[Sample]) -> set[int]:
    """Samples of a CO2 channel that has given the very same value for too long, by the rule of the intake."""
    found: set[int] = set()
    for value, group in groupby(ordered, key=lambda sample: sample.co2_ppm):
        run = list(group)
        if value is not None and value >= 10_000 and len(run) >= 12:
            found |= {
                sample.seq for sample in run if sample.device_time_ms - run[0].device_time_ms >= STUCK_AFTER_S * 1000
            }
    return found


def table(scores: Sequence[Score]) -> str:
    """The scores as a table in Markdown."""
    lines = [
        "| Fault | Bias, valid hours | Bias, account | Faulty hours found | False alarms | Measured / fuel |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in scores:
        alarm = " **!**" if each.ratio_alarm else ""
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}{alarm}"
        lines.append(
            f"| {each.scenario.name} | {each.measured_bias:+.1%} | {_percent(each.bias, '+.1%')} | "
            f"{_percent(each.detected, '.0%')} | {each.false_alarms:.1%} | {ratio} |"
        )
    return "\n".join(lines)


def _percent(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def month_start() -> datetime:
    """The beginning of the month that the documentation's table is of: 1 March 2026 in Kenya."""
    return datetime(2026, 2, 28, 21, tzinfo=UTC)
