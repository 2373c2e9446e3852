"""Compliance reports: making them, their life, and their files."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.compliance import ReportStatus, Severity
from carbontrack.compliance_changes import ChangeKind
from carbontrack.model import Scope
from carbontrack.plugins import RenderError
from carbontrack.report_desk import Comparison, Job, JobState, Order, TooManyReports, group_name
from carbontrack.store import KeptReport
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, USER, WRITERS, origin
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.report_access import (
    STEP_ROLES,
    StepName,
    factories_of,
    job_for,
    own_factory,
    report_for,
    report_response,
)
from carbontrack.web.rest import WRONG, Id, Input, Output, Page, Paged, id_before, path_id, write_cursor, zoned
from carbontrack.web.services import SERVICES

MEDIA = (
    "application/json",
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/zip",
)
"""Of our own formats; a plugin's format has its own."""


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/reports/", reports)
    app.router.add_post("/api/reports/", make)
    app.router.add_get("/api/reports/jobs/{job}/", one_job)
    app.router.add_delete("/api/reports/jobs/{job}/", cancel)
    app.router.add_get("/api/reports/{id:\\d{1,9}}/", one_report)
    app.router.add_post("/api/reports/{id:\\d{1,9}}/steps/", step)
    app.router.add_get("/api/reports/{id:\\d{1,9}}/file/", file)
    app.router.add_get("/api/reports/{id:\\d{1,9}}/changes/", compared)
    app.router.add_post("/api/reports/{id:\\d{1,9}}/changes/", compare)


class ReportOut(Output):
    """A compliance report as the library has it."""

    id: int
    reference: str
    """What every file of it calls it: number and version."""
    title: str
    """What it is of, in words."""
    factory_ids: list[int]
    """The factories that it is of."""
    period_start: datetime
    period_end: datetime
    status: ReportStatus
    is_superseded: bool
    """A later version of the same number is final."""
    critical_checks: int
    """So many checks keep it from becoming final."""
    sha256: str
    """Of its data set: the same in every format."""
    reason: str
    """Why it corrects the version before it."""
    comment: str
    """What whoever returned it said."""
    made_at: datetime
    made_by: str
    """Who had it made."""
    prepared_at: datetime | None
    prepared_by: str
    """Who handed it on; empty before that."""
    reviewed_at: datetime | None
    reviewed_by: str
    """Who reviewed it; empty before that."""
    approved_at: datetime | None
    approved_by: str
    """Who approved it; empty before that."""

    @classmethod
    def of(cls, kept: KeptReport) -> ReportOut:
        names = set(cls.model_fields) - {"reference", "factory_ids", "critical_checks"}
        return cls(
            reference=kept.reference,
            factory_ids=list(kept.factory_ids),
            critical_checks=kept.critical,
            **{name: getattr(kept, name) for name in names},
        )


class CheckOut(Output):
    name: str
    severity: Severity
    factory: str
    """Its short name; empty for what concerns the report as a whole."""
    text: str
    """What was found, and often what to do."""


class ReportWithChecks(ReportOut):
    checks: list[CheckOut]
    """What the automatic checks found."""


class JobOut(Output):
    """A report that is being made."""

    id: str
    title: str
    """What it is of, in words."""
    state: JobState
    done: int
    """So many of the factories are gathered."""
    total: int
    """So many factories there are."""
    error: str
    """Why it failed; empty if it did not."""
    report_id: int | None
    """The report, once it is made."""

    @classmethod
    def of(cls, job: Job) -> JobOut:
        names = ("id", "title", "state", "done", "total", "error")
        return cls(report_id=job.report.id if job.report else None, **{name: getattr(job, name) for name in names})


class ReportQuery(Paged):
    sort: Literal["-id"] = "-id"
    search: str = Field("", max_length=80)
    """Words of the title, a number, or who made it."""
    status: ReportStatus | None = None


