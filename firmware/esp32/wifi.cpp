#include "wifi.h"

#include <WiFi.h>

namespace ct::esp32 {

void WifiRadio::start(const char* name) {
    WiFi.persistent(false);  // what is known about the network is in our own values
    WiFi.setAutoReconnect(false);
    WiFi.setHostname(name);
    WiFi.mode(WIFI_MODE_STA);
    WiFi.setSleep(false);  // a radio that sleeps loses receipts
}

void WifiRadio::join(const char* ssid, const char* password) { WiFi.begin(ssid, password); }
void WifiRadio::leave() { WiFi.disconnect(); }
bool WifiRadio::is_joined() { return WiFi.status() == WL_CONNECTED; }

void WifiRadio::restart() {
    WiFi.disconnect(true);
    WiFi.mode(WIFI_MODE_NULL);
    WiFi.mode(WIFI_MODE_STA);
    WiFi.setSleep(false);
}

void Wifi::begin(const char* name, std::uint64_t now_ms) {
    radio_.start(name);
    due_ms_ = without_since_ms_ = radio_since_ms_ = now_ms;
}

bool Wifi::step(std::uint64_t now_ms) {
    constexpr std::uint64_t attempt_ms = 20000, radio_ms = 5 * 60000;
    constexpr std::uint32_t first_pause_ms = 2000, longest_pause_ms = 60000;
    const bool was_joined = is_joined_;
    is_joined_ = radio_.is_joined();
    if (is_joined_) {
        is_trying_ = has_given_up_ = false;
        attempts_ = 0;
        due_ms_ = without_since_ms_ = radio_since_ms_ = now_ms;
        return true;
    }
    if (was_joined) {
        without_since_ms_ = radio_since_ms_ = now_ms;
    }
    if (now_ms - radio_since_ms_ >= radio_ms) {
        radio_since_ms_ = now_ms;
        is_trying_ = false;
        due_ms_ = now_ms;
        radio_.restart();
    }
    if (now_ms < due_ms_) {
        return false;
    }
    if (is_trying_) {
        radio_.leave();
        const std::uint32_t doubled_ms = first_pause_ms << (attempts_ < 8 ? attempts_ : 8);
        const std::uint32_t limit_ms = doubled_ms < longest_pause_ms ? doubled_ms : longest_pause_ms;
        due_ms_ = now_ms + random_.next() % (limit_ms + 1);
        ++attempts_;
    } else {
        radio_.join(ssid_, password_);
        due_ms_ = now_ms + attempt_ms;
    }
    is_trying_ = !is_trying_;
    return false;
}

bool Wifi::is_hopeless(std::uint64_t now_ms) {
    constexpr std::uint64_t hopeless_ms = 30 * 60000;
    if (has_given_up_ || is_joined_ || now_ms - without_since_ms_ < hopeless_ms) {
        return false;
    }
    return has_given_up_ = true;
}

}  // namespace ct::esp32
