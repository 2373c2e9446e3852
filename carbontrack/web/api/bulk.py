"""Many entries at once: a table is sent, what it comes to is seen first, and then all of it is kept or nothing."""

from __future__ import annotations

import asyncio
import csv
import email
import io
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from aiohttp import web

from carbontrack.model import Scope
from carbontrack.web.access import EVERYBODY, USER, WRITERS, origin
from carbontrack.web.answers import CSV
from carbontrack.web.api.registry import factory_for
from carbontrack.web.bulk import ENERGY, PRODUCTION, Entry, Finding, Kind, Upload, examine
from carbontrack.web.contract import Tag, Tried, operation
from carbontrack.web.entries import (
    UNUSUAL,
    EnergyOut,
    EntryInput,
    ProductionOut,
    local_date,
    show_energy,
    show_production,
)
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input, Output
from carbontrack.web.services import SERVICES
from carbontrack.web.spreadsheets import WORKBOOKS, Unreadable, read_table
from carbontrack.web.upload_rows import EXAMPLE, columns_for, read_rows

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FORM = "multipart/form-data"
FIRST = {"factory", "period_start", "period_end"}
"""What a template begins with."""
READS: dict[str, Any] = {
    CSV: {"type": "string"},
    XLSX: {"type": "string", "format": "binary"},
    FORM: {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}},
        "required": ["file"],
    },
}


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_post("/api/energy-entries/bulk/", upload_energy_entries)
    app.router.add_get("/api/energy-entries/template/", energy_template)
    app.router.add_post("/api/production-entries/bulk/", upload_production_entries)
    app.router.add_get("/api/production-entries/template/", production_template)


class UploadQuery(Input):
    factory_id: Id | None = None
    """The factory of all rows, so that they need not name it."""
    dry_run: bool = False
    """Keep nothing: only say what it would come to."""
    confirmed: bool = False
    """That unusual amounts are right."""
    allow_duplicates: bool = False
    """Keep rows as well that equal an entry that is there already, or another row."""


class RowFinding(Output):
    row: int
    """As a spreadsheet counts: the names of the columns are mostly in row 1."""
    field: str
    """Empty for what concerns no field."""
    message: str


class RowDuplicate(Output):
    row: int
    """As a spreadsheet counts."""
    entry_id: int | None
    """The entry that is there already. Null: another row of the table says the same."""
    message: str


class Uploaded(Output):
    rows: int
    """That the table has, without the names of its columns."""
    ok: int
    """Rows that are kept, or would be."""
    errors: list[RowFinding]
    questions: list[RowFinding]
    """Amounts that may be typing errors; they are kept when they are confirmed."""
    duplicates: list[RowDuplicate]
    """They are left out, unless they are allowed."""
    ids: list[int]
    """Of the entries that were kept, in the order of their rows. Empty where nothing was to be kept."""


class UploadedEnergy(Uploaded):
    entries: list[EnergyOut]
    """As they would be kept; empty when they have been."""


class UploadedProduction(Uploaded):
    entries: list[ProductionOut]
    """As they would be kept; empty when they have been."""


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, status=201, problems=(404,), reads=READS)
async def upload_energy_entries(request: web.Request, query: UploadQuery) -> UploadedEnergy | Tried[UploadedEnergy]:
    """Enter energy by a table: CSV or XLSX, with the API's names of fields as columns.

    All rows are kept or none. With `dry_run` nothing is kept, and the answer says what would be.
    """
    services, upload = request.app[SERVICES], await _examined(request, query, ENERGY)
    if not query.dry_run:
        return UploadedEnergy(**_said(upload), ids=await _kept(request, query, ENERGY, upload), entries=[])
    shown = await asyncio.to_thread(lambda: [show_energy(it, services) for it in upload.entries.values()])
    return Tried(UploadedEnergy(**_said(upload), ids=[], entries=shown))


@operation(Tag.ENTRIES, WRITERS, scope=Scope.ENTRIES, status=201, problems=(404,), reads=READS)
async def upload_production_entries(
    request: web.Request, query: UploadQuery
) -> UploadedProduction | Tried[UploadedProduction]:
    """Enter green leaf and made tea by a table, as for energy."""
    upload = await _examined(request, query, PRODUCTION)
    if not query.dry_run:
        return UploadedProduction(**_said(upload), ids=await _kept(request, query, PRODUCTION, upload), entries=[])
    shown = [show_production(it) for it in upload.entries.values()]
    return Tried(UploadedProduction(**_said(upload), ids=[], entries=shown))


