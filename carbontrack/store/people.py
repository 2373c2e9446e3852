"""People, their sessions, tokens and one-time codes, and requests that must not be done twice."""

from __future__ import annotations

import hmac
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from tortoise.exceptions import BaseORMException, IntegrityError

from carbontrack.model import (
    APPROVING_ROLES,
    FACTORY_ROLES,
    LOCALES,
    PLATFORM,
    ApiToken,
    AuditAction,
    EarlierRequest,
    Origin,
    Role,
    Scope,
    Session,
    User,
    UserStatus,
)
from carbontrack.store.audit import Audit, Journal
from carbontrack.store.context import RegistryError, in_context
from carbontrack.store.work import storable_text
from carbontrack.tables import ApiTokenRow, IdempotencyKeyRow, OneTimeCodeRow, SessionRow, UserRow
from carbontrack.words import gettext

TOUCH_EVERY = timedelta(minutes=1)
"""``last_used_at`` is not written more often: a page asks for a dozen things at once."""
CODE_ATTEMPTS = 5
LONGEST_EMAIL = 200
"""Its column holds no more."""
ANSWERS_KEPT_FOR = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=5)
"""A request that was begun and has no answer after that: the core ended meanwhile."""
_USER = ("role", "factory_id", "status", "first_name", "last_name", "phone_number", "locale")
_ACTIONS = {
    (UserStatus.PENDING, UserStatus.ACTIVE): AuditAction.USER_APPROVED,
    (UserStatus.DISABLED, UserStatus.ACTIVE): AuditAction.USER_ENABLED,
    (UserStatus.PENDING, UserStatus.DISABLED): AuditAction.USER_DISABLED,
    (UserStatus.ACTIVE, UserStatus.DISABLED): AuditAction.USER_DISABLED,
}


