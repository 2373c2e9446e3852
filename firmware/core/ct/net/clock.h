// What time it is, as far as the node knows: ms since boot always, UTC from the first time that somebody tells it.
#pragma once

#include "ct/store/record.h"

namespace ct::net {

class Clock {
public:
    enum class Source { sntp, receipt };

    // Somebody says what time it is. True: for the first time in this boot, so an anchor record is due.
    bool set(std::uint64_t utc_ms, std::uint64_t uptime_ms, Source source);

    bool is_set() const { return is_set_; }
    store::ClockQuality quality(std::uint64_t uptime_ms) const;
    // UTC, or ms since boot while that is not known.
    std::uint64_t time_ms(std::uint64_t uptime_ms) const { return is_set_ ? uptime_ms + boot_utc_ms_ : uptime_ms; }
    std::uint64_t utc_of_uptime(std::uint64_t uptime_ms) const { return uptime_ms + boot_utc_ms_; }

    // How much too slow the machine's own clock is, in parts per million; 0 while that is not known.
    float drift_ppm() const { return drift_ppm_; }
    // Whether the time was put by more than a second since somebody asked.
    bool has_jumped() {
        const bool has = has_jumped_;
        has_jumped_ = false;
        return has;
    }

private:
    bool is_set_ = false;
    bool has_jumped_ = false;
    bool is_from_sntp_ = false;
    std::uint64_t boot_utc_ms_ = 0;  // UTC at uptime 0
    std::uint64_t set_at_ms_ = 0;    // uptime
    float drift_ppm_ = 0.0F;
};

}  // namespace ct::net
