"""How a device itself is doing, apart from what it measures and from alerts: as a pure function of what is known of it.

Its sentences are in the language of whoever reads (:mod:`carbontrack.words`): each look makes them anew.

Nothing here begins, ends or is told to anybody. It is the state at one moment, of which each part says what it rests
on, and what to do where it is not good.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from math import isfinite
from typing import Any

import msgspec

from carbontrack.actor import ActorState
from carbontrack.model import ClockQuality, Flag, Snapshot
from carbontrack.streams import FUTURE_TOLERANCE_MS, MOST_RANGES, Stream
from carbontrack.words import N_, decimal
from carbontrack.words import gettext as _

FRESH_FOR = timedelta(minutes=2)
"""A node measures every 5 s: after so long 24 readings in a row are missing, which no slow link explains."""
HOUR_SPOILT_AFTER = timedelta(minutes=12)
"""An hour is valid with 80 % of its time. Who is away for longer than the rest spoils it, until the store is sent."""
CLOCK_OFF_S = 30.0
"""A live record is sent at once. More than this is no network's delay, and moves readings into another 5 minutes."""
CLOCK_AHEAD_S = FUTURE_TOLERANCE_MS / 1000
"""From here on times are set back to the time of receipt: they are not the device's any more."""
WEAK_SIGNAL_DBM = -80.0
"""Below this Wi-Fi falls back to its slowest rates and loses connections when a door is shut."""
STORE_FILLS_FROM = 0.5
"""A store that is half full has as much time left as it has been filling: time enough to send somebody."""
STORE_FULL_FROM = 0.9
"""From here on a node is about to overwrite its oldest records."""
LONGEST_VERSION = 40
LONGEST_HARDWARE = 32
LONGEST_MODE = 12
"""Characters of a name that a device may give itself on pages."""

FAULT_FLAGS = (
    Flag.CO2_FAULT
    | Flag.TEMPERATURE_OPEN
    | Flag.TEMPERATURE_FAULT
    | Flag.VELOCITY_FAULT
    | Flag.STUCK
    | Flag.STALE
    | Flag.IMPLAUSIBLE
    | Flag.VALUE_MISSING
    | Flag.CO2_IMPLAUSIBLE
    | Flag.TEMPERATURE_IMPLAUSIBLE
    | Flag.VELOCITY_IMPLAUSIBLE
)
ATTENTION_FLAGS = (
    Flag.CO2_OVER_RANGE
    | Flag.PRESSURE_DIFFERENCE_NEGATIVE
    | Flag.WARM_UP
    | Flag.MAINTENANCE
    | Flag.CALIBRATION
    | Flag.DEVICE_DISAGREES
    | Flag.PRESSURE_IMPLAUSIBLE
)
"""What passes by itself, or by somebody's work that is going on, or leaves a rate all the same."""
_CLOCK_JUMP = int(Flag.CLOCK_JUMP)
CLOCK_FLAGS = Flag.CLOCK_FUTURE | Flag.CLOCK_UNSET | Flag.TIME_ESTIMATED | Flag.CLOCK_JUMP

