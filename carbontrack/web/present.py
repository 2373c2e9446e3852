"""How numbers, times and flags are shown to people; and the live row of a device, the same for pages and the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from carbontrack.health import FAULT_FLAGS, FLAG_TEXTS, AspectName, HealthState
from carbontrack.model import Flag, Role, Scope, Snapshot, User, UserStatus
from carbontrack.words import N_, RATES, date_text, decimal, gettext, reader, time_text

NO_VALUE = "\N{EN DASH}"
SECONDS_PER_HOUR = 3600
MINUTE = "dd MMM HH:mm"
RATE_DIGITS: Mapping[str, int] = {"kg/h": 0, "t/day": 2}
IDLE_BELOW_C = 80.0
"""Flue gas colder than this is no fire's: a firing tea boiler's is 120 degC and more."""

ROLE_TITLES: Mapping[Role, str] = {
    Role.HQ_MANAGER: N_("Headquarters"),
    Role.FACTORY_MANAGER: N_("Factory manager"),
    Role.FACTORY_CLERK: N_("Factory clerk"),
    Role.AUDITOR: N_("Auditor"),
    Role.OPERATOR: N_("Operator"),
}

STATUS_TITLES: Mapping[UserStatus, str] = {
    UserStatus.PENDING: N_("Waits for approval"),
    UserStatus.ACTIVE: N_("May sign in"),
    UserStatus.DISABLED: N_("Disabled"),
}

SCOPE_TEXTS: Mapping[Scope, str] = {
    Scope.READ: N_("Read everything that you may see"),
    Scope.ENTRIES: N_("Enter, change and withdraw energy and tea"),
    Scope.REPORTS: N_("Report periods"),
    Scope.REGISTRY: N_("Change factories, chimneys, plans and devices"),
    Scope.EMISSIONS: N_("Hand in readings"),
}

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
    ("iPhone", N_("an iPhone")),
    ("iPad", N_("an iPad")),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", N_("a Mac")),
    ("Linux", "Linux"),
)

STATE_TITLES: Mapping[str, str] = {
    "firing": N_("Firing"),
    "idle": N_("Idle"),
    "offline": N_("Offline"),
    "fault": N_("Fault"),
    "unfit": N_("Unfit sensor"),
    "no_data": N_("No data yet"),
}

BOILER_TITLES: Mapping[str, str] = {"running": N_("Runs"), "off": N_("Off"), "unknown": N_("Not known")}
SENSOR_TITLES: Mapping[str, str] = {
    "fit": N_("Fit"),
    "unfit": N_("Unfit"),
    "fault": N_("Faulty"),
    "unknown": N_("Not known"),
}

HEALTH_TITLES: Mapping[HealthState, str] = {
    HealthState.BAD: N_("Bad"),
    HealthState.ATTENTION: N_("Needs attention"),
    HealthState.GOOD: N_("Good"),
    HealthState.UNKNOWN: N_("Not known"),
}
"""The worst first."""

SEVERITY_TITLES: Mapping[str, str] = {"critical": N_("Critical"), "warning": N_("Warning"), "info": N_("Note")}
"""The worst first; static/alerts.js says the same of what comes while a page is open."""

QUANTITY_TEXTS: Mapping[str, str] = {
    "days": N_("%(value)s days"),
    "min": N_("%(value)s min"),
    "measured / fuel": N_("%(value)s measured / fuel"),
    "kg/s per minute": N_("%(value)s kg/s per minute"),
    "ppm per minute": N_("%(value)s ppm per minute"),
    "°C per minute": N_("%(value)s °C per minute"),
    "m/s per minute": N_("%(value)s m/s per minute"),
}
"""Units of our own rules that are words, with their values; all others are signs, and the same in each language."""

ASPECT_TITLES: Mapping[AspectName, str] = {
    AspectName.CONNECTION: N_("Connection"),
    AspectName.FRESHNESS: N_("Freshness"),
    AspectName.CLOCK: N_("Clock"),
    AspectName.SENSORS: N_("Sensors"),
    AspectName.BACKLOG: N_("Store"),
    AspectName.FIRMWARE: N_("Firmware"),
    AspectName.PROCESSING: N_("Processing"),
}

CAUSE_TEXTS: Mapping[str, str] = {
    "invalid_json": N_("The message is not readable JSON."),
    "wrong_type": N_("A value has the wrong type."),
    "missing_field": N_("A field is missing."),
    "not_finite": N_("A value is not a finite number (NaN or infinite)."),
    "unknown_version": N_("The message has a format version that this platform does not read."),
    "invalid_stream": N_("The stream id is not one."),
    "bad_sequence": N_("The sequence numbers do not fit together."),
    "row_count_mismatch": N_("The message has more or fewer records than it says."),
    "empty": N_("The message has no records."),
    "too_many_records": N_("The message has too many records."),
    "outside_its_time": N_("It was measured before the unit took over the chimney, or after another one has."),
    "bad_time": N_("The times of one message lie too far apart."),
    "wrong_device": N_("The message names another device than the one that sent it."),
    "unknown_frame": N_("No plugin that runs reads one of the sensors' frames."),
    "same_quantity": N_("Two sensors' frames of one moment give the same quantity."),
    "frame_length": N_("A sensor's frame is too short or too long."),
    "frame_checksum": N_("The checksum of a sensor's frame is wrong."),
    "frame_form": N_("A sensor's frame is not of the form that its decoder reads."),
    "modbus_exception": N_("A meter refused to be read."),
    "bad_state": N_("The presence message cannot be read."),
    "no_driver": N_("No plugin brings the device's sensor driver."),
    "driver_failed": N_("The sensor driver failed on this message."),
    "driver_held_back": N_("The sensor driver failed again and again for this device, and rests for a while."),
    "database_refused": N_("The database refused the row."),
}


def rate(kg_per_s: float | None) -> str:
    """A rate in the unit that the reader has chosen, with three significant digits in everyday use."""
    if kg_per_s is None:
        return NO_VALUE
    unit = reader().rate_unit
    digits = RATE_DIGITS[unit] if kg_per_s >= 0.003 else RATE_DIGITS[unit] + 1
    return decimal(kg_per_s * RATES[unit], digits)


def number(value: float | None, digits: int = 0) -> str:
    return NO_VALUE if value is None else decimal(value, digits)


def tonnes(kg: float | None) -> str:
    """A mass: kg below a tonne, tonnes from there on."""
    if kg is None:
        return NO_VALUE
    return f"{decimal(kg)} kg" if kg < 1000 else f"{decimal(kg / 1000, 2)} t"


def tonnes_about(kg: float) -> str:
    """A mass that is known to two digits."""
    if kg < 1000:
        return f"{decimal(kg)} kg"
    return f"{decimal(kg / 1000, 1 if kg < 10_000 else 0)} t"


def percent(ratio: float | None) -> str:
    """A share; only what is whole is called 100 %."""
    if ratio is None:
        return NO_VALUE
    return f"{min(round(ratio * 100), 99 if ratio < 1 else 100)} %"


def percent_of(change: float) -> str:
    """A change as a share, also beyond 100 %; its sign is said by the words around it."""
    return f"{decimal(100 * change, 0 if abs(change) >= 0.1 else 1)} %"


def subscript(text: str) -> str:
    """Formulas of gases as they are printed."""
    return text.replace("CO2", "CO₂").replace("CH4", "CH₄").replace("N2O", "N₂O")


def byte_size(count: float | None) -> str:
    """A size in the unit that leaves up to three digits before the point; 1 kB is 1000 bytes."""
    if count is None:
        return NO_VALUE
    if abs(count) < 1000:
        return gettext("%(count)s bytes", count=decimal(count))
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 1000:
            return f"{decimal(count, 0 if count >= 100 else 1)} {unit}"
    return f"{decimal(count / 1000, 1)} TB"


def days_text(days: float) -> str:
    """How long there is room: in years where that says more."""
    if days < 1:
        return gettext("less than a day")
    if days < 2 * 365:
        return gettext("%(count)s days", count=decimal(days))
    return gettext("%(count)s years", count=decimal(days / 365))


def duration_text(lasts: timedelta) -> str:
    """How long something lasts, in the two largest units that say something."""
    minutes = max(0, round(lasts.total_seconds() / 60))
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        text = gettext("%(days)s d %(hours)s h") if hours else gettext("%(days)s d")
    elif hours:
        text = gettext("%(hours)s h %(minutes)s min") if rest else gettext("%(hours)s h")
    else:
        text = gettext("%(minutes)s min") if rest else gettext("less than a minute")
    return text % {"days": days, "hours": hours, "minutes": rest}


def significant(value: float | None) -> str:
    """A measured value as people write it: four digits that count, and no power of ten."""
    if value is None:
        return NO_VALUE
    return decimal(value, 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 4)


def quantity(value: float | None, unit: str) -> str:
    """What an alert was raised by, or its limit, in the rule's own unit."""
    if unit in QUANTITY_TEXTS:
        return gettext(QUANTITY_TEXTS[unit], value=significant(value))
    return f"{significant(value)} {unit}".strip()


