"""A core without a broker on a database that is thrown away: everything else is real."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carbontrack.app import books_of, follow_plugins, running_plugins
from carbontrack.bookkeeping import Books
from carbontrack.compliance import ComplianceReport
from carbontrack.config import Config
from carbontrack.configured import policy_of
from carbontrack.device import Services as DeviceServices
from carbontrack.device_desk import DeviceDesk
from carbontrack.factory_watch import FactoryWatch
from carbontrack.fence import Watch
from carbontrack.fleet import Fleet
from carbontrack.hookspecs import Notification, Outbound, ReloadResult
from carbontrack.live import Live
from carbontrack.metrics import Metrics
from carbontrack.model import Alert, Factory, Measurement, MonitoringPlan, Payload, Quarantined, Report, Role, Site
from carbontrack.notify import Notices
from carbontrack.passwords import hash_password
from carbontrack.plugins import Limits, PluginHost
from carbontrack.reloading import Reloader
from carbontrack.report_desk import ReportDesk
from carbontrack.rollouts import RolloutDesk
from carbontrack.rule_book import RuleBook
from carbontrack.store import Store, migrate, open_store
from carbontrack.tasks import end
from carbontrack.testing.examples import FACTORY, report
from carbontrack.testing.loading import as_installed
from carbontrack.web import CoreParts, create_app
from carbontrack.web import Services as WebServices
from carbontrack.web.attempts import Attempts

PATIENCE_S = 20.0
BEAT_S = 0.2
MONITORED_FROM = datetime(2025, 12, 1, tzinfo=UTC)
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
PASSWORD = "correct horse battery staple"  # noqa: S105  # of people in a database that is thrown away
OF_A_FACTORY = frozenset({Role.FACTORY_MANAGER, Role.FACTORY_CLERK})


async def eventually(condition: Callable[[], bool | Awaitable[bool]], what: str = "") -> None:
    """Return when a condition holds. Raises AssertionError when it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not (await held if isinstance(held := condition(), Awaitable) else held):
        assert time.monotonic() < deadline, what or "what was waited for did not happen"
        await asyncio.sleep(0.005)


async def make_database(path: Path) -> None:
    """An empty SQLite database with the newest schema: a copy of one that was migrated, which is quicker."""
    if not _template().exists():
        await migrate(f"sqlite://{_template()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), path)


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="carbontrack-template-"))
    atexit.register(shutil.rmtree, folder)
    return folder / "migrated.sqlite3"


@cache
def _password_hash() -> str:
    """Hashing takes its time by design; once is enough."""
    return hash_password(PASSWORD)


