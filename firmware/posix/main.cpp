// carbontrack-node: the very same node as on the chip, with a file for flash, scripted sensors and libmosquitto.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fstream>
#include <random>

#include "boiler_day.h"
#include "ct/app/node.h"
#include "file_flash.h"
#include "mosquitto_client.h"
#include "options.h"

namespace {

using namespace ct;
using posix::Options;

volatile std::sig_atomic_t stop_asked = 0;

std::uint64_t ms_of(clockid_t clock) {
    timespec now = {};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000000;
}

// The system's clock, which the node does not get to know before some time after its start.
class LateClock final : public hal::WallClock {
public:
    explicit LateClock(std::uint64_t known_from_ms) : known_from_ms_(known_from_ms) {}
    std::uint64_t utc_ms() override { return ms_of(CLOCK_MONOTONIC) < known_from_ms_ ? 0 : ms_of(CLOCK_REALTIME); }

private:
    std::uint64_t known_from_ms_;
};

class SystemRandom final : public hal::Random {
public:
    std::uint32_t next() override { return device_(); }

private:
    std::random_device device_;
};

class NoMachine final : public hal::Machine {
public:
    hal::MachineHealth health() override { return {}; }
    hal::ResetCause reset_cause() override { return hal::ResetCause::poweron; }
    void reboot() override {}
};

class NoValues final : public hal::KeyValue {
public:
    std::optional<std::size_t> get(const char*, std::uint8_t*, std::size_t) override { return std::nullopt; }
    bool set(const char*, Bytes) override { return false; }
    bool erase(const char*) override { return false; }
};

class NoSignals final : public hal::Signals {
public:
    void led(bool) override {}
    void buzzer(bool) override {}
};

std::string password_of(const Options& options) {
    if (options.password_file.empty()) {
        const char* const given = std::getenv("CARBONTRACK_NODE_PASSWORD");
        return given == nullptr ? "" : given;
    }
    std::ifstream file(options.password_file);
    std::string password;
    std::getline(file, password);
    return password;
}

wire::Site site_of(const Options& options) {
    wire::Site site;
    site.pressure_kpa = emission::pressure_from_altitude_kpa(static_cast<float>(options.altitude_m));
    return site;
}

app::Settings settings_of(const Options& options) {
    app::Settings settings;
    settings.sample_ms = options.sample_ms;
    settings.readings_per_sample = options.readings;
    settings.meter_ms = settings.health_ms = options.records_ms;
    settings.warm_up_ms = options.warm_up_s * 1000;
    return settings;
}

net::Settings net_settings_of(const Options& options) {
    net::Settings settings;
    settings.device_id = options.device_id;
    settings.patience_ms = options.patience_ms;
    settings.longest_backoff_ms = options.longest_backoff_ms;
    settings.hardware = "posix";
    return settings;
}

posix::BrokerAccess access_of(const Options& options) {
    posix::BrokerAccess access;
    access.host = options.host;
    access.port = options.port;
    access.ca_file = options.ca_file;
    access.cert_file = options.cert_file;
    access.key_file = options.key_file;
    access.device_id = options.device_id;
    access.password = password_of(options);
    access.keepalive_s = static_cast<int>(options.keepalive_s);
    return access;
}

// The scripted sensors and the hour that they show.
class Script {
public:
    explicit Script(const Options& options) : options_(options) { move(0); }

    std::string add_to(app::Node& node, double pressure_kpa) {
        std::size_t begin = 0;
        while (begin <= options_.sensors.size()) {
            const std::size_t end = std::min(options_.sensors.find(',', begin), options_.sensors.size());
            const std::string name = options_.sensors.substr(begin, end - begin);
            sensors::Driver driver;
            if (!posix::driver_of(name, driver)) {
                return "there is no sensor " + name;
            }
            sensors_.emplace_back(driver, options_.seed, pressure_kpa, second_);
            if (!node.add_sensor({driver, &sensors_.back()})) {
                return "these are too many sensors";
            }
            begin = end + 1;
        }
        return {};
    }

