// What is known about a reading: the status bits of docs/protocol.md. Bits 0 to 14 are the node's.
#pragma once

#include <cstdint>

namespace ct {

using Flags = std::uint32_t;

namespace flag {

constexpr Flags co2_over_range = 1U << 0;
constexpr Flags co2_fault = 1U << 1;
constexpr Flags warm_up = 1U << 2;
constexpr Flags stale = 1U << 3;
constexpr Flags temperature_open = 1U << 4;
constexpr Flags temperature_fault = 1U << 5;
constexpr Flags velocity_fault = 1U << 6;
constexpr Flags pressure_difference_negative = 1U << 7;
constexpr Flags pressure_default = 1U << 8;
constexpr Flags maintenance = 1U << 9;
constexpr Flags calibration = 1U << 10;
constexpr Flags stuck = 1U << 11;
constexpr Flags implausible = 1U << 12;
constexpr Flags boiler_off = 1U << 13;
constexpr Flags clock_jump = 1U << 14;

// Those that the node works out as the platform does, and never sends.
constexpr Flags unfit_sensor = 1U << 20;
constexpr Flags value_missing = 1U << 21;
constexpr Flags device_disagrees = 1U << 22;
constexpr Flags co2_saturated = 1U << 23;
constexpr Flags co2_implausible = 1U << 24;
constexpr Flags temperature_implausible = 1U << 25;
constexpr Flags velocity_implausible = 1U << 26;
constexpr Flags pressure_implausible = 1U << 27;
constexpr Flags pressure_site = 1U << 28;
constexpr Flags velocity_from_pitot = 1U << 29;

constexpr Flags on_the_wire = (1U << 15) - 1;

}  // namespace flag

}  // namespace ct
