"""Reads the configuration again while the core runs, and lets plugins and alerts follow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from carbontrack.config import Config, ConfigError
from carbontrack.hookspecs import ReloadResult
from carbontrack.metrics import Metrics
from carbontrack.model import AuditAction, Origin
from carbontrack.plugins import PluginHost
from carbontrack.store import Store, StoreUnavailable

log = structlog.get_logger(__name__)

FOLLOWED = frozenset({"plugins", "alerts", "notifications", "alerting"})
"""Sections that a reload follows; a change of any other needs a restart."""


class Reloader:
    """The configuration as it is in force. ``read`` reads it anew."""

    def __init__(
        self, config: Config, host: PluginHost, metrics: Metrics, read: Callable[[], Config] | None = None
    ) -> None:
        self.config = config
        self.last: ReloadResult | None = None
        self.reloads = 0
        self.left_out: tuple[str, ...] = ()
        """What of the configuration cannot be used with the plugins that there are."""
        self.also: list[Callable[[], tuple[str, ...]]] = []
        """Who else reads files anew, and gives what of them cannot be used."""
        self._follow: Callable[[Config], tuple[str, ...]] = lambda _: ()
        self._host = host
        self._metrics = metrics
        self._read = read
        self._lock = asyncio.Lock()

    def keep_following(self, follow: Callable[[Config], tuple[str, ...]]) -> None:
        """Have ``follow`` called now, and whenever plugins or configuration have become others."""
        self._follow = follow
        self._host.followers.append(self.follow)
        self.follow()

    def follow(self) -> None:
        """Let whoever uses plugins use them as they are now."""
        before, self.left_out = self.left_out, self._follow(self.config)
        for problem in self.left_out:
            if problem not in before:
                log.error("left out", problem=problem)

    async def reload(self, by: str, again: str = "") -> ReloadResult:
        """Take what has changed; ``again`` names a plugin to reload in any case. Nothing changes for a bad file."""
        async with self._lock:
            try:
                config = self._read() if self._read is not None else self.config
            except ConfigError as error:
                problems = tuple(map(str, error.problems))
                return self._told(ReloadResult(datetime.now(UTC), by, problems=problems))
            before = self.config
            needs_restart = tuple(
                name
                for name in Config.model_fields
                if name not in FOLLOWED and getattr(config, name) != getattr(before, name)
            )
            self.config = config
            changes = await self._host.apply(config, again=again)
            self.follow()
            problems = tuple(problem for read_anew in self.also for problem in read_anew())
            return self._told(
                ReloadResult(
                    datetime.now(UTC),
                    by,
                    changes.added,
                    changes.removed,
                    changes.reloaded,
                    changes.failed,
                    left_out=(*self.left_out, *problems),
                    needs_restart=needs_restart,
                )
            )

    def _told(self, result: ReloadResult) -> ReloadResult:
        self.last = result
        self.reloads += 1
        kind = "refused" if result.problems else "failed" if result.failed or result.left_out else "done"
        self._metrics.reloads.labels(kind).inc()
        log.info(
            "reloaded",
            by=result.by,
            added=result.added,
            removed=result.removed,
            reloaded=result.reloaded,
            failed=dict(result.failed),
            problems=result.problems,
            left_out=result.left_out,
            needs_restart=result.needs_restart,
        )
        return result


async def note_reload(store: Store, by: Origin, result: ReloadResult) -> None:
    """Note in the audit log what a reload did. It is done by then: a database that is away does not undo it."""
    after = {
        "added": result.added,
        "removed": result.removed,
        "reloaded": result.reloaded,
        "failed": sorted(result.failed),
        "problems": len(result.problems),
    }
    try:
        await store.note(by, AuditAction.PLUGINS_RELOADED, "plugins", "", after=after)
    except StoreUnavailable as error:
        log.warning("the audit log lacks a reload", by=by.name, error=str(error))
