"""What the routes of the API share: reading bodies and queries, and answering."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from carbontrack.web.errors import Problem, field_errors

WRONG = "Some values are wrong."
YEARS = range(1970, 2200)
"""Times of other years are typing errors; the first and the last there are cannot even be moved to another zone."""

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A number of something, in a query or a body; larger ones do not fit its column."""
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Input(BaseModel):
    """What a request brings: unknown fields are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _has_no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("has a character that PostgreSQL cannot keep (U+0000)")
        return value


InputT = TypeVar("InputT", bound=Input)


async def read_body(request: web.Request, kind: type[InputT]) -> InputT:
    """The body as what it should be. Raises :class:`Problem` for what it is not."""
    try:
        return kind.model_validate_json(await read_json(request))
    except ValidationError as error:
        raise Problem(422, WRONG, field_errors(error)) from None


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as an object of whatever fields. Raises :class:`Problem` for anything else."""
    try:
        given = json.loads(await read_json(request))
    except (ValueError, RecursionError) as error:
        raise Problem(422, WRONG, (("", f"Invalid JSON: {error}"),)) from None
    if not isinstance(given, dict):
        raise Problem(422, WRONG, (("", "send an object"),))
    return given


async def read_json(request: web.Request) -> bytes:
    """The body as it is. Raises :class:`Problem` where it is not declared as JSON."""
    if request.content_type != "application/json":
        raise Problem(415, "Send JSON with the header Content-Type: application/json.")
    return await request.read()


def read_query(request: web.Request, kind: type[InputT]) -> InputT:
    return kind.model_validate(dict(request.query))


def answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def results(found: list[Any], next_cursor: str | None = None) -> web.Response:
    return answer({"results": found, "next": next_cursor})


def zoned(name: str, moment: datetime) -> datetime:
    """A time of a request in UTC. Raises :class:`Problem` where it has no zone, or is of another century."""
    if moment.tzinfo is None:
        raise Problem(422, WRONG, ((name, "needs a zone: end it with Z or an offset"),))
    if moment.year not in YEARS:
        raise Problem(422, WRONG, ((name, f"must be of the years {YEARS[0]} to {YEARS[-1]}"),))
    return moment.astimezone(UTC)
