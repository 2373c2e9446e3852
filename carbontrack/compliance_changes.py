"""What two data sets of the same factories and period say differently: what was kept, and what the data say now.

Rows are found again by what names them (:data:`NAMES`), so that one that was put in does not shift all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from math import isclose

from carbontrack.compliance import Cell, Check, ComplianceReport, Table, rows_of

MOST_LINES = 20
MOST_OF_A_TABLE = 4
"""With more of one table only so many are shown, so that thousands of hours do not hide a delivery of wood."""
NAMES: Mapping[str, tuple[str, ...]] = {
    "identity": ("factory",),
    "emission_points": ("factory", "stack"),
    "source_streams": ("factory", "stream"),
    "results": ("factory", "title"),
    "results_by_stack": ("factory", "stack"),
    "results_by_fuel": ("factory", "energy"),
    "intensities": ("factory", "metric"),
    "comparison": ("factory", "metric"),
    "production": ("factory",),
    "data_quality": ("factory", "stack"),
    "hours_by_cause": ("factory", "stack", "status", "cause"),
    "substitution": ("factory", "stack", "method"),
    "calibrations": ("factory", "stack", "from"),
    "uncertainty": ("factory", "stack", "factor"),
    "corroboration": ("factory",),
    "biomass": ("factory", "entry"),
    "targets": ("factory", "metric", "since"),
    "alerts": ("factory", "rule", "severity"),
    "corrections": ("factory", "kind", "number", "version", "from"),
    "days": ("factory", "stack", "day"),
    "hours": ("factory", "stack", "start"),
    "factors": ("name", "from"),
    "verification": ("item",),
    "glossary": ("term",),
}
"""The columns of each table that say which row is which. What has the same names is counted."""
FIGURES = frozenset({
    "results", "results_by_stack", "results_by_fuel", "intensities", "production", "data_quality", "hours_by_cause",
    "substitution", "uncertainty", "corroboration", "biomass", "days", "hours",
})  # fmt: skip
"""Where these differ, other figures would be reported now. The others may change while every figure stays: other
factories' medians, targets, alerts, a plan that is in force since."""


class ChangeKind(StrEnum):
    """What has happened to a row."""

    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Line:
    """One cell that differs, or one row that came or went. Titles are those of the data set, in English."""

    table: str
    factory: str
    """Its short name; empty where a table is of none."""
    row: str
    """What names the row, without the factory."""
    kind: ChangeKind
    column: str = ""
    """Empty for a row that came or went."""
    unit: str = ""
    then: Cell = None
    now: Cell = None


@dataclass(frozen=True, slots=True)
class Changes:
    """How a kept report differs from what the data say now."""

    is_same: bool
    """Nothing differs, not even a version or a check."""
    figures_differ: bool
    """A figure, an hour or an entry of the report differs: what was kept is not what would be reported now."""
    counts: Mapping[str, int]
    """By the title of each table that differs: how many cells and rows."""
    lines: tuple[Line, ...]
    """:data:`MOST_LINES` of them at most: figures first, then what stands beside them."""
    versions: tuple[tuple[str, str, str], ...] = ()
    """Of software, formulas and factors: name, then, now."""
    checks_gone: tuple[Check, ...] = ()
    checks_new: tuple[Check, ...] = ()
    not_compared: tuple[str, ...] = ()
    """The titles of tables that only one of the two has: the software has learned or left something."""


def changes(then: ComplianceReport, now: ComplianceReport) -> Changes:
    """What ``now`` says differently from ``then``."""
    new = {table.name: table for table in now.tables}
    pairs = [(table, new[table.name]) for table in then.tables if table.name in new]
    found = {old.name: list(_differences(old, other)) for old, other in pairs}
    in_order = sorted(found, key=lambda name: name not in FIGURES)  # figures first, each in the report's order
    shown = chain.from_iterable(found[name][:MOST_OF_A_TABLE] for name in in_order)
    names = sorted({*then.versions, *now.versions})
    versions = [(name, then.versions.get(name, ""), now.versions.get(name, "")) for name in names]
    return Changes(
        is_same=then.sha256 == now.sha256,
        figures_differ=any(lines for name, lines in found.items() if name in FIGURES),
        counts={old.title: len(found[old.name]) for old, _ in pairs if found[old.name]},
        lines=tuple(shown)[:MOST_LINES],
        versions=tuple(it for it in versions if it[1] != it[2]),
        checks_gone=_only_in(then.checks, now.checks),
        checks_new=_only_in(now.checks, then.checks),
        not_compared=_only_one_has(then.tables, now.tables),
    )


def _only_in(these: Iterable[Check], others: Iterable[Check]) -> tuple[Check, ...]:
    known = {check.text for check in others}
    return tuple(check for check in these if check.text not in known)


def _only_one_has(then: Sequence[Table], now: Sequence[Table]) -> tuple[str, ...]:
    titles = {table.name: table.title for table in (*then, *now)}
    alone = {table.name for table in then} ^ {table.name for table in now}
    return tuple(title for name, title in titles.items() if name in alone)


Row = Mapping[str, Cell]


def _differences(then: Table, now: Table) -> Iterator[Line]:
    old, new = _by_name(then), _by_name(now)
    columns = [it for it in then.columns if it.name in {column.name for column in now.columns}]
    for key, row in old.items():
        factory, name = _called(then, row)
        other = new.get(key)
        if other is None:
            yield Line(then.title, factory, name, ChangeKind.REMOVED)
            continue
        for it in columns:
            if not _is_alike(row[it.name], other[it.name]):
                cells = (row[it.name], other[it.name])
                yield Line(then.title, factory, name, ChangeKind.CHANGED, it.title, it.unit, *cells)
    for key, row in new.items():
        if key not in old:
            yield Line(now.title, *_called(now, row), ChangeKind.ADDED)


def _by_name(table: Table) -> dict[tuple[Cell, ...], Row]:
    """The rows by what names them; those of the same name are numbered."""
    names, seen = _names(table), Counter[tuple[Cell, ...]]()
    found: dict[tuple[Cell, ...], Row] = {}
    for row in rows_of(table):
        name = tuple(row[it] for it in names)
        found[(*name, seen[name])] = row
        seen[name] += 1
    return found


def _names(table: Table) -> list[str]:
    there = [column.name for column in table.columns]
    return [it for it in NAMES.get(table.name, tuple(there[:2])) if it in there]


def _called(table: Table, row: Row) -> tuple[str, str]:
    own = [it for it in _names(table) if it != "factory"]
    return str(row.get("factory") or ""), ", ".join(str(row[it]) for it in own if row[it] is not None)


def _is_alike(then: Cell, now: Cell) -> bool:
    if isinstance(then, float) and isinstance(now, float):
        return isclose(then, now, rel_tol=1e-9)
    return then == now


def told_apart(then: Cell, now: Cell) -> tuple[str, str]:
    """Two cells as texts, with as many digits as it takes to see that they differ. What is not known is a dash."""
    if isinstance(then, int | float) and isinstance(now, int | float):
        largest = max(abs(then), abs(now))
        if isinstance(then, int) and isinstance(now, int):
            return f"{then:,}", f"{now:,}"
        fewest = 0 if largest >= 1000 else 1 if largest >= 10 else 3
        for digits in range(fewest, 13):
            texts = f"{then:,.{digits}f}", f"{now:,.{digits}f}"
            if texts[0] != texts[1]:
                return texts
    return _text(then), _text(now)


def _text(cell: Cell) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, float):
        return f"{cell:,.{0 if abs(cell) >= 1000 else 3}f}"
    return str(cell)
