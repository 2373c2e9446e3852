"""Ingest against what a user would otherwise take, on the same broker, publisher and database, in one run.

    make bench ARGS="peers"            all of it (under ten minutes on two cores, after the first time)
    make bench ARGS="peers --quick"    two fifths of the messages, one round
    make bench ARGS="peers --only node-red"

Each peer gets the same messages of 268 devices, QoS 1, from the same publisher through the same mosquitto, and an empty
database of the same PostgreSQL server. What counts are rows that are committed, as another connection sees them.
docs/performance.md says what each peer does not do that Carbon Track does.

Peers are installed at the first run, in pinned versions, into the user's cache folder (npm and uv are needed, and for
Home Assistant a Python 3.13). A peer that cannot be installed or run is reported as such, and the run ends with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import asyncpg

from benchmarks.growth import REGISTER, connected, network_at
from benchmarks.publisher import Load
from benchmarks.rig import cpu_s, mosquitto, postgres, publishing, serving
from tests.support.postgres import Postgres
from tests.support.system import Server, free_port

DEVICES = 268
LIMIT_S = 90.0
"""For the messages of one round; what is in by then counts."""
START_S = 150.0
"""For a peer to start and to keep its first messages."""
SETTLED_S = 6.0
LOOK_EVERY_S = 0.25
INSTALL_S = 1200.0

DJANGO = ("django==5.2.19", "psycopg[binary]==3.3.9", "paho-mqtt==2.1.0")
NODE_RED = ("node-red@4.1.15", "pg@8.23.1")
HOME_ASSISTANT = (
    "homeassistant==2025.4.4",  # the newest that takes Python 3.13.0; what its own parts need stands below
    "home-assistant-frontend==20250411.0",
    "paho-mqtt==2.1.0",
    "psycopg2-binary==2.9.12",
)
HOME_ASSISTANT_PYTHON = "3.13"


class CannotBeHad(Exception):
    """A peer that cannot be installed or started here, and why."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a peer gets for one round."""

    folder: Path
    url: str
    broker_port: int


@dataclass(frozen=True, slots=True)
class Peer:
    """``start`` runs it until the block ends; ``counted`` counts the readings that it has committed."""

    name: str
    title: str
    counted: str
    start: Callable[[Round], AbstractContextManager[Server]]


# --- installing


def cache(name: str, pins: Sequence[str]) -> Path:
    """Where a peer is installed: another folder for other versions."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(" ".join(pins).encode()).hexdigest()[:12]
    return home / "carbontrack-benchmarks" / f"{name}-{digest}"


@contextmanager
def installing(name: str, pins: Sequence[str]) -> Iterator[Path | None]:
    """The folder to install into, or None when all is there; what was left half done is done anew."""
    folder = cache(name, pins)
    if (folder / "installed").exists():
        yield None
        return
    print(f"Installing {name}: {', '.join(pins)} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    (folder / "installed").touch()


def run(*command: str | Path, cwd: Path) -> None:
    """Run an installer. Raises :class:`CannotBeHad` with its last words."""
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except FileNotFoundError as error:
        raise CannotBeHad(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        words = " ".join((error.stderr or error.stdout).split())
        raise CannotBeHad(f"{Path(command[0]).name} could not install it: {words[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise CannotBeHad(f"its installation took more than {INSTALL_S:.0f} s") from error


def install_python(name: str, pins: Sequence[str], python: str) -> Path:
    """A virtual environment with these packages; its folder of programs."""
    uv = Path(sys.executable).with_name("uv")
    with installing(name, pins) as folder:
        if folder is not None:
            run(uv, "venv", "--quiet", "--python", python, folder / "venv", cwd=folder)
            run(uv, "pip", "install", "--quiet", "--python", folder / "venv/bin/python", *pins, cwd=folder)
    return cache(name, pins) / "venv/bin"


def python_named(version: str) -> str:
    """A Python of this version. Raises :class:`CannotBeHad` where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"versions/{version}*/bin/python")))]
    for candidate in filter(None, found):
        if subprocess.run([candidate, "--version"], check=False, capture_output=True).returncode == 0:
            return candidate
    raise CannotBeHad(f"there is no Python {version} on this machine")


# --- Carbon Track


@contextmanager
def carbon_track(now: Round) -> Iterator[Server]:
    # The publisher sends nothing twice: what bounds a real fleet is lifted, so that nothing is refused.
    bounds = {"DEVICES__MESSAGES_PER_S": "1000", "DEVICES__MAILBOX_SIZE": "4096"}

    async def prepare() -> None:
        async with network_at(now.url), connected(now.url) as connection:
            await connection.execute(REGISTER, 0, DEVICES)

    asyncio.run(prepare())
    with serving(now.url, now.broker_port, now.folder, **bounds) as core:
        yield core.server


