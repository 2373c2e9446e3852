"""The link between one device and the broker, which can be cut: a relay on a loopback port of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK = 65536


class Cable:
    """Carries bytes to the broker and back, unless it is cut. What is inside is encrypted, and none of its business."""

    def __init__(self, broker_port: int) -> None:
        self.port = 0
        self.is_cut = False
        self._broker_port = broker_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break what is connected, and let nothing through until :meth:`mend`."""
        self.is_cut = True
        self.drop()

    def mend(self) -> None:
        self.is_cut = False

    def drop(self) -> None:
        """Break what is connected, without a goodbye to either side."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self._writers |= {writer, to_broker}
        if self.is_cut:
            self.drop()
        try:
            pumps = {
                asyncio.ensure_future(_pump(reader, to_broker)),
                asyncio.ensure_future(_pump(from_broker, writer)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._writers -= {writer, to_broker}
            to_broker.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()


@asynccontextmanager
async def cables(broker_port: int, count: int) -> AsyncIterator[list[Cable]]:
    """So many links to one broker."""
    made = [Cable(broker_port) for _ in range(count)]
    for cable in made:
        await cable.open()
    try:
        yield made
    finally:
        for cable in made:
            await cable.close()
