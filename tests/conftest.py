"""The real parts that tests run against. Each starts only for a test that names it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
import structlog
from argon2 import PasswordHasher
from hypothesis import settings
from playwright.async_api import Page

from carbontrack import passwords
from carbontrack.tasks import calm_garbage_collection
from tests.support.chromium import Chromium
from tests.support.chromium import chromium as run_chromium
from tests.support.mosquitto import Broker, broker, write_broker_files
from tests.support.network import refuse_other_hosts
from tests.support.postgres import Postgres
from tests.support.postgres import postgres_server as run_postgres
from tests.support.redis import Redis
from tests.support.redis import redis as run_redis

# An example may take its time: on a busy machine a deadline fails tests for nothing.
settings.register_profile("unhurried", parent=settings.default, deadline=None)
settings.load_profile("unhurried")

# As in the core. Without it a third of the time goes into looking for cycles among what lives as long as the run.
calm_garbage_collection()


def pytest_collection_finish() -> None:
    """Whatever was imported and collected stays to the end."""
    gc.freeze()


_ended = count(1)


def pytest_runtest_logfinish() -> None:
    """Every application that a test has made is a cycle of its own."""
    if next(_ended) % 200 == 0:
        gc.collect()


# What a test provokes is logged with a plain traceback: a pretty one takes a fifth of a second to draw.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# At its real cost a password takes tens of milliseconds at every sign-in, by design.
passwords._hasher = PasswordHasher(memory_cost=8, time_cost=1, parallelism=1)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail every test that tries to reach another machine."""
    refused = refuse_other_hosts(monkeypatch)
    yield
    assert not refused, f"the test tried to connect to {refused}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL server for the whole run. Tests ask for `postgres`."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A running PostgreSQL without any database of another test; ``postgres.new_url()`` creates one."""
    postgres_server.start()  # the last test may have stopped it
    yield postgres_server
    postgres_server.start()
    postgres_server.drop_databases()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The address of an empty database on a real PostgreSQL."""
    return postgres.new_url()


@pytest.fixture(scope="session")
def broker_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and passwords, made once for the whole run."""
    folder = tmp_path_factory.mktemp("broker")
    write_broker_files(folder)
    return folder


@pytest.fixture
def mosquitto(broker_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker with TLS, passwords and topic rights, new for each test."""
    with broker(broker_files, tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A real Redis with a password, new for each test."""
    with run_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def chromium() -> AsyncIterator[Chromium]:
    """A real browser. The test fails if a page of it logged an error or asked another host for anything."""
    async with run_chromium() as browser:
        yield browser
    assert not browser.complaints, "\n".join(browser.complaints)


@pytest.fixture
async def browser_page(chromium: Chromium) -> Page:
    """A page of a real browser; see `chromium`."""
    return await chromium.new_page()
