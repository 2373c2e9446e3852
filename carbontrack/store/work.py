"""What an actor asks the store to keep, in one piece: it is committed as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from asyncpg import InterfaceError, InternalClientError, PostgresError
from tortoise.exceptions import BaseORMException, DoesNotExist, IntegrityError

from carbontrack.model import Quarantined, Reading, Record, Unavailable
from carbontrack.streams import Anchor, Stream

TIER_MS = 300_000
"""Length of the finest chart tier's buckets: 5 minutes."""
LONGEST_CAUSE = 40


class StoreUnavailable(Unavailable):
    """The database is away or refuses everything: nothing was kept; try again later."""


class StoreFull(StoreUnavailable):
    """The database's disk is full. What is not kept comes again: the devices have it."""


class StoreBusy(StoreUnavailable):
    """The work asks for more than is done at once. Something of it is prepared now: each attempt gets further."""


class WorkRefused(Exception):
    """The database is there and can never take this work, though no single reading is at fault: a defect of ours."""


@contextmanager
def outages() -> Iterator[None]:
    """Turn what drivers raise when the database is away into :class:`StoreUnavailable`."""
    try:
        yield
    # InternalClientError: a connection was lost in the midst of a query, and another one was to begin on it.
    except (BaseORMException, PostgresError, InterfaceError, InternalClientError, OSError, TimeoutError) as error:
        if isinstance(error, IntegrityError | DoesNotExist):
            raise
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream's state as it is after the work is done, ready for the database."""

    pk: int
    watermark: int
    beyond: str
    anchors: str
    last_measured_ms: int
    last_stack_id: int | None
    last_seq: int | None
    last_received_at: datetime

    @classmethod
    def of(cls, stream: Stream, received_at: datetime) -> StreamState:
        beyond = json.dumps(stream.beyond) if stream.beyond else "[]"
        anchors = (
            json.dumps({boot: [anchor.offset_ms, anchor.estimated] for boot, anchor in stream.anchors.items()})
            if stream.anchors
            else "{}"
        )
        return cls(
            stream.pk,
            stream.watermark,
            beyond,
            anchors,
            stream.last_measured_ms,
            stream.last_stack_id,
            stream.last_seq,
            received_at,
        )


def stream_from_row(row: Mapping[str, Any]) -> Stream:
    """A stream as the database has it."""
    anchors = {
        int(boot): Anchor(offset_ms, estimated) for boot, (offset_ms, estimated) in json.loads(row["anchors"]).items()
    }
    return Stream(
        row["id"],
        row["sid"],
        row["watermark"],
        json.loads(row["beyond"]),
        anchors,
        row["last_measured_ms"],
        row["last_stack_id"],
        row["last_seq"],
    )


@dataclass(slots=True)
class Work:
    """One actor's contribution to a group commit."""

    device_id: str
    factory_id: int
    readings: list[Reading] = field(default_factory=list)
    records: list[tuple[int, Record, datetime, datetime]] = field(default_factory=list)
    """Pairs of (stream pk, record) with the UTC measuring time and the time of receipt."""
    quarantined: list[Quarantined] = field(default_factory=list)
    streams: dict[int, StreamState] = field(default_factory=dict)
    buckets: set[tuple[int, int]] = field(default_factory=set)
    """Pairs of (stack id, bucket start in ms) that must be summarised again."""

    late: bool = False
    """Backlog: what is live goes first."""

    conflicts: list[Reading] = field(default_factory=list)
    """Set by the store: readings that the database had already (the safety net below the streams' own account)."""
    rejected: list[Quarantined] = field(default_factory=list)
    """Set by the store: rows that the database refused for what they contain, now in quarantine."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The work of many actors, flattened for one transaction."""

    readings: list[Reading]
    records: list[tuple[int, Record, datetime, datetime]]
    quarantined: list[tuple[int, Quarantined]]
    streams: list[StreamState]
    buckets: list[tuple[int, int]]
    works: int = 1
    """How many actors have a part in it."""

    @classmethod
    def of(cls, works: Sequence[Work], known_dirty: set[tuple[int, int]]) -> Batch:
        buckets: set[tuple[int, int]] = set()
        for work in works:
            buckets |= work.buckets
        return cls(
            [reading for work in works for reading in work.readings],
            [record for work in works for record in work.records],
            [(work.factory_id, _storable(item)) for work in works for item in (*work.quarantined, *work.rejected)],
            [state for work in works for state in work.streams.values()],
            sorted(buckets - known_dirty),
            len(works),
        )


FOLD_WITHIN = timedelta(hours=1)
"""What comes into quarantine again after a shorter time is the same row, once more: nodes send again for ever."""


def digest_of(factory_id: int, item: Quarantined) -> str:
    """What tells a thing in quarantine from all others."""
    text = f"{factory_id}\n{item.device_id}\n{item.cause}\n".encode()
    return hashlib.sha256(text + item.body).hexdigest()[:32]


def _storable(item: Quarantined) -> Quarantined:
    """A plugin names causes and details as it likes."""
    return replace(item, cause=storable_text(item.cause, LONGEST_CAUSE), detail=storable_text(item.detail))


def storable_text(text: str, longest: int | None = None) -> str:
    """What every engine's text columns can hold, of any text."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\\0")[:longest]
