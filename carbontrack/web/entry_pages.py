"""The page on which energy and tea are entered: a form for a cheap phone, with the last values at hand."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from aiohttp import web
from multidict import MultiDictProxy
from pydantic import ValidationError

from carbontrack.ledger import UNITS, WOOD_FIELDS, EnergyEntry, EnergyType
from carbontrack.model import Factory, User
from carbontrack.store import RegistryError
from carbontrack.tiers import local_day
from carbontrack.web.access import EVERYBODY, USER, WRITERS, allow, origin
from carbontrack.web.entries import (
    COMPARED,
    USUAL_DAYS,
    EnergyInput,
    ProductionInput,
    Usual,
    energy_entry,
    production_entry,
    question_energy,
    question_production,
    usual_energy,
    usual_production,
)
from carbontrack.web.errors import Problem, field_errors
from carbontrack.web.forms import content_of, number_in, posted
from carbontrack.web.ledger_pages import ENERGY_TITLES, EVIDENCE_TITLES, ORIGIN_TITLES, UNIT_TITLES, page_factory
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.photos import MOST_BYTES, TOO_LARGE, Picture, look_at
from carbontrack.web.rest import Id, Input, Reason, day_in
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import decimal
from carbontrack.words import gettext as _

RECENT = timedelta(days=45)
PERSON_HEADER = "Carbontrack-Person"
"""Whose page it is, for the service worker: it keeps the copy of one person alone (web/static/sw.js)."""
OFFERED = 3
"""So many of the last entries of a type are offered to be filled in again."""
IN_BASE_UNIT = {"t": 1000.0, "MWh": 1000.0, "m3_stacked": 0.0}
"""Base units in one of these; a stacked m3 has what it weighs."""
DECIMAL_COMMA = re.compile(r"\d+,\d{1,2}")
"""Nobody sets thousands apart like this."""
NUMBERS = ("amount", "moisture", "stack_density_kg_per_m3", "green_leaf_kg", "made_tea_kg")


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get("/factory/{slug}/entries", entries_page)
    router.add_post("/factory/{slug}/entries/energy", add_energy)
    router.add_post("/factory/{slug}/entries/production", add_production)
    router.add_post("/factory/{slug}/entries/photo", add_photo)
    router.add_post("/factory/{slug}/entries/withdraw", withdraw)


class _Typed(dict[str, str]):
    """The fields of a form; what was not typed is empty."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Last:
    """An entry to be filled in again: what to show of it, and the form's fields."""

    id: int
    amount: float
    unit: str
    evidence: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """What the form offers for one type of energy; ``last`` begins with the newest entry."""

    type: EnergyType
    title: str
    units: Sequence[str]
    unit: str
    usual: Usual | None
    last: Sequence[Last]
    evidence: Sequence[str]
    suppliers: Sequence[str]

    @property
    def base(self) -> str:
        """The unit that amounts are compared in."""
        return self.units[0]

    def remembered(self, name: str) -> str:
        """What a field had the last time."""
        return self.last[0].fields.get(name, "") if self.last else ""


async def _kinds(factory: Factory, services: Services) -> list[Kind]:
    """What was entered before, by type of energy."""
    now = services.clock()
    found = []
    for energy_type, units in UNITS.items():
        earlier = await services.store.energy_entries(
            factory.id, now - timedelta(days=USUAL_DAYS), now, energy_type=energy_type, limit=COMPARED
        )
        last = {(it.amount, it.unit, it.evidence): it for it in reversed(earlier)}
        newest = sorted(last.values(), key=lambda it: (it.period_start, it.id), reverse=True)[:OFFERED]
        found.append(
            Kind(
                energy_type,
                ENERGY_TITLES[energy_type],
                units,
                earlier[0].unit if earlier else units[0],
                usual_energy(earlier),
                [Last(it.id, it.amount, it.unit, it.evidence, _fields(it)) for it in newest],
                sorted({it.evidence for it in earlier if it.evidence})[:20],
                sorted({it.supplier for it in earlier if it.supplier})[:20],
            )
        )
    return found


def _fields(entry: EnergyEntry) -> dict[str, str]:
    """An entry as it is typed, without its day."""
    numbers = {
        "amount": entry.amount,
        "moisture": None if entry.moisture is None else round(entry.moisture * 100, 4),
        "stack_density_kg_per_m3": entry.stack_density_kg_per_m3,
        "stack_id": entry.stack_id,
    }
    texts = {"energy_type": entry.energy_type.value, "unit": entry.unit, "evidence": entry.evidence}
    texts |= {"sustainability": entry.sustainability.value, "wood_origin": entry.wood_origin.value}
    texts |= {name: getattr(entry, name) for name in ("supplier", "species", "plot", "permit")}
    return texts | {name: "" if value is None else f"{value:.10g}" for name, value in numbers.items()}


@allow(EVERYBODY)
async def entries_page(request: web.Request) -> web.StreamResponse:
    """What was entered lately, and the forms for more. ``same`` is an entry to begin with."""
    factory = await page_factory(request)
    same, form = number_in(request.query.get("same", "")), None
    if same is not None:
        entry = await request.app[SERVICES].store.energy_entry(same, factory.id)
        form = {"kind": "energy"} | _fields(entry) if entry else None
    return await _entries_page(request, factory, form)


