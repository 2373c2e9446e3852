"""A factory with a broker and a core of its own, joined to headquarters by a real bridge; every part a process."""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import asyncpg
import msgspec
import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from carbontrack import doctor
from carbontrack.bridge import FOLDER, PORT, STATE, Headquarters, bridge_files
from carbontrack.config import Config, load_config
from carbontrack.credentials import bridge_password, device_password
from carbontrack.doctor import Verdict
from carbontrack.dynamic_security import accounts_of, bridge_name, whole_file
from carbontrack.emissions.rate import site_pressure_kpa
from carbontrack.ingest import BrokerSettings, client_beside, is_refused, tls_context
from carbontrack.metrics import Metrics
from carbontrack.model import Device, Flag, Record, Site, Stack
from carbontrack.relay import PATIENCE_S as RELAY_PATIENCE_S
from carbontrack.relay_desk import Relay
from carbontrack.simulator.instruments import Measured
from carbontrack.simulator.link import Link
from carbontrack.simulator.node import Node
from carbontrack.store import Store, open_store
from carbontrack.tasks import end
from carbontrack.testing.core import PATIENCE_S
from carbontrack.tiers import Measured as Computed
from carbontrack.tiers import reading_of
from tests.support import programs
from tests.support.deployed import CORE, CORE_PASSWORD, Deployed, deployed, set_up_files
from tests.support.system import Server, accepts_connections, free_port, needs
from tests.support.world import (
    Clock,
    body,
    core,
    eventually,
    factory,
    migrated_store,
    register,
    summarise_touched,
)

FACTORY, DEVICES, NEIGHBOUR = "kangaita", ("dev-001", "dev-002"), "dev-900"
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
STEP_MS = 5000
PART = 240
"""Records of a third of an hour."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `carbontrack broker set-up` writes; the two sides have the same authority, and that is all they share."""
    return set_up_files(tmp_path_factory.mktemp("installation"))


@dataclass
class Side:
    """A broker and a core, at the factory or at headquarters."""

    folder: Path
    broker: Deployed
    database_url: str
    core: programs.Running
    device_key: str
    devices: dict[str, Device]

    def password(self, device_id: str) -> str:
        """By which a device signs in."""
        return device_password(self.device_key, self.devices[device_id])

    async def start(self) -> None:
        await asyncio.to_thread(self.core.start)

    async def crash(self) -> None:
        await asyncio.to_thread(self.core.kill)


@asynccontextmanager
async def side(folder: Path, files: Path, database_url: str, *device_ids: str, **more: Any) -> AsyncIterator[Side]:
    """One side with its devices in the registry. Its core is not started."""
    (folder / "broker").mkdir(parents=True)
    EXECUTOR_CACHE.clear()
    async with migrated_store(database_url) as store:
        devices = {each.device.device_id: each.device for each in await register(store, *device_ids)}
        if NEIGHBOUR not in device_ids and "bridges" in str(more):
            await register(store, NEIGHBOUR, factory_name="Gitugi")
    port, key = free_port(), secrets.token_hex(32)
    with deployed(files, folder / "broker") as broker:
        mqtt = {"host": "localhost", "port": broker.port, "tls": {"ca_file": str(broker.ca_file)}}
        mqtt |= {"username": CORE, "password": CORE_PASSWORD, "device_key": key}
        config = {
            "database": {"url": database_url},
            "mqtt": mqtt | more.pop("mqtt", {}),
            "http": {"port": port},
            "devices": {"registry_poll_s": 0.2, "canary_every_s": 0},
            **more,
        }
        (folder / "carbontrack.yaml").write_bytes(msgspec.json.encode(config))  # YAML as well
        process = programs.Running(
            "carbontrack",
            "serve",
            "--config",
            folder / "carbontrack.yaml",
            log=folder / "core.log",
            is_ready=lambda: accepts_connections(port),
        )
        try:
            yield Side(folder, broker, database_url, process, key, devices)
        finally:
            process.kill()


