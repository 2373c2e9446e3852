"""Compliance format "csv": a ZIP with one CSV file for each table, and a JSON schema that says what their columns are.

Each file is UTF-8 with a byte order mark, so that spreadsheets read it as such; its second line has the units. An empty
cell is a value that is not known: it is never zero. The seal is the archive's comment.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from carbontrack import ComplianceFormat, ComplianceReport, Kind, Manifest, Table, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="compliance_csv",
    version=__version__,
    kinds=(Kind.REPORT,),
    title="Compliance reports as a bundle of CSV files",
    documentation="docs/reports.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

NEVER = (1980, 1, 1, 0, 0, 0)
"""The time of each file in the archive: the same each time."""
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")


def render(report: ComplianceReport) -> bytes:
    """The whole archive."""
    files = {f"{table.name}.csv": _csv(table) for table in report.tables}
    files["report.csv"] = _csv_rows([("name", "value"), ("", ""), *_head(report)])
    files["checks.csv"] = _csv_rows(
        [
            ("name", "severity", "factory", "text"),
            ("", "", "", ""),
            *((it.name, it.severity.value, it.factory, it.text) for it in report.checks),
        ]
    )
    files["schema.json"] = json.dumps(_schema(report), ensure_ascii=False, indent=1).encode() + b"\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = report.seal.encode()
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, NEVER)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return made.getvalue()


def _head(report: ComplianceReport) -> list[tuple[Any, ...]]:
    signed = [(f"signature.{it.step}", f"{it.person}, {it.at.isoformat()}") for it in report.signatures]
    return [
        ("title", report.title),
        ("reference", report.reference),
        ("status", report.status.value),
        ("period_start", report.period_start.isoformat()),
        ("period_end", report.period_end.isoformat()),
        ("time_zone", report.time_zone),
        ("supersedes", report.supersedes),
        ("reason", report.reason),
        ("note", report.note),
        *((f"version.{name}", version) for name, version in sorted(report.versions.items())),
        *signed,
        ("sha256", report.sha256),
    ]


def _csv(table: Table) -> bytes:
    names, units = [column.name for column in table.columns], [column.unit for column in table.columns]
    return _csv_rows([names, units, *table.rows])


def _csv_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _cell(value: Any) -> Any:
    """What is written; no text that a spreadsheet takes for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_MARKS) else value


def _schema(report: ComplianceReport) -> Mapping[str, Any]:
    """JSON Schema (2020-12): of each file, what one of its lines is."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Carbon Track compliance report, CSV bundle",
        "description": "A file for each definition. Line 1 has the names, line 2 the units; an empty cell is unknown.",
        "$defs": {
            table.name: {
                "title": table.title,
                "description": table.note,
                "type": "object",
                "properties": {
                    column.name: {"title": column.title, "type": _types(table, place)}
                    | ({"x-unit": column.unit} if column.unit else {})
                    for place, column in enumerate(table.columns)
                },
                "additionalProperties": False,
            }
            for table in report.tables
        },
    }


def _types(table: Table, place: int) -> list[str]:
    names = {bool: "boolean", int: "number", float: "number", str: "string"}
    found = {names[type(row[place])] for row in table.rows if row[place] is not None}
    return [*sorted(found or {"string", "number"}), "null"]


CSV = ComplianceFormat("csv", "CSV files in a ZIP", "zip", "application/zip", render)


@hookimpl
def register_report_formats() -> Sequence[ComplianceFormat]:
    return (CSV,)
