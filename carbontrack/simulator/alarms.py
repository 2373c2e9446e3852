"""A month of simulated chimneys before the alert rules: which faults they find, how soon, and how often for nothing.

The readings are those of simulated instruments with the platform's own flags and rates; the rules and their steps are
those of a running core (:mod:`carbontrack.alert_trial`). Each fault is there for a day, again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import median

from carbontrack.alert_trial import Firing, Run
from carbontrack.alerts import RuleInstance
from carbontrack.emissions.rate import site_pressure_kpa
from carbontrack.hookspecs import AlertRule
from carbontrack.model import Device, Factory, Flag, Measurement, Site, Stack
from carbontrack.simulator.boiler import chance
from carbontrack.simulator.demo_fleet import UNFIT, UNFIT_RANGE_PPM, DemoStack
from carbontrack.simulator.faults import Fault, FaultKind, LineFault
from carbontrack.simulator.instruments import Instruments
from carbontrack.tiers import Measured, reading_of

DAY = timedelta(days=1)
EVERY_DAYS = 3
"""A fault begins on every third day, at another hour each time, and lasts for one."""
AFTERWARDS = timedelta(hours=3)
"""An alert that begins so soon after a fault is still of it: an analyser and a rule need time to come back."""
FEWEST_FIRING_S = 7200
"""A fault that shows only while the boiler fires, of a day on which it fires for less, does not count."""

Rules = Sequence[RuleInstance[AlertRule]]


@dataclass(frozen=True, slots=True)
class Case:
    """A fault that comes again and again, and which alerts are to find it within how long.

    ``by_fire``: it shows only while the boiler fires, and so long is counted. ``alerts`` empty: it is none that
    anybody has to know of. ``is_unfit``: the analyser is made for room air and its plan says so, from the first day on.
    """

    name: str
    alerts: tuple[str, ...]
    within_s: float
    fault: FaultKind | None = None
    size: float = 0.0
    line: LineFault | None = None
    by_fire: bool = False
    is_unfit: bool = False


CASES = (
    Case("CO2 stuck", ("co2-stuck",), 600, FaultKind.CO2_STUCK, 93_400, by_fire=True),
    Case("room-air sensor, 5,000 ppm", ("co2-stuck",), 600, FaultKind.SATURATED, 5000, by_fire=True),
    Case("analyser unfit for flue gas", ("co2-over-range",), 120, is_unfit=True),
    Case("sample pump stops", ("co2-stuck", "implausible"), 3900, FaultKind.PUMP_STOPPED, 120, by_fire=True),
    Case("per cent sent as ppm", ("co2-stuck", "implausible"), 3900, FaultKind.UNIT_SLIP, by_fire=True),
    Case("CO2 without a value", ("sensor-fault",), 300, FaultKind.NO_VALUE),
    Case("thermocouple open, 1,372 degC", ("implausible",), 300, FaultKind.THERMOCOUPLE_OPEN, 1372),
    Case(
        "anemometer seized at 0", ("implausible", "velocity-stuck"), 600, FaultKind.VELOCITY_SEIZED, 0.0, by_fire=True
    ),
    Case("anemometer seized at 3 m/s", ("velocity-stuck",), 600, FaultKind.VELOCITY_SEIZED, 3.0, by_fire=True),
    Case("power cut", ("device-silent",), 900, line=LineFault.POWER_CUT),
    Case("link lost, all comes later", ("device-silent",), 900, line=LineFault.LINK_LOST),
    Case("link lost, half is gone", ("device-silent",), 900, line=LineFault.BUFFER_OVERFLOW),
    Case("clock 5 min ahead", (), 0, line=LineFault.CLOCK_AHEAD),
    Case("duplicates", (), 0, line=LineFault.DUPLICATED),
    Case("reordered", (), 0, line=LineFault.REORDERED),
    Case("nothing", (), 0),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one case on one chimney."""

    case: Case
    injected: int
    times_s: tuple[float, ...]
    """How long each one that was found took."""
    within: int
    """How many were found within their alert's time."""
    false_alarms: tuple[Firing, ...]
    healthy_weeks: float
    """How long the device was without a fault."""
    by_alert: dict[str, int] = field(default_factory=dict)


def watch(
    case: Case, stack: DemoStack, factory: Factory, rules: Rules, start: datetime, days: int, step_s: int
) -> Found:
    """Run one case on one chimney."""
    if case.is_unfit:
        stack = replace(stack, plan=replace(stack.plan, co2_range_ppm=UNFIT_RANGE_PPM), fault=UNFIT)
    spans = list(_spans(case, stack, start, days))
    site = Site(factory, Stack(1, factory.id, stack.name, (stack.plan,)), Device(1, stack.device_id, factory.id, 1))
    faults = [Fault(case.fault, _ms(since), _ms(until), case.size) for since, until in spans if case.fault is not None]
    instruments = Instruments(stack, factory, faults)
    runs = {rule.name: Run(site, rule, start) for rule in rules}
    measured = Measured(1, (stack.plan,), site_pressure_kpa(factory))
    fires: set[int] = set()
    for number in range(days):
        begin = start + number * DAY
        rows = list(_day(instruments, begin, step_s, fires))
        lines = [span for span in spans if case.line is not None and span[0] < begin + DAY and span[1] > begin]
        readings = [reading_of(row, measured) for row in _on_the_line(rows, case.line, lines)]
        for run in runs.values():
            run.take(readings, begin + DAY)
    return _judged(case, spans, runs, fires, days, step_s)


