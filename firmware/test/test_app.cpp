#include <doctest/doctest.h>

#include <cstdlib>
#include <new>

#include "boiler_day.h"
#include "ct/app/node.h"
#include "ct/crc.h"
#include "fake_flash.h"
#include "fakes.h"

using namespace ct;
using namespace ct::test;

namespace {

std::uint64_t allocations = 0;

}  // namespace

// Counts what everything in this program asks of the heap. Not inlined: valgrind puts its own in their place.
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++allocations;
    if (void* const memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

TEST_SUITE_BEGIN("app");

namespace {

constexpr std::uint64_t utc_ms = 1795433047123;

// A connection that never stands, and takes nothing of the heap.
class DeadMqtt final : public hal::Mqtt {
public:
    void connect(std::string_view, std::string_view) override {}
    void disconnect() override {}
    int publish(std::string_view, std::string_view, bool) override { return 0; }
    int subscribe(std::string_view) override { return 0; }
    bool next_event(hal::MqttEvent&) override { return false; }
};

// A node whose sensors see what the test says.
struct World {
    explicit World(std::vector<const char*> names = {"ndir20", "max31856", "sdp8xx", "modbus_meter"}) : names_(names) {
        wall.now_ms = utc_ms;
        start();
    }

    FakeFlash flash = FakeFlash(4096, 40);
    DeadMqtt mqtt;
    FakeRandom random;
    FakeWall wall;
    FakeMachine machine;
    FakeValues values;
    FakeSignals signals;
    wire::Site site;
    app::Settings settings;
    std::uint64_t now_ms = 0;
    std::deque<FakeSource> sources;
    std::optional<app::Node> node;

    app::Edges edges() { return {flash, values, mqtt, random, wall, machine, signals}; }
    void start() {
        settings.warm_up_ms = 0;
        site.pressure_kpa = 79.5F;
        net::Settings net;
        net.device_id = "dev-001";
        node.emplace(edges(), site, settings, net);
        sources.clear();
        for (const char* name : names_) {
            sensors::Driver driver;
            REQUIRE(posix::driver_of(name, driver));
            sources.emplace_back();
            drivers_.push_back(driver);
            REQUIRE(node->add_sensor({driver, &sources.back()}));
        }
        see({98000.0, 183.25, 4.12});
        now_ms = 0;
        REQUIRE(node->begin(0));
    }
    // What the sensors send from now on.
    void see(const posix::Flue& flue, double kwh = 4938.27) {
        for (std::size_t which = 0; which < sources.size(); ++which) {
            sources[which].frame = posix::frame_of(drivers_[which], flue, 79.5, kwh);
        }
    }
    void pass(std::uint64_t ms, std::uint64_t step_ms = 100) {
        for (const std::uint64_t end = now_ms + ms; now_ms < end;) {
            now_ms += step_ms;
            wall.now_ms += wall.now_ms == 0 ? 0 : step_ms;
            node->step(now_ms);
        }
    }
    // The newest record of a kind.
    template <typename Content>
    Content newest() {
        store::Record record;
        REQUIRE(node->ring().newest_of(store::Content(Content()).index(), record));
        return std::get<Content>(record.content);
    }
    unsigned count(std::size_t kind) {
        unsigned found = 0;
        store::Ring::Cursor cursor;
        store::Record record;
        while (node->ring().next(cursor, record)) {
            found += record.content.index() == kind ? 1U : 0U;
        }
        return found;
    }

private:
    std::vector<const char*> names_;
    std::vector<sensors::Driver> drivers_;
};

constexpr std::size_t sample_kind = 0;

}  // namespace

TEST_CASE("every 5 s there is one sample, of all that the sensors said in between") {
    World world;
    world.pass(60000);
    CHECK(world.count(sample_kind) == 12);
    const auto sample = world.newest<store::Sample>();
    CHECK(sample.co2_tenth_ppm == 980000);
    CHECK(sample.temperature_16th_c == 2932);
    CHECK(sample.status == flag::pressure_default);
    CHECK(sample.pressure_2_pa == store::absent);
    CHECK(static_cast<double>(world.node->rate().velocity_ms) == doctest::Approx(4.12).epsilon(0.005));
    CHECK(static_cast<double>(world.node->rate().co2_kg_per_s) == doctest::Approx(0.1482).epsilon(0.005));
}

TEST_CASE("a spike in one reading does not get into the sample") {
    World world;
    world.pass(5000);
    world.see({190000.0, 900.0, 4.12});
    world.pass(1000);
    world.see({98000.0, 183.25, 4.12});
    world.pass(5000);
    CHECK(world.newest<store::Sample>().co2_tenth_ppm == 980000);
    CHECK(world.newest<store::Sample>().temperature_16th_c == 2932);
    CHECK(world.node->tally().outliers == 3);  // CO2, temperature, and the draught of so hot a gas
}

TEST_CASE("a sensor that is silent, or talks rubbish, gives no value and its fault; the others stay") {
    World world;
    world.sources[0].frame.clear();
    world.sources[2].frame.back() ^= 1;
    world.pass(10000);
    const auto sample = world.newest<store::Sample>();
    CHECK(sample.co2_tenth_ppm == store::absent);
    CHECK(sample.pressure_difference_50th_pa == store::absent);
    CHECK(sample.temperature_16th_c == 2932);
    CHECK(sample.status == (flag::pressure_default | flag::co2_fault | flag::velocity_fault));
    CHECK_FALSE(is_known(world.node->rate().co2_kg_per_s));
    CHECK(world.node->tally().frame_errors >= 18);
}

TEST_CASE("one good frame in a window is enough for a value") {
    World world;
    world.pass(5000);
    const auto frame = world.sources[1].frame;
    world.sources[1].frame.clear();
    world.pass(3000);
    world.sources[1].frame = frame;
    world.pass(2000);
    CHECK(world.newest<store::Sample>().temperature_16th_c == 2932);
    CHECK((world.newest<store::Sample>().status & flag::temperature_fault) == 0);
}

TEST_CASE("an open thermocouple is told from a broken one") {
    World world;
    world.sources[1].frame = bytes_of_hex("19 00 0B 70 00 01");
    world.pass(10000);
    CHECK(world.newest<store::Sample>().status == (flag::pressure_default | flag::temperature_open));
    world.sources[1].frame = bytes_of_hex("00 00 00 00 00 00");
    world.pass(10000);
    CHECK(world.newest<store::Sample>().status == (flag::pressure_default | flag::temperature_fault));
}

TEST_CASE("a head at its full scale is marked, and there is no rate") {
    World world({"mhz19", "max31856", "sdp8xx"});
    world.pass(10000);
    CHECK(world.newest<store::Sample>().co2_tenth_ppm == 50000);
    CHECK((world.newest<store::Sample>().status & flag::co2_over_range) != 0);
    CHECK_FALSE(is_known(world.node->rate().co2_kg_per_s));
}

TEST_CASE("swapped pitot tubes are marked, and no root is taken of what is below zero") {
    World world;
    world.sources[2].frame = bytes_of_hex("FB 50 7D 13 88 01 00 F0 03");
    world.sources[2].frame[2] = crc8({world.sources[2].frame.data(), 2});
    world.pass(10000);
    CHECK((world.newest<store::Sample>().status & flag::pressure_difference_negative) != 0);
    CHECK(world.newest<store::Sample>().pressure_difference_50th_pa == -250);
    CHECK_FALSE(is_known(world.node->rate().co2_kg_per_s));
}

TEST_CASE("the first minutes are marked as warm-up") {
    World world;
    world.settings.warm_up_ms = 180000;
    world.node.reset();
    world.flash = FakeFlash(4096, 40);
    net::Settings net;
    net.device_id = "dev-001";
    world.node.emplace(world.edges(), world.site, world.settings, net);
    REQUIRE(world.node->begin(0));
    world.now_ms = 0;
    world.pass(170000);
    CHECK((world.newest<store::Sample>().status & flag::warm_up) != 0);
    world.pass(20000);
    CHECK((world.newest<store::Sample>().status & flag::warm_up) == 0);
}

TEST_CASE("the very same CO2 for ten minutes is no measurement, as long as the boiler fires") {
    World world;
    world.pass(590000);
    CHECK((world.newest<store::Sample>().status & flag::stuck) == 0);
    world.pass(30000);
    CHECK((world.newest<store::Sample>().status & flag::stuck) != 0);
    world.see({98050.0, 183.25, 4.12});
    world.pass(10000);
    CHECK((world.newest<store::Sample>().status & flag::stuck) == 0);
    world.see({600.0, 26.0, 0.1});
    world.pass(1200000);
    CHECK(world.newest<store::Sample>().status == (flag::pressure_default | flag::boiler_off));
}

TEST_CASE("the boiler's hours are counted while it fires, and go on after a restart") {
    World world;
    world.pass(120000);
    CHECK(world.newest<store::Meter>().run_s >= 110);
    CHECK(world.newest<store::Meter>().kwh_hundredth == 493827);
    const auto before = world.newest<store::Meter>().run_s;
    world.see({600.0, 26.0, 0.1});
    world.pass(120000);
    CHECK(world.newest<store::Meter>().run_s - before <= 10);
    const auto last = world.newest<store::Meter>().run_s;
    world.start();
    world.pass(120000);
    CHECK(world.newest<store::Meter>().run_s >= last + 110);
    CHECK(world.newest<store::Meter>().resets == 0);
}

TEST_CASE("health says how the node is doing") {
    World world;
    world.sources[0].frame.clear();
    world.pass(125000);
    const auto health = world.newest<store::Health>();
    CHECK(health.rssi_dbm == -71);
    CHECK(health.heap_free_kib == 120);
    CHECK(health.uptime_s == 120);
    CHECK(health.frame_errors >= 119);
    CHECK(health.ring_used > 24);
}

TEST_CASE("before it knows the time it counts from its boot; then an anchor says what that was worth") {
    World world;
    world.start();
    world.wall.now_ms = 0;
    world.node.reset();
    world.flash = FakeFlash(4096, 40);
    net::Settings net;
    net.device_id = "dev-001";
    world.node.emplace(world.edges(), world.site, world.settings, net);
    REQUIRE(world.node->begin(0));
    world.now_ms = 0;
    world.pass(20000);
    store::Record record;
    REQUIRE(world.node->ring().newest_of(sample_kind, record));
    CHECK(record.clock == store::ClockQuality::unset);
    CHECK(record.time_ms <= 20000);
    world.wall.now_ms = utc_ms;
    world.pass(10000);
    REQUIRE(world.node->ring().newest_of(sample_kind, record));
    CHECK(record.clock == store::ClockQuality::synced);
    const auto anchor = world.newest<store::Anchor>();
    CHECK(anchor.utc_ms - anchor.uptime_ms == utc_ms - 20000);
    CHECK(world.count(5) == 1);
}

TEST_CASE("whoever slept through some windows makes nothing up for them") {
    World world;
    world.pass(10000);
    world.now_ms += 60000;
    world.pass(10000);
    CHECK(world.count(sample_kind) <= 5);
    CHECK(world.node->tally().late_samples >= 10);
}

TEST_CASE("a day without a connection takes nothing of the heap") {
    World world;
    world.pass(60000);
    const auto before = allocations;
    world.pass(24ULL * 3600 * 1000, 1000);
    CHECK(allocations == before);
    CHECK(world.node->tally().samples >= 17280);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("app");

TEST_CASE("a window averages what is near its median and leaves the rest out") {
    signal::Window window;
    CHECK_FALSE(is_known(window.settle(1.0F).value));
    for (const float value : {10.0F, 11.0F, 9.0F, 10.0F, 500.0F}) {
        window.add(value);
    }
    const auto settled = window.settle(0.5F);
    CHECK(static_cast<double>(settled.value) == doctest::Approx(10.0));
    CHECK(settled.outliers == 1);
    CHECK(window.is_empty());
    window.add(3.0F);
    CHECK(window.settle(1.0F).value == 3.0F);
    for (unsigned number = 0; number < 40; ++number) {
        window.add(static_cast<float>(number));
    }
    CHECK(static_cast<double>(window.settle(1.0F).value) == doctest::Approx(7.5));
}

TEST_SUITE_END();
