"""Gateways that forward frames: what their messages say, and by which name they are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from carbontrack import (
    ClockQuality,
    DecodeError,
    Flag,
    Frame,
    FrameDecoder,
    FrameError,
    Message,
    Payload,
    Sample,
    SensorDriver,
)
from carbontrack.config import load_config
from carbontrack.emissions.rate import emission_rate
from carbontrack.intake import Batch, Intake
from carbontrack.model import Device, Factory, MonitoringPlan, Site, Stack
from carbontrack.plugins import load_plugins
from carbontrack.plugins.sensors import frames, max6675, max31855, max31856, mhz19, modbus_meter, ndir20, sdp8xx
from carbontrack.store import Work
from carbontrack.streams import Stream
from tests.support.plugins import FakePlugin, brought

NOW_MS = 1_795_433_050_000
AT = "2026-03-01T08:15:00Z"
AT_MS = 1_772_352_900_000
SID = "9f3c21aa"

CO2 = b" Z 09800\r\n".hex()
HOT = "19 00 0B 74 00 00"
DRAUGHT = "03 62 75 13 88 01 00 F0 03"
METER = "01 04 01 56 00 02 90 27 01 04 04 45 9A 52 29 32 19"
KWH = pytest.approx(4938.27)
BROKEN = "03 62 76 13 88 01 00 F0 03"
"""A draught whose checksum is wrong."""
FLUE = {"ndir20": CO2, "max31856": HOT, "sdp8xx": DRAUGHT}

OURS = (max6675, max31855, max31856, mhz19, modbus_meter, ndir20, sdp8xx)


def decoders() -> dict[str, FrameDecoder]:
    """All of ours, as they are without any options."""
    found: dict[str, FrameDecoder] = {}
    for module in OURS:
        for decoder in brought(module, "register_frame_decoders", FakePlugin.of(module.MANIFEST, {})):
            assert isinstance(decoder, FrameDecoder)
            found[decoder.name] = decoder
    return found


class Gateway:
    """A device whose driver is ``frames``; ``decoders`` are those that plugins bring at the moment."""

    def __init__(self) -> None:
        self.decoders = decoders()
        plugin = FakePlugin("frames", frame_decoders=self.decoders)
        (self.driver,) = brought(frames, "register_sensors", plugin)

    def read(self, body: object) -> Message:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert isinstance(self.driver, SensorDriver)
        return self.driver.decode(Payload("gw-7", "data", raw, NOW_MS))

    def sample(self, sent: dict[str, str], **rest: Any) -> Sample:
        message = self.read({"timestamp": AT, "frames": sent, **rest})
        (sample,) = message.samples
        return sample

    def refusal(self, body: object) -> DecodeError:
        with pytest.raises(DecodeError) as caught:
            self.read(body)
        assert str(caught.value), "an operator reads the detail"
        return caught.value

    def cause(self, body: object) -> str:
        return self.refusal(body).cause


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def numbered(moments: Sequence[dict[str, Any]], n: int | None = None, seq: int = 1001, **rest: Any) -> dict[str, Any]:
    return {"sid": SID, "boot": 12, "seq": seq, "n": len(moments) if n is None else n, "moments": moments, **rest}


def moment(sent: dict[str, str] | None = None, at_ms: int = AT_MS) -> dict[str, Any]:
    return {"timestamp": at_ms, "frames": FLUE if sent is None else sent}


class TestOneMoment:
    def test_the_frames_of_a_moment_are_one_sample(self, gateway: Gateway) -> None:
        message = gateway.read({"timestamp": AT, "frames": FLUE})

        (sample,) = message.samples
        assert (sample.co2_ppm, sample.temperature_c) == (98_000, 183.25)
        assert sample.pressure_difference_pa == pytest.approx(866 / 240)
        assert (sample.velocity_ms, sample.pressure_kpa, sample.device_co2_kg_per_s) == (None, None, None)
        assert (sample.device_time_ms, sample.clock, sample.status) == (AT_MS, ClockQuality.SYNCED, 0)
        assert (message.records, message.count, message.numbered) == ([], 1, False)

    def test_what_they_say_together_gives_a_rate(self, gateway: Gateway) -> None:
        rate = emission_rate(gateway.sample(FLUE), MonitoringPlan(velocity_method="pitot"), 79.68, 0)

        assert rate.co2_kg_per_s == pytest.approx(0.105, rel=0.05)
        assert rate.flags & Flag.VELOCITY_FROM_PITOT

    def test_a_meters_totals_are_a_record(self, gateway: Gateway) -> None:
        message = gateway.read({"timestamp": AT, "frames": {**FLUE, "modbus_meter": METER}})

        (record,) = message.records
        assert (record.kind, record.device_time_ms, record.data) == ("meter", AT_MS, {"kwh": KWH})
        assert len(message.samples) == 1
        assert message.count == 2

    def test_a_meter_alone_is_no_sample(self, gateway: Gateway) -> None:
        message = gateway.read({"timestamp": AT, "frames": {"modbus_meter": METER}})

        assert (message.samples, len(message.records), message.count) == ([], 1, 1)

    def test_the_sensors_own_faults_are_its_status(self, gateway: Gateway) -> None:
        sample = gateway.sample({"max31855": "00 64 19 01", "mhz19": "FF 86 13 88 47 00 00 00 98"})

        assert sample.status == Flag.TEMPERATURE_OPEN | Flag.CO2_OVER_RANGE
        assert (sample.temperature_c, sample.co2_ppm) == (None, 5000)

    def test_the_gateway_adds_what_it_knows_itself(self, gateway: Gateway) -> None:
        sample = gateway.sample({"max31855": "00 64 19 01"}, st=int(Flag.MAINTENANCE))

        assert sample.status == Flag.TEMPERATURE_OPEN | Flag.MAINTENANCE

    def test_the_same_moment_twice_is_one_reading(self, gateway: Gateway) -> None:
        forms = [AT, "2026-03-01T11:15:00+03:00", AT_MS, AT_MS // 1000]

        assert {gateway.read({"timestamp": form, "frames": FLUE}).first_seq for form in forms} == {AT_MS}

    def test_without_a_time_it_is_the_time_of_receipt(self, gateway: Gateway) -> None:
        message = gateway.read({"frames": FLUE})

        assert message.samples[0].device_time_ms == NOW_MS

    def test_a_clock_that_was_never_set_does_not_count(self, gateway: Gateway) -> None:
        message = gateway.read({"timestamp": 12.5, "frames": FLUE})

        assert (message.samples[0].device_time_ms, message.samples[0].clock) == (NOW_MS, ClockQuality.UNSET)


class TestNumbers:
    def test_a_moment_may_have_a_number_itself(self, gateway: Gateway) -> None:
        message = gateway.read({"sid": SID, "boot": 12, "seq": 7, "n": 1, "timestamp": AT_MS, "frames": FLUE})

        assert (message.stream, message.boot, message.first_seq, message.count) == (SID, 12, 7, 1)
        assert message.numbered is True
        assert message.samples[0].seq == 7

    def test_a_backlog_is_many_moments_in_one_message(self, gateway: Gateway) -> None:
        message = gateway.read(numbered([moment(at_ms=AT_MS + 5000 * number) for number in range(60)]))

        assert [sample.seq for sample in message.samples] == list(range(1001, 1061))
        assert [sample.device_time_ms for sample in message.samples] == [AT_MS + 5000 * it for it in range(60)]

    def test_a_meters_record_has_the_number_after_its_moments_sample(self, gateway: Gateway) -> None:
        moments = [moment(), moment(FLUE | {"modbus_meter": METER}), moment({"modbus_meter": METER}), moment()]
        message = gateway.read(numbered(moments, 5))

        assert [sample.seq for sample in message.samples] == [1001, 1002, 1005]
        assert [(record.seq, record.kind) for record in message.records] == [(1003, "meter"), (1004, "meter")]

    def test_a_time_before_2020_is_the_time_since_boot(self, gateway: Gateway) -> None:
        (sample,) = gateway.read(numbered([moment(at_ms=12)])).samples

        assert (sample.device_time_ms, sample.clock) == (12_000, ClockQuality.UNSET)

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            ({"n": 2}, "row_count_mismatch"),
            ({"moments": []}, "row_count_mismatch"),
            ({"moments": [{"frames": FLUE}]}, "missing_field"),
            ({"moments": [{"timestamp": AT_MS}]}, "missing_field"),
            ({"moments": [{"timestamp": AT_MS, "frames": {}}]}, "missing_field"),
            ({"moments": None}, "missing_field"),
            ({"moments": [{"timestamp": "yesterday", "frames": FLUE}]}, "wrong_type"),
            ({"moments": [{"timestamp": True, "frames": FLUE}]}, "wrong_type"),
            ({"moments": [{"timestamp": AT_MS, "frames": {"max31855": "zz"}}]}, "wrong_type"),
            ({"moments": [{"timestamp": AT_MS, "frames": {"max31855": 25}}]}, "wrong_type"),
            ({"moments": [{"timestamp": AT_MS, "frames": FLUE, "st": 1 << 15}]}, "wrong_type"),
            ({"frames": FLUE}, "wrong_type"),
        ],
    )
    def test_a_message_that_can_never_be_read_is_receipted(
        self, gateway: Gateway, change: dict[str, Any], cause: str
    ) -> None:
        error = gateway.refusal(numbered([moment()]) | change)

        assert error.cause == cause
        assert error.covers == (SID, 1001, 1000 + change.get("n", 1))

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            ({"sid": "s s"}, "invalid_stream"),
            ({"n": 0}, "empty"),
            ({"n": 1001}, "too_many_records"),
            ({"seq": 0}, "bad_sequence"),
            ({"boot": -1}, "bad_sequence"),
            ({"boot": None}, "missing_field"),
            ({"sid": None}, "missing_field"),
        ],
    )
    def test_numbers_that_are_none_cannot_be_receipted(
        self, gateway: Gateway, change: dict[str, Any], cause: str
    ) -> None:
        error = gateway.refusal(numbered([moment()]) | change)

        assert (error.cause, error.covers) == (cause, None)

    def test_a_list_without_numbers_is_refused(self, gateway: Gateway) -> None:
        assert gateway.cause({"moments": [moment()]}) == "missing_field"

    def test_a_message_that_is_cut_off_is_receipted_once_its_numbers_are_there(self, gateway: Gateway) -> None:
        body = json.dumps(numbered([moment(), moment()])).encode()

        covers = {gateway.refusal(body[:length]).covers for length in range(len(body))}
        assert covers == {None, (SID, 1001, 1002)}


class TestFramesThatCannotBeRead:
    def test_a_frame_takes_away_its_own_channel_only(self, gateway: Gateway) -> None:
        sample = gateway.sample({**FLUE, "sdp8xx": BROKEN})

        assert sample.pressure_difference_pa is None
        assert (sample.co2_ppm, sample.temperature_c) == (98_000, 183.25)
        assert sample.status == Flag.VELOCITY_FAULT

    @pytest.mark.parametrize(
        ("name", "flag"),
        [("ndir20", Flag.CO2_FAULT), ("max31856", Flag.TEMPERATURE_FAULT), ("sdp8xx", Flag.VELOCITY_FAULT)],
    )
    def test_every_channel_has_its_bit_and_there_is_no_rate(self, gateway: Gateway, name: str, flag: Flag) -> None:
        sample = gateway.sample({**FLUE, name: "00"})
        rate = emission_rate(sample, MonitoringPlan(velocity_method="pitot"), 79.68, sample.status)

        assert sample.status == flag
        assert rate.co2_kg_per_s is None

    def test_one_bad_moment_does_not_cost_the_others_of_its_message(self, gateway: Gateway) -> None:
        bad = dict.fromkeys(FLUE, "00")
        message = gateway.read(numbered([moment(), moment(bad), moment()]))

        assert [sample.co2_ppm for sample in message.samples] == [98_000, None, 98_000]
        assert message.samples[1].status == Flag.CO2_FAULT | Flag.TEMPERATURE_FAULT | Flag.VELOCITY_FAULT

    def test_a_meters_frame_leaves_an_event_in_the_place_of_its_record(self, gateway: Gateway) -> None:
        message = gateway.read(numbered([moment(FLUE | {"modbus_meter": METER[:-1] + "8"}), moment()], 3))

        (record,) = message.records
        assert (record.seq, record.kind) == (1002, "event")
        assert record.data["code"] == "frame_refused"
        assert record.data["frames"][0]["cause"] == "frame_checksum"
        assert [sample.seq for sample in message.samples] == [1001, 1003], "the numbers do not shift"

    def test_a_message_without_any_frame_that_can_be_read_goes_to_quarantine(self, gateway: Gateway) -> None:
        error = gateway.refusal({"timestamp": AT, "frames": {"sdp8xx": BROKEN, "max31856": "00"}})
        receipted = gateway.refusal(numbered([moment({"sdp8xx": BROKEN}), moment({"sdp8xx": BROKEN})]))

        assert (error.cause, error.covers) == ("frame_checksum", None)
        assert (receipted.cause, receipted.covers) == ("frame_checksum", (SID, 1001, 1002))

    def test_it_is_told_once(self, gateway: Gateway) -> None:
        with capture_logs() as logs:
            for _ in range(3):
                gateway.sample({**FLUE, "sdp8xx": BROKEN})
            gateway.sample({**FLUE, "sdp8xx": "00"})

        assert [(entry["device"], entry["frame"], entry["cause"]) for entry in logs] == [
            ("gw-7", "sdp8xx", "frame_checksum"),
            ("gw-7", "sdp8xx", "frame_length"),
        ]

    def test_a_name_without_a_decoder_gives_no_receipt_so_the_gateway_keeps_it(self, gateway: Gateway) -> None:
        del gateway.decoders["sdp8xx"]
        error = gateway.refusal(numbered([moment()]))

        assert (error.cause, error.covers) == ("unknown_frame", None)

    def test_a_decoder_that_comes_later_is_found(self, gateway: Gateway) -> None:
        gone = gateway.decoders.pop("sdp8xx")
        assert gateway.cause({"frames": FLUE}) == "unknown_frame"
        gateway.decoders["sdp8xx"] = gone

        assert gateway.sample(FLUE).pressure_difference_pa is not None


class TestTheSameTwice:
    def test_two_frames_that_give_the_same_refuse_the_message(self, gateway: Gateway) -> None:
        error = gateway.refusal(numbered([moment({"max31855": "01 90 19 00", "max31856": HOT})]))

        assert error.cause == "same_quantity"
        assert error.covers == (SID, 1001, 1001)
        assert "max31855 and max31856 both give temperature_c" in str(error)

    @pytest.mark.parametrize("fault", ["00 64 19 01", "00"], ids=["open", "broken"])
    def test_also_where_one_of_them_has_no_value_just_now(self, gateway: Gateway, fault: str) -> None:
        assert gateway.cause({"frames": {"max31855": fault, "max6675": "05 B8"}}) == "same_quantity"

    def test_a_pitot_and_an_anemometer_are_two_quantities(self, gateway: Gateway) -> None:
        gateway.decoders["vane"] = FrameDecoder("vane", "", lambda _: Frame(velocity_ms=4.0), gives=("velocity_ms",))
        sample = gateway.sample({"sdp8xx": DRAUGHT, "vane": "01"})

        assert sample.velocity_ms == 4.0
        assert sample.pressure_difference_pa == pytest.approx(866 / 240)


def _refuse(_: bytes) -> Frame:
    raise FrameError("too_strange", "it is not for us")


class TestDecodersThatDoNotSayWhatTheyGive:
    def test_they_are_taken_by_what_they_gave(self, gateway: Gateway) -> None:
        gateway.decoders["oil"] = FrameDecoder("oil", "", lambda _: Frame(meter={"litres": 7.0}))
        gateway.decoders["stirring"] = FrameDecoder("stirring", "", lambda _: Frame(status=int(Flag.WARM_UP)))
        message = gateway.read({"frames": {"oil": "01", "stirring": "02"}})

        assert message.records[0].data == {"litres": 7.0}
        assert message.samples[0].status == Flag.WARM_UP

    def test_the_same_quantity_is_found_where_both_have_a_value(self, gateway: Gateway) -> None:
        gateway.decoders["vane"] = FrameDecoder("vane", "", lambda _: Frame(temperature_c=1.0))

        assert gateway.cause({"frames": {**FLUE, "vane": "01"}}) == "same_quantity"

    def test_a_frame_that_cannot_be_read_refuses_the_message_with_its_cause(self, gateway: Gateway) -> None:
        gateway.decoders["odd"] = FrameDecoder("odd", "", _refuse)

        assert gateway.cause({"frames": {**FLUE, "odd": "01"}}) == "too_strange"

    def test_bits_of_the_platform_are_not_for_a_decoder(self, gateway: Gateway) -> None:
        gateway.decoders["odd"] = FrameDecoder("odd", "", lambda _: Frame(status=int(Flag.BACKLOG | Flag.STALE)))

        assert gateway.sample({**FLUE, "odd": "01"}).status == Flag.STALE


class TestInACore:
    def test_the_options_of_the_decoders_plugins_count(self, tmp_path: Path) -> None:
        path = tmp_path / "carbontrack.yaml"
        path.write_text(OPTIONS, encoding="utf-8")
        driver = load_plugins(load_config(path, {})).contributions.sensors["frames"]
        body = json.dumps({"timestamp": AT, "frames": {"pulse_anemometer": "50 00 C8 13 88 DB", "modbus_meter": OIL}})
        message = driver.decode(Payload("gw-7", "data", body.encode(), NOW_MS))

        assert message.samples[0].velocity_ms == pytest.approx(4.25)
        assert message.records[0].data == {"litres": pytest.approx(12345.6)}

    def test_an_anemometer_without_its_calibration_is_no_error_and_its_frame_waits(self) -> None:
        plugins = load_plugins()
        driver = plugins.contributions.sensors["frames"]
        body = json.dumps(numbered([moment({"pulse_anemometer": "50 00 C8 13 88 DB"})])).encode()
        with pytest.raises(DecodeError) as caught:
            driver.decode(Payload("gw-7", "data", body, NOW_MS))

        assert [status.error for status in plugins.statuses if status.error] == []
        assert (caught.value.cause, caught.value.covers) == ("unknown_frame", None)


class TestOnTheWayIn:
    """What becomes of a gateway's messages in its device's actor."""

    async def test_samples_and_meters_are_stored_and_their_numbers_receipted(self, gateway: Gateway) -> None:
        batch = await taken(gateway, numbered([moment(), moment(FLUE | {"modbus_meter": METER})], 3, seq=1))

        assert [reading.seq for reading in batch.work.readings] == [1, 2]
        assert all(reading.co2_kg_per_s for reading in batch.work.readings)
        assert [record.seq for _, record, *_ in batch.work.records] == [3]
        assert batch.receipts[SID].watermark == 3

    async def test_what_can_never_be_read_is_quarantined_and_receipted(self, gateway: Gateway) -> None:
        batch = await taken(gateway, numbered([moment({"sdp8xx": BROKEN})], seq=1), numbered([moment()], seq=2))

        assert [item.cause for item in batch.work.quarantined] == ["frame_checksum"]
        assert batch.receipts[SID].watermark == 2

    async def test_without_its_decoder_a_message_is_quarantined_and_kept_by_the_gateway(self, gateway: Gateway) -> None:
        del gateway.decoders["sdp8xx"]
        batch = await taken(gateway, numbered([moment()], seq=1))

        assert [item.cause for item in batch.work.quarantined] == ["unknown_frame"]
        assert batch.receipts == {}

    async def test_without_numbers_there_is_no_receipt(self, gateway: Gateway) -> None:
        batch = await taken(gateway, {"timestamp": AT, "frames": FLUE | {"modbus_meter": METER}})

        assert (len(batch.work.readings), len(batch.work.records), batch.receipts) == (1, 1, {})


async def taken(gateway: Gateway, *bodies: object) -> Batch:
    """One turn of a gateway's actor, with a database that only counts streams."""
    opened = count(1)

    async def open_stream(_: str, sid: str) -> Stream:
        return Stream(next(opened), sid)

    plan = MonitoringPlan(velocity_method="pitot")
    site = Site(
        Factory(1, "Kangaita", "kangaita", "Kirinyaga", "3", None, None, 2036.0),
        Stack(11, 1, "Boiler 1", (plan,)),
        Device(21, "gw-7", 1, 11),
    )
    assert isinstance(gateway.driver, SensorDriver)
    intake = Intake(site, gateway.driver, open_stream, stuck_after_s=600)
    batch = Batch(Work("gw-7", 1))
    for body in bodies:
        await intake.take_data(Payload("gw-7", "data", json.dumps(body).encode(), NOW_MS), batch)
    batch.seal()
    return batch


