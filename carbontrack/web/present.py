"""How numbers, times and flags are shown to people; and the live row of a device, the same for pages and the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from carbontrack.health import FAULT_FLAGS, FLAG_TEXTS, AspectName, HealthState
from carbontrack.model import Flag, Role, Scope, Snapshot, User, UserStatus

NO_VALUE = "\N{EN DASH}"
SECONDS_PER_HOUR = 3600
IDLE_BELOW_C = 80.0
"""Flue gas colder than this is no fire's: a firing tea boiler's is 120 degC and more."""

ROLE_TITLES: Mapping[Role, str] = {
    Role.HQ_MANAGER: "Headquarters",
    Role.FACTORY_MANAGER: "Factory manager",
    Role.FACTORY_CLERK: "Factory clerk",
    Role.AUDITOR: "Auditor",
    Role.OPERATOR: "Operator",
}

STATUS_TITLES: Mapping[UserStatus, str] = {
    UserStatus.PENDING: "Waits for approval",
    UserStatus.ACTIVE: "May sign in",
    UserStatus.DISABLED: "Disabled",
}

SCOPE_TEXTS: Mapping[Scope, str] = {
    Scope.READ: "Read everything that you may see",
    Scope.ENTRIES: "Enter, change and withdraw energy and tea",
    Scope.REPORTS: "Report periods",
    Scope.REGISTRY: "Change factories, chimneys, plans and devices",
    Scope.EMISSIONS: "Hand in readings",
}

LOCALE_TITLES: Mapping[str, str] = {"en": "English", "sw": "Kiswahili"}

BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
"""What tells a browser from those below, whose names it gives as well."""
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "a Mac"),
    ("Linux", "Linux"),
)

STATE_TITLES: Mapping[str, str] = {
    "firing": "Firing",
    "idle": "Idle",
    "offline": "Offline",
    "fault": "Fault",
    "unfit": "Unfit sensor",
    "no_data": "No data yet",
}

HEALTH_TITLES: Mapping[HealthState, str] = {
    HealthState.BAD: "Bad",
    HealthState.ATTENTION: "Needs attention",
    HealthState.GOOD: "Good",
    HealthState.UNKNOWN: "Not known",
}
"""The worst first."""

ASPECT_TITLES: Mapping[AspectName, str] = {
    AspectName.CONNECTION: "Connection",
    AspectName.FRESHNESS: "Freshness",
    AspectName.CLOCK: "Clock",
    AspectName.SENSORS: "Sensors",
    AspectName.BACKLOG: "Store",
    AspectName.FIRMWARE: "Firmware",
    AspectName.PROCESSING: "Processing",
}

CAUSE_TEXTS: Mapping[str, str] = {
    "invalid_json": "The message is not readable JSON.",
    "wrong_type": "A value has the wrong type.",
    "missing_field": "A field is missing.",
    "not_finite": "A value is not a finite number (NaN or infinite).",
    "unknown_version": "The message has a format version that this platform does not read.",
    "invalid_stream": "The stream id is not one.",
    "bad_sequence": "The sequence numbers do not fit together.",
    "row_count_mismatch": "The message has more or fewer records than it says.",
    "empty": "The message has no records.",
    "too_many_records": "The message has too many records.",
    "bad_time": "The times of one message lie too far apart.",
    "wrong_device": "The message names another device than the one that sent it.",
    "unknown_frame": "No plugin that runs reads one of the sensors' frames.",
    "same_quantity": "Two sensors' frames of one moment give the same quantity.",
    "frame_length": "A sensor's frame is too short or too long.",
    "frame_checksum": "The checksum of a sensor's frame is wrong.",
    "frame_form": "A sensor's frame is not of the form that its decoder reads.",
    "modbus_exception": "A meter refused to be read.",
    "bad_state": "The presence message cannot be read.",
    "no_driver": "No plugin brings the device's sensor driver.",
    "driver_failed": "The sensor driver failed on this message.",
    "driver_held_back": "The sensor driver failed again and again for this device, and rests for a while.",
    "database_refused": "The database refused the row.",
}


def kg_per_h(kg_per_s: float | None) -> str:
    """A rate in kg/h with three significant digits."""
    return NO_VALUE if kg_per_s is None else number(kg_per_s * SECONDS_PER_HOUR, 0 if kg_per_s >= 0.003 else 1)


def number(value: float | None, digits: int = 0) -> str:
    return NO_VALUE if value is None else f"{value:,.{digits}f}"


def tonnes(kg: float | None) -> str:
    """A mass: kg below a tonne, tonnes from there on."""
    if kg is None:
        return NO_VALUE
    return f"{kg:,.0f} kg" if kg < 1000 else f"{kg / 1000:,.2f} t"


def percent(ratio: float | None) -> str:
    """A share; only what is whole is called 100 %."""
    if ratio is None:
        return NO_VALUE
    return f"{min(round(ratio * 100), 99 if ratio < 1 else 100)} %"


def byte_size(count: float | None) -> str:
    """A size in the unit that leaves up to three digits before the point; 1 kB is 1000 bytes."""
    if count is None:
        return NO_VALUE
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def days_text(days: float) -> str:
    """How long there is room: in years where that says more."""
    if days < 1:
        return "less than a day"
    return f"{days:,.0f} days" if days < 2 * 365 else f"{days / 365:,.0f} years"


def duration_text(lasts: timedelta) -> str:
    """How long something lasts, in the two largest units that say something."""
    minutes = max(0, round(lasts.total_seconds() / 60))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{rest} min" if rest else "less than a minute"


def significant(value: float | None) -> str:
    """A measured value as people write it: four digits that count, and no power of ten."""
    if value is None:
        return NO_VALUE
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def day_text(day: date | None) -> str:
    return NO_VALUE if day is None else f"{day:%d %b %Y}"


def flag_texts(flags: int) -> list[str]:
    """What is known about a reading, in plain sentences."""
    return [text for flag, text in FLAG_TEXTS.items() if flags & flag and flag is not Flag.BACKLOG]


def cause_text(cause: str) -> str:
    return CAUSE_TEXTS.get(cause, cause.replace("_", " ").capitalize() + ".")


def person_name(user: User) -> str:
    """A person's name; the address of who has not given any."""
    return f"{user.first_name} {user.last_name}".strip() or user.email


