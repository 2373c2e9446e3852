// The lamp and the buzzer of the box: what is the case, as something that one can see and hear.
//
//     lamp    on all the time       all is well
//             slow (1 s, 1 s)       no connection to the platform
//             fast (0.2 s, 0.2 s)   a sensor or the store is faulty
//             two flashes           safe mode
//             three flashes         an alarm
//             flicker (0.1 s)       somebody asks which box this is
//     buzzer  one beep every 30 s   an alarm for information
//             two beeps every 10 s  a warning
//             half a second on, half a second off: critical
//
// The first in this order that is the case is shown: identify, alarm, safe mode, fault, no connection.
#pragma once

#include <optional>

#include "ct/hal/signals.h"
#include "ct/store/record.h"

namespace ct::app {

class Panel {
public:
    struct Facts {
        bool is_online = false;
        bool is_faulty = false;
        bool is_safe_mode = false;
        std::optional<store::Severity> alarm;
    };

    explicit Panel(hal::Signals& signals) : signals_(signals) {}

    void allow(bool lamp, bool buzzer) {
        may_shine_ = lamp;
        may_sound_ = buzzer;
    }
    // Also where lamp and buzzer are not allowed otherwise; `silence` counts all the same.
    void identify(std::uint64_t until_ms) { identify_until_ms_ = until_ms; }
    // 0: not any more.
    void silence(std::uint64_t until_ms) { silent_until_ms_ = until_ms; }

    void step(const Facts& facts, std::uint64_t now_ms);

private:
    hal::Signals& signals_;
    bool may_shine_ = true;
    bool may_sound_ = true;
    bool is_lit_ = false;
    bool is_loud_ = false;
    std::uint64_t identify_until_ms_ = 0;
    std::uint64_t silent_until_ms_ = 0;
};

}  // namespace ct::app
