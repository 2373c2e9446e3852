"""The project's own files hold together: what is installed is complete, and links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def test_an_installed_carbon_track_has_every_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "carbontrack", tmp_path / "carbontrack", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("carbontrack/")}

    sources = (path for path in (ROOT / "carbontrack").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {path.relative_to(ROOT).as_posix() for path in sources} - installed == set()


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
