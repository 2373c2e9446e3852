"""The nouns of a compliance report: a data set of tables, checks on it, and its canonical form that is hashed.

A report is made once, frozen, and rendered by formats (``register_report_formats``) as often as anybody wants: each
rendering has the same data set, whose SHA-256 identifies it. What says who prepared and approved it is not in the data
set, so that the same data and versions give the same hash whoever asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

Cell = str | int | float | bool | None
SCHEMA = "carbontrack-compliance-1"
VOLUNTARY = (
    "Voluntary greenhouse gas monitoring report. Its method is aligned with Regulation (EU) 2018/2066 (measurement) "
    "and with the monitoring rules of the CBAM. Tea (CN 0902) is in neither Annex I of Regulation (EU) 2023/956 (CBAM) "
    "nor Regulation (EU) 2023/1115 (EUDR): this is no CBAM declaration and no due diligence statement."
)


class Severity(StrEnum):
    """How much an automatic check matters."""

    CRITICAL = "critical"
    """The report cannot become final."""
    WARNING = "warning"
    """Whoever approves it must know."""
    INFO = "info"


class ReportStatus(StrEnum):
    """Where a report is in its life."""

    DRAFT = "draft"
    """Made; its preparer has not handed it on."""
    PREPARED = "prepared"
    """Waits for a reviewer."""
    REVIEWED = "reviewed"
    """Waits for an approver."""
    FINAL = "final"
    """Approved: it never changes again."""
    WITHDRAWN = "withdrawn"
    """Given up before it was final."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. ``unit`` is empty for texts and pure numbers."""

    name: str
    title: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells, one for each column; None is a value that is not known, which is never zero."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What an automatic check found. ``factory`` is its slug, empty for what concerns the report as a whole."""

    name: str
    severity: Severity
    factory: str
    text: str


@dataclass(frozen=True, slots=True)
class Signature:
    """Who did a step of the report's life, and when."""

    step: str
    person: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ComplianceReport:
    """What a format renders.

    ``seal`` must stand in the file once, byte for byte and uncompressed: the platform puts the signature in its place
    (:mod:`carbontrack.seal`). A format whose file cannot carry it leaves it out; its file cannot be verified then.
    """

    reference: str
    """What it is called: its number and version, or ``draft``."""
    title: str
    status: ReportStatus
    period_start: datetime
    period_end: datetime
    time_zone: str
    versions: Mapping[str, str]
    """Of the software, formulas and factors."""
    tables: tuple[Table, ...]
    checks: tuple[Check, ...] = ()
    signatures: tuple[Signature, ...] = ()
    supersedes: str = ""
    reason: str = ""
    """Why it corrects the one that it supersedes."""
    note: str = VOLUNTARY
    made_at: datetime | None = None
    """When the data set was frozen: no format says any other time, so that a file can be made again."""
    sha256: str = ""
    seal: str = ""

    DRAFT: ClassVar[str] = "draft"
    """The reference of what no library has."""

    def table(self, name: str) -> Table:
        """A table by its name. Raises KeyError."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)

    @property
    def is_final(self) -> bool:
        return self.status is ReportStatus.FINAL


def compliance_dataset(report: ComplianceReport) -> dict[str, Any]:
    """What is hashed: all that follows from the data and the versions, and nothing else."""
    return {
        "schema": SCHEMA,
        "title": report.title,
        "period_start": report.period_start.isoformat(),
        "period_end": report.period_end.isoformat(),
        "time_zone": report.time_zone,
        "note": report.note,
        "versions": dict(report.versions),
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "note": table.note,
                "columns": [{"name": it.name, "title": it.title, "unit": it.unit} for it in table.columns],
                "rows": [list(row) for row in table.rows],
            }
            for table in report.tables
        ],
        "checks": msgspec.to_builtins(report.checks),
    }


def canonical(values: Mapping[str, Any]) -> bytes:
    """Plain values as JSON that is the same, byte for byte, for the same values."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def frozen(report: ComplianceReport) -> ComplianceReport:
    """The report with the SHA-256 of its data set."""
    return replace(report, sha256=hashlib.sha256(canonical(compliance_dataset(report))).hexdigest())


def thawed(held: bytes) -> ComplianceReport:
    """A report out of its canonical data set; who signed it and what it is called is added by whoever keeps it."""
    values = json.loads(held)
    tables = tuple(
        Table(
            table["name"],
            table["title"],
            tuple(Column(**column) for column in table["columns"]),
            tuple(tuple(row) for row in table["rows"]),
            table["note"],
        )
        for table in values["tables"]
    )
    checks = tuple(Check(it["name"], Severity(it["severity"]), it["factory"], it["text"]) for it in values["checks"])
    return ComplianceReport(
        reference=ComplianceReport.DRAFT,
        title=values["title"],
        status=ReportStatus.DRAFT,
        period_start=datetime.fromisoformat(values["period_start"]),
        period_end=datetime.fromisoformat(values["period_end"]),
        time_zone=values["time_zone"],
        versions=values["versions"],
        tables=tables,
        checks=checks,
        note=values["note"],
        sha256=hashlib.sha256(held).hexdigest(),
    )


def blocking(checks: Iterable[Check]) -> list[Check]:
    """The checks that keep a report from becoming final."""
    return [check for check in checks if check.severity is Severity.CRITICAL]


def rows_of(table: Table, **wanted: Cell) -> Sequence[Mapping[str, Cell]]:
    """The rows of a table as mappings, those that have the wanted values in the columns named."""
    names = [column.name for column in table.columns]
    found = (dict(zip(names, row, strict=True)) for row in table.rows)
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]
