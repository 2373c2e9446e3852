"""What portal views may read: the store and the live fleet, cut down to what the signed-in person may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta, tzinfo
from math import fsum

from carbontrack.bookkeeping import HOUR, month
from carbontrack.emissions.factors import FactorMissing
from carbontrack.emissions.targets import METRIC_UNITS, metric_value
from carbontrack.hookspecs import (
    FactoryDay,
    FactoryTargets,
    PluginStatus,
    ReloadResult,
    ReportFormat,
    TargetStanding,
)
from carbontrack.model import (
    Alert,
    Factory,
    Flood,
    Recovery,
    Site,
    Snapshot,
    Stack,
    StackTotal,
    StorageStatus,
    Stranger,
    User,
)
from carbontrack.web.access import NETWORK_ROLES, may_see, scope
from carbontrack.web.services import Services

QUARANTINE_SHOWN = timedelta(hours=24)
"""What is older needs nobody's attention any more; it is kept all the same."""
RECOVERIES_SHOWN = timedelta(hours=24)
MOST_ALERTS = 1000


class Reader:
    """The :class:`~carbontrack.hookspecs.PortalReader` of one person's request."""

    def __init__(self, services: Services, user: User) -> None:
        self.now: datetime = services.clock()
        self.zone: tzinfo = services.time_zone
        self.formats: Sequence[ReportFormat] = tuple(services.plugins.contributions.report_formats.values())
        self._services = services
        self._user = user

    def _scope(self, factory_id: int | None) -> int | None:
        """The factory to read: the one that is asked for if it may be seen, and never more than may be seen."""
        if factory_id is None:
            return scope(self._user)
        return factory_id if may_see(self._user, factory_id) else -1

    async def factory(self, slug: str) -> Factory | None:
        found = await self._services.store.factory_by_slug(slug)
        return found if found is not None and may_see(self._user, found.id) else None

    async def sites(self, factory_id: int | None = None) -> Sequence[Site]:
        return await self._services.store.sites(self._scope(factory_id))

    async def days(
        self, days_ago: int = 0, factory_id: int | None = None, *, whole: bool = False
    ) -> Sequence[FactoryDay]:
        store, only = self._services.store, self._scope(factory_id)
        since = day_start(self.now, self.zone) - timedelta(days=days_ago)
        until = since + timedelta(days=1) if whole else self.now - timedelta(days=days_ago)
        totals = {total.stack_id: total for total in await store.totals(since, min(until, self.now), only)}
        stacks: dict[int, list[Stack]] = {}
        for stack in await store.stacks(only):
            stacks.setdefault(stack.factory_id, []).append(stack)
        return [
            _day(factory, stacks.get(factory.id, []), totals)
            for factory in await store.factories()
            if only is None or factory.id == only
        ]

    async def targets(self, factory: Factory) -> FactoryTargets | None:
        services, today = self._services, day_start(self.now, self.zone)
        if not may_see(self._user, factory.id) or self.now - today < HOUR:
            return None
        this_month, _ = month(self.now.astimezone(self.zone).date(), self.zone)
        try:
            of_today = await services.books.account(factory, today, self.now)
            of_month = await services.books.account(factory, this_month, self.now)
        except FactorMissing:
            return None
        periods = [line.period for line in of_today.stacks]
        return FactoryTargets(
            of_today.period_start,
            of_today.period_end,
            fsum(period.measured_kg for period in periods),
            fsum(period.substituted_kg for period in periods),
            of_today.made_tea_kg,
            tuple(
                TargetStanding(
                    target, METRIC_UNITS[target.metric], metric_value(of_today, target.metric), value, status
                )
                for target, value, status in await services.books.targets_met(of_month)
            ),
        )

    async def alerts(self, factory_id: int | None = None) -> Sequence[Alert]:
        return await self._services.store.alerts(factory_id=self._scope(factory_id), limit=MOST_ALERTS)

    async def quarantine_counts(self, factory_id: int | None = None) -> Mapping[str, int]:
        since = self.now - QUARANTINE_SHOWN
        return await self._services.store.quarantine_counts(factory_id=self._scope(factory_id), since=since)

    def snapshots(self, factory_id: int | None = None) -> Sequence[Snapshot]:
        only = self._scope(factory_id)
        found = self._services.fleet.snapshots()
        return [found[name] for name in sorted(found) if only is None or found[name].factory_id == only]

    def problems(self) -> Sequence[str]:
        return self._services.problems() if self._user.role in NETWORK_ROLES else ()

    def troubles(self) -> Mapping[str, str]:
        return self._services.fleet.errors() if self._user.role in NETWORK_ROLES else {}

    def refused(self) -> Mapping[str, int]:
        return self._services.refused() if self._user.role in NETWORK_ROLES else {}

    async def recoveries(self, factory_id: int | None = None) -> Sequence[Recovery]:
        since = self.now - RECOVERIES_SHOWN
        return await self._services.store.recoveries(since, factory_id=self._scope(factory_id))

    def floods(self) -> Sequence[Flood]:
        now_ms = round(self.now.timestamp() * 1000)
        return self._services.fleet.floods(now_ms) if self._user.role in NETWORK_ROLES else ()

    def plugins(self) -> Sequence[PluginStatus]:
        return self._services.plugins.statuses() if self._user.role in NETWORK_ROLES else ()

    def last_reload(self) -> ReloadResult | None:
        return self._services.reloader.last if self._user.role in NETWORK_ROLES else None

    def storage(self) -> StorageStatus | None:
        return self._services.storage() if self._user.role in NETWORK_ROLES else None

    def strangers(self) -> Sequence[Stranger]:
        return tuple(self._services.fleet.strangers.values()) if self._user.role in NETWORK_ROLES else ()


def day_start(now: datetime, zone: tzinfo) -> datetime:
    """When the local day of a moment began."""
    return datetime.combine(now.astimezone(zone).date(), time(), zone).astimezone(now.tzinfo)


def _day(factory: Factory, stacks: Sequence[Stack], totals: Mapping[int, StackTotal]) -> FactoryDay:
    own = {stack.id: totals[stack.id] for stack in stacks if stack.id in totals}
    coverage = sum(total.coverage for total in own.values()) / len(stacks) if stacks else 0.0
    return FactoryDay(factory, tuple(stacks), sum(total.co2_kg for total in own.values()), coverage, own)
