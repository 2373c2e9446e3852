"""The bundle of diagnostics helps whoever gets it, and tells nothing that is to stay in the house."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from carbontrack.config.fields import MASK
from carbontrack.credentials import bridge_password, device_password
from carbontrack.model import Role
from carbontrack.passwords import hash_password
from carbontrack.redact import Redactor
from carbontrack.store.schema import known_migrations
from tests.support import programs
from tests.support.system import Server, accepts_connections, free_port
from tests.support.web import PASSWORD
from tests.support.world import migrated_store, register

DEVICE_KEY = "planted device key of forty characters ..."
PLANTED = {
    "mqtt_password": "planted/broker+password",
    "device_key": DEVICE_KEY,
    "metrics_token": "planted-metrics-token",
    "secret_key": "plantedsecretkey",
    "mail_password": "pl4nted",
    "redis_url": "redis://:plantedredis@127.0.0.1:1/0",
    "sentry_dsn": "https://plantedsentry@127.0.0.1:1/7",
    "webhook": "https://hooks.example.com/services/T000/B000/plantedhook",
    "option": "planted option",
}
SECRETS = [*PLANTED.values(), "plantedredis", "plantedsentry", "plantedhook"]
PERSONAL = [
    "planted.person@example.org",
    "person@example.org",
    "+254 700 123456",
    "0722123456",
    "Wanjiru",
    "Kamau-Otieno",
]
UNKNOWN = [
    "q7ZkP2mVx9RtLw4sYb8Nc3Hd",  # a token that nobody has told us of
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "hunter2-of-a-url",
    "hunter2-in-a-query",
    "hunter2-after-a-word",
]
PLUGIN = """
import structlog
from carbontrack import Manifest, hookimpl, Kind
from pydantic import BaseModel, ConfigDict

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    harmless: str
    numbers: list[float]

MANIFEST = Manifest(name="leaky", title="Leaky", version="1.0.0", kinds=(Kind.SENSOR,), options_model=Options)

@hookimpl
def register_sensors(plugin):
    log = structlog.get_logger("leaky")
    for line in open({lines!r}, encoding="utf-8"):
        log.warning("leaks " + line.strip(), detail=[line.strip()], password=line.strip())
    return ()
"""


async def house(folder: Path, port: int) -> tuple[Path, list[str]]:
    """A site with a secret of every kind, a plugin that writes each into the log; passwords that are worked out."""
    url = f"sqlite://{folder / 'carbontrack.sqlite3'}"
    async with migrated_store(url) as store:
        (site,) = await register(store, "dev-001")
        who: dict[str, Any] = {"first_name": "Wanjiru", "last_name": "Kamau-Otieno", "phone_number": PERSONAL[2]}
        await store.add_user(PERSONAL[0], hash_password(PASSWORD), Role.OPERATOR, **who)
    password = device_password(DEVICE_KEY, site.device)
    password_of_bridge = bridge_password(DEVICE_KEY, "kangaita", 2)
    lines = [
        *(password, password_of_bridge, *SECRETS, *PERSONAL, *UNKNOWN[:2]),
        f"postgres://carbontrack:{UNKNOWN[2]}@db.example.com/carbontrack refused",
        f"GET https://portal.example.com/reset?code={UNKNOWN[3]}",
        f"password={UNKNOWN[4]} token: {UNKNOWN[4]}",
        f"Authorization: Bearer {UNKNOWN[4]}",
    ]
    (folder / "lines.txt").write_text("\n".join(lines))
    (folder / "plugins").mkdir()
    (folder / "plugins" / "leaky.py").write_text(PLUGIN.format(lines=str(folder / "lines.txt")))
    (folder / "secrets.yaml").write_text("".join(f"{name}: {json.dumps(it)}\n" for name, it in PLANTED.items()))
    config = folder / "carbontrack.yaml"
    config.write_text(f"""
database: {{url: "{url}"}}
mqtt: {{port: {free_port()}, username: core, password: !secret mqtt_password, device_key: !secret device_key,
  bridges: {{kangaita: 2}}}}
http: {{port: {port}, metrics_token: !secret metrics_token, secret_key: !secret secret_key}}
mail: {{host: 127.0.0.1, port: {free_port()}, sender: "Wanjiru <{PERSONAL[0]}>", tls: tls, username: {PERSONAL[0]},
  password: !secret mail_password}}
redis: {{url: !secret redis_url}}
sentry: {{dsn: !secret sentry_dsn}}
plugins:
  folder: plugins
  options: {{leaky: {{harmless: !secret option, numbers: [1.5]}}}}
