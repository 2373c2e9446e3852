#include "ct/app/node.h"

#include <cmath>

namespace ct::app {

namespace {

constexpr std::size_t meter_kind = 1;
constexpr float stuck_above_ppm = 10000.0F;  // below 1 % the boiler is off, and a constant value is normal

// Steps below which readings of a value never differ by more than noise.
constexpr float co2_spread_ppm = 100.0F;
constexpr float temperature_spread_c = 0.5F;
constexpr float velocity_spread_ms = 0.1F;
constexpr float difference_spread_pa = 0.2F;

// Bits that one frame is enough for: a mean over a moment at full scale is no mean.
constexpr Flags from_any_frame = flag::co2_over_range | flag::velocity_fault;
// Bits that count only where the window has no value in the end.
constexpr Flags without_value = flag::temperature_open | flag::temperature_fault;

std::uint32_t rounded(double total, double steps_per_unit, std::uint32_t none) {
    const double steps = total * steps_per_unit;
    return std::isnan(steps) || steps >= static_cast<double>(none) ? none : static_cast<std::uint32_t>(steps + 0.5);
}

constexpr std::uint64_t calibration_ms = 120ULL * 1000;   // until a head is itself again
constexpr std::uint64_t answer_ms = 5000;                 // how long a restart waits for the answer to arrive
constexpr std::uint32_t longest_window_ms = 60000;        // new settings wait for the end of no longer one
constexpr Flags bad_velocity = flag::velocity_fault | flag::pressure_difference_negative | flag::velocity_implausible;

// What a configuration leaves out.
wire::Config defaults_of(const wire::Site& site) {
    wire::Config config;
    config.plan = site.plan;
    config.pressure_kpa = site.pressure_kpa;
    return config;
}

// What the machine knows better than whoever sets it up.
net::Settings with_cause(net::Settings settings, hal::Machine& machine) {
    settings.reset_cause = wire::name_of(machine.reset_cause());
    return settings;
}

std::uint16_t at_most_16(std::uint32_t value) { return static_cast<std::uint16_t>(value < 0xFFFF ? value : 0xFFFF); }

}  // namespace

Node::Node(const Edges& edges, const wire::Site& site, const Settings& settings, const net::Settings& net)
    : wall_(edges.wall),
      machine_(edges.machine),
      built_in_site_(site),
      built_in_(settings),
      firmware_(net.firmware),
      site_(site),
      settings_(settings),
      random_(edges.random),
      ring_(edges.flash),
      session_(ring_, edges.mqtt, edges.random, clock_, site_, with_cause(net, edges.machine)),
      guard_(edges.values),
      config_(edges.values, defaults_of(site)),
      commands_(edges.values, *this),
      alarms_(*this),
      panel_(edges.signals) {
    session_.set_listener(this);
}

bool Node::add_sensor(const Sensor& sensor) {
    if (sensor_count_ == most_sensors) {
        return false;
    }
    sensor_names_[sensor_count_] = sensors::name_of(sensor.driver);
    sensors_[sensor_count_++] = sensor;
    return true;
}

bool Node::begin(std::uint64_t now_ms) {
    const hal::ResetCause cause = machine_.reset_cause();
    guard_.begin(cause);
    config_.open(cause, session_.room());
    commands_.open();
    if (!ring_.open(random_.next())) {
        return false;
    }
    work_with(config_.in_force(), now_ms);
    session_.set_mode(is_safe_mode() ? "safe" : "run");
    store::Record record;
    if (ring_.newest_of(meter_kind, record)) {
        const auto& meter = *std::get_if<store::Meter>(&record.content);
        run_s_ = meter.run_s;
        resets_ = meter.resets;
    } else if (ring_.next_seq() > 1) {
        resets_ = 1;  // there was a total, and it is gone
    }
    next_reading_ms_ = now_ms;
    next_meter_ms_ = now_ms + settings_.meter_ms;
    next_health_ms_ = now_ms;
    next_clock_ms_ = now_ms;
    run_counted_ms_ = now_ms;
    session_.set_sensors(sensor_names_.data(), sensor_count_);
    session_.begin(now_ms);
    return true;
}

bool Node::has(sensors::Channel channel) const {
    for (std::size_t which = 0; which < sensor_count_; ++which) {
        if (sensors::channel_of(sensors_[which].driver) == channel) {
            return true;
        }
    }
    return false;
}

// --- the platform

void Node::talk(std::uint64_t now_ms) {
    session_.step(now_ms);
    config_.step(session_, now_ms);
    commands_.step(session_, now_ms);
    if (restart_by_ms_ != 0 && (config_.is_answered() || now_ms >= restart_by_ms_)) {
        restart(now_ms, "config");
    }
    if (is_restarting_ && session_.has_left() && !has_rebooted_) {
        has_rebooted_ = true;
        machine_.reboot();
    }
}

void Node::restart(std::uint64_t now_ms, const char* why) {
    if (!is_restarting_) {
        is_restarting_ = true;
        session_.leave(now_ms, why);
    }
}

void Node::take(std::string_view channel, std::string_view payload, std::uint64_t now_ms) {
    if (channel == "config") {
        const bool is_new = config_.take(payload, session_.room());
        if (is_new && is_safe_mode()) {
            guard_.forget();
            restart_by_ms_ = now_ms + answer_ms;
        }
    } else if (channel == "cmd") {
        const auto command = wire::read_command(payload);
        if (command && command->kind == wire::Command::Kind::alarm) {
            alarms_.set_remote(command->alarm, command->is_on, command->level);
        } else if (command) {
            commands_.take(*command, now_ms, clock_.is_set() ? clock_.time_ms(now_ms) : 0);
        }
    } else if (channel == "fw" && updates_ != nullptr) {
        updates_->take(channel, payload, now_ms);
    }
}

void Node::went_online(std::uint64_t now_ms) {
    alarms_.forget_remote();
    config_.went_online(now_ms);
    if (updates_ != nullptr) {
        updates_->went_online(now_ms);
    }
}

void Node::went_offline(std::uint64_t now_ms) {
    config_.went_offline();
    commands_.went_offline();
    if (updates_ != nullptr) {
        updates_->went_offline(now_ms);
    }
}

void Node::was_receipted(std::uint64_t now_ms) {
    config_.was_receipted();
    if (updates_ != nullptr) {
        updates_->was_receipted(now_ms);
    }
}

void Node::has_landed(int said, std::uint64_t now_ms) {
    config_.has_landed(said);
    commands_.has_landed(said, now_ms);
    if (updates_ != nullptr) {
        updates_->has_landed(said, now_ms);
    }
}

// --- what it is asked to do

Commands::Result Node::carry_out(const wire::Command& command, std::uint64_t now_ms) {
    using Kind = wire::Command::Kind;
    const auto minutes_from_now = [now_ms](std::uint32_t minutes) {
        return minutes == 0 ? 0 : now_ms + std::uint64_t{minutes} * 60000;
    };
    switch (command.kind) {
        case Kind::identify: panel_.identify(now_ms + std::uint64_t{command.amount} * 1000); break;
        case Kind::silence: panel_.silence(minutes_from_now(command.amount)); break;
        case Kind::maintenance: maintenance_until_ms_ = minutes_from_now(command.amount); break;
        case Kind::zero_cal: return calibrate(missing, now_ms);
        case Kind::span_cal: return calibrate(command.ppm, now_ms);
        case Kind::ping:
        case Kind::diag: break;
        case Kind::alarm:
        case Kind::reboot:
        case Kind::unknown: return {wire::Outcome::unknown, ""};
    }
    return {};
}

// Of the CO2 head; without a value, zero.
Commands::Result Node::calibrate(float span_ppm, std::uint64_t now_ms) {
    for (std::size_t which = 0; which < sensor_count_; ++which) {
        hal::Calibration* const head = sensors_[which].calibration;
        if (head == nullptr || sensors::channel_of(sensors_[which].driver) != sensors::Channel::co2) {
            continue;
        }
        if (!(is_known(span_ppm) ? head->span(span_ppm) : head->zero())) {
            return {wire::Outcome::failed, "refused"};
        }
        calibration_until_ms_ = now_ms + calibration_ms;
        return {};
    }
    return {wire::Outcome::failed, "unsupported"};
}

wire::Diagnosis Node::diagnose(std::uint64_t now_ms) {
    wire::Diagnosis found;
    found.uptime_s = static_cast<std::uint32_t>(now_ms / 1000);
    found.boot = ring_.boot();
    found.heap_free_kib = machine_.health().heap_free_kib;
    found.ring_used = ring_.unreceipted();
    found.ring_capacity = ring_.capacity();
    found.erasures = ring_.wear().erasures;
    found.reconnects = session_.counts().connections;
    found.frame_errors = tally_.frame_errors;
    found.drift_ppm = clock_.drift_ppm();
    found.firmware = firmware_;
    found.mode = is_safe_mode() ? "safe" : "run";
    found.reset_cause = wire::name_of(machine_.reset_cause());
    return found;
}

// --- what it works with

void Node::work_with(const wire::Config& config, std::uint64_t now_ms) {
    settings_ = built_in_;
    site_ = built_in_site_;
    site_.cfg = config.rev;
    if (config.rev != 0) {
        settings_.sample_ms = config.sample_s * 1000;
        settings_.readings_per_sample = config.readings;
        settings_.warm_up_ms = config.warm_up_s * 1000;
        settings_.stuck_ms = config.stuck_s * 1000;
        site_.plan = config.plan;
        site_.pressure_kpa = config.pressure_kpa;
    }
    alarms_.set_limits(config, now_ms);
    panel_.allow(config.has_led, config.has_buzzer);
}

// At the border of two windows, so that each sample is of one setting. A window that would last too long is ended.
void Node::change_settings(std::uint64_t now_ms) {
    if (readings_ > 0) {
        if (settings_.sample_ms <= longest_window_ms) {
            return;
        }
        finish_window(now_ms);
    }
    config_.take_into_force(now_ms);
    work_with(config_.in_force(), now_ms);
    next_reading_ms_ = now_ms;
}

// --- lamp and buzzer

void Node::show(std::uint64_t now_ms) {
    Panel::Facts facts;
    facts.is_online = session_.is_running();
    facts.is_faulty = faults_ != 0 || has_store_failed_;
    facts.is_safe_mode = is_safe_mode();
    facts.alarm = alarms_.loudest();
    panel_.step(facts, now_ms);
}

void Node::watch(Flags status, float temperature_c, std::uint64_t now_ms) {
    faults_ = status & Alarms::fault_bits;
    Observation found;
    found.co2_kg_per_s = rate_.co2_kg_per_s;
    found.temperature_c = (rate_.flags & flag::temperature_implausible) != 0 ? missing : temperature_c;
    found.velocity_ms = (rate_.flags & bad_velocity) != 0 ? missing : rate_.velocity_ms;
    found.faults = faults_;
    found.boiler = rate_.boiler;
    found.is_watched = work_at_it(now_ms) == 0;
    alarms_.look(found, now_ms);
}

// Whether somebody works at the box or its sensors, as far as one has told the node.
Flags Node::work_at_it(std::uint64_t now_ms) const {
    return (now_ms < maintenance_until_ms_ ? flag::maintenance : 0) |
           (now_ms < calibration_until_ms_ ? flag::calibration : 0);
}

// --- what is due

void Node::sample(std::uint64_t now_ms) {
    tell_clock(now_ms);
    if (guard_.step(now_ms)) {
        restart(now_ms, "safe mode is over");
    }
    if (is_sampling_ && !is_safe_mode()) {
        measure(now_ms);
    }
    show(now_ms);
}

void Node::measure(std::uint64_t now_ms) {
    if (config_.is_due()) {
        change_settings(now_ms);
    }
    const std::uint32_t step_ms = settings_.sample_ms / settings_.readings_per_sample;
    if (now_ms >= next_reading_ms_) {
        read_sensors();
        next_reading_ms_ += step_ms;
        if (now_ms >= next_reading_ms_ + settings_.sample_ms) {  // somebody slept: what was missed is not made up
            const auto missed = (now_ms - next_reading_ms_) / settings_.sample_ms;
            tally_.late_samples += static_cast<std::uint32_t>(missed);
            next_reading_ms_ = now_ms + step_ms;
        }
        if (++readings_ >= settings_.readings_per_sample) {
            finish_window(now_ms);
        }
    }
    if (now_ms >= next_meter_ms_) {
        next_meter_ms_ = now_ms + settings_.meter_ms;
        add_meters(now_ms);
    }
    if (now_ms >= next_health_ms_) {
        next_health_ms_ = now_ms + settings_.health_ms;
        add_health(now_ms);
    }
}

void Node::tell_clock(std::uint64_t now_ms) {
    if (now_ms < next_clock_ms_) {
        return;
    }
    const std::uint64_t utc_ms = wall_.utc_ms();
    if (utc_ms == 0) {
        next_clock_ms_ = now_ms + 1000;
        return;
    }
    next_clock_ms_ = now_ms + settings_.clock_ms;
    if (clock_.set(utc_ms, now_ms, net::Clock::Source::sntp)) {
        add(store::Anchor{utc_ms, now_ms}, now_ms);
    }
}

// --- from frames to a sample

void Node::read_sensors() {
    for (std::size_t which = 0; which < sensor_count_; ++which) {
        std::array<std::uint8_t, 300> bytes;
        const std::size_t size = sensors_[which].source->read(bytes.data(), bytes.size());
        const sensors::Frame frame = sensors::decode(sensors_[which].driver, {bytes.data(), size});
        take_frame(frame, sensors::channel_of(sensors_[which].driver));
    }
}

void Node::take_frame(const sensors::Frame& frame, sensors::Channel channel) {
    if (frame.cause != sensors::Cause::none) {
        ++tally_.frame_errors;
        return;
    }
    window_status_ |= frame.status;
    const auto add_known = [](signal::Window& window, float value) {
        if (is_known(value)) {
            window.add(value);
        }
    };
    add_known(co2_, frame.co2_ppm);
    add_known(temperature_, frame.temperature_c);
    add_known(velocity_, frame.velocity_ms);
    add_known(difference_, frame.pressure_difference_pa);
    if (channel == sensors::Channel::meter) {
        for (std::size_t total = 0; total < sensors::totals; ++total) {
            totals_[total] = std::isnan(frame.meter[total]) ? totals_[total] : frame.meter[total];
        }
    }
}

float Node::settled(signal::Window& window, float least_spread) {
    const signal::Window::Settled found = window.settle(least_spread);
    tally_.outliers += found.outliers;
    return found.value;
}

void Node::finish_window(std::uint64_t now_ms) {
    const float co2_ppm = settled(co2_, co2_spread_ppm);
    const float temperature_c = settled(temperature_, temperature_spread_c);
    const float velocity_ms = settled(velocity_, velocity_spread_ms);
    const float difference_pa = settled(difference_, difference_spread_pa);
    Flags status = faults_of(co2_ppm, temperature_c, is_known(velocity_ms) || is_known(difference_pa));
    status |= flag::pressure_default;  // none of our boards has a barometer yet
    status |= difference_pa < 0.0F && !is_known(velocity_ms) ? flag::pressure_difference_negative : 0;
    status |= now_ms < settings_.warm_up_ms ? flag::warm_up : 0;
    status |= stuck(co2_ppm, now_ms);
    status |= work_at_it(now_ms);
    status |= clock_.has_jumped() ? flag::clock_jump : 0;
    store::Sample sample;
    sample.co2_tenth_ppm = store::quantised(co2_ppm, 10.0F);
    sample.temperature_16th_c = store::quantised(temperature_c, 16.0F);
    sample.velocity_mm_s = store::quantised(velocity_ms, 1000.0F);
    sample.pressure_difference_50th_pa = store::quantised(difference_pa, 50.0F);
    sample.status = static_cast<std::uint16_t>(status & flag::on_the_wire);
    rate_ = wire::rate_of(sample, site_);
    if (rate_.boiler == emission::Boiler::off || rate_.boiler == emission::Boiler::off_without_co2) {
        sample.status = static_cast<std::uint16_t>(sample.status | flag::boiler_off);
    }
    count_run_time(now_ms);
    window_status_ = 0;
    readings_ = 0;
    ++tally_.samples;
    add(sample, now_ms);
    watch(status, temperature_c, now_ms);
}

// Why a channel that has a sensor gave nothing.
Flags Node::faults_of(float co2_ppm, float temperature_c, bool has_velocity) const {
    Flags status = window_status_ & from_any_frame;
    if (has(sensors::Channel::co2) && !is_known(co2_ppm)) {
        status |= flag::co2_fault;
    }
    if (has(sensors::Channel::temperature) && !is_known(temperature_c)) {
        const Flags told = window_status_ & without_value;
        status |= told != 0 ? told : flag::temperature_fault;
    }
    if (has(sensors::Channel::velocity) && !has_velocity) {
        status |= flag::velocity_fault;
    }
    return status;
}

Flags Node::stuck(float co2_ppm, std::uint64_t now_ms) {
    if (!(co2_ppm >= stuck_above_ppm) || co2_ppm < last_co2_ppm_ || co2_ppm > last_co2_ppm_ ||
        !is_known(last_co2_ppm_)) {
        last_co2_ppm_ = co2_ppm;
        same_co2_since_ms_ = now_ms;
    }
    const bool is_stuck = settings_.stuck_ms != 0 && now_ms - same_co2_since_ms_ >= settings_.stuck_ms;
    return is_stuck ? flag::stuck : 0;
}

// --- the other records

void Node::count_run_time(std::uint64_t now_ms) {
    if (rate_.boiler != emission::Boiler::unknown) {
        runs_ = rate_.boiler == emission::Boiler::runs;  // where nobody can say, it is what it was
    }
    run_ms_ += runs_ ? now_ms - run_counted_ms_ : 0;
    run_counted_ms_ = now_ms;
    run_s_ += static_cast<std::uint32_t>(run_ms_ / 1000);
    run_ms_ %= 1000;
}

void Node::add_meters(std::uint64_t now_ms) {
    store::Meter meter;
    const double run_s = totals_[static_cast<std::size_t>(sensors::Total::run_s)];
    meter.run_s = std::isnan(run_s) ? run_s_ : static_cast<std::uint32_t>(run_s);
    meter.kwh_hundredth = rounded(totals_[static_cast<std::size_t>(sensors::Total::kwh)], 100.0, store::Meter::none);
    meter.litres_tenth =
        rounded(totals_[static_cast<std::size_t>(sensors::Total::litres)], 10.0, store::Meter::none_24);
    meter.genset_kwh_tenth =
        rounded(totals_[static_cast<std::size_t>(sensors::Total::genset_kwh)], 10.0, store::Meter::none_24);
    meter.resets = resets_;
    add(meter, now_ms);
}

void Node::add_health(std::uint64_t now_ms) {
    const hal::MachineHealth machine = machine_.health();
    const float drift_ppm = std::round(clock_.drift_ppm());
    store::Health health;
    health.rssi_dbm = machine.rssi_dbm;
    health.heap_free_kib = machine.heap_free_kib;
    health.drift_ppm = static_cast<std::int8_t>(drift_ppm < -127.0F ? -127.0F : drift_ppm > 127.0F ? 127.0F : drift_ppm);
    health.ring_used = ring_.unreceipted();
    health.reconnects = at_most_16(session_.counts().connections);
    health.uptime_s = static_cast<std::uint32_t>(now_ms / 1000);
    health.frame_errors = at_most_16(tally_.frame_errors);
    add(health, now_ms);
}

void Node::add(const store::Content& content, std::uint64_t now_ms) {
    store::Record record;
    record.time_ms = clock_.time_ms(now_ms);
    record.clock = clock_.quality(now_ms);
    record.cfg = site_.cfg;
    record.content = content;
    has_store_failed_ = !ring_.append(record);
    tally_.store_failures += has_store_failed_ ? 1 : 0;
}

}  // namespace ct::app
