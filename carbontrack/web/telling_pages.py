"""The pages of who is told of alerts: duty lists, and the messages that went out, wait, or failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import Field

from carbontrack.model import FACTORY_ROLES, Factory, User, UserStatus
from carbontrack.web.access import EVERYBODY, NETWORK_ROLES, REGISTRY_ROLES, REPORTERS, USER, allow, may_see, scope
from carbontrack.web.api.telling import DutyList, make_duty, shown
from carbontrack.web.errors import REFUSALS, Problem
from carbontrack.web.forms import Form, refused, typed, without_blanks
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.present import ROLE_TITLES, SEVERITY_TITLES, severity_title
from carbontrack.web.rest import Id, Input, id_before, path_id, write_cursor
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import ALERTS, render
from carbontrack.words import N_, gettext

DUTY = f"{ALERTS}duty"
MESSAGES = f"{ALERTS}messages"
MESSAGES_SHOWN = 50
MOST_PLACES = 10
STATES = (("waiting", N_("Waiting")), ("sent", N_("Sent")), ("failed", N_("Failed")))


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(DUTY, duty_page)
    router.add_post(DUTY, set_duty)
    router.add_get(MESSAGES, messages_page)
    router.add_post(f"{MESSAGES}/{{id:\\d{{1,9}}}}/retry", retry)


# --- duty lists


class DutyQuery(Input):
    factory_id: Id | None = None
    """Whose list; without it headquarters', or one's own factory's."""


async def _whose(request: web.Request) -> Factory | None:
    """The factory whose list is asked for; None for headquarters'. Raises :class:`Problem` where there is none."""
    user = request[USER]
    chosen = DutyQuery.model_validate(without_blanks(request.query, *request.query)).factory_id
    wanted = chosen if chosen is not None else scope(user)
    if wanted is None:
        return None
    for factory in await request.app[SERVICES].store.factories():
        if factory.id == wanted and may_see(user, factory.id):
            return factory
    raise Problem(404, N_("There is no such factory for you."))


@allow(EVERYBODY)
async def duty_page(request: web.Request) -> web.StreamResponse:
    """A duty list, and the form that makes it."""
    return await _duty_page(request, await _whose(request))


async def _duty_page(request: web.Request, factory: Factory | None, wrong: Form | None = None) -> web.Response:
    services, user = request.app[SERVICES], request[USER]
    on_duty = await services.store.duty(factory.id if factory else None)
    people = await _candidates(request, factory, on_duty)
    places = {str(person.id): str(place) for place, person in enumerate(on_duty, 1)}
    quiet = services.reloader.config.alerting.quiet_severities
    values = {
        "whose": factory,
        "on_duty": on_duty,
        "people": people,
        "form": wrong or Form("duty", {f"place-{number}": place for number, place in places.items()}),
        "places": [(str(place), str(place)) for place in range(1, min(MOST_PLACES, len(people)) + 1)],
        "factories": [(str(it.id), it.name) for it in await services.store.factories() if may_see(user, it.id)],
        "filter": Form("filter", {"factory_id": str(factory.id) if factory else ""}),
        "is_network": user.role in NETWORK_ROLES,
        "may_change": user.role in REPORTERS,
        "role_titles": ROLE_TITLES,
        "channels": services.reloader.config.notifications,
        "policy": services.reloader.config.alerting,
        "severity_words": {name: severity_title(name).lower() for name in SEVERITY_TITLES},
        "quiet_severities": _one_of([severity_title(name).lower() for name in quiet]),
    }
    page = render(request, "duty.html", values)
    return wrong.answer(page) if wrong else page


def _one_of(words: Sequence[str]) -> str:
    """Words as an alternative: ``note or warning``."""
    *first, last = words or ("",)
    return gettext("%(first)s or %(last)s", first=", ".join(first), last=last) if first else last


async def _candidates(request: web.Request, factory: Factory | None, on_duty: list[User]) -> list[User]:
    """Who can be on the list: the factory's own people and, for headquarters, its own; and who is on it already."""
    found = await request.app[SERVICES].store.users(status=UserStatus.ACTIVE)
    own = [it for it in found if it.factory_id == (factory.id if factory else None)]
    if factory is not None and request[USER].role in NETWORK_ROLES:
        own += [it for it in found if it.role not in FACTORY_ROLES]
    known = {it.id for it in own}
    return sorted([*own, *(it for it in on_duty if it.id not in known)], key=lambda it: it.email)


@allow(REPORTERS)
async def set_duty(request: web.Request) -> web.StreamResponse:
    """Make the list of the places that were chosen; two of one place come in the order of their addresses."""
    factory, values = await _whose(request), await typed(request)
    chosen = [
        (int(place), number)
        for name, place in values.items()
        if name.startswith("place-") and (number := name.removeprefix("place-")).isdecimal() and place.isdecimal()
    ]
    try:
        given = DutyList.model_validate({"user_ids": [int(number) for _, number in sorted(chosen)]})
        await make_duty(request, factory.id if factory else None, given)
    except REFUSALS as error:
        return await _duty_page(request, factory, refused("duty", values, error))
    where = f"{DUTY}?factory_id={factory.id}" if factory else DUTY
    raise sent_on(request, where, Notice(gettext("The duty list is kept.")))


# --- messages


class PageQuery(Input):
    """What the page shows."""

    state: Literal["waiting", "sent", "failed"] | None = None
    channel: str | None = Field(None, max_length=80)
    cursor: str | None = Field(None, max_length=400)


@allow(EVERYBODY)
async def messages_page(request: web.Request) -> web.StreamResponse:
    """The messages that people were sent, the newest first."""
    services, user = request.app[SERVICES], request[USER]
    chosen = without_blanks(request.query, *request.query)
    query = PageQuery.model_validate(chosen)
    found = await services.store.messages(
        state=query.state,
        channel=query.channel,
        factory_id=scope(user),
        before_id=id_before(query.cursor),
        limit=MESSAGES_SHOWN + 1,
    )
    page = found[:MESSAGES_SHOWN]
    last = write_cursor([page[-1].id]) if len(found) > len(page) else None
    values: dict[str, Any] = {
        "messages": [shown(message) for message in page],
        "filter": Form("filter", chosen),
        "is_filtered": bool(chosen.keys() - {"cursor"}),
        "states": [(state, gettext(title)) for state, title in STATES],
        "channels": [(entry.name, entry.name) for entry in services.reloader.config.notifications],
        "may_retry": user.role in REGISTRY_ROLES,
        "next": f"?{urlencode({**chosen, 'cursor': last})}" if last else "",
    }
    return render(request, "messages.html", values)


@allow(REGISTRY_ROLES)
async def retry(request: web.Request) -> web.StreamResponse:
    """Try a message again at once."""
    services = request.app[SERVICES]
    try:
        await services.store.retry_message(path_id(request), services.clock())
    except REFUSALS as error:
        text = gettext("It cannot be tried again: %(error)s.", error=error)
        raise sent_on(request, MESSAGES, Notice(text, is_bad=True)) from None
    raise sent_on(request, MESSAGES, Notice(gettext("It is tried again now.")))