# --- Django's ORM, row by row, in paho's callback

MODELS = """\
from django.db import models


class DeviceReading(models.Model):
    device_id = models.CharField(max_length=64, db_index=True)
    seq = models.BigIntegerField()
    measured_at = models.DateTimeField(db_index=True)
    co2_ppm = models.FloatField(null=True)
    temperature_c = models.FloatField(null=True)
    velocity_ms = models.FloatField(null=True)
    pressure_kpa = models.FloatField(null=True)
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "device_reading"
        indexes = [models.Index(fields=["device_id", "measured_at"])]
"""
SUBSCRIBER = """\
import json
import sys
from datetime import datetime, timezone

import django
import paho.mqtt.client as mqtt
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["readings"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    DATABASES={"default": json.loads(sys.argv[2]) | {"ENGINE": "django.db.backends.postgresql"}},
)
django.setup()

from django.core.management import call_command
from readings.models import DeviceReading

call_command("migrate", run_syncdb=True, verbosity=0)
if sys.argv[1] == "0":
    sys.exit()


def on_connect(client, userdata, flags, reason_code, properties):
    client.subscribe("ct/v1/+/up/data", qos=1)


def on_message(client, userdata, message):
    body = json.loads(message.payload)
    row = dict(zip(body["s"]["cols"], body["s"]["rows"][0]))
    DeviceReading.objects.create(
        device_id=message.topic.split("/")[2],
        seq=body["seq"] + row["ds"],
        measured_at=datetime.fromtimestamp((body["t"] + row["dt"]) / 1000, timezone.utc),
        co2_ppm=row["co2"],
        temperature_c=row["tg"],
        velocity_ms=row["v"],
        pressure_kpa=row["pa"],
    )


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="django")
client.on_connect = on_connect
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""


def django_command(now: Round, broker_port: int) -> list[str | Path]:
    """The project in the round's folder; with port 0 it makes its table and ends."""
    python = install_python("django", DJANGO, sys.executable) / "python"
    (now.folder / "readings").mkdir(exist_ok=True)
    (now.folder / "readings/__init__.py").touch()
    (now.folder / "readings/models.py").write_text(MODELS)
    (now.folder / "subscriber.py").write_text(SUBSCRIBER)
    at = urlsplit(now.url)
    database = {"NAME": at.path[1:], "USER": at.username, "PASSWORD": at.password, "HOST": at.hostname, "PORT": at.port}
    return [python, now.folder / "subscriber.py", str(broker_port), json.dumps(database)]


@contextmanager
def django(now: Round) -> Iterator[Server]:
    with started(django_command(now, now.broker_port), now.folder / "django.log") as server:
        yield server


# --- Node-RED

INSERT = """\
INSERT INTO device_reading
    (device_id, seq, measured_at, co2_ppm, temperature_c, velocity_ms, pressure_kpa, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now())"""
ROW = """\
const body = msg.payload;
const row = Object.fromEntries(body.s.cols.map((name, at) => [name, body.s.rows[0][at]]));
msg.params = [
    msg.topic.split("/")[2], body.seq + row.ds, new Date(body.t + row.dt), row.co2, row.tg, row.v, row.pa,
];
return msg;
"""
STORE = f"""\
global.get("pool").query(`{INSERT}`, msg.params).then(() => node.done()).catch((error) => node.error(error, msg));
"""
SETTINGS = """\
const {{ Pool }} = require("pg");
module.exports = {{
    flowFile: "flows.json",
    credentialSecret: false,
    uiHost: "127.0.0.1",
    uiPort: {ui_port},
    functionGlobalContext: {{ pool: new Pool({{ connectionString: {url}, max: 10 }}) }},
    logging: {{ console: {{ level: "warn", metrics: false, audit: false }} }},
    editorTheme: {{ tours: false, projects: {{ enabled: false }} }},
    telemetry: {{ enabled: false, updateNotification: false }},
}};
"""


def flow(broker_port: int) -> list[dict[str, object]]:
    """From mqtt in to json to a function to the insert."""

    def step(name: str, kind: str, then: str | None, **values: object) -> dict[str, object]:
        # Without a place on the page it would be taken for a node of settings.
        place = {"z": "tab", "x": 100, "y": 100, "wires": [[then] if then else []]}
        return {"id": name, "type": kind, **place, **values}

    function = {"outputs": 1, "timeout": 0, "noerr": 0, "initialize": "", "finalize": "", "libs": []}
    broker = {"broker": "127.0.0.1", "port": str(broker_port), "protocolVersion": "4", "keepalive": "60"}
    return [
        {"id": "tab", "type": "tab", "label": "readings", "disabled": False},
        {"id": "broker", "type": "mqtt-broker", "clientid": "node-red", "cleansession": True, "autoConnect": True}
        | broker,
        step("in", "mqtt in", "parse", topic="ct/v1/+/up/data", qos="1", datatype="utf8", broker="broker", inputs=0),
        step("parse", "json", "row", property="payload", action="obj", pretty=False),
        step("row", "function", "store", func=ROW, **function),
        step("store", "function", None, func=STORE, **(function | {"outputs": 0})),
    ]


