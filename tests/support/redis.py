"""The Redis of the system, with a password and nothing on disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.system import Server, free_port, needs

PASSWORD = "password of the core"


@dataclass
class Redis:
    """A running Redis, and how to stop and restart it within a test; it forgets everything then."""

    port: int
    _server: Server

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def ask(self, *words: str) -> str:
        """What it says to one command, in its own protocol."""
        said = _ask(self.port, ["AUTH", PASSWORD], list(words))
        return said.partition("+OK\r\n")[2]


@contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """Run a Redis that knows nothing of the last one."""
    program = needs("redis-server", package="redis-server")
    port = free_port()
    (folder / "redis.conf").write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass '{PASSWORD}'\nsave ''\nappendonly no\ndir {folder}\n"
    )
    server = Server([program, folder / "redis.conf"], log=folder / "redis.log", is_ready=lambda: _answers(port))
    server.start()
    try:
        yield Redis(port, server)
    finally:
        server.stop()


def _answers(port: int) -> bool:
    with suppress(OSError):
        return "+PONG" in _ask(port, ["AUTH", PASSWORD], ["PING"])
    return False


def _ask(port: int, *commands: list[str]) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for words in commands:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            client.sendall(f"*{len(words)}\r\n{parts}".encode())
        client.shutdown(socket.SHUT_WR)
        said = b""
        while part := client.recv(65536):
            said += part
    return said.decode()
