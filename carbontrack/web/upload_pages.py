"""The page of an uploaded table: what it comes to, and the button that keeps it.

Nothing is kept in between: the page itself has the rows with it, and they are judged again when they come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from carbontrack.model import Factory
from carbontrack.web.access import USER, WRITERS, allow, origin
from carbontrack.web.bulk import ENERGY, PRODUCTION, Entry, Kind, Upload, examine
from carbontrack.web.entries import EnergyInput, EntryInput, ProductionInput
from carbontrack.web.errors import Problem
from carbontrack.web.forms import content_of, posted
from carbontrack.web.ledger_pages import ENERGY_TITLES, UNIT_TITLES, page_factory
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.services import SERVICES
from carbontrack.web.spreadsheets import MOST_ROWS, WORKBOOKS, Unreadable, read_table
from carbontrack.web.templating import render
from carbontrack.web.upload_rows import Row, read_rows
from carbontrack.words import decimal, gettext

SHOWN = 200
"""Rows of each list on the page; a cheap phone has to carry them."""
MOST_CARRIED_BYTES = 900_000
"""The page sends its rows back in one body, which has 1 MiB at most."""
Number = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class _Table(Generic[EntryInput, Entry]):
    """One of the two kinds of tables; ``carried`` are its rows on their way by the page."""

    kind: Kind[EntryInput, Entry]
    carried: TypeAdapter[list[tuple[int, EntryInput]]]


TABLES: dict[str, _Table[Any, Any]] = {
    "energy": _Table(ENERGY, TypeAdapter(Annotated[list[tuple[Number, EnergyInput]], Field(max_length=MOST_ROWS)])),
    "tea": _Table(
        PRODUCTION, TypeAdapter(Annotated[list[tuple[Number, ProductionInput]], Field(max_length=MOST_ROWS)])
    ),
}


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_post("/factory/{slug}/entries/upload", look_at_table)
    app.router.add_post("/factory/{slug}/entries/upload/keep", keep_table)


@allow(WRITERS)
async def look_at_table(request: web.Request) -> web.StreamResponse:
    """Show what a table comes to."""
    services, factory = request.app[SERVICES], await page_factory(request)
    name, page = "energy", _Page(request, factory)
    try:
        form = await posted(request)
        name = str(form.get("kind"))
        table = _table(name)
        found = await read_table(content_of(form.get("file")), request.app[WORKBOOKS])
        rows = await asyncio.to_thread(read_rows, found, table.kind.given, services.time_zone)
        return await page.show(name, table, rows, await _examine(request, table, rows, factory))
    except web.HTTPRequestEntityTooLarge:
        return page.refuse(name, gettext("The file is larger than 1 MiB. Send it in parts."))
    except Unreadable as error:
        return page.refuse(name, str(error))
    except Problem as problem:
        return page.refuse(name, gettext(problem.detail), problem.errors)


@allow(WRITERS)
async def keep_table(request: web.Request) -> web.StreamResponse:
    """Keep the rows that the page has carried, or show them again where there is something new to say of them."""
    services, factory = request.app[SERVICES], await page_factory(request)
    form = await posted(request)
    name = str(form.get("kind"))
    table = _table(name)
    try:
        carried = table.carried.validate_json(str(form.get("rows", "")))
    except ValidationError:
        raise web.HTTPBadRequest(text=gettext("The table did not come back whole. Upload it again.")) from None
    rows = [Row(number, given) for number, given in carried]
    page, allow_duplicates = _Page(request, factory), "allow_duplicates" in form
    upload = await _examine(request, table, rows, factory, allow_duplicates=allow_duplicates)
    if str(len(upload.duplicates)) != form.get("duplicates"):
        # Somebody has entered the same meanwhile, or the button was pressed twice.
        return await page.show(name, table, rows, await _examine(request, table, rows, factory), is_again=True)
    if upload.errors or (upload.questions and "confirmed" not in form):
        return await page.show(name, table, rows, upload, is_again=True, allow_duplicates=allow_duplicates)
    kept = await table.kind.add(services.store, list(upload.entries.values()), origin(request), services.clock())
    if len(kept) == 1:
        text = gettext("One entry of the table is kept.")
    else:
        text = gettext("%(count)s entries of the table are kept.", count=decimal(len(kept)))
    raise sent_on(request, f"/factory/{factory.slug}/entries", Notice(text))


def _table(name: str) -> _Table[Any, Any]:
    if name not in TABLES:
        raise web.HTTPBadRequest(text=gettext("kind must be one of %(names)s.", names=", ".join(TABLES)))
    return TABLES[name]


async def _examine(
    request: web.Request,
    table: _Table[EntryInput, Entry],
    rows: Sequence[Row[EntryInput]],
    factory: Factory,
    *,
    allow_duplicates: bool = False,
) -> Upload[Entry]:
    user, services = request[USER], request.app[SERVICES]
    return await examine(table.kind, rows, user, services, only=factory.id, allow_duplicates=allow_duplicates)


class _Page:
    """The page that says what a table comes to."""

    def __init__(self, request: web.Request, factory: Factory) -> None:
        self._request = request
        self._factory = factory

    async def show(
        self,
        name: str,
        table: _Table[EntryInput, Entry],
        rows: Sequence[Row[EntryInput]],
        upload: Upload[Entry],
        *,
        is_again: bool = False,
        allow_duplicates: bool = False,
    ) -> web.Response:
        """What is to be said of the rows, and the button that keeps them."""
        given = [(row.number, row.given) for row in rows if row.given is not None]
        carried = await asyncio.to_thread(table.carried.dump_json, given, exclude_unset=True)
        if not upload.errors and len(carried) > MOST_CARRIED_BYTES:
            text = gettext("There is too much text in the table for this page. Send it in parts.")
            return self.refuse(name, text)
        return self._render(
            name,
            upload=upload,
            carried=carried.decode(),
            is_again=is_again,
            allow_duplicates=allow_duplicates,
        )

    def refuse(self, name: str, problem: str, errors: Sequence[tuple[str, str]] = ()) -> web.Response:
        """What is no table, or has other columns."""
        return self._render(name, problem=problem, column_errors=errors, status=422)

    def _render(self, name: str, *, status: int = 200, **values: Any) -> web.Response:
        about = {
            "factory": self._factory,
            "section": "entries",
            "kind": name,
            "shown": SHOWN,
            "upload": None,
            "problem": "",
            "column_errors": (),
            "energy_titles": ENERGY_TITLES,
            "unit_titles": UNIT_TITLES,
        }
        page = render(self._request, "upload.html", about | values)
        page.set_status(status)
        return page
