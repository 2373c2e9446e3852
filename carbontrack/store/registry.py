"""The registry: what changes rarely, through the ORM."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any

from tortoise.exceptions import DoesNotExist, IntegrityError
from tortoise.expressions import F

from carbontrack.model import (
    PLATFORM,
    AuditAction,
    Device,
    DeviceStatus,
    Factory,
    MonitoringPlan,
    Origin,
    Site,
    Stack,
)
from carbontrack.store.audit import Audit, Journal, Noted
from carbontrack.store.context import RegistryError, in_context
from carbontrack.tables import AlertRow, AlertStandingRow, DeviceRow, FactoryRow, PlanRow, RegistryRow, StackRow
from carbontrack.words import gettext

PLAN_COLUMNS = tuple(field.name for field in dataclass_fields(MonitoringPlan) if field.init)


@dataclass(frozen=True, slots=True)
class _Register:
    """All that is registered, as of one revision: factories and stacks by name, sites by the device's id."""

    revision: int
    factories: tuple[Factory, ...]
    stacks: tuple[Stack, ...]
    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """What is to be registered at once; factories are named by their slugs, stacks by their names."""

    factories: Sequence[Factory] = ()
    stacks: Sequence[tuple[str, str, MonitoringPlan]] = ()
    """Factory, name and first plan."""
    devices: Sequence[tuple[str, str, str, str]] = ()
    """Factory, stack, device id and driver."""


