#include <doctest/doctest.h>

#include <map>

#include "ct/emission/rate.h"
#include "support.h"

using namespace ct;
using namespace ct::test;

TEST_SUITE_BEGIN("emission");

namespace {

const std::map<std::string, Flags> flag_names = {
    {"CO2_OVER_RANGE", flag::co2_over_range},
    {"CO2_FAULT", flag::co2_fault},
    {"WARM_UP", flag::warm_up},
    {"STALE", flag::stale},
    {"TEMPERATURE_OPEN", flag::temperature_open},
    {"TEMPERATURE_FAULT", flag::temperature_fault},
    {"VELOCITY_FAULT", flag::velocity_fault},
    {"PRESSURE_DIFFERENCE_NEGATIVE", flag::pressure_difference_negative},
    {"PRESSURE_DEFAULT", flag::pressure_default},
    {"MAINTENANCE", flag::maintenance},
    {"CALIBRATION", flag::calibration},
    {"STUCK", flag::stuck},
    {"IMPLAUSIBLE", flag::implausible},
    {"BOILER_OFF", flag::boiler_off},
    {"CLOCK_JUMP", flag::clock_jump},
    {"UNFIT_SENSOR", flag::unfit_sensor},
    {"VALUE_MISSING", flag::value_missing},
    {"DEVICE_DISAGREES", flag::device_disagrees},
    {"CO2_SATURATED", flag::co2_saturated},
    {"CO2_IMPLAUSIBLE", flag::co2_implausible},
    {"TEMPERATURE_IMPLAUSIBLE", flag::temperature_implausible},
    {"VELOCITY_IMPLAUSIBLE", flag::velocity_implausible},
    {"PRESSURE_IMPLAUSIBLE", flag::pressure_implausible},
    {"PRESSURE_SITE", flag::pressure_site},
    {"VELOCITY_FROM_PITOT", flag::velocity_from_pitot},
};

float single(const json::Value& of, const char* name) { return static_cast<float>(number(of, name)); }

emission::Plan plan_of(const json::Value& plan) {
    emission::Plan read;
    read.is_circular = text(plan, "shape") == "circular";
    read.diameter_m = single(plan, "diameter_m");
    read.width_m = single(plan, "width_m");
    read.length_m = single(plan, "length_m");
    read.wall_deposit_mm = single(plan, "wall_deposit_mm");
    read.profile_factor = single(plan, "profile_factor");
    read.is_dry = text(plan, "basis") == "dry";
    read.h2o_fraction = single(plan, "h2o_fraction");
    read.co2_range_ppm = single(plan, "co2_range_ppm");
    read.dilution_ratio = single(plan, "dilution_ratio");
    read.calibration_offset_ppm = single(plan, "calibration_offset_ppm");
    read.calibration_slope = single(plan, "calibration_slope");
    read.pitot_coefficient = single(plan, "pitot_coefficient");
    return read;
}

emission::Sample sample_of(const json::Value& sample) {
    emission::Sample read;
    read.co2_ppm = single(sample, "co2_ppm");
    read.temperature_c = single(sample, "temperature_c");
    read.velocity_ms = single(sample, "velocity_ms");
    read.pressure_difference_pa = single(sample, "pressure_difference_pa");
    read.pressure_kpa = single(sample, "pressure_kpa");
    read.device_co2_kg_per_s = single(sample, "device_co2_kg_per_s");
    return read;
}

}  // namespace

TEST_CASE("every golden vector gives the platform's rate, flow, velocity, pressure and flags") {
    const Golden golden("rate.json");
    unsigned count = 0;
    for (json::Value::Walk walk(golden.root().member("vectors").value()); walk.next(); ++count) {
        const json::Value vector = walk.value();
        const std::string about = text(vector, "about");
        CAPTURE(about);
        const json::Value sample = vector.member("sample").value();
        const json::Value expected = vector.member("expected").value();
        Flags flags = 0;
        for (json::Value::Walk names(expected.member("flags").value()); names.next();) {
            flags |= flag_names.at(text(names.value()));
        }
        const auto plan = plan_of(golden.root().member("plans")->member(text(vector, "plan")).value());

        const auto rate = emission::rate(sample_of(sample), plan, single(vector, "site_pressure_kpa"),
                                         static_cast<Flags>(number(sample, "status")));

        CHECK(agrees(static_cast<double>(rate.co2_kg_per_s), number(expected, "co2_kg_per_s")));
        CHECK(agrees(static_cast<double>(rate.flow_m3_per_s), number(expected, "flow_rate_m3s")));
        CHECK(agrees(static_cast<double>(rate.velocity_ms), number(expected, "velocity_ms")));
        CHECK(agrees(static_cast<double>(rate.pressure_kpa), number(expected, "pressure_kpa")));
        CHECK(rate.flags == flags);
    }
    CHECK(count >= 32);
}

TEST_CASE("the pressure of an altitude is that of the standard atmosphere") {
    const Golden golden("rate.json");
    for (json::Value::Walk walk(golden.root().member("altitude_pressure").value()); walk.next();) {
        const float found = emission::pressure_from_altitude_kpa(single(walk.value(), "altitude_m"));
        CHECK(agrees(static_cast<double>(found), number(walk.value(), "pressure_kpa")));
    }
}

TEST_CASE("a stack whose deposit fills it has no area, and so no rate") {
    emission::Plan plan;
    plan.wall_deposit_mm = 400.0F;
    emission::Sample sample;
    sample.co2_ppm = 98000.0F;
    sample.temperature_c = 183.25F;
    sample.velocity_ms = 4.12F;
    CHECK_FALSE(is_known(emission::rate(sample, plan, 79.7F, 0).co2_kg_per_s));
}

TEST_CASE("the boiler runs, is off, or nobody can say") {
    const auto boiler = [](float co2_ppm, float temperature_c, float velocity_ms) {
        emission::Sample sample;
        sample.co2_ppm = co2_ppm;
        sample.temperature_c = temperature_c;
        sample.velocity_ms = velocity_ms;
        return emission::rate(sample, {}, 80.0F, 0).boiler;
    };
    CHECK(boiler(98000, 183, 4) == emission::Boiler::runs);
    CHECK(boiler(900, 31, 0) == emission::Boiler::off);
    CHECK(boiler(900, 183, 4) == emission::Boiler::off_without_co2);
    CHECK(boiler(98000, 70, 4) == emission::Boiler::unknown);
    CHECK(boiler(missing, missing, 4) == emission::Boiler::unknown);
    CHECK(boiler(missing, 183, missing) == emission::Boiler::runs);
}

TEST_SUITE_END();
