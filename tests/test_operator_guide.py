"""The operator's guide, command by command, on a new machine: at its end a device's reading is in a backup."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen
from zipfile import ZipFile

import aiomqtt
import pytest

from tests.support import programs
from tests.support.deployed import Deployed, deployed
from tests.support.system import free_port
from tests.support.world import body
from tests.test_docs import ROOT, blocks

GUIDE = ROOT / "docs" / "guide" / "operator.md"
PATIENCE_S = 30.0
GIVEN = {
    "init": ("--public-url", "https://carbon.example.org", "--admin", "chief@example.org", "--password-stdin"),
}
"""What a person would be asked for."""
TABLE = "factory,chimney,diameter_m,device_id\nkangaita,Boiler 2,0.9,ct-kangaita-2\n"
"""What somebody has in a spreadsheet."""


def commands() -> list[list[str]]:
    """The commands of the guide, in its order."""
    lines = [line for block in blocks(GUIDE.read_text(encoding="utf-8"), "console") for line in block.splitlines()]
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


@dataclass
class Machine:
    """A machine whose root is a folder: /etc, /var, and what runs on it."""

    root: Path
    database_url: str
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)
    broker: Deployed | None = None
    said: dict[str, str] = field(default_factory=dict)
    """What each command has said, by its first two words."""

    def do(self, words: list[str]) -> None:
        """Do what an operator does with a command of the guide."""
        assert words[0] == "carbontrack", words
        here = [
            str(self.root / word.lstrip("/")) if word.startswith(("/etc/", "/var/")) else word for word in words[1:]
        ]
        here = ["localhost" if word == "mqtt.example.org" else word for word in here]
        if here[:2] == ["device", "import"]:
            (self.root / here[2]).write_text(TABLE)
        if here[0] == "serve":
            self.stack.enter_context(self._serving(here))
            return
        given = (*GIVEN[here[0]], "--database", self.database_url, "--port", str(self.port)) if here[0] in GIVEN else ()
        text = "seven green tea baskets\n" if here[0] in GIVEN else ""
        done = programs.run("carbontrack", *here, *given, cwd=self.root, text=text)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        self.said[" ".join(here[:2]) if here[1][:1].isalpha() else here[0]] = done.stdout
        if here[0] == "init":
            self._start_broker()

    def _start_broker(self) -> None:
        """What the guide's third point says in words; the port is another because there may be a broker already."""
        (self.root / "mosquitto").mkdir()
        site = self.root / "etc" / "carbontrack"
        self.broker = self.stack.enter_context(deployed(site / "broker", self.root / "mosquitto"))
        config = site / "carbontrack.yaml"
        text = config.read_text().replace("port: 8883", f"port: {self.broker.port}")
        # Devices of another machine would find no broker by the name localhost, so they are not told it.
        config.write_text(text.replace('broker_host: "localhost"', "broker_host: mqtt.example.org"))

    @contextmanager
    def _serving(self, words: list[str]) -> Iterator[None]:
        with (self.root / "core.log").open("w") as log:
            core = subprocess.Popen(
                [sys.executable, "-m", "carbontrack", *words], stderr=log, cwd=self.root, env=programs.environment()
            )
        try:
            self._await_ready(core)
            yield
            core.terminate()
            assert core.wait(PATIENCE_S) == 0
        finally:
            if core.poll() is None:
                core.kill()
                core.wait()

    def _await_ready(self, core: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert core.poll() is None, (self.root / "core.log").read_text()
            assert time.monotonic() < deadline, (self.root / "core.log").read_text()
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except (URLError, ConnectionError):
                time.sleep(0.05)


@pytest.mark.timeout(240)  # a dozen starts of Python
async def test_every_command_of_the_operators_guide_does_what_it_says(tmp_path: Path, postgres_url: str) -> None:
    machine = Machine(tmp_path, postgres_url)
    with machine.stack:
        for words in commands():
            if words[1] == "backup":
                await a_device_sends(machine)
            machine.do(words)
    (backup,) = (tmp_path / "var" / "backups" / "carbontrack").iterdir()
    with ZipFile(backup) as file:
        counted = json.loads(file.read("manifest.json"))["contents"]
    assert counted["tables"]["reading"] == 1


async def a_device_sends(machine: Machine) -> None:
    """A device with what `device handout` has printed: its reading is confirmed, so it is in the database."""
    broker, told = machine.broker, json.loads(machine.said["device handout"])["provision"]
    assert broker is not None
    assert (told["host"], told["port"], told["ca"]) == ("mqtt.example.org", broker.port, broker.ca_file.read_text())
    device_id, password = told["id"], told["password"]
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:  # the core makes the device's account at the broker within seconds
                async with broker.client(device_id, password) as device:
                    await device.subscribe(f"ct/v1/{device_id}/dn/ack", qos=1)
                    assert await _confirmed(device, f"ct/v1/{device_id}/up/data") == 1
                    return
            except aiomqtt.MqttError:
                await asyncio.sleep(0.2)


async def _confirmed(device: aiomqtt.Client, topic: str) -> int:
    """Send a reading, and again as long as nobody confirms it, as a device does; which number is confirmed."""
    while True:
        await device.publish(topic, body(1, at_ms=time.time_ns() // 1_000_000), qos=1)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                receipt = await anext(aiter(device.messages))
                return int(json.loads(bytes(receipt.payload))["seq"])
