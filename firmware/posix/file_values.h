// A key-value store in a folder: one file for each value, under its name. A value is written beside its place and then
// put there, so whoever kills the process or pulls the plug leaves the old value or the new one.
#pragma once

#include <string>

#include "ct/hal/key_value.h"

namespace ct::posix {

class FileValues final : public hal::KeyValue {
public:
    // Makes the folder where there is none. An empty path: nothing is kept, and everything is refused.
    explicit FileValues(std::string folder);

    const std::string& problem() const { return problem_; }
    // The file of a value; empty where there is none.
    std::string file_of(const char* name) const;
    std::string text(const char* name);

    std::optional<std::size_t> get(const char* name, std::uint8_t* to, std::size_t capacity) override;
    bool set(const char* name, Bytes value) override;
    bool erase(const char* name) override;

private:
    std::string path_of(const char* name) const { return folder_ + "/" + name; }

    std::string folder_;
    std::string problem_;
};

}  // namespace ct::posix
