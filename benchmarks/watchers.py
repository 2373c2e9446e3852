"""What 500 people who watch the live numbers cost, and how soon they see a change, beside the whole fleet's readings.

    make bench ARGS="watchers"            all of it (about two minutes)
    make bench ARGS="watchers --quick"    a third of the time, to see that it runs

The core, the database, the broker and the publisher are real processes on loopback; the watchers are HTTP connections
of one more, and share the machine's cores with all of them. 268 devices send every 5 s. Each reading carries the
publisher's clock, so that a watcher knows how long it was on its way: through broker, core, commit and stream.

At the end 100 of the links are cut, readings go on, and the links come back: what has changed meanwhile must be there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import statistics
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import uvloop

from benchmarks.api import committed, quantile
from benchmarks.growth import REGISTER, STACKS, Bench, connected, network, row
from benchmarks.publisher import Load
from benchmarks.rig import Core, mosquitto, postgres, publishing, serving
from carbontrack.model import Role
from carbontrack.passwords import new_token, token_hash
from carbontrack.store import Store
from carbontrack.tasks import end

WATCHERS = 500
OF_HEADQUARTERS = 100
"""These hear of every device; the others of the four of their factory."""
CUT = 100
EVERY_S = 5.0
AIM_MS = 500.0
BEHIND_S = 5.0
"""How far the time of a reading is behind the publisher's clock."""


class Row(msgspec.Struct):
    """What a watcher needs of a row of the stream."""

    device_id: str
    measured_at: datetime | None


_rows = msgspec.json.Decoder(list[Row]).decode


