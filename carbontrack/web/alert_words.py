"""The numbers of alerts in words: what those of our own rules are called, and what they mean, for translation.

A rule's options are described where they are defined, in English. What a text here is compared with is that very
description, so a rule of somebody else's simply stays in English.
"""

from __future__ import annotations

from typing import Any

from carbontrack.alerts import RuleInstance
from carbontrack.words import N_, gettext

UNITS = {"s": "s", "h": "h", "c": "°C", "ms": "m/s", "ppm": "ppm", "kg": "kg"}
"""The last part of an option's name, where it is a unit, and how it is written."""
TIMES = {
    "hold_s": N_("How long a breach must last before the alert is raised, in seconds."),
    "clear_after_s": N_("How long all must be well before it is cleared, in seconds."),
}
"""What every alert has beside its rule's options."""
LABELS = (
    N_("hold, s"),
    N_("clear after, s"),
    N_("raise above"),
    N_("clear below"),
    N_("raise above per min"),
    N_("clear below per min"),
    N_("window, s"),
    N_("after, s"),
    N_("for, s"),
    N_("spread"),
    N_("combination for, s"),
    N_("low"),
    N_("high"),
    N_("energy after days"),
    N_("tea after days"),
    N_("grace, h"),
)
"""As :func:`label_of` makes them of the options' names."""
HINTS = (
    N_("A value above this raises the alert; in the quantity's own unit, which its name ends with."),
    N_("A value below this clears it; between the two nothing changes."),
    N_("A change per minute that is faster than this raises the alert."),
    N_("A change per minute that is slower than this clears it; between the two nothing changes."),
    N_("Over how many seconds of measuring time the change is taken."),
    N_("For how many seconds nothing must have been heard."),
    N_("For how many seconds of measuring time the value must stand still."),
    N_("How far the highest and the lowest value may be apart and still be one value, in the channel's own unit."),
    N_("For how many seconds of measuring time values that do not fit together must last."),
    N_("Measured over fuel-based CO2 (no unit): below this the alert is raised."),
    N_("The same, above this."),
    N_("After so many days without an energy entry (firewood, diesel, electricity); null: these are not watched."),
    N_("After so many days without a production entry (green leaf, made tea); null: these are not watched."),
    N_("A day may be entered until so many hours after its end."),
)
"""As the options of our own rules describe themselves."""


def label_of(option: str) -> str:
    """What a person calls a number: ``clear_after_s`` is "clear after, s"."""
    *words, last = option.split("_")
    text = f"{' '.join(words)}, {UNITS[last]}" if words and last in UNITS else option.replace("_", " ")
    return gettext(text)


def labels_of(instance: RuleInstance[Any]) -> dict[str, tuple[str, str]]:
    """By option: what a person calls it, and what it means."""
    own = instance.rule.options_model.model_fields
    hints = TIMES | {name: " ".join((info.description or "").split()) for name, info in own.items()}
    return {name: (label_of(name), gettext(hint) if hint else "") for name, hint in hints.items()}
