"""Reads the files and the environment of one configuration and remembers where each value came from.

What is wrong is gathered, not raised, so that one run names every problem. Only key names, file names and the names
of variables and secrets get into a problem's text, never a value: it may be a password in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from carbontrack.config.fields import Place, SecretText, place_of, split_url
from carbontrack.config.reference import Key, describe, find, takes_text
from carbontrack.config.settings import Config

PREFIX = "CARBONTRACK_"
BROKEN = object()
"""Stands for a value that could not be read: no type accepts it."""

_YAML = "tag:yaml.org,2002:"
_NULL, _MERGE = _YAML + "null", _YAML + "merge"
_TRUTH = {"true": True, "false": False}
_SCALARS: dict[str, Callable[[str], Any]] = {
    _NULL: lambda text: None,  # noqa: ARG005 - whichever way it is written
    _YAML + "bool": lambda text: _TRUTH[text.lower()],
    _YAML + "int": lambda text: int(text, 0) if text.lstrip("+-")[1:2] in {"x", "o"} else int(text),
    _YAML + "float": lambda text: float(re.sub(r"\.(inf|nan)$", r"\1", text.lower())),
}
_PLAIN_TAGS = {*_SCALARS, *(_YAML + kind for kind in ("str", "timestamp", "merge", "value", "map", "seq")), "!"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: ``config/carbontrack.yaml:12: mqtt.port: must be a whole number from 1 to 65535``."""

    place: Place
    key: Key
    text: str

    def __str__(self) -> str:
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.key).lstrip(".")
        return ": ".join(filter(None, (str(self.place), dotted, self.text)))


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where YAML text is from: a file, with those that include it before it, or one value that ``given_at`` names."""

    files: tuple[Path, ...] = ()
    given_at: Place | None = None
    is_secrets: bool = False

    def at(self, line: int) -> Place:
        return self.given_at or Place(str(self.files[-1]), line + 1)


class Sources:
    """What one configuration is made from. ``unread`` holds the keys whose values could not be read, and why."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # An empty variable is how Compose files and service managers say "not set".
        self._environ = {name: value for name, value in environ.items() if value}
        self._secrets: Sources | None = None
        self._open_nodes: set[int] = set()
        self.values: dict[Any, Any] = {}
        self.places: dict[Key, Place] = {}
        self.problems: list[Problem] = []
        self.unread: dict[Key, Problem | None] = {}

    def read(self, file: Path, *, is_secrets: bool = False) -> None:
        """Take the values of a file. An empty file gives none."""
        values = self._read_file((), Place(str(file)), _Origin((file,), is_secrets=is_secrets))
        if isinstance(values, dict):
            self.values = values
        elif values is not None and values is not BROKEN:
            self._broken((), Place(str(file), 1), "must be a mapping of keys to values")

    def place(self, key: Key) -> Place:
        """Where a value, or else the nearest mapping around it, came from."""
        return place_of(key, self.places)

    def all_problems(self) -> list[Problem]:
        """What went wrong in reading, here and in the secrets."""
        secret = self._secrets.all_problems() if self._secrets else []
        return [*self.problems, *filter(None, self.unread.values()), *secret]

    # --- files ----------------------------------------------------------------------------------------------------

    def _broken(self, key: Key, place: Place, text: str) -> object:
        self.unread[key] = Problem(place, find(key)[0], text)
        return BROKEN

    def _read_file(self, key: Key, asked_at: Place, origin: _Origin) -> Any:
        file = origin.files[-1]
        try:
            content = file.read_text("utf-8-sig")
        except OSError as error:
            return self._broken(key, asked_at, f"cannot read {file}: {error.strerror}")
        except UnicodeDecodeError as error:
            return self._not_yaml(key, origin, error.object[: error.start].count(b"\n"), "not UTF-8")
        return self._parse(key, content, origin)

    def _not_yaml(self, key: Key, origin: _Origin, line: int, problem: str) -> object:
        # In a file the line says enough; the key would be the one that includes the file.
        named = key if origin.given_at else ()
        self.unread[key] = Problem(origin.at(line), named, f"cannot be read as YAML: {problem}")
        return BROKEN

    def _parse(self, key: Key, content: str, origin: _Origin) -> Any:
        yaml = YAML(typ="safe", pure=True)  # the loader written in Python: its nodes know their lines
        yaml.composer.warn_double_anchors = False  # that warning quotes the file
        try:
            node = yaml.compose(content)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            return self._not_yaml(key, origin, mark.line if mark else 0, _without_quotes(error.problem or ""))
        except ReaderError as error:
            return self._not_yaml(key, origin, content[: error.position].count("\n"), error.reason)
        except (YAMLError, RecursionError):
            return self._not_yaml(key, origin, 0, "not well-formed, or nested too deeply")
        return None if node is None else self._value(key, node, origin)

    def _value(self, key: Key, node: Node, origin: _Origin) -> Any:
        if node.tag not in _PLAIN_TAGS:
            return self._tagged(key, node, origin)
        if isinstance(node, ScalarNode):
            return self._scalar(key, node, origin)
        if id(node) in self._open_nodes:
            return self._broken(key, origin.at(node.start_mark.line), "an alias inside of what it stands for")
        self._open_nodes.add(id(node))
        try:
            return (self._mapping if isinstance(node, MappingNode) else self._sequence)(key, node, origin)
        finally:
            self._open_nodes.remove(id(node))

    def _scalar(self, key: Key, node: ScalarNode, origin: _Origin) -> Any:
        tag = str(node.tag)
        if tag == _NULL and not node.value and len(key) > 1:  # a section may be empty
            text = "is empty; remove the key or write null. Text that begins with # or & needs quotes"
            # Such a node begins where the next one does, so the place of its key is the right one.
            return self._broken(key, origin.given_at or self.place(key), text)
        if origin.is_secrets and tag != _NULL:
            return node.value  # as it is written: 0123 is a password of four digits
        try:
            return _SCALARS.get(tag, str)(node.value)
        except (LookupError, ValueError):
            text = f"does not fit its tag !!{tag.removeprefix(_YAML)}"
            return self._broken(key, origin.at(node.start_mark.line), text)

    def _sequence(self, key: Key, node: Node, origin: _Origin) -> list[Any]:
        for index, item in enumerate(node.value):
            self.places[*key, index] = origin.at(item.start_mark.line)
        return [self._value((*key, index), item, origin) for index, item in enumerate(node.value)]

    def _mapping(self, key: Key, node: Node, origin: _Origin) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, value in node.value:
            place = origin.at(name.start_mark.line)
            if not isinstance(name, ScalarNode):
                self.problems.append(Problem(place, find(key)[0], "a key must be plain text"))
            elif name.tag == _MERGE:
                self.problems.append(
                    Problem(place, find(key)[0], "merge keys (<<) are not supported; use !include FILE")
                )
            elif name.value in values:
                first = self.places[*key, name.value]
                self.problems.append(
                    Problem(place, find((*key, name.value))[0], f"duplicate key, given at {first} already")
                )
            else:
                self.places[*key, name.value] = place
                values[name.value] = self._value((*key, name.value), value, origin)
        return values

    # --- tags -----------------------------------------------------------------------------------------------------

    def _tagged(self, key: Key, node: Node, origin: _Origin) -> Any:
        place = origin.at(node.start_mark.line)
        allowed = {"!secret": self._secret, "!env_var": self._variable, "!include": self._include}
        if node.tag not in allowed or origin.is_secrets or origin.given_at:
            return self._broken(
                key,
                place,
                "unknown tag; allowed, in the configuration's own files: !secret NAME, !env_var NAME [default], "
                "!include FILE. Text that begins with an exclamation mark needs quotes",
            )
        if not isinstance(node, ScalarNode) or not node.value.strip():
            return self._broken(key, place, f"{node.tag} needs a name after it")
        return allowed[node.tag](key, node.value.strip(), place, origin)

    def _include(self, key: Key, name: str, place: Place, origin: _Origin) -> Any:
        file = origin.files[-1].parent / name
        if file.resolve() in [parent.resolve() for parent in origin.files]:
            return self._broken(key, place, f"{file} would include itself")
        return self._read_file(key, place, _Origin((*origin.files, file)))

    def _variable(self, key: Key, argument: str, place: Place, origin: _Origin) -> Any:  # noqa: ARG002 - as its like
        name, *default = argument.split(maxsplit=1)
        value = self._environ.get(name, default[0] if default else None)
        if value is None:
            return self._broken(key, place, f"the environment variable {name} is not set, and there is no default")
        return self._typed(key, value, place)

    def _secret(self, key: Key, name: str, place: Place, origin: _Origin) -> Any:
        file = origin.files[0].parent / "secrets.yaml"
        if not file.exists():
            return self._broken(key, place, f"there is no {file} to take the secret {name} from")
        if self._secrets is None:
            self._secrets = Sources(self._environ)
            self._secrets.read(file, is_secrets=True)
        known, unread = self._secrets.values, self._secrets.unread
        if () in unread or (name,) in unread:
            self.unread[key] = None  # said already, of that file
            return BROKEN
        if name not in known:
            return self._broken(key, place, f"the secret {name} is not in {file}{did_you_mean(name, known)}")
        if not (isinstance(known[name], str) and known[name]):
            return self._broken(key, place, f"the secret {name} in {file} must be text that is not empty")
        return self._typed(key, known[name], place)

    def _typed(self, key: Key, text: str, place: Place) -> Any:
        """What a text means for a setting: itself, or the number, truth value or list that it spells."""
        return SecretText(text) if takes_text(key) else self._parse(key, text, _Origin(given_at=place))

    # --- the environment ------------------------------------------------------------------------------------------

    def apply_environment(self) -> None:
        """Let the variables override the files: first the names that other programs use too, then our own."""
        for name, key in (("DATABASE_URL", ("database", "url")), ("SECRET_KEY", ("http", "secret_key"))):
            if name in self._environ:
                self._set(key, self._environ[name], Place(name))
        if "MQTT_BROKER_URL" in self._environ:
            self._set_broker(self._environ["MQTT_BROKER_URL"], Place("MQTT_BROKER_URL"))
        flat = {setting.key.replace(".", "_"): setting.key for setting in describe()}
        # By depth, so that a section given as a whole does not undo one key of it.
        for name in sorted(self._environ, key=lambda name: (name.count("__"), name)):
            rest = name.removeprefix(PREFIX).lower()
            value = self._environ[name]
            if not name.startswith(PREFIX):
                continue
            if "__" in rest or rest in Config.model_fields:
                self._set(tuple(rest.split("__")), value, Place(name))
            elif rest in flat and not value.startswith("tcp://"):  # Kubernetes sets such variables for its services
                right = PREFIX + flat[rest].replace(".", "__").upper()
                self.problems.append(Problem(Place(name), (), f"sections and keys are joined by two _: {right}"))

    def _set(self, key: Key, text: str, place: Place) -> None:
        self._forget(key)
        self._put(key, self._typed(key, text, place), place)

    def _set_broker(self, url: str, place: Place) -> None:
        parts = split_url(url)
        if not (parts and parts.scheme in {"mqtt", "mqtts"} and parts.hostname and not any(parts[2:])):
            text = "must be mqtt://USER:PASSWORD@HOST:PORT or mqtts://..., special characters percent-encoded"
            self.problems.append(Problem(place, (), text))
            return
        is_encrypted = parts.scheme == "mqtts"
        given: dict[str, Any] = {"host": parts.hostname, "port": parts.port or (8883 if is_encrypted else 1883)}
        if parts.username is not None:
            given["username"] = unquote(parts.username)
            given["password"] = None if parts.password is None else SecretText(unquote(parts.password))
        section = self.values.get("mqtt")
        if not is_encrypted:
            given["tls"] = None
        elif not (isinstance(section, dict) and section.get("tls")):
            given["tls"] = {}
        for name, value in given.items():
            self._forget(("mqtt", name))
            self._put(("mqtt", name), value, place)

    def _forget(self, key: Key) -> None:
        """What the files say of a key counts no longer, nor what is wrong with it there."""
        self.places = {known: place for known, place in self.places.items() if known[: len(key)] != key}
        self.unread = {known: problem for known, problem in self.unread.items() if known[: len(key)] != key}

    def _put(self, key: Key, value: Any, place: Place) -> None:
        mapping = self.values
        for depth, part in enumerate(key[:-1], start=1):
            if mapping.get(part) is None:
                mapping[part] = {}
                self.places[key[:depth]] = place
            mapping = mapping[part]
            if not isinstance(mapping, dict):
                if mapping is not BROKEN:
                    text = "is not a mapping, so that this variable can set no key of it"
                    self.problems.append(Problem(place, key[:depth], text))
                return
        self.places[key] = place
        mapping[key[-1]] = value


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message, which offers the most similar name if there is one."""
    close = get_close_matches(name.lower(), list(names), n=1)
    return f'. Did you mean "{close[0]}"?' if close else ""


def _without_quotes(problem: str) -> str:
    """A message of the YAML reader without words of the file.

    A word may be a password that begins with a special character, such as ``*``. Single characters and names of
    tokens, such as ``<stream end>``, may stay.
    """
    is_harmless = re.compile(r".(.|<.*>|\\.).").fullmatch
    return re.sub(r"""(["']).*?\1""", lambda quoted: quoted[0] if is_harmless(quoted[0]) else "...", problem)
