"""jinja2 for the portals: the environment, and what every page is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

from carbontrack.health import FLAG_TEXTS
from carbontrack.model import User, UserStatus
from carbontrack.passwords import SHORTEST_PASSWORD
from carbontrack.store import newest_migration
from carbontrack.web import present, static_files
from carbontrack.web.access import HQ_ONLY, NETWORK_ROLES, REGISTRY_ROLES, USER, Handler, scope
from carbontrack.web.notices import forget_notice, waiting_notice
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import (
    LANGUAGE_COOKIE,
    LANGUAGE_TITLES,
    N_,
    RATE_COOKIE,
    RATES,
    gettext,
    plural_form,
    preferred,
    reader,
    script_words,
    write_for,
)

HERE = Path(__file__).parent
PEOPLE = "/hq/people/"
FACTORIES = "/hq/factories/"
DEVICES = "/hq/devices"
FIRMWARE = "/hq/firmware/"
ALERTS = "/alerts/"
NETWORK = "/hq/"
MAP = "/hq/map"
VIEW_COOKIE = "network_view"
"""Whether the map or the table of the network is shown first, as somebody has looked at it last."""
NETWORK_PAGES = frozenset(
    {MAP, "/hq/leaderboard", "/hq/programme", "/hq/compare", "/hq/regions", "/hq/calendar", "/hq/quality"}
)
"""What belongs to the network: these pages stand together as tabs under one entry of the menu."""
WAITING: web.RequestKey[Mapping[str, int]] = web.RequestKey("waiting", Mapping)
"""How much waits for whoever asks, by the page where it does."""
NOW_AND_THEN = frozenset({"/hq/plugins/", FACTORIES, PEOPLE, FIRMWARE, "/hq/alert-rules", "/hq/audit/"})
"""What is needed now and then: it stands together under one heading of the menu."""
WAITING_TEXTS: Mapping[str, str] = {PEOPLE: N_("waiting for approval"), ALERTS: N_("not acknowledged")}


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
        extensions=["jinja2.ext.i18n"],
        filters=present.filters(services.time_zone),
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(gettext, plural_form, newstyle=True)  # type: ignore[attr-defined]  # by the extension
    environment.globals["reader"] = reader
    environment.filters["alert_title"] = lambda alert: services.rules.words(alert.rule, reader().language).title
    app[ENVIRONMENTS] = Environments(environment)
    environment.globals["static_url"] = static_files.url
    environment.globals["module"] = static_files.module
    environment.globals["version"] = services.version
    environment.globals["schema"] = newest_migration()
    environment.globals["shortest_password"] = SHORTEST_PASSWORD


@web.middleware
async def write_in_their_language(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write as the browser says and its cookies; whoever has signed in has a language of their own."""
    language, unit = request.cookies.get(LANGUAGE_COOKIE), request.cookies.get(RATE_COOKIE)
    write_for(preferred(language, request.headers.get("Accept-Language", ""), unit))
    return await handler(request)


@web.middleware
async def count_waiting(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everybody sees on every page how many alerts wait, and whoever lets people in how many of those do."""
    if USER in request and not request.path.startswith(("/api/", "/static/")):
        store, user = request.app[SERVICES].store, request[USER]
        waiting = {ALERTS: await store.unseen_alerts(scope(user))}
        if user.role in HQ_ONLY:
            waiting[PEOPLE] = len(await store.users(status=UserStatus.PENDING))
        request[WAITING] = waiting
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
        "role_title": gettext(present.ROLE_TITLES[user.role]) if user else "",
        "script_words": _script_words(services),
        "menu": _menu(request, services, user),
        "sees_network": user is not None and user.role in NETWORK_ROLES,
        "path": request.path_qs,
        "languages": LANGUAGE_TITLES,
        "rate_units": list(RATES),
        "time_zone": str(services.time_zone),
        "zone_short": present.zone_short(services.clock(), services.time_zone),
    }
    page = request.app[ENVIRONMENTS].of(folder).get_template(template)
    response = web.Response(text=page.render({**common, **values}), content_type="text/html")
    if notice is not None:
        forget_notice(request, response)
    return response


def _script_words(services: Services) -> Mapping[str, str | Sequence[str]]:
    """The scripts' words, and with them those of the live stream, which is in English: all hear the same."""
    words = script_words()
    sent = (*present.STATE_TITLES.values(), *FLAG_TEXTS.values())
    language, alerts = reader().language, services.rules.instances
    titles = {alert.words("en").title: alert.words(language).title for alert in alerts} if words else {}
    return words and {**words, **{text: gettext(text) for text in sent}, **titles}


def first_network_page(request: web.Request) -> str:
    """The map or the table of the network, whichever somebody has looked at last."""
    return MAP if request.cookies.get(VIEW_COOKIE) == "map" else NETWORK


def _is_current(path: str, url: str) -> bool:
    if url == NETWORK:
        return path == url or path in NETWORK_PAGES
    return path == url or (url in NOW_AND_THEN and path.startswith(url))


def _menu(request: web.Request, services: Services, user: User | None) -> list[dict[str, Any]]:
    """The portal views that have one address for everybody and are open to this person, and our own pages."""
    if user is None:
        return []
    items = [
        (view.title, view.path)
        for view in services.plugins.contributions.portals.values()
        if view.in_menu and user.role in view.roles and "{" not in view.path
    ]
    items.insert(1, (N_("Alerts"), ALERTS))
    if user.role in NETWORK_ROLES:
        items.insert(2, (N_("Devices"), DEVICES))
    items.append((N_("Reports"), "/reports/"))
    if user.role in REGISTRY_ROLES:
        items.append((N_("Factories"), FACTORIES))
    if user.role in HQ_ONLY:
        items.append((N_("People"), PEOPLE))
    if user.role in NETWORK_ROLES:
        items.append((N_("Firmware"), FIRMWARE))
        items.append((N_("Alert rules"), "/hq/alert-rules"))
        items.append((N_("Audit log"), "/hq/audit/"))
    return [
        {
            "title": gettext(title),
            "url": first_network_page(request) if url == NETWORK else url,
            "is_rare": url in NOW_AND_THEN,
            "current": _is_current(request.path, url),
            "waiting": request.get(WAITING, {}).get(url, 0),
            "waiting_text": gettext(WAITING_TEXTS[url]) if url in WAITING_TEXTS else "",
        }
        for title, url in items
    ]
