"""Compliance format "pdf": typeset, tagged for screen readers (PDF/UA-1), for archives (PDF/A-2a), fonts inside.

What is long (hours, and days of several months) is in the other formats. The same report gives the same bytes. The seal
is one of the document's keywords.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from carbontrack import (
    Column,
    ComplianceFormat,
    ComplianceReport,
    Kind,
    Manifest,
    Severity,
    Table,
    Tier,
    __version__,
    hookimpl,
)

MANIFEST = Manifest(
    name="compliance_pdf",
    version=__version__,
    kinds=(Kind.REPORT,),
    title="Compliance reports as PDF",
    documentation="docs/reports.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

TEMPLATE = Path(__file__).parent / "templates" / "compliance.typ"
MOST_ROWS = 400
"""A longer table is left to the other formats."""
LEFT_OUT = frozenset({"hours"})
HIDDEN = frozenset({("results", "figure"), ("biomass", "version")})
"""Columns that are for programs."""
OPTIONAL = frozenset(
    {
        ("biomass", "density"),
        ("biomass", "evidence"),
        ("biomass", "harvested"),
        ("biomass", "permit"),
        ("biomass", "plot"),
        ("biomass", "species"),
        ("biomass", "supplier"),
        ("calibrations", "added_at"),
        ("calibrations", "added_by"),
        ("calibrations", "note"),
        ("comparison", "baseline"),
        ("comparison", "baseline_from"),
        ("comparison", "change"),
        ("comparison", "median"),
        ("data_quality", "runtime"),
        ("emission_points", "note"),
        ("factors", "until"),
        ("identity", "legal_entity"),
        ("identity", "pressure"),
        ("identity", "un_locode"),
        ("results", "remarks"),
        ("source_streams", "tier"),
    }
)
"""Columns that are left out where no row has anything in them."""
MOST_COLUMNS = 9
"""A table with more columns is turned on its side where it has few rows; where not, its pages are landscape."""
MOST_CHECKS = 60
"""With more of them, those for information are told once for each kind."""
WORDS = {
    "stack_co2_kg_per_kg_made_tea": "CO2 of the chimneys per made tea",
    "fossil_co2e_kg_per_kg_made_tea": "Fossil CO2, CH4 and N2O per made tea",
    "grid_co2e_kg_per_kg_made_tea": "Grid electricity per made tea",
    "wood_kg_per_kg_made_tea": "Firewood per made tea",
    "mass_balance": "from the fuel",
    "mean_plus_two_sigma": "mean and two deviations",
}
"""What programs call something, and people: else its underscores are spaces."""
NAMES = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ")
TURNED_ROWS = 5
NARROWEST, WIDEST = 5, (34, 28, 22, 16)
"""Of a column, in characters: between these the longest of its texts decides. Where the columns then have no room
beside each other the wide ones are made narrower, step by step."""
ROOM = 116
"""Of a page, in characters; a table that needs more even so gets a page that is landscape."""
CHARTED_DAYS = 400
MINUTE = "%d %B %Y %H:%M"
STEPS = ("prepared", "reviewed", "approved")
NO_VALUE = "\N{EN DASH}"


def render(report: ComplianceReport) -> bytes:
    """The whole file."""
    made = report.made_at or report.period_end
    data = {
        "title": report.title,
        "short": report.title,
        "author": "Carbon Track",
        "note": report.note,
        "seal": report.seal,
        "made": [made.year, made.month, made.day],
        "reference": report.reference,
        "status": report.status.value,
        "is_draft": not report.is_final,
        "period": f"{report.period_start:{MINUTE}} to {report.period_end:{MINUTE}} UTC ({report.time_zone})",
        "sha256": report.sha256,
        "facts": _facts(report),
        "checks": _checks(report),
        "sections": [section for table in report.tables if (section := _section(report, table))],
        "signatures": _signatures(report),
        "has_verification": any(table.name == "verification" for table in report.tables),
    }
    import typst  # noqa: PLC0415  # 30 MB, and only the process that renders needs it

    inputs = {"data": json.dumps(data)}
    pdf: bytes = typst.compile(TEMPLATE.read_bytes(), sys_inputs=inputs, pdf_standards=["a-2a", "ua-1"])
    return pdf


def _facts(report: ComplianceReport) -> list[list[str]]:
    facts = [["Reference", report.reference], ["Status", report.status.value]]
    if report.supersedes:
        facts += [["Supersedes", report.supersedes], ["Why", report.reason]]
    facts += [[f"Version of {name}", version] for name, version in sorted(report.versions.items())]
    return [*facts, ["SHA-256 of the data set", report.sha256]]


def _signatures(report: ComplianceReport) -> list[list[str]]:
    signed = {it.step: [it.person, f"{it.at:%Y-%m-%d %H:%M} UTC"] for it in report.signatures}
    return [[step.capitalize(), *signed.get(step, [NO_VALUE, NO_VALUE])] for step in STEPS]


def _section(report: ComplianceReport, table: Table) -> Mapping[str, Any] | None:
    if table.name in LEFT_OUT:
        return None
    one = len(report.table("identity").rows) == 1 and table.name != "identity"
    if not one and table.name in PIVOTED:
        table = PIVOTED[table.name](table)
    hidden = {(table.name, "factory"), *HIDDEN} if one else HIDDEN
    places = [
        at
        for at, column in enumerate(table.columns)
        if (table.name, column.name) not in hidden
        and ((table.name, column.name) not in OPTIONAL or any(row[at] not in {None, ""} for row in table.rows))
    ]
    chart, alt = _chart(table) if table.name == "days" else ("", "")
    shown = table.rows if len(table.rows) <= MOST_ROWS else ()
    columns = [f"{it.title}, {it.unit}" if it.unit else it.title for it in (table.columns[at] for at in places)]
    rows = [[_text(row[at]) for at in places] for row in shown]
    numeric = [any(isinstance(row[at], int | float) for row in shown) for at in places]
    widths = _widths(columns, rows)
    is_wide = len(columns) > MOST_COLUMNS or sum(widths) > ROOM
    if is_wide and len(rows) <= TURNED_ROWS:
        first, *others = zip(columns, *rows, strict=True)
        columns, rows = list(first), [list(line) for line in others]
        numeric, is_wide, widths = [False] * len(columns), False, _widths(columns, rows)
    return {
        "title": table.title,
        "note": table.note,
        "columns": columns,
        "widths": widths,
        "aligned": ["right" if is_number else "left" for is_number in numeric],
        "rows": rows,
        "is_wide": is_wide,
        "empty": "Nothing." if not table.rows else f"{len(table.rows):,} rows: they are in the other formats.",
        "chart": chart,
        "alt": alt,
        "caption": "CO2 of each local day; the hatched part was substituted.",
    }


def _checks(report: ComplianceReport) -> list[list[str]]:
    """Each check, the worst first; of very many, those for information once for each kind."""
    checks = sorted(report.checks, key=lambda check: list(Severity).index(check.severity))
    counted = Counter(check.name for check in checks if check.severity is Severity.INFO)
    if len(checks) > MOST_CHECKS:
        once = {check.name: check for check in reversed(checks) if check.severity is Severity.INFO}
        checks = [check for check in checks if check.severity is not Severity.INFO or once[check.name] is check]
    more = {name: count - 1 for name, count in counted.items() if len(report.checks) > MOST_CHECKS and count > 1}
    return [
        [
            check.severity.value,
            f"{check.text} And {more[check.name]} more of this kind: they are in the other formats."
            if check.severity is Severity.INFO and check.name in more
            else check.text,
        ]
        for check in checks
    ]


def _pivot(table: Table, by: str, unit: str, value: str, relative: bool) -> Table:
    """A row for each factory, with what it has for each ``by``, and how uncertain that is."""
    names = [column.name for column in table.columns]
    headings: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for row in (dict(zip(names, cells, strict=True)) for cells in table.rows):
        heading = str(row[by])
        headings.setdefault(heading, f"{_text(heading)}, {row.get(unit, unit)}")
        text, u = _text(row[value]), row["u_expanded"]
        if row[value] is not None and isinstance(u, float):
            text += (
                f" \N{PLUS-MINUS SIGN} {100 * u:.{0 if u >= 0.1 else 1}f} %"
                if relative
                else f" \N{PLUS-MINUS SIGN} {_text(u)}"
            )
        found.setdefault(str(row["factory"]), {})[heading] = text
    columns = (Column("factory", "Factory"), *(Column(name, title) for name, title in headings.items()))
    rows = tuple((slug, *(cells.get(name, NO_VALUE) for name in headings)) for slug, cells in found.items())
    note = f"{table.note} \N{PLUS-MINUS SIGN}: U (k = 2). How each came about is in the other formats.".strip()
    return replace(table, columns=columns, rows=rows, note=note)


PIVOTED: Mapping[str, Callable[[Table], Table]] = {
    "results": lambda table: _pivot(table, "title", "kg", "mass", relative=True),
    "intensities": lambda table: _pivot(table, "metric", "unit", "value", relative=False),
}
"""Tables that several factories have side by side."""


def _widths(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """What columns need beside each other, in characters. Texts break between their words, and words nowhere."""
    needs = []
    for at, title in enumerate(titles):
        cells = [row[at] for row in rows]
        word = max((len(word) for text in (title, *cells) for word in text.split()), default=0)
        longest = max(map(len, (*title.split(), *cells)), default=0)
        needs.append((min(word + 2, WIDEST[0]), max(longest + 2, NARROWEST)))
    found = []
    for widest in WIDEST:
        found = [min(longest, max(word, widest)) for word, longest in needs]
        if sum(found) <= ROOM:
            break
    return found


def _text(value: Any) -> str:
    """A value as people read it: four digits that count."""
    if value is None:
        return NO_VALUE
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    text = str(value)
    if found := MOMENT.fullmatch(text):
        return " ".join(found.groups())
    return WORDS.get(text, text.replace("_", " ")) if NAMES.fullmatch(text) else text


def _chart(table: Table) -> tuple[str, str]:
    """The days as bars of measured and substituted mass, and the same in words."""
    days: dict[str, list[float]] = {}
    for row in table.rows:
        found = dict(zip((column.name for column in table.columns), row, strict=True))
        sums = days.setdefault(str(found["day"]), [0.0, 0.0])
        sums[0] += float(found["co2"] or found["measured"] or 0.0)
        sums[1] += float(found["measured"] or 0.0)
    if not days or len(days) > CHARTED_DAYS:
        return "", ""
    highest = max(total for total, _ in days.values()) or 1.0
    width = 720 / len(days)
    bars = "".join(_bar(at * width, width, highest, *masses) for at, masses in enumerate(days.values()))
    first, last = next(iter(days)), list(days)[-1]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 200" font-family="Libertinus Serif" font-size="11">'
        '<defs><pattern id="h" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="6" height="6" fill="#f3d9b8"/><path d="M0 0V6" stroke="#a65a1e" stroke-width="2"/>'
        "</pattern></defs>"
        f'<g transform="translate(60 10)"><path d="M0 0V160H720" fill="none" stroke="#4d5b54"/>{bars}'
        f'<text x="-6" y="10" text-anchor="end">{highest:,.0f} kg</text><text x="-6" y="160" text-anchor="end">0</text>'
        f'<text x="0" y="178">{escape(first)}</text><text x="720" y="178" text-anchor="end">{escape(last)}</text>'
        "</g></svg>"
    )
    total = sum(mass for mass, _ in days.values())
    span = f"Bars of CO2 on {len(days)} days from {first} to {last}"
    return svg, f"{span}: {total:,.0f} kg in all, {highest:,.0f} kg on the highest day."


def _bar(x: float, width: float, highest: float, total: float, measured: float) -> str:
    whole, solid = 155 * total / highest, 155 * min(measured, total) / highest
    wide = max(width - 1.5, 0.5)
    parts = [f'<rect x="{x:.2f}" y="{160 - solid:.2f}" width="{wide:.2f}" height="{solid:.2f}" fill="#1b7a53"/>']
    if whole - solid > 0.01:
        parts.append(
            f'<rect x="{x:.2f}" y="{160 - whole:.2f}" width="{wide:.2f}" height="{whole - solid:.2f}" fill="url(#h)"/>'
        )
    return "".join(parts)


PDF = ComplianceFormat("pdf", "PDF, to read and to keep", "pdf", "application/pdf", render)


@hookimpl
def register_report_formats() -> Sequence[ComplianceFormat]:
    return (PDF,)
