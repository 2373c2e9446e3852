"""The whole plugin contract, on one page.

A plugin is a module, or a package, with a :class:`Manifest` named ``MANIFEST`` and functions of the names at the end
of this page, marked ``@carbontrack.hookimpl``. The ``register_`` hooks are called once per load; what they return is
indexed by name, and a name that is taken already is refused. A hook may leave out the argument ``plugin``. Third-party
plugins and the parts that ship with Carbon Track come by the same door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import pluggy
from pydantic import BaseModel

from carbontrack.compliance import ComplianceReport
from carbontrack.ledger import Target, TargetStatus
from carbontrack.model import (
    Alert,
    Factory,
    Finding,
    Flood,
    Message,
    Payload,
    Recovery,
    Report,
    Role,
    Site,
    Snapshot,
    Stack,
    StackTotal,
    StorageStatus,
    Stranger,
    User,
)

PROJECT = "carbontrack"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- what a plugin says of itself, and what it is given


class Kind(StrEnum):
    """What a plugin brings."""

    SENSOR = "sensor"
    ALERT = "alert"
    NOTIFIER = "notifier"
    REPORT = "report"
    PORTAL = "portal"


class Tier(StrEnum):
    """How good a plugin is, as ``carbontrack plugins check`` finds it; each tier includes the one before."""

    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
    PLATINUM = "platinum"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a plugin says of itself: the module's ``MANIFEST``.

    ``name`` is how the configuration speaks of it: the entry point, the file or the folder has the same name.
    ``requirements`` are distributions as pip writes them (``"pymodbus>=3.6"``); a plugin that lacks one is parked.
    ``options_model`` is a pydantic model that forbids extra keys; without one the plugin takes no options.
    ``options_version`` is the version of the options' form: see :func:`migrate_options`.
    """

    name: str
    version: str
    kinds: tuple[Kind, ...]
    title: str
    documentation: str = ""
    codeowners: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    options_model: type[BaseModel] | None = None
    options_version: int = 1
    tier: Tier | None = None


class NotReady(Exception):
    """Raised by :func:`set_up` when what the plugin needs is not there yet: it is tried again, later and later."""


class Outbound(Protocol):
    """The ways out of the core. Each raises what went wrong, ConnectionError where the core has no such way."""

    async def mail(self, to: str, subject: str, text: str, html: str | None = None) -> None:
        """Hand a mail to the mail server, once; raises :class:`Undeliverable` where it will never have it."""

    def show(self, event: Mapping[str, Any], factory_id: int | None) -> None:
        """Show an alert on the live pages of those who may see the factory; None: who sees all of them."""

    async def command(self, device_id: str, body: Mapping[str, Any]) -> None:
        """Send a command to a device; returns when the broker has it."""


