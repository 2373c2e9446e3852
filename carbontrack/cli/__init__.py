"""The command line. Every command says what it does, with an example; errors say what to do and end with 2."""

from __future__ import annotations

import importlib.metadata
import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli.accounting import add_commands as add_accounting
from carbontrack.cli.alert import alert_app
from carbontrack.cli.archive import archive_app
from carbontrack.cli.audit import audit_app
from carbontrack.cli.backup import add_commands as add_backup
from carbontrack.cli.broker import broker_app, device_handout, device_password, device_passwords
from carbontrack.cli.common import ConfigOption, load, opened_store, run, stop
from carbontrack.cli.diagnostics import diagnostics
from carbontrack.cli.doctor import doctor
from carbontrack.cli.firmware import firmware_app
from carbontrack.cli.first_setup import init
from carbontrack.cli.openapi import openapi
from carbontrack.cli.people import user_app
from carbontrack.cli.plugins import plugins_app
from carbontrack.cli.quarantine import quarantine_app
from carbontrack.cli.registry import device_app, factory_app
from carbontrack.cli.reload import reload
from carbontrack.cli.reports import report_app
from carbontrack.cli.telling import alert_outbox, alert_test
from carbontrack.config import Config, load_config

app = typer.Typer(
    name="carbontrack",
    help="Continuous CO2 measurement for the chimneys of tea factories.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold passwords
    rich_markup_mode=None,
)
app.add_typer(device_app, name="device")
app.add_typer(factory_app, name="factory")
app.add_typer(firmware_app, name="firmware")
app.add_typer(user_app, name="user")
app.add_typer(audit_app, name="audit")
app.add_typer(plugins_app, name="plugins")
app.add_typer(report_app, name="report")
app.add_typer(archive_app, name="archive")
app.add_typer(broker_app, name="broker")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(alert_app, name="alert")
alert_app.command("test")(alert_test)
alert_app.command("outbox")(alert_outbox)
device_app.command("password")(device_password)
device_app.command("passwords")(device_passwords)
device_app.command("handout")(device_handout)

add_accounting(app)
add_backup(app)
app.command()(reload)
app.command()(openapi)
app.command()(doctor)
app.command()(diagnostics)
app.command()(init)

# --- which version


def _show_version(*, wanted: bool) -> None:
    """Print version and schema, and end: before a command is looked for."""
    if wanted:
        typer.echo(_of_this_version())
        raise typer.Exit


def _of_this_version() -> str:
    from carbontrack.store import newest_migration  # noqa: PLC0415  # see run

    return f"Carbon Track {importlib.metadata.version('carbontrack')}, schema {newest_migration()}"


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and its schema.", is_eager=True)
    ] = False,
) -> None:
    """Continuous CO2 measurement for the chimneys of tea factories."""
    _show_version(wanted=version)


@app.command()
def version(config: ConfigOption = None) -> None:
    """Say the version, the schema that it works with, and the schema that the database has.

    It ends with 1 where the two are not the same.

    Example: carbontrack version --config config/carbontrack.yaml
    """
    from carbontrack.store import newest_migration, schema_of  # noqa: PLC0415  # see run

    typer.echo(_of_this_version())
    there = ""

    async def main() -> None:
        nonlocal there
        there = await schema_of(load(config).database.url)

    run(main)
    typer.echo(f"The database has {there or 'no schema yet'}.")
    if there != newest_migration():
        raise typer.Exit(1)


