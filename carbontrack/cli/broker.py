"""The command that prepares a mosquitto, and those that tell devices' passwords."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, from_here, load, stop, with_store, write_new
from carbontrack.config import Config
from carbontrack.model import Device, DeviceStatus, Site

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

if TYPE_CHECKING:
    from carbontrack.certificates import Pair

broker_app = typer.Typer(help="Prepare a broker.", no_args_is_help=True)

NO_KEY = (
    "Passwords are worked out from mqtt.device_key, and there is none. Where the broker is a mosquitto with its "
    "dynamic security plugin, or takes a list of passwords, put a key into secrets.yaml, for example from: "
    "openssl rand -hex 32. Otherwise devices sign in with what was agreed with the broker."
)


@broker_app.command("set-up")
def broker_set_up(
    folder: Annotated[Path, typer.Option(help="Where to write; made if it is not there.")],
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name or address under which devices reach the broker; may be repeated. Default: mqtt.host."
        ),
    ] = None,
    with_devices: Annotated[
        bool, typer.Option("--with-devices", help="Put the accounts of all active devices in, for thousands of them.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write what a mosquitto needs: accounts with their rights, and certificates. What is there already is kept.

    Example: carbontrack broker set-up --folder broker-files --host mqtt.example.org
    """
    settings = load(config)
    sites: list[Site] = []
    if with_devices:

        async def command(store: Store) -> None:
            sites.extend(await store.sites())

        with_store(config, command)
    write_broker_files(settings, folder, host or [settings.mqtt.host], sites)
    typer.echo("Next: put the files in place as deploy/mosquitto/README.md says. Keep ca.key away from the broker.")


