"""What the web part is given to work with, by whoever composes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from carbontrack.bookkeeping import Books
from carbontrack.device_desk import DeviceDesk
from carbontrack.firmware import public_key_at
from carbontrack.fleet import Fleet
from carbontrack.live import Live
from carbontrack.mail import Mailer
from carbontrack.metrics import Metrics
from carbontrack.model import StorageStatus
from carbontrack.plugins import Limits, PluginHost
from carbontrack.reloading import Reloader
from carbontrack.report_desk import ReportDesk
from carbontrack.rollouts import RolloutDesk
from carbontrack.rule_book import RuleBook
from carbontrack.store import Store
from carbontrack.tracing import Tracer
from carbontrack.web.attempts import Attempts
from carbontrack.words import gettext


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """An account that the sign-in page offers; a demo has some, a real installation has none.

    ``title`` is a text to translate, in which ``%(factory)s`` is the factory whose account it is.
    """

    title: str
    email: str
    password: str
    factory: str = ""

    def shown(self) -> str:
        """Whose account it is, in the reader's language."""
        return gettext(self.title, factory=self.factory) if self.factory else gettext(self.title)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the core that pages and the API use.

    ``readiness`` gives the reasons for not being ready, ``problems`` all that is wrong with the platform itself.
    """

    store: Store
    books: Books
    rules: RuleBook
    fleet: Fleet
    device_desk: DeviceDesk
    rollouts: RolloutDesk
    live: Live
    metrics: Metrics
    plugins: PluginHost
    reloader: Reloader
    report_limits: Limits
    desk: ReportDesk
    attempts: Attempts
    readiness: Callable[[], Sequence[str]]
    time_zone: tzinfo
    version: str
    clock: Callable[[], datetime]
    session_hours: int = 12
    secure_cookies: bool | Literal["auto"] = "auto"
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    hsts_s: int = 0
    public_url: str | None = None
    mailer: Mailer | None = None
    metrics_token: str | None = None
    canary_token: str | None = None
    device_key: str | None = field(default=None, repr=False)
    """What the devices' passwords are worked out from; without it no device may send over HTTP."""
    max_payload_bytes: int = 262_144
    device_patience_s: float = 10.0
    """How long a device that sends over HTTP waits for the commit at most."""
    firmware_key: Callable[[], EllipticCurvePublicKey] = lambda: public_key_at(None)
    """Whose images are taken. Raises :class:`~carbontrack.firmware.FirmwareError` where there is no key."""
    demo_accounts: Sequence[DemoAccount] = ()
    storage: Callable[[], StorageStatus | None] = lambda: None
    problems: Callable[[], Sequence[str]] = tuple
    diagnose: Callable[[], Awaitable[bytes]] | None = None
    """Makes the bundle of diagnostics, where whoever composed this can."""
    tracer: Tracer | None = None
    """What requests are traced with, where they are to be."""


SERVICES = web.AppKey("services", Services)