class Registry(Audit):
    """Factories, stacks, plans and devices."""

    def __init__(self, context: contextvars.Context, clock: Callable[[], datetime]) -> None:
        Audit.__init__(self, context, clock)  # by name: others of the store's parts come in between
        self._register: _Register | None = None

    # --- factories, stacks, devices

    @in_context
    async def revision(self) -> int:
        """A number that grows with every change of factories, stacks, plans and devices."""
        return await _revision()

    async def _current(self) -> _Register:
        """What is registered now. It is read again when its revision has grown, whichever process changed it.

        Most requests ask for it, and a network's factories, stacks and devices take tens of milliseconds to read.
        """
        revision = await _revision()
        known = self._register
        if known is None or known.revision != revision:
            # The revision was read first: what somebody changes while this reads is read again next time.
            known = self._register = await _read_register(revision)
        return known

    @in_context
    async def ask_reload(self) -> int:
        """Ask the running core to read its configuration anew; the request's number."""
        await RegistryRow.filter(id=1).update(reload_asked=F("reload_asked") + 1)
        await count_change()  # so that the core looks
        row = await RegistryRow.get(id=1)
        number: int = row.reload_asked
        return number

    @in_context
    async def asked_reload(self) -> int | None:
        """The number of a request that no core has answered yet; None without one."""
        row = await RegistryRow.get(id=1)
        return row.reload_asked if row.reload_asked > row.reload_done else None

    @in_context
    async def answer_reload(self, number: int, answer: str) -> None:
        """Answer a request, and those before it."""
        await RegistryRow.filter(id=1).update(reload_done=number, reload_answer=answer)

    @in_context
    async def reload_answer(self, number: int) -> str | None:
        """What a core answered to a request; None while it has not."""
        row = await RegistryRow.get(id=1)
        return row.reload_answer if row.reload_done >= number else None

    @in_context
    async def factories(self) -> list[Factory]:
        return list((await self._current()).factories)

    @in_context
    async def factory_by_slug(self, slug: str) -> Factory | None:
        return next((it for it in (await self._current()).factories if it.slug == slug), None)

    @in_context
    async def stacks(self, factory_id: int | None = None) -> list[Stack]:
        return [it for it in (await self._current()).stacks if factory_id in {None, it.factory_id}]

    @in_context
    async def sites(self, factory_id: int | None = None) -> list[Site]:
        """Every registered device with its stack and factory, disabled ones too."""
        return [it for it in (await self._current()).sites if factory_id in {None, it.factory.id}]

    @in_context
    async def add_factory(self, factory: Factory, *, by: Origin = PLATFORM) -> Factory:
        """Add a factory; its ``id`` is given by the store. Raises :class:`RegistryError` for a name that is taken."""
        try:
            async with self._changing(by) as journal:
                row = await _add_factory(journal, factory)
        except IntegrityError as error:
            raise RegistryError(_taken(factory.name)) from error
        return _factory(row)

    @in_context
    async def change_factory(self, factory_id: int, changed: Mapping[str, Any], *, by: Origin = PLATFORM) -> Factory:
        """Change fields of a factory; its name in addresses stays. Raises :class:`RegistryError` for a taken name."""
        try:
            async with self._changing(by) as journal:
                row = await FactoryRow.get(id=factory_id)
                before = {name: getattr(row, name) for name in changed}
                await row.update_from_dict(dict(changed)).save()
                await count_change()
                await journal.note(
                    AuditAction.FACTORY_CHANGED, "factory", row.id, row.id, before=before, after=dict(changed)
                )
        except DoesNotExist as error:
            raise RegistryError(gettext("there is no such factory")) from error
        except IntegrityError as error:
            raise RegistryError(_taken(changed.get("name"))) from error
        return _factory(row)

    @in_context
    async def remove_factory(self, factory_id: int, *, by: Origin = PLATFORM) -> None:
        """Delete a factory that nothing belongs to. Raises :class:`RegistryError` for any other."""
        try:
            async with self._changing(by) as journal:
                row = await FactoryRow.get(id=factory_id)
                await row.delete()
                await count_change()
                await journal.note(AuditAction.FACTORY_REMOVED, "factory", row.id, row.id, before={"name": row.name})
        except DoesNotExist as error:
            raise RegistryError(gettext("there is no such factory")) from error
        except IntegrityError as error:
            raise RegistryError(
                gettext("stacks, people, entries or reports belong to this factory: set is_active to false instead")
            ) from error

    @in_context
    async def rename_stack(self, stack_id: int, name: str, *, by: Origin = PLATFORM) -> None:
        """Give a stack another name. Raises :class:`RegistryError` for one that is taken."""
        try:
            async with self._changing(by) as journal:
                row = await _stack_row(stack_id)
                before, row.name = row.name, name
                await row.save(update_fields=["name"])
                await count_change()
                await journal.note(
                    AuditAction.STACK_CHANGED,
                    "stack",
                    row.id,
                    row.factory_id,
                    before={"name": before},
                    after={"name": name},
                )
        except IntegrityError as error:
            raise RegistryError(gettext("this factory has a stack named %(name)s already", name=repr(name))) from error

    @in_context
    async def remove_stack(self, stack_id: int, *, by: Origin = PLATFORM) -> None:
        """Delete a stack that nothing belongs to, with its plans. Raises :class:`RegistryError` for any other."""
        try:
            async with self._changing(by) as journal:
                row = await _stack_row(stack_id)
                await row.delete()
                await count_change()
                before = {"name": row.name}
                await journal.note(AuditAction.STACK_REMOVED, "stack", row.id, row.factory_id, before=before)
        except IntegrityError as error:
            raise RegistryError(
                gettext("devices or entries belong to this stack: move them to another one first")
            ) from error

    @in_context
    async def add_stack(self, factory_id: int, name: str, plan: MonitoringPlan, *, by: Origin = PLATFORM) -> Stack:
        """Add a stack with its first monitoring plan. Raises :class:`RegistryError` for a name that is taken."""
        try:
            async with self._changing(by) as journal:
                stack = await _add_stack(journal, factory_id, name, plan)
        except IntegrityError as error:
            raise RegistryError(
                gettext("this factory has a stack named %(name)s already, or there is no such factory", name=repr(name))
            ) from error
        return Stack(stack.id, factory_id, name, (plan,))

    @in_context
    async def add_plan(self, stack_id: int, plan: MonitoringPlan, *, by: Origin = PLATFORM) -> None:
        """Add a plan that is in force from ``plan.valid_from``; what was measured since then is summarised again."""
        values = _plan_values(plan)
        try:
            async with self._changing(by) as journal:
                row = await PlanRow.create(stack_id=stack_id, **values)
                stack = await StackRow.get(id=stack_id)
                await count_change()
                after = {"stack_id": stack_id} | values
                await journal.note(AuditAction.PLAN_ADDED, "plan", row.id, stack.factory_id, after=after)
        except (IntegrityError, DoesNotExist) as error:
            raise RegistryError(
                gettext("this stack has a plan from the same moment already, or there is no such stack")
            ) from error

    @in_context
    async def add_device(self, device_id: str, stack_id: int, sensor: str, *, by: Origin = PLATFORM) -> Device:
        """Register a device on a stack. Raises :class:`RegistryError` when that cannot be."""
        try:
            async with self._changing(by) as journal:
                row = await _add_device(journal, device_id, stack_id, sensor)
        except IntegrityError as error:
            raise RegistryError(_device_taken(device_id)) from error
        return _device(row)

    @in_context
    async def register_all(self, new: Registration, *, by: Origin = PLATFORM) -> list[Device]:
        """Register factories, stacks and devices, all of them or none; the devices, in their order.

        Raises :class:`RegistryError` where somebody has registered one of them meanwhile.
        """
        try:
            async with self._changing(by) as journal:
                for factory in new.factories:
                    await _add_factory(journal, factory)
                factories = {row.slug: row.id for row in await FactoryRow.all()}
                for slug, name, plan in new.stacks:
                    await _add_stack(journal, factories[slug], name, plan)
                stacks = {(row.factory_id, row.name): row.id for row in await StackRow.all()}
                rows = [
                    await _add_device(journal, device_id, stacks[factories[slug], stack], sensor)
                    for slug, stack, device_id, sensor in new.devices
                ]
        except (IntegrityError, KeyError) as error:
            raise RegistryError(
                gettext("the registry has changed meanwhile, and nothing of the table was taken: upload it again")
            ) from error
        return [_device(row) for row in rows]

    @in_context
    async def change_device(
        self,
        device_id: str,
        *,
        status: DeviceStatus | None = None,
        stack_id: int | None = None,
        sensor: str | None = None,
        by: Origin = PLATFORM,
    ) -> Device:
        """Disable or enable a device, move it to another stack, or give it another driver.

        Its alerts at another factory end, and stay with that factory.
        """
        async with self._changing(by) as journal:
            row = await _device_row(device_id)
            before = _device_values(row)
            if stack_id is not None:
                stack = await _stack_row(stack_id)
                if stack.factory_id != row.factory_id:
                    await self._leave_alerts(row)
                row.stack_id, row.factory_id = stack.id, stack.factory_id
                if row.replaced_by and stack.id != before["stack_id"]:
                    # Mended, it begins anew at another chimney: what it still has of the old one is none of this one's.
                    row.measures_from, row.measures_until, row.replaced_by = self.clock(), None, ""
            row.status = status or row.status
            row.sensor = sensor or row.sensor
            await row.save()
            await count_change()
            await _note_device(journal, AuditAction.DEVICE_CHANGED, row, before=before, after=_device_values(row))
        return _device(row)

    async def _leave_alerts(self, device: DeviceRow) -> None:
        """Make a device's alerts its factory's own, and end them: it goes to people who must not read them."""
        for alert in await AlertRow.filter(device_id=device.id):
            alert.device_id, alert.factory_id = None, device.factory_id
            alert.message = f"{device.device_id}: {alert.message}"
            alert.cleared_at = alert.cleared_at or self.clock()
            await alert.save()
        await AlertStandingRow.filter(device_id=device.id).delete()

    @in_context
    async def rotate_password(self, device_id: str, *, by: Origin = PLATFORM) -> Device:
        """Give a device another password at the broker; the old one ends."""
        async with self._changing(by) as journal:
            row = await _device_row(device_id)
            row.password_generation = await count_change()
            await row.save(update_fields=["password_generation"])
            await _note_device(journal, AuditAction.DEVICE_PASSWORD_ROTATED, row)
        return _device(row)

    @in_context
    async def revoke_device(self, device_id: str, *, by: Origin = PLATFORM) -> Device:
        """Shut a device out: it is disabled, and the password that it has never opens anything again."""
        async with self._changing(by) as journal:
            row = await _device_row(device_id)
            await _shut_out(row)
            await _note_device(journal, AuditAction.DEVICE_REVOKED, row)
        return _device(row)

    @in_context
    async def replace_device(
        self, old_id: str, new_id: str, at: datetime, *, sensor: str = "", by: Origin = PLATFORM
    ) -> tuple[Device, Device]:
        """Let the unit ``new_id`` measure the chimney of ``old_id`` from ``at`` on; the old and the new one.

        The old one is shut out and kept. The new one is registered, with the old one's driver where ``sensor`` names
        none, or is one of the same chimney. Raises :class:`RegistryError` where it is another's, or the old one was
        replaced already.
        """
        async with self._changing(by) as journal:
            old = await _device_row(old_id)
            if old.replaced_by:
                raise RegistryError(
                    gettext("%(old)s was replaced by %(new)s already", old=repr(old_id), new=repr(old.replaced_by))
                )
            if new_id == old_id:
                raise RegistryError(gettext("the new unit needs a name of its own, other than that of the old one"))
            new = await DeviceRow.get_or_none(device_id=new_id)
            if new is None:
                new = await _add_device(journal, new_id, old.stack_id, sensor or old.sensor, measures_from=at)
            elif new.stack_id != old.stack_id:
                raise RegistryError(
                    gettext("%(new)s measures another chimney: move it here first, or take another", new=repr(new_id))
                )
            else:
                if new.replaced_by:  # a mended unit comes back
                    new.measures_from, new.measures_until, new.replaced_by = at, None, ""
                new.status = DeviceStatus.ACTIVE
                await new.save()
            old.measures_until, old.replaced_by = at, new_id
            await _shut_out(old)
            after = {"replaced_by": new_id, "measures_until": at.isoformat()}
            await _note_device(journal, AuditAction.DEVICE_REPLACED, old, after=after)
        return _device(old), _device(new)

    @in_context
    async def note_handed_out(self, devices: Sequence[Device], what: str, *, by: Origin = PLATFORM) -> None:
        """Write down that somebody was given the configuration of devices, password and all; ``what`` says as what."""
        async with self._changing(by) as journal:
            await journal.note_many(
                [
                    Noted(AuditAction.DEVICE_HANDED_OUT, "device", it.device_id, it.factory_id, after={"as": what})
                    for it in devices
                ]
            )

    @in_context
    async def remove_device(self, device_id: str, *, by: Origin = PLATFORM) -> None:
        """Take a device off the registry. Its readings stay with their stack."""
        async with self._changing(by) as journal:
            row = await _device_row(device_id)
            await row.delete()
            await count_change()
            await _note_device(journal, AuditAction.DEVICE_REMOVED, row, before=_device_values(row))


