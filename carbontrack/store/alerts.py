"""Alerts: that there is one of a rule and a device, how far each rule has got, and what people did about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tortoise.exceptions import DoesNotExist, IntegrityError
from tortoise.expressions import Q
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from carbontrack.model import (
    INACTIVE,
    PLATFORM,
    Alert,
    AlertState,
    AuditAction,
    DeviceStatus,
    Finding,
    Origin,
    Standing,
)
from carbontrack.store.audit import Audit
from carbontrack.store.context import RegistryError, in_context
from carbontrack.tables import AlertRow, AlertStandingRow, DeviceRow, FactoryRow
from carbontrack.words import gettext

Subject = str | int
"""What an alert is of: a device by its id on the wire, or a factory by its number."""


class Alerts(Audit):
    """Alerts of devices (``of`` is a device id), of factories (its number), and of the whole network."""

    # --- what rules say

    @in_context
    async def raise_alert(
        self,
        of: Subject,
        rule: str,
        severity: str,
        finding: Finding,
        raised_at: datetime,
        standing: Standing = INACTIVE,
    ) -> Alert | None:
        """Open an alert, or give the one that this rule has open; None: the device or factory is gone.

        ``standing`` is kept with it, in one transaction.
        """
        key = await _key(of)
        if key is None:
            return None  # removed meanwhile
        values: dict[str, Any] = {"severity": severity, "message": finding.message, "raised_at": raised_at}
        values |= {"value": finding.value, "limit_value": finding.limit, "unit": finding.unit}
        try:
            async with in_transaction():
                await AlertRow.create(**key, rule=rule, **values)
                await _keep(key, rule, standing)
        except IntegrityError:  # the partial unique indexes: one open alert per device, or factory, and rule
            await _keep(key, rule, standing)
        row = await AlertRow.get_or_none(**key, rule=rule, cleared_at=None).prefetch_related("device")
        return alert_of(row) if row else None

    @in_context
    async def clear_alert(self, of: Subject, rule: str, cleared_at: datetime) -> Alert | None:
        """End the open alert of a rule, and forget where the rule stood; None: there was no open one."""
        key = await _key(of)
        if key is None:
            return None
        async with in_transaction():
            # A change comes first: SQLite lets nobody who has read become a writer while others write.
            await AlertStandingRow.filter(**key, rule=rule).delete()
            found = await _clear(AlertRow.filter(**key, rule=rule), cleared_at)
        return found[0] if found else None

    @in_context
    async def clear_alerts_of_disabled(self, cleared_at: datetime) -> list[Alert]:
        """End the open alerts of disabled devices: nobody looks at them any more."""
        disabled = list(await DeviceRow.filter(status=DeviceStatus.DISABLED).values_list("id", flat=True))
        await AlertStandingRow.filter(device_id__in=disabled).delete()
        return await _clear(AlertRow.filter(device_id__in=disabled), cleared_at)

    @in_context
    async def keep_standing(self, of: Subject, rule: str, standing: Standing) -> None:
        """Keep where a rule stands, for the next start of the core; inactive is what is not kept."""
        key = await _key(of)
        if key is not None:
            await _keep(key, rule, standing)

    @in_context
    async def standings(self) -> dict[Subject, dict[str, Standing]]:
        """Where rules stand that are not inactive, by device id or factory number, and by rule."""
        found: dict[Subject, dict[str, Standing]] = {}
        for alert in await AlertRow.filter(cleared_at=None).prefetch_related("device"):
            of = alert.device.device_id if alert.device else alert.factory_id
            if of is not None:
                found.setdefault(of, {})[alert.rule] = Standing(AlertState.FIRING, alert.raised_at)
        for row in await AlertStandingRow.all().prefetch_related("device"):
            of = row.device.device_id if row.device else row.factory_id
            standing = Standing(AlertState(row.state), row.since, row.seen_at, row.well_since)
            known = found.setdefault(of, {}) if of is not None else {}
            # What fires is what has an open alert: somebody may have ended it by hand.
            if (standing.state is AlertState.FIRING) == (row.rule in known):
                known[row.rule] = standing
        return found

    @in_context
    async def add_late_alert(
        self, device_id: str, rule: str, severity: str, finding: Finding, raised_at: datetime, cleared_at: datetime
    ) -> Alert | None:
        """Keep what would have fired had its readings come in time; None where that is known, or the device is gone."""
        key = await _key(device_id)
        if (
            key is None
            or await AlertRow.filter(**key, rule=rule, raised_at__lte=cleared_at)
            .filter(Q(cleared_at=None) | Q(cleared_at__gte=raised_at))
            .exists()
        ):
            return None
        row = await AlertRow.create(
            **key,
            rule=rule,
            severity=severity,
            message=finding.message,
            value=finding.value,
            limit_value=finding.limit,
            unit=finding.unit,
            is_late=True,
            raised_at=raised_at,
            cleared_at=cleared_at,
            raised_told_at=raised_at,
            cleared_told_at=cleared_at,
        )
        await row.fetch_related("device")
        return alert_of(row)

    # --- what people do

    @in_context
    async def acknowledge_alert(self, alert_id: int, comment: str, now: datetime, *, by: Origin = PLATFORM) -> Alert:
        """Note that somebody has seen an alert, with those that are part of it; who was first stays.

        Raises :class:`RegistryError` where there is no such alert.
        """
        async with self._changing(by) as journal:
            row = await _row(alert_id)
            unseen = AlertRow.filter(Q(id=alert_id) | Q(part_of=alert_id), acknowledged_at=None)
            if row.acknowledged_at is None:
                await unseen.update(acknowledged_at=now, acknowledged_by=by.name, acknowledge_comment=comment.strip())
                after = {"rule": row.rule, "comment": comment.strip()}
                await journal.note(AuditAction.ALERT_ACKNOWLEDGED, "alert", row.id, _factory_of(row), after=after)
        return alert_of(await _row(alert_id))

    @in_context
    async def shelve_alert(self, alert_id: int, until: datetime, comment: str, *, by: Origin = PLATFORM) -> Alert:
        """Put an alert aside until a moment: nobody is told of it before. Raises :class:`RegistryError` as above."""
        async with self._changing(by) as journal:
            row = await _row(alert_id)
            before = {"shelved_until": row.shelved_until}
            these = AlertRow.filter(Q(id=alert_id) | Q(part_of=alert_id))
            await these.update(shelved_until=until, shelved_by=by.name, shelve_comment=comment.strip())
            after = {"shelved_until": until, "comment": comment.strip()}
            factory_id = _factory_of(row)
            await journal.note(AuditAction.ALERT_SHELVED, "alert", row.id, factory_id, before=before, after=after)
        return alert_of(await _row(alert_id))

    @in_context
    async def unshelve_alert(self, alert_id: int, *, by: Origin = PLATFORM) -> Alert:
        """Take back that an alert is put aside. Raises :class:`RegistryError` as above."""
        async with self._changing(by) as journal:
            row = await _row(alert_id)
            before, factory_id = {"shelved_until": row.shelved_until}, _factory_of(row)
            these = AlertRow.filter(Q(id=alert_id) | Q(part_of=alert_id))
            await these.update(shelved_until=None, shelved_by="", shelve_comment="")
            after = {"shelved_until": None}
            await journal.note(AuditAction.ALERT_UNSHELVED, "alert", row.id, factory_id, before=before, after=after)
        return alert_of(await _row(alert_id))

    # --- looking

    @in_context
    async def alert(self, alert_id: int, factory_id: int | None = None) -> Alert | None:
        """One alert; of a factory's only, where one is named."""
        row = await _of(AlertRow.filter(id=alert_id), factory_id).prefetch_related("device").first()
        return alert_of(row) if row else None

    @in_context
    async def unseen_alerts(self, factory_id: int | None = None) -> int:
        """How many alerts fire that nobody has acknowledged; those that are part of one of the network are that one.

        Of a factory's own all count: its people do not see the network's.
        """
        query = AlertRow.filter(cleared_at=None, acknowledged_at=None)
        return await _of(query if factory_id is not None else query.filter(part_of=None), factory_id).count()

    @in_context
    async def alerts(
        self,
        *,
        factory_id: int | None = None,
        device_id: str | None = None,
        rule: str | None = None,
        severity: str | None = None,
        only_open: bool = True,
        is_acknowledged: bool | None = None,
        part_of: int | None = None,
        only_whole: bool = False,
        after: tuple[datetime, int] | None = None,
        limit: int = 50,
    ) -> list[Alert]:
        """Alerts of devices, factories and the network, newest first; ``after`` is the last one of the page before.

        ``only_whole`` leaves out those that are part of one of the network.
        """
        query = AlertRow.all().order_by("-raised_at", "-id").limit(limit).prefetch_related("device")
        wanted = {"device__device_id": device_id, "rule": rule, "severity": severity, "part_of": part_of}
        query = query.filter(**{name: value for name, value in wanted.items() if value is not None})
        if only_open:
            query = query.filter(cleared_at=None)
        if only_whole:
            query = query.filter(part_of=None)
        if is_acknowledged is not None:
            query = query.filter(acknowledged_at__isnull=not is_acknowledged)
        if after is not None:
            query = query.filter(Q(raised_at__lt=after[0]) | Q(raised_at=after[0], id__lt=after[1]))
        return [alert_of(row) for row in await _of(query, factory_id)]

    @in_context
    async def alerts_raised(self, factory_id: int, start: datetime, end: datetime) -> list[Alert]:
        """A factory's alerts and its devices' that were raised in [start, end), oldest first."""
        query = AlertRow.filter(raised_at__gte=start, raised_at__lt=end).order_by("raised_at", "id")
        return [alert_of(row) for row in await _of(query.prefetch_related("device"), factory_id)]


