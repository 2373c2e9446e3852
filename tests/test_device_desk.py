"""Devices are told their settings after each birth that lacks them, and commands; what they answer is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from carbontrack.app import Core as App
from carbontrack.app import broker_settings, run_core
from carbontrack.broker import embedded_broker
from carbontrack.config import Config, load_config
from carbontrack.device_desk import DeviceDesk, give_command, save_settings, tidy_commands
from carbontrack.device_settings import (
    CommandError,
    CommandState,
    ConfigState,
    DeviceCommand,
    DeviceConfig,
    DeviceSettings,
    Fault,
    Limit,
    LimitCode,
    SettingsError,
    Why,
    check_document,
)
from carbontrack.metrics import Metrics
from carbontrack.model import DeviceStatus, Flag, MonitoringPlan, Origin, Site
from carbontrack.simulator import DemoFactory, DemoStack, run_fleet
from carbontrack.store import MOST_PENDING, RegistryError, Store
from tests.support.world import NOON, Core, birth, body, core, eventually, migrated_store, register, sample

pytest_plugins = ["tests.support.world"]

HQ = Origin("hq@example.org")
DEVICE = "dev-001"
OFTEN = DeviceSettings(sample_s=10)


@dataclass
class World:
    """A core with a desk whose broker is a list, and a clock that stands still."""

    core: Core
    desk: DeviceDesk
    sent: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    now: datetime = NOON
    is_cut_off: bool = False
    conn: int = 0

    @property
    def store(self) -> Store:
        return self.core.store

    async def send(self, device_id: str, channel: str, content: bytes) -> None:
        if self.is_cut_off:
            raise ConnectionError("there is no connection to the MQTT broker")
        self.sent.append((device_id, channel, json.loads(content)))

    async def born(self, cfg: int | None = 0, device_id: str = DEVICE, **changed: Any) -> None:
        """A device connects, and the desk looks."""
        self.conn += 1
        said = changed if cfg is None else {"cfg": cfg} | changed
        before = self.core.fleet._actors[device_id].birth
        self.core.tell(device_id, birth(self.conn, **said), "state")
        await eventually(lambda: self.core.fleet._actors[device_id].birth is not before)
        await self.desk.look()

    async def says(self, channel: str, content: Any, device_id: str = DEVICE) -> None:
        """A device answers, and the desk looks."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        seen = sum(len(messages) for messages in (self.desk._answers,))
        refused = self.refused()
        assert self.core.tell(device_id, raw, channel) == "delivered"
        await eventually(lambda: len(self.desk._answers) > seen or self.refused() > refused)
        await self.desk.look()

    def refused(self) -> float:
        return sum(it.value for it in next(iter(self.core.metrics.order_answers_refused.collect())).samples)

    def take(self, channel: str = "config") -> list[dict[str, Any]]:
        """What was sent since the last time."""
        found = [message for _, at, message in self.sent if at == channel]
        self.sent.clear()
        return found

    async def site(self, device_id: str = DEVICE) -> Site:
        return next(it for it in await self.store.sites() if it.device.device_id == device_id)

    async def config(self, device_id: str = DEVICE) -> DeviceConfig:
        return (await self.store.configs((await self.site(device_id)).device.id))[0]

    async def save(self, settings: DeviceSettings) -> DeviceConfig | None:
        made = await save_settings(self.store, await self.site(), settings, by=HQ, now=self.now)
        await self.desk.look()
        return made

    async def command(self, cmd: str, **args: Any) -> DeviceCommand:
        given = await give_command(self.store, DEVICE, cmd, args, by=HQ, now=self.now)
        await self.desk.look()
        return given

    async def became(self, command: DeviceCommand) -> DeviceCommand:
        found = await self.store.command((await self.site()).device.id, command.command_id)
        assert found is not None
        return found


@asynccontextmanager
async def desk_on(store: Store, metrics: Metrics) -> AsyncIterator[World]:
    world: World
    desk = DeviceDesk(store, metrics, lambda: world.now)
    async with core(store, metrics, born=desk.born, answered=desk.answered) as running:
        world = World(running, desk)
        desk.send, desk.is_online = world.send, running.fleet.is_online
        yield world


@pytest.fixture
async def world(store: Store, metrics: Metrics) -> AsyncIterator[World]:
    await register(store, DEVICE, "dev-002")
    async with desk_on(store, metrics) as running:
        yield running


