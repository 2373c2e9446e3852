"""What a plugin raises is counted, what holds the loop is ended, who goes on is held back, and nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.fence import (
    FAILURES,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    LONGEST_S,
    MOST_SHARE,
    WITHIN_S,
    Blocked,
    Failed,
    Fence,
    HeldBack,
    Watch,
)
from tests.support.world import Clock, eventually


class Nonsense(Exception):
    """What a check raises."""


class Answer(Exception):
    """An exception that is an answer and no failure."""


@dataclass
class Fenced:
    """A function behind a fence: ``call(key, what)`` does ``what``."""

    clock: Clock = field(default_factory=Clock)
    watch: Watch = field(default_factory=Watch)
    counted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fence = Fence("trying", self.watch, count=self.counted.append, clock=self.clock)

        def function(key: str, what: Callable[[], object]) -> object:
            return what()

        def check(answer: object) -> None:
            if answer == "nonsense":
                raise Nonsense("that is no answer")

        self.call = self.fence.guard(function, lambda key, _: key, check=check, answers=(Answer,))

    def fail(self, key: str, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(ZeroDivisionError):
                self.call(key, crash)


def crash() -> object:
    return 1 / 0


def good() -> str:
    return "good"


class TestErrors:
    def test_a_good_call_gives_its_answer_and_costs_nothing(self) -> None:
        fenced = Fenced()

        assert fenced.call("a", good) == "good"
        assert (fenced.counted, fenced.fence.errors) == ([], 0)

    def test_what_a_call_raises_is_counted_and_passed_on(self) -> None:
        fenced = Fenced()

        fenced.fail("a")

        assert (fenced.counted, fenced.fence.errors) == (["raised"], 1)

    def test_nonsense_is_a_failure(self) -> None:
        fenced = Fenced()

        with pytest.raises(Nonsense):
            fenced.call("a", lambda: "nonsense")

        assert fenced.counted == ["raised"]

    @pytest.mark.parametrize("error", [SystemExit("bye"), GeneratorExit(), asyncio.CancelledError()])
    def test_what_would_end_the_core_becomes_an_ordinary_error(self, error: BaseException) -> None:
        def leave() -> object:
            raise error

        with pytest.raises(Failed, match=type(error).__name__):
            Fenced().call("a", leave)

    def test_an_answer_that_is_an_exception_is_no_failure(self) -> None:
        fenced = Fenced()

        def answer() -> object:
            raise Answer

        for _ in range(2 * FAILURES):
            with pytest.raises(Answer):
                fenced.call("a", answer)

        assert fenced.counted == []


class TestHoldingBack:
    def test_three_failures_in_a_row_hold_the_key_back(self) -> None:
        fenced = Fenced()

        fenced.fail("a", FAILURES)

        with pytest.raises(HeldBack, match="division by zero"):
            fenced.call("a", good)
        assert set(fenced.fence.held_back()) == {"a"}

    def test_its_neighbours_never_notice(self) -> None:
        fenced = Fenced()

        fenced.fail("a", FAILURES)

        assert fenced.call("b", good) == "good"

    def test_a_success_between_two_failures_forgives_the_first(self) -> None:
        fenced = Fenced()

        for _ in range(10):
            fenced.fail("a", FAILURES - 1)
            assert fenced.call("a", good) == "good"

    def test_failures_that_are_far_apart_are_forgiven(self) -> None:
        fenced = Fenced()

        for _ in range(10):
            fenced.fail("a")
            fenced.clock.now += WITHIN_S / (FAILURES - 1) + 1

        assert fenced.call("a", good) == "good"

    def test_after_its_pause_it_is_tried_again_and_one_success_is_enough(self) -> None:
        fenced = Fenced()
        fenced.fail("a", FAILURES)

        fenced.clock.now += FIRST_PAUSE_S

        assert fenced.call("a", good) == "good"
        fenced.fail("a", FAILURES - 1)
        assert fenced.call("a", good) == "good"
        assert fenced.fence.troubles == {}

    def test_a_failure_of_the_trial_doubles_the_pause_up_to_the_longest(self) -> None:
        fenced = Fenced()
        fenced.fail("a", FAILURES)
        pauses = []

        for _ in range(10):
            trouble = fenced.fence.troubles["a"]
            pauses.append(trouble.until - fenced.clock.now)
            fenced.clock.now = trouble.until
            fenced.fail("a")

        assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
        assert pauses[-1] == LONGEST_PAUSE_S

    @given(calls=st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 100)), max_size=60))
    def test_a_key_is_held_back_for_its_own_failures_and_for_nothing_else(
        self, calls: list[tuple[str, bool, float]]
    ) -> None:
        """Whatever the others do: each key fares as if it had the fence for itself."""
        together = Fenced()
        alone = {key: Fenced() for key in "abc"}

        for key, is_good, pause_s in calls:
            fates = []
            for fenced in (together, *alone.values()):
                fenced.clock.now += pause_s
            for fenced in (together, alone[key]):
                try:
                    fenced.call(key, good if is_good else crash)
                    fates.append("good")
                except Exception as error:  # noqa: BLE001  # its kind is what is compared
                    fates.append(type(error).__name__)
            assert fates[0] == fates[1]

    def test_what_another_plugin_calls_is_counted_but_not_held_back(self) -> None:
        fenced = Fenced()
        called = fenced.fence.tally(lambda: 1 / 0, check=lambda _: None, answers=(Answer,))

        for _ in range(2 * FAILURES):
            with pytest.raises(ZeroDivisionError):
                called()

        assert fenced.fence.errors == 2 * FAILURES


class TestTime:
    def test_calls_that_hold_the_loop_for_three_keys_park_the_plugin(self, slow: Callable[[float], None]) -> None:
        fenced = Fenced()

        for key in "abc":
            fenced.call(key, lambda: slow(0.6))

        assert fenced.counted == ["blocked"] * 3
        with pytest.raises(HeldBack, match="held the core up"):
            fenced.call("d", good)

    def test_for_one_key_only_that_key_is_held_back(self, slow: Callable[[float], None]) -> None:
        fenced = Fenced()

        for _ in range(FAILURES):
            fenced.call("a", lambda: slow(0.6))

        with pytest.raises(HeldBack):
            fenced.call("a", good)
        assert fenced.call("b", good) == "good"

    def test_a_parked_plugin_is_tried_again_and_comes_back(self, slow: Callable[[float], None]) -> None:
        fenced = Fenced()
        for key in "abc":
            fenced.call(key, lambda: slow(0.6))

        fenced.clock.now += FIRST_PAUSE_S

        assert fenced.call("d", good) == "good"
        assert not fenced.fence.whole.until

    def test_who_takes_most_of_the_time_is_parked(self, slow: Callable[[float], None]) -> None:
        fenced = Fenced()

        for _ in range(8):
            fenced.call("a", lambda: slow(0.45))
        fenced.fence.take_share(5.0)

        with pytest.raises(HeldBack, match="of the core's time"):
            fenced.call("b", good)

    def test_who_takes_little_is_not(self, slow: Callable[[float], None]) -> None:
        fenced = Fenced()

        fenced.call("a", lambda: slow(MOST_SHARE * 0.4))
        fenced.fence.take_share(5.0)

        assert fenced.call("a", good) == "good"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass for the fence, and for nobody else."""
    passed = [time.perf_counter()]
    monkeypatch.setattr("carbontrack.fence.time.perf_counter", lambda: passed[0])

    def slow(seconds: float) -> None:
        passed[0] += seconds

    return slow


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch()
    with watch.on():
        yield watch


