// carbontrack-node: the very same node as on the chip, with a file for flash, scripted sensors and libmosquitto.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <random>

#include <unistd.h>

#include "boiler_day.h"
#include "ct/app/node.h"
#include "ct/app/provision.h"
#include "file_flash.h"
#include "file_slots.h"
#include "file_values.h"
#include "mosquitto_client.h"
#include "options.h"
#include "updates.h"
#include "version.h"

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

class Process final : public hal::Machine {
public:
    explicit Process(hal::ResetCause cause) : cause_(cause) {}
    bool is_reboot_asked() const { return is_reboot_asked_; }

    hal::MachineHealth health() override { return {}; }
    hal::ResetCause reset_cause() override { return cause_; }
    void reboot() override { is_reboot_asked_ = true; }

private:
    hal::ResetCause cause_;
    bool is_reboot_asked_ = false;
};

// Lamp and buzzer as lines: ms since the start, which, 1 or 0.
class WrittenSignals final : public hal::Signals {
public:
    WrittenSignals(const std::string& file, std::uint64_t began_ms) : began_ms_(began_ms) {
        to_ = file.empty() ? nullptr : file == "-" ? stderr : std::fopen(file.c_str(), "ae");
    }
    ~WrittenSignals() {
        if (to_ != nullptr && to_ != stderr) {
            std::fclose(to_);
        }
    }
    WrittenSignals(const WrittenSignals&) = delete;
    WrittenSignals& operator=(const WrittenSignals&) = delete;

    void led(bool is_on) override { write("led", is_on); }
    void buzzer(bool is_on) override { write("buzzer", is_on); }

private:
    void write(const char* which, bool is_on) {
        if (to_ != nullptr) {
            std::fprintf(to_, "%llu %s %d\n", static_cast<unsigned long long>(ms_of(CLOCK_MONOTONIC) - began_ms_), which,
                         is_on ? 1 : 0);
            std::fflush(to_);
        }
    }

    std::FILE* to_;
    std::uint64_t began_ms_;
};

bool reset_cause_of(const std::string& name, hal::ResetCause& cause) {
    using hal::ResetCause;
    for (const ResetCause known : {ResetCause::poweron, ResetCause::software, ResetCause::panic, ResetCause::watchdog,
                                   ResetCause::brownout, ResetCause::ota}) {
        if (name == wire::name_of(known)) {
            cause = known;
            return true;
        }
    }
    return false;
}

std::string password_of(const Options& options, posix::FileValues& values) {
    if (options.password_file.empty()) {
        const char* const given = std::getenv("CARBONTRACK_NODE_PASSWORD");
        return given == nullptr ? values.text(app::credential::password) : given;
    }
    std::ifstream file(options.password_file);
    std::string password;
    std::getline(file, password);
    return password;
}

// What the command line leaves open, the state says. What is wrong with both together, or an empty text.
std::string complete(Options& options, posix::FileValues& values) {
    const auto fill = [](std::string& option, std::string found) { option = option.empty() ? std::move(found) : option; };
    fill(options.device_id, values.text(app::credential::id));
    fill(options.host, values.text(app::credential::host));
    fill(options.host, "127.0.0.1");
    if (options.port == 0) {
        options.port = std::atoi(values.text(app::credential::port).c_str());
        options.port = options.port == 0 ? 8883 : options.port;
    }
    if (!options.is_plain) {
        fill(options.ca_file, values.file_of(app::credential::ca));
    }
    if (options.cert_file.empty()) {
        options.cert_file = values.file_of(app::credential::cert);
        options.key_file = values.file_of(app::credential::key);
    }
    if (options.device_id.empty()) {
        return "the state has no id yet: use --provision, or say --id";
    }
    return options.ca_file.empty() && !options.is_plain ? "say --ca FILE for TLS, or --plain for none" : "";
}

int provision(posix::FileValues& values) {
    static app::Provision::Room room;
    static app::LineReader<app::Provision::largest_line> reader;
    app::Provision provision(values, room);
    const auto answer = [&provision](std::string_view line) {
        std::array<char, app::Provision::largest_answer> buffer;
        json::Writer out(buffer.data(), buffer.size());
        provision.take(line, out);
        const std::string text(out.written());
        if (!text.empty()) {
            std::printf("%s\n", text.c_str());
            std::fflush(stdout);
        }
    };
    for (int letter = std::getchar(); letter != EOF; letter = std::getchar()) {
        if (reader.take(static_cast<char>(letter))) {
            answer(reader.line());
        }
    }
    if (reader.take('\n')) {  // the last line may have no end
        answer(reader.line());
    }
    return app::Provision::is_complete(values) ? 0 : 1;
}

int fail(const std::string& problem) {
    std::fprintf(stderr, "carbontrack-node: %s\n", problem.c_str());
    return 2;
}

// The words again, without an option that the program gives itself, and with others.
std::vector<char*> words_with(char** words, std::initializer_list<const char*> more) {
    std::vector<char*> again;
    for (char** word = words; *word != nullptr; ++word) {
        const std::string_view name = *word;
        if ((name == "--reset-cause" || name == "--launched-by") && word[1] != nullptr) {
            ++word;
        } else {
            again.push_back(*word);
        }
    }
    for (const char* const word : more) {
        again.push_back(const_cast<char*>(word));  // execv does not change them
    }
    again.push_back(nullptr);
    return again;
}

