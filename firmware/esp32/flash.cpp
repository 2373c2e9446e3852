#include "flash.h"

namespace ct::esp32 {

namespace {

constexpr std::uint32_t sector_size = 4096;

}  // namespace

hal::FlashGeometry PartitionFlash::geometry() const {
    return {sector_size, partition_ == nullptr ? 0 : partition_->size / sector_size};
}

bool PartitionFlash::read(std::uint32_t address, std::uint8_t* to, std::size_t size) {
    return partition_ != nullptr && esp_partition_read(partition_, address, to, size) == ESP_OK;
}

bool PartitionFlash::write(std::uint32_t address, Bytes bytes) {
    return partition_ != nullptr && esp_partition_write(partition_, address, bytes.data, bytes.size) == ESP_OK;
}

bool PartitionFlash::erase(std::uint32_t sector) {
    return partition_ != nullptr &&
           esp_partition_erase_range(partition_, std::size_t{sector} * sector_size, sector_size) == ESP_OK;
}

}  // namespace ct::esp32
