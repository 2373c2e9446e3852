"""What a route of the API takes and gives, said once: by its handler's own signature.

A handler is given what its parameters ask for, checked (``query`` and ``body``, both an :class:`Input`), and gives back
an :class:`Output`, a :class:`Page` of them, one that was :class:`Tried`, None (204), or a response of its own. The
OpenAPI document is made of the same signature (:mod:`carbontrack.web.openapi`), so that it cannot say anything else.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import TypeAdapter

from carbontrack.model import Role, Scope
from carbontrack.web.access import SAFE_METHODS, Handler, allow, public
from carbontrack.web.answers import check_json, write_object, write_page
from carbontrack.web.idempotency import once
from carbontrack.web.rest import Input, Listing, Output, Page, read_body, read_query


class Tag(StrEnum):
    """The groups of routes, in the order in which they are shown."""

    ACCOUNT = "The account"
    PEOPLE = "People"
    REGISTRY = "Factories and stacks"
    DEVICES = "Devices"
    FIRMWARE = "Firmware"
    READINGS = "Readings"
    ENTRIES = "Energy and tea"
    ACCOUNTS = "Accounts and targets"
    REPORTS = "What was reported"
    ALERTS = "Alerts and quarantine"
    PLUGINS = "Plugins"
    AUDIT = "The audit log"
    LIVE = "The live stream"
    SCHEMA = "The description"


OutputT = TypeVar("OutputT", bound=Output)


@dataclass(frozen=True, slots=True)
class Tried(Generic[OutputT]):
    """What a creation would answer that was only to be tried: its status is 200, as nothing is there now.

    A handler says by its return type that it can be tried: ``-> Something | Tried[Something]``.
    """

    found: OutputT


@dataclass(frozen=True)
class Operation:
    """One route as the world sees it.

    ``gives`` is the type of its answer; ``media`` are the media types of an answer that is no JSON of ours;
    ``problems`` are the statuses that it may answer beside those that every route of its kind may.
    """

    tag: Tag
    status: int
    gives: Any
    query: type[Input] | None
    body: type[Input] | None
    problems: frozenset[int]
    media: tuple[str, ...]
    reads: Mapping[str, Any]
    can_be_tried: bool
    summary: str
    description: str
    is_list: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_list", get_origin(self.gives) is Page)

    @property
    def is_object(self) -> bool:
        """Whether its answer is one value of ours, as JSON."""
        return not (self.is_list or self.media or self.gives in {type(None), web.StreamResponse})

    @property
    def row(self) -> Any:
        """The type of a list's rows."""
        return get_args(self.gives)[0]

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """What writes an answer, or a row of it."""
        return TypeAdapter(self.row if self.is_list else self.gives)

    @cached_property
    def fields(self) -> Sequence[str]:
        """The names that a row of a list may have."""
        kinds = get_args(self.row) if isinstance(self.row, UnionType) else (self.row,)
        return tuple(dict.fromkeys(name for kind in kinds for name in kind.model_fields))

    def respond(self, request: web.Request, found: Any, query: Input | None) -> web.StreamResponse:
        """Write what a handler gave."""
        if isinstance(found, web.StreamResponse):
            return found
        if found is None:
            return web.Response(status=204)
        if self.is_list:
            assert isinstance(query, Listing)
            return write_page(request, found, self.adapter, self.fields, query)
        if isinstance(found, Tried):
            return write_object(request, found.found, self.adapter, 200)
        return write_object(request, found, self.adapter, self.status)


def operation(
    tag: Tag,
    roles: frozenset[Role] | None,
    *,
    scope: Scope | None = None,
    status: int = 200,
    problems: Sequence[int] = (),
    media: Sequence[str] = (),
    reads: Mapping[str, Any] | None = None,
    is_secret: bool = False,
    devices: bool = False,
) -> Callable[[Callable[..., Awaitable[Any]]], Handler]:
    """Make a handler a route of the API.

    ``roles`` may call it (None: everybody, signed in or not), an API token that has ``scope``, and with ``devices`` a
    device. Without a scope a token may only read; what changes anything then needs a person who has signed in.
    ``reads`` gives the schemas, by media type, of a body that the handler reads by itself. ``is_secret``: the answer
    must not be kept, not even for whoever sends the request again (:mod:`carbontrack.web.idempotency`).
    """

    def mark(handler: Callable[..., Awaitable[Any]]) -> Handler:
        described = _described(handler, tag, status, problems, media, reads or {})
        asked = inspect.signature(handler).parameters

        @functools.wraps(handler)
        async def handle(request: web.Request) -> web.StreamResponse:
            query = None if described.query is None else read_query(request, described.query)
            if described.is_object:
                check_json(request)
            given: dict[str, Any] = {"query": query} if "query" in asked else {}
            if described.body is not None:
                given["body"] = await read_body(request, described.body)
            return described.respond(request, await handler(request, **given), query)

        opened: Handler = public(handle) if roles is None else allow(roles, scope, devices=devices)(handle)
        if described.status == 201 and roles is not None and not is_secret:
            opened = once(opened)
        opened.__dict__["operation"] = described
        return opened

    return mark


def _described(
    handler: Callable[..., Awaitable[Any]],
    tag: Tag,
    status: int,
    problems: Sequence[int],
    media: Sequence[str],
    reads: Mapping[str, Any],
) -> Operation:
    types = get_type_hints(handler)
    summary, _, description = (inspect.getdoc(handler) or "").partition("\n")
    gives, can_be_tried = _without_tried(types["return"])
    is_list = get_origin(gives) is Page  # every list can be had as CSV, and so on, whatever else it understands
    return Operation(
        tag=tag,
        status=204 if gives is type(None) else status,
        gives=gives,
        query=types.get("query", Listing if is_list else None),
        body=types.get("body"),
        problems=frozenset(problems),
        media=tuple(media),
        reads=reads,
        can_be_tried=can_be_tried,
        summary=summary,
        description=description.strip(),
    )


def _without_tried(gives: Any) -> tuple[Any, bool]:
    """What a handler gives, and whether it can be tried."""
    kinds = get_args(gives) if get_origin(gives) in {Union, UnionType} else (gives,)
    plain = [kind for kind in kinds if get_origin(kind) is not Tried]
    return (gives, False) if len(plain) == len(kinds) else (plain[0], True)


def operation_of(handler: Any, method: str) -> Operation | None:
    """What a route takes and gives; None for one that is no route of the API."""
    found = getattr(handler, "operation", None)
    return found if isinstance(found, Operation) and method != "HEAD" else None


def is_kept(handler: Any) -> bool:
    """Whether a route does what it is sent twice with the same key once."""
    return handler.__dict__.get("is_once", False) is True


def usual_problems(described: Operation, method: str, *, is_public: bool, has_variable: bool) -> frozenset[int]:
    """The statuses that every route of this kind may answer, beside its own."""
    found = {503, *described.problems}
    if not is_public:
        found |= {401, 403}
    if method not in SAFE_METHODS:
        found.add(403)
    if has_variable:
        found.add(404)
    if described.query is not None:
        found.add(422)
    if described.body is not None or described.reads:
        found |= {400, 413, 415, 422}
    if not described.media and described.gives is not type(None):
        found.add(406)
    if described.status == 201:
        found |= {409, 422}
    return frozenset(found)
