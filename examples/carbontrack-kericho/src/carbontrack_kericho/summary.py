"""Compliance format "kericho_summary": the figures of each factory as Markdown, with the seal in a comment.

The figures stand beside each other: they do not add up to anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbontrack import Cell, ComplianceFormat, ComplianceReport, Kind, Manifest, Tier, hookimpl, rows_of

MANIFEST = Manifest(
    name="kericho_summary",
    version="1.0.0",
    kinds=(Kind.REPORT,),
    title="The figures of each factory, as Markdown",
    documentation="README.md",
    codeowners=("The boiler house of Kericho",),
    tier=Tier.PLATINUM,
)
MARKUP = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>()#+-.!|="} | {"\n": " ", "\r": " "})


def render(report: ComplianceReport) -> bytes:
    """The whole file, UTF-8."""
    lines = [f"# {_text(report.title)}", "", f"{_text(report.reference)}, {report.status}. {_text(report.note)}", ""]
    for factory in rows_of(report.table("identity")):
        lines += _factory(report, factory)
    lines += ["## Checks", ""]
    lines += [f"- {check.severity}: {_text(check.text)}" for check in report.checks] or ["Nothing was found."]
    lines += ["", f"SHA-256 of the data set: {report.sha256}", "", f"<!-- {report.seal} -->", ""]
    return "\n".join(lines).encode()


def _factory(report: ComplianceReport, factory: Mapping[str, Cell]) -> Sequence[str]:
    figures = rows_of(report.table("results"), factory=factory["factory"])
    rows = [f"| {_text(it['title'])} | {_text(it['scope'])} | {_kilograms(it['mass'])} |" for it in figures]
    head = [f"## {_text(factory['name'])}", "", "| Figure | Scope | kg |", "| --- | --- | ---: |"]
    return [*head, *rows, ""]


def _text(value: Cell) -> str:
    """What somebody typed, so that it is no markup."""
    return "" if value is None else str(value).translate(MARKUP)


def _kilograms(value: Cell) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else "not known"


@hookimpl
def register_report_formats() -> Sequence[ComplianceFormat]:
    return [
        ComplianceFormat(
            name="kericho_summary",
            title=MANIFEST.title,
            extension="md",
            media_type="text/markdown; charset=utf-8",
            render=render,
        )
    ]
