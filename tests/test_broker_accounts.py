"""The devices' accounts at a real mosquitto, which runs by deploy/mosquitto, follow the registry."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiomqtt
import pytest

from carbontrack import broker_accounts
from carbontrack.app import Core, run_core
from carbontrack.config import Config, load_config
from carbontrack.credentials import device_password, password_mark
from carbontrack.dynamic_security import ANSWERS, COMMANDS
from carbontrack.metrics import Metrics
from carbontrack.model import Device, DeviceStatus
from carbontrack.store import RegistryError, Store, migrate, open_store
from tests.support.deployed import CORE, CORE_PASSWORD, DEVICE_KEY, Deployed, Installation, deployed, set_up_files
from tests.support.mosquitto import Broker
from tests.support.world import body, eventually, migrated_store, register, sample

pytest_plugins = ["tests.support.world"]

DEVICE, NEIGHBOUR = "dev-001", "dev-002"
QUEUED_BYTES = 2_000_000


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `carbontrack broker set-up` writes."""
    return set_up_files(tmp_path_factory.mktemp("installation"))


@pytest.fixture
def broker(files: Path, tmp_path: Path) -> Iterator[Deployed]:
    (tmp_path / "broker").mkdir()
    with deployed(files, tmp_path / "broker") as running:
        yield running


def configuration(broker: Deployed | Broker, database: Path, **more: str) -> Config:
    values = {
        "DATABASE__URL": f"sqlite://{database}",
        "MQTT__HOST": "localhost",
        "MQTT__PORT": str(broker.port),
        "MQTT__TLS__CA_FILE": str(broker.ca_file),
        "MQTT__USERNAME": CORE,
        "MQTT__PASSWORD": CORE_PASSWORD,
        "MQTT__DEVICE_KEY": DEVICE_KEY,
        "DEVICES__REGISTRY_POLL_S": "0.1",
        "DEVICES__CANARY_EVERY_S": "0",
    }
    return load_config(None, {f"CARBONTRACK_{name}": value for name, value in (values | more).items()})


@dataclass
class Platform:
    """The whole core on the deployed broker, and what its devices know."""

    core: Core
    broker: Deployed

    @property
    def store(self) -> Store:
        return self.core.store

    async def device(self, device_id: str) -> Device:
        return {site.device.device_id: site.device for site in await self.store.sites()}[device_id]

    async def password(self, device_id: str) -> str:
        return device_password(DEVICE_KEY, await self.device(device_id))

    @asynccontextmanager
    async def signed_in(self, device_id: str = DEVICE) -> AsyncIterator[aiomqtt.Client]:
        password = await self.password(device_id)
        await eventually(lambda: may_sign_in(self.broker, device_id, password), f"{device_id} cannot sign in")
        async with self.broker.client(device_id, password) as client:
            yield client

    async def in_step(self, count: int) -> None:
        await eventually(
            lambda: self.gauge("in_step") == count and self.gauge("waiting") == self.gauge("failed") == 0,
            f"there are not {count} accounts in step",
        )

    def gauge(self, state: str) -> int:
        value = self.core.metrics.registry.get_sample_value("carbontrack_broker_accounts", {"state": state})
        return -1 if value is None else int(value)

    def delivered(self) -> int:
        return sum(
            sample(self.core.metrics, "carbontrack_mqtt_messages_total", delivery=name)
            for name in self.core.metrics.deliveries
        )


@pytest.fixture
async def platform(broker: Deployed, tmp_path: Path) -> AsyncIterator[Platform]:
    config = configuration(broker, tmp_path / "core.sqlite3")
    await migrate(config.database.url)
    async with run_core(config) as core:
        await register(core.store, DEVICE, NEIGHBOUR)
        running = Platform(core, broker)
        await running.in_step(2)
        await eventually(lambda: len(core.fleet.states()) == 2)
        yield running


async def may_sign_in(broker: Deployed, username: str, password: str, identifier: str | None = None) -> bool:
    with suppress(aiomqtt.MqttError):
        async with broker.client(username, password, identifier=identifier or username):
            return True
    return False


async def thrown_out(client: aiomqtt.Client) -> None:
    async def listen() -> None:
        while True:
            await anext(client.messages)

    with pytest.raises(aiomqtt.MqttError):
        await asyncio.wait_for(listen(), 20)


# --- what a device may do


