// What the platform asks of a node (dn/cmd), and the answer (up/res).
#pragma once

#include <array>

#include "ct/wire/message.h"

namespace ct::wire {

constexpr std::size_t largest_command = 4096;

struct Command {
    enum class Kind { alarm, ping, identify, reboot, silence, maintenance, zero_cal, span_cal, diag, unknown };
    using Word = std::array<char, 17>;  // up to 16 characters, and the zero behind them

    Kind kind = Kind::unknown;
    Word id = {};    // of everything but alarms
    Word name = {};  // as it was written; empty where that is no name at all
    bool are_args_right = true;
    std::uint32_t amount = 0;      // seconds or minutes
    float ppm = missing;
    std::uint64_t expires_ms = 0;  // UTC; 0: never

    std::uint64_t alarm = 0;       // the number of an alarm
    bool is_on = false;
    store::Severity level = store::Severity::warning;
};

// None where the text is no command, or has no id to which one could answer.
std::optional<Command> read_command(std::string_view text);

enum class Outcome : std::uint8_t { accepted, done, failed, expired, unknown };

// What `diag` tells.
struct Diagnosis {
    std::uint32_t uptime_s = 0;
    std::uint16_t boot = 0;
    std::uint16_t heap_free_kib = 0;
    std::uint32_t ring_used = 0;
    std::uint32_t ring_capacity = 0;
    std::uint32_t erasures = 0;
    std::uint32_t reconnects = 0;
    std::uint32_t frame_errors = 0;
    float drift_ppm = 0.0F;
    std::string_view firmware;
    std::string_view mode;
    std::string_view reset_cause;
};

// `diagnosis` may be nullptr.
void write_result(json::Writer& out, std::string_view id, std::string_view command, Outcome outcome,
                  std::string_view error, const Diagnosis* diagnosis);

}  // namespace ct::wire
