// A partition of NOR flash: erasing a sector sets all of its bits, writing can only clear them.
#pragma once

#include "ct/bytes.h"

namespace ct::hal {

struct FlashGeometry {
    std::uint32_t sector_size = 4096;
    std::uint32_t sectors = 0;
};

class Flash {
public:
    virtual FlashGeometry geometry() const = 0;
    // Addresses count from the partition's beginning. False: nothing is known about what was done.
    virtual bool read(std::uint32_t address, std::uint8_t* to, std::size_t size) = 0;
    virtual bool write(std::uint32_t address, Bytes bytes) = 0;
    virtual bool erase(std::uint32_t sector) = 0;

protected:
    ~Flash() = default;
};

}  // namespace ct::hal
