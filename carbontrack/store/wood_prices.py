"""What factories pay for firewood: dated prices, none of them overwritten."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from tortoise.exceptions import IntegrityError

from carbontrack.ledger import WoodPrice, WoodUnit
from carbontrack.model import PLATFORM, AuditAction, Origin
from carbontrack.store.audit import Audit
from carbontrack.store.context import RegistryError, in_context
from carbontrack.tables import WoodPriceRow
from carbontrack.words import gettext

_SAID = ("kes", "unit", "valid_from", "kg_per_m3")
MOST_KES = 1e7
"""No tonne and no stacked m3 of firewood costs more."""


class WoodPrices(Audit):
    """The prices of each factory."""

    @in_context
    async def add_wood_price(self, price: WoodPrice, by: Origin, now: datetime) -> WoodPrice:
        """Keep a price; from its first day on it is used in place of the one before.

        Raises :class:`RegistryError` for a price that cannot be, for a stacked m3 of unknown mass, and without such a
        factory.
        """
        if not 0 < price.kes <= MOST_KES:
            raise RegistryError(
                gettext("must be more than 0, and %(most)s at most", most=format(MOST_KES, ",.0f")), "kes"
            )
        if (price.unit is WoodUnit.STACKED_M3) is not (price.kg_per_m3 is not None):
            raise RegistryError(
                gettext("is needed for wood that is bought by the stacked m3, and only for that"), "kg_per_m3"
            )
        values: dict[str, Any] = {name: getattr(price, name) for name in _SAID} | {"unit": price.unit.value}
        try:
            async with self._changing(by) as journal:
                row = await WoodPriceRow.create(**values, factory_id=price.factory_id, author=by.name, recorded_at=now)
                await journal.note(AuditAction.WOOD_PRICE_ADDED, "wood_price", row.id, row.factory_id, after=values)
        except IntegrityError as error:
            raise RegistryError(gettext("there is no such factory")) from error
        return _price(row)

    @in_context
    async def withdraw_wood_price(self, price_id: int, factory_id: int, *, by: Origin = PLATFORM) -> bool:
        """Take a factory's price out of use; False where there is none. Its row stays."""
        return await self._turn_price(price_id, factory_id, by, withdrawn=True)

    @in_context
    async def restore_wood_price(self, price_id: int, factory_id: int, *, by: Origin = PLATFORM) -> bool:
        """Take a price that was withdrawn back into use; False where there is none."""
        return await self._turn_price(price_id, factory_id, by, withdrawn=False)

    async def _turn_price(self, price_id: int, factory_id: int, by: Origin, *, withdrawn: bool) -> bool:
        async with self._changing(by) as journal:
            row = await WoodPriceRow.filter(id=price_id, factory_id=factory_id, withdrawn=not withdrawn).first()
            if row is None:
                return False
            row.withdrawn = withdrawn
            await row.save(update_fields=["withdrawn"])
            said = {name: getattr(row, name) for name in _SAID}
            if withdrawn:
                await journal.note(AuditAction.WOOD_PRICE_WITHDRAWN, "wood_price", row.id, row.factory_id, before=said)
            else:
                await journal.note(AuditAction.WOOD_PRICE_ADDED, "wood_price", row.id, row.factory_id, after=said)
        return True

    @in_context
    async def wood_prices(self, factory_id: int) -> list[WoodPrice]:
        """The prices that were not withdrawn, the newest first day first, and of one day the newest first."""
        found = WoodPriceRow.filter(factory_id=factory_id, withdrawn=False)
        return [_price(row) for row in await found.order_by("-valid_from", "-recorded_at", "-id")]


def _price(row: WoodPriceRow) -> WoodPrice:
    values = {item.name: getattr(row, item.name) for item in fields(WoodPrice)}
    return WoodPrice(**(values | {"unit": WoodUnit(row.unit)}))
