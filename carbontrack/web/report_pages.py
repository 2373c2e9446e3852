"""The pages of compliance reports: the library, making one with progress, its life, its files, and links for others."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from carbontrack.compliance import Cell, ComplianceReport, ReportStatus, Table, rows_of
from carbontrack.compliance_changes import ChangeKind, told_apart
from carbontrack.hookspecs import ComplianceFormat
from carbontrack.model import Factory, User
from carbontrack.passwords import token_hash
from carbontrack.periods import YEARS, OutOfOrder, Period, between, last_over, named
from carbontrack.plugins import RenderError
from carbontrack.report_desk import JobState, Order, Standing, TooManyReports, group_name, standing
from carbontrack.seal import Checked, Verdict
from carbontrack.store import STEPS, KeptReport, RegistryError
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, REPORTERS, USER, WRITERS, Handler, allow, origin, public
from carbontrack.web.check_words import told
from carbontrack.web.errors import Problem
from carbontrack.web.forms import number_in, posted, sentence, uploaded
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import severity_title
from carbontrack.web.report_access import (
    STEP_ROLES,
    StepName,
    factories_of,
    job_for,
    own_factory,
    report_for,
    report_response,
)
from carbontrack.web.rest import day_in
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_, ngettext
from carbontrack.words import gettext as _

PAGE = 50
STATUS_TITLES: Mapping[ReportStatus, str] = {
    ReportStatus.DRAFT: N_("Draft"),
    ReportStatus.PREPARED: N_("Waits for review"),
    ReportStatus.REVIEWED: N_("Waits for approval"),
    ReportStatus.FINAL: N_("Final"),
    ReportStatus.WITHDRAWN: N_("Withdrawn"),
}
STEP_TITLES: Mapping[StepName, str] = {
    "prepare": N_("Hand on for review"),
    "review": N_("I have reviewed it"),
    "approve": N_("Approve: it becomes final"),
    "return": N_("Return it to its draft"),
    "withdraw": N_("Withdraw it"),
}
STEP_NOTICES: Mapping[StepName, str] = {
    "prepare": N_("The report waits for a reviewer now: somebody else than you."),
    "review": N_("The report waits for approval by headquarters now: by somebody else than you."),
    "approve": N_("The report is final. It never changes again; a correction is a new version."),
    "return": N_("The report is a draft again."),
    "withdraw": N_("The report is withdrawn."),
}
STANDING_TEXTS: Mapping[Standing, str] = {
    Standing.CURRENT: N_("Genuine: it is %(name)s as it was signed here."),
    Standing.SUPERSEDED: N_("Genuine, and superseded: there is a later version of %(name)s."),
    Standing.NOT_FINAL: N_("Genuine, and not final: %(name)s was signed here as a draft, or while it waited."),
    Standing.WITHDRAWN: N_("Genuine, and withdrawn: %(name)s does not count any more."),
    Standing.UNKNOWN: N_("It was signed with this site's key, but the library has no %(name)s with these data."),
}
KIND_TITLES: Mapping[ChangeKind, str] = {
    ChangeKind.CHANGED: "",
    ChangeKind.ADDED: N_("new row"),
    ChangeKind.REMOVED: N_("not there any more"),
}
UNFINISHED = frozenset({ReportStatus.DRAFT, ReportStatus.PREPARED, ReportStatus.REVIEWED})
LINK_DAYS = (7, 30, 90)
FIELDS = ("period", "from", "to", "title", "whose")
"""Of the form for a new report."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get("/reports/", library)
    router.add_post("/reports/", make)
    router.add_get("/reports/jobs/{job}/", job_page)
    router.add_post("/reports/jobs/{job}/cancel", cancel)
    router.add_post("/reports/check", check_file)
    router.add_get("/reports/key.pem", key)
    router.add_get("/reports/{id:\\d{1,9}}/", report_page)
    router.add_get("/reports/{id:\\d{1,9}}/file", file)
    router.add_post("/reports/{id:\\d{1,9}}/compare", compare)
    router.add_post("/reports/{id:\\d{1,9}}/anew", make_anew)
    router.add_post("/reports/{id:\\d{1,9}}/correct", correct)
    router.add_post("/reports/{id:\\d{1,9}}/links", share)
    router.add_post("/reports/links/{id:\\d{1,9}}/revoke", revoke)
    for name in STEP_TITLES:
        router.add_post(f"/reports/{{id:\\d{{1,9}}}}/{name}", _step_handler(name))
    router.add_get("/shared/{token:[\\w-]{20,60}}", shared)


