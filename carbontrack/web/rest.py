"""What the routes of the API share: what a request may bring, and what is read out of it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar, get_args

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from carbontrack.web.errors import Problem, field_errors
from carbontrack.words import N_, gettext

WRONG = N_("Some values are wrong.")
"""It is translated where it is answered."""
YEARS = range(1970, 2200)
"""Times of other years are typing errors; the first and the last there are cannot even be moved to another zone."""
MOST_RESULTS = 1000

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A number of something, in a query or a body; larger ones do not fit its column."""


def _is_shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError(gettext("has characters that cannot be shown: leave them out"))
    return text


Shown = AfterValidator(_is_shown)
"""For a text of one line, such as a name."""
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Input(BaseModel):
    """What a request brings: unknown fields are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*")
    @classmethod
    def _has_no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError(gettext("has a character that PostgreSQL cannot keep (U+0000)"))
        return value


class Output(BaseModel):
    """What an answer gives: made out of our own values, whose fields it names for the world."""

    model_config = ConfigDict(
        frozen=True,
        from_attributes=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


InputT = TypeVar("InputT", bound=Input)
OutputT_co = TypeVar("OutputT_co", covariant=True)


class Numbered(Protocol):
    """What a list can be made of: each has a number of its own."""

    @property
    def id(self) -> int: ...


T = TypeVar("T", bound=Numbered)


# --- lists


class Listing(Input):
    """What every list understands."""

    fields: str | None = Field(None, max_length=1000, examples=["id,name"])
    """Names of fields, separated by commas: only these are given."""
    format: Literal["json", "csv", "ndjson"] | None = None
    """The form of the answer, in place of the header `Accept`: JSON, CSV with a head, or one JSON object a line."""


class Paged(Listing):
    limit: int = Field(MOST_RESULTS, ge=1, le=MOST_RESULTS)
    """The most rows of one answer."""
    cursor: str | None = Field(None, max_length=400)
    """Where the last answer ended: its `next`."""


@dataclass(frozen=True, slots=True)
class Page(Generic[OutputT_co]):
    """A part of a list; ``next`` is the cursor of the part after it, None where there is none."""

    results: Sequence[OutputT_co]
    next: str | None = None


def page_of(rows: Iterable[T], query: Paged, sort: str) -> Page[T]:
    """One page of a list that is in memory: see :func:`cut`."""
    return Page(*cut(rows, query, sort))


def cut(rows: Iterable[T], query: Paged, sort: str) -> tuple[list[T], str | None]:
    """A page of what is in memory, sorted by a field (``-`` before it: the largest first), then by number; its cursor.

    Raises :class:`Problem` for a cursor of another list.
    """
    name = sort.removeprefix("-")

    def place(row: T) -> tuple[Any, ...]:
        value = getattr(row, name)
        value = value.isoformat() if isinstance(value, datetime) else value
        return value is not None, value.casefold() if isinstance(value, str) else value, row.id

    ordered = sorted(rows, key=place, reverse=sort != name)
    if query.cursor is not None:
        ordered = _after(ordered, place, read_cursor(query.cursor), is_descending=sort != name)
    found = ordered[: query.limit]
    return found, write_cursor(place(found[-1])) if len(ordered) > len(found) else None


def _after(ordered: list[T], place: Callable[[T], tuple[Any, ...]], last: list[Any], *, is_descending: bool) -> list[T]:
    try:
        mark = tuple(last)
        return [row for row in ordered if (place(row) < mark if is_descending else place(row) > mark)]
    except TypeError:
        raise bad_cursor() from None


def write_cursor(place: Iterable[Any]) -> str:
    """Where a page ends, as an opaque word."""
    return base64.urlsafe_b64encode(json.dumps(list(place)).encode()).rstrip(b"=").decode()


def read_cursor(cursor: str) -> list[Any]:
    """What :func:`write_cursor` wrote. Raises :class:`Problem` for anything else."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise bad_cursor() from None
    if not isinstance(place, list):
        raise bad_cursor()
    return place


