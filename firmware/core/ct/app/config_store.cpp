#include "ct/app/config_store.h"

#include <cstring>

#include "ct/crc.h"

namespace ct::app {

namespace {

constexpr const char* state_name = "cfg_state";
constexpr const char* document_names[] = {"", "cfg_1", "cfg_2"};
constexpr std::size_t crc_size = 2;
constexpr std::uint64_t longest_trial_ms = 600ULL * 1000;  // with a connection and without a receipt

using StateBytes = std::array<std::uint8_t, 8>;  // form, active, previous, on trial, reverted 2, crc 2
constexpr std::uint8_t form = 1;

std::uint8_t* bytes_of(ConfigStore::Room& room) { return reinterpret_cast<std::uint8_t*>(room.data()); }

}  // namespace

void ConfigStore::open(hal::ResetCause cause, Room& room) {
    if (!read_state()) {
        state_ = {};
    }
    const bool has_crashed = cause == hal::ResetCause::panic || cause == hal::ResetCause::watchdog;
    kept_ = defaults_;
    if (!read_document(state_.active, room, kept_)) {
        // Nothing but a worn flash, or another firmware's reading, gets here.
        if (!read_document(state_.previous, room, kept_)) {
            kept_ = defaults_;
        }
    } else if (state_.is_on_trial && has_crashed) {
        revert(room);
    }
    in_force_ = kept_;
    is_due_ = false;
    if (state_.reverted != 0) {
        wire::Problems problems;
        problems.add("", "reverted");
        answer(state_.reverted, problems);
    }
}

void ConfigStore::take_into_force(std::uint64_t now_ms) {
    in_force_ = kept_;
    is_due_ = false;
    trial_since_ms_ = now_ms;
}

bool ConfigStore::take(std::string_view text, Room& room) {
    wire::Problems problems;
    wire::Config found;
    bool is_new = false;
    if (wire::read_config(text, defaults_, found, problems)) {
        if (found.rev < kept_.rev) {
            problems.add("rev", "older");
        } else if (found.rev == kept_.rev) {
            if (!wire::is_same(found, kept_)) {
                problems.add("rev", "value");  // no revision has two contents
            }
        } else if (keep(text, found, room)) {
            is_new = true;
        } else {
            problems.add("", "storage");
        }
        answer(found.rev, problems);
    } else {
        answer(wire::rev_of(text), problems);
    }
    return is_new;
}

// The order of the two writes is what a power cut between them needs.
bool ConfigStore::keep(std::string_view text, const wire::Config& found, Room& room) {
    State next = state_;
    if (!state_.is_on_trial) {
        next.previous = state_.active;
        next.active = state_.active == 1 ? 2 : 1;
    }  // else: what is on trial gives way, and what it would go back to stays
    next.is_on_trial = true;
    next.reverted = 0;
    if (!write_document(next.active, text, room) || !write_state(next)) {
        return false;
    }
    kept_ = found;
    is_due_ = true;
    return true;
}

// What counted before counts again.
void ConfigStore::revert(Room& room) {
    State next = state_;
    next.active = state_.previous;
    next.previous = 0;
    next.is_on_trial = false;
    next.reverted = kept_.rev;
    wire::Problems problems;
    problems.add("", "reverted");
    answer(kept_.rev, problems);
    if (!read_document(next.active, room, kept_)) {
        kept_ = defaults_;
    }
    if (!write_state(next)) {
        state_ = next;  // for as long as the power stays
    }
    is_due_ = true;
}

// --- what comes from the platform, and goes to it

void ConfigStore::went_online(std::uint64_t now_ms) {
    is_online_ = true;
    trial_since_ms_ = now_ms;
}

void ConfigStore::was_receipted() {
    if (state_.is_on_trial && !is_due_) {
        State next = state_;
        next.is_on_trial = false;
        write_state(next);  // where the flash refuses, the trial goes on
    }
}

void ConfigStore::answer(std::uint16_t rev, const wire::Problems& problems) {
    answer_.is_due = true;
    answer_.said = 0;
    answer_.rev = rev;
    answer_.problems = problems;
}

void ConfigStore::has_landed(int said) {
    if (answer_.said == 0 || answer_.said != said) {
        return;
    }
    answer_ = {};
    if (state_.reverted != 0) {
        State next = state_;
        next.reverted = 0;
        write_state(next);
    }
}

void ConfigStore::step(net::Session& session, std::uint64_t now_ms) {
    if (is_online_ && state_.is_on_trial && !is_due_ && now_ms - trial_since_ms_ >= longest_trial_ms) {
        revert(session.room());
    }
    if (answer_.is_due && answer_.said == 0) {
        json::Writer out = session.paper();
        wire::write_config_answer(out, answer_.rev, kept_.rev, answer_.problems);
        answer_.said = session.say("config", out.written(), now_ms);
    }
}

// --- flash

bool ConfigStore::read_state() {
    StateBytes bytes = {};
    if (values_.get(state_name, bytes.data(), bytes.size()) != bytes.size() || bytes[0] != form ||
        get_le<std::uint16_t>(bytes.data() + 6) != crc16({bytes.data(), 6}) || bytes[1] > 2 || bytes[2] > 2) {
        return false;
    }
    state_.active = bytes[1];
    state_.previous = bytes[2];
    state_.is_on_trial = bytes[3] != 0;
    state_.reverted = get_le<std::uint16_t>(bytes.data() + 4);
    return true;
}

bool ConfigStore::write_state(const State& state) {
    StateBytes bytes = {form, state.active, state.previous, static_cast<std::uint8_t>(state.is_on_trial ? 1 : 0)};
    put_le(bytes.data() + 4, state.reverted);
    put_le(bytes.data() + 6, crc16({bytes.data(), 6}));
    if (!values_.set(state_name, {bytes.data(), bytes.size()})) {
        return false;
    }
    state_ = state;
    return true;
}

// False where it is not there, or not what was written.
bool ConfigStore::read_document(std::uint8_t which, Room& room, wire::Config& to) {
    if (which == 0) {
        to = defaults_;
        return true;
    }
    std::uint8_t* const bytes = bytes_of(room);
    const std::size_t size = values_.get(document_names[which], bytes, room.size()).value_or(0);
    if (size <= crc_size || size > room.size() ||
        get_le<std::uint16_t>(bytes) != crc16({bytes + crc_size, size - crc_size})) {
        return false;
    }
    wire::Problems problems;
    return wire::read_config({room.data() + crc_size, size - crc_size}, defaults_, to, problems);
}

bool ConfigStore::write_document(std::uint8_t which, std::string_view text, Room& room) {
    std::uint8_t* const bytes = bytes_of(room);
    std::memcpy(bytes + crc_size, text.data(), text.size());
    put_le(bytes, crc16({bytes + crc_size, text.size()}));
    return values_.set(document_names[which], {bytes, text.size() + crc_size});
}

}  // namespace ct::app