def ok(rev: int) -> dict[str, Any]:
    return {"v": 1, "rev": rev, "ok": True, "active": rev}


def refusal(rev: int, active: int, *errors: tuple[str, str]) -> dict[str, Any]:
    found = [{"path": path, "code": code} for path, code in errors]
    return {"v": 1, "rev": rev, "ok": False, "active": active, "errors": found}


# --- settings


async def test_a_node_that_was_never_configured_is_sent_its_plan_as_revision_one(world: World) -> None:
    await world.born(cfg=0)

    (document,) = world.take()
    assert document["rev"] == 1
    assert document["plan"]["diameter_m"] == 0.8
    assert document["site"] == {"pressure_kpa": 79.5}
    assert "sample_s" not in document, "what nobody has chosen stays as the firmware has it"
    assert check_document(document) == []
    config = await world.config()
    assert (config.rev, config.why, config.state, config.sent_at) == (1, Why.FIRST, ConfigState.SENT, NOON)


async def test_a_node_that_takes_no_settings_is_sent_none(world: World) -> None:
    await world.born(cfg=None)

    assert world.take() == []
    assert world.desk.takes_settings(DEVICE) is False
    assert world.desk.takes_settings("dev-002") is None


async def test_what_the_node_answers_is_kept(world: World) -> None:
    await world.born()
    world.now += timedelta(seconds=3)
    await world.says("config", ok(1))

    config = await world.config()
    assert (config.state, config.answered_at) == (ConfigState.APPLIED, world.now)
    assert sample(world.core.metrics, "carbontrack_device_configs", state="applied") == 1


async def test_saved_settings_go_out_at_once_as_the_next_revision(world: World) -> None:
    await world.born()
    await world.says("config", ok(1))
    world.take()

    made = await world.save(OFTEN)

    assert made is not None
    assert (made.rev, made.why, made.made_by) == (2, Why.SETTINGS, "hq@example.org")
    (document,) = world.take()
    assert (document["rev"], document["sample_s"], document["plan"]["diameter_m"]) == (2, 10, 0.8)


async def test_settings_that_change_nothing_make_no_revision(world: World) -> None:
    await world.born()
    await world.save(OFTEN)
    world.take()

    assert await world.save(OFTEN) is None
    assert world.take() == []


async def test_settings_that_no_node_takes_are_refused_before_they_are_kept(world: World) -> None:
    with pytest.raises(SettingsError, match="sample_s: must be from 1 to 3,600") as caught:
        await world.save(replace(OFTEN, sample_s=0))
    assert caught.value.faults == (Fault("sample_s", "range"),)
    with pytest.raises(SettingsError, match="100 ms for each"):
        await world.save(replace(OFTEN, sample_s=1, readings=11))
    with pytest.raises(SettingsError):
        await world.save(replace(OFTEN, limits=(Limit(LimitCode.RATE_HIGH),)))


async def test_a_plan_that_comes_into_force_is_a_revision_with_the_settings_as_they_were(world: World) -> None:
    await world.born()
    await world.save(OFTEN)
    site = await world.site()
    in_force = replace(site.stack.plans[0], valid_from=NOON + timedelta(hours=1), diameter_m=0.9)
    await world.store.add_plan(site.stack.id, in_force)
    await world.core.sync()
    world.take()

    await world.desk.look()
    assert world.take() == [], "it is not in force yet"
    world.now = NOON + timedelta(hours=1, seconds=1)
    await world.desk.look()

    (document,) = world.take()
    assert (document["rev"], document["sample_s"], document["plan"]["diameter_m"]) == (3, 10, 0.9)
    assert (await world.config()).why is Why.PLAN


async def test_another_pressure_of_the_site_is_a_revision_and_another_name_is_none(world: World) -> None:
    await world.born()
    site = await world.site()
    world.take()

    await world.store.change_factory(site.factory.id, {"county": "Meru"})
    await world.desk.look()
    assert world.take() == []

    await world.store.change_factory(site.factory.id, {"pressure_kpa": 81.25})
    await world.desk.look()
    assert [it["site"]["pressure_kpa"] for it in world.take()] == [81.25]


