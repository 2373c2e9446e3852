"""The physics and the accounting, as pure functions: no database, no broker, no clock.

Whoever doubts a figure can work it out again with these and a few lines of Python; ``docs/accounting.md`` has worked
examples that run as tests. Each function says where its formula is from.
"""

from carbontrack.emissions.accounts import (
    Account,
    account,
    canonical_json,
    corroborate,
    intensity,
    split_stack_co2,
    to_dict,
)
from carbontrack.emissions.combustion import (
    dry_gas_loss,
    excess_air_from_co2_dry,
    flue_gas,
    net_calorific_value_mj_per_kg,
    siegert_coefficient,
    stack_loss,
    wood_kg_from_co2_kg,
    wood_saved_share,
)
from carbontrack.emissions.factors import FactorError, FactorMissing, FactorSet, parse_factors
from carbontrack.emissions.fuels import (
    diesel_emissions,
    entry_emissions,
    grid_emissions,
    wood_emissions,
    wood_mass_kg,
)
from carbontrack.emissions.gas import (
    CO2_KG_PER_NM3,
    actual_flow_m3_per_s,
    co2_density_kg_m3,
    co2_mass_rate_from_normal_kg_per_s,
    co2_mass_rate_kg_per_s,
    diluted_ppm,
    dry_to_wet_fraction,
    duct_area_m2,
    equivalent_diameter_m,
    normal_flow_dry_nm3_per_s,
    normal_flow_wet_nm3_per_s,
    pitot_velocity_ms,
    pressure_from_altitude_kpa,
    undiluted_ppm,
    wet_to_dry_fraction,
)
from carbontrack.emissions.hours import hour_is_valid, hour_mass_kg, hour_of, quadrants_are_valid, summarise
from carbontrack.emissions.rate import emission_rate
from carbontrack.emissions.substitution import (
    annual_emission_t,
    epa_substitute,
    mean_plus_two_sigma,
    substitute,
    total,
)
from carbontrack.emissions.targets import leaderboard, target_status
from carbontrack.emissions.uncertainty import budget, combine_product, combine_sum, expanded, mrr_tier

__all__ = [
    "CO2_KG_PER_NM3",
    "Account",
    "FactorError",
    "FactorMissing",
    "FactorSet",
    "account",
    "actual_flow_m3_per_s",
    "annual_emission_t",
    "budget",
    "canonical_json",
    "co2_density_kg_m3",
    "co2_mass_rate_from_normal_kg_per_s",
    "co2_mass_rate_kg_per_s",
    "combine_product",
    "combine_sum",
    "corroborate",
    "diesel_emissions",
    "diluted_ppm",
    "dry_gas_loss",
    "dry_to_wet_fraction",
    "duct_area_m2",
    "emission_rate",
    "entry_emissions",
    "epa_substitute",
    "equivalent_diameter_m",
    "excess_air_from_co2_dry",
    "expanded",
    "flue_gas",
    "grid_emissions",
    "hour_is_valid",
    "hour_mass_kg",
    "hour_of",
    "intensity",
    "leaderboard",
    "mean_plus_two_sigma",
    "mrr_tier",
    "net_calorific_value_mj_per_kg",
    "normal_flow_dry_nm3_per_s",
    "normal_flow_wet_nm3_per_s",
    "parse_factors",
    "pitot_velocity_ms",
    "pressure_from_altitude_kpa",
    "quadrants_are_valid",
    "siegert_coefficient",
    "split_stack_co2",
    "stack_loss",
    "substitute",
    "summarise",
    "target_status",
    "to_dict",
    "total",
    "undiluted_ppm",
    "wet_to_dry_fraction",
    "wood_emissions",
    "wood_kg_from_co2_kg",
    "wood_mass_kg",
    "wood_saved_share",
]
