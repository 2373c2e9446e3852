"""The language of whoever reads: the words of pages (gettext), and how numbers and dates are written.

A text stands in the code in English and is its own key. The other languages' catalogues are ``locale/*/pages.po`` (what
the server writes) and ``locale/*/scripts.po`` (what the pages' scripts write); ``make words`` gathers their texts.
A text without a translation is shown in English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from typing import Any

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from carbontrack.model import LOCALES, User

CATALOGUES = Path(__file__).parent / "locale"
_VALUE = re.compile(r"%\((\w+)\)s")
LANGUAGE_COOKIE = "language"
"""What somebody has chosen before signing in."""
LANGUAGE_TITLES: Mapping[str, str] = {"en": "English", "sw": "Kiswahili"}
"""Each in its own language, so that whoever needs it finds it."""
REGIONS: Mapping[str, str] = {"en": "en_KE", "sw": "sw_KE"}
"""Numbers and dates are those of Kenya."""


def N_(message: str) -> str:  # noqa: N802  # the name that every tool for gettext knows
    """Mark a text of a table, to be translated with :func:`gettext` where it is shown."""
    return message


RATE_COOKIE = "rate_unit"
RATES: Mapping[str, float] = {N_("kg/h"): 3600.0, N_("t/day"): 86.4}
"""The units that a rate may be shown in, and what one kg/s is in them."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What is known of whoever reads that changes how a page is written."""

    language: str = LOCALES[0]
    rate_unit: str = next(iter(RATES))


_READER: ContextVar[Reader] = ContextVar("reader", default=Reader())  # noqa: B039  # it is frozen
# Every request sets it anew. It is no parameter because filters of templates and tables of titles need it as well.


def reader() -> Reader:
    """Whoever reads the answer that is being made."""
    return _READER.get()


def write_for(someone: Reader) -> None:
    """From here on, write for this reader: until the request's end, or until somebody else is named."""
    _READER.set(someone)


def in_language_of(user: User, someone: Reader) -> Reader:
    """How to write for a reader of whom is known by now who it is."""
    return replace(someone, language=user.locale) if user.locale in LOCALES else someone


def preferred(language: str | None, accepted: str, rate_unit: str | None = None) -> Reader:
    """How to write for somebody who has not signed in: by choice, or by what the browser asks for.

    ``accepted`` is a header Accept-Language (RFC 9110, 12.5.4).
    """
    return Reader(
        language if language is not None and language in LOCALES else _best(accepted),
        rate_unit if rate_unit is not None and rate_unit in RATES else next(iter(RATES)),
    )


def _best(accepted: str) -> str:
    wanted: list[tuple[float, str]] = []
    for part in accepted.split(","):
        tag, _, parameter = part.partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        wanted.append((-weight, tag.strip().lower().partition("-")[0]))
    known = [
        language for weight, language in sorted(wanted, key=lambda it: it[0]) if language in LOCALES and weight < 0
    ]
    return known[0] if known else LOCALES[0]


def gettext(message: str, **values: Any) -> str:
    """A text in the reader's language, with its values put in: ``gettext("%(count)s of them", count=2)``."""
    found = _translations(_READER.get().language).gettext(message)
    return found % values if values else found


def ngettext(one: str, many: str, num: int, **values: Any) -> str:
    """A text whose form depends on a number, which it has as ``%(num)s``."""
    return plural_form(one, many, num) % ({"num": num} | values)


def plural_form(one: str, many: str, num: int) -> str:
    """The same before its values are put in: templates do that by themselves."""
    return _translations(_READER.get().language).ngettext(one, many, num)


def retold(told: str, texts: Sequence[str]) -> str:
    """What was told in English, in the reader's language, where it is one of these texts with its values put in.

    For what is kept, or hashed, in English; anything else stays as it is.
    """
    for text in texts:
        parts = _VALUE.split(text)  # text, name, text, name, ...
        pattern = "".join(f"(?P<{it}>.+)" if place % 2 else re.escape(it) for place, it in enumerate(parts))
        if found := re.fullmatch(pattern, told):
            return gettext(text, **found.groupdict())
    return told


def script_words() -> Mapping[str, str | Sequence[str]]:
    """What the scripts of a page need to write in the reader's language; empty where that is English."""
    return _script_words(_READER.get().language)


# --- numbers and dates


def decimal(value: float, digits: int = 0) -> str:
    """A number with so many digits behind the point, and its thousands apart."""
    text = f"{value:,.{digits}f}"
    marks = _marks(_READER.get().language)
    return text if marks is None else text.translate(marks)


def date_text(day: date, pattern: str = "dd MMM y") -> str:
    """A day, by a pattern of Unicode TR 35."""
    return format_date(day, pattern, locale=_locale(_READER.get().language))


def time_text(moment: datetime, zone: tzinfo, pattern: str) -> str:
    """A moment in a time zone, by a pattern of Unicode TR 35."""
    return format_datetime(moment.astimezone(zone), pattern, locale=_locale(_READER.get().language))


# --- catalogues


@cache
def _translations(language: str) -> NullTranslations:
    path = CATALOGUES / language / "pages.po"
    if not path.exists():
        return NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, _catalogue(path))
    compiled.seek(0)
    return GNUTranslations(compiled)


@cache
def _script_words(language: str) -> Mapping[str, str | Sequence[str]]:
    path = CATALOGUES / language / "scripts.po"
    if not path.exists():
        return {}
    return {
        message.id if isinstance(message.id, str) else message.id[0]: message.string
        for message in _catalogue(path)
        if message.id and message.string
    }


def _catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file)


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(REGIONS.get(language, language))


@cache
def _marks(language: str) -> dict[int, str] | None:
    """What Python's marks in a number become; None where they are the same."""
    symbols = _locale(language).number_symbols["latn"]
    marks = {",": symbols["group"], ".": symbols["decimal"]}
    return None if all(mark == other for mark, other in marks.items()) else str.maketrans(marks)
