"""What people enter: the same checks and the same question about typing errors for the API and for the forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, ValidationError, create_model

from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.fuels import (
    UNUSUAL_TIMES,
    USUAL_FROM,
    check_entry,
    check_period,
    entry_emissions,
    in_base_unit,
    unusual,
)
from carbontrack.ledger import (
    WOOD_FIELDS,
    EnergyEntry,
    EnergyType,
    EntrySource,
    ProductionEntry,
    Sustainability,
    WoodOrigin,
)
from carbontrack.model import User
from carbontrack.tiers import local_day
from carbontrack.web.errors import Problem, field_errors
from carbontrack.web.rest import WRONG, Id, Input, Output, Reason, zoned
from carbontrack.web.services import Services
from carbontrack.words import decimal, gettext

USUAL_DAYS = 400
"""What is usual is looked for so far back: a year, and the same weeks of the year before."""
COMPARED = 60
"""With so many entries at most, the newest ones."""
UNUSUAL = "urn:carbontrack:problem:unusual-amount"
FIRST_ENTRIES = datetime(2000, 1, 1, tzinfo=UTC)
MOST = 1e9
"""No factory burns or makes so much, in any unit; beyond it a product of factors could be infinite."""
LEAST_PER_DAY = 1e-9


class EnergyInput(Input):
    """``timestamp`` stands for the local day that it lies in."""

    factory_id: Id | None = Field(None, examples=[1])
    """People of a factory may leave it out."""
    energy_type: EnergyType = Field(examples=["firewood"])
    amount: float = Field(le=MOST, examples=[1250])
    """In `unit`."""
    unit: str = Field(max_length=12, examples=["kg"])
    """`kg`, `t`, `m3_stacked`, `litres`, `kWh` or `MWh`, as goes with the energy."""
    timestamp: datetime | None = Field(None, examples=["2026-03-01T12:00:00+03:00"])
    period_start: datetime | None = None
    period_end: datetime | None = None
    stack_id: Id | None = None
    moisture: float | None = Field(None, examples=[0.25])
    """Share of water in the mass of wood, 0 to 1."""
    stack_density_kg_per_m3: float | None = None
    """Mass of a stacked cubic metre, for `m3_stacked`."""
    sustainability: Sustainability = Sustainability.UNKNOWN
    evidence: str = Field("", max_length=200)
    wood_origin: WoodOrigin = WoodOrigin.UNKNOWN
    """Whose wood it was."""
    supplier: str = Field("", max_length=120)
    """Who delivered the wood."""
    species: str = Field("", max_length=80, examples=["Eucalyptus grandis"])
    """The kind of tree."""
    plot: str = Field("", max_length=120, examples=["-0.51,37.28"])
    """Where it grew: a name, or latitude and longitude."""
    harvested_on: date | None = Field(None, examples=["2026-01-15"])
    """The day on which it was cut."""
    permit: str = Field("", max_length=80)
    """The number of the permit to cut or move it."""
    note: str = Field("", max_length=500)
    confirmed: bool = False
    """That an unusual amount is right."""


class ProductionInput(Input):
    """As above; at least one of the two masses is given."""

    factory_id: Id | None = Field(None, examples=[1])
    """People of a factory may leave it out."""
    timestamp: datetime | None = Field(None, examples=["2026-03-01T12:00:00+03:00"])
    period_start: datetime | None = None
    period_end: datetime | None = None
    green_leaf_kg: float | None = Field(None, le=MOST, examples=[45_000])
    made_tea_kg: float | None = Field(None, le=MOST, examples=[10_000])
    evidence: str = Field("", max_length=200)
    note: str = Field("", max_length=500)
    confirmed: bool = False
    """That an unusual amount is right."""


EntryInput = TypeVar("EntryInput", EnergyInput, ProductionInput)


class Changed(Input):
    """What a change says of itself: why, and which version was read."""

    reason: Reason = Field(examples=["read again"])
    """Why; it stays in the history."""
    version: Id | None = None
    """The version that was read: the answer is 409 when somebody else has changed it meanwhile."""


def _changes_of(kind: type[Input], name: str) -> Any:
    """A model with every field of an entry, none of which need be given."""
    fields: dict[str, Any] = {}
    hinted: Any = Annotated  # a type checker takes no type that is made at run time
    for field, info in kind.model_fields.items():
        fields[field] = hinted[info.annotation, *info.metadata, None] | None, Field(None, description=info.description)
    return create_model(name, __base__=Changed, __doc__="What is left out stays as it was.", **fields)


if TYPE_CHECKING:

    class EnergyChange(Changed): ...

    class ProductionChange(Changed): ...

else:
    EnergyChange = _changes_of(EnergyInput, "EnergyChange")
    ProductionChange = _changes_of(ProductionInput, "ProductionChange")


def changed_input(kind: type[EntryInput], before: EnergyEntry | ProductionEntry, given: Changed) -> EntryInput:
    """An entry as it should be: what a request leaves out stays as it was. Raises :class:`Problem` for wrong fields."""
    fields = given.model_dump(exclude_unset=True, exclude=set(Changed.model_fields))
    kept = {name: getattr(before, name) for name in kind.model_fields if hasattr(before, name)}
    if fields.get("timestamp") is not None:
        del kept["period_start"], kept["period_end"]
    try:
        wanted = kind.model_validate(kept | fields)
    except ValidationError as error:
        raise Problem(422, WRONG, field_errors(error)) from None
    if wanted.factory_id not in {None, before.factory_id}:
        raise Problem(
            422, WRONG, (("factory_id", gettext("stays: withdraw the entry and enter it for the other factory")),)
        )
    return wanted


def period_of(given: EnergyInput | ProductionInput, services: Services) -> tuple[datetime, datetime]:
    """The period that an entry is for. Raises :class:`Problem` where it gives none, or half of one."""
    if given.timestamp is not None and given.period_start is None and given.period_end is None:
        day = zoned("timestamp", given.timestamp).astimezone(services.time_zone).date()
        return local_day(day, services.time_zone)
    if given.period_start is None or given.period_end is None:
        missing = "period_start" if given.period_start is None else "period_end"
        raise Problem(422, WRONG, ((missing, gettext("give period_start and period_end, or timestamp for one day")),))
    return zoned("period_start", given.period_start), zoned("period_end", given.period_end)


def factory_to_write(user: User, wanted: int | None) -> int:
    """Whose entry it is: people of a factory write for their own. Raises :class:`Problem` for another's."""
    if user.factory_id is not None:
        if wanted not in {None, user.factory_id}:
            raise Problem(404, gettext("There is no such factory for you."))
        return user.factory_id
    if wanted is None:
        raise Problem(422, WRONG, (("factory_id", gettext("is needed: you may write for every factory")),))
    return wanted


