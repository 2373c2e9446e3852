"""What a core tells the web processes beside it, through Redis: what changes just now, and how it is doing itself.

The core writes (:class:`Teller`), web processes read (:class:`Mirror`). Nobody decides anything by what is here, and no
reading goes this way: while Redis is away pages show what they knew last, and say so. A Redis belongs to one site: two
sites on one server take two of its numbered databases.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import structlog

from carbontrack.live import MOST_ALERTS, Live, ToldAlert
from carbontrack.model import Device, Flood, Site, Snapshot, StorageStatus, Stranger

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

log = structlog.get_logger(__name__)

CHANNEL = "carbontrack:live"
DEVICES = "carbontrack:live:devices"
"""A hash: device -> its number and its snapshot."""
ALERTS = "carbontrack:live:alerts"
PLACE = "carbontrack:live:place"
CORE = "carbontrack:core"
"""The :class:`CoreStatus`; it is gone soon after the core is."""

TOGETHER_S = 0.1
"""Changes of this time go out together."""
STATUS_EVERY_S = 2.0
CORE_LASTS_S = 10
"""A core that was not heard for so long is away."""
TIMEOUT_S = 5.0
READ_S = 0.5


class CoreStatus(msgspec.Struct, frozen=True):
    """How a core is doing, and where web processes reach it. ``door`` is the token that they show there."""

    at: datetime
    url: str
    fingerprint: bytes | None
    """SHA-256 of the certificate of the core's own https; None where it has none."""
    door: str
    problems: Sequence[str] = ()
    errors: Mapping[str, str] = {}
    floods: Sequence[Flood] = ()
    strangers: Sequence[Stranger] = ()
    refused: Mapping[str, int] = {}
    storage: StorageStatus | None = None
    reloads: int = 0
    """How often it has read its configuration anew."""


class Place(msgspec.Struct, frozen=True):
    """How far a stream is: its era, and how much has been told in it."""

    era: str
    told: int


class Change(msgspec.Struct, frozen=True):
    """What has changed since ``before`` was told; None: all of it, which is to be read."""

    place: Place
    before: int | None
    devices: Sequence[tuple[int, Snapshot]] = ()
    alerts: Sequence[ToldAlert] = ()


_pack = msgspec.msgpack.Encoder().encode
_unpack_change = msgspec.msgpack.Decoder(Change).decode
_unpack_device = msgspec.msgpack.Decoder(tuple[int, Snapshot]).decode
_unpack_alert = msgspec.msgpack.Decoder(ToldAlert).decode
_unpack_place = msgspec.msgpack.Decoder(Place).decode
_unpack_status = msgspec.msgpack.Decoder(CoreStatus).decode


class RedisAway(ConnectionError):
    """Redis does not answer."""


@asynccontextmanager
async def opened_redis(url: str) -> AsyncIterator[Redis]:
    """Redis at this address until the block ends; it need not be there yet."""
    from redis.asyncio import Redis  # noqa: PLC0415  # slow to import, and most sites have none

    client = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def _asked() -> Iterator[None]:
    """Name what redis-py raises in a way that those who keep jobs running know."""
    from redis.exceptions import RedisError  # noqa: PLC0415  # as above

    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisAway(f"Redis: {error}") from error


class RedisShelf:
    """What processes of a site leave for each other; a Redis that is away has nothing, and takes nothing."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def find(self, name: str) -> bytes | None:
        """What was left under a name, if it is there still."""
        with suppress(RedisAway), _asked():
            found: bytes | None = await self._redis.get(f"carbontrack:{name}")
            return found
        return None

    async def leave(self, name: str, content: bytes, lasts_s: float) -> None:
        """Leave something under a name, for so long."""
        with suppress(RedisAway), _asked():
            await self._redis.set(f"carbontrack:{name}", content, px=round(lasts_s * 1000))


class Teller:
    """The core's side: tells Redis what the live stream tells, and now and then how the core is doing."""

    def __init__(
        self,
        redis: Redis,
        live: Live,
        snapshots: Callable[[], Mapping[str, Snapshot]],
        status: Callable[[], CoreStatus],
    ) -> None:
        self._redis = redis
        self._live = live
        self._snapshots = snapshots
        self._status = status
        self._told = Place("", 0)

    async def keep(self) -> None:
        """Tell what changes, until cancelled. Raises :class:`RedisAway`; called again, it tells everything anew."""
        self._told, next_status = Place("", 0), 0.0
        with self._live.subscribe(None) as subscription, _asked():
            while not subscription.closed:
                if time.monotonic() >= next_status:
                    next_status = time.monotonic() + STATUS_EVERY_S
                    await self._redis.set(CORE, _pack(self._status()), ex=CORE_LASTS_S)
                changed: list[Snapshot] = []
                if self._told.era == self._live.era:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, next_status - time.monotonic())):
                            changed = await subscription.changes()
                    subscription.alerts()  # they are taken from the stream, which knows whose they are
                await self._tell(changed)
                await asyncio.sleep(TOGETHER_S)

    async def _tell(self, changed: Sequence[Snapshot]) -> None:
        live, before = self._live, self._told
        place, anew = Place(live.era, live.told), before.era != live.era
        if place == before:
            return
        alerts = live.all_alerts_since(0 if anew else before.told)
        devices = [(live.changed_at(it.device_id), it) for it in (self._snapshots().values() if anew else changed)]
        async with self._redis.pipeline(transaction=True) as pipe:
            if anew:
                pipe.delete(DEVICES, ALERTS)
            self._keep(pipe, devices, alerts)
            pipe.set(PLACE, _pack(place))
            pipe.publish(CHANNEL, _pack(Change(place, None) if anew else Change(place, before.told, devices, alerts)))
            await pipe.execute()
        self._told = place

    @staticmethod
    def _keep(pipe: Pipeline, devices: Iterable[tuple[int, Snapshot]], alerts: Sequence[ToldAlert]) -> None:
        """For who comes later: every device's newest, and the newest alerts."""
        if kept := {snapshot.device_id: _pack((at, snapshot)) for at, snapshot in devices}:
            pipe.hset(DEVICES, mapping=kept)
        if alerts:
            pipe.rpush(ALERTS, *map(_pack, alerts))
            pipe.ltrim(ALERTS, -MOST_ALERTS, -1)


