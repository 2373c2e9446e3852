"""Report format "csv": every reading of the period, one a line, units in the second header row.

Comma-separated, UTF-8 with a byte order mark (so that spreadsheets read it as such), times in UTC. An empty cell is a
value that is missing; it is never zero. ``flags`` says what is known about a line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from carbontrack import Flag, Kind, Manifest, Report, ReportFormat, Tier, __version__, hookimpl

MANIFEST = Manifest(
    name="csv",
    version=__version__,
    kinds=(Kind.REPORT,),
    title="Readings as comma-separated values",
    documentation="docs/plugins/reports.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

COLUMNS = (
    ("measured_at", "UTC"),
    ("received_at", "UTC"),
    ("stack", ""),
    ("co2", "ppm"),
    ("temperature", "degC"),
    ("velocity", "m/s"),
    ("pressure", "kPa"),
    ("flow_rate", "m3/s"),
    ("co2_rate", "kg/s"),
    ("flags", ""),
    ("stream", ""),
    ("seq", ""),
)


def render(report: Report) -> bytes:
    """The whole file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(name for name, _ in COLUMNS)
    writer.writerow(unit for _, unit in COLUMNS)
    names = {stack.id: _safe(stack.name) for stack in report.stacks}
    for reading in report.readings:
        writer.writerow(
            (
                reading.measured_at.isoformat(timespec="milliseconds"),
                reading.received_at.isoformat(timespec="milliseconds"),
                names[reading.stack_id],
                _number(reading.co2_ppm),
                _number(reading.temperature_c),
                _number(reading.velocity_ms),
                _number(reading.pressure_kpa),
                _number(reading.flow_rate_m3s),
                _number(reading.co2_kg_per_s),
                " ".join(str(flag.name).lower() for flag in Flag if reading.flags & flag),
                reading.stream_pk,
                reading.seq,
            )
        )
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _number(value: float | None) -> str:
    """Seven significant digits: what a 32-bit float holds."""
    return "" if value is None else f"{value:.7g}"


def _safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


CSV = ReportFormat(
    name="csv", title="Readings as CSV", extension="csv", media_type="text/csv; charset=utf-8", render=render
)


@hookimpl
def register_report_formats() -> Sequence[ReportFormat]:
    return (CSV,)
