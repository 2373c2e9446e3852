"""Emission factors as dated, sourced rows: which one was in force, and what a figure was made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import pairwise
from math import isfinite
from typing import Any

from carbontrack.ledger import Factor

_REQUIRED = ("name", "value", "unit", "source", "valid_from")
_OPTIONAL = ("valid_to", "u_relative", "note")


class FactorMissing(LookupError):
    """No row of that name was in force on that day."""


class FactorError(ValueError):
    """A row of factors that cannot be used: the message names its origin, the row and the key."""


@dataclass(frozen=True)
class FactorSet:
    """Rows that are valid at different times. ``version`` is the same for the same rows, in whatever order."""

    rows: tuple[Factor, ...]
    version: str

    @classmethod
    def of(cls, rows: Iterable[Factor]) -> FactorSet:
        """A set of rows, which take the version of the set."""
        ordered = sorted((replace(row, version="") for row in rows), key=lambda row: (row.name, row.valid_from))
        _check_overlaps(ordered)
        text = json.dumps([asdict(row) for row in ordered], default=str, sort_keys=True)
        version = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cls(tuple(replace(row, version=version) for row in ordered), version)

    def get(self, name: str, on: date) -> Factor:
        """The factor of that name on a day. Raises :class:`FactorMissing` with what there is instead."""
        found = [row for row in self.rows if row.name == name]
        for row in found:
            if row.valid_from <= on and (row.valid_to is None or on < row.valid_to):
                return row
        known = ", ".join(f"{row.valid_from} to {row.valid_to or 'further notice'}" for row in found) or "none"
        raise FactorMissing(f"There is no factor {name!r} for {on}. There are rows for: {known}")

    def value(self, name: str, on: date) -> float:
        return self.get(name, on).value

    def replaced(self, rows: Iterable[Factor]) -> FactorSet:
        """This set with an operator's own rows: a name that they give at all is theirs alone."""
        own = list(rows)
        names = {row.name for row in own}
        return FactorSet.of([row for row in self.rows if row.name not in names] + own)


def parse_factors(rows: object, origin: str) -> list[Factor]:
    """Rows as a YAML file has them. Raises :class:`FactorError` for what cannot be used."""
    if not isinstance(rows, list):
        raise FactorError(f"{origin}: the file is a list of factors, each with {', '.join(_REQUIRED)}")
    return [_factor(row, f"{origin}, factor {number}") for number, row in enumerate(rows, 1)]


def _factor(row: object, where: str) -> Factor:
    if not isinstance(row, Mapping):
        raise FactorError(f"{where}: is not a mapping of keys to values")
    if unknown := sorted(set(row) - {*_REQUIRED, *_OPTIONAL}):
        raise FactorError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join((*_REQUIRED, *_OPTIONAL))}")
    if missing := [key for key in _REQUIRED if row.get(key) in {None, ""}]:
        raise FactorError(f"{where}: the key {missing[0]!r} is missing")
    valid_from = _day(row["valid_from"], f"{where}: valid_from")
    valid_to = None if row.get("valid_to") is None else _day(row["valid_to"], f"{where}: valid_to")
    if valid_to is not None and valid_to <= valid_from:
        raise FactorError(f"{where}: valid_to must be after valid_from; it is the first day that is not covered")
    spread = row.get("u_relative")
    return Factor(
        name=str(row["name"]),
        value=_number(row["value"], f"{where}: value"),
        unit=str(row["unit"]),
        source=str(row["source"]),
        valid_from=valid_from,
        valid_to=valid_to,
        u_relative=None if spread is None else _number(spread, f"{where}: u_relative"),
        note=str(row.get("note") or ""),
    )


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise FactorError(f"{where} must be a number of at least 0, not {value!r}")
    return float(value)


def _day(value: Any, where: str) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise FactorError(f"{where} must be a day such as 2024-01-01, not {value!r}") from None


def _check_overlaps(rows: list[Factor]) -> None:
    for before, after in pairwise(rows):
        if before.name == after.name and (before.valid_to is None or before.valid_to > after.valid_from):
            raise FactorError(
                f"two rows of {before.name!r} are both valid on {after.valid_from}: "
                "give the earlier one a valid_to that is not later"
            )
