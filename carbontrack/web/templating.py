"""jinja2 for the portals: the environment, and what every page is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

from carbontrack.model import User
from carbontrack.web import present
from carbontrack.web.access import NETWORK_ROLES, USER
from carbontrack.web.services import SERVICES, Services

HERE = Path(__file__).parent
STATIC = HERE / "static"


def set_up(app: web.Application, services: Services) -> None:
    """Give the application its templates: ours, and behind them those of the portal views that plugins bring."""
    folders = [HERE / "templates", *(view.templates for view in services.views if view.templates is not None)]
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(folder) for folder in folders]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=present.filters(services.time_zone),
    )
    versions: dict[str, str] = {}

    def static_url(name: str) -> str:
        if name not in versions:
            versions[name] = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
        return f"/static/{name}?v={versions[name]}"

    environment.globals["static_url"] = static_url
    environment.globals["version"] = services.version


def render(request: web.Request, template: str, values: Mapping[str, Any]) -> web.Response:
    """A page with what every page needs: who is signed in, the menu, the time zone."""
    services = request.app[SERVICES]
    user = request.get(USER)
    common = {
        "user": user,
        "role_title": present.ROLE_TITLES[user.role] if user else "",
        "menu": _menu(request, services, user),
        "path": request.path_qs,
        "time_zone": str(services.time_zone),
        "zone_short": present.zone_short(services.clock(), services.time_zone),
    }
    return aiohttp_jinja2.render_template(template, request, {**common, **values})


def _menu(request: web.Request, services: Services, user: User | None) -> list[dict[str, Any]]:
    """The portal views that have one address for everybody and are open to this person."""
    if user is None:
        return []
    items = [
        (view.title, view.path)
        for view in services.views
        if view.in_menu and user.role in view.roles and "{" not in view.path
    ]
    if user.role in NETWORK_ROLES:
        items.append(("Leaderboard", "/hq/leaderboard"))
    return [{"title": title, "url": url, "current": request.path == url} for title, url in items]
