"""https by the core itself: what is wrong with the files is told, and a renewed certificate needs no restart."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from carbontrack.app import Core, run_core, run_web
from carbontrack.config import Config, ConfigError, load_config
from carbontrack.configured import problems_of
from carbontrack.store import migrate
from carbontrack.tls import ServerCertificate
from tests.support.certificates import write_certificates
from tests.support.mosquitto import Broker, core_config
from tests.support.world import eventually


@pytest.fixture(scope="session")
def other_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of another authority."""
    folder = tmp_path_factory.mktemp("other")
    write_certificates(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_certificates(tmp_path)
    return tmp_path


def settings(folder: Path) -> Config:
    (folder / "carbontrack.yaml").write_text("http:\n  tls:\n    cert_file: server.pem\n    key_file: server.key\n")
    return load_config(folder / "carbontrack.yaml", {})


def certificate(folder: Path) -> ServerCertificate:
    config = settings(folder)
    assert config.http.tls is not None
    return ServerCertificate(config, config.http.tls)


def lock(file: Path) -> None:
    """Put a password on a key."""
    key = load_pem_private_key(file.read_bytes(), None)
    form = PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    file.write_bytes(key.private_bytes(Encoding.PEM, *form))


BREAK: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no certificate": (
        lambda folder, _: (folder / "server.pem").unlink(),
        "{0}/carbontrack.yaml:3: http.tls.cert_file: cannot read {0}/server.pem: No such file or directory",
    ),
    "no key": (
        lambda folder, _: (folder / "server.key").unlink(),
        "{0}/carbontrack.yaml:4: http.tls.key_file: cannot read {0}/server.key: No such file or directory",
    ),
    "rubbish for a certificate": (
        lambda folder, _: (folder / "server.pem").write_text("rubbish"),
        "{0}/carbontrack.yaml:3: http.tls.cert_file: there is no certificate in PEM in {0}/server.pem",
    ),
    "a certificate for a key": (
        lambda folder, _: shutil.copy(folder / "server.pem", folder / "server.key"),
        "{0}/carbontrack.yaml:4: http.tls.key_file: there is no private key in PEM in {0}/server.key",
    ),
    "a key with a password": (
        lambda folder, _: lock(folder / "server.key"),
        (
            "{0}/carbontrack.yaml:4: http.tls.key_file: the key in {0}/server.key needs a password, which the core "
            "does not have; take it away (openssl pkey)"
        ),
    ),
    "another's key": (
        lambda folder, other: shutil.copy(other / "server.key", folder),
        (
            "{0}/carbontrack.yaml:4: http.tls.key_file: the key in {0}/server.key is not that of the certificate in "
            "{0}/server.pem"
        ),
    ),
}


@pytest.mark.parametrize("mistake", BREAK)
def test_a_file_that_cannot_be_used_is_named_with_its_key(files: Path, other_files: Path, mistake: str) -> None:
    spoil, text = BREAK[mistake]
    spoil(files, other_files)
    with pytest.raises(ConfigError) as caught:
        certificate(files)
    assert str(caught.value) == text.format(files)
    assert problems_of(settings(files))[-1] == text.format(files), "so does check-config"


def test_versions_of_tls_before_1_2_are_not_spoken(files: Path) -> None:
    assert certificate(files).context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_nobody_has_renewed_is_told_before_it_ends(files: Path) -> None:
    loaded = certificate(files)
    assert loaded.problems(loaded.ends - timedelta(days=15)) == ()
    (told,) = loaded.problems(loaded.ends - timedelta(days=13))
    assert told == f"The certificate {files}/server.pem ends on {loaded.ends:%d %b %Y}. Renew it."


def test_files_that_cannot_be_used_any_more_leave_the_old_certificate_in_place(files: Path, other_files: Path) -> None:
    loaded = certificate(files)
    before, now = loaded.fingerprint, loaded.ends - timedelta(days=100)
    shutil.copy(other_files / "server.pem", files)
    (refused,) = loaded.renew()
    assert "is not that of the certificate" in refused
    assert (loaded.fingerprint, loaded.problems(now)) == (before, (refused,))
    shutil.copy(other_files / "server.key", files)
    assert loaded.renew() == ()
    assert loaded.fingerprint != before
    assert loaded.problems(now) == ()


@asynccontextmanager
async def trusting(folder: Path) -> AsyncIterator[ClientSession]:
    """A browser that trusts the authority of a folder and takes a new connection for each request."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    async with ClientSession(connector=TCPConnector(ssl=context, force_close=True)) as session:
        yield session


@asynccontextmanager
async def running(mosquitto: Broker, folder: Path) -> AsyncIterator[tuple[Core, str]]:
    config = core_config(
        mosquitto,
        f"sqlite://{folder / 'core.sqlite3'}",
        HTTP__TLS=f"{{cert_file: {folder}/server.pem, key_file: {folder}/server.key}}",
        DEVICES__CANARY_EVERY_S="0.1",
    )
    await migrate(config.database.url)
    async with run_core(config) as core, run_web(core) as url:
        yield core, url


async def test_the_core_serves_https_and_a_reload_takes_a_renewed_certificate(
    mosquitto: Broker, files: Path, other_files: Path
) -> None:
    async with running(mosquitto, files) as (core, url):
        assert url.startswith("https://127.0.0.1:")
        sample = partial(core.metrics.registry.get_sample_value, "carbontrack_canary_seconds_count", {"stage": "shown"})
        await eventually(lambda: (sample() or 0) >= 1, "the canary does not come over https")
        async with trusting(files) as browser, browser.get(f"{url}/healthz") as answer:
            assert answer.status == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        for file in ("server.pem", "server.key", "ca.pem"):
            shutil.copy(other_files / file, files)
        assert (await core.reloader.reload("a test")).left_out == ()
        async with trusting(other_files) as browser, browser.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        (files / "server.key").unlink()
        result = await core.reloader.reload("a test")
        assert "http.tls.key_file: cannot read" in result.left_out[0]
        async with trusting(other_files) as browser, browser.get(f"{url}/healthz") as answer:
            assert answer.status == 200
