"""The demo as a newcomer runs it: the command itself, its own broker, database, pages and simulated devices."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.system import free_port

START_S = 60.0
STOP_S = 20.0


class Demo:
    """A running demo in a process group of its own, as a terminal gives it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    def await_start(self) -> None:
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"Open +(http://\S+)", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        self.url = found[1]

    def press_ctrl_c(self) -> int:
        """What a terminal does: everything in the foreground gets it. Returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(STOP_S)

    def metric(self, name: str) -> float:
        text = urlopen(self.url + "/metrics", timeout=10).read().decode()  # noqa: S310  # loopback
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def await_metric(self, name: str, least: float, within_s: float = START_S) -> None:
        deadline = time.monotonic() + within_s
        while self.metric(name) < least:
            assert time.monotonic() < deadline, (name, self.metric(name), self.log.read_text())
            time.sleep(0.1)


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Demo]:
    log = folder / f"demo-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "carbontrack", "demo", "--data-dir", str(folder / "data"), *options]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, text=True, start_new_session=True)
    running = Demo(process, log)
    try:
        yield running
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    own = [int(child) for text in lists for child in text.split()]
    return own + [grandchild for child in own for grandchild in children(child)]


COMMITTED = 'carbontrack_readings_total{outcome="committed"}'
DUPLICATE = 'carbontrack_readings_total{outcome="duplicate"}'


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for left-over processes by /proc")
def test_the_demo_starts_ends_with_ctrl_c_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with demo(tmp_path, "--factories", "2", "--port", "0", "--speed", "10") as first:
        first.await_start()
        first.await_metric(COMMITTED, 100)
        started = children(first.process.pid)
        assert len(started) >= 2  # the broker and the devices
        assert first.press_ctrl_c() == 0, first.log.read_text()
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    said = first.log.read_text()
    assert "hq@demo.example" in said
    assert "rror" not in said
    assert "Traceback" not in said

    with demo(tmp_path, "--factories", "2", "--port", "0", "--speed", "10") as second:
        second.await_start()
        second.await_metric(COMMITTED, 100)
        assert second.metric('carbontrack_actors{state="parked"}') == 0
        assert second.press_ctrl_c() == 0, second.log.read_text()
    assert "rror" not in second.log.read_text()


def test_a_port_that_is_taken_is_said_at_once_with_what_to_do(tmp_path: Path) -> None:
    with demo(tmp_path, "--factories", "1", "--port", "0") as first:
        first.await_start()
        port = first.url.rsplit(":", 1)[1]
        with demo(tmp_path, "--port", port) as second:
            assert second.process.wait(START_S) == 2
            assert f"Port {port} cannot be used" in second.log.read_text()
            assert "--port" in second.log.read_text()
        first.press_ctrl_c()


def test_fresh_deletes_the_demos_data_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "devices").mkdir(parents=True)
    (data / "devices" / "ct-old-1.json").write_text("{}")
    (data / "carbontrack.sqlite3").write_text("no database")
    (data / "my-notes.txt").write_text("keep me")

    with demo(tmp_path, "--factories", "1", "--port", str(free_port()), "--fresh") as running:
        running.await_start()
        page = urlopen(Request(running.url + "/login"), timeout=10).read().decode()  # noqa: S310  # loopback
        running.press_ctrl_c()

    assert "Sign in as" in page
    assert (data / "my-notes.txt").read_text() == "keep me"
    assert not (data / "devices" / "ct-old-1.json").exists()
