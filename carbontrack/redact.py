"""Takes out of texts and tables what must not leave the platform: secrets, and what tells who somebody is.

What is known (the configuration's secrets, devices' passwords, people's names) is found by its text. What is not known
is found by how it looks: addresses of mail, numbers of telephones, what stands behind ``password=`` or ``Bearer``,
the rest of a URL, and long texts that nobody would write by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, SecretStr

from carbontrack.config import Config
from carbontrack.config.fields import MASK, SECRET_KEY, secrets_in
from carbontrack.credentials import bridge_password, device_password
from carbontrack.model import Site, User

SHORTEST_ANYWHERE = 8
"""Characters of what is taken out within words as well; what is shorter only where it stands alone."""
SHORTEST_NAME = 2
AS_THEY_ARE = frozenset({"request_id", "trace_id", "timestamp", "logger", "event_id"})
"""Keys of values that may look like a secret and are none."""

_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,20})://([^\s\"'<>\\]*)", re.IGNORECASE)
_PART = r"[^\s\"'<>()\[\]{},;:=/\\@]+"
_MAIL = re.compile(rf"(?<!{_PART.rstrip('+')}){_PART}@{_PART}")
_TELEPHONE = re.compile(r"(?<![\w.])(?:\+\d[\d ()-]{7,}\d|0[17]\d{8})(?!\w)")
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_NAMED = re.compile(
    r"(?<!\w)(\w*(?:passw|secret|token|credential|dsn|api[_-]?key|device[_-]?key|authorization|cookie)\w*[\"']?\s*[:=]\s*[\"']?)"
    r"([^\s\"',;&]+)",
    re.IGNORECASE,
)
_HEX = re.compile(r"(?<![\w-])[0-9a-fA-F]{24,}(?![\w-])")
_OPAQUE = re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,}(?![\w-])", re.ASCII)


class Redactor:
    """Takes out what it was told of, and what looks like it. ``kept`` stays, whatever it looks like."""

    def __init__(self, secrets: Iterable[str] = (), names: Iterable[str] = (), kept: Iterable[str] = ()) -> None:
        self._kept = frozenset(kept)
        known = {text for text in secrets if text} - {MASK}
        self._anywhere = _any_of(text for text in known if len(text) >= SHORTEST_ANYWHERE)
        alone = {text for text in known if len(text) < SHORTEST_ANYWHERE}
        alone |= {name for name in names if len(name) >= SHORTEST_NAME}
        self._alone = _any_of(alone, r"(?<!\w)(?:%s)(?!\w)")

    def text(self, text: str) -> str:
        """A text as it may be shown to a stranger."""
        text = self._known(text)
        text = _URL.sub(_without_rest, text)
        text = _MAIL.sub(MASK, text)
        text = _TELEPHONE.sub(MASK, text)
        text = _BEARER.sub(rf"\1 {MASK}", text)
        text = _NAMED.sub(rf"\1{MASK}", text)
        text = _HEX.sub(self._unless_kept, text)
        return _OPAQUE.sub(self._unless_kept, text)

    def value(self, value: Any, key: str = "") -> Any:
        """A value out of JSON, or one that is to become JSON; what stands under a secret's key is taken out whole."""
        if isinstance(value, Mapping):
            return {self._key(str(name)): self.value(inner, str(name)) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(inner, key) for inner in value]
        if value is None or isinstance(value, bool):
            return value
        if SECRET_KEY.search(key):
            return MASK
        if isinstance(value, int | float):
            return value if self._known(str(value)) == str(value) else MASK
        return self._known(str(value)) if key in AS_THEY_ARE else self.text(str(value))

    def _key(self, key: str) -> str:
        """A key is a word of ours, but for what somebody's options have: names that are words stay in it."""
        key = key if self._anywhere is None else self._anywhere.sub(MASK, key)
        return _OPAQUE.sub(self._unless_kept, _MAIL.sub(MASK, key))

    def _known(self, text: str) -> str:
        if self._anywhere is not None:
            text = self._anywhere.sub(MASK, text)
        return text if self._alone is None else self._alone.sub(MASK, text)

    def _unless_kept(self, match: re.Match[str]) -> str:
        return match[0] if match[0] in self._kept else MASK


def _any_of(texts: Iterable[str], around: str = "%s") -> re.Pattern[str] | None:
    """A pattern of all these texts, the longest first: one may be the beginning of another."""
    found = "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
    return re.compile(around % found, re.IGNORECASE) if found else None


def _without_rest(match: re.Match[str]) -> str:
    """A URL without who signs in and, where strangers give addresses, without what follows the host."""
    scheme, rest = match[1], match[2]
    if scheme.lower() == "sqlite":
        return match[0]
    place, slash, path = rest.partition("/")
    host = f"{MASK}@{place.rpartition('@')[2]}" if "@" in rest else place
    if "@" in path:  # a password with a slash in it: all before the last sign is not the host
        host, slash, path = f"{MASK}@", "", ""
    if scheme.lower() in {"postgres", "postgresql"}:
        return f"{scheme}://{host}{slash}{path}"
    return f"{scheme}://{host}{slash}{MASK}" if path else f"{scheme}://{host}{slash}"


# --- what this installation must keep to itself


def redactor_of(config: Config, users: Sequence[User] = (), sites: Sequence[Site] = ()) -> Redactor:
    """What takes out everything that this installation must keep to itself."""
    key = config.mqtt.device_key
    secrets = {part for secret in _secrets(config) for part in (secret, *_parts(secret))}
    secrets |= {user.phone_number for user in users}
    if key is not None:
        secrets |= {device_password(key.get_secret_value(), site.device) for site in sites}
        bridges = config.mqtt.bridges.items()
        secrets |= {bridge_password(key.get_secret_value(), factory, count) for factory, count in bridges}
    names = {part for user in users for name in (user.first_name, user.last_name) for part in (name, *name.split())}
    kept = {site.device.device_id for site in sites} | {site.factory.slug for site in sites}
    return Redactor(secrets, names, kept)


def _secrets(value: Any) -> Iterator[str]:
    """Everything in the configuration that is kept secret, at any depth."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from secrets_in(value)
        for part in value.values():
            yield from _secrets(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _secrets(part)
    elif isinstance(value, str) and "://" in value:
        yield from _parts(value)


def _parts(url: str) -> Iterator[str]:
    """What of an address opens something by itself: what signs in, and of a secret one what its path has in it."""
    before, sign, rest = url.partition("://")
    if not sign or before == "sqlite":
        return
    account, sign, place = rest.rpartition("@")
    if sign:
        yield account.partition(":")[2] or account
    if before.startswith("http"):
        yield from (part for part in re.split(r"[/?&=]", place.partition("/")[2]) if len(part) >= SHORTEST_ANYWHERE)
