"""The life of plugins in a running core: set up, retried, parked, reloaded and unloaded, while ingest goes on.

Each plugin has a task of its own, which enters what the plugin's ``set_up`` gives, publishes what it brings, and waits
for its end. What all of them bring is one :class:`~carbontrack.plugins.contributions.Contributions`; whoever uses it is
told when it becomes another.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from carbontrack.compliance import ComplianceReport
from carbontrack.config import Config
from carbontrack.config.fields import masked, secrets_in, without_secrets
from carbontrack.fence import Fence, HeldBack, Watch
from carbontrack.hookspecs import FrameDecoder, NotReady, Outbound, PluginState, PluginStatus, PortalView
from carbontrack.metrics import Metrics
from carbontrack.model import Report
from carbontrack.outbound import Ways
from carbontrack.plugins.contributions import Contributions, collect, joined
from carbontrack.plugins.finding import Found, choose, forget
from carbontrack.plugins.loading import Loaded, LoadError, load
from carbontrack.plugins.rendering import Limits, RenderError, render
from carbontrack.tasks import end, in_thread
from carbontrack.words import N_

log = structlog.get_logger(__name__)

LOAD_TIMEOUT_S = 30.0
SET_UP_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 10.0
FIRST_WAIT_S = 10.0
"""A start of the core waits so long for a plugin that is setting up, and then goes on without it."""
RENDERS_AT_ONCE = 2
"""Reports that are made at the same time; the others wait."""
RETRIES_S = (5.0, 10.0, 20.0, 40.0, 80.0)
"""Between attempts to set up what is not ready; the last one for ever."""


CheckPages = Callable[[Sequence[PortalView], Sequence[PortalView]], None]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload has done. ``failed`` says of whom why; a plugin that failed may go on as it was."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


class Life:
    """One plugin from its load to its unload; it is the ``plugin`` that the hooks are given."""

    def __init__(self, host: PluginHost, loaded: Loaded, raw_options: Mapping[str, Any]) -> None:
        self.name = loaded.manifest.name
        self.options: Any = loaded.options
        self.loaded = loaded
        self.raw_options = raw_options
        self.fingerprint = loaded.found.fingerprint()
        self.state = PluginState.SETTING_UP
        self.error = ""
        self.advice = ""
        self.notes = list(loaded.notes)
        self.retry_at: datetime | None = None
        self.contributions = Contributions()
        self.fence = Fence(self.name, host.watch, count=host.counter(self.name), hide=self.shown)
        self._host = host
        self._jobs: list[asyncio.Task[None]] = []
        self._broken: asyncio.Future[Exception] | None = None
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- what the plugin is given

    @property
    def frame_decoders(self) -> Mapping[str, FrameDecoder]:
        """The frame decoders of all plugins, by name, as they are now."""
        return self._host.contributions.frame_decoders

    @property
    def outbound(self) -> Outbound:
        """The ways out that the core has, for notifiers."""
        return self._host.outbound

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine beside the core until the plugin is unloaded; one that raises parks the plugin."""
        self._jobs.append(asyncio.create_task(self._run_job(job, name), name=f"plugin:{self.name}:{name}"))

    async def _run_job(self, job: Coroutine[Any, Any, None], name: str) -> None:
        self._begin_log()
        try:
            await self.fence.run(job, f"job {name}")
        except Exception as error:  # noqa: BLE001  # a plugin's job may raise whatever it likes
            if self._broken is not None and not self._broken.done():
                self._broken.set_result(error)

    # --- its life

    def begin(self) -> None:
        """Begin to live as a task."""
        self._task = asyncio.create_task(self._live(), name=f"plugin:{self.name}")

    async def settled(self, timeout_s: float) -> None:
        """Wait until it runs, waits for its next attempt, or is parked."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    async def end(self) -> None:
        """Unload it: its jobs end, what it set up is left, nothing of it stays."""
        self.state = PluginState.UNLOADING
        if self._task is not None:
            await end(self._task)
            self._task = None

    def _begin_log(self) -> None:
        """Lines of its tasks have its name, and nothing of the request that may have reloaded it."""
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(plugin=self.name)

    async def _live(self) -> None:
        self._begin_log()
        attempt = 0
        while True:
            try:
                await self._set_up_and_serve()
            except asyncio.CancelledError:
                raise
            except NotReady as error:
                wait_s = RETRIES_S[min(attempt, len(RETRIES_S) - 1)] * random.uniform(0.9, 1.1)
                attempt += 1
                self._wait_for(wait_s, str(error) or "it is not ready yet")
                await asyncio.sleep(wait_s)
            except Exception as error:  # noqa: BLE001  # a plugin may raise whatever it likes
                self.park(f"{type(error).__name__}: {error}", N_("Mend what the error says, then reload the plugin."))
                return

    def _wait_for(self, wait_s: float, error: str) -> None:
        error = self.shown(error)
        if self.state is not PluginState.RETRYING:
            log.warning("plugin is not ready, trying again", plugin=self.name, error=error)
        self.state, self.error = PluginState.RETRYING, error
        self.advice = N_("It is tried again by itself. Is what it needs there, and are its options right?")
        self.retry_at = datetime.now(UTC) + timedelta(seconds=wait_s)
        self._settled.set()
        self._host.publish(self.name, Contributions())

    def park(self, error: str, advice: str) -> None:
        """Leave it out until a person has done something."""
        error = self.shown(error)
        log.error("plugin parked", plugin=self.name, error=error)
        self.state, self.error, self.advice, self.retry_at = PluginState.PARKED, error, advice, None
        self._settled.set()
        self._host.publish(self.name, Contributions())

    async def _set_up_and_serve(self) -> None:
        """One attempt: returns never, raises when it failed or when a job of it broke."""
        self._broken = asyncio.get_running_loop().create_future()
        context: AbstractAsyncContextManager[None] | None = None
        try:
            context = self._context()
            if context is not None:
                await self._fenced(context.__aenter__(), SET_UP_TIMEOUT_S)
            try:
                self.contributions = collect(self.loaded.manager, self.loaded.manifest, self, self.fence)
                self._host.publish(self.name, self.contributions)
                self.state, self.error, self.advice, self.retry_at = PluginState.RUNNING, "", "", None
                self._settled.set()
                raise await self._broken
            finally:
                await end(*self._jobs)
                if context is not None:
                    await self._leave(context)
        finally:
            await end(*self._jobs)
            self._jobs.clear()
            self.contributions = Contributions()
            await self._end_leftovers()

    def _context(self) -> AbstractAsyncContextManager[None] | None:
        set_up = self.fence.guard(lambda: self.loaded.manager.hook.set_up(plugin=self), lambda: "set_up")
        found: AbstractAsyncContextManager[None] | None = next(iter(set_up()), None)
        if found is not None and not hasattr(found, "__aenter__"):
            raise TypeError("set_up must give an async context manager: mark it with @asynccontextmanager")
        return found

    async def _fenced(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> None:
        """Await a part of the plugin's set-up. NotReady is no failure of it."""

        async def without_not_ready() -> NotReady | None:
            try:
                await work
            except NotReady as error:
                return error
            return None

        if (error := await self.fence.run(without_not_ready(), "set_up", timeout_s=timeout_s)) is not None:
            raise error

    async def _leave(self, context: AbstractAsyncContextManager[None]) -> None:
        try:
            await self.fence.run(_leaving(context), "unload", timeout_s=LEAVE_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  # it is unloaded all the same
            text = self.shown(f"{type(error).__name__}: {error}")
            log.error("plugin failed to unload", plugin=self.name, error=text)  # noqa: TRY400  # the fence has told the rest
            self._host.note_leak(self.name, f"When it was unloaded, it raised {text}")

    async def _end_leftovers(self) -> None:
        """End tasks that the plugin began by itself and left behind."""
        found, mine = self.loaded.found, asyncio.current_task()
        if found.is_ours or self._host.has_another_of(found):
            return  # whose task it is cannot be told from its code
        prefixes = tuple(map(str, found.places()))
        left = [task for task in asyncio.all_tasks() if task is not mine and _is_from(task, prefixes)]
        if left:
            names = ", ".join(sorted(task.get_name() for task in left))
            log.warning("plugin left tasks behind, ending them", plugin=self.name, tasks=names)
            self._host.note_leak(self.name, f"It left tasks behind, which were ended: {names}. Use plugin.start().")
            await end(*left)

    # --- how it stands

    def shown(self, text: str) -> str:
        """What the plugin wrote, such as an error, without the secrets among its options."""
        return without_secrets(text, secrets_in(self.raw_options))

    def status(self) -> PluginStatus:
        """How it stands, for operators."""
        state, error, advice, retry_at = self.state, self.error, self.advice, self.retry_at
        notes = [*self.notes, *self._host.leaks.get(self.name, ())]
        whole, held = self.fence.whole, self.fence.held_back()
        if state is PluginState.RUNNING and (whole.until or held):
            state = PluginState.PARKED if whole.until else PluginState.TROUBLED
            if whole.until:
                error, retry_at = whole.error, self._host.moment(whole.until)
                advice = N_("It is held back and tried again by itself. Disable it, or replace it, if this goes on.")
            else:
                error = next(iter(held.values())).error
                retry_at = self._host.moment(min(trouble.until for trouble in held.values()))
                shown = ", ".join(list(held)[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "")
                advice = f"It is held back for {shown}, and tried again there by itself; all else goes on."
        return PluginStatus(
            name=self.name,
            origin=self.loaded.found.origin,
            state=state,
            manifest=self.loaded.manifest,
            brings=self.contributions.named(),
            error=error,
            advice=advice,
            notes=tuple(map(self.shown, notes)),
            errors=self.fence.errors,
            retry_at=retry_at,
            options=masked(self.raw_options, self.options),
        )


class PluginHost:
    """All plugins of a running core. ``followers`` are called when what they bring has become another.

    ``check_pages`` raises ValueError for addresses of pages that cannot be beside those of other pages. ``outbound`` is
    what notifiers are given.
    """

    def __init__(
        self,
        metrics: Metrics,
        watch: Watch | None = None,
        check_pages: CheckPages | None = None,
        outbound: Outbound | None = None,
    ) -> None:
        self.outbound = outbound or Ways()
        self.watch = watch or Watch()
        self.contributions = Contributions()
        self.followers: list[Callable[[], None]] = []
        self.leaks: dict[str, list[str]] = {}
        """What a plugin did not clean up when it was unloaded last."""
        self._metrics = metrics
        self._check_pages = check_pages
        self._lives: dict[str, Life] = {}
        self._brought: dict[str, Contributions] = {}
        self._out: dict[str, PluginStatus] = {}
        """Those that are disabled or could not be loaded."""
        self._order: list[str] = []
        self._chosen: Mapping[str, Found] = {}
        self._lock = asyncio.Lock()
        self._renders = asyncio.Semaphore(RENDERS_AT_ONCE)

    # --- what the core asks

    def statuses(self) -> list[PluginStatus]:
        """Every plugin there is, in the order in which they were found."""
        known = {name: life.status() for name, life in self._lives.items()} | self._out
        # What is just being loaded has no life yet.
        return [
            known.get(name) or PluginStatus(name, self._chosen[name].origin, PluginState.SETTING_UP)
            for name in self._order
        ]

    def problems(self) -> list[str]:
        """What is wrong with plugins, in sentences."""
        return [
            f"The plugin {status.name} is {status.state.value}: {status.error}"
            for status in self.statuses()
            if status.state in {PluginState.PARKED, PluginState.RETRYING, PluginState.TROUBLED}
        ]

    async def render(self, name: str, report: Report | ComplianceReport, limits: Limits) -> bytes:
        """A report as a file. Raises KeyError without such a format, and :class:`RenderError`."""
        field = "compliance_formats" if isinstance(report, ComplianceReport) else "report_formats"
        life = next((life for life in self._lives.values() if name in getattr(life.contributions, field)), None)
        if life is None:
            raise KeyError(name)
        key = f"report format {name}"
        try:
            life.fence.admit(key)
            async with self._renders:
                body = await render(life.loaded.found, life.raw_options, name, report, limits)
        except HeldBack as error:
            raise RenderError(str(error)) from error
        except RenderError as error:
            life.fence.failed(key, error)
            raise
        life.fence.succeeded(key)
        return body

    # --- life

    async def apply(self, config: Config, *, again: str = "") -> Changes:
        """Make the plugins those of the configuration: load the new, reload the changed, unload the gone.

        ``again`` names one that is to be reloaded whether or not it has changed. Nothing is awaited by the devices.
        """
        async with self._lock:
            found = self._wanted(config)
            removed = [name for name in self._lives if name not in found]
            for name in removed:
                await self._unload(name)
            added: list[str] = []
            reloaded: list[str] = []
            failed: dict[str, str] = {}
            for name, item in found.items():
                life = self._lives.get(name)
                raw = config.plugins.options.get(name, {})
                if life is not None and not _has_changed(life, item, raw) and name != again:
                    continue
                error = await self._load(item, config)
                if error:
                    failed[name] = error
                else:
                    (added if life is None else reloaded).append(name)
            starting = [self._lives[name] for name in (*added, *reloaded)]
            await asyncio.gather(*(life.settled(FIRST_WAIT_S) for life in starting))
            failed |= {life.name: life.shown(life.error) for life in starting if life.error}
            return Changes(
                tuple(name for name in added if name not in failed),
                tuple(removed),
                tuple(name for name in reloaded if name not in failed),
                failed,
            )

    async def close(self) -> None:
        """Unload all of them, the last first; nobody follows any more."""
        self.followers.clear()
        async with self._lock:
            for name in reversed(list(self._lives)):
                await self._unload(name)

    def _wanted(self, config: Config) -> Mapping[str, Found]:
        """Those that are there and enabled; the others are listed as they are."""
        self._chosen, self._out, self._order = choose(config)
        return self._chosen

    async def _load(self, item: Found, config: Config) -> str:
        """Load, or reload, one plugin. The error if that failed; then one that runs goes on as it was."""
        name = item.name
        before = self._lives.get(name)
        try:
            # A strange import may take its time, or for ever; ours that was done once is there at once.
            loaded = (
                load(item, config)
                if item.is_ours and item.module in sys.modules
                else await in_thread(lambda: load(item, config), LOAD_TIMEOUT_S)
            )
        except (LoadError, TimeoutError) as error:
            text = str(error) or f"its import did not end within {LOAD_TIMEOUT_S:g} s"
            text = without_secrets(text, secrets_in(config.plugins.options.get(name, {})))
            advice = error.advice if isinstance(error, LoadError) else N_("It does too much while it is imported.")
            log.error("plugin left out", plugin=name, origin=item.origin, error=text)  # noqa: TRY400  # the text says all
            if before is None or before.state is not PluginState.RUNNING:
                await self._unload(name)
                manifest = error.manifest if isinstance(error, LoadError) else None
                status = PluginStatus(name, item.origin, PluginState.PARKED, manifest, error=text, advice=advice)
                self._out[name] = status
            else:
                before.notes = [*before.loaded.notes, f"It runs as it was: its reload failed. {text} {advice}"]
                before.fingerprint = item.fingerprint()
                before.raw_options = config.plugins.options.get(name, {})
            return text
        await self._unload(name, is_replaced=True)
        life = self._lives[name] = Life(self, loaded, config.plugins.options.get(name, {}))
        for place in item.places():
            self.watch.fences[str(place)] = life.fence
        life.begin()
        return ""

    async def _unload(self, name: str, *, is_replaced: bool = False) -> None:
        """Unload one plugin. What it brought serves on until a successor is there, or has failed."""
        life = self._lives.pop(name, None)
        if life is None:
            return
        self.leaks.pop(name, None)
        if not is_replaced:
            self.publish(name, Contributions())
        await life.end()
        if not is_replaced:
            forget(life.loaded.found)
        self.watch.fences = {place: fence for place, fence in self.watch.fences.items() if fence is not life.fence}

    # --- what the lives tell

    def publish(self, name: str, contributions: Contributions) -> None:
        """Take what a plugin brings now. Raises ValueError if a name or an address is taken, or cannot be one."""
        others = joined(part for other, part in self._brought.items() if other != name)
        if clash := contributions.clash(others):
            raise ValueError(f"the name of its {clash} is taken by another plugin")
        if self._check_pages is not None:
            self._check_pages(tuple(contributions.portals.values()), tuple(others.portals.values()))
        if contributions == self._brought.get(name, Contributions()):
            return
        self._brought[name] = contributions
        in_order = sorted(self._brought, key=lambda known: self._order.index(known) if known in self._order else -1)
        self.contributions = joined(self._brought[known] for known in in_order)
        for follow in self.followers:
            follow()

    def has_another_of(self, found: Found) -> bool:
        """Whether another plugin that is loaded has its code in the same places."""
        places = set(found.places())
        return any(
            life.name != found.name and not places.isdisjoint(life.loaded.found.places())
            for life in self._lives.values()
        )

    def counter(self, name: str) -> Callable[[str], None]:
        """What counts a plugin's errors."""
        metrics = self._metrics

        def count(kind: str) -> None:
            metrics.plugin_errors.labels(name, kind).inc()

        return count

    def note_leak(self, name: str, text: str) -> None:
        """Remember what a plugin did not clean up."""
        self.leaks.setdefault(name, []).append(text)

    def moment(self, at_s: float) -> datetime:
        """The time of day of a moment of the fences' clock."""
        return datetime.now(UTC) + timedelta(seconds=at_s - time.monotonic())

    def measure(self) -> None:
        """Set the gauges that are counted when somebody asks."""
        counts = dict.fromkeys(PluginState, 0)
        for status in self.statuses():
            counts[status.state] += 1
        for state, count in counts.items():
            self._metrics.plugins.labels(state.value).set(count)


def _has_changed(life: Life, found: Found, raw_options: Mapping[str, Any]) -> bool:
    """Whether it must be reloaded: other code, other options, or it is parked and somebody may have mended it."""
    return (
        life.loaded.found != found
        or life.fingerprint != found.fingerprint()
        or dict(life.raw_options) != dict(raw_options)
        or life.state in {PluginState.PARKED, PluginState.RETRYING}
    )


async def _leaving(context: AbstractAsyncContextManager[None]) -> None:
    await context.__aexit__(None, None, None)


def _is_from(task: asyncio.Task[Any], prefixes: Sequence[str]) -> bool:
    """Whether a task runs a coroutine whose code is in one of these places."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and bool(prefixes) and code.co_filename.startswith(tuple(prefixes))
