"""The nouns of the accounting: what is kept of a chimney's hours, of fuel and tea, of factors, targets and statements.

Immutable values without I/O, clock or framework. Names carry their units; times are UTC with zone; a period is
``[start, end)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import msgspec

# --- tiers ------------------------------------------------------------------------------------------------------------


class Summary(msgspec.Struct, frozen=True):
    """One stack over one span of time, as integrals that add up: twelve of 5 minutes are an hour.

    Seconds are those for which readings speak (docs/calculation.md, step 11); what no reading speaks for is in
    neither ``running_s`` nor ``off_s``. All other integrals are over running time only: a boiler that is off emits
    nothing.
    """

    stack_id: int
    start: datetime
    length_s: int
    count: int = 0
    late_count: int = 0
    """Readings that came out of a device's store."""
    running_s: float = 0.0
    off_s: float = 0.0
    valid_s: float = 0.0
    """Running, with a valid rate."""
    co2_kg: float = 0.0
    """Mass over ``valid_s``."""
    co2_s: float = 0.0
    """Running, with a valid CO2 concentration."""
    co2_fraction_s: float = 0.0
    """Mole fraction of CO2 in the wet gas, times seconds, over ``co2_s``."""
    flow_s: float = 0.0
    """Running, with a valid flow."""
    flow_nm3: float = 0.0
    """Wet gas at 273.15 K and 101.325 kPa, over ``flow_s``."""
    temperature_s: float = 0.0
    """Running, with a valid temperature."""
    temperature_c_s: float = 0.0
    """Gas temperature in degC times seconds, over ``temperature_s``."""
    no_co2_s: float = 0.0
    """Hot gas that flows but has no CO2: a fire that just went out, or an analyser that draws air. Counted as off."""
    min_kg_per_s: float | None = None
    max_kg_per_s: float | None = None
    flags: int = 0
    """All flags of all readings (:class:`carbontrack.model.Flag`)."""


class HourStatus(StrEnum):
    """What an hour is good for."""

    VALID = "valid"
    """Measured well enough by the plan's policy."""
    NOT_OPERATING = "not_operating"
    """Known to be off all the time: zero, which is a measurement."""
    INVALID = "invalid"
    """There are readings, but not enough of them are valid."""
    MISSING = "missing"
    """Nothing is known."""


class Cause(StrEnum):
    """Why an hour is not valid (EN 17255-2 asks at least for the first two)."""

    NONE = ""
    MAINTENANCE = "maintenance"
    MALFUNCTION = "malfunction"
    CALIBRATION = "calibration"
    OVER_RANGE = "over_range"
    UNFIT_SENSOR = "unfit_sensor"
    STUCK = "stuck"
    IMPLAUSIBLE = "implausible"
    CO2_LOST = "co2_lost"
    """Hot gas flowed all the hour and had no CO2: the sample line leaks, or the pump stands."""
    NO_DATA = "no_data"


class Hour(msgspec.Struct, frozen=True, gc=False):  # an account makes thousands
    """The official quantity: one stack in one hour (hour-beginning).

    ``co2_kg`` is mean rate times operating time and is there for valid hours only (0 where the boiler is off);
    ``measured_kg`` is what the valid readings themselves add up to and is there always. ``operating_fraction`` is
    None where nothing is known. Means are over running time; None where no valid reading is in it.
    """

    stack_id: int
    start: datetime
    status: HourStatus
    cause: Cause
    co2_kg: float | None
    measured_kg: float
    operating_fraction: float | None
    coverage: float
    """Share of the hour that is known: valid, or known to be off."""
    mean_kg_per_s: float | None
    mean_co2_fraction: float | None
    """Of the wet gas."""
    mean_flow_nm3_per_s: float | None
    """Wet gas at 273.15 K and 101.325 kPa."""
    mean_temperature_c: float | None
    product_of_means_kg_per_s: float | None
    """Mean concentration times mean flow: what MRR Art 44(1) allows where samples cannot be multiplied one by one."""
    count: int
    late_count: int
    flags: int
    method: str
    """The formula version that made it, see :data:`carbontrack.emissions.hours.METHOD`."""
    policy: str
    """The validity policy: ``share`` or ``quadrant``."""
    min_kg_per_s: float | None = None
    max_kg_per_s: float | None = None
    version: int = 1
    """Grows with each change after the hour was over."""


