"""What people are told of alerts: who is on duty, what waits to be told, and what was.

The rows are the only memory of it: what was dispatched is in ``outbox`` in the same transaction that notes it at the
alert, so a crash neither loses a message nor makes it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F, Q, Subquery
from tortoise.functions import Count, Max, Min
from tortoise.transactions import in_transaction

from carbontrack.dispatch import OF_ITS_BEING, REPEATED, Case, Fold, Plan, Seat, Telling
from carbontrack.model import (
    FACTORY_ROLES,
    PLATFORM,
    Alert,
    AuditAction,
    Origin,
    OutboxMessage,
    User,
    UserStatus,
)
from carbontrack.store.alerts import alert_of
from carbontrack.store.audit import Audit
from carbontrack.store.context import RegistryError, in_context
from carbontrack.store.people import user_of
from carbontrack.store.work import storable_text
from carbontrack.tables import AlertRow, DutyRow, OutboxAlertRow, OutboxRow, UserRow
from carbontrack.words import gettext

OutboxState = Literal["waiting", "sent", "failed"]

AT_ONCE = 1000
"""So many numbers go into one statement: engines have a limit."""
MOST_ON_DUTY = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that is to be kept: to one person by one channel, or by a channel to all (``user_id`` None)."""

    channel: str
    user_id: int | None
    dedupe_key: str
    content: str
    parts: tuple[tuple[int, str], ...]
    """Of which alerts it tells, and what: pairs of number and event."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits of one channel. ``tried_since`` is the time of the oldest message that was tried in vain."""

    channel: str
    waiting: int
    oldest: datetime
    tried_since: datetime | None
    error: str


