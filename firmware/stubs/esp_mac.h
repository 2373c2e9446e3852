#pragma once

#include "esp_err.h"

enum esp_mac_type_t { ESP_MAC_WIFI_STA };

extern "C" esp_err_t esp_read_mac(std::uint8_t* mac, esp_mac_type_t type);
