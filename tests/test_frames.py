"""Frames of single sensors: what their bytes say, and by which name they are refused."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carbontrack import Flag, Frame, FrameDecoder, FrameError
from carbontrack.plugins.sensors import (
    max6675,
    max31855,
    max31856,
    mhz19,
    modbus_meter,
    ndir20,
    pulse_anemometer,
    sdp8xx,
)
from tests.support.plugins import FakePlugin, brought

FOLDER = Path(__file__).parent / "vectors" / "frames"
MODULES: dict[str, ModuleType] = {
    module.MANIFEST.name: module
    for module in (max31855, max31856, max6675, mhz19, modbus_meter, ndir20, pulse_anemometer, sdp8xx)
}
VALUES = ("co2_ppm", "temperature_c", "velocity_ms", "pressure_difference_pa", "pressure_kpa")
CHECKED = ("mhz19", "modbus_meter", "pulse_anemometer", "sdp8xx")
"""Decoders whose frames have a checksum."""


@dataclass(frozen=True)
class Vector:
    """One line of a file of vectors."""

    name: str
    about: str
    frame: bytes
    expected: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def decoder(self) -> FrameDecoder:
        return decoder(self.name, **self.options)


def decoder(name: str, **options: Any) -> FrameDecoder:
    """The decoder that a plugin brings with these options."""
    (found,) = brought(MODULES[name], "register_frame_decoders", FakePlugin.of(MODULES[name].MANIFEST, options))
    assert isinstance(found, FrameDecoder)
    return found


def vectors() -> list[Vector]:
    return [
        Vector(name, line["about"], bytes.fromhex(line["hex"]), line["expected"], line.get("options", {}))
        for name in MODULES
        for line in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    ]


def title(vector: Vector) -> str:
    return f"{vector.name}: {vector.about}"


VECTORS = vectors()
GOOD = [vector for vector in VECTORS if "cause" not in vector.expected]
REFUSED = [vector for vector in VECTORS if "cause" in vector.expected]
ALL_DECODERS = [decoder(name, **({"ms_per_hz": 0.1} if name == "pulse_anemometer" else {})) for name in sorted(MODULES)]


class TestGoldenVectors:
    def test_every_decoder_has_vectors_and_every_file_a_decoder(self) -> None:
        assert {path.stem for path in FOLDER.iterdir()} == set(MODULES)

    @pytest.mark.parametrize("vector", GOOD, ids=title)
    def test_a_frame_says_what_was_measured_and_nothing_else(self, vector: Vector) -> None:
        frame = vector.decoder.decode(vector.frame)

        found = {name: value for name in VALUES if (value := getattr(frame, name)) is not None}
        assert found == pytest.approx({name: vector.expected[name] for name in VALUES if name in vector.expected})
        assert dict(frame.meter) == pytest.approx(vector.expected.get("meter", {}))
        assert frame.status == vector.expected["status"]

    @pytest.mark.parametrize("vector", REFUSED, ids=title)
    def test_bytes_that_are_no_frame_are_refused_by_name(self, vector: Vector) -> None:
        with pytest.raises(FrameError) as caught:
            vector.decoder.decode(vector.frame)

        assert caught.value.cause == vector.expected["cause"]
        assert str(caught.value), "an operator reads the detail"

    @pytest.mark.parametrize("vector", GOOD, ids=title)
    def test_a_decoder_gives_what_it_says_that_it_gives(self, vector: Vector) -> None:
        frame = vector.decoder.decode(vector.frame)

        found = {name for name in VALUES if getattr(frame, name) is not None} | set(frame.meter)
        assert found <= set(vector.decoder.gives)


class TestNoise:
    @given(st.sampled_from(ALL_DECODERS), st.binary(max_size=40))
    def test_any_bytes_give_a_frame_or_are_refused(self, decoder: FrameDecoder, noise: bytes) -> None:
        check(decoder, noise)

    @given(st.sampled_from(VECTORS), st.integers(0, 40), st.binary(min_size=1, max_size=3))
    def test_a_frame_with_some_bytes_changed_gives_a_frame_or_is_refused(
        self, vector: Vector, at: int, noise: bytes
    ) -> None:
        check(vector.decoder, vector.frame[:at] + noise + vector.frame[at + len(noise) :])

    @given(st.sampled_from([vector for vector in GOOD if vector.name in CHECKED]), st.data())
    def test_a_flipped_bit_in_a_frame_with_a_checksum_is_never_another_value(
        self, vector: Vector, data: st.DataObject
    ) -> None:
        bit = data.draw(st.integers(0, len(vector.frame) * 8 - 1))
        broken = bytearray(vector.frame)
        broken[bit // 8] ^= 1 << bit % 8

        with pytest.raises(FrameError):
            vector.decoder.decode(bytes(broken))

    @pytest.mark.parametrize("vector", GOOD, ids=title)
    def test_a_frame_that_is_cut_off_anywhere_is_refused(self, vector: Vector) -> None:
        for length in range(len(vector.frame)):
            if vector.name == "modbus_meter" and length == 17:
                continue  # two meters, one after the other: the first one is whole
            if vector.name == "ndir20" and vector.frame[:length].endswith(b"\r\n"):
                continue  # the same with lines
            with pytest.raises(FrameError):
                vector.decoder.decode(vector.frame[:length])


def check(decoder: FrameDecoder, raw: bytes) -> None:
    """A frame has finite values and bits of a device; all else is refused."""
    try:
        frame = decoder.decode(raw)
    except FrameError:
        return
    assert isinstance(frame, Frame)
    values = [value for name in VALUES if (value := getattr(frame, name)) is not None]
    assert all(isfinite(value) for value in (*values, *frame.meter.values()))
    assert 0 <= frame.status < 1 << 15
    assert values or frame.status or frame.meter, "a frame says something"


class TestRoundTrips:
    """A sensor that sends a value is understood to have sent it."""

    @given(st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(min_size=3, max_size=3))
    def test_mhz19(self, co2_ppm: int, temperature: int, rest: bytes) -> None:
        body = bytes([0x86, co2_ppm >> 8, co2_ppm & 0xFF, temperature]) + rest
        frame = decoder("mhz19").decode(b"\xff" + body + bytes([-sum(body) & 0xFF]))

        assert frame.co2_ppm == co2_ppm
        assert frame.temperature_c is None, "it is the head's own"
        assert bool(frame.status & Flag.CO2_OVER_RANGE) is (co2_ppm >= 5000)

    @given(st.integers(0, 99_999), st.sampled_from([1, 10, 100]))
    def test_ndir20(self, steps: int, multiplier: int) -> None:
        line = f" Z {steps:05d}\r\n".encode()
        by_option = decoder("ndir20", multiplier=multiplier).decode(line)
        by_frame = decoder("ndir20").decode(f" . {multiplier:05d}\r\n".encode() + line)

        assert by_option == by_frame
        assert by_option.co2_ppm == steps * multiplier

    @given(st.integers(-(2**13), 2**13 - 1), st.integers(-(2**11), 2**11 - 1).filter(bool))
    def test_max31855(self, quarters: int, cold: int) -> None:
        word = ((quarters & 0x3FFF) << 18 | (cold & 0xFFF) << 4).to_bytes(4, "big")

        assert decoder("max31855").decode(word) == Frame(temperature_c=quarters / 4)

    @given(st.integers(-(2**18), 2**18 - 1), st.integers(-(2**13), 2**13 - 1).filter(bool))
    def test_max31856(self, steps: int, cold: int) -> None:
        registers = ((cold & 0x3FFF) << 2).to_bytes(2, "big") + ((steps & 0x7FFFF) << 5).to_bytes(3, "big") + b"\0"

        assert decoder("max31856").decode(registers) == Frame(temperature_c=steps / 128)

    @given(st.integers(1, 4094), st.integers(0, 1))
    def test_max6675(self, quarters: int, floating: int) -> None:
        word = (quarters << 3 | floating).to_bytes(2, "big")

        assert decoder("max6675").decode(word) == Frame(temperature_c=quarters / 4)

    @given(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**15), 2**15 - 1), st.sampled_from([60, 240]))
    def test_sdp8xx(self, steps: int, temperature: int, scale: int) -> None:
        words = [struct.pack(">h", number) for number in (steps, temperature, scale)]
        frame = decoder("sdp8xx").decode(b"".join(word + bytes([sdp8xx.crc8(word)]) for word in words))

        assert frame.pressure_difference_pa == steps / scale
        assert bool(frame.status & Flag.PRESSURE_DIFFERENCE_NEGATIVE) is (steps < 0)
        assert frame.velocity_ms is None, "the platform works it out"

    @given(st.integers(0, 0xFFFE), st.integers(1, 0xFFFF), st.floats(0.01, 10))
    def test_pulse_anemometer(self, pulses: int, interval_ms: int, ms_per_hz: float) -> None:
        body = b"P" + struct.pack(">HH", pulses, interval_ms)
        frame = decoder("pulse_anemometer", ms_per_hz=ms_per_hz).decode(body + bytes([pulse_anemometer.crc8(body)]))

        assert frame.velocity_ms == pytest.approx(ms_per_hz * pulses / (interval_ms / 1000))

    @given(st.integers(0, 2**32 - 1), st.integers(1, 247), st.sampled_from([3, 4]), st.integers(0, 0xFFFE))
    def test_modbus_meter(self, count: int, unit: int, function: int, register: int) -> None:
        place = {"address": register, "total": "litres", "form": "uint32", "function": function}
        request = with_crc(struct.pack(">BBHH", unit, function, register, 2))
        answer = with_crc(struct.pack(">BBBI", unit, function, 4, count))
        frame = decoder("modbus_meter", units={unit: [place]}).decode(request + answer)

        assert frame == Frame(meter={"litres": count})

    @given(st.floats(0, 1e9, width=32))
    def test_a_total_of_an_sdm(self, kwh: float) -> None:
        request = with_crc(struct.pack(">BBHH", 1, 4, 0x0156, 2))

        assert decoder("modbus_meter").decode(request + with_crc(struct.pack(">BBBf", 1, 4, 4, kwh))).meter == {
            "kwh": kwh
        }


def with_crc(data: bytes) -> bytes:
    return data + modbus_meter.crc16(data).to_bytes(2, "little")


class TestChecksums:
    """The check values that the data sheets give."""

    def test_crc8(self) -> None:
        assert sdp8xx.crc8(b"\xbe\xef") == 0x92
        assert pulse_anemometer.crc8(b"\xbe\xef") == 0x92

    def test_crc16(self) -> None:
        assert with_crc(bytes.fromhex("01 04 00 00 00 02")).endswith(bytes.fromhex("71 CB"))


class TestOptions:
    def test_an_anemometer_without_its_calibration_brings_no_decoder(self) -> None:
        plugin = FakePlugin.of(pulse_anemometer.MANIFEST, {})

        assert brought(pulse_anemometer, "register_frame_decoders", plugin) == []

    def test_a_meter_decoder_gives_the_totals_of_its_units(self) -> None:
        oil = {"address": 16, "total": "litres", "form": "uint32"}

        assert decoder("modbus_meter").gives == ("kwh",)
        assert decoder("modbus_meter", units={1: "sdm", 2: [oil]}).gives == ("kwh", "litres")

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("mhz19", {"full_scale_ppm": 0}),
            ("mhz19", {"full_scale_ppm": 70_000}),
            ("mhz19", {"full_scale": 5000}),
            ("ndir20", {"multiplier": 7}),
            ("pulse_anemometer", {"ms_per_hz": -1}),
            ("modbus_meter", {"units": {0: "sdm"}}),
            ("modbus_meter", {"units": {1: "sdm9000"}}),
            ("modbus_meter", {"units": {1: [{"address": 70_000, "total": "kwh"}]}}),
            ("modbus_meter", {"units": {1: [{"address": 1, "total": "furlongs"}]}}),
            ("modbus_meter", {"units": {1: "sdm", 2: "pzem004t"}}),
        ],
    )
    def test_an_option_that_cannot_be_is_refused(self, name: str, options: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            decoder(name, **options)