# --- running


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the core and the portals on the configured database and broker.

    Example: carbontrack serve --config config/carbontrack.yaml
    """
    from carbontrack.app import serve as serve_core  # noqa: PLC0415  # see run
    from carbontrack.diagnostics import of_core  # noqa: PLC0415  # see run
    from carbontrack.logs import set_up_logging  # noqa: PLC0415  # see run

    settings = load(config)
    recent = set_up_logging(settings.logging.level, settings.logging.format)
    diagnose = partial(of_core, config.parent if config else None, recent.lines)
    run(lambda: serve_core(settings, lambda: load_config(config, os.environ), diagnose))


@app.command("web")
def serve_web(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on; without it, http.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port to listen on; without it, http.port.")
    ] = None,
) -> None:
    """Run the portals and the API in a process of their own, beside a core that runs and through the Redis of both.

    Example: carbontrack web --config config/carbontrack.yaml --port 8081
    """
    from carbontrack.logs import set_up_logging  # noqa: PLC0415  # see run
    from carbontrack.web_process import serve_web  # noqa: PLC0415  # see run

    settings = load(config)
    own = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"http": settings.http.model_copy(update=own)})
    if settings.redis.url is None:
        stop(
            "redis.url: a web process hears through a Redis what the core tells. Set it for both, and start the core "
            "(carbontrack serve) first."
        )
    set_up_logging(settings.logging.level, settings.logging.format)
    run(lambda: serve_web(settings, lambda: load_config(config, os.environ)))


@app.command()
def demo(
    factories: Annotated[
        int | None, typer.Option(min=1, help="How many factories to simulate; without it, all.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.1, max=50, help="How many times faster the boilers live and the devices send.")
    ] = 1.0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of the web pages; 0 takes a free one.")] = 8080,
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its data.")] = Path("demo-data"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the demo's data first.")] = False,
) -> None:
    """Run everything on this machine with a simulated fleet: embedded broker, SQLite, core and portals.

    Example: carbontrack demo --factories 5 --port 8081
    """
    from carbontrack.demo import DemoOptions, run_demo  # noqa: PLC0415  # see run
    from carbontrack.diagnostics import of_core  # noqa: PLC0415  # see run
    from carbontrack.logs import set_up_logging  # noqa: PLC0415  # see run

    recent = set_up_logging("warning", "console")
    diagnose = partial(of_core, None, recent.lines)
    run(lambda: run_demo(DemoOptions(factories, speed, port, data_dir, fresh=fresh), diagnose=diagnose))


@app.command()
def simulate(
    config: ConfigOption = None,
    factories: Annotated[
        int | None, typer.Option(min=1, help="How many factories to simulate; without it, all.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.1, max=50, help="How many times faster the boilers live and send.")
    ] = 1.0,
    history_hours: Annotated[
        float, typer.Option(min=0, max=72, help="Past readings that new devices begin with.")
    ] = 0.0,
    register: Annotated[
        bool, typer.Option("--register", help="Add the simulated factories to the registry first.")
    ] = False,
    state_dir: Annotated[Path, typer.Option(help="Where the simulated devices keep their state.")] = Path("simulated"),
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """Simulate a fleet that speaks the real protocol to the configured broker. All devices share the core's sign-in.

    Example: carbontrack simulate --config config/carbontrack.yaml --factories 3 --register
    """
    from carbontrack.demo import run_simulation  # noqa: PLC0415  # see run

    settings = load(config)
    run(
        lambda: run_simulation(
            settings,
            factories=factories,
            speed=speed,
            history_hours=history_hours,
            register=register,
            state_dir=state_dir,
            until_eof=until_eof,
        )
    )


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database's schema up to date. Safe to run again.

    Example: carbontrack migrate --config config/carbontrack.yaml
    """
    from carbontrack.store import migrate as migrate_store  # noqa: PLC0415  # see run

    async def main() -> None:
        applied = await migrate_store(load(config).database.url, typer.echo)
        typer.echo("The schema is up to date." if not applied else f"{len(applied)} migrations applied.")

    run(main)


@app.command("check-config")
def check_config(config: ConfigOption = None) -> None:
    """Read the configuration and say all that is wrong with it, the options of plugins and alerts included.

    Example: carbontrack check-config --config config/carbontrack.yaml
    """
    from carbontrack.configured import problems_of  # noqa: PLC0415  # see run

    settings = load(config)
    if problems := [*problems_of(settings), *_unknown_names(config, settings)]:
        stop("\n".join(problems))
    typer.echo("The configuration is fine.")


def _unknown_names(path: Path | None, settings: Config) -> list[str]:
    """Factories, stacks and devices that alerts name and the registry does not have, where it is at hand."""
    from carbontrack.configured import all_instances  # noqa: PLC0415  # see run
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run
    from carbontrack.rule_book import unknown_names  # noqa: PLC0415  # see run
    from carbontrack.store import SchemaMismatch, StoreUnavailable  # noqa: PLC0415  # see run

    if not any(entry.factories or entry.stacks or entry.devices for entry in settings.alerts):
        return []
    url = settings.database.url
    if url.startswith("sqlite://") and not Path(url.removeprefix("sqlite://")).is_file():
        return []
    instances, _ = all_instances(settings, load_plugins(settings).contributions)
    found: list[str] = []

    async def main() -> None:
        try:
            async with opened_store(path) as store:
                registered = await store.factories(), await store.stacks(), await store.sites()
                found.extend(unknown_names(instances, *registered))
        except (SchemaMismatch, StoreUnavailable, OSError) as error:
            typer.echo(f"The names that alerts have were not compared with the registry: {error}")

    run(main)
    return found


@app.command("config-schema")
def show_config_schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; without it, it is printed.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Give the configuration's JSON Schema, with the options of the plugins that are there: for editors.

    Example: carbontrack config-schema --config config/carbontrack.yaml --output config/carbontrack.schema.json
    """
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run
    from carbontrack.plugins.schema import config_schema  # noqa: PLC0415  # see run

    text = json.dumps(config_schema(load_plugins(load(config))), indent=2)
    if output is None:
        typer.echo(text)
    else:
        output.write_text(f"{text}\n", "utf-8")
