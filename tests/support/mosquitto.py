"""The mosquitto of the system with TLS, passwords and topic rights, as in production."""

from __future__ import annotations

import getpass
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt

from carbontrack.config import Config, load_config
from tests.support.certificates import write_certificates
from tests.support.system import Server, accepts_connections, free_port, needs

DEVICES = tuple(f"dev-{number:03}" for number in range(400))
"""Devices that have a password already."""

ACL = """\
user core
topic readwrite ct/v1/#

pattern write ct/v1/%u/up/#
pattern read ct/v1/%u/dn/#
"""

CONFIGURATION = """\
# The user matters when root runs the tests: mosquitto would drop to an account that cannot read these files.
user {user}
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence {persistence}
persistence_location {folder}/
autosave_interval 1
max_queued_messages 0
max_queued_bytes 67108864
log_dest stderr
log_type all
connection_messages true

listener {port} 127.0.0.1
cafile {certificates}/ca.pem
certfile {certificates}/server.pem
keyfile {certificates}/server.key
tls_version tlsv1.2

listener {plain_port} 127.0.0.1
"""


def password_of(username: str) -> str:
    """Return the password that a user of the tests' broker has."""
    return f"password of {username}"


@dataclass
class Broker:
    """A running broker: where it is, who may connect, and how to stop and restart it within a test."""

    port: int
    """With TLS."""
    plain_port: int
    """Without TLS, with the same passwords and rights."""
    ca_file: Path
    _folder: Path
    _server: Server
    host: str = "127.0.0.1"
    username: str = "core"
    password: str = password_of("core")

    def client(self, username: str, **options: Any) -> aiomqtt.Client:
        """Return a client of a device (or of the core) over TLS; ``options`` go to aiomqtt."""
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        own: dict[str, Any] = {
            "username": username,
            "password": password_of(username),
            "tls_context": tls,
            "protocol": aiomqtt.ProtocolVersion.V5,
        }
        return aiomqtt.Client(self.host, self.port, **(own | options))

    def add_device(self, device_id: str) -> str:
        """Give one more device a password while the broker runs, as ``carbontrack device add`` asks for."""
        _set_password(self._folder / "passwords", device_id)
        self.reload()
        return password_of(device_id)

    def reload(self) -> None:
        """Let the broker read its password and rights files again; return when it has."""
        process = self._server.process
        assert process is not None
        reloads = self._reloads()
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self._reloads() == reloads:
            assert time.monotonic() < deadline, "mosquitto did not reload its configuration"
            time.sleep(0.01)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        """Crash: no goodbye to any client."""
        self._server.stop(signal.SIGKILL)

    @property
    def answers_since(self) -> float:
        """Monotonic time from which on it has answered; infinite while it is stopped."""
        return self._server.answers_since

    def forget(self) -> None:
        """Lose what a stopped broker had on disk."""
        (self._folder / "mosquitto.db").unlink(missing_ok=True)

    def log(self) -> str:
        """Return what mosquitto has logged, for a look at what a client really did."""
        return self._server.log.read_text()

    def _reloads(self) -> int:
        return self.log().count("Reloading config")


def core_config(mosquitto: Broker, database_url: str, **environment: str) -> Config:
    """The configuration of a core on these parts; ``environment`` has more settings, such as ``HTTP__PORT``."""
    values = {
        "DATABASE__URL": database_url,
        "MQTT__HOST": mosquitto.host,
        "MQTT__PORT": str(mosquitto.port),
        "MQTT__TLS__CA_FILE": str(mosquitto.ca_file),
        "MQTT__USERNAME": mosquitto.username,
        "MQTT__PASSWORD": mosquitto.password,
        "HTTP__PORT": "0",
    }
    return load_config(None, {f"CARBONTRACK_{name}": value for name, value in (values | environment).items()})


def write_broker_files(folder: Path) -> None:
    """Write what all tests share and what takes time to make: certificates, and the hash of every password."""
    tool = needs("mosquitto_passwd", package="mosquitto")
    write_certificates(folder)
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    passwords.write_text("".join(f"{user}:{password_of(user)}\n" for user in ("core", *DEVICES)))
    subprocess.run([tool, "-U", passwords], check=True, capture_output=True)


@contextmanager
def broker(shared: Path, folder: Path, *, persistence: bool = False) -> Iterator[Broker]:
    """Run a broker that knows nothing of the last one: no session, no retained message, no added device.

    With ``persistence`` it keeps sessions and retained messages on disk, as of about a second ago.
    """
    program = needs("mosquitto", package="mosquitto")
    port, plain_port = free_port(), free_port()
    shutil.copy(shared / "passwords", folder / "passwords")
    (folder / "acl").write_text(ACL)
    (folder / "mosquitto.conf").write_text(
        CONFIGURATION.format(
            user=getpass.getuser(),
            folder=folder,
            certificates=shared,
            port=port,
            plain_port=plain_port,
            persistence=str(persistence).lower(),
        )
    )
    server = Server(
        [program, "-c", folder / "mosquitto.conf"],
        log=folder / "mosquitto.log",
        is_ready=lambda: accepts_connections(port) and accepts_connections(plain_port),
    )
    server.start()
    try:
        yield Broker(port, plain_port, shared / "ca.pem", folder, server)
    finally:
        server.stop()


def _set_password(passwords: Path, username: str) -> None:
    tool = needs("mosquitto_passwd", package="mosquitto")
    subprocess.run([tool, "-b", passwords, username, password_of(username)], check=True, capture_output=True)
