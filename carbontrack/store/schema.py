"""The schema: migrating it, and refusing to run on one that this version does not know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget

from carbontrack.store.work import outages
from carbontrack.tables import APP


def _apps(connection_name: str) -> dict[str, dict[str, Any]]:
    return {
        APP: {
            "models": ["carbontrack.tables"],
            "migrations": "carbontrack.migrations",
            "default_connection": connection_name,
        }
    }


class SchemaMismatch(Exception):
    """The database's schema is not the one that this version of Carbon Track works with."""


def tortoise_config(url: str) -> dict[str, Any]:
    """Tortoise's configuration for one database URL (``sqlite://PATH`` or ``postgres://user:pass@host:port/name``)."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = sqlite_path(url)
        connection: dict[str, Any] = {
            "engine": "tortoise.backends.sqlite",
            "credentials": {"file_path": path, "journal_mode": "WAL", "busy_timeout": 10000},
        }
    elif parts.scheme in ("postgres", "postgresql"):
        connection = {
            "engine": "tortoise.backends.asyncpg",
            "credentials": {
                **postgres_address(url),
                "minsize": 1,
                "maxsize": 5,
                # A plan for whatever values are given would open the table of every day there is: with those of years
                # that takes PostgreSQL many seconds, for each statement and connection.
                "server_settings": {"application_name": "carbontrack", "plan_cache_mode": "force_custom_plan"},
            },
        }
    else:
        raise ValueError(f"database.url must begin with sqlite:// or postgres://, not {parts.scheme}://")
    # Tortoise keeps its statements by the connection's name: two engines in one process need two names.
    name = "sqlite" if parts.scheme == "sqlite" else "postgres"
    return {"connections": {name: connection}, "apps": _apps(name)}


def postgres_address(url: str) -> dict[str, Any]:
    """Where a PostgreSQL is and how to sign in, out of its URL."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 5432,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.lstrip("/"),
    }


def sqlite_path(url: str) -> str:
    """The file of a ``sqlite://PATH`` URL."""
    return url.removeprefix("sqlite://")


def is_missing(url: str) -> bool:
    """Whether there is no file yet of a SQLite database: to open it would make one."""
    return url.startswith("sqlite://") and not Path(sqlite_path(url)).is_file()


_RECORD = "tortoise_migrations"
_THERE_SQLITE = f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{_RECORD}'"  # noqa: S608  # names of ours
_THERE_POSTGRES = f"SELECT 1 WHERE to_regclass('{_RECORD}') IS NOT NULL"
_APPLIED = f"SELECT name FROM {_RECORD} WHERE app = '{APP}'"  # noqa: S608  # as above


@cache
def known_migrations() -> frozenset[str]:
    """The migrations that this version has."""
    folder = Path(__file__).parent.parent / "migrations"
    return frozenset(path.stem for path in folder.glob("[0-9]*.py"))


def newest_migration() -> str:
    """The name of the schema that this version works with."""
    return max(known_migrations())


async def applied(connection: BaseDBAsyncClient) -> set[str]:
    """The migrations that a database has. Raises :class:`StoreUnavailable` where it is away.

    Tortoise's own recorder takes every error for an empty database: a core would take one that goes away for that.
    """
    there = _THERE_SQLITE if connection.capabilities.dialect == "sqlite" else _THERE_POSTGRES
    with outages():
        if not (await connection.execute_query(there))[1]:
            return set()
        _, rows = await connection.execute_query(_APPLIED)
    return {row["name"] for row in rows}


async def check(connection: BaseDBAsyncClient) -> None:
    """Return when the database's schema is exactly the one that this version knows.

    Raises :class:`SchemaMismatch` with what to do, and :class:`StoreUnavailable` where the database is away.
    """
    known, there = known_migrations(), await applied(connection)
    if unknown := sorted(there - known):
        raise SchemaMismatch(
            f"The database has the migration {unknown[-1]}, which this version of Carbon Track does not know. "
            "A newer version has migrated it: install that version, or restore a backup from before."
        )
    if missing := sorted(known - there):
        what = "is empty" if not there else f"lacks the migration {missing[0]}"
        raise SchemaMismatch(f"The database {what}. Run: carbontrack migrate --config FILE")


async def migrate(connection: BaseDBAsyncClient, report: Callable[[str], object] = lambda _: None) -> list[str]:
    """Bring the schema up to date; the names of the migrations that were applied.

    Raises :class:`SchemaMismatch` for a database that a newer version has migrated.
    """
    known, there = known_migrations(), await applied(connection)
    if unknown := sorted(there - known):
        raise SchemaMismatch(
            f"The database has the migration {unknown[-1]}, which this version of Carbon Track does not know."
        )

    def progress(event: str, _app: str, name: str) -> None:
        if event == "apply_done":
            report(f"applied {name}")

    await MigrationExecutor(connection, _apps(connection.connection_name)).migrate(
        [MigrationTarget(app_label=APP, name="__latest__")], direction="forward", progress=progress
    )
    return sorted(known - there)