async def test_a_registered_device_signs_in_sends_and_gets_its_receipt(platform: Platform) -> None:
    async with platform.signed_in() as device:
        await device.subscribe(f"ct/v1/{DEVICE}/dn/#", qos=1)
        await device.publish(f"ct/v1/{DEVICE}/up/data", body(1), qos=1)

        message = await anext(device.messages)

    assert message.topic.value == f"ct/v1/{DEVICE}/dn/ack"
    assert isinstance(message.payload, bytes)
    assert json.loads(message.payload)["seq"] == 1
    assert platform.core.problems() == []


async def test_a_device_reads_nobody_elses_topics(platform: Platform) -> None:
    topics = (
        f"ct/v1/{NEIGHBOUR}/dn/ack",
        "ct/v1/+/dn/ack",
        "ct/v1/#",
        "#",
        f"ct/v1/{DEVICE}/up/#",
        "$SYS/#",
        ANSWERS,
        f"$share/group/ct/v1/{NEIGHBOUR}/dn/ack",
    )
    async with platform.signed_in() as device:
        for topic in topics:
            (granted,) = await device.subscribe(topic, qos=1)
            assert granted.value == 128, topic  # type: ignore[union-attr]


async def test_a_device_cannot_speak_for_another_nor_write_its_own_receipt_nor_command_the_broker(
    platform: Platform,
) -> None:
    forged = json.dumps({"sid": "9f3c21aa", "seq": 999, "now": 0, "credit": 1}).encode()
    command = json.dumps({"commands": [{"command": "deleteClient", "username": NEIGHBOUR}]}).encode()
    before = platform.delivered()
    for topic, content in (
        (f"ct/v1/{NEIGHBOUR}/up/data", body(1)),
        (f"ct/v1/{DEVICE}/dn/ack", forged),
        (COMMANDS, command),
    ):
        async with platform.signed_in() as device:
            with suppress(aiomqtt.MqttError):  # this mosquitto hangs up on who tries
                await device.publish(topic, content, qos=1, retain=True)
    async with platform.signed_in() as device:
        await device.subscribe(f"ct/v1/{DEVICE}/dn/#", qos=1)
        await device.publish(f"ct/v1/{DEVICE}/up/data", body(1), qos=1)

        message = await anext(device.messages)

    assert isinstance(message.payload, bytes)
    assert json.loads(message.payload)["seq"] == 1, "the first receipt is the true one"
    assert platform.delivered() == before + 1, "the core has got the device's own message and nothing else"
    assert NEIGHBOUR in platform.broker.accounts()


async def test_a_device_takes_over_nobodys_session(platform: Platform) -> None:
    password = await platform.password(DEVICE)

    assert await may_sign_in(platform.broker, DEVICE, password)
    for identifier in ("carbontrack-core", NEIGHBOUR, "anything"):
        assert not await may_sign_in(platform.broker, DEVICE, password, identifier)


async def test_a_message_that_is_too_large_reaches_nobody_and_the_device_can_go_on(platform: Platform) -> None:
    before = platform.delivered()
    async with platform.signed_in() as device:
        with suppress(aiomqtt.MqttError):
            await device.publish(f"ct/v1/{DEVICE}/up/data", b"x" * 262_145, qos=1)
    async with platform.signed_in() as device:
        await device.publish(f"ct/v1/{DEVICE}/up/data", body(1), qos=1)
        await eventually(lambda: platform.delivered() > before)

    assert platform.delivered() == before + 1


async def test_there_is_no_way_in_without_tls(platform: Platform) -> None:
    with pytest.raises(aiomqtt.MqttError):
        await platform.broker.client(DEVICE, await platform.password(DEVICE), tls_context=None, timeout=2).__aenter__()


@pytest.mark.parametrize("username", [DEVICE, "nobody"])
async def test_nobody_comes_in_without_the_right_password(platform: Platform, username: str) -> None:
    neighbours = await platform.password(NEIGHBOUR)

    for password in ("", "wrong", neighbours):
        assert not await may_sign_in(platform.broker, username, password)
    with pytest.raises(aiomqtt.MqttError):
        await platform.broker.client(None, None, identifier=username).__aenter__()


# --- what follows from the registry


async def test_a_device_that_is_added_while_the_core_runs_can_sign_in(platform: Platform) -> None:
    await register(platform.store, "dev-003", factory_name="Mungania")

    async with platform.signed_in("dev-003"):
        pass


