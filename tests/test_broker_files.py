"""`carbontrack broker set-up` and the commands that print passwords, as an operator uses them."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from carbontrack.certificates import CertificateError, Pair, new_authority, new_server
from carbontrack.cli import app
from carbontrack.credentials import bridge_password, device_password
from carbontrack.model import DeviceStatus, Site
from tests.support.deployed import CORE, CORE_PASSWORD, DEVICE_KEY, ROOT, Installation
from tests.support.world import migrated_store, register

UNIT = ROOT / "deploy" / "mosquitto" / "carbontrack.conf"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path, f"sqlite://{tmp_path / 'core.sqlite3'}")


@pytest.fixture
def sites(installation: Installation) -> list[Site]:
    """Two active devices and a disabled one."""

    async def fill() -> list[Site]:
        async with migrated_store(installation.database_url) as store:
            await register(store, "dev-001", "dev-002", "dev-003")
            await store.change_device("dev-003", status=DeviceStatus.DISABLED)
            return await store.sites()

    return asyncio.run(fill())


def run(installation: Installation, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(installation.folder / "carbontrack.yaml")])


def set_up(installation: Installation, *words: str) -> Result:
    return run(installation, "broker", "set-up", "--folder", str(installation.files), *words)


def without(installation: Installation, key: str) -> None:
    path = installation.folder / "carbontrack.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if f" {key}:" not in line))


# --- set-up


def test_it_writes_files_that_nobody_else_may_read(installation: Installation) -> None:
    done = set_up(installation)

    assert done.exit_code == 0, done.output
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in installation.files.iterdir()}
    assert modes == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "server.crt": 0o644,
        "server.key": 0o600,
        "dynamic-security.json": 0o600,
    }
    assert stat.S_IMODE(installation.files.stat().st_mode) == 0o700


def test_the_only_account_is_the_cores_and_its_password_is_nowhere(installation: Installation) -> None:
    done = set_up(installation)

    text = (installation.files / "dynamic-security.json").read_text()
    assert [client["username"] for client in json.loads(text)["clients"]] == [CORE]
    for secret in (CORE_PASSWORD, DEVICE_KEY):
        assert secret not in text
        assert secret not in done.output


def test_the_devices_come_with_it_when_they_are_asked_for_and_only_the_active_ones(
    installation: Installation, sites: list[Site]
) -> None:
    set_up(installation, "--with-devices")

    text = (installation.files / "dynamic-security.json").read_text()
    assert [client["username"] for client in json.loads(text)["clients"]] == [CORE, "dev-001", "dev-002"]
    assert device_password(DEVICE_KEY, sites[0].device) not in text


def test_it_never_writes_over_what_is_there(installation: Installation) -> None:
    set_up(installation)
    before = {path: path.read_bytes() for path in installation.files.iterdir()}

    again = set_up(installation, "--host", "elsewhere.example.org")

    assert again.exit_code == 0
    assert again.output.count("kept") == 2
    assert {path: path.read_bytes() for path in installation.files.iterdir()} == before


def test_a_new_server_certificate_is_of_the_same_authority(installation: Installation) -> None:
    set_up(installation)
    authority = (installation.files / "ca.crt").read_bytes()
    for name in ("server.crt", "server.key"):
        (installation.files / name).unlink()

    set_up(installation, "--host", "mqtt.example.org", "--host", "10.0.0.5")

    assert (installation.files / "ca.crt").read_bytes() == authority
    server = x509.load_pem_x509_certificate((installation.files / "server.crt").read_bytes())
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mqtt.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5"]
    assert server.not_valid_after_utc > datetime.now(UTC) + timedelta(days=365 * 4)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("username", "password needs username"),
        ("password", "mqtt.username and mqtt.password are the core's account"),
        ("device_key", "openssl rand -hex 32"),
    ],
)
def test_what_is_missing_in_the_configuration_is_told(key: str, told: str, installation: Installation) -> None:
    without(installation, key)

    done = set_up(installation)

    assert done.exit_code == 2
    assert told in done.output
    assert not installation.files.exists()


@pytest.mark.parametrize("missing", ["ca.key", "server.key", "server.crt"])
def test_half_a_pair_is_told_and_nothing_is_written(missing: str, installation: Installation) -> None:
    set_up(installation)
    (installation.files / missing).unlink()
    (installation.files / "dynamic-security.json").unlink()

    done = set_up(installation)

    if missing == "ca.key":  # kept away from here, as it should be: the server has its certificate already
        (installation.files / "server.crt").unlink()
        (installation.files / "server.key").unlink()
        done = set_up(installation)
    assert done.exit_code == 2
    assert f"but not {missing}" in done.output


@pytest.mark.parametrize("host", ["", "mqtt.exämple.org"])
def test_a_host_that_cannot_be_in_a_certificate_is_told(host: str, installation: Installation) -> None:
    done = set_up(installation, "--host", host)

    assert done.exit_code == 2
    assert "is no host name" in done.output


def test_the_key_must_be_that_of_the_authority() -> None:
    one, other = new_authority("one"), new_authority("other")

    with pytest.raises(CertificateError, match="not that of its certificate"):
        new_server(Pair(one.certificate, other.key), ["localhost"])
    with pytest.raises(CertificateError, match="cannot be read"):
        new_server(Pair(b"", b""), ["localhost"])


def test_strict_clients_accept_the_authority() -> None:
    context = ssl.create_default_context(cadata=new_authority("strict").certificate.decode())

    assert len(context.get_ca_certs()) == 1


# --- before a start of the broker


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (None, False),
        ("", False),
        ('{\n\t"clients":\t[{\n\t\t\t"username":\t"core"\n\t\t}', False),
        ('{\n\t"clients":\t[]\n}', True),
    ],
)
def test_a_file_of_accounts_that_was_cut_off_is_replaced_before_the_start(
    content: str | None, kept: bool, tmp_path: Path
) -> None:
    first, live = tmp_path / "first.json", tmp_path / "live.json"
    first.write_text("as set up")
    if content is not None:
        live.write_text(content)
    (command,) = re.findall(r"^ExecStartPre=/bin/sh -c '(.*)'$", UNIT.read_text(), re.MULTILINE)
    for shipped, own in (
        ("/var/lib/mosquitto/dynamic-security.json", str(live)),
        ("/etc/mosquitto/dynamic-security.json", str(first)),
        ("-o mosquitto -g mosquitto ", "" if os.getuid() else f"-o {os.getuid()} -g {os.getgid()} "),
    ):
        assert shipped in command
        command = command.replace(shipped, own)

    subprocess.run(["/bin/sh", "-c", command], check=True)

    assert live.read_text() == (content if kept else "as set up")
    assert kept or stat.S_IMODE(live.stat().st_mode) == 0o600


def test_what_the_set_up_writes_is_taken_for_whole(installation: Installation) -> None:
    set_up(installation)

    assert (installation.files / "dynamic-security.json").read_text().splitlines()[-1] == "}"


# --- passwords


def test_the_password_of_a_device_is_printed_as_often_as_one_likes(
    installation: Installation, sites: list[Site]
) -> None:
    for _ in range(2):
        done = run(installation, "device", "password", "dev-001")

        assert done.exit_code == 0, done.output
        assert done.output == device_password(DEVICE_KEY, sites[0].device) + "\n"


def test_rotating_prints_another_one_and_leaves_the_others(installation: Installation, sites: list[Site]) -> None:
    before = run(installation, "device", "passwords").output

    rotated = run(installation, "device", "password", "dev-001", "--rotate").output.strip()

    after = run(installation, "device", "passwords").output
    assert rotated not in before
    assert f"dev-001,{rotated}\n" in after
    assert before.splitlines()[2] == after.splitlines()[2]


def test_a_list_has_every_active_device(installation: Installation, sites: list[Site]) -> None:
    rows = list(csv.DictReader(run(installation, "device", "passwords").output.splitlines()))

    assert {row["username"]: row["password"] for row in rows} == {
        site.device.device_id: device_password(DEVICE_KEY, site.device) for site in sites[:2]
    }


@pytest.mark.parametrize("options", [(), ("--rotate",)])
def test_a_device_that_is_not_there_is_told(
    options: tuple[str, ...], installation: Installation, sites: list[Site]
) -> None:
    done = run(installation, "device", "password", "nobody", *options)

    assert done.exit_code == 2
    assert "there is no device 'nobody'" in done.output


@pytest.mark.parametrize("words", [("password", "dev-001"), ("passwords",)])
def test_without_a_key_the_commands_say_what_to_do(words: tuple[str, ...], installation: Installation) -> None:
    without(installation, "device_key")

    done = run(installation, "device", *words)

    assert done.exit_code == 2
    assert "openssl rand -hex 32" in done.output


def test_a_key_that_could_be_guessed_is_refused(installation: Installation) -> None:
    path = installation.folder / "secrets.yaml"
    path.write_text(path.read_text().replace(DEVICE_KEY, "short"))

    done = run(installation, "device", "passwords")

    assert done.exit_code == 2
    assert "at least 32 characters" in done.output


# --- the bridge of a site of its own


def write_bridge(installation: Installation, factory: str = "kangaita") -> Result:
    folder = installation.folder / "bridge"
    return run(installation, "broker", "bridge", factory, "--folder", str(folder), "--host", "mqtt.example.org")


def name_bridges(installation: Installation, bridges: str) -> None:
    path = installation.folder / "carbontrack.yaml"
    path.write_text(f"{path.read_text()}  bridges: {bridges}\n")


def test_the_files_of_a_bridge_are_for_their_owner_alone(installation: Installation, sites: list[Site]) -> None:
    assert set_up(installation).exit_code == 0
    name_bridges(installation, "{kangaita: 3}")

    done = write_bridge(installation)

    assert done.exit_code == 0, done.output
    folder = installation.folder / "bridge"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == dict.fromkeys(("mosquitto.conf", "acl", "passwords", "secrets.yaml"), 0o600) | {"ca.crt": 0o644}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "ca.crt").read_bytes() == (installation.files / "ca.crt").read_bytes()
    lines = (folder / "mosquitto.conf").read_text().splitlines()
    assert "address mqtt.example.org:8883" in lines
    assert f"remote_password {bridge_password(DEVICE_KEY, 'kangaita', 3)}" in lines
    assert (folder / "secrets.yaml").read_text().split()[1] not in (folder / "passwords").read_text()
    assert "kept" in write_bridge(installation).output


@pytest.mark.parametrize(
    ("bridges", "factory", "without_key", "told"),
    [
        ("{}", "kangaita", "", "mqtt.bridges does not name 'kangaita'"),
        ("{elsewhere: 1}", "elsewhere", "", "there is no factory 'elsewhere'"),
        ("{kangaita: 1}", "kangaita", "device_key", "mqtt.device_key"),
    ],
)
def test_a_bridge_that_cannot_be_is_refused_with_what_to_do(
    installation: Installation, sites: list[Site], bridges: str, factory: str, without_key: str, told: str
) -> None:
    assert set_up(installation).exit_code == 0
    name_bridges(installation, bridges)
    without(installation, without_key or "nothing")

    done = write_bridge(installation, factory)

    assert done.exit_code != 0
    assert told in done.output
    assert not (installation.folder / "bridge").exists()


def test_devices_of_a_factory_with_a_bridge_have_no_accounts(installation: Installation, sites: list[Site]) -> None:
    name_bridges(installation, "{kangaita: 1}")

    assert set_up(installation, "--with-devices").exit_code == 0

    accounts = json.loads((installation.files / "dynamic-security.json").read_text())
    assert [client["username"] for client in accounts["clients"]] == [CORE, "bridge/kangaita"]
    written = {acl["topic"] for acl in accounts["roles"][1]["acls"] if acl["acltype"] == "publishClientSend"}
    assert {topic.split("/")[2] for topic in written} == {"dev-001", "dev-002"}
