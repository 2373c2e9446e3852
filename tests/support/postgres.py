"""The PostgreSQL of the system, on a data folder of its own."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg

from tests.support.system import Server, free_port, needs

USER = "carbontrack"
PASSWORD = "carbontrack"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Nothing here has to survive a power cut. But a killed server must find what it had committed, so
    # synchronous_commit stays on.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "128MB",  # its folder may be in memory
    # Not UTC, like a server at the factory: whoever leans on the server's zone fails here.
    "timezone": "Africa/Nairobi",
}

ROOM_BYTES = 2**31


class Postgres:
    """A running server that hands out fresh databases."""

    def __init__(self, folder: Path, user: str | None, changed: Mapping[str, str]) -> None:
        self.port = free_port()
        self._databases: list[str] = []
        self._names = (f"test_{number}" for number in count(1))
        self._user = user
        self._folder = folder
        self._programs = needs("initdb", package="postgresql", folders=_debian_folders()).resolve().parent
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        self._run(
            "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256",
            f"--username={USER}", f"--pwfile={password_file}", f"--pgdata={folder / 'data'}",
        )  # fmt: skip
        merged = SETTINGS | dict(changed) | {"port": str(self.port)}
        settings = [f"--{name}={value}" for name, value in merged.items()]
        self._server = Server(
            [self._programs / "postgres", "-D", folder / "data", *settings],
            log=folder / "log",
            is_ready=self._is_ready,
            stop_signal=signal.SIGINT,  # "fast": does not wait for clients
            user=user,
        )

    def new_url(self) -> str:
        """Create an empty database and return its address. It is dropped after the test."""
        url = self.free_url()
        self._execute(f"CREATE DATABASE {self._databases[-1]}")
        return url

    def free_url(self) -> str:
        """The address of a database that is not there yet. Whoever makes it there has it dropped after the test."""
        name = next(self._names)
        self._databases.append(name)
        return self._url(name)

    def drop_databases(self) -> None:
        if self._databases:
            self._execute(*(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in self._databases))
            self._databases.clear()

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Shut down in order: every client is disconnected."""
        self._server.stop()

    def kill(self) -> None:
        """Crash: immediate shutdown, and recovery at the next start."""
        self._server.stop(signal.SIGQUIT)

    def crash(self) -> None:
        """Kill the server's first process; the others find out. :meth:`start` may have to wait for them."""
        self._server.stop(signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        return self._server.process is not None and self._server.process.poll() is None

    def _url(self, name: str) -> str:
        return f"postgres://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def _execute(self, *statements: str) -> None:
        """Outside of any database of the tests. On a thread: a test may have a loop that runs."""
        with ThreadPoolExecutor(1) as beside:
            beside.submit(asyncio.run, _execute(self._url("postgres"), statements)).result()

    def _is_ready(self) -> bool:
        command = [str(self._programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            env=os.environ | {"PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"},
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")


@contextmanager
def postgres_server(parent: Path | None = None, **changed: str) -> Iterator[Postgres]:
    """Run a server on an empty data folder, with settings changed where asked; both are gone afterwards.

    ``parent`` is the folder to make it in, which everybody may enter.
    """
    needs("initdb", package="postgresql", folders=_debian_folders())
    # Not pytest's own folder: that one belongs to root alone when root runs the tests.
    folder = Path(tempfile.mkdtemp(prefix="carbontrack-postgres-", dir=parent or _memory()))
    user = _unprivileged_user() if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user, user)
    server = None
    try:
        server = Postgres(folder, user, changed)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder)


async def _execute(url: str, statements: Iterable[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _memory() -> Path | None:
    """A folder in memory, where there is one with room: making a database is making a thousand files."""
    folder = Path("/dev/shm")
    has_room = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM_BYTES
    return folder if has_room else None


def _debian_folders() -> list[Path]:
    """Debian keeps the server's programs out of the PATH, a folder for each version; the newest first."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))], reverse=True)


def _unprivileged_user() -> str:
    """PostgreSQL refuses to run as root."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
