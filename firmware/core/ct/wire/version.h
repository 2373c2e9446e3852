// Versions by semver.org 2.0.0: which of two is the newer one.
#pragma once

#include <string_view>

namespace ct::wire {

constexpr std::size_t longest_version = 32;

// Strictly MAJOR.MINOR.PATCH, then perhaps -pre.release and +build.
bool is_version(std::string_view text);

// Below 0: `left` is the older one. 0: neither (build metadata does not count). Both must be versions.
int compare_versions(std::string_view left, std::string_view right);

}  // namespace ct::wire
