"""The pages: signing in and out, and what the buttons and charts of portal views ask for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from carbontrack.model import LOCALES, AuditAction, User
from carbontrack.passwords import token_hash
from carbontrack.plugins import RenderError
from carbontrack.reports import ReportTooLarge, gather
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, REGISTRY_ROLES, TOKEN, USER, allow, origin, public
from carbontrack.web.api.plugins import reload_for
from carbontrack.web.attempts import TooManyAttempts
from carbontrack.web.auth import AUTHENTICATOR, delete_cookie, is_secure, session_token, set_cookie
from carbontrack.web.errors import Problem
from carbontrack.web.forms import posted
from carbontrack.web.ledger_pages import page_factory
from carbontrack.web.rest import day_in
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import first_network_page, render
from carbontrack.words import LANGUAGE_COOKIE, RATE_COOKIE, RATES, gettext, in_language_of, reader

log = structlog.get_logger(__name__)

YEAR_S = 31_536_000


def add_routes(app: web.Application) -> None:
    """Add the pages to the application."""
    app.router.add_get("/", home, name="home")
    app.router.add_get("/login", login_page, name="login")
    app.router.add_post("/login", login)
    app.router.add_post("/logout", logout)
    app.router.add_post("/preferences", prefer)
    app.router.add_get("/factory/{slug}/report", report)
    app.router.add_post("/hq/unpark/", unpark)
    app.router.add_post("/hq/plugins/reload", reload_plugins)


# --- signing in and out


@public
async def home(request: web.Request) -> web.StreamResponse:
    """Everybody's own first page."""
    user = request.get(USER)
    raise web.HTTPSeeOther(await _first_page(request, user) if user else "/login")


async def _first_page(request: web.Request, user: User) -> str:
    if user.role in NETWORK_ROLES:
        return first_network_page(request)
    for factory in await request.app[SERVICES].store.factories():
        if factory.id == user.factory_id:
            return f"/factory/{factory.slug}/"
    raise Problem(403, gettext("Your account belongs to no factory. Ask headquarters to assign one."))


@public
async def login_page(request: web.Request) -> web.StreamResponse:
    """The form. Who is signed in already goes on to the first page."""
    if USER in request:
        raise web.HTTPSeeOther("/")
    return _login_form(request, next_url=_local(request.query.get("next", "")))


@public
async def login(request: web.Request) -> web.StreamResponse:
    """Begin a session from the form, or show it again with what was wrong."""
    services = request.app[SERVICES]
    form = await posted(request)
    email, password, next_url = (str(form.get(name, "")) for name in ("email", "password", "next"))
    next_url = _local(next_url)
    try:
        session = await request.app[AUTHENTICATOR].sign_in(request, email, password)
    except TooManyAttempts as error:
        answer = _login_form(request, email=email, next_url=next_url, error=str(error), status=429)
        answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer
    if session is None:
        error_text = gettext("E-mail address and password do not belong together. Check both and try again.")
        return _login_form(request, email=email, next_url=next_url, error=error_text, status=401)
    response = web.HTTPSeeOther(next_url or "/")
    set_cookie(request, response, session, services)
    language = in_language_of(session.user, reader()).language
    if language != reader().language:  # for pages that do not know who asks: after signing out, and of errors
        _remember(request, response, LANGUAGE_COOKIE, language)
    raise response


def _login_form(
    request: web.Request, *, email: str = "", next_url: str = "", error: str = "", status: int = 200
) -> web.Response:
    accounts = request.app[SERVICES].demo_accounts
    values = {"error": error, "email": email, "next": next_url, "demo_accounts": accounts}
    response = render(request, "login.html", values)
    response.set_status(status)
    return response


def _local(url: str) -> str:
    """The address if it is one of ours; the sign-in page must not send people to other sites."""
    is_ours = url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable()
    return url if is_ours else ""


@public
async def logout(request: web.Request) -> web.StreamResponse:
    """End the session."""
    token = session_token(request)
    if token:
        await request.app[SERVICES].store.delete_session(token_hash(token), by=origin(request))
    response = web.HTTPSeeOther("/login")
    delete_cookie(request, response)
    raise response


@public
async def prefer(request: web.Request) -> web.StreamResponse:
    """Write in another language or unit from now on: the language goes with the account, where there is one."""
    form = await posted(request)
    language, unit = (str(form.get(name, "")) for name in ("language", "rate_unit"))
    page = urlsplit(request.headers.get("Referer", ""))
    response = web.HTTPSeeOther(_local(f"{page.path}?{page.query}" if page.query else page.path) or "/")
    if language in LOCALES:
        if USER in request and TOKEN not in request:
            await request.app[SERVICES].store.change_user(request[USER].id, locale=language, by=origin(request))
        _remember(request, response, LANGUAGE_COOKIE, language)
    if unit in RATES:
        _remember(request, response, RATE_COOKIE, unit)
    raise response


def _remember(request: web.Request, response: web.StreamResponse, name: str, value: str) -> None:
    secure = is_secure(request)
    response.set_cookie(name, value, path="/", max_age=YEAR_S, secure=secure, httponly=True, samesite="Lax")


# --- what the pages ask for


@allow(EVERYBODY)
async def report(request: web.Request) -> web.StreamResponse:
    """One local day of a factory as a file, in the format that was chosen."""
    services = request.app[SERVICES]
    factory = await page_factory(request)
    name = request.query.get("format", "csv")
    formats = services.plugins.contributions.report_formats
    chosen = formats.get(name)
    if chosen is None:
        known = ", ".join(sorted(formats))
        raise web.HTTPBadRequest(
            text=gettext("There is no format %(name)s. There are: %(names)s.", name=repr(name), names=known)
        )
    day = _day(request.query, services)
    start, end = (datetime.combine(at, time(), services.time_zone) for at in (day, day + timedelta(days=1)))
    try:
        gathered = await gather(services.store, factory, start, end)
    except ReportTooLarge as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    try:
        body = await services.plugins.render(name, gathered, services.report_limits)
    except RenderError as error:
        log.warning("report failed", format=name, error=str(error))
        text = gettext("The report format %(name)s failed: %(error)s", name=name, error=error)
        raise web.HTTPBadGateway(text=text) from error
    file_name = f"{factory.slug}-{day.isoformat()}.{chosen.extension}"
    return web.Response(
        body=body,
        headers={"Content-Type": chosen.media_type, "Content-Disposition": f'attachment; filename="{file_name}"'},
    )


def _day(query: Mapping[str, str], services: Services) -> date:
    text = query.get("day", "")
    if not text:
        return services.clock().astimezone(services.time_zone).date()
    try:
        return day_in(text)
    except ValueError:
        raise web.HTTPBadRequest(text=gettext("day must be a date such as 2026-03-01.")) from None


@allow(REGISTRY_ROLES)
async def unpark(request: web.Request) -> web.StreamResponse:
    """Take a parked device back to work."""
    services, form = request.app[SERVICES], await posted(request)
    device = services.fleet.device(str(form.get("device_id", "")))
    if device is not None:
        await services.store.note(
            origin(request), AuditAction.DEVICE_UNPARKED, "device", device.device_id, device.factory_id
        )
        await services.whole_fleet.unpark(device.device_id)
    raise web.HTTPSeeOther("/hq/")


@allow(REGISTRY_ROLES)
async def reload_plugins(request: web.Request) -> web.StreamResponse:
    """Reload the configuration, and a plugin in any case where one is named; the page of plugins shows the result."""
    form = await posted(request)
    await reload_for(request, str(form.get("name", "")))
    raise web.HTTPSeeOther("/hq/plugins/#last-reload")
