"""Factory rule "corroboration": measured CO2 and that of the fuel that was entered do not agree.

    alerts:
      - name: corroboration-off
        rule: corroboration
        hold_s: 0
        options: {low: 0.85, high: 1.15}

What to do first: look at the firewood entries of the month. One that is missing, ten times too large or in another unit
is more often the cause than an instrument. Then compare the stacks: a ratio that goes down month by month is an
analyser whose probe soots up, a step is a leak in a sample line or a new analyser.

Reg. (EU) 2018/2066, Art. 46 asks for measured emissions to be corroborated by a calculation once a year; the band is
the project's choice. What is compared is the last whole local month. Where one of the two is not known, or too little
was measured, nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from carbontrack import FactoryFacts, FactoryRule, Kind, Manifest, RuleWords, Tier, Verdict, __version__, hookimpl

MANIFEST = Manifest(
    name="corroboration",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts where measured CO2 and that of the entered fuel do not agree",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

MARGIN = 0.01
"""So far inside the band a ratio must be to clear the alert: a small correction of an entry does not ring again."""


class CorroborationOptions(BaseModel):
    """The band in which measured over calculated CO2 should lie."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    low: float = Field(0.85, gt=0, lt=1)
    """Measured over fuel-based CO2 (no unit): below this the alert is raised."""
    high: float = Field(1.15, gt=1, allow_inf_nan=False)
    """The same, above this."""


def evaluate(options: CorroborationOptions, facts: FactoryFacts) -> Verdict:
    """Compare the ratio of the last whole month with the band."""
    ratio = facts.measured_over_fuel
    if ratio is None:
        return Verdict(breached=False, cleared=False)
    return Verdict(
        breached=not options.low <= ratio <= options.high,
        cleared=min(options.low + MARGIN, 1.0) <= ratio <= max(options.high - MARGIN, 1.0),
        message=(
            f"{facts.factory.name}: in {facts.month:%B %Y} the measured CO2 was {ratio:.2f} times that of the entered "
            f"fuel; it should be {options.low:.2f} to {options.high:.2f} times"
        ),
        value=ratio,
        limit=options.low if ratio < options.low else options.high,
        unit="measured / fuel",
    )


WORDS = {
    "en": RuleWords(
        "Measurement and fuel do not agree",
        (
            "Look at the firewood entries of the month: is one missing, ten times too large, or in another unit?",
            "Compare the stacks: which one has changed?",
            "A ratio that falls month by month is a probe that soots up: clean it. A sudden step is a leak.",
        ),
    ),
    "sw": RuleWords(
        "Vipimo na kuni havilingani",
        (
            "Angalia kumbukumbu za kuni za mwezi: je, kuna iliyokosekana, iliyozidi mara kumi, au yenye kizio kingine?",
            "Linganisha mabomba ya moshi: ni lipi lililobadilika?",
            "Uwiano ukishuka mwezi hadi mwezi, ncha ya kupimia ina masizi: isafishe. Ukishuka ghafla, tafuta uvujaji.",
        ),
    ),
}

CORROBORATION = FactoryRule(
    name="corroboration",
    title="Measured CO2 and that of the entered fuel do not agree",
    options_model=CorroborationOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_factory_rules() -> Sequence[FactoryRule]:
    return (CORROBORATION,)
