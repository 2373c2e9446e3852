"""Periods that reports are of: whole local days, by the names that people give them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_NAMED = re.compile(r"([0-9]{4})(?:-([0-9]{2})|-Q([1-4]))?")
YEARS = range(2000, 9999)


@dataclass(frozen=True, slots=True)
class Period:
    """Local days from ``first`` up to, and without, ``after``; ``name`` is what it is called."""

    first: date
    after: date
    name: str

    def moments(self, zone: tzinfo) -> tuple[datetime, datetime]:
        """When it begins and ends."""
        begin, end = (datetime.combine(day, time(), zone).astimezone(UTC) for day in (self.first, self.after))
        return begin, end


def is_named(text: str) -> bool:
    """Whether a text has the form of a year, a quarter or a month, whether or not there is such a one."""
    return _NAMED.fullmatch(text) is not None


def named(text: str) -> Period:
    """``2026`` (a year), ``2026-Q1`` or ``2026-03``. Raises :class:`ValueError` for anything else."""
    found = _NAMED.fullmatch(text)
    if found is None:
        raise ValueError(f"is no year, quarter or month: {text!r}")
    year, begins, months = int(found[1]), 1, 12
    if found[2]:
        begins, months = int(found[2]), 1
    elif found[3]:
        begins, months = 3 * int(found[3]) - 2, 3
    if year not in YEARS:
        raise ValueError(f"there is no report of the year {year}")
    first = date(year, begins, 1)
    return Period(first, months_later(first, months), text)


class OutOfOrder(ValueError):
    """The last day is before the first one."""


def between(first: date, last: date) -> Period:
    """The days from ``first`` to ``last``, both of them in it. Raises :class:`OutOfOrder`."""
    if last < first:
        raise OutOfOrder("the last day is before the first one")
    return Period(first, last + timedelta(days=1), f"{first} to {last}" if last != first else str(first))


def last_over(today: date, months: int) -> Period:
    """The last calendar month (1), quarter (3) or year (12) that is over on a day."""
    after = date(today.year, (today.month - 1) // months * months + 1, 1)
    first = months_later(after, -months)
    names = {1: f"{first:%Y-%m}", 3: f"{first.year}-Q{(first.month + 2) // 3}", 12: str(first.year)}
    return Period(first, after, names[months])


def months_until(last: date, count: int) -> list[date]:
    """The first days of so many months, up to that of ``last``."""
    return [months_later(last, number - count + 1) for number in range(count)]


def months_later(first: date, months: int) -> date:
    """The first day of the month that is so many months after that of ``first``."""
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)
