"""The leaderboard: factories ranked by an intensity, with uncertainty, trend and what keeps some from having a rank."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from aiohttp import web

from carbontrack.bookkeeping import month
from carbontrack.emissions.accounts import Account
from carbontrack.emissions.targets import LEAST_AVAILABILITY, METRIC_UNITS, LeaderboardRow, Programme, metric_value
from carbontrack.ledger import Metric
from carbontrack.model import Factory
from carbontrack.months import Months
from carbontrack.periods import months_until
from carbontrack.web.access import NETWORK_ROLES, allow
from carbontrack.web.ledger_pages import METRIC_TITLES, neighbours, page_month
from carbontrack.web.network_pages import MONTH_BOOK, active_factories
from carbontrack.web.present import percent
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import N_
from carbontrack.words import gettext as _

PATIENCE_S = 1.5
"""How long a page waits for a ranking that nobody has asked for lately; after that it says that it is on its way."""
LENGTHS: Mapping[int, str] = {1: N_("One month"), 3: N_("Three months"), 12: N_("Twelve months")}
SPARK_MONTHS = 6
SAME = 0.005
"""A change of less than half a percent is none."""


def add_routes(app: web.Application) -> None:
    """Add this page to the application."""
    app.router.add_get("/hq/leaderboard", leaderboard_page)


@dataclass(frozen=True, slots=True)
class Trend:
    """A change against the period before, in three ways: a sign, a number and a word."""

    arrow: str
    word: str
    share: float


def trend_of(share: float | None) -> Trend | None:
    """How to show a change; None where there is nothing to compare with."""
    if share is None:
        return None
    if abs(share) < SAME:
        return Trend("→", "same", share)
    return Trend("↓", "less", share) if share < 0 else Trend("↑", "more", share)


@allow(NETWORK_ROLES)
async def leaderboard_page(request: web.Request) -> web.StreamResponse:
    """Factories ranked by an intensity. What takes long is worked out beside the page, which asks for it again."""
    services = request.app[SERVICES]
    last, _begin, end = page_month(request.query.get("month", ""), services)
    metric, length = _metric(request), _length(request)
    first = months_until(last, length)[0]
    start, until = month(first, services.time_zone)[0], min(end, services.clock())
    factories = {it.id: it for it in await active_factories(services)}
    ranking: Ranking | None = ([], None, {})
    if until - start >= timedelta(hours=1) and factories:
        ranking = await _ranking(services, list(factories.values()), start, until, metric)
    rows, programme, accounts = ranking or ([], None, {})
    sparks: Mapping[int, Spark] = {}
    if rows:
        firsts = months_until(last, SPARK_MONTHS)
        months = await request.app[MONTH_BOOK].ask(list(factories.values()), firsts, patience_s=0.05)
        sparks = {it: spark_of(months, it, firsts, metric) for it in factories}
    reaches = [row.value + (row.expanded or 0.0) for row in rows if row.rank is not None and row.value is not None]
    values = {
        "section": "leaderboard",
        "month": last,
        "first": first,
        **neighbours(last, services),
        "metric": metric,
        "metrics": METRIC_TITLES,
        "unit": METRIC_UNITS[metric],
        "length": length,
        "lengths": LENGTHS,
        "is_working": ranking is None,
        "rows": [_shown(row, factories, accounts, sparks) for row in rows],
        "reach": max(reaches, default=1.0) or 1.0,
        "programme": programme,
    }
    return render(request, "leaderboard.html", values)


def _metric(request: web.Request) -> Metric:
    try:
        return Metric(request.query.get("metric", Metric.STACK_CO2_PER_TEA.value))
    except ValueError:
        raise web.HTTPBadRequest(text=f"metric must be one of {', '.join(Metric)}.") from None


def _length(request: web.Request) -> int:
    text = request.query.get("months", "1")
    if text not in map(str, LENGTHS):
        raise web.HTTPBadRequest(text=f"months must be one of {', '.join(map(str, LENGTHS))}.")
    return int(text)


Ranking = tuple[Sequence[LeaderboardRow], Programme | None, Mapping[int, Account]]


async def _ranking(
    services: Services, factories: Sequence[Factory], start: datetime, until: datetime, metric: Metric
) -> Ranking | None:
    """The ranking; None while it is worked out, which goes on when nobody waits any more."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await services.books.leaderboard(factories, start, until, metric)
    except TimeoutError:
        return None


def _shown(
    row: LeaderboardRow, factories: Mapping[int, Factory], accounts: Mapping[int, Account], sparks: Mapping[int, Spark]
) -> dict[str, Any]:
    account = accounts[row.factory_id]
    return {
        "row": row,
        "reason": reason_of(row),
        "factory": factories[row.factory_id],
        "corroboration": account.corroboration,
        "biogenic_kg": account.biogenic_co2.value_kg,
        "fossil_kg": account.fossil_co2.value_kg,
        "trend": trend_of(row.trend),
        "spark": sparks[row.factory_id],
    }


def reason_of(row: LeaderboardRow) -> str:
    """Why a factory has no rank, in the reader's language; nothing when it has one."""
    if row.rank is not None:
        return ""
    if row.availability is None:
        return _("Nothing was measured.")
    if row.availability < LEAST_AVAILABILITY:
        return _(
            "Only %(share)s of the operating hours are valid; %(least)s are needed.",
            share=percent(row.availability),
            least=percent(LEAST_AVAILABILITY),
        )
    return _("There is no made tea, or no figure, to make an intensity of.")


@dataclass(frozen=True, slots=True)
class Spark:
    """The last months as a small line of 60 by 20: paths with gaps where nothing is known, dots for lone months."""

    path: str
    dots: Sequence[tuple[float, float]]
    values: Sequence[float | None]


def spark_of(months: Months, factory_id: int, firsts: Sequence[date], metric: Metric) -> Spark:
    """A factory's line of a metric, from zero to its own highest. Pure."""
    values = []
    for first in firsts:
        found = months.found.get((factory_id, first))
        values.append(None if found is None or found.account is None else metric_value(found.account, metric))
    highest = max((it for it in values if it is not None), default=0.0) or 1.0
    step = 60 / max(1, len(values) - 1)
    points = [None if it is None else (step * place, 19 - 18 * it / highest) for place, it in enumerate(values)]
    path, before = [], None
    for point in points:
        if point is not None:
            path.append(f"{'L' if before is not None else 'M'}{point[0]:.1f} {point[1]:.1f}")
        before = point
    known = [place for place, it in enumerate(points) if it is not None]
    lone = [place for place in known if place - 1 not in known and place + 1 not in known]
    marked = [points[place] for place in dict.fromkeys([*lone, *known[-1:]])]
    return Spark("".join(path), [it for it in marked if it is not None], values)
