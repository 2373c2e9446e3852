"""Tells devices what they are to be and to do: settings after each birth that lacks them, commands, and their answers.

Actors leave births and answers here and go on; one task works on them, so that nothing of it is in the way of a
reading. Nothing is retained at the broker: what a node still needs follows from its birth and the database
(docs/decisions/0025-settings-are-sent-at-birth.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from carbontrack.device_settings import (
    COMMAND_LASTS,
    MOST_ANSWER_BYTES,
    MOST_REV,
    CommandState,
    ConfigAnswer,
    ConfigState,
    DeviceCommand,
    DeviceConfig,
    DeviceSettings,
    Why,
    check_command,
    check_settings,
    chosen_settings,
    decode_command_answer,
    decode_config_answer,
    document_of,
    message,
    new_command_id,
)
from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.health import Birth
from carbontrack.metrics import Metrics
from carbontrack.model import PLATFORM, MonitoringPlan, Origin, Payload, Site
from carbontrack.outbound import Send
from carbontrack.store import NewConfig, Store, StoreUnavailable
from carbontrack.tasks import look_at_news

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
"""How soon what another process has written is seen, such as the command line's."""
LOOKS_APART_S = 0.1
"""Where a whole fleet connects at once, each look is for many."""
PLANS_EVERY = timedelta(seconds=30)
"""How soon a plan is seen that comes into force by itself."""
MOST_ANSWERS = 10_000
"""Answers that wait to be looked at."""
ANSWERS_AT_ONCE = 200
SENT_AT_ONCE = 200
CONFIGS_AT_ONCE = 100
SITES_AT_ONCE = 500
"""After so many devices the loop has its turn."""
REMEMBERED = timedelta(hours=1)
"""Of commands that have ended: a late answer still counts, and the same answer again is no stranger's."""
ACCEPTED_LASTS = timedelta(minutes=30)
"""A node that has begun with a command says within this how it ended, or never."""
OVERTAKEN_AGAIN = timedelta(minutes=1)
"""A node that claims to be ahead again and again does not make revisions faster than this."""
COMPLAIN_AGAIN = timedelta(minutes=1)


class _BrokerAway(Exception):
    """The broker is away: what is to be sent waits."""


@dataclass(slots=True)
class _Device:
    """What the desk knows of one device."""

    pk: int = 0
    was_born: bool = False
    """Whether it was heard to connect since the core began."""
    reported: int | None = None
    """The revision that it has, as it said itself last; None: it has not said, or takes no settings."""
    newest: DeviceConfig | None = None
    basis: tuple[MonitoringPlan, float] | None = None
    """The plan and the pressure that its newest document was compared with last."""
    commands: dict[str, DeviceCommand] = field(default_factory=dict)
    at_least: int = 1
    """No revision below this is of use: the node has other settings under that number."""
    overtaken_at: datetime | None = None


async def save_settings(
    store: Store, site: Site, settings: DeviceSettings, *, by: Origin, now: datetime
) -> DeviceConfig | None:
    """Make a revision of a device's settings; None where nothing changes.

    Raises :class:`~carbontrack.device_settings.SettingsError` for settings that no node takes. A running core sends it.
    """
    check_settings(settings)
    document = document_of(settings, plan_in_force(site.stack.plans, now.timestamp()), site_pressure_kpa(site.factory))
    made = await store.add_configs([NewConfig(site.device.id, document, Why.SETTINGS)], by=by)
    return made[0] if made else None


async def give_command(
    store: Store,
    device_id: str,
    cmd: str,
    args: Mapping[str, Any],
    *,
    by: Origin,
    now: datetime,
    lasts: timedelta = COMMAND_LASTS,
) -> DeviceCommand:
    """Let a command wait for a device. A running core sends it, at once or when the device connects within ``lasts``.

    Raises :class:`~carbontrack.device_settings.CommandError`, and RegistryError where too many wait already.
    """
    given = check_command(cmd, args)
    command = DeviceCommand(0, new_command_id(), device_id, cmd, given, by.name, now, now + lasts)
    return await store.add_command(command, by=by)


