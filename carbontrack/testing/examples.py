"""Small, believable things to try a plugin on: a tea factory at noon, what its device measured, an alert of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from carbontrack.hookspecs import AlertItem, FactoryFacts, Notification, Observation, Recipient
from carbontrack.letters import letter
from carbontrack.model import (
    Alert,
    Device,
    Factory,
    Flag,
    MonitoringPlan,
    Payload,
    Reading,
    Report,
    Site,
    Snapshot,
    Stack,
)

NAIROBI = ZoneInfo("Africa/Nairobi")
NOON = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday in the peak season, 12:00 in Nairobi."""
FACTORY = Factory(1, "Kangaita Tea Factory", "kangaita", "Kirinyaga", "3", -0.5, 37.3, 2036.0)
STACK = Stack(1, 1, "Boiler 1", (MonitoringPlan(),))
SITE = Site(FACTORY, STACK, Device(1, "dev-001", 1, 1))


def payload(
    body: bytes | str,
    *,
    device_id: str = "dev-001",
    channel: str = "data",
    received_at: datetime = NOON,
) -> Payload:
    """A message as it comes from the broker."""
    content = body.encode() if isinstance(body, str) else body
    return Payload(device_id, channel, content, round(received_at.timestamp() * 1000))


def snapshot(**changed: Any) -> Snapshot:
    """A boiler that fires, measured two seconds ago: 9.8 % CO2, 0.1485 kg/s."""
    values: dict[str, Any] = {
        "device_id": "dev-001",
        "factory_id": 1,
        "stack_id": 1,
        "online": True,
        "measured_at": NOON - timedelta(seconds=2),
        "received_at": NOON - timedelta(seconds=1),
        "co2_ppm": 98_000.0,
        "temperature_c": 183.25,
        "velocity_ms": 4.12,
        "flow_rate_m3s": 1.8638,
        "co2_kg_per_s": 0.1485,
        "flags": 0,
    }
    return Snapshot(**(values | changed))


def observation(
    *,
    now: datetime = NOON,
    silence_s: float = 1.0,
    memory: dict[str, Any] | None = None,
    site: Site = SITE,
    **changed: Any,
) -> Observation:
    """What a rule for devices is shown; ``changed`` are fields of the snapshot.

    Give the same ``memory`` again to show a rule one reading after the other.
    """
    return Observation(site, snapshot(**changed), now, silence_s, {} if memory is None else memory)


def factory_facts(**changed: Any) -> FactoryFacts:
    """What a rule for factories is shown: a month on, entries up to yesterday, measured CO2 2 % above the fuel's."""
    values: dict[str, Any] = {
        "factory": FACTORY,
        "now": NOON,
        "zone": NAIROBI,
        "monitored_since": date(2025, 12, 1),
        "last_energy_on": date(2026, 3, 1),
        "last_tea_on": date(2026, 3, 1),
        "month": date(2026, 2, 1),
        "measured_over_fuel": 1.02,
    }
    return FactoryFacts(**(values | changed))


def reading(seq: int = 1, **changed: Any) -> Reading:
    """Reading number ``seq``, 5 s after the one before it."""
    measured_at = NOON + timedelta(seconds=5 * seq)
    values: dict[str, Any] = {
        "stack_id": 1,
        "stream_pk": 1,
        "seq": seq,
        "measured_at": measured_at,
        "received_at": measured_at + timedelta(milliseconds=250),
        "co2_ppm": 98_000.0 + 10 * (seq % 7),
        "temperature_c": 183.25,
        "velocity_ms": 4.12,
        "pressure_kpa": 79.68,
        "flow_rate_m3s": 1.8638,
        "co2_kg_per_s": 0.1485,
        "flags": 0,
    }
    return Reading(**(values | changed))


