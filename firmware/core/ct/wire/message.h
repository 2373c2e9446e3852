// The messages of ct/v1 (docs/protocol.md), out of records and into buffers.
#pragma once

#include "ct/emission/rate.h"
#include "ct/hal/system.h"
#include "ct/store/record.h"
#include "ct/wire/json.h"

namespace ct::wire {

constexpr std::size_t most_records = 60;         // in one backlog message
constexpr std::size_t largest_message = 8 * 1024;

// What a node is set up with that its messages need.
struct Site {
    emission::Plan plan;
    float pressure_kpa = 101.325F;  // where nothing measures it
    std::uint16_t cfg = 0;          // revision of these settings; 0: nobody has configured it
};

// The node's own rate from a stored sample, in kg/s; NaN where there is none.
emission::Rate rate_of(const store::Sample& sample, const Site& site);

// Whether two records may be in one message, the second right after the first.
bool can_follow(const store::Record& before, const store::Record& next);

// Records with consecutive numbers, of one boot and one way to tell the time.
void write_records(json::Writer& out, std::uint32_t sid, const Site& site, const store::Record* records,
                   std::size_t count);

struct Birth {
    std::uint32_t connection = 0;
    std::uint16_t boot = 0;
    std::uint32_t sid = 0;
    std::uint32_t first = 0;
    std::uint32_t next = 0;
    std::uint32_t capacity = 0;
    std::uint64_t time_ms = 0;
    std::uint16_t cfg = 0;
    std::string_view firmware;
    std::string_view hardware;
    std::string_view mode = "run";
    std::string_view reset_cause;
};

void write_birth(json::Writer& out, const Birth& birth, const char* const* sensors, std::size_t sensor_count);

// The last will of a connection; with a reason, the goodbye of a node that is shut down.
void write_offline(json::Writer& out, std::uint32_t connection, std::uint16_t boot, std::string_view why);

std::string_view name_of(hal::ResetCause cause);
std::string_view name_of(store::EventCode code);
std::string_view name_of(store::Severity severity);
std::optional<store::Severity> severity_of(std::string_view name);

struct Receipt {
    std::uint32_t sid = 0;
    std::uint64_t seq = 0;
    std::uint64_t now_ms = 0;  // 0: not said
    double credit = 1.0;       // backlog messages a second
};

constexpr std::size_t largest_receipt = 512;

// None where the text is no receipt of a stream of ours: anything that is not strictly as the protocol says.
std::optional<Receipt> read_receipt(std::string_view text);

void write_sid(char (&to)[9], std::uint32_t sid);

}  // namespace ct::wire
