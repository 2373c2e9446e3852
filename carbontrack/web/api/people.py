"""People: who may sign in, and as what. Headquarters lets people in; nobody lets in themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from aiohttp import web

from carbontrack.model import Role, UserStatus
from carbontrack.web import people
from carbontrack.web.access import HQ_ONLY
from carbontrack.web.api.account import PersonOut
from carbontrack.web.contract import Tag, operation
from carbontrack.web.rest import Id, Output, Page, Paged, page_of
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


class CodeShown(Output):
    code: str
    """By which the person chooses a password (`POST /api/reset-password/`), once. It is shown this once."""
    expires_at: datetime


class Added(PersonOut):
    code: CodeShown


@operation(Tag.PEOPLE, HQ_ONLY, status=201, is_secret=True)
async def add_user(request: web.Request, body: people.NewUser) -> Added:
    """Let somebody in. The answer has a one-time code, by which the person chooses a password."""
    added, code, expires_at = await people.add_person(request, body)
    shown = CodeShown(code=code, expires_at=expires_at)
    return Added(**PersonOut.of(added).model_dump(), code=shown)


@operation(Tag.PEOPLE, HQ_ONLY)
async def user(request: web.Request) -> PersonOut:
    """One person."""
    return PersonOut.of(await people.person(request))


@operation(Tag.PEOPLE, HQ_ONLY, problems=(409,))
async def change_user(request: web.Request, body: people.UserChange) -> PersonOut:
    """Approve, disable or enable somebody, or give another role or factory.

    Who is disabled is signed out everywhere at once. 409: nobody would be left who may let people in.
    """
    return PersonOut.of(await people.change_person(request, body))


@operation(Tag.PEOPLE, HQ_ONLY, problems=(409,))
async def remove_user(request: web.Request) -> None:
    """Refuse somebody who has asked for an account. 409: whoever was let in once stays on record; disable them."""
    await people.refuse_person(request)


@operation(Tag.PEOPLE, HQ_ONLY, status=201, problems=(409,), is_secret=True)
async def make_code(request: web.Request) -> CodeShown:
    """Make a one-time code for somebody who cannot sign in, to hand over. An earlier one ends."""
    _, code, expires_at = await people.make_code(request)
    return CodeShown(code=code, expires_at=expires_at)


@operation(Tag.PEOPLE, HQ_ONLY)
async def sign_out(request: web.Request) -> None:
    """End all sessions of a person, as after a lost telephone. API tokens stay."""
    await people.sign_out_person(request)
