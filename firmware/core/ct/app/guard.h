// Counts crashes. After four in a row, without ten minutes of work between them, the node starts in safe mode: it
// measures nothing, and waits for somebody to mend it from afar.
#pragma once

#include "ct/hal/key_value.h"
#include "ct/hal/system.h"

namespace ct::app {

class Guard {
public:
    explicit Guard(hal::KeyValue& values) : values_(values) {}

    // At the start, with what the machine says of it.
    void begin(hal::ResetCause cause);
    bool is_safe_mode() const { return crashes_ >= too_many; }
    // True once: safe mode has lasted for an hour, and the node should try again.
    bool step(std::uint64_t now_ms);
    // Somebody has done something about it: the next start is a usual one.
    void forget();

private:
    static constexpr std::uint8_t too_many = 4;

    bool write(std::uint8_t crashes);

    hal::KeyValue& values_;
    std::uint8_t crashes_ = 0;
    std::uint8_t kept_ = 0;  // what the flash has
    bool has_asked_ = false;
};

}  // namespace ct::app
