// Tells a node who it is and where it belongs: one line of JSON in, one out, over a serial line or a page of its own.
//
//     {"provision":{"id":"dev-007","password":"...","host":"mqtt.example.org", ...}}  ->  {"ok":true}
//     {"show":true}                                                                   ->  what is there, without secrets
//
// A line is taken whole or not at all. What it does not name stays as it was; null or an empty text takes it away.
#pragma once

#include <array>

#include "ct/hal/key_value.h"
#include "ct/wire/config.h"

namespace ct::app {

// Names in the key-value store. All values are texts without a zero at their end, the port too.
namespace credential {

constexpr const char* id = "id";
constexpr const char* password = "password";
constexpr const char* wifi_ssid = "wifi_ssid";
constexpr const char* wifi_password = "wifi_password";
constexpr const char* host = "host";
constexpr const char* port = "port";
constexpr const char* ca = "ca";
constexpr const char* cert = "cert";
constexpr const char* key = "key";
constexpr const char* hardware = "hw";
constexpr const char* firmware_key = "firmware_key";

}  // namespace credential

class Provision {
public:
    static constexpr std::size_t largest_line = 12 * 1024;
    static constexpr std::size_t largest_answer = 1024;
    static constexpr std::size_t largest_text = 4096;  // of one value
    using Room = std::array<char, largest_text>;

    // `room` is used while a line is taken.
    Provision(hal::KeyValue& values, Room& room) : values_(values), room_(room) {}

    // The answer to one line, without a line's end. Nothing for an empty line.
    void take(std::string_view line, json::Writer& out);

    // Whether everything is there that a node needs to connect, and no line was cut off by the power.
    static bool is_complete(hal::KeyValue& values);

private:
    void provision(const json::Value& body, json::Writer& out);
    void check(const json::Value& body, wire::Problems& problems);
    void check_together(const json::Value& body, wire::Problems& problems);
    bool keep(const json::Value& body);
    void show(json::Writer& out);

    hal::KeyValue& values_;
    Room& room_;
};

// Gathers a line from what comes letter by letter.
template <std::size_t capacity>
class LineReader {
public:
    // True: a line is whole; `line` has it until the next letter.
    bool take(char letter) {
        if (is_done_) {
            size_ = 0;
            is_done_ = is_too_long_ = false;
        }
        if (letter == '\n' || letter == '\r') {
            is_done_ = true;
            return true;
        }
        if (size_ < capacity) {
            text_[size_++] = letter;
        } else {
            is_too_long_ = true;
        }
        return false;
    }
    // A line that was too long is a `{`, which nobody takes for JSON.
    std::string_view line() const { return is_too_long_ ? std::string_view("{") : std::string_view(text_.data(), size_); }

private:
    std::array<char, capacity> text_ = {};
    std::size_t size_ = 0;
    bool is_done_ = false;
    bool is_too_long_ = false;
};

}  // namespace ct::app