class Mirror:
    """A web process's side: the fleet as the core last told of it, and a live stream with the same places as its own.

    ``problem`` says what is wrong; it is empty while the core is heard.
    """

    def __init__(self, redis: Redis, live: Live, clock: Callable[[], datetime]) -> None:
        self.core: CoreStatus | None = None
        """As it was when it was last heard; None: it never was."""
        self.problem = "Nothing was heard of the core yet."
        self._redis = redis
        self._live = live
        self._clock = clock
        self._sites: dict[str, Site] = {}
        self._found: dict[str, Snapshot] = {}
        self._place = Place("", 0)

    async def keep(self) -> None:
        """Follow the core until cancelled. Raises :class:`RedisAway`."""
        try:
            with _asked():
                async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(CHANNEL)
                    await self.take_status()
                    await self._take_all()
                    asked_at = time.monotonic()
                    while True:
                        message = await heard.get_message(timeout=READ_S)
                        if message is not None:
                            await self._take(_unpack_change(message["data"]))
                        if time.monotonic() - asked_at >= STATUS_EVERY_S:
                            asked_at = time.monotonic()
                            await self.take_status()
        except RedisAway:
            self._stands_still(f"Redis does not answer: what is live here is from before {self._clock():%H:%M} UTC.")
            raise

    async def take_status(self) -> None:
        """See how the core is doing."""
        status = await self._redis.get(CORE)
        if status is not None:
            self.core, self.problem = _unpack_status(status), ""
        elif self.core is not None:
            self._stands_still(
                f"The core was last heard at {self.core.at:%H:%M:%S} UTC: what is live here is from then."
            )

    def _stands_still(self, problem: str) -> None:
        """Say what is wrong; whoever watches goes, to another process perhaps, and comes back."""
        if not self.problem:
            self.problem = problem
            self._live.close()

    async def _take(self, change: Change) -> None:
        if change.before is None or (change.place.era, change.before) != (self._place.era, self._place.told):
            if change.place != self._place:
                await self._take_all()
            return
        self._found.update((snapshot.device_id, snapshot) for _, snapshot in change.devices)
        self._place = change.place
        self._live.repeat(change.place.era, change.place.told, change.devices, change.alerts)

    async def _take_all(self) -> None:
        """Read everything: at the beginning, and after something was missed."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(PLACE)
            pipe.hgetall(DEVICES)
            pipe.lrange(ALERTS, 0, -1)
            place, devices, alerts = await pipe.execute()
        if place is None:
            return  # no core has told anything yet
        before, self._place = self._place, _unpack_place(place)
        known = [_unpack_device(packed) for packed in devices.values()]
        self._found = {snapshot.device_id: snapshot for _, snapshot in known}
        is_same = before.era == self._place.era
        news = [(at, it) for at, it in known if not is_same or at > before.told]
        told = [it for it in map(_unpack_alert, alerts) if is_same and it.at > before.told]
        self._live.repeat(self._place.era, self._place.told, sorted(news, key=lambda it: it[0]), told)

    # --- what pages ask

    async def sync(self, sites: Sequence[Site]) -> None:
        """Take what the registry says now."""
        self._sites = {site.device.device_id: site for site in sites}

    def device(self, device_id: str) -> Device | None:
        """A device of the registry, disabled or not."""
        site = self._sites.get(device_id)
        return site.device if site is not None else None

    def is_online(self, device_id: str) -> bool:
        """Whether a device is connected, as far as anybody knows."""
        snapshot = self._found.get(device_id)
        return snapshot is not None and snapshot.online

    def snapshots(self) -> dict[str, Snapshot]:
        """The live state of every device that runs and is where the registry has it."""
        return {
            name: it
            for name, it in self._found.items()
            if (site := self._sites.get(name)) is not None and site.factory.id == it.factory_id
        }

    def errors(self) -> dict[str, str]:
        """Why an actor is backing off or parked."""
        return dict(self.core.errors) if self.core else {}

    def floods(self, now_ms: int) -> list[Flood]:  # noqa: ARG002  # the core has looked by its own clock
        """Devices that send more than they may."""
        return list(self.core.floods) if self.core else []

    @property
    def strangers(self) -> dict[str, Stranger]:
        """Who sends and is not registered."""
        return {it.device_id: it for it in self.core.strangers} if self.core else {}

    def measure(self) -> None:
        """The core's metrics are the core's."""

    def not_ready(self) -> list[str]:
        """Why this process should not be asked."""
        return [self.problem] if self.problem else []

    def problems(self) -> list[str]:
        """What is wrong here, or else with the core."""
        return self.not_ready() or list(self.core.problems if self.core else ())
