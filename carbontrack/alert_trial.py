"""What an alert rule would have said of readings that are kept: tried before it is switched on, and of late readings.

Reading by reading, with the very same rule and step as in a running core. Rules on the timer are asked every few
seconds between the readings as they came in, so that a silence is as long as the core would have heard it. That the
core itself was stopped cannot be seen in readings: to such a rule it is a silence of all devices.

The work is done beside the loop, an hour of readings at a time. There nothing interrupts a rule: one that never
ends costs a thread, and the trial ends at its time-out.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import heappop, heappush

import structlog

from carbontrack.alerts import LATE_FROM, LONGEST_SILENCE, RuleInstance, ask
from carbontrack.emissions.rate import site_pressure_kpa
from carbontrack.hookspecs import AlertRule, Observation
from carbontrack.model import (
    INACTIVE,
    MIN_DATETIME,
    AlertState,
    Device,
    Finding,
    Flag,
    Measurement,
    Reading,
    Site,
    Snapshot,
    Standing,
    snapshot_of,
)
from carbontrack.store import Store, StoreUnavailable
from carbontrack.tasks import in_thread
from carbontrack.tiers import Measured, reading_of
from carbontrack.words import gettext

log = structlog.get_logger(__name__)

MOST_DAYS = 31
CHUNK = timedelta(hours=1)
"""So much of one stack is in memory at a time, so that the loop has its turn soon; late readings wait beside it."""
MOST_OF_A_CHUNK = 100_000
LOOK_EVERY_S = 10.0
"""How often a rule on the timer is asked: as by a core with the default ``devices.offline_after_s``."""
MOST_FIRINGS = 1000
_BACKLOG = int(Flag.BACKLOG)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a trial may take."""

    readings: int = 5_000_000
    time_s: float = 120.0
    pause_s: float = 0.0
    """Between two chunks, so that what runs beside has its turn."""


@dataclass(frozen=True, slots=True)
class Firing:
    """The rule would have fired; ``cleared_at`` None: it would do so still at the end of the trial."""

    site: Site
    raised_at: datetime
    cleared_at: datetime | None
    finding: Finding
    is_late: bool
    """The reading that raised it came late: in a running core nobody would have been told."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What came of a trial of [since, until)."""

    since: datetime
    until: datetime
    fired: int
    """How many times it would have fired."""
    firings: tuple[Firing, ...]
    """Oldest first; of very many, the first."""
    readings: int
    """How many were looked at."""
    late_readings: int
    devices: int
    errors: int = 0
    """How often the rule itself failed."""
    cut: str = ""
    """Why not everything was looked at; empty where it was."""


@dataclass(slots=True)
class Run:
    """One rule shown the readings of one device, from ``begin`` on."""

    site: Site
    instance: RuleInstance[AlertRule]
    begin: datetime
    firings: list[Firing] = field(default_factory=list)
    """The first of them: a rule that flaps must not fill the memory."""
    fired: int = 0
    late: int = 0
    errors: int = 0
    _standing: Standing = INACTIVE
    _snapshot: Snapshot | None = None
    _memory: dict[str, object] = field(default_factory=dict)
    _coming: list[tuple[datetime, int, Reading]] = field(default_factory=list)
    """Readings by the time at which they came, for rules on the timer."""
    _count: int = 0
    _heard_at: datetime | None = None
    _next_look: datetime = MIN_DATETIME

    def take(self, rows: Sequence[Reading], until: datetime) -> None:
        """Look at readings that were measured before ``until``, oldest first."""
        if not self.instance.rule.on_timer:
            for row in rows:
                self._read(row)
            return
        self._next_look = max(self._next_look, self.begin)
        for row in rows:
            self._count += 1
            heappush(self._coming, (row.received_at, self._count, row))
        while self._coming and self._coming[0][0] < until:
            received_at, _, row = heappop(self._coming)
            self._look_until(received_at)
            self._heard_at = received_at
            newest = self._snapshot.measured_at if self._snapshot is not None else None
            if newest is None or row.measured_at >= newest:
                self._show(row)
                if not _is_late(row):
                    self._ask(received_at, received_at, LONGEST_SILENCE, is_late=False)
            self.late += _is_late(row)
        self._look_until(until)

    def _read(self, row: Reading) -> None:
        is_late = _is_late(row)
        self.late += is_late
        self._show(row)
        # Of a late one is asked what would have been said in time.
        now = row.measured_at if is_late else row.received_at
        self._ask(row.measured_at, now, LONGEST_SILENCE, is_late=is_late)

    def _show(self, row: Reading) -> None:
        self._snapshot = snapshot_of(self.site, row, online=True)

    def _look_until(self, until: datetime) -> None:
        apart = timedelta(seconds=LOOK_EVERY_S)
        while self._next_look < until:
            if self._snapshot is not None:
                self._ask(self._next_look, self._next_look, max(LONGEST_SILENCE, 3 * apart), is_late=False)
            self._next_look += apart

    def _ask(self, at: datetime, now: datetime, longest_silence: timedelta, *, is_late: bool) -> None:
        assert self._snapshot is not None
        silence_s = max(0.0, (now - self._heard_at).total_seconds()) if self._heard_at else 0.0
        seen = Observation(self.site, self._snapshot, now, silence_s, self._memory)
        before = self._standing
        try:
            after, verdict = ask(self.instance, before, seen, at, longest_silence)
        except Exception:  # noqa: BLE001  # a rule is a plugin: in a running core the device goes on, too
            self.errors += 1
            return
        self._standing = after
        fired, fires = before.state is AlertState.FIRING, after.state is AlertState.FIRING
        if fires and not fired:
            self.fired += 1
            if self.fired <= MOST_FIRINGS:
                self.firings.append(Firing(self.site, at, None, verdict.finding, is_late))
        elif fired and not fires and self.fired <= MOST_FIRINGS:
            self.firings[-1] = replace(self.firings[-1], cleared_at=at)


