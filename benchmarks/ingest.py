"""From the broker to the committed row and its receipt, as ratios measured in one run.

    make bench ARGS="ingest"            all of it (about five minutes)
    make bench ARGS="ingest --quick"    a fifth of the messages

What is measured against what:

* *receive only*: the same MQTT client, handing messages to a function that only counts them, by its fastest public way
  (``queue_type``), QoS 1, MQTT 3.1.1, uvloop. The bar for everything else.
* *committed*: broker -> actor -> emission rate -> group commit -> receipt, all readings in the database.

mosquitto, the database, the publisher and the core share the machine's cores, so each figure is a lower bound for a
machine of its own. Each variant runs several times, in turn with its peer; the table gives medians.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import structlog
import uvloop
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.publisher import Load
from benchmarks.rig import mosquitto, postgres, publishing
from carbontrack.bookkeeping import Books, shipped_factors
from carbontrack.config import Config, Plugins
from carbontrack.device import Services
from carbontrack.device_desk import DeviceDesk
from carbontrack.fleet import Fleet
from carbontrack.ingest import BrokerSettings, Ingest, Receipts
from carbontrack.live import Live
from carbontrack.metrics import Metrics
from carbontrack.model import Device, Factory, MonitoringPlan, Role, Site, Stack
from carbontrack.overload import Drain
from carbontrack.passwords import hash_password
from carbontrack.plugins import Limits, PluginHost, load_plugins
from carbontrack.reloading import Reloader
from carbontrack.report_desk import ReportDesk
from carbontrack.rollouts import RolloutDesk
from carbontrack.rule_book import RuleBook
from carbontrack.store import Store, migrate, open_store
from carbontrack.tasks import calm_garbage_collection, end
from carbontrack.web import CoreParts as WebCoreParts
from carbontrack.web import Services as WebServices
from carbontrack.web import create_app
from carbontrack.web.attempts import Attempts
from tests.support.chromium import chromium

STACKS = 268
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Bench:
    """One run's surroundings."""

    postgres_url: Callable[[], str]
    folder: Path
    scale: float


async def until(done: Callable[[], bool]) -> None:
    """Wait for a condition; an error when it does not come true within the run's patience."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the messages did not all arrive")
        await asyncio.sleep(0.01)


# --- receive only


async def receive_only(bench: Bench, load: Load) -> float:
    """Messages a second that the client can hand to a function that counts them."""
    counted = 0
    first = last = 0.0

    def count(_message: object) -> None:
        nonlocal counted, first, last
        last = time.perf_counter()
        if not counted:
            first = last
        counted += 1

    class Counting(Ingest):
        def _on_message(self, message: object) -> None:
            count(message)

    metrics = Metrics()
    with mosquitto(bench.folder) as port:
        settings = BrokerSettings("127.0.0.1", port)
        ingest = Counting(settings, None, Receipts(settings, metrics, Drain(5.0, 200.0)), metrics)  # type: ignore[arg-type]
        async with running(ingest.consume()):
            await until(lambda: ingest.connected)
            with publishing(replace(load, port=port)):
                await until(lambda: counted >= load.messages)
    return counted / (last - first)


# --- the whole way


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        await end(task)


@dataclass(frozen=True, slots=True)
class CoreParts:
    store: Store
    fleet: Fleet
    ingest: Ingest
    live: Live
    metrics: Metrics
    port: int
    """Of the broker: one of its own, so that no session of an earlier run keeps messages for nobody."""


async def register(store: Store, devices: int) -> list[Site]:
    """Sites for the load's devices on real stacks. The devices themselves are not in the database: only actors ask."""
    known = await store.factories()
    if not known:
        factory = await store.add_factory(Factory(0, "Bench", "bench", "", "", None, None, 2000.0))
        for number in range(STACKS):
            await store.add_stack(factory.id, f"Boiler {number}", MonitoringPlan())
    factory = (await store.factories())[0]
    stacks: list[Stack] = await store.stacks()
    return [
        Site(factory, stacks[number % len(stacks)], Device(number + 1, f"dev-{number:05}", factory.id, number % STACKS))
        for number in range(devices)
    ]


@asynccontextmanager
async def core(bench: Bench, url: str, devices: int) -> AsyncIterator[CoreParts]:
    """Store, fleet and ingest as ``carbontrack.app`` builds them, without the web part."""
    await migrate(url)
    metrics = Metrics()
    with mosquitto(bench.folder) as port:
        settings = BrokerSettings("127.0.0.1", port)
        receipts = Receipts(settings, metrics, Drain(5.0, 200.0))
        live = Live()
        async with open_store(url, metrics) as store:
            services = Services(
                store=store, live=live, metrics=metrics, receipt=receipts.due, mailbox_size=4096, messages_per_s=1e9
            )
            fleet = Fleet(services, load_plugins(Config(plugins=Plugins(enabled=("ct_v1",)))).contributions.sensors)
            await fleet.sync(await register(store, devices))
            ingest = Ingest(settings, fleet, receipts, metrics)
            async with running(ingest.consume()):
                await until(lambda: ingest.connected)
                yield CoreParts(store, fleet, ingest, live, metrics, port)
            await fleet.close()


