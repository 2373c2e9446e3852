"""A database is brought up to date by one command, and nothing runs on a schema that it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget

from carbontrack.metrics import Metrics
from carbontrack.store import SchemaMismatch, _connected, migrate, open_store, schema
from carbontrack.tables import APP
from tests.support.world import execute, factory

pytest_plugins = ["tests.support.world"]

EVERY = ["0001_registry", "0002_telemetry"]
NEWER = f"""
INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('{APP}', '9999_from_the_future', '2030-01-01 00:00:00')
"""


async def migrate_to(url: str, name: str) -> None:
    """Migrate forward, or back, to one migration."""
    async with _connected(url) as context:
        await MigrationExecutor(context.db(), schema.tortoise_config(url)["apps"]).migrate(
            [MigrationTarget(app_label=APP, name=name)], direction="both"
        )


async def test_an_empty_database_is_ready_after_migrate(database_url: str, metrics: Metrics) -> None:
    assert await migrate(database_url) == EVERY

    async with open_store(database_url, metrics) as store:
        assert await store.factories() == []


async def test_every_migration_is_reported_when_it_is_applied(database_url: str) -> None:
    lines: list[str] = []

    await migrate(database_url, lines.append)

    assert lines == [f"applied {name}" for name in EVERY]


async def test_migrating_twice_changes_nothing(database_url: str, metrics: Metrics) -> None:
    await migrate(database_url)
    async with open_store(database_url, metrics) as store:
        await store.add_factory(factory("Kangaita"))
        revision = await store.revision()

    assert await migrate(database_url) == []

    async with open_store(database_url, metrics) as store:
        assert [row.name for row in await store.factories()] == ["Kangaita"]
        assert await store.revision() == revision


async def test_an_empty_database_is_refused_with_the_command_that_helps(database_url: str, metrics: Metrics) -> None:
    with pytest.raises(SchemaMismatch, match=r"is empty.*carbontrack migrate"):
        async with open_store(database_url, metrics):
            pass


async def test_an_older_database_is_refused_by_the_name_of_what_it_lacks(database_url: str, metrics: Metrics) -> None:
    await migrate_to(database_url, EVERY[0])

    with pytest.raises(SchemaMismatch, match=rf"lacks the migration {EVERY[1]}.*carbontrack migrate"):
        async with open_store(database_url, metrics):
            pass


async def test_an_older_database_keeps_its_registry_when_it_is_migrated(database_url: str, metrics: Metrics) -> None:
    await migrate_to(database_url, EVERY[0])
    await execute(database_url, "INSERT INTO factory (name, slug, county, region, altitude_m, is_active) "
                                "VALUES ('Kangaita', 'kangaita', '', '', 2000, '1')")  # fmt: skip

    assert await migrate(database_url) == EVERY[1:]

    async with open_store(database_url, metrics) as store:
        assert [row.name for row in await store.factories()] == ["Kangaita"]


async def test_a_newer_database_is_refused_with_what_to_do(database_url: str, metrics: Metrics) -> None:
    await migrate(database_url)
    await execute(database_url, NEWER)

    with pytest.raises(SchemaMismatch, match=r"9999_from_the_future.*install that version, or restore a backup"):
        async with open_store(database_url, metrics):
            pass


async def test_a_newer_database_is_not_migrated(database_url: str) -> None:
    await migrate(database_url)
    await execute(database_url, NEWER)

    with pytest.raises(SchemaMismatch, match="9999_from_the_future"):
        await migrate(database_url)


async def test_the_migrations_make_what_the_models_describe(database_url: str) -> None:
    """Whoever changes a model without a migration hears of it here."""
    await migrate(database_url)
    async with _connected(database_url) as context:
        assert context.apps is not None
        forgotten = await MigrationAutodetector(context.apps, schema.tortoise_config(database_url)["apps"]).changes()

    assert [migration.name for migration in forgotten] == []


async def test_the_folder_of_a_new_sqlite_database_is_made(tmp_path: Path, metrics: Metrics) -> None:
    url = f"sqlite://{tmp_path / 'new' / 'folder' / 'carbontrack.sqlite3'}"

    await migrate(url)

    async with open_store(url, metrics) as store:
        assert await store.sites() == []


async def test_an_address_of_another_database_is_refused_by_name(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match=r"sqlite:// or postgres://, not mysql://"):
        await migrate("mysql://127.0.0.1/carbontrack")
