"""Errors reach a Sentry, if one is wanted, and nothing secret does."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import AsyncIterator

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from carbontrack.config import Config
from carbontrack.config.settings import Mqtt, Sentry
from carbontrack.logs import set_up_logging
from carbontrack.model import Role, User
from carbontrack.redact import redactor_of
from carbontrack.sentry import PACKAGE, errors_reported, sentry_problems
from tests.support.world import eventually

KEY = "plantedsentrykey"
SECRET = "planted broker password"


@pytest.fixture
async def received() -> AsyncIterator[tuple[str, list[str]]]:
    """A Sentry of our own on this machine: its address as a DSN, and every envelope that it was sent."""
    envelopes: list[str] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        envelopes.append((gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode())
        return web.json_response({"id": "0"})

    app = web.Application()
    app.router.add_post("/api/7/envelope/", take)
    async with TestServer(app) as server:
        yield f"http://{KEY}@127.0.0.1:{server.port}/7", envelopes


def config_of(dsn: str) -> Config:
    return Config(sentry=Sentry(dsn=SecretStr(dsn)), mqtt=Mqtt(username="core", password=SecretStr(SECRET)))


def fail(password: str) -> None:
    raise RuntimeError(f"the broker refused {password} of wanjiru@example.org")


async def test_an_error_is_told_with_the_requests_id_and_without_secrets(received: tuple[str, list[str]]) -> None:
    pytest.importorskip(PACKAGE)
    dsn, envelopes = received
    user = User(1, "wanjiru@example.org", "Wanjiru", "Kamau", Role.OPERATOR, None)
    before = logging.getLogger().handlers[:]
    set_up_logging("info", "json")
    try:
        with errors_reported(config_of(dsn), redactor_of(config_of(dsn), [user])):
            log = structlog.get_logger("carbontrack.test_sentry")
            log.warning("a warning is no event")
            with structlog.contextvars.bound_contextvars(request_id="3f9a01c27b44", device="dev-001"):
                try:
                    fail(SECRET)
                except RuntimeError:
                    log.exception("it failed for Wanjiru", password=SECRET, url=f"http://u:{SECRET}@x.example/")
            await eventually(lambda: bool(envelopes))
        logging.getLogger("later").error("after the block nothing is told")
    finally:
        logging.getLogger().handlers[:] = before
        structlog.reset_defaults()

    (envelope,) = envelopes
    event = json.loads(envelope.splitlines()[-1])
    assert event["logentry"]["message"] == "it failed for **********"
    assert event["tags"] == {"request_id": "3f9a01c27b44", "device": "dev-001"}
    assert event["exception"]["values"][0]["type"] == "RuntimeError"
    assert any(frame["function"] == "fail" for frame in event["exception"]["values"][0]["stacktrace"]["frames"])
    for secret in (SECRET, "wanjiru", "Wanjiru"):
        assert secret not in envelope


def test_without_a_dsn_nothing_is_loaded_and_without_the_package_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers = logging.getLogger().handlers[:]
    with errors_reported(Config(), redactor_of(Config())):
        assert logging.getLogger().handlers == handlers

    def nowhere(name: str) -> None:
        assert name == PACKAGE

    monkeypatch.setattr("importlib.util.find_spec", nowhere)
    config = config_of("http://key@127.0.0.1:1/7")
    with errors_reported(config, redactor_of(config)):
        assert logging.getLogger().handlers == handlers
    assert any("pip install sentry-sdk" in problem for problem in sentry_problems(config))
