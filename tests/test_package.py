"""What `pip install carbontrack` gives: a source release and a wheel with every file, and a wheel that serves pages."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support import programs
from tests.support.system import Server, free_port
from tests.support.world import give_schema
from tests.test_project import ROOT
from tests.test_services import answers

LEFT_BEHIND = shutil.ignore_patterns(
    *(
        "__pycache__",
        ".git",
        ".venv",
        ".*_cache",
        ".hypothesis",
        "build",
        "dist",
        "*.egg-info",
        "firmware",
        "tests",
        "benchmarks",
        "demo-data",
        "simulated",
    )
)
KINDS = {
    "templates": "web/templates/login.html",
    "scripts and styles": "web/static/",
    "languages": "locale/sw/pages.po",
    "emission factors": "data/",
    "migrations": "migrations/0001",
    "letters": "letters/",
    "types": "py.typed",
    "templates of reports": ".typ",
}


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=programs.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, unpacked."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, folder / "tree", ignore=LEFT_BEHIND)
    (folder / "tree" / "config" / "secrets.yaml").write_text("mqtt_password: of somebody who makes a release")
    program = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", program, cwd=folder / "tree")
    (archive,) = folder.glob("carbontrack-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source_release: Path) -> Path:
    """Made from the source release, as an index's visitors would."""
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", source_release.parent)
    run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=source_release)
    (made,) = source_release.parent.glob("carbontrack-*.whl")
    return made


def package_files() -> set[str]:
    sources = (path for path in (ROOT / "carbontrack").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in sources}


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())

    assert package_files() <= inside
    for kind, part in KINDS.items():
        assert any(part in name for name in inside), f"there are no {kind}"
    assert not [name for name in inside if not name.startswith("carbontrack")], "nothing else is put among the packages"


def test_the_source_release_has_what_the_documents_name_and_no_secret(source_release: Path) -> None:
    for name in ("requirements.lock", "Makefile", "config/carbontrack.yaml", "deploy/systemd/carbontrack.service"):
        assert (source_release / name).is_file()
    deployed = {path.relative_to(ROOT) for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    own = {path for path in deployed if path.parts[1:3] not in {("container", "secrets"), ("container", "site")}}
    assert [path for path in own if not (source_release / path).is_file()] == []
    assert not list(source_release.rglob("secrets.yaml"))


def test_an_install_from_the_wheel_serves_pages(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which has only the dependencies of the one that runs the tests."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    options = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=tmp_path)
    where = run(python, "-I", "-c", "import carbontrack; print(carbontrack.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    port = free_port()
    environment = {
        "CARBONTRACK_DATABASE__URL": f"sqlite://{tmp_path / 'core.sqlite3'}",
        "CARBONTRACK_HTTP__PORT": str(port),
        "CARBONTRACK_MQTT__PORT": str(free_port()),
    }
    given = [f"{name}={value}" for name, value in environment.items()]
    command: list[str | Path] = ["env", "--unset=PYTHONPATH", *given, tmp_path / "venv" / "bin" / "carbontrack"]
    # Of this tree: the installed core starts only where it knows the very same migrations.
    asyncio.run(give_schema(environment["CARBONTRACK_DATABASE__URL"]))
    server = Server([*command, "serve"], log=tmp_path / "serve.log", is_ready=lambda: answers(port))
    server.start()
    try:
        with urlopen(f"http://127.0.0.1:{port}/login", timeout=10) as answer:
            page = answer.read().decode()
        assert "Sign in" in page
        styles = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
        with urlopen(f"http://127.0.0.1:{port}{styles}", timeout=10) as answer:
            assert answer.status == 200
    finally:
        server.stop()