# --- rows


async def _key(of: Subject) -> dict[str, Any] | None:
    """The columns that say what an alert is of; None where that is gone."""
    if isinstance(of, str):
        device = await DeviceRow.get_or_none(device_id=of)
        return {"device_id": device.id} if device else None
    return {"factory_id": of} if await FactoryRow.exists(id=of) else None


async def _keep(key: Mapping[str, Any], rule: str, standing: Standing) -> None:
    if standing.state is AlertState.INACTIVE:
        await AlertStandingRow.filter(**key, rule=rule).delete()
        return
    assert standing.since is not None
    values: dict[str, Any] = {
        "state": standing.state.value,
        "since": standing.since,
        "seen_at": standing.seen_at,
        "well_since": standing.well_since,
    }
    if not await AlertStandingRow.filter(**key, rule=rule).update(**values):
        await AlertStandingRow.create(**key, rule=rule, **values)


async def _row(alert_id: int) -> AlertRow:
    try:
        return await AlertRow.get(id=alert_id).prefetch_related("device")
    except DoesNotExist as error:
        raise RegistryError(gettext("there is no such alert")) from error


def _of(query: QuerySet[AlertRow], factory_id: int | None) -> QuerySet[AlertRow]:
    return query if factory_id is None else query.filter(Q(device__factory_id=factory_id) | Q(factory_id=factory_id))