async def test_a_disabled_device_is_thrown_out_and_an_enabled_one_comes_back_with_the_same_password(
    platform: Platform,
) -> None:
    password = await platform.password(DEVICE)
    async with platform.signed_in() as device, platform.signed_in(NEIGHBOUR) as neighbour:
        await platform.store.change_device(DEVICE, status=DeviceStatus.DISABLED)

        await thrown_out(device)
        assert not await may_sign_in(platform.broker, DEVICE, password)
        await neighbour.publish(f"ct/v1/{NEIGHBOUR}/up/data", body(1), qos=1)

    await platform.store.change_device(DEVICE, status=DeviceStatus.ACTIVE)
    await eventually(lambda: may_sign_in(platform.broker, DEVICE, password))


async def test_a_removed_device_is_gone_and_its_password_stays_useless_when_it_is_added_again(
    platform: Platform,
) -> None:
    old = await platform.password(DEVICE)
    stack_id = (await platform.device(DEVICE)).stack_id
    async with platform.signed_in() as device:
        await platform.store.remove_device(DEVICE)
        await thrown_out(device)
    await platform.in_step(1)
    assert set(platform.broker.accounts()) == {CORE, NEIGHBOUR}

    await platform.store.add_device(DEVICE, stack_id, "ct_v1")

    async with platform.signed_in():
        assert not await may_sign_in(platform.broker, DEVICE, old)


async def test_rotating_makes_the_old_password_useless_at_once(platform: Platform) -> None:
    old = await platform.password(DEVICE)
    async with platform.signed_in() as device:
        await platform.store.rotate_password(DEVICE)
        await thrown_out(device)

    async with platform.signed_in():
        assert not await may_sign_in(platform.broker, DEVICE, old)


async def test_who_is_shut_out_is_thrown_out_at_once_and_its_password_opens_nothing_again(
    broker: Deployed, tmp_path: Path
) -> None:
    config = configuration(broker, tmp_path / "core.sqlite3", DEVICES__REGISTRY_POLL_S="600")
    await migrate(config.database.url)
    async with open_store(config.database.url, Metrics()) as store:
        await register(store, DEVICE)
    async with run_core(config) as core:
        platform = Platform(core, broker)
        await platform.in_step(1)
        old = await platform.password(DEVICE)
        async with platform.signed_in() as device:
            await core.store.revoke_device(DEVICE)
            assert core.accounts is not None
            core.accounts.look_soon()
            await thrown_out(device)
            assert not await may_sign_in(broker, DEVICE, old)

        await core.store.change_device(DEVICE, status=DeviceStatus.ACTIVE)
        core.accounts.look_soon()
        async with platform.signed_in():
            assert not await may_sign_in(broker, DEVICE, old)


async def test_another_key_is_another_password_for_every_device(broker: Deployed, tmp_path: Path) -> None:
    old, new = (
        configuration(broker, tmp_path / "core.sqlite3", MQTT__DEVICE_KEY=key) for key in (DEVICE_KEY, DEVICE_KEY * 2)
    )
    await migrate(old.database.url)
    async with run_core(old) as core:
        await register(core.store, DEVICE)
        await Platform(core, broker).in_step(1)
    async with run_core(new) as core:
        await Platform(core, broker).in_step(1)
        (site,) = await core.store.sites()

        assert not await may_sign_in(broker, DEVICE, device_password(DEVICE_KEY, site.device))
        assert await may_sign_in(broker, DEVICE, device_password(DEVICE_KEY * 2, site.device))
        assert sample(core.metrics, "carbontrack_broker_account_changes_total", change="made") == 1


async def test_a_broker_that_lost_its_accounts_gets_them_back(platform: Platform) -> None:
    async with platform.signed_in():
        pass
    platform.broker.forget_accounts()
    assert set(platform.broker.accounts()) == {CORE}

    async with platform.signed_in() as device:
        await device.publish(f"ct/v1/{DEVICE}/up/data", body(1), qos=1)


async def test_accounts_that_are_in_step_are_left_as_they_are(platform: Platform) -> None:
    before = platform.broker.accounts()
    platform.broker.server.stop()
    platform.broker.server.start()
    await eventually(lambda: "no connection" not in str(platform.core.problems()))

    async with platform.signed_in():
        assert platform.broker.accounts() == before
    assert sample(platform.core.metrics, "carbontrack_broker_account_changes_total", change="made") == 2


