#include "ct/sensors/driver.h"

namespace ct::sensors {

Channel channel_of(const Driver& driver) {
    constexpr Channel channels[] = {Channel::co2,         Channel::co2,      Channel::temperature, Channel::temperature,
                                    Channel::temperature, Channel::velocity, Channel::velocity,    Channel::meter};
    return channels[driver.index()];
}

const char* name_of(const Driver& driver) {
    constexpr const char* names[] = {"mhz19",   "ndir20", "max31855",         "max31856",
                                     "max6675", "sdp8xx", "pulse_anemometer", "modbus_meter"};
    return names[driver.index()];
}

Frame decode(const Driver& driver, Bytes frame) {
    if (const auto* mhz19 = std::get_if<Mhz19>(&driver)) {
        return decode_mhz19(frame, *mhz19);
    }
    if (const auto* ndir20 = std::get_if<Ndir20>(&driver)) {
        return decode_ndir20(frame, *ndir20);
    }
    if (std::holds_alternative<Max31855>(driver)) {
        return decode_max31855(frame);
    }
    if (std::holds_alternative<Max31856>(driver)) {
        return decode_max31856(frame);
    }
    if (std::holds_alternative<Max6675>(driver)) {
        return decode_max6675(frame);
    }
    if (std::holds_alternative<Sdp8xx>(driver)) {
        return decode_sdp8xx(frame);
    }
    if (const auto* pulses = std::get_if<PulseAnemometer>(&driver)) {
        return decode_pulse_anemometer(frame, *pulses);
    }
    return decode_modbus_meter(frame, *std::get_if<ModbusMeter>(&driver));
}

}  // namespace ct::sensors
