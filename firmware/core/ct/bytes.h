// A view of bytes that somebody else owns, and numbers in it. The caller sees to it that the bytes are there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ct {

struct Bytes {
    const std::uint8_t* data = nullptr;
    std::size_t size = 0;

    constexpr std::uint8_t operator[](std::size_t at) const { return data[at]; }

    // The bytes from `at` on, at most `count` of them; fewer (or none) where the view ends.
    constexpr Bytes part(std::size_t at, std::size_t count) const {
        if (at >= size) {
            return {data + size, 0};
        }
        return {data + at, count < size - at ? count : size - at};
    }

    constexpr bool are_all(std::uint8_t value) const {
        for (std::size_t at = 0; at < size; ++at) {
            if (data[at] != value) {
                return false;
            }
        }
        return true;
    }
};

// Numbers with the high byte first (sensors), and with the low byte first (our own flash).

template <typename Number>
constexpr Number get_be(const std::uint8_t* from, std::size_t size = sizeof(Number)) {
    Number value = 0;
    for (std::size_t at = 0; at < size; ++at) {
        value = static_cast<Number>(static_cast<Number>(value << 8) | static_cast<Number>(from[at]));
    }
    return value;
}

template <typename Number>
constexpr Number get_le(const std::uint8_t* from, std::size_t size = sizeof(Number)) {
    Number value = 0;
    for (std::size_t at = size; at > 0; --at) {
        value = static_cast<Number>(static_cast<Number>(value << 8) | static_cast<Number>(from[at - 1]));
    }
    return value;
}

template <typename Number>
constexpr void put_le(std::uint8_t* to, Number value, std::size_t size = sizeof(Number)) {
    for (std::size_t at = 0; at < size; ++at) {
        to[at] = static_cast<std::uint8_t>(value >> (8 * at));
    }
}

}  // namespace ct
