"""The commands for backups."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, load, run, stop
from carbontrack.config import Config

if TYPE_CHECKING:
    from carbontrack.backup import Parts, Restored

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors, for cron.")]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(backup)
    app.command()(restore)


def backup(
    to: Annotated[
        Path, typer.Option(help="A folder, where the file is named by the time; or a new file that ends with .zip.")
    ],
    with_archive: Annotated[
        bool, typer.Option("--with-archive", help="Put the archive of raw days in as well.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Afterwards delete all but so many of this database's backups there.")
    ] = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Write all that the database holds to one file, with hashes. The core may run meanwhile.

    Example: carbontrack backup --to /var/backups/carbontrack --keep 14 --config config/carbontrack.yaml
    """
    from carbontrack.backup import back_up  # noqa: PLC0415  # see run

    settings = load(config)
    archive = settings.retention.archive_folder
    if with_archive and archive is None:
        stop("There is no archive: retention.archive_folder names none.")

    async def main() -> None:
        began = time.monotonic()
        done = await back_up(
            settings.database.url,
            to,
            archive=archive if with_archive else None,
            keep=keep,
            reserve_bytes=_reserve_bytes(settings, to),
            say=_sayer(quiet),
        )
        if quiet:
            return
        for file in done.deleted:
            typer.echo(f"Deleted {file}.")
        needed = done.parts.contents.archive
        if needed and not done.parts.has_archive:
            typer.echo(f"{len(needed)} files of the archive are not in it: copy {archive} as well.")
        typer.echo(f"{done.file}: {done.bytes / 1e6:,.1f} MB in {time.monotonic() - began:,.1f} s.")

    run(main)


def restore(
    file: Annotated[Path, typer.Argument(help="The file that `carbontrack backup` has written.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read the file and compare its hashes; needs no database.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put aside what the database holds already; it is not deleted.")
    ] = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring a backup back into the configured database and compare the result. The core must not run.

    Example: carbontrack restore /var/backups/carbontrack/carbontrack-2026-11-26T231405Z.zip --config config/carbontrack.yaml
    """  # noqa: E501  # an example is one line
    from carbontrack import backup as backups  # noqa: PLC0415  # see run

    if check:

        async def look() -> None:
            parts = backups.check(file, _sayer(quiet))
            if not quiet:
                typer.echo(_summary(parts))
                typer.echo("The file is as it was written.")

        run(look)
        return
    settings = load(config)

    async def main() -> None:
        began = time.monotonic()
        done = await backups.restore(
            settings.database.url,
            file,
            archive=settings.retention.archive_folder,
            replace=replace,
            say=_sayer(quiet),
        )
        if not quiet:
            typer.echo(_after(done, settings, time.monotonic() - began))
        for needed in done.missing[:20]:
            typer.secho(f"Missing from the archive: {needed.name}, {needed.rows:,} rows", err=True)
        if done.missing:
            typer.secho(
                f"{len(done.missing)} files of the archive are needed and missing: put them back into "
                f"{settings.retention.archive_folder or 'a folder and name it in retention.archive_folder'}, "
                "then run: carbontrack archive verify",
                err=True,
                fg=typer.colors.RED,
            )

    run(main)


def _sayer(quiet: bool) -> Callable[[str], None]:
    return (lambda _: None) if quiet else typer.echo


def _reserve_bytes(config: Config, to: Path) -> int:
    """What must stay free on the disk of the backup: nothing, unless the database is on the same one."""
    url = config.database.url
    volume = config.retention.watch_disk
    if volume is None and url.startswith("sqlite://"):
        volume = Path(url.removeprefix("sqlite://")).parent
    folder = to.absolute()
    while not folder.is_dir():
        folder = folder.parent
    if volume is None or not volume.exists() or volume.stat().st_dev != folder.stat().st_dev:
        return 0
    return config.retention.reserve_mb * 1_000_000


def _summary(parts: Parts) -> str:
    contents = parts.contents
    made = f"Made {parts.made_at:%Y-%m-%d %H:%M:%S} UTC by version {parts.carbontrack} of {parts.database}"
    lines = [f"{made}, schema {contents.migrations[-1]}."]
    lines += [f"  {table:20} {rows:13,} rows" for table, rows in contents.tables.items()]
    if contents.archive:
        what = "which are in it" if parts.has_archive else "which are NOT in it"
        lines.append(f"It relies on {len(contents.archive)} files of the archive of raw days, {what}.")
    return "\n".join(lines)


def _after(done: Restored, config: Config, took_s: float) -> str:
    """What was done, and what happens now."""
    rows = done.parts.contents.tables
    streams = done.parts.contents.streams or ()
    readings = f"{rows.get('reading', 0):,} readings of {len(streams)} streams"
    lines = [f"Restored and compared: {sum(rows.values()):,} rows, {readings}, in {took_s:,.1f} s."]
    lines += [f"Applied {name}: the backup was made by an older version." for name in done.migrations]
    if done.aside is not None:
        lines.append(_where_aside_is(done.aside, config.database.url))
    lines.append(
        f"Now start the core. It tells every device what the database has since the restore, as of "
        f"{done.parts.made_at:%Y-%m-%d %H:%M:%S} UTC. What a device still has is sent again and counts once; what it "
        "has dropped since then is declared lost, and the accounts show it as not measured."
    )
    return "\n".join(lines)


def _where_aside_is(aside: str, url: str) -> str:
    if url.startswith("sqlite://"):
        return f"What was there before is {aside}; delete it when nobody needs it."
    return f'What was there before is in the schema {aside}; when nobody needs it: DROP SCHEMA "{aside}" CASCADE'
