"""MQTT in, receipts out. One persistent session, reconnecting in one loop; nothing in the way of a message waits.

aiomqtt's own iterator makes two tasks per message. Its public ``queue_type`` argument takes the queue that the client
puts messages into, so a queue that hands each message on at once is the fastest public way to receive.

MQTT 3.1.1, because paho decodes it a third faster than 5, and nothing of 5 is needed: the promise to the device is the
receipt, not the broker's acknowledgement.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import structlog

from carbontrack.device import Hearing
from carbontrack.fleet import Fleet
from carbontrack.metrics import Metrics
from carbontrack.model import Payload
from carbontrack.overload import Drain
from carbontrack.tasks import first_of

log = structlog.get_logger(__name__)

UP_FILTER = "ct/v1/+/up/#"
CHANNELS = frozenset({"data", "backlog", "state", "config", "res"})
LONGEST_BACKOFF_S = 30.0
RECEIPT_TICK_S = 0.05
COMMAND_TIMEOUT_S = 10.0
SUBSCRIPTION_REFUSED = 0x80
"""MQTT 3.1.1, section 3.9.3."""


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker is, and how much it may ask of us. ``tls`` None is plain TCP."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    client_id: str = "carbontrack-core"
    keepalive_s: int = 30
    max_payload_bytes: int = 262_144
    receipt_interval_s: float = 1.0
    receipts_per_s: float = 1000.0


def client_beside(settings: BrokerSettings, name: str, **options: Any) -> aiomqtt.Client:
    """A connection of the core for something else than readings; it leaves nothing at the broker when it ends."""
    return aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=settings.password,
        tls_context=settings.tls,
        identifier=f"{settings.client_id}-{name}",
        clean_session=True,
        keepalive=settings.keepalive_s,
        protocol=aiomqtt.ProtocolVersion.V311,
        **options,
    )


def commands(settings: BrokerSettings) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Sends commands to devices where no core runs, each by a connection of its own."""

    async def command(device_id: str, body: Mapping[str, Any]) -> None:
        try:
            async with client_beside(settings, "command") as client:
                await client.publish(f"ct/v1/{device_id}/dn/cmd", msgspec.json.encode(body), qos=1)
        except aiomqtt.MqttError as error:
            raise ConnectionError(f"the MQTT broker does not take it: {error}") from error

    return command


async def sign_in(settings: BrokerSettings) -> None:
    """Sign in beside the core and ask to hear the devices, to see whether that goes. Raises ConnectionError."""
    try:
        async with client_beside(settings, "look") as client:
            granted = await client.subscribe(UP_FILTER, qos=1)
    except aiomqtt.MqttError as error:
        raise ConnectionError(str(error)) from error
    if any(is_refused(code) for code in granted):
        raise ConnectionError(f"it lets us in, and does not let us listen to {UP_FILTER}")


def is_refused(code: Any) -> bool:
    """Whether a broker does not let us listen, by its answer to a subscription, which is a number or an object."""
    return bool(code >= SUBSCRIPTION_REFUSED if isinstance(code, int) else code.is_failure)


