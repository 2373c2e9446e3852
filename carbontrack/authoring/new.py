"""``carbontrack plugins new``: a package with a plugin that works, and passes its own tests, to begin with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import jinja2

from carbontrack import __version__
from carbontrack.hookspecs import Kind
from carbontrack.plugins.finding import FIRST_PARTY
from carbontrack.plugins.loading import NAME

TEMPLATES = Path(__file__).parent / "templates"
TITLES: Mapping[Kind, str] = {
    Kind.SENSOR: "Boards that send numbers with a separator",
    Kind.ALERT: "Hot gas that hardly moves",
    Kind.NOTIFIER: "Alerts to a web address",
    Kind.REPORT: "A line for each stack",
    Kind.PORTAL: "Silent devices",
}
_BRINGS: Mapping[Kind, str] = {
    Kind.SENSOR: "a sensor driver",
    Kind.ALERT: "an alert rule",
    Kind.NOTIFIER: "a notifier",
    Kind.REPORT: "a report format",
    Kind.PORTAL: "a page",
}
_OF_ALL = {
    "pyproject.toml": "common/pyproject.toml.j2",
    "README.md": "common/README.md.j2",
    "src/{package}/__init__.py": "{kind}/plugin.py.j2",
    "src/{package}/py.typed": "",
    "tests/conftest.py": "common/conftest.py.j2",
    "tests/test_{name}.py": "{kind}/test.py.j2",
}
_OF_KIND: Mapping[Kind, Mapping[str, str]] = {
    Kind.SENSOR: {"tests/vectors/{name}.json": "sensor/vectors.json.j2"},
    Kind.PORTAL: {"src/{package}/templates/{name}.html": "portal/page.html.j2"},
}


class CannotWrite(ValueError):
    """No package can be written; the text says why and what to do."""


def write_package(kind: Kind, name: str, into: Path, owner: str) -> tuple[Path, list[Path]]:
    """Write a package into a new folder; the folder, and its files. Raises :class:`CannotWrite` and OSError."""
    _check_name(name)
    if not re.fullmatch(r'[^"\\\n]+', owner.strip() or "\n"):
        raise CannotWrite("--owner must be a name or an address, without quotes.")
    values = {
        "kind": kind.value,
        "name": name,
        "distribution": f"carbontrack-{name.replace('_', '-')}",
        "package": f"carbontrack_{name}",
        "title": TITLES[kind],
        "brings": _BRINGS[kind],
        "owner": owner.strip(),
        "carbontrack_version": __version__,
    }
    folder = into / values["distribution"]
    if folder.exists():
        raise CannotWrite(f"{folder} is there already. Choose another name, or another folder with --into.")
    environment = _environment()
    written = []
    for path, template in {**_OF_ALL, **_OF_KIND.get(kind, {})}.items():
        file = folder / path.format(**values)
        file.parent.mkdir(parents=True, exist_ok=True)
        source = template.format(**values)
        file.write_text(environment.get_template(source).render(values) if source else "", encoding="utf-8")
        written.append(file)
    return folder, written


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        nearest = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40]
        hint = f" Perhaps {nearest}?" if NAME.fullmatch(nearest) else ""
        raise CannotWrite(
            f"{name!r} cannot be a plugin's name: small letters, digits and '_', a letter first, 40 at most.{hint}"
        )
    if name in FIRST_PARTY:
        raise CannotWrite(f"{name!r} is the name of a plugin that ships with Carbon Track. Choose another one.")


def _environment() -> jinja2.Environment:
    """Jinja with other brackets than its own: what is written may be a template itself."""
    return jinja2.Environment(  # noqa: S701  # what is made is Python and Markdown, of an author's own words
        loader=jinja2.FileSystemLoader(TEMPLATES),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