async def _entries_page(
    request: web.Request,
    factory: Factory,
    form: Mapping[str, str] | None = None,
    errors: Sequence[tuple[str, str]] = (),
    questions: Sequence[tuple[str, str]] = (),
) -> web.Response:
    services, user = request.app[SERVICES], request[USER]
    now = services.clock()
    today = now.astimezone(services.time_zone).date()
    energy = await services.store.energy_entries(factory.id, now - RECENT, now + RECENT)
    production = await services.store.production_entries(factory.id, now - RECENT, now + RECENT)
    photos = defaultdict(list)
    for photo in await services.store.photos([it.id for it in energy]):
        photos[photo.entry_id].append(photo)
    may_write = _may_write(user)
    earlier_tea = await services.store.production_entries(
        factory.id, now - timedelta(days=USUAL_DAYS), now, limit=COMPARED
    )
    page = render(
        request,
        "entries.html",
        {
            "factory": factory,
            "section": "entries",
            "energy": energy,
            "production": production,
            "photos": photos,
            "stacks": await services.store.stacks(factory.id),
            "may_write": may_write,
            "today": today.isoformat(),
            "yesterday": (today - timedelta(days=1)).isoformat(),
            "offset": _offset(now, services),
            "form": _Typed(form or {}),
            "blank": _Typed(),
            "errors": _by_field(errors),
            "questions": _by_field(questions),
            "energy_titles": ENERGY_TITLES,
            "unit_titles": UNIT_TITLES,
            "evidence_titles": EVIDENCE_TITLES,
            "origin_titles": ORIGIN_TITLES,
            "kinds": await _kinds(factory, services) if may_write else [],
            "usual_tea": usual_production(earlier_tea),
            "in_base_unit": IN_BASE_UNIT,
            "most_bytes": MOST_BYTES,
        },
    )
    if errors or questions:
        page.set_status(422)
    page.headers[PERSON_HEADER] = str(user.id)
    return page


def _offset(now: datetime, services: Services) -> str:
    """The time zone's distance from UTC, such as +03:00."""
    return now.astimezone(services.time_zone).isoformat()[-6:]


