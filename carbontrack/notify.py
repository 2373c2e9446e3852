"""Telling people of alerts: what was raised or cleared is looked at, written into the outbox, and sent from there.

Whoever raises or clears an alert only wakes this. Everything else is in the database: the alerts with what was told of
them, and the messages on their way (:mod:`carbontrack.store.outbox`). So nothing is lost by a crash, and what was
dispatched is not dispatched again. Who is told when is decided in :mod:`carbontrack.dispatch`.

Each channel (a notification of the configuration) has a task of its own that sends what is due, so one that hangs is in
nobody's way. A message that was sent and could not be noted as such is sent again: at least once.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from carbontrack.dispatch import EVENTS, Audience, Case, Part, Plan, Planned, Policy, Seat, decide, folds, is_at_least
from carbontrack.hookspecs import AlertItem, Notification, Notifier, Recipient, RuleWords, Undeliverable
from carbontrack.letters import letter
from carbontrack.metrics import Metrics
from carbontrack.model import (
    FACTORY_ROLES,
    LOCALES,
    Factory,
    OutboxMessage,
    Role,
    Stack,
    User,
    UserStatus,
)
from carbontrack.store import Entry, Store, StoreUnavailable
from carbontrack.tasks import end

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
"""What becomes due by time alone is seen so soon."""
PAUSE_S = 0.5
"""A flood of alerts wakes it no more often."""
MEASURE_EVERY = timedelta(seconds=30)
FORGET_EVERY = timedelta(hours=1)
KEPT_FOR = timedelta(days=90)
TIME_LIMIT_S = 30.0
WAITS_S = (10.0, 60.0, 300.0, 900.0)
LONG_WAIT_S = 3600.0
"""How long it waits before each further attempt; the last one again and again."""
MOST_ATTEMPTS = 28
"""These take a day."""
AT_ONCE = 8
"""Messages that one channel sends at the same time, to different people."""
MOST_ITEMS = 20
JOIN_WITHIN_FOLDS = 10
"""What is raised within so many folds of a flood's newest alert is part of it."""


def nobody() -> None:
    """For those who have nobody to wake."""


@dataclass(frozen=True, slots=True)
class NotifierInstance:
    """One configured notification: who is told, with which options, and from which severity on."""

    name: str
    notifier: Notifier
    options: Any
    min_severity: str = "warning"


Words = Callable[[str], RuleWords]
"""What people read of an alert, by language."""


