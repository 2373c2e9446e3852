"""Compliance reports: kept as they were made, with who prepared, reviewed and approved each.

A final report is never changed. A correction is the next version of the same number; until it is final itself, the one
before it stands.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F, Q
from tortoise.query_utils import Prefetch
from tortoise.queryset import QuerySet

from carbontrack.compliance import ComplianceReport, ReportStatus, blocking, canonical, compliance_dataset
from carbontrack.model import AuditAction, Origin
from carbontrack.store.audit import Audit
from carbontrack.store.context import RegistryError, in_context
from carbontrack.tables import ReportLinkRow, ReportRow

_KEPT = (
    "id", "number", "version", "factory_id", "title", "period_start", "period_end", "sha256", "critical", "reason",
    "comment", "schedule", "made_at", "made_by", "prepared_at", "prepared_by", "reviewed_at", "reviewed_by",
    "approved_at", "approved_by",
)  # fmt: skip

_LISTED = (*_KEPT, "status", "factory_ids")
"""All columns but the data set, which is long."""


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report as the library lists it: everything but its data set.

    ``factory_id`` is None for a report of several factories. ``critical`` counts the checks that block it.
    """

    id: int
    number: int
    version: int
    factory_id: int | None
    title: str
    period_start: datetime
    period_end: datetime
    sha256: str
    critical: int
    reason: str
    comment: str
    schedule: str
    made_at: datetime
    made_by: str
    prepared_at: datetime | None
    prepared_by: str
    reviewed_at: datetime | None
    reviewed_by: str
    approved_at: datetime | None
    approved_by: str
    status: ReportStatus
    factory_ids: tuple[int, ...]
    is_superseded: bool = False
    """A later version of the same number is final."""

    @property
    def reference(self) -> str:
        """What it is called in every file: number and version."""
        return f"CT-{self.number}-v{self.version}"


@dataclass(frozen=True, slots=True)
class ReportLink:
    """A link by which others download a report."""

    id: int
    report_id: int
    format: str
    note: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    downloads: int

    def is_open(self, now: datetime) -> bool:
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a report's life: from which states it leads to which, and what the audit log calls it."""

    from_states: frozenset[ReportStatus]
    to: ReportStatus
    action: AuditAction
    signs: str = ""
    """Whose name it puts down: ``prepared``, ``reviewed``, ``approved``."""


STEPS: Mapping[str, Step] = {
    "prepare": Step(frozenset({ReportStatus.DRAFT}), ReportStatus.PREPARED, AuditAction.REPORT_PREPARED, "prepared"),
    "review": Step(frozenset({ReportStatus.PREPARED}), ReportStatus.REVIEWED, AuditAction.REPORT_REVIEWED, "reviewed"),
    "approve": Step(frozenset({ReportStatus.REVIEWED}), ReportStatus.FINAL, AuditAction.REPORT_APPROVED, "approved"),
    "return": Step(
        frozenset({ReportStatus.PREPARED, ReportStatus.REVIEWED}), ReportStatus.DRAFT, AuditAction.REPORT_RETURNED
    ),
    "withdraw": Step(
        frozenset({ReportStatus.DRAFT, ReportStatus.PREPARED, ReportStatus.REVIEWED}),
        ReportStatus.WITHDRAWN,
        AuditAction.REPORT_WITHDRAWN,
    ),
}


