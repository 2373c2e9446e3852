"""The node's firmware, built once, and its processes: real nodes that a test starts, kills and stops."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.support.mosquitto import password_of
from tests.support.programs import environment
from tests.support.system import REQUIRE, needs

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "firmware"
HEADERS = {
    "libmosquitto-dev": Path("/usr/include/mosquitto.h"),
    "doctest-dev": Path("/usr/include/doctest/doctest.h"),
    "libcurl4-openssl-dev": next(Path("/usr/include").glob("*/curl/curl.h"), Path("/usr/include/curl/curl.h")),
    "libssl-dev": Path("/usr/include/openssl/evp.h"),
}
NEEDED = ("libmosquitto-dev", "doctest-dev")
FOR_UPDATES = ("libcurl4-openssl-dev", "libssl-dev")
STOP_S = 40.0


def build(kind: str, *options: str, needs_headers: tuple[str, ...] = NEEDED) -> Path:
    """Build the firmware, as far as its sources have changed, and return the folder it was built in."""
    cmake = needs("cmake", package="cmake")
    needs("g++", package="g++")
    needs("make", package="make")
    for package in needs_headers:
        _need_header(package)
    folder = SOURCES / "build" / kind
    with _alone(SOURCES / "build"):
        _run(cmake, "-S", SOURCES, "-B", folder, *options)
        _run(cmake, "--build", folder, "--parallel", "2")
    return folder


def _need_header(package: str) -> None:
    if HEADERS[package].exists():
        return
    message = f"{HEADERS[package]} is not there (Debian: apt install {package})"
    if os.environ.get(REQUIRE):
        pytest.fail(f"{message}, and {REQUIRE} is set", pytrace=False)
    pytest.skip(message)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two processes of pytest must not build in one folder at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class NodeProcess:
    """One ``carbontrack-node``. What it keeps is in its file of flash: a new process goes on where one was killed."""

    program: Path
    device_id: str
    folder: Path
    arguments: tuple[str, ...]
    process: asyncio.subprocess.Process | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)
    outlives_its_platform: bool = field(default=False, init=False)

    async def start(self, *more: str) -> None:
        """Start a process; of what is said twice in its arguments, the last counts."""
        self.starts += 1
        self.process = await asyncio.create_subprocess_exec(
            self.program,
            *("--id", self.device_id, "--flash", self.folder / f"{self.device_id}.flash"),
            *self.arguments,
            *more,
            stdout=subprocess.PIPE,
            env=environment(CARBONTRACK_NODE_PASSWORD=password_of(self.device_id)),
        )

    async def kill(self) -> None:
        """End it as a power cut would, at any instruction."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> dict[str, Any]:
        """Ask it to send what is left and to go; its own account."""
        assert self.process is not None
        self.process.terminate()
        return await self.ended()

    async def ended(self) -> dict[str, Any]:
        """Return when it has ended by itself; its own account."""
        assert self.process is not None
        output, _ = await asyncio.wait_for(self.process.communicate(), STOP_S)
        assert self.process.returncode == 0, f"{self.device_id} ended with {self.process.returncode}"
        account: dict[str, Any] = json.loads(output)
        return account


class Talk:
    """The platform's end of one node, by hand: what the node says, and what is said to it."""

    def __init__(self, client: aiomqtt.Client, device_id: str) -> None:
        self._client = client
        self._root = f"ct/v1/{device_id}"

    async def heard(self, channel: str, **wanted: Any) -> dict[str, Any]:
        """The next message on a channel that says all of this; what comes before it is passed over."""
        async with asyncio.timeout(20):
            async for message in self._client.messages:
                if str(message.topic) != f"{self._root}/up/{channel}":
                    continue
                body: dict[str, Any] = json.loads(message.payload)
                if wanted.items() <= body.items():
                    return body
        raise AssertionError(channel)

    async def say(self, channel: str, **body: Any) -> None:
        await self._client.publish(f"{self._root}/dn/{channel}", json.dumps({"v": 1} | body), qos=1)
