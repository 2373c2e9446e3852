"""Uploaded tables: what people's programs save is read, and what is no table is refused in words that help."""

from __future__ import annotations

import asyncio
import io
import zipfile
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carbontrack.web import xlsx_worker
from carbontrack.web.entries import EnergyInput
from carbontrack.web.errors import Problem
from carbontrack.web.spreadsheets import MOST_ROWS, Table, Unreadable, read_csv, read_table
from carbontrack.web.upload_rows import number, read_rows
from tests.support.tables import Formula, packed, sheet, workbook

NAIROBI = ZoneInfo("Africa/Nairobi")
ROWS = [["unit", "amount"], ["kg", "1250"], ["t", "12.5"]]
TEXT = "unit,amount\nkg,1250\nt,12.5\n"


async def read(body: bytes) -> Table:
    return await read_table(body, asyncio.Semaphore(1))


# --- CSV


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_a_table_is_read_however_a_spreadsheet_program_has_saved_it(
    separator: str, encoding: str, line_end: str
) -> None:
    text = TEXT.replace(",", separator).replace("\n", line_end)

    table = await read(text.encode(encoding))

    assert table.head == ["unit", "amount"]
    assert table.rows == [(2, ["kg", "1250"]), (3, ["t", "12.5"])]
    assert table.separator == separator


