"""Settings of devices and commands in words: states with what to do, names with units, changes, and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carbontrack.device_settings import (
    CommandState,
    ConfigState,
    DeviceCommand,
    DeviceConfig,
    Fault,
    LimitCode,
    Why,
    differences,
    fault_text,
)
from carbontrack.web.audit_words import Change, field_title
from carbontrack.web.present import NO_VALUE
from carbontrack.words import N_, decimal, gettext

SETTING_TITLES: Mapping[str, str] = {
    "sample_s": N_("Seconds between two readings"),
    "readings": N_("Measurements for one reading"),
    "warm_up_s": N_("Seconds to warm up"),
    "stuck_s": N_("Seconds until a value counts as stuck"),
    "buzzer": N_("Buzzer"),
    "led": N_("Lamp"),
    "site.pressure_kpa": N_("Pressure of the site, kPa"),
}
LIMIT_TITLES: Mapping[str, str] = {
    LimitCode.RATE_HIGH: N_("CO2 above"),
    LimitCode.TEMPERATURE_HIGH: N_("Gas hotter than"),
    LimitCode.TEMPERATURE_LOW: N_("Gas colder than, while the boiler runs"),
    LimitCode.VELOCITY_HIGH: N_("Gas faster than"),
    LimitCode.VELOCITY_LOW: N_("Gas slower than, while the boiler runs"),
    LimitCode.SENSOR_FAULT: N_("A sensor has a fault"),
}
LIMIT_UNITS: Mapping[str, str] = {
    LimitCode.RATE_HIGH: "kg/s",
    LimitCode.TEMPERATURE_HIGH: "°C",
    LimitCode.TEMPERATURE_LOW: "°C",
    LimitCode.VELOCITY_HIGH: "m/s",
    LimitCode.VELOCITY_LOW: "m/s",
    LimitCode.SENSOR_FAULT: "",
}
LEVEL_TITLES: Mapping[str, str] = {"info": N_("Information"), "warning": N_("Warning"), "critical": N_("Critical")}
COMMAND_TITLES: Mapping[str, str] = {
    "ping": N_("Ask whether it is there"),
    "identify": N_("Show which box it is"),
    "silence": N_("Silence its buzzer"),
    "maintenance": N_("Maintenance"),
    "zero_cal": N_("Calibrate its zero"),
    "span_cal": N_("Calibrate its span"),
    "diag": N_("Diagnose"),
    "reboot": N_("Restart"),
}
ARGUMENT_UNITS: Mapping[str, str] = {"seconds": "s", "minutes": "min", "ppm": "ppm"}
WHY_TITLES: Mapping[str, str] = {
    Why.FIRST: N_("heard for the first time"),
    Why.SETTINGS: N_("settings saved"),
    Why.PLAN: N_("another monitoring plan or pressure"),
    Why.AHEAD: N_("the device had a newer revision than the platform"),
}
CONFIG_TITLES: Mapping[str, str] = {
    ConfigState.WAITING: N_("Waiting"),
    ConfigState.SENT: N_("Sent"),
    ConfigState.APPLIED: N_("Applied"),
    ConfigState.REFUSED: N_("Refused"),
    ConfigState.REVERTED: N_("Taken back"),
}
COMMAND_STATES: Mapping[str, str] = {
    CommandState.QUEUED: N_("Waiting for the device"),
    CommandState.SENT: N_("Sent"),
    CommandState.ACCEPTED: N_("Under way"),
    CommandState.DONE: N_("Done"),
    CommandState.FAILED: N_("Failed"),
    CommandState.EXPIRED: N_("Expired"),
    CommandState.UNKNOWN: N_("Not known to it"),
}
TONES: Mapping[str, str] = {
    ConfigState.APPLIED: "good",
    ConfigState.REFUSED: "bad",
    ConfigState.REVERTED: "bad",
    CommandState.DONE: "good",
    CommandState.FAILED: "bad",
    CommandState.UNKNOWN: "bad",
    CommandState.EXPIRED: "attention",
    CommandState.ACCEPTED: "attention",
}
"""How a badge looks; what is in none of these is under way."""
WHY_FAILED: Mapping[str, str] = {
    "unsupported": N_("The device cannot do this."),
    "bad_args": N_("The device does not take this number."),
    "busy": N_("The device is busy with something else. Try again in a minute."),
}
RESULT_TITLES: Mapping[str, str] = {
    "uptime_s": N_("Has run for"),
    "boot": N_("Start number"),
    "heap_free_kib": N_("Free memory, KiB"),
    "ring_used": N_("Records in its store"),
    "ring_capacity": N_("Room in its store"),
    "erasures": N_("Erasures of its memory"),
    "reconnects": N_("Connections"),
    "frame_errors": N_("Errors on its serial lines"),
    "drift_ppm": N_("Drift of its clock, ppm"),
    "firmware": N_("Firmware"),
    "mode": N_("Mode"),
    "reset_cause": N_("Why it started"),
}


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as the page shows it."""

    config: DeviceConfig
    state: str
    tone: str
    why: str
    changes: Sequence[Change]
    errors: Sequence[str]
    is_replaced: bool
    """A newer one came before the device had this one."""


