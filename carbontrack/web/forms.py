"""Forms of pages: what was typed is checked by the models of the API, and shown again with what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import MultiDictProxy
from pydantic import ValidationError

from carbontrack.web.errors import Problem, refusal
from carbontrack.words import N_, gettext

TEXTS: Mapping[str, str] = {
    "email": N_("Write an e-mail address, such as wanjiru@example.org."),
    "phone_number": N_("Write 6 to 30 digits, such as +254 712 345678."),
    "password": N_("Choose a password."),
    "new_password": N_("Choose a password."),
    "code": N_("Write the code as you got it, such as K7QM-2FXA-9TLB."),
    "role": N_("Choose a role."),
    "stack_id": N_("Choose a chimney."),
    "requested_role": N_("Choose a role."),
    "scopes": N_("Choose at least one."),
    "name": N_("Give it a name of at most 80 characters."),
}
"""What to say of a field that is not as its model wants it, in place of the words of a validator."""
LONGEST_ID = 9
CHOOSE_FACTORY = N_("This role belongs to a factory: choose which.")


@dataclass(frozen=True, slots=True)
class Form:
    """A form as a page shows it. ``name`` tells it from others on the page.

    ``errors`` are by field; what concerns the whole form is under "". ``status`` is the page's own.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """What stands in a field."""
        return str(self.values.get(name) or "")

    def has(self, name: str, value: str) -> bool:
        """Whether a choice, or one of several, is made."""
        made = self.values.get(name)
        return value in made if isinstance(made, list) else value == self.value(name)

    def is_first_wrong(self, name: str) -> bool:
        """Whether somebody who mends the form begins here."""
        return next(iter(self.errors), None) == name

    def answer(self, page: web.Response) -> web.Response:
        """The page that shows this form, with the status of what went wrong."""
        page.set_status(self.status)
        page.headers.update(self.headers)
        return page


async def posted(request: web.Request) -> MultiDictProxy[Any]:
    """The fields and files that a form has sent. Raises :class:`Problem` for what no form sends."""
    try:
        return await request.post()
    except (ValueError, LookupError, HttpProcessingError):  # bytes, a charset, or parts that cannot be
        raise Problem(400, gettext("The form cannot be read. Open the page anew and send it again.")) from None


async def uploaded(request: web.Request, name: str) -> bytes:
    """The content of a file that a form has sent; nothing where it has sent none. Raises :class:`Problem` as above.

    The file is closed here: aiohttp closes those of the request that it made, and behind a proxy ours is another.
    """
    sent = (await posted(request)).get(name)
    if not isinstance(sent, web.FileField):
        return b""
    with sent.file as file:
        return file.read()


async def typed(request: web.Request, *several: str) -> dict[str, Any]:
    """What was typed into a form, a list for those in ``several``. Raises :class:`Problem` as :func:`posted`."""
    sent = await posted(request)
    found: dict[str, Any] = {name: value for name, value in sent.items() if isinstance(value, str)}
    return found | {name: [value for value in sent.getall(name, []) if isinstance(value, str)] for name in several}


async def posted_id(request: web.Request) -> int:
    """The number of what a form is about, from its field ``id``. Raises :class:`Problem` where there is none."""
    found = number_in(str((await posted(request)).get("id", "")))
    if found is None:
        raise Problem(400, gettext("The form cannot be read. Open the page anew and send it again."))
    return found


def number_in(text: str) -> int | None:
    """The number of something, as a form or an address has it; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_ID else None


def without_blanks(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What was typed, without those of ``names`` that were left empty: they are then as if they had not been there."""
    return {name: value for name, value in values.items() if value or name not in names}


def refused(name: str, values: Mapping[str, Any], error: Exception) -> Form:
    """The form again, after one of :data:`~carbontrack.web.errors.REFUSALS`: all is still there but passwords."""
    problem = refusal(error)
    errors: dict[str, str] = {}
    for place, text in problem.errors:
        at = place.partition(".")[0]
        errors.setdefault(at, _told(at, text, error))
    shown = {at: value for at, value in values.items() if "password" not in at}
    return Form(name, shown, errors or {"": sentence(gettext(problem.detail))}, problem.status, problem.headers)


def sentence(text: str) -> str:
    """What the store or a validator says, as a sentence."""
    text = text.removeprefix("Value error, ")
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"


def _told(name: str, text: str, error: Exception) -> str:
    if name == "factory_id":
        return gettext(CHOOSE_FACTORY)
    return gettext(TEXTS[name]) if name in TEXTS and isinstance(error, ValidationError) else sentence(text)