def test_rows_are_counted_as_a_spreadsheet_does() -> None:
    table = read_csv(b'\n note , amount \n"one\ntwo",1\n,\n\n  three ,2')

    assert table.head == ["note", "amount"]
    assert table.rows == [(3, ["one\ntwo", "1"]), (6, ["three", "2"])]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is empty"),
        (b"\n,,\n", "is empty"),
        (b"amount,unit\n", "no rows below"),
        ("amount,note\n1,café".encode("latin-1"), "CSV UTF-8"),
        (b"amount,unit\n1,k\0g", "CSV UTF-8"),
        (TEXT.encode("utf-16-le"), "CSV UTF-8"),
        (b'amount,note\n1,"open', "Line 2 cannot be split"),
        (b'amount,note\n1,"a"b\n', "Line 2 cannot be split"),
        (b"note\n" + b"x" * 200_000, "Line 2 cannot be split"),
        (b"a" + b"," * 1_000_000, "more than 100 columns"),
        (b"amount\n" + b"1\n" * (MOST_ROWS + 1), "more than 5,000 rows"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "has a password"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
async def test_what_is_no_table_is_refused_with_what_to_do(body: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        await read(body)


@given(st.binary())
@example(b"\xff\xfe\x00\xd8\x00")
@example(b"\xfe\xff")
def test_any_bytes_are_a_table_or_are_refused(body: bytes) -> None:
    try:
        table = read_csv(body)
    except Unreadable:
        return
    assert table.rows


# --- workbooks


async def test_a_workbook_gives_days_numbers_and_what_formulas_came_to() -> None:
    table = await read(
        workbook(
            [
                [],
                ["period_start", "amount", "note"],
                [date(2026, 3, 1), 12.5, Formula("A1+1", 1250.0)],
                [datetime(2026, 3, 1, 6), None, " café "],  # noqa: DTZ001  # a spreadsheet's time has no zone
                [None, None, ""],
                ["2026-03-02", 3, Formula("1/0", "#DIV/0!")],
                [Formula("A1&1", "kg"), Formula("NA()", "#N/A")],
            ]
        )
    )

    assert table.head == ["period_start", "amount", "note"]
    assert table.rows == [
        (3, ["2026-03-01", 12.5, 1250.0]),
        (4, ["2026-03-01T06:00:00", "", "café"]),
        (6, ["2026-03-02", 3.0, "#DIV/0!"]),
        (7, ["kg", "#N/A"]),
    ]
    assert table.separator == ""


def bomb() -> bytes:
    """33 MiB of blanks in 33 KiB."""
    return packed({"xl/worksheets/sheet1.xml": sheet(" " * (33 << 20))})


def lying_bomb() -> bytes:
    """The same, whose list of contents speaks of 10 bytes."""
    body = bytearray(bomb())
    at = body.rindex(b"PK\x01\x02", 0, body.rindex(b"xl/worksheets/sheet1.xml"))
    body[at + 24 : at + 28] = (10).to_bytes(4, "little")
    return bytes(body)


def far_corners() -> str:
    row = '<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'
    return sheet(row.format(1, "A") + row.format(1_048_576, "XFD"))


GOOD = workbook([["amount"], [1]])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (GOOD[:100], "damaged"),
        (GOOD[:-30], "damaged"),
        (b"PK" + bytes(1000), "damaged"),
        (GOOD.replace(GOOD[60:70], bytes(10), 1), "damaged|cannot be read"),
        (packed({"xl/vbaProject.bin": "Sub AutoOpen()"}), "has macros"),
        (packed({"xl/worksheets/sheet1.xml": "<worksheet><sheetData><row"}), "cannot be read"),
        (packed({"xl/worksheets/sheet1.xml": far_corners()}), "reaches too far"),
        (workbook([["amount"], *([1] for _ in range(MOST_ROWS + 1))]), "more than 5,000 rows"),
        (packed({"xl/worksheets/sheet1.xml": sheet('<row r="1"><c r="DA1"><v>1</v></c></row>' * 2)}), "no rows"),
        (
            packed(
                {"xl/worksheets/sheet1.xml": sheet('<row r="1"><c r="A1"><v>1</v></c><c r="DA1"><v>1</v></c></row>')}
            ),
            "more than 100 columns",
        ),
        (workbook([]), "is empty"),
        (packed({f"xl/{at}.xml": "" for at in range(1001)}), "too large when it is unpacked"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
async def test_what_is_no_workbook_is_refused_with_what_to_do(body: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        await read(body)


@pytest.mark.parametrize(("make", "why"), [(bomb, "too large"), (lying_bomb, "damaged")])
async def test_a_workbook_that_is_far_larger_than_it_looks_is_not_unpacked(make: Any, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        await read(make())


async def test_another_kind_of_archive_is_no_workbook() -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as file:
        file.writestr("content.xml", "<office/>")

    with pytest.raises(Unreadable, match=r"is no \.xlsx"):
        await read(body.getvalue())


@given(st.data())
@settings(max_examples=40)
def test_a_workbook_with_damage_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    damage = data.draw(st.binary(max_size=8))
    body = GOOD[:at] + damage + GOOD[at + data.draw(st.integers(0, 8)) :]

    assert xlsx_worker.answer(body).keys() <= {"rows", "refused", "values"}


CELLS = st.lists(
    st.tuples(
        st.sampled_from(["A1", "B2", "C9", "AB99", "", "1", "A0", "A-1", "a1", "€", "ZZZZZZZZ9"]),
        st.sampled_from(["", "n", "s", "b", "e", "d", "str", "inlineStr", "x"]),
        st.sampled_from(["", "0", "1", "-1", "99"]),
        st.sampled_from(["", "1", "-1e308", "1e999", "NaN", "x", "2026-03-01", "#REF!", "99999999999999999999"]),
    ),
    max_size=5,
)


@given(CELLS)
@settings(max_examples=8)
@example([("A1", "n", "", "1"), ("ZZZZZZZZ9", "n", "", "1")])  # wide enough to end the process
def test_a_sheet_of_strange_cells_is_read_or_refused(cells: list[tuple[str, str, str, str]]) -> None:
    """By the process itself: some of these end it."""
    rows = "".join(
        f'<row><c r="{place}" t="{kind}" s="{style}"><v>{value}</v></c></row>' for place, kind, style, value in cells
    )

    with suppress(Unreadable):
        assert asyncio.run(read(packed({"xl/worksheets/sheet1.xml": sheet(rows)}))).rows


# --- what cells mean


@pytest.mark.parametrize(
    ("text", "separator", "value"),
    [
        ("1250", ",", 1250),
        ("1250.5", ",", 1250.5),
        ("1.250", ",", 1.25),
        (".5", ",", 0.5),
        ("1e3", ",", 1000),
        ("1250,5", ";", 1250.5),
        ("0,125", ";", 0.125),
        ("1250.5", ";", 1250.5),
        ("12,5", "\t", 12.5),
        ("12.125", "\t", 12.125),
        ("12,5", "", 12.5),
        ("-3", ",", -3),
    ],
)
def test_a_number_is_read_as_it_is_written_in_such_a_table(text: str, separator: str, value: float) -> None:
    assert number(text, separator) == value


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("1,250", ","), ("1 250", ","), ("1\u202f250,5", ";"), ("1'250", ","), ("1,250,000", ","), ("1.250.000", "\t"),
        ("1.250", ";"), ("1,250", ";"), ("1,250", "\t"), ("1,250.5", ""),
    ],
)  # fmt: skip
def test_a_number_that_has_or_could_have_a_separator_of_thousands_is_not_guessed(text: str, separator: str) -> None:
    with pytest.raises(ValueError, match="separator of thousands"):
        number(text, separator)


@pytest.mark.parametrize("text", ["12,5", "12 t", "", "twelve", "1_000", "nan", "inf", "0x10", "١٢", "1,2,3", "--1"])
def test_what_is_no_number_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        number(text, ",")


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_every_number_that_a_program_writes_is_read_as_it_was(value: float) -> None:
    assert number(repr(value), ",") == value


CELL = st.one_of(
    st.text(max_size=30),
    st.floats(allow_nan=False),
    st.sampled_from(["firewood", "2026-03-01", "0001-01-01", "9999-12-31", "2026-02-30", "0001-01-01T00:00:00+14:00"]),
)


@settings(max_examples=50)
@given(st.lists(st.lists(CELL, max_size=8), min_size=1, max_size=3))
def test_whatever_is_in_the_cells_each_row_is_an_entry_or_says_what_is_wrong(cells: list[list[str | float]]) -> None:
    head = ["energy_type", "amount", "unit", "timestamp", "period_end", "stack_id", "note"]

    for row in read_rows(Table(head, list(enumerate(cells, 2)), ","), EnergyInput, NAIROBI):
        assert (row.given is None) == bool(row.errors)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_whatever_the_columns_are_called_they_are_taken_or_refused(head: list[str]) -> None:
    with pytest.raises(Problem) as refused:
        read_rows(Table(head, [(2, ["1"])], ","), EnergyInput, NAIROBI)

    assert all(message for _, message in refused.value.errors)
