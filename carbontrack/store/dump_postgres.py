"""PostgreSQL as one stream of bytes and back: by pg_dump and pg_restore, on one snapshot, while ingest goes on.

pg_dump's locks (ACCESS SHARE) are in nobody's way but that of whoever drops a table: what archives a day asks for its
lock without waiting (:mod:`carbontrack.store.retention`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import asyncpg

from carbontrack.store.contents import TABLES_POSTGRES, BackupError, Contents, RestoredDatabase, Sink, contents
from carbontrack.store.postgres import IN_USE
from carbontrack.store.schema import postgres_address
from carbontrack.store.work import outages

COMPRESSION = 1
"""gzip's fastest: the default takes four times the work for a fifth less (docs/backup.md)."""
APPLICATION = "carbontrack-backup"
DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps several versions beside each other."""
_SNAPSHOT = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
LOCK TABLE {tables} IN ACCESS SHARE MODE
"""
_PARTS_FIRST = """
SELECT c.relname, c.relkind IN ('r', 'p') AND NOT c.relispartition FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2, 1
"""
_FUNCTIONS = """
SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.prokind = 'f'
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
"""  # what triggers call: a dump has them beside the tables

Connection: TypeAlias = "asyncpg.Connection[Any]"


class PostgresSnapshot:
    """One moment of a database; ``write`` may take its time."""

    def __init__(self, address: dict[str, Any], version: int, found: Contents, schema: str, snapshot: str) -> None:
        self.engine = "postgres"
        self.engine_version = version
        self.contents = found
        self._arguments = [f"--schema={schema}", f"--snapshot={snapshot}"]
        self._address = address
        self._program = _program("pg_dump", version)

    async def write(self, target: Sink) -> None:
        """Write the whole in pg_dump's custom format. Raises :class:`BackupError` with what pg_dump says."""
        command = [
            self._program, "--format=custom", f"--compress={COMPRESSION}", "--no-owner", "--no-privileges",
            "--no-publications", "--no-subscriptions", "--no-tablespaces", *self._arguments,
        ]  # fmt: skip
        await _run(command, self._address, lambda _, output: shutil.copyfileobj(output, target, 1 << 20))


@asynccontextmanager
async def postgres_snapshot(url: str) -> AsyncIterator[PostgresSnapshot]:
    """A moment that lasts until the block ends."""
    address = postgres_address(url)
    async with _connected(address) as connection:
        version = connection.get_server_version().major
        _program("pg_dump", version)  # rather now than after the counting
        tables = ", ".join(f'"{name}"' for (name,) in await connection.fetch(TABLES_POSTGRES))
        if not tables:
            raise BackupError("The database is empty: there is nothing to back up.")
        # The locks come first, those of all days with them: what the snapshot sees cannot be dropped before it is read.
        with outages():
            await connection.execute(_SNAPSHOT.format(tables=tables))
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            schema = await _own_schema(connection)
            found = await contents(connection.fetch, TABLES_POSTGRES)
        yield PostgresSnapshot(address, version, found, schema, snapshot)


@asynccontextmanager
async def postgres_restored(
    url: str, copy: Callable[[Sink], None], *, made_by: int, aside: str | None
) -> AsyncIterator[RestoredDatabase]:
    """Bring a dump back; where the block fails, all is as it was before. ``copy`` writes the dump into its argument.

    ``aside`` is the schema that gets what the database holds; None: it must hold nothing. ``made_by`` is the version
    of the server that was dumped.
    """
    address = postgres_address(url)
    program = _program("pg_restore", made_by)
    async with _connected(address) as connection:
        there, schema = await _alone(connection, aside)
        command = [program, "--exit-on-error", "--no-owner", "--no-privileges", f"--schema={schema}",
                   f"--dbname={address['database']}"]  # fmt: skip
        try:
            await _run(command, address, lambda input_, _: _fed(input_, copy))
            with outages():
                await connection.execute("ANALYZE")
            count = functools.partial(contents, connection.fetch, TABLES_POSTGRES)
            yield RestoredDatabase(url, count, aside if there else None)
        except BaseException:
            await _undo(connection, there, aside)
            raise


async def _alone(connection: Connection, aside: str | None) -> tuple[list[str], str]:
    """Make sure that nobody else uses the database and that there is nothing in the way; what was put aside."""
    with outages():
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", IN_USE):
            raise BackupError(
                "A core or another command of Carbon Track is using this database. Stop it first (the devices keep "
                "what they measure), then restore."
            )
        there = [name for name, _ in await connection.fetch(_PARTS_FIRST)]
        schema = await _own_schema(connection)
    if there and aside is None:
        raise BackupError(
            f"The database holds something already ({len(there)} tables). Restore into a new, empty one (createdb, "
            "then database.url); or say --replace: what it holds is moved to another schema of the same database first."
        )
    if there:
        await _move(connection, there, aside)
    return there, schema