class Day(msgspec.Struct, frozen=True, gc=False):
    """One stack on one local day, out of its hours. ``co2_kg`` is that of the valid hours; nothing is substituted."""

    stack_id: int
    day: date
    valid_hours: int
    not_operating_hours: int
    invalid_hours: int
    operating_h: float
    """Of the hours of which anything is known."""
    coverage: float
    """Share of the day that is known."""
    co2_kg: float
    measured_kg: float
    mean_kg_per_s: float | None
    """Over the operating time of the valid hours."""
    min_kg_per_s: float | None
    max_kg_per_s: float | None
    count: int
    late_count: int


# --- substitution -----------------------------------------------------------------------------------------------------


class Method(StrEnum):
    """How an hour's mass in an account came about."""

    MEASURED = "measured"
    NOT_OPERATING = "not_operating"
    MRR_CONCENTRATION = "mrr_concentration"
    """Measured flow times mean + 2 sigma of the hourly concentrations (MRR Art 45(3))."""
    MRR_RATE = "mrr_rate"
    """Mean + 2 sigma of the hourly rates, where the flow is lost and no fuel was entered."""
    MASS_BALANCE = "mass_balance"
    """From the fuel of the time (MRR Art 45(4))."""
    EPA_BEFORE_AFTER = "epa_before_after"
    EPA_P90 = "epa_p90"
    EPA_P95 = "epa_p95"
    EPA_MAXIMUM = "epa_maximum"
    EPA_POTENTIAL = "epa_potential"
    NONE = "none"
    """No value: nothing to substitute from."""


class AccountHour(msgspec.Struct, frozen=True, gc=False):
    """One hour as an account takes it: the hour, and the mass that counts."""

    hour: Hour
    operating_fraction: float
    """That of the hour, or the estimate where it is not known."""
    method: Method
    co2_kg: float | None
    """None where nothing could be substituted."""
    inflation_kg: float = 0.0
    """How much more this is than the plain mean of the valid hours would be."""


# --- entries ----------------------------------------------------------------------------------------------------------


class EnergyType(StrEnum):
    FIREWOOD = "firewood"
    DIESEL = "diesel"
    ELECTRICITY = "electricity"
    """From the grid."""
    GENSET_ELECTRICITY = "genset_electricity"
    """Made on site. Its emission is that of its diesel, so it has none of its own."""


