"""The boards of before: what their message says, what of it counts, and by which name it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carbontrack import ClockQuality, DecodeError, Flag, Message, Payload, SensorDriver
from carbontrack.emissions.rate import emission_rate
from carbontrack.model import MonitoringPlan
from carbontrack.plugins.sensors import legacy
from tests.support.plugins import FakePlugin, brought

NOW_MS = 1_772_352_900_123  # 2026-03-01T08:15:00.123Z
AT_MS = 1_772_352_900_000
RATE = {"device_id": "board-7", "co2_emission_kgs": 0.148, "timestamp": "2026-03-01T08:15:00Z"}
ALL = RATE | {"co2": 98_000, "temperature": 183.25, "flow_velocity": 4.12}


def driver(**options: Any) -> SensorDriver:
    (found,) = brought(legacy, "register_sensors", FakePlugin.of(legacy.MANIFEST, options))
    assert isinstance(found, SensorDriver)
    return found


def read(body: object, **options: Any) -> Message:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return driver(**options).decode(Payload("board-7", "data", raw, NOW_MS))


def cause_of(body: object) -> str:
    with pytest.raises(DecodeError) as caught:
        read(body)
    assert caught.value.covers is None, "there are no numbers that a receipt could name"
    return caught.value.cause


class TestRates:
    def test_a_message_with_nothing_but_the_rate_is_taken_and_gives_no_rate(self) -> None:
        message = read(RATE)
        (sample,) = message.samples
        rate = emission_rate(sample, MonitoringPlan(), 79.68, sample.status)

        assert (sample.device_co2_kg_per_s, sample.co2_ppm, sample.temperature_c) == (0.148, None, None)
        assert (sample.device_time_ms, message.numbered) == (AT_MS, False)
        assert rate.co2_kg_per_s is None, "a rate that the platform cannot work out is never counted"
        assert rate.flags & Flag.VALUE_MISSING

    def test_where_all_is_there_the_platform_works_the_rate_out_and_compares(self) -> None:
        (sample,) = read(ALL | {"co2_emission_kgs": 0.9}).samples
        rate = emission_rate(sample, MonitoringPlan(), 79.68, sample.status)

        assert rate.co2_kg_per_s == pytest.approx(0.1485, rel=0.01)
        assert rate.flags & Flag.DEVICE_DISAGREES

    def test_measurements_without_a_rate_are_taken_too(self) -> None:
        (sample,) = read({"device_id": "board-7", "co2": 98_000}).samples

        assert (sample.co2_ppm, sample.device_co2_kg_per_s) == (98_000, None)


class TestTime:
    def test_without_a_time_it_is_the_time_of_receipt(self) -> None:
        assert read({"device_id": "board-7", "co2_emission_kgs": 0}).samples[0].device_time_ms == NOW_MS

    def test_seconds_since_boot_are_no_time(self) -> None:
        (sample,) = read(RATE | {"timestamp": 125}).samples

        assert (sample.device_time_ms, sample.clock) == (NOW_MS, ClockQuality.UNSET)

    def test_a_time_without_a_zone_is_refused_unless_the_zone_is_set(self) -> None:
        local = RATE | {"timestamp": "2026-03-01 11:15:00"}

        assert cause_of(local) == "wrong_type"
        assert read(local, timestamp_zone="Africa/Nairobi").samples[0].device_time_ms == AT_MS

    def test_a_zone_in_the_timestamp_counts_before_the_one_that_is_set(self) -> None:
        assert read(RATE, timestamp_zone="Africa/Nairobi").samples[0].device_time_ms == AT_MS

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/"])
    def test_a_zone_that_there_is_not_is_refused(self, zone: str) -> None:
        with pytest.raises(ValidationError, match="time zone"):
            driver(timestamp_zone=zone)


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "cause"),
        [
            (b"", "invalid_json"),
            (b"[]", "wrong_type"),
            (b'{"device_id": "board-7", "co2_emission_kgs": NaN}', "not_finite"),
            ({"co2_emission_kgs": 0.148}, "missing_field"),
            ({"device_id": "board-7"}, "missing_field"),
            ({"device_id": "board-7", "co2_emission_kgs": None}, "missing_field"),
            ({"device_id": "board-7", "co2_emission_kgs": "0.148"}, "wrong_type"),
            (RATE | {"device_id": "board-8"}, "wrong_device"),
            (RATE | {"device_id": 7}, "wrong_device"),
            (RATE | {"device_id": ["board-7"]}, "wrong_device"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, body: object, cause: str) -> None:
        assert cause_of(body) == cause

    def test_a_body_that_speaks_of_a_stream_is_not_receipted(self) -> None:
        assert cause_of(b'{"sid":"s","seq":1,"n":1,"device_id":') == "invalid_json"

    @given(
        st.dictionaries(
            st.sampled_from(["device_id", "co2_emission_kgs", "co2", "temperature", "flow_velocity", "timestamp"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=25) | st.datetimes().map(str),
        )
    )
    def test_any_object_is_read_or_refused(self, body: dict[str, Any]) -> None:
        try:
            message = read({"device_id": "board-7"} | body, timestamp_zone="Africa/Nairobi")
        except DecodeError:
            return
        assert message.count == len(message.samples) == 1
        assert message.samples[0].device_time_ms >= 0
