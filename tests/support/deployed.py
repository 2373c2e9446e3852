"""A mosquitto that runs by the very files of deploy/mosquitto and by what `carbontrack broker set-up` writes."""

from __future__ import annotations

import getpass
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.support import programs
from tests.support.system import Server, accepts_connections, free_port, needs

ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = ROOT / "deploy" / "mosquitto" / "mosquitto.conf"
DEVICE_KEY = "a key that is known to the tests only"
CORE, CORE_PASSWORD = "carbontrack-core", "password of the core"
PLUGINS = sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Installation:
    """A folder with a configuration, and the command line that uses it."""

    folder: Path
    database_url: str
    port: int = 8883

    def __post_init__(self) -> None:
        (self.folder / "carbontrack.yaml").write_text(
            "database:\n  url: !secret database_url\n"
            f"mqtt:\n  host: localhost\n  port: {self.port}\n  tls:\n    ca_file: broker-files/ca.crt\n"
            f"  username: {CORE}\n  password: !secret mqtt_password\n  device_key: !secret mqtt_device_key\n"
        )
        (self.folder / "secrets.yaml").write_text(
            f"database_url: {self.database_url}\nmqtt_password: {CORE_PASSWORD}\nmqtt_device_key: {DEVICE_KEY}\n"
        )

    @property
    def files(self) -> Path:
        return self.folder / "broker-files"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return programs.run("carbontrack", *words, "--config", self.folder / "carbontrack.yaml", cwd=self.folder)

    def set_up(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("broker", "set-up", "--folder", str(self.files), *words)


def set_up_files(folder: Path) -> Path:
    """What `carbontrack broker set-up` writes for a site that is installed in this folder."""
    needs("mosquitto", package="mosquitto")
    installation = Installation(folder, "sqlite://unused.sqlite3")
    done = installation.set_up("--host", "localhost")
    assert done.returncode == 0, done.stderr
    return installation.files


@dataclass
class Deployed:
    """The running broker."""

    port: int
    files: Path
    folder: Path
    server: Server

    @property
    def accounts_file(self) -> Path:
        return self.folder / "state" / "dynamic-security.json"

    @property
    def database_file(self) -> Path:
        return self.folder / "state" / "mosquitto.db"

    @property
    def ca_file(self) -> Path:
        return self.files / "ca.crt"

    def client(self, username: str | None, password: str | None, **options: Any) -> aiomqtt.Client:
        """A client over TLS, by default with the client id of a device."""
        own: dict[str, Any] = {
            "username": username,
            "password": password,
            "identifier": username,
            "tls_context": ssl.create_default_context(cafile=str(self.ca_file)),
            "protocol": aiomqtt.ProtocolVersion.V311,
        }
        return aiomqtt.Client("localhost", self.port, **(own | options))

    def core(self, identifier: str, **options: Any) -> aiomqtt.Client:
        return self.client(CORE, CORE_PASSWORD, identifier=identifier, **options)

    def accounts(self) -> dict[str, dict[str, Any]]:
        """What the plugin has written to its file; nothing while it is at it, since it writes in place."""
        with suppress(json.JSONDecodeError):
            return {client["username"]: client for client in json.loads(self.accounts_file.read_text())["clients"]}
        return {}

    def forget_accounts(self) -> None:
        """Crash, and come up again with what `carbontrack broker set-up` wrote."""
        self.server.stop()
        shutil.copy(self.files / "dynamic-security.json", self.accounts_file)
        self.server.start()


@contextmanager
def deployed(files: Path, folder: Path, **changed: str) -> Iterator[Deployed]:
    """Run mosquitto by the configuration as it is shipped. Only places differ, and what ``changed`` names."""
    program = needs("mosquitto", package="mosquitto")
    if not PLUGINS:
        pytest.skip("mosquitto has no dynamic security plugin")
    port, state = free_port(), folder / "state"
    state.mkdir()
    shutil.copy(files / "dynamic-security.json", state)
    text = CONFIGURATION.read_text()
    for shipped, own in {
        "listener 8883": f"listener {port} 127.0.0.1",
        "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so": str(PLUGINS[0]),
        "/etc/mosquitto/certs/": f"{files}/",
        "/run/mosquitto/": f"{folder}/",
        "/var/log/mosquitto/": f"{folder}/",
        "/var/lib/mosquitto/": f"{state}/",
    }.items():
        assert f" {shipped}" in text or f"\n{shipped}" in text
        text = text.replace(shipped, own)
    for name, value in changed.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        text = text.replace(line, f"{name} {value}")
    # The user matters when root runs the tests: mosquitto would drop to an account that cannot read these files.
    (folder / "mosquitto.conf").write_text(f"{text}user {getpass.getuser()}\n")
    server = Server(
        [program, "-c", folder / "mosquitto.conf"],
        log=folder / "output.log",
        is_ready=lambda: accepts_connections(port),
    )
    server.start()
    try:
        yield Deployed(port, files, folder, server)
    finally:
        server.stop()
