"""Telling people of alerts: from the place where an alert was raised or cleared to the notifiers, and nobody waits.

Each configured notification has a lane of its own: a bounded queue in memory, and a task that hands one notification
after the other to its notifier, within a time limit and a few times more if it fails. So one that hangs is in nobody's
way. What waits when the core stops is tried for a moment and then lost; a queue in the database, quiet hours,
escalation, and notifiers by mail and SMS are for a later release.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
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
    """What waits for one notifier."""

    def __init__(
        self, instance: NotifierInstance, metrics: Metrics, pause: Callable[[float], Awaitable[None]], most: int
    ) -> None:
        self.instance = instance
        self._metrics = metrics
        self._pause = pause
        self._most = most
        self._waiting: deque[Notification] = deque()
        self._something = asyncio.Event()
        self._nothing = asyncio.Event()
        self._nothing.set()
        self._task = asyncio.create_task(self._run(), name=f"notify:{instance.name}")

    def put(self, notification: Notification) -> None:
        """Leave a notification; never waits."""
        if not self.instance.wants(notification):
            return
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self._count("dropped")
        self._waiting.append(notification)
        self._nothing.clear()
        self._something.set()

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        await self._nothing.wait()

    async def close(self) -> None:
        """End at once; what still waits is dropped."""
        await end(self._task)
        for _ in self._waiting:
            self._count("dropped")
        self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            while self._waiting:
                notification = self._waiting[0]
                outcome = "sent" if await self._send(notification) else "failed"
                self._count(outcome)
                if self._waiting and self._waiting[0] is notification:
                    self._waiting.popleft()
            self._something.clear()
            self._nothing.set()

    async def _send(self, notification: Notification) -> bool:
        """Whether it was delivered, after a few attempts."""
        instance = self.instance
        for wait_s in (*WAITS_S, None):
            try:
                async with asyncio.timeout(TIME_LIMIT_S):
                    await instance.notifier.send(instance.options, notification)
            except Exception as error:  # noqa: BLE001  # a notifier is a plugin, and its far end may be away
                told = f"{type(error).__name__}: {error}"
            else:
                return True
            if wait_s is not None:
                await self._pause(wait_s)
        log.warning(
            "nobody was told of an alert", notification=instance.name, error=told, alert=notification.alert.rule
        )
        return False

    def _count(self, outcome: str) -> None:
        self._metrics.notifications.labels(self.instance.name, outcome).inc()


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

    def tell(self, notification: Notification) -> None:
        """Leave a notification for everybody who wants it; never waits."""
        for lane in self._lanes.values():
            lane.put(notification)

    async def follow(self, instances: Sequence[NotifierInstance]) -> None:
        """Tell these from now on. What waits for one that is as before goes on waiting; that of others is dropped."""
        wanted = {instance.name: instance for instance in instances}
        gone = [name for name, lane in self._lanes.items() if wanted.get(name) != lane.instance]
        for lane in [self._lanes.pop(name) for name in gone]:
            await lane.close()
        for name, instance in wanted.items():
            if name not in self._lanes:
                self._lanes[name] = Lane(instance, self._metrics, self._pause, self._most)

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        for lane in list(self._lanes.values()):
            await lane.drained()

    async def close(self) -> None:
        """Let go what goes quickly, and end."""
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self.drained()
        except TimeoutError:
            pass
        await self.follow(())


@asynccontextmanager
async def notifications(metrics: Metrics) -> AsyncIterator[Notifications]:
    """Notifications that end with the block; :meth:`Notifications.follow` says who is told."""
    running = Notifications(metrics)
    try:
        yield running
    finally:
        await running.close()
