#pragma once

#include "esp_err.h"

using nvs_handle_t = std::uint32_t;
enum nvs_open_mode_t { NVS_READONLY, NVS_READWRITE };

constexpr esp_err_t ESP_ERR_NVS_BASE = 0x1100;
constexpr esp_err_t ESP_ERR_NVS_NOT_FOUND = ESP_ERR_NVS_BASE + 0x02;
constexpr esp_err_t ESP_ERR_NVS_INVALID_LENGTH = ESP_ERR_NVS_BASE + 0x0c;

extern "C" {
esp_err_t nvs_open(const char* namespace_name, nvs_open_mode_t open_mode, nvs_handle_t* out_handle);
esp_err_t nvs_get_blob(nvs_handle_t handle, const char* key, void* out_value, std::size_t* length);
esp_err_t nvs_set_blob(nvs_handle_t handle, const char* key, const void* value, std::size_t length);
esp_err_t nvs_erase_key(nvs_handle_t handle, const char* key);
esp_err_t nvs_commit(nvs_handle_t handle);
}