async def _examined(request: web.Request, query: UploadQuery, kind: Kind[EntryInput, Entry]) -> Upload[Entry]:
    services, user = request.app[SERVICES], request[USER]
    if query.factory_id is not None:
        await factory_for(request, query.factory_id)
    try:
        table = await read_table(await _file(request), request.app[WORKBOOKS])
    except Unreadable as error:
        raise Problem(422, str(error)) from None
    rows = await asyncio.to_thread(read_rows, table, kind.given, services.time_zone)
    return await examine(kind, rows, user, services, only=query.factory_id, allow_duplicates=query.allow_duplicates)


async def _file(request: web.Request) -> bytes:
    body = await request.read()
    if request.content_type in {CSV, XLSX}:
        return body
    if request.content_type != FORM:
        raise Problem(415, f"Send a table as {CSV} or {XLSX}, or as a file in {FORM}.")
    # Not by request.post(): the body has been read already where the request has an Idempotency-Key.
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode(errors="surrogateescape")
    message = await asyncio.to_thread(email.message_from_bytes, head + body)
    files = [part for part in message.walk() if part.get_param("filename", header="Content-Disposition") is not None]
    if len(files) != 1:
        raise Problem(422, WRONG, (("file", f"send one file; there are {len(files)}"),))
    return bytes(files[0].get_payload(decode=True) or b"")


def _said(upload: Upload[Entry]) -> dict[str, Any]:
    return {
        "rows": upload.rows,
        "ok": len(upload.entries),
        "errors": [RowFinding.model_validate(it) for it in upload.errors],
        "questions": [RowFinding.model_validate(it) for it in upload.questions],
        "duplicates": [RowDuplicate.model_validate(it) for it in upload.duplicates],
    }


async def _kept(
    request: web.Request, query: UploadQuery, kind: Kind[EntryInput, Entry], upload: Upload[Entry]
) -> list[int]:
    """Keep what a table comes to, and give its numbers. Raises :class:`Problem` where a row must be looked at first."""
    if upload.errors:
        raise _refused("Nothing was kept: some values are wrong.", upload.errors)
    if upload.questions and not query.confirmed:
        problem = _refused(
            "Nothing was kept: some amounts are unusual. If they are right, send it again with confirmed=true.",
            upload.questions,
        )
        problem.type = UNUSUAL
        raise problem
    services = request.app[SERVICES]
    kept = await kind.add(services.store, list(upload.entries.values()), origin(request), services.clock())
    return [it.id for it in kept]


def _refused(detail: str, findings: Sequence[Finding]) -> Problem:
    problem = Problem(422, detail, tuple((it.field, it.message) for it in findings))
    problem.rows = tuple(it.row for it in findings)
    return problem


# --- templates


@operation(Tag.ENTRIES, EVERYBODY, media=(CSV,))
async def energy_template(request: web.Request) -> web.Response:
    """A table to begin with, as CSV: the names of the columns, and a row as an example."""
    return _template(request, ENERGY, "energy-entries")


@operation(Tag.ENTRIES, EVERYBODY, media=(CSV,))
async def production_template(request: web.Request) -> web.Response:
    """As for energy."""
    return _template(request, PRODUCTION, "production-entries")


def _template(request: web.Request, kind: Kind[EntryInput, Entry], name: str) -> web.Response:
    services, is_of_one = request.app[SERVICES], request[USER].factory_id is not None
    yesterday = local_date(services.clock() - timedelta(days=1), services).isoformat()
    example = {"factory": "", "period_start": yesterday, "period_end": yesterday, "note": EXAMPLE, **kind.example}
    left_out = {"timestamp", "factory_id"} | ({"factory"} if is_of_one else set())
    columns = sorted((it for it in columns_for(kind.given) if it not in left_out), key=lambda it: it not in FIRST)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerow(example)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return web.Response(text=out.getvalue(), content_type=CSV, headers=headers)
