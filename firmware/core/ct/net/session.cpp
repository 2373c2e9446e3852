#include "ct/net/session.h"

namespace ct::net {

namespace {

constexpr std::uint64_t connect_ms = 30000;
constexpr std::uint64_t subscribe_ms = 10000;
constexpr std::uint64_t goodbye_ms = 3000;
constexpr std::uint64_t steady_ms = 300000;  // a connection that stood for so long was a good one
constexpr std::uint64_t stalled_ms = 60000;  // without a PUBACK for so long, the connection is dead
constexpr std::uint32_t first_backoff_ms = 1000;
constexpr std::uint32_t most_patience = 10;  // times the patience that it begins with
constexpr std::uint32_t far_behind = 60;     // live records; then they are backlog
constexpr unsigned deaf_after = 3;           // resends without any receipt

}  // namespace

Session::Session(store::Ring& ring, hal::Mqtt& mqtt, hal::Random& random, Clock& clock, const wire::Site& site,
                 const Settings& settings)
    : ring_(ring), mqtt_(mqtt), random_(random), clock_(clock), site_(site), settings_(settings) {}

void Session::begin(std::uint64_t now_ms) {
    sent_ = ring_.next_seq() - 1;  // an earlier boot may have sent all that there is
    patience_ms_ = settings_.patience_ms;
    attempts_ = 0;
    state_ = State::connecting;
    lose(now_ms);
}

void Session::step(std::uint64_t now_ms) {
    hal::MqttEvent event;
    while (mqtt_.next_event(event)) {
        take_event(event, now_ms);
    }
    switch (state_) {
        case State::offline:
            if (now_ms >= due_ms_) {
                connect(now_ms);
            }
            break;
        case State::connecting:
        case State::subscribing:
            if (now_ms >= due_ms_) {
                lose(now_ms);
            }
            break;
        case State::running:
            if (is_stalled(now_ms)) {
                lose(now_ms);
                break;
            }
            send_again_if_ignored(now_ms);
            send_live(now_ms);
            send_backlog(now_ms);
            break;
        case State::leaving:
            if (now_ms >= due_ms_) {
                mqtt_.disconnect();
                state_ = State::left;
            }
            break;
        case State::left: break;
    }
}

// --- connections

void Session::take_event(const hal::MqttEvent& event, std::uint64_t now_ms) {
    using Kind = hal::MqttEvent::Kind;
    if (event.kind == Kind::disconnected) {
        if (state_ == State::leaving) {
            state_ = State::left;
        } else if (state_ != State::offline && state_ != State::left) {
            lose(now_ms);
        }
    } else if (event.kind == Kind::connected && state_ == State::connecting) {
        connected_ms_ = now_ms;
        ++counts_.connections;
        state_ = State::subscribing;
        due_ms_ = now_ms + subscribe_ms;
        expected_id_ = mqtt_.subscribe(topic("dn/#"));  // first: the birth is answered with a receipt
    } else if (event.kind == Kind::acknowledged) {
        if (event.id == expected_id_ && state_ == State::subscribing) {
            say_birth(now_ms);
        } else if (event.id == expected_id_ && state_ == State::leaving) {
            due_ms_ = now_ms;
        } else {
            land(event.id, now_ms);
        }
    } else if (event.kind == Kind::message && (state_ == State::running || state_ == State::leaving)) {
        take_message(event, now_ms);
    }
}

// A receipt, or something for the listener. Nothing that a broker has kept counts: it may be years old.
void Session::take_message(const hal::MqttEvent& event, std::uint64_t now_ms) {
    const std::string_view ours = topic("dn/");
    const char* const name = event.topic.data();
    const std::size_t size = event.topic.size();
    const bool is_for_us = size > ours.size() && std::string_view(name, ours.size()) == ours;
    const std::string_view channel = is_for_us ? std::string_view(name + ours.size(), size - ours.size()) : "";
    if (!is_for_us || event.is_retained || channel == "ack") {
        take_receipt(event, now_ms);
    } else if (state_ == State::running && listener_ != nullptr) {
        ++counts_.other_messages;
        listener_->take(channel, event.payload, now_ms);
    }
}

int Session::say(std::string_view channel, std::string_view payload, std::uint64_t now_ms) {
    if (state_ != State::running) {
        return 0;
    }
    for (Flight& flight : said_) {
        if (flight.id == 0) {
            json::Writer out(topic_.data(), topic_.size());
            out.raw("ct/v1/").raw(settings_.device_id).raw("/up/").raw(channel);
            flight = {mqtt_.publish(out.written(), payload, false), now_ms};
            return flight.id;
        }
    }
    return 0;
}

void Session::connect(std::uint64_t now_ms) {
    connection_ = ring_.new_connection();
    json::Writer will(message_.data(), message_.size());
    wire::write_offline(will, connection_, ring_.boot(), "");
    state_ = State::connecting;
    due_ms_ = now_ms + connect_ms;
    mqtt_.connect(topic("up/state"), will.written());
}

// Without a connection, until a moment between now and a limit that doubles each time: a fleet that lost its broker
// must not come back all at once.
void Session::lose(std::uint64_t now_ms) {
    const bool was_running = state_ == State::running;
    const bool was_steady = was_running && now_ms - connected_ms_ >= steady_ms;
    attempts_ = was_steady ? 0 : attempts_;
    const std::uint32_t doubled = first_backoff_ms << (attempts_ < 16 ? attempts_ : 16);
    const std::uint32_t limit_ms =
        doubled < settings_.longest_backoff_ms ? doubled : settings_.longest_backoff_ms;
    ++attempts_;
    mqtt_.disconnect();
    state_ = State::offline;
    due_ms_ = now_ms + random_.next() % (limit_ms + 1);
    live_flights_ = {};
    backlog_flight_ = {};
    said_ = {};
    if (was_running && listener_ != nullptr) {
        listener_->went_offline(now_ms);
    }
}

void Session::say_birth(std::uint64_t now_ms) {
    hole_why_ = store::Why::overwritten;
    declare_hole(ring_.watermark() + 1, ring_.first_unreceipted() - 1, now_ms);
    wire::Birth birth;
    birth.connection = connection_;
    birth.boot = ring_.boot();
    birth.sid = ring_.sid();
    birth.first = ring_.first();  // what is receipted can still be had, should the platform have lost it
    birth.next = ring_.next_seq();
    birth.capacity = ring_.capacity();
    birth.time_ms = clock_.time_ms(now_ms);
    birth.cfg = site_.cfg;
    birth.firmware = settings_.firmware;
    birth.hardware = settings_.hardware;
    birth.mode = settings_.mode;
    birth.reset_cause = settings_.reset_cause;
    json::Writer out(message_.data(), message_.size());
    wire::write_birth(out, birth, sensors_, sensor_count_);
    if (mqtt_.publish(topic("up/state"), out.written(), true) == 0) {
        lose(now_ms);
        return;
    }
    state_ = State::running;
    live_ = {};
    live_.seq = backlog_end_ = ring_.next_seq();
    backlog_ = {};
    backlog_.seq = ring_.watermark() + 1;
    backlog_due_ms_ = now_ms + settings_.birth_answer_ms;
    awaits_answer_ = true;
    is_waiting_ = false;
    patience_ms_ = settings_.patience_ms;
    if (listener_ != nullptr) {
        listener_->went_online(now_ms);
    }
}

void Session::leave(std::uint64_t now_ms, std::string_view why) {
    if (state_ != State::running) {
        mqtt_.disconnect();
        state_ = State::left;
        return;
    }
    json::Writer out(message_.data(), message_.size());
    wire::write_offline(out, connection_, ring_.boot(), why);
    expected_id_ = mqtt_.publish(topic("up/state"), out.written(), true);
    state_ = State::leaving;
    due_ms_ = now_ms + goodbye_ms;
}

bool Session::is_stalled(std::uint64_t now_ms) const {
    const auto is_old = [now_ms](const Flight& flight) {
        return flight.id != 0 && now_ms - flight.since_ms >= stalled_ms;
    };
    for (const Flight& flight : live_flights_) {
        if (is_old(flight)) {
            return true;
        }
    }
    for (const Flight& flight : said_) {
        if (is_old(flight)) {
            return true;
        }
    }
    return is_old(backlog_flight_);
}

void Session::land(int id, std::uint64_t now_ms) {
    if (backlog_flight_.id == id) {
        backlog_flight_ = {};
    }
    for (Flight& flight : live_flights_) {
        if (flight.id == id) {
            flight = {};
        }
    }
    for (Flight& flight : said_) {
        if (flight.id != 0 && flight.id == id) {
            flight = {};
            if (listener_ != nullptr) {
                listener_->has_landed(id, now_ms);
            }
        }
    }
}

// --- receipts

void Session::take_receipt(const hal::MqttEvent& event, std::uint64_t now_ms) {
    const bool is_for_us = event.topic == topic("dn/ack") && !event.is_retained;
    if (!is_for_us) {
        ++counts_.refused_receipts;
        return;
    }
    const auto receipt = wire::read_receipt(event.payload);
    if (!receipt || receipt->sid != ring_.sid() || receipt->seq > sent_) {
        ++counts_.refused_receipts;
        return;
    }
    ++counts_.receipts;
    ignored_ = 0;
    is_probe_due_ = false;
    credit_ = receipt->credit;
    if (clock_.set(receipt->now_ms, now_ms, Clock::Source::receipt)) {
        add(store::Anchor{receipt->now_ms, now_ms}, now_ms);
    }
    const auto seq = static_cast<std::uint32_t>(receipt->seq);
    if (awaits_answer_) {
        awaits_answer_ = false;
        backlog_due_ms_ = now_ms;
    }
    if (seq < ring_.watermark()) {
        go_back(seq, now_ms);
    } else if (seq > ring_.watermark()) {
        ring_.set_watermark(seq);
        patience_ms_ = settings_.patience_ms;
        is_waiting_ = seq < sent_;
        waiting_since_ms_ = now_ms;
    }
    if (backlog_.seq <= ring_.watermark()) {
        backlog_ = {};
        backlog_.seq = ring_.watermark() + 1;
    }
    if (listener_ != nullptr) {
        listener_->was_receipted(now_ms);
    }
}

// The platform has lost what it had receipted (it was restored from a backup): it gets again what is still here.
void Session::go_back(std::uint32_t seq, std::uint64_t now_ms) {
    store::Event event;
    event.code = store::EventCode::ack_regressed;
    event.value = seq;
    event.limit = static_cast<float>(ring_.watermark());
    ring_.set_watermark(seq);
    declared_ = 0;
    hole_why_ = store::Why::ack_regressed;
    add(event, now_ms);
    backlog_ = {};
    backlog_.seq = seq + 1;
    backlog_end_ = live_.seq;
    is_waiting_ = false;
}

void Session::send_again_if_ignored(std::uint64_t now_ms) {
    if (!is_waiting_ || backlog_flight_.id != 0 || now_ms - waiting_since_ms_ < patience_ms_) {
        return;
    }
    backlog_ = {};
    backlog_.seq = ring_.watermark() + 1;
    is_probe_due_ = ++ignored_ >= deaf_after;
    backlog_end_ = live_.seq;
    is_waiting_ = false;
    const std::uint32_t most_ms = most_patience * settings_.patience_ms;
    patience_ms_ = patience_ms_ < most_ms / 2 ? 2 * patience_ms_ : most_ms;
    ++counts_.resends;
}

// --- sending

void Session::send_live(std::uint64_t now_ms) {
    if (ring_.next_seq() - live_.seq > far_behind) {
        if (backlog_.seq >= backlog_end_) {
            backlog_ = live_;  // what was sent live is not backlog
        }
        live_ = {};
        live_.seq = backlog_end_ = ring_.next_seq();
    }
    for (Flight& flight : live_flights_) {
        if (flight.id != 0 || live_.seq >= ring_.next_seq()) {
            continue;
        }
        const store::Ring::Cursor before = live_;
        if (!ring_.next(live_, batch_[0])) {
            return;
        }
        place(batch_[0]);
        flight = {send("up/data", 1, now_ms), now_ms};
        if (flight.id == 0) {
            live_ = before;
            return;
        }
        ++counts_.live;
    }
}

void Session::send_backlog(std::uint64_t now_ms) {
    if (backlog_flight_.id != 0 || now_ms < backlog_due_ms_ || credit_ <= 0.0) {
        return;
    }
    if (is_probe_due_) {
        send_probe(now_ms);
    } else if (backlog_.seq < backlog_end_) {
        const store::Ring::Cursor before = backlog_;
        if (!send_batch(read_batch(now_ms), now_ms)) {
            backlog_ = before;
        }
    }
}

// A platform that has lost the whole stream has no receipt to give. One message of the oldest records finds that out:
// it stores them and receipts them, and that is a receipt that goes back.
void Session::send_probe(std::uint64_t now_ms) {
    const store::Ring::Cursor resume = backlog_;
    const std::uint32_t end = backlog_end_;
    backlog_ = {};
    backlog_.seq = ring_.first();
    backlog_end_ = ring_.watermark() + 1;
    send_batch(read_batch(now_ms), now_ms);
    backlog_ = resume;
    backlog_end_ = end;
    is_probe_due_ = false;
}

// False where there was something to send, and the connection did not take it.
bool Session::send_batch(std::size_t count, std::uint64_t now_ms) {
    constexpr double longest_ms = 60000.0;
    if (count == 0) {
        return true;
    }
    backlog_flight_ = {send("up/backlog", count, now_ms), now_ms};
    counts_.backlog += backlog_flight_.id != 0 ? 1 : 0;
    const double pause_ms = 1000.0 / credit_;
    backlog_due_ms_ = now_ms + static_cast<std::uint64_t>(pause_ms < longest_ms ? pause_ms : longest_ms);
    return backlog_flight_.id != 0;
}

// The longest beginning of the backlog that fits into one message. What is missing in between is said to be lost.
std::size_t Session::read_batch(std::uint64_t now_ms) {
    std::size_t count = 0;
    while (count < batch_.size()) {
        const store::Ring::Cursor before = backlog_;
        store::Record& record = batch_[count];
        const bool is_found = backlog_.seq < backlog_end_ && ring_.next(backlog_, record);
        if (is_found && record.seq == before.seq && record.seq < backlog_end_) {
            place(record);
            if (count == 0 || wire::can_follow(batch_[count - 1], record)) {
                ++count;
                continue;
            }
        } else if (count == 0 && before.seq < backlog_end_) {
            const std::uint32_t found = is_found && record.seq < backlog_end_ ? record.seq : backlog_end_;
            declare_hole(before.seq, found - 1, now_ms);
            backlog_ = before;
            backlog_.seq = found;
            continue;
        }
        backlog_ = before;
        break;
    }
    return count;
}

void Session::declare_hole(std::uint32_t from, std::uint32_t to, std::uint64_t now_ms) {
    from = from > declared_ ? from : declared_ + 1;
    if (from > to) {
        return;
    }
    declared_ = to;
    ++counts_.gaps;
    add(store::Gap{from, to, hole_why_}, now_ms);
}

int Session::send(std::string_view lane, std::size_t count, std::uint64_t now_ms) {
    json::Writer out(message_.data(), message_.size());
    wire::write_records(out, ring_.sid(), site_, batch_.data(), count);
    const int id = out.is_whole() ? mqtt_.publish(topic(lane), out.written(), false) : 0;
    if (id != 0) {
        const std::uint32_t last = batch_[count - 1].seq;
        sent_ = last > sent_ ? last : sent_;
        if (!is_waiting_) {
            is_waiting_ = true;
            waiting_since_ms_ = now_ms;
        }
    }
    return id;
}

void Session::add(store::Content content, std::uint64_t now_ms) {
    store::Record record;
    record.time_ms = clock_.time_ms(now_ms);
    record.clock = clock_.quality(now_ms);
    record.cfg = site_.cfg;
    record.content = content;
    ring_.append(record);  // where the flash refuses there is nothing more to be done here
}

// What this boot measured before it knew the time is sent with its true time. In the store it stays as it was written.
void Session::place(store::Record& record) const {
    if (record.clock == store::ClockQuality::unset && record.boot == ring_.boot() && clock_.is_set()) {
        record.time_ms = clock_.utc_of_uptime(record.time_ms);
        record.clock = store::ClockQuality::re_anchored;
    }
}

std::string_view Session::topic(std::string_view end) {
    json::Writer out(topic_.data(), topic_.size());
    out.raw("ct/v1/").raw(settings_.device_id).raw("/").raw(end);
    return out.written();
}

}  // namespace ct::net