class Plugin(Protocol):
    """What a plugin is given of the core while it is loaded."""

    name: str
    options: Any
    """An instance of the manifest's ``options_model``; None without one."""

    @property
    def frame_decoders(self) -> Mapping[str, FrameDecoder]:
        """The frame decoders of all plugins, by name, as they are now."""

    @property
    def outbound(self) -> Outbound:
        """The ways out that the core has, for notifiers."""

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine beside the core until the plugin is unloaded; one that raises parks the plugin."""


# --- what plugins bring


class DecodeError(ValueError):
    """Raised by a sensor driver for a payload that it cannot use; ``cause`` is a short, countable name.

    ``covers`` names the stream and the first and last sequence number of the payload where they can still be read,
    so that the device gets its receipt and does not send the same payload for ever.
    """

    def __init__(self, cause: str, detail: str, covers: tuple[str, int, int] | None = None) -> None:
        super().__init__(detail)
        self.cause = cause
        self.covers = covers


@dataclass(frozen=True, slots=True)
class SensorDriver:
    """Turns one payload of a device into samples.

    ``decode`` is called in the device's actor for every payload on ``data`` and ``backlog``; it must be quick, must
    not block, and raises :class:`DecodeError` for a payload that it cannot use.
    """

    name: str
    title: str
    decode: Callable[[Payload], Message]


class Frame(msgspec.Struct, frozen=True):
    """What one frame of a sensor says. A value that the sensor does not measure, or could not, is None.

    ``status`` are bits of :class:`carbontrack.Flag`. ``meter`` are running totals, by the names of the protocol's
    meter records: ``kwh``, ``litres``, ``run_s``.
    """

    co2_ppm: float | None = None
    temperature_c: float | None = None
    velocity_ms: float | None = None
    pressure_difference_pa: float | None = None
    pressure_kpa: float | None = None
    status: int = 0
    meter: Mapping[str, float] = {}


class FrameError(ValueError):
    """Raised by a frame decoder for bytes that are no whole frame; ``cause`` is a short, countable name."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class FrameDecoder:
    """Reads the bytes that one sensor puts on its wire.

    ``decode`` is pure. It checks the frame's own checksum, reports the sensor's faults as status bits and never invents
    a value. :class:`FrameError` says why the bytes are no frame.

    ``gives`` names what it fills: fields of :class:`Frame`, or totals of ``meter``. By it two frames that measure the
    same are told apart from two that do not, and a frame that cannot be read takes away its own channel only.
    """

    name: str
    title: str
    decode: Callable[[bytes], Frame]
    gives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an alert rule says of one snapshot: ``breached`` starts or holds an alert, ``cleared`` ends it.

    Neither (between the two thresholds) leaves it as it is. Of a breach, ``message`` says in English what was found;
    ``value``, ``limit`` and ``unit`` say it in numbers where the rule compares, so that it can be told in other
    languages and drawn.
    """

    breached: bool
    cleared: bool
    message: str = ""
    value: float | None = None
    limit: float | None = None
    unit: str = ""

    @property
    def finding(self) -> Finding:
        """What was found, to be kept with the alert."""
        return Finding(self.message, self.value, self.limit, self.unit)


@dataclass(frozen=True, slots=True)
class Observation:
    """What an alert rule is shown of one device.

    ``memory`` belongs to this rule and this device alone; it is empty after a start of the core. ``silence_s`` is for
    how long the device has not been heard for certain: 0 while the core itself hears nothing.
    """

    site: Site
    snapshot: Snapshot
    now: datetime
    silence_s: float
    memory: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuleWords:
    """What people read of an alert rule in one language: its name, and what to do first, one step a line."""

    title: str
    first_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A family of alert rules that watch a device.

    ``evaluate`` takes an instance of ``options_model`` and an :class:`Observation`; apart from ``memory`` it is pure.
    It is asked after live readings; with ``on_timer`` also every few seconds, whether or not the device sends.
    """

    name: str
    title: str
    options_model: type[BaseModel]
    evaluate: Callable[[Any, Observation], Verdict]
    on_timer: bool = False
    words: Mapping[str, RuleWords] = field(default_factory=dict)
    """What people read of it, by language (``en``, ``sw``)."""


@dataclass(frozen=True, slots=True)
class FactoryFacts:
    """What a factory rule is shown of one factory.

    ``measured_over_fuel`` is the CO2 that was measured over the CO2 that the entered fuel gives, of the last whole
    month and of ``month``, with what lies at the edges of acceptance; None where one of the two is not known.
    ``last_energy_on`` and ``last_tea_on`` are the last local days that the factory's entries cover; None without any.
    """

    factory: Factory
    now: datetime
    zone: tzinfo
    monitored_since: date | None
    """The local day of the first stack's first monitoring plan; None without a stack."""
    last_energy_on: date | None
    last_tea_on: date | None
    month: date
    """The first day of the last whole local month."""
    measured_over_fuel: float | None


@dataclass(frozen=True, slots=True)
class FactoryRule:
    """A family of alert rules that watch a factory as a whole; ``evaluate`` is pure and asked every few minutes."""

    name: str
    title: str
    options_model: type[BaseModel]
    evaluate: Callable[[Any, FactoryFacts], Verdict]
    words: Mapping[str, RuleWords] = field(default_factory=dict)
    """What people read of it, by language (``en``, ``sw``)."""


Event = Literal["raised", "escalated", "repeated", "cleared", "acknowledged"]
"""What is told of an alert. ``escalated``: others did not answer; ``acknowledged``: somebody has seen it."""


