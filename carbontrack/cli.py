"""The command line. Every command says what it does, with an example; errors say what to do and end with 2."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn
from zoneinfo import ZoneInfo

import typer

from carbontrack.config import Config, ConfigError, load_config
from carbontrack.model import DeviceStatus, Factory, MonitoringPlan, Role
from carbontrack.store import RegistryError, SchemaMismatch, Store, StoreUnavailable

app = typer.Typer(
    name="carbontrack",
    help="Continuous CO2 measurement for the chimneys of tea factories.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold passwords
    rich_markup_mode=None,
)
device_app = typer.Typer(help="Register, list, disable, move and remove devices.", no_args_is_help=True)
factory_app = typer.Typer(help="Add and list factories and their stacks.", no_args_is_help=True)
user_app = typer.Typer(help="Add people who may sign in.", no_args_is_help=True)
plugins_app = typer.Typer(help="Look at plugins.", no_args_is_help=True)
report_app = typer.Typer(help="Create reports.", no_args_is_help=True)
app.add_typer(device_app, name="device")
app.add_typer(factory_app, name="factory")
app.add_typer(user_app, name="user")
app.add_typer(plugins_app, name="plugins")
app.add_typer(report_app, name="report")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="CARBONTRACK_CONFIG",
        help="The configuration file; without it, defaults and environment.",
    ),
]


def _stop(message: str) -> NoReturn:
    typer.secho(message, err=True, fg=typer.colors.RED)
    raise typer.Exit(2)


def _load(path: Path | None) -> Config:
    try:
        return load_config(path, os.environ)
    except ConfigError as error:
        _stop(str(error))


def _run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a command's coroutine; what a person can mend is told in one line, without a traceback."""
    from carbontrack.app import run  # noqa: PLC0415  # the web server and all plugins: slow to import, not always needed
    from carbontrack.broker import BrokerStartError  # noqa: PLC0415  # as above

    try:
        run(main)
    except (SchemaMismatch, StoreUnavailable, RegistryError, BrokerStartError) as error:
        _stop(str(error))
    except OSError as error:
        _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@asynccontextmanager
async def _store(path: Path | None) -> AsyncIterator[Store]:
    from carbontrack.metrics import Metrics  # noqa: PLC0415  # see _run
    from carbontrack.store import open_store  # noqa: PLC0415  # see _run

    async with open_store(_load(path).database.url, Metrics()) as store:
        yield store


