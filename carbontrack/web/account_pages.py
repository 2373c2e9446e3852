"""The pages about one's own account: asking for one, a forgotten password, and all that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any

from aiohttp import web

from carbontrack.model import FACTORY_ROLES, Role
from carbontrack.passwords import token_hash
from carbontrack.web import people
from carbontrack.web.access import EVERYBODY, USER, allow, public
from carbontrack.web.auth import session_token
from carbontrack.web.errors import REFUSALS
from carbontrack.web.forms import Form, refused, typed, without_blanks
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import ROLE_TITLES, SCOPE_TEXTS
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import LANGUAGE_TITLES, date_text, gettext

ROLES_TO_ASK_FOR = (Role.FACTORY_CLERK, Role.FACTORY_MANAGER, Role.HQ_MANAGER, Role.AUDITOR)
TOKEN_DAYS = (30, 90, 365)
"""After how many days a token may end; or it does not end by itself."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get("/register", register_page)
    router.add_post("/register", register)
    router.add_get("/registered", registered_page)
    router.add_get("/forgot-password", forgot_page)
    router.add_post("/forgot-password", forgot)
    router.add_get("/reset-password", reset_page)
    router.add_post("/reset-password", reset)
    router.add_get("/account", account_page)
    router.add_post("/account", change_details)
    router.add_post("/account/password", change_password)
    router.add_post("/account/sessions/{id:\\d{1,9}}/end", end_session)
    router.add_post("/account/tokens", make_token)
    router.add_post("/account/tokens/{id:\\d{1,9}}/revoke", revoke_token)


def for_role(values: Mapping[str, Any], role: str) -> dict[str, Any]:
    """What a form with a role and a factory has sent; the factory counts for the roles that belong to one."""
    if values.get(role) in FACTORY_ROLES:
        return without_blanks(values, "factory_id")
    return {name: value for name, value in values.items() if name != "factory_id"}


# --- asking for an account


@public
async def register_page(request: web.Request) -> web.StreamResponse:
    """The form. Who is signed in already goes on to the first page."""
    if USER in request:
        raise web.HTTPSeeOther("/")
    return await _register_page(request, Form("register"))


async def _register_page(request: web.Request, form: Form) -> web.Response:
    values = {
        "form": form,
        "roles": [(role.value, gettext(ROLE_TITLES[role])) for role in ROLES_TO_ASK_FOR],
        "factories": [(str(it.id), it.name) for it in await request.app[SERVICES].store.factories() if it.is_active],
    }
    return form.answer(render(request, "register.html", values))


@public
async def register(request: web.Request) -> web.StreamResponse:
    """Keep the wish for an account, or show the form again with what was wrong."""
    values = await typed(request)
    try:
        await people.register(request, people.Registration.model_validate(for_role(values, "requested_role")))
    except REFUSALS as error:
        return await _register_page(request, refused("register", values, error))
    raise web.HTTPSeeOther("/registered")


@public
async def registered_page(request: web.Request) -> web.StreamResponse:
    """What happens after somebody has asked for an account."""
    return render(request, "registered.html", {})


# --- a forgotten password


@public
async def forgot_page(request: web.Request) -> web.StreamResponse:
    """The form for a code by mail; where no mail is sent, who else has codes."""
    return _forgot_page(request, Form("forgot"))


def _forgot_page(request: web.Request, form: Form) -> web.Response:
    sends_mail = request.app[SERVICES].mailer is not None
    return form.answer(render(request, "forgot_password.html", {"form": form, "sends_mail": sends_mail}))


@public
async def forgot(request: web.Request) -> web.StreamResponse:
    """Send a code, if there is such an account; the answer does not say."""
    values = await typed(request)
    try:
        told = await people.send_code(request, people.Forgotten.model_validate(values))
    except REFUSALS as error:
        return _forgot_page(request, refused("forgot", values, error))
    raise sent_on(request, "/reset-password", Notice(told))


@public
async def reset_page(request: web.Request) -> web.StreamResponse:
    """The form for a new password by a code."""
    return _reset_page(request, Form("reset"))


def _reset_page(request: web.Request, form: Form) -> web.Response:
    return form.answer(render(request, "reset_password.html", {"form": form}))