class Sustainability(StrEnum):
    """Whether a batch of firewood has evidence for the RED criteria (MRR Art 38(5)); unknown counts as no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class WoodOrigin(StrEnum):
    """Whose wood it was: what buyers who ask about deforestation want to know first."""

    UNKNOWN = "unknown"
    OWN_PLANTATION = "own_plantation"
    PURCHASED = "purchased"


WOOD_FIELDS = ("supplier", "species", "plot", "harvested_on", "permit")
"""Of an entry: what says where firewood comes from, beside ``wood_origin``; empty or None where it is not said."""


class EntrySource(StrEnum):
    TYPED = "typed"
    METER = "meter"


@dataclass(frozen=True, slots=True)
class EnergyEntry:
    """Energy used in a period, as somebody entered it or a meter gave it. ``id`` stays over edits, ``version`` grows.

    ``unit`` is one of :data:`UNITS` for its type. ``moisture`` is the water share of the wood's mass as weighed;
    ``stack_density_kg_per_m3`` is the measured mass of one stacked m3. ``stack_id`` names the chimney that the fuel
    burns into; None: the factory's boilers together (firewood), or none (a generator's diesel).
    """

    id: int
    version: int
    factory_id: int
    energy_type: EnergyType
    amount: float
    unit: str
    period_start: datetime
    period_end: datetime
    stack_id: int | None = None
    moisture: float | None = None
    stack_density_kg_per_m3: float | None = None
    sustainability: Sustainability = Sustainability.UNKNOWN
    evidence: str = ""
    """A reference to what proves it: delivery note, invoice, meter reading."""
    wood_origin: WoodOrigin = WoodOrigin.UNKNOWN
    supplier: str = ""
    """Who delivered it."""
    species: str = ""
    plot: str = ""
    """Where it grew: a name, or latitude and longitude."""
    harvested_on: date | None = None
    permit: str = ""
    """The number of the permit to cut or move it."""
    note: str = ""
    source: EntrySource = EntrySource.TYPED
    author: str = ""
    recorded_at: datetime | None = None
    reason: str = ""
    """Why it was changed."""
    withdrawn: bool = False


UNITS: dict[EnergyType, tuple[str, ...]] = {
    EnergyType.FIREWOOD: ("kg", "t", "m3_stacked"),
    EnergyType.DIESEL: ("litres",),
    EnergyType.ELECTRICITY: ("kWh", "MWh"),
    EnergyType.GENSET_ELECTRICITY: ("kWh", "MWh"),
}


@dataclass(frozen=True, slots=True)
class ProductionEntry:
    """Tea of a period; ``green_leaf_kg`` is bought leaf, ``made_tea_kg`` finished tea. None: not entered."""

    id: int
    version: int
    factory_id: int
    period_start: datetime
    period_end: datetime
    green_leaf_kg: float | None
    made_tea_kg: float | None
    evidence: str = ""
    note: str = ""
    author: str = ""
    recorded_at: datetime | None = None
    reason: str = ""
    withdrawn: bool = False


# --- factors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Factor:
    """One emission factor or property: a dated, sourced row.

    ``name`` says what it is of (``firewood.co2``).
    """

    name: str
    value: float
    """In its ``unit``."""
    unit: str
    source: str
    """Where it is published."""
    valid_from: date
    """The first day for which it is valid."""
    valid_to: date | None = None
    """None: until further notice."""
    version: str = ""
    u_relative: float | None = None
    """Relative standard uncertainty (k = 1), None where the source gives none."""
    note: str = ""


# --- targets ----------------------------------------------------------------------------------------------------------


class Metric(StrEnum):
    """What a target limits, and what the leaderboard ranks by."""

    STACK_CO2_PER_TEA = "stack_co2_kg_per_kg_made_tea"
    FOSSIL_CO2E_PER_TEA = "fossil_co2e_kg_per_kg_made_tea"
    """Fossil CO2 and CH4 + N2O (scope 1), with no biogenic CO2 and no grid."""
    GRID_CO2E_PER_TEA = "grid_co2e_kg_per_kg_made_tea"
    WOOD_PER_TEA = "wood_kg_per_kg_made_tea"
    STACK_CO2 = "stack_co2_kg"


class TargetStatus(StrEnum):
    MET = "met"
    NOT_MET = "not_met"
    INSUFFICIENT_DATA = "insufficient_data"


@dataclass(frozen=True, slots=True)
class Target:
    """At most ``value`` (in the metric's own unit), from ``valid_from`` on; ``baseline_value`` is that of the year."""

    id: int
    factory_id: int
    metric: Metric
    value: float
    valid_from: date
    baseline_year: int | None = None
    baseline_value: float | None = None
    author: str = ""
    recorded_at: datetime | None = None
    withdrawn: bool = False


# --- what wood costs --------------------------------------------------------------------------------------------------


class WoodUnit(StrEnum):
    """What wood is bought by."""

    TONNE = "t"
    STACKED_M3 = "m3_stacked"


@dataclass(frozen=True, slots=True)
class WoodPrice:
    """What a factory pays for firewood, from ``valid_from`` on: so many Kenyan shillings for one ``unit``."""

    id: int
    factory_id: int
    kes: float
    unit: WoodUnit
    valid_from: date
    kg_per_m3: float | None = None
    """The measured mass of one stacked m3, for wood that is bought by it; None otherwise."""
    author: str = ""
    recorded_at: datetime | None = None
    withdrawn: bool = False

    @property
    def kes_per_kg(self) -> float:
        """Of wood as weighed."""
        return self.kes / (self.kg_per_m3 or 1000.0)


# --- statements -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
    """An account that was reported: frozen, numbered, hashed. A correction is the next version, with its reason.

    ``figures`` is the whole account as canonical JSON; ``sha256`` is its hash.
    """

    id: int
    factory_id: int
    period_start: datetime
    period_end: datetime
    version: int
    figures: str
    sha256: str
    author: str
    created_at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StatementKey:
    """Which period a statement is of, and which version of it: all but its figures, which may be long."""

    id: int
    factory_id: int
    period_start: datetime
    period_end: datetime
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MeterDay:
    """What one meter counted in one local day.

    ``kind`` is ``boiler_runtime`` (unit h), ``electricity`` (kWh), ``genset_electricity`` (kWh) or ``diesel`` (litres).
    """

    device_id: str
    factory_id: int
    stack_id: int
    meter: str
    kind: str
    unit: str
    day: date
    amount: float
    resets: int
    readings: int
    covered_from: datetime
    covered_until: datetime
    """What of the day the meter's records span."""