# --- the library


@allow(EVERYBODY)
async def library(request: web.Request) -> web.StreamResponse:
    """All reports that one may see, and the form for a new one."""
    return await _library(request, {})


async def _library(request: web.Request, values: Mapping[str, str], error: str = "", status: int = 200) -> web.Response:
    services, user = request.app[SERVICES], request[USER]
    today = services.clock().astimezone(services.time_zone).date()
    search, wanted = request.query.get("q", "")[:80], request.query.get("status", "")
    found = await services.store.reports(
        factory_id=own_factory(user),
        search=search,
        status=ReportStatus(wanted) if wanted in set(ReportStatus) else None,
        after_id=number_in(request.query.get("after", "")),
        limit=PAGE + 1,
    )
    page = render(
        request,
        "reports.html",
        {
            "reports": [_shown(it) for it in found[:PAGE]],
            "more": found[PAGE - 1].id if len(found) > PAGE else None,
            "search": search,
            "status": wanted,
            "statuses": [(it.value, _(title)) for it, title in STATUS_TITLES.items()],
            "jobs": [it for it in services.desk.jobs() if own_factory(user) in {None, *it.factory_ids[:1]}],
            "factories": await _choice(services, user),
            "may_make": user.role in WRITERS,
            "form": {**dict.fromkeys(FIELDS, ""), "period": last_over(today, 1).name, **values},
            "error": error,
        },
    )
    page.set_status(status)
    return page


async def _choice(services: Services, user: User) -> Sequence[Factory]:
    found = await services.store.factories()
    return [it for it in found if user.role in NETWORK_ROLES or it.id == user.factory_id]


def _shown(kept: KeptReport) -> dict[str, Any]:
    title = _("Superseded") if kept.is_superseded else _(STATUS_TITLES[kept.status])
    return {"report": kept, "status_title": title}


# --- making one


@allow(WRITERS)
async def make(request: web.Request) -> web.StreamResponse:
    """Begin to make a report."""
    services, user = request.app[SERVICES], request[USER]
    form = await posted(request)
    values = {name: str(form.get(name, "")) for name in FIELDS}
    try:
        start, end, name = _period(values, services)
        factories = await _chosen(services, user, values["whose"], [str(it) for it in form.getall("factory", [])])
    except ValueError as error:
        return await _library(request, values, str(error), 422)
    title = values["title"].strip()[:200] or f"{group_name(factories, _region(values['whose']))}, {name}"
    order = Order(tuple(factories), start, end, title)
    raise await _begin(request, order)


async def _begin(request: web.Request, order: Order) -> web.HTTPSeeOther:
    try:
        job = request.app[SERVICES].desk.start(order, origin(request))
    except TooManyReports as error:
        raise Problem(503, str(error)) from None
    return web.HTTPSeeOther(f"/reports/jobs/{job.id}/")


def _period(values: Mapping[str, str], services: Services) -> tuple[datetime, datetime, str]:
    """The period that was chosen, and what it is called. Raises ValueError, which says what to do."""
    try:
        period = _days(values["from"], values["to"]) if values["from"] else named(values["period"].strip())
    except OutOfOrder:
        raise ValueError(_("The last day must not be before the first one.")) from None
    except ValueError:
        raise ValueError(_("Choose a month such as 2026-03, a quarter such as 2026-Q1, or a year.")) from None
    start, end = period.moments(services.time_zone)
    if start >= services.clock():
        raise ValueError(_("That period has not begun yet."))
    return start, end, period.name


def _days(first: str, last: str) -> Period:
    begin = day_in(first)
    if begin.year not in YEARS:
        raise ValueError(f"there is no report of the year {begin.year}")
    return between(begin, day_in(last) if last else begin)


async def _chosen(services: Services, user: User, whose: str, slugs: Sequence[str]) -> Sequence[Factory]:
    """The factories that were chosen. Raises ValueError where that is none."""
    known = await _choice(services, user)
    if set(slugs) - {it.slug for it in known}:
        raise web.HTTPNotFound(text=_("There is no such factory for you."))
    if user.role not in NETWORK_ROLES or whose == "all":
        found = known
    elif region := _region(whose):
        found = [it for it in known if it.region == region]
    else:
        found = [it for it in known if it.slug in slugs]
    if not found:
        raise ValueError(_("Choose at least one factory."))
    return found


