// What two tasks need to work at one node.
#pragma once

#include <cstdint>

namespace ct::hal {

// One task at a time. A task that waits lends its priority to the one that is in (priority inheritance), so that a
// third one of middle priority cannot keep both from going on.
class Lock {
public:
    virtual void take() = 0;
    virtual void give() = 0;

protected:
    ~Lock() = default;
};

// ms since the start; never goes back, and is the same in all tasks.
class Uptime {
public:
    virtual std::uint64_t ms() = 0;

protected:
    ~Uptime() = default;
};

}  // namespace ct::hal
