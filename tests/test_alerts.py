"""When an alert begins and ends, and what the rule "limit" says of a reading."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tortoise.backends.base.executor import EXECUTOR_CACHE

from carbontrack.alerts import LONGEST_SILENCE, RuleInstance, held_until, is_worth_keeping, step
from carbontrack.device import DeviceActor
from carbontrack.hookspecs import AlertRule, Observation, Verdict
from carbontrack.metrics import Metrics
from carbontrack.model import (
    INACTIVE,
    AlertState,
    Device,
    Factory,
    Finding,
    Flag,
    MonitoringPlan,
    Origin,
    Site,
    Snapshot,
    Stack,
    Standing,
)
from carbontrack.plugins.alerts.limit import LIMIT, LimitOptions
from tests.support.world import NOON_MS, Core, body, eventually, migrated_store, register
from tests.support.world import core as running

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SITE = Site(
    Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0),
    Stack(11, 1, "Boiler 1", (MonitoringPlan(),)),
    Device(21, "ct-0001", 1, 11),
)
SNAPSHOT = Snapshot("ct-0001", 1, 11, online=True)
OPTIONS = LimitOptions(quantity="co2_kg_per_s", raise_above=0.60, clear_below=0.55)

ABOVE, BETWEEN, BELOW, MISSING = 0.7, 0.58, 0.5, None


def rule(hold_s: float = 60.0) -> RuleInstance[AlertRule]:
    return RuleInstance("co2-rate-high", LIMIT, OPTIONS, "warning", hold_s)


def verdict_on(value: float | None, options: LimitOptions = OPTIONS) -> Verdict:
    snapshot = msgspec.structs.replace(SNAPSHOT, **{options.quantity: value})
    return LIMIT.evaluate(options, Observation(SITE, snapshot, NOON, 0.0, {}))


def states_after(values: Sequence[float | None], *, hold_s: float = 60.0, every_s: float = 20.0) -> list[str]:
    """Where the rule stands after each of these readings."""
    standing, states = INACTIVE, []
    for number, value in enumerate(values):
        measured_at = NOON + timedelta(seconds=number * every_s)
        standing = step(standing, rule(hold_s), verdict_on(value), measured_at)
        states.append(standing.state.value)
    return states


class TestSteps:
    def test_a_breach_fires_when_it_has_held(self) -> None:
        assert states_after([BELOW, ABOVE, ABOVE, ABOVE, ABOVE, ABOVE]) == [
            "inactive",
            "pending",
            "pending",
            "pending",
            "firing",
            "firing",
        ]

    def test_a_breach_that_ends_in_time_was_none(self) -> None:
        assert states_after([ABOVE, ABOVE, BELOW, ABOVE]) == ["pending", "pending", "inactive", "pending"]

    def test_the_hold_begins_anew_after_a_break(self) -> None:
        assert "firing" not in states_after([ABOVE, ABOVE, ABOVE, BELOW, ABOVE, ABOVE, ABOVE])

    def test_without_a_hold_it_fires_at_once(self) -> None:
        assert states_after([ABOVE], hold_s=0) == ["firing"]

    def test_a_value_that_hovers_at_the_limit_rings_once(self) -> None:
        states = states_after([ABOVE] * 4 + [BETWEEN, ABOVE] * 10 + [BETWEEN, BELOW, BELOW])

        assert states[3:-2] == ["firing"] * 22
        assert states[-2:] == ["inactive", "inactive"]

    def test_a_value_that_is_missing_does_not_end_an_alert(self) -> None:
        assert states_after([ABOVE, MISSING, BELOW], hold_s=0) == ["firing", "firing", "inactive"]

    def test_a_value_that_is_missing_does_not_begin_one(self) -> None:
        assert states_after([MISSING, MISSING], hold_s=0) == ["inactive", "inactive"]

    def test_a_value_that_is_missing_does_not_break_a_hold(self) -> None:
        """Verdict: neither breached nor cleared "leaves it as it is"; a channel that drops out would never ring."""
        assert states_after([ABOVE, MISSING, ABOVE, ABOVE])[-1] == "firing"

    def test_a_breach_after_hours_of_silence_begins_anew(self) -> None:
        """Nobody knows that it held meanwhile."""
        pending = step(INACTIVE, rule(), verdict_on(ABOVE), NOON)

        after = step(pending, rule(), verdict_on(ABOVE), NOON + timedelta(hours=3))

        assert (after.state, after.since) == (AlertState.PENDING, NOON + timedelta(hours=3))

    def test_it_remembers_when_the_breach_began(self) -> None:
        pending = step(INACTIVE, rule(), verdict_on(ABOVE), NOON)
        firing = step(pending, rule(), verdict_on(ABOVE), NOON + timedelta(seconds=60))

        assert pending == Standing(AlertState.PENDING, NOON, NOON)
        assert firing == Standing(AlertState.FIRING, NOON)

    @given(st.lists(st.sampled_from([ABOVE, BETWEEN, BELOW, MISSING]), max_size=60), st.sampled_from([0.0, 20.0, 60.0]))
    def test_an_alert_begins_with_a_breach_and_ends_with_a_clear_value(
        self, values: list[float | None], hold_s: float
    ) -> None:
        states = ["inactive", *states_after(values, hold_s=hold_s)]

        for before, after, value in zip(states, states[1:], values, strict=False):
            if after == "firing" and before != "firing":
                assert value == ABOVE
            if before == "firing" and after != "firing":
                assert value == BELOW
                assert after == "inactive"


class TestClearing:
    """All must be well for some time before an alert ends."""

    def after(self, values: Sequence[float | None], *, every_s: float = 20.0) -> list[str]:
        instance, standing, states = replace(rule(0), clear_after_s=60.0), INACTIVE, []
        for number, value in enumerate(values):
            standing = step(standing, instance, verdict_on(value), NOON + timedelta(seconds=number * every_s))
            states.append(standing.state.value)
        return states

    def test_it_ends_when_it_has_been_well_long_enough(self) -> None:
        assert self.after([ABOVE, BELOW, BELOW, BELOW, BELOW]) == ["firing"] * 4 + ["inactive"]

    def test_a_breach_in_between_begins_the_wait_anew(self) -> None:
        assert self.after([ABOVE, BELOW, BELOW, ABOVE, BELOW, BELOW, BELOW, BELOW])[-2:] == ["firing", "inactive"]

    def test_a_value_that_is_missing_or_between_does_not(self) -> None:
        assert self.after([ABOVE, BELOW, MISSING, BETWEEN, BELOW])[-1] == "inactive"

    def test_a_device_that_sends_rarely_can_end_an_alert_too(self) -> None:
        assert self.after([ABOVE, BELOW, BELOW], every_s=600) == ["firing", "firing", "inactive"]

    @given(st.lists(st.sampled_from([ABOVE, BETWEEN, BELOW, MISSING]), max_size=60), st.floats(0, 200))
    def test_it_never_ends_sooner_than_without_a_wait(self, values: list[float | None], clear_after_s: float) -> None:
        at_once = states_after(values, hold_s=0)
        instance, standing = replace(rule(0), clear_after_s=clear_after_s), INACTIVE
        for number, (value, quick) in enumerate(zip(values, at_once, strict=True)):
            standing = step(standing, instance, verdict_on(value), NOON + timedelta(seconds=number * 20.0))
            if quick == "firing":
                assert standing.state is AlertState.FIRING


# --- whatever comes, in whatever order and at whatever distance

KINDS = {
    "breached": Verdict(breached=True, cleared=False),
    "between": Verdict(breached=False, cleared=False),
    "cleared": Verdict(breached=False, cleared=True),
}
LOOKS = st.lists(st.tuples(st.sampled_from(list(KINDS)), st.floats(0.5, 400)), max_size=80)
"""What a rule says, and how many seconds after the look before."""
INSTANCES = st.builds(
    lambda hold_s, clear_after_s: replace(rule(hold_s), clear_after_s=clear_after_s),
    st.sampled_from([0.0, 30.0, 60.0, 300.0]),
    st.sampled_from([0.0, 60.0, 300.0]),
)


@dataclass(frozen=True)
class Look:
    """One look: what was said when, and where the rule stood before and after."""

    kind: str
    at: datetime
    before: Standing
    after: Standing

    @property
    def raised(self) -> bool:
        return self.before.state is not AlertState.FIRING and self.after.state is AlertState.FIRING

    @property
    def ended(self) -> bool:
        return self.before.state is AlertState.FIRING and self.after.state is not AlertState.FIRING


def looked(looks: Sequence[tuple[str, float]], instance: RuleInstance[AlertRule]) -> list[Look]:
    at, standing, found = NOON, INACTIVE, []
    for kind, apart_s in looks:
        at += timedelta(seconds=apart_s)
        after = step(standing, instance, KINDS[kind], at)
        found.append(Look(kind, at, standing, after))
        standing = after
    return found


class TestProperties:
    @given(LOOKS, INSTANCES)
    def test_nothing_is_raised_that_has_not_held(
        self, looks: list[tuple[str, float]], instance: RuleInstance[AlertRule]
    ) -> None:
        found = looked(looks, instance)
        for number, look in enumerate(found):
            if not look.raised:
                continue
            assert look.kind == "breached"
            since = look.after.since
            assert since is not None
            assert look.at - since >= timedelta(seconds=instance.hold_s)
            held = [each for each in found[: number + 1] if each.at >= since]
            assert held[0].kind == "breached", "it began with a breach"
            assert all(each.kind != "cleared" for each in held), "and never was well"
            apart = [later.at - earlier.at for earlier, later in pairwise(held)]
            assert all(each <= LONGEST_SILENCE for each in apart), "and was seen to hold all the time"

    @given(LOOKS, INSTANCES)
    def test_inside_the_band_nothing_changes(
        self, looks: list[tuple[str, float]], instance: RuleInstance[AlertRule]
    ) -> None:
        for look in looked(looks, instance):
            if look.kind == "between":
                assert replace(look.after, seen_at=None) == replace(look.before, seen_at=None)

    @given(LOOKS, INSTANCES)
    def test_between_two_alerts_it_was_well_for_long_enough(
        self, looks: list[tuple[str, float]], instance: RuleInstance[AlertRule]
    ) -> None:
        well_since: datetime | None = None
        is_open = False
        for look in looked(looks, instance):
            if look.raised:
                assert not is_open, "one that is open is not raised again"
                is_open, well_since = True, None
            elif is_open:
                well_since = None if look.kind == "breached" else well_since
                if look.kind == "cleared":
                    well_since = well_since or look.at
                if look.ended:
                    assert well_since is not None
                    assert look.at - well_since >= timedelta(seconds=instance.clear_after_s)
                    is_open = False
            assert is_open == (look.after.state is AlertState.FIRING)

    @given(LOOKS, INSTANCES)
    def test_a_value_that_swings_within_the_band_never_rings_twice(
        self, looks: list[tuple[str, float]], instance: RuleInstance[AlertRule]
    ) -> None:
        """Without a value below the lower threshold there is one alert at most, however long it hovers."""
        hovering = [(kind, apart_s) for kind, apart_s in looks if kind != "cleared"]

        assert sum(look.raised for look in looked(hovering, instance)) <= 1

    @given(LOOKS, INSTANCES, st.data())
    def test_where_it_stands_is_all_that_a_restart_needs(
        self, looks: list[tuple[str, float]], instance: RuleInstance[AlertRule], data: st.DataObject
    ) -> None:
        """Kept as a core keeps it, with what the newest reading tells, it goes on as if nothing had been."""
        restarts = data.draw(st.sets(st.integers(0, max(0, len(looks) - 1))))
        straight, kept, standing, at = looked(looks, instance), INACTIVE, INACTIVE, NOON
        for number, (kind, apart_s) in enumerate(looks):
            if number in restarts:
                standing = held_until(kept, at)
            at += timedelta(seconds=apart_s)
            after = step(standing, instance, KINDS[kind], at)
            if (standing.state, after.state).count(AlertState.FIRING) == 1 or is_worth_keeping(kept, after):
                kept = after
            standing = after
            assert standing.state is straight[number].after.state


TEMPERATURES = st.lists(st.sampled_from([200.0, 295.0, 350.0]), min_size=1, max_size=14)


@settings(max_examples=12, deadline=None)
@given(TEMPERATURES, st.data())
def test_a_core_that_is_restarted_at_any_moment_fires_as_one_that_is_not(
    temperatures: list[float], data: st.DataObject
) -> None:
    restart_at, is_crash = data.draw(st.integers(0, len(temperatures))), data.draw(st.booleans())
    EXECUTOR_CACHE.clear()

    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with migrated_store(f"sqlite://{folder}/carbontrack.sqlite3") as store:
                await register(store, "straight", "restarted")
                with pytest.MonkeyPatch.context() as patch:
                    if is_crash:  # nothing is kept on the way out
                        patch.setattr(DeviceActor, "on_stop", nothing)
                    async with running(store, Metrics(), rules=(HELD,)) as core:
                        await feed(core, "straight", temperatures, 0, len(temperatures))
                        await feed(core, "restarted", temperatures, 0, restart_at)
                async with running(store, Metrics(), rules=(HELD,)) as core:
                    await feed(core, "restarted", temperatures, restart_at, len(temperatures))
                told = {
                    name: [
                        (alert.raised_at, alert.cleared_at)
                        for alert in await store.alerts(device_id=name, only_open=False)
                    ]
                    for name in ("straight", "restarted")
                }
                assert told["straight"] == told["restarted"]

    asyncio.run(run())


async def nothing(_actor: DeviceActor) -> None:
    """What a core that is killed does at its end."""


HELD = RuleInstance(
    "hot",
    LIMIT,
    LimitOptions(quantity="temperature_c", raise_above=300.0, clear_below=290.0),
    "warning",
    hold_s=60.0,
    clear_after_s=40.0,
)


async def feed(core: Core, device_id: str, temperatures: Sequence[float], since: int, until: int) -> None:
    """Readings 20 s apart, one message each, as they are measured; return when the rules have seen them all."""
    actor = core.fleet._actors[device_id]
    for number in range(since, until):
        at_ms = NOON_MS + 20_000 * number
        row = [0, 0, 1, 98_000 + number, temperatures[number], 4.0, 80.0, 0]
        core.tell(device_id, body(seq=number + 1, at_ms=at_ms, rows=[row]), received_at_ms=at_ms + 250)
        await core.receipt(device_id, number + 1)
        measured_at = NOON + timedelta(seconds=20 * number)

        def all_is_done(at: datetime = measured_at) -> bool:
            return actor.snapshot.measured_at == at and actor._waiter is not None

        await eventually(all_is_done)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(["chief", "clerk", "operator"]), min_size=1, max_size=5))
def test_whoever_acknowledged_first_stays(names: list[str]) -> None:
    EXECUTOR_CACHE.clear()

    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with migrated_store(f"sqlite://{folder}/carbontrack.sqlite3") as store:
                await register(store, "dev-001")
                alert = await store.raise_alert("dev-001", "hot", "warning", Finding("hot"), NOON)
                assert alert is not None
                for number, name in enumerate(names):
                    at = NOON + timedelta(minutes=number + 1)
                    seen = await store.acknowledge_alert(alert.id, f"by {name}", at, by=Origin(name))
                    again = await store.raise_alert("dev-001", "hot", "warning", Finding("hotter"), at)
                    assert again is not None
                    assert again.id == alert.id, "it is open, so it is not raised twice"
                    for it in (seen, again):
                        assert (it.acknowledged_by, it.acknowledged_at) == (names[0], NOON + timedelta(minutes=1))
                await store.clear_alert("dev-001", "hot", NOON + timedelta(hours=1))
                (cleared,) = await store.alerts(only_open=False)
                assert cleared.acknowledged_by == names[0]

    asyncio.run(run())


class TestOnTheTimer:
    def test_a_hold_lasts_over_looks_that_are_further_apart(self) -> None:
        looks = timedelta(seconds=900)
        pending = step(INACTIVE, rule(400), verdict_on(ABOVE), NOON, looks)

        assert step(pending, rule(400), verdict_on(ABOVE), NOON + timedelta(seconds=500), looks).state == "firing"
        assert step(pending, rule(400), verdict_on(ABOVE), NOON + timedelta(seconds=500)).state == "pending"

    def test_a_clock_that_is_set_back_ends_nothing_and_fires_nothing(self) -> None:
        pending = step(INACTIVE, rule(), verdict_on(ABOVE), NOON)

        assert step(pending, rule(), verdict_on(ABOVE), NOON - timedelta(hours=1)).state == "pending"


class TestLimit:
    @pytest.mark.parametrize(
        ("value", "breached", "cleared"),
        [
            (0.61, True, False),
            (0.60, False, False),
            (0.58, False, False),
            (0.55, False, False),
            (0.54, False, True),
            (0.0, False, True),
            (None, False, False),
        ],
    )
    def test_above_breaches_below_clears_and_between_changes_nothing(
        self, value: float | None, breached: bool, cleared: bool
    ) -> None:
        verdict = verdict_on(value)

        assert (verdict.breached, verdict.cleared) == (breached, cleared)

    def test_the_message_says_where_what_and_how_much(self) -> None:
        assert verdict_on(0.7).message == "Kangaita, Boiler 1: 0.7 kg/s CO2, the limit is 0.6"

    @pytest.mark.parametrize("quantity", ["co2_kg_per_s", "co2_ppm", "temperature_c", "velocity_ms"])
    def test_every_quantity_has_its_unit(self, quantity: str) -> None:
        options = LimitOptions.model_validate({"quantity": quantity, "raise_above": 100, "clear_below": 90})
        verdict = verdict_on(123.0, options)

        assert verdict.breached
        assert "123 " in verdict.message

    @pytest.mark.parametrize(
        "options",
        [
            {"quantity": "co2_kg_per_s", "raise_above": 0.5, "clear_below": 0.6},
            {"quantity": "colour", "raise_above": 1, "clear_below": 0},
            {"quantity": "co2_ppm", "raise_above": "nan", "clear_below": 0},
            {"quantity": "co2_ppm", "raise_above": "inf", "clear_below": 0},
            {"quantity": "co2_ppm", "raise_above": 1},
            {"quantity": "co2_ppm", "raise_above": 1, "clear_below": 0, "colour": "red"},
        ],
        ids=["order", "quantity", "nan", "inf", "missing", "unknown"],
    )
    def test_options_that_make_no_sense_are_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            LIMIT.options_model.model_validate(options)

    @pytest.mark.parametrize("flag", [Flag.WARM_UP, Flag.MAINTENANCE, Flag.CALIBRATION])
    def test_a_reading_of_a_calibration_and_its_like_changes_nothing(self, flag: Flag) -> None:
        snapshot = msgspec.structs.replace(SNAPSHOT, co2_kg_per_s=0.7, flags=int(flag))
        verdict = LIMIT.evaluate(OPTIONS, Observation(SITE, snapshot, NOON, 0.0, {}))

        assert (verdict.breached, verdict.cleared) == (False, False)

    def test_one_limit_for_both_ways_is_allowed(self) -> None:
        options = LimitOptions(quantity="co2_ppm", raise_above=5.0, clear_below=5.0)

        assert verdict_on(5.0, options) == Verdict(breached=False, cleared=False)
