"""The project's own files hold together: links lead somewhere, and lock files name no place."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def test_links_between_the_documents_lead_somewhere() -> None:
    documents = [
        *ROOT.glob("*.md"),
        *(path for path in ROOT.glob("[a-z]*/**/*.md") if "node_modules" not in path.parts),
    ]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_the_lock_files_name_no_place() -> None:
    """They hold for every index and every machine."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.findall(r"\w+:/+\S+|^-.*|^\s*/.*", text, re.MULTILINE) == []