def energy_entry(given: EnergyInput, factory_id: int, services: Services) -> EnergyEntry:
    """The entry as it would be kept. Raises :class:`Problem` with every field that is wrong."""
    start, end = period_of(given, services)
    values = given.model_dump(
        include={
            "energy_type", "amount", "unit", "stack_id", "moisture", "stack_density_kg_per_m3", "sustainability",
            "evidence", "note", "wood_origin", *WOOD_FIELDS,
        }
    )  # fmt: skip
    entry = EnergyEntry(id=0, version=1, factory_id=factory_id, period_start=start, period_end=end, **values)
    problems = check_entry(entry) + _check_start(entry.period_start, services)
    if problems:
        raise Problem(422, WRONG, tuple(problems))
    return entry


def production_entry(given: ProductionInput, factory_id: int, services: Services) -> ProductionEntry:
    """As :func:`energy_entry`."""
    start, end = period_of(given, services)
    problems = check_period(start, end) + _check_start(start, services)
    masses = {"green_leaf_kg": given.green_leaf_kg, "made_tea_kg": given.made_tea_kg}
    problems += [
        (name, gettext("must be a number of at least 0"))
        for name, mass in masses.items()
        if mass is not None and not (isfinite(mass) and mass >= 0)
    ]
    if given.green_leaf_kg is None and given.made_tea_kg is None:
        problems.append(("made_tea_kg", gettext("give green_leaf_kg, made_tea_kg, or both")))
    if problems:
        raise Problem(422, WRONG, tuple(problems))
    return ProductionEntry(
        0, 1, factory_id, start, end, given.green_leaf_kg, given.made_tea_kg, given.evidence, given.note
    )


