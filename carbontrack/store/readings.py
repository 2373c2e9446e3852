"""The raw readings, wherever they are: in the database, and what has left it in the archive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from carbontrack.model import Flag, Measurement
from carbontrack.store.sizes import Sizes
from carbontrack.store.sqlite import to_ms

_FROM_PITOT = int(Flag.VELOCITY_FROM_PITOT)

_VALUES = "r.co2_ppm, r.temperature_c, r.flow_signal, r.pressure_kpa, r.flags"
_OF_A_STACK = """
FROM source s JOIN reading r ON r.source_id = s.id
WHERE s.stack_id = $1 AND r.measured_at >= $2 AND r.measured_at < $3
ORDER BY r.measured_at, s.stream_id, s.base_seq, r.seq
"""
_MS_POSTGRES = "(extract(epoch FROM r.measured_at) * 1000)::bigint"
_MS_SQLITE = "r.measured_at"
_READINGS = f"""
SELECT s.stack_id, s.stream_id, s.base_seq + r.seq AS seq, r.measured_at, r.received_after_s, {_VALUES}
{_OF_A_STACK} LIMIT $4
"""  # texts out of this module


_NEWEST = "to_timestamp(t.last_measured_ms / 1000.0)"
_NEWEST_TIMES = f"SELECT DISTINCT {_NEWEST} FROM stream t WHERE last_measured_ms > 0"  # noqa: S608  # as above
VALUES = ("co2_ppm", "temperature_c", "velocity_ms", "pressure_difference_pa", "pressure_kpa")
_ORDER = attrgetter("measured_at", "stream_pk", "seq")


class RawRow(msgspec.Struct, frozen=True, gc=False):
    """One reading as the tiers need it; the time is in UTC ms."""

    stack_id: int
    stream_pk: int
    seq: int
    measured_at: int
    co2_ppm: float | None
    temperature_c: float | None
    velocity_ms: float | None
    pressure_difference_pa: float | None
    pressure_kpa: float | None
    flags: int


M = TypeVar("M", Measurement, RawRow)


class Readings(Sizes):
    """Every query on raw readings."""

    async def readings(
        self, stack_ids: Sequence[int], since: datetime, until: datetime, limit: int = 100_000
    ) -> list[Measurement]:
        """What was measured in [since, until), oldest first for each stack, at most ``limit``."""
        found: list[Measurement] = []
        for stack_id in stack_ids:
            rows = await self._engine.rows(_READINGS, stack_id, since, until, limit - len(found))
            there = [self._measurement(row) for row in rows]
            found += _merged(there, await self._archived_readings(stack_id, since, until))[: limit - len(found)]
        return found

    async def _archived_readings(self, stack_id: int, since: datetime, until: datetime) -> list[Measurement]:
        columns = ("seq", "measured_at", "received_at", *VALUES, "flags")
        return [
            Measurement(stack_id, stream_pk, seq, _moment(measured_ms), _moment(received_ms), *values)
            for stream_pk, seq, measured_ms, received_ms, *values in await self.archived_rows(
                stack_id, to_ms(since), to_ms(until), columns
            )
        ]

    async def raw(self, stack_id: int, since_ms: int, until_ms: int) -> list[RawRow]:
        """What was measured in a stack in [since, until), in the order in which the tiers take it."""
        engine = self._engine
        at = _MS_POSTGRES if engine.is_postgres else _MS_SQLITE
        text = f"SELECT {at} AS at_ms, s.stream_id, s.base_seq + r.seq, {_VALUES} {_OF_A_STACK}"  # as above
        values = stack_id, engine.time(_moment(since_ms)), engine.time(_moment(until_ms))
        there = [
            RawRow(stack_id, stream_pk, seq, at_ms, co2, temperature, *channels(signal, flags), pressure, flags)
            for at_ms, stream_pk, seq, co2, temperature, signal, pressure, flags in await engine.records(text, *values)
        ]
        columns = ("seq", "measured_at", *VALUES, "flags")
        archived = await self.archived_rows(stack_id, since_ms, until_ms, columns)
        return _merged(there, [RawRow(stack_id, *row) for row in archived])

    async def reading_span(self, stack_id: int, since: datetime, until: datetime) -> tuple[datetime, datetime] | None:
        """When the first and the last reading of a stack in [since, until) were measured."""
        (row,) = await self._engine.rows(
            """
            SELECT min(r.measured_at) AS first, max(r.measured_at) AS last
            FROM source s JOIN reading r ON r.source_id = s.id
            WHERE s.stack_id = $1 AND r.measured_at >= $2 AND r.measured_at < $3
            """,
            stack_id,
            since,
            until,
        )
        moments = [self._engine.moment(value) for value in (row["first"], row["last"]) if value is not None]
        rows = await self.archived_rows(stack_id, to_ms(since), to_ms(until), ("measured_at",))
        moments += [_moment(at_ms) for _, at_ms in rows]
        return (min(moments), max(moments)) if moments else None

    async def devices_of_streams(self, stack_id: int) -> dict[int, str]:
        """Which device's each stream is, of those that have measured at a stack."""
        rows = await self._engine.rows(
            "SELECT DISTINCT t.id, t.device_id FROM stream t JOIN source s ON s.stream_id = t.id WHERE s.stack_id = $1",
            stack_id,
        )
        return {row["id"]: row["device_id"] for row in rows}

    async def was_measured(self, stack_id: int) -> bool:
        """Whether there was ever a reading of a stack, wherever it is now."""
        return bool(await self._engine.rows("SELECT 1 FROM source WHERE stack_id = $1 LIMIT 1", stack_id))

    async def newest_readings(self) -> dict[str, Measurement]:
        """What each device measured last, for the live state after a start."""
        # The stream knows where its newest reading is, so that this is one index look-up a device and not a scan.
        newest, days, values = "t.last_measured_ms", "", []
        if self._engine.is_postgres:
            newest = _NEWEST
            # Named beforehand, so that no other day's table is opened and locked: there may be thousands.
            times = await self._engine.records(_NEWEST_TIMES)
            days, values = "AND r.measured_at = ANY($1)", [[at for (at,) in times]]
        rows = await self._engine.rows(
            f"""
            SELECT t.device_id, s.stack_id, s.stream_id, s.base_seq + r.seq AS seq, r.measured_at, r.received_after_s,
                {_VALUES}
            FROM stream t
            JOIN source s ON s.stream_id = t.id AND s.stack_id = t.last_stack_id
                AND s.base_seq <= t.last_seq AND t.last_seq < s.base_seq + 2147483648
            JOIN reading r ON r.source_id = s.id AND r.measured_at = {newest} AND r.seq = t.last_seq - s.base_seq
                {days}
            ORDER BY r.measured_at
            """,  # noqa: S608  # texts out of this module
            *values,
        )
        return {row["device_id"]: self._measurement(row) for row in rows}

    def _measurement(self, row: dict[str, Any]) -> Measurement:
        measured_at = self._engine.moment(row["measured_at"])
        velocity_ms, difference_pa = channels(row["flow_signal"], row["flags"])
        return Measurement(
            row["stack_id"],
            row["stream_id"],
            row["seq"],
            measured_at,
            measured_at + timedelta(milliseconds=round(1000 * row["received_after_s"])),
            row["co2_ppm"],
            row["temperature_c"],
            velocity_ms,
            difference_pa,
            row["pressure_kpa"],
            row["flags"],
        )


def _merged(there: list[M], archived: list[M]) -> list[M]:
    """What is in the database and what is in the archive, each reading once, in the order of their times."""
    if not archived:
        return there
    rows = {(row.stream_pk, row.seq): row for row in (*archived, *there)}
    return sorted(rows.values(), key=_ORDER)  # type: ignore[arg-type]  # mypy loses the type variable of the dict


def channels(flow_signal: float | None, flags: int) -> tuple[float | None, float | None]:
    """Velocity in m/s and pressure difference in Pa: what the flow channel gave was one of them."""
    return (None, flow_signal) if flags & _FROM_PITOT else (flow_signal, None)


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
