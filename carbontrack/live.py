"""What changed just now, to whoever watches. In-process; a slow watcher gets the newest state, never a backlog.

Of alerts a slow watcher gets the newest few. Whatever is told moves the **place** of the stream on. Who was away for a
while says up to which place it has heard, and gets what has changed since, if it is still known.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from carbontrack.model import Snapshot

CANARY_FACTORY_ID = -2
"""The canary's: nobody has this factory, and who watches all factories does not see it."""


MOST_ALERTS = 50
"""Alerts that one watcher has not seen yet; of more, the oldest are left out."""


class Subscription:
    """What one watcher has not seen yet: at most one snapshot per device, and some alerts."""

    __slots__ = ("_alerts", "_changed", "_event", "closed", "factory_id")

    def __init__(self, factory_id: int | None) -> None:
        self.factory_id = factory_id
        self.closed = False
        self._changed: dict[str, Snapshot] = {}
        self._alerts: deque[Mapping[str, Any]] = deque(maxlen=MOST_ALERTS)
        self._event = asyncio.Event()

    def put(self, snapshot: Snapshot) -> None:
        self._changed[snapshot.device_id] = snapshot
        self._event.set()

    def put_alert(self, event: Mapping[str, Any]) -> None:
        self._alerts.append(event)
        self._event.set()

    def alerts(self) -> list[Mapping[str, Any]]:
        """What was told of alerts since the last call; after :meth:`changes` has returned."""
        found = list(self._alerts)
        self._alerts.clear()
        return found

    def close(self) -> None:
        """Wake the watcher: there will be no more."""
        self.closed = True
        self._event.set()

    async def changes(self) -> list[Snapshot]:
        """Wait until something changed, an alert came, or ``closed``; the newest snapshot of each changed device."""
        await self._event.wait()
        self._event.clear()
        changed, self._changed = list(self._changed.values()), {}
        return changed


class ToldAlert(NamedTuple):
    """What was told of an alert: at which number, what, and of which factory (None: of the whole network)."""

    at: int
    event: Mapping[str, Any]
    factory_id: int | None


class Live:
    """Hands each snapshot to the watchers of its factory."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._told = 0
        self._changed_at: dict[str, int] = {}
        """How much had been told when a device last changed."""
        self._alerts: deque[ToldAlert] = deque(maxlen=MOST_ALERTS)
        self._era = ""
        self.begin_anew()

    @property
    def place(self) -> str:
        """How far the stream is by now."""
        return f"{self._era}-{self._told}"

    def begin_anew(self) -> None:
        """Have everybody who comes back get everything: a device is gone, or somebody else's now."""
        self._era = secrets.token_hex(4)  # another one in each process: what one has told no other one knows
        self._changed_at.clear()
        self._alerts.clear()

    def since(self, place: str) -> int | None:
        """How much had been told at a place; None where that is not known any more."""
        era, _, told = place.partition("-")
        return int(told) if era == self._era and told.isdecimal() and len(told) < 20 else None

    def changed_since(self, told: int, snapshots: Iterable[Snapshot]) -> list[Snapshot]:
        """Those of some snapshots that have changed after so much had been told."""
        return [it for it in snapshots if self._changed_at.get(it.device_id, 0) > told]

    def alerts_since(self, told: int, factory_id: int | None) -> list[Mapping[str, Any]]:
        """What was told of alerts after that, to watchers of one factory or (None) of all."""
        return [it.event for it in self._alerts if it.at > told and _may_hear(factory_id, it.factory_id)]

    def publish(self, snapshot: Snapshot) -> None:
        self._told += 1
        self._changed_at[snapshot.device_id] = self._told
        for subscription in self._subscriptions:
            wanted = subscription.factory_id
            if wanted == snapshot.factory_id or (wanted is None and snapshot.factory_id != CANARY_FACTORY_ID):
                subscription.put(snapshot)

    def publish_alert(self, event: Mapping[str, Any], factory_id: int | None) -> None:
        """Hand what is told of an alert to the watchers of its factory; None: to those of all factories."""
        self._told += 1
        self._alerts.append(ToldAlert(self._told, event, factory_id))
        for subscription in self._subscriptions:
            if _may_hear(subscription.factory_id, factory_id):
                subscription.put_alert(event)

    # --- the same stream in several processes

    @property
    def era(self) -> str:
        """Within it the numbers count on; another one means that everything is told anew."""
        return self._era

    @property
    def told(self) -> int:
        """How much has been told."""
        return self._told

    def changed_at(self, device_id: str) -> int:
        """How much had been told when a device last changed."""
        return self._changed_at.get(device_id, 0)

    def all_alerts_since(self, told: int) -> list[ToldAlert]:
        """What was told of alerts after that, of every factory."""
        return [it for it in self._alerts if it.at > told]

    def repeat(
        self, era: str, told: int, snapshots: Iterable[tuple[int, Snapshot]], alerts: Sequence[ToldAlert]
    ) -> None:
        """Tell on what another process's stream has told by now, under the same numbers: a place is good in both."""
        if era != self._era:
            self.begin_anew()
            self._era = era
        for at, snapshot in snapshots:
            self.publish(snapshot)
            self._changed_at[snapshot.device_id] = at
        for alert in alerts:
            self.publish_alert(alert.event, alert.factory_id)
            self._alerts[-1] = alert
        self._told = told

    @property
    def watchers(self) -> int:
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, factory_id: int | None) -> Iterator[Subscription]:
        """Watch one factory, or all of them with None."""
        subscription = Subscription(factory_id)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription that there is."""
        for subscription in self._subscriptions:
            subscription.close()


def _may_hear(watched: int | None, factory_id: int | None) -> bool:
    """Whether a watcher of one factory (None: of all) is told of an alert of one (None: of the whole network)."""
    return watched is None or (factory_id is not None and watched == factory_id)
