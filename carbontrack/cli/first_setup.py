"""The command that sets a new site up in one sitting: configuration, secrets, certificates, schema, first person."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from carbontrack.cli.broker import write_broker_files
from carbontrack.cli.common import from_here, load, run, stop, with_store, write_new
from carbontrack.cli.people import EMAIL, new_password_hash
from carbontrack.model import Role, UserStatus

if TYPE_CHECKING:  # the store takes a third of a command's start
    from carbontrack.store import Store

CONFIG = """\
# Made by `carbontrack init`. docs/configuration.md explains every setting; those that are not here have their defaults.
# Look whether all is well with: carbontrack doctor --config {path}

database:
  url: !secret database_url

mqtt:
  # The core is beside the broker here. Another name must be one of the broker's certificate.
  host: localhost
  port: 8883
  tls:
    ca_file: broker/ca.crt
  username: carbontrack-core
  password: !secret mqtt_password
  device_key: !secret mqtt_device_key

devices:
  # What devices are told of the broker when they are handed out.
  broker_host: {broker_host}

http:
  host: 127.0.0.1
  port: {port}
  # A reverse proxy on this machine ends https: docs/security.md
  trusted_proxies: [127.0.0.1]
  public_url: {public_url}
  secret_key: !secret secret_key
  metrics_token: !secret metrics_token

retention:
  archive_folder: {archive}

reports:
  signing_key_file: {signing_key}

site:
  time_zone: {time_zone}
"""
SECRETS = """\
# Made by `carbontrack init`. Keep it from others, and keep a copy where the backups are: the devices' passwords are
# worked out from mqtt_device_key.
database_url: {database_url}
mqtt_password: {mqtt_password}
mqtt_device_key: {mqtt_device_key}
secret_key: {secret_key}
metrics_token: {metrics_token}
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a new site has to be told."""

    database_url: str
    broker_host: str
    public_url: str
    port: int
    time_zone: str
    data_dir: Path | None
    """Where the core writes; None: beside the configuration."""


def init(
    folder: Annotated[Path, typer.Argument(help="Where the site's files go; made if it is not there.")],
    database: Annotated[
        str | None, typer.Option(help="sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME; asked for without it.")
    ] = None,
    broker_host: Annotated[
        str | None, typer.Option(help="The name or address under which devices reach the broker; asked for.")
    ] = None,
    public_url: Annotated[str | None, typer.Option(help="Where people find the portal; asked for.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that the portal listens on here.")] = 8080,
    time_zone: Annotated[str, typer.Option(help="The time zone in which days begin.")] = "Africa/Nairobi",
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the core keeps what it writes: archive, signing key, SQLite; without it, FOLDER."),
    ] = None,
    admin: Annotated[
        str | None, typer.Option(help="The address of the first person, who is of headquarters; asked for.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the first person's password from standard input.")
    ] = False,
) -> None:
    """Set a new site up: configuration, secrets, certificate authority, the broker's files, schema, first person.

    What is there already is kept, so it may be run again after something was mended.

    Example: carbontrack init /etc/carbontrack --broker-host mqtt.example.org
    """
    path = folder / "carbontrack.yaml"
    if path.exists():
        typer.echo(f"kept     {path}")
    else:
        _write_configuration(path, _asked(folder, database, broker_host, public_url, port, time_zone, data_dir))
    settings = load(path)
    hosts = [*dict.fromkeys([broker_host or settings.mqtt.host, settings.mqtt.host, "127.0.0.1"])]
    write_broker_files(settings, folder / "broker", hosts)
    _migrate(path)
    _add_first_person(path, admin, password_stdin=password_stdin)
    typer.echo(
        f"\nNext: put the broker's files in place as deploy/mosquitto/README.md says; then\n"
        f"  carbontrack doctor --config {path}\n"
        f"  carbontrack serve --config {path}\n"
        f"Keep {folder / 'broker' / 'ca.key'} away from the broker, and a copy of secrets.yaml with your backups."
    )


def _asked(
    folder: Path,
    database: str | None,
    broker_host: str | None,
    public_url: str | None,
    port: int,
    time_zone: str,
    data_dir: Path | None,
) -> Answers:
    """What was given, and what a person is asked for."""
    data_dir = data_dir.absolute() if data_dir else None
    beside = f"sqlite://{(data_dir or folder.absolute()) / 'carbontrack.sqlite3'}"
    question = "Database (PostgreSQL for a fleet: postgres://USER:PASSWORD@HOST/NAME)"
    database = database or typer.prompt(question, default=beside)
    if urlsplit(database).scheme not in ("sqlite", "postgres", "postgresql"):
        stop(f"--database must begin with sqlite:// or postgres://, not {urlsplit(database).scheme or database!r}")
    broker_host = broker_host or typer.prompt(
        "Name or address under which devices reach the broker", default="localhost"
    )
    public_url = public_url or typer.prompt("Where people find the portal", default=f"http://localhost:{port}")
    return Answers(database, broker_host, public_url, port, time_zone, data_dir)


def _write_configuration(path: Path, answers: Answers) -> None:
    """Both files. The secrets first: a configuration without them is never there."""
    told = SECRETS.format(
        database_url=json.dumps(answers.database_url),
        **{name: secrets.token_hex(32) for name in ("mqtt_password", "mqtt_device_key", "secret_key", "metrics_token")},
    )
    data = answers.data_dir or Path()
    text = CONFIG.format(
        path=path,
        port=answers.port,
        broker_host=json.dumps(answers.broker_host),
        public_url=json.dumps(answers.public_url),
        time_zone=json.dumps(answers.time_zone),
        archive=data / "archive",
        signing_key=data / "carbontrack-signing-key.pem",
    )
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        for file, content, mode in ((path.parent / "secrets.yaml", told, 0o600), (path, text, 0o640)):
            if file.exists():
                typer.echo(f"kept     {file}")
                continue
            write_new(file, content.encode(), mode)
            typer.echo(f"written  {file}")
    except OSError as error:
        stop(f"{error.filename or path.parent}: {error.strerror}")


def _migrate(path: Path) -> None:
    from carbontrack.store import migrate  # noqa: PLC0415  # see cli.common.run

    async def main() -> None:
        applied = await migrate(load(path).database.url)
        typer.echo(f"database {len(applied)} migrations applied" if applied else "database its schema is up to date")

    run(main)


def _add_first_person(path: Path, email: str | None, *, password_stdin: bool) -> None:
    """Somebody of headquarters must be there to let the others in."""

    async def command(store: Store) -> None:
        there = await store.users(role=Role.HQ_MANAGER, status=UserStatus.ACTIVE)
        if there:
            typer.echo(f"kept     {there[0].email}, who may let others in")
            return
        address = email or typer.prompt("E-mail address of the first person, who is of headquarters")
        if not EMAIL.fullmatch(address):
            stop(f"{address!r} is not an e-mail address")
        password_hash = new_password_hash(password_stdin, address)
        await store.add_user(address, password_hash, Role.HQ_MANAGER, by=from_here())
        typer.echo(f"added    {address}, who may sign in and let others in")

    with_store(path, command)
