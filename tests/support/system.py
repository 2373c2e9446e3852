"""Programs of the system that the tests run for real, as child processes that end with their test."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REQUIRE = "CARBONTRACK_REQUIRE_SYSTEM_PARTS"
START_S = 60.0
STOP_S = 10.0


def needs(program: str, *, package: str, folders: Sequence[Path] = ()) -> Path:
    """Find a program of the system; without it the test is skipped by the name of its package, and fails in CI."""
    places = [*os.get_exec_path(), "/usr/sbin", *map(str, folders)]
    found = shutil.which(program, path=os.pathsep.join(places))
    if found is None:
        message = f"{program} is not installed (Debian: apt install {package})"
        if os.environ.get(REQUIRE):
            pytest.fail(f"{message}, and {REQUIRE} is set", pytrace=False)
        pytest.skip(message)
    return Path(found).absolute()  # links stay: some programs are several, by the name that they are called by


def free_port() -> int:
    """Pick a loopback port that nobody listens on.

    It lies below the range from which the system takes the ports of outgoing connections: from within that range a
    client that keeps trying to reach a stopped server can end up connected to itself.
    """
    for port in random.sample(range(20_000, 32_000), k=100):
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port on the loopback interface")


def accepts_connections(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Server:
    """A server that a test can start, stop, kill and start again."""

    command: Sequence[str | Path]
    log: Path
    is_ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    """The account to run under, for a program that refuses to run as root."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    answers_since: float = field(default=math.inf, init=False)
    """Monotonic time from which on it has answered; infinite while it is stopped."""

    def start(self) -> None:
        """Start, and return when it answers. Started already, it stays as it is."""
        if self.process is not None and self.process.poll() is None:
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.01)
        self.answers_since = time.monotonic()

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, by its own id, and return when it is gone. ``SIGKILL`` is a crash."""
        self.answers_since = math.inf
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how or self.stop_signal)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_S)
        self.process = None
