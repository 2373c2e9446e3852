"""A package of somebody else's, as it is in examples/: installed by pip under a running core, and used by it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.support import programs
from tests.support.mosquitto import Broker
from tests.support.system import free_port

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "carbontrack-kericho"
PATIENCE_S = 30.0
PASSWORD = "correct horse battery staple"
LINE = "$KP,98000,183.2,4.12,79.68*3B"


@dataclass
class Installation:
    """A site with SQLite and a broker; ``site`` is where pip puts packages for it."""

    config: Path
    site: Path
    port: int
    token: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return programs.environment(PYTHONPATH=str(self.site))

    def python(self, module: str, *words: str | Path, text: str = "") -> str:
        done = programs.run(module, *words, cwd=self.config.parent, text=text, env=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: str, text: str = "") -> str:
        return self.python("carbontrack", *words, "--config", self.config, text=text)

    def install(self, project: Path) -> None:
        """As pip does it, without asking an index: what builds it is in this environment."""
        settings = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
        self.python("pip", "install", *settings, "--target", self.site, project)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The core, as its own process, until the block ends."""
        with (self.config.parent / "core.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "carbontrack", "serve", "--config", self.config],
                cwd=self.config.parent,
                env=self.environment,
                stderr=log,
            )
        try:
            until(lambda: self.get("/readyz")[0] == 200, "the core did not become ready")
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)

    def get(self, path: str) -> tuple[int, bytes]:
        request = Request(f"http://127.0.0.1:{self.port}{path}")  # loopback
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urlopen(request, timeout=10) as answer:  # noqa: S310  # loopback
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except URLError:
            return 0, b""

    def sign_in(self, email: str) -> None:
        body = json.dumps({"email": email, "password": PASSWORD}).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(f"http://127.0.0.1:{self.port}/api/login/", body, headers)  # loopback
        with urlopen(request, timeout=10) as answer:  # noqa: S310  # loopback
            self.token = json.load(answer)["token"]

    def readings(self) -> list[dict[str, Any]]:
        status, body = self.get("/api/emissions/?device_id=dev-001")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["results"]
        return found


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def installation(tmp_path: Path, mosquitto: Broker) -> Installation:
    config, site, port = tmp_path / "carbontrack.yaml", tmp_path / "site", free_port()
    site.mkdir()
    config.write_text(
        f"""
database:
  url: sqlite://carbontrack.sqlite3
mqtt:
  host: {mosquitto.host}
  port: {mosquitto.port}
  tls:
    ca_file: {mosquitto.ca_file}
  username: {mosquitto.username}
  password: {mosquitto.password}
http:
  port: {port}
devices:
  registry_poll_s: 0.2
""",
        encoding="utf-8",
    )
    return Installation(config, site, port)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A copy of the example's source: to build it writes beside it."""
    leave = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", ".*")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "carbontrack-kericho", ignore=leave))


async def publish(mosquitto: Broker, line: str) -> None:
    async with mosquitto.client("dev-001") as device:
        await device.publish("ct/v1/dev-001/up/data", line.encode(), qos=1)


async def test_a_package_that_is_installed_while_the_core_runs_is_used_after_a_reload(
    installation: Installation, example: Path, mosquitto: Broker
) -> None:
    installation.run("migrate")
    installation.run("factory", "add", "Kangaita Tea Factory", "--altitude-m", "2036")
    installation.run("factory", "add-stack", "kangaita", "Boiler 1", "--diameter-m", "0.8")
    installation.run(
        "user", "add", "--email", "hq@example.org", "--role", "hq_manager", "--password-stdin", text=PASSWORD
    )
    with installation.serving():
        installation.sign_in("hq@example.org")
        assert "kericho" not in installation.run("plugins", "list")

        installation.install(example)
        assert "added: kericho_probe, kericho_shifts, kericho_summary" in installation.run("reload")

        installation.run("device", "add", "dev-001", "--stack-id", "1", "--sensor", "kericho_probe")
        until(lambda: b'actors{state="running"} 1.0' in installation.get("/metrics")[1], "the device did not start")
        await publish(mosquitto, LINE)
        until(lambda: len(installation.readings()) == 1, "the reading did not come")
        await publish(mosquitto, "$KP,97000,183.2,4.12,79.68*34")
        until(lambda: len(installation.readings()) == 2, "the second reading did not come")

        first, second = installation.readings()
        assert (first["co2_ppm"], second["co2_ppm"]) == (98_000, 97_000)
        assert first["co2_kg_per_s"] == pytest.approx(0.1485, rel=0.01)

        status, report = installation.get("/factory/kangaita/report?format=kericho_shifts")
        assert status == 200, report
        assert report.decode().startswith("Kangaita Tea Factory: CO2 by shifts (Africa/Nairobi)\n\nBoiler 1\n")
        assert " h measured" in report.decode()


def test_the_example_s_own_tests_pass(installation: Installation, example: Path) -> None:
    words = ("-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", example, "-c", example / "pyproject.toml")

    assert "passed" in installation.python("pytest", *words, example / "tests")


def test_the_example_is_as_good_as_it_claims(installation: Installation, example: Path) -> None:
    told = installation.run("plugins", "check", str(example))

    assert told.count("Tier reached: platinum. Its manifest claims platinum.") == 3
