"""People, and all that they sign in with. Everything here holds on both engines."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbontrack.metrics import Metrics
from carbontrack.model import AuditAction, EarlierRequest, Origin, Role, Scope, User, UserStatus
from carbontrack.store import RegistryError, Store, open_store
from tests.support.world import NOON, factory

pytest_plugins = ["tests.support.world"]

LATER = NOON + timedelta(minutes=5)
SOON = timedelta(hours=1)
HQ = Origin("hq@example.org", "192.0.2.7", 1)

_examples = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = count(1)

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


async def add(store: Store, role: Role = Role.HQ_MANAGER, **changed: Any) -> User:
    """Another person."""
    return await store.add_user(f"person-{next(_numbers)}@example.org", "hash", role, **changed)


async def actions(store: Store) -> list[str]:
    """What the audit log says, newest first."""
    return [event.action for event in await store.audit_events()]


class TestPeople:
    async def test_a_person_is_found_by_address_whatever_its_case(self, store: Store) -> None:
        user = await store.add_user(
            " Amina@Example.org ", "hash", Role.HQ_MANAGER, first_name="Amina", last_name="Wanjiru"
        )

        assert await store.user_by_email("AMINA@example.org") == (user, "hash")
        assert (user.email, user.role, user.factory_id) == ("amina@example.org", Role.HQ_MANAGER, None)
        assert (user.first_name, user.last_name) == ("Amina", "Wanjiru")

    async def test_an_address_is_taken_once_whatever_its_case(self, store: Store) -> None:
        await store.add_user("amina@example.org", "hash", Role.AUDITOR)

        with pytest.raises(RegistryError, match="registered already"):
            await store.add_user("Amina@Example.org", "hash", Role.OPERATOR)

    async def test_a_person_of_a_factory_needs_that_factory(self, store: Store) -> None:
        with pytest.raises(RegistryError, match="no such factory"):
            await store.add_user("amina@example.org", "hash", Role.FACTORY_CLERK, factory_id=4711)

    async def test_an_address_that_is_too_long_is_refused_and_no_outage(self, store: Store) -> None:
        with pytest.raises(RegistryError):
            await store.add_user(f"{'a' * 200}@example.org", "hash", Role.AUDITOR)

    async def test_nobody_is_found_by_an_address_that_is_not_there(self, store: Store) -> None:
        assert await store.user_by_email("nobody@example.org") is None

    async def test_a_new_password_replaces_the_old(self, store: Store) -> None:
        user = await store.add_user("amina@example.org", "old", Role.AUDITOR)

        await store.set_password_hash(user.id, "new")

        assert await store.user_by_email("amina@example.org") == (user, "new")

    async def test_a_new_password_ends_all_sessions_but_the_one_that_it_was_set_in(self, store: Store) -> None:
        user = await add(store)
        for token in ("here", "elsewhere", "on a lost phone"):
            await store.add_session(token, user.id, LATER)

        await store.set_password_hash(user.id, "new", keep_session="here")

        assert await store.session_user("here", NOON) == user
        assert await store.session_user("elsewhere", NOON) is None
        assert await store.session_user("on a lost phone", NOON) is None

    async def test_a_costlier_hash_of_the_same_password_signs_nobody_out(self, store: Store) -> None:
        user = await add(store)
        await store.add_session("token", user.id, LATER)
        before = await actions(store)

        await store.renew_password_hash(user.id, "hash", "costlier")
        await store.renew_password_hash(user.id, "not the one that is kept", "of somebody else")

        assert await store.user_by_email(user.email) == (user, "costlier")
        assert await store.session_user("token", NOON) == user
        assert await actions(store) == before

    async def test_a_change_changes_what_is_given_and_nothing_else(self, store: Store) -> None:
        kangaita = await store.add_factory(factory())
        user = await add(store, Role.FACTORY_CLERK, factory_id=kangaita.id, first_name="Amina", phone_number="+254 700")

        changed = await store.change_user(user.id, role=Role.FACTORY_MANAGER, locale="sw")

        assert (changed.role, changed.locale, changed.factory_id) == (Role.FACTORY_MANAGER, "sw", kangaita.id)
        assert (changed.first_name, changed.phone_number, changed.status) == ("Amina", "+254 700", UserStatus.ACTIVE)
        assert await store.user(user.id) == changed

    async def test_a_role_that_sees_every_factory_takes_the_factory_away(self, store: Store) -> None:
        kangaita = await store.add_factory(factory())
        user = await add(store, Role.FACTORY_CLERK, factory_id=kangaita.id)

        assert (await store.change_user(user.id, role=Role.AUDITOR)).factory_id is None
        with pytest.raises(RegistryError, match=r"factory_clerk belongs to a factory"):
            await store.change_user(user.id, role=Role.FACTORY_CLERK)
        with pytest.raises(RegistryError, match="sees every factory"):
            await store.change_user(user.id, factory_id=kangaita.id)
        with pytest.raises(RegistryError, match="no such factory"):
            await store.change_user(user.id, role=Role.FACTORY_CLERK, factory_id=4711)
        assert (await store.user(user.id) or user).role is Role.AUDITOR

    @pytest.mark.parametrize(
        "wrong", [{"locale": "tlh"}, {"first_name": "A" * 81}, {"last_name": "Wan\0jiru"}, {"phone_number": "1\n2"}]
    )
    async def test_what_cannot_be_kept_of_a_person_is_refused(self, store: Store, wrong: dict[str, Any]) -> None:
        user = await add(store)

        with pytest.raises(RegistryError):
            await store.change_user(user.id, **wrong)

        assert await store.user(user.id) == user

    async def test_people_are_listed_by_status_role_factory_and_address(self, store: Store) -> None:
        kangaita = await store.add_factory(factory())
        clerk = await add(store, Role.FACTORY_CLERK, factory_id=kangaita.id, status=UserStatus.PENDING)
        auditor = await add(store, Role.AUDITOR)

        assert await store.users() == sorted([clerk, auditor], key=lambda user: user.email)
        assert await store.users(status=UserStatus.PENDING) == [clerk]
        assert await store.users(role=Role.AUDITOR) == [auditor]
        assert await store.users(factory_id=kangaita.id) == [clerk]
        assert await store.users(email=clerk.email.upper()) == [clerk]
        assert await store.users(role=Role.AUDITOR, status=UserStatus.PENDING) == []


class TestStatus:
    async def test_who_has_asked_to_be_let_in_signs_in_when_somebody_says_so(self, store: Store) -> None:
        user = await add(store, status=UserStatus.PENDING, by=Origin("new@example.org"))
        assert await store.user_by_email(user.email) is None

        approved = await store.change_user(user.id, status=UserStatus.ACTIVE, by=HQ)

        assert await store.user_by_email(user.email) == (approved, "hash")
        assert await actions(store) == [AuditAction.USER_APPROVED, AuditAction.USER_ADDED]

    async def test_who_is_disabled_is_out_at_once_and_signs_in_anew_later(self, store: Store) -> None:
        await add(store)
        user = await add(store)
        await store.add_session("token", user.id, LATER)
        await store.add_api_token("hash", "ct_abc", user.id, "script", frozenset({Scope.READ}))
        await store.add_code(user.id, "reset", "code", LATER)

        await store.change_user(user.id, status=UserStatus.DISABLED)
        assert await store.session_user("token", NOON) is None
        assert await store.api_token_user("hash", NOON) is None
        assert await store.user_by_email(user.email) is None
        assert not await store.use_code(user.id, "reset", "code", NOON)

        await store.change_user(user.id, status=UserStatus.ACTIVE)
        assert await store.session_user("token", NOON) is None, "an old session does not come back"
        assert await store.api_token_user("hash", NOON) is not None, "a program goes on"

    async def test_only_who_was_never_let_in_is_deleted(self, store: Store) -> None:
        pending, active = await add(store, status=UserStatus.PENDING), await add(store)

        await store.remove_user(pending.id)
        with pytest.raises(RegistryError, match="disable the account instead"):
            await store.remove_user(active.id)
        with pytest.raises(RegistryError, match="not pending again"):
            await store.change_user(active.id, status=UserStatus.PENDING)

        assert await store.users() == [active]

    @pytest.mark.parametrize("change", [{"status": UserStatus.DISABLED}, {"role": Role.OPERATOR}])
    async def test_the_last_one_who_lets_people_in_stays(self, store: Store, change: dict[str, Any]) -> None:
        last = await add(store)
        await add(store, Role.AUDITOR)
        await add(store, status=UserStatus.PENDING)

        with pytest.raises(RegistryError, match="only one who lets people in"):
            await store.change_user(last.id, **change)

        await add(store)
        await store.change_user(last.id, **change)

    async def test_of_two_who_disable_each_other_one_stays(self, store: Store, database_url: str) -> None:
        people = [await add(store), await add(store)]
        async with open_store(database_url, Metrics()) as other:
            outcomes = await asyncio.gather(
                *(
                    it.change_user(user.id, status=UserStatus.DISABLED)
                    for it, user in zip((store, other), people, strict=True)
                ),
                return_exceptions=True,
            )

        assert [type(outcome) for outcome in outcomes].count(RegistryError) == 1
        assert len(await store.users(status=UserStatus.ACTIVE)) == 1


class TestSessions:
    async def test_a_session_is_its_persons_until_it_ends(self, store: Store) -> None:
        user = await store.add_user("amina@example.org", "hash", Role.AUDITOR)
        await store.add_session("token", user.id, NOON)

        assert await store.session_user("token", NOON - timedelta(microseconds=1)) == user
        assert await store.session_user("token", NOON) is None
        assert await store.session_user("other", NOON - timedelta(hours=1)) is None

    @given(ends=moments, now=moments, zone=st.sampled_from(["UTC", "Africa/Nairobi", "America/St_Johns"]))
    @_examples
    async def test_the_end_of_a_session_does_not_depend_on_zones(
        self, store: Store, ends: datetime, now: datetime, zone: str
    ) -> None:
        user = await store.add_user(f"name{next(_numbers)}@example.org", "hash", Role.AUDITOR)
        token = f"token of {user.id}"
        await store.add_session(token, user.id, ends.astimezone(ZoneInfo(zone)))

        assert await store.session_user(token, now) == (user if now < ends else None)

    async def test_a_session_that_was_ended_is_nobodys(self, store: Store) -> None:
        user = await store.add_user("amina@example.org", "hash", Role.AUDITOR)
        await store.add_session("token", user.id, NOON)

        await store.delete_session("token")
        await store.delete_session("token")

        assert await store.session_user("token", NOON - timedelta(hours=1)) is None
        assert await actions(store) == [AuditAction.USER_SIGNED_OUT, AuditAction.USER_ADDED]

    async def test_a_person_sees_where_sessions_are_open_and_ends_them(self, store: Store) -> None:
        user, other = await add(store), await add(store)
        for number, agent in enumerate(("Firefox", "x" * 300)):
            begun = NOON + number * timedelta(minutes=1)
            await store.add_session(f"{number}", user.id, LATER, address="192.0.2.7", user_agent=agent, now=begun)
        await store.add_session("of another", other.id, LATER, now=NOON)
        await store.add_session("ended", user.id, NOON, now=NOON - SOON)

        newest, oldest = await store.sessions(user.id, NOON)
        assert (oldest.user_agent, oldest.address, oldest.created_at, oldest.expires_at) == (
            "Firefox", "192.0.2.7", NOON, LATER,
        )  # fmt: skip
        assert newest.user_agent == "x" * 200

        assert not await store.end_session(other.id, oldest.id), "it is not that person's"
        assert await store.end_session(user.id, oldest.id)
        assert await store.sessions(user.id, NOON) == [newest]
        assert await store.end_sessions(user.id, keep_session="1") == 1, "the one that has ended already"
        assert await store.end_sessions(user.id) == 1
        assert await store.session_user("1", NOON) is None
        assert await store.session_user("of another", NOON) == other

    async def test_a_request_writes_when_a_session_was_used_last_once_a_minute_and_no_more(self, store: Store) -> None:
        user = await add(store)
        await store.add_session("token", user.id, LATER, now=NOON)

        for seconds, known in ((59, 0), (60, 60), (90, 60), (121, 121)):
            await store.session_user("token", NOON + timedelta(seconds=seconds))
            (session,) = await store.sessions(user.id, NOON)
            assert session.last_used_at == NOON + timedelta(seconds=known)

    async def test_sessions_that_ended_are_forgotten_and_the_others_stay(self, store: Store) -> None:
        user = await store.add_user("amina@example.org", "hash", Role.AUDITOR)
        await store.add_session("ended", user.id, NOON)
        await store.add_session("open", user.id, NOON + timedelta(hours=1))

        await store.forget_sessions(NOON)

        long_ago = NOON - timedelta(days=1)
        assert await store.session_user("ended", long_ago) is None
        assert await store.session_user("open", long_ago) == user


class TestApiTokens:
    async def test_a_program_comes_in_by_a_token_with_its_scopes(self, store: Store) -> None:
        user = await add(store)

        token = await store.add_api_token(
            "hash", "ct_abcd", user.id, " nightly export ", frozenset({Scope.REPORTS, Scope.READ}), by=HQ, now=NOON
        )

        assert token.name == "nightly export"
        assert token.scopes == {Scope.READ, Scope.REPORTS}
        assert (token.prefix, token.expires_at, token.last_used_at) == ("ct_abcd", None, None)
        assert await store.api_token_user("hash", LATER) == (user, token)
        assert await store.api_token_user("other", LATER) is None
        (used,) = await store.api_tokens(user.id)
        assert used.last_used_at == LATER

    async def test_a_token_ends_at_its_time_or_when_it_is_revoked(self, store: Store) -> None:
        user, other = await add(store), await add(store)
        scopes = frozenset({Scope.READ})
        await store.add_api_token("short", "ct_1", user.id, "short", scopes, LATER, now=NOON)
        long = await store.add_api_token("long", "ct_2", user.id, "long", scopes, now=NOON)

        assert await store.api_token_user("short", LATER - timedelta(microseconds=1)) is not None
        assert await store.api_token_user("short", LATER) is None
        assert not await store.revoke_api_token(long.id, other.id), "it is not that person's"
        assert await store.revoke_api_token(long.id, user.id)
        assert not await store.revoke_api_token(long.id)
        assert await store.api_token_user("long", NOON) is None
        assert [token.name for token in await store.api_tokens()] == ["short"]

    async def test_a_token_that_makes_no_sense_is_refused(self, store: Store) -> None:
        user, pending = await add(store), await add(store, status=UserStatus.PENDING)
        read = frozenset({Scope.READ})

        for user_id, name, scopes, expires_at in (
            (user.id, " ", read, None),
            (user.id, "script", frozenset[Scope](), None),
            (user.id, "script", read, NOON),
            (user.id, "scr\0ipt", read, None),
            (pending.id, "script", read, None),
            (4711, "script", read, None),
        ):
            with pytest.raises(RegistryError):
                await store.add_api_token("hash", "ct_1", user_id, name, scopes, expires_at, now=NOON)
        assert await store.api_tokens() == []


class TestOneTimeCodes:
    async def test_a_code_is_good_once_for_its_purpose_and_its_person(self, store: Store) -> None:
        user, other = await add(store), await add(store)
        await store.add_code(user.id, "reset", "code", LATER)

        assert not await store.use_code(other.id, "reset", "code", NOON)
        assert not await store.use_code(user.id, "something else", "code", NOON)
        assert not await store.use_code(user.id, "reset", "code", LATER), "it has ended"
        assert await store.use_code(user.id, "reset", "code", NOON)
        assert not await store.use_code(user.id, "reset", "code", NOON)

    async def test_a_new_code_ends_the_one_before(self, store: Store) -> None:
        user = await add(store)
        for code in ("first", "second"):
            await store.add_code(user.id, "reset", code, LATER)

        assert not await store.use_code(user.id, "reset", "first", NOON)
        assert await store.use_code(user.id, "reset", "second", NOON)

    async def test_five_wrong_codes_end_the_right_one_however_many_are_tried_at_once(self, store: Store) -> None:
        user = await add(store)
        await store.add_code(user.id, "reset", "code", LATER)

        wrong = [store.use_code(user.id, "reset", f"guess {number}", NOON) for number in range(8)]
        assert not any(await asyncio.gather(*wrong))

        assert not await store.use_code(user.id, "reset", "code", NOON)

    async def test_of_many_who_use_a_code_at_once_one_may(self, store: Store, database_url: str) -> None:
        user = await add(store)
        await store.add_code(user.id, "reset", "code", LATER)
        async with open_store(database_url, Metrics()) as other:
            used = await asyncio.gather(
                *(it.use_code(user.id, "reset", "code", NOON) for it in (store, other) for _ in range(4))
            )

        assert used.count(True) == 1


class TestIdempotencyKeys:
    async def test_what_was_answered_is_answered_again_for_a_day(self, store: Store) -> None:
        user, other = await add(store), await add(store)
        assert await store.begin_request(user.id, "key", "ab", NOON) is None
        assert await store.begin_request(user.id, "key", "ab", NOON) == EarlierRequest("ab", None, "")
        assert await store.begin_request(other.id, "key", "ab", NOON) is None, "another person's key is another one"

        await store.finish_request(user.id, "key", 201, '{"id": 1}')

        almost = NOON + timedelta(hours=23, minutes=59)
        assert await store.begin_request(user.id, "key", "cd", almost) == EarlierRequest("ab", 201, '{"id": 1}')
        assert await store.begin_request(user.id, "key", "cd", NOON + timedelta(hours=24)) is None

    async def test_a_request_that_came_to_nothing_may_come_again(self, store: Store) -> None:
        user = await add(store)
        await store.begin_request(user.id, "failed", "ab", NOON)
        await store.drop_request(user.id, "failed")
        await store.begin_request(user.id, "abandoned", "ab", NOON)

        assert await store.begin_request(user.id, "failed", "ab", NOON) is None
        assert await store.begin_request(user.id, "abandoned", "ab", NOON + timedelta(minutes=4)) is not None
        assert await store.begin_request(user.id, "abandoned", "ab", NOON + timedelta(minutes=5)) is None

    async def test_of_many_that_come_at_once_one_is_done(self, store: Store) -> None:
        user = await add(store)

        outcomes = await asyncio.gather(*(store.begin_request(user.id, "key", "ab", NOON) for _ in range(8)))

        assert outcomes.count(None) == 1

    async def test_old_answers_and_codes_are_forgotten_with_the_sessions(self, store: Store) -> None:
        user = await add(store)
        await store.add_code(user.id, "reset", "code", NOON)
        await store.begin_request(user.id, "old", "ab", NOON - timedelta(hours=24))
        await store.begin_request(user.id, "new", "ab", NOON)

        await store.forget_sessions(NOON)

        long_ago = NOON - timedelta(hours=24)
        assert not await store.use_code(user.id, "reset", "code", long_ago)
        assert await store.begin_request(user.id, "old", "ab", long_ago) is None
        assert await store.begin_request(user.id, "new", "ab", NOON) is not None
