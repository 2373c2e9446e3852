"""What was reported."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.emissions.factors import FactorMissing
from carbontrack.ledger import Statement, StatementKey, TargetStatus
from carbontrack.model import Scope
from carbontrack.web.access import EVERYBODY, REPORTERS, USER, may_see, origin
from carbontrack.web.api.entries import visible
from carbontrack.web.api.registry import factory_for
from carbontrack.web.contract import Tag, operation
from carbontrack.web.entries import factory_to_write
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input, Output, Page, Paged, cut, path_id, zoned
from carbontrack.web.services import SERVICES

LONGEST_REPORT = timedelta(days=367)


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/compliance/", statements)
    app.router.add_post("/api/compliance/", report)
    app.router.add_get("/api/compliance/{id:\\d{1,9}}/", one_statement)
    app.router.add_get("/api/compliance/{id:\\d{1,9}}/download/", download)


class NewStatement(Input):
    factory_id: Id | None = Field(None, examples=[1])
    """People of a factory may leave it out."""
    period_start: datetime = Field(examples=["2026-02-01T00:00:00+03:00"])
    period_end: datetime = Field(examples=["2026-03-01T00:00:00+03:00"])
    reason: str = Field("", max_length=500)
    """Why a period that was reported already is corrected."""


class StatementOut(Output):
    """The measured stack CO2 of a period, and the four numbers beside it."""

    id: int
    factory_id: int
    period_start: datetime
    period_end: datetime
    total_emissions_kg: float | None
    """Measured CO2 of the stacks, named so; not a sum of the four numbers."""
    biogenic_kg: float | None
    fossil_kg: float | None
    ch4_n2o_co2e_kg: float | None
    grid_co2e_kg: float | None
    target_met: bool | None
    """Null: there is no target, or there are not enough data."""
    availability: float | None
    """Valid over operating hours."""
    status: Literal["reported", "superseded"]
    version: int
    reason: str
    author: str
    created_at: datetime
    sha256: str
    """Of the frozen account."""

    @classmethod
    def of(cls, statement: Statement, *, newest: bool) -> StatementOut:
        return cls(**_values(statement, newest=newest))


def _values(statement: Statement, *, newest: bool) -> dict[str, Any]:
    figures = json.loads(statement.figures)
    return {
        "id": statement.id,
        "factory_id": statement.factory_id,
        "period_start": statement.period_start,
        "period_end": statement.period_end,
        "total_emissions_kg": figures["stack_co2"]["value_kg"],
        "biogenic_kg": figures["biogenic_co2"]["value_kg"],
        "fossil_kg": figures["fossil_co2"]["value_kg"],
        "ch4_n2o_co2e_kg": figures["ch4_n2o_co2e"]["value_kg"],
        "grid_co2e_kg": figures["grid_co2e"]["value_kg"],
        "target_met": _target_met({status for _, _, status in figures.get("targets", [])}),
        "availability": figures["availability"],
        "status": "reported" if newest else "superseded",
        "version": statement.version,
        "reason": statement.reason,
        "author": statement.author,
        "created_at": statement.created_at,
        "sha256": statement.sha256,
    }


def _target_met(statuses: set[str]) -> bool | None:
    if not statuses or TargetStatus.INSUFFICIENT_DATA in statuses:
        return None
    return TargetStatus.NOT_MET not in statuses


def _newest(keys: Iterable[StatementKey]) -> set[int]:
    """The ids of each period's newest version; they come with the newest first."""
    found: dict[tuple[int, datetime, datetime], int] = {}
    for key in keys:
        found.setdefault((key.factory_id, key.period_start, key.period_end), key.id)
    return set(found.values())


class StatementQuery(Paged):
    sort: Literal["period_start", "-period_start", "created_at", "-created_at"] = "-period_start"
    factory_id: Id | None = None
    status: Literal["reported", "superseded"] | None = None


@operation(Tag.REPORTS, EVERYBODY, problems=(404,))
async def statements(request: web.Request, query: StatementQuery) -> Page[StatementOut]:
    """Everything that was reported, the latest first; corrections stand beside what they correct."""
    store = request.app[SERVICES].store
    keys = await store.statement_keys(visible(request[USER], query.factory_id))
    newest = _newest(keys)
    wanted = [key for key in keys if query.status is None or (query.status == "reported") is (key.id in newest)]
    page, cursor = cut(wanted, query, query.sort)
    found = await store.statements_of([key.id for key in page])
    return Page([StatementOut.of(it, newest=it.id in newest) for it in found], cursor)


@operation(Tag.REPORTS, REPORTERS, scope=Scope.REPORTS, status=201, problems=(404,))
async def report(request: web.Request, body: NewStatement) -> StatementOut:
    """Report a period: its account is frozen. Reporting it again is a correction and needs a reason.

    The period is of whole hours, and over. 409: it was reported already, and there is no reason.
    """
    services = request.app[SERVICES]
    factory = await factory_for(request, factory_to_write(request[USER], body.factory_id))
    start, end = zoned("period_start", body.period_start), zoned("period_end", body.period_end)
    if end - start > LONGEST_REPORT:
        raise Problem(422, WRONG, (("period_end", "must be a year after period_start at most"),))
    try:
        kept = await services.books.report(
            factory, start, end, by=origin(request), now=services.clock(), reason=body.reason
        )
    except FactorMissing as error:
        raise Problem(409, str(error)) from None
    except ValueError as error:
        if type(error) is not ValueError:
            raise  # a refusal of the store, which has its own answer
        raise Problem(422, WRONG, (("period_end", str(error)),)) from None
    return StatementOut.of(kept, newest=True)


class StatementWithAccount(StatementOut):
    account: dict[str, Any]
    """The whole account as it was frozen."""
    outdated: bool
    """Whether the data say something else by now."""


async def _statement(request: web.Request) -> Statement:
    found = await request.app[SERVICES].store.statement(path_id(request))
    if found is None or not may_see(request[USER], found.factory_id):
        raise Problem(404, "There is no such report for you.")
    return found


@operation(Tag.REPORTS, EVERYBODY)
async def one_statement(request: web.Request) -> StatementWithAccount:
    """One statement with its whole account, and whether the data say something else by now."""
    services, found = request.app[SERVICES], await _statement(request)
    factory = await factory_for(request, found.factory_id)
    newest = _newest(await services.store.statement_keys(found.factory_id))
    return StatementWithAccount(
        **_values(found, newest=found.id in newest),
        account=json.loads(found.figures),
        outdated=await services.books.is_outdated(found, factory),
    )


class DownloadQuery(Input):
    format: Literal["json"] = "json"


@operation(Tag.REPORTS, EVERYBODY, media=("application/json",))
async def download(request: web.Request, query: DownloadQuery) -> web.StreamResponse:
    """The frozen account as a file, byte for byte as it was hashed: its SHA-256 is that of the report."""
    found = await _statement(request)
    digest = base64.b64encode(bytes.fromhex(found.sha256)).decode()
    name = f"carbontrack-report-{found.id}-version-{found.version}.{query.format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Repr-Digest": f"sha-256=:{digest}:"}
    return web.Response(text=found.figures, content_type="application/json", headers=headers)
