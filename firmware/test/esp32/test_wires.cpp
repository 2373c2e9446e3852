// Sensors on their wires: each is asked in its own way, never waited for, and what it says goes through its decoder.
#include <doctest/doctest.h>

#include <algorithm>

#include "boiler_day.h"
#include "ct/sensors/driver.h"
#include "fake_sdk.h"
#include "sources.h"

using namespace ct;
using fake::Buffer;

TEST_SUITE_BEGIN("esp32_wires");

namespace {

constexpr posix::Flue flue = {98000.0, 183.25, 4.12};

// A source as the task sees it: polled every 20 ms.
struct Polled {
    esp32::Source& source;
    std::uint64_t now_ms = 0;

    void pass(std::uint64_t ms) {
        for (const std::uint64_t end = now_ms + ms; now_ms < end; now_ms += 20) {
            source.poll(now_ms);
        }
    }
    bool is_silent() {
        std::uint8_t bytes[300];
        return source.read(bytes, sizeof bytes) == 0;
    }
    sensors::Frame frame(const sensors::Driver& driver) {
        std::uint8_t bytes[300];
        const std::size_t size = source.read(bytes, sizeof bytes);
        return sensors::decode(driver, {bytes, size});
    }
};

Buffer text(const char* line) { return {line, line + std::char_traits<char>::length(line)}; }
fake::Uart& uart() { return fake::sdk().uarts[UART_NUM_1]; }
bool was_said(const Buffer& what) {
    return std::find(uart().from_chip.begin(), uart().from_chip.end(), what) != uart().from_chip.end();
}

Buffer head_of_gss(const Buffer& asked) {
    if (asked == text("Z\r\n")) {
        return text(" Z 09800\r\n");
    }
    return asked == text(".\r\n") ? text(" . 00010\r\n") : asked == text("K 2\r\n") ? text(" K 00002\r\n") : text(" U 32950\r\n");
}

}  // namespace

TEST_CASE("a GSS head is put into polling mode and asked for reading and multiplier") {
    fake::power_on();
    uart().answer = head_of_gss;
    REQUIRE(esp32::open_uart(UART_NUM_1, 17, 16, 9600));
    esp32::GssSource source(UART_NUM_1);
    Polled polled{source};
    sensors::Ndir20 other_multiplier;
    other_multiplier.multiplier = 1;  // what the head says counts
    CHECK(polled.is_silent());
    polled.pass(2000);
    CHECK(uart().from_chip.front() == text("K 2\r\n"));
    CHECK(static_cast<double>(polled.frame(other_multiplier).co2_ppm) == 98000.0);

    SUBCASE("it is calibrated as it wants to hear it") {
        CHECK(source.calibration().zero());
        polled.pass(1000);
        CHECK(was_said(text("U\r\n")));
        CHECK(source.calibration().span(150000.0F));
        polled.pass(1000);
        CHECK(was_said(text("X 15000\r\n")));
        CHECK(static_cast<double>(polled.frame(other_multiplier).co2_ppm) == 98000.0);
    }
    SUBCASE("silence is silence, and afterwards it is set up again") {
        uart().answer = nullptr;
        polled.pass(5000);
        CHECK(polled.is_silent());
        uart().from_chip.clear();
        uart().answer = head_of_gss;
        polled.pass(2000);
        CHECK(was_said(text("K 2\r\n")));
        CHECK(is_known(polled.frame(other_multiplier).co2_ppm));
    }
    SUBCASE("one that streams after a power cut is not taken for an answer to something else") {
        uart().answer = [](const Buffer& asked) {
            Buffer answer = text(" H 00345 T 01195 Z 00651\r\n");
            const Buffer own = head_of_gss(asked);
            answer.insert(answer.end(), own.begin(), own.end());
            return answer;
        };
        polled.pass(3000);
        CHECK(static_cast<double>(polled.frame(other_multiplier).co2_ppm) == 98000.0);
    }
    SUBCASE("rubbish without any end does not fill anything") {
        uart().answer = [](const Buffer&) { return Buffer(500, 'x'); };
        polled.pass(10000);
        CHECK(polled.is_silent());
    }
}

