"""What the cells of an uploaded table mean: from rows of texts and numbers to what single entries are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any, Generic

from pydantic import ValidationError

from carbontrack.ledger import UNITS, EnergyType, Sustainability, WoodOrigin
from carbontrack.tiers import local_day
from carbontrack.web.entries import EntryInput
from carbontrack.web.errors import Problem, field_errors
from carbontrack.web.rest import YEARS, Input, zoned
from carbontrack.web.spreadsheets import Cell, Table
from carbontrack.words import gettext

TIMES = {"timestamp", "period_start", "period_end"}
DAYS = {"harvested_on"}
CHOICES = {"energy_type", "unit", "sustainability", "wood_origin"}
NUMBERS = {
    "factory_id", "stack_id", "amount", "moisture", "stack_density_kg_per_m3", "green_leaf_kg", "made_tea_kg",
}  # fmt: skip
WORDS = {
    word.casefold(): word
    for word in (*EnergyType, *Sustainability, *WoodOrigin, *(unit for units in UNITS.values() for unit in units))
}
"""However they are written."""
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[ .,'\u2019\u00a0\u202f][0-9]{3})+(?:[.,][0-9]+)?")
SPREADSHEET_ERROR = re.compile(
    r"#(?:DIV/0!|N/A|NAME\?|NULL!|NUM!|REF!|VALUE!|SPILL!|CALC!|FIELD!|BLOCKED!|BUSY!|CONNECT!|UNKNOWN!|GETTING_DATA)"
)
EXAMPLE = "Example: replace this row"
"""The note of a template's row: nobody has burned that wood."""

Pairs = Sequence[tuple[str, str]]
"""Field and message."""


@dataclass(frozen=True, slots=True)
class Row(Generic[EntryInput]):
    """A row as it was written: ``given`` is None where ``errors`` say what is wrong."""

    number: int
    given: EntryInput | None
    factory: str = ""
    errors: Pairs = ()


def columns_for(kind: type[Input]) -> list[str]:
    """The columns that a table may have."""
    return ["factory", *(name for name in kind.model_fields if name != "confirmed")]


def read_rows(table: Table, kind: type[EntryInput], zone: tzinfo) -> list[Row[EntryInput]]:
    """Read a table's cells. Raises :class:`Problem` where its columns are not those of such a table."""
    columns = _columns(table.head, kind)
    return [_row(number, cells, columns, kind, zone, table.separator) for number, cells in table.rows]


def _columns(head: Sequence[str], kind: type[EntryInput]) -> list[str]:
    names, known = [name.casefold() for name in head], columns_for(kind)
    errors = [(name[:60], gettext("is no such column")) for name in dict.fromkeys(names) if name and name not in known]
    errors += [(name, gettext("is there twice")) for name in known if names.count(name) > 1]
    needed = [name for name, info in kind.model_fields.items() if info.is_required()]
    errors += [(name, gettext("is needed, and is not there")) for name in needed if name not in names]
    if errors:
        text = gettext("The columns do not fit. There are %(names)s.", names=", ".join(known))
        raise Problem(422, text, tuple(errors))
    return names


def _row(
    number: int, cells: Sequence[Cell], columns: Sequence[str], kind: type[EntryInput], zone: tzinfo, separator: str
) -> Row[EntryInput]:
    values: dict[str, Any] = {}
    errors: list[tuple[str, str]] = []
    if any(cell != "" for cell in cells[len(columns) :]):
        errors.append(("", gettext("has more cells than the first row has names of columns")))
    for name, cell in zip(columns, cells, strict=False):
        if cell == "":
            continue
        if not name:
            text = gettext("has %(cell)s in a column without a name", cell=repr(str(cell)[:20]))
            errors.append(("", text))
            continue
        try:
            values[name] = _value(name, cell, zone, separator)
        except ValueError as error:
            errors.append((name, str(error)))
        except Problem as problem:
            errors += problem.errors
    factory = values.pop("factory", "")
    if values.get("note") == EXAMPLE:
        text = gettext("is that of the template's example: put an entry of yours in its place, or delete it")
        errors.append(("note", text))
    wrong = {name for name, _ in errors}
    try:
        given = kind.model_validate(values)
    except ValidationError as error:
        errors += [(name, text) for name, text in field_errors(error) if name not in wrong]
    return Row(number, None if errors else given, factory, tuple(errors))


def _value(name: str, cell: Cell, zone: tzinfo, separator: str) -> Any:
    """What a cell says. Raises ValueError with what to write instead, or :class:`Problem`."""
    if isinstance(cell, str) and SPREADSHEET_ERROR.fullmatch(cell):
        raise ValueError(gettext("is an error of the spreadsheet (%(cell)s): mend its formula", cell=cell))
    if name in NUMBERS:
        return cell if isinstance(cell, float) else number(cell, separator)
    text = cell if isinstance(cell, str) else f"{cell:.15g}"
    if name in TIMES:
        return _moment(name, text, zone)
    if name in DAYS:
        return _day(text)
    return WORDS.get(text.casefold(), text) if name in CHOICES else text


def _day(text: str) -> date:
    with suppress(ValueError):
        if DAY.fullmatch(text):
            return date.fromisoformat(text)
    raise ValueError(gettext("must be a day such as 2026-03-01"))


def number(text: str, separator: str) -> float:
    """A number as people write it in a table with this separator. Raises ValueError for what could be another one."""
    if THOUSANDS.fullmatch(text) and (separator == ";" or not NUMBER.fullmatch(text)):
        raise ValueError(
            gettext("may have a separator of thousands: write 1250 without one, and a fraction as 1.25 or 1.2500")
        )
    if separator != "," and "." not in text:
        text = text.replace(",", ".", 1)
    if not NUMBER.fullmatch(text):
        raise ValueError(gettext("must be a number such as 1250 or 12.5, without its unit"))
    return float(text)


def _moment(name: str, text: str, zone: tzinfo) -> datetime:
    """A day begins, or as the end of a period ends, by the local clock; a time has its zone with it."""
    try:
        if not DAY.fullmatch(text):
            return zoned(name, datetime.fromisoformat(text))
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(
            gettext("must be a day such as 2026-03-01, or a time with its zone such as 2026-03-01T06:00:00+03:00")
        ) from None
    if day.year not in YEARS:
        raise ValueError(gettext("must be of the years %(first)s to %(last)s", first=YEARS[0], last=YEARS[-1]))
    return local_day(day, zone)[1 if name == "period_end" else 0]
