"""What a node is told to be: its settings, the document that carries them, commands, and what it may answer. Pure.

The document and its checks are those of docs/protocol.md; the platform checks what it sends by the same rules as the
simulated node checks what it gets, and tests/vectors/config.json holds the firmware against them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from math import isfinite
from typing import Any, NoReturn

import msgspec

from carbontrack.model import MonitoringPlan
from carbontrack.words import N_, gettext

MOST_BYTES = 4096
"""Of a message to a node: it has a buffer of this size."""
MOST_ANSWER_BYTES = 2048
"""Of a message from a node on ``up/config`` and ``up/res``."""
MOST_ERRORS = 8
MOST_LIMITS = 6
MOST_REV = 65_535
"""A record has two bytes for the revision."""
SHORTEST_READING_MS = 100
LONGEST_TEXT = 80
"""Of a word that a node chooses, such as why a command failed."""
COMMAND_LASTS = timedelta(minutes=10)


class ConfigState(StrEnum):
    """What became of a revision of a device's settings."""

    WAITING = "waiting"
    SENT = "sent"
    APPLIED = "applied"
    REFUSED = "refused"
    REVERTED = "reverted"


class CommandState(StrEnum):
    """What became of a command. The last four are ends."""

    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


OPEN_STATES = frozenset({CommandState.QUEUED, CommandState.SENT, CommandState.ACCEPTED})
"""A command in one of these may still be answered."""


class Why(StrEnum):
    """Why there is a revision."""

    FIRST = "first"
    """The node was heard for the first time."""
    SETTINGS = "settings"
    """Somebody saved the settings."""
    PLAN = "plan"
    """The monitoring plan in force, or the site's pressure, is another one."""
    AHEAD = "ahead"
    """The node was ahead: it had been configured by a platform that knew more than this one does."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a document: where, and one of the codes of the protocol."""

    path: str
    code: str


FAULT_TEXTS: Mapping[str, str] = {
    "syntax": N_("it cannot be read"),
    "missing": N_("it is missing"),
    "type": N_("it is of the wrong type"),
    "range": N_("it is out of range"),
    "value": N_("it does not fit the other values"),
    "too_many": N_("there are too many"),
    "size": N_("it is too large"),
    "storage": N_("the device's memory did not take it"),
    "older": N_("the device has a newer one"),
    "reverted": N_("the device did not work with it, and went back to the one before"),
}
"""What each code of the protocol means."""


class LimitCode(StrEnum):
    RATE_HIGH = "rate_high"
    TEMPERATURE_HIGH = "temperature_high"
    TEMPERATURE_LOW = "temperature_low"
    VELOCITY_HIGH = "velocity_high"
    VELOCITY_LOW = "velocity_low"
    SENSOR_FAULT = "sensor_fault"