TEST_CASE("an MH-Z19 is told not to calibrate itself, and asked once a second") {
    fake::power_on();
    const sensors::Driver driver = sensors::Mhz19{};
    uart().answer = [&](const Buffer& asked) {
        return asked[2] == 0x86 ? posix::frame_of(driver, {4200.0, 0.0, 0.0}, 79.5, 0.0) : Buffer();
    };
    esp32::Mhz19Source source(UART_NUM_1);
    Polled polled{source};
    polled.pass(10000);
    CHECK(uart().from_chip[0] == Buffer{0xFF, 0x01, 0x79, 0, 0, 0, 0, 0, 0x86});
    CHECK(uart().from_chip[1] == Buffer{0xFF, 0x01, 0x86, 0, 0, 0, 0, 0, 0x79});
    CHECK(uart().from_chip.size() == 10);
    CHECK(static_cast<double>(polled.frame(driver).co2_ppm) == 4200.0);
    CHECK(source.calibration().span(2000.0F));
    polled.pass(1100);
    CHECK(was_said({0xFF, 0x01, 0x88, 0x07, 0xD0, 0, 0, 0, 0xA0}));
    CHECK(source.calibration().zero());
    polled.pass(1100);
    CHECK(was_said({0xFF, 0x01, 0x87, 0, 0, 0, 0, 0, 0x78}));
    uart().answer = [](const Buffer&) { return Buffer{0xFF, 0x86, 0x02}; };
    polled.pass(4000);
    CHECK(polled.is_silent());
}

TEST_CASE("meters on a bus are asked one register after the other, and one that is off does not hide the others") {
    fake::power_on();
    REQUIRE(esp32::open_uart(UART_NUM_1, 25, 26, 9600, 27));
    CHECK(uart().mode == UART_MODE_RS485_HALF_DUPLEX);
    sensors::ModbusMeter meter;
    meter.add(sensors::ModbusMeter::sdm(1)).add(sensors::ModbusMeter::sdm(9));
    meter.registers[1].total = sensors::Total::genset_kwh;
    bool is_rubbish = false;
    uart().answer = [&](const Buffer& asked) {
        if (asked[0] == 9) {
            return is_rubbish ? Buffer{9, 4, 4, 0, 0, 0, 0, 1, 1} : Buffer();
        }
        Buffer pair = posix::frame_of(sensors::Driver(sensors::ModbusMeter().add(sensors::ModbusMeter::sdm(1))), flue, 79.5, 1234.5);
        CHECK(Buffer(pair.begin(), pair.begin() + 8) == asked);
        return Buffer(pair.begin() + 8, pair.end());
    };
    esp32::ModbusSource source(UART_NUM_1, meter);
    Polled polled{source};
    for (const bool rubbish : {false, true}) {
        is_rubbish = rubbish;
        polled.pass(3000);
        const sensors::Frame frame = polled.frame(meter);
        CHECK(frame.cause == sensors::Cause::none);
        CHECK(frame.meter[0] == doctest::Approx(1234.5));
        CHECK(std::isnan(frame.meter[1]));
    }
    uart().answer = [](const Buffer& asked) { return Buffer{asked[0], 0x84, 2, 0xC2, 0xC1}; };
    polled.pass(4000);
    CHECK(polled.is_silent());
    uart().answer = [](const Buffer&) { return Buffer(300, 0x01); };
    polled.pass(10000);
    CHECK(polled.is_silent());
}

TEST_CASE("an SDP8xx measures by itself, and is started again when it has forgotten to") {
    fake::power_on();
    i2c_master_bus_handle_t bus = nullptr;
    i2c_new_master_bus(nullptr, &bus);
    esp32::Sdp8xxSource source(bus);
    REQUIRE(source.open());
    Polled polled{source};
    fake::I2c& i2c = fake::sdk().i2c;
    i2c.to_read = {0x04, 0xB0, 0xBD, 0x13, 0x88, 0x01, 0x00, 0xF0, 0x03};
    polled.pass(1000);
    CHECK(i2c.written == std::vector<Buffer>{{0x36, 0x15}});
    CHECK(polled.frame(sensors::Sdp8xx{}).pressure_difference_pa == doctest::Approx(5.0));
    i2c.answers = false;
    polled.pass(5000);
    CHECK(polled.is_silent());
    CHECK(i2c.resets > 0);
    i2c.answers = true;
    polled.pass(2000);
    CHECK(i2c.written.size() == 2);
    CHECK(polled.frame(sensors::Sdp8xx{}).pressure_difference_pa == doctest::Approx(5.0));
}

