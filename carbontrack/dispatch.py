"""Who is told of which alerts, and when: pure decisions, without I/O and without a clock of their own.

What was told before is the only memory, and it is in the database: whoever decides again decides the same.

- What was raised waits for a moment (``fold``): others may come with it, and it may be over before anybody is told.
- A **seat** is somebody who is told: a person, by number, or a notification that tells once for all, by name. A seat is
  told at most once in each such moment, of all that is due by then.
- People are told by the **ladder** of an alert: the factory's duty list, one after the other, and then headquarters.
  The next step is taken when nobody has acknowledged in time; nobody ever steps back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo

from carbontrack.hours_of_day import Hours
from carbontrack.model import SEVERITIES

Seat = int | str
RAISED, ESCALATED, REPEATED, CLEARED, ACKNOWLEDGED = "raised", "escalated", "repeated", "cleared", "acknowledged"
EVENTS = (RAISED, ESCALATED, REPEATED, CLEARED, ACKNOWLEDGED)
"""The most important first."""
OF_ITS_BEING = frozenset({RAISED, ESCALATED, REPEATED})


@dataclass(frozen=True, slots=True)
class Policy:
    """How people are told. ``repeat_every`` and ``escalate_after`` are None for never."""

    zone: tzinfo
    fold: timedelta = timedelta(seconds=60)
    critical_fold: timedelta = timedelta(seconds=5)
    network_from: int = 10
    repeat_every: timedelta | None = timedelta(minutes=60)
    escalate_after: timedelta | None = timedelta(minutes=30)
    quiet: tuple[time, time] | None = None
    """From when to when, in ``zone``; it may go over midnight."""
    quiet_severities: frozenset[str] = frozenset({"info", "warning"})

    def wait(self, severity: str) -> timedelta:
        """How long what was raised waits for others."""
        return min(self.critical_fold, self.fold) if severity == "critical" else self.fold

    def is_quiet(self, severity: str, now: datetime) -> bool:
        """Whether people are left alone with what is so severe."""
        if self.quiet is None or severity not in self.quiet_severities:
            return False
        return Hours(*self.quiet, self.zone).has(now)


@dataclass(frozen=True, slots=True)
class Telling:
    """That a seat was told of an alert."""

    seat: Seat
    event: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Case:
    """An alert as far as it matters who is told of it. Without a factory it is one of the whole network."""

    id: int
    rule: str
    severity: str
    factory_id: int | None
    raised_at: datetime
    cleared_at: datetime | None = None
    acknowledged_at: datetime | None = None
    shelved_until: datetime | None = None
    is_told: bool = False
    """Whether anybody was told."""
    escalation: int = 0
    of_device: bool = True
    told: tuple[Telling, ...] = ()

    def is_shelved(self, now: datetime) -> bool:
        return self.shelved_until is not None and now < self.shelved_until


@dataclass(frozen=True, slots=True)
class Audience:
    """Who can be told. Duty lists hold people who are active and may see what they are told, in their order.

    ``reach`` says from which severity on somebody reaches a person, ``machines`` from which on a notification that
    tells once for all wants it.
    """

    factories: Mapping[int, Sequence[int]] = field(default_factory=dict)
    headquarters: Sequence[int] = ()
    reach: Mapping[int, str] = field(default_factory=dict)
    machines: Mapping[str, str] = field(default_factory=dict)

    def ladder(self, case: Case) -> list[list[int]]:
        """The steps by which people are told of an alert; nobody is on two of them."""

        def reached(people: Iterable[int]) -> list[int]:
            return [who for who in people if who in self.reach and is_at_least(case.severity, self.reach[who])]

        own = reached(dict.fromkeys(self.factories.get(case.factory_id, ()) if case.factory_id is not None else ()))
        rest = [who for who in reached(dict.fromkeys(self.headquarters)) if who not in own]
        return [*([who] for who in own), *([rest] if rest else [])]


@dataclass(frozen=True, slots=True)
class Part:
    """What a message says of one alert."""

    event: str
    case: Case


@dataclass(frozen=True, slots=True)
class Planned:
    """What one seat is told now, in one message; the parts are in the order in which the alerts were raised."""

    seat: Seat
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now."""

    messages: tuple[Planned, ...] = ()
    levels: Mapping[int, int] = field(default_factory=dict)
    """Alerts that go a step up the ladder, and to which."""
    done: tuple[int, ...] = ()
    """Alerts that are over, and of whose end everybody was told who is to be."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Alerts of one rule, raised in [since, until], that are one of the whole network."""

    rule: str
    severity: str
    since: datetime
    until: datetime


