"""The commands that look into the quarantine. Handing something in once more needs the running core: see the API."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carbontrack.cli.common import ConfigOption, factory_named, stop, with_store

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.model import Quarantined
    from carbontrack.store import Store

quarantine_app = typer.Typer(help="Look at what could not be used.", no_args_is_help=True)


class State(StrEnum):
    """What became of an item."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISMISSED = "dismissed"


@quarantine_app.command("list")
def quarantine_list(
    factory: Annotated[str, typer.Option(help="One factory only, for example kangaita.")] = "",
    device: Annotated[str, typer.Option(help="One device only, by its device id.")] = "",
    cause: Annotated[str, typer.Option(help="One cause only, for example invalid_json.")] = "",
    state: Annotated[State | None, typer.Option(help="open, replayed or dismissed; without it, all.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Older than this item: the last number of a list.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigOption = None,
) -> None:
    """List what could not be used, newest first.

    Example: carbontrack quarantine list --device dev-007 --state open
    """

    async def command(store: Store) -> None:
        found = await store.quarantined(
            factory_id=(await factory_named(store, factory)).id if factory else None,
            device_id=device or None,
            cause=cause or None,
            state=state.value if state else None,
            before_id=before,
            limit=limit,
        )
        for item in found:
            typer.echo(
                f"{item.id:8}  {item.received_at:%Y-%m-%d %H:%M:%S}Z  {item.times:5} x  {item.device_id:16}  "
                f"{_state(item):9}  {item.cause}"
            )
        if not found:
            typer.echo("There is nothing in quarantine that fits.")

    with_store(config, command)


@quarantine_app.command("show")
def quarantine_show(
    number: Annotated[int, typer.Argument(min=1, help="The item's number, as the list gives it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write the body as it was sent.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show one item with its whole body.

    Example: carbontrack quarantine show 17 --output body.json
    """

    async def command(store: Store) -> None:
        item = await store.quarantined_item(number)
        if item is None:
            stop(f"There is no item {number} in quarantine.")
        typer.echo(f"Device:    {item.device_id}\nCause:     {item.cause}: {item.detail}\nState:     {_story(item)}")
        typer.echo(f"Came:      {item.times} times, {item.received_at:%Y-%m-%d %H:%M:%S}Z first")
        if output is None:
            typer.echo(item.body.decode(errors="replace"))
        else:
            output.write_bytes(item.body)
            typer.echo(f"{len(item.body)} bytes are in {output}.")

    with_store(config, command)


def _state(item: Quarantined) -> State:
    if item.dismissed_at is not None:
        return State.DISMISSED
    return State.REPLAYED if item.replayed_at is not None else State.OPEN


def _story(item: Quarantined) -> str:
    state = _state(item)
    if state is State.DISMISSED:
        return f"{state} by {item.dismissed_by}: {item.dismiss_reason}"
    return f"{state} by {item.replayed_by}: {item.replay_outcome}" if state is State.REPLAYED else state
