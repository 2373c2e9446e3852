"""What drivers of JSON payloads have in common: times, and payloads that cannot be read. Plugins may use it too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from math import isfinite
from typing import Any

import msgspec

from carbontrack.hookspecs import DecodeError

MOST_NUMBER = 2**53
"""Beyond this a JSON number is no longer a whole number in every language, and no measurement either."""
MOST_MS = 253_402_300_799_000
"""9999-12-31T23:59:59Z: the last time that any of our parts can represent."""
HEAD = 400
"""In so many bytes the head of a numbered message is looked for."""
MOST_RECORDS = 1000


def json_object(body: bytes) -> dict[str, Any]:
    """The object that a flat payload is; :class:`DecodeError` without numbers where it is none."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("not_finite" if _has_no_number(body, error) else "invalid_json", str(error)) from None
    if not isinstance(found, dict):
        raise DecodeError("wrong_type", "the message is not an object")
    return found


def number_in(body: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """The first of these keys that is there and not null, as a finite number; raises :class:`DecodeError`."""
    for key in keys:
        if (value := body.get(key)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DecodeError("wrong_type", f"{key} must be a number")
            if isinstance(value, int) and abs(value) > MOST_NUMBER:
                raise DecodeError("not_finite", f"{key} is larger than any measurement")
            if not isfinite(value):
                raise DecodeError("not_finite", f"{key} is not a finite number")
            return float(value)
    return None


def timestamp_ms(value: object, zone: tzinfo | None = None) -> int:
    """A device's timestamp as UTC in ms since 1970: ISO 8601 text, or a number: seconds below 1e11, else ms.

    ``zone`` is the one of a text that names none; without it such a text may mean anything and is refused. Raises
    :class:`DecodeError` (``wrong_type``).
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise DecodeError("wrong_type", f"timestamp {value[:40]!r} is not ISO 8601") from None
        if moment.tzinfo is None:
            if zone is None:
                raise DecodeError("wrong_type", "timestamp has no zone: write Z or an offset")
            moment = moment.replace(tzinfo=zone)
        return min(MOST_MS, max(0, round(moment.timestamp() * 1000)))
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not 0 <= value < 2.5e14:
        raise DecodeError("wrong_type", "timestamp must be ISO 8601 text, or UTC seconds or milliseconds")
    return round(value * 1000 if value < 1e11 else value)


def unreadable(body: bytes, error: Exception) -> DecodeError:
    """What to raise for a body that msgspec cannot read, with the numbers of its head where they are there."""
    detail = str(error)
    if _has_no_number(body, error):
        return DecodeError("not_finite", "a number is NaN or infinite", numbers_in_head(body))
    if isinstance(error, msgspec.ValidationError):
        missing = "missing required field" in detail
        return DecodeError("missing_field" if missing else "wrong_type", detail, numbers_in_head(body))
    return DecodeError("invalid_json", detail, numbers_in_head(body))


def _has_no_number(body: bytes, error: Exception) -> bool:
    return re.search(rb"\b(NaN|-?Infinity)\b", body) is not None or "out of range" in str(error)


def numbers_in_head(body: bytes) -> tuple[str, int, int] | None:
    """Stream, first and last number that a message stands for, where ``sid``, ``seq`` and ``n`` can still be read."""
    head = body[:HEAD]
    sid = re.search(rb'"sid"\s*:\s*"([0-9A-Za-z_-]{1,32})"', head)
    seq = re.search(rb'"seq"\s*:\s*(\d{1,15})[,\s}]', head)
    n = re.search(rb'"n"\s*:\s*(\d{1,4})[,\s}]', head)
    if not (sid and seq and n) or not 1 <= int(n[1]) <= MOST_RECORDS:
        return None
    return sid[1].decode(), int(seq[1]), int(seq[1]) + int(n[1]) - 1