def _with_store(path: Path | None, command: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with _store(path) as store:
            await command(store)

    _run(main)


# --- running


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the core and the portals on the configured database and broker.

    Example: carbontrack serve --config config/carbontrack.yaml
    """
    from carbontrack.app import serve as serve_core  # noqa: PLC0415  # see _run

    settings = _load(config)
    _set_up_logging(settings)
    _run(lambda: serve_core(settings))


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
    from carbontrack.demo import DemoOptions, run_demo  # noqa: PLC0415  # see _run

    _run(lambda: run_demo(DemoOptions(factories, speed, port, data_dir, fresh=fresh)))


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
    from carbontrack.demo import run_simulation  # noqa: PLC0415  # see _run

    settings = _load(config)
    _run(
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
    from carbontrack.store import migrate as migrate_store  # noqa: PLC0415  # see _run

    async def main() -> None:
        applied = await migrate_store(_load(config).database.url, typer.echo)
        typer.echo("The schema is up to date." if not applied else f"{len(applied)} migrations applied.")

    _run(main)


@app.command("check-config")
def check_config(config: ConfigOption = None) -> None:
    """Read the configuration and say all that is wrong with it.

    Example: carbontrack check-config --config config/carbontrack.yaml
    """
    _load(config)
    typer.echo("The configuration is fine.")


# --- the registry


@factory_app.command("add")
def factory_add(
    name: Annotated[str, typer.Argument(help="For example: Kangaita Tea Factory")],
    altitude_m: Annotated[float, typer.Option(min=-400, max=5000, help="Height above sea level, m.")],
    pressure_kpa: Annotated[
        float | None, typer.Option(min=50, max=110, help="Mean air pressure; else from altitude.")
    ] = None,
    county: Annotated[str, typer.Option()] = "",
    region: Annotated[str, typer.Option()] = "",
    config: ConfigOption = None,
) -> None:
    """Add a factory.

    Example: carbontrack factory add "Kangaita Tea Factory" --altitude-m 2036 --county Kirinyaga --region 3
    """

    async def command(store: Store) -> None:
        factory = Factory(0, name, slug_of(name), county, region, None, None, altitude_m, pressure_kpa)
        added = await store.add_factory(factory)
        typer.echo(f"Factory {added.id}: {added.name}, page /factory/{added.slug}/")

    _with_store(config, command)


@factory_app.command("list")
def factory_list(config: ConfigOption = None) -> None:
    """List factories with their stacks."""

    async def command(store: Store) -> None:
        stacks = await store.stacks()
        for factory in await store.factories():
            typer.echo(f"{factory.id:4}  {factory.name}  ({factory.altitude_m:.0f} m)")
            for stack in stacks:
                if stack.factory_id == factory.id:
                    typer.echo(f"        stack {stack.id}: {stack.name}, {stack.plans[-1].area_m2:.3f} m2")

    _with_store(config, command)


@factory_app.command("add-stack")
def factory_add_stack(
    factory: Annotated[str, typer.Argument(help="The factory's name in its page's address, for example kangaita.")],
    name: Annotated[str, typer.Argument(help="For example: Boiler 1")],
    diameter_m: Annotated[float | None, typer.Option(min=0.05, max=20, help="Inner diameter of a round stack.")] = None,
    width_m: Annotated[float | None, typer.Option(min=0.05, max=20, help="Inner width of a rectangular stack.")] = None,
    length_m: Annotated[
        float | None, typer.Option(min=0.05, max=20, help="Inner length of a rectangular stack.")
    ] = None,
    profile_factor: Annotated[float, typer.Option(min=0.1, max=1.5, help="Mean over measured velocity.")] = 0.9,
    basis: Annotated[str, typer.Option(help="What the CO2 analyser reads: dry or wet gas.")] = "dry",
    h2o_fraction: Annotated[float, typer.Option(min=0, max=0.5, help="Water in the wet gas, by volume.")] = 0.12,
    co2_range_ppm: Annotated[float, typer.Option(min=400, max=1_000_000, help="The analyser's full scale.")] = 200_000,
    dilution_ratio: Annotated[float, typer.Option(min=1, max=1000, help="Of a dilution probe; 1 is none.")] = 1.0,
    config: ConfigOption = None,
) -> None:
    """Add a stack with its first monitoring plan.

    Example: carbontrack factory add-stack kangaita "Boiler 1" --diameter-m 0.8
    """
    if basis not in ("dry", "wet"):
        _stop(f"--basis must be dry or wet, not {basis}")
    try:
        plan = MonitoringPlan(
            shape="rectangular" if diameter_m is None else "circular",
            diameter_m=diameter_m,
            width_m=width_m,
            length_m=length_m,
            profile_factor=profile_factor,
            basis="wet" if basis == "wet" else "dry",
            h2o_fraction=h2o_fraction,
            co2_range_ppm=co2_range_ppm,
            dilution_ratio=dilution_ratio,
        )
    except ValueError as error:
        _stop(f"Give --diameter-m, or --width-m and --length-m: {error}")

    async def command(store: Store) -> None:
        found = await _factory(store, factory)
        stack = await store.add_stack(found.id, name, plan)
        typer.echo(f"Stack {stack.id}: {stack.name} at {found.name}, {plan.area_m2:.3f} m2")

    _with_store(config, command)


@device_app.command("add")
def device_add(
    device_id: Annotated[str, typer.Argument(help="The device's name on the wire, for example ct-kangaita-1.")],
    stack_id: Annotated[int, typer.Option(help="The stack that it measures; see: carbontrack factory list")],
    sensor: Annotated[str, typer.Option(help="The driver that reads its messages.")] = "ct_v1",
    config: ConfigOption = None,
) -> None:
    """Register a device; a running core takes it within seconds.

    Example: carbontrack device add ct-kangaita-1 --stack-id 1
    """

    async def command(store: Store) -> None:
        known = _sensors(config)
        if sensor not in known:
            _stop(f"No plugin brings the sensor driver {sensor!r}. There are: {', '.join(known)}")
        device = await store.add_device(device_id, stack_id, sensor)
        typer.echo(f"Device {device.device_id} is registered on stack {device.stack_id}.")

    _with_store(config, command)


@device_app.command("list")
def device_list(config: ConfigOption = None) -> None:
    """List registered devices."""

    async def command(store: Store) -> None:
        for site in await store.sites():
            device = site.device
            place = f"{site.factory.name}, {site.stack.name}"
            typer.echo(f"{device.device_id:24} {device.status.value:9} {device.sensor:10} {place}")

    _with_store(config, command)


def _change(device_id: str, config: Path | None, done: str, **changes: Any) -> None:
    async def command(store: Store) -> None:
        await store.change_device(device_id, **changes)
        typer.echo(f"Device {device_id} {done}.")

    _with_store(config, command)


@device_app.command("disable")
def device_disable(device_id: str, config: ConfigOption = None) -> None:
    """Refuse a device's messages until it is enabled again; it keeps its readings meanwhile."""
    _change(device_id, config, "is disabled", status=DeviceStatus.DISABLED)


@device_app.command("enable")
def device_enable(device_id: str, config: ConfigOption = None) -> None:
    """Take a disabled device's messages again."""
    _change(device_id, config, "is enabled", status=DeviceStatus.ACTIVE)


@device_app.command("move")
def device_move(device_id: str, stack_id: Annotated[int, typer.Option()], config: ConfigOption = None) -> None:
    """Move a device to another stack. Its old readings stay with the old stack."""
    _change(device_id, config, f"measures stack {stack_id} now", stack_id=stack_id)


@device_app.command("remove")
def device_remove(device_id: str, config: ConfigOption = None) -> None:
    """Take a device off the registry. Its readings stay with their stack."""

    async def command(store: Store) -> None:
        await store.remove_device(device_id)
        typer.echo(f"Device {device_id} is removed; its readings stay.")

    _with_store(config, command)


@user_app.command("add")
def user_add(
    email: Annotated[str, typer.Option(help="The address to sign in with.")],
    role: Annotated[Role, typer.Option(help="What the person may see and do.")],
    factory: Annotated[str, typer.Option(help="For a factory's people: the factory, for example kangaita.")] = "",
    first_name: Annotated[str, typer.Option()] = "",
    last_name: Annotated[str, typer.Option()] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Add a person who may sign in.

    Example: carbontrack user add --email chief@example.org --role hq_manager --password-stdin < password.txt
    """
    from carbontrack.web.auth import hash_password  # noqa: PLC0415  # see _run

    if not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        _stop(f"{email!r} is not an e-mail address")
    of_factory = role in (Role.FACTORY_MANAGER, Role.FACTORY_CLERK)
    if of_factory != bool(factory):
        _stop(f"A {role.value} " + ("belongs to a factory: give --factory" if of_factory else "has no --factory"))
    password = sys.stdin.readline().rstrip("\n") if password_stdin else typer.prompt("Password", hide_input=True)
    if len(password) < MIN_PASSWORD_LENGTH:
        _stop(f"The password must have at least {MIN_PASSWORD_LENGTH} characters.")

    async def command(store: Store) -> None:
        factory_id = (await _factory(store, factory)).id if factory else None
        user = await store.add_user(
            email,
            hash_password(password),
            role,
            factory_id=factory_id,
            first_name=first_name,
            last_name=last_name,
        )
        typer.echo(f"{user.email} may sign in as {user.role.value}.")

    _with_store(config, command)


MIN_PASSWORD_LENGTH = 10


# --- plugins and reports


@plugins_app.command("list")
def plugins_list(config: ConfigOption = None) -> None:
    """List the plugins, what they bring, and why one was left out."""
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see _run

    settings = _load(config).plugins
    plugins = load_plugins(settings.enabled, settings.disabled, settings.folder)
    for plugin in plugins.loaded:
        what = f"LEFT OUT: {plugin.error}" if plugin.error else ", ".join(plugin.hooks)
        typer.echo(f"{plugin.name:16} {plugin.origin:24} {what}")
    if any(plugin.error for plugin in plugins.loaded):
        raise typer.Exit(1)


@report_app.command("create")
def report_create(
    factory: Annotated[str, typer.Option(help="The factory, for example kangaita.")],
    day: Annotated[str, typer.Option(help="A day, YYYY-MM-DD, in the site's time zone; without it, today.")] = "",
    days: Annotated[int, typer.Option(min=1, max=31, help="How many days from then.")] = 1,
    report_format: Annotated[str, typer.Option("--format", help="The format, by name.")] = "csv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; without it, a name is made.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a factory's report to a file.

    Example: carbontrack report create --factory kangaita --day 2026-03-01 --format csv
    """
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see _run
    from carbontrack.reports import ReportTooLarge, gather, render  # noqa: PLC0415  # see _run

    settings = _load(config)
    zone = ZoneInfo(settings.site.time_zone)
    formats = load_plugins(settings.plugins.enabled, settings.plugins.disabled, settings.plugins.folder).report_formats
    if report_format not in formats:
        _stop(f"There is no report format {report_format!r}. There are: {', '.join(sorted(formats))}")
    try:
        first = date.fromisoformat(day) if day else datetime.now(zone).date()
    except ValueError:
        _stop(f"--day must be a date such as 2026-03-01, not {day}")

    async def command(store: Store) -> None:
        found = await _factory(store, factory)
        start = datetime.combine(first, time(), zone).astimezone(UTC)
        end = datetime.combine(first + timedelta(days=days), time(), zone).astimezone(UTC)
        chosen = formats[report_format]
        try:
            report = await gather(store, found, start, end)
        except ReportTooLarge as error:
            _stop(str(error))
        path = output or Path(f"{found.slug}-{first}.{chosen.extension}")
        path.write_bytes(await render(report, chosen))
        typer.echo(f"{path}: {len(report.readings)} readings of {found.name}.")

    _with_store(config, command)


# --- help for the commands


async def _factory(store: Store, slug: str) -> Factory:
    found = await store.factory_by_slug(slug)
    if found is None:
        known = ", ".join(factory.slug for factory in await store.factories()) or "none yet"
        _stop(f"There is no factory {slug!r}. There are: {known}")
    return found


def _sensors(config: Path | None) -> list[str]:
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see _run

    settings = _load(config).plugins
    return sorted(load_plugins(settings.enabled, settings.disabled, settings.folder).sensors)


def slug_of(name: str) -> str:
    """A factory's name as it stands in addresses: ``Kangaita Tea Factory`` is ``kangaita``."""
    short = re.sub(r"\s+tea factory$", "", name.strip(), flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-") or secrets.token_hex(4)


def _set_up_logging(config: Config) -> None:
    from carbontrack.logs import set_up_logging  # noqa: PLC0415  # see _run

    set_up_logging(config.logging.level, config.logging.format)
