"""The fence around a plugin: its errors are counted, its time on the loop is watched, and who goes on is held back.

A failure is held against a *key*: the device whose payload could not be decoded, the rule and the device, the page.
Three in a row within a minute, and that key is held back for a while, then tried again; its neighbours never notice.
Holding the loop harms everybody. So a call that had to be interrupted holds its key back at once; and a plugin whose
calls were too long for three keys within a minute, or that takes most of the loop's time, is parked as a whole.

A plugin shares the core's process: this is a fence against mistakes, not against malice.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
import traceback
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)
T = TypeVar("T")

FAILURES = 3
"""So many in a row, within a minute, are no accident."""
WITHIN_S = 60.0
FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
LONG_S = 0.5
"""A call that holds the loop for longer is a failure: all devices wait for it."""
LONGEST_S = 2.0
"""After so long a call is interrupted."""
BLOCKED_S = 1.0
"""When the loop has not turned for so long, somebody must be named."""
LOOK_EVERY_S = 0.25
SHARE_OVER_S = 5.0
MOST_SHARE = 0.6
"""Of the loop's time, over so long: with more for one plugin, the others wait too long."""
MOST_KEYS = 10_000
"""Keys in trouble that are remembered."""

_WAKE = getattr(signal, "SIGUSR2", None)
"""The signal that interrupts a call; Windows has none, and there a call that never ends is only named."""


class HeldBack(Exception):
    """Raised instead of a call that would probably fail again."""


class Blocked(Exception):
    """A call held the loop for too long and was interrupted."""


class Failed(Exception):
    """A call raised what no program should let through, such as ``SystemExit``; the text says what."""


class _Interrupt(BaseException):
    """Raised in the middle of a plugin's code: no ``except Exception`` of it may catch it."""


@dataclass(slots=True)
class Trouble:
    """What is held against one key. Times are of the fence's clock."""

    error: str = ""
    at: deque[float] = field(default_factory=lambda: deque(maxlen=FAILURES))
    until: float = 0.0
    pause_s: float = 0.0

    def note(self, error: str, now: float, *, at_once: bool) -> bool:
        """Take one more failure; whether the key is held back from now on."""
        self.error = error
        self.at.append(now)
        is_on_trial = self.pause_s > 0
        if at_once or is_on_trial or (len(self.at) == FAILURES and now - self.at[0] <= WITHIN_S):
            self.pause_s = min(LONGEST_PAUSE_S, 2 * self.pause_s or FIRST_PAUSE_S)
            self.until = now + self.pause_s
            return True
        return False


Running = tuple["Fence", float]
"""A call of a plugin that holds the loop just now: whose, and since when (``time.perf_counter``)."""


