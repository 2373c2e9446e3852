"""Entries, targets, statements, and what meters counted.

Nothing that people entered is ever changed or deleted: a change is a next version with author, time and reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import date, datetime
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.expressions import F, Q
from tortoise.functions import Max
from tortoise.transactions import in_transaction

from carbontrack.ledger import (
    EnergyEntry,
    EnergyType,
    EntrySource,
    MeterDay,
    Metric,
    ProductionEntry,
    Statement,
    StatementKey,
    Sustainability,
    Target,
    WoodOrigin,
)
from carbontrack.model import PLATFORM, AuditAction, Origin
from carbontrack.store.audit import Audit, Journal, Noted
from carbontrack.store.context import RegistryError, in_context
from carbontrack.store.telemetry import Engine
from carbontrack.tables import EnergyEntryRow, FactoryRow, ProductionEntryRow, StackRow, StatementRow, TargetRow
from carbontrack.words import gettext

Table = type[EnergyEntryRow] | type[ProductionEntryRow]
After = tuple[datetime, int]
"""Where a page of entries ended: beginning of the period, and id."""
WRITTEN_AT_ONCE = 500

_ENERGY = tuple(item.name for item in fields(EnergyEntry) if item.name not in {"id", "source"})
_PRODUCTION = tuple(item.name for item in fields(ProductionEntry) if item.name != "id")
_STATEMENT_KEY = tuple(item.name for item in fields(StatementKey))
_METER_DAY = tuple(item.name for item in fields(MeterDay))
_UPSERT_METER_DAY = (
    f"INSERT INTO meter_day ({', '.join(_METER_DAY)}) "  # noqa: S608  # names out of this module
    f"VALUES ({', '.join(f'${at}' for at in range(1, len(_METER_DAY) + 1))}) "
    # A day stays with the stack that its meter belonged to when it was written first, also after the device has moved.
    "ON CONFLICT (device_id, meter, day) DO UPDATE SET "
    "amount = excluded.amount, resets = excluded.resets, readings = excluded.readings, "
    "covered_from = excluded.covered_from, covered_until = excluded.covered_until"
)


class ConflictError(RegistryError):
    """Somebody else has changed it meanwhile: read it again, then decide."""


class Ledger(Audit):
    """What people enter, what was reported, and what meters counted. ``factory_id`` None is every factory.

    Whoever does something (``by``) is named by ``by.name`` as the author of it.
    """

    _engine: Engine

    # --- energy

    @in_context
    async def add_energy_entry(self, entry: EnergyEntry, by: Origin, now: datetime) -> EnergyEntry:
        """Keep a new entry; its ``id`` and ``version`` are given by the store.

        Raises :class:`RegistryError` where there is no such factory, or it has no such stack.
        """
        (kept,) = await self.add_energy_entries([entry], by, now)
        return kept

    @in_context
    async def add_energy_entries(self, entries: Sequence[EnergyEntry], by: Origin, now: datetime) -> list[EnergyEntry]:
        """Keep new entries, all of them or none; otherwise as :meth:`add_energy_entry`."""
        await _check_stacks(entries)
        async with self._changing(by) as journal:
            rows = await _add(journal, EnergyEntryRow, [_energy_values(entry) for entry in entries], now)
        return [_energy(row) for row in rows]

    @in_context
    async def change_energy_entry(self, entry: EnergyEntry, by: Origin, now: datetime, reason: str) -> EnergyEntry:
        """Keep the next version of an entry; ``entry.version`` is the version that was changed.

        ``entry.withdrawn`` takes it out of every account, or back into them. Raises :class:`ConflictError` if the
        version is not the newest one of the factory's entry, and :class:`RegistryError` without a reason.
        """
        await _check_stacks([entry])
        async with self._changing(by) as journal:
            return _energy(await _change(journal, EnergyEntryRow, entry.id, _energy_values(entry), now, reason))

    @in_context
    async def energy_entry(self, entry_id: int, factory_id: int | None = None) -> EnergyEntry | None:
        """The newest version of an entry, also of one that was withdrawn."""
        row = await _newest(EnergyEntryRow, entry_id, factory_id)
        return _energy(row) if row else None

    @in_context
    async def energy_entries(
        self,
        factory_id: int | None,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        energy_type: EnergyType | None = None,
        after: After | None = None,
        limit: int | None = None,
    ) -> list[EnergyEntry]:
        """Entries that lie wholly or partly in [since, until), newest first; withdrawn ones are left out."""
        wanted = {} if energy_type is None else {"energy_type": energy_type.value}
        rows = await _entries(EnergyEntryRow, factory_id, since, until, after, limit, **wanted)
        return [_energy(row) for row in rows]

    @in_context
    async def energy_entry_history(self, entry_id: int, factory_id: int | None = None) -> list[EnergyEntry]:
        """Every version of an entry, oldest first."""
        return [_energy(row) for row in await _history(EnergyEntryRow, entry_id, factory_id)]

    # --- production

    @in_context
    async def add_production_entry(self, entry: ProductionEntry, by: Origin, now: datetime) -> ProductionEntry:
        """As :meth:`add_energy_entry`."""
        (kept,) = await self.add_production_entries([entry], by, now)
        return kept

    @in_context
    async def add_production_entries(
        self, entries: Sequence[ProductionEntry], by: Origin, now: datetime
    ) -> list[ProductionEntry]:
        """As :meth:`add_energy_entries`."""
        async with self._changing(by) as journal:
            rows = await _add(journal, ProductionEntryRow, [_production_values(entry) for entry in entries], now)
        return [_production(row) for row in rows]

    @in_context
    async def change_production_entry(
        self, entry: ProductionEntry, by: Origin, now: datetime, reason: str
    ) -> ProductionEntry:
        """As :meth:`change_energy_entry`."""
        values = _production_values(entry)
        async with self._changing(by) as journal:
            return _production(await _change(journal, ProductionEntryRow, entry.id, values, now, reason))

    @in_context
    async def production_entry(self, entry_id: int, factory_id: int | None = None) -> ProductionEntry | None:
        """As :meth:`energy_entry`."""
        row = await _newest(ProductionEntryRow, entry_id, factory_id)
        return _production(row) if row else None

    @in_context
    async def production_entries(
        self,
        factory_id: int | None,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        after: After | None = None,
        limit: int | None = None,
    ) -> list[ProductionEntry]:
        """As :meth:`energy_entries`."""
        rows = await _entries(ProductionEntryRow, factory_id, since, until, after, limit)
        return [_production(row) for row in rows]

    @in_context
    async def production_entry_history(self, entry_id: int, factory_id: int | None = None) -> list[ProductionEntry]:
        """As :meth:`energy_entry_history`."""
        return [_production(row) for row in await _history(ProductionEntryRow, entry_id, factory_id)]

    @in_context
    async def changed_entries(
        self, factory_id: int, since: datetime, until: datetime
    ) -> list[tuple[EnergyEntry | ProductionEntry, ...]]:
        """Every version, oldest first, of each entry that was changed or withdrawn and is or was of [since, until)."""
        energy = await _changed(EnergyEntryRow, factory_id, since, until)
        production = await _changed(ProductionEntryRow, factory_id, since, until)
        return [
            *(tuple(map(_energy, rows)) for rows in energy),
            *(tuple(map(_production, rows)) for rows in production),
        ]

    @in_context
    async def entries_until(self) -> tuple[dict[int, datetime], dict[int, datetime]]:
        """Until when the typed entries of each factory reach: of energy, and of production; by factory."""
        energy, production = [await _until(table) for table in (EnergyEntryRow, ProductionEntryRow)]
        return energy, production

    # --- targets

    @in_context
    async def add_target(self, target: Target, by: Origin, now: datetime) -> Target:
        """Keep a new target; it replaces the factory's others of the same metric from its first day on."""
        values = {key: value for key, value in asdict(target).items() if key not in {"id", "author", "recorded_at"}}
        values |= {"metric": target.metric.value}
        try:
            async with self._changing(by) as journal:
                row = await TargetRow.create(**values, author=by.name, recorded_at=now)
                await journal.note(AuditAction.TARGET_ADDED, "target", row.id, row.factory_id, after=values)
        except IntegrityError as error:
            raise RegistryError(gettext("there is no such factory, or the target is there already")) from error
        return _target(row)

    @in_context
    async def withdraw_target(self, target_id: int, factory_id: int | None = None, *, by: Origin = PLATFORM) -> bool:
        """Take a target out of use; False where there is none. Its row stays."""
        return await self._turn_target(target_id, factory_id, by, withdrawn=True)

    @in_context
    async def restore_target(self, target_id: int, factory_id: int | None = None, *, by: Origin = PLATFORM) -> bool:
        """Take a target that was withdrawn back into use; False where there is none."""
        return await self._turn_target(target_id, factory_id, by, withdrawn=False)

    async def _turn_target(self, target_id: int, factory_id: int | None, by: Origin, *, withdrawn: bool) -> bool:
        async with self._changing(by) as journal:
            row = await _of_factory(TargetRow.filter(id=target_id, withdrawn=not withdrawn), factory_id).first()
            if row is None:
                return False
            row.withdrawn = withdrawn
            await row.save(update_fields=["withdrawn"])
            said = {"metric": row.metric, "value": row.value, "valid_from": row.valid_from}
            if withdrawn:
                await journal.note(AuditAction.TARGET_WITHDRAWN, "target", row.id, row.factory_id, before=said)
            else:
                await journal.note(AuditAction.TARGET_ADDED, "target", row.id, row.factory_id, after=said)
        return True

    @in_context
    async def targets(self, factory_id: int | None = None) -> list[Target]:
        """The targets that were not withdrawn, the newest first day first, and of one day the newest first."""
        query = _of_factory(TargetRow.filter(withdrawn=False), factory_id)
        return [_target(row) for row in await query.order_by("-valid_from", "-recorded_at", "-id")]

    # --- statements

    @in_context
    async def add_statement(
        self,
        factory_id: int,
        period_start: datetime,
        period_end: datetime,
        figures: str,
        sha256: str,
        by: Origin,
        now: datetime,
        reason: str,
    ) -> Statement:
        """Keep an account as reported: version 1 of its period, or the next one, which needs a reason.

        Raises :class:`RegistryError` without a reason, and :class:`ConflictError` when two people report at once: only
        one of them has then seen what the other one's version says.
        """
        if not await FactoryRow.exists(id=factory_id):
            raise RegistryError(gettext("there is no such factory"))
        key: dict[str, Any] = {"factory_id": factory_id, "period_start": period_start, "period_end": period_end}
        newest = await StatementRow.filter(**key).order_by("-version").first()
        if newest is not None and not reason.strip():
            raise RegistryError(
                gettext(
                    "this period was reported already (version %(version)s): a correction needs a reason",
                    version=newest.version,
                )
            )
        reason = reason.strip() if newest else ""
        what = key | {"version": newest.version + 1 if newest else 1, "sha256": sha256, "reason": reason}
        try:
            async with self._changing(by) as journal:
                row = await StatementRow.create(**what, figures=figures, author=by.name, created_at=now)
                await journal.note(AuditAction.STATEMENT_ADDED, "statement", row.id, factory_id, after=what)
        except IntegrityError as error:
            raise ConflictError("somebody has reported this period at the same moment: look at it first") from error
        return _statement(row)

    @in_context
    async def statements(self, factory_id: int | None = None, *, limit: int = 1000) -> list[Statement]:
        """All versions of all statements, the latest period and its newest version first."""
        query = _of_factory(StatementRow.all(), factory_id)
        rows = await query.order_by("-period_start", "-period_end", "factory_id", "-version").limit(limit)
        return [_statement(row) for row in rows]

    @in_context
    async def statements_within(
        self, since: datetime, until: datetime, factory_id: int | None = None
    ) -> list[Statement]:
        """All versions of the statements whose periods lie wholly in [since, until), in a settled order."""
        query = _of_factory(StatementRow.filter(period_start__gte=since, period_end__lte=until), factory_id)
        return [_statement(row) for row in await query.order_by("factory_id", "period_start", "period_end", "version")]

    @in_context
    async def statement_keys(self, factory_id: int | None = None) -> list[StatementKey]:
        """Which statements there are, all versions of them, the newest version of each period first."""
        query = _of_factory(StatementRow.all(), factory_id).order_by("-version", "id")
        return [StatementKey(**row) for row in await query.values(*_STATEMENT_KEY)]

    @in_context
    async def statements_of(self, ids: Sequence[int]) -> list[Statement]:
        """Some statements, in the order that is given."""
        found = {row.id: _statement(row) for row in await StatementRow.filter(id__in=ids)}
        return [found[wanted] for wanted in ids if wanted in found]

    @in_context
    async def statement(self, statement_id: int, factory_id: int | None = None) -> Statement | None:
        row = await _of_factory(StatementRow.filter(id=statement_id), factory_id).first()
        return _statement(row) if row else None

    @in_context
    async def latest_statement(self, factory_id: int, period_start: datetime, period_end: datetime) -> Statement | None:
        """The newest version of what was reported of a period."""
        key = {"factory_id": factory_id, "period_start": period_start, "period_end": period_end}
        row = await StatementRow.filter(**key).order_by("-version").first()
        return _statement(row) if row else None

    # --- meters

    async def metered_spans(self, received_since: datetime) -> list[tuple[str, datetime, datetime]]:
        """From when to when the meter records were measured that came since a moment: device, first and last.

        Each device has a span for each UTC day, so that old records beside new ones do not make a span of a year.
        """
        postgres = self._engine.is_postgres
        day = "floor(extract(epoch FROM r.measured_at) / 86400)" if postgres else "r.measured_at / 86400000"
        rows = await self._engine.rows(
            f"""
            SELECT s.device_id, min(r.measured_at) AS first, max(r.measured_at) AS last
            FROM device_record r JOIN stream s ON s.id = r.stream_id
            WHERE r.kind = 'meter' AND r.received_at >= $1 GROUP BY s.device_id, {day} ORDER BY 1, 2
            """,  # noqa: S608  # one of the two texts above
            received_since,
        )
        moment = self._engine.moment
        return [(row["device_id"], moment(row["first"]), moment(row["last"])) for row in rows]

    async def meter_records(self, device_id: str, since: datetime, until: datetime) -> list[tuple[datetime, str]]:
        """The meter records of a device in [since, until), oldest first: measuring time and JSON."""
        return await self._meter_records(
            "r.measured_at >= $2 AND r.measured_at < $3 ORDER BY 1", device_id, since, until
        )

    async def meter_records_before(self, device_id: str, moment: datetime, most: int) -> list[tuple[datetime, str]]:
        """The last meter records of a device before a moment, oldest first."""
        found = await self._meter_records("r.measured_at < $2 ORDER BY 1 DESC LIMIT $3", device_id, moment, most)
        return found[::-1]

    async def meter_records_from(self, device_id: str, moment: datetime, most: int) -> list[tuple[datetime, str]]:
        """The first meter records of a device from a moment on, oldest first."""
        return await self._meter_records("r.measured_at >= $2 ORDER BY 1 LIMIT $3", device_id, moment, most)

    async def _meter_records(self, wanted: str, *values: Any) -> list[tuple[datetime, str]]:
        rows = await self._engine.rows(
            f"""
            SELECT r.measured_at, r.data FROM device_record r JOIN stream s ON s.id = r.stream_id
            WHERE s.device_id = $1 AND r.kind = 'meter' AND {wanted}
            """,  # noqa: S608  # one of the texts above
            *values,
        )
        return [(self._engine.moment(row["measured_at"]), row["data"]) for row in rows]

    @in_context
    async def write_meter_days(self, days: Iterable[MeterDay]) -> None:
        """Keep what meters counted by day, in place of what was kept before."""
        rows = [self._meter_day_values(day) for day in days]
        if rows:
            async with in_transaction() as connection:
                await connection.execute_many(self._engine.sql(_UPSERT_METER_DAY), rows)

    def _meter_day_values(self, day: MeterDay) -> list[Any]:
        values = {name: getattr(day, name) for name in _METER_DAY}
        spans = {name: self._engine.time(values[name]) for name in ("covered_from", "covered_until")}
        return list((values | {"day": self._engine.day(day.day)} | spans).values())

    async def meter_days(self, factory_id: int, since: date, until: date) -> list[MeterDay]:
        """What the meters of a factory counted on the local days in [since, until)."""
        rows = await self._engine.rows(
            "SELECT * FROM meter_day WHERE factory_id = $1 AND day >= $2 AND day < $3 ORDER BY day, device_id, meter",
            factory_id,
            self._engine.day(since),
            self._engine.day(until),
        )
        return [self._meter_day(row) for row in rows]

    def _meter_day(self, row: Mapping[str, Any]) -> MeterDay:
        values = {name: row[name] for name in _METER_DAY}
        if isinstance(values["day"], str):
            values["day"] = date.fromisoformat(values["day"])
        spans = {name: self._engine.moment(row[name]) for name in ("covered_from", "covered_until")}
        return MeterDay(**(values | spans))


