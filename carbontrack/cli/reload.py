"""``carbontrack reload``: have a running core read its configuration anew."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from carbontrack.cli.common import ConfigOption, load, stop, with_store
from carbontrack.hookspecs import ReloadResult

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

ASK_EVERY_S = 0.2


def reload(
    config: ConfigOption = None,
    timeout: Annotated[
        float, typer.Option(min=1, max=600, help="How many seconds to wait for the core's answer.")
    ] = 60,
) -> None:
    """Have the running core read its configuration anew: plugins, alerts and notifications follow while it runs.

    The core is found by the database. Without a core that answers nothing changes; the next start reads everything.

    Example: carbontrack reload --config config/carbontrack.yaml
    """
    load(config)  # a mistake is told here, where the file can be mended

    async def command(store: Store) -> None:
        number = await store.ask_reload()
        deadline = time.monotonic() + timeout
        while (answer := await store.reload_answer(number)) is None:
            if time.monotonic() > deadline:
                stop(f"No core answered within {timeout:g} s. Does one run on this database?")
            await asyncio.sleep(ASK_EVERY_S)
        _tell(msgspec.json.decode(answer, type=ReloadResult))

    with_store(config, command)


def _tell(result: ReloadResult) -> None:
    """Say what the core did; ends with 2 if it changed nothing, with 1 if a plugin failed."""
    if result.problems:
        stop("The core cannot use its configuration, and goes on as it was:\n" + "\n".join(result.problems))
    for what, names in (("added", result.added), ("removed", result.removed), ("reloaded", result.reloaded)):
        if names:
            typer.echo(f"{what}: {', '.join(names)}")
    if not (result.added or result.removed or result.reloaded or result.failed):
        typer.echo("No plugin has changed.")
    if result.needs_restart:
        typer.echo(f"Changes of these sections count from the next start on: {', '.join(result.needs_restart)}")
    for problem in result.left_out:
        typer.secho(f"left out: {problem}", err=True, fg=typer.colors.RED)
    for name, error in result.failed.items():
        typer.secho(f"failed: {name}: {error}", err=True, fg=typer.colors.RED)
    if result.failed or result.left_out:
        raise typer.Exit(1)
