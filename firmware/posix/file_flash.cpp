#include "file_flash.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace ct::posix {

FileFlash::FileFlash(const std::string& path, std::uint32_t sectors) : geometry_{4096, sectors} {
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat info = {};
    if (file_ < 0 || ::fstat(file_, &info) != 0) {
        problem_ = path + ": " + std::strerror(errno);
        return;
    }
    const bool is_new = info.st_size == 0;
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
        problem_ = path + ": another node uses it";
    } else if (!is_new && static_cast<std::size_t>(info.st_size) != size()) {
        problem_ = path + ": it has " + std::to_string(info.st_size / 1024) + " KiB; say so with --flash-kib";
    } else if (is_new && ::ftruncate(file_, static_cast<off_t>(size())) != 0) {
        problem_ = path + ": " + std::strerror(errno);
    } else {
        map(path, is_new);
    }
}

void FileFlash::map(const std::string& path, bool is_new) {
    void* const mapped = ::mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (mapped == MAP_FAILED) {
        problem_ = path + ": " + std::strerror(errno);
        return;
    }
    bytes_ = static_cast<std::uint8_t*>(mapped);
    if (is_new) {
        std::memset(bytes_, 0xFF, size());
    }
}

FileFlash::~FileFlash() {
    if (bytes_ != nullptr) {
        ::munmap(bytes_, size());
    }
    if (file_ >= 0) {
        ::close(file_);
    }
}

bool FileFlash::read(std::uint32_t address, std::uint8_t* to, std::size_t count) {
    if (address + count > size()) {
        return false;
    }
    std::memcpy(to, bytes_ + address, count);
    return true;
}

bool FileFlash::write(std::uint32_t address, Bytes bytes) {
    if (address + bytes.size > size()) {
        return false;
    }
    for (std::size_t at = 0; at < bytes.size; ++at) {
        bytes_[address + at] = static_cast<std::uint8_t>(bytes_[address + at] & bytes[at]);
    }
    return true;
}

bool FileFlash::erase(std::uint32_t sector) {
    if (sector >= geometry_.sectors) {
        return false;
    }
    std::memset(bytes_ + std::size_t{sector} * geometry_.sector_size, 0xFF, geometry_.sector_size);
    return true;
}

}  // namespace ct::posix