# --- versions


async def _check_stacks(entries: Sequence[EnergyEntry]) -> None:
    wanted = {(entry.stack_id, entry.factory_id) for entry in entries if entry.stack_id is not None}
    if not wanted:
        return
    there = await StackRow.filter(id__in=[stack_id for stack_id, _ in wanted]).values_list("id", "factory_id")
    if not wanted <= set(there):
        raise RegistryError(gettext("this factory has no such stack"))


async def _add(journal: Journal, table: Table, entries: Sequence[dict[str, Any]], now: datetime) -> list[Any]:
    """Write first versions. Their numbers are those of their rows: until the database has given them, -1, -2, ..."""
    first = {"version": 1, "author": journal.by.name, "recorded_at": now, "reason": "", "withdrawn": False}
    rows: list[Any] = [table(**(values | first | {"entry_id": -at})) for at, values in enumerate(entries, 1)]
    try:
        await table.bulk_create(rows, batch_size=WRITTEN_AT_ONCE)
    except IntegrityError as error:
        raise RegistryError(gettext("there is no such factory")) from error
    given = dict(await table.filter(entry_id__lt=0).values_list("entry_id", "id"))
    await table.filter(entry_id__lt=0).update(entry_id=F("id"))
    for row in rows:
        row.id = row.entry_id = given[row.entry_id]
    action, kind = _action(table, "added"), _kind(table)
    await journal.note_many([Noted(action, kind, row.entry_id, row.factory_id, after=_said(row)) for row in rows])
    return rows