class Reports(Audit):
    """The library of reports."""

    @in_context
    async def add_report(
        self,
        report: ComplianceReport,
        factory_ids: Sequence[int],
        *,
        by: Origin,
        now: datetime,
        corrects: int | None = None,
        reason: str = "",
        schedule: str = "",
    ) -> KeptReport:
        """Keep a report as a draft: version 1 of a new number, or the next version of the one that it corrects.

        Raises :class:`RegistryError` for a correction without a reason, of what is not final, or while another
        correction of it is under way.
        """
        values: dict[str, Any] = {
            "factory_id": factory_ids[0] if len(factory_ids) == 1 else None,
            "factory_ids": json.dumps(list(factory_ids)),
            "title": report.title,
            "period_start": report.period_start,
            "period_end": report.period_end,
            "status": ReportStatus.DRAFT.value,
            "dataset": await asyncio.to_thread(_packed, report),
            "sha256": report.sha256,
            "critical": len(blocking(report.checks)),
            "reason": reason.strip(),
            "schedule": schedule,
            "made_at": now,
            "made_by": by.name,
        }
        try:
            async with self._changing(by) as journal:
                number, version = await _next(corrects, reason)
                row = await ReportRow.create(number=number, version=version, **values)
                after = {"reference": _kept(row).reference, "title": row.title, "sha256": row.sha256}
                after |= {"reason": row.reason} if row.reason else {}
                await journal.note(AuditAction.REPORT_MADE, "report", row.id, row.factory_id, after=after)
        except IntegrityError as error:
            raise RegistryError("somebody has made a report at the same moment: make it again") from error
        return _kept(row)

    @in_context
    async def reports(
        self,
        *,
        factory_id: int | None = None,
        search: str = "",
        status: ReportStatus | None = None,
        after_id: int | None = None,
        limit: int = 50,
    ) -> list[KeptReport]:
        """Reports, the newest first; those of one factory alone for whoever sees no other."""
        query = _listed() if factory_id is None else _listed(factory_id=factory_id)
        for word in search.split():
            found = word.upper().removeprefix("CT-").partition("-V")[0]
            by_number = Q(number=int(found)) if found.isascii() and found.isdigit() and len(found) < 9 else Q(id=-1)
            query = query.filter(Q(title__icontains=word) | by_number | Q(made_by__icontains=word))
        if status is not None:
            query = query.filter(status=status.value)
        if after_id is not None:
            query = query.filter(id__lt=after_id)
        rows = await query.order_by("-id").limit(limit)
        newest = await _newest_final([row.number for row in rows])
        return [_kept(row, newest) for row in rows]

    @in_context
    async def report(self, report_id: int, factory_id: int | None = None) -> KeptReport | None:
        """One report; None where there is none, or none of this factory alone."""
        query = _listed(id=report_id)
        row = await (query if factory_id is None else query.filter(factory_id=factory_id)).first()
        return _kept(row, await _newest_final([row.number])) if row else None

    @in_context
    async def report_named(self, number: int, version: int) -> KeptReport | None:
        """A report by what its files call it."""
        row = await _listed(number=number, version=version).first()
        return _kept(row, await _newest_final([number])) if row else None

    @in_context
    async def scheduled_reports(self, period_start: datetime) -> set[str]:
        """The names under which schedules have made reports of a period."""
        made = ReportRow.filter(period_start=period_start).exclude(schedule="")
        return {str(name) for name in await made.values_list("schedule", flat=True)}

    @in_context
    async def report_versions(self, number: int) -> list[KeptReport]:
        """All versions of a number, the newest first."""
        rows = await _listed(number=number).order_by("-version")
        newest = await _newest_final([number])
        return [_kept(row, newest) for row in rows]

    @in_context
    async def report_dataset(self, report_id: int) -> bytes:
        """The canonical data set of a report, as it is kept: whoever uses it compares its hash."""
        row = await ReportRow.get(id=report_id).only("id", "dataset")
        return await asyncio.to_thread(zlib.decompress, row.dataset)

    @in_context
    async def take_report_step(
        self, report_id: int, step: str, *, by: Origin, now: datetime, comment: str = ""
    ) -> KeptReport:
        """Prepare, review, approve, return or withdraw a report.

        Raises :class:`RegistryError` where its state does not allow it, where somebody would sign twice, and where
        checks block it.
        """
        taken = STEPS[step]
        async with self._changing(by) as journal:
            row = await _listed(id=report_id).first()
            if row is None:
                raise RegistryError("there is no such report")
            _check_step(row, step, by)
            before = row.status
            values: dict[str, Any] = {"status": taken.to.value, "comment": comment.strip()}
            if taken.signs:
                values |= {f"{taken.signs}_at": now, f"{taken.signs}_by": by.name}
            elif taken.to is ReportStatus.DRAFT:
                values |= {f"{name}_at": None for name in ("prepared", "reviewed")}
                values |= {f"{name}_by": "" for name in ("prepared", "reviewed")}
            # Whoever was quicker has changed the state: then this changes nothing.
            if not await ReportRow.filter(id=report_id, status=before).update(**values):
                raise RegistryError("somebody has taken a step with this report at the same moment: look at it first")
            await journal.note(
                taken.action, "report", row.id, row.factory_id,
                before={"status": before}, after={"status": taken.to.value, "comment": comment.strip()},
            )  # fmt: skip
            row = await _listed(id=report_id).get()
        return _kept(row, await _newest_final([row.number]))

    # --- links

    @in_context
    async def add_report_link(
        self,
        report_id: int,
        report_format: str,
        token_hash: str,
        expires_at: datetime,
        note: str,
        *,
        by: Origin,
        now: datetime,
    ) -> ReportLink:
        """A link to a final report. Raises :class:`RegistryError` for any other."""
        async with self._changing(by) as journal:
            row = await _listed(id=report_id).first()
            if row is None or row.status != ReportStatus.FINAL.value:
                raise RegistryError("only a final report is shared")
            try:
                link = await ReportLinkRow.create(
                    report_id=report_id, format=report_format, token_hash=token_hash, note=note.strip(),
                    created_at=now, created_by=by.name, expires_at=expires_at,
                )  # fmt: skip
            except IntegrityError as error:
                raise RegistryError("there is such a link already") from error
            after = {"link": link.id, "format": report_format, "note": link.note, "expires_at": expires_at}
            await journal.note(AuditAction.REPORT_SHARED, "report", row.id, row.factory_id, after=after)
        return _link(link)

    @in_context
    async def report_links(self, report_id: int) -> list[ReportLink]:
        """The links of a report, the newest first."""
        return [_link(row) for row in await ReportLinkRow.filter(report_id=report_id).order_by("-id")]

    @in_context
    async def use_report_link(self, token_hash: str, now: datetime) -> ReportLink | None:
        """Count a download by a link; None where there is none, or none any more."""
        row = await ReportLinkRow.filter(token_hash=token_hash).first()
        if row is None or not _link(row).is_open(now):
            return None
        await ReportLinkRow.filter(id=row.id).update(downloads=F("downloads") + 1)
        return _link(row)

    @in_context
    async def revoke_report_link(
        self, link_id: int, factory_id: int | None = None, *, by: Origin, now: datetime
    ) -> int | None:
        """End a link, and give the number of its report; None where there is none that is open."""
        async with self._changing(by) as journal:
            query = ReportLinkRow.filter(id=link_id, revoked_at=None)
            if factory_id is not None:
                query = query.filter(report__factory_id=factory_id)
            link = await query.prefetch_related(Prefetch("report", _listed())).first()
            if link is None or not await ReportLinkRow.filter(id=link_id, revoked_at=None).update(revoked_at=now):
                return None
            what, whose = {"link": link_id}, link.report.factory_id
            await journal.note(AuditAction.REPORT_LINK_REVOKED, "report", link.report_id, whose, after=what)
        return link.report_id


