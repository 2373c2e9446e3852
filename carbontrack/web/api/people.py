"""People: who may sign in, and as what. Headquarters lets people in; nobody lets in themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from aiohttp import web
from pydantic import Field

from carbontrack.model import Role, User, UserStatus
from carbontrack.web.access import HQ_ONLY, origin
from carbontrack.web.api.account import Email, Name, PersonOut, Phone
from carbontrack.web.auth import AUTHENTICATOR
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Id, Input, Output, Page, Paged, page_of, path_id
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_get("/api/users/", users)
    router.add_post("/api/users/", add_user)
    router.add_get("/api/users/{id:\\d{1,9}}/", user)
    router.add_patch("/api/users/{id:\\d{1,9}}/", change_user)
    router.add_delete("/api/users/{id:\\d{1,9}}/", remove_user)
    router.add_post("/api/users/{id:\\d{1,9}}/code/", make_code)
    router.add_post("/api/users/{id:\\d{1,9}}/sign-out/", sign_out)


async def _user(request: web.Request) -> User:
    found = await request.app[SERVICES].store.user(path_id(request))
    if found is None:
        raise Problem(404, "There is no such person.")
    return found


class UserQuery(Paged):
    sort: Literal["email", "-email", "created_at", "-created_at", "id", "-id"] = "email"
    status: UserStatus | None = None
    role: Role | None = None
    factory_id: Id | None = None


@operation(Tag.PEOPLE, HQ_ONLY)
async def users(request: web.Request, query: UserQuery) -> Page[PersonOut]:
    """Everybody who may sign in, has asked to, or may no more."""
    found = await request.app[SERVICES].store.users(status=query.status, role=query.role, factory_id=query.factory_id)
    return page_of([PersonOut.of(it) for it in found], query, query.sort)


class NewUser(Input):
    email: Email = Field(examples=["wanjiru@example.org"])
    role: Role = Field(examples=["factory_clerk"])
    factory_id: Id | None = Field(None, examples=[1])
    """For a factory's manager or clerk."""
    first_name: Name = Field("", examples=["Wanjiru"])
    last_name: Name = Field("", examples=["Kamau"])
    phone_number: Phone = ""


class CodeShown(Output):
    code: str
    """By which the person chooses a password (`POST /api/reset-password/`), once. It is shown this once."""
    expires_at: datetime


class Added(PersonOut):
    code: CodeShown


@operation(Tag.PEOPLE, HQ_ONLY, status=201, is_secret=True)
async def add_user(request: web.Request, body: NewUser) -> Added:
    """Let somebody in. The answer has a one-time code, by which the person chooses a password."""
    authenticator, by = request.app[AUTHENTICATOR], origin(request)
    added = await request.app[SERVICES].store.add_user(
        **body.model_dump(), password_hash=authenticator.no_password(), by=by
    )
    code, expires_at = await authenticator.make_code(added, by)
    shown = CodeShown(code=code, expires_at=expires_at)
    return Added(**PersonOut.of(added).model_dump(), code=shown)


@operation(Tag.PEOPLE, HQ_ONLY)
async def user(request: web.Request) -> PersonOut:
    """One person."""
    return PersonOut.of(await _user(request))


class UserChange(Input):
    """What is left out, or null, stays as it is. `status` `active` approves who has asked for an account."""

    role: Role | None = None
    factory_id: Id | None = None
    """A role that sees every factory takes it away."""
    status: Literal[UserStatus.ACTIVE, UserStatus.DISABLED] | None = Field(None, examples=["active"])
    first_name: Name | None = None
    last_name: Name | None = None
    phone_number: Phone | None = None


@operation(Tag.PEOPLE, HQ_ONLY, problems=(409,))
async def change_user(request: web.Request, body: UserChange) -> PersonOut:
    """Approve, disable or enable somebody, or give another role or factory.

    Who is disabled is signed out everywhere at once. 409: nobody would be left who may let people in.
    """
    before = await _user(request)
    changed = await request.app[SERVICES].store.change_user(before.id, **body.model_dump(), by=origin(request))
    return PersonOut.of(changed)


@operation(Tag.PEOPLE, HQ_ONLY, problems=(409,))
async def remove_user(request: web.Request) -> None:
    """Refuse somebody who has asked for an account. 409: whoever was let in once stays on record; disable them."""
    await request.app[SERVICES].store.remove_user((await _user(request)).id, by=origin(request))


@operation(Tag.PEOPLE, HQ_ONLY, status=201, problems=(409,), is_secret=True)
async def make_code(request: web.Request) -> CodeShown:
    """Make a one-time code for somebody who cannot sign in, to hand over. An earlier one ends."""
    found = await _user(request)
    if found.status is not UserStatus.ACTIVE:
        raise Problem(409, f"This person is {found.status}: approve or enable the account first.")
    code, expires_at = await request.app[AUTHENTICATOR].make_code(found, origin(request))
    return CodeShown(code=code, expires_at=expires_at)


@operation(Tag.PEOPLE, HQ_ONLY)
async def sign_out(request: web.Request) -> None:
    """End all sessions of a person, as after a lost telephone. API tokens stay."""
    await request.app[SERVICES].store.end_sessions((await _user(request)).id, by=origin(request))