class People(Audit):
    """Who may sign in, and by what. Of passwords, tokens and codes only hashes come here."""

    # --- people

    @in_context
    async def add_user(
        self,
        email: str,
        password_hash: str,
        role: Role,
        *,
        factory_id: int | None = None,
        first_name: str = "",
        last_name: str = "",
        phone_number: str = "",
        status: UserStatus = UserStatus.ACTIVE,
        by: Origin = PLATFORM,
    ) -> User:
        """Add a person. Raises :class:`RegistryError` for an address that is taken, or a role in the wrong place."""
        values: dict[str, Any] = {
            "email": email.strip().lower(),
            "role": role.value,
            "factory_id": factory_id,
            "status": status.value,
            "first_name": first_name,
            "last_name": last_name,
            "phone_number": phone_number,
        }
        _check(values)
        try:
            async with self._changing(by) as journal:
                row = await UserRow.create(**values, password_hash=password_hash, locale="en", created_at=self.clock())
                await _note(journal, AuditAction.USER_ADDED, row, after=values)
        except IntegrityError as error:
            if await UserRow.exists(email=values["email"]):
                raise RegistryError(
                    gettext("the address %(email)s is registered already", email=values["email"]), "email"
                ) from error
            raise RegistryError(gettext("there is no such factory"), "factory_id") from error
        return user_of(row)

    @in_context
    async def change_user(
        self,
        user_id: int,
        *,
        role: Role | None = None,
        factory_id: int | None = None,
        first_name: str | None = None,
        last_name: str | None = None,
        phone_number: str | None = None,
        status: UserStatus | None = None,
        locale: str | None = None,
        by: Origin = PLATFORM,
    ) -> User:
        """Change what is given of a person; None leaves it as it is.

        A role that sees every factory takes the person's factory away. Who is disabled is signed out everywhere.
        Raises :class:`RegistryError` where nobody would be left to let people in, and as :meth:`add_user`.
        """
        if role is not None and role not in FACTORY_ROLES and factory_id is not None:
            raise RegistryError(gettext("the role %(role)s sees every factory: give none", role=role), "factory_id")
        given = {"role": role, "factory_id": factory_id, "status": status, "first_name": first_name,
                 "last_name": last_name, "phone_number": phone_number, "locale": locale}  # fmt: skip
        async with self._changing(by) as journal:
            row = await _row(user_id)
            before = _values(row)
            for name, value in given.items():
                if value is not None:
                    setattr(row, name, value)
            if role is not None and role not in FACTORY_ROLES:
                row.factory_id = None
            after = _values(row)
            _check(after)
            await _check_step(row, before)
            try:
                await row.save(update_fields=_USER)
            except IntegrityError as error:
                raise RegistryError(gettext("there is no such factory"), "factory_id") from error
            if row.status == UserStatus.DISABLED:
                await SessionRow.filter(user_id=user_id).delete()
                await OneTimeCodeRow.filter(user_id=user_id).delete()
            step = UserStatus(before["status"]), UserStatus(row.status)
            await _note(journal, _ACTIONS.get(step, AuditAction.USER_CHANGED), row, before=before, after=after)
        return user_of(row)

    @in_context
    async def remove_user(self, user_id: int, *, by: Origin = PLATFORM) -> None:
        """Delete a person who was never let in. Raises :class:`RegistryError` for any other."""
        async with self._changing(by) as journal:
            row = await _row(user_id)
            if row.status != UserStatus.PENDING:
                raise RegistryError(gettext("whoever was let in once stays on record: disable the account instead"))
            await row.delete()
            await _note(journal, AuditAction.USER_REMOVED, row, before={"email": row.email} | _values(row))

    @in_context
    async def users(
        self,
        *,
        status: UserStatus | None = None,
        role: Role | None = None,
        factory_id: int | None = None,
        email: str | None = None,
    ) -> list[User]:
        """People by e-mail address, whatever their status if none is given."""
        wanted = {
            "status": status and status.value,
            "role": role and role.value,
            "factory_id": factory_id,
            "email": None if email is None else email.strip().lower(),
        }
        query = UserRow.filter(**{name: value for name, value in wanted.items() if value is not None})
        return [user_of(row) for row in await query.order_by("email")]

    @in_context
    async def user(self, user_id: int) -> User | None:
        """A person, whatever the status."""
        row = await UserRow.get_or_none(id=user_id)
        return user_of(row) if row else None

    @in_context
    async def user_by_email(self, email: str) -> tuple[User, str] | None:
        """A person who may sign in, with the hash of the password."""
        email = email.strip().lower()
        if len(email) > LONGEST_EMAIL or not email.isprintable():
            return None  # nobody has such an address
        row = await UserRow.get_or_none(email=email, status=UserStatus.ACTIVE.value)
        return (user_of(row), row.password_hash) if row else None

    @in_context
    async def set_password_hash(
        self, user_id: int, password_hash: str, *, keep_session: str = "", by: Origin = PLATFORM
    ) -> None:
        """Give a person another password. All codes and sessions end, but the one with the hash ``keep_session``."""
        async with self._changing(by) as journal:
            row = await _row(user_id)
            row.password_hash = password_hash
            await row.save(update_fields=["password_hash"])
            await SessionRow.filter(user_id=user_id).exclude(token_hash=keep_session).delete()
            await OneTimeCodeRow.filter(user_id=user_id).delete()
            await _note(journal, AuditAction.USER_PASSWORD_SET, row)

    @in_context
    async def renew_password_hash(self, user_id: int, old: str, new: str) -> None:
        """Keep another hash of the same password, by today's cost of hashing: no change that anybody made."""
        await UserRow.filter(id=user_id, password_hash=old).update(password_hash=new)

    # --- sessions

    @in_context
    async def add_session(
        self,
        token_hash: str,
        user_id: int,
        expires_at: datetime,
        *,
        address: str = "",
        user_agent: str = "",
        now: datetime | None = None,
    ) -> Session:
        """Begin a session. That somebody has signed in is for the caller to :meth:`note`."""
        now = now or self.clock()
        row = await SessionRow.create(
            token_hash=token_hash,
            user_id=user_id,
            created_at=now,
            expires_at=expires_at,
            last_used_at=now,
            address=storable_text(address, 64),
            user_agent=storable_text(user_agent, 200),
        )
        return _session(row)

    @in_context
    async def session_user(self, token_hash: str, now: datetime) -> User | None:
        """Who a session belongs to; None when it has ended or the person may not sign in."""
        row = await SessionRow.get_or_none(token_hash=token_hash, expires_at__gt=now).prefetch_related("user")
        if row is None or row.user.status != UserStatus.ACTIVE:
            return None
        await _touch(row, now)
        return user_of(row.user)

    @in_context
    async def sessions(self, user_id: int, now: datetime | None = None) -> list[Session]:
        """The open sessions of a person, the one that was used last first."""
        query = SessionRow.filter(user_id=user_id, expires_at__gt=now or self.clock())
        return [_session(row) for row in await query.order_by("-last_used_at", "-id")]

    @in_context
    async def session_id(self, token_hash: str) -> int | None:
        """The number that a session may be shown by."""
        row = await SessionRow.get_or_none(token_hash=token_hash)
        return row.id if row else None

    @in_context
    async def delete_session(self, token_hash: str, *, by: Origin = PLATFORM) -> None:
        """End the session that somebody signs out of."""
        async with self._changing(by) as journal:
            row = await SessionRow.get_or_none(token_hash=token_hash).prefetch_related("user")
            if row is not None:
                await row.delete()
                await _note(journal, AuditAction.USER_SIGNED_OUT, row.user)

    @in_context
    async def end_session(self, user_id: int, session_id: int, *, by: Origin = PLATFORM) -> bool:
        """End one session of a person; False: there is none."""
        async with self._changing(by) as journal:
            ended = await SessionRow.filter(id=session_id, user_id=user_id).delete()
            if ended:
                await _note(journal, AuditAction.USER_SESSION_ENDED, await _row(user_id))
        return bool(ended)

    @in_context
    async def end_sessions(self, user_id: int, *, keep_session: str = "", by: Origin = PLATFORM) -> int:
        """End all sessions of a person, but the one with the hash ``keep_session``; how many there were."""
        async with self._changing(by) as journal:
            ended = await SessionRow.filter(user_id=user_id).exclude(token_hash=keep_session).delete()
            if ended:
                await _note(journal, AuditAction.USER_SESSIONS_ENDED, await _row(user_id), after={"sessions": ended})
        return ended

    @in_context
    async def forget_sessions(self, now: datetime) -> None:
        """Delete the sessions and codes that have ended, and the answers to requests that nobody repeats any more."""
        await SessionRow.filter(expires_at__lte=now).delete()
        await OneTimeCodeRow.filter(expires_at__lte=now).delete()
        await IdempotencyKeyRow.filter(created_at__lte=now - ANSWERS_KEPT_FOR).delete()

    # --- API tokens

    @in_context
    async def add_api_token(
        self,
        token_hash: str,
        prefix: str,
        user_id: int,
        name: str,
        scopes: frozenset[Scope],
        expires_at: datetime | None = None,
        *,
        by: Origin = PLATFORM,
        now: datetime | None = None,
    ) -> ApiToken:
        """Give a person's program a token. Raises :class:`RegistryError` where that cannot be."""
        now = now or self.clock()
        values: dict[str, Any] = {"name": name.strip(), "scopes": ",".join(sorted(scopes)), "expires_at": expires_at}
        _check_texts({"name": name})
        if not name.strip() or not scopes:
            raise RegistryError(gettext("a token needs a name and at least one scope"))
        if expires_at is not None and expires_at <= now:
            raise RegistryError(gettext("a token cannot end before it begins"))
        async with self._changing(by) as journal:
            user = await _row(user_id)
            if user.status != UserStatus.ACTIVE:
                raise RegistryError(gettext("only who may sign in can have a token"))
            row = await ApiTokenRow.create(
                token_hash=token_hash, prefix=prefix, user_id=user_id, created_at=now, **values
            )
            after = {"user": user.email, "prefix": prefix} | values
            await journal.note(AuditAction.TOKEN_ADDED, "token", row.id, user.factory_id, after=after)
        return _token(row)

    @in_context
    async def api_token_user(self, token_hash: str, now: datetime) -> tuple[User, ApiToken] | None:
        """Who a token belongs to; None when it has ended or the person may not sign in."""
        row = await ApiTokenRow.get_or_none(token_hash=token_hash).prefetch_related("user")
        if row is None or row.user.status != UserStatus.ACTIVE or (row.expires_at and row.expires_at <= now):
            return None
        await _touch(row, now)
        return user_of(row.user), _token(row)

    @in_context
    async def api_tokens(self, user_id: int | None = None) -> list[ApiToken]:
        """The tokens of a person, or of everybody, the newest first; also those that have ended."""
        query = ApiTokenRow.all() if user_id is None else ApiTokenRow.filter(user_id=user_id)
        return [_token(row) for row in await query.order_by("-id")]

    @in_context
    async def revoke_api_token(self, token_id: int, user_id: int | None = None, *, by: Origin = PLATFORM) -> bool:
        """End a token, at once; False: there is none, or it is not that person's."""
        query = ApiTokenRow.filter(id=token_id)
        async with self._changing(by) as journal:
            row = await (query if user_id is None else query.filter(user_id=user_id)).prefetch_related("user").first()
            if row is None:
                return False
            await row.delete()
            before = {"user": row.user.email, "prefix": row.prefix, "name": row.name, "scopes": row.scopes}
            await journal.note(AuditAction.TOKEN_REVOKED, "token", row.id, row.user.factory_id, before=before)
        return True

    # --- one-time codes

    @in_context
    async def add_code(
        self, user_id: int, purpose: str, code_hash: str, expires_at: datetime, *, by: Origin = PLATFORM
    ) -> None:
        """Keep the hash of a code that a person may use once; an earlier one for the same purpose ends."""
        async with self._changing(by) as journal:
            user = await _row(user_id)
            await OneTimeCodeRow.filter(user_id=user_id, purpose=purpose).delete()
            await OneTimeCodeRow.create(
                user_id=user_id,
                purpose=purpose,
                code_hash=code_hash,
                expires_at=expires_at,
                attempts_left=CODE_ATTEMPTS,
            )
            await _note(journal, AuditAction.USER_CODE_MADE, user, after={"purpose": purpose, "expires_at": expires_at})

    @in_context
    async def use_code(self, user_id: int, purpose: str, code_hash: str, now: datetime) -> bool:
        """Whether a code is the one that a person was given; it is used up then. Five wrong ones use it up as well."""
        usable = OneTimeCodeRow.filter(
            user_id=user_id, purpose=purpose, used_at=None, expires_at__gt=now, attempts_left__gt=0
        )
        async with self._changing(PLATFORM):  # whoever guesses many at once has no more attempts by that
            row = await usable.first()
            if row is None:
                return False
            fits = hmac.compare_digest(row.code_hash, code_hash)
            row.attempts_left -= 1
            row.used_at = now if fits else None
            await row.save(update_fields=["attempts_left", "used_at"])
        return fits

    # --- requests that must not be done twice

    @in_context
    async def begin_request(self, user_id: int, key: str, request_sha256: str, now: datetime) -> EarlierRequest | None:
        """Claim an idempotency key of a person; what became of the earlier request where there was one."""
        claim: dict[str, Any] = {"request_sha256": request_sha256, "status": None, "body": "", "created_at": now}
        try:
            await IdempotencyKeyRow.create(user_id=user_id, key=key, **claim)
            return None
        except IntegrityError as error:
            row = await IdempotencyKeyRow.get_or_none(user_id=user_id, key=key)
            if row is None:
                raise RegistryError(
                    "there is no such person, or the request before has just failed: repeat it"
                ) from error
        age = now - row.created_at
        is_over = age >= ANSWERS_KEPT_FOR or (row.status is None and age >= ABANDONED_AFTER)
        # Of two who repeat it at once, one finds it as it was.
        if is_over and await IdempotencyKeyRow.filter(id=row.id, created_at=row.created_at).update(**claim):
            return None
        return EarlierRequest(row.request_sha256, row.status, row.body)

    @in_context
    async def finish_request(self, user_id: int, key: str, status: int, body: str) -> None:
        """Keep the answer to a request, for when it comes again."""
        await IdempotencyKeyRow.filter(user_id=user_id, key=key).update(status=status, body=body)

    @in_context
    async def drop_request(self, user_id: int, key: str) -> None:
        """Give a key back: the request came to nothing and may come again."""
        await IdempotencyKeyRow.filter(user_id=user_id, key=key, status=None).delete()