def web_services(parts: CoreParts, plugins: PluginHost, device_key: str | None = None) -> WebServices:
    """What the web part is given to work with."""
    limits = Limits(60.0, 1024)
    books = Books(parts.store, shipped_factors(), UTC, (0.85, 1.15))
    reports = ReportDesk(
        books,
        lambda name, report: plugins.render(name, report, limits),
        cache(Ed25519PrivateKey.generate),
        "benchmark",
        lambda: datetime.now(UTC),
    )
    return WebServices(
        store=parts.store,
        books=books,
        rules=RuleBook(parts.store),
        fleet=parts.fleet,
        core=WebCoreParts(
            parts.fleet, DeviceDesk(parts.store, parts.metrics), RolloutDesk(parts.store, parts.metrics), reports
        ),
        live=parts.live,
        metrics=parts.metrics,
        plugins=plugins,
        report_limits=limits,
        reloader=Reloader(Config(), plugins, parts.metrics, None),
        readiness=tuple,
        refused=parts.metrics.refused,
        attempts=Attempts(parts.metrics),
        time_zone=UTC,
        version="benchmark",
        clock=lambda: datetime.now(UTC),
        device_key=device_key,
    )


def committed(parts: CoreParts) -> float:
    return float(parts.metrics.outcomes["committed"]._value.get())  # noqa: SLF001  # the client has no public way to read


async def committed_per_s(bench: Bench, url: str, load: Load) -> float:
    """Readings a second from the first message to the last commit, once each device has opened its stream."""
    readings = load.messages * load.records
    async with core(bench, url, load.devices) as parts:
        load = replace(load, port=parts.port)
        opening = replace(load, messages=load.devices, records=1)
        with publishing(opening):
            await until(lambda: committed(parts) >= opening.messages)
        gc.collect()
        began = time.perf_counter()
        with publishing(replace(load, first_seq=2)):
            await until(lambda: committed(parts) > opening.messages)
            began, already = time.perf_counter(), committed(parts)
            await until(lambda: committed(parts) >= opening.messages + readings)
            return (opening.messages + readings - already) / (time.perf_counter() - began)


async def latency_ms(bench: Bench, url: str, load: Load) -> tuple[float, float]:
    """Median and 99th percentile from publish to committed: the publisher puts its clock into each reading."""
    delays: list[float] = []
    async with core(bench, url, load.devices) as parts:
        load = replace(load, port=parts.port)
        save = parts.store.commits.save

        async def timed(work: object) -> None:
            await save(work)  # type: ignore[arg-type]
            now = time.time()
            delays.extend(now - (r.measured_at.timestamp() + 5) for r in work.readings)  # type: ignore[attr-defined]

        opening = replace(load, messages=load.devices, rate=0)
        with publishing(opening):
            await until(lambda: committed(parts) >= opening.messages)
        parts.store.commits.save = timed  # type: ignore[method-assign]
        with publishing(replace(load, first_seq=2)):
            await until(lambda: committed(parts) >= opening.messages + load.messages)
    delays.sort()
    return 1000 * statistics.median(delays), 1000 * delays[int(len(delays) * 0.99)]


WATCH = """
    () => {
        window.delays = [];
        new EventSource("/api/live/").addEventListener("reading", (event) => {
            for (const row of JSON.parse(event.data)) {
                if (row.received_at) window.delays.push(Date.now() - Date.parse(row.measured_at) - 5000);
            }
        });
    }
"""
"""Counts in a page of ours how old a reading is when the browser has it: the publisher's clock is 5 s behind."""


