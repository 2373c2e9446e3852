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
from carbontrack.words import LANGUAGE_TITLES, N_, gettext

ACTION_TITLES: Mapping[str, str] = {
    AuditAction.USER_SIGNED_IN: N_("Signed in"),
    AuditAction.USER_SIGN_IN_FAILED: N_("Failed to sign in"),
    AuditAction.USER_SIGNED_OUT: N_("Signed out"),
    AuditAction.USER_SESSION_ENDED: N_("Signed out elsewhere"),
    AuditAction.USER_SESSIONS_ENDED: N_("Signed out everywhere"),
    AuditAction.USER_PASSWORD_SET: N_("Password set"),
    AuditAction.USER_CODE_MADE: N_("One-time code made"),
    AuditAction.USER_CODE_REFUSED: N_("Wrong one-time code"),
    AuditAction.USER_ADDED: N_("Person added"),
    AuditAction.USER_APPROVED: N_("Person approved"),
    AuditAction.USER_CHANGED: N_("Person changed"),
    AuditAction.USER_DISABLED: N_("Person disabled"),
    AuditAction.USER_ENABLED: N_("Person enabled again"),
    AuditAction.USER_REMOVED: N_("Person refused"),
    AuditAction.TOKEN_ADDED: N_("API token made"),
    AuditAction.TOKEN_REVOKED: N_("API token revoked"),
    AuditAction.FACTORY_ADDED: N_("Factory added"),
    AuditAction.FACTORY_CHANGED: N_("Factory changed"),
    AuditAction.FACTORY_REMOVED: N_("Factory removed"),
    AuditAction.STACK_ADDED: N_("Chimney added"),
    AuditAction.STACK_CHANGED: N_("Chimney changed"),
    AuditAction.STACK_REMOVED: N_("Chimney removed"),
    AuditAction.PLAN_ADDED: N_("Monitoring plan added"),
    AuditAction.DEVICE_ADDED: N_("Device added"),
    AuditAction.DEVICE_CHANGED: N_("Device changed"),
    AuditAction.DEVICE_REMOVED: N_("Device removed"),
    AuditAction.DEVICE_PASSWORD_ROTATED: N_("Device given another password"),
    AuditAction.DEVICE_HANDED_OUT: N_("Device's configuration handed out"),
    AuditAction.DEVICE_REVOKED: N_("Device shut out"),
    AuditAction.DEVICE_REPLACED: N_("Device replaced"),
    AuditAction.DEVICE_CONFIGURED: N_("Device settings saved"),
    AuditAction.DEVICE_CONFIG_RESENT: N_("Device settings sent again"),
    AuditAction.DEVICE_COMMANDED: N_("Device told to do something"),
    AuditAction.FIRMWARE_ADDED: N_("Firmware added"),
    AuditAction.ROLLOUT_STARTED: N_("Roll-out of firmware started"),
    AuditAction.ROLLOUT_PAUSED: N_("Roll-out of firmware paused"),
    AuditAction.ROLLOUT_RESUMED: N_("Roll-out of firmware resumed"),
    AuditAction.ROLLOUT_STOPPED: N_("Roll-out of firmware stopped"),
    AuditAction.ROLLOUT_DONE: N_("Roll-out of firmware done"),
    AuditAction.DEVICE_UNPARKED: N_("Device taken back to work"),
    AuditAction.ENERGY_ENTRY_ADDED: N_("Energy entered"),
    AuditAction.ENERGY_ENTRY_CHANGED: N_("Energy entry changed"),
    AuditAction.ENERGY_ENTRY_WITHDRAWN: N_("Energy entry withdrawn"),
    AuditAction.ENERGY_ENTRY_PHOTO_ADDED: N_("Photo added to an energy entry"),
    AuditAction.PRODUCTION_ENTRY_ADDED: N_("Tea entered"),
    AuditAction.PRODUCTION_ENTRY_CHANGED: N_("Tea entry changed"),
    AuditAction.PRODUCTION_ENTRY_WITHDRAWN: N_("Tea entry withdrawn"),
    AuditAction.TARGET_ADDED: N_("Target set"),
    AuditAction.TARGET_WITHDRAWN: N_("Target withdrawn"),
    AuditAction.WOOD_PRICE_ADDED: N_("Price of wood set"),
    AuditAction.WOOD_PRICE_WITHDRAWN: N_("Price of wood withdrawn"),
    AuditAction.STATEMENT_ADDED: N_("Period reported"),
    AuditAction.REPORT_MADE: N_("Report made"),
    AuditAction.REPORT_PREPARED: N_("Report prepared"),
    AuditAction.REPORT_REVIEWED: N_("Report reviewed"),
    AuditAction.REPORT_APPROVED: N_("Report approved"),
    AuditAction.REPORT_RETURNED: N_("Report returned to its draft"),
    AuditAction.REPORT_WITHDRAWN: N_("Report withdrawn"),
    AuditAction.REPORT_SHARED: N_("Report shared by a link"),
    AuditAction.REPORT_LINK_REVOKED: N_("Link to a report revoked"),
    AuditAction.ALERT_ACKNOWLEDGED: N_("Alert acknowledged"),
    AuditAction.ALERT_SHELVED: N_("Alert shelved"),
    AuditAction.ALERT_UNSHELVED: N_("Alert no longer shelved"),
    AuditAction.ALERT_BOUND_SET: N_("Bounds of an alert's number set"),
    AuditAction.ALERT_BOUND_REMOVED: N_("Bounds of an alert's number removed"),
    AuditAction.ALERT_ADJUSTED: N_("Alert adjusted for a factory"),
    AuditAction.ALERT_ADJUSTMENT_REMOVED: N_("Alert no longer adjusted for a factory"),
    AuditAction.DUTY_CHANGED: N_("Duty list changed"),
    AuditAction.QUARANTINE_REPLAYED: N_("Quarantine handed in once more"),
    AuditAction.QUARANTINE_DISMISSED: N_("Quarantine dismissed"),
    AuditAction.PLUGINS_RELOADED: N_("Configuration reloaded"),
    AuditAction.DIAGNOSTICS_TAKEN: N_("Diagnostics taken"),
}
ASKED = N_("Asked for an account")
FIELD_TITLES: Mapping[str, str] = {
    "email": N_("E-mail"),
    "phone_number": N_("Telephone"),
    "locale": N_("Language"),
    "factory_id": N_("Factory"),
    "stack_id": N_("Chimney"),
    "expires_at": N_("Ends"),
    "prefix": N_("Begins with"),
    "sha256": "SHA-256",
    "evidence": N_("Note or invoice"),
    "wood_origin": N_("Whose wood"),
    "species": N_("Kind of tree"),
    "plot": N_("Where it grew"),
    "harvested_on": N_("Cut on"),
    "permit": N_("Number of the permit"),
    "un_locode": N_("UN/LOCODE"),
}
FIELDS = (
    N_("Altitude"),
    N_("Amount"),
    N_("Author"),
    N_("Basis"),
    N_("Buzzer"),
    N_("Calibration offset"),
    N_("Calibration slope"),
    N_("Chosen"),
    N_("Co2 range"),
    N_("Co2 response"),
    N_("Command"),
    N_("Comment"),
    N_("County"),
    N_("Created at"),
    N_("Diameter"),
    N_("Dilution ratio"),
    N_("Energy type"),
    N_("Failure limit"),
    N_("First name"),
    N_("Fuels"),
    N_("Green leaf"),
    N_("H2o fraction"),
    N_("Hardware"),
    N_("High"),
    N_("Is active"),
    N_("Is circular"),
    N_("Is dry"),
    N_("Last name"),
    N_("Latitude"),
    N_("Led"),
    N_("Legal entity"),
    N_("Length"),
    N_("Limits"),
    N_("Longitude"),
    N_("Low"),
    N_("Made tea"),
    N_("Metric"),
    N_("Minutes"),
    N_("Moisture"),
    N_("Name"),
    N_("Note"),
    N_("Off co2"),
    N_("Off temperature"),
    N_("Off velocity"),
    N_("On co2"),
    N_("On temperature"),
    N_("On velocity"),
    N_("People"),
    N_("Period end"),
    N_("Period start"),
    N_("Pitot coefficient"),
    N_("Ppm"),
    N_("Prefers pitot"),
    N_("Pressure"),
    N_("Profile factor source"),
    N_("Profile factor"),
    N_("Purpose"),
    N_("Readings"),
    N_("Reason"),
    N_("Region"),
    N_("Rev"),
    N_("Role"),
    N_("Rule"),
    N_("Sample"),
    N_("Scopes"),
    N_("Seconds"),
    N_("Sensor"),
    N_("Sessions"),
    N_("Shape"),
    N_("Shelved until"),
    N_("Source"),
    N_("Stack density kg per m3"),
    N_("Status"),
    N_("Stuck"),
    N_("Substitution"),
    N_("Supplier"),
    N_("Sustainability"),
    N_("Temperature max"),
    N_("Undisturbed downstream"),
    N_("Undisturbed upstream"),
    N_("Unit"),
    N_("User"),
    N_("Valid from"),
    N_("Validity"),
    N_("Value"),
    N_("Velocity max"),
    N_("Velocity method"),
    N_("Version"),
    N_("Wall deposit mm"),
    N_("Warm up"),
    N_("Width"),
)
"""Titles that follow from a field's name, to be translated: the rest is shown in English."""
KIND_TITLES: Mapping[str, str] = {
    "firmware": N_("firmware"),
    "rollout": N_("roll-out"),
    "user": N_("person"),
    "duty": N_("duty list"),
    "stack": N_("chimney"),
    "plan": N_("plan"),
    "token": N_("token"),
    "energy_entry": N_("entry"),
    "production_entry": N_("entry"),
    "statement": N_("report"),
    "wood_price": N_("price of wood"),
    "alert_rule": N_("alert"),
}
UNITS: Mapping[str, str] = {"m": "m", "ms": "m/s", "kg": "kg", "kpa": "kPa", "ppm": "ppm", "c": "°C", "s": "s"}
"""The last part of a field's name, where it is one, and how it is written."""
VALUE_TITLES: Mapping[tuple[str, str], Mapping[Any, str]] = {
    ("user", "role"): ROLE_TITLES,
    ("user", "status"): STATUS_TITLES,
    ("user", "locale"): LANGUAGE_TITLES,
    ("user", "purpose"): {RESET: N_("a new password")},
    ("device", "status"): {"active": N_("active"), "disabled": N_("disabled")},
}
"""Words for values, by what an event is about and the field."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", re.ASCII)
EMPTY = (None, "")
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """One field of an event or a revision; ``before`` or ``after`` is empty where there was nothing to compare."""

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
            gettext(title),
            self.subject(event.subject_kind, event.subject_id, after | before),
            f"{PEOPLE}{event.subject_id}/" if is_person else "",
            self.factories.get(str(event.factory_id), ""),
            [
                Change(
                    field_title(name),
                    *(self._said(event.subject_kind, name, side.get(name)) for side in (before, after)),
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
        return f"{gettext(KIND_TITLES.get(kind, kind))} {number}"

    def _said(self, kind: str, name: str, value: Any) -> str:
        """A value as people write it."""
        if value in EMPTY:
            return NO_VALUE
        if isinstance(value, bool):
            text = gettext("yes") if value else gettext("no")
        elif name in {"factory_id", "stack_id"}:
            text = self.subject(name.removesuffix("_id"), str(value))
        elif name == "scopes":
            text = "; ".join(_scope(scope) for scope in str(value).split(","))
        elif isinstance(value, str) and (moment := _moment(value)):
            text = self.moment(moment)
        elif isinstance(value, list):
            text = json.dumps(value, ensure_ascii=False)
        else:
            titles = VALUE_TITLES.get((kind, name), {})
            text = gettext(titles[value]) if value in titles else str(value)
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
    return gettext(SCOPE_TEXTS[Scope(name)]) if name in list(Scope) else name


def field_title(path: str) -> str:
    """The title of a field: ``altitude_m`` is "Altitude, m"."""
    name = path.rpartition(".")[2]
    if name in FIELD_TITLES:
        return gettext(FIELD_TITLES[name])
    stem, _, unit = name.rpartition("_")
    words = (stem if stem and unit in UNITS else name).replace("_", " ")
    title = f"{words[:1].upper()}{words[1:]}"
    title = gettext(title) if title in FIELDS else title
    return title + (f", {UNITS[unit]}" if stem and unit in UNITS else "")
