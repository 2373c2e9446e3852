"""The pages by which headquarters lets people in, changes what they may do, and shuts them out."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from aiohttp import web

from carbontrack.model import Factory, Role, User, UserStatus
from carbontrack.web import people
from carbontrack.web.access import HQ_ONLY, USER, allow
from carbontrack.web.account_pages import for_role
from carbontrack.web.api.people import UserQuery
from carbontrack.web.errors import REFUSALS
from carbontrack.web.forms import Form, refused, typed, without_blanks
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import ROLE_TITLES, STATUS_TITLES, filters, person_name
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import PEOPLE, render
from carbontrack.words import N_, gettext

COUNTED = {
    UserStatus.PENDING: N_("%(count)s waiting"),
    UserStatus.ACTIVE: N_("%(count)s may sign in"),
    UserStatus.DISABLED: N_("%(count)s disabled"),
}
PERSON = PEOPLE + "{id:\\d{1,9}}/"


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(PEOPLE, people_page)
    router.add_get(f"{PEOPLE}new", new_page)
    router.add_post(f"{PEOPLE}new", add)
    router.add_get(PERSON, person_page)
    router.add_post(PERSON, change)
    router.add_post(f"{PERSON}approve", approve)
    router.add_post(f"{PERSON}refuse", refuse)
    router.add_post(f"{PERSON}disable", disable)
    router.add_post(f"{PERSON}enable", enable)
    router.add_post(f"{PERSON}code", make_code)
    router.add_post(f"{PERSON}sign-out", sign_out)


async def _choices(request: web.Request) -> dict[str, Any]:
    """What the forms of these pages have to choose from, and the names of all factories."""
    names = {
        factory.id: factory.name if factory.is_active else gettext("%(factory)s (closed)", factory=factory.name)
        for factory in await request.app[SERVICES].store.factories()
    }
    return {
        "roles": [(role.value, gettext(title)) for role, title in ROLE_TITLES.items()],
        "factories": [(str(number), name) for number, name in names.items()],
        "factory_names": names,
        "role_titles": {role: gettext(title) for role, title in ROLE_TITLES.items()},
        "status_titles": {status: gettext(title) for status, title in STATUS_TITLES.items()},
    }


def _form_of(user: User) -> Form:
    names = ("role", "factory_id", "first_name", "last_name", "phone_number")
    return Form(f"person-{user.id}", {name: getattr(user, name) for name in names})


# --- everybody


@allow(HQ_ONLY)
async def people_page(request: web.Request) -> web.StreamResponse:
    """Who waits for approval, and everybody else."""
    return await _people_page(request)


async def _people_page(request: web.Request, wrong: Form | None = None) -> web.Response:
    """The page; ``wrong`` is the approval that was refused."""
    store, chosen = request.app[SERVICES].store, without_blanks(request.query, *request.query)
    query = UserQuery.model_validate(chosen)
    everybody = await store.users()
    counts = Counter(user.status for user in everybody)
    values = await _choices(request) | {
        "pending": [
            (user, wrong if wrong and wrong.name == _form_of(user).name else _form_of(user))
            for user in sorted(everybody, key=lambda user: user.created_at)
            if user.status is UserStatus.PENDING
        ],
        "found": await store.users(status=query.status, role=query.role, factory_id=query.factory_id),
        "counts": [gettext(text, count=counts[status]) for status, text in COUNTED.items() if counts[status]],
        "filter": Form("filter", chosen),
        "is_filtered": bool(chosen),
        "statuses": [(status.value, gettext(title)) for status, title in STATUS_TITLES.items()],
    }
    page = render(request, "people.html", values)
    return wrong.answer(page) if wrong else page


@allow(HQ_ONLY)
async def approve(request: web.Request) -> web.StreamResponse:
    """Let somebody in who has asked for it, as what was asked for or as something else."""
    values, before = await typed(request), await people.person(request)
    try:
        given = people.UserChange.model_validate(for_role(values, "role") | {"status": UserStatus.ACTIVE})
        user = await people.change_person(request, given)
    except REFUSALS as error:
        return await _people_page(request, refused(_form_of(before).name, values, error))
    raise sent_on(
        request,
        PEOPLE,
        Notice(
            gettext(
                "%(name)s may sign in now, as %(place)s.", name=person_name(user), place=await _place(request, user)
            ),
            advice=gettext("Tell them: they are not told by Carbon Track. They have chosen their password already."),
        ),
    )


async def _place(request: web.Request, user: User) -> str:
    """What somebody is, and where: ``Factory clerk, Kangaita``."""
    factory: Factory | None = None
    if user.factory_id is not None:
        factory = next((it for it in await request.app[SERVICES].store.factories() if it.id == user.factory_id), None)
    where = factory.name if factory else gettext("all factories")
    return f"{gettext(ROLE_TITLES[user.role])}, {where}"


@allow(HQ_ONLY)
async def refuse(request: web.Request) -> web.StreamResponse:
    """Turn somebody away who has asked for an account."""
    user = await people.refuse_person(request)
    text = gettext("%(email)s is refused and forgotten. The same address may ask again.", email=user.email)
    raise sent_on(request, PEOPLE, Notice(text))


# --- somebody new


@allow(HQ_ONLY)
async def new_page(request: web.Request) -> web.StreamResponse:
    """The form to let somebody in who has not asked."""
    return await _new_page(request, Form("new", {"role": Role.FACTORY_CLERK.value}))


async def _new_page(request: web.Request, form: Form) -> web.Response:
    return form.answer(render(request, "person_new.html", await _choices(request) | {"form": form}))


@allow(HQ_ONLY)
async def add(request: web.Request) -> web.StreamResponse:
    """Let somebody in; the next page has the code by which the person chooses a password."""
    values = await typed(request)
    try:
        added, code, expires_at = await people.add_person(
            request, people.NewUser.model_validate(for_role(values, "role"))
        )
    except REFUSALS as error:
        return await _new_page(request, refused("new", values, error))
    text = gettext("%(name)s may sign in, after choosing a password by this code:", name=person_name(added))
    raise sent_on(request, _url(added), _code_notice(request, added, text, code, expires_at))


def _url(user: User) -> str:
    return f"{PEOPLE}{user.id}/"


def _code_notice(request: web.Request, user: User, text: str, code: str, expires_at: datetime) -> Notice:
    services = request.app[SERVICES]
    where = services.public_url or f"{request.scheme}://{request.host}"
    page = f"{where}/reset-password"
    until = filters(services.time_zone)["local_datetime"](expires_at)
    advice = gettext(
        "Hand it over in person or by telephone. It is shown this once, and good once, until %(until)s. They open "
        "%(page)s and enter their address %(email)s, this code, and a password of their own.",
        until=until,
        page=page,
        email=user.email,
    )
    return Notice(text, code, advice)


# --- one person


@allow(HQ_ONLY)
async def person_page(request: web.Request) -> web.StreamResponse:
    """One person, and all that headquarters may do about them."""
    user = await people.person(request)
    return await _person_page(request, user, _form_of(user))


async def _person_page(request: web.Request, user: User, form: Form) -> web.Response:
    services = request.app[SERVICES]
    sessions = await services.store.sessions(user.id, services.clock())
    values = await _choices(request) | {
        "person": user,
        "form": form,
        "is_self": user.id == request[USER].id,
        "sessions": sessions,
        "tokens": len(await services.store.api_tokens(user.id)),
    }
    return form.answer(render(request, "person.html", values))


@allow(HQ_ONLY)
async def change(request: web.Request) -> web.StreamResponse:
    """Change somebody's role, factory, name or telephone number."""
    values, before = await typed(request), await people.person(request)
    try:
        user = await people.change_person(request, people.UserChange.model_validate(for_role(values, "role")))
    except REFUSALS as error:
        return await _person_page(request, before, refused(_form_of(before).name, values, error))
    text = gettext("Kept: %(name)s, %(place)s.", name=person_name(user), place=await _place(request, user))
    raise sent_on(request, _url(user), Notice(text))


