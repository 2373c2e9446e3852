"""How a factory fires: wood for a kg of tea against its own best and the network, air by the hour, what can be saved.

Pure functions over entries and hours. Masses of wood are as weighed, intensities in kg wood per kg made tea.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import floor, fsum, log10
from statistics import quantiles

from carbontrack.emissions.accounts import StackInput, intensity, produced
from carbontrack.emissions.combustion import AirZone, air_zone
from carbontrack.emissions.fuels import in_base_unit, part_in_period
from carbontrack.emissions.gas import wet_to_dry_fraction
from carbontrack.ledger import EnergyEntry, EnergyType, HourStatus, ProductionEntry

LEAST_COVER = 0.7
"""So much of a period must be entered before it is compared: one day a week off leaves 0.86."""
MOST_APART = 0.1
"""By how much the cover of wood and of tea may differ: a day of tea without its wood makes a false best."""
FEWEST_FACTORIES = 5
"""Among fewer, quartiles would tell who has which value."""
DAYS_A_MONTH = 365.25 / 12
ONE_POINT = 0.01
"""Of the wood's heat: what "1 % less stack loss" means."""


@dataclass(frozen=True, slots=True)
class WoodUse:
    """Wood and tea that were entered for [start, end). ``*_cover`` is the share of the time that entries are of."""

    start: datetime
    end: datetime
    wood_kg: float | None
    made_tea_kg: float | None
    wood_cover: float
    tea_cover: float

    @property
    def per_tea(self) -> float | None:
        """Kg wood per kg made tea: what the account of the same period gives."""
        return intensity(self.wood_kg, self.made_tea_kg)

    @property
    def is_comparable(self) -> bool:
        """Whether enough is entered, of wood and tea alike, to hold it against another period or factory."""
        covers = (self.wood_cover, self.tea_cover)
        return self.per_tea is not None and min(covers) >= LEAST_COVER and max(covers) - min(covers) <= MOST_APART


def wood_use(
    energy: Iterable[EnergyEntry], production: Sequence[ProductionEntry], start: datetime, end: datetime
) -> WoodUse:
    """Wood and tea of a period; entries that lie partly in it count by their share of the time, as in an account."""
    wood = [it for it in energy if it.energy_type is EnergyType.FIREWOOD and not it.withdrawn]
    parts = [(it, part_in_period(it.period_start, it.period_end, start, end)) for it in wood]
    masses = [in_base_unit(it)[0] * share for it, share in parts if share]
    tea = [it for it in production if it.made_tea_kg is not None and not it.withdrawn]
    return WoodUse(
        start,
        end,
        fsum(masses) if masses else None,
        produced(tea, start, end, lambda entry: entry.made_tea_kg),
        _cover(((it.period_start, it.period_end) for it in wood), start, end),
        _cover(((it.period_start, it.period_end) for it in tea), start, end),
    )


def _cover(spans: Iterable[tuple[datetime, datetime]], start: datetime, end: datetime) -> float:
    """The share of [start, end) that spans cover; what two of them cover counts once."""
    covered, reached = timedelta(0), start
    for first, last in sorted(spans):
        begin, until = max(first, reached), min(last, end)
        if until > begin:
            covered, reached = covered + (until - begin), until
    return covered / (end - start)


