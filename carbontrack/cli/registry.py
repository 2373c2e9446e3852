"""The commands for factories and devices."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carbontrack.cli.common import ConfigOption, factory_named, from_here, load, moment_named, stop, with_store
from carbontrack.device_settings import (
    COMMANDS,
    CommandError,
    DeviceCommand,
    DeviceSettings,
    SettingsError,
    chosen_settings,
    error_line,
)
from carbontrack.model import DeviceStatus, Factory, MonitoringPlan, Site, slug_of

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store
    from carbontrack.web.registering import Judged

device_app = typer.Typer(help="Register, list, disable, move and remove devices.", no_args_is_help=True)
PATIENCE = timedelta(minutes=35)
"""A core ends every command by then (carbontrack/device_desk.py)."""
factory_app = typer.Typer(help="Add and list factories and their stacks.", no_args_is_help=True)


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
        added = await store.add_factory(factory, by=from_here())
        typer.echo(f"Factory {added.id}: {added.name}, page /factory/{added.slug}/")

    with_store(config, command)


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

    with_store(config, command)


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
    valid_from: Annotated[
        str, typer.Option(help="From when on it is monitored, for example 2026-03-01T08:00+03:00; without it, now.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Add a stack with its first monitoring plan.

    Example: carbontrack factory add-stack kangaita "Boiler 1" --diameter-m 0.8
    """
    if basis not in ("dry", "wet"):
        stop(f"--basis must be dry or wet, not {basis}")
    begin = moment_named(valid_from, "--valid-from", config) if valid_from else datetime.now(UTC)
    try:
        plan = MonitoringPlan(
            valid_from=begin.astimezone(UTC),
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
        stop(f"Give --diameter-m, or --width-m and --length-m: {error}")

    async def command(store: Store) -> None:
        found = await factory_named(store, factory)
        stack = await store.add_stack(found.id, name, plan, by=from_here())
        typer.echo(f"Stack {stack.id}: {stack.name} at {found.name}, {plan.area_m2:.3f} m2")

    with_store(config, command)


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
            stop(f"No plugin brings the sensor driver {sensor!r}. There are: {', '.join(known)}")
        device = await store.add_device(device_id, stack_id, sensor, by=from_here())
        typer.echo(f"Device {device.device_id} is registered on stack {device.stack_id}.")
        if load(config).mqtt.device_key:
            typer.echo(f"What it signs in with at the broker: carbontrack device password {device.device_id}")

    with_store(config, command)


@device_app.command("list")
def device_list(config: ConfigOption = None) -> None:
    """List registered devices."""

    async def command(store: Store) -> None:
        for site in await store.sites():
            device = site.device
            place = f"{site.factory.name}, {site.stack.name}"
            replaced = f" (replaced by {device.replaced_by})" if device.replaced_by else ""
            typer.echo(f"{device.device_id:24} {device.status.value:9} {device.sensor:10} {place}{replaced}")

    with_store(config, command)


def _change(device_id: str, config: Path | None, done: str, **changes: Any) -> None:
    async def command(store: Store) -> None:
        await store.change_device(device_id, **changes, by=from_here())
        typer.echo(f"Device {device_id} {done}.")

    with_store(config, command)


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
        await store.remove_device(device_id, by=from_here())
        typer.echo(f"Device {device_id} is removed; its readings stay.")

    with_store(config, command)


@device_app.command("revoke")
def device_revoke(device_id: str, config: ConfigOption = None) -> None:
    """Shut a device out for good: it is disabled, and its password never opens anything again.

    The broker ends its connection within seconds. It keeps its readings; enabled again it needs its new password.
    """

    async def command(store: Store) -> None:
        await store.revoke_device(device_id, by=from_here())
        typer.echo(f"Device {device_id} is shut out.")

    with_store(config, command)


@device_app.command("replace")
def device_replace(
    old: Annotated[str, typer.Argument(help="The unit that is broken.")],
    new: Annotated[str, typer.Argument(help="The unit in its place: a new name, or a device of the same chimney.")],
    at: Annotated[
        str, typer.Option(help="From when on the new one counts, for example 2026-03-01T08:00+03:00; without it, now.")
    ] = "",
    sensor: Annotated[str, typer.Option(help="The driver that reads its messages; without it the old one's.")] = "",
    config: ConfigOption = None,
) -> None:
    """Let another unit take over a broken one's chimney. The chimney's history goes on; the old unit is shut out.

    Example: carbontrack device replace ct-kangaita-1 ct-kangaita-9
    """

    async def command(store: Store) -> None:
        from carbontrack.replacing import replace_device  # noqa: PLC0415  # see run

        if sensor and sensor not in (known := _sensors(config)):
            stop(f"No plugin brings the sensor driver {sensor!r}. There are: {', '.join(known)}")
        moment = moment_named(at, "--at", config) if at else None
        site = await _site(store, old)
        done = await replace_device(store, site, new, by=from_here(), now=datetime.now(UTC), at=moment, sensor=sensor)
        place = f"{site.stack.name} of {site.factory.name}"
        typer.echo(f"Device {new} measures {place} from {done.at.isoformat(timespec='seconds')} on. {old} is shut out.")
        if load(config).mqtt.device_key:
            typer.echo(f"What the new one is told: carbontrack device handout {new}")

    with_store(config, command)


@device_app.command("import")
def device_import(
    file: Annotated[Path, typer.Argument(help="A table, CSV or .xlsx; see: carbontrack device template")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it comes to.")] = False,
    config: ConfigOption = None,
) -> None:
    """Register the factories, chimneys and devices of a table: all of it, or nothing where a row is wrong.

    What is there already is left as it is, so the same table may be given again.

    Example: carbontrack device import devices.csv --dry-run
    """
    try:
        body = file.read_bytes()
    except OSError as error:
        stop(f"{file}: {error.strerror}")

    async def command(store: Store) -> None:
        judged = await _judged_table(store, file, body, _sensors(config))
        new = judged.registration
        told = f"{len(new.factories)} factories, {len(new.stacks)} chimneys and {len(new.devices)} devices"
        if dry_run:
            typer.echo(f"{told} would be registered; {judged.there} of {judged.rows} rows are there already.")
            return
        await store.register_all(new, by=from_here())
        typer.echo(f"{told} are registered; {judged.there} of {judged.rows} rows were there already.")

    with_store(config, command)


async def _judged_table(store: Store, file: Path, body: bytes, sensors: list[str]) -> Judged:
    """What a table would register. Stops with all that is wrong with it."""
    from carbontrack.web.errors import Problem  # noqa: PLC0415  # see run
    from carbontrack.web.registering import judge  # noqa: PLC0415  # see run
    from carbontrack.web.spreadsheets import Unreadable, read_table  # noqa: PLC0415  # see run

    try:
        table = await read_table(body, asyncio.Semaphore(1))
        judged = await judge(table, store, sensors, datetime.now(UTC))
    except Unreadable as error:
        stop(f"{file}: {error}")
    except Problem as problem:
        stop("\n".join([f"{file}: {problem.detail}", *(f"{name} {text}" for name, text in problem.errors)]))
    if judged.errors:
        told = [f"{file}, row {it.row}: {it.field} {it.message}" for it in judged.errors]
        stop("\n".join([*told, "Nothing was registered."]))
    return judged


@device_app.command("template")
def device_template() -> None:
    """Print a table to begin with, for carbontrack device import.

    Example: carbontrack device template
    """
    from carbontrack.web.registering import template  # noqa: PLC0415  # see run

    typer.echo(template(), nl=False)


@device_app.command("settings")
def device_settings(
    device_id: Annotated[str, typer.Argument(help="The device's name on the wire.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, such as sample_s=10; may be given several times."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print a device's settings and whether it has them; change them by --set. A running core sends them.

    Example: carbontrack device settings ct-kangaita-1 --set sample_s=10 --set buzzer=no
    """

    async def command(store: Store) -> None:
        from carbontrack.device_desk import save_settings  # noqa: PLC0415  # see run

        site = await _site(store, device_id)
        newest = next(iter(await store.configs(site.device.id, limit=1)), None)
        settings = chosen_settings(newest.document if newest is not None else None) or DeviceSettings()
        if change:
            changed: dict[str, Any] = dict(map(_setting, change))
            wanted = replace(settings, **changed)
            try:
                made = await save_settings(store, site, wanted, by=from_here(), now=datetime.now(UTC))
            except SettingsError as error:
                stop(str(error))
            typer.echo(f"Saved as revision {made.rev}." if made else "Nothing was changed.")
            settings, newest = wanted, made or newest
        for name, value in asdict(settings).items():
            if name == "limits":
                value = ", ".join(f"{it['code']} {it['limit']}" for it in value) or "none"  # noqa: PLW2901  # as shown
            typer.echo(f"{name:10} {value}")
        if newest is None:
            typer.echo("The device was given no settings yet: these are the firmware's own.")
            return
        typer.echo(f"Revision {newest.rev}: {newest.state.value}")
        for fault in newest.errors:
            typer.echo(f"  {error_line(fault)}")

    with_store(config, command)


def _setting(text: str) -> tuple[str, int | bool]:
    """One ``name=value`` as somebody has typed it."""
    name, _, value = text.partition("=")
    defaults = {it: kept for it, kept in asdict(DeviceSettings()).items() if it != "limits"}
    if name not in defaults:
        stop(f"--set takes one of {', '.join(defaults)}, such as sample_s=10, not {text!r}")
    if isinstance(defaults[name], bool):
        if value not in {"yes", "no"}:
            stop(f"{name} must be yes or no, not {value!r}")
        return name, value == "yes"
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        stop(f"{name} must be a whole number, not {value!r}")
    return name, int(value)


@device_app.command("command")
def device_command(
    device_id: Annotated[str, typer.Argument(help="The device's name on the wire.")],
    cmd: Annotated[
        str,
        typer.Argument(
            help="What it is to do: ping, identify, silence, maintenance, zero_cal, span_cal, diag or reboot."
        ),
    ],
    number: Annotated[
        float | None,
        typer.Argument(help="Seconds of identify, minutes of silence and maintenance, ppm of span_cal."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the device has answered, or will not.")] = False,
    config: ConfigOption = None,
) -> None:
    """Tell a device to do something, at once or when it connects within 10 minutes. A running core sends it.

    Example: carbontrack device command ct-kangaita-1 reboot --wait
    """

    async def command(store: Store) -> None:
        from carbontrack.device_desk import give_command  # noqa: PLC0415  # see run

        site, argument = await _site(store, device_id), COMMANDS.get(cmd)
        args = {} if number is None else {argument.name if argument else "number": number}
        if argument is not None and argument.is_whole and number is not None and number.is_integer():
            args = {argument.name: int(number)}
        try:
            given = await give_command(store, device_id, cmd, args, by=from_here(), now=datetime.now(UTC))
        except CommandError as error:
            stop(f"{error.name}: {error}")
        typer.echo(f"Command {given.command_id}: {cmd}")
        if wait:
            await _tell_answer(store, site, given)

    with_store(config, command)


async def _tell_answer(store: Store, site: Site, given: DeviceCommand) -> None:
    """Print each state of a command until it has ended. Exits with 1 where it is not done."""
    state = given.state
    while given.is_open:
        await asyncio.sleep(0.5)
        found = await store.command(site.device.id, given.command_id)
        if found is None:
            stop("The device was removed meanwhile.")
        given = found
        if given.state is state and given.is_open and datetime.now(UTC) > given.expires_at + PATIENCE:
            stop("No core has looked at it: is one running?")
        if given.state is not state:
            state = given.state
            typer.echo(state.value)
    answer = given.answer or {}
    for name, value in answer.get("res", {}).items():
        typer.echo(f"  {name:14} {value}")
    if answer.get("err"):
        typer.echo(f"  {answer['err']}")
    if state.value != "done":
        raise typer.Exit(1)


async def _site(store: Store, device_id: str) -> Site:
    for site in await store.sites():
        if site.device.device_id == device_id:
            return site
    return stop(f"There is no device {device_id!r}. See: carbontrack device list")


def _sensors(config: Path | None) -> list[str]:
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run

    return sorted(load_plugins(load(config)).contributions.sensors)
