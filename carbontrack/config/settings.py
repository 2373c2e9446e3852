"""Every setting: its name, its type, its default and its meaning.

The text below a field is its description: ``docs/configuration.md`` repeats it, and a test compares the two. What a
value may be is said once, by its type; :mod:`~carbontrack.config.reference` puts that into words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from carbontrack.config.fields import (
    BoolOrAuto,
    DatabaseUrl,
    DeviceKey,
    FilePath,
    Host,
    HoursOfDay,
    Name,
    Names,
    Networks,
    Options,
    Place,
    PublicUrl,
    RedisUrl,
    Sender,
    StackNames,
    TimeZone,
    Words,
    place_of,
    without_password,
)


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; nothing shows a password."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # the input may be a password in the wrong place
        use_attribute_docstrings=True,
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, without_password(value) if isinstance(value, str) else value


class Database(Section):
    url: DatabaseUrl = Field("sqlite://carbontrack.sqlite3", validate_default=True)
    """Where everything is kept. SQLite serves a demo or one factory, PostgreSQL a fleet."""
    commit_linger_ms: float = Field(4.0, ge=0, le=1000)
    """How long an open batch of readings waits for more before it is committed."""
    max_batch_readings: int = Field(5000, ge=1, le=100_000)
    """The most readings in one transaction."""


class MqttTls(Section):
    ca_file: FilePath | None = None
    """The certificate authority that signed the broker's certificate; without it the system's authorities count."""
    cert_file: FilePath | None = None
    """Our own certificate, for a broker that asks clients for one."""
    key_file: FilePath | None = None
    """The key of `cert_file`, where it is a file of its own."""
    check_hostname: bool = True
    """Whether the broker's certificate must name the host that we connect to."""

    @model_validator(mode="after")
    def _key_with_its_certificate(self) -> MqttTls:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        return self