notifications:
- {{name: hook, notifier: webhook, options: {{url: !secret webhook}}}}
reports: {{schedules: [{{name: monthly, to: ["{PERSONAL[0]}"]}}]}}
""")
    return config, [password, password_of_bridge]


def by_the_page(port: int) -> tuple[bytes, str]:
    """The bundle that an operator downloads, and the cookie by which she is signed in."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        form = urlencode({"email": PERSONAL[0], "password": PASSWORD, "next": ""})
        connection.request("POST", "/login", form, headers)
        answer = connection.getresponse()
        answer.read()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        connection.request("POST", "/hq/diagnostics", "", headers | {"Cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.headers["Content-Type"] == "application/zip", body
        return body, cookie.partition("=")[2]
    finally:
        connection.close()


def everything(bundle: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


async def test_nothing_that_is_to_stay_in_the_house_is_in_a_bundle(tmp_path: Path) -> None:
    port = free_port()
    config, worked_out = await house(tmp_path, port)
    server = Server(
        [sys.executable, "-m", "carbontrack", "serve", "--config", config],
        log=tmp_path / "core.log",
        is_ready=lambda: accepts_connections(port),
    )
    server.start()
    try:
        downloaded, cookie = by_the_page(port)
        words = ("diagnostics", "-o", "new.zip", "--log", "core.log", "--config", config)
        done = programs.run("carbontrack", *words, cwd=tmp_path)
    finally:
        server.stop()

    assert done.returncode == 0, done.stdout + done.stderr
    planted = [*SECRETS, *PERSONAL, *UNKNOWN, *worked_out]
    assert [it for it in planted if it not in server.log.read_text()] == [], "or this proves nothing"
    for bundle in (downloaded, (tmp_path / "new.zip").read_bytes()):
        files = everything(bundle)
        for name, text in files.items():
            assert [secret for secret in (*planted, cookie) if secret in text] == [], name
        helps({name: json.loads(text) for name, text in files.items() if name.endswith(".json")}, port)
        log = [json.loads(line) for line in files["log.jsonl"].splitlines()]
        assert len([line for line in log if line["event"].startswith("leaks ")]) > len(planted)
        assert "carbontrack_readings_total" in files["metrics.txt"]
    async with migrated_store(f"sqlite://{tmp_path / 'carbontrack.sqlite3'}") as store:
        taken = [event.actor for event in await store.audit_events() if event.action == "diagnostics.taken"]
    assert taken == ["command line", PERSONAL[0]]


def helps(files: dict[str, Any], port: int) -> None:
    """What somebody needs who is to help is there."""
    versions, settings = files["versions.json"], files["configuration.json"]
    assert versions["schema of the database"] == versions["schema of this version"] == max(known_migrations())
    assert versions["packages"]["aiohttp"]
    assert settings["http"]["port"] == port
    assert settings["plugins"]["options"] == {"leaky": {"harmless": MASK, "numbers": [1.5]}}
    assert ("database", "fine") in {(finding["subject"], finding["verdict"]) for finding in files["doctor.json"]}
    assert [device["device"] for device in files["devices.json"]] == ["dev-001"]
    assert "leaky" in {plugin["name"] for plugin in files["plugins.json"]}
    assert {"user_account", "reading"} <= {table["name"] for table in files["tables.json"]}


def test_a_bundle_is_made_without_a_database_and_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "carbontrack.yaml").write_text(f"http: {{port: {free_port()}}}\nmqtt: {{port: {free_port()}}}\n")

    def diagnose() -> subprocess.CompletedProcess[str]:
        return programs.run("carbontrack", "diagnostics", "-o", "a.zip", "--config", "carbontrack.yaml", cwd=tmp_path)

    done = diagnose()
    assert (done.returncode, (tmp_path / "carbontrack.sqlite3").exists()) == (0, False), done.stderr
    assert "Without the database: there is no file yet" in done.stderr
    files = everything((tmp_path / "a.zip").read_bytes())
    assert json.loads(files["versions.json"])["schema of the database"] == ""
    assert "not gathered" in files["devices.json"]
    assert "names of people may have stayed" in files["README.txt"]
    assert "is there already" in diagnose().stderr


@given(st.text(), st.sampled_from([*SECRETS, *PERSONAL]), st.text())
def test_what_is_known_is_taken_out_wherever_it_stands(before: str, secret: str, after: str) -> None:
    redactor = Redactor([*SECRETS, *PERSONAL])
    if len(secret) < 8:  # a short one only where it stands alone: it would be found in words by chance
        before, after = f"{before} ", f" {after}"

    assert secret not in redactor.text(before + secret + after)
    assert secret not in json.dumps(redactor.value({"a": [before + secret + after]}))


def test_what_helps_stays() -> None:
    redactor = Redactor(["secret-word"], ["Grace"], ["kangaita-boiler-2-2026-Kericho"])

    for text in (
        "0006_device_passwords lacks 2026-11-28T01:15:53.610406Z +03:00",
        "kangaita-boiler-2-2026-Kericho: File /usr/lib/python3.11/site-packages/aiohttp/web.py, line 12",
        "PostgreSQL 15.8 (Debian 15.8-0+deb12u1) on x86_64-pc-linux-gnu",
        'carbontrack_readings_total{outcome="committed"} 12345678901234567',
        "gracefully at http://127.0.0.1:8080 and sqlite:///var/lib/carbontrack.sqlite3",
    ):
        assert redactor.text(text) == text
