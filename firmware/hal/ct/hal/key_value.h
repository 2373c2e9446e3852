// Small things that must survive the power: settings, credentials, counters. On a chip this is NVS, on a PC a folder.
//
// A value is changed whole or not at all: after a power cut during `set` the old one is there or the new one, never a
// mixture and never nothing. That is the adapter's work, and the core relies on it for each value by itself; two values
// are never changed together.
#pragma once

#include <optional>

#include "ct/bytes.h"

namespace ct::hal {

class KeyValue {
public:
    static constexpr std::size_t longest_name = 15;  // as in NVS; letters, digits and _
    static constexpr std::size_t largest_value = 4096 + 64;

    // How many bytes the value has; they are in `to` where they fit into `capacity`. None: there is no such value, or
    // it cannot be read.
    virtual std::optional<std::size_t> get(const char* name, std::uint8_t* to, std::size_t capacity) = 0;
    // True: the value is there and stays. False: it is what it was before, as far as anybody knows.
    virtual bool set(const char* name, Bytes value) = 0;
    // True also where there was no such value.
    virtual bool erase(const char* name) = 0;

protected:
    ~KeyValue() = default;
};

}  // namespace ct::hal
