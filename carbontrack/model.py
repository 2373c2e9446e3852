"""The nouns of Carbon Track: immutable values without I/O, clock or framework.

Names carry their units. Types that are made once per reading are ``msgspec.Struct`` (a frozen value like a
dataclass, but built in C: a frozen dataclass of this size costs five times as much); all others are frozen
dataclasses.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import IntEnum, IntFlag, StrEnum
from math import pi
from typing import Any, Literal

import msgspec

MIN_DATETIME = datetime(1, 1, 1, tzinfo=UTC)


class Unavailable(Exception):
    """Something that the core needs is away: no fault of whoever asked for it."""


class Flag(IntFlag):
    """What is known about one reading beside its numbers.

    Bits 0 to 14 are the status word ``st`` of the device protocol (docs/protocol.md); bits from 16 on are set by
    the platform.
    """

    CO2_OVER_RANGE = 1 << 0
    CO2_FAULT = 1 << 1
    WARM_UP = 1 << 2
    STALE = 1 << 3
    TEMPERATURE_OPEN = 1 << 4
    TEMPERATURE_FAULT = 1 << 5
    VELOCITY_FAULT = 1 << 6
    PRESSURE_DIFFERENCE_NEGATIVE = 1 << 7
    PRESSURE_DEFAULT = 1 << 8
    MAINTENANCE = 1 << 9
    CALIBRATION = 1 << 10
    STUCK = 1 << 11
    IMPLAUSIBLE = 1 << 12
    BOILER_OFF = 1 << 13
    CLOCK_JUMP = 1 << 14

    CLOCK_FUTURE = 1 << 16
    """The device's clock was ahead of the platform's; the time was set back to the time of receipt."""
    CLOCK_UNSET = 1 << 17
    """The device had no set clock; the time was worked out from its uptime."""
    TIME_ESTIMATED = 1 << 18
    """The time is an estimate: no anchor for that boot is known."""
    BACKLOG = 1 << 19
    """The reading came late, out of the device's store."""
    UNFIT_SENSOR = 1 << 20
    """The CO2 channel's range cannot cover this flue gas (for example 0-5000 ppm without dilution)."""
    VALUE_MISSING = 1 << 21
    """A value that the rate needs (CO2, temperature or velocity) is missing."""
    DEVICE_DISAGREES = 1 << 22
    """The rate that the device computed differs from the platform's by more than 5 %."""
    CO2_SATURATED = 1 << 23
    """The platform found the CO2 channel at its full scale, and set CO2_OVER_RANGE, which the device had not."""
    CO2_IMPLAUSIBLE = 1 << 24
    TEMPERATURE_IMPLAUSIBLE = 1 << 25
    VELOCITY_IMPLAUSIBLE = 1 << 26
    """No chimney has such a velocity; or there is none although the gas is hot and full of CO2."""
    PRESSURE_IMPLAUSIBLE = 1 << 27
    """The pressure that the device gave cannot be; the site's is used."""
    PRESSURE_SITE = 1 << 28
    """The pressure is the site's, because the device gave none that can be used."""
    VELOCITY_FROM_PITOT = 1 << 29
    """The velocity was worked out by the platform from the pressure difference."""


class ClockQuality(IntEnum):
    """How far a device's time can be trusted (``tq`` of the device protocol)."""

    UNSET = 0
    SYNCED = 1
    HOLD_OVER = 2
    RE_ANCHORED = 3


class Lane(StrEnum):
    """How a message came: as it was measured, or later out of the device's store."""

    LIVE = "live"
    BACKLOG = "backlog"


class DeviceStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class Role(StrEnum):
    HQ_MANAGER = "hq_manager"
    FACTORY_MANAGER = "factory_manager"
    FACTORY_CLERK = "factory_clerk"
    AUDITOR = "auditor"
    OPERATOR = "operator"


