"""What changed just now, to whoever watches. In-process; a slow watcher gets the newest state, never a backlog."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from carbontrack.model import Snapshot

CANARY_FACTORY_ID = -2
"""The canary's: nobody has this factory, and who watches all factories does not see it."""


class Subscription:
    """What one watcher has not seen yet: at most one snapshot per device."""

    __slots__ = ("_changed", "_event", "closed", "factory_id")

    def __init__(self, factory_id: int | None) -> None:
        self.factory_id = factory_id
        self.closed = False
        self._changed: dict[str, Snapshot] = {}
        self._event = asyncio.Event()

    def put(self, snapshot: Snapshot) -> None:
        self._changed[snapshot.device_id] = snapshot
        self._event.set()

    def close(self) -> None:
        """Wake the watcher: there will be no more."""
        self.closed = True
        self._event.set()

    async def changes(self) -> list[Snapshot]:
        """Wait until something changed or ``closed``; the newest snapshot of each changed device."""
        await self._event.wait()
        self._event.clear()
        changed, self._changed = list(self._changed.values()), {}
        return changed


class Live:
    """Hands each snapshot to the watchers of its factory."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, snapshot: Snapshot) -> None:
        for subscription in self._subscriptions:
            wanted = subscription.factory_id
            if wanted == snapshot.factory_id or (wanted is None and snapshot.factory_id != CANARY_FACTORY_ID):
                subscription.put(snapshot)

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
