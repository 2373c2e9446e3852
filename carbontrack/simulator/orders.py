"""What a simulated node is told: settings, which it checks before it takes them, and commands, each done once. No I/O.

It does not go back by itself to the settings before: nothing that it is told can make it crash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from carbontrack.device_settings import (
    COMMANDS,
    CommandError,
    check_command,
    check_message,
    plan_of,
    read_object,
    rev_in,
)
from carbontrack.model import Flag, MonitoringPlan

REMEMBERED = 16
"""Commands whose answers a node keeps: the same id again gets the same answer."""
CALIBRATION_MS = 120_000
ID = re.compile(r"[0-9a-f]{8,16}")
LONGEST_NAME = 16
"""Of a command that a node repeats in its answer."""


class OrdersState(msgspec.Struct, frozen=True):
    """What a node keeps of its orders over a restart: the newest settings, and the command that made it restart."""

    rev: int = 0
    document: dict[str, Any] = {}
    reboot_id: str = ""
    reboot_is_told: bool = True


@dataclass(frozen=True, slots=True)
class _Command:
    cmd: str
    id: str
    args: dict[str, Any]
    expires_ms: float
    is_sound: bool
    """Whether arguments and time are of the right types."""


def _command_in(body: bytes) -> _Command | None:
    """A command that wants an answer; None for alarms, and for what is no command."""
    found = read_object(body)
    if found is None or found.get("v") != 1 or found.get("cmd") == "alarm":
        return None
    number, cmd, args, expires = found.get("id"), found.get("cmd"), found.get("args", {}), found.get("exp", 0)
    if not isinstance(number, str) or not ID.fullmatch(number):
        return None
    is_sound = isinstance(args, dict) and type(expires) in {int, float}
    name = cmd if isinstance(cmd, str) and len(cmd) <= LONGEST_NAME else ""
    return _Command(name, number, args if is_sound else {}, expires if is_sound else 0, is_sound)


class Orders:
    """The settings and commands of one node. ``diagnose`` gives what it says of itself, at a moment."""

    def __init__(self, state: OrdersState, diagnose: Callable[[int], Mapping[str, Any]]) -> None:
        self.wants_reboot = False
        """Whether the node is to restart as soon as its answer has arrived."""
        self._state = state
        self._diagnose = diagnose
        self._answers: dict[str, dict[str, Any]] = {}
        self._maintenance_until_ms = self._calibration_until_ms = 0

    def state(self) -> OrdersState:
        """All that is kept over a restart."""
        return self._state

    @property
    def rev(self) -> int:
        """The revision of the settings; 0: none was ever taken."""
        return self._state.rev

    @property
    def sample_s(self) -> float | None:
        """Seconds between two records; None: nobody has said."""
        found: float | None = self._state.document.get("sample_s")
        return found

    @property
    def plan(self) -> MonitoringPlan | None:
        """The monitoring plan to compute the rate with; None: nobody has said."""
        part = self._state.document.get("plan")
        return plan_of(part) if part is not None else None

    def flags(self, now_ms: int) -> Flag:
        """What a person has told the node of its readings."""
        found = Flag.MAINTENANCE if now_ms < self._maintenance_until_ms else Flag(0)
        return found | Flag.CALIBRATION if now_ms < self._calibration_until_ms else found

    # --- settings

    def take_config(self, body: bytes) -> bytes:
        """Take settings wholly or not at all; the answer for ``up/config``."""
        document, faults = check_message(body)
        errors = [{"path": it.path, "code": it.code} for it in faults]
        rev = rev_in(body) if document is None else document["rev"]
        if document is not None and rev < self.rev:
            errors = [{"path": "rev", "code": "older"}]
        elif document is not None and rev == self.rev and document != self._state.document:
            errors = [{"path": "rev", "code": "value"}]
        if errors or document is None:
            return msgspec.json.encode({"v": 1, "rev": rev, "ok": False, "active": self.rev, "errors": errors})
        self._state = msgspec.structs.replace(self._state, rev=rev, document=document)
        return msgspec.json.encode({"v": 1, "rev": rev, "ok": True, "active": rev})

    # --- commands

    def take_command(self, body: bytes, now_ms: int, *, clock_set: bool) -> bytes | None:
        """Do what a command says, once; the answer for ``up/res``. None: alarms, and what is no command, have none."""
        command = _command_in(body)
        if command is None:
            return None
        answer = self._answers.get(command.id)
        if answer is None:
            answer = self._answers[command.id] = self._done(command, now_ms, clock_set=clock_set)
            while len(self._answers) > REMEMBERED:
                del self._answers[next(iter(self._answers))]
        return msgspec.json.encode({"v": 1, "id": command.id, "cmd": command.cmd, "res": {}, "err": ""} | answer)

    def _done(self, command: _Command, now_ms: int, *, clock_set: bool) -> dict[str, Any]:
        if command.id == self._state.reboot_id:
            return {"st": "done"}
        if clock_set and 0 < command.expires_ms < now_ms:
            return {"st": "expired"}
        if command.cmd not in COMMANDS:
            return {"st": "unknown"}
        argument, args = COMMANDS[command.cmd], None
        if argument is None or argument.name in command.args:  # the defaults are the platform's
            with suppress(CommandError):
                args = check_command(command.cmd, command.args)
        if args is None or not command.is_sound:
            return {"st": "failed", "err": "bad_args"}
        if command.cmd == "reboot":
            self._state = msgspec.structs.replace(self._state, reboot_id=command.id, reboot_is_told=False)
            self.wants_reboot = True
            return {"st": "accepted"}
        if command.cmd == "maintenance":
            self._maintenance_until_ms = now_ms + args["minutes"] * 60_000
        elif command.cmd in {"zero_cal", "span_cal"}:
            self._calibration_until_ms = now_ms + CALIBRATION_MS
        return {"st": "done", "res": dict(self._diagnose(now_ms))} if command.cmd == "diag" else {"st": "done"}

    def restarted(self) -> None:
        """The node has begun a new boot: what was only in its memory is gone."""
        self.wants_reboot = False
        self._answers.clear()
        self._maintenance_until_ms = self._calibration_until_ms = 0

    def after_birth(self) -> bytes | None:
        """What is to be said after the birth of a boot that a command asked for."""
        if self._state.reboot_is_told or self.wants_reboot:
            return None
        self._state = msgspec.structs.replace(self._state, reboot_is_told=True)
        answer = {"v": 1, "id": self._state.reboot_id, "cmd": "reboot", "st": "done", "res": {}, "err": ""}
        return msgspec.json.encode(answer)
