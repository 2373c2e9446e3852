// Values in NVS, each as one blob. NVS writes a new value before it takes the old one away, so a power cut leaves one of
// the two; there must be room for both (partition `nvs`).
#pragma once

#include <nvs.h>

#include <new>

#include "ct/hal/key_value.h"

namespace ct::esp32 {

class NvsValues final : public hal::KeyValue {
public:
    // False: the partition cannot be used.
    bool open() { return is_open_ = nvs_open("carbontrack", NVS_READWRITE, &handle_) == ESP_OK; }

    std::optional<std::size_t> get(const char* name, std::uint8_t* to, std::size_t capacity) override;
    bool set(const char* name, Bytes value) override;
    bool erase(const char* name) override;

private:
    bool is_open_ = false;
    nvs_handle_t handle_ = 0;
};

// A value as a text with a zero at its end, which the SDK wants; empty where it is not there or does not fit.
template <std::size_t capacity>
class TextOf {
public:
    TextOf(hal::KeyValue& values, const char* name) {
        const auto size = values.get(name, reinterpret_cast<std::uint8_t*>(text_), capacity);
        size_ = size && *size <= capacity ? *size : 0;
        text_[size_] = '\0';
    }
    const char* c_str() const { return text_; }
    std::size_t size() const { return size_; }
    bool is_empty() const { return size_ == 0; }
    // For the SDK, which takes nullptr for "none".
    const char* or_none() const { return is_empty() ? nullptr : text_; }

private:
    char text_[capacity + 1];
    std::size_t size_ = 0;
};

// The same for long ones, in as much memory as they take.
class LongTextOf {
public:
    LongTextOf(hal::KeyValue& values, const char* name) {
        std::uint8_t none = 0;
        const std::size_t size = values.get(name, &none, 0).value_or(0);
        char* const to = size == 0 ? nullptr : new (std::nothrow) char[size + 1];
        if (to != nullptr && values.get(name, reinterpret_cast<std::uint8_t*>(to), size) == size) {
            to[size] = '\0';
            text_ = to;
        } else {
            delete[] to;
        }
    }
    ~LongTextOf() { delete[] text_; }
    LongTextOf(const LongTextOf&) = delete;
    LongTextOf& operator=(const LongTextOf&) = delete;
    const char* or_none() const { return text_; }

private:
    const char* text_ = nullptr;
};

}  // namespace ct::esp32
