#include "ct/wire/config.h"

#include <cstring>

namespace ct::wire {

namespace {

using emission::Plan;
using json::Kind;
using json::Value;

struct PlanNumber {
    const char* name;
    float Plan::* to;
    double least, most;
    bool may_be_null;
};

// The bounds of the platform's monitoring plan.
constexpr double large = 1e9;
constexpr double below_one = 0.999999;
constexpr PlanNumber plan_numbers[] = {
    {"diameter_m", &Plan::diameter_m, 0.0, 1000.0, true},
    {"width_m", &Plan::width_m, 0.0, 1000.0, true},
    {"length_m", &Plan::length_m, 0.0, 1000.0, true},
    {"wall_deposit_mm", &Plan::wall_deposit_mm, 0.0, large, false},
    {"profile_factor", &Plan::profile_factor, 0.0, large, false},
    {"h2o_fraction", &Plan::h2o_fraction, 0.0, below_one, false},
    {"co2_range_ppm", &Plan::co2_range_ppm, 0.0, large, false},
    {"co2_response_s", &Plan::co2_response_s, 0.0, large, false},
    {"dilution_ratio", &Plan::dilution_ratio, 0.0, large, false},
    {"calibration_offset_ppm", &Plan::calibration_offset_ppm, -large, large, false},
    {"calibration_slope", &Plan::calibration_slope, 0.0, large, false},
    {"pitot_coefficient", &Plan::pitot_coefficient, 0.0, large, false},
    {"temperature_max_c", &Plan::temperature_max_c, 0.0, large, false},
    {"velocity_max_ms", &Plan::velocity_max_ms, 0.0, large, false},
    {"on_temperature_c", &Plan::on_temperature_c, 0.0, large, false},
    {"off_temperature_c", &Plan::off_temperature_c, 0.0, large, false},
    {"on_velocity_ms", &Plan::on_velocity_ms, 0.0, large, false},
    {"off_velocity_ms", &Plan::off_velocity_ms, 0.0, large, false},
    {"on_co2_ppm", &Plan::on_co2_ppm, 0.0, large, false},
    {"off_co2_ppm", &Plan::off_co2_ppm, 0.0, large, false},
};

constexpr store::EventCode limit_codes[] = {
    store::EventCode::rate_high,     store::EventCode::temperature_high, store::EventCode::temperature_low,
    store::EventCode::velocity_high, store::EventCode::velocity_low,     store::EventCode::sensor_fault,
};

// One object of the document, and where it is in it.
class Section {
public:
    Section(const Value& object, std::string_view prefix, Problems& problems)
        : object_(object), prefix_(prefix), problems_(problems) {}

    void wrong(std::string_view name, std::string_view code) {
        char path[40];
        json::Writer out(path, sizeof path);
        out.raw(prefix_).raw(prefix_.empty() || name.empty() ? "" : ".").raw(name);
        problems_.add(out.written(), code);
    }

    // The member, unless it is not there or cannot be meant.
    std::optional<Value> member(std::string_view name) {
        if (object_.has_twice(name)) {
            wrong(name, "syntax");  // which of the two is meant, nobody knows
            return std::nullopt;
        }
        return object_.member(name);
    }

    void real(std::string_view name, double least, double most, float& to) {
        if (const auto value = member(name)) {
            double found = 0.0;
            if (number(name, *value, least, most, found)) {
                to = static_cast<float>(found);
            }
        }
    }

    void real_or_null(std::string_view name, double least, double most, float& to) {
        const auto value = object_.member(name);
        if (value && value->kind() == Kind::null && !object_.has_twice(name)) {
            to = missing;
        } else {
            real(name, least, most, to);
        }
    }

    void whole(std::string_view name, std::uint32_t least, std::uint32_t most, std::uint32_t& to) {
        if (const auto value = member(name)) {
            double found = 0.0;
            if (!number(name, *value, least, most, found)) {
                return;
            }
            const auto rounded = static_cast<std::uint32_t>(found);
            if (found > rounded) {
                wrong(name, "type");
                return;
            }
            to = rounded;
        }
    }

    void boolean(std::string_view name, bool& to) {
        if (const auto value = member(name)) {
            if (const auto found = value->boolean()) {
                to = *found;
            } else {
                wrong(name, "type");
            }
        }
    }

    // The text; empty where there is none, and then that is noted, if it must be there.
    std::string_view text(std::string_view name, bool must_be) {
        const auto value = member(name);
        if (!value) {
            if (must_be && !object_.has_twice(name)) {
                wrong(name, "missing");
            }
            return {};
        }
        if (value->kind() != Kind::text) {
            wrong(name, "type");
            return {};
        }
        const auto found = value->plain_text();
        if (!found || found->empty()) {
            wrong(name, "value");
            return {};
        }
        return *found;
    }

