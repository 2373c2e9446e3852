// The two checksums that the sensors and our own records use.
#pragma once

#include "ct/bytes.h"

namespace ct {

// CRC-8 as Sensirion uses it: polynomial x^8 + x^5 + x^4 + 1, begun with 0xFF. BE EF gives 92.
constexpr std::uint8_t crc8(Bytes bytes) {
    unsigned crc = 0xFF;
    for (std::size_t at = 0; at < bytes.size; ++at) {
        crc ^= bytes[at];
        for (int bit = 0; bit < 8; ++bit) {
            crc = ((crc & 0x80U) != 0 ? (crc << 1) ^ 0x31U : crc << 1) & 0xFFU;
        }
    }
    return static_cast<std::uint8_t>(crc);
}

// CRC-16/MODBUS (Modbus over serial line 1.02, 6.2.2). 01 04 00 00 00 02 gives 0xCB71, on the wire 71 CB.
constexpr std::uint16_t crc16(Bytes bytes) {
    unsigned crc = 0xFFFF;
    for (std::size_t at = 0; at < bytes.size; ++at) {
        crc ^= bytes[at];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc & 1U) != 0 ? (crc >> 1) ^ 0xA001U : crc >> 1;
        }
    }
    return static_cast<std::uint16_t>(crc);
}

}  // namespace ct
