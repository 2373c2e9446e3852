"""What is checked: a plugin in a file, a folder or a project, or an installed one, and what is kept beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import carbontrack
from carbontrack.config import Config
from carbontrack.fence import Watch
from carbontrack.hookspecs import FrameDecoder, Kind
from carbontrack.plugins import Contributions, collect_alone, load_plugins
from carbontrack.plugins.finding import FIRST_PARTY, Found, find_plugins
from carbontrack.plugins.loading import Loaded, checked_manifest, imported, load
from carbontrack.testing.examples import example_options
from carbontrack.testing.loading import ProjectError, as_installed, found_at, read_project
from carbontrack.testing.vectors import Vector, read_vectors

REPOSITORY = Path(carbontrack.__file__).parent.parent
MODULE_FOLDERS = ("vectors", "tests/vectors")


class NothingToCheck(ValueError):
    """There is no plugin at a place; the text says what was looked for."""


@dataclass
class Subject:
    """One plugin. ``folder`` is where its tests, its vectors and its documents are; None where nobody knows."""

    found: Found
    folder: Path | None
    given: Mapping[str, Any]
    """Its options in the configuration."""
    others: Mapping[str, FrameDecoder] = field(default_factory=dict)
    """The frame decoders of all plugins that ship with Carbon Track."""
    watch: Watch = field(default_factory=Watch)

    @property
    def name(self) -> str:
        return self.found.name

    @cached_property
    def options(self) -> dict[str, Any]:
        """Options to try it with: those of the configuration, or else an example. Raises what the model raises."""
        return {**self.given, **_example(self.found, self.given)}

    def config(self, options: Mapping[str, Any] | None = None) -> Config:
        """A configuration with this plugin's options, its folder if it is in one, and itself enabled."""
        folder = self.found.path.parent if self.found.path is not None else None
        chosen = dict(self.options if options is None else options)
        return Config.model_validate({"plugins": {"folder": folder, "options": {self.name: chosen} if chosen else {}}})

    @cached_property
    def loaded(self) -> Loaded:
        """It, loaded. Raises :class:`~carbontrack.plugins.loading.LoadError`."""
        return load(self.found, self.config())

    @cached_property
    def brought(self) -> Contributions:
        """What it brings. Raises what its hooks raise."""
        return collect_alone(self.loaded, self.others, self.watch)

    def brings(self, kind: Kind) -> bool:
        return kind in self.loaded.manifest.kinds

    def decoder_with(self, name: str, options: Mapping[str, Any]) -> FrameDecoder:
        """One of its frame decoders, with other options."""
        if not options:
            return self.brought.frame_decoders[name]
        loaded = load(self.found, self.config({**self.options, **options}))
        return collect_alone(loaded, self.others, self.watch).frame_decoders[name]

    # --- what is beside it

    def vectors(self, name: str, *, of_frames: bool = False) -> list[Vector]:
        """The vectors of a driver or decoder; empty without any. Raises :class:`VectorError`."""
        if self.folder is None:
            return []
        names = [f"{name}.json", name]
        paths = [f"frames/{name}.json", *names] if of_frames else names
        for place in MODULE_FOLDERS:
            for path in paths:
                file = self.folder / place / path
                if file.exists():
                    return read_vectors(file)
        return []

    def tests(self) -> list[Path]:
        """Its own tests: all of a project's, or those that name it where several plugins share a folder."""
        if self.folder is None:
            return []
        files = [file for place in (self.folder, self.folder / "tests") for file in sorted(place.glob("test_*.py"))]
        if self.is_project and not self.found.is_ours:
            return files
        return [file for file in files if self.is_named_in(file)]

    def is_named_in(self, file: Path) -> bool:
        """Whether a file speaks of it, or of something that it brings."""
        names = "|".join(re.escape(name) for name in (self.name, *self.brought.names()))
        return re.search(rf"(?<![\w-])({names})(?![\w-])", file.read_text(encoding="utf-8")) is not None

    @property
    def is_project(self) -> bool:
        return self.folder is not None and (self.folder / "pyproject.toml").is_file()

    def document(self) -> Path | None:
        """The file that explains it: what the manifest names, or a README."""
        if self.folder is None:
            return None
        named = self.loaded.manifest.documentation
        for name in (named, "README.md", "README.rst", f"{self.name}.md"):
            if name and "://" not in name and (self.folder / name).is_file():
                return self.folder / name
        return None

    @property
    def package(self) -> Path | None:
        """The folder of the package that its code is in; None for a single file."""
        if self.found.is_ours:
            return Path(carbontrack.__file__).parent
        return next((place for place in self.found.places() if place.is_dir()), None)


