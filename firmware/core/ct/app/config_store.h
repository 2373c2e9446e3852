// The node's configuration: two documents in the key-value store, and which of them counts.
//
//     cfg_1, cfg_2   crc 2 | the document as it came
//     cfg_state      which one counts, which one counted before, whether it is on trial, what was taken back, crc
//
// A new document is written where the one that counts is not, and then it counts: the power may go at any of these
// writes. It is on trial until the first receipt. Where the node crashes before that, or has a connection for ten
// minutes without a receipt, the one before counts again, and the platform is told.
#pragma once

#include "ct/hal/key_value.h"
#include "ct/net/session.h"
#include "ct/wire/config.h"

namespace ct::app {

class ConfigStore {
public:
    // A few KiB for a moment; nobody keeps them.
    using Room = std::array<char, wire::largest_message>;

    // `defaults` are what counts while nobody has configured the node, and what a document leaves out.
    ConfigStore(hal::KeyValue& values, const wire::Config& defaults) : values_(values), defaults_(defaults) {
        kept_ = in_force_ = defaults;
    }

    // Before anything else. What counts is in force at once.
    void open(hal::ResetCause cause, Room& room);

    const wire::Config& in_force() const { return in_force_; }
    // Whether something else counts than what is in force.
    bool is_due() const { return is_due_; }
    // Takes it into force: at the border of two windows.
    void take_into_force(std::uint64_t now_ms);

    // dn/config. True: there is something new that counts.
    bool take(std::string_view text, Room& room);

    void went_online(std::uint64_t now_ms);
    void went_offline() { is_online_ = false; answer_.said = 0; }
    void was_receipted();
    void has_landed(int said);
    // Says what is to be said, and looks whether a trial has failed.
    void step(net::Session& session, std::uint64_t now_ms);
    // Whether the newest answer has arrived.
    bool is_answered() const { return !answer_.is_due; }

private:
    struct State {
        std::uint8_t active = 0;    // 1 or 2; 0: neither, the defaults
        std::uint8_t previous = 0;
        bool is_on_trial = false;
        std::uint16_t reverted = 0; // a revision that was taken back, until the platform has heard of it
    };
    struct Answer {
        bool is_due = false;
        int said = 0;
        std::uint16_t rev = 0;
        wire::Problems problems;
    };

    bool read_state();
    bool write_state(const State& state);
    bool read_document(std::uint8_t which, Room& room, wire::Config& to);
    bool write_document(std::uint8_t which, std::string_view text, Room& room);
    bool keep(std::string_view text, const wire::Config& found, Room& room);
    void revert(Room& room);
    void answer(std::uint16_t rev, const wire::Problems& problems);

    hal::KeyValue& values_;
    const wire::Config defaults_;
    State state_;
    wire::Config kept_;      // what counts
    wire::Config in_force_;  // what the node works with
    bool is_due_ = false;
    bool is_online_ = false;
    std::uint64_t trial_since_ms_ = 0;  // of this connection, or of this configuration
    Answer answer_;
};

}  // namespace ct::app
