"""What the web part is given to work with, by whoever composes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, Protocol

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from carbontrack.bookkeeping import Books
from carbontrack.device_desk import DeviceDesk
from carbontrack.firmware import public_key_at
from carbontrack.fleet import Fleet
from carbontrack.handout import Handouts
from carbontrack.live import Live
from carbontrack.mail import Mailer
from carbontrack.metrics import Metrics
from carbontrack.model import Device, Flood, Site, Snapshot, StorageStatus, Stranger
from carbontrack.months import Shelf
from carbontrack.notify import nobody
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


class FleetView(Protocol):
    """As much of the fleet as every process of a site knows: :class:`~carbontrack.fleet.Fleet` in the core itself."""

    @property
    def strangers(self) -> Mapping[str, Stranger]:
        """Who sends and is not registered."""

    def device(self, device_id: str) -> Device | None:
        """A device of the registry, disabled or not."""

    def is_online(self, device_id: str) -> bool:
        """Whether a device is connected, as far as anybody knows."""

    def snapshots(self) -> dict[str, Snapshot]:
        """The live state of every running device."""

    def errors(self) -> dict[str, str]:
        """Why an actor is backing off or parked."""

    def floods(self, now_ms: int) -> list[Flood]:
        """Devices that send more than they may, the worst first."""

    def measure(self) -> None:
        """Set the gauges that are counted when somebody asks."""

    async def sync(self, sites: Sequence[Site]) -> None:
        """Follow the registry."""


@dataclass(frozen=True, slots=True)
class CoreParts:
    """What only the core itself has. A route that uses it is marked :func:`~carbontrack.web.door.of_core`."""

    fleet: Fleet
    device_desk: DeviceDesk
    rollouts: RolloutDesk
    desk: ReportDesk


@dataclass(frozen=True, slots=True)
class CoreDoor:
    """Where a web process hands on what only the core can answer. ``token`` proves that it is a process of the site."""

    url: str
    token: str
    fingerprint: bytes | None = None
    """SHA-256 of the certificate that the core's own https must have."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the core that pages and the API use.

    ``readiness`` gives the reasons for not being ready, ``problems`` all that is wrong with the platform itself.
    """

    store: Store
    books: Books
    rules: RuleBook
    fleet: FleetView
    core: CoreParts | None
    """None in a web process beside the core."""
    live: Live
    metrics: Metrics
    plugins: PluginHost
    reloader: Reloader
    report_limits: Limits
    attempts: Attempts
    readiness: Callable[[], Sequence[str]]
    refused: Callable[[], Mapping[str, int]]
    """How many messages the core has not taken, by why not."""
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
    bridged: Collection[str] = ()
    """Factories with a platform of their own, by their names in addresses: it governs their devices."""
    handouts: Handouts = field(default_factory=Handouts)
    """What devices are told when they are set up."""
    max_payload_bytes: int = 262_144
    device_patience_s: float = 10.0
    """How long a device that sends over HTTP waits for the commit at most."""
    firmware_key: Callable[[], EllipticCurvePublicKey] = lambda: public_key_at(None)
    """Whose images are taken. Raises :class:`~carbontrack.firmware.FirmwareError` where there is no key."""
    registry_changed: Callable[[], None] = nobody
    """Called when the registry was changed here; it never waits."""
    demo_accounts: Sequence[DemoAccount] = ()
    storage: Callable[[], StorageStatus | None] = lambda: None
    problems: Callable[[], Sequence[str]] = tuple
    diagnose: Callable[[], Awaitable[bytes]] | None = None
    """Makes the bundle of diagnostics, where whoever composed this can."""
    tracer: Tracer | None = None
    """What requests are traced with, where they are to be."""
    shelf: Shelf | None = None
    """Where all processes of the site keep what was worked out for everybody; None: each keeps its own."""
    door: Callable[[], CoreDoor | None] = lambda: None
    """In a web process: where the core is; None while it was not heard. In the core: its own."""

    @property
    def _core(self) -> CoreParts:
        if self.core is None:
            raise RuntimeError("only the core itself can do this: the route lacks its mark of_core")
        return self.core

    @property
    def whole_fleet(self) -> Fleet:
        """The fleet, with its actors."""
        return self._core.fleet

    @property
    def desk(self) -> ReportDesk:
        """Where reports are made, and signed."""
        return self._core.desk

    @property
    def device_desk(self) -> DeviceDesk:
        """Who tells devices settings and commands."""
        return self._core.device_desk

    @property
    def rollouts(self) -> RolloutDesk:
        """Who brings firmware to devices."""
        return self._core.rollouts


SERVICES = web.AppKey("services", Services)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""What a request is called in the log, in its answer's header ``X-Request-ID`` and on pages that tell of an error."""
ID_HEADER = "X-Request-ID"
