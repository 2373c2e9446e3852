"""The files by which systemd and platforms with a Procfile run the core: checked by their own tools, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.support import programs
from tests.support.system import Server, free_port, needs
from tests.support.world import give_schema
from tests.test_docs import ROOT, check_call

UNITS = ROOT / "deploy" / "systemd"
BRIDGE = ROOT / "deploy" / "mosquitto" / "carbontrack-bridge.service"
HEROKU = ROOT / "deploy" / "heroku"
OWN = "/opt/carbontrack/.venv/bin/carbontrack"
MOST_EXPOSED = 20
"""Tenths, as systemd counts: 1.4 for the core, 9.6 for a service that nothing is taken from."""


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units, for a machine on which the command is where this Python has its own."""
    needs("mosquitto", package="mosquitto")
    for unit in [*UNITS.iterdir(), BRIDGE]:
        text = unit.read_text().replace(OWN, str(Path(sys.executable).with_name("carbontrack")))
        (tmp_path / unit.name).write_text(text)
    return sorted(tmp_path.iterdir())


def keys(unit: str, section: str) -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its documentation does it
    parser.read(UNITS / unit)
    return dict(parser[section])


def test_systemd_understands_every_line_of_the_units(installed: list[Path]) -> None:
    done = subprocess.run(
        [needs("systemd-analyze", package="systemd"), "verify", "--man=no", *installed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", sorted(path.name for path in [*UNITS.glob("*.service"), BRIDGE]))
def test_a_service_may_do_little_beside_its_work(unit: str, installed: list[Path]) -> None:
    (path,) = (path for path in installed if path.name == unit)
    done = subprocess.run(
        [
            needs("systemd-analyze", package="systemd"),
            "security",
            "--offline=true",
            f"--threshold={MOST_EXPOSED}",
            path,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("*.service")))
def test_a_service_starts_a_command_that_there_is_as_a_user_of_its_own(unit: str) -> None:
    service = keys(unit, "Service")
    program, _, line = service["ExecStart"].partition(" ")

    assert program == OWN
    check_call(line.replace("%i", "8081"))  # the name of the instance
    assert service["User"] == "carbontrack"


def test_the_timer_starts_a_service_that_there_is() -> None:
    (timer,) = UNITS.glob("*.timer")
    assert timer.with_suffix(".service").is_file()
    done = subprocess.run(
        [needs("systemd-analyze", package="systemd"), "calendar", keys(timer.name, "Timer")["OnCalendar"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_release_step_is_a_command_and_the_web_step_a_file() -> None:
    steps = dict(line.split(": ", 1) for line in (HEROKU / "Procfile").read_text().splitlines())

    assert steps.keys() == {"release", "web"}
    check_call(steps["release"].removeprefix("carbontrack "))
    for name in (steps["web"], "bin/post_compile"):
        assert os.access(HEROKU / name, os.X_OK)
    assert "-r requirements.lock" in (HEROKU / "requirements.txt").read_text().splitlines()
    assert (ROOT / "requirements.lock").is_file()


def start_environment(folder: Path, **more: str) -> dict[str, str]:
    """What a platform gives: the command in PATH, a home, a database."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {"PATH": path, "HOME": str(folder), "DATABASE_URL": f"sqlite://{folder / 'core.sqlite3'}"}
    return programs.environment(CARBONTRACK_HTTP__HOST="127.0.0.1") | given | more


async def test_the_web_step_listens_where_the_platform_says_and_keeps_what_comes_by_the_environment(
    tmp_path: Path,
) -> None:
    await give_schema(f"sqlite://{tmp_path / 'core.sqlite3'}")
    port = free_port()
    environment = start_environment(
        tmp_path, PORT=str(port), SIGNING_KEY="a key\nof lines", MQTT_BROKER_URL=f"mqtt://127.0.0.1:{free_port()}"
    )
    server = Server(
        ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), HEROKU / "bin" / "start"],
        log=tmp_path / "start.log",
        is_ready=lambda: answers(port),
    )
    server.start()
    try:
        kept = tmp_path / "carbontrack" / "signing-key.pem"
        assert kept.read_text() == "a key\nof lines\n"
        assert kept.stat().st_mode & 0o777 == 0o600
    finally:
        server.stop()


def test_without_a_port_the_web_step_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [HEROKU / "bin" / "start"], env=start_environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "PORT: is not set" in done.stderr


def answers(port: int) -> bool:
    """Whether a core is alive there."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def test_every_script_is_one_that_a_plain_shell_reads() -> None:
    scripts = [
        path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.read_bytes()[:9] == b"#!/bin/sh"
    ]
    shell = shutil.which("sh")
    assert scripts
    assert shell
    for script in scripts:
        done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert os.access(script, os.X_OK), script
