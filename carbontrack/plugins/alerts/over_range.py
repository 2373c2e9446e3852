"""Alert rule "over-range": the CO2 analyser is at its full scale, or is not made for flue gas.

    alerts:
      - name: co2-over-range
        rule: over-range
        options: {unfit: true}

What to do first: compare the analyser's data sheet with ``co2_range_ppm`` and ``dilution_ratio`` of the stack's
monitoring plan. A wood fire's gas has 5 to 18 % CO2 (50,000 to 180,000 ppm): an analyser for room air (5,000 ppm)
stands at its full scale whatever burns, and has to be replaced or to get diluted gas. An analyser that is right and
goes over its range now and then needs a larger one.

Such readings have no rate, so hours with many of them are substituted in the accounts. Maintenance and calibration
leave the alert as it is: a span gas may be anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from carbontrack import (
    AlertRule,
    Flag,
    Kind,
    Manifest,
    Observation,
    RuleWords,
    Tier,
    Verdict,
    __version__,
    hookimpl,
    plan_in_force,
)

MANIFEST = Manifest(
    name="over_range",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on a CO2 analyser at its full scale, or unfit for flue gas",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

NOT_AS_USUAL = int(Flag.WARM_UP | Flag.MAINTENANCE | Flag.CALIBRATION)
OVER = int(Flag.CO2_OVER_RANGE | Flag.CO2_SATURATED)
UNFIT = int(Flag.UNFIT_SENSOR)


class OverRangeOptions(BaseModel):
    """Whether an analyser that can never do it counts as well."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    unfit: bool = True
    """Whether an analyser whose range or response cannot do for flue gas raises the alert, whatever it reads."""


def evaluate(options: OverRangeOptions, seen: Observation) -> Verdict:
    """Whether the newest reading is at the analyser's full scale, or comes from one that is unfit."""
    snapshot = seen.snapshot
    unfit = options.unfit and snapshot.flags & UNFIT != 0
    over = snapshot.flags & OVER != 0
    if snapshot.measured_at is None or snapshot.flags & NOT_AS_USUAL:
        return Verdict(breached=False, cleared=False)
    if not (unfit or over):
        return Verdict(breached=False, cleared=snapshot.co2_ppm is not None)
    if not over or snapshot.co2_ppm is None:
        return Verdict(breached=True, cleared=False, message=_message(seen, over=over))
    range_ppm = plan_in_force(seen.site.stack.plans, snapshot.measured_at.timestamp()).co2_range_ppm
    message = _message(seen, over=over)
    return Verdict(breached=True, cleared=False, message=message, value=snapshot.co2_ppm, limit=range_ppm, unit="ppm")


def _message(seen: Observation, *, over: bool) -> str:
    where = f"{seen.site.factory.name}, {seen.site.stack.name}"
    plan = plan_in_force(seen.site.stack.plans, (seen.snapshot.measured_at or seen.now).timestamp())
    if over:
        value = "" if seen.snapshot.co2_ppm is None else f": {seen.snapshot.co2_ppm:.0f} ppm"
        return f"{where}: the CO2 analyser is at its full scale of {plan.co2_range_ppm:.0f} ppm{value}"
    return (
        f"{where}: the CO2 analyser cannot measure flue gas: its range is {plan.co2_range_ppm:.0f} ppm with a dilution "
        f"of {plan.dilution_ratio:.3g}, its response {plan.co2_response_s:.0f} s"
    )


WORDS = {
    "en": RuleWords(
        "The CO2 analyser is at its full scale",
        (
            "Compare the analyser's data sheet with the range in the stack's monitoring plan.",
            "An analyser for room air (5000 ppm) cannot measure flue gas: ask headquarters for another one.",
            "If the analyser is right and this is rare, go on; tell headquarters if it comes every day.",
        ),
    ),
    "sw": RuleWords(
        "Kipima CO2 kimefika mwisho wa uwezo wake",
        (
            "Linganisha karatasi ya maelezo ya kipima CO2 na kiwango kilicho kwenye mpango wa upimaji.",
            "Kipima hewa ya chumbani (5000 ppm) hakiwezi kupima moshi: omba kingine kutoka makao makuu.",
            "Kama kipima ni sahihi na hili hutokea mara chache, endelea; waambie makao makuu likitokea kila siku.",
        ),
    ),
}

OVER_RANGE = AlertRule(
    name="over-range",
    title="The CO2 analyser is at its full scale, or unfit",
    options_model=OverRangeOptions,
    evaluate=evaluate,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (OVER_RANGE,)
