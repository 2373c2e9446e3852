"""The types of settings that YAML does not know: paths, addresses, names, and text that is kept secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field, PlainSerializer, SecretStr, ValidationInfo

MASK = "**********"
SHORTEST_SECRET = 4
"""Characters. A shorter one is masked where it stands alone: within a longer text it would be found by chance."""


class SecretText(str):
    """Text from ``!secret`` or the environment that a plugin will get: usable as it is, but never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


@dataclass(frozen=True, slots=True)
class Words:
    """What a value may be, where its type alone does not say it."""

    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, or a variable (``line`` 0)."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


def place_of(key: tuple[str | int, ...], places: Mapping[tuple[str | int, ...], Place]) -> Place:
    """Where the value of a key, or else the nearest mapping around it, came from."""
    while key not in places and key:
        key = key[:-1]
    return places.get(key, Place("defaults"))


def split_url(url: str) -> SplitResult | None:
    """The parts of a URL, or None for one that cannot be split (urllib's own errors would quote a password)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def without_password(text: str) -> str:
    return re.sub(r"(://[^:/@]*):.*@", rf"\1:{MASK}@", text)


def _beside_config(path: Path, info: ValidationInfo) -> Path:
    return Path(info.context["folder"], path) if info.context else path


def _database_url(url: str, info: ValidationInfo) -> str:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest:
        return url if rest == ":memory:" else f"sqlite://{_beside_config(Path(rest), info)}"
    parts = split_url(url)
    # Nothing may follow the name: ?sslmode=require would be lost on the way to the driver, so better refuse it.
    is_postgres = parts and parts.scheme in {"postgres", "postgresql"} and re.fullmatch(r"/[^/@]+", parts.path)
    if parts and is_postgres and not parts.query and not parts.fragment:
        return url
    raise ValueError("not a database URL")


def _redis_url(url: str) -> str:
    parts = split_url(url)
    if not (parts and parts.scheme in {"redis", "rediss"} and parts.hostname):
        raise ValueError("not a Redis URL")
    return url


def _network(text: str) -> str:
    return str(ip_network(text))


def _public_url(url: str) -> str:
    parts = split_url(url)
    is_plain = parts and parts.scheme in {"http", "https"} and parts.hostname and not parts.username
    if not (parts and is_plain and parts.path in {"", "/"} and not parts.query and not parts.fragment):
        raise ValueError("not an address of the portal")
    return url.rstrip("/")


def _sender(text: str) -> str:
    from email.policy import SMTP  # noqa: PLC0415  # slow to import, and few commands and sites need it

    try:
        header = SMTP.header_factory("From", text)
        (address,) = header.addresses
        address.domain.encode("idna")
    except (ValueError, IndexError):
        raise ValueError("not an address") from None
    if header.defects or not address.domain:
        raise ValueError("not an address")
    return text


CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d|24:00)")


def _hours(text: str) -> str:
    if not CLOCK.fullmatch(text) or text[:5] == text[6:].replace("24:00", "00:00"):
        raise ValueError("not a part of a day")
    return text


def _stack_label(text: str) -> str:
    slug, _, name = text.partition("/")
    if not slug or not name.strip():
        raise ValueError("not a stack")
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise ValueError("not a time zone") from None
    return name


SECRET_KEY = re.compile(r"secret|passw|token|credential|dsn|(^|_)key$", re.IGNORECASE)


def masked(given: Any, validated: BaseModel | None) -> dict[str, Any]:
    """A plugin's options as they may be shown: what is secret by its source, its type or its key is masked.

    ``given`` are the options as the configuration has them: their secrets are found by their text wherever the plugin
    put it, as its model may rename, join and convert what it is given.
    """
    shown = validated.model_dump(mode="json", fallback=str) if validated is not None else {}
    secrets = frozenset(secrets_in(given))
    return {key: _shown(key, value, secrets) for key, value in shown.items()}


def secrets_in(given: Any) -> Iterator[str]:
    """The texts of options that are from ``!secret`` or the environment, at any depth."""
    if isinstance(given, SecretText):
        yield str(given)
    elif isinstance(given, Mapping):
        for part in given.values():
            yield from secrets_in(part)
    elif isinstance(given, list | tuple):
        for part in given:
            yield from secrets_in(part)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """A text that a plugin wrote, such as an error, as it may be shown."""
    for secret in sorted(secrets, key=len, reverse=True):
        if text == secret or len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return without_password(text)


def _shown(key: str, value: Any, secrets: frozenset[str]) -> Any:
    if value is not None and SECRET_KEY.search(key):
        return MASK
    if isinstance(value, dict):
        return {inner: _shown(str(inner), part, secrets) for inner, part in value.items()}
    if isinstance(value, list):
        return [_shown("", part, secrets) for part in value]
    if isinstance(value, str):
        return without_secrets(value, secrets)
    return MASK if str(value) in secrets else value


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return MASK if isinstance(value, SecretText) else value


# Settings are strict: "8883" is no number and 8883 no text. Paths and lists are exempt, as YAML has no such types.
FilePath = Annotated[Path, Field(strict=False), AfterValidator(_beside_config), Words("a path")]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
Options = Annotated[dict[str, Any], PlainSerializer(_masked)]
Host = Annotated[str, Field(pattern=r"^[^\s/]+$"), Words("a host name or an IP address")]
DatabaseUrl = Annotated[
    str,
    AfterValidator(_database_url),
    PlainSerializer(without_password),
    Words(
        "sqlite://PATH or postgres://USER:PASSWORD@HOST:PORT/NAME, "
        "without options, special characters of the password percent-encoded"
    ),
]
RedisUrl = Annotated[
    str, AfterValidator(_redis_url), PlainSerializer(without_password), Words("redis://HOST:PORT/NUMBER or rediss://")
]
Network = Annotated[str, AfterValidator(_network), Words("an IP address or a network such as 10.0.0.0/8")]
Networks = Annotated[
    tuple[Network, ...], Field(strict=False), Words("a list of IP addresses and of networks such as 10.0.0.0/8")
]
PublicUrl = Annotated[str, AfterValidator(_public_url), Words("https://HOST or https://HOST:PORT, without a path")]
Sender = Annotated[
    str, AfterValidator(_sender), Words("an e-mail address, also with a name: Carbon Track <carbon@example.org>")
]
# A device knows its password. What it was worked out from must be beyond guessing.
DeviceKey = Annotated[SecretStr, Field(min_length=32), Words("text of at least 32 characters, kept secret")]
TimeZone = Annotated[str, AfterValidator(_time_zone), Words("the name of a time zone, such as Africa/Nairobi")]
HoursOfDay = Annotated[
    str, AfterValidator(_hours), Words("hours of the day such as 06:00-18:00, also over midnight: 22:00-05:00")
]
StackNames = Annotated[
    tuple[Annotated[str, AfterValidator(_stack_label), Words("a stack, as FACTORY/STACK")], ...],
    Field(strict=False),
    Words("a list of stacks, each as FACTORY/STACK: kangaita/Boiler 1"),
]
BoolOrAuto = Annotated[bool | Literal["auto"], Words("true, false or auto")]
