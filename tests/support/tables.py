"""Workbooks for tests, as small as a spreadsheet program takes them.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DAY_ZERO = datetime(1899, 12, 30)  # noqa: DTZ001  # a spreadsheet's time has no zone
RELATION = (
    f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="{{id}}" Type="{OFFICE}/{{type}}" Target="{{target}}"/>{{more}}</Relationships>'
)
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/></Types>',
    "_rels/.rels": RELATION.format(id="r1", type="officeDocument", target="xl/workbook.xml", more=""),
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>'
    '<sheet name="Entries" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": RELATION.format(
        id="r1",
        type="worksheet",
        target="worksheets/sheet1.xml",
        more=f'<Relationship Id="r2" Type="{OFFICE}/styles" Target="styles.xml"/>',
    ),
    "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs count="3"><xf numFmtId="0"/>'
    '<xf numFmtId="14" applyNumberFormat="1"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>',
}


@dataclass(frozen=True)
class Formula:
    """A cell that is worked out: ``value`` is what the spreadsheet program has kept of it, perhaps ``#DIV/0!``."""

    formula: str
    value: str | float


Value = str | float | date | datetime | Formula | None


def workbook(rows: Sequence[Sequence[Value]], parts: Mapping[str, str] | None = None) -> bytes:
    """A workbook of one sheet; ``parts`` are put in it, or in place of what it has."""
    numbered = "".join(
        f'<row r="{number}">{"".join(_cell(value, number, at) for at, value in enumerate(row))}</row>'
        for number, row in enumerate(rows, 1)
    )
    return packed({"xl/worksheets/sheet1.xml": sheet(numbered), **(parts or {})})


def sheet(rows: str) -> str:
    """A sheet of rows in XML."""
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'


def packed(parts: Mapping[str, str]) -> bytes:
    """A workbook of these parts, and of those that every workbook has."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in (PARTS | dict(parts)).items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # the same at any time
    return body.getvalue()


def _cell(value: Value, row: int, column: int) -> str:
    place = f'r="{chr(ord("A") + column)}{row}"'
    if value is None:
        return ""
    if isinstance(value, Formula):
        is_error = isinstance(value.value, str) and value.value.startswith("#")
        kind = "" if isinstance(value.value, float) else f' t="{"e" if is_error else "str"}"'
        return f"<c {place}{kind}><f>{escape(value.formula)}</f><v>{value.value}</v></c>"
    if isinstance(value, datetime):
        return f'<c {place} s="2"><v>{(value - DAY_ZERO).total_seconds() / 86_400}</v></c>'
    if isinstance(value, date):
        return f'<c {place} s="1"><v>{value.toordinal() - DAY_ZERO.toordinal()}</v></c>'
    if isinstance(value, str):
        return f'<c {place} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f"<c {place}><v>{value}</v></c>"