    void move(std::uint64_t uptime_ms) {
        constexpr double day = 86400.0;
        constexpr double east_africa = 3.0 * 3600.0;
        const double begin = options_.from_hour >= 0.0 ? options_.from_hour * 3600.0 + static_cast<double>(uptime_ms) / 1000.0
                                                       : static_cast<double>(ms_of(CLOCK_REALTIME)) / 1000.0 + east_africa;
        second_ = std::fmod(begin, day);
    }

private:
    const Options& options_;
    double second_ = 0.0;
    std::deque<posix::ScriptedSensor> sensors_;  // whose addresses stay
};

void print_account(app::Node& node) {
    char sid[9];
    wire::write_sid(sid, node.ring().sid());
    const net::Counts& counts = node.session().counts();
    const app::Tally& tally = node.tally();
    std::printf(
        "{\"sid\":\"%s\",\"boot\":%u,\"next\":%u,\"watermark\":%u,\"samples\":%u,\"connections\":%u,\"live\":%u,"
        "\"backlog\":%u,\"resends\":%u,\"gaps\":%u,\"frame_errors\":%u,\"late_samples\":%u,\"store_failures\":%u,"
        "\"erasures\":%u}\n",
        sid, node.ring().boot(), node.ring().next_seq(), node.ring().watermark(), tally.samples, counts.connections,
        counts.live, counts.backlog, counts.resends, counts.gaps, tally.frame_errors, tally.late_samples,
        tally.store_failures, node.ring().wear().erasures);
    std::fflush(stdout);
}

// Until somebody stops it; then what is left is sent, and it says goodbye.
void run(app::Node& node, Script& script, const Options& options, std::uint64_t began_ms) {
    constexpr timespec pause = {0, 10 * 1000 * 1000};
    constexpr std::uint64_t never = ~std::uint64_t{0};
    std::uint64_t leave_at_ms = never;
    bool is_leaving = false;
    while (!node.session().has_left()) {
        const std::uint64_t now_ms = ms_of(CLOCK_MONOTONIC) - began_ms;
        script.move(now_ms);
        node.step(now_ms);
        const bool is_over = stop_asked != 0 || (options.run_s > 0 && now_ms >= std::uint64_t{options.run_s} * 1000);
        if (is_over && leave_at_ms == never) {
            node.stop_sampling();
            leave_at_ms = now_ms + std::uint64_t{options.drain_s} * 1000;
        }
        if (!is_leaving && leave_at_ms != never && (now_ms >= leave_at_ms || node.is_drained())) {
            is_leaving = true;
            node.session().leave(now_ms, "stopped");
        }
        nanosleep(&pause, nullptr);
    }
}

int fail(const std::string& problem) {
    std::fprintf(stderr, "carbontrack-node: %s\n", problem.c_str());
    return 2;
}

}  // namespace

int main(int count, char** words) {
    Options options;
    if (const std::string problem = posix::read_options({words + 1, words + count}, options); !problem.empty()) {
        return fail(problem);
    }
    if (options.is_help) {
        std::fputs(posix::usage().c_str(), stdout);
        return 0;
    }
    std::signal(SIGTERM, [](int) { stop_asked = 1; });
    std::signal(SIGINT, [](int) { stop_asked = 1; });
    std::signal(SIGPIPE, SIG_IGN);  // a broken connection is told by libmosquitto

    const std::uint64_t began_ms = ms_of(CLOCK_MONOTONIC);
    posix::FileFlash flash(options.flash_file, options.flash_kib / 4);
    if (!flash.is_open()) {
        return fail(flash.problem());
    }
    posix::MosquittoClient mqtt(access_of(options));
    LateClock clock(began_ms + options.clock_after_ms);
    SystemRandom random;
    NoMachine machine;
    const wire::Site site = site_of(options);
    NoValues values;
    NoSignals signals;
    app::Node node({flash, values, mqtt, random, clock, machine, signals}, site, settings_of(options),
                   net_settings_of(options));
    Script script(options);
    if (const std::string problem = script.add_to(node, static_cast<double>(site.pressure_kpa)); !problem.empty()) {
        return fail(problem);
    }
    if (!node.begin(0)) {
        return fail("the flash cannot be used");
    }
    run(node, script, options, began_ms);
    print_account(node);
    return 0;
}
