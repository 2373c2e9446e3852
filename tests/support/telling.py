"""People of a store, notices with a clock that stands still, and notifiers that remember.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from carbontrack.dispatch import Policy
from carbontrack.hookspecs import Notification, Notifier, RuleWords
from carbontrack.metrics import Metrics
from carbontrack.model import Finding, Role, User
from carbontrack.notify import Notices, NotifierInstance, Words
from carbontrack.store import Store
from tests.support.world import NAIROBI, NOON

POLICY = Policy(NAIROBI)
SILENT = {
    "en": RuleWords("A device is silent", ("Look whether its lamp is lit.",)),
    "sw": RuleWords("Kifaa kiko kimya", ("Angalia kama taa yake inawaka.",)),
}
RULES: Mapping[str, Words] = {"device-silent": SILENT.__getitem__}


class NoOptions(BaseModel):
    pass


class Hours:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def later(self, **lapse: float) -> None:
        self.now += timedelta(**lapse)


@dataclass
class Told:
    """A notifier that remembers what it told; ``errors`` are raised first, one a time."""

    name: str = "mail"
    to_people: bool = True
    min_severity: str = "info"
    errors: list[Exception] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    attempts: int = 0

    async def send(self, options: NoOptions, told: Notification) -> None:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        self.notifications.append(told)

    @property
    def instance(self) -> NotifierInstance:
        notifier = Notifier("told", "Told", NoOptions, self.send, self.to_people, "email" if self.to_people else None)
        return NotifierInstance(self.name, notifier, NoOptions(), self.min_severity)

    def people(self) -> list[str]:
        """Who was told, in order, by the part of the address before the @."""
        return [told.recipient.email.split("@")[0] if told.recipient else "all" for told in self.notifications]

    def events(self) -> list[str]:
        return [told.event for told in self.notifications]


@dataclass
class Telling:
    """Notices on a store, with a clock of their own."""

    store: Store
    notices: Notices
    clock: Hours
    metrics: Metrics

    async def round(self, **lapse: float) -> None:
        """Some time passes, and then everything that is due is dispatched and sent."""
        self.clock.later(**lapse)
        await self.notices.look()
        while await self.notices.send_due():
            pass

    async def silent(self, device_id: str, *, severity: str = "warning", **ago: float) -> int:
        """A device falls silent; the alert's number."""
        return await self.raised(device_id, "device-silent", severity, **ago)

    async def raised(self, of: str | int, rule: str, severity: str = "warning", **ago: float) -> int:
        finding = Finding("silent for 15 min", 900.0, 900.0, "s")
        alert = await self.store.raise_alert(of, rule, severity, finding, self.clock.now - timedelta(**ago))
        assert alert is not None
        return alert.id

    async def cleared(self, of: str | int, rule: str = "device-silent") -> None:
        await self.store.clear_alert(of, rule, self.clock.now)


def telling(
    store: Store,
    metrics: Metrics,
    channels: Sequence[Told | NotifierInstance],
    *,
    clock: Hours | None = None,
    rules: Mapping[str, Words] = RULES,
    **policy: Any,
) -> Telling:
    """Notices that tell by these channels; ``policy`` are fields of the policy that differ."""
    clock = clock or Hours()
    notices = Notices(
        store,
        metrics,
        replace(POLICY, **policy),
        public_url="https://carbon.example.org",
        clock=clock,
        spread=lambda: 1.0,
    )
    instances = [channel.instance if isinstance(channel, Told) else channel for channel in channels]
    notices.follow(instances, [instance.name for instance in instances], rules)
    return Telling(store, notices, clock, metrics)


async def person(
    store: Store, name: str, role: Role = Role.HQ_MANAGER, factory_id: int | None = None, **changed: Any
) -> User:
    """Somebody with an account; ``changed`` may set the language."""
    locale = changed.pop("locale", None)
    user = await store.add_user(f"{name}@example.org", "-", role, factory_id=factory_id, first_name=name, **changed)
    return await store.change_user(user.id, locale=locale) if locale else user