def _check_start(start: datetime, services: Services) -> list[tuple[str, str]]:
    if start < FIRST_ENTRIES:
        return [("period_start", gettext("lies before %(year)s: is the year right?", year=FIRST_ENTRIES.year))]
    if start > services.clock():
        return [("period_start", gettext("lies in the future: enter what was used, not what is planned"))]
    return []


# --- the question about typing errors


async def question_energy(entry: EnergyEntry, services: Services, before: EnergyEntry | None = None) -> str | None:
    """A question about an amount that is far from what this factory usually enters; None when there is none.

    An amount that an earlier version (``before``) has as well was answered for then.
    """
    if before is not None and before.energy_type is entry.energy_type and _per_day(before) == _per_day(entry):
        return None
    earlier = await services.store.energy_entries(
        entry.factory_id,
        entry.period_start - timedelta(days=USUAL_DAYS),
        entry.period_end,
        energy_type=entry.energy_type,
        limit=COMPARED,
    )
    return energy_question(entry, earlier)


def energy_question(entry: EnergyEntry, earlier: Sequence[EnergyEntry]) -> str | None:
    """The same, where the entries to compare with are at hand: of its factory, its type and its time."""
    same = [_per_day(it) for it in earlier if it.id != entry.id]
    return unusual(max(_per_day(entry), LEAST_PER_DAY), same, in_base_unit(entry)[1])


def _per_day(entry: EnergyEntry) -> float:
    return in_base_unit(entry)[0] / _days(entry.period_start, entry.period_end)


