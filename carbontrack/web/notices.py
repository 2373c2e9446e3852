"""What a page says after a form was sent.

A form is answered by sending the browser on, so that going back or loading anew sends nothing twice. What came of it
goes along in a cookie, which the next page shows and takes away: so a token, say, is shown once and kept nowhere.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

from aiohttp import web
from pydantic import TypeAdapter

from carbontrack.web.auth import is_secure

COOKIE = "carbontrack_notice"


@dataclass(frozen=True, slots=True)
class Notice:
    """What to say; ``secret`` is shown this once, such as a code, and ``advice`` says what to do now."""

    text: str
    secret: str = ""
    advice: str = ""
    is_bad: bool = False


_FORM = TypeAdapter(Notice)


def sent_on(request: web.Request, url: str, notice: Notice) -> web.HTTPSeeOther:
    """The answer to a form: to be raised. The page at ``url`` will show the notice."""
    response = web.HTTPSeeOther(f"{url}#notice")
    value = urlsafe_b64encode(_FORM.dump_json(notice)).decode()
    secure = is_secure(request)
    response.set_cookie(_name(request), value, path="/", secure=secure, httponly=True, samesite="Strict")
    return response


def waiting_notice(request: web.Request) -> Notice | None:
    """What is to be shown now; None for nothing, and for what is none of ours."""
    try:
        return _FORM.validate_json(urlsafe_b64decode(request.cookies.get(_name(request), "")))
    except ValueError:
        return None


def forget_notice(request: web.Request, response: web.StreamResponse) -> None:
    """Take away what has been shown."""
    response.del_cookie(_name(request), path="/", secure=is_secure(request), httponly=True, samesite="Strict")


def _name(request: web.Request) -> str:
    """By https a name that no other host of the domain can set: nobody else says anything on our pages."""
    return f"__Host-{COOKIE}" if is_secure(request) else COOKIE
