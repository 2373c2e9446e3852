"""Ending tasks for certain."""

from __future__ import annotations

import asyncio

import pytest

from carbontrack import tasks
from carbontrack.tasks import end


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_tasks_have_ended_when_it_returns() -> None:
    some = [asyncio.create_task(for_ever()) for _ in range(3)]

    await end(*some)

    assert all(task.cancelled() for task in some)


async def test_a_task_that_swallows_a_cancellation_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ASK_AGAIN_S", 0.001)
    asked = 0

    async def stubborn() -> None:
        nonlocal asked
        while asked < 3:
            try:
                await for_ever()
            except asyncio.CancelledError:
                asked += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end(task)

    assert asked == 3
    assert task.done()


async def test_what_a_task_raises_at_its_end_disturbs_nobody() -> None:
    async def failing() -> None:
        raise RuntimeError("at the end")

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)

    await end(task)

    assert task.done()


async def test_who_ends_tasks_and_is_cancelled_meanwhile_ends_them_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "ASK_AGAIN_S", 0.001)
    may_end = asyncio.Event()

    async def slow() -> None:
        while not may_end.is_set():
            try:
                await for_ever()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end(task))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.sleep(0)
    assert not ending.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await ending

    assert task.done()


async def test_nothing_to_end_is_fine() -> None:
    await end()
