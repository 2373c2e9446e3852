"""Gather what a report needs; a format renders it (:mod:`carbontrack.plugins.rendering`)."""

from __future__ import annotations

from datetime import datetime

from carbontrack.model import Factory, Report
from carbontrack.store import Store
from carbontrack.tiers import readings

MOST_READINGS = 1_000_000
"""A report with more readings is refused: about one factory with three stacks for three weeks at 5 s."""


class ReportTooLarge(ValueError):
    """The period holds more readings than one report may have."""


async def gather(store: Store, factory: Factory, period_start: datetime, period_end: datetime) -> Report:
    """The report of one factory over [period_start, period_end).

    Raises :class:`ReportTooLarge` for a period with too many readings.
    """
    stacks = await store.stacks(factory.id)
    found = await readings(store, [stack.id for stack in stacks], period_start, period_end, MOST_READINGS + 1)
    if len(found) > MOST_READINGS:
        raise ReportTooLarge(f"The period has more than {MOST_READINGS:,} readings. Choose a shorter one.")
    return Report(factory, tuple(stacks), period_start, period_end, tuple(found))
