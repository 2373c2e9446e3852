"""Where plugins are: among our own, in installed packages, in the operator's folder. To find one imports nothing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from types import CodeType
from typing import Any

import structlog

from carbontrack.config import Config
from carbontrack.hookspecs import PROJECT, PluginState, PluginStatus

log = structlog.get_logger(__name__)

FIRST_PARTY: Mapping[str, str] = {
    "ct_v1": "carbontrack.plugins.sensors.ct_v1",
    "flat_json": "carbontrack.plugins.sensors.flat_json",
    "frames": "carbontrack.plugins.sensors.frames",
    "legacy": "carbontrack.plugins.sensors.legacy",
    "max31855": "carbontrack.plugins.sensors.max31855",
    "max31856": "carbontrack.plugins.sensors.max31856",
    "max6675": "carbontrack.plugins.sensors.max6675",
    "mhz19": "carbontrack.plugins.sensors.mhz19",
    "modbus_meter": "carbontrack.plugins.sensors.modbus_meter",
    "ndir20": "carbontrack.plugins.sensors.ndir20",
    "pulse_anemometer": "carbontrack.plugins.sensors.pulse_anemometer",
    "sdp8xx": "carbontrack.plugins.sensors.sdp8xx",
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
    "portal": "carbontrack.plugins.notifiers.portal",
    "email": "carbontrack.plugins.notifiers.email",
    "sms": "carbontrack.plugins.notifiers.sms",
    "webhook": "carbontrack.plugins.notifiers.webhook",
    "device": "carbontrack.plugins.notifiers.device",
    "csv": "carbontrack.plugins.reports.readings_csv",
    "compliance_csv": "carbontrack.plugins.reports.compliance_csv",
    "compliance_json": "carbontrack.plugins.reports.compliance_json",
    "compliance_pdf": "carbontrack.plugins.reports.compliance_pdf",
    "compliance_xlsx": "carbontrack.plugins.reports.compliance_xlsx",
    "portal_factory": "carbontrack.web.portals.factory",
    "portal_hq": "carbontrack.web.portals.hq",
    "portal_plugins": "carbontrack.web.portals.plugins",
}
"""Plugin name -> module of what ships with Carbon Track."""

_OURS = "Carbon Track"
_FOLDER_PREFIX = "carbontrack_plugin_"


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin that is there: its name, whose it is, and either the module to import or the file or folder to read."""

    name: str
    origin: str
    module: str = ""
    path: Path | None = None
    version: str = ""
    """The version of the package that brings it."""

    @property
    def is_ours(self) -> bool:
        return self.origin == _OURS

    def files(self) -> list[Path]:
        """The Python files that a change of would change the plugin."""
        return sorted(file for place in self.places() for file in ([place] if place.is_file() else place.rglob("*.py")))

    def places(self) -> list[Path]:
        """The file, or the folders, that the plugin's code is in."""
        if self.path is not None:
            return [self.path]
        name = self.module.partition(":")[0]
        try:
            spec = importlib.util.find_spec(name if self.is_ours else name.partition(".")[0])
        except (ImportError, ValueError):
            return []
        if spec is None:
            return []
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        return folders or ([Path(spec.origin)] if spec.origin else [])

    def fingerprint(self) -> tuple[Any, ...]:
        """Something that is another when the code is another."""
        if self.is_ours:
            return ()
        stats = []
        for file in self.files():
            try:
                stat = file.stat()
            except OSError:
                continue  # it is being replaced
            stats.append((str(file), stat.st_mtime_ns, stat.st_size))
        return self.version, *stats


def find_plugins(folder: Path | None = None) -> Iterator[Found]:
    """Every plugin there is, first-party first, then installed packages, then the folder."""
    importlib.invalidate_caches()  # a package may have been installed since the start
    for name, module in FIRST_PARTY.items():
        yield Found(name, _OURS, module)
    for point in entry_points(group=PROJECT):
        origin = f"package {point.dist.name if point.dist else point.value}"
        yield Found(point.name, origin, point.value, version=point.dist.version if point.dist else "")
    if folder is not None:
        yield from _in_folder(folder)


