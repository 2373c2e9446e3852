"""Many entries at once: what is to be said of the rows of a table before they are kept.

They are judged by what judges single entries (:mod:`carbontrack.web.entries`), as if they came one after the other.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from carbontrack.emissions.fuels import LONGEST_PERIOD, in_base_unit
from carbontrack.ledger import EnergyEntry, ProductionEntry
from carbontrack.model import Origin, User
from carbontrack.store import Store
from carbontrack.web.access import may_see
from carbontrack.web.entries import (
    COMPARED,
    USUAL_DAYS,
    EnergyInput,
    EntryInput,
    ProductionInput,
    energy_entry,
    energy_question,
    factory_to_write,
    production_entry,
    production_questions,
)
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG
from carbontrack.web.services import Services
from carbontrack.web.upload_rows import Pairs, Row
from carbontrack.words import N_, gettext

NOT_YOURS = N_("is no factory of yours: write its name, or the name in the address of its page")

Entry = TypeVar("Entry", bound=EnergyEntry | ProductionEntry)


@dataclass(frozen=True)
class Kind(Generic[EntryInput, Entry]):
    """In what tables of energy and of tea differ.

    Entries are compared with others of their ``group``; two with the ``same`` value are one and the same.
    """

    given: type[EntryInput]
    make: Callable[[EntryInput, int, Services], Entry]
    group: Callable[[Entry], Hashable]
    same: Callable[[Entry], Hashable]
    ask: Callable[[Entry, Sequence[Entry]], Pairs]
    there: Callable[[Store, int, datetime, datetime], Awaitable[Sequence[Entry]]]
    add: Callable[[Store, Sequence[Entry], Origin, datetime], Awaitable[Sequence[Entry]]]
    example: Mapping[str, str]


def _same_energy(entry: EnergyEntry) -> Hashable:
    amount, _ = in_base_unit(entry)
    return entry.factory_id, entry.energy_type, entry.period_start, entry.period_end, round(amount, 6)


def _ask_energy(entry: EnergyEntry, earlier: Sequence[EnergyEntry]) -> Pairs:
    question = energy_question(entry, earlier)
    return [("amount", question)] if question else []


ENERGY: Kind[EnergyInput, EnergyEntry] = Kind(
    EnergyInput,
    energy_entry,
    group=lambda it: (it.factory_id, it.energy_type),
    same=_same_energy,
    ask=_ask_energy,
    there=Store.energy_entries,
    add=Store.add_energy_entries,
    example={
        "energy_type": "firewood", "amount": "12.5", "unit": "t", "moisture": "0.25", "sustainability": "yes",
        "evidence": "delivery note 4711", "wood_origin": "purchased", "supplier": "Kuni Ltd",
        "species": "Eucalyptus grandis", "plot": "-0.51,37.28", "harvested_on": "2026-01-15", "permit": "KFS 118",
    },
)  # fmt: skip
PRODUCTION: Kind[ProductionInput, ProductionEntry] = Kind(
    ProductionInput,
    production_entry,
    group=lambda it: it.factory_id,
    same=lambda it: (it.factory_id, it.period_start, it.period_end, it.green_leaf_kg, it.made_tea_kg),
    ask=production_questions,
    there=Store.production_entries,
    add=Store.add_production_entries,
    example={"green_leaf_kg": "45000", "made_tea_kg": "10000", "evidence": "book page 12"},
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of a field of a row; ``field`` is empty for what concerns none."""

    row: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row that is kept already as ``entry_id``; None: another row of the table says the same."""

    row: int
    entry_id: int | None
    message: str


@dataclass(slots=True)
class Upload(Generic[Entry]):
    """What is to be said of a table before it is kept; ``entries`` are what would be kept, by row."""

    rows: int
    errors: list[Finding] = field(default_factory=list)
    questions: list[Finding] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Places:
    """The factories that somebody may write for."""

    ids: frozenset[int]
    by_word: Mapping[str, int]
    """By name, and by the name in addresses."""
    stacks: Mapping[int, frozenset[int]]
    """Those of each factory."""


async def examine(
    kind: Kind[EntryInput, Entry],
    rows: Sequence[Row[EntryInput]],
    user: User,
    services: Services,
    *,
    only: int | None = None,
    allow_duplicates: bool = False,
) -> Upload[Entry]:
    """Judge the rows of a table; ``only`` is the factory that all of them are for, if there is one."""
    places = await _places(user, services)
    upload: Upload[Entry] = Upload(len(rows))
    # Beside the loop: some thousand rows take seconds, and devices wait for nobody.
    made = await asyncio.to_thread(_make_all, kind, rows, user, services, places, only, upload)
    there = await _there(kind, made.values(), services)
    await asyncio.to_thread(_compare, kind, made, there, upload, allow_duplicates=allow_duplicates)
    return upload


async def _places(user: User, services: Services) -> _Places:
    mine = [it for it in await services.store.factories() if may_see(user, it.id)]
    stacks = defaultdict(set)
    for stack in await services.store.stacks(user.factory_id):
        stacks[stack.factory_id].add(stack.id)
    return _Places(
        frozenset(it.id for it in mine),
        {it.name.casefold(): it.id for it in mine} | {it.slug.casefold(): it.id for it in mine},
        {factory_id: frozenset(ids) for factory_id, ids in stacks.items()},
    )


def _make_all(
    kind: Kind[EntryInput, Entry],
    rows: Sequence[Row[EntryInput]],
    user: User,
    services: Services,
    places: _Places,
    only: int | None,
    upload: Upload[Entry],
) -> dict[int, Entry]:
    """The entries by row; what is wrong is added to the upload."""
    made = {}
    for row in rows:
        try:
            made[row.number] = _make(kind, row, user, services, places, only)
        except Problem as problem:
            upload.errors += [Finding(row.number, *pair) for pair in problem.errors]
    return made


def _make(
    kind: Kind[EntryInput, Entry],
    row: Row[EntryInput],
    user: User,
    services: Services,
    places: _Places,
    only: int | None,
) -> Entry:
    if row.given is None:
        raise Problem(422, WRONG, tuple(row.errors))
    entry = kind.make(row.given, _factory(row, user, places, only), services)
    stack_id = entry.stack_id if isinstance(entry, EnergyEntry) else None
    if stack_id is not None and stack_id not in places.stacks.get(entry.factory_id, ()):
        raise Problem(422, WRONG, (("stack_id", gettext("is no stack of this factory")),))
    return entry


def _factory(row: Row[EntryInput], user: User, places: _Places, only: int | None) -> int:
    """Whose entry a row is. One that is not the user's is as good as none."""
    assert row.given is not None
    named: dict[str, int | None] = {"factory_id": row.given.factory_id}
    if row.factory:
        named["factory"] = places.by_word.get(row.factory.casefold(), 0)
    for column, factory_id in named.items():
        if factory_id is not None and factory_id not in places.ids:
            raise Problem(422, WRONG, ((column, gettext(NOT_YOURS)),))
        if only is not None and factory_id not in {None, only}:
            raise Problem(422, WRONG, ((column, gettext("is not the factory that this table was sent for")),))
    wanted = {factory_id for factory_id in (only, *named.values()) if factory_id is not None}
    if len(wanted) > 1:
        raise Problem(422, WRONG, (("factory", gettext("and factory_id are not the same factory")),))
    return factory_to_write(user, next(iter(wanted), None))