    bool has(std::string_view name) const { return object_.member(name).has_value(); }

private:
    bool number(std::string_view name, const Value& value, double least, double most, double& to) {
        if (value.kind() != Kind::number) {
            wrong(name, "type");
            return false;
        }
        const auto found = value.number();
        if (!found || !(*found >= least && *found <= most)) {
            wrong(name, "range");
            return false;
        }
        to = *found;
        return true;
    }

    Value object_;
    std::string_view prefix_;
    Problems& problems_;
};

// Hands an object within the document to `read`.
template <typename Read>
void read_object(Section& of, std::string_view name, Problems& problems, Read read) {
    if (const auto value = of.member(name)) {
        if (value->kind() != Kind::object) {
            of.wrong(name, "type");
            return;
        }
        Section section(*value, name, problems);
        read(section);
    }
}

void read_plan(Section& section, Plan& plan) {
    section.boolean("is_circular", plan.is_circular);
    section.boolean("is_dry", plan.is_dry);
    section.boolean("prefers_pitot", plan.prefers_pitot);
    for (const PlanNumber& number : plan_numbers) {
        if (number.may_be_null) {
            section.real_or_null(number.name, number.least, number.most, plan.*number.to);
        } else {
            section.real(number.name, number.least, number.most, plan.*number.to);
        }
    }
}

void read_limit(Section& section, Limit& limit) {
    constexpr double most = 1e6;
    const std::string_view code = section.text("code", true);
    std::size_t which = 0;
    while (which < std::size(limit_codes) && name_of(limit_codes[which]) != code) {
        ++which;
    }
    if (which < std::size(limit_codes)) {
        limit.code = limit_codes[which];
        if (limit.code != store::EventCode::sensor_fault) {
            section.real("limit", -most, most, limit.limit);
            if (!section.has("limit")) {
                section.wrong("limit", "missing");
            }
        }
    } else if (!code.empty()) {
        section.wrong("code", "value");
    }
    section.real("hysteresis", 0.0, most, limit.hysteresis);
    section.whole("for_s", 0, 3600, limit.for_s);
    const std::string_view level = section.text("level", false);
    if (const auto found = severity_of(level)) {
        limit.level = *found;
    } else if (!level.empty()) {
        section.wrong("level", "value");
    }
}

void read_limits(Section& root, Config& to, Problems& problems) {
    const auto value = root.member("limits");
    if (!value) {
        return;
    }
    if (value->kind() != Kind::array) {
        root.wrong("limits", "type");
        return;
    }
    to.limit_count = 0;
    for (Value::Walk walk(*value); walk.next(); ++to.limit_count) {
        if (to.limit_count == Config::most_limits) {
            root.wrong("limits", "too_many");
            return;
        }
        char path[] = "limits.0";
        path[sizeof path - 2] = static_cast<char>('0' + to.limit_count);
        if (walk.value().kind() != Kind::object) {
            root.wrong(path, "type");
            continue;
        }
        Section section(walk.value(), path, problems);
        Limit& limit = to.limits[to.limit_count];
        limit = {};
        read_limit(section, limit);
    }
}

// What no single value is wrong about; looked at where all values are right.
void check_together(const Config& config, Problems& problems) {
    if (config.sample_s * 1000 / config.readings < 100) {
        problems.add("readings", "range");
    }
    const Plan& plan = config.plan;
    const auto must_not_be_above = [&problems](float off, float on, std::string_view path) {
        if (off > on) {
            problems.add(path, "range");
        }
    };
    must_not_be_above(plan.off_temperature_c, plan.on_temperature_c, "plan.off_temperature_c");
    must_not_be_above(plan.off_velocity_ms, plan.on_velocity_ms, "plan.off_velocity_ms");
    must_not_be_above(plan.off_co2_ppm, plan.on_co2_ppm, "plan.off_co2_ppm");
    const auto must_be_open = [&](float length_m, std::string_view path) {
        if (!is_known(length_m)) {
            problems.add(path, "missing");
        } else if (!(length_m > 2.0F * plan.wall_deposit_mm / 1000.0F)) {
            problems.add(path, "range");
        }
    };
    if (plan.is_circular) {
        must_be_open(plan.diameter_m, "plan.diameter_m");
    } else {
        must_be_open(plan.width_m, "plan.width_m");
        must_be_open(plan.length_m, "plan.length_m");
    }
}

constexpr std::uint32_t most_rev = 0xFFFF;  // a record has two bytes for it

}  // namespace

void Problems::add(std::string_view path, std::string_view code) {
    if (count_ == most) {
        return;
    }
    Problem& problem = problems_[count_++];
    const std::size_t size = path.size() < problem.path.size() ? path.size() : problem.path.size() - 1;
    std::memcpy(problem.path.data(), path.data(), size);
    problem.path[size] = '\0';
    problem.code = code;
}

void Problems::write(json::Writer& out) const {
    out.raw("[");
    for (std::size_t which = 0; which < count_; ++which) {
        out.raw(which == 0 ? R"({"path":)" : R"(,{"path":)").text(path(which));
        out.raw(R"(,"code":)").text(code(which)).raw("}");
    }
    out.raw("]");
}

std::uint16_t rev_of(std::string_view text) {
    if (text.size() > largest_config) {
        return 0;
    }
    const auto body = json::parse(text);
    const auto rev = body ? body->member("rev") : std::nullopt;
    const std::int64_t number = rev ? rev->integer().value_or(0) : 0;
    return number > 0 && number <= most_rev ? static_cast<std::uint16_t>(number) : std::uint16_t{0};
}

bool read_config(std::string_view text, const Config& defaults, Config& to, Problems& problems) {
    if (text.size() > largest_config) {
        problems.add("", "size");
        return false;
    }
    const auto body = json::parse(text);
    if (!body || body->kind() != Kind::object) {
        problems.add("", "syntax");
        return false;
    }
    to = defaults;
    Section root(*body, "", problems);
    std::uint32_t version = 1;
    std::uint32_t rev = 0;
    root.whole("v", 0, most_rev, version);
    root.whole("rev", 1, most_rev, rev);
    for (const std::string_view name : {"v", "rev"}) {
        if (!root.has(name)) {
            root.wrong(name, "missing");
        }
    }
    if (version != 1) {
        root.wrong("v", "value");
    }
    to.rev = static_cast<std::uint16_t>(rev);
    root.whole("sample_s", 1, 3600, to.sample_s);
    root.whole("readings", 1, 15, to.readings);
    root.whole("warm_up_s", 0, 3600, to.warm_up_s);
    root.whole("stuck_s", 0, 86400, to.stuck_s);
    read_object(root, "site", problems,
                [&to](Section& site) { site.real("pressure_kpa", 50.0, 110.0, to.pressure_kpa); });
    read_object(root, "plan", problems, [&to](Section& plan) { read_plan(plan, to.plan); });
    read_limits(root, to, problems);
    root.boolean("buzzer", to.has_buzzer);
    root.boolean("led", to.has_led);
    if (problems.is_empty()) {
        check_together(to, problems);
    }
    return problems.is_empty();
}

bool is_same(const Config& one, const Config& other) {
    const auto same = [](float left, float right) {
        return is_known(left) ? !(left < right) && !(left > right) && is_known(right) : !is_known(right);
    };
    bool is_so = one.rev == other.rev && one.sample_s == other.sample_s && one.readings == other.readings &&
                 one.warm_up_s == other.warm_up_s && one.stuck_s == other.stuck_s &&
                 same(one.pressure_kpa, other.pressure_kpa) && one.has_buzzer == other.has_buzzer &&
                 one.has_led == other.has_led && one.limit_count == other.limit_count &&
                 one.plan.is_circular == other.plan.is_circular && one.plan.is_dry == other.plan.is_dry &&
                 one.plan.prefers_pitot == other.plan.prefers_pitot;
    for (const PlanNumber& number : plan_numbers) {
        is_so = is_so && same(one.plan.*number.to, other.plan.*number.to);
    }
    for (std::size_t which = 0; which < one.limit_count && is_so; ++which) {
        const Limit& left = one.limits[which];
        const Limit& right = other.limits[which];
        is_so = left.code == right.code && left.level == right.level && same(left.limit, right.limit) &&
                same(left.hysteresis, right.hysteresis) && left.for_s == right.for_s;
    }
    return is_so;
}

void write_config_answer(json::Writer& out, std::uint16_t rev, std::uint16_t active, const Problems& problems) {
    out.raw(R"({"v":1,"rev":)").number(rev).raw(problems.is_empty() ? R"(,"ok":true)" : R"(,"ok":false)");
    out.raw(R"(,"active":)").number(active);
    if (!problems.is_empty()) {
        out.raw(R"(,"errors":)");
        problems.write(out);
    }
    out.raw("}");
}

}  // namespace ct::wire
