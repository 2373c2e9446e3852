"""What the routes of the API share: reading bodies and queries, and answering."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from carbontrack.web.errors import Problem, field_errors

WRONG = "Some values are wrong."


class Input(BaseModel):
    """What a request brings: unknown fields are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True)


InputT = TypeVar("InputT", bound=Input)


async def read_body(request: web.Request, kind: type[InputT]) -> InputT:
    """The body as what it should be. Raises :class:`Problem` for what it is not."""
    if request.content_type != "application/json":
        raise Problem(415, "Send JSON with the header Content-Type: application/json.")
    raw = await request.read()
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise Problem(422, WRONG, field_errors(error)) from None


def read_query(request: web.Request, kind: type[InputT]) -> InputT:
    return kind.model_validate(dict(request.query))


def answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def results(found: list[Any], next_cursor: str | None = None) -> web.Response:
    return answer({"results": found, "next": next_cursor})


def zoned(name: str, moment: datetime) -> datetime:
    """A time of a request in UTC. Raises :class:`Problem` where it has no zone."""
    if moment.tzinfo is None:
        raise Problem(422, WRONG, ((name, "needs a zone: end it with Z or an offset"),))
    return moment.astimezone(UTC)
