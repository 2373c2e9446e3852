"""No test leaves this machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def refuse_other_hosts(patch: pytest.MonkeyPatch) -> list[str]:
    """Refuse every connection to another host, and keep a list: the code under test may swallow the refusal.

    Sockets of uvloop do not pass here; the tests run on asyncio's own loop.
    """
    refused: list[str] = []

    def guarded(name: str) -> None:
        connect = getattr(socket.socket, name)

        def check(self: socket.socket, address: Any) -> Any:
            if self.family in {socket.AF_INET, socket.AF_INET6} and not is_loopback(str(address[0])):
                refused.append(f"{address[0]}:{address[1]}")
                raise ConnectionRefusedError(f"a test may not connect to {address}")
            return connect(self, address)

        patch.setattr(socket.socket, name, check)

    guarded("connect")
    guarded("connect_ex")
    return refused
