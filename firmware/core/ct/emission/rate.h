// From one sample to kilograms of CO2 a second: steps 1 to 10 of docs/calculation.md, the same chain as the platform's.
//
// A value that is missing is NaN. Single precision is enough: the chain keeps 6 digits, and a sensor gives 4.
#pragma once

#include <cmath>
#include <limits>

#include "ct/flags.h"

namespace ct {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

inline bool is_known(float value) { return !std::isnan(value); }

}  // namespace ct

namespace ct::emission {

// How one stack is measured; the defaults are those of the platform's monitoring plan.
struct Plan {
    bool is_circular = true;
    float diameter_m = 0.8F;
    float width_m = missing;
    float length_m = missing;
    float wall_deposit_mm = 0.0F;
    float profile_factor = 0.9F;
    bool is_dry = true;
    float h2o_fraction = 0.12F;
    float co2_range_ppm = 200000.0F;
    float co2_response_s = 30.0F;
    float dilution_ratio = 1.0F;
    float calibration_offset_ppm = 0.0F;
    float calibration_slope = 1.0F;
    float pitot_coefficient = 0.84F;
    bool prefers_pitot = false;
    float temperature_max_c = 1000.0F;
    float velocity_max_ms = 50.0F;
    float on_temperature_c = 80.0F, off_temperature_c = 60.0F;
    float on_velocity_ms = 0.5F, off_velocity_ms = 0.3F;
    float on_co2_ppm = 10000.0F, off_co2_ppm = 5000.0F;
};

struct Sample {
    float co2_ppm = missing;  // as the analyser gives it
    float temperature_c = missing;
    float velocity_ms = missing;
    float pressure_difference_pa = missing;
    float pressure_kpa = missing;
    float device_co2_kg_per_s = missing;  // what another program made of it, to be compared
};

enum class Boiler { off, off_without_co2, unknown, runs };

struct Rate {
    float co2_kg_per_s = missing;
    float flow_m3_per_s = missing;  // of wet gas, in the state in which it is in the stack
    float velocity_ms = missing;    // at the measuring point, before the profile factor
    float pressure_kpa = missing;
    float co2_fraction = missing;  // of the wet gas
    Flags flags = 0;
    Boiler boiler = Boiler::unknown;
};

// Mean absolute air pressure at a height above sea level, ISO 2533.
float pressure_from_altitude_kpa(float altitude_m);

// Density of CO2 as a component of the gas, in kg/m3.
float co2_density_kg_m3(float temperature_c, float pressure_kpa);

// Free inner area in m2; NaN where the dimensions are missing, or smaller than the deposit.
float duct_area_m2(const Plan& plan);

// `flags` are those that are known already; `site_kpa` counts where the sample has no pressure that can be used.
Rate rate(const Sample& sample, const Plan& plan, float site_kpa, Flags flags);

}  // namespace ct::emission
