"""The files of deploy/container. No engine runs them here: what they name is compared with what there is.

What needs no engine is run: a health check on a real core, the reader's account on a real PostgreSQL, the broker's
start in a shell.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from ruamel.yaml import YAML

from carbontrack.app import run_core, run_web
from carbontrack.config import load_config
from carbontrack.store import migrate
from tests.support import programs
from tests.support.mosquitto import Broker, core_config
from tests.support.postgres import PASSWORD
from tests.support.prometheus import FILES as PROMETHEUS
from tests.support.system import needs
from tests.support.world import eventually, give_schema
from tests.test_docs import ROOT, check_call

FILES = ROOT / "deploy" / "container"
DOCUMENT = (ROOT / "docs" / "deploy" / "containers.md").read_text()
COMPOSE = YAML(typ="safe", pure=True).load(FILES / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KEYS = {
    *("image", "build", "init", "read_only", "tmpfs", "cap_drop", "cap_add", "security_opt", "environment", "command"),
    *("entrypoint", "restart", "stop_grace_period", "depends_on", "ports", "volumes", "healthcheck", "secrets"),
    *("profiles", "shm_size", "ulimits"),
}
"""Those of the Compose specification that are used: a slip is none of them."""
TOOLS = re.compile(r"\b(gcc|g\+\+|make|build-essential|python3-dev|pip install|cmake)\b")


def instructions(name: str) -> list[tuple[str, str]]:
    """The instructions of a Containerfile, with continued lines joined."""
    lines = [line for line in (FILES / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def stages(name: str) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions(name):
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def values(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


# --- the images


def test_the_cores_image_installs_by_hashes_and_has_no_build_tools_in_its_last_stage() -> None:
    build, last = stages("Containerfile")

    assert any(
        "--require-hashes --only-binary :all: --requirement requirements.lock" in run for run in values(build, "RUN")
    )
    assert any("--no-deps --no-build-isolation ." in run for run in values(build, "RUN"))
    assert not any(TOOLS.search(run) for run in values(last, "RUN"))
    for run in (*values(build, "RUN")[-1:], *values(last, "RUN")[:1]):
        assert "pip uninstall --yes setuptools wheel pip" in run
    assert values(build, "FROM")[0].split()[0] == values(last, "FROM")[0], (
        "the environment's Python is at the same place"
    )


def test_the_core_runs_as_nobody_in_particular_and_starts_a_command_that_there_is() -> None:
    last = stages("Containerfile")[-1]
    (user,), (entry,), (command,) = (values(last, word) for word in ("USER", "ENTRYPOINT", "CMD"))

    assert user == "10001:10001"
    assert json.loads(entry) == ["carbontrack"]
    check_call(shlex.join(json.loads(command)))
    settings = re.findall(r"(CARBONTRACK_\w+)=(\S+)", values(last, "ENV")[0])
    assert load_config(None, dict(settings)).http.port == 8080


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.mosquitto"])
def test_what_an_image_copies_is_there_and_not_left_out(name: str) -> None:
    left_out = [line.strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()]
    for stage in stages(name):
        for copied in values(stage, "COPY"):
            words = [word for word in copied.split() if not word.startswith("--chmod")]
            if words[0].startswith("--from"):
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert not any(source == out or source.startswith(f"{out}/") for out in left_out), source


def test_no_secret_gets_into_an_image() -> None:
    left_out = (ROOT / ".dockerignore").read_text().splitlines()

    assert {"/config/secrets.yaml", "/deploy/container/secrets", "/deploy/container/site", "/broker-files"} <= {
        *left_out
    }


def health_check(name: str) -> list[str]:
    (check,) = values(stages(name)[-1], "HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD ")[2])
    return command


async def test_the_health_check_of_the_core_asks_whether_it_is_ready(mosquitto: Broker, tmp_path: Path) -> None:
    program, *arguments = health_check("Containerfile")
    assert program == "python"
    config = core_config(mosquitto, f"sqlite://{tmp_path / 'core.sqlite3'}")
    await migrate(config.database.url)

    async with run_core(config) as core, run_web(core) as url:
        environment = os.environ | {"CARBONTRACK_HTTP__PORT": url.rpartition(":")[2]}

        async def ends_with() -> int:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, env=environment, stderr=subprocess.DEVNULL
            )
            return await process.wait()

        await eventually(lambda: core.ingest.connected)
        assert await ends_with() == 0
        mosquitto.stop()
        await eventually(lambda: not core.ingest.connected)
        assert await ends_with() == 1
        mosquitto.start()


# --- the broker's image


def test_the_brokers_image_changes_what_it_means_to_change() -> None:
    (run,) = (run for run in values(stages("Containerfile.mosquitto")[0], "RUN") if run.startswith("sed "))
    shell = needs("sh", package="dash")
    shipped = (ROOT / "deploy" / "mosquitto" / "mosquitto.conf").read_text()
    changes = run.removeprefix("sed -i ").rpartition(" ")[0].replace("$(uname -m)", "aarch64")
    done = subprocess.run([shell, "-c", f"sed {changes}"], input=shipped, capture_output=True, text=True, check=True)

    before, after = shipped.splitlines(), done.stdout.splitlines()
    assert [line for line in after if line not in before] == [
        "plugin /usr/lib/aarch64-linux-gnu/mosquitto_dynamic_security.so",
        "log_dest stderr",
    ]


def test_the_brokers_start_puts_its_files_in_place_and_replaces_accounts_that_were_cut_off(tmp_path: Path) -> None:
    given, state = tmp_path / "given", tmp_path / "state"
    (tmp_path / "etc" / "certs").mkdir(parents=True)
    given.mkdir()
    for name in ("broker_certificate", "broker_key"):
        (given / name).write_text(name)
    (given / "broker_accounts").write_text('{\n  "clients": []\n}\n')
    text = (FILES / "mosquitto-start").read_text()
    for own, there in {
        "/run/secrets": given,
        "/var/lib/mosquitto": state,
        "/run/mosquitto": tmp_path / "run",
        "/etc/mosquitto": tmp_path / "etc",
        "-o mosquitto -g mosquitto": f"-o {getpass.getuser()}",
        "exec mosquitto -c": "exec echo started with",
    }.items():
        assert own in text
        text = text.replace(own, str(there))

    def start() -> str:
        return subprocess.run(["/bin/sh"], input=text, capture_output=True, text=True, check=True).stdout

    accounts = state / "dynamic-security.json"
    assert start() == f"started with {tmp_path}/etc/mosquitto.conf\n"
    assert (tmp_path / "etc" / "certs" / "server.key").stat().st_mode & 0o777 == 0o600
    assert accounts.read_text() == '{\n  "clients": []\n}\n'
    accounts.write_text('{\n  "clients": ["of the core"]\n}\n')
    start()
    assert "of the core" in accounts.read_text(), "what the core has made stays"
    accounts.write_text('{\n  "clients": ["of')
    start()
    assert accounts.read_text() == '{\n  "clients": []\n}\n'


# --- compose.yaml


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_only_keys_that_there_are(name: str) -> None:
    service = SERVICES[name]

    assert service.keys() <= KEYS
    assert ("/" in service["image"]) == ("build" not in service) or service["image"] == "carbontrack"
    if "/" in service["image"]:
        assert re.search(r":[v\d]", service["image"]), "an image without a version is another one tomorrow"


def test_the_parts_are_the_five_and_what_sets_them_up() -> None:
    assert {"core", "postgres", "mosquitto", "prometheus", "grafana"} <= SERVICES.keys()
    assert COMPOSE.keys() == {"name", "x-core", "services", "networks", "volumes", "secrets"}


@pytest.mark.parametrize("name", SERVICES)
def test_the_volumes_secrets_and_files_that_a_service_names_are_there(name: str) -> None:
    service = SERVICES[name]
    for secret in service.get("secrets", []):
        assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not source.startswith("."):
            assert source in COMPOSE["volumes"]
        elif source != "./site":
            assert (FILES / source).exists(), source
    if "build" in service:
        assert (FILES / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert (FILES / service["build"]["context"]).resolve() == ROOT


def test_every_volume_and_secret_is_of_use_and_the_document_says_how_a_secret_is_made() -> None:
    text = (FILES / "compose.yaml").read_text()
    for volume in COMPOSE["volumes"]:
        assert f"{volume}:/" in text
    used = [
        secret if isinstance(secret, str) else secret["source"]
        for service in SERVICES.values()
        for secret in service.get("secrets", [])
    ]
    assert set(used) == COMPOSE["secrets"].keys()
    (names,) = re.findall(r"for name in (.+?); do", DOCUMENT)
    by_hand = {f"./secrets/{name}-password" for name in names.split()} | {"./secrets/metrics-token"}
    files = {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert {file for file in files if file.startswith("./secrets")} == by_hand
    assert "> secrets/metrics-token" in DOCUMENT


def test_secrets_are_files_and_never_values() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|KEY|SECRET", key):
                assert str(value).startswith(("/run/secrets/", "/var/lib/carbontrack/")), (name, key)
        for ours in re.findall(r"/run/secrets/(\w+)", json.dumps(service)):
            assert ours in service["secrets"], (name, ours)


def test_each_waits_for_those_that_it_needs_and_those_say_when_they_are_well() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES
            if how["condition"] == "service_healthy":
                has_check = "healthcheck" in SERVICES[other] or other in {"core", "mosquitto"}
                assert has_check, other
            if how["condition"] == "service_completed_successfully":
                assert "restart" not in SERVICES[other]
    order: list[str] = []
    while len(order) < len(SERVICES):
        ready = [name for name in SERVICES if name not in order and {*SERVICES[name].get("depends_on", {})} <= {*order}]
        assert ready, "a circle"
        order += ready
    assert order.index("postgres") < order.index("migrate") < order.index("core")
    assert order.index("mosquitto") < order.index("core") < order.index("prometheus") < order.index("grafana")


@pytest.mark.parametrize("name", ["core", "migrate", "init"])
def test_the_cores_services_start_commands_that_there_are_with_settings_that_there_are(name: str) -> None:
    service = SERVICES[name]
    entry = service.get("entrypoint", ["carbontrack"])

    assert entry[0] == "carbontrack"
    check_call(shlex.join([*entry[1:], *service["command"]]))
    settings = {key: str(value) for key, value in service["environment"].items() if key != "CARBONTRACK_CONFIG"}
    config = load_config(None, settings)
    assert config.mqtt.host in SERVICES
    (subnet,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert config.http.trusted_proxies == (f"{subnet['gateway']}/32",)
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_the_set_up_makes_a_certificate_for_the_name_by_which_the_core_calls_the_broker(tmp_path: Path) -> None:
    environment = {name: str(value) for name, value in SERVICES["init"]["environment"].items()}
    done = programs.run(
        "carbontrack",
        *("init", tmp_path / "site", "--database", f"sqlite://{tmp_path / 'core.sqlite3'}", "--password-stdin"),
        *("--broker-host", "mqtt.example.org", "--public-url", "https://carbon.example.org"),
        *("--admin", "chief@example.org"),
        cwd=tmp_path,
        env=programs.environment(**environment),
        text="seven green tea baskets\n",
    )
    assert done.returncode == 0, done.stderr
    for name in ("broker_certificate", "broker_key", "broker_accounts"):
        assert (tmp_path / COMPOSE["secrets"][name]["file"]).is_file()
    certificate = x509.load_pem_x509_certificate((tmp_path / "site" / "broker" / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"mqtt.example.org", "mosquitto"} <= {*names.get_values_for_type(x509.DNSName)}
    (token,) = re.findall(r"^metrics_token: *(.+)$", (tmp_path / "site" / "secrets.yaml").read_text(), re.MULTILINE)
    assert re.fullmatch("[0-9a-f]{64}", token), "as the sed of the document takes it"


def test_only_the_broker_is_open_to_other_machines() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published.pop("mosquitto") == ["8883:8883"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert "postgres" not in published


def test_the_hosts_and_ports_by_which_services_call_each_other_are_theirs() -> None:
    said = json.dumps(SERVICES["grafana"]["environment"]) + (FILES / "prometheus.yml").read_text()
    for host, port in re.findall(r"\b([a-z]+):(\d{4})\b", said.replace("localhost:9093", "")):
        assert (host, port) in {("postgres", "5432"), ("prometheus", "9090"), ("core", "8080")}


def test_prometheus_in_a_container_differs_by_its_target_only() -> None:
    def settings(path: Path) -> Any:
        return YAML(typ="safe", pure=True).load(path)

    own, shipped = settings(FILES / "prometheus.yml"), settings(PROMETHEUS / "prometheus.yml")
    assert own["scrape_configs"][0]["static_configs"][0].pop("targets") == ["core:8080"]
    assert shipped["scrape_configs"][0]["static_configs"][0].pop("targets") == ["localhost:8080"]
    assert own == shipped


async def test_the_account_of_the_dashboards_is_made_by_the_services_own_words(
    postgres_url: str, tmp_path: Path
) -> None:
    psql = needs("psql", package="postgresql-client")
    await give_schema(postgres_url)
    server, database = postgres_url.rsplit("/", 1)
    _, port = server.rsplit(":", 1)
    (tmp_path / "postgres_password").write_text(PASSWORD)
    (tmp_path / "reader_password").write_text("it's the reader's")
    (words,) = SERVICES["reader"]["command"]
    for own, there in {
        "$$": "$",
        "/run/secrets": str(tmp_path),
        "/reader.sql": str(ROOT / "deploy" / "grafana" / "reader.sql"),
        "--host postgres": f"--host 127.0.0.1 --port {port} --dbname {database}",
        "psql ": f"{psql} ",
    }.items():
        assert own in words
        words = words.replace(own, there)
    owner = await asyncpg.connect(postgres_url)
    try:
        for _ in range(2):
            command = [*SERVICES["reader"]["entrypoint"], words]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        reader = await asyncpg.connect(
            host="127.0.0.1", port=int(port), database=database, user="carbontrack_reader", password="it's the reader's"
        )
        assert await reader.fetch("SELECT name FROM factory") == []
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.execute("CREATE TABLE mine (n int)")
        await reader.close()
    finally:
        await owner.execute("DROP OWNED BY carbontrack_reader; DROP ROLE carbontrack_reader")
        await owner.close()


def test_the_documents_commands_name_services_that_there_are() -> None:
    named = set(re.findall(r"docker compose (?:run --rm|exec) (\w+)", DOCUMENT))

    assert named == {"init", "core"}
    assert shutil.which("sh")
    for options in re.findall(r"run --rm init (.+)", DOCUMENT):
        check_call(f"init /etc/carbontrack {re.sub(r'[$][(].*?[)]', 'secret', options)}")