@contextmanager
def bridge(folder: Path, port: int) -> Iterator[Server]:
    """The mosquitto of the bridge, by the files that headquarters has made. Only places and pauses differ."""
    state = folder / "state"
    state.mkdir()
    text = (folder / "mosquitto.conf").read_text()
    for shipped, own in {
        f"listener {PORT}": f"listener {port}",
        STATE: str(state),
        FOLDER: str(folder),
        "restart_timeout 5 60": "restart_timeout 1 2",
    }.items():
        assert shipped in text
        text = text.replace(shipped, own)
    (folder / "own.conf").write_text(f"{text}user {getpass.getuser()}\n")
    server = Server(
        [needs("mosquitto", package="mosquitto"), "-c", folder / "own.conf"],
        log=folder / "output.log",
        is_ready=lambda: accepts_connections(port),
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class World:
    """Headquarters, the site, and the devices at the site."""

    hq: Side
    site: Side
    bridge: Server
    relay: BrokerSettings
    nodes: list[Node]
    links: list[Link]
    measured: int = 0

    def measure(self, number: int) -> None:
        """Every device takes so many readings, from where the last ones ended; a few have faults."""
        for node in self.nodes:
            for index in range(self.measured, self.measured + number):
                status = int(Flag.MAINTENANCE) if index % 50 == 7 else 0
                velocity = None if index % 90 == 11 else 4.0 + index % 7 / 10
                pressure = None if index % 40 < 3 else 79.7
                values = Measured(
                    95_000.0 + 10 * index, 180.0 + index % 30, 3.5, velocity, pressure, 40.0, None, status
                )
                node.add_sample(values, HOUR_MS + STEP_MS * index)
            node.add_meters(HOUR_MS + STEP_MS * (self.measured + number), with_grid=True)
        self.measured += number
        for link in self.links:
            link.news.set()

    @property
    def records(self) -> int:
        """How many numbers each device has used."""
        return self.nodes[0].ring.next_seq - 1

    async def site_has_all(self) -> None:
        await eventually(lambda: all(not len(node.ring) for node in self.nodes), "the site has not confirmed all")

    async def hq_has(self, number: int) -> None:
        """What came to headquarters' core while it was killed is sent again after the relay's patience, not before."""
        deadline = time.monotonic() + RELAY_PATIENCE_S + PATIENCE_S
        while not await self._hq_has(number):
            assert time.monotonic() < deadline, f"headquarters has not {number} records of each device"
            await asyncio.sleep(0.05)

    async def _hq_has(self, number: int) -> bool:
        connection = await asyncpg.connect(self.hq.database_url)
        try:
            rows = await connection.fetch("SELECT device_id, watermark FROM stream")
        finally:
            await connection.close()
        return {row["device_id"] for row in rows if row["watermark"] >= number} >= set(DEVICES)


@pytest.fixture
async def world(files: Path, postgres_url: str, tmp_path: Path) -> AsyncIterator[World]:
    port, hq_folder = free_port(), tmp_path / "hq"
    async with side(hq_folder, files, postgres_url, *DEVICES, mqtt={"bridges": {FACTORY: 1}}) as hq:
        done = programs.run(
            "carbontrack", "broker", "bridge", FACTORY, "--folder", tmp_path / "bridge",
            "--config", hq_folder / "carbontrack.yaml", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        password = (tmp_path / "bridge" / "secrets.yaml").read_text().split()[1]
        relay = {"enabled": True, "port": port, "password": password}
        database_url = f"sqlite://{tmp_path / 'site' / 'site.sqlite3'}"
        async with side(tmp_path / "site", files, database_url, *DEVICES, relay=relay) as site:
            with bridge(tmp_path / "bridge", port) as running:
                await asyncio.gather(hq.start(), site.start())
                settings = BrokerSettings("127.0.0.1", port, "relay", password)
                async with nodes_at(site) as (nodes, links):
                    yield World(hq, site, running, settings, nodes, links)


@asynccontextmanager
async def nodes_at(site: Side) -> AsyncIterator[tuple[list[Node], list[Link]]]:
    """Simulated devices, connected to the site's broker."""
    stop = asyncio.Event()
    settings = BrokerSettings("localhost", site.broker.port, tls=tls_context(site.broker.ca_file))
    nodes = [Node(device_id, patience_ms=1000) for device_id in DEVICES]
    links = [
        Link(node, settings, site.password(node.device_id), stop, lambda: None, longest_backoff_s=0.3) for node in nodes
    ]
    tasks = [asyncio.create_task(link.run(0.0)) for link in links]
    try:
        yield nodes, links
    finally:
        stop.set()
        await asyncio.gather(*tasks)


HOUR_MS = round(HOUR.timestamp() * 1000)


@pytest.mark.timeout(400)  # the relay's patience may be needed after each of the cuts
async def test_headquarters_has_what_the_site_has_whatever_is_cut_or_killed(world: World) -> None:
    world.measure(PART)
    await world.hq_has(world.records)
    site = load_config(world.site.folder / "carbontrack.yaml", {})
    assert (await doctor.bridge(site)).verdict is Verdict.FINE

    # The link is cut while devices measure, and the site's core is killed meanwhile.
    await asyncio.to_thread(world.hq.broker.server.stop, signal.SIGKILL)
    world.measure(PART)
    await world.site_has_all()
    await eventually(lambda: bridge_is(Verdict.LOOK, site), "nobody notices that the link is cut")
    await world.site.crash()
    await world.site.start()
    await asyncio.to_thread(world.hq.broker.server.start)
    await world.hq_has(world.records - PART // 2)

    # Headquarters' core is killed while readings flow.
    await world.hq.crash()
    world.measure(PART)
    await world.site_has_all()
    await world.hq.start()
    await world.hq_has(world.records)

    await world.site.crash()
    await world.hq.crash()
    theirs, ours = await account(world.site.database_url), await account(world.hq.database_url)
    assert len(theirs.readings) == len(DEVICES) * 3 * PART
    assert ours.readings == theirs.readings
    assert ours.records == theirs.records
    assert ours.hours == theirs.hours
    assert sum(hour.measured_kg for hour in theirs.hours.values()) > 100


async def bridge_is(verdict: Verdict, config: Config) -> bool:
    return (await doctor.bridge(config)).verdict is verdict


@dataclass
class Account:
    """What a database says, by names that both sides have."""

    readings: dict[tuple[str, str, int], Any]
    records: dict[tuple[str, str, int], Any]
    hours: dict[tuple[str, datetime], Any]


async def account(database_url: str) -> Account:
    EXECUTOR_CACHE.clear()
    async with open_store(database_url, Metrics()) as store:
        sites = [each for each in await store.sites() if each.device.device_id in DEVICES]
        while await summarise_touched(store):
            pass
        found = Account({}, {}, {})
        for each in sites:
            await _add_account(store, each, found)
        return found


async def _add_account(store: Store, site: Site, found: Account) -> None:
    device_id, stack_id = site.device.device_id, site.stack.id
    until = HOUR + timedelta(hours=2)
    computed = Computed(stack_id, site.stack.plans, site_pressure_kpa(site.factory))
    streams = (await store.streams(device_id))[device_id]
    names = {stream.pk: stream.sid for stream in streams}
    rows = await store.readings([stack_id], HOUR, until)
    for row in rows:
        key = (device_id, names[row.stream_pk], row.seq)
        assert key not in found.readings, "one reading is there twice"
        reading = reading_of(row, computed)
        known = msgspec.structs.asdict(reading)
        for name in ("stack_id", "stream_pk", "received_at"):
            del known[name]
        found.readings[key] = known | {"flags": reading.flags & ~int(Flag.BACKLOG)}
    for stream in streams:
        for record in await store.numbered(stream.pk, device_id, stream.sid, 1, 2**40, 100_000):
            if isinstance(record, Record):
                found.records[device_id, stream.sid, record.seq] = record
    for hour in await store.hours([stack_id], HOUR, until):
        # What came late there need not have come late here, nor as often; nothing else may differ.
        same = msgspec.structs.replace(hour, stack_id=0, late_count=0, version=1, flags=hour.flags & ~int(Flag.BACKLOG))
        found.hours[device_id, hour.start] = same


# --- closed accounts


KEY = "a key of headquarters"
OWN, OTHERS, OF_ANOTHER_FORMAT = DEVICES[0], NEIGHBOUR, "dev-003"
BRIDGE_PASSWORD = bridge_password(KEY, FACTORY, 1)


def sites() -> list[Site]:
    """A device of the factory that has a platform of its own, one of another factory, and one of a strange format."""
    kangaita, gitugi, stack = factory(id=1), factory("Gitugi", id=2), Stack(1, 1, "Boiler", ())
    return [
        Site(kangaita, stack, Device(1, OWN, 1, 1)),
        Site(gitugi, stack, Device(2, OTHERS, 2, 1)),
        Site(kangaita, stack, Device(3, OF_ANOTHER_FORMAT, 1, 1, sensor="flat_json")),
    ]


@pytest.fixture
def headquarters(files: Path, tmp_path: Path) -> Iterator[Deployed]:
    """Headquarters' broker with the accounts that its core keeps."""
    own = tmp_path / "files"
    shutil.copytree(files, own)
    accounts = whole_file(CORE, CORE_PASSWORD, accounts_of(KEY, sites(), {FACTORY: 1}))
    (own / "dynamic-security.json").write_text(json.dumps(accounts))
    (tmp_path / "broker").mkdir()
    with deployed(own, tmp_path / "broker") as broker:
        yield broker


def bridge_client(broker: Deployed, password: str | None = BRIDGE_PASSWORD, **options: Any) -> aiomqtt.Client:
    return broker.client(bridge_name(FACTORY), password, **options)


async def heard(client: aiomqtt.Client, last: str) -> set[str]:
    """The topics of all messages up to one on ``last``, which comes for certain."""
    topics: set[str] = set()
    async with asyncio.timeout(20):
        while last not in topics:
            topics.add((await anext(client.messages)).topic.value)
    return topics


async def test_a_bridge_writes_what_its_devices_measure_and_nothing_else(headquarters: Deployed) -> None:
    allowed = [f"ct/v1/{OWN}/up/{channel}" for channel in ("state", "backlog", "data")]
    refused = [
        f"ct/v1/{OTHERS}/up/data",
        f"ct/v1/{OTHERS}/up/state",
        f"ct/v1/{OF_ANOTHER_FORMAT}/up/data",
        f"ct/v1/{OWN}/dn/cmd",
        f"ct/v1/{OWN}/dn/ack",
        f"ct/v1/{OWN}/up/config",
        f"ct/v1/{OWN}/up/res",
        "ct/v1/carbontrack-canary/up/data",
        "hq/bridge",
        "$CONTROL/dynamic-security/v1",
    ]
    async with headquarters.core("listener") as listener:
        await listener.subscribe([("ct/v1/#", 1), ("$CONTROL/dynamic-security/#", 1)])
        for topic in [*refused, *allowed]:
            with suppress(aiomqtt.MqttError):  # it may be thrown out for trying
                async with bridge_client(headquarters) as client:
                    await client.publish(topic, b"{}", qos=1)
        assert await heard(listener, allowed[-1]) == set(allowed)


async def test_a_bridge_reads_the_receipts_of_its_devices_and_nothing_else(headquarters: Deployed) -> None:
    async with headquarters.core("speaker") as speaker, bridge_client(headquarters) as client:
        assert await may_subscribe(client, "ct/v1/+/dn/ack")
        for pattern in ("ct/v1/#", "ct/v1/+/dn/#", f"ct/v1/{OWN}/dn/cmd", f"ct/v1/{OTHERS}/dn/ack", "#", "$SYS/#"):
            assert not await may_subscribe(client, pattern), pattern
        for topic in (f"{OTHERS}/dn/ack", f"{OWN}/dn/cmd", f"{OWN}/dn/config", f"{OWN}/dn/fw", f"{OWN}/dn/ack"):
            await speaker.publish(f"ct/v1/{topic}", b"{}", qos=1)
        assert await heard(client, f"ct/v1/{OWN}/dn/ack") == {f"ct/v1/{OWN}/dn/ack"}


async def test_nobody_else_speaks_for_a_factory_that_has_a_bridge(headquarters: Deployed) -> None:
    own, others, _ = (device_password(KEY, site.device) for site in sites())
    assert await signs_in(bridge_client(headquarters))
    assert await signs_in(headquarters.client(OTHERS, others))
    assert not await signs_in(headquarters.client(OWN, own)), "it speaks by the bridge"
    assert not await signs_in(bridge_client(headquarters, None))
    assert not await signs_in(bridge_client(headquarters, bridge_password(KEY, FACTORY, 2)))
    assert not await signs_in(bridge_client(headquarters, identifier="carbontrack-core"))


async def may_subscribe(client: aiomqtt.Client, pattern: str) -> bool:
    (code,) = await client.subscribe(pattern)
    return not is_refused(code)


async def signs_in(client: aiomqtt.Client) -> bool:
    with suppress(aiomqtt.MqttError):
        async with client:
            return True
    return False


@pytest.fixture
def alone(files: Path, tmp_path: Path) -> Iterator[BrokerSettings]:
    """The broker of a bridge without headquarters, as the relay signs in there."""
    port, folder = free_port(), tmp_path / "bridge"
    folder.mkdir()
    nobody = Headquarters("localhost", free_port(), (files / "ca.crt").read_bytes())
    made = bridge_files(FACTORY, BRIDGE_PASSWORD, nobody)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    with bridge(folder, port):
        yield BrokerSettings("127.0.0.1", port, "relay", made["secrets.yaml"].decode().split()[1])


async def test_the_relay_writes_for_the_bridge_and_nobody_else_comes_in(alone: BrokerSettings) -> None:
    async with client_beside(alone, "relay") as client:
        await client.subscribe("#")
        assert await heard(client, "hq/bridge") == {"hq/bridge"}
        await client.publish(f"hq/{OWN}/up/data", b"{}", qos=1)
        for topic in (f"hq/{OWN}/dn/ack", f"ct/v1/{OWN}/dn/cmd", f"hq/{OWN}/up"):
            with suppress(aiomqtt.MqttError):
                async with client_beside(alone, "forger") as forger:
                    await forger.publish(topic, b"forged", qos=1)
        await client.subscribe("hq/bridge")  # which says once more what it has said
        assert await heard(client, "hq/bridge") == {"hq/bridge"}
    assert not await signs_in(client_beside(replace(alone, username=None, password=None), "nobody"))
    assert not await signs_in(client_beside(replace(alone, password="wrong"), "stranger"))


async def test_who_runs_the_site_is_told_when_headquarters_is_silent(alone: BrokerSettings, tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    EXECUTOR_CACHE.clear()
    async with migrated_store(f"sqlite://{tmp_path / 'core.sqlite3'}", metrics) as store:
        await register(store, OWN)
        async with core(store, metrics) as running:
            relay = Relay(alone, store, metrics, running.fleet, clock)
            assert relay.problems() == ["The broker of the bridge to headquarters is away: no reading goes there."]
            keeping = asyncio.create_task(relay.keep())
            await eventually(lambda: not relay.problems())
            running.tell(OWN, body(1, 5))
            await eventually(lambda: relay.waiting() == 5)
            assert relay.problems() == []

            clock.now += 3601
            (problem,) = relay.problems()
            await end(keeping)

    told = "Headquarters has confirmed nothing since the start of the core, and 5 records wait. "
    assert problem == told + "The bridge has no connection."
