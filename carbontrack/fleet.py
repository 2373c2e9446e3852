"""The fleet: device id -> running actor. Starts, changes and stops actors as the registry says; tells them messages."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import NoReturn

import structlog

from carbontrack.actor import Actor, ActorState
from carbontrack.alerts import count_standings, rules_at, rules_of_factory
from carbontrack.device import DeviceActor, Rules, Services
from carbontrack.emissions.rate import site_pressure_kpa
from carbontrack.health import Birth, DeviceHealth, FleetFirmware, HealthState, NodeRecord, health_of, health_of_absent
from carbontrack.hookspecs import DecodeError, SensorDriver
from carbontrack.model import (
    MIN_DATETIME,
    AlertSettings,
    Device,
    DeviceStatus,
    Flood,
    Outcome,
    Payload,
    Quarantined,
    Site,
    Snapshot,
    Stranger,
)
from carbontrack.overload import BURST_S
from carbontrack.tiers import Measured, reading_of
from carbontrack.words import N_

log = structlog.get_logger(__name__)

MOST_STRANGERS = 500
"""Unknown devices that are remembered, so that an operator can see who knocks."""


MOST_AT_ONCE = 1000
"""Messages that one sender may wait for at once."""
ASKED_SHARE = 4
"""Messages whose sender waits take a quarter of a mailbox at most."""


NODE_RECORD_COUNTS = timedelta(days=1)
"""What a device said of itself before that says nothing about now, so it is not looked for after a start."""


DISABLED = N_("The device is disabled: nothing is taken from it, so nothing is known of it.")
NOT_STARTED = N_("The platform has not begun to listen to it yet.")


class Undelivered(Exception):
    """Messages that were not all taken and committed. They have to be sent again; what is kept already stays once.

    ``reason`` is one of ``metrics.DELIVERIES``, or ``not_committed`` (not in time), or ``stopped`` (the device was
    taken off, or the core ends). ``refused``: how many never reached the actor.
    """

    def __init__(self, reason: str, refused: int, room_in_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused
        self.room_in_s = room_in_s
        """Of a flood: when they would be within the allowance."""


class Fleet:
    """All registered devices. Nothing here waits but :meth:`deliver`, :meth:`sync` and :meth:`close`."""

    def __init__(self, services: Services, drivers: Mapping[str, SensorDriver]) -> None:
        self.canary: Actor[Payload] | None = None
        """Who takes the canary's messages; it is no device."""
        self.strangers: dict[str, Stranger] = {}
        self._services = services
        self._drivers = drivers
        self._rules: Rules = ()
        self._settings = AlertSettings()
        self._rules_of: dict[int, Rules] = {}
        """The rules as each factory has adjusted them, where somebody has asked."""
        self._configured: frozenset[str] | None = None
        self._actors: dict[str, DeviceActor] = {}
        self._disabled: set[str] = set()
        self._births: dict[str, Payload] = {}
        """What disabled devices said of themselves, for when they are enabled."""
        self._sites: dict[str, Site] = {}
        self._lock = asyncio.Lock()

    # --- the way of a message

    def tell(self, payload: Payload) -> str:
        """Hand a message to its device's actor; the delivery's name (``metrics.DELIVERIES``). Never waits."""
        actor = self._actors.get(payload.device_id)
        if actor is None:
            if self.canary is not None and payload.device_id == self.canary.name:
                return "delivered" if self.canary.tell(payload) else "mailbox_full"
            return self._tell_nobody(payload)
        if not self._allows(actor, payload.received_at_ms):
            return "flooding"
        return "delivered" if actor.tell(payload, later=payload.channel == "backlog") else _why_refused(actor)

    async def deliver(self, payloads: Sequence[Payload], patience_s: float) -> Outcome:
        """Hand data of one device to its actor and return when they are committed, with what became of all of them.

        Raises :class:`Undelivered` where one of them was not taken, or is not committed after ``patience_s``. What
        was taken before is kept all the same, and is a duplicate when it comes again.
        """
        count, now_ms = len(payloads), payloads[0].received_at_ms
        actor = self._actor(payloads[0].device_id, count)
        if not self._allows(actor, now_ms, count):
            raise Undelivered("flooding", count, actor.allowance.has_room_in_s(self._services.messages_per_s, count))
        return await self._wait_for(actor, payloads, patience_s)

    async def replay(self, item: Quarantined, patience_s: float) -> Outcome:
        """Hand what is in quarantine to its device's actor once more, with the time when it came first.

        What is kept already is a duplicate; what cannot be read still is ``quarantined``, with its causes, and stays
        where it is. Raises :class:`Undelivered`.
        """
        actor = self._actor(item.device_id, 1)
        # By the second lane, and not as live: no alert begins for what was long ago.
        payload = Payload(item.device_id, "backlog", item.body, round(item.received_at.timestamp() * 1000))
        return await self._wait_for(actor, [payload], patience_s, again=True)

    def _actor(self, device_id: str, count: int) -> DeviceActor:
        actor = self._actors.get(device_id)
        if actor is None:
            raise Undelivered("disabled_device" if device_id in self._disabled else "unknown_device", count)
        return actor

    async def _wait_for(
        self, actor: DeviceActor, payloads: Sequence[Payload], patience_s: float, *, again: bool = False
    ) -> Outcome:
        count = len(payloads)
        outcome, told = Outcome(), 0
        # A few at a time: there has to be room for what comes by the broker.
        at_once = max(1, self._services.mailbox_size // ASKED_SHARE)
        try:
            async with asyncio.timeout(patience_s):
                while told < count:
                    answers = []
                    for payload in payloads[told : told + at_once]:
                        answer = actor.ask(payload, again=again)
                        if answer is None:
                            raise Undelivered(_why_refused(actor), count - told)
                        answers.append(answer)
                        told += 1
                    for became in await asyncio.gather(*answers):
                        if became is None:
                            raise Undelivered("stopped", count - told)
                        outcome += became
        except TimeoutError:
            reason = "parked" if actor.state is ActorState.PARKED else "not_committed"
            raise Undelivered(reason, count - told) from None
        return outcome

    def _allows(self, actor: DeviceActor, now_ms: int, count: int = 1) -> bool:
        if actor.allowance.takes(now_ms, self._services.messages_per_s, count):
            return True
        if actor.allowance.refused == count:
            log.warning("a device floods: what is too much is refused until it slows down", device=actor.name)
        return False

    def credit(self, device_id: str) -> float:
        """How many messages of backlog a second a device may send now, as its receipts say it."""
        return self._services.drain.credit(device_id)

    @property
    def most_at_once(self) -> int:
        """So many messages are within a device's allowance after a minute's silence; more would never be."""
        return min(MOST_AT_ONCE, int(self._services.messages_per_s * BURST_S))

    def device(self, device_id: str) -> Device | None:
        """A device of the registry, disabled or not."""
        site = self._sites.get(device_id)
        return site.device if site is not None else None

    def _tell_nobody(self, payload: Payload) -> str:
        device_id = payload.device_id
        if device_id in self._disabled:
            if payload.channel == "state":
                self._births[device_id] = payload
            return "disabled_device"
        known = self.strangers.pop(device_id, None)
        birth = payload if payload.channel == "state" else (known.birth if known else None)
        first_seen_ms = known.first_seen_ms if known else payload.received_at_ms
        self.strangers[device_id] = Stranger(device_id, first_seen_ms, known.messages + 1 if known else 1, birth)
        if len(self.strangers) > MOST_STRANGERS:
            del self.strangers[next(iter(self.strangers))]
        return "unknown_device"

    # --- the registry

    async def sync(self, sites: Sequence[Site]) -> None:
        """Make the running actors those of the registry: start the new, change the changed, stop the gone."""
        async with self._lock:
            wanted = {site.device.device_id: site for site in sites}
            active = {name: site for name, site in wanted.items() if site.device.status is DeviceStatus.ACTIVE}
            self._disabled = wanted.keys() - active.keys()
            self._births = {name: birth for name, birth in self._births.items() if name in wanted}
            gone = [name for name in self._actors if name not in active]
            moved = {
                name for name in active if name in self._sites and self._sites[name].factory != active[name].factory
            }
            if gone or moved:
                self._services.live.begin_anew()
            for stopped in await self._stop(gone):
                stopped.leave()
            for name, site in active.items():
                actor = self._actors.get(name)
                if actor is not None and self._sites[name] != site:
                    actor.settings_changed(site, self._driver(site))
                    self._give_rules(actor, site)
            new = {name: site for name, site in active.items() if name not in self._actors}
            self._sites = wanted
            if new:
                await self._start(new)
            if await self._services.store.clear_alerts_of_disabled(self._services.clock()):
                self._services.alert_changed()

    def follow(self, drivers: Mapping[str, SensorDriver], rules: Rules, configured: Iterable[str]) -> None:
        """Have all devices use these drivers and rules from now on; ``configured`` names every configured alert.

        An open alert whose name is not configured any more is cleared at the next look at its device; one whose rule
        is only not there now (its plugin is parked) stays open.
        """
        self._drivers, self._rules, self._configured = drivers, rules, frozenset(configured)
        self._rules_of.clear()
        for name, actor in self._actors.items():
            site = self._sites[name]
            self._give_rules(actor, site)
            if (driver := self._driver(site)) is not actor.intake.driver:
                actor.settings_changed(site, driver)

    def adjust(self, settings: AlertSettings) -> None:
        """Have each factory's devices use the rules as it has adjusted them. Where nothing changes, holds go on."""
        if settings == self._settings:
            return
        self._settings = settings
        self._rules_of.clear()
        for name, actor in self._actors.items():
            self._give_rules(actor, self._sites[name])

    def rules_for(self, site: Site) -> Rules:
        """The rules that watch a device, as its factory has adjusted them."""
        factory_id = site.factory.id
        if (rules := self._rules_of.get(factory_id)) is None:
            rules = self._rules_of[factory_id] = rules_of_factory(self._rules, self._settings, factory_id)
        return rules_at(rules, site)

    def _give_rules(self, actor: DeviceActor, site: Site) -> None:
        if self._configured is None:
            return
        rules, configured = self.rules_for(site), self._configured
        if len(rules) != len(self._rules):  # what does not watch it any more is cleared
            configured -= {instance.name for instance in self._rules} - {instance.name for instance in rules}
        actor.rules_changed(rules, configured)

    async def _start(self, new: Mapping[str, Site]) -> None:
        """Start actors with what the database has of them, read for all at once."""
        store = self._services.store
        one = next(iter(new)) if len(new) == 1 else None
        streams = await store.streams(one)
        newest = await store.newest_readings()
        heard = await store.last_heard()
        records = await store.newest_health(self._services.clock() - NODE_RECORD_COUNTS)
        # Until somebody was heard last (the canary, if nobody else) the core was there, and so was who had been heard
        # shortly before.
        last = max(heard.values(), default=MIN_DATETIME)
        patience = timedelta(seconds=self._services.offline_after_s)
        standings = await store.standings()
        for name, site in new.items():
            actor = DeviceActor(site, self._driver(site), self._services, streams.get(name, []))
            self._give_rules(actor, site)
            row = newest.get(name)
            measured = Measured(site.stack.id, site.stack.plans, site_pressure_kpa(site.factory))
            was_there = name in heard and last - heard[name] <= patience
            reading = reading_of(row, measured) if row is not None else None
            actor.restore(reading, standings.get(name, {}), online=was_there)
            if name in records:
                actor.note_node_record(NodeRecord.of(*records[name]))
            actor.start()
            self._actors[name] = actor
            stranger = self.strangers.pop(name, None)
            birth = self._births.pop(name, stranger.birth if stranger is not None else None)
            if birth is not None:
                actor.tell(birth)
        log.info("devices started", devices=len(new), running=len(self._actors))

    async def _stop(self, names: Sequence[str]) -> list[DeviceActor]:
        actors = [self._actors.pop(name) for name in names if name in self._actors]
        await asyncio.gather(*(actor.stop() for actor in actors))
        for actor in actors:
            # What it never committed gets no receipt: the device sends it again, to whoever is there then.
            self._services.metrics.outcomes["refused"].inc(actor.in_hand)
        return actors

    def _driver(self, site: Site) -> SensorDriver:
        driver = self._drivers.get(site.device.sensor)
        if driver is None:
            return _missing_driver(site.device.sensor)
        return driver

    async def close(self) -> None:
        """Let every actor finish what waits, and stop."""
        async with self._lock:
            await self._stop(list(self._actors))

    # --- what operators and pages ask

    def is_online(self, device_id: str) -> bool:
        """Whether a device is connected, as far as anybody knows."""
        actor = self._actors.get(device_id)
        return actor is not None and actor.snapshot.online

    def birth(self, device_id: str) -> Birth | None:
        """What a device said of itself when it connected last, since the start."""
        actor = self._actors.get(device_id)
        return actor.birth if actor is not None else None

    def snapshot(self, device_id: str) -> Snapshot | None:
        """The live state of a device that runs."""
        actor = self._actors.get(device_id)
        return actor.snapshot if actor is not None else None

    def snapshots(self) -> dict[str, Snapshot]:
        """The live state of every running device."""
        return {name: actor.snapshot for name, actor in self._actors.items()}

    def states(self) -> dict[str, str]:
        """Every registered device's actor state, or ``disabled``."""
        states = dict.fromkeys(self._disabled, "disabled")
        states.update((name, actor.state.value) for name, actor in self._actors.items())
        return states

    def health(self, now: datetime, names: Iterable[str] | None = None) -> dict[str, DeviceHealth]:
        """How registered devices are doing, by device id: these, or all of them (None)."""
        fleet = FleetFirmware.of(it.birth.firmware for it in self._actors.values() if it.birth is not None)
        return {
            name: health_of(self._actors[name].facts(), now, fleet)
            if name in self._actors
            else health_of_absent(name, DISABLED if name in self._disabled else NOT_STARTED)
            for name in (self._sites if names is None else names)
            if name in self._sites
        }

    def errors(self) -> dict[str, str]:
        """Why an actor is backing off or parked."""
        return {name: actor.last_error for name, actor in self._actors.items() if actor.failures}

    def floods(self, now_ms: int) -> list[Flood]:
        """Devices that send more than they may, the worst first."""
        per_s = self._services.messages_per_s
        found = (actor.allowance.flood(name, now_ms, per_s) for name, actor in self._actors.items())
        return sorted((flood for flood in found if flood), key=lambda flood: -flood.messages_per_s)

    def waiting_since(self) -> float | None:
        """Monotonic time since which some device's messages wait for their commit.

        A device that fails by itself, or is parked for that, is not counted: it says nothing of the database.
        """
        waits = (actor.waiting_since for actor in self._actors.values() if not actor.fails_alone)
        return min((since for since in waits if since is not None), default=None)

    async def unpark(self, device_id: str) -> None:
        """Take a parked device back to work."""
        actor = self._actors.get(device_id)
        if actor is not None:
            actor.revive()

    def measure(self) -> None:
        """Set the gauges that are counted when somebody asks, rather than with every message."""
        metrics = self._services.metrics
        actors = self._actors.values()
        counts = Counter(actor.state.value for actor in actors)
        for state in ActorState:
            metrics.actors.labels(state.value).set(counts.get(state.value, 0))
        metrics.actors.labels("disabled").set(len(self._disabled))
        metrics.in_flight.set(sum(actor.in_hand for actor in actors))
        depths = [len(actor.mailbox) + len(actor.later) for actor in actors]
        metrics.mailbox_depth.set(sum(depths))
        metrics.mailbox_deepest.set(max(depths, default=0))
        metrics.devices_flooding.set(len(self.floods(time.time_ns() // 1_000_000)))
        metrics.devices_draining.set(self._services.drain.draining)
        metrics.count_alerts("devices", count_standings(it for actor in actors for it in actor.standings.items()))
        states = Counter(found.overall for found in self.health(self._services.clock()).values())
        for overall in HealthState:
            metrics.device_health.labels(overall.value).set(states[overall])
        metrics.devices_online.set(sum(actor.snapshot.online for actor in actors))


def _why_refused(actor: DeviceActor) -> str:
    return "parked" if actor.state is ActorState.PARKED else "mailbox_full"


@cache
def _missing_driver(name: str) -> SensorDriver:
    """Stands in for a driver that no plugin brings: each payload is kept in quarantine with what to do."""

    def decode(payload: Payload) -> NoReturn:  # noqa: ARG001  # whatever it is
        raise DecodeError("no_driver", f"no plugin brings the sensor driver {name!r}: enable one, or change the device")

    return SensorDriver(name=name, title="missing driver", decode=decode)
