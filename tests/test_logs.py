"""What happened to one request, and to one device, is found in the log by its id: on the real server."""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from carbontrack.metrics import Metrics
from carbontrack.plugins import load_plugins
from tests.support.system import Server, accepts_connections, free_port
from tests.support.web import running_portal
from tests.support.world import body, choosing, core, eventually, give_schema, migrated_store, register
from tests.test_fleet import raising_after

ID = "proxy-3f2a.77"
SECRET = "Zm9yIHRlc3RzIG9ubHk-shared"


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def test_a_request_has_one_id_in_its_answer_in_what_a_person_reads_and_in_the_log(tmp_path: Path) -> None:
    url, port = f"sqlite://{tmp_path / 'logs.sqlite3'}", free_port()
    await give_schema(url)
    settings = {"DATABASE__URL": url, "HTTP__PORT": port, "MQTT__PORT": free_port(), "LOGGING__FORMAT": "json"}
    server = Server(
        [
            *("env", *(f"CARBONTRACK_{name}={value}" for name, value in settings.items())),
            *('CARBONTRACK_HTTP__TRUSTED_PROXIES=["127.0.0.1"]', sys.executable, "-m", "carbontrack", "serve"),
        ],
        log=tmp_path / "core.log",
        is_ready=lambda: accepts_connections(port),
    )

    def ask(path: str, method: str = "GET", **headers: str) -> tuple[str, str]:
        connection.request(method, path, headers=headers)  # all of them on one connection
        answer = connection.getresponse()
        return answer.headers["X-Request-ID"], answer.read().decode()

    server.start()
    connection = HTTPConnection("127.0.0.1", port)
    try:
        given, page = ask(f"/shared/{SECRET}?code=hidden", **{"X-Request-ID": ID})
        made, problem = ask("/api/users/", **{"X-Request-ID": 'not "well" formed'})
        mistyped, _ = ask(f"/shred/{SECRET}")
        fine, _ = ask("/healthz")
    finally:
        connection.close()
        server.stop()

    assert given == ID
    assert ID in page
    assert json.loads(problem)["request_id"] == made
    assert len({given, made, mistyped, fine}) == 4
    found = {line["request_id"]: line for line in lines(server.log) if "request_id" in line}
    assert set(found) == {given, made, mistyped}, "what only reads, and went well, is not told"
    assert (found[given]["path"], found[given]["status"]) == ("/shared/***", 404)
    assert (found[made]["path"], found[made]["method"], found[made]["status"]) == ("/api/users/", "GET", 401)
    assert found[mistyped]["path"] == "none of ours"
    assert not any(word in server.log.read_text() for word in (SECRET, "hidden"))


async def test_who_is_no_trusted_proxy_chooses_no_id_and_what_fails_is_logged_under_the_one_that_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_portal(f"sqlite://{tmp_path / 'logs.sqlite3'}") as portal:
        client = await portal.signed_in("hq@example.org")

        async def fail(*_: object, **__: object) -> None:
            raise RuntimeError("on purpose")

        with monkeypatch.context() as patch, capture_logs([structlog.contextvars.merge_contextvars]) as log:
            patch.setattr(type(portal.services.store), "unseen_alerts", fail)
            answer = await client.get("/alerts/", headers={"X-Request-ID": ID})
            text = await answer.text()

    made = answer.headers["X-Request-ID"]
    assert (answer.status, made == ID, made in text) == (500, False, True)
    failed, answered = (line for line in log if line.get("request_id") == made)
    assert (failed["event"], failed["path"], failed["method"]) == ("request failed", "/alerts/", "GET")
    assert (answered["event"], answered["status"], answered["user"]) == ("answered", 500, 1)


async def test_every_line_of_a_devices_actor_has_the_device_and_no_request(tmp_path: Path) -> None:
    decode = load_plugins(choosing("ct_v1")).contributions.sensors["ct_v1"].decode
    structlog.contextvars.bind_contextvars(request_id="of whoever starts the core")
    with capture_logs([structlog.contextvars.merge_contextvars]) as log:
        async with migrated_store(f"sqlite://{tmp_path / 'logs.sqlite3'}") as store:
            await register(store, "dev-001")
            sensors = {"ct_v1": raising_after(decode, b"POISON")}
            async with core(store, Metrics(), sensors=sensors, park_after_failures=1) as running:
                running.tell("dev-001", body(why="POISON"))
                await eventually(lambda: running.state("dev-001") == "parked")
    structlog.contextvars.clear_contextvars()

    told = [(line["event"], line["device"], line.get("request_id")) for line in log if "device" in line]
    assert told == [("actor failed, will retry", "dev-001", None), ("actor parked", "dev-001", None)]