FLAG_TEXTS: Mapping[Flag, str] = {
    Flag.CO2_OVER_RANGE: N_("The gas has more CO2 than the sensor can read."),
    Flag.CO2_FAULT: N_("The CO2 sensor reports a fault. Check its cable and its filter."),
    Flag.WARM_UP: N_("The CO2 sensor is warming up."),
    Flag.STALE: N_("The device repeats an old value. Check the sensor's serial line."),
    Flag.TEMPERATURE_OPEN: N_("The thermocouple is broken or not connected."),
    Flag.TEMPERATURE_FAULT: N_("The thermocouple's converter reports a fault."),
    Flag.VELOCITY_FAULT: N_("The gas velocity sensor reports a fault. Clean its tubes."),
    Flag.PRESSURE_DIFFERENCE_NEGATIVE: N_("The velocity probe reads backwards: its tubes may be swapped."),
    Flag.PRESSURE_DEFAULT: N_("The device has no pressure of its own; the site's mean pressure is used."),
    Flag.MAINTENANCE: N_("Maintenance is going on."),
    Flag.CALIBRATION: N_("The sensor is being calibrated."),
    Flag.STUCK: N_("The CO2 sensor has given the very same value for too long."),
    Flag.IMPLAUSIBLE: N_("A value is outside what a chimney can have."),
    Flag.BOILER_OFF: N_("The boiler is off."),
    Flag.CLOCK_JUMP: N_("The device's clock has jumped."),
    Flag.CLOCK_FUTURE: N_("The device's clock is ahead; the time of receipt is used."),
    Flag.CLOCK_UNSET: N_("The device's clock is not set; the time was worked out from its running time."),
    Flag.TIME_ESTIMATED: N_("The time of this reading is an estimate."),
    Flag.BACKLOG: N_("Sent later, out of the device's store."),
    Flag.UNFIT_SENSOR: N_("This CO2 sensor cannot measure this gas: its range is too small. It gives no valid rate."),
    Flag.VALUE_MISSING: N_("A value is missing, so there is no rate."),
    Flag.DEVICE_DISAGREES: N_("The device computes a different rate. Check that it has the current chimney settings."),
    Flag.CO2_IMPLAUSIBLE: N_("The CO2 value is outside what a chimney can have. Calibrate the analyser."),
    Flag.TEMPERATURE_IMPLAUSIBLE: N_("The temperature is outside what a chimney can have. Check the thermocouple."),
    Flag.VELOCITY_IMPLAUSIBLE: N_("The velocity cannot be: hot gas full of CO2 does not stand still. Clean the probe."),
    Flag.PRESSURE_IMPLAUSIBLE: N_("The device's pressure cannot be; the site's mean pressure is used."),
}


class HealthState(StrEnum):
    GOOD = "good"
    ATTENTION = "attention"
    """Somebody should look at it, and nothing is lost yet."""
    BAD = "bad"
    """It measures nothing that counts, or is about to lose what it has measured."""
    UNKNOWN = "unknown"


_SEVERITY = {HealthState.GOOD: 0, HealthState.ATTENTION: 1, HealthState.BAD: 2}


class AspectName(StrEnum):
    CONNECTION = "connection"
    FRESHNESS = "freshness"
    CLOCK = "clock"
    SENSORS = "sensors"
    BACKLOG = "backlog"
    FIRMWARE = "firmware"
    PROCESSING = "processing"
    """What the platform itself makes of what the device sends."""


@dataclass(frozen=True, slots=True)
class Aspect:
    """One side of a device's health. ``advice`` says what to do; it is empty only where nothing has to be done."""

    name: AspectName
    state: HealthState
    text: str
    advice: str = ""
    since: datetime | None = None
    """Since when it is so, where that is known."""


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """``overall`` is the worst of what is known; unknown where nothing is."""

    device_id: str
    overall: HealthState
    aspects: tuple[Aspect, ...]
    firmware: str | None = None
    """As the device named it when it connected; None: it has not said since the platform started."""


# --- what is known of a device


class ClockSeen(msgspec.Struct, frozen=True, gc=False):
    """What one live message showed of its device's clock."""

    quality: int
    """One of :class:`~carbontrack.model.ClockQuality`; UNSET also for a time that no set clock has."""
    ahead_s: float
    """How far its newest time was ahead of the platform's clock; below 0: behind. Means nothing where UNSET."""


class Birth(msgspec.Struct, frozen=True):
    """What a device said of itself when it connected; None: it did not say."""

    firmware: str | None = None
    capacity: int | None = None
    """How many records its store can hold."""
    sid: str | None = None
    """The stream that its store has now."""
    config: int | None = None
    """The revision of its settings, 0 where it was never given any; None: it takes none."""
    hardware: str | None = None
    boot: int | None = None
    """Which start of the device this is."""
    mode: str | None = None
    """``run``, or ``safe`` after crashes."""

    @classmethod
    def of(
        cls,
        fw: object,
        cap: object,
        sid: str | None,
        cfg: object = None,
        *,
        hw: object = None,
        boot: object = None,
        mode: object = None,
    ) -> Birth:
        """Of whatever the device sent: what is none is taken as not said."""
        capacity = _measure(cap)
        config = cfg if type(cfg) is int and 0 <= cfg < 2**53 else None
        room = int(capacity) if capacity is not None and capacity >= 1 else None
        start = boot if type(boot) is int and 0 <= boot < 2**53 else None
        return cls(
            _text(fw, LONGEST_VERSION),
            room,
            sid or None,
            config,
            _text(hw, LONGEST_HARDWARE),
            start,
            _text(mode, LONGEST_MODE),
        )