def severity_title(severity: str) -> str:
    return gettext(SEVERITY_TITLES[severity]) if severity in SEVERITY_TITLES else severity


def day_text(day: date | None, pattern: str = "dd MMM y") -> str:
    return NO_VALUE if day is None else date_text(day, pattern)


def flag_texts(flags: int) -> list[str]:
    """What is known about a reading, in plain sentences."""
    return [text for flag, text in FLAG_TEXTS.items() if flags & flag and flag is not Flag.BACKLOG]


def cause_text(cause: str) -> str:
    return gettext(CAUSE_TEXTS[cause]) if cause in CAUSE_TEXTS else cause.replace("_", " ").capitalize() + "."


def person_name(user: User) -> str:
    """A person's name; the address of who has not given any."""
    return f"{user.first_name} {user.last_name}".strip() or user.email


def program_name(user_agent: str) -> str:
    """What somebody has signed in with, in plain words: ``Chrome on Android``; a program by its own name."""
    if not user_agent.startswith("Mozilla/"):
        return user_agent.partition("/")[0].strip()[:40] or gettext("A program")
    browser = next((name for mark, name in BROWSERS if mark in user_agent), gettext("A browser"))
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    return gettext("%(browser)s on %(system)s", browser=browser, system=gettext(system)) if system else browser


