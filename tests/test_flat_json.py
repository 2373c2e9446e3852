"""The format of simple boards: what a flat object says, and by which name it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.hookspecs import DecodeError
from carbontrack.model import Message, Payload, Sample
from carbontrack.plugins.sensors.flat_json import decode

NOW_MS = 1_772_352_900_123  # 2026-03-01T08:15:00.123Z


def read(body: object) -> Message:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(Payload("board-7", "data", raw, NOW_MS))


def sample_of(body: object) -> Sample:
    message = read(body)
    (sample,) = message.samples
    return sample


def cause_of(body: object) -> str:
    with pytest.raises(DecodeError) as caught:
        read(body)
    assert caught.value.covers is None, "there are no numbers that a receipt could name"
    return caught.value.cause


class TestValues:
    def test_every_value_has_its_place(self) -> None:
        sample = sample_of(
            {
                "timestamp": "2026-03-01T08:15:00Z",
                "co2_ppm": 98_000,
                "temperature_c": 183.2,
                "velocity_ms": 4.1,
                "pressure_kpa": 79.7,
                "co2_emission_kgs": 0.148,
            }
        )

        assert sample.co2_ppm == 98_000
        assert sample.temperature_c == 183.2
        assert sample.velocity_ms == 4.1
        assert sample.pressure_kpa == 79.7
        assert sample.device_co2_kg_per_s == 0.148
        assert sample.device_time_ms == 1_772_352_900_000
        assert sample.status == 0

    @pytest.mark.parametrize(
        ("key", "field"),
        [
            ("co2", "co2_ppm"),
            ("temperature", "temperature_c"),
            ("temp", "temperature_c"),
            ("velocity", "velocity_ms"),
            ("flow_velocity", "velocity_ms"),
        ],
    )
    def test_older_boards_may_use_their_own_names(self, key: str, field: str) -> None:
        assert getattr(sample_of({key: 12.5}), field) == 12.5

    def test_the_full_name_counts_before_an_older_one(self) -> None:
        assert sample_of({"co2": 1, "co2_ppm": 2}).co2_ppm == 2
        assert sample_of({"co2": 1, "co2_ppm": None}).co2_ppm == 1

    def test_what_is_missing_is_missing_and_not_zero(self) -> None:
        sample = sample_of({"co2_ppm": 0})

        assert sample.co2_ppm == 0
        assert sample.temperature_c is None
        assert sample.velocity_ms is None

    def test_keys_of_others_are_left_alone(self) -> None:
        assert sample_of({"co2_ppm": 1, "device_id": "board-7", "battery": {"v": 3.7}}).co2_ppm == 1

    def test_a_board_gets_no_receipts(self) -> None:
        assert read({"co2_ppm": 1}).numbered is False


class TestTime:
    @pytest.mark.parametrize(
        ("timestamp", "time_ms"),
        [
            ("2026-03-01T08:15:00Z", 1_772_352_900_000),
            ("2026-03-01T11:15:00+03:00", 1_772_352_900_000),
            ("2026-03-01T08:15:00.250Z", 1_772_352_900_250),
            (1_772_352_900, 1_772_352_900_000),
            (1_772_352_900.25, 1_772_352_900_250),
            (1_772_352_900_250, 1_772_352_900_250),
            (None, NOW_MS),
        ],
    )
    def test_a_time_is_text_with_a_zone_or_seconds_or_milliseconds_or_the_receipt(
        self, timestamp: object, time_ms: int
    ) -> None:
        assert sample_of({"co2_ppm": 1, "timestamp": timestamp}).device_time_ms == time_ms

    def test_without_a_time_it_is_the_time_of_receipt(self) -> None:
        assert sample_of({"co2_ppm": 1}).device_time_ms == NOW_MS

    def test_the_same_timestamp_is_the_same_reading_in_whatever_form(self) -> None:
        forms = ["2026-03-01T08:15:00Z", "2026-03-01T11:15:00+03:00", 1_772_352_900, 1_772_352_900_000]

        assert len({sample_of({"co2_ppm": 1, "timestamp": form}).seq for form in forms}) == 1

    @pytest.mark.parametrize(
        "timestamp", ["2026-03-01T08:15:00", "yesterday", "", True, [], {}, -1, 2.5e14, 10**30, "2026-13-01T00:00:00Z"]
    )
    def test_a_time_that_may_mean_anything_is_refused(self, timestamp: object) -> None:
        assert cause_of({"co2_ppm": 1, "timestamp": timestamp}) == "wrong_type"


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "cause"),
        [
            (b"", "invalid_json"),
            (b"{", "invalid_json"),
            (b"co2=5", "invalid_json"),
            (b'{"co2_ppm": NaN}', "not_finite"),
            (b'{"co2_ppm": -Infinity}', "not_finite"),
            (b"[1, 2]", "wrong_type"),
            (b"5", "wrong_type"),
            (b"null", "wrong_type"),
            (b'{"co2_ppm": "98000"}', "wrong_type"),
            (b'{"co2_ppm": true}', "wrong_type"),
            (b'{"co2_ppm": [98000]}', "wrong_type"),
            (b"{}", "missing_field"),
            (b'{"pressure_kpa": 79.7}', "missing_field"),
            (b'{"co2_ppm": null}', "missing_field"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, body: bytes, cause: str) -> None:
        assert cause_of(body) == cause

    @pytest.mark.parametrize(
        "body",
        [
            b'{"co2_ppm": 1, "note": "\xff"}',
            b'{"co2_ppm": 1' + b"0" * 400 + b"}",
        ],
        ids=["bytes that are no text", "a number without end"],
    )
    def test_what_no_reader_was_made_for_is_named_too(self, body: bytes) -> None:
        assert cause_of(body) in {"invalid_json", "not_finite", "wrong_type"}

    @given(
        st.dictionaries(
            st.sampled_from(["co2_ppm", "co2", "temperature_c", "velocity_ms", "pressure_kpa", "timestamp", "x"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=25) | st.datetimes().map(str),
        )
    )
    def test_any_object_is_read_or_refused(self, body: dict[str, Any]) -> None:
        try:
            message = read(body)
        except DecodeError:
            return
        assert message.count == len(message.samples) == 1
        assert message.samples[0].device_time_ms >= 0
