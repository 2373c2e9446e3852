"""A PostgreSQL of somebody else, over TLS: PostgreSQL's own variables say what is believed, for every part of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support import programs
from tests.support.certificates import write_certificates
from tests.support.postgres import Postgres, _unprivileged_user, postgres_server
from tests.support.world import migrated_store


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    """Outside of pytest's folder: PostgreSQL does not run as root, and reads its key itself."""
    folder = Path(tempfile.mkdtemp(prefix="carbontrack-certificates-"))
    folder.chmod(0o755)
    write_certificates(folder)
    (folder / "server.key").chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(folder / "server.key", _unprivileged_user())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[Postgres]:
    files = {"ssl_cert_file": str(certificates / "server.pem"), "ssl_key_file": str(certificates / "server.key")}
    with postgres_server(None, ssl="on", **files) as running:
        yield running


@pytest.fixture
def url(server: Postgres) -> Iterator[str]:
    yield server.new_url().replace("127.0.0.1", "localhost")
    server.drop_databases()


def run(folder: Path, url: str, authority: Path, *words: str) -> subprocess.CompletedProcess[str]:
    believed = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority), "DATABASE_URL": url}
    return programs.run("carbontrack", *words, cwd=folder, env=programs.environment(**believed))


def test_the_schema_and_a_backup_go_over_tls_and_another_authority_is_refused(
    url: str, certificates: Path, tmp_path: Path
) -> None:
    own = certificates / "ca.pem"
    migrated = run(tmp_path, url, own, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    backup = run(tmp_path, url, own, "backup", "--to", "backups")
    assert backup.returncode == 0, backup.stderr
    write_certificates(tmp_path)

    refused = run(tmp_path, url, tmp_path / "ca.pem", "migrate")

    assert refused.returncode == 2
    assert "certificate verify failed" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_every_connection_of_the_core_is_encrypted(
    url: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(certificates / "ca.pem"))
    async with migrated_store(url) as store:
        await store.factories()
        asking = await asyncpg.connect(url)
        rows = await asking.fetch(
            "SELECT application_name, ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name LIKE 'carbontrack%'"
        )
        await asking.close()
    assert {row["application_name"] for row in rows} >= {"carbontrack"}
    assert all(row["ssl"] for row in rows)