def _is_late(row: Reading) -> bool:
    return bool(row.flags & _BACKLOG) or row.received_at - row.measured_at > LATE_FROM


async def try_rule(
    store: Store,
    instance: RuleInstance[AlertRule],
    sites: Iterable[Site],
    since: datetime,
    until: datetime,
    bounds: Bounds | None = None,
) -> TrialResult:
    """Try one rule on what was measured in [since, until) at these devices' stacks, as far as it watches them.

    A trial that would take too much ends early, and says so. Raises
    :class:`~carbontrack.store.StoreUnavailable`; it can be cancelled at any moment.
    """
    (found,) = await try_rules(store, [instance], sites, since, until, bounds)
    return found


async def try_rules(
    store: Store,
    instances: Sequence[RuleInstance[AlertRule]],
    sites: Iterable[Site],
    since: datetime,
    until: datetime,
    bounds: Bounds | None = None,
) -> list[TrialResult]:
    """Try several rules at once, as :func:`try_rule`: the readings are read, and their rates computed, once."""
    bounds = bounds or Bounds()
    trial = _Trial(tuple(map(_bare, instances)), bounds, time.monotonic() + bounds.time_s)
    for of_stack in _by_stack(sites):
        await trial.look_at(store, of_stack, since, until)
        if trial.cut:
            break
    return [trial.result(number, since, until) for number in range(len(instances))]


def _bare(instance: RuleInstance[AlertRule]) -> RuleInstance[AlertRule]:
    """A rule without its fence, which watches the loop's thread and holds rules back for devices that run."""
    return replace(instance, rule=replace(instance.rule, evaluate=inspect.unwrap(instance.rule.evaluate)))


@dataclass(slots=True)
class _Trial:
    """Some rules over some stacks, one after the other."""

    instances: tuple[RuleInstance[AlertRule], ...]
    bounds: Bounds
    deadline_s: float
    runs: list[dict[int, Run]] = field(default_factory=list)
    """Of each device, by the number of the rule."""
    readings: int = 0
    cut: str = ""

    async def look_at(self, store: Store, sites: Sequence[Site], since: datetime, until: datetime) -> None:
        """Show one stack's readings to the rules, a chunk at a time; ``sites`` are its devices."""
        stack = sites[0].stack
        devices = await store.devices_of_streams(stack.id)
        of_stack: dict[str, dict[int, Run]] = {}
        at = since
        while at < until and not self.cut:
            end = min(at + CHUNK, until)
            rows = await store.readings([stack.id], at, end, MOST_OF_A_CHUNK)
            self.readings += len(rows)
            work = partial(_feed, of_stack, self.instances, sites, devices, rows, (since, end))
            try:
                await in_thread(work, max(0.1, self.deadline_s - time.monotonic()))
            except TimeoutError:
                self.cut = gettext(
                    "It took longer than %(seconds)s s: try fewer days, or one factory.",
                    seconds=format(self.bounds.time_s, ".0f"),
                )
            if self.readings >= self.bounds.readings:
                self.cut = gettext(
                    "There are more than %(count)s readings: try fewer days, or one factory.",
                    count=self.bounds.readings,
                )
            elif len(rows) == MOST_OF_A_CHUNK:
                self.cut = gettext(
                    "%(stack)s has more than %(count)s readings in an hour.", stack=stack.name, count=MOST_OF_A_CHUNK
                )
            at = end
            await asyncio.sleep(self.bounds.pause_s)
        self.runs += of_stack.values()

    def result(self, number: int, since: datetime, until: datetime) -> TrialResult:
        """What came of one rule."""
        runs = [of_device[number] for of_device in self.runs if number in of_device]
        firings = sorted((firing for run in runs for firing in run.firings), key=lambda each: each.raised_at)
        fired, cut = sum(run.fired for run in runs), self.cut
        if fired > len(firings[:MOST_FIRINGS]):
            cut = cut or gettext("Only the first %(count)s times are told.", count=MOST_FIRINGS)
        late, errors = sum(run.late for run in runs), sum(run.errors for run in runs)
        return TrialResult(
            since, until, fired, tuple(firings[:MOST_FIRINGS]), self.readings, late, len(runs), errors, cut
        )


