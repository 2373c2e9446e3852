"""The command that gathers what somebody needs who is to help."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, from_here, load, opened_store, run, stop, write_new
from carbontrack.model import AuditAction

if TYPE_CHECKING:
    from carbontrack.store import Store

MOST_LINES = 2000


def diagnostics(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, which is not there yet.")],
    log: Annotated[
        Path | None,
        typer.Option(help=f"A file with the core's log, whose last {MOST_LINES} lines are put in; - for a pipe."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write versions, settings, doctor's answers, metrics, states and sizes to one file, without secrets and names.

    What the core keeps in memory of its log only the network page can put in; here it is given by --log.

    Example: carbontrack diagnostics -o diagnostics.zip --log core.log --config config/carbontrack.yaml
    """
    from carbontrack.diagnostics import Source, bundle  # noqa: PLC0415  # everything: slow to import
    from carbontrack.store import SchemaMismatch, StoreUnavailable, is_missing  # noqa: PLC0415  # see run

    settings = load(config)
    if output.exists():
        stop(f"{output} is there already. Choose another name.")
    lines = _last_lines(log)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            store: Store | None = None
            try:
                if is_missing(settings.database.url):
                    raise FileNotFoundError("there is no file yet")
                store = await stack.enter_async_context(opened_store(config))
            except (SchemaMismatch, StoreUnavailable, OSError, ValueError) as error:
                typer.secho(f"Without the database: {error}", err=True, fg=typer.colors.YELLOW)
            content = await bundle(
                Source(settings, config.parent if config else None, store, None, lines), datetime.now(UTC)
            )
            if store is not None:
                await store.note(from_here(), AuditAction.DIAGNOSTICS_TAKEN, "diagnostics", "")
            write_new(output, content)

    run(main)
    typer.echo(f"{output}: {output.stat().st_size / 1e3:,.0f} kB. Look at it before you give it to anybody.")


def _last_lines(log: Path | None) -> list[str]:
    if log is None:
        return []
    if log == Path("-"):
        return [line.rstrip("\n") for line in deque(sys.stdin, MOST_LINES)]
    with log.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, MOST_LINES)]