def _days(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds() / 86_400


async def question_production(
    entry: ProductionEntry, services: Services, before: ProductionEntry | None = None
) -> list[tuple[str, str]]:
    """The same for leaf and tea, and whether the two fit: it takes 4 to 5 kg of leaf to make a kg of tea."""
    if before is not None and _amounts(before) == _amounts(entry):
        return []
    earlier = await services.store.production_entries(
        entry.factory_id, entry.period_start - timedelta(days=USUAL_DAYS), entry.period_end, limit=COMPARED
    )
    return production_questions(entry, earlier)


def production_questions(entry: ProductionEntry, earlier: Sequence[ProductionEntry]) -> list[tuple[str, str]]:
    """As :func:`energy_question`."""
    same = [it for it in earlier if it.id != entry.id]
    days = _days(entry.period_start, entry.period_end)
    questions = [
        (name, question)
        for name in ("green_leaf_kg", "made_tea_kg")
        if (mass := getattr(entry, name))  # nothing at all is not unusual: it is Sunday
        and (question := unusual(max(mass / days, LEAST_PER_DAY), _masses(same, name), "kg"))
    ]
    leaf, tea = entry.green_leaf_kg, entry.made_tea_kg
    if not questions and leaf and tea and not 3.5 <= leaf / tea <= 6:
        questions.append(
            (
                "made_tea_kg",
                gettext(
                    "%(leaf)s kg of leaf for a kg of tea; 4 to 5 are usual. Is it right?", leaf=decimal(leaf / tea, 1)
                ),
            )
        )
    return questions


def _amounts(entry: ProductionEntry) -> tuple[object, ...]:
    return entry.green_leaf_kg, entry.made_tea_kg, _days(entry.period_start, entry.period_end)


def _masses(entries: Sequence[ProductionEntry], name: str) -> list[float]:
    return [
        getattr(it, name) / _days(it.period_start, it.period_end) for it in entries if getattr(it, name) is not None
    ]


def questioned(questions: Sequence[tuple[str, str]]) -> Problem:
    """The answer to an amount that may be a typing error."""
    problem = Problem(
        422,
        gettext("An amount is unusual. If it is right, send it again with confirmed: true."),
        tuple((name, gettext("%(question)s Confirm it if it is.", question=question)) for name, question in questions),
    )
    problem.type = UNUSUAL
    return problem


@dataclass(frozen=True, slots=True)
class Usual:
    """What a factory usually enters a day: the median, by which is judged, and from where to where most of it lies.

    ``asked_below`` and ``asked_above`` are where the question begins.
    """

    median: float
    low: float
    high: float

    @property
    def asked_below(self) -> float:
        return self.median / UNUSUAL_TIMES

    @property
    def asked_above(self) -> float:
        return self.median * UNUSUAL_TIMES


def usual_energy(earlier: Sequence[EnergyEntry]) -> Usual | None:
    """What is usual among entries of one type, in the base unit a day; None where there are too few."""
    return _usual([_per_day(it) for it in earlier])


def usual_production(earlier: Sequence[ProductionEntry]) -> dict[str, Usual | None]:
    """The same of leaf and tea, in kg a day, by field."""
    return {name: _usual(_masses(earlier, name)) for name in ("green_leaf_kg", "made_tea_kg")}


def _usual(per_day: Sequence[float]) -> Usual | None:
    if len(per_day) < USUAL_FROM or (middle := median(per_day)) <= 0:
        return None
    ordered = sorted(per_day)
    tenth = len(ordered) // 10
    return Usual(middle, ordered[tenth], ordered[-1 - tenth])


# --- how entries are shown


class Emitted(Output):
    """What an entry emits by the factors of its time: four numbers that are never summed."""

    biogenic: float
    """CO2 of wood, kg."""
    fossil: float
    """CO2 of fossil fuel, kg."""
    ch4_n2o_co2e: float
    """CH4 and N2O, kg CO2e."""
    grid: float
    """Of bought electricity, kg CO2e."""


class FactorUsed(Output):
    name: str
    version: str


class EnergyOut(Output):
    id: int
    """It stays over edits; `version` grows."""
    version: int
    factory_id: int
    energy_type: EnergyType
    amount: float
    """In `unit`."""
    unit: str
    period_start: datetime
    period_end: datetime
    stack_id: int | None
    moisture: float | None
    """Share of water in the mass of wood, 0 to 1."""
    stack_density_kg_per_m3: float | None
    """Mass of a stacked cubic metre."""
    sustainability: Sustainability
    evidence: str
    wood_origin: WoodOrigin
    """Whose wood it was."""
    supplier: str
    """Who delivered it."""
    species: str
    """The kind of tree."""
    plot: str
    """Where it grew: a name, or latitude and longitude."""
    harvested_on: date | None
    """The day on which it was cut."""
    permit: str
    """The number of the permit to cut or move it."""
    note: str
    source: EntrySource
    author: str
    recorded_at: datetime | None
    reason: str
    withdrawn: bool
    """Whether it is out of the accounts."""
    co2_kg: Emitted | None
    """Null where a factor is missing; `remarks` says which."""
    formula: str
    """How `co2_kg` was worked out."""
    factors: list[FactorUsed]
    remarks: list[str]
    """What is missing or was assumed."""


class ProductionOut(Output):
    id: int
    """It stays over edits; `version` grows."""
    version: int
    factory_id: int
    period_start: datetime
    period_end: datetime
    green_leaf_kg: float | None
    made_tea_kg: float | None
    evidence: str
    note: str
    author: str
    recorded_at: datetime | None
    reason: str
    withdrawn: bool
    """Whether it is out of the accounts."""


def show_energy(entry: EnergyEntry, services: Services) -> EnergyOut:
    """An entry as the API gives it, with what it emits by the factors of its time."""
    values = {name: getattr(entry, name) for name in EnergyEntry.__slots__}
    try:
        emission = entry_emissions(entry, services.books.factors)
    except FactorMissing as error:
        return EnergyOut(**values, co2_kg=None, formula="", factors=[], remarks=[str(error)])
    emitted = Emitted(
        biogenic=emission.biogenic_co2_kg,
        fossil=emission.fossil_co2_kg,
        ch4_n2o_co2e=emission.ch4_n2o_co2e_kg,
        grid=emission.grid_co2e_kg,
    )
    return EnergyOut(
        **values,
        co2_kg=emitted,
        formula=emission.formula,
        factors=[FactorUsed(name=row.name, version=row.version) for row in emission.factors],
        remarks=list(emission.remarks),
    )


def show_production(entry: ProductionEntry) -> ProductionOut:
    return ProductionOut.model_validate(entry)


def local_date(moment: datetime, services: Services) -> date:
    return moment.astimezone(services.time_zone).date()
