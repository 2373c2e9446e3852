"""The pages of a device as a unit: setting it up, its password, and putting another one in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from cryptography import x509
from markupsafe import Markup

from carbontrack.handout import HandoutError, line_of
from carbontrack.model import DeviceStatus, Site
from carbontrack.web.access import REGISTRY_ROLES, allow, origin
from carbontrack.web.api.devices import Replacement, WifiInput, handout_line, put_in_place, revoke
from carbontrack.web.api.registry import registry_changed
from carbontrack.web.device_orders import device_site
from carbontrack.web.errors import REFUSALS, Problem
from carbontrack.web.forms import Form, refused, sentence, typed, without_blanks
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.qr import qr_svg
from carbontrack.web.services import SERVICES, Services
from carbontrack.web.templating import render
from carbontrack.words import gettext

DEVICE = "/devices/{id:\\d{1,9}}/"
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(f"{DEVICE}handout", handout_page)
    router.add_post(f"{DEVICE}handout", hand_out)
    router.add_post(f"{DEVICE}credentials", change_credentials)
    router.add_get(f"{DEVICE}replace", replace_page)
    router.add_post(f"{DEVICE}replace", replace)


def unit_url(site: Site, page: str = "") -> str:
    """The address of a page of a device."""
    return f"/devices/{site.device.id}/{page}"


@dataclass(frozen=True, slots=True)
class Card:
    """What is on the sheet of one device."""

    site: Site
    told: Mapping[str, str | int]
    """All that the line says, by its names."""
    qr: Markup | None
    is_short: bool
    """Whether the code has no certificates, because they are too long for one."""


def card_of(site: Site, line: str) -> Card:
    """The sheet of a device whose whole line is this."""
    told: dict[str, str | int] = json.loads(line)["provision"]
    title = gettext("Configuration of %(device)s", device=site.device.device_id)
    if (qr := qr_svg(line.strip(), title)) is not None:
        return Card(site, told, qr, is_short=False)
    short = {name: value for name, value in told.items() if name not in {"ca", "firmware_key"}}
    return Card(site, told, qr_svg(line_of(short).strip(), title), is_short=True)


def file_name(device_id: str) -> str:
    """The name of the file with a device's configuration, on any system."""
    return f"{UNSAFE.sub('_', device_id)}.json"


# --- setting it up


@allow(REGISTRY_ROLES)
async def handout_page(request: web.Request) -> web.StreamResponse:
    """How a device is set up, and what its password stands at. Nothing secret is on it yet."""
    return await _handout_page(request, await device_site(request))


async def _handout_page(request: web.Request, site: Site, wrong: Form | None = None) -> web.Response:
    services = request.app[SERVICES]
    values = {
        "site": site,
        "base": unit_url(site),
        "handouts": services.handouts,
        "problem": _problem(services, site),
        "ca": _authority(services),
        "is_disabled": site.device.status is DeviceStatus.DISABLED,
        "is_heard": site.device.device_id in services.fleet.snapshots(),
        "wifi": wrong if wrong and wrong.name == "handout" else Form("handout"),
        "form": wrong or Form(""),
    }
    page = render(request, "handout.html", values)
    return wrong.answer(page) if wrong else page


def _problem(services: Services, site: Site) -> str:
    """Why nothing can be handed out; empty where all is there."""
    try:
        services.handouts.line(site.device)
    except HandoutError as error:
        return sentence(str(error))
    return ""


def _authority(services: Services) -> tuple[str, datetime] | None:
    """The name of the authority that devices are told to believe, and until when it is good."""
    try:
        ca = services.handouts.trusted().get("ca", "")
        found = x509.load_pem_x509_certificate(ca.encode()) if ca else None
    except (HandoutError, ValueError):
        return None
    if found is None:
        return None
    names = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = names[0].value if names else found.subject.rfc4514_string()
    return str(name), found.not_valid_after_utc


