"""The command line as an operator uses it, on a real PostgreSQL and a real broker with TLS."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import aiomqtt
import pytest
from aiohttp import ClientResponse, ClientSession, DummyCookieJar

from carbontrack.model import Role
from carbontrack.store.schema import known_migrations
from carbontrack.tasks import end
from tests.support import programs
from tests.support.mosquitto import Broker
from tests.support.redis import Redis
from tests.support.system import free_port
from tests.support.web import PASSWORD, password_hash
from tests.support.world import body, execute, give_schema, migrated_store, register

T = TypeVar("T")
PATIENCE_S = 30.0
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path, postgres_url: str, mosquitto: Broker) -> Path:
    """A configuration file as config/carbontrack.yaml, for this test's database and broker."""
    path = tmp_path / "carbontrack.yaml"
    path.write_text(
        f"""
database:
  url: !secret database_url
mqtt:
  host: {mosquitto.host}
  port: {mosquitto.port}
  tls:
    ca_file: {mosquitto.ca_file}
  username: {mosquitto.username}
  password: !secret mqtt_password
http:
  port: {free_port()}
devices:
  registry_poll_s: 0.2
logging:
  format: json
"""
    )
    (tmp_path / "secrets.yaml").write_text(f"database_url: {postgres_url}\nmqtt_password: {mosquitto.password}\n")
    return path