class Watch:
    """Looks from a thread of its own at who holds the loop, interrupts what takes too long, and names it."""

    def __init__(self) -> None:
        self.running: Running | None = None
        self.fences: dict[str, Fence] = {}
        """Where the plugins' files are -> whose they are."""
        self._condemned: Running | None = None
        self._beat = inf
        """When the loop turned last; before the first time nobody says that it should."""
        self._named_beat = 0.0
        self._ended = threading.Event()

    def beat(self) -> None:
        """The loop has turned."""
        self._beat = time.perf_counter()

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch the thread and the loop that run this, until the block ends."""
        loop, thread_id = asyncio.get_running_loop(), threading.get_ident()
        is_main = threading.current_thread() is threading.main_thread()
        # Signals are handled in the main thread. Elsewhere a call that never ends is only named.
        before = signal.signal(_WAKE, self._interrupt) if _WAKE is not None and is_main else None
        self._ended.clear()
        arguments = (loop, thread_id, _WAKE if is_main else None)
        thread = threading.Thread(target=self._look, args=arguments, name="plugin-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            # By default the signal would end the process, and the last one may still be on its way.
            if before not in {None, signal.SIG_DFL} and _WAKE is not None:
                signal.signal(_WAKE, before)

    def _interrupt(self, *_: object) -> None:
        """Runs in the watched thread, wherever that is: only the very call that is condemned is interrupted."""
        running = self.running
        if running is not None and running is self._condemned:
            self._condemned = None
            raise _Interrupt

    def _look(self, loop: asyncio.AbstractEventLoop, thread_id: int, wake: signal.Signals | None) -> None:
        looks = 0
        while not self._ended.wait(LOOK_EVERY_S):
            now, running = time.perf_counter(), self.running
            if running is not None and now - running[1] > LONGEST_S and wake is not None:
                self._condemned = running
                signal.pthread_kill(thread_id, wake)
            elif running is None and now > self._beat + BLOCKED_S and self._named_beat != self._beat:
                self._named_beat = self._beat
                self._name_who_blocks(loop, thread_id)
            looks += 1
            if looks * LOOK_EVERY_S >= SHARE_OVER_S:
                looks = 0
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(self._look_at_shares)

    def _look_at_shares(self) -> None:
        for fence in set(self.fences.values()):
            fence.take_share(SHARE_OVER_S)

    def _name_who_blocks(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        """Nobody said that a plugin runs, but the loop stands still: say where, and whose code it is."""
        frame = sys._current_frames().get(thread_id)  # noqa: SLF001  # the documented way to another thread's stack
        stack = traceback.extract_stack(frame)
        where = [f"{line.filename}:{line.lineno} {line.name}" for line in stack[-4:]]
        owner = next((fence for line in reversed(stack) if (fence := self.owner(line.filename))), None)
        log.warning("the event loop stands still", where=where, plugin=owner.name if owner else None)
        if owner is not None:
            text = f"its code held the core up, at {where[-1]}"
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(owner.note_long, "callback", text)

    def owner(self, filename: str) -> Fence | None:
        """The fence of the plugin that a file belongs to."""
        return next((fence for prefix, fence in self.fences.items() if filename.startswith(prefix)), None)


class Fence:
    """One plugin's. ``count`` is told of each failure: ``raised`` or ``blocked``; ``hide`` takes out secrets."""

    def __init__(
        self,
        name: str,
        watch: Watch,
        *,
        count: Callable[[str], None] = lambda kind: None,  # noqa: ARG005  # whoever does not count
        hide: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.errors = 0
        self.troubles: dict[str, Trouble] = {}
        """Keys whose last call failed."""
        self.whole = Trouble()
        """What is held against the plugin as a whole."""
        self.spent_s = 0.0
        """How long its calls took since its share was looked at last."""
        self._in_trouble = False
        self._long: deque[tuple[str, float]] = deque(maxlen=FAILURES)
        self._watch = watch
        self._count = count
        self.hide = hide
        self._clock = clock

    # --- what is called

    def guard(
        self,
        function: Callable[..., T],
        key_of: Callable[..., str],
        *,
        check: Callable[[T], None] | None = None,
        answers: tuple[type[Exception], ...] = (),
    ) -> Callable[..., T]:
        """A function of the plugin as the core may call it.

        ``key_of`` takes the same arguments; ``check`` raises for nonsense; ``answers`` are exceptions that are no
        failure. Besides these, the guarded function raises what the plugin raised, :class:`Failed`, :class:`Blocked` or
        :class:`HeldBack`, and always an ``Exception``.
        """
        watch, clock = self._watch, time.perf_counter

        def guarded(*args: Any) -> T:
            if self._in_trouble:
                self.admit(key_of(*args))
            outer, began = watch.running, clock()
            watch.running = (self, began)
            # Nothing may be called between the end of the call and the end of "running": the call could be condemned,
            # and the interrupt would strike outside of its try.
            try:
                answer = function(*args)
                if check is not None:
                    check(answer)
            except answers:
                watch.running = outer
                self._returned(key_of, args, clock() - began)
                raise
            except BaseException as error:
                watch.running = outer
                raise self.failed(key_of(*args), error) from error
            watch.running = outer
            took_s = clock() - began
            self.spent_s += took_s
            if took_s > LONG_S or self._in_trouble:
                self._returned(key_of, args, took_s)
            return answer

        guarded.__dict__["__wrapped__"] = function  # for who calls it beside the loop, where there is nothing to watch
        return guarded

    def tally(
        self, function: Callable[..., T], *, check: Callable[[T], None], answers: tuple[type[Exception], ...]
    ) -> Callable[..., T]:
        """A function that another plugin calls: its errors are counted here, and the caller's key is held back."""

        def counted(*args: Any) -> T:
            try:
                answer = function(*args)
                check(answer)
            except answers:
                raise
            except Exception:
                self.errors += 1
                self._count("raised")
                raise
            return answer

        return counted

    def _returned(self, key_of: Callable[..., str], args: tuple[Any, ...], took_s: float) -> None:
        if took_s > LONG_S:
            self.note_long(key_of(*args), f"a call of it held the core up for {took_s:.2f} s")
        elif self._in_trouble:
            self.succeeded(key_of(*args))

    async def run(
        self,
        work: Coroutine[Any, Any, T],
        key: str,
        *,
        timeout_s: float | None = None,
        answers: tuple[type[Exception], ...] = (),
    ) -> T:
        """Await a coroutine of the plugin. Raises as a guarded function does; cancelling it is no failure of it."""
        try:
            self.admit(key)
        except HeldBack:
            work.close()
            raise
        timeout = asyncio.timeout(timeout_s)
        try:
            async with timeout:
                answer = await _steps(self, key, work)
        except asyncio.CancelledError:
            raise
        except answers:
            raise
        except BaseException as error:
            late = TimeoutError(f"it took longer than {timeout_s} s") if timeout.expired() else error
            raise self.failed(key, late) from error
        self.succeeded(key)
        return answer

    # --- what is held against it

    def admit(self, key: str) -> None:
        """Raise :class:`HeldBack` if this key, or the whole plugin, must wait."""
        now = self._clock()
        for trouble in (self.whole, self.troubles.get(key)):
            if trouble is not None and now < trouble.until:
                raise HeldBack(f"{self.name} is held back after an error: {trouble.error}")

    def held_back(self) -> dict[str, Trouble]:
        """The keys that must wait now."""
        now = self._clock()
        return {key: trouble for key, trouble in self.troubles.items() if now < trouble.until}

    def failed(self, key: str, error: BaseException) -> Exception:
        """Count a failure; what to raise for it."""
        if isinstance(error, KeyboardInterrupt):
            raise error
        interrupted = isinstance(error, _Interrupt)
        text = (
            f"a call of it held the core up for {LONGEST_S:g} s and was interrupted"
            if interrupted
            else f"{type(error).__name__}: {error}"
        )
        self._note(key, text, "blocked" if interrupted else "raised", at_once=interrupted)
        if interrupted:
            self._note_whole(key, text)
            return Blocked(text)
        return error if isinstance(error, Exception) else Failed(text)

    def note_long(self, key: str, text: str) -> None:
        """Count a call that held the loop for too long."""
        self._note(key, text, "blocked", at_once=False)
        self._note_whole(key, text)

    def take_share(self, over_s: float) -> None:
        """Look at how much of the loop's time it took since the last look."""
        spent_s, self.spent_s = self.spent_s, 0.0
        if spent_s > MOST_SHARE * over_s:
            self.errors += 1
            self._count("blocked")
            self._park(f"it took {spent_s:.1f} of {over_s:g} s of the core's time")

    def succeeded(self, key: str) -> None:
        """Forget what was held against a key."""
        self.troubles.pop(key, None)
        if self.whole.pause_s > 0 and self._clock() >= self.whole.until:
            self.whole = Trouble()
        self._in_trouble = bool(self.troubles or self.whole.until)

    def _note(self, key: str, text: str, kind: str, *, at_once: bool) -> None:
        text = self.hide(text)
        self.errors += 1
        self._in_trouble = True
        self._count(kind)
        if key not in self.troubles and len(self.troubles) >= MOST_KEYS:
            del self.troubles[next(iter(self.troubles))]
        trouble = self.troubles.setdefault(key, Trouble())
        if not trouble.at:
            log.warning("plugin failed", plugin=self.name, key=key, error=text)
        if trouble.note(text, self._clock(), at_once=at_once):
            log.error("plugin held back", plugin=self.name, key=key, error=text, pause_s=trouble.pause_s)

    def _note_whole(self, key: str, text: str) -> None:
        now = self._clock()
        self._long.append((key, now))
        keys = {who for who, at in self._long if now - at <= WITHIN_S}
        if len(keys) == FAILURES or self.whole.pause_s:
            self._park(text)

    def _park(self, text: str) -> None:
        self._in_trouble = True
        self.whole.note(text, self._clock(), at_once=True)
        log.error("plugin parked: it holds the core up", plugin=self.name, error=text, pause_s=self.whole.pause_s)


@types.coroutine
def _steps(fence: Fence, key: str, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await ``work``, with the watch knowing whose each step is."""
    watch, clock = fence._watch, time.perf_counter  # noqa: SLF001  # one thing in two parts
    value: Any = None
    error: BaseException | None = None
    while True:
        outer, began = watch.running, clock()
        watch.running = (fence, began)
        try:
            waits_for = work.send(value) if error is None else work.throw(error)
        except StopIteration as end:
            answer: T = end.value
            return answer
        finally:
            watch.running = outer
            took_s = clock() - began
            fence.spent_s += took_s
            if took_s > LONG_S:
                fence.note_long(key, f"a step of it held the core up for {took_s:.2f} s")
        value, error = None, None
        try:
            value = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as thrown:  # noqa: BLE001  # whatever it is, it is the plugin's to handle
            error = thrown