def _taken(name: object) -> str:
    return gettext("a factory named %(name)s is there already", name=repr(name))


async def _revision() -> int:
    row = await RegistryRow.get(id=1)
    revision: int = row.revision
    return revision


async def count_change() -> int:
    """Count a change of the registry; its new revision."""
    await RegistryRow.filter(id=1).update(revision=F("revision") + 1)
    return await _revision()


async def _read_register(revision: int) -> _Register:
    devices = await DeviceRow.all().order_by("device_id")  # first: the stack of a device that is new is read, too
    stacks = [_stack(row) for row in await StackRow.all().order_by("name").prefetch_related("plans")]
    factories = [_factory(row) for row in await FactoryRow.all().order_by("name")]
    stack_of, factory_of = {it.id: it for it in stacks}, {it.id: it for it in factories}
    sites = [
        Site(factory_of[row.factory_id], stack_of[row.stack_id], _device(row))
        for row in devices
        if row.stack_id in stack_of and row.factory_id in factory_of  # else they were removed during this
    ]
    return _Register(revision, tuple(factories), tuple(stacks), tuple(sites))


async def _add_factory(journal: Journal, factory: Factory) -> FactoryRow:
    values = {field.name: getattr(factory, field.name) for field in dataclass_fields(Factory) if field.name != "id"}
    row = await FactoryRow.create(**values)
    await count_change()
    await journal.note(AuditAction.FACTORY_ADDED, "factory", row.id, row.id, after=values)
    return row