def install_node_red() -> Path:
    with installing("node-red", NODE_RED) as folder:
        if folder is not None:
            (folder / "package.json").write_text('{"private": true}')
            # Nothing of it has to be compiled.
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            run("npm", "install", *quiet, *NODE_RED, cwd=folder)
    return cache("node-red", NODE_RED)


@contextmanager
def node_red(now: Round) -> Iterator[Server]:
    installed = install_node_red()
    # The same table with the same indexes as Django's.
    subprocess.run(django_command(now, 0), check=True, cwd=now.folder)
    (now.folder / "node_modules").symlink_to(installed / "node_modules")
    (now.folder / "flows.json").write_text(json.dumps(flow(now.broker_port)))
    (now.folder / "settings.js").write_text(SETTINGS.format(ui_port=free_port(), url=json.dumps(now.url)))
    node = shutil.which("node")
    if node is None:
        raise CannotBeHad("node is not installed")
    red = installed / "node_modules/node-red/red.js"
    command: list[str | Path] = [node, red, "--userDir", now.folder, "--settings", now.folder / "settings.js"]
    with started(command, now.folder / "node-red.log") as server:
        yield server


# --- Home Assistant

CONFIGURATION = """\
homeassistant:
  name: Benchmark
http:
  server_host: 127.0.0.1
  server_port: {port}
logger:
  default: warning
recorder:
  db_url: {url}
  commit_interval: 1
mqtt:
  sensor:
"""
SENSOR = """\
    - name: {device}
      unique_id: {device}
      state_topic: ct/v1/{device}/up/data
      qos: 1
      value_template: "{{{{ value_json.s.rows[0][3] }}}}"
"""


def mqtt_entry(broker_port: int) -> dict[str, object]:
    """What the dialogue "add integration: MQTT" leaves behind."""
    long_ago = "2025-01-01T00:00:00+00:00"
    entry = {
        "entry_id": "benchmark",
        "version": 1,
        "minor_version": 2,
        "domain": "mqtt",
        "title": "mqtt",
        "data": {"broker": "127.0.0.1", "port": broker_port, "protocol": "3.1.1"},
        "options": {"discovery": False},
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "source": "user",
        "unique_id": None,
        "disabled_by": None,
        "discovery_keys": {},
        "subentries": [],
        "created_at": long_ago,
        "modified_at": long_ago,
    }
    return {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}


@contextmanager
def home_assistant(now: Round) -> Iterator[Server]:
    programs = install_python("home-assistant", HOME_ASSISTANT, python_named(HOME_ASSISTANT_PYTHON))
    folder = now.folder / "home-assistant"
    (folder / ".storage").mkdir(parents=True)
    (folder / ".storage/core.config_entries").write_text(json.dumps(mqtt_entry(now.broker_port)))
    url = now.url.replace("postgres://", "postgresql://", 1)
    sensors = "".join(SENSOR.format(device=f"dev-{number:05}") for number in range(DEVICES))
    (folder / "configuration.yaml").write_text(CONFIGURATION.format(port=free_port(), url=url) + sensors)
    with started([programs / "hass", "--config", folder, "--skip-pip"], now.folder / "home-assistant.log") as server:
        yield server


PEERS = (
    Peer("carbontrack", "Carbon Track", "SELECT count(*) FROM reading", carbon_track),
    Peer("django", "Django's ORM, row by row under paho", "SELECT count(*) FROM device_reading", django),
    Peer("node-red", "Node-RED into PostgreSQL", "SELECT count(*) FROM device_reading", node_red),
    Peer(
        "home-assistant",
        "Home Assistant with recorder",
        """
        SELECT count(*) FROM states s JOIN states_meta m USING (metadata_id)
        WHERE m.entity_id LIKE 'sensor.dev\\_%' AND s.state NOT IN ('unknown', 'unavailable')
        """,
        home_assistant,
    ),
)


# --- measuring


@contextmanager
def started(command: Sequence[str | Path], log: Path) -> Iterator[Server]:
    """A program that is there when its first rows are there: see :func:`opened`."""
    server = Server(command, log=log, is_ready=lambda: True)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows a second, processor time of the peer's own process for each, and how many came."""

    per_s: float
    cpu_us: float
    rows: int


