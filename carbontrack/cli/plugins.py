"""Plugins on the command line: what there is, a package to begin with, and how good one is."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from carbontrack.cli.common import ConfigOption, load, run, stop
from carbontrack.hookspecs import Kind, Tier

plugins_app = typer.Typer(help="Look at plugins, write one, and check it.", no_args_is_help=True)


@plugins_app.command("list")
def plugins_list(config: ConfigOption = None) -> None:
    """List the plugins, what they bring, and why one was left out.

    Example: carbontrack plugins list --config config/carbontrack.yaml
    """
    from carbontrack.plugins import load_plugins  # noqa: PLC0415  # see run

    statuses = load_plugins(load(config)).statuses
    for status in statuses:
        what = f"LEFT OUT: {status.error}" if status.error else ", ".join(status.brings) or status.state.value
        version = status.manifest.version if status.manifest else "-"
        typer.echo(f"{status.name:18} {version:8} {status.origin:24} {what}")
        for line in (status.advice, *status.notes):
            if line:
                typer.echo(f"{'':18} {line}")
    if any(status.error for status in statuses):
        raise typer.Exit(1)


@plugins_app.command("new")
def plugins_new(
    kind: Annotated[Kind, typer.Argument(help="What it brings.")],
    name: Annotated[str, typer.Argument(help="The plugin's name: small letters, digits and underscores.")],
    into: Annotated[Path, typer.Option(help="The folder in which its folder is made.")] = Path(),
    owner: Annotated[
        str, typer.Option(help="Who answers for it; without it, the name that you are logged in by.")
    ] = "",
) -> None:
    """Write a package with a plugin that works and passes its own tests, for you to change.

    Example: carbontrack plugins new sensor kericho_probe --owner "Wanjiru Kamau"
    """
    from carbontrack.authoring.new import CannotWrite, write_package  # noqa: PLC0415  # see run

    try:
        folder, files = write_package(kind, name, into, owner or _who())
    except CannotWrite as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.strerror}: {error.filename}")
    typer.echo(f"{folder}:")
    for file in files:
        typer.echo(f"  {file.relative_to(folder)}")
    typer.echo(
        f"""
What to do next:
  cd {folder}
  python -m pytest                     # its own tests; needs pytest and pytest-asyncio
  carbontrack plugins check .          # how good it is, and what to do about it
  python -m pip install --editable .   # into Carbon Track's environment; not needed in its folder of plugins
  carbontrack reload                   # a running core takes it"""
    )


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return stop("Nobody knows who you are. Say it with --owner.")


@plugins_app.command("check")
def plugins_check(
    plugins: Annotated[
        list[str],
        typer.Argument(help="A project's folder, a plugin's file or folder, or the name of one that is there."),
    ],
    tier: Annotated[
        Tier | None, typer.Option(help="The tier that must be reached; without it, the one that the manifest claims.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Try every rule of every tier on plugins, and say what to do. Ends with 1 if one is not as good as it must be.

    Example: carbontrack plugins check carbontrack-kericho-probe --tier gold
    """
    from carbontrack.authoring.checking import judged, lines  # noqa: PLC0415  # see run
    from carbontrack.authoring.subject import NothingToCheck, subjects  # noqa: PLC0415  # see run
    from carbontrack.logs import set_up_logging  # noqa: PLC0415  # see run

    settings = load(config)
    set_up_logging("critical", "console")  # what goes wrong is said by the rules
    is_good = True

    async def check() -> None:
        nonlocal is_good
        with subjects(plugins, settings) as found:
            for number, judgement in enumerate(await judged(found)):
                typer.echo(("\n" if number else "") + "\n".join(lines(judgement)))
                is_good = is_good and judgement.reaches(tier or judgement.claimed or Tier.BRONZE)

    try:
        run(check)
    except NothingToCheck as error:
        stop(str(error))
    if not is_good:
        raise typer.Exit(1)