FACTORY_ROLES = frozenset({Role.FACTORY_MANAGER, Role.FACTORY_CLERK})
"""Whoever has one of these belongs to a factory; all others to none, and see every one."""
APPROVING_ROLES = frozenset({Role.HQ_MANAGER})
"""Who lets others in. Of these there must always be one who may sign in."""


class UserStatus(StrEnum):
    PENDING = "pending"
    """Has asked to be let in; may not sign in yet."""
    ACTIVE = "active"
    DISABLED = "disabled"


class Scope(StrEnum):
    """What an API token may do; never more than the role of its person."""

    READ = "read"
    ENTRIES = "entries"
    REPORTS = "reports"
    REGISTRY = "registry"
    EMISSIONS = "emissions"


LOCALES = ("en", "sw")
"""Languages of the pages: English, and Swahili."""


# --- the registry -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Factory:
    """A tea factory. ``pressure_kpa`` is the mean absolute air pressure of the site; None means: from altitude.

    ``legal_entity`` is the company that a report is of, ``un_locode`` the place by the UN's code for trade locations.
    """

    id: int
    name: str
    slug: str
    county: str
    region: str
    latitude: float | None
    longitude: float | None
    altitude_m: float
    pressure_kpa: float | None = None
    is_active: bool = True
    legal_entity: str = ""
    un_locode: str = ""


