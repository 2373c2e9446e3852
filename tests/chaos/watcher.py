"""Somebody at headquarters who never looks away: notes each time that a device is called offline which is not.

A device is offline while its link or its power is cut, and while it has no connection though the broker has been there
for some seconds. While the broker itself is away, nobody is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from carbontrack.tasks import end
from tests.chaos.device import Device
from tests.chaos.platform import PASSWORD, PERSON

CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A device that sends was called offline, at a monotonic time."""

    device_id: str
    at_s: float


@dataclass
class Watcher:
    """Reads the live stream that browsers get."""

    http: str
    devices: Mapping[str, Device]
    broker_answers_since: Callable[[], float]
    false: list[Claim] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    """What is shown of each device now."""

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch(), name="watcher")
        try:
            yield
        finally:
            await end(task)

    async def _watch(self) -> None:
        async with ClientSession(timeout=ClientTimeout(total=None, sock_connect=2)) as session:
            token = None
            while True:
                with contextlib.suppress(ClientError, OSError, TimeoutError):
                    token = token or await self._sign_in(session)
                    headers = {"Authorization": f"Bearer {token}"}
                    async with session.get(f"{self.http}/api/live/", headers=headers) as answer:
                        async for line in answer.content:
                            if line.startswith(b"data: "):
                                self._look(json.loads(line[6:]))
                await asyncio.sleep(0.1)

    async def _sign_in(self, session: ClientSession) -> str | None:
        async with session.post(f"{self.http}/api/login/", json={"email": PERSON, "password": PASSWORD}) as answer:
            return (await answer.json())["token"] if answer.status == 200 else None

    def _look(self, rows: list[dict[str, Any]]) -> None:
        now_s = time.monotonic()
        for row in rows:
            device = self.devices.get(row["device_id"])
            if device is None:
                continue
            before, self.shown[device.device_id] = self.shown.get(device.device_id), row["state"]
            if row["state"] == "offline" and before != "offline" and not self._is_offline(device, now_s):
                self.false.append(Claim(device.device_id, now_s))

    def _is_offline(self, device: Device, now_s: float) -> bool:
        could_connect = now_s - self.broker_answers_since() > CONNECT_S
        return now_s <= device.cut_off_until or (could_connect and not device.is_connected)
