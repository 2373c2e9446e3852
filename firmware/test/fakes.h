// The edges of a node, for tests: a broker's other end that does as it is told, a clock that stands, dice that do not roll.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "ct/hal/key_value.h"
#include "ct/hal/mqtt.h"
#include "ct/hal/signals.h"
#include "ct/hal/system.h"
#include "support.h"

namespace ct::test {

struct Sent {
    int id = 0;
    std::string topic;
    std::string body;
    bool is_retained = false;

    json::Value json() const { return json::parse(body).value(); }
    std::int64_t number(const char* name) const { return json().member(name)->integer().value(); }
    bool is_on(const char* end) const {
        const std::string tail = end;
        return topic.size() >= tail.size() && topic.substr(topic.size() - tail.size()) == tail;
    }
};

class FakeMqtt final : public hal::Mqtt {
public:
    bool accepts = true;         // whether a connection comes to stand
    bool acknowledges = true;    // by itself, everything
    unsigned attempts = 0;
    std::string will;
    std::vector<Sent> sent;
    std::vector<std::string> subscriptions;

    void connect(std::string_view, std::string_view text) override {
        ++attempts;
        will = text;
        is_connected_ = accepts;
        push({accepts ? hal::MqttEvent::Kind::connected : hal::MqttEvent::Kind::disconnected, 0, "", "", false});
    }
    void disconnect() override {
        is_connected_ = false;
        events_.clear();
    }
    int publish(std::string_view topic, std::string_view payload, bool retain) override {
        if (!is_connected_) {
            return 0;
        }
        sent.push_back({++last_id_, std::string(topic), std::string(payload), retain});
        if (acknowledges) {
            acknowledge(last_id_);
        }
        return last_id_;
    }
    int subscribe(std::string_view topic) override {
        subscriptions.emplace_back(topic);
        acknowledge(++last_id_);
        return last_id_;
    }
    bool next_event(hal::MqttEvent& event) override {
        if (events_.empty()) {
            return false;
        }
        current_ = events_.front();
        events_.pop_front();
        event = {current_.kind, current_.id, current_.topic, current_.payload, current_.is_retained};
        return true;
    }

    // What a test makes happen.
    void cut() {
        is_connected_ = false;
        events_.clear();
        push({hal::MqttEvent::Kind::disconnected, 0, "", "", false});
    }
    void acknowledge(int id) { push({hal::MqttEvent::Kind::acknowledged, id, "", "", false}); }
    void say(const std::string& topic, const std::string& payload, bool is_retained = false) {
        push({hal::MqttEvent::Kind::message, 0, topic, payload, is_retained});
    }
    void receipt(const std::string& sid, std::uint64_t seq, const std::string& credit = "5.0") {
        say("ct/v1/dev-001/dn/ack", "{\"sid\":\"" + sid + "\",\"seq\":" + std::to_string(seq) +
                                        ",\"now\":1795433047456,\"credit\":" + credit + "}");
    }
    // The messages of one lane, and the records that they cover in the order in which they were sent.
    std::vector<Sent> on(const char* lane) const {
        std::vector<Sent> found;
        for (const Sent& message : sent) {
            if (message.is_on(lane)) {
                found.push_back(message);
            }
        }
        return found;
    }
    std::vector<std::int64_t> numbers_on(const char* lane) const {
        std::vector<std::int64_t> found;
        for (const Sent& message : on(lane)) {
            for (std::int64_t at = 0; at < message.number("n"); ++at) {
                found.push_back(message.number("seq") + at);
            }
        }
        return found;
    }

private:
    struct Event {
        hal::MqttEvent::Kind kind;
        int id;
        std::string topic;
        std::string payload;
        bool is_retained;
    };
    void push(Event event) { events_.push_back(std::move(event)); }

    bool is_connected_ = false;
    int last_id_ = 0;
    std::deque<Event> events_;
    Event current_ = {};
};

class FakeRandom final : public hal::Random {
public:
    std::uint32_t value = 0;
    std::uint32_t next() override { return value; }
};

class FakeWall final : public hal::WallClock {
public:
    std::uint64_t now_ms = 0;
    std::uint64_t utc_ms() override { return now_ms; }
};

class FakeMachine final : public hal::Machine {
public:
    hal::ResetCause cause = hal::ResetCause::poweron;
    unsigned reboots = 0;
    hal::MachineHealth health() override { return {-71, 120}; }
    hal::ResetCause reset_cause() override { return cause; }
    void reboot() override { ++reboots; }
};

// Values that survive as NVS has it: each whole, the old one or the new one.
class FakeValues final : public hal::KeyValue {
public:
    std::map<std::string, std::vector<std::uint8_t>> kept;
    unsigned writes = 0;
    unsigned cut_at = ~0U;       // the power goes at this write,
    bool is_done_at_cut = false; // after it or before
    bool is_off = false;
    bool refuses = false;

    std::optional<std::size_t> get(const char* name, std::uint8_t* to, std::size_t capacity) override {
        const auto found = kept.find(name);
        if (is_off || found == kept.end()) {
            return std::nullopt;
        }
        if (found->second.size() <= capacity) {
            std::copy(found->second.begin(), found->second.end(), to);
        }
        return found->second.size();
    }
    bool set(const char* name, Bytes value) override {
        if (!writes_now()) {
            return false;
        }
        kept[name].assign(value.data, value.data + value.size);
        return !is_off;
    }
    bool erase(const char* name) override {
        if (!writes_now()) {
            return false;
        }
        kept.erase(name);
        return !is_off;
    }
    void power_on() {
        is_off = false;
        cut_at = ~0U;
    }

private:
    bool writes_now() {
        if (is_off || refuses) {
            return false;
        }
        is_off = writes++ == cut_at;
        return !is_off || is_done_at_cut;
    }
};

class FakeSignals final : public hal::Signals {
public:
    bool is_lit = false, is_loud = false;
    unsigned changes = 0;
    void led(bool is_on) override {
        is_lit = is_on;
        ++changes;
    }
    void buzzer(bool is_on) override {
        is_loud = is_on;
        ++changes;
    }
};

class FakeSource final : public hal::FrameSource {
public:
    std::vector<std::uint8_t> frame;
    std::size_t read(std::uint8_t* to, std::size_t capacity) override {
        const std::size_t size = frame.size() < capacity ? frame.size() : 0;
        std::copy_n(frame.begin(), size, to);
        return size;
    }
};

}  // namespace ct::test
