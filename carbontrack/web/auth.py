"""Signing in: argon2 for passwords, opaque session tokens that are stored as hashes, limits on guessing."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from carbontrack.model import User
from carbontrack.passwords import hash_password, needs_rehash, new_token, password_fits, token_hash
from carbontrack.web.services import Services

COOKIE = "carbontrack_session"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A session that has just begun. ``token`` is shown once: only its hash is stored."""

    user: User
    token: str
    expires_at: datetime


class TooManyAttempts(Exception):
    """Signing in was tried too often; ``retry_after_s`` says when to come back."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"Too many attempts. Try again in {retry_after_s} seconds.")
        self.retry_after_s = retry_after_s


class Attempts:
    """Limits how often signing in may fail, by account and by address."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_account = parse("10 per 5 minutes")
        self._per_address = parse("60 per 5 minutes")

    async def check(self, email: str, address: str, now: datetime) -> None:
        """Raise :class:`TooManyAttempts` when one of the limits is reached."""
        for item, key in self._keys(email, address):
            if not await self._limiter.test(item, key):
                window = await self._limiter.get_window_stats(item, key)
                raise TooManyAttempts(max(1, round(window.reset_time - now.timestamp())))

    async def failed(self, email: str, address: str) -> None:
        for item, key in self._keys(email, address):
            await self._limiter.hit(item, key)

    def _keys(self, email: str, address: str) -> tuple[tuple[RateLimitItem, str], ...]:
        return (self._per_account, f"account:{email}"), (self._per_address, f"address:{address}")


class Authenticator:
    """Checks passwords, two at a time at most: argon2 takes 64 MB and tens of milliseconds each."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._attempts = Attempts()
        self._at_once = asyncio.Semaphore(2)
        self._nobody = hash_password(secrets.token_urlsafe(16))

    async def sign_in(self, email: str, password: str, address: str) -> SignIn | None:
        """Begin a session; None when account and password do not belong together.

        Raises :class:`TooManyAttempts`.
        """
        store, now = self._services.store, self._services.clock()
        email = email.strip().lower()[:254]
        await self._attempts.check(email, address, now)
        found = await store.user_by_email(email)
        # Without an account a hash is checked all the same: the time must not say whether the account exists.
        known_hash = found[1] if found else self._nobody
        async with self._at_once:
            fits = await asyncio.to_thread(password_fits, known_hash, password)
        if found is None or not fits:
            await self._attempts.failed(email, address)
            return None
        user, password_hash = found
        if needs_rehash(password_hash):
            renewed = await asyncio.to_thread(hash_password, password)
            await store.renew_password_hash(user.id, password_hash, renewed)
        token = new_token()
        expires_at = now + timedelta(hours=self._services.session_hours)
        await store.add_session(token_hash(token), user.id, expires_at)
        return SignIn(user, token, expires_at)


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)


def session_token(request: web.Request) -> str | None:
    """The session token of a request: of the header (``Bearer`` or ``Token``), else of the cookie."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind in {"Bearer", "Token"} and value:
        return value.strip()
    return request.cookies.get(COOKIE)


async def signed_in(services: Services, token: str) -> User | None:
    """Who a session token belongs to."""
    return await services.store.session_user(token_hash(token), services.clock())


def set_cookie(request: web.Request, response: web.StreamResponse, session: SignIn, services: Services) -> None:
    secure = request.secure if services.secure_cookies == "auto" else services.secure_cookies
    response.set_cookie(
        COOKIE,
        session.token,
        max_age=services.session_hours * 3600,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",
    )
