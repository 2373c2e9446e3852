"""From a real broker to the database and back: messages, receipts, and what happens when one of them goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.ingest import CHANNELS, BrokerSettings, Ingest, Receipts, deliver, tls_context
from carbontrack.metrics import DELIVERIES, Metrics
from carbontrack.model import Payload
from carbontrack.overload import Drain
from carbontrack.store import Store
from tests.support.mosquitto import Broker
from tests.support.world import (
    SID,
    Core,
    birth,
    body,
    core,
    eventually,
    kept,
    migrated_store,
    register,
    sample,
    will,
)

pytest_plugins = ["tests.support.world"]

DEVICE = "dev-001"


@pytest.fixture
async def sqlite(tmp_path: Path, metrics: Metrics) -> AsyncIterator[Store]:
    """A store with two devices. One engine is enough here: the way to it is the same."""
    async with migrated_store(f"sqlite://{tmp_path / 'carbontrack.sqlite3'}", metrics) as store:
        await register(store, DEVICE, "dev-002")
        yield store


def settings_of(broker: Broker, **changed: Any) -> BrokerSettings:
    settings = BrokerSettings(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        tls=tls_context(broker.ca_file),
        receipt_interval_s=0.01,
    )
    return replace(settings, **changed)


@dataclass
class Connected:
    """A core that is connected to a broker."""

    core: Core
    ingest: Ingest
    receipts: Receipts
    metrics: Metrics

    @property
    def store(self) -> Store:
        return self.core.store

    def deliveries(self, delivery: str) -> int:
        return sample(self.metrics, "carbontrack_mqtt_messages_total", delivery=delivery)

    async def committed(self, number: int) -> None:
        await eventually(lambda: self.core.outcomes()["committed"] >= number, f"{number} readings were not committed")
        assert self.core.outcomes()["committed"] == number


@asynccontextmanager
async def connected(
    broker: Broker, store: Store, metrics: Metrics, *, drain: Drain | None = None, **changed: Any
) -> AsyncIterator[Connected]:
    """The core from the broker to the database, as the application builds it."""
    settings, drain = settings_of(broker, **changed), drain or Drain(5.0, 200.0)
    receipts = Receipts(settings, metrics, drain)
    async with core(store, metrics, receipt=receipts.due, drain=drain) as running:
        ingest = Ingest(settings, running.fleet, receipts, metrics)
        consuming = asyncio.create_task(ingest.consume())
        try:
            await eventually(lambda: ingest.connected, "the core did not connect")
            yield Connected(running, ingest, receipts, metrics)
        finally:
            consuming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await consuming


@asynccontextmanager
async def node(broker: Broker, device_id: str = DEVICE, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    """A device's connection, that listens to its receipts."""
    async with broker.client(device_id, **options) as client:
        await client.subscribe(f"ct/v1/{device_id}/dn/#", qos=1)
        yield client


async def send(client: aiomqtt.Client, content: bytes, channel: str = "data", device_id: str = DEVICE) -> None:
    await client.publish(f"ct/v1/{device_id}/up/{channel}", content, qos=1, retain=channel == "state")


async def receipt(client: aiomqtt.Client, seq: int) -> dict[str, Any]:
    """The first receipt that covers a number."""
    async with asyncio.timeout(20):
        async for message in client.messages:
            assert message.topic.value.endswith("/dn/ack")
            assert isinstance(message.payload, bytes)
            content: dict[str, Any] = json.loads(message.payload)
            if content["seq"] >= seq:
                return content
    raise AssertionError


async def seqs(store: Store) -> list[int]:
    site = (await store.sites())[0]
    assert site.device.device_id == DEVICE
    return sorted(row.seq for row in await kept(store, site.stack.id))


# --- messages and receipts


