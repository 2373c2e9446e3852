// A node's two halves in two tasks.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "ct/app/halves.h"
#include "node_world.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("halves");

namespace {

class RealLock final : public hal::Lock {
public:
    void take() override { mutex_.lock(); }
    void give() override { mutex_.unlock(); }

private:
    std::mutex mutex_;
};

// Time that a thread makes pass.
class SharedTime final : public hal::Uptime {
public:
    std::atomic<std::uint64_t> now_ms = 0;
    std::uint64_t ms() override { return now_ms; }
};

std::string sid_of(app::Node& node) {
    char sid[9];
    wire::write_sid(sid, node.ring().sid());
    return sid;
}

// Time goes back where it is taken before the lock.
class CheckedLock final : public hal::Lock {
public:
    bool is_taken = false;
    unsigned takes = 0;
    void take() override {
        CHECK_FALSE(is_taken);
        is_taken = true;
        ++takes;
    }
    void give() override {
        CHECK(is_taken);
        is_taken = false;
    }
};

}  // namespace

TEST_CASE("each half is in by itself, and the lock is given back") {
    NodeWorld world;
    REQUIRE(world.start());
    CheckedLock lock;
    SharedTime time;
    app::Halves halves(*world.node, lock, time);
    for (; time.now_ms < 20000; time.now_ms += 20) {
        halves.sample();
        halves.talk();
    }
    const bool is_running = halves.with([](app::Node& node, std::uint64_t) { return node.session().is_running(); });
    CHECK(is_running);
    CHECK(lock.takes == 2001);
    CHECK_FALSE(lock.is_taken);
    CHECK(world.node->tally().samples >= 3);
    CHECK(halves.longest_wait_ms() == 0);
}

// Run under ThreadSanitizer by hand: cmake -DCMAKE_CXX_FLAGS=-fsanitize=thread.
TEST_CASE("two threads at one node lose nothing, and a network that hangs does not keep the other from measuring") {
    NodeWorld world;
    world.settings.sample_ms = 1000;
    REQUIRE(world.start());
    RealLock lock;
    SharedTime time;
    app::Halves halves(*world.node, lock, time);
    std::atomic<bool> is_over = false;
    std::atomic<unsigned> hung = 0;
    const auto samples = [&] { return halves.with([](app::Node& node, std::uint64_t) { return node.tally().samples; }); };

    std::thread sampler([&] {
        while (!is_over) {
            time.now_ms += 20;
            halves.sample();
            std::this_thread::yield();
        }
    });
    std::thread network([&] {
        const std::string sid = sid_of(*world.node);
        for (unsigned round = 0; !is_over; ++round) {
            halves.talk();
            // What a client does on the network is done outside of the lock; here it hangs until ten samples were taken.
            if (round % 50 == 49) {
                const unsigned before = samples();
                while (samples() < before + 10 && !is_over) {
                    std::this_thread::yield();
                }
                ++hung;
            }
            halves.with([&](app::Node& node, std::uint64_t) {
                if (node.session().is_running()) {
                    world.mqtt.receipt(sid, node.ring().next_seq() - 1);
                }
                return 0;
            });
            std::this_thread::yield();
        }
    });
    // Until enough was measured and the network has hung often enough: how often each thread is let run is the machine's to say.
    while (samples() < 300 || hung < 3) {
        std::this_thread::yield();
    }
    is_over = true;
    sampler.join();
    network.join();
    CHECK(world.node->tally().store_failures == 0);
    CHECK(world.node->tally().late_samples == 0);
    CHECK(world.node->tally().frame_errors == 0);
    // Every record that was kept can be read, in order and without a hole.
    store::Ring::Cursor cursor;
    store::Record record;
    std::uint32_t last = world.node->ring().first() - 1;
    cursor.seq = last + 1;
    while (world.node->ring().next(cursor, record)) {
        CHECK(record.seq == ++last);
    }
    CHECK(last + 1 == world.node->ring().next_seq());
}