async def _undo(connection: Connection, tables: Sequence[str], aside: str | None) -> None:
    try:
        await _drop_all(connection)
        if tables:
            await _move_back(connection, tables, aside)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        where = f"; what was there before is in the schema {aside}" if tables else ""
        raise BackupError(f"The restore failed, and so did tidying up after it ({error}){where}.") from error


async def _move(connection: Connection, tables: Sequence[str], schema: str | None) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f'CREATE SCHEMA "{schema}"')
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            for name in tables:
                await connection.execute(f'ALTER TABLE "{name}" SET SCHEMA "{schema}"')
            for function in await _functions(connection, await _own_schema(connection)):
                await connection.execute(f'ALTER FUNCTION {function} SET SCHEMA "{schema}"')
    except asyncpg.PostgresError as error:
        raise BackupError(
            f"What the database holds cannot be moved to the schema {schema}: {error}. Nothing was changed. "
            "Restore into a new, empty database instead."
        ) from error


async def _move_back(connection: Connection, tables: Sequence[str], schema: str | None) -> None:
    own = await _own_schema(connection)
    async with connection.transaction():
        for name in tables:
            await connection.execute(f'ALTER TABLE "{schema}"."{name}" SET SCHEMA "{own}"')
        for function in await _functions(connection, schema):
            await connection.execute(f'ALTER FUNCTION {function} SET SCHEMA "{own}"')
        await connection.execute(f'DROP SCHEMA "{schema}"')


async def _drop_all(connection: Connection) -> None:
    """One by one, days first: together they could need more locks than there are."""
    for name, _ in await connection.fetch(_PARTS_FIRST):
        await connection.execute(f'DROP TABLE IF EXISTS "{name}" CASCADE')
    for function in await _functions(connection, await _own_schema(connection)):
        await connection.execute(f"DROP FUNCTION {function}")


async def _own_schema(connection: Connection) -> str:
    schema: str = await connection.fetchval("SELECT current_schema()")
    return schema


async def _functions(connection: Connection, schema: str | None) -> list[str]:
    return [function for (function,) in await connection.fetch(_FUNCTIONS, schema)]


@asynccontextmanager
async def _connected(address: dict[str, Any]) -> AsyncIterator[Connection]:
    with outages():
        connection = await asyncpg.connect(
            **address,
            timeout=10,
            server_settings={
                "application_name": APPLICATION,
                "statement_timeout": "0",
                "idle_in_transaction_session_timeout": "0",  # the programs work while this session holds the snapshot
            },
        )
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


# --- PostgreSQL's programs


def _program(name: str, at_least: int) -> str:
    """A program of PostgreSQL that understands a server of this version; rather exactly of that version."""
    own = str(DEBIAN / str(at_least) / "bin")
    found = shutil.which(name, path=os.pathsep.join([own, *os.get_exec_path()]))
    help_text = f"Debian and Ubuntu: apt install postgresql-client-{at_least}; Fedora: dnf install postgresql"
    if found is None:
        raise BackupError(f"{name} is not installed. It comes with PostgreSQL's client programs ({help_text}).")
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603  # found by its name
    version = re.search(r"\) (\d+)", shown)
    if version is None or int(version[1]) < at_least:
        raise BackupError(
            f"{found} is {shown.strip() or 'of an unknown version'}, and PostgreSQL {at_least} needs one that is at "
            f"least as new ({help_text}; the first one in PATH counts)."
        )
    return found


def _fed(program: IO[bytes], copy: Callable[[Sink], None]) -> None:
    with contextlib.suppress(BrokenPipeError):  # a program that ends before its time says why
        copy(program)
        program.close()


async def _run(command: Sequence[str], address: dict[str, Any], feed: Callable[[IO[bytes], IO[bytes]], None]) -> None:
    """Run a program; ``feed`` gets its input and its output, in a thread.

    Raises :class:`BackupError` with what the program says when it fails.
    """
    with tempfile.TemporaryFile() as said, _started(command, address, said) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await asyncio.to_thread(feed, process.stdin, process.stdout)
        except BaseException:  # Ctrl-C as well: it must not go on behind our back
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        status = await asyncio.to_thread(process.wait)
        said.seek(0)
        if status != 0:
            text = said.read(4000).decode(errors="replace").strip()
            raise BackupError(f"{Path(command[0]).name} failed: {text or f'it ended with {status}'}")


def _started(command: Sequence[str], address: dict[str, Any], said: IO[bytes]) -> subprocess.Popen[bytes]:
    sign_in = {
        "PGHOST": address["host"],
        "PGPORT": str(address["port"]),
        "PGUSER": address["user"],
        "PGPASSWORD": address["password"],  # never on the command line, where everybody sees it
        "PGDATABASE": address["database"],
        "PGAPPNAME": APPLICATION,
    }
    environment = os.environ | {name: value for name, value in sign_in.items() if value}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=said)  # noqa: S603  # our words
