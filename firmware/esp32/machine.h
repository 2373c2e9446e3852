// The small things of the chip: its clock by SNTP, its dice, lamp and buzzer, why it started, its watchdog.
#pragma once

#include "ct/hal/signals.h"
#include "ct/hal/system.h"
#include "tasks.h"

namespace ct::esp32 {

// Says the time once for each answer of a time server, and 0 otherwise: the node carries the time on by itself, and knows
// by that how old it is and how fast its own clock runs.
class SntpClock final : public hal::WallClock {
public:
    // Before the network is there.
    void begin();
    std::uint64_t utc_ms() override;
    // A time server said so; from another task.
    void take(std::uint64_t utc_ms, std::uint64_t uptime_ms);

private:
    Mutex mutex_;
    bool is_new_ = false;
    std::uint64_t boot_utc_ms_ = 0;
};

class ChipRandom final : public hal::Random {
public:
    std::uint32_t next() override;
};

class Pins final : public hal::Signals {
public:
    void begin();
    void led(bool is_on) override;
    void buzzer(bool is_on) override;
    static bool is_button_held();
};

class Chip final : public hal::Machine {
public:
    // `is_new_program`: it runs on trial, and somebody has just put it there.
    explicit Chip(bool is_new_program) : is_new_program_(is_new_program) {}
    hal::MachineHealth health() override;
    hal::ResetCause reset_cause() override;
    // Later, when the client has said goodbye to the broker as well: `reboot_if_asked`, of the same task.
    void reboot() override { is_reboot_asked_ = true; }
    void reboot_if_asked();

private:
    bool is_new_program_;
    bool is_reboot_asked_ = false;
};

namespace watchdog {

// A task that says nothing for a minute is hung: the chip starts anew. A minute, because the network's task may wait for
// a name server and a socket one after the other.
void begin();
void watch_this_task();
void is_alive();

}  // namespace watchdog

}  // namespace ct::esp32
