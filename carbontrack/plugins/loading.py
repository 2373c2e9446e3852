"""From a plugin that was found to one that is loaded: import, manifest, requirements, options, hooks."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pluggy
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel

from carbontrack import hookspecs
from carbontrack.config import Config, ConfigError, Key, Problem, check_options
from carbontrack.hookspecs import PROJECT, Kind, Manifest, Tier
from carbontrack.plugins.contributions import HOOKS
from carbontrack.plugins.finding import Found, import_plugin

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
OPTIONS_VERSION = "options_version"
"""The key among a plugin's options that says of which form they are."""


_SPECS = ModuleType("hooks")
_SPECS.__dict__.update({name: getattr(hookspecs, name) for name in (*HOOKS, "set_up", "migrate_options")})
"""The hooks alone: pluggy looks at every name of what it is given, for each plugin anew."""


class LoadError(Exception):
    """A plugin cannot be loaded; ``advice`` says what a person can do. Its ``manifest`` may be known all the same."""

    def __init__(self, error: str, advice: str) -> None:
        super().__init__(error)
        self.advice = advice
        self.manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin whose code, manifest and options are there. ``manager`` has its hooks and nobody else's."""

    found: Found
    manifest: Manifest
    manager: pluggy.PluginManager
    options: BaseModel | None
    notes: tuple[str, ...] = ()


def load(found: Found, config: Config) -> Loaded:
    """Import a plugin and check all that it says. Slow, as imports are. Raises :class:`LoadError`."""
    return loaded_from(imported(found), found, config)


def loaded_from(module: Any, found: Found, config: Config) -> Loaded:
    """Check all that a plugin says whose module is there. Raises :class:`LoadError`."""
    manifest = checked_manifest(module, found.name)
    try:
        for requirement in manifest.requirements:
            _check_requirement(requirement)
        manager = _managed(module, found.name)
        options, notes = _options(found, manifest, manager, config)
    except LoadError as error:
        error.manifest = manifest
        raise
    return Loaded(found, manifest, manager, options, notes)


