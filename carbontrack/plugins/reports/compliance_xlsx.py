"""Compliance formats "xlsx", a workbook with a sheet for each table, and "operator-template", for importers.

The second is shaped like the communication template that operators of installations send to importers under the CBAM:
installation, emissions, energy. It says on each sheet that it is voluntary: tea is outside that regulation.
The seal is the comment of the archive that a workbook is.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from carbontrack import ComplianceFormat, ComplianceReport, Kind, Manifest, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="compliance_xlsx",
    version=__version__,
    kinds=(Kind.REPORT,),
    title="Compliance reports as workbooks",
    documentation="docs/reports.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

Cells = Sequence[Any]
NEVER = datetime(1980, 1, 1)  # noqa: DTZ001  # a workbook's properties have no zone
LONGEST_SHEET_NAME = 31
WIDEST = 60
SCOPE = "Same structure as an operator's communication to importers; voluntary. Tea (CN 0902) is outside the CBAM."


def render(report: ComplianceReport) -> bytes:
    """A sheet for each table, and one for the report itself."""
    sheets: dict[str, Iterable[Cells]] = {"report": _head(report)}
    for table in report.tables:
        names = [column.title for column in table.columns]
        units = [column.unit for column in table.columns]
        notes = [[table.note]] if table.note else []
        sheets[table.name] = [names, units, *table.rows, *notes]
    sheets["checks"] = [
        ["Check", "Severity", "Factory", "Text"],
        [],
        *([it.name, it.severity.value, it.factory, it.text] for it in report.checks),
    ]
    return _workbook(report, sheets)


def render_template(report: ComplianceReport) -> bytes:
    """The sheets of the operator's template that apply."""
    factories = {row["factory"]: row for row in _rows(report, "identity")}
    about = ["Installation", "Name", "County", "Latitude", "Longitude", "From", "Until", "Operator", "UN/LOCODE"]
    installations: list[Cells] = [[SCOPE], [], about]
    installations += [
        [slug, *(row[name] for name in ("name", "county", "latitude", "longitude")), *_period(report),
         row.get("legal_entity"), row.get("un_locode")]
        for slug, row in factories.items()
    ]  # fmt: skip
    emissions: list[Cells] = [[SCOPE], [], ["Installation", "Quantity", "Value", "Unit", "Determined by"]]
    emissions += [[row["factory"], row["figure"], row["mass"], "kg", row["basis"]] for row in _rows(report, "results")]
    about = ["Installation", "Source stream", "Amount", "Unit", "Energy, GJ", "Biogenic CO2, kg", "Fossil CO2, kg"]
    streams: list[Cells] = [[SCOPE], [], about]
    streams += [
        [
            row["factory"],
            row["energy"],
            row["amount"],
            row["unit"],
            row["energy_gj"],
            row["biogenic_co2"],
            row["fossil_co2"],
        ]
        for row in _rows(report, "results_by_fuel")
    ]
    products: list[Cells] = [[SCOPE], [], ["Installation", "Product", "CN code", "Made tea, kg"]]
    products += [[row["factory"], "Tea", "0902", row["made_tea"]] for row in _rows(report, "production")]
    sheets = {
        "A_InstData": installations,
        "B_EmInst": emissions,
        "C_SourceStreams": streams,
        "D_Products": products,
        "E_Biomass": _whole(report, "biomass"),
        "F_Verification": _whole(report, "verification"),
    }
    return _workbook(report, sheets)


def _whole(report: ComplianceReport, name: str) -> list[Cells]:
    """A table of the report as it is; reports that were made before there was one have none."""
    table = next((table for table in report.tables if table.name == name), None)
    if table is None:
        return [[SCOPE]]
    titles = [f"{column.title}, {column.unit}" if column.unit else column.title for column in table.columns]
    return [[SCOPE], [table.note], titles, *table.rows]


def _head(report: ComplianceReport) -> list[Cells]:
    return [
        ["Title", report.title],
        ["Reference", report.reference],
        ["Status", report.status.value],
        ["From", report.period_start.isoformat()],
        ["Until", report.period_end.isoformat()],
        ["Time zone", report.time_zone],
        ["Supersedes", report.supersedes],
        ["Reason", report.reason],
        ["Note", report.note],
        *([f"Version of {name}", version] for name, version in sorted(report.versions.items())),
        *([f"Signed: {it.step}", f"{it.person}, {it.at.isoformat()}"] for it in report.signatures),
        ["SHA-256 of the data set", report.sha256],
    ]


def _period(report: ComplianceReport) -> tuple[str, str]:
    return report.period_start.isoformat(), report.period_end.isoformat()


def _rows(report: ComplianceReport, name: str) -> list[Mapping[str, Any]]:
    table = report.table(name)
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def _workbook(report: ComplianceReport, sheets: Mapping[str, Iterable[Cells]]) -> bytes:
    import xlsxwriter  # type: ignore[import-untyped]  # noqa: PLC0415  # no hints; only who renders needs it

    made = io.BytesIO()
    # Texts stay texts: neither formulas nor links are made of what somebody typed.
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(made, options) as book:
        book.set_properties({"title": report.title, "comments": report.note, "created": NEVER})
        bold = book.add_format({"bold": True})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name[:LONGEST_SHEET_NAME])
            widths: dict[int, int] = {}
            for at, row in enumerate(rows):
                for place, value in enumerate(row):
                    sheet.write(at, place, value, *([bold] if at == 0 else []))
                    widths[place] = max(widths.get(place, 8), min(WIDEST, len(str(value if value is not None else ""))))
            for place, width in widths.items():
                sheet.set_column(place, place, width + 2)
            sheet.freeze_panes(2, 1)
    return _with_comment(made.getvalue(), report.seal)


def _with_comment(archive: bytes, comment: str) -> bytes:
    """The archive with a comment (PKWARE APPNOTE 4.3.16): nothing else in it is touched."""
    made = io.BytesIO(archive)
    with zipfile.ZipFile(made, "a") as opened:
        opened.comment = comment.encode()
    return made.getvalue()


MEDIA = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLSX = ComplianceFormat("xlsx", "Workbook (XLSX)", "xlsx", MEDIA, render)
TEMPLATE = ComplianceFormat(
    "operator-template", "Operator's template, voluntary (XLSX)", "xlsx", MEDIA, render_template
)


@hookimpl
def register_report_formats() -> Sequence[ComplianceFormat]:
    return (XLSX, TEMPLATE)
