"""A broken unit is replaced: another one measures its chimney from a moment on, and the chimney's history goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from carbontrack.device_desk import save_settings
from carbontrack.device_settings import chosen_settings
from carbontrack.model import Device, Origin, Site
from carbontrack.store import RegistryError, Store
from carbontrack.words import gettext


@dataclass(frozen=True, slots=True)
class Replaced:
    """The unit that is out, the one that is in, and from when on that one counts."""

    old: Device
    new: Device
    at: datetime


async def replace_device(
    store: Store,
    old: Site,
    new_id: str,
    *,
    by: Origin,
    now: datetime,
    at: datetime | None = None,
    sensor: str = "",
) -> Replaced:
    """Let the unit ``new_id`` take over the chimney of ``old`` from ``at`` on; without it, from now on.

    The old unit is shut out and kept, and the new one is given its settings. Raises
    :class:`~carbontrack.store.RegistryError` for a moment before the old unit's newest reading, which counts already,
    for one that is yet to come, and for what :meth:`~carbontrack.store.Store.replace_device` refuses.
    """
    newest = await _newest_reading(store, old)
    if at is None:
        at = now if newest is None else max(now, newest + timedelta(milliseconds=1))
    elif at > now:
        raise RegistryError(gettext("the moment is yet to come: replace it when the new unit is in place"))
    elif newest is not None and at <= newest:
        raise RegistryError(
            gettext(
                "%(device)s has measured until %(time)s, and that counts already: give a later time, or none for now",
                device=old.device.device_id,
                time=newest.isoformat(timespec="seconds"),
            )
        )
    gone, come = await store.replace_device(old.device.device_id, new_id, at, sensor=sensor, by=by)
    newest_config = next(iter(await store.configs(gone.id, limit=1)), None)
    settings = chosen_settings(newest_config.document if newest_config is not None else None)
    if settings is not None and not await store.configs(come.id, limit=1):
        site = Site(old.factory, old.stack, come)
        await save_settings(store, site, settings, by=by, now=now)
    return Replaced(gone, come, at)


async def _newest_reading(store: Store, site: Site) -> datetime | None:
    """When the newest reading was measured that a unit has given its chimney."""
    found = await store.newest_readings()
    row = found.get(site.device.device_id)
    return row.measured_at if row is not None and row.stack_id == site.stack.id else None
