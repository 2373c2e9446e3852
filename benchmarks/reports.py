"""How long compliance reports take: a month of one factory, and a year of all factories, in each format.

    make bench ARGS="reports"                 a year of 67 factories (some five minutes on two cores)
    make bench ARGS="reports --factories 4"   fewer, to see that it runs; its figures say little

The hours are made up, the entries are daily, and each factory has reported its twelve months. A report is gathered
here; its files are made in processes of their own, as the core does it. Peak memory is that of this process, which
gathers, and of the largest process that rendered.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sqlite3
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from carbontrack.bookkeeping import Books, shipped_factors
from carbontrack.compliance import ComplianceReport
from carbontrack.compliance_data import gather
from carbontrack.config import Config
from carbontrack.emissions.hours import missing_hour
from carbontrack.ledger import Cause, EnergyEntry, EnergyType, Hour, HourStatus, ProductionEntry
from carbontrack.metrics import Metrics
from carbontrack.model import Factory, Origin
from carbontrack.plugins import Limits, Plugins, load_plugins
from carbontrack.plugins.rendering import render
from carbontrack.simulator import demo_fleet
from carbontrack.store import Store, migrate, open_store
from carbontrack.store.tiers import TierWork

ZONE = ZoneInfo("Africa/Nairobi")
START = datetime(2024, 12, 31, 21, tzinfo=UTC)
DAYS = 365
DAY = timedelta(days=1)
NOW = START + 2 * DAYS * DAY
MONTH = START + 59 * DAY, START + 90 * DAY
MONTH_LIMIT_S = 2.0
YEAR_LIMIT_S = 60.0
MONTHS = [
    (datetime(2025, number, 1, tzinfo=ZONE), datetime(2025 + number // 12, number % 12 + 1, 1, tzinfo=ZONE))
    for number in range(1, 13)
]
"""Those that every factory has reported."""
COPIED = ("energy_entry", "production_entry")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks reports", description=__doc__)
    parser.add_argument("--factories", type=int, default=67)
    asyncio.run(measure(parser.parse_args(arguments).factories))


async def measure(count: int) -> None:
    config = Config()
    plugins = load_plugins(config)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reports.sqlite3"
        await fill(file, count)
        async with open_store(f"sqlite://{file}", Metrics()) as store:
            books = Books(store, shipped_factors(), ZONE, (0.85, 1.15))
            factories = await store.factories()
            month, took_s = await gathered(books, factories[:1], *MONTH)
            made_s, size = await made(plugins, config, "pdf", month)
            print(f"a month of one factory as PDF: {took_s + made_s:.2f} s (limit {MONTH_LIMIT_S:g}), {size:,} bytes")
            used_s = time.process_time()
            year, took_s = await gathered(books, factories, START, START + DAYS * DAY)
            used_s = time.process_time() - used_s
            print(
                f"a year of {count} factories, {_hours(count):,} hours: gathered in {took_s:.1f} s "
                f"({used_s:.1f} s of CPU), {_peak(0)} MB here"
            )
            for name in sorted(plugins.contributions.compliance_formats):
                made_s, size = await made(plugins, config, name, year)
                print(
                    f"  {name}: rendered in {made_s:.1f} s, with gathering {took_s + made_s:.1f} s "
                    f"(limit {YEAR_LIMIT_S:g}), {size:,} bytes, {_peak(1)} MB at most in a process of its own"
                )
            print(f"at the end {_peak(0)} MB here")


async def gathered(
    books: Books, factories: list[Factory], start: datetime, end: datetime
) -> tuple[ComplianceReport, float]:
    began = time.perf_counter()
    report = await gather(books, factories, start, end, title="A benchmark", software="benchmark", now=NOW)
    return report, time.perf_counter() - began


async def made(plugins: Plugins, config: Config, name: str, report: ComplianceReport) -> tuple[float, int]:
    limits = Limits(config.plugins.report_timeout_s, config.plugins.report_memory_mb)
    began = time.perf_counter()
    body = await render(plugins.whose_format(name, "compliance format"), {}, name, report, limits)
    return time.perf_counter() - began, len(body)


def _peak(child: int) -> int:
    """Of this process, or the largest of those that it started; in MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN if child else resource.RUSAGE_SELF).ru_maxrss // 1024


