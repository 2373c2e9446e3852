// The node's side of ct/v1 on one connection after the other: connects, says what it has, sends it, takes receipts.
//
//     offline --(back-off)--> connecting --> subscribing --> running --(lost)--> offline
//
// New records go out at once on up/data. What was kept before the connection is backlog: oldest first, one message in
// flight, not faster than the platform's credit, and only after the receipt that answers the birth has said where to
// begin (or has not come). Nothing here waits; `step` does what is due.
#pragma once

#include "ct/hal/mqtt.h"
#include "ct/hal/system.h"
#include "ct/net/clock.h"
#include "ct/store/ring.h"
#include "ct/wire/message.h"

namespace ct::net {

struct Settings {
    std::string_view device_id;             // at most 64 characters; the text must outlive the session
    std::uint32_t longest_backoff_ms = 120000;
    std::uint32_t patience_ms = 60000;      // without a receipt for so long, it is sent again
    std::uint32_t birth_answer_ms = 3000;   // how long backlog waits for the first receipt
    std::string_view firmware = "0.1.0";
    std::string_view hardware = "ct-1";
    std::string_view mode = "run";          // run, safe
    std::string_view reset_cause = "poweron";
};

struct Counts {
    std::uint32_t connections = 0;  // that stood
    std::uint32_t live = 0;         // messages sent
    std::uint32_t backlog = 0;
    std::uint32_t resends = 0;      // times that it began again for want of a receipt
    std::uint32_t receipts = 0;
    std::uint32_t refused_receipts = 0;
    std::uint32_t other_messages = 0;   // of the platform, that were handed on
    std::uint32_t gaps = 0;
};

// Who wants to know what goes on beside the records. All of it is called from within `Session::step`, and may `say`.
class Listener {
public:
    // A message on dn/<channel> that is no receipt and not retained. The texts are gone after the call.
    virtual void take(std::string_view channel, std::string_view payload, std::uint64_t now_ms) = 0;
    // The birth is out: what has to be said to the platform can be said now.
    virtual void went_online(std::uint64_t now_ms) = 0;
    // What was said and has not landed may be lost.
    virtual void went_offline(std::uint64_t now_ms) = 0;
    // A receipt of this stream that was taken: the platform has stored something of this node.
    virtual void was_receipted(std::uint64_t now_ms) = 0;
    // The broker has acknowledged what `say` gave this number.
    virtual void has_landed(int said, std::uint64_t now_ms) = 0;

protected:
    ~Listener() = default;
};

class Session {
public:
    Session(store::Ring& ring, hal::Mqtt& mqtt, hal::Random& random, Clock& clock, const wire::Site& site,
            const Settings& settings);

    // What the birth names; the texts must outlive the session.
    void set_sensors(const char* const* names, std::size_t count) {
        sensors_ = names;
        sensor_count_ = count;
    }

    // Before `begin`; nullptr: nobody.
    void set_listener(Listener* listener) { listener_ = listener; }
    // For the births from now on: run or safe.
    void set_mode(std::string_view mode) { settings_.mode = mode; }

    // After the ring was opened. `now_ms` is the uptime, everywhere.
    void begin(std::uint64_t now_ms);
    void step(std::uint64_t now_ms);

    // Says goodbye and hangs up; `has_left` when that is done, or there was nobody to say it to.
    void leave(std::uint64_t now_ms, std::string_view why);
    bool has_left() const { return state_ == State::left; }

    bool is_running() const { return state_ == State::running; }

    // Publishes on up/<channel>, not retained, and tells the listener when it has landed. The number by which it will,
    // above 0; 0 where it cannot be said now: there is no connection, or `most_said` have not landed yet. The caller
    // keeps what it has to say, and says it again after `has_landed` or `went_online`.
    int say(std::string_view channel, std::string_view payload, std::uint64_t now_ms);
    // Room to write what is to be said; good until the next call of anything here.
    json::Writer paper() { return {message_.data(), message_.size()}; }
    // The same room, for whatever else needs a few KiB for a moment.
    std::array<char, wire::largest_message>& room() { return message_; }
    const Counts& counts() const { return counts_; }

private:
    enum class State { offline, connecting, subscribing, running, leaving, left };
    static constexpr std::size_t live_window = 8;
    static constexpr std::size_t most_said = 4;

    struct Flight {
        int id = 0;  // 0: none
        std::uint64_t since_ms = 0;
    };

    void take_event(const hal::MqttEvent& event, std::uint64_t now_ms);
    void connect(std::uint64_t now_ms);
    void lose(std::uint64_t now_ms);
    void say_birth(std::uint64_t now_ms);
    void land(int id, std::uint64_t now_ms);
    void take_message(const hal::MqttEvent& event, std::uint64_t now_ms);
    void take_receipt(const hal::MqttEvent& event, std::uint64_t now_ms);
    void go_back(std::uint32_t seq, std::uint64_t now_ms);
    void send_again_if_ignored(std::uint64_t now_ms);
    bool is_stalled(std::uint64_t now_ms) const;
    void send_live(std::uint64_t now_ms);
    void send_backlog(std::uint64_t now_ms);
    void send_probe(std::uint64_t now_ms);
    bool send_batch(std::size_t count, std::uint64_t now_ms);
    std::size_t read_batch(std::uint64_t now_ms);
    void declare_hole(std::uint32_t from, std::uint32_t to, std::uint64_t now_ms);
    int send(std::string_view lane, std::size_t count, std::uint64_t now_ms);
    void add(store::Content content, std::uint64_t now_ms);
    void place(store::Record& record) const;
    std::string_view topic(std::string_view end);

    store::Ring& ring_;
    hal::Mqtt& mqtt_;
    hal::Random& random_;
    Clock& clock_;
    const wire::Site& site_;
    Settings settings_;
    Listener* listener_ = nullptr;
    const char* const* sensors_ = nullptr;
    std::size_t sensor_count_ = 0;

    State state_ = State::offline;
    std::uint64_t due_ms_ = 0;        // offline: when to connect; connecting, subscribing, leaving: when to give up
    std::uint64_t connected_ms_ = 0;
    unsigned attempts_ = 0;           // that failed, or did not last
    std::uint32_t connection_ = 0;
    int expected_id_ = 0;             // subscribing: the subscription; leaving: the goodbye

    store::Ring::Cursor live_;
    store::Ring::Cursor backlog_;
    std::uint32_t backlog_end_ = 1;   // backlog goes up to before this number
    std::array<Flight, live_window> live_flights_ = {};
    Flight backlog_flight_;
    std::array<Flight, most_said> said_ = {};
    std::uint64_t backlog_due_ms_ = 0;
    bool awaits_answer_ = false;      // of the platform to the birth
    double credit_ = 1.0;

    std::uint32_t sent_ = 0;          // highest number that was ever sent, or may have been
    std::uint32_t declared_ = 0;      // holes up to this number have their gap record
    store::Why hole_why_ = store::Why::overwritten;
    bool is_waiting_ = false;         // for a receipt
    std::uint64_t waiting_since_ms_ = 0;
    std::uint32_t patience_ms_ = 0;
    unsigned ignored_ = 0;            // times that it began again since the last receipt
    bool is_probe_due_ = false;       // whether the oldest records are sent once more, receipted as they are

    Counts counts_;
    std::array<store::Record, wire::most_records> batch_ = {};
    std::array<char, wire::largest_message> message_ = {};
    std::array<char, 96> topic_ = {};
};

}  // namespace ct::net