class Mqtt(Section):
    host: Host = "127.0.0.1"
    """The broker's host."""
    tls: MqttTls | None = None
    """How to encrypt the connection, which is plain without it. `tls: {}` is enough where a public authority signed."""
    port: int = Field(default_factory=lambda known: 8883 if known.get("tls") else 1883, ge=1, le=65535)
    """The broker's port. With `mqtt.tls` the default is 8883."""
    username: Name | None = None
    """The name that the core signs in with at the broker."""
    password: SecretStr | None = None
    """The password of `mqtt.username`."""
    client_id: Name = "carbontrack-core"
    """Names the core's session at the broker, which queues readings for it while it is away. One per running core."""
    keepalive_s: int = Field(30, ge=5, le=65535)
    """How long the connection may be silent before either side asks whether the other is there."""
    receipt_interval_s: float = Field(1.0, ge=0, le=60)
    """The shortest time between two receipts to one device."""
    receipts_per_s: int = Field(1000, ge=1)
    """The most receipts a second, for the whole fleet."""
    credit: float = Field(5.0, gt=0, le=1000)
    """The most messages a second of its backlog that a device may send."""
    backlog_per_s: float = Field(200.0, gt=0, le=100_000)
    """The most backlog messages a second of all devices, shared out in the receipts; less while commits lag behind."""
    max_payload_bytes: int = Field(262_144, ge=1024, le=268_435_455)
    """Larger messages are refused and counted."""
    device_key: DeviceKey | None = None
    """What the devices' passwords at the broker are worked out from. Whoever has it can sign in as any device."""
    bridges: dict[Name, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """
    Factories with a core and a broker of their own, by their names in addresses: an account at this broker speaks for
    the devices of each, which have none of their own. Another number is another password: `{kangaita: 1}`.
    """
    keep_accounts: bool = True
    """Whether the core keeps the devices' accounts at the broker, where there is a `device_key`: for mosquitto with its
    dynamic security plugin. Other brokers are told by `carbontrack device passwords`."""

    @model_validator(mode="after")
    def _password_of_somebody(self) -> Mqtt:
        if self.password and not self.username:
            raise ValueError("password needs username")
        return self


class Relay(Section):
    enabled: bool = False
    """Whether this site hands on to headquarters what its devices measure, by a bridge."""
    host: Host = "127.0.0.1"
    """The broker of the bridge, a mosquitto of its own. It is spoken to without TLS, so it is on the same machine."""
    port: int = Field(1884, ge=1, le=65535)
    """Its port."""
    username: Name = "relay"
    """The name that the core signs in with there."""
    password: SecretStr | None = None
    """The password of `relay.username`, as the files of the bridge have it."""

    @model_validator(mode="after")
    def _with_its_password(self) -> Relay:
        if self.enabled and not self.password:
            raise ValueError("a relay needs password, which `carbontrack broker bridge` gives at headquarters")
        return self


class HttpTls(Section):
    cert_file: FilePath
    """The certificate that browsers are shown, in PEM, with those after it that lead to its authority."""
    key_file: FilePath
    """The key of `cert_file`, in PEM, without a password."""


class Http(Section):
    host: Host = "127.0.0.1"
    """The address to listen on; `0.0.0.0` is every IPv4 address of the machine."""
    port: int = Field(8080, ge=0, le=65535)
    """The port to listen on; 0 takes any that is free."""
    tls: HttpTls | None = None
    """With it the core itself serves https and no http. `carbontrack reload` takes renewed files."""
    trusted_proxies: Networks = ()
    """Reverse proxies whose `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` are believed."""
    public_url: PublicUrl | None = None
    """The address that people reach the portal by, for links in mails; without it mails have no links."""
    core_url: PublicUrl | None = None
    """Where web processes (`carbontrack web`) reach the core; without it at the address that it listens on."""
    hsts_s: int = Field(31_536_000, ge=0)
    """For how long a browser that came by https is to come by https only (`Strict-Transport-Security`); 0 says nothing.
    """
    secret_key: SecretStr | None = Field(None, min_length=1)
    """Reserved for signing what others keep for us, such as links for downloads; nothing uses it yet. Sessions, tokens
    and codes are random and need no key."""
    session_hours: int = Field(12, ge=1, le=8760)
    """How long a sign-in lasts."""
    secure_cookies: BoolOrAuto = "auto"
    """Whether cookies are for https only; `auto` means: when the request came by https."""
    metrics_token: SecretStr | None = Field(None, min_length=1)
    """When set, `/metrics` needs it as a bearer token."""


_MAIL_PORTS = {"none": 25, "starttls": 587, "tls": 465}


class Mail(Section):
    host: Host | None = None
    """The SMTP server that mail goes out by; without it none is sent."""
    tls: Literal["none", "starttls", "tls"] = "starttls"
    """How the connection is encrypted: `starttls` and nothing is sent without it, `tls` from the first byte on, `none`.
    """
    port: int = Field(default_factory=lambda known: _MAIL_PORTS.get(known.get("tls", ""), 587), ge=1, le=65535)
    """The server's port. With `tls` the default is 465, with `none` 25."""
    username: Name | None = None
    """The name that the core signs in with at the server."""
    password: SecretStr | None = None
    """The password of `mail.username`."""
    sender: Sender | None = None
    """The address that mail comes from; `mail.host` needs it."""
    ca_file: FilePath | None = None
    """The certificate authority that signed the server's certificate; without it the system's authorities count."""

    @model_validator(mode="after")
    def _whole(self) -> Mail:
        if self.host and not self.sender:
            raise ValueError("host needs sender")
        if bool(self.password) != bool(self.username):
            raise ValueError("username and password need each other")
        if self.password and self.tls == "none":
            raise ValueError("a password needs tls: starttls or tls")
        return self


class Redis(Section):
    url: RedisUrl | None = None
    """Where all processes of a site count attempts at guessing together, and where the core tells web processes
    (`carbontrack web`) what changes just now; without it each counts by itself, and only the core serves pages."""


class Sentry(Section):
    dsn: SecretStr | None = None
    """Where to report errors; without it nothing is. Needs the package `sentry-sdk`."""


class Tracing(Section):
    endpoint: PublicUrl | None = None
    """Where to send traces: the address of a collector that takes OTLP over HTTP; without it nothing is traced. Needs
    the packages `opentelemetry-sdk` and `opentelemetry-exporter-otlp-proto-http`."""
    share: float = Field(1.0, gt=0, le=1)
    """The share of requests and commits that are traced."""


class Devices(Section):
    mailbox_size: int = Field(256, ge=1)
    """How many messages of one device may wait. What does not fit is refused without a receipt and comes again."""
    offline_after_s: float = Field(30.0, gt=0)
    """A device that is silent for so long is offline."""
    park_after_failures: int = Field(8, ge=1)
    """After so many failures in a row a device's actor is parked until an operator revives it."""
    messages_per_s: float = Field(20.0, ge=1)
    """More messages a second of one device are refused without a receipt, after a minute's worth at once."""
    canary_every_s: float = Field(10.0, ge=0)
    """How often a synthetic message is sent through broker, database and live page to measure the way; 0 is never."""
    registry_poll_s: float = Field(5.0, gt=0)
    """How often the registry is asked for new, changed and removed devices."""
    broker_host: Host | None = None
    """The name or address by which devices reach the broker, for what they are handed out; without it `mqtt.host`."""
    broker_port: int | None = Field(None, ge=1, le=65535)
    """The port by which devices reach the broker, with TLS; without it `mqtt.port` if that has TLS, else 8883."""
    broker_ca_file: FilePath | None = None
    """The certificate (PEM) of the authority that signed the broker's, for devices; without it `mqtt.tls.ca_file`."""
    stuck_after_s: float = Field(600.0, gt=0)
    """A CO2 sensor that gives the very same value for so long, while the boiler fires, is marked as stuck."""


class Retention(Section):
    raw_days: int = Field(90, ge=2)
    """For how many days the database keeps single readings before they go into the archive; hours stay for ever."""
    archive_folder: FilePath | None = None
    """Where older days are put as Parquet files. Without it nothing ever leaves the database."""
    watch_disk: FilePath | None = None
    """A folder on the volume that the database writes to, for the days until it is full. SQLite's own is known."""
    backup_folder: FilePath | None = None
    """The folder of `carbontrack backup --to`, for a metric that says how old the newest backup is."""
    reserve_mb: int = Field(1024, ge=0)
    """With less room than this (in MB) on that volume, tiers and meters wait and only readings are written."""


class Plugins(Section):
    enabled: Names | None = None
    """The plugins to load, by name. Without it all load: those that ship with Carbon Track and those installed."""
    disabled: Names = ()
    """Plugins that are not to load, even if `enabled` names them."""
    folder: FilePath | None = None
    """A folder whose Python modules are plugins too."""
    options: dict[str, Options] = Field(default_factory=dict)
    """The options of each plugin, by its name; the plugin checks them. Alert rules have theirs in `alerts`."""
    report_timeout_s: float = Field(60.0, gt=0, le=3600)
    """A report format that takes longer is ended."""
    report_memory_mb: int = Field(1024, ge=128)
    """The most memory that a report format may take."""


class AlertEntry(Section):
    name: Name
    """The name of this alert; no two have the same."""
    rule: Name
    """The family of rules that decides, as a plugin names it."""
    title: str = Field("", max_length=80)
    """What people read, such as `Boiler 1 runs too hot`; empty: the rule's own title, in each person's language."""
    enabled: bool = True
    """Whether it watches. One that does not can still be tried against stored readings."""
    factories: Names = ()
    """Only these factories are watched, by their names in addresses; empty: all."""
    stacks: StackNames = ()
    """Only these stacks are watched; empty: all. A device must be in each of the three lists that is not empty."""
    devices: Names = ()
    """Only these devices are watched, by their device ids; empty: all."""
    hours: HoursOfDay | None = None
    """
    The hours of the day, in the site's time zone, in which an alert may begin. Outside of them the rule is not asked
    and what is pending ends; an alert that fires is asked on until it clears.
    """
    severity: Literal["info", "warning", "critical"] = "warning"
    """How bad it is."""
    hold_s: float = Field(60.0, ge=0)
    """How long a breach must last before the alert is raised."""
    clear_after_s: float = Field(60.0, ge=0)
    """How long all must be well before the alert is cleared."""
    options: Options = Field(default_factory=dict)
    """The rule's own options, which the rule checks; see its page."""


class NotificationEntry(Section):
    name: Name
    """The name of this notification; no two have the same."""
    notifier: Name
    """The notifier that tells, as a plugin names it."""
    min_severity: Literal["info", "warning", "critical"] = "warning"
    """Alerts that are less severe are left out."""
    options: Options = Field(default_factory=dict)
    """The notifier's own options, which the notifier checks; see its page."""


class Alerting(Section):
    fold_s: float = Field(60.0, ge=0, le=3600)
    """How long an alert waits for others before people are told, and how often one person is told anything at most."""
    critical_fold_s: float = Field(5.0, ge=0, le=3600)
    """The same of critical alerts."""
    network_from: int = Field(10, ge=2)
    """An alert of so many devices of several factories, within `fold_s`, is one of the whole network, for headquarters.
    """
    repeat_every_min: float = Field(60.0, ge=0, le=10_080)
    """How often people are reminded of an alert that goes on and that nobody has acknowledged; 0 is never."""
    escalate_after_min: float = Field(30.0, ge=0, le=10_080)
    """After so long without an acknowledgement the next person of the duty list is told; 0 is never."""
    quiet_hours: HoursOfDay | None = None
    """From when to when people are left alone, by `site.time_zone`: `21:00-06:00`. What comes meanwhile is told after
    that, in one message."""
    quiet_severities: Annotated[
        tuple[Literal["info", "warning", "critical"], ...],
        Field(strict=False),
        Words("a list of info, warning and critical"),
    ] = ("info", "warning")
    """Alerts of these severities wait for the end of the quiet hours; all others never do."""


class ReportSchedule(Section):
    name: Annotated[str, Field(min_length=1, max_length=60)]
    """The name of this schedule; what it makes is known by it, so it stays."""
    every: Literal["month", "quarter", "year"] = "month"
    """How long each period is."""
    on_day: int = Field(3, ge=1, le=28)
    """The day of the month after a period on which its report is made, by `site.time_zone`."""
    at_hour: int = Field(6, ge=0, le=23)
    """From which hour of that day on."""
    of: Literal["each", "together"] = "each"
    """One report for each factory, or one of all of them."""
    region: str = ""
    """The factories of this region alone."""
    to: Annotated[tuple[str, ...], Field(strict=False), Words("a list of mail addresses")] = ()
    """Who is told by mail."""


Named = TypeVar("Named", AlertEntry, NotificationEntry, ReportSchedule)


def _named_once(entries: tuple[Named, ...]) -> tuple[Named, ...]:
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"entries {names.index(name)} and {index} have the same name; each needs its own")
    return entries


