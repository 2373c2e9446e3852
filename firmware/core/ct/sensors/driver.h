// Every sensor behind one small interface: a driver is the decoder with its options; what it gives is a Frame.
#pragma once

#include <variant>

#include "ct/sensors/frame.h"

namespace ct::sensors {

struct Max31855 {};
struct Max31856 {};
struct Max6675 {};
struct Sdp8xx {};

using Driver =
    std::variant<Mhz19, Ndir20, Max31855, Max31856, Max6675, Sdp8xx, PulseAnemometer, ModbusMeter>;

// What a driver is for, and so what is at fault where it gives nothing.
enum class Channel : std::uint8_t { co2, temperature, velocity, meter };

Channel channel_of(const Driver& driver);
const char* name_of(const Driver& driver);
Frame decode(const Driver& driver, Bytes frame);

}  // namespace ct::sensors
