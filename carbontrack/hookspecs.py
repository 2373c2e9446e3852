"""The whole plugin contract, on one page.

A plugin is a module with functions of these names, marked ``@carbontrack.hookimpl``. Each hook is called once per
load; what it returns is indexed by name, and a name that is taken already is refused. Third-party plugins and the
parts that ship with Carbon Track come by the same door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Protocol

import pluggy
from pydantic import BaseModel

from carbontrack.model import (
    Alert,
    Factory,
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an alert rule says of one snapshot: ``breached`` starts or holds an alert, ``cleared`` ends it.

    Neither (between the two thresholds) leaves it as it is.
    """

    breached: bool
    cleared: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A family of alert rules. ``evaluate`` is pure; its options are an instance of ``options_model``."""

    name: str
    title: str
    options_model: type[BaseModel]
    evaluate: Callable[[Any, Site, Snapshot], Verdict]


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """Turns a :class:`~carbontrack.model.Report` into a file. ``render`` runs outside the event loop."""

    name: str
    title: str
    extension: str
    media_type: str
    render: Callable[[Report], bytes]


@dataclass(frozen=True, slots=True)
class FactoryDay:
    """Measured stack CO2 of one factory since the local day began; ``coverage`` is over the time that has passed."""

    factory: Factory
    stacks: tuple[Stack, ...]
    co2_kg: float
    coverage: float
    stack_totals: Mapping[int, StackTotal]


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

    async def days(self, days_ago: int = 0, factory_id: int | None = None) -> Sequence[FactoryDay]:
        """Totals of today until now, or of an earlier local day up to the same time of day."""

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


@hookspec
def register_sensors() -> Sequence[SensorDriver]:
    """Sensor drivers, by the name that a device's ``sensor`` field gives."""
    return ()


@hookspec
def register_alert_rules() -> Sequence[AlertRule]:
    """Families of alert rules, by the name that ``alerts: - rule:`` gives in the configuration."""
    return ()


@hookspec
def register_report_formats() -> Sequence[ReportFormat]:
    """Report formats, by the name that ``--format`` gives."""
    return ()


@hookspec
def register_portals() -> Sequence[PortalView]:
    """Pages of the portals, by name."""
    return ()
