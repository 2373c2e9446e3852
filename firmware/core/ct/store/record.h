// One record, as the node keeps it until the platform says that it has it: 32 bytes in flash, whatever its kind.
//
//     byte  0    4         10         11   12    14   16              30
//           seq  time, ms  kind|clock aux  boot  cfg  14 bytes        crc
//
// Low byte first; crc is CRC-16/MODBUS of bytes 0 to 29. Values are whole numbers of small steps, so that what is sent
// is what is kept, and nothing is rounded twice. A value beyond what its bytes hold is kept as the largest that they
// do; each of these limits is far outside of what the platform takes for plausible.
#pragma once

#include <array>
#include <limits>
#include <variant>

#include "ct/bytes.h"
#include "ct/emission/rate.h"

namespace ct::store {

constexpr std::int32_t absent = std::numeric_limits<std::int32_t>::min();

struct Sample {
    std::int32_t co2_tenth_ppm = absent;
    std::int32_t temperature_16th_c = absent;
    std::int32_t velocity_mm_s = absent;
    std::int32_t pressure_difference_50th_pa = absent;
    std::int32_t pressure_2_pa = absent;  // in steps of 2 Pa
    std::int32_t inside_c = absent;       // of the box
    std::uint16_t status = 0;
};

// Running totals; never differences.
struct Meter {
    static constexpr std::uint32_t none = 0xFFFFFFFF;
    static constexpr std::uint32_t none_24 = 0xFFFFFF;

    std::uint32_t run_s = 0;
    std::uint32_t kwh_hundredth = none;
    std::uint32_t litres_tenth = none_24;
    std::uint32_t genset_kwh_tenth = none_24;
    std::uint8_t resets = 0;
};

struct Health {
    std::int8_t rssi_dbm = 0;  // 0: not known
    std::int8_t drift_ppm = 0;
    std::uint32_t ring_used = 0;
    std::uint16_t reconnects = 0;
    std::uint32_t uptime_s = 0;
    std::uint16_t frame_errors = 0;
    std::uint16_t heap_free_kib = 0;  // 0: not known
};

enum class EventCode : std::uint8_t {
    ack_regressed = 1,
    // Local alarms: a limit was passed, or a sensor is faulty.
    rate_high = 2,
    temperature_high = 3,
    temperature_low = 4,
    velocity_high = 5,
    velocity_low = 6,
    sensor_fault = 7,
};

enum class Severity : std::uint8_t { warning = 0, critical = 1, info = 2 };

struct Event {
    EventCode code = EventCode::ack_regressed;
    Severity severity = Severity::warning;
    bool is_on = true;
    double value = 0.0;
    float limit = missing;
};

enum class Why : std::uint8_t { overwritten = 1, ack_regressed = 2 };

struct Gap {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
    Why why = Why::overwritten;
};

// What the boot's uptime was worth at one moment.
struct Anchor {
    std::uint64_t utc_ms = 0;
    std::uint64_t uptime_ms = 0;
};

using Content = std::variant<Sample, Meter, Health, Event, Gap, Anchor>;
constexpr std::size_t kinds = std::variant_size_v<Content>;

enum class ClockQuality : std::uint8_t { unset = 0, synced = 1, hold_over = 2, re_anchored = 3 };

struct Record {
    std::uint32_t seq = 0;  // given by the store
    std::uint64_t time_ms = 0;  // UTC since 1970, or since boot where the clock is unset
    ClockQuality clock = ClockQuality::unset;
    std::uint16_t boot = 0;
    std::uint16_t cfg = 0;
    Content content;
};

constexpr std::size_t slot_size = 32;
using Slot = std::array<std::uint8_t, slot_size>;

Slot pack(const Record& record);
// False where the bytes are no record: erased, torn, or changed.
bool unpack(const Slot& slot, Record& record);

std::int32_t quantised(float value, float steps_per_unit);
float value_of(std::int32_t steps, float steps_per_unit);

}  // namespace ct::store
