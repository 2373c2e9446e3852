// A partition of NOR flash in a file. It is mapped into memory, so a process that is killed leaves what it wrote.
#pragma once

#include <string>

#include "ct/hal/flash.h"

namespace ct::posix {

class FileFlash final : public hal::Flash {
public:
    // Makes the file where there is none. `is_open` tells whether it can be used; `problem` says why it cannot.
    FileFlash(const std::string& path, std::uint32_t sectors);
    ~FileFlash();
    FileFlash(const FileFlash&) = delete;
    FileFlash& operator=(const FileFlash&) = delete;

    bool is_open() const { return bytes_ != nullptr; }
    const std::string& problem() const { return problem_; }

    hal::FlashGeometry geometry() const override { return geometry_; }
    bool read(std::uint32_t address, std::uint8_t* to, std::size_t size) override;
    bool write(std::uint32_t address, Bytes bytes) override;
    bool erase(std::uint32_t sector) override;

private:
    void map(const std::string& path, bool is_new);
    std::size_t size() const { return std::size_t{geometry_.sector_size} * geometry_.sectors; }

    hal::FlashGeometry geometry_;
    int file_ = -1;  // open, and with it the lock, as long as this lives
    std::uint8_t* bytes_ = nullptr;
    std::string problem_;
};

}  // namespace ct::posix