class Reports(Section):
    signing_key_file: FilePath = Field(Path("carbontrack-signing-key.pem"), validate_default=True)
    """The private key (Ed25519, PEM) that reports are signed with; it is made when it is first needed. Keep it in your
    backups, for its owner alone."""
    schedules: Annotated[tuple[ReportSchedule, ...], Field(strict=False), AfterValidator(_named_once)] = ()
    """Which reports are made by themselves."""


class Firmware(Section):
    public_key_file: FilePath | None = None
    """The public key (ECDSA P-256, PEM) of whoever signs firmware. Images that it did not sign are refused, and without
    it all are."""
    base_url: PublicUrl | None = None
    """The address by which devices download firmware; without it `http.public_url`."""
    downloads_at_once: int = Field(20, ge=1, le=1000)
    """How many devices may download at the same time."""
    out_of_reach_h: float = Field(24.0, gt=0, le=8760)
    """A roll-out waits no longer for a device that is away; it still gets the image if it comes back in time."""


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Less important messages are left out."""
    format: Literal["auto", "console", "json"] = "auto"
    """For people or for machines; `auto` means: for people when the output is a terminal."""


class Accounting(Section):
    factors_file: FilePath | None = None
    """
    A YAML file with emission factors of your own, in the form of the one that Carbon Track ships
    (`carbontrack/data/factors.yaml`). A name that your file gives is yours alone; all others stay.
    """
    corroboration_low: float = Field(0.85, gt=0, lt=1)
    """Measured over fuel-based CO2 of a month: below this somebody must look."""
    corroboration_high: float = Field(1.15, gt=1)
    """The same, above this."""


class Site(Section):
    time_zone: TimeZone = "Africa/Nairobi"
    """The time zone in which days begin and pages show times."""


CO2_RATE_HIGH = AlertEntry(
    name="co2-rate-high",
    rule="limit",
    options={"quantity": "co2_kg_per_s", "raise_above": 0.6, "clear_below": 0.55},
)


DEVICE_SILENT = AlertEntry(name="device-silent", rule="silence", hold_s=0, options={"after_s": 900})
SENSOR_FAULT = AlertEntry(name="sensor-fault", rule="sensor-fault", hold_s=300, clear_after_s=300)
CO2_OVER_RANGE = AlertEntry(name="co2-over-range", rule="over-range", hold_s=120, clear_after_s=900)
CO2_STUCK = AlertEntry(name="co2-stuck", rule="stuck", hold_s=0, options={"quantity": "co2_ppm", "for_s": 600})
VELOCITY_STUCK = AlertEntry(
    name="velocity-stuck", rule="stuck", hold_s=0, options={"quantity": "velocity_ms", "for_s": 600}
)
IMPLAUSIBLE = AlertEntry(name="implausible", rule="implausible", hold_s=300, clear_after_s=300)
CORROBORATION_OFF = AlertEntry(
    name="corroboration-off", rule="corroboration", hold_s=0, options={"low": 0.85, "high": 1.15}
)
ENTRIES_MISSING = AlertEntry(
    name="entries-missing",
    rule="missing-entries",
    severity="info",
    hold_s=0,
    options={"energy_after_days": 7, "tea_after_days": 7},
)
DEFAULT_ALERTS = (
    CO2_RATE_HIGH,
    DEVICE_SILENT,
    SENSOR_FAULT,
    CO2_OVER_RANGE,
    CO2_STUCK,
    VELOCITY_STUCK,
    IMPLAUSIBLE,
    CORROBORATION_OFF,
    ENTRIES_MISSING,
)


DEFAULT_NOTIFICATIONS = (NotificationEntry(name="portal", notifier="portal", min_severity="info"),)


class _Places(dict[tuple[str | int, ...], Place]):
    """Where each value came from. Two configurations are the same whatever files they are from."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Places)

    __hash__ = None  # as a dict


