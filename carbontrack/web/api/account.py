"""Signing in and out, asking for an account, passwords, and the own account with its sessions and tokens."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from pydantic import Field

from carbontrack.model import ApiToken, Role, Scope, Session, User, UserStatus
from carbontrack.passwords import token_hash
from carbontrack.web import people
from carbontrack.web.access import EVERYBODY, USER, origin
from carbontrack.web.auth import AUTHENTICATOR, delete_cookie, session_token
from carbontrack.web.contract import Tag, operation
from carbontrack.web.errors import Problem
from carbontrack.web.rest import Input, Output, Page
from carbontrack.web.services import SERVICES


def add_routes(app: web.Application) -> None:
    """Add these routes to the application."""
    router = app.router
    router.add_post("/api/register/", register)
    router.add_post("/api/login/", login)
    router.add_post("/api/logout/", logout)
    router.add_post("/api/forgot-password/", forgot_password)
    router.add_post("/api/reset-password/", reset_password)
    router.add_get("/api/me/", me)
    router.add_patch("/api/me/", change_me)
    router.add_post("/api/me/password/", change_password)
    router.add_get("/api/me/sessions/", sessions)
    router.add_delete("/api/me/sessions/{id:\\d{1,9}}/", end_session)
    router.add_get("/api/me/tokens/", tokens)
    router.add_post("/api/me/tokens/", add_token)
    router.add_delete("/api/me/tokens/{id:\\d{1,9}}/", revoke_token)


class PersonOut(Output):
    id: int
    email: str
    first_name: str
    last_name: str
    phone_number: str
    role: Role
    factory_id: int | None
    """The factory that the person belongs to; null: sees every factory."""
    status: UserStatus
    locale: str
    """The language of the pages: `en` or `sw`."""
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> PersonOut:
        return cls.model_validate(user)


# --- asking for an account


class Registered(Output):
    id: int
    email: str
    status: UserStatus


@operation(Tag.ACCOUNT, None, status=201, problems=(409, 422, 429))
async def register(request: web.Request, body: people.Registration) -> Registered:
    """Ask for an account. Nobody can sign in with it before headquarters has approved it.

    409: the address has an account already, or has asked for one.
    """
    return Registered.model_validate(await people.register(request, body))


# --- signing in and out


class Login(Input):
    email: str = Field(max_length=254, examples=["chief@example.org"])
    password: str = Field(max_length=1024, examples=["correct horse battery staple"])


class SignedIn(Output):
    token: str
    """To be sent with every further request, as `Authorization: Bearer <token>`. It is shown this once."""
    expires_at: datetime
    user: PersonOut


@operation(Tag.ACCOUNT, None, problems=(401, 429))
async def login(request: web.Request, body: Login) -> SignedIn:
    """Begin a session.

    A wrong password, an unknown account and one that may not sign in (yet) get the same answer.
    """
    session = await request.app[AUTHENTICATOR].sign_in(request, body.email, body.password)
    if session is None:
        raise Problem(401, "E-mail address and password do not belong together.")
    return SignedIn(token=session.token, expires_at=session.expires_at, user=PersonOut.of(session.user))


@operation(Tag.ACCOUNT, EVERYBODY, status=204)
async def logout(request: web.Request) -> web.StreamResponse:
    """End the session whose token the request carries."""
    await request.app[SERVICES].store.delete_session(token_hash(session_token(request) or ""), by=origin(request))
    response = web.Response(status=204)
    delete_cookie(request, response)
    return response


# --- passwords


class CodeSent(Output):
    detail: str
    """What happens next."""


@operation(Tag.ACCOUNT, None, status=202, problems=(429,))
async def forgot_password(request: web.Request, body: people.Forgotten) -> CodeSent:
    """Ask for a one-time code by e-mail. The answer does not say whether the address has an account.

    Where the platform sends no mail, headquarters hands out codes: `POST /api/users/{id}/code/`.
    """
    return CodeSent(detail=await people.send_code(request, body))


@operation(Tag.ACCOUNT, None, problems=(401, 429))
async def reset_password(request: web.Request, body: people.Reset) -> PersonOut:
    """Choose a new password by a one-time code. All sessions of the account end.

    401: the code is wrong, was used, or is over.
    """
    return PersonOut.of(await people.reset_password(request, body))


@operation(Tag.ACCOUNT, EVERYBODY, problems=(429,))
async def change_password(request: web.Request, body: people.PasswordChange) -> None:
    """Change the own password. All other sessions end. 403: the current password is another one."""
    await people.change_password(request, body)


# --- the own account


@operation(Tag.ACCOUNT, EVERYBODY)
async def me(request: web.Request) -> PersonOut:
    """The own account."""
    return PersonOut.of(request[USER])


@operation(Tag.ACCOUNT, EVERYBODY)
async def change_me(request: web.Request, body: people.OwnChange) -> PersonOut:
    """Change the own name, telephone number or language."""
    return PersonOut.of(await people.change_own(request, body))


class SessionOut(Output):
    id: int
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime
    address: str
    user_agent: str
    """What the browser or program called itself."""
    is_current: bool
    """Whether it is the one by which this is asked."""

    @classmethod
    def of(cls, session: Session, current: int | None) -> SessionOut:
        values = {name: getattr(session, name) for name in cls.model_fields if name != "is_current"}
        return cls(**values, is_current=session.id == current)


@operation(Tag.ACCOUNT, EVERYBODY)
async def sessions(request: web.Request) -> Page[SessionOut]:
    """Where the own account is signed in, the latest used first."""
    services = request.app[SERVICES]
    current = await services.store.session_id(token_hash(session_token(request) or ""))
    found = await services.store.sessions(request[USER].id, services.clock())
    return Page([SessionOut.of(it, current) for it in found])


@operation(Tag.ACCOUNT, EVERYBODY)
async def end_session(request: web.Request) -> None:
    """Sign out elsewhere."""
    await people.end_session(request)


class TokenOut(Output):
    id: int
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    """Null: it does not end by itself."""
    last_used_at: datetime | None
    prefix: str
    """Its first characters, to recognise it by."""

    @classmethod
    def values(cls, token: ApiToken) -> dict[str, object]:
        values = {name: getattr(token, name) for name in TokenOut.model_fields}
        return values | {"scopes": sorted(token.scopes)}


class TokenShown(TokenOut):
    token: str
    """To be sent as `Authorization: Bearer <token>`. It is shown this once."""


@operation(Tag.ACCOUNT, EVERYBODY)
async def tokens(request: web.Request) -> Page[TokenOut]:
    """The own API tokens, the newest first."""
    found = await request.app[SERVICES].store.api_tokens(request[USER].id)
    return Page([TokenOut.model_validate(TokenOut.values(token)) for token in found])


@operation(Tag.ACCOUNT, EVERYBODY, status=201, is_secret=True)
async def add_token(request: web.Request, body: people.NewToken) -> TokenShown:
    """Make a token for a program. It is shown this once."""
    token, kept = await people.make_token(request, body)
    return TokenShown.model_validate(TokenOut.values(kept) | {"token": token})


@operation(Tag.ACCOUNT, EVERYBODY)
async def revoke_token(request: web.Request) -> None:
    """End a token, at once."""
    await people.revoke_token(request)
