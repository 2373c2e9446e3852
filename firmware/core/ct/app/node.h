// The node: reads its sensors on a grid, makes a record of what they gave, keeps it, and has it sent.
//
// `step` does whatever is due and never waits. It is two halves: `sample` (on a chip the task with the high priority)
// and `talk` (the task of the network). They share the ring, the clock and the settings, so the chip's shell lets only
// one of them in at a time.
#pragma once

#include "ct/app/alarms.h"
#include "ct/app/commands.h"
#include "ct/app/config_store.h"
#include "ct/app/guard.h"
#include "ct/app/panel.h"
#include "ct/sensors/driver.h"
#include "ct/signal/window.h"

namespace ct::app {

struct Sensor {
    sensors::Driver driver;
    hal::FrameSource* source = nullptr;
    hal::Calibration* calibration = nullptr;  // where the sensor can be calibrated on command
};

// Everything around a node; all of it must outlive it.
struct Edges {
    hal::Flash& flash;
    hal::KeyValue& values;
    hal::Mqtt& mqtt;
    hal::Random& random;
    hal::WallClock& wall;
    hal::Machine& machine;
    hal::Signals& signals;
};

struct Settings {
    std::uint32_t sample_ms = 5000;
    std::uint32_t readings_per_sample = 5;  // at most signal::Window::most
    std::uint32_t meter_ms = 60000;
    std::uint32_t health_ms = 60000;
    std::uint32_t warm_up_ms = 180000;      // of the CO2 head after a start
    std::uint32_t stuck_ms = 600000;        // the very same CO2 for so long is no measurement; 0: that is not looked at
    std::uint32_t clock_ms = 60000;         // how often the time of day is asked for, once it is known
};

struct Tally {
    std::uint32_t samples = 0;
    std::uint32_t late_samples = 0;   // windows that were missed because nobody called `step`
    std::uint32_t outliers = 0;
    std::uint32_t frame_errors = 0;   // frames that were refused, and silence
    std::uint32_t store_failures = 0; // records that the flash did not take
};

class Node final : private net::Listener, private Commands::Hands, private Alarms::Sink {
public:
    static constexpr std::size_t most_sensors = 6;

    // `site` and `settings` are what it works with until the platform has configured it.
    Node(const Edges& edges, const wire::Site& site, const Settings& settings, const net::Settings& net);

    // Before `begin`. False: there are too many.
    bool add_sensor(const Sensor& sensor);

    // Before `begin`: who takes dn/fw, and wants to know of births and receipts.
    void set_updates(net::Listener* updates) { updates_ = updates; }

    // False: the flash does not answer.
    bool begin(std::uint64_t now_ms);

    void step(std::uint64_t now_ms) {
        sample(now_ms);
        talk(now_ms);
    }
    void talk(std::uint64_t now_ms);
    void sample(std::uint64_t now_ms);

    // Says goodbye, and then has the machine start anew; `why` must outlive the node.
    void restart(std::uint64_t now_ms, const char* why);
    bool is_restarting() const { return is_restarting_; }
    // After too many crashes: nothing is measured, everything else goes on.
    bool is_safe_mode() const { return guard_.is_safe_mode(); }

    // No more records from here on; what is there is still sent.
    void stop_sampling() { is_sampling_ = false; }
    bool is_drained() const { return ring_.unreceipted() == 0; }

    store::Ring& ring() { return ring_; }
    net::Session& session() { return session_; }
    const Tally& tally() const { return tally_; }
    // Of the newest sample, for a display and for alarms on the spot.
    const emission::Rate& rate() const { return rate_; }
    // What it works with now.
    const wire::Config& config() const { return config_.in_force(); }
    // The same, as its records say it.
    std::uint16_t cfg() const { return site_.cfg; }

private:
    void take(std::string_view channel, std::string_view payload, std::uint64_t now_ms) override;
    void went_online(std::uint64_t now_ms) override;
    void went_offline(std::uint64_t now_ms) override;
    void was_receipted(std::uint64_t now_ms) override;
    void has_landed(int said, std::uint64_t now_ms) override;
    Commands::Result carry_out(const wire::Command& command, std::uint64_t now_ms) override;
    void reboot_now(std::uint64_t now_ms) override { restart(now_ms, "reboot"); }
    wire::Diagnosis diagnose(std::uint64_t now_ms) override;
    void note(const store::Event& event, std::uint64_t now_ms) override { add(event, now_ms); }

    void work_with(const wire::Config& config, std::uint64_t now_ms);
    void change_settings(std::uint64_t now_ms);
    Commands::Result calibrate(float span_ppm, std::uint64_t now_ms);
    void show(std::uint64_t now_ms);
    void measure(std::uint64_t now_ms);
    void watch(Flags status, float temperature_c, std::uint64_t now_ms);
    Flags work_at_it(std::uint64_t now_ms) const;
    void tell_clock(std::uint64_t now_ms);
    void read_sensors();
    void take_frame(const sensors::Frame& frame, sensors::Channel channel);
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
    const wire::Site built_in_site_;
    const Settings built_in_;
    const std::string_view firmware_;
    wire::Site site_;
    Settings settings_;
    hal::Random& random_;
    net::Listener* updates_ = nullptr;
    bool is_restarting_ = false;
    bool has_rebooted_ = false;
    std::uint64_t restart_by_ms_ = 0;  // in safe mode, with a new configuration; 0: not
    store::Ring ring_;
    net::Clock clock_;
    net::Session session_;
    Guard guard_;
    ConfigStore config_;
    Commands commands_;
    Alarms alarms_;
    Panel panel_;
    std::uint64_t maintenance_until_ms_ = 0;
    std::uint64_t calibration_until_ms_ = 0;
    Flags faults_ = 0;             // of the newest sample
    bool has_store_failed_ = false;

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