async def test_a_message_is_committed_and_its_receipt_comes_back(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics, drain=Drain(2.5, 200.0)) as running, node(mosquitto) as device:
        await send(device, body(seq=1))

        told = await receipt(device, 1)

        assert (told["sid"], told["seq"], told["credit"]) == (SID, 1, 2.5)
        assert told.keys() == {"sid", "seq", "now", "credit"}
        assert await seqs(sqlite) == [1], "it was there before the receipt was"
        assert running.deliveries("delivered") == 1
        assert sample(metrics, "carbontrack_mqtt_connected") == 1


async def test_the_receipt_says_what_time_it_is(mosquitto: Broker, sqlite: Store, metrics: Metrics) -> None:
    async with connected(mosquitto, sqlite, metrics), node(mosquitto) as device:
        await send(device, body(seq=1))
        told = await receipt(device, 1)

    received_ms = (await kept(sqlite, (await sqlite.sites())[0].stack.id))[0].received_at.timestamp() * 1000
    assert 0 <= told["now"] - received_ms < 60_000


async def test_a_birth_is_answered_with_the_receipt_and_the_broker_keeps_none(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics):
        async with node(mosquitto) as device:
            await send(device, body(seq=1))
            await receipt(device, 1)
        async with node(mosquitto) as again:
            await send(again, birth(first=1), "state")
            assert (await receipt(again, 1))["sid"] == SID
        async with mosquitto.client("core", identifier="looks") as somebody:
            await somebody.subscribe("ct/v1/+/#")
            message = await anext(somebody.messages)
            assert (message.topic.value, message.retain) == (f"ct/v1/{DEVICE}/up/state", True)
            await somebody.publish("ct/v1/the-end/dn/ack")
            assert (await anext(somebody.messages)).topic.value == "ct/v1/the-end/dn/ack"


async def test_a_batch_is_committed_with_one_receipt(mosquitto: Broker, sqlite: Store, metrics: Metrics) -> None:
    async with connected(mosquitto, sqlite, metrics), node(mosquitto) as device:
        await send(device, body(seq=1, count=60), "backlog")

        await receipt(device, 60)

        assert await seqs(sqlite) == list(range(1, 61))
    assert sample(metrics, "carbontrack_receipts_total") == 1