// As a chip starts anew: the same program (or its boot loader) with the same options, which knows that it was asked to.
int start_again(const Options& options, char** words) {
    const std::string program = options.launched_by.empty() ? "/proc/self/exe" : options.launched_by;
    ::execv(program.c_str(), words_with(words, {"--reset-cause", "software"}).data());
    std::perror("carbontrack-node");
    return 1;
}

// The boot loader: starts the program of the slot that counts. It comes back only where there is none.
int launch(const Options& options, char** words) {
    posix::FileSlots slots(options.slots_folder);
    std::array<char, 4096> self = {};
    if (::readlink("/proc/self/exe", self.data(), self.size() - 1) < 0 || !slots.problem().empty() ||
        !slots.provide(self.data())) {
        return fail(slots.problem());
    }
    do {
        const posix::FileSlots::Start start = slots.choose();
        const char* const cause = start.is_first ? "ota" : options.reset_cause.c_str();
        ::execv(start.program.c_str(), words_with(words, {"--launched-by", self.data(), "--reset-cause", cause}).data());
    } while (slots.give_up());
    return fail(options.slots_folder + ": there is no program that can be started");
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

net::Settings net_settings_of(const Options& options, const std::string& hardware) {
    net::Settings settings;
    settings.device_id = options.device_id;
    settings.patience_ms = options.patience_ms;
    settings.longest_backoff_ms = options.longest_backoff_ms;
    settings.hardware = hardware;
    settings.firmware = posix::version();
    return settings;
}

posix::BrokerAccess access_of(const Options& options, posix::FileValues& values) {
    posix::BrokerAccess access;
    access.host = options.host;
    access.port = options.port;
    access.ca_file = options.ca_file;
    access.cert_file = options.cert_file;
    access.key_file = options.key_file;
    access.device_id = options.device_id;
    access.password = password_of(options, values);
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
            if (!node.add_sensor({driver, &sensors_.back(), &sensors_.back()})) {
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
void run(app::Node& node, posix::Updates* updates, Script& script, const Options& options, std::uint64_t began_ms) {
    constexpr timespec pause = {0, 10 * 1000 * 1000};
    constexpr std::uint64_t never = ~std::uint64_t{0};
    std::uint64_t leave_at_ms = never;
    bool is_leaving = false;
    while (!node.session().has_left()) {
        const std::uint64_t now_ms = ms_of(CLOCK_MONOTONIC) - began_ms;
        script.move(now_ms);
        node.step(now_ms);
        if (updates != nullptr) {
            updates->step(now_ms);
        }
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

// The node's life, until somebody stops it or it is to start anew; 0 in the end, or what went wrong.
int live(const Options& options, posix::FileValues& values, hal::ResetCause cause, bool& is_reboot_asked) {
    const std::uint64_t began_ms = ms_of(CLOCK_MONOTONIC);
    posix::FileFlash flash(options.flash_file, options.flash_kib / 4);
    if (!flash.is_open()) {
        return fail(flash.problem());
    }
    posix::MosquittoClient mqtt(access_of(options, values));
    LateClock clock(began_ms + options.clock_after_ms);
    SystemRandom random;
    Process machine(cause);
    WrittenSignals signals(options.signals_file, began_ms);
    const wire::Site site = site_of(options);
    const std::string given_hardware = values.text(app::credential::hardware);
    const std::string hardware = given_hardware.empty() ? "posix" : given_hardware;
    app::Node node({flash, values, mqtt, random, clock, machine, signals}, site, settings_of(options),
                   net_settings_of(options, hardware));
    Script script(options);
    if (const std::string problem = script.add_to(node, static_cast<double>(site.pressure_kpa)); !problem.empty()) {
        return fail(problem);
    }
    std::unique_ptr<posix::Updates> updates;
    if (!options.slots_folder.empty()) {
        std::string problem;
        updates = posix::updates_of(node, options, values, random, hardware, password_of(options, values), problem);
        if (updates == nullptr) {
            return fail(problem);
        }
    }
    if (!node.begin(0)) {
        return fail("the flash cannot be used");
    }
    run(node, updates.get(), script, options, began_ms);
    is_reboot_asked = machine.is_reboot_asked() || node.is_restarting();
    if (!is_reboot_asked || stop_asked != 0) {
        print_account(node);
    }
    return 0;
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
    posix::FileValues values(options.state_folder);
    if (!values.problem().empty()) {
        return fail(values.problem());
    }
    if (options.is_provision) {
        return provision(values);
    }
    hal::ResetCause cause = hal::ResetCause::poweron;
    if (!reset_cause_of(options.reset_cause, cause)) {
        return fail("--reset-cause cannot be " + options.reset_cause);
    }
    if (const std::string problem = complete(options, values); !problem.empty()) {
        return fail(problem);
    }
    if (!options.slots_folder.empty() && options.launched_by.empty()) {
        return posix::has_updates ? launch(options, words) : fail("--slots: this program was built without updates");
    }
    std::signal(SIGTERM, [](int) { stop_asked = 1; });
    std::signal(SIGINT, [](int) { stop_asked = 1; });
    std::signal(SIGPIPE, SIG_IGN);  // a broken connection is told by libmosquitto
    bool is_reboot_asked = false;
    const int result = live(options, values, cause, is_reboot_asked);
    return is_reboot_asked && stop_asked == 0 ? start_again(options, words) : result;
}