@dataclass
class RunningCore:
    """A fleet with its plugins. Who waits for something waits for it by ``at_least``."""

    config: Config
    store: Store
    fleet: Fleet
    plugins: PluginHost
    reloader: Reloader
    watch: FactoryWatch
    notices: Notices
    factory: Factory
    _services: WebServices
    _stack: AsyncExitStack
    receipts: dict[tuple[str, str], int] = field(default_factory=dict)
    """(device id, stream) -> up to which number the device was told that all is kept."""
    _url: str = ""
    _people: dict[Role, aiohttp.ClientSession] = field(default_factory=dict)

    # --- devices

    async def register(self, device_id: str, sensor: str = "ct_v1") -> Site:
        """One more device of the factory, on a stack of its own."""
        stack = await self.store.add_stack(
            self.factory.id, f"Boiler of {device_id}", MonitoringPlan(valid_from=MONITORED_FROM)
        )
        await self.store.add_device(device_id, stack.id, sensor)
        sites = await self.store.sites()
        await self.fleet.sync(sites)
        return next(site for site in sites if site.device.device_id == device_id)

    def tell(
        self,
        body: bytes | str,
        *,
        device_id: str = "dev-001",
        channel: str = "data",
        received_at: datetime | None = None,
    ) -> str:
        """Hand the fleet a message as if it came from the broker; ``delivered``, or why not."""
        at = received_at or datetime.now(UTC)
        content = body.encode() if isinstance(body, str) else body
        return self.fleet.tell(Payload(device_id, channel, content, round(at.timestamp() * 1000)))

    async def readings(self, device_id: str = "dev-001", *, at_least: int = 1) -> list[Measurement]:
        """A device's readings that are in the database."""
        (stack_id,) = [site.stack.id for site in await self.store.sites() if site.device.device_id == device_id]

        async def kept() -> list[Measurement]:
            return await self.store.readings([stack_id], *ALWAYS)

        return await self._waited(kept, at_least, f"readings of {device_id}")

    async def quarantined(self, *, at_least: int = 1) -> list[Quarantined]:
        """Payloads that could not be used, with their causes."""
        return await self._waited(self._quarantined, at_least, "payloads in quarantine")

    async def _quarantined(self) -> list[Quarantined]:
        return await self.store.quarantined()

    # --- alerts

    async def alerts(self, *, at_least: int = 1, everything: bool = False) -> list[Alert]:
        """Alerts that fire; with ``everything``, those as well that are over."""

        async def raised() -> list[Alert]:
            return await self.store.alerts(only_open=not everything)

        return await self._waited(raised, at_least, "alerts")

    async def notify(self, name: str, told: Notification) -> None:
        """Have a configured notification tell something, once. Raises what its notifier raises."""
        instance = self.notices.instance(name)
        assert instance is not None, f"no notification {name!r} is configured whose plugin runs"
        await instance.notifier.send(instance.options, told)

    async def _waited(self, ask: Callable[[], Awaitable[list[Any]]], at_least: int, what: str) -> list[Any]:
        found: list[Any] = []

        async def enough() -> bool:
            found[:] = await ask()
            return len(found) >= at_least

        await eventually(enough, f"there are not {at_least} {what}")
        return found

    # --- reports, pages, reloads

    async def render(self, format_name: str, shown: Report | ComplianceReport | None = None) -> bytes:
        """A report as a file, made in a process of its own: of readings, if none is given.

        Raises what the core's own call raises.
        """
        return await self.plugins.render(format_name, shown or report(), Limits.of(self.config.plugins))

    async def page(self, path: str, role: Role = Role.OPERATOR) -> tuple[int, str]:
        """What a signed-in person of this role is answered: the status and the text."""
        if role not in self._people:
            self._people[role] = await self._signed_in(role)
        async with self._people[role].get(self._url + path) as answer:
            return answer.status, await answer.text()

    async def reload(self, plugin: str = "") -> ReloadResult:
        """Reload what has changed, and ``plugin`` in any case."""
        return await self.reloader.reload("test", again=plugin)

    async def _signed_in(self, role: Role) -> aiohttp.ClientSession:
        if not self._url:
            self._url = await self._stack.enter_async_context(_website(self._services))
        email = f"{role.value}@example.org"
        own = self.factory.id if role in OF_A_FACTORY else None
        await self.store.add_user(email, _password_hash(), role, factory_id=own, first_name=role.value)
        person = await self._stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), trust_env=False)
        )
        form = {"email": email, "password": PASSWORD, "next": ""}
        headers = {"Sec-Fetch-Site": "same-origin"}
        async with person.post(f"{self._url}/login", data=form, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
        return person


@asynccontextmanager
async def _website(services: WebServices) -> AsyncIterator[str]:
    runner = web.AppRunner(create_app(services), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_core(
    place: Path | Config | None = None,
    *,
    names: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    alerts: Sequence[Mapping[str, Any]] = (),
    notify: Sequence[Mapping[str, Any]] = (),
    sensor: str = "ct_v1",
    watch: Watch | None = None,
    outbound: Outbound | None = None,
) -> AsyncIterator[RunningCore]:
    """A core with one factory and its device ``dev-001``, which is registered with ``sensor``.

    ``place`` is a project with a ``pyproject.toml``, or a folder of plugins, or a whole configuration (then the other
    arguments but ``sensor`` do not count). ``names`` chooses plugins; without it, all run. ``options`` are theirs by
    name; ``alerts`` and ``notify`` are as the sections ``alerts`` and ``notifications`` of the configuration. Without
    ``outbound`` the core has no way out: no mail, no live page, no commands to devices.
    """
    is_project = isinstance(place, Path) and (place / "pyproject.toml").is_file()
    with as_installed(place) if isinstance(place, Path) and is_project else nullcontext():
        if isinstance(place, Config):
            config = place
        else:
            folder = place if place is not None and not is_project else None
            config = Config.model_validate(
                {
                    "plugins": {"enabled": names, "folder": folder, "options": options or {}},
                    "alerts": list(alerts),
                    "notifications": list(notify),
                }
            )
        with tempfile.TemporaryDirectory(prefix="carbontrack-test-") as home:
            database = Path(home, "carbontrack.sqlite3")
            await make_database(database)
            async with _core(config, f"sqlite://{database}", sensor, watch, outbound) as core:
                yield core


@asynccontextmanager
async def _core(
    config: Config, url: str, sensor: str, watch: Watch | None, outbound: Outbound | None
) -> AsyncIterator[RunningCore]:
    metrics = Metrics()
    receipts: dict[tuple[str, str], int] = {}

    def told(device_id: str, stream: str, seq: int) -> None:
        receipts[device_id, stream] = seq

    async with (
        open_store(url, metrics) as store,
        running_plugins(config, metrics, watch, outbound) as plugins,
        AsyncExitStack() as stack,
    ):
        beating = asyncio.create_task(_beat(plugins.watch), name="core:beat")
        stack.push_async_callback(end, beating)
        live = Live()
        notices = Notices(store, metrics, policy_of(config))
        desk = DeviceDesk(store, metrics)
        services = DeviceServices(
            store,
            live,
            metrics,
            told,
            will_after_s=0.0,
            alert_changed=notices.alert_changed,
            born=desk.born,
            answered=desk.answered,
        )
        fleet = Fleet(services, plugins.contributions.sensors)
        desk.is_online = fleet.is_online
        stack.push_async_callback(fleet.close)
        books = books_of(config, store)
        factories = FactoryWatch(store, books, metrics, notices.alert_changed)
        rules = RuleBook(store, (fleet.adjust, factories.adjust))
        reloader = Reloader(config, plugins, metrics)
        reloader.keep_following(lambda current: follow_plugins(current, plugins, fleet, factories, notices, rules))
        factory = await store.add_factory(FACTORY)
        website = _web_services(config, store, books, fleet, desk, live, plugins, metrics, reloader, rules)
        core = RunningCore(
            config, store, fleet, plugins, reloader, factories, notices, factory, website, stack, receipts=receipts
        )
        await core.register("dev-001", sensor)
        yield core


async def _beat(watch: Watch) -> None:
    """Tell the watch that the loop turns."""
    while True:
        watch.beat()
        await asyncio.sleep(BEAT_S)


def _web_services(
    config: Config,
    store: Store,
    books: Books,
    fleet: Fleet,
    device_desk: DeviceDesk,
    live: Live,
    plugins: PluginHost,
    metrics: Metrics,
    reloader: Reloader,
    rules: RuleBook,
) -> WebServices:
    reports = ReportDesk(
        books,
        lambda name, report: plugins.render(name, report, Limits.of(config.plugins)),
        cache(Ed25519PrivateKey.generate),
        "test",
        lambda: datetime.now(UTC),
    )
    return WebServices(
        store=store,
        books=books,
        fleet=fleet,
        core=CoreParts(fleet, device_desk, RolloutDesk(store, metrics), reports),
        live=live,
        metrics=metrics,
        plugins=plugins,
        report_limits=Limits.of(config.plugins),
        attempts=Attempts(metrics),
        readiness=list,
        refused=metrics.refused,
        time_zone=ZoneInfo(config.site.time_zone),
        version="test",
        clock=lambda: datetime.now(UTC),
        reloader=reloader,
        rules=rules,
    )
