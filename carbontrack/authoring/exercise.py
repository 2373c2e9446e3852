"""A plugin in a running core: set up, used in all that it brings, and unloaded, with a stopwatch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from carbontrack.authoring.subject import Subject
from carbontrack.config import Config
from carbontrack.fence import Fence, Watch
from carbontrack.hookspecs import AlertRule, FactoryRule, PluginState, PluginStatus, PortalView
from carbontrack.model import Role
from carbontrack.testing.core import RunningCore, eventually, running_core
from carbontrack.testing.examples import example_options
from carbontrack.testing.loading import leaks
from carbontrack.testing.vectors import VectorError

FLAT = '{"co2_ppm": 98000, "temperature_c": 183.25, "velocity_ms": 4.12}'
MOST_VECTORS = 50
GOOD_STATES = {PluginState.RUNNING, PluginState.RETRYING}
NOT_FOR_ALL = {200, 404}
"""Answers to a path with something to be filled in: what was filled in need not be there."""


class Stopwatch(Watch):
    """A watch that remembers the longest call of one plugin."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._now: tuple[Fence, float] | None = None
        self.longest_s = 0.0
        super().__init__()

    @property  # every change of who holds the loop is seen here
    def running(self) -> tuple[Fence, float] | None:
        return self._now

    @running.setter
    def running(self, value: tuple[Fence, float] | None) -> None:
        before, self._now = self._now, value
        # Who is named again after another call has ended is not at the beginning, but goes on.
        has_ended = before is not None and (value is None or value[1] < before[1])
        if has_ended and before is not None and before[0].name == self._name:
            self.longest_s = max(self.longest_s, time.perf_counter() - before[1])


@dataclass
class Exercise:
    """How a plugin did."""

    longest_s: float = 0.0
    """The longest time for which one call of it held the loop."""
    problems: list[str] = field(default_factory=list)
    page_problems: list[str] = field(default_factory=list)
    pages: int = 0
    how_it_stood: str = ""


async def exercised(subject: Subject) -> Exercise:
    """Run a core with the plugin, use it, and stop the core."""
    done = Exercise()
    watch = Stopwatch(subject.name)
    try:
        async with leaks():
            async with running_core(_config(subject), watch=watch) as core:
                await _use(core, subject, done, watch)
                host = core.plugins
            done.problems += host.leaks.get(subject.name, [])
    except AssertionError as error:
        done.problems.append(str(error))
    done.longest_s = watch.longest_s
    return done


def _config(subject: Subject) -> Config:
    rules: list[AlertRule | FactoryRule] = [
        *subject.brought.alert_rules.values(),
        *subject.brought.factory_rules.values(),
    ]
    alerts = []
    for rule in rules:
        with suppress(ValidationError):  # told by the rule "evaluates"
            options = example_options(rule.options_model)
            alerts.append({"name": f"check-{rule.name}", "rule": rule.name, "hold_s": 0, "options": options})
    decoders = {decoder for decoder in subject.others if decoder not in subject.brought.frame_decoders}
    return _with(subject.config(), names=[subject.name, "flat_json", *sorted(decoders & {"mhz19"})], alerts=alerts)


def _with(config: Config, *, names: Sequence[str], alerts: Sequence[Mapping[str, Any]]) -> Config:
    plugins = {
        "enabled": list(dict.fromkeys(names)),
        "folder": config.plugins.folder,
        "options": dict(config.plugins.options),
    }
    return Config.model_validate({"plugins": plugins, "alerts": list(alerts)})


async def _use(core: RunningCore, subject: Subject, done: Exercise, watch: Stopwatch) -> None:
    status = _status(core, subject)
    if status.origin != subject.found.origin:
        done.problems.append(f"another plugin has its name: {status.origin}")
        return
    done.how_it_stood = status.state.value + (f": {status.error}" if status.error else "")
    if status.state not in GOOD_STATES:
        done.problems.append(f"it is {done.how_it_stood}")
        return
    await core.register("flat", "flat_json")
    core.tell(FLAT, device_id="flat")
    await core.readings("flat")
    await core.watch.look()
    for name in subject.brought.sensors:
        await core.register(f"dev-{name.replace('_', '-')}", name)
        with suppress(VectorError):
            for vector in subject.vectors(name)[:MOST_VECTORS]:
                core.tell(vector.body, device_id=f"dev-{name.replace('_', '-')}")
    await eventually(lambda: core.fleet.waiting_since() is None)
    for view in subject.brought.portals.values():
        await _look_at(core, view, done, watch)
    status = _status(core, subject)
    if status.state not in GOOD_STATES or status.errors:
        done.problems.append(f"it is {status.state.value} after use: {status.error or f'{status.errors} errors'}")


def _status(core: RunningCore, subject: Subject) -> PluginStatus:
    return next(status for status in core.plugins.statuses() if status.name == subject.name)


async def _look_at(core: RunningCore, view: PortalView, done: Exercise, watch: Stopwatch) -> None:
    path = view.path.replace("{slug}", core.factory.slug).replace("{factory}", core.factory.slug)
    is_filled_in = "{" not in path
    while "{" in path:
        head, _, tail = path.partition("{")
        path = head + "1" + tail.partition("}")[2]
    longest_s = watch.longest_s
    for role in view.roles:  # the first look compiles the templates, which is jinja's time, and once
        await core.page(path, role)
        break
    watch.longest_s = longest_s
    for role in Role:
        status, _ = await core.page(path, role)
        done.pages += 1
        expected = {403, 404} if role not in view.roles else {200} if is_filled_in else NOT_FOR_ALL
        if status not in expected:
            wanted = " or ".join(map(str, sorted(expected)))
            cause = _cause(core, view)
            done.page_problems.append(f"{path} answers {status} to {role.value}, and not {wanted}{cause}")


def _cause(core: RunningCore, view: PortalView) -> str:
    held = [status.error for status in core.plugins.statuses() if f"page {view.name}" in status.brings and status.error]
    return f": {held[0]}" if held else ""