def _packed(report: ComplianceReport) -> bytes:
    return zlib.compress(canonical(compliance_dataset(report)))


def _listed(**wanted: Any) -> QuerySet[ReportRow]:
    """Reports without their data sets."""
    return ReportRow.filter(**wanted).only(*_LISTED)


async def _next(corrects: int | None, reason: str) -> tuple[int, int]:
    """The number and version of a new report."""
    if corrects is None:
        newest = await _listed().order_by("-number").first()
        return (newest.number if newest else 0) + 1, 1
    wrong = await _listed(id=corrects).first()
    if wrong is None or wrong.status != ReportStatus.FINAL.value:
        raise RegistryError("only a final report is corrected; a draft is withdrawn and made anew")
    if not reason.strip():
        raise RegistryError("a correction needs a reason", "reason")
    later = ReportRow.filter(number=wrong.number, version__gt=wrong.version)
    if await later.exclude(status=ReportStatus.WITHDRAWN.value).exists():
        raise RegistryError("there is a later version of it already: correct that one")
    last = await _listed(number=wrong.number).order_by("-version").first()
    return wrong.number, (last.version if last else 0) + 1


def _check_step(row: ReportRow, step: str, by: Origin) -> None:
    taken, status = STEPS[step], ReportStatus(row.status)
    if status not in taken.from_states:
        raise RegistryError(f"a report that is {status.value} cannot take the step {step!r}")
    signed = {"prepared": row.prepared_by, "reviewed": row.reviewed_by}
    for did, person in signed.items():
        if taken.signs and taken.signs != did and person == by.name:
            raise RegistryError(f"you have {did} it yourself: somebody else must do this")
    if step == "approve" and row.critical:
        raise RegistryError(f"{row.critical} critical checks block it: mend what they name, and make it anew")


async def _newest_final(numbers: Sequence[int]) -> dict[int, int]:
    """Of each number, the newest version that is final."""
    rows = ReportRow.filter(number__in=list(set(numbers)), status=ReportStatus.FINAL.value)
    found: dict[int, int] = {}
    for number, version in await rows.values_list("number", "version"):
        found[number] = max(version, found.get(number, 0))
    return found


def _kept(row: ReportRow, newest: Mapping[int, int] | None = None) -> KeptReport:
    return KeptReport(
        **{name: getattr(row, name) for name in _KEPT},
        status=ReportStatus(row.status),
        factory_ids=tuple(json.loads(row.factory_ids)),
        is_superseded=(newest or {}).get(row.number, 0) > row.version,
    )


def _link(row: ReportLinkRow) -> ReportLink:
    names = ("id", "report_id", "format", "note", "created_at", "created_by", "expires_at", "revoked_at", "downloads")
    return ReportLink(**{name: getattr(row, name) for name in names})
