"""Numbers of alerts that factories may choose: between which bounds, and what they have chosen."""

from __future__ import annotations

from math import isfinite
from typing import Any

from carbontrack.model import (
    PLATFORM,
    AlertAdjustment,
    AlertBound,
    AlertSettings,
    AuditAction,
    Origin,
)
from carbontrack.store.context import RegistryError, in_context
from carbontrack.store.registry import Registry, count_change
from carbontrack.tables import AlertAdjustmentRow, AlertBoundRow, FactoryRow
from carbontrack.words import gettext

MOST = 1e12
"""No number of an alert is larger."""


class AlertNumbers(Registry):
    """Bounds are headquarters', adjustments a factory's own. Each change counts as one of the registry."""

    @in_context
    async def alert_settings(self) -> AlertSettings:
        """Every bound and every adjustment there is."""
        bounds = await AlertBoundRow.all().order_by("rule", "option")
        chosen = await AlertAdjustmentRow.all().order_by("factory_id", "rule", "option")
        return AlertSettings(tuple(map(_bound, bounds)), tuple(map(_adjustment, chosen)))

    @in_context
    async def set_alert_bound(
        self, rule: str, option: str, low: float, high: float, *, by: Origin = PLATFORM
    ) -> AlertBound:
        """Let factories choose a number of an alert from ``low`` to ``high``.

        What a factory has chosen already stays, and is clipped where it is used. Raises :class:`RegistryError`.
        """
        for name, value in (("low", low), ("high", high)):
            _check_number(name, value)
        if low > high:
            raise RegistryError(gettext("must not be below the lowest value"), "high")
        async with self._changing(by) as journal:
            values = {"low": low, "high": high}
            row = await AlertBoundRow.get_or_none(rule=rule, option=option)
            before = {"low": row.low, "high": row.high} if row else None
            if row is None:
                row = AlertBoundRow(rule=rule, option=option)
            row.update_from_dict({**values, "set_by": by.name, "set_at": self.clock()})
            await row.save()
            await count_change()
            await journal.note(
                AuditAction.ALERT_BOUND_SET, "alert_rule", _subject(rule, option), before=before, after=values
            )
        return _bound(row)

    @in_context
    async def remove_alert_bound(self, rule: str, option: str, *, by: Origin = PLATFORM) -> None:
        """Let factories choose a number no more: the configured one counts. Raises :class:`RegistryError`."""
        async with self._changing(by) as journal:
            row = await AlertBoundRow.get_or_none(rule=rule, option=option)
            if row is None:
                raise RegistryError(gettext("there is no bound of this number"))
            await row.delete()
            await count_change()
            before = {"low": row.low, "high": row.high}
            await journal.note(AuditAction.ALERT_BOUND_REMOVED, "alert_rule", _subject(rule, option), before=before)

    @in_context
    async def adjust_alert(
        self, factory_id: int, rule: str, option: str, value: float, *, by: Origin = PLATFORM
    ) -> AlertAdjustment:
        """Let a factory have another number of an alert. Raises :class:`RegistryError` outside of the bound."""
        _check_number("value", value)
        async with self._changing(by) as journal:
            bound = await AlertBoundRow.get_or_none(rule=rule, option=option)
            if bound is None:
                raise RegistryError(gettext("headquarters lets no factory choose this"), "value")
            if not bound.low <= value <= bound.high:
                low, high = f"{bound.low:g}", f"{bound.high:g}"
                raise RegistryError(gettext("must be from %(low)s to %(high)s", low=low, high=high), "value")
            if not await FactoryRow.exists(id=factory_id):
                raise RegistryError(gettext("there is no such factory"), "factory_id")
            row = await AlertAdjustmentRow.get_or_none(factory_id=factory_id, rule=rule, option=option)
            before: dict[str, Any] | None = {"value": row.value} if row else None
            if row is None:
                row = AlertAdjustmentRow(factory_id=factory_id, rule=rule, option=option)
            row.update_from_dict({"value": value, "set_by": by.name, "set_at": self.clock()})
            await row.save()
            await count_change()
            await journal.note(
                AuditAction.ALERT_ADJUSTED,
                "alert_rule",
                _subject(rule, option),
                factory_id,
                before=before,
                after={"value": value},
            )
        return _adjustment(row)

    @in_context
    async def remove_alert_adjustment(self, factory_id: int, rule: str, option: str, *, by: Origin = PLATFORM) -> None:
        """Let a factory have the configured number again. Raises :class:`RegistryError` where it has that."""
        async with self._changing(by) as journal:
            row = await AlertAdjustmentRow.get_or_none(factory_id=factory_id, rule=rule, option=option)
            if row is None:
                raise RegistryError(gettext("this factory has not adjusted it"))
            await row.delete()
            await count_change()
            await journal.note(
                AuditAction.ALERT_ADJUSTMENT_REMOVED,
                "alert_rule",
                _subject(rule, option),
                factory_id,
                before={"value": row.value},
            )


def _check_number(field: str, value: float) -> None:
    if not isfinite(value) or abs(value) > MOST:
        raise RegistryError(gettext("must be a number"), field)


def _subject(rule: str, option: str) -> str:
    return f"{rule}/{option}"


def _bound(row: AlertBoundRow) -> AlertBound:
    return AlertBound(row.rule, row.option, row.low, row.high, row.set_by, row.set_at)


def _adjustment(row: AlertAdjustmentRow) -> AlertAdjustment:
    return AlertAdjustment(row.factory_id, row.rule, row.option, row.value, row.set_by, row.set_at)
