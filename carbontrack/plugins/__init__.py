"""Loading plugins: first-party ones, installed ones, and a folder of the operator's; each fenced from the others.

pluggy stops at the first plugin that raises. So each plugin is imported, registered and asked on its own: one that
fails is left out and reported by name, and the rest goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy
import structlog

from carbontrack import hookspecs
from carbontrack.hookspecs import PROJECT, AlertRule, PortalView, ReportFormat, SensorDriver

log = structlog.get_logger(__name__)

FIRST_PARTY: Mapping[str, str] = {
    "ct_v1": "carbontrack.plugins.sensors.ct_v1",
    "flat_json": "carbontrack.plugins.sensors.flat_json",
    "limit": "carbontrack.plugins.alerts.limit",
    "rate_of_change": "carbontrack.plugins.alerts.rate_of_change",
    "silence": "carbontrack.plugins.alerts.silence",
    "stuck": "carbontrack.plugins.alerts.stuck",
    "sensor_fault": "carbontrack.plugins.alerts.sensor_fault",
    "over_range": "carbontrack.plugins.alerts.over_range",
    "implausible": "carbontrack.plugins.alerts.implausible",
    "corroboration": "carbontrack.plugins.alerts.corroboration",
    "missing_entries": "carbontrack.plugins.alerts.missing_entries",
    "log": "carbontrack.plugins.notifiers.log",
    "csv": "carbontrack.plugins.reports.readings_csv",
    "portal_factory": "carbontrack.web.portals.factory",
    "portal_hq": "carbontrack.web.portals.hq",
}
"""Plugin name -> module of what ships with Carbon Track."""

Contribution = TypeVar("Contribution", SensorDriver, AlertRule, ReportFormat, PortalView)


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """One plugin as it stands: loaded, or left out with the error that says why."""

    name: str
    origin: str
    hooks: tuple[str, ...] = ()
    error: str = ""


@dataclass(slots=True)
class Plugins:
    """What all plugins contribute, by name."""

    loaded: list[LoadedPlugin] = field(default_factory=list)
    sensors: dict[str, SensorDriver] = field(default_factory=dict)
    alert_rules: dict[str, AlertRule] = field(default_factory=dict)
    report_formats: dict[str, ReportFormat] = field(default_factory=dict)
    portals: dict[str, PortalView] = field(default_factory=dict)


def load_plugins(
    enabled: Sequence[str] | None = None, disabled: Sequence[str] = (), folder: Path | None = None
) -> Plugins:
    """Load every plugin that is enabled; one that fails is in ``loaded`` with its error and contributes nothing."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins()
    for name, origin, load in _found(folder):
        if name in disabled or (enabled is not None and name not in enabled):
            continue
        plugins.loaded.append(_load_one(manager, plugins, name, origin, load))
    for name in sorted(set(enabled or ()) - {plugin.name for plugin in plugins.loaded} - set(disabled)):
        error = "no plugin of this name is installed, in the plugins folder, or part of Carbon Track"
        plugins.loaded.append(LoadedPlugin(name, "configuration", error=error))
    for plugin in plugins.loaded:
        if plugin.error:
            log.error("plugin left out", plugin=plugin.name, origin=plugin.origin, error=plugin.error)
    return plugins


def _found(folder: Path | None) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Name, origin and loader of every plugin there is, first-party first."""
    for name, module in FIRST_PARTY.items():
        yield name, "Carbon Track", partial(importlib.import_module, module)
    for point in entry_points(group=PROJECT):
        yield point.name, f"package {point.dist.name if point.dist else point.value}", point.load
    if folder is not None:
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith("_"):
                yield path.stem, str(path), partial(_import_file, path)


def _import_file(path: Path) -> ModuleType:
    name = f"carbontrack_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_one(
    manager: pluggy.PluginManager, plugins: Plugins, name: str, origin: str, load: Callable[[], Any]
) -> LoadedPlugin:
    """Import, register and ask one plugin; on any error nothing of it stays."""
    if any(plugin.name == name and not plugin.error for plugin in plugins.loaded):
        return LoadedPlugin(name, origin, error=f"there is a plugin named {name!r} already")
    registered = None
    try:
        registered = load()
        manager.register(registered, name=name)
        manager.check_pending()
        others = [plugin for plugin in manager.get_plugins() if plugin is not registered]
        sensors = _asked(manager, "register_sensors", others, plugins.sensors, SensorDriver)
        rules = _asked(manager, "register_alert_rules", others, plugins.alert_rules, AlertRule)
        formats = _asked(manager, "register_report_formats", others, plugins.report_formats, ReportFormat)
        portals = _asked(manager, "register_portals", others, plugins.portals, PortalView)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a plugin may do anything while it is imported
        if registered is not None and manager.is_registered(registered):
            manager.unregister(registered)
        return LoadedPlugin(name, origin, error=f"{type(error).__name__}: {error}")
    plugins.sensors |= sensors
    plugins.alert_rules |= rules
    plugins.report_formats |= formats
    plugins.portals |= portals
    callers = manager.get_hookcallers(registered) or []
    return LoadedPlugin(name, origin, tuple(sorted(caller.name for caller in callers)))


def _asked(
    manager: pluggy.PluginManager,
    hook: str,
    others: Sequence[object],
    known: Mapping[str, Contribution],
    kind: type[Contribution],
) -> dict[str, Contribution]:
    """What the one plugin that is not among ``others`` contributes to a hook, by name."""
    found: dict[str, Contribution] = {}
    for answer in manager.subset_hook_caller(hook, others)():
        for item in answer:
            if not isinstance(item, kind):
                raise TypeError(f"{hook} must give {kind.__name__} objects, not {type(item).__name__}")
            if item.name in known or item.name in found:
                raise ValueError(f"{hook}: the name {item.name!r} is taken by another plugin")
            found[item.name] = item
    return found
