"""The pages of the devices: how each of them is doing, for headquarters and for its own factory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from carbontrack.fleet import NOT_STARTED
from carbontrack.health import DeviceHealth, HealthState, health_of_absent, severity
from carbontrack.model import MIN_DATETIME, Site
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, REGISTRY_ROLES, USER, allow
from carbontrack.web.forms import Form, without_blanks
from carbontrack.web.ledger_pages import page_factory
from carbontrack.web.present import ASPECT_TITLES, HEALTH_TITLES
from carbontrack.web.rest import Id, Input
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import DEVICES, render
from carbontrack.words import N_, gettext

SHOWN = 50
"""Devices on one page."""
COUNTED = {
    HealthState.BAD: N_("bad"),
    HealthState.ATTENTION: N_("to look at"),
    HealthState.GOOD: N_("good"),
    HealthState.UNKNOWN: N_("not known"),
}
SORTS = {
    "worst": N_("The worst first"),
    "factory": N_("By factory"),
    "device_id": N_("By device"),
    "last_seen": N_("Longest not seen first"),
}


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get(DEVICES, all_devices_page)
    app.router.add_get("/factory/{slug}/devices", factory_devices_page)


class PageQuery(Input):
    """What a page shows."""

    state: HealthState | None = None
    sort: Literal["worst", "factory", "device_id", "last_seen"] = "worst"
    page: int = Field(1, ge=1, le=10_000)


class NetworkQuery(PageQuery):
    factory_id: Id | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One device as a page shows it."""

    site: Site
    health: DeviceHealth
    last_seen: datetime | None
    """When its newest reading came."""

    @classmethod
    def all_of(cls, sites: Sequence[Site], services: Services) -> list[Row]:
        fleet = services.whole_fleet
        health = fleet.health(services.clock(), [site.device.device_id for site in sites])
        snapshots = fleet.snapshots()
        found = []
        for site in sites:
            name = site.device.device_id
            snapshot = snapshots.get(name)
            doing = health.get(name) or health_of_absent(name, NOT_STARTED)
            found.append(cls(site, doing, snapshot.received_at if snapshot is not None else None))
        return found

    def place(self, sort: str) -> tuple[Any, ...]:
        """Where it stands in a list."""
        names = (self.site.factory.name.casefold(), self.site.device.device_id.casefold())
        if sort == "worst":
            parts = [severity(aspect.state) for aspect in self.health.aspects]
            return -severity(self.health.overall), [-it for it in sorted(parts, reverse=True)], *names
        if sort == "last_seen":
            return self.last_seen or MIN_DATETIME, *names
        return names if sort == "factory" else names[::-1]


@allow(NETWORK_ROLES)
async def all_devices_page(request: web.Request) -> web.StreamResponse:
    """Every device of the network."""
    store, chosen = request.app[SERVICES].store, without_blanks(request.query, *request.query)
    query = NetworkQuery.model_validate(chosen)
    sites = await store.sites()
    factories = {site.factory.id: site.factory.name for site in sites}
    choices = sorted(((str(number), name) for number, name in factories.items()), key=lambda it: it[1].casefold())
    wanted = [site for site in sites if query.factory_id in {None, site.factory.id}]
    return _page(request, "devices.html", query, wanted, {"factories": choices, "url": DEVICES, "factory": None})


@allow(EVERYBODY)
async def factory_devices_page(request: web.Request) -> web.StreamResponse:
    """The devices of one factory."""
    factory = await page_factory(request)
    query = PageQuery.model_validate(without_blanks(request.query, *request.query))
    sites = await request.app[SERVICES].store.sites(factory.id)
    url = f"/factory/{factory.slug}/devices"
    return _page(request, "devices.html", query, sites, {"factory": factory, "section": "devices", "url": url})


def _page(
    request: web.Request, template: str, query: PageQuery, sites: Sequence[Site], more: dict[str, Any]
) -> web.Response:
    rows = Row.all_of(sites, request.app[SERVICES])
    counts = Counter(row.health.overall for row in rows)
    found = [row for row in rows if query.state in {None, row.health.overall}]
    found.sort(key=lambda row: row.place(query.sort))
    begin, chosen = (query.page - 1) * SHOWN, query.model_dump(mode="json", exclude_none=True)
    values = {
        "rows": found[begin : begin + SHOWN],
        "is_filtered": bool(chosen.keys() & {"state", "factory_id"}),
        "filter": Form("filter", chosen),
        "counts": [(gettext(title), counts[state]) for state, title in COUNTED.items() if counts[state]],
        "states": [(state.value, gettext(title)) for state, title in HEALTH_TITLES.items()],
        "sorts": [(name, gettext(title)) for name, title in SORTS.items()],
        "before": _turned(request, query.page - 1) if query.page > 1 else "",
        "after": _turned(request, query.page + 1) if len(found) > begin + SHOWN else "",
        "health_titles": HEALTH_TITLES,
        "aspect_titles": ASPECT_TITLES,
        "may_register": request.path == DEVICES and request[USER].role in REGISTRY_ROLES,
    }
    return render(request, template, values | more)


def _turned(request: web.Request, page: int) -> str:
    return request.rel_url.update_query(page=page).raw_path_qs
