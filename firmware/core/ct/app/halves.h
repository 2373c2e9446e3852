// A node's two halves in two tasks: the one that measures, and the one that talks.
//
// They share the ring, the clock and the settings, so each is in by itself. What the lock is held for never waits for
// anything: frames were read before `sample`, and what a client has to do on the network it does after `talk`. The
// longest that one can wait for the other is a note or a record in flash, and once in 127 records an erasure of a
// sector.
//
// There is only this one lock: whoever is in must not take another that is held by somebody who wants in.
#pragma once

#include <atomic>

#include "ct/app/node.h"
#include "ct/hal/tasks.h"

namespace ct::app {

class Halves {
public:
    Halves(Node& node, hal::Lock& lock, hal::Uptime& uptime) : node_(node), lock_(lock), uptime_(uptime) {}

    // The task with the high priority. The time is taken inside: a node's time never goes back.
    void sample() {
        const std::uint64_t asked_ms = uptime_.ms();
        const Inside inside(lock_);
        const std::uint64_t now_ms = uptime_.ms();
        const auto waited_ms = static_cast<std::uint32_t>(now_ms - asked_ms);
        if (waited_ms > longest_wait_ms_.load(std::memory_order_relaxed)) {
            longest_wait_ms_.store(waited_ms, std::memory_order_relaxed);
        }
        node_.sample(now_ms);
    }
    // The task of the network.
    void talk() {
        const Inside inside(lock_);
        node_.talk(uptime_.ms());
    }
    // Any task that wants something of the node.
    template <typename Work>
    auto with(const Work& work) {
        const Inside inside(lock_);
        return work(node_, uptime_.ms());
    }

    // The longest that a sample had to wait for its turn.
    std::uint32_t longest_wait_ms() const { return longest_wait_ms_.load(std::memory_order_relaxed); }

private:
    class Inside {
    public:
        explicit Inside(hal::Lock& lock) : lock_(lock) { lock_.take(); }
        ~Inside() { lock_.give(); }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;

    private:
        hal::Lock& lock_;
    };

    Node& node_;
    hal::Lock& lock_;
    hal::Uptime& uptime_;
    std::atomic<std::uint32_t> longest_wait_ms_ = 0;
};

}  // namespace ct::app
