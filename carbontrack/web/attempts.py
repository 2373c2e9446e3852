"""Limits on guessing: how often something may be tried, or go wrong, by account and by address.

Each process counts in its own memory. With ``redis.url`` all processes of a site count together in Redis as well; while
it is away each goes on with what it has counted itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Literal

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from carbontrack.metrics import Metrics
from carbontrack.words import ngettext

log = structlog.get_logger(__name__)

Name = Literal["sign_in", "register", "reset_request", "code_tries", "token_guess", "device"]
Counted = Sequence[tuple[RateLimitItem, tuple[str, str, str]]]


@dataclass(frozen=True, slots=True)
class Limit:
    """So often within so long, from the first time on: for each account, and for each address."""

    per_account: str = ""
    per_address: str = ""


LIMITS: Mapping[Name, Limit] = {
    "sign_in": Limit(per_account="10 per 5 minutes", per_address="60 per 5 minutes"),
    "register": Limit(per_address="10 per hour"),
    "reset_request": Limit(per_account="3 per hour", per_address="20 per hour"),
    "code_tries": Limit(per_account="5 per 15 minutes"),
    "token_guess": Limit(per_address="60 per 5 minutes"),
    "device": Limit(per_account="10 per 5 minutes"),
}
REDIS_TIMEOUT_S = 1.0
REDIS_CHECK_S = 5.0
AWAY = "Redis does not answer: each process counts attempts at guessing by itself."


class TooManyAttempts(Exception):
    """Something was tried too often; ``retry_after_s`` says when to come back."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            ngettext(
                "Too many attempts. Try again in %(num)s second.",
                "Too many attempts. Try again in %(num)s seconds.",
                retry_after_s,
            )
        )
        self.retry_after_s = retry_after_s


class Attempts:
    """Counts attempts and refuses what is too many. :func:`counted_attempts` makes one.

    ``problem`` says what is wrong; it is empty while all is well.
    """

    def __init__(self, metrics: Metrics, redis: RedisStorage | None = None) -> None:
        self.problem = ""
        self._metrics = metrics
        self._redis = redis
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._shared = FixedWindowRateLimiter(redis) if redis is not None else None

    async def check(self, name: Name, *, account: str | None = None, address: str | None = None) -> None:
        """Raise :class:`TooManyAttempts` when so much has been counted that there may be no further attempt."""
        counted = _counted(name, account, address)
        self._refuse(name, await self._everywhere(lambda limiter: _wait_s(limiter, counted)))

    async def count(self, name: Name, *, account: str | None = None, address: str | None = None) -> None:
        """Count one attempt, for what counts only when it has gone wrong."""
        counted = _counted(name, account, address)
        await self._everywhere(lambda limiter: _hit(limiter, counted))

    async def take(self, name: Name, *, account: str | None = None, address: str | None = None) -> None:
        """Count one attempt, and raise :class:`TooManyAttempts` if it is one too many."""
        counted = _counted(name, account, address)
        self._refuse(name, await self._everywhere(lambda limiter: _hit(limiter, counted)))

    async def keep(self) -> None:
        """Look every few seconds whether Redis is there; until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(REDIS_CHECK_S)

    async def look(self) -> None:
        """See whether Redis is there."""
        if self._redis is not None:
            self._told("" if await self._redis.check() else AWAY)

    def _refuse(self, name: Name, waits_s: list[int]) -> None:
        if any(waits_s):
            self._metrics.attempts_refused.labels(name).inc()
            raise TooManyAttempts(max(waits_s))

    async def _everywhere(self, work: Callable[[FixedWindowRateLimiter], Awaitable[int]]) -> list[int]:
        """Do something with our own counters, and with those of Redis while it is there."""
        done = [await work(self._own)]
        if self._shared is not None and not self.problem:
            try:
                done.append(await work(self._shared))
            except StorageError:
                self._told(AWAY)
        return done

    def _told(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("redis is away, attempts are counted by each process alone")
        elif self.problem and not problem:
            log.info("redis is back")
        self.problem = problem
        self._metrics.attempts_shared.set(not problem)


@asynccontextmanager
async def counted_attempts(metrics: Metrics, redis_url: str | None = None) -> AsyncIterator[Attempts]:
    """Limits until the block ends. A Redis that is not there keeps nobody from starting."""
    if redis_url is None:
        yield Attempts(metrics)
        return
    from redis.asyncio import ConnectionPool  # noqa: PLC0415  # slow to import, and most sites have none
    from redis.asyncio.retry import Retry  # noqa: PLC0415  # as above
    from redis.backoff import NoBackoff  # noqa: PLC0415  # as above

    pool = ConnectionPool.from_url(
        redis_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # somebody waits; our own counters answer at once
    )
    try:
        storage = RedisStorage(
            redis_url,
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="carbontrack",
            connection_pool=pool,  # type: ignore[arg-type]  # as its documentation says; the annotation forgets it
        )
        attempts = Attempts(metrics, storage)
        await attempts.look()
        yield attempts
    finally:
        await pool.aclose()


def _counted(name: Name, account: str | None, address: str | None) -> Counted:
    """What an attempt counts against: the rates, and by which key."""
    limit = LIMITS[name]
    found = []
    if limit.per_account and account is not None:
        # Text of a stranger, and somebody's e-mail address: Redis gets neither.
        digest = hashlib.sha256(account.strip().lower().encode("utf-8", "replace")).hexdigest()
        found.append((parse(limit.per_account), (name, "account", digest)))
    if limit.per_address and address is not None:
        found.append((parse(limit.per_address), (name, "address", _block(address))))
    return found


def _block(address: str) -> str:
    """What counts as one address: of IPv6 its /64, which is the smallest that a customer gets."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((int(found), 64), strict=False)) if isinstance(found, IPv6Address) else address


async def _wait_s(limiter: FixedWindowRateLimiter, counted: Counted) -> int:
    """How long to wait, in s; 0 where there is no need to."""
    return max(
        [await _rest_s(limiter, item, key) for item, key in counted if not await limiter.test(item, *key)] or [0]
    )


async def _hit(limiter: FixedWindowRateLimiter, counted: Counted) -> int:
    """The same, with one attempt more."""
    return max([await _rest_s(limiter, item, key) for item, key in counted if not await limiter.hit(item, *key)] or [0])


async def _rest_s(limiter: FixedWindowRateLimiter, item: RateLimitItem, key: tuple[str, str, str]) -> int:
    window = await limiter.get_window_stats(item, *key)
    return max(1, math.ceil(window.reset_time - time.time()))
