#include "boiler_day.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "ct/crc.h"

namespace ct::posix {

namespace {

constexpr double tau = 6.283185307179586;
constexpr double pitot_coefficient = 0.84;
constexpr double pulses_ms_per_hz = 0.1;

// A number from -1 to 1 that depends on nothing but its arguments.
double noise(std::uint32_t seed, std::uint32_t which, double second) {
    auto mixed = static_cast<std::uint64_t>(second * 5.0) * 0x9E3779B97F4A7C15ULL + seed * 0xD1B54A32D192ED03ULL + which;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBULL;
    return static_cast<double>(mixed >> 40) / 8388608.0 - 1.0;
}

// 0 cold, 1 firing.
double heat_at(double second) {
    constexpr double lit = 5.5 * 3600, firing = 6.0 * 3600, banked = 21.0 * 3600, cold = 21.75 * 3600;
    if (second < lit || second >= cold) {
        return 0.0;
    }
    return second < firing ? (second - lit) / (firing - lit)
                           : second < banked ? 1.0 : (cold - second) / (cold - banked);
}

void put_be(std::vector<std::uint8_t>& to, std::uint32_t value, unsigned size) {
    for (unsigned byte = size; byte > 0; --byte) {
        to.push_back(static_cast<std::uint8_t>(value >> (8 * (byte - 1))));
    }
}

void put_crc8(std::vector<std::uint8_t>& to, std::size_t of_last) {
    to.push_back(crc8({to.data() + to.size() - of_last, of_last}));
}

void put_crc16(std::vector<std::uint8_t>& to, std::size_t of_last) {
    const std::uint16_t crc = crc16({to.data() + to.size() - of_last, of_last});
    to.push_back(static_cast<std::uint8_t>(crc & 0xFFU));
    to.push_back(static_cast<std::uint8_t>(crc >> 8));
}

std::uint32_t whole(double value, double most) {
    return static_cast<std::uint32_t>(std::lround(std::clamp(value, 0.0, most)));
}

std::vector<std::uint8_t> co2_frame(const sensors::Driver& driver, double co2_ppm) {
    std::vector<std::uint8_t> frame;
    if (const auto* head = std::get_if<sensors::Mhz19>(&driver)) {
        put_be(frame, 0xFF86, 2);
        put_be(frame, whole(co2_ppm, static_cast<double>(head->full_scale_ppm)), 2);
        put_be(frame, 0x47000000, 4);
        unsigned sum = 0;
        for (std::size_t at = 1; at < frame.size(); ++at) {
            sum += frame[at];
        }
        frame.push_back(static_cast<std::uint8_t>(0x100U - (sum & 0xFFU)));
        return frame;
    }
    char line[16];
    const int size = std::snprintf(line, sizeof line, " Z %05u\r\n", whole(co2_ppm / 10.0, 20000.0));
    frame.assign(line, line + size);
    return frame;
}

std::vector<std::uint8_t> temperature_frame(const sensors::Driver& driver, double temperature_c) {
    std::vector<std::uint8_t> frame;
    if (std::holds_alternative<sensors::Max6675>(driver)) {
        put_be(frame, whole(temperature_c * 4.0, 4094.0) << 3, 2);
    } else if (std::holds_alternative<sensors::Max31855>(driver)) {
        put_be(frame, whole(temperature_c * 4.0, 8000.0) << 18 | 0x1900U, 4);
    } else {
        put_be(frame, 0x1900, 2);
        put_be(frame, whole(temperature_c * 128.0, 200000.0) << 5, 3);
        frame.push_back(0);
    }
    return frame;
}

std::vector<std::uint8_t> velocity_frame(const sensors::Driver& driver, const Flue& flue, double pressure_kpa) {
    std::vector<std::uint8_t> frame;
    if (std::holds_alternative<sensors::PulseAnemometer>(driver)) {
        frame.push_back(0x50);
        put_be(frame, whole(flue.velocity_ms / pulses_ms_per_hz, 60000.0), 2);
        put_be(frame, 1000, 2);
        put_crc8(frame, 5);
        return frame;
    }
    const double density = pressure_kpa * 1000.0 * 0.0289 / (8.314462618 * (flue.temperature_c + 273.15));
    const double pressure_pa = density / 2.0 * std::pow(flue.velocity_ms / pitot_coefficient, 2.0);
    for (const std::uint32_t word : {whole(pressure_pa * 240.0, 29999.0), 5000U, 240U}) {
        put_be(frame, word, 2);
        put_crc8(frame, 2);
    }
    return frame;
}

std::vector<std::uint8_t> meter_frame(double kwh) {
    std::vector<std::uint8_t> frame;
    put_be(frame, 0x01040156, 4);
    put_be(frame, 2, 2);
    put_crc16(frame, 6);
    const auto shown = static_cast<float>(kwh);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &shown, sizeof bits);
    put_be(frame, 0x010404, 3);
    put_be(frame, bits, 4);
    put_crc16(frame, 7);
    return frame;
}

}  // namespace