def tls_context(
    ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None, *, check_hostname: bool = True
) -> ssl.SSLContext:
    """A client's TLS settings: TLS 1.2 or newer, our own certificate authority, a client certificate if given.

    Without ``ca_file`` the system's authorities are trusted.
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


def deliver(fleet: Fleet, topic: str, body: bytes, received_at_ms: int, max_payload_bytes: int) -> str:
    """Hand one MQTT message to the fleet; what became of it, one of ``metrics.DELIVERIES``."""
    parts = topic.split("/")
    if len(parts) != 5 or parts[0] != "ct" or parts[1] != "v1" or parts[3] != "up" or parts[4] not in CHANNELS:
        return "unknown_topic"
    if len(body) > max_payload_bytes:
        return "too_large"
    return fleet.tell(Payload(parts[2], parts[4], body, received_at_ms))


class Receipts:
    """Which devices are to be told what is stored. Coalesced: the newest watermark of a device replaces the last."""

    def __init__(self, settings: BrokerSettings, metrics: Metrics, drain: Drain) -> None:
        self._settings = settings
        self._metrics = metrics
        self._drain = drain
        self._due: dict[str, tuple[str, int]] = {}
        self._sent_at: dict[str, float] = {}
        self._last: dict[str, tuple[str, int]] = {}

    def due(self, device_id: str, sid: str, seq: int) -> None:
        """A device's records up to ``seq`` are stored, quarantined or declared lost."""
        self._due[device_id] = self._last[device_id] = (sid, seq)

    def republish(self) -> None:
        """Make every known receipt due again: a new connection may be to a broker that lost what it kept."""
        self._due = {**self._last, **self._due}

    async def publish(self, client: aiomqtt.Client) -> None:
        """Publish what is due for as long as the connection lives, within the rates that are set."""
        loop = asyncio.get_running_loop()
        allowance = 0.0
        last = loop.time()
        while True:
            await asyncio.sleep(RECEIPT_TICK_S)
            now = loop.time()
            most = self._settings.receipts_per_s
            allowance = min(allowance + (now - last) * most, most * 4 * RECEIPT_TICK_S + 1)
            last = now
            ready = self._ready(now, int(allowance))
            allowance -= len(ready)
            for device_id, (sid, seq) in ready:
                await self._send(client, device_id, sid, seq)
                self._sent_at[device_id] = now
            self._metrics.receipts_due.set(len(self._due))

    def _ready(self, now: float, most: int) -> list[tuple[str, tuple[str, int]]]:
        """Those that wait and were not told anything just now, longest waiting first; they are due no more."""
        not_since = now - self._settings.receipt_interval_s
        ready: list[tuple[str, tuple[str, int]]] = []
        for device_id, watermark in self._due.items():
            if len(ready) >= most:
                break
            if self._sent_at.get(device_id, 0.0) <= not_since:
                ready.append((device_id, watermark))
        for device_id, _ in ready:
            del self._due[device_id]
        return ready

    async def _send(self, client: aiomqtt.Client, device_id: str, sid: str, seq: int) -> None:
        body = {"sid": sid, "seq": seq, "now": time.time_ns() // 1_000_000, "credit": self._drain.credit(device_id)}
        # QoS 0: a receipt that is lost is made good by the next one, and all are sent again after a reconnect. Not
        # retained: after a crash or a restored backup the broker would tell of what the database does not have.
        await client.publish(f"ct/v1/{device_id}/dn/ack", msgspec.json.encode(body), qos=0)
        self._metrics.receipts.inc()


class Ingest:
    """The connection to the broker."""

    def __init__(
        self,
        settings: BrokerSettings,
        fleet: Fleet,
        receipts: Receipts,
        metrics: Metrics,
        hearing: Hearing | None = None,
    ) -> None:
        self.connected = False
        self.last_message: float | None = None
        """Monotonic time of the newest message."""
        self._settings = settings
        self._fleet = fleet
        self._receipts = receipts
        self._metrics = metrics
        self._hearing = hearing or Hearing()
        self._deliveries = metrics.deliveries
        self._connection: aiomqtt.Client | None = None

    async def command(self, device_id: str, body: Mapping[str, Any]) -> None:
        """Send a command to a device; returns when the broker has it. Raises ConnectionError where it is away."""
        await self.send(device_id, "cmd", msgspec.json.encode(body))

    async def send(self, device_id: str, channel: str, body: bytes) -> None:
        """Send a device something on ``dn/<channel>``; returns when the broker has it. Raises as :meth:`command`."""
        client = self._connection
        if client is None:
            raise ConnectionError("there is no connection to the MQTT broker")
        try:
            # QoS 1: a broker keeps it for a node that is away for a moment. Not retained: it would be told for ever.
            await client.publish(f"ct/v1/{device_id}/dn/{channel}", body, qos=1, timeout=COMMAND_TIMEOUT_S)
        except aiomqtt.MqttError as error:
            raise ConnectionError(f"the MQTT broker does not take it: {error}") from error

    async def consume(self) -> None:
        """Receive until cancelled; connects again with back-off and jitter whenever the link is lost."""
        delay = 1.0
        while True:
            try:
                async with self._client() as client:
                    await client.subscribe(UP_FILTER, qos=1)
                    self._state(connected=True)
                    self._connection = client
                    log.info("connected to the broker", host=self._settings.host, port=self._settings.port)
                    delay = 1.0
                    self._receipts.republish()
                    await self._until_disconnected(client)
            except (aiomqtt.MqttError, OSError, ssl.SSLError) as error:
                self._metrics.mqtt_reconnects.inc()
                if self.connected or delay == 1.0:
                    log.warning("no connection to the broker, trying again", error=str(error))
            finally:
                self._connection = None
                self._state(connected=False)
            await asyncio.sleep(delay * (0.5 + 0.5 * random.random()))
            delay = min(delay * 2, LONGEST_BACKOFF_S)

    def _state(self, *, connected: bool) -> None:
        self.connected = connected
        self._metrics.mqtt_connected.set(connected)
        if connected:
            self._hearing.connected(time.monotonic())
        else:
            self._hearing.cut_off()

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        return aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            tls_context=settings.tls,
            identifier=settings.client_id,
            clean_session=False,
            keepalive=settings.keepalive_s,
            queue_type=_handing_on(self._on_message),
            protocol=aiomqtt.ProtocolVersion.V311,
        )

    def _on_message(self, message: aiomqtt.Message) -> None:
        """Called by the client's reader for every message. Must not raise: that would end the connection."""
        body: object = message.payload
        delivery = deliver(
            self._fleet,
            message.topic.value,
            body if isinstance(body, bytes) else b"",
            time.time_ns() // 1_000_000,
            self._settings.max_payload_bytes,
        )
        self.last_message = time.monotonic()
        self._hearing.heard(self.last_message)
        self._deliveries[delivery].inc()
        if delivery != "delivered":
            self._metrics.received.inc()
            self._metrics.outcomes["refused"].inc()

    async def _until_disconnected(self, client: aiomqtt.Client) -> None:
        """Publish receipts until the link is lost, which ends this with :class:`aiomqtt.MqttError`."""
        # Waiting for a message that never comes is the public way to learn of a disconnect.
        await first_of(self._receipts.publish(client), _next_message(client))


async def _next_message(client: aiomqtt.Client) -> None:
    await anext(client.messages)


def _handing_on(deliver_message: Callable[[aiomqtt.Message], None]) -> type[asyncio.Queue[aiomqtt.Message]]:
    """A queue type that hands each message on instead of keeping it."""

    class HandingOn(asyncio.Queue[Any]):
        def put_nowait(self, item: Any) -> None:
            deliver_message(item)

    return HandingOn
