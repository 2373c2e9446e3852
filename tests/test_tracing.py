"""Requests and commits are traced, if somebody wants that, and otherwise nothing of it is there."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from carbontrack.config import Config
from carbontrack.config.settings import Tracing
from carbontrack.tracing import PACKAGES, TracedBackend, traced, tracing_problems
from carbontrack.web import create_app
from tests.support.web import running_portal
from tests.support.world import body

SECRET = "Zm9yIHRlc3RzIG9ubHk-shared"


async def test_a_request_and_a_commit_become_spans_without_what_a_request_has_in_it(tmp_path: Path) -> None:
    for package in PACKAGES:
        pytest.importorskip(package)
    sent: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        content = await request.read()
        sent.append(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    async with TestServer(app) as collector:
        tracing = traced(Config(tracing=Tracing(endpoint=f"http://127.0.0.1:{collector.port}")))
        tracer = tracing.__enter__()
        assert tracer is not None
        async with running_portal(f"sqlite://{tmp_path / 'traces.sqlite3'}", tracer=tracer) as portal:
            portal.services.store.commits.wrap(lambda backend: TracedBackend(backend, tracer))
            portal.core.tell("dev-001", body())
            await portal.core.receipt("dev-001", 1)
            with capture_logs([structlog.contextvars.merge_contextvars]) as log:
                answer = await portal.client().get(f"/shared/{SECRET}?code=hidden")
        await asyncio.to_thread(tracing.__exit__, None, None, None)

    told = b"".join(sent)
    for name in (b"GET /shared/{token}", b"http.route", b"commit", b"carbontrack.readings"):
        assert name in told
    assert answer.headers["X-Request-ID"].encode() in told
    (line,) = log
    assert bytes.fromhex(line["trace_id"]) in told
    assert SECRET.encode() not in told
    assert b"hidden" not in told


async def test_without_an_endpoint_nothing_of_it_is_there(tmp_path: Path) -> None:
    with traced(Config()) as tracer:
        assert tracer is None
    async with running_portal(f"sqlite://{tmp_path / 'traces.sqlite3'}") as portal:
        names = [repr(middleware) for middleware in create_app(portal.services).middlewares]
    assert not any("traced_by" in name for name in names)


def test_it_is_said_when_the_packages_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(tracing=Tracing(endpoint="http://127.0.0.1:4318"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    assert any("pip install opentelemetry-sdk" in problem for problem in tracing_problems(config))
    with traced(config) as tracer:
        assert tracer is None