# --- what is not ours


@asynccontextmanager
async def operator(broker: Deployed) -> AsyncIterator[broker_accounts._Control]:
    async with broker.core("operator") as client:
        await client.subscribe(ANSWERS)
        yield broker_accounts._Control(client)


async def test_an_operators_own_account_is_left_alone(platform: Platform) -> None:
    async with operator(platform.broker) as control:
        await control.do([{"command": "createClient", "username": "grafana", "password": "x", "textname": "Grafana"}])

    await platform.store.change_device(DEVICE, status=DeviceStatus.DISABLED)
    await platform.in_step(1)

    assert "grafana" in platform.broker.accounts()
    assert platform.core.problems() == []


async def test_a_device_of_the_same_name_as_an_operators_account_is_told_and_the_account_stays(
    platform: Platform,
) -> None:
    async with operator(platform.broker) as control:
        await control.do([{"command": "createClient", "username": "dev-003", "password": "x"}])
    before = platform.broker.accounts()["dev-003"]

    await register(platform.store, "dev-003", "dev-004", factory_name="Mungania")

    # The account was made after the core had looked; the plugin's refusal is no harm, and the next look sees it.
    assert platform.core.accounts is not None
    await eventually(lambda: platform.gauge("in_step") == 3 and platform.gauge("failed") == 1)
    assert "dev-003" in platform.core.problems()[0]
    assert platform.broker.accounts()["dev-003"] == before


async def test_an_account_that_somebody_deleted_by_hand_comes_back(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_accounts, "LOOK_AGAIN_S", 0.2)
    async with operator(platform.broker) as control:
        await control.do([{"command": "deleteClient", "username": DEVICE}])

    await eventually(lambda: DEVICE in platform.broker.accounts())


async def test_a_name_that_the_broker_refuses_is_told_and_holds_nobody_up(platform: Platform, tmp_path: Path) -> None:
    await register(platform.store, "dev-zzz", factory_name="Mungania")
    with sqlite3.connect(tmp_path / "core.sqlite3") as connection:  # the store itself takes no such name today
        connection.execute(
            "INSERT INTO device (device_id, factory_id, stack_id, sensor, status, registered_at)"
            " SELECT 'dev-' || char(1), factory_id, stack_id, sensor, status, registered_at FROM device"
            " WHERE device_id = 'dev-zzz'"
        )
        connection.execute("UPDATE registry SET revision = revision + 1")

    await eventually(lambda: platform.gauge("in_step") == 3 and platform.gauge("failed") == 1)
    (problem,) = platform.core.problems()
    assert "is not as it should be: Role name not valid UTF-8" in problem
    # Tried again with each of the three revisions since it was there, and not with every look at the registry.
    assert 1 <= sample(platform.core.metrics, "carbontrack_broker_account_failures_total") <= 3


async def test_a_broker_without_the_plugin_is_told_and_readings_go_on(
    mosquitto: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_accounts, "ANSWER_S", 0.3)
    account = {"MQTT__USERNAME": mosquitto.username, "MQTT__PASSWORD": mosquitto.password}
    config = configuration(mosquitto, tmp_path / "core.sqlite3", **account)
    await migrate(config.database.url)
    async with run_core(config) as core:
        await register(core.store, DEVICE)
        await eventually(lambda: "mqtt.keep_accounts" in "".join(core.problems()))
        async with mosquitto.client(DEVICE, protocol=aiomqtt.ProtocolVersion.V311) as device:
            await eventually(lambda: DEVICE in core.fleet.states())
            await device.publish(f"ct/v1/{DEVICE}/up/data", body(1), qos=1)
            await eventually(lambda: sample(core.metrics, "carbontrack_readings_total", outcome="committed") == 1)


@pytest.mark.parametrize("changed", [{"MQTT__KEEP_ACCOUNTS": "false"}, {"MQTT__DEVICE_KEY": "null"}])
async def test_the_core_keeps_no_accounts_where_it_is_not_to(
    changed: dict[str, str], broker: Deployed, tmp_path: Path
) -> None:
    if "MQTT__DEVICE_KEY" in changed:
        config = configuration(broker, tmp_path / "core.sqlite3")
        config = config.model_copy(update={"mqtt": config.mqtt.model_copy(update={"device_key": None})})
    else:
        config = configuration(broker, tmp_path / "core.sqlite3", **changed)
    await migrate(config.database.url)
    async with run_core(config) as core:
        await register(core.store, DEVICE)
        await eventually(lambda: core.ingest.connected and DEVICE in core.fleet.states())

        assert core.accounts is None
        assert core.problems() == []
    assert set(broker.accounts()) == {CORE}


