"""The pages of alerts: all that fire, and one with what was measured, what to do first, and the hour around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import Field

from carbontrack.model import Alert, Reading
from carbontrack.tiers import readings as readings_of
from carbontrack.web import alerts as rules
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, USER, allow, scope
from carbontrack.web.alerts import ALERT_ROLES, Acknowledgement, Shelf, find_alert
from carbontrack.web.api.alerts import after
from carbontrack.web.api.telling import shown
from carbontrack.web.errors import REFUSALS
from carbontrack.web.forms import Form, refused, typed, without_blanks
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import SEVERITY_TITLES, filters
from carbontrack.web.rest import Id, Input, write_cursor
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import ALERTS, render
from carbontrack.web.trend_pages import MOST_POINTS
from carbontrack.words import LANGUAGE_TITLES, N_, gettext

ALERT = ALERTS + "{id:\\d{1,9}}/"
ALERTS_SHOWN = 50
PARTS_SHOWN = 200
BEFORE, AFTER, LONGEST = timedelta(minutes=30), timedelta(minutes=30), timedelta(minutes=150)
"""What the chart shows: from half an hour before an alert to half an hour after its end, and no more than this."""
GAP_S = 30.0
"""Readings come every 5 s; after so long without one there was none, and the line has a gap."""
SHELVES = (
    ("1", N_("1 hour")),
    ("4", N_("4 hours")),
    ("12", N_("12 hours")),
    ("24", N_("a day")),
    ("168", N_("a week")),
)


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(ALERTS, alerts_page)
    router.add_get(ALERT, alert_page)
    router.add_get(f"{ALERT}chart.json", chart)
    router.add_post(f"{ALERT}acknowledge", acknowledge)
    router.add_post(f"{ALERT}shelve", shelve)
    router.add_post(f"{ALERT}unshelve", unshelve)


# --- all of them


class PageQuery(Input):
    """What the page shows."""

    show: Literal["firing", "unseen", "all"] = "firing"
    severity: Literal["info", "warning", "critical"] | None = None
    factory_id: Id | None = None
    rule: str | None = Field(None, max_length=80)
    device_id: str | None = Field(None, max_length=64)
    cursor: str | None = Field(None, max_length=400)


@allow(EVERYBODY)
async def alerts_page(request: web.Request) -> web.StreamResponse:
    """Alerts that fire, or all there were, of what was chosen; the newest first."""
    services, user = request.app[SERVICES], request[USER]
    chosen = without_blanks(request.query, *request.query)
    query = PageQuery.model_validate(chosen)
    is_network = user.role in NETWORK_ROLES
    found = await services.store.alerts(
        factory_id=query.factory_id if is_network else scope(user),
        device_id=query.device_id,
        rule=query.rule,
        severity=query.severity,
        only_open=query.show != "all",
        is_acknowledged=False if query.show == "unseen" else None,
        only_whole=is_network and query.show != "all",
        after=after(query.cursor),
        limit=ALERTS_SHOWN + 1,
    )
    page = found[:ALERTS_SHOWN]
    last = write_cursor([page[-1].raised_at.isoformat(), page[-1].id]) if len(found) > len(page) else None
    places = await _places(services)
    values = {
        "alerts": [_shown(services, alert, places, user.locale) for alert in page],
        "filter": Form("filter", chosen),
        "query": query,
        "is_network": is_network,
        "factories": [(str(number), name) for number, name in sorted(places.factories.items(), key=lambda it: it[1])],
        "severities": [(name, gettext(title)) for name, title in SEVERITY_TITLES.items()],
        "names": [(it.name, it.words(user.locale).title) for it in services.rules.instances],
        "is_filtered": bool(chosen.keys() - {"cursor"}),
        "is_later": query.cursor is not None,
        "may_act": user.role in ALERT_ROLES,
        "next": f"?{urlencode({**chosen, 'cursor': last})}" if last else "",
    }
    return render(request, "alerts.html", values)


@dataclass(frozen=True, slots=True)
class _Places:
    """The names of factories and stacks, and where a factory has its pages."""

    factories: Mapping[int, str]
    slugs: Mapping[int, str]
    stacks: Mapping[int, str]


async def _places(services: Services) -> _Places:
    factories = await services.store.factories()
    return _Places(
        {it.id: it.name for it in factories},
        {it.id: it.slug for it in factories},
        {it.id: it.name for it in await services.store.stacks()},
    )


def _shown(services: Services, alert: Alert, places: _Places, language: str) -> dict[str, Any]:
    """An alert as pages show it."""
    return {
        "alert": alert,
        "title": services.rules.words(alert.rule, language).title,
        "factory": places.factories.get(alert.factory_id or 0, ""),
        "slug": places.slugs.get(alert.factory_id or 0, ""),
        "stack": places.stacks.get(alert.stack_id or 0, ""),
        "is_shelved": alert.is_shelved(services.clock()),
        "lasts": (alert.cleared_at or services.clock()) - alert.raised_at,
    }


# --- one of them


@allow(EVERYBODY)
async def alert_page(request: web.Request) -> web.StreamResponse:
    """One alert, and what may be done about it."""
    return await _alert_page(request, await find_alert(request), Form("act"))


async def _alert_page(request: web.Request, alert: Alert, form: Form) -> web.Response:
    services, user = request.app[SERVICES], request[USER]
    places = await _places(services)
    other = "en" if user.locale == "sw" else "sw"
    words, others = (services.rules.words(alert.rule, language) for language in (user.locale, other))
    of = alert.device_id, alert.factory_id
    alike = await services.store.alerts(
        factory_id=alert.factory_id, device_id=alert.device_id, rule=alert.rule, only_open=False, limit=20
    )
    is_whole = alert.factory_id is None
    parts = await services.store.alerts(part_of=alert.id, only_open=False, limit=PARTS_SHOWN) if is_whole else []
    series = await _series(services, alert)
    values = _shown(services, alert, places, user.locale) | {
        "steps": words.first_steps,
        "language": user.locale,
        "other_steps": others.first_steps if others != words else (),
        "other_language": (other, LANGUAGE_TITLES[other]),
        "earlier": [it for it in alike if it.id != alert.id and (it.device_id, it.factory_id) == of],
        "members": [_shown(services, part, places, user.locale) for part in parts],
        "parts_shown": PARTS_SHOWN,
        "seen": form if form.name == "acknowledge" else Form("acknowledge"),
        "shelf": form if form.name == "shelve" else Form("shelve"),
        "told": [
            shown(message)
            for message in await services.store.messages(alert_id=alert.id, factory_id=scope(user), limit=20)
        ],
        "shelves": [(hours, gettext(title)) for hours, title in SHELVES],
        "may_act": user.role in ALERT_ROLES,
        "series": series,
        "minutes": series.minutes() if series else (),
    }
    return form.answer(render(request, "alert.html", values))


@allow(ALERT_ROLES)
async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Note that somebody has seen it."""
    values = await typed(request)
    try:
        given = Acknowledgement.model_validate({"comment": values.get("comment", "")})
        alert = await rules.acknowledge(request, given)
    except REFUSALS as error:
        return await _alert_page(request, await find_alert(request), refused("acknowledge", values, error))
    raise sent_on(
        request, _url(alert), Notice(gettext("You have acknowledged this alert: nobody is reminded of it any more."))
    )