@pytest.fixture
def run(config: Path) -> Run:
    def command(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return programs.run("carbontrack", *words, "--config", config, cwd=config.parent, text=text)

    return command


@contextmanager
def serving(config: Path, *words: str, port: int | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``carbontrack serve``, or another command that goes on, until the block ends."""
    url = f"http://127.0.0.1:{port or http_port(config)}"
    process = subprocess.Popen(
        [sys.executable, "-m", "carbontrack", *(words or ["serve"]), "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def http_port(config: Path) -> int:
    lines = config.read_text().splitlines()
    return int(lines[lines.index("http:") + 1].split()[1])


def get(url: str) -> tuple[int, Any]:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310  # loopback
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)
    except URLError:
        return 0, None


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


async def test_an_operator_sets_up_a_site_and_its_first_reading_arrives(
    run: Run, config: Path, mosquitto: Broker
) -> None:
    assert f"{len(known_migrations())} migrations applied" in run("migrate").stdout
    assert "up to date" in run("migrate").stdout
    added = run("factory", "add", "Kangaita Tea Factory", "--altitude-m", "2036", "--county", "Kirinyaga")
    assert "/factory/kangaita/" in added.stdout, added.stderr
    assert "Stack 1" in run("factory", "add-stack", "kangaita", "Boiler 1", "--diameter-m", "0.8").stdout
    assert "registered" in run("device", "add", "dev-001", "--stack-id", "1").stdout
    added = run(
        "user", "add", "--email", "op@example.org", "--role", "operator", "--password-stdin", text="a long password\n"
    )
    assert added.returncode == 0, added.stderr
    assert "a long password" not in added.stdout + added.stderr

    with serving(config) as (process, url):
        until(lambda: get(f"{url}/readyz")[0] == 200, "the core did not become ready")
        async with mosquitto.client("dev-001", protocol=aiomqtt.ProtocolVersion.V311) as device:
            await device.subscribe("ct/v1/dev-001/dn/ack", qos=1)
            await device.publish("ct/v1/dev-001/up/data", body(1, at_ms=time.time_ns() // 1_000_000), qos=1)
            message = await anext(aiter(device.messages))
            assert json.loads(bytes(message.payload))["seq"] == 1
            assert "is disabled" in run("device", "disable", "dev-001").stdout
            until(lambda: 'actors{state="disabled"} 1.0' in text(f"{url}/metrics"), "the core did not follow")
            assert "is enabled" in run("device", "enable", "dev-001").stdout
            until(lambda: 'actors{state="running"} 1.0' in text(f"{url}/metrics"), "the core did not follow")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, log
        assert all(json.loads(line)["level"] != "error" for line in log.splitlines()), log

    report = run("report", "readings", "--factory", "kangaita", "--output", str(config.parent / "report.csv"))
    assert "1 readings of Kangaita" in report.stdout, report.stderr
    assert len((config.parent / "report.csv").read_text(encoding="utf-8-sig").splitlines()) == 3
    assert "dev-001" in run("device", "list").stdout
    assert run("device", "remove", "dev-001").returncode == 0
    assert "dev-001" not in run("device", "list").stdout


async def test_two_web_processes_show_what_a_real_core_measures_and_one_may_go(
    config: Path, mosquitto: Broker, redis: Redis, postgres_url: str
) -> None:
    ports = [free_port(), free_port()]
    config.write_text(f"{config.read_text()}redis:\n  url: {redis.url}\n")
    async with migrated_store(postgres_url) as store:
        await register(store, "dev-001")
        await store.add_user("hq@example.org", password_hash(), Role.HQ_MANAGER)

    with (
        serving(config) as (_, core),
        serving(config, "web", "--port", str(ports[0]), port=ports[0]) as (first, one),
        serving(config, "web", "--port", str(ports[1]), port=ports[1]) as (second, two),
    ):
        for url in (core, one, two):
            await in_thread(until, lambda url=url: get(f"{url}/readyz")[0] == 200, f"{url} did not become ready")
        async with ClientSession(cookie_jar=DummyCookieJar()) as web, mosquitto.client("dev-001") as device:
            given = {"email": "hq@example.org", "password": PASSWORD}
            async with web.post(f"{one}/api/login/", json=given) as answer:
                headers = {"Authorization": f"Bearer {(await answer.json())['token']}"}
            async with sending(device, "dev-001") as sender:
                async with web.get(f"{one}/api/live/", headers=headers) as stream:
                    place = await heard(stream, b"event: reading")
                    first.send_signal(signal.SIGTERM)
                    assert await in_thread(first.wait, PATIENCE_S) == 0
                async with web.get(f"{two}/api/live/", headers=headers | {"Last-Event-ID": place}) as stream:
                    await heard(stream, b"event: reading", never=b"event: all")
                async with web.get(f"{two}/api/mcu-devices/1/health/", headers=headers) as answer:
                    assert (await answer.json())["device_id"] == "dev-001", "the core was asked"
                await sender.keeps_up(least=20)
        second.send_signal(signal.SIGTERM)
        _, log = await in_thread(second.communicate, None, PATIENCE_S)
        assert second.returncode == 0, log
        assert all(json.loads(line)["level"] != "error" for line in log.splitlines()), log


async def heard(stream: ClientResponse, event: bytes, *, never: bytes = b"nothing") -> str:
    """Hear an event, and none of another kind before; the place of the stream after it."""
    seen = b""
    async with asyncio.timeout(PATIENCE_S):
        while event not in seen or b"\nevent: place" not in seen.partition(event)[2]:
            seen += await stream.content.readuntil(b"\n\n")
    assert never not in seen
    places: list[bytes] = re.findall(rb"^id: (.+)$", seen, re.MULTILINE)
    return places[-1].decode()


SEMICOLONS = """
from carbontrack import Kind, Manifest, Message, Sample, SensorDriver, hookimpl

MANIFEST = Manifest(name="semicolons", version="1.0", kinds=(Kind.SENSOR,), title="Numbers with semicolons")


def decode(payload):
    t = payload.received_at_ms
    co2, temperature, velocity = (float(part) for part in payload.body.split(b"SEPARATOR"))
    sample = Sample(t, t, co2_ppm=co2, temperature_c=temperature, velocity_ms=velocity)
    return Message("semicolons", 0, t, 1, [sample], numbered=False)


@hookimpl
def register_sensors():
    return [SensorDriver(name="semicolons", title="Numbers with semicolons", decode=decode)]
"""


@pytest.mark.timeout(300)  # many commands, each a start of Python
async def test_plugins_come_change_and_go_while_readings_come_in(
    run: Run, config: Path, mosquitto: Broker, postgres_url: str
) -> None:
    """One device sends all the time and is told what is kept; beside it a driver is added, mended and removed."""
    plugins = config.parent / "plugins"
    plugins.mkdir()
    async with migrated_store(postgres_url) as store:
        await register(store, "dev-001")
    refused = run("device", "add", "dev-002", "--stack-id", "1", "--sensor", "semicolons")
    assert refused.returncode == 2, refused.stdout
    assert "No core answered within 1 s" in run("reload", "--timeout", "1").stderr

    with serving(config) as (process, url):
        until(lambda: get(f"{url}/readyz")[0] == 200, "the core did not become ready")
        reloads = partial(metric, url, "carbontrack_reloads_total")
        until(lambda: reloads() == 1, "what was asked while no core ran is not done")
        async with (
            mosquitto.client("dev-001", protocol=aiomqtt.ProtocolVersion.V311) as steady,
            mosquitto.client("dev-002", protocol=aiomqtt.ProtocolVersion.V311) as odd,
            sending(steady, "dev-001") as sender,
        ):
            with config.open("a") as file:
                file.write("plugins:\n  folder: plugins\n  disabled: [legacy]\nalerts: []\n")
            (plugins / "semicolons.py").write_text(SEMICOLONS.replace("SEPARATOR", ":"))
            added = await in_thread(run, "reload")
            assert added.returncode == 0, added.stderr
            assert "added: semicolons" in added.stdout
            assert "removed: legacy" in added.stdout
            added = await in_thread(run, "device", "add", "dev-002", "--stack-id", "1", "--sensor", "semicolons")
            assert added.returncode == 0, added.stderr
            await in_thread(until, lambda: 'actors{state="running"} 2.0' in text(f"{url}/metrics"), "no second device")
            await odd.publish("ct/v1/dev-002/up/data", b"98000;183;4", qos=1)
            failed = partial(metric, url, "carbontrack_plugin_errors_total{")
            await in_thread(until, lambda: failed() == 1, "the driver's error was not counted")

            (plugins / "semicolons.py").write_text(SEMICOLONS.replace("SEPARATOR", ";"))
            process.send_signal(signal.SIGHUP)
            await in_thread(until, lambda: reloads() == 3, "SIGHUP did not reload")
            await odd.publish("ct/v1/dev-002/up/data", b"98000;183;4", qos=1)
            kept = partial(metric, url, 'carbontrack_readings_total{outcome="quarantined"}')
            await in_thread(until, lambda: kept() == 1, "what the driver could not read is not in quarantine")

            (plugins / "semicolons.py").write_text("def (")
            broken = await in_thread(run, "reload")
            assert broken.returncode == 1
            assert "failed: semicolons: SyntaxError" in broken.stderr

            (plugins / "semicolons.py").unlink()
            assert "removed: semicolons" in (await in_thread(run, "reload")).stdout
            config.write_text(config.read_text().replace("plugins:", "plugin:"))
            wrong = await in_thread(run, "reload")
            assert wrong.returncode == 2
            assert "plugin: unknown key" in wrong.stderr
            await sender.keeps_up()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)

    config.write_text(config.read_text().replace("plugin:", "plugins:"))
    report = run("report", "readings", "--factory", "kangaita", "--output", str(config.parent / "report.csv"))
    assert f"{sender.sent + 1} readings of Kangaita" in report.stdout, report.stderr


@dataclass
class Sender:
    """A device that sends all the time, and remembers how long it waited for its receipts."""

    sent: int = 0
    kept: int = 0
    longest_s: float = 0.0

    async def keeps_up(self, least: int = 100) -> None:
        """Everything is kept, so many readings at least, and nothing ever waited for long."""
        deadline = time.monotonic() + PATIENCE_S
        wanted = max(self.sent, least)
        while self.kept < wanted:
            assert time.monotonic() < deadline, f"only {self.kept} of {wanted} are kept"
            await asyncio.sleep(0.05)
        assert self.longest_s < 5.0, f"a receipt took {self.longest_s:.1f} s"


@asynccontextmanager
async def sending(device: aiomqtt.Client, device_id: str) -> AsyncIterator[Sender]:
    """A device that sends readings until the block ends."""
    sender = Sender()
    at: dict[int, float] = {}

    async def send() -> None:
        while True:
            number = sender.sent + 1
            at[number] = time.monotonic()
            await device.publish(f"ct/v1/{device_id}/up/data", body(number, at_ms=time.time_ns() // 1_000_000), qos=1)
            sender.sent = number
            await asyncio.sleep(0.06)

    async def listen() -> None:
        async for message in device.messages:
            kept = json.loads(bytes(message.payload))["seq"]
            for number in range(sender.kept + 1, kept + 1):
                sender.longest_s = max(sender.longest_s, time.monotonic() - at.pop(number))
            sender.kept = kept

    await device.subscribe(f"ct/v1/{device_id}/dn/ack", qos=1)
    tasks = [asyncio.create_task(send()), asyncio.create_task(listen())]
    try:
        yield sender
    finally:
        await end(*tasks)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(function, *arguments)


def metric(url: str, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text(f"{url}/metrics").splitlines() if line.startswith(name))


def text(url: str) -> str:
    with urlopen(url, timeout=5) as answer:  # noqa: S310  # loopback
        content: str = answer.read().decode()
        return content


def test_a_core_that_meets_an_empty_database_says_what_to_do_and_stops(run: Run) -> None:
    ended = run("serve")
    assert ended.returncode == 2
    assert "carbontrack migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_core_that_meets_a_newer_schema_says_so_and_stops(run: Run, postgres_url: str) -> None:
    await give_schema(postgres_url)
    await execute(
        postgres_url,
        "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('carbontrack', '9999_of_the_future', now())",
    )
    ended = run("serve")
    assert ended.returncode == 2
    assert "9999_of_the_future" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("factory", "add-stack", "nowhere", "Boiler 1", "--diameter-m", "0.8"), "There is no factory 'nowhere'"),
        (("device", "add", "dev-001", "--stack-id", "7"), "there is no stack 7"),
        (("device", "add", "dev-001", "--stack-id", "7", "--sensor", "none"), "There are: ct_v1, flat_json"),
        (("device", "disable", "dev-009"), "there is no device 'dev-009'"),
        (("report", "readings", "--factory", "kangaita", "--format", "stone"), "There are: csv"),
        (("report", "readings", "--factory", "kangaita", "--day", "yesterday"), "2026-03-01"),
    ],
)
async def test_a_mistake_is_answered_with_what_to_do_and_without_a_traceback(
    run: Run, words: tuple[str, ...], says: str, postgres_url: str
) -> None:
    await give_schema(postgres_url)
    ended = run(*words)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_that_is_away_is_said_in_one_line(run: Run, config: Path) -> None:
    secrets = config.parent / "secrets.yaml"
    secrets.write_text(f"database_url: postgres://nobody:x@127.0.0.1:{free_port()}/none\nmqtt_password: x\n")
    ended = run("factory", "list")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_every_command_explains_itself(tmp_path: Path) -> None:
    for words in ((), ("serve",), ("demo",), ("device", "add"), ("report", "create")):
        shown = programs.run("carbontrack", *words, "--help", cwd=tmp_path)
        assert shown.returncode == 0
        assert "Usage" in shown.stdout
    shown = programs.run("carbontrack", "demo", "--help", cwd=tmp_path)
    assert "Example: carbontrack demo --factories 5 --port 8081" in shown.stdout
