"""How methods of the store come to Tortoise's connections, and how they refuse.

Tortoise finds its connections by a context variable. Each public method therefore runs in the context in which the
store was opened, whichever task calls it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import structlog
from tortoise.exceptions import ValidationError

from carbontrack.store.work import outages
from carbontrack.words import reader, write_for

P = ParamSpec("P")
T = TypeVar("T")


class RegistryError(ValueError):
    """A registry change that cannot be made: the message says why, and ``field`` which field is to blame, if one is."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@contextmanager
def _refusals() -> Iterator[None]:
    """A value that does not fit its column is a mistake of whoever gave it and no outage."""
    try:
        yield
    except ValidationError as error:
        raise RegistryError(str(error)) from error


class InContext(Protocol):
    """A part of the store: it knows the context in which Tortoise was set up."""

    _context: contextvars.Context


S = TypeVar("S", bound=InContext)


def in_context(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run a method in the store's own context, whichever task calls it."""

    @functools.wraps(method)
    async def inner(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        # A copy for each call: a transaction is a variable of the context, and its neighbours must not be in it.
        context = self._context.copy()
        context.run(write_for, reader())  # whoever asks reads why it is refused
        if about := structlog.contextvars.get_contextvars():  # and finds what is logged by the request's id
            context.run(structlog.contextvars.bind_contextvars, **about)
        with outages(), _refusals():
            return await asyncio.get_running_loop().create_task(method(self, *args, **kwargs), context=context)

    return inner  # type: ignore[return-value]  # mypy keeps the wrapped function's own type apart