@allow(ALERT_ROLES)
async def shelve(request: web.Request) -> web.StreamResponse:
    """Put it aside for some hours."""
    values, now = await typed(request), request.app[SERVICES].clock()
    hours = values.get("hours", "")
    try:
        until = now + timedelta(hours=float(hours if hours in dict(SHELVES) else 0))
        given = Shelf.model_validate({"until": until, "comment": values.get("comment", "").strip()})
        alert = await rules.shelve(request, given)
    except REFUSALS as error:
        return await _alert_page(request, await find_alert(request), refused("shelve", values, error))
    until_text = filters(request.app[SERVICES].time_zone)["local_datetime"](until)
    raise sent_on(
        request, _url(alert), Notice(gettext("Nobody is told of this alert before %(time)s.", time=until_text))
    )


@allow(ALERT_ROLES)
async def unshelve(request: web.Request) -> web.StreamResponse:
    """Have people told of it again."""
    alert = await rules.unshelve(request)
    raise sent_on(request, _url(alert), Notice(gettext("People are told of this alert again.")))


def _url(alert: Alert) -> str:
    return f"{ALERTS}{alert.id}/"


# --- the hour around it


@dataclass(frozen=True, slots=True)
class _Quantity:
    """What a chart can show; ``digits`` are those behind the point."""

    name: str
    title: str
    unit: str
    digits: int


