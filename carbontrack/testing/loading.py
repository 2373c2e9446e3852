"""One plugin by itself: loaded from wherever its author has it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from carbontrack.config import Config
from carbontrack.hookspecs import PROJECT, FrameDecoder, Manifest
from carbontrack.plugins import Contributions, collect_alone
from carbontrack.plugins.finding import Found, find_plugins
from carbontrack.plugins.loading import Loaded, load, loaded_from

ORIGIN = "a test"
POOLS = ("asyncio_", "uvloop_")
PATIENCE_S = 5.0
"""For how long what should end may take until it counts as left behind."""


class ProjectError(ValueError):
    """A folder is no project of a plugin; the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin with its manifest, its options as its model has them, and what it brings, by name."""

    manifest: Manifest
    options: Any
    contributions: Contributions


def load_plugin(
    plugin: ModuleType | Path | str,
    options: Mapping[str, Any] | None = None,
    *,
    frame_decoders: Mapping[str, FrameDecoder] | None = None,
) -> LoadedPlugin:
    """Load a plugin as the core does, without setting it up.

    ``plugin`` is its module, its file or package folder, or the name of an installed one. ``options`` are as the
    configuration would have them. ``frame_decoders`` are those of others. Raises
    :class:`~carbontrack.plugins.loading.LoadError`, and what its ``register_`` hooks raise.
    """
    loaded = loaded_plugin(plugin, options or {})
    return LoadedPlugin(loaded.manifest, loaded.options, collect_alone(loaded, frame_decoders))


def loaded_plugin(plugin: ModuleType | Path | str, options: Mapping[str, Any]) -> Loaded:
    """The same, before it is asked for what it brings."""
    if isinstance(plugin, ModuleType):
        manifest = getattr(plugin, "MANIFEST", None)
        name = manifest.name if isinstance(manifest, Manifest) else plugin.__name__.rpartition(".")[2]
        return loaded_from(plugin, Found(name, ORIGIN, plugin.__name__), _with_options(name, options))
    found = found_at(plugin) if isinstance(plugin, Path) else found_named(plugin)
    return load(found, _with_options(found.name, options))


def _with_options(name: str, options: Mapping[str, Any]) -> Config:
    return Config.model_validate({"plugins": {"options": {name: dict(options)}}})


def found_at(path: Path) -> Found:
    """The plugin in a file or a package folder. Raises FileNotFoundError."""
    path = path.resolve()
    if path.suffix != ".py" and not (path / "__init__.py").is_file():
        raise FileNotFoundError(f"{path} is neither a Python file nor a folder with an __init__.py")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return Found(path.stem if path.suffix == ".py" else path.name, str(path), path=path)


def found_named(name: str, folder: Path | None = None) -> Found:
    """A plugin that ships with Carbon Track, is installed, or is in a folder. Raises KeyError without one."""
    for found in find_plugins(folder):
        if found.name == name:
            return found
    raise KeyError(name)


# --- a project that is not installed


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a ``pyproject.toml`` that names plugins."""

    folder: Path
    distribution: str
    version: str
    points: Mapping[str, str]
    """Plugin name -> module."""

    @property
    def source(self) -> Path:
        """The folder that its modules are imported from."""
        return self.folder / "src" if (self.folder / "src").is_dir() else self.folder


def read_project(folder: Path) -> Project:
    """What a project's ``pyproject.toml`` says. Raises :class:`ProjectError`."""
    file = folder.resolve() / "pyproject.toml"
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProjectError(f"{file}: {error}") from error
    project = content.get("project", {})
    points = project.get("entry-points", {}).get(PROJECT, {})
    if not points:
        raise ProjectError(
            f"{file} names no plugin: add [project.entry-points.{PROJECT}] with a line such as "
            'my_sensor = "my_package.my_sensor"'
        )
    name = project.get("name", folder.resolve().name)
    return Project(folder.resolve(), name, str(project.get("version", "0")), dict(points))


@contextmanager
def as_installed(folder: Path) -> Iterator[Project]:
    """A project's plugins are found as if pip had installed them, until the block ends.

    Nothing is installed: the project's source comes first on Python's path, with what pip would note of it.
    """
    project = read_project(folder)
    before = set(sys.modules)
    with tempfile.TemporaryDirectory(prefix="carbontrack-project-") as site:
        name = project.distribution.replace("-", "_")
        info = Path(site, f"{name}-{project.version}.dist-info")
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {project.distribution}\nVersion: {project.version}\n"
        (info / "METADATA").write_text(head, encoding="utf-8")
        lines = [f"[{PROJECT}]", *(f"{name} = {module}" for name, module in project.points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        added = [site, str(project.source)]
        sys.path[:0] = added
        try:
            yield project
        finally:
            for place in added:
                with suppress(ValueError):
                    sys.path.remove(place)
            tops = {module.partition(":")[0].partition(".")[0] for module in project.points.values()}
            for module in [module for module in sys.modules if module not in before]:
                if module.partition(".")[0] in tops:
                    del sys.modules[module]
            importlib.invalidate_caches()


# --- what is left behind


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds at one moment."""

    tasks: frozenset[asyncio.Task[Any]]
    threads: frozenset[threading.Thread]
    files: frozenset[tuple[str, str]]

    @classmethod
    def now(cls) -> Held:
        """Tasks, threads and open files; the threads of the loop's own pool, which wait for work, are nobody's."""
        threads = frozenset(thread for thread in threading.enumerate() if not thread.name.startswith(POOLS))
        tasks = asyncio.all_tasks() - {asyncio.current_task()}  # whoever looks may be another one at the end
        return cls(frozenset(tasks), threads, frozenset(_open_files()))

    def beyond(self, other: Held) -> list[str]:
        """What is held here and was not there, in words."""
        return [
            *(f"task {task.get_name()}" for task in self.tasks - other.tasks if not task.done()),
            *(f"thread {thread.name}" for thread in self.threads - other.threads if thread.is_alive()),
            *(f"open file {target}" for _, target in sorted(self.files - other.files)),
        ]


def _open_files() -> Iterator[tuple[str, str]]:
    """Number and target of each open file; none on systems that do not tell."""
    try:
        links = list(Path("/proc/self/fd").iterdir())
    except OSError:
        return
    for link in links:
        with suppress(OSError):  # the one that the listing itself used
            target = str(link.readlink())
            if not target.startswith("/dev/"):  # null and urandom, which libraries open once
                yield link.name, target


@asynccontextmanager
async def leaks(patience_s: float | None = None) -> AsyncIterator[None]:
    """Fail with AssertionError if the block leaves a task, a thread or an open file behind."""
    before = Held.now()
    yield
    deadline = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
    while left := Held.now().beyond(before):
        assert time.monotonic() < deadline, f"left behind: {', '.join(left)}"
        await asyncio.sleep(0.01)
