"""How long the API takes at 50 requests a second, with three years of 268 stacks in the database, beside full ingest.

    make bench ARGS="api"            all of it (about five minutes)
    make bench ARGS="api --quick"    a tenth of the years and of the time, to see that it runs

The core, the database, the broker and the publisher are real processes on loopback, and share the machine's cores with
whoever asks. Requests leave at their time, whether the ones before are answered or not, and are timed from when they
should have left: a core that stands still shows in every one of them. Each request asks for something else, by chance.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import uvloop

from benchmarks.growth import (
    BUCKETS,
    DAY_ROWS,
    HOURS,
    REGISTER,
    STACKS,
    ZONE,
    Bench,
    connected,
    network,
    row,
)  # fmt: skip
from benchmarks.publisher import Load
from benchmarks.rig import Core, mosquitto, postgres, publishing, serving
from carbontrack.model import Role, Scope
from carbontrack.passwords import hash_password, new_token, token_hash
from carbontrack.store import Store

REQUESTS_PER_S = 50.0
INGEST_PER_S = STACKS / 5
AIM_MS = 100.0
ENERGY = """
INSERT INTO energy_entry (entry_id, version, factory_id, energy_type, amount, unit, period_start, period_end,
    sustainability, evidence, note, author, recorded_at, reason, withdrawn)
SELECT row_number() OVER (), 1, f.id, 'firewood', 20 + 5 * random(), 't', at, at + interval '1 day', 'unknown', '', '',
    'clerk@example.org', at + interval '2 days', '', false
FROM factory f, generate_series($1::timestamptz, $2::timestamptz - interval '2 days', '1 day') at
"""
TEA = """
INSERT INTO production_entry (entry_id, version, factory_id, period_start, period_end, green_leaf_kg, made_tea_kg,
    evidence, note, author, recorded_at, reason, withdrawn)
SELECT row_number() OVER (), 1, f.id, at, at + interval '1 day', 40000, 9000, '', '', 'clerk@example.org',
    at + interval '2 days', '', false
FROM factory f, generate_series($1::timestamptz, $2::timestamptz - interval '2 days', '1 day') at
"""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that is asked for; ``make`` gives one address, another each time."""

    name: str
    make: Callable[[], str]
    weight: int = 1


async def fill(connection: asyncpg.Connection, first: datetime, now: datetime, fine_days: int) -> str:
    """Three years of hours, days and entries, and a month of 5-minute rows; how much there is."""
    for table in ("hour", "tier_day", "tier_5min"):  # filling is not measured: without a log it is faster
        await connection.execute(f"ALTER TABLE {table} SET UNLOGGED")
    await connection.execute(REGISTER, 0, STACKS)
    await connection.execute(BUCKETS, now - timedelta(days=fine_days), now)
    await connection.execute(HOURS, first, now)
    await connection.execute(DAY_ROWS, first.date(), now.date())
    await connection.execute(ENERGY, first, now)
    await connection.execute(TEA, first, now)
    for table in ("energy_entry", "production_entry"):
        await connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")  # noqa: S608  # names of ours
    await connection.execute("VACUUM ANALYZE")  # as autovacuum does, in its time
    hours, entries = [await connection.fetchval(f"SELECT count(*) FROM {it}") for it in ("hour", "energy_entry")]  # noqa: S608  # as above
    size = await connection.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    return f"{hours:,} hours, {entries:,} energy entries, {size}"


async def token_of_headquarters(store: Store) -> str:
    user = await store.add_user("hq@example.org", hash_password(new_token()), Role.HQ_MANAGER)
    token = f"ct_{new_token()}"
    await store.add_api_token(token_hash(token), token[:8], user.id, "benchmark", frozenset({Scope.READ}))
    return token


