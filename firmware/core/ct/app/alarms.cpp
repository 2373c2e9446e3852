#include "ct/app/alarms.h"

namespace ct::app {

namespace {

using store::EventCode;
using store::Severity;

bool is_low(EventCode code) { return code == EventCode::temperature_low || code == EventCode::velocity_low; }

float value_of(EventCode code, const Observation& found) {
    switch (code) {
        case EventCode::rate_high: return found.co2_kg_per_s;
        case EventCode::temperature_high:
        case EventCode::temperature_low: return found.temperature_c;
        case EventCode::velocity_high:
        case EventCode::velocity_low: return found.velocity_ms;
        default: return missing;
    }
}

unsigned urgency(Severity level) { return level == Severity::critical ? 2 : level == Severity::warning ? 1 : 0; }

// What one sample says of one limit. Between the limit and its hysteresis, and where nothing is known, it says nothing.
enum class Says { beyond, nothing, back };

Says judge(const wire::Limit& limit, float value, const Observation& found) {
    if (limit.code == EventCode::sensor_fault) {
        return found.faults != 0 ? Says::beyond : Says::back;
    }
    if (is_low(limit.code) && found.boiler != emission::Boiler::runs) {
        return found.boiler == emission::Boiler::unknown ? Says::nothing : Says::back;
    }
    if (!is_known(value)) {
        return Says::nothing;
    }
    const float over = is_low(limit.code) ? limit.limit - value : value - limit.limit;
    return over > 0.0F ? Says::beyond : over <= -limit.hysteresis ? Says::back : Says::nothing;
}

}  // namespace

void Alarms::set_limits(const wire::Config& config, std::uint64_t now_ms) {
    const auto before = watches_;
    const std::size_t count_before = watch_count_;
    std::array<bool, wire::Config::most_limits> is_carried = {};
    watches_ = {};
    watch_count_ = config.limit_count;
    for (std::size_t which = 0; which < watch_count_; ++which) {
        Watch& watch = watches_[which];
        watch.limit = config.limits[which];
        for (std::size_t old = 0; old < count_before; ++old) {
            if (!is_carried[old] && before[old].limit.code == watch.limit.code &&
                before[old].limit.level == watch.limit.level) {
                watch = before[old];
                watch.limit = config.limits[which];
                is_carried[old] = true;
                break;
            }
        }
    }
    for (std::size_t old = 0; old < count_before; ++old) {
        if (!is_carried[old] && before[old].is_on) {
            Watch over = before[old];
            turn(over, false, static_cast<double>(missing), now_ms);
        }
    }
}

void Alarms::look(const Observation& found, std::uint64_t now_ms) {
    for (std::size_t which = 0; which < watch_count_; ++which) {
        Watch& watch = watches_[which];
        const float value = value_of(watch.limit.code, found);
        const double told = watch.limit.code == EventCode::sensor_fault ? static_cast<double>(found.faults)
                                                                        : static_cast<double>(value);
        const Says says = found.is_watched ? judge(watch.limit, value, found) : Says::nothing;
        if (says != Says::beyond) {
            watch.is_beyond = false;
            if (says == Says::back && watch.is_on) {
                turn(watch, false, told, now_ms);
            }
            continue;
        }
        if (!watch.is_beyond) {
            watch.is_beyond = true;
            watch.beyond_since_ms = now_ms;
        }
        if (!watch.is_on && now_ms - watch.beyond_since_ms >= std::uint64_t{watch.limit.for_s} * 1000) {
            turn(watch, true, told, now_ms);
        }
    }
}

void Alarms::turn(Watch& watch, bool is_on, double value, std::uint64_t now_ms) {
    watch.is_on = is_on;
    store::Event event;
    event.code = watch.limit.code;
    event.severity = watch.limit.level;
    event.is_on = is_on;
    event.value = value;
    event.limit = watch.limit.limit;
    sink_.note(event, now_ms);
}

void Alarms::set_remote(std::uint64_t id, bool is_on, Severity level) {
    Remote* place = nullptr;
    for (Remote& remote : remote_) {
        if (remote.is_on && remote.id == id) {
            place = &remote;
            break;
        }
        place = place == nullptr && !remote.is_on ? &remote : place;
    }
    if (place != nullptr) {
        *place = {is_on, id, level};
    }
}

std::optional<Severity> Alarms::loudest() const {
    std::optional<Severity> found;
    const auto weigh = [&found](bool is_on, Severity level) {
        if (is_on && (!found || urgency(level) > urgency(*found))) {
            found = level;
        }
    };
    for (std::size_t which = 0; which < watch_count_; ++which) {
        weigh(watches_[which].is_on, watches_[which].limit.level);
    }
    for (const Remote& remote : remote_) {
        weigh(remote.is_on, remote.level);
    }
    return found;
}

}  // namespace ct::app
