"""Every route of the running application, and the policy of docs/access.md that says who may call it.

``python -m tests.support.routes --write`` brings the table of the policy up to date: routes that are gone leave it, new
ones come with `?` in each cell, to be decided by a person. PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbontrack.model import Role
from carbontrack.web.access import SAFE_METHODS
from carbontrack.web.contract import Operation, operation_of
from tests.support.web import Portal, running_portal

POLICY = Path(__file__).parents[2] / "docs" / "access.md"
ROLES = (Role.HQ_MANAGER, Role.OPERATOR, Role.AUDITOR, Role.FACTORY_MANAGER, Role.FACTORY_CLERK)
COLUMNS = ("nobody", *(role.value for role in ROLES), "device", "API token")
HEAD = "| Route | " + " | ".join(f"`{name}`" if name in set(Role) else name for name in COLUMNS) + " |"


@dataclass(frozen=True)
class Route:
    """One method of one address. ``operation`` is what the API says of it; pages have none."""

    method: str
    path: str
    access: Any
    operation: Operation | None
    answers_head: bool = True

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def changes(self) -> bool:
        return self.method not in SAFE_METHODS


def routes(portal: Portal) -> list[Route]:
    """All that the application answers to: the API, pages, and the pages that plugins bring."""
    known = [route for route in portal.server.app.router.routes() if route.resource is not None]
    head = {route.handler for route in known if route.method == "HEAD"}
    found = [
        Route(
            route.method,
            route.resource.canonical,
            getattr(route.handler, "access", None),
            operation_of(route.handler, route.method),
            route.handler in head,
        )
        for route in known
        if route.resource is not None and route.method != "HEAD"
    ]
    views = portal.services.plugins.contributions.portals.values()
    return found + [Route("GET", view.path, _OfView(view.roles), None) for view in views]


@dataclass(frozen=True)
class _OfView:
    """The access that a plugin's page gets."""

    roles: frozenset[Role]
    scope: None = None
    metrics: bool = False
    canary: bool = False
    devices: bool = False


# --- the policy


def policy() -> dict[str, dict[str, str]]:
    """What docs/access.md says: for each route, what stands in each column."""
    return {
        re.sub(r"^`|`$", "", route): dict(zip(COLUMNS, cells, strict=True))
        for route, *cells in (_cells(line) for line in _table(POLICY.read_text(encoding="utf-8")))
    }


def _table(text: str) -> list[str]:
    return text.partition(HEAD + "\n")[2].partition("\n\n")[0].splitlines()[1:]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def written(text: str, wanted: Sequence[Route], known: Mapping[str, Mapping[str, str]]) -> str:
    """The document with a row for each of these routes, in their order."""
    lines = [HEAD, "| --- |" + " --- |" * len(COLUMNS)]
    for route in wanted:
        cells = known.get(route.name, dict.fromkeys(COLUMNS, "?"))
        lines.append(f"| `{route.name}` | " + " | ".join(cells[name] for name in COLUMNS) + " |")
    before, _, rest = text.partition(HEAD + "\n")
    after = rest.partition("\n\n")[2]
    return before + "\n".join(lines) + "\n" + (f"\n{after}" if after else "")


async def _all_routes() -> list[Route]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_portal(f"sqlite://{folder}/web.sqlite3") as portal:
            return routes(portal)


def main() -> None:
    """Say which routes the policy lacks, or write them into it."""
    arguments = argparse.ArgumentParser(description="Compare docs/access.md with the application's routes.")
    arguments.add_argument("--write", action="store_true", help="bring the table up to date")
    wanted, known = asyncio.run(_all_routes()), policy()
    if arguments.parse_args().write:
        POLICY.write_text(written(POLICY.read_text(encoding="utf-8"), wanted, known), encoding="utf-8")
    elif missing := [route.name for route in wanted if route.name not in known]:
        sys.exit("docs/access.md says nothing of " + ", ".join(missing))


if __name__ == "__main__":
    main()
