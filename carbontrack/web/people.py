"""People and their accounts: what they may ask for, with the same checks for the API and for the forms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, StringConstraints

from carbontrack.model import ApiToken, Role, Scope, User, UserStatus
from carbontrack.passwords import WeakPassword
from carbontrack.web.access import USER, origin
from carbontrack.web.auth import AUTHENTICATOR
from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Id, Input, Shown, path_id, zoned
from carbontrack.web.services import SERVICES
from carbontrack.words import gettext

Email = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^@\s]+@[^@\s]+$", max_length=200), Shown]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80), Shown]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^(\+?[0-9 ()-]{6,30})?$")]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


@contextmanager
def _choosing(field: str) -> Iterator[None]:
    """Whoever chooses a bad password is told why, at the field."""
    try:
        yield
    except WeakPassword as error:
        raise Problem(422, WRONG, ((field, str(error)),)) from None


# --- without an account, or without its password


class Registration(Input):
    email: Email = Field(examples=["wanjiru@example.org"])
    password: Password = Field(examples=["correct horse battery staple"])
    first_name: Name = Field(examples=["Wanjiru"])
    last_name: Name = Field(examples=["Kamau"])
    phone_number: Phone = ""
    requested_role: Literal[Role.HQ_MANAGER, Role.FACTORY_MANAGER, Role.FACTORY_CLERK, Role.AUDITOR] = Field(
        examples=["factory_clerk"]
    )
    """Headquarters decides on it."""
    factory_id: Id | None = Field(None, examples=[1])
    """For a factory's manager or clerk."""


async def register(request: web.Request, given: Registration) -> User:
    """Keep somebody's wish for an account, for headquarters to decide on."""
    with _choosing("password"):
        return await request.app[AUTHENTICATOR].register(
            email=given.email,
            password=given.password,
            role=given.requested_role,
            factory_id=given.factory_id,
            first_name=given.first_name,
            last_name=given.last_name,
            phone_number=given.phone_number,
            address=request.remote or "",
        )


class Forgotten(Input):
    email: str = Field(max_length=254, examples=["chief@example.org"])


async def send_code(request: web.Request, given: Forgotten) -> str:
    """Mail a one-time code to whoever has this address. What to tell is the same whether or not somebody has."""
    await request.app[AUTHENTICATOR].send_code(given.email, request.remote or "")
    return gettext("If this address has an account, a code is on its way. It is good for 15 minutes.")


class Reset(Input):
    email: str = Field(max_length=254, examples=["chief@example.org"])
    code: str = Field(min_length=1, max_length=40, examples=["K7QM-2FXA-9TLB"])
    """Of the mail, or as headquarters handed it over; with or without hyphens."""
    new_password: Password = Field(examples=["correct horse battery staple"])
    """See docs/security.md for what it must be."""


async def reset_password(request: web.Request, given: Reset) -> User:
    """Set a password by a one-time code."""
    with _choosing("new_password"):
        user = await request.app[AUTHENTICATOR].reset_password(
            given.email, given.code, given.new_password, request.remote or ""
        )
    if user is None:
        why = gettext("The code is wrong, was used already, or is over. Ask for a new one.")
        raise Problem(401, why, (("code", why),))
    return user


# --- the own account


class OwnChange(Input):
    """What is left out, or null, stays as it is."""

    first_name: Name | None = None
    last_name: Name | None = None
    phone_number: Phone | None = Field(None, examples=["+254 700 000 000"])
    locale: Literal["en", "sw"] | None = None


async def change_own(request: web.Request, given: OwnChange) -> User:
    """Change the own name, telephone number or language."""
    store = request.app[SERVICES].store
    return await store.change_user(request[USER].id, **given.model_dump(), by=origin(request))


class PasswordChange(Input):
    current_password: str = Field(max_length=1024, examples=["correct horse battery staple"])
    """So that whoever finds a browser open cannot change it."""
    new_password: Password = Field(examples=["another horse with a battery"])
    """See docs/security.md for what it must be."""


