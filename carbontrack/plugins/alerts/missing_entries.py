"""Factory rule "missing-entries": nobody has entered the factory's energy or its tea for days.

    alerts:
      - name: entries-missing
        rule: missing-entries
        severity: info
        hold_s: 0
        options: {energy_after_days: 7, tea_after_days: 7, grace_h: 12}

What to do first: ask the factory's clerk. Without entries there is no CO2 per kilogram of made tea, nothing
corroborates the measurement, and no hour can be substituted by fuel. A factory that enters by the month needs 35 days.

A day is missing when it is over for ``grace_h`` hours and no entry covers it. What meters count by themselves is no
entry here. The alert is cleared when at most half of the days are missing, so that a clerk who is a day late is left
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from carbontrack import FactoryFacts, FactoryRule, Kind, Manifest, RuleWords, Tier, Verdict, __version__, hookimpl

MANIFEST = Manifest(
    name="missing_entries",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on a factory whose entries are missing",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

DAY = timedelta(days=1)


class MissingEntriesOptions(BaseModel):
    """After how many days without entries somebody should be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    energy_after_days: int | None = Field(7, ge=1)
    """After so many days without an energy entry (firewood, diesel, electricity); null: these are not watched."""
    tea_after_days: int | None = Field(7, ge=1)
    """After so many days without a production entry (green leaf, made tea); null: these are not watched."""
    grace_h: float = Field(12.0, ge=0, le=240)
    """A day may be entered until so many hours after its end."""


def evaluate(options: MissingEntriesOptions, facts: FactoryFacts) -> Verdict:
    """Count the days that nobody has entered; before the first stack was monitored there were none to enter."""
    if facts.monitored_since is None:
        return Verdict(breached=False, cleared=True)
    due = ((facts.now - timedelta(hours=options.grace_h)).astimezone(facts.zone)).date() - DAY
    watched = [
        (what, after, last, _days_missing(last, facts.monitored_since, due))
        for what, after, last in (
            ("energy", options.energy_after_days, facts.last_energy_on),
            ("tea", options.tea_after_days, facts.last_tea_on),
        )
        if after is not None
    ]
    late = [(what, last, days) for what, after, last, days in watched if days >= after]
    return Verdict(
        breached=bool(late),
        cleared=all(days <= after // 2 for _, after, _, days in watched),
        message=f"{facts.factory.name}: {'; '.join(_told(*each) for each in late)}",
        **_numbers([(days, after) for _, after, _, days in watched if days >= after]),
    )


def _numbers(late: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The worst of what is missing, in days, with its limit."""
    if not late:
        return {}
    days, after = max(late, key=lambda each: each[0] - each[1])
    return {"value": float(days), "limit": float(after), "unit": "days"}


def _days_missing(last: date | None, monitored_since: date, due: date) -> int:
    """How many days up to ``due`` come after the last that is covered, or after the monitoring began."""
    since = monitored_since if last is None else max(last + DAY, monitored_since)
    return max(0, (due - since).days + 1)


def _told(what: str, last: date | None, days: int) -> str:
    until = "there is none so far" if last is None else f"the last is for {last:%d %B %Y}"
    return f"no {what} was entered for {days} days ({until})"


WORDS = {
    "en": RuleWords(
        "Entries are missing",
        (
            "Ask the factory's clerk for the days that the message names.",
            "Enter firewood, diesel and electricity, green leaf and made tea.",
            "If the factory enters by the month, tell headquarters: 35 days fit better.",
        ),
    ),
    "sw": RuleWords(
        "Kumbukumbu hazijaingizwa",
        (
            "Mwulize karani wa kiwanda kuhusu siku zilizotajwa kwenye ujumbe.",
            "Ingiza kuni, dizeli na umeme, majani mabichi na chai iliyotengenezwa.",
            "Kama kiwanda huingiza mara moja kwa mwezi, waambie makao makuu: siku 35 zinafaa zaidi.",
        ),
    ),
}

MISSING_ENTRIES = FactoryRule(
    name="missing-entries",
    title="Nobody has entered the factory's energy or tea",
    options_model=MissingEntriesOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_factory_rules() -> Sequence[FactoryRule]:
    return (MISSING_ENTRIES,)