def is_at_least(severity: str, least: str) -> bool:
    """Whether one severity is as bad as another, or worse."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def worst(severities: Iterable[str]) -> str:
    """The worst of some severities."""
    return max(severities, key=SEVERITIES.index)


def folds(cases: Iterable[Case], policy: Policy, now: datetime) -> tuple[Fold, ...]:
    """The floods among alerts: ``network_from`` devices of several factories by one rule within ``fold``."""
    by_rule: dict[str, list[Case]] = {}
    for case in cases:
        if case.of_device and case.cleared_at is None and case.acknowledged_at is None and not case.is_shelved(now):
            by_rule.setdefault(case.rule, []).append(case)
    return tuple(found for rule in sorted(by_rule) for found in _folds_of(rule, by_rule[rule], policy))


def _folds_of(rule: str, cases: list[Case], policy: Policy) -> Iterator[Fold]:
    cases.sort(key=lambda case: case.raised_at)
    spans: list[tuple[int, int]] = []
    first = 0
    at: dict[int | None, int] = {}  # how many of the window are of which factory
    for last, case in enumerate(cases):
        at[case.factory_id] = at.get(case.factory_id, 0) + 1
        while case.raised_at - cases[first].raised_at > policy.fold:
            of = cases[first].factory_id
            at[of] -= 1
            if not at[of]:
                del at[of]
            first += 1
        if last - first + 1 >= policy.network_from and len(at) > 1:
            if spans and first <= spans[-1][1]:
                spans[-1] = spans[-1][0], last
            else:
                spans.append((first, last))
    for first, last in spans:
        members = cases[first : last + 1]
        if not all(case.is_told for case in members):
            severity = worst(case.severity for case in members)
            yield Fold(rule, severity, members[0].raised_at, members[-1].raised_at)


def decide(
    cases: Iterable[Case], audience: Audience, policy: Policy, spoken: Mapping[Seat, datetime], now: datetime
) -> Plan:
    """What is to be told now. ``spoken`` is when each seat was told anything last."""
    known = sorted(cases, key=lambda case: (case.raised_at, case.id))
    levels: dict[int, int] = {}
    wanted: dict[Seat, list[Part]] = {}
    repeats: dict[Seat, list[tuple[Part, timedelta]]] = {}
    for case in known:
        steps = audience.ladder(case)
        level = _level(case, steps, policy, now)
        if level > case.escalation:
            levels[case.id] = level
        for seat, event in _due(case, steps[: level + 1], audience, policy, now):
            wanted.setdefault(seat, []).append(Part(event, case))
        for seat, age in _repeatable(case, steps[: level + 1], policy, now):
            repeats.setdefault(seat, []).append((Part(REPEATED, case), age))
    _add_repeats(wanted, repeats, policy)
    messages = tuple(
        Planned(seat, tuple(sorted(parts, key=lambda part: (part.case.raised_at, part.case.id))))
        for seat, parts in wanted.items()
        if _may_be_told(seat, parts, policy, spoken, now)
    )
    told_now = {(message.seat, part.case.id) for message in messages for part in message.parts}
    done = tuple(case.id for case in known if case.cleared_at is not None and _is_done(case, audience, told_now, now))
    return Plan(messages, levels, done)


def _level(case: Case, steps: Sequence[Sequence[int]], policy: Policy, now: datetime) -> int:
    """How far up its ladder an alert is."""
    last = len(steps) - 1
    if last < 0:
        return case.escalation
    if case.escalation >= last or case.acknowledged_at is not None or case.cleared_at is not None:
        return case.escalation
    if policy.escalate_after is None or case.is_shelved(now) or policy.is_quiet(case.severity, now):
        return case.escalation
    first_told: dict[Seat, datetime] = {}
    for telling in case.told:
        first_told[telling.seat] = min(telling.at, first_told.get(telling.seat, telling.at))
    asked = [who for step in steps[: case.escalation + 1] for who in step]
    if any(who not in first_told for who in asked):
        return case.escalation  # they come first
    since = max(first_told[who] for who in asked)
    if case.shelved_until is not None:
        since = max(since, case.shelved_until)
    return case.escalation + (now - since >= policy.escalate_after)


def _due(
    case: Case, steps: Sequence[Sequence[int]], audience: Audience, policy: Policy, now: datetime
) -> Iterator[tuple[Seat, str]]:
    """What is to be told of one alert to whom, but for what is repeated."""
    if case.cleared_at is not None:
        if now - case.cleared_at >= policy.fold:
            waiting = _waiting_for_end(case, audience, now)
            yield from ((seat, CLEARED) for seat in waiting if _heeds(seat, case, policy, now))
    elif case.acknowledged_at is not None:
        told = {telling.seat for telling in case.told}
        seen = [name for name in audience.machines if name in told and not _was_told(case, name, ACKNOWLEDGED)]
        yield from ((name, ACKNOWLEDGED) for name in seen)
    elif not case.is_shelved(now) and now - case.raised_at >= policy.wait(case.severity):
        yield from _newly(case, steps, audience, policy, now)


def _newly(
    case: Case, steps: Sequence[Sequence[int]], audience: Audience, policy: Policy, now: datetime
) -> Iterator[tuple[Seat, str]]:
    """Who has not heard of an alert yet, and is to."""
    told = {telling.seat for telling in case.told}
    for name, least in audience.machines.items():
        if name not in told and is_at_least(case.severity, least):
            yield name, RAISED
    if not policy.is_quiet(case.severity, now):
        for number, step in enumerate(steps):
            yield from ((who, ESCALATED if number else RAISED) for who in step if who not in told)


def _heeds(seat: Seat, case: Case, policy: Policy, now: datetime) -> bool:
    return isinstance(seat, str) or not policy.is_quiet(case.severity, now)


def _was_told(case: Case, seat: Seat, event: str) -> bool:
    return any(telling.seat == seat and telling.event == event for telling in case.told)


def _waiting_for_end(case: Case, audience: Audience, now: datetime) -> list[Seat]:
    """Those who were told of an alert that is over, and not of its end; people not, where it was put aside."""
    seats = dict.fromkeys(telling.seat for telling in case.told)
    return [
        seat
        for seat in seats
        if not _was_told(case, seat, CLEARED)
        and (
            seat in audience.machines if isinstance(seat, str) else seat in audience.reach and not case.is_shelved(now)
        )
    ]


def _is_done(case: Case, audience: Audience, told_now: set[tuple[Seat, int]], now: datetime) -> bool:
    return all((seat, case.id) in told_now for seat in _waiting_for_end(case, audience, now))


def _repeatable(
    case: Case, steps: Sequence[Sequence[int]], policy: Policy, now: datetime
) -> Iterator[tuple[int, timedelta]]:
    """Who could be reminded of an alert, and for how long they have not been told of it."""
    if (
        policy.repeat_every is None
        or case.cleared_at is not None
        or case.acknowledged_at is not None
        or case.is_shelved(now)
        or policy.is_quiet(case.severity, now)
    ):
        return
    last: dict[Seat, datetime] = {}
    for telling in case.told:
        last[telling.seat] = max(telling.at, last.get(telling.seat, telling.at))
    for step in steps:
        for who in step:
            if who in last:
                yield who, now - last[who]


def _add_repeats(
    wanted: dict[Seat, list[Part]], repeats: Mapping[Seat, Sequence[tuple[Part, timedelta]]], policy: Policy
) -> None:
    """Who is reminded of one alert is reminded at once of all that would be soon: so reminders come together."""
    every = policy.repeat_every
    if every is None:
        return
    for seat, candidates in repeats.items():
        if any(age >= every for _, age in candidates):
            wanted.setdefault(seat, []).extend(part for part, age in candidates if age >= every / 2)


def _may_be_told(
    seat: Seat, parts: Sequence[Part], policy: Policy, spoken: Mapping[Seat, datetime], now: datetime
) -> bool:
    if seat not in spoken:
        return True
    is_urgent = any(part.case.severity == "critical" and part.event in {RAISED, ESCALATED} for part in parts)
    return now - spoken[seat] >= policy.wait("critical" if is_urgent else "")
