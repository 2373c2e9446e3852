"""A small world for tests: a migrated store on either engine, a factory with a stack and a device, ct/v1 payloads.

A module of tests takes the fixtures by ``pytest_plugins = ["tests.support.world"]``. It imports the helpers as well, so
the module is there before pytest could rewrite it, which is said here: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiosqlite
import asyncpg
import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from carbontrack import testing
from carbontrack.config import Config, Plugins
from carbontrack.device import Services
from carbontrack.fleet import Fleet
from carbontrack.live import Live
from carbontrack.metrics import OUTCOMES, Metrics
from carbontrack.model import Factory, Flag, Measurement, MonitoringPlan, Payload, Reading, Site
from carbontrack.plugins import load_plugins
from carbontrack.store import Store, Work, migrate, open_store
from carbontrack.tiers import Summariser
from tests.support.postgres import Postgres

ENGINES = ("sqlite", "postgres")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""A time at which a 5-minute bucket begins."""
NOON_MS = round(NOON.timestamp() * 1000)
SID = "9f3c21aa"
COLUMNS = ("ds", "dt", "tq", "co2", "tg", "v", "pa", "st")


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database that ``give_schema`` makes; the test runs once on each engine."""
    EXECUTOR_CACHE.clear()  # Tortoise keeps its INSERTs by the connection's name, in the SQL of the engine before
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'carbontrack.sqlite3'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.free_url()


@pytest.fixture
async def empty_url(database_url: str) -> str:
    """The address of an empty database; the test runs once on each engine."""
    if not database_url.startswith("sqlite://"):  # where a file is empty without anybody's help
        server, name = database_url.rsplit("/", 1)
        await execute(f"{server}/postgres", f"CREATE DATABASE {name}")
    return database_url


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def store(database_url: str, metrics: Metrics) -> AsyncIterator[Store]:
    """A migrated store; the test runs once on each engine."""
    async with migrated_store(database_url, metrics) as opened:
        yield opened


@asynccontextmanager
async def migrated_store(url: str, metrics: Metrics | None = None, **options: Any) -> AsyncIterator[Store]:
    await give_schema(url)
    async with open_store(url, metrics or Metrics(), **options) as opened:
        yield opened


TEMPLATE = "migrated"


async def give_schema(url: str) -> None:
    """Make a database with the newest schema, as a copy of one that was migrated: that takes a tenth of the time."""
    if url.startswith("sqlite://"):
        path = Path(url.removeprefix("sqlite://"))
        if not path.exists():
            await testing.make_database(path)
        return
    server, name = url.rsplit("/", 1)
    async with _connected(f"{server}/postgres") as postgres:
        there = {row["datname"] for row in await postgres.fetch("SELECT datname FROM pg_database")}
        if name in there:
            async with _connected(url) as own:
                if await own.fetchval("SELECT to_regclass('stream')") is not None:
                    return
            await postgres.execute(f"DROP DATABASE {name}")
        if TEMPLATE not in there:
            await postgres.execute(f"CREATE DATABASE {TEMPLATE}")
            await migrate(f"{server}/{TEMPLATE}")
        await postgres.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")


async def execute(url: str, statement: str) -> None:
    """Do with a database what no part of the program would."""
    if url.startswith("sqlite://"):
        async with aiosqlite.connect(url.removeprefix("sqlite://")) as sqlite:
            await sqlite.execute(statement)
            await sqlite.commit()
        return
    async with _connected(url) as postgres:
        await postgres.execute(statement)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class Clock:
    """A clock that stands still until ``now`` is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


eventually = testing.eventually


# --- the registry


def factory(name: str = "Kangaita", **changed: Any) -> Factory:
    values: dict[str, Any] = {
        "id": 0,
        "name": name,
        "slug": name.lower().replace(" ", "-"),
        "county": "Kirinyaga",
        "region": "East of Rift",
        "latitude": -0.5,
        "longitude": 37.3,
        "altitude_m": 2000.0,
    }
    return Factory(**(values | changed))


async def register(store: Store, *device_ids: str, factory_name: str = "Kangaita", sensor: str = "ct_v1") -> list[Site]:
    """One factory with a stack for each device."""
    added = await store.add_factory(factory(factory_name))
    for device_id in device_ids:
        stack = await store.add_stack(added.id, f"Boiler of {device_id}", MonitoringPlan())
        await store.add_device(device_id, stack.id, sensor)
    return await store.sites(added.id)


# --- what devices send


def body(
    seq: int = 1,
    count: int = 1,
    *,
    at_ms: int = NOON_MS,
    step_ms: int = 5000,
    sid: str = SID,
    rows: Sequence[Sequence[Any]] | None = None,
    **changed: Any,
) -> bytes:
    """A ct/v1 message of ``count`` samples from ``seq`` on, ``step_ms`` apart; ``changed`` are keys of the message."""
    if rows is None:
        rows = [[number, number * step_ms, 1, 98_000 + number, 183.25, 4.12, 79.68, 0] for number in range(count)]
    message = {"v": 1, "sid": sid, "boot": 4, "cfg": 1, "seq": seq, "n": count, "t": at_ms}
    return json.dumps(message | {"s": {"cols": COLUMNS, "rows": rows}} | changed).encode()


def birth(conn: int = 1, *, sid: str = SID, first: int = 1, **changed: Any) -> bytes:
    return json.dumps({"v": 1, "online": True, "conn": conn, "boot": 4, "sid": sid, "first": first} | changed).encode()


def will(conn: int = 1) -> bytes:
    return json.dumps({"v": 1, "online": False, "conn": conn, "boot": 4}).encode()