# --- what must hold


def _check(values: dict[str, Any]) -> None:
    _check_texts(values)
    role = Role(values["role"])
    if role in FACTORY_ROLES and values["factory_id"] is None:
        raise RegistryError(gettext("the role %(role)s belongs to a factory: give one", role=role), "factory_id")
    if role not in FACTORY_ROLES and values["factory_id"] is not None:
        raise RegistryError(gettext("the role %(role)s sees every factory: give none", role=role), "factory_id")
    if values.get("locale", LOCALES[0]) not in LOCALES:
        raise RegistryError(f"the pages are in {' and '.join(LOCALES)}: choose one of them")


def _check_texts(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, str) and not value.isprintable():
            raise RegistryError(
                gettext("%(name)s has characters that cannot be shown: leave them out", name=name), name
            )


async def _check_step(row: UserRow, before: dict[str, Any]) -> None:
    """That a person's status may become what it is now, and that somebody is left who lets people in."""
    if row.status == UserStatus.PENDING and before["status"] != UserStatus.PENDING:
        raise RegistryError(gettext("whoever was let in once is active or disabled, and not pending again"))

    def approves(role: str, status: str) -> bool:
        return role in APPROVING_ROLES and status == UserStatus.ACTIVE

    if approves(before["role"], before["status"]) and not approves(row.role, row.status):
        others = UserRow.filter(role__in=list(APPROVING_ROLES), status=UserStatus.ACTIVE.value).exclude(id=row.id)
        if not await others.exists():
            raise RegistryError(
                gettext(
                    "%(email)s is the only one who lets people in: make somebody else %(roles)s first",
                    email=row.email,
                    roles=gettext(" or ").join(APPROVING_ROLES),
                )
            )