def own_best(periods: Iterable[WoodUse]) -> WoodUse | None:
    """The period with the least wood per tea, of those that can be compared; None without any."""
    return min((it for it in periods if it.is_comparable), key=lambda it: it.per_tea or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Of an intensity over the factories of the network; no factory is named."""

    lower: float
    median: float
    upper: float
    factories: int
    """How many can be compared."""


def network_quartiles(uses: Iterable[WoodUse]) -> Quartiles | None:
    """Quartiles of wood per tea of the factories that can be compared; None for fewer than :data:`FEWEST_FACTORIES`."""
    values = [it.per_tea for it in uses if it.is_comparable and it.per_tea is not None]
    if len(values) < FEWEST_FACTORIES:
        return None
    lower, median, upper = quantiles(values, n=4, method="inclusive")
    return Quartiles(lower, median, upper, len(values))


# --- the air of a fire, by the hour


@dataclass(frozen=True, slots=True)
class Air:
    """What the air of a fire was like: running hours in each zone, and by CO2 in the dry gas."""

    stack_id: int
    hours: Mapping[AirZone, float]
    by_percent: Mapping[int, float]
    """Running hours by whole % of CO2 in the dry gas: those under 9 are of 9 % and more, less than 10 %."""
    impossible_h: float = 0.0
    """More CO2 than wood can make: the analyser is wrong. These hours are in no zone."""

    @property
    def running_h(self) -> float:
        return fsum(self.hours.values())

    def share(self, zone: AirZone) -> float | None:
        """Of the running time; None where nothing ran."""
        return self.hours[zone] / self.running_h if self.running_h else None


MOST_PERCENT = 20
"""More CO2 than that in the dry gas is no wood fire's (20.4 %)."""


def air_of(item: StackInput) -> Air:
    """The air of one boiler, from the running time of its valid hours.

    An hour's CO2 is the mean of its running time: the swings of one charge of wood, which last minutes, are not seen.
    """
    hours = dict.fromkeys(AirZone, 0.0)
    by_percent: dict[int, float] = {}
    impossible = 0.0
    for taken in item.hours:
        hour = taken.hour
        if hour.status is not HourStatus.VALID or not hour.mean_co2_fraction:
            continue
        co2_dry = wet_to_dry_fraction(hour.mean_co2_fraction, item.plan.h2o_fraction)
        percent = floor(co2_dry * 100)
        if percent > MOST_PERCENT:
            impossible += taken.operating_fraction
            continue
        hours[air_zone(co2_dry)] += taken.operating_fraction
        by_percent[percent] = by_percent.get(percent, 0.0) + taken.operating_fraction
    return Air(item.stack.id, hours, by_percent, impossible)


# --- what can be saved


class SavingWay(StrEnum):
    """What would have to happen."""

    OWN_BEST = "own_best"
    NETWORK_QUARTER = "network_quarter"
    LESS_LOSS = "less_loss"
    FIRED_WELL = "fired_well"


@dataclass(frozen=True, slots=True)
class Saving:
    """What one way would save, of the wood that the factory burns in a month. The ways do not add up."""

    way: SavingWay
    share: float
    """Of the wood."""
    wood_kg: float
    """A month."""
    kes: float | None
    """A month; None without a price."""


def monthly_wood_kg(use: WoodUse) -> float | None:
    """Wood of a month of 30.4 days at the rate of a period; None where the period is not comparable."""
    if not use.is_comparable or use.wood_kg is None:
        return None
    return use.wood_kg / ((use.end - use.start) / timedelta(days=1)) * DAYS_A_MONTH


def share_to_reach(now: float, goal: float) -> float:
    """Of the wood, what is not needed at the intensity ``goal``; 0 where it is reached already."""
    return max(0.0, 1 - goal / now)


def share_of_less_loss(loss: float, points: float = ONE_POINT) -> float:
    """Of the wood, what is not needed for the same heat with so much less loss: ``points / (1 - loss + points)``.

    ``loss`` and ``points`` are shares of the wood's heat. Raises :class:`ValueError` where there is not so much loss.
    """
    if not 0 <= points <= loss < 1:
        raise ValueError(f"a loss of {loss:.1%} cannot become {points:.1%} less")
    return points / (1 - loss + points)


def weighted_mean(values: Sequence[tuple[float, float]]) -> float | None:
    """The mean of pairs of value and weight, such as boilers' losses by the CO2 that they gave; None without weight."""
    weight = fsum(it for _, it in values)
    return fsum(value * it for value, it in values) / weight if weight else None


def savings(
    use: WoodUse,
    *,
    best: WoodUse | None,
    network: Quartiles | None,
    loss: float | None,
    fired_well_share: float | None,
    kes_per_kg: float | None,
) -> list[Saving]:
    """What each way would save in a month, those that save nothing left out; none where ``use`` is not comparable."""
    wood_kg, now = monthly_wood_kg(use), use.per_tea
    if wood_kg is None or not now:
        return []
    shares: dict[SavingWay, float] = {}
    if best is not None and best.per_tea is not None:
        shares[SavingWay.OWN_BEST] = share_to_reach(now, best.per_tea)
    if network is not None:
        shares[SavingWay.NETWORK_QUARTER] = share_to_reach(now, network.lower)
    if loss is not None and ONE_POINT <= loss < 1:
        shares[SavingWay.LESS_LOSS] = share_of_less_loss(loss)
    if fired_well_share is not None:
        shares[SavingWay.FIRED_WELL] = fired_well_share
    return [
        Saving(way, share, wood_kg * share, None if kes_per_kg is None else wood_kg * share * kes_per_kg)
        for way, share in shares.items()
        if share > 0
    ]


def about(value: float) -> float:
    """A value with two digits that count: entries of wood are not known better than that."""
    return 0.0 if value <= 0 else round(value, 1 - floor(log10(value)))
