// Gas velocity: the differential pressure sensor SDP8xx (one I2C read), and counted pulses (a frame of our own).
#include <cstdlib>

#include "ct/crc.h"
#include "ct/sensors/frame.h"

namespace ct::sensors {

Frame decode_sdp8xx(Bytes frame) {
    constexpr int full_scale = 30000;  // 125 Pa times 240, and 500 Pa times 60
    if (frame.size != 9) {
        return Frame::refused(Cause::length);
    }
    for (const std::size_t at : {0U, 3U, 6U}) {
        if (crc8(frame.part(at, 2)) != frame[at + 2]) {
            return Frame::refused(Cause::checksum);
        }
    }
    const int steps = static_cast<std::int16_t>(get_be<std::uint16_t>(frame.data));
    const int scale = static_cast<std::int16_t>(get_be<std::uint16_t>(frame.data + 6));
    if (scale <= 0) {
        return Frame::refused(Cause::form);
    }
    Frame found;
    found.pressure_difference_pa = static_cast<float>(steps) / static_cast<float>(scale);
    found.status |= steps < 0 ? flag::pressure_difference_negative : 0;
    found.status |= std::abs(steps) >= full_scale ? flag::velocity_fault : 0;
    return found;
}

Frame decode_pulse_anemometer(Bytes frame, const PulseAnemometer& options) {
    constexpr std::uint16_t overflowed = 0xFFFF;
    if (frame.size != 6) {
        return Frame::refused(Cause::length);
    }
    if (crc8(frame.part(0, 5)) != frame[5]) {
        return Frame::refused(Cause::checksum);
    }
    const auto pulses = get_be<std::uint16_t>(frame.data + 1);
    const auto interval_ms = get_be<std::uint16_t>(frame.data + 3);
    if (frame[0] != 0x50 || interval_ms == 0) {
        return Frame::refused(Cause::form);
    }
    Frame found;
    if (pulses == overflowed) {
        found.status = flag::velocity_fault;
        return found;
    }
    const float frequency_hz = 1000.0F * static_cast<float>(pulses) / static_cast<float>(interval_ms);
    const float velocity_ms = options.offset_ms + options.ms_per_hz * frequency_hz;
    const bool stands = pulses == 0 || frequency_hz < options.minimum_hz;
    found.velocity_ms = stands || velocity_ms < 0.0F ? 0.0F : velocity_ms;  // NaN without a calibration stays NaN
    return found;
}

}  // namespace ct::sensors