def _hours(count: int) -> int:
    return sum(len(it.stacks) for it in demo_fleet(count)) * DAYS * 24


# --- what there is to report


async def fill(file: Path, count: int) -> None:
    """One stack's hours and one factory's entries by the store; those of the others are copies."""
    await migrate(f"sqlite://{file}")
    async with open_store(f"sqlite://{file}", Metrics()) as store:
        stacks = []
        for each in demo_fleet(count):
            factory = await store.add_factory(each.factory)
            for stack in each.stacks:
                plan = replace(stack.plan, valid_from=START)
                stacks.append((await store.add_stack(factory.id, stack.name, plan)).id)
        first = (await store.factories())[0]
        await store.write_tiers(TierWork(hours=[_hour(stacks[0], number) for number in range(DAYS * 24)]), NOW)
        await _enter(store, first)
        books = Books(store, shipped_factors(), ZONE, (0.85, 1.15))
        for start, end in MONTHS:
            await books.report(first, start, end, by=Origin("manager"), now=NOW)
        others = [factory.id for factory in await store.factories() if factory.id != first.id]
    _copy(file, stacks, first.id, others)


def _hour(stack_id: int, number: int) -> Hour:
    """Of a day 18 hours run; now and then one is lost."""
    found = missing_hour(stack_id, START + timedelta(hours=number))
    if number % 97 == 0:
        return found
    running = number % 24 < 18
    rate = (0.14 + 0.01 * (number % 5)) * running
    return msgspec.structs.replace(
        found,
        status=HourStatus.VALID if running else HourStatus.NOT_OPERATING,
        cause=Cause.NONE,
        co2_kg=rate * 3600,
        measured_kg=rate * 3600,
        operating_fraction=float(running),
        coverage=1.0,
        mean_kg_per_s=rate if running else None,
        mean_co2_fraction=0.09 if running else None,
        mean_flow_nm3_per_s=0.85 if running else None,
        product_of_means_kg_per_s=rate if running else None,
        count=720,
    )


async def _enter(store: Store, factory: Factory) -> None:
    by = Origin("clerk")
    days = [START + number * DAY for number in range(DAYS)]
    energy = [
        EnergyEntry(0, 1, factory.id, kind, amount, unit, day, day + DAY, moisture=moisture)
        for day in days
        for kind, amount, unit, moisture in (
            (EnergyType.FIREWOOD, 7400.0, "kg", 0.25),
            (EnergyType.DIESEL, 12.0, "litres", None),
            (EnergyType.ELECTRICITY, 2100.0, "kWh", None),
        )
    ]
    await store.add_energy_entries(energy, by, NOW)
    tea = [ProductionEntry(0, 1, factory.id, day, day + DAY, 15_000.0, 3400.0) for day in days]
    await store.add_production_entries(tea, by, NOW)


def _copy(file: Path, stacks: list[int], first: int, others: list[int]) -> None:
    with sqlite3.connect(file) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(hour)") if row[1] != "stack_id"]
        names = ", ".join(columns)
        for stack_id in stacks[1:]:
            db.execute(
                f"INSERT INTO hour (stack_id, {names}) SELECT ?, {names} FROM hour WHERE stack_id = ?",  # noqa: S608  # names of columns
                (stack_id, stacks[0]),
            )
        own = ("id", "entry_id", "factory_id")
        for table in COPIED:
            names = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in own)
            (most,) = db.execute(f"SELECT max(entry_id) FROM {table}").fetchone()  # noqa: S608  # as above
            for number, factory_id in enumerate(others, 1):
                db.execute(
                    f"INSERT INTO {table} (entry_id, factory_id, {names}) "  # noqa: S608  # as above
                    f"SELECT entry_id + ?, ?, {names} FROM {table} WHERE factory_id = ?",
                    (number * most, factory_id, first),
                )
        names = ", ".join(row[1] for row in db.execute("PRAGMA table_info(statement)") if row[1] not in own)
        for factory_id in others:
            db.execute(
                f"INSERT INTO statement (factory_id, {names}) "  # noqa: S608  # as above
                f"SELECT ?, {names} FROM statement WHERE factory_id = ?",
                (factory_id, first),
            )
    db.close()


if __name__ == "__main__":
    main([])