def _by_stack(sites: Iterable[Site]) -> list[list[Site]]:
    found: dict[int, list[Site]] = {}
    for site in sites:
        found.setdefault(site.stack.id, []).append(site)
    return list(found.values())


def _feed(
    runs: dict[str, dict[int, Run]],
    instances: Sequence[RuleInstance[AlertRule]],
    sites: Sequence[Site],
    devices: dict[int, str],
    rows: Sequence[Measurement],
    span: tuple[datetime, datetime],
) -> None:
    """Give each device of a stack its readings of a chunk, which ends at the end of ``span``."""
    own: dict[str, list[Measurement]] = {device_id: [] for device_id in runs}
    for row in rows:
        own.setdefault(devices.get(row.stream_pk, sites[0].device.device_id), []).append(row)
    known = {site.device.device_id: site for site in sites}
    plans = Measured(sites[0].stack.id, sites[0].stack.plans, site_pressure_kpa(sites[0].factory))
    for device_id, measured in own.items():
        if device_id not in runs:
            site = known.get(device_id) or _former(sites[0], device_id)
            runs[device_id] = {
                number: Run(site, instance, span[0])
                for number, instance in enumerate(instances)
                if instance.scope.has_site(site)
            }
        if runs[device_id]:
            readings = [reading_of(row, plans) for row in measured]
            for run in runs[device_id].values():
                run.take(readings, span[1])


def _former(site: Site, device_id: str) -> Site:
    """A device that has measured at a stack and is elsewhere now, or taken off the registry."""
    return replace(site, device=Device(0, device_id, site.factory.id, site.stack.id))


# --- late readings

LEAD = timedelta(hours=1)
"""So long before the late readings the rules are shown what came in time, for what they remember."""
TAIL = timedelta(hours=1)
"""So long after them it is looked when an alert would have cleared."""
PAUSE_S = 0.2
MOST_WAITING = 2000
ONCE_MORE = timedelta(hours=2)
"""Outages that were recovered so shortly before a start are looked at once more; what is known is not kept twice."""


@dataclass(frozen=True, slots=True)
class Span:
    """Late readings of a device that are in the database now."""

    site: Site
    since: datetime
    until: datetime


class LateAlerts:
    """What late readings would have raised had they come in time, for the history. Nobody is told of it."""

    def __init__(self, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.rules_for: Callable[[Site], Sequence[RuleInstance[AlertRule]]] = lambda _: ()
        """The rules that watch a device."""
        self._store = store
        self._clock = clock
        self._waiting: deque[Span] = deque()
        self._there = asyncio.Event()
        self._has_caught_up = False

    def note(self, site: Site, since: datetime, until: datetime) -> None:
        """Late readings of a device, measured in [since, until], are kept. Never waits."""
        if len(self._waiting) >= MOST_WAITING:
            log.warning(
                "too many outages at once: what one would have raised is not looked for",
                device=site.device.device_id,
                since=since,
                until=until,
            )
            return
        self._waiting.append(Span(site, since, until))
        self._there.set()

    async def keep(self) -> None:
        """Look for ever, at one outage at a time. Raises :class:`~carbontrack.store.StoreUnavailable`."""
        if not self._has_caught_up:
            await self.catch_up()
            self._has_caught_up = True
        while True:
            await self._there.wait()
            await self.look()
            self._there.clear()

    async def catch_up(self) -> None:
        """Look once more at what came shortly before a start: a core that ended may not have got to it."""
        sites = {site.device.device_id: site for site in await self._store.sites()}
        for recovery in await self._store.recoveries(self._clock() - ONCE_MORE, limit=MOST_WAITING):
            site = sites.get(recovery.device_id)
            if site is not None and site.stack.id == recovery.stack_id:
                self.note(site, recovery.since, recovery.until)

    async def look(self) -> int:
        """Look at all that waits; how many alerts would have been raised."""
        found = 0
        while self._waiting:
            span = self._waiting[0]
            try:
                found += await self._look_at(span)
            except StoreUnavailable:
                raise  # it is the first again when the database is back
            except Exception:
                log.exception("what late readings would have raised is not known", device=span.site.device.device_id)
            self._waiting.remove(span)
        return found

    async def _look_at(self, span: Span) -> int:
        since, until = span.since - LEAD, span.until + TAIL
        # A rule on the timer has told its silence at the time.
        rules = [instance for instance in self.rules_for(span.site) if not instance.rule.on_timer]
        found = 0
        results = await try_rules(self._store, rules, [span.site], since, until, Bounds(pause_s=PAUSE_S))
        for instance, tried in zip(rules, results, strict=True):
            for firing in tried.firings:
                if firing.is_late and firing.site == span.site:
                    found += await self._keep(instance, firing, span)
        return found

    async def _keep(self, instance: RuleInstance[AlertRule], firing: Firing, span: Span) -> bool:
        """Keep what would have fired, as over; whether that is new."""
        cleared_at = firing.cleared_at or max(firing.raised_at, span.until)
        of = instance.name, instance.severity, firing.finding
        kept = await self._store.add_late_alert(span.site.device.device_id, *of, firing.raised_at, cleared_at)
        return kept is not None
