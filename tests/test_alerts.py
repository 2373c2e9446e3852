"""When an alert begins and ends, and what the rule "limit" says of a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carbontrack.alerts import RuleInstance, step
from carbontrack.hookspecs import AlertRule, Observation, Verdict
from carbontrack.model import (
    INACTIVE,
    AlertState,
    Device,
    Factory,
    Flag,
    MonitoringPlan,
    Site,
    Snapshot,
    Stack,
    Standing,
)
from carbontrack.plugins.alerts.limit import LIMIT, LimitOptions

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
