"""What grows: bytes for each reading, the backlog after an outage, the start with many devices, charts over years.

    make bench ARGS="growth"                 all of it (under ten minutes on two cores)
    make bench ARGS="growth --quick"         a tenth of it, to see that it runs; its figures say little
    make bench ARGS="growth --only charts"   one part: raw, archive, drain, restart (with drain) or charts

Everything is on loopback, bounded, and gone afterwards. The broker, the database and the core are real processes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import uvloop

from benchmarks.publisher import Load
from benchmarks.rig import Core, mosquitto, postgres, publishing, serving
from carbontrack.bookkeeping import Books, month, shipped_factors
from carbontrack.data import load_factories
from carbontrack.ledger import Metric
from carbontrack.metrics import Metrics
from carbontrack.model import MonitoringPlan, Reading
from carbontrack.simulator import demo_fleet
from carbontrack.simulator.instruments import Instruments
from carbontrack.store import Store, Work, migrate, open_store
from carbontrack.store.partitions import ensure_days, partition
from carbontrack.tasks import calm_garbage_collection
from tests.support.postgres import Postgres

STACKS = 268
FACTORIES = 67
DEVICES = 10_000
RECORDS = 60
STEP_S = 5
ZONE = ZoneInfo("Africa/Nairobi")
PATIENCE_S = 240.0
GRANTED_PER_S = 200.0
"""The default of ``mqtt.backlog_per_s``."""
AIM_MS = 50.0
PARTS = ("raw", "archive", "drain", "restart", "charts")


@dataclass(frozen=True, slots=True)
class Bench:
    """One run's surroundings. ``share``: of the full amounts."""

    server: Postgres
    folder: Path
    share: float

    def some(self, count: int) -> int:
        return max(1, int(count * self.share))


def row(what: str, measured: str, aim: str = "") -> None:
    print(f"| {what} | {measured} | {aim} |", flush=True)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def network(bench: Bench, archive: Path | None = None) -> AsyncIterator[tuple[Store, str]]:
    """The store of a new database with the network in it; and its address."""
    url = bench.server.new_url()
    async with network_at(url, archive) as store:
        yield store, url