class TestInterrupting:
    """On a real loop, with a real thread and a real signal."""

    @pytest.mark.parametrize("how", ["sleeps", "spins", "catches everything"])
    async def test_a_call_that_never_ends_is_ended_and_its_key_held_back(self, watch: Watch, how: str) -> None:
        fenced = Fenced(watch=watch)

        def for_ever() -> object:
            while True:
                try:
                    if how == "sleeps":
                        time.sleep(3600)
                except Exception:  # noqa: BLE001  # a plugin that swallows every error
                    assert how != "catches everything"

        began = time.monotonic()
        with pytest.raises(Blocked, match="interrupted"):
            fenced.call("a", for_ever)

        assert time.monotonic() - began < LONGEST_S + 2
        assert fenced.call("b", good) == "good"
        with pytest.raises(HeldBack):
            fenced.call("a", good)

    async def test_a_coroutine_that_blocks_the_loop_is_ended_too(self, watch: Watch) -> None:
        fenced = Fenced(watch=watch)

        async def block() -> None:
            await asyncio.sleep(0)
            time.sleep(3600)  # noqa: ASYNC251  # that is the mistake

        with pytest.raises(Blocked):
            await fenced.fence.run(block(), "page")

        assert watch.running is None

    async def test_who_blocks_the_loop_by_a_callback_of_its_own_is_named(self, watch: Watch) -> None:
        fence = Fence("callbacks", watch)
        watch.fences[__file__] = fence
        watch.beat()

        asyncio.get_running_loop().call_soon(_sleep_here)

        await eventually(lambda: fence.errors > 0)
        assert "held the core up" in fence.troubles["callback"].error


def _sleep_here() -> None:
    time.sleep(1.5)


class TestCoroutines:
    async def test_its_answer_comes_back_and_waiting_is_no_holding_up(self) -> None:
        fenced = Fenced()

        async def work() -> int:
            await asyncio.sleep(0.01)
            return 42

        assert await fenced.fence.run(work(), "page") == 42
        assert fenced.fence.spent_s < 0.01

    async def test_it_is_held_back_like_a_function(self) -> None:
        fenced = Fenced()

        async def fail() -> None:
            raise ValueError("no")

        for _ in range(FAILURES):
            with pytest.raises(ValueError, match="no"):
                await fenced.fence.run(fail(), "page")
        with pytest.raises(HeldBack):
            await fenced.fence.run(fail(), "page")

    async def test_one_that_takes_too_long_is_ended(self) -> None:
        fenced = Fenced()
        left: list[str] = []

        async def wait() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                left.append("cleaned up")

        with pytest.raises(TimeoutError, match=r"longer than 0\.01 s"):
            await fenced.fence.run(wait(), "page", timeout_s=0.01)

        assert left == ["cleaned up"]
        assert fenced.counted == ["raised"]

    async def test_to_cancel_it_is_no_failure_of_it(self) -> None:
        fenced = Fenced()
        task = asyncio.create_task(fenced.fence.run(asyncio.sleep(3600), "page"))
        await asyncio.sleep(0)

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert fenced.counted == []

    async def test_errors_reach_the_coroutine_where_it_waits(self) -> None:
        fenced = Fenced()

        async def work() -> str:
            try:
                await asyncio.wait_for(asyncio.sleep(3600), 0.01)
            except TimeoutError:
                return "went on"
            return "waited"

        assert await fenced.fence.run(work(), "page") == "went on"
