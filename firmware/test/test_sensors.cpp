#include <doctest/doctest.h>

#include "ct/crc.h"
#include "ct/sensors/frame.h"
#include "support.h"

using namespace ct;
using namespace ct::sensors;
using namespace ct::test;

TEST_SUITE_BEGIN("sensors");

namespace {

constexpr const char* total_names[totals] = {"kwh", "genset_kwh", "litres", "run_s"};

Total total_of(const std::string& name) {
    for (std::size_t which = 0; which < totals; ++which) {
        if (name == total_names[which]) {
            return static_cast<Total>(which);
        }
    }
    throw std::runtime_error("no total " + name);
}

Form form_of(const std::string& name) {
    return name == "float32" ? Form::float32
           : name == "uint32" ? Form::uint32
           : name == "uint16" ? Form::uint16
                              : Form::uint32_low_first;
}

void set_number(const json::Value& options, const char* name, float& to) {
    if (options.member(name)) {
        to = static_cast<float>(number(options, name));
    }
}

Register register_of(std::uint8_t unit, const json::Value& written) {
    Register place;
    place.unit = unit;
    place.address = static_cast<std::uint16_t>(number(written, "address"));
    place.total = total_of(text(written, "total"));
    place.form = written.member("form") ? form_of(text(written, "form")) : Form::float32;
    place.function = written.member("function") ? static_cast<std::uint8_t>(number(written, "function")) : 4;
    place.scale = written.member("scale") ? number(written, "scale") : 1.0;
    return place;
}

ModbusMeter meters_of(const std::optional<json::Value>& options) {
    ModbusMeter meters;
    if (!options) {
        return meters.add(ModbusMeter::sdm(1));
    }
    for (json::Value::Walk units(options->member("units").value()); units.next();) {
        const auto unit = static_cast<std::uint8_t>(std::stoul(std::string(units.name())));
        if (units.value().kind() == json::Kind::text) {
            const std::string map = text(units.value());
            meters.add(map == "sdm"          ? ModbusMeter::sdm(unit)
                       : map == "sdm_import" ? ModbusMeter::sdm_import(unit)
                                             : ModbusMeter::pzem004t(unit));
            continue;
        }
        for (json::Value::Walk registers(units.value()); registers.next();) {
            meters.add(register_of(unit, registers.value()));
        }
    }
    return meters;
}

Frame decode(const std::string& name, Bytes bytes, const std::optional<json::Value>& options) {
    if (name == "mhz19") {
        Mhz19 read;
        if (options) {
            set_number(*options, "full_scale_ppm", read.full_scale_ppm);
        }
        return decode_mhz19(bytes, read);
    }
    if (name == "ndir20") {
        Ndir20 read;
        if (options) {
            set_number(*options, "full_scale_ppm", read.full_scale_ppm);
            if (options->member("multiplier")) {
                read.multiplier = static_cast<std::uint32_t>(number(*options, "multiplier"));
            }
        }
        return decode_ndir20(bytes, read);
    }
    if (name == "pulse_anemometer") {
        PulseAnemometer read;
        if (options) {
            set_number(*options, "ms_per_hz", read.ms_per_hz);
            set_number(*options, "offset_ms", read.offset_ms);
            set_number(*options, "minimum_hz", read.minimum_hz);
        }
        return decode_pulse_anemometer(bytes, read);
    }
    if (name == "modbus_meter") {
        return decode_modbus_meter(bytes, meters_of(options));
    }
    return name == "max31855"   ? decode_max31855(bytes)
           : name == "max31856" ? decode_max31856(bytes)
           : name == "max6675"  ? decode_max6675(bytes)
                                : decode_sdp8xx(bytes);
}

void check_vector(const std::string& name, const json::Value& vector) {
    const std::string about = text(vector, "about");
    CAPTURE(about);
    const auto bytes = bytes_of_hex(text(vector, "hex"));
    const json::Value expected = vector.member("expected").value();

    const Frame frame = decode(name, {bytes.data(), bytes.size()}, vector.member("options"));

    const auto cause = expected.member("cause");
    CHECK(std::string(name_of(frame.cause)) == (cause ? text(*cause) : ""));
    CHECK(frame.status == static_cast<Flags>(cause ? 0.0 : number(expected, "status")));
    CHECK(agrees(static_cast<double>(frame.co2_ppm), number(expected, "co2_ppm")));
    CHECK(agrees(static_cast<double>(frame.temperature_c), number(expected, "temperature_c")));
    CHECK(agrees(static_cast<double>(frame.velocity_ms), number(expected, "velocity_ms")));
    CHECK(agrees(static_cast<double>(frame.pressure_difference_pa), number(expected, "pressure_difference_pa")));
    const auto meter = expected.member("meter");
    for (std::size_t which = 0; which < totals; ++which) {
        CHECK(agrees(frame.meter[which], meter ? number(*meter, total_names[which]) : no_total));
    }
}

}  // namespace

TEST_CASE("every golden frame says what the platform reads in it, and what is no frame is refused by the same name") {
    for (const char* name : {"max31855", "max31856", "max6675", "mhz19", "modbus_meter", "ndir20", "pulse_anemometer",
                             "sdp8xx"}) {
        CAPTURE(name);
        const Golden golden(std::string("frames/") + name + ".json");
        unsigned count = 0;
        for (json::Value::Walk walk(golden.root()); walk.next(); ++count) {
            check_vector(name, walk.value());
        }
        CHECK(count >= 15);
    }
}

TEST_CASE("the checksums give the check values of the golden files") {
    constexpr std::uint8_t sensirion[] = {0xBE, 0xEF};
    constexpr std::uint8_t modbus[] = {0x01, 0x04, 0x00, 0x00, 0x00, 0x02};
    CHECK(crc8({sensirion, sizeof sensirion}) == 0x92);
    CHECK(crc16({modbus, sizeof modbus}) == 0xCB71);
}

TEST_CASE("no single byte that the wire changes gets through a checksum") {
    const auto frame = bytes_of_hex("FF 86 02 60 47 00 00 00 D1");
    for (std::size_t at = 0; at < frame.size(); ++at) {
        for (unsigned change = 1; change < 256; ++change) {
            auto changed = frame;
            changed[at] = static_cast<std::uint8_t>(changed[at] ^ change);
            CHECK(decode_mhz19({changed.data(), changed.size()}, {}).cause != Cause::none);
        }
    }
}

TEST_CASE("an anemometer without its calibration gives no velocity") {
    const auto frame = bytes_of_hex("50 00 C8 13 88 DB");
    CHECK_FALSE(is_known(decode_pulse_anemometer({frame.data(), frame.size()}, {}).velocity_ms));
}

TEST_SUITE_END();
