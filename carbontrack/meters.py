"""Keep the meters' daily amounts up to date, and show them as energy entries beside those that people type."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo

import msgspec
import structlog

from carbontrack.emissions.meters import METERS, MeterReading, daily_amounts, meter_reading
from carbontrack.emissions.rate import plan_in_force
from carbontrack.ledger import EnergyEntry, EnergyType, EntrySource, MeterDay
from carbontrack.model import Site, Stack
from carbontrack.store import Store
from carbontrack.tiers import local_day

log = structlog.get_logger(__name__)

LOOK_BACK = timedelta(days=35)
"""After a start, meter records that came so recently are worked out again: the core may have stopped in between."""
OVERLAP = timedelta(minutes=5)
"""A record may be committed so long after the time of receipt that it carries."""
BESIDE = 3
"""Records beside the new ones: a step begins at the one before, and a total that leaps shows by the one after it."""

_ENTRIES = {
    "electricity": (EnergyType.ELECTRICITY, "kWh"),
    "genset_electricity": (EnergyType.GENSET_ELECTRICITY, "kWh"),
    "diesel": (EnergyType.DIESEL, "litres"),
}


class MeterKeeper:
    """Writes the daily amounts of one store's meters. ``zone`` is where days begin."""

    def __init__(self, store: Store, zone: tzinfo, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._zone = zone
        self._clock = clock
        self._received_until: datetime | None = None
        self._told: set[str] = set()

    async def summarise(self) -> int:
        """Work out the days that meter records touched since the last time; how many amounts were written."""
        now = self._clock()
        since = now - LOOK_BACK if self._received_until is None else self._received_until - OVERLAP
        spans = await self._store.metered_spans(since)
        sites = {site.device.device_id: site for site in await self._store.sites()} if spans else {}
        written = 0
        for device_id, (first, last) in spans.items():
            if device_id in sites:
                days = await self._days(sites[device_id], first, last)
                await self._store.write_meter_days(days)
                written += len(days)
        self._received_until = now
        return written

    async def _days(self, site: Site, first: datetime, last: datetime) -> list[MeterDay]:
        """The days that records of [first, last] count for: those of the steps that begin or end at one of them."""
        device_id = site.device.device_id
        before = await self._store.meter_records_before(device_id, first, BESIDE)
        after = await self._store.meter_records_from(device_id, last + timedelta(milliseconds=1), BESIDE)
        first_day = self._day(before[0][0] if before else first)
        last_day = self._day(after[-1][0] if after else last)
        begin, end = local_day(first_day, self._zone)[0], local_day(last_day, self._zone)[1]
        rows = [
            *await self._store.meter_records_before(device_id, begin, BESIDE),
            *await self._store.meter_records(device_id, begin, end),
            *await self._store.meter_records_from(device_id, end, BESIDE),
        ]
        # A month of one meter is some 50,000 records, and the devices' actors wait for the same loop.
        found, remarks = await asyncio.to_thread(_meter_days, site, rows, self._zone)
        for remark in remarks:
            if remark not in self._told:
                self._told.add(remark)
                log.warning("a step of a meter was left out", device=device_id, step=remark)
        return [day for day in found if first_day <= day.day <= last_day]

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(self._zone).date()


def _meter_days(site: Site, rows: Sequence[tuple[datetime, str]], zone: tzinfo) -> tuple[list[MeterDay], list[str]]:
    """The days of all meters of a device, and what was left out."""
    readings = [reading for at, data in rows if (reading := _reading(at, data)) is not None]
    days, remarks = [], []
    for meter in METERS:
        for day, found in daily_amounts(readings, meter, zone).items():
            days.append(
                MeterDay(
                    site.device.device_id,
                    site.factory.id,
                    site.stack.id,
                    meter.column,
                    meter.kind,
                    meter.unit,
                    day,
                    found.amount,
                    found.resets,
                    found.readings,
                )
            )
            remarks += [f"{meter.column} {remark}" for remark in found.remarks]
    return days, remarks


def _reading(at: datetime, data: str) -> MeterReading | None:
    found = msgspec.json.decode(data)
    return meter_reading(at, found) if isinstance(found, dict) else None


def meter_entries(days: Sequence[MeterDay], stacks: Mapping[int, Stack], zone: tzinfo) -> list[EnergyEntry]:
    """Meters' days as energy entries; running time is none.

    A litre counter's diesel burns into its stack where the stack's plan says so, and elsewhere if it does not.
    """
    entries = []
    for day in days:
        if day.kind not in _ENTRIES or day.amount <= 0:
            continue
        energy_type, unit = _ENTRIES[day.kind]
        begin, end = local_day(day.day, zone)
        entries.append(
            EnergyEntry(
                id=0,
                version=1,
                factory_id=day.factory_id,
                energy_type=energy_type,
                amount=day.amount,
                unit=unit,
                period_start=begin,
                period_end=end,
                stack_id=day.stack_id if _burns(stacks.get(day.stack_id), energy_type, begin) else None,
                evidence=f"meter {day.meter} of {day.device_id}",
                source=EntrySource.METER,
                author=day.device_id,
            )
        )
    return entries


def _burns(stack: Stack | None, energy_type: EnergyType, at: datetime) -> bool:
    """Whether a stack's plan of that time names the fuel."""
    if stack is None:
        return False
    fuels = plan_in_force(stack.plans, at.timestamp()).fuels.split(",")
    return energy_type.value in {fuel.strip() for fuel in fuels}