def zone_short(now: datetime, zone: tzinfo) -> str:
    return now.astimezone(zone).strftime("%Z")


def filters(zone: tzinfo) -> dict[str, Callable[..., Any]]:
    """The filters of the templates."""

    def local(moment: datetime | None, pattern: str) -> str:
        return NO_VALUE if moment is None else time_text(moment, zone, pattern)

    def local_span(start: datetime, end: datetime, pattern: str = "dd MMM") -> str:
        """A period in local days, as people say it."""
        first, last = (local(moment, pattern) for moment in (start, end - timedelta(seconds=1)))
        return first if first == last else gettext("%(first)s to %(last)s", first=first, last=last)

    def local_range(start: datetime, end: datetime) -> str:
        """From when to when, to the minute; the day is said once if it is one."""
        if start.astimezone(zone).date() == end.astimezone(zone).date():
            return f"{local(start, MINUTE)}-{local(end, 'HH:mm')}"
        return gettext("%(first)s to %(last)s", first=local(start, MINUTE), last=local(end, MINUTE))

    return {
        "local_span": local_span,
        "local_range": local_range,
        "rate": rate,
        "number": number,
        "bytes": byte_size,
        "days": days_text,
        "day": day_text,
        "duration": duration_text,
        "significant": significant,
        "quantity": quantity,
        "severity_title": severity_title,
        "tonnes": tonnes,
        "percent": percent,
        "percent_of": percent_of,
        "subscript": subscript,
        "tonnes_about": tonnes_about,
        "local_month": lambda moment: local(moment, "LLLL y"),
        "local_month_key": lambda moment: moment.astimezone(zone).strftime("%Y-%m"),
        "weekday": lambda moment: local(moment, "EEEE"),
        "flag_text": flag_texts,
        "cause_text": cause_text,
        "local_time": lambda moment: local(moment, "HH:mm:ss"),
        "local_datetime": lambda moment: local(moment, MINUTE),
        "local_date": lambda moment: local(moment, "dd MMM y"),
        # To the second, with the year: for what is looked up years later.
        "local_moment": lambda moment: local(moment, "dd MMM y HH:mm:ss"),
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


def boiler_of(snapshot: Snapshot) -> str:
    """Whether the boiler below runs, as far as a device that is connected tells: ``running``, ``off``, ``unknown``."""
    if snapshot.measured_at is None or not snapshot.online:
        return "unknown"
    if snapshot.flags & Flag.BOILER_OFF:
        return "off"
    if snapshot.temperature_c is None:
        return "unknown"
    return "off" if snapshot.temperature_c < IDLE_BELOW_C else "running"


def sensors_of(snapshot: Snapshot) -> str:
    """Whether the sensors can be believed, by the newest reading: ``fit``, ``unfit``, ``fault`` or ``unknown``."""
    if snapshot.measured_at is None:
        return "unknown"
    if snapshot.flags & Flag.UNFIT_SENSOR:
        return "unfit"
    return "fault" if snapshot.flags & FAULT_FLAGS else "fit"


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
        "boiler": boiler_of(snapshot),
        "sensors": sensors_of(snapshot),
    }


def total_kg_per_s(snapshots: Sequence[Snapshot]) -> float | None:
    """The rate of all devices that are connected and give one; None when none does."""
    rates = [snapshot.co2_kg_per_s for snapshot in snapshots if snapshot.online and snapshot.co2_kg_per_s is not None]
    return sum(rates) if rates else None
