// CO2 heads on a UART: the MH-Z19 family (9 bytes, a sum) and the 0-20 % heads of GSS (ASCII lines, no checksum).
#include "ct/sensors/frame.h"

namespace ct::sensors {

const char* name_of(Cause cause) {
    switch (cause) {
        case Cause::none: return "";
        case Cause::length: return "frame_length";
        case Cause::checksum: return "frame_checksum";
        case Cause::form: return "frame_form";
        case Cause::modbus_exception: return "modbus_exception";
    }
    return "";
}

Frame decode_mhz19(Bytes frame, const Mhz19& options) {
    if (frame.size != 9) {
        return Frame::refused(Cause::length);
    }
    if (frame[0] != 0xFF || frame[1] != 0x86) {
        return Frame::refused(Cause::form);
    }
    unsigned sum = 0;
    for (std::size_t at = 1; at < 9; ++at) {
        sum += frame[at];
    }
    if ((sum & 0xFFU) != 0) {
        return Frame::refused(Cause::checksum);
    }
    Frame found;
    found.co2_ppm = static_cast<float>(get_be<std::uint16_t>(frame.data + 2));
    found.status = found.co2_ppm >= options.full_scale_ppm ? flag::co2_over_range : 0;
    return found;
}

namespace {

bool is_letter(std::uint8_t byte) {
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || byte == '.';
}

// The five digits behind the letter of a field " Z 08450" at `at`; -1 where no field stands there.
std::int32_t field_at(Bytes frame, std::size_t at) {
    if (frame.size < at + 8 || frame[at] != ' ' || !is_letter(frame[at + 1]) || frame[at + 2] != ' ') {
        return -1;
    }
    std::int32_t value = 0;
    for (std::size_t digit = at + 3; digit < at + 8; ++digit) {
        if (frame[digit] < '0' || frame[digit] > '9') {
            return -1;
        }
        value = value * 10 + (frame[digit] - '0');
    }
    return value;
}

bool ends_line(Bytes frame, std::size_t at) {
    return frame.size >= at + 2 && frame[at] == '\r' && frame[at + 1] == '\n';
}

}  // namespace

Frame decode_ndir20(Bytes frame, const Ndir20& options) {
    constexpr std::size_t longest = 200;
    if (frame.size > longest) {
        return Frame::refused(Cause::length);
    }
    std::int32_t steps_filtered = -1;
    std::int32_t steps_raw = -1;
    std::int32_t multiplier = -1;
    std::array<bool, 128> seen = {};
    std::size_t at = 0;
    do {
        const std::int32_t value = field_at(frame, at);
        if (value < 0) {
            return Frame::refused(Cause::form);
        }
        const std::uint8_t letter = frame[at + 1];
        if (seen[letter]) {
            return Frame::refused(Cause::form);  // a frame is one reading
        }
        seen[letter] = true;
        steps_filtered = letter == 'Z' ? value : steps_filtered;
        steps_raw = letter == 'z' ? value : steps_raw;
        multiplier = letter == '.' ? value : multiplier;
        at += 8;
        if (ends_line(frame, at)) {
            at += 2;
        } else if (at == frame.size) {
            return Frame::refused(Cause::form);  // the last line has no end
        }
    } while (at < frame.size);
    if (multiplier < 0) {
        multiplier = static_cast<std::int32_t>(options.multiplier);
    }
    const std::int32_t steps = steps_filtered >= 0 ? steps_filtered : steps_raw;
    if (steps < 0 || (multiplier != 1 && multiplier != 10 && multiplier != 100)) {
        return Frame::refused(Cause::form);
    }
    Frame found;
    found.co2_ppm = static_cast<float>(steps * multiplier);
    found.status = found.co2_ppm >= options.full_scale_ppm ? flag::co2_over_range : 0;
    return found;
}

}  // namespace ct::sensors
