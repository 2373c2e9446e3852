#include "ct/emission/rate.h"

namespace ct::emission {

namespace {

constexpr float gas_constant_j_per_mol_k = 8.314462618F;
constexpr float co2_kg_per_mol = 0.0440095F;
constexpr float flue_gas_kg_per_mol = 0.0289F;
constexpr float zero_celsius_k = 273.15F;
constexpr float ambient_co2_ppm = 420.0F;
constexpr float pi = 3.14159265358979F;

constexpr float typical_flue_co2_ppm = 60000.0F;
constexpr float slowest_response_s = 200.0F;
constexpr float full_scale_share = 0.99F;
constexpr float most_co2_fraction = 0.25F;

constexpr Flags bad_co2 = flag::co2_over_range | flag::co2_fault | flag::warm_up | flag::stale | flag::maintenance |
                          flag::calibration | flag::stuck | flag::implausible | flag::unfit_sensor |
                          flag::co2_implausible;
constexpr Flags bad_temperature =
    flag::temperature_open | flag::temperature_fault | flag::implausible | flag::temperature_implausible;
constexpr Flags bad_velocity = flag::velocity_fault | flag::pressure_difference_negative | flag::implausible |
                               flag::velocity_implausible;
constexpr Flags invalidating = bad_co2 | bad_temperature | bad_velocity | flag::value_missing;

float wet_fraction(float co2_ppm, const Plan& plan) {
    float ppm = plan.calibration_offset_ppm + plan.calibration_slope * co2_ppm;
    if (plan.dilution_ratio != 1.0F) {
        ppm = (ppm - ambient_co2_ppm * (1.0F - 1.0F / plan.dilution_ratio)) * plan.dilution_ratio;
    }
    const float fraction = ppm * 1e-6F;
    return plan.is_dry ? fraction * (1.0F - plan.h2o_fraction) : fraction;
}

bool is_unfit(const Plan& plan) {
    return plan.co2_range_ppm * plan.dilution_ratio < typical_flue_co2_ppm || plan.co2_response_s > slowest_response_s;
}

// CO2 in the wet gas where it can be trusted; what is known about the channel goes into `flags`.
float trusted_fraction(float co2_ppm, const Plan& plan, Flags& flags) {
    if (is_unfit(plan)) {
        flags |= flag::unfit_sensor;
    }
    if (!is_known(co2_ppm)) {
        flags |= flag::value_missing;
        return missing;
    }
    if (co2_ppm >= full_scale_share * plan.co2_range_ppm) {
        if ((flags & flag::co2_over_range) == 0) {
            flags |= flag::co2_over_range | flag::co2_saturated;
        }
    } else if (co2_ppm < -1000.0F) {
        flags |= flag::co2_implausible;
    }
    if ((flags & bad_co2) != 0) {
        return missing;
    }
    const float fraction = wet_fraction(co2_ppm, plan);
    if (!(fraction <= most_co2_fraction)) {
        flags |= flag::co2_implausible;
        return missing;
    }
    return fraction > 0.0F ? fraction : 0.0F;
}

float trusted_temperature(float temperature_c, const Plan& plan, Flags& flags) {
    if (!is_known(temperature_c)) {
        flags |= flag::value_missing;
    } else if (temperature_c < -20.0F || temperature_c > plan.temperature_max_c) {
        flags |= flag::temperature_implausible;
    }
    return (flags & bad_temperature) != 0 ? missing : temperature_c;
}

float pitot_velocity_ms(float difference_pa, float temperature_c, float pressure_kpa, float coefficient) {
    const float density = pressure_kpa * 1000.0F * flue_gas_kg_per_mol /
                          (gas_constant_j_per_mol_k * (temperature_c + zero_celsius_k));
    return coefficient * std::sqrt(2.0F * difference_pa / density);
}

float measured_velocity(const Sample& sample, const Plan& plan, float temperature_c, float pressure_kpa,
                        Flags& flags) {
    float velocity_ms = sample.velocity_ms;
    const float difference_pa = sample.pressure_difference_pa;
    if (is_known(difference_pa) && (!is_known(velocity_ms) || plan.prefers_pitot)) {
        velocity_ms = missing;
        if (difference_pa < 0.0F) {
            flags |= flag::pressure_difference_negative;
        } else if (is_known(temperature_c)) {
            velocity_ms = pitot_velocity_ms(difference_pa, temperature_c, pressure_kpa, plan.pitot_coefficient);
        }
        flags |= flag::velocity_from_pitot;
    }
    if (!is_known(velocity_ms)) {
        flags |= flag::value_missing;
    } else if (velocity_ms < 0.0F || velocity_ms > plan.velocity_max_ms) {
        flags |= flag::velocity_implausible;
    }
    return velocity_ms;
}

bool below(float value, float limit) { return is_known(value) && value < limit; }
bool from(float value, float limit) { return is_known(value) && value >= limit; }
bool from_or_unknown(float value, float limit) { return !is_known(value) || value >= limit; }

// Step 9: what one sample says of the boiler.
Boiler vote(const Plan& plan, float temperature_c, float velocity_ms, float fraction, Flags flags) {
    if (!is_known(temperature_c) && !is_known(fraction)) {
        return (flags & flag::boiler_off) != 0 ? Boiler::off : Boiler::unknown;
    }
    const float co2_ppm = fraction * 1e6F;
    if (below(co2_ppm, plan.off_co2_ppm)) {
        const bool is_hot = from(temperature_c, plan.on_temperature_c);
        return is_hot && from(velocity_ms, plan.on_velocity_ms) ? Boiler::off_without_co2 : Boiler::off;
    }
    if (below(temperature_c, plan.off_temperature_c) || below(velocity_ms, plan.off_velocity_ms)) {
        return Boiler::off;
    }
    const bool runs = from_or_unknown(temperature_c, plan.on_temperature_c) &&
                      from_or_unknown(co2_ppm, plan.on_co2_ppm) && from_or_unknown(velocity_ms, plan.on_velocity_ms);
    return runs ? Boiler::runs : Boiler::unknown;
}

}  // namespace

float pressure_from_altitude_kpa(float altitude_m) {
    return 101.325F * std::pow(1.0F - 2.25577e-5F * altitude_m, 5.25588F);
}

float co2_density_kg_m3(float temperature_c, float pressure_kpa) {
    return pressure_kpa * 1000.0F * co2_kg_per_mol / (gas_constant_j_per_mol_k * (temperature_c + zero_celsius_k));
}

float duct_area_m2(const Plan& plan) {
    const float deposit_m = 2.0F * plan.wall_deposit_mm / 1000.0F;
    if (plan.is_circular) {
        const float free_m = plan.diameter_m - deposit_m;
        return free_m > 0.0F ? pi * free_m * free_m / 4.0F : missing;
    }
    const float width_m = plan.width_m - deposit_m;
    const float length_m = plan.length_m - deposit_m;
    return width_m > 0.0F && length_m > 0.0F ? width_m * length_m : missing;
}

Rate rate(const Sample& sample, const Plan& plan, float site_kpa, Flags flags) {
    Rate result;
    result.pressure_kpa = sample.pressure_kpa;
    if (!is_known(sample.pressure_kpa)) {
        flags |= flag::pressure_default | flag::pressure_site;
        result.pressure_kpa = site_kpa;
    } else if (sample.pressure_kpa < 50.0F || sample.pressure_kpa > 110.0F) {
        flags |= flag::pressure_default | flag::pressure_site | flag::pressure_implausible;
        result.pressure_kpa = site_kpa;
    }
    result.co2_fraction = trusted_fraction(sample.co2_ppm, plan, flags);
    const float temperature_c = trusted_temperature(sample.temperature_c, plan, flags);
    result.velocity_ms = measured_velocity(sample, plan, temperature_c, result.pressure_kpa, flags);
    float known_ms = (flags & bad_velocity) != 0 ? missing : result.velocity_ms;
    if (below(known_ms, plan.off_velocity_ms) && from(temperature_c, plan.on_temperature_c) &&
        from(result.co2_fraction * 1e6F, plan.on_co2_ppm)) {
        flags |= flag::velocity_implausible;  // a fire's gas does not stand still: the anemometer has seized
        known_ms = missing;
    }
    if (is_known(known_ms)) {
        result.flow_m3_per_s = plan.profile_factor * known_ms * duct_area_m2(plan);
        if (is_known(temperature_c) && is_known(result.co2_fraction) && (flags & invalidating) == 0) {
            result.co2_kg_per_s =
                result.co2_fraction * result.flow_m3_per_s * co2_density_kg_m3(temperature_c, result.pressure_kpa);
        }
    }
    const float apart = std::fabs(sample.device_co2_kg_per_s - result.co2_kg_per_s);
    if (apart > 0.05F * result.co2_kg_per_s + 1e-4F) {  // false where one of the two is missing
        flags |= flag::device_disagrees;
    }
    result.boiler = vote(plan, temperature_c, known_ms, result.co2_fraction, flags);
    result.flags = flags;
    return result;
}

}  // namespace ct::emission