def _by_field(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    return dict(reversed(pairs))  # the first of several about a field


def _may_write(user: User) -> bool:
    return user.role in WRITERS


# --- what the forms send


def _typed(form: MultiDictProxy[Any], kind: str) -> dict[str, str]:
    """What was typed, with one unit and one first day, out of the fields of all types of energy."""
    typed = {name: value.strip() for name, value in form.items() if isinstance(value, str)} | {"kind": kind}
    units = {name: typed.pop(name) for name in list(typed) if name.startswith("unit_")}
    if unit := units.get(f"unit_{typed.get('energy_type', '')}"):
        typed["unit"] = unit
    if day := typed.pop("day", ""):
        typed |= {"first_day": day, "last_day": ""}
    return typed


def _given(typed: Mapping[str, str], services: Services) -> dict[str, Any]:
    """A form's fields as the API would send them: days instead of moments, moisture in percent."""
    values: dict[str, Any] = {name: value for name, value in typed.items() if value}
    first, last = values.pop("first_day", ""), values.pop("last_day", "")
    values.pop("kind", None)
    for name in NUMBERS:
        if name in values:
            values[name] = _number(values[name])
    if "energy_type" in values:
        _leave_out_what_is_not_shown(values)
    if "harvested_on" in values:
        with suppress(ValueError):  # as below
            values["harvested_on"] = day_in(values["harvested_on"])
    if "moisture" in values:
        with suppress(ValueError):  # said by the check
            values["moisture"] = float(values["moisture"]) / 100
    try:
        begin = day_in(first)
        end = day_in(last) if last else begin
    except ValueError:
        return values
    values["period_start"] = local_day(begin, services.time_zone)[0]
    values["period_end"] = local_day(end, services.time_zone)[1]
    return values


ORIGIN = ("wood_origin", *WOOD_FIELDS)
"""Fields that say where wood comes from."""


def _leave_out_what_is_not_shown(values: dict[str, Any]) -> None:
    """Fields of firewood are on the page for every type; a browser that hides them sends them all the same."""
    if values["energy_type"] != EnergyType.FIREWOOD.value:
        for name in ("moisture", "sustainability", "stack_density_kg_per_m3", *ORIGIN):
            values.pop(name, None)
    elif values.get("unit") != "m3_stacked":
        values.pop("stack_density_kg_per_m3", None)


def _number(text: str) -> str:
    text = text.replace(" ", "").replace("\N{NO-BREAK SPACE}", "")
    return text.replace(",", "." if DECIMAL_COMMA.fullmatch(text) else "")


async def _photo(form: MultiDictProxy[Any]) -> tuple[bytes, Picture] | None:
    """The photo of a form; None where none was chosen. Raises :class:`Problem` for what is no photo."""
    content = content_of(form.get("photo"))
    return (content, look_at(content)) if content else None


@allow(WRITERS)
async def add_energy(request: web.Request) -> web.StreamResponse:
    """Keep an energy entry from the form, or show the form again with what was wrong; nothing typed is lost."""
    services, factory = request.app[SERVICES], await page_factory(request)
    try:
        form = await posted(request)
    except web.HTTPRequestEntityTooLarge:
        return await _entries_page(request, factory, {"kind": "energy"}, [("photo", _(TOO_LARGE))])
    typed = _typed(form, "energy")
    try:
        given = EnergyInput.model_validate(_given(typed, services))
        entry = energy_entry(given, factory.id, services)
        photo = await _photo(form)
    except (ValidationError, Problem) as error:
        return await _entries_page(request, factory, typed, _errors(error))
    if not given.confirmed and (question := await question_energy(entry, services)):
        return await _entries_page(request, factory, typed, questions=[("amount", question)])
    kept = await services.store.add_energy_entry(entry, origin(request), services.clock())
    if photo is not None:
        await _keep_photo(request, kept.id, *photo)
    digits = 0 if kept.amount >= 100 else 1
    told = _(
        "Kept: %(amount)s %(unit)s, %(what)s.",
        amount=decimal(kept.amount, digits),
        unit=_(UNIT_TITLES[kept.unit]),
        what=_(ENERGY_TITLES[kept.energy_type]),
    )
    raise _sent_back(request, factory, told)


@allow(WRITERS)
async def add_production(request: web.Request) -> web.StreamResponse:
    """As :func:`add_energy`, for leaf and tea."""
    services, factory = request.app[SERVICES], await page_factory(request)
    typed = _typed(await posted(request), "production")
    try:
        given = ProductionInput.model_validate(_given(typed, services))
        entry = production_entry(given, factory.id, services)
    except (ValidationError, Problem) as error:
        return await _entries_page(request, factory, typed, _errors(error))
    if not given.confirmed and (questions := await question_production(entry, services)):
        return await _entries_page(request, factory, typed, questions=questions)
    await services.store.add_production_entry(entry, origin(request), services.clock())
    raise _sent_back(request, factory, _("Kept: leaf and tea."))


def _sent_back(request: web.Request, factory: Factory, told: str) -> web.HTTPSeeOther:
    advice = _("If something is wrong, withdraw it in the list below.")
    return sent_on(request, f"/factory/{factory.slug}/entries", Notice(told, advice=advice))


def _errors(error: ValidationError | Problem) -> Sequence[tuple[str, str]]:
    pairs = error.errors if isinstance(error, Problem) else field_errors(error)
    return [("first_day" if name.startswith(("period", "timestamp")) else name, text) for name, text in pairs]


# --- what is done about an entry that stands


class PhotoForm(Input):
    """Which energy entry."""

    id: Id


@allow(WRITERS)
async def add_photo(request: web.Request) -> web.StreamResponse:
    """Add a photo to an energy entry that stands."""
    services, factory = request.app[SERVICES], await page_factory(request)
    try:
        form = await posted(request)
    except web.HTTPRequestEntityTooLarge:
        raise Problem(413, _(TOO_LARGE)) from None
    wanted = PhotoForm.model_validate({"id": str(form.get("id", ""))})
    photo = await _photo(form)
    if photo is None:
        raise Problem(422, _("Choose a photo first."))
    if await services.store.energy_entry(wanted.id, factory.id) is None:
        raise web.HTTPNotFound(text="There is no such entry for you.")
    await _keep_photo(request, wanted.id, *photo)
    raise sent_on(request, f"/factory/{factory.slug}/entries", Notice(_("The photo is kept.")))


async def _keep_photo(request: web.Request, entry_id: int, content: bytes, picture: Picture) -> None:
    services = request.app[SERVICES]
    size = (picture.width, picture.height)
    await services.store.add_photo(
        entry_id, content, picture.media_type, size, by=origin(request), now=services.clock()
    )


class WithdrawalForm(Input):
    """Which entry, and why."""

    kind: Literal["energy", "production"]
    id: Id
    reason: Reason = "withdrawn on the page of entries"


@allow(WRITERS)
async def withdraw(request: web.Request) -> web.StreamResponse:
    """Take an entry out of the accounts; it stays in its history."""
    services, factory = request.app[SERVICES], await page_factory(request)
    form = WithdrawalForm.model_validate({name: str(value) for name, value in (await posted(request)).items() if value})
    store, by, now = services.store, origin(request), services.clock()
    found = await (store.energy_entry(form.id) if form.kind == "energy" else store.production_entry(form.id))
    if found is None or found.factory_id != factory.id:
        raise web.HTTPNotFound(text="There is no such entry for you.")
    gone = replace(found, withdrawn=True)
    try:
        if isinstance(gone, EnergyEntry):
            await store.change_energy_entry(gone, by, now, form.reason)
        else:
            await store.change_production_entry(gone, by, now, form.reason)
    except RegistryError as error:
        raise web.HTTPConflict(text=str(error)) from None
    raise web.HTTPSeeOther(f"/factory/{factory.slug}/entries#recent")
