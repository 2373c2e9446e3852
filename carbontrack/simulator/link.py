"""The connection of one node to the broker: connects, sends what the node wants sent, hands it the receipts."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable

import aiohttp
import aiomqtt
import structlog

from carbontrack.ingest import BrokerSettings
from carbontrack.simulator.node import Node
from carbontrack.simulator.ota import Offer, fetch, report
from carbontrack.tasks import end, first_of

log = structlog.get_logger(__name__)

LONGEST_BACKOFF_S = 120.0
STEADY_S = 300.0
"""A connection that stood for so long was a good one: the next attempt comes soon."""
IDLE_S = 1.0
"""How often a node without backlog looks whether there is any."""
GOODBYE_S = 3.0


class Link:
    """Runs until ``stop`` is set.

    ``on_open`` is called before each connection, when the node has given it a number that must not come again, and when
    the node has been told something that must be there after a crash.
    """

    def __init__(
        self,
        node: Node,
        broker: BrokerSettings,
        password: str | None,
        stop: asyncio.Event,
        on_open: Callable[[], None],
        *,
        longest_backoff_s: float = LONGEST_BACKOFF_S,
        download_password: str | None = None,
    ) -> None:
        self.news = asyncio.Event()
        """Set it when the node has a new record."""
        self.told = asyncio.Event()
        """Set when the node has taken new settings."""
        self._node = node
        self._broker = broker
        self._password = password
        self._stop = stop
        self._on_open = on_open
        self._longest_backoff_s = longest_backoff_s
        self._topic = f"ct/v1/{node.device_id}/"
        self._download_password = download_password
        self._offer: Offer | None = None
        self._update: asyncio.Task[None] | None = None
        self._restart = asyncio.Event()

    async def run(self, first_delay_s: float) -> None:
        """Keep connected; back off with full jitter, so that a fleet does not come back all at once."""
        attempt = 0
        delay_s = first_delay_s
        while not await self._stopped_within(delay_s):
            began_s = time.monotonic()
            try:
                await self._session()
            except (aiomqtt.MqttError, OSError, ssl.SSLError) as error:
                log.info("no connection", device=self._node.device_id, error=str(error))
            finally:
                self._node.hung_up()
            if self._node.wants_reboot:
                self._node.reboot(_now_ms())
                self._restart.clear()
            attempt = 0 if time.monotonic() - began_s > STEADY_S else attempt + 1
            delay_s = random.uniform(0, min(2.0 ** min(attempt, 10), self._longest_backoff_s))

    async def _stopped_within(self, delay_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay_s)
        return self._stop.is_set()

    def _client(self) -> aiomqtt.Client:
        will = aiomqtt.Will(f"{self._topic}up/state", self._node.open(), qos=1, retain=True)
        self._on_open()
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._node.device_id if self._password is not None else self._broker.username,
            password=self._password if self._password is not None else self._broker.password,
            tls_context=self._broker.tls,
            identifier=self._node.device_id,
            clean_session=False,
            keepalive=self._broker.keepalive_s,
            will=will,
            protocol=aiomqtt.ProtocolVersion.V311,
        )

    async def _session(self) -> None:
        """One connection, until it is lost (which raises) or the node is stopped."""
        async with self._client() as client:
            await client.subscribe(f"{self._topic}dn/#", qos=1)  # first: the birth is answered with a receipt
            await self._publish(client, "state", self._node.birth(_now_ms()), retain=True)
            for told in (self._node.orders.after_birth(), self._node.ota.after_birth()):
                if told is not None:
                    await self._publish(client, "res", told)
                    self._on_open()
            try:
                await first_of(
                    self._receive(client),
                    self._send_live(client),
                    self._send_backlog(client),
                    self._stop.wait(),
                    self._restart.wait(),
                )
            finally:
                await self._drop_update()
            self._node.hung_up()
            why = self._node.wants_reboot or "stopped"
            async with asyncio.timeout(GOODBYE_S):  # a TimeoutError is an OSError
                await self._publish(client, "state", self._node.goodbye(why), retain=True)

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Take what comes, until the node is told to restart."""
        async for message in client.messages:
            body: object = message.payload
            channel = message.topic.value.rpartition("/")[2]
            if not isinstance(body, bytes):
                continue
            if channel == "ack":
                self._node.take_receipt(body, _now_ms(), retained=message.retain)
            elif channel == "config" and not message.retain:
                answer = self._node.orders.take_config(body)
                self._on_open()
                self.told.set()
                await self._publish(client, "config", answer)
            elif channel == "cmd" and not message.retain:
                result = self._node.take_command(body, _now_ms())
                if result is not None:
                    await self._publish(client, "res", result)
                if self._node.orders.wants_reboot:
                    self._on_open()
                    return
            elif channel == "fw" and not message.retain:
                await self._take_offer(client, body)

    async def _take_offer(self, client: aiomqtt.Client, body: bytes) -> None:
        """Begin to download what is offered; the newest word counts."""
        offer, answer = self._node.ota.take_offer(body)
        if offer is None or offer != self._offer:
            await self._drop_update()
        if answer is not None:
            await self._publish(client, "res", answer)
        if offer is not None and (self._update is None or self._update.done()):
            self._offer = offer
            self._update = asyncio.create_task(self._download(client, offer))

    async def _drop_update(self) -> None:
        if self._update is not None:
            await end(self._update)
        self._update = self._offer = None

    async def _download(self, client: aiomqtt.Client, offer: Offer) -> None:
        """Download an image, try it, and hang up to restart into it."""
        assert offer.ver is not None, "an offer of something"
        version = offer.ver
        shares: asyncio.Queue[int] = asyncio.Queue()
        telling = asyncio.create_task(self._tell_shares(client, version, shares))
        try:
            content = await fetch(offer, self._node.device_id, self._download_password or "", shares.put_nowait)
            await shares.join()
        except (OSError, aiohttp.ClientError) as error:
            word = str(error) if str(error).startswith("http_") else "link"
            await self._publish(client, "res", report(version, "failed", err=word))
            return
        finally:
            await end(telling)
        await self._publish(client, "res", report(version, "verifying", 100))
        await self._publish(client, "res", self._node.ota.install(offer, content))
        if self._node.ota.wants_reboot:
            self._on_open()
            self._restart.set()

    async def _tell_shares(self, client: aiomqtt.Client, version: str, shares: asyncio.Queue[int]) -> None:
        await self._publish(client, "res", report(version, "downloading"))
        while True:
            share = await shares.get()
            await self._publish(client, "res", report(version, "downloading", share))
            shares.task_done()

    async def _send_live(self, client: aiomqtt.Client) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            while (body := self._node.next_live(_now_ms())) is not None:
                await self._publish(client, "data", body)

    async def _send_backlog(self, client: aiomqtt.Client) -> None:
        """One message in flight at a time, as fast as the platform's credit allows."""
        while True:
            body = self._node.next_backlog(_now_ms()) if self._node.credit > 0 else None
            if body is None:
                await asyncio.sleep(IDLE_S)
                continue
            await self._publish(client, "backlog", body)
            await asyncio.sleep(1 / self._node.credit if self._node.credit > 0 else IDLE_S)

    async def _publish(self, client: aiomqtt.Client, channel: str, body: bytes, *, retain: bool = False) -> None:
        await client.publish(f"{self._topic}up/{channel}", body, qos=1, retain=retain)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
