"""Signing in, asking for an account, and passwords: hashes of all that opens something, and limits on guessing."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from aiohttp import web

from carbontrack.model import ApiToken, AuditAction, Origin, Role, Scope, User, UserStatus
from carbontrack.passwords import (
    RESET,
    check_password,
    code_hash,
    hash_password,
    needs_rehash,
    new_code,
    new_token,
    password_fits,
    token_hash,
)
from carbontrack.web.services import SERVICES, Services
from carbontrack.words import gettext, in_language_of, reader, write_for

COOKIE = "carbontrack_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""A browser takes a cookie of this name by https only, and no other host of the domain can set one."""
API_TOKEN = "ct_"  # noqa: S105  # how each begins, so that people, and whoever looks for leaked secrets, recognise one
AT_ONCE = 2
MAILED_CODE_LASTS = timedelta(minutes=15)
HANDED_CODE_LASTS = timedelta(days=3)
"""Somebody who was let in just now finds the time to choose a password within days."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A session that has just begun. ``token`` is shown once: only its hash is stored."""

    user: User
    token: str
    expires_at: datetime


@cache
def _nobodys_hash() -> str:
    """The hash of a password that nobody knows, one for the process: to make it takes as long as to check one."""
    return hash_password(secrets.token_urlsafe(16))


class Authenticator:
    """Checks passwords, few at a time: each takes tens of milliseconds of a core, which readings need as well."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._nobody = _nobodys_hash()
        self._mails: set[asyncio.Task[None]] = set()

    # --- signing in

    async def sign_in(self, request: web.Request, email: str, password: str) -> SignIn | None:
        """Begin a session; None when account and password do not belong together.

        Raises :class:`~carbontrack.web.attempts.TooManyAttempts`.
        """
        services, email, address = self._services, email.strip().lower()[:254], request.remote or ""
        await services.attempts.check("sign_in", account=email, address=address)
        found = await services.store.user_by_email(email)
        if not await self._try(found[1] if found else None, password, email, address) or found is None:
            await self._note_failure(email, address, found[0] if found else None)
            return None
        user, password_hash = found
        if needs_rehash(password_hash):
            await services.store.renew_password_hash(user.id, password_hash, await self._hash(password))
        by = Origin(user.email, address, user.id)
        await services.store.note(by, AuditAction.USER_SIGNED_IN, "user", user.id, user.factory_id)
        return await self._begin(user, request)

    async def _begin(self, user: User, request: web.Request) -> SignIn:
        token, now = new_token(), self._services.clock()
        expires_at = now + timedelta(hours=self._services.session_hours)
        await self._services.store.add_session(
            token_hash(token),
            user.id,
            expires_at,
            address=request.remote or "",
            user_agent=request.headers.get("User-Agent", ""),
            now=now,
        )
        return SignIn(user, token, expires_at)

    async def _note_failure(self, email: str, address: str, user: User | None) -> None:
        """Of an address that has no account only that somebody tried: it may be a password in the wrong field."""
        by = Origin(email if user else "unknown", address)
        await self._services.store.note(
            by, AuditAction.USER_SIGN_IN_FAILED, "user", user.id if user else "", user.factory_id if user else None
        )

    # --- accounts

    async def register(
        self,
        *,
        email: str,
        password: str,
        role: Role,
        factory_id: int | None,
        first_name: str,
        last_name: str,
        phone_number: str,
        address: str,
    ) -> User:
        """Keep somebody's wish for an account, for headquarters to decide on.

        Raises :class:`~carbontrack.passwords.WeakPassword`, :class:`~carbontrack.store.RegistryError` and
        :class:`~carbontrack.web.attempts.TooManyAttempts`.
        """
        await self._services.attempts.take("register", address=address)
        check_password(password, (email, first_name, last_name))
        return await self._services.store.add_user(
            email,
            await self._hash(password),
            role,
            factory_id=factory_id,
            first_name=first_name,
            last_name=last_name,
            phone_number=phone_number,
            status=UserStatus.PENDING,
            by=Origin(email, address),
        )

    def no_password(self) -> str:
        """What is kept for somebody who has to choose a password first: the hash of one that nobody knows."""
        return self._nobody

    # --- passwords

    async def change_password(self, request: web.Request, user: User, current: str, new: str) -> bool:
        """Give whoever is signed in another password; False where ``current`` is not the one there is.

        Raises :class:`~carbontrack.passwords.WeakPassword` and :class:`~carbontrack.web.attempts.TooManyAttempts`.
        """
        services, address = self._services, request.remote or ""
        found = await services.store.user_by_email(user.email)
        if not await self._try(found[1] if found else None, current, user.email, address):
            return False
        check_password(new, (user.email, user.first_name, user.last_name))
        by = Origin(user.email, address, user.id)
        await services.store.set_password_hash(
            user.id, await self._hash(new), keep_session=token_hash(session_token(request) or ""), by=by
        )
        return True

    async def make_code(self, user: User, by: Origin, lasts: timedelta = HANDED_CODE_LASTS) -> tuple[str, datetime]:
        """A one-time code by which somebody chooses a password, and until when it is good; an earlier one ends."""
        code, expires_at = new_code(), self._services.clock() + lasts
        await self._services.store.add_code(user.id, RESET, code_hash(code), expires_at, by=by)
        return code, expires_at

    async def send_code(self, email: str, address: str) -> None:
        """Mail a code to whoever has an account of this address. It takes the same time where nobody has.

        Raises :class:`~carbontrack.web.attempts.TooManyAttempts`.
        """
        email = email.strip().lower()[:254]
        await self._services.attempts.take("reset_request", account=email, address=address)
        task = asyncio.create_task(self._mail_code(email, address), name="web:mail-code")
        self._mails.add(task)
        task.add_done_callback(self._mails.discard)

    async def _mail_code(self, email: str, address: str) -> None:
        mailer, found = self._services.mailer, await self._services.store.user_by_email(email)
        if mailer is None or found is None:
            return
        user = found[0]
        code, _ = await self.make_code(user, Origin(user.email, address, user.id), MAILED_CODE_LASTS)
        write_for(in_language_of(user, reader()))
        parts = (
            code,
            gettext("By this code you choose a new password for Carbon Track. It is good for 15 minutes, once."),
            f"{self._services.public_url}/reset-password" if self._services.public_url else "",
            gettext("If it was not you who asked for it, you need do nothing."),
        )
        text = "\n\n".join(part for part in parts if part)
        await mailer.send(user.email, gettext("Your code for a new password"), f"{text}\n")

    async def reset_password(self, email: str, code: str, password: str, address: str) -> User | None:
        """Set a password by a one-time code; None where the code is wrong, was used, or is over.

        Raises :class:`~carbontrack.passwords.WeakPassword` (the code stays good) and
        :class:`~carbontrack.web.attempts.TooManyAttempts`.
        """
        services, email = self._services, email.strip().lower()[:254]
        await services.attempts.take("code_tries", account=email, address=address)
        found = await services.store.user_by_email(email)
        user = found[0] if found else None
        check_password(password, (email, user.first_name, user.last_name) if user else (email,))
        hashed = await self._hash(password)
        if user is None:
            return None
        by = Origin(user.email, address, user.id)
        if not await services.store.use_code(user.id, RESET, code_hash(code), services.clock()):
            await services.store.note(by, AuditAction.USER_CODE_REFUSED, "user", user.id, user.factory_id)
            return None
        await services.store.set_password_hash(user.id, hashed, by=by)
        return user

    # --- tokens of programs

    async def make_token(
        self, user: User, name: str, scopes: frozenset[Scope], expires_at: datetime | None, by: Origin
    ) -> tuple[str, ApiToken]:
        """A token for a program of somebody's, and what is kept of it. Raises RegistryError where that cannot be."""
        token = f"{API_TOKEN}{new_token()}"
        kept = await self._services.store.add_api_token(
            token_hash(token), token[:8], user.id, name, scopes, expires_at, by=by, now=self._services.clock()
        )
        return token, kept

    # --- the cost of a password

    async def _try(self, password_hash: str | None, password: str, email: str, address: str) -> bool:
        """Whether a password fits; one that does not is counted."""
        attempts = self._services.attempts
        async with self._at_once:
            # Again: of a thousand that came at once only those are tried that are within the limit.
            await attempts.check("sign_in", account=email, address=address)
            # Without an account a hash is checked all the same: the time must not say whether the account exists.
            fits = await asyncio.to_thread(password_fits, password_hash or self._nobody, password)
            if not fits or password_hash is None:
                await attempts.count("sign_in", account=email, address=address)
        return fits and password_hash is not None

    async def _hash(self, password: str) -> str:
        async with self._at_once:
            return await asyncio.to_thread(hash_password, password)


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)


