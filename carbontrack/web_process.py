"""A web process beside the core: the portals and the API from the database, and from what the core tells through Redis.

It has no devices and no broker. Any number of them may stand behind a balancer, and any of them answers any request:
sessions are in the database, limits in Redis, and what only the core can do is handed on to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from carbontrack.app import (
    books_of,
    kept_running,
    running_plugins,
    served,
    services_of,
    stop_signal,
    watch_schema,
    watched,
)
from carbontrack.config import Config
from carbontrack.configured import all_instances
from carbontrack.live import Live
from carbontrack.mail import mailer
from carbontrack.metrics import Metrics
from carbontrack.plugins import PluginHost
from carbontrack.reloading import Reloader
from carbontrack.rule_book import RuleBook
from carbontrack.shared import Mirror, RedisShelf, opened_redis
from carbontrack.store import SchemaMismatch, Store, open_store
from carbontrack.tasks import first_of
from carbontrack.tls import ServerCertificate
from carbontrack.web import CoreDoor
from carbontrack.web.attempts import counted_attempts

log = structlog.get_logger(__name__)


@asynccontextmanager
async def run_web_process(
    config: Config,
    read: Callable[[], Config],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    outdated: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """The portals and the API beside a core; the address that they are at. ``read`` reads the configuration anew.

    ``outdated`` is set when the database has another schema than this version works with.
    """
    assert config.redis.url is not None, "the command line has looked"
    metrics, database = Metrics(), config.database
    async with (
        open_store(database.url, metrics, archive_folder=config.retention.archive_folder) as store,
        watched(config, store) as tracer,
        running_plugins(config, metrics) as plugins,
        mailer(config, metrics) as mail,
        counted_attempts(metrics, config.redis.url) as attempts,
        opened_redis(config.redis.url) as redis,
    ):
        live = Live()
        mirror = Mirror(redis, live, clock)
        books = books_of(config, store)
        rules = RuleBook(store)
        await rules.renew()
        reloader = Reloader(config, plugins, metrics, read)
        reloader.also.append(lambda: rules.problems)
        reloader.keep_following(lambda current: _follow_plugins(current, plugins, rules))
        certificate = ServerCertificate(config, config.http.tls) if config.http.tls else None
        if certificate:
            reloader.also.append(certificate.renew)

        def problems() -> Sequence[str]:
            own = certificate.problems(clock()) if certificate else ()
            return [*mirror.problems(), *own, *([attempts.problem] if attempts.problem else [])]

        def door() -> CoreDoor | None:
            core = mirror.core
            return CoreDoor(core.url, core.door, core.fingerprint) if core else None

        services = replace(
            services_of(config, store, books, rules, mirror, live, plugins, reloader, attempts, metrics, mail, clock),
            readiness=mirror.not_ready,
            refused=lambda: dict(mirror.core.refused) if mirror.core else {},
            storage=lambda: mirror.core.storage if mirror.core else None,
            problems=problems,
            shelf=RedisShelf(redis),
            door=door,
            tracer=tracer,
        )
        every_s, outdated = config.devices.registry_poll_s, outdated or asyncio.Event()
        try:
            async with (
                served(services, config.http, certificate) as url,
                kept_running(
                    mirror=mirror.keep,
                    registry=lambda: _follow_site(store, mirror, rules, reloader, every_s),
                    schema=lambda: watch_schema(store, outdated, every_s),
                    redis=attempts.keep,
                ),
            ):
                yield url
        finally:
            await books.close()


async def serve_web(config: Config, read: Callable[[], Config]) -> None:
    """Run a web process until SIGINT or SIGTERM.

    Raises :class:`~carbontrack.store.SchemaMismatch` when a newer version has migrated the database.
    """
    outdated = asyncio.Event()
    async with stop_signal() as stop, run_web_process(config, read, outdated=outdated) as url:
        log.info("serving beside the core", url=url)
        await first_of(stop.wait(), outdated.wait())
        log.info("stopping")
    if outdated.is_set():
        raise SchemaMismatch("Another version of Carbon Track has migrated the database meanwhile: run that one.")


def _follow_plugins(config: Config, plugins: PluginHost, rules: RuleBook) -> tuple[str, ...]:
    """Let pages know the alerts that are configured now; what of them cannot be used."""
    every, problems = all_instances(config, plugins.contributions)
    rules.follow(every)
    return tuple(problems)


async def _follow_site(store: Store, mirror: Mirror, rules: RuleBook, reloader: Reloader, every_s: float) -> None:
    """Take changes of the registry, and read the configuration anew after the core has."""
    seen, reloads = -1, mirror.core.reloads if mirror.core else None
    while True:
        revision = await store.revision()
        if revision != seen:
            await rules.renew()
            await mirror.sync(await store.sites())
            seen = revision
        if mirror.core and mirror.core.reloads != reloads:
            if reloads is not None:
                await reloader.reload("the core")
            reloads = mirror.core.reloads
        await asyncio.sleep(every_s)
