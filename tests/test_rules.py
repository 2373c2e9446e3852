"""What each rule that ships says of readings and of factories, and when it says nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from carbontrack import (
    AlertRule,
    Factory,
    FactoryFacts,
    FactoryRule,
    Flag,
    Observation,
    Site,
    Snapshot,
    Verdict,
)
from carbontrack.authoring.rules import LONGEST_STEP
from carbontrack.config import Config
from carbontrack.model import Device, MonitoringPlan, Stack
from carbontrack.plugins import load_plugins
from carbontrack.plugins.alerts.corroboration import CORROBORATION
from carbontrack.plugins.alerts.implausible import IMPLAUSIBLE
from carbontrack.plugins.alerts.limit import LIMIT
from carbontrack.plugins.alerts.missing_entries import MISSING_ENTRIES
from carbontrack.plugins.alerts.over_range import OVER_RANGE
from carbontrack.plugins.alerts.rate_of_change import RATE_OF_CHANGE
from carbontrack.plugins.alerts.sensor_fault import SENSOR_FAULT
from carbontrack.plugins.alerts.silence import SILENCE
from carbontrack.plugins.alerts.stuck import STUCK
from carbontrack.testing import factory_facts, observation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAIROBI = ZoneInfo("Africa/Nairobi")
FACTORY = Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0)
SITE = Site(FACTORY, Stack(11, 1, "Boiler 1", (MonitoringPlan(),)), Device(21, "ct-0001", 1, 11))
FIRE = Snapshot(
    "ct-0001",
    1,
    11,
    online=True,
    measured_at=NOON,
    received_at=NOON,
    co2_ppm=98_000.0,
    temperature_c=183.0,
    velocity_ms=4.1,
    flow_rate_m3s=1.9,
    co2_kg_per_s=0.15,
)
COLD = msgspec.structs.replace(FIRE, co2_ppm=450.0, temperature_c=24.0, velocity_ms=0.1, co2_kg_per_s=None)
UNUSUAL = (Flag.WARM_UP, Flag.MAINTENANCE, Flag.CALIBRATION)

BREACHED, CLEARED, NEITHER = "breached", "cleared", "neither"


def said(verdict: Verdict) -> str:
    assert not (verdict.breached and verdict.cleared)
    return BREACHED if verdict.breached else CLEARED if verdict.cleared else NEITHER


class Watched:
    """One rule that watches one device, with its memory."""

    def __init__(self, rule: AlertRule, site: Site = SITE, **options: Any) -> None:
        self.rule = rule
        self.site = site
        self.options = rule.options_model.model_validate(options)
        self.memory: dict[str, Any] = {}
        self.message = ""

    def sees(self, after_s: float = 0.0, like: Snapshot = FIRE, *, silence_s: float = 0.0, **changed: Any) -> str:
        """What it says of a reading so many seconds after noon."""
        at = NOON + timedelta(seconds=after_s)
        snapshot = msgspec.structs.replace(like, **({"measured_at": at, "received_at": at} | changed))
        verdict = self.rule.evaluate(self.options, Observation(self.site, snapshot, at, silence_s, self.memory))
        self.message = verdict.message
        return said(verdict)


def stack_with(**plan: Any) -> Site:
    return Site(FACTORY, Stack(11, 1, "Boiler 1", (MonitoringPlan(**plan),)), SITE.device)


# --- rate of change


def heats(**options: Any) -> Watched:
    limits: dict[str, Any] = {"quantity": "temperature_c", "raise_above_per_min": 10, "clear_below_per_min": 5}
    return Watched(RATE_OF_CHANGE, **(limits | options))


def after_all(rule: Watched, values: Sequence[float | None], every_s: float = 5.0, **changed: Any) -> str:
    """What it says of the last of these temperatures."""
    answers = [rule.sees(every_s * number, temperature_c=value, **changed) for number, value in enumerate(values)]
    return answers[-1]


class TestRateOfChange:
    @given(
        start=st.floats(0, 500),
        per_min=st.floats(-60, 60),
        every_s=st.sampled_from([1.0, 5.0, 7.5, 20.0]),
        window_s=st.sampled_from([120.0, 300.0, 900.0]),
    )
    def test_a_steady_change_gives_its_rate(
        self, start: float, per_min: float, every_s: float, window_s: float
    ) -> None:
        if window_s / every_s < 12:
            return
        rule = heats(window_s=window_s)
        count = int(window_s / every_s) + 2

        verdict = after_all(rule, [start + per_min * number * every_s / 60 for number in range(count)], every_s)

        if abs(abs(per_min) - 10) > 1e-6 and abs(abs(per_min) - 5) > 1e-6:
            expected = BREACHED if abs(per_min) > 10 else CLEARED if abs(per_min) < 5 else NEITHER
            assert verdict == expected

    def test_the_message_has_the_rate_the_unit_and_the_limit(self) -> None:
        rule = heats()
        after_all(rule, [180 + number for number in range(61)])

        assert rule.message == (
            "Kangaita, Boiler 1: the gas temperature changes by +12 °C per minute over 5 min, the limit is 10"
        )

    @given(place=st.integers(0, 60), value=st.floats(-1000, 5000))
    def test_one_outlier_rings_nothing(self, place: int, value: float) -> None:
        values = [180.0] * 61
        values[place] = value

        rule = heats()
        assert all(rule.sees(5 * number, temperature_c=each) != BREACHED for number, each in enumerate(values))

    def test_nothing_is_said_before_the_window_is_filled(self) -> None:
        rule = heats()

        assert {rule.sees(5 * number, temperature_c=20 * number) for number in range(40)} == {NEITHER}

    def test_after_a_gap_the_window_is_filled_anew(self) -> None:
        rule = heats()
        after_all(rule, [180.0] * 61)

        assert rule.sees(7200, temperature_c=20.0) == NEITHER
        assert rule.sees(7205, temperature_c=20.0) == NEITHER

    def test_readings_without_a_value_and_those_of_a_calibration_do_not_count(self) -> None:
        rule = heats()
        after_all(rule, [180.0] * 61)

        assert rule.sees(305, temperature_c=None) == NEITHER
        for number, flag in enumerate(UNUSUAL):
            assert rule.sees(310 + number, temperature_c=900.0, flags=int(flag)) == NEITHER
        assert rule.sees(320, temperature_c=180.0) == CLEARED

    @pytest.mark.parametrize(
        ("direction", "per_min", "expected"),
        [("rise", 12, BREACHED), ("rise", -12, CLEARED), ("fall", -12, BREACHED), ("fall", 12, CLEARED)],
    )
    def test_the_other_direction_is_none(self, direction: str, per_min: float, expected: str) -> None:
        assert after_all(heats(direction=direction), [180 + per_min * number / 12 for number in range(61)]) == expected

    def test_a_device_that_sends_often_does_not_fill_the_memory(self) -> None:
        rule = heats(window_s=3600)
        for number in range(10_000):
            rule.sees(number / 2, temperature_c=180.0)

        assert len(rule.memory["points"]) <= 122


# --- silence


class TestSilence:
    def test_a_device_that_was_there_is_silent_after_its_time(self) -> None:
        rule = Watched(SILENCE, after_s=900)

        assert rule.sees(899, silence_s=899, measured_at=NOON, received_at=NOON) == CLEARED
        assert rule.sees(900, silence_s=900, measured_at=NOON, received_at=NOON) == BREACHED
        assert rule.message == (
            "Kangaita, Boiler 1: nothing was heard of ct-0001 for 15 min; its last reading is of 2026-03-01 12:00 UTC"
        )

    def test_only_a_new_reading_ends_it(self) -> None:
        """Not a core that starts again, or that is cut off from the broker itself: then it hears nothing of anybody."""
        rule = Watched(SILENCE, after_s=900)

        assert rule.sees(5000, silence_s=0, measured_at=NOON, received_at=NOON) == NEITHER
        assert rule.sees(5000) == CLEARED

    def test_a_device_that_never_sent_is_not_silent(self) -> None:
        assert Watched(SILENCE).sees(silence_s=float("inf"), measured_at=None, received_at=None) == NEITHER

    def test_it_is_asked_on_the_timer(self) -> None:
        assert SILENCE.on_timer


# --- stuck


class TestStuck:
    def test_a_value_that_stands_still_while_the_boiler_fires_is_stuck(self) -> None:
        rule = Watched(STUCK)
        answers = [rule.sees(5 * number) for number in range(122)]

        assert set(answers[:120]) == {NEITHER}
        assert set(answers[120:]) == {BREACHED}
        assert rule.message == (
            "Kangaita, Boiler 1: the CO2 stands still at 98000 ppm while the boiler fires, for 10 min or longer"
        )

    def test_it_is_over_when_the_value_has_moved_three_times(self) -> None:
        rule = Watched(STUCK)
        for number in range(122):
            rule.sees(5 * number)

        moved = [rule.sees(610 + 5 * number, co2_ppm=98_100 + number) for number in range(4)]
        assert moved == [NEITHER, NEITHER, CLEARED, CLEARED]

    @given(st.lists(st.floats(10_000, 200_000), min_size=130, max_size=130, unique=True))
    def test_a_value_that_moves_is_never_stuck(self, values: list[float]) -> None:
        rule = Watched(STUCK)

        assert BREACHED not in {rule.sees(5 * number, co2_ppm=value) for number, value in enumerate(values)}

    def test_a_cold_boiler_stands_still(self) -> None:
        for quantity in ("co2_ppm", "temperature_c", "velocity_ms"):
            rule = Watched(STUCK, quantity=quantity)
            assert {rule.sees(5 * number, COLD) for number in range(200)} == {NEITHER}

    def test_other_channels_can_be_watched(self) -> None:
        rule = Watched(STUCK, quantity="velocity_ms", for_s=300)

        assert [rule.sees(5 * n, co2_ppm=98_000 + n) for n in range(62)][-2:] == [BREACHED, BREACHED]

    def test_what_stays_within_the_spread_is_one_value(self) -> None:
        rule = Watched(STUCK, quantity="temperature_c", for_s=300, spread=0.5)

        assert [rule.sees(5 * n, temperature_c=183 + n % 2 / 4) for n in range(62)][-1] == BREACHED
        assert rule.sees(310, temperature_c=184.0) == NEITHER

    def test_the_flag_of_the_platform_or_the_device_counts_for_co2(self) -> None:
        assert Watched(STUCK).sees(flags=int(Flag.STUCK)) == BREACHED
        assert Watched(STUCK, quantity="velocity_ms").sees(flags=int(Flag.STUCK)) == NEITHER

    def test_after_a_gap_and_during_maintenance_it_begins_anew(self) -> None:
        rule = Watched(STUCK)
        for number in range(119):
            rule.sees(5 * number)
        assert rule.sees(1200) == NEITHER, "nobody knows that it stood still meanwhile"
        for number in range(240, 360):
            rule.sees(5 * number)
        assert rule.sees(1800, flags=int(Flag.MAINTENANCE)) == NEITHER
        assert rule.sees(1805) == NEITHER

    def test_air_in_a_diluted_sample_is_no_fire(self) -> None:
        rule = Watched(STUCK, stack_with(dilution_ratio=50.0))

        assert {rule.sees(5 * number, COLD, co2_ppm=430.0) for number in range(200)} == {NEITHER}


# --- sensor faults


class TestSensorFault:
    @pytest.mark.parametrize(
        ("flag", "text"),
        [
            (Flag.CO2_FAULT, "the CO2 analyser reports a fault"),
            (Flag.STALE, "the CO2 value is an old one"),
            (Flag.TEMPERATURE_OPEN, "the thermocouple is open"),
            (Flag.TEMPERATURE_FAULT, "the thermocouple or its converter reports a fault"),
            (Flag.VELOCITY_FAULT, "the velocity sensor reports a fault"),
            (Flag.PRESSURE_DIFFERENCE_NEGATIVE, "the pressure difference is negative"),
        ],
    )
    def test_every_fault_is_named(self, flag: Flag, text: str) -> None:
        rule = Watched(SENSOR_FAULT)

        assert rule.sees(flags=int(flag)) == BREACHED
        assert rule.message == f"Kangaita, Boiler 1: {text}"
        assert rule.sees() == CLEARED

    def test_a_channel_without_a_value_is_a_fault_too(self) -> None:
        rule = Watched(SENSOR_FAULT)

        assert rule.sees(co2_ppm=None, velocity_ms=None) == BREACHED
        assert rule.message == "Kangaita, Boiler 1: there is no CO2 value and there is no gas velocity"

    def test_a_pitot_tube_without_a_temperature_has_no_fault_of_its_own(self) -> None:
        rule = Watched(SENSOR_FAULT)

        rule.sees(temperature_c=None, velocity_ms=None, flags=int(Flag.TEMPERATURE_OPEN))
        assert rule.message == "Kangaita, Boiler 1: the thermocouple is open"

    def test_only_the_channels_that_are_asked_for_ring(self) -> None:
        rule = Watched(SENSOR_FAULT, channels=["clock"])

        assert rule.sees(flags=int(Flag.CO2_FAULT)) == CLEARED
        assert rule.sees(flags=int(Flag.CLOCK_UNSET)) == BREACHED

    @pytest.mark.parametrize("flag", UNUSUAL)
    def test_warm_up_maintenance_and_calibration_change_nothing(self, flag: Flag) -> None:
        assert Watched(SENSOR_FAULT).sees(flags=int(flag | Flag.CO2_FAULT)) == NEITHER


# --- over range


class TestOverRange:
    def test_full_scale_rings_whoever_found_it(self) -> None:
        rule = Watched(OVER_RANGE)

        assert rule.sees(co2_ppm=200_000.0, flags=int(Flag.CO2_OVER_RANGE)) == BREACHED
        assert rule.sees(co2_ppm=200_000.0, flags=int(Flag.CO2_OVER_RANGE | Flag.CO2_SATURATED)) == BREACHED
        assert rule.message == "Kangaita, Boiler 1: the CO2 analyser is at its full scale of 200000 ppm: 200000 ppm"
        assert rule.sees() == CLEARED

    def test_an_analyser_for_room_air_rings_whatever_it_reads(self) -> None:
        rule = Watched(OVER_RANGE, stack_with(co2_range_ppm=5000.0))

        assert rule.sees(co2_ppm=450.0, flags=int(Flag.UNFIT_SENSOR)) == BREACHED
        assert rule.message == (
            "Kangaita, Boiler 1: the CO2 analyser cannot measure flue gas: its range is 5000 ppm with a dilution of 1, "
            "its response 30 s"
        )

    def test_that_can_be_left_out(self) -> None:
        rule = Watched(OVER_RANGE, unfit=False)

        assert rule.sees(co2_ppm=450.0, flags=int(Flag.UNFIT_SENSOR)) == CLEARED

    def test_a_value_that_is_missing_and_a_span_gas_change_nothing(self) -> None:
        assert Watched(OVER_RANGE).sees(co2_ppm=None) == NEITHER
        assert Watched(OVER_RANGE).sees(flags=int(Flag.CO2_OVER_RANGE | Flag.CALIBRATION)) == NEITHER


# --- implausible


class TestImplausible:
    @pytest.mark.parametrize(
        "flag",
        [
            Flag.IMPLAUSIBLE,
            Flag.CO2_IMPLAUSIBLE,
            Flag.TEMPERATURE_IMPLAUSIBLE,
            Flag.VELOCITY_IMPLAUSIBLE,
            Flag.PRESSURE_IMPLAUSIBLE,
        ],
    )
    def test_a_value_that_cannot_be_rings_at_once(self, flag: Flag) -> None:
        rule = Watched(IMPLAUSIBLE)

        assert rule.sees(flags=int(flag)) == BREACHED
        assert rule.sees() == CLEARED

    def test_an_open_thermocouple_is_a_fault_and_not_implausible_as_well(self) -> None:
        flags = int(Flag.TEMPERATURE_OPEN | Flag.TEMPERATURE_IMPLAUSIBLE)

        assert Watched(IMPLAUSIBLE).sees(temperature_c=1372.0, flags=flags) == CLEARED

    @pytest.mark.parametrize(
        ("like", "changed", "text"),
        [
            (FIRE, {"co2_ppm": 450.0}, "the gas is hot and moves, and has no CO2 (450 ppm CO2, 183 °C, 4.1 m/s)"),
            (COLD, {"co2_ppm": 9e4}, "there is CO2 as of a fire, and no heat (9e+04 ppm CO2, 24 °C, 0.1 m/s)"),
        ],
        ids=["no CO2", "no heat"],
    )
    def test_a_combination_rings_when_it_has_lasted(self, like: Snapshot, changed: dict[str, Any], text: str) -> None:
        rule = Watched(IMPLAUSIBLE, combination_for_s=600)
        answers = [rule.sees(60 * minute, like, **changed) for minute in range(11)]

        assert answers == [NEITHER] * 10 + [BREACHED]
        assert rule.message == f"Kangaita, Boiler 1: {text}"
        assert rule.sees(660) == CLEARED

    def test_gas_that_stands_still_may_be_hot_without_co2(self) -> None:
        rule = Watched(IMPLAUSIBLE, combination_for_s=300)

        assert {rule.sees(60 * minute, co2_ppm=450.0, velocity_ms=0.1) for minute in range(20)} == {CLEARED}

    def test_a_gap_begins_a_combination_anew(self) -> None:
        rule = Watched(IMPLAUSIBLE, combination_for_s=600)
        for minute in range(10):
            rule.sees(60 * minute, co2_ppm=450.0)

        assert rule.sees(3000, co2_ppm=450.0) == NEITHER

    def test_a_channel_that_drops_out_does_not_end_a_combination(self) -> None:
        rule = Watched(IMPLAUSIBLE, combination_for_s=300)
        for minute in range(6):
            rule.sees(60 * minute, co2_ppm=450.0)

        assert rule.sees(360, co2_ppm=450.0, velocity_ms=None) == NEITHER
        assert rule.sees(420, co2_ppm=450.0) == BREACHED

    def test_a_stack_without_an_anemometer_is_not_held_for_ever(self) -> None:
        rule = Watched(IMPLAUSIBLE)

        assert rule.sees(velocity_ms=None, flags=int(Flag.PRESSURE_IMPLAUSIBLE)) == BREACHED
        assert rule.sees(velocity_ms=None) == CLEARED

    @pytest.mark.parametrize("flag", UNUSUAL)
    def test_warm_up_maintenance_and_calibration_change_nothing(self, flag: Flag) -> None:
        assert Watched(IMPLAUSIBLE).sees(flags=int(flag | Flag.CO2_IMPLAUSIBLE)) == NEITHER


# --- factories


def facts(now: datetime = datetime(2026, 4, 20, 9, tzinfo=UTC), **changed: Any) -> FactoryFacts:
    values: dict[str, Any] = {
        "factory": FACTORY,
        "now": now,
        "zone": NAIROBI,
        "monitored_since": date(2026, 1, 1),
        "last_energy_on": date(2026, 4, 19),
        "last_tea_on": date(2026, 4, 19),
        "month": date(2026, 3, 1),
        "measured_over_fuel": 1.0,
    }
    return FactoryFacts(**(values | changed))


def of_factory(rule: FactoryRule, known: FactoryFacts, **options: Any) -> Verdict:
    return rule.evaluate(rule.options_model.model_validate(options), known)


class TestCorroboration:
    @pytest.mark.parametrize(
        ("ratio", "expected"),
        [
            (0.5, BREACHED),
            (0.849, BREACHED),
            (0.85, NEITHER),
            (0.86, CLEARED),
            (1.0, CLEARED),
            (1.14, CLEARED),
            (1.15, NEITHER),
            (1.2, BREACHED),
            (None, NEITHER),
        ],
    )
    def test_outside_of_the_band_it_rings_and_well_inside_it_ends(self, ratio: float | None, expected: str) -> None:
        assert said(of_factory(CORROBORATION, facts(measured_over_fuel=ratio))) == expected

    def test_the_message_says_which_month(self) -> None:
        assert of_factory(CORROBORATION, facts(measured_over_fuel=0.714)).message == (
            "Kangaita: in March 2026 the measured CO2 was 0.71 times that of the entered fuel; "
            "it should be 0.85 to 1.15 times"
        )

    @given(low=st.floats(0.01, 0.99), high=st.floats(1.01, 10), ratio=st.floats(0, 20))
    def test_an_exact_agreement_always_ends_it(self, low: float, high: float, ratio: float) -> None:
        assert said(of_factory(CORROBORATION, facts(measured_over_fuel=1.0), low=low, high=high)) == CLEARED
        verdict = of_factory(CORROBORATION, facts(measured_over_fuel=ratio), low=low, high=high)
        assert verdict.breached == (ratio < low or ratio > high)


class TestMissingEntries:
    @pytest.mark.parametrize(
        ("last", "expected"),
        [(19, CLEARED), (18, CLEARED), (17, NEITHER), (16, BREACHED), (1, BREACHED)],
    )
    def test_days_that_nobody_entered_are_counted(self, last: int, expected: str) -> None:
        """It is noon in Nairobi on the 20th: with 11 h of grace, the 19th is due."""
        known = facts(last_energy_on=date(2026, 4, last))

        assert said(of_factory(MISSING_ENTRIES, known, energy_after_days=3, grace_h=11)) == expected

    def test_a_day_may_be_entered_within_the_grace(self) -> None:
        known = facts(now=datetime(2026, 4, 20, 8, 59, tzinfo=UTC), last_energy_on=date(2026, 4, 16))

        assert said(of_factory(MISSING_ENTRIES, known, energy_after_days=3, grace_h=12)) == NEITHER
        assert said(of_factory(MISSING_ENTRIES, known, energy_after_days=3, grace_h=11)) == BREACHED

    def test_the_message_says_what_is_missing_since_when(self) -> None:
        known = facts(last_energy_on=date(2026, 4, 2), last_tea_on=None, monitored_since=date(2026, 4, 1))

        assert of_factory(MISSING_ENTRIES, known).message == (
            "Kangaita: no energy was entered for 17 days (the last is for 02 April 2026); "
            "no tea was entered for 19 days (there is none so far)"
        )

    def test_one_of_the_two_may_be_left_out(self) -> None:
        known = facts(last_tea_on=None)

        assert said(of_factory(MISSING_ENTRIES, known)) == BREACHED
        assert said(of_factory(MISSING_ENTRIES, known, tea_after_days=None)) == CLEARED

    def test_before_the_first_stack_nothing_is_missing(self) -> None:
        known = facts(last_energy_on=None, last_tea_on=None)

        assert said(of_factory(MISSING_ENTRIES, facts(last_energy_on=None, monitored_since=None))) == CLEARED
        assert said(of_factory(MISSING_ENTRIES, known)) == BREACHED
        new = facts(last_energy_on=None, last_tea_on=None, monitored_since=date(2026, 4, 18))
        assert said(of_factory(MISSING_ENTRIES, new)) == CLEARED

    @given(
        ago=st.integers(0, 100),
        after=st.integers(1, 60),
        grace_h=st.floats(0, 240),
        hour=st.integers(0, 23),
    )
    def test_more_missing_days_never_end_an_alert(self, ago: int, after: int, grace_h: float, hour: int) -> None:
        """What rings with so many days missing rings with one more as well."""
        now = datetime(2026, 4, 20, hour, tzinfo=UTC)
        options = {"energy_after_days": after, "tea_after_days": None, "grace_h": grace_h}
        order = [CLEARED, NEITHER, BREACHED]
        answers = [
            said(
                of_factory(
                    MISSING_ENTRIES,
                    facts(
                        now, last_energy_on=date(2026, 4, 19) - timedelta(days=days), monitored_since=date(2020, 1, 1)
                    ),
                    **options,
                )
            )
            for days in (ago, ago + 1)
        ]

        assert order.index(answers[0]) <= order.index(answers[1])


# --- their options

RULES = (LIMIT, RATE_OF_CHANGE, SILENCE, STUCK, SENSOR_FAULT, OVER_RANGE, IMPLAUSIBLE, CORROBORATION, MISSING_ENTRIES)
NEEDED: dict[str, dict[str, Any]] = {
    "limit": {"quantity": "co2_ppm", "raise_above": 2, "clear_below": 1},
    "rate-of-change": {"quantity": "co2_ppm", "raise_above_per_min": 2, "clear_below_per_min": 1},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_option_is_explained_and_no_other_is_taken(rule: AlertRule | FactoryRule) -> None:
    model: type[BaseModel] = rule.options_model

    assert [name for name, field in model.model_fields.items() if not field.description] == []
    needed = NEEDED.get(rule.name, {})
    model.model_validate(needed)
    with pytest.raises(ValidationError, match="Extra inputs"):
        model.model_validate(needed | {"colour": "red"})


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (RATE_OF_CHANGE, {"quantity": "co2_ppm", "raise_above_per_min": 1, "clear_below_per_min": 2}),
        (RATE_OF_CHANGE, {"quantity": "co2_ppm", "raise_above_per_min": "inf", "clear_below_per_min": 2}),
        (SILENCE, {"after_s": 0}),
        (STUCK, {"quantity": "co2_kg_per_s"}),
        (SENSOR_FAULT, {"channels": []}),
        (SENSOR_FAULT, {"channels": ["smell"]}),
        (CORROBORATION, {"low": 1.2}),
        (MISSING_ENTRIES, {"tea_after_days": 0}),
    ],
)
def test_options_that_make_no_sense_are_refused(rule: AlertRule | FactoryRule, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rule.options_model.model_validate(options)


def test_the_default_alerts_can_all_be_used() -> None:
    brought = load_plugins().contributions
    families: dict[str, AlertRule | FactoryRule] = {**brought.alert_rules, **brought.factory_rules}

    for entry in Config().alerts:
        families[entry.rule].options_model.model_validate(entry.options)


# --- what people read of them


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_says_in_both_languages_what_to_do_first(rule: AlertRule | FactoryRule) -> None:
    english, swahili = rule.words["en"], rule.words["sw"]

    assert english.title != swahili.title
    for words in (english, swahili):
        assert 2 <= len(words.first_steps) <= 4
        assert all(step.strip() == step and step.endswith((".", "?")) for step in words.first_steps)
        assert all(len(step) <= LONGEST_STEP for step in words.first_steps)
    assert len(english.first_steps) == len(swahili.first_steps), "the same steps"
    assert not set(english.first_steps) & set(swahili.first_steps)


@pytest.mark.parametrize(
    ("rule", "options", "seen", "numbers"),
    [
        (
            LIMIT,
            {"quantity": "temperature_c", "raise_above": 300, "clear_below": 290},
            {"temperature_c": 350.0},
            (350.0, 300.0, "°C"),
        ),
        (
            LIMIT,
            {"quantity": "co2_kg_per_s", "raise_above": 0.1, "clear_below": 0.05},
            {"co2_kg_per_s": 0.2},
            (0.2, 0.1, "kg/s"),
        ),
        (SILENCE, {"after_s": 900}, {"silence_s": 1800.0}, (30.0, 15.0, "min")),
        (
            OVER_RANGE,
            {},
            {"co2_ppm": 200_000.0, "flags": int(Flag.CO2_OVER_RANGE)},
            (200_000.0, 200_000.0, "ppm"),
        ),
    ],
    ids=["limit", "rate", "silence", "over-range"],
)
def test_a_rule_that_compares_says_it_in_numbers(
    rule: AlertRule, options: dict[str, Any], seen: dict[str, Any], numbers: tuple[float, float, str]
) -> None:
    verdict = rule.evaluate(rule.options_model.model_validate(options), observation(**seen))

    assert verdict.breached
    assert (verdict.value, verdict.limit, verdict.unit) == numbers


def test_a_factory_s_rules_say_it_in_numbers() -> None:
    off = CORROBORATION.evaluate(CORROBORATION.options_model(), factory_facts(measured_over_fuel=0.7))
    assert (off.value, off.limit, off.unit) == (0.7, 0.85, "measured / fuel")

    missing = MISSING_ENTRIES.evaluate(MISSING_ENTRIES.options_model(), factory_facts(last_tea_on=date(2026, 2, 1)))
    assert missing.breached
    assert (missing.limit, missing.unit) == (7.0, "days")
    assert missing.value is not None
    assert missing.value > 7


# --- their page

PAGE = (Path(__file__).parents[1] / "docs" / "plugins" / "alerts-reference.md").read_text(encoding="utf-8")


def on_the_page(rule: AlertRule | FactoryRule) -> str:
    """The rule's section."""
    found = re.search(rf"^## `{rule.name}`\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/plugins/alerts-reference.md has no section for {rule.name}"
    return found[1]


def default_of(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{format(value, 'g') if isinstance(value, float) else str(value).lower()}`"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_page_has_every_option_as_it_is_and_what_to_do_first(rule: AlertRule | FactoryRule) -> None:
    text = on_the_page(rule)
    documented = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", text, re.MULTILINE)

    fields = rule.options_model.model_fields
    assert documented == [(name, default_of(field), field.description) for name, field in fields.items()]
    assert "**What to do first.**" in text


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_page_s_example_can_be_used(rule: AlertRule | FactoryRule) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", on_the_page(rule), re.MULTILINE | re.DOTALL)
    (entry,) = YAML(typ="safe").load(example)

    assert entry["rule"] == rule.name
    rule.options_model.model_validate(entry["options"])


def test_the_page_names_every_rule_and_notifier_that_ships() -> None:
    brought = load_plugins().contributions

    assert {*brought.alert_rules, *brought.factory_rules} == {rule.name for rule in RULES}
    assert set(re.findall(r"^\| \[`([\w-]+)`\]", PAGE, re.MULTILINE)) == {rule.name for rule in RULES}
    assert set(brought.notifiers) <= set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Notifiers")[2], re.MULTILINE))
