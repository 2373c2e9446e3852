"""The actor of one device: takes, commits, and then tells the device, the pages and the rules. Nobody else decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from carbontrack.actor import Actor
from carbontrack.alerts import LATE_FROM, LONGEST_SILENCE, RuleInstance, ask, held_until, is_worth_keeping, unchanged
from carbontrack.health import CLOCK_OFF_S, Birth, ClockSeen, Facts, NodeRecord, NodeStore
from carbontrack.hookspecs import AlertRule, Observation, SensorDriver, Verdict
from carbontrack.intake import Batch, Intake
from carbontrack.live import Live
from carbontrack.metrics import Metrics
from carbontrack.model import (
    INACTIVE,
    MIN_DATETIME,
    MOST_CAUSES,
    AlertState,
    Flag,
    Outcome,
    Payload,
    Reading,
    Site,
    Snapshot,
    Standing,
    snapshot_of,
)
from carbontrack.notify import nobody
from carbontrack.overload import Allowance, Drain
from carbontrack.store import ADJOINING, Store, StoreBusy, StoreUnavailable, Work
from carbontrack.streams import Stream

log = structlog.get_logger(__name__)

_BACKLOG = int(Flag.BACKLOG)
RECOVERED_AFTER_S = 15.0
"""When nothing late has come for so long, the outage is recovered."""
SECOND_LOOK_S = 2.0
"""Silence counts when it is seen twice: a link that stood still gives all at once, and others may be heard first."""
RETURN_S = 10.0
"""Last wills that come within so long of the core's own return to the broker may be the broker's doing."""
FEW = 3
"""If they are those of more devices than this, they are: so many do not leave just when the core comes back."""


@dataclass(slots=True)
class Hearing:
    """Whether the core hears anything at all: who cannot be heard is not silent. All times are monotonic."""

    blind_s: float = 60.0
    """A link to the broker may be dead for so long before its end is noticed: two keep-alives."""
    _since_s: float | None = None
    _last_s: float = 0.0
    _wills: dict[str, float] = field(default_factory=dict)
    """When each device's newest last will came."""

    def connected(self, now_s: float) -> None:
        """The core is connected to the broker; the devices need their time to come back as well."""
        self._since_s = now_s

    def cut_off(self) -> None:
        """The core is connected no more."""
        self._since_s = None

    @property
    def is_deaf(self) -> bool:
        """Whether nobody can be heard now."""
        return self._since_s is None

    def heard(self, now_s: float) -> None:
        """Somebody was heard, whoever it was."""
        self._last_s = now_s

    def will(self, device_id: str, now_s: float) -> None:
        """A last will came of a device that was there."""
        self._wills[device_id] = now_s

    def silence_s(self, heard_at_s: float | None, now_s: float) -> float:
        """For how long a device that was heard last at ``heard_at_s`` has been silent for certain."""
        if self._since_s is None:
            return 0.0
        heard_s = self._since_s if heard_at_s is None else max(self._since_s, heard_at_s)
        return max(self._last_s, now_s - self.blind_s) - heard_s

    def is_own_will(self, at_s: float) -> bool:
        """Whether the device is gone whose last will came then, and not its broker.

        A broker that is restarted sends the wills of all devices, and cuts off the core too. Where many come about when
        the core comes back, silence alone tells who is gone.
        """
        since_s = self._since_s
        if since_s is None or at_s < since_s:
            return False
        if at_s > since_s + RETURN_S:
            return True
        return sum(abs(will_s - since_s) <= RETURN_S for will_s in self._wills.values()) <= FEW


def _all_is_heard() -> Hearing:
    return Hearing(blind_s=0.0, _since_s=float("-inf"))


def _utc_now() -> datetime:
    return datetime.now(UTC)


def listen_to_no_birth(_device_id: str, _birth: Birth) -> None:
    """For whoever tells devices nothing beside receipts."""


def listen_to_no_answer(_payload: Payload) -> None:
    """The same."""


def look_at_nothing(_site: Site, _since: datetime, _until: datetime) -> None:
    """For whoever does not ask what late readings would have raised."""


Rules = tuple[RuleInstance[AlertRule], ...]


