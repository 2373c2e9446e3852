"""The Chromium of the system, driven by Playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Route, async_playwright

from tests.support.network import is_loopback
from tests.support.system import needs

ARGUMENTS = [
    "--no-sandbox",  # the sandbox does not start under root, and the pages are ours
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--no-proxy-server",
]


@dataclass
class Chromium:
    """A browser, and what its pages had to complain about.

    ``complaints`` must be empty at the end of a test. A test that provokes one (a page that answers 403, say) looks
    at the list and clears it.
    """

    browser: Browser
    complaints: list[str] = field(default_factory=list)

    async def new_page(self, **options: Any) -> Page:
        """Open a page with cookies of its own; ``options`` (``viewport``, ...) go to Playwright's ``new_context``."""
        context = await self.browser.new_context(**({"service_workers": "block"} | options))
        await context.route(_is_elsewhere, self._refuse)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.complaints.append(f"error in the page: {error.error}"))
        return await context.new_page()

    async def _refuse(self, route: Route) -> None:
        self.complaints.append(f"request to another host: {route.request.url}")
        await route.abort()

    def _heard(self, message: ConsoleMessage) -> None:
        """Keep errors; what a content security policy refuses is one too."""
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location['url']})")


@asynccontextmanager
async def chromium() -> AsyncIterator[Chromium]:
    """Run a browser for one test."""
    program = needs("chromium", package="chromium")
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(executable_path=program, args=ARGUMENTS) as browser,
    ):
        yield Chromium(browser)


def _is_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https", "ws", "wss"} and not is_loopback(parts.hostname or "")