class Counter:
    """How many readings a peer has committed, as a connection of our own sees it."""

    def __init__(self, connection: asyncpg.Connection, peer: Peer, server: Server) -> None:
        self._connection = connection
        self._peer = peer
        self._server = server

    @property
    def cpu_s(self) -> float:
        """Of the peer's process, without the database's."""
        return cpu_s(self._server)

    async def __call__(self) -> int:
        if self._server.process is None or self._server.process.poll() is not None:
            words = self._server.log.read_text(errors="replace")[-500:]
            raise CannotBeHad(f"it ended by itself: {words}")
        try:
            count: int = await self._connection.fetchval(self._peer.counted)
        except asyncpg.UndefinedTableError:
            return 0
        return count


async def opened(count: Counter, load: Load) -> int:
    """Send each device's first message until all of them are in; how many rows there are when no more come."""
    deadline = time.monotonic() + START_S
    seen, at = -1, 0.0
    while True:
        if seen < load.devices:
            with publishing(replace(load, messages=load.devices)) as publisher:
                await asyncio.to_thread(publisher.wait)
        for _ in range(round(3 / LOOK_EVERY_S)):
            if (rows := await count()) != seen:
                seen, at = rows, time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
        if seen >= load.devices and time.monotonic() - at > SETTLED_S:
            return seen
        if time.monotonic() > deadline:
            raise CannotBeHad(f"it has {seen} of {load.devices} first readings after {START_S:.0f} s")


async def rate(count: Counter, load: Load) -> Figures:
    """From the first rows that are seen to the last."""
    before = await opened(count, load)
    used_s = count.cpu_s
    seen: list[tuple[float, int]] = []
    began = time.perf_counter()
    with publishing(replace(load, first_seq=2)):
        while time.perf_counter() - began < LIMIT_S:
            rows = await count() - before
            if rows and (not seen or rows != seen[-1][1]):
                seen.append((time.perf_counter(), rows))
            if rows >= load.messages:
                break
            await asyncio.sleep(LOOK_EVERY_S)
    if len(seen) < 2:
        raise CannotBeHad(f"{seen[-1][1] if seen else 0} rows are too few to tell a rate")
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    return Figures((last - first) / (last_s - first_s), 1e6 * (count.cpu_s - used_s) / last, last)


def measured(peer: Peer, server: Postgres, messages: int) -> Figures:
    """One round of one peer, on a broker and a database of its own."""

    async def counted(now: Round, running: Server) -> Figures:
        async with connected(now.url) as connection:
            load = Load(now.broker_port, "bench", "bench", devices=DEVICES, messages=messages)
            return await rate(Counter(connection, peer, running), load)

    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as port:
        now = Round(Path(name), server.new_url(), port)
        with peer.start(now) as running:
            return asyncio.run(counted(now, running))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two fifths of the messages, one round")
    parser.add_argument("--only", choices=[peer.name for peer in PEERS[1:]], action="append", help="of the peers")
    options = parser.parse_args(arguments)
    wanted = [peer for peer in PEERS if not options.only or peer.name in options.only or peer is PEERS[0]]
    messages, rounds = (20_000, 1) if options.quick else (50_000, 2)
    found: dict[str, list[Figures]] = {}
    missing: dict[str, str] = {}
    began = time.perf_counter()
    with postgres() as server:
        for peer in wanted * rounds:
            if peer.name in missing:
                continue
            try:
                figures = measured(peer, server, messages)
            except (CannotBeHad, RuntimeError, OSError, subprocess.SubprocessError) as error:
                missing[peer.name] = " ".join(str(error).split())
                print(f"NOT MEASURED: {peer.title}: {missing[peer.name]}", file=sys.stderr, flush=True)
                continue
            found.setdefault(peer.name, []).append(figures)
            server.drop_databases()
    report(wanted, found, missing, messages)
    print(f"\n{messages:,} messages, medians of {rounds}; {time.perf_counter() - began:.0f} s")
    sys.exit(1 if missing else 0)


def report(peers: Sequence[Peer], found: dict[str, list[Figures]], missing: dict[str, str], messages: int) -> None:
    print("| What | Committed | Of Carbon Track | Own CPU for each | Readings that are in |")
    print("| --- | ---: | ---: | ---: | ---: |")
    own = median(it.per_s for it in found[PEERS[0].name]) if PEERS[0].name in found else None
    for peer in peers:
        if peer.name in missing:
            print(f"| {peer.title} | NOT MEASURED | | | {missing[peer.name][:160]} |")
            continue
        rounds = found[peer.name]
        per_s, cpu_us = median(it.per_s for it in rounds), median(it.cpu_us for it in rounds)
        ratio = f"{per_s / own:.2f}" if own else ""
        in_words = f"{min(it.rows for it in rounds):,} of {messages:,}"
        print(f"| {peer.title} | {per_s:,.0f} messages/s | {ratio} | {cpu_us:,.0f} us | {in_words} |")


if __name__ == "__main__":
    main(sys.argv[1:])
