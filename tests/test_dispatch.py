"""Who is told of which alerts, and when: the decisions alone, by tables and by a simulation with a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbontrack.dispatch import (
    ACKNOWLEDGED,
    CLEARED,
    ESCALATED,
    OF_ITS_BEING,
    RAISED,
    REPEATED,
    Audience,
    Case,
    Fold,
    Plan,
    Policy,
    Seat,
    Telling,
    decide,
    folds,
)
from tests.support.world import NAIROBI, NOON

POLICY = Policy(NAIROBI)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
CLERK, MANAGER, HQ_ONE, HQ_TWO = 1, 2, 8, 9
AUDIENCE = Audience({1: [CLERK, MANAGER]}, [HQ_ONE, HQ_TWO], dict.fromkeys((CLERK, MANAGER, HQ_ONE, HQ_TWO), "info"))


def case(number: int = 1, *, at: datetime = NOON, severity: str = "warning", **changed: Any) -> Case:
    values: dict[str, Any] = {"rule": "silent", "factory_id": 1, "raised_at": at}
    return Case(number, severity=severity, **(values | changed))


def told(*tellings: tuple[Seat, str, datetime]) -> tuple[Telling, ...]:
    return tuple(Telling(*telling) for telling in tellings)


def said(plan: Plan) -> dict[Seat, list[tuple[str, int]]]:
    return {message.seat: [(part.event, part.case.id) for part in message.parts] for message in plan.messages}


def decided(
    *cases: Case,
    now: datetime,
    policy: Policy = POLICY,
    audience: Audience = AUDIENCE,
    spoken: dict[Seat, datetime] | None = None,
) -> dict[Seat, list[tuple[str, int]]]:
    return said(decide(cases, audience, policy, spoken or {}, now))


# --- what waits for what


@pytest.mark.parametrize(
    ("severity", "after_s", "is_told"),
    [("warning", 59, False), ("warning", 60, True), ("critical", 4, False), ("critical", 5, True)],
)
def test_what_was_raised_waits_for_others(severity: str, after_s: int, is_told: bool) -> None:
    found = decided(case(severity=severity), now=NOON + timedelta(seconds=after_s))
    assert found == ({CLERK: [(RAISED, 1)]} if is_told else {})


def test_what_is_due_together_comes_in_one_message_and_in_its_order() -> None:
    late, early = case(2, at=NOON + SECOND), case(3)
    assert decided(late, early, now=NOON + 2 * MINUTE) == {CLERK: [(RAISED, 3), (RAISED, 2)]}


def test_whoever_was_told_something_just_now_is_told_the_rest_later() -> None:
    assert decided(case(), now=NOON + MINUTE, spoken={CLERK: NOON + 30 * SECOND}) == {}
    assert decided(case(), now=NOON + 90 * SECOND, spoken={CLERK: NOON + 30 * SECOND}) == {CLERK: [(RAISED, 1)]}


def test_what_is_critical_waits_only_a_moment_for_that() -> None:
    urgent = case(severity="critical")
    assert decided(urgent, now=NOON + MINUTE, spoken={CLERK: NOON + 55 * SECOND}) == {CLERK: [(RAISED, 1)]}
    assert decided(urgent, now=NOON + MINUTE, spoken={CLERK: NOON + 56 * SECOND}) == {}


def test_what_was_over_before_anybody_was_told_is_told_to_nobody_and_done() -> None:
    over = case(cleared_at=NOON + 10 * SECOND)
    plan = decide([over], AUDIENCE, POLICY, {}, NOON + 20 * SECOND)
    assert (plan.messages, plan.done) == ((), (1,))


def test_the_end_is_told_to_those_who_were_told_of_the_alert() -> None:
    over = case(
        cleared_at=NOON + HOUR, told=told((CLERK, RAISED, NOON + MINUTE), (MANAGER, ESCALATED, NOON + 31 * MINUTE))
    )
    plan = decide([over], AUDIENCE, POLICY, {}, NOON + HOUR + MINUTE)
    assert said(plan) == {CLERK: [(CLEARED, 1)], MANAGER: [(CLEARED, 1)]}
    assert plan.done == (1,)


def test_an_end_that_some_cannot_be_told_yet_is_not_done() -> None:
    over = case(cleared_at=NOON + HOUR, told=told((CLERK, RAISED, NOON), (MANAGER, ESCALATED, NOON)))
    now = NOON + HOUR + MINUTE
    plan = decide([over], AUDIENCE, POLICY, {CLERK: now - SECOND}, now)
    assert (said(plan), plan.done) == ({MANAGER: [(CLEARED, 1)]}, ())


def test_whoever_has_left_meanwhile_is_not_waited_for() -> None:
    over = case(cleared_at=NOON + HOUR, told=told((77, RAISED, NOON)))
    plan = decide([over], AUDIENCE, POLICY, {}, NOON + HOUR + MINUTE)
    assert (plan.messages, plan.done) == ((), (1,))


# --- up the ladder


@pytest.mark.parametrize(
    ("tellings", "level", "now", "expected"),
    [
        ([(CLERK, RAISED, 1)], 0, 30, {}),
        ([(CLERK, RAISED, 1)], 0, 31, {MANAGER: [(ESCALATED, 1)]}),
        ([(CLERK, RAISED, 1), (MANAGER, ESCALATED, 31)], 1, 60, {}),
        (
            [(CLERK, RAISED, 1), (MANAGER, ESCALATED, 31)],
            1,
            61,
            {CLERK: [(REPEATED, 1)], HQ_ONE: [(ESCALATED, 1)], HQ_TWO: [(ESCALATED, 1)]},
        ),
    ],
)
def test_who_comes_next_on_the_list_is_told_when_nobody_answers(
    tellings: list[tuple[int, str, int]], level: int, now: int, expected: dict[Seat, list[tuple[str, int]]]
) -> None:
    known = told(*((who, event, NOON + at * MINUTE) for who, event, at in tellings))
    assert decided(case(told=known, escalation=level), now=NOON + now * MINUTE) == expected


def test_after_the_last_there_is_no_next() -> None:
    known = told(*((who, RAISED, NOON) for who in (CLERK, MANAGER, HQ_ONE, HQ_TWO)))
    plan = decide([case(told=known, escalation=2)], AUDIENCE, POLICY, {}, NOON + 50 * MINUTE)
    assert plan == Plan()


def test_escalation_can_be_turned_off() -> None:
    policy = replace(POLICY, escalate_after=None, repeat_every=None)
    assert decided(case(told=told((CLERK, RAISED, NOON))), now=NOON + 100 * HOUR, policy=policy) == {}


def test_whom_nothing_reaches_is_passed_over() -> None:
    audience = replace(AUDIENCE, reach={MANAGER: "critical", HQ_ONE: "info"})
    assert decided(case(), now=NOON + MINUTE, audience=audience) == {HQ_ONE: [(RAISED, 1)]}
    assert decided(case(severity="critical"), now=NOON + MINUTE, audience=audience) == {MANAGER: [(RAISED, 1)]}


def test_a_factory_without_anybody_is_headquarters_at_once() -> None:
    found = decided(case(factory_id=5), now=NOON + MINUTE)
    assert found == {HQ_ONE: [(RAISED, 1)], HQ_TWO: [(RAISED, 1)]}


def test_an_alert_of_the_network_goes_to_all_of_headquarters_and_to_no_factory() -> None:
    network = case(factory_id=None, of_device=False)
    assert decided(network, now=NOON + MINUTE) == {HQ_ONE: [(RAISED, 1)], HQ_TWO: [(RAISED, 1)]}


def test_whoever_comes_onto_the_list_is_told_of_what_goes_on() -> None:
    changed = replace(AUDIENCE, factories={1: [77, CLERK]}, reach={**AUDIENCE.reach, 77: "info"})
    known = case(told=told((CLERK, RAISED, NOON)))
    assert decided(known, now=NOON + 2 * MINUTE, audience=changed) == {77: [(RAISED, 1)]}


# --- again, and not any more


def test_people_are_reminded_of_all_that_would_be_due_soon_at_once() -> None:
    policy = replace(POLICY, escalate_after=None)
    old = case(1, told=told((CLERK, RAISED, NOON)))
    half, young = (
        case(number, told=told((CLERK, RAISED, NOON + after * MINUTE))) for number, after in ((2, 30), (3, 31))
    )
    assert decided(half, young, now=NOON + HOUR, policy=policy) == {}
    assert decided(old, half, young, now=NOON + HOUR, policy=policy) == {CLERK: [(REPEATED, 1), (REPEATED, 2)]}


@pytest.mark.parametrize(
    "seen", [{"acknowledged_at": NOON + 2 * MINUTE}, {"shelved_until": NOON + 1000 * HOUR}, {"cleared_at": NOON + HOUR}]
)
def test_what_is_acknowledged_or_shelved_or_over_is_neither_repeated_nor_escalated(seen: dict[str, Any]) -> None:
    known = case(told=told((CLERK, RAISED, NOON)), **seen)
    found = decided(known, now=NOON + 100 * HOUR)
    assert found == ({CLERK: [(CLEARED, 1)]} if "cleared_at" in seen else {})


def test_what_was_put_aside_is_told_when_its_time_is_over() -> None:
    shelved = case(shelved_until=NOON + HOUR)
    assert decided(shelved, now=NOON + HOUR - SECOND) == {}
    assert decided(shelved, now=NOON + HOUR) == {CLERK: [(RAISED, 1)]}


def test_the_next_person_is_told_no_sooner_because_an_alert_was_put_aside() -> None:
    shelved = case(told=told((CLERK, RAISED, NOON)), shelved_until=NOON + 2 * HOUR)
    policy = replace(POLICY, repeat_every=None)
    assert decided(shelved, now=NOON + 2 * HOUR + MINUTE, policy=policy) == {}
    assert decided(shelved, now=NOON + 2 * HOUR + 30 * MINUTE, policy=policy) == {MANAGER: [(ESCALATED, 1)]}


# --- quiet hours

NIGHT = replace(POLICY, quiet=(time(21), time(6)))
MIDNIGHT = datetime(2026, 3, 1, 21, tzinfo=NOON.tzinfo)
"""In Nairobi."""


@pytest.mark.parametrize(
    ("local", "is_quiet"), [("20:59", False), ("21:00", True), ("00:00", True), ("05:59", True), ("06:00", False)]
)
def test_quiet_hours_go_over_midnight(local: str, is_quiet: bool) -> None:
    now = datetime.combine(NOON.date(), time.fromisoformat(local), NAIROBI)
    assert NIGHT.is_quiet("warning", now) is is_quiet
    assert not NIGHT.is_quiet("critical", now)
    by_day = replace(POLICY, quiet=(time(0), time(6)))
    assert by_day.is_quiet("info", now) is (local in {"00:00", "05:59"})


def test_what_comes_by_night_is_one_message_in_the_morning() -> None:
    found = [case(number, at=MIDNIGHT + number * MINUTE) for number in (1, 2, 3)]
    assert decided(*found, now=MIDNIGHT + 2 * HOUR, policy=NIGHT) == {}
    morning = MIDNIGHT + 6 * HOUR
    assert decided(*found, now=morning, policy=NIGHT) == {CLERK: [(RAISED, 1), (RAISED, 2), (RAISED, 3)]}


def test_what_is_critical_wakes_people_and_only_of_itself() -> None:
    found = decided(
        case(1, at=MIDNIGHT), case(2, at=MIDNIGHT, severity="critical"), now=MIDNIGHT + 2 * MINUTE, policy=NIGHT
    )
    assert found == {CLERK: [(RAISED, 2)]}


def test_the_next_person_is_not_told_by_night() -> None:
    known = case(at=MIDNIGHT - HOUR, told=told((CLERK, RAISED, MIDNIGHT - 20 * MINUTE)))
    assert decided(known, now=MIDNIGHT + 3 * HOUR, policy=replace(NIGHT, repeat_every=None)) == {}


# --- what tells once for all

MACHINES = replace(AUDIENCE, factories={}, headquarters=(), machines={"log": "info", "buzzer": "critical"})


def test_what_tells_all_is_told_once_and_by_night_and_of_the_acknowledgement() -> None:
    first = case(at=MIDNIGHT)
    assert decided(first, now=MIDNIGHT + MINUTE, policy=NIGHT, audience=MACHINES) == {"log": [(RAISED, 1)]}
    known = replace(first, told=told(("log", RAISED, MIDNIGHT)))
    assert decided(known, now=MIDNIGHT + 9 * HOUR, audience=MACHINES) == {}
    seen = replace(known, acknowledged_at=MIDNIGHT + HOUR)
    assert decided(seen, now=MIDNIGHT + HOUR, audience=MACHINES) == {"log": [(ACKNOWLEDGED, 1)]}
    told_of = replace(seen, told=(*known.told, Telling("log", ACKNOWLEDGED, MIDNIGHT + HOUR)))
    assert decided(told_of, now=MIDNIGHT + 2 * HOUR, audience=MACHINES) == {}
    over = replace(told_of, cleared_at=MIDNIGHT + 3 * HOUR)
    assert decided(over, now=MIDNIGHT + 4 * HOUR, audience=MACHINES) == {"log": [(CLEARED, 1)]}


# --- floods


def flood(count: int, *, factories: int = 2, step: timedelta = SECOND, **changed: Any) -> list[Case]:
    return [case(number, at=NOON + number * step, factory_id=number % factories, **changed) for number in range(count)]


def test_a_flood_over_several_factories_is_one_of_the_network() -> None:
    (found,) = folds(flood(27), POLICY, NOON + MINUTE)
    assert found == Fold("silent", "warning", NOON, NOON + 26 * SECOND)


@pytest.mark.parametrize(
    "cases",
    [
        flood(9),
        flood(27, factories=1),
        flood(27, step=7 * SECOND),
        flood(27, is_told=True),
        flood(27, of_device=False),
        flood(27, acknowledged_at=NOON),
        flood(27, cleared_at=NOON),
        flood(27, shelved_until=NOON + HOUR),
        [replace(it, rule=f"rule {it.id % 3}") for it in flood(27)],
    ],
)
def test_what_is_no_flood_is_left_alone(cases: list[Case]) -> None:
    assert folds(cases, POLICY, NOON + 5 * MINUTE) == ()


def test_floods_that_lie_apart_are_two() -> None:
    second = [replace(it, id=100 + it.id, raised_at=it.raised_at + HOUR) for it in flood(12)]
    assert [fold.since for fold in folds([*flood(12), *second], POLICY, NOON + 2 * HOUR)] == [NOON, NOON + HOUR]


# --- a long time, simulated


@dataclass
class World:
    """Alerts and what was told of them, kept as the database keeps it."""

    policy: Policy
    audience: Audience
    now: datetime = NOON
    cases: dict[int, Case] = field(default_factory=dict)
    spoken: dict[Seat, list[tuple[datetime, bool]]] = field(default_factory=dict)
    levels: list[tuple[int, int]] = field(default_factory=list)

    def look(self) -> None:
        last = {seat: times[-1][0] for seat, times in self.spoken.items()}
        plan = decide(list(self.cases.values()), self.audience, self.policy, last, self.now)
        for message in plan.messages:
            urgent = any(it.case.severity == "critical" and it.event in {RAISED, ESCALATED} for it in message.parts)
            self.spoken.setdefault(message.seat, []).append((self.now, urgent))
            for part in message.parts:
                known = self.cases[part.case.id]
                self.check(known, message.seat, part.event)
                telling = Telling(message.seat, part.event, self.now)
                self.cases[known.id] = replace(known, told=(*known.told, telling), is_told=True)
        for number, level in plan.levels.items():
            assert level == self.cases[number].escalation + 1, "one step at a time, and never back"
            self.cases[number] = replace(self.cases[number], escalation=level)
        for number in plan.done:
            assert self.cases[number].cleared_at is not None
            del self.cases[number]

    def check(self, known: Case, seat: Seat, event: str) -> None:
        """What must hold of everything that is told."""
        events = [it.event for it in known.told if it.seat == seat]
        if event == CLEARED:
            assert known.cleared_at is not None
            assert events, "whoever was not told of it does not hear of its end"
            assert CLEARED not in events
            return
        assert known.cleared_at is None
        if isinstance(seat, int):
            assert known.acknowledged_at is None, "nothing more of what somebody has seen"
            assert not known.is_shelved(self.now)
            assert not self.policy.is_quiet(known.severity, self.now)
        if event in {RAISED, ESCALATED}:
            assert not events
            assert self.now - known.raised_at >= self.policy.wait(known.severity)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["raise", "raise", "acknowledge", "clear", "shelve", "wait", "wait"]),
        st.integers(0, 5),
        st.sampled_from(["info", "warning", "critical"]),
        st.integers(1, 400),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(STEPS, st.booleans(), st.booleans(), st.booleans())
def test_over_a_long_time_all_promises_hold(
    steps: Sequence[tuple[str, int, str, int]], is_quiet: bool, has_log: bool, has_headquarters: bool
) -> None:
    world = World(
        replace(POLICY, quiet=(time(15), time(17)) if is_quiet else None),
        replace(
            AUDIENCE,
            machines={"log": "info"} if has_log else {},
            headquarters=AUDIENCE.headquarters if has_headquarters else (),
        ),
    )
    for number, (what, which, severity, seconds) in enumerate(steps, start=1):
        there = [it for it in world.cases.values() if it.cleared_at is None]
        known = there[which % len(there)] if there else None
        if what == "raise":
            world.cases[number] = case(number, at=world.now, severity=severity, factory_id=which % 2)
        elif known is not None:
            change: dict[str, dict[str, Any]] = {
                "acknowledge": {"acknowledged_at": world.now},
                "clear": {"cleared_at": world.now},
                "shelve": {"shelved_until": world.now + timedelta(seconds=seconds)},
                "wait": {},
            }
            world.cases[known.id] = replace(known, **change[what])
        for _ in range(max(1, seconds // 20)):
            world.now += 20 * SECOND
            world.look()

    for _ in range(4 * 60):  # and then nothing happens for long enough
        world.now += MINUTE
        world.look()
    for seat, times in world.spoken.items():
        for (before, _), (after, urgent) in pairwise(times):
            assert after - before >= world.policy.wait("critical" if urgent else ""), seat
    _check_the_end(world, has_headquarters=has_headquarters)


def _check_the_end(world: World, *, has_headquarters: bool) -> None:
    """Whoever is to hear of what goes on has heard of it."""
    for known in world.cases.values():
        reached = {it.seat for it in known.told if it.event in OF_ITS_BEING and isinstance(it.seat, int)}
        goes_on = known.cleared_at is None and known.acknowledged_at is None
        if goes_on and (known.factory_id == 1 or has_headquarters):
            assert reached, "somebody has been told of all that goes on"
        if goes_on and has_headquarters and world.policy.quiet is None:
            assert {HQ_ONE, HQ_TWO} <= reached, "and in the end everybody who is on duty"
