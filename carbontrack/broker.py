"""The embedded MQTT broker of the demo and of a first start: rumqttd, in a child process, on loopback only.

It knows neither TLS nor rights here and keeps nothing over a restart. That is enough where nobody else can reach it;
a real installation has a real broker.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from iotcore import Broker

HOST = "127.0.0.1"


class BrokerStartError(RuntimeError):
    """The embedded broker did not start; the message says why."""


@asynccontextmanager
async def embedded_broker(port: int | None = None) -> AsyncIterator[int]:
    """A broker for MQTT 3.1.1 on a loopback port (any free one, without ``port``), until the block ends.

    Raises :class:`BrokerStartError` when it does not start.
    """
    broker = Broker(port=port or _free_port(), listen=HOST, max_payload_size=262_144, max_inflight_count=100)
    try:
        with _ctrl_c_is_not_for_children():
            await asyncio.to_thread(broker.start)
    except (OSError, RuntimeError) as error:
        raise BrokerStartError(f"The embedded MQTT broker did not start: {error}") from error
    try:
        yield broker.port
    finally:
        await asyncio.to_thread(broker.stop)


def _free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind((HOST, 0))
        port: int = candidate.getsockname()[1]
        return port


@contextmanager
def _ctrl_c_is_not_for_children() -> Iterator[None]:
    """Children that start now ignore Ctrl-C, which a terminal sends to all: the core ends first, the broker last."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