def _text(said: object, longest: int) -> str | None:
    found = "".join(it for it in said if it.isprintable()).strip()[:longest] if isinstance(said, str) else ""
    return found or None


class NodeRecord(msgspec.Struct, frozen=True):
    """A health record (``h``) of the device protocol; None: it has no such value."""

    measured_at: datetime
    rssi_dbm: float | None = None
    ring_used: int | None = None
    """Records in its store that are not receipted."""

    @classmethod
    def of(cls, measured_at: datetime, data: Mapping[str, Any]) -> NodeRecord:
        """Of a record as it is kept: what is no number, or none that can be, is left out."""
        rssi, used = (_measure(data.get(name)) for name in ("rssi", "ring_used"))
        return cls(
            measured_at,
            # 0 and above is what a chip says that knows nothing.
            rssi if rssi is not None and -150 <= rssi < 0 else None,
            int(used) if used is not None and used >= 0 else None,
        )


def _measure(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53 or not isfinite(value):
        return None
    return value


@dataclass(frozen=True, slots=True)
class NodeStore:
    """What the platform has of a device's store, and what it still expects out of it."""

    is_numbered: bool = False
    """Whether anything is known of it: without numbers nobody knows what is missing."""
    missing: int = 0
    """Records before the newest one that have not come."""
    has_room: bool = True
    """Whether there may be more holes; if not, only what closes one is taken."""
    recovering: int = 0
    """Readings of an outage that have come out of it just now."""
    recovering_since: datetime | None = None
    """When the outage began whose readings come."""

    @classmethod
    def of(cls, stream: Stream | None, recovering: int = 0, since: datetime | None = None) -> NodeStore:
        """Of the stream that the device uses."""
        if stream is None or not (stream.watermark or stream.beyond):
            return cls(recovering=recovering, recovering_since=since)
        beyond = stream.beyond
        there = sum(last - first + 1 for first, last in beyond)
        missing = beyond[-1][1] - stream.watermark - there if beyond else 0
        return cls(True, missing, len(beyond) < MOST_RANGES, recovering, since)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a device at one moment, put together by its actor."""

    snapshot: Snapshot
    actor: ActorState = ActorState.RUNNING
    is_deaf: bool = False
    """Whether the platform itself hears nobody: who cannot be heard is not silent."""
    presence_since: datetime | None = None
    """Since when it is online, or offline, as the snapshot says; None: since before the platform started."""
    birth: Birth | None = None
    record: NodeRecord | None = None
    """The newest one by measuring time."""
    clock: ClockSeen | None = None
    store: NodeStore = NodeStore()


# --- versions of firmware

# A name that is none of a version's is never told to others' people: only what compares is compared.
_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-((?:alpha|beta|rc)[.\d]*))?", re.ASCII)


@lru_cache(256)
def _order(version: str) -> tuple[tuple[int, ...], bool] | None:
    """Where a version stands among others; None for a name that has no order."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers), found[2] is None


@dataclass(frozen=True, slots=True)
class FleetFirmware:
    """What the fleet runs: the version that most devices have (of two the newer), and the newest."""

    usual: str | None = None
    newest: str | None = None

    @classmethod
    def of(cls, versions: Iterable[str | None]) -> FleetFirmware:
        counts = Counter(version for version in versions if version is not None)
        ordered = {version: order for version in counts if (order := _order(version)) is not None}
        if not ordered:
            return cls()
        usual = max(ordered, key=lambda version: (counts[version], ordered[version], version))
        return cls(usual, max(ordered, key=lambda version: (ordered[version], version)))


NO_FIRMWARE = FleetFirmware()
"""Of a fleet of which no device has said what it runs."""


# --- the judgement


def worst(states: Iterable[HealthState]) -> HealthState:
    """The worst of the states that are known; unknown where none is."""
    known = [state for state in states if state in _SEVERITY]
    return max(known, key=_SEVERITY.__getitem__) if known else HealthState.UNKNOWN


def severity(state: HealthState) -> int:
    """For sorting: the worse, the larger; what is not known is the least."""
    return _SEVERITY.get(state, -1)


def health_of(facts: Facts, now: datetime, fleet: FleetFirmware = NO_FIRMWARE) -> DeviceHealth:
    """How a device is doing at ``now``."""
    aspects = (
        _connection(facts, now),
        _freshness(facts, now),
        _clock(facts),
        _sensors(facts.snapshot),
        _backlog(facts),
        _firmware(facts.birth, fleet),
        _processing(facts.actor),
    )
    firmware = facts.birth.firmware if facts.birth is not None else None
    return DeviceHealth(facts.snapshot.device_id, worst(it.state for it in aspects), aspects, firmware)


def health_of_absent(device_id: str, why: str) -> DeviceHealth:
    """Of a device that nobody listens to: nothing of it is known. ``why`` is a sentence, marked for translation."""
    aspects = tuple(Aspect(name, HealthState.UNKNOWN, _(why)) for name in AspectName)
    return DeviceHealth(device_id, HealthState.UNKNOWN, aspects)


def _connection(facts: Facts, now: datetime) -> Aspect:
    name, snapshot, since = AspectName.CONNECTION, facts.snapshot, facts.presence_since
    rssi = facts.record.rssi_dbm if facts.record is not None else None
    if not snapshot.online:
        gone = since or snapshot.received_at
        if gone is None:
            advice = _("Check that it is switched on, has its network, and signs in with its own id and password.")
            return Aspect(name, HealthState.ATTENTION, _("Nothing has come from it yet."), advice)
        away = max(now - gone, timedelta(0))
        state = HealthState.BAD if away > HOUR_SPOILT_AFTER else HealthState.ATTENTION
        advice = _("Check its power and its network. It keeps its readings meanwhile, and sends them when it is back.")
        text = _("Not connected, for %(span)s.", span=span_text(away))
        if rssi is not None:
            text += " " + _("Its last signal was %(signal)s dBm.", signal=format(rssi, ".0f"))
        return Aspect(name, state, text, advice, gone)
    if facts.is_deaf:
        text = _("The platform itself has no connection to the broker: who is there is not known.")
        return Aspect(name, HealthState.UNKNOWN, text, since=since)
    if rssi is not None and rssi < WEAK_SIGNAL_DBM:
        text = _("Connected, with a weak signal of %(signal)s dBm.", signal=format(rssi, ".0f"))
        least = f"{WEAK_SIGNAL_DBM:.0f}"
        advice = _("Move its antenna or the access point: it should be %(least)s dBm or more.", least=least)
        return Aspect(name, HealthState.ATTENTION, text, advice)
    text = (
        _("Connected.")
        if rssi is None
        else _("Connected, with a signal of %(signal)s dBm.", signal=format(rssi, ".0f"))
    )
    return Aspect(name, HealthState.GOOD, text, since=since)


def _freshness(facts: Facts, now: datetime) -> Aspect:
    name, snapshot = AspectName.FRESHNESS, facts.snapshot
    if snapshot.online and facts.is_deaf:
        text = _("The platform itself has no connection to the broker: newer readings may wait there.")
        return Aspect(name, HealthState.UNKNOWN, text, since=snapshot.measured_at)
    if snapshot.measured_at is None:
        advice = _("Check that its sensors are connected and that it is set up to measure this chimney.")
        return Aspect(name, HealthState.ATTENTION, _("It has sent no reading of this chimney yet."), advice)
    age = max(now - snapshot.measured_at, timedelta(0))
    text = _("The newest reading was measured %(span)s ago.", span=span_text(age))
    if age <= FRESH_FOR:
        return Aspect(name, HealthState.GOOD, text, since=snapshot.measured_at)
    state = HealthState.ATTENTION if age <= HOUR_SPOILT_AFTER else HealthState.BAD
    advice = _("See its connection and its clock here; if both are good, look at the device's own display.")
    return Aspect(name, state, text, advice, snapshot.measured_at)


_SET_CLOCK = N_("Check that it reaches a time server (NTP, UDP port 123), and the battery of its clock.")


def _clock(facts: Facts) -> Aspect:
    name, seen, flags = AspectName.CLOCK, facts.clock, facts.snapshot.flags
    if seen is None:
        return _clock_by_flags(facts.snapshot)
    if seen.quality == ClockQuality.UNSET:
        return Aspect(name, HealthState.ATTENTION, _(FLAG_TEXTS[Flag.CLOCK_UNSET]), _(_SET_CLOCK))
    off = span_text(timedelta(seconds=abs(seen.ahead_s)))
    if seen.ahead_s > CLOCK_AHEAD_S:
        text = _("Its clock is %(span)s ahead: its times are set back to when they come.", span=off)
        return Aspect(name, HealthState.BAD, text, _(_SET_CLOCK))
    if abs(seen.ahead_s) > CLOCK_OFF_S:
        ahead = N_("Its clock is %(span)s ahead, or its messages take so long.")
        behind = N_("Its clock is %(span)s behind, or its messages take so long.")
        return Aspect(name, HealthState.ATTENTION, _(ahead if seen.ahead_s > 0 else behind, span=off), _(_SET_CLOCK))
    if flags & _CLOCK_JUMP:
        return Aspect(name, HealthState.ATTENTION, _(FLAG_TEXTS[Flag.CLOCK_JUMP]), _(_SET_CLOCK))
    right_to = f"{CLOCK_OFF_S:.0f}"
    if seen.quality == ClockQuality.HOLD_OVER:
        text = _("Its clock was set and runs on by itself, and is right to %(seconds)s s.", seconds=right_to)
    else:
        text = _("Its clock is set, and is right to %(seconds)s s.", seconds=right_to)
    return Aspect(name, HealthState.GOOD, text)


def _clock_by_flags(snapshot: Snapshot) -> Aspect:
    """What the newest reading says of the clock that timed it: nothing came live since the platform started."""
    name = AspectName.CLOCK
    if snapshot.measured_at is None:
        return Aspect(name, HealthState.UNKNOWN, _("No reading has shown yet how its clock goes."))
    found = next((flag for flag in CLOCK_FLAGS if snapshot.flags & flag), None)
    if found is None:
        return Aspect(name, HealthState.GOOD, _("Its newest reading has a time that was believed."))
    state = HealthState.BAD if found is Flag.CLOCK_FUTURE else HealthState.ATTENTION
    return Aspect(name, state, _(FLAG_TEXTS[found]), _(_SET_CLOCK))


# Plain numbers: with members of Flag it would be most of the time that a fleet's health takes.
_SENSOR_RULES = (
    (HealthState.BAD, int(Flag.UNFIT_SENSOR), N_("Fit a CO2 sensor with a range of 20 %, or a dilution probe.")),
    (
        HealthState.BAD,
        int(FAULT_FLAGS),
        N_("Go to the chimney and look at the sensor: until then there is no valid rate."),
    ),
    (
        HealthState.ATTENTION,
        int(ATTENTION_FLAGS),
        N_("Look again later; if it is still so, check the sensor named here."),
    ),
)


def _sensors(snapshot: Snapshot) -> Aspect:
    name, flags, at = AspectName.SENSORS, snapshot.flags, snapshot.measured_at
    if at is None:
        return Aspect(name, HealthState.UNKNOWN, _("No reading has shown yet how its sensors are."))
    for state, mask, advice in _SENSOR_RULES:
        if hit := flags & mask:
            text = " ".join(_(text) for flag, text in FLAG_TEXTS.items() if hit & flag)
            return Aspect(name, state, text, _(advice))
    return Aspect(name, HealthState.GOOD, _("Its newest reading has no fault of a sensor."))


def _backlog(facts: Facts) -> Aspect:
    name, store = AspectName.BACKLOG, facts.store
    used = facts.record.ring_used if facts.record is not None else None
    room = facts.birth.capacity if facts.birth is not None else None
    share = used / room if used is not None and room is not None else 0.0
    taken = _taken(used, room)
    if not store.has_room:
        text = _(
            "There are %(count)s holes in what it has sent: newer records are refused until they are filled.",
            count=MOST_RANGES,
        )
        advice = _("Restart it, so that it says what it still has and what is lost.")
        return Aspect(name, HealthState.BAD, text, advice, store.recovering_since)
    if share >= STORE_FULL_FROM:
        advice = _("Get it connected now: it is about to overwrite what nobody has.")
        return Aspect(name, HealthState.BAD, _list(taken), advice, store.recovering_since)
    if share >= STORE_FILLS_FROM:
        advice = _("Check its network: it keeps more than it can send.")
        return Aspect(name, HealthState.ATTENTION, _list(taken), advice, store.recovering_since)
    missing, came = decimal(store.missing), decimal(store.recovering)
    waits = [_("older records that have not come yet: %(count)s", count=missing)] if store.missing else []
    waits += [_("readings of an outage that have just come: %(count)s", count=came)] if store.recovering else []
    if waits:
        advice = _("Nothing has to be done while it sends them. If it is still so tomorrow, restart it.")
        return Aspect(name, HealthState.ATTENTION, _list(*waits, taken), advice, store.recovering_since)
    if not store.is_numbered and used is None:
        return Aspect(name, HealthState.UNKNOWN, _("It has not shown what it keeps."))
    text = (
        _("nothing that it has measured is missing here") if store.is_numbered else _("nothing is known to be missing")
    )
    return Aspect(name, HealthState.GOOD, _list(text, taken))


def _taken(used: int | None, room: int | None) -> str:
    """How full a device's store is, as far as it has said."""
    if used is None:
        return ""
    if room is None:
        return _("records in its store: %(count)s", count=decimal(used))
    return _("%(used)s of %(room)s places of its store are taken", used=decimal(used), room=decimal(room))


def _list(*parts: str) -> str:
    """What is known, one after the other, as one sentence."""
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}."


