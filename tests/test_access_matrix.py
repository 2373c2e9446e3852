"""Every route, asked by everybody, for what is theirs and for what is another factory's.

Nobody gets more than docs/access.md says, what the routes say of themselves is the same, and what was done is in the
audit log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import ClientSession, DummyCookieJar

from carbontrack.model import AuditEvent, Scope
from tests.support.calls import Request, call_of, maker_of, prepare, send, told
from tests.support.estate import Caller, Estate, Maker, Side, leaked, render_at_once, running_estate
from tests.support.routes import ROLES, Route, policy, routes
from tests.support.web import running_portal

ALLOWED = {409, 422}
"""Beside 2xx and 3xx: whoever is told what is wrong with a request was let in."""


# --- the document and the declarations


async def test_the_policy_has_a_row_for_every_route_and_for_no_other(tmp_path: Path) -> None:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as portal:
        wanted, known = {route.name for route in routes(portal)}, policy()

    assert wanted - known.keys() == set(), "add them: python -m tests.support.routes --write"
    assert known.keys() - wanted == set(), "they are gone: python -m tests.support.routes --write"
    undecided = {name for name, cells in known.items() if "?" in cells.values()}
    assert undecided == set(), "decide who may call them"


async def test_every_route_declares_what_the_policy_says(tmp_path: Path) -> None:
    known = policy()
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}") as portal:
        declared = {route.name: declaration(route) for route in routes(portal)}

    assert declared == {name: {**cells, **without_own(cells)} for name, cells in known.items()}


def declaration(route: Route) -> dict[str, str]:
    """What a route says of itself, in the words of the policy. It does not say whose data it gives."""
    access = route.access
    assert access is not None, f"{route.name} does not say who may come in"
    if access.canary:
        return dict.fromkeys(["nobody", *ROLES, "device"], "no") | {"API token": "none"}
    if access.roles is None:
        return dict.fromkeys(["nobody", *ROLES, "device"], "yes") | {"API token": "any"}
    scope = access.scope or (None if route.changes else Scope.READ)
    return {
        "nobody": "no",
        **{role.value: "yes" if role in access.roles else "no" for role in ROLES},
        "device": "yes" if access.devices else "no",
        "API token": scope.value if scope is not None else "none",
    }


def without_own(cells: dict[str, str]) -> dict[str, str]:
    return {name: "yes" if cell == "own" else cell for name, cell in cells.items()}


# --- what really happens


@dataclass(frozen=True)
class Cell:
    """One request of the table, and how it should end: ``yes``, or a status."""

    caller: Caller
    side: Side
    expected: str | int


def cells(estate: Estate, route: Route, row: dict[str, str]) -> Iterator[Cell]:
    """Everybody, with what is theirs, and with another factory's where the route speaks of a factory at all."""
    call = call_of(route)
    has_sides = call.depends_on_the_factory or maker_of(route) is not None
    for caller in estate.callers:
        lacks_scope = caller.scope is not None and row["API token"] not in {"any", caller.scope}
        for side in (estate.own, estate.other) if has_sides and not lacks_scope else (estate.own,):
            yield Cell(caller, side, expected(estate, route, row, caller, side))


def expected(estate: Estate, route: Route, row: dict[str, str], caller: Caller, side: Side) -> str | int:
    cell, needed = row[caller.column], row["API token"]
    refusal = 401 if caller.user is None or route.access.canary else 403
    if cell == "no" or (caller.scope is not None and needed not in {"any", caller.scope}):
        return refusal
    if cell == "own" and side is estate.other:
        return 404 if caller.user is not None else 403  # a device is told that it sends for itself alone
    return "yes"


@pytest.mark.timeout(600)  # four thousand requests; half a minute where nothing else runs
async def test_everybody_gets_what_the_policy_says_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_at_once(monkeypatch)
    known = policy()
    async with (
        running_estate(f"sqlite://{tmp_path / 'web.sqlite3'}") as estate,
        ClientSession(estate.portal.server.make_url("/"), cookie_jar=DummyCookieJar()) as client,
    ):
        table = Table(estate, client)
        for route in routes(estate.portal):
            for cell in cells(estate, route, known[route.name]):
                await table.try_out(route, cell)
    assert not table.wrong, "\n".join(table.wrong)
    never = set(known) - table.done
    assert never == {"GET /api/canary/"}, "a request that is only ever refused for what it brings shows little"


@dataclass
class Table:
    """Makes the requests, and notes what is wrong with the answers. ``done`` are the routes that did what was asked."""

    estate: Estate
    client: ClientSession
    wrong: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    _kept: dict[tuple[Maker, str], str] = field(default_factory=dict)

    async def try_out(self, route: Route, cell: Cell) -> None:
        """Make the request of a cell, and look at the answer, and at the audit log."""
        is_done = route.changes and cell.expected == "yes"
        caller = await self.estate.again(cell.caller) if is_done and call_of(route).ends else cell.caller
        request = await prepare(self.estate, route, caller, cell.side, None if is_done else self._kept)
        before = await self._newest() if route.changes else None
        status, answer = await send(self.client, request)

        if status < 400:
            self.done.add(route.name)
        got: str | int = "yes" if status < 400 or status in ALLOWED else status
        problems = [] if got == cell.expected else [f"{status} instead of {cell.expected}"]
        problems += self._leaks(request, caller, told(self.estate, route, answer))
        if route.changes:
            problems += self._unaudited(route, caller, request, status, before, await self._newest())
        if route.answers_head and caller.name in {"nobody", "factory_clerk"}:
            head, _ = await send(self.client, replace(request, method="HEAD"))
            problems += [] if head == status else [f"HEAD is {head}"]
        whose = "own" if cell.side is self.estate.own else "another's"
        self.wrong += [f"{route.name} by {caller.name}, {whose}: {problem}" for problem in problems]

    async def _newest(self) -> AuditEvent | None:
        found = await self.estate.store.audit_events(limit=1)
        return found[0] if found else None

    def _leaks(self, request: Request, caller: Caller, answer: bytes) -> list[str]:
        """Anything of the other factory, but what the request itself has said of it."""
        if not caller.is_of_a_factory:
            return []
        return [f"the answer says {word}" for word in sorted(leaked(answer) - leaked(request.said.encode()))]

    def _unaudited(
        self,
        route: Route,
        caller: Caller,
        request: Request,
        status: int,
        before: AuditEvent | None,
        after: AuditEvent | None,
    ) -> list[str]:
        """A change leaves an event with who made it, and what was refused leaves none."""
        call = call_of(route)
        is_noted = before != after
        if status >= 400:
            return [f"the audit log has {after.action if after else after}"] if is_noted else []
        is_nobody = caller.user is None or (call.ends and caller.scope is not None)  # a token is no session
        if call.unaudited or (is_nobody and call.actor is None):
            return []
        if after is None or not is_noted:
            return ["the audit log has nothing of it"]
        actor = call.actor(request.it) if call.actor and request.it else caller.user.email if caller.user else ""
        token = caller.name.removeprefix("token of ") if caller.scope else ""
        told = after.actor, after.token, bool(after.address)
        wanted = actor, "" if call.actor else token, True
        return [] if told == wanted else [f"the audit log says {told} instead of {wanted}"]