# --- rows


async def _row(user_id: int) -> UserRow:
    row = await UserRow.get_or_none(id=user_id)
    if row is None:
        raise RegistryError(gettext("there is no person %(number)s", number=user_id))
    return row


async def _note(
    journal: Journal,
    action: AuditAction,
    row: UserRow,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    await journal.note(action, "user", row.id, row.factory_id, before=before, after=after)


async def _touch(row: SessionRow | ApiTokenRow, now: datetime) -> None:
    if row.last_used_at is None or now - row.last_used_at >= TOUCH_EVERY:
        with suppress(BaseORMException):  # a disk that is full must not keep people out
            await type(row).filter(id=row.id).update(last_used_at=now)


def _values(row: UserRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _USER}


def user_of(row: UserRow) -> User:
    """A person as the program knows one."""
    return User(
        row.id,
        row.email,
        row.first_name,
        row.last_name,
        Role(row.role),
        row.factory_id,
        UserStatus(row.status),
        row.phone_number,
        row.locale,
        row.created_at,
    )


def _session(row: SessionRow) -> Session:
    return Session(row.id, row.created_at, row.expires_at, row.last_used_at, row.address, row.user_agent)


def _token(row: ApiTokenRow) -> ApiToken:
    return ApiToken(
        row.id,
        row.user_id,
        row.name,
        frozenset(Scope(scope) for scope in row.scopes.split(",")),
        row.created_at,
        row.expires_at,
        row.last_used_at,
        row.prefix,
    )
