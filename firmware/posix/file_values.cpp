#include "file_values.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "folder.h"

namespace ct::posix {

namespace {

// Everything, or nothing that counts.
bool write_all(const std::string& path, Bytes bytes) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        return false;
    }
    std::size_t done = 0;
    while (done < bytes.size) {
        const ssize_t written = ::write(file, bytes.data + done, bytes.size - done);
        if (written <= 0) {
            break;
        }
        done += static_cast<std::size_t>(written);
    }
    const bool is_safe = done == bytes.size && ::fsync(file) == 0;
    return ::close(file) == 0 && is_safe;
}

}  // namespace

FileValues::FileValues(std::string folder) : folder_(std::move(folder)) {
    struct stat info = {};
    if (folder_.empty()) {
        return;
    }
    if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
        problem_ = folder_ + ": " + std::strerror(errno);
    } else if (::stat(folder_.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
        problem_ = folder_ + ": not a folder";
    }
}

std::string FileValues::file_of(const char* name) const {
    const std::string path = path_of(name);
    return !folder_.empty() && ::access(path.c_str(), R_OK) == 0 ? path : std::string();
}

std::string FileValues::text(const char* name) {
    std::array<std::uint8_t, largest_value> bytes;
    const std::size_t size = get(name, bytes.data(), bytes.size()).value_or(0);
    return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size <= bytes.size() ? size : 0)};
}

std::optional<std::size_t> FileValues::get(const char* name, std::uint8_t* to, std::size_t capacity) {
    const int file = folder_.empty() ? -1 : ::open(path_of(name).c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return std::nullopt;
    }
    struct stat info = {};
    std::optional<std::size_t> size;
    if (::fstat(file, &info) == 0) {
        size = static_cast<std::size_t>(info.st_size);
        if (*size <= capacity && ::read(file, to, *size) != static_cast<ssize_t>(*size)) {
            size = std::nullopt;
        }
    }
    ::close(file);
    return size;
}

bool FileValues::set(const char* name, Bytes value) {
    if (folder_.empty() || value.size > largest_value || std::strlen(name) > longest_name) {
        return false;
    }
    const std::string beside = path_of(name) + ".new";
    return write_all(beside, value) && ::rename(beside.c_str(), path_of(name).c_str()) == 0 && sync_folder(folder_);
}

bool FileValues::erase(const char* name) {
    if (folder_.empty()) {
        return false;
    }
    return (::unlink(path_of(name).c_str()) == 0 || errno == ENOENT) && sync_folder(folder_);
}

}  // namespace ct::posix
