"""Many devices at once: registered by a table, and handed out as files or as sheets."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from carbontrack.model import DeviceStatus, Site
from carbontrack.web.access import REGISTRY_ROLES, allow, origin
from carbontrack.web.api.devices import WifiInput, handout_lines
from carbontrack.web.api.registry import registry_changed
from carbontrack.web.errors import REFUSALS, Problem
from carbontrack.web.forms import Form, number_in, posted, refused, typed, uploaded
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.registering import COLUMNS, Judged, judge, template
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.spreadsheets import WORKBOOKS, Cell, Table, Unreadable, read_table
from carbontrack.web.templating import DEVICES, render
from carbontrack.web.unit_pages import card_of, file_name
from carbontrack.words import gettext, ngettext

IMPORT = f"{DEVICES}/import"
HANDOUTS = f"{DEVICES}/handouts"
MOST_FILES, MOST_SHEETS = 1000, 100
SHOWN = 200
"""Rows of each list on a page."""
MOST_CARRIED_BYTES = 900_000
"""The page sends its table back in one body, which has 1 MiB at most."""


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(IMPORT, import_page)
    router.add_get(f"{IMPORT}/template", import_template)
    router.add_post(IMPORT, look_at_table)
    router.add_post(f"{IMPORT}/keep", keep_table)
    router.add_get(HANDOUTS, handouts_page)
    router.add_post(HANDOUTS, hand_out)


# --- by a table


class _Carried(msgspec.Struct):
    """A table on its way by the page: it is judged again when it comes back."""

    head: list[str]
    rows: list[tuple[int, list[Cell]]]
    separator: str


@allow(REGISTRY_ROLES)
async def import_page(request: web.Request) -> web.StreamResponse:
    """What a table has to look like, and the form for it."""
    return _import_page(request)


def _import_page(request: web.Request, *, status: int = 200, **values: Any) -> web.Response:
    about = {"judged": None, "problem": "", "column_errors": (), "columns": COLUMNS, "shown": SHOWN, "carried": ""}
    page = render(request, "import.html", about | {"is_again": False} | values)
    page.set_status(status)
    return page


@allow(REGISTRY_ROLES)
async def import_template(request: web.Request) -> web.StreamResponse:  # noqa: ARG001  # a handler has one
    """A table to begin with."""
    headers = {"Content-Disposition": 'attachment; filename="devices.csv"'}
    return web.Response(text=template(), content_type="text/csv", headers=headers)


@allow(REGISTRY_ROLES)
async def look_at_table(request: web.Request) -> web.StreamResponse:
    """Show what a table would register."""
    try:
        table = await read_table(await uploaded(request, "file"), request.app[WORKBOOKS])
        return _preview(request, table, await _judged(request, table))
    except web.HTTPRequestEntityTooLarge:
        return _import_page(request, problem=gettext("The file is larger than 1 MiB. Send it in parts."), status=422)
    except Unreadable as error:
        return _import_page(request, problem=str(error), status=422)
    except Problem as problem:
        return _import_page(request, problem=gettext(problem.detail), column_errors=problem.errors, status=422)


async def _judged(request: web.Request, table: Table) -> Judged:
    services = request.app[SERVICES]
    return await judge(table, services.store, services.plugins.contributions.sensors, services.clock())


def _preview(request: web.Request, table: Table, judged: Judged, *, is_again: bool = False) -> web.Response:
    carried = msgspec.json.encode(
        _Carried(list(table.head), [(row, list(it)) for row, it in table.rows], table.separator)
    )
    if not judged.errors and len(carried) > MOST_CARRIED_BYTES:
        text = gettext("There is too much text in the table for this page. Send it in parts.")
        return _import_page(request, problem=text, status=422)
    status = 422 if judged.errors else 200
    return _import_page(request, judged=judged, carried=carried.decode(), is_again=is_again, status=status)


@allow(REGISTRY_ROLES)
async def keep_table(request: web.Request) -> web.StreamResponse:
    """Register what the page has carried, or show it again where something of it is wrong by now."""
    services, form = request.app[SERVICES], await posted(request)
    try:
        carried = msgspec.json.decode(str(form.get("table", "")), type=_Carried)
    except msgspec.DecodeError:
        raise Problem(400, gettext("The table did not come back whole. Upload it again.")) from None
    table = Table(carried.head, carried.rows, carried.separator)
    judged = await _judged(request, table)
    if judged.errors:
        return _preview(request, table, judged, is_again=True)
    try:
        added = await services.store.register_all(judged.registration, by=origin(request))
    except REFUSALS as error:
        return _import_page(request, problem=refused("", {}, error).errors[""], status=409)
    await registry_changed(services)
    text = ngettext("%(num)s device is registered.", "%(num)s devices are registered.", len(added))
    if not added:
        text = gettext("The table is registered.")
    raise sent_on(request, HANDOUTS, Notice(text, advice=gettext("Next: hand out what they are to be told.")))


# --- handed out


@dataclass(frozen=True, slots=True)
class _Row:
    """A device that can be handed out."""

    site: Site
    is_heard: bool
    is_chosen: bool


@allow(REGISTRY_ROLES)
async def handouts_page(request: web.Request) -> web.StreamResponse:
    """All devices that can be handed out; those that were never heard are chosen already."""
    factory_id = number_in(request.query.get("factory_id", ""))
    return await _handouts_page(request, factory_id, Form("handouts"), None)


async def _handouts_page(
    request: web.Request, factory_id: int | None, form: Form, chosen: Sequence[str] | None
) -> web.Response:
    services = request.app[SERVICES]
    sites = [it for it in await services.store.sites() if it.device.status is DeviceStatus.ACTIVE]
    snapshots = services.fleet.snapshots()
    rows: list[_Row] = []
    for site in sites:
        if factory_id in {None, site.factory.id}:
            snapshot = snapshots.get(site.device.device_id)
            heard = snapshot is not None and snapshot.measured_at is not None
            is_chosen = str(site.device.id) in chosen if chosen is not None else not heard
            rows.append(_Row(site, heard, is_chosen))
    rows.sort(key=lambda it: (it.is_heard, it.site.factory.name.casefold(), it.site.device.device_id))
    factories = sorted({(str(it.factory.id), it.factory.name) for it in sites}, key=lambda it: it[1].casefold())
    values = {
        "rows": rows,
        "factories": factories,
        "filter": Form("filter", {"factory_id": str(factory_id or "")}),
        "form": form,
        "most_sheets": MOST_SHEETS,
    }
    return form.answer(render(request, "handouts.html", values))


@allow(REGISTRY_ROLES)
async def hand_out(request: web.Request) -> web.StreamResponse:
    """Give the configurations of several devices: as files in a ZIP archive, or as sheets to print."""
    services, values = request.app[SERVICES], await typed(request, "ids")
    ids, is_zip = values.pop("ids"), values.pop("as", "") == "zip"
    try:
        given = WifiInput.model_validate(values)
        sites = await _chosen(services, ids, MOST_FILES if is_zip else MOST_SHEETS)
        lines = await handout_lines(request, sites, given, "file" if is_zip else "sheet")
    except REFUSALS as error:
        return await _handouts_page(request, None, refused("handouts", values, error), ids)
    if is_zip:
        headers = {"Content-Disposition": 'attachment; filename="devices.zip"'}
        return web.Response(body=_zipped(sites, lines), content_type="application/zip", headers=headers)
    # Beside the loop: a hundred codes take some seconds.
    cards = await asyncio.to_thread(lambda: list(map(card_of, sites, lines)))
    return render(request, "handout_sheet.html", {"cards": cards, "back": HANDOUTS})


async def _chosen(services: Services, ids: Sequence[str], most: int) -> list[Site]:
    wanted = set(ids)
    sites = [it for it in await services.store.sites() if str(it.device.id) in wanted]
    sites = [it for it in sites if it.device.status is DeviceStatus.ACTIVE]
    if not sites:
        raise Problem(422, gettext("Choose at least one device."))
    if len(sites) > most:
        raise Problem(422, gettext("Choose at most %(most)s devices at once.", most=most))
    return sorted(sites, key=lambda it: (it.factory.name.casefold(), it.device.device_id))


def _zipped(sites: Sequence[Site], lines: Sequence[str]) -> bytes:
    """One file for each device, in a folder for each factory."""
    out, used = io.BytesIO(), set[str]()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for site, line in zip(sites, lines, strict=True):
            name = f"{site.factory.slug}/{file_name(site.device.device_id)}"
            if name in used:  # two names may differ in signs alone that a file's name cannot have
                name = f"{site.factory.slug}/{site.device.id}-{file_name(site.device.device_id)}"
            used.add(name)
            archive.writestr(name, line)
    return out.getvalue()
