"""Limits on guessing: by account and by address, in memory and in Redis, and never none at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from carbontrack.metrics import Metrics
from carbontrack.web.attempts import AWAY, LIMITS, Attempts, TooManyAttempts, counted_attempts
from tests.support.redis import Redis
from tests.support.web import PASSWORD, Portal, running_portal
from tests.support.world import sample

HERE, THERE = "203.0.113.7", "203.0.113.8"
WORST = {"email": "hq@example.org", "password": "wrong"}
RIGHT = {"email": "hq@example.org", "password": PASSWORD}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def attempts(metrics: Metrics) -> AsyncIterator[Attempts]:
    async with counted_attempts(metrics) as running:
        yield running


async def refused(attempts: Attempts, account: str = "a@example.org", address: str = HERE) -> bool:
    try:
        await attempts.check("sign_in", account=account, address=address)
    except TooManyAttempts:
        return True
    return False


async def fail(attempts: Attempts, times: int, account: str = "a@example.org", address: str = HERE) -> None:
    for _ in range(times):
        await attempts.count("sign_in", account=account, address=address)


async def test_an_account_is_closed_after_its_failures_from_wherever_they_came(attempts: Attempts) -> None:
    for number in range(10):
        assert not await refused(attempts)
        await fail(attempts, 1, address=f"198.51.100.{number}")
    assert await refused(attempts)
    assert await refused(attempts, " A@Example.ORG "), "however it is written"
    assert not await refused(attempts, "b@example.org")


async def test_an_address_is_closed_after_its_failures_at_whatever_accounts(attempts: Attempts) -> None:
    for number in range(60):
        assert not await refused(attempts, "another@example.org")
        await fail(attempts, 1, f"{number}@example.org")
    assert await refused(attempts, "another@example.org")
    assert not await refused(attempts, "another@example.org", THERE)


async def test_the_addresses_of_one_ipv6_line_count_as_one(attempts: Attempts) -> None:
    for number in range(60):
        await fail(attempts, 1, f"{number}@example.org", f"2001:db8:1:2::{number:x}")
    assert await refused(attempts, address="2001:db8:1:2:ffff::1")
    assert not await refused(attempts, address="2001:db8:1:3::1")


async def test_it_opens_again_when_the_time_is_over_that_was_told(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000_000_000.0
    monkeypatch.setattr("time.time", lambda: now_s)
    await fail(attempts, 9)
    now_s += 120.5
    await fail(attempts, 1)
    with pytest.raises(TooManyAttempts) as caught:
        await attempts.check("sign_in", account="a@example.org", address=HERE)
    assert caught.value.retry_after_s == 180, "five minutes from the first one on"
    assert str(caught.value) == "Too many attempts. Try again in 180 seconds."
    now_s += 179
    assert await refused(attempts)
    now_s += 1
    assert not await refused(attempts)


async def test_what_is_taken_counts_and_is_refused_at_once(attempts: Attempts, metrics: Metrics) -> None:
    for _ in range(3):
        await attempts.take("reset_request", account="a@example.org", address=HERE)
    with pytest.raises(TooManyAttempts):
        await attempts.take("reset_request", account="a@example.org", address=HERE)
    assert sample(metrics, "carbontrack_attempts_refused_total", limit="reset_request") == 1
    await attempts.take("reset_request", account="b@example.org", address=HERE)


@given(account=st.text(), address=st.text())
def test_whatever_a_stranger_sends_is_counted(account: str, address: str) -> None:
    async def closes() -> bool:
        attempts = Attempts(Metrics())
        await fail(attempts, 10, account, address)
        return await refused(attempts, account, address)

    assert asyncio.run(closes())


class TestRedis:
    async def test_processes_count_together(self, redis: Redis, metrics: Metrics) -> None:
        async with counted_attempts(metrics, redis.url) as one, counted_attempts(Metrics(), redis.url) as other:
            assert sample(metrics, "carbontrack_attempts_shared") == 1
            await fail(one, 5)
            await fail(other, 5)
            assert await refused(one)
            assert await refused(other)
        async with counted_attempts(metrics, redis.url) as restarted:
            assert await refused(restarted)

    async def test_it_gets_neither_e_mail_addresses_nor_keys_that_stay(self, redis: Redis, metrics: Metrics) -> None:
        async with counted_attempts(metrics, redis.url) as attempts:
            await fail(attempts, 1)
        keys = [line for line in redis.ask("KEYS", "*").splitlines() if line.startswith("carbontrack")]
        assert len(keys) == 2
        assert not [key for key in keys if "example.org" in key]
        for key in keys:
            assert 0 < int(redis.ask("TTL", key).strip().lstrip(":")) <= 300

    async def test_while_it_is_away_each_process_goes_on_by_itself(self, redis: Redis, metrics: Metrics) -> None:
        async with counted_attempts(metrics, redis.url) as attempts:
            await fail(attempts, 6)
            redis.stop()
            await fail(attempts, 3)
            assert attempts.problem == AWAY
            assert sample(metrics, "carbontrack_attempts_shared") == 0
            assert not await refused(attempts)
            await fail(attempts, 1)
            assert await refused(attempts), "with what it had counted itself before"
            redis.start()
            await attempts.look()
            assert attempts.problem == ""
            assert sample(metrics, "carbontrack_attempts_shared") == 1
            assert await refused(attempts), "a Redis that has forgotten everything opens nothing"

    async def test_a_redis_that_is_not_there_keeps_nobody_from_starting(self, redis: Redis, metrics: Metrics) -> None:
        redis.stop()
        async with counted_attempts(metrics, redis.url) as attempts:
            assert attempts.problem == AWAY
            await fail(attempts, 10)
            assert await refused(attempts)

    async def test_one_that_hangs_holds_nobody_up_for_long(
        self, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("carbontrack.web.attempts.REDIS_TIMEOUT_S", 0.1)
        hung_up = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await hung_up.wait()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5), counted_attempts(metrics, f"redis://127.0.0.1:{port}") as attempts:
            assert attempts.problem == AWAY
            await fail(attempts, 10)
            assert await refused(attempts)
        hung_up.set()
        server.close()
        await server.wait_closed()


@pytest.fixture
async def portal(tmp_path: Path) -> AsyncIterator[Portal]:
    async with running_portal(f"sqlite://{tmp_path / 'web.sqlite3'}", metrics_token="metrics") as running:
        yield running


async def test_of_many_guesses_at_once_no_more_are_tried_than_one_after_the_other(portal: Portal) -> None:
    client = portal.client()
    answers = await asyncio.gather(*(client.post("/api/login/", json=WORST) for _ in range(40)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(401) <= 11, "ten, and one that was checked beside the tenth"
    assert statuses.count(401) + statuses.count(429) == 40
    answer = await client.post("/api/login/", json=RIGHT)
    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    assert answer.headers["Content-Type"].startswith("application/problem+json")


@pytest.mark.parametrize("path", ["/api/me/", "/", "/metrics"])
async def test_guessing_tokens_is_limited_and_a_right_one_goes_on(portal: Portal, path: str) -> None:
    program = await portal.signed_in("hq@example.org")
    client = portal.client()
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(60):
        assert (await client.get(path, headers=wrong, allow_redirects=False)).status in {401, 303}
    answer = await client.get(path, headers=wrong, allow_redirects=False)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert (await program.get("/api/me/")).status == 200
    assert (await client.get("/metrics", headers={"Authorization": "Bearer metrics"})).status == 200
    assert (await client.get("/healthz")).status == 200


async def test_a_browser_whose_session_has_ended_guesses_nothing(portal: Portal) -> None:
    client = portal.client()
    for _ in range(70):
        answer = await client.get("/api/me/", headers={"Cookie": "carbontrack_session=old"})
        assert answer.status == 401


def test_every_limit_is_in_the_document() -> None:
    document = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    for name, limit in LIMITS.items():
        row = f"| `{name}` | {limit.per_account or '-'} | {limit.per_address or '-'} |"
        assert row in document, row
        assert all(parse(text) for text in (limit.per_account, limit.per_address) if text)