async def test_what_comes_twice_is_committed_once_and_receipted_again(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running, node(mosquitto) as device:
        for _ in range(2):
            await send(device, body(seq=1, count=3))
            await receipt(device, 3)

        assert await seqs(sqlite) == [1, 2, 3]
        assert running.core.outcomes()["duplicate"] == 3


async def test_receipts_of_one_device_are_joined(mosquitto: Broker, sqlite: Store, metrics: Metrics) -> None:
    async with connected(mosquitto, sqlite, metrics, receipt_interval_s=0.4), node(mosquitto) as device:
        for seq in range(1, 101):
            await send(device, body(seq=seq))

        await receipt(device, 100)

    assert sample(metrics, "carbontrack_receipts_total") < 50


async def test_each_device_hears_of_its_own(mosquitto: Broker, sqlite: Store, metrics: Metrics) -> None:
    async with (
        connected(mosquitto, sqlite, metrics),
        node(mosquitto) as one,
        node(mosquitto, "dev-002") as other,
    ):
        await send(one, body(seq=1, count=4))
        await send(other, body(seq=1, count=2), device_id="dev-002")

        assert (await receipt(one, 1))["seq"] == 4
        assert (await receipt(other, 1))["seq"] == 2


async def test_a_message_that_cannot_be_read_is_receipted_too(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics), node(mosquitto) as device:
        await send(device, body(seq=1, count=2, n=5))

        await receipt(device, 5)

    assert await sqlite.quarantine_counts() == {"row_count_mismatch": 1}


async def test_without_tls_it_is_the_same(mosquitto: Broker, sqlite: Store, metrics: Metrics) -> None:
    plain: dict[str, Any] = {"port": mosquitto.plain_port, "tls": None}
    async with connected(mosquitto, sqlite, metrics, **plain), node(mosquitto) as device:
        await send(device, body(seq=1))
        await receipt(device, 1)


# --- what is not taken


@pytest.mark.parametrize("topic", ["up/data/more", "up/else", "up"])
async def test_a_topic_that_means_nothing_is_counted_and_disturbs_nothing(
    mosquitto: Broker, sqlite: Store, metrics: Metrics, topic: str
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running, node(mosquitto) as device:
        await device.publish(f"ct/v1/{DEVICE}/{topic}", body(), qos=1)
        await eventually(lambda: running.deliveries("unknown_topic") == 1)

        await send(device, body(seq=1))
        await receipt(device, 1)
        assert running.core.outcomes() == {
            "received": 2,
            "committed": 1,
            "duplicate": 0,
            "quarantined": 0,
            "refused": 1,
        }


async def test_a_payload_of_a_megabyte_is_refused_and_disturbs_nothing(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running, node(mosquitto) as device:
        await send(device, b" " * 1_000_000)
        await eventually(lambda: running.deliveries("too_large") == 1)

        await send(device, body(seq=1))
        await receipt(device, 1)
        assert running.core.outcomes()["refused"] == 1


async def test_an_unknown_device_is_remembered_and_gets_no_receipt(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running, node(mosquitto, "dev-009") as stranger:
        await send(stranger, birth(), "state", "dev-009")
        await send(stranger, body(), device_id="dev-009")
        await eventually(lambda: running.deliveries("unknown_device") == 2)

        assert running.core.fleet.strangers["dev-009"].messages == 2

        site = (await sqlite.sites())[0]
        await sqlite.add_device("dev-009", site.stack.id, "ct_v1")
        await running.core.sync()
        await send(stranger, body(seq=1), device_id="dev-009")
        await receipt(stranger, 1)


async def test_a_retained_message_that_was_cleared_is_no_message(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running, node(mosquitto) as device:
        await device.publish(f"ct/v1/{DEVICE}/up/state", b"", qos=1, retain=True)
        await send(device, body(seq=1))
        await receipt(device, 1)

        assert [running.deliveries(name) for name in DELIVERIES if name != "delivered"] == [0] * (len(DELIVERIES) - 1)
        assert running.core.outcomes()["quarantined"] == 0


# --- births and wills


async def test_a_device_that_loses_its_link_is_offline_by_its_will(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    def online() -> bool:
        return running.core.fleet.snapshots()[DEVICE].online

    last_will = aiomqtt.Will(f"ct/v1/{DEVICE}/up/state", will(conn=3), qos=1, retain=True)
    async with connected(mosquitto, sqlite, metrics) as running:
        async with node(mosquitto, will=last_will) as device:
            await send(device, birth(conn=3), "state")
            await eventually(online)
            link = device._client.socket()
            assert isinstance(link, socket.socket)
            link.shutdown(socket.SHUT_RDWR)  # the link breaks: no goodbye
            with pytest.raises(aiomqtt.MqttError):
                await anext(device.messages)
        await eventually(lambda: not online())


async def test_a_core_that_starts_later_sees_who_is_online(mosquitto: Broker, sqlite: Store, metrics: Metrics) -> None:
    async with node(mosquitto) as device:
        await send(device, birth(conn=3), "state")
        async with connected(mosquitto, sqlite, metrics) as running:
            await eventually(lambda: running.core.fleet.snapshots()[DEVICE].online)
            assert not running.core.fleet.snapshots()["dev-002"].online


# --- the broker, or the core, goes away


async def test_what_is_sent_while_the_core_is_away_arrives_when_it_is_back(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics), node(mosquitto) as device:
        await send(device, body(seq=1))
        await receipt(device, 1)
    async with node(mosquitto) as device:
        for seq in range(2, 31):
            await send(device, body(seq=seq))

        async with connected(mosquitto, sqlite, metrics):
            await receipt(device, 30)

    assert await seqs(sqlite) == list(range(1, 31))


async def test_a_killed_broker_is_found_again_and_nothing_that_was_receipted_is_lost(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running:
        async with node(mosquitto) as device:
            await send(device, body(seq=1, count=3))
            await receipt(device, 3)
            mosquitto.kill()
            await eventually(lambda: not running.ingest.connected)
            assert sample(metrics, "carbontrack_mqtt_connected") == 0
            with pytest.raises(aiomqtt.MqttError):
                await anext(device.messages)
        mosquitto.start()
        await eventually(lambda: running.ingest.connected)

        async with node(mosquitto) as device:
            # This broker forgot everything: the birth is answered all the same.
            await send(device, birth(first=1), "state")
            assert (await receipt(device, 3))["sid"] == SID
            await send(device, body(seq=4))
            await receipt(device, 4)

        assert sample(metrics, "carbontrack_mqtt_reconnects_total") >= 1
    assert await seqs(sqlite) == [1, 2, 3, 4]


async def test_what_is_committed_while_the_broker_is_away_is_receipted_when_it_is_back(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    async with connected(mosquitto, sqlite, metrics) as running:
        mosquitto.kill()
        await eventually(lambda: not running.ingest.connected)
        running.core.tell(DEVICE, body(seq=1, count=9))
        await running.committed(9)
        mosquitto.start()

        async with node(mosquitto) as device:
            await send(device, birth(first=1), "state")
            await receipt(device, 9)


async def test_a_core_that_starts_without_a_broker_waits_for_it(
    mosquitto: Broker, sqlite: Store, metrics: Metrics
) -> None:
    mosquitto.stop()
    settings = settings_of(mosquitto)
    receipts = Receipts(settings, metrics, Drain(5.0, 200.0))
    async with core(sqlite, metrics, receipt=receipts.due) as running:
        ingest = Ingest(settings, running.fleet, receipts, metrics)
        consuming = asyncio.create_task(ingest.consume())
        await eventually(lambda: sample(metrics, "carbontrack_mqtt_reconnects_total") >= 1)
        assert not ingest.connected

        mosquitto.start()

        await eventually(lambda: ingest.connected)
        consuming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await consuming
        assert not ingest.connected


@pytest.mark.parametrize("changed", [{"password": "wrong"}, {"tls": tls_context(None)}])
async def test_a_broker_that_refuses_or_cannot_be_trusted_gets_nothing(
    mosquitto: Broker, sqlite: Store, metrics: Metrics, changed: dict[str, Any]
) -> None:
    settings = settings_of(mosquitto, **changed)
    receipts = Receipts(settings, metrics, Drain(5.0, 200.0))
    async with core(sqlite, metrics, receipt=receipts.due) as running:
        ingest = Ingest(settings, running.fleet, receipts, metrics)
        consuming = asyncio.create_task(ingest.consume())
        await eventually(lambda: sample(metrics, "carbontrack_mqtt_reconnects_total") >= 1)

        assert not ingest.connected

        consuming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await consuming


# --- receipts by themselves


class Link:
    """A connection that keeps what is published, and breaks when it is told."""

    def __init__(self, breaks_after: int = 1_000_000) -> None:
        self.published: list[tuple[str, int]] = []
        self._left = breaks_after

    async def publish(self, topic: str, content: bytes, **_: Any) -> None:
        if not self._left:
            raise aiomqtt.MqttError("the link broke")
        self._left -= 1
        self.published.append((topic.split("/")[2], json.loads(content)["seq"]))


@asynccontextmanager
async def publishing(receipts: Receipts, link: Link) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(receipts.publish(link))  # type: ignore[arg-type]  # it has all that is asked of it
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
            await task


def receipts_of(metrics: Metrics, **changed: Any) -> Receipts:
    settings = replace(BrokerSettings("127.0.0.1", 1883, receipt_interval_s=0.0), **changed)
    return Receipts(settings, metrics, Drain(5.0, 200.0))


async def test_no_receipt_is_lost_when_the_link_breaks_while_they_are_published(metrics: Metrics) -> None:
    receipts = receipts_of(metrics)
    for number in range(10):
        receipts.due(f"dev-{number:03}", SID, number)
    broken, whole = Link(breaks_after=3), Link()
    async with publishing(receipts, broken) as task:
        await eventually(task.done)

    receipts.republish()
    async with publishing(receipts, whole):
        await eventually(lambda: len(whole.published) == 10)

    assert sorted(whole.published) == [(f"dev-{number:03}", number) for number in range(10)]


async def test_the_newest_receipt_of_a_device_replaces_the_one_that_waits(metrics: Metrics) -> None:
    receipts, link = receipts_of(metrics), Link()
    for seq in (1, 2, 3):
        receipts.due(DEVICE, SID, seq)

    async with publishing(receipts, link):
        await eventually(lambda: bool(link.published))

    assert link.published == [(DEVICE, 3)]


async def test_what_is_newer_is_not_replaced_by_what_is_republished(metrics: Metrics) -> None:
    receipts, link = receipts_of(metrics), Link()
    receipts.due(DEVICE, SID, 1)
    async with publishing(receipts, link):
        await eventually(lambda: bool(link.published))
    receipts.due(DEVICE, SID, 2)

    receipts.republish()
    async with publishing(receipts, link):
        await eventually(lambda: len(link.published) == 2)

    assert link.published[-1] == (DEVICE, 2)


async def test_receipts_keep_to_their_rate_and_nobody_is_forgotten(metrics: Metrics) -> None:
    receipts, link = receipts_of(metrics, receipts_per_s=200.0), Link()
    for number in range(100):
        receipts.due(f"dev-{number:03}", SID, 1)
    loop = asyncio.get_running_loop()

    began = loop.time()
    async with publishing(receipts, link):
        await eventually(lambda: len(link.published) == 100)
        took_s = loop.time() - began

    assert took_s >= 100 / 200.0 * 0.8
    assert [device_id for device_id, _ in link.published] == [f"dev-{number:03}" for number in range(100)]


# --- topics by themselves


class Nobody:
    """A fleet that says which device it was asked for."""

    def __init__(self) -> None:
        self.told: list[Payload] = []

    def tell(self, message: Payload) -> str:
        self.told.append(message)
        return "delivered"


parts = st.text(st.characters(codec="utf-8", exclude_characters="/\0+#"), max_size=8)


@given(device_id=parts, channel=st.sampled_from(sorted(CHANNELS)), content=st.binary(min_size=1, max_size=20))
def test_every_device_is_found_by_its_topic(device_id: str, channel: str, content: bytes) -> None:
    nobody = Nobody()

    delivery = deliver(nobody, f"ct/v1/{device_id}/up/{channel}", content, 1, 20)  # type: ignore[arg-type]

    assert delivery == "delivered"
    assert nobody.told == [Payload(device_id, channel, content, 1)]


@given(topic=st.lists(parts | st.sampled_from(["ct", "v1", "up", "dn", "data"]), max_size=7).map("/".join))
def test_no_topic_is_an_error(topic: str) -> None:
    nobody = Nobody()

    delivery = deliver(nobody, topic, b"{}", 1, 20)  # type: ignore[arg-type]

    assert delivery in {"delivered", "unknown_topic"}
    assert (delivery == "delivered") == bool(nobody.told)


@pytest.mark.parametrize(("size", "delivery"), [(20, "delivered"), (21, "too_large")])
def test_the_largest_payload_is_taken_and_no_larger_one(size: int, delivery: str) -> None:
    assert deliver(Nobody(), "ct/v1/dev-001/up/data", b" " * size, 1, 20) == delivery  # type: ignore[arg-type]
