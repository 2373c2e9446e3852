"""Old days go into the archive by themselves, and people see for how long there is room."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from typer.testing import CliRunner

from carbontrack.cli import app
from carbontrack.metrics import Metrics
from carbontrack.model import Storage
from carbontrack.store import Store, Work
from carbontrack.upkeep import Upkeep, days_until_full
from tests.support.world import ALWAYS, NOON, SID, migrated_store, reading

pytest_plugins = ["tests.support.world"]

TODAY = NOON + timedelta(days=10)
MB = 1_000_000


@pytest.fixture
async def store(database_url: str, metrics: Metrics, tmp_path: Path) -> AsyncIterator[Store]:
    async with migrated_store(database_url, metrics, archive_folder=tmp_path / "archive") as opened:
        yield opened


def upkeep_of(store: Store, metrics: Metrics, *, now: datetime = TODAY, reserve_bytes: int = 0) -> Upkeep:
    volume = Path(__file__).parent
    return Upkeep(store, metrics, keep_days=8, volume=volume, reserve_bytes=reserve_bytes, clock=lambda: now)


async def ten_days(store: Store) -> None:
    stream = await store.open_stream("dev-001", SID)
    rows = [reading(day, NOON + timedelta(days=day), stream_pk=stream.pk) for day in range(10)]
    await store.save(Work("dev-001", 1, rows))


async def test_days_that_are_too_old_leave_the_database_and_nothing_is_lost(store: Store, metrics: Metrics) -> None:
    await ten_days(store)
    upkeep = upkeep_of(store, metrics)

    assert await upkeep.tidy() == 2

    assert upkeep.status is not None
    assert upkeep.status.kept.oldest_raw == date(2026, 3, 3)
    assert (upkeep.status.kept.archived_days, upkeep.status.kept.archived_until) == (2, date(2026, 3, 2))
    assert upkeep.status.problem == ""
    assert len(await store.readings([1], *ALWAYS)) == 10
    assert await upkeep.tidy() == 0, "until tomorrow"


async def test_a_day_that_cannot_be_archived_stays_and_somebody_hears_of_it(
    store: Store, metrics: Metrics, tmp_path: Path
) -> None:
    await ten_days(store)
    (tmp_path / "archive").write_text("no folder")

    upkeep = upkeep_of(store, metrics)
    assert await upkeep.tidy() == 0

    assert upkeep.status is not None
    assert upkeep.status.problem.startswith("2026-03-02 could not be archived: ")
    assert (await upkeep.look()).problem == upkeep.status.problem, "until it is mended"
    assert len(await store.readings([1], *ALWAYS)) == 10


async def test_metrics_say_how_much_there_is(store: Store, metrics: Metrics) -> None:
    await ten_days(store)

    status = await upkeep_of(store, metrics).look()

    value = metrics.registry.get_sample_value
    assert value("carbontrack_storage_bytes", {"part": "database"}) == status.kept.database_bytes > 0
    assert value("carbontrack_storage_oldest_raw_timestamp_seconds") == datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert value("carbontrack_storage_free_bytes") == status.free_bytes
    assert value("carbontrack_storage_tight") == 0
    assert b"carbontrack_storage_days_until_full" in generate_latest(metrics.registry)


async def test_a_metric_says_how_old_the_newest_backup_is(store: Store, metrics: Metrics, tmp_path: Path) -> None:
    def upkeep(backups: Path | None) -> Upkeep:
        return Upkeep(store, metrics, keep_days=8, volume=None, reserve_bytes=0, backups=backups)

    async def shown(backups: Path | None) -> float:
        await upkeep(backups).look()
        (sample,) = (sample for metric in metrics.newest_backup.collect() for sample in metric.samples)
        return sample.value

    folder = tmp_path / "backups"
    assert math.isnan(await shown(None))
    assert await shown(folder) == 0, "before the first"
    folder.mkdir()
    for name, made_at in {
        "carbontrack-2026-03-01T021500Z.zip": 1000,
        "carbontrack-2026-03-02T021500Z.zip": 2000,
        "notes.zip": 3000,
    }.items():
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (made_at, made_at))
    assert await shown(folder) == 2000


async def test_with_less_room_than_the_reserve_it_is_tight(store: Store, metrics: Metrics) -> None:
    upkeep = upkeep_of(store, metrics, reserve_bytes=10**18)
    before = upkeep.is_tight

    await upkeep.look()

    assert (before, upkeep.is_tight) == (False, True)
    assert metrics.registry.get_sample_value("carbontrack_storage_tight") == 1


def stored(**changed: float) -> Storage:
    values = {"raw_days": 90, "bytes_per_day": 100 * MB, "archived_days": 10, "archive_bytes": 50 * MB} | changed
    return Storage(
        None, int(values["raw_days"]), 0, 0, values["bytes_per_day"], int(values["archived_days"]),
        int(values["archive_bytes"]), None,
    )  # fmt: skip


def test_without_an_archive_each_day_takes_its_whole_size() -> None:
    assert days_until_full(stored(), 1000 * MB, 90, archives=False) == 10


def test_with_an_archive_only_what_is_archived_grows_once_the_database_is_full_of_days() -> None:
    assert days_until_full(stored(), 1000 * MB, 90, archives=True) == 200


def test_until_the_database_has_its_days_it_grows_too() -> None:
    assert days_until_full(stored(raw_days=80), 500 * MB, 90, archives=True) == 5
    assert days_until_full(stored(raw_days=80), 1050 * MB, 90, archives=True) == 20


def test_nothing_that_comes_fills_no_disk() -> None:
    assert days_until_full(stored(bytes_per_day=0), 1, 90, archives=True) is None


# --- the command line


@pytest.fixture
async def config(tmp_path: Path) -> Path:
    database = tmp_path / "carbontrack.sqlite3"
    file = tmp_path / "carbontrack.yaml"
    file.write_text(f"database:\n  url: sqlite://{database}\nretention:\n  archive_folder: archive\n")
    async with migrated_store(f"sqlite://{database}", archive_folder=tmp_path / "archive") as store:
        await ten_days(store)
        await upkeep_of(store, Metrics()).tidy()
    return file


def command(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output


def test_the_archive_is_listed_checked_and_restored_by_commands(config: Path) -> None:
    code, output = command("archive", "list", "-c", config)
    assert code == 0
    assert "2026-03-01            1 rows" in output
    assert "2 days in 2 files" in output

    assert command("archive", "verify", "-c", config) == (0, "2 files checked, 0 with a fault.\n")

    code, output = command("archive", "restore", "2026-03-01", "--to", "2026-03-02", "-c", config)
    assert code == 0, output
    assert output.count("1 rows are back until") == 2

    code, output = command("archive", "restore", "2026-02-01", "-c", config)
    assert (code, output) == (2, "2026-02-01 is not in the archive.\n")
    code, output = command("archive", "restore", "2026-03-02", "--to", "2026-03-01", "-c", config)
    assert (code, output) == (2, "--to must not be before the first day.\n")

    (config.parent / "archive" / "reading-2026-03-01.parquet").unlink()
    code, output = command("archive", "verify", "-c", config)
    assert code == 1
    assert "reading-2026-03-01.parquet: it is missing" in output


def test_without_an_archive_the_command_says_which_setting_names_one(tmp_path: Path) -> None:
    file = tmp_path / "carbontrack.yaml"
    file.write_text(f"database:\n  url: sqlite://{tmp_path / 'carbontrack.sqlite3'}\n")

    assert command("archive", "verify", "-c", file) == (
        2,
        "There is no archive: retention.archive_folder names none.\n",
    )
