"""Who is told of alerts: duty lists, and the messages that went out, or wait."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import Field

from carbontrack.model import FACTORY_ROLES, OutboxMessage, Role, Scope, User
from carbontrack.store import MOST_ON_DUTY, OutboxState, RegistryError
from carbontrack.web.access import EVERYBODY, REGISTRY_ROLES, REPORTERS, USER, may_see, origin
from carbontrack.web.api.entries import visible
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import (
    MOST_RESULTS,
    WRONG,
    Id,
    Input,
    Output,
    Page,
    Paged,
    id_before,
    path_id,
    write_cursor,
)
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_get("/api/duty/", duty)
    app.router.add_put("/api/duty/", set_duty)
    app.router.add_get("/api/notifications/", notifications)
    app.router.add_post("/api/notifications/{id:\\d{1,9}}/retry/", retry)


class OnDuty(Output):
    """Somebody on a duty list."""

    user_id: int
    email: str
    name: str
    """First and last name."""
    role: Role
    has_phone: bool
    """Whether a text message can reach this person."""


class Duty(Output):
    """A duty list: who is told first, and who next."""

    factory_id: int | None
    """Null for the list of headquarters."""
    people: list[OnDuty]
    """In their order. Nobody: the managers are told, by e-mail address."""


class DutyQuery(Input):
    factory_id: Id | None = None
    """A factory's list; without it that of headquarters, or of one's own factory."""


class DutyList(Input):
    user_ids: list[Id] = Field(max_length=MOST_ON_DUTY, examples=[[1]])
    """Who is on duty, in order; an empty list takes the list away."""


class NotificationQuery(Paged):
    limit: int = Field(100, ge=1, le=MOST_RESULTS)
    """The most rows of one answer."""
    factory_id: Id | None = None
    """Only what tells of this factory and of nothing else."""
    state: OutboxState | None = None
    channel: str | None = Field(None, max_length=80)
    """A notification's name in the configuration."""


class NotificationOut(Output):
    """A message that somebody is sent, or was."""

    id: int
    channel: str
    """The notification's name in the configuration."""
    recipient: str | None
    """An e-mail address; null where the channel tells once for all."""
    event: str
    """The most important of what it tells: `raised`, `escalated`, `repeated`, `cleared` or `acknowledged`."""
    subject: str
    """Its first line, in the recipient's language."""
    alerts: int
    """Of how many alerts it tells."""
    state: OutboxState
    """`waiting` for its next attempt, `sent`, or `failed` for good."""
    attempts: int
    """How often it was tried."""
    next_attempt_at: datetime
    last_error: str
    """Why the last attempt failed."""
    created_at: datetime
    done_at: datetime | None


@operation(Tag.ALERTS, EVERYBODY, problems=(404,))
async def duty(request: web.Request, query: DutyQuery) -> Duty:
    """Who is told of alerts first, and who next."""
    factory_id = visible(request[USER], query.factory_id)
    await _check_factory(request, factory_id)
    return _duty(factory_id, await request.app[SERVICES].store.duty(factory_id))


@operation(Tag.ALERTS, REPORTERS, problems=(404,))
async def set_duty(request: web.Request, query: DutyQuery, body: DutyList) -> Duty:
    """Make a duty list: managers of a factory that of their own, of their own people; headquarters every one."""
    factory_id = visible(request[USER], query.factory_id)
    await _check_factory(request, factory_id)
    return _duty(factory_id, await make_duty(request, factory_id, body))


async def make_duty(request: web.Request, factory_id: int | None, body: DutyList) -> list[User]:
    """Make the duty list of a factory that the caller may see; the same for the API and for pages."""
    services, user = request.app[SERVICES], request[USER]
    if user.role in FACTORY_ROLES:
        own = {person.id for person in await services.store.users(factory_id=factory_id)}
        # Whom headquarters has put on the list may stay on it.
        own |= {person.id for person in await services.store.duty(factory_id)}
        if not own.issuperset(body.user_ids):
            raise Problem(422, WRONG, (("user_ids", "there is no such person at your factory"),))
    try:
        return await services.store.set_duty(factory_id, body.user_ids, by=origin(request))
    except RegistryError as error:
        raise Problem(422, WRONG, ((error.field, str(error)),)) from None


@operation(Tag.ALERTS, EVERYBODY, problems=(404,))
async def notifications(request: web.Request, query: NotificationQuery) -> Page[NotificationOut]:
    """What people are told of alerts, and were: newest first. Factories see what tells of them alone."""
    found = await request.app[SERVICES].store.messages(
        state=query.state,
        channel=query.channel,
        factory_id=visible(request[USER], query.factory_id),
        before_id=id_before(query.cursor),
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    return Page([shown(message) for message in page], write_cursor([page[-1].id]) if len(found) > query.limit else None)


@operation(Tag.ALERTS, REGISTRY_ROLES, scope=Scope.REGISTRY, problems=(404, 409))
async def retry(request: web.Request) -> NotificationOut:
    """Try a message again at once, that failed or waits for its next attempt. One that was sent is 409."""
    services = request.app[SERVICES]
    if await services.store.message(path_id(request)) is None:
        raise Problem(404, "There is no such message.")
    try:
        return shown(await services.store.retry_message(path_id(request), services.clock()))
    except RegistryError as error:
        raise Problem(409, f"It cannot be tried again: {error}.") from None


async def _check_factory(request: web.Request, factory_id: int | None) -> None:
    """Raise :class:`Problem` for a factory that is not there."""
    if factory_id is None:
        return
    known = {factory.id for factory in await request.app[SERVICES].store.factories()}
    if factory_id not in known or not may_see(request[USER], factory_id):
        raise Problem(404, "There is no such factory for you.")


def _duty(factory_id: int | None, people: list[User]) -> Duty:
    return Duty(
        factory_id=factory_id,
        people=[
            OnDuty(
                user_id=user.id,
                email=user.email,
                name=f"{user.first_name} {user.last_name}".strip(),
                role=user.role,
                has_phone=bool(user.phone_number),
            )
            for user in people
        ],
    )


def shown(message: OutboxMessage) -> NotificationOut:
    """A message as the world sees it."""
    told: dict[str, Any] = json.loads(message.content)
    return NotificationOut(
        id=message.id,
        channel=message.channel,
        recipient=message.recipient.email if message.recipient else None,
        event=told["event"],
        subject=told["subject"],
        alerts=told["count"],
        state=message.state,
        attempts=message.attempts,
        next_attempt_at=message.next_attempt_at,
        last_error=message.last_error,
        created_at=message.created_at,
        done_at=message.done_at,
    )