@dataclass(frozen=True, slots=True)
class Failing:
    """Since when, and why, a channel reaches nobody."""

    since: datetime
    error: str


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Notices:
    """Dispatches and sends. ``clock`` tells the time, ``spread`` how far a wait is from what it should be."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        policy: Policy,
        *,
        public_url: str = "",
        clock: Callable[[], datetime] = _utc_now,
        spread: Callable[[], float] = lambda: random.uniform(0.9, 1.1),
    ) -> None:
        self.policy = policy
        self._store = store
        self._metrics = metrics
        self._public_url = public_url.rstrip("/")
        self._clock = clock
        self._spread = spread
        self._wake = asyncio.Event()
        self._configured: frozenset[str] = frozenset()
        self._known: dict[str, NotifierInstance] = {}
        self._usable: dict[str, NotifierInstance] = {}
        self._rules: Mapping[str, Words] = {}
        self._sendable: dict[str, asyncio.Event] = {}
        self._failing: dict[str, Failing] = {}
        self._waiting: frozenset[str] = frozenset()
        self._unreached = 0
        self._began = clock()
        self._seen_acknowledged: set[int] = set()
        self._measured_at: datetime | None = None
        self._forgot_at: datetime | None = None

    # --- what others say

    def alert_changed(self) -> None:
        """Say that an alert was raised, cleared or acknowledged; never waits."""
        self._wake.set()

    def follow(
        self,
        instances: Sequence[NotifierInstance],
        configured: Iterable[str],
        rules: Mapping[str, Words] | None = None,
    ) -> None:
        """Tell by these from now on; ``configured`` names every configured notification, ``rules`` are by alert.

        What waits goes on waiting while a notification of its name is configured, with a plugin or without.
        """
        self._configured = frozenset(configured)
        self._usable = {instance.name: instance for instance in instances}
        kept = {name: it for name, it in self._known.items() if name in self._configured}
        self._known = {**kept, **self._usable}
        if rules is not None:
            self._rules = rules
        for name in list(self._failing):
            if name not in self._configured:
                del self._failing[name]
        for event in self._sendable.values():
            event.set()
        self._wake.set()

    def problems(self) -> list[str]:
        """Channels that reach nobody, and alerts that do."""
        found = []
        for name, failing in sorted(self._failing.items()):
            at = failing.since.astimezone(self.policy.zone)
            day = "" if at.date() == self._clock().astimezone(self.policy.zone).date() else f"{at:%Y-%m-%d} "
            found.append(f"Nobody is reached by '{name}' since {day}{at:%H:%M}: {failing.error}")
        stopped = sorted(self._waiting - set(self._usable) - set(self._failing))
        found += [f"Nobody is reached by '{name}': its plugin does not run" for name in stopped]
        if self._unreached:
            found.append(f"{self._unreached} alerts reach nobody: no active person on duty has an address for them.")
        return found

    def instance(self, name: str) -> NotifierInstance | None:
        """A configured notification whose plugin is there."""
        return self._usable.get(name)

    # --- for ever

    async def keep(self) -> None:
        """Dispatch and send for ever."""
        tasks: dict[str, asyncio.Task[None]] = {}
        is_away = False
        try:
            while True:
                await self._follow_channels(tasks)
                self._wake.clear()
                try:
                    await self.look()
                    await self.measure()
                    is_away = False
                except StoreUnavailable as error:
                    if not is_away:
                        log.warning("nobody is told of alerts while the database is away", error=str(error))
                    is_away = True
                await asyncio.sleep(PAUSE_S)
                await _either(self._wake, LOOK_EVERY_S)
        finally:
            await end(*tasks.values())

    async def _follow_channels(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        for name in [name for name in tasks if name not in self._configured]:
            await end(tasks.pop(name))
            self._sendable.pop(name, None)
        for name in self._configured:
            if name not in tasks or tasks[name].done():
                self._sendable.setdefault(name, asyncio.Event())
                tasks[name] = asyncio.create_task(self._keep_sending(name), name=f"notify:{name}")

    async def _keep_sending(self, name: str) -> None:
        structlog.contextvars.clear_contextvars()  # it may have begun with somebody's request to reload
        while True:
            self._sendable[name].clear()
            try:
                while await self.send_due(name):
                    pass
            except StoreUnavailable:
                pass  # the dispatcher has said so
            except Exception:
                log.exception("a channel failed, going on", channel=name)
            await _either(self._sendable[name], LOOK_EVERY_S)

    # --- dispatching

    async def look(self) -> int:
        """Look once at what there is to tell, and put it into the outbox; how many messages came into it."""
        now = self._clock()
        await self._store.settle_network(self.policy.fold * JOIN_WITHIN_FOLDS, now)
        cases = await self._store.cases()
        floods = folds(cases, self.policy, now)
        if floods:
            for flood in floods:
                await self._store.fold_alerts(flood, now)
            cases = await self._store.cases()
        self._count_acknowledged(cases)
        if not cases:
            self._unreached = 0
            return 0
        people = {user.id: user for user in await self._store.users(status=UserStatus.ACTIVE)}
        audience = await self._audience(people)
        spoken = await self._store.told_since(now - self.policy.fold)
        plan = decide(cases, audience, self.policy, spoken, now)
        self._count_unreached(cases, audience)
        if not (plan.messages or plan.levels or plan.done):
            return 0
        kept = await self._store.keep_messages(await self._entries(plan, people), plan, now)
        if kept:
            for event in self._sendable.values():
                event.set()
        return kept

    async def _audience(self, people: Mapping[int, User]) -> Audience:
        lists = await self._store.duties()
        factories: dict[int, list[int]] = {}
        for user in people.values():  # by e-mail address
            if user.role is Role.FACTORY_MANAGER and user.factory_id is not None:
                factories.setdefault(user.factory_id, []).append(user.id)
        headquarters = [user.id for user in people.values() if user.role is Role.HQ_MANAGER]
        for factory_id, listed in lists.items():
            able = [number for number in listed if number in people and _may_know(people[number], factory_id)]
            if factory_id is None:
                headquarters = able or headquarters
            elif able:
                factories[factory_id] = able
        machines = {it.name: it.min_severity for it in self._known.values() if not it.notifier.to_people}
        reach = {number: least for number, user in people.items() if (least := self._reached_from(user)) is not None}
        return Audience(factories, headquarters, reach, machines)

    def _reached_from(self, user: User) -> str | None:
        """From which severity on a person is told by any channel; None: by none."""
        severities = [it.min_severity for it in self._known.values() if _is_for(it, user)]
        return next((severity for severity in ("info", "warning", "critical") if severity in severities), None)

    async def _entries(self, plan: Plan, people: Mapping[int, User]) -> list[Entry]:
        """The messages of a plan, written out for each channel."""
        if not plan.messages:
            return []
        parts = [part for message in plan.messages for part in message.parts]
        book = await self._book({part.case.id for part in parts}, {part.case.id for part in parts if _is_network(part)})
        found = []
        for message in plan.messages:
            for instance, some in self._channels(message, people):
                found.append(self._entry(instance, people.get(_person(message.seat)), message.seat, some, book))
            await asyncio.sleep(0)  # writing takes its time, and devices have their turn
        return found

    def _channels(
        self, message: Planned, people: Mapping[int, User]
    ) -> Iterator[tuple[NotifierInstance, Sequence[Part]]]:
        """By which channels a seat is told, and what by each; a channel to all says everything, in several messages."""
        if isinstance(message.seat, str):
            for at in range(0, len(message.parts), MOST_ITEMS):
                yield self._known[message.seat], message.parts[at : at + MOST_ITEMS]
            return
        for instance in self._known.values():
            if _is_for(instance, people[message.seat]):
                some = [part for part in message.parts if is_at_least(part.case.severity, instance.min_severity)]
                if some:
                    yield instance, some

    def _entry(
        self, instance: NotifierInstance, person: User | None, seat: Seat, parts: Sequence[Part], book: Book
    ) -> Entry:
        language = person.locale if person and person.locale in LOCALES else "en"
        shown = sorted(parts, key=_rank) if len(parts) > MOST_ITEMS else parts
        items = tuple(book.item(part, language, self._rules) for part in shown[:MOST_ITEMS])
        url = self._url(parts)
        told = letter(items, len(parts), language, self.policy.zone, url)
        key = _dedupe_key(instance.name, seat, parts)
        notification = Notification(
            id=key[:16],
            event=min((item.event for item in items), key=EVENTS.index),
            items=items,
            count=len(parts),
            recipient=recipient(person) if person else None,
            subject=told.subject,
            text=told.text,
            html=told.html,
            url=url,
        )
        content = msgspec.json.encode(notification).decode()
        about = tuple((part.case.id, part.event) for part in parts)
        return Entry(instance.name, person.id if person else None, key, content, about)

    def _url(self, parts: Sequence[Part]) -> str:
        if not self._public_url:
            return ""
        return f"{self._public_url}/alerts/{parts[0].case.id}/" if len(parts) == 1 else f"{self._public_url}/alerts/"

    async def _book(self, ids: set[int], networks: set[int]) -> Book:
        return Book(
            await self._store.alerts_of(ids),
            {factory.id: factory for factory in await self._store.factories()},
            {stack.id: stack for stack in await self._store.stacks()},
            await self._store.network_sizes(networks),
        )

    # --- sending

    async def send_due(self, name: str | None = None) -> int:
        """Send what is due now by one channel, or by all of them; how many attempts were made."""
        if name is None:
            return sum([await self.send_due(each) for each in sorted(self._configured)])
        instance = self._usable.get(name)
        if instance is None:
            return 0
        due = await self._store.due_messages(name, self._clock(), AT_ONCE)
        # All of them end before anything is raised: what is still on its way must not be due again.
        ended = await asyncio.gather(*(self._send(instance, message) for message in due), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return len(due)

    async def _send(self, instance: NotifierInstance, message: OutboxMessage) -> None:
        error, is_final = await self._attempt(instance, message)
        now = self._clock()
        if not error:
            await self._store.end_message(message.id, "sent", "", now)
            self._failing.pop(instance.name, None)
            self._count(instance.name, "sent")
            return
        if is_final or message.attempts + 1 >= MOST_ATTEMPTS:
            await self._store.end_message(message.id, "failed", error, now)
            self._count(instance.name, "failed")
            log.warning("somebody was not told of an alert", channel=instance.name, message=message.id, error=error)
        else:
            wait_s = WAITS_S[message.attempts] if message.attempts < len(WAITS_S) else LONG_WAIT_S
            until = now + timedelta(seconds=wait_s * self._spread())
            await self._store.postpone_message(message.id, until, error)
            self._count(instance.name, "retried")
        if not is_final:
            since = self._failing[instance.name].since if instance.name in self._failing else now
            self._failing[instance.name] = Failing(since, error)

    async def _attempt(self, instance: NotifierInstance, message: OutboxMessage) -> tuple[str, bool]:
        """Why a message was not delivered, and whether it never will be; an empty text when it was."""
        person = message.recipient
        if person is not None and person.status is not UserStatus.ACTIVE:
            return "the account is not active any more", True
        try:
            notification = msgspec.json.decode(message.content, type=Notification)
            if person is not None:
                notification = replace(notification, recipient=recipient(person))
            async with asyncio.timeout(TIME_LIMIT_S):
                await instance.notifier.send(instance.options, notification)
        except (Undeliverable, msgspec.MsgspecError) as error:
            return str(error) or type(error).__name__, True
        except TimeoutError as error:
            return str(error) or f"it took longer than {TIME_LIMIT_S:g} s", False
        except Exception as error:  # noqa: BLE001  # a notifier is a plugin, and its far end may be away
            return f"{type(error).__name__}: {error}", False
        return "", False

    def _count(self, name: str, outcome: str) -> None:
        self._metrics.notifications.labels(name, outcome).inc()

    # --- what is known of it

    async def measure(self) -> None:
        """See how much waits, and forget what is old; at most every half minute."""
        now = self._clock()
        if self._measured_at is not None and now - self._measured_at < MEASURE_EVERY:
            return
        is_first, self._measured_at = self._measured_at is None, now
        backlogs = await self._store.backlogs()
        for name in self._configured:
            of_it = next((backlog for backlog in backlogs if backlog.channel == name), None)
            self._metrics.outbox_waiting.labels(name).set(of_it.waiting if of_it else 0)
            self._metrics.outbox_oldest.labels(name).set((now - of_it.oldest).total_seconds() if of_it else 0)
        self._waiting = frozenset(backlog.channel for backlog in backlogs) & self._configured
        for backlog in backlogs:
            if backlog.channel not in self._configured:
                await self._store.drop_channel(backlog.channel, "this notification is not configured any more", now)
            elif is_first and backlog.tried_since is not None:
                self._failing.setdefault(backlog.channel, Failing(backlog.tried_since, backlog.error))
        if self._forgot_at is None or now - self._forgot_at >= FORGET_EVERY:
            self._forgot_at = now
            await self._store.forget_messages(now - KEPT_FOR)

    def _count_acknowledged(self, cases: Sequence[Case]) -> None:
        """How long people took, of what was acknowledged since this core began."""
        seen = {case.id for case in cases if case.acknowledged_at is not None}
        for case in cases:
            at = case.acknowledged_at
            if at is not None and case.id not in self._seen_acknowledged and at >= self._began:
                self._metrics.acknowledge_s.observe(max(0.0, (at - case.raised_at).total_seconds()))
        self._seen_acknowledged = seen

    def _count_unreached(self, cases: Sequence[Case], audience: Audience) -> None:
        told_by_people = any(instance.notifier.to_people for instance in self._known.values())
        least = min(
            (it.min_severity for it in self._known.values() if it.notifier.to_people),
            key=("info", "warning", "critical").index,
            default="critical",
        )
        self._unreached = sum(
            case.cleared_at is None and is_at_least(case.severity, least) and not audience.ladder(case)
            for case in cases
            if told_by_people
        )


@dataclass(frozen=True, slots=True)
class Book:
    """What messages are written from."""

    alerts: Mapping[int, Any]
    factories: Mapping[int, Factory]
    stacks: Mapping[int, Stack]
    sizes: Mapping[int, tuple[int, int]]

    def item(self, part: Part, language: str, rules: Mapping[str, Words]) -> AlertItem:
        alert = self.alerts[part.case.id]
        words = rules[alert.rule](language) if alert.rule in rules else _unknown(alert.rule)
        devices, factories = self.sizes.get(alert.id, (1, 1))
        return AlertItem(
            event=part.event,  # type: ignore[arg-type]  # one of EVENTS
            alert=alert,
            factory=self.factories.get(alert.factory_id),
            stack=self.stacks.get(alert.stack_id),
            title=words.title,
            first_steps=words.first_steps,
            devices=devices,
            factories=factories,
        )


def _unknown(rule: str) -> RuleWords:
    """Of an alert whose rule is not there any more its name is known, and nothing to do first."""
    return RuleWords(rule.replace("-", " ").capitalize(), ())


def recipient(user: User) -> Recipient:
    """A person as notifiers know one."""
    name = f"{user.first_name} {user.last_name}".strip() or user.email
    return Recipient(name, user.email, user.phone_number, user.locale if user.locale in LOCALES else "en")


def _person(seat: Seat) -> int:
    return seat if isinstance(seat, int) else -1


def _is_network(part: Part) -> bool:
    return part.case.factory_id is None


def _rank(part: Part) -> tuple[bool, int]:
    return part.event == "cleared", -("info", "warning", "critical").index(part.case.severity)


def _may_know(user: User, factory_id: int | None) -> bool:
    return user.role not in FACTORY_ROLES or (factory_id is not None and user.factory_id == factory_id)


def _is_for(instance: NotifierInstance, user: User) -> bool:
    notifier = instance.notifier
    if not notifier.to_people:
        return False
    return {"email": user.email, "phone": user.phone_number, None: "nothing"}[notifier.needs] != ""


def _dedupe_key(channel: str, seat: Seat, parts: Sequence[Part]) -> str:
    """The same for the same told to the same for the same time."""
    times = [f"{part.case.id}:{part.event}:{_last_told(part.case, seat)}" for part in parts]
    return hashlib.sha256("\n".join([channel, str(seat), *sorted(times)]).encode()).hexdigest()


def _last_told(case: Case, seat: Seat) -> str:
    """When a seat was told of an alert last; empty: never."""
    return max((telling.at.isoformat() for telling in case.told if telling.seat == seat), default="")


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, but not for ever."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
