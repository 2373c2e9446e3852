"""The ways out of the core that notifiers are given: mail, the live pages, commands to devices.

Plugins are set up before the ways are there, and the ways end before the plugins do: until then, and after, there is
none, and whoever asks is told so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
