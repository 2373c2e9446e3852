"""What was backed up comes back as it was, on either engine, while readings come in; no other file does."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import pytest
from typer.testing import CliRunner, Result

from carbontrack import backup as backups
from carbontrack.backup import DRAFT, BackupError, Parts, back_up, check, restore
from carbontrack.bookkeeping import Books
from carbontrack.cli import app
from carbontrack.emissions.accounts import to_dict
from carbontrack.ledger import EnergyEntry, EnergyType, Metric, ProductionEntry, Target
from carbontrack.metrics import Metrics
from carbontrack.model import Finding, MonitoringPlan, Origin, Role, Scope, Site
from carbontrack.simulator.instruments import Measured
from carbontrack.simulator.node import Node
from carbontrack.store import Store, StoreUnavailable, Work, dump_postgres, open_store
from carbontrack.store.archive import Archive
from carbontrack.store.backup import Sink, restored, snapshot
from carbontrack.store.contents import TABLES_POSTGRES, TABLES_SQLITE
from tests.support.postgres import Postgres
from tests.support.world import (
    NOON,
    NOON_MS,
    SID,
    Core,
    birth,
    body,
    core,
    eventually,
    execute,
    kept,
    migrated_store,
    reading,
    register,
    summarise_touched,
)
from tests.test_bookkeeping import books
from tests.test_migrations import NEWER, NOON_TEXT, OLD_DATA, migrate_to

pytest_plugins = ["tests.support.world"]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOUR_MS = 3_600_000
ARCHIVED = date(2026, 2, 27)
LATER = NOON + timedelta(days=90)
MEASURED = Measured(98_000.0, 183.25, None, 4.12, 79.68, 41.0, None, 0)


ONE_ENGINE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what has nothing to do with the engine."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The archive of raw days."""
    return tmp_path / "archive"


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def new_url(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A second, empty database of the same engine."""
    if database_url.startswith("sqlite"):
        return f"sqlite://{tmp_path / 'new' / 'carbontrack.sqlite3'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_url()


@pytest.fixture
async def store(database_url: str, folder: Path) -> AsyncIterator[Store]:
    async with migrated_store(database_url, Metrics(), archive_folder=folder) as opened:
        yield opened


async def filled(store: Store) -> Site:
    """A factory with all that a database can hold, as it comes there: by actors, people and the keeper of days."""
    site, _ = await register(store, "dev-001", "dev-002")
    async with core(store, Metrics()) as running:
        running.tell("dev-001", body(1, 60, at_ms=NOON_MS - 2 * 24 * HOUR_MS), "backlog", NOON_MS + HOUR_MS)
        for number in range(12):
            content = body(61 + 60 * number, 60, at_ms=NOON_MS + number * 300_000)
            running.tell("dev-001", content, received_at_ms=NOON_MS + HOUR_MS)
        health = {"cols": ["ds", "rssi"], "rows": [[1, -60]]}
        running.tell("dev-001", body(781, 1, n=2, h=health, at_ms=NOON_MS + HOUR_MS), received_at_ms=NOON_MS + HOUR_MS)
        running.tell(
            "dev-001", b'{"v": 1, "sid": "9f3c21aa", "seq": 783, "n": 1, "boot": "x"}', received_at_ms=NOON_MS + HOUR_MS
        )
        running.tell("dev-002", body(5, 3, sid="other"), received_at_ms=NOON_MS + HOUR_MS)
        running.tell("dev-002", birth(first=5, sid="other"), "state", NOON_MS + HOUR_MS)
        await running.receipt("dev-001", 783)
        await running.receipt("dev-002", 7, "other")
    await summarise_all(store)
    await store.add_plan(site.stack.id, MonitoringPlan(valid_from=NOON + HOUR / 2, profile_factor=0.87))
    await summarise_all(store)
    wood = EnergyEntry(0, 1, site.factory.id, EnergyType.FIREWOOD, 1600.0, "kg", NOON, NOON + DAY, moisture=0.25)
    entered = await store.add_energy_entry(wood, Origin("clerk"), NOON)
    await store.change_energy_entry(replace(entered, amount=1500.0), Origin("manager"), LATER, "read again, café")
    tea = ProductionEntry(0, 1, site.factory.id, NOON, NOON + DAY, None, 600.0)
    await store.add_production_entry(tea, Origin("clerk"), NOON)
    target = Target(0, site.factory.id, Metric.STACK_CO2_PER_TEA, 1.5, NOON.date(), None, None)
    await store.add_target(target, Origin("hq"), NOON)
    user = await store.add_user("hq@example.org", "a hash", Role.HQ_MANAGER)
    await store.add_session("hash of a session", user.id, LATER)
    await store.add_api_token("hash of a token", "ct_abc", user.id, "script", frozenset(Scope))
    await books(store).report(site.factory, NOON, NOON + 2 * HOUR, by=Origin("m"), now=LATER)
    await store.raise_alert("dev-001", "hot", "warning", Finding("gas is hot"), NOON)
    await store.raise_alert(site.factory.id, "late", "info", Finding("no entries"), NOON)
    await store.retire(ARCHIVED, LATER)
    return site


async def summarise_all(store: Store) -> None:
    while await summarise_touched(store, now=LATER):
        pass


async def every_row(url: str) -> dict[str, list[str]]:
    """All that a database holds, table by table."""
    if url.startswith("sqlite://"):
        async with aiosqlite.connect(url.removeprefix("sqlite://")) as sqlite:
            names = [row[0] for row in await sqlite.execute_fetchall(TABLES_SQLITE)]
            return {
                name: sorted(repr(tuple(row)) for row in await sqlite.execute_fetchall(f'SELECT * FROM "{name}"'))
                for name in names
            }
    postgres = await asyncpg.connect(url)
    try:
        names = [row[0] for row in await postgres.fetch(TABLES_POSTGRES)]
        return {
            name: sorted(repr(tuple(row)) for row in await postgres.fetch(f'SELECT * FROM "{name}"')) for name in names
        }
    finally:
        await postgres.close()


async def account(made: Books, site: Site) -> dict[str, Any]:
    return to_dict(await made.account(site.factory, NOON - 3 * DAY, NOON + 2 * DAY))


# --- there and back


async def test_what_was_backed_up_comes_back_row_by_row_and_account_by_account(
    store: Store, database_url: str, new_url: str, folder: Path, to: Path
) -> None:
    site = await filled(store)
    before, rows = await account(books(store), site), await every_row(database_url)
    measured = await kept(store, site.stack.id)
    assert all(rows[table] for table in ("quarantine", "device_record", "statement", "hour_version", "archive_file"))

    made = await back_up(database_url, to)
    done = await restore(new_url, made.file, archive=folder)

    assert await every_row(new_url) == rows
    assert all(rows[table] for table in ("audit_event", "api_token"))
    with pytest.raises((sqlite3.IntegrityError, asyncpg.RestrictViolationError), match="append-only"):
        await execute(new_url, "DELETE FROM audit_event")
    assert (done.aside, done.migrations, done.missing) == (None, [], [])
    async with open_store(new_url, Metrics(), archive_folder=folder) as new:
        assert await account(books(new), site) == before
        assert await kept(new, site.stack.id) == measured
        assert await new.verify_audit() == await store.verify_audit()
        assert len(measured) == 60 + 720 + 1
        (statement,) = await new.statements(site.factory.id)
        assert not await books(new).is_outdated(statement, site.factory)
        assert {alert.device_id for alert in await new.alerts(factory_id=site.factory.id)} == {"dev-001", None}


async def test_the_manifest_says_what_is_in_it(store: Store, database_url: str, to: Path) -> None:
    await filled(store)

    made = await back_up(database_url, to, now=LATER)

    assert made.file == to / "carbontrack-2026-05-30T120000Z.zip"
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert [path.name for path in to.iterdir()] == [made.file.name], "no draft is left"
    parts = check(made.file)
    assert parts == made.parts
    assert parts.contents.tables["reading"] == 721 + 3
    streams = [(it.device_id, it.sid, it.watermark, it.readings) for it in parts.contents.streams or ()]
    assert streams == [("dev-001", SID, 783, 721), ("dev-002", "other", 7, 3)]
    assert [(it.name, it.rows) for it in parts.contents.archive] == [("reading-2026-02-27.parquet", 60)]
    assert "carbontrack:carbontrack" not in parts.database, "no password"


async def test_readings_that_come_meanwhile_are_in_it_wholly_or_not_at_all(
    store: Store, database_url: str, new_url: str, to: Path
) -> None:
    (site,) = await register(store, "dev-001")
    async with core(store, Metrics()) as running:
        sending = asyncio.create_task(send_without_end(running))
        await eventually(lambda: running.receipts.get(("dev-001", SID), 0) >= 100)

        made = await back_up(database_url, to)

        in_it = watermark(made.parts)
        await eventually(lambda: running.receipts["dev-001", SID] > in_it)
        sending.cancel()
        there = await kept(store, site.stack.id)
    await restore(new_url, made.file)

    async with open_store(new_url, Metrics()) as new:
        found = await kept(new, site.stack.id)
    assert in_it >= 100
    assert found == [row for row in there if row.seq <= in_it]
    assert [row.seq for row in found] == list(range(1, in_it + 1))


async def send_without_end(running: Core) -> None:
    seq = 0
    while True:
        seq += 1
        running.tell("dev-001", body(seq, at_ms=NOON_MS + seq * 100), received_at_ms=NOON_MS + HOUR_MS)
        await eventually(lambda: running.receipts.get(("dev-001", SID), 0) >= seq)  # noqa: B023  # of this turn


def watermark(parts: Parts) -> int:
    (stream,) = parts.contents.streams or ()
    return stream.watermark


async def test_a_device_that_sends_again_from_the_restored_watermark_has_each_number_once(
    store: Store, database_url: str, new_url: str, to: Path
) -> None:
    """The last receipts did not reach the node, so it still has all that the backup lacks."""
    (site,) = await register(store, "dev-001")
    node = Node("dev-001", booted_ms=NOON_MS)
    async with core(store, Metrics()) as running:
        connect(node, running, NOON_MS + HOUR_MS)
        send_live(node, running, range(1, 51))
        await running.receipt("dev-001", 50, node.sid)
        node.take_receipt(receipt(node, 50), NOON_MS)
        made = await back_up(database_url, to)
        send_live(node, running, range(51, 121))
        await running.receipt("dev-001", 120, node.sid)
    await restore(new_url, made.file)

    async with open_store(new_url, Metrics()) as new, core(new, Metrics()) as running:
        connect(node, running, NOON_MS + HOUR_MS)
        await running.receipt("dev-001", 50, node.sid)
        assert node.take_receipt(receipt(node, 50), NOON_MS + HOUR_MS)
        while (message := node.next_backlog(NOON_MS + HOUR_MS)) is not None:
            running.tell("dev-001", message, "backlog", NOON_MS + HOUR_MS)
        await running.receipt("dev-001", 120, node.sid)
        found = await kept(new, site.stack.id)
        assert [row.seq for row in found] == list(range(1, 121))
        assert [row.measured_at for row in found] == [row.measured_at for row in await kept(store, site.stack.id)]


async def test_what_a_device_has_dropped_since_the_backup_is_declared_lost_and_holds_nothing_up(
    store: Store, database_url: str, new_url: str, to: Path
) -> None:
    (site,) = await register(store, "dev-001")
    node = Node("dev-001", booted_ms=NOON_MS)
    async with core(store, Metrics()) as running:
        connect(node, running, NOON_MS + HOUR_MS)
        send_live(node, running, range(1, 51))
        await running.receipt("dev-001", 50, node.sid)
        made = await back_up(database_url, to)
        send_live(node, running, range(51, 121))
        await running.receipt("dev-001", 120, node.sid)
        node.take_receipt(receipt(node, 120), NOON_MS)
    await restore(new_url, made.file)

    async with open_store(new_url, Metrics()) as new, core(new, Metrics()) as running:
        connect(node, running, NOON_MS + HOUR_MS)
        send_live(node, running, range(121, 131))
        await running.receipt("dev-001", 130, node.sid)
        assert [row.seq for row in await kept(new, site.stack.id)] == [*range(1, 51), *range(121, 131)]


def connect(node: Node, running: Core, now_ms: int) -> None:
    node.open()
    running.tell("dev-001", node.birth(now_ms), "state", now_ms)


def send_live(node: Node, running: Core, numbers: range) -> None:
    for number in numbers:
        at_ms = NOON_MS + number * 5000
        node.add_sample(MEASURED, at_ms)
        message = node.next_live(at_ms)
        assert message is not None
        running.tell("dev-001", message, received_at_ms=NOON_MS + HOUR_MS)


def receipt(node: Node, seq: int) -> bytes:
    return json.dumps({"sid": node.sid, "seq": seq, "now": NOON_MS, "credit": 5.0}).encode()


async def test_an_older_schema_is_backed_up_and_migrated_when_it_is_restored(
    empty_url: str, new_url: str, to: Path
) -> None:
    await migrate_to(empty_url, "0002_telemetry")
    for statement in OLD_DATA:
        await execute(empty_url, statement.format(at="1772366400000" if "sqlite" in empty_url else NOON_TEXT))
    made = await back_up(empty_url, to)
    assert made.parts.contents.streams is None

    done = await restore(new_url, made.file)

    assert done.migrations[0] == "0003_accounting"
    async with open_store(new_url, Metrics()) as new:
        assert await summarise_touched(new) == 1


# --- in nobody's way


async def test_writing_goes_on_while_a_snapshot_is_held_also_of_a_new_day(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    await register(store, "dev-001")
    stream = await store.open_stream("dev-001", SID)
    await store.save(Work("dev-001", 1, [reading(seq, stream_pk=stream.pk) for seq in range(1, 11)]))

    async with snapshot(database_url, tmp_path) as taken:
        new_day = [reading(seq, NOON + DAY + seq * HOUR / 720, stream_pk=stream.pk) for seq in range(11, 21)]
        await asyncio.wait_for(store.save(Work("dev-001", 1, new_day)), 5)
        with (tmp_path / "written").open("wb") as file:
            await taken.write(file)

    assert taken.contents.tables["reading"] == 10
    assert len(await kept(store)) == 20


async def test_a_backup_waits_for_no_day_that_is_dropped_meanwhile(postgres_url: str, tmp_path: Path) -> None:
    """The snapshot holds its days: who wants to drop one has to wait, or give up."""
    async with migrated_store(postgres_url) as store:
        await register(store, "dev-001")
        stream = await store.open_stream("dev-001", SID)
        await store.save(Work("dev-001", 1, [reading(1, stream_pk=stream.pk)]))
        async with snapshot(postgres_url, tmp_path) as taken:
            with pytest.raises(asyncpg.LockNotAvailableError):
                await execute(postgres_url, "SET lock_timeout = '50ms'; DROP TABLE reading_20260301")
            with (tmp_path / "written").open("wb") as file:
                await taken.write(file)
        await execute(postgres_url, "DROP TABLE reading_20260301")


# --- where it may go


async def test_what_the_database_holds_is_never_overwritten_and_put_aside_when_asked(
    store: Store, database_url: str, new_url: str, to: Path
) -> None:
    site = await filled(store)
    made = await back_up(database_url, to)
    rows = await every_row(database_url)
    async with migrated_store(new_url, Metrics()) as other:
        await register(other, "dev-009", factory_name="Mungania")

    with pytest.raises(BackupError, match=r"holds something already.*--replace"):
        await restore(new_url, made.file)
    done = await restore(new_url, made.file, replace=True, now=LATER)

    assert await every_row(new_url) == rows
    assert done.aside is not None
    if new_url.startswith("sqlite"):
        assert done.aside.endswith("carbontrack.sqlite3.before-2026-05-30T120000Z")
        old = await every_row(f"sqlite://{done.aside}")
        assert "Mungania" in old["factory"][0]
    else:
        assert done.aside == "before_20260530t120000z"
        postgres = await asyncpg.connect(new_url)
        assert await postgres.fetchval(f"SELECT name FROM {done.aside}.factory") == "Mungania"
        await postgres.close()
    async with migrated_store(new_url, Metrics()) as new:
        assert (await new.sites())[0].factory.name == site.factory.name
        await new.add_factory(replace(site.factory, id=0, name="Imenti", slug="imenti"))
    assert (await back_up(new_url, to / "again")).parts.contents.tables["factory"] == 2, "without what was put aside"


async def test_a_database_that_is_in_use_is_left_alone(store: Store, database_url: str, new_url: str, to: Path) -> None:
    await register(store, "dev-001")
    made = await back_up(database_url, to)

    async with migrated_store(new_url, Metrics()) as other:
        with pytest.raises(BackupError, match=r"is using.*Stop it first"):
            await restore(new_url, made.file, replace=True)
        assert await other.factories() == []

    await restore(new_url, made.file, replace=True)


async def test_no_core_starts_on_a_database_that_is_being_restored(
    postgres: Postgres, postgres_url: str, to: Path
) -> None:
    new = postgres.new_url()
    async with migrated_store(postgres_url, Metrics()) as store:
        await register(store, "dev-001")
        made = await back_up(postgres_url, to)
    with zipfile.ZipFile(made.file) as opened:
        dump = opened.read("database.dump")

    def copy(target: Sink) -> None:
        target.write(dump)

    async with restored(new, copy, made_by=made.parts.engine_version, aside=None):
        with pytest.raises(StoreUnavailable, match="being restored"):
            async with open_store(new, Metrics()):
                pass

    async with open_store(new, Metrics()) as opened_store:
        assert len(await opened_store.sites()) == 1


async def test_a_restore_that_fails_leaves_all_as_it_was(
    store: Store, database_url: str, new_url: str, to: Path
) -> None:
    await filled(store)
    made = await back_up(database_url, to)
    wrong = changed(made.file, lambda manifest: manifest["contents"]["tables"].update(hour=7))
    lost = changed(made.file, lambda manifest: manifest["contents"]["streams"][0].update(readings=720))

    with pytest.raises(BackupError, match=r"hour has \d rows instead of 7"):
        await restore(new_url, wrong)
    with pytest.raises(BackupError, match="stream 9f3c21aa of dev-001 has 721 readings up to number 783 instead of"):
        await restore(new_url, lost)
    async with migrated_store(new_url, Metrics()) as other:  # it is still empty
        await register(other, "dev-009", factory_name="Mungania")
    rows = await every_row(new_url)
    with pytest.raises(BackupError, match="hour has"):
        await restore(new_url, wrong, replace=True)

    assert await every_row(new_url) == rows
    await restore(new_url, made.file, replace=True)


def changed(file: Path, change: Callable[[dict[str, Any]], object], **parts: bytes) -> Path:
    """A copy of a backup with another manifest."""
    copy = file.with_name(f"changed-{len(list(file.parent.iterdir()))}.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        manifest = json.loads(old.read("manifest.json"))
        change(manifest)
        for name in old.namelist():
            content = json.dumps(manifest).encode() if name == "manifest.json" else old.read(name)
            new.writestr(name, parts.get(name.partition(".")[0], content))
    return copy


# --- what is refused


@pytest.fixture
async def made(store: Store, database_url: str, to: Path) -> Path:
    await filled(store)
    return (await back_up(database_url, to)).file


@ONE_ENGINE
async def test_a_file_that_was_altered_cut_off_or_is_something_else_is_refused(made: Path, tmp_path: Path) -> None:
    content = made.read_bytes()
    bad = tmp_path / "bad.zip"

    altered = bytearray(content)
    altered[5000] ^= 1
    bad.write_bytes(altered)
    with pytest.raises(BackupError, match=r"bad.zip is damaged: database\.\w+ (cannot be read|is not as it was)"):
        check(bad)

    bad.write_bytes(content[: len(content) // 2])
    with pytest.raises(BackupError, match="is no backup, or its end is missing"):
        check(bad)

    bad.write_text("something else")
    with pytest.raises(BackupError, match="is no backup"):
        check(bad)

    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("letter.txt", "dear all")
    with pytest.raises(BackupError, match="is no backup of Carbon Track"):
        check(bad)

    other = changed(made, lambda manifest: manifest, database=b"another database")
    with pytest.raises(BackupError, match=r"is not as it was written \(its SHA-256 differs\)"):
        check(other)


@ONE_ENGINE
async def test_a_backup_of_a_newer_version_or_another_engine_is_refused_before_anything_is_done(
    made: Path, new_url: str, tmp_path: Path
) -> None:
    newer = changed(made, lambda manifest: manifest["contents"]["migrations"].append("9999_of_the_future"))
    with pytest.raises(BackupError, match=r"9999_of_the_future.*made by version 0\.1\.0\. Install that one"):
        await restore(new_url, newer)

    newest = changed(made, lambda manifest: manifest.update(format=2))
    with pytest.raises(BackupError, match="newer version of Carbon Track"):
        await restore(new_url, newest)

    other = f"sqlite://{tmp_path / 'x.sqlite3'}" if "postgres" in new_url else "postgres://127.0.0.1:1/x"
    with pytest.raises(BackupError, match="goes back to the engine that it is from"):
        await restore(other, made)


async def test_an_empty_or_a_newer_database_is_not_backed_up(empty_url: str, to: Path) -> None:
    with pytest.raises(BackupError, match=r"is empty|There is no database"):
        await back_up(empty_url, to)
    async with migrated_store(empty_url):
        pass
    await execute(empty_url, NEWER)
    with pytest.raises(BackupError, match=r"9999_from_the_future.*does not know"):
        await back_up(empty_url, to)
    assert list(to.iterdir()) == []


async def test_without_pg_dump_or_with_an_old_one_it_is_said_what_to_install(
    postgres_url: str, to: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrated_store(postgres_url):
        pass
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setattr(dump_postgres, "DEBIAN", programs)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(BackupError, match=r"pg_dump is not installed.*apt install postgresql-client-\d+"):
        await back_up(postgres_url, to)

    old = programs / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    with pytest.raises(BackupError, match=r"9\.6\.24, and PostgreSQL \d+ needs one that is at least as new"):
        await back_up(postgres_url, to)


async def test_a_program_that_fails_is_quoted_and_leaves_no_file(
    postgres_url: str, to: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrated_store(postgres_url):
        pass
    folder = tmp_path / "99" / "bin"
    folder.mkdir(parents=True)
    (folder / "pg_dump").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'pg_dump (PostgreSQL) 99.1' && exit\n"
        f'echo "$@ $PGPASSWORD" > {tmp_path / "said"}; echo half a dump; echo "the disk is on fire" >&2; exit 1\n'
    )
    (folder / "pg_dump").chmod(0o755)
    monkeypatch.setattr(dump_postgres, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    with pytest.raises(BackupError, match="pg_dump failed: the disk is on fire"):
        await back_up(postgres_url, to)

    assert list(to.iterdir()) == []
    arguments, password = (tmp_path / "said").read_text().rsplit(" ", 1)
    assert password.strip() == "carbontrack"
    assert "carbontrack" not in arguments.replace("--schema", "")


async def test_a_damaged_sqlite_file_is_not_backed_up_as_if_it_were_fine(tmp_path: Path, to: Path) -> None:
    path = tmp_path / "carbontrack.sqlite3"
    async with migrated_store(f"sqlite://{path}") as store:
        await filled_with_readings(store)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(content)

    with pytest.raises(
        BackupError, match=r"is damaged, a backup of it would be as well|cannot be copied: .* malformed"
    ):
        await back_up(f"sqlite://{path}", to)


async def filled_with_readings(store: Store) -> None:
    await register(store, "dev-001")
    stream = await store.open_stream("dev-001", SID)
    await store.save(Work("dev-001", 1, [reading(seq, stream_pk=stream.pk) for seq in range(1, 5001)]))


# --- the archive


async def test_without_the_archive_a_restore_names_the_files_that_are_needed(
    made: Path, new_url: str, tmp_path: Path, folder: Path
) -> None:
    assert [it.name for it in (await restore(new_url, made)).missing] == ["reading-2026-02-27.parquet"]
    elsewhere = await restore(new_url, made, archive=tmp_path / "elsewhere", replace=True)
    assert [it.name for it in elsewhere.missing] == ["reading-2026-02-27.parquet"]
    assert (await restore(new_url, made, archive=folder, replace=True, now=LATER)).missing == []


async def test_with_the_archive_it_is_put_back_and_never_over_another_file(
    store: Store, database_url: str, new_url: str, folder: Path, to: Path, tmp_path: Path
) -> None:
    site = await filled(store)
    measured = await kept(store, site.stack.id)
    made = await back_up(database_url, to, archive=folder)
    new_folder = tmp_path / "new-archive"

    done = await restore(new_url, made.file, archive=new_folder)

    assert done.missing == []
    assert [fault for _, fault in Archive(new_folder).verify()] == [""]
    async with open_store(new_url, Metrics(), archive_folder=new_folder) as new:
        assert await kept(new, site.stack.id) == measured
    path = new_folder / "reading-2026-02-27.parquet"
    path.write_bytes(b"another file")
    with pytest.raises(BackupError, match="is there already and is another file"):
        await restore(new_url, made.file, archive=new_folder, replace=True)
    (new_folder / "manifest.jsonl").write_text('{"name": "of another archive"}\n')
    with pytest.raises(BackupError, match="the manifest of another archive"):
        await restore(new_url, made.file, archive=new_folder, replace=True)
    with pytest.raises(BackupError, match=r"say in retention\.archive_folder where to"):
        await restore(new_url, made.file, replace=True)
    assert path.read_bytes() == b"another file"


@ONE_ENGINE
async def test_a_file_of_the_archive_that_is_not_as_it_was_stops_the_backup(
    store: Store, database_url: str, folder: Path, to: Path
) -> None:
    await filled(store)
    (folder / "reading-2026-02-27.parquet").write_bytes(b"nothing")

    with pytest.raises(Exception, match="is not as it was written"):
        await back_up(database_url, to, archive=folder)

    assert list(to.iterdir()) == []


# --- the files


@ONE_ENGINE
async def test_older_backups_of_the_same_database_are_deleted_and_nothing_else(
    database_url: str, new_url: str, to: Path
) -> None:
    for url in (database_url, new_url):
        async with migrated_store(url):
            pass
    of_another = (await back_up(new_url, to, now=NOON)).file
    own = [(await back_up(database_url, to, now=NOON + number * HOUR)).file for number in range(1, 4)]
    strange = to / "carbontrack-2026-01-01T000000Z.zip"
    strange.write_text("not ours, or damaged")
    named = (await back_up(database_url, to / "before-the-move.zip")).file

    last = await back_up(database_url, to, keep=2, now=NOON + 5 * HOUR)

    assert last.deleted == own[:2]
    assert sorted(to.iterdir()) == sorted([of_another, own[2], strange, named, last.file])


@ONE_ENGINE
async def test_a_backup_is_never_written_over_another_and_two_never_mix(database_url: str, to: Path) -> None:
    async with migrated_store(database_url):
        pass
    await back_up(database_url, to, now=NOON)
    with pytest.raises(BackupError, match="is there already"):
        await back_up(database_url, to, now=NOON)

    with backups._draft_folder(to), pytest.raises(BackupError, match="Another backup is being written"):
        await back_up(database_url, to, now=NOON + HOUR)

    (to / DRAFT).mkdir()
    (to / DRAFT / "half.zip").write_text("of a backup that was killed")
    await back_up(database_url, to, now=NOON + HOUR)
    assert not (to / DRAFT).exists()


@ONE_ENGINE
async def test_a_backup_does_not_take_the_room_of_the_database(database_url: str, to: Path) -> None:
    async with migrated_store(database_url):
        pass

    with pytest.raises(BackupError, match="must not take the database's own room"):
        await back_up(database_url, to, reserve_bytes=10**18)

    assert list(to.iterdir()) == []


# --- the command line

Say = Callable[..., Result]


@pytest.fixture
async def site_of_cli(database_url: str, folder: Path) -> None:
    async with migrated_store(database_url, Metrics(), archive_folder=folder) as store:
        await filled(store)


@pytest.fixture
def say(site_of_cli: None, database_url: str, new_url: str, folder: Path, tmp_path: Path) -> Say:
    """Says a command to the database, or with ``new`` to the empty one."""

    def command(*words: str, new: bool = False) -> Result:
        path = tmp_path / "carbontrack.yaml"
        address = new_url if new else database_url
        path.write_text(f"database:\n  url: {address}\nretention:\n  archive_folder: {folder}\n  reserve_mb: 1\n")
        return CliRunner().invoke(app, [*words, "--config", str(path)])

    return command


def test_an_operator_backs_up_checks_and_restores(say: Say, to: Path, folder: Path) -> None:
    done = say("backup", "--to", str(to))
    assert done.exit_code == 0, done.output
    assert f"1 files of the archive are not in it: copy {folder} as well." in done.output
    (file,) = to.iterdir()

    checked = say("restore", str(file), "--check")
    assert checked.exit_code == 0, checked.output
    assert "The file is as it was written." in checked.output
    assert "It relies on 1 files of the archive of raw days, which are NOT in it." in checked.output

    back = say("restore", str(file), new=True)
    assert back.exit_code == 0, back.output
    assert "Restored and compared:" in back.output
    assert "724 readings of 2 streams" in back.output
    assert "Now start the core." in back.output

    again = say("restore", str(file), new=True)
    assert again.exit_code == 2
    assert "--replace" in again.output
    replaced = say("restore", str(file), "--replace", new=True)
    assert replaced.exit_code == 0, replaced.output
    assert "What was there before is" in replaced.output


@ONE_ENGINE
def test_cron_hears_nothing_but_errors(say: Say, to: Path, folder: Path) -> None:
    done = say("backup", "--to", str(to), "--with-archive", "--keep", "3", "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    (file,) = to.iterdir()
    back = say("restore", str(file), "--quiet", new=True)
    assert (back.exit_code, back.output) == (0, "")
    for path in folder.glob("*.parquet"):
        path.unlink()

    failed = say("backup", "--to", str(to / "next"), "--with-archive", "--quiet")

    assert failed.exit_code == 2
    assert "reading-2026-02-27.parquet is missing" in failed.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backup", "--to", "{to}"), "There is no database"),
        (("backup", "--to", "{to}/a.zip", "--keep", "2"), "--keep needs --to FOLDER"),
        (("backup", "--to", "{to}", "--with-archive"), r"retention.archive_folder names none"),
        (("restore", "{to}/none.zip"), "No such file"),
        (("restore", "{to}/none.zip", "--check"), "No such file"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    config = tmp_path / "carbontrack.yaml"
    config.write_text("database:\n  url: sqlite://none.sqlite3\n")

    done = CliRunner().invoke(app, [*(word.format(to=tmp_path / "to") for word in words), "--config", str(config)])

    assert done.exit_code == 2
    assert said in done.output