async def test_a_node_that_is_away_gets_its_settings_at_its_next_birth_and_nothing_before(world: World) -> None:
    await world.born()
    await world.says("config", ok(1))
    world.core.tell(
        DEVICE, json.dumps({"v": 1, "online": False, "conn": world.conn, "why": "stopped"}).encode(), "state"
    )
    await eventually(lambda: not world.core.fleet.is_online(DEVICE))
    world.take()
    await world.save(OFTEN)
    assert world.take() == []
    assert (await world.config()).state is ConfigState.WAITING

    await world.born(cfg=1)
    assert [it["rev"] for it in world.take()] == [2]

    await world.born(cfg=1)
    assert [it["rev"] for it in world.take()] == [2], "what was lost on the way is sent again at each birth"

    await world.born(cfg=2)
    assert world.take() == []
    assert (await world.config()).state is ConfigState.APPLIED, "its birth says so, and its answer was lost"


@pytest.mark.parametrize(
    ("errors", "state"),
    [
        ([("plan.diameter_m", "range")], ConfigState.REFUSED),
        ([("", "reverted")], ConfigState.REVERTED),
    ],
)
async def test_what_the_node_will_not_have_is_not_sent_again_until_somebody_asks_or_there_is_a_newer_one(
    world: World, errors: list[tuple[str, str]], state: ConfigState
) -> None:
    await world.born()
    await world.says("config", refusal(1, 0, *errors))
    world.take()

    await world.born(cfg=0)
    assert world.take() == []
    config = await world.config()
    assert (config.state, config.errors) == (state, tuple(Fault(*error) for error in errors))

    await world.desk.send_again(await world.site(), 1, by=HQ)
    await world.desk.look()
    assert [it["rev"] for it in world.take()] == [1]
    assert (await world.config()).state is ConfigState.SENT

    await world.says("config", refusal(1, 0, *errors))
    await world.save(OFTEN)
    assert [it["rev"] for it in world.take()] == [2]


async def test_only_the_newest_revision_can_be_sent_again(world: World) -> None:
    await world.born()
    await world.save(OFTEN)

    with pytest.raises(RegistryError, match="newer revision"):
        await world.desk.send_again(await world.site(), 1, by=HQ)


async def test_another_content_under_a_number_that_the_node_has_is_sent_under_a_new_one(world: World) -> None:
    """As after a backup was restored: the node refuses it, by the protocol."""
    await world.save(OFTEN)
    await world.born(cfg=1)
    assert [it["rev"] for it in world.take()] == [1]

    await world.says("config", refusal(1, 1, ("rev", "value")))

    assert [(it["rev"], it["sample_s"]) for it in world.take()] == [(2, 10)]


async def test_a_node_that_is_ahead_of_a_restored_database_gets_a_revision_beyond_its_own(world: World) -> None:
    await world.born(cfg=17)

    assert [it["rev"] for it in world.take()] == [18]
    assert (await world.config()).why is Why.AHEAD

    world.now += timedelta(minutes=2)
    await world.says("config", refusal(18, 40, ("rev", "older")))
    assert [it["rev"] for it in world.take()] == [41]


async def test_a_node_that_claims_more_and_more_does_not_fill_the_database(world: World) -> None:
    for claimed in range(1, 60, 3):
        await world.born(cfg=claimed)

    assert len(await world.store.configs((await world.site()).device.id, limit=100)) <= 2
    await world.born(cfg=2**40)
    assert (await world.config()).rev < 100


async def test_nothing_is_lost_while_the_broker_is_away(world: World) -> None:
    world.is_cut_off = True
    await world.born()
    command = await world.command("ping")
    assert world.sent == []

    world.is_cut_off = False
    await world.desk.look()

    assert [channel for _, channel, _ in world.sent] == ["config", "cmd"]
    assert (await world.became(command)).state is CommandState.SENT


async def test_a_core_that_starts_anew_knows_what_waits(world: World) -> None:
    await world.save(OFTEN)
    command = await world.command("identify")
    again = DeviceDesk(world.store, world.core.metrics, lambda: world.now)
    again.send, again.is_online = world.send, world.core.fleet.is_online
    world.desk = again
    world.core.fleet._services = replace(world.core.fleet._services, born=again.born, answered=again.answered)
    for actor in world.core.fleet._actors.values():
        actor._services = world.core.fleet._services

    await world.born(cfg=0)

    assert [(channel, it.get("rev", it.get("id"))) for _, channel, it in world.sent] == [
        ("config", 1),
        ("cmd", command.command_id),
    ]


