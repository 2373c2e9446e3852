"""How the API writes its answers: as JSON, CSV or lines of JSON, marked so that a script sees that nothing changed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter
from pydantic_core import to_json

from carbontrack.web.errors import Problem
from carbontrack.web.rest import WRONG, Listing, Page

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
FORMATS: Mapping[str, str] = {"json": JSON, "csv": CSV, "ndjson": NDJSON}
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""


def check_json(request: web.Request) -> None:
    """Raise :class:`Problem` for who does not take JSON: before anything is done that could not be told."""
    _accepted(request.headers.get("Accept"), (JSON,))


def write_object(request: web.Request, value: Any, adapter: TypeAdapter[Any], status: int) -> web.Response:
    """One value as JSON."""
    return _marked(request, web.Response(body=adapter.dump_json(value), status=status, content_type=JSON))


def write_page(
    request: web.Request, page: Page[Any], row: TypeAdapter[Any], fields: Sequence[str], query: Listing
) -> web.Response:
    """A list in the form that was asked for; ``fields`` are those that its rows may have."""
    media_type = (
        FORMATS[query.format] if query.format else _accepted(request.headers.get("Accept"), tuple(FORMATS.values()))
    )
    chosen = _chosen(query.fields, fields)
    include = None if chosen is None else set(chosen)
    # With the fields of the row's own type: rows of a list may be of several.
    rows = [row.dump_python(item, mode="json", include=include) for item in page.results]
    if media_type == JSON:
        body = to_json({"results": rows, "next": page.next})
    elif media_type == NDJSON:
        body = b"".join(to_json(item) + b"\n" for item in rows)
    else:
        body = csv_text(rows, chosen or fields).encode()
    response = web.Response(body=body, content_type=media_type, charset=None if media_type == JSON else "utf-8")
    if page.next is not None:
        after = request.rel_url.update_query(cursor=page.next)
        response.headers["Link"] = f'<{after.raw_path_qs}>; rel="next"'
    if media_type == CSV:
        name = request.path.strip("/").rpartition("/")[2]
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return _marked(request, response)


def _chosen(names: str | None, fields: Sequence[str]) -> list[str] | None:
    if names is None:
        return None
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in fields]
    if unknown or not chosen:
        said = f"{unknown[0]} is none; " if unknown else ""
        raise Problem(422, WRONG, (("fields", f"{said}there are {', '.join(fields)}"),))
    return chosen


def _accepted(wanted: str | None, offered: Sequence[str]) -> str:
    """The media type that a header ``Accept`` likes best. Raises :class:`Problem` where it likes none."""
    scores = {media_type: _quality(media_type, wanted or "*/*") for media_type in offered}
    best = max(offered, key=lambda media_type: scores[media_type])  # the first of equals
    if scores[best] <= 0:
        raise Problem(
            406, f"This is given as {', '.join(offered)}. Ask for one of these, or leave the header Accept out."
        )
    return best


def _quality(media_type: str, wanted: str) -> float:
    """How much the header ``Accept`` likes a media type (RFC 9110, 12.5.1): the most specific range counts."""
    best = (-1, 0.0)
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    for item in wanted.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name not in ranges:
            continue
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        best = max(best, (-ranges.index(name) + len(ranges), quality))
    return best[1]


def _marked(request: web.Request, response: web.Response) -> web.Response:
    """Give an answer its ETag; to who has it already, say only that it is still so (RFC 9110, 13.1.2)."""
    if request.method not in {"GET", "HEAD"}:
        return response
    body = response.body
    assert isinstance(body, bytes)
    tag = hashlib.blake2b(body, digest_size=16).hexdigest()
    response.etag = tag
    known = request.if_none_match or ()
    if any(mark.value in {tag, "*"} for mark in known):
        return web.Response(status=304, headers={"ETag": response.headers["ETag"]})
    return response


# --- CSV


def csv_text(rows: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """Rows with a head: what is an object in JSON has a column for each of its fields, a list is written as JSON."""
    flat = [_flat(row) for row in rows]
    columns: dict[str, None] = {}
    for name in fields:
        within = {column: None for row in flat for column in row if column == name or column.startswith(f"{name}.")}
        columns |= within or {name: None}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in flat)
    return out.getvalue()


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(FORMULA_SIGNS):
        return f"'{value}"
    return value
