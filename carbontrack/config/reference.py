"""What can be set and what it may be, in the words that errors and the documentation use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from carbontrack.config.fields import Words
from carbontrack.config.settings import Config

Key = tuple[str | int, ...]
"""Where a value is: ``("alerts", 0, "hold_s")``."""

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    SecretStr: "text",
}


def unwrap(annotation: Any, metadata: Sequence[Any] = ()) -> tuple[Any, tuple[Any, ...]]:
    """A type without ``Annotated`` and ``| None``, and what was noted beside it."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        flat = [part for note in notes for part in (note.metadata if isinstance(note, FieldInfo) else [note])]
        return unwrap(inner, (*flat, *metadata))
    if get_origin(annotation) in {Union, UnionType}:
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) == 1:
            return unwrap(members[0], metadata)
    return annotation, tuple(metadata)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a type is, if it is one; a plugin's options may have sections too."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def find(key: Key, root: type[BaseModel] = Config) -> tuple[Key, Any, tuple[Any, ...]]:
    """As much of a key as leads to a setting, with its bare type and what is noted beside it; None is an unknown key.

    What comes after a setting, or after one option of a plugin, is no key of ours: pydantic names the members of a
    union there, and a password in braces is a mapping to YAML.
    """
    annotation, notes = unwrap(root)
    for depth, part in enumerate(key):
        if section := section_in(annotation):
            field = section.model_fields.get(str(part))
            if field is None:
                return key[: depth + 1], None, ()
            annotation, notes = unwrap(field.annotation, field.metadata)
        elif get_origin(annotation) in {tuple, dict}:
            annotation, notes = unwrap(get_args(annotation)[get_origin(annotation) is dict])
        else:
            return key[:depth], annotation, notes
    return key, annotation, notes


def expects(annotation: Any, notes: Sequence[Any] = ()) -> str:  # noqa: PLR0911  # one answer a type
    """What a value of this type may be, as "must be ..." goes on. Empty for types that only plugins use."""
    if words := [note.text for note in notes if isinstance(note, Words)]:
        return str(words[0])
    if section := section_in(annotation):
        return f"a mapping of {', '.join(section.model_fields)}"
    match get_origin(annotation):
        case origin if origin is Literal:
            return f"one of {', '.join(options(annotation))}"
        case origin if origin is tuple:
            return "a list of mappings" if section_in(unwrap(get_args(annotation)[0])[0]) else "a list of names"
        case origin if origin is dict:
            return "a mapping"
    low, above, high, shortest = (
        next((getattr(note, limit) for note in notes if hasattr(note, limit)), None)
        for limit in ("ge", "gt", "le", "min_length")
    )
    if annotation not in _WORDS:
        return ""
    parts = [_WORDS[annotation]]
    if low is not None:
        parts.append(f"from {low} to {high}" if high is not None else f"of at least {low}")
    elif above is not None:
        parts.append(f"above {above}" + (f" and at most {high}" if high is not None else ""))
    elif shortest:
        parts.append("that is not empty")
    return " ".join(parts) + (", kept secret" if annotation is SecretStr else "")


def options(annotation: Any) -> list[str]:
    """The words that a setting chooses from, if it does."""
    return [str(option) for option in get_args(annotation)] if get_origin(annotation) is Literal else []


def takes_text(key: Key) -> bool:
    """Whether text from the environment is the value as it is; a plugin's options are left to the plugin."""
    _, annotation, _ = find(key)
    return bool(options(annotation)) or annotation in {None, str, SecretStr, Path, Any}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as the documentation shows it. ``alerts[].name`` is the key ``name`` of each entry of a list."""

    key: str
    type: str
    default: str
    description: str


def describe(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[Setting]:
    """Every setting, in the order of the sections."""
    for name, field in section.model_fields.items():
        annotation, notes = unwrap(field.annotation, field.metadata)
        is_list = get_origin(annotation) is tuple
        inner = section_in(unwrap(get_args(annotation)[0])[0] if is_list else annotation)
        if inner is None or inner is not field.annotation:  # a plain section is no setting itself
            default = "required" if field.is_required() else _show(_default(field))
            yield Setting(
                prefix + name, expects(annotation, notes), default, " ".join((field.description or "").split())
            )
        if inner:
            yield from describe(inner, f"{prefix}{name}{'[]' * is_list}.")


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})


def _show(value: Any) -> str:
    """A default as one would write it in YAML."""
    if value is None:
        return "none"
    if isinstance(value, BaseModel):  # an entry of a list: what it leaves at its default is not repeated
        fields = type(value).model_fields
        value = {name: inner for name, inner in value if fields[name].is_required() or inner != _default(fields[name])}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_show(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_show, value))}]"
    if isinstance(value, float):
        return format(value, "g")
    return str(value).lower() if isinstance(value, bool) else str(value)