def _in_folder(folder: Path) -> Iterator[Found]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    for path in paths:
        if path.name.startswith(("_", ".")):
            continue
        if (path / "pyproject.toml").is_file():
            yield from _in_project(path)
        elif path.suffix == ".py" or (path / "__init__.py").is_file():
            yield Found(path.stem if path.suffix == ".py" else path.name, str(path), path=path)


def _in_project(folder: Path) -> Iterator[Found]:
    """What a project would bring if it were installed; its modules know each other by relative imports only."""
    try:
        points = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
        modules = {str(name): str(module).partition(":")[0] for name, module in points[PROJECT].items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return  # a project, but none of a plugin
    for name, module in modules.items():
        for source in (folder / "src", folder):
            place = source.joinpath(*module.split("."))
            if (place / "__init__.py").is_file():
                yield Found(name, str(folder), path=place)
                break
            if (file := place.with_suffix(".py")).is_file():
                yield Found(name, str(folder), path=file)
                break


def choose(config: Config) -> tuple[dict[str, Found], dict[str, PluginStatus], list[str]]:
    """The plugins to load, how the others stand, and all names in order."""
    settings = config.plugins
    chosen: dict[str, Found] = {}
    out: dict[str, PluginStatus] = {}
    order: list[str] = []
    for found in find_plugins(settings.folder):
        name = found.name
        if name in chosen or name in out:
            text = f"There is a second plugin of this name, which is not loaded: {found.origin}"
            log.error("plugin left out: there is one of this name already", plugin=name, origin=found.origin)
            clashing = f"{name} ({found.origin})"
            out[clashing] = PluginStatus(clashing, found.origin, PluginState.PARKED, error=text, advice="Rename it.")
            order.append(clashing)
            continue
        order.append(name)
        if name in settings.disabled or (settings.enabled is not None and name not in settings.enabled):
            out[name] = PluginStatus(name, found.origin, PluginState.DISABLED)
        else:
            chosen[name] = found
    for name in sorted({*(settings.enabled or ()), *settings.options} - {*order} - {*settings.disabled}):
        key = ("plugins", "enabled") if name in (settings.enabled or ()) else ("plugins", "options", name)
        error = f"{config.place(key)}: there is no plugin {name!r}, installed, in the folder, or part of Carbon Track"
        advice = "Correct the name, install the plugin, or remove it from the configuration."
        out[name] = PluginStatus(name, "configuration", PluginState.PARKED, error=error, advice=advice)
        order.append(name)
    return chosen, out, order


def import_plugin(found: Found) -> Any:
    """The plugin's module, imported anew unless it is ours. Raises whatever its code raises."""
    if found.path is not None:
        return _import_path(found.name, found.path)
    name, _, attribute = found.module.partition(":")
    if not found.is_ours and _brings(found, top := name.partition(".")[0]):
        _forget(top)
    module: Any = importlib.import_module(name)
    for part in filter(None, attribute.split(".")):
        module = getattr(module, part)
    return module


def _brings(found: Found, top: str) -> bool:
    """Whether the package of an entry point brings the module that it names: an entry point may name anybody's."""
    if top in sys.stdlib_module_names or top == PROJECT:
        return False
    owners = packages_distributions().get(top)  # nothing is known of some packages in development
    return owners is None or found.origin in {f"package {owner}" for owner in owners}


def forget(found: Found) -> None:
    """Let go of the code of a plugin from the folder. Others may use a package's modules."""
    if found.path is not None:
        _forget(_FOLDER_PREFIX + found.name)


def _forget(top: str) -> None:
    for name in [name for name in sys.modules if name == top or name.startswith(top + ".")]:
        del sys.modules[name]


class _Uncached(SourceFileLoader):
    """Compiles the source each time: a cached one is told apart by its second and size only, which is too coarse."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _import_path(name: str, path: Path) -> Any:
    name = _FOLDER_PREFIX + name
    _forget(name)
    file, locations = (path / "__init__.py", [str(path)]) if path.is_dir() else (path, None)
    spec: ModuleSpec | None = importlib.util.spec_from_file_location(
        name, file, loader=_Uncached(name, str(file)), submodule_search_locations=locations
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(name)
        raise
    return module