def write_broker_files(settings: Config, folder: Path, hosts: Sequence[str], sites: Sequence[Site] = ()) -> None:
    """Certificates for the hosts, and the accounts of the core and of some devices. What is there is kept."""
    from carbontrack.certificates import CertificateError  # noqa: PLC0415  # slow to import, and only needed here
    from carbontrack.dynamic_security import accounts_of, whole_file  # noqa: PLC0415  # as above

    username, password = _core_of(settings)
    key = device_key(settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_certificates(folder, hosts)
    except CertificateError as error:
        stop(f"{folder}: {error}")
    except OSError as error:
        stop(f"{error.filename or folder}: {error.strerror}")
    accounts = accounts_of(key, sites, settings.mqtt.bridges) if sites else []
    content = json.dumps(whole_file(username, password, accounts), indent=1).encode()
    what = f"the core's account, {username}, and {len(accounts)} devices'"
    _write_new(folder, {"dynamic-security.json": content}, what)


@broker_app.command("bridge")
def broker_bridge(
    factory: Annotated[str, typer.Argument(help="The factory that has a core of its own, by its name in addresses.")],
    folder: Annotated[Path, typer.Option(help="Where to write; made if it is not there.")],
    host: Annotated[
        str | None, typer.Option(help="The name under which the site reaches this broker. Default: mqtt.host.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Its port. Default: mqtt.port.")] = None,
    config: ConfigOption = None,
) -> None:
    """At headquarters: write the files by which a site of its own hands on what its devices measure.

    Example: carbontrack broker bridge kangaita --folder bridge-kangaita --host mqtt.example.org
    """
    from carbontrack.bridge import Headquarters, bridge_files  # noqa: PLC0415  # only needed here
    from carbontrack.credentials import bridge_password  # noqa: PLC0415  # as above
    from carbontrack.dynamic_security import BRIDGED_SENSOR  # noqa: PLC0415  # as above

    settings = load(config)
    key, mqtt = device_key(settings), settings.mqtt
    if mqtt.tls is None:
        stop("mqtt.tls is not set: a bridge to a broker without TLS would tell its password to whoever listens.")
    if factory not in mqtt.bridges:
        stop(f"mqtt.bridges does not name {factory!r}. Put it there and restart the core: bridges: {{{factory}: 1}}")

    async def command(store: Store) -> None:
        devices = [site.device for site in await store.sites() if site.factory.slug == factory]
        if not devices and factory not in {each.slug for each in await store.factories()}:
            stop(f"there is no factory {factory!r}; carbontrack factory list has their names")
        strange = [device.device_id for device in devices if device.sensor != BRIDGED_SENSOR]
        if strange:
            text = "not handed on, because here their sensor format is not"
            typer.echo(f"look     {', '.join(strange)}: {text} {BRIDGED_SENSOR}, which what comes by a bridge has.")

    with_store(config, command)
    try:
        authority = mqtt.tls.ca_file.read_bytes() if mqtt.tls.ca_file else None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        stop(f"{error.filename or folder}: {error.strerror}")
    password = bridge_password(key, factory, mqtt.bridges[factory])
    where = Headquarters(host or mqtt.host, port or mqtt.port, authority)
    _write_new(folder, bridge_files(factory, password, where), f"for the site of {factory}, to {where.host}")
    typer.echo("Next: bring the folder to the site by a safe way; docs/deploy/resilient-site.md says where it goes.")


def _core_of(settings: Config) -> tuple[str, str]:
    if settings.mqtt.username is None or settings.mqtt.password is None:
        stop("mqtt.username and mqtt.password are the core's account at the broker: put both into the configuration.")
    return settings.mqtt.username, settings.mqtt.password.get_secret_value()


async def _active(store: Store) -> list[Device]:
    return [site.device for site in await store.sites() if site.device.status is DeviceStatus.ACTIVE]


def device_key(settings: Config) -> str:
    if settings.mqtt.device_key is None:
        stop(NO_KEY)
    return settings.mqtt.device_key.get_secret_value()


def _write_certificates(folder: Path, hosts: Sequence[str]) -> None:
    from carbontrack.certificates import new_authority, new_server  # noqa: PLC0415  # see write_broker_files

    authority = _pair_in(folder, "ca")
    server = _pair_in(folder, "server")
    if server is not None:
        typer.echo(f"kept     server.crt, server.key: valid until {server.ends:%Y-%m-%d}")
        return
    if authority is None:
        authority = new_authority("Carbon Track certificate authority")
        _write_new(folder, {"ca.crt": authority.certificate, "ca.key": authority.key}, _until(authority))
    server = new_server(authority, hosts)
    what = f"for {', '.join(hosts)}, {_until(server)}"
    _write_new(folder, {"server.crt": server.certificate, "server.key": server.key}, what)


def _pair_in(folder: Path, name: str) -> Pair | None:
    from carbontrack.certificates import Pair  # noqa: PLC0415  # see write_broker_files

    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    if not certificate.exists() and not key.exists():
        return None
    if not (certificate.exists() and key.exists()):
        there, missing = (certificate, key) if certificate.exists() else (key, certificate)
        stop(f"{there} is there but not {missing.name}: put it beside it, or move {there.name} away for new ones.")
    return Pair(certificate.read_bytes(), key.read_bytes())


def _until(pair: Pair) -> str:
    return f"valid until {pair.ends:%Y-%m-%d}"


def _write_new(folder: Path, files: Mapping[str, bytes], what: str) -> None:
    """Write files that nobody else may read, certificates apart, and never over what is there."""
    kept = [name for name in files if (folder / name).exists()]
    if kept:
        typer.echo(f"kept     {', '.join(kept)}")
        return
    for name, content in files.items():
        mode = 0o644 if name.endswith(".crt") else 0o600
        write_new(folder / name, content, mode)
    typer.echo(f"written  {', '.join(files)}: {what}")


# --- passwords


def device_password(
    device_id: Annotated[str, typer.Argument(help="The device's name on the wire.")],
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Give it a new password first; the old one ends within seconds.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Print the password with which a device signs in at the broker. Its user name is its id, and so is its client id.

    Example: carbontrack device password ct-kangaita-1
    """
    from carbontrack.credentials import device_password as password_of  # noqa: PLC0415  # its name is taken

    key = device_key(load(config))

    async def command(store: Store) -> None:
        if rotate:
            await store.rotate_password(device_id, by=from_here())
        device = next((site.device for site in await store.sites() if site.device.device_id == device_id), None)
        if device is None:
            stop(f"there is no device {device_id!r}")
        await store.note_handed_out([device], "password", by=from_here())
        typer.echo(password_of(key, device))

    with_store(config, command)


def device_passwords(config: ConfigOption = None) -> None:
    """Print user name and password of every active device as CSV, for a broker that takes a list.

    Example: carbontrack device passwords --config config/carbontrack.yaml
    """
    from carbontrack.credentials import device_password as password_of  # noqa: PLC0415  # as above

    key = device_key(load(config))

    async def command(store: Store) -> None:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(("username", "password"))
        active = await _active(store)
        await store.note_handed_out(active, "password", by=from_here())
        table.writerows((device.device_id, password_of(key, device)) for device in active)

    with_store(config, command)


def device_handout(
    device_id: Annotated[str, typer.Argument(help="The device's name on the wire.")],
    wifi_ssid: Annotated[
        str, typer.Option(help="The network that the box joins; without it, the one that it has.")
    ] = "",
    wifi_password_file: Annotated[
        Path | None, typer.Option(help="A file with the network's password in its first line.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the line that sets a device up, with its password: for its serial line, or carbontrack-node --provision.

    Example: carbontrack device handout ct-kangaita-1
    """
    from carbontrack.handout import HandoutError, Handouts, Wifi  # noqa: PLC0415  # loads what only this needs

    handouts = Handouts.of(load(config))
    try:
        wifi_password = wifi_password_file.read_text("utf-8").partition("\n")[0] if wifi_password_file else ""
    except OSError as error:
        stop(f"{wifi_password_file}: {error.strerror}")
    wifi = Wifi(wifi_ssid, wifi_password)

    async def command(store: Store) -> None:
        device = next((site.device for site in await store.sites() if site.device.device_id == device_id), None)
        if device is None:
            stop(f"there is no device {device_id!r}")
        try:
            line = handouts.line(device, wifi)
        except HandoutError as error:
            stop(str(error))
        await store.note_handed_out([device], "file", by=from_here())
        typer.echo(line, nl=False)

    with_store(config, command)
