#include "ct/net/clock.h"

namespace ct::net {

namespace {

constexpr std::uint64_t built_utc_ms = 1767225600000;  // 2026-01-01: no true time is before that
constexpr std::uint64_t fresh_ms = 24ULL * 3600 * 1000;
constexpr std::uint64_t jump_ms = 1000;
constexpr std::uint64_t shortest_for_drift_ms = 600ULL * 1000;

}  // namespace

bool Clock::set(std::uint64_t utc_ms, std::uint64_t uptime_ms, Source source) {
    if (utc_ms < built_utc_ms || utc_ms < uptime_ms) {
        return false;
    }
    if (source == Source::receipt && is_from_sntp_) {
        return false;  // the way from the platform takes an unknown time
    }
    const std::uint64_t boot_utc_ms = utc_ms - uptime_ms;
    const bool is_first = !is_set_;
    if (is_set_) {
        const auto late_ms = static_cast<std::int64_t>(boot_utc_ms - boot_utc_ms_);
        const auto apart_ms = static_cast<std::uint64_t>(late_ms < 0 ? -late_ms : late_ms);
        has_jumped_ = has_jumped_ || apart_ms > jump_ms;
        const std::uint64_t since_ms = uptime_ms - set_at_ms_;
        if (is_from_sntp_ && since_ms >= shortest_for_drift_ms && apart_ms <= jump_ms) {
            drift_ppm_ = static_cast<float>(late_ms) * 1e6F / static_cast<float>(since_ms);
        }
    }
    is_set_ = true;
    is_from_sntp_ = source == Source::sntp;
    boot_utc_ms_ = boot_utc_ms;
    set_at_ms_ = uptime_ms;
    return is_first;
}

store::ClockQuality Clock::quality(std::uint64_t uptime_ms) const {
    if (!is_set_) {
        return store::ClockQuality::unset;
    }
    const bool is_fresh = is_from_sntp_ && uptime_ms - set_at_ms_ < fresh_ms;
    return is_fresh ? store::ClockQuality::synced : store::ClockQuality::hold_over;
}

}  // namespace ct::net