def _firmware(birth: Birth | None, fleet: FleetFirmware) -> Aspect:
    name, own = AspectName.FIRMWARE, birth.firmware if birth is not None else None
    if own is None:
        text = _("It has not said which firmware it runs since the platform started; it does when it connects.")
        return Aspect(name, HealthState.UNKNOWN, text)
    if fleet.usual is None or fleet.newest is None:
        return Aspect(name, HealthState.GOOD, _("It runs %(version)s.", version=own))
    order = _order(own)
    if order is None:
        text = _("It runs %(version)s, which cannot be compared with what others run.", version=own)
        return Aspect(name, HealthState.UNKNOWN, text)
    if _is_newer(fleet.usual, order):
        is_newest = fleet.newest == fleet.usual
        advice = _("Update it to %(version)s.") if is_newest else _("Update it to %(version)s or newer.")
        text = _("It runs %(version)s, and most devices %(usual)s.", version=own, usual=fleet.usual)
        return Aspect(name, HealthState.ATTENTION, text, advice % {"version": fleet.usual})
    text = _("It runs %(version)s.", version=own)
    if _is_newer(fleet.newest, order):
        text += " " + _("The newest in the fleet is %(version)s.", version=fleet.newest)
    return Aspect(name, HealthState.GOOD, text)