@allow(REGISTRY_ROLES)
async def hand_out(request: web.Request) -> web.StreamResponse:
    """Give a device's configuration: as a file, or as a sheet to print."""
    site, values = await device_site(request), await typed(request)
    is_file = values.pop("as", "") == "file"
    try:
        given = WifiInput.model_validate(values)
        line = await handout_line(request, site, given, "file" if is_file else "sheet")
    except REFUSALS as error:
        return await _handout_page(request, site, refused("handout", values, error))
    if is_file:
        headers = {"Content-Disposition": f'attachment; filename="{file_name(site.device.device_id)}"'}
        return web.Response(text=line, content_type="application/json", headers=headers)
    back = unit_url(site, "handout")
    return render(request, "handout_sheet.html", {"cards": [card_of(site, line)], "back": back})


# --- its password


@allow(REGISTRY_ROLES)
async def change_credentials(request: web.Request) -> web.StreamResponse:
    """Give a device another password, shut it out, or let it in again."""
    services, site, values = request.app[SERVICES], await device_site(request), await typed(request)
    name, what, by = site.device.device_id, values.get("what"), origin(request)
    if what not in {"rotate", "revoke", "enable"}:
        raise Problem(400, gettext("The form cannot be read. Open the page anew and send it again."))
    if what != "enable" and not values.get("confirmed"):
        wrong = Form(what, errors={"confirmed": gettext("Say that you mean it.")}, status=422)
        return await _handout_page(request, site, wrong)
    if what == "rotate":
        await services.store.rotate_password(name, by=by)
        text = gettext(
            "%(device)s has another password. Hand it out: without it the device cannot sign in.", device=name
        )
    elif what == "revoke":
        await revoke(request, site)
        text = gettext("%(device)s is shut out.", device=name)
    else:
        await services.store.change_device(name, status=DeviceStatus.ACTIVE, by=by)
        text = gettext("%(device)s is let in again, with the password that is handed out below.", device=name)
    await registry_changed(services)
    raise sent_on(request, unit_url(site, "handout"), Notice(text))


# --- another one in its place


@allow(REGISTRY_ROLES)
async def replace_page(request: web.Request) -> web.StreamResponse:
    """What it means to replace a unit, and the form for it."""
    return await _replace_page(request, await device_site(request))


async def _replace_page(request: web.Request, site: Site, wrong: Form | None = None) -> web.Response:
    services = request.app[SERVICES]
    snapshot = services.fleet.snapshots().get(site.device.device_id)
    values: dict[str, Any] = {
        "site": site,
        "base": unit_url(site),
        "newest": snapshot.measured_at if snapshot is not None else None,
        "sensors": [(name, it.title) for name, it in sorted(services.plugins.contributions.sensors.items())],
        "form": wrong or Form("replace", {"device_id": await _next_name(services, site), "sensor": site.device.sensor}),
    }
    page = render(request, "replace.html", values)
    return wrong.answer(page) if wrong else page


async def _next_name(services: Services, site: Site) -> str:
    """A name for the new unit that nobody has: the old one's with the next letter."""
    taken = {it.device.device_id for it in await services.store.sites()}
    stem = re.sub(r"-[b-z]$", "", site.device.device_id)[:62]
    return next((name for letter in "bcdefghijklmnopqrstuvwxyz" if (name := f"{stem}-{letter}") not in taken), "")


@allow(REGISTRY_ROLES)
async def replace(request: web.Request) -> web.StreamResponse:
    """Put another unit in a device's place, and go on to setting that one up."""
    services, site, values = request.app[SERVICES], await device_site(request), await typed(request)
    try:
        given: dict[str, Any] = without_blanks(values, "at", "sensor")
        confirmed = given.pop("confirmed", "")
        if "at" in given:
            given["at"] = _local_moment(given["at"], services)
        replacement = Replacement.model_validate(given)
        if not confirmed:
            raise Problem(422, "", (("confirmed", gettext("Say that you mean it.")),))
        new = await put_in_place(request, site, replacement)
    except REFUSALS as error:
        return await _replace_page(request, site, refused("replace", values, error))
    text = gettext(
        "%(new)s measures %(stack)s now, and %(old)s is shut out. Next: set it up.",
        new=new.device.device_id,
        old=site.device.device_id,
        stack=site.stack.name,
    )
    raise sent_on(request, unit_url(new, "handout"), Notice(text))


def _local_moment(text: str, services: Services) -> datetime:
    """What a field for day and time says: by the clock of the site. Raises :class:`Problem`."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=services.time_zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem(422, "", (("at", gettext("Write a day and a time, such as 2026-03-01 08:00.")),)) from None
