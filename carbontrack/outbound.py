"""The ways out of the core that notifiers are given: mail, the live pages, commands to devices.

Plugins are set up before the ways are there, and the ways end before the plugins do: until then, and after, there is
none, and whoever asks is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

SendMail = Callable[[str, str, str, str | None], Awaitable[None]]
Show = Callable[[Mapping[str, Any], int | None], None]
Command = Callable[[str, Mapping[str, Any]], Awaitable[None]]
Send = Callable[[str, str, bytes], Awaitable[None]]
"""Sends (device id, channel below ``dn/``, body); raises ConnectionError where the broker is away."""


class Ways:
    """What :class:`carbontrack.hookspecs.Outbound` says; whoever composes the core sets the parts."""

    def __init__(self) -> None:
        self.by_mail: SendMail | None = None
        self.by_page: Show | None = None
        self.by_command: Command | None = None

    async def mail(self, to: str, subject: str, text: str, html: str | None = None) -> None:
        if self.by_mail is None:
            raise ConnectionError("no mail server is configured (mail.host)")
        await self.by_mail(to, subject, text, html)

    def show(self, event: Mapping[str, Any], factory_id: int | None) -> None:
        if self.by_page is None:
            raise ConnectionError("there are no live pages")
        self.by_page(event, factory_id)

    async def command(self, device_id: str, body: Mapping[str, Any]) -> None:
        if self.by_command is None:
            raise ConnectionError("there is no connection to the MQTT broker")
        await self.by_command(device_id, body)


class Alarms:
    """Commands to devices, which remembers the alarms that are on: a node that connects has forgotten them.

    A core that starts anew knows of none; the next reminder of an alert says it again.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._on: dict[str, dict[int, Mapping[str, Any]]] = {}
        self._born: set[str] = set()
        self._news = asyncio.Event()

    async def command(self, device_id: str, body: Mapping[str, Any]) -> None:
        """Send a command. Raises ConnectionError where the broker is away."""
        if body.get("cmd") == "alarm":
            known = self._on.setdefault(device_id, {})
            known.pop(body["id"], None)
            if body["on"]:
                known[body["id"]] = body
            if not known:
                del self._on[device_id]
        await self._command(device_id, body)

    def born(self, device_id: str) -> None:
        """A device has connected: it is told which alarms are on."""
        if device_id in self._on:
            self._born.add(device_id)
            self._news.set()

    async def keep(self) -> None:
        """Tell those that have connected, until cancelled. While the broker is away nobody has."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._born:
                device_id = self._born.pop()
                for body in list(self._on.get(device_id, {}).values()):
                    with suppress(ConnectionError):
                        await self._command(device_id, body)
