"""jinja2 for the portals: the environment, and what every page is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

from carbontrack.model import User, UserStatus
from carbontrack.passwords import SHORTEST_PASSWORD
from carbontrack.web import present
from carbontrack.web.access import HQ_ONLY, NETWORK_ROLES, USER, Handler
from carbontrack.web.notices import forget_notice, waiting_notice
from carbontrack.web.services import SERVICES, Services

HERE = Path(__file__).parent
STATIC = HERE / "static"
PEOPLE = "/hq/people/"
WAITING = web.RequestKey("waiting", int)
"""How many people wait for approval by whoever asks."""


class Environments:
    """Our templates, and for each portal view of a plugin with templates of its own: those, with ours behind them."""

    def __init__(self, ours: jinja2.Environment) -> None:
        self._ours = ours
        self._of_folder: dict[Path, jinja2.Environment] = {}

    def of(self, folder: Path | None) -> jinja2.Environment:
        """The environment of a view with templates in this folder."""
        if folder is None:
            return self._ours
        if folder not in self._of_folder:
            loaders = [jinja2.FileSystemLoader(place) for place in (folder, HERE / "templates")]
            # An overlay shares filters and globals with ours, but not the cache of templates.
            self._of_folder[folder] = self._ours.overlay(loader=jinja2.ChoiceLoader(loaders), cache_size=50)
        return self._of_folder[folder]

    def forget(self) -> None:
        """Let go of what plugins have brought; what is still there is read anew."""
        self._of_folder.clear()


ENVIRONMENTS = web.AppKey("environments", Environments)


def set_up(app: web.Application, services: Services) -> None:
    """Give the application its templates."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=present.filters(services.time_zone),
    )
    app[ENVIRONMENTS] = Environments(environment)
    versions: dict[str, str] = {}

    def static_url(name: str) -> str:
        if name not in versions:
            versions[name] = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
        return f"/static/{name}?v={versions[name]}"

    environment.globals["static_url"] = static_url
    environment.globals["version"] = services.version
    environment.globals["shortest_password"] = SHORTEST_PASSWORD


@web.middleware
async def count_waiting(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whoever lets people in sees on every page how many wait for it."""
    if USER in request and request[USER].role in HQ_ONLY and not request.path.startswith(("/api/", "/static/")):
        request[WAITING] = len(await request.app[SERVICES].store.users(status=UserStatus.PENDING))
    return await handler(request)


def render(request: web.Request, template: str, values: Mapping[str, Any], folder: Path | None = None) -> web.Response:
    """A page with what every page needs: who is signed in, the menu, the time zone, what the last form came to.

    ``folder`` has the templates of the plugin whose page it is.
    """
    services = request.app[SERVICES]
    user, notice = request.get(USER), waiting_notice(request)
    common = {
        "user": user,
        "notice": notice,
        "role_title": present.ROLE_TITLES[user.role] if user else "",
        "menu": _menu(request, services, user),
        "path": request.path_qs,
        "time_zone": str(services.time_zone),
        "zone_short": present.zone_short(services.clock(), services.time_zone),
    }
    page = request.app[ENVIRONMENTS].of(folder).get_template(template)
    response = web.Response(text=page.render({**common, **values}), content_type="text/html")
    if notice is not None:
        forget_notice(request, response)
    return response


def _menu(request: web.Request, services: Services, user: User | None) -> list[dict[str, Any]]:
    """The portal views that have one address for everybody and are open to this person, and our own pages."""
    if user is None:
        return []
    items = [
        (view.title, view.path)
        for view in services.plugins.contributions.portals.values()
        if view.in_menu and user.role in view.roles and "{" not in view.path
    ]
    if user.role in NETWORK_ROLES:
        items.insert(1, ("Leaderboard", "/hq/leaderboard"))
    if user.role in HQ_ONLY:
        items.append(("People", PEOPLE))
    if user.role in NETWORK_ROLES:
        items.append(("Alert rules", "/hq/alert-rules"))
        items.append(("Audit log", "/hq/audit/"))
    return [
        {
            "title": title,
            "url": url,
            "current": request.path == url,
            "waiting": request.get(WAITING, 0) if url == PEOPLE else 0,
        }
        for title, url in items
    ]
