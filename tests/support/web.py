"""The web part on a small world, for tests that speak HTTP: two factories, one person of each role.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carbontrack.bookkeeping import Books, shipped_factors
from carbontrack.config import Config
from carbontrack.configured import all_instances
from carbontrack.device_desk import DeviceDesk
from carbontrack.health import Birth
from carbontrack.metrics import Metrics
from carbontrack.model import Role, Site
from carbontrack.passwords import hash_password
from carbontrack.plugins import Limits, PluginHost
from carbontrack.reloading import Reloader
from carbontrack.report_desk import ReportDesk
from carbontrack.rollouts import RolloutDesk
from carbontrack.rule_book import RuleBook
from carbontrack.web import CoreParts, Services, check_pages, create_app
from carbontrack.web.attempts import Attempts
from tests.support.world import NOON, Core, core, migrated_store, register

PASSWORD = "correct horse battery staple"
PEOPLE = {
    "hq@example.org": Role.HQ_MANAGER,
    "operator@example.org": Role.OPERATOR,
    "auditor@example.org": Role.AUDITOR,
    "manager@example.org": Role.FACTORY_MANAGER,
    "clerk@example.org": Role.FACTORY_CLERK,
}
"""The last two belong to the factory Kangaita, and not to Mungania."""


@cache
def password_hash() -> str:
    """Hashing takes its time by design; once is enough."""
    return hash_password(PASSWORD)


@dataclass
class Portal:
    """The running web part with its core."""

    core: Core
    services: Services
    server: TestServer
    kangaita: Site
    mungania: Site
    now: datetime = NOON
    reasons: list[str] = field(default_factory=list)
    """Why the core is not ready."""
    _clients: list[TestClient[Any, Any]] = field(default_factory=list)

    def client(self) -> TestClient[Any, Any]:
        """Somebody's browser or program, with cookies of its own."""
        client = TestClient(self.server, cookie_jar=CookieJar(unsafe=True))
        self._clients.append(client)
        return client

    async def signed_in(self, email: str) -> TestClient[Any, Any]:
        """A program that has signed in: it sends its token with every request."""
        client = self.client()
        answer = await client.post("/api/login/", json={"email": email, "password": PASSWORD})
        assert answer.status == 200, await answer.text()
        client.session.headers["Authorization"] = f"Bearer {(await answer.json())['token']}"
        client.session.cookie_jar.clear()
        return client

    async def browser(self, email: str) -> TestClient[Any, Any]:
        """A browser that has signed in by the form: it has the cookie."""
        client = self.client()
        form = {"email": email, "password": PASSWORD, "next": ""}
        answer = await client.post("/login", data=form, headers=SAME_ORIGIN, allow_redirects=False)
        assert answer.status == 303, await answer.text()
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.session.close()


SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
OTHER_SITE = {"Sec-Fetch-Site": "cross-site"}


async def no_diagnostics() -> bytes:
    """An empty bundle: what is in one is for tests of it alone."""
    return b"PK"


@asynccontextmanager
async def running_portal(
    url: str, config: Config | None = None, *, read: Callable[[], Config] | None = None, **changed: Any
) -> AsyncIterator[Portal]:
    """A portal on an empty database, filled with the small world; ``changed`` are fields of the web's services.

    ``config`` chooses the plugins; without it, all of ours run. ``read`` gives it, now and for each reload.
    """
    metrics = Metrics()
    async with migrated_store(url, metrics) as store:
        (kangaita,) = await register(store, "dev-001", factory_name="Kangaita")
        (mungania,) = await register(store, "dev-002", factory_name="Mungania")
        for email, role in PEOPLE.items():
            own = kangaita.factory.id if role in {Role.FACTORY_MANAGER, Role.FACTORY_CLERK} else None
            await store.add_user(email, password_hash(), role, factory_id=own, first_name=role.value)
        portal: Portal
        desk = DeviceDesk(store, metrics, lambda: portal.now + timedelta(seconds=1))
        rollouts = RolloutDesk(
            store, metrics, base_url="https://core.example.org", clock=lambda: portal.now + timedelta(seconds=1)
        )

        def born(device_id: str, birth: Birth) -> None:
            desk.born(device_id, birth)
            rollouts.born(device_id, birth)

        async with core(store, metrics, born=born, answered=desk.answered) as running:
            desk.is_online, desk.of_firmware = running.fleet.is_online, rollouts.answered
            rollouts.fleet = running.fleet
            config = read() if read is not None else config or Config()
            plugins = PluginHost(metrics, check_pages=check_pages)
            await plugins.apply(config)
            rules = RuleBook(store, (running.fleet.adjust,))
            rules.follow(all_instances(config, plugins.contributions)[0])
            values: dict[str, Any] = {
                "rules": rules,
                "store": store,
                "books": Books(store, shipped_factors(), ZoneInfo("Africa/Nairobi"), (0.85, 1.15)),
                "fleet": running.fleet,
                "live": running.live,
                "metrics": metrics,
                "plugins": plugins,
                "report_limits": Limits(60.0, 1024),
                "attempts": Attempts(metrics),
                "reloader": Reloader(config, plugins, metrics, read),
                "problems": plugins.problems,
                "readiness": lambda: portal.reasons,
                "refused": metrics.refused,
                "time_zone": ZoneInfo("Africa/Nairobi"),
                "version": "test",
                "diagnose": no_diagnostics,
                "clock": lambda: portal.now + timedelta(seconds=1),
            }
            reports = ReportDesk(
                values["books"],
                lambda name, report: plugins.render(name, report, Limits(60.0, 1024)),
                cache(Ed25519PrivateKey.generate),
                "test",
                values["clock"],
            )
            values["core"] = CoreParts(running.fleet, desk, rollouts, reports)
            services = Services(**(values | changed))
            server = TestServer(create_app(services))
            async with server:
                portal = Portal(running, services, server, kangaita, mungania)
                try:
                    yield portal
                finally:
                    await portal.close()
                    await reports.close()
                    await plugins.close()