def _region(whose: str) -> str:
    """The region that was chosen; empty where something else was."""
    return whose.removeprefix("region:") if whose.startswith("region:") else ""


@allow(WRITERS)
async def job_page(request: web.Request) -> web.StreamResponse:
    """How far a report is; when it is made, the report itself."""
    job = job_for(request)
    if job.state is JobState.DONE and job.report is not None:
        raise web.HTTPSeeOther(f"/reports/{job.report.id}/")
    return render(request, "report_job.html", {"job": job})


@allow(WRITERS)
async def cancel(request: web.Request) -> web.StreamResponse:
    """Stop making a report."""
    job = job_for(request)
    await request.app[SERVICES].desk.cancel(job.id)
    raise sent_on(request, "/reports/", Notice(_("The report is not made.")))


# --- one report


async def _report(request: web.Request) -> KeptReport:
    return await report_for(request, int(request.match_info["id"]))


@allow(EVERYBODY)
async def report_page(request: web.Request) -> web.StreamResponse:
    """A report: what it says in short, what its checks found, who signed it, its files, and what can be done now."""
    services, user, kept = request.app[SERVICES], request[USER], await _report(request)
    content = await services.desk.content(kept)
    factories = {it.slug: it for it in await services.store.factories()}
    identity = rows_of(content.table("identity"))
    results = rows_of(content.table("results"))
    may_share = user.role in REPORTERS and kept.status is ReportStatus.FINAL
    return render(
        request,
        "report.html",
        {
            **_shown(kept),
            "content": content,
            "names": {row["factory"]: row["name"] for row in identity},
            "factories": factories,
            "results": [row for row in results if row["scope"] != "part of biogenic"],
            "is_one": len(identity) == 1,
            "chimneys": await _chimneys(services, content, factories),
            "checks": [(it, severity_title(it.severity), told(it)) for it in content.checks],
            "formats": _formats(services),
            "versions": [_shown(it) for it in await services.store.report_versions(kept.number)],
            "steps": _steps(kept, user, origin(request).name),
            "links": await services.store.report_links(kept.id) if may_share else [],
            "may_share": may_share,
            "compared": _compared(services, kept),
            "may_make_anew": user.role in WRITERS and kept.status in UNFINISHED,
            "may_correct": user.role in WRITERS and kept.status is ReportStatus.FINAL and not kept.is_superseded,
            "link_days": LINK_DAYS,
            "now": services.clock(),
            "month": f"{kept.period_start.astimezone(services.time_zone):%Y-%m}",
        },
    )


def _compared(services: Services, kept: KeptReport) -> dict[str, Any] | None:
    """How a report compares with what the data say now; None for what does not count any more."""
    if kept.is_superseded or kept.status is ReportStatus.WITHDRAWN:
        return None
    found = services.desk.comparison(kept.id)
    changes = found.changes if found else None
    rows = [
        {
            "line": it,
            "cells": told_apart(it.then, it.now),
            "is_number": not {type(it.then), type(it.now)} & {str, bool},
            "kind": _(title) if (title := KIND_TITLES[it.kind]) else "",
        }
        for it in (changes.lines if changes else ())
    ]
    checks = [(True, told(it)) for it in changes.checks_new] if changes else []
    checks += [(False, told(it)) for it in changes.checks_gone] if changes else []
    return {"work": found, "changes": changes, "rows": rows, "checks": checks}


async def _chimneys(
    services: Services, content: ComplianceReport, factories: Mapping[str, Factory]
) -> list[dict[str, Any]]:
    """The chimneys of a report, each with the way to its hours where it is still there."""
    tables = {table.name: table for table in content.tables}
    if not {"results_by_stack", "data_quality"} <= tables.keys():
        return []
    quality = {(row["factory"], row["stack"]): row for row in rows_of(tables["data_quality"])}
    ids = {(it.factory_id, it.name): it.id for it in await services.store.stacks()}
    begin = str(content.period_start.astimezone(services.time_zone).date())
    first = _first_days(tables["days"]) if "days" in tables else {}
    found = []
    for row in rows_of(tables["results_by_stack"]):
        factory = factories.get(str(row["factory"]))
        stack_id = ids.get((factory.id, str(row["stack"]))) if factory else None
        hours = quality.get((row["factory"], row["stack"]), {})
        day = first.get((row["factory"], row["stack"]), begin)  # it may have been monitored from later on
        found.append(
            {
                **row,
                "substituted_hours": hours.get("substituted"),
                "availability": hours.get("availability"),
                "link": f"/factory/{factory.slug}/hours?stack={stack_id}&day={day}" if factory and stack_id else "",
            }
        )
    return found


