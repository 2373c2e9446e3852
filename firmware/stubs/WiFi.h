#pragma once

#include "Arduino.h"

enum wl_status_t { WL_IDLE_STATUS = 0, WL_CONNECTED = 3, WL_DISCONNECTED = 6 };
enum wifi_mode_t { WIFI_MODE_NULL = 0, WIFI_MODE_STA, WIFI_MODE_AP };

class WiFiClass {
public:
    void persistent(bool is_persistent);
    bool setAutoReconnect(bool is_on);
    bool setHostname(const char* name);
    bool mode(wifi_mode_t mode);
    wl_status_t begin(const char* ssid, const char* passphrase);
    bool disconnect(bool is_radio_off = false);
    wl_status_t status();
    std::int8_t RSSI();
    bool softAP(const char* ssid, const char* passphrase);
    bool setSleep(bool is_on);
};

extern WiFiClass WiFi;
