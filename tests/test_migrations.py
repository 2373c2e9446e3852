"""A database is brought up to date by one command, and nothing runs on a schema that it does not know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import cast

import pytest
from tortoise.backends.base.client import BaseDBAsyncClient, Capabilities
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget

from carbontrack.metrics import Metrics
from carbontrack.model import Finding, Origin, Role, UserStatus
from carbontrack.store import RegistryError, SchemaMismatch, StoreUnavailable, _connected, migrate, open_store, schema
from carbontrack.tables import APP
from tests.support.world import ALWAYS, NOON, execute, factory, summarise_touched

pytest_plugins = ["tests.support.world"]

EVERY = [
    "0001_registry",
    "0002_telemetry",
    "0003_accounting",
    "0004_tiers",
    "0005_raw",
    "0006_device_passwords",
    "0007_factory_alerts",
    "0008_reload",
    "0009_accounts",
    "0010_quarantine",
    "0011_alerts",
    "0012_photos",
    "0013_wood_prices",
    "0014_reports",
    "0015_wood_origin",
    "0016_device_settings",
    "0017_firmware",
    "0018_replaced_devices",
]
NOON_TEXT = "'2026-03-01 12:00:00+00'"
OLD_DATA = (
    (
        "INSERT INTO factory (id, name, slug, county, region, altitude_m, is_active) "
        "VALUES (1, 'Kangaita', 'kangaita', '', '', 2000, '1')"
    ),
    "INSERT INTO stack (id, name, factory_id) VALUES (1, 'Boiler 1', 1)",
    (
        "INSERT INTO monitoring_plan (stack_id, valid_from, shape, diameter_m, wall_deposit_mm, profile_factor, basis, "
        "h2o_fraction, co2_range_ppm, dilution_ratio, calibration_offset_ppm, calibration_slope, pitot_coefficient) "
        "VALUES (1, '2020-01-01 00:00:00+00:00', 'circular', 0.8, 0, 0.9, 'dry', 0.12, 200000, 1, 0, 1, 0.84)"
    ),
    (
        "INSERT INTO reading (stack_id, stream_id, seq, measured_at, received_at, co2_ppm, temperature_c, velocity_ms, "
        "pressure_kpa, co2_kg_per_s, flags) VALUES (1, 1, 1, {at}, {at}, 98000, 183.25, 4.125, 79.5, 0.1, 0)"
    ),
)
NEWER = f"""
INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('{APP}', '9999_from_the_future', '2030-01-01 00:00:00')
"""


async def migrate_to(url: str, name: str) -> None:
    """Migrate forward, or back, to one migration."""
    async with _connected(url) as context:
        await MigrationExecutor(context.db(), schema.tortoise_config(url)["apps"]).migrate(
            [MigrationTarget(app_label=APP, name=name)], direction="both"
        )


async def test_an_empty_database_is_ready_after_migrate(empty_url: str, metrics: Metrics) -> None:
    assert await migrate(empty_url) == EVERY

    async with open_store(empty_url, metrics) as store:
        assert await store.factories() == []


async def test_every_migration_is_reported_when_it_is_applied(empty_url: str) -> None:
    lines: list[str] = []

    await migrate(empty_url, lines.append)

    assert lines == [f"applied {name}" for name in EVERY]


async def test_migrating_twice_changes_nothing(empty_url: str, metrics: Metrics) -> None:
    await migrate(empty_url)
    async with open_store(empty_url, metrics) as store:
        await store.add_factory(factory("Kangaita"))
        revision = await store.revision()

    assert await migrate(empty_url) == []

    async with open_store(empty_url, metrics) as store:
        assert [row.name for row in await store.factories()] == ["Kangaita"]
        assert await store.revision() == revision


async def test_an_empty_database_is_refused_with_the_command_that_helps(empty_url: str, metrics: Metrics) -> None:
    with pytest.raises(SchemaMismatch, match=r"is empty.*carbontrack migrate"):
        async with open_store(empty_url, metrics):
            pass


async def test_an_older_database_is_refused_by_the_name_of_what_it_lacks(empty_url: str, metrics: Metrics) -> None:
    await migrate_to(empty_url, EVERY[0])

    with pytest.raises(SchemaMismatch, match=rf"lacks the migration {EVERY[1]}.*carbontrack migrate"):
        async with open_store(empty_url, metrics):
            pass


async def test_an_older_database_keeps_its_registry_when_it_is_migrated(empty_url: str, metrics: Metrics) -> None:
    await migrate_to(empty_url, EVERY[0])
    await execute(empty_url, "INSERT INTO factory (name, slug, county, region, altitude_m, is_active) "
                                "VALUES ('Kangaita', 'kangaita', '', '', 2000, '1')")  # fmt: skip

    assert await migrate(empty_url) == EVERY[1:]

    async with open_store(empty_url, metrics) as store:
        assert [row.name for row in await store.factories()] == ["Kangaita"]


async def test_a_database_with_readings_of_before_the_accounting_gets_its_tiers_made_anew(
    empty_url: str, metrics: Metrics
) -> None:
    """What the first schema had measured is there, with its plan, and every bucket that has readings is summarised."""
    await migrate_to(empty_url, "0002_telemetry")
    for statement in OLD_DATA:
        await execute(empty_url, statement.format(at="1772366400000" if "sqlite" in empty_url else NOON_TEXT))

    await migrate(empty_url)

    async with open_store(empty_url, metrics) as store:
        (stack,) = await store.stacks()
        assert (stack.plans[0].diameter_m, stack.plans[0].validity, stack.plans[0].fuels) == (0.8, "share", "firewood")
        assert await summarise_touched(store) == 1
        (hour,) = await store.hours([stack.id], *ALWAYS)
        assert (hour.start, hour.count) == (NOON, 1)
        assert hour.measured_kg == pytest.approx(5 * 0.14838117, rel=1e-6)


async def test_the_accounting_can_be_taken_back_and_comes_again(empty_url: str, metrics: Metrics) -> None:
    await migrate(empty_url)

    await migrate_to(empty_url, "0002_telemetry")

    assert await migrate(empty_url) == EVERY[2:]
    async with open_store(empty_url, metrics) as store:
        assert await store.factories() == []


async def test_people_keep_their_account_and_whether_they_may_sign_in(empty_url: str, metrics: Metrics) -> None:
    await migrate_to(empty_url, "0008_reload")
    await execute(empty_url, OLD_DATA[0])
    for number, is_active in ((1, 1), (2, 0)):
        await execute(
            empty_url,
            "INSERT INTO user_account (email, first_name, last_name, role, factory_id, password_hash, is_active, "
            f"created_at) VALUES ('p{number}@example.org', 'A', 'B', 'factory_clerk', 1, 'hash', "
            f"'{is_active}', '2026-03-01 12:00:00+00:00')",
        )

    assert await migrate(empty_url) == EVERY[8:]
    async with open_store(empty_url, metrics) as store:
        active, disabled = await store.users()
        assert (active.status, disabled.status) == (UserStatus.ACTIVE, UserStatus.DISABLED)
        assert (active.first_name, active.factory_id, active.locale, active.created_at) == ("A", 1, "en", NOON)
        assert await store.user_by_email("p1@example.org") == (active, "hash")
        await store.add_user("p3@example.org", "hash", Role.AUDITOR, status=UserStatus.PENDING)

    await migrate_to(empty_url, "0008_reload")
    await migrate(empty_url)
    async with open_store(empty_url, metrics) as store:
        statuses = [user.status for user in await store.users()]
        assert statuses == ["active", "disabled", "disabled"], "the older schema knows of nobody who waits"
        with pytest.raises(RegistryError, match="registered already"):
            await store.add_user("p1@example.org", "hash", Role.AUDITOR)


async def test_firewood_of_before_has_no_known_origin_there_and_back(empty_url: str, metrics: Metrics) -> None:
    await migrate_to(empty_url, "0014_reports")
    await execute(empty_url, OLD_DATA[0])
    await execute(
        empty_url,
        "INSERT INTO energy_entry (entry_id, version, factory_id, energy_type, amount, unit, period_start, period_end, "
        "sustainability, evidence, note, author, recorded_at, reason, withdrawn) VALUES (1, 1, 1, "
        f"'firewood', 1250, 'kg', {NOON_TEXT}, '2026-03-02 12:00:00+00', 'yes', 'note 7', '', 'clerk', {NOON_TEXT}, "
        "'', '0')",
    )

    assert await migrate(empty_url) == EVERY[14:]
    async with open_store(empty_url, metrics) as store:
        (wood,) = await store.energy_entries(1)
        assert (wood.evidence, wood.wood_origin, wood.supplier, wood.harvested_on) == ("note 7", "unknown", "", None)
        (kangaita,) = await store.factories()
        assert (kangaita.legal_entity, kangaita.un_locode) == ("", "")
        await store.change_energy_entry(
            replace(wood, supplier="Kuni Ltd", harvested_on=date(2026, 1, 15)), Origin("clerk"), NOON, "the seller"
        )

    await migrate_to(empty_url, "0014_reports")
    await migrate(empty_url)
    async with open_store(empty_url, metrics) as store:
        (again,) = await store.energy_entries(1)
        assert (again.version, again.amount, again.supplier) == (2, 1250, ""), "the older schema has no place for it"


ALERTS = (
    (
        "INSERT INTO device (id, device_id, factory_id, stack_id, sensor, status, registered_at) "
        "VALUES (1, 'dev-001', 1, 1, 'ct_v1', 'active', '2026-03-01 12:00:00+00:00')"
    ),
    (
        "INSERT INTO alert (id, rule, severity, message, raised_at, cleared_at, device_id) "
        "VALUES (5, 'hot', 'warning', 'gas is hot', '2026-03-01 12:00:00+00:00', NULL, 1)"
    ),
)


async def test_alerts_of_before_the_factories_had_their_own_are_kept_there_and_back(
    empty_url: str, metrics: Metrics
) -> None:
    await migrate_to(empty_url, "0006_device_passwords")
    for statement in (OLD_DATA[0], OLD_DATA[1], ALERTS[0], ALERTS[1]):
        await execute(empty_url, statement)

    assert await migrate(empty_url) == EVERY[6:]
    async with open_store(empty_url, metrics) as store:
        (before,) = await store.alerts()
        assert (before.id, before.device_id, before.rule, before.raised_at) == (5, "dev-001", "hot", NOON)
        await store.raise_alert(1, "late", "info", Finding(""), NOON)
        assert len(await store.alerts()) == 2

    await migrate_to(empty_url, "0006_device_passwords")
    await migrate(empty_url)
    async with open_store(empty_url, metrics) as store:
        assert await store.alerts() == [before], "a factory's alert has no place in the older schema"
        await store.raise_alert("dev-001", "hot", "warning", Finding("again"), NOON)
        assert await store.alerts() == [before], "one open alert for a device and a rule"


@dataclass
class Dying:
    """A connection to a PostgreSQL that is there for a few queries, and then away."""

    queries: int
    capabilities: Capabilities = field(default_factory=lambda: Capabilities("postgres"))

    async def execute_query(self, query: str) -> tuple[int, list[dict[str, str]]]:
        self.queries -= 1
        if self.queries < 0:
            raise ConnectionRefusedError(query)
        return 1, [{"name": "0001_registry"}]


@pytest.mark.parametrize("queries", [0, 1])
async def test_a_database_that_goes_away_while_it_is_asked_is_not_taken_for_an_empty_one(queries: int) -> None:
    with pytest.raises(StoreUnavailable):
        await schema.applied(cast(BaseDBAsyncClient, Dying(queries)))


async def test_a_newer_database_is_refused_with_what_to_do(empty_url: str, metrics: Metrics) -> None:
    await migrate(empty_url)
    await execute(empty_url, NEWER)

    with pytest.raises(SchemaMismatch, match=r"9999_from_the_future.*install that version, or restore a backup"):
        async with open_store(empty_url, metrics):
            pass


async def test_a_newer_database_is_not_migrated(empty_url: str) -> None:
    await migrate(empty_url)
    await execute(empty_url, NEWER)

    with pytest.raises(SchemaMismatch, match="9999_from_the_future"):
        await migrate(empty_url)


async def test_the_migrations_make_what_the_models_describe(empty_url: str) -> None:
    """Whoever changes a model without a migration hears of it here."""
    await migrate(empty_url)
    async with _connected(empty_url) as context:
        assert context.apps is not None
        forgotten = await MigrationAutodetector(context.apps, schema.tortoise_config(empty_url)["apps"]).changes()

    assert [migration.name for migration in forgotten] == []


async def test_the_folder_of_a_new_sqlite_database_is_made(tmp_path: Path, metrics: Metrics) -> None:
    url = f"sqlite://{tmp_path / 'new' / 'folder' / 'carbontrack.sqlite3'}"

    await migrate(url)

    async with open_store(url, metrics) as store:
        assert await store.sites() == []


async def test_an_address_of_another_database_is_refused_by_name(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match=r"sqlite:// or postgres://, not mysql://"):
        await migrate("mysql://127.0.0.1/carbontrack")
