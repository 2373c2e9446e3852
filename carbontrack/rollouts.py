"""Firmware on its way to devices: stage by stage, and no further where devices fail.

What happens next is a pure step (:func:`advance`) over a roll-out, its devices and what is seen of them; the desk
around it takes births and reports, keeps what became of it, and only then sends. So a core that starts anew goes on
where the database is, and a device is never offered more than was kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

import msgspec
import structlog

from carbontrack.firmware import (
    ENDS,
    FAILURES,
    FETCHING,
    HELD,
    DeviceFirmware,
    Ended,
    FirmwareImage,
    Plan,
    Rollout,
    RolloutState,
    Update,
    UpdateState,
)
from carbontrack.health import Birth
from carbontrack.metrics import Metrics
from carbontrack.model import PLATFORM, Device, Flag, Origin, Payload, Snapshot
from carbontrack.outbound import Send
from carbontrack.store import Choice, Outlook, Store
from carbontrack.tasks import look_at_news
from carbontrack.words import N_

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
LOOKS_APART_S = 0.1
ANSWER_WITHIN = timedelta(minutes=20)
"""A device that is connected says so soon whether it takes an image; the longest jitter is half of this."""
STALLED_AFTER = timedelta(hours=2)
"""A download of which a connected device has said nothing for so long goes on no more."""
LOST_AFTER = timedelta(hours=1)
"""Whoever restarts to take an image is back within this, or its new firmware does not connect."""
SILENT_AFTER = timedelta(minutes=10)
"""A connected device whose newest reading is older delivers none."""
WATCHED_FOR = timedelta(hours=1)
"""For so long after the time to watch, a device that is connected and not well may still become it."""
SEEN_EVERY = timedelta(minutes=5)
MOST_ANSWERS = 10_000
BIRTHS_AT_ONCE = 500
LONGEST_JITTER_S = 600
JITTER_PER_DEVICE_S = 2
MOST_KEPT_IMAGES = 2
"""Images whose bytes stay in memory while they are handed out: 4 MiB each at most."""
FAULTS = Flag.CO2_FAULT | Flag.TEMPERATURE_OPEN | Flag.TEMPERATURE_FAULT | Flag.VELOCITY_FAULT
OWN_ERRORS: Mapping[str, str] = {
    "no_answer": N_("It is connected and does not answer the offer: does its firmware take updates?"),
    "stalled": N_("Its download does not go on."),
    "lost": N_("It restarted and did not come back."),
    "silent": N_("It has the image and delivers no readings."),
    "sensor_fault": N_("With the image it reports a fault of a sensor that it did not report before."),
}
"""Why the platform itself counts a device as failed."""
NODE_ERRORS: Mapping[str, str] = {
    "hw": N_("The image is for other hardware."),
    "older": N_("The image is not newer than what it runs."),
    "min": N_("What it runs is too old for this image."),
    "size": N_("The image does not fit into its memory."),
    "signature": N_("The image is not signed by the key that the device knows."),
    "hash": N_("What it downloaded is not the image, twice."),
    "offer": N_("It could not read the offer."),
    "storage": N_("Its memory did not take the image."),
    "url": N_("It cannot download from this address."),
    "link": N_("Its link breaks off."),
    "short": N_("Its downloads end too early."),
    "range": N_("What it asked for and what came do not fit."),
    "tried": N_("It has tried this image before and gone back: only a forced roll-out lets it try again."),
}
"""What nodes say why (docs/protocol.md)."""


# --- what is seen, and what follows: pure


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a device at a moment."""

    is_online: bool = False
    is_born: bool = False
    """Whether it has just connected: it may have lost what it was offered."""
    reading_at: datetime | None = None
    """When its newest reading came."""
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for all roll-outs."""

    downloads_at_once: int = 20
    out_of_reach: timedelta = timedelta(hours=24)
    """Nobody waits longer for a device that is away."""


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of a roll-out: how it stands now, the devices that changed, and what they are to be sent."""

    rollout: Rollout
    updates: Mapping[int, Update]
    """All of them, by their number."""
    offers: tuple[Update, ...] = ()
    withdrawals: tuple[Update, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What a node says of an image on ``up/res``."""

    ver: str = ""
    st: str = ""
    pct: int = 0
    err: str = ""


_decode_report = msgspec.json.Decoder(Report).decode
_SAID = {
    "waiting": UpdateState.OFFERED,
    **{it.value: it for it in UpdateState if it not in {UpdateState.WAITING, UpdateState.OFFERED}},
}


def reported(update: Update, report: Report, now: datetime) -> Update:
    """A device's update after it has said something of it. What it cannot mean is ignored."""
    state = _SAID.get(report.st)
    if state is None or (state not in {UpdateState.CONFIRMED, UpdateState.ROLLED_BACK} and update.state not in HELD):
        return update  # of an offer that it does not have any more
    error = "".join(it for it in report.err if it.isprintable())[:60]
    pct = 100 if state is UpdateState.CONFIRMED else min(max(report.pct, 0), 100)
    if state is update.state and state in ENDS:
        return update
    return replace(
        update, state=state, pct=pct, error=error, changed_at=now, seen_at=now, ended_at=now if state in ENDS else None
    )


def connected(update: Update, version: str, boot: int | None, target: str, now: datetime) -> Update:
    """A device's update after it has connected and said what it runs."""
    is_new_start = boot is None or update.boot is None or boot != update.boot
    update = replace(update, boot=boot if boot is not None else update.boot, seen_at=now)
    if version == target:
        if update.state is UpdateState.CONFIRMED:
            return update
        return replace(update, state=UpdateState.CONFIRMED, pct=100, error="", changed_at=now, ended_at=now)
    went_back = update.state is UpdateState.REBOOTING or (update.state is UpdateState.CONFIRMED and boot is not None)
    if went_back and is_new_start:
        return replace(update, state=UpdateState.ROLLED_BACK, changed_at=now, ended_at=now)
    return update


def advance(
    rollout: Rollout,
    updates: Mapping[int, Update],
    sights: Mapping[int, Sight],
    now: datetime,
    limits: Limits,
    room: int,
) -> Step:
    """What a roll-out comes to now. ``sights`` are by the update's number, ``room`` is how many may begin to download.

    Of a roll-out that is over only offers are withdrawn.
    """
    if not rollout.is_live:
        return _withdrawn(rollout, updates, sights)
    updates = {key: _looked_at(it, sights[key], now) for key, it in updates.items()}
    rollout, updates = _moved_on(rollout, updates, sights, now, limits)
    if not rollout.is_live:
        return _withdrawn(rollout, updates, sights)
    return _offered(rollout, updates, sights, now, room)


def failures(updates: Iterable[Update]) -> int:
    """How many devices of a roll-out have failed or gone back."""
    return sum(it.state in FAILURES for it in updates)


def _looked_at(update: Update, sight: Sight, now: datetime) -> Update:
    """An update whose device was looked at: it was seen, or it has failed without a word."""
    if update.is_over or update.changed_at is None:
        return _seen(update, sight, now)
    if update.state is UpdateState.REBOOTING:
        is_lost = now - update.changed_at >= LOST_AFTER
        return _failed(update, "lost", now) if is_lost else update
    if not sight.is_online or sight.is_born:
        return _seen(update, sight, now)
    if update.state is UpdateState.OFFERED and now - update.changed_at >= ANSWER_WITHIN:
        return _failed(update, "no_answer", now)
    if update.state in HELD and now - update.changed_at >= STALLED_AFTER:
        return _failed(update, "stalled", now)
    return _seen(update, sight, now)


def _seen(update: Update, sight: Sight, now: datetime) -> Update:
    is_due = update.seen_at is None or now - update.seen_at >= SEEN_EVERY
    return replace(update, seen_at=now) if sight.is_online and is_due and not update.is_over else update


def _failed(update: Update, error: str, now: datetime) -> Update:
    return replace(update, state=UpdateState.FAILED, error=error, changed_at=now, ended_at=now)


def is_out_of_reach(update: Update, sight: Sight, rollout: Rollout, now: datetime, limits: Limits) -> bool:
    """Whether nobody waits for a device any more: it was away for too long. If it comes back it gets the image."""
    if sight.is_online or update.is_over or update.state is UpdateState.REBOOTING:
        return False
    since = max(filter(None, (update.seen_at, rollout.stage_began_at)))
    return now - since >= limits.out_of_reach


def trouble(update: Update, sight: Sight, now: datetime) -> str:
    """What is wrong with a device that has the image; one of :data:`OWN_ERRORS`, or empty."""
    if update.state is not UpdateState.CONFIRMED:
        return ""
    since = update.ended_at or now
    if sight.reading_at is None or sight.reading_at < since:
        return "silent"
    if sight.is_online and now - sight.reading_at >= SILENT_AFTER:
        return "silent"
    return "sensor_fault" if sight.faults & ~update.faults else ""


def _moved_on(
    rollout: Rollout, updates: dict[int, Update], sights: Mapping[int, Sight], now: datetime, limits: Limits
) -> tuple[Rollout, dict[int, Update]]:
    """A roll-out that has stopped, has a stage more, is done, or waits on."""
    if failures(updates.values()) >= rollout.failure_limit:
        return _over(rollout, Ended.FAILURES, now), updates
    reached = {key: it for key, it in updates.items() if it.stage <= rollout.stage}
    waits = any(
        not it.is_over and not is_out_of_reach(it, sights[key], rollout, now, limits) for key, it in reached.items()
    )
    has_succeeded = any(it.state is UpdateState.CONFIRMED for it in reached.values())
    if not waits and not has_succeeded and failures(reached.values()):
        return _over(rollout, Ended.NOBODY, now), updates
    if waits or not has_succeeded:  # where nobody could be reached it goes on when somebody can
        return replace(rollout, settled_at=None), updates
    rollout = replace(rollout, settled_at=rollout.settled_at or now)
    late = now - (rollout.settled_at or now) - timedelta(seconds=rollout.soak_s)
    if late < timedelta(0):
        return rollout, updates
    wrong = {key: why for key, it in reached.items() if (why := trouble(it, sights[key], now))}
    for key, why in wrong.items():
        if late >= (WATCHED_FOR if sights[key].is_online else limits.out_of_reach):
            updates = updates | {key: _failed(updates[key], why, now)}
    if failures(updates.values()) >= rollout.failure_limit:
        return _over(rollout, Ended.FAILURES, now), updates
    return (rollout if wrong else _next_stage(rollout, now)), updates


def _next_stage(rollout: Rollout, now: datetime) -> Rollout:
    """A roll-out of which a stage ended well."""
    if rollout.state is not RolloutState.RUNNING:
        return rollout
    if rollout.stage + 1 < rollout.stage_count:
        return replace(rollout, stage=rollout.stage + 1, stage_began_at=now, settled_at=None)
    return _over(rollout, Ended.ALL, now)


def _over(rollout: Rollout, ended: Ended, now: datetime) -> Rollout:
    state = RolloutState.DONE if ended is Ended.ALL else RolloutState.STOPPED
    return replace(rollout, state=state, ended=ended, ended_at=now, ended_by=PLATFORM.name)


def _withdrawn(rollout: Rollout, updates: Mapping[int, Update], sights: Mapping[int, Sight]) -> Step:
    taken = {
        key: replace(it, state=UpdateState.WAITING, pct=0, error="")
        for key, it in updates.items()
        if it.state in HELD and (sights[key].is_online or sights[key].is_born)
    }
    return Step(rollout, {**updates, **taken}, withdrawals=tuple(taken.values()))


def _offered(
    rollout: Rollout, updates: Mapping[int, Update], sights: Mapping[int, Sight], now: datetime, room: int
) -> Step:
    """Offer the image to who has lost it, and, while it runs, to who waits and is there; to no more than have room."""
    offers: dict[int, Update] = {}
    lost: dict[int, Update] = {}
    for key, it in updates.items():
        if it.stage > rollout.stage or not sights[key].is_born or it.state not in HELD:
            continue
        if room > 0:
            offers[key] = replace(it, changed_at=now)
            room -= 1
        else:
            lost[key] = replace(it, state=UpdateState.WAITING, pct=0)
    if rollout.state is RolloutState.RUNNING:
        for key, it in updates.items():
            is_there = sights[key].is_online or sights[key].is_born
            if room > 0 and it.state is UpdateState.WAITING and it.stage <= rollout.stage and is_there:
                sight = sights[key]
                offers[key] = replace(
                    it,
                    state=UpdateState.OFFERED,
                    pct=0,
                    error="",
                    faults=sight.faults,
                    offered_at=now,
                    changed_at=now,
                    seen_at=now,
                )
                room -= 1
    return Step(rollout, {**updates, **lost, **offers}, offers=tuple(offers.values()))


# --- people


async def outlook(store: Store, image: FirmwareImage, choice: Choice, plan: Plan, now: datetime) -> Outlook:
    """What a roll-out would come to. Raises :class:`~carbontrack.firmware.FirmwareError`."""
    return await store.outlook(image, choice, plan, await store.last_heard(), now)


async def start_rollout(
    store: Store, image: FirmwareImage, choice: Choice, plan: Plan, *, by: Origin, now: datetime
) -> Rollout:
    """Begin a roll-out; a running core sends the offers. Raises :class:`~carbontrack.firmware.FirmwareError`."""
    return await store.start_rollout(image, choice, plan, await store.last_heard(), by=by, now=now)


# --- the desk


class Fleet(Protocol):
    """What the desk asks the running devices."""

    def is_online(self, device_id: str) -> bool: ...
    def snapshot(self, device_id: str) -> Snapshot | None: ...
    def device(self, device_id: str) -> Device | None: ...


class Permit(Enum):
    """Whether a device may download an image now."""

    YES = "yes"
    LATER = "later"
    NO = "no"


@dataclass(slots=True)
class _Watched:
    """A roll-out that the desk looks after."""

    rollout: Rollout
    updates: dict[int, Update] = field(default_factory=dict)


class RolloutDesk:
    """One desk for all roll-outs. Whoever composes the core sets ``send`` and ``fleet``.

    ``base_url`` is the address by which devices reach the platform; without it nothing is offered.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.send: Send | None = None
        self.fleet: Fleet | None = None
        self.base_url = base_url
        self.limits = limits or Limits()
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._news = asyncio.Event()
        self._births: dict[str, Birth] = {}
        self._answers: list[Payload] = []
        self._known: dict[str, DeviceFirmware] | None = None
        """What devices run; None: it was not read yet."""
        self._watched: dict[int, _Watched] = {}
        self._unsent: dict[str, bytes] = {}
        """What was kept and could not be sent yet, by device; the newest counts."""
        self._contents: dict[int, bytes] = {}
        self._downloads = 0
        self._stopped: list[Rollout] = []
        """What stopped by itself lately."""

    # --- what others call: none of it waits, none of it raises

    def born(self, device_id: str, birth: Birth) -> None:
        """A device has connected and said what it is."""
        self._births[device_id] = birth
        self._news.set()

    def answered(self, payload: Payload) -> None:
        """A device says on ``up/res`` how far it is with an image."""
        if len(self._answers) < MOST_ANSWERS:
            self._answers.append(payload)
            self._news.set()
        else:
            self._metrics.order_answers_refused.labels("dropped").inc()

    def look_soon(self) -> None:
        """Something was written that devices are to be told."""
        self._news.set()

    def problems(self) -> list[str]:
        """Roll-outs that stopped by themselves in the last days, for those who run the platform."""
        why = {Ended.FAILURES: "too many devices failed", Ended.NOBODY: "no device has taken it"}
        lost = [
            "A roll-out of firmware waits: devices do not know where to download from. Set http.public_url."
            for it in self._watched.values()
            if it.rollout.is_live and not self.base_url
        ]
        return lost[:1] + [
            f"The roll-out {it.id} of firmware {it.image.version} for {it.image.hardware} stopped by itself: "
            f"{why[it.ended]}. See /hq/firmware/."
            for it in self._stopped
        ]

    # --- downloads

    def permit(self, device_id: str, version: str, hardware: str) -> Permit:
        """Whether a device may download this image now: only one that was offered it."""
        for watched in self._watched.values():
            image = watched.rollout.image
            if (image.version, image.hardware) != (version, hardware) or not watched.rollout.is_live:
                continue
            for update in watched.updates.values():
                if update.device_id == device_id and update.stage <= watched.rollout.stage:
                    if update.state in HELD:
                        return Permit.YES
                    return Permit.LATER if update.state is UpdateState.WAITING else Permit.NO
        return Permit.NO

    @contextmanager
    def download(self) -> Iterator[bool]:
        """Takes one of the places for downloads until the block ends; False: there is none free."""
        if self._downloads >= self.limits.downloads_at_once:
            yield False
            return
        self._downloads += 1
        try:
            yield True
        finally:
            self._downloads -= 1

    async def content(self, image: FirmwareImage) -> bytes:
        """The bytes of an image. Raises LookupError where it is gone."""
        found = self._contents.pop(image.id, None) or await self._store.image_content(image.id)
        if found is None:
            raise LookupError(image.id)
        self._contents[image.id] = found  # the newest last
        while len(self._contents) > MOST_KEPT_IMAGES:
            del self._contents[next(iter(self._contents))]
        return found

    # --- the work

    async def keep(self) -> None:
        """Look until cancelled. What fails because something is away is begun again, and nothing is lost by it."""
        self._watched.clear()  # what is in memory may be ahead of the database
        self._known = None
        await look_at_news(self.look, self._news, apart_s=LOOKS_APART_S, every_s=LOOK_EVERY_S)

    async def look(self) -> None:
        """Take what came, decide, keep it, and then send."""
        self._news.clear()
        await self._learn()
        births = self._take_births()
        reports = list(self._answers)
        await self._keep_firmware(births)
        steps = self._steps(births, reports)
        if await self._keep(steps):
            for name in births:
                if self._births.get(name) is births[name]:
                    del self._births[name]
            del self._answers[: len(reports)]
            self._queue(steps)
        else:
            self._news.set()  # a person was quicker: look again at what is so now
        if self._births or self._answers:
            self._news.set()
        with suppress(ConnectionError):
            await self._send_all()
        self._measure()

    async def _learn(self) -> None:
        """Read the roll-outs that are open, and at first their devices."""
        found = {it.id: it for it in await self._store.open_rollouts()}
        for rollout_id, rollout in found.items():
            watched = self._watched.get(rollout_id)
            if watched is None:
                updates = {it.id: it for it in await self._store.updates(rollout_id)}
                self._watched[rollout_id] = _Watched(rollout, updates)
            else:
                watched.rollout = rollout
        for rollout_id in self._watched.keys() - found.keys():
            del self._watched[rollout_id]
        if self._known is None:
            self._known = {it.device_id: it for it in await self._store.device_firmware()}
        since = self._clock() - timedelta(days=3)
        self._stopped = [
            it
            for it in await self._store.rollouts(limit=5)
            if it.ended in {Ended.FAILURES, Ended.NOBODY} and it.ended_at is not None and it.ended_at >= since
        ]

    def _take_births(self) -> dict[str, Birth]:
        """Births of devices that the registry has, and not too many at once."""
        fleet = self.fleet
        if fleet is None:
            return {}
        found: dict[str, Birth] = {}
        for name, birth in list(self._births.items()):
            if fleet.device(name) is None:
                del self._births[name]
            elif len(found) < BIRTHS_AT_ONCE:
                found[name] = birth
        return found

    async def _keep_firmware(self, births: Mapping[str, Birth]) -> None:
        assert (self._known is not None and self.fleet is not None) or not births, "learnt before"
        changed: list[DeviceFirmware] = []
        now = self._clock()
        for name, birth in births.items():
            device = self.fleet.device(name) if self.fleet is not None else None
            if device is None or self._known is None:
                continue
            said = DeviceFirmware(
                device.id,
                name,
                device.factory_id,
                birth.firmware or "",
                birth.hardware or "",
                birth.boot,
                birth.mode or "",
                now,
            )
            before = self._known.get(name)
            if before is None or replace(before, heard_at=now) != said:
                changed.append(said)
        if changed and self._known is not None:
            await self._store.keep_device_firmware(changed)
            self._known.update({it.device_id: it for it in changed})

    # --- deciding

    def _steps(self, births: Mapping[str, Birth], reports: Sequence[Payload]) -> list[tuple[Rollout, Step]]:
        now = self._clock()
        told = [(payload.device_id, report) for payload in reports if (report := self._read(payload)) is not None]
        taken = {key: self._taken(watched, births, told, now) for key, watched in self._watched.items()}
        sights = {key: self._sights(taken[key].values(), births) for key in taken}
        room = self.limits.downloads_at_once - sum(
            it.state in FETCHING and sights[key][number].is_online and not sights[key][number].is_born
            for key, updates in taken.items()
            for number, it in updates.items()
        )
        steps = []
        for key, watched in self._watched.items():
            free = room if self.base_url else 0
            step = advance(watched.rollout, taken[key], sights[key], now, self.limits, free)
            room -= len(step.offers)
            steps.append((watched.rollout, step))
        return steps

    def _taken(
        self, watched: _Watched, births: Mapping[str, Birth], told: Sequence[tuple[str, Report]], now: datetime
    ) -> dict[int, Update]:
        """The devices of a roll-out after what they have said."""
        target = watched.rollout.image.version
        found = dict(watched.updates)
        by_name = {it.device_id: key for key, it in found.items()} if births or told else {}
        for name, report in told:
            key = by_name.get(name)
            if key is not None and report.ver == target:
                found[key] = reported(found[key], report, now)
        for name, birth in births.items():
            key = by_name.get(name)
            if key is not None:
                found[key] = connected(found[key], birth.firmware or "", birth.boot, target, now)
        return found

    def _read(self, payload: Payload) -> Report | None:
        try:
            return _decode_report(payload.body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            self._metrics.order_answers_refused.labels("unreadable").inc()
            return None

    def _sights(self, updates: Iterable[Update], births: Mapping[str, Birth]) -> dict[int, Sight]:
        fleet = self.fleet
        found = {}
        for it in updates:
            snapshot = fleet.snapshot(it.device_id) if fleet is not None else None
            found[it.id] = Sight(
                fleet is not None and fleet.is_online(it.device_id),
                it.device_id in births,
                snapshot.received_at if snapshot is not None else None,
                int(snapshot.flags & FAULTS) if snapshot is not None else 0,
            )
        return found

    async def _keep(self, steps: Sequence[tuple[Rollout, Step]]) -> bool:
        moved = [(before, step.rollout) for before, step in steps if before != step.rollout]
        changed = [
            it
            for before, step in steps
            for key, it in step.updates.items()
            if it != self._watched[before.id].updates[key]
        ]
        # Where only devices change, their roll-outs must still stand as they were looked at.
        looked_at = {before.id for before, _ in moved}
        also = [(it, it) for it, step in steps if it.id not in looked_at and (step.offers or step.withdrawals)]
        if (moved or changed) and not await self._store.keep_rollouts([*moved, *also], changed, by=PLATFORM):
            return False
        for before, step in steps:
            self._watched[before.id] = _Watched(step.rollout, dict(step.updates))
        for before, after in moved:
            self._tell(before, after)
        for it in changed:
            if it.state in ENDS:
                log.info("a device ended an update", device=it.device_id, state=it.state.value, error=it.error)
        return True

    def _tell(self, before: Rollout, after: Rollout) -> None:
        about = {"rollout": after.id, "version": after.image.version, "hardware": after.image.hardware}
        if before.is_live and not after.is_live:
            if after.state is RolloutState.DONE:
                log.info("a roll-out is done", **about)
            else:
                log.warning("a roll-out stopped by itself", why=after.ended.value, **about)
                self._metrics.rollouts_stopped.inc()
        elif after.stage != before.stage:
            log.info("a roll-out begins its next stage", stage=after.stage + 1, of=after.stage_count, **about)

    # --- sending

    def _queue(self, steps: Sequence[tuple[Rollout, Step]]) -> None:
        for _, step in steps:
            for update in step.offers:
                self._unsent[update.device_id] = self._offer(step.rollout, step.updates)
            for update in step.withdrawals:
                self._unsent[update.device_id] = WITHDRAWAL

    def _offer(self, rollout: Rollout, updates: Mapping[int, Update]) -> bytes:
        count = sum(it.stage <= rollout.stage and not it.is_over for it in updates.values())
        jitter_s = min((count - 1) * JITTER_PER_DEVICE_S, LONGEST_JITTER_S)
        return offer(rollout, self.base_url or "", max(jitter_s, 0))

    async def _send_all(self) -> None:
        for name, body in list(self._unsent.items()):
            if self.send is None:
                return
            await self.send(name, "fw", body)
            self._metrics.orders_sent.labels("firmware").inc()
            if self._unsent.get(name) is body:
                del self._unsent[name]

    def _measure(self) -> None:
        counts = dict.fromkeys(UpdateState, 0)
        live = 0
        for watched in self._watched.values():
            if watched.rollout.is_live:
                live += 1
                for it in watched.updates.values():
                    counts[it.state] += 1
        self._metrics.rollouts_live.set(live)
        for state, count in counts.items():
            self._metrics.firmware_updates.labels(state.value).set(count)


WITHDRAWAL = msgspec.json.encode({"v": 1, "ver": None})


def offer(rollout: Rollout, base_url: str, jitter_s: int) -> bytes:
    """The message on ``dn/fw`` (docs/protocol.md)."""
    image = rollout.image
    body: dict[str, object] = {
        "v": 1,
        "ver": image.version,
        "hw": image.hardware,
        "url": f"{base_url.rstrip('/')}/firmware/{image.version}/{image.hardware}",
        "size": image.size,
        "sha256": image.sha256,
        "sig": image.signature,
        "jitter_s": jitter_s,
    }
    if image.min_version:
        body["min"] = image.min_version
    if rollout.is_forced:
        body["force"] = True
    return msgspec.json.encode(body)
