"""From files and variables to a checked :class:`~carbontrack.config.settings.Config`, or to all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from carbontrack.config.fields import Words
from carbontrack.config.reference import Key, expects, find, options, section_in
from carbontrack.config.settings import Config
from carbontrack.config.sources import Problem, Sources, did_you_mean


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` is all that is wrong with it; ``str()`` gives one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        # Files by line, then variables, which have none.
        in_order = sorted(
            problems, key=lambda problem: (not problem.place.line, problem.place.source, problem.place.line)
        )
        self.problems = tuple(dict.fromkeys(in_order))
        super().__init__("\n".join(map(str, self.problems)))


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of a file (None: the defaults) and the environment, which overrides the file.

    Nothing is kept between calls, so that a reload is another call. Raises :class:`ConfigError`, which names every
    problem of every file and variable, but no value.
    """
    sources = Sources(environ)
    if path is not None:
        sources.read(path)
    sources.apply_environment()
    # Given, so that relative paths among the defaults are resolved too; a section whose keys are all commented out is
    # null in YAML.
    for name, field in Config.model_fields.items():
        if section_in(field.annotation) and sources.values.get(name) is None:
            sources.values[name] = {}
    folder = (path or Path("carbontrack.yaml")).absolute().parent
    problems = sources.all_problems()
    try:
        config = Config.model_validate(sources.values, context={"folder": folder})
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [found for detail in details if (found := _explain(detail, sources))]
    if problems:  # outside of the handler: pydantic's error carries the values
        raise ConfigError(problems)
    config.remember(sources.places)
    return config


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def check_options(config: Config, key: Key, model: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """The options at a key of the configuration as the model of whoever takes them.

    Raises :class:`ConfigError` with file, line, key and the allowed values, but no value.
    """
    problems = []
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            inner, annotation, notes = find(detail["loc"], model)
            whole = (*key, *inner)
            problems.append(Problem(config.place(whole), whole, _text(detail, inner, annotation, notes, model)))
    raise ConfigError(problems)  # outside of the handler, as above


def _explain(detail: Mapping[str, Any], sources: Sources) -> Problem | None:
    """One of pydantic's errors in our words; None for what follows from another problem only."""
    key, annotation, notes = find(detail["loc"])
    is_known = any(key[: len(unread)] == unread for unread in sources.unread)
    if is_known or detail["type"] == "default_factory_not_called":
        return None
    return Problem(sources.place(key), key, _text(detail, key, annotation, notes))


def _text(
    detail: Mapping[str, Any], key: Key, annotation: Any, notes: tuple[Any, ...], root: type[BaseModel] = Config
) -> str:
    match detail["type"]:
        case "extra_forbidden":
            allowed = section_in(find(key[:-1], root)[1] or root)
            names = list(allowed.model_fields) if allowed else []
            return f"unknown key; allowed: {', '.join(names)}{did_you_mean(str(key[-1]), names)}"
        case "missing":
            return f"is missing; it must be {expects(annotation, notes)}"
        case "value_error" if not any(isinstance(note, Words) for note in notes):
            return str(detail["ctx"]["error"])
    hint = ""
    if isinstance(detail["input"], str):
        hint = did_you_mean(detail["input"], options(annotation))
    elif detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        hint = ": put it in quotes"
    # pydantic's own words quote no value.
    return f"must be {expected}{hint}" if (expected := expects(annotation, notes)) else str(detail["msg"])
