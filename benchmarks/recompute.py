"""How long it takes to make the tiers: an hour of one device, and a year of readings every 5 s.

A year is measured by part of it (``--days``) and multiplied: every hour is the same work. The limits are those that
the project has set itself: 5 ms for an hour, 60 s for a device's year, on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from zoneinfo import ZoneInfo

from carbontrack.data import load_factories
from carbontrack.emissions.hours import BUCKET_S, Point, hour_of, summarise
from carbontrack.emissions.rate import emission_rate, single, stored_sample, undecided_flags
from carbontrack.metrics import Metrics
from carbontrack.model import MonitoringPlan, Reading
from carbontrack.store import Store, Work, migrate, open_store
from carbontrack.tiers import Summariser

START = datetime(2026, 1, 5, 21, tzinfo=UTC)
PLAN = MonitoringPlan()
HOUR_LIMIT_MS = 5.0
YEAR_LIMIT_S = 60.0


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks recompute", description=__doc__)
    parser.add_argument("--days", type=int, default=7, help="how much of the year is really made")
    days = parser.parse_args(arguments).days
    asyncio.run(measure(days))


async def measure(days: int) -> None:
    hour_ms = median(one_hour_ms() for _ in range(15))
    print(f"an hour out of 840 readings in memory: {hour_ms:.2f} ms (limit {HOUR_LIMIT_MS:g})")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite://{Path(folder) / 'recompute.sqlite3'}"
        await migrate(url)
        async with open_store(url, Metrics()) as store:
            stack_id = await fill(store, days)
            summariser = Summariser(store, ZoneInfo("Africa/Nairobi"))
            for what in ("tiers from nothing", "the same again", "under a changed plan"):
                if what == "under a changed plan":
                    await store.add_plan(stack_id, replace(PLAN, valid_from=START, profile_factor=0.87))
                began, used = time.perf_counter(), time.process_time()
                done = await summariser.recompute([stack_id], START, START + timedelta(days=days), lambda _: None)
                wall_s, cpu_s = time.perf_counter() - began, time.process_time() - used
                year_s = wall_s / days * 365
                print(
                    f"{days} days, {done.buckets} buckets, {what} ({done.versions} hours with a new version): "
                    f"{wall_s:.2f} s ({cpu_s:.2f} s of CPU); a year {year_s:.1f} s (limit {YEAR_LIMIT_S:g})"
                )


def one_hour_ms() -> float:
    rows = [(step * 5000, 90_000.0 + 50 * (step % 97), 181.0 + step % 7, 4.1 + step % 5 / 10) for step in range(840)]
    began = time.perf_counter()
    points = [
        Point(at_ms, emission_rate(stored_sample(co2, t, v, 79.5, None, 0), PLAN, 79.5, undecided_flags(0)))
        for at_ms, co2, t, v in rows
    ]
    parts = [summarise(points, 1, 600_000 + bucket * 300_000, BUCKET_S) for bucket in range(12)]
    hour_of([part for part in parts if part is not None], datetime.fromtimestamp(600, UTC))
    return (time.perf_counter() - began) * 1000


async def fill(store: Store, days: int) -> int:
    """A stack with readings every 5 s; its id."""
    factory = await store.add_factory(load_factories()[0])
    stack = await store.add_stack(factory.id, "Boiler 1", PLAN)
    for step in range(days * 24):
        first = step * 720
        await store.save(Work("dev-001", factory.id, [reading(stack.id, first + place) for place in range(720)]))
    return stack.id


def reading(stack_id: int, seq: int) -> Reading:
    at = START + timedelta(seconds=5 * seq)
    co2_ppm, temperature_c, velocity_ms = 90_000.0 + 50 * (seq % 97), 181.0 + seq % 7, single(4.1 + seq % 5 / 10)
    sample = stored_sample(co2_ppm, temperature_c, velocity_ms, 79.5, None, 0)
    rate = single(emission_rate(sample, PLAN, 79.5, 0).co2_kg_per_s)
    return Reading(stack_id, 1, seq, at, at, co2_ppm, temperature_c, velocity_ms, 79.5, None, rate, 0)


if __name__ == "__main__":
    main([])
