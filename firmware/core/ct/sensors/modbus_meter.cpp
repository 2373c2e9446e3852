// Totals of meters on an RS-485 bus (Modbus RTU): pairs of request and answer, one after the other.
#include <cmath>
#include <cstring>

#include "ct/crc.h"
#include "ct/sensors/frame.h"

namespace ct::sensors {

namespace {

std::size_t words_of(Form form) { return form == Form::uint16 ? 1 : 2; }

Cause check(Bytes part, std::size_t size) {
    if (part.size != size) {
        return Cause::length;
    }
    return crc16(part.part(0, size - 2)) == get_le<std::uint16_t>(part.data + size - 2) ? Cause::none
                                                                                        : Cause::checksum;
}

// The number that a counter shows; NaN where it shows what no counter can.
double number_at(const std::uint8_t* data, Form form) {
    switch (form) {
        case Form::float32: {
            const auto raw = get_be<std::uint32_t>(data);
            float value = 0.0F;
            static_assert(sizeof value == sizeof raw);
            std::memcpy(&value, &raw, sizeof value);
            return std::isfinite(value) && value >= 0.0F ? static_cast<double>(value) : no_total;
        }
        case Form::uint32: return get_be<std::uint32_t>(data);
        case Form::uint32_low_first:
            return static_cast<double>(static_cast<std::uint32_t>(get_be<std::uint16_t>(data + 2)) << 16 |
                                       get_be<std::uint16_t>(data));
        case Form::uint16: return get_be<std::uint16_t>(data);
    }
    return no_total;
}

// The totals of one answer, added to `found`.
Cause add_totals(const ModbusMeter& options, Bytes request, Bytes data, Frame& found) {
    const unsigned first = get_be<std::uint16_t>(request.data + 2);
    const auto before = found.meter;
    bool is_any = false;
    for (std::size_t which = 0; which < options.count; ++which) {
        const Register& place = options.registers[which];
        if (place.unit != request[0] || place.function != request[1] || place.address < first) {
            continue;
        }
        const std::size_t at = 2 * (place.address - first);
        if (at + 2 * words_of(place.form) > data.size) {
            continue;
        }
        const double number = number_at(data.data + at, place.form);
        const auto total = static_cast<std::size_t>(place.total);
        if (std::isnan(number) || !std::isnan(before[total])) {
            return Cause::form;  // no counter shows this; or two meters have the same total
        }
        found.meter[total] = number * place.scale;
        is_any = true;
    }
    return is_any ? Cause::none : Cause::form;
}

// One pair at the beginning of `frame`, which is moved behind it.
Cause read_pair(const ModbusMeter& options, Bytes& frame, Frame& found) {
    const Bytes request = frame.part(0, 8);
    if (const Cause cause = check(request, 8); cause != Cause::none) {
        return cause;
    }
    const unsigned count = get_be<std::uint16_t>(request.data + 4);
    if ((request[1] != 3 && request[1] != 4) || count < 1 || count > 125) {
        return Cause::form;
    }
    frame = frame.part(8, frame.size);
    if (frame.size > 1 && frame[1] == (request[1] | 0x80U)) {
        const Cause cause = check(frame.part(0, 5), 5);
        return cause == Cause::none ? Cause::modbus_exception : cause;
    }
    const std::size_t size = 5 + 2 * count;
    const Bytes answer = frame.part(0, size);
    if (const Cause cause = check(answer, size); cause != Cause::none) {
        return cause;
    }
    if (answer[0] != request[0] || answer[1] != request[1] || answer[2] != 2 * count) {
        return Cause::form;
    }
    frame = frame.part(size, frame.size);
    return add_totals(options, request, answer.part(3, 2 * count), found);
}

}  // namespace

Frame decode_modbus_meter(Bytes frame, const ModbusMeter& options) {
    if (frame.size == 0) {
        return Frame::refused(Cause::length);
    }
    Frame found;
    while (frame.size > 0) {
        if (const Cause cause = read_pair(options, frame, found); cause != Cause::none) {
            return Frame::refused(cause);
        }
    }
    return found;
}

}  // namespace ct::sensors