@asynccontextmanager
async def network_at(url: str, archive: Path | None = None) -> AsyncIterator[Store]:
    """The store of an empty database, to which 67 factories with four stacks each are added."""
    await migrate(url)
    async with open_store(url, Metrics(), archive_folder=archive) as store:
        for factory in load_factories()[:FACTORIES]:
            added = await store.add_factory(factory)
            for number in range(STACKS // FACTORIES):
                await store.add_stack(added.id, f"Boiler {number + 1}", MonitoringPlan())
        yield store


# --- bytes

REGISTER = """
INSERT INTO device (device_id, factory_id, stack_id, sensor, status, registered_at)
SELECT 'dev-' || lpad(n::text, 5, '0'), s.factory_id, s.id, 'ct_v1', 'active', now()
FROM generate_series($1::int, $2::int - 1) n
JOIN (SELECT id, factory_id, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS all FROM stack) s
ON s.place = n % s.all
"""
STREAMS = """
INSERT INTO stream (device_id, sid, watermark, last_measured_ms, last_stack_id, last_seq, last_received_at)
SELECT device_id, '9f3c21aa', $2, (extract(epoch FROM $3::timestamptz) * 1000)::bigint, stack_id, $2, now()
FROM device WHERE id IN (SELECT id FROM device ORDER BY device_id OFFSET $1)
"""
SOURCES = """
INSERT INTO source (stream_id, stack_id, base_seq)
SELECT id, last_stack_id, 0 FROM stream WHERE last_stack_id IS NOT NULL ON CONFLICT DO NOTHING
"""
# Reading after reading as they come live: all chimneys' first, then all chimneys' second.
LIVE = """
INSERT INTO reading (source_id, seq, measured_at, received_after_s, co2_ppm, temperature_c, flow_signal, pressure_kpa,
    flags)
SELECT s.id, n, $1::timestamptz + n * interval '5 s', 0.1 + random(), 90000 + 5000 * random(), 180 + 10 * random(),
    4 + random(), 79.68, 0
FROM generate_series(0, $2::int - 1) n, LATERAL (SELECT id FROM source ORDER BY id OFFSET 0) s
"""
SIZES = "SELECT pg_relation_size($1::regclass) AS rows, pg_indexes_size($1::regclass) AS index"


async def bytes_per_reading(connection: asyncpg.Connection, days: Sequence[date]) -> str:
    rows_bytes = index_bytes = count = 0
    for day in days:
        name = partition("reading", day)
        sizes = await connection.fetchrow(SIZES, name)
        rows_bytes, index_bytes = rows_bytes + sizes["rows"], index_bytes + sizes["index"]
        count += await connection.fetchval(f"SELECT count(*) FROM {name}")  # noqa: S608  # a name of ours
    return f"{rows_bytes / count:.1f} + {index_bytes / count:.1f} = {(rows_bytes + index_bytes) / count:.1f} bytes"


async def raw(bench: Bench) -> None:
    """A day of 134 chimneys in PostgreSQL, as it comes live, and packed."""
    day = datetime.now(UTC).date() - timedelta(days=3)
    begin = datetime.combine(day, datetime.min.time(), UTC)
    async with network(bench) as (store, url), connected(url) as connection:
        await connection.execute(REGISTER, 0, 134)
        await connection.execute(STREAMS, 0, 1, begin)
        await connection.execute(SOURCES)
        await ensure_days(connection.execute, [day])
        await connection.execute(LIVE, begin, bench.some(86_400 // STEP_S))
        what = "a raw reading in PostgreSQL, row + index"
        row(f"{what}, came one by one", await bytes_per_reading(connection, [day]), "100")
        await store.pack(day + timedelta(days=1))
        row(f"{what}, packed", await bytes_per_reading(connection, [day]), "100")


async def archive(bench: Bench) -> None:
    """A day of simulated chimneys, with the noise and the resolution of real instruments, in the archive."""
    day = datetime.now(UTC).date() - timedelta(days=3)
    begin = datetime.combine(day, datetime.min.time(), UTC)
    chimneys = [(site.factory, stack) for site in demo_fleet(12) for stack in site.stacks if stack.fault is None]
    async with network(bench, bench.folder / "archive") as (store, url), connected(url) as connection:
        stacks = await store.stacks()
        for (factory, chimney), stack in zip(islice(chimneys, 12), stacks, strict=False):
            stream = await store.open_stream(chimney.device_id, f"{chimney.seed:08x}")
            instruments = Instruments(chimney, factory)
            for first in range(0, bench.some(86_400 // STEP_S), 720):
                rows = [simulated(instruments, stack.id, stream.pk, begin, first + place) for place in range(720)]
                await store.save(Work(chimney.device_id, stack.factory_id, rows))
        in_database = await bytes_per_reading(connection, [day])
        count = await store.retire(day, datetime.now(UTC))
        in_archive = sum(file.bytes for file in store.archived_files(day)) / count
        row(f"a reading in the archive ({count:,} simulated ones)", f"{in_archive:.1f} bytes")
        row("the same readings in PostgreSQL before", in_database)


def simulated(instruments: Instruments, stack_id: int, stream_pk: int, begin: datetime, place: int) -> Reading:
    measured_at = begin + timedelta(seconds=STEP_S * place)
    got = instruments.read(round(measured_at.timestamp() * 1000))
    received_at = measured_at + timedelta(milliseconds=random.randint(80, 900))
    values = got.co2_ppm, got.temperature_c, got.velocity_ms, got.pressure_kpa, None, None, got.status
    return Reading(stack_id, stream_pk, place + 1, measured_at, received_at, *values)


# --- the backlog after an outage


async def drain(bench: Bench, *, then_restart: bool) -> None:
    """24 hours of 268 devices through broker, core and database, as fast as the core takes them."""
    load = Load(0, "bench", "bench", devices=STACKS, messages=STACKS * bench.some(288), records=RECORDS)
    readings = load.messages * RECORDS
    async with network(bench) as (store, url), connected(url) as connection:
        await connection.execute(REGISTER, 0, STACKS)
        # The publisher sends nothing twice: what bounds a real fleet is lifted, so that nothing is refused.
        bounds = {"DEVICES__MESSAGES_PER_S": "1000", "DEVICES__MAILBOX_SIZE": "4096"}
        with mosquitto(bench.folder) as port, serving(url, port, bench.folder, **bounds) as core:
            began_s = core.cpu_s
            took_s, committed = await drained(core, replace(load, port=port), readings)
            cpu_us = 1e6 * (core.cpu_s - began_s) / committed
            marks = await connection.fetchval("SELECT count(*) FROM dirty_bucket")
        kept = await connection.fetchval("SELECT count(*) FROM reading")
        assert committed <= kept <= readings, f"{committed} were said to be committed, {kept} are there"
        what = f"backlog of {STACKS} devices, {readings / STACKS * STEP_S / 3600:.1f} h ({readings:,} readings)"
        part = "" if committed == readings else f"NOT ALL IN, {committed:,} "
        row(
            f"{what}, unlimited",
            f"{part}{took_s:.0f} s: {committed / took_s:,.0f} readings/s; {cpu_us:.0f} us of CPU each",
        )
        row("the same at the 200 messages/s that are granted by default", f"{load.messages / GRANTED_PER_S:.0f} s")
        row("5-minute buckets of it that wait to be summarised then", f"{marks:,}")
        days = [found["day"] for found in await connection.fetch(DAYS)]
        what = "a raw reading in PostgreSQL, row + index"
        row(f"{what}, came in batches of 60", await bytes_per_reading(connection, days), "100")
        await store.pack(max(days) + timedelta(days=1))
        row(f"{what}, those packed", await bytes_per_reading(connection, days), "100")
        if then_restart:
            await restart(bench, url, connection)


DAYS = "SELECT DISTINCT (measured_at AT TIME ZONE 'UTC')::date AS day FROM reading"


async def drained(core: Core, load: Load, readings: int) -> tuple[float, int]:
    """Seconds from the first message to the last commit, or to the end of our patience; and what is committed."""
    began = time.perf_counter()
    with publishing(load):
        while True:
            committed = int(core.metric('carbontrack_readings_total{outcome="committed"}'))
            took_s = time.perf_counter() - began
            if committed >= readings or took_s > PATIENCE_S:
                return took_s, committed
            await asyncio.sleep(0.5)


# --- the start with many devices

NEWEST = """
INSERT INTO reading (source_id, seq, measured_at, received_after_s, co2_ppm, temperature_c, flow_signal, pressure_kpa,
    flags)
SELECT s.id, t.last_seq, to_timestamp(t.last_measured_ms / 1000.0), 0.1, 95000, 181, 4.1, 79.68, 0
FROM stream t JOIN source s ON s.stream_id = t.id ON CONFLICT DO NOTHING
"""


async def restart(bench: Bench, url: str, connection: asyncpg.Connection) -> None:
    """From the start of the process until /readyz says yes, with a stream and a newest reading for each device."""
    devices = bench.some(DEVICES)
    moment = datetime.now(UTC) - timedelta(minutes=1)
    await connection.execute(REGISTER, STACKS, devices)
    await connection.execute(STREAMS, STACKS, 1, moment)
    await connection.execute(SOURCES)
    await connection.execute(NEWEST)
    await connection.execute("UPDATE registry SET revision = revision + 1")
    await connection.execute("ANALYZE")
    seconds, cpu_s = [], []
    for _ in range(5):
        with mosquitto(bench.folder) as port, serving(url, port, bench.folder) as core:
            seconds.append(core.ready_s)
            cpu_s.append(core.cpu_s)
            running = sum(core.metric(f'carbontrack_actors{{state="{state}"}}') for state in ("starting", "running"))
            assert running >= devices, f"{running:.0f} of {devices} devices run"
    slowest = f"slowest {max(seconds):.1f} s, {median(cpu_s):.1f} s of CPU"
    row(f"restart until ready, {devices:,} devices", f"{median(seconds):.1f} s ({slowest})")


# --- charts over years

HOURS = """
INSERT INTO hour (stack_id, start, status, cause, co2_kg, measured_kg, operating_fraction, coverage, mean_kg_per_s,
    mean_co2_fraction, mean_flow_nm3_per_s, mean_temperature_c, product_of_means_kg_per_s, count, late_count, flags,
    method, policy, min_kg_per_s, max_kg_per_s, version)
SELECT s.id, at, kind.status, kind.cause, CASE kind.status WHEN 'valid' THEN kg WHEN 'not_operating' THEN 0 END,
    CASE kind.status WHEN 'not_operating' THEN 0 ELSE kg * 0.9 END, kind.fraction, kind.coverage, kg / 3600, 0.09, 1.1,
    181, kg / 3600, 720, 0, 0, 'ct-1', 'share', kg / 4000, kg / 3000, 1
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') at,
    LATERAL (SELECT id, at AS same, 300 + 200 * random() AS kg, random() AS dice FROM stack ORDER BY id OFFSET 0) s,
    LATERAL (SELECT CASE WHEN dice < 0.05 THEN 'invalid' WHEN dice < 0.4 THEN 'not_operating' ELSE 'valid' END
        AS status, CASE WHEN dice < 0.05 THEN 'malfunction' ELSE '' END AS cause,
        CASE WHEN dice < 0.05 THEN NULL WHEN dice < 0.4 THEN 0.0 ELSE 1.0 END AS fraction,
        CASE WHEN dice < 0.05 THEN 0.4 ELSE 1.0 END AS coverage) kind
"""
DAY_ROWS = """
INSERT INTO tier_day (stack_id, day, valid_hours, not_operating_hours, invalid_hours, operating_h, coverage, co2_kg,
    measured_kg, mean_kg_per_s, min_kg_per_s, max_kg_per_s, count, late_count)
SELECT s.id, at::date, 14, 9, 1, 14.5, 0.97, 5000 + 900 * random(), 5000, 0.1, 0.05, 0.2, 17280, 0
FROM generate_series($1::date, $2::date - 1, interval '1 day') at,
    LATERAL (SELECT id, at AS same FROM stack ORDER BY id OFFSET 0) s
"""
BUCKETS = """
INSERT INTO tier_5min (stack_id, start, count, late_count, running_s, off_s, valid_s, co2_kg, co2_s, co2_fraction_s,
    flow_s, flow_nm3, temperature_s, temperature_c_s, no_co2_s, min_kg_per_s, max_kg_per_s, flags)
SELECT s.id, at, 60, 0, 300, 0, 300, 30 + 10 * random(), 300, 27, 300, 330, 300, 54300, 0, 0.05, 0.2, 0
FROM generate_series($1::timestamptz, $2::timestamptz - interval '5 minutes', '5 minutes') at,
    LATERAL (SELECT id, at AS same FROM stack ORDER BY id OFFSET 0) s
"""


async def charts(bench: Bench) -> None:
    """What the pages and the API ask the store for, with three years of 268 stacks in it."""
    # Late in an hour, when most of it is still to be summed up from 5-minute rows.
    now = datetime.now(UTC).replace(minute=55, second=0, microsecond=0) - timedelta(hours=1)
    today = now.astimezone(ZONE).date()
    years_ago = today - timedelta(days=bench.some(3 * 365 + 1))
    fine_days = max(2, bench.some(32))
    async with network(bench) as (store, url):
        async with connected(url) as connection:
            began = time.perf_counter()
            for table in ("hour", "tier_day", "tier_5min"):  # filling is not measured: without a log it is faster
                await connection.execute(f"ALTER TABLE {table} SET UNLOGGED")
            await connection.execute(BUCKETS, now - timedelta(days=fine_days), now)
            await connection.execute(HOURS, datetime.combine(years_ago, datetime.min.time(), ZONE), now)
            await connection.execute(DAY_ROWS, years_ago, today)
            await connection.execute("VACUUM ANALYZE")  # as autovacuum does, in its time
            counts = [await connection.fetchval(f"SELECT count(*) FROM {name}") for name in ("hour", "tier_day")]  # noqa: S608  # names of ours
            size = await connection.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
        row(
            f"{counts[0]:,} hours, {counts[1]:,} days, 5 minutes of {fine_days} days",
            f"{size}, filled in {time.perf_counter() - began:.0f} s",
        )
        await asked(Asked(store, now, years_ago, fine_days), 60 if bench.share == 1 else 10)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom the queries ask, and what there is to ask for."""

    store: Store
    now: datetime
    first_day: date
    fine_days: int

    def since(self, days: int, *, reach: int | None = None) -> datetime:
        """A random moment with so many days after it, within the last ``reach`` days."""
        reach = (self.now.astimezone(ZONE).date() - self.first_day).days if reach is None else reach
        return self.now - timedelta(days=days, hours=random.randint(0, max(0, reach - days) * 24))


async def asked(ask: Asked, times: int) -> None:
    store, now = ask.store, ask.now
    stacks: dict[int, list[int]] = {}
    for stack in await store.stacks():
        stacks.setdefault(stack.factory_id, []).append(stack.id)
    every = [one for them in stacks.values() for one in them]
    day_began = datetime.combine(now.astimezone(ZONE).date(), datetime.min.time(), ZONE)
    today, month_ago = now.astimezone(ZONE).date(), now.astimezone(ZONE).date() - timedelta(days=31)

    def any_stack() -> list[int]:
        return [random.choice(every)]

    def any_factory() -> list[int]:
        return random.choice(list(stacks.values()))

    async def fine(chosen: list[int], days: int) -> list[Any]:
        since = ask.since(days, reach=ask.fine_days)
        return list(await store.trend(chosen, since, since + timedelta(days=days)))

    async def hours(chosen: list[int], days: int) -> list[Any]:
        since = ask.since(days)
        return list(await store.hours(chosen, since, since + timedelta(days=days)))

    async def days(chosen: list[int], since: date) -> list[Any]:
        return list(await store.days(chosen, since, today))

    pages: list[tuple[str, Callable[[], Awaitable[Sequence[Any]]]]] = [
        ("one stack, a day in 5 minutes", lambda: fine(any_stack(), 1)),
        ("one stack, a month in hours", lambda: hours(any_stack(), 31)),
        ("one stack, three years in days", lambda: days(any_stack(), ask.first_day)),
        ("one factory, a day in 5 minutes", lambda: fine(any_factory(), 1)),
        ("one factory, a month in hours", lambda: hours(any_factory(), 31)),
        ("one factory, three years in days", lambda: days(any_factory(), ask.first_day)),
        ("one factory, today's total", lambda: store.totals(day_began, now, random.choice(list(stacks)))),
        ("the network, today's totals and ranking", lambda: store.totals(day_began, now)),
        ("the network, a whole day's totals", lambda: store.totals(now - timedelta(days=1), now)),
    ]
    # Nothing but the API gives these, and no page waits for them.
    long_answers: list[tuple[str, Callable[[], Awaitable[Sequence[Any]]]]] = [
        ("the network, a month in days (API)", lambda: days(every, month_ago)),
        ("one stack, a month in 5 minutes (API, its longest)", lambda: fine(any_stack(), min(31, ask.fine_days))),
        ("one stack, a year in hours (API, its longest)", lambda: hours(any_stack(), 366)),
    ]
    for name, query in pages:
        await timed(name, query, times, f"{AIM_MS:.0f} ms")
    for name, query in long_answers:
        await timed(name, query, max(10, times // 3), "")
    await leaderboard(ask)


async def timed(name: str, query: Callable[[], Awaitable[Sequence[Any]]], times: int, aim: str) -> None:
    rows = len(await query())  # the first one opens connections and plans
    took = []
    used = time.process_time()
    for _ in range(times):
        began = time.perf_counter()
        await query()
        took.append(1000 * (time.perf_counter() - began))
    took.sort()
    cpu_ms = 1000 * (time.process_time() - used) / times
    p50, p95 = median(took), took[min(len(took) - 1, int(len(took) * 0.95))]
    row(f"{name} ({rows:,} rows)", f"p50 {p50:.1f} ms, p95 {p95:.1f} ms ({cpu_ms:.1f} ms of CPU)", aim)


async def leaderboard(ask: Asked) -> None:
    """The accounts' ranking of a month: the accounts of all factories for it and the month before, kept for 5 min."""
    books = Books(ask.store, shipped_factors(), ZONE, (0.85, 1.15))
    factories = await ask.store.factories()
    start, end = month((ask.now - timedelta(days=31)).date(), ZONE)
    for how in ("worked out anew", "within the next five minutes"):
        began = time.perf_counter()
        await books.leaderboard(factories, start, end, Metric.STACK_CO2)
        row(f"the accounts' ranking of a month, {how}", f"{1000 * (time.perf_counter() - began):,.0f} ms")


# --- all of it


async def measure(bench: Bench, parts: Sequence[str]) -> None:
    if "raw" in parts:
        await raw(bench)
    if "archive" in parts:
        await archive(bench)
    if "drain" in parts or "restart" in parts:
        await drain(bench, then_restart="restart" in parts)
    if "charts" in parts:
        await charts(bench)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part, and other --only's")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, postgres() as server:
        row("What", "Measured", "Aim")
        row("---", "---", "---")
        calm_garbage_collection()  # this and the loop as in the core
        uvloop.run(measure(Bench(server, Path(name), 0.1 if options.quick else 1.0), options.only or PARTS))
    print(f"\n{time.perf_counter() - began:.0f} s")