def payload(device_id: str, content: bytes, channel: str = "data", received_at_ms: int | None = None) -> Payload:
    """A message as it came from the broker, half a second after noon if nothing else is said."""
    return Payload(device_id, channel, content, NOON_MS + 500 if received_at_ms is None else received_at_ms)


# --- what the store is asked to keep


def reading(seq: int, at: datetime | None = None, **changed: Any) -> Reading:
    """Reading number ``seq`` of stack 1 and stream 1, 5 s after the one before it."""
    measured_at = at or NOON + timedelta(seconds=5 * seq)
    values: dict[str, Any] = {
        "stack_id": 1,
        "stream_pk": 1,
        "seq": seq,
        "measured_at": measured_at,
        "received_at": measured_at + timedelta(milliseconds=250),
        "co2_ppm": 98_000.0,
        "temperature_c": 183.25,
        "velocity_ms": 4.0,
        "pressure_kpa": 79.5,
        "flow_rate_m3s": 2.0,
        "co2_kg_per_s": 0.25,
        "flags": 0,
    }
    return Reading(**(values | changed))


def work(readings: Iterable[Reading] = (), device_id: str = "dev-001", factory_id: int = 1) -> Work:
    """An actor's work, with the buckets that its readings touch."""
    kept = list(readings)
    buckets = {(row.stack_id, round(row.measured_at.timestamp() * 1000) // 300_000 * 300_000) for row in kept}
    return Work(device_id, factory_id, kept, buckets=buckets)


async def summarise_touched(store: Store, most: int = 500, *, now: datetime | None = None) -> int:
    """Bring the tiers up to date with a summariser that has just started, as after a restart; how many buckets were."""
    return await Summariser(store, NAIROBI, lambda: now or datetime.now(UTC)).summarise_touched(most)


NAIROBI = ZoneInfo("Africa/Nairobi")
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def kept(store: Store, stack_id: int = 1) -> list[Measurement]:
    """Every reading of a stack that is in the database."""
    return await store.readings([stack_id], *ALWAYS)


def measured(reading: Reading) -> Measurement:
    """What of a reading is kept."""
    pitot = reading.flags & Flag.VELOCITY_FROM_PITOT
    values = {name: getattr(reading, name) for name in Measurement.__struct_fields__}
    values["velocity_ms"] = None if pitot else reading.velocity_ms
    values["pressure_difference_pa"] = reading.pressure_difference_pa if pitot else None
    return Measurement(**values)


# --- a running core without a broker


def choosing(*names: str, folder: Path | None = None, options: Mapping[str, Any] | None = None) -> Config:
    """A configuration with these plugins and no others."""
    return Config(plugins=Plugins(enabled=names, folder=folder, options=dict(options or {})))


@dataclass
class Core:
    """A fleet on a store, and what it told its devices."""

    store: Store
    fleet: Fleet
    live: Live
    metrics: Metrics
    receipts: dict[tuple[str, str], int] = field(default_factory=dict)
    """(device id, stream id) -> the watermark that the device was told last."""

    async def sync(self) -> None:
        await self.fleet.sync(await self.store.sites())

    def tell(self, device_id: str, content: bytes, channel: str = "data", received_at_ms: int | None = None) -> str:
        """Hand the fleet a message as it came from the broker; what became of it."""
        return self.fleet.tell(payload(device_id, content, channel, received_at_ms))

    async def receipt(self, device_id: str, seq: int, sid: str = SID) -> None:
        """Return when a device has been told that everything up to ``seq`` is kept."""
        key = device_id, sid
        await eventually(lambda: self.receipts.get(key, 0) >= seq, f"no receipt for {device_id} up to {seq}")
        assert self.receipts[key] == seq

    def outcomes(self) -> dict[str, int]:
        """How many readings ended how; ``received`` are all of them."""
        counts = {name: sample(self.metrics, "carbontrack_readings_total", outcome=name) for name in OUTCOMES}
        return {"received": sample(self.metrics, "carbontrack_readings_received_total"), **counts}

    def ended(self) -> int:
        """How many readings are neither waiting nor in flight."""
        counts = self.outcomes()
        del counts["received"]
        return sum(counts.values())

    def gauge(self, name: str, **labels: str) -> int:
        """A gauge that is measured when somebody asks."""
        self.fleet.measure()
        return sample(self.metrics, name, **labels)

    def state(self, device_id: str) -> str:
        return self.fleet.states().get(device_id, "unknown")


def sample(metrics: Metrics, name: str, **labels: str) -> int:
    """What Prometheus would read."""
    value = metrics.registry.get_sample_value(name, labels)
    assert value is not None, f"there is no metric {name} {labels}"
    return int(value)


@asynccontextmanager
async def core(store: Store, metrics: Metrics, **options: Any) -> AsyncIterator[Core]:
    """A fleet that runs the devices of a store's registry; ``options`` are those of ``Services``, and ``rules``."""
    receipts: dict[tuple[str, str], int] = {}

    def told(device_id: str, sid: str, seq: int) -> None:
        receipts[device_id, sid] = seq

    live = Live()
    sensors = options.pop("sensors", None) or load_plugins(choosing("ct_v1", "flat_json")).contributions.sensors
    rules = options.pop("rules", None)
    options.setdefault("receipt", told)
    options.setdefault("will_after_s", 0.0)
    services = Services(store=store, live=live, metrics=metrics, **options)
    fleet = Fleet(services, sensors)
    if rules is not None:
        fleet.follow(sensors, rules, [rule.name for rule in rules])
    running = Core(store, fleet, live, metrics, receipts)
    await running.sync()
    try:
        yield running
    finally:
        await fleet.close()
