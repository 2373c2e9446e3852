// Alarms at the box: limits that the node watches itself, whether it has a connection or not, and what the platform says.
#pragma once

#include "ct/wire/config.h"

namespace ct::app {

// What a sample says, as far as limits are concerned; NaN is not known.
struct Observation {
    float co2_kg_per_s = missing;
    float temperature_c = missing;
    float velocity_ms = missing;
    Flags faults = 0;         // of sensors
    emission::Boiler boiler = emission::Boiler::unknown;
    bool is_watched = true;   // false: somebody works at it, and nothing counts
};

class Alarms {
public:
    // A limit was passed, or it is over: a record is due.
    class Sink {
    public:
        virtual void note(const store::Event& event, std::uint64_t now_ms) = 0;

    protected:
        ~Sink() = default;
    };

    static constexpr Flags fault_bits = flag::co2_fault | flag::stale | flag::temperature_open | flag::temperature_fault |
                                        flag::velocity_fault | flag::pressure_difference_negative | flag::stuck;

    explicit Alarms(Sink& sink) : sink_(sink) {}

    // Other limits. What is on stays on where the same limit is there again; otherwise it is over.
    void set_limits(const wire::Config& config, std::uint64_t now_ms);
    void look(const Observation& found, std::uint64_t now_ms);

    // An alarm of the platform is on or over. One too many is not remembered.
    void set_remote(std::uint64_t id, bool is_on, store::Severity level);
    // A new connection: what was said on the one before may be over by now.
    void forget_remote() { remote_ = {}; }

    // The most urgent of all that are on; none where none is.
    std::optional<store::Severity> loudest() const;

private:
    static constexpr std::size_t most_remote = 8;

    struct Watch {
        wire::Limit limit;
        bool is_on = false;
        bool is_beyond = false;
        std::uint64_t beyond_since_ms = 0;
    };
    struct Remote {
        bool is_on = false;
        std::uint64_t id = 0;
        store::Severity level = store::Severity::warning;
    };

    void turn(Watch& watch, bool is_on, double value, std::uint64_t now_ms);

    Sink& sink_;
    std::array<Watch, wire::Config::most_limits> watches_ = {};
    std::size_t watch_count_ = 0;
    std::array<Remote, most_remote> remote_ = {};
};

}  // namespace ct::app
