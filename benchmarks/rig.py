"""What the benchmarks run on: a broker, a database, a publisher and the core, each a process of its own on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.publisher import Load
from tests.support.postgres import Postgres, postgres_server
from tests.support.system import Server, accepts_connections, free_port, needs

START_S = 180.0
MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 1000
set_tcp_nodelay true
log_dest none
"""


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A broker on loopback without TLS: both sides of each ratio have the same one."""
    port = free_port()
    (folder / "mosquitto.conf").write_text(MOSQUITTO.format(port=port))
    server = Server(
        [needs("mosquitto", package="mosquitto"), "-c", folder / "mosquitto.conf"],
        log=folder / "mosquitto.log",
        is_ready=lambda: accepts_connections(port),
    )
    server.start()
    try:
        yield port
    finally:
        server.stop()


@contextmanager
def postgres(parent: Path | None = None) -> Iterator[Postgres]:
    """A server that keeps what it has said to keep, as one in production does.

    ``parent`` is a folder for its data, which everybody may enter; without it they are in memory, where there is room.
    """
    with postgres_server(
        parent, fsync="on", full_page_writes="on", shared_buffers="256MB", max_wal_size="2GB"
    ) as server:
        yield server


@contextmanager
def publishing(load: Load) -> Iterator[subprocess.Popen[str]]:
    """The publisher as a process of its own, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.publisher", json.dumps(asdict(load))], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def cpu_s(server: Server) -> float:
    """Processor time that a program has used: what a busy machine makes slow, it leaves nearly as it is."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Core:
    """``carbontrack serve`` as its own process. ``ready_s``: from its start until it said that it is ready."""

    def __init__(self, url: str, broker_port: int, folder: Path, settings: dict[str, str]) -> None:
        self._port = free_port()
        environment = {
            "DATABASE__URL": url,
            "MQTT__PORT": str(broker_port),
            "HTTP__PORT": str(self._port),
            "DEVICES__CANARY_EVERY_S": "0",
            **settings,
        }
        self.server = Server(
            [
                *("env", *(f"CARBONTRACK_{name}={value}" for name, value in environment.items())),
                *(sys.executable, "-m", "carbontrack", "serve"),
            ],
            log=folder / "core.log",
            is_ready=lambda: True,  # a start that takes long is a figure and no error
        )
        self.ready_s = 0.0

    def start(self) -> None:
        began = time.perf_counter()
        self.server.start()
        while self._get("/readyz") is None:
            ended = self.server.process is None or self.server.process.poll() is not None
            if ended or time.perf_counter() - began > START_S:
                self.server.stop()
                raise RuntimeError(
                    f"the core did not get ready:\n{self.server.log.read_text(errors='replace')[-2000:]}"
                )
            time.sleep(0.02)
        self.ready_s = time.perf_counter() - began

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def cpu_s(self) -> float:
        return cpu_s(self.server)

    def metric(self, name: str) -> float:
        """What a line of /metrics says, 0 where there is none yet."""
        for line in (self._get("/metrics") or "").splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except (urllib.error.URLError, OSError):
            return None


@contextmanager
def serving(url: str, broker_port: int, folder: Path, **settings: str) -> Iterator[Core]:
    """The core on a database and a broker, with settings by the names of their environment variables."""
    core = Core(url, broker_port, folder, settings)
    core.start()
    try:
        yield core
    finally:
        core.server.stop()