async def _change(
    journal: Journal, table: Table, entry_id: int, values: dict[str, Any], now: datetime, reason: str
) -> Any:
    if not reason.strip():
        raise RegistryError(gettext("a change needs a reason: it stays in the entry's history"))
    version, factory_id = values["version"], values["factory_id"]
    newest = await table.filter(
        entry_id=entry_id, version=version, factory_id=factory_id, superseded_at=None
    ).first()  # the second of two who change the same version finds nothing: they come one after the other
    if newest is None:
        raise ConflictError(gettext("this entry was changed meanwhile, or is not there: read it again"))
    newest.superseded_at = now
    await newest.save(update_fields=["superseded_at"])
    changed = {"entry_id": entry_id, "version": version + 1}
    said = {"author": journal.by.name, "recorded_at": now, "reason": reason.strip()}
    row = await table.create(**(values | changed | said))
    action = _action(table, "withdrawn" if row.withdrawn and not newest.withdrawn else "changed")
    await journal.note(action, _kind(table), entry_id, factory_id, before=_said(newest), after=_said(row))
    return row


def _kind(table: Table) -> str:
    return table._meta.db_table  # noqa: SLF001  # Tortoise has no other name for it


def _action(table: Table, what: str) -> AuditAction:
    return AuditAction(f"{_kind(table)}.{what}")