def id_before(cursor: str | None) -> int | None:
    """Where a list by falling id goes on, of a cursor with one id; None at its beginning.

    Raises :class:`Problem` for a cursor of another list.
    """
    if cursor is None:
        return None
    match read_cursor(cursor):
        case [int(number)] if 0 < number < 2**63:
            return number
    raise bad_cursor()


def bad_cursor() -> Problem:
    """The answer to a cursor that is none of this list's."""
    return Problem(422, WRONG, (("cursor", gettext("is the `next` of the answer before, with the same query")),))


# --- reading


async def read_body(request: web.Request, kind: type[InputT]) -> InputT:
    """The body as what it should be. Raises :class:`Problem` for what it is not."""
    body = await read_json(request)
    try:
        # Strict: a number in quotes is no number, so that what is taken is what the description says.
        found = kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise Problem(422, WRONG, field_errors(error)) from None
    if _times(kind):
        _check_times(kind, json.loads(body))
    return found


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as an object of whatever fields. Raises :class:`Problem` for anything else."""
    try:
        given = json.loads(await read_json(request))
    except (ValueError, RecursionError) as error:
        raise Problem(422, WRONG, (("", f"Invalid JSON: {error}"),)) from None
    if not isinstance(given, dict):
        raise Problem(422, WRONG, (("", gettext("send an object")),))
    return given


async def read_json(request: web.Request) -> bytes:
    """The body as it is. Raises :class:`Problem` where it is not declared as JSON."""
    if request.content_type != "application/json":
        raise Problem(415, gettext("Send JSON with the header Content-Type: application/json."))
    return await request.read()


def read_query(request: web.Request, kind: type[InputT]) -> InputT:
    """The query as what it should be. Raises :class:`Problem` for what it is not."""
    _check_times(kind, request.query)
    try:
        return kind.model_validate(dict(request.query))
    except ValidationError as error:
        raise Problem(422, WRONG, field_errors(error)) from None


NUMBER = re.compile(r"\s*[+-]?[\d.]+\s*")


def _check_times(kind: type[Input], given: Mapping[str, Any]) -> None:
    """Refuse numbers for times: pydantic takes their text for seconds since 1970, which nobody means here."""
    wrong = gettext("is a number: write a time such as 2026-03-01T12:00:00Z, or a day such as 2026-03-01")
    errors = [(name, wrong) for name in _times(kind) if NUMBER.fullmatch(str(given.get(name, "")))]
    if errors:
        raise Problem(422, WRONG, tuple(errors))


@cache
def _times(kind: type[Input]) -> tuple[str, ...]:
    """The names of the fields that are times or days, as requests have them."""
    return tuple(
        field.alias or name
        for name, field in kind.model_fields.items()
        if {date, datetime} & {field.annotation, *get_args(field.annotation)}
    )


def path_id(request: web.Request) -> int:
    """The number in a path."""
    return int(request.match_info["id"])


def zoned(name: str, moment: datetime) -> datetime:
    """A time of a request in UTC. Raises :class:`Problem` where it has no zone, or is of another century."""
    if moment.tzinfo is None:
        raise Problem(422, WRONG, ((name, gettext("needs a zone: end it with Z or an offset")),))
    if moment.year not in YEARS:
        text = gettext("must be of the years %(first)s to %(last)s", first=YEARS[0], last=YEARS[-1])
        raise Problem(422, WRONG, ((name, text),))
    return moment.astimezone(UTC)


def day_in(text: str) -> date:
    """A day such as 2026-03-01. Raises ValueError for anything else, and for another century as :func:`zoned`."""
    day = date.fromisoformat(text)
    if day.isoformat() != text or day.year not in YEARS[1:-1]:
        raise ValueError(gettext("is no day such as 2026-03-01"))
    return day