Flue boiler_at(double second_of_day, std::uint32_t seed) {
    const double heat = heat_at(second_of_day);
    const double phase = seed % 97 / 97.0;
    const double stoking = std::sin(tau * (second_of_day / (1500.0 + seed % 600) + phase));
    const bool is_open = std::fmod(second_of_day + 900.0 * phase, 900.0) < 60.0;
    const double door = is_open && heat > 0.5 ? 0.6 : 1.0;
    Flue flue = {};
    flue.co2_ppm = 600.0 + std::pow(heat, 0.7) * door * (97400.0 + 14000.0 * stoking) + 150.0 * heat * noise(seed, 1, second_of_day);
    flue.temperature_c = 26.0 + heat * (158.0 + 12.0 * stoking - (is_open ? 15.0 : 0.0)) + 0.5 * noise(seed, 2, second_of_day);
    flue.velocity_ms = 0.1 + heat * (3.9 + 0.3 * stoking + 0.15 * noise(seed, 3, second_of_day));
    return flue;
}

std::vector<std::uint8_t> frame_of(const sensors::Driver& driver, const Flue& flue, double pressure_kpa, double kwh) {
    switch (sensors::channel_of(driver)) {
        case sensors::Channel::co2: return co2_frame(driver, flue.co2_ppm);
        case sensors::Channel::temperature: return temperature_frame(driver, flue.temperature_c);
        case sensors::Channel::velocity: return velocity_frame(driver, flue, pressure_kpa);
        case sensors::Channel::meter: return meter_frame(kwh);
    }
    return {};
}

std::size_t ScriptedSensor::read(std::uint8_t* to, std::size_t capacity) {
    constexpr double kw = 62.0;
    const auto frame = frame_of(driver_, boiler_at(second_, seed_), pressure_kpa_, kw * second_ / 3600.0);
    if (frame.size() > capacity) {
        return 0;
    }
    std::copy(frame.begin(), frame.end(), to);
    return frame.size();
}

bool driver_of(std::string_view name, sensors::Driver& driver) {
    sensors::PulseAnemometer pulses;
    pulses.ms_per_hz = static_cast<float>(pulses_ms_per_hz);
    sensors::ModbusMeter meter;
    meter.add(sensors::ModbusMeter::sdm(1));
    for (const sensors::Driver& known :
         {sensors::Driver(sensors::Mhz19{}), sensors::Driver(sensors::Ndir20{}), sensors::Driver(sensors::Max31855{}),
          sensors::Driver(sensors::Max31856{}), sensors::Driver(sensors::Max6675{}), sensors::Driver(sensors::Sdp8xx{}),
          sensors::Driver(pulses), sensors::Driver(meter)}) {
        if (name == sensors::name_of(known)) {
            driver = known;
            return true;
        }
    }
    return false;
}

}  // namespace ct::posix
