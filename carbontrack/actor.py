"""An actor: one task, one bounded mailbox of two lanes, one failure policy. It knows nothing of devices.

The life of an actor is ``on_start -> [handle | on_idle]* -> on_stop``. ``tell`` never waits: a message that does not
fit is refused. Control messages always fit. Stopping is a message too, so what was told before it is handled first.

What escapes ``handle`` is retried: back off, ``on_start`` again, and the same messages once more (handling must be
idempotent). After ``max_failures`` in a row the actor parks: it stays, refuses messages and waits for :meth:`revive`.
An error that :meth:`Actor.is_outage` calls an outage (the database is away) is retried for ever and never parks.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

import structlog

M = TypeVar("M")
log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LONGEST_OUTAGE_BACKOFF_S = 5.0
"""What all actors share is away: to ask for it costs little, and until it is found again every device waits."""
LATER_AT_ONCE = 16
"""Messages of the second lane that are handled before the first lane is looked at again."""


class ActorState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    STOPPED = "stopped"


class Actor(Generic[M]):
    """Base class: subclasses give ``handle`` and, where needed, ``on_start``, ``on_idle`` and ``on_stop``."""

    __slots__ = (
        "_control",
        "_idle_is_due",
        "_idle_timer",
        "_passed_over",
        "_stopping",
        "_task",
        "_waiter",
        "fails_alone",
        "failures",
        "idle_after_s",
        "last_error",
        "later",
        "mailbox",
        "mailbox_size",
        "max_failures",
        "name",
        "state",
    )

    def __init__(self, name: str, *, mailbox_size: int, idle_after_s: float, max_failures: int) -> None:
        self.name = name
        self.mailbox: deque[M] = deque()
        self.later: deque[M] = deque()
        """The second lane: what waits while something is in the first, but for one turn at most."""
        self.mailbox_size = mailbox_size
        self.idle_after_s = idle_after_s
        self.max_failures = max_failures
        self.state = ActorState.STARTING
        self.failures = 0
        self.fails_alone = False
        """Whether the last failure was its own, and nobody else has it."""
        self.last_error = ""
        self._control: deque[M] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_is_due = False
        self._passed_over = False
        """Whether the second lane had to wait at the last turn."""
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # --- what others call: none of it waits, but for stop()

    def start(self) -> None:
        """Begin to run as a named task of the current loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"actor:{self.name}")

    def tell(self, message: M, *, later: bool = False) -> bool:
        """Leave a message in the first lane or in the second; False when that is full or the actor is parked."""
        lane = self.later if later else self.mailbox
        if len(lane) >= self.mailbox_size or self.state is ActorState.PARKED or self._stopping:
            return False
        lane.append(message)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return True

    def control(self, message: M) -> None:
        """Leave a message that always fits and is handled before the mailbox."""
        self._control.append(message)
        self._wake()

    def revive(self) -> None:
        """Take a parked actor back to work."""
        if self.state is ActorState.PARKED:
            self.failures = 0
            self.state = ActorState.STARTING
            self._wake()

    async def stop(self) -> None:
        """Let the actor handle what waits, then end it. An actor that is backing off or parked ends at once."""
        self._stopping = True
        if self._task is None:
            self.state = ActorState.STOPPED
            return
        if self.state in (ActorState.BACKING_OFF, ActorState.PARKED):
            self._task.cancel()
        self._wake()
        task = self._task
        await asyncio.gather(task, return_exceptions=True)
        if self._task is task:  # however often it was asked to stop
            self._task = None
            await self.on_stop()

    # --- what subclasses give

    async def on_start(self) -> None:
        """Called before the first message and again after each failure."""

    async def handle(self, messages: list[M]) -> None:
        """Called with all that waits, oldest first. Must be idempotent."""
        raise NotImplementedError

    async def on_idle(self) -> None:
        """Called about every ``idle_after_s`` seconds, whether or not messages come."""

    async def on_stop(self) -> None:
        """Called once at the end, after the last message."""

    def be_idle_in(self, seconds: float) -> None:
        """Have :meth:`on_idle` called once more, so soon."""
        asyncio.get_running_loop().call_later(seconds, self._be_idle)

    def log_context(self) -> Mapping[str, str]:
        """What every line of the log says that is written by this actor."""
        return {"actor": self.name}

    def is_turning_point(self, message: M) -> bool:  # noqa: ARG002  # for subclasses
        """Whether what came before a message must be handled before it, in whatever lane it waits."""
        return False

    def is_outage(self, error: Exception) -> bool:  # noqa: ARG002  # for subclasses
        """Whether an error is the fault of something that all actors share and that will come back."""
        return False

    def is_own_fault(self, error: Exception) -> bool:
        """Whether an error is this actor's alone."""
        return not self.is_outage(error)

    # --- the loop

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _run(self) -> None:  # one loop, which reads best in one piece
        loop = asyncio.get_running_loop()
        # Whoever started it, perhaps by a request, has lines of their own.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**self.log_context())
        taken: list[M] = []
        self._await_idle(loop)
        started = False
        try:
            while True:
                try:
                    if not started:
                        await self.on_start()
                        started = True
                        self.state = ActorState.RUNNING
                    taken = taken or self._take()
                    if taken:
                        await self.handle(taken)
                        taken = []
                    if self._idle_is_due:
                        self._await_idle(loop)
                        await self.on_idle()
                    self.failures = 0
                    self.fails_alone = False
                except Exception as error:  # noqa: BLE001  # the failure policy is for whatever it is
                    started = False
                    await self._fail(error)
                    if self._stopping:
                        return
                    continue
                if self._control or self.mailbox or self.later or self._idle_is_due:
                    continue
                if self._stopping:
                    return
                await self._wait()
        finally:
            self.state = ActorState.STOPPED
            if self._idle_timer is not None:
                self._idle_timer.cancel()

    def _take(self) -> list[M]:
        """All that waits in the first lane; where nothing does, and at every second turn, some of the second.

        Where a turn takes longer than the next message takes to come, the first lane is never empty.
        """
        taken = [*self._control, *self.mailbox]
        self._control.clear()
        self.mailbox.clear()
        if self.later and any(map(self.is_turning_point, taken)):
            taken = [*self.later, *taken]
            self.later.clear()
        elif not taken or self._passed_over:
            taken += [self.later.popleft() for _ in range(min(len(self.later), LATER_AT_ONCE))]
            self._passed_over = False
        else:
            self._passed_over = bool(self.later)
        return taken

    def _await_idle(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_is_due = False
        self._idle_timer = loop.call_later(self.idle_after_s, self._be_idle)

    def _be_idle(self) -> None:
        # A flag rather than a look at the clock: a timer may fire a little before its time, and fires once.
        self._idle_is_due = True
        self._wake()

    async def _fail(self, error: Exception) -> None:
        """Back off, or park after too many failures in a row; each is logged when it begins, not when it repeats."""
        self.failures += 1
        self.fails_alone = self.is_own_fault(error)
        self.last_error = f"{type(error).__name__}: {error}"
        if self.failures == 1:
            # All actors have an outage at once: one line each is enough.
            told = None if self.is_outage(error) else error
            log.warning("actor failed, will retry", error=self.last_error, exc_info=told)
        if self._stopping:
            return
        if self.failures >= self.max_failures and not self.is_outage(error):
            self.state = ActorState.PARKED
            log.error("actor parked", error=self.last_error, failures=self.failures)
            while self.state is ActorState.PARKED:
                await self._wait()
            return
        self.state = ActorState.BACKING_OFF
        most = LONGEST_OUTAGE_BACKOFF_S if self.is_outage(error) else LONGEST_BACKOFF_S
        longest = min(most, FIRST_BACKOFF_S * 2 ** min(self.failures - 1, 16))
        # Half fixed, half jitter: neighbours that failed together do not come back together.
        await asyncio.sleep(longest * (0.5 + 0.5 * random.random()))