@public
async def reset(request: web.Request) -> web.StreamResponse:
    """Set a password by a code, or show the form again with what was wrong."""
    values = await typed(request)
    try:
        await people.reset_password(request, people.Reset.model_validate(values))
    except REFUSALS as error:
        return _reset_page(request, refused("reset", values, error))
    raise sent_on(request, "/login", Notice(gettext("Your new password is set. Sign in with it.")))


# --- the own account


@allow(EVERYBODY)
async def account_page(request: web.Request) -> web.StreamResponse:
    """Who one is here, where one is signed in, and by which tokens programs come in."""
    return await _account_page(request)


async def _account_page(request: web.Request, wrong: Form | None = None) -> web.Response:
    """The page; ``wrong`` is the one of its forms that was refused."""
    services, user = request.app[SERVICES], request[USER]
    now = services.clock()
    own = {name: getattr(user, name) for name in ("first_name", "last_name", "phone_number", "locale")}
    forms = {"details": Form("details", own), "password": Form("password"), "token": Form("token", {"days": "90"})}
    if wrong is not None:
        forms[wrong.name] = wrong
    values = {
        "forms_of": forms,
        "factory": next((it for it in await services.store.factories() if it.id == user.factory_id), None),
        "locales": list(LANGUAGE_TITLES.items()),
        "sessions": await services.store.sessions(user.id, now),
        "this_session": await services.store.session_id(token_hash(session_token(request) or "")),
        "tokens": await services.store.api_tokens(user.id),
        "now": now,
        "scopes": [(scope, gettext(text)) for scope, text in SCOPE_TEXTS.items()],
        "lifetimes": [(str(days), _lifetime(days, services)) for days in TOKEN_DAYS]
        + [("", gettext("It does not end"))],
    }
    page = render(request, "own_account.html", values)
    return wrong.answer(page) if wrong else page


def _lifetime(days: int, services: Services) -> str:
    return gettext("After %(count)s days, on %(day)s", count=days, day=date_text(_end_of(days, services).date()))


def _end_of(days: int, services: Services) -> datetime:
    """The end of the local day that many days from now."""
    zone = services.time_zone
    day = services.clock().astimezone(zone).date() + timedelta(days=days)
    return datetime.combine(day, time(23, 59, 59), zone)


@allow(EVERYBODY)
async def change_details(request: web.Request) -> web.StreamResponse:
    """Change the own name, telephone number or language."""
    values = await typed(request)
    try:
        await people.change_own(request, people.OwnChange.model_validate(values))
    except REFUSALS as error:
        return await _account_page(request, refused("details", values, error))
    raise sent_on(request, "/account", Notice(gettext("Your details are changed.")))


@allow(EVERYBODY)
async def change_password(request: web.Request) -> web.StreamResponse:
    """Change the own password."""
    values = await typed(request)
    try:
        await people.change_password(request, people.PasswordChange.model_validate(values))
    except REFUSALS as error:
        return await _account_page(request, refused("password", values, error))
    advice = gettext("You are signed out everywhere but here.")
    raise sent_on(request, "/account", Notice(gettext("Your password is changed."), advice=advice))


@allow(EVERYBODY)
async def end_session(request: web.Request) -> web.StreamResponse:
    """Sign out elsewhere."""
    await people.end_session(request)
    raise sent_on(request, "/account", Notice(gettext("You are signed out there.")))


@allow(EVERYBODY)
async def make_token(request: web.Request) -> web.StreamResponse:
    """Make a token for a program, and show it once."""
    values = await typed(request, "scopes")
    try:
        days = values.get("days", "")
        ends = {"expires_at": _end_of(int(days), request.app[SERVICES])} if days in map(str, TOKEN_DAYS) else {}
        given = {"name": values.get("name"), "scopes": values["scopes"], **ends}
        token, kept = await people.make_token(request, people.NewToken.model_validate(given))
    except REFUSALS as error:
        return await _account_page(request, refused("token", values, error))
    advice = gettext(
        "Copy it now into the program's settings: it is not shown again. The program sends it with every request, "
        "as Authorization: Bearer and this token."
    )
    raise sent_on(request, "/account", Notice(gettext("The token %(name)s is made.", name=kept.name), token, advice))


@allow(EVERYBODY)
async def revoke_token(request: web.Request) -> web.StreamResponse:
    """End a token, at once."""
    await people.revoke_token(request)
    text = gettext("The token is revoked. Whatever uses it is refused from now on.")
    raise sent_on(request, "/account", Notice(text))
