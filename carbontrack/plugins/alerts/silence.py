"""Alert rule "silence": a device that has sent before is not heard any more.

    alerts:
      - name: device-silent
        rule: silence
        hold_s: 0
        options: {after_s: 900}

What to do first: ask the factory whether it has power and whether its neighbours are heard too. One silent device is a
plug, a fuse or the node itself; all of a factory's are its power or its line. Nothing is lost so far: a node keeps
what it measures for days and sends it when it is back.

Silence is counted by the core's own clock, and only while the core itself hears somebody: nobody is called silent
because the broker is away or the core was stopped. After a start of the core every device has the full time again. A
device that has never sent a reading is not silent: it is not installed yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from carbontrack import AlertRule, Kind, Manifest, Observation, RuleWords, Tier, Verdict, __version__, hookimpl

MANIFEST = Manifest(
    name="silence",
    version=__version__,
    kinds=(Kind.ALERT,),
    title="Alerts on a device that is not heard any more",
    documentation="docs/plugins/alerts-reference.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)


class SilenceOptions(BaseModel):
    """How long is too long."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    after_s: float = Field(900.0, ge=10, allow_inf_nan=False)
    """For how many seconds nothing must have been heard."""


def evaluate(options: SilenceOptions, seen: Observation) -> Verdict:
    """Only a new reading ends a silence: that the core hears nothing, or has just started, says nothing of a device."""
    snapshot = seen.snapshot
    if snapshot.measured_at is None or snapshot.received_at is None:
        return Verdict(breached=False, cleared=False)
    if seen.silence_s < options.after_s:
        return Verdict(breached=False, cleared=(seen.now - snapshot.received_at).total_seconds() < options.after_s)
    return Verdict(
        breached=True,
        cleared=False,
        message=(
            f"{seen.site.factory.name}, {seen.site.stack.name}: nothing was heard of {seen.site.device.device_id} for "
            f"{options.after_s / 60:.3g} min; its last reading is of {snapshot.measured_at:%Y-%m-%d %H:%M} UTC"
        ),
        value=seen.silence_s / 60,
        limit=options.after_s / 60,
        unit="min",
    )


WORDS = {
    "en": RuleWords(
        "A device is not heard",
        (
            "Check whether the device has power: plug, switch, fuse.",
            "See whether the factory's other devices are heard. If none is, it is the power or the line.",
            "If it has power and stays silent, switch it off, wait 10 seconds, and switch it on.",
            "Nothing is lost so far: it keeps what it measures, and sends it when it is back.",
        ),
    ),
    "sw": RuleWords(
        "Kifaa hakisikiki",
        (
            "Kagua kama kifaa kina umeme: plagi, swichi, fyuzi.",
            "Angalia kama vifaa vingine vya kiwanda vinasikika. Kama hakuna hata kimoja, tatizo ni umeme au mtandao.",
            "Kama kina umeme na bado hakisikiki, kizime, subiri sekunde 10, kisha ukiwashe tena.",
            "Hadi sasa hakuna kilichopotea: kifaa huhifadhi vipimo vyake na kuvituma kinaporudi.",
        ),
    ),
}

SILENCE = AlertRule(
    name="silence",
    title="A device is not heard any more",
    options_model=SilenceOptions,
    evaluate=evaluate,
    on_timer=True,
    words=WORDS,
)


@hookimpl
def register_alert_rules() -> Sequence[AlertRule]:
    return (SILENCE,)
