"""Portal view "factory": one factory now, today and over the last 24 hours, chimney by chimney."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbontrack import Kind, Manifest, Page, PortalRequest, PortalView, Role, StackTotal, Tier, __version__, hookimpl
from carbontrack.emissions.rate import plan_in_force, site_pressure_kpa
from carbontrack.web.present import cause_text, live_row

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
        rows.setdefault(snapshot.stack_id, []).append(live_row(snapshot))
    totals, before = today.stack_totals, yesterday.stack_totals
    values = {
        "factory": factory,
        "section": "now",
        "pressure_kpa": site_pressure_kpa(factory),
        "stacks": [
            {
                "stack": stack,
                "plan": plan_in_force(stack.plans, data.now.timestamp()),
                "rows": rows.get(stack.id, []),
                "today_kg": totals[stack.id].co2_kg if stack.id in totals else None,
                "coverage": totals[stack.id].coverage if stack.id in totals else 0.0,
                "yesterday_kg": _comparable(before.get(stack.id)),
            }
            for stack in today.stacks
        ],
        "today_kg": today.co2_kg,
        "coverage": today.coverage,
        "alerts": [{"alert": alert, "factory": factory} for alert in await data.alerts(factory.id)],
        "recoveries": [{"recovery": found, "factory": factory} for found in await data.recoveries(factory.id)],
        "quarantine": [
            {"cause": cause, "text": cause_text(cause), "count": count}
            for cause, count in (await data.quarantine_counts(factory.id)).items()
        ],
        "formats": [{"name": item.name, "title": item.title} for item in data.formats],
        "today": data.now.astimezone(data.zone).date().isoformat(),
        "chart_url": f"/factory/{factory.slug}/trend.json",
        "download_url": f"/factory/{factory.slug}/report",
    }
    return Page("factory.html", values)


def _comparable(total: StackTotal | None) -> float | None:
    """The mass of a period that was measured well enough to compare it with another."""
    return total.co2_kg if total is not None and total.coverage >= COMPARABLE_COVERAGE else None


@hookimpl
def register_portals() -> Sequence[PortalView]:
    return (
        PortalView(
            name="factory", title="Factory", path="/factory/{slug}/", roles=frozenset(Role), show=show, in_menu=False
        ),
    )