async def _add_stack(journal: Journal, factory_id: int, name: str, plan: MonitoringPlan) -> StackRow:
    values = _plan_values(plan)
    stack = await StackRow.create(factory_id=factory_id, name=name)
    await PlanRow.create(stack_id=stack.id, **values)
    await count_change()
    await journal.note(AuditAction.STACK_ADDED, "stack", stack.id, factory_id, after={"name": name, "plan": values})
    return stack


async def _add_device(
    journal: Journal, device_id: str, stack_id: int, sensor: str, *, measures_from: datetime | None = None
) -> DeviceRow:
    """Register a device. Raises :class:`RegistryError` for a name that cannot be, IntegrityError for one there is."""
    if not 1 <= len(device_id) <= 64 or not device_id.isprintable() or any(sign in device_id for sign in "/+#$ "):
        raise RegistryError(
            gettext("a device id has 1 to 64 characters and none of / + # $ or space: it is part of a topic")
        )
    stack = await _stack_row(stack_id)
    row = await DeviceRow.create(
        device_id=device_id,
        factory_id=stack.factory_id,
        stack_id=stack_id,
        sensor=sensor,
        status=DeviceStatus.ACTIVE,
        # Grows for ever: a device that is removed and added again does not get its old password back.
        password_generation=await count_change(),
        measures_from=measures_from,
    )
    await _note_device(journal, AuditAction.DEVICE_ADDED, row, after=_device_values(row))
    return row


