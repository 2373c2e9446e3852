#include "ct/wire/message.h"

#include <cmath>

namespace ct::wire {

std::string_view name_of(store::EventCode code) {
    switch (code) {
        case store::EventCode::ack_regressed: return "ack_regressed";
        case store::EventCode::rate_high: return "rate_high";
        case store::EventCode::temperature_high: return "temperature_high";
        case store::EventCode::temperature_low: return "temperature_low";
        case store::EventCode::velocity_high: return "velocity_high";
        case store::EventCode::velocity_low: return "velocity_low";
        case store::EventCode::sensor_fault: return "sensor_fault";
    }
    return "unknown";  // another firmware's
}

std::string_view name_of(store::Severity severity) {
    switch (severity) {
        case store::Severity::warning: return "warning";
        case store::Severity::critical: return "critical";
        case store::Severity::info: return "info";
    }
    return "warning";
}

std::optional<store::Severity> severity_of(std::string_view name) {
    for (const auto severity : {store::Severity::warning, store::Severity::critical, store::Severity::info}) {
        if (name == name_of(severity)) {
            return severity;
        }
    }
    return std::nullopt;
}

namespace {

using json::Writer;
using store::absent;

constexpr const char* letters[store::kinds] = {"s", "m", "h", "e", "g", "a"};
constexpr const char* columns[store::kinds] = {
    R"("co2","tg","dp","v","pa","ti","m","st")",
    R"("run_s","kwh","litres","genset_kwh","rst")",
    R"("rssi","ring_used","reconnects","uptime_s","frame_errors","drift_ppm","heap_free_kib")",
    R"("code","lvl","on","val","lim")",
    R"("from","to","why")",
    R"("boot","utc","ms")",
};

void comma_steps(Writer& out, std::int32_t steps, std::int32_t per_step, unsigned decimals) {
    out.raw(",");
    if (steps == absent) {
        out.null();
    } else {
        out.scaled(std::int64_t{steps} * per_step, decimals);
    }
}

void comma_total(Writer& out, std::uint32_t total, std::uint32_t none, unsigned decimals) {
    out.raw(",");
    if (total == none) {
        out.null();
    } else {
        out.scaled(total, decimals);
    }
}

void comma_real(Writer& out, double value, unsigned decimals) {
    constexpr double most = 9e15;  // a whole number in every language
    double scale = 1.0;
    for (unsigned digit = 0; digit < decimals; ++digit) {
        scale *= 10.0;
    }
    out.raw(",");
    const double scaled = std::round(value * scale);
    if (std::fabs(scaled) <= most) {
        out.scaled(static_cast<std::int64_t>(scaled), decimals);
    } else {
        out.null();
    }
}

void write_values(Writer& out, const store::Record&, const store::Sample& sample, const Site& site, bool has_own_cfg) {
    comma_steps(out, sample.co2_tenth_ppm, 1, 1);
    comma_steps(out, sample.temperature_16th_c, 625, 4);
    comma_steps(out, sample.pressure_difference_50th_pa, 2, 2);
    comma_steps(out, sample.velocity_mm_s, 1, 3);
    comma_steps(out, sample.pressure_2_pa, 2, 3);
    comma_steps(out, sample.inside_c, 1, 0);
    // What was measured under other settings is not worked out with these; the platform does that anyway.
    comma_real(out, static_cast<double>(has_own_cfg ? rate_of(sample, site).co2_kg_per_s : missing), 6);
    out.raw(",").number(sample.status);
}

void write_values(Writer& out, const store::Record&, const store::Meter& meter, const Site&, bool) {
    out.raw(",").number(meter.run_s);
    comma_total(out, meter.kwh_hundredth, store::Meter::none, 2);
    comma_total(out, meter.litres_tenth, store::Meter::none_24, 1);
    comma_total(out, meter.genset_kwh_tenth, store::Meter::none_24, 1);
    out.raw(",").number(meter.resets);
}

void comma_known(Writer& out, std::int64_t value) {
    out.raw(",");
    if (value == 0) {
        out.null();
    } else {
        out.number(value);
    }
}

void write_values(Writer& out, const store::Record&, const store::Health& health, const Site&, bool) {
    comma_known(out, health.rssi_dbm);
    out.raw(",").number(health.ring_used);
    out.raw(",").number(health.reconnects);
    out.raw(",").number(health.uptime_s);
    out.raw(",").number(health.frame_errors);
    comma_known(out, health.drift_ppm);
    comma_known(out, health.heap_free_kib);
}

std::string_view cause_of(store::Why why) {
    switch (why) {
        case store::Why::overwritten: return "overwritten";
        case store::Why::ack_regressed: return "ack_regressed";
    }
    return "unknown";
}

void write_values(Writer& out, const store::Record&, const store::Event& event, const Site&, bool) {
    out.raw(",").text(name_of(event.code));
    out.raw(",").text(name_of(event.severity));
    out.raw(event.is_on ? ",1" : ",0");
    comma_real(out, event.value, 3);
    comma_real(out, static_cast<double>(event.limit), 3);
}

void write_values(Writer& out, const store::Record&, const store::Gap& gap, const Site&, bool) {
    out.raw(",").number(gap.from).raw(",").number(gap.to).raw(",").text(cause_of(gap.why));
}

void write_values(Writer& out, const store::Record& record, const store::Anchor& anchor, const Site&, bool) {
    out.raw(",").number(record.boot);
    out.raw(",").number(static_cast<std::int64_t>(anchor.utc_ms));
    out.raw(",").number(static_cast<std::int64_t>(anchor.uptime_ms));
}

// The block of one kind; nothing where no record is of it.
template <std::size_t kind>
void write_block(Writer& out, const Site& site, const store::Record* records, std::size_t count) {
    bool is_begun = false;
    for (std::size_t at = 0; at < count; ++at) {
        const store::Record& record = records[at];
        const auto* content = std::get_if<kind>(&record.content);
        if (content == nullptr) {
            continue;
        }
        if (is_begun) {
            out.raw(",[");
        } else {
            out.raw(",\"").raw(letters[kind]).raw(R"(":{"cols":["ds","dt","tq",)").raw(columns[kind]);
            out.raw(R"(],"rows":[[)");
            is_begun = true;
        }
        out.number(record.seq - records[0].seq).raw(",");
        out.number(static_cast<std::int64_t>(record.time_ms - records[0].time_ms)).raw(",");
        out.number(static_cast<int>(record.clock));
        write_values(out, record, *content, site, record.cfg == site.cfg);
        out.raw("]");
    }
    if (is_begun) {
        out.raw("]}");
    }
}

bool is_unset(const store::Record& record) { return record.clock == store::ClockQuality::unset; }

}  // namespace

emission::Rate rate_of(const store::Sample& sample, const Site& site) {
    emission::Sample values;
    values.co2_ppm = store::value_of(sample.co2_tenth_ppm, 10.0F);
    values.temperature_c = store::value_of(sample.temperature_16th_c, 16.0F);
    values.velocity_ms = store::value_of(sample.velocity_mm_s, 1000.0F);
    values.pressure_difference_pa = store::value_of(sample.pressure_difference_50th_pa, 50.0F);
    values.pressure_kpa = store::value_of(sample.pressure_2_pa, 500.0F);
    return emission::rate(values, site.plan, site.pressure_kpa, sample.status);
}

bool can_follow(const store::Record& before, const store::Record& next) {
    return next.seq == before.seq + 1 && next.boot == before.boot && next.cfg == before.cfg &&
           is_unset(next) == is_unset(before);
}

std::string_view name_of(hal::ResetCause cause) {
    switch (cause) {
        case hal::ResetCause::poweron: return "poweron";
        case hal::ResetCause::software: return "software";
        case hal::ResetCause::panic: return "panic";
        case hal::ResetCause::watchdog: return "watchdog";
        case hal::ResetCause::brownout: return "brownout";
        case hal::ResetCause::ota: return "ota";
    }
    return "poweron";
}

void write_sid(char (&to)[9], std::uint32_t sid) {
    for (unsigned digit = 0; digit < 8; ++digit) {
        to[digit] = "0123456789abcdef"[(sid >> (28 - 4 * digit)) & 0xFU];
    }
    to[8] = '\0';
}

void write_records(Writer& out, std::uint32_t sid, const Site& site, const store::Record* records, std::size_t count) {
    char stream[9];
    write_sid(stream, sid);
    const store::Record& first = records[0];
    out.raw(R"({"v":1,"sid":")").raw(stream).raw(R"(","boot":)").number(first.boot);
    out.raw(R"(,"cfg":)").number(first.cfg).raw(R"(,"seq":)").number(first.seq);
    out.raw(R"(,"n":)").number(static_cast<std::int64_t>(count));
    out.raw(R"(,"t":)").number(static_cast<std::int64_t>(first.time_ms));
    write_block<0>(out, site, records, count);
    write_block<1>(out, site, records, count);
    write_block<2>(out, site, records, count);
    write_block<3>(out, site, records, count);
    write_block<4>(out, site, records, count);
    write_block<5>(out, site, records, count);
    out.raw("}");
}

void write_birth(Writer& out, const Birth& birth, const char* const* sensors, std::size_t sensor_count) {
    char stream[9];
    write_sid(stream, birth.sid);
    out.raw(R"({"v":1,"online":true,"conn":)").number(birth.connection);
    out.raw(R"(,"boot":)").number(birth.boot).raw(R"(,"sid":")").raw(stream);
    out.raw(R"(","fw":)").text(birth.firmware).raw(R"(,"hw":)").text(birth.hardware);
    out.raw(R"(,"mode":)").text(birth.mode).raw(R"(,"rst":)").text(birth.reset_cause);
    out.raw(R"(,"cfg":)").number(birth.cfg).raw(R"(,"first":)").number(birth.first);
    out.raw(R"(,"next":)").number(birth.next).raw(R"(,"cap":)").number(birth.capacity);
    out.raw(R"(,"t":)").number(static_cast<std::int64_t>(birth.time_ms)).raw(R"(,"sens":[)");
    for (std::size_t which = 0; which < sensor_count; ++which) {
        out.raw(which == 0 ? R"({"drv":)" : R"(,{"drv":)").text(sensors[which]).raw("}");
    }
    out.raw("]}");
}

void write_offline(Writer& out, std::uint32_t connection, std::uint16_t boot, std::string_view why) {
    out.raw(R"({"v":1,"online":false,"conn":)").number(connection).raw(R"(,"boot":)").number(boot);
    if (!why.empty()) {
        out.raw(R"(,"why":)").text(why);
    }
    out.raw("}");
}

namespace {

// A stream id of ours: 8 hexadecimal digits in lower case.
std::optional<std::uint32_t> read_sid(std::string_view text) {
    if (text.size() != 8) {
        return std::nullopt;
    }
    std::uint32_t sid = 0;
    for (const char letter : text) {
        const bool is_digit = letter >= '0' && letter <= '9';
        if (!is_digit && !(letter >= 'a' && letter <= 'f')) {
            return std::nullopt;
        }
        sid = sid << 4 | static_cast<std::uint32_t>(is_digit ? letter - '0' : letter - 'a' + 10);
    }
    return sid;
}

}  // namespace

std::optional<Receipt> read_receipt(std::string_view text) {
    constexpr std::int64_t most = std::int64_t{1} << 53;
    if (text.size() > largest_receipt) {
        return std::nullopt;
    }
    const auto body = json::parse(text);
    if (!body || body->kind() != json::Kind::object) {
        return std::nullopt;
    }
    for (const char* name : {"sid", "seq", "now", "credit"}) {
        if (body->has_twice(name)) {
            return std::nullopt;  // which of the two is meant, nobody knows
        }
    }
    const auto stream = body->member("sid");
    const auto seq = body->member("seq");
    if (!stream || !seq) {
        return std::nullopt;
    }
    const auto sid = read_sid(stream->plain_text().value_or(""));
    const auto number = seq->integer();
    if (!sid || !number || *number < 0 || *number > most) {
        return std::nullopt;
    }
    Receipt receipt;
    receipt.sid = *sid;
    receipt.seq = static_cast<std::uint64_t>(*number);
    if (const auto now = body->member("now")) {
        const auto now_ms = now->integer();
        if (!now_ms || *now_ms < 0 || *now_ms > most) {
            return std::nullopt;
        }
        receipt.now_ms = static_cast<std::uint64_t>(*now_ms);
    }
    if (const auto credit = body->member("credit")) {
        const auto rate = credit->number();
        if (!rate || *rate < 0.0) {
            return std::nullopt;
        }
        receipt.credit = *rate;
    }
    return receipt;
}

}  // namespace ct::wire