@allow(HQ_ONLY)
async def disable(request: web.Request) -> web.StreamResponse:
    """Shut somebody out, at once and everywhere."""
    text = N_("%(name)s is disabled: signed out everywhere, and programs' tokens are refused.")
    return await _set_status(request, UserStatus.DISABLED, text)


@allow(HQ_ONLY)
async def enable(request: web.Request) -> web.StreamResponse:
    """Let somebody in again."""
    return await _set_status(request, UserStatus.ACTIVE, N_("%(name)s may sign in again."))


async def _set_status(request: web.Request, status: UserStatus, text: str) -> web.StreamResponse:
    before = await people.person(request)
    try:
        user = await people.change_person(request, people.UserChange.model_validate({"status": status}))
    except REFUSALS as error:
        form = refused(_form_of(before).name, dict(_form_of(before).values), error)
        return await _person_page(request, before, form)
    raise sent_on(request, _url(user), Notice(gettext(text, name=person_name(user))))


@allow(HQ_ONLY)
async def make_code(request: web.Request) -> web.StreamResponse:
    """A one-time code for somebody who cannot sign in, to hand over."""
    user, code, expires_at = await people.make_code(request)
    text = gettext("%(name)s chooses a new password by this code:", name=person_name(user))
    raise sent_on(request, _url(user), _code_notice(request, user, text, code, expires_at))


@allow(HQ_ONLY)
async def sign_out(request: web.Request) -> web.StreamResponse:
    """Sign somebody out everywhere."""
    user = await people.sign_out_person(request)
    text = gettext("%(name)s is signed out everywhere. Tokens of programs go on.", name=person_name(user))
    raise sent_on(request, _url(user), Notice(text))
