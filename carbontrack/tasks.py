"""Ending tasks for certain, and doing slow or risky things beside them."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
ASK_AGAIN_S = 0.2


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return when they have ended; whatever they raise is dropped.

    They are asked again until they are gone: before Python 3.12 ``asyncio.wait_for``, which libraries use, can swallow
    a cancellation that comes just when what it waits for is done.
    """
    waiting = set(tasks)
    interrupted = False
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            done, waiting = await asyncio.wait(waiting, timeout=ASK_AGAIN_S)
        except asyncio.CancelledError:
            interrupted = True  # to leave now would leave them running
            continue
        for task in done:
            if not task.cancelled():
                task.exception()  # fetched, so that nobody warns that it was not
    if interrupted:
        raise asyncio.CancelledError


async def first_of(*parts: Coroutine[Any, Any, object]) -> None:
    """Run all of them until one ends; the others are ended then, and what that one has raised is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(*tasks)
    for task in done:
        task.result()


async def look_at_news(
    look: Callable[[], Awaitable[None]], news: asyncio.Event, *, apart_s: float, every_s: float
) -> NoReturn:
    """Look until cancelled: soon after there is news, and every so often without any; never sooner than ``apart_s``."""
    while True:
        await look()
        await asyncio.sleep(apart_s)
        with suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), every_s)


async def in_thread(work: Callable[[], T], timeout_s: float) -> T:
    """Do something slow beside the loop. After the time-out its thread may go on; it ends with the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # there is no error, so there is a result

    def run() -> None:
        try:
            result, error = work(), None
        except BaseException as raised:  # noqa: BLE001  # it is the waiting task's to handle
            result, error = None, raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="slow", daemon=True).start()
    return await asyncio.wait_for(done, timeout_s)


@asynccontextmanager
async def python_process(*arguments: str, stdin: int = DEVNULL, stdout: int = DEVNULL) -> AsyncIterator[Process]:
    """Python in a process of its own, which knows the same packages. It ends with this, and so does what it started.

    What it says on stderr can be read.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the folder that the core was started in is none of its code
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # so that whatever it starts ends with it
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


# --- the loop of the whole process


def calm_garbage_collection() -> None:
    """Let Python look for cycles less often: thousands of actors live for ever, and each look visits all of them.

    With 10,000 devices this makes the way from the broker to the database half as fast again (docs/performance.md).
    """
    gc.set_threshold(50_000, 50, 50)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine on the fastest loop there is."""
    calm_garbage_collection()
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415  # there is none for Windows

        uvloop.run(_awaited(main))
        return
    asyncio.run(_awaited(main))


async def _awaited(main: Callable[[], Awaitable[None]]) -> None:
    await main()