@dataclass(frozen=True, slots=True)
class AlertItem:
    """One alert of a notification, and what is told of it.

    ``factory`` and ``stack`` are None for one of the whole network, which stands for ``devices`` at ``factories``;
    ``stack`` alone is None for the alert of a factory as a whole. ``title`` and ``first_steps`` are in the recipient's
    language.
    """

    event: Event
    alert: Alert
    factory: Factory | None
    stack: Stack | None
    title: str
    first_steps: tuple[str, ...] = ()
    devices: int = 1
    factories: int = 1


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person who is to be told. ``phone`` is empty where none is known; ``language`` is ``en`` or ``sw``."""

    name: str
    email: str
    phone: str
    language: str


@dataclass(frozen=True, slots=True)
class Notification:
    """What somebody is to be told: one alert, or all of them that came together.

    ``event`` is the most important of the items'; there are at most 20 ``items``, out of ``count``. ``recipient`` is
    None where a notifier tells once for all. ``subject``, ``text`` and ``html`` say it all in the recipient's language;
    ``url`` leads to the portal, and is empty where its address is not known. ``id`` stays over attempts: whoever gets
    it twice, has it already.
    """

    id: str
    event: Event
    items: tuple[AlertItem, ...]
    count: int
    recipient: Recipient | None
    subject: str
    text: str
    html: str
    url: str = ""


class Undeliverable(Exception):
    """Raised by a notifier for what will never be delivered, such as an address that is none: it is not tried again."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """A way to tell people of alerts.

    ``send`` takes an instance of ``options_model`` and one :class:`Notification`. What it raises means that it was not
    delivered, and it is asked again, later and later, for a day; :class:`Undeliverable` ends that at once.
    With ``to_people`` it is asked once for each person who is on duty, of those who have what ``needs`` names; without
    it once for all, and not again while an alert goes on.
    """

    name: str
    title: str
    options_model: type[BaseModel]
    send: Callable[[Any, Notification], Awaitable[None]]
    to_people: bool = False
    needs: Literal["email", "phone"] | None = None


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """Turns a :class:`~carbontrack.model.Report` into a file.

    ``render`` runs in a process of its own, with limits of time and memory. There the plugin is loaded anew, with its
    options, and without :func:`set_up`.
    """

    name: str
    title: str
    extension: str
    media_type: str
    render: Callable[[Report], bytes]


@dataclass(frozen=True, slots=True)
class ComplianceFormat:
    """Turns a :class:`~carbontrack.compliance.ComplianceReport` into a file; ``render`` runs as a report format's does.

    It must give the same bytes for the same report. The report's ``seal`` stands in the file once or more often, byte
    for byte and uncompressed, where the format can carry it: the platform puts its signature there.
    """

    name: str
    title: str
    extension: str
    media_type: str
    render: Callable[[ComplianceReport], bytes]


@dataclass(frozen=True, slots=True)
class FactoryDay:
    """Measured stack CO2 of one factory since the local day began; ``coverage`` is over the time that has passed."""

    factory: Factory
    stacks: tuple[Stack, ...]
    co2_kg: float
    coverage: float
    stack_totals: Mapping[int, StackTotal]


@dataclass(frozen=True, slots=True)
class TargetStanding:
    """How a factory stands against one of its targets, in ``unit``; None where there is nothing to work it out from."""

    target: Target
    unit: str
    today: float | None
    """Of the local day so far."""
    month: float | None
    """Of the local month so far."""
    status: TargetStatus
    """That of the month."""


@dataclass(frozen=True, slots=True)
class FactoryTargets:
    """The targets of one factory that are in force, against its accounts of today and of this month.

    Accounts are of whole hours; substituted hours count in them as well as measured ones.
    """

    since: datetime
    """When today's account begins."""
    until: datetime
    """When both accounts end."""
    measured_kg: float
    """Measured stack CO2 of today's account."""
    substituted_kg: float
    """What stands in for hours of today that were not measured."""
    made_tea_kg: float | None
    """Of what is entered for today, the part of the time so far; None: nothing is entered."""
    standings: tuple[TargetStanding, ...]