def _first_days(days: Table) -> dict[tuple[Cell, Cell], str]:
    """Of each factory and chimney the first day. A network's year has tens of thousands: no mapping for each."""
    names = [column.name for column in days.columns]
    factory, stack, day = (names.index(name) for name in ("factory", "stack", "day"))
    return {(row[factory], row[stack]): str(row[day]) for row in reversed(days.rows)}


def _formats(services: Services) -> Sequence[ComplianceFormat]:
    found = services.plugins.contributions.compliance_formats.values()
    return sorted(found, key=lambda it: (it.name != "pdf", it.title))


def _steps(kept: KeptReport, user: User, person: str) -> list[dict[str, Any]]:
    """What whoever looks can do with a report, and why not where somebody else must."""
    found = []
    for name, title in STEP_TITLES.items():
        it = STEPS[name]
        if kept.status not in it.from_states or user.role not in STEP_ROLES[name]:
            continue
        signed = {"prepared": kept.prepared_by, "reviewed": kept.reviewed_by}
        own = [did for did, signer in signed.items() if it.signs and did != it.signs and signer == person]
        why = ""
        if own:
            why = _("You have signed it already: somebody else must do this.")
        elif name == "approve" and kept.critical:
            why = ngettext(
                "%(num)s critical check blocks it. Mend what it names, and make the report anew.",
                "%(num)s critical checks block it. Mend what they name, and make the report anew.",
                kept.critical,
            )
        found.append({"name": name, "title": _(title), "why": why, "signs": bool(it.signs)})
    return found


def _step_handler(name: StepName) -> Handler:
    @allow(STEP_ROLES[name])
    async def handler(request: web.Request) -> web.StreamResponse:
        """Take a step of a report's life."""
        services, kept, form = request.app[SERVICES], await _report(request), await posted(request)
        page, comment = f"/reports/{kept.id}/", str(form.get("comment", ""))[:500]
        try:
            await services.store.take_report_step(
                kept.id, name, by=origin(request), now=services.clock(), comment=comment
            )
        except RegistryError as error:
            raise sent_on(request, page, Notice(sentence(str(error)), is_bad=True)) from None
        raise sent_on(request, page, Notice(_(STEP_NOTICES[name])))

    return handler


@allow(EVERYBODY)
async def compare(request: web.Request) -> web.StreamResponse:
    """Begin to hold a report against what the data say now; its page shows what is found."""
    services, kept = request.app[SERVICES], await _report(request)
    try:
        services.desk.compare(kept, await factories_of(services, kept))
    except TooManyReports as error:
        raise Problem(503, str(error)) from None
    raise web.HTTPSeeOther(f"/reports/{kept.id}/#today")


@allow(WRITERS)
async def make_anew(request: web.Request) -> web.StreamResponse:
    """Make a report that is not final once more, of the data of now: a new draft beside it."""
    services, kept = request.app[SERVICES], await _report(request)
    if kept.status not in UNFINISHED:
        text = _("Only what is not final is made anew; a final report is corrected by its next version.")
        raise sent_on(request, f"/reports/{kept.id}/", Notice(text, is_bad=True))
    factories = await factories_of(services, kept)
    raise await _begin(request, Order(factories, kept.period_start, kept.period_end, kept.title))


@allow(WRITERS)
async def correct(request: web.Request) -> web.StreamResponse:
    """Make the next version of a final report; it needs a reason."""
    services, kept = request.app[SERVICES], await _report(request)
    reason = str((await posted(request)).get("reason", "")).strip()[:500]
    if not reason:
        text = _("Say why it is corrected: the reason stands in the new version.")
        raise sent_on(request, f"/reports/{kept.id}/", Notice(text, is_bad=True))
    factories = await factories_of(services, kept)
    order = Order(factories, kept.period_start, kept.period_end, kept.title, corrects=kept.id, reason=reason)
    raise await _begin(request, order)