def report(*readings: Reading) -> Report:
    """A report of one factory over an hour; without ``readings``, of 240 good ones and one without a rate."""
    bad = reading(241, co2_ppm=None, flow_rate_m3s=None, co2_kg_per_s=None, flags=int(Flag.CO2_FAULT))
    rows = readings or (*(reading(seq) for seq in range(1, 241)), bad)
    return Report(FACTORY, (STACK,), NOON, NOON + timedelta(hours=1), rows)


def empty_report() -> Report:
    """A report of a factory that measured nothing in that hour."""
    return Report(FACTORY, (STACK,), NOON, NOON + timedelta(hours=1), ())


RECIPIENT = Recipient("Wanjiru Mwangi", "wanjiru@example.org", "+254711000001", "en")
"""Somebody who is on duty."""


def notification(
    event: Literal["raised", "escalated", "repeated", "cleared", "acknowledged"] = "raised",
    *,
    of_factory: bool = False,
    of_network: bool = False,
    severity: str = "warning",
    to: Recipient | None = None,
) -> Notification:
    """What is told of one alert: of a device, of a factory as a whole, which has no stack, or of the whole network.

    ``to`` is for a notifier that tells people, such as :data:`RECIPIENT`.
    """
    of_device = not (of_factory or of_network)
    where = f"{FACTORY.name}, {STACK.name}" if of_device else FACTORY.name
    alert = Alert(
        id=7,
        device_id="dev-001" if of_device else None,
        factory_id=None if of_network else 1,
        stack_id=1 if of_device else None,
        rule="co2-rate-high",
        severity=severity,
        message="27 devices at 9 factories" if of_network else f"{where}: 0.61 kg/s CO2, the limit is 0.6",
        raised_at=NOON,
        cleared_at=NOON + timedelta(minutes=20) if event == "cleared" else None,
        value=0.61,
        limit=0.6,
        unit="kg/s",
        acknowledged_at=NOON + timedelta(minutes=5) if event == "acknowledged" else None,
        acknowledged_by="wanjiru@example.org" if event == "acknowledged" else "",
    )
    item = AlertItem(
        event=event,
        alert=alert,
        factory=None if of_network else FACTORY,
        stack=STACK if of_device else None,
        title="CO2 rate is high",
        first_steps=("Look at the fire.", "Compare the reading with the stack's history."),
        devices=27 if of_network else 1,
        factories=9 if of_network else 1,
    )
    url = "https://carbon.example.org/alerts/7/"
    told = letter([item], 1, to.language if to else "en", NAIROBI, url)
    return Notification("0123456789abcdef", event, (item,), 1, to, told.subject, told.text, told.html, url)


# --- options


def example_options(model: type[BaseModel], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Options that a model takes, to try something with it.

    They are ``given``, or else the model's own example (``json_schema_extra={"examples": [...]}``), the first of a
    field's ``examples``, its default, or a guess by its type. Raises pydantic's ``ValidationError`` when the guess is
    refused: then the model needs an example.
    """
    extra = model.model_config.get("json_schema_extra")
    examples = extra.get("examples") if isinstance(extra, dict) else None
    values: dict[str, Any] = {}
    if isinstance(examples, list) and examples and isinstance(examples[0], dict):
        values = dict(examples[0])
    else:
        for name, field in model.model_fields.items():
            if field.examples:
                values[field.alias or name] = field.examples[0]
            elif field.is_required():
                values[field.alias or name] = _guess(field)
    values |= given or {}
    model.model_validate(values)
    return values


def _guess(field: FieldInfo) -> Any:
    """A value for a required field without an example."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    lowest = [getattr(note, "ge", None) or getattr(note, "gt", None) or 0 for note in field.metadata]
    number = max([1, *(bound + 1 for bound in lowest if isinstance(bound, int | float))])
    highest = [top for note in field.metadata for top in (getattr(note, "le", None),) if top is not None]
    number = min([number, *highest])
    guesses: dict[Any, Any] = {int: int(number), float: float(number), bool: False, str: "example", SecretStr: "secret"}
    return guesses.get(annotation, {})