async def test_a_device_that_is_removed_and_added_again_begins_anew(world: World) -> None:
    await world.born()
    await world.says("config", ok(1))
    site = await world.site()
    await world.store.remove_device(DEVICE)
    await world.core.sync()
    await world.desk.look()
    await world.store.add_device(DEVICE, site.stack.id, "ct_v1")
    await world.core.sync()
    world.take()

    await world.born(cfg=1)

    assert [it["rev"] for it in world.take()] == [2], "the node has a revision 1, which was another one"


async def test_a_disabled_device_is_told_nothing(world: World) -> None:
    await world.store.change_device(DEVICE, status=DeviceStatus.DISABLED)
    await world.core.sync()
    world.core.tell(DEVICE, birth(1, cfg=0), "state")
    await world.desk.look()

    assert world.sent == []


async def test_the_history_says_who_changed_what(world: World) -> None:
    await world.born()
    await world.save(OFTEN)
    await world.save(replace(OFTEN, limits=(Limit(LimitCode.RATE_HIGH, 0.35, 0.02),), buzzer=False))

    revisions = await world.store.configs((await world.site()).device.id)
    assert [(it.rev, it.made_by) for it in revisions] == [
        (3, "hq@example.org"),
        (2, "hq@example.org"),
        (1, "carbontrack"),
    ]
    event = next(it for it in await world.store.audit_events() if it.action == "device.configured")
    assert event.after == {"buzzer": False, "limits": ["rate_high 0.35"]}


# --- commands


async def test_a_command_goes_out_at_once_and_its_answer_is_kept(world: World) -> None:
    await world.born()
    world.take()

    command = await world.command("identify", seconds=20)

    (message,) = world.take("cmd")
    expires_ms = round((NOON + timedelta(minutes=10)).timestamp() * 1000)
    assert message == {"v": 1, "id": command.command_id, "cmd": "identify", "args": {"seconds": 20}, "exp": expires_ms}
    assert 8 <= len(message["id"]) <= 16
    await world.says("res", {"v": 1, "id": command.command_id, "cmd": "identify", "st": "done", "res": {}, "err": ""})
    became = await world.became(command)
    assert (became.state, became.answered_at) == (CommandState.DONE, NOON)


async def test_what_a_node_says_of_itself_is_kept_as_simple_values(world: World) -> None:
    await world.born()
    command = await world.command("diag")
    said = {"uptime_s": 12, "boot": 3, "firmware": "1.4.0\n" + "x" * 500, "odd": {"deep": [1]}, "drift_ppm": -1.5}

    await world.says("res", {"v": 1, "id": command.command_id, "cmd": "diag", "st": "done", "res": said})

    answer = (await world.became(command)).answer
    assert answer is not None
    assert answer["res"] == {"uptime_s": 12, "boot": 3, "firmware": ("1.4.0" + "x" * 500)[:80], "drift_ppm": -1.5}


async def test_a_reboot_is_accepted_and_done_after_the_next_birth(world: World) -> None:
    await world.born()
    command = await world.command("reboot")
    await world.says("res", {"v": 1, "id": command.command_id, "cmd": "reboot", "st": "accepted"})
    assert (await world.became(command)).state is CommandState.ACCEPTED
    world.take("cmd")

    await world.born()
    assert world.take("cmd") == [], "it was taken: it is not sent a second time"
    await world.says("res", {"v": 1, "id": command.command_id, "cmd": "reboot", "st": "done"})
    await world.says("res", {"v": 1, "id": command.command_id, "cmd": "reboot", "st": "failed", "err": "busy"})

    assert (await world.became(command)).state is CommandState.DONE, "an end stays the end"


async def test_a_command_that_was_sent_without_an_answer_is_sent_again_at_the_next_birth_with_the_same_id(
    world: World,
) -> None:
    await world.born()
    command = await world.command("ping")
    world.take()

    await world.born()

    assert [it["id"] for it in world.take("cmd")] == [command.command_id]


async def test_a_command_waits_for_a_device_that_is_away_and_expires(world: World) -> None:
    command = await world.command("identify")
    assert world.sent == []
    assert sample(world.core.metrics, "carbontrack_device_commands_open") == 1

    world.now += timedelta(minutes=10)
    await world.born()

    assert world.take("cmd") == []
    assert (await world.became(command)).state is CommandState.EXPIRED


