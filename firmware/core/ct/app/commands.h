// What the platform has asked for, what became of it, and whether it knows that.
//
// The last commands are remembered with their answers: one that comes twice is answered twice, and done once. A reboot is
// remembered beyond itself.
#pragma once

#include "ct/hal/key_value.h"
#include "ct/net/session.h"
#include "ct/wire/command.h"

namespace ct::app {

class Commands {
public:
    // Who does it. The error must be a text that stays.
    struct Result {
        wire::Outcome outcome = wire::Outcome::done;
        const char* error = "";
    };
    class Hands {
    public:
        // Anything but alarms, reboots and what is unknown.
        virtual Result carry_out(const wire::Command& command, std::uint64_t now_ms) = 0;
        // The answer to a reboot has arrived, or nobody takes it.
        virtual void reboot_now(std::uint64_t now_ms) = 0;
        virtual wire::Diagnosis diagnose(std::uint64_t now_ms) = 0;

    protected:
        ~Hands() = default;
    };

    Commands(hal::KeyValue& values, Hands& hands) : values_(values), hands_(hands) {}

    // Whether this start is what a command has asked for is to be said after the next birth.
    void open();
    // A command that is no alarm. `utc_ms` is 0 while nobody knows the time.
    void take(const wire::Command& command, std::uint64_t now_ms, std::uint64_t utc_ms);
    void went_offline();
    void has_landed(int said, std::uint64_t now_ms);
    // Says what is to be said.
    void step(net::Session& session, std::uint64_t now_ms);

private:
    static constexpr std::size_t most = 16;

    struct Memory {
        wire::Command::Word id = {};  // empty: none
        wire::Command::Word name = {};
        Result result;
        bool has_diagnosis = false;
        bool is_due = false;  // to be said
        int said = 0;         // said, and not landed yet
    };

    Memory* find(const wire::Command::Word& id);
    Memory& remember(const wire::Command& command);
    Result start_reboot(const wire::Command& command, const Memory& memory, std::uint64_t now_ms);
    bool keep_reboot(const wire::Command::Word& id, bool is_told);

    hal::KeyValue& values_;
    Hands& hands_;
    std::array<Memory, most> memory_ = {};
    std::size_t next_ = 0;
    const Memory* reboot_ = nullptr;       // that is going to be done
    std::uint64_t reboot_by_ms_ = 0;
    const Memory* rebooted_ = nullptr;     // that was done, and the platform does not know it yet
};

}  // namespace ct::app
