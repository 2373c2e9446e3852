"""The process that reads one workbook: ``python xlsx_worker.py < workbook``. See ``spreadsheets``.

It has a process of its own because a workbook of 2 KB can make its reader ask for more memory than there is, and that
ends the process (calamine's issue 693). It imports nothing of ours: so it starts at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import zipfile
from datetime import date, datetime
from math import isfinite
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

MEMORY_BYTES = 512 << 20
MOST_PARTS = 1000
MOST_UNPACKED_BYTES = 32 << 20
"""A workbook of 5,000 rows has about 4 MB."""
MOST_ROWS = 5001
"""The rest is not looked at: one more than may be used."""
MOST_COLUMNS = 100
LONGEST_TEXT = 1000
MOST_CHARACTERS = 8_000_000
"""A text that is written once may stand in every cell."""
ERROR_CELL = re.compile(rb"""(<(?:\w+:)?c(?:\s[^>]*)?\st\s*=\s*)(["'])e\2""")


class Refused(Exception):
    """A workbook that is not read; the text goes on after "The workbook", and ``values`` are those that it has."""

    def __init__(self, text: str, **values: str | int) -> None:
        super().__init__(text % values if values else text)
        self.text = text
        self.values = values


def read(body: bytes) -> list[tuple[int, list[str | float]]]:
    """The rows of the first sheet that are not empty, with their numbers. Raises :class:`Refused`."""
    try:
        with CalamineWorkbook.from_filelike(io.BytesIO(unpacked(body))) as workbook:
            sheet = workbook.get_sheet_by_index(0)
            return _rows(enumerate(sheet.iter_rows(), 1))
    except zipfile.BadZipFile as error:
        raise Refused("is damaged (%(error)s): send it again, or save it anew", error=str(error)) from None
    except CalamineError as error:
        raise Refused("cannot be read (%(error)s): open it and save it as .xlsx", error=str(error)) from None


def unpacked(body: bytes) -> bytes:
    """The workbook, with nothing compressed in it any more, and only the parts that are tables.

    So the reader gets nothing to unpack, and nothing that a list of contents does not speak of.
    """
    found = io.BytesIO()
    left = MOST_UNPACKED_BYTES
    with zipfile.ZipFile(io.BytesIO(body)) as packed, zipfile.ZipFile(found, "w") as plain:
        parts = packed.infolist()
        names = {part.filename for part in parts}
        if any(name.rpartition("/")[2].lower() == "vbaproject.bin" for name in names):
            raise Refused("has macros: save it as .xlsx, which has none")
        if "xl/workbook.xml" not in names:
            raise Refused("is no .xlsx: save it as one")
        parts = [part for part in parts if part.filename.endswith((".xml", ".rels"))]
        if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > left:
            raise Refused("is too large when it is unpacked: copy the rows into a new one")
        for part in parts:
            with packed.open(part) as file:
                content = file.read(left + 1)
            left -= len(content)
            if left < 0:
                raise Refused("is too large when it is unpacked: copy the rows into a new one")
            plain.writestr(part.filename, _with_errors(part.filename, content))
    return found.getvalue()


def _with_errors(name: str, content: bytes) -> bytes:
    """A part in which cells that are errors (#DIV/0!) are texts: the reader gives errors as empty cells."""
    if not name.startswith("xl/worksheets/"):
        return content
    return ERROR_CELL.sub(rb'\1"str"', content)


def _rows(numbered: enumerate[list[Any]]) -> list[tuple[int, list[str | float]]]:
    rows = []
    characters = 0
    for number, cells in numbered:
        while cells and cells[-1] in {"", None}:
            cells.pop()
        if not cells:
            continue
        if len(cells) > MOST_COLUMNS:
            text = "has more than %(most)s columns in row %(number)s: delete what is not part of the table"
            raise Refused(text, most=MOST_COLUMNS, number=number)
        row = [_plain(cell) for cell in cells]
        characters += sum(len(cell) for cell in row if isinstance(cell, str))
        if characters > MOST_CHARACTERS:
            raise Refused("has too much text in it: send it in parts")
        rows.append((number, row))
        if len(rows) > MOST_ROWS:
            break
    return rows


def _plain(cell: Any) -> str | float:
    """A cell as JSON has it: a day as ``2026-03-01``, a number as a number, all else as text."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, int | float) and isfinite(cell):
        return cell
    text = cell.isoformat() if isinstance(cell, date | datetime) else str(cell)
    return text.strip()[:LONGEST_TEXT]


def _limit() -> None:
    with contextlib.suppress(ImportError, ValueError):  # Windows has no such limits; lower ones may be set already
        import resource  # noqa: PLC0415  # as above

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def answer(body: bytes) -> dict[str, Any]:
    """The rows of a workbook, or why they are not read."""
    try:
        return {"rows": read(body)}
    except Refused as error:
        return {"refused": error.text, "values": error.values}
    except Exception as error:  # noqa: BLE001  # a stranger's file may be broken in any way
        text = "cannot be read (%(error)s): open it and save it as .xlsx"
        return {"refused": text, "values": {"error": type(error).__name__}}


if __name__ == "__main__":
    _limit()
    json.dump(answer(sys.stdin.buffer.read()), sys.stdout)
