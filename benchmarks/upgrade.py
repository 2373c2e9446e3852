"""An upgrade while nodes send: a large database of the first schema is migrated, and no reading is lost.

    make bench ARGS="upgrade"            400,000 readings of 40 nodes (some two minutes)
    make bench ARGS="upgrade --quick"    a tenth of it

PostgreSQL, mosquitto with TLS and the core are real processes. A core of the first version need not run: what it would
have left is written into its tables, and it has stored more than it has receipted, as a core has that was stopped.
From then on the nodes take readings and send all the while. The core refuses the old schema, the database is migrated,
the core starts; then the database is made newer than the core while that runs, and the core ends itself.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import asyncpg

from benchmarks.rig import postgres
from carbontrack.ingest import BrokerSettings, tls_context
from carbontrack.store import newest_migration
from tests.chaos.account import Balance, Kept, Phase, Taken, balance
from tests.chaos.device import PATIENCE_MS, Device
from tests.chaos.network import cables
from tests.chaos.platform import device_names, password_of
from tests.chaos.run import ROWS
from tests.support.mosquitto import Broker, broker, write_broker_files
from tests.support.system import Server, free_port
from tests.test_migrations import NEWER, migrate_to

FIRST_SCHEMA = "0002_telemetry"
"""The oldest that has readings."""
STEP_MS = 5000
NOT_RECEIPTED = 100
"""Readings of each node that the old core had stored and not receipted: they come again, and must count once."""
PATIENCE_S = 180.0
OLD_REGISTRY = (
    """INSERT INTO factory (name, slug, county, region, altitude_m, is_active)
       VALUES ('Kangaita', 'kangaita', '', '', 2000, true)""",
    "INSERT INTO stack (factory_id, name) SELECT f.id, 'Boiler ' || n FROM factory f, generate_series(1, {count}) n",
    """INSERT INTO monitoring_plan (stack_id, valid_from, shape, diameter_m, wall_deposit_mm, profile_factor, basis,
       h2o_fraction, co2_range_ppm, dilution_ratio, calibration_offset_ppm, calibration_slope, pitot_coefficient)
       SELECT id, '2020-01-01', 'circular', 0.8, 0, 0.9, 'dry', 0.12, 200000, 1, 0, 1, 0.84 FROM stack""",
    """INSERT INTO device (device_id, factory_id, stack_id, sensor, status, registered_at)
       SELECT 'dev-' || lpad((row_number() OVER (ORDER BY id) - 1)::text, 3, '0'), factory_id, id, 'ct_v1', 'active',
       now() FROM stack""",
)
OLD_STREAM = """
INSERT INTO stream (device_id, sid, watermark, last_measured_ms, last_stack_id, last_received_at)
SELECT device_id, $2, $3, $4, stack_id, now() FROM device WHERE device_id = $1 RETURNING id, last_stack_id
"""
OLD_READING = (
    *("stack_id", "stream_id", "seq", "measured_at", "received_at", "co2_ppm", "temperature_c", "velocity_ms"),
    *("pressure_kpa", "flow_rate_m3s", "co2_kg_per_s", "flags"),
)


@dataclass(slots=True)
class Outcome:
    """How it went; seconds, and the account of every reading that a node has taken."""

    old_readings: int = 0
    refused: str = ""
    """What the core said of the old schema."""
    migrate_s: float = 0.0
    migrations: str = ""
    start_s: float = 0.0
    outage_s: float = 0.0
    """From the first reading that nobody took until every node was told that its own are stored."""
    ended: str = ""
    """What the core said when the schema was newer than it."""
    ended_after_s: float = 0.0
    account: Balance = field(default_factory=Balance)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Size:
    """``readings`` of each node are in the database already; ``sample_s`` is how often it takes another."""

    nodes: int
    readings: int
    sample_s: float
    patience_ms: int = PATIENCE_MS
    """How long a node waits for a receipt until it sends once more."""


async def drill(url: str, mosquitto: Broker, folder: Path, size: Size) -> Outcome:
    """Run it on an empty database of PostgreSQL and a broker without a session."""
    found, names = Outcome(), device_names(size.nodes)
    settings = BrokerSettings("127.0.0.1", mosquitto.port, tls=tls_context(mosquitto.ca_file))
    core = _Core(url, mosquitto, folder)
    async with AsyncExitStack() as stack:
        links = await stack.enter_async_context(cables(mosquitto.port, size.nodes))
        nodes = {
            name: Device(name, link, settings, password_of, size.sample_s, size.patience_ms)
            for name, link in zip(names, links, strict=True)
        }
        found.old_readings = await _leave_behind(url, list(nodes.values()), size)
        for number, node in enumerate(nodes.values()):
            await stack.enter_async_context(node.running(number / size.nodes * size.sample_s))
        stack.push_async_callback(asyncio.to_thread, core.server.stop)
        began = time.monotonic()
        found.refused = await asyncio.to_thread(core.refuses)
        found.migrations, found.migrate_s = await asyncio.to_thread(core.migrate)
        found.start_s = await asyncio.to_thread(core.start)
        found.failures += await _receipted(nodes)
        found.outage_s = time.monotonic() - began

        await _execute(url, NEWER)
        found.ended, found.ended_after_s = await asyncio.to_thread(core.ends)
        marks = _marks(nodes)
        await _execute(url, "DELETE FROM tortoise_migrations WHERE name LIKE '9999%'")
        await asyncio.to_thread(core.start)
        found.failures += await _receipted(nodes, marks)

        for node in nodes.values():
            node.stop_sampling()
        await asyncio.sleep(size.sample_s)
        found.failures += await _receipted(nodes)
        await asyncio.to_thread(core.server.stop)
        found.account = await _account(url, nodes)
    return found


# --- what a core of before has left


async def _leave_behind(url: str, nodes: Sequence[Device], size: Size) -> int:
    """A database of the first schema with what these nodes have sent; how many readings are in it."""
    await migrate_to(url, FIRST_SCHEMA)
    count = 0
    connection = await asyncpg.connect(url)
    try:
        for statement in OLD_REGISTRY:
            await connection.execute(statement.format(count=size.nodes))
        for node in nodes:
            times = node.fill(size.readings * STEP_MS / 3_600_000, STEP_MS)
            last = node.next_seq - 1
            stream = await connection.fetchrow(OLD_STREAM, node.device_id, node.sid, last, times[-1])
            rows = [
                (stream["last_stack_id"], stream["id"], seq, at, at, co2, 180.0, 4.0, 79.7, None, 0.1, 0)
                for (seq, co2), at in zip(
                    node.readings.items(), (datetime.fromtimestamp(ms / 1000, UTC) for ms in times), strict=True
                )
            ]
            await connection.copy_records_to_table("reading", records=rows, columns=OLD_READING)
            node.has_sent(last, receipted=max(0, last - NOT_RECEIPTED))
            count += len(rows)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return count


# --- the core


class _Core:
    """``carbontrack serve`` and ``migrate`` on these parts."""

    def __init__(self, url: str, mosquitto: Broker, folder: Path) -> None:
        port = free_port()
        values: Mapping[str, object] = {
            "DATABASE__URL": url,
            "MQTT__PORT": mosquitto.port,
            "MQTT__TLS__CA_FILE": mosquitto.ca_file,
            "MQTT__USERNAME": mosquitto.username,
            "MQTT__PASSWORD": mosquitto.password,
            "HTTP__PORT": port,
            "DEVICES__REGISTRY_POLL_S": 0.5,
            "LOGGING__FORMAT": "json",
        }
        program = [sys.executable, "-m", "carbontrack"]
        self._command = ["env", *(f"CARBONTRACK_{name}={value}" for name, value in values.items()), *program]
        self._folder = folder
        self.server = Server(
            [*self._command, "serve"], log=folder / "core.log", is_ready=lambda: _is_ready(f"http://127.0.0.1:{port}")
        )

    def _run(self, word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, word], cwd=self._folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def refuses(self) -> str:
        """What it says to a schema that it does not know; it must not run."""
        done = self._run("serve")
        if done.returncode != 2:
            raise RuntimeError(f"serve ended with {done.returncode} on an old schema: {done.stderr}")
        return done.stderr.splitlines()[-1]

    def migrate(self) -> tuple[str, float]:
        """Bring the schema up to date; what was said last, and the seconds that it took."""
        began = time.monotonic()
        done = self._run("migrate")
        if done.returncode != 0:
            raise RuntimeError(f"migrate ended with {done.returncode}: {done.stderr}")
        return done.stdout.splitlines()[-1], time.monotonic() - began

    def start(self) -> float:
        began = time.monotonic()
        self.server.start()
        return time.monotonic() - began

    def ends(self) -> tuple[str, float]:
        """Wait until it ends by itself; what it said last, and after how long."""
        process, began = self.server.process, time.monotonic()
        assert process is not None
        code = process.wait(PATIENCE_S)
        said = self.server.log.read_text(errors="replace").splitlines()[-1]
        if code != 2:
            raise RuntimeError(f"the core ended with {code}: {said}")
        return said, time.monotonic() - began


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=2):  # noqa: S310  # loopback
            return True
    except OSError:
        return False


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# --- the account


def _marks(nodes: Mapping[str, Device]) -> dict[str, int]:
    return {name: node.next_seq for name, node in nodes.items()}


async def _receipted(nodes: Mapping[str, Device], marks: Mapping[str, int] | None = None) -> list[str]:
    """Wait until every node is told that all before its mark is stored; who was not."""
    marks = marks or _marks(nodes)
    deadline = time.monotonic() + PATIENCE_S
    while waiting := [name for name, node in nodes.items() if node.watermark < marks[name] - 1]:
        if time.monotonic() > deadline:
            return [f"{name} was told {nodes[name].watermark} of {marks[name] - 1}" for name in waiting[:5]]
        await asyncio.sleep(0.05)
    return []


async def _account(url: str, nodes: Mapping[str, Device]) -> Balance:
    """Every reading that a node has ever taken against the database."""
    found = Balance()
    connection = await asyncpg.connect(url)
    try:
        for name, node in nodes.items():
            kept = [Kept(*row) for row in await connection.fetch(ROWS, name)]
            phase = Phase("all", {name: 1}, {name: node.next_seq})
            found.add(*balance([Taken(name, node.sid, node.readings)], kept, [phase]))
    finally:
        await connection.close()
    return found


def table(size: Size, found: Outcome) -> str:
    """The figures, as docs/deploy/upgrading.md has them."""
    account = found.account
    rows = [
        ("readings in the old database", f"{found.old_readings:,} of {size.nodes} nodes, schema {FIRST_SCHEMA}"),
        ("`carbontrack migrate`", f"{found.migrate_s:.1f} s: {found.migrations}"),
        ("the core's start until it is ready", f"{found.start_s:.1f} s"),
        ("until every node was told again that its readings are stored", f"{found.outage_s:.1f} s"),
        ("schema newer than the running core", f"it ended after {found.ended_after_s:.1f} s"),
        ("records that nodes have taken since", f"{account.taken - found.old_readings:,}"),
        ("taken, stored", f"{account.taken:,}, {account.stored:,}"),
        ("lost", f"{account.lost:,}"),
        ("duplicates", f"{account.duplicate:,}"),
    ]
    return "\n".join(f"| {what} | {figure} |" for what, figure in rows)


def complaints(found: Outcome) -> list[str]:
    """All that is not as it must be."""
    wrong = [*found.failures, *found.account.examples]
    if "lacks the migration 0003" not in found.refused:
        wrong.append(f"of the old schema the core said: {found.refused}")
    if "9999_from_the_future" not in found.ended:
        wrong.append(f"of the newer schema the core said: {found.ended}")
    return wrong


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="upgrade", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    share = 10 if parser.parse_args(arguments).quick else 1
    size = Size(nodes=40 // share, readings=10_000, sample_s=0.5)
    with (
        tempfile.TemporaryDirectory(prefix="carbontrack-upgrade-") as place,
        postgres(Path(tempfile.gettempdir())) as server,
    ):
        shared, brokers = Path(place, "shared"), Path(place, "broker")
        shared.mkdir()
        brokers.mkdir()
        write_broker_files(shared)
        with broker(shared, brokers, persistence=True) as mosquitto:
            found = asyncio.run(drill(server.new_url(), mosquitto, Path(place), size))
    print(f"To schema {newest_migration()}:\n{table(size, found)}")
    if wrong := complaints(found):
        sys.exit("\n".join(wrong))