TEST_CASE("thermocouples: a conversion is started, and read 230 ms later") {
    fake::power_on();
    struct Case {
        esp32::Converter converter;
        sensors::Driver driver;
    };
    for (const Case& one : {Case{esp32::Converter::max31856, sensors::Max31856{}},
                            Case{esp32::Converter::max31855, sensors::Max31855{}},
                            Case{esp32::Converter::max6675, sensors::Max6675{}}}) {
        CAPTURE(sensors::name_of(one.driver));
        fake::Spi& spi = fake::sdk().spi;
        spi = {};
        const bool has_registers = one.converter == esp32::Converter::max31856;
        spi.answer = [&](const Buffer& asked) {
            Buffer answer = posix::frame_of(one.driver, flue, 79.5, 0.0);
            if (has_registers) {
                answer.insert(answer.begin(), 0);
            }
            return has_registers && asked[0] != 0x0A ? Buffer() : answer;
        };
        esp32::ThermocoupleSource source(one.converter);
        REQUIRE(source.open(SPI2_HOST, 13));
        Polled polled{source};
        polled.pass(200);
        CHECK(polled.is_silent());  // not yet
        polled.pass(100);
        CHECK(polled.frame(one.driver).temperature_c == doctest::Approx(183.25));
        if (has_registers) {
            CHECK(spi.written[0] == Buffer{0x81, 0x03});
            CHECK(spi.written[1] == Buffer{0x80, 0x51});
        }
        CHECK(spi.written.size() <= 6);
    }
}

TEST_CASE("a thermocouple that is not there reads as a fault, as its decoder says it") {
    fake::power_on();
    esp32::ThermocoupleSource source(esp32::Converter::max31856);
    REQUIRE(source.open(SPI2_HOST, 13));
    Polled polled{source};
    polled.pass(500);
    CHECK(polled.frame(sensors::Max31856{}).status == flag::temperature_fault);
}

TEST_CASE("pulses are counted over a second, also where the counter turns over") {
    fake::power_on();
    esp32::PulseSource source;
    REQUIRE(source.open(34, 10000));
    Polled polled{source};
    sensors::PulseAnemometer driver;
    driver.ms_per_hz = 0.1F;
    polled.pass(500);
    CHECK(polled.is_silent());
    fake::sdk().pulses = 41;
    polled.pass(600);
    CHECK(polled.frame(driver).velocity_ms == doctest::Approx(4.1));
    fake::sdk().pulses = 41 + 70000;
    polled.pass(1000);
    CHECK(polled.frame(driver).status == flag::velocity_fault);
    polled.pass(1000);
    CHECK(polled.frame(driver).velocity_ms == doctest::Approx(0.0));
}

TEST_CASE("whatever comes on a wire, each source stays within its bounds and finds its sensor again") {
    fake::power_on();
    std::uint32_t state = 1;
    const auto dice = [&state] { return (state = state * 1664525U + 1013904223U) >> 8; };
    sensors::ModbusMeter meter;
    for (std::uint8_t unit = 1; unit <= 8; ++unit) {
        meter.add(sensors::ModbusMeter::sdm(unit));
    }
    esp32::GssSource gss(UART_NUM_1);
    esp32::Mhz19Source mhz19(UART_NUM_1);
    esp32::ModbusSource modbus(UART_NUM_1, meter);
    struct Case {
        esp32::Source* source;
        sensors::Driver driver;
    };
    for (const Case& one : {Case{&gss, sensors::Ndir20{}}, Case{&mhz19, sensors::Mhz19{}}, Case{&modbus, meter}}) {
        esp32::Source* const source = one.source;
        const sensors::Driver driver = one.driver;
        const auto right = [&, what = sensors::channel_of(driver)](const Buffer& asked) {
            if (what != sensors::Channel::meter) {
                return source == &gss ? head_of_gss(asked) : posix::frame_of(driver, {4200.0, 0.0, 0.0}, 79.5, 0.0);
            }
            const Buffer pair = posix::frame_of(sensors::Driver(sensors::ModbusMeter{}), flue, 79.5, 1234.5);
            return asked[0] == 1 ? Buffer(pair.begin() + 8, pair.end()) : Buffer();
        };
        uart().answer = [&](const Buffer& asked) {
            Buffer answer = dice() % 2 == 0 ? right(asked) : Buffer(dice() % 80, '\n');
            for (std::uint8_t& byte : answer) {
                byte = dice() % 8 == 0 ? static_cast<std::uint8_t>(dice()) : byte;
            }
            return answer;
        };
        Polled polled{*source};
        for (unsigned times = 0; times < 20000; ++times) {
            polled.pass(20);
            polled.frame(driver);
        }
        uart().answer = right;
        polled.pass(10000);
        CHECK(polled.frame(driver).cause == sensors::Cause::none);
    }
}