def slug_of(name: str) -> str:
    """A factory's name as it stands in addresses: ``Kangaita Tea Factory`` is ``kangaita``."""
    short = re.sub(r"\s+tea factory$", "", name.strip(), flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-") or secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class MonitoringPlan:
    """How one stack is measured, from ``valid_from`` until the next plan of the same stack.

    ``co2_range_ppm`` is the analyser's full scale as it reads (before dilution); ``dilution_ratio`` 50 means that
    one part of flue gas is drawn with 49 parts of clean air. ``h2o_fraction`` is the water share of the wet flue
    gas by volume and is used when the analyser reads dry. ``profile_factor`` is mean velocity over measured
    velocity, from a grid traverse (EN 15259).

    The boiler counts as running above the three ``on_`` values and as off below ``off_temperature_c`` or
    ``off_co2_ppm`` (ppm by volume in the wet flue gas) or ``off_velocity_ms``; between them it stays what it was.

    ``validity`` and ``substitution`` name the policies for hours; ``fuels`` are those that burn into this stack,
    separated by commas. The ``u_`` values are relative standard uncertainties (k = 1) of the factors of the rate.
    """

    valid_from: datetime = MIN_DATETIME
    shape: Literal["circular", "rectangular"] = "circular"
    diameter_m: float | None = 0.8
    width_m: float | None = None
    length_m: float | None = None
    wall_deposit_mm: float = 0.0
    profile_factor: float = 0.9
    basis: Literal["wet", "dry"] = "dry"
    h2o_fraction: float = 0.12
    co2_range_ppm: float = 200_000.0
    dilution_ratio: float = 1.0
    calibration_offset_ppm: float = 0.0
    calibration_slope: float = 1.0
    pitot_coefficient: float = 0.84
    velocity_method: Literal["anemometer", "pitot"] = "anemometer"
    co2_response_s: float = 30.0
    temperature_max_c: float = 1000.0
    velocity_max_ms: float = 50.0
    profile_factor_source: Literal["assumed", "traverse"] = "assumed"
    undisturbed_upstream_m: float | None = None
    undisturbed_downstream_m: float | None = None
    on_temperature_c: float = 80.0
    off_temperature_c: float = 60.0
    on_velocity_ms: float = 0.5
    off_velocity_ms: float = 0.3
    on_co2_ppm: float = 10_000.0
    off_co2_ppm: float = 5_000.0
    validity: Literal["share", "quadrant"] = "share"
    substitution: Literal["mrr", "epa"] = "mrr"
    fuels: str = "firewood"
    u_co2: float = 0.03
    u_velocity: float = 0.05
    u_profile: float = 0.08
    u_area: float = 0.02
    u_temperature: float = 0.01
    u_pressure: float = 0.01
    u_h2o: float = 0.03
    note: str = ""
    area_m2: float = field(init=False)

    def __post_init__(self) -> None:
        for name in ("temperature_c", "velocity_ms", "co2_ppm"):
            if getattr(self, f"off_{name}") > getattr(self, f"on_{name}"):
                raise ValueError(f"off_{name} must not be above on_{name}")
        deposit_m = 2 * self.wall_deposit_mm / 1000
        if self.shape == "circular":
            if self.diameter_m is None or self.diameter_m <= deposit_m:
                raise ValueError("a circular stack needs diameter_m larger than its wall deposit")
            area = pi * (self.diameter_m - deposit_m) ** 2 / 4
        else:
            if self.width_m is None or self.length_m is None or min(self.width_m, self.length_m) <= deposit_m:
                raise ValueError("a rectangular stack needs width_m and length_m larger than its wall deposit")
            area = (self.width_m - deposit_m) * (self.length_m - deposit_m)
        object.__setattr__(self, "area_m2", area)


@dataclass(frozen=True, slots=True)
class Stack:
    """One chimney. ``plans`` are its monitoring plans, oldest first; there is always at least one."""

    id: int
    factory_id: int
    name: str
    plans: tuple[MonitoringPlan, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """One registered node. ``device_id`` is its name on the wire; ``sensor`` names the driver that decodes it."""

    id: int
    device_id: str
    factory_id: int
    stack_id: int
    sensor: str = "ct_v1"
    status: DeviceStatus = DeviceStatus.ACTIVE
    password_generation: int = 0
    """Tells its password at the broker from the one before."""
    measures_from: datetime | None = None
    """Of a unit that took over a chimney: what it measured before does not count there."""
    measures_until: datetime | None = None
    """Of a unit that was replaced: what it measured from then on does not count."""
    replaced_by: str = ""
    """The ``device_id`` of the unit that has taken over its chimney."""

    def counts_at(self, moment: datetime) -> bool:
        """Whether what it measured at this moment counts for its chimney."""
        return (self.measures_from is None or moment >= self.measures_from) and (
            self.measures_until is None or moment < self.measures_until
        )


@dataclass(frozen=True, slots=True)
class Site:
    """A device with the stack and the factory that it measures: all that its actor needs to know."""

    factory: Factory
    stack: Stack
    device: Device


@dataclass(frozen=True, slots=True)
class User:
    """A person. ``factory_id`` is None for people who see every factory."""

    id: int
    email: str
    first_name: str
    last_name: str
    role: Role
    factory_id: int | None
    status: UserStatus = UserStatus.ACTIVE
    phone_number: str = ""
    locale: str = "en"
    created_at: datetime = MIN_DATETIME


@dataclass(frozen=True, slots=True)
class Session:
    """One signing in of a person, while it lasts. ``id`` may be shown: it opens nothing."""

    id: int
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime
    """To about a minute."""
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What a person's program signs in with; the token itself is shown once and kept as a hash."""

    id: int
    user_id: int
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To about a minute."""
    prefix: str
    """The token's first characters, so that people recognise it."""


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """What became of a request that came with the same idempotency key before."""

    request_sha256: str
    status: int | None
    """Of the answer; None: it is still being worked on."""
    body: str


# --- who did what


@dataclass(frozen=True, slots=True)
class Origin:
    """Who does something, and from where."""

    name: str
    """An e-mail address, a device id, "command line", or "carbontrack": the platform itself."""
    address: str = ""
    user_id: int | None = None
    token: str = ""
    """The name of the API token that it came by."""


PLATFORM = Origin("carbontrack")


class AuditAction(StrEnum):
    """Everything that the audit log knows of (docs/security.md)."""

    USER_ADDED = "user.added"
    USER_CHANGED = "user.changed"
    USER_APPROVED = "user.approved"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_REMOVED = "user.removed"
    USER_PASSWORD_SET = "user.password_set"  # noqa: S105  # names of actions
    USER_CODE_MADE = "user.code_made"
    USER_CODE_REFUSED = "user.code_refused"
    USER_SIGNED_IN = "user.signed_in"
    USER_SIGN_IN_FAILED = "user.sign_in_failed"
    USER_SIGNED_OUT = "user.signed_out"
    USER_SESSION_ENDED = "user.session_ended"
    USER_SESSIONS_ENDED = "user.sessions_ended"
    TOKEN_ADDED = "token.added"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    FACTORY_ADDED = "factory.added"
    FACTORY_CHANGED = "factory.changed"
    FACTORY_REMOVED = "factory.removed"
    STACK_ADDED = "stack.added"
    STACK_CHANGED = "stack.changed"
    STACK_REMOVED = "stack.removed"
    PLAN_ADDED = "plan.added"
    DEVICE_ADDED = "device.added"
    DEVICE_CHANGED = "device.changed"
    DEVICE_REMOVED = "device.removed"
    DEVICE_UNPARKED = "device.unparked"
    DEVICE_CONFIGURED = "device.configured"
    DEVICE_CONFIG_RESENT = "device.config_resent"
    DEVICE_COMMANDED = "device.commanded"
    FIRMWARE_ADDED = "firmware.added"
    ROLLOUT_STARTED = "rollout.started"
    ROLLOUT_PAUSED = "rollout.paused"
    ROLLOUT_RESUMED = "rollout.resumed"
    ROLLOUT_STOPPED = "rollout.stopped"
    ROLLOUT_DONE = "rollout.done"
    DEVICE_HANDED_OUT = "device.handed_out"
    DEVICE_REVOKED = "device.revoked"
    DEVICE_REPLACED = "device.replaced"
    DEVICE_PASSWORD_ROTATED = "device.password_rotated"  # noqa: S105
    ENERGY_ENTRY_ADDED = "energy_entry.added"
    ENERGY_ENTRY_CHANGED = "energy_entry.changed"
    ENERGY_ENTRY_WITHDRAWN = "energy_entry.withdrawn"
    ENERGY_ENTRY_PHOTO_ADDED = "energy_entry.photo_added"
    PRODUCTION_ENTRY_ADDED = "production_entry.added"
    PRODUCTION_ENTRY_CHANGED = "production_entry.changed"
    PRODUCTION_ENTRY_WITHDRAWN = "production_entry.withdrawn"
    TARGET_ADDED = "target.added"
    TARGET_WITHDRAWN = "target.withdrawn"
    WOOD_PRICE_ADDED = "wood_price.added"
    WOOD_PRICE_WITHDRAWN = "wood_price.withdrawn"
    STATEMENT_ADDED = "statement.added"
    REPORT_MADE = "report.made"
    REPORT_PREPARED = "report.prepared"
    REPORT_REVIEWED = "report.reviewed"
    REPORT_APPROVED = "report.approved"
    REPORT_RETURNED = "report.returned"
    REPORT_WITHDRAWN = "report.withdrawn"
    REPORT_SHARED = "report.shared"
    REPORT_LINK_REVOKED = "report.link_revoked"
    ALERT_ACKNOWLEDGED = "alert.acknowledged"
    ALERT_SHELVED = "alert.shelved"
    ALERT_UNSHELVED = "alert.unshelved"
    ALERT_BOUND_SET = "alert_bound.set"
    ALERT_BOUND_REMOVED = "alert_bound.removed"
    ALERT_ADJUSTED = "alert.adjusted"
    ALERT_ADJUSTMENT_REMOVED = "alert.adjustment_removed"
    DUTY_CHANGED = "duty.changed"
    QUARANTINE_REPLAYED = "quarantine.replayed"
    QUARANTINE_DISMISSED = "quarantine.dismissed"
    PLUGINS_RELOADED = "plugins.reloaded"
    DIAGNOSTICS_TAKEN = "diagnostics.taken"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the audit log. Of a change, ``before`` and ``after`` have the fields that differ."""

    id: int
    """Counts from 1 without a gap."""
    at: datetime
    actor: str
    user_id: int | None
    address: str
    token: str
    action: str
    """One of :class:`AuditAction`."""
    subject_kind: str
    subject_id: str
    factory_id: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    sha256: str


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Whether the audit log is as it was written. ``count`` and ``sha256`` are its head, as far as it is in order."""

    count: int
    sha256: str
    broken_id: int | None = None
    """The first event that is not as it was written, or is missing; None: all is in order."""
    why: str = ""


# --- the way of a reading ---------------------------------------------------------------------------------------


class Payload(msgspec.Struct, frozen=True, gc=False):
    """One message as it came from the broker. ``received_at_ms`` is UTC, in ms since 1970."""

    device_id: str
    channel: str
    """The topic after ``ct/v1/<id>/up/``: ``data``, ``backlog``, ``state``, ``config`` or ``res``."""
    body: bytes
    received_at_ms: int


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What a device measured at one moment, as a sensor driver decodes it: raw, before any correction.

    ``device_time_ms`` is UTC in ms since 1970, or ms since boot when ``clock`` is UNSET.
    """

    seq: int
    device_time_ms: int
    clock: int = ClockQuality.SYNCED
    co2_ppm: float | None = None
    temperature_c: float | None = None
    velocity_ms: float | None = None
    pressure_difference_pa: float | None = None
    pressure_kpa: float | None = None
    device_co2_kg_per_s: float | None = None
    status: int = 0


class Record(msgspec.Struct, frozen=True):
    """Something else that a device reports: ``meter``, ``health``, ``event``, ``gap`` or ``anchor``."""

    seq: int
    kind: str
    device_time_ms: int
    clock: int
    data: dict[str, Any]


class Message(msgspec.Struct, frozen=True):
    """A decoded payload: the records ``first_seq .. first_seq + count - 1`` of one stream and one boot.

    ``numbered`` False: the device does not number its records without gaps; it gets no receipts, and only the
    database knows what came twice. ``relayed`` True: a site's own platform hands on what it has taken
    already. Its flags and times are the site's, and its gaps and anchors have done their work there.
    """

    stream: str
    boot: int
    first_seq: int
    count: int
    samples: list[Sample]
    records: list[Record] = []
    numbered: bool = True
    relayed: bool = False


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """What was measured, as it is kept: a row of the table ``reading``. It never changes."""

    stack_id: int
    stream_pk: int
    """The row of the device's stream (its flash store); device and stream id follow from it."""
    seq: int
    measured_at: datetime
    received_at: datetime
    """To a millisecond where it came within four hours, to a second within a hundred days (a 32-bit float)."""
    co2_ppm: float | None
    temperature_c: float | None
    velocity_ms: float | None
    """None where the velocity comes from a pitot tube: then ``pressure_difference_pa`` is what was measured."""
    pressure_difference_pa: float | None
    pressure_kpa: float | None
    flags: int
    """As they were when it came; those that depend on the monitoring plan are worked out anew with the rate."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One measurement with what follows from it under the monitoring plan of its time.

    ``co2_kg_per_s`` is None where the sample cannot give a valid rate; ``flags`` says why.
    """

    stack_id: int
    stream_pk: int
    seq: int
    measured_at: datetime
    received_at: datetime
    co2_ppm: float | None
    temperature_c: float | None
    velocity_ms: float | None
    pressure_kpa: float | None
    flow_rate_m3s: float | None
    co2_kg_per_s: float | None
    flags: int
    pressure_difference_pa: float | None = None
    """What a pitot tube gave, where the velocity comes from it."""


class Snapshot(msgspec.Struct, frozen=True):
    """The live state of one device: its newest reading by measuring time, and whether it is connected."""

    device_id: str
    factory_id: int
    stack_id: int
    online: bool
    measured_at: datetime | None = None
    received_at: datetime | None = None
    co2_ppm: float | None = None
    temperature_c: float | None = None
    velocity_ms: float | None = None
    flow_rate_m3s: float | None = None
    co2_kg_per_s: float | None = None
    flags: int = 0


def snapshot_of(site: Site, reading: Reading, online: bool) -> Snapshot:
    """The live state of a device whose newest reading this is."""
    return Snapshot(
        site.device.device_id,
        site.factory.id,
        site.stack.id,
        online,
        reading.measured_at,
        reading.received_at,
        reading.co2_ppm,
        reading.temperature_c,
        reading.velocity_ms,
        reading.flow_rate_m3s,
        reading.co2_kg_per_s,
        reading.flags,
    )


@dataclass(frozen=True, slots=True)
class Flood:
    """A device that sends more than it may."""

    device_id: str
    since_ms: int
    messages_per_s: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """An outage whose readings came later, from the device's store."""

    device_id: str
    factory_id: int
    stack_id: int
    since: datetime
    until: datetime
    readings: int
    recovered_at: datetime


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A payload or row that could not be used, kept with its cause, and what people did about it.

    What comes again and again is kept once: ``received_at`` is the first time, ``last_received_at`` the last.
    """

    device_id: str
    cause: str
    detail: str
    received_at: datetime
    body: bytes
    id: int = 0
    factory_id: int | None = None
    times: int = 1
    last_received_at: datetime | None = None
    replayed_at: datetime | None = None
    replayed_by: str | None = None
    replay_outcome: str | None = None
    """What became of its records then, in words."""
    dismissed_at: datetime | None = None
    dismissed_by: str | None = None
    dismiss_reason: str | None = None


MOST_CAUSES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of messages whose sender waited for their commit: how many records ended how.

    ``receipts`` is what a device may rely on: stream id -> the number up to which everything is kept.
    """

    stored: int = 0
    duplicate: int = 0
    quarantined: int = 0
    refused: int = 0
    """Not taken (the stream has too many holes, or the device too many streams): they have to be sent again."""
    receipts: Mapping[str, int] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    """Why something went to quarantine, each reason once, the first few."""

    def __add__(self, later: Outcome) -> Outcome:
        return Outcome(
            self.stored + later.stored,
            self.duplicate + later.duplicate,
            self.quarantined + later.quarantined,
            self.refused + later.refused,
            {**self.receipts, **later.receipts},
            tuple(dict.fromkeys((*self.causes, *later.causes)))[:MOST_CAUSES],
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """A device that sends and is not registered, with its last birth, for when it is."""

    device_id: str
    first_seen_ms: int
    messages: int
    birth: Payload | None


# --- what pages and reports show --------------------------------------------------------------------------------


class TrendPoint(msgspec.Struct, frozen=True, gc=False):
    """One bucket of a tier: ``coverage`` is the share of the bucket (0 to 1) in which the rate is known."""

    stack_id: int
    start: datetime
    count: int
    coverage: float
    co2_kg: float
    mean_kg_per_s: float | None
    min_kg_per_s: float | None
    max_kg_per_s: float | None


@dataclass(frozen=True, slots=True)
class StackTotal:
    """Measured stack CO2 of one stack over a period; ``coverage`` is the share of the period that was measured."""

    stack_id: int
    co2_kg: float
    coverage: float
    readings: int


SEVERITIES = ("info", "warning", "critical")
"""How bad an alert is; the worst last."""


class AlertState(StrEnum):
    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one rule stands for one device or factory.

    ``since`` is when the breach began, ``seen_at`` when it was last seen to hold; ``well_since`` is when, of one that
    fires, the breach was over.
    """

    state: AlertState = AlertState.INACTIVE
    since: datetime | None = None
    seen_at: datetime | None = None
    well_since: datetime | None = None


INACTIVE = Standing()


@dataclass(frozen=True, slots=True)
class AlertBound:
    """Between what headquarters lets factories choose a number of an alert; ``rule`` is the alert's name."""

    rule: str
    option: str
    low: float
    high: float
    set_by: str = ""
    set_at: datetime = MIN_DATETIME


@dataclass(frozen=True, slots=True)
class AlertAdjustment:
    """What a factory has chosen for a number of an alert; ``rule`` is the alert's name."""

    factory_id: int
    rule: str
    option: str
    value: float
    set_by: str = ""
    set_at: datetime = MIN_DATETIME


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Every bound and every adjustment there is."""

    bounds: tuple[AlertBound, ...] = ()
    adjustments: tuple[AlertAdjustment, ...] = ()

    def bound(self, rule: str, option: str) -> AlertBound | None:
        """The bound of a number; None where factories choose nothing."""
        return next((it for it in self.bounds if (it.rule, it.option) == (rule, option)), None)

    def choices(self, rule: str, option: str) -> tuple[AlertAdjustment, ...]:
        """What factories have chosen for one number of an alert."""
        return tuple(it for it in self.adjustments if (it.rule, it.option) == (rule, option))

    def adjustments_of(self, factory_id: int, rule: str) -> tuple[AlertAdjustment, ...]:
        """What a factory has chosen for an alert."""
        return tuple(it for it in self.adjustments if (it.factory_id, it.rule) == (factory_id, rule))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: in words, and, where it compares, the value, the limit and their unit."""

    message: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fires, or fired, for one device or one factory; ``cleared_at`` is None while it fires.

    ``device_id`` and ``stack_id`` are None for the alert of a factory as a whole. Where ``factory_id`` is None, too, it
    is one of the whole network, which stands for all those that are ``part_of`` it.
    """

    id: int
    device_id: str | None
    factory_id: int | None
    stack_id: int | None
    rule: str
    severity: str
    message: str
    raised_at: datetime
    cleared_at: datetime | None = None
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    is_late: bool = False
    """It would have fired: found in readings that came late, when nobody could act any more. Nobody was told."""
    part_of: int | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledge_comment: str = ""
    shelved_until: datetime | None = None
    """Nobody is told of it before."""
    shelved_by: str = ""
    shelve_comment: str = ""
    last_told_at: datetime | None = None
    escalation: int = 0
    """How far down the duty list people were told of it."""

    def is_shelved(self, now: datetime) -> bool:
        """Whether somebody has put it aside for a time that is not over."""
        return self.shelved_until is not None and now < self.shelved_until


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """What somebody is told of alerts, or was, by one channel: a notification's name in the configuration.

    ``recipient`` is None where the channel tells once for all. ``state`` is ``waiting``, ``sent`` or ``failed``.
    """

    id: int
    channel: str
    recipient: User | None
    content: str
    """The notification, as JSON."""
    state: str
    attempts: int
    next_attempt_at: datetime
    last_error: str
    created_at: datetime
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a report format renders: a factory, a period and its readings, oldest first."""

    factory: Factory
    stacks: tuple[Stack, ...]
    period_start: datetime
    period_end: datetime
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """How much is kept, and how much room there is."""

    oldest_raw: date | None
    """The oldest day with raw readings in the database."""
    raw_days: int
    raw_bytes: int
    """Of raw readings and device records, with their indexes."""
    database_bytes: int
    bytes_per_day: float
    """Of raw data, by the newest whole days; 0 where there is no whole day yet."""
    archived_days: int
    archive_bytes: int
    archived_until: date | None
    """The newest day that is in the archive."""


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """How much is kept, for how long there is room, and what is wrong about it."""

    kept: Storage
    keep_days: int
    """How many days of raw readings the database is to keep."""
    archives: bool
    """Whether older days go into an archive; without one they all stay in the database."""
    free_bytes: int | None
    """Room on the volume that is watched; None where none is."""
    days_until_full: float | None
    """None where the room is not known, or where no more is taken than given back."""
    is_tight: bool
    """Less room than the reserve: all is held back that is not a reading."""
    problem: str = ""
    """Why a day could not be archived, or the like; empty when all is well."""
