// What must survive a power cut on a PC.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <string>

namespace ct::posix {

// So that a name that was put or taken away is so after a power cut too.
inline bool sync_folder(const std::string& path) {
    const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool is_safe = folder >= 0 && ::fsync(folder) == 0;
    if (folder >= 0) {
        ::close(folder);
    }
    return is_safe;
}

}  // namespace ct::posix
