// The partition `ring` of partitions_*.csv.
#pragma once

#include <esp_partition.h>

#include "ct/hal/flash.h"

namespace ct::esp32 {

class PartitionFlash final : public hal::Flash {
public:
    explicit PartitionFlash(const char* label)
        : partition_(esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_ANY, label)) {}

    bool is_there() const { return partition_ != nullptr; }
    hal::FlashGeometry geometry() const override;
    bool read(std::uint32_t address, std::uint8_t* to, std::size_t size) override;
    bool write(std::uint32_t address, Bytes bytes) override;
    bool erase(std::uint32_t sector) override;

private:
    const esp_partition_t* partition_;
};

}  // namespace ct::esp32