@dataclass(frozen=True, slots=True)
class Given:
    """A command as the page shows it."""

    command: DeviceCommand
    title: str
    state: str
    tone: str
    advice: str
    result: Sequence[tuple[str, str]]


def revisions(configs: Sequence[DeviceConfig], most: int) -> list[Revision]:
    """Revisions, newest first, each compared with the one before; of a first one all that it says is new."""
    found = []
    for number, config in enumerate(configs[:most]):
        before = configs[number + 1].document if number + 1 < len(configs) else None
        changes = [
            Change(title_of(path), _said(was), _said(now)) for path, was, now in differences(before, config.document)
        ]
        is_replaced = number > 0 and config.state in {ConfigState.WAITING, ConfigState.SENT}
        state = gettext(N_("Replaced")) if is_replaced else gettext(CONFIG_TITLES[config.state])
        errors = [error_of(fault) for fault in config.errors]
        tone = TONES.get(config.state, "unknown")
        found.append(Revision(config, state, tone, gettext(WHY_TITLES[config.why]), changes, errors, is_replaced))
    return found


def title_of(path: str) -> str:
    """The name of a value by its path in the document."""
    if path in SETTING_TITLES:
        return gettext(SETTING_TITLES[path])
    group, _, name = path.partition(".")
    if group == "limits" and name in LIMIT_TITLES:
        return gettext(LIMIT_TITLES[name])
    return field_title(name) if group == "plan" and name else path


def error_of(fault: Fault) -> str:
    """What a device found wrong, as a line."""
    return f"{title_of(fault.path)}: {fault_text(fault)}" if fault.path else fault_text(fault)


def _said(value: Any) -> str:
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, int | float):
        return decimal(value, 0) if float(value).is_integer() else f"{value:.6g}"
    return str(value)


def given(command: DeviceCommand) -> Given:
    """A command with what became of it."""
    parts = [gettext(COMMAND_TITLES.get(command.cmd, command.cmd))]
    parts += [f"{_said(value)} {ARGUMENT_UNITS.get(name, name)}" for name, value in command.args.items()]
    answer = command.answer or {}
    return Given(
        command,
        ", ".join(parts),
        gettext(COMMAND_STATES[command.state]),
        TONES.get(command.state, "unknown"),
        _advice(command, str(answer.get("err", ""))),
        [
            (gettext(RESULT_TITLES.get(name, name)), _result(name, value))
            for name, value in answer.get("res", {}).items()
        ],
    )


def _advice(command: DeviceCommand, error: str) -> str:
    match command.state:
        case CommandState.FAILED:
            return gettext(WHY_FAILED[error]) if error in WHY_FAILED else error
        case CommandState.EXPIRED if command.sent_at is None:
            return gettext("The device did not connect in time. It was not told.")
        case CommandState.EXPIRED:
            return gettext("The device has not answered. Its firmware may take no commands, or it is away.")
        case CommandState.UNKNOWN:
            return gettext("Its firmware is too old for this.")
    return ""


def _result(name: str, value: Any) -> str:
    if name == "uptime_s" and isinstance(value, int | float) and 0 <= value < 1e9:
        hours, minutes = divmod(int(value) // 60, 60)
        return gettext("%(hours)s h %(minutes)s min", hours=decimal(hours, 0), minutes=minutes)
    return _said(value)
