"""The life of an actor: what is told is handled in order, what fails is tried again, and what waits is not lost."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from carbontrack import actor as actor_module
from carbontrack.actor import Actor, ActorState

SOON_S = 5.0
"""How long a test waits for what comes within a few milliseconds when all is well."""


class Away(Exception):
    """Something that all actors share is not there."""


class Clerk(Actor[str]):
    """Writes down what happens to it; ``trouble`` is raised, oldest first, by the next calls of ``handle``."""

    def __init__(self, *, mailbox_size: int = 8, idle_after_s: float = 3600.0, max_failures: int = 3) -> None:
        super().__init__("clerk", mailbox_size=mailbox_size, idle_after_s=idle_after_s, max_failures=max_failures)
        self.turns: list[list[str]] = []
        self.life: list[str] = []
        self.trouble: list[Exception] = []
        self.start_trouble: list[Exception] = []
        self.gate: asyncio.Event | None = None

    @property
    def handled(self) -> list[str]:
        return [message for turn in self.turns for message in turn]

    async def on_start(self) -> None:
        self.life.append("start")
        if self.start_trouble:
            raise self.start_trouble.pop(0)

    async def handle(self, messages: list[str]) -> None:
        self.life.append("handle " + " ".join(messages))
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        self.turns.append(list(messages))

    async def on_idle(self) -> None:
        self.life.append("idle")

    async def on_stop(self) -> None:
        self.life.append("stop")

    def is_outage(self, error: Exception) -> bool:
        return isinstance(error, Away)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back-off takes one turn of the loop."""
    monkeypatch.setattr(actor_module, "FIRST_BACKOFF_S", 0.0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(SOON_S):
        while not condition():  # noqa: ASYNC110  # the actor under test has no event to wait for
            await asyncio.sleep(0)


async def settled(clerk: Clerk) -> None:
    """Let the loop turn until the actor waits for what comes next."""
    await until(lambda: clerk._waiter is not None)


class TestMessages:
    async def test_messages_are_handled_in_the_order_they_came(self) -> None:
        clerk = Clerk(mailbox_size=100)
        clerk.start()
        for number in range(50):
            assert clerk.tell(str(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await clerk.stop()

        assert clerk.handled == [str(number) for number in range(50)]

    async def test_all_that_waits_is_handled_in_one_turn(self) -> None:
        clerk = Clerk()
        for message in "abc":
            clerk.tell(message)
        clerk.start()
        await settled(clerk)

        assert clerk.turns == [["a", "b", "c"]]
        await clerk.stop()

    async def test_what_does_not_fit_is_refused_and_the_rest_is_kept(self) -> None:
        clerk = Clerk(mailbox_size=2)

        assert [clerk.tell(message) for message in "abc"] == [True, True, False]
        clerk.start()
        await settled(clerk)
        assert clerk.tell("d")
        await clerk.stop()

        assert clerk.handled == ["a", "b", "d"]

    async def test_control_messages_fit_into_a_full_mailbox_and_come_first(self) -> None:
        clerk = Clerk(mailbox_size=1)
        clerk.tell("a")
        clerk.control("settings")
        clerk.start()
        await clerk.stop()

        assert clerk.handled == ["settings", "a"]

    async def test_a_waiting_actor_is_woken_by_either(self) -> None:
        clerk = Clerk()
        clerk.start()
        await settled(clerk)
        clerk.control("settings")
        await until(lambda: clerk.handled == ["settings"])
        await settled(clerk)
        clerk.tell("a")
        await until(lambda: clerk.handled == ["settings", "a"])

        assert clerk.state is ActorState.RUNNING
        await clerk.stop()


class TestIdle:
    async def test_idle_is_called_again_and_again_in_silence(self) -> None:
        clerk = Clerk(idle_after_s=0.001)
        clerk.start()
        await until(lambda: clerk.life.count("idle") >= 3)

        await clerk.stop()
        assert clerk.handled == []

    async def test_idle_is_called_while_messages_come(self) -> None:
        clerk = Clerk(idle_after_s=0.001)
        clerk.start()

        def keep_busy() -> bool:
            clerk.tell("a")
            return clerk.life.count("idle") >= 3

        await until(keep_busy)
        await clerk.stop()
        assert len(clerk.turns) > 3

    async def test_idle_is_called_after_a_failure_too(self) -> None:
        clerk = Clerk(idle_after_s=0.001)
        clerk.trouble = [Away()] * 20
        clerk.tell("a")
        clerk.start()

        await until(lambda: clerk.handled == ["a"] and "idle" in clerk.life)
        await clerk.stop()

    @pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="there is no uvloop for Windows")
    def test_idle_is_called_in_silence_on_the_loop_of_production(self) -> None:
        """There timers are rounded to milliseconds, so one may ring a little before its time."""
        import uvloop  # noqa: PLC0415  # see above

        async def three_idles() -> None:
            clerk = Clerk(idle_after_s=0.0014)
            clerk.start()
            done = asyncio.get_running_loop().create_future()

            async def on_idle() -> None:
                clerk.life.append("idle")
                if clerk.life.count("idle") == 20:
                    done.set_result(None)

            clerk.on_idle = on_idle  # type: ignore[method-assign]  # asking in a loop would keep the clock going
            await asyncio.wait_for(done, timeout=1)
            await clerk.stop()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(three_idles())


class TestFailure:
    async def test_the_same_messages_come_again_after_a_new_start(self) -> None:
        clerk = Clerk()
        clerk.trouble = [ValueError("no"), ValueError("no")]
        clerk.tell("a")
        clerk.tell("b")
        clerk.start()
        await until(lambda: bool(clerk.turns))

        assert clerk.life == ["start", "handle a b", "start", "handle a b", "start", "handle a b"]
        assert clerk.handled == ["a", "b"]
        await settled(clerk)
        assert clerk.failures == 0
        await clerk.stop()

    async def test_what_comes_meanwhile_waits_its_turn(self) -> None:
        clerk = Clerk()
        clerk.trouble = [ValueError("no")]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.failures == 1)
        clerk.tell("b")
        await until(lambda: len(clerk.turns) == 2)

        assert clerk.turns == [["a"], ["b"]]
        await clerk.stop()

    @pytest.mark.parametrize(
        ("error", "longest"),
        [(ValueError("no"), [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]), (Away(), [1, 2, 4, 5, 5, 5, 5, 5, 5, 5])],
        ids=["failure", "outage"],
    )
    async def test_it_backs_off_twice_as_long_each_time_up_to_a_limit(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, longest: list[float]
    ) -> None:
        waits: list[float] = []
        turn = asyncio.sleep

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            await turn(0)

        clerk = Clerk()
        clerk.max_failures = 11
        clerk.trouble = [error] * 10
        clerk.tell("a")
        with monkeypatch.context() as patch:
            patch.setattr(actor_module, "FIRST_BACKOFF_S", 1.0)
            patch.setattr("carbontrack.actor.asyncio.sleep", sleep)
            clerk.start()
            async with asyncio.timeout(SOON_S):
                while not clerk.turns:
                    await turn(0)

        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
        await clerk.stop()

    async def test_it_says_that_it_backs_off_and_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actor_module, "FIRST_BACKOFF_S", 3600.0)
        clerk = Clerk()
        clerk.trouble = [ValueError("no such column")]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.state is ActorState.BACKING_OFF)

        assert clerk.last_error == "ValueError: no such column"
        await clerk.stop()
        assert clerk.state is ActorState.STOPPED

    async def test_a_start_that_fails_is_tried_again(self) -> None:
        clerk = Clerk()
        clerk.start_trouble = [ValueError("no"), Away("no database")]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.handled == ["a"])

        assert clerk.life == ["start", "start", "start", "handle a"]
        await clerk.stop()

    async def test_after_too_many_failures_it_parks_and_refuses(self) -> None:
        clerk = Clerk(max_failures=3)
        clerk.trouble = [ValueError("no")] * 3
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.state is ActorState.PARKED)

        assert not clerk.tell("b")
        clerk.control("settings")
        for _ in range(5):
            await asyncio.sleep(0)
        assert clerk.life.count("handle a") == 3, "a parked actor does nothing until it is revived"
        await clerk.stop()

    async def test_failures_count_in_a_row_only(self) -> None:
        clerk = Clerk(max_failures=3)
        clerk.start()
        for message in "abcd":
            clerk.trouble = [ValueError("no"), ValueError("no")]
            clerk.tell(message)
            await until(lambda message=message: message in clerk.handled)  # type: ignore[misc]
            await settled(clerk)

        assert clerk.state is ActorState.RUNNING
        await clerk.stop()

    async def test_a_revived_actor_handles_what_it_parked_with(self) -> None:
        clerk = Clerk(max_failures=1)
        clerk.trouble = [ValueError("no")]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.state is ActorState.PARKED)

        clerk.revive()
        clerk.control("settings")
        await until(lambda: len(clerk.turns) == 2)

        assert clerk.turns == [["a"], ["settings"]]
        assert clerk.tell("b")
        await clerk.stop()

    async def test_reviving_one_that_runs_changes_nothing(self) -> None:
        clerk = Clerk()
        clerk.start()
        await settled(clerk)
        clerk.revive()
        for _ in range(5):
            await asyncio.sleep(0)

        assert clerk.life == ["start"]
        assert clerk.state is ActorState.RUNNING
        await clerk.stop()

    async def test_an_outage_never_parks(self) -> None:
        clerk = Clerk(max_failures=3)
        clerk.trouble = [Away() for _ in range(50)]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.handled == ["a"])

        assert clerk.state is ActorState.RUNNING
        await clerk.stop()

    async def test_an_outage_of_days_is_waited_out(self) -> None:
        """Once a minute for a day are 1440 failures."""
        clerk = Clerk(max_failures=3)
        clerk.trouble = [Away() for _ in range(1440)]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.handled == ["a"] or clerk.state is ActorState.STOPPED)
        await clerk.stop()

        assert clerk.handled == ["a"]