def _managed(module: Any, name: str) -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(_SPECS)
    try:
        manager.register(module, name=name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        raise LoadError(str(error), f"The hooks are: {', '.join([*HOOKS, 'set_up', 'migrate_options'])}.") from error
    return manager


def imported(found: Found) -> Any:
    """A plugin's module. Raises :class:`LoadError` for whatever its code raises."""
    try:
        return import_plugin(found)
    except ImportError as error:
        advice = f"Install what it needs ({error.name or 'see the error'}) beside Carbon Track, then reload."
        raise LoadError(f"{type(error).__name__}: {error}", advice) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        advice = "Its code raises while it is imported. Mend it or ask its author, then reload."
        raise LoadError(f"{type(error).__name__}: {error}", advice) from error


# --- manifest


def checked_manifest(module: Any, name: str) -> Manifest:
    """A module's manifest. Raises :class:`LoadError` with all that is wrong with it."""
    manifest = getattr(module, "MANIFEST", None)
    if not isinstance(manifest, Manifest):
        example = f'MANIFEST = Manifest(name="{name}", version="1.0", kinds=(Kind.SENSOR,), title="...")'
        raise LoadError("it has no MANIFEST", f"Add to the module: {example}.")
    problems = [problem for check in _CHECKS if (problem := check(manifest))]
    if manifest.name != name:
        problems.append(f"the name is {manifest.name!r}, but the plugin was found as {name!r}: they must be the same")
    if problems:
        raise LoadError(f"its manifest is wrong: {'; '.join(problems)}", "Change the manifest, then reload.")
    return manifest


def _name(manifest: Any) -> str:
    if isinstance(manifest.name, str) and NAME.fullmatch(manifest.name):
        return ""
    return "name must be small letters, digits and '_', begin with a letter, and have 40 characters at most"


def _version(manifest: Any) -> str:
    try:
        Version(manifest.version)
    except (InvalidVersion, TypeError):
        return f"version {manifest.version!r} is not one such as '1.2.0'"
    return ""


def _kinds(manifest: Any) -> str:
    kinds = manifest.kinds
    if isinstance(kinds, tuple) and kinds and all(isinstance(kind, Kind) for kind in kinds):
        return ""
    return f"kinds must be a tuple of {', '.join(f'Kind.{kind.name}' for kind in Kind)}"


def _texts(manifest: Any) -> str:
    if not isinstance(manifest.title, str) or not manifest.title.strip():
        return "title must say in a few words what it is"
    for name in ("codeowners", "requirements"):
        texts = getattr(manifest, name)
        if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
            return f"{name} must be a tuple of texts"
    return ""


def _model(manifest: Any) -> str:
    model = manifest.options_model
    if model is None:
        return ""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return "options_model must be a pydantic model"
    if model.model_config.get("extra") != "forbid":
        return (
            'options_model must have model_config = ConfigDict(extra="forbid"), so that a mistyped option is an error'
        )
    if OPTIONS_VERSION in model.model_fields:
        return f"options_model must have no field {OPTIONS_VERSION!r}: the core reads it"
    return ""


def _tier(manifest: Any) -> str:
    if manifest.tier is not None and not isinstance(manifest.tier, Tier):
        return f"tier must be of {', '.join(f'Tier.{tier.name}' for tier in Tier)}, or None"
    return "" if isinstance(manifest.options_version, int) else "options_version must be a whole number"


_CHECKS: tuple[Callable[[Any], str], ...] = (_name, _version, _kinds, _texts, _model, _tier)


def _check_requirement(text: str) -> None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise LoadError(f"its requirement {text!r} cannot be read: {error}", "Write it as pip takes it.") from error
    if requirement.marker is not None and not requirement.marker.evaluate():
        return
    advice = f"Install it beside Carbon Track (pip install '{text}'), then reload."
    try:
        there = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        raise LoadError(f"it needs {text}, which is not installed", advice) from None
    if not requirement.specifier.contains(there, prereleases=True):
        raise LoadError(f"it needs {text}, but {there} is installed", advice)


# --- options


def _options(
    found: Found, manifest: Manifest, manager: pluggy.PluginManager, config: Config
) -> tuple[BaseModel | None, tuple[str, ...]]:
    """The plugin's options as its model has them, and what to tell the operator about them."""
    key = ("plugins", "options", found.name)
    given = dict(config.plugins.options.get(found.name, {}))
    version = given.pop(OPTIONS_VERSION, 1)
    notes: tuple[str, ...] = ()
    try:
        if version != manifest.options_version:
            given = _migrated(config, manifest, manager, given, version)
            changed = ", ".join(sorted(given)) or "none"
            form = f"{OPTIONS_VERSION}: {manifest.options_version}"
            notes = (f"Its options are of an older form. They work; better write: {form} and, as needed, {changed}.",)
        return _checked(config, key, manifest, given), notes
    except ConfigError as error:
        raise LoadError(str(error), "Change the configuration there, then reload.") from error


def _checked(config: Config, key: Key, manifest: Manifest, given: dict[str, Any]) -> BaseModel | None:
    if manifest.options_model is not None:
        return check_options(config, key, manifest.options_model, given)
    if given:
        raise ConfigError([Problem(config.place(key), key, "the plugin takes no options: remove them")])
    return None


def _migrated(
    config: Config, manifest: Manifest, manager: pluggy.PluginManager, given: dict[str, Any], version: Any
) -> dict[str, Any]:
    key = ("plugins", "options", manifest.name, OPTIONS_VERSION)
    newest = manifest.options_version
    if type(version) is not int or not 1 <= version <= newest:
        text = f"must be a whole number from 1 to {newest}, which is the form of the installed version"
        raise ConfigError([Problem(config.place(key), key, text)])
    try:
        answers = manager.hook.migrate_options(options=given, version=version)
    except Exception as error:
        advice = f"Write the options in its form of today, with {OPTIONS_VERSION}: {newest}."
        raise LoadError(f"its options could not be migrated: {type(error).__name__}: {error}", advice) from error
    migrated = next((answer for answer in answers if isinstance(answer, dict)), None)
    if migrated is None:
        advice = f"Write the options in its form of today, with {OPTIONS_VERSION}: {newest}."
        raise LoadError(f"it does not know how to migrate options of form {version} to {newest}", advice)
    return migrated
