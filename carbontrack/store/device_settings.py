"""What devices are told to be, and told to do: revisions of settings, and commands, with what became of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tortoise.expressions import Subquery
from tortoise.functions import Max
from tortoise.transactions import in_transaction

from carbontrack.device_settings import (
    MOST_REV,
    OPEN_STATES,
    CommandState,
    ConfigState,
    DeviceCommand,
    DeviceConfig,
    Fault,
    Why,
    chosen_settings,
    differences,
)
from carbontrack.model import AuditAction, Origin
from carbontrack.store.audit import Audit, Journal
from carbontrack.store.context import RegistryError, in_context
from carbontrack.store.work import storable_text
from carbontrack.tables import DeviceCommandRow, DeviceConfigRow, DeviceRow
from carbontrack.words import gettext

MOST_PENDING = 10
"""Commands of one device that wait for their answers."""
AT_ONCE = 500
"""Rows of one statement."""


@dataclass(frozen=True, slots=True)
class NewConfig:
    """A revision that is to be made: the next one of its device, but not below ``at_least``."""

    device_pk: int
    document: Mapping[str, Any]
    why: Why
    at_least: int = 1


class DeviceOrders(Audit):
    """Settings and commands. The newest revision of a device is the one that counts; none is overwritten."""

    # --- settings

    @in_context
    async def add_configs(self, wanted: Sequence[NewConfig], *, by: Origin) -> list[DeviceConfig]:
        """Make revisions; what is the same as its device's newest one is left out, unless ``at_least`` is beyond that.

        A device that has been removed meanwhile is left out as well.
        """
        async with self._changing(by) as journal:
            return [made for each in wanted if (made := await self._add_config(each, journal)) is not None]

    async def _add_config(self, wanted: NewConfig, journal: Journal) -> DeviceConfig | None:
        device = await DeviceRow.get_or_none(id=wanted.device_pk)
        if device is None:
            return None
        newest = await DeviceConfigRow.filter(device_id=device.id).order_by("-rev").first()
        before = json.loads(newest.document) if newest is not None else None
        if newest is not None and newest.rev >= wanted.at_least and not differences(before, wanted.document):
            return None
        rev = max(wanted.at_least, newest.rev + 1 if newest is not None else 1)
        if rev > MOST_REV:
            if wanted.why is not Why.SETTINGS:
                return None  # one device's end must not be in the way of the others
            raise RegistryError(gettext("this device has used up its revisions: remove it and register it anew"))
        row = await DeviceConfigRow.create(
            device_id=device.id,
            factory_id=device.factory_id,
            rev=rev,
            document=json.dumps(wanted.document),
            made_at=journal.now,
            made_by=storable_text(journal.by.name, 200),
            why=wanted.why.value,
            state=ConfigState.WAITING.value,
        )
        if wanted.why is Why.SETTINGS:  # what follows from a plan is in the log with the plan
            was, now = (_said(it) for it in (before, wanted.document))
            await journal.note(
                AuditAction.DEVICE_CONFIGURED, "device", device.device_id, device.factory_id, before=was, after=now
            )
        return _config(row, device.device_id)

    @in_context
    async def newest_configs(self) -> list[DeviceConfig]:
        """The newest revision of each device that has one."""
        newest = Subquery(DeviceConfigRow.all().annotate(last=Max("id")).group_by("device_id").values("last"))
        return [
            _config(row, row.device.device_id)
            for row in await DeviceConfigRow.filter(id__in=newest).prefetch_related("device")
        ]

    @in_context
    async def configs_after(self, last_id: int) -> list[DeviceConfig]:
        """Revisions that were made after one, oldest first."""
        rows = await DeviceConfigRow.filter(id__gt=last_id).order_by("id").limit(AT_ONCE).prefetch_related("device")
        return [_config(row, row.device.device_id) for row in rows]

    @in_context
    async def configs(
        self, device_pk: int, *, factory_id: int | None = None, before_rev: int | None = None, limit: int = 20
    ) -> list[DeviceConfig]:
        """A device's revisions, newest first; with ``factory_id`` those that were made while it was there."""
        query = DeviceConfigRow.filter(device_id=device_pk)
        if factory_id is not None:
            query = query.filter(factory_id=factory_id)
        if before_rev is not None:
            query = query.filter(rev__lt=before_rev)
        return [
            _config(row, row.device.device_id)
            for row in await query.order_by("-rev").limit(limit).prefetch_related("device")
        ]

    @in_context
    async def ask_config_again(self, device_pk: int, rev: int, *, by: Origin) -> DeviceConfig:
        """Let a revision wait to be sent once more. Raises :class:`RegistryError` for one that is not the newest."""
        async with self._changing(by) as journal:
            row = await DeviceConfigRow.filter(device_id=device_pk).order_by("-rev").first().prefetch_related("device")
            if row is None or row.rev != rev:
                raise RegistryError(gettext("there is a newer revision of these settings"))
            row.state, row.errors, row.sent_at, row.answered_at = ConfigState.WAITING.value, "", None, None
            await row.save()
            device = row.device
            await journal.note(
                AuditAction.DEVICE_CONFIG_RESENT, "device", device.device_id, device.factory_id, after={"rev": rev}
            )
        return _config(row, device.device_id)

    # --- commands

    @in_context
    async def add_command(self, command: DeviceCommand, *, by: Origin) -> DeviceCommand:
        """Let a command wait to be sent. Raises :class:`RegistryError` where too many of its device wait already."""
        async with self._changing(by) as journal:
            device = await DeviceRow.get_or_none(device_id=command.device_id)
            if device is None:
                raise RegistryError(gettext("there is no device %(name)s", name=repr(command.device_id)))
            open_ones = DeviceCommandRow.filter(device_id=device.id, state__in=[it.value for it in OPEN_STATES])
            if await open_ones.count() >= MOST_PENDING:
                raise RegistryError(
                    gettext("%(count)s commands wait for this device already: wait for its answers", count=MOST_PENDING)
                )
            row = await DeviceCommandRow.create(
                command_id=command.command_id,
                device_id=device.id,
                factory_id=device.factory_id,
                cmd=command.cmd,
                args=json.dumps(command.args),
                asked_by=storable_text(by.name, 200),
                asked_at=command.asked_at,
                expires_at=command.expires_at,
                state=command.state.value,
            )
            await journal.note(
                AuditAction.DEVICE_COMMANDED,
                "device",
                device.device_id,
                device.factory_id,
                after={"command": command.cmd, **command.args},
            )
        return _command(row, device.device_id)

    @in_context
    async def commands(
        self,
        device_pk: int,
        *,
        command_id: str | None = None,
        factory_id: int | None = None,
        before_id: int | None = None,
        limit: int = 20,
    ) -> list[DeviceCommand]:
        """A device's commands, newest first; with ``factory_id`` those that were given while it was there."""
        query = DeviceCommandRow.filter(device_id=device_pk)
        if command_id is not None:
            query = query.filter(command_id=command_id)
        if factory_id is not None:
            query = query.filter(factory_id=factory_id)
        if before_id is not None:
            query = query.filter(id__lt=before_id)
        return [
            _command(row, row.device.device_id)
            for row in await query.order_by("-id").limit(limit).prefetch_related("device")
        ]

    @in_context
    async def command(self, device_pk: int, command_id: str) -> DeviceCommand | None:
        """One command of a device by its id on the wire."""
        row = await DeviceCommandRow.get_or_none(device_id=device_pk, command_id=command_id).prefetch_related("device")
        return _command(row, row.device.device_id) if row is not None else None

    @in_context
    async def recent_commands(self, since: datetime) -> list[DeviceCommand]:
        """Those that are open, and those that were asked for since then."""
        open_ones = DeviceCommandRow.filter(state__in=[it.value for it in OPEN_STATES])
        late = DeviceCommandRow.filter(asked_at__gte=since)
        rows = {row.id: row for query in (open_ones, late) for row in await query.prefetch_related("device")}
        return [_command(row, row.device.device_id) for _, row in sorted(rows.items())]

    @in_context
    async def commands_after(self, last_id: int) -> list[DeviceCommand]:
        """Commands that were asked for after one, oldest first."""
        rows = await DeviceCommandRow.filter(id__gt=last_id).order_by("id").limit(AT_ONCE).prefetch_related("device")
        return [_command(row, row.device.device_id) for row in rows]

    # --- what became of them

    @in_context
    async def keep_device_states(self, configs: Iterable[DeviceConfig], commands: Iterable[DeviceCommand]) -> None:
        """Keep how revisions and commands stand now: all of it or nothing."""
        async with in_transaction():
            for config in configs:
                await DeviceConfigRow.filter(id=config.id).update(
                    state=config.state.value,
                    sent_at=config.sent_at,
                    errors=json.dumps([[it.path, it.code] for it in config.errors]) if config.errors else "",
                    answered_at=config.answered_at,
                )
            for command in commands:
                await DeviceCommandRow.filter(id=command.id).update(
                    state=command.state.value,
                    sent_at=command.sent_at,
                    answer=json.dumps(command.answer) if command.answer is not None else "",
                    answered_at=command.answered_at,
                )

    @in_context
    async def forget_commands(self, before: datetime) -> int:
        """Delete the commands that were asked for before then; how many they were."""
        deleted: int = await DeviceCommandRow.filter(asked_at__lt=before).delete()
        return deleted


def _said(document: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings in a document as the audit log has them."""
    settings = chosen_settings(document)
    if settings is None:
        return {}
    names = ("sample_s", "readings", "warm_up_s", "stuck_s", "buzzer", "led")
    limits = [f"{it.code} {it.limit:g}" if it.limit is not None else it.code for it in settings.limits]
    return {name: getattr(settings, name) for name in names} | {"limits": limits}


def _config(row: DeviceConfigRow, device_id: str) -> DeviceConfig:
    errors = tuple(Fault(path, code) for path, code in json.loads(row.errors)) if row.errors else ()
    return DeviceConfig(
        row.id,
        device_id,
        row.rev,
        json.loads(row.document),
        row.made_at,
        row.made_by,
        Why(row.why),
        ConfigState(row.state),
        row.sent_at,
        errors,
        row.answered_at,
    )


def _command(row: DeviceCommandRow, device_id: str) -> DeviceCommand:
    return DeviceCommand(
        row.id,
        row.command_id,
        device_id,
        row.cmd,
        json.loads(row.args),
        row.asked_by,
        row.asked_at,
        row.expires_at,
        CommandState(row.state),
        row.sent_at,
        json.loads(row.answer) if row.answer else None,
        row.answered_at,
    )
