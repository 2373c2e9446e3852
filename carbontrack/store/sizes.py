"""How large the database is, table by table, and which server it is on: for diagnostics."""

from __future__ import annotations

from typing import NamedTuple

from carbontrack.store.retention import Retention

_POSTGRES = """
SELECT coalesce(p.relname, c.relname)::text AS name, count(*)::int AS parts,
    sum(pg_total_relation_size(c.oid))::bigint AS bytes, sum(greatest(c.reltuples, 0))::bigint AS row_count
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
WHERE n.nspname = current_schema() AND c.relkind = 'r' GROUP BY 1 ORDER BY 3 DESC, 1
"""
_SQLITE = r"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name"


class TableSize(NamedTuple):
    """One table; a table of days is one, with all its ``parts``. ``bytes`` None: the engine does not say."""

    name: str
    parts: int
    bytes: int | None
    rows: int
    """On PostgreSQL what its statistics say, which is near enough and costs nothing."""


class Sizes(Retention):
    """Questions about the database itself."""

    async def table_sizes(self) -> list[TableSize]:
        """Every table, on PostgreSQL the largest first."""
        if self._engine.is_postgres:
            rows = await self._engine.rows(_POSTGRES)
            return [TableSize(row["name"], row["parts"], row["bytes"], row["row_count"]) for row in rows]
        found = []
        for row in await self._engine.rows(_SQLITE):
            count = f'SELECT count(*) AS n FROM "{row["name"]}"'  # noqa: S608  # a name of the schema's
            (counted,) = await self._engine.rows(count)
            found.append(TableSize(row["name"], 1, None, counted["n"]))
        return found

    async def server_version(self) -> str:
        """What the database says that it is."""
        what = "version()" if self._engine.is_postgres else "'SQLite ' || sqlite_version()"
        (row,) = await self._engine.rows(f"SELECT {what} AS version")  # one of two texts of ours
        return str(row["version"])
