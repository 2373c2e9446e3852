"""Uploaded tables, CSV or XLSX, as rows of cells; what the cells mean is said elsewhere (``bulk``)."""

from __future__ import annotations

import asyncio
import codecs
import csv
import io
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web

from carbontrack.tasks import python_process
from carbontrack.words import N_, decimal, gettext

Cell = str | float
"""A number only where the file itself says so; an empty cell is ""."""
MOST_ROWS = 5000
MOST_COLUMNS = 100
PATIENCE_S = 60.0
"""For one workbook. What takes longer is no table of entries."""
SEPARATORS = ",;\t"
XLSX_BEGINS = b"PK"
OLD_EXCEL_BEGINS = bytes.fromhex("d0cf11e0a1b11ae1")
WORKER = Path(__file__).with_name("xlsx_worker.py")
WORKBOOKS = web.AppKey("workbooks", asyncio.Semaphore)
"""How many workbooks may be read at a time."""
WORKBOOKS_AT_ONCE = 2


class Unreadable(ValueError):
    """A file that is no table; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """A head and rows with the numbers that a spreadsheet shows. Texts have no spaces around them.

    ``separator`` is that of a CSV file, "" in a workbook. A row may be shorter or longer than the head.
    """

    head: Sequence[str]
    rows: Sequence[tuple[int, Sequence[Cell]]]
    separator: str


REFUSALS = (
    N_("The workbook is damaged (%(error)s): send it again, or save it anew."),
    N_("The workbook cannot be read (%(error)s): open it and save it as .xlsx."),
    N_("The workbook has macros: save it as .xlsx, which has none."),
    N_("The workbook is no .xlsx: save it as one."),
    N_("The workbook is too large when it is unpacked: copy the rows into a new one."),
    N_("The workbook has more than %(most)s columns in row %(number)s: delete what is not part of the table."),
    N_("The workbook has too much text in it: send it in parts."),
)
"""What the process says of workbooks that it does not read."""


class _Answer(msgspec.Struct):
    """What the process says that reads workbooks."""

    rows: list[tuple[int, list[Cell]]] = []
    refused: str = ""
    values: dict[str, str | int] = {}


async def read_table(body: bytes, workbooks: asyncio.Semaphore) -> Table:
    """Read a file, whose content says what it is. Raises :class:`Unreadable`."""
    if body.startswith(OLD_EXCEL_BEGINS):
        raise Unreadable(gettext("The workbook is an old .xls, or has a password: save it as .xlsx without one."))
    if not body.startswith(XLSX_BEGINS):
        return await asyncio.to_thread(read_csv, body)
    async with workbooks:
        return await _read_xlsx(body)


def read_csv(body: bytes) -> Table:
    """A CSV file: UTF-8, or the UTF-16 of Excel's "Unicode text". Raises :class:`Unreadable`."""
    text = _decoded(body)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=first.count)  # the comma, where there is none
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return _table(enumerate(([cell.strip() for cell in line] for line in lines), 1), separator)
    except csv.Error:
        raise Unreadable(
            gettext(
                "Line %(number)s cannot be split into columns: a quotation mark is not closed, or stands alone.",
                number=lines.line_num,
            )
        ) from None


def _decoded(body: bytes) -> str:
    is_utf_16 = body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = body.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Unreadable(gettext('The file is no text in UTF-8: in Excel, save it as "CSV UTF-8" or as .xlsx.'))
    return text


async def _read_xlsx(body: bytes) -> Table:
    try:
        async with asyncio.timeout(PATIENCE_S), python_process(str(WORKER), stdin=PIPE, stdout=PIPE) as worker:
            told, _ = await worker.communicate(body)
    except TimeoutError:
        raise Unreadable(gettext("The workbook takes too long to read: copy the rows into a new one.")) from None
    if worker.returncode != 0:
        raise Unreadable(
            gettext(
                "The workbook reaches too far to the right or down: delete what is not part of the table, "
                "or copy the rows into a new one."
            )
        )
    answer = msgspec.json.decode(told, type=_Answer)
    if answer.refused:
        text = f"The workbook {answer.refused}."  # of REFUSALS
        raise Unreadable(gettext(text, **answer.values))
    return _table(answer.rows, "")


def _table(numbered: Iterable[tuple[int, Sequence[Cell]]], separator: str) -> Table:
    head: Sequence[str] | None = None
    rows = []
    for number, cells in numbered:
        if not any(cell != "" for cell in cells):
            continue
        if len(cells) > MOST_COLUMNS:
            raise Unreadable(
                gettext(
                    "Row %(number)s has more than %(most)s columns: delete what is not part of the table.",
                    number=number,
                    most=MOST_COLUMNS,
                )
            )
        if head is None:
            head = [str(cell) for cell in cells]
            continue
        rows.append((number, cells))
        if len(rows) > MOST_ROWS:
            raise Unreadable(gettext("There are more than %(most)s rows: send them in parts.", most=decimal(MOST_ROWS)))
    if head is None:
        raise Unreadable(gettext("The file is empty: its first row must have the names of the columns."))
    if not rows:
        raise Unreadable(gettext("There are no rows below the names of the columns."))
    return Table(head, rows, separator)