def _is_newer(version: str, than: tuple[tuple[int, ...], bool]) -> bool:
    order = _order(version)
    return order is not None and order > than


def _processing(actor: ActorState) -> Aspect:
    name = AspectName.PROCESSING
    match actor:
        case ActorState.RUNNING:
            return Aspect(name, HealthState.GOOD, _("The platform takes what it sends."))
        case ActorState.BACKING_OFF:
            advice = _("Wait some minutes: it is tried again by itself, and nothing is lost. Then tell the operator.")
            text = _("What it sent could not be taken; it is tried again.")
            return Aspect(name, HealthState.ATTENTION, text, advice)
        case ActorState.PARKED:
            text = _("What it sent could not be taken again and again, so it is held back.")
            return Aspect(name, HealthState.BAD, text, _("The operator takes it back to work on the network page."))
    return Aspect(name, HealthState.UNKNOWN, _("The platform does not listen to it at this moment."))


_SPANS = ((86_400, N_("%(count)s days")), (3600, N_("%(count)s h")), (60, N_("%(count)s min")))


def span_text(span: timedelta) -> str:
    """A length of time in the largest unit of which there are two or more: ``90 s``, ``12 min``, ``3 days``."""
    seconds = span.total_seconds()
    for unit_s, text in _SPANS:
        if seconds >= 2 * unit_s:
            return _(text, count=decimal(seconds // unit_s))
    return _("%(count)s s", count=decimal(seconds))