def _said(row: EnergyEntryRow | ProductionEntryRow) -> dict[str, Any]:
    """What an entry says, without who said it: the audit log has that by itself."""
    columns = _ENERGY if isinstance(row, EnergyEntryRow) else _PRODUCTION
    return {name: getattr(row, name) for name in columns if name not in {"author", "recorded_at", "factory_id"}}


async def _newest(table: Table, entry_id: int, factory_id: int | None) -> Any:
    return await _of_factory(table.filter(entry_id=entry_id, superseded_at=None), factory_id).first()


async def _history(table: Table, entry_id: int, factory_id: int | None = None) -> list[Any]:
    return await _of_factory(table.filter(entry_id=entry_id), factory_id).order_by("version")  # type: ignore[no-any-return]  # the table is any


async def _changed(table: Table, factory_id: int, since: datetime, until: datetime) -> list[list[Any]]:
    """The versions of each entry that has more than one, any of them touching [since, until)."""
    touching = table.filter(factory_id=factory_id, period_end__gt=since, period_start__lt=until)
    touched = set(await touching.values_list("entry_id", flat=True))
    changed = table.filter(factory_id=factory_id, version__gt=1, entry_id__in=touched)
    found: dict[int, list[Any]] = {}
    ids = sorted(set(await changed.values_list("entry_id", flat=True))) if touched else []
    for row in await table.filter(entry_id__in=ids).order_by("entry_id", "version") if ids else []:
        found.setdefault(row.entry_id, []).append(row)
    return list(found.values())


