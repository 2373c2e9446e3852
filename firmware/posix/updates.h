// Updates on a PC: slots in a folder, libcurl, OpenSSL. Without the last two they are left out of the build.
#pragma once

#include <memory>
#include <string>

#include "ct/app/node.h"
#include "file_values.h"
#include "options.h"

namespace ct::posix {

class Updates {
public:
    virtual ~Updates() = default;
    // After the node's own step.
    virtual void step(std::uint64_t now_ms) = 0;
};

constexpr bool has_updates =
#ifdef CT_WITH_UPDATES
    true;
#else
    false;
#endif

// The node must not have begun, and outlives them. nullptr: `problem` says why.
std::unique_ptr<Updates> updates_of(app::Node& node, const Options& options, FileValues& values, hal::Random& random,
                                    const std::string& hardware, const std::string& password, std::string& problem);

}  // namespace ct::posix
