// The figures of README.md, measured: `ct_figures`. No test; nothing depends on how fast this machine is.
#include <chrono>
#include <cstdio>

#include "boiler_day.h"
#include "ct/app/node.h"
#include "fake_flash.h"
#include "fakes.h"

namespace {

using namespace ct;

constexpr double day_s = 86400.0;

class DeadMqtt final : public hal::Mqtt {
public:
    void connect(std::string_view, std::string_view) override {}
    void disconnect() override {}
    int publish(std::string_view, std::string_view, bool) override { return 0; }
    int subscribe(std::string_view) override { return 0; }
    bool next_event(hal::MqttEvent&) override { return false; }
};

store::Record record_at(std::uint32_t number) {
    const posix::Flue flue = posix::boiler_at(9.0 * 3600.0 + 5.0 * number, 1);
    store::Sample sample;
    sample.co2_tenth_ppm = store::quantised(static_cast<float>(flue.co2_ppm), 10.0F);
    sample.temperature_16th_c = store::quantised(static_cast<float>(flue.temperature_c), 16.0F);
    sample.pressure_difference_50th_pa = store::quantised(3.61F, 50.0F);
    sample.status = flag::pressure_default;
    store::Record record;
    record.seq = 1048577 + number;
    record.time_ms = 1795433047123 + std::uint64_t{5000} * number;
    record.clock = store::ClockQuality::synced;
    record.boot = 412;
    record.cfg = 1;
    record.content = sample;
    return record;
}

void print_message_sizes() {
    static char buffer[wire::largest_message];
    for (const std::size_t count : {std::size_t{1}, std::size_t{12}, wire::most_records}) {
        std::vector<store::Record> records;
        for (std::uint32_t number = 0; number < count; ++number) {
            records.push_back(record_at(number));
        }
        json::Writer out(buffer, sizeof buffer);
        wire::Site site;
        site.cfg = 1;  // as in the records, so that they have their rate
        wire::write_records(out, 0x9F3C21AA, site, records.data(), count);
        const auto size = static_cast<double>(out.written().size());
        std::printf("message of %2zu: %5.0f B, %5.1f B a reading\n", count, size, size / static_cast<double>(count));
    }
}

// A day of a node without a connection: how long its samples take, and what they cost in flash.
void print_day() {
    constexpr std::uint32_t sectors = 2304;
    test::FakeFlash flash(4096, sectors);
    DeadMqtt mqtt;
    test::FakeRandom random;
    test::FakeWall wall;
    test::FakeMachine machine;
    test::FakeValues values;
    test::FakeSignals signals;
    const wire::Site site;
    app::Settings settings;
    net::Settings net;
    net.device_id = "dev-001";
    wall.now_ms = 1795433047123;
    app::Node node({flash, values, mqtt, random, wall, machine, signals}, site, settings, net);
    std::vector<test::FakeSource> sources(4);
    std::size_t which = 0;
    for (const char* name : {"ndir20", "max31856", "sdp8xx", "modbus_meter"}) {
        sensors::Driver driver;
        posix::driver_of(name, driver);
        sources[which].frame = posix::frame_of(driver, posix::boiler_at(9.0 * 3600.0, 1), 79.5, 4938.27);
        node.add_sensor({driver, &sources[which++]});
    }
    node.begin(0);
    const auto begin = std::chrono::steady_clock::now();
    for (std::uint64_t now_ms = 0; now_ms < 86400000; now_ms += 1000) {
        wall.now_ms += 1000;
        node.sample(now_ms);
    }
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    const double records = node.ring().next_seq() - 1;
    std::printf("a day: %u samples, %.0f records, %u erasures; %.2f us a sample (5 readings of 4 sensors, 1 record)\n",
                node.tally().samples, records, node.ring().wear().erasures, took.count() / node.tally().samples);
    std::printf("9 MiB: %u records; full after %.1f days at this pace, %.1f with samples alone\n",
                node.ring().capacity(), node.ring().capacity() / records,
                node.ring().capacity() * 5.0 / day_s);
    std::printf("100,000 erasures of each sector: %.0f years\n",
                100000.0 * sectors / node.ring().wear().erasures / 365.0);
}

}  // namespace

int main() {
    std::printf("RAM, bytes: node %zu, of it session %zu (batch %zu, message %zu), ring %zu, clock %zu, windows %zu\n",
                sizeof(app::Node), sizeof(net::Session), sizeof(std::array<store::Record, wire::most_records>),
                wire::largest_message, sizeof(store::Ring), sizeof(net::Clock), 4 * sizeof(signal::Window));
    std::printf("of it configuration %zu, commands %zu, alarms %zu\n", sizeof(app::ConfigStore), sizeof(app::Commands),
                sizeof(app::Alarms));
    std::printf("record: %zu B in flash, %zu B in RAM\n", store::slot_size, sizeof(store::Record));
    print_message_sizes();
    print_day();
}
