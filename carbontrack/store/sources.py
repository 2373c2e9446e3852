"""Which row of ``source`` a reading belongs to: a stream in a stack, and the upper part of the sequence number.

That makes a row, and the key beside it, so narrow: 4 bytes instead of 16.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from carbontrack.model import Flag, Reading

BITS = 31
_LOW = (1 << BITS) - 1
_FROM_PITOT = int(Flag.VELOCITY_FROM_PITOT)

Key = tuple[int, int, int]
"""Stream, stack, and the number of the first reading that the source can hold."""
Row = tuple[int, int, object, float, float | None, float | None, float | None, float | None, int]
COLUMNS = (
    "source_id",
    "seq",
    "measured_at",
    "received_after_s",
    "co2_ppm",
    "temperature_c",
    "flow_signal",
    "pressure_kpa",
    "flags",
)


class Sources:
    """The sources that are known so far. ``find`` gives the ids of some, and makes those that are new."""

    def __init__(self, find: Callable[[list[Key]], Awaitable[dict[Key, int]]]) -> None:
        self._find = find
        self._ids: dict[Key, int] = {}

    async def of(self, readings: Iterable[Reading]) -> list[tuple[int, Reading]]:
        """Each reading with its source."""
        keyed = [((row.stream_pk, row.stack_id, row.seq & ~_LOW), row) for row in readings]
        ids = self._ids
        new = {key for key, _ in keyed if key not in ids}
        if new:
            ids.update(await self._find(sorted(new)))
        return [(ids[key], row) for key, row in keyed]


def row_of(source_id: int, reading: Reading, measured_at: object) -> Row:
    """What is kept of a reading; ``measured_at`` is the time as the engine keeps it."""
    return (
        source_id,
        reading.seq & _LOW,
        measured_at,
        (reading.received_at - reading.measured_at).total_seconds(),
        reading.co2_ppm,
        reading.temperature_c,
        # What the flow channel gave: m/s, or Pa where the velocity comes from a pitot tube.
        reading.pressure_difference_pa if reading.flags & _FROM_PITOT else reading.velocity_ms,
        reading.pressure_kpa,
        reading.flags,
    )
