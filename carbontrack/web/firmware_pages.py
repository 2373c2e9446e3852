"""The pages of firmware: images, which versions run, and roll-outs as they go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from carbontrack.firmware import (
    DEFAULT_STAGES,
    FAILURES,
    LEFT_OUT,
    Ended,
    Rollout,
    RolloutState,
    Update,
    UpdateState,
    is_pre_release,
)
from carbontrack.model import Site, User
from carbontrack.rollouts import NODE_ERRORS, OWN_ERRORS
from carbontrack.web.access import NETWORK_ROLES, REGISTRY_ROLES, USER, allow, scope
from carbontrack.web.errors import REFUSALS, Problem
from carbontrack.web.firmware import (
    ROLLOUT,
    RolloutInput,
    asked_rollout,
    begin,
    change,
    look_ahead,
    take_image,
    versions,
)
from carbontrack.web.forms import Form, refused, typed
from carbontrack.web.notices import Notice, sent_on
from carbontrack.web.services import SERVICES
from carbontrack.web.templating import FIRMWARE, render
from carbontrack.words import N_, gettext, ngettext

SHOWN = 20
FAILED_FIRST = {UpdateState.FAILED: 0, UpdateState.ROLLED_BACK: 0, UpdateState.CONFIRMED: 2, UpdateState.WAITING: 3}
"""What somebody looks for first; what is under way comes after failures."""
STATE_TITLES: Mapping[str, str] = {
    UpdateState.WAITING: N_("Waits"),
    UpdateState.OFFERED: N_("Offered"),
    UpdateState.DOWNLOADING: N_("Downloads"),
    UpdateState.VERIFYING: N_("Checks it"),
    UpdateState.REBOOTING: N_("Restarts"),
    UpdateState.CONFIRMED: N_("Runs it"),
    UpdateState.FAILED: N_("Failed"),
    UpdateState.ROLLED_BACK: N_("Went back"),
}
ROLLOUT_TITLES: Mapping[str, str] = {
    RolloutState.RUNNING: N_("Running"),
    RolloutState.PAUSED: N_("Paused"),
    RolloutState.STOPPED: N_("Stopped"),
    RolloutState.DONE: N_("Done"),
}
TONES: Mapping[str, str] = {
    UpdateState.CONFIRMED: "good",
    UpdateState.FAILED: "bad",
    UpdateState.ROLLED_BACK: "bad",
    UpdateState.DOWNLOADING: "attention",
    UpdateState.VERIFYING: "attention",
    UpdateState.REBOOTING: "attention",
    RolloutState.RUNNING: "good",
    RolloutState.DONE: "good",
    RolloutState.PAUSED: "attention",
    RolloutState.STOPPED: "bad",
}
WHAT_FOLLOWS: Mapping[str, str] = {
    Ended.PERSON: N_("Offers that were not yet installed are withdrawn. Who has the image keeps it."),
    Ended.FAILURES: N_("It stopped by itself: too many devices failed. No further device is offered the image."),
    Ended.NOBODY: N_("It stopped by itself: no device of its first stage has taken the image."),
    Ended.ALL: N_("All that could be reached have it."),
}
KINDS: Mapping[str, str] = {
    "all": N_("All of this hardware"),
    "region": N_("Those of a region"),
    "factory": N_("Those of a factory"),
    "devices": N_("These devices"),
}


def add_routes(app: web.Application) -> None:
    """Add these pages to the application."""
    router = app.router
    router.add_get(FIRMWARE, firmware_page)
    router.add_post(f"{FIRMWARE}images", add_image)
    router.add_post(f"{FIRMWARE}rollouts", start)
    router.add_get(f"{FIRMWARE}rollouts/{ROLLOUT}", rollout_page)
    router.add_post(f"{FIRMWARE}rollouts/{ROLLOUT}pause", pause)
    router.add_post(f"{FIRMWARE}rollouts/{ROLLOUT}resume", resume)
    router.add_post(f"{FIRMWARE}rollouts/{ROLLOUT}stop", stop)


# --- all of it


@allow(NETWORK_ROLES)
async def firmware_page(request: web.Request) -> web.StreamResponse:
    """Images, versions and roll-outs."""
    return await _page(request)


async def _page(request: web.Request, wrong: Form | None = None, outlook: Sequence[str] = ()) -> web.Response:
    services = request.app[SERVICES]
    store = services.store
    images, said, rollouts = await store.images(), await store.device_firmware(), await store.rollouts(limit=SHOWN)
    running = versions(said)
    counts = await store.update_counts([it.id for it in rollouts])
    factories = await store.factories()
    devices = len(await store.sites())
    forms = {
        "image": Form("image"),
        "rollout": Form("rollout", _defaults(images[0].version, images[0].hardware) if images else {}),
    }
    values = {
        "images": [(it, _runs(it.version, it.hardware, running)) for it in images],
        "running": running,
        "unheard": devices - len(said),
        "most": max((it.devices for it in running), default=1),
        "rollouts": [_row(it, counts.get(it.id, {})) for it in rollouts],
        "may_change": request[USER].role in REGISTRY_ROLES,
        "forms_of": forms | ({wrong.name: wrong} if wrong else {}),
        "wrong": wrong.name if wrong else "",
        "outlook": outlook,
        "image_choices": [(f"{it.version} {it.hardware}", f"{it.version} · {it.hardware}") for it in images],
        "kinds": [(kind, gettext(title)) for kind, title in KINDS.items()],
        "regions": [(name, _region(name)) for name in sorted({it.region for it in factories if it.region})],
        "factories": [(it.slug, it.name) for it in factories],
        "has_pre_release": any(is_pre_release(it.version) for it in images),
    }
    page = render(request, "firmware.html", values)
    return wrong.answer(page) if wrong else page


def _region(name: str) -> str:
    return gettext("Region %(name)s", name=name) if name.isdigit() else name


def _runs(version: str, hardware: str, running: Sequence[Any]) -> int:
    return sum(it.devices for it in running if (it.version, it.hardware) == (version, hardware))


def _defaults(version: str, hardware: str) -> dict[str, Any]:
    return {
        "image": f"{version} {hardware}",
        "kind": "all",
        "stages": DEFAULT_STAGES,
        "soak_minutes": "60",
        "failure_limit": "1",
    }


@allow(REGISTRY_ROLES)
async def add_image(request: web.Request) -> web.StreamResponse:
    """Keep an image that somebody uploads with its manifest."""
    try:
        image = await take_image(request)
    except REFUSALS as error:
        return await _page(request, refused("image", {}, error))
    text = gettext("%(version)s for %(hardware)s is there.", version=image.version, hardware=image.hardware)
    raise sent_on(request, FIRMWARE, Notice(text, advice=gettext("Start a roll-out to bring it to devices.")))


@allow(REGISTRY_ROLES)
async def start(request: web.Request) -> web.StreamResponse:
    """Start a roll-out, or say what it would come to."""
    values = await typed(request)
    try:
        asked = RolloutInput.model_validate(_asked(values))
        if values.get("step") != "start":
            found = await look_ahead(request, asked)
            left_out = [f"{count}: {gettext(LEFT_OUT[why])}" for why, count in found.left_out.items()]
            sizes = ", ".join(map(str, found.sizes))
            lines = [
                ngettext("%(num)s device would get it.", "%(num)s devices would get it.", len(found.devices)),
                *([gettext("After each stage it is with: %(sizes)s.", sizes=sizes)] if found.sizes else []),
                *([gettext("The first is %(device)s.", device=found.devices[0])] if found.devices else []),
                *([gettext("Left out: %(reasons)s.", reasons="; ".join(left_out))] if left_out else []),
            ]
            return await _page(request, Form("rollout", values), lines)
        made = await begin(request, asked)
    except REFUSALS as error:
        return await _page(request, refused("rollout", values, _at_fields(error)))
    raise sent_on(request, f"{FIRMWARE}rollouts/{made.id}/", Notice(gettext("The roll-out has begun.")))


def _asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a form says as the API has it."""
    version, _, hardware = str(values.get("image", "")).partition(" ")
    kind = values.get("kind", "")
    said = {"region": [values.get("region", "")], "factory": [values.get("factory", "")]}
    names = said.get(kind) or [it for it in re.split(r"[\s,;]+", values.get("devices", "")) if it]
    return {
        "version": version,
        "hardware": hardware,
        "kind": kind,
        "names": names if kind != "all" else [],
        **{name: values.get(name, "") for name in ("stages", "soak_minutes", "failure_limit")},
        **{name: bool(values.get(name)) for name in ("is_forced", "allows_pre_release")},
    }


