"""The commands for the archive of raw days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, day_named, load, stop, with_store

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

archive_app = typer.Typer(
    help="Look at the archive of raw readings, check it, and bring days back.", no_args_is_help=True
)


@archive_app.command("list")
def archive_list(config: ConfigOption = None) -> None:
    """List the days of the archive, with rows and bytes.

    Example: carbontrack archive list --config config/carbontrack.yaml
    """

    async def command(store: Store) -> None:
        files = [file for day in sorted({day for _, day in store.archived}) for file in store.archived_files(day)]
        for file in files:
            typer.echo(f"{file.day}  {file.rows:11,} rows  {file.bytes:13,} bytes  {file.name}")
        days = {file.day for file in files}
        total = sum(file.bytes for file in files)
        typer.echo(f"{len(days)} days in {len(files)} files, {total:,} bytes.")

    with_store(config, command)


@archive_app.command("verify")
def archive_verify(config: ConfigOption = None) -> None:
    """Check every file of the archive against the manifest: is it there, and as it was written? Needs no database.

    Ends with 1 when something is wrong.

    Example: carbontrack archive verify --config config/carbontrack.yaml
    """
    from carbontrack.store.manifest import Manifest  # noqa: PLC0415  # only here

    folder = load(config).retention.archive_folder
    if folder is None:
        stop("There is no archive: retention.archive_folder names none.")
    checked = list(Manifest(folder).verify())
    faults = [(name, fault) for name, fault in checked if fault]
    for name, fault in faults:
        typer.secho(f"{folder / name}: {fault}", err=True, fg=typer.colors.RED)
    typer.echo(f"{len(checked)} files checked, {len(faults)} with a fault.")
    if faults:
        raise typer.Exit(1)


@archive_app.command("restore")
def archive_restore(
    first: Annotated[str, typer.Argument(help="A day of measuring, YYYY-MM-DD, in UTC.")],
    until: Annotated[str, typer.Option("--to", help="The last day; without it, the first one.")] = "",
    keep_days: Annotated[int, typer.Option(min=1, help="For how many days from now they stay in the database.")] = 30,
    config: ConfigOption = None,
) -> None:
    """Bring raw days back from the archive into the database. The core may run meanwhile.

    Reading them needs no restoring: pages, reports and recompute read the archive by themselves. This is for other
    tools that look into the database.

    Example: carbontrack archive restore 2026-03-01 --to 2026-03-07
    """
    days = _days(day_named(first, "the first day"), day_named(until or first, "--to"))
    stays = datetime.now(UTC).date() + timedelta(days=keep_days)

    async def command(store: Store) -> None:
        for day in days:
            rows = await store.restore(day, stays)
            typer.echo(f"{day}: {rows:,} rows are back until {stays}.")

    with_store(config, command)


def _days(first: date, last: date) -> list[date]:
    if last < first:
        stop("--to must not be before the first day.")
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
