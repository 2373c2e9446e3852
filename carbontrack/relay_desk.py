"""The site's line to headquarters: hands the couriers' messages to the bridge, and receipts to the couriers.

The bridge is a mosquitto of its own on the same machine (docs/deploy/resilient-site.md). It carries ``hq/<id>/up/...``
to headquarters' broker as ``ct/v1/<id>/up/...``, and receipts back.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiomqtt
import msgspec
import structlog

from carbontrack.fleet import Fleet
from carbontrack.ingest import BrokerSettings, client_beside, is_refused
from carbontrack.metrics import Metrics
from carbontrack.relay import Courier, decode_receipt
from carbontrack.store import ArchiveError, Handed, Store
from carbontrack.streams import Stream
from carbontrack.tasks import first_of

log = structlog.get_logger(__name__)

PREFIX = "hq"
BRIDGE = f"{PREFIX}/bridge"
"""Where the bridge says whether it is connected: ``1`` or ``0``, retained."""
ACKS = f"{PREFIX}/+/dn/ack"
EVERY_S = 1.0
LOOK_EVERY_S = 15.0
ASK_AGAIN_S = 3600.0
"""So often headquarters is asked anew how far it is with every stream: its database may have been restored."""
SILENT_S = 3600.0
"""Nothing confirmed for so long, while something waits, is told."""
CLOCKS_APART_S = 60.0
"""Headquarters sets back what is more than 120 s ahead of its own clock."""
PUBLISH_S = 10.0


class Relay:
    """Of the devices of the site's registry, the disabled ones too: what they have measured goes on."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: Store,
        metrics: Metrics,
        fleet: Fleet,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._metrics = metrics.relay
        self._fleet = fleet
        self._monotonic = monotonic
        self._couriers: dict[str, Courier] = {}
        self._is_first_turn = True
        self._conn = _now_ms()
        self._began_s = monotonic()
        self._heard_s: float | None = None
        self._asked_s = self._began_s
        self._looked_s = float("-inf")
        self._is_connected = False
        self._is_linked: bool | None = None
        """Whether the bridge has its connection; None: it has not said."""
        self._clock_ahead_s = 0.0
        self._unreadable: dict[str, str] = {}
        """Device id -> why its records cannot be read."""

    # --- what is wrong

    def problems(self) -> list[str]:
        """What keeps readings from headquarters, for those who run the site."""
        found = []
        if not self._is_connected:
            found.append("The broker of the bridge to headquarters is away: no reading goes there.")
        waiting = {name: it for name, it in self._couriers.items() if it.waiting()}
        now_s = self._monotonic()
        if waiting and now_s - (self._heard_s or self._began_s) > SILENT_S:
            since = "since the start of the core" if self._heard_s is None else f"for {_hours(now_s - self._heard_s)}"
            linked = "The bridge has no connection." if self._is_linked is False else "The bridge is connected."
            found.append(f"Headquarters has confirmed nothing {since}, and {self.waiting()} records wait. {linked}")
        else:
            found += self._left_behind(waiting, now_s)
        if abs(self._clock_ahead_s) > CLOCKS_APART_S:
            way = "ahead of" if self._clock_ahead_s > 0 else "behind"
            apart = f"{abs(self._clock_ahead_s):.0f} s {way} headquarters'"
            found.append(f"This machine's clock is {apart}: have both keep time by NTP.")
        found += [f"Records of {name} cannot go to headquarters: {why}" for name, why in self._unreadable.items()]
        if unnumbered := sorted(name for name, it in self._couriers.items() if it.is_unnumbered):
            found.append(
                f"{', '.join(unnumbered)}: readings without numbers do not go to headquarters, "
                "because nobody could say which of them are missing."
            )
        return found

    def _left_behind(self, waiting: Mapping[str, Courier], now_s: float) -> list[str]:
        silent = sorted(
            name for name, it in waiting.items() if now_s - max(it.heard_s or 0.0, self._began_s) > SILENT_S
        )
        if not silent:
            return []
        text = f"Headquarters confirms other devices and not {', '.join(silent)}"
        return [f"{text}: are they registered there, active, in this factory and with the sensor format ct_v1?"]

    def waiting(self) -> int:
        """How many records headquarters has not confirmed."""
        return sum(courier.waiting() for courier in self._couriers.values())

    # --- the connection

    async def keep(self) -> None:
        """Hand on until cancelled. Raises ConnectionError when the bridge's broker is away."""
        await self._store.prepare_relaying()
        try:
            async with client_beside(self._settings, "relay", timeout=PUBLISH_S) as client:
                granted = await client.subscribe([(ACKS, 0), (BRIDGE, 0)])
                if any(is_refused(code) for code in granted):
                    raise ConnectionError(f"the bridge's broker does not let {self._settings.username} read {ACKS}")
                self._is_connected, self._is_linked = True, None
                self._connect_again()
                await first_of(self._receive(client), self._send(client))
        except (aiomqtt.MqttError, OSError, ssl.SSLError) as error:
            raise ConnectionError(f"the broker of the bridge to headquarters: {error}") from error
        finally:
            self._is_connected = False
            self._metrics.connected.set(0)

    def _connect_again(self) -> None:
        self._asked_s = self._monotonic()
        for courier in self._couriers.values():
            courier.connect_again()

    async def _receive(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            body: object = message.payload
            if not isinstance(body, bytes):
                continue
            if message.topic.value == BRIDGE:
                self._take_link(is_linked=body == b"1")
            elif not message.retain:
                self._take_receipt(message.topic.value.split("/")[1], body)

    def _take_link(self, *, is_linked: bool) -> None:
        if is_linked and self._is_linked is False:
            self._connect_again()
        if is_linked is not self._is_linked:
            log.info("the bridge to headquarters", connected=is_linked)
        self._is_linked = is_linked
        self._metrics.connected.set(is_linked)

    def _take_receipt(self, device_id: str, body: bytes) -> None:
        courier = self._couriers.get(device_id)
        with suppress(msgspec.MsgspecError, UnicodeError):
            receipt = decode_receipt(body)
            if courier is not None:
                self._heard_s = self._monotonic()
                courier.take_receipt(receipt, self._heard_s)
                self._metrics.last_receipt.set_to_current_time()
                if receipt.now:
                    self._clock_ahead_s = (_now_ms() - receipt.now) / 1000

    # --- the turns

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            now_s = self._monotonic()
            if now_s - self._asked_s > ASK_AGAIN_S:
                self._asked_s = now_s
                for courier in self._couriers.values():
                    courier.ask_again()
            for device_id, streams in (await self._store.streams()).items():
                if self._fleet.device(device_id) is not None:
                    await self._send_of(client, device_id, streams, now_s)
                else:
                    self._couriers.pop(device_id, None)
            self._is_first_turn = False
            self._metrics.waiting.set(self.waiting())
            if now_s - self._looked_s > LOOK_EVERY_S:
                self._looked_s = now_s
                await self._measure_age()
            await asyncio.sleep(EVERY_S)

    async def _send_of(self, client: aiomqtt.Client, device_id: str, streams: list[Stream], now_s: float) -> None:
        courier = self._couriers.get(device_id)
        if courier is None:
            courier = self._couriers[device_id] = Courier(device_id, self._conn, is_new=not self._is_first_turn)
        courier.look(streams)
        if self._is_linked is False:
            return
        if (birth := self._fleet.birth(device_id)) is not None:
            said: dict[str, Any] = {"fw": birth.firmware, "cap": birth.capacity}
            courier.said = {name: value for name, value in said.items() if value is not None}
        try:
            messages = await courier.next_messages(
                now_s, _now_ms(), self._reader(device_id), online=self._fleet.is_online(device_id)
            )
        except ArchiveError as error:  # the others go on
            self._unreadable[device_id] = str(error)
            return
        self._unreadable.pop(device_id, None)
        for message in messages:
            topic = f"{PREFIX}/{device_id}/up/{message.channel}"
            await client.publish(topic, message.body, qos=1, retain=message.channel == "state")
            self._metrics.messages.labels(message.channel).inc()

    def _reader(self, device_id: str) -> Callable[[Stream, int, int, int], Any]:
        async def read(stream: Stream, first: int, last: int, limit: int) -> list[Handed]:
            return await self._store.numbered(stream.pk, device_id, stream.sid, first, last, limit)

        return read

    async def _measure_age(self) -> None:
        """How old the oldest record is that headquarters has not confirmed."""
        oldest_ms = None
        for device_id, courier in self._couriers.items():
            if (found := courier.oldest()) is None:
                continue
            stream, number = found
            with suppress(ArchiveError):
                rows = await self._reader(device_id)(stream, number, 2**53, 1)
                if rows and (oldest_ms is None or rows[0].device_time_ms < oldest_ms):
                    oldest_ms = rows[0].device_time_ms
        self._metrics.oldest.set(0 if oldest_ms is None else max(0.0, (_now_ms() - oldest_ms) / 1000))


async def look_at_bridge(settings: BrokerSettings, patience_s: float) -> bool:
    """Sign in at the bridge's broker; whether the bridge says that it is connected. Raises ConnectionError."""
    try:
        async with client_beside(settings, "look") as client:
            await client.subscribe(BRIDGE)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    return (await anext(client.messages)).payload == b"1"
    except (aiomqtt.MqttError, OSError) as error:
        raise ConnectionError(str(error)) from error
    return False


def _hours(seconds: float) -> str:
    hours = round(seconds / 3600)
    return "an hour" if hours <= 1 else f"{hours} hours"


def _now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)