class PluginState(StrEnum):
    """Where a plugin stands."""

    DISABLED = "disabled"
    SETTING_UP = "setting_up"
    RUNNING = "running"
    RETRYING = "retrying"
    """It is not ready yet, and is tried again by itself."""
    TROUBLED = "troubled"
    """It runs, but is held back somewhere: for one device, on one page."""
    PARKED = "parked"
    """It failed; ``error`` and ``advice`` say what to do."""
    UNLOADING = "unloading"


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """How one plugin stands, for operators."""

    name: str
    origin: str
    state: PluginState
    manifest: Manifest | None = None
    """None for one that is disabled, or could not be read: such are not imported."""
    brings: tuple[str, ...] = ()
    """What it contributes: ``sensor ct_v1``, ``portal hq``."""
    error: str = ""
    advice: str = ""
    """What a person can do about ``error``."""
    notes: tuple[str, ...] = ()
    """What is worth knowing though it runs: options of an older form, a reload that failed."""
    errors: int = 0
    """How often calls of it failed since it was loaded."""
    retry_at: datetime | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its options as they are, secrets masked."""


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What the last reload of the configuration did."""

    at: datetime
    by: str
    """Who or what asked for it."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    """Plugin -> why it could not be loaded."""
    problems: tuple[str, ...] = ()
    """What is wrong with the configuration; then nothing was changed."""
    left_out: tuple[str, ...] = ()
    """Alerts and notifications that cannot be used with the plugins that there are, certificates, and why."""
    needs_restart: tuple[str, ...] = ()
    """Sections of the configuration whose changes count from the next start on."""


class PortalReader(Protocol):
    """What a portal view may ask of the platform, already limited to what the signed-in person may see.

    A factory that the person may not see is not there: lists leave it out, and :meth:`factory` gives None.
    """

    now: datetime
    zone: tzinfo
    formats: Sequence[ReportFormat]

    async def factory(self, slug: str) -> Factory | None: ...

    async def sites(self, factory_id: int | None = None) -> Sequence[Site]:
        """Registered devices with their stacks."""

    async def days(
        self, days_ago: int = 0, factory_id: int | None = None, *, whole: bool = False
    ) -> Sequence[FactoryDay]:
        """Totals of today until now, or of an earlier local day up to the same time of day, or as a whole."""

    async def targets(self, factory: Factory) -> FactoryTargets | None:
        """How a factory stands against its targets; None within the first hour of a day, and without accounts."""

    async def alerts(self, factory_id: int | None = None) -> Sequence[Alert]:
        """Alerts that fire now, newest first."""

    async def quarantine_counts(self, factory_id: int | None = None) -> Mapping[str, int]:
        """How many payloads came into quarantine in the last 24 hours, by cause."""

    def snapshots(self, factory_id: int | None = None) -> Sequence[Snapshot]:
        """The live state of each running device, by device id."""

    def problems(self) -> Sequence[str]:
        """What is wrong with the platform itself, in sentences; for operators and headquarters."""

    def troubles(self) -> Mapping[str, str]:
        """Devices whose actor is backing off or parked, with the error; for operators and headquarters."""

    def refused(self) -> Mapping[str, int]:
        """How many messages were refused since the core started, by cause; for operators and headquarters."""

    async def recoveries(self, factory_id: int | None = None) -> Sequence[Recovery]:
        """Outages whose readings came within the last 24 hours, from the devices' stores; newest first."""

    def floods(self) -> Sequence[Flood]:
        """Devices that send more than they may, the worst first; for operators and headquarters."""

    def plugins(self) -> Sequence[PluginStatus]:
        """Every plugin there is and how it stands; for operators and headquarters."""

    def last_reload(self) -> ReloadResult | None:
        """What the last reload did, None without one; for operators and headquarters."""

    def storage(self) -> StorageStatus | None:
        """How much is kept and for how long there is room; for operators and headquarters."""

    def strangers(self) -> Sequence[Stranger]:
        """Devices that send and are not registered; for operators and headquarters."""


@dataclass(frozen=True, slots=True)
class PortalRequest:
    """One request to a portal view: who asks, what the path and the query string say, and the data to read."""

    user: User
    path: Mapping[str, str]
    query: Mapping[str, str]
    data: PortalReader


@dataclass(frozen=True, slots=True)
class Page:
    """The answer of a portal view: a template and its values."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PortalView:
    """A page in the portals. Without a role in ``roles`` nobody sees it.

    ``path`` is an aiohttp path such as ``/factory/{slug}/``. ``show`` gives None for something that is not there, or
    that the person may not see: the answer is "404 not found" in both cases.
    """

    name: str
    title: str
    path: str
    roles: frozenset[Role]
    show: Callable[[PortalRequest], Awaitable[Page | None]]
    templates: Path | None = None
    in_menu: bool = True


# --- the hooks


@hookspec
def set_up(plugin: Plugin) -> AbstractAsyncContextManager[None] | None:
    """What the plugin needs while it is loaded, as an async context manager: entered at first, left at unload.

    :class:`NotReady` is for what will be there later; anything else that it raises parks the plugin.
    """


@hookspec
def migrate_options(options: dict[str, Any], version: int) -> dict[str, Any] | None:
    """Options of an older form (the number that ``version`` in them gives, 1 without) in the form of today."""


@hookspec
def register_sensors(plugin: Plugin) -> Sequence[SensorDriver]:
    """Sensor drivers, by the name that a device's ``sensor`` field gives."""
    raise NotImplementedError


@hookspec
def register_frame_decoders(plugin: Plugin) -> Sequence[FrameDecoder]:
    """Decoders of single sensors' frames, by the name that a message for the driver ``frames`` gives."""
    raise NotImplementedError


@hookspec
def register_alert_rules(plugin: Plugin) -> Sequence[AlertRule]:
    """Families of alert rules for devices, by the name that ``alerts: - rule:`` gives in the configuration."""
    raise NotImplementedError


@hookspec
def register_factory_rules(plugin: Plugin) -> Sequence[FactoryRule]:
    """Families of alert rules for factories, by the name that ``alerts: - rule:`` gives."""
    raise NotImplementedError


@hookspec
def register_notifiers(plugin: Plugin) -> Sequence[Notifier]:
    """Ways to tell people of alerts, by the name that ``notifications: - notifier:`` gives."""
    raise NotImplementedError


@hookspec
def register_report_formats(plugin: Plugin) -> Sequence[ReportFormat | ComplianceFormat]:
    """Formats of files, by the name that ``--format`` gives: for readings, and for compliance reports."""
    raise NotImplementedError


@hookspec
def register_portals(plugin: Plugin) -> Sequence[PortalView]:
    """Pages of the portals, by name."""
    raise NotImplementedError
