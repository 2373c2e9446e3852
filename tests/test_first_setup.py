"""`carbontrack init` and `carbontrack doctor`, as an operator uses them on a new machine."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from carbontrack.config import load_config
from carbontrack.doctor import Finding, Verdict, ending, examine
from tests.support import programs
from tests.support.deployed import deployed
from tests.support.system import free_port

ADDRESS, PASSWORD = "chief@example.org", "seven green tea baskets"


@dataclass
class NewSite:
    """A folder, and the commands that fill it and look at it."""

    folder: Path
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "carbontrack.yaml"

    def init(self, *words: str, text: str = f"{PASSWORD}\n") -> subprocess.CompletedProcess[str]:
        given = ("--broker-host", "mqtt.example.org", "--public-url", "https://carbon.example.org")
        own = ("--port", str(self.port), "--admin", ADDRESS, "--password-stdin")
        return programs.run("carbontrack", "init", self.folder, *given, *own, *words, cwd=self.folder.parent, text=text)

    def doctor(self) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        done = programs.run("carbontrack", "doctor", "--json", "--config", self.config, cwd=self.folder.parent)
        findings: dict[str, list[dict[str, Any]]] = {}
        for finding in json.loads(done.stdout):
            findings.setdefault(finding["subject"], []).append(finding)
        return done.returncode, findings

    def change(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


@pytest.fixture
def site(tmp_path: Path) -> NewSite:
    return NewSite(tmp_path / "site", free_port())


def sqlite(site: NewSite) -> str:
    return f"sqlite://{site.folder / 'carbontrack.sqlite3'}"


def test_one_command_makes_all_that_a_new_site_needs_and_nobody_else_can_read_its_secrets(site: NewSite) -> None:
    done = site.init("--database", sqlite(site))

    assert done.returncode == 0, done.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in site.folder.iterdir()}
    assert modes["secrets.yaml"] == 0o600
    assert modes["carbontrack.yaml"] == 0o640
    assert modes["broker"] == 0o700
    config = load_config(site.config, {})
    assert config.mqtt.device_key is not None
    assert config.http.public_url == "https://carbon.example.org"
    secrets = re.findall(r"[0-9a-f]{64}", (site.folder / "secrets.yaml").read_text())
    assert len(set(secrets)) == 4
    assert not any(secret in done.stdout + site.config.read_text() for secret in [*secrets, PASSWORD])
    people = programs.run("carbontrack", "user", "list", "--config", site.config, cwd=site.folder)
    assert people.stdout.split()[:3] == [ADDRESS, "hq_manager", "active"]


def test_run_again_it_keeps_everything(site: NewSite) -> None:
    site.init("--database", sqlite(site))
    before = {path: path.read_bytes() for path in site.folder.rglob("*.[cky]*") if "sqlite" not in path.name}

    again = site.init("--database", "sqlite:///nowhere/else.sqlite3", text="")

    assert again.returncode == 0, again.stderr
    assert f"kept     {ADDRESS}" in again.stdout
    assert {path: path.read_bytes() for path in before} == before


def test_a_weak_password_stops_it_and_the_next_try_goes_on_from_there(site: NewSite) -> None:
    refused = site.init("--database", sqlite(site), text="password\n")
    assert refused.returncode == 2
    assert refused.stderr.strip()

    assert "added" in site.init().stdout


def test_a_database_of_another_kind_is_refused_before_anything_is_written(site: NewSite) -> None:
    refused = site.init("--database", "mysql://localhost/carbon")

    assert refused.returncode == 2
    assert "sqlite:// or postgres://" in refused.stderr
    assert not site.folder.exists()


def test_the_doctor_finds_everything_fine_on_a_new_site_with_postgresql_and_its_broker(
    site: NewSite, postgres_url: str, tmp_path: Path
) -> None:
    site.init("--database", postgres_url)
    (tmp_path / "running").mkdir()
    with deployed(site.folder / "broker", tmp_path / "running") as broker:
        site.change("port: 8883", f"port: {broker.port}")

        code, found = site.doctor()

    assert code == 0, found
    verdicts = {subject: {finding["verdict"] for finding in findings} for subject, findings in found.items()}
    for subject in ("configuration", "secrets", "database", "clock", "broker's certificate", "broker", "disk"):
        assert verdicts[subject] == {"fine"}, found[subject]
    assert verdicts["core"] == {"look"}  # nobody has started it yet
    assert "carbontrack serve" in found["core"][0]["to_do"]


def test_the_doctor_says_what_is_wrong_and_what_to_do_and_ends_with_1(site: NewSite, postgres_url: str) -> None:
    site.init("--database", postgres_url)
    (site.folder / "secrets.yaml").chmod(0o644)
    site.change("port: 8883", f"port: {free_port()}")
    (site.folder / "secrets.yaml").write_text(
        (site.folder / "secrets.yaml").read_text().replace(postgres_url, f"postgres://nobody@127.0.0.1:{free_port()}/x")
    )

    code, found = site.doctor()

    assert code == 1
    assert found["secrets"][0]["to_do"] == f"Run: chmod 600 {site.folder / 'secrets.yaml'}"
    assert "refused" in found["database"][0]["text"]  # away, and not "empty"
    assert "refused" in found["broker"][0]["text"]


def test_the_doctor_tells_a_schema_that_was_not_migrated_from_a_database_that_is_away(
    site: NewSite, postgres_url: str
) -> None:
    site.init("--database", sqlite(site))
    secrets = site.folder / "secrets.yaml"
    secrets.write_text(secrets.read_text().replace(sqlite(site), postgres_url))

    _, found = site.doctor()

    assert "carbontrack migrate" in found["database"][0]["text"] + found["database"][0]["to_do"]


def test_the_doctor_does_not_trust_a_broker_with_a_certificate_of_somebody_else(site: NewSite, tmp_path: Path) -> None:
    other = NewSite(tmp_path / "other", free_port())
    for each in (site, other):
        each.init("--database", sqlite(each))
    (tmp_path / "running").mkdir()
    with deployed(other.folder / "broker", tmp_path / "running") as broker:
        site.change("port: 8883", f"port: {broker.port}")

        _, found = site.doctor()

    assert "not to be trusted" in found["broker's certificate"][0]["text"]
    assert found["broker"][0]["verdict"] == "wrong"


async def test_the_doctor_sees_two_clocks_that_are_apart(site: NewSite) -> None:
    site.init("--database", sqlite(site))
    ahead = datetime.now(UTC) + timedelta(minutes=3)

    found = {it.subject: it async for it in examine(load_config(site.config, {}), site.folder, lambda: ahead)}

    assert found["clock"].verdict is Verdict.WRONG
    assert "180 s apart" in found["clock"].text


@pytest.mark.parametrize(
    ("days", "verdict"), [(400, Verdict.FINE), (31, Verdict.FINE), (29, Verdict.LOOK), (-1, Verdict.WRONG)]
)
def test_a_certificate_is_renewed_before_it_ends(days: int, verdict: Verdict) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)

    found: Finding = ending("broker's certificate", now + timedelta(days=days), now)

    assert found.verdict is verdict
    assert bool(found.to_do) is (verdict is not Verdict.FINE)
