"""What an alert rule would have said of readings that are kept: tried before it is switched on, and of late readings.

Reading by reading, with the very same rule and step as in a running core. Rules on the timer are asked every few
seconds between the readings as they came in, so that a silence is as long as the core would have heard it. That the
core itself was stopped cannot be seen in readings: to such a rule it is a silence of all devices.

The work is done beside the loop, a few hours of readings at a time. There nothing interrupts a rule: one that never
ends costs a thread, and the trial ends at its time-out.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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

log = structlog.get_logger(__name__)

MOST_DAYS = 31
CHUNK = timedelta(hours=6)
"""So much of one stack is in memory at a time; late readings wait for their turn beside it."""
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
    firings: tuple[Firing, ...]
    """Oldest first."""
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
            self.firings.append(Firing(self.site, at, None, verdict.finding, is_late))
        elif fired and not fires:
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
    bounds = bounds or Bounds()
    bare = replace(instance, rule=replace(instance.rule, evaluate=inspect.unwrap(instance.rule.evaluate)))
    deadline = time.monotonic() + bounds.time_s
    runs: list[Run] = []
    count, cut = 0, ""
    for of_stack in _by_stack(sites):
        devices = await store.devices_of_streams(of_stack[0].stack.id)
        found: dict[str, Run] = {}
        at = since
        while at < until and not cut:
            end = min(at + CHUNK, until)
            rows = await store.readings([of_stack[0].stack.id], at, end, MOST_OF_A_CHUNK)
            count += len(rows)
            work = partial(_feed, found, bare, of_stack, devices, rows, (since, end))
            try:
                await in_thread(work, max(0.1, deadline - time.monotonic()))
            except TimeoutError:
                cut = f"It took longer than {bounds.time_s:.0f} s: try fewer days, or one factory."
            if count >= bounds.readings:
                cut = f"There are more than {bounds.readings} readings: try fewer days, or one factory."
            elif len(rows) == MOST_OF_A_CHUNK:
                cut = f"{of_stack[0].stack.name} has more than {MOST_OF_A_CHUNK} readings in 6 hours."
            at = end
        runs += found.values()
        if cut:
            break
    firings = sorted((firing for run in runs for firing in run.firings), key=lambda each: each.raised_at)
    if len(firings) > MOST_FIRINGS:
        cut = cut or f"It would have fired {len(firings)} times; the first {MOST_FIRINGS} are shown."
    late, errors = sum(run.late for run in runs), sum(run.errors for run in runs)
    return TrialResult(since, until, tuple(firings[:MOST_FIRINGS]), count, late, len(runs), errors, cut)


def _by_stack(sites: Iterable[Site]) -> list[list[Site]]:
    found: dict[int, list[Site]] = {}
    for site in sites:
        found.setdefault(site.stack.id, []).append(site)
    return list(found.values())


def _feed(
    runs: dict[str, Run],
    instance: RuleInstance[AlertRule],
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
            if not instance.scope.has_site(site):
                continue
            runs[device_id] = Run(site, instance, span[0])
        runs[device_id].take([reading_of(row, plans) for row in measured], span[1])


def _former(site: Site, device_id: str) -> Site:
    """A device that has measured at a stack and is elsewhere now, or taken off the registry."""
    return replace(site, device=Device(0, device_id, site.factory.id, site.stack.id))


# --- late readings

LEAD = timedelta(hours=1)
"""So long before the late readings the rules are shown what came in time, for what they remember."""
TAIL = timedelta(hours=1)
"""So long after them it is looked when an alert would have cleared."""
MOST_WAITING = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """Late readings of a device that are in the database now."""

    site: Site
    since: datetime
    until: datetime


class LateAlerts:
    """What late readings would have raised had they come in time, for the history. Nobody is told of it."""

    def __init__(self, store: Store) -> None:
        self.rules_for: Callable[[Site], Sequence[RuleInstance[AlertRule]]] = lambda _: ()
        """The rules that watch a device."""
        self._store = store
        self._waiting: deque[Span] = deque()
        self._there = asyncio.Event()

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
        while True:
            await self._there.wait()
            await self.look()
            self._there.clear()

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
        since, until = span.since - LEAD, span.until + timedelta(milliseconds=1)
        found = 0
        for instance in self.rules_for(span.site):
            if instance.rule.on_timer:
                continue  # it was silent then, and that was told
            tried = await try_rule(self._store, instance, [span.site], since, until + TAIL)
            for firing in tried.firings:
                if firing.is_late and firing.site == span.site:
                    cleared_at = firing.cleared_at or max(firing.raised_at, span.until)
                    kept = await self._store.add_late_alert(
                        span.site.device.device_id,
                        instance.name,
                        instance.severity,
                        firing.finding,
                        firing.raised_at,
                        cleared_at,
                    )
                    found += kept is not None
        return found
