"""Portal view "factory": one factory now, today and over the last 24 hours, chimney by chimney."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from carbontrack import (
    FactoryDay,
    FactoryTargets,
    Kind,
    Manifest,
    Page,
    PortalReader,
    PortalRequest,
    PortalView,
    Role,
    Stack,
    StackTotal,
    Tier,
    __version__,
    hookimpl,
)
from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.ledger import Metric
from carbontrack.web.ledger_pages import METRIC_TITLES
from carbontrack.web.present import BOILER_TITLES, SENSOR_TITLES, cause_text, live_row

MANIFEST = Manifest(
    name="portal_factory",
    version=__version__,
    kinds=(Kind.PORTAL,),
    title="The page of one factory",
    documentation="docs/plugins/portals.md",
    codeowners=("Carbon Track",),
    tier=Tier.PLATINUM,
)

COMPARABLE_COVERAGE = 0.8
STALE_AFTER_S = 30
"""A reading that is older is no longer "now": six of a device's readings are missing by then."""
WEEK = 7
BULLET_REACH = 1.5
"""How far a target's bar reaches, at least: to so many times the target."""


async def show(request: PortalRequest) -> Page | None:
    """One factory; None when there is none of that name for this person."""
    data = request.data
    factory = await data.factory(request.path["slug"])
    if factory is None:
        return None
    (today,) = await data.days(0, factory.id)
    (yesterday,) = await data.days(1, factory.id)
    rows: dict[int, list[dict[str, Any]]] = {}
    for snapshot in data.snapshots(factory.id):
        rows.setdefault(snapshot.stack_id, []).append(_live(live_row(snapshot), data.now))
    values = {
        "factory": factory,
        "section": "now",
        "pressure_kpa": site_pressure_kpa(factory),
        "stacks": [_chimney(stack, rows, today, yesterday, data.now) for stack in today.stacks],
        "today_kg": today.co2_kg,
        "coverage": today.coverage,
        "week": await _against_last_week(data, today),
        "targets": _targets(await data.targets(factory)),
        "alerts": [{"alert": alert, "factory": factory} for alert in await data.alerts(factory.id)],
        "recoveries": [{"recovery": found, "factory": factory} for found in await data.recoveries(factory.id)],
        "quarantine": [
            {"cause": cause, "text": cause_text(cause), "count": count}
            for cause, count in (await data.quarantine_counts(factory.id)).items()
        ],
        "now": data.now,
        "stale_after_s": STALE_AFTER_S,
        "boiler_titles": BOILER_TITLES,
        "sensor_titles": SENSOR_TITLES,
    }
    return Page("factory.html", values)


# --- now


def _live(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """A device's live row, with the age of its reading; ``is_stale``: too old to be "now"."""
    age = None if row["measured_at"] is None else max(timedelta(0), now - row["measured_at"])
    return row | {"age": age, "is_stale": age is not None and age.total_seconds() > STALE_AFTER_S}


def _chimney(
    stack: Stack,
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    today: FactoryDay,
    yesterday: FactoryDay,
    now: datetime,
) -> dict[str, Any]:
    total = today.stack_totals.get(stack.id)
    return {
        "stack": stack,
        "plan": plan_in_force(stack.plans, now.timestamp()),
        "rows": rows.get(stack.id, []),
        "today_kg": total.co2_kg if total else None,
        "coverage": total.coverage if total else 0.0,
        "yesterday_kg": _comparable(yesterday.stack_totals.get(stack.id)),
    }


def _comparable(total: StackTotal | FactoryDay | None) -> float | None:
    """The mass of a period that was measured well enough to compare it with another."""
    return total.co2_kg if total is not None and total.coverage >= COMPARABLE_COVERAGE else None


# --- today


@dataclass(frozen=True, slots=True)
class Against:
    """Today so far against the same weekday a week ago, up to the same time; masses in kg."""

    day: datetime
    """A moment of that day."""
    elapsed: timedelta
    now_kg: float
    now_measured: timedelta
    then_kg: float
    then_measured: timedelta
    whole_kg: float
    """Of that whole day."""
    whole_coverage: float
    is_fair: bool
    """Both were measured for so much of the time that their difference says something."""

    @property
    def more_kg(self) -> float:
        return self.now_kg - self.then_kg

    @property
    def more_share(self) -> float | None:
        """Of what it was then; None where that was nothing."""
        return self.more_kg / self.then_kg if self.then_kg else None


async def _against_last_week(data: PortalReader, today: FactoryDay) -> Against:
    (then,) = await data.days(WEEK, today.factory.id)
    (whole,) = await data.days(WEEK, today.factory.id, whole=True)
    local = data.now.astimezone(data.zone)
    elapsed = local - local.replace(hour=0, minute=0, second=0, microsecond=0)
    return Against(
        data.now - timedelta(days=WEEK),
        elapsed,
        today.co2_kg,
        elapsed * today.coverage,
        then.co2_kg,
        elapsed * then.coverage,
        whole.co2_kg,
        whole.coverage,
        _comparable(today) is not None and _comparable(then) is not None,
    )


def _targets(found: FactoryTargets | None) -> dict[str, Any] | None:
    """How the targets stand, each with its bar: widths of 100, up to one and a half times the target or further."""
    if found is None:
        return None
    rows = []
    for standing in found.standings:
        value = standing.target.value
        # A mass is limited over a month: a day's is none to hold against it.
        has_today = standing.target.metric is not Metric.STACK_CO2
        today = standing.today if has_today else None
        reach = max(value * BULLET_REACH, *(it for it in (today, standing.month) if it is not None), 0.0)
        rows.append(
            {
                "standing": standing,
                "title": METRIC_TITLES[standing.target.metric],
                "has_today": has_today,
                "at": 100 * value / reach,
                "today_width": 100 * (today or 0.0) / reach,
                "month_width": 100 * (standing.month or 0.0) / reach,
            }
        )
    return {"found": found, "rows": rows}


@hookimpl
def register_portals() -> Sequence[PortalView]:
    return (
        PortalView(
            name="factory", title="Factory", path="/factory/{slug}/", roles=frozenset(Role), show=show, in_menu=False
        ),
    )