LEVELS = ("info", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Limit:
    """From where on the node itself sounds its buzzer and writes an event, whether or not the platform is there.

    ``limit`` and ``hysteresis`` are in kg/s CO2, degC or m/s, as the code says; ``sensor_fault`` has none.
    """

    code: str
    limit: float | None = None
    hysteresis: float = 0.0
    for_s: int = 60
    level: str = "warning"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What people choose of a node. The defaults are the firmware's own."""

    sample_s: int = 5
    """Seconds between two records."""
    readings: int = 5
    """How often the sensors are read for one record."""
    warm_up_s: int = 180
    """So long after switching on the CO2 sensor counts as warming up."""
    stuck_s: int = 600
    """A CO2 value that stands still for so long is flagged; 0: never."""
    limits: tuple[Limit, ...] = ()
    buzzer: bool = True
    led: bool = True


SETTINGS_KEYS = tuple(item.name for item in fields(DeviceSettings))
RANGES: Mapping[str, tuple[int, int]] = {
    "sample_s": (1, 3600),
    "readings": (1, 15),
    "warm_up_s": (0, 3600),
    "stuck_s": (0, 86_400),
}
"""Of the settings that are whole numbers: the least and the most."""
FOR_S = (0, 3600)
LIMIT_RANGES: Mapping[str, tuple[float, float]] = {
    LimitCode.RATE_HIGH: (0, 1000),
    LimitCode.TEMPERATURE_HIGH: (-50, 2000),
    LimitCode.TEMPERATURE_LOW: (-50, 2000),
    LimitCode.VELOCITY_HIGH: (0, 200),
    LimitCode.VELOCITY_LOW: (0, 200),
}
"""Of the value of each limit."""

_PLAN_FLAGS = ("is_circular", "is_dry", "prefers_pitot")
_PLAN_LENGTHS = ("diameter_m", "width_m", "length_m")
_POSITIVE = (0.0, 1e9)
PLAN_RANGES: Mapping[str, tuple[float, float]] = {
    "diameter_m": (0.0, 1000.0),
    "width_m": (0.0, 1000.0),
    "length_m": (0.0, 1000.0),
    "wall_deposit_mm": _POSITIVE,
    "profile_factor": _POSITIVE,
    "h2o_fraction": (0.0, 1.0 - 1e-9),
    "co2_range_ppm": _POSITIVE,
    "co2_response_s": _POSITIVE,
    "dilution_ratio": _POSITIVE,
    "calibration_offset_ppm": (-1e9, 1e9),
    "calibration_slope": _POSITIVE,
    "pitot_coefficient": _POSITIVE,
    "temperature_max_c": _POSITIVE,
    "velocity_max_ms": _POSITIVE,
    "on_temperature_c": _POSITIVE,
    "off_temperature_c": _POSITIVE,
    "on_velocity_ms": _POSITIVE,
    "off_velocity_ms": _POSITIVE,
    "on_co2_ppm": _POSITIVE,
    "off_co2_ppm": _POSITIVE,
}
"""Of the numbers of the plan, as the API takes them (:mod:`carbontrack.web.api.plans`)."""
PRESSURE_KPA = (50.0, 110.0)


# --- the document


def plan_part(plan: MonitoringPlan) -> dict[str, Any]:
    """What a node has to know of a monitoring plan, to compute the same rate."""
    numbers = {name: getattr(plan, name) for name in PLAN_RANGES}
    return {
        "is_circular": plan.shape == "circular",
        "is_dry": plan.basis == "dry",
        "prefers_pitot": plan.velocity_method == "pitot",
    } | numbers


def plan_of(part: Mapping[str, Any]) -> MonitoringPlan:
    """The monitoring plan of a document that was checked."""
    given: dict[str, Any] = {name: part[name] for name in PLAN_RANGES if name in part}
    if "is_circular" in part:
        given["shape"] = "circular" if part["is_circular"] else "rectangular"
    if "is_dry" in part:
        given["basis"] = "dry" if part["is_dry"] else "wet"
    if "prefers_pitot" in part:
        given["velocity_method"] = "pitot" if part["prefers_pitot"] else "anemometer"
    return MonitoringPlan(**given)


def document_of(settings: DeviceSettings | None, plan: MonitoringPlan, pressure_kpa: float) -> dict[str, Any]:
    """The document of a device, without its revision. ``settings`` None: nobody chose any, the node's own count."""
    document: dict[str, Any] = {"v": 1}
    if settings is not None:
        limits = [asdict(limit) for limit in settings.limits]
        for limit in limits:
            if limit["limit"] is None:
                del limit["limit"]
        document |= asdict(settings) | {"limits": limits}
    # Two digits: a gauge of the site is no better, and a change of the last bits is no new revision.
    return document | {"site": {"pressure_kpa": round(pressure_kpa, 2)}, "plan": plan_part(plan)}


def chosen_settings(document: Mapping[str, Any] | None) -> DeviceSettings | None:
    """The settings that somebody has chosen, as a document has them; None: nobody has."""
    if document is None or not any(name in document for name in SETTINGS_KEYS):
        return None
    found = {name: document[name] for name in SETTINGS_KEYS if name in document}
    if "limits" in found:
        known = {item.name for item in fields(Limit)}
        found["limits"] = tuple(
            Limit(**{name: value for name, value in it.items() if name in known}) for it in found["limits"]
        )
    return DeviceSettings(**found)


def message(document: Mapping[str, Any], rev: int) -> bytes:
    """The document as it is sent."""
    return msgspec.json.encode({"v": 1, "rev": rev} | {name: it for name, it in document.items() if name != "v"})


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a document by their paths, for comparing two of them."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        if name in {"v", "rev"}:
            continue
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": it for inner, it in value.items()}
        elif name == "limits":
            found |= {f"limits.{it['code']}": _limit_words(it) for it in value}
        else:
            found[name] = value
    return found


def _limit_words(limit: Mapping[str, Any]) -> str:
    value = limit.get("limit")
    parts = [] if value is None else [f"{value:g} ± {limit.get('hysteresis', 0):g}"]
    return ", ".join([*parts, f"{limit.get('for_s', 0)} s", str(limit.get("level", ""))])


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What changed from one document to the next: path, what it was, what it is; None where it was not said."""
    old, new = flat(before or {}), flat(after)
    paths = [*new, *(path for path in old if path not in new)]
    return [(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


# --- the checks


class _Object(dict[str, Any]):
    """A JSON object that remembers which names stand in it twice."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        found.twice = tuple(dict.fromkeys(name for name in names if names.count(name) > 1))
    return found


def read_object(body: bytes) -> dict[str, Any] | None:
    """A message to a node as the object that it should be; None for what is none, or has a name twice."""
    found = _read(body)
    return found if isinstance(found, _Object) and not found.twice else None


def rev_in(body: bytes) -> int:
    """The revision of a document that could not be taken; 0 where it does not say one."""
    found = _read(body)
    rev = found.get("rev") if isinstance(found, dict) else None
    return rev if type(rev) is int and 1 <= rev <= MOST_REV else 0


def _read(body: bytes) -> Any:
    """Whatever JSON it is; None for none."""
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def check_message(body: bytes) -> tuple[dict[str, Any] | None, list[Fault]]:
    """What a node makes of a message on ``dn/config``: the document, or at most 8 faults."""
    if len(body) > MOST_BYTES:
        return None, [Fault("", "size")]
    document = _read(body)
    faults = check_document(document)
    return (None, faults) if faults else (document, [])


def check_document(document: Any) -> list[Fault]:
    """Everything that is wrong with a document, at most 8 faults; none: a node may take it.

    What does not fit together is looked for only where each value by itself is right.
    """
    if not isinstance(document, dict):
        return [Fault("", "syntax")]
    faults = list(_faults(document)) or list(_misfits(document))
    return faults[:MOST_ERRORS]


def _faults(document: dict[str, Any]) -> Iterator[Fault]:
    yield from _twice(document, "")
    version = document.get("v")
    if version is None:
        yield Fault("v", "missing")
    elif version != 1:
        yield Fault("v", "value")
    yield from _whole(document, "rev", (1, MOST_REV), needed=True)
    for name, bounds in RANGES.items():
        yield from _whole(document, name, bounds)
    for name, check in (("site", _site_faults), ("plan", _plan_faults)):
        part = document.get(name, {})
        if isinstance(part, dict):
            yield from _twice(part, f"{name}.")
            yield from check(part)
        else:
            yield Fault(name, "type")
    yield from _limits_faults(document.get("limits", []))
    for name in ("buzzer", "led"):
        yield from _flag(document, name, "")


def _misfits(document: dict[str, Any]) -> Iterator[Fault]:
    if document.get("sample_s", 5) * 1000 / document.get("readings", 5) < SHORTEST_READING_MS:
        yield Fault("readings", "range")
    plan = document.get("plan", {})
    deposit_m = 2 * plan.get("wall_deposit_mm", 0) / 1000
    for name in ("diameter_m",) if plan.get("is_circular", True) else ("width_m", "length_m"):
        length = plan.get(name, 0.8 if name == "diameter_m" else None)
        if length is None:
            yield Fault(f"plan.{name}", "missing")
        elif length <= deposit_m:
            yield Fault(f"plan.{name}", "range")
    defaults = MonitoringPlan()
    for name in ("temperature_c", "velocity_ms", "co2_ppm"):
        on, off = (plan.get(f"{it}_{name}", getattr(defaults, f"{it}_{name}")) for it in ("on", "off"))
        if off > on:
            yield Fault(f"plan.off_{name}", "range")


def _twice(found: dict[str, Any], prefix: str) -> Iterator[Fault]:
    if isinstance(found, _Object):
        yield from (Fault(prefix + name, "syntax") for name in found.twice)


def _whole(
    found: dict[str, Any], name: str, bounds: tuple[int, int], prefix: str = "", *, needed: bool = False
) -> Iterator[Fault]:
    value: Any = found.get(name)
    if name not in found:
        if needed:
            yield Fault(prefix + name, "missing")
    elif type(value) not in {int, float} or (type(value) is float and isfinite(value) and value != int(value)):
        yield Fault(prefix + name, "type")
    elif not bounds[0] <= value <= bounds[1]:
        yield Fault(prefix + name, "range")


def _flag(found: dict[str, Any], name: str, prefix: str) -> Iterator[Fault]:
    if name in found and type(found[name]) is not bool:
        yield Fault(prefix + name, "type")


def _number(found: dict[str, Any], name: str, bounds: tuple[float, float], prefix: str) -> Iterator[Fault]:
    value = found.get(name, bounds[0])
    if type(value) not in {int, float}:
        yield Fault(prefix + name, "type")
    elif not bounds[0] <= value <= bounds[1]:  # not so for infinity and NaN either
        yield Fault(prefix + name, "range")


def _site_faults(site: dict[str, Any]) -> Iterator[Fault]:
    yield from _number(site, "pressure_kpa", PRESSURE_KPA, "site.")


def _plan_faults(plan: dict[str, Any]) -> Iterator[Fault]:
    for name in _PLAN_FLAGS:
        yield from _flag(plan, name, "plan.")
    for name, bounds in PLAN_RANGES.items():
        if name not in _PLAN_LENGTHS or plan.get(name) is not None:
            yield from _number(plan, name, bounds, "plan.")


def _limits_faults(limits: Any) -> Iterator[Fault]:
    if not isinstance(limits, list):
        yield Fault("limits", "type")
        return
    if len(limits) > MOST_LIMITS:
        yield Fault("limits", "too_many")
        return
    for number, limit in enumerate(limits):
        if isinstance(limit, dict):
            yield from _twice(limit, f"limits.{number}.")
            yield from _limit_faults(limit, f"limits.{number}.")
        else:
            yield Fault(f"limits.{number}", "type")


def _limit_faults(limit: dict[str, Any], at: str) -> Iterator[Fault]:
    code = limit.get("code")
    if code is None:
        yield Fault(f"{at}code", "missing")
    elif not isinstance(code, str):
        yield Fault(f"{at}code", "type")
    elif code not in set(LimitCode):
        yield Fault(f"{at}code", "value")
    elif code != LimitCode.SENSOR_FAULT:
        if limit.get("limit") is None:
            yield Fault(f"{at}limit", "missing")
        else:
            yield from _number(limit, "limit", LIMIT_RANGES[code], at)
    yield from _number(limit, "hysteresis", (0.0, 1000.0), at)
    yield from _whole(limit, "for_s", FOR_S, at)
    level = limit.get("level", "warning")
    if not isinstance(level, str):
        yield Fault(f"{at}level", "type")
    elif level not in LEVELS:
        yield Fault(f"{at}level", "value")


def fault_text(fault: Fault, *, settings: bool = False) -> str:
    """What is wrong, for people; of a setting with its bounds."""
    if settings and fault == Fault("readings", "range"):
        return gettext("must be from 1 to 15, and there must be 100 ms for each: choose fewer, or a longer interval")
    if settings and fault.code in {"range", "type"} and (bounds := _bounds_of(fault.path)):
        return gettext(
            "must be from %(least)s to %(most)s", least=format(bounds[0], ",.10g"), most=format(bounds[1], ",.10g")
        )
    text = FAULT_TEXTS.get(fault.code)
    return gettext(text) if text else fault.code


def error_line(fault: Fault) -> str:
    """What a node found wrong, with its place in the document."""
    return f"{fault.path}: {fault_text(fault)}" if fault.path else fault_text(fault)


def _bounds_of(path: str) -> tuple[float, float] | None:
    name = path.rpartition(".")[2]
    if name == "for_s":
        return FOR_S
    return RANGES.get(name)


class SettingsError(ValueError):
    """Settings that no node may be given: which, and why."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{it.path}: {fault_text(it, settings=True)}" for it in faults))
        self.faults = tuple(faults)


def check_settings(settings: DeviceSettings) -> None:
    """Raise :class:`SettingsError` for settings that a node would refuse."""
    document = document_of(settings, MonitoringPlan(), 80.0) | {"rev": 1}
    faults = check_document(document)
    codes = [limit.code for limit in settings.limits]
    # A node takes the same code twice. Whoever reads its page does not see which one counts.
    faults += [Fault(f"limits.{at}.code", "value") for at, code in enumerate(codes) if code in codes[:at]]
    if faults:
        raise SettingsError(faults)


# --- commands


@dataclass(frozen=True, slots=True)
class Argument:
    """The one number that a command may take. ``default`` None: it has to be given."""

    name: str
    least: float
    most: float
    default: float | None
    is_whole: bool = True


COMMANDS: Mapping[str, Argument | None] = {
    "ping": None,
    "identify": Argument("seconds", 1, 300, 30),
    "silence": Argument("minutes", 0, 1440, 60),
    "maintenance": Argument("minutes", 0, 1440, 60),
    "zero_cal": None,
    "span_cal": Argument("ppm", 1, 1_000_000, None, is_whole=False),
    "diag": None,
    "reboot": None,
}
"""What a node can be told to do, and with which number."""


class CommandError(ValueError):
    """A command that no node knows, or a number that it does not take; ``name`` is the argument's."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


def check_command(cmd: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with their defaults. Raises :class:`CommandError`."""
    if cmd not in COMMANDS:
        raise CommandError(gettext("there is no such command; there are: %(names)s", names=", ".join(COMMANDS)), "cmd")
    argument = COMMANDS[cmd]
    for name in args:
        if argument is None or name != argument.name:
            raise CommandError(gettext("this command does not take it"), name)
    if argument is None:
        return {}
    value = args.get(argument.name, argument.default)
    if value is None:
        raise CommandError(gettext("is needed"), argument.name)
    is_number = type(value) is int or (type(value) is float and isfinite(value))
    if not is_number or not argument.least <= value <= argument.most or (argument.is_whole and value != int(value)):
        text = gettext(
            "must be from %(least)s to %(most)s",
            least=format(argument.least, ",.10g"),
            most=format(argument.most, ",.10g"),
        )
        raise CommandError(text, argument.name)
    return {argument.name: int(value) if argument.is_whole else value}


def new_command_id() -> str:
    """An id that no other command has: 8 hexadecimal digits."""
    return secrets.token_hex(4)


# --- what is kept


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One revision of a device's settings. ``document`` is what the node is sent, but for the revision."""

    id: int
    device_id: str
    rev: int
    document: Mapping[str, Any]
    made_at: datetime
    made_by: str
    why: Why
    state: ConfigState = ConfigState.WAITING
    sent_at: datetime | None = None
    errors: tuple[Fault, ...] = ()
    answered_at: datetime | None = None

    @property
    def is_given_up(self) -> bool:
        """Whether the node has said that it will not have it: it is not sent again by itself."""
        return self.state in {ConfigState.REFUSED, ConfigState.REVERTED}


@dataclass(frozen=True, slots=True)
class DeviceCommand:
    """One command to a device. ``command_id`` is its id on the wire."""

    id: int
    command_id: str
    device_id: str
    cmd: str
    args: Mapping[str, Any]
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    state: CommandState = CommandState.QUEUED
    sent_at: datetime | None = None
    answer: Mapping[str, Any] | None = None
    """What the node said: ``res`` and ``err``."""
    answered_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    def message(self) -> bytes:
        """The command as it is sent."""
        expires_ms = round(self.expires_at.timestamp() * 1000)
        body = {"v": 1, "id": self.command_id, "cmd": self.cmd, "args": self.args, "exp": expires_ms}
        return msgspec.json.encode(body)


# --- what a node answers


class _Error(msgspec.Struct):
    path: str = ""
    code: str = ""


class ConfigAnswer(msgspec.Struct):
    """A message on ``up/config``."""

    rev: int
    ok: bool
    active: int = 0
    errors: list[_Error] = []

    def faults(self) -> tuple[Fault, ...]:
        """What the node found, cut to what may be kept."""
        return tuple(Fault(shown(it.path), shown(it.code)) for it in self.errors[:MOST_ERRORS])


class CommandAnswer(msgspec.Struct):
    """A message on ``up/res``; what concerns firmware has no ``id``."""

    cmd: str = ""
    st: str = ""
    id: str = ""
    res: dict[str, Any] = {}
    err: str = ""

    def kept(self) -> dict[str, Any]:
        """What is kept of it: simple values under simple names."""
        simple = {
            shown(name): shown(value) if isinstance(value, str) else value
            for name, value in self.res.items()
            if value is None or isinstance(value, bool | int | float | str)
        }
        return {"res": simple, "err": shown(self.err)}


decode_config_answer = msgspec.json.Decoder(ConfigAnswer).decode
decode_command_answer = msgspec.json.Decoder(CommandAnswer).decode


def shown(text: str) -> str:
    """A node's word, as it may be kept and shown."""
    return "".join(it for it in text if it.isprintable())[:LONGEST_TEXT]
