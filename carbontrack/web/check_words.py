"""What the automatic checks of a report found, in the reader's language.

A report's data set is in English and never changes. A text here is the very sentence of a check with places for its
values: whatever fits is told in the reader's language with those values, and anything else stays as it was kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from carbontrack.compliance import Check
from carbontrack.words import N_, gettext

SENTENCES: Mapping[str, str] = {
    "period_not_over": N_("The period is not over yet."),
    "tea_missing": N_("%(of)s: no made tea is entered for the period."),
    "wood_missing": N_("%(of)s: no firewood is entered for the period."),
    "diesel_missing": N_("%(of)s: no diesel is entered. Enter 0 litres if none was burned."),
    "electricity_missing": N_("%(of)s: no grid electricity is entered."),
    "corroboration": N_("%(of)s: measured CO2 is %(share)s of what the fuel gives. Say why, or mend an entry."),
    "biomass_evidence": N_(
        "%(of)s: %(count)s deliveries of firewood have no evidence of their origin and are not zero-rated."
    ),
    "biomass_origin": N_("%(of)s: %(count)s deliveries of firewood name neither supplier nor plot."),
    "no_stack": N_("%(of)s: no chimney was monitored in the period."),
    "hours_without_value": N_("%(of)s: %(count)s hours in which it ran have no value at all."),
    "availability": N_("%(of)s: %(share)s of the operating hours are valid; %(least)s are needed."),
    "long_outage": N_("%(of)s: out of order for %(count)s hours in a row (MRR Article 45(1): five days)."),
    "profile_assumed": N_("%(of)s: the velocity profile is assumed; a traverse (EN 15259) would say."),
    "factor_expired": N_("The factor %(name)s was valid until %(day)s, and the period goes on after that."),
}
"""By the name of a check, as :mod:`carbontrack.compliance_checks` writes it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a check found; ``is_english`` where it is as the data set has it, whoever reads it."""

    text: str
    is_english: bool


def told(check: Check) -> Told:
    """What a check found, in the reader's language where its sentence is known."""
    sentence = SENTENCES.get(check.name)
    found = _pattern(sentence).fullmatch(check.text) if sentence is not None else None
    if sentence is None or found is None:
        return Told(check.text, is_english=True)
    return Told(gettext(sentence, **found.groupdict()), is_english=False)


@cache
def _pattern(sentence: str) -> re.Pattern[str]:
    """What a sentence with any values looks like. There are as many as sentences."""
    parts = re.split(r"%\((\w+)\)s", sentence)
    found = [re.escape(part) if number % 2 == 0 else f"(?P<{part}>.+?)" for number, part in enumerate(parts)]
    return re.compile("".join(found))
