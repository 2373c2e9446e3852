// What single sensors put on their wires, and what it says: the same frames, causes and answers as the platform's
// decoders (carbontrack/plugins/sensors/, where each layout is drawn). The two read the same golden vectors.
//
// A frame that cannot be read gives a cause and nothing else; a value is never made up.
#pragma once

#include <array>
#include <limits>

#include "ct/bytes.h"
#include "ct/emission/rate.h"
#include "ct/flags.h"

namespace ct::sensors {

enum class Cause : std::uint8_t { none, length, checksum, form, modbus_exception };

// As the platform counts it: "frame_length" and so on; "" for none.
const char* name_of(Cause cause);

constexpr double no_total = std::numeric_limits<double>::quiet_NaN();

enum class Total : std::uint8_t { kwh, genset_kwh, litres, run_s };
constexpr std::size_t totals = 4;

struct Frame {
    Cause cause = Cause::none;
    Flags status = 0;
    float co2_ppm = missing;
    float temperature_c = missing;
    float velocity_ms = missing;
    float pressure_difference_pa = missing;
    std::array<double, totals> meter = {no_total, no_total, no_total, no_total};  // by Total

    static Frame refused(Cause cause) {
        Frame frame;
        frame.cause = cause;
        return frame;
    }
};

struct Mhz19 {
    float full_scale_ppm = 5000.0F;
};

struct Ndir20 {
    float full_scale_ppm = 200000.0F;
    std::uint32_t multiplier = 10;  // what the head answers to "."; counts where a frame has none
};

struct PulseAnemometer {
    float ms_per_hz = missing;  // from the anemometer's certificate: there is no default
    float offset_ms = 0.0F;
    float minimum_hz = 0.0F;
};

enum class Form : std::uint8_t { float32, uint32, uint32_low_first, uint16 };

// Where a total stands; `scale` times the number is it, in kWh, litres or s.
struct Register {
    std::uint8_t unit = 1;
    std::uint8_t function = 4;
    std::uint16_t address = 0;
    Total total = Total::kwh;
    Form form = Form::float32;
    double scale = 1.0;
};

struct ModbusMeter {
    std::array<Register, 8> registers = {};
    std::size_t count = 0;

    ModbusMeter& add(const Register& place) {
        registers[count++] = place;
        return *this;
    }
    static constexpr Register sdm(std::uint8_t unit) { return {unit, 4, 0x0156, Total::kwh, Form::float32, 1.0}; }
    static constexpr Register sdm_import(std::uint8_t unit) {
        return {unit, 4, 0x0048, Total::kwh, Form::float32, 1.0};
    }
    static constexpr Register pzem004t(std::uint8_t unit) {
        return {unit, 4, 0x0005, Total::kwh, Form::uint32_low_first, 0.001};
    }
};

Frame decode_mhz19(Bytes frame, const Mhz19& options);
Frame decode_ndir20(Bytes frame, const Ndir20& options);
Frame decode_max31855(Bytes frame);
Frame decode_max31856(Bytes frame);
Frame decode_max6675(Bytes frame);
Frame decode_sdp8xx(Bytes frame);
Frame decode_pulse_anemometer(Bytes frame, const PulseAnemometer& options);
Frame decode_modbus_meter(Bytes frame, const ModbusMeter& options);

}  // namespace ct::sensors
