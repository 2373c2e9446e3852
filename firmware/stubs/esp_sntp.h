#pragma once

#include <sys/time.h>

#include <cstdint>

enum esp_sntp_operatingmode_t { ESP_SNTP_OPMODE_POLL };
using sntp_sync_time_cb_t = void (*)(timeval* time);

extern "C" {
void esp_sntp_setoperatingmode(esp_sntp_operatingmode_t mode);
void esp_sntp_setservername(std::uint8_t index, const char* server);
void esp_sntp_init();
void sntp_set_sync_interval(std::uint32_t interval_ms);
void sntp_set_time_sync_notification_cb(sntp_sync_time_cb_t callback);
}
