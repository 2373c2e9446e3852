"""The tables of days on PostgreSQL: made before they are needed, found again, taken away.

``reading`` and ``device_record`` are partitioned by the UTC day of measuring. A day is removed by dropping its table,
which costs nothing and leaves nothing behind; rows are never deleted one by one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, date, datetime, timedelta

PARTITIONED = ("reading", "device_record")
AHEAD_DAYS = 7
"""Days that are made before they come."""
_LOCK = 0x43_54_31
"""Of PostgreSQL's advisory locks: one at a time makes days, whoever it is."""


def partition(table: str, day: date) -> str:
    """The name of a table's part for one day."""
    return f"{table}_{day:%Y%m%d}"


def day_of_partition(name: str) -> date | None:
    """The day of a part by its name; None for what is no such part."""
    try:
        return datetime.strptime(name.rsplit("_", 1)[-1], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


def _statement(table: str, day: date) -> str:
    name, after = partition(table, day), day + timedelta(days=1)
    # Made apart and then attached: unlike CREATE TABLE ... PARTITION OF, that does not wait for readers of the whole.
    return f"""
    IF to_regclass('{name}') IS NULL THEN
        CREATE TABLE {name} (LIKE {table} INCLUDING ALL);
        ALTER TABLE {table} ATTACH PARTITION {name}
            FOR VALUES FROM ('{day}T00:00:00Z') TO ('{after}T00:00:00Z');
    END IF;"""


async def ensure_days(execute: Callable[[str], Awaitable[object]], days: Iterable[date]) -> None:
    """Make the tables of these days where there are none yet."""
    statements = "".join(_statement(table, day) for day in sorted(days) for table in PARTITIONED)
    if statements:
        await execute(f"DO $$ BEGIN PERFORM pg_advisory_xact_lock({_LOCK}); {statements} END $$")


def days_ahead(now: datetime) -> set[date]:
    """The days whose tables should be there by now."""
    today = now.astimezone(UTC).date()
    return {today + timedelta(days=number) for number in range(-1, AHEAD_DAYS + 1)}