class DeviceDesk:
    """One desk for all devices. Whoever composes the core sets ``send`` and ``is_online``."""

    def __init__(
        self, store: Store, metrics: Metrics, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.send: Send | None = None
        self.is_online: Callable[[str], bool] = lambda _: False
        self.of_firmware: Callable[[Payload], None] = lambda _: None
        """Given what devices say of firmware, which is another desk's."""
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._news = asyncio.Event()
        self._births: dict[str, Birth] = {}
        self._answers: list[Payload] = []
        self._devices: dict[str, _Device] = {}
        self._sites: dict[str, Site] = {}
        self._open: set[str] = set()
        """Devices that something waits for."""
        self._born: set[str] = set()
        """Devices that have just connected, and to whom what they lack is sent once more."""
        self._changed_configs: dict[int, DeviceConfig] = {}
        self._changed_commands: dict[int, DeviceCommand] = {}
        self._last_config = self._last_command = -1
        """The newest rows that are known; -1: none was read yet."""
        self._revision = -1
        self._plans_at: datetime | None = None
        self._complained: dict[str, datetime] = {}

    # --- what others call: none of it waits, none of it raises

    def born(self, device_id: str, birth: Birth) -> None:
        """A device has connected and said what it is."""
        self._births[device_id] = birth
        self._news.set()

    def answered(self, payload: Payload) -> None:
        """A device says something on ``up/config`` or ``up/res``."""
        if not payload.body:
            return  # a retained message that was cleared
        if len(payload.body) > MOST_ANSWER_BYTES:
            self._complain(payload.device_id, "too_large", payload.body)
        elif len(self._answers) >= MOST_ANSWERS:
            self._complain(payload.device_id, "dropped", payload.body)
        else:
            self._answers.append(payload)
            self._news.set()

    def look_soon(self) -> None:
        """Something was written that devices are to be told."""
        self._news.set()

    def takes_settings(self, device_id: str) -> bool | None:
        """Whether a device says that it takes settings; None: it was not heard since the core began."""
        known = self._devices.get(device_id)
        return known.reported is not None if known is not None and known.was_born else None

    # --- the work

    async def keep(self) -> None:
        """Look until cancelled. What fails because something is away is begun again, and nothing is lost by it."""
        self._last_config = self._last_command = -1  # what is in memory may be ahead of the database
        await look_at_news(self.look, self._news, apart_s=LOOKS_APART_S, every_s=LOOK_EVERY_S)

    async def look(self) -> None:
        """Take what came, make revisions where plans changed, send what is to be sent, and keep what became of it."""
        self._news.clear()
        await self._learn()
        await self._follow_registry()
        self._take_births()
        taken = self._take_answers()
        await self._make_configs()
        await self._keep()
        del self._answers[:taken]  # only now: what is not kept is looked at again
        if self._answers:
            self._news.set()
        self._expire()
        with suppress(_BrokerAway):
            await self._send_all()
        await self._keep()
        self._measure()

    async def _learn(self) -> None:
        """Read what was written since the last look; at first, all that may matter."""
        store = self._store
        if self._last_config < 0:
            self._changed_configs.clear()
            self._changed_commands.clear()
            configs = await store.newest_configs()
            commands = await store.recent_commands(self._clock() - REMEMBERED)
            self._last_config = self._last_command = 0
            for known in self._devices.values():
                known.newest, known.basis, known.commands = None, None, {}
        else:
            configs = await store.configs_after(self._last_config)
            commands = await store.commands_after(self._last_command)
        for config in configs:
            self._last_config = max(self._last_config, config.id)
            self._take_config(config)
        for command in commands:
            self._last_command = max(self._last_command, command.id)
            self._device(command.device_id).commands[command.command_id] = command
            if command.is_open:
                self._open.add(command.device_id)

    def _device(self, device_id: str) -> _Device:
        return self._devices.setdefault(device_id, _Device())

    def _take_config(self, config: DeviceConfig) -> None:
        known = self._device(config.device_id)
        if known.newest is None or config.rev >= known.newest.rev:
            known.newest = config
            self._open.add(config.device_id)

    async def _follow_registry(self) -> None:
        """Know which devices there are, and which document each should have by now."""
        now, revision = self._clock(), await self._store.revision()
        if revision == self._revision and self._plans_at is not None and now - self._plans_at < PLANS_EVERY:
            return
        sites = {site.device.device_id: site for site in await self._store.sites()}
        for name in [
            name
            for name, known in self._devices.items()
            if name not in sites or known.pk not in {0, sites[name].device.id}
        ]:
            gone = self._devices.pop(name)  # one of the same name is another device, which may be the same node
            if name in sites and gone.reported is not None:
                self._devices[name] = _Device(was_born=True, reported=gone.reported)
        for number, (name, site) in enumerate(sites.items()):
            if (known := self._devices.get(name)) is not None:
                known.pk = site.device.id
                self._compare(known, site, now)
            if number % SITES_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._sites, self._revision, self._plans_at = sites, revision, now

    def _compare(self, known: _Device, site: Site, now: datetime) -> None:
        """Note whether a device may lack the plan and the pressure that are in force."""
        basis = plan_in_force(site.stack.plans, now.timestamp()), site_pressure_kpa(site.factory)
        if known.basis != basis:
            known.basis = None
            self._open.add(site.device.device_id)

    # --- births

    def _take_births(self) -> None:
        for name in [name for name in self._births if name in self._sites]:
            birth = self._births.pop(name)
            known = self._device(name)
            known.pk, known.was_born, known.reported = self._sites[name].device.id, True, birth.config
            self._open.add(name)
            self._born.add(name)
        for name in list(self._births):
            if len(self._births) > MOST_ANSWERS:
                del self._births[name]

    # --- answers

    def _take_answers(self) -> int:
        """Look at answers; how many they were."""
        some = self._answers[:ANSWERS_AT_ONCE]
        for payload in some:
            try:
                if payload.channel == "config":
                    self._take_config_answer(payload.device_id, decode_config_answer(payload.body))
                else:
                    self._take_command_answer(payload)
            except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
                self._complain(payload.device_id, "unreadable", payload.body, error)
            except Exception:  # whatever a stranger's node says, the next one is heard
                log.exception("an answer could not be taken", device=payload.device_id)
                self._complain(payload.device_id, "unreadable", payload.body)
        return len(some)

    def _take_config_answer(self, device_id: str, answer: ConfigAnswer) -> None:
        known = self._devices.get(device_id)
        newest = known.newest if known is not None else None
        codes = {it.code for it in answer.errors}
        if known is None or newest is None or answer.rev != newest.rev:
            # Of a revision that has been replaced since it was sent, or that this platform never made.
            self._count_answer(device_id, "config", "unknown", answer.rev)
            return
        is_taken = any((it.path, it.code) == ("rev", "value") for it in answer.errors)
        if not answer.ok and ("older" in codes or is_taken) and newest.rev <= answer.active <= MOST_REV:
            known.at_least = answer.active + 1
            self._open.add(device_id)
            self._count_answer(device_id, "config", "older", answer.rev)
            return
        state = (
            ConfigState.APPLIED if answer.ok else ConfigState.REVERTED if "reverted" in codes else ConfigState.REFUSED
        )
        known.reported = answer.active if not answer.ok else answer.rev
        self._change_config(known, state=state, errors=() if answer.ok else answer.faults(), answered_at=self._clock())
        self._count_answer(device_id, "config", state.value, answer.rev)

    def _take_command_answer(self, payload: Payload) -> None:
        answer, name = decode_command_answer(payload.body), payload.device_id
        if not answer.id and answer.cmd == "ota":
            self.of_firmware(payload)
            return
        known = self._devices.get(name)
        command = known.commands.get(answer.id) if known is not None else None
        ends = {"accepted", "done", "failed", "expired", "unknown"}
        if known is None or command is None or answer.st not in ends:
            self._count_answer(name, "command", "unknown", answer.id[:16])
            return
        state = CommandState(answer.st)
        may_follow = command.is_open or command.state is CommandState.EXPIRED
        if may_follow and not (command.state is CommandState.ACCEPTED and state is CommandState.ACCEPTED):
            self._change_command(known, replace(command, state=state, answer=answer.kept(), answered_at=self._clock()))
            self._count_answer(name, "command", state.value, answer.id)

    def _count_answer(self, device_id: str, kind: str, result: str, number: object) -> None:
        self._metrics.order_answers.labels(kind, result).inc()
        if result in {"unknown", "refused", "reverted", "failed"}:
            if self._may_complain(device_id):
                log.warning("a device answered", device=device_id, kind=kind, result=result, number=number)
        else:
            log.info("a device answered", device=device_id, kind=kind, result=result, number=number)

    def _complain(self, device_id: str, why: str, body: bytes, error: Exception | None = None) -> None:
        """Count an answer that is not used, and name its device to the operator, once a minute."""
        self._metrics.order_answers_refused.labels(why).inc()
        if self._may_complain(device_id):
            told = None if error is None else str(error)
            log.warning("an answer was not used", device=device_id, why=why, error=told, body=body[:200])

    def _may_complain(self, device_id: str) -> bool:
        now, before = self._clock(), self._complained.get(device_id)
        if before is not None and now - before < COMPLAIN_AGAIN:
            return False
        if len(self._complained) >= MOST_ANSWERS:
            self._complained.clear()
        self._complained[device_id] = now
        return True

    # --- revisions

    async def _make_configs(self) -> None:
        """Make the revisions that plans, pressures and births ask for."""
        wanted: list[tuple[_Device, NewConfig]] = []
        compared: list[tuple[_Device, tuple[MonitoringPlan, float]]] = []
        now = self._clock()
        for name in self._open:
            known, site = self._devices.get(name), self._sites.get(name)
            if known is None or site is None or (known.newest is None and known.reported is None):
                continue
            basis = plan_in_force(site.stack.plans, now.timestamp()), site_pressure_kpa(site.factory)
            new = self._wanted(known, site, basis, now)
            if new is not None:
                wanted.append((known, new))
            compared.append((known, basis))
            if len(wanted) >= CONFIGS_AT_ONCE:
                self._news.set()
                break
        if wanted:
            made = await self._store.add_configs([new for _, new in wanted], by=PLATFORM)
            for config in made:
                log.info("a device gets new settings", device=config.device_id, rev=config.rev, why=config.why.value)
                self._take_config(config)
        for known, basis in compared:
            known.basis = basis

    def _wanted(
        self, known: _Device, site: Site, basis: tuple[MonitoringPlan, float], now: datetime
    ) -> NewConfig | None:
        newest, reported = known.newest, known.reported or 0
        rev = newest.rev if newest is not None else 0
        at_least = max(known.at_least, reported + 1 if reported > rev else 1)
        is_ahead = max(rev, 1) < at_least <= MOST_REV
        if is_ahead and known.overtaken_at is not None and now - known.overtaken_at < OVERTAKEN_AGAIN:
            is_ahead = False
        if known.basis == basis and not is_ahead:
            return None
        document = document_of(chosen_settings(newest.document if newest is not None else None), *basis)
        if is_ahead:
            known.overtaken_at = now
            return NewConfig(site.device.id, document, Why.AHEAD, at_least)
        if newest is None:
            return NewConfig(site.device.id, document, Why.FIRST)
        return NewConfig(site.device.id, document, Why.PLAN) if document != newest.document else None

    async def send_again(self, site: Site, rev: int, *, by: Origin) -> None:
        """Send a revision once more that the node refused, reverted or never took. Raises RegistryError."""
        config = await self._store.ask_config_again(site.device.id, rev, by=by)
        self._take_config(config)
        self._news.set()

    # --- sending

    async def _send_all(self) -> None:
        sent = 0
        for name in list(self._open):
            known = self._devices.get(name)
            if known is None:
                self._open.discard(name)
                continue
            self._settle(known)
            is_birth = name in self._born
            if is_birth or self.is_online(name):
                sent += await self._send_config(name, known, is_birth=is_birth)
                sent += await self._send_commands(name, known, is_birth=is_birth)
                self._born.discard(name)
            if not self._waits(known):
                self._open.discard(name)
            if sent >= SENT_AT_ONCE:
                self._news.set()
                return

    def _waits(self, known: _Device) -> bool:
        """Whether there is something that the device has yet to be sent, or to say."""
        newest = known.newest
        is_compared = known.basis is not None or (newest is None and known.reported is None)
        is_waiting = newest is not None and newest.state is ConfigState.WAITING
        return is_waiting or not is_compared or any(it.is_open for it in known.commands.values())

    def _settle(self, known: _Device) -> None:
        """A node that says at its birth that it has the newest revision needs no other answer."""
        newest = known.newest
        if newest is None or known.reported != newest.rev:
            return
        if newest.state is ConfigState.SENT:  # one that was never sent is another one of the same number
            self._change_config(known, state=ConfigState.APPLIED, answered_at=self._clock())

    async def _send_config(self, name: str, known: _Device, *, is_birth: bool) -> int:
        newest = known.newest
        if newest is None or known.reported is None or newest.is_given_up:
            return 0
        if not (newest.state is ConfigState.WAITING or (is_birth and known.reported != newest.rev)):
            return 0
        await self._send(name, "config", message(newest.document, newest.rev))
        if newest.state is ConfigState.WAITING:
            self._change_config(known, state=ConfigState.SENT, sent_at=self._clock())
        return 1

    async def _send_commands(self, name: str, known: _Device, *, is_birth: bool) -> int:
        count = 0
        for command in list(known.commands.values()):
            is_lost = is_birth and command.state is CommandState.SENT  # it may be: the node does nothing twice
            if command.state is CommandState.QUEUED or is_lost:
                await self._send(name, "cmd", command.message())
                self._change_command(known, replace(command, state=CommandState.SENT, sent_at=self._clock()))
                count += 1
        return count

    async def _send(self, device_id: str, channel: str, body: bytes) -> None:
        if self.send is None:
            raise _BrokerAway
        try:
            await self.send(device_id, channel, body)
        except ConnectionError as error:
            raise _BrokerAway from error
        kind = "config" if channel == "config" else "command"
        self._metrics.orders_sent.labels(kind).inc()

    # --- what becomes of it

    def _expire(self) -> None:
        """End commands that nobody will answer, and forget those that have long ended."""
        now = self._clock()
        for known in self._devices.values():
            for command in list(known.commands.values()) if known.commands else ():
                if _is_over(command, now):
                    self._change_command(known, replace(command, state=CommandState.EXPIRED))
                elif not command.is_open and now - command.asked_at > REMEMBERED:
                    del known.commands[command.command_id]

    def _change_config(self, known: _Device, **changed: Any) -> None:
        assert known.newest is not None, "asked for only where there is one"
        known.newest = replace(known.newest, **changed)
        self._changed_configs[known.newest.id] = known.newest

    def _change_command(self, known: _Device, command: DeviceCommand) -> None:
        known.commands[command.command_id] = command
        self._changed_commands[command.id] = command

    async def _keep(self) -> None:
        if self._changed_configs or self._changed_commands:
            await self._store.keep_device_states(self._changed_configs.values(), self._changed_commands.values())
            self._changed_configs.clear()
            self._changed_commands.clear()

    def _measure(self) -> None:
        states = dict.fromkeys(ConfigState, 0)
        open_ones = 0
        for known in self._devices.values():
            if known.newest is not None:
                states[known.newest.state] += 1
            if known.commands:
                open_ones += sum(it.is_open for it in known.commands.values())
        for state, count in states.items():
            self._metrics.configs_open.labels(state.value).set(count)
        self._metrics.commands_open.set(open_ones)


def _is_over(command: DeviceCommand, now: datetime) -> bool:
    """Whether an open command has waited for long enough."""
    if command.state is CommandState.ACCEPTED:
        return command.answered_at is not None and now - command.answered_at >= ACCEPTED_LASTS
    return command.is_open and now >= command.expires_at


async def tidy_commands(store: Store, now: datetime) -> None:
    """Forget commands after a year; who gave them stays in the audit log."""
    with suppress(StoreUnavailable):
        await store.forget_commands(now - timedelta(days=365))
