"""The audit log: who did what, from where, before and after; append-only, and chained by hashes.

Each event is the JSON object of :func:`audit_record` in one line: its keys sorted, no spaces, all but ASCII escaped,
as Python's ``json.dumps(record, sort_keys=True, separators=(",", ":"))`` writes it. Its ``sha256`` is the SHA-256, in
hex, of the hash of the event before (nothing for the first one) followed by that line. Events count from 1 without a
gap. So nobody can change, take out or put in an event without all later hashes being other ones.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.expressions import F
from tortoise.transactions import in_transaction

from carbontrack.model import AuditAction, AuditCheck, AuditEvent, Origin
from carbontrack.store.context import in_context
from carbontrack.store.work import storable_text
from carbontrack.tables import AuditEventRow, RegistryRow
from carbontrack.words import gettext

PAGE = 500
"""Events that are verified, or written, at a time: the loop has other work, and a log may be long."""
_COLUMNS = tuple(item.name for item in fields(AuditEvent))
_LENGTHS = {"actor": 200, "address": 64, "token": 80, "subject_kind": 40, "subject_id": 200}


def audit_record(event: AuditEvent) -> dict[str, Any]:
    """An event as it is hashed, ready for JSON: all but its ``sha256``; ``at`` is UTC, always with microseconds."""
    record = {name: getattr(event, name) for name in _COLUMNS if name != "sha256"}
    return record | {"at": _moment(event.at)}


def chained(before: str, record: Mapping[str, Any]) -> str:
    """The hash of an event that follows one with the hash ``before``; "" before the first one."""
    return hashlib.sha256((before + _line(record)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Noted:
    """What was done to one thing; ``after`` is what it says since then."""

    action: AuditAction
    subject_kind: str
    subject_id: str | int
    factory_id: int | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


class Journal:
    """The audit log within a transaction: what is noted is kept if the transaction is, and not otherwise."""

    def __init__(self, by: Origin, now: datetime, connection: BaseDBAsyncClient) -> None:
        self.by = by
        self.now = now
        self.connection = connection
        """The transaction's own, for what is no table of the ORM."""

    async def note(
        self,
        action: AuditAction,
        subject_kind: str,
        subject_id: str | int,
        factory_id: int | None = None,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an event. Of a change only the fields that differ are kept; where none does there is no event.

        ``before`` and ``after`` must hold nothing secret.
        """
        if before is not None and after is not None:
            changed = {name for name in after if before.get(name) != after[name]}
            if not changed:
                return
            before, after = ({name: side[name] for name in side if name in changed} for side in (before, after))
        await self.note_many([Noted(action, subject_kind, subject_id, factory_id, before, after)])

    async def note_many(self, noted: Sequence[Noted]) -> None:
        """Append events in this order. Nothing of them may be secret."""
        head = await AuditEventRow.all().order_by("-id").first()
        count, digest = (head.id, head.sha256) if head else (0, "")
        for at in range(0, len(noted), PAGE):  # the loop has other work in between
            rows = []
            for number, event in enumerate(noted[at : at + PAGE], count + at + 1):
                row = self._row(number, event)
                digest = row.sha256 = chained(digest, audit_record(_event(row)))
                rows.append(row)
            await AuditEventRow.bulk_create(rows)

    def _row(self, number: int, event: Noted) -> AuditEventRow:
        texts = {
            "actor": self.by.name,
            "address": self.by.address,
            "token": self.by.token,
            "subject_kind": event.subject_kind,
            "subject_id": str(event.subject_id),
        }
        return AuditEventRow(
            id=number,
            at=self.now,
            user_id=self.by.user_id,
            action=event.action.value,
            factory_id=event.factory_id,
            before=None if event.before is None else _line(event.before),
            after=None if event.after is None else _line(event.after),
            sha256="",
            **{name: storable_text(text, _LENGTHS[name]) for name, text in texts.items()},
        )


class Audit:
    """What every part of the store that changes something has: transactions that are audited. And the log itself."""

    def __init__(self, context: contextvars.Context, clock: Callable[[], datetime]) -> None:
        self._context = context
        self.clock = clock

    @asynccontextmanager
    async def _changing(self, by: Origin) -> AsyncIterator[Journal]:
        """A transaction that notes what it changes. All of them come one after the other, so that the log is one chain.

        The first statement takes the registry's row: PostgreSQL then lets nobody else past it, and SQLite has its lock
        for writing before anything is read.
        """
        async with in_transaction() as connection:
            await RegistryRow.filter(id=1).update(revision=F("revision"))
            yield Journal(by, self.clock(), connection)

    @in_context
    async def note(
        self,
        by: Origin,
        action: AuditAction,
        subject_kind: str,
        subject_id: str | int,
        factory_id: int | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Append what changes nothing itself, such as a sign-in. ``after`` must hold nothing secret."""
        async with self._changing(by) as journal:
            await journal.note(action, subject_kind, subject_id, factory_id, after=after)

    @in_context
    async def audit_events(
        self,
        *,
        factory_id: int | None = None,
        actor: str | None = None,
        action: AuditAction | None = None,
        subject_kind: str | None = None,
        subject_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after_id: int | None = None,
        limit: int = 100,
    ) -> list[AuditEvent]:
        """Events in [since, until), newest first; ``after_id`` is the last one of the page before. None: any."""
        wanted = {
            "factory_id": factory_id,
            "actor": actor,
            "action": action and action.value,
            "subject_kind": subject_kind,
            "subject_id": subject_id,
            "at__gte": since and since.astimezone(UTC),  # SQLite compares times as text
            "at__lt": until and until.astimezone(UTC),
            "id__lt": after_id,
        }
        query = AuditEventRow.filter(**{name: value for name, value in wanted.items() if value is not None})
        return [_event(row) for row in await query.order_by("-id").limit(limit)]

    @in_context
    async def verify_audit(self, head: tuple[int, str] | None = None) -> AuditCheck:
        """Work out the whole chain again, from the first event on.

        ``head`` is the number and the hash of an event as they were noted earlier, outside of this database: only so it
        shows when the newest events are cut off, or all of them were written anew.
        """
        count, digest, last = 0, "", -(1 << 63)
        while rows := await AuditEventRow.filter(id__gt=last).order_by("id").limit(PAGE):
            for row in rows:
                if why := _fault(row, count, digest, head):
                    return AuditCheck(count, digest, count + 1, why)
                count, digest = row.id, row.sha256
            last = rows[-1].id
        if head is not None and count < head[0]:
            why = gettext("the log ends before it: there were %(count)s events", count=head[0])
            return AuditCheck(count, digest, count + 1, why)
        return AuditCheck(count, digest)


def _fault(row: AuditEventRow, count: int, digest: str, head: tuple[int, str] | None) -> str:
    """What is wrong with the event that follows ``count`` events, the last of them with the hash ``digest``."""
    if row.id != count + 1:
        return gettext("it is missing: the next one that is there has the number %(number)s", number=row.id)
    if row.sha256 != chained(digest, audit_record(_event(row))):
        return gettext("its hash does not fit: it, or the one before it, is not as it was written")
    if head is not None and row.id == head[0] and row.sha256 != head[1].lower():
        return gettext(
            "it is in order by itself, but it is not the one that was noted: the log was written anew up to here"
        )
    return ""


def _event(row: AuditEventRow) -> AuditEvent:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return AuditEvent(**(values | {name: _read(values[name]) for name in ("before", "after")}))


def _read(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        values: dict[str, Any] = json.loads(text)
    except ValueError:  # somebody was there; its hash will not fit
        return {"unreadable": text}
    return values


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in the audit log")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
