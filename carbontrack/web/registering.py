"""A table of factories, chimneys and devices: what it would register, and what is wrong with it.

Each row names a factory, perhaps one of its chimneys, and perhaps a device there. What is registered already is left
as it is: the same table registers nothing a second time, and one that says otherwise is wrong.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import isclose
from typing import Any

from pydantic import ValidationError

from carbontrack.emissions.rate import plan_in_force
from carbontrack.model import Factory, MonitoringPlan, Site, Stack, slug_of
from carbontrack.store import Registration, Store
from carbontrack.web.api.plans import PlanInput, planned
from carbontrack.web.api.registry import NewFactory
from carbontrack.web.bulk import Finding
from carbontrack.web.errors import Problem, field_errors
from carbontrack.web.spreadsheets import Cell, Table
from carbontrack.web.upload_rows import number
from carbontrack.words import gettext

FACTORY_COLUMNS = (
    "county", "region", "altitude_m", "pressure_kpa", "latitude", "longitude", "legal_entity", "un_locode",
)  # fmt: skip
PLAN_COLUMNS = (
    "shape", "diameter_m", "width_m", "length_m", "profile_factor", "basis", "velocity_method", "co2_range_ppm",
    "dilution_ratio", "h2o_fraction", "fuels",
)  # fmt: skip
COLUMNS = ("factory", *FACTORY_COLUMNS, "chimney", *PLAN_COLUMNS, "device_id", "sensor")
NUMBERS = frozenset({
    "altitude_m", "pressure_kpa", "latitude", "longitude", "diameter_m", "width_m", "length_m", "profile_factor",
    "co2_range_ppm", "dilution_ratio", "h2o_fraction",
})  # fmt: skip
CHOICES: Mapping[str, Sequence[str]] = {
    "shape": ("circular", "rectangular"),
    "basis": ("dry", "wet"),
    "velocity_method": ("anemometer", "pitot"),
}
MOST_ROWS = 1000
LONGEST_CHIMNEY = 80
EXAMPLE = "Example: replace this row"
"""The factory of a template's row."""
DRIVER = "ct_v1"


@dataclass(slots=True)
class Judged:
    """What a table comes to. ``there`` counts rows that register nothing, because all of them is there."""

    rows: int
    errors: list[Finding] = field(default_factory=list)
    factories: dict[str, Factory] = field(default_factory=dict)
    """New ones, by slug."""
    stacks: dict[tuple[str, str], MonitoringPlan] = field(default_factory=dict)
    """New ones, by slug of the factory and name."""
    devices: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """New ones by device id: slug of the factory, chimney, driver."""
    there: int = 0

    @property
    def registration(self) -> Registration:
        """What is to be registered."""
        return Registration(
            tuple(self.factories.values()),
            tuple((slug, name, plan) for (slug, name), plan in self.stacks.items()),
            tuple((slug, stack, device_id, sensor) for device_id, (slug, stack, sensor) in self.devices.items()),
        )


async def judge(table: Table, store: Store, sensors: Collection[str], now: datetime) -> Judged:
    """What a table would register. Raises :class:`Problem` where its columns are not those of such a table."""
    columns = _columns(table)
    register = _Register(await store.factories(), await store.stacks(), await store.sites(), sensors, now)
    judged = Judged(len(table.rows))
    for row, cells in table.rows:
        _Row(row, register, judged).judge(columns, cells, table.separator)
    return judged


