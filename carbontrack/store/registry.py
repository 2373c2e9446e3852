"""The registry, people and alerts: what changes rarely, through the ORM.

Tortoise finds its connections by a context variable. Each public method therefore runs in the context in which the
store was opened, whichever task calls it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from tortoise.exceptions import DoesNotExist, IntegrityError, ValidationError
from tortoise.expressions import F, Q
from tortoise.queryset import QuerySet
from tortoise.transactions import in_transaction

from carbontrack.model import Alert, Device, DeviceStatus, Factory, MonitoringPlan, Role, Site, Stack, User
from carbontrack.store.work import outages
from carbontrack.tables import AlertRow, DeviceRow, FactoryRow, PlanRow, RegistryRow, SessionRow, StackRow, UserRow

P = ParamSpec("P")
T = TypeVar("T")
PLAN_COLUMNS = tuple(field.name for field in dataclass_fields(MonitoringPlan) if field.init)


class RegistryError(ValueError):
    """A registry change that cannot be made: the message says why."""


@contextmanager
def _refusals() -> Iterator[None]:
    """A value that does not fit its column is a mistake of whoever gave it and no outage."""
    try:
        yield
    except ValidationError as error:
        raise RegistryError(str(error)) from error


class InContext(Protocol):
    """A part of the store: it knows the context in which Tortoise was set up."""

    _context: contextvars.Context


S = TypeVar("S", bound=InContext)


def in_context(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run a method in the store's own context, whichever task calls it."""

    @functools.wraps(method)
    async def inner(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        # A copy for each call: a transaction is a variable of the context, and its neighbours must not be in it.
        context = self._context.copy()
        with outages(), _refusals():
            return await asyncio.get_running_loop().create_task(method(self, *args, **kwargs), context=context)

    return inner  # type: ignore[return-value]  # mypy keeps the wrapped function's own type apart


class Registry:
    """Factories, stacks, plans, devices, people, sessions and alerts."""

    def __init__(self, context: contextvars.Context) -> None:
        self._context = context

    # --- factories, stacks, devices

    @in_context
    async def revision(self) -> int:
        """A number that grows with every change of factories, stacks, plans and devices."""
        row = await RegistryRow.get(id=1)
        revision: int = row.revision
        return revision

    @in_context
    async def ask_reload(self) -> int:
        """Ask the running core to read its configuration anew; the request's number."""
        await RegistryRow.filter(id=1).update(reload_asked=F("reload_asked") + 1)
        await _changed()  # so that the core looks
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
        return [_factory(row) for row in await FactoryRow.all().order_by("name")]

    @in_context
    async def factory_by_slug(self, slug: str) -> Factory | None:
        row = await FactoryRow.get_or_none(slug=slug)
        return _factory(row) if row else None

    @in_context
    async def stacks(self, factory_id: int | None = None) -> list[Stack]:
        query = StackRow.all().order_by("name").prefetch_related("plans")
        if factory_id is not None:
            query = query.filter(factory_id=factory_id)
        return [_stack(row) for row in await query]

    @in_context
    async def sites(self, factory_id: int | None = None) -> list[Site]:
        """Every registered device with its stack and factory, disabled ones too."""
        query = DeviceRow.all().order_by("device_id")
        if factory_id is not None:
            query = query.filter(factory_id=factory_id)
        devices = await query
        factories = {row.id: _factory(row) for row in await FactoryRow.all()}
        stacks = {row.id: _stack(row) for row in await StackRow.all().prefetch_related("plans")}
        return [Site(factories[row.factory_id], stacks[row.stack_id], _device(row)) for row in devices]

    @in_context
    async def add_factory(self, factory: Factory) -> Factory:
        """Add a factory; its ``id`` is given by the store. Raises :class:`RegistryError` for a name that is taken."""
        values = {field.name: getattr(factory, field.name) for field in dataclass_fields(Factory) if field.name != "id"}
        try:
            row = await FactoryRow.create(**values)
        except IntegrityError as error:
            raise RegistryError(f"a factory named {factory.name!r} is there already") from error
        await _changed()
        return _factory(row)

    @in_context
    async def add_stack(self, factory_id: int, name: str, plan: MonitoringPlan) -> Stack:
        """Add a stack with its first monitoring plan. Raises :class:`RegistryError` for a name that is taken."""
        try:
            async with in_transaction():
                stack = await StackRow.create(factory_id=factory_id, name=name)
                await PlanRow.create(stack_id=stack.id, **{name: getattr(plan, name) for name in PLAN_COLUMNS})
                await _changed()
        except IntegrityError as error:
            raise RegistryError(
                f"this factory has a stack named {name!r} already, or there is no such factory"
            ) from error
        return Stack(stack.id, factory_id, name, (plan,))

    @in_context
    async def add_plan(self, stack_id: int, plan: MonitoringPlan) -> None:
        """Add a plan that is in force from ``plan.valid_from``; what was measured since then is summarised again."""
        try:
            await PlanRow.create(stack_id=stack_id, **{name: getattr(plan, name) for name in PLAN_COLUMNS})
        except IntegrityError as error:
            raise RegistryError(
                "this stack has a plan from the same moment already, or there is no such stack"
            ) from error
        await _changed()

    @in_context
    async def add_device(self, device_id: str, stack_id: int, sensor: str) -> Device:
        """Register a device on a stack. Raises :class:`RegistryError` when that cannot be."""
        if not device_id or len(device_id) > 64 or any(sign in device_id for sign in "/+#$ \0"):
            raise RegistryError(
                "a device id has 1 to 64 characters and none of / + # $ or space: it is part of a topic"
            )
        stack = await StackRow.get_or_none(id=stack_id)
        if stack is None:
            raise RegistryError(f"there is no stack {stack_id}")
        try:
            async with in_transaction():
                row = await DeviceRow.create(
                    device_id=device_id,
                    factory_id=stack.factory_id,
                    stack_id=stack_id,
                    sensor=sensor,
                    status=DeviceStatus.ACTIVE,
                    # Grows for ever: a device that is removed and added again does not get its old password back.
                    password_generation=await _changed(),
                )
        except IntegrityError as error:
            raise RegistryError(f"a device {device_id!r} is registered already") from error
        return _device(row)

    @in_context
    async def change_device(
        self,
        device_id: str,
        *,
        status: DeviceStatus | None = None,
        stack_id: int | None = None,
        sensor: str | None = None,
    ) -> Device:
        """Disable or enable a device, move it to another stack, or give it another driver."""
        row = await _device_row(device_id)
        if stack_id is not None:
            stack = await StackRow.get_or_none(id=stack_id)
            if stack is None:
                raise RegistryError(f"there is no stack {stack_id}")
            row.stack_id, row.factory_id = stack.id, stack.factory_id
        row.status = status or row.status
        row.sensor = sensor or row.sensor
        await row.save()
        await _changed()
        return _device(row)

    @in_context
    async def rotate_password(self, device_id: str) -> Device:
        """Give a device another password at the broker; the old one ends."""
        async with in_transaction():
            row = await _device_row(device_id)
            row.password_generation = await _changed()
            await row.save(update_fields=["password_generation"])
        return _device(row)

    @in_context
    async def remove_device(self, device_id: str) -> None:
        """Take a device off the registry. Its readings stay with their stack."""
        row = await _device_row(device_id)
        await row.delete()
        await _changed()

    # --- people

    @in_context
    async def add_user(
        self,
        email: str,
        password_hash: str,
        role: Role,
        *,
        factory_id: int | None = None,
        first_name: str = "",
        last_name: str = "",
    ) -> User:
        """Add a person who may sign in. Raises :class:`RegistryError` for an address that is taken."""
        try:
            row = await UserRow.create(
                email=email.strip().lower(),
                password_hash=password_hash,
                role=role,
                factory_id=factory_id,
                first_name=first_name,
                last_name=last_name,
            )
        except IntegrityError as error:
            raise RegistryError(f"{email} is registered already, or there is no such factory") from error
        return _user(row)

    @in_context
    async def user_by_email(self, email: str) -> tuple[User, str] | None:
        """A person who may sign in, with the hash of the password."""
        row = await UserRow.get_or_none(email=email.strip().lower(), is_active=True)
        return (_user(row), row.password_hash) if row else None

    @in_context
    async def set_password_hash(self, user_id: int, password_hash: str) -> None:
        await UserRow.filter(id=user_id).update(password_hash=password_hash)

    @in_context
    async def add_session(self, token_hash: str, user_id: int, expires_at: datetime) -> None:
        await SessionRow.create(token_hash=token_hash, user_id=user_id, expires_at=expires_at)

    @in_context
    async def session_user(self, token_hash: str, now: datetime) -> User | None:
        """Who a session belongs to; None when it has ended or the person was disabled."""
        row = await SessionRow.get_or_none(token_hash=token_hash, expires_at__gt=now).prefetch_related("user")
        return _user(row.user) if row and row.user.is_active else None

    @in_context
    async def delete_session(self, token_hash: str) -> None:
        await SessionRow.filter(token_hash=token_hash).delete()

    @in_context
    async def forget_sessions(self, now: datetime) -> None:
        """Delete the sessions that have ended."""
        await SessionRow.filter(expires_at__lte=now).delete()

    # --- alerts

    @in_context
    async def raise_alert(
        self, device_id: str, rule: str, severity: str, message: str, raised_at: datetime
    ) -> Alert | None:
        """Open an alert of a device, or give the one that this rule has open; None: the device is gone."""
        device = await DeviceRow.get_or_none(device_id=device_id)
        if device is None:
            return None  # removed meanwhile
        await _open_alert(device_id=device.id, rule=rule, severity=severity, message=message, raised_at=raised_at)
        row = await AlertRow.get_or_none(device_id=device.id, rule=rule, cleared_at=None).prefetch_related("device")
        return _alert(row) if row else None

    @in_context
    async def raise_factory_alert(
        self, factory_id: int, rule: str, severity: str, message: str, raised_at: datetime
    ) -> Alert | None:
        """Open an alert of a factory, or give the one that this rule has open; None: the factory is gone."""
        if not await FactoryRow.exists(id=factory_id):
            return None
        await _open_alert(factory_id=factory_id, rule=rule, severity=severity, message=message, raised_at=raised_at)
        row = await AlertRow.get_or_none(factory_id=factory_id, rule=rule, cleared_at=None).prefetch_related("device")
        return _alert(row) if row else None

    @in_context
    async def clear_alert(self, device_id: str, rule: str, cleared_at: datetime) -> Alert | None:
        """End the open alert of a device and a rule; None: there was none."""
        found = await _clear(AlertRow.filter(device__device_id=device_id, rule=rule), cleared_at)
        return found[0] if found else None

    @in_context
    async def clear_factory_alert(self, factory_id: int, rule: str, cleared_at: datetime) -> Alert | None:
        """End the open alert of a factory and a rule; None: there was none."""
        found = await _clear(AlertRow.filter(factory_id=factory_id, rule=rule), cleared_at)
        return found[0] if found else None

    @in_context
    async def clear_alerts_of_disabled(self, cleared_at: datetime) -> list[Alert]:
        """End the open alerts of disabled devices: nobody looks at them any more."""
        return await _clear(AlertRow.filter(device__status=DeviceStatus.DISABLED), cleared_at)

    @in_context
    async def alerts(self, *, factory_id: int | None = None, only_open: bool = True, limit: int = 50) -> list[Alert]:
        """Alerts of devices and of factories, newest first."""
        query = AlertRow.all().order_by("-raised_at").limit(limit).prefetch_related("device")
        if only_open:
            query = query.filter(cleared_at=None)
        if factory_id is not None:
            query = query.filter(Q(device__factory_id=factory_id) | Q(factory_id=factory_id))
        return [_alert(row) for row in await query]


async def _open_alert(**values: Any) -> None:
    try:
        await AlertRow.create(**values)
    except IntegrityError:
        return  # the partial unique indexes: one open alert per device, or factory, and rule


async def _clear(query: QuerySet[AlertRow], cleared_at: datetime) -> list[Alert]:
    """End those of some alerts that are open; they, as they are now."""
    rows = await query.filter(cleared_at=None).prefetch_related("device")
    for row in rows:
        row.cleared_at = cleared_at
        await row.save(update_fields=["cleared_at"])
    return [_alert(row) for row in rows]


def _alert(row: AlertRow) -> Alert:
    device = row.device
    return Alert(
        row.id,
        device.device_id if device else None,
        device.factory_id if device else row.factory_id,
        device.stack_id if device else None,
        row.rule,
        row.severity,
        row.message,
        row.raised_at,
        row.cleared_at,
    )


async def _changed() -> int:
    """Count a change of the registry; its new revision."""
    await RegistryRow.filter(id=1).update(revision=F("revision") + 1)
    row = await RegistryRow.get(id=1)
    revision: int = row.revision
    return revision


async def _device_row(device_id: str) -> DeviceRow:
    try:
        return await DeviceRow.get(device_id=device_id)
    except DoesNotExist as error:
        raise RegistryError(f"there is no device {device_id!r}") from error


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
    )


def _user(row: UserRow) -> User:
    return User(row.id, row.email, row.first_name, row.last_name, Role(row.role), row.factory_id, row.is_active)
