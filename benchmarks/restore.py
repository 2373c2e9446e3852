"""The restore drill, timed: a large database is backed up and brought back, and its accounts are the same.

    make bench ARGS="restore"            5.5 million readings of 134 chimneys (some ten minutes)
    make bench ARGS="restore --quick"    a tenth of it

PostgreSQL with ``fsync`` on; the commands are those that an operator gives, each a process of its own. Every factory
has energy and tea, and its account of the month is compared number by number, in the old database and the restored one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.growth import LIVE, REGISTER, SOURCES, STEP_S, STREAMS, connected, network_at
from benchmarks.rig import postgres
from carbontrack.bookkeeping import Books, month, shipped_factors
from carbontrack.emissions.accounts import to_dict
from carbontrack.ledger import EnergyEntry, EnergyType, ProductionEntry
from carbontrack.metrics import Metrics
from carbontrack.model import Origin
from carbontrack.store import open_store
from carbontrack.store.partitions import ensure_days
from carbontrack.tiers import Summariser
from tests.support.postgres import Postgres
from tests.support.world import NAIROBI

CHIMNEYS = 134
READINGS = 5_500_000
BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
MARK = """
INSERT INTO dirty_bucket (stack_id, start) SELECT DISTINCT s.stack_id, b FROM source s,
generate_series($1::timestamptz, $2::timestamptz, interval '5 min') b
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """What a command said last, and how long it took."""

    said: str
    took_s: float


def command(url: str, *words: str) -> Timed:
    """``carbontrack`` on a database. Raises RuntimeError when it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "carbontrack", *words],
        env=os.environ | {"DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return Timed(done.stdout.strip().splitlines()[-1], time.perf_counter() - began)


async def fill(url: str, readings: int) -> int:
    """A network with so many readings, its tiers and its entries; how many hours are summarised."""
    each = readings // CHIMNEYS
    until = BEGIN + timedelta(seconds=STEP_S * each)
    async with network_at(url) as store, connected(url) as connection:
        await connection.execute(REGISTER, 0, CHIMNEYS)
        await connection.execute(STREAMS, 0, each, until)
        await connection.execute(SOURCES)
        days = [BEGIN.date() + DAY * number for number in range((until - BEGIN).days + 2)]
        await ensure_days(connection.execute, days)
        await connection.execute(LIVE, BEGIN, each, timeout=1200)
        await connection.execute(MARK, BEGIN, until - timedelta(minutes=5))
        summariser = Summariser(store, NAIROBI)
        while await summariser.summarise_touched(2000):
            pass
        for factory in await store.factories():
            await store.add_energy_entry(
                EnergyEntry(0, 1, factory.id, EnergyType.FIREWOOD, 40_000.0, "kg", BEGIN, until, moisture=0.25),
                Origin("clerk"),
                until,
            )
            await store.add_production_entry(
                ProductionEntry(0, 1, factory.id, BEGIN, until, None, 20_000.0), Origin("clerk"), until
            )
        hours: int = await connection.fetchval("SELECT count(*) FROM hour")
        return hours


async def accounts(url: str) -> dict[str, Any]:
    """The account of the month of every factory, as it is reported."""
    async with open_store(url, Metrics()) as store:
        books = Books(store, shipped_factors(), NAIROBI, (0.85, 1.15))
        try:
            factories = await store.factories()
            found = await books.accounts(factories, *month(BEGIN.date(), NAIROBI))
        finally:
            await books.close()
    return {factory.slug: to_dict(account) for factory, account in zip(factories, found, strict=True)}


def _tonnes(accounts: Mapping[str, Any]) -> float:
    return sum(account["stack_co2"]["value_kg"] or 0.0 for account in accounts.values()) / 1000


def row(what: str, figure: str) -> None:
    print(f"| {what} | {figure} |", flush=True)


def drill(server: Postgres, folder: Path, readings: int) -> bool:
    """Do it; whether every account is the same."""
    url, other = server.new_url(), server.new_url()
    hours = asyncio.run(fill(url, readings))
    before = asyncio.run(accounts(url))
    row("readings, hours, factories", f"{readings // CHIMNEYS * CHIMNEYS:,}, {hours:,}, {len(before)}")
    file = folder / "drill.zip"
    row("`backup`", f"{command(url, 'backup', '--to', str(file)).took_s:.1f} s")
    row("the backup's file", f"{file.stat().st_size / 1e6:.0f} MB")
    row("`restore --check`", f"{command(url, 'restore', str(file), '--check').took_s:.1f} s")
    restored = command(other, "restore", str(file))
    row("`restore`, with the comparison of every table and stream", f"{restored.took_s:.1f} s")
    began = time.perf_counter()
    after = asyncio.run(accounts(other))
    same = [slug for slug, account in before.items() if after.get(slug) == account]
    row("accounts that are the same, number by number", f"{len(same)} of {len(before)}")
    row("to work them out again and compare", f"{time.perf_counter() - began:.1f} s")
    row("CO2 of all chimneys in the month, before and after", f"{_tonnes(before):,.3f} t, {_tonnes(after):,.3f} t")
    return before == after and len(before) > 0


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="restore", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    readings = READINGS // (10 if parser.parse_args(arguments).quick else 1)
    with (
        tempfile.TemporaryDirectory(prefix="carbontrack-restore-") as place,
        postgres(Path(tempfile.gettempdir())) as server,
    ):
        is_even = drill(server, Path(place), readings)
    if not is_even:
        sys.exit("The accounts differ: the restored database is not the one that was backed up.")