@dataclass
class Watcher:
    """One link to the live stream. ``decodes``: it looks at every row, and knows how old it was."""

    token: str
    decodes: bool
    newest: dict[str, datetime | None] = field(default_factory=dict)
    delays_ms: list[float] = field(default_factory=list)
    place: str = ""
    heard_bytes: int = 0
    places: int = 0
    _task: asyncio.Task[None] | None = None

    def open(self, session: aiohttp.ClientSession) -> None:
        self._task = asyncio.create_task(self._listen(session))

    async def close(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Accept-Encoding": "gzip", "Last-Event-ID": self.place}
        async with session.get("/api/live/", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            rest, unpack = b"", zlib.decompressobj(wbits=31).decompress
            async for chunk in answer.content.iter_any():
                self.heard_bytes += len(chunk)
                *events, rest = (rest + unpack(chunk)).split(b"\n\n")
                for event in events:
                    self._hear(event)

    def _hear(self, event: bytes) -> None:
        if event.startswith(b"id: "):
            self.place = event[4 : event.index(b"\n")].decode()
            self.places += 1
        elif self.decodes and event.startswith((b"event: reading", b"event: all")):
            now = time.time()
            for it in _rows(event[event.index(b"data: ") + 6 :]):
                self.newest[it.device_id] = it.measured_at
                if it.measured_at is not None and event.startswith(b"event: reading"):
                    self.delays_ms.append(1000 * (now - it.measured_at.timestamp() - BEHIND_S))


async def people(store: Store) -> list[Watcher]:
    """Somebody of headquarters, and one of each factory, with as many links as there are watchers."""

    async def token(email: str, role: Role, factory_id: int | None) -> str:
        user = await store.add_user(email, "", role, factory_id=factory_id)
        secret = new_token()
        await store.add_session(token_hash(secret), user.id, datetime.now(UTC) + timedelta(days=1))
        return secret

    headquarters = await token("hq@example.org", Role.HQ_MANAGER, None)
    factories = [
        await token(f"{factory.slug}@example.org", Role.FACTORY_MANAGER, factory.id)
        for factory in await store.factories()
    ]
    own = [Watcher(factories[number % len(factories)], decodes=True) for number in range(WATCHERS - OF_HEADQUARTERS)]
    # Nobody decodes for all of headquarters' links: in one process that would be most of what is measured.
    all_of_them = [Watcher(headquarters, decodes=number % (WATCHERS // CUT) == 0) for number in range(OF_HEADQUARTERS)]
    return all_of_them + own


async def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def watching(core: Core, watchers: Sequence[Watcher]) -> AsyncIterator[aiohttp.ClientSession]:
    """All links, open and with their first rows."""
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(core.url, connector=connector, timeout=timeout, auto_decompress=False) as session:
        for number, watcher in enumerate(watchers):
            watcher.open(session)
            if number % 50 == 0:
                await asyncio.sleep(0.1)
        await until(lambda: all(it.places for it in watchers), "not every watcher was connected")
        try:
            yield session
        finally:
            await asyncio.gather(*(it.close() for it in watchers))


@dataclass(frozen=True, slots=True)
class Spent:
    """What the core used and kept in a while."""

    seconds: float
    cpu_s: float
    committed: float


async def spent(core: Core, seconds: float) -> Spent:
    before, used, began = await committed(core), core.cpu_s, time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    return Spent(took, core.cpu_s - used, await committed(core) - before)


def resident_kb(core: Core) -> int:
    assert core.server.process is not None
    pages = int(Path(f"/proc/{core.server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


async def truth(core: Core, watchers: Sequence[Watcher]) -> Mapping[str, datetime | None]:
    """What somebody who comes now is told of every device."""
    somebody = Watcher(watchers[0].token, decodes=True)
    async with watching(core, [somebody]):
        return dict(somebody.newest)


async def cut_and_come_back(
    core: Core, session: aiohttp.ClientSession, watchers: Sequence[Watcher], publish: Callable[[], Awaitable[None]]
) -> int:
    """Cut every fifth link, publish, and let them come back: of how many devices they have not heard."""
    gone = watchers[:: len(watchers) // CUT]
    assert len(gone) == CUT
    assert all(it.decodes for it in gone)
    await asyncio.gather(*(it.close() for it in gone))
    await publish()
    expected = await truth(core, watchers)
    for watcher in gone:
        watcher.places = 0
        watcher.open(session)
    await until(lambda: all(it.places for it in gone), "not everybody came back")
    return sum(expected[device] != at for it in gone for device, at in it.newest.items())


async def measure(bench: Bench) -> None:
    seconds = 30 * bench.share
    turns = round((2 * seconds + 25) / EVERY_S)
    async with network(bench) as (store, url):
        async with connected(url) as connection:
            await connection.execute(REGISTER, 0, STACKS)
        watchers = await people(store)
        with mosquitto(bench.folder) as port, serving(url, port, bench.folder) as core:
            load = Load(port, "", "", STACKS, STACKS * (turns + 1), rate=STACKS / EVERY_S)
            with publishing(load) as publisher:
                await asyncio.sleep(2 * EVERY_S)  # each device opens its stream
                alone, small = await spent(core, seconds), resident_kb(core)
                async with watching(core, watchers) as session:
                    await asyncio.sleep(2)
                    for watcher in watchers:
                        watcher.delays_ms.clear()
                        watcher.heard_bytes = 0
                    watched, large = await spent(core, seconds), resident_kb(core)
                    told(alone, watched, watchers, (large - small) / len(watchers))
                    await asyncio.to_thread(publisher.wait)

                    async def publish() -> None:
                        again = Load(port, "", "", STACKS, 2 * STACKS, rate=STACKS, first_seq=turns + 2)
                        before = await committed(core)
                        with publishing(again) as process:
                            await asyncio.to_thread(process.wait)
                        while await committed(core) < before + again.messages:  # noqa: ASYNC110  # a metric tells nobody
                            await asyncio.sleep(0.1)

                    missed = await cut_and_come_back(core, session, watchers, publish)
    row(f"changes that {CUT} links missed while they were cut", str(missed), "0")


def told(alone: Spent, watched: Spent, watchers: Sequence[Watcher], each_kb: float) -> None:
    headquarters, own = watchers[:OF_HEADQUARTERS], watchers[OF_HEADQUARTERS:]
    for name, them in (("headquarters", headquarters), ("a factory", own)):
        delays = [value for it in them for value in it.delays_ms]
        row(
            f"publish to watcher, {len(them)} of {name}",
            ", ".join(f"{label} {quantile(delays, share):.0f} ms" for label, share in QUANTILES),
            f"p99 {AIM_MS:.0f} ms",
        )
        heard = statistics.mean(it.heard_bytes for it in them) / watched.seconds
        row(f"what one of {name} hears", f"{heard / 1024:.2f} KB/s")
    row("the core's processor time, nobody watches", f"{100 * alone.cpu_s / alone.seconds:.0f} % of a core")
    ratio = (watched.cpu_s / watched.seconds) / (alone.cpu_s / alone.seconds)
    row(
        f"the core's processor time, {len(watchers)} watch",
        f"{100 * watched.cpu_s / watched.seconds:.0f} % of a core ({ratio:.1f} times)",
    )
    row("memory of a watcher", f"{each_kb:.0f} KB")
    rates = [it.committed / it.seconds for it in (alone, watched)]
    row("readings committed, nobody watches / all watch", " / ".join(f"{it:.1f} a second" for it in rates), "the same")


QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks watchers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a third of it")
    given = parser.parse_args(arguments)
    row("What", "Measured", "Aim")
    row("---", "---", "---")
    with postgres() as server, tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        uvloop.run(measure(Bench(server, Path(folder), 1 / 3 if given.quick else 1.0)))
