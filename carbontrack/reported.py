"""What factories have reported of a period, to be held against: their statements, month by month, taken together.

Statements are frozen, so a comparison with them is the same whenever it is made, until somebody reports more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum
from statistics import median

import msgspec

from carbontrack.ledger import Metric, Statement

LEAST_FACTORIES = 3
"""Of fewer a median would tell what one of them reported."""


class _Figures(msgspec.Struct):
    """What is read of a statement's figures."""

    made_tea_kg: float | None
    intensities: dict[Metric, float | None]


@dataclass(frozen=True, slots=True)
class Reported:
    """One statement: how much tea, and what each metric was for a kg of it."""

    period_start: datetime
    period_end: datetime
    made_tea_kg: float | None
    intensities: Mapping[Metric, float | None]

    @classmethod
    def of(cls, statement: Statement) -> Reported:
        read = msgspec.json.decode(statement.figures, type=_Figures)
        return cls(statement.period_start, statement.period_end, read.made_tea_kg, read.intensities)


def newest(statements: Iterable[Statement]) -> list[Statement]:
    """Of each factory and period the newest version alone."""
    found: dict[tuple[int, datetime, datetime], Statement] = {}
    for it in sorted(statements, key=lambda statement: statement.version):
        found[it.factory_id, it.period_start, it.period_end] = it
    return list(found.values())


def together(reported: Iterable[Reported], start: datetime, end: datetime) -> dict[Metric, float]:
    """The intensities of [start, end) out of what was reported of exactly this period, or of parts that make it up.

    Parts are weighed by their made tea. A metric that a part does not have is left out, and all are where the parts
    leave a gap, or one of them has no tea.
    """
    parts = _tiled(list(reported), start, end)
    tea = [part.made_tea_kg or 0.0 for part in parts]
    if not parts or not all(tea):
        return {}
    found: dict[Metric, float] = {}
    for metric in parts[0].intensities:
        values = [part.intensities.get(metric) for part in parts]
        if all(value is not None for value in values):
            found[metric] = fsum((value or 0.0) * kg for value, kg in zip(values, tea, strict=True)) / fsum(tea)
    return found


def _tiled(reported: list[Reported], start: datetime, end: datetime) -> Sequence[Reported]:
    whole = [it for it in reported if (it.period_start, it.period_end) == (start, end)]
    if whole:
        return whole[:1]
    parts: list[Reported] = []
    at = start
    for part in sorted(reported, key=lambda it: (it.period_start, it.period_end)):
        if part.period_start == at and part.period_end <= end:
            parts.append(part)
            at = part.period_end
    return parts if at == end else []


def medians(of_factories: Iterable[Mapping[Metric, float]]) -> dict[Metric, tuple[float, int]]:
    """The median of each metric over factories, with how many have it; nothing where they are too few."""
    values: dict[Metric, list[float]] = {}
    for found in of_factories:
        for metric, value in found.items():
            values.setdefault(metric, []).append(value)
    return {metric: (median(them), len(them)) for metric, them in values.items() if len(them) >= LEAST_FACTORIES}