async def _clear(query: QuerySet[AlertRow], cleared_at: datetime) -> list[Alert]:
    """End those of some alerts that are open; they, as they are now."""
    rows = await query.filter(cleared_at=None).prefetch_related("device")
    for row in rows:
        row.cleared_at = cleared_at
        await row.save(update_fields=["cleared_at"])
    return [alert_of(row) for row in rows]


def _factory_of(row: AlertRow) -> int | None:
    return row.device.factory_id if row.device else row.factory_id


def alert_of(row: AlertRow) -> Alert:
    """An alert as the program knows it; its device must have been fetched."""
    device = row.device
    return Alert(
        id=row.id,
        device_id=device.device_id if device else None,
        factory_id=_factory_of(row),
        stack_id=device.stack_id if device else None,
        rule=row.rule,
        severity=row.severity,
        message=row.message,
        raised_at=row.raised_at,
        cleared_at=row.cleared_at,
        value=row.value,
        limit=row.limit_value,
        unit=row.unit,
        is_late=row.is_late,
        part_of=row.part_of,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        acknowledge_comment=row.acknowledge_comment,
        shelved_until=row.shelved_until,
        shelved_by=row.shelved_by,
        shelve_comment=row.shelve_comment,
        last_told_at=row.last_told_at,
        escalation=row.escalation,
    )
