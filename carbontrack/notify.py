"""Telling people of alerts: from the place where an alert was raised or cleared to the notifiers, and nobody waits.

Each configured notification has a lane of its own: a bounded queue in memory, and a task that hands one notification
after the other to its notifier, within a time limit and a few times more if it fails. So one that hangs is in nobody's
way. What waits when the core stops is tried for a moment and then lost; a queue in the database, quiet hours,
escalation, and notifiers by mail and SMS are for a later release.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from carbontrack.hookspecs import Notification, Notifier
from carbontrack.metrics import Metrics
from carbontrack.tasks import end

log = structlog.get_logger(__name__)

MOST_WAITING = 1000
"""Notifications that wait for one notifier; of more, the oldest are dropped: what is new matters more."""
TIME_LIMIT_S = 30.0
WAITS_S = (2.0, 10.0, 60.0)
"""How long it waits before each further attempt."""
LAST_WORDS_S = 3.0
"""So long a stopping core waits for what has not been sent."""
SEVERITIES = ("info", "warning", "critical")


def tell_nobody(notification: Notification) -> None:
    """For those who have nobody to tell."""


@dataclass(frozen=True, slots=True)
class NotifierInstance:
    """One configured notification: who is told, with which options, and from which severity on."""

    name: str
    notifier: Notifier
    options: Any
    min_severity: str = "warning"

    def wants(self, notification: Notification) -> bool:
        return SEVERITIES.index(notification.alert.severity) >= SEVERITIES.index(self.min_severity)


class Lane:
    """What waits for one notifier; while its plugin is not there, it goes on waiting."""

    def __init__(self, name: str, metrics: Metrics, pause: Callable[[float], Awaitable[None]], most: int) -> None:
        self.name = name
        self._instance: NotifierInstance | None = None
        self._metrics = metrics
        self._pause = pause
        self._most = most
        self._waiting: deque[Notification] = deque()
        self._in_hand: Notification | None = None
        self._wake = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()
        self.task = asyncio.create_task(self._run(), name=f"notify:{name}")

    def use(self, instance: NotifierInstance | None) -> None:
        """Tell by this from now on; None: its plugin is not there."""
        self._instance = instance
        self._wake.set()

    def put(self, notification: Notification) -> None:
        """Leave a notification; never waits."""
        if self._instance is not None and not self._instance.wants(notification):
            return
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self._count("dropped")
        self._waiting.append(notification)
        self._done.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        await self._done.wait()

    def close(self) -> None:
        """End; what still waits is dropped."""
        self.task.cancel()
        for _ in range(len(self._waiting) + (self._in_hand is not None)):
            self._count("dropped")
        self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and self._instance is not None:
                self._in_hand = self._waiting.popleft()
                if self._instance.wants(self._in_hand):
                    self._count("sent" if await self._send(self._in_hand) else "failed")
                self._in_hand = None
            if not self._waiting:
                self._done.set()

    async def _send(self, notification: Notification) -> bool:
        """Whether it was delivered, after a few attempts."""
        told = "its plugin is not there any more"
        for wait_s in (*WAITS_S, None):
            instance = self._instance
            if instance is not None:
                try:
                    async with asyncio.timeout(TIME_LIMIT_S):
                        await instance.notifier.send(instance.options, notification)
                except Exception as error:  # noqa: BLE001  # a notifier is a plugin, and its far end may be away
                    told = f"{type(error).__name__}: {error}"
                else:
                    return True
            if wait_s is not None:
                await self._pause(wait_s)
        log.warning("nobody was told of an alert", notification=self.name, error=told, alert=notification.alert.rule)
        return False

    def _count(self, outcome: str) -> None:
        self._metrics.notifications.labels(self.name, outcome).inc()


class Notifications:
    """All configured notifications. :meth:`tell` is what those who raise alerts are given."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._metrics = metrics
        self._pause = pause
        self._most = most_waiting
        self._lanes: dict[str, Lane] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def tell(self, notification: Notification) -> None:
        """Leave a notification for everybody who wants it; never waits."""
        for lane in self._lanes.values():
            lane.put(notification)

    def follow(self, instances: Sequence[NotifierInstance], configured: Iterable[str]) -> None:
        """Tell these from now on; ``configured`` names every configured notification.

        What waits goes on waiting while a notification of its name is configured, with a plugin or without.
        """
        usable = {instance.name: instance for instance in instances}
        names = set(configured)
        for name in [name for name in self._lanes if name not in names]:
            self._end(self._lanes.pop(name))
        for name in sorted(names):
            if name not in self._lanes:
                self._lanes[name] = Lane(name, self._metrics, self._pause, self._most)
            self._lanes[name].use(usable.get(name))

    def _end(self, lane: Lane) -> None:
        lane.close()
        self._ending.add(lane.task)
        lane.task.add_done_callback(self._ending.discard)

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        for lane in list(self._lanes.values()):
            await lane.drained()

    async def close(self) -> None:
        """Let go what goes quickly, and end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self.drained()
        for lane in self._lanes.values():
            self._end(lane)
        self._lanes.clear()
        await end(*self._ending)


@asynccontextmanager
async def notifications(metrics: Metrics) -> AsyncIterator[Notifications]:
    """Notifications that end with the block; :meth:`Notifications.follow` says who is told."""
    running = Notifications(metrics)
    try:
        yield running
    finally:
        await running.close()