class Outbox(Audit):
    """Duty lists, and messages on their way. ``now`` is given by whoever asks: the store decides nothing by a clock."""

    # --- who is on duty

    @in_context
    async def duty(self, factory_id: int | None) -> list[User]:
        """A factory's duty list, or that of headquarters (None), in its order; empty where none was made."""
        rows = await DutyRow.filter(factory_id=factory_id).order_by("position").prefetch_related("user")
        return [user_of(row.user) for row in rows]

    @in_context
    async def duties(self) -> dict[int | None, list[int]]:
        """The numbers of those on every duty list; None is headquarters'."""
        found: dict[int | None, list[int]] = {}
        for factory_id, user_id in await DutyRow.all().order_by("position").values_list("factory_id", "user_id"):
            found.setdefault(factory_id, []).append(user_id)
        return found

    @in_context
    async def set_duty(self, factory_id: int | None, user_ids: Sequence[int], *, by: Origin = PLATFORM) -> list[User]:
        """Make a duty list of these people, in this order; nobody: there is no list any more.

        Raises :class:`RegistryError` for somebody who is not active, or may not see what the list is for.
        """
        async with self._changing(by) as journal:
            before = await _emails(factory_id)
            people = await _on_duty(factory_id, user_ids)
            await DutyRow.filter(factory_id=factory_id).delete()
            for position, row in enumerate(people):
                await DutyRow.create(factory_id=factory_id, position=position, user_id=row.id)
            await journal.note(
                AuditAction.DUTY_CHANGED,
                "duty",
                "headquarters" if factory_id is None else factory_id,
                factory_id,
                before={"people": before},
                after={"people": [row.email for row in people]},
            )
        return [user_of(row) for row in people]

    # --- which alerts there is something to tell of

    @in_context
    async def settle_network(self, join_within: timedelta, now: datetime) -> None:
        """Bring alerts of the whole network up to date: who else is part of them, how many they are, which are over.

        What is raised so soon after the newest part is one more of the same flood.
        """
        for row in await AlertRow.filter(device_id=None, factory_id=None, cleared_at=None):
            newest = (await AlertRow.filter(part_of=row.id).order_by("-raised_at").first()) or row
            await _foldable(row.rule, row.raised_at, newest.raised_at + join_within, now).update(
                part_of=row.id, raised_told_at=now
            )
            await _count_parts(row)
            if not await AlertRow.filter(part_of=row.id, cleared_at=None).exists():
                last = await AlertRow.filter(part_of=row.id).order_by("-cleared_at").first()
                await AlertRow.filter(id=row.id).update(cleared_at=last.cleared_at if last else now)
        await AlertRow.filter(part_of__isnull=False, cleared_at__isnull=False, cleared_told_at=None).update(
            cleared_told_at=F("cleared_at")
        )

    @in_context
    async def fold_alerts(self, fold: Fold, now: datetime) -> None:
        """Make a flood one alert of the whole network: a few statements, however many there are.

        Where one of the rule is open already the flood joins it, and nobody has seen it yet.
        """
        network = AlertRow.filter(rule=fold.rule, device_id=None, factory_id=None, cleared_at=None)
        values: dict[str, Any] = {"severity": fold.severity, "message": "", "raised_at": fold.since}
        try:
            async with in_transaction():
                row = await AlertRow.create(rule=fold.rule, **values)
                await _foldable(fold.rule, fold.since, fold.until, now).update(part_of=row.id, raised_told_at=now)
                await _count_parts(row)
        except IntegrityError:
            async with in_transaction():
                await network.update(acknowledged_at=None, acknowledged_by="", acknowledge_comment="")
                row = await network.get()
                await _foldable(fold.rule, fold.since, fold.until, now).update(part_of=row.id, raised_told_at=now)
                await _count_parts(row)

    @in_context
    async def cases(self) -> list[Case]:
        """The alerts of which something may have to be told: those that are open, or over and that was not told."""
        query = AlertRow.filter(cleared_told_at=None, part_of=None)  # there is an index of these
        rows = await query.values_list(
            "id", "rule", "severity", "raised_at", "cleared_at", "acknowledged_at", "shelved_until",
            "raised_told_at", "escalation", "device_id", "factory_id", "device__factory_id",
        )  # fmt: skip
        told = await _tellings([row[0] for row in rows if row[7] is not None])
        return [
            Case(
                id=row[0],
                rule=row[1],
                severity=row[2],
                factory_id=row[11] if row[9] is not None else row[10],
                raised_at=row[3],
                cleared_at=row[4],
                acknowledged_at=row[5],
                shelved_until=row[6],
                is_told=row[7] is not None,
                escalation=row[8],
                of_device=row[9] is not None,
                told=tuple(told.get(row[0], ())),
            )
            for row in rows
        ]

    @in_context
    async def told_since(self, since: datetime) -> dict[Seat, datetime]:
        """When each person, and each channel that tells all, was told something last, of those told since then."""
        found: dict[Seat, datetime] = {}
        query = OutboxRow.filter(created_at__gte=since).order_by("created_at")
        for user_id, channel, at in await query.values_list("user_id", "channel", "created_at"):
            found[channel if user_id is None else user_id] = at
        return found

    @in_context
    async def alerts_of(self, alert_ids: Iterable[int]) -> dict[int, Alert]:
        """Some alerts by their numbers."""
        found: dict[int, Alert] = {}
        for some in _parted(alert_ids):
            for row in await AlertRow.filter(id__in=some).prefetch_related("device"):
                found[row.id] = alert_of(row)
        return found

    @in_context
    async def network_sizes(self, alert_ids: Iterable[int]) -> dict[int, tuple[int, int]]:
        """For how many devices of how many factories alerts of the whole network stand."""
        return {number: await _sizes(number) for number in alert_ids}

    # --- what is to be told

    @in_context
    async def keep_messages(self, entries: Sequence[Entry], plan: Plan, now: datetime) -> int:
        """Keep messages, and at the alerts what a plan makes of them, in one transaction; how many were new."""
        told = {number for entry in entries for number, event in entry.parts if event in OF_ITS_BEING}
        async with in_transaction():
            for some in _parted(told):
                await AlertRow.filter(id__in=some).update(last_told_at=now)
                await AlertRow.filter(id__in=some, raised_told_at=None).update(raised_told_at=now)
            for level in set(plan.levels.values()):
                at_level = [number for number, its in plan.levels.items() if its == level]
                for some in _parted(at_level):
                    await AlertRow.filter(id__in=some).update(escalation=level)
            for some in _parted(plan.done):
                await AlertRow.filter(id__in=some).update(cleared_told_at=now)
                await AlertRow.filter(id__in=some, raised_told_at=None).update(raised_told_at=now)
            return await _keep_entries(entries, now)

    @in_context
    async def due_messages(self, channel: str, now: datetime, most: int) -> list[OutboxMessage]:
        """What a channel is to send now: the oldest message of each person, so that each hears all in its order."""
        waiting = OutboxRow.filter(channel=channel, state="waiting")
        firsts = await waiting.annotate(first=Min("id")).group_by("user_id").values_list("first", flat=True)
        query = OutboxRow.filter(id__in=list(firsts), next_attempt_at__lte=now).order_by("id").limit(most)
        return [_message(row) for row in await query.prefetch_related("user")]

    @in_context
    async def end_message(self, number: int, state: Literal["sent", "failed"], error: str, now: datetime) -> None:
        """Note how a message ended."""
        await OutboxRow.filter(id=number, state="waiting").update(
            state=state, attempts=F("attempts") + 1, last_error=storable_text(error, 500), done_at=now
        )

    @in_context
    async def postpone_message(self, number: int, until: datetime, error: str) -> None:
        """Note that a message was not delivered, and when it is tried again."""
        await OutboxRow.filter(id=number, state="waiting").update(
            attempts=F("attempts") + 1, next_attempt_at=until, last_error=storable_text(error, 500)
        )

    @in_context
    async def backlogs(self) -> list[Backlog]:
        """What waits to be told, by channel."""
        found = []
        waiting = OutboxRow.filter(state="waiting")
        for channel, count in await waiting.annotate(n=Count("id")).group_by("channel").values_list("channel", "n"):
            of_it = waiting.filter(channel=channel)
            oldest = await of_it.order_by("created_at").first()
            tried = await of_it.filter(attempts__gt=0).order_by("created_at").first()
            if oldest is not None:
                error = tried.last_error if tried else ""
                found.append(Backlog(channel, count, oldest.created_at, tried.created_at if tried else None, error))
        return found

    @in_context
    async def drop_channel(self, channel: str, error: str, now: datetime) -> None:
        """Give up what waits of a channel."""
        await OutboxRow.filter(channel=channel, state="waiting").update(state="failed", last_error=error, done_at=now)

    @in_context
    async def forget_messages(self, before: datetime) -> int:
        """Delete what was done before then; how many were deleted.

        Who was told first of an alert that is open is not forgotten: it would be told anew.
        """
        of_open = Subquery(OutboxAlertRow.filter(alert__cleared_at=None).exclude(event=REPEATED).values("outbox_id"))
        old: list[Any] = await OutboxRow.filter(done_at__lt=before).exclude(id__in=of_open).values_list("id", flat=True)
        for some in _parted(old):
            await OutboxRow.filter(id__in=some).delete()
        return len(old)

    # --- looking

    @in_context
    async def messages(
        self,
        *,
        state: OutboxState | None = None,
        channel: str | None = None,
        factory_id: int | None = None,
        alert_id: int | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[OutboxMessage]:
        """Messages, newest first; of a factory those that tell of nothing else, of an alert those that tell of it."""
        wanted = {"state": state, "channel": channel, "id__lt": before_id}
        query = OutboxRow.filter(**{name: value for name, value in wanted.items() if value is not None})
        if factory_id is not None:
            own = Q(alert__factory_id=factory_id) | Q(alert__device__factory_id=factory_id)
            told = OutboxAlertRow.filter(own).values("outbox_id")
            of_others = OutboxAlertRow.filter(
                (Q(alert__factory_id__isnull=True) | Q(alert__factory_id__not=factory_id)),
                (Q(alert__device_id__isnull=True) | Q(alert__device__factory_id__not=factory_id)),
            ).values("outbox_id")
            query = query.filter(id__in=Subquery(told)).exclude(id__in=Subquery(of_others))
        if alert_id is not None:
            query = query.filter(id__in=Subquery(OutboxAlertRow.filter(alert_id=alert_id).values("outbox_id")))
        rows = await query.order_by("-id").limit(limit).prefetch_related("user")
        return [_message(row) for row in rows]

    @in_context
    async def message(self, number: int) -> OutboxMessage | None:
        """One message."""
        row = await OutboxRow.get_or_none(id=number).prefetch_related("user")
        return _message(row) if row else None

    @in_context
    async def retry_message(self, number: int, now: datetime) -> OutboxMessage:
        """Have a message that failed, or waits for its next attempt, tried now.

        Raises :class:`RegistryError` where there is none, or it was sent.
        """
        row = await OutboxRow.get_or_none(id=number).prefetch_related("user")
        if row is None:
            raise RegistryError(gettext("there is no such message"))
        if row.state == "sent":
            raise RegistryError(gettext("it was sent"))
        # ``created_at`` is when it was made: a message that is tried anew has its day again from now on.
        await (
            OutboxRow.filter(id=number)
            .exclude(state="sent")
            .update(state="waiting", attempts=0, next_attempt_at=now, done_at=None)
        )
        await row.refresh_from_db()
        await row.fetch_related("user")
        return _message(row)


# --- rows


def _parted(numbers: Iterable[int]) -> Iterable[list[int]]:
    found = list(numbers)
    return (found[at : at + AT_ONCE] for at in range(0, len(found), AT_ONCE))


def _foldable(rule: str, since: datetime, until: datetime, now: datetime) -> Any:
    """Open alerts of devices by a rule of which nobody was told, and that nobody has seen to."""
    return AlertRow.filter(
        Q(shelved_until=None) | Q(shelved_until__lte=now),
        rule=rule,
        device_id__isnull=False,
        part_of=None,
        is_late=False,
        cleared_at=None,
        acknowledged_at=None,
        raised_told_at=None,
        raised_at__gte=since,
        raised_at__lte=until,
    )


async def _count_parts(row: AlertRow) -> None:
    devices, factories = await _sizes(row.id)
    message = f"{devices} devices at {factories} factories"
    if row.message != message:
        await AlertRow.filter(id=row.id).update(message=message)


async def _sizes(number: int) -> tuple[int, int]:
    parts = AlertRow.filter(part_of=number)
    return await parts.count(), len(await parts.distinct().values_list("device__factory_id", flat=True))


async def _tellings(alert_ids: Iterable[int]) -> Mapping[int, list[Telling]]:
    """When each seat was told of each alert first and last, by event: what goes on for months is told very often."""
    found: dict[int, list[Telling]] = {}
    kinds = ("alert_id", "event", "outbox__user_id", "outbox__channel")
    for some in _parted(alert_ids):
        query = OutboxAlertRow.filter(alert_id__in=some)
        times = query.annotate(first=Min("outbox__created_at"), last=Max("outbox__created_at"))
        for alert_id, event, user_id, channel, first, last in await times.group_by(*kinds).values_list(
            *kinds, "first", "last"
        ):
            seat = channel if user_id is None else user_id
            found.setdefault(alert_id, []).extend(Telling(seat, event, at) for at in dict.fromkeys((first, last)))
    return found


async def _keep_entries(entries: Sequence[Entry], now: datetime) -> int:
    keys = [entry.dedupe_key for entry in entries]
    known: set[str] = set()
    for at in range(0, len(keys), AT_ONCE):
        some = keys[at : at + AT_ONCE]
        found: list[Any] = await OutboxRow.filter(dedupe_key__in=some).values_list("dedupe_key", flat=True)
        known.update(found)
    parts: list[OutboxAlertRow] = []
    kept = 0
    for entry in entries:
        if entry.dedupe_key in known:
            continue
        row = await OutboxRow.create(
            dedupe_key=entry.dedupe_key,
            channel=entry.channel,
            user_id=entry.user_id,
            content=entry.content,
            state="waiting",
            next_attempt_at=now,
            created_at=now,
        )
        kept += 1
        parts += [OutboxAlertRow(outbox_id=row.id, alert_id=number, event=event) for number, event in entry.parts]
    await OutboxAlertRow.bulk_create(parts, batch_size=AT_ONCE)
    return kept


async def _emails(factory_id: int | None) -> list[str]:
    query = DutyRow.filter(factory_id=factory_id).order_by("position")
    found: list[Any] = await query.values_list("user__email", flat=True)
    return found


async def _on_duty(factory_id: int | None, user_ids: Sequence[int]) -> list[UserRow]:
    if len(user_ids) > MOST_ON_DUTY:
        raise RegistryError(gettext("a duty list has room for %(count)s people", count=MOST_ON_DUTY), "user_ids")
    if len(set(user_ids)) < len(user_ids):
        raise RegistryError(gettext("somebody is on it twice"), "user_ids")
    found = {row.id: row for row in await UserRow.filter(id__in=list(user_ids))}
    for number in user_ids:
        # One answer for all: whoever makes a list learns nothing of people that are not theirs.
        if number not in found or not _may_be_told(found[number], factory_id):
            text = gettext("nobody with the number %(number)s may be told of what this list is for", number=number)
            raise RegistryError(text, "user_ids")
    return [found[number] for number in user_ids]


def _may_be_told(row: UserRow, factory_id: int | None) -> bool:
    is_at_home = row.role not in FACTORY_ROLES or (factory_id is not None and row.factory_id == factory_id)
    return row.status == UserStatus.ACTIVE and is_at_home


def _message(row: OutboxRow) -> OutboxMessage:
    return OutboxMessage(
        id=row.id,
        channel=row.channel,
        recipient=user_of(row.user) if row.user else None,
        content=row.content,
        state=row.state,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        created_at=row.created_at,
        done_at=row.done_at,
    )