QUANTITIES = (
    _Quantity("co2_kg_per_s", N_("CO2"), "kg/s", 4),
    _Quantity("co2_ppm", N_("CO2 in the gas"), "ppm", 0),
    _Quantity("temperature_c", N_("Gas temperature"), "°C", 1),
    _Quantity("velocity_ms", N_("Gas velocity"), "m/s", 2),
)


@dataclass(frozen=True, slots=True)
class _Series:
    """What was measured around an alert: (time, value) in order; ``limit`` only where it is of the same quantity."""

    quantity: _Quantity
    since: datetime
    until: datetime
    limit: float | None
    points: Sequence[tuple[datetime, float]]

    def minutes(self) -> list[dict[str, Any]]:
        """The same as a table: the least, the mean and the most of each minute."""
        found: dict[datetime, list[float]] = {}
        for at, value in self.points:
            found.setdefault(at.replace(second=0, microsecond=0), []).append(value)
        return [
            {"at": at, "least": min(values), "mean": sum(values) / len(values), "most": max(values)}
            for at, values in found.items()
        ]

    def with_gaps(self) -> Iterable[tuple[float, float | None]]:
        """As the chart wants them: seconds and values, None where nothing was measured."""
        before: float | None = None
        for at, value in self.points:
            now = at.timestamp()
            if before is not None and now - before > GAP_S:
                yield (before + now) / 2, None
            before = now
            yield now, value


async def _series(services: Services, alert: Alert) -> _Series | None:
    """What the alert's device measured around it; None for an alert that is of no device, or where nothing is kept."""
    if alert.device_id is None or alert.stack_id is None:
        return None
    quantity = next((it for it in QUANTITIES if alert.unit.startswith(it.unit)), QUANTITIES[0])
    since = alert.raised_at - BEFORE
    end = (alert.cleared_at or services.clock()) + AFTER
    until = min(end, since + LONGEST, services.clock())
    streams = (await services.store.streams(alert.device_id)).get(alert.device_id, [])
    own = {stream.pk for stream in streams}
    found = [it for it in await readings_of(services.store, [alert.stack_id], since, until) if it.stream_pk in own]
    points = _thinned([(it.measured_at, value) for it in found if (value := _value(it, quantity)) is not None])
    limit = alert.limit if alert.unit.startswith(quantity.unit) else None
    return _Series(quantity, since, until, limit, points) if points else None


def _value(reading: Reading, quantity: _Quantity) -> float | None:
    value: float | None = getattr(reading, quantity.name)
    return value


def _thinned(points: list[tuple[datetime, float]]) -> list[tuple[datetime, float]]:
    """At most :data:`MOST_POINTS` of them."""
    return points[:: -(-len(points) // MOST_POINTS)] if points else []


@allow(EVERYBODY)
async def chart(request: web.Request) -> web.StreamResponse:
    """What was measured around an alert, for the chart on its page."""
    alert = await find_alert(request)
    series = await _series(request.app[SERVICES], alert)
    if series is None:
        raise web.HTTPNotFound(text=N_("Nothing is kept of what was measured around this alert."))
    return web.json_response(
        {
            "title": gettext(series.quantity.title),
            "unit": series.quantity.unit,
            "digits": series.quantity.digits,
            "from": series.since.timestamp(),
            "to": series.until.timestamp(),
            "raised_at": alert.raised_at.timestamp(),
            "cleared_at": alert.cleared_at.timestamp() if alert.cleared_at else None,
            "limit": series.limit,
            "points": list(series.with_gaps()),
        }
    )
