"""What a simulated node is told: settings, which it checks before it takes them, and commands, each done once. No I/O.

It does not go back by itself to the settings before: nothing that it is told can make it crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from carbontrack.device_settings import CommandError, check_command, check_message, plan_of
from carbontrack.model import Flag, MonitoringPlan

REMEMBERED = 16
"""Commands whose answers a node keeps: the same id again gets the same answer."""
CALIBRATION_MS = 120_000


class OrdersState(msgspec.Struct, frozen=True):
    """What a node keeps of its orders over a restart: the newest settings, and the command that made it restart."""

    rev: int = 0
    document: dict[str, Any] = {}
    reboot_id: str = ""
    reboot_is_told: bool = True


class _Command(msgspec.Struct):
    cmd: str
    id: Any = ""
    args: dict[str, Any] = {}
    exp: int | None = None


_decode_command = msgspec.json.Decoder(_Command).decode


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
        rev = _rev_in(body) if document is None else document["rev"]
        if document is not None and rev < self.rev:
            errors = [{"path": "rev", "code": "older"}]
        if errors or document is None:
            return msgspec.json.encode({"v": 1, "rev": rev, "ok": False, "active": self.rev, "errors": errors})
        self._state = msgspec.structs.replace(self._state, rev=rev, document=document)
        return msgspec.json.encode({"v": 1, "rev": rev, "ok": True, "active": rev})

    # --- commands

    def take_command(self, body: bytes, now_ms: int, *, clock_set: bool) -> bytes | None:
        """Do what a command says, once; the answer for ``up/res``. None: alarms, and what is no command, have none."""
        try:
            command = _decode_command(body)
        except (msgspec.MsgspecError, UnicodeError):
            return None
        if not isinstance(command.id, str) or not command.id:
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
        if clock_set and command.exp is not None and now_ms > command.exp:
            return {"st": "expired"}
        try:
            args = check_command(command.cmd, command.args)
        except CommandError as error:
            return {"st": "unknown"} if error.name == "cmd" else {"st": "failed", "err": "bad_args"}
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


def _rev_in(body: bytes) -> int:
    """The revision of a message that could not be taken, as far as it says one."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return 0
    rev = found.get("rev") if isinstance(found, dict) else None
    return rev if type(rev) is int else 0