@dataclass(frozen=True, slots=True)
class Services:
    """What every device actor shares. ``receipt`` is told (device id, stream id, watermark) after a commit.

    ``alert_changed`` is called after the commit of every alert that was raised or cleared; it never waits.
    ``will_after_s``: a last will counts after so long, if it is the device's own.
    """

    store: Store
    live: Live
    metrics: Metrics
    receipt: Callable[[str, str, int], None]
    mailbox_size: int = 256
    offline_after_s: float = 30.0
    will_after_s: float = 5.0
    park_after_failures: int = 8
    stuck_after_s: float = 600.0
    messages_per_s: float = 20.0
    drain: Drain = field(default_factory=lambda: Drain(5.0, 200.0))
    hearing: Hearing = field(default_factory=_all_is_heard)
    monotonic: Callable[[], float] = time.monotonic
    clock: Callable[[], datetime] = _utc_now
    alert_changed: Callable[[], None] = nobody
    late: Callable[[Site, datetime, datetime], None] = look_at_nothing
    """Told of readings of a span that came late, when all of them are kept; it never waits."""
    born: Callable[[str, Birth], None] = listen_to_no_birth
    """Told what a device said of itself when it connected; it never waits and never raises."""
    answered: Callable[[Payload], None] = listen_to_no_answer
    """Told what a device says on ``up/config`` and ``up/res``; it never waits and never raises."""


@dataclass(frozen=True, slots=True)
class Recovering:
    """Readings of an outage that come now, from the device's store. ``last_s`` is monotonic: when the newest came."""

    factory_id: int
    stack_id: int
    since: datetime
    until: datetime
    readings: int
    last_s: float


class Asked(Payload, frozen=True, gc=True, eq=False):
    """A message whose sender waits for what becomes of it."""

    answer: asyncio.Future[Outcome | None]


class Again(Asked, frozen=True, gc=True, eq=False):
    """A message out of quarantine, which somebody hands in once more."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one sender that waits has to do with a batch: its own counts, and the rows that its message became."""

    answer: asyncio.Future[Outcome | None]
    counts: Batch
    readings: list[Reading]
    records: int

    def resolve(self) -> None:
        """Tell the sender, after the commit. It may have gone, and a retry may have told it before."""
        if self.answer.done():
            return
        counts, work = self.counts, self.counts.work
        own = set(map(id, self.readings))
        already = sum(id(row) in own for row in work.conflicts)
        # What the database refuses is taken out of the work, into quarantine.
        rejected = len(own.difference(map(id, work.readings))) if work.rejected else 0
        refusals = [f"{item.cause}: {item.detail}" for item in work.rejected] if rejected else []
        self.answer.set_result(
            Outcome(
                stored=len(self.readings) + self.records - already - rejected,
                duplicate=counts.duplicate + already,
                quarantined=counts.quarantined + rejected,
                refused=counts.refused,
                receipts={sid: stream.watermark for sid, stream in counts.receipts.items() if stream.watermark},
                causes=tuple(dict.fromkeys(counts.causes + refusals))[:MOST_CAUSES],
            )
        )