def _at_fields(error: Exception) -> Exception:
    """Errors of the image at its field."""
    if not isinstance(error, Problem):
        return error
    moved = tuple(("image" if at in {"version", "hardware"} else at, text) for at, text in error.errors)
    return Problem(error.status, error.detail, moved)


# --- one roll-out


@dataclass(frozen=True, slots=True)
class Row:
    """A roll-out in a list."""

    rollout: Rollout
    title: str
    tone: str
    devices: int
    confirmed: int
    failed: int


def _row(rollout: Rollout, counts: Mapping[UpdateState, int]) -> Row:
    return Row(
        rollout,
        gettext(ROLLOUT_TITLES[rollout.state]),
        TONES[rollout.state],
        sum(counts.values()),
        counts.get(UpdateState.CONFIRMED, 0),
        sum(counts.get(it, 0) for it in FAILURES),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """A device of a roll-out, in words."""

    update: Update
    title: str
    tone: str
    why: str
    online: bool


def line_of(update: Update, rollout: Rollout, *, online: bool) -> Line:
    """A device of a roll-out, in words."""
    why = error_text(update.error)
    if not why and update.state is UpdateState.ROLLED_BACK:
        why = gettext("It could not work with the image, and runs what it ran before.")
    is_left = update.state is UpdateState.WAITING and not rollout.is_live
    title = gettext("Does not get it") if is_left else gettext(STATE_TITLES[update.state])
    return Line(update, title, TONES.get(update.state, "unknown"), why, online)


def error_text(error: str) -> str:
    """Why a device failed, in words."""
    if text := OWN_ERRORS.get(error) or NODE_ERRORS.get(error):
        return gettext(text)
    if error.startswith("http_"):
        return gettext("The platform refused the download (%(status)s).", status=error.removeprefix("http_"))
    return error


@dataclass(frozen=True, slots=True)
class StageLine:
    """A stage of a roll-out: ``mark`` is yes (over), now or no (to come)."""

    number: int
    mark: str
    devices: int
    confirmed: int
    failed: int


@allow(NETWORK_ROLES)
async def rollout_page(request: web.Request) -> web.StreamResponse:
    """One roll-out, as it goes."""
    return await _rollout_page(request, await asked_rollout(request))


async def _rollout_page(request: web.Request, rollout: Rollout, wrong: Form | None = None) -> web.Response:
    services = request.app[SERVICES]
    updates = await services.store.updates(rollout.id)
    lines = [line_of(it, rollout, online=services.fleet.is_online(it.device_id)) for it in updates]
    lines.sort(key=lambda it: (FAILED_FIRST.get(it.update.state, 1), it.update.stage, it.update.id))
    counts: dict[UpdateState, int] = {}
    for update in updates:
        counts[update.state] = counts.get(update.state, 0) + 1
    names = {it.id: it for it in await services.store.factories()}
    values = {
        "rollout": rollout,
        "row": _row(rollout, counts),
        "base": f"{FIRMWARE}rollouts/{rollout.id}/",
        "stages": _stages(rollout, updates),
        "lines": lines,
        "factories": names,
        "follows": _follows(rollout, updates),
        "is_under_way": rollout.is_live,
        "may_change": request[USER].role in REGISTRY_ROLES,
        "form": wrong or Form("stop"),
        "soak_min": rollout.soak_s // 60,
    }
    page = render(request, "rollout.html", values)
    return wrong.answer(page) if wrong else page


def _stages(rollout: Rollout, updates: Sequence[Update]) -> list[StageLine]:
    found = []
    for number in range(rollout.stage_count):
        own = [it for it in updates if it.stage == number]
        is_over = number < rollout.stage or rollout.state is RolloutState.DONE
        mark = "yes" if is_over else "now" if number == rollout.stage else "no"
        done = sum(it.state is UpdateState.CONFIRMED for it in own)
        found.append(StageLine(number + 1, mark, len(own), done, sum(it.state in FAILURES for it in own)))
    return found


def _follows(rollout: Rollout, updates: Sequence[Update]) -> str:
    """What is awaited."""
    if not rollout.is_live:
        return gettext(WHAT_FOLLOWS[rollout.ended])
    if rollout.state is RolloutState.PAUSED:
        return gettext("No further device begins. Those that have begun go on.")
    if rollout.settled_at is not None:
        return gettext("This stage has the image. It is watched until all deliver readings and the time is over.")
    waits = [it for it in updates if it.stage <= rollout.stage and not it.is_over]
    return ngettext(
        "It waits for %(num)s device of this stage.", "It waits for %(num)s devices of this stage.", len(waits)
    )


@allow(REGISTRY_ROLES)
async def pause(request: web.Request) -> web.StreamResponse:
    """Let no further device begin."""
    raise await _changed(request, RolloutState.PAUSED, gettext("It is paused."))


@allow(REGISTRY_ROLES)
async def resume(request: web.Request) -> web.StreamResponse:
    """Let it go on."""
    raise await _changed(request, RolloutState.RUNNING, gettext("It goes on."))


@allow(REGISTRY_ROLES)
async def stop(request: web.Request) -> web.StreamResponse:
    """End it, where somebody says that it is meant."""
    rollout, values = await asked_rollout(request), await typed(request)
    if not values.get("confirmed"):
        problem = Problem(422, "", (("confirmed", gettext("Say that you mean it.")),))
        return await _rollout_page(request, rollout, refused("stop", values, problem))
    raise await _changed(request, RolloutState.STOPPED, gettext("It is stopped."))


async def _changed(request: web.Request, to: RolloutState, text: str) -> web.HTTPSeeOther:
    url = f"{FIRMWARE}rollouts/{int(request.match_info['id'])}/"
    try:
        await change(request, to)
    except REFUSALS as error:
        if isinstance(error, Problem):
            raise
        return sent_on(request, url, Notice(refused("", {}, error).errors[""], is_bad=True))
    return sent_on(request, url, Notice(text))


# --- on the page of a device


async def firmware_of(request: web.Request, site: Site, user: User) -> dict[str, Any]:
    """What a device runs, and the roll-outs that it was in, for its page."""
    services = request.app[SERVICES]
    said = next(
        (it for it in await services.store.device_firmware(site.factory.id) if it.device_pk == site.device.id), None
    )
    found = await services.store.updates_of(site.device.id, factory_id=scope(user))
    online = services.fleet.is_online(site.device.device_id)
    return {
        "said": said,
        "updates": [(line_of(update, rollout, online=online), rollout) for update, rollout in found],
        "may_see": user.role in NETWORK_ROLES,
        "is_under_way": any(not update.is_over and rollout.is_live for update, rollout in found),
    }
