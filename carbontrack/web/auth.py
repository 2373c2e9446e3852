"""Signing in: argon2 for passwords, opaque session tokens that are stored as hashes, limits on guessing."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from carbontrack.model import User
from carbontrack.web.services import SERVICES, Services

COOKIE = "carbontrack_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""A browser takes a cookie of this name by https only, and no other host of the domain can set one."""
LONGEST_PASSWORD = 1024
_hasher = PasswordHasher(memory_cost=19 * 1024, time_cost=3, parallelism=1)
"""argon2id at 19 MiB: docs/security.md says why so much and no more."""
AT_ONCE = 2


def hash_password(password: str) -> str:
    """The argon2id hash of a password, with its salt and cost."""
    return _hasher.hash(password)


@dataclass(frozen=True, slots=True)
class SignIn:
    """A session that has just begun. ``token`` is shown once: only its hash is stored."""

    user: User
    token: str
    expires_at: datetime


class Authenticator:
    """Checks passwords, few at a time: each takes tens of milliseconds of a core, which readings need as well."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._attempts = services.attempts
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._nobody = hash_password(secrets.token_urlsafe(16))

    async def sign_in(self, email: str, password: str, address: str) -> SignIn | None:
        """Begin a session; None when account and password do not belong together.

        Raises :class:`~carbontrack.web.attempts.TooManyAttempts`.
        """
        store, now = self._services.store, self._services.clock()
        email = email.strip().lower()[:254]
        await self._attempts.check("sign_in", account=email, address=address)
        found = await store.user_by_email(email)
        # Without an account a hash is checked all the same: the time must not say whether the account exists.
        known_hash = found[1] if found else self._nobody
        async with self._at_once:
            # Again: of a thousand that came at once only those are tried that are within the limit.
            await self._attempts.check("sign_in", account=email, address=address)
            fits = await asyncio.to_thread(_fits, known_hash, password[:LONGEST_PASSWORD])
            if found is None or not fits:
                await self._attempts.count("sign_in", account=email, address=address)
                return None
        user, password_hash = found
        if _hasher.check_needs_rehash(password_hash):
            await store.set_password_hash(user.id, await asyncio.to_thread(hash_password, password))
        token = secrets.token_urlsafe(32)
        expires_at = now + timedelta(hours=self._services.session_hours)
        await store.add_session(token_hash(token), user.id, expires_at)
        return SignIn(user, token, expires_at)


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def session_token(request: web.Request) -> str | None:
    """The session token of a request: of the header (``Bearer`` or ``Token``), else of the cookie."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind in {"Bearer", "Token"} and value:
        return value.strip()
    return request.cookies.get(cookie_name(request))


async def signed_in(services: Services, token: str) -> User | None:
    """Who a session token belongs to."""
    return await services.store.session_user(token_hash(token), services.clock())


def cookie_name(request: web.Request) -> str:
    """The name of the session's cookie; by https the plain one counts for nothing, as anybody on the way can set it."""
    return SECURE_COOKIE if _is_secure(request) else COOKIE


def _is_secure(request: web.Request) -> bool:
    secure = request.app[SERVICES].secure_cookies
    return request.secure if secure == "auto" else secure


def set_cookie(request: web.Request, response: web.StreamResponse, session: SignIn, services: Services) -> None:
    response.set_cookie(
        cookie_name(request),
        session.token,
        max_age=services.session_hours * 3600,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="Lax",
    )


def delete_cookie(request: web.Request, response: web.StreamResponse) -> None:
    response.del_cookie(cookie_name(request), path="/", secure=_is_secure(request), httponly=True, samesite="Lax")


def _fits(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
