#include "ct/app/commands.h"

namespace ct::app {

namespace {

using wire::Command;
using wire::Outcome;

constexpr const char* reboot_name = "reboot_id";  // told 1 | id
constexpr std::uint64_t longest_wait_ms = 5000;

}  // namespace

void Commands::open() {
    std::array<std::uint8_t, 1 + std::tuple_size<Command::Word>::value> bytes = {};
    const std::size_t size = values_.get(reboot_name, bytes.data(), bytes.size()).value_or(0);
    if (size != bytes.size() || bytes.back() != 0 || bytes[1] == 0) {
        return;
    }
    Command command;
    command.kind = Command::Kind::reboot;
    command.name = {"reboot"};
    for (std::size_t at = 0; at < command.id.size(); ++at) {
        command.id[at] = static_cast<char>(bytes[1 + at]);
    }
    Memory& memory = remember(command);
    memory.is_due = bytes[0] == 0;
    rebooted_ = memory.is_due ? &memory : nullptr;
}

void Commands::take(const Command& command, std::uint64_t now_ms, std::uint64_t utc_ms) {
    if (Memory* const known = find(command.id)) {
        known->is_due = true;
        return;
    }
    Memory& memory = remember(command);
    if (command.expires_ms != 0 && utc_ms > command.expires_ms) {
        memory.result.outcome = Outcome::expired;
    } else if (command.kind == Command::Kind::unknown) {
        memory.result.outcome = Outcome::unknown;
    } else if (!command.are_args_right) {
        memory.result = {Outcome::failed, "bad_args"};
    } else if (command.kind == Command::Kind::reboot) {
        memory.result = start_reboot(command, memory, now_ms);
    } else {
        memory.result = hands_.carry_out(command, now_ms);
        memory.has_diagnosis = command.kind == Command::Kind::diag && memory.result.outcome == Outcome::done;
    }
}

Commands::Result Commands::start_reboot(const Command& command, const Memory& memory, std::uint64_t now_ms) {
    if (reboot_ != nullptr || rebooted_ != nullptr) {
        return {Outcome::failed, "busy"};  // one is remembered, until the platform knows that it was done
    }
    if (!keep_reboot(command.id, false)) {
        return {Outcome::failed, "storage"};  // it would do so again and again
    }
    reboot_ = &memory;
    reboot_by_ms_ = now_ms + longest_wait_ms;
    return {Outcome::accepted, ""};
}

bool Commands::keep_reboot(const Command::Word& id, bool is_told) {
    std::array<std::uint8_t, 1 + std::tuple_size<Command::Word>::value> bytes = {};
    bytes[0] = is_told ? 1 : 0;
    for (std::size_t at = 0; at < id.size(); ++at) {
        bytes[1 + at] = static_cast<std::uint8_t>(id[at]);
    }
    return values_.set(reboot_name, {bytes.data(), bytes.size()});
}

void Commands::went_offline() {
    for (Memory& memory : memory_) {
        memory.is_due = memory.is_due || memory.said != 0;
        memory.said = 0;
    }
}

void Commands::has_landed(int said, std::uint64_t now_ms) {
    for (Memory& memory : memory_) {
        if (memory.said == 0 || memory.said != said) {
            continue;
        }
        memory.said = 0;
        if (&memory == rebooted_) {
            rebooted_ = nullptr;
            keep_reboot(memory.id, true);
        }
        if (&memory == reboot_) {
            reboot_by_ms_ = now_ms;
        }
    }
}

void Commands::step(net::Session& session, std::uint64_t now_ms) {
    for (Memory& memory : memory_) {
        if (!memory.is_due || memory.said != 0) {
            continue;
        }
        const wire::Diagnosis diagnosis = memory.has_diagnosis ? hands_.diagnose(now_ms) : wire::Diagnosis{};
        json::Writer out = session.paper();
        wire::write_result(out, memory.id.data(), memory.name.data(), memory.result.outcome, memory.result.error,
                           memory.has_diagnosis ? &diagnosis : nullptr);
        memory.said = session.say("res", out.written(), now_ms);
        memory.is_due = memory.said == 0;
    }
    if (reboot_ != nullptr && now_ms >= reboot_by_ms_) {
        reboot_by_ms_ = ~std::uint64_t{0};
        hands_.reboot_now(now_ms);
    }
}

Commands::Memory* Commands::find(const Command::Word& id) {
    for (Memory& memory : memory_) {
        if (memory.id == id) {
            return &memory;
        }
    }
    return nullptr;
}

// In the place of the oldest; a reboot that somebody waits for is not forgotten.
Commands::Memory& Commands::remember(const Command& command) {
    while (&memory_[next_] == reboot_ || &memory_[next_] == rebooted_) {
        next_ = (next_ + 1) % most;
    }
    Memory& memory = memory_[next_];
    next_ = (next_ + 1) % most;
    memory = {};
    memory.id = command.id;
    memory.name = command.name;
    memory.is_due = true;
    return memory;
}

}  // namespace ct::app
