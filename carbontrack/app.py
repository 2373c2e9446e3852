"""The composition root: the core as nested lifetimes, in the order in which it starts and the reverse of its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import structlog
from aiohttp import Fingerprint, web

from carbontrack import ingest as mqtt
from carbontrack.alert_trial import LateAlerts
from carbontrack.bookkeeping import Books, shipped_factors
from carbontrack.broker_accounts import BrokerAccounts
from carbontrack.canary import Canary, CanaryActor, Trust
from carbontrack.compliance import ComplianceReport
from carbontrack.config import Config, Http
from carbontrack.configured import all_instances, notifier_instances, policy_of, watching
from carbontrack.device import Hearing
from carbontrack.device import Services as DeviceServices
from carbontrack.device_desk import DeviceDesk, tidy_commands
from carbontrack.factory_watch import FactoryWatch
from carbontrack.fence import Watch
from carbontrack.firmware import public_key_at
from carbontrack.fleet import Fleet
from carbontrack.handout import Handouts
from carbontrack.health import Birth
from carbontrack.hookspecs import Outbound
from carbontrack.ingest import BrokerSettings, Ingest, Receipts
from carbontrack.live import Live
from carbontrack.mail import Mailer, mailer
from carbontrack.meters import MeterKeeper
from carbontrack.metrics import Metrics
from carbontrack.model import Origin
from carbontrack.notify import Notices, nobody
from carbontrack.outbound import Alarms, Ways
from carbontrack.overload import Drain
from carbontrack.plugins import Limits, PluginHost
from carbontrack.redact import redactor_of
from carbontrack.relay_desk import Relay
from carbontrack.reloading import Reloader, note_reload
from carbontrack.report_desk import ReportDesk
from carbontrack.report_schedule import ReportSchedules
from carbontrack.rollouts import Limits as RolloutLimits
from carbontrack.rollouts import RolloutDesk
from carbontrack.rule_book import RuleBook
from carbontrack.seal import key_at
from carbontrack.sentry import errors_reported, sentry_problems
from carbontrack.shared import CoreStatus, RedisShelf, Teller, opened_redis
from carbontrack.store import SchemaMismatch, Store, StoreUnavailable, open_store
from carbontrack.tasks import end, first_of
from carbontrack.tiers import Summariser
from carbontrack.tls import ServerCertificate
from carbontrack.tracing import TracedBackend, Tracer, traced, tracing_problems
from carbontrack.upkeep import Upkeep
from carbontrack.web import CoreDoor, CoreParts, DemoAccount, FleetView, check_pages, create_app
from carbontrack.web import Services as WebServices
from carbontrack.web.attempts import Attempts, counted_attempts

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

COMMIT_PATIENCE_S = 15.0
"""Readings that wait this long for a commit make the core not ready."""
SUMMARISE_EVERY_S = 10.0
METERS_EVERY_S = 60.0
LOOK_EVERY_S = 60.0
ADJUST_EVERY_S = 1.0
TIDY_EVERY_S = 3600.0
LAG_PROBE_S = 0.5
TELL_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Core:
    """The running parts, for whoever started them."""

    config: Config
    store: Store
    fleet: Fleet
    live: Live
    metrics: Metrics
    ingest: Ingest
    plugins: PluginHost
    reloader: Reloader
    books: Books
    desk: ReportDesk
    rules: RuleBook
    upkeep: Upkeep
    canary: Canary
    accounts: BrokerAccounts | None
    mailer: Mailer | None
    notices: Notices
    device_desk: DeviceDesk
    rollouts: RolloutDesk
    outdated: asyncio.Event
    """Set when the database has another schema than this version works with: it was migrated while the core ran."""
    relay: Relay | None

    def not_ready(self) -> list[str]:
        """Why the core is not ready to take readings; empty when it is."""
        reasons = []
        if not self.ingest.connected:
            reasons.append("There is no connection to the MQTT broker.")
        if self.store.commits.is_full:
            reasons.append("The database's disk is full. The devices keep what they measure until there is room.")
        waiting_since = self.fleet.waiting_since()
        if waiting_since is not None and time.monotonic() - waiting_since > COMMIT_PATIENCE_S:
            waited_s = time.monotonic() - waiting_since
            reasons.append(f"Readings arrive, but nothing was committed for {waited_s:.0f} s. Is the database there?")
        return reasons

    def problems(self) -> list[str]:
        """All that is wrong with the platform itself, for those who run it."""
        # The canary finds what nothing else tells of; where the cause is known it says nothing more.
        accounts = self.accounts.problem if self.accounts else ""
        found = self.not_ready() or [text for text in (self.canary.problem, accounts) if text]
        if self.mailer and self.mailer.problem:
            found.append(self.mailer.problem)
        return [
            *found,
            *(self.relay.problems() if self.relay else ()),
            *self.notices.problems(),
            *self.plugins.problems(),
            *self.reloader.left_out,
            *self.rules.problems,
            *self.rollouts.problems(),
        ]


Diagnose = Callable[[Core], Awaitable[bytes]]
"""Makes the bundle of diagnostics of a running core (:mod:`carbontrack.diagnostics`)."""


@asynccontextmanager
async def run_core(config: Config, read: Callable[[], Config] | None = None) -> AsyncIterator[Core]:
    """The core without its web part: store, plugins, fleet, ingest, and the tasks that keep them in order.

    ``read`` reads the configuration anew, for a reload.
    """
    metrics, ways = Metrics(), Ways()
    database = config.database
    async with (
        open_store(
            database.url,
            metrics,
            linger_s=database.commit_linger_ms / 1000,
            max_batch_readings=database.max_batch_readings,
            archive_folder=config.retention.archive_folder,
        ) as store,
        running_plugins(config, metrics, outbound=ways) as plugins,
        mailer(config, metrics) as mail,
    ):
        notices = Notices(store, metrics, policy_of(config), public_url=config.http.public_url or "")
        settings = broker_settings(config)
        drain = Drain(config.mqtt.credit, config.mqtt.backlog_per_s)
        receipts = Receipts(settings, metrics, drain)
        live = Live()
        hearing = Hearing(blind_s=2.0 * settings.keepalive_s)
        devices = config.devices
        late = LateAlerts(store)
        device_desk, rollouts = DeviceDesk(store, metrics), rollouts_of(config, store, metrics)

        def born(device_id: str, birth: Birth) -> None:
            device_desk.born(device_id, birth)
            rollouts.born(device_id, birth)
            alarms.born(device_id)

        services = DeviceServices(
            store=store,
            live=live,
            metrics=metrics,
            receipt=receipts.due,
            mailbox_size=devices.mailbox_size,
            offline_after_s=devices.offline_after_s,
            park_after_failures=devices.park_after_failures,
            stuck_after_s=devices.stuck_after_s,
            messages_per_s=devices.messages_per_s,
            drain=drain,
            hearing=hearing,
            alert_changed=notices.alert_changed,
            late=late.note,
            born=born,
            answered=device_desk.answered,
        )
        fleet = Fleet(services, plugins.contributions.sensors)
        books = books_of(config, store)
        desk = desk_of(config, books, plugins)
        watch = FactoryWatch(store, books, metrics, notices.alert_changed)
        late.rules_for = fleet.rules_for
        rules = RuleBook(store, (fleet.adjust, watch.adjust))
        await rules.renew()
        reloader = Reloader(config, plugins, metrics, read)
        reloader.also.append(lambda: rules.problems)
        reloader.keep_following(lambda current: follow_plugins(current, plugins, fleet, watch, notices, rules))
        await fleet.sync(await store.sites())
        ingest = Ingest(settings, fleet, receipts, metrics, hearing)
        alarms = Alarms(ingest.command)
        _open_ways(ways, mail, live, alarms)
        _connect_desks(ingest, fleet, device_desk, rollouts)
        zone = ZoneInfo(config.site.time_zone)
        summariser = Summariser(store, zone)
        upkeep = upkeep_of(config, store, metrics)
        canary = Canary(settings, metrics, devices.canary_every_s)
        fleet.canary = CanaryActor(services, canary)
        fleet.canary.start()
        accounts = accounts_of(config, settings, store, metrics)
        core = Core(
            config,
            store,
            fleet,
            live,
            metrics,
            ingest,
            plugins,
            reloader,
            books,
            desk,
            rules,
            upkeep,
            canary,
            accounts,
            mail,
            notices,
            device_desk,
            rollouts,
            asyncio.Event(),
            relay_of(config, store, metrics, fleet),
        )
        try:
            async with kept_running(
                ingest=ingest.consume,
                registry=lambda: _follow_registry(store, fleet, rules, reloader, devices.registry_poll_s),
                upkeep=lambda: _tidy(upkeep, store),
                looks=lambda: _look(upkeep),
                tiers=lambda: _summarise(summariser, metrics, upkeep),
                factories=watch.keep,
                late=late.keep,
                notices=notices.keep,
                orders=device_desk.keep,
                alarms=alarms.keep,
                rollouts=rollouts.keep,
                meters=lambda: _keep_meters(MeterKeeper(store, zone), upkeep),
                reports=schedules_of(config, desk, mail, metrics).keep,
                lag=lambda: _measure_lag(metrics, plugins.watch),
                schema=lambda: watch_schema(store, core.outdated, devices.registry_poll_s),
                drain=lambda: _adjust(drain, fleet),
                **({"accounts": accounts.keep} if accounts else {}),
                **({"relay": core.relay.keep} if core.relay else {}),
            ):
                yield core
        finally:
            await desk.close()
            await books.close()
            await fleet.canary.stop()
            await fleet.close()


async def serve(config: Config, read: Callable[[], Config], diagnose: Diagnose | None = None) -> None:
    """Run core and web until SIGINT or SIGTERM. SIGHUP has it read the configuration anew, by ``read``.

    Raises :class:`~carbontrack.store.SchemaMismatch` when a newer version has migrated the database: what this one
    would go on to write was meant for another schema. The devices keep what they measure until the newer one runs.
    """
    async with (
        stop_signal() as stop,
        run_core(config, read) as core,
        watched(config, core.store) as tracer,
        run_web(core, diagnose=diagnose, tracer=tracer) as url,
        reload_signal(core),
    ):
        log.info("serving", url=url, devices=len(core.fleet.states()))
        await first_of(stop.wait(), core.outdated.wait())
        log.info("stopping")
        if core.outdated.is_set():
            await core.store.check_schema()


@asynccontextmanager
async def watched(config: Config, store: Store) -> AsyncIterator[Tracer | None]:
    """Errors go to Sentry and commits are traced, where that is wanted; what requests are traced with.

    What Sentry is told has nothing of what the registry knows of people by now.
    """
    for problem in (*sentry_problems(config), *tracing_problems(config)):
        log.error(problem)
    known = (await store.users(), await store.sites()) if config.sentry.dsn else ()
    with errors_reported(config, redactor_of(config, *known)), traced(config) as tracer:
        if tracer is not None:
            store.commits.wrap(lambda backend: TracedBackend(backend, tracer))
        yield tracer


@asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT (Ctrl-C) and SIGTERM set, until the block ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def reload_signal(core: Core) -> AsyncIterator[None]:
    """SIGHUP has the configuration read anew, until the block ends."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    async def read_anew() -> None:
        await note_reload(core.store, Origin("SIGHUP"), await core.reloader.reload("SIGHUP"))

    def reload() -> None:
        task = asyncio.create_task(read_anew(), name="core:reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        await end(*reloads)


def _open_ways(ways: Ways, mail: Mailer | None, live: Live, alarms: Alarms) -> None:
    """What notifiers send by, from now on."""
    ways.by_mail = mail.deliver if mail else None
    ways.by_page, ways.by_command = live.publish_alert, alarms.command


def _connect_desks(ingest: Ingest, fleet: Fleet, device_desk: DeviceDesk, rollouts: RolloutDesk) -> None:
    """Let the desks speak to devices, and hear what is theirs."""
    device_desk.send, device_desk.is_online = ingest.send, fleet.is_online
    rollouts.send, rollouts.fleet, device_desk.of_firmware = ingest.send, fleet, rollouts.answered


@asynccontextmanager
async def running_plugins(
    config: Config, metrics: Metrics, watch: Watch | None = None, outbound: Outbound | None = None
) -> AsyncIterator[PluginHost]:
    """The plugins of the configuration, loaded and set up; ``outbound`` is what notifiers are given."""
    host = PluginHost(metrics, watch, check_pages=check_pages, outbound=outbound)
    with host.watch.on():
        try:
            await host.apply(config)
            yield host
        finally:
            await host.close()


@asynccontextmanager
async def run_web(
    core: Core,
    demo_accounts: Sequence[DemoAccount] = (),
    diagnose: Diagnose | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[str]:
    """The portals, the API and the metrics of a core; the address that they are at.

    ``diagnose`` makes the bundle of diagnostics that operators download.
    """
    http = core.config.http
    certificate = certificate_of(core) if http.tls else None

    def own_certificate() -> Trust:
        return Fingerprint(certificate.fingerprint) if certificate else True

    redis_url, token = core.config.redis.url, secrets.token_urlsafe(32)
    async with (
        counted_attempts(core.metrics, redis_url) as attempts,
        opened_redis(redis_url) if redis_url else contextlib.nullcontext() as redis,
    ):
        services = web_services(core, attempts, demo_accounts, certificate, diagnose, tracer)
        if redis:
            services = replace(services, shelf=RedisShelf(redis), door=lambda: CoreDoor("", token))
        async with served(services, http, certificate) as url:
            jobs: dict[str, Callable[[], Awaitable[None]]] = {}
            if core.config.devices.canary_every_s:
                jobs["canary"] = lambda: core.canary.fly(url, own_certificate)
            if redis:
                door = CoreDoor(http.core_url or _reached_at(url), token)
                jobs["redis"] = attempts.keep
                jobs["teller"] = _teller(core, services, door, certificate, redis).keep
            async with kept_running(**jobs):
                yield url


def _reached_at(url: str) -> str:
    """Where a process of this machine reaches what listens here."""
    return url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://:::", "://[::1]:")


def _teller(
    core: Core, services: WebServices, door: CoreDoor, certificate: ServerCertificate | None, redis: Redis
) -> Teller:
    """Who tells the web processes beside the core what changes just now, and how it is doing."""

    def status() -> CoreStatus:
        now = services.clock()
        return CoreStatus(
            at=now,
            url=door.url,
            fingerprint=certificate.fingerprint if certificate else None,  # as it is now: a reload renews it
            door=door.token,
            problems=services.problems(),
            errors=core.fleet.errors(),
            floods=core.fleet.floods(round(now.timestamp() * 1000)),
            strangers=tuple(core.fleet.strangers.values()),
            refused=services.refused(),
            storage=services.storage(),
            reloads=core.reloader.reloads,
        )

    return Teller(redis, core.live, core.fleet.snapshots, status)


@asynccontextmanager
async def served(services: WebServices, http: Http, certificate: ServerCertificate | None) -> AsyncIterator[str]:
    """The web part on its port; its address."""
    runner = web.AppRunner(create_app(services), access_log=None, shutdown_timeout=3)
    await runner.setup()
    try:
        site = web.TCPSite(runner, http.host, http.port, ssl_context=certificate.context if certificate else None)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if certificate else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


# --- from the configuration


def certificate_of(core: Core) -> ServerCertificate:
    """The certificate of the core's own https, which every reload reads anew."""
    assert core.config.http.tls is not None, "asked for only where there is one"
    certificate = ServerCertificate(core.config, core.config.http.tls)
    core.reloader.also.append(certificate.renew)
    core.metrics.certificate_ends.set_function(certificate.end_timestamp_s)
    return certificate


def web_services(
    core: Core,
    attempts: Attempts,
    demo_accounts: Sequence[DemoAccount],
    certificate: ServerCertificate | None,
    diagnose: Diagnose | None,
    tracer: Tracer | None,
) -> WebServices:
    """What the pages and the API of a core use."""
    config = core.config

    def now() -> datetime:
        return datetime.now(UTC)

    def problems() -> list[str]:
        own = certificate.problems(now()) if certificate else ()
        return [*core.problems(), *own, *([attempts.problem] if attempts.problem else [])]

    common = services_of(
        config, core.store, core.books, core.rules, core.fleet, core.live, core.plugins, core.reloader, attempts,
        core.metrics, core.mailer, now,
    )  # fmt: skip
    return replace(
        common,
        core=CoreParts(core.fleet, core.device_desk, core.rollouts, core.desk),
        readiness=core.not_ready,
        handouts=Handouts.of(config),
        registry_changed=core.accounts.look_soon if core.accounts is not None else nobody,
        demo_accounts=demo_accounts,
        storage=lambda: core.upkeep.status,
        problems=problems,
        canary_token=core.canary.token,
        diagnose=partial(diagnose, core) if diagnose else None,
        tracer=tracer,
    )


def services_of(
    config: Config,
    store: Store,
    books: Books,
    rules: RuleBook,
    fleet: FleetView,
    live: Live,
    plugins: PluginHost,
    reloader: Reloader,
    attempts: Attempts,
    metrics: Metrics,
    mailer: Mailer | None,
    clock: Callable[[], datetime],
) -> WebServices:
    """What the pages and the API of every process use; the core, or who stands beside it, adds its own."""
    http, key = config.http, config.mqtt.device_key
    return WebServices(
        store=store,
        books=books,
        rules=rules,
        fleet=fleet,
        core=None,
        live=live,
        plugins=plugins,
        report_limits=Limits.of(config.plugins),
        reloader=reloader,
        attempts=attempts,
        metrics=metrics,
        mailer=mailer,
        clock=clock,
        readiness=tuple,
        refused=metrics.refused,
        firmware_key=partial(public_key_at, config.firmware.public_key_file),
        session_hours=http.session_hours,
        secure_cookies=http.secure_cookies,
        trusted_proxies=tuple(map(ip_network, http.trusted_proxies)),
        hsts_s=http.hsts_s,
        public_url=http.public_url,
        metrics_token=http.metrics_token.get_secret_value() if http.metrics_token else None,
        device_key=key.get_secret_value() if key else None,
        bridged=frozenset(config.mqtt.bridges),
        max_payload_bytes=config.mqtt.max_payload_bytes,
        time_zone=ZoneInfo(config.site.time_zone),
        version=version("carbontrack"),
    )


def broker_settings(config: Config) -> BrokerSettings:
    """The broker as the configuration describes it."""
    mqtt_config = config.mqtt
    tls = mqtt_config.tls
    return BrokerSettings(
        host=mqtt_config.host,
        port=mqtt_config.port,
        username=mqtt_config.username,
        password=mqtt_config.password.get_secret_value() if mqtt_config.password else None,
        tls=mqtt.tls_context(tls.ca_file, tls.cert_file, tls.key_file, check_hostname=tls.check_hostname)
        if tls
        else None,
        client_id=mqtt_config.client_id,
        keepalive_s=mqtt_config.keepalive_s,
        max_payload_bytes=mqtt_config.max_payload_bytes,
        receipt_interval_s=mqtt_config.receipt_interval_s,
        receipts_per_s=mqtt_config.receipts_per_s,
    )


def accounts_of(config: Config, settings: BrokerSettings, store: Store, metrics: Metrics) -> BrokerAccounts | None:
    """The devices' accounts at the broker, where the core is to keep them."""
    key = config.mqtt.device_key
    if key is None or not config.mqtt.keep_accounts:
        return None
    poll_s, bridges = config.devices.registry_poll_s, config.mqtt.bridges
    return BrokerAccounts(settings, key.get_secret_value(), store, metrics, poll_s, bridges)


def bridge_settings(config: Config) -> BrokerSettings:
    """The broker of the bridge to headquarters as the configuration describes it."""
    relay, client_id = config.relay, config.mqtt.client_id
    password = relay.password.get_secret_value() if relay.password else None
    return BrokerSettings(relay.host, relay.port, relay.username, password, client_id=client_id)


def relay_of(config: Config, store: Store, metrics: Metrics, fleet: Fleet) -> Relay | None:
    """The line to headquarters, where this is a site of its own."""
    if not config.relay.enabled:
        return None

    return Relay(bridge_settings(config), store, metrics, fleet)


def books_of(config: Config, store: Store) -> Books:
    """The accounts of a store. Raises :class:`~carbontrack.emissions.factors.FactorError` for a bad file of factors."""
    accounting = config.accounting
    factors = shipped_factors(Path(accounting.factors_file) if accounting.factors_file else None)
    band = accounting.corroboration_low, accounting.corroboration_high
    return Books(store, factors, ZoneInfo(config.site.time_zone), band)


def desk_of(config: Config, books: Books, plugins: PluginHost) -> ReportDesk:
    """Where reports are made and handed out."""

    async def render(name: str, report: ComplianceReport) -> bytes:
        return await plugins.render(name, report, Limits.of(config.plugins))

    return ReportDesk(
        books,
        render,
        partial(key_at, config.reports.signing_key_file),
        version("carbontrack"),
        lambda: datetime.now(UTC),
    )


def schedules_of(config: Config, desk: ReportDesk, mailer: Mailer | None, metrics: Metrics) -> ReportSchedules:
    """Which reports are made by themselves."""
    zone, clock = ZoneInfo(config.site.time_zone), desk.clock
    return ReportSchedules(config.reports.schedules, desk, zone, clock, mailer, config.http.public_url, metrics)


def rollouts_of(config: Config, store: Store, metrics: Metrics) -> RolloutDesk:
    """Who brings firmware to devices."""
    firmware = config.firmware
    limits = RolloutLimits(firmware.downloads_at_once, timedelta(hours=firmware.out_of_reach_h))
    return RolloutDesk(store, metrics, base_url=firmware.base_url or config.http.public_url, limits=limits)


def upkeep_of(config: Config, store: Store, metrics: Metrics) -> Upkeep:
    """The housekeeping as the configuration describes it."""
    retention, url = config.retention, config.database.url
    own = Path(url.removeprefix("sqlite://")).parent if url.startswith("sqlite://") else None
    return Upkeep(
        store,
        metrics,
        keep_days=retention.raw_days,
        volume=retention.watch_disk or own,
        reserve_bytes=retention.reserve_mb * 1_000_000,
        backups=retention.backup_folder,
    )


def follow_plugins(
    config: Config, plugins: PluginHost, fleet: Fleet, watch: FactoryWatch, notices: Notices, book: RuleBook
) -> tuple[str, ...]:
    """Let everybody use what the plugins bring now; what of the configuration cannot be used."""
    brought = plugins.contributions
    configured = frozenset(entry.name for entry in config.alerts if entry.enabled)
    every, problems = all_instances(config, brought)
    rules, factory_rules = watching(every)
    book.follow(every)
    fleet.follow(brought.sensors, rules, configured)
    watch.follow(factory_rules, configured)
    notifiers, more_problems = notifier_instances(config, brought)
    notices.policy = policy_of(config)
    words = {instance.name: instance.words for instance in every}
    notices.follow(notifiers, [entry.name for entry in config.notifications], words)
    return (*problems, *more_problems)


# --- what runs beside


@asynccontextmanager
async def kept_running(**jobs: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run jobs as named tasks; one that fails is logged and started again, the others never notice."""

    async def keep(name: str, job: Callable[[], Awaitable[None]]) -> None:
        told_at = -TELL_AGAIN_S
        while True:
            try:
                await job()
            except (StoreUnavailable, ConnectionError) as error:
                if time.monotonic() - told_at >= TELL_AGAIN_S:
                    told_at = time.monotonic()
                    log.warning("something is away, trying again", job=name, error=str(error))
            except Exception:
                log.exception("job failed, starting it again", job=name)
            await asyncio.sleep(2)

    tasks = [asyncio.create_task(keep(name, job), name=f"core:{name}") for name, job in jobs.items()]
    try:
        yield
    finally:
        await end(*tasks)


async def _follow_registry(store: Store, fleet: Fleet, rules: RuleBook, reloader: Reloader, every_s: float) -> None:
    """Take changes of the registry that came by another process or the command line, and requests to reload."""
    seen = -1  # whatever changed between the fleet's start and now is not missed
    while True:
        revision = await store.revision()
        if revision != seen:
            await rules.renew()
            await fleet.sync(await store.sites())
            if (number := await store.asked_reload()) is not None:
                result = await reloader.reload("carbontrack reload")
                await store.answer_reload(number, msgspec.json.encode(result).decode())
                await note_reload(store, Origin("command line"), result)
            seen = revision
        await asyncio.sleep(every_s)


async def watch_schema(store: Store, outdated: asyncio.Event, every_s: float) -> None:
    """See when somebody else has migrated the database."""
    while not outdated.is_set():
        await asyncio.sleep(every_s)
        try:
            await store.check_schema()
        except SchemaMismatch as error:
            log.error("the schema is another one, ending", error=str(error))  # noqa: TRY400  # the text says all
            outdated.set()
    await asyncio.Event().wait()  # it ends with the core


async def _tidy(upkeep: Upkeep, store: Store) -> None:
    """Put things in order every hour. It may take long: packing a day waits for the end of a backup."""
    while True:
        await upkeep.tidy()
        await store.forget_sessions(datetime.now(UTC))
        await tidy_commands(store, datetime.now(UTC))
        await asyncio.sleep(TIDY_EVERY_S)


async def _look(upkeep: Upkeep) -> None:
    """Look how much room there is every minute."""
    while True:
        await upkeep.look()
        await asyncio.sleep(LOOK_EVERY_S)


async def _summarise(summariser: Summariser, metrics: Metrics, upkeep: Upkeep) -> None:
    """Keep the tiers up to date; after a large backlog without pause, otherwise every few seconds."""
    while True:
        began = time.monotonic()
        # A mark stays in the database until it is worked on: where there is no room, the tiers come later.
        done = 0 if upkeep.is_tight else await summariser.summarise_touched()
        metrics.tier_buckets.inc(done)
        # At most a tenth of the time, so that a large backlog of buckets does not slow the commits of readings.
        await asyncio.sleep(SUMMARISE_EVERY_S if not done else max(0.2, 9 * (time.monotonic() - began)))


async def _keep_meters(meters: MeterKeeper, upkeep: Upkeep) -> None:
    """Keep the meters' daily amounts up to date."""
    while True:
        if not upkeep.is_tight:
            await meters.summarise()
        await asyncio.sleep(METERS_EVERY_S)


async def _adjust(drain: Drain, fleet: Fleet) -> None:
    """Grant less backlog while commits lag behind."""
    while True:
        since = fleet.waiting_since()
        drain.adjust(0.0 if since is None else time.monotonic() - since)
        await asyncio.sleep(ADJUST_EVERY_S)


async def _measure_lag(metrics: Metrics, watch: Watch) -> None:
    """How late the loop wakes: what blocks it shows here first."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_PROBE_S
        await asyncio.sleep(LAG_PROBE_S)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))
        watch.beat()
