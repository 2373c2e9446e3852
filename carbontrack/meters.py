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
"""After a start, and then once a day, meter records that came so recently are worked out again: the core may have
stopped in between, or a parked device's messages have waited for days."""
OVERLAP = timedelta(hours=1)
"""Otherwise a record is committed at most so long after the time of receipt that it carries."""
BESIDE = 3
"""Records beside the new ones: a step begins at the one before, and a total that leaps shows by the one after it."""
LONGEST_SPAN = timedelta(days=7)

Span = tuple[str, datetime, datetime]
"""A device, and from when to when it measured."""

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
        self._looked_back_at: datetime | None = None
        self._received_until = datetime.min.replace(tzinfo=UTC)
        self._told: set[tuple[str, str, date]] = set()

    async def summarise(self) -> int:
        """Work out the days that meter records touched since the last time; how many amounts were written."""
        now = self._clock()
        looks_back = self._looked_back_at is None or now - self._looked_back_at >= timedelta(days=1)
        spans = await self._store.metered_spans(now - LOOK_BACK if looks_back else self._received_until - OVERLAP)
        sites = {site.device.device_id: site for site in await self._store.sites()} if spans else {}
        written = 0
        for device_id, first, last in _joined(spans):
            if device_id in sites:
                days = await self._days(sites[device_id], first, last)
                await self._store.write_meter_days(days)
                written += len(days)
        self._received_until = now
        self._looked_back_at = now if looks_back else self._looked_back_at
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
        # Some 10,000 records in a week of one device, and the devices' actors wait for the same loop.
        found, remarks = await asyncio.to_thread(_meter_days, site, rows, self._zone)
        for column, day, remark in remarks:
            if (device_id, column, day) not in self._told:  # once a day: a broken counter has one with every record
                self._told.add((device_id, column, day))
                log.warning("a step of a meter was left out", device=device_id, meter=column, step=remark)
        return [day for day in found if first_day <= day.day <= last_day]

    def _day(self, moment: datetime) -> date:
        return moment.astimezone(self._zone).date()


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans of days that follow one another as one, up to a week: the days at their ends are then read once."""
    joined: list[Span] = []
    for device_id, first, last in spans:
        if joined:
            other_id, begin, end = joined[-1]
            if other_id == device_id and first - end < timedelta(days=1) and last - begin < LONGEST_SPAN:
                joined[-1] = device_id, begin, last
                continue
        joined.append((device_id, first, last))
    return joined


def _meter_days(
    site: Site, rows: Sequence[tuple[datetime, str]], zone: tzinfo
) -> tuple[list[MeterDay], list[tuple[str, date, str]]]:
    """The days of all meters of a device, and what was left out: column, day, and why."""
    readings = [reading for at, data in rows if (reading := _reading(at, data)) is not None]
    device_id, factory_id, stack_id = site.device.device_id, site.factory.id, site.stack.id
    days, remarks = [], []
    for meter in METERS:
        name = meter.column
        for day, found in daily_amounts(readings, meter, zone).items():
            begin, end = local_day(day, zone)
            counted = found.amount, found.resets, found.readings, found.begin or begin, found.until or end
            days.append(MeterDay(device_id, factory_id, stack_id, name, meter.kind, meter.unit, day, *counted))
            remarks += [(name, day, remark) for remark in found.remarks]
    return days, remarks


def _reading(at: datetime, data: str) -> MeterReading | None:
    found = msgspec.json.decode(data)
    return meter_reading(at, found) if isinstance(found, dict) else None


def meter_entries(days: Sequence[MeterDay], stacks: Mapping[int, Stack]) -> list[EnergyEntry]:
    """Meters' days as energy entries; running time is none.

    A litre counter's diesel burns into its stack where the stack's plan says so, and elsewhere if it does not.
    """
    entries = []
    for day in days:
        if day.kind not in _ENTRIES or day.amount <= 0:
            continue
        energy_type, unit = _ENTRIES[day.kind]
        begin, end = day.covered_from, day.covered_until
        if end <= begin:
            continue
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
