// The node: reads its sensors on a grid, makes a record of what they gave, keeps it, and has it sent.
//
// `step` does whatever is due and never waits. It is two halves that share only the ring and the clock: `sample` (on a
// chip the task with the high priority) and the session (the task of the network).
#pragma once

#include "ct/net/session.h"
#include "ct/sensors/driver.h"
#include "ct/signal/window.h"

namespace ct::app {

struct Sensor {
    sensors::Driver driver;
    hal::FrameSource* source = nullptr;
};

struct Settings {
    std::uint32_t sample_ms = 5000;
    std::uint32_t readings_per_sample = 5;  // at most signal::Window::most
    std::uint32_t meter_ms = 60000;
    std::uint32_t health_ms = 60000;
    std::uint32_t warm_up_ms = 180000;      // of the CO2 head after a start
    std::uint32_t stuck_ms = 600000;        // the very same CO2 for so long is no measurement
    std::uint32_t clock_ms = 60000;         // how often the time of day is asked for, once it is known
};

struct Tally {
    std::uint32_t samples = 0;
    std::uint32_t late_samples = 0;   // windows that were missed because nobody called `step`
    std::uint32_t outliers = 0;
    std::uint32_t frame_errors = 0;   // frames that were refused, and silence
    std::uint32_t store_failures = 0; // records that the flash did not take
};

class Node {
public:
    static constexpr std::size_t most_sensors = 6;

    Node(hal::Flash& flash, hal::Mqtt& mqtt, hal::Random& random, hal::WallClock& wall, hal::Machine& machine,
         const wire::Site& site, const Settings& settings, const net::Settings& net);

    // Before `begin`. False: there are too many.
    bool add_sensor(const Sensor& sensor);

    // False: the flash does not answer.
    bool begin(std::uint64_t now_ms);

    void step(std::uint64_t now_ms) {
        sample(now_ms);
        session_.step(now_ms);
    }
    void sample(std::uint64_t now_ms);

    // No more records from here on; what is there is still sent.
    void stop_sampling() { is_sampling_ = false; }
    bool is_drained() const { return ring_.unreceipted() == 0; }

    store::Ring& ring() { return ring_; }
    net::Session& session() { return session_; }
    const Tally& tally() const { return tally_; }
    // Of the newest sample, for a display and for alarms on the spot.
    const emission::Rate& rate() const { return rate_; }

private:
    void tell_clock(std::uint64_t now_ms);
    void read_sensors();
    void take(const sensors::Frame& frame, sensors::Channel channel);
    void finish_window(std::uint64_t now_ms);
    Flags faults_of(float co2_ppm, float temperature_c, bool has_velocity) const;
    Flags stuck(float co2_ppm, std::uint64_t now_ms);
    void count_run_time(std::uint64_t now_ms);
    void add_meters(std::uint64_t now_ms);
    void add_health(std::uint64_t now_ms);
    void add(const store::Content& content, std::uint64_t now_ms);
    float settled(signal::Window& window, float least_spread);
    bool has(sensors::Channel channel) const;

    hal::WallClock& wall_;
    hal::Machine& machine_;
    const wire::Site& site_;
    Settings settings_;
    hal::Random& random_;
    store::Ring ring_;
    net::Clock clock_;
    net::Session session_;

    std::array<Sensor, most_sensors> sensors_ = {};
    std::array<const char*, most_sensors> sensor_names_ = {};
    std::size_t sensor_count_ = 0;

    bool is_sampling_ = true;
    std::uint64_t next_reading_ms_ = 0;
    std::uint64_t next_meter_ms_ = 0;
    std::uint64_t next_health_ms_ = 0;
    std::uint64_t next_clock_ms_ = 0;
    std::uint32_t readings_ = 0;  // in this window
    Flags window_status_ = 0;
    signal::Window co2_, temperature_, velocity_, difference_;

    float last_co2_ppm_ = missing;
    std::uint64_t same_co2_since_ms_ = 0;
    std::array<double, sensors::totals> totals_ = {sensors::no_total, sensors::no_total, sensors::no_total,
                                                   sensors::no_total};
    bool runs_ = false;
    std::uint64_t run_ms_ = 0;  // beyond whole seconds in run_s_
    std::uint32_t run_s_ = 0;
    std::uint64_t run_counted_ms_ = 0;
    std::uint8_t resets_ = 0;
    emission::Rate rate_;
    Tally tally_;
};

}  // namespace ct::app