async def questions(store: Store, first: datetime, now: datetime, fine_days: int) -> list[Question]:
    """Lists, leaderboards and charts, as portals and scripts ask for them."""
    factories = [factory.id for factory in await store.factories()]
    stacks = [stack.id for stack in await store.stacks()]
    days = (now - first).days

    def since(length: int, reach: int) -> str:
        begin = now - timedelta(days=length, hours=random.randint(0, max(0, reach - length) * 24))
        end = begin + timedelta(days=length)
        return f"from={begin:%Y-%m-%dT%H:00:00Z}&to={end:%Y-%m-%dT%H:00:00Z}"

    def emissions(resolution: str, length: int, reach: int, whose: str) -> str:
        return f"/api/emissions/?resolution={resolution}&{since(length, reach)}&{whose}"

    def any_stack() -> str:
        return f"stack_id={random.choice(stacks)}"

    def any_factory() -> str:
        return f"factory_id={random.choice(factories)}"

    fine = min(1, fine_days)
    return [
        Question("list: factories", lambda: "/api/factories/", 2),
        Question("list: devices of a factory", lambda: f"/api/mcu-devices/?{any_factory()}", 2),
        Question("list: all devices", lambda: "/api/mcu-devices/"),
        Question("list: stacks of a factory", lambda: f"/api/stacks/?{any_factory()}", 2),
        Question("list: energy entries, a month", lambda: f"/api/energy-entries/?{since(31, days)}&{any_factory()}", 3),
        Question("list: tea, a month", lambda: f"/api/production-entries/?{since(31, days)}&{any_factory()}", 2),
        Question("list: alerts", lambda: "/api/alerts/", 2),
        Question("leaderboard, this month", lambda: "/api/factories/leaderboard/", 2),
        Question("chart: a stack's day in 5 minutes", lambda: emissions("5min", fine, fine_days, any_stack()), 4),
        Question("chart: a factory's day in 5 minutes", lambda: emissions("5min", fine, fine_days, any_factory()), 3),
        Question("chart: a stack's month in hours", lambda: emissions("hour", 31, days, any_stack()), 3),
        Question("chart: a factory's month in hours", lambda: emissions("hour", 31, days, any_factory()), 2),
        Question("chart: a stack's three years in days", lambda: emissions("day", days, days, any_stack()), 2),
        Question("raw: a stack's last hour", lambda: f"/api/emissions/?{any_stack()}", 2),
    ]


async def ask(base: str, token: str, asked: Sequence[Question], seconds: float) -> dict[str, list[float]]:
    """Milliseconds from when each request should have left to the last byte of its answer, by question."""
    took: dict[str, list[float]] = {}
    weights = [question.weight for question in asked]
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(base, headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(question: Question, due: float) -> None:
            async with session.get(question.make()) as answer:
                await answer.read()
                assert answer.status == 200, (question.name, answer.status, await answer.text())
            took.setdefault(question.name, []).append(1000 * (time.perf_counter() - due))

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(round(seconds * REQUESTS_PER_S)):
                due = began + number / REQUESTS_PER_S
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                (question,) = random.choices(asked, weights)
                group.create_task(one(question, due))
    return took


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def told(took: dict[str, list[float]], quiet: dict[str, list[float]]) -> None:
    """A line for each question: beside ingest, and without it."""
    every, alone = ([value for values in them.values() for value in values] for them in (took, quiet))
    for name, values, other in [
        *((it, took[it], quiet.get(it, [])) for it in sorted(took)),
        ("all of them", every, alone),
    ]:
        without = f"{quantile(other, 0.5):.0f} / {quantile(other, 0.95):.0f} ms" if other else "-"
        row(
            f"{name} ({len(values)})",
            f"p50 {quantile(values, 0.5):.0f} ms, p95 {quantile(values, 0.95):.0f} ms, "
            f"p99 {quantile(values, 0.99):.0f} ms; without ingest p50 / p95 {without}",
            f"p95 {AIM_MS:.0f} ms",
        )


async def committed(core: Core) -> float:
    return await asyncio.to_thread(core.metric, 'carbontrack_readings_total{outcome="committed"}')


async def measure(bench: Bench) -> None:
    seconds = 60 * max(bench.share, 1 / 6)
    now = datetime.now(UTC).replace(minute=55, second=0, microsecond=0) - timedelta(hours=1)
    first = datetime.combine(now.astimezone(ZONE).date(), datetime.min.time(), ZONE)
    first -= timedelta(days=bench.some(3 * 365 + 1))
    fine_days = max(2, bench.some(32))
    async with network(bench) as (store, url):
        async with connected(url) as connection:
            row("the data", await fill(connection, first, now, fine_days))
        token = await token_of_headquarters(store)
        asked = await questions(store, first, now, fine_days)
        with mosquitto(bench.folder) as port, serving(url, port, bench.folder) as core:
            await ask(core.url, token, asked, 5)  # the first ones open connections and plan
            quiet = await ask(core.url, token, asked, seconds / 2)
            load = Load(port, "", "", STACKS, round(INGEST_PER_S * (seconds + 20)), rate=INGEST_PER_S)
            with publishing(load):
                await asyncio.sleep(5)
                before, used = await committed(core), core.cpu_s
                took = await ask(core.url, token, asked, seconds)
                kept, cpu = await committed(core) - before, core.cpu_s - used
    told(took, quiet)
    row("readings committed meanwhile", f"{kept / seconds:.1f} a second", f"{INGEST_PER_S:.1f}")
    row("the core's processor time", f"{100 * cpu / seconds:.0f} % of a core")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks api", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    given = parser.parse_args(arguments)
    row("What", "Measured", "Aim")
    row("---", "---", "---")
    with postgres() as server, tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(Bench(server, Path(folder), 0.1 if given.quick else 1.0)))
