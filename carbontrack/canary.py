"""A synthetic message on the way of every reading: broker, actor, database, live page; and how long it took.

Every few seconds the canary publishes, as a device would and by a connection of its own, and then waits for itself on
the live stream that browsers get. It leaves one row in the database, of its stream, and no reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import aiomqtt
import msgspec
import structlog

from carbontrack.actor import Actor
from carbontrack.device import Services
from carbontrack.ingest import BrokerSettings, client_beside
from carbontrack.live import CANARY_FACTORY_ID
from carbontrack.metrics import Metrics
from carbontrack.model import Payload, Snapshot
from carbontrack.store import StoreUnavailable, StreamState, Work
from carbontrack.streams import Stream
from carbontrack.tasks import end

log = structlog.get_logger(__name__)

Trust = aiohttp.Fingerprint | bool

DEVICE_ID = "carbontrack-canary"
TOPIC = f"ct/v1/{DEVICE_ID}/up/data"
BUDGET_S = 5.0
"""A message that has not come by then is counted as lost; a reading would take as long."""
STREAM_PATH = "/api/canary/"
PROBLEMS = {
    "committed": "The test message has not come through broker and database in time. Do devices' messages come?",
    "shown": "The test message is in the database but did not come to the live page in time. Is the core overloaded?",
}
"""What is told when the canary is lost, by stage."""


class _Message(msgspec.Struct):
    """What the canary sends: its number, which is the UTC time in ms. It counts up, over restarts too."""

    seq: int


_decode = msgspec.json.Decoder(_Message).decode


class CanaryActor(Actor[Payload]):
    """The platform's side: commits, then shows. It has a mailbox, a transaction and a live state like any device."""

    __slots__ = ("_canary", "_services", "_stream")

    def __init__(self, services: Services, canary: Canary) -> None:
        super().__init__(DEVICE_ID, mailbox_size=16, idle_after_s=60.0, max_failures=services.park_after_failures)
        self._canary = canary
        self._services = services
        self._stream: Stream | None = None

    def is_outage(self, error: Exception) -> bool:
        return isinstance(error, StoreUnavailable)

    async def on_start(self) -> None:
        self._stream = await self._services.store.open_stream(DEVICE_ID, "canary")

    async def handle(self, messages: list[Payload]) -> None:
        stream = self._stream
        assert stream is not None, "on_start comes first"
        for payload in messages:
            try:
                message = _decode(payload.body)
            except msgspec.DecodeError:
                continue  # somebody else uses its topic; there is nothing to keep
            if not self._canary.waits_for(message.seq):
                continue  # the same, or of a core before this one
            received_at = datetime.fromtimestamp(payload.received_at_ms / 1000, UTC)
            stream.watermark = message.seq
            state = StreamState.of(stream, received_at)
            await self._services.store.save(Work(DEVICE_ID, 0, streams={stream.pk: state}))
            self._canary.committed(message.seq)
            measured_at = datetime.fromtimestamp(message.seq / 1000, UTC)
            self._services.live.publish(
                Snapshot(DEVICE_ID, CANARY_FACTORY_ID, 0, online=True, measured_at=measured_at, received_at=received_at)
            )


class Canary:
    """The device's side, and the clock. ``problem`` says what is wrong; it is empty when the last one came through."""

    def __init__(self, settings: BrokerSettings, metrics: Metrics, every_s: float, budget_s: float = BUDGET_S) -> None:
        self.token = secrets.token_urlsafe()
        """Opens the canary's live stream, for this process only."""
        self.problem = ""
        self._watches = asyncio.Event()
        self._settings = settings
        self._metrics = metrics
        self._every_s = every_s
        self._budget_s = budget_s
        self._sent: dict[int, float] = {}
        self._committed: dict[int, asyncio.Event] = {}
        self._shown: dict[int, asyncio.Event] = {}

    def waits_for(self, seq: int) -> bool:
        """Whether a message is on its way."""
        return seq in self._sent

    def committed(self, seq: int) -> None:
        """Told by the actor when a message is in the database."""
        event = self._committed.get(seq)
        if event is not None:
            self._metrics.canary.labels("committed").observe(time.monotonic() - self._sent[seq])
            event.set()

    async def fly(self, url: str, trust: Callable[[], Trust] = lambda: True) -> None:
        """Send until cancelled. Raises ConnectionError without a broker.

        ``url`` is where this core's pages are, ``trust`` what their certificate must be: it need not name this address.
        """
        try:
            async with self._watching(url, trust), client_beside(self._settings, "canary") as client:
                while True:
                    began = time.monotonic()
                    await self._once(client)
                    await asyncio.sleep(max(0.0, self._every_s - (time.monotonic() - began)))
        except aiomqtt.MqttError as error:
            self.problem = "The test message cannot be sent: there is no connection to the broker."
            raise ConnectionError(str(error)) from error

    async def _once(self, client: aiomqtt.Client) -> None:
        seq = time.time_ns() // 1_000_000
        self._sent[seq], self._committed[seq], self._shown[seq] = time.monotonic(), asyncio.Event(), asyncio.Event()
        stage = "committed"
        try:
            async with asyncio.timeout(self._budget_s):
                await client.publish(TOPIC, msgspec.json.encode(_Message(seq)), qos=1)
                await self._committed[seq].wait()
                stage = "shown"
                await self._shown[seq].wait()
        except TimeoutError:
            self._metrics.canary_lost.labels(stage).inc()
            if not self.problem:
                log.warning("the canary did not come through", stage=stage, after_s=self._budget_s)
            self.problem = PROBLEMS[stage]
        else:
            self.problem = ""
            self._metrics.canary.labels("shown").observe(time.monotonic() - self._sent[seq])
            self._metrics.canary_seen.set_to_current_time()
        finally:
            del self._sent[seq], self._committed[seq], self._shown[seq]

    @contextlib.asynccontextmanager
    async def _watching(self, url: str, trust: Callable[[], Trust]) -> AsyncIterator[None]:
        """Read the live stream as a browser does, beside what goes on in the block, which begins when it is open."""
        self._watches.clear()
        task = asyncio.create_task(self._watch(url, trust), name="canary:watch")
        try:
            with contextlib.suppress(TimeoutError):  # then what is sent is lost, and told
                async with asyncio.timeout(self._budget_s):
                    await self._watches.wait()
            yield
        finally:
            await end(task)

    async def _watch(self, url: str, trust: Callable[[], Trust]) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        # No limit on the whole: a stream is meant to last. A proxy of the environment is not on this way.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._budget_s)
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with (
                    aiohttp.ClientSession(headers=headers, timeout=limits) as session,
                    session.get(url + STREAM_PATH, ssl=trust()) as answer,
                ):
                    async for line in answer.content:
                        if line.startswith(b"data: "):
                            self._see(msgspec.json.decode(line[6:]))
            await asyncio.sleep(1)

    def _see(self, rows: list[dict[str, Any]]) -> None:
        self._watches.set()
        for row in rows:
            moment = datetime.fromisoformat(row["measured_at"])
            event = self._shown.get(round(moment.timestamp() * 1000))
            if event is not None:
                event.set()