async def _entries(
    table: Table,
    factory_id: int | None,
    since: datetime | None,
    until: datetime | None,
    after: After | None,
    limit: int | None,
    **wanted: str,
) -> list[Any]:
    query = _of_factory(table.filter(superseded_at=None, withdrawn=False, **wanted), factory_id)
    if since is not None:
        query = query.filter(period_end__gt=since)
    if until is not None:
        query = query.filter(period_start__lt=until)
    if after is not None:
        start, entry_id = after
        query = query.filter(Q(period_start__lt=start) | Q(period_start=start, entry_id__lt=entry_id))
    query = query.order_by("-period_start", "-entry_id")
    return await (query if limit is None else query.limit(limit))  # type: ignore[no-any-return]  # as above


async def _until(table: Table) -> dict[int, datetime]:
    newest = table.filter(superseded_at=None, withdrawn=False).annotate(until=Max("period_end")).group_by("factory_id")
    return dict(await newest.values_list("factory_id", "until"))


def _of_factory(query: Any, factory_id: int | None) -> Any:
    return query if factory_id is None else query.filter(factory_id=factory_id)


# --- rows


def _energy_values(entry: EnergyEntry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in _ENERGY}
    return values | {
        "energy_type": entry.energy_type.value,
        "sustainability": entry.sustainability.value,
        "wood_origin": entry.wood_origin.value,
    }


def _production_values(entry: ProductionEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _PRODUCTION}


def _energy(row: EnergyEntryRow) -> EnergyEntry:
    values = {name: getattr(row, name) for name in _ENERGY}
    values["energy_type"] = EnergyType(row.energy_type)
    values["sustainability"] = Sustainability(row.sustainability)
    values["wood_origin"] = WoodOrigin(row.wood_origin)
    return EnergyEntry(id=row.entry_id, source=EntrySource.TYPED, **values)


def _production(row: ProductionEntryRow) -> ProductionEntry:
    return ProductionEntry(id=row.entry_id, **{name: getattr(row, name) for name in _PRODUCTION})


def _target(row: TargetRow) -> Target:
    values = {item.name: getattr(row, item.name) for item in fields(Target)}
    return replace(Target(**values), metric=Metric(row.metric))


def _statement(row: StatementRow) -> Statement:
    return Statement(**{item.name: getattr(row, item.name) for item in fields(Statement)})