class Config(Section):
    """The whole configuration."""

    _places: _Places = PrivateAttr(default_factory=_Places)

    database: Database = Field(default_factory=Database)
    """The database."""
    mqtt: Mqtt = Field(default_factory=Mqtt)
    """The connection to the MQTT broker."""
    http: Http = Field(default_factory=Http)
    """The portals, the HTTP API, health and metrics."""
    relay: Relay = Field(default_factory=Relay)
    """Towards headquarters, where this is a site of its own."""
    mail: Mail = Field(default_factory=Mail)
    """How mail goes out."""
    redis: Redis = Field(default_factory=Redis)
    """What several web processes of one site share."""
    sentry: Sentry = Field(default_factory=Sentry)
    """Reports of errors."""
    tracing: Tracing = Field(default_factory=Tracing)
    """Traces of requests and commits."""
    devices: Devices = Field(default_factory=Devices)
    """How the core treats devices."""
    firmware: Firmware = Field(default_factory=Firmware)
    """Firmware for devices, and how it comes to them."""
    retention: Retention = Field(default_factory=Retention)
    """What is kept, and how long."""
    plugins: Plugins = Field(default_factory=Plugins)
    """Which plugins load, and their options."""
    alerts: Annotated[tuple[AlertEntry, ...], Field(strict=False), AfterValidator(_named_once)] = DEFAULT_ALERTS
    """The alerts that watch each device and each factory. A list of one's own replaces the default; `[]` means none."""
    notifications: Annotated[tuple[NotificationEntry, ...], Field(strict=False), AfterValidator(_named_once)] = (
        DEFAULT_NOTIFICATIONS
    )
    """By which ways people are told of alerts. A list of one's own replaces the default; `[]` means none."""
    alerting: Alerting = Field(default_factory=Alerting)
    """When people are told of alerts, and how often."""
    accounting: Accounting = Field(default_factory=Accounting)
    """How accounts are made out of measurements and entries."""
    reports: Reports = Field(default_factory=Reports)
    """How reports are made."""
    logging: Logging = Field(default_factory=Logging)
    """What the core writes to its log."""
    site: Site = Field(default_factory=Site)
    """Where all this is."""

    def remember(self, places: Mapping[tuple[str | int, ...], Place]) -> None:
        """Note where each value came from."""
        self._places.update(places)

    def place(self, key: tuple[str | int, ...]) -> Place:
        """Where a value, or else the nearest mapping around it, came from."""
        return place_of(key, self._places)
