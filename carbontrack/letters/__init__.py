"""What people read of alerts, in their language: a subject, a text and the same as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from carbontrack.hookspecs import AlertItem
from carbontrack.letters.words import WORDS
from carbontrack.model import SEVERITIES

MOST_STEPS = 5
LONGEST_SUBJECT = 150


@dataclass(frozen=True, slots=True)
class Letter:
    """What one person is told."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts of one rule at one factory, of which the same is told."""

    event: str
    severity: str
    place: str
    title: str
    steps: tuple[str, ...]
    items: tuple[AlertItem, ...]


def letter(items: Sequence[AlertItem], count: int, language: str, zone: tzinfo, url: str = "") -> Letter:
    """Tell of some alerts, the most important group first. ``count`` is how many there are, with those left out."""
    words = WORDS.get(language, WORDS["en"])
    groups = _groups(items, words)
    values: dict[str, Any] = {
        "words": words,
        "groups": groups,
        "left_out": count - len(items),
        "url": url,
        "language": language,
        "zone": zone,
        "measured": _measured,
        "subject": _subject(groups, items, count, words),
    }
    text, html = (_environment().get_template(f"alerts.{kind}.j2").render(values) for kind in ("txt", "html"))
    return Letter(values["subject"], text, html)


def _groups(items: Iterable[AlertItem], words: Mapping[str, str]) -> list[Group]:
    found: dict[tuple[str, str, str, str], list[AlertItem]] = {}
    for item in items:
        key = item.event, item.alert.severity, _place(item, words), item.alert.rule
        found.setdefault(key, []).append(item)
    groups = [
        Group(event, severity, place, of[0].title, of[0].first_steps[:MOST_STEPS], tuple(of))
        for (event, severity, place, _), of in found.items()
    ]
    return sorted(groups, key=lambda group: (group.event == "cleared", -SEVERITIES.index(group.severity)))


def _place(item: AlertItem, words: Mapping[str, str]) -> str:
    return item.factory.name if item.factory else words["network"].format(item.devices, item.factories)


def _subject(groups: Sequence[Group], items: Sequence[AlertItem], count: int, words: Mapping[str, str]) -> str:
    first = groups[0]
    severity = words["cleared"] if first.event == "cleared" else words[first.severity]
    event = f"{words[first.event]}: " if first.event in {"escalated", "repeated"} else ""
    head = f"[{severity}] {event}{first.title}, {first.place}"
    places = {item.factory.id for item in items if item.factory}
    if count == 1:
        stack = items[0].stack
        head += f", {stack.name}" if stack else ""
    elif len(groups) > 1 or len(places) > 1:
        head += f" {words['and_more'].format(count - len(first.items))}"
    else:
        head += f" ({count})"
    return " ".join(head.split())[:LONGEST_SUBJECT]


def _measured(item: AlertItem, words: Mapping[str, str]) -> str:
    """What was found: in English by the rule's own words, otherwise by the numbers."""
    alert = item.alert
    if item.factory is None:
        return words["network"].format(item.devices, item.factories)
    if words["language"] == "en" or alert.value is None:
        return _without_place(alert.message, item)
    unit = f" {alert.unit}" if alert.unit else ""
    found = f"{words['measured']} {alert.value:.4g}{unit}"
    return found + (f", {words['limit']} {alert.limit:.4g}{unit}" if alert.limit is not None else "")


def _without_place(message: str, item: AlertItem) -> str:
    """What a rule says begins with the place, which stands above already."""
    for name in (item.factory.name if item.factory else "", item.stack.name if item.stack else ""):
        if name and message.startswith(name):
            message = message[len(name) :].lstrip(",: ")
    return message


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def trial_letter(language: str) -> Letter:
    """A letter that says that it is none, to try a channel with."""
    words = WORDS.get(language, WORDS["en"])
    text = words["test_text"]
    return Letter(f"[{words['test_subject']}]", text, f"<!doctype html><html><body><p>{escape(text)}</p></body></html>")
