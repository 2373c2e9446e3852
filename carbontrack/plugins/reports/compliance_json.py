"""Compliance format "json": the whole report as one JSON file, for programs.

``dataset`` is what is hashed, and the SHA-256 of its canonical form (keys sorted, no spaces, UTF-8) is ``sha256``:
whoever has Python checks it with ``hashlib.sha256(json.dumps(dataset, sort_keys=True, ensure_ascii=False,
separators=(",", ":")).encode())``. What stands beside it says who signed the report and what it is called.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from carbontrack import (
    ComplianceFormat,
    ComplianceReport,
    Kind,
    Manifest,
    Tier,
    __version__,
    compliance_dataset,
    hookimpl,
)

MANIFEST = Manifest(
    name="compliance_json",
    version=__version__,
    kinds=(Kind.REPORT,),
    title="Compliance reports as JSON",
    documentation="docs/reports.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)


def render(report: ComplianceReport) -> bytes:
    """The whole file."""
    values = {
        "reference": report.reference,
        "status": report.status.value,
        "supersedes": report.supersedes,
        "reason": report.reason,
        "made_at": report.made_at.isoformat() if report.made_at else None,
        "signatures": [{"step": it.step, "person": it.person, "at": it.at.isoformat()} for it in report.signatures],
        "dataset": compliance_dataset(report),
        "sha256": report.sha256,
        "seal": report.seal,
    }
    return json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"


JSON = ComplianceFormat("json", "JSON, for programs", "json", "application/json", render)


@hookimpl
def register_report_formats() -> Sequence[ComplianceFormat]:
    return (JSON,)
