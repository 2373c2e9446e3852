"""What is different between a report as it was frozen and the same report out of today's data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isclose

from carbontrack.compliance import Cell, ComplianceReport, Table

NOT_OF_IT = frozenset({"comparison", "corrections", "alerts", "glossary", "verification"})
"""Tables that change while nothing does that a report states: others report, an entry's history goes on."""
MOST = 200
SERIES = frozenset({"days", "hours"})
"""Tables of which only the number of changed rows is told: their sums stand elsewhere."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that is another one now. ``row`` names its row; empty where it speaks of a table as a whole."""

    table: str
    factory: str
    row: str
    column: str
    then: Cell
    now: Cell


def differences(then: ComplianceReport, now: ComplianceReport) -> list[Difference]:
    """The first :data:`MOST` figures that differ, in the order of the report."""
    theirs = {table.name: table for table in then.tables}
    pairs = ((theirs[table.name], table) for table in now.tables if table.name in theirs)
    return list(islice((it for pair in pairs for it in _of_table(*pair)), MOST))


def _of_table(then: Table, now: Table) -> Iterable[Difference]:
    if then.name in NOT_OF_IT or then.rows == now.rows:
        return
    if then.name in SERIES or then.columns != now.columns:
        yield from _counted(then, now)
        return
    keys = [_keys(table) for table in (then, now)]
    if not all(keys):  # rows without names of their own
        yield from _counted(then, now)
        return
    before, after = (dict(zip(found, table.rows, strict=True)) for found, table in zip(keys, (then, now), strict=True))
    for key in [*before, *(key for key in after if key not in before)]:
        yield from _of_row(then, key, before.get(key), after.get(key))


def _of_row(
    table: Table, key: tuple[str, ...], then: Sequence[Cell] | None, now: Sequence[Cell] | None
) -> Iterable[Difference]:
    factory, name = key[0], ", ".join(it for it in key[1:] if it)
    if then is None or now is None:
        words = ("a row", None) if now is None else (None, "a row")
        yield Difference(table.title, factory, name, "", *words)
        return
    for column, old, new in zip(table.columns, then, now, strict=True):
        if not _same(old, new):
            title = f"{column.title}, {column.unit}" if column.unit else column.title
            yield Difference(table.title, factory, name, title, old, new)


def _counted(then: Table, now: Table) -> Iterable[Difference]:
    """How many rows are there no more and are new, by factory."""
    gone, new = Counter(then.rows) - Counter(now.rows), Counter(now.rows) - Counter(then.rows)
    slugs = sorted({str(row[0]) for row in (*gone, *new)})
    for slug in slugs:
        counts = [sum(count for row, count in rows.items() if str(row[0]) == slug) for rows in (gone, new)]
        yield Difference(now.title, slug, "", "rows that differ", *counts)


def _keys(table: Table) -> list[tuple[str, ...]]:
    """A name for each row out of its texts, as few of them as tell the rows apart; none where they do not."""
    texts = [at for at in range(len(table.columns)) if all(isinstance(row[at], str) for row in table.rows)]
    for count in range(1, len(texts) + 1):
        keys = [tuple(str(row[at]) for at in texts[:count]) for row in table.rows]
        if len(set(keys)) == len(keys):
            return keys
    return []


def _same(old: Cell, new: Cell) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return isclose(old, new, rel_tol=1e-12)
    return old == new
