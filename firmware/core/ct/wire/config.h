// What the platform sets a node up with (dn/config), and the answer (up/config).
//
// A document is taken whole or not at all. What is wrong with it is named by path and code, so that a person can mend it.
#pragma once

#include <array>

#include "ct/wire/message.h"

namespace ct::wire {

constexpr std::size_t largest_config = 4096;

// A local alarm: on when the value was beyond `limit` for so long, off when it is back by `hysteresis`. In kg/s, degC or
// m/s; the low ones count while the boiler runs, and a sensor's fault has no limit.
struct Limit {
    store::EventCode code = store::EventCode::rate_high;
    store::Severity level = store::Severity::warning;
    float limit = missing;
    float hysteresis = 0.0F;
    std::uint32_t for_s = 0;
};

struct Config {
    static constexpr std::size_t most_limits = 6;

    std::uint16_t rev = 0;  // 0: nobody has configured the node
    std::uint32_t sample_s = 5;
    std::uint32_t readings = 5;
    std::uint32_t warm_up_s = 180;
    std::uint32_t stuck_s = 600;
    float pressure_kpa = 101.325F;  // of the site
    emission::Plan plan;
    std::array<Limit, most_limits> limits = {};
    std::uint32_t limit_count = 0;
    bool has_buzzer = true;
    bool has_led = true;
};

// What is wrong with a document; the first eight things.
class Problems {
public:
    static constexpr std::size_t most = 8;

    struct Problem {
        std::array<char, 40> path = {};
        std::string_view code;
    };

    void add(std::string_view path, std::string_view code);
    bool is_empty() const { return count_ == 0; }
    std::size_t count() const { return count_; }
    std::string_view path(std::size_t which) const { return problems_[which].path.data(); }
    std::string_view code(std::size_t which) const { return problems_[which].code; }
    // [{"path":..,"code":..},...]
    void write(json::Writer& out) const;

private:
    std::array<Problem, most> problems_ = {};
    std::size_t count_ = 0;
};

// The revision that a text speaks of, as far as that can be read; otherwise 0.
std::uint16_t rev_of(std::string_view text);

// Reads a whole document into `to`. False: `problems` says why, and `to` is of no use. What the document does not say is as
// in `defaults`.
bool read_config(std::string_view text, const Config& defaults, Config& to, Problems& problems);

// Whether two say the same, revision and all.
bool is_same(const Config& one, const Config& other);

// `active` is the revision that counts from now on.
void write_config_answer(json::Writer& out, std::uint16_t rev, std::uint16_t active, const Problems& problems);

}  // namespace ct::wire