def template() -> str:
    """A table to begin with, as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    example = {"altitude_m": "2036", "county": "Kirinyaga", "region": "3", "chimney": "Boiler 1", "shape": "circular"}
    writer.writerow({"factory": EXAMPLE, **example, "diameter_m": "0.8", "device_id": "ct-kangaita-1"})
    return out.getvalue()


def _columns(table: Table) -> list[str]:
    names = [name.casefold() for name in table.head]
    errors = [
        (name[:60], gettext("is no such column")) for name in dict.fromkeys(names) if name and name not in COLUMNS
    ]
    errors += [(name, gettext("is there twice")) for name in COLUMNS if names.count(name) > 1]
    if "factory" not in names:
        errors.append(("factory", gettext("is needed, and is not there")))
    if errors:
        text = gettext("The columns do not fit. There are %(names)s.", names=", ".join(COLUMNS))
        raise Problem(422, text, tuple(errors))
    if len(table.rows) > MOST_ROWS:
        raise Problem(422, gettext("There are more than %(most)s rows: send them in parts.", most=MOST_ROWS))
    return names


class _Register:
    """What is registered, and what the rows so far have added; each with the row that it comes from, 0 of none."""

    def __init__(
        self,
        factories: Sequence[Factory],
        stacks: Sequence[Stack],
        sites: Sequence[Site],
        sensors: Collection[str],
        now: datetime,
    ) -> None:
        self.sensors = sensors
        self.now = now
        self.factories: dict[str, tuple[Factory, int]] = {}
        for factory in factories:
            self.factories[factory.slug] = self.factories[factory.name.casefold()] = factory, 0
        slugs = {it.id: it.slug for it in factories}
        self.stacks: dict[tuple[str, str], tuple[str, MonitoringPlan, int]] = {
            (slugs[it.factory_id], it.name.casefold()): (it.name, plan_in_force(it.plans, now.timestamp()), 0)
            for it in stacks
        }
        """By slug of the factory and name: the name as it is written, its plan, and the row."""
        self.devices: dict[str, tuple[tuple[str, str], str, int]] = {
            it.device.device_id: ((it.factory.slug, it.stack.name), it.device.sensor, 0) for it in sites
        }
        """By device id: slug and chimney, driver, and the row."""
        self.wrong: set[tuple[str, str]] = set()
        """Factories and chimneys (of factories) that were found wrong: once is enough."""


class _Wrong(Exception):
    """What follows in a row cannot be judged; what is wrong is among the errors."""


class _Row:
    """One row: its errors go to the judged table, and what it adds to the register."""

    def __init__(self, row: int, register: _Register, judged: Judged) -> None:
        self._row = row
        self._register = register
        self._judged = judged
        self._added = False

    def judge(self, columns: Sequence[str], cells: Sequence[Cell], separator: str) -> None:
        before = len(self._judged.errors)
        try:
            values = self._read(columns, cells, separator)
            factory = self._factory(values)
            chimney = self._chimney(values, factory)
            self._device(values, factory, chimney)
        except _Wrong:
            return
        if not self._added and len(self._judged.errors) == before:
            self._judged.there += 1

    def _wrong(self, column: str, message: str) -> None:
        self._judged.errors.append(Finding(self._row, column, message))

    def _read(self, columns: Sequence[str], cells: Sequence[Cell], separator: str) -> dict[str, Any]:
        """What the cells say; empty ones say nothing. Raises :class:`_Wrong`."""
        before, values = len(self._judged.errors), dict[str, Any]()
        if any(cell != "" for cell in cells[len(columns) :]):
            self._wrong("", gettext("has more cells than the first row has names of columns"))
        for name, cell in zip(columns, cells, strict=False):
            if cell == "" or not name:
                continue
            text = cell if isinstance(cell, str) else f"{cell:.15g}"
            try:
                values[name] = self._value(name, cell, text, separator)
            except ValueError as error:
                self._wrong(name, str(error))
        if values.get("factory") == EXAMPLE:
            self._wrong("factory", gettext("is that of the template's example: put one of yours in its place"))
        if len(self._judged.errors) > before:
            raise _Wrong
        return values

    @staticmethod
    def _value(name: str, cell: Cell, text: str, separator: str) -> Any:
        if name in NUMBERS:
            return cell if isinstance(cell, float) else number(text, separator)
        if name in CHOICES and text.casefold() not in CHOICES[name]:
            raise ValueError(gettext("must be one of %(names)s", names=", ".join(CHOICES[name])))
        return text.casefold() if name in CHOICES else text

    def _factory(self, values: Mapping[str, Any]) -> Factory:
        name = values.get("factory", "")
        if not name:
            self._wrong("factory", gettext("is needed: the name of the factory"))
            raise _Wrong
        given = {column: values[column] for column in FACTORY_COLUMNS if column in values}
        known = self._register.factories.get(name.casefold())
        if known is not None:
            self._compare(given, known[0], known[1])
            return known[0]
        self._once(name, "")
        try:
            new = NewFactory.model_validate({"name": name, **given})
        except ValidationError as error:
            self._wrong_fields(error, {"name": "factory"})
            raise _Wrong from None
        made = Factory(id=0, slug=slug_of(new.name), **new.model_dump())
        if other := self._register.factories.get(made.slug):
            self._wrong(
                "factory", gettext("is too much like %(other)s: their addresses would be the same", other=other[0].name)
            )
            raise _Wrong
        self._register.wrong.discard((name.casefold(), ""))
        self._register.factories[made.slug] = self._register.factories[name.casefold()] = made, self._row
        self._judged.factories[made.slug] = made
        self._added = True
        return made

    def _once(self, factory: str, chimney: str) -> None:
        """Go on with what is new; what was found wrong in an earlier row is not told again. Raises :class:`_Wrong`."""
        key = factory.casefold(), chimney
        if key in self._register.wrong:
            raise _Wrong
        self._register.wrong.add(key)

    def _wrong_fields(self, error: ValidationError, columns: Mapping[str, str]) -> None:
        for path, text in field_errors(error):
            if path == "altitude_m" and "required" in text.casefold():
                text = gettext("is needed for a factory that is new: its height above sea level in m")  # noqa: PLW2901  # said better
            self._wrong(columns.get(path, path), text)

    def _chimney(self, values: Mapping[str, Any], factory: Factory) -> str:
        """The chimney's name as it is registered; empty where the row names none."""
        name, given = values.get("chimney", ""), {it: values[it] for it in PLAN_COLUMNS if it in values}
        if not name:
            if given or "device_id" in values:
                self._wrong("chimney", gettext("is needed: a device measures a chimney, by its name"))
                raise _Wrong
            return ""
        if len(name) > LONGEST_CHIMNEY:
            self._wrong("chimney", gettext("must have at most %(most)s characters", most=LONGEST_CHIMNEY))
            raise _Wrong
        key = factory.slug, name.casefold()
        known = self._register.stacks.get(key)
        if known is not None:
            self._compare(given, known[1], known[2])
            return known[0]
        self._once(*key)
        plan = self._plan(given)
        self._register.wrong.discard(key)
        self._register.stacks[key] = name, plan, self._row
        self._judged.stacks[factory.slug, name] = plan
        self._added = True
        return str(name)

    def _plan(self, given: Mapping[str, Any]) -> MonitoringPlan:
        is_round = given.get("shape", "circular") == "circular"
        missing = [it for it in (("diameter_m",) if is_round else ("width_m", "length_m")) if it not in given]
        for column in missing:
            self._wrong(column, gettext("is needed for a chimney that is new: its inner size in m"))
        if missing:
            raise _Wrong
        try:
            valid = PlanInput.model_validate(dict(given)).model_dump(exclude_unset=True)
            unused = {"width_m": None, "length_m": None} if is_round else {"diameter_m": None}
            return planned(lambda: MonitoringPlan(**valid | unused, valid_from=self._register.now))
        except ValidationError as error:
            self._wrong_fields(error, {})
        except Problem as problem:
            self._wrong("diameter_m" if is_round else "width_m", problem.errors[0][1])
        raise _Wrong

    def _device(self, values: Mapping[str, Any], factory: Factory, chimney: str) -> None:
        device_id, sensor = values.get("device_id", ""), values.get("sensor", "")
        if not device_id:
            if sensor:
                self._wrong("device_id", gettext("is needed: the name of the device that is read so"))
            return
        place, known = (factory.slug, chimney), self._register.devices.get(device_id)
        if known is not None:
            there, driver, row = known
            if (there[0], there[1].casefold()) != (place[0], place[1].casefold()):
                self._wrong(
                    "device_id",
                    self._other(
                        row, gettext("measures %(chimney)s of %(factory)s", chimney=there[1], factory=there[0])
                    ),
                )
            elif sensor and sensor != driver:
                self._wrong("sensor", self._other(row, driver))
            return
        if len(device_id) > 64 or not device_id.isprintable() or any(sign in device_id for sign in "/+#$ "):
            self._wrong("device_id", gettext("must have 1 to 64 characters and none of / + # $ or space"))
        elif (sensor or DRIVER) not in self._register.sensors:
            self._wrong("sensor", gettext("must be one of %(names)s", names=", ".join(sorted(self._register.sensors))))
        else:
            self._register.devices[device_id] = place, sensor or DRIVER, self._row
            self._judged.devices[device_id] = (*place, sensor or DRIVER)
            self._added = True

    def _compare(self, given: Mapping[str, Any], known: Factory | MonitoringPlan, row: int) -> None:
        """A table registers what is new and changes nothing, so it may not say otherwise than what is there."""
        for column, value in given.items():
            there = getattr(known, column)
            same = there is not None and isclose(value, there) if isinstance(value, float) else value == there
            if not same:
                self._wrong(column, self._other(row, there))

    @staticmethod
    def _other(row: int, there: object) -> str:
        shown = f"{there:.12g}" if isinstance(there, float) else there if there not in {None, ""} else gettext("empty")
        if row:
            return gettext("is otherwise in row %(row)s: %(there)s", row=row, there=shown)
        return gettext("is registered otherwise: %(there)s. Leave it empty, or change it on its page", there=shown)