async def test_a_late_answer_still_counts(world: World) -> None:
    await world.born()
    command = await world.command("identify")
    world.now += timedelta(minutes=11)
    await world.desk.look()
    assert (await world.became(command)).state is CommandState.EXPIRED

    await world.says("res", {"v": 1, "id": command.command_id, "cmd": "identify", "st": "done"})

    assert (await world.became(command)).state is CommandState.DONE


async def test_so_many_commands_wait_and_no_more(world: World) -> None:
    for _ in range(MOST_PENDING):
        await world.command("ping")

    with pytest.raises(RegistryError, match="10 commands wait for this device already"):
        await world.command("ping")


@pytest.mark.parametrize(
    ("cmd", "args", "why"),
    [
        ("explode", {}, "no such command"),
        ("identify", {"seconds": 0}, "must be from 1 to 300"),
        ("identify", {"seconds": 1.5}, "must be from 1 to 300"),
        ("identify", {"seconds": True}, "must be from 1 to 300"),
        ("span_cal", {}, "is needed"),
        ("span_cal", {"ppm": float("nan")}, "must be from 1 to 1,000,000"),
        ("reboot", {"minutes": 1}, "does not take it"),
    ],
)
async def test_a_command_that_no_node_takes_is_refused(world: World, cmd: str, args: dict[str, Any], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        await world.command(cmd, **args)


async def test_commands_are_forgotten_after_a_year(world: World) -> None:
    await world.command("ping")

    await tidy_commands(world.store, NOON + timedelta(days=364))
    assert len(await world.store.recent_commands(NOON)) == 1
    await tidy_commands(world.store, NOON + timedelta(days=366))
    assert await world.store.recent_commands(NOON) == []


# --- strange answers


STRANGE = [
    ("config", b"", None),
    ("config", b"\xff\x00", "unreadable"),
    ("config", b"[]", "unreadable"),
    ("config", b"[" * 1500, "unreadable"),
    ("config", b'{"rev": "1", "ok": true}', "unreadable"),
    ("config", b'{"rev": 1, "ok": true, "active": 1e400}', "unreadable"),
    ("config", b'{"rev": 99, "ok": true, "active": 99}', "unknown"),
    ("config", b'{"rev": -5, "ok": false, "errors": []}', "unknown"),
    ("res", b"{", "unreadable"),
    ("res", b'{"id": 7, "cmd": "x", "st": "done"}', "unreadable"),
    ("res", b'{"id": "deadbeef", "cmd": "reboot", "st": "done"}', "unknown"),
    ("res", b'{"id": "' + b"d" * 2100 + b'", "cmd": "reboot", "st": "done"}', "too_large"),
    ("res", b'{"id": "\\ud800", "cmd": "\\u0000", "st": "\\u202e"}', None),
    ("res", b'{"v": 1, "cmd": "ota", "ver": "1.5.0", "st": "downloading", "pct": 40}', None),
]


@pytest.mark.parametrize(("channel", "content", "becomes"), STRANGE)
async def test_a_strange_answer_is_counted_and_harms_nobody(
    world: World, channel: str, content: bytes, becomes: str | None
) -> None:
    await world.born()
    config = await world.config()
    if content:
        await world.says(channel, content)
    else:
        world.core.tell(DEVICE, content, channel)
    await world.desk.look()

    assert await world.config() == config
    if becomes == "unknown":
        kind = "config" if channel == "config" else "command"
        assert sample(world.core.metrics, "carbontrack_device_order_answers_total", kind=kind, result="unknown") == 1
    elif becomes is not None:
        assert sample(world.core.metrics, "carbontrack_device_order_answers_refused_total", why=becomes) == 1
    world.core.tell(DEVICE, body())
    await world.core.receipt(DEVICE, 1)


async def test_words_of_a_node_are_cut_and_made_harmless(world: World) -> None:
    await world.born()
    command = await world.command("zero_cal")
    await world.says(
        "res", {"id": command.command_id, "cmd": "zero_cal", "st": "failed", "res": {}, "err": "\0<b>" + "y" * 300}
    )
    await world.says("config", refusal(1, 0, *[(f"p\x1b{number}", "c" * 90) for number in range(12)]))

    became, config = await world.became(command), await world.config()
    assert became.answer is not None
    assert became.answer["err"] == ("<b>" + "y" * 300)[:80]
    assert len(config.errors) == 8
    assert config.errors[0] == Fault("p0", "c" * 80)


async def test_a_reading_is_receipted_while_the_desk_stands_still(world: World) -> None:
    for number in range(200):
        world.desk.born(f"stranger-{number}", world.core.fleet._actors[DEVICE].birth or _a_birth())
    for number in range(1, 20):
        world.core.tell(DEVICE, json.dumps(ok(number)).encode(), "config")
        world.core.tell(DEVICE, body(number))
    await world.core.receipt(DEVICE, 19)


def _a_birth() -> Any:
    from carbontrack.health import Birth  # noqa: PLC0415  # for this one line

    return Birth()


# --- with a broker and simulated nodes


def _config(folder: Path, port: int) -> Config:
    values = {
        "DATABASE__URL": f"sqlite://{folder / 'core.sqlite3'}",
        "MQTT__HOST": "127.0.0.1",
        "MQTT__PORT": str(port),
        "DEVICES__REGISTRY_POLL_S": "0.2",
        "DEVICES__CANARY_EVERY_S": "0",
    }
    return load_config(None, {f"CARBONTRACK_{name}": value for name, value in values.items()})


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[tuple[App, Site]]:
    """A whole core with one simulated node that samples every half second."""
    async with embedded_broker() as port:
        config = _config(folder, port)
        async with migrated_store(config.database.url) as store:
            (site,) = await register(store, DEVICE)
        async with run_core(config) as app:
            await eventually(lambda: app.ingest.connected)
            stop = asyncio.Event()
            stack = DemoStack("Boiler 1", MonitoringPlan(), DEVICE, 7)
            fleet = [DemoFactory(site.factory, (stack,))]
            run = asyncio.create_task(
                run_fleet(fleet, broker_settings(config), speed=10, sample_s=5.0, state_dir=folder, stop=stop)
            )
            try:
                yield app, site
            finally:
                stop.set()
                await run


async def test_a_simulated_node_takes_settings_and_samples_at_the_new_interval(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (app, site):
        store = app.store

        async def state() -> tuple[int, ConfigState] | None:
            found = await store.configs(site.device.id)
            return (found[0].rev, found[0].state) if found else None

        async def is_applied(rev: int) -> bool:
            return await state() == (rev, ConfigState.APPLIED)

        await eventually(lambda: is_applied(1), "the plan was not applied")
        await save_settings(store, site, DeviceSettings(sample_s=2), by=HQ, now=app.device_desk._clock())
        await eventually(lambda: is_applied(2), "the settings were not applied")

        async def distance_s() -> float:
            rows = await store.readings([site.stack.id], NOON, app.device_desk._clock() + timedelta(hours=1))
            last = [row.measured_at for row in rows][-4:]
            return (last[-1] - last[0]).total_seconds() / 3 if len(last) == 4 else 99.0

        async def is_faster() -> bool:
            return await distance_s() < 0.3

        await eventually(is_faster, "2 s at ten times the speed are 0.2 s, and before they were 0.5 s")


async def test_a_simulated_node_does_as_it_is_told_and_restarts(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (app, site):
        store = app.store
        await eventually(lambda: app.fleet.is_online(DEVICE))

        async def told(cmd: str, **args: Any) -> DeviceCommand:
            given = await give_command(store, DEVICE, cmd, args, by=HQ, now=app.device_desk._clock())

            async def is_done() -> bool:
                found = await store.command(site.device.id, given.command_id)
                return found is not None and not found.is_open

            await eventually(is_done, f"{cmd} was not answered")
            found = await store.command(site.device.id, given.command_id)
            assert found is not None
            return found

        diagnosis = await told("diag")
        assert diagnosis.answer is not None
        assert diagnosis.answer["res"]["boot"] == 1

        assert (await told("maintenance", minutes=5)).state is CommandState.DONE
        await eventually(
            lambda: bool((app.fleet.snapshots()[DEVICE].flags or 0) & Flag.MAINTENANCE), "no reading has the flag"
        )

        assert (await told("reboot")).state is CommandState.DONE
        again = await told("diag")
        assert again.answer is not None
        assert (again.answer["res"]["boot"], again.answer["res"]["reset_cause"]) == (2, "software")