async def _shut_out(row: DeviceRow) -> None:
    row.status, row.password_generation = DeviceStatus.DISABLED, await count_change()
    await row.save()


def _device_taken(device_id: str) -> str:
    return gettext("a device %(name)s is registered already", name=repr(device_id))


async def _device_row(device_id: str) -> DeviceRow:
    try:
        return await DeviceRow.get(device_id=device_id)
    except DoesNotExist as error:
        raise RegistryError(gettext("there is no device %(name)s", name=repr(device_id))) from error


async def _stack_row(stack_id: int) -> StackRow:
    try:
        return await StackRow.get(id=stack_id)
    except DoesNotExist as error:
        raise RegistryError(gettext("there is no stack %(number)s", number=stack_id)) from error


async def _note_device(
    journal: Journal,
    action: AuditAction,
    row: DeviceRow,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    await journal.note(action, "device", row.device_id, row.factory_id, before=before, after=after)


def _device_values(row: DeviceRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("factory_id", "stack_id", "sensor", "status")}


def _plan_values(plan: MonitoringPlan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in PLAN_COLUMNS}


def _factory(row: FactoryRow) -> Factory:
    return Factory(**{field.name: getattr(row, field.name) for field in dataclass_fields(Factory)})


def _stack(row: StackRow) -> Stack:
    plans = sorted(
        (MonitoringPlan(**{name: getattr(plan, name) for name in PLAN_COLUMNS}) for plan in row.plans),
        key=lambda plan: plan.valid_from,
    )
    return Stack(row.id, row.factory_id, row.name, tuple(plans))


def _device(row: DeviceRow) -> Device:
    return Device(
        row.id,
        row.device_id,
        row.factory_id,
        row.stack_id,
        row.sensor,
        DeviceStatus(row.status),
        row.password_generation,
        row.measures_from,
        row.measures_until,
        row.replaced_by,
    )
