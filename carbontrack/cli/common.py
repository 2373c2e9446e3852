"""What the commands share: the configuration, the store, and how an error is told."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from zoneinfo import ZoneInfo

import typer

from carbontrack.config import Config, ConfigError, load_config
from carbontrack.model import Factory, Origin
from carbontrack.tasks import run as run_on_a_loop

if TYPE_CHECKING:  # the store takes a third of a command's start, and not every command needs it
    from carbontrack.store import Store

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="CARBONTRACK_CONFIG",
        help="The configuration file; without it, defaults and environment.",
    ),
]


def stop(message: str) -> NoReturn:
    typer.secho(message, err=True, fg=typer.colors.RED)
    raise typer.Exit(2)


def load(path: Path | None) -> Config:
    try:
        return load_config(path, os.environ)
    except ConfigError as error:
        stop(str(error))


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a command's coroutine; what a person can mend is told in one line, without a traceback.

    Whatever a command needs it imports itself: all of Carbon Track takes seconds to import on a small machine.
    """
    try:
        run_on_a_loop(main)
    except ConfigError as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        if not isinstance(error, _mended_by_people()):
            raise
        stop(str(error))


def _mended_by_people() -> tuple[type[Exception], ...]:
    """Errors whose text says what to do. Asked for when there is one: then most of this is imported already."""
    from carbontrack.backup import BackupError  # noqa: PLC0415  # see run
    from carbontrack.broker import BrokerStartError  # noqa: PLC0415  # see run
    from carbontrack.emissions.factors import FactorError, FactorMissing  # noqa: PLC0415  # see run
    from carbontrack.store import (  # noqa: PLC0415  # see run
        ArchiveError,
        RegistryError,
        SchemaMismatch,
        StoreUnavailable,
    )

    return (
        ArchiveError,
        BackupError,
        BrokerStartError,
        FactorError,
        FactorMissing,
        RegistryError,
        SchemaMismatch,
        StoreUnavailable,
    )


@asynccontextmanager
async def opened_store(path: Path | None) -> AsyncIterator[Store]:
    from carbontrack.metrics import Metrics  # noqa: PLC0415  # see run
    from carbontrack.store import open_store  # noqa: PLC0415  # see run

    config = load(path)
    async with open_store(config.database.url, Metrics(), archive_folder=config.retention.archive_folder) as store:
        yield store


def with_store(path: Path | None, command: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with opened_store(path) as store:
            await command(store)

    run(main)


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is not there yet; from its first byte on nobody reads it whom ``mode`` does not let.

    Raises FileExistsError where it is there.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def from_here() -> Origin:
    """Who uses the command line, for the audit log: the machine's name for the user is all that is known."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for it
        user = str(os.getuid())
    return Origin("command line", f"{user}@{socket.gethostname()}")


def moment_named(text: str, option: str, config: Path | None) -> datetime:
    """A time that a person has typed as the value of ``option``; without an offset it is the site's."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return stop(f"{option} must be a time such as 2026-03-01T08:00+03:00, not {text!r}")
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(load(config).site.time_zone))


def day_named(text: str, option: str) -> date:
    """A day that a person has typed as the value of ``option``."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return stop(f"{option} must be a day such as 2026-03-01, not {text!r}")


async def factory_named(store: Store, slug: str) -> Factory:
    found = await store.factory_by_slug(slug)
    if found is None:
        known = ", ".join(factory.slug for factory in await store.factories()) or "none yet"
        stop(f"There is no factory {slug!r}. There are: {known}")
    return found