OPTIONS = """
plugins:
  options:
    pulse_anemometer: {ms_per_hz: 0.1, offset_ms: 0.25}
    modbus_meter:
      units:
        1: sdm
        2: [{address: 16, form: uint32, total: litres, scale: 0.1}]
"""
OIL = "02 04 00 10 00 02 70 3D 02 04 04 00 01 E2 40 D0 14"


class TestNoise:
    @given(st.binary(max_size=200))
    def test_noise_is_refused_by_name(self, body: bytes) -> None:
        with pytest.raises(DecodeError):
            Gateway().read(body)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        ),
        st.sampled_from(["sid", "boot", "seq", "n", "moments", "frames", "timestamp", "st"]),
        st.booleans(),
    )
    def test_anything_in_any_place_is_read_or_refused(self, value: Any, key: str, with_numbers: bool) -> None:
        body = numbered([moment()]) if with_numbers else {"timestamp": AT, "frames": FLUE}
        try:
            message = Gateway().read(body | {key: value})
        except DecodeError:
            return
        assert message.count == len(message.samples) + len(message.records)
        assert all(sample.device_time_ms >= 0 for sample in message.samples)

    @given(
        st.dictionaries(st.sampled_from([*FLUE, "max31855", "modbus_meter"]), st.binary(max_size=20), min_size=1),
        st.integers(1, 8),
    )
    def test_whatever_the_frames_hold_the_numbers_do_not_shift(self, sent: dict[str, bytes], count: int) -> None:
        one = {name: raw.hex() for name, raw in sent.items()}
        if {"max31855", "max31856"} <= one.keys():
            del one["max31855"]  # they give the same
        per_moment = ("modbus_meter" in one) + bool(set(one) - {"modbus_meter"})
        message = Gateway().read(numbered([moment(), *[moment(one)] * count], 1 + count * per_moment))

        numbers = [*(sample.seq for sample in message.samples), *(record.seq for record in message.records)]
        assert sorted(numbers) == list(range(1001, 1001 + message.count))