def _spans(case: Case, stack: DemoStack, start: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    if case.is_unfit:
        yield start, start + days * DAY
    if case.fault is None and case.line is None:
        return
    for day in range(1, days - 1, EVERY_DAYS):
        since = start + (day + chance(stack.seed, f"fault {case.name}", day)) * DAY
        if since + DAY < start + days * DAY:
            yield since, since + DAY


def _day(instruments: Instruments, begin: datetime, step_s: int, fires: set[int]) -> Iterator[Measurement]:
    """The readings of a day as they would be kept; ``fires`` takes the moments at which the boiler fires."""
    begin_ms = _ms(begin)
    for at_ms in range(begin_ms, begin_ms + 86_400_000, step_s * 1000):
        seen = instruments.read(at_ms)
        if instruments.truth(at_ms).heat == 1:
            fires.add(at_ms)
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        number = at_ms // 1000
        values = seen.co2_ppm, seen.temperature_c, seen.velocity_ms, None, seen.pressure_kpa
        yield Measurement(1, 1, number, at, at + timedelta(milliseconds=300), *values, seen.status)


def _on_the_line(
    rows: list[Measurement], fault: LineFault | None, spans: Sequence[tuple[datetime, datetime]]
) -> list[Measurement]:
    """The readings as the platform keeps them: when they came, and what intake makes of a wrong clock."""
    kept = rows
    for since, until in spans:
        inside = [row for row in kept if since <= row.measured_at < until]
        others = [row for row in kept if not since <= row.measured_at < until]
        half = since + (until - since) / 2
        match fault:
            case LineFault.POWER_CUT:
                inside = []
            case LineFault.LINK_LOST:
                inside = [_late(row, until) for row in inside]
            case LineFault.BUFFER_OVERFLOW:
                inside = [_late(row, until) for row in inside if row.measured_at >= half]
            case LineFault.CLOCK_AHEAD:  # set back to when it came, and flagged
                inside = [_changed(row, flags=row.flags | Flag.CLOCK_FUTURE) for row in inside]
            case _:  # copies are kept once, and readings in the order in which they were measured
                pass
        kept = sorted([*others, *inside], key=lambda row: row.measured_at)
    return kept


def _late(row: Measurement, until: datetime) -> Measurement:
    return _changed(row, received_at=until + timedelta(seconds=60), flags=row.flags | Flag.BACKLOG)


def _changed(row: Measurement, *, received_at: datetime | None = None, flags: int) -> Measurement:
    values = {name: getattr(row, name) for name in Measurement.__struct_fields__}
    return Measurement(**values | {"received_at": received_at or row.received_at, "flags": int(flags)})


def _judged(
    case: Case,
    spans: Sequence[tuple[datetime, datetime]],
    runs: dict[str, Run],
    fires: set[int],
    days: int,
    step_s: int,
) -> Found:
    times: list[float] = []
    injected = within = 0
    by_alert: dict[str, int] = {}
    for since, until in spans:
        firing_s = step_s * sum(_ms(since) <= at_ms < _ms(until) for at_ms in fires) if case.by_fire else 0
        if not case.alerts or (case.by_fire and firing_s < FEWEST_FIRING_S):
            continue
        injected += 1
        raised = [
            (firing.raised_at, name)
            for name in case.alerts
            for firing in runs[name].firings
            if since <= firing.raised_at < until
        ]
        if not raised:
            continue
        first, name = min(raised)
        by_alert[name] = by_alert.get(name, 0) + 1
        took_s = (first - since).total_seconds()
        if case.by_fire:
            took_s = step_s * sum(_ms(since) <= at_ms < _ms(first) for at_ms in fires)
        times.append(took_s)
        within += took_s <= case.within_s + 2 * step_s + 10
    false_alarms = tuple(
        firing
        for run in runs.values()
        for firing in run.firings
        if not case.alerts or not any(since <= firing.raised_at < until + AFTERWARDS for since, until in spans)
    )
    faulty = sum((until - since + AFTERWARDS for since, until in spans), timedelta(0)) if case.alerts else timedelta(0)
    weeks = max(timedelta(0), days * DAY - faulty) / timedelta(weeks=1)
    return Found(case, injected, tuple(times), within, false_alarms, weeks, by_alert)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def table(found: Sequence[Found]) -> str:
    """What was found, as tables in Markdown: by fault, and false alarms by alert."""
    lines = [
        "| Fault | Found by | Injected | Found | Within its alert's time | Median time to detect |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    cases = [case for case in dict.fromkeys(each.case for each in found) if case.alerts]
    lines += [_row(case, [each for each in found if each.case is case]) for case in cases]
    weeks = sum(each.healthy_weeks for each in found)
    false_alarms = [firing for each in found for firing in each.false_alarms]
    if weeks:
        rate = f"{len(false_alarms) / weeks:.3f} a week"
        lines += ["", f"False alarms: {len(false_alarms)} in {weeks:.0f} device-weeks, {rate}."]
    return "\n".join(lines)


def _row(case: Case, found: Sequence[Found]) -> str:
    injected, times = sum(each.injected for each in found), [time for each in found for time in each.times_s]
    by = sorted({name for each in found for name in each.by_alert}) or case.alerts
    within = sum(each.within for each in found)
    took = f"{median(times) / 60:.1f} min" + (" of fire" if case.by_fire else "") if times else "-"
    limit = f"{case.within_s / 60:.0f} min"
    return f"| {case.name} | {', '.join(by)} | {injected} | {len(times)} | {within} ({limit}) | {took} |"