# --- who asks


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; ``token`` is the API token of a program, where it is one."""

    user: User
    token: ApiToken | None = None


async def caller_of(services: Services, token: str) -> Caller | None:
    """Who a token belongs to, of a session or of a program; None: nobody, or no more."""
    store, now = services.store, services.clock()
    if token.startswith(API_TOKEN):
        found = await store.api_token_user(token_hash(token), now)
        return Caller(*found) if found else None
    user = await store.session_user(token_hash(token), now)
    return Caller(user) if user else None


def session_token(request: web.Request) -> str | None:
    """The token of a request: of the header (``Bearer`` or ``Token``), else of the cookie."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind in {"Bearer", "Token"} and value:
        return value.strip()
    return request.cookies.get(cookie_name(request))


# --- the cookie


def cookie_name(request: web.Request) -> str:
    """The name of the session's cookie; by https the plain one counts for nothing, as anybody on the way can set it."""
    return SECURE_COOKIE if is_secure(request) else COOKIE


def is_secure(request: web.Request) -> bool:
    """Whether cookies are for https only."""
    secure = request.app[SERVICES].secure_cookies
    return request.secure if secure == "auto" else secure


def set_cookie(request: web.Request, response: web.StreamResponse, session: SignIn, services: Services) -> None:
    response.set_cookie(
        cookie_name(request),
        session.token,
        max_age=services.session_hours * 3600,
        path="/",
        secure=is_secure(request),
        httponly=True,
        samesite="Lax",
    )


def delete_cookie(request: web.Request, response: web.StreamResponse) -> None:
    response.del_cookie(cookie_name(request), path="/", secure=is_secure(request), httponly=True, samesite="Lax")