# --- passwords


def test_a_password_differs_by_key_device_and_generation_and_is_the_same_for_ever() -> None:
    device = Device(1, DEVICE, 1, 1, password_generation=7)
    others = [
        device_password(DEVICE_KEY, replace(device, password_generation=8)),
        device_password(DEVICE_KEY, replace(device, device_id=NEIGHBOUR)),
        device_password(DEVICE_KEY + "x", device),
    ]
    own = device_password(DEVICE_KEY, device)

    assert own == "YOANX84lYS4Fys86PYDnUwt9KaWV15HW6hA4mpOir-I"
    assert device_password(DEVICE_KEY, replace(device, id=2, stack_id=5, status=DeviceStatus.DISABLED)) == own
    assert len({own, *others}) == 4
    assert password_mark(DEVICE_KEY, device) not in own


async def test_every_new_password_of_a_registry_is_one_that_it_never_had(store: Store) -> None:
    (site,) = await register(store, DEVICE)
    seen = {site.device.password_generation}
    for _ in range(3):
        seen.add((await store.rotate_password(DEVICE)).password_generation)
        await store.change_device(DEVICE, status=DeviceStatus.DISABLED)
        await store.remove_device(DEVICE)
        seen.add((await store.add_device(DEVICE, site.stack.id, "ct_v1")).password_generation)

    assert len(seen) == 7
    with pytest.raises(RegistryError, match="no device 'nobody'"):
        await store.rotate_password("nobody")


# --- the queue of a core that is away


async def fill(broker: Deployed, password: str, count: int, size: int) -> None:
    async with broker.client(DEVICE, password) as device:
        for number in range(count):
            await device.publish(f"ct/v1/{DEVICE}/up/data", number.to_bytes(4, "big").ljust(size, b"."), qos=1)


async def queued(broker: Deployed) -> list[int]:
    """What the core's session gets when it comes back, by number."""
    numbers = []
    async with broker.core("carbontrack-core", clean_session=False) as core:
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(1):
                    message = await anext(core.messages)
                assert isinstance(message.payload, bytes)
                numbers.append(int.from_bytes(message.payload[:4], "big"))
    return numbers


@pytest.fixture
async def away(files: Path, tmp_path: Path) -> AsyncIterator[tuple[Deployed, str]]:
    """A broker whose core has a session and is away; a device's password. It saves every second and queues less."""
    installation = Installation(tmp_path, f"sqlite://{tmp_path / 'core.sqlite3'}")
    async with migrated_store(installation.database_url) as store:
        (site,) = await register(store, DEVICE)
    done = installation.set_up("--host", "localhost", "--with-devices")
    assert done.returncode == 0, done.stderr
    (tmp_path / "broker").mkdir()
    with deployed(
        installation.files, tmp_path / "broker", autosave_interval="1", max_queued_bytes=str(QUEUED_BYTES)
    ) as broker:
        async with broker.core("carbontrack-core", clean_session=False) as core:
            await core.subscribe("ct/v1/+/up/#", qos=1)
        yield broker, device_password(DEVICE_KEY, site.device)


async def test_the_queue_of_a_core_that_is_away_is_limited_by_bytes(away: tuple[Deployed, str]) -> None:
    broker, password = away

    await fill(broker, password, 500, 10_000)

    numbers = await queued(broker)
    assert numbers == list(range(len(numbers))), "the oldest are kept"
    # Those that would be in flight are counted beside the limit.
    assert QUEUED_BYTES <= len(numbers) * 10_000 <= QUEUED_BYTES + 100 * 10_000


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_the_queue_survives_the_end_of_the_broker(how: signal.Signals, away: tuple[Deployed, str]) -> None:
    broker, password = away
    await fill(broker, password, 50, 100)
    written = broker.database_file.stat().st_mtime_ns if broker.database_file.exists() else 0
    if how is signal.SIGKILL:
        await eventually(
            lambda: broker.database_file.exists() and broker.database_file.stat().st_mtime_ns > written,
            "it does not save by itself",
        )

    broker.server.stop(how)
    broker.server.start()

    assert await queued(broker) == list(range(50))
