"""What the documentation's site needs beyond the folder ``docs``: a hook of MkDocs, named in ``mkdocs.yml``.

Documents lead to a few files outside of their folder (the firmware's README, the changes). Those become pages as well,
under ``project/``, and the links lead there, so that the same files work on a code host and on the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "deploy/mosquitto/README.md",
    "examples/carbontrack-kericho/README.md",
    "firmware/README.md",
    "tests/vectors/README.md",
)
LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside as pages of the site."""
    for name in OUTSIDE:
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, f"project/{name}", content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    for decision in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        found = files.get_file_from_path(f"decisions/{decision.name}")
        assert found is not None
        found.inclusion = InclusionLevel.NOT_IN_NAV  # their own list leads to them
    return files


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Have links lead to where things are on the site; what is only in the repository is named without a link."""
    here = page.file.src_uri
    in_repository = here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}"

    def led(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), target))
        if meant.startswith("docs/"):
            on_site = meant.removeprefix("docs/")
        elif meant in OUTSIDE:
            on_site = f"project/{meant}"
        elif (ROOT / meant).exists():
            return f"{text} (`{meant}`)" if f"`{meant}`" != text else text
        else:
            return found[0]  # MkDocs says that it leads nowhere
        return f"[{text}]({posixpath.relpath(on_site, posixpath.dirname(here) or '.')}{anchor})"

    return LINK.sub(led, markdown)