async def change_password(request: web.Request, given: PasswordChange) -> None:
    """Change the own password; all other sessions end."""
    with _choosing("new_password"):
        fits = await request.app[AUTHENTICATOR].change_password(
            request, request[USER], given.current_password, given.new_password
        )
    if not fits:
        why = gettext("The current password is another one.")
        raise Problem(403, why, (("current_password", why),))


async def end_session(request: web.Request) -> None:
    """Sign out elsewhere: of the session in the path."""
    store = request.app[SERVICES].store
    if not await store.end_session(request[USER].id, path_id(request), by=origin(request)):
        raise Problem(404, gettext("There is no such session."))


class NewToken(Input):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80), Shown] = Field(
        examples=["Monthly export"]
    )
    scopes: set[Scope] = Field(min_length=1, examples=[["read"]])
    """What it may do: never more than the person whose token it is."""
    expires_at: datetime | None = None
    """With zone; without it the token does not end by itself."""


async def make_token(request: web.Request, given: NewToken) -> tuple[str, ApiToken]:
    """A token for a program of one's own, which is shown once, and what is kept of it."""
    expires_at = zoned("expires_at", given.expires_at) if given.expires_at else None
    return await request.app[AUTHENTICATOR].make_token(
        request[USER], given.name, frozenset(given.scopes), expires_at, origin(request)
    )


async def revoke_token(request: web.Request) -> None:
    """End the own token in the path, at once."""
    store = request.app[SERVICES].store
    if not await store.revoke_api_token(path_id(request), request[USER].id, by=origin(request)):
        raise Problem(404, gettext("There is no such token."))


# --- other people, for headquarters


async def person(request: web.Request) -> User:
    """The person in the path."""
    found = await request.app[SERVICES].store.user(path_id(request))
    if found is None:
        raise Problem(404, gettext("There is no such person."))
    return found


class NewUser(Input):
    email: Email = Field(examples=["wanjiru@example.org"])
    role: Role = Field(examples=["factory_clerk"])
    factory_id: Id | None = Field(None, examples=[1])
    """For a factory's manager or clerk."""
    first_name: Name = Field("", examples=["Wanjiru"])
    last_name: Name = Field("", examples=["Kamau"])
    phone_number: Phone = ""


async def add_person(request: web.Request, given: NewUser) -> tuple[User, str, datetime]:
    """Let somebody in, who chooses a password by the one-time code; until when that is good."""
    authenticator, by = request.app[AUTHENTICATOR], origin(request)
    added = await request.app[SERVICES].store.add_user(
        **given.model_dump(), password_hash=authenticator.no_password(), by=by
    )
    return added, *await authenticator.make_code(added, by)


class UserChange(Input):
    """What is left out, or null, stays as it is. `status` `active` approves who has asked for an account."""

    role: Role | None = None
    factory_id: Id | None = None
    """A role that sees every factory takes it away."""
    status: Literal[UserStatus.ACTIVE, UserStatus.DISABLED] | None = Field(None, examples=["active"])
    first_name: Name | None = None
    last_name: Name | None = None
    phone_number: Phone | None = None


async def change_person(request: web.Request, given: UserChange) -> User:
    """Change the person in the path."""
    before = await person(request)
    return await request.app[SERVICES].store.change_user(before.id, **given.model_dump(), by=origin(request))


async def refuse_person(request: web.Request) -> User:
    """Forget the person in the path, who has asked for an account and was never let in."""
    refused = await person(request)
    await request.app[SERVICES].store.remove_user(refused.id, by=origin(request))
    return refused


async def make_code(request: web.Request) -> tuple[User, str, datetime]:
    """A one-time code for the person in the path, to hand over, and until when it is good; an earlier one ends."""
    found = await person(request)
    if found.status is not UserStatus.ACTIVE:
        text = gettext("This person is %(status)s: approve or enable the account first.", status=found.status)
        raise Problem(409, text)
    return found, *await request.app[AUTHENTICATOR].make_code(found, origin(request))


async def sign_out_person(request: web.Request) -> User:
    """End all sessions of the person in the path, as after a lost telephone. API tokens stay."""
    found = await person(request)
    await request.app[SERVICES].store.end_sessions(found.id, by=origin(request))
    return found
