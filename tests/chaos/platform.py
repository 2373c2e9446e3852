"""The platform under test as it runs in production: PostgreSQL, mosquitto and ``carbontrack serve``, each a process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from carbontrack.ingest import BrokerSettings, tls_context
from carbontrack.metrics import Metrics
from carbontrack.model import Role
from carbontrack.passwords import hash_password
from carbontrack.simulator import demo_fleet
from carbontrack.store import migrate, open_store
from tests.support.mosquitto import Broker, broker, password_of, write_broker_files
from tests.support.postgres import Postgres, postgres_server
from tests.support.system import Server, free_port
from tests.support.world import register

PERSON, PASSWORD = "hq@example.org", "a password for the watcher"
OFFLINE_AFTER_S = 8.0
START_AGAIN_S = 20.0
MODE_VARIABLE = "CARBONTRACK_CHAOS_MODE_FILE"
CONFIGURATION = """
database:
  url: {url}
mqtt:
  host: 127.0.0.1
  port: {broker_port}
  tls:
    ca_file: {ca_file}
  username: core
  password: {password}
  credit: 50
  backlog_per_s: 400
http:
  port: {http_port}
devices:
  registry_poll_s: 1
  offline_after_s: {offline_after_s}
retention:
  reserve_mb: 0
plugins:
  folder: {plugins}
alerts:
  - name: troublesome
    rule: troublesome
    severity: info
    hold_s: 0
logging:
  format: json
"""
PLUGIN = '''
"""An alert rule that does what a file says: nothing, raise an error, hold everybody up, or never come back."""

import os
import time

from pydantic import BaseModel

from carbontrack import AlertRule, Kind, Manifest, Verdict, hookimpl

MANIFEST = Manifest(name="troublesome", version="1.0", kinds=(Kind.ALERT,), title="Trouble on demand")


class Options(BaseModel):
    pass


def evaluate(options, seen):
    with open(os.environ["CARBONTRACK_CHAOS_MODE_FILE"], encoding="utf-8") as file:
        mode = file.read()
    if mode == "crash":
        raise RuntimeError("a rule that crashes")
    while mode == "hang":
        time.sleep(1)
    if mode == "slow":
        time.sleep(0.02)
    return Verdict(breached=False, cleared=True)


@hookimpl
def register_alert_rules():
    return [AlertRule("troublesome", "Trouble on demand", Options, evaluate)]
'''


@dataclass
class Platform:
    """The running parts, and how to make them fail."""

    postgres: Postgres
    broker: Broker
    core: Server
    url: str
    """Of the database."""
    http: str
    """Of the pages."""
    disk: Path | None
    """The small volume that the database is on, where there is one."""
    mode_file: Path
    plugin: Path

    @property
    def settings(self) -> BrokerSettings:
        """How a device reaches the broker, but for its own name."""
        return BrokerSettings("127.0.0.1", self.broker.port, tls=tls_context(self.broker.ca_file))

    async def start_database(self) -> None:
        """Start it, however it ended: after a SIGKILL its last children may still be on their way out."""
        deadline = time.monotonic() + START_AGAIN_S
        while True:
            try:
                await asyncio.to_thread(self.postgres.start)
                return
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    def reload(self) -> None:
        """Change the plugin's code and have the core read its configuration anew."""
        self.plugin.write_text(f"{self.plugin.read_text()}\n# {time.monotonic_ns()}\n")
        assert self.core.process is not None
        os.kill(self.core.process.pid, signal.SIGHUP)

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        """A page of the core; status 0 when nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urlopen(Request(self.http + path, headers=headers), timeout=5) as answer:  # noqa: S310  # loopback
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, OSError):
            return 0, ""

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, 0 where there is none; ``name`` may end within the labels."""
        status, text = self.get("/metrics")
        assert status in {0, 200}, text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


@asynccontextmanager
async def platform(folder: Path, devices: Sequence[str], disk_mb: int) -> AsyncIterator[Platform]:
    """Everything running and every device registered, one for each factory and then a second."""
    shared, brokers, core_folder, plugins = (folder / name for name in ("shared", "broker", "core", "plugins"))
    for each in (shared, brokers, core_folder, plugins):
        each.mkdir()
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(disk_mb)) if can_mount() else None
        postgres = stack.enter_context(postgres_server(disk, max_wal_size="64MB", min_wal_size="32MB"))
        url = postgres.new_url()
        write_broker_files(shared)
        running = stack.enter_context(broker(shared, brokers, persistence=True))
        mode_file = folder / "mode"
        mode_file.write_text("")
        (plugins / "troublesome.py").write_text(PLUGIN)
        http_port = free_port()
        config = core_folder / "carbontrack.yaml"
        config.write_text(
            CONFIGURATION.format(
                url=url,
                broker_port=running.port,
                ca_file=running.ca_file,
                password=running.password,
                http_port=http_port,
                offline_after_s=OFFLINE_AFTER_S,
                plugins=plugins,
            )
        )
        await _fill_registry(url, devices)
        http = f"http://127.0.0.1:{http_port}"
        core = Server(
            ["env", f"{MODE_VARIABLE}={mode_file}", sys.executable, "-m", "carbontrack", "serve", "--config", config],
            log=core_folder / "core.log",
            is_ready=lambda: _answers(f"{http}/healthz"),
        )
        found = Platform(postgres, running, core, url, http, disk, mode_file, plugins / "troublesome.py")
        await asyncio.to_thread(core.start)
        try:
            yield found
        finally:
            await asyncio.to_thread(core.stop)
            if postgres.is_running:
                await asyncio.to_thread(postgres.drop_databases)


async def _fill_registry(url: str, devices: Sequence[str]) -> None:
    await migrate(url)
    names = [each.factory.name for each in demo_fleet()]
    async with open_store(url, Metrics()) as store:
        for place, name in enumerate(names[: len(devices)]):
            await register(store, *devices[place :: len(names)], factory_name=name)
        await store.add_user(PERSON, hash_password(PASSWORD), Role.HQ_MANAGER)


def device_names(count: int) -> list[str]:
    """Names that the tests' broker has passwords for."""
    return [f"dev-{number:03}" for number in range(count)]


__all__ = ["Platform", "can_mount", "device_names", "password_of", "platform"]


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310  # loopback
            return True
    except OSError:
        return False


# --- a disk that can be filled


def can_mount() -> bool:
    """Whether a volume of its own can be made here: only then a disk can be full without harm to anybody else."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
        )
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A volume of so much, mounted until the block ends."""
    place = Path(tempfile.mkdtemp(prefix="carbontrack-disk-"))
    options = f"size={megabytes}m,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()