@operation(Tag.REPORTS, EVERYBODY)
async def reports(request: web.Request, query: ReportQuery) -> Page[ReportOut]:
    """The library of compliance reports, the newest first."""
    found = await request.app[SERVICES].store.reports(
        factory_id=own_factory(request[USER]),
        search=query.search,
        status=query.status,
        after_id=id_before(query.cursor),
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    return Page([ReportOut.of(it) for it in shown], write_cursor([shown[-1].id]) if len(found) > query.limit else None)


class NewReport(Input):
    factory_ids: list[Id] | None = Field(None, max_length=1000, examples=[[1]])
    """People of a factory may leave it out; for all others that means all factories."""
    period_start: datetime = Field(examples=["2026-02-01T00:00:00+03:00"])
    period_end: datetime = Field(examples=["2026-03-01T00:00:00+03:00"])
    title: str = Field("", max_length=200)
    """Without one, a title is made of the factories and the period."""
    corrects: Id | None = None
    """The final report that this is the next version of; then `reason` is needed."""
    reason: str = Field("", max_length=500)


@operation(Tag.REPORTS, WRITERS, scope=Scope.REPORTS, status=202, problems=(404, 503))
async def make(request: web.Request, body: NewReport) -> JobOut:
    """Begin to make a report; the answer is a job that says how far it is."""
    services, user = request.app[SERVICES], request[USER]
    known = {it.id: it for it in await services.store.factories()}
    visible = [it for it in known.values() if user.role in NETWORK_ROLES or it.id == user.factory_id]
    wanted = set(body.factory_ids) if body.factory_ids else {it.id for it in visible}
    chosen = [it for it in visible if it.id in wanted]
    if len(chosen) != len(wanted) or not chosen:
        raise Problem(404, "There is no such factory for you.")
    if body.corrects is not None:
        await report_for(request, body.corrects)
    start, end = zoned("period_start", body.period_start), zoned("period_end", body.period_end)
    if end <= start:
        raise Problem(422, WRONG, (("period_end", "must be after period_start"),))
    title = body.title.strip() or f"{group_name(chosen)}, {start:%Y-%m-%d} to {end:%Y-%m-%d}"
    order = Order(tuple(chosen), start, end, title, body.corrects, body.reason)
    try:
        return JobOut.of(services.desk.start(order, origin(request)))
    except TooManyReports as error:
        raise Problem(503, str(error)) from None


@operation(Tag.REPORTS, WRITERS, scope=Scope.REPORTS, problems=(404,))
async def one_job(request: web.Request) -> JobOut:
    """How far a report is. It is known for a day, and until the core starts anew."""
    return JobOut.of(job_for(request))


@operation(Tag.REPORTS, WRITERS, scope=Scope.REPORTS, problems=(404,))
async def cancel(request: web.Request) -> None:
    """Stop making a report; nothing of it is kept."""
    await request.app[SERVICES].desk.cancel(job_for(request).id)


@operation(Tag.REPORTS, EVERYBODY)
async def one_report(request: web.Request) -> ReportWithChecks:
    """One report, with what its automatic checks found."""
    kept = await report_for(request, path_id(request))
    content = await request.app[SERVICES].desk.content(kept)
    checks = [CheckOut(name=it.name, severity=it.severity, factory=it.factory, text=it.text) for it in content.checks]
    return ReportWithChecks(**ReportOut.of(kept).model_dump(), checks=checks)


class StepInput(Input):
    step: StepName
    """`prepare` hands a draft on, `review` and `approve` are for others, `return` makes it a draft again."""
    comment: str = Field("", max_length=500)
    """For whoever looks at it next."""


@operation(Tag.REPORTS, WRITERS, scope=Scope.REPORTS, status=200, problems=(404, 409))
async def step(request: web.Request, body: StepInput) -> ReportOut:
    """Take a step of a report's life. Preparer, reviewer and approver are three people; critical checks block it."""
    kept = await report_for(request, path_id(request))
    if request[USER].role not in STEP_ROLES[body.step]:
        raise Problem(403, "Your role does not allow this step.")
    services = request.app[SERVICES]
    taken = await services.store.take_report_step(
        kept.id, body.step, by=origin(request), now=services.clock(), comment=body.comment
    )
    return ReportOut.of(taken)


class FileQuery(Input):
    format: str = Field("json", max_length=40, examples=["pdf"])
    """The name of a format: those that are there say the error's text and `carbontrack report formats`."""


@operation(Tag.REPORTS, EVERYBODY, media=MEDIA, problems=(404, 502))
async def file(request: web.Request, query: FileQuery) -> web.StreamResponse:
    """A report as a file of a format, sealed. The same report gives the same bytes."""
    try:
        return await report_response(request, await report_for(request, path_id(request)), query.format)
    except RenderError as error:
        raise Problem(502, f"The format {query.format} failed: {error}") from None


class LineOut(Output):
    """One value that differs, or one row that came or went."""

    table: str
    """The table's title."""
    factory: str
    """Its short name; empty where a table is of none."""
    row: str
    """What names the row."""
    kind: ChangeKind
    column: str
    """The column's title; empty for a row that came or went."""
    unit: str
    then: str | int | float | bool | None
    """In the report as it was kept; null is not known."""
    now: str | int | float | bool | None
    """As it would be reported now; null is not known."""


class ChangesOut(Output):
    """How a report compares with what the data say now."""

    state: JobState | None
    """Null: nobody has compared it since yesterday."""
    done: int
    """So many of the factories are gathered."""
    total: int
    """So many factories there are."""
    error: str
    """Why it failed; empty if it did not."""
    compared_at: datetime | None
    is_same: bool | None
    """Nothing differs, not even a version or a check. Null until it is compared."""
    figures_differ: bool | None
    """Other figures would be reported now: a draft is to be made anew, a final report to be corrected."""
    counts: dict[str, int]
    """By the title of each table that differs: how many values and rows."""
    lines: list[LineOut]
    """Some of them, 20 at most and 4 of each table."""
    checks_new: list[str]
    """What checks say now and did not then."""
    checks_gone: list[str]
    """What checks said then and do not now."""
    versions: dict[str, tuple[str, str]]
    """Of software, formulas and factors, where they differ: then and now."""

    @classmethod
    def of(cls, kept: KeptReport, found: Comparison | None) -> ChangesOut:
        seen = found.changes if found else None
        return cls(
            state=found.state if found else None,
            done=found.done if found else 0,
            total=len(kept.factory_ids),
            error=found.error if found else "",
            compared_at=found.compared_at if found else None,
            is_same=seen.is_same if seen else None,
            figures_differ=seen.figures_differ if seen else None,
            counts=dict(seen.counts) if seen else {},
            lines=[LineOut(**{name: getattr(it, name) for name in LineOut.model_fields}) for it in seen.lines]
            if seen
            else [],
            checks_new=[it.text for it in seen.checks_new] if seen else [],
            checks_gone=[it.text for it in seen.checks_gone] if seen else [],
            versions={name: (then, now) for name, then, now in seen.versions} if seen else {},
        )


@operation(Tag.REPORTS, EVERYBODY)
async def compared(request: web.Request) -> ChangesOut:
    """How a report compares with what the data say now, as far as that was asked for."""
    kept = await report_for(request, path_id(request))
    return ChangesOut.of(kept, request.app[SERVICES].desk.comparison(kept.id))


@operation(Tag.REPORTS, EVERYBODY, scope=Scope.REPORTS, status=202, problems=(404, 503))
async def compare(request: web.Request) -> ChangesOut:
    """Begin to compare a report with what the data say now. Nothing is kept of it beyond a day."""
    services, kept = request.app[SERVICES], await report_for(request, path_id(request))
    try:
        return ChangesOut.of(kept, services.desk.compare(kept, await factories_of(services, kept)))
    except TooManyReports as error:
        raise Problem(503, str(error)) from None