class DeviceActor(Actor[Payload]):
    """One registered device. ``snapshot`` is its live state; ``in_hand`` its readings between decode and commit."""

    __slots__ = (
        "_asked",
        "_birth",
        "_clock_seen",
        "_configured",
        "_gone_at",
        "_heard_at",
        "_kept",
        "_looked_at",
        "_memories",
        "_node_record",
        "_prepared",
        "_presence_since",
        "_recovering",
        "_resumed_at",
        "_services",
        "_standings",
        "_was_silent",
        "allowance",
        "in_hand",
        "intake",
        "looks",
        "rules",
        "snapshot",
        "waiting_since",
    )

    def __init__(self, site: Site, driver: SensorDriver, services: Services, streams: list[Stream] | None) -> None:
        super().__init__(
            site.device.device_id,
            mailbox_size=services.mailbox_size,
            idle_after_s=services.offline_after_s / 3,
            max_failures=services.park_after_failures,
        )
        self._asked: set[asyncio.Future[Outcome | None]] = set()
        """Senders that wait for what becomes of their messages."""
        self.allowance = Allowance()
        self.in_hand = 0
        self.waiting_since: float | None = None
        """Monotonic time since which messages are in hand that are not committed."""
        self.snapshot = Snapshot(site.device.device_id, site.factory.id, site.stack.id, online=False)
        self.intake = Intake(site, driver, services.store.open_stream, stuck_after_s=services.stuck_after_s)
        self._services = services
        self._prepared = streams
        self._heard_at: float | None = None
        self._gone_at: float | None = None
        """Monotonic time of a last will that does not count yet."""
        self._looked_at: float | None = None
        self._was_silent = False
        """Whether the last look found it silent."""
        self.looks = 0
        """How often it was looked whether the device is silent."""
        self.rules: Rules = ()
        self._configured: frozenset[str] | None = None
        """The names of all configured alerts, also of those whose plugin is not there now; None: nobody said."""
        self._standings: dict[str, Standing] = {}
        self._kept: dict[str, Standing] = {}
        """The same as the database has it."""
        self._memories: dict[str, dict[str, Any]] = {}
        """What each rule remembers of this device."""
        self._recovering: Recovering | None = None
        self._resumed_at = MIN_DATETIME
        """When the device was heard again after its last long silence, or after the start of the core."""
        self._birth: Birth | None = None
        """What it said of itself last; it says so again at every connection, and the broker keeps it."""
        self._clock_seen: ClockSeen | None = None
        self._node_record: NodeRecord | None = None
        self._presence_since: datetime | None = None
        """When it came online, or went offline, the last time."""

    # --- life

    async def on_start(self) -> None:
        """Take the streams as the database has them: after a failure what was in memory may be ahead of it."""
        if self._prepared is None:
            self._prepared = (await self._services.store.streams(self.name)).get(self.name, [])
        self.intake.streams = {stream.sid: stream for stream in self._prepared}
        self._prepared = None
        for stream in self.intake.streams.values():
            if stream.watermark:
                self._services.receipt(self.name, stream.sid, stream.watermark)

    def is_outage(self, error: Exception) -> bool:
        return isinstance(error, StoreUnavailable)

    def is_own_fault(self, error: Exception) -> bool:
        return isinstance(error, StoreBusy) or not self.is_outage(error)

    def log_context(self) -> Mapping[str, str]:
        return {"device": self.name}

    def is_turning_point(self, message: Payload) -> bool:
        """A birth and a gap declare records lost that may be in the backlog that waits: that is taken first."""
        return message.channel == "state" or b'"g"' in message.body

    async def on_idle(self) -> None:
        """Call a silent device offline, by the monotonic time of receipt and never by the device's clock."""
        now_s, before_s, patience_s = self._services.monotonic(), self._looked_at, self._services.offline_after_s
        self._looked_at = now_s
        # After a long time without a look the core stood still, or waited for the database. What came meanwhile may
        # not have been read yet: the next look tells.
        is_late = before_s is not None and now_s - before_s > patience_s * 2 / 3
        is_silent = self._services.hearing.silence_s(self._heard_at, now_s) > patience_s and not is_late
        if self.snapshot.online and (self._is_gone(now_s) or (is_silent and self._was_silent)):
            self._show(msgspec.structs.replace(self.snapshot, online=False))
        elif self.snapshot.online and is_silent:
            self.be_idle_in(SECOND_LOOK_S)
        self._was_silent = is_silent
        recovering = self._recovering
        if recovering is not None and now_s - recovering.last_s > RECOVERED_AFTER_S:
            await self._note_recovery()
        await self._clear_what_nobody_configures()
        if not is_late:
            await self._check_rules()
        self.looks += 1

    def _is_gone(self, now_s: float) -> bool:
        """Whether its last will counts by now: it is the device's own, and nothing else came of the device."""
        gone_at = self._gone_at
        if gone_at is None or now_s - gone_at < self._services.will_after_s:
            return False
        self._gone_at = None
        return self._services.hearing.is_own_will(gone_at)

    def ask(self, payload: Payload, *, again: bool = False) -> asyncio.Future[Outcome | None] | None:
        """Leave a message and get what will become of it; None where there is no room or the actor is parked.

        It becomes None when the actor ends before the message is committed. ``again``: it comes out of quarantine.
        """
        answer: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        kind = Again if again else Asked
        asked = kind(payload.device_id, payload.channel, payload.body, payload.received_at_ms, answer)
        if not self.tell(asked, later=payload.channel == "backlog"):
            return None
        self._asked.add(answer)
        answer.add_done_callback(self._asked.discard)
        return answer

    async def on_stop(self) -> None:
        for answer in list(self._asked):
            if not answer.done():
                answer.set_result(None)
        with suppress(StoreUnavailable):  # then the late readings tell of it, and nobody else
            await self._note_recovery()
            for name, standing in self._standings.items():
                if self._kept.get(name, INACTIVE) != standing:
                    await self._services.store.keep_standing(self.name, name, standing)

    def leave(self) -> None:
        """It is no device of ours any more. A core that stops says nothing: the devices are there as before."""
        if self.snapshot.online:
            self._show(msgspec.structs.replace(self.snapshot, online=False))

    def restore(self, reading: Reading | None, standings: Mapping[str, Standing], *, online: bool) -> None:
        """Begin with the newest reading that the database has, and where rules stood.

        ``online``: it was there when the last core stopped, and has its time to be heard again.
        """
        if reading is not None:
            site = self.intake.site
            if reading.stack_id == site.stack.id:
                self.snapshot = snapshot_of(site, reading, online)
            else:  # it has moved since
                self.snapshot = Snapshot(self.name, site.factory.id, site.stack.id, online)
            self.allowance = Allowance(round(reading.received_at.timestamp() * 1000))
        self._standings, self._kept = dict(standings), dict(standings)
        if reading is not None and not reading.flags & _BACKLOG:
            self._hold_up_to(reading.measured_at)

    def _hold_up_to(self, measured_at: datetime) -> None:
        """What was held up to the newest reading, of which the database is told once a minute."""
        on_timer = {instance.name for instance in self.rules if instance.rule.on_timer}
        for name, standing in self._standings.items():
            if name not in on_timer:
                self._standings[name] = held_until(standing, measured_at)

    @property
    def standings(self) -> Mapping[str, Standing]:
        """Where each rule stands for this device, by the alert's name."""
        return self._standings

    def settings_changed(self, site: Site, driver: SensorDriver) -> None:
        """Take a changed registration; the next message is computed with it.

        What was measured at another stack is not this one's, and nothing for the people of another factory.
        """
        before = self.intake.site
        self.intake.settings_changed(site, driver)
        if site.factory.id != before.factory.id:
            self._standings, self._kept = {}, {}  # the store has ended its alerts there
        if site.stack.id != before.stack.id:
            self._memories = {}
            self._show(Snapshot(self.name, site.factory.id, site.stack.id, online=self.snapshot.online))

    def rules_changed(self, rules: Rules, configured: Iterable[str]) -> None:
        """Take other rules. What fires stays open while an alert of its name is ``configured``, with a rule or without.

        A rule that is as it was keeps its memory and a hold that has begun; one with other options begins anew.
        """
        same = unchanged(self.rules, rules)
        self._memories = {name: memory for name, memory in self._memories.items() if name in same}
        self._standings = {
            name: standing
            for name, standing in self._standings.items()
            if name in same or standing.state is AlertState.FIRING
        }
        self.rules, self._configured = rules, frozenset(configured)

    # --- messages

    async def handle(self, messages: list[Payload]) -> None:
        """Take all that waits, commit it, and only then tell the device, the pages and the rules."""
        if self.waiting_since is None:
            self.waiting_since = self._services.monotonic()
        is_backlog = all(payload.channel == "backlog" for payload in messages)
        batch = Batch(Work(self.name, self.intake.site.factory.id, late=is_backlog))
        parts = await self._take_all(messages, batch)
        if not self.in_hand:  # a retry of the same messages must not count them again
            self._services.metrics.received.inc(batch.received)
        self.in_hand = batch.received
        if batch.changed or batch.work.readings or batch.work.quarantined:
            await self._services.store.save(batch.seal())
        if any(payload.channel == "backlog" for payload in messages):
            self._services.drain.note(self.name)
        self._settle(batch)
        for part in parts:
            part.resolve()
        self.waiting_since = None
        if batch.heard and (self._heard_at is None or self._silence_s() > LATE_FROM.total_seconds()):
            self._resumed_at = datetime.fromtimestamp(messages[0].received_at_ms / 1000, UTC)
        await self._note_late(batch.work)
        if any(isinstance(payload, Again) for payload in messages):
            self._note_replayed(batch.work)
        self._note_presence(batch)
        self._note_condition(batch)
        await self._update_live(batch)

    async def _take_all(self, messages: list[Payload], batch: Batch) -> list[Part]:
        """Make the batch of messages; the parts of it whose senders wait."""
        parts: list[Part] = []
        for payload in messages:
            if isinstance(payload, Asked):
                parts.append(await self._take_part(payload, batch))
            elif payload.channel in {"data", "backlog"}:
                await self.intake.take_data(payload, batch)
            elif payload.channel == "state":
                await self.intake.take_state(payload, batch)
            else:  # config and res: what a node says of its settings and of commands
                self._services.answered(payload)
        return parts

    async def _take_part(self, asked: Asked, batch: Batch) -> Part:
        """Take a message like any other, and remember which part of the batch it is."""
        work = batch.work
        readings, records = len(work.readings), len(work.records)
        counts = Batch(work)
        if isinstance(asked, Again):
            await self.intake.take_again(asked, counts, self._services.store.kept_numbers)
        else:
            await self.intake.take_data(asked, counts)
        batch.take_in(counts)
        return Part(asked.answer, counts, work.readings[readings:], len(work.records) - records)

    def _note_presence(self, batch: Batch) -> None:
        """Remember when the device was heard; a last will is only the broker's word, and has to wait."""
        now_s = self._services.monotonic()
        if batch.will and self.snapshot.online:  # the wills of who left long ago are kept by the broker, and no news
            self._services.hearing.will(self.name, now_s)
        if batch.heard or batch.online:
            self._heard_at, self._gone_at = now_s, None
        elif batch.by_will:
            batch.online, self._gone_at = None, now_s
            self.be_idle_in(self._services.will_after_s)

    def _note_condition(self, batch: Batch) -> None:
        """Remember what the device said and showed of itself, for its health."""
        if batch.birth is not None:
            self._birth = batch.birth
            self._services.born(self.name, batch.birth)
        for _, record, measured_at, _ in batch.work.records:
            if record.kind == "health":
                self.note_node_record(NodeRecord.of(measured_at, record.data))
        seen, newest = batch.clock, batch.newest
        if seen is None:
            return
        # What is so late may have waited for the end of an outage, at the broker: that is not the clock's doing.
        waited = seen.ahead_s < -CLOCK_OFF_S and (newest is None or newest.measured_at < self._resumed_at)
        if not waited:
            self._clock_seen = seen

    def note_node_record(self, record: NodeRecord) -> None:
        """Take a health record, if it is newer than what is known; also one that the database has."""
        if self._node_record is None or record.measured_at >= self._node_record.measured_at:
            self._node_record = record

    @property
    def birth(self) -> Birth | None:
        """What it said of itself last; None: nothing since the core began."""
        return self._birth

    def facts(self) -> Facts:
        """All that is known of the device now, for its health."""
        found, streams = self._recovering, self.intake.streams
        sid = self._birth.sid if self._birth is not None else None
        # The latest used is the last; an older one's store is gone, and its holes with it.
        stream = streams.get(sid or "") or next(reversed(streams.values()), None)
        return Facts(
            self.snapshot,
            self.state,
            self._services.hearing.is_deaf,
            self._presence_since,
            self._birth,
            self._node_record,
            self._clock_seen,
            NodeStore.of(stream, found.readings, found.since) if found is not None else NodeStore.of(stream),
        )

    def _settle(self, batch: Batch) -> None:
        """Count how the readings ended, and let the receipts go."""
        metrics, work = self._services.metrics, batch.work
        metrics.outcomes["committed"].inc(len(work.readings) + len(work.records) - len(work.conflicts))
        if batch.duplicate or work.conflicts:
            metrics.outcomes["duplicate"].inc(batch.duplicate + len(work.conflicts))
        if batch.quarantined or work.rejected:
            metrics.outcomes["quarantined"].inc(batch.quarantined + len(work.rejected))
            for item in (*work.quarantined, *work.rejected):
                metrics.quarantined.labels(item.cause).inc()
        if batch.refused:
            metrics.outcomes["refused"].inc(batch.refused)
        self.in_hand = 0
        for reading in work.readings:
            if reading.flags:
                metrics.count_flags(reading.flags)
        for sid, stream in batch.receipts.items():
            if stream.watermark:
                self._services.receipt(self.name, sid, stream.watermark)

    async def _note_late(self, work: Work) -> None:
        """Remember the span of what came long after it was measured: an outage whose readings are here now."""
        late = [
            row
            for row in work.readings
            if row.received_at - row.measured_at > LATE_FROM
            # What came live was late by an outage if it is of before its end. Else the device's clock is slow.
            and (row.flags & _BACKLOG or row.measured_at < self._resumed_at)
        ]
        if not late:
            return
        stack_id = late[0].stack_id
        first, last = min(row.measured_at for row in late), max(row.measured_at for row in late)
        now_s, before = self._services.monotonic(), self._recovering
        if before is not None and (before.stack_id != stack_id or first - before.until > ADJOINING):
            await self._note_recovery()
            before = None
        if before is None:
            before = Recovering(work.factory_id, stack_id, first, last, 0, now_s)
        self._recovering = replace(
            before,
            since=min(first, before.since),
            until=max(last, before.until),
            readings=before.readings + len(late),
            last_s=now_s,
        )

    def _note_replayed(self, work: Work) -> None:
        """What comes out of quarantine was never shown to a rule, though it may have come in time."""
        times = [row.measured_at for row in work.readings if row.flags & _BACKLOG]
        if times:
            self._services.late(self.intake.site, min(times), max(times))

    def _silence_s(self) -> float:
        return 0.0 if self._heard_at is None else self._services.monotonic() - self._heard_at

    async def _note_recovery(self) -> None:
        """Keep what was recovered, for the pages."""
        if (found := self._recovering) is not None:
            where, span = (found.factory_id, found.stack_id), (found.since, found.until)
            await self._services.store.add_recovery(self.name, *where, *span, found.readings)
            self._recovering = None
            if found.stack_id == self.intake.site.stack.id:  # else it has moved: the people there are not concerned
                self._services.late(self.intake.site, *span)

    async def _update_live(self, batch: Batch) -> None:
        before, newest = self.snapshot, batch.newest
        online = batch.online if batch.online is not None else batch.heard or before.online
        if newest is not None and (before.measured_at is None or newest.measured_at >= before.measured_at):
            self._show(snapshot_of(self.intake.site, newest, online))
            if not newest.flags & _BACKLOG:
                await self._check_rules(newest.measured_at)
        elif online != before.online:
            self._show(msgspec.structs.replace(before, online=online))

    def _show(self, snapshot: Snapshot) -> None:
        if snapshot.online != self.snapshot.online:
            self._presence_since = self._services.clock()
        self.snapshot = snapshot
        self._services.live.publish(snapshot)

    async def _check_rules(self, measured_at: datetime | None = None) -> None:
        """Ask every rule of a live reading; without one, those on the timer, which go by the core's clock.

        Live readings only: late data must not raise an alert about a past that nobody can change.
        """
        now = self._services.clock()
        silence_s = max(0.0, self._services.hearing.silence_s(self._heard_at, self._services.monotonic()))
        looks_apart = max(LONGEST_SILENCE, timedelta(seconds=3 * self.idle_after_s))
        for instance in self.rules:
            on_timer = instance.rule.on_timer
            if measured_at is None and not on_timer:
                continue
            memory = self._memories.setdefault(instance.name, {})
            seen = Observation(self.intake.site, self.snapshot, now, silence_s, memory)
            standing = self._standings.get(instance.name, INACTIVE)
            at, apart = (now, looks_apart) if measured_at is None or on_timer else (measured_at, LONGEST_SILENCE)
            try:
                after, verdict = ask(instance, standing, seen, at, apart)
            except Exception:  # noqa: BLE001, S112  # a rule is a plugin: the fence has counted it, and the device goes on
                continue
            if after is not standing:
                await self._move_on(instance, standing, after, verdict, at)

    async def _move_on(
        self, instance: RuleInstance[AlertRule], before: Standing, after: Standing, verdict: Verdict, at: datetime
    ) -> None:
        """Open or end the alert in the database, where it comes to that, and only then stand elsewhere."""
        store, name = self._services.store, instance.name
        fired, fires = before.state is AlertState.FIRING, after.state is AlertState.FIRING
        if fires and not fired:
            await store.raise_alert(self.name, name, instance.severity, verdict.finding, at, after)
            self._services.alert_changed()
        elif fired and not fires:
            await store.clear_alert(self.name, name, at)
            self._services.alert_changed()
        elif is_worth_keeping(self._kept.get(name, INACTIVE), after):
            await store.keep_standing(self.name, name, after)
        else:
            self._standings[name] = after
            return
        self._kept[name] = after
        if after.state is AlertState.FIRING or any(instance is each for each in self.rules):
            self._standings[name] = after  # else its options have changed while this was kept

    async def _clear_what_nobody_configures(self) -> None:
        """End the alerts whose name has gone from the configuration: no rule would ever clear them.

        And forget in the database what other options of a rule have made void.
        """
        if self._configured is None:
            return
        for name in [name for name, kept in self._kept.items() if kept.since and name not in self._standings]:
            await self._services.store.keep_standing(self.name, name, INACTIVE)
            del self._kept[name]
        for name in [name for name in self._standings if name not in self._configured]:
            if self._standings[name].state is AlertState.FIRING:
                await self._services.store.clear_alert(self.name, name, self._services.clock())
                self._services.alert_changed()
                self._kept.pop(name, None)
            del self._standings[name]