# --- files


@allow(EVERYBODY)
async def file(request: web.Request) -> web.StreamResponse:
    """A report as a file of the format that was chosen."""
    kept = await _report(request)
    return await _file(request, kept, request.query.get("format", "pdf"))


async def _file(request: web.Request, kept: KeptReport, name: str) -> web.Response:
    try:
        return await report_response(request, kept, name)
    except RenderError as error:
        raise web.HTTPBadGateway(text=_("The format %(name)s failed: %(error)s", name=name, error=error)) from error


@public
async def key(request: web.Request) -> web.StreamResponse:
    """The public key that reports are signed with: whoever checks them needs it."""
    text = await request.app[SERVICES].desk.public_key()
    return web.Response(text=text, content_type="application/x-pem-file")


@allow(EVERYBODY)
async def check_file(request: web.Request) -> web.StreamResponse:
    """Say whether a report that was uploaded is genuine, altered or superseded."""
    services = request.app[SERVICES]
    content = await uploaded(request, "file")
    if not content:
        raise sent_on(request, "/reports/", Notice(_("Choose a file to check."), is_bad=True))
    checked, kept = await services.desk.check(content)
    raise sent_on(request, "/reports/", _verdict(checked, kept))


def _verdict(checked: Checked, kept: KeptReport | None) -> Notice:
    name = checked.reference
    if checked.verdict is Verdict.GENUINE:
        how = standing(checked, kept)
        return Notice(_(STANDING_TEXTS[how], name=name), is_bad=how is not Standing.CURRENT)
    if checked.verdict is Verdict.ALTERED:
        return Notice(_("ALTERED: it calls itself %(name)s and is not as it was signed.", name=name), is_bad=True)
    if checked.verdict is Verdict.UNKNOWN_KEY:
        return Notice(_("It was signed elsewhere, with a key that is not known here."), is_bad=True)
    return Notice(_("It has no seal: it is no report, or its format cannot carry one."), is_bad=True)


# --- links for others


@allow(REPORTERS)
async def share(request: web.Request) -> web.StreamResponse:
    """Make a link by which somebody without an account downloads the report, for a time."""
    services, kept, form = request.app[SERVICES], await _report(request), await posted(request)
    days, name = number_in(str(form.get("days", ""))), str(form.get("format", "pdf"))
    if days not in LINK_DAYS or name not in services.plugins.contributions.compliance_formats:
        raise web.HTTPBadRequest(text=_("Choose a format and how long the link holds."))
    token, now = secrets.token_urlsafe(24), services.clock()
    note, ends = str(form.get("note", ""))[:200], now + timedelta(days=days)
    try:
        await services.store.add_report_link(kept.id, name, token_hash(token), ends, note, by=origin(request), now=now)
    except RegistryError as error:
        raise sent_on(request, f"/reports/{kept.id}/", Notice(sentence(str(error)), is_bad=True)) from None
    base = services.public_url or str(request.url.origin())
    advice = _("Copy it now: it is not shown again. Whoever has it can download the report until it ends.")
    raise sent_on(request, f"/reports/{kept.id}/", Notice(_("The link is made."), f"{base}/shared/{token}", advice))


@allow(REPORTERS)
async def revoke(request: web.Request) -> web.StreamResponse:
    """End a link."""
    services = request.app[SERVICES]
    report_id = await services.store.revoke_report_link(
        int(request.match_info["id"]), own_factory(request[USER]), by=origin(request), now=services.clock()
    )
    if report_id is None:
        raise web.HTTPNotFound(text=_("There is no such link that is open."))
    raise sent_on(request, f"/reports/{report_id}/", Notice(_("The link is ended.")))


@public
async def shared(request: web.Request) -> web.StreamResponse:
    """A report by a link that somebody was given."""
    services = request.app[SERVICES]
    link = await services.store.use_report_link(token_hash(request.match_info["token"]), services.clock())
    kept = await services.store.report(link.report_id) if link else None
    if link is None or kept is None:
        raise web.HTTPNotFound(
            text=_("This link has ended, or never was one. Ask whoever gave it to you for a new one.")
        )
    return await _file(request, kept, link.format)
