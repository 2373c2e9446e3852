"""A newer version takes over while nodes send: nothing is lost, and the way back is as the page says."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.upgrade import Size, complaints, drill
from carbontrack.store.schema import known_migrations
from tests.support import programs
from tests.support.mosquitto import Broker

ROOT = Path(__file__).parent.parent
BEFORE = sorted(known_migrations())[-3]
NEWEST = sorted(known_migrations())[-2:]


async def test_nodes_lose_nothing_while_the_oldest_schema_is_migrated_and_no_core_runs_on_another(
    postgres_url: str, mosquitto: Broker, tmp_path: Path
) -> None:
    found = await drill(postgres_url, mosquitto, tmp_path, Size(nodes=3, readings=600, sample_s=0.25, patience_ms=1000))

    assert complaints(found) == []
    assert "carbontrack migrate" in found.refused
    assert "9999_from_the_future" in found.ended
    assert found.account.is_even
    assert found.account.taken > found.old_readings == 1800


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The version of before: this one without its last migrations, which are all that it knows of a schema."""
    folder = tmp_path / "old"
    # With what is compiled already: it stays valid, and each command would do it again.
    shutil.copytree(ROOT / "carbontrack", folder / "carbontrack", ignore=shutil.ignore_patterns("static", "locale"))
    for migration in NEWEST:
        for file in (folder / "carbontrack" / "migrations").rglob(f"{migration}.*"):
            file.unlink()
    return folder


def test_the_way_back_is_the_backup_of_before_and_the_version_that_made_it(old: Path, tmp_path: Path) -> None:
    (tmp_path / "carbontrack.yaml").write_text("{}\n")

    def run(version: Path, *words: str, code: int = 0) -> str:
        line, env = [*words, "--config", "carbontrack.yaml"], programs.environment(PYTHONPATH=str(version))
        if version == ROOT:
            done = programs.run("carbontrack", *line, cwd=tmp_path, env=env)
        else:
            program = [sys.executable, "-m", "carbontrack", *line]
            done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    run(old, "migrate")
    run(old, "factory", "add", "Kangaita Tea Factory", "--altitude-m", "2036")
    run(old, "backup", "--to", "before-upgrade.zip")
    assert f"The database has {BEFORE}." in run(ROOT, "version", code=1)
    assert f"{len(NEWEST)} migrations applied" in run(ROOT, "migrate")
    assert f"schema {NEWEST[-1]}\nThe database has {NEWEST[-1]}." in run(ROOT, "version")
    run(ROOT, "factory", "add", "Mungania Tea Factory", "--altitude-m", "1700")
    run(ROOT, "backup", "--to", "after-upgrade.zip")

    assert "does not know" in run(old, "restore", "after-upgrade.zip", "--replace", code=2)
    restored = run(old, "restore", "before-upgrade.zip", "--replace")
    assert "Restored and compared" in restored
    assert "What was there before is" in restored
    with closing(sqlite3.connect(tmp_path / "carbontrack.sqlite3")) as database:
        factories = [name for (name,) in database.execute("SELECT name FROM factory")]
        (schema,) = database.execute("SELECT max(name) FROM tortoise_migrations WHERE app = 'carbontrack'").fetchone()
    assert schema == BEFORE
    assert factories == ["Kangaita Tea Factory"], "what the newer version has written is put aside"
    assert f"{len(NEWEST)} migrations applied" in run(ROOT, "migrate"), "and the upgrade can be tried again"
