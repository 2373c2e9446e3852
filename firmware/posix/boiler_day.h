// A boiler's day by script, and sensors that put it on their wires as the real ones do.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ct/hal/system.h"
#include "ct/sensors/driver.h"

namespace ct::posix {

struct Flue {
    double co2_ppm;        // dry
    double temperature_c;
    double velocity_ms;
};

// The gas at a second of the day. Lit at 05:30, firing from 06:00, banked at 21:00, cold at 21:45; every 15 minutes the
// door is open for a minute. The same seed gives the same day.
Flue boiler_at(double second_of_day, std::uint32_t seed);

class ScriptedSensor final : public hal::FrameSource, public hal::Calibration {
public:
    // `second` is the second of the day, moved on by whoever runs the node.
    ScriptedSensor(sensors::Driver driver, std::uint32_t seed, double pressure_kpa, const double& second)
        : driver_(driver), seed_(seed), pressure_kpa_(pressure_kpa), second_(second) {}

    const sensors::Driver& driver() const { return driver_; }
    std::size_t read(std::uint8_t* to, std::size_t capacity) override;
    // A scripted head does as it is told, and goes on as before.
    bool zero() override { return true; }
    bool span(float) override { return true; }

private:
    sensors::Driver driver_;
    std::uint32_t seed_;
    double pressure_kpa_;
    const double& second_;
};

// The driver of a name, with the options that the script's sensors have; false where there is none of this name.
bool driver_of(std::string_view name, sensors::Driver& driver);

// What a sensor sends when it sees this gas.
std::vector<std::uint8_t> frame_of(const sensors::Driver& driver, const Flue& flue, double pressure_kpa, double kwh);

}  // namespace ct::posix