@contextmanager
def subjects(places: Sequence[str], config: Config) -> Iterator[list[Subject]]:
    """The plugins at these places: paths, or names. Raises :class:`NothingToCheck`.

    A project's plugins can be found until the block ends.
    """
    others = load_plugins(_with_examples()).contributions.frame_decoders
    with ExitStack() as stack:
        chosen: list[tuple[Found, Path | None]] = []
        for place in places:
            path = Path(place)
            if path.exists():
                chosen += _at(path, stack)
            else:
                chosen += _named(place, config, stack)
        yield [Subject(found, folder, config.plugins.options.get(found.name, {}), others) for found, folder in chosen]


def _with_examples() -> Config:
    """Ours, those that need options with an example of them."""
    ours = [found for found in find_plugins() if found.is_ours]
    options = {found.name: example for found in ours if (example := _example(found, {}))}
    return Config.model_validate({"plugins": {"options": options}})


def _example(found: Found, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options that a plugin takes; none for one that takes none. Raises LoadError and what its model raises."""
    model = checked_manifest(imported(found), found.name).options_model
    return example_options(model, given) if model is not None else {}


def _at(path: Path, stack: ExitStack) -> list[tuple[Found, Path | None]]:
    if (path / "pyproject.toml").is_file():
        try:
            project = stack.enter_context(as_installed(path))
        except ProjectError as error:
            raise NothingToCheck(str(error)) from error
        there = [found for found in find_plugins() if found.name in project.points and not found.is_ours]
        origin = f"package {project.distribution}"
        return [(found, project.folder) for found in there if found.origin == origin]
    try:
        found = found_at(path)
    except FileNotFoundError as error:
        raise NothingToCheck(f"{error}, nor has it a pyproject.toml.") from error
    beside = path.resolve() if path.is_dir() and (path / "tests").is_dir() else path.resolve().parent
    return [(found, beside)]


def _project_of(found: Found) -> Path | None:
    """The project that a plugin's code is in: one in the folder of plugins, or one that is installed as editable."""
    for place in found.places():
        for folder in list(place.parents)[:2]:
            with suppress(ProjectError):
                if found.name in read_project(folder).points:
                    return folder
    return None


def _named(name: str, config: Config, stack: ExitStack) -> list[tuple[Found, Path | None]]:
    there = list(find_plugins(config.plugins.folder))
    for found in there:
        if found.name == name:
            if found.is_ours:
                is_checkout = (REPOSITORY / "pyproject.toml").is_file() and (REPOSITORY / "tests").is_dir()
                return [(found, REPOSITORY if is_checkout else None)]
            if (project := _project_of(found)) is not None:
                return [(item, folder) for item, folder in _at(project, stack) if item.name == name]
            return [(found, found.path.parent if found.path is not None else None)]
    others = sorted({found.name for found in there} - FIRST_PARTY.keys())
    raise NothingToCheck(
        f"There is no file or folder {name!r}, and no plugin of this name. Those that ship with Carbon Track are "
        f"{', '.join(FIRST_PARTY)}; others that are installed: {', '.join(others) or 'none'}."
    )
