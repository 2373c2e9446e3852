#include "ct/app/panel.h"

namespace ct::app {

namespace {

// Tenths of a second, the first one on the left; it begins again after `tenths`.
struct Pattern {
    const char* shape;  // what is behind its end is dark, or quiet
    unsigned tenths;
};

constexpr Pattern steady = {"#", 1};
constexpr Pattern slow = {"##########", 20};
constexpr Pattern fast = {"##", 4};
constexpr Pattern two_flashes = {"##  ##", 20};
constexpr Pattern three_flashes = {"##  ##  ##", 20};
constexpr Pattern flicker = {"#", 2};
constexpr Pattern quiet = {"", 1};
constexpr Pattern one_beep = {"##", 300};
constexpr Pattern two_beeps = {"##  ##", 100};
constexpr Pattern halves = {"#####", 10};
constexpr Pattern ticks = {"#", 10};

bool is_on(const Pattern& pattern, std::uint64_t now_ms) {
    const auto at = static_cast<unsigned>(now_ms / 100 % pattern.tenths);
    for (unsigned tenth = 0; pattern.shape[tenth] != '\0'; ++tenth) {
        if (tenth == at) {
            return pattern.shape[tenth] == '#';
        }
    }
    return false;
}

const Pattern& sound_of(store::Severity level) {
    switch (level) {
        case store::Severity::info: return one_beep;
        case store::Severity::warning: return two_beeps;
        case store::Severity::critical: return halves;
    }
    return quiet;
}

}  // namespace

void Panel::step(const Facts& facts, std::uint64_t now_ms) {
    const bool is_identified = now_ms < identify_until_ms_;
    const Pattern& light = is_identified        ? flicker
                           : !may_shine_        ? quiet
                           : facts.alarm        ? three_flashes
                           : facts.is_safe_mode ? two_flashes
                           : facts.is_faulty    ? fast
                           : !facts.is_online   ? slow
                                                : steady;
    const bool is_silenced = now_ms < silent_until_ms_ || (!may_sound_ && !is_identified);
    const Pattern& sound = is_silenced ? quiet : is_identified ? ticks : facts.alarm ? sound_of(*facts.alarm) : quiet;
    if (const bool shines = is_on(light, now_ms); shines != is_lit_) {
        is_lit_ = shines;
        signals_.led(shines);
    }
    if (const bool sounds = is_on(sound, now_ms); sounds != is_loud_) {
        is_loud_ = sounds;
        signals_.buzzer(sounds);
    }
}

}  // namespace ct::app
