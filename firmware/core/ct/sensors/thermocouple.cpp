// Thermocouple converters on SPI: MAX31855 (a word of 32 bits), MAX31856 (six registers), MAX6675 (a word of 16 bits).
#include "ct/sensors/frame.h"

namespace ct::sensors {

namespace {

Frame of_status(Flags status) {
    Frame frame;
    frame.status = status;
    return frame;
}

Frame of_temperature(float temperature_c) {
    Frame frame;
    frame.temperature_c = temperature_c;
    return frame;
}

// A number with sign in the upper `bits` of a word of 32.
std::int32_t upper_bits(std::uint32_t word, unsigned bits) {
    const std::uint32_t shifted = word >> (32 - bits);
    const std::uint32_t sign = 1U << (bits - 1);
    return static_cast<std::int32_t>(shifted ^ sign) - static_cast<std::int32_t>(sign);
}

}  // namespace

Frame decode_max31855(Bytes frame) {
    constexpr std::uint32_t open = 1U << 0;
    constexpr std::uint32_t faults = 1U << 16 | 1U << 2 | 1U << 1;
    constexpr std::uint32_t reserved = 1U << 17 | 1U << 3;
    if (frame.size != 4) {
        return Frame::refused(Cause::length);
    }
    if (frame.are_all(0x00) || frame.are_all(0xFF)) {
        return of_status(flag::temperature_fault);  // no chip answers
    }
    const auto word = get_be<std::uint32_t>(frame.data);
    if ((word & reserved) != 0) {
        return Frame::refused(Cause::form);
    }
    if ((word & (open | faults)) != 0) {
        return of_status((word & open) != 0 ? flag::temperature_open : flag::temperature_fault);
    }
    return of_temperature(static_cast<float>(upper_bits(word, 14)) / 4.0F);
}

Frame decode_max31856(Bytes frame) {
    constexpr unsigned open = 1U << 0;
    constexpr unsigned faults = 1U << 7 | 1U << 6 | 1U << 1;
    if (frame.size != 6) {
        return Frame::refused(Cause::length);
    }
    if (frame.are_all(0x00) || frame.are_all(0xFF)) {
        return of_status(flag::temperature_fault);  // no chip answers, or no conversion yet
    }
    if ((frame[5] & (open | faults)) != 0) {
        return of_status((frame[5] & open) != 0 ? flag::temperature_open : flag::temperature_fault);
    }
    const auto word = get_be<std::uint32_t>(frame.data + 2, 3) << 8;
    return of_temperature(static_cast<float>(upper_bits(word, 19)) / 128.0F);
}

Frame decode_max6675(Bytes frame) {
    constexpr unsigned floating = 1U << 0;
    constexpr unsigned open = 1U << 2;
    constexpr unsigned reserved = 1U << 15 | 1U << 1;
    constexpr unsigned full_scale = 0xFFF;
    if (frame.size != 2) {
        return Frame::refused(Cause::length);
    }
    const unsigned word = get_be<std::uint16_t>(frame.data) & ~floating;
    if (word == 0 || word == 0xFFFE) {
        return of_status(flag::temperature_fault);  // no chip answers
    }
    if ((word & reserved) != 0) {
        return Frame::refused(Cause::form);
    }
    if ((word & open) != 0) {
        return of_status(flag::temperature_open);
    }
    if (word >> 3 == full_scale) {
        return of_status(flag::temperature_fault);  // the gas may be hotter
    }
    return of_temperature(static_cast<float>(word >> 3) / 4.0F);
}

}  // namespace ct::sensors