class TestStop:
    async def test_what_was_told_before_is_handled_first(self) -> None:
        clerk = Clerk()
        clerk.start()
        await settled(clerk)
        clerk.tell("a")
        clerk.tell("b")
        await clerk.stop()

        assert clerk.handled == ["a", "b"]
        assert clerk.life[-1] == "stop"
        assert clerk.state is ActorState.STOPPED

    async def test_what_is_in_hand_is_finished_and_nothing_new_is_taken(self) -> None:
        clerk = Clerk()
        clerk.gate = asyncio.Event()
        clerk.tell("a")
        clerk.start()
        await until(lambda: "handle a" in clerk.life)
        clerk.tell("b")
        stopping = asyncio.create_task(clerk.stop())
        await asyncio.sleep(0)

        assert not clerk.tell("c")
        clerk.gate.set()
        await stopping
        assert clerk.handled == ["a", "b"]
        assert clerk.life[-1] == "stop"

    async def test_one_that_was_never_started_stops_at_once(self) -> None:
        clerk = Clerk()
        await clerk.stop()

        assert clerk.state is ActorState.STOPPED
        assert clerk.life == []

    async def test_one_that_backs_off_stops_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actor_module, "FIRST_BACKOFF_S", 3600.0)
        clerk = Clerk()
        clerk.trouble = [ValueError("no")]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.state is ActorState.BACKING_OFF)
        async with asyncio.timeout(SOON_S):
            await clerk.stop()

        assert clerk.state is ActorState.STOPPED

    async def test_one_that_is_parked_stops_at_once(self) -> None:
        clerk = Clerk(max_failures=1)
        clerk.trouble = [ValueError("no")]
        clerk.tell("a")
        clerk.start()
        await until(lambda: clerk.state is ActorState.PARKED)
        async with asyncio.timeout(SOON_S):
            await clerk.stop()

        assert clerk.state is ActorState.STOPPED

    @pytest.mark.parametrize("max_failures", [1, 8])
    @pytest.mark.parametrize("error", [ValueError("no"), Away()], ids=["failure", "outage"])
    async def test_one_that_fails_while_it_stops_does_stop(self, max_failures: int, error: Exception) -> None:
        clerk = Clerk(max_failures=max_failures)
        clerk.gate = asyncio.Event()
        clerk.trouble = [error]
        clerk.tell("a")
        clerk.start()
        await until(lambda: "handle a" in clerk.life)
        stopping = asyncio.create_task(clerk.stop())
        await asyncio.sleep(0)
        clerk.gate.set()
        for _ in range(20):
            await asyncio.sleep(0)

        try:
            assert clerk.state is ActorState.STOPPED
        finally:
            stopping.cancel()
            _end(clerk)
            await asyncio.gather(stopping, return_exceptions=True)

    async def test_it_may_be_asked_to_stop_twice(self) -> None:
        clerk = Clerk()
        clerk.start()
        clerk.tell("a")
        await asyncio.gather(clerk.stop(), clerk.stop())
        await clerk.stop()

        assert clerk.handled == ["a"]
        assert clerk.life.count("stop") == 1


def _end(clerk: Actor[Any]) -> None:
    if clerk._task is not None:
        clerk._task.cancel()
