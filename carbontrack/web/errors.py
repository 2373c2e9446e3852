"""What goes wrong, told in the form that the asker reads: a page for people, problem+json (RFC 9457) for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from carbontrack.store import RegistryError, StoreUnavailable
from carbontrack.web.access import Handler
from carbontrack.web.attempts import TooManyAttempts
from carbontrack.web.services import REQUEST_ID
from carbontrack.web.templating import render
from carbontrack.words import N_, gettext

log = structlog.get_logger(__name__)


TITLES: Mapping[int, str] = {
    400: N_("Bad Request"),
    401: N_("Unauthorized"),
    403: N_("Forbidden"),
    404: N_("Not Found"),
    405: N_("Method Not Allowed"),
    406: N_("Not Acceptable"),
    409: N_("Conflict"),
    413: N_("Request Entity Too Large"),
    415: N_("Unsupported Media Type"),
    422: N_("Unprocessable Entity"),
    429: N_("Too Many Requests"),
    500: N_("Internal Server Error"),
    502: N_("Bad Gateway"),
    503: N_("Service Unavailable"),
}
"""HTTP's own names of what happened, for whose pages have another language."""
CHECKS: Mapping[str, str] = {
    "missing": N_("Field required"),
    "extra_forbidden": N_("Extra inputs are not permitted"),
    "string_too_short": N_("String should have at least %(min_length)s characters"),
    "string_too_long": N_("String should have at most %(max_length)s characters"),
    "greater_than": N_("Input should be greater than %(gt)s"),
    "greater_than_equal": N_("Input should be greater than or equal to %(ge)s"),
    "less_than": N_("Input should be less than %(lt)s"),
    "less_than_equal": N_("Input should be less than or equal to %(le)s"),
    "enum": N_("Input should be %(expected)s"),
    "literal_error": N_("Input should be %(expected)s"),
    "float_type": N_("Input should be a valid number"),
    "float_parsing": N_("Input should be a valid number, unable to parse string as a number"),
    "int_type": N_("Input should be a valid integer"),
    "int_parsing": N_("Input should be a valid integer, unable to parse string as an integer"),
    "finite_number": N_("Input should be a finite number"),
    "string_type": N_("Input should be a valid string"),
    "bool_parsing": N_("Input should be a valid boolean, unable to interpret input"),
}
"""What a validator (pydantic) says, by the type of its error."""


class Problem(Exception):
    """An error of the API. ``errors`` are pairs of field and message."""

    def __init__(self, status: int, detail: str, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers: dict[str, str] = {}
        self.type = "about:blank"
        self.rows: tuple[int, ...] = ()
        """Where the errors are those of a table: the row of each."""


REFUSALS = (Problem, ValidationError, RegistryError, TooManyAttempts)
"""What is raised where a request cannot be done as it is: whoever sent it is told why, and may send another."""


def refusal(error: Exception) -> Problem:
    """What to tell of one of :data:`REFUSALS`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return Problem(422, gettext("Some values are wrong."), field_errors(error))
    if isinstance(error, TooManyAttempts):
        problem = Problem(429, str(error))
        problem.headers = {"Retry-After": str(error.retry_after_s)}
        return problem
    assert isinstance(error, RegistryError)
    return Problem(409, str(error), ((error.field, str(error)),) if error.field else ())


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer that says what to do."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except Exception as error:  # noqa: BLE001  # the last place where it can be answered
        return _answer(request, _problem(request, error))


def _problem(request: web.Request, error: Exception) -> Problem:
    if isinstance(error, REFUSALS):
        return refusal(error)
    if isinstance(error, web.HTTPException):
        text = error.text or ""
        problem = Problem(error.status, "" if text.startswith(f"{error.status}:") else text)
        kept = ("Allow", "Retry-After", "WWW-Authenticate")
        problem.headers = {name: error.headers[name] for name in kept if name in error.headers}
        return problem
    if isinstance(error, web.RequestPayloadError):
        text = gettext("The body cannot be read: it is not encoded as its headers say, or was cut off.")
        return Problem(400, text)
    if isinstance(error, StoreUnavailable):
        log.warning("the database is away", error=str(error))
        text = gettext("The database does not answer at the moment. Devices keep their readings; try again soon.")
        return Problem(503, text)
    log.error("request failed", exc_info=error)
    text = gettext("That is our mistake. The log has it under %(reference)s.", reference=request[REQUEST_ID])
    return Problem(500, text)


def field_errors(error: ValidationError) -> tuple[tuple[str, str], ...]:
    """Pairs of field and message, without what was typed: it may be a password."""
    return tuple((".".join(map(str, item["loc"])), _told(item)) for item in error.errors(include_input=False))


def _told(item: ErrorDetails) -> str:
    """What a validator says, in the reader's language where that is known."""
    text = CHECKS.get(item["type"], "")
    told = gettext(text) if text else ""
    if told == text:
        return item["msg"]
    bounds = item.get("ctx", {})
    return told % {name: f"{it:g}" if isinstance(it, float) else it for name, it in bounds.items()}


def _answer(request: web.Request, problem: Problem) -> web.Response:
    title = HTTPStatus(problem.status).phrase
    detail = problem.detail and gettext(problem.detail)
    if request.path.startswith("/api/"):
        body: dict[str, Any] = {"type": problem.type, "title": title, "status": problem.status}
        if detail:
            body["detail"] = detail
        body["request_id"] = request[REQUEST_ID]
        if problem.errors:
            body["errors"] = [{"field": field, "message": message} for field, message in problem.errors]
        for error, row in zip(body.get("errors", ()), problem.rows, strict=False):
            error["row"] = row
        return web.Response(
            text=json.dumps(body),
            status=problem.status,
            content_type="application/problem+json",
            headers=problem.headers,
        )
    if problem.status == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("Accept", ""):
        raise web.HTTPSeeOther(_sign_in_url(request))
    title = gettext(TITLES.get(problem.status, title))
    values = {"status": problem.status, "title": title, "detail": detail, "request_id": request[REQUEST_ID]}
    page = render(request, "error.html", values)
    page.set_status(problem.status)
    page.headers.update(problem.headers)
    return page


def _sign_in_url(request: web.Request) -> str:
    back = request.path_qs if request.method == "GET" and request.path != "/" else ""
    return str(request.app.router["login"].url_for().with_query({"next": back} if back else {}))
