"""Events of the audit log in words: what was done, about what, and what was before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carbontrack.model import AuditAction, AuditEvent, Scope, UserStatus
from carbontrack.passwords import RESET
from carbontrack.web.present import NO_VALUE, ROLE_TITLES, SCOPE_TEXTS, STATUS_TITLES
from carbontrack.web.templating import PEOPLE
from carbontrack.words import LANGUAGE_TITLES

ACTION_TITLES: Mapping[str, str] = {
    AuditAction.USER_SIGNED_IN: "Signed in",
    AuditAction.USER_SIGN_IN_FAILED: "Failed to sign in",
    AuditAction.USER_SIGNED_OUT: "Signed out",
    AuditAction.USER_SESSION_ENDED: "Signed out elsewhere",
    AuditAction.USER_SESSIONS_ENDED: "Signed out everywhere",
    AuditAction.USER_PASSWORD_SET: "Password set",
    AuditAction.USER_CODE_MADE: "One-time code made",
    AuditAction.USER_CODE_REFUSED: "Wrong one-time code",
    AuditAction.USER_ADDED: "Person added",
    AuditAction.USER_APPROVED: "Person approved",
    AuditAction.USER_CHANGED: "Person changed",
    AuditAction.USER_DISABLED: "Person disabled",
    AuditAction.USER_ENABLED: "Person enabled again",
    AuditAction.USER_REMOVED: "Person refused",
    AuditAction.TOKEN_ADDED: "API token made",
    AuditAction.TOKEN_REVOKED: "API token revoked",
    AuditAction.FACTORY_ADDED: "Factory added",
    AuditAction.FACTORY_CHANGED: "Factory changed",
    AuditAction.FACTORY_REMOVED: "Factory removed",
    AuditAction.STACK_ADDED: "Chimney added",
    AuditAction.STACK_CHANGED: "Chimney changed",
    AuditAction.STACK_REMOVED: "Chimney removed",
    AuditAction.PLAN_ADDED: "Monitoring plan added",
    AuditAction.DEVICE_ADDED: "Device added",
    AuditAction.DEVICE_CHANGED: "Device changed",
    AuditAction.DEVICE_REMOVED: "Device removed",
    AuditAction.DEVICE_PASSWORD_ROTATED: "Device given another password",
    AuditAction.DEVICE_UNPARKED: "Device taken back to work",
    AuditAction.ENERGY_ENTRY_ADDED: "Energy entered",
    AuditAction.ENERGY_ENTRY_CHANGED: "Energy entry changed",
    AuditAction.ENERGY_ENTRY_WITHDRAWN: "Energy entry withdrawn",
    AuditAction.PRODUCTION_ENTRY_ADDED: "Tea entered",
    AuditAction.PRODUCTION_ENTRY_CHANGED: "Tea entry changed",
    AuditAction.PRODUCTION_ENTRY_WITHDRAWN: "Tea entry withdrawn",
    AuditAction.TARGET_ADDED: "Target set",
    AuditAction.TARGET_WITHDRAWN: "Target withdrawn",
    AuditAction.WOOD_PRICE_ADDED: "Price of wood set",
    AuditAction.WOOD_PRICE_WITHDRAWN: "Price of wood withdrawn",
    AuditAction.STATEMENT_ADDED: "Period reported",
    AuditAction.REPORT_MADE: "Report made",
    AuditAction.REPORT_PREPARED: "Report prepared",
    AuditAction.REPORT_REVIEWED: "Report reviewed",
    AuditAction.REPORT_APPROVED: "Report approved",
    AuditAction.REPORT_RETURNED: "Report returned to its draft",
    AuditAction.REPORT_WITHDRAWN: "Report withdrawn",
    AuditAction.REPORT_SHARED: "Report shared by a link",
    AuditAction.REPORT_LINK_REVOKED: "Link to a report revoked",
    AuditAction.ALERT_ACKNOWLEDGED: "Alert acknowledged",
    AuditAction.ALERT_SHELVED: "Alert shelved",
    AuditAction.ALERT_UNSHELVED: "Alert no longer shelved",
    AuditAction.ALERT_BOUND_SET: "Bounds of an alert's number set",
    AuditAction.ALERT_BOUND_REMOVED: "Bounds of an alert's number removed",
    AuditAction.ALERT_ADJUSTED: "Alert adjusted for a factory",
    AuditAction.ALERT_ADJUSTMENT_REMOVED: "Alert no longer adjusted for a factory",
    AuditAction.DUTY_CHANGED: "Duty list changed",
    AuditAction.QUARANTINE_REPLAYED: "Quarantine handed in once more",
    AuditAction.QUARANTINE_DISMISSED: "Quarantine dismissed",
    AuditAction.PLUGINS_RELOADED: "Configuration reloaded",
}
ASKED = "Asked for an account"
FIELD_TITLES: Mapping[str, str] = {
    "email": "E-mail",
    "phone_number": "Telephone",
    "locale": "Language",
    "factory_id": "Factory",
    "stack_id": "Chimney",
    "expires_at": "Ends",
    "prefix": "Begins with",
    "sha256": "SHA-256",
    "evidence": "Note or invoice",
    "kes": "KES",
}
KIND_TITLES: Mapping[str, str] = {
    "user": "person",
    "duty": "duty list",
    "stack": "chimney",
    "plan": "plan",
    "token": "token",
    "energy_entry": "entry",
    "production_entry": "entry",
    "statement": "report",
    "wood_price": "price of wood",
    "alert_rule": "alert",
}
UNITS: Mapping[str, str] = {"m": "m", "ms": "m/s", "kg": "kg", "kpa": "kPa", "ppm": "ppm", "c": "°C", "s": "s"}
"""The last part of a field's name, where it is one, and how it is written."""
VALUE_TITLES: Mapping[tuple[str, str], Mapping[Any, str]] = {
    ("user", "role"): ROLE_TITLES,
    ("user", "status"): STATUS_TITLES,
    ("user", "locale"): LANGUAGE_TITLES,
    ("user", "purpose"): {RESET: "a new password"},
}
"""Words for values, by what an event is about and the field."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", re.ASCII)
EMPTY = (None, "")
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """One field of an event; ``before`` or ``after`` is empty where there was nothing to compare."""

    title: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Told:
    """An event as the page shows it. ``url`` is the page of what it is about, where there is one."""

    event: AuditEvent
    title: str
    subject: str
    url: str
    factory: str
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Names:
    """What numbers in events stand for, by the number as text; what is gone has no name any more."""

    people: Mapping[str, str]
    factories: Mapping[str, str]
    stacks: Mapping[str, str]
    moment: Callable[[datetime], str]

    def told(self, event: AuditEvent) -> Told:
        """An event in words."""
        before, after = _flat(event.before or {}), _flat(event.after or {})
        title = ACTION_TITLES.get(event.action, event.action)
        if event.action == AuditAction.USER_ADDED and after.get("status") == UserStatus.PENDING:
            title = ASKED
        is_person = event.subject_kind == "user" and event.subject_id in self.people
        return Told(
            event,
            title,
            self.subject(event.subject_kind, event.subject_id, after | before),
            f"{PEOPLE}{event.subject_id}/" if is_person else "",
            self.factories.get(str(event.factory_id), ""),
            [
                Change(
                    _field(name), *(self._said(event.subject_kind, name, side.get(name)) for side in (before, after))
                )
                for name in dict.fromkeys((*before, *after))
                if before.get(name) not in EMPTY or after.get(name) not in EMPTY
            ],
        )

    def subject(self, kind: str, number: str, values: Mapping[str, Any] = NOTHING) -> str:
        """What an event is about; ``values`` are those of the event, which may have a name in them."""
        known = {"user": self.people, "factory": self.factories, "stack": self.stacks}.get(kind, {})
        named = known.get(number) or next((values[name] for name in ("email", "name") if name in values), "")
        if named or not number or kind == "device":
            return str(named or number)
        return f"{KIND_TITLES.get(kind, kind)} {number}"

    def _said(self, kind: str, name: str, value: Any) -> str:
        """A value as people write it."""
        if value in EMPTY:
            return NO_VALUE
        if isinstance(value, bool):
            text = "yes" if value else "no"
        elif name in {"factory_id", "stack_id"}:
            text = self.subject(name.removesuffix("_id"), str(value))
        elif name == "scopes":
            text = "; ".join(_scope(scope) for scope in str(value).split(","))
        elif isinstance(value, str) and (moment := _moment(value)):
            text = self.moment(moment)
        elif isinstance(value, list):
            text = json.dumps(value, ensure_ascii=False)
        else:
            text = VALUE_TITLES.get((kind, name), {}).get(value, str(value))
        return text


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values within values as fields of their own: a stack's ``plan`` has twenty."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _moment(text: str) -> datetime | None:
    """A time as the log writes it; None for any other text."""
    if not MOMENT.fullmatch(text):
        return None
    with suppress(ValueError):  # somebody's own words
        return datetime.fromisoformat(text)
    return None


def _scope(name: str) -> str:
    return SCOPE_TEXTS[Scope(name)] if name in list(Scope) else name


def _field(path: str) -> str:
    """The title of a field: ``altitude_m`` is "Altitude, m"."""
    name = path.rpartition(".")[2]
    if name in FIELD_TITLES:
        return FIELD_TITLES[name]
    stem, _, unit = name.rpartition("_")
    words = (stem if stem and unit in UNITS else name).replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}" + (f", {UNITS[unit]}" if stem and unit in UNITS else "")
