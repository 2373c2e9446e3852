"""What a report says that the data do not say any more: by row and by value, few enough to be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.compliance import Cell, Check, ComplianceReport, Severity, Table
from carbontrack.compliance_changes import (
    FIGURES,
    MOST_LINES,
    MOST_OF_A_TABLE,
    NAMES,
    ChangeKind,
    changes,
    told_apart,
)
from carbontrack.testing import compliance_report

NUMBERS = st.integers(-(10**9), 10**9) | st.floats(-1e12, 1e12)


def with_rows(report: ComplianceReport, name: str, *rows: tuple[Cell, ...]) -> ComplianceReport:
    """The report with other rows in one of its tables."""
    tables = (replace(it, rows=rows) if it.name == name else it for it in report.tables)
    return compliance_report(tables=tuple(tables), versions=report.versions, checks=report.checks)


def changed(table: Table, row: int, column: str, value: Cell) -> tuple[tuple[Cell, ...], ...]:
    at = [it.name for it in table.columns].index(column)
    rows = [list(cells) for cells in table.rows]
    rows[row][at] = value
    return tuple(tuple(cells) for cells in rows)


def test_nothing_differs_from_itself() -> None:
    found = changes(compliance_report(), compliance_report())

    assert found.is_same
    assert not found.figures_differ
    assert (found.lines, found.counts, found.versions, found.checks_new, found.checks_gone) == ((), {}, (), (), ())


def test_a_value_that_differs_is_told_with_what_it_is_of() -> None:
    then = compliance_report()
    results = then.table("results")
    old = results.rows[0]

    found = changes(then, with_rows(then, "results", *changed(results, 0, "mass", 7.5)))

    (line,) = found.lines
    assert (line.table, line.factory, line.column, line.unit, line.now) == ("Results", old[0], "Mass", "kg", 7.5)
    assert line.row == old[2], "by its title, as people call it"
    assert line.then == old[4]
    assert line.kind is ChangeKind.CHANGED
    assert found.figures_differ
    assert found.counts == {"Results": 1}


def test_a_row_that_was_put_in_shifts_no_other() -> None:
    then = compliance_report()
    rows = then.table("results").rows
    new = (*rows[0][:2], "Another figure", *rows[0][3:])

    came = changes(then, with_rows(then, "results", new, *rows))
    went = changes(then, with_rows(then, "results", *rows[1:]))

    assert [(it.row, it.kind) for it in came.lines] == [("Another figure", ChangeKind.ADDED)]
    assert [(it.row, it.kind) for it in went.lines] == [(rows[0][2], ChangeKind.REMOVED)]


def test_what_becomes_known_differs_and_the_last_bit_of_a_number_does_not() -> None:
    then = compliance_report()
    results = then.table("results")
    value = results.rows[0][4]
    assert isinstance(value, float)

    unknown = with_rows(then, "results", *changed(results, 0, "mass", None))
    nearly = with_rows(then, "results", *changed(results, 0, "mass", value * (1 + 1e-13)))

    assert [(it.then, it.now) for it in changes(unknown, then).lines] == [(None, value)]
    assert [(it.then, it.now) for it in changes(then, unknown).lines] == [(value, None)]
    assert not changes(then, nearly).lines
    assert not changes(then, nearly).is_same


def test_what_stands_beside_the_figures_is_no_reason_for_a_correction() -> None:
    then = compliance_report()
    identity = then.table("identity")
    check = Check("tea_missing", Severity.CRITICAL, "kangaita", "No made tea is entered.")

    now = with_rows(then, "identity", *changed(identity, 0, "name", "Another name"))
    now = compliance_report(tables=now.tables, checks=(check,), versions={**then.versions, "software": "9.9"})
    found = changes(then, now)

    assert not found.is_same
    assert not found.figures_differ
    assert found.counts == {identity.title: 1}
    assert found.checks_new == (check,)
    assert found.checks_gone == then.checks
    assert found.versions == (("software", then.versions["software"], "9.9"),)


def test_of_very_much_little_is_listed_and_all_is_counted() -> None:
    then = compliance_report()
    one = then.table("production")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"factory-{number}", *(7.5 for _ in one.columns[1:])) for number in range(100)
    )
    columns = len(one.columns) - 2
    others: tuple[tuple[Cell, ...], ...] = tuple((*row[:2], *(8.5 for _ in one.columns[2:])) for row in rows)
    many = [replace(one, name=f"table_{number}", title=f"Table {number}", rows=rows) for number in range(9)]
    same = [replace(it, rows=others) for it in many]

    found = changes(compliance_report(tables=tuple(many)), compliance_report(tables=tuple(same)))

    assert len(found.lines) == MOST_LINES
    assert {found.counts[it.title] for it in many} == {100 * columns}
    assert len([it for it in found.lines if it.table == "Table 0"]) == MOST_OF_A_TABLE


def test_a_table_that_only_one_of_them_has_is_named() -> None:
    then = compliance_report()

    found = changes(compliance_report(tables=then.tables[:-1]), then)

    assert found.not_compared == (then.tables[-1].title,)
    assert not found.lines


def test_rows_of_the_same_name_are_counted() -> None:
    then = compliance_report()
    row = then.table("results").rows[0]

    found = changes(with_rows(then, "results", row, row), with_rows(then, "results", row))

    assert [it.kind for it in found.lines] == [ChangeKind.REMOVED]


def test_figures_are_tables_whose_rows_have_names() -> None:
    assert NAMES.keys() > FIGURES


@given(then=NUMBERS, now=NUMBERS)
def test_numbers_that_differ_look_different(then: float, now: float) -> None:
    texts = told_apart(then, now)

    assert (texts[0] != texts[1]) is (abs(then - now) > 1e-12) or abs(then - now) < 1e-11


@pytest.mark.parametrize(
    ("then", "now", "texts"),
    [
        (312450.0, 298000.4, ("312,450", "298,000")),
        (312450.1, 312450.2, ("312,450.1", "312,450.2")),
        (0.81234, 0.9, ("0.812", "0.900")),
        (12, 13, ("12", "13")),
        (None, 1234.5, ("\N{EN DASH}", "1,234")),
        ("valid", "missing", ("valid", "missing")),
        (3, None, ("3", "\N{EN DASH}")),
    ],
)
def test_values_have_as_many_digits_as_it_takes(then: Cell, now: Cell, texts: tuple[str, str]) -> None:
    assert told_apart(then, now) == texts
