"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

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
