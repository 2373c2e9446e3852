"""Signing in and out, and the own account."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from pydantic import Field

from carbontrack.model import Role, User
from carbontrack.web.access import EVERYBODY, USER
from carbontrack.web.auth import AUTHENTICATOR, TooManyAttempts, delete_cookie, session_token, token_hash
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Input, Output
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    app.router.add_post("/api/login/", login)
    app.router.add_post("/api/logout/", logout)
    app.router.add_get("/api/me/", me)


class Login(Input):
    email: str = Field(max_length=254, examples=["chief@example.org"])
    password: str = Field(max_length=1024, examples=["correct horse battery staple"])


class Person(Output):
    id: int
    email: str
    first_name: str
    last_name: str
    role: Role
    factory_id: int | None
    """The factory that the person belongs to; null: sees every factory."""


class Session(Output):
    token: str
    """To be sent with every further request, as `Authorization: Bearer <token>`. It is shown this once."""
    expires_at: datetime
    user: Person


def person(user: User) -> Person:
    """Somebody as the API shows people."""
    return Person.model_validate(user)


@operation(Tag.ACCOUNT, None, problems=(401, 429))
async def login(request: web.Request, body: Login) -> Session:
    """Begin a session.

    A wrong password, an unknown account and one that may not sign in (yet) get the same answer.
    """
    try:
        session = await request.app[AUTHENTICATOR].sign_in(body.email, body.password, request.remote or "")
    except TooManyAttempts as error:
        problem = Problem(429, str(error))
        problem.headers["Retry-After"] = str(error.retry_after_s)
        raise problem from None
    if session is None:
        raise Problem(401, "E-mail address and password do not belong together.")
    return Session(token=session.token, expires_at=session.expires_at, user=person(session.user))


@operation(Tag.ACCOUNT, EVERYBODY, status=204)
async def logout(request: web.Request) -> web.StreamResponse:
    """End the session whose token the request carries."""
    await request.app[SERVICES].store.delete_session(token_hash(session_token(request) or ""))
    response = web.Response(status=204)
    delete_cookie(request, response)
    return response


@operation(Tag.ACCOUNT, EVERYBODY)
async def me(request: web.Request) -> Person:
    """The own account."""
    return person(request[USER])