def program_name(user_agent: str) -> str:
    """What somebody has signed in with, in plain words: ``Chrome on Android``; a program by its own name."""
    if not user_agent.startswith("Mozilla/"):
        return user_agent.partition("/")[0].strip()[:40] or "A program"
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "A browser")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser


def zone_short(now: datetime, zone: tzinfo) -> str:
    return now.astimezone(zone).strftime("%Z")


def filters(zone: tzinfo) -> dict[str, Callable[..., Any]]:
    """The filters of the templates."""

    def local_time(moment: datetime | None) -> str:
        return NO_VALUE if moment is None else moment.astimezone(zone).strftime("%H:%M:%S")

    def local_datetime(moment: datetime | None) -> str:
        return NO_VALUE if moment is None else f"{moment.astimezone(zone):%d %b %H:%M}"

    def local_date(moment: datetime | None) -> str:
        return NO_VALUE if moment is None else f"{moment.astimezone(zone):%d %b %Y}"

    def local_moment(moment: datetime) -> str:
        """To the second, with the year: for what is looked up years later."""
        return f"{moment.astimezone(zone):%d %b %Y %H:%M:%S}"

    def local_span(start: datetime, end: datetime, form: str = "%d %b") -> str:
        """A period in local days, as people say it."""
        first, last = (f"{moment.astimezone(zone):{form}}" for moment in (start, end - timedelta(seconds=1)))
        return first if first == last else f"{first} to {last}"

    def local_range(start: datetime, end: datetime) -> str:
        """From when to when, to the minute; the day is said once if it is one."""
        first, last = start.astimezone(zone), end.astimezone(zone)
        if first.date() == last.date():
            return f"{first:%d %b %H:%M}-{last:%H:%M}"
        return f"{first:%d %b %H:%M} to {last:%d %b %H:%M}"

    return {
        "local_span": local_span,
        "local_range": local_range,
        "kg_per_h": kg_per_h,
        "number": number,
        "bytes": byte_size,
        "days": days_text,
        "day": day_text,
        "duration": duration_text,
        "significant": significant,
        "tonnes": tonnes,
        "percent": percent,
        "flag_text": flag_texts,
        "cause_text": cause_text,
        "local_time": local_time,
        "local_datetime": local_datetime,
        "local_date": local_date,
        "local_moment": local_moment,
        "person_name": person_name,
        "program_name": program_name,
    }


def state_of(snapshot: Snapshot) -> str:
    """The one word for a device: ``no_data``, ``offline``, ``fault``, ``unfit``, ``idle`` or ``firing``."""
    if snapshot.measured_at is None:
        return "no_data"
    if not snapshot.online:
        return "offline"
    if snapshot.flags & Flag.UNFIT_SENSOR:
        return "unfit"
    if snapshot.flags & FAULT_FLAGS:
        return "fault"
    if snapshot.flags & Flag.BOILER_OFF or (
        snapshot.temperature_c is not None and snapshot.temperature_c < IDLE_BELOW_C
    ):
        return "idle"
    return "firing"


def live_row(snapshot: Snapshot) -> dict[str, Any]:
    """One device as pages show it and the live stream sends it; units are in the names."""
    rate, state = snapshot.co2_kg_per_s, state_of(snapshot)
    return {
        "device_id": snapshot.device_id,
        "factory_id": snapshot.factory_id,
        "stack_id": snapshot.stack_id,
        "online": snapshot.online,
        "measured_at": snapshot.measured_at,
        "received_at": snapshot.received_at,
        "co2_kg_per_h": None if rate is None else rate * SECONDS_PER_HOUR,
        "co2_kg_per_s": rate,
        "co2_percent": None if snapshot.co2_ppm is None else snapshot.co2_ppm / 10_000,
        "co2_ppm": snapshot.co2_ppm,
        "temperature_c": snapshot.temperature_c,
        "velocity_ms": snapshot.velocity_ms,
        "flow_rate_m3s": snapshot.flow_rate_m3s,
        "flags": snapshot.flags,
        "flag_texts": flag_texts(snapshot.flags),
        "state": state,
        "state_title": STATE_TITLES[state],
    }


def total_kg_per_s(snapshots: Sequence[Snapshot]) -> float | None:
    """The rate of all devices that are connected and give one; None when none does."""
    rates = [snapshot.co2_kg_per_s for snapshot in snapshots if snapshot.online and snapshot.co2_kg_per_s is not None]
    return sum(rates) if rates else None