async def _there(kind: Kind[EntryInput, Entry], made: Iterable[Entry], services: Services) -> list[Entry]:
    """What is kept already of the factories and the time that a table speaks of, and of the time before."""
    by_factory = defaultdict(list)
    for entry in made:
        by_factory[entry.factory_id].append(entry)
    found: list[Entry] = []
    for factory_id, entries in by_factory.items():
        since = min(it.period_start for it in entries) - timedelta(days=USUAL_DAYS)
        found += await kind.there(services.store, factory_id, since, max(it.period_end for it in entries))
    return found


def _compare(
    kind: Kind[EntryInput, Entry],
    made: Mapping[int, Entry],
    there: Sequence[Entry],
    upload: Upload[Entry],
    *,
    allow_duplicates: bool,
) -> None:
    """Find duplicates and unusual amounts among what is there already and what comes with it."""
    known = {kind.same(entry): entry.id for entry in there}
    rows: dict[Entry, int] = {}
    for number, entry in made.items():
        entry_id, first = known.get(kind.same(entry)), rows.setdefault(entry, number)
        if entry_id is not None:
            text = gettext("is there already, as entry %(number)s", number=entry_id)
            upload.duplicates.append(Duplicate(number, entry_id, text))
        elif first != number:
            text = gettext("says the same as row %(number)s", number=first)
            upload.duplicates.append(Duplicate(number, None, text))
    skipped = set() if allow_duplicates else {it.row for it in upload.duplicates}
    upload.entries = {number: entry for number, entry in made.items() if number not in skipped}
    # What is new has no number yet; for the comparison it has one of its own.
    fresh: dict[int, Entry] = {row: replace(entry, id=-row) for row, entry in upload.entries.items()}
    history = _History([*there, *fresh.values()], kind.group)
    for row, entry in fresh.items():
        upload.questions += [Finding(row, *pair) for pair in kind.ask(entry, history.before(entry))]


class _History(Generic[Entry]):
    """Entries by what they are compared within, and by time."""

    def __init__(self, entries: Iterable[Entry], group: Callable[[Entry], Hashable]) -> None:
        self._group = group
        self._entries: dict[Hashable, list[Entry]] = defaultdict(list)
        for entry in sorted(entries, key=lambda it: (it.period_start, it.id)):
            self._entries[group(entry)].append(entry)

    def before(self, entry: Entry) -> list[Entry]:
        """The entries that the store would give for the question about this one: those that began before it ended."""
        same = self._entries[self._group(entry)]
        since = entry.period_start - timedelta(days=USUAL_DAYS)
        found: list[Entry] = []
        for at in range(bisect_left(same, entry.period_end, key=lambda it: it.period_start) - 1, -1, -1):
            if len(found) == COMPARED or same[at].period_start <= since - LONGEST_PERIOD:
                break
            if same[at].period_end > since:
                found.append(same[at])
        return found