async def browser_latency_ms(bench: Bench, url: str, load: Load) -> tuple[float, float]:
    """Median and 99th percentile from publish to a page of Chromium that is signed in to the network page."""
    async with core(bench, url, load.devices) as parts, chromium() as browser:
        load = replace(load, port=parts.port)
        await parts.store.add_user("hq@example.org", hash_password("password"), Role.HQ_MANAGER)
        config = Config(plugins=Plugins(enabled=("ct_v1", "portal_hq")))
        plugins = PluginHost(parts.metrics)
        await plugins.apply(config)
        async with TestServer(create_app(web_services(parts, plugins))) as server:
            page = await browser.new_page()
            await page.goto(str(server.make_url("/login")))
            await page.get_by_label("E-mail").fill("hq@example.org")
            await page.get_by_label("Password").fill("password")
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url("**/hq/")
            opening = replace(load, messages=load.devices, rate=0)
            with publishing(opening):
                await until(lambda: committed(parts) >= opening.messages)
            await asyncio.sleep(2)  # so that the page has seen those
            await page.evaluate(WATCH)
            await asyncio.sleep(1)
            await page.evaluate("window.delays.length = 0")  # what the stream begins with is old
            with publishing(replace(load, first_seq=2)):
                await until(lambda: committed(parts) >= opening.messages + load.messages)
            await asyncio.sleep(1)
            delays = sorted(await page.evaluate("window.delays"))
            await page.goto("about:blank")
    return statistics.median(delays), delays[int(len(delays) * 0.99)]


async def kilobytes_per_idle_actor(bench: Bench, devices: int = 10_000) -> float:
    """Resident memory of running, idle actors, the difference that 10,000 of them make."""

    def resident_kb() -> int:
        gc.collect()
        text = Path("/proc/self/statm").read_text().split()
        return int(text[1]) * resource.getpagesize() // 1024

    url = f"sqlite://{bench.folder / 'idle.sqlite3'}"
    async with core(bench, url, 1) as parts:
        sites = await register(parts.store, devices)
        before = resident_kb()
        await parts.fleet.sync(sites)
        await asyncio.sleep(1)
        return (resident_kb() - before) / devices


async def measure(bench: Bench, rounds: int) -> None:
    # First, while the process is small: memory that something else had before is not seen to be taken.
    row("memory of an idle actor", await kilobytes_per_idle_actor(bench), "KB", "", "under 10")
    count = int(100_000 * bench.scale)
    load = Load(0, "bench", "bench", devices=268, messages=count)
    many = replace(load, devices=10_000)
    batches = replace(load, messages=int(8_000 * bench.scale), records=60)
    received, one, tenk, batched = [], [], [], []
    for _ in range(rounds):
        received.append(await receive_only(bench, load))
        one.append(await committed_per_s(bench, bench.postgres_url(), load))
        tenk.append(await committed_per_s(bench, bench.postgres_url(), many))
        batched.append(await committed_per_s(bench, bench.postgres_url(), batches))
    sqlite = f"sqlite://{bench.folder / 'one.sqlite3'}"
    sqlite_one = await committed_per_s(bench, sqlite, load)
    sqlite_batched = await committed_per_s(bench, f"sqlite://{bench.folder / 'batch.sqlite3'}", batches)
    bar, whole = statistics.median(received), statistics.median(one)
    row("receive only, 268 devices", bar, "messages/s", "", "the bar")
    row("PostgreSQL, 268 devices", whole, "messages/s", f"{whole / bar:.2f}", "0.7 of the bar")
    ten = statistics.median(tenk)
    row("PostgreSQL, 10,000 devices", ten, "messages/s", f"{ten / whole:.2f}", "0.8 of 268 devices")
    row("PostgreSQL, batches of 60", statistics.median(batched), "readings/s", "", "40,000")
    row("SQLite, 268 devices", sqlite_one, "messages/s", f"{sqlite_one / bar:.2f}", "")
    row("SQLite, batches of 60", sqlite_batched, "readings/s", "", "")
    for rate, seconds in ((54.0, 20), (whole / 2, 8)):
        slow = replace(load, messages=int(rate * seconds), rate=rate)
        p50, p99 = await latency_ms(bench, bench.postgres_url(), slow)
        row(f"publish to committed, {rate:,.0f}/s, p50", p50, "ms", "", "")
        row(f"publish to committed, {rate:,.0f}/s, p99", p99, "ms", "", "")
    watched = replace(load, messages=54 * 20, rate=54.0)
    p50, p99 = await browser_latency_ms(bench, bench.postgres_url(), watched)
    row("publish to browser, 54/s, p50", p50, "ms", "", "")
    row("publish to browser, 54/s, p99", p99, "ms", "", "under 300")


def row(what: str, value: float, unit: str, ratio: str, aim: str) -> None:
    print(f"| {what:42} | {value:12,.1f} {unit:11} | {ratio:5} | {aim:20} |", flush=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks ingest")
    parser.add_argument("--quick", action="store_true", help="a fifth of the messages, one round")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as name,
        postgres() as server,
    ):
        row("what", 0, "unit", "ratio", "aim")
        bench = Bench(server.new_url, Path(name), 0.2 if options.quick else 1.0)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        calm_garbage_collection()  # as the core does
        uvloop.run(measure(bench, 1 if options.quick else 3))
