#include "values.h"

namespace ct::esp32 {

std::optional<std::size_t> NvsValues::get(const char* name, std::uint8_t* to, std::size_t capacity) {
    std::size_t size = 0;
    if (!is_open_ || nvs_get_blob(handle_, name, nullptr, &size) != ESP_OK) {
        return std::nullopt;
    }
    if (size == 0 || size > capacity) {
        return size;
    }
    return nvs_get_blob(handle_, name, to, &size) == ESP_OK ? std::optional(size) : std::nullopt;
}

bool NvsValues::set(const char* name, Bytes value) {
    return is_open_ && nvs_set_blob(handle_, name, value.data, value.size) == ESP_OK && nvs_commit(handle_) == ESP_OK;
}

bool NvsValues::erase(const char* name) {
    if (!is_open_) {
        return false;
    }
    const esp_err_t result = nvs_erase_key(handle_, name);
    return result == ESP_ERR_NVS_NOT_FOUND || (result == ESP_OK && nvs_commit(handle_) == ESP_OK);
}

}  // namespace ct::esp32
